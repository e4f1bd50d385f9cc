"""How far attention reaches: its mass against the distance from query to key.

The axes are logarithmic, because attention mass falls roughly as a power of the distance and contexts differ
by a factor of 16. Two values that a log axis has not are still shown: distance 0, by drawing log(d + 1), and
mass 0, which is exact beyond a window, on a line of its own marked 0. Far distances are averaged in geometric
bins; a bin never crosses a window.
"""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import plotly.graph_objects as go
import xarray as xr
from jaxtyping import Float

from neolens.figures import style
from neolens.figures.distances import distance_axis, distance_edges, mark_window
from neolens.figures.inputs import HEADS, Results, by_model, mean_over_prompts
from neolens.figures.style import KIND_COLOURS

_THIN = 3  # layers of each kind that have a line of their own
_DECADES = 7  # drawn below the largest mass
_MASS = "mean attention probability"


def mass_by_distance(results: Results) -> go.Figure:
    """Attention mass against distance: a line for each kind of layer, thin ones for its layers.

    The mass at distance d is the mean of A[i, i - d] over queries i >= d, prompts and heads. The dashed line
    marks the first distance out of a window.

    Raises:
        TypeError, ValueError: no results, or others, without `mass_by_distance`.
    """
    needs = {"mass_by_distance": f"{HEADS} distance"}
    models = by_model(results, needs, "neolens.attention", ["distance", "attention_kind"])
    masses = [_binned(mean_over_prompts(result, "mass_by_distance")) for result in models.values()]
    floor, top = _range([mass.values for mass in masses])
    figure, places = style.panels(models, horizontal_spacing=0.03, vertical_spacing=0.18)
    shown: set[str] = set()
    for result, mass, place in zip(models.values(), masses, places, strict=True):
        for kind, layers in style.layers_by_kind(result):
            lines = _lines(mass.sel(layer=layers), kind, floor)
            lines[-1].showlegend = kind not in shown
            shown.add(kind)
            for line in lines:
                figure.add_trace(line, **place)
        for window in style.windows(result):
            mark_window(figure, window, place)
        axis = distance_axis(int(result["distance"].max()) + 1, "distance from query to key (tokens)")
        figure.update_xaxes(**axis, **place)
    beneath = any(bool(((mass > 0) & (mass < floor)).any()) for mass in masses)
    figure.update_yaxes(**_mass_axis(floor, top, beneath))
    figure.update_yaxes(title_text=_MASS, col=1)
    title = "<b>Attention mass by distance</b> (mean attention probability)"
    many = any(len(layers) > _THIN for result in models.values() for _, layers in style.layers_by_kind(result))
    which = f"the {_THIN} layers of a kind farthest from its mean" if many else "single layers"
    caption = f"{style.caption(models)}. Thin lines: {which}; distance on a log(d + 1) axis."
    return style.style(figure, title, caption, height=320 * places[-1]["row"])


def _binned(mass: xr.DataArray) -> xr.DataArray:
    """The mass of each layer, averaged over heads and the distances measured in each bin."""
    mass = mass.mean("head", skipna=True).transpose("layer", "distance").sortby("distance")
    distances = mass["distance"].values
    cuts = np.searchsorted(distances, distance_edges(int(distances[-1]) + 1, style.windows(mass)))
    bins = [slice(a, b) for a, b in pairwise(cuts) if a < b]
    means = [mass[:, members].mean("distance", skipna=True).values for members in bins]
    first, last = ([distances[members][end] for members in bins] for end in (0, -1))
    return xr.DataArray(
        np.stack(means, axis=1),
        dims=("layer", "bin"),
        coords={"layer": mass["layer"], "first": ("bin", first), "last": ("bin", last)},
    )


def _range(masses: list[Float[np.ndarray, "_ _"]]) -> tuple[float, float]:
    """The level that stands for 0, below everything else that is drawn, and the largest mass."""
    positive = np.concatenate([mass[mass > 0] for mass in masses])
    if not positive.size:
        return 1e-3, 1.0
    top = float(positive.max())
    lowest = max(float(positive.min()), top * 10.0**-_DECADES)
    return 10 ** (math.log10(lowest) - 0.4), top


def _lines(mass: xr.DataArray, kind: str, floor: float) -> list[go.Scatter]:
    """A thin line for each layer, or for those farthest from the mean, unless there is one only; then that of the
    mean."""
    layers = [int(layer) for layer in mass["layer"].values]
    mean = mass.mean("layer", skipna=True)
    apart = abs(mass - mean).max("bin").fillna(0).values.tolist()
    farthest = sorted(sorted(range(len(layers)), key=lambda at: -apart[at])[:_THIN])
    thin = [_line(mass.isel(layer=at), kind, f"layer {layers[at]}, {kind}", floor) for at in farthest]
    for line in thin:
        line.update(line_width=1, opacity=0.35, showlegend=False)
    whole = _line(mean, kind, f"{kind} layers", floor)
    return [*(thin if len(layers) > 1 else []), whole.update(line_width=3)]


def _line(mass: xr.DataArray, kind: str, label: str, floor: float) -> go.Scatter:
    first, last, values = mass["first"].values, mass["last"].values, mass.values
    distances = [f"{a}" if a == b else f"{a} to {b}" for a, b in zip(first, last, strict=True)]
    return go.Scatter(
        x=np.sqrt((first + 1.0) * (last + 1.0)),
        y=np.where(np.isnan(values), np.nan, np.maximum(values, floor)),
        customdata=[[at, float(value)] for at, value in zip(distances, values, strict=True)],
        meta=["distances", _MASS],
        hovertemplate=f"{label}<br>distance %{{customdata[0]}}: %{{customdata[1]:.3g}}<extra></extra>",
        mode="lines",
        line={"color": KIND_COLOURS[kind]},
        name=label,
        legendgroup=kind,
        connectgaps=False,
    )


def _mass_axis(floor: float, top: float, beneath: bool) -> dict[str, object]:
    lowest, highest = math.log10(floor) + 0.25, math.log10(top) + 0.05
    steps = (1, 2, 5) if highest - lowest < 2 else (1,)
    powers = range(math.floor(lowest), math.ceil(highest) + 1)
    marks = [(step, power) for power in powers for step in steps]
    marks = [(step, power) for step, power in marks if lowest <= math.log10(step) + power <= highest]
    labels = [f"{step}e{power}" if power < -3 else f"{step * 10.0**power:g}" for step, power in marks]
    return {
        "type": "log",
        "tickvals": [floor, *(step * 10.0**power for step, power in marks)],
        "ticktext": [f"under {floor:.0e}" if beneath else "0", *labels],
        "range": [math.log10(floor) - 0.12, math.log10(top) + 0.3],
    }
