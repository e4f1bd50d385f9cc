"""What an ablation did to each prompt: one number a prompt and group, or one for each distance to the answer.

Tokens of a prompt are not independent, prompts are; so whatever is asked of a result, each prompt is averaged first.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Bool, Float

from neolens import results
from neolens.checks import check_text, did_you_mean, shown
from neolens.metrics import Metric


@dataclass(frozen=True)
class Read:
    """The prompts that have a value, each averaged over the positions that are read."""

    effect: Float[np.ndarray, "group prompt"]
    """ablated - baseline."""
    baseline: Float[np.ndarray, " prompt"]


def of_metric(result: Any, metric: Any = None) -> tuple[xr.Dataset, str]:
    """The part of a result that belongs to one metric, and the metric's name.

    Raises:
        ValueError: no result of `neolens.ablate`, or a metric that it does not hold.
    """
    _checked(result)
    asked = metric.name if isinstance(metric, Metric) else metric
    if asked is not None:
        check_text(asked, "metric", empty=True, example="loss")
    if "metric" in result.dims:
        held = [str(name) for name in result["metric"].values]
    else:
        held = _listed(result.attrs.get("metric", "metric"))
    if asked is None and len(held) > 1:
        raise ValueError(f"choose a metric: the result holds {', '.join(held)}")
    name = held[0] if asked is None else asked
    if not isinstance(name, str) or name not in held:
        raise ValueError(f"no metric {shown(name)}: {did_you_mean(name, held)}the result holds {', '.join(held)}")
    chosen = result.sel(metric=name, drop=True) if "metric" in result.dims else result
    return chosen.assign_attrs(metric=json.dumps([name])), name


def read(result: xr.Dataset, where: Any = None) -> Read:
    """Each prompt's mean effect and baseline, of a result with one metric.

    Args:
        where: booleans [prompt, pos] of the positions that count; those without a value never do.

    Raises:
        ValueError: a `where` that does not fit or chooses nothing, or a value that is not finite.
    """
    baseline = _baseline(result)
    chosen = ~np.isnan(baseline)
    if where is not None:
        if "pos" not in result.dims:
            raise ValueError("the result has one value a prompt, so there are no positions to choose: leave where out")
        flags = _shaped(where, "where", baseline.shape)
        if flags.dtype != bool:
            raise ValueError(f"where holds {flags.dtype}: expected booleans, True at the positions that count")
        chosen &= flags
    kept = chosen.any(1)
    if not kept.any():
        raise ValueError("no prompt has a value at a position that counts: choose others with where")
    chosen, baseline = chosen[kept], baseline[kept]
    count, effects = chosen.sum(1), np.zeros((result.sizes["group"], len(baseline)))
    for group, row in enumerate(effects):
        ablated = _finite(result, group, chosen, kept)
        row[:] = np.where(chosen, ablated - np.where(chosen, baseline, 0), 0).sum(1) / count
    return Read(effects, np.where(chosen, baseline, 0).sum(1) / count)


def of_answers(result: Any, distance: Any) -> xr.DataArray:
    """How many tokens back the answer to each prediction of a result stands: [prompt, pos], NaN where nothing is asked.

    The metric at position i is about token i + 1, so it takes the distance of that token.

    Args:
        distance: [prompt, token] as in `neolens.lab.language.documents.Document`: of each token, how many tokens
            before the one that predicts it the answer is; -1 or NaN for tokens that no question asks for.

    Raises:
        ValueError: no result of `neolens.ablate`, one without numbered positions, or distances that do not fit its
            prompts.
    """
    _checked(result)
    if "pos" not in result.dims or result["pos"].dtype.kind not in "iu":
        raise ValueError("the result has no value at each position: ablate with metric=neolens.loss")
    following = result["pos"].values + 1
    tokens = int(result["length"].max()) if "length" in result.coords else int(following.max())
    steps = _distances(distance, (result.sizes["prompt"], tokens))
    padded = np.pad(steps, ((0, 0), (0, 1)), constant_values=np.nan)
    values = padded[:, np.minimum(following, tokens)]
    return xr.DataArray(values, dims=("prompt", "pos"), coords={"pos": result["pos"]}, name="distance")


def by_distance(result: Any, distance: Any, *, metric: Any = None) -> xr.Dataset:
    """The metric laid out by how many tokens back the answer stands: `ablated` [group, prompt, distance] and
    `baseline` [prompt, distance], the mean over a prompt's tokens at that distance, NaN where it has none.

    Args:
        result: of `neolens.ablate`, with a value at each position.
        metric: the name of one, where the result holds several.
        distance: what `of_answers` takes.

    Raises:
        ValueError: what `of_answers` says, no such result or metric, distances at which nothing was measured, or a
            value that is not finite.
    """
    result, _ = of_metric(result, metric)
    steps = of_answers(result, distance).values
    baseline = _baseline(result)
    chosen = ~np.isnan(steps) & ~np.isnan(baseline)
    if not chosen.any():
        raise ValueError("distance asks for no token that the result has a value for: expected distances of 0 or more")
    distances, which = np.unique(steps[chosen].astype(int), return_inverse=True)
    shape = (len(baseline), len(distances))
    cell = np.nonzero(chosen)[0] * len(distances) + which
    tokens = np.bincount(cell, minlength=shape[0] * shape[1])

    def mean(values: Float[np.ndarray, "prompt pos"]) -> Float[np.ndarray, "prompt distance"]:
        sums = np.bincount(cell, weights=values[chosen], minlength=len(tokens))
        return np.divide(sums, tokens, out=np.full(len(tokens), np.nan), where=tokens > 0).reshape(shape)

    kept = np.full(len(baseline), True)
    ablated = [mean(_finite(result, group, chosen, kept)) for group in range(result.sizes["group"])]
    coords = {str(at): values for at, values in result.coords.items() if not {"pos"} & set(values.dims)}
    return results.check(
        xr.Dataset(
            {
                "ablated": (("group", "prompt", "distance"), np.stack(ablated)),
                "baseline": (("prompt", "distance"), mean(baseline)),
            },
            coords=coords | {"distance": distances},
            attrs=result.attrs,
        )
    )


def _checked(result: Any) -> None:
    """Nothing, if it is what `neolens.ablate` gives."""
    results.check(results.check_result(result, "result", ["ablated", "baseline", "group"], (), "neolens.ablate"))
    expected = {"group", "prompt", *({"pos", "metric"} & set(result.dims))}
    if set(result["ablated"].dims) != expected or set(result["baseline"].dims) != expected - {"group"}:
        dims = tuple(map(str, result["ablated"].dims))
        raise ValueError(
            f"ablated has the axes {dims}: expected those of neolens.ablate, group, prompt[, pos][, metric]"
        )


def _distances(distance: Any, shape: tuple[int, int]) -> Float[np.ndarray, "prompt token"]:
    """Distances that can be, NaN where nothing is asked."""
    steps = _shaped(distance, "distance", shape)
    if steps.dtype.kind not in "iuf":
        raise TypeError(f"distance holds {steps.dtype}: expected whole numbers of tokens, -1 where nothing is asked")
    steps = steps.astype(float)
    steps = np.where(steps == -1, np.nan, steps)
    whole = np.isnan(steps) | (np.isfinite(steps) & (steps >= 0) & (np.floor(steps) == steps))
    inside = np.isnan(steps) | (steps < np.arange(shape[1]))
    for fits, expected in (
        (whole, "expected 0, 1, 2, ... or -1"),
        (inside, "nothing stands so far back; give -1 where nothing is asked"),
    ):
        for prompt, at in np.argwhere(~fits):
            raise ValueError(f"distance {steps[prompt, at]:g} of token {at} of prompt {prompt}: {expected}")
    return steps


def _by_pos(values: xr.DataArray) -> Float[np.ndarray, "prompt pos"]:
    """The values as float64 by prompt and position, a single position where they have none."""
    ordered = values.transpose("prompt", "pos", missing_dims="ignore").values.astype(float)
    return ordered[:, None] if ordered.ndim == 1 else ordered


def _baseline(result: xr.Dataset) -> Float[np.ndarray, "prompt pos"]:
    """The metric of the run as it is: a number, or NaN where there is none."""
    values = _by_pos(result["baseline"])
    for prompt, at in np.argwhere(np.isinf(values)):
        raise ValueError(f"the baseline of prompt {prompt} is {values[prompt, at]} at position {at}: expected a number")
    return values


def _finite(
    result: xr.Dataset, group: int, chosen: Bool[np.ndarray, "kept pos"], kept: Bool[np.ndarray, " prompt"]
) -> Float[np.ndarray, "kept pos"]:
    """What the metric was without one group, finite wherever it counts."""
    values = _by_pos(result["ablated"].isel(group=group))[kept]
    if (wrong := np.argwhere(chosen & ~np.isfinite(values))).size:
        row, at = wrong[0]
        prompt, name = np.flatnonzero(kept)[row], str(result["group"].values[group])
        raise ValueError(
            f"with group {name!r} ablated the metric is {values[row, at]} at prompt {prompt}, position {at}: expected "
            "a finite number wherever the baseline has one"
        )
    return values


def _shaped(values: Any, what: str, shape: tuple[int, int]) -> np.ndarray:
    """An array or a labelled array [prompt, pos] of that shape."""
    if isinstance(values, xr.DataArray):
        if set(values.dims) != {"prompt", "pos"}:
            raise ValueError(f"{what} has the axes {tuple(map(str, values.dims))}: expected prompt and pos")
        values = values.transpose("prompt", "pos").values
    try:
        array = np.asarray(values)
    except (TypeError, RuntimeError) as error:
        raise TypeError(f"{what} {shown(values)}: expected an array (prompt, pos) = {shape}") from error
    except ValueError as error:
        raise ValueError(f"{what} has rows of several lengths: expected (prompt, pos) = {shape}, padded") from error
    if array.shape != shape:
        raise ValueError(f"{what} has the shape {array.shape}: expected (prompt, pos) = {shape}")
    return array


def _listed(names: Any) -> list[str]:
    """The names that an attribute holds, as JSON or as one word."""
    try:
        held = json.loads(str(names))
    except json.JSONDecodeError:
        held = str(names)
    return [str(name) for name in held] if isinstance(held, list) else [str(held)]
