"""Everything at once: what was measured of each arm, the measures by which arms are compared, a summary in words."""

from neolens.comparison import answers, keeping, words
from neolens.comparison.found import OPTIONAL, PARTS, TASK, Found
from neolens.comparison.measures import compared, measures, mixed, numbers

__all__ = [
    "OPTIONAL",
    "PARTS",
    "TASK",
    "Found",
    "answers",
    "compared",
    "keeping",
    "measures",
    "mixed",
    "numbers",
    "words",
]
