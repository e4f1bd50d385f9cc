"""Points with their intervals in rows under each other: filled where they are told apart, hollow where not."""

from __future__ import annotations

from collections.abc import Sequence

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
