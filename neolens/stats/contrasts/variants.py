"""Variants: the networks of one architecture, and what is measured of them, one number per network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from neolens.checks import check_choice, check_function, check_text, check_type, check_whole, shown
from neolens.models import Anatomy
from neolens.stats import seeds
from neolens.stats.seeds import UNBOUNDED, Estimate
from neolens.stats.verdicts import Levels, Scale

Values = Callable[[xr.Dataset], xr.DataArray | None]
"""Reads a value by seed out of the result of a variant; None where the result does not have it."""


@dataclass(frozen=True)
class Measure:
    """One number a network.

    Raises:
        TypeError: a field of another type.
        ValueError: empty text, another scale, or bounds that are not the lowest and the highest value.
    """

    title: str
    unit: str
    of: Values
    """By seed; None where the result of a variant does not have it."""
    bounds: tuple[float | int, float | int] = UNBOUNDED
    """The lowest and the highest value that is possible."""
    end: Values | None = None
    """The loss or accuracy at which the effect ends, by seed; None where no guess and no ceiling limits the measure."""
    scale: Scale = "loss"
    """What `end` is."""
    deviation: Callable[[Variant], xr.DataArray | None] | None = None
    """By how much a variant deviates from the value that its architecture fixes, by seed; None where it fixes none."""
    fixed: str = "0"
    """The value that an architecture fixes."""

    def __post_init__(self) -> None:
        for name in ("title", "unit", "fixed"):
            check_text(getattr(self, name), f"{name} of a Measure")
        for name in ("of", "end", "deviation"):
            if (function := getattr(self, name)) is not None or name == "of":
                check_function(function, f"{name} of a Measure", f"a function{_OPTIONAL[name]}")
        check_choice(self.scale, "scale of a Measure", ("loss", "accuracy"))
        seeds.check_bounds(self.bounds, "bounds of a Measure")


_OPTIONAL = {"of": " that reads a value by seed", "end": ", or None", "deviation": ", or None"}


@dataclass(frozen=True)
class Variant:
    """What was found in one variant: all of its networks, by seed.

    Raises:
        TypeError: no anatomy, or no dataset.
    """

    anatomy: Anatomy
    result: xr.Dataset

    def __post_init__(self) -> None:
        kind = type(self).__name__
        check_type(
            self.anatomy, f"anatomy of {kind}", Anatomy, "the anatomy of a model, such as neolens.anatomy('lab/gpt2')"
        )
        check_type(self.result, f"result of {kind}", xr.Dataset, "a dataset of all networks, by seed")

    @property
    def name(self) -> str:
        return self.anatomy.name

    @property
    def candidates(self) -> int:
        """How many tokens random sequences are drawn from, among which a guess is; the size of the vocabulary, which
        is as many or a few more, in results of earlier versions, which do not say."""
        recorded = self.result.attrs.get("candidates", self.anatomy.d_vocab)
        return check_whole(recorded, f"attribute candidates of {self.name}", 1)

    def values(self, measure: Measure) -> xr.DataArray | None:
        """A measure by seed; None where the variant does not have it."""
        check_type(measure, "measure", Measure, "a neolens.stats.contrasts.Measure")
        return _by_seed(measure.of, self.result, f"value of {measure.title!r} in {self.name}")

    def estimate(self, measure: Measure) -> Estimate:
        """Its mean over seeds."""
        values = self.values(measure)
        return seeds.mean_ci(np.array([]) if values is None else values, measure.bounds)

    def levels(self, measure: Measure, of_seeds: xr.DataArray | None = None) -> Levels | None:
        """Where the effect ends, in all networks that have it or in some; None where nothing limits the measure."""
        check_type(measure, "measure", Measure, "a neolens.stats.contrasts.Measure")
        ends = None if measure.end is None else _by_seed(measure.end, self.result, f"end of {measure.title!r}")
        if ends is None:
            return None
        if of_seeds is not None:
            check_type(of_seeds, "of_seeds", xr.DataArray, "a DataArray of some seeds")
            if unknown := [seed for seed in np.atleast_1d(of_seeds.values).tolist() if seed not in ends["seed"].values]:
                seeds_of = shown(ends["seed"].values.tolist())
                raise ValueError(f"of_seeds holds {shown(unknown[0])}: {self.name} has the seeds {seeds_of}")
        chosen = ends.dropna("seed") if of_seeds is None else ends.sel(seed=of_seeds)
        return Levels(self.name, chosen.values.tolist(), measure.scale, self.candidates)

    def fixes(self, measure: Measure) -> bool:
        """Whether the architecture fixes the value of a measure."""
        return self.deviation(measure) is not None

    def deviation(self, measure: Measure) -> xr.DataArray | None:
        """By how much it deviates from the value that the architecture fixes, by seed; None where it fixes none."""
        check_type(measure, "measure", Measure, "a neolens.stats.contrasts.Measure")
        if measure.deviation is None:
            return None
        return _by_seed(measure.deviation, self, f"deviation of {measure.title!r} in {self.name}")


def _by_seed(read: Callable[[Any], Any], result: Any, what: str) -> xr.DataArray | None:
    """What the function of a measure returns: one value per seed, or None."""
    try:
        values = read(result)
    except Exception as error:  # of someone else's function, or of a result that is not its own
        reason = f"{type(error).__name__}: {' '.join(str(error).split()):.120}"
        raise ValueError(f"{what} cannot be read ({reason}): expected a result that has what it reads") from error
    if values is None:
        return None
    check_type(
        values, what, xr.DataArray, "a DataArray of one number per seed, or None, from the function of a Measure"
    )
    if values.dims != ("seed",) or values.dtype.kind not in "biuf":
        axes = ", ".join(map(str, values.dims)) or "no axes"
        raise ValueError(f"{what} by {axes}, of type {values.dtype}: expected one number per seed, with the axis seed")
    return values
