"""What local and global attention are compared by: one number a network, read out of all that was measured."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import xarray as xr

from neolens.checks import check_records
from neolens.checks.annotations import checked
from neolens.models import Anatomy
from neolens.near_far import NearFar, of_anatomies
from neolens.scores import share_beyond
from neolens.stats.contrasts import Contrast, Measure, Variant, contrasts, kind
from neolens.stats.seeds import UNBOUNDED
from neolens.studies.compare.found import TASK, Found, candidates_of
from neolens.studies.head_ablation.comparisons import KINDS, MASKED
from neolens.studies.head_ablation.summary import Needs, group_of
from neolens.studies.local_vs_global.tables import COLUMNS

_READ: dict[str, tuple[str, str]] = {
    "distance": ("mean distance of attention on text", "tokens, mean over heads"),
    "share_beyond": ("share of attention {beyond}, on text", "mean over heads"),
    "induction_beyond": ("best induction head, answer {beyond}", "score"),
    "copied_inside": ("copy accuracy, answer {inside}", "share"),
    "copied_beyond": ("copy accuracy, answer {beyond}", "share"),
    "left": ("effect of the source token left, every layer restricted to {short}", "share, induction"),
    "loss_text": ("loss on text", "nats per token"),
}
"""Name -> title and unit of what is the same for any set of models; the title with the names of the distance that
separates near from far."""

_BOUNDS = {
    "distance": (0.0, np.inf),
    "share_beyond": (0.0, 1.0),
    "induction_beyond": (0.0, 1.0),
    "copied_inside": (0.0, 1.0),
    "copied_beyond": (0.0, 1.0),
    "loss_text": (0.0, np.inf),
}
"""Name -> the lowest and the highest value that is possible, of what has one: effects and the share that is left of a
logit difference may be of either sign."""

SCORE_BOUNDS = {score: (0.0, np.inf if score == "mean_distance" else 1.0) for score in COLUMNS}
"""Score by kind of layer -> the lowest and the highest value that is possible."""


def mixed(anatomies: Sequence[Anatomy]) -> Anatomy | None:
    """The first model with layers of both kinds, whose layers the others are asked for too."""
    check_records(anatomies, "anatomies", Anatomy, "neolens.anatomy")
    return next((facts for facts in anatomies if kind(facts, "attention") == "global and local"), None)


@checked
def measures(alternating: Anatomy | None, split: NearFar | None = None) -> dict[str, Measure]:
    """Name -> measure, for variants of `numbers`.

    Args:
        alternating: of `mixed`; its local and its global layers are cut at the window, or ablated, in every model.
        split: the distance that separates near from far; the window by default.
    """
    split = split or NearFar(0, "")
    phrases = {"inside": split.inside, "beyond": split.beyond, "short": split.short}
    names = {name: (title.format(**phrases), unit) for name, (title, unit) in _READ.items()}
    if alternating is not None:
        for its in KINDS:
            layers = f"layers {', '.join(map(str, alternating.layers_of_kind(its)))}"
            names[f"cut_{its}"] = (
                f"loss added beyond the window by masking attention there in {layers}",
                "nats per token",
            )
            names[f"text_{its}"] = (f"loss added on text by ablating {layers}", "nats per token")
            names[f"beyond_{its}"] = (f"loss added beyond the window by ablating {layers}", "nats per token")
    return {name: _measure(name, title, unit, alternating) for name, (title, unit) in names.items()}


@checked
def numbers(found: Found, alternating: Anatomy | None) -> Variant:
    """The measures of every network of a variant, by seed; NaN where a network has none, such as what is left of an
    answer in one that does not answer. Coordinates such as `end_beyond_local` are the losses at which effects end."""
    each = [
        _attention(parts["attention"], found.window) | _ablation(need, alternating)
        for parts, need in zip(found.networks.values(), found.needs, strict=True)
    ]
    if found.carriers is not None:
        for its, side in zip(each, found.carriers.beyond[TASK], strict=True):
            its["left"] = side.left if side.answers else np.nan
    names = dict.fromkeys(name for its in each for name in its)
    variables = {name: ("seed", [its.get(name, np.nan) for its in each]) for name in names}
    result = xr.Dataset(variables, coords={"seed": found.seeds})
    result = result.set_coords([name for name in names if name.startswith(_END)])
    return Variant(found.anatomy, result.assign_attrs(window=found.window, **candidates_of(found.first)))


@checked
def split_of(found: Sequence[Found]) -> NearFar | None:
    """The distance that separates near from far in a report of these variants."""
    return of_anatomies(found[0].window, [one.anatomy for one in found]) if found else None


def compared(found: Sequence[Found]) -> list[Contrast]:
    """Every measure of every two variants that differ in attention alone (see `neolens.stats.contrasts.contrasts`)."""
    check_records(found, "found", Found, "neolens.studies.compare.found")
    alternating = mixed([one.anatomy for one in found])
    return contrasts([numbers(one, alternating) for one in found], measures(alternating, split_of(found)), "attention")


_END = "end_"
"""Before the name of an effect: the loss at which it ends."""


def _measure(name: str, title: str, unit: str, alternating: Anatomy | None) -> Measure:
    """A measure with what limits it and what an architecture fixes. The loss on text is not limited by a guess among
    the words of random sequences."""
    of, bounds = _variable(name), _BOUNDS.get(name, UNBOUNDED)
    if name.startswith("copied"):
        return Measure(title, unit, of, bounds, end=of, scale="accuracy")
    if name.startswith(("cut_", "beyond_")):
        return Measure(title, unit, of, bounds, end=_variable(_END + name), deviation=_fixed(name, alternating))
    return Measure(title, unit, of, bounds, deviation=_fixed(name, alternating))


def _fixed(name: str, alternating: Anatomy | None) -> Callable[[Variant], xr.DataArray | None] | None:
    """The values themselves of variants that must have exactly 0: what layers that see no farther than the window
    attend to beyond it, and lose there."""
    if name not in ("share_beyond", "induction_beyond") and not name.startswith(f"{MASKED}_"):
        return None

    def deviation(variant: Variant) -> xr.DataArray | None:
        layers = list(range(variant.anatomy.layers))
        if name.startswith(f"{MASKED}_"):
            assert alternating is not None
            layers = list(alternating.layers_of_kind(name.removeprefix(f"{MASKED}_")))
        spans = [variant.anatomy.attention[layer].window for layer in layers if layer < variant.anatomy.layers]
        exact = len(spans) > 0 and all(span is not None and span <= variant.result.attrs["window"] for span in spans)
        return variant.result.get(name) if exact else None

    return deviation


def _variable(name: str) -> Callable[[xr.Dataset], xr.DataArray | None]:
    return lambda result: result[name] if name in result.variables else None


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
    for row in rows:
        name = f"{row.condition}_{named[row.group]}"
        read[name], read[_END + name] = row.effect, float(need.groups[row.condition]["baseline"]) + row.effect
    return read
