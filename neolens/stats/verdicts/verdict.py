"""A claim, whether the results support it, and why; significance, and what an architecture fixes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from neolens.checks.annotations import Probability, Text, check_annotated, check_as_many, checked
from neolens.stats import ALPHA

Status = Literal["exact", "supported", "not significant", "contradicted", "not measured"]


@dataclass(frozen=True)
class Verdict:
    """Whether the results support a claim, and why."""

    claim: Text
    """One statement that can be true or false, with its subject, unit, task and distances."""
    status: Status
    """`exact`: true by construction, so that no test applies; `not measured`: no test is possible, for example because
    the effect ends at chance level."""
    reason: str
    """The numbers, or the condition, from which the status follows."""

    def __post_init__(self) -> None:
        check_annotated(self)


@checked
def exact_by_construction(claim: Text, deviations: Mapping[str, Sequence[float]]) -> Verdict:
    """`exact` where every model's deviation from the value that its architecture fixes is 0, `contradicted` where one
    is not; nothing is tested.

    Args:
        deviations: model -> deviation from the fixed value, by seed; NaN where there is none.
    """
    values = {name: [one for one in each if math.isfinite(one)] for name, each in deviations.items()}
    if not any(values.values()):
        return Verdict(claim, "not measured", "no value was measured")
    if wrong := [name for name, each in values.items() if any(each)]:
        return Verdict(claim, "contradicted", f"the architecture of {' and '.join(wrong)} fixes another value")
    return Verdict(claim, "exact", f"fixed by the architecture of {' and '.join(filter(values.get, values))}")


@checked
def significance(claim: Text, p: Probability, effect: str = "", *, untested: str = "fewer than two seeds") -> Verdict:
    """`supported` where the corrected p is below 0.05, `not significant` from there on, `not measured` without a p.

    Args:
        effect: the effect as text, for the reason.
        untested: why there is no p.
    """
    if not math.isfinite(p):
        return Verdict(claim, "not measured", untested)
    reason = f"{effect}{', ' if effect else ''}corrected p = {p:.2g}"
    return Verdict(claim, "supported" if p < ALPHA else "not significant", reason)


@checked
def increase(claim: Text, effect: float, p: Probability, *, untested: str) -> Verdict:
    """`significance` of a claim that an effect is above 0; `contradicted` where it is significantly below 0."""
    verdict = significance(claim, p, untested=untested)
    return replace(verdict, status="contradicted") if verdict.status == "supported" and effect < 0 else verdict


@checked
def largest_significant(effects: Sequence[float], p: Sequence[Probability]) -> int | None:
    """Which effect is the largest by size of those whose corrected p is below 0.05; None where there is none."""
    return _largest(effects, p, ALPHA)


@checked
def largest_tested(effects: Sequence[float], p: Sequence[Probability]) -> int | None:
    """Which effect is the largest by size of those that have a p; None where there is none."""
    return _largest(effects, p, math.inf)


def _largest(effects: Sequence[float], p: Sequence[float], below: float) -> int | None:
    check_as_many(effects=effects, p=p)
    chosen = [at for at, value in enumerate(p) if value < below and math.isfinite(effects[at])]
    return max(chosen, key=lambda at: abs(effects[at]), default=None)


@checked
def strongest(what: Text, names: Sequence[str], effects: Sequence[float], p: Sequence[Probability]) -> Verdict:
    """Which of several effects is the largest significant one.

    Args:
        what: of what it is the largest, such as "changes the loss on text".
        names: of the heads, or of other components.
        p: corrected for all of them; NaN where an effect was not tested.
    """
    check_as_many(names=names, effects=effects, p=p)
    if (best := largest_significant(effects, p)) is not None:
        return significance(f"{names[best]} {what}, most of the significant ones", p[best])
    at, claim = largest_tested(effects, p), f"at least one {what}"
    untested = "none was tested" if len(names) else "none was ablated"
    return significance(claim, math.nan if at is None else p[at], untested=untested)
