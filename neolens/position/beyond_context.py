"""Beyond the training length: the loss, position by position, as text runs past the context.

A rotation has an angle for every index, so a rotary model can go on, at angles that it never saw; interpolation
squeezes the indices back into the range that it did see (Chen et al. 2023, arXiv 2306.15595). A model without positions
can go on too. A learned absolute embedding has no row for a further index: there is nothing to measure.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Int
from torch import Tensor

from neolens import results
from neolens.checks import check_list
from neolens.models import Anatomy
from neolens.models.treatments import EXACT, Scale
from neolens.network import measurement
from neolens.position.checks import asked_weights, of_one_length
from neolens.prompts.tokens import Prompts
from neolens.readout.losses import losses
from neolens.whatif import what_if

AS_TRAINED = "as trained"

FARTHEST = 64
"""Contexts that a prompt may be long: time grows with the square of its length."""


@measurement(exclusive=True)
def beyond_context(model: Any, tokens: Prompts, *, scales: Any = None) -> xr.Dataset:
    """The loss at every position of prompts longer than the context, as trained and with positions interpolated.

    Args:
        model: from `neolens.load`, with rotary positions or none.
        tokens: an integer tensor [prompt, pos] of more tokens than the context.
        scales: factors below 1 by which indices are multiplied; by default one, the context over the prompts' length,
            which brings every index back inside. A model without positions has none to scale.

    Returns:
        `loss` by group, prompt and pos, in nats, of predicting token i + 1; NaN at the last. Groups are `as trained`
        and one a scale, such as `interpolated by 0.5`, with the factor as coordinate `scale`; positions carry
        `inside`, whether the context holds them.

    Raises:
        TypeError: not a model from `neolens.load`, or scales that are no numbers.
        ValueError: absolute positions, prompts that do not run past the context or are more than 64 times as long,
            scales that are not below 1 or not apart in three digits, a model with hooks on it, or inside another
            `what_if(positions=...)`.
    """
    began = time.perf_counter()
    facts = asked_weights(model, "a loss beyond the context", untreated=True).anatomy
    batch = _long(tokens, facts)
    prompts, length = list(batch), batch.shape[1]
    groups = {AS_TRAINED: 1.0} | _scales(scales, facts, length)
    found = []
    for scale in groups.values():
        if scale == 1.0:
            found.append(losses(model, prompts))
        else:
            with what_if(model, positions=Scale(scale)):
                found.append(losses(model, prompts))
    coords = {
        "group": list(groups),
        "scale": ("group", list(groups.values())),
        "prompt": np.arange(len(prompts)),
        "length": ("prompt", [length] * len(prompts)),
        "pos": np.arange(length),
        "inside": ("pos", np.arange(length) < facts.context),
    }
    attrs = results.provenance(model, facts, seconds=round(time.perf_counter() - began, 3))
    return results.build({"loss": (("group", "prompt", "pos"), np.stack(found))}, facts, coords=coords, attrs=attrs)


def _long(tokens: Prompts, facts: Anatomy) -> Int[Tensor, "prompt pos"]:
    if facts.position.kind == "absolute":
        raise ValueError(
            f"{facts.name} has absolute positions and learned {facts.context} of them, none for a longer text: a loss "
            "beyond the context needs rotary positions, or none"
        )
    most = min(EXACT, FARTHEST * facts.context)
    batch = of_one_length(tokens, replace(facts, context=EXACT), shortest=2)
    if batch.shape[1] > most:
        raise ValueError(
            f"prompts have {batch.shape[1]} tokens: expected at most {most}, positions 0 to {most - 1}, {FARTHEST} "
            f"times the context of {facts.name}; cut them, for example with neolens.prompts.token_chunks"
        )
    if batch.shape[1] <= facts.context:
        raise ValueError(
            f"prompts have {batch.shape[1]} tokens, which the context of {facts.name} holds: expected more than "
            f"{facts.context}"
        )
    return batch


def _scales(scales: Any, facts: Anatomy, length: int) -> dict[str, float]:
    """Name -> factor."""
    if facts.position.kind == "none":
        if scales is not None:
            raise ValueError(
                f"{facts.name} has no position encoding, so there is nothing to interpolate: leave scales out"
            )
        return {}
    given = facts.context / length if scales is None else scales
    single = isinstance(given, str | bytes) or not hasattr(given, "__len__") or getattr(given, "ndim", 1) == 0
    factors = [Scale(one).by for one in ([given] if single else check_list(given, "scales", "factors below 1"))]
    if not factors:
        raise ValueError("scales []: expected at least one factor below 1, such as 0.5")
    for factor in factors:
        if not factor < 1:
            raise ValueError(f"a scale of {factor:g} does not interpolate: expected a factor below 1")
    named = {f"interpolated by {factor:.3g}": factor for factor in factors}
    if len(named) < len(factors):
        raise ValueError(f"scales {factors}: expected each once, apart in their first three digits")
    return named
