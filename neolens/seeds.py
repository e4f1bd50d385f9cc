"""How sure a finding is over seeds: networks that are alike in everything but their random start are the sample.

Intervals over prompts tell of other prompts of the same network; only networks trained anew tell what an architecture
does. There are few of them, so intervals are Student's (1908), and arms that start from the same seed and read the same
texts are compared seed by seed. Many comparisons are corrected together (Benjamini and Hochberg 1995).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import xarray as xr
from jaxtyping import Float
from scipy import stats

CORRECTION = "Benjamini and Hochberg"


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds, with its 95 % interval; NaN where there are too few seeds for one."""

    mean: float
    low: float
    high: float
    n: int
    p: float = np.nan
    """Two-sided, of a mean of 0."""


def estimate(values: xr.DataArray | Float[np.ndarray, " seed"]) -> Estimate:
    """The mean of a value that every seed has one of: mean +- t(0.975, n - 1) s / sqrt(n), and the p of the t test.

    Seeds without a finite value are left out. Where all values are equal the interval has no width, and p is 0, or 1
    where they are all 0.

    Raises:
        ValueError: more than one value a seed.
    """
    found = np.asarray(values, dtype=float)
    if found.ndim != 1:
        raise ValueError(f"values have shape {found.shape}: expected one a seed")
    found = found[np.isfinite(found)]
    n = len(found)
    if n == 0:
        return Estimate(np.nan, np.nan, np.nan, 0)
    mean = float(found.mean())
    if n == 1:
        return Estimate(mean, np.nan, np.nan, 1)
    error = float(found.std(ddof=1)) / np.sqrt(n)
    if error == 0:
        return Estimate(mean, mean, mean, n, 1.0 if mean == 0 else 0.0)
    half = float(stats.t.ppf(0.975, n - 1)) * error
    return Estimate(mean, mean - half, mean + half, n, float(2 * stats.t.sf(abs(mean) / error, n - 1)))


def compared(one: xr.DataArray, other: xr.DataArray) -> Estimate:
    """How much larger a value is in one arm than in another, seed by seed.

    Args:
        one: by `seed`.
        other: by `seed`; seeds that both have are compared.
    """
    one, other = xr.align(one, other, join="inner")
    return estimate(one - other)


def corrected(estimates: Mapping[str, Estimate]) -> dict[str, float]:
    """The p of each estimate, corrected for all of them; NaN where it has none, which are not counted."""
    tested = {name: one.p for name, one in estimates.items() if np.isfinite(one.p)}
    adjusted = stats.false_discovery_control(list(tested.values())) if tested else []
    found = dict(zip(tested, map(float, adjusted), strict=True))
    return {name: found.get(name, np.nan) for name in estimates}


def in_words(one: Estimate, form: str = ".2f") -> str:
    """`0.93 (95 %: 0.90 to 0.96, n = 3)`, with the sign of both ends; n alone where there is no interval."""
    if not np.isfinite(one.mean):
        return "no value"
    if not np.isfinite(one.low):
        return f"{one.mean:{form}} (n = {one.n})"
    return f"{one.mean:{form}} (95 %: {one.low:{form}} to {one.high:{form}}, n = {one.n})"
