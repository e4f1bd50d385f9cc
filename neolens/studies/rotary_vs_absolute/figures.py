"""The figure of the first screen: how far predictions change when every position index is shifted."""

from __future__ import annotations

from collections.abc import Mapping

import plotly.graph_objects as go
import xarray as xr

from neolens.figures.variants import drawn_as, line_over_seeds

HEIGHT = 300


def divergence_by_shift(results: Mapping[str, xr.Dataset]) -> go.Figure:
    """The KL divergence of the shifted from the unshifted predictions by the shift of every position index: the mean
    over seeds, in a band from the lowest to the highest.

    Args:
        results: model -> what `over_seeds` gave; models without positions are left out.
    """
    figure = go.Figure()
    for name, result, line in drawn_as({name: one for name, one in results.items() if "shift_kl" in one}):
        divergence = result["shift_kl"].isel(shift=result["shift"].values > 0)
        for trace in line_over_seeds(divergence, "shift", f"{name} ({line['kind']})", line, f"{name}<br>%{{y:.2g}}"):
            figure.add_trace(trace)
    figure.update_traces(mode="lines+markers", selector={"showlegend": None})
    figure.update_yaxes(title_text="nats per token")
    shifts = sorted({int(one) for trace in figure.data for one in trace.x})
    ticks = [one for at, one in enumerate(shifts) if at == len(shifts) - 1 or shifts[-1] >= 1.5 * one]
    title = "shift of every position index (tokens)"
    figure.update_xaxes(type="log", title_text=title, tickvals=ticks, ticktext=ticks)
    return figure.update_layout(
        template="plotly_white",
        height=HEIGHT,
        margin={"l": 55, "r": 10, "t": 34, "b": 45},
        title={"text": "<b>Change of the predictions</b> (KL divergence)", "font_size": 14, "x": 0.02},
        legend={"orientation": "h", "y": -0.28, "font_size": 11},
        showlegend=True,
    )
