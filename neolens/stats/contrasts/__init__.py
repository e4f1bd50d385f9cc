"""Variants compared: one number per network, the mean over the seeds of a variant, and where two variants differ.

Two variants that differ in one thing alone, such as their positions or the windows of their layers, are compared seed
by seed. A difference is significant, not significant, exact by construction, or not tested because an effect ends at
chance level or at its ceiling.
"""

from neolens.stats.contrasts.differences import Contrast, contrasts, kind, recorded
from neolens.stats.contrasts.tables import contrast_table, measure_table
from neolens.stats.contrasts.variants import Measure, Values, Variant

__all__ = [
    "Contrast",
    "Measure",
    "Values",
    "Variant",
    "contrast_table",
    "contrasts",
    "kind",
    "measure_table",
    "recorded",
]
