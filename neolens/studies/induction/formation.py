"""What forms first in training: the previous-token head, the induction pattern, its cause, or the ability to copy.

Olsson et al. 2022 (arXiv 2209.11895) saw induction heads and the ability form together, within a few checkpoints. Each
of the four passes a threshold of its own here, so an order is one of thresholds, and no finer than the checkpoints. The
cause of the heads that have the pattern cannot pass before the pattern does, for there are none before; so the heads
that hold it at the end are ablated at every step too. Only one network of a model has checkpoints: intervals are over
its prompts, and p is corrected for all steps, repeat lengths and models at once (max-T, Westfall and Young 1993).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import xarray as xr

from neolens.checks import check_choice
from neolens.checks.annotations import check_annotated, checked
from neolens.stats.verdicts import limit
from neolens.studies.induction.measure import PATTERN_SCORE
from neolens.studies.induction.summary import MEASURES, CorrectedEstimate, Induction, best, estimate_all

COPIES = 0.5
"""The share of the second copy that is predicted from which on a network copies."""

CAUSE = 0.5
"""Nats per token that ablating all heads has to add beyond as many random ones to count as a cause: the right token is
then 0.6 times as likely. Less can be seen where nothing is copied yet."""

MILESTONES: Mapping[str, str] = MappingProxyType(
    {
        "previous_token": "the previous-token head",
        "induction": "the induction pattern",
        "cause": "the causal effect",
        "copying": "copying",
        "later_cause": "the causal effect of the heads with the pattern at the end",
    }
)
"""Name -> title."""

THRESHOLDS: Mapping[str, float] = MappingProxyType(
    {
        "previous_token": PATTERN_SCORE,
        "induction": PATTERN_SCORE,
        "cause": CAUSE,
        "copying": COPIES,
        "later_cause": CAUSE,
    }
)

ORDERED = ("previous_token", "induction", "cause", "copying")
"""Those whose order is reported; the last of `MILESTONES` is in the table only."""

_SCORES = {
    "previous_token": best("previous_token"),
    "induction": best("induction"),
    "copying": MEASURES["accuracy"].of,
}
_CAUSES = {"cause": ("together", "others"), "later_cause": ("later", "later_others")}


@dataclass(frozen=True)
class Milestone:
    """The first checkpoint at which something passes its threshold."""

    step: int | None
    """None where it never does."""
    after: int | None = None
    """The checkpoint before, at which it did not; None at the first."""
    estimate: CorrectedEstimate | None = None
    """What was measured at `step`, with its interval over prompts."""
    lost: tuple[int, ...] = ()
    """Later steps at which it is below again."""

    def __post_init__(self) -> None:
        check_annotated(self)


@dataclass(frozen=True)
class Formation:
    """How one network learned to copy at one repeat length."""

    model: Induction
    n: int
    reached: Mapping[str, Milestone]
    """By the names of `MILESTONES`."""
    certain: bool = False
    """Whether what forms first would be first anywhere within the 95 % intervals: they lie above the threshold of what
    is first, and up to this step below every other threshold."""

    def __post_init__(self) -> None:
        check_annotated(self)
        if missing := [name for name in MILESTONES if name not in self.reached]:
            raise ValueError(f"reached of Formation without {missing[0]}: expected {', '.join(MILESTONES)}")

    @property
    def order(self) -> list[tuple[int, list[str]]]:
        """Steps at which something passes first, and what does."""
        steps = {name: self.reached[name].step for name in ORDERED}
        passed = sorted({step for step in steps.values() if step is not None})
        return [(step, [name for name in ORDERED if steps[name] == step]) for step in passed]


@checked
def formations(models: Sequence[Induction]) -> list[Formation]:
    """Each model that has checkpoints, at every repeat length that these were measured at, the shortest first."""
    scores: dict[tuple[str, int, str, int], xr.DataArray] = {}
    causes: dict[tuple[str, int, str, int], xr.DataArray] = {}
    for one, n, steps in _trained(models):
        for step in steps:
            assert one.training is not None
            place = one.training.sel(distance=n - 1, step=step, drop=True)
            for name, of in _SCORES.items():
                scores[one.name, n, name, step] = _there(of(place))
            for name, (group, control) in _CAUSES.items():
                causes[one.name, n, name, step] = place[group] - place[control]
    measured = estimate_all(scores) | estimate_all(causes)
    formed = []
    for one, n, steps in _trained(models):
        curves = {name: {step: measured[one.name, n, name, step] for step in steps} for name in MILESTONES}
        reached = {name: _milestone(name, curve) for name, curve in curves.items()}
        formed.append(Formation(one, n, reached, _certain(reached, curves)))
    return formed


def _trained(models: Sequence[Induction]) -> list[tuple[Induction, int, list[int]]]:
    """The models that have checkpoints, each repeat length at which these were measured, and their steps."""
    trained = [(one, one.training) for one in models if one.training is not None]
    return [
        (one, n, training["step"].values.tolist()) for one, training in trained for n in training["n"].values.tolist()
    ]


def _certain(reached: Mapping[str, Milestone], curves: Mapping[str, Mapping[int, CorrectedEstimate]]) -> bool:
    passed = [step for name in ORDERED if (step := reached[name].step) is not None]
    if not passed:
        return False
    first = min(passed)
    for name in ORDERED:
        above = reached[name].step == first
        if above and not curves[name][first].estimate.low >= THRESHOLDS[name]:
            return False
        below = [step for step in curves[name] if step < first or (step == first and not above)]
        if any(curves[name][step].estimate.high >= THRESHOLDS[name] for step in below):  # NaN where no head has a role
            return False
    return True


SIDED = ("induction", "copying")
"""What may form earlier where a local layer sees the answer."""

Change = tuple[int, float, float, CorrectedEstimate]
"""A step, what was measured there just inside and just beyond the window, and how much more inside."""


@checked
def sides(models: Sequence[Induction]) -> tuple[dict[tuple[str, str], Change | None], Counter[tuple[str, str]]]:
    """Model and one of `SIDED` -> the step at which it differs most between just inside and just beyond the window;
    None where no step differs significantly. All of them, in all models and steps, are corrected together, without the
    steps at which copying is at the same limit on both sides, chance level or ceiling.

    Returns:
        These, and the number of differences that were tested of each.
    """
    values: dict[tuple[str, str, int], tuple[xr.DataArray, xr.DataArray]] = {}
    for one in models:
        if one.training is not None:
            for name in SIDED:
                measured = _there(_SCORES[name](one.training))
                near, far = (measured.sel(distance=n - 1, drop=True) for n in one.nearest)
                for step in one.training["step"].values.tolist():
                    pair = near.sel(step=step, drop=True), far.sel(step=step, drop=True)
                    limits = [limit(float(side.mean()), "accuracy", one.candidates) for side in pair]
                    if name != "copying" or limits[0] is None or limits[0] != limits[1]:
                        values[one.name, name, step] = pair
    tested = estimate_all({key: near - far for key, (near, far) in values.items()})
    largest: dict[tuple[str, str], Change | None] = {
        (one.name, name): None for one in models if one.training is not None for name in SIDED
    }
    for (model, name, step), test in tested.items():
        before = largest[model, name]
        if test.significant and (before is None or abs(test.estimate.mean) > abs(before[3].estimate.mean)):
            inside, beyond = (float(side.mean()) for side in values[model, name, step])
            largest[model, name] = step, inside, beyond, test
    return largest, Counter((model, name) for model, name, _ in values)


@checked
def passes(name: str, test: CorrectedEstimate) -> bool:
    """Whether what was measured passes the threshold of a milestone, a cause also by its corrected p."""
    check_choice(name, "name of a milestone", tuple(THRESHOLDS))
    return test.estimate.mean >= THRESHOLDS[name] and (test.significant or name not in _CAUSES)


def _there(values: xr.DataArray | None) -> xr.DataArray:
    assert values is not None
    return values


def _milestone(name: str, measured: Mapping[int, CorrectedEstimate]) -> Milestone:
    steps = sorted(measured)
    passing = [step for step in steps if passes(name, measured[step])]
    if not passing:
        return Milestone(None)
    first = passing[0]
    before = [step for step in steps if step < first]
    lost = tuple(step for step in steps if step > first and step not in passing)
    return Milestone(first, before[-1] if before else None, measured[first], lost)
