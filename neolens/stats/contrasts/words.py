"""Differences between variants in tables: what is significant, exact, at a limit, or not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from neolens.checks import check_records
from neolens.stats.contrasts.differences import Contrast, check_asked, kind
from neolens.stats.contrasts.variants import Measure, Variant, limit_in_words
from neolens.stats.seeds import Estimate, each_seed, format_estimate
from neolens.stats.verdicts import Verdict
from neolens.wording import count, join

Row = list[str | int | float | None]

_ALONE = {"position": "positions", "attention": "attention"}


def told_apart(compared: Sequence[Contrast]) -> list[str]:
    """Of every pair, the measures in which it is told apart, those in which it is not, and those without a test."""
    said, tested = [], _tested(compared)
    for its in _by_pair(compared):
        who = _who(its[0])
        if all(one.difference.n < 2 for one in its):
            each = [f"{one.what.title} {one.difference.mean:+.2f}{_marked(one)}" for one in its]
            said.append(f"{who}, without interval or p, for there are not two seeds of each: {'; '.join(each)}.")
            continue
        tried = [one for one in its if one.tested]
        apart = [_difference(one) for one in tried if one.significant]
        alike = [one.what.title for one in tried if not one.significant]
        text = (
            f"{who}: told apart in "
            f"{len(apart)} of {len(tried)} measures{': ' if apart else ''}{'; '.join(apart)}. Not told apart in "
            f"{'; '.join(alike) or 'none'}."
        )
        untried = [one.what.title for one in its if one.verdict.reason == _FEW]
        text += f" Not tested, for fewer than two seeds have both: {'; '.join(untried)}." if untried else ""
        said.append(f"{text}{_untested(its)} (p below 0.05, corrected for {count(tested, 'comparison')}.)")
    return said


def in_short(compared: Sequence[Contrast]) -> list[str]:
    """Of every pair that has an interval, what tells it apart, out of how many measures, what comes nearest to that,
    and what cannot be tested; the rest stands in tables."""
    said, tested = [], _tested(compared)
    for its in _by_pair(compared):
        if all(one.difference.n < 2 for one in its):
            continue
        tried = sorted((one for one in its if one.tested), key=lambda one: one.p_adjusted)
        apart = [_difference(one) for one in tried if one.significant]
        alike = [one for one in tried if not one.significant]
        text = (
            f"{_who(its[0], 'minus')}: told apart in {len(apart)} of {count(len(tried), 'measure')} (p below 0.05, "
            f"corrected for {count(tested, 'comparison')}){': ' if apart else ''}{'; '.join(apart)}."
        )
        if alike:
            text += f" Not told apart is not alike; the nearest to it: {_difference(alike[0])}."
        text += _untested(its)
        if more := sum(one.verdict.reason == _FEW for one in its):
            text += f" {more} more cannot be tested, for fewer than two seeds of both have them."
        said.append(text)
    return said


def measure_table(
    variants: Sequence[Variant], measures: Mapping[str, Measure], question: str
) -> tuple[list[str], list[Row]]:
    """Header and a row per measure: its mean over seeds and 95 % interval in each variant, two or three seeds one by
    one, the number of seeds where not all have it, and whether it ends at a limit; blank where no seed has it."""
    check_asked(variants, measures, question)
    rows: list[Row] = []
    for measure in measures.values():
        cells: list[str | int | float | None] = [_cell(one, measure) for one in variants]
        rows.append([f"{measure.title} ({measure.unit})", *cells])
    return ["measure", *(f"{one.name} ({kind(one.anatomy, question)})" for one in variants)], rows


def contrast_table(compared: Sequence[Contrast]) -> tuple[list[str], list[Row]]:
    """Header and a row for each measure of each pair: the difference, its interval, its seeds, corrected p, what is
    claimed or why nothing was tested, and confounds."""
    header = ["measure", "variants", "difference", "low", "high", "seeds", "seed by seed", "corrected p", "verdict"]
    rows: list[Row] = []
    for one in check_records(compared, "compared", Contrast, "neolens.stats.contrasts.contrasts"):
        its = one.difference
        besides = "; ".join(line.partition(":")[0] for line in one.differ_in) or "nothing"
        variants = f"{one.first.name} less {one.second.name}"
        each = each_seed(its, _form(its, "+"))
        rows.append([one.what.title, variants, its.mean, its.low, its.high, its.n, each, one.p_adjusted])
        rows[-1] += [one.verdict.status if one.tested else _with_reason(one.verdict), besides]
    return [*header, "differ besides in"], rows


_FEW = "fewer than two seeds"
"""The reason of a contrast without an interval (see `verdicts.significance`)."""


def _untested(its: Sequence[Contrast]) -> str:
    """What an architecture fixes, and what ends at chance level or at its ceiling."""
    text = ""
    for status, start in (
        ("exact", "Exact by construction, and so not tested"),
        ("contradicted", "Not what the architecture fixes"),
    ):
        chosen = [f"{one.what.title} ({_fixed(one)})" for one in its if one.verdict.status == status]
        text += f" {start}: {'; '.join(chosen)}." if chosen else ""
    limits = [f"{one.what.title}{_marked(one)}" for one in its if one.verdict.reason.startswith("ends at")]
    return f"{text} Not tested, for they end at a limit: {'; '.join(limits)}." if limits else text


def _fixed(one: Contrast) -> str:
    """`exactly 0 in lab/gpt-neo; 5.30, -0.01, 5.57 in lab/gpt-neo-global`."""
    if one.verdict.status == "contradicted":
        return one.verdict.reason
    parts = []
    for variant in (one.first, one.second):
        estimate = variant.estimate(one.what)
        value = (
            f"exactly {one.what.fixed}" if variant.fixes(one.what) else each_seed(estimate) or format_estimate(estimate)
        )
        parts.append(f"{value} in {variant.name}")
    return "; ".join(parts)


def _marked(one: Contrast) -> str:
    """` (at chance level in lab/gpt2)`, and so on; nothing where no value of either variant is at a limit."""
    words = {variant.name: limit_in_words(variant.levels(one.what)) for variant in (one.first, one.second)}
    if len(set(words.values())) == 1:
        return f" ({next(iter(words.values()))})" if any(words.values()) else ""
    return f" ({'; '.join(f'{name} {text}' for name, text in words.items() if text)})"


def _with_reason(verdict: Verdict) -> str:
    return f"{verdict.status}: {verdict.reason}"


def _by_pair(compared: Sequence[Contrast]) -> list[list[Contrast]]:
    pairs: dict[tuple[str, str], list[Contrast]] = {}
    for one in check_records(compared, "compared", Contrast, "neolens.stats.contrasts.contrasts"):
        pairs.setdefault((one.first.name, one.second.name), []).append(one)
    return list(pairs.values())


def _tested(compared: Sequence[Contrast]) -> int:
    return sum(one.tested for one in check_records(compared, "compared", Contrast, "neolens.stats.contrasts.contrasts"))


def _who(one: Contrast, between: str = "less") -> str:
    besides = [line.partition(":")[0] for line in one.differ_in]
    alone = f"differ besides in {join(besides)}" if besides else f"differ in {_ALONE[one.question]} alone"
    here, there = (f"{its.name} ({kind(its.anatomy, one.question)})" for its in (one.first, one.second))
    return f"{here} {between} {there}, which {alone}"


def _difference(one: Contrast) -> str:
    form = _form(one.difference, "+")
    each = each_seed(one.difference, form)
    difference = format_estimate(one.difference, form)
    text = f"{one.what.title} ({one.what.unit}) {difference}, corrected p = {one.p_adjusted:.2g}"
    return f"{text}, seed by seed {each}" if each else text


def _form(its: Estimate, sign: str = "") -> str:
    return f"{sign}.2g" if abs(its.mean) < 0.005 else f"{sign}.2f"


def _cell(one: Variant, measure: Measure) -> str:
    its = one.estimate(measure)
    if not its.n:
        return ""
    digits = _form(its)
    if one.fixes(measure) and its.low == its.high == 0:
        return f"exactly {measure.fixed}"
    interval = "" if not np.isfinite(its.low) else f" ({its.low:{digits}} to {its.high:{digits}})"
    parts = [
        f"{its.mean:{digits}}{interval}",
        f"exactly {measure.fixed}" if one.fixes(measure) else "",
        f"n = {its.n}" if its.n < one.result.sizes["seed"] else "",
        f"seeds {each}" if (each := each_seed(its, digits)) else "",
        limit_in_words(one.levels(measure)),
    ]
    return ", ".join(part for part in parts if part)
