"""Several metrics of one sweep: under each other, each on a scale of its own, for their units differ."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go
import xarray as xr
from plotly.subplots import make_subplots

from neolens.ablation.effects import heads_grid
from neolens.checks import check_bool
from neolens.figures import style
from neolens.figures.ablation import ABLATED, ablation_groups, ablation_heads
from neolens.figures.inputs import checked
from neolens.figures.patch_heatmap import SWEPT, patch_heatmap
from neolens.figures.style import escape

_BETWEEN = 96  # pixels, for the axis of one and the title of the next


def by_metric(result: xr.Dataset, *, recovered: bool = False) -> go.Figure:
    """What `patch_heatmap`, `ablation_heads` or, of other groups, `ablation_groups` draws, for every metric.

    Args:
        result: of `neolens.patch` or `neolens.ablate` with several metrics.
        recovered: of a patch, the share that it restores, which makes metrics comparable.

    Raises:
        TypeError, ValueError: something else, or one metric only.
    """
    check_bool(recovered, "recovered")
    patched = isinstance(result, xr.Dataset) and "patched" in result
    source = "neolens.patch or neolens.ablate with several metrics"
    checked(result, "result", SWEPT if patched else ABLATED, source, ["metric", "attention_kind"])
    metrics = [str(metric) for metric in result["metric"].values]
    if patched:
        parts = [patch_heatmap(result, metric=metric, recovered=recovered) for metric in metrics]
    else:
        draw = ablation_heads if _single_heads(result) else ablation_groups
        parts = [draw(result, metric=metric) for metric in metrics]
    figure = _stacked(parts)
    title = str(parts[0].layout.title.text).split("</b>")[0] + f"</b> ({', '.join(map(_named, metrics))})"
    caption = str(parts[0].layout.title.subtitle.text).replace("<br>", " ")
    height = sum(_inner(part) for part in parts) + _BETWEEN * (len(parts) - 1)
    return style.style(figure, title, caption, height)


def _single_heads(result: xr.Dataset) -> bool:
    try:
        heads_grid(result.isel(metric=0, drop=True).mean([axis for axis in ("prompt", "pos") if axis in result.dims]))
    except ValueError:
        return False
    return True


def _stacked(parts: Sequence[go.Figure]) -> go.Figure:
    """The figures under each other, each with its own title, axes and colours."""
    heights = [_inner(part) for part in parts]
    whole = sum(heights) + _BETWEEN * (len(parts) - 1)
    figure = make_subplots(
        len(parts),
        1,
        subplot_titles=[str(part.layout.title.text).partition("</b> ")[2].strip("()") for part in parts],
        row_heights=[height / sum(heights) for height in heights],
        vertical_spacing=_BETWEEN / whole,
    )
    for row, part in enumerate(parts, start=1):
        axis = "" if row == 1 else str(row)
        low, high = figure.layout[f"yaxis{axis}"].domain
        for trace in part.data:
            if trace.type == "heatmap":
                trace.colorbar.update(y=(low + high) / 2, len=high - low, yanchor="middle", thickness=14)
            figure.add_trace(trace.update(showlegend=False), row=row, col=1)
        for name in ("xaxis", "yaxis"):
            figure.layout[f"{name}{axis}"].update(_without(part.layout[name].to_plotly_json(), "anchor", "domain"))
        for note in part.layout.annotations:
            figure.add_annotation(note.update(yref=f"y{axis}"))
        for shape in part.layout.shapes:
            figure.add_shape(shape.update(xref=f"x{axis}", yref=f"y{axis} domain"))
    return figure


def _inner(part: go.Figure) -> int:
    return int(part.layout.height - part.layout.margin.t - part.layout.margin.b)


def _without(axis: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in axis.items() if name not in names}


def _named(metric: str) -> str:
    return escape(metric.replace("_", " "))
