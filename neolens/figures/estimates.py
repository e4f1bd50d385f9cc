"""Estimates in rows: a mean over seeds with its 95 % interval, filled where it differs significantly from 0; two or
three seeds are points of their own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import plotly.graph_objects as go

from neolens.checks import check_text, shown
from neolens.figures import points, style
from neolens.figures.style import CELL, INK, escape
from neolens.stats import ALPHA
from neolens.stats.seeds import CORRECTION, FEW, Estimate, adjust_p_values


def estimates(found: Mapping[str, Any], *, quantity: str = "estimate", unit: str = "") -> go.Figure:
    """Each estimate with its 95 % interval, from top to bottom, filled where its corrected p is below 0.05; one of a
    single seed has no interval, one of none is left blank. Two or three seeds are drawn as small points.

    Args:
        found: name -> what `neolens.stats.seeds.mean_ci` or `paired_difference` gives.
        quantity: what is estimated, for the title.

    Raises:
        TypeError: something else.
        ValueError: nothing to draw.
    """
    expected = "expected a name -> Estimate of neolens.stats.seeds.mean_ci or paired_difference, one or more"
    if not isinstance(found, Mapping):
        raise TypeError(f"found {shown(found)}: {expected}")
    if not found or not all(isinstance(one, Estimate) for one in found.values()):
        raise ValueError(f"found {shown(found)}: {expected}")
    check_text(quantity, "quantity", example="estimate")
    check_text(unit, "unit", empty=True)
    adjusted = adjust_p_values(found)
    figure = go.Figure([*_seeds(found), _points(found, adjusted)])
    figure.add_vline(x=0, line={"color": INK, "width": 1})
    points.name_rows(figure, [escape(name) for name in found])
    written = f" ({escape(unit)})" if unit else ""
    drawn = [value for one in found.values() for value in (one.mean, one.low, one.high, *one.values)]
    limits = points.limits(drawn, zero=True)
    figure.update_xaxes(title_text=f"{escape(quantity)}{written}", zeroline=False, range=limits)
    title = f"<b>{escape(quantity[:1].upper() + quantity[1:])}</b>{written}"
    style.style(figure, title, _caption(found, adjusted), CELL * len(found) + 40)
    return figure.update_layout(title_xref="container", title_pad_l=20)


def _points(found: Mapping[str, Estimate], adjusted: Mapping[str, float]) -> go.Scatter:
    """A point for each estimate, in rows."""
    mean, low, high = (np.array([getattr(one, end) for one in found.values()]) for end in ("mean", "low", "high"))
    sure = np.array(list(adjusted.values())) < ALPHA
    drawn = points.with_intervals(mean, low, high, range(len(found)), sure, INK)
    names, seeds = [escape(name) for name in found], [one.n for one in found.values()]
    return drawn.update(
        customdata=list(zip(names, low, high, seeds, adjusted.values(), strict=True)),
        meta=["name", "low", "high", "seeds", "corrected p"],
        showlegend=False,
        hovertemplate="%{customdata[0]}: %{x:.3g}<br>95 %: %{customdata[1]:.3g} to %{customdata[2]:.3g}, "
        "n = %{customdata[3]}<br>corrected p: %{customdata[4]:.2g}<extra></extra>",
    )


def _seeds(found: Mapping[str, Estimate]) -> list[go.Scatter]:
    """The seeds of estimates that have two or three, behind their means."""
    few = [(row, name, one.values) for row, (name, one) in enumerate(found.items()) if 1 < len(one.values) <= FEW]
    if not few:
        return []
    drawn = [(value, row, escape(name)) for row, name, values in few for value in values]
    values, rows, names = zip(*drawn, strict=True)
    return [
        go.Scatter(
            x=values,
            y=rows,
            mode="markers",
            name="seeds",
            marker={"color": INK, "size": 5, "opacity": 0.45},
            customdata=[[name] for name in names],
            meta=["seed of"],
            showlegend=False,
            hovertemplate="%{customdata[0]}, a seed: %{x:.3g}<extra></extra>",
        )
    ]


def _caption(found: Mapping[str, Estimate], adjusted: Mapping[str, float]) -> str:
    most, tested = max(one.n for one in found.values()), int(np.isfinite(list(adjusted.values())).sum())
    means = f"Means over seeds, up to {most}"
    small = " Small points: the seeds, where there are two or three." if _seeds(found) else ""
    if not tested:
        return f"{means}; none is of two seeds or more, which an interval and a test need."
    rest = "hollow: not" if tested == len(found) else "hollow: not, or of too few seeds for a test"
    return (
        f"{means}, with Student's 95 % intervals. Filled: told apart from 0, p below 0.05 corrected for {tested} "
        f"({CORRECTION}); {rest}.{small}"
    )
