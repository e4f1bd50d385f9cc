"""What local and global attention are compared by: one number a network, read out of all that was measured."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import xarray as xr

from neolens.circuits.needs import KINDS, Needs, group_of
from neolens.comparison.found import TASK, Found
from neolens.contrasts import Arm, Contrast, Measure, contrasts, kind
from neolens.models import Anatomy
from neolens.scores import share_beyond

_READ: dict[str, tuple[str, str]] = {
    "distance": ("mean distance of attention on text", "tokens, mean over heads"),
    "share_beyond": ("share of attention beyond the window, on text", "mean over heads"),
    "induction_beyond": ("best induction head, answer beyond the window", "score"),
    "copied_inside": ("copied, answer inside the window", "share of the second copy"),
    "copied_beyond": ("copied, answer beyond the window", "share of the second copy"),
    "left": ("left of what arrives from beyond with every layer held to the window", "share"),
    "loss_text": ("loss on text", "nats a token"),
}
"""Name -> title and unit of what is the same for any set of models."""


def mixed(anatomies: Sequence[Anatomy]) -> Anatomy | None:
    """The first model with layers of both kinds, whose layers the others are asked for too."""
    return next((facts for facts in anatomies if kind(facts, "attention") == "global and local"), None)


def measures(alternating: Anatomy | None) -> dict[str, Measure]:
    """Name -> measure, for arms of `numbers`.

    Args:
        alternating: of `mixed`; its local and its global layers are cut at the window, or ablated, in every model.
    """
    names = dict(_READ)
    if alternating is not None:
        for its in KINDS:
            layers = f"layers {', '.join(map(str, alternating.layers_of_kind(its)))}"
            names[f"cut_{its}"] = (f"cutting {layers} at the window adds to the loss beyond it", "nats a token")
            names[f"text_{its}"] = (f"ablating {layers} adds to the loss on text", "nats a token")
            names[f"beyond_{its}"] = (f"ablating {layers} adds to the loss beyond the window", "nats a token")
    return {name: Measure(title, unit, _variable(name)) for name, (title, unit) in names.items()}


def numbers(found: Found, alternating: Anatomy | None) -> Arm:
    """The measures of every network of an arm, by seed; NaN where a network has none, such as what is left of an
    answer in one that does not answer."""
    each = [
        _attention(parts["attention"], found.window) | _ablation(need, alternating)
        for parts, need in zip(found.networks.values(), found.needs, strict=True)
    ]
    if found.carriers is not None:
        for its, side in zip(each, found.carriers.beyond[TASK], strict=True):
            its["left"] = side.left if side.answers else np.nan
    names = dict.fromkeys(name for its in each for name in its)
    variables = {name: ("seed", [its.get(name, np.nan) for its in each]) for name in names}
    return Arm(found.facts, xr.Dataset(variables, coords={"seed": found.seeds}))


def compared(found: Sequence[Found]) -> list[Contrast]:
    """Every measure of every two arms that differ in attention alone (see `neolens.contrasts.contrasts`)."""
    alternating = mixed([one.facts for one in found])
    return contrasts([numbers(one, alternating) for one in found], measures(alternating), "attention")


def _variable(name: str) -> Callable[[xr.Dataset], xr.DataArray | None]:
    return lambda result: result.get(name)


def _attention(result: xr.Dataset, window: int) -> dict[str, float]:
    return {
        "distance": float(result["mean_distance"].mean()),
        "share_beyond": float(share_beyond(result, window).mean()),
        "induction_beyond": float(result["induction_beyond"].mean("prompt").max()),
        "copied_inside": float(result["copied"].mean()),
        "copied_beyond": float(result["copied_beyond"].mean()),
    }


def _ablation(need: Needs, alternating: Anatomy | None) -> dict[str, float]:
    read = {"loss_text": float(need.groups["text"]["baseline"])}
    if alternating is None:
        return read
    named = {group_of(need.facts, its, alternating): its for its in KINDS}
    rows = [row for row in need.compared if row.group in named and row.condition in ("text", "beyond", "cut")]
    return read | {f"{row.condition}_{named[row.group]}": row.effect for row in rows}
