"""Variants side by side, a panel per measure: every network a point, the mean over seeds with its 95 % interval; and
differences between variants, a row for each measure of each pair."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import plotly.graph_objects as go
import xarray as xr
from plotly.subplots import make_subplots

from neolens.checks import check_choice, check_list, check_type, shown
from neolens.figures import legends, points, style
from neolens.figures.style import CELL, GREY, INK, KIND_COLOURS, LOCAL_COLOUR, POSITION_COLOURS, escape
from neolens.figures.tidy import VALUE
from neolens.stats.contrasts import Contrast, Measure, Variant, kind
from neolens.stats.contrasts.differences import KINDS
from neolens.stats.seeds import FEW

T = TypeVar("T")

_COLUMNS = 3
_PAIR_COLOURS = (INK, "#56B4E9", "#E69F00", GREY)
_PAIR_MARKS = ("circle", "square", "diamond", "triangle-up", "cross", "star")
_MOST_PAIRS = len(_PAIR_COLOURS) * len(_PAIR_MARKS)
_COLOURS = {**KIND_COLOURS, "global and local": LOCAL_COLOUR, **POSITION_COLOURS}


def measures_by_variant(variants: Sequence[Variant], measures: Mapping[str, Measure], question: str) -> go.Figure:
    """Every measure of every variant: small points are networks, the large one their mean with Student's 95 % interval.

    The colour of a variant is its kind of position encoding, or whether it has local layers. A
    measure that no variant has is left out.

    Args:
        question: "attention" or "position".

    Raises:
        TypeError, ValueError: no variants, or none that has any of the measures.
    """
    check_choice(question, "question", KINDS)
    variants = _all(variants, "variants", Variant, "networks of one architecture, of neolens.stats.contrasts.Variant")
    if not isinstance(measures, Mapping):
        raise TypeError(f"measures {shown(measures)}: expected a dict from a name to a neolens.stats.contrasts.Measure")
    _all(list(measures.values()), "measures", Measure, "neolens.stats.contrasts.Measure")
    there = {name: its for name, its in measures.items() if any(one.estimate(its).n for one in variants)}
    if not there:
        raise ValueError("no variant has any of the measures: expected at least one that has a number to draw")
    rows = math.ceil(len(there) / _COLUMNS)
    height = rows * (CELL * len(variants) + 96)
    titles = ["<br>".join(textwrap.wrap(f"{escape(its.title)}", 44)) for its in there.values()]
    figure = make_subplots(
        rows, min(_COLUMNS, len(there)), subplot_titles=titles, shared_yaxes="all", horizontal_spacing=0.04,
        vertical_spacing=min(0.9 / max(rows - 1, 1), 96 / height),
    )  # fmt: skip
    for number, measure in enumerate(there.values()):
        place = {"row": number // _COLUMNS + 1, "col": number % _COLUMNS + 1}
        for one in variants:
            figure.add_traces(_points(one, measure, question), rows=place["row"], cols=place["col"])
        limits = _limits(variants, measure)
        figure.update_xaxes(title={"text": escape(measure.unit), "font": {"size": 11}}, range=limits, **place)
    figure.update_yaxes(type="category", autorange="reversed", automargin=True)
    figure.update_annotations(font={"size": 12, "color": INK}, selector={"showarrow": False})
    kinds = ", ".join(f"{escape(one.name)} ({kind(one.anatomy, question)})" for one in variants)
    caption = f"{kinds}. Small points: networks, one per seed; large: their mean, with Student's 95 % interval."
    style.style(figure, f"<b>Variants side by side: {question}</b>", caption, height=height)
    return figure.update_layout(showlegend=False, title_xref="container", title_pad_l=20)


def differences_by_measure(compared: Sequence[Contrast]) -> go.Figure:
    """How two variants differ: the difference of each measure as a share of its largest value, with its 95 % interval,
    and those of two or three seeds; filled where the corrected p is below 0.05. Pairs differ in their colour,
    and from the fifth on in their mark; beyond 24 these come again, and the caption says so.

    The differences of measures of different units are put on one axis by dividing each by the largest value by size
    that any network of the two variants has: 1 is as large as the measure itself.

    Raises:
        TypeError, ValueError: nothing to draw.
    """
    compared = _all(compared, "compared", Contrast, "the differences of variants, of neolens.stats.contrasts.contrasts")
    if not compared:
        raise ValueError("nothing was compared: expected differences of variants, of neolens.stats.contrasts.contrasts")
    titles = {one.measure: one.what.title for one in compared}
    pairs = list(dict.fromkeys((one.first.name, one.second.name) for one in compared))
    figure = go.Figure()
    for number, pair in enumerate(pairs):
        its = [one for one in compared if (one.first.name, one.second.name) == pair]
        offset = min(0.22, 0.8 / len(pairs)) * (number - (len(pairs) - 1) / 2)
        rows = [list(titles).index(one.measure) + offset for one in its]
        name = " less ".join(map(escape, pair))
        figure.add_traces([_forest(its, rows, name, number), *_of_seeds(its, rows, name, number)])
    figure.add_vline(x=0, line={"color": INK, "width": 1})
    labels = ["<br>".join(textwrap.wrap(escape(title), 56)) for title in titles.values()]
    points.name_rows(figure, labels)
    figure.update_yaxes(showgrid=True)
    figure.update_xaxes(title_text="difference, as a share of the largest value of the two variants", zeroline=False)
    caption = (
        "Differences seed by seed, with Student's 95 % interval; small points: the seeds, where there are up to three; "
        "filled: p below 0.05, corrected for all of them (Benjamini and Hochberg). The unit of each is on hover."
    )
    if len(pairs) > _MOST_PAIRS:
        caption += (
            f" Colours and marks come again after {_MOST_PAIRS} of the {len(pairs)} pairs: each is named on hover."
        )
    lines = max(label.count("<br>") + 1 for label in labels)
    height = len(titles) * (max(CELL, 18 * lines + 6) + 12 * (len(pairs) - 1)) + 40
    style.style(figure, "<b>Differences between variants</b>", caption, height=height)
    figure.update_layout(showlegend=True, title_xref="container", title_pad_l=20)
    return legends.below(figure)


def _all(values: Any, what: str, kind: type[T], expected: str) -> list[T]:
    """Values of one type."""
    listed = check_list(values, what, expected)
    for number, value in enumerate(listed):
        check_type(value, f"{what}[{number}]", kind, expected)
    return listed


def _points(one: Variant, measure: Measure, question: str) -> list[go.Scatter]:
    values, its, name = one.values(measure), one.estimate(measure), escape(one.name)
    if values is None or not its.n:
        return [go.Scatter(x=[None], y=[name], showlegend=False, hoverinfo="skip")]
    called, unit = f"{name} ({kind(one.anatomy, question)})", escape(measure.unit)
    colour = _COLOURS[kind(one.anatomy, question)]
    seeds = values[np.isfinite(values.values)]
    small = {"color": colour, "size": 5, "opacity": 0.45}
    less, more = (0.0 if np.isnan(end) else abs(end - its.mean) for end in (its.low, its.high))
    bar = {"array": [more], "arrayminus": [less], "color": colour, "thickness": 1.5, "width": 4}
    networks = go.Scatter(
        name=f"{called}, networks",
        x=seeds.values,
        y=[name] * seeds.size,
        marker=small,
        customdata=[[name, seed, value, unit, np.nan, np.nan] for seed, value in zip(_seeds(seeds), seeds.values)],
        hovertemplate="seed %{customdata[1]}: %{x:.4g}<extra>%{fullData.name}</extra>",
    )
    mean = go.Scatter(
        name=called,
        x=[its.mean],
        y=[name],
        error_x=bar,
        marker={"color": colour, "size": 9},
        customdata=[[name, np.nan, its.mean, unit, its.low, its.high]],
        hovertemplate=f"%{{x:.4g}} (n = {its.n})<extra>%{{fullData.name}}</extra>",
    )
    told = {"mode": "markers", "showlegend": False, "meta": ["model", "seed", VALUE, "unit", "low", "high"]}
    return [networks.update(told), mean.update(told)]


def _limits(variants: Sequence[Variant], measure: Measure) -> tuple[float, float] | None:
    """The range of the axis of a measure: networks and intervals, within what the measure can be."""
    networks = [values.values.ravel() for one in variants if (values := one.values(measure)) is not None]
    ends = [getattr(one.estimate(measure), end) for one in variants for end in ("low", "high")]
    return points.limits(np.concatenate([*networks, ends]), bounds=measure.bounds)


def _seeds(values: xr.DataArray) -> list[int]:
    return [int(seed) for seed in values["seed"].values] if "seed" in values.coords else list(range(values.size))


def _forest(compared: Sequence[Contrast], rows: Sequence[float], name: str, number: int) -> go.Scatter:
    """The differences of one pair, in the colour and the mark of its number."""
    scale = np.array([_largest(one) for one in compared])
    mean, low, high = (
        np.array([getattr(one.difference, end) for one in compared]) / scale for end in ("mean", "low", "high")
    )
    told = [
        [escape(one.what.title), one.difference.mean, escape(one.what.unit), one.difference.n, one.p_adjusted]
        for one in compared
    ]
    colour, mark = _PAIR_COLOURS[number % len(_PAIR_COLOURS)], number // len(_PAIR_COLOURS) % len(_PAIR_MARKS)
    drawn = points.with_intervals(mean, low, high, rows, np.array([one.significant for one in compared]), colour)
    return drawn.update(
        name=name,
        marker_symbol=_PAIR_MARKS[mark],
        customdata=told,
        meta=["measure", "difference", "unit", "seeds", "corrected p"],
        hovertemplate="%{customdata[0]}: %{customdata[1]:.3g} %{customdata[2]}, n = %{customdata[3]}<br>corrected p: "
        "%{customdata[4]:.2g}<extra>%{fullData.name}</extra>",
    )


def _of_seeds(compared: Sequence[Contrast], rows: Sequence[float], name: str, number: int) -> list[go.Scatter]:
    """A small point for each seed of the differences of few seeds, whose interval says little."""
    few = [(one, row) for one, row in zip(compared, rows) if 1 < len(one.difference.values) <= FEW]
    told = [
        [value / _largest(one), row, escape(one.what.title), value, escape(one.what.unit)]
        for one, row in few
        for value in one.difference.values
    ]
    if not told:
        return []
    return [
        go.Scatter(
            x=[point[0] for point in told],
            y=[point[1] for point in told],
            name=f"{name}, seeds",
            customdata=[point[2:] for point in told],
            meta=["measure", "difference", "unit"],
            mode="markers",
            marker={"color": _PAIR_COLOURS[number % len(_PAIR_COLOURS)], "size": 4, "opacity": 0.45},
            showlegend=False,
            hovertemplate="%{customdata[0]}: %{customdata[1]:.3g} %{customdata[2]}<extra>%{fullData.name}</extra>",
        )
    ]


def _largest(one: Contrast) -> float:
    """The largest value by size of any network of the two variants."""
    values = [variant.values(one.what) for variant in (one.first, one.second)]
    sizes = [float(np.nanmax(np.abs(each.values))) for each in values if each is not None and each.notnull().any()]
    return max([*sizes, np.finfo(float).tiny])
