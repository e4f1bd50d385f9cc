"""Axes of distances: logarithmic, with distance 0 on them, a mark where a window ends, bins for what is far.

Contexts differ by a factor of 16, so distance d stands at log(d + 1), and far distances are averaged in geometric bins.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import plotly.graph_objects as go
import xarray as xr
from jaxtyping import Int

from neolens.figures.style import LOCAL_COLOUR
from neolens.near_far import of_results

_BINS_PER_DECADE = 32  # single distances up to about 13
_TICKS = 9


def distance_edges(distances: int, windows: Iterable[int]) -> Int[np.ndarray, " edge"]:
    """First distance of each bin, and the end: single distances, then geometric bins, cut at each window."""
    steps = np.geomspace(1, distances + 1, 2 + round(_BINS_PER_DECADE * math.log10(distances + 1)))
    cuts = [window for window in windows if window < distances]
    return np.unique([0, distances, *(np.round(steps).astype(int) - 1), *cuts])


def distance_axis(distances: int, title: str) -> dict[str, object]:
    """An axis on which distance d stands at log(d + 1)."""
    base = 2 if math.log2(max(distances, 2)) < _TICKS else 4
    marks = [0, 1, *(base**power for power in range(1, 30) if base**power < distances)]
    return {
        "type": "log",
        "tickvals": [mark + 1 for mark in marks],
        "ticktext": [str(mark) for mark in marks],
        "range": [-0.03, math.log10(distances + 1) + 0.02],
        "title_text": title,
    }


def mark_window(figure: go.Figure, window: int, place: Mapping[str, int], label: str | None = None) -> None:
    """A dashed line on a distance axis at the first distance out of a window, or out of what `label` names."""
    line = {"color": LOCAL_COLOUR, "dash": "dash", "width": 1.5}
    figure.add_vline(x=window + 1, line=line, **place)
    text = {"text": label or f"window {window}", "font": {"color": LOCAL_COLOUR, "size": 12}, "showarrow": False}
    at = {
        "x": math.log10(window + 1),
        "y": 1,
        "yref": "y domain",
        "xanchor": "left",
        "yanchor": "top",
        "xshift": 4,
    }
    figure.add_annotation(**text, **at, **place)


class WindowAxis:
    """Distances side by side, and the window between two of them."""

    def __init__(self, results: Any) -> None:
        several = list(results)
        self.distances = sorted({int(distance) for result in several for distance in result["distance"].values})
        self.window = int(several[0].attrs["window"])
        self.split = of_results(several)

    def x(self, result: xr.Dataset) -> list[float]:
        """Where a result's distances stand."""
        return [float(self.distances.index(int(distance))) for distance in result["distance"].values]

    def draw(self, figure: go.Figure, place: Mapping[str, int], *, title: bool = True, label: bool = True) -> None:
        """The axis with its labels, and the window."""
        figure.update_xaxes(
            tickvals=list(range(len(self.distances))),
            ticktext=list(map(str, self.distances)),
            range=[-0.5, len(self.distances) - 0.5],
            title_text="distance (tokens)" if title else None,
            showgrid=False,
            zeroline=False,
            **place,
        )
        at = sum(distance < self.window for distance in self.distances) - 0.5
        figure.add_vline(x=at, line={"color": LOCAL_COLOUR, "dash": "dash", "width": 1.5}, **place)
        if label:
            text = {"text": self.split.mark, "font": {"color": LOCAL_COLOUR, "size": 12}, "showarrow": False}
            figure.add_annotation(**text, x=at, y=0.5, yref="y domain", xanchor="left", xshift=4, **place)
