"""Every head's effect under several conditions, side by side on one scale, so that equal colours are equal effects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go
import xarray as xr

from neolens.ablation.effects import heads_grid
from neolens.checks import shown
from neolens.figures import maps, style
from neolens.figures.ablation import EFFECTS
from neolens.figures.ablation_labels import caption
from neolens.figures.inputs import anatomy_of, by_model, check_metric
from neolens.figures.style import escape
from neolens.stats import ALPHA

_NUMBERED = 8  # heads a layer up to which there is room for numbers
_TICKS = 48  # names of heads side by side, at most
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
    heads, first = grids[0].sizes["head"], next(iter(effects.values()))
    metric, beside = check_metric(None, first), _side_by_side(grids)
    columns = [f"{escape(label)}, head {head}" for label in effects for head in range(heads + 1)][:-1]
    figure = maps.layer_map(
        beside,
        beside["effect"],
        "head",
        limit=maps.limit_above_0(None, beside["effect"]),
        unit=style.unit(metric),
        colours=style.diverging(metric),
        customdata=_hovered(beside, columns),
        meta=["low", "high", "adjusted p", "head"],
        text=_written(beside, numbers=heads <= _NUMBERED),
        texttemplate="%{text}",
        textfont={"size": 9},
        hovertemplate="%{customdata[3]}, layer %{y}: %{z:.3g}<br>95 %: %{customdata[0]:.3g} to %{customdata[1]:.3g}"
        "<br>adjusted p: %{customdata[2]:.3g}<extra></extra>",
        xgap=1,
        ygap=1,
    )
    _label(figure, list(effects), heads)
    title = f"<b>Ablating each head</b> (effect on the {escape(metric.replace('_', ' '))}, {style.unit(metric)})"
    beneath = f"{caption(first)} A dot: p below {ALPHA} adjusted for all heads of a map."
    return style.style(figure, title, beneath, height=style.CELL * grids[0].sizes["layer"] + 40)


def _side_by_side(grids: Sequence[xr.Dataset]) -> xr.Dataset:
    """The grids along `head`, with an empty column between two."""
    gap = xr.full_like(grids[0].isel(head=[0]), np.nan)
    parts = [part for grid in grids for part in (gap, grid)][1:]
    return xr.concat(parts, dim="head", coords="minimal", compat="override", combine_attrs="override")


def _written(beside: xr.Dataset, numbers: bool) -> np.ndarray:
    """What stands in each cell: its effect, if there is room and something to say, and the dot."""
    effect, p = (beside[name].transpose("layer", "head").values for name in ("effect", "p_adjusted"))
    told = [f"{value:.2f}" if numbers and abs(value) >= 0.005 else "" for value in effect.ravel().tolist()]
    dots = ["●" if its < ALPHA else "" for its in p.ravel().tolist()]
    return np.array([f"{one} {dot}".strip() for one, dot in zip(told, dots)], dtype=object).reshape(effect.shape)


def _hovered(beside: xr.Dataset, names: Sequence[str]) -> np.ndarray:
    """The interval's ends, the adjusted p and the name of every cell."""
    numbers = [beside[name].transpose("layer", "head").values for name in _SHOWN[1:]]
    return np.stack([*numbers, np.broadcast_to(np.array(names, dtype=object), numbers[0].shape)], axis=-1)


def _label(figure: go.Figure, labels: Sequence[str], heads: int) -> None:
    """Each condition's name above the middle of its map, and under it the heads, as many as have room."""
    every = 1 + (len(labels) * (heads + 1) - 2) // _TICKS
    ticks = {at * (heads + 1) + head: str(head) for at in range(len(labels)) for head in range(0, heads, every)}
    shown = {"tickvals": list(ticks), "ticktext": list(ticks.values()), "showgrid": False, "zeroline": False}
    figure.update_xaxes(title_text="head", **shown)
    above = {"yref": "paper", "y": 1, "yanchor": "bottom", "yshift": 4, "showarrow": False}
    for number, label in enumerate(labels):
        figure.add_annotation(x=number * (heads + 1) + (heads - 1) / 2, text=f"<b>{escape(label)}</b>", **above)
