"""Points with their intervals in rows under each other: filled where they are told apart, hollow where not."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Bool, Float

Places = Float[np.ndarray, " point"]
Sure = Bool[np.ndarray, " point"]


def with_intervals(
    mean: Places, low: Places, high: Places, rows: Sequence[int | float], sure: Sure, colour: str
) -> go.Scatter:
    """A point at each mean, with a line from `low` to `high`: filled where it is sure, hollow where not.

    Args:
        rows: where each stands from top to bottom.
    """
    return go.Scatter(
        x=mean,
        y=list(rows),
        error_x={"array": high - mean, "arrayminus": mean - low, "color": colour, "thickness": 1.5, "width": 0},
        mode="markers",
        marker={
            "color": [colour if one else "white" for one in sure],
            "size": 9,
            "line": {"color": colour, "width": 1.5},
        },
    )


def name_rows(figure: go.Figure, labels: Sequence[str]) -> None:
    """Rows from top to bottom under their labels, which are markup."""
    figure.update_yaxes(
        tickvals=list(range(len(labels))),
        ticktext=list(labels),
        range=[len(labels) - 0.5, -0.5],
        showgrid=False,
        zeroline=False,
        automargin=True,
    )


def limits(
    values: Any, *, zero: bool = False, bounds: tuple[float | int, float | int] = (-math.inf, math.inf)
) -> tuple[float, float] | None:
    """The range of an axis for some values, also for a single one; within what is possible, None without a value.

    Args:
        zero: whether 0 is on the axis.
        bounds: the least and the largest possible value.
    """
    numbers = np.asarray(values, float).ravel()
    numbers = np.concatenate([numbers[np.isfinite(numbers)], [0.0] * zero])
    if not numbers.size:
        return None
    low, high = float(numbers.min()), float(numbers.max())
    beyond = 0.05 * (high - low) or 0.1 * max(abs(low), abs(high)) or 0.1
    low, high = low - beyond, high + beyond
    room = 0.03 * (high - low)  # for a point at a bound
    return max(low, bounds[0] - room), min(high, bounds[1] + room)


def names_of_strongest(x: Places, y: Places, names: Sequence[str], width: float, most: int = 4) -> list[str]:
    """The names of the points with the largest `y` by size, for those that have room for it; else empty.

    Args:
        width: of the axis across.
        most: names, at most.
    """
    shown = [""] * len(names)
    height = float(np.ptp(np.append(y[np.isfinite(y)], 0.0)))
    for at in np.argsort(-np.abs(np.nan_to_num(y)), kind="stable").tolist():
        there = [other for other, name in enumerate(shown) if name]
        apart = all(abs(x[at] - x[one]) > 0.12 * width or abs(y[at] - y[one]) > 0.07 * height for one in there)
        if apart and len(there) < most and np.isfinite(y[at]):
            shown[at] = names[at]
    return shown
