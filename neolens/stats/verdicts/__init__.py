"""What results allow to be claimed: pure functions from numbers to a claim, a verdict and its reason."""

from neolens.stats.verdicts.causes import (
    NATS,
    NEEDED,
    ROUNDING,
    Arrival,
    arrives_through,
    more_than_controls,
    needed_layers,
    shift_changes_output,
)
from neolens.stats.verdicts.limits import CEILING, NEAR_CHANCE, Levels, Limit, Scale, limit, limited, unknown_candidates
from neolens.stats.verdicts.verdict import (
    Status,
    Verdict,
    exact_by_construction,
    increase,
    largest_significant,
    largest_tested,
    significance,
    strongest,
)

__all__ = [
    "CEILING",
    "NATS",
    "NEAR_CHANCE",
    "NEEDED",
    "ROUNDING",
    "Arrival",
    "Levels",
    "Limit",
    "Scale",
    "Status",
    "Verdict",
    "arrives_through",
    "exact_by_construction",
    "increase",
    "largest_significant",
    "largest_tested",
    "limit",
    "limited",
    "more_than_controls",
    "needed_layers",
    "shift_changes_output",
    "significance",
    "strongest",
    "unknown_candidates",
]
