"""What variants are compared by: one number per network, and the differences between variants, seed by seed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from neolens.checks import check_list, check_type
from neolens.checks.labels import check_axes
from neolens.results import check_result
from neolens.stats.contrasts import Contrast, Measure, Variant
from neolens.stats.contrasts import contrasts as of_variants
from neolens.stats.verdicts import ROUNDING


@dataclass(frozen=True)
class Encoding(Variant):
    """The results of all networks of one variant, by seed, of `over_seeds`."""

    @property
    def kind(self) -> str:
        """The kind of its positions: absolute, rotary or none."""
        return self.anatomy.position.kind


_AXES_OF = {
    **dict.fromkeys(("score", "holds"), "role layer? head?"),
    **dict.fromkeys(("effect", "control", "more", "more_p_adjusted"), "layer head"),
    **dict.fromkeys(("role_effect", "role_more"), "role"),
    **dict.fromkeys(("shift_kl", "shift_logits", "shift_exact", "rounding"), "shift?"),
    **dict.fromkeys(("toeplitz_share", "row_share"), "layer head"),
    **dict.fromkeys(("loss_beyond", "loss_interpolated"), "pos"),
    **{"copied_loss": "", "taken_away": "layer head band"},
}


def check_encoding(one: Any, what: str = "one", variables: Sequence[str] = ()) -> Encoding:
    """An encoding with the axis of seeds and these variables.

    Raises:
        TypeError: something else.
        ValueError: one whose result is not that of `probe.over_seeds`.
    """
    check_type(one, what, Encoding, "an Encoding, as experiments.rotary_vs_absolute.run returns them")
    check_result(one.result, f"result of {what}", variables, ["seed"], "over_seeds")
    for name in variables:
        if name in _AXES_OF:
            check_axes(one.result[name], f"result of {what}", f"seed? {_AXES_OF[name]}", "over_seeds")
    found: Encoding = one
    return found


def check_encodings(found: Any, variables: Sequence[str] = ()) -> list[Encoding]:
    """A list of encodings, each with these variables.

    Raises:
        TypeError: no list, or something else in it.
        ValueError: one whose result is not that of `probe.over_seeds`.
    """
    encodings = check_list(found, "found", "Encoding", example="those that experiments.rotary_vs_absolute.run returns")
    return [check_encoding(one, f"found[{at}]", variables) for at, one in enumerate(encodings)]


def _farthest(result: xr.Dataset) -> xr.DataArray | None:
    """In powers of ten, for rounding and a real change are not on one scale otherwise; 0 counts as float64's least."""
    if "shift_logits" not in result:
        return None
    moved = result["shift_logits"].isel(shift=-1, drop=True).clip(min=np.finfo(float).eps)
    return xr.apply_ufunc(np.log10, moved)


def shift_deviation(variant: Variant) -> xr.DataArray | None:
    """How far a shift moves the logits of rotary positions in float64, beyond rounding: scores depend on distance
    alone, so it is exactly 0. None for absolute positions."""
    if variant.anatomy.position.kind == "absolute" or "shift_exact" not in variant.result:
        return None
    moved = variant.result["shift_exact"].isel(shift=-1, drop=True)
    return moved.where(~(moved < ROUNDING), 0.0)


def _first_layer(variable: str) -> Callable[[xr.Dataset], xr.DataArray | None]:
    return lambda result: result[variable].sel(layer=0, drop=True).mean("head") if variable in result else None


def _every_layer(result: xr.Dataset) -> xr.DataArray:
    return result["toeplitz_share"].mean(("layer", "head"))


def _best(role: str) -> Callable[[xr.Dataset], xr.DataArray]:
    return lambda result: result["score"].sel(role=role, drop=True).max(("layer", "head"))


def _cause(role: str) -> Callable[[xr.Dataset], xr.DataArray]:
    """NaN where no head holds the role."""
    return lambda result: result["role_more"].sel(role=role, drop=True)


def _copied_loss(result: xr.Dataset) -> xr.DataArray:
    return result["copied_loss"]


def _loss_without_role(role: str) -> Callable[[xr.Dataset], xr.DataArray | None]:
    """The loss where a copy is predicted, with all heads of a role ablated."""
    return lambda result: (
        result["copied_loss"] + result["role_effect"].sel(role=role, drop=True) if "role_effect" in result else None
    )


def _loss_without_positions(result: xr.Dataset) -> xr.DataArray | None:
    effect = _without_positions(result)
    return None if effect is None else result["copied_loss"] + effect


SHARE, LOSS = (0.0, 1.0), (0.0, np.inf)

NOTHING_LEFT = ("embedding the mean", "not rotated")
"""How positions are taken away: every token gets the mean of the learned embeddings; nothing is turned."""


def _without_positions(result: xr.Dataset) -> xr.DataArray | None:
    """The treatment that leaves no position and, of embeddings, what they have in common."""
    if "positions_effect" not in result:
        return None
    there = [group for group in result["group"].values if str(group) in NOTHING_LEFT]
    return result["positions_effect"].sel(group=there).mean("group")


PROBED = ("copied_loss", "toeplitz_share", "score", "role_more")
"""What measures read of every network; what else they read, not every architecture has."""

MEASURES: Mapping[str, Measure] = {
    "shift": Measure(
        "change of the logits by the farthest shift",
        "log10 of the share of their range",
        _farthest,
        deviation=shift_deviation,
        fixed="0 but for rounding",
    ),
    "toeplitz_first": Measure(
        "share of first-layer score variance explained by distance",
        "share",
        _first_layer("toeplitz_share"),
        bounds=SHARE,
    ),
    "row_first": Measure(
        "share of first-layer score variance within rows explained by distance",
        "share",
        _first_layer("row_share"),
        bounds=SHARE,
    ),
    "toeplitz": Measure(
        "share of score variance in all layers explained by distance", "share", _every_layer, bounds=SHARE
    ),
    "previous_token": Measure("highest previous-token score", "score", _best("previous_token"), bounds=SHARE),
    "previous_token_cause": Measure(
        "loss added by ablating previous-token heads beyond control heads",
        "nats per token",
        _cause("previous_token"),
        end=_loss_without_role("previous_token"),
    ),
    "induction": Measure("highest induction score", "score", _best("induction"), bounds=SHARE),
    "induction_cause": Measure(
        "loss added by ablating induction heads beyond control heads",
        "nats per token",
        _cause("induction"),
        end=_loss_without_role("induction"),
    ),
    "copied_loss": Measure(
        "loss where a copy is predicted", "nats per token", _copied_loss, bounds=LOSS, end=_copied_loss
    ),
    "positions": Measure(
        "loss added by removing positions",
        "nats per token",
        _without_positions,
        end=_loss_without_positions,
    ),
}
"""Name -> what it is."""


def contrasts(found: Sequence[Encoding]) -> list[Contrast]:
    """Every measure of every two variants that differ in their positions alone; of all whose positions differ, where
    there is no such pair (see `neolens.stats.contrasts.contrasts`)."""
    return of_variants(check_encodings(found, PROBED), MEASURES, "position")
