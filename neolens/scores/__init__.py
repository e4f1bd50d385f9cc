"""Where heads look: scores and mass by distance, streamed over blocks of the pattern; heads' roles; laws of windows."""

from neolens.scores.attention import REPEATED_SCORES, SCORES, attention
from neolens.scores.exact_checks import (
    induction_out_of_reach,
    mass_out_of_reach,
    narrowest_window,
    repeat_accuracy,
    window_difference,
)
from neolens.scores.kinds import by_kind, share_beyond, top_head
from neolens.scores.roles import THRESHOLDS, heads_of, roles
from neolens.scores.selected_patterns import shown_patterns

__all__ = [
    "REPEATED_SCORES",
    "SCORES",
    "THRESHOLDS",
    "attention",
    "by_kind",
    "heads_of",
    "induction_out_of_reach",
    "mass_out_of_reach",
    "narrowest_window",
    "repeat_accuracy",
    "roles",
    "share_beyond",
    "shown_patterns",
    "top_head",
    "window_difference",
]
