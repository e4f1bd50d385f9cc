"""Where heads look: scores and attention mass by distance, streamed over blocks of the pattern."""

from neolens.scores.measure import REPEATED_SCORES, SCORES, attention

__all__ = ["REPEATED_SCORES", "SCORES", "attention"]
