"""What crosses a window: how well an answer is found at each distance, where it stands, and which layers bring it.

Distances stand side by side as they were chosen, close about the window and sparse beyond it; the dashed line is
between the last that a layer of that window reaches and the first that it does not.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import plotly.graph_objects as go
import xarray as xr
from plotly.colors import sample_colorscale, unlabel_rgb
from plotly.subplots import make_subplots

from neolens.checks import check_text
from neolens.checks import shown as printed
from neolens.figures import legends, maps, style
from neolens.figures.distances import WindowAxis
from neolens.figures.inputs import by_model
from neolens.figures.style import CELL, INK, TASK_COLOURS, escape
from neolens.near_far import of_results

_SOURCE = "at_distances"
_BY_PROMPT = "seed distance prompt"
_NEEDS = dict.fromkeys(("clean", "corrupted", "all_local"), _BY_PROMPT) | {
    "patched": f"{_BY_PROMPT} layer pos",
    "localised": f"{_BY_PROMPT} layer",
}
_RANKS = ("rank", "rank_all_local")
_LOWEST = -1.5  # share removed
_NOTHING = 0.05  # share: a place at which no share is larger has no map
_FAINT = 0.09  # opacity of the bands of many lines
_EVERY = -1  # stands for every layer at once
_MOST = 7  # layers that stay distinguishable next to every layer at once
_APART = 0.14  # tasks at one distance

_TITLES = {"source": "at the source", "source..query": "all between", "query": "at the query"}


def recall_by_distance(results: Mapping[str, Mapping[str, xr.Dataset]]) -> go.Figure:
    """The share of prompts in which the answer is the likeliest token, as trained and with every layer held to the
    window: a panel a model, a line a task, the mean over seeds, with the 95 % interval of as many prompts as one seed
    was asked (Wilson 1927).

    Args:
        results: model -> task -> what `at_distances` gave.

    Raises:
        TypeError, ValueError: no results, or others.
    """
    if not isinstance(results, Mapping) or not results or isinstance(results, xr.Dataset):
        raise TypeError(f"results {printed(results)}: expected a dict from a model to a dict from a task to its result")
    for name, by_task in results.items():
        if not isinstance(by_task, Mapping) or isinstance(by_task, xr.Dataset):
            raise TypeError(
                f"results[{name!r}] {printed(by_task)}: expected a dict from the name of a task to its result"
            )
        by_model(by_task, {name: _BY_PROMPT for name in _RANKS}, _SOURCE, ["distance", "seed", "window"], ["window"])
    first = {check_text(name, "name of a model"): next(iter(tasks.values())) for name, tasks in results.items()}
    figure, places = style.panels(first, horizontal_spacing=0.04, vertical_spacing=0.2)
    tasks = list(dict.fromkeys(task for by_task in results.values() for task in by_task))
    for by_task, place in zip(results.values(), places, strict=True):
        axis = WindowAxis(by_task.values())
        for task, result in by_task.items():
            colour = TASK_COLOURS[tasks.index(task) % len(TASK_COLOURS)]
            for variable, dash in (("rank", "solid"), ("rank_all_local", "dot")):
                share = (result[variable] == 0).mean(("seed", "prompt"))
                name = f"{escape(task.replace('_', ' '))}{', every layer local' if dash == 'dot' else ''}"
                x = [at + _APART * (tasks.index(task) - (len(tasks) - 1) / 2) for at in axis.x(result)]
                line, prompts, shown = {"color": colour, "dash": dash}, result.sizes["prompt"], place == places[0]
                figure.add_trace(_with_intervals(x, share.values, prompts, name, line, shown), **place)
        axis.draw(figure, place, label=place == places[0])
    figure.update_yaxes(range=[-0.06, 1.06])
    figure.update_yaxes(title_text="share of prompts", col=1)
    some = next(iter(first.values()))
    caption = (
        f"{', '.join(map(escape, results))}: {some.sizes['prompt']} prompts a distance, task and seed. Means "
        "over seeds, with 95 % intervals over prompts. Dotted: the same weights with every layer restricted to "
        f"{of_results(_every(results)).short}."
    )
    style.style(figure, "<b>The answer is the likeliest token</b> (share of prompts)", caption, 240 * places[-1]["row"])
    return legends.below(figure)


def places_by_distance(results: Mapping[str, xr.Dataset], *, what: str = "the answer") -> go.Figure:
    """Where the answer stands: the share of what the source makes that the residual stream before a layer moves,
    patched at the source, at all positions between, and at the query. A row of maps for each model, mean over prompts,
    then seeds.

    Args:
        results: model -> what `at_distances` gave for one task.
        what: what the source makes, for the title.

    Raises:
        TypeError, ValueError: no results, or others.
    """
    models = _checked(results)
    what = escape(check_text(what, "what"))
    for name, result in models.items():
        if missing := set(_TITLES) - set(result["pos"].values.tolist()):
            raise ValueError(f"{name} without position {min(missing)!r}: expected the result of {_SOURCE}, as returned")
    shares = {name: _shares(one["patched"] - one["corrupted"], one) for name, one in models.items()}
    places = _moving(shares.values())
    titles = [f"<b>{escape(name)}</b>: {_TITLES[place]}" for name in models for place in places]
    deepest = max(result.sizes["layer"] for result in models.values())
    gap = 64 / (len(models) * (CELL * deepest + 64))
    figure = make_subplots(
        len(models), len(places), subplot_titles=titles, horizontal_spacing=0.03, vertical_spacing=gap
    )
    figure.update_annotations(font_size=13)
    for row, (name, result) in enumerate(models.items(), start=1):
        share = shares[name].transpose("layer", "pos", "distance")
        layers = [f"{layer} {style.span(result, layer)}" for layer in result["layer"].values.tolist()]
        for col, place in enumerate(places, start=1):
            axis = WindowAxis([result])
            figure.add_trace(_map(share.sel(pos=place), axis.x(result), layers), row=row, col=col)
            axis.draw(figure, {"row": row, "col": col}, title=row == len(models), label=False)
            figure.update_yaxes(type="category", autorange="reversed", showticklabels=col == 1, row=row, col=col)
    figure.update_yaxes(title_text="before layer", col=1)
    bar = {"title": {"text": "share"}, "thickness": 14, "outlinewidth": 0}
    figure.update_layout(coloraxis={"colorscale": "RdBu", "cmin": -1, "cmax": 1, "colorbar": bar})
    caption = "The clean residual stream in the run with another source; mean over prompts, then over seeds."
    if empty := [_TITLES[place] for place in _TITLES if place not in places]:
        caption += f" Not drawn: {' and '.join(empty)}, where no share is above {_NOTHING:g} in size."
    title = f"<b>Where {what} stands</b> (share of what the source makes of the logit difference)"
    return style.style(figure, title, caption, len(models) * (CELL * deepest + 64))


def _moving(shares: Iterable[xr.DataArray]) -> list[str]:
    """The places at which the residual stream of some model moves something; all where none does."""
    several = list(shares)
    moving = [
        place for place in _TITLES if any(maps.largest(share.sel(pos=place).values) > _NOTHING for share in several)
    ]
    return moving or list(_TITLES)


def _map(share: xr.DataArray, x: list[float], layers: list[str]) -> go.Heatmap:
    """Where the answer stands: one place, before every layer."""
    return go.Heatmap(
        z=share.values,
        x=x,
        y=layers,
        coloraxis="coloraxis",
        customdata=np.tile(share["distance"].values, (len(layers), 1)),
        hovertemplate="before layer %{y}, distance %{customdata}: %{z:.3f}<extra></extra>",
    )


def narrowing_by_distance(results: Mapping[str, xr.Dataset], *, what: str = "") -> go.Figure:
    """The share of the source token's effect that restricting one layer to the window removes: one panel per model, one
    colour per layer, the mean over seeds with a band from the lowest to the highest; in black, every layer restricted.
    Of models with more than seven layers those that remove most at some distance are drawn, as the caption states.

    Args:
        results: model -> what `at_distances` gave for one task.
        what: the task, for the title.

    Raises:
        TypeError, ValueError: no results, or others.
    """
    models = _checked(results)
    what = escape(check_text(what, "what", empty=True))
    figure, places = style.panels(models, horizontal_spacing=0.04, vertical_spacing=0.2)
    deepest = max(result.sizes["layer"] for result in models.values())
    colours = sample_colorscale("Turbo", np.linspace(0.08, 0.92, deepest).tolist())
    taken = {name: _taken_away(result) for name, result in models.items()}
    drawn = _strongest(taken.values())
    for (name, result), place in zip(models.items(), places, strict=True):
        axis = WindowAxis([result])
        lines = [layer for layer in taken[name]["layer"].values.tolist() if layer in [*drawn, _EVERY]]
        for layer in lines:
            share, label = taken[name].sel(layer=layer), "every layer" if layer == _EVERY else f"layer {layer}"
            if bool(share.notnull().any()):
                look = {"colour": INK if layer == _EVERY else colours[layer], "rank": 1 + layer % (deepest + 1)}
                figure.add_traces(_with_band(axis.x(result), share, label, look), rows=place["row"], cols=place["col"])
        axis.draw(figure, place, label=place == places[0])
    figure.update_yaxes(title_text="share removed", col=1)
    short = of_results(list(models.values())).short
    title = f"<b>What restricting a layer to {short} removes</b> ({what and f'{what}, '}share)"
    caption = (
        f"{', '.join(map(escape, models))}: share of the source token's effect on the logit difference. One colour per "
        f"layer, restricted to {short} by itself; black: every layer at once. Means over seeds, bands from the lowest "
        "to the highest. Below 0, the restriction raises the logit difference."
    )
    if len(drawn) < deepest:
        caption += f" Drawn: the {len(drawn)} of {deepest} layers that remove most at some distance."
    lowest = min(float(one.min()) for one in taken.values())
    if lowest < _LOWEST:  # of a network that hardly answers: one line would flatten all the others
        figure.update_yaxes(range=[_LOWEST - 0.1, 1.3])
        caption += f" Cut off at {_LOWEST:g}; the lowest is {lowest:.1f}."
    style.style(legends.once(figure), title, caption, 260 * places[-1]["row"])
    return legends.below(figure)


def _taken_away(result: xr.Dataset) -> xr.DataArray:
    """The share removed by layer, seed and distance; of every layer at once as layer `_EVERY`."""
    parts = [result["localised"], result["all_local"].expand_dims(layer=[_EVERY])]
    each = xr.concat([part.reset_coords(drop=True) for part in parts], "layer")
    carried = result["clean"] - result["corrupted"]
    return ((carried - each).mean("prompt") / carried.mean("prompt")).transpose("layer", "seed", "distance")


def _strongest(taken: Iterable[xr.DataArray]) -> list[int]:
    """The layers, ascending, that take away most of some model at some distance: as many as stay distinguishable."""
    most: dict[int, float] = {}
    for share in taken:
        for layer in share["layer"].values.tolist():
            if layer != _EVERY:
                most[layer] = max(most.get(layer, 0.0), maps.largest(share.sel(layer=layer).mean("seed").values))
    return sorted(sorted(most, key=lambda layer: -most[layer])[:_MOST])


def _every(results: Mapping[str, Mapping[str, xr.Dataset]]) -> list[xr.Dataset]:
    return [result for by_task in results.values() for result in by_task.values()]


def share_interval(right: float, prompts: int) -> tuple[float, float]:
    """The 95 % interval of a share of so many prompts (Wilson 1927), which has a width also at 0 and 1."""
    z = 1.959964
    middle = (right + z * z / (2 * prompts)) / (1 + z * z / prompts)
    half = z / (1 + z * z / prompts) * np.sqrt(right * (1 - right) / prompts + z * z / (4 * prompts**2))
    return max(0.0, float(middle - half)), min(1.0, float(middle + half))


def _with_intervals(
    x: list[float], share: np.ndarray, prompts: int, name: str, line: dict[str, Any], shown: bool
) -> go.Scatter:
    low, high = (np.array(ends) for ends in zip(*(share_interval(float(one), prompts) for one in share), strict=True))
    return go.Scatter(
        x=x,
        y=share,
        error_y={"array": high - share, "arrayminus": share - low, "width": 3, "thickness": 1.2},
        customdata=list(zip(low, high, strict=True)),
        meta=["low", "high"],
        hovertemplate=f"{name}: %{{y:.3f}} (%{{customdata[0]:.2f}} to %{{customdata[1]:.2f}})<extra></extra>",
        mode="lines+markers",
        line=line | {"width": 2},
        marker={"size": 5},
        name=name,
        legendgroup=name,
        showlegend=shown,
    )


def _with_band(x: list[float], by_seed: xr.DataArray, name: str, look: Mapping[str, Any]) -> list[go.Scatter]:
    """The mean over seeds, and a band from the lowest to the highest where there are several."""
    mean, low, high = by_seed.mean("seed").values, by_seed.min("seed").values, by_seed.max("seed").values
    line = go.Scatter(
        x=x,
        y=mean,
        mode="lines+markers",
        line={"color": look["colour"], "width": 1.8},
        marker={"size": 4},
        name=name,
        legendgroup=name,
        legendrank=look["rank"],
        hovertemplate=f"{name}: %{{y:.3f}}<extra></extra>",
    )
    ends = style.band(x, low, high, _hex(look["colour"]), name, _FAINT) if by_seed.sizes["seed"] > 1 else []
    return [*ends, line]


def _hex(colour: str) -> str:
    """A colour as #rrggbb, also where it is written rgb(r, g, b)."""
    return colour if colour.startswith("#") else "#" + "".join(f"{round(part):02x}" for part in unlabel_rgb(colour))


def _shares(moved: xr.DataArray, result: xr.Dataset) -> xr.DataArray:
    """What is moved over what the source makes: means over prompts first, then the mean over seeds."""
    return (moved.mean("prompt") / (result["clean"] - result["corrupted"]).mean("prompt")).mean("seed")


def _checked(results: Any) -> dict[str, xr.Dataset]:
    return by_model(
        results, _NEEDS, _SOURCE, ["distance", "seed", "layer", "attention_kind", "window", "pos"], ["window"]
    )
