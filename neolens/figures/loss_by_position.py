"""The loss by position: as text runs past the context, and where positions are taken away.

Losses of single positions scatter, so lines are running means: each point is the mean of some positions up to it, which
the caption counts. A mean never mixes positions inside the context with positions past it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import plotly.graph_objects as go
import xarray as xr

from neolens.figures import legends, style
from neolens.figures.inputs import Results, holding
from neolens.figures.style import DASHES, GREY, INK, TASK_COLOURS, escape
from neolens.figures.variants import drawn_as, line_over_seeds, networks
from neolens.results import check_result

_MOST = 6  # treatments that can be told apart
_SCALED = ("dot", "dash", "dashdot", "longdash")  # of positions that are interpolated
_POINTS = 64  # a long prompt is averaged over so many parts of it


def loss_beyond(results: Results) -> go.Figure:
    """The loss by position as text runs past the context: solid as trained, and a dash for each scale by which
    positions are interpolated. A panel a model, bands from the lowest seed (or prompt) to the highest.

    Each point is the mean of the positions up to it, an eighth of the context at most; past the end of the context, at
    the dashed line, the mean starts anew, so that what is drawn there is of positions there alone. Just past it, as at
    the start, points are of few positions and scatter more.

    Args:
        results: of `neolens.position.beyond_context`, or of the study rotary_vs_absolute.

    Raises:
        TypeError, ValueError: no such result, or more scales than can be told apart (4).
    """
    models = holding(
        results,
        {"loss_beyond": "seed? pos", "inside": "pos"},
        {"loss": "seed? group prompt pos", "inside": "pos", "scale": "group"},
        source="neolens.position.beyond_context or the study rotary_vs_absolute",
        coords=["pos"],
    )
    for name, result in models.items():
        if "loss" in result:
            check_result(result, name, ["group"], source="neolens.position.beyond_context")
    drawn = {name: list(_beyond(result)) for name, result in models.items()}
    dashes = _dashes((what, trained) for lines in drawn.values() for what, trained, _ in lines)
    figure, places = style.panels(models, horizontal_spacing=0.03, vertical_spacing=0.2)
    figure.add_traces([_key(what, dash) for what, dash in dashes.items()])
    spans: dict[str, int] = {}
    for (name, result, line), lines, place in zip(drawn_as(models), drawn.values(), places, strict=True):
        context = int(result["inside"].sum()) if "loss" in result else (result["pos"].size + 1) // 2
        spans[name] = max(1, context // 8)
        for what, _, loss in lines:
            hover = f"{name}, {what}<br>position %{{x}}: %{{y:.2f}} nats"
            its = {"colour": line["colour"], "dash": dashes[what]}
            for trace in line_over_seeds(running_mean(loss, spans[name], context), "pos", what, its, hover):
                figure.add_trace(trace.update(showlegend=False), **place)
        figure.add_vline(context - 0.5, line={"color": GREY, "dash": "dash", "width": 1}, **place)
    figure.update_xaxes(title_text="position")
    figure.update_yaxes(title_text="loss (nats)", col=1, rangemode="tozero")
    title = "<b>Beyond the context</b> (loss by position, nats per token)"
    text = "" if any("loss" in result for result in models.values()) else " Periodic random text."
    means = _averaged(spans, " and just past the context")
    caption = f"{networks(models)}.{text}{means} Dashed, upright: the end of the context."
    return legends.below(style.style(figure, title, caption, height=260 * places[-1]["row"]))


def loss_without_positions(results: Results) -> go.Figure:
    """The loss by position as the network is, in the colour of its positions, and under each treatment of them: a panel
    a model, mean over prompts. In prompts of 128 positions or more, each point is the mean of the positions up to it, a
    64th of the prompt at most.

    Args:
        results: of `neolens.position.ablate_positions`.

    Raises:
        TypeError, ValueError: no such result, or more treatments than can be told apart (6).
    """
    needs = {"ablated": "seed? group prompt pos", "baseline": "seed? prompt pos"}
    models = holding(results, needs, source="neolens.position.ablate_positions", coords=["group", "pos"])
    if heads := [name for name, one in models.items() if "how" in one.attrs]:
        raise ValueError(f"{heads[0]}: heads were ablated, not positions: draw it with neolens.figures.ablation_groups")
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
    title = "<b>Without positions</b> (loss by position, nats per token)"
    spans = {escape(name): _span(result["baseline"]) for name, result in models.items()}
    caption = f"{networks(models)}. Mean over prompts, of predicting the token after each position.{_averaged(spans)}"
    return legends.below(style.style(legends.once(figure), title, caption, height=260 * places[-1]["row"]))


def running_mean(loss: xr.DataArray, span: int, context: int | None = None) -> xr.DataArray:
    """At each position the mean of the `span` positions up to it, or of as many as there are since the start, or since
    the end of the context; NaN where there is no loss."""
    parts = [loss] if context is None else [loss.isel(pos=slice(context)), loss.isel(pos=slice(context, None))]
    means = [part.rolling(pos=span, min_periods=1).mean() for part in parts if part.sizes["pos"]]
    return xr.concat(means, dim="pos").where(loss.notnull())


def _beyond(result: xr.Dataset) -> Iterator[tuple[str, bool, xr.DataArray]]:
    """What is drawn of one model: how its positions are treated, whether that is as trained, and the loss by position
    and seed or prompt."""
    if "loss" in result:  # of the instrument itself
        for group, scale in zip(map(str, result["group"].values), result["scale"].values, strict=True):
            yield escape(group), bool(scale == 1), result["loss"].sel(group=group).squeeze("seed", drop=True)
        return
    for variable, what in (("loss_beyond", "as trained"), ("loss_interpolated", "interpolated")):
        if variable in result:
            yield what, what == "as trained", result[variable]


def _dashes(treatments: Iterable[tuple[str, bool]]) -> dict[str, str]:
    """The dash of each treatment: solid as trained."""
    dashes = {what: "solid" if trained else "" for what, trained in treatments}
    scaled = [what for what, dash in dashes.items() if not dash]
    if len(scaled) > len(_SCALED):
        raise ValueError(f"{len(scaled)} scales are too many to tell apart: choose at most {len(_SCALED)}")
    return dashes | dict(zip(scaled, _SCALED))


def _key(what: str, dash: str) -> go.Scatter:
    """An entry of the legend, in no model's colour."""
    line = {"color": INK, "dash": dash, "width": 2}
    shown = {"name": what, "legendgroup": f"{what} {dash}", "showlegend": True}
    return go.Scatter(x=[None], y=[None], mode="lines", line=line, **shown)


def _averaged(spans: dict[str, int], besides: str = "") -> str:
    """What a point of each model's line is the mean of; nothing where it is one position alone."""
    wide = {name: span for name, span in spans.items() if span > 1}
    if not wide:
        return ""
    if len(wide) == len(spans) and len(set(wide.values())) == 1:
        many = f"the {next(iter(wide.values()))} positions up to it"
    else:
        many = f"the positions up to it, {', '.join(f'{span} in {name}' for name, span in spans.items())}"
    return f" Each point: the mean of {many}, of fewer at the start{besides}."


def _span(loss: xr.DataArray) -> int:
    return max(1, loss.sizes["pos"] // _POINTS)


def _line(loss: xr.DataArray, what: str, model: str, line: dict[str, Any]) -> go.Scatter:
    mean = loss.mean([axis for axis in ("prompt", "seed") if axis in loss.dims])
    mean = running_mean(mean, _span(mean))
    return go.Scatter(
        x=mean["pos"].values,
        y=mean.values,
        mode="lines",
        line=line,
        name=what,
        legendgroup=what,
        hovertemplate=f"{model}, {what}<br>position %{{x}}: %{{y:.2f}} nats<extra></extra>",
    )
