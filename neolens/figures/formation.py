"""What forms first: best scores, copying, and the effect of ablating induction heads, by training step.

Checkpoints stand side by side as they were kept. Previous-token head, induction pattern and copying have the colours of
`window.TASK_COLOURS`, which no kind of layer and no position encoding has.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import plotly.graph_objects as go
import xarray as xr
from plotly.subplots import make_subplots

from neolens.circuits.copying import HOLDS
from neolens.circuits.formation import CAUSE, COPIES
from neolens.circuits.induction import MEASURES, best, sure
from neolens.figures import style
from neolens.figures.induction import Results, checked, once
from neolens.figures.style import GREY, INK, escape
from neolens.figures.window import TASK_COLOURS

_CALLED = {"solid": "solid", "dash": "dashed", "dot": "dotted"}
_DASHES = tuple(_CALLED)
_LATER = "#A9B3BD"  # of heads that hold the pattern at the end


def formation_by_step(results: Results) -> go.Figure:
    """What forms when: best scores and copying, and below what ablating all induction heads adds beyond random heads,
    by training step. A column a model, a dash a repeat length; bands: 95 % intervals over prompts.

    Raises:
        ValueError: no result with checkpoints.
    """
    models = {name: one for name, one in checked(results, "induction").items() if "together_by_step" in one}
    if not models:
        raise ValueError("no result has training checkpoints: expected some measured `..._by_step`")
    titles, lengths = [f"<b>{escape(name)}</b>" for name in models], {}
    shared: dict[str, Any] = {"shared_yaxes": "rows", "shared_xaxes": "columns"}
    figure = make_subplots(
        2, len(models), subplot_titles=titles, horizontal_spacing=0.03, vertical_spacing=0.06, **shared
    )
    for col, result in enumerate(models.values(), start=1):
        training = _training(result)
        lengths = dict(zip(training["n"].values.tolist(), _DASHES))
        for n, dash in lengths.items():
            for row, curve in _curves(training.sel(distance=n - 1)):
                figure.add_traces(_by_step(*curve, n, dash), row, col)
        steps = list(map(str, training["step"].values.tolist()))
        figure.update_xaxes(tickvals=list(range(len(steps))), ticktext=steps, tickangle=-60, showgrid=False, col=col)
        figure.update_xaxes(title_text="training step", row=2, col=col)
    figure.update_yaxes(range=[-0.05, 1.06], row=1)
    for level, row in ((HOLDS, 1), (COPIES, 1), (CAUSE, 2)):
        figure.add_hline(level, line={"color": GREY, "dash": "dash", "width": 1}, row=row, col="all")
    figure.update_yaxes(title_text="score, or share", row=1, col=1)
    below = np.concatenate([[0, CAUSE], *(np.asarray(trace.y, float) for trace in figure.select_traces(row=2))])
    figure.update_yaxes(range=[np.nanmin(below) - 0.3, np.nanmax(below) + 0.3], row=2, zeroline=True)
    figure.update_yaxes(title_text="nats a token more", row=2, col=1)
    dashes = ", ".join(f"n = {n} {_CALLED[dash]}" for n, dash in lengths.items())
    caption = (
        f"{', '.join(map(escape, models))}: one network each; {dashes}. Thin dashed lines: what has to be passed. "
        "Below: what ablating all heads that hold the pattern adds, less what as many random heads do."
    )
    title = "<b>What forms first</b> (score, share of copies, and effect in nats a token, by training step)"
    return style.legend_below(style.style(once(figure), title, caption, 460))


def _training(result: xr.Dataset) -> xr.Dataset:
    """What was measured over the training under its own names, at the steps and repeat lengths that were asked."""
    names = {name: name.removesuffix("_by_step") for name in map(str, result.data_vars) if name.endswith("_by_step")}
    training = result[list(names)].rename(names)
    return training.dropna("distance", how="all", subset=["accuracy"]).dropna("step", how="all", subset=["accuracy"])


def _curves(training: xr.Dataset) -> Iterator[tuple[int, tuple[str, str, xr.DataArray]]]:
    """Row, and name, colour and values by step and prompt, of all that is drawn."""
    shown = {
        "best previous-token score": best("previous_token")(training),
        "best induction score": best("induction")(training),
        "copied": MEASURES["accuracy"].of(training),
    }
    for (name, values), colour in zip(shown.items(), TASK_COLOURS):
        assert values is not None
        yield 1, (name, colour, values)
    yield 2, ("heads with the pattern at the end", _LATER, training["later"] - training["later_others"])
    yield 2, ("heads with the pattern at that step", INK, training["together"] - training["others"])


def _by_step(name: str, colour: str, values: xr.DataArray, n: int, dash: str) -> list[go.Scatter]:
    """A curve with its band over prompts."""
    its = [one.its for one in sure({step: values.sel(step=step) for step in values["step"].values.tolist()}).values()]
    steps, x = values["step"].values.tolist(), list(range(values.sizes["step"]))
    return [
        *style.band(x, [one.low for one in its], [one.high for one in its], colour, name),
        go.Scatter(
            x=x,
            y=[one.mean for one in its],
            customdata=steps,
            mode="lines+markers",
            marker={"size": 4},
            line={"color": colour, "dash": dash, "width": 2},
            name=name,
            legendgroup=name,
            hovertemplate=f"{name}, n = {n}<br>step %{{customdata}}: %{{y:.3f}}<extra></extra>",
        ),
    ]
