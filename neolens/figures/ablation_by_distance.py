"""How far back an ablated network still finds an answer: the metric against the distance, a line for each group.

The network as it is in ink, groups of heads in the colour of their kind, random controls grey.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import plotly.graph_objects as go
import xarray as xr

from neolens.ablation.controls import control_groups
from neolens.checks import check_list, check_text, check_whole, did_you_mean, shown
from neolens.figures import legends, style
from neolens.figures.ablation_labels import KINDS, caption, kind_of
from neolens.figures.distances import distance_axis, distance_edges, mark_window
from neolens.figures.inputs import check_metric, checked, listed
from neolens.figures.style import DASHES, INK, escape

_NEEDS = {"ablated": "group prompt distance", "baseline": "prompt distance"}
_MOST = 8  # groups that can be told apart
_RESAMPLES = 1000


def ablation_by_distance(
    binned: Any, *, groups: Sequence[str] | None = None, window: int | None = None, label: str | None = None
) -> go.Figure:
    """The metric against how many tokens back the answer stands: the network as it is, and with each group ablated.

    A line is the mean over prompts, its band the 95 % bootstrap interval over prompts. Random controls of one size
    are one line, the mean of the draws, its band from the lowest draw to the highest. Far distances are averaged in
    geometric bins; a bin never crosses the window.

    Args:
        binned: of `neolens.ablation.effects.by_distance`.
        groups: names of those to draw, by default all; at most 8 besides random controls.
        window: of the local layers, marked at the first distance out of it.
        label: of the mark where no layer has that window, such as `64 tokens`.

    Raises:
        TypeError, ValueError: something else, a group that it does not hold, too many groups, or a window below 1.
    """
    checked(binned, "result", _NEEDS, "neolens.ablation.by_distance", ["distance", "group", "attention_kind"])
    chosen = _chosen(binned, groups)
    if window is not None:
        window = check_whole(window, "window", 1, unit="tokens", remedy="or None for no mark")
    if label is not None:
        check_text(label, "label", empty=True)
    bins = _in_bins(binned, window)
    figure = go.Figure(_with_interval(bins["baseline"], "nothing ablated", INK, "solid"))
    figure.add_traces([trace for line in _lines(bins.sel(group=chosen)) for trace in line])
    nearest, farthest = int(bins["first"].min()), max(int(bins["last"].max()), window or 0)
    axis = distance_axis(farthest + 1, "distance back to the answer (tokens)")
    left = math.log10(nearest + 1) - 0.03
    figure.update_xaxes(**axis | {"range": [left, math.log10(farthest + 2) + 0.02]})
    if window is not None:
        mark_window(figure, window, {}, label)
    metric = check_metric(None, binned)
    quantity, unit = escape(metric.replace("_", " ")), style.unit(metric)
    figure.update_yaxes(title_text=f"{quantity} ({unit})", zeroline=False)
    ends = "; of random controls, from the lowest draw to the highest" * any(map(control_groups(binned).count, chosen))
    title = f"<b>{quantity.capitalize()} by distance to the answer</b> ({unit})"
    style.style(figure, title, f"{caption(binned)} Bands: 95 % intervals over prompts{ends}.", height=320)
    return legends.below(figure)


def _chosen(binned: Any, groups: Sequence[str] | None) -> list[str]:
    held = [str(name) for name in binned["group"].values]
    named = held if groups is None else [groups] if isinstance(groups, str) else groups
    chosen = check_list(named, "groups", "names", example=str(held[:1]))
    if not chosen:
        raise ValueError(f"groups {shown(groups)}: expected at least one name, or None for all")
    for name in chosen:
        if check_text(name, "group", example=held[0]) not in held:
            raise ValueError(f"no group {name!r}: {did_you_mean(name, held)}the result holds {listed(held, 12)}")
    controls = control_groups(binned)
    if (lines := sum(name not in controls for name in chosen)) > _MOST:
        raise ValueError(f"{lines} groups are too many to tell apart: name at most {_MOST} with groups=[...]")
    return chosen


def _in_bins(binned: xr.Dataset, window: int | None) -> xr.Dataset:
    """Each prompt averaged over the distances of each bin; `first` and `last` say which were measured."""
    binned = binned[["ablated", "baseline"]].sortby("distance")
    distances = binned["distance"].values
    cuts = np.searchsorted(distances, distance_edges(int(distances[-1]) + 1, [] if window is None else [window]))
    bins = [slice(a, b) for a, b in pairwise(cuts) if a < b]
    averaged = xr.concat([binned.isel(distance=its).mean("distance", skipna=True) for its in bins], dim="bin")
    first, last = ([distances[its][end] for its in bins] for end in (0, -1))
    return averaged.assign_coords(first=("bin", first), last=("bin", last))


def _lines(bins: xr.Dataset) -> Iterator[list[go.Scatter]]:
    """Groups in the colour of their kind, those of one kind told apart by their dash, then controls by their size."""
    met: dict[str, int] = {}
    controls: dict[str, list[int]] = {}
    for row, (name, kind) in enumerate(zip(map(str, bins["group"].values), kind_of(bins), strict=True)):
        if kind == "control":
            controls.setdefault(str(bins["control"].values[row]), []).append(row)
            continue
        dash = DASHES[met.setdefault(kind, 0) % len(DASHES)]
        met[kind] += 1
        yield _with_interval(bins["ablated"].isel(group=row), f"{escape(name)} ablated", KINDS[kind][1], dash)
    for number, (control, draws) in enumerate(controls.items()):
        label = f"{escape(control)} ablated, {len(draws)} draw{'' if len(draws) == 1 else 's'}"
        yield _with_range(bins["ablated"].isel(group=draws), label, DASHES[number % len(DASHES)])


def _with_interval(values: xr.DataArray, label: str, colour: str, dash: str) -> list[go.Scatter]:
    """The mean over prompts and its interval, of what has no other axis but the bins."""
    rows = [row[~np.isnan(row)] for row in values.transpose("bin", "prompt").values]
    mean = np.array([row.mean() if len(row) else np.nan for row in rows])
    ends = np.array([_interval(row) for row in rows])
    return _drawn(values, mean, ends, label, colour, dash)


def _with_range(values: xr.DataArray, label: str, dash: str) -> list[go.Scatter]:
    """The mean over prompts and draws, and the lowest and the highest draw's mean over prompts."""
    means = values.mean("prompt", skipna=True).transpose("bin", "group").values
    ends = np.stack([means.min(1), means.max(1)], axis=1)
    return _drawn(values.isel(group=0), means.mean(1), ends, label, KINDS["control"][1], dash)


def _interval(values: np.ndarray) -> tuple[float, float]:
    """Of the mean, by bootstrap; that of a single prompt has no width."""
    if len(values) == 0:
        return np.nan, np.nan
    import torch
    from transformer_lens.utilities.statistics import bootstrap_ci, derive_generator

    low, high = bootstrap_ci(torch.from_numpy(values), n_resamples=_RESAMPLES, generator=derive_generator(0))
    return float(low), float(high)


def _drawn(
    values: xr.DataArray, mean: np.ndarray, ends: np.ndarray, label: str, colour: str, dash: str
) -> list[go.Scatter]:
    """The band and the line, at the bins in which some prompt has a value."""
    there = ~np.isnan(mean)
    first, last = values["first"].values[there], values["last"].values[there]
    prompts = values.notnull().sum("prompt").values[there]
    at = [f"{a}" if a == b else f"{a} to {b}" for a, b in zip(first, last, strict=True)]
    low, high = ends[there].T
    x = np.sqrt((first + 1.0) * (last + 1.0))
    line = go.Scatter(
        x=x,
        y=mean[there],
        customdata=list(zip(at, low, high, prompts, strict=True)),
        meta=["distances", "low", "high", "prompts"],
        hovertemplate=f"{label}<br>distance %{{customdata[0]}}: %{{y:.3g}} (%{{customdata[1]:.3g}} to "
        "%{customdata[2]:.3g}), %{customdata[3]} prompts<extra></extra>",
        mode="lines+markers",
        line={"color": colour, "width": 2, "dash": dash},
        marker={"size": 4},
        name=label,
        legendgroup=label,
    )
    return [*style.band(x, low, high, colour, label), line]
