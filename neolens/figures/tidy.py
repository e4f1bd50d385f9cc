"""The numbers of a figure as a table: one row for each value that is drawn, in words and numbers as a reader sees them.

A place on an axis is read as its labels say: the category that it stands at or beside, the distance d that stands at
d + 1. What a figure tells of a point besides is in the trace's `customdata`; the names of its columns are the trace's
`meta`, and a column that has the name of an axis takes its place. The ends of a band are columns `low` and `high` of
the line that it belongs to. An axis without a title is `x` or `value`, and left out where such a column says the same.
Where panels have values of different units, the trace itself names a column `value`, and one for the model or the unit;
it then takes the place of the axis that it repeats.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from neolens.checks import shown

VALUE, LOW, HIGH = "value", "low", "high"
"""The columns of a value and of the ends of its interval; the last two are also the `meta` of the traces of a band."""

_UNTITLED = {"x": "x", "y": "value"}
_TITLE_END, _BREAK, _TAG = re.compile(r"</b>\s*<br\s*/?>"), re.compile(r"<br\s*/?>"), re.compile(r"<[^<>]*>")


def data(figure: Any) -> pd.DataFrame:
    """What the figure draws: columns `panel` and `series`, the axes under their titles, and `low`, `high` and others
    where there are some; markup is text again, and what is not drawn has no row.

    Raises:
        TypeError: no plotly figure.
    """
    if not isinstance(figure, go.Figure):
        raise TypeError(f"{shown(figure)} is no figure: expected what a function of neolens.figures returns")
    parts, ends = [], {}
    for trace in figure.data:
        if trace.meta in (LOW, HIGH):
            ends[trace.meta] = np.asarray(trace.y, float)
            continue
        table = _map(figure, trace) if trace.type == "heatmap" else _points(figure, trace, ends)
        series = "" if {"model", VALUE} <= set(table) else plain(trace.name or trace.legendgroup or "")
        where = {"panel": _panel(figure, trace), "series": series}
        parts.append(pd.DataFrame(where | table))
        ends = {}
    parts += [pd.DataFrame(row, index=[0]) for row in _levels(figure)]
    drawn = [part for part in parts if len(part)] or [pd.DataFrame({"panel": [], "series": []})]
    whole = pd.concat(drawn, ignore_index=True)
    return whole.drop(columns=[name for name in ("panel", "series") if whole[name].eq("").all()])


def plain(label: object) -> str:
    """A label without markup, its entities as the characters that they stand for."""
    return html.unescape(_TAG.sub("", _BREAK.sub(" ", _TITLE_END.sub(", ", str(label))))).strip()


def _points(figure: go.Figure, trace: Any, ends: dict[str, np.ndarray]) -> dict[str, Any]:
    """The columns of the points or bars of a trace, with the band before it."""
    across, up = _axis(figure, trace, "x"), _axis(figure, trace, "y")
    x, y = (np.asarray(() if values is None else values).ravel() for values in (trace.x, trace.y))
    if not len(x):
        x = np.arange(len(y))
    drawn = np.array([not _missing(one) and not _missing(other) for one, other in zip(x, y)], bool)
    axes = {_title(figure, across, "x"): _read(across, x), _title(figure, up, "y"): _read(up, y)}
    columns = _with_besides(axes, _besides(trace, len(x)))
    for values, bars in ((x, trace.error_x), (y, trace.error_y)):
        if bars.array is not None and LOW not in columns:
            more = np.asarray(bars.array, float)
            less = more if bars.arrayminus is None else np.asarray(bars.arrayminus, float)
            columns |= {LOW: values.astype(float) - less, HIGH: values.astype(float) + more}
    columns |= {name: values for name, values in ends.items() if len(values) == len(x) and name not in columns}
    return {name: pd.Series(values)[drawn] for name, values in columns.items()}


def _with_besides(axes: dict[str, np.ndarray], besides: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The columns of the axes and those besides; an axis without a title that repeats another column is left out, and
    so is any axis that repeats a column beside a column `value`."""
    told = [list(values) for values in besides.values()]
    if VALUE in besides:
        kept = {name: values for name, values in axes.items() if list(values) not in told}
        return {name: values for name, values in kept.items() if name not in besides} | besides
    untitled = set(_UNTITLED.values())
    told += [list(values) for name, values in axes.items() if name not in untitled]
    kept = {name: values for name, values in axes.items() if name not in untitled or list(values) not in told}
    return kept | besides


def _map(figure: go.Figure, trace: Any) -> dict[str, Any]:
    """The columns of the cells of a heatmap."""
    z = np.asarray(trace.z, float)
    across, up = _axis(figure, trace, "x"), _axis(figure, trace, "y")
    x = np.arange(z.shape[1]) if trace.x is None else np.asarray(trace.x)
    y = np.arange(z.shape[0]) if trace.y is None else np.asarray(trace.y)
    shared = figure.layout[trace.coloraxis] if trace.coloraxis else None
    bar = trace.colorbar if shared is None else shared.colorbar
    columns = {
        _title(figure, across, "x"): np.tile(_read(across, x), len(y)),
        _title(figure, up, "y"): np.repeat(_read(up, y), len(x)),
        plain(bar.title.text or figure.layout.title.text or "value"): z.ravel(),
    }
    columns |= _besides(trace, z.size)
    return {name: pd.Series(values)[~np.isnan(z.ravel())] for name, values in columns.items()}


def _besides(trace: Any, points: int) -> dict[str, np.ndarray]:
    """The columns of `customdata` that `meta` names."""
    if not points or trace.customdata is None or not isinstance(trace.meta, Sequence) or isinstance(trace.meta, str):
        return {}
    cells = np.asarray(trace.customdata, dtype=object).reshape(points, -1)
    return {str(name): _column(cells[:, at]) for at, name in enumerate(trace.meta) if name}


def _column(cells: np.ndarray) -> np.ndarray:
    """Numbers as numbers, anything else as plain text."""
    if all(isinstance(cell, int | float | np.number) and not isinstance(cell, bool) for cell in cells):
        return cells.astype(float if any(isinstance(cell, float | np.floating) for cell in cells) else int)
    return np.array([plain(cell) for cell in cells], dtype=object)


def _read(axis: Any, places: np.ndarray) -> np.ndarray:
    """What stands at the places of an axis, as its labels say."""
    if places.dtype.kind not in "iuf":
        return np.array([plain(place) for place in places], dtype=object)
    marks, labels = axis.tickvals, axis.ticktext
    if marks is None or labels is None or not len(marks) or isinstance(marks[0], str):
        return places
    marks, labels = np.asarray(marks, float), [plain(label) for label in labels]
    numbers = _numbers(labels)
    categories = axis.type != "log" and (len(marks) < 2 or np.allclose(np.diff(marks), 1))
    if numbers is not None and not categories and np.ptp(numbers - marks) < 1e-9:
        return places + (numbers - marks)[0].round(9)
    nearest = np.abs(places[:, None] - marks).argmin(1)
    apart = np.abs(places - marks[nearest])
    beside = apart < 0.5 if categories else apart == 0
    if numbers is not None:
        return np.where(beside, numbers[nearest], places)
    return np.array([labels[at] if its else place for at, its, place in zip(nearest, beside, places)], dtype=object)


def _numbers(labels: Sequence[str]) -> np.ndarray | None:
    try:
        return np.array([float(label) for label in labels])
    except ValueError:
        return None


def _axis(figure: go.Figure, trace: Any, letter: str) -> Any:
    """The axis of a trace."""
    return figure.layout[f"{letter}axis{str(trace[f'{letter}axis'] or letter)[1:]}"]


def _title(figure: go.Figure, axis: Any, letter: str) -> str:
    """The title of an axis, or of one that it stands in line with."""
    if axis.title.text:
        return plain(axis.title.text)
    axes = figure.select_xaxes() if letter == "x" else figure.select_yaxes()
    titled = [one for one in axes if one.title.text]
    in_line = [one for one in titled if _domain(one) == _domain(axis)]
    called = {plain(one.title.text) for one in in_line or titled}
    return called.pop() if len(called) == 1 else _UNTITLED[letter]


def _domain(axis: Any) -> tuple[float, float]:
    low, high = axis.domain or (0.0, 1.0)
    return low, high


def _panel(figure: go.Figure, trace: Any) -> str:
    """The title over a trace's panel: the lowest of those in the middle of its column that do not stand below it."""
    (left, right), (_, top) = (_domain(_axis(figure, trace, letter)) for letter in "xy")
    titles = (note for note in figure.layout.annotations if note.text and note.xref == note.yref == "paper")
    over = [note for note in titles if np.isclose(note.x, (left + right) / 2) and note.y > top - 1e-6]
    return plain(min(over, key=lambda note: note.y).text) if over else ""


def _levels(figure: go.Figure) -> Iterator[dict[str, Any]]:
    """Lines across a panel that have a name."""
    for shape in figure.layout.shapes:
        if shape.name and shape.y0 == shape.y1:
            axis = figure.layout[f"yaxis{(shape.yref or 'y').split()[0][1:]}"]
            yield {"panel": "", "series": plain(shape.name), _title(figure, axis, "y"): shape.y0}


def _missing(value: Any) -> bool:
    return value is None or (isinstance(value, float | np.floating) and bool(np.isnan(value)))
