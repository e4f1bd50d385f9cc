"""What each network reads, and everything that is measured of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import xarray as xr
from jaxtyping import Int
from torch import Tensor

from neolens.ablation import Beyond, ablate
from neolens.patching import patch
from neolens.patching.effects import ranked
from neolens.prompts import PromptPairs, second_copy
from neolens.scores import shown_patterns
from neolens.studies.compare.found import PARTS
from neolens.studies.head_ablation import summary as need_summary
from neolens.studies.ioi.study import POSITIONS
from neolens.studies.ioi.summary import SITES, joined
from neolens.studies.local_vs_global.study import Tokens, measure_scores
from neolens.studies.models import seed_of
from neolens.studies.rotary_vs_absolute.measure import Texts, probe
from neolens.studies.window_reach.measure import at_distances

LONGEST = 128
"""Tokens of a repeated sequence whose patterns are shown; where it is longer, text that crosses the window is."""


@dataclass(frozen=True)
class Prompts:
    """What all networks of a model are measured on, in its own tokens."""

    window: int
    tokens: Tokens
    repeats: Mapping[int, Int[Tensor, "prompt pos"]]
    """n -> random sequences that repeat after n tokens, inside the window and beyond it."""
    texts: Texts
    groups: Mapping[str, list[tuple[int, int]]]
    """Layers, kinds of layers, and random heads."""
    planted: Mapping[int, PromptPairs] | None
    """Distance -> an answer planted there; None for a model without them."""
    indirect: PromptPairs | None
    """Of the indirect object; None for a model without the words."""


def parts(prompts: Prompts, config: Any) -> list[str]:
    left_out = {"reach": prompts.planted is None, "circuit": prompts.indirect is None}
    return [part for part in PARTS if not left_out.get(part)]


def measure(model: Any, prompts: Prompts, config: Any) -> Iterator[tuple[str, xr.Dataset]]:
    """Everything that is measured of one network, part by part."""
    scores = measure_scores(model, prompts.tokens)
    yield "attention", scores
    yield "patterns", inductive_patterns(model, scores, prompts)
    yield "ablation_text", ablate(model, prompts.tokens.text, prompts.groups, how="mean", progress=False)
    yield "ablation_repeats", ablated_on_repeats(model, prompts, "mean")
    yield "ablation_cut", ablated_on_repeats(model, prompts, Beyond(prompts.window))
    yield "positions", probe(model, prompts.texts)
    if prompts.planted is not None:
        reach = at_distances([model], prompts.planted, prompts.window)
        yield "reach", reach.assign_coords(seed=[seed_of(model.anatomy.name)])
    if prompts.indirect is not None:
        by_site = {site: patch(model, prompts.indirect, site, positions=POSITIONS, progress=False) for site in SITES}
        yield "circuit", joined(by_site)


def ablated_on_repeats(model: Any, prompts: Prompts, how: Any) -> xr.Dataset:
    """The loss where copies are predicted, without the layers of each kind, or with their attention cut."""
    return need_summary.by_repeat(
        {
            n: ablate(model, tokens, prompts.groups, positions=second_copy(n), how=how, progress=False)
            for n, tokens in prompts.repeats.items()
        }
    )


def inductive_patterns(model: Any, scores: xr.Dataset, prompts: Prompts) -> xr.Dataset:
    """The patterns of the two most inductive heads of each kind of layer, on a prompt that crosses the window."""
    prompt = prompts.tokens.beyond[0]
    if len(prompt) > LONGEST:
        prompt = prompts.tokens.text[0, : prompts.window + 32]
    induction = scores["induction"].mean("prompt")
    heads = [
        head
        for kind in sorted(set(induction["attention_kind"].values.tolist()))
        for head in ranked(induction.isel(layer=induction["attention_kind"].values == kind), sign=1)[:2]
    ]
    chosen = sorted((int(layer), int(head)) for layer, head in (head.split(".") for head in heads))
    return shown_patterns(model, prompt, chosen)
