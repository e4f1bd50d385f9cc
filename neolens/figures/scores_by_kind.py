"""Local against global, head by head: a point for every head, grouped by model and kind of layer.

A mean alone hides that a score such as induction is carried by a few heads, so every head is shown beside the
mean of its group. Within a group the layers stand from left to right; nothing is placed at random.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
import xarray as xr
from plotly.subplots import make_subplots

from neolens.checks import check_list, shown
from neolens.figures import style
from neolens.figures.inputs import Results, by_model, check_score, mean_over_prompts, scores_of
from neolens.figures.style import KIND_COLOURS, SCORES, escape

_COLUMNS = 3
_HALF_WIDTH, _APART = 0.15, 0.4  # of a group, and between the groups of one model
_FITTING, _SLANTED = 32, 4.2  # letters of names that stand side by side, and pixels down of a letter where more slant


def scores_by_kind(results: Results, scores: Sequence[str] | None = None) -> go.Figure:
    """Each score of each head, averaged over the prompts, by model and kind of layer: a panel for each score.

    `scores` defaults to all that any of the results has; a model without a score has no points in its panel.

    Raises:
        TypeError, ValueError: no results, others, or a score that none of them has.
    """
    models = by_model(results, source="neolens.attention", coords=["layer", "head", "attention_kind"])
    chosen = _chosen(models, scores)
    columns = min(_COLUMNS, len(chosen))
    rows = math.ceil(len(chosen) / columns)
    titles = [f"<b>{style.meaning(score).title}</b><br>{style.meaning(score).unit}" for score in chosen]
    slanted = _SLANTED * max(map(len, models)) if sum(map(len, models)) > _FITTING else 0
    height = round(250 + slanted) * rows
    spacing = {"vertical_spacing": (85 + slanted) / height if rows > 1 else 0.0, "horizontal_spacing": 0.07}
    figure = make_subplots(rows, columns, subplot_titles=titles, **spacing)
    figure.update_annotations(font_size=13)
    shown: set[str] = set()
    for index, score in enumerate(chosen):
        place = {"row": index // columns + 1, "col": index % columns + 1}
        for trace in _groups(models, score):
            trace.showlegend = trace.mode == "markers" and trace.legendgroup not in shown
            shown.add(trace.legendgroup)
            figure.add_trace(trace, **place)
        share = style.meaning(score).share
        figure.update_yaxes(range=[-0.03, 1.03] if share else None, rangemode="tozero", **place)
    names: dict[str, Any] = {"tickvals": list(range(len(models))), "ticktext": [escape(name) for name in models]}
    names |= {"tickangle": 40 if slanted else 0}
    figure.update_xaxes(**names, range=[-0.55, len(models) - 0.45], showgrid=False, zeroline=False)
    title = "<b>Scores of the heads by kind of layer</b>"
    caption = f"{style.caption(models)}. A point is a head, first layers left; a bar is the mean."
    return style.style(figure, title, caption, height=height)


def _chosen(models: dict[str, xr.Dataset], scores: Sequence[str] | None) -> list[str]:
    present = scores_of(models)
    listed = [scores] if isinstance(scores, str) else scores
    chosen = (
        [check_score(score, models) for score in SCORES if score in present]
        if listed is None
        else [check_score(score, models) for score in check_list(listed, "scores", "names", example="['induction']")]
    )
    if not chosen:
        has = ", ".join(present[:8]) or "no scores of heads"
        raise ValueError(f"scores {shown(scores)}: expected at least one, such as 'induction'; the results have {has}")
    return chosen


def _groups(models: dict[str, xr.Dataset], score: str) -> list[go.Scatter]:
    """The points and the mean of every group, models from left to right."""
    traces = []
    for position, (name, result) in enumerate(models.items()):
        if score not in result.data_vars:
            continue
        values = mean_over_prompts(result, score).transpose("layer", "head")
        groups = list(style.layers_by_kind(result))
        for index, (kind, layers) in enumerate(groups):
            centre = position + (index - (len(groups) - 1) / 2) * _APART
            traces += [
                _points(values.sel(layer=layers), kind, name, centre),
                _mean(values.sel(layer=layers), kind, name, centre),
            ]
    return traces


def _points(values: xr.DataArray, kind: str, model: str, centre: float) -> go.Scatter:
    layers, heads = values["layer"].values, values["head"].values
    across = np.linspace(-_HALF_WIDTH, _HALF_WIDTH, len(layers)) if len(layers) > 1 else np.zeros(1)
    return go.Scatter(
        x=np.repeat(centre + across, len(heads)),
        y=values.values.ravel(),
        customdata=[
            [escape(model), f"{layer}.{head}", kind, int(layer), int(head)] for layer in layers for head in heads
        ],
        meta=["model", None, "kind of layer", "layer", "head"],
        hovertemplate="%{customdata[0]} %{customdata[1]} (%{customdata[2]}): %{y:.4f}<extra></extra>",
        mode="markers",
        marker={
            "color": KIND_COLOURS[kind],
            "size": 7,
            "opacity": 0.6,
            "line": {"width": 0.5, "color": "white"},
        },
        name=f"{kind} layers",
        legendgroup=kind,
    )


def _mean(values: xr.DataArray, kind: str, model: str, centre: float) -> go.Scatter:
    return go.Scatter(
        x=[centre - _HALF_WIDTH - 0.03, centre + _HALF_WIDTH + 0.03],
        y=[float(values.mean(skipna=True))] * 2,
        customdata=[[escape(model), kind]] * 2,
        meta=["model", "kind of layer"],
        hovertemplate=f"mean of the {kind} heads: %{{y:.4f}}<extra></extra>",
        mode="lines",
        line={"color": KIND_COLOURS[kind], "width": 3},
        name=f"mean, {kind}",
        legendgroup=kind,
    )
