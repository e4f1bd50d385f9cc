"""Local against global: a result's scores grouped by the kind of layer."""

from __future__ import annotations

import numpy as np
import xarray as xr

from neolens.checks import check_type, check_whole
from neolens.results import check_result


def share_beyond(result: xr.Dataset, window: int) -> xr.DataArray:
    """The share of a head's attention that lies `window` or more tokens back, with dims (prompt, layer, head).

    The mass at distance d is a mean over T - d cells, so the attention there is mass * (T - d), of T in all.

    Args:
        result: of `neolens.attention`.
        window: tokens, at least 1.

    Raises:
        TypeError, ValueError: no such result or window.
    """
    dims = ["prompt", "layer", "head", "distance"]
    check_result(result, "result", ["mass_by_distance", "length"], dims, "neolens.attention")
    window = check_whole(window, "window", 1, unit="tokens")
    far = result["mass_by_distance"].sel(distance=slice(window, None))
    cells = (result["length"] - far["distance"]).clip(min=0)
    return (far * cells).sum("distance") / result["length"]


def by_kind(result: xr.Dataset, window: int) -> xr.Dataset:
    """Each score, and `share_beyond` the window, averaged over prompts, heads and the layers of one kind.

    Raises:
        TypeError, ValueError: what `share_beyond` says.
    """
    beyond = share_beyond(result, window)
    scores = result.drop_vars("mass_by_distance").assign(share_beyond=beyond)
    return scores.groupby("attention_kind").mean(["prompt", "layer", "head"])


def top_head(score: xr.DataArray) -> tuple[str, str, float]:
    """The head with the highest score over the prompts: its name such as `3.7`, its layer's kind, the score.

    Raises:
        TypeError, ValueError: no score by prompt, layer and head.
    """
    expected = "one score of neolens.attention, such as result['sink']"
    if set(check_type(score, "score", xr.DataArray, expected).dims) != {"prompt", "layer", "head"}:
        raise ValueError(f"score with the axes {tuple(map(str, score.dims))}: expected {expected}")
    if score.dtype.kind not in "iuf" or "attention_kind" not in score.coords:
        raise ValueError(f"score of {score.dtype} with {', '.join(map(str, score.coords))}: expected {expected}")
    means = score.mean("prompt")
    if not bool(means.notnull().any()):
        raise ValueError(f"score of shape {score.shape} has no value in any head: expected {expected}")
    layer, head = np.unravel_index(int(means.fillna(-np.inf).values.argmax()), means.shape)
    cell = means.isel(layer=layer, head=head)
    return f"{int(cell['layer'])}.{int(cell['head'])}", str(cell["attention_kind"].values), float(cell)
