"""Position ablation: the loss when the same weights are told nothing, or something else, about where tokens stand."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from tqdm.auto import tqdm

from neolens import results
from neolens.checks import check_text
from neolens.models.treatments import in_words
from neolens.network import measurement
from neolens.position.checks import asked_weights
from neolens.prompts.tokens import Prompts, validated
from neolens.readout.losses import losses
from neolens.whatif import treatment_of, what_if

DEFAULTS = {"absolute": ("zero", "mean", "shuffle"), "rotary": ("off",)}
"""Kind of positions -> the treatments that leave nothing of them."""


@measurement(exclusive=True)
def ablate_positions(model: Any, tokens: Prompts, treatments: Any = None, *, progress: bool = True) -> xr.Dataset:
    """The loss under each treatment of positions, and as it is, at every token.

    Args:
        model: from `neolens.load`, with absolute or rotary positions.
        tokens: an integer tensor [prompt, pos], or a list of one-dimensional ones where lengths differ.
        treatments: what `neolens.what_if` takes as `positions`, one or several, or a dict from a name to each; by
            default those that leave nothing of positions: absolute `"zero"`, `"mean"`, `"shuffle"`, rotary `"off"`.
        progress: whether to show a bar, counting treatments.

    Returns:
        As of `neolens.ablate`, so that `neolens.ablation.effect` gives effects with intervals: `ablated` by group (the
        treatment, in words or by its name), prompt and pos, in nats, of predicting token i + 1, and `baseline` without
        group; NaN where nothing follows.

    Raises:
        TypeError: not a model from `neolens.load`, or no treatments.
        ValueError: a model without positions, with hooks on it or inside another `what_if(positions=...)`, a treatment
            that it cannot take, two that are called alike, or a prompt of fewer than 2 tokens or of more than a
            treatment leaves positions for.
    """
    began = time.perf_counter()
    facts = asked_weights(model, "an ablation of positions", "absolute", "rotary", untreated=True).anatomy
    prompts = validated(tokens, facts, shortest=2)
    named = _named(DEFAULTS[facts.position.kind] if treatments is None else treatments)
    for one in named.values():
        with what_if(model, positions=one):
            validated(prompts, model.anatomy)
    baseline, ablated = losses(model, prompts), []
    for one in tqdm(named.values(), desc="positions", unit="treatment", disable=None if progress else True, delay=1):
        with what_if(model, positions=one):
            ablated.append(losses(model, prompts))
    variables = {"ablated": (("group", "prompt", "pos"), np.stack(ablated)), "baseline": (("prompt", "pos"), baseline)}
    coords = {
        "group": list(named),
        "heads": ("group", [""] * len(named)),
        "attention_kind": ("group", ["both"] * len(named)),
        "prompt": np.arange(len(prompts)),
        "length": ("prompt", [len(prompt) for prompt in prompts]),
        "pos": np.arange(baseline.shape[1]),
    }
    seconds = round(time.perf_counter() - began, 3)
    attrs = results.provenance(model, facts, metric=json.dumps(["loss"]), seconds=seconds)
    return results.build(variables, facts, coords=coords, attrs=attrs)


def _named(treatments: Any) -> dict[str, Any]:
    """Treatments by name, or by what they do in words."""
    if isinstance(treatments, Mapping):
        texts = {check_text(name, "name of a treatment", example="none"): one for name, one in treatments.items()}
        named, given = {name: treatment_of(one) for name, one in texts.items()}, len(treatments)
    else:
        several = [treatments] if isinstance(treatments, str) or not isinstance(treatments, Sequence) else treatments
        named, given = {in_words(one): one for one in map(treatment_of, several)}, len(several)
    if len(named) < given:
        raise ValueError(f"treatments {', '.join(named)}: two are called alike; give a dict from a name to each")
    if not named:
        raise ValueError("there is no treatment: expected at least one, such as 'shuffle' or neolens.whatif.Shift(8)")
    return named
