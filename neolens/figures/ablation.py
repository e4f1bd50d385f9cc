"""Effects of ablation: every head at its place, and groups of heads beside their random controls.

What ablating does is drawn with how sure it is: intervals over prompts, a mark where the effect stands after the
correction for all groups.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import plotly.graph_objects as go
import xarray as xr

from neolens.figures import legends, maps, points, style
from neolens.figures.ablation_labels import KINDS, caption, kind_of
from neolens.figures.inputs import anatomy_of, check_metric, checked
from neolens.figures.style import INK, escape
from neolens.stats import ALPHA

ABLATED = {"ablated": "group prompt pos? metric?", "baseline": "prompt pos? metric?"}
EFFECTS = dict.fromkeys(("effect", "low", "high", "p_adjusted"), "group")
"""What results of `neolens.ablate` and of `neolens.ablation.effect` have."""

_COORDS = ("group", "attention_kind")
_CORRECTIONS = {"max_t": "Westfall and Young", "benjamini_hochberg": "Benjamini and Hochberg"}


def ablation_heads(result_or_effects: Any, *, metric: str | None = None, limit: float | None = None) -> go.Figure:
    """The effect of ablating each head, by layer and head, on a map that diverges around 0; a dot marks those whose
    adjusted p is below 0.05. Layers carry their kind and window; a head that was not ablated alone is blank.

    Args:
        result_or_effects: of `neolens.ablate` or `neolens.ablation.effects.effect`.
        limit: the effect at which the colours end, by default the largest of the map.

    Raises:
        TypeError, ValueError: something else, a metric that it does not hold, no group that is a single head, or a
            limit that is not above 0.
    """
    from neolens.ablation.effects import heads_grid

    effects, name = _effects(result_or_effects, metric)
    anatomy_of(effects)
    grid = heads_grid(effects)
    beside = np.stack([grid[one].values for one in ("low", "high", "p_adjusted")], axis=-1)
    figure = maps.layer_map(
        grid,
        grid["effect"],
        "head",
        limit=maps.limit_above_0(limit, grid["effect"]),
        unit=style.unit(name),
        colours=style.diverging(name),
        customdata=beside,
        meta=["low", "high", "adjusted p"],
        text=np.where(beside[..., 2] < ALPHA, "●", ""),
        texttemplate="%{text}",
        textfont={"size": 9},
        hovertemplate="layer %{y}, head %{x}: %{z:.3g}<br>95 %: %{customdata[0]:.3g} to %{customdata[1]:.3g}<br>"
        "adjusted p: %{customdata[2]:.3g}<extra></extra>",
        xgap=1,
        ygap=1,
    )
    every = 1 + (grid.sizes["head"] - 1) // 16
    figure.update_xaxes(tickvals=grid["head"].values[::every], title_text="head", showgrid=False, zeroline=False)
    title = f"<b>Ablating each head</b> ({_effect_on(name)})"
    beneath = f"{caption(effects)} A dot: {_adjusted_p(effects)}."
    return style.style(figure, title, beneath, height=style.CELL * grid.sizes["layer"] + 40)


def ablation_groups(effects: Any, *, metric: str | None = None) -> go.Figure:
    """The effect of ablating each group, with its 95 % interval over prompts: filled where its adjusted p is below
    0.05, in the colour of the kind of its layers, random controls grey.

    Args:
        effects: of `neolens.ablation.effects.effect`, or of `neolens.ablate`.

    Raises:
        TypeError, ValueError: something else, or a metric that it does not hold.
    """
    effects, name = _effects(effects, metric)
    names = [str(group) for group in effects["group"].values]
    kinds = kind_of(effects)
    figure = go.Figure()
    for kind, (label, colour) in KINDS.items():
        rows = [row for row, its in enumerate(kinds) if its == kind]
        if rows:
            figure.add_trace(_points(effects.isel(group=rows), rows, label, colour))
    figure.add_vline(x=0, line={"color": INK, "width": 1})
    points.name_rows(figure, [escape(group) for group in names])
    limits = points.limits([effects[one].values for one in ("effect", "low", "high")], zero=True)
    figure.update_xaxes(title_text=_effect_on(name), zeroline=False, range=limits)
    title = f"<b>Ablating groups of heads</b> ({_effect_on(name)})"
    beneath = f"{caption(effects)} Lines are 95 % intervals over prompts; filled: {_adjusted_p(effects)}."
    style.style(figure, title, beneath, height=style.CELL * len(names) + 40)
    figure.update_layout(title_xref="container", title_pad_l=20)  # long names would push it out of sight
    return legends.below(figure)


def _points(effects: xr.Dataset, rows: list[int], label: str, colour: str) -> go.Scatter:
    """Points with intervals, at the rows of their groups."""
    effect, low, high, p = (effects[name].values for name in ("effect", "low", "high", "p_adjusted"))
    names = [escape(str(group)) for group in effects["group"].values]
    drawn = points.with_intervals(effect, low, high, rows, p < ALPHA, colour)
    return drawn.update(
        customdata=list(zip(names, low, high, p, strict=True)),
        meta=["group", "low", "high", "adjusted p"],
        hovertemplate="%{customdata[0]}: %{x:.3g}<br>95 %: %{customdata[1]:.3g} to %{customdata[2]:.3g}<br>"
        "adjusted p: %{customdata[3]:.3g}<extra></extra>",
        name=label,
        showlegend=True,
    )


def _effects(given: Any, metric: str | None) -> tuple[xr.Dataset, str]:
    """What `effect` gives, of one metric, and the metric's name."""
    from neolens.ablation.effects import effect

    source = "neolens.ablate, or of neolens.ablation.effect"
    if isinstance(given, xr.Dataset) and "ablated" in given:
        name = check_metric(metric, checked(given, "result", ABLATED, source, _COORDS))
        return effect(given, metric=name if "metric" in given.dims else None), name
    return checked(given, "result", EFFECTS, source, _COORDS), check_metric(metric, given)


def _effect_on(metric: str) -> str:
    return f"effect on the {escape(metric.replace('_', ' '))}, {style.unit(metric)}"


def _adjusted_p(effects: xr.Dataset) -> str:
    correction, groups = str(effects.attrs.get("correction", "")), effects.sizes["group"]
    how = f" ({_CORRECTIONS[correction]})" if correction in _CORRECTIONS else ""
    return f"p below {ALPHA} adjusted for {groups} group{'' if groups == 1 else 's'}{how}"
