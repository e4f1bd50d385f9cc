"""A claim, whether the results support it, and why; significance, and what an architecture fixes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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
    finite = {name: [one for one in values if math.isfinite(one)] for name, values in deviations.items()}
    if not any(finite.values()):
        return Verdict(claim, "not measured", "no value was measured")
    names = " and ".join(name for name, values in finite.items() if values)
    if wrong := {name: max(values, key=abs) for name, values in finite.items() if any(values)}:
        found = "; ".join(f"{name} differs from it by up to {value:.2g}" for name, value in wrong.items())
        return Verdict(claim, "contradicted", f"the architecture fixes the value, but {found}")
    return Verdict(claim, "exact", f"the architecture of {names} fixes the value, so no test applies")


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
def largest_significant(effects: Sequence[float], p: Sequence[Probability]) -> int | None:
    """Which effect is the largest by size of those whose corrected p is below 0.05; None where there is none."""
    check_as_many(effects=effects, p=p)
    chosen = [at for at, value in enumerate(p) if value < ALPHA and math.isfinite(effects[at])]
    chosen = [at for at, value in enumerate(p) if value < ALPHA and math.isfinite(effects[at])]
    return max(chosen, key=lambda at: abs(effects[at]), default=None)


@checked
def strongest(what: Text, names: Sequence[str], effects: Sequence[float], p: Sequence[Probability]) -> Verdict:
    """Which of several effects is the largest significant one.

    Args:
        what: of what it is the largest, such as "changes the loss on text, in nats per token".
        names: of the heads, or of other components.
        p: corrected for all of them; NaN where an effect was not tested.
    """
    check_as_many(names=names, effects=effects, p=p)
    best = largest_significant(effects, p)
    if best is not None:
        return significance(f"{names[best]} is the one that most {what}", p[best], f"{effects[best]:.2g}")
    tested = [at for at, value in enumerate(p) if math.isfinite(value) and math.isfinite(effects[at])]
    claim = f"there is one that {what}"
    if not tested:
        return Verdict(claim, "not measured", "none was tested" if len(names) else "none was ablated")
    largest = max(tested, key=lambda at: abs(effects[at]))
    return significance(claim, p[largest], f"the largest effect is {effects[largest]:.2g} ({names[largest]})")
