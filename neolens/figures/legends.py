"""Legends: every name once, and below the axes where many or long names have room.

How many rows of names a legend below takes depends on the width of the page. The figure is as high as they need on one
of the usual width; on a narrower one the legend grows upwards.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from neolens.figures import style
from neolens.figures.tidy import plain

_ROW, _GROUPED, _PADDING = 19, 10, 10  # pixels: a row of names, more where names are of groups, and under the last
_WIDTH, _LETTER, _MARK = 880, 7.2, 50  # pixels: of a page's drawing, of a letter, and of a mark with its gaps


def once(figure: go.Figure, order: Sequence[str] = ()) -> go.Figure:
    """The figure with every name in the legend once, and none of a trace without a point.

    Args:
        order: names that come first in the legend, in this order.
    """
    for trace in figure.data:
        if trace.name in order:
            trace.legendrank = 1 + list(order).index(trace.name)
    shown: set[str] = set()
    for trace in figure.data:
        if trace.showlegend is None:
            drawn = trace.y is not None and len(trace.y) and bool(np.isfinite(np.asarray(trace.y, float)).any())
            trace.showlegend = bool(drawn) and trace.name not in shown
            shown |= {trace.name} if drawn else set()
    return figure


def below(figure: go.Figure) -> go.Figure:
    """A styled figure with its legend under the lowest axis; its caption then has the whole width."""
    return under(style.caption_over(figure, beside_legend=False))


def under(figure: go.Figure, width: int = _WIDTH, font: int = 13) -> go.Figure:
    """The figure with its legend under the lowest axis, and higher by as much as that takes.

    Args:
        width: of the drawing, in pixels.
        font: its size.
    """
    room = _room(figure, width)
    at = {"font": {"size": font}} | {
        "y": 0,
        "yref": "container",
        "yanchor": "bottom",
        "x": 0,
        "xref": "paper",
        "xanchor": "left",
    }
    under = figure.layout.margin.b + room
    return figure.update_layout(legend=at, margin_b=under, height=figure.layout.height + room)


def _room(figure: go.Figure, drawing: int) -> int:
    """Pixels that the names take, in rows as they fill them; a single one has no legend in plotly, unless asked for."""
    named = [trace for trace in figure.data if trace.name and trace.showlegend is not False]
    if len(named) < 2 and not (figure.layout.showlegend or any(trace.showlegend for trace in named)):
        return 0
    rows, filled = 1, 0.0
    for width in (_MARK + _LETTER * len(plain(trace.name)) for trace in named):
        if filled and filled + width > drawing:
            rows, filled = rows + 1, 0.0
        filled += width
    return rows * (_ROW + _GROUPED * any(trace.legendgroup for trace in named)) + _PADDING
