"""Which layers carry an answer beyond a window: what was measured at several distances, pooled on each side of it.

Each network is taken by itself, for networks that differ in nothing but their seed may carry by different layers. The
sample are its prompts, those of all distances of a side together: intervals and tests are about other prompts, and how
far the seeds differ is shown and not averaged away. All changes of the windows of one network and task are tested
together (max-t, Westfall and Young 1993).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from neolens.ablation.effects import effect
from neolens.circuits.crossing import BETWEEN
from neolens.circuits.effects import effects

NEEDED = 0.1
"""The share of what is carried that a layer held to the window has to take away to count as needed."""

SOLVED = 0.9
"""The share of clean prompts with the answer above the distractor from which on a network counts as doing the task."""

MOVES = 0.5
"""The share of what is carried that a patched residual stream has to move for the answer to stand there."""

ALL_LOCAL, ALL_GLOBAL = "every layer local", "every layer global"


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

    @property
    def answers(self) -> bool:
        """Whether the network does the task, and by what the source says."""
        return self.above >= SOLVED and self.carried > 0

    @property
    def left(self) -> float:
        """The share that is carried with every layer held to the window: it can only come in several hops."""
        return 1 - float(self.changes["share"].sel(group=ALL_LOCAL))

    @property
    def left_interval(self) -> tuple[float, float]:
        """The ends of its 95 % interval."""
        all_local = self.changes.sel(group=ALL_LOCAL)
        return 1 - float(all_local["high"]), 1 - float(all_local["low"])

    @property
    def between(self) -> tuple[float, int]:
        """The largest share that all positions between source and query move, and before which layer."""
        share = self.places["share"].sel(pos=BETWEEN)
        at = int(np.nanargmax(np.nan_to_num(share.values, nan=-np.inf)))
        return float(share[at]), int(share["layer"][at])

    @property
    def arrives(self) -> int:
        """The layer after which the query holds the answer: patched there, it moves `MOVES` of what is carried."""
        share = self.places["share"].sel(pos="query")
        held = np.flatnonzero(share.values >= MOVES)
        return int(share["layer"][held[0] - 1] if len(held) and held[0] else share["layer"][-1])

    @property
    def needed(self) -> list[int]:
        """Layers that take a good part away when they are held to the window; the one that takes most first."""
        return sorted(filter(self._tells, self.narrowed), key=lambda layer: -self.narrowed[layer])

    @property
    def narrowed(self) -> dict[int, float]:
        """Layer -> the share that it takes away when it is held to the window."""
        groups = [name for name in map(str, self.changes["group"].values) if name.startswith("layer")]
        shares = self.changes["share"]
        return {int(name.split()[1]): float(shares.sel(group=name)) for name in groups if name.endswith("local")}

    def _tells(self, layer: int) -> bool:
        one = self.changes.sel(group=f"layer {layer} local")
        return float(one["share"]) >= NEEDED and float(one["low"]) > 0 and float(one["p_adjusted"]) < 0.05


def side(result: xr.Dataset, window: int, *, beyond: bool) -> Side:
    """What a network's results at all distances beyond (or inside) a window say.

    Args:
        result: what `crossing` gives, with the axis distance besides.

    Raises:
        ValueError: no distance on that side.
    """
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
        effect(_as_ablation(pooled["ablated"], pooled["clean"])),
        effects(pooled[["patched", "clean", "corrupted"]].assign_attrs(direction="denoise")),
    )


def _pooled(result: xr.Dataset) -> xr.Dataset:
    """The prompts of all distances on one axis."""
    flat = result.rename(prompt="number").stack(prompt=("distance", "number"))
    return flat.reset_index("prompt").drop_vars(["distance", "number"])


def _changes(pooled: xr.Dataset, carried: xr.DataArray) -> xr.Dataset:
    """The share of `carried` that each change of windows takes away."""
    parts = {ALL_LOCAL: pooled["all_local"], ALL_GLOBAL: pooled["all_global"]}
    for variable, kind in (("localised", "local"), ("globalised", "global")):
        for layer in pooled["layer"].values.tolist():
            one = pooled[variable].sel(layer=layer)
            if bool(one.notnull().any()):
                parts[f"layer {layer} {kind}"] = one
    group: Any = xr.Variable("group", list(parts))
    changed = xr.concat([part.reset_coords(drop=True) for part in parts.values()], dim=group)
    runs = xr.Dataset({"patched": changed, "clean": carried, "corrupted": xr.zeros_like(carried)})
    shares = effects(runs.assign_attrs(direction="noise"))
    return shares.assign(p_adjusted=effect(_as_ablation(changed, carried))["p_adjusted"])


def _as_ablation(changed: xr.DataArray, baseline: xr.DataArray) -> xr.Dataset:
    """In the form of a result of `neolens.ablate`, so that effects, intervals and corrections are the same."""
    variables = {"ablated": changed.transpose("group", "prompt"), "baseline": baseline}
    return xr.Dataset(variables, attrs={"metric": json.dumps(["logit_difference"])})


@dataclass(frozen=True)
class Carriers:
    """What was found in one model, a `Side` for each of its seeds."""

    name: str
    window: int
    results: Mapping[str, xr.Dataset]
    """Task -> what `at_distances` gave."""
    inside: Mapping[str, tuple[Side, ...]]
    beyond: Mapping[str, tuple[Side, ...]]

    @property
    def tasks(self) -> list[str]:
        return list(self.results)

    @property
    def seeds(self) -> list[int]:
        return next(iter(self.results.values()))["seed"].values.tolist()

    @property
    def kinds(self) -> list[str]:
        """The kind of attention of each layer."""
        return [str(kind) for kind in next(iter(self.results.values()))["attention_kind"].values]


def carriers(name: str, results: Mapping[str, xr.Dataset]) -> Carriers:
    """Both sides of the window, for each task and seed of a model.

    Raises:
        ValueError: no distance on one side.
    """
    window = int(next(iter(results.values())).attrs["window"])
    inside, beyond = (
        {
            task: tuple(side(result.isel(seed=at), window, beyond=far) for at in range(result.sizes["seed"]))
            for task, result in results.items()
        }
        for far in (False, True)
    )
    return Carriers(name, window, results, inside, beyond)
