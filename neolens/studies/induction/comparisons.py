"""What is compared in a run of the induction study, and which of these comparisons can be tested.

A loss at chance level cannot show how much more would have been lost, and an accuracy at its ceiling cannot rise:
comparisons that end there are not tested, nor are scores that the architecture fixes. They do not count for the
correction of the others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import xarray as xr

from neolens.checks import check_records
from neolens.stats import verdicts
from neolens.stats.verdicts import Levels, Verdict
from neolens.studies.induction.summary import MEASURES, Induction, Sure, sure

CROSSING = ("local", "global", "accuracy", "together")
"""Measures of which it is tested whether they change across the window. Not `needed`: with the number of heads its
random heads are others."""

_ABLATED = {"induction": "together", "random": "others"}
"""Heads -> the variable that has what ablating them adds to the loss."""

Comparison = tuple[str, str, int | None]
"""Model, measure, and repeat length; None for its change across the window."""


def comparisons(found: Sequence[Induction]) -> dict[Comparison, Sure]:
    """All that is compared in a run: at each repeat length how much more ablating all induction heads costs than as
    many random ones, and what changes from the last length inside the window to the first beyond it; those that cannot
    be tested have no p."""
    values: dict[Comparison, xr.DataArray] = {}
    reasons: dict[Comparison, Verdict | None] = {}
    for one in check_records(found, "found", Induction, "neolens.studies.induction"):
        for n in one.lengths:
            needed = one.values("needed", n)
            assert needed is not None
            values[one.name, "needed", n], reasons[one.name, "needed", n] = needed, _needed_limit(one, n)
        for measure in CROSSING:
            inside, beyond = (one.values(measure, n) for n in one.nearest)
            if inside is not None and beyond is not None:
                values[one.name, measure, None] = beyond - inside
                reasons[one.name, measure, None] = _change_limit(one, measure)
    return sure(values, {key: reason for key, reason in reasons.items() if reason is not None})


def check_tests(found: Sequence[Induction], tests: Mapping[Comparison, Sure]) -> None:
    """Check that there are models, and that they were compared.

    Raises:
        ValueError: none, or a comparison that `comparisons` makes is missing.
    """
    if not found:
        raise ValueError("found []: expected what was found in at least one model")
    needed = [(one.name, "needed", n) for one in found for n in one.lengths]
    if missing := [key for key in needed if key not in tests]:
        raise ValueError(f"tests without {missing[0]}: expected those of induction_comparisons.comparisons(found)")


def _needed_limit(one: Induction, n: int) -> Verdict | None:
    """Whether the loss without the induction heads, or without as many random ones, is at a limit."""
    claim = f"all induction heads of {one.name} add more to the loss at n = {n} than as many random heads"
    ends = {f"{one.name} without {heads} heads": _loss(one, ablated, n) for heads, ablated in _ABLATED.items()}
    return _limited(one, claim, ends, "loss")


def _change_limit(one: Induction, measure: str) -> Verdict | None:
    """Whether a measure is at a limit, or fixed by the architecture, just inside or just beyond the window."""
    inside, beyond = one.nearest
    claim = f"{MEASURES[measure].title} of {one.name} changes from n = {inside} to n = {beyond}"
    if measure == "together":
        losses = {f"{one.name} without induction heads at n = {n}": _loss(one, measure, n) for n in (beyond, inside)}
        return _limited(one, claim, losses, "loss")
    if measure == "accuracy":
        copied = {
            f"{one.name} at n = {n}": one.result["accuracy"].sel(distance=n - 1, drop=True) for n in (beyond, inside)
        }
        return _limited(one, claim, copied, "accuracy")
    far = one.values(measure, beyond)
    if measure == "local" and far is not None and all(window <= beyond - 1 for window in one.facts.windows):
        fixed = verdicts.exact_by_construction(claim, {one.name: far.mean("prompt").values.tolist()})
        return replace(fixed, reason=f"at n = {beyond} {fixed.reason}")
    return None


def _loss(one: Induction, ablated: str, n: int) -> xr.DataArray:
    """The loss where copies are predicted with `together`, or `others`, ablated."""
    return (one.result["loss"] + one.result[ablated]).sel(distance=n - 1, drop=True)


def _limited(one: Induction, claim: str, ends: dict[str, xr.DataArray], scale: verdicts.Scale) -> Verdict | None:
    """Whether the losses or accuracies of two conditions, by name, are at chance level or at a ceiling."""
    means = np.array([np.atleast_1d(values.mean("prompt").values) for values in ends.values()])
    means = means[:, np.isfinite(means).all(0)]  # without networks that have no such heads
    levels = [Levels(name, values.tolist(), scale, one.candidates) for name, values in zip(ends, means, strict=True)]
    return verdicts.limited(claim, levels[0], levels[1], (means[0] - means[1]).tolist())
