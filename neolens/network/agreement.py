"""Whether the pure forward pass computes what the hooked model computes.

The pure pass reads the model's weights and runs nothing else, so nothing else may be on the model; and both can be run
on the same prompts and compared.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from neolens.checks import check_tokens
from neolens.models.modifications import hooked_points, inspect, modified_modules
from neolens.models.state import state_of
from neolens.network.forward import logits, residual
from neolens.network.weights import check_model, dtype_of, weights_of

TOLERANCE = {torch.float64: 1e-4, torch.float32: 1e-4, torch.bfloat16: 0.1, torch.float16: 0.02}
"""The largest difference of a logit as a share of the range of the logits that rounding explains, with a margin. Rotary
angles are taken in float32 even in a float64 model."""


def hooks_on(model: Any) -> list[str]:
    """The names of all hook points with a forward hook, any of their names, and of all modules with a torch hook, a
    parametrization, or a type that is not the one they were loaded with."""
    check_model(model)
    return hooked_points(model) + modified_modules(model, state_of(model).structure)


def check_unchanged(model: Any, *, by_model: bool = False, otherwise: str = "") -> None:
    """Check that a measurement describes the model: that it drops nothing and, unless the model itself is run, that it
    is its weights alone: no hooks, no parametrizations, no replaced modules, one dtype.

    Args:
        by_model: whether the model itself is run, with whatever is on it.
        otherwise: what else the user could do, at the end of the error.

    Raises:
        ValueError: it does not.
    """
    check_model(model)
    seen, built = inspect(model), state_of(model).structure
    if seen.dropping:
        raise ValueError("the model is in training mode and drops activations at random: call model.eval() first")
    if by_model:
        return
    if seen.modified and (names := hooked_points(model)):
        raise ValueError(
            f"the model has hooks at {_some(names)}, which would not be run here: remove them with "
            f"model.reset_hooks(including_permanent=True){otherwise}"
        )
    if (seen.modified or seen.structure != built) and (names := modified_modules(model, built)):
        raise ValueError(
            f"{_some(names)} has a torch hook, a parametrization or another module in its place, which would not be "
            f"run here: remove it{otherwise}"
        )
    if len(seen.dtypes) > 1:
        names = sorted(str(dtype).removeprefix("torch.") for dtype in seen.dtypes)
        raise ValueError(
            f"the weights have several dtypes ({', '.join(names)}): expected one; cast the whole model, for example "
            "with model.float()"
        )


def _some(names: list[str]) -> str:
    return f"{', '.join(names[:3])}{', ...' if len(names) > 3 else ''}"


@torch.no_grad()
def disagreement(model: Any, tokens: Int[Tensor, "prompt pos"]) -> float:
    """The largest difference of a logit between the hooked model and the pure forward pass, over the logits' range.

    Raises:
        TypeError, ValueError: no model of neolens, or no tokens of its vocabulary.
    """
    weights = weights_of(model)
    check_tokens(tokens, "tokens", "[prompt, pos]", weights.anatomy.d_vocab, weights.anatomy.name)
    tokens = tokens.to(weights.embedding.device)
    hooked = model(tokens).double()
    pure = logits(weights, residual(weights, tokens)).double()
    return float((hooked - pure).abs().max() / (hooked.max() - hooked.min()))


def verify(model: Any, tokens: Int[Tensor, "prompt pos"]) -> None:
    """Check that the pure forward pass gives the hooked model's logits on these prompts, up to rounding.

    Raises:
        AssertionError: it does not, which is a fault of neolens.
    """
    difference = disagreement(model, tokens)
    bound = TOLERANCE[dtype_of(model)]
    if not difference <= bound:
        raise AssertionError(
            f"the pure forward pass differs from the hooked model by {difference:.1e} of the logits' range, expected "
            f"at most {bound:.0e}: this is a fault of neolens; engine='hooks' runs the model itself"
        )
