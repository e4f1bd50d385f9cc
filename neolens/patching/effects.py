"""How much of an answer each patch moves, and which heads move most.

A share is the part of the difference between the clean and the corrupted run's mean metric that one patch moves,
positive where the clean activation speaks for the answer, whichever of the two runs is patched.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import xarray as xr
from jaxtyping import Float

from neolens.checks import check_choice, check_head, check_seed, check_type, check_whole
from neolens.checks.annotations import check_annotated
from neolens.results import check_result, check_results

Labelled = TypeVar("Labelled", xr.Dataset, xr.DataArray)


@dataclass(frozen=True)
class Input:
    """What a head takes in: its q, k or v at a position, and the share that patching it moves."""

    site: str
    position: str
    share: float

    def __post_init__(self) -> None:
        check_annotated(self)


def effects(result: xr.Dataset, *, resamples: int = 1000, seed: int = 0) -> xr.Dataset:
    """The `share` that each patch moves, and the ends `low` and `high` of its 95 % interval over prompts.

    mean(patched - corrupted) / mean(clean - corrupted) where the clean run was patched in (denoise), and
    mean(clean - patched) / mean(clean - corrupted) where the corrupted one was (noise). Means over prompts come first,
    so that no prompt whose two runs hardly differ outweighs the others. The interval is a percentile bootstrap.
    NaN where a prompt has no such position, where the clean mean is not above the corrupted one, and for the
    interval of fewer than two prompts.

    Args:
        result: of `neolens.patch`, with one metric.

    Raises:
        ValueError: something else.
    """
    check_result(result, "result", source="neolens.patch with one metric")
    wanting = not {"patched", "clean", "corrupted"} <= set(result.data_vars) or "prompt" not in result.dims
    if wanting or "metric" in result.dims or "direction" not in result.attrs:
        raise ValueError("expected a result of neolens.patch with one metric: patched, clean and corrupted by prompt")
    for name in ("patched", "clean", "corrupted"):
        if result[name].dtype.kind not in "biuf":
            raise TypeError(
                f"result: {name} of type {result[name].dtype}: expected numbers, as neolens.patch returns them"
            )
        if name != "patched" and result[name].dims != ("prompt",):
            raise ValueError(
                f"result: {name} by {', '.join(map(str, result[name].dims))}: expected one value per prompt"
            )
    resamples, seed = check_whole(resamples, "resamples", 1, 1_000_000), check_seed(seed)
    clean, corrupted = result["clean"].astype(float), result["corrupted"].astype(float)
    noise = check_choice(result.attrs["direction"], "direction of the result", ("denoise", "noise")) == "noise"
    moved = (clean - result["patched"] if noise else result["patched"] - corrupted).transpose("prompt", ...)
    between, prompts = (clean - corrupted).values, result.sizes["prompt"]
    cells = moved.values.reshape(prompts, -1)
    # A resample as how often it draws each prompt: one product, and all cells are resampled alike.
    drawn = np.random.default_rng(seed).multinomial(prompts, np.full(prompts, 1 / prompts), size=resamples)
    share = _share(np.ones((1, prompts)), cells, between)
    resampled = _share(drawn.astype(float), cells, between) if prompts > 1 else np.full_like(share, np.nan)
    low, high = np.quantile(resampled, [0.025, 0.975], axis=0)
    cell = moved.isel(prompt=0, drop=True)
    found = {"share": share[0], "low": low, "high": high}
    return xr.Dataset({name: cell.copy(data=values.reshape(cell.shape)) for name, values in found.items()})


def _share(
    times: Float[np.ndarray, "resample prompt"], cells: Float[np.ndarray, "prompt cell"], between: np.ndarray
) -> Float[np.ndarray, "resample cell"]:
    """What is moved over what there is between the runs, each prompt counted as often as `times` says."""
    below = times @ between
    return times @ cells / np.where(below > 0, below, np.nan)[:, None]


def ranked(share: xr.DataArray, sign: int = 0) -> list[str]:
    """All heads that have a share, such as `9.6`, the strongest first.

    Args:
        share: by layer and head.
        sign: 0 for the largest by size, 1 for the most positive, -1 for the most negative.
    """
    check_type(share, "share", xr.DataArray, "a share of neolens.patching.effects by layer and head")
    if set(share.dims) != {"layer", "head"}:
        raise ValueError(f"share has the axes {', '.join(map(str, share.dims)) or 'none'}: expected layer and head")
    if check_whole(sign, "sign") not in (-1, 0, 1):
        raise ValueError(f"sign {sign}: expected 0, 1 or -1")
    numbers = [share, *(share[axis] for axis in ("layer", "head"))]
    if wrong := [one for one in numbers if one.dtype.kind not in "biuf"]:
        raise TypeError(f"share: {wrong[0].name} of type {wrong[0].dtype}: expected numbers")
    values = share.transpose("layer", "head").values
    strength = np.abs(values) if sign == 0 else sign * values
    layers, heads = np.unravel_index(np.argsort(-strength, axis=None, kind="stable"), values.shape)
    return [
        f"{int(share['layer'][layer])}.{int(share['head'][head])}"
        for layer, head in zip(layers, heads)
        if np.isfinite(values[layer, head])
    ]


def of_head(effect: Labelled, head: str) -> Labelled:
    """What belongs to one head, written `9.6`."""
    layer, number = check_head(head, int(effect["layer"].max()) + 1, int(effect["head"].max()) + 1)
    return effect.sel(layer=layer, head=number)


def inputs(by_site: Mapping[str, xr.Dataset], head: str) -> list[Input]:
    """The q of a head at `end`, and its k and its v at the position where they move most."""
    found = []
    by_site = check_results(by_site, "by_site", ["share"], ["layer", "pos"], "neolens.patching.effects")
    if missing := [site for site in ("q", "k", "v") if site not in by_site]:
        raise ValueError(f"by_site without {missing[0]}: expected the sites q, k and v")
    for site in ("q", "k", "v"):
        share = of_head(by_site[site]["share"], head)
        at = "end" if site == "q" else str(share["pos"].values[int(np.nanargmax(np.abs(share.values)))])
        found.append(Input(site, at, float(share.sel(pos=at))))
    return found
