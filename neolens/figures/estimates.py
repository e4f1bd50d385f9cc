"""Estimates under each other: a mean over seeds with its 95 % interval, filled where it is told apart from 0."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import plotly.graph_objects as go

from neolens.figures import style
from neolens.figures.style import CELL, INK, escape
from neolens.seeds import CORRECTION, Estimate, corrected


def estimates(found: Mapping[str, Any], *, quantity: str = "estimate", unit: str = "") -> go.Figure:
    """Each estimate with its 95 % interval, from top to bottom, filled where its corrected p is below 0.05; one of a
    single seed has no interval, one of none is left blank.

    Args:
        found: name -> what `neolens.seeds.estimate` or `compared` gives.
        quantity: what is estimated, for the title.

    Raises:
        ValueError: nothing to draw, or something else.
    """
    if not found or not all(isinstance(one, Estimate) for one in found.values()):
        raise ValueError("expected a name -> what neolens.seeds.estimate or neolens.seeds.compared gives, one or more")
    adjusted = corrected(found)
    mean, low, high = (np.array([getattr(one, name) for one in found.values()]) for name in ("mean", "low", "high"))
    beside = [(escape(name), lo, hi, one.n, adjusted[name]) for (name, one), lo, hi in zip(found.items(), low, high)]
    figure = go.Figure(
        go.Scatter(
            x=mean,
            y=list(range(len(found))),
            error_x={"array": high - mean, "arrayminus": mean - low, "color": INK, "thickness": 1.5, "width": 0},
            customdata=beside,
            meta=["name", "low", "high", "seeds", "corrected p"],
            mode="markers",
            marker={
                "color": [INK if p < 0.05 else "white" for p in adjusted.values()],
                "size": 9,
                "line": {"color": INK, "width": 1.5},
            },
            showlegend=False,
            hovertemplate="%{customdata[0]}: %{x:.3g}<br>95 %: %{customdata[1]:.3g} to %{customdata[2]:.3g}, "
            "n = %{customdata[3]}<br>corrected p: %{customdata[4]:.2g}<extra></extra>",
        )
    )
    figure.add_vline(x=0, line={"color": INK, "width": 1})
    figure.update_yaxes(
        tickvals=list(range(len(found))),
        ticktext=[escape(name) for name in found],
        range=[len(found) - 0.5, -0.5],
        showgrid=False,
        zeroline=False,
        automargin=True,
    )
    written = f"{escape(quantity)}{f' ({escape(unit)})' if unit else ''}"
    figure.update_xaxes(title_text=written, zeroline=False)
    most = max(one.n for one in found.values())
    caption = (
        f"Means over seeds, up to {most}, with Student's 95 % intervals. Filled: told apart from 0, p below 0.05 "
        f"corrected for {len(found)} ({CORRECTION}); hollow: not."
    )
    title = f"<b>{escape(quantity[:1].upper() + quantity[1:])}</b>{f' ({escape(unit)})' if unit else ''}"
    style.style(figure, title, caption, CELL * len(found) + 40)
    return figure.update_layout(title_xref="container", title_pad_l=20)
