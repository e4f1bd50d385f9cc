"""Maps that diverge around 0, by layer and one more axis: layers carry kind and window, and the colour of the kind."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import plotly.graph_objects as go
import xarray as xr

from neolens.checks import check_number
from neolens.figures.style import KIND_COLOURS, escape, span


def layer_map(
    result: xr.Dataset, values: xr.DataArray, across: str, *, limit: float, unit: str, colours: str, **cells: Any
) -> go.Figure:
    """A map that diverges around 0, by layer and one more axis: layers carry kind and window, and the kind's colour.

    Args:
        result: whose layers have their kind and window.
        values: by `layer` and `across`.
        limit: the value, by size, at which the colours end.
        colours: of `neolens.figures.style.diverging`.
        cells: of the plotly heatmap besides.
    """
    layers = [f"{int(layer)} {span(result, layer)}" for layer in values["layer"].values.tolist()]
    drawn = go.Heatmap(
        z=values.transpose("layer", across).values,
        x=list(range(values.sizes[across])),
        y=layers,
        zmin=-limit,
        zmax=limit,
        colorscale=colours,
        colorbar={"title": {"text": unit}},
        hoverongaps=False,
        **cells,
    )
    figure = go.Figure(drawn)
    figure.update_yaxes(title_text="layer", type="category", autorange="reversed", showgrid=False, ticklabelstandoff=10)
    for layer, kind in zip(layers, result.sel(layer=values["layer"].values)["attention_kind"].values, strict=True):
        mark = {"text": "▌", "font": {"color": KIND_COLOURS[str(kind)]}, "showarrow": False}
        figure.add_annotation(x=0, xref="paper", xanchor="right", xshift=2, y=layer, **mark)
    return figure


def with_values(
    results: Mapping[str, tuple[xr.Dataset, xr.DataArray]],
) -> tuple[dict[str, xr.Dataset], str]:
    """The results whose values are not all undefined, or all where none is; and a sentence on those left out.

    Args:
        results: name -> a result and what is drawn of it.
    """
    there = {name: result for name, (result, values) in results.items() if bool(values.notnull().any())}
    empty = [escape(name) for name in results if name not in there]
    if not there or not empty:
        return {name: result for name, (result, _) in results.items()}, ""
    return there, f". Not drawn: {', '.join(empty)}, where no head has a value"


def limit_above_0(limit: float | None, values: xr.DataArray) -> float:
    """The limit of a map's colours: the one that is given, or the largest value by size.

    Raises:
        TypeError, ValueError: one that is not above 0.
    """
    if limit is not None:
        return check_number(limit, "limit", above=0, remedy="the effect at which the colours end")
    return largest(values) or 1.0


def largest(values: xr.DataArray | np.ndarray) -> float:
    """The largest finite value by size; 0 where there is none."""
    sizes = np.abs(np.asarray(values))
    return float(sizes[np.isfinite(sizes)].max(initial=0.0))
