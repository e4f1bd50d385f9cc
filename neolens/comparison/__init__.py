"""Everything at once: what was measured of each arm, the measures by which arms are compared, a summary in words."""

from neolens.comparison import answers, keeping, words
from neolens.comparison.found import OPTIONAL, PARTS, TASK, Found, in_one_report
from neolens.comparison.measures import compared, measures, mixed, numbers, split_of

__all__ = [
    "OPTIONAL",
    "PARTS",
    "TASK",
    "Found",
    "answers",
    "compared",
    "in_one_report",
    "keeping",
    "measures",
    "mixed",
    "numbers",
    "split_of",
    "words",
]
