"""The findings of comparisons over seeds: contrasts between variants, and claims that a difference is above 0."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from neolens.stats import seeds
from neolens.stats.contrasts import Contrast
from neolens.stats.seeds import Estimate
from neolens.stats.verdicts import Status, increase
from neolens.studies.finding import Finding, of_estimate

ORDER: tuple[Status, ...] = ("contradicted", "supported", "exact", "not significant", "not measured")
"""Of findings, the most important verdict first."""


def of_contrasts(compared: Sequence[Contrast], *, first: Sequence[str] = (), **others: str) -> list[Finding]:
    """A finding per contrast, the significant ones first, with p corrected for all that are tested.

    Args:
        first: names of measures that stand before all others.
        others: further fields of every finding, such as `question` and `figure`.
    """
    tested = sum(one.tested for one in compared)

    def rank(one: Contrast) -> tuple[bool, int, float]:
        return one.measure not in first, ORDER.index(one.verdict.status), one.p_adjusted if one.tested else 0.0

    return [_finding(one, tested, others) for one in sorted(compared, key=rank)]


def _finding(one: Contrast, tested: int, others: dict[str, str]) -> Finding:
    besides = ", ".join(line.partition(":")[0] for line in one.differ_in)
    differs = f"{one.what.title} differs{f' (they differ besides in {besides})' if besides else ''}"
    claim = one.verdict.claim if one.verdict.status in ("exact", "contradicted") else differs
    about: dict[str, Any] = {"comparisons": tested if one.tested else 0, "unit": one.what.unit, **others}
    subject = f"{one.first.name} - {one.second.name}"
    return of_estimate(claim, subject, one.difference, one.verdict, p=one.p_adjusted, **about)


def above_zero(claims: Sequence[tuple[str, str, Estimate]], **others: Any) -> list[Finding]:
    """A finding per claim that a mean over seeds is above 0, with p corrected for all of them; one significantly below
    0 contradicts its claim.

    Args:
        claims: claim, subject and estimate.
        others: further fields of every finding, such as `unit` and `figure`.
    """
    adjusted = seeds.adjust_p_values({str(at): estimate for at, (*_, estimate) in enumerate(claims)})
    tested = sum(p == p for p in adjusted.values())
    findings = []
    for (claim, subject, estimate), p in zip(claims, adjusted.values(), strict=True):
        verdict = increase(claim, estimate.mean, p, untested="fewer than two seeds")
        comparisons = tested if p == p else 0
        findings.append(of_estimate(claim, subject, estimate, verdict, p=p, comparisons=comparisons, **others))
    return findings
