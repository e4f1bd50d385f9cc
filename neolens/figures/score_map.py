"""Every head at its place: a layer-by-head map of one score, the layers labelled with their kind.

The way in which TransformerLens and the papers on induction and name-mover heads show which heads do what.
Shares go from 0 to 1, everything else from 0 to the largest value, on one scale for all models, so that equal
colours mean equal numbers; a head without a value is blank.
"""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go
import xarray as xr

from neolens.figures import maps, style
from neolens.figures.inputs import Results, by_model, check_score, mean_over_prompts
from neolens.figures.style import KIND_COLOURS, escape

_CELL, _SMALLEST_CELL, _HEIGHT = 46, 16, 480  # pixels: a layer, a layer of a deep model, a figure at most
_BETWEEN = 84  # pixels between rows of panels, for an axis and a title
_LABELLED = 16  # heads side by side, at most, for a number in every cell


def heads(results: Results, score: str) -> go.Figure:
    """One score of every head, averaged over the prompts: a row for each layer, a panel for each model.

    Raises:
        TypeError, ValueError: no results, others, or one without such a score.
    """
    models = by_model(results, source="neolens.attention", coords=["layer", "head", "attention_kind"])
    for name, result in models.items():
        check_score(score, {name: result})
    models, empty = maps.with_values({name: (result, result[score]) for name, result in models.items()})
    means = [mean_over_prompts(result, score).transpose("layer", "head") for result in models.values()]
    largest = max((float(values.max()) for values in means if values.notnull().any()), default=1.0)
    deepest, rows = max(values.sizes["layer"] for values in means), -(-len(models) // style.PANELS_PER_ROW)
    height = rows * max(min(deepest * _CELL, _HEIGHT), deepest * _SMALLEST_CELL) + (rows - 1) * _BETWEEN
    figure, places = style.panels(models, horizontal_spacing=0.1, vertical_spacing=_BETWEEN / height)
    labelled = sum(values.sizes["head"] for values in means[: places[-1]["col"]]) <= _LABELLED
    for name, result, values, place in zip(models, models.values(), means, places, strict=True):
        figure.add_trace(_heatmap(name, values, labelled, largest), **place)
        label_layers(figure, result, place)
    figure.update_yaxes(title_text="layer", col=1)
    colourbar = {"thickness": 14, "outlinewidth": 0}
    top = 1 if style.meaning(score).share else largest or 1
    figure.update_layout(coloraxis={"colorscale": "Viridis", "cmin": 0, "cmax": top, "colorbar": colourbar})
    return style.style(figure, style.title(score), style.caption(models) + empty, height)


def _heatmap(name: str, values: xr.DataArray, labelled: bool, largest: float) -> go.Heatmap:
    digits = 2 if largest < 10 else 1 if largest < 100 else 0
    cells = [[_written(value, digits) for value in row] for row in values.values]
    return go.Heatmap(
        x=values["head"].values,
        y=values["layer"].values,
        z=values.values,
        text=cells if labelled else None,
        texttemplate="%{text}" if labelled else None,
        customdata=[[f"{layer}.{head}" for head in values["head"].values] for layer in values["layer"].values],
        hovertemplate="head %{customdata}: %{z:.4f}<extra></extra>",
        hoverongaps=False,
        coloraxis="coloraxis",
        name=escape(name),
        xgap=2,
        ygap=2,
    )


def _written(value: float, digits: int) -> str:
    """The text in a cell: blank without a value, 0 only where it is exact."""
    return "" if np.isnan(value) else "0" if value == 0 else f"{value:.{digits}f}"


def label_layers(figure: go.Figure, result: xr.Dataset, place: dict[str, int], *, shown: bool = True) -> None:
    """Layers from top to bottom with their kind and window in the colour of the kind, heads from left to right."""
    layers, heads = result["layer"].values, result["head"].values
    labels = []
    for layer in layers:
        kind = style.span(result, int(layer))
        labels.append(f'{layer} <span style="color:{KIND_COLOURS[kind.split()[0]]}">{kind}</span>')
    rows = {
        "tickvals": layers,
        "ticktext": labels,
        "range": [len(layers) - 0.5, -0.5],
        "showticklabels": shown,
    }
    figure.update_yaxes(**rows, matches=None, showgrid=False, zeroline=False, **place)
    every = 1 + (len(heads) - 1) // 16
    figure.update_xaxes(tickvals=heads[::every], title_text="head", showgrid=False, zeroline=False, **place)
