"""Statistics: means over prompts with intervals and corrected tests (`neolens.stats.paired`)."""

ALPHA = 0.05
"""The corrected p below which a difference is significant."""
