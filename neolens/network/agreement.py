"""Does the pure forward pass say what the hooked model says? It runs none of the model's hooks, so there may be none;
and whoever wants to be sure can have both run on the same prompts.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from neolens.network.forward import logits, residual
from neolens.network.weights import weights_of

TOLERANCE = {torch.float64: 1e-4, torch.float32: 1e-4, torch.bfloat16: 0.1, torch.float16: 0.02}
"""The largest difference of a logit as a share of the logits' spread that rounding explains, with a margin. Rotary
angles are taken in float32 even in a float64 model."""


def standing_hooks(model: Any) -> list[str]:
    """The names of all points of a model on which a forward hook stands, any of their names."""
    points = model.hook_dict
    return sorted(name for name in points if points[name].has_hooks(dir="fwd"))


def refuse_hooks(model: Any, otherwise: str = "") -> None:
    """Nothing, if no forward hook stands on the model.

    Args:
        otherwise: what else could be done about it, at the end of the error.

    Raises:
        ValueError: one does; the pure forward pass would not run it.
    """
    if standing := standing_hooks(model):
        raise ValueError(
            f"the model has hooks at {', '.join(standing[:3])}{', ...' if len(standing) > 3 else ''}, which would not "
            f"be run here: remove them with model.reset_hooks(including_permanent=True){otherwise}"
        )


@torch.no_grad()
def disagreement(model: Any, tokens: Int[Tensor, "prompt pos"]) -> float:
    """The largest difference of a logit between the hooked model and the pure forward pass, over the logits' spread."""
    weights = weights_of(model)
    tokens = tokens.to(weights.embedding.device)
    hooked = model(tokens).double()
    pure = logits(weights, residual(weights, tokens)).double()
    return float((hooked - pure).abs().max() / (hooked.max() - hooked.min()))


def verify(model: Any, tokens: Int[Tensor, "prompt pos"]) -> None:
    """Nothing, if the pure forward pass gives the hooked model's logits on these prompts, up to rounding.

    Raises:
        AssertionError: it does not: a fault of neolens, or a module of the model that was replaced.
    """
    bound, found = TOLERANCE[model.cfg.dtype], disagreement(model, tokens)
    if not found <= bound:
        raise AssertionError(
            f"the pure forward pass differs from the hooked model by {found:.1e} of the logits' spread, expected at "
            f"most {bound:.0e}: has a module of the model been replaced? If not, this is a fault of neolens; "
            "engine='hooks' runs the model itself"
        )
