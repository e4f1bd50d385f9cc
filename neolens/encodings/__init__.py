"""Position encodings compared: every probe on every network of an arm, differences over seeds, in words and tables."""

from neolens.encodings.measures import MEASURES, ROUNDING, Encoding, contrasts
from neolens.encodings.probe import Texts, over_seeds, probe, texts
from neolens.encodings.words import (
    band_estimates,
    findings,
    head_table,
    in_detail,
    last_quarters,
    measure_table,
    shift,
    warnings,
)
from neolens.stats.contrasts import Contrast, Measure, contrast_table, recorded

__all__ = [
    "MEASURES",
    "ROUNDING",
    "Contrast",
    "Encoding",
    "Measure",
    "Texts",
    "band_estimates",
    "contrast_table",
    "contrasts",
    "findings",
    "head_table",
    "in_detail",
    "last_quarters",
    "measure_table",
    "over_seeds",
    "probe",
    "recorded",
    "shift",
    "texts",
    "warnings",
]
