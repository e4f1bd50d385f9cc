"""Arms compared: one number a network, the mean over the seeds of an arm, and what tells two arms apart.

Two arms that differ in one thing alone, such as their positions or the windows of their layers, are compared seed by
seed, for networks of one seed start alike and read the same texts. Every measure of every pair is corrected together
(Benjamini and Hochberg 1995); what is not told apart is not said to be alike.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import xarray as xr

from neolens import seeds
from neolens.circuits.words import listed
from neolens.models import Anatomy
from neolens.models.describe import differences
from neolens.seeds import Estimate, in_words

Row = list[str | int | float | None]

_KINDS: dict[str, tuple[str, ...]] = {
    "position": ("rotary", "absolute", "none"),
    "attention": ("global and local", "local", "global"),
}
"""Question -> the answers that an architecture may give, in the order in which arms are set against each other."""

_ALONE = {"position": "positions", "attention": "attention"}


@dataclass(frozen=True)
class Measure:
    """One number a network."""

    title: str
    unit: str
    of: Callable[[xr.Dataset], xr.DataArray | None]
    """By seed; None where the result of an arm does not have it."""


@dataclass(frozen=True)
class Arm:
    """What was found in one arm: all of its networks, by seed."""

    facts: Anatomy
    result: xr.Dataset

    @property
    def name(self) -> str:
        return self.facts.name

    def values(self, measure: Measure) -> xr.DataArray | None:
        """A measure by seed; None where the arm does not have it."""
        return measure.of(self.result)

    def estimate(self, measure: Measure) -> Estimate:
        """Its mean over seeds."""
        values = self.values(measure)
        return seeds.estimate(np.array([]) if values is None else values)


@dataclass(frozen=True)
class Contrast:
    """One measure of two arms: how much larger it is in `one` than in `other`."""

    measure: str
    what: Measure
    one: Arm
    other: Arm
    question: str
    """What is asked of the arms, "attention" or "position"; in what else they differ is a confound."""
    difference: Estimate
    p_adjusted: float
    """Corrected for every measure of every pair that is compared."""

    @property
    def differ_in(self) -> list[str]:
        """What else the two differ in besides what is asked, a line each."""
        return differences([self.one.facts, self.other.facts], self.question)

    @property
    def told_apart(self) -> bool:
        return self.p_adjusted < 0.05


def kind(facts: Anatomy, question: str) -> str:
    """What an architecture answers to a question: the kind of its positions, or the kinds of its layers."""
    if question == "position":
        return facts.position.kind
    return " and ".join(sorted({span.kind for span in facts.attention}))


def contrasts(arms: Sequence[Arm], measures: Mapping[str, Measure], question: str) -> list[Contrast]:
    """Every measure that both have, of every two arms that differ in what is asked alone; of all that differ in it,
    where there is no such pair. Rotary stands before absolute and none, local before global.

    Where two arms have networks of the same seeds they are compared seed by seed; a single network gives a difference
    without an interval.

    Raises:
        ValueError: a question other than "attention" and "position".
    """
    if question not in _KINDS:
        raise ValueError(f"no question {question!r}: expected {' or '.join(sorted(_KINDS))}")
    kinds = {one.name: kind(one.facts, question) for one in arms}
    ranked = sorted(arms, key=lambda one: _KINDS[question].index(kinds[one.name]))
    pairs = [(a, b) for at, a in enumerate(ranked) for b in ranked[at + 1 :] if kinds[a.name] != kinds[b.name]]
    pairs = [pair for pair in pairs if not differences([one.facts for one in pair], question)] or pairs
    found: dict[str, tuple[str, Measure, Arm, Arm, str, Estimate]] = {}
    for one, other in pairs:
        for name, measure in measures.items():
            here, there = one.values(measure), other.values(measure)
            if here is None or there is None:
                continue
            difference = seeds.compared(here, there)
            if difference.n:
                found[f"{name} {one.name} {other.name}"] = (name, measure, one, other, question, difference)
    adjusted = seeds.corrected({key: difference for key, (*_, difference) in found.items()})
    return [Contrast(*its, adjusted[key]) for key, its in found.items()]


def recorded(one: Contrast) -> dict[str, Any]:
    """A contrast as plain values, for a record."""
    return {
        "measure": one.measure,
        "one": one.one.name,
        "other": one.other.name,
        **asdict(one.difference),
        "p_adjusted": one.p_adjusted,
        "differ besides in": one.differ_in,
    }


def told_apart(compared: Sequence[Contrast]) -> list[str]:
    """Of every pair, the measures in which it is told apart, and those in which it is not."""
    said, tested = [], _tested(compared)
    for its in _by_pair(compared):
        who = _who(its[0])
        if not any(np.isfinite(one.p_adjusted) for one in its):
            each = [f"{one.what.title} {one.difference.mean:+.2f}" for one in its]
            said.append(f"{who}, without interval or p, for there are not two seeds of each: {'; '.join(each)}.")
            continue
        tried = [one for one in its if np.isfinite(one.p_adjusted)]
        apart = [_difference(one) for one in tried if one.told_apart]
        alike = [one.what.title for one in tried if not one.told_apart]
        untried = [one.what.title for one in its if one not in tried]
        said.append(
            f"{who}: told apart in "
            f"{len(apart)} of {len(tried)} measures{': ' if apart else ''}{'; '.join(apart)}. Not told apart in "
            f"{'; '.join(alike) or 'none'}.{' Not tested, for fewer than two seeds have both: ' if untried else ''}"
            f"{'; '.join(untried)}{'.' if untried else ''} (p below 0.05, corrected for {_many(tested, 'comparison')}.)"
        )
    return said


def in_short(compared: Sequence[Contrast]) -> list[str]:
    """Of every pair that can be tested, what tells it apart, out of how many measures, and what comes nearest to that;
    the rest stands in tables."""
    said, tested = [], _tested(compared)
    for its in _by_pair(compared):
        tried = sorted((one for one in its if np.isfinite(one.p_adjusted)), key=lambda one: one.p_adjusted)
        if not tried:
            continue
        apart = [_difference(one) for one in tried if one.told_apart]
        alike = [one for one in tried if not one.told_apart]
        text = (
            f"{_who(its[0], 'minus')}: told apart in {len(apart)} of {_many(len(tried), 'measure')} (p below 0.05, "
            f"corrected for {_many(tested, 'comparison')}){': ' if apart else ''}{'; '.join(apart)}."
        )
        if alike:
            text += f" Not told apart is not alike; the nearest to it: {_difference(alike[0])}."
        if more := len(its) - len(tried):
            text += f" {more} more cannot be tested, for fewer than two seeds of both have them."
        said.append(text)
    return said


def measure_table(arms: Sequence[Arm], measures: Mapping[str, Measure], question: str) -> tuple[list[str], list[Row]]:
    """Header and a row a measure: its mean over seeds and 95 % interval in each arm, with the number of seeds where not
    all have it; blank where none has."""
    rows: list[Row] = []
    for measure in measures.values():
        cells = [_cell(one.estimate(measure), one.result.sizes["seed"]) for one in arms]
        rows.append([f"{measure.title} ({measure.unit})", *cells])
    return ["measure", *(f"{one.name} ({kind(one.facts, question)})" for one in arms)], rows


def contrast_table(compared: Sequence[Contrast]) -> tuple[list[str], list[Row]]:
    """Header and a row for each measure of each pair: the difference, its interval, n, corrected p, and confounds."""
    header = ["measure", "arms", "difference", "low", "high", "seeds", "corrected p", "differ besides in"]
    rows: list[Row] = []
    for one in compared:
        its = one.difference
        besides = "; ".join(line.partition(":")[0] for line in one.differ_in) or "nothing"
        arms = f"{one.one.name} less {one.other.name}"
        rows.append([one.what.title, arms, its.mean, its.low, its.high, its.n, one.p_adjusted, besides])
    return header, rows


def _by_pair(compared: Sequence[Contrast]) -> list[list[Contrast]]:
    pairs: dict[tuple[str, str], list[Contrast]] = {}
    for one in compared:
        pairs.setdefault((one.one.name, one.other.name), []).append(one)
    return list(pairs.values())


def _tested(compared: Sequence[Contrast]) -> int:
    return sum(bool(np.isfinite(one.p_adjusted)) for one in compared)


def _many(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _who(one: Contrast, between: str = "less") -> str:
    besides = [line.partition(":")[0] for line in one.differ_in]
    alone = f"differ besides in {listed(besides)}" if besides else f"differ in {_ALONE[one.question]} alone"
    here, there = (f"{its.name} ({kind(its.facts, one.question)})" for its in (one.one, one.other))
    return f"{here} {between} {there}, which {alone}"


def _difference(one: Contrast) -> str:
    form = "+.2g" if abs(one.difference.mean) < 0.005 else "+.2f"
    return f"{one.what.title} ({one.what.unit}) {in_words(one.difference, form)}, corrected p = {one.p_adjusted:.2g}"


def _cell(its: Estimate, networks: int) -> str:
    if not its.n:
        return ""
    digits = ".2g" if abs(its.mean) < 0.005 else ".2f"
    interval = "" if not np.isfinite(its.low) else f" ({its.low:{digits}} to {its.high:{digits}})"
    return f"{its.mean:{digits}}{interval}{f', n = {its.n}' if its.n < networks else ''}"
