"""The first figure: what ablating the layers of each kind adds to the loss, compared with as many random heads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import plotly.graph_objects as go

from neolens.figures import legends, points, style
from neolens.figures.ablation_labels import KINDS as COLOURS
from neolens.figures.style import CONTROL_COLOUR, GLOBAL_COLOUR, INK, escape
from neolens.studies.head_ablation.comparisons import KINDS, Compared
from neolens.studies.head_ablation.summary import Needs

ROW = 44
"""Pixels per condition."""

ROWS = {"beyond": "copies, far", "cut": "copies, far, masked", "inside": "copies, near", "text": "text"}
"""Condition -> its row; far is beyond the window, and masked heads only lose the keys there."""

RANDOM = "as many random heads"


def kinds_beside_random(needs: Mapping[str, Needs]) -> go.Figure:
    """The effect of ablating each kind of layer on the loss, with its 95 % interval, and of as many random heads: the
    mean of the draws, and a line from the lowest to the highest. A panel per model.

    Args:
        needs: model -> what it needs its heads for, of one model or more.
    """
    figure, places = style.panels({name: one.text for name, one in needs.items()}, vertical_spacing=0.16)
    for place, one in zip(places, needs.values(), strict=True):
        for trace in _traces(one):
            figure.add_trace(trace, **place)
    figure.add_vline(x=0, line={"color": INK, "width": 1})
    points.name_rows(figure, list(ROWS.values()))
    figure.update_xaxes(zeroline=False, row=places[-1]["row"], title_text="nats per token")
    title = "<b>Increase of the loss without a kind of layer</b>"
    height = (ROW * len(ROWS) + 60 * (len(places) > 1)) * places[-1]["row"]
    style.style(figure, title, "Means over prompts, 95 % intervals.", height)
    figure.update_layout(title_xref="container", title_pad_l=20)
    return legends.below(legends.once(figure))


def _traces(needs: Needs) -> Iterator[go.Scatter]:
    """A trace per group, and one per set of random heads; each group is a little below the one before."""
    groups = list(dict.fromkeys(row.group for row in needs.compared))
    random = {row.draws: row for row in needs.compared if row.draws}
    for at, group in enumerate(groups):
        rows = [row for row in needs.compared if row.group == group]
        effect, low, high = (np.array([getattr(row, name) for row in rows]) for name in ("effect", "low", "high"))
        yield _points(group, effect, low, high, [_place(row, at, len(groups)) for row in rows])
    for row in random.values():
        mean, ends = np.array([np.mean(row.draws)]), (np.array([min(row.draws)]), np.array([max(row.draws)]))
        yield _points(RANDOM, mean, *ends, [_place(row, len(groups), len(groups))])


def _points(name: str, mean: np.ndarray, low: np.ndarray, high: np.ndarray, rows: list[float]) -> go.Scatter:
    """Points with intervals under one name of the legend."""
    colour = CONTROL_COLOUR if name == RANDOM else COLOURS[name][1] if name in KINDS else GLOBAL_COLOUR
    drawn = points.with_intervals(mean, low, high, rows, np.full(len(mean), name in (RANDOM, *KINDS)), colour)
    label = f"all {name} heads" if name in KINDS else name
    drawn.marker.symbol = "diamond" if "(local in" in name else "circle"
    hover = f"{escape(label)}: %{{x:.3g}}<br>%{{customdata[0]:.3g}} to %{{customdata[1]:.3g}}<extra></extra>"
    ends = list(zip(low, high, strict=True))
    return drawn.update(
        name=escape(label), legendgroup=name, customdata=ends, meta=["low", "high"], hovertemplate=hover
    )


def _place(row: Compared, at: int, groups: int) -> float:
    return list(ROWS).index(row.condition) - 0.3 + 0.6 * at / groups
