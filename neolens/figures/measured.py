"""Arms side by side, a panel for each measure: every network a point, the mean over seeds with its 95 % interval; and
what tells arms apart, a row for each measure of each pair."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from neolens.contrasts import Arm, Contrast, Measure, kind
from neolens.figures import style
from neolens.figures.style import CELL, GREY, INK, KIND_COLOURS, LOCAL_COLOUR, POSITION_COLOURS, escape

_COLUMNS = 3
_PAIR_COLOURS = (INK, "#56B4E9", "#E69F00", GREY)
_COLOURS = {**KIND_COLOURS, "global and local": LOCAL_COLOUR, **POSITION_COLOURS}


def measures_by_arm(arms: Sequence[Arm], measures: Mapping[str, Measure], question: str) -> go.Figure:
    """Every measure of every arm: small points are networks, a large one their mean, its bar Student's 95 % interval.

    Arms are in the colour of what they answer to the question: the kind of their positions, or whether they have local
    layers. A measure that no arm has is left out.

    Args:
        question: "attention" or "position".

    Raises:
        ValueError: no arms, or none that has any of the measures.
    """
    there = {name: its for name, its in measures.items() if any(one.estimate(its).n for one in arms)}
    if not there:
        raise ValueError("no arm has any of the measures: expected at least one that has a number to draw")
    rows = math.ceil(len(there) / _COLUMNS)
    height = rows * (CELL * len(arms) + 96)
    titles = ["<br>".join(textwrap.wrap(f"{escape(its.title)}", 44)) for its in there.values()]
    figure = make_subplots(
        rows, min(_COLUMNS, len(there)), subplot_titles=titles, shared_yaxes="all", horizontal_spacing=0.04,
        vertical_spacing=min(0.9 / max(rows - 1, 1), 96 / height),
    )  # fmt: skip
    for number, measure in enumerate(there.values()):
        place = {"row": number // _COLUMNS + 1, "col": number % _COLUMNS + 1}
        for one in arms:
            figure.add_traces(_points(one, measure, question), rows=place["row"], cols=place["col"])
        figure.update_xaxes(title={"text": escape(measure.unit), "font": {"size": 11}}, **place)
    figure.update_yaxes(type="category", autorange="reversed", automargin=True)
    figure.update_annotations(font={"size": 12, "color": INK}, selector={"showarrow": False})
    kinds = ", ".join(f"{escape(one.name)} ({kind(one.facts, question)})" for one in arms)
    caption = f"{kinds}. Small points: networks, one a seed; large: their mean, with Student's 95 % interval."
    style.style(figure, f"<b>Arms side by side: {question}</b>", caption, height=height)
    return figure.update_layout(showlegend=False, title_xref="container", title_pad_l=20)


def differences_by_measure(compared: Sequence[Contrast]) -> go.Figure:
    """What tells two arms apart: the difference of each measure over what the two measure between them, with its 95 %
    interval; filled where the corrected p is below 0.05.

    The differences of measures of different units are put on one axis by dividing each by the largest value by size
    that any network of the two arms has: 1 is as large as the measure itself.

    Raises:
        ValueError: nothing to draw.
    """
    if not compared:
        raise ValueError("nothing was compared: expected differences of arms, of neolens.contrasts.contrasts")
    titles = {one.measure: one.what.title for one in compared}
    pairs = list(dict.fromkeys((one.one.name, one.other.name) for one in compared))
    figure = go.Figure()
    for number, pair in enumerate(pairs):
        its = [one for one in compared if (one.one.name, one.other.name) == pair]
        offset = 0.22 * (number - (len(pairs) - 1) / 2)
        rows = [list(titles).index(one.measure) + offset for one in its]
        figure.add_trace(_forest(its, rows, " less ".join(map(escape, pair)), _PAIR_COLOURS[number % 4]))
    figure.add_vline(x=0, line={"color": INK, "width": 1})
    labels = ["<br>".join(textwrap.wrap(escape(title), 56)) for title in titles.values()]
    figure.update_yaxes(
        tickvals=list(range(len(titles))),
        ticktext=labels,
        range=[len(titles) - 0.5, -0.5],
        automargin=True,
        zeroline=False,
    )
    figure.update_xaxes(title_text="difference, as a share of the largest value of the two arms", zeroline=False)
    caption = (
        "Differences seed by seed, with Student's 95 % interval; filled: p below 0.05, corrected for all of them "
        "(Benjamini and Hochberg). The unit of each is on hover."
    )
    lines = max(label.count("<br>") + 1 for label in labels)
    height = len(titles) * (max(CELL, 18 * lines + 6) + 12 * (len(pairs) - 1)) + 40
    style.style(figure, "<b>What tells arms apart</b>", caption, height=height)
    figure.update_layout(showlegend=True, title_xref="container", title_pad_l=20)
    return style.legend_below(figure)


def _points(one: Arm, measure: Measure, question: str) -> list[go.Scatter]:
    values = one.values(measure)
    its, name = one.estimate(measure), escape(one.name)
    called = f"{name} ({kind(one.facts, question)})"
    if values is None or not its.n:
        return [go.Scatter(x=[None], y=[name], showlegend=False, hoverinfo="skip")]
    colour = _COLOURS[kind(one.facts, question)]
    seeds = values.values[np.isfinite(values.values)]
    half = its.high - its.mean
    bar = {"type": "data", "array": [half if np.isfinite(half) else 0.0], "color": colour, "thickness": 1.5, "width": 4}
    small = {"color": colour, "size": 5, "opacity": 0.45}
    shown = {"y": [name] * len(seeds), "mode": "markers", "showlegend": False}
    whole = {"y": [name], "mode": "markers", "showlegend": False, "error_x": bar}
    points = go.Scatter(x=seeds, **shown, marker=small, name=f"{called}, networks")
    mean = go.Scatter(x=[its.mean], **whole, marker={"color": colour, "size": 9}, name=called)
    return [
        points.update(hovertemplate="%{x:.4g}<extra>%{y}</extra>"),
        mean.update(hovertemplate=f"%{{x:.4g}} (n = {its.n})<extra>%{{y}}</extra>"),
    ]


def _forest(compared: Sequence[Contrast], rows: Sequence[float], name: str, colour: str) -> go.Scatter:
    scale = np.array([_largest(one) for one in compared])
    mean, low, high = (
        np.array([getattr(one.difference, end) for one in compared]) / scale for end in ("mean", "low", "high")
    )
    told = [
        [escape(one.what.title), one.difference.mean, escape(one.what.unit), one.difference.n, one.p_adjusted]
        for one in compared
    ]
    return go.Scatter(
        x=mean,
        y=rows,
        mode="markers",
        name=name,
        customdata=told,
        meta=["measure", "difference", "unit", "seeds", "corrected p"],
        error_x={"array": high - mean, "arrayminus": mean - low, "color": colour, "thickness": 1.5, "width": 3},
        marker={
            "color": [colour if one.told_apart else "white" for one in compared],
            "size": 9,
            "line": {"color": colour, "width": 1.5},
        },
        hovertemplate="%{customdata[0]}: %{customdata[1]:.3g} %{customdata[2]}, n = %{customdata[3]}<br>corrected p: "
        "%{customdata[4]:.2g}<extra>%{fullData.name}</extra>",
    )


def _largest(one: Contrast) -> float:
    """The largest value by size of any network of the two arms."""
    values = [arm.values(one.what) for arm in (one.one, one.other)]
    sizes = [float(np.nanmax(np.abs(each.values))) for each in values if each is not None and each.notnull().any()]
    return max([*sizes, np.finfo(float).tiny])
