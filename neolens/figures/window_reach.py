"""What crosses a window: how well an answer is found at each distance, where it stands, and which layers bring it.

Distances stand side by side as they were chosen, close about the window and sparse beyond it; the dashed line is
between the last that a layer of that window reaches and the first that it does not.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import plotly.graph_objects as go
import xarray as xr
from plotly.colors import sample_colorscale
from plotly.subplots import make_subplots

from neolens.checks import check_text
from neolens.checks import shown as printed
from neolens.figures import legends, style
from neolens.figures.distances import WindowAxis
from neolens.figures.inputs import by_model
from neolens.figures.style import CELL, DASHES, INK, TASK_COLOURS, escape
from neolens.near_far import of_results

_SOURCE = "at_distances"
_BY_PROMPT = "seed distance prompt"
_NEEDS = dict.fromkeys(("clean", "corrupted", "all_local"), _BY_PROMPT) | {
    "patched": f"{_BY_PROMPT} layer pos",
    "localised": f"{_BY_PROMPT} layer",
}
_RANKS = ("rank", "rank_all_local")
_LOWEST = -1.5  # share taken away
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
    titles = [f"<b>{escape(name)}</b>: {_TITLES[place]}" for name in models for place in _TITLES]
    deepest = max(result.sizes["layer"] for result in models.values())
    gap = 64 / (len(models) * (CELL * deepest + 64))
    figure = make_subplots(len(models), 3, subplot_titles=titles, horizontal_spacing=0.03, vertical_spacing=gap)
    figure.update_annotations(font_size=13)
    for row, result in enumerate(models.values(), start=1):
        share = _shares(result["patched"] - result["corrupted"], result).transpose("layer", "pos", "distance")
        layers = [f"{layer} {style.span(result, layer)}" for layer in result["layer"].values.tolist()]
        for col, place in enumerate(_TITLES, start=1):
            axis = WindowAxis([result])
            figure.add_trace(_map(share.sel(pos=place), axis.x(result), layers), row=row, col=col)
            axis.draw(figure, {"row": row, "col": col}, title=row == len(models), label=False)
            figure.update_yaxes(type="category", autorange="reversed", showticklabels=col == 1, row=row, col=col)
    figure.update_yaxes(title_text="before layer", col=1)
    bar = {"title": {"text": "share"}, "thickness": 14, "outlinewidth": 0}
    figure.update_layout(coloraxis={"colorscale": "RdBu", "cmin": -1, "cmax": 1, "colorbar": bar})
    caption = "The clean residual stream in the run with another source; mean over prompts, then over seeds."
    title = f"<b>Where {what} stands</b> (share of what the source makes of the logit difference)"
    return style.style(figure, title, caption, len(models) * (CELL * deepest + 64))


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


def narrowing_by_distance(results: Mapping[str, xr.Dataset]) -> go.Figure:
    """The share of what the source makes that is taken away when one layer is held to the window: a panel a model, a
    colour a layer, a line a seed; in ink, every layer held to it.

    Args:
        results: model -> what `at_distances` gave for one task.

    Raises:
        TypeError, ValueError: no results, or others.
    """
    models = _checked(results)
    figure, places = style.panels(models, horizontal_spacing=0.04, vertical_spacing=0.2)
    deepest = max(result.sizes["layer"] for result in models.values())
    colours = sample_colorscale("Turbo", np.linspace(0.08, 0.92, deepest).tolist())
    shown: set[str] = set()
    lowest = 0.0
    for result, place in zip(models.values(), places, strict=True):
        axis = WindowAxis([result])
        lines = {f"layer {layer}": result["localised"].sel(layer=layer) for layer in result["layer"].values.tolist()}
        drawn = [(name, values, colours[number]) for number, (name, values) in enumerate(lines.items())]
        for name, values, colour in [*drawn, ("every layer", result["all_local"], INK)]:
            if bool(values.isnull().all()):
                continue
            carried = result["clean"] - result["corrupted"]
            taken = ((carried - values).mean("prompt") / carried.mean("prompt")).transpose("seed", "distance")
            lowest = min(lowest, float(taken.min()))
            figure.add_traces(
                _lines(axis.x(result), taken, name, colour, name not in shown), rows=place["row"], cols=place["col"]
            )
            shown.add(name)
        axis.draw(figure, place, label=place == places[0])
    figure.update_yaxes(title_text="share taken away", col=1)
    short = of_results(list(models.values())).short
    title = f"<b>What a layer takes away when it is restricted to {short}</b> (share)"
    caption = (
        f"{', '.join(map(escape, models))}: share of what the source makes of the logit difference. "
        f"A colour a layer, restricted to {short} by itself; ink: every layer at once. Solid, dotted, dashed: the "
        "seeds in order. Below 0, the network does better so."
    )
    if lowest < _LOWEST:  # of a network that hardly answers: one line would flatten all the others
        figure.update_yaxes(range=[_LOWEST - 0.1, 1.3])
        caption += f" Cut off at {_LOWEST:g}; the lowest is {lowest:.1f}."
    style.style(figure, title, caption, 260 * places[-1]["row"])
    return legends.below(figure)


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


def _lines(x: list[float], by_seed: xr.DataArray, name: str, colour: str, shown: bool) -> list[go.Scatter]:
    """A line for each seed, told apart by its dash."""
    return [
        go.Scatter(
            x=x,
            y=by_seed.isel(seed=number).values,
            mode="lines+markers",
            line={"color": colour, "width": 1.8, "dash": DASHES[number % len(DASHES)]},
            marker={"size": 4},
            name=name,
            legendgroup=name,
            showlegend=shown and number == 0,
            customdata=[seed] * len(x),
            meta=["seed"],
            hovertemplate=f"{name}, seed {seed}: %{{y:.3f}}<extra></extra>",
        )
        for number, seed in enumerate(by_seed["seed"].values.tolist())
    ]


def _shares(moved: xr.DataArray, result: xr.Dataset) -> xr.DataArray:
    """What is moved over what the source makes: means over prompts first, then the mean over seeds."""
    return (moved.mean("prompt") / (result["clean"] - result["corrupted"]).mean("prompt")).mean("seed")


def _checked(results: Any) -> dict[str, xr.Dataset]:
    return by_model(
        results, _NEEDS, _SOURCE, ["distance", "seed", "layer", "attention_kind", "window", "pos"], ["window"]
    )
