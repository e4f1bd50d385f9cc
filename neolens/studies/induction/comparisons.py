"""What is compared in a run of the induction study, and which of these comparisons can be tested.

A loss at chance level cannot show how much more would have been lost, and an accuracy at its ceiling cannot rise:
comparisons that end there are not tested, nor are scores that the architecture fixes. They do not count for the
correction of the others. Whether a mean reaches a fixed threshold is tested and corrected apart from the comparisons.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

import numpy as np
import xarray as xr

from neolens.checks import check_records
from neolens.stats import verdicts
from neolens.stats.verdicts import Levels, Verdict
from neolens.studies.induction.formation import COPIES
from neolens.studies.induction.measure import PATTERN_SCORE
from neolens.studies.induction.summary import MEASURES, CorrectedEstimate, Induction, best, estimate_all

CROSSING = ("local", "global", "accuracy", "together")
"""Measures of which it is tested whether they change across the window. Not `needed`: with the number of heads its
random heads are others."""

LEVELS: Mapping[str, float] = MappingProxyType({"pattern": PATTERN_SCORE, "copies": COPIES})
"""What is tested against a threshold at the first repeat length beyond the window: the best induction score, and the
copy accuracy."""

CLAIMS: Mapping[str, str] = MappingProxyType(
    {
        "pattern": f"the best head has an induction score of {PATTERN_SCORE:g} or more at n = {{n}}",
        "copies": f"{COPIES:.0%} or more of the second copy is predicted at n = {{n}}",
        "fixed": "no local layer attends to the answer at n = {n}",
        "change": "the {title} changes from n = {inside} to n = {n}",
        "needed": "ablating all induction heads costs more than as many random heads at n = {n}",
        "heads": "all induction heads",
        "controls": "the network",
    }
)
"""What is claimed; `heads` and `controls` are what is ablated and where its controls are."""

_ABLATED = {"induction": "together", "random": "others"}
"""Heads -> the variable that has what ablating them adds to the loss."""

_ENDS = {"together": "{} without induction heads at n = {}", "accuracy": "{} at n = {}"}
"""Measures with a chance level and a ceiling, and how a value of them is referred to."""

Comparison = tuple[str, str, int | None]
"""Model, measure, and repeat length; None for its change across the window."""


def comparisons(models: Sequence[Induction]) -> dict[Comparison, CorrectedEstimate]:
    """All that is compared in a run: at each repeat length how much more ablating all induction heads costs than as
    many random ones, what changes from the last length inside the window to the first beyond it, and how far `LEVELS`
    are surpassed there; those that cannot be tested have no p."""
    values: dict[Comparison, xr.DataArray] = {}
    reasons: dict[Comparison, Verdict | None] = {}
    above: dict[Comparison, xr.DataArray] = {}
    for one in check_records(models, "models", Induction, "neolens.studies.induction"):
        for n in one.lengths:
            needed = one.values("needed", n)
            assert needed is not None
            values[one.name, "needed", n], reasons[one.name, "needed", n] = needed, _needed_limit(one, n)
        for measure in CROSSING:
            inside, beyond = (one.values(measure, n) for n in one.nearest)
            if inside is not None and beyond is not None:
                values[one.name, measure, None] = beyond - inside
                reasons[one.name, measure, None] = _change_limit(one, measure)
        above |= _above_levels(one)
    tests = estimate_all(values, {key: reason for key, reason in reasons.items() if reason is not None})
    return tests | estimate_all(above)


def check_tests(models: Sequence[Induction], tests: Mapping[Comparison, CorrectedEstimate]) -> None:
    """Check that there are models, and that they were compared.

    Raises:
        ValueError: none, or a comparison that `comparisons` makes is missing.
    """
    if not models:
        raise ValueError("models []: expected what was measured of at least one model")
    needed = [(one.name, "needed", n) for one in models for n in one.lengths]
    if missing := [key for key in needed if key not in tests]:
        raise ValueError(f"tests without {missing[0]}: expected those of comparisons.comparisons(models)")


def verdict(one: Induction, measure: str, n: int | None, tests: Mapping[Comparison, CorrectedEstimate]) -> Verdict:
    """Whether the results support a comparison; a level is contradicted where the mean is significantly below it."""
    check_tests([one], tests)
    test = tests[one.name, measure, n]
    if measure == "needed":
        assert n is not None
        return _cause(one, n, test, one.estimate("together", n))
    tested = verdicts.significance(_claim(one, measure), test.p_adjusted)
    below = measure in LEVELS and tested.status == "supported" and test.estimate.mean < 0
    return test.untested or (replace(tested, status="contradicted") if below else tested)


def at_chance_level(one: Induction, n: int) -> bool:
    """Whether the loss of every network without its induction heads is at chance level."""
    losses = np.atleast_1d(_loss(one, "together", n).mean("prompt").values).tolist()
    return all(verdicts.limit(loss, "loss", one.candidates) == "chance level" for loss in losses)


def _above_levels(one: Induction) -> dict[Comparison, xr.DataArray]:
    beyond = one.nearest[1]
    values = {"pattern": best("induction")(one.result), "copies": one.result["accuracy"]}
    return {
        (one.name, name, beyond): value.sel(distance=beyond - 1, drop=True) - LEVELS[name]
        for name, value in values.items()
        if value is not None
    }


def _cause(one: Induction, n: int, test: CorrectedEstimate, effect: CorrectedEstimate | None) -> Verdict:
    """Whether ablating all induction heads at once adds more than as many heads without the pattern, of the network
    that has the most induction heads."""
    heads, count = CLAIMS["heads"], int(one.has_role(n).sum(("layer", "head")).max())
    added = np.nan if effect is None else effect.estimate.mean
    controls = one.anatomy.layers * one.anatomy.heads - count
    if test.estimate.n:
        controls = max(controls, count)  # some network has controls
    more, p = test.estimate.mean, test.p_adjusted
    tested = verdicts.more_than_controls(heads, count, added, more, p, CLAIMS["controls"], controls=controls)
    return replace(test.untested or tested, claim=CLAIMS["needed"].format(n=n))


def _claim(one: Induction, measure: str, kind: str = "") -> str:
    inside, beyond = one.nearest
    title = "" if measure in LEVELS else MEASURES[measure].title
    return CLAIMS[kind or (measure if measure in LEVELS else "change")].format(n=beyond, inside=inside, title=title)


def _needed_limit(one: Induction, n: int) -> Verdict | None:
    """Whether the loss without the induction heads, or without as many random ones, is at a limit."""
    ends = {f"{one.name} without {heads} heads": _loss(one, ablated, n) for heads, ablated in _ABLATED.items()}
    return _limited(one, CLAIMS["needed"].format(n=n), ends, "loss")


def _change_limit(one: Induction, measure: str) -> Verdict | None:
    """Whether a measure is at a limit, or fixed by the architecture, just inside or just beyond the window."""
    beyond = one.nearest[1]
    if measure in _ENDS:
        at = {n: _loss(one, measure, n) if measure == "together" else one.values(measure, n) for n in one.nearest[::-1]}
        ends = {_ENDS[measure].format(one.name, n): value for n, value in at.items() if value is not None}
        return _limited(one, _claim(one, measure), ends, "loss" if measure == "together" else "accuracy")
    far = one.values(measure, beyond)
    if measure == "local" and far is not None and all(window <= beyond - 1 for window in one.anatomy.windows):
        deviations = {one.name: far.mean("prompt").values.tolist()}
        return verdicts.exact_by_construction(_claim(one, measure, "fixed"), deviations)
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
