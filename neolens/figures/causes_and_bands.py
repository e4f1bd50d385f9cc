"""What position encodings do in a network: heads by pattern and by cause, rotary bands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
import xarray as xr
from plotly.subplots import make_subplots

from neolens.checks import Head, check_choice, check_list, shown
from neolens.figures import legends, style
from neolens.figures.inputs import HEADS, Results, by_model, check_head_of, checked, holding, listed
from neolens.figures.points import names_of_strongest as strongest
from neolens.figures.style import GREY, escape
from neolens.figures.variants import SYMBOLS, drawn_as, head_of, networks
from neolens.position import taken_away
from neolens.scores import THRESHOLDS
from neolens.stats import ALPHA

_SCORES = (0.27, 1.03)


def pattern_and_cause(results: Results, roles: Sequence[str] = ("previous_token", "induction")) -> go.Figure:
    """Every head that holds a role: its score against what ablating it does beyond random heads of its layer. A panel a
    role; a filled point is told apart from those heads (corrected p below 0.05), a hollow one is not.

    Args:
        results: of `neolens.roles` with causes, or of the study rotary_vs_absolute.

    Raises:
        TypeError, ValueError: no such result.
    """
    needs = dict.fromkeys(("more", "more_p_adjusted"), "seed? layer head")
    needs |= dict.fromkeys(("holds", "score"), "seed? role layer head")
    source = "neolens.roles with causes=True or the study rotary_vs_absolute"
    models = holding(results, needs, source=source, coords=["role"])
    roles = _roles(roles, models)
    titles = [f"<b>{escape(role.replace('_', '-'))} heads</b>" for role in roles]
    figure = make_subplots(1, len(roles), subplot_titles=titles, shared_yaxes="all", horizontal_spacing=0.04)
    for name, result, line in drawn_as(models):
        key = {"color": line["colour"], "symbol": SYMBOLS[line["dash"]], "size": 9}
        figure.add_trace(go.Scatter(x=[None], y=[None], mode="markers", marker=key, name=name, legendgroup=name))
        for column, role in enumerate(roles, start=1):
            figure.add_trace(_causes(name, result, role, line), row=1, col=column)
    figure.update_xaxes(title_text="score", range=_SCORES)
    figure.update_yaxes(title_text="nats per token more than random heads", col=1)
    title = "<b>Pattern and cause</b> (effect of ablating a head beyond random heads of its layer, nats per token)"
    caption = (
        f"{networks(models)}. Filled: told apart from random heads (corrected p below 0.05; below 0 it costs less than "
        "they do); hollow: not."
    )
    return legends.below(style.style(figure, title, caption, height=330))


def _causes(name: str, result: xr.Dataset, role: str, line: dict[str, str]) -> go.Scatter:
    """The heads that hold the role, each a point."""
    holds = result["holds"].sel(role=role, drop=True) == 1
    points = result[["more", "more_p_adjusted"]].assign(score=result["score"].sel(role=role, drop=True))
    points = points.where(holds).stack(point=("seed", "layer", "head")).dropna("point", subset=["score"])
    sure = (points["more_p_adjusted"] < ALPHA).values
    x, y = points["score"].values, points["more"].values
    return go.Scatter(
        x=x,
        y=y,
        customdata=_named(points),
        meta=["head"],
        text=strongest(x, y, [name.split(",")[0] for name in _named(points)], _SCORES[1] - _SCORES[0]),
        mode="markers+text",
        textposition="middle left",
        textfont={"size": 10},
        name=name,
        legendgroup=name,
        showlegend=False,
        marker={
            "color": line["colour"],
            "symbol": [f"{SYMBOLS[line['dash']]}{'' if one else '-open'}" for one in sure],
            "size": 9,
            "opacity": 0.8,
        },
        hovertemplate=f"{name} %{{customdata}}: score %{{x:.2f}}, %{{y:.2f}} nats<extra></extra>",
    )


def band_shares(results: Results, *, heads: Sequence[Head | str] | None = None) -> go.Figure:
    """What heads lose of their previous-token score when one rotary band is taken out of them alone, by band.

    Args:
        results: of `neolens.position.bands`, or of the study rotary_vs_absolute; of rotary models.
        heads: (layer, head), or text such as "2.1", of those to draw, by default all previous-token heads (a score of
            at least 0.4, or what the result itself says).

    Raises:
        TypeError, ValueError: no such result, or a head that it does not hold.
    """
    source = "neolens.position.bands or the study rotary_vs_absolute"
    shared = {name: _shares(name, result) for name, result in by_model(results, source=source).items()}
    needs = {"taken_away": "seed? layer head band", "holds": "seed? role layer head", "wavelength": "band"}
    models = holding(shared, needs, source=source, coords=["role", "band"])
    _roles(["previous_token"], models)
    figure = go.Figure()
    for at, (name, result, line) in enumerate(drawn_as(models)):
        held = result["holds"].sel(role="previous_token", drop=True) == 1
        holds = held if heads is None else _chosen(held, heads, name)
        share = result["taken_away"].where(holds).stack(point=("seed", "layer", "head")).dropna("point", how="all")
        figure.add_trace(_bands(name, share.transpose("band", "point"), (at + 0.5) / len(models) - 0.5, line))
    figure.update_xaxes(**_band_axis(list(models.values())))
    figure.update_yaxes(title_text="share of the score", zeroline=True, zerolinecolor=GREY)
    title = "<b>Bands of previous-token heads</b> (share of the score that goes with a band)"
    drawn = "a previous-token head" if heads is None else "a head"
    named = [f"{trace.name} {listed(dict.fromkeys(_names(trace)), most=12)}" for trace in figure.data if len(trace.x)]
    caption = f"{networks(models)}. A point is {drawn}, the band held out of it alone. Heads: {'; '.join(named)}."
    return legends.below(style.style(figure, title, caption, height=300))


def _bands(name: str, share: xr.DataArray, aside: float, line: dict[str, str]) -> go.Scatter:
    """The heads of one model, each a point at every band, some way aside."""
    heads, bands = share.sizes["point"], share.sizes["band"]
    apart = 0.5 * aside + np.linspace(-0.06, 0.06, max(heads, 1))[:heads]
    return go.Scatter(
        x=(np.arange(bands)[:, None] + apart).ravel(),
        y=share.values.ravel(),
        customdata=_named(share) * bands,
        meta=["head"],
        mode="markers",
        name=name,
        marker={"color": line["colour"], "symbol": SYMBOLS[line["dash"]], "size": 8, "opacity": 0.7},
        hovertemplate=f"{name} %{{customdata}}: %{{y:.2f}}<extra></extra>",
    )


def _band_axis(models: Sequence[xr.Dataset]) -> dict[str, Any]:
    """Bands with their wavelengths, where the models agree on these."""
    widest = max(models, key=lambda result: result.sizes["band"])
    bands = list(range(widest.sizes["band"]))
    if not all(one["wavelength"].equals(widest["wavelength"][: one.sizes["band"]]) for one in models):
        return {"title_text": "band, from the fastest", "tickvals": bands, "ticktext": list(map(str, bands))}
    names = [f"{int(band)}<br>{float(length):.3g}" for band, length in zip(widest["band"], widest["wavelength"])]
    return {"title_text": "band, and its wavelength in tokens", "tickvals": bands, "ticktext": names}


def _names(trace: go.Scatter) -> list[str]:
    """The heads of the points of a trace, without their seeds."""
    return [name.split(",")[0] for name in trace.customdata]


def _named(points: xr.Dataset | xr.DataArray) -> list[str]:
    """The head of each point."""
    return [head_of(layer, {"seed": seed, "head": head}) for seed, layer, head in points["point"].values]


def _roles(roles: Any, models: Mapping[str, xr.Dataset]) -> list[str]:
    """Roles that every model has."""
    listed = [roles] if isinstance(roles, str) else check_list(roles, "roles", "names", example="['induction']")
    if not listed:
        raise ValueError(f"roles {shown(roles)}: expected at least one, such as 'induction'")
    for result in models.values():
        for role in listed:
            check_choice(role, "role", map(str, result["role"].values))
    return listed


def _shares(name: str, result: xr.Dataset) -> xr.Dataset:
    """The result with `taken_away` and `holds`, also where it is one of `neolens.position.bands`."""
    if "taken_away" in result or "previous_token_held" not in result:
        return result
    needs = {"previous_token": HEADS, "previous_token_held": f"{HEADS} band"}
    checked(result, name, needs, "neolens.position.bands", ["band", "wavelength"])
    holds = result["previous_token"].mean("prompt") >= THRESHOLDS["previous_token"]
    shares = {"taken_away": taken_away(result), "holds": holds.expand_dims(role=["previous_token"])}
    return xr.Dataset(shares, attrs=result.attrs)


def _chosen(holds: xr.DataArray, heads: Any, name: str) -> xr.DataArray:
    """True at these heads."""
    chosen = xr.zeros_like(holds, dtype=bool)
    several = check_list(heads, "heads", "(layer, head)", example="[(0, 3)]")
    if not several:
        raise ValueError(f"heads {shown(heads)}: expected at least one, such as [(0, 3)], or None for all that hold")
    for layer, head in (check_head_of(one, holds, name) for one in several):
        chosen.loc[{"layer": layer, "head": head}] = True
    return chosen
