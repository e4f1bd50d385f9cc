"""How networks learn over their training: one panel a quantity, one line a network, its spread over seeds as a band.

A network has the colour of its position encoding; networks alike in that are told apart by the dash of their line.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go
import xarray as xr
from plotly.subplots import make_subplots

from neolens.checks import check_choice, check_list, check_text, check_whole, did_you_mean, shown
from neolens.figures import legends, style
from neolens.figures.inputs import checked, listed
from neolens.figures.style import DASHES, POSITION_COLOURS


def learning(curves: xr.Dataset, *, distance: int, tasks: Sequence[str] | None = None) -> go.Figure:
    """Loss and the accuracy of each task against the training step: the median over seeds, and from the lowest seed to
    the highest.

    Args:
        curves: variables with the axes `model`, `seed`, `step`, those of tasks also `distance`, and the coordinate
            `position` at `model`: what `neolens.lab.evaluation.curves.curves` gives.
        distance: of the answer, for the tasks.
        tasks: by default all that the curves hold.

    Raises:
        TypeError, ValueError: something else, a distance or a task that the curves do not hold.
    """
    coords = ["model", "seed", "step", "distance", "position"]
    checked(curves, "curves", {"loss": "model seed step"}, "neolens.lab.evaluation.curves.curves", coords)
    held = [str(name) for name in curves.data_vars if set(curves[name].dims) == {"model", "seed", "step", "distance"}]
    wanted = _tasks(tasks, held)
    distances = curves["distance"].values.tolist()
    distance = check_whole(distance, "distance", remedy=f"the curves hold {listed(distances)}")
    if distance not in distances:
        raise ValueError(f"the curves hold no distance {distance}: they hold {listed(distances)}")
    for position in curves["position"].values:
        check_choice(str(position), "position encoding", POSITION_COLOURS)
    checked(curves, "curves", dict.fromkeys(wanted, "model seed step distance"), "neolens.lab.evaluation.curves.curves")
    panels = {"loss": curves["loss"]} | {task: curves[task].sel(distance=distance) for task in wanted}
    names = ["Loss (nats per token)", *(f"{task.replace('_', ' ').capitalize()} (accuracy)" for task in wanted)]
    figure = make_subplots(1, len(panels), subplot_titles=[f"<b>{name}</b>" for name in names], horizontal_spacing=0.05)
    for column, values in enumerate(panels.values(), start=1):
        for line in _lines(values, legend=column == 1):
            figure.add_trace(line, row=1, col=column)
        figure.update_xaxes(title_text="training step", rangemode="tozero", row=1, col=column)
        if column > 1:
            figure.update_yaxes(range=[-0.02, 1.04], row=1, col=column)
    seeds = curves.sizes["seed"]
    caption = (
        f"Median over {seeds} seed{'s' if seeds > 1 else ''}, band from lowest to highest. Accuracy on fresh prompts "
        f"whose answer stands {distance} tokens back."
    )
    return legends.below(style.style(figure, "<b>Learning</b> (by training step)", caption, height=300))


def _tasks(tasks: Any, held: list[str]) -> list[str]:
    """The tasks to draw."""
    wanted = held if tasks is None else [tasks] if isinstance(tasks, str) else tasks
    names = check_list(wanted, "tasks", "names", example=str(held[:1]))
    if not names and tasks is not None:
        raise ValueError(f"tasks {shown(tasks)}: expected at least one of {listed(held)}, or None for all")
    for name in names:
        if check_text(name, "task", example=held[0] if held else "recall") not in held:
            raise ValueError(f"the curves hold no task {name!r}: {did_you_mean(name, held)}they hold {listed(held)}")
    return names


def _lines(values: xr.DataArray, *, legend: bool) -> list[go.Scatter]:
    lines: list[go.Scatter] = []
    met: dict[str, int] = {}
    for model in values["model"].values:
        of_model = values.sel(model=model)
        position = str(of_model["position"].item())
        dash = DASHES[met.setdefault(position, 0) % len(DASHES)]
        met[position] += 1
        lines += _with_band(of_model, style.escape(str(model)), POSITION_COLOURS[position], dash, legend)
    return lines


def _with_band(values: xr.DataArray, name: str, colour: str, dash: str, legend: bool) -> list[go.Scatter]:
    """The lowest seed unseen, the highest filled down to it, and the median."""
    steps = values["step"].values
    low, middle, high = (values.min("seed").values, values.median("seed").values, values.max("seed").values)
    shared = {"x": steps, "mode": "lines", "legendgroup": name}
    return [
        *style.band(steps, low, high, colour, name),
        go.Scatter(
            y=middle,
            name=name,
            line={"color": colour, "dash": dash, "width": 2},
            showlegend=legend,
            hovertemplate=f"{name}<br>step %{{x}}: %{{y:.3g}}<extra></extra>",
            **shared,
        ),
    ]
