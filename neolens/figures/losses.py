"""The loss by position: as text runs past the context, and where positions are taken away."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import plotly.graph_objects as go
import xarray as xr

from neolens.figures import style
from neolens.figures.arms import DASHES, drawn_as, holding, line_over_seeds, networks
from neolens.figures.style import GREY, TASK_COLOURS, Results, escape

_MOST = 6  # treatments that can be told apart
_POINTS = 64  # a long prompt is averaged over so many parts of it


def loss_beyond(results: Results) -> go.Figure:
    """The loss by position as text runs past the context: solid as trained, dotted with positions interpolated; the
    running mean over an eighth of the context. A panel a model, bands from the lowest seed (or prompt) to the highest.

    Args:
        results: of `neolens.position.beyond_context`, or of `neolens.encodings`.

    Raises:
        ValueError: no such result.
    """
    models = holding(results, "loss_beyond", "inside", of="neolens.position.beyond_context or neolens.encodings")
    figure, places = style.panels(models, horizontal_spacing=0.03, vertical_spacing=0.2)
    for (name, result, line), place in zip(drawn_as(models), places, strict=True):
        context = int(result["inside"].sum()) if "loss" in result else (result["pos"].size + 1) // 2
        for what, loss, dash in _beyond(result):
            smooth = loss.rolling(pos=max(1, context // 8), min_periods=1).mean()
            hover = f"{name}, {what}<br>position %{{x}}: %{{y:.2f}} nats"
            for trace in line_over_seeds(smooth, "pos", what, {"colour": line["colour"], "dash": dash}, hover):
                figure.add_trace(trace.update(showlegend=False), **place)
        figure.add_vline(context - 0.5, line={"color": GREY, "dash": "dash", "width": 1}, **place)
    figure.update_xaxes(title_text="position")
    figure.update_yaxes(title_text="loss (nats)", col=1, rangemode="tozero")
    title = "<b>Beyond the context</b> (loss by position, nats a token)"
    text = "" if any("loss" in result for result in models.values()) else " Periodic random text."
    caption = f"{networks(models)}.{text} Dashed: the end of the context; dotted: interpolated."
    return style.style(figure, title, caption, height=260 * places[-1]["row"])


def loss_without_positions(results: Results) -> go.Figure:
    """The loss by position as the network is, in the colour of its positions, and under each treatment of them: a panel
    a model, mean over prompts, in long prompts the running mean over a 64th of them.

    Args:
        results: of `neolens.position.ablate_positions`.

    Raises:
        ValueError: no such result, or more treatments than can be told apart (6).
    """
    models = holding(results, "ablated", of="neolens.position.ablate_positions", besides=("baseline", "group", "pos"))
    groups = list(dict.fromkeys(str(group) for one in models.values() for group in one["group"].values))
    if len(groups) > _MOST:
        raise ValueError(f"{len(groups)} treatments are too many to tell apart: choose at most {_MOST}")
    figure, places = style.panels(models, horizontal_spacing=0.03, vertical_spacing=0.2)
    for (name, result, line), place in zip(drawn_as(models), places, strict=True):
        kind = "as it is" if len(models) == 1 else f"as it is ({line['kind']})"
        whole = {"color": line["colour"], "width": 2.5}
        figure.add_trace(_line(result["baseline"], kind, name, whole), **place)
        for group in map(str, result["group"].values):
            at = groups.index(group)
            its = {"color": TASK_COLOURS[at % 3], "dash": DASHES[at // 3], "width": 1.5}
            figure.add_trace(_line(result["ablated"].sel(group=group), escape(group), name, its), **place)
    figure.update_xaxes(title_text="position")
    figure.update_yaxes(title_text="loss (nats)", col=1, rangemode="tozero")
    title = "<b>Without positions</b> (loss by position, nats a token)"
    caption = f"{networks(models)}. Mean over prompts, of predicting the token after each position."
    return style.legend_below(style.style(style.once(figure), title, caption, height=260 * places[-1]["row"]))


def _beyond(result: xr.Dataset) -> Iterator[tuple[str, xr.DataArray, str]]:
    """What is drawn of one model: its name, the loss by position and seed or prompt, and its dash."""
    if "loss" in result:  # of the instrument itself
        dashes = iter(("dot", "dash", "dashdot", "longdash"))
        for group, scale in zip(map(str, result["group"].values), result["scale"].values, strict=True):
            dash = "solid" if scale == 1 else next(dashes, "dot")
            yield escape(group), result["loss"].sel(group=group).squeeze("seed", drop=True), dash
        return
    for variable, what, dash in (("loss_beyond", "as trained", "solid"), ("loss_interpolated", "interpolated", "dot")):
        if variable in result:
            yield what, result[variable], dash


def _line(loss: xr.DataArray, what: str, model: str, line: dict[str, Any]) -> go.Scatter:
    mean = loss.mean([axis for axis in ("prompt", "seed") if axis in loss.dims])
    mean = mean.rolling(pos=max(1, mean.sizes["pos"] // _POINTS), min_periods=1).mean()
    return go.Scatter(
        x=mean["pos"].values,
        y=mean.values,
        mode="lines",
        line=line,
        name=what,
        legendgroup=what,
        hovertemplate=f"{model}, {what}<br>position %{{x}}: %{{y:.2f}} nats<extra></extra>",
    )
