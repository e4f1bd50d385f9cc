"""Which layers carry an answer from far back: what was measured at several distances, on each side of a window.

Each network is taken by itself, for networks that differ in nothing but their seed may carry by different layers, and
so is each distance beyond the window, for different layers may carry at different distances. The sample are the
prompts: intervals and tests are about other prompts, and how far the seeds differ is shown and not averaged away. All
changes of the windows of one network and task, at all distances beyond the window, are tested together (max-t, Westfall
and Young 1993).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import xarray as xr

from neolens.checks import check_bool, check_index, check_whole
from neolens.checks.annotations import check_annotated, checked
from neolens.checks.labels import check_axes
from neolens.near_far import NearFar, near_far
from neolens.patching.effects import effects
from neolens.results import check_result, check_results
from neolens.stats import ALPHA
from neolens.stats.paired import paired_tests
from neolens.stats.seeds import Estimate
from neolens.stats.verdicts import NEEDED
from neolens.studies.window_reach.measure import BETWEEN, PARTS

SOLVED = 0.9
"""The share of clean prompts with the answer above the distractor from which on a network counts as doing the task."""

ALL_LOCAL, ALL_GLOBAL = "every layer local", "every layer global"


_AXES_OF = {
    "patched": "distance prompt layer pos",
    "ablated": "distance prompt group",
    "localised": "distance prompt layer",
    "globalised": "distance prompt layer",
}


@dataclass(frozen=True)
class Side:
    """What was found of one network and task on one side of the window."""

    distances: tuple[int, ...]
    above: float
    """Share of clean prompts with the answer above the distractor."""
    likeliest: float
    """Share of clean prompts in which the answer is the likeliest token."""
    likeliest_all_local: float
    """The same with every layer held to the window."""
    difference: float
    """Mean logit difference of the clean prompts."""
    carried: float
    """How much of it the source makes: clean less corrupted, in logits."""
    changes: xr.Dataset
    """By group, a changed layer such as `layer 2 local` or all of them: the `share` of `carried` that the change takes
    away, with `low`, `high` and `p_adjusted`."""
    ablated: xr.Dataset
    """`effect` of each ablated group on the logit difference, with `low`, `high` and `p_adjusted`."""
    places: xr.Dataset
    """`share` of `carried` that a patched residual stream moves, by layer and pos, with `low` and `high`."""
    prompts: int
    """Of all these distances."""

    def __post_init__(self) -> None:
        check_annotated(self)

    @property
    def answers(self) -> bool:
        """Whether the network does the task, and by what the source says."""
        return self.above >= SOLVED and self.carried > 0

    @property
    def left(self) -> float:
        """The share that is carried with every layer held to the window: it can only come in several hops."""
        return 1 - float(self.changes["share"].sel(group=ALL_LOCAL))

    @property
    def removed(self) -> Estimate:
        """The share that restricting every layer removes, over prompts."""
        return self._estimate(self.changes.sel(group=ALL_LOCAL))

    @property
    def bypass(self) -> Estimate:
        """The share that is never at the positions between source and query, over prompts."""
        between = self.places.sel(pos=BETWEEN).max("layer")
        share, low, high = (1 - float(between[name]) for name in ("share", "low", "high"))
        return Estimate(share, high, low, self.prompts)

    @property
    def needed(self) -> list[int]:
        """Layers that take a good part away when they are held to the window; the one that takes most first."""
        needed = [layer for layer, share in self.narrowed.items() if share >= NEEDED and self.significant(layer)]
        return sorted(needed, key=lambda layer: -self.narrowed[layer])

    @property
    def narrowed(self) -> dict[int, float]:
        """Layer -> the share that it takes away when it is held to the window."""
        changes = self.changes
        single = changes["layer"].notnull() & (changes["attention_kind"] == "local")
        shares = changes["share"].isel(group=single.values)
        return {int(layer): float(share) for layer, share in zip(shares["layer"].values, shares.values, strict=True)}

    def restricted(self, layer: int) -> Estimate:
        """The share that restricting this layer removes, over prompts, with its corrected p."""
        check_index(layer, "layer", 1 + max(self.narrowed, default=-1))
        return self._estimate(self.changes.sel(group=f"layer {layer} local"))

    def significant(self, layer: int) -> bool:
        """Whether restricting this layer removes something, significantly."""
        one = self.restricted(layer)
        return one.low > 0 and one.p < ALPHA

    def _estimate(self, change: xr.Dataset) -> Estimate:
        share, low, high, p = (float(change[name]) for name in ("share", "low", "high", "p_adjusted"))
        return Estimate(share, low, high, self.prompts, p)


def side(result: xr.Dataset, window: int, *, beyond: bool) -> Side:
    """What a network's results at all distances beyond (or inside) a window say.

    Args:
        result: what `crossing` gives, with the axis distance besides.

    Raises:
        ValueError: no distance on that side.
    """
    needed = [*PARTS, "rank_all_local"]
    axes = ["distance", "prompt", "layer", "group", "pos"]
    check_result(result, "result", needed, axes, "at_distances for one seed")
    for name in needed:
        check_axes(result[name], "result", _AXES_OF.get(name, "distance prompt"), "at_distances, of one seed")
    window, beyond = check_whole(window, "window", 1), check_bool(beyond, "beyond")
    there = (result["distance"].values >= window) == beyond
    if not there.any():
        where = "beyond" if beyond else "inside"
        raise ValueError(f"no distance {where} the window of {window}: distances are {result['distance'].values}")
    distances = tuple(result["distance"].values[there].tolist())
    pooled = _pooled(result.isel(distance=there))
    carried = pooled["clean"] - pooled["corrupted"]
    return Side(
        distances,
        float((pooled["clean"] > 0).mean()),
        float((pooled["rank"] == 0).mean()),
        float((pooled["rank_all_local"] == 0).mean()),
        float(pooled["clean"].mean()),
        float(carried.mean()),
        _changes(pooled, carried),
        _ablated(pooled),
        effects(pooled[["patched", "clean", "corrupted"]].assign_attrs(direction="denoise")),
        pooled.sizes["prompt"],
    )


def _pooled(result: xr.Dataset) -> xr.Dataset:
    """The prompts of all distances on one axis."""
    flat = result.rename(prompt="number").stack(prompt=("distance", "number"))
    return flat.reset_index("prompt").drop_vars(["distance", "number"])


def each_distance(result: xr.Dataset, window: int) -> dict[int, Side]:
    """What a network's results at each distance beyond a window say, with p corrected for all changes and distances.

    Args:
        result: what `crossing` gives, with the axis distance besides.
    """
    far = [distance for distance in result["distance"].values.tolist() if distance >= window]
    sides = {distance: side(result.sel(distance=[distance]), window, beyond=True) for distance in far}
    differences = []
    for distance in far:
        pooled = _pooled(result.sel(distance=[distance]))
        apart = _changed(pooled) - (pooled["clean"] - pooled["corrupted"])
        differences.append(apart.transpose("group", "prompt").values)
    p = paired_tests(np.concatenate(differences).astype(float)).p_adjusted
    each = np.split(p, np.cumsum([len(part) for part in differences])[:-1])
    return {
        distance: replace(one, changes=one.changes.assign(p_adjusted=("group", its)))
        for (distance, one), its in zip(sides.items(), each, strict=True)
    }


def _changed(pooled: xr.Dataset) -> xr.DataArray:
    """The effect of the source token under each change of windows."""
    parts = {ALL_LOCAL: pooled["all_local"], ALL_GLOBAL: pooled["all_global"]}
    layers, kinds = [np.nan, np.nan], ["local", "global"]
    for variable, kind in (("localised", "local"), ("globalised", "global")):
        for layer in pooled["layer"].values.tolist():
            one = pooled[variable].sel(layer=layer)
            if bool(one.notnull().any()):
                parts[f"layer {layer} {kind}"] = one
                layers.append(layer)
                kinds.append(kind)
    group: Any = xr.Variable("group", list(parts))
    changed = xr.concat([part.reset_coords(drop=True) for part in parts.values()], dim=group)
    return changed.assign_coords(layer=("group", layers), attention_kind=("group", kinds))


def _changes(pooled: xr.Dataset, carried: xr.DataArray) -> xr.Dataset:
    """The share of `carried` that each change of windows takes away."""
    changed = _changed(pooled)
    runs = xr.Dataset({"patched": changed, "clean": carried, "corrupted": xr.zeros_like(carried)})
    shares = effects(runs.assign_attrs(direction="noise"))
    apart = changed.astype(float) - carried.astype(float)
    tests = paired_tests(apart.transpose("group", "prompt").values)
    return shares.assign(p_adjusted=("group", tests.p_adjusted))


def _ablated(pooled: xr.Dataset) -> xr.Dataset:
    """What ablating each group adds to the logit difference."""
    added = (pooled["ablated"].astype(float) - pooled["clean"].astype(float)).transpose("group", "prompt")
    tests = paired_tests(added.values)
    found = {"effect": tests.mean, "low": tests.low, "high": tests.high, "p_adjusted": tests.p_adjusted}
    coords = {name: values for name, values in added.coords.items() if values.dims == ("group",)}
    return xr.Dataset({name: ("group", values) for name, values in found.items()}, coords=coords)


@dataclass(frozen=True)
class Carriers:
    """What was found in one model, a `Side` for each of its seeds."""

    name: str
    window: int
    results: Mapping[str, xr.Dataset]
    """Task -> what `at_distances` gave."""
    inside: Mapping[str, tuple[Side, ...]]
    beyond: Mapping[str, tuple[Side, ...]]
    """Of all distances beyond the window together."""
    near_far: NearFar
    """What the distance `window` is called: the window of this model, that of another, or none."""

    def __post_init__(self) -> None:
        check_annotated(self)

    @cached_property
    def far(self) -> Mapping[str, Mapping[int, tuple[Side, ...]]]:
        """Task -> distance beyond the window -> a `Side` for each seed."""
        found = {}
        for task, result in self.results.items():
            seeds = [each_distance(result.isel(seed=at), self.window) for at in range(result.sizes["seed"])]
            found[task] = {distance: tuple(one[distance] for one in seeds) for distance in seeds[0]}
        return found

    @property
    def tasks(self) -> list[str]:
        return list(self.results)

    @property
    def prompts(self) -> int:
        """Of one task and distance."""
        return next(iter(self.results.values())).sizes["prompt"]

    @property
    def seeds(self) -> list[int]:
        return next(iter(self.results.values()))["seed"].values.tolist()

    @property
    def kinds(self) -> list[str]:
        """The kind of attention of each layer."""
        return [str(kind) for kind in next(iter(self.results.values()))["attention_kind"].values]


@checked
def carriers(name: str, results: Mapping[str, xr.Dataset], split: NearFar | None = None) -> Carriers:
    """Both sides of the window, for each task and seed of a model.

    Args:
        split: what the distance is called in a report of several models; by default, what it is in this model.

    Raises:
        ValueError: no distance on one side.
    """
    check_results(results, "results", PARTS, ["seed", "distance"], "at_distances")
    some = next(iter(results.values()))
    window = check_whole(some.attrs.get("window"), "attribute window of results", 1)
    own = [int(size) for size in some["window"].values if np.isfinite(size)]
    inside, beyond = (
        {
            task: tuple(side(result.isel(seed=at), window, beyond=far) for at in range(result.sizes["seed"]))
            for task, result in results.items()
        }
        for far in (False, True)
    )
    return Carriers(name, window, results, inside, beyond, split or near_far(window, {name: own}))
