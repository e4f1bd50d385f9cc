"""The figure of the first screen: accuracy by the distance of the answer, as trained and restricted to the window."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import plotly.graph_objects as go
import xarray as xr
from plotly.colors import qualitative
from plotly.subplots import make_subplots

from neolens.figures.distances import WindowAxis
from neolens.figures.style import escape

COLOURS = tuple(qualitative.Safe[at] for at in (1, 3, 0, 9))
APART = 0.07
"""Between models at one distance, whose points would cover each other."""
MOST = 4
"""Models at most: each has two lines, and more than eight in one panel cannot be told from each other."""


def accuracy_by_distance(results: Mapping[str, xr.Dataset], order: Sequence[str] = ()) -> go.Figure:
    """The share of prompts whose answer is the most likely token, by how far back it is: a solid line as trained, and a
    dotted one with every layer restricted to the window; means over seeds.

    Args:
        results: model -> what `at_distances` gave for one task.
        order: the models to show first; `MOST` of all are shown.
    """
    names = list(dict.fromkeys([*(name for name in order if name in results), *results]))[:MOST]
    figure = make_subplots(1, 1)
    axis = WindowAxis([results[name] for name in names])
    for at, (name, colour) in enumerate(zip(names, COLOURS, strict=False)):
        result = results[name]
        x = [place + APART * (at - (len(names) - 1) / 2) for place in axis.x(result)]
        for variable, dash, label in (("rank", "solid", ""), ("rank_all_local", "dot", ", restricted")):
            share = (result[variable] == 0).mean(("seed", "prompt"))
            line = {"color": colour, "dash": dash, "width": 2.5}
            figure.add_scatter(x=x, y=share.values, name=f"{escape(name)}{label}", line=line)
    axis.draw(figure, {"row": 1, "col": 1})
    figure.update_yaxes(range=[-0.04, 1.06], title_text="accuracy")
    figure.update_xaxes(title_text="distance of the answer (tokens)")
    return figure.update_layout(
        template="plotly_white",
        height=310,
        margin={"l": 55, "r": 10, "t": 30, "b": 45},
        title={"text": "<b>Accuracy by distance</b>; dotted: every layer restricted", "font_size": 14, "x": 0.02},
        legend={"orientation": "h", "y": -0.28, "font_size": 11},
    )
