"""Where heads look: scores and attention mass by distance, streamed over blocks of the pattern; laws of windows."""

from neolens.scores.kinds import by_kind, share_beyond, top_head
from neolens.scores.laws import (
    induction_out_of_reach,
    mass_out_of_reach,
    narrowest_window,
    repeat_accuracy,
    window_difference,
)
from neolens.scores.measure import REPEATED_SCORES, SCORES, attention

__all__ = [
    "REPEATED_SCORES",
    "SCORES",
    "attention",
    "by_kind",
    "induction_out_of_reach",
    "mass_out_of_reach",
    "narrowest_window",
    "repeat_accuracy",
    "share_beyond",
    "top_head",
    "window_difference",
]
