"""Every head's effect under several conditions, side by side on one scale, so that equal colours are equal effects."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import plotly.graph_objects as go
import xarray as xr
from plotly.subplots import make_subplots

from neolens.ablation.effects import heads_grid
from neolens.checks import shown
from neolens.figures import maps, style
from neolens.figures.ablation import EFFECTS
from neolens.figures.ablation_labels import caption
from neolens.figures.inputs import anatomy_of, by_model, check_metric
from neolens.figures.score_map import label_layers
from neolens.figures.style import escape
from neolens.stats import ALPHA

_NUMBERED = 8  # heads a layer up to which there is room for numbers
_SHOWN = ["effect", "low", "high", "p_adjusted"]


def heads_beside(effects: Mapping[str, xr.Dataset]) -> go.Figure:
    """The effect of ablating each head, by layer and head, a map for each condition; a dot marks an adjusted p below
    0.05. Layers carry their kind and window; the maps diverge around 0. Few heads have their effect written on them.

    Args:
        effects: what stands above each map -> what `neolens.ablation.effects.effect` gives, of one and the same model.

    Raises:
        TypeError, ValueError: something else, nothing to draw, no group that is a single head, or models of different
            sizes.
    """
    if not isinstance(effects, Mapping) or isinstance(effects, xr.Dataset):
        raise TypeError(f"effects {shown(effects)}: expected a dict from the name of each map to its effects")
    for name, one in by_model(effects, EFFECTS, "neolens.ablation.effect", ["group", "heads"]).items():
        anatomy_of(one, name)
    grids = [heads_grid(one)[_SHOWN] for one in effects.values()]
    if any(grid.sizes != grids[0].sizes for grid in grids):
        raise ValueError("the effects are of models of different sizes: draw one model at a time")
    first = next(iter(effects.values()))
    metric, limit = check_metric(None, first), max(maps.largest(grid["effect"]) for grid in grids) or 1.0
    titles = [f"<b>{escape(name)}</b>" for name in effects]
    figure = make_subplots(1, len(grids), subplot_titles=titles, shared_yaxes="all", horizontal_spacing=0.03)
    figure.update_annotations(font_size=13)
    for col, (name, grid) in enumerate(zip(effects, grids, strict=True), start=1):
        figure.add_trace(_map(name, grid), row=1, col=col)
        label_layers(figure, grid, {"row": 1, "col": col}, shown=col == 1)
    figure.update_yaxes(title_text="layer", col=1)
    bar = {"title": {"text": style.unit(metric)}, "thickness": 14, "outlinewidth": 0}
    colours = {"colorscale": style.diverging(metric), "cmin": -limit, "cmax": limit, "colorbar": bar}
    figure.update_layout(coloraxis=colours)
    title = f"<b>Ablating each head</b> (effect on the {escape(metric.replace('_', ' '))}, {style.unit(metric)})"
    beneath = f"{caption(first)} A dot: p below {ALPHA} adjusted for all heads of a map."
    return style.style(figure, title, beneath, height=style.CELL * grids[0].sizes["layer"] + 40)


def _map(name: str, grid: xr.Dataset) -> go.Heatmap:
    """The heads under one condition: the effect written on each where there is room, and the dot."""
    effect, low, high, p = (grid[one].transpose("layer", "head").values for one in _SHOWN)
    room = grid.sizes["head"] <= _NUMBERED
    dots = [["●" if its < ALPHA else "" for its in row] for row in p]
    numbers = [[f"{its:.2f}" if room and abs(its) >= 0.005 else "" for its in row] for row in effect]
    text = [[f"{one} {dot}".strip() for one, dot in zip(*rows)] for rows in zip(numbers, dots)]
    return go.Heatmap(
        x=grid["head"].values,
        y=grid["layer"].values,
        z=effect,
        customdata=np.stack([low, high, p], axis=-1),
        meta=["low", "high", "adjusted p"],
        text=text,
        texttemplate="%{text}",
        textfont={"size": 9},
        hovertemplate=f"{escape(name)}, layer %{{y}}, head %{{x}}: %{{z:.3g}}<br>95 %: %{{customdata[0]:.3g}} to "
        "%{customdata[1]:.3g}<br>adjusted p: %{customdata[2]:.3g}<extra></extra>",
        hoverongaps=False,
        coloraxis="coloraxis",
        xgap=1,
        ygap=1,
    )
