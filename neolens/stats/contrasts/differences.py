"""Differences between variants that differ in one thing alone, seed by seed, and what they allow to be claimed.

Networks of one seed start alike and read the same texts. Every measure of every pair that is tested is corrected
together (Benjamini and Hochberg 1995). A difference is not tested where an architecture fixes it exactly, and where an
effect ends at chance level or at its ceiling; a non-significant difference is not evidence of equality.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import xarray as xr

from neolens.checks import check_choice, check_records, check_type
from neolens.checks.annotations import Probability, check_annotated
from neolens.models import Anatomy
from neolens.models.describe import differences
from neolens.stats import seeds, verdicts
from neolens.stats.contrasts.variants import Measure, Variant
from neolens.stats.seeds import Estimate
from neolens.stats.verdicts import Verdict

KINDS: dict[str, tuple[str, ...]] = {
    "position": ("rotary", "absolute", "none"),
    "attention": ("global and local", "local", "global"),
}
"""Question -> the answers that an architecture may give, in the order in which variants are set against each other."""


@dataclass(frozen=True)
class Contrast:
    """One measure of two variants: how much larger it is in `first` than in `second`."""

    measure: str
    what: Measure
    first: Variant
    second: Variant
    question: str
    """What is asked of the variants, "attention" or "position"; in what else they differ is a confound."""
    difference: Estimate
    """Without p where nothing is tested."""
    p_adjusted: Probability
    """Corrected for every measure of every pair that is tested."""
    verdict: Verdict

    def __post_init__(self) -> None:
        check_annotated(self)

    @property
    def differ_in(self) -> list[str]:
        """What else the two differ in besides what is asked, a line each."""
        return differences([self.first.anatomy, self.second.anatomy], self.question)

    @property
    def tested(self) -> bool:
        return bool(np.isfinite(self.p_adjusted))

    @property
    def significant(self) -> bool:
        return self.verdict.status == "supported"


def kind(anatomy: Anatomy, question: str) -> str:
    """What an architecture answers to a question: the kind of its positions, or the kinds of its layers."""
    check_type(anatomy, "anatomy", Anatomy, "the anatomy of a model, such as neolens.anatomy('lab/gpt2')")
    if check_choice(question, "question", sorted(KINDS)) == "position":
        return anatomy.position.kind
    return " and ".join(sorted({span.kind for span in anatomy.attention}))


def contrasts(variants: Sequence[Variant], measures: Mapping[str, Measure], question: str) -> list[Contrast]:
    """Every measure that both have, of every two variants that differ in what is asked alone; of all that differ in it,
    where there is no such pair. Rotary stands before absolute and none, local before global.

    Where two variants have networks of the same seeds they are compared seed by seed; a single network gives a
    difference without an interval.

    Raises:
        TypeError: variants or measures of another type.
        ValueError: a question other than "attention" and "position".
    """
    check_asked(variants, measures, question)
    untested: list[tuple[str, Measure, Variant, Variant, Estimate, Verdict | None]] = []
    for one, other in _pairs(variants, question):
        for name, measure in measures.items():
            here, there = one.values(measure), other.values(measure)
            if here is None or there is None:
                continue
            difference = seeds.paired_difference(here, there, measure.bounds)
            if difference.n:
                verdict = _without_test(measure, one, other, here - there)
                difference = difference if verdict is None else replace(difference, p=np.nan)
                untested.append((name, measure, one, other, difference, verdict))
    adjusted = seeds.adjust_p_values({str(at): difference for at, (*_, difference, _) in enumerate(untested)})
    return [
        Contrast(
            *(name, measure, one, other, question, difference, p),
            verdict or verdicts.significance(_claim(measure, one, other), p),
        )
        for (name, measure, one, other, difference, verdict), p in zip(untested, adjusted.values(), strict=True)
    ]


def check_asked(variants: Any, measures: Any, question: Any) -> None:
    """Check what variants are compared by.

    Raises:
        TypeError: no list of variants, or no mapping from names to measures.
        ValueError: no such question.
    """
    check_records(variants, "variants", Variant, "neolens.studies.compare.measures.numbers")
    for name, measure in check_type(measures, "measures", Mapping, "a mapping from names to Measure").items():
        check_type(measure, f"measures[{name!r}]", Measure, "a neolens.stats.contrasts.Measure")
    check_choice(question, "question", sorted(KINDS))


def recorded(one: Contrast) -> dict[str, Any]:
    """A contrast as plain values, for a record."""
    check_type(one, "one", Contrast, "a Contrast, as neolens.stats.contrasts.contrasts returns them")
    return {
        "measure": one.measure,
        "first": one.first.name,
        "second": one.second.name,
        **asdict(one.difference),
        "p_adjusted": one.p_adjusted,
        **asdict(one.verdict),
        "differ_in": one.differ_in,
    }


def _pairs(variants: Sequence[Variant], question: str) -> list[tuple[Variant, Variant]]:
    """Every two variants that differ in what is asked alone, or in it at all where no two differ in it alone."""
    kinds = {one.name: kind(one.anatomy, question) for one in variants}
    ranked = sorted(variants, key=lambda one: KINDS[question].index(kinds[one.name]))
    pairs = [(a, b) for at, a in enumerate(ranked) for b in ranked[at + 1 :] if kinds[a.name] != kinds[b.name]]
    return [pair for pair in pairs if not differences([one.anatomy for one in pair], question)] or pairs


def _without_test(measure: Measure, one: Variant, other: Variant, difference: xr.DataArray) -> Verdict | None:
    """What is claimed without a test: a value that an architecture fixes, or an effect that ends at a limit."""
    difference = difference.dropna("seed")
    if measure.deviation is not None:
        fixed = {variant.name: its for variant in (one, other) if (its := variant.deviation(measure)) is not None}
        if fixed:
            claim = f"{measure.title}: exactly {measure.fixed} in {' and '.join(fixed)}"
            return verdicts.exact_by_construction(claim, {name: its.values.tolist() for name, its in fixed.items()})
    levels = [variant.levels(measure, difference["seed"]) for variant in (one, other)]
    if levels[0] is None or levels[1] is None:
        return None
    return verdicts.limited(_claim(measure, one, other), levels[0], levels[1], difference.values.tolist())


def _claim(measure: Measure, one: Variant, other: Variant) -> str:
    return f"{measure.title} ({measure.unit}) differs between {one.name} and {other.name}"
