"""The figure that answers: the strongest heads of each model, and through which of their inputs they act."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from neolens.figures import legends, points, style
from neolens.figures.style import INK, TASK_COLOURS, escape
from neolens.patching.effects import inputs, of_head, ranked
from neolens.studies.ioi.summary import Circuit

ROWS = 6
"""Heads of all models together, about."""

_SYMBOLS = dict(zip(("q", "k", "v"), ("triangle-up", "square", "diamond")))
_COLOURS = dict(zip(("q", "k", "v"), (*TASK_COLOURS[:2], INK)))


def strongest_heads(circuits: Sequence[Circuit]) -> go.Figure:
    """The share that the output of each strong head moves at the end, with its 95 % interval, and that of its inputs.

    Args:
        circuits: one or more; the strongest heads of each are drawn, `ROWS` in all, but one of each at least.
    """
    each = max(1, ROWS // len(circuits))
    rows = [(one, head) for one in circuits for head in ranked(one.shares["z"].sel(pos="end")["share"])[:each]]
    effects = [of_head(one.shares["z"].sel(pos="end"), head) for one, head in rows]
    share, low, high = (np.array([float(effect[name]) for effect in effects]) for name in ("share", "low", "high"))
    output = points.with_intervals(share, low, high, range(len(rows)), np.ones(len(rows), bool), INK)
    figure = go.Figure(output.update(name="z at end", hovertemplate="z: %{x:.2f}<extra></extra>"))
    by_row = [{source.site: source for source in inputs(one.shares, head)} for one, head in rows]
    for site, symbol in _SYMBOLS.items():
        figure.add_scatter(
            x=[sources[site].share for sources in by_row],
            y=list(range(len(rows))),
            mode="markers",
            name=site,
            marker={"symbol": f"{symbol}-open", "size": 12, "color": _COLOURS[site], "line": {"width": 2}},
            customdata=[[sources[site].position] for sources in by_row],
            meta=["position"],
            hovertemplate=f"{site} at %{{customdata[0]}}: %{{x:.2f}}<extra></extra>",
        )
    figure.add_vline(x=0, line={"color": INK, "width": 1})
    points.name_rows(figure, [escape(f"{one.result.attrs['model']} {head}") for one, head in rows])
    figure.update_xaxes(title_text="share of the logit difference", zeroline=False)
    title = "<b>What the strongest heads move</b> (share)"
    style.style(figure, title, "Mean over prompts.", style.CELL * len(rows) + 30)
    return legends.below(figure.update_layout(title_xref="container", title_pad_l=20))
