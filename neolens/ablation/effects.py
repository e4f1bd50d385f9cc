"""What ablating a group of heads does, and how sure that is: effects with intervals, corrected for how many they are.

Prompts are the sample: an effect is first one number per prompt. Intervals, tests and corrections are those of
`neolens.stats.paired`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from neolens import results
from neolens.ablation.by_prompt import Read, by_distance, of_answers, of_metric, read
from neolens.checks import check_choice, check_list, check_seed, check_whole, did_you_mean, shown
from neolens.stats.paired import CORRECTIONS, MAX_RESAMPLES, paired_tests

__all__ = ["CORRECTIONS", "by_distance", "difference", "effect", "heads_grid", "of_answers"]


def effect(
    result: Any,
    *,
    metric: Any = None,
    where: Any = None,
    correction: str = "max_t",
    resamples: int = 1000,
    seed: int = 0,
) -> xr.Dataset:
    """How much ablating each group moves the metric: mean(ablated - baseline), in the metric's unit, positive where
    ablating raises it.

    The mean over the positions that are read comes first, then that over prompts. With it come the ends `low` and
    `high` of the 95 % bootstrap interval over prompts, the two-sided `p` of the sign-flip test, `p_adjusted` for all
    groups together, and the `baseline`. A p is at least 1 / (resamples + 1), with n <= 12 prompts exact and at least
    2 / 2^n. Intervals and p of a single prompt are NaN.

    Args:
        result: of `neolens.ablate`.
        metric: the name of one, where the result holds several.
        where: booleans [prompt, pos] of the positions that count, of those that have a value; prompts without any are
            left out.
        correction: "max_t" (the chance of any false finding; Westfall and Young) or "benjamini_hochberg" (the share
            of findings that are false).

    Raises:
        ValueError: no such result, metric or correction, a `where` that does not fit or chooses nothing, or a value
            that is not finite.
    """
    check_choice(correction, "correction", CORRECTIONS)
    resamples, seed = check_whole(resamples, "resamples", 1, MAX_RESAMPLES), check_seed(seed)
    result, _ = of_metric(result, metric)
    taken = read(result, where)
    tests = paired_tests(taken.effect, correction=correction, resamples=resamples, seed=seed)
    found = {"effect": tests.mean, "low": tests.low, "high": tests.high, "p": tests.p, "p_adjusted": tests.p_adjusted}
    return results.check(
        xr.Dataset(
            {variable: ("group", values) for variable, values in found.items()} | {"baseline": taken.baseline.mean()},
            coords={str(at): values for at, values in result.coords.items() if values.dims == ("group",)},
            attrs=_attrs(result, taken, resamples, seed) | {"correction": correction},
        )
    )


def difference(
    result: Any,
    group: Any,
    other: Any,
    *,
    metric: Any = None,
    where: Any = None,
    resamples: int = 1000,
    seed: int = 0,
) -> xr.Dataset:
    """How much more ablating one group moves the metric than another does, prompt by prompt: `difference` = effect of
    `group` - effect of `other`, with `low`, `high` and `p` as those of `effect`, and both effects as `effect` and
    `other`.

    Args:
        group: its name, or several names, whose effects are averaged in each prompt first.
        other: the same, such as all random controls.

    Raises:
        ValueError: what `effect` says, no such group, or one that is compared with itself.
    """
    resamples, seed = check_whole(resamples, "resamples", 1, MAX_RESAMPLES), check_seed(seed)
    result, _ = of_metric(result, metric)
    ours, theirs = (_rows(result, names) for names in (group, other))
    if both := [one for one in ours if one in theirs]:
        raise ValueError(f"group {both[0]!r} is compared with itself: name different groups")
    taken = read(result.sel(group=[*ours, *theirs]), where)
    one, another = taken.effect[: len(ours)].mean(0), taken.effect[len(ours) :].mean(0)
    tests = paired_tests((one - another)[None], resamples=resamples, seed=seed)
    found = {"difference": tests.mean[0], "low": tests.low[0], "high": tests.high[0], "p": tests.p[0]}
    found |= {"effect": one.mean(), "other": another.mean(), "baseline": taken.baseline.mean()}
    attrs = _attrs(result, taken, resamples, seed)
    return xr.Dataset(found, attrs=attrs | {"group": json.dumps(ours), "other": json.dumps(theirs)})


def heads_grid(effects: Any) -> xr.Dataset:
    """The groups of a single head as (layer, head), layers with their `attention_kind` and `window`; NaN for a head
    that was not ablated alone.

    Args:
        effects: of `effect`, or anything else with a `group` axis that names its `heads`.

    Raises:
        ValueError: no group is a single head, or two are the same one.
    """
    results.check_result(effects, "effects", ["heads"], ["group"], "neolens.ablation.effect")
    facts = _anatomy(effects)
    places = _places(effects)
    rows, layers, heads = list(places.values()), *np.array(list(places)).T
    found = {}
    for name, values in effects.data_vars.items():
        if "group" in values.dims:
            ordered = values.transpose("group", ...)
            grid = np.full((facts["layers"], facts["heads"], *ordered.shape[1:]), np.nan)
            grid[layers, heads] = ordered.values[rows]
            found[str(name)] = xr.Variable(("layer", "head", *ordered.dims[1:]), grid)
        else:
            found[str(name)] = values.variable
    windows = [np.nan if span["window"] is None else float(span["window"]) for span in facts["attention"]]
    coords = {str(at): values for at, values in effects.coords.items() if "group" not in values.dims}
    coords |= {"layer": np.arange(facts["layers"]), "head": np.arange(facts["heads"])}
    coords |= {"attention_kind": ("layer", [span["kind"] for span in facts["attention"]])}
    coords |= {"window": ("layer", windows)}
    return results.check(xr.Dataset(found, coords=coords, attrs=effects.attrs))


def _places(effects: xr.Dataset) -> dict[tuple[int, int], int]:
    """Layer and head of each group that is a single head, and which group that is."""
    places: dict[tuple[int, int], int] = {}
    for row, heads in enumerate(map(str, effects["heads"].values)):
        if len(heads.split()) != 1:
            continue
        layer, head = map(int, heads.split("."))
        if (layer, head) in places:
            raise ValueError(f"head {heads} is ablated by several groups: choose one of them with .sel(group=...)")
        places[layer, head] = row
    if not places:
        raise ValueError("no group is a single head: ablate neolens.each_head(model)")
    return places


def _rows(result: xr.Dataset, names: Any) -> list[str]:
    """The named groups, all of which are there."""
    chosen = [names] if isinstance(names, str) else check_list(names, "group", "names of groups")
    held = [str(name) for name in result["group"].values]
    if not chosen:
        raise ValueError("no group is named: give a name, or several")
    for name in chosen:
        if name not in held:
            there = ", ".join([*held[:12], *["..."] * (len(held) > 12)])
            raise ValueError(f"no group {shown(name)}: {did_you_mean(name, held)}the result holds {there}")
    return [str(name) for name in chosen]


def _attrs(result: xr.Dataset, taken: Read, resamples: int, seed: int) -> dict[str, Any]:
    prompts = int(taken.effect.shape[1])
    return {**result.attrs, "prompts": prompts, "resamples": resamples, "resampling_seed": seed}


def _anatomy(effects: xr.Dataset) -> Mapping[str, Any]:
    if "anatomy" not in effects.attrs:
        raise ValueError("the attribute anatomy is missing: expected what comes of neolens.ablate, attributes kept")
    return json.loads(effects.attrs["anatomy"])
