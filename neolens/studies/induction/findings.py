"""The findings of the induction study: copying across the window, the need for induction heads, and what forms first.

Every verdict is that of a comparison or of a formation; the headlines count verdicts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any

import numpy as np
import xarray as xr

from neolens.checks.annotations import checked
from neolens.near_far import of_anatomies
from neolens.stats.seeds import Estimate
from neolens.studies.finding import Finding, StudyWarning, of_estimate
from neolens.studies.induction.comparisons import CROSSING, LEVELS, Comparison, at_chance_level, check_tests, verdict
from neolens.studies.induction.formation import COPIES, MILESTONES, ORDERED, Formation, sides
from neolens.studies.induction.summary import MEASURES, CorrectedEstimate, Induction
from neolens.wording import count, join, number, percent, value_range

BY_LENGTH, CAUSE, FORMED = "By repeat length", "Pattern and cause", "What forms first"
"""The headings of the sections."""

BOTH_SIDES = "{} differs between n = {} and n = {} at step {}"
"""What is claimed of a milestone."""

UNTRAINED = Finding(claim="something forms first", subject="model", verdict="not measured", reason="no checkpoints")
"""The finding of a model without checkpoints next to models that have some."""

_UNITS = {"pattern": "score", "copies": "share", "induction": "score", "copying": "share"}

Tests = Mapping[Comparison, CorrectedEstimate]


@checked
def findings(models: Sequence[Induction], tests: Tests, formed: Sequence[Formation]) -> list[Finding]:
    """The findings of all models, question by question; on formation none where no model has checkpoints."""
    check_tests(models, tests)
    return [*_copying(models, tests), *_needed(models, tests), *(_forming(models, formed) if formed else ())]


def _copying(models: Sequence[Induction], tests: Tests) -> list[Finding]:
    """Whether heads have the pattern and half is copied just beyond the window, and what changes there."""
    where = of_anatomies(models[0].window, [one.anatomy for one in models]).beyond
    levels = [[_tested(one, name, one.nearest[1], tests) for name in LEVELS] for one in models]
    copying = [pair for pair in levels if {each.verdict for each in pair} == {"supported"}]
    undecided = sum("contradicted" not in {each.verdict for each in pair} for pair in levels) - len(copying)
    headline = (
        f"In {len(copying)} of {count(len(models), 'model')} induction heads attend {where} and at least half is "
        f"copied (accuracy {value_range([copies.estimate for _, copies in copying or levels], percent)})"
        f"{f'; {undecided} undecided' if undecided else ''}."
    )
    keys = [(one, measure) for one in models for measure in CROSSING if (one.name, measure, None) in tests]
    changes = [_tested(one, name, None, tests) for one, name in keys if tests[one.name, name, None].estimate.n]
    return _answer(f"Do induction heads copy from {where}?", headline, [*chain(*levels), *changes], BY_LENGTH)


def _needed(models: Sequence[Induction], tests: Tests) -> list[Finding]:
    """Whether ablating all induction heads costs more than ablating as many random heads, beyond and inside."""
    each = [[_tested(one, "needed", n, tests) for n in one.nearest[::-1]] for one in models]
    cases = [statuses.pop() if len(statuses := {one.verdict for one in pair}) == 1 else "mixed" for pair in each]
    supported = [one.estimate for pair, case in zip(each, cases, strict=True) if case == "supported" for one in pair]
    untested, of = cases.count("not measured"), count(len(models), "model")
    undecided = sum(case in ("mixed", "not significant") for case in cases)
    headline = f"In {cases.count('supported')} of {of} ablating them costs more than as many random heads"
    headline += f" ({value_range(supported, number)} nats per token)" if supported else ""
    headline += f"; {untested} not testable" if untested else ""
    headline += f"; {undecided} undecided." if undecided else "."
    if untested == len(models) and all(at_chance_level(one, n) for one in models for n in one.nearest):
        headline = (
            f"Without them prediction is at chance level in {untested} of {of}, so the difference from random heads is "
            "not tested."
        )
    beyond, inside = zip(*each, strict=True)
    return _answer("Are induction heads needed more than random heads?", headline, [*beyond, *inside], CAUSE)


def _forming(models: Sequence[Induction], formed: Sequence[Formation]) -> list[Finding]:
    """What forms first in each model, beyond the window first, and whether it forms alike on both sides of it."""
    ranked = sorted(formed, key=lambda one: -one.n)
    beyond = [one for one in ranked if one.n == one.model.nearest[1]]
    firsts = Counter(_first(one).claim for one in beyond if one.certain)
    headline = f"No order is certain at these checkpoints in {count(len(beyond), 'model')}."
    if firsts:
        claim, times = firsts.most_common(1)[0]
        of = count(len(beyond), "model")
        headline = f"In {times} of {of} {claim}{'; not in others' if times < len(beyond) else ''}."
    without = [replace(UNTRAINED, subject=one.name) for one in models if one.training is None]
    return _answer(
        "What forms first in training?", headline, [*map(_first, ranked), *_both_sides(models), *without], FORMED
    )


def _first(one: Formation) -> Finding:
    assert one.model.training is not None
    shared: Any = {"subject": one.model.name, "n": one.model.training.sizes["prompt"], "sample": "prompts"}
    if not one.order:
        claim, reason = f"something forms at n = {one.n}", "no threshold is passed"
        return Finding(claim=claim, verdict="not significant", reason=reason, **shared)
    step, names = one.order[0]
    form = "forms first" if len(names) == 1 else "form first" if len(names) < len(ORDERED) else "form together"
    return Finding(
        claim=f"{join([MILESTONES[name] for name in names])} {form} at n = {one.n}",
        estimate=float(step),
        unit="training steps",
        verdict="supported" if one.certain else "not significant",
        reason="" if one.certain else "an interval includes the threshold",
        **shared,
    )


def _both_sides(models: Sequence[Induction]) -> Iterator[Finding]:
    """Whether pattern and copying differ, at some step, between just inside and just beyond the window."""
    largest, tested = sides(models)
    inside, beyond = models[0].nearest
    for (model, name), change in largest.items():
        claim = BOTH_SIDES.format(MILESTONES[name], inside, beyond, "any" if change is None else change[0])
        if change is None:
            yield Finding(
                claim=claim, subject=model, verdict="not significant" if tested[model, name] else "not measured"
            )
        else:
            test, unit, family = change[3], _UNITS[name], tested.total()
            numbers: Any = {"p": test.p_adjusted, "comparisons": family, "sample": test.sample, "unit": unit}
            yield of_estimate(claim, model, test.estimate, "supported", **numbers)


def _tested(one: Induction, measure: str, n: int | None, tests: Tests) -> Finding:
    """The finding of one comparison."""
    test, judged = tests[one.name, measure, n], verdict(one, measure, n, tests)
    untested = not np.isfinite(test.p_adjusted)
    family = [(name in LEVELS, each.sample) for (_, name, _), each in tests.items() if np.isfinite(each.p_adjusted)]
    return of_estimate(
        judged.claim,
        one.name,
        _shown(one, measure, test),
        judged,
        p=test.p_adjusted,
        comparisons=0 if untested else family.count((measure in LEVELS, test.sample)),
        unit=_UNITS.get(measure) or MEASURES[measure].unit,
        sample=test.sample,
    )


def _shown(one: Induction, measure: str, test: CorrectedEstimate) -> Estimate:
    """The value where a level is tested, or where the architecture fixes it; else the difference."""
    fixed = one.estimate(measure, one.nearest[1]) if measure == "local" and test.untested else None
    if measure not in LEVELS:
        return test.estimate if fixed is None else fixed.estimate
    mean, low, high = (each + LEVELS[measure] for each in (test.estimate.mean, test.estimate.low, test.estimate.high))
    return Estimate(mean, max(low, min(mean, 0.0)), min(high, max(mean, 1.0)), test.estimate.n)


def _answer(question: str, headline: str, each: Sequence[Finding], figure: str) -> list[Finding]:
    return [
        replace(one, question=question, figure=figure, headline="" if at else headline) for at, one in enumerate(each)
    ]


@checked
def warnings(models: Sequence[Induction]) -> list[StudyWarning]:
    """Networks that copy little, have too few control heads or are alone, and checkpoints with the same weights."""
    return [warning for one in models for warning in _warnings(one)]


def _warnings(one: Induction) -> Iterator[StudyWarning]:
    for n in one.nearest:
        at = one.result.sel(distance=n - 1)
        little = at["accuracy"].mean("prompt") < COPIES
        crowded = one.has_role(n).any(("layer", "head")) & at["others"].isnull().all("prompt")
        if little.any():
            text = (
                f"{_networks(one, little)} copies less than {COPIES:.0%} at n = {n}: ablation can remove little there."
            )
            yield StudyWarning(one.name, "little is copied", text)
        if crowded.any():
            text = f"{_networks(one, crowded)} has the pattern in more than half of its heads at n = {n}: no control."
            yield StudyWarning(one.name, "too few control heads", text)
    if len(one.seeds) == 1:
        text = f"{one.name} is one network: intervals and p are over its prompts, and about no other network."
        yield StudyWarning(one.name, "one network", text)
    if one.training is not None:
        steps, prints = one.training["step"].values, np.array(str(one.training.attrs["fingerprint"]).split())
        for weights, times in Counter(prints.tolist()).items():
            if times > 1:
                same = join(list(map(str, steps[prints == weights])))
                text = f"{one.name} has the same weights at steps {same}: at least one is not of its step."
                yield StudyWarning(one.name, "repeated checkpoint", text)


def _networks(one: Induction, seeds: xr.DataArray) -> str:
    named = list(map(str, seeds["seed"].values[seeds.values]))
    return one.name if len(one.seeds) == 1 else f"{one.name}@{','.join(named)}"
