"""Induction heads: scores as the answer leaves the window, pattern beside cause, and copying without them.

Repeat lengths n stand side by side as they were chosen; the dashed line is between the last n whose answers a layer of
that window sees, n - 1 tokens back, and the first whose it does not. Layers have the colours of their kind.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import plotly.graph_objects as go
import xarray as xr
from plotly.subplots import make_subplots

from neolens.figures import compact, legends, style
from neolens.figures.inputs import Results, by_model, check_defined
from neolens.figures.points import names_of_strongest as strongest
from neolens.figures.style import CONTROL_COLOUR, GREY, INK, KIND_COLOURS, LOCAL_COLOUR, escape
from neolens.near_far import of_results
from neolens.stats import ALPHA
from neolens.studies.induction.measure import PATTERN_SCORE
from neolens.studies.induction.summary import best, nearest

_BY_HEAD, _BY_PROMPT = "seed distance layer head", "seed distance prompt"
_BY_LENGTH = {"induction": f"{_BY_PROMPT} layer head", "accuracy": _BY_PROMPT}
_CAUSES = {"induction": f"{_BY_PROMPT} layer head", "more": _BY_HEAD, "p_adjusted": _BY_HEAD}
_WITHOUT = {"together": _BY_PROMPT, "others": _BY_PROMPT, "alone": _BY_HEAD}
SOURCE, COORDS = (
    "neolens.studies.induction.summary, joined",
    ("n", "distance", "seed", "layer", "attention_kind", "window"),
)
_KINDS = ("global", "local")
_ORDER = (
    *(name.format(kind) for kind in _KINDS for name in ("best head of a {} layer", "head of a {} layer")),
    "copied (share of predictions)",
    *(f"{kind} layer, {where} the window" for kind in _KINDS for where in ("inside", "beyond")),
    "all induction heads at once",
    *(f"head of a {kind} layer, alone" for kind in _KINDS),
    "as many random heads",
)
"""Names in legends."""
_WIDTH = 0.5  # of the points at one n


def induction_by_length(results: Results) -> go.Figure:
    """The induction score of every head by repeat length: one panel per model, one point per head, a line for the best
    head of a kind of layer (mean over seeds, band from the lowest to the highest), and the copy accuracy in ink.

    Raises:
        TypeError, ValueError: no results, or others.
    """
    models = by_model(results, _BY_LENGTH, SOURCE, COORDS, ["window"])
    figure, places = _panels(models)
    for (name, result), place in zip(models.items(), places, strict=True):
        for kind, layers in style.layers_by_kind(result):
            heads = result["induction"].mean("prompt").sel(layer=layers)
            check_defined(heads, ["layer", "head"], name)
            figure.add_trace(_points(heads, name, kind), **place)
            highest = best("induction", kind)(result)
            assert highest is not None
            line = {"color": KIND_COLOURS[kind], "width": 2}
            figure.add_traces(_line(highest, f"best head of a {kind} layer", line), place["row"], place["col"])
        line = {"color": INK, "dash": "dot", "width": 2}
        figure.add_traces(_line(result["accuracy"], "copy accuracy", line), place["row"], place["col"])
        _axis(figure, result, place, label=place == places[0], lowest=place["row"] == places[-1]["row"])
    figure.update_yaxes(range=[-0.05, 1.06])
    figure.update_yaxes(title_text="score, or share", col=1)
    caption = f"{_networks(models)}. A point is a head, first layers left; bands from the lowest seed to the highest."
    title = "<b>Induction score by repeat length</b> (mean attention probability)"
    style.style(legends.once(figure, _ORDER), title, caption, 250 * places[-1]["row"])
    return legends.below(figure)


def scores_and_copying(results: Results) -> go.Figure:
    """The best induction score of each kind of layer, and the copy accuracy, by repeat length: means over seeds, a dash
    per model.

    Raises:
        TypeError, ValueError: no results, or others.
    """
    models = by_model(results, _BY_LENGTH, SOURCE, COORDS, ["window"])
    figure = make_subplots(1, 2, subplot_titles=["best induction score", "copy accuracy"], shared_yaxes="all")
    for (name, result), dash in zip(models.items(), itertools.cycle(style.DASHES)):
        check_defined(result["induction"].mean("prompt"), ["layer", "head"], name)
        lines = [(kind, best("induction", kind)(result), 1) for kind, _ in style.layers_by_kind(result)]
        for kind, values, col in [*lines, ("", result["accuracy"], 2)]:
            assert values is not None
            line = {"color": KIND_COLOURS.get(kind, INK), "dash": dash, "width": 2}
            label = f"{escape(name)}{f', {kind} layers' if kind else ''}"
            figure.add_trace(_line(values, label, line)[-1].update(showlegend=bool(kind)), row=1, col=col)
    first = next(iter(models.values()))
    for col in (1, 2):
        _axis(figure, first, {"row": 1, "col": col}, label=col == 1, lowest=True)
    figure.update_yaxes(range=[-0.05, 1.06])
    style.style(figure, "<b>Induction score and copying</b> (shares)", "", 170)
    return compact(figure, 330)


def induction_causes(results: Results) -> go.Figure:
    """Every head that has the pattern just inside or just beyond the window: its score against what ablating it alone
    costs more than other heads of its layer. One panel per model; filled: significant (corrected p below 0.05).

    Raises:
        TypeError, ValueError: no results, or others.
    """
    models = by_model(results, _CAUSES, SOURCE, COORDS, ["window"])
    figure, places = _panels(models)
    split = of_results(list(models.values()))
    where = {"inside": split.inside, "beyond": split.beyond}
    for (name, result), place in zip(models.items(), places, strict=True):
        sides = zip(("inside", "beyond"), nearest(result["n"].values.tolist(), int(result.attrs["window"])))
        for (side, n), symbol in zip(sides, ("circle", "diamond")):
            at = result.sel(distance=n - 1)
            for kind, layers in style.layers_by_kind(result):
                heads = at.sel(layer=layers)
                points = heads[["more", "p_adjusted"]].assign(score=heads["induction"].mean("prompt"))
                points = points.stack(point=("seed", "layer", "head")).dropna("point", subset=["more"])
                figure.add_trace(_scatter(points, name, f"{kind} layer, {where[side]}", kind, symbol), **place)
    figure.update_xaxes(range=[PATTERN_SCORE - 0.03, 1.03])
    figure.update_xaxes(title_text="induction score", row=places[-1]["row"])
    figure.update_yaxes(zeroline=True, zerolinecolor=GREY)
    figure.update_yaxes(title_text="nats per token more", col=1)
    first = next(iter(models.values()))
    inside, beyond = nearest(first["n"].values.tolist(), int(first.attrs["window"]))
    caption = (
        f"{_networks(models)}. n = {inside}, {split.inside}, and {beyond}, {split.beyond}. Filled: a significant "
        "difference from heads of its layer without the pattern (corrected p below 0.05); below 0 it costs less. Heads "
        "of layers in which every head has the pattern have no control and no point."
    )
    title = (
        "<b>Pattern and cause</b> (effect of ablating a head less that of heads without the pattern, nats per token)"
    )
    style.style(legends.once(figure, _ORDER), title, caption, 250 * places[-1]["row"])
    return legends.below(figure)


def copying_without(results: Results) -> go.Figure:
    """What ablating adds to the loss where copies are predicted, by repeat length: all induction heads at once, as many
    random heads, each induction head alone. One panel per model; means over seeds, bands from the lowest to highest.

    Raises:
        TypeError, ValueError: no results, or others.
    """
    models = by_model(results, _WITHOUT, SOURCE, COORDS, ["window"])
    figure, places = _panels(models)
    lines = {"together": ("all induction heads at once", INK), "others": ("as many random heads", CONTROL_COLOUR)}
    for (name, result), place in zip(models.items(), places, strict=True):
        for kind, layers in style.layers_by_kind(result):
            figure.add_trace(
                _points(result["alone"].sel(layer=layers), name, kind, "head of a {} layer, alone"), **place
            )
        for variable, (what, colour) in lines.items():
            line = {"color": colour, "width": 2.5}
            figure.add_traces(_line(result[variable], what, line), place["row"], place["col"])
        _axis(figure, result, place, label=place == places[0], lowest=place["row"] == places[-1]["row"])
    figure.update_yaxes(zeroline=True, zerolinecolor=GREY)
    figure.update_yaxes(title_text="nats per token", col=1)
    caption = f"{_networks(models)}. A point is a head that has the pattern, ablated alone."
    title = "<b>Copying without induction heads</b> (added to the loss of the second copy, nats per token)"
    style.style(legends.once(figure, _ORDER), title, caption, 250 * places[-1]["row"])
    return legends.below(figure)


def _line(values: xr.DataArray, name: str, line: dict[str, Any]) -> list[go.Scatter]:
    """The mean over seeds by n, and a band from the lowest to the highest."""
    each = values.mean("prompt").transpose("seed", "distance")
    mean, low, high = each.mean("seed").values, each.min("seed").values, each.max("seed").values
    x = list(range(len(mean)))
    return [
        *style.band(x, low, high, line["color"], name),
        go.Scatter(
            x=x,
            y=mean,
            customdata=each["n"].values,
            meta=["repeat length n (tokens)"],
            mode="lines+markers",
            marker={"size": 5},
            line=line,
            name=name,
            legendgroup=name,
            hovertemplate=f"{name}<br>n = %{{customdata}}: %{{y:.3f}}<extra></extra>",
        ),
    ]


def _points(heads: xr.DataArray, model: str, kind: str, what: str = "head of a {} layer") -> go.Scatter:
    """A point for every head of a kind of layer at every n, first layers left; heads without a value have none."""
    flat = heads.stack(point=("layer", "seed", "head")).transpose("distance", "point")
    apart = np.linspace(-_WIDTH / 2, _WIDTH / 2, flat.sizes["point"])
    labels = [f"{layer}.{head}, seed {seed}" for layer, seed, head in flat["point"].values]
    return go.Scatter(
        x=(np.arange(flat.sizes["distance"])[:, None] + apart).ravel(),
        y=flat.values.ravel(),
        customdata=labels * flat.sizes["distance"],
        meta=["head"],
        mode="markers",
        marker={"color": KIND_COLOURS[kind], "size": 4, "opacity": 0.4},
        name=what.format(kind),
        legendgroup=what.format(kind),
        hovertemplate=f"{escape(model)} %{{customdata}}: %{{y:.3f}}<extra></extra>",
    )


def _scatter(points: xr.Dataset, model: str, name: str, kind: str, symbol: str) -> go.Scatter:
    marks = [symbol if p < ALPHA else f"{symbol}-open" for p in points["p_adjusted"].values]
    x, y, heads = points["score"].values, points["more"].values, points["point"].values
    names = [f"{layer}.{head}" * (symbol == "circle") for _, layer, head in heads]  # the other mark is close by
    return go.Scatter(
        x=x,
        y=y,
        customdata=[f"{layer}.{head}, seed {seed}" for seed, layer, head in heads],
        meta=["head"],
        text=strongest(x, y, names, 1.03 - PATTERN_SCORE, most=3),
        textposition="middle left",
        textfont={"size": 10},
        mode="markers+text",
        marker={"color": KIND_COLOURS[kind], "symbol": marks, "size": 9, "opacity": 0.8},
        name=name,
        legendgroup=name,
        hovertemplate=f"{escape(model)} %{{customdata}}: score %{{x:.2f}}, %{{y:.2f}} nats<extra></extra>",
    )


def _panels(models: dict[str, xr.Dataset]) -> tuple[go.Figure, list[dict[str, int]]]:
    """A panel for each model: two beside each other where that fills the rows, else three."""
    columns = 2 if len(models) in (2, 4) else min(3, len(models))
    rows = -(-len(models) // columns)
    titles = [f"<b>{escape(name)}</b>" for name in models]
    spacing = {"horizontal_spacing": 0.04, "vertical_spacing": 0.3 / rows}
    figure = make_subplots(rows, columns, subplot_titles=titles, shared_yaxes="all", **spacing)
    return figure, [{"row": at // columns + 1, "col": at % columns + 1} for at in range(len(models))]


def _axis(figure: go.Figure, result: xr.Dataset, place: dict[str, int], *, label: bool, lowest: bool) -> None:
    """Repeat lengths side by side, and the window between two of them."""
    lengths, window = result["n"].values.tolist(), int(result.attrs["window"])
    figure.update_xaxes(
        tickvals=list(range(len(lengths))),
        ticktext=list(map(str, lengths)),
        range=[-0.5, len(lengths) - 0.5],
        title_text="repeat length n (tokens)" if lowest else None,
        showgrid=False,
        zeroline=False,
        **place,
    )
    at = sum(n <= window for n in lengths) - 0.5
    figure.add_vline(x=at, line={"color": LOCAL_COLOUR, "dash": "dash", "width": 1.5}, **place)
    if label:
        text = {"text": of_results([result]).mark, "font": {"color": LOCAL_COLOUR, "size": 12}, "showarrow": False}
        figure.add_annotation(**text, x=at, y=0.5, yref="y domain", xanchor="left", xshift=4, **place)


def _networks(models: dict[str, xr.Dataset]) -> str:
    """`lab/gpt2, lab/pythia: 3 x 16 prompts per length`: seeds and prompts."""
    described: dict[str, list[str]] = {}
    for name, result in models.items():
        described.setdefault(f"{result.sizes['seed']} x {result.sizes['prompt']}", []).append(escape(name))
    return "; ".join(f"{', '.join(names)}: {sizes} prompts per length" for sizes, names in described.items())
