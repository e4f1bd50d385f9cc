"""What figures are drawn from: results of one or several models, their variables and axes checked in one place.

A figure states what it needs as a mapping from a variable to its axes, such as `{"share": "prompt layer head"}`; an
axis with a question mark may be missing. Every error names the result, what was expected, and where such results come
from.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Any

import numpy as np
import xarray as xr

from neolens.checks import Head, check_choice, check_head, check_text, check_whole, did_you_mean, shown
from neolens.checks.labels import check_axes, fits_axes
from neolens.results import check_result

Results = xr.Dataset | Mapping[str, xr.Dataset] | Sequence[xr.Dataset]
Needs = Mapping[str, str]
"""Variable -> its axes, separated by spaces; one that ends in a question mark may be missing."""

KINDS = ("global", "local")
POSITION_KINDS = ("absolute", "rotary", "none")
HEADS = "prompt layer head"
"""Axes of the scores of heads."""


def checked(
    value: Any, what: str, needs: Needs, source: str, coords: Sequence[str] = (), attrs: Sequence[str] = ()
) -> xr.Dataset:
    """The result itself, if it has the variables with these axes, and these coordinates and attributes.

    Raises:
        TypeError: no dataset, or a variable that does not hold numbers.
        ValueError: one without a variable, coordinate or attribute, or with other axes.
    """
    result = check_result(value, what, [*needs, *coords], source=source)
    for name, axes in needs.items():
        check_axes(result[name], what, axes, source)
        if bool(np.isinf(result[name].values).any()):
            raise ValueError(f"{what}: {name} is infinite somewhere: expected finite numbers, or NaN where undefined")
    if missing := [name for name in attrs if name not in result.attrs]:
        raise ValueError(f"{what} without the attribute {missing[0]}: expected the result of {source}, as returned")
    if "window" in attrs:
        check_whole(result.attrs["window"], f"{what}: its attribute window", 1)
    if "attention_kind" in coords and result["attention_kind"].dims == ("layer",):
        for kind in result["attention_kind"].values:
            check_choice(str(kind), f"kind of attention in {what}", KINDS)
    return result


def by_model(
    results: Any,
    needs: Needs | None = None,
    source: str = "a function of neolens",
    coords: Sequence[str] = (),
    attrs: Sequence[str] = (),
) -> dict[str, xr.Dataset]:
    """The results under the names of their models, each checked.

    Args:
        results: one result, a list of several, or a dict from a name to a result.

    Raises:
        TypeError: none of these.
        ValueError: no result, two of a list with the same name, or one that lacks something (see `checked`).
    """
    if isinstance(results, Mapping) and not isinstance(results, xr.Dataset):
        named = [(check_text(name, "name of a model"), f"results[{name!r}]", one) for name, one in results.items()]
    elif _is_list(results):
        named = [(_model(one), f"results[{number}]", one) for number, one in enumerate(results)]
    elif isinstance(results, xr.Dataset):
        named = [(_model(results), "result", results)]
    else:
        raise TypeError(
            f"results {shown(results)}: expected the result of {source}, a list of several, "
            "or a dict from the name of a model to its result"
        )
    models = {name: checked(one, what, needs or {}, source, coords, attrs) for name, what, one in named}
    if not models:
        raise ValueError(f"no results to draw: expected at least one result of {source}")
    names = [name for name, *_ in named]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"several results are named {', '.join(repeated)}: pass a dict from a name to a result")
    return models


def holding(results: Any, *options: Needs, source: str, coords: Sequence[str] = ()) -> dict[str, xr.Dataset]:
    """The results that have all variables of one of the options, by model, each with a `seed` axis; others are left
    out, for a measure may not apply to every model.

    Raises:
        TypeError: no results.
        ValueError: none that has them, or one with other axes or without the anatomy of its model.
    """
    models, every = {}, by_model(results, source=source)
    for name, one in every.items():
        needs = next((option for option in options if all(variable in one for variable in option)), None)
        if needs is not None:
            models[name] = checked(one, name, needs, source, coords, ["anatomy"])
            position_kind(one, name)
    if not models:
        needed = " or ".join(" and ".join(option) for option in options)
        name, first = next(iter(every.items()))
        raise ValueError(f"no result holds {needed}: expected the result of {source}; {name} has {listed(first)}")
    return {name: _with_seeds(one) for name, one in models.items()}


def _with_seeds(result: xr.Dataset) -> xr.Dataset:
    if "seed" not in result.dims:
        return result.expand_dims(seed=[0])
    return result if "seed" in result.coords else result.assign_coords(seed=range(result.sizes["seed"]))


def position_kind(result: xr.Dataset, name: str = "result") -> str:
    """How the model of a result encodes positions: absolute, rotary or none."""
    position = anatomy_of(result, name).get("position")
    kind = position.get("kind") if isinstance(position, dict) else None
    if kind not in POSITION_KINDS:
        raise ValueError(f"{name}: its attribute anatomy names no position encoding: expected a result as returned")
    return str(kind)


def anatomy_of(result: xr.Dataset, name: str = "result") -> dict[str, Any]:
    """What the attribute anatomy of a result says."""
    try:
        anatomy = json.loads(result.attrs["anatomy"])
    except (KeyError, TypeError, ValueError):
        anatomy = None
    if not isinstance(anatomy, dict):
        raise ValueError(f"{name} without a valid attribute anatomy: expected a result as returned, attributes kept")
    return anatomy


def check_head_of(head: Any, result: xr.Dataset | xr.DataArray, name: str) -> Head:
    """A head that a result has, as (layer, head).

    Raises:
        TypeError: neither (layer, head) nor text such as "3.7".
        ValueError: no such head.
    """
    layers, heads = ([int(number) for number in result[axis].values] for axis in ("layer", "head"))
    layer, number = check_head(head, max(layers) + 1, max(heads) + 1, name)
    if layer not in layers or number not in heads:
        raise ValueError(
            f"no head {layer}.{number} in {name}: it has layers {listed(layers)} and heads {listed(heads)}"
        )
    return layer, number


def check_defined(values: xr.DataArray, over: Sequence[str], name: str) -> None:
    """Refuse values of which no maximum can be taken.

    Raises:
        ValueError: all values along the axes `over` are NaN.
    """
    if not bool(values.notnull().any(list(over)).all()):
        raise ValueError(f"{name}: {values.name} is NaN in every {' and '.join(over)}: there is nothing to draw")


def listed(names: Iterable[Any], most: int = 8) -> str:
    """The first names, with an ellipsis for others."""
    several = [str(name) for name in names]
    return ", ".join([*several[:most], *["..."] * (len(several) > most)]) or "nothing"


def scores_of(models: Mapping[str, xr.Dataset]) -> list[str]:
    """The scores of heads that any of the results has."""
    return list(dict.fromkeys(str(name) for one in models.values() for name in one if _is_score(one[name])))


def check_score(score: Any, models: Mapping[str, xr.Dataset]) -> str:
    """The name of a score of heads that one of the results has.

    Raises:
        TypeError: not a string.
        ValueError: no such score, or a variable with other axes.
    """
    present = {name: one[score] for name, one in models.items() if isinstance(score, str) and score in one.data_vars}
    for name, values in present.items():
        check_axes(values, name, HEADS, "neolens.attention")
    return score if present else check_choice(score, "score", scores_of(models))


def metrics_of(result: xr.Dataset) -> list[str]:
    """The names of the metrics of a result; none where it does not name them."""
    if "metric" in result.dims:
        return [str(name) for name in result["metric"].values]
    try:
        names = json.loads(str(result.attrs.get("metric", "[]")))
    except ValueError:  # the name itself
        names = [result.attrs["metric"]]
    return [str(name) for name in names] if isinstance(names, list) else [str(names)]


def check_metric(metric: Any, result: xr.Dataset) -> str:
    """The name of a metric of a result; None is its only one.

    Raises:
        TypeError: not a string.
        ValueError: none of several, or another one.
    """
    names = metrics_of(result) or ["metric"]
    if metric is None and len(names) == 1:
        return names[0]
    if metric is not None and not isinstance(metric, str):
        raise TypeError(f"metric {shown(metric)}: expected its name, such as {names[0]!r}")
    if metric not in names:
        chosen = f"choose a metric: the result holds {', '.join(names)}, got {metric!r}"
        hint = did_you_mean(metric, names).strip()
        raise ValueError(f"{chosen}{hint and f'; {hint}'}")
    return metric


def mean_over_prompts(result: xr.Dataset, variable: str) -> xr.DataArray:
    """The variable averaged over prompts, those without a value left out."""
    return result[variable].mean("prompt", skipna=True)


def _model(result: Any) -> str:
    return check_text(getattr(result, "attrs", {}).get("model", "model"), "attribute model of a result")


def _is_list(results: Any) -> bool:
    single = isinstance(results, xr.Dataset | xr.DataArray | str | bytes | Set) or getattr(results, "ndim", 1) == 0
    return isinstance(results, Iterable) and not single


def _is_score(values: xr.DataArray) -> bool:
    return fits_axes(values, HEADS) and values.dtype.kind in "biuf"
