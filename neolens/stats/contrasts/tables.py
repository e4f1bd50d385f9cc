"""Variants and their differences in tables: what is significant, exact, at a limit, or not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from neolens.checks import check_records
from neolens.stats.contrasts.differences import Contrast, check_asked, kind
from neolens.stats.contrasts.variants import Measure, Variant
from neolens.stats.seeds import Estimate, each_seed
from neolens.stats.verdicts import Levels

Row = list[str | int | float | None]

CONTRASTS = [
    *("measure", "variants", "difference", "low", "high", "seeds", "seed by seed", "corrected p", "verdict"),
    "further differences",
]
"""Header of `contrast_table`."""


def measure_table(
    variants: Sequence[Variant], measures: Mapping[str, Measure], question: str
) -> tuple[list[str], list[Row]]:
    """Header and a row per measure: its mean over seeds and 95 % interval in each variant, two or three seeds one by
    one, the number of seeds where not all have it, and whether it ends at a limit; blank where no seed has it."""
    check_asked(variants, measures, question)
    rows: list[Row] = [
        [f"{measure.title} ({measure.unit})", *(_cell(one, measure) for one in variants)]
        for measure in measures.values()
    ]
    return ["measure", *(f"{one.name} ({kind(one.anatomy, question)})" for one in variants)], rows


def contrast_table(compared: Sequence[Contrast]) -> tuple[list[str], list[Row]]:
    """Header and a row for each measure of each pair: the difference, its interval, its seeds, corrected p, the verdict
    with its reason where nothing was tested, and confounds."""
    rows: list[Row] = []
    for one in check_records(compared, "compared", Contrast, "neolens.stats.contrasts.contrasts"):
        difference = one.difference
        status = one.verdict.status if one.tested else f"{one.verdict.status}: {one.verdict.reason}"
        each = each_seed(difference, _form(difference, "+"))
        names = f"{one.first.name} - {one.second.name}"
        rows.append([one.what.title, names, difference.mean, difference.low, difference.high, difference.n, each])
        rows[-1] += [one.p_adjusted, status, "; ".join(line.partition(":")[0] for line in one.differ_in)]
    return CONTRASTS, rows


def _form(estimate: Estimate, sign: str = "") -> str:
    return f"{sign}.2g" if abs(estimate.mean) < 0.005 else f"{sign}.2f"


def _cell(one: Variant, measure: Measure) -> str:
    estimate = one.estimate(measure)
    if not estimate.n:
        return ""
    form = _form(estimate)
    if one.fixes(measure) and estimate.low == estimate.high == 0:
        return f"exactly {measure.fixed}"
    interval = "" if not np.isfinite(estimate.low) else f" ({estimate.low:{form}} to {estimate.high:{form}})"
    parts = [
        f"{estimate.mean:{form}}{interval}",
        f"exactly {measure.fixed}" if one.fixes(measure) else "",
        f"n = {estimate.n}" if estimate.n < one.result.sizes["seed"] else "",
        f"seeds {each}" if (each := each_seed(estimate, form)) else "",
        _limit(one.levels(measure)),
    ]
    return ", ".join(part for part in parts if part)


def _limit(levels: Levels | None) -> str:
    """`at chance level in 2 of 3 networks`, `at ceiling`; nothing where no value is at a limit."""
    limits = [] if levels is None else levels.limits
    at_limit = [one for one in limits if one is not None]
    if not at_limit:
        return ""
    kinds = " or ".join(dict.fromkeys(at_limit))
    return f"at {kinds}" + (f" in {len(at_limit)} of {len(limits)} networks" if len(at_limit) < len(limits) else "")
