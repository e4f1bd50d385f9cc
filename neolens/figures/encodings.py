"""What position encodings do in a network: heads by pattern and by cause, rotary bands, texts beyond the context."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from neolens.figures import style
from neolens.figures.arms import SYMBOLS, drawn_as, head_of, holding, line_over_seeds, networks
from neolens.figures.style import GREY, Results, escape


def pattern_and_cause(results: Results, roles: tuple[str, ...] = ("previous_token", "induction")) -> go.Figure:
    """Every head that holds a role: its score against what ablating it does beyond random heads of its layer. A panel a
    role; a filled point is told apart from those heads (corrected p below 0.05), a hollow one is not.

    Args:
        results: of `neolens.roles` with causes, or of `neolens.encodings`.

    Raises:
        ValueError: no such result.
    """
    models = holding(results, "more", of="neolens.roles with causes=True or neolens.encodings", besides=("holds",))
    titles = [f"<b>{escape(role.replace('_', '-'))} heads</b>" for role in roles]
    figure = make_subplots(1, len(roles), subplot_titles=titles, shared_yaxes="all", horizontal_spacing=0.04)
    for name, result, line in drawn_as(models):
        key = {"color": line["colour"], "symbol": SYMBOLS[line["dash"]], "size": 9}
        figure.add_trace(go.Scatter(x=[None], y=[None], mode="markers", marker=key, name=name, legendgroup=name))
        for column, role in enumerate(roles, start=1):
            holds = result["holds"].sel(role=role, drop=True) == 1
            points = result[["more", "more_p_adjusted"]].assign(score=result["score"].sel(role=role, drop=True))
            points = points.where(holds).stack(point=("seed", "layer", "head")).dropna("point", subset=["score"])
            sure = (points["more_p_adjusted"] < 0.05).values
            marks = [f"{SYMBOLS[line['dash']]}{'' if one else '-open'}" for one in sure]
            heads = [head_of(layer, {"seed": seed, "head": head}) for seed, layer, head in points["point"].values]
            figure.add_trace(
                go.Scatter(
                    x=points["score"].values,
                    y=points["more"].values,
                    customdata=heads,
                    mode="markers",
                    name=name,
                    legendgroup=name,
                    showlegend=False,
                    marker={"color": line["colour"], "symbol": marks, "size": 9, "opacity": 0.8},
                    hovertemplate=f"{name} %{{customdata}}: score %{{x:.2f}}, %{{y:.2f}} nats<extra></extra>",
                ),
                row=1,
                col=column,
            )
    figure.update_xaxes(title_text="score", range=[0.27, 1.03])
    figure.update_yaxes(title_text="nats a token more than random heads", col=1)
    title = "<b>Pattern and cause</b> (effect of ablating a head beyond random heads of its layer, nats a token)"
    caption = (
        f"{networks(models)}. Filled: told apart from random heads (corrected p below 0.05; below 0 it costs less than "
        "they do); hollow: not."
    )
    return style.legend_below(style.style(figure, title, caption, height=330))


def band_shares(results: Results) -> go.Figure:
    """What previous-token heads lose of their score when one rotary band is taken out of them alone, by band.

    Args:
        results: of `neolens.encodings`, of rotary models.

    Raises:
        ValueError: no such result.
    """
    models = holding(results, "taken_away", of="neolens.encodings", besides=("holds",))
    figure = go.Figure()
    for at, (name, result, line) in enumerate(drawn_as(models)):
        holds = result["holds"].sel(role="previous_token", drop=True) == 1
        share = result["taken_away"].where(holds).stack(point=("seed", "layer", "head")).dropna("point", how="all")
        share = share.transpose("band", "point")
        apart = 0.5 * ((at + 0.5) / len(models) - 0.5) + np.linspace(-0.06, 0.06, max(share.sizes["point"], 1))
        labels = [head_of(layer, {"seed": seed, "head": head}) for seed, layer, head in share["point"].values]
        figure.add_trace(
            go.Scatter(
                x=(np.arange(share.sizes["band"])[:, None] + apart[: share.sizes["point"]]).ravel(),
                y=share.values.ravel(),
                customdata=labels * share.sizes["band"],
                mode="markers",
                name=name,
                marker={"color": line["colour"], "symbol": SYMBOLS[line["dash"]], "size": 8, "opacity": 0.7},
                hovertemplate=f"{name} %{{customdata}}: %{{y:.2f}}<extra></extra>",
            )
        )
    widest = max(models.values(), key=lambda result: result.sizes["band"])
    agree = all(one["wavelength"].equals(widest["wavelength"][: one.sizes["band"]]) for one in models.values())
    names = [f"{int(band)}<br>{float(length):.3g}" for band, length in zip(widest["band"], widest["wavelength"])]
    ticks = {"tickvals": list(range(len(names))), "ticktext": names if agree else list(map(str, range(len(names))))}
    figure.update_xaxes(title_text="band, and its wavelength in tokens" if agree else "band, from the fastest", **ticks)
    figure.update_yaxes(title_text="share of the score", zeroline=True, zerolinecolor=GREY)
    title = "<b>Bands of previous-token heads</b> (share of the score that goes with a band)"
    caption = f"{networks(models)}. A point is a previous-token head, the band held out of it alone."
    return style.legend_below(style.style(figure, title, caption, height=300))


def loss_beyond(results: Results) -> go.Figure:
    """The loss by position as text runs past the context: solid as trained, dotted with positions interpolated; the
    running mean over an eighth of the context. A panel a model, bands from the lowest seed to the highest.

    Args:
        results: of `neolens.encodings`.

    Raises:
        ValueError: no such result.
    """
    models = holding(results, "loss_beyond", of="neolens.encodings")
    figure, places = style.panels(models, horizontal_spacing=0.03, vertical_spacing=0.2)
    for (name, result, line), place in zip(drawn_as(models), places, strict=True):
        context = (result["pos"].size + 1) // 2
        for variable, dash, what in (
            ("loss_beyond", "solid", "as trained"),
            ("loss_interpolated", "dot", "interpolated"),
        ):
            if variable in result:
                smooth = result[variable].rolling(pos=max(1, context // 8), min_periods=1).mean()
                its = {"colour": line["colour"], "dash": dash}
                for trace in line_over_seeds(
                    smooth, "pos", what, its, f"{name}, {what}<br>position %{{x}}: %{{y:.2f}} nats"
                ):
                    figure.add_trace(trace.update(showlegend=False), **place)
        figure.add_vline(context - 0.5, line={"color": GREY, "dash": "dash", "width": 1}, **place)
    figure.update_xaxes(title_text="position")
    figure.update_yaxes(title_text="loss (nats)", col=1, rangemode="tozero")
    title = "<b>Beyond the context</b> (loss by position, nats a token)"
    caption = f"{networks(models)}. Periodic random text. Dashed: the end of the context; dotted: interpolated."
    return style.style(figure, title, caption, height=260 * places[-1]["row"])
