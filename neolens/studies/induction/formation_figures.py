"""What forms first: best scores, copying, and the effect of ablating induction heads, by training step.

Checkpoints stand side by side as they were kept. Previous-token head, induction pattern and copying have the colours of
`style.TASK_COLOURS`, which no kind of layer and no position encoding has.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import plotly.graph_objects as go
import xarray as xr
from plotly.subplots import make_subplots

from neolens.figures import legends, points, style
from neolens.figures.inputs import Results, by_model, check_defined
from neolens.figures.style import CONTROL_COLOUR, GREY, INK, TASK_COLOURS, escape
from neolens.studies.induction.figures import SOURCE
from neolens.studies.induction.formation import CAUSE, COPIES
from neolens.studies.induction.measure import PATTERN_SCORE
from neolens.studies.induction.summary import MEASURES, best, estimate_all

_BY_PROMPT = "step distance prompt"
_NEEDS = {f"{name}_by_step": f"{_BY_PROMPT} layer head" for name in ("previous_token", "induction")} | {
    f"{name}_by_step": _BY_PROMPT for name in ("accuracy", "together", "others", "later", "later_others")
}
_SHOWN = ("best previous-token score", "best induction score", "copy accuracy")
_EFFECTS = (
    ("heads with the pattern at the end", CONTROL_COLOUR, "later", "later_others"),
    ("heads with the pattern at that step", INK, "together", "others"),
)
_THRESHOLD = {"color": GREY, "dash": "dash", "width": 1}
_SCORE, _EFFECT, _BETWEEN = 150, 110, 22  # pixels: a panel of scores, one of effects, and between two


def formation_by_step(results: Results) -> go.Figure:
    """What forms when: best scores and copying, and below what ablating all induction heads adds beyond random heads,
    by training step. One column per model, in each half one row per repeat length; bands: 95 % intervals over prompts.

    Raises:
        TypeError, ValueError: no result with checkpoints.
    """
    models = {name: one for name, one in by_model(results, source=SOURCE).items() if "together_by_step" in one}
    if not models:
        raise ValueError("no result has training checkpoints: expected some measured `..._by_step`")
    by_model(models, _NEEDS, SOURCE, ["n", "step", "distance"])
    for name, one in models.items():
        for score in ("previous_token_by_step", "induction_by_step"):
            check_defined(one[score], ["prompt", "step", "distance", "layer", "head"], name)
    trained = {name: _training(one) for name, one in models.items()}
    lengths = sorted({n for training in trained.values() for n in training["n"].values.tolist()})
    figure, inner = _grid(list(models), lengths)
    for col, training in enumerate(trained.values(), start=1):
        for n in training["n"].values.tolist():
            for half, curve in _curves(training.sel(distance=n - 1)):
                figure.add_traces(_by_step(*curve, n), rows=lengths.index(n) + 1 + half * len(lengths), cols=col)
        steps = list(map(str, training["step"].values.tolist()))
        figure.update_xaxes(tickvals=list(range(len(steps))), ticktext=steps, tickangle=-60, showgrid=False, col=col)
    figure.update_xaxes(title_text="training step", row=2 * len(lengths))
    below = [np.asarray(trace.y, float) for at in range(len(lengths), 2 * len(lengths)) for trace in _row(figure, at)]
    limits = points.limits(np.concatenate([[CAUSE], *below]), zero=True)
    for number in range(1, len(lengths) + 1):
        for level in (PATTERN_SCORE, COPIES):
            figure.add_hline(level, line=_THRESHOLD, row=number, col="all")
        figure.update_yaxes(range=[-0.05, 1.06], row=number)
        figure.update_yaxes(title={"text": "score, or share", "font": {"size": 11}}, row=number, col=1)
        figure.update_yaxes(
            title={"text": "nats per token more", "font": {"size": 11}}, row=number + len(lengths), col=1
        )
        figure.add_hline(CAUSE, line=_THRESHOLD, row=number + len(lengths), col="all")
        figure.update_yaxes(range=limits, zeroline=True, row=number + len(lengths))
    caption = (
        f"{', '.join(map(escape, models))}: one network each; n is the repeat length. Thin dashed lines: what has to "
        "be passed. Below: what ablating all heads that have the pattern adds, less what as many random heads do."
    )
    title = "<b>What forms first</b> (score, share of copies, and effect in nats per token, by training step)"
    return legends.below(style.style(legends.once(figure), title, caption, inner))


def _grid(models: Sequence[str], lengths: Sequence[int]) -> tuple[go.Figure, int]:
    """Empty panels, and the height of all in pixels."""
    heights = [_SCORE] * len(lengths) + [_EFFECT] * len(lengths)
    inner = sum(heights) + _BETWEEN * (len(heights) - 1)
    figure = make_subplots(
        len(heights),
        len(models),
        column_titles=[f"<b>{escape(name)}</b>" for name in models],
        row_titles=[f"n = {n}" for n in lengths] * 2,
        shared_xaxes="columns",
        shared_yaxes="rows",
        horizontal_spacing=0.02,
        vertical_spacing=_BETWEEN / inner,
        row_heights=[height / sum(heights) for height in heights],
    )
    return figure, inner


def _row(figure: go.Figure, row: int) -> Iterator[go.Scatter]:
    """The traces of a row, the first row 0."""
    return figure.select_traces(row=row + 1)


def _training(result: xr.Dataset) -> xr.Dataset:
    """What was measured over the training under its own names, at the steps and repeat lengths that were measured."""
    names = {name: name.removesuffix("_by_step") for name in map(str, result.data_vars) if name.endswith("_by_step")}
    training = result[list(names)].rename(names)
    return training.dropna("distance", how="all", subset=["accuracy"]).dropna("step", how="all", subset=["accuracy"])


def _curves(training: xr.Dataset) -> Iterator[tuple[int, tuple[str, str, xr.DataArray]]]:
    """The half of the figure, and name, colour and values by step and prompt, of all that is drawn."""
    scores = (best("previous_token")(training), best("induction")(training), MEASURES["accuracy"].of(training))
    for name, colour, values in zip(_SHOWN, TASK_COLOURS, scores):
        assert values is not None
        yield 0, (name, colour, values)
    for name, colour, group, control in _EFFECTS:
        yield 1, (name, colour, training[group] - training[control])


def _by_step(name: str, colour: str, values: xr.DataArray, n: int) -> list[go.Scatter]:
    """A curve with its band over prompts."""
    steps, x = values["step"].values.tolist(), list(range(values.sizes["step"]))
    estimates = [one.estimate for one in estimate_all({step: values.sel(step=step) for step in steps}).values()]
    return [
        *style.band(x, [one.low for one in estimates], [one.high for one in estimates], colour, name),
        go.Scatter(
            x=x,
            y=[one.mean for one in estimates],
            customdata=[[step, n] for step in steps],
            meta=["training step", "n"],
            mode="lines+markers",
            marker={"size": 4},
            line={"color": colour, "dash": "solid", "width": 2},
            name=name,
            legendgroup=name,
            hovertemplate=f"{name}, n = {n}<br>step %{{customdata[0]}}: %{{y:.3f}}<extra></extra>",
        ),
    ]
