"""Position encodings compared: every probe on every network of an arm, differences over seeds, in words and tables."""

from neolens.encodings.measures import MEASURES, Contrast, Encoding, Measure, contrasts, recorded
from neolens.encodings.probe import Texts, over_seeds, probe, texts
from neolens.encodings.words import band_estimates, contrast_table, findings, head_table, measure_table, warnings

__all__ = [
    "MEASURES",
    "Contrast",
    "Encoding",
    "Measure",
    "Texts",
    "band_estimates",
    "contrast_table",
    "contrasts",
    "findings",
    "head_table",
    "measure_table",
    "over_seeds",
    "probe",
    "recorded",
    "texts",
    "warnings",
]
