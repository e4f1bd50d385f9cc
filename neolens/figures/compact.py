"""A figure for half the width of a page, where a report shows it beside its most important findings."""

from __future__ import annotations

import plotly.graph_objects as go

from neolens.checks import check_type, check_whole
from neolens.figures import legends, style

_WIDTH = 540  # pixels
_TITLE, _BELOW = 68, 46  # characters of a line of the title, and pixels for the lowest axis
_LINE, _PANEL_LINE = 19, 15  # pixels: a line of the title, and of the title of a panel
_LEAST = 160


def compact(figure: go.Figure, height: int = 300) -> go.Figure:
    """A copy of a figure for about 540 pixels of width, in smaller letters, without its caption, its legend under the
    axes: `height` pixels high in all. Panels stay side by side.

    Args:
        figure: of a function of `neolens.figures`, of one row of up to three panels.

    Raises:
        TypeError: no plotly figure.
        ValueError: a height of less than 160 pixels.
    """
    check_type(figure, "figure", go.Figure, "what a function of neolens.figures returns")
    check_whole(height, "height", _LEAST, unit="pixels")
    small = go.Figure(figure)
    title = style.broken((small.layout.title.text or "").replace("<br>", " "), _TITLE)
    panels = [str(note.text) for note in small.layout.annotations if style.names_panel(note)]
    above = max((text.count("<br>") + 1 for text in panels), default=0)
    small.update_layout(
        title={
            "text": "<br>".join(title),
            "font": {"size": 14},
            "pad": {"t": 12, "l": 10},
            "x": 0,
            "xref": "container",
        },
        font={"size": 11},
        margin={"l": 58, "r": 12, "t": 16 + _LINE * len(title) + _PANEL_LINE * above, "b": _BELOW},
        height=height,
        meta={"neolens": {"below": _BELOW, "compact": True}},
    )
    small.layout.title.subtitle = None
    small.update_annotations(font_size=11)
    for axis in [*small.select_xaxes(), *small.select_yaxes()]:
        axis.update(title={"font": {"size": 11}, "standoff": 4}, tickfont={"size": 10})
    small.update_traces(textfont={"size": 9}, selector={"type": "heatmap"})
    if small.layout.coloraxis.colorbar.thickness:
        small.layout.coloraxis.colorbar.update(thickness=10, title={"font": {"size": 10}}, tickfont={"size": 10})
    return legends.under(small, _WIDTH, font=11).update_layout(height=height)
