"""What ablating a group of heads does, and how sure that is: effects with intervals, corrected for how many they are.

Prompts are the sample: an effect is first a number a prompt, intervals resample prompts, and tests flip the signs of
whole prompts. A sweep over all heads asks many questions at once, so a p value of each alone says little: Westfall
and Young 1993 ("Resampling-Based Multiple Testing") compare each group with the largest of all groups under the same
flips, Benjamini and Hochberg 1995 bound the share of false findings. Intervals and single p values are
TransformerLens's.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import xarray as xr
from jaxtyping import Float
from scipy.stats import false_discovery_control
from transformer_lens.utilities.statistics import bootstrap_ci, derive_generator, sign_flip_permutation_pvalue

from neolens import results
from neolens.ablation.by_prompt import Read, by_distance, of_answers, of_metric, read
from neolens.checks import check_choice, check_list, check_seed, check_whole, did_you_mean, shown

__all__ = ["CORRECTIONS", "by_distance", "difference", "effect", "heads_grid", "of_answers"]

SIGNIFICANT = 0.05
"""The corrected p below which figures mark a group."""

CORRECTIONS = ("max_t", "benjamini_hochberg")
MOST_RESAMPLES = 2**24
_EXACT = 12  # prompts up to which all flips are tried, as in TransformerLens's test
_TIE = 1e-13  # far above the rounding of a sum over its root mean square, far below any difference that matters
_CELLS = 2**24  # numbers held at once while resampling
_CHUNK = 256  # resamples that TransformerLens draws at once


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
    resamples, seed = check_whole(resamples, "resamples", 1, MOST_RESAMPLES), check_seed(seed)
    result, _ = of_metric(result, metric)
    taken = read(result, where)
    low, high, p = _uncertainty(taken.effect, resamples, seed)
    found = {"effect": taken.effect.mean(1), "low": low, "high": high, "p": p}
    found["p_adjusted"] = _adjusted(taken.effect, p, correction, resamples, seed)
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
    resamples, seed = check_whole(resamples, "resamples", 1, MOST_RESAMPLES), check_seed(seed)
    result, _ = of_metric(result, metric)
    ours, theirs = (_rows(result, names) for names in (group, other))
    if both := [one for one in ours if one in theirs]:
        raise ValueError(f"group {both[0]!r} is compared with itself: name different groups")
    taken = read(result.sel(group=[*ours, *theirs]), where)
    one, another = taken.effect[: len(ours)].mean(0), taken.effect[len(ours) :].mean(0)
    low, high, p = _uncertainty((one - another)[None], resamples, seed)
    found = {"difference": (one - another).mean(), "low": low[0], "high": high[0], "p": p[0]}
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


def _uncertainty(
    x: Float[np.ndarray, "group prompt"], resamples: int, seed: int
) -> tuple[Float[np.ndarray, " group"], Float[np.ndarray, " group"], Float[np.ndarray, " group"]]:
    """The ends of the interval and the p of each group; all groups are resampled and flipped alike."""
    groups, prompts = x.shape
    if prompts < 2:
        return (np.full(groups, np.nan),) * 3
    parts = torch.from_numpy(x).split(max(1, _CELLS // max(_CHUNK * prompts, 2**_EXACT * _EXACT, resamples)))
    ends = [bootstrap_ci(part, n_resamples=resamples, generator=_generator(seed, "interval")) for part in parts]
    p = [
        sign_flip_permutation_pvalue(
            part, n_permutations=resamples, generator=_generator(seed, "p"), exact_max_n=_EXACT
        )
        for part in parts
    ]
    low, high = zip(*ends, strict=True)
    return torch.cat(low).numpy(), torch.cat(high).numpy(), torch.cat(p).numpy()


def _adjusted(
    x: Float[np.ndarray, "group prompt"], p: Float[np.ndarray, " group"], correction: str, resamples: int, seed: int
) -> Float[np.ndarray, " group"]:
    if x.shape[1] < 2:
        return np.full(len(x), np.nan)
    return false_discovery_control(p) if correction == "benjamini_hochberg" else _max_t(x, resamples, seed)


def _max_t(x: Float[np.ndarray, "group prompt"], resamples: int, seed: int) -> Float[np.ndarray, " group"]:
    """The share of flips in which the largest |t| of all groups reaches that of a group.

    With r = |mean| / root mean square, |t| = r sqrt((n - 1) / (1 - r^2)): it grows with r, alike in all groups, and a
    flip leaves the root mean square as it is. So r, which is never infinite, orders as |t| does.
    """
    size = np.sqrt((x**2).mean(1, keepdims=True))
    scaled = np.divide(x, size, out=np.zeros_like(x), where=size > 0)
    signs, exact = _flips(x.shape[1], resamples, seed)
    observed = np.abs(scaled.mean(1))
    blocks = np.array_split(signs, max(1, signs.shape[0] * len(x) // _CELLS + 1))
    largest = np.concatenate([np.abs(block @ scaled.T).max(1) for block in blocks]) / x.shape[1]
    reached = np.sort(largest)
    hits = len(reached) - np.searchsorted(reached, observed - _TIE, side="left")
    return hits / len(signs) if exact else (hits + 1) / (len(signs) + 1)


def _flips(prompts: int, resamples: int, seed: int) -> tuple[Float[np.ndarray, "flip prompt"], bool]:
    """All patterns of signs of few prompts, else random ones (those of the p of each group), and whether it is all."""
    if prompts <= _EXACT:
        return np.array(list(itertools.product((1.0, -1.0), repeat=prompts))), True
    drawn = torch.randint(0, 2, (resamples, prompts), generator=_generator(seed, "p"))
    return drawn.double().numpy() * 2 - 1, False


def _generator(seed: int, purpose: str) -> torch.Generator:
    return derive_generator(seed, "ablation", purpose)


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
