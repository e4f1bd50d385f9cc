"""The findings of contrasts: one per measure of each pair of variants, the significant ones first."""

from __future__ import annotations

from collections.abc import Sequence

from neolens.stats.contrasts import Contrast
from neolens.stats.verdicts import Status
from neolens.studies.finding import Finding, of_estimate

_ORDER: tuple[Status, ...] = ("contradicted", "supported", "exact", "not significant", "not measured")


def of_contrasts(compared: Sequence[Contrast], *, first: Sequence[str] = (), **others: str) -> list[Finding]:
    """A finding per contrast: the difference between two variants, with p corrected for all that are tested.

    Args:
        first: names of measures that stand before all others.
        others: further fields of every finding, such as `question` and `figure`.
    """
    tested = sum(one.tested for one in compared)
    order = [
        (one.measure not in first, _ORDER.index(one.verdict.status), one.p_adjusted if one.tested else 0.0)
        for one in compared
    ]
    ranked = [compared[at] for at in sorted(range(len(compared)), key=lambda at: order[at])]
    return [_finding(one, tested, others) for one in ranked]


def _finding(one: Contrast, tested: int, others: dict[str, str]) -> Finding:
    besides = ", ".join(line.partition(":")[0] for line in one.differ_in)
    return of_estimate(
        f"{one.what.title} differs{f' (they differ besides in {besides})' if besides else ''}",
        f"{one.first.name} - {one.second.name}",
        one.difference,
        one.verdict,
        p=one.p_adjusted,
        comparisons=tested if one.tested else 0,
        unit=one.what.unit,
        **others,
    )
