"""Whether a quantity is at least as large as a threshold, by its interval."""

from __future__ import annotations

from neolens.checks.annotations import checked
from neolens.stats.verdicts.verdict import Status


@checked
def at_least(least: float, low: float, high: float) -> Status:
    """`supported` where the whole interval is at the threshold or above, `contradicted` where it is below, else
    `not significant`; `not measured` without an interval.

    >>> at_least(0.9, 0.91, 0.95), at_least(0.9, 0.5, 0.89), at_least(0.9, 0.5, 0.9)
    ('supported', 'contradicted', 'not significant')
    """
    if low != low or high != high:
        return "not measured"
    return "supported" if low >= least else "contradicted" if high < least else "not significant"
