"""What heads are needed for: the loss without each head, layer and kind of layer, on text and on what is copied.

Four conditions. On `text` every token counts. In a sequence of random tokens that is repeated after n, the answer to
each token of the second copy stands n - 1 tokens back: `inside` a window of w tokens where n - 1 < w, else `beyond`
it. `cut` is measured there too, but the heads are left as they are and only lose the keys w or more tokens back: what
is needed of a head beyond the window need not be what it reads there. The same random tokens are repeated after
every n, so the sample is one of sequences: the loss of a sequence inside is the mean over those n, and the sequences
are what intervals resample.

A kind of layer also has places of its own: GPT-Neo's global layers are 0, 2, ... So its heads are set beside as many
random ones, and a model with global layers alone is asked for the same layers and for the same random heads.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import xarray as xr

from neolens.ablation import by_kind, each_head, each_layer, effect
from neolens.ablation.controls import Head, control_groups
from neolens.ablation.groups import GROUP_COORDINATES
from neolens.checks import check_choice, check_whole
from neolens.checks.annotations import Count, Size, check_annotated, checked
from neolens.checks.labels import check_axes
from neolens.models import Anatomy
from neolens.near_far import NearFar, of_anatomies
from neolens.results import check_result, check_results
from neolens.studies.head_ablation.comparisons import KINDS, Compared, beside_controls, without_untested

CONDITIONS = ("beyond", "cut", "inside", "text")
ROUNDING = 1e-6
"""Nats a token: less than that between two losses in float32 is rounding, and counts as no effect."""


@dataclass(frozen=True)
class Needs:
    """What one model needs its heads for."""

    facts: Anatomy
    window: Size
    text: xr.Dataset
    """Of `neolens.ablate` on text."""
    repeats: xr.Dataset
    """Of `by_repeat`, inside the window and beyond it."""
    cut: xr.Dataset
    """The same, where heads only lose the keys that are beyond it."""
    heads: Mapping[str, xr.Dataset]
    """Condition -> the effect of every head, corrected for all of them, without p where there is nothing to test; empty
    where no single head was ablated."""
    groups: Mapping[str, xr.Dataset]
    """Condition -> the effects of layers and kinds, and of each size of random controls, the draws averaged."""
    compared: tuple[Compared, ...]
    split: NearFar | None = None
    """What the distance `window` is called in a report of several models."""

    def __post_init__(self) -> None:
        check_annotated(self)

    @property
    def near_far(self) -> NearFar:
        """What the distance `window` is called: the window of this model, that of another, or none."""
        return self.split or of_anatomies(self.window, [self.facts])


@checked
def asked_groups(
    facts: Anatomy, mixed: Anatomy | None = None, *, draws: Count = 19, seed: Count = 0
) -> dict[str, list[Head]]:
    """Every head, every layer, every kind with as many random heads; in a model of one kind, what are the layers and
    the random heads of `mixed`.

    Args:
        facts: of the model that is asked.
        mixed: a model with layers of both kinds; taken where it is as deep and has as many heads.
        draws: random controls of each size.
    """
    found = {**each_head(facts), **each_layer(facts), **by_kind(facts, draws=draws, seed=seed)}
    alike = mixed is not None and (mixed.layers, mixed.heads) == (facts.layers, facts.heads)
    if mixed is None or not alike or _has_both(facts):
        return found
    for name, heads in by_kind(mixed, draws=draws, seed=seed).items():
        found[group_of(facts, name, mixed) if name in KINDS else name] = heads
    return found


@checked
def group_of(facts: Anatomy, kind: str, mixed: Anatomy) -> str:
    """What the layers that are of a kind in `mixed` are called among the groups of a model."""
    check_choice(kind, "kind of layer", KINDS)
    if facts.attention == mixed.attention:
        return kind
    return f"layers {', '.join(map(str, mixed.layers_of_kind(kind)))} ({kind} in {mixed.name})"


@checked
def by_repeat(results: Mapping[Size, xr.Dataset]) -> xr.Dataset:
    """Results of `neolens.ablate` on the same random tokens, each repeated after n, as one: `ablated` [group, prompt,
    distance] and `baseline` [prompt, distance], the mean over the positions that were read.

    Args:
        results: n -> the loss at positions n + 1 to 2 n - 1, whose answers stand n - 1 tokens back.
    """
    check_results(results, "results", ["ablated", "baseline", "length"], ["group", "prompt", "pos"], "neolens.ablate")
    for n, part in results.items():
        for name, axes in (("ablated", "group prompt pos"), ("baseline", "prompt pos")):
            check_axes(part[name], f"results[{n}]", axes, "neolens.ablate")
    parts = [
        part[["ablated", "baseline"]]
        .astype(float)
        .mean("pos", keep_attrs=True)
        .reset_coords("length", drop=True)
        .expand_dims(distance=[n - 1], axis=-1)
        for n, part in sorted(results.items())
    ]
    both = xr.concat(parts, dim="distance", combine_attrs="override")
    return both.assign_coords(length=("distance", [2 * n + 1 for n in sorted(results)]))


@checked
def needs(facts: Anatomy, text: xr.Dataset, repeats: xr.Dataset, cut: xr.Dataset, window: Size) -> Needs:
    """The effects of heads and of groups under each condition, and the kinds beside their controls.

    Args:
        text: of `neolens.ablate` on text, with the groups of `asked_groups`.
        repeats: of `by_repeat`, with the same groups; its attribute `candidates` is the number of tokens that the
            sequences are drawn from. Without it, as in results of earlier versions, that of the vocabulary is taken.
        cut: of `by_repeat`, with the same groups and how=Beyond(window).
        window: the first distance beyond it.

    Raises:
        ValueError: no repeat inside the window or none beyond it, or others in `cut`.
    """
    variables = ["ablated", "baseline", "heads", "attention_kind", "control"]
    check_result(text, "text", variables, ["group", "prompt", "pos"], "neolens.ablate on text")
    for name, one in (("repeats", repeats), ("cut", cut)):
        check_result(one, name, [*variables, "distance"], ["group", "prompt", "distance"], "needs.by_repeat")
        if not one["group"].equals(text["group"]):
            raise ValueError(f"{name} has other groups than text: ablate the same groups in both")
    check_whole(repeats.attrs.get("candidates", facts.d_vocab), "attribute candidates of repeats", 1)
    candidates = repeats.attrs.get("candidates", facts.d_vocab)
    conditions = {
        name: result if name == "text" else result.assign_attrs(candidates=candidates)
        for name, result in _conditions(text, repeats, cut, window).items()
    }
    names, single, draws = text["group"].values.tolist(), each_head(facts), control_groups(text)
    heads = [name for name in names if name in single]
    others = [name for name in names if name not in heads and name not in draws]
    of_heads = {name: result.sel(group=heads) for name, result in conditions.items() if heads}
    of_groups = {name: _controls_averaged(result.sel(group=others + draws)) for name, result in conditions.items()}
    return Needs(
        *(facts, window, text, repeats, cut),
        {name: without_untested(effect(result), name, facts, window) for name, result in of_heads.items()},
        {name: without_untested(effect(result), name, facts, window) for name, result in of_groups.items()},
        beside_controls(conditions, compared_groups(text, facts), facts, window),
    )


@checked
def compared_groups(result: xr.Dataset, facts: Anatomy) -> list[str]:
    """Which groups of a result of `neolens.ablate` are compared with as many random heads: kinds of layers first."""
    others = {*each_head(facts), *each_layer(facts), *control_groups(result), *KINDS}
    names = result["group"].values.tolist()
    return [*(kind for kind in KINDS if kind in names), *(name for name in names if name not in others)]


@checked
def labelled(found: Needs) -> xr.Dataset:
    """All numbers of a model: `ablated` and `baseline` on repeats by distance, `ablated_cut`, `ablated_text` and
    `baseline_text`, and by group the effects with their intervals and p, such as `effect_beyond`; which heads a group
    has stands in the attributes."""
    of_groups = [name for name in GROUP_COORDINATES if name in found.repeats.coords]
    text = found.text[["ablated", "baseline"]].astype(float).mean("pos").drop_vars([*of_groups, "length"])
    parts = [
        found.repeats.drop_vars(of_groups),
        found.cut[["ablated"]].drop_vars([*of_groups, "length"]).rename(ablated="ablated_cut"),
        text.rename(ablated="ablated_text", baseline="baseline_text"),
    ]
    for name in CONDITIONS:
        effects = [its[name] for its in (found.heads, found.groups) if name in its]
        both = xr.concat(effects, dim="group", data_vars="minimal")
        both = both.drop_vars([*of_groups, "baseline"])
        parts.append(both.rename({variable: f"{variable}_{name}" for variable in both.data_vars}))
    merged = xr.merge(parts, join="outer", compat="no_conflicts", combine_attrs="override")
    names = found.repeats["group"].values.tolist()
    heads, kinds = (dict(zip(names, found.repeats[one].values)) for one in ("heads", "attention_kind"))
    kind = [str(kinds.get(str(name), "both")) for name in merged["group"].values]
    merged = merged.assign_coords(attention_kind=("group", kind), window=found.window)
    return merged.assign_attrs(groups=json.dumps({name: str(its) for name, its in heads.items()}))


def _has_both(facts: Anatomy) -> bool:
    return len({span.kind for span in facts.attention}) == 2


def _conditions(text: xr.Dataset, repeats: xr.Dataset, cut: xr.Dataset, window: int) -> dict[str, xr.Dataset]:
    """A result of `neolens.ablate` for each condition."""
    far = repeats["distance"].values >= window
    if far.all() or not far.any():
        raise ValueError(f"no repeat {'inside' if far.all() else 'beyond'} a window of {window}: give repeat lengths")
    if not cut["distance"].equals(repeats["distance"]):
        raise ValueError("cut holds other distances than repeats: ablate and cut on the same sequences")
    by_distance = {"beyond": repeats.isel(distance=far), "cut": cut.isel(distance=far)}
    by_distance["inside"] = repeats.isel(distance=~far)
    averaged = {name: result.mean("distance", keep_attrs=True) for name, result in by_distance.items()}
    read = averaged | {"text": text[["ablated", "baseline"]].astype(float).mean("pos", keep_attrs=True)}
    return {name: _without_rounding(result) for name, result in read.items()}


def _without_rounding(result: xr.Dataset) -> xr.Dataset:
    same = np.abs(result["ablated"] - result["baseline"]) < ROUNDING
    return result.assign(ablated=result["ablated"].where(~same, result["baseline"]))


def _controls_averaged(result: xr.Dataset) -> xr.Dataset:
    """The draws of each size as one group, the mean of their losses in each prompt."""
    parts = [result.isel(group=(result["control"] == "").values)]
    for control in dict.fromkeys(filter(None, result["control"].values.tolist())):
        draws = control_groups(result, control)
        mean = result.sel(group=draws).mean("group", keep_attrs=True)
        values = {"heads": "", "attention_kind": "both", "layer": np.nan, "control": control, "draw": np.nan}
        coords = {name: ("group", [value]) for name, value in values.items()}
        parts.append(mean.expand_dims(group=[f"{control}, mean of {len(draws)}"]).assign_coords(coords))
    ablated = xr.concat([part["ablated"] for part in parts], dim="group")
    return result[["baseline"]].drop_dims("group", errors="ignore").assign(ablated=ablated).assign_attrs(result.attrs)
