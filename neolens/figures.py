"""Labelled results as plotly figures: where heads look, how far, and how local layers differ from global ones.

Every function here takes what `neolens.attention` returned, for one model or for several (a mapping from a name to a
result, or a list of results that name their model), and returns a figure; it shows nothing and saves nothing.
Local and global layers have the same two colours everywhere (Okabe and Ito's vermillion and blue, told apart with
any colour vision). Probabilities are drawn from 0 to 1, everything else from 0; a cell without a value is blank.
"""

from __future__ import annotations

import difflib
import html
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go
import xarray as xr
from jaxtyping import Float, Int
from plotly.subplots import make_subplots

GLOBAL_COLOUR = "#0072B2"
LOCAL_COLOUR = "#D55E00"
KIND_COLOURS: dict[str, str] = {"global": GLOBAL_COLOUR, "local": LOCAL_COLOUR}

Results = xr.Dataset | Mapping[str, xr.Dataset] | Sequence[xr.Dataset]

_INK, _FAINT = "#1f2933", "#7b8794"
_FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
_DECADES = 7  # how far below the largest value a log axis goes
_BINS_PER_DECADE = 32  # single distances up to about 13, then geometric bins


@dataclass(frozen=True)
class Score:
    """How one score is written: its title, its unit, and whether it lies between 0 and 1."""

    title: str
    unit: str
    share: bool = False


SCORES: dict[str, Score] = {
    "previous_token": Score("Attention to the previous token", "mean probability", share=True),
    "current_token": Score("Attention to the token itself", "mean probability", share=True),
    "duplicate_token": Score(
        "Attention to the earlier copy (duplicate token)", "mean probability", share=True
    ),
    "induction": Score(
        "Attention to the token after the earlier copy (induction)", "mean probability", share=True
    ),
    "sink": Score("Attention to the first token (sink)", "mean probability", share=True),
    "mean_distance": Score("Mean distance of attention", "tokens"),
    "mean_distance_without_key_0": Score("Mean distance of attention, first token left out", "tokens"),
    "entropy": Score("Entropy of attention", "nats"),
    "entropy_normalised": Score("Entropy of attention, share of the largest possible", "0 to 1", share=True),
}


def escape(text: str) -> str:
    """`text` for a plotly label, so that markup, entities and TeX in it are shown as they stand."""
    return html.escape(text, quote=True).replace("$", "&#36;")


def heads(results: Results, score: str) -> go.Figure:
    """One score of every head, averaged over the prompts: a row for each layer, a panel for each model.

    Raises:
        ValueError: a result has no such score.
    """
    models = _by_model(results)
    means = {name: _mean_over_prompts(result, score) for name, result in models.items()}
    meaning = _meaning(score)
    top = max((float(values.max()) for values in means.values() if values.notnull().any()), default=1.0)
    layers, widest = (max(values.sizes[axis] for values in means.values()) for axis in ("layer", "head"))
    figure = make_subplots(rows=1, cols=len(models), horizontal_spacing=0.33 / (1 + len(models)))
    for column, (name, values) in enumerate(means.items(), start=1):
        figure.add_trace(_heatmap(name, values, labelled=widest * len(models) <= 16), row=1, col=column)
        _label_heads(figure, column, models[name])
    figure.update_layout(
        coloraxis={
            "colorscale": "Viridis",
            "cmin": 0,
            "cmax": 1 if meaning.share else (top or 1),
            "colorbar": {
                "title": {"text": meaning.unit, "side": "right"},
                "thickness": 14,
                "outlinewidth": 0,
            },
        }
    )
    _panel_titles(figure, list(models))
    return _styled(
        figure, meaning.title, meaning.unit, models, height=190 + layers * 46 if layers < 9 else 620
    )


def mass_by_distance(results: Results) -> go.Figure:
    """Attention mass against distance: a line for each kind of layer, thin lines for single layers, a panel a model.

    The mass is the mean of A[i, i - d] over the queries i >= d, prompts and heads. The axis shows log(d + 1), so that
    distance 0 has its place; a mass of 0, which a log axis has not, is drawn on the line marked 0. Far distances are
    averaged in geometric bins, which never cross a window. The dashed line is the first distance out of a window.
    """
    models = _by_model(results)
    binned = {
        name: _binned(_mean_over_prompts(result, "mass_by_distance")) for name, result in models.items()
    }
    floor, top = _log_range([values.values for values in binned.values()])
    figure = make_subplots(rows=1, cols=len(models), shared_yaxes=True, horizontal_spacing=0.03)
    named: set[str] = set()
    for column, (name, result) in enumerate(models.items(), start=1):
        for kind, layers in _layers_by_kind(result):
            mass = binned[name].sel(layer=layers)
            for layer in layers if len(layers) > 1 else []:
                line = _mass_line(mass.sel(layer=layer), kind, f"layer {layer}, {kind}", floor)
                figure.add_trace(line.update(line_width=1, opacity=0.35, showlegend=False), row=1, col=column)
            line = _mass_line(mass.mean("layer"), kind, f"{kind} layers", floor)
            figure.add_trace(line.update(line_width=3, showlegend=kind not in named), row=1, col=column)
            named.add(kind)
        for window in _windows(result):
            _window_line(figure, column, window)
        _distance_axis(figure, column, int(result.sizes["distance"]))
    _mass_axis(figure, floor, top, exact=_nothing_between(list(binned.values()), floor))
    _panel_titles(figure, list(models))
    return _styled(figure, "Attention mass by distance", "mean probability", models, height=470)


def scores_by_kind(results: Results, scores: Sequence[str] | None = None) -> go.Figure:
    """A point for every head, by model and kind of layer, with the mean of each group: one panel for each score.

    Within a group the layers stand from left to right. `scores` defaults to all that any of the results has.

    Raises:
        ValueError: none of the results has one of the scores.
    """
    models = _by_model(results)
    chosen = _chosen_scores(models, scores)
    columns = min(3, len(chosen))
    rows = math.ceil(len(chosen) / columns)
    titles = [_wrapped(f"{_meaning(score).title} ({_meaning(score).unit})") for score in chosen]
    figure = make_subplots(
        rows, columns, subplot_titles=titles, vertical_spacing=0.36 / (1 + rows), horizontal_spacing=0.07
    )
    for panel, score in enumerate(chosen):
        where = {"row": panel // columns + 1, "col": panel % columns + 1}
        _score_panel(figure, models, score, where, legend=panel == 0)
    figure.update_annotations(font_size=13, font_color=_INK, yshift=4)
    return _styled(figure, "Scores by kind of layer", "a point is a head", models, height=150 + 270 * rows)


def _by_model(results: Results) -> dict[str, xr.Dataset]:
    """The results under the names of their models."""
    if isinstance(results, xr.Dataset):
        results = [results]
    if isinstance(results, Mapping):
        models = dict(results)
    else:
        names = [str(result.attrs.get("model", f"model {i}")) for i, result in enumerate(results)]
        repeated = {name for name in names if names.count(name) > 1}
        if repeated:
            raise ValueError(
                f"several results of {', '.join(sorted(repeated))}: pass a dict from a name to a result"
            )
        models = dict(zip(names, results, strict=True))
    if not models:
        raise ValueError("no results to draw: pass at least one dataset of neolens.attention")
    return models


def _mean_over_prompts(result: xr.Dataset, variable: str) -> xr.DataArray:
    if variable not in result.data_vars:
        near = difflib.get_close_matches(variable, map(str, result.data_vars), n=1)
        hint = f", did you mean {near[0]!r}?" if near else ""
        raise ValueError(
            f"the result has no {variable!r}{hint} It has: {', '.join(map(str, result.data_vars))}"
        )
    return result[variable].mean("prompt", skipna=True)


def _meaning(score: str) -> Score:
    return SCORES.get(score, Score(escape(score.replace("_", " ")), "no unit given"))


def _layers_by_kind(result: xr.Dataset) -> Iterator[tuple[str, list[int]]]:
    kinds = [str(kind) for kind in result["attention_kind"].values]
    for kind in KIND_COLOURS:
        layers = [int(layer) for layer, its in zip(result["layer"].values, kinds, strict=True) if its == kind]
        if layers:
            yield kind, layers


def _windows(result: xr.Dataset) -> list[int]:
    if "window" not in result.coords:
        return []
    return sorted({int(window) for window in result["window"].values if np.isfinite(window)})


def _span(result: xr.Dataset, layer: int) -> str:
    """The kind of a layer with its window: `local 16`, or `global`."""
    at = result.sel(layer=layer)
    window = float(at["window"]) if "window" in at.coords else math.nan
    kind = str(at["attention_kind"].item())
    return f"{kind} {window:.0f}" if math.isfinite(window) else kind


def _heatmap(name: str, values: xr.DataArray, labelled: bool) -> go.Heatmap:
    values = values.transpose("layer", "head")
    names = [[f"{layer}.{head}" for head in values["head"].values] for layer in values["layer"].values]
    cells = [
        ["" if np.isnan(v) else f"{v:.2f}" if v < 10 else f"{v:.0f}" for v in row] for row in values.values
    ]
    return go.Heatmap(
        x=values["head"].values,
        y=values["layer"].values,
        z=values.values,
        text=cells if labelled else None,
        texttemplate="%{text}" if labelled else None,
        customdata=names,
        hovertemplate="head %{customdata}: %{z:.4f}<extra></extra>",
        hoverongaps=False,
        coloraxis="coloraxis",
        name=escape(name),
        xgap=2,
        ygap=2,
    )


def _label_heads(figure: go.Figure, column: int, result: xr.Dataset) -> None:
    labels = []
    for layer in result["layer"].values:
        span = _span(result, layer)
        colour = KIND_COLOURS.get(span.split()[0], _INK)
        labels.append(f'{layer} <span style="color:{colour}">{escape(span)}</span>')
    every_head = result["head"].values
    figure.update_yaxes(
        tickvals=result["layer"].values,
        ticktext=labels,
        autorange="reversed",
        showgrid=False,
        row=1,
        col=column,
    )
    figure.update_yaxes(title_text="layer", row=1, col=1)
    figure.update_xaxes(
        tickvals=every_head[:: 1 + len(every_head) // 17],
        title_text="head",
        showgrid=False,
        row=1,
        col=column,
    )


def _bin_edges(distances: int, windows: Iterable[int]) -> Int[np.ndarray, " edge"]:
    """Starts of the bins and the end: every distance its own bin at first, then geometric, cut at each window."""
    steps = np.geomspace(1, distances + 1, max(2, 1 + round(_BINS_PER_DECADE * math.log10(distances + 1))))
    return np.unique([0, distances, *np.round(steps - 1).astype(int), *(w for w in windows if w < distances)])


def _binned(mass: xr.DataArray) -> xr.DataArray:
    """Mass of each layer, averaged over heads and over the distances of each bin; `first` and `last` name the bin."""
    mass = mass.mean("head", skipna=True).transpose("layer", "distance")
    windows = _windows(mass.to_dataset(name="mass"))
    edges = _bin_edges(mass.sizes["distance"], windows)
    bins = [
        mass.isel(distance=slice(a, b)).mean("distance", skipna=True)
        for a, b in zip(edges, edges[1:], strict=False)
    ]
    first, last = edges[:-1], edges[1:] - 1
    middle = np.sqrt((first + 1.0) * (last + 1.0)) - 1
    joined = xr.concat(bins, "distance", coords="minimal", compat="override", join="override")
    return joined.assign_coords(distance=middle, first=("distance", first), last=("distance", last))


def _log_range(masses: list[Float[np.ndarray, "layer bin"]]) -> tuple[float, float]:
    """The level that stands for 0, below all that is drawn, and the largest mass."""
    positive = np.concatenate([mass[mass > 0] for mass in masses])
    if not positive.size:
        return 1e-3, 1.0
    top = float(positive.max())
    lowest = max(float(positive.min()), top * 10.0**-_DECADES)
    return 10 ** (math.floor(math.log10(lowest)) - 0.5), top


def _nothing_between(masses: list[xr.DataArray], floor: float) -> bool:
    """Whether all that is drawn on the floor is exactly 0."""
    return not any(bool(((mass > 0) & (mass < floor)).any()) for mass in masses)


def _mass_line(mass: xr.DataArray, kind: str, label: str, floor: float) -> go.Scatter:
    at = [
        f"{a}" if a == b else f"{a} to {b}"
        for a, b in zip(mass["first"].values, mass["last"].values, strict=True)
    ]
    return go.Scatter(
        x=mass["distance"].values + 1,
        y=np.where(np.isnan(mass.values), np.nan, np.maximum(mass.values, floor)),
        customdata=list(zip(at, mass.values.tolist(), strict=True)),
        hovertemplate=f"{label}<br>distance %{{customdata[0]}}: %{{customdata[1]:.3g}}<extra></extra>",
        mode="lines",
        line={"color": KIND_COLOURS[kind]},
        name=label,
        legendgroup=kind,
        connectgaps=False,
    )


def _window_line(figure: go.Figure, column: int, window: int) -> None:
    figure.add_vline(
        x=window + 1, line={"color": LOCAL_COLOUR, "dash": "dash", "width": 1.5}, row=1, col=column
    )
    figure.add_annotation(
        x=math.log10(window + 1),
        y=1,
        yref="y domain" if column == 1 else f"y{column} domain",
        text=f"window {window}",
        font={"color": LOCAL_COLOUR, "size": 12},
        showarrow=False,
        xanchor="left",
        yanchor="top",
        xshift=4,
        row=1,
        col=column,
    )


def _distance_axis(figure: go.Figure, column: int, distances: int) -> None:
    marks = [0, 1, *(2**power for power in range(1, 30) if 2**power < distances)]
    if len(marks) > 9:
        marks = [0, 1, *(4**power for power in range(1, 15) if 4**power < distances)]
    figure.update_xaxes(
        type="log",
        tickvals=[mark + 1 for mark in marks],
        ticktext=[str(mark) for mark in marks],
        range=[-0.03, math.log10(distances + 1) + 0.02],
        title_text="distance from query to key (tokens, log(d + 1))",
        row=1,
        col=column,
    )


def _mass_axis(figure: go.Figure, floor: float, top: float, exact: bool) -> None:
    decades = range(math.ceil(math.log10(floor)), math.floor(math.log10(top)) + 1)
    written = {power: f"{10.0**power:g}" if power > -4 else f"10<sup>{power}</sup>" for power in decades}
    lowest = "0" if exact else f"under 10<sup>{decades[0]}</sup>"
    figure.update_yaxes(
        type="log",
        tickvals=[floor, *(10.0**power for power in decades)],
        ticktext=[lowest, *written.values()],
        range=[math.log10(floor) - 0.12, math.log10(top) + 0.25],
    )
    figure.update_yaxes(title_text="mean attention probability (log)", row=1, col=1)


def _chosen_scores(models: dict[str, xr.Dataset], scores: Sequence[str] | None) -> list[str]:
    present = {str(name) for result in models.values() for name in result.data_vars}
    chosen = list(scores) if scores is not None else [score for score in SCORES if score in present]
    missing = [score for score in chosen if score not in present]
    if missing or not chosen:
        raise ValueError(
            f"no result has {', '.join(map(repr, missing)) or 'a score'}. There are: {sorted(present)}"
        )
    return chosen


def _score_panel(
    figure: go.Figure, models: dict[str, xr.Dataset], score: str, where: dict, legend: bool
) -> None:
    named: set[str] = set()
    for position, (name, result) in enumerate(models.items()):
        if score not in result.data_vars:
            continue
        values = _mean_over_prompts(result, score)
        groups = list(_layers_by_kind(result))
        for index, (kind, layers) in enumerate(groups):
            centre = position + (index - (len(groups) - 1) / 2) * 0.4
            points, mean = _head_points(values.sel(layer=layers), kind, name, centre)
            figure.add_trace(points.update(showlegend=legend and kind not in named), **where)
            figure.add_trace(mean, **where)
            named.add(kind)
    figure.update_xaxes(
        tickvals=list(range(len(models))),
        ticktext=[escape(name) for name in models],
        range=[-0.55, len(models) - 0.45],
        showgrid=False,
        **where,
    )
    figure.update_yaxes(range=[-0.03, 1.03] if _meaning(score).share else None, rangemode="tozero", **where)


def _head_points(values: xr.DataArray, kind: str, model: str, centre: float) -> tuple[go.Scatter, go.Scatter]:
    """The heads of one kind of layer in one model, layers from left to right, and the mark of their mean."""
    values = values.transpose("layer", "head")
    layers, width = values["layer"].values, 0.15
    across = np.linspace(-width, width, len(layers)) if len(layers) > 1 else np.zeros(1)
    names = [(escape(model), f"{layer}.{head}", kind) for layer in layers for head in values["head"].values]
    points = go.Scatter(
        x=np.repeat(centre + across, values.sizes["head"]),
        y=values.values.ravel(),
        customdata=names,
        hovertemplate="%{customdata[0]} %{customdata[1]} (%{customdata[2]}): %{y:.4f}<extra></extra>",
        mode="markers",
        marker={
            "color": KIND_COLOURS[kind],
            "size": 7,
            "opacity": 0.6,
            "line": {"width": 0.5, "color": "white"},
        },
        name=f"{kind} layers",
        legendgroup=kind,
    )
    mean = go.Scatter(
        x=[centre - width - 0.03, centre + width + 0.03],
        y=[float(values.mean(skipna=True))] * 2,
        hovertemplate=f"mean of {kind} heads: %{{y:.4f}}<extra></extra>",
        mode="lines",
        line={"color": KIND_COLOURS[kind], "width": 3},
        legendgroup=kind,
        showlegend=False,
    )
    return points, mean


def _wrapped(title: str, width: int = 38) -> str:
    lines = [""]
    for word in title.split():
        if lines[-1] and len(lines[-1]) + 1 + len(word) > width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return "<br>".join(lines)


def _panel_titles(figure: go.Figure, names: list[str]) -> None:
    """The model above each panel; a single panel has it in the caption."""
    for column, name in enumerate(names if len(names) > 1 else [], start=1):
        axis = "" if column == 1 else str(column)
        figure.add_annotation(
            text=f"<b>{escape(name)}</b>",
            x=0.5,
            y=1,
            xref=f"x{axis} domain",
            yref=f"y{axis} domain",
            showarrow=False,
            yanchor="bottom",
            yshift=4,
        )


def _caption(models: dict[str, xr.Dataset]) -> str:
    """Models, prompts and tokens: `lab/gpt2, lab/gpt-neo: 8 prompts of 128 tokens each`."""
    described: dict[str, list[str]] = {}
    for name, result in models.items():
        prompts = result.sizes.get("prompt", 0)
        text = f"{prompts} prompt{'s' if prompts != 1 else ''}"
        if "length" in result.coords and prompts:
            low, high = int(result["length"].min()), int(result["length"].max())
            text += f" of {low} tokens" if low == high else f" of {low} to {high} tokens"
        described.setdefault(text, []).append(escape(name))
    return "; ".join(f"{', '.join(names)}: {text}" for text, names in described.items())


def _styled(
    figure: go.Figure, quantity: str, unit: str, models: dict[str, xr.Dataset], height: int
) -> go.Figure:
    """What all figures share: the title with the unit, the caption under it, fonts, grid and legend."""
    figure.update_layout(
        template="plotly_white",
        title={
            "text": f"<b>{quantity}</b> ({unit})",
            "subtitle": {"text": _caption(models), "font": {"size": 13, "color": _FAINT}},
            "x": 0,
            "xref": "paper",
            "y": 1,
            "yref": "container",
            "yanchor": "top",
            "pad": {"t": 18},
        },
        font={"family": _FONT, "size": 13, "color": _INK},
        legend={
            "orientation": "h",
            "x": 1,
            "xanchor": "right",
            "y": 1,
            "yanchor": "bottom",
            "yref": "container",
        },
        margin={"l": 70, "r": 30, "t": 110, "b": 60},
        height=height,
        hoverlabel={"bgcolor": "white"},
    )
    return figure
