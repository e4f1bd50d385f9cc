"""How sure a finding is over seeds: networks that are alike in everything but their random start are the sample.

Intervals over prompts tell of other prompts of the same network; only networks trained anew tell what an architecture
does. There are few of them, so intervals are Student's (1908), and arms that start from the same seed and read the same
texts are compared seed by seed. Many comparisons are corrected together (Benjamini and Hochberg 1995).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from numbers import Number
from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Float
from scipy import stats
from torch import Tensor

from neolens.checks import check_list, check_number, check_text, check_type, check_whole, shown

CORRECTION = "Benjamini and Hochberg"

UNBOUNDED = (-np.inf, np.inf)

FEW = 3
"""Seeds up to which each is shown: Student's interval of three reaches 2.5 standard deviations to either side."""


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds, with its 95 % interval; NaN where there are too few seeds for one.

    Raises:
        TypeError: a field that is not a number.
        ValueError: a p outside 0 to 1, or a negative number of seeds.
    """

    mean: float
    low: float
    high: float
    n: int
    p: float = np.nan
    """Two-sided, of a mean of 0."""
    values: tuple[float, ...] = field(default=(), compare=False)
    """Of the seeds, where they are known."""

    def __post_init__(self) -> None:
        check_whole(self.n, "n of an Estimate", 0, unit="seeds")
        for name in ("mean", "low", "high", "p"):
            value = getattr(self, name)
            infinite = isinstance(value, float) and (np.isnan(value) or (name in ("low", "high") and np.isinf(value)))
            if not infinite:
                check_number(value, f"{name} of an Estimate", *((0, 1) if name == "p" else ()))
        if self.low > self.high:
            raise ValueError(f"low {self.low:g} of an Estimate: expected at most high, {self.high:g}")
        values = check_list(self.values, "values of an Estimate", "numbers, one per seed", example="(0.5, 0.75)")
        object.__setattr__(self, "values", tuple(check_number(value, "value of an Estimate") for value in values))


def check_bounds(bounds: Any, what: str = "bounds") -> tuple[float | int, float | int]:
    """The lowest and the highest value that is possible, either of them infinite or not.

    >>> check_bounds((1, 0))
    Traceback (most recent call last):
    ValueError: bounds (1, 0): expected the lowest and the highest possible value, such as (0, 1)

    Raises:
        TypeError: no pair of numbers.
        ValueError: the lowest is not below the highest.
    """
    expected = f"{what} {shown(bounds)}: expected the lowest and the highest possible value, such as (0, 1)"
    try:
        ends = check_list(bounds, what, "two numbers")
        low, high = (float(end) for end in ends if not isinstance(end, str | bytes | bool | np.bool_))
    except Exception:  # torch raises others for a tensor that holds no numbers
        raise TypeError(expected) from None
    if not low < high:
        raise ValueError(expected)
    return low, high


def mean_ci(
    values: xr.DataArray | Float[np.ndarray, " seed"], bounds: tuple[float | int, float | int] = UNBOUNDED
) -> Estimate:
    """The mean of a value that every seed has one of: mean +- t(0.975, n - 1) s / sqrt(n), and the p of the t test.

    Seeds without a finite value are left out. Where all values are equal the interval has no width, and p is 0, or 1
    where they are all 0.

    An interval of a bounded quantity is cut at its bounds. The true mean lies within them, so the part that is kept
    covers it as often as the whole does. A transformation (such as the logit of a share) would stretch the interval
    instead, and does not exist at the bounds themselves, where accuracies and losses often are.

    Args:
        bounds: the lowest and the highest value that is possible, such as (0, 1) for a share.

    Raises:
        TypeError: values that are not numbers.
        ValueError: more than one value a seed.
    """
    bounds = check_bounds(bounds)
    try:
        given = values if isinstance(values, xr.DataArray) else check_list(values, "values", "numbers")
        raw = np.asarray(given)
        if raw.dtype.kind not in "iuf" and not all(isinstance(x, Number | Tensor) for x in raw.flat):
            raise TypeError
        if raw.dtype.kind == "c":
            raise TypeError
        found = raw.astype(float)
    except Exception:  # NumPy and torch raise errors of many kinds for what is no array of numbers
        raise TypeError(f"values {shown(values)}: expected an array of numbers, one per seed") from None
    if found.ndim != 1:
        raise ValueError(f"values have shape {found.shape}: expected one per seed")
    found = found[np.isfinite(found)]
    n = len(found)
    if n == 0:
        return Estimate(np.nan, np.nan, np.nan, 0)
    mean = float(found.mean())
    if n == 1:
        return Estimate(mean, np.nan, np.nan, 1, values=(mean,))
    error = float(found.std(ddof=1)) / np.sqrt(n)
    if error == 0:
        return Estimate(mean, mean, mean, n, 1.0 if mean == 0 else 0.0, tuple(found.tolist()))
    half = float(stats.t.ppf(0.975, n - 1)) * error
    low, high = max(mean - half, min(bounds[0], mean)), min(mean + half, max(bounds[1], mean))
    return Estimate(mean, low, high, n, float(2 * stats.t.sf(abs(mean) / error, n - 1)), tuple(found.tolist()))


def paired_difference(
    one: xr.DataArray, other: xr.DataArray, bounds: tuple[float | int, float | int] = UNBOUNDED
) -> Estimate:
    """How much larger a value is in one arm than in another, seed by seed.

    Args:
        one: by `seed`.
        other: by `seed`; seeds that both have are compared.
        bounds: of the values; their difference lies within (low - high, high - low).

    Raises:
        TypeError: no DataArray.
        ValueError: one without the axis `seed`.
    """
    bounds = check_bounds(bounds)
    for name, values in (("one", one), ("other", other)):
        if "seed" not in check_type(values, name, xr.DataArray, "a DataArray of one value per seed").dims:
            raise ValueError(f"{name} has the axes {values.dims}: expected a value per seed, with the axis seed")
        if values.dtype.kind not in "iufb":
            raise TypeError(f"{name} holds {values.dtype}: expected numbers, one per seed")
        if values.indexes.get("seed") is not None and not values.indexes["seed"].is_unique:
            raise ValueError(f"{name} has a seed twice: expected each once")
    try:
        one, other = xr.align(one, other, join="inner")
    except Exception as error:  # xarray raises errors of many kinds
        reason = " ".join(str(error).split())
        raise ValueError(f"one and other cannot be compared ({reason:.100}): expected a value per seed") from error
    return mean_ci(one - other, (bounds[0] - bounds[1], bounds[1] - bounds[0]))


def adjust_p_values(estimates: Mapping[str, Estimate]) -> dict[str, float]:
    """The p of each estimate, corrected for all of them; NaN where it has none, which are not counted."""
    check_type(estimates, "estimates", Mapping, "a mapping from names to Estimate")
    for name, one in estimates.items():
        check_type(
            one, f"estimates[{shown(name)}]", Estimate, "an Estimate, as neolens.stats.seeds.mean_ci returns them"
        )
    tested = {name: one.p for name, one in estimates.items() if np.isfinite(one.p)}
    adjusted = stats.false_discovery_control(list(tested.values())) if tested else []
    found = dict(zip(tested, map(float, adjusted), strict=True))
    return {name: found.get(name, np.nan) for name in estimates}


def check_form(one: Any, form: Any) -> None:
    """Check what an estimate is written with.

    Raises:
        TypeError: no estimate, or no text.
        ValueError: a form that does not write a number.
    """
    check_type(one, "one", Estimate, "an Estimate, as neolens.stats.seeds.mean_ci returns them")
    try:
        format(0.0, check_text(form, "form", empty=True, example=".2f"))
    except ValueError:
        raise ValueError(f"form {shown(form)}: expected a format of numbers, such as '.2f'") from None


def format_estimate(one: Estimate, form: str = ".2f") -> str:
    """`0.93 (95 %: 0.90 to 0.96, n = 3)`, with the sign of both ends; n alone where there is no interval."""
    check_form(one, form)
    if not np.isfinite(one.mean):
        return "no value"
    if not np.isfinite(one.low):
        return f"{one.mean:{form}} (n = {one.n})"
    return f"{one.mean:{form}} (95 %: {one.low:{form}} to {one.high:{form}}, n = {one.n})"


def each_seed(one: Estimate, form: str = ".2f") -> str:
    """`0.91, 0.93, 0.95`: the values of two or three seeds, which say more than an interval; nothing of more seeds."""
    check_form(one, form)
    return ", ".join(f"{value:{form}}" for value in one.values) if 1 < len(one.values) <= FEW else ""
