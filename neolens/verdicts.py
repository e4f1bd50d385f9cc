"""What results allow to be claimed: pure functions from numbers to a claim, a verdict and its reason."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Status = Literal["exact", "supported", "not significant", "contradicted", "not measured"]


@dataclass(frozen=True)
class Verdict:
    """Whether the results support a claim, and why."""

    claim: str
    """One statement that can be true or false, with its subject, unit, task and distances."""
    status: Status
    """`exact`: true by construction, so that no test applies; `not measured`: no test is possible, for example because
    the effect ends at chance level."""
    reason: str
    """The numbers, or the condition, from which the status follows."""
