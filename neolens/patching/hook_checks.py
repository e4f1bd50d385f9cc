"""Whether hooks work on a bridge that neolens did not build.

TransformerLens's own bridges register points whose edits are discarded (the pattern, where attention is delegated to
Hugging Face), or reach only a part of what follows (`hook_resid_mid`, which the skip connection does not see). Run with
such a hook, a sweep would return wrong numbers without a word.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from neolens.models import Anatomy
from neolens.models.other_architectures import Facts
from neolens.replay import HEAD_SITES
from neolens.sites import hook_name

TOLERANCE = 1e-2
"""The largest error of a logit, as a share of the largest difference of the two runs."""

_REMEDY = "load the model with neolens.load, if it is a GPT-2, GPT-Neo or GPT-NeoX, or choose another site"


def is_from_neolens(model: Any) -> bool:
    """Whether the model is one of `neolens.load`, whose hooks take effect or are refused by the model itself."""
    return isinstance(getattr(model, "anatomy", None), Anatomy)


def check_hooks_work(
    model: Any,
    facts: Facts,
    sites: Iterable[str],
    layers: Iterable[int],
    source: Int[Tensor, "prompt pos"],
    target: Int[Tensor, "prompt pos"],
) -> None:
    """Check that a bridge has hook points at these sites and layers, and that what a hook returns there is used.

    A residual stream that is replaced at every position by that of another run has to give that run's logits.

    Raises:
        ValueError: a point that is missing, does not fire or has other heads; an edit that is discarded or wrong.
    """
    if is_from_neolens(model):
        return
    for site, layer in ((site, layer) for layer in sorted(layers) for site in sites):
        name = hook_name(site, layer)
        if name not in model.hook_dict:
            raise ValueError(f"{facts.name} has no {name}: {_REMEDY}")
        activation = _activation(model, facts, site, name, source)
        logits = _patched(model, name, target, activation)
        if site.startswith("resid_"):
            wanted, before = model(source), model(target)
            error, scale = (wanted - logits).abs().max(), (wanted - before).abs().max()
            if not error <= TOLERANCE * scale:
                raise ValueError(
                    f"an edit of {name} reaches only a part of what follows in this bridge of {facts.name} (with the "
                    f"activation of another run, logits differ from that run's by {float(error):.2g}): {_REMEDY}"
                )


def _activation(model: Any, facts: Facts, site: str, name: str, tokens: Tensor) -> Tensor:
    """What a hook sees there."""
    activations: list[Tensor] = []

    def keep(x: Tensor, hook: Any) -> None:
        activations.append(x.detach().clone())

    model.run_with_hooks(tokens, fwd_hooks=[(name, keep)])
    if not activations:
        raise ValueError(f"{name} does not fire in this bridge of {facts.name}: {_REMEDY}")
    heads = activations[0].shape[1 if site in ("pattern", "attn_scores") else 2]
    if site in (*HEAD_SITES, "attn_scores") and heads != facts.heads:
        raise ValueError(
            f"{name} of {facts.name} has {heads} heads, which its {facts.heads} query heads share: choose z, q or "
            "pattern"
        )
    return activations[0]


def _patched(model: Any, name: str, tokens: Tensor, activation: Tensor) -> Tensor:
    """The logits with the activation put in; an edit that TransformerLens discards, it warns about."""
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=r"A hook on .* returned a modified tensor", category=UserWarning)
        try:
            with torch.no_grad():
                return model.run_with_hooks(tokens, fwd_hooks=[(name, lambda x, hook: activation.clone())])
        except UserWarning as warning:
            raise ValueError(f"this bridge discards what a hook returns at {name}: {_REMEDY}") from warning
