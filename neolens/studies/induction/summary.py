"""What was measured of induction heads: one number per network and repeat length, and what changes across the window.

Where a model has several seeds they are the sample (`neolens.stats.seeds`); of a single network it is its prompts, and
intervals are about other prompts of the same network (bootstrap). Everything that is tested in a run is corrected
together: over seeds by Benjamini and Hochberg 1995, over the prompts of single networks by max-T (Westfall and Young
1993). What ends at chance level or at a ceiling, and what the architecture fixes, is not tested
(`neolens.stats.verdicts`).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Literal, TypeVar

import numpy as np
import xarray as xr

from neolens.checks import check_choice, check_whole, shown
from neolens.checks.annotations import Probability, Size, Text, check_annotated, checked
from neolens.models import Anatomy
from neolens.stats import ALPHA, seeds
from neolens.stats.paired import paired_tests
from neolens.stats.seeds import Estimate
from neolens.stats.verdicts import Verdict
from neolens.studies.induction.measure import PATTERN_SCORE, check_copying

Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class Measure:
    """One number per prompt, of a network at one repeat length."""

    title: str
    unit: str
    of: Callable[[xr.Dataset], xr.DataArray | None]
    """None where a network has nothing of the kind."""
    within: tuple[float, float] = (-np.inf, np.inf)
    """Where it must lie, and where its intervals are cut."""

    def __post_init__(self) -> None:
        check_annotated(self)


@checked
def best(score: Text, kind: str | None = None) -> Callable[[xr.Dataset], xr.DataArray | None]:
    """The score of the head that scores highest over all prompts, in layers of one kind or in all."""
    if kind is not None:
        check_choice(kind, "kind", ("local", "global"))

    def of(result: xr.Dataset) -> xr.DataArray | None:
        chosen = result if kind is None else result.isel(layer=result["attention_kind"].values == kind)
        if not chosen.sizes["layer"]:
            return None
        heads = chosen[score].stack(cell=("layer", "head"))
        highest = heads.mean("prompt").argmax("cell")
        return heads.reset_index("cell").isel(cell=highest).drop_vars(["layer", "head"], errors="ignore")

    return of


def _variable(name: str) -> Callable[[xr.Dataset], xr.DataArray | None]:
    return lambda result: result[name]


MEASURES: Mapping[str, Measure] = MappingProxyType(
    {
        "local": Measure("best score in local layers", "score", best("induction", "local"), (0.0, 1.0)),
        "global": Measure("best score in global layers", "score", best("induction", "global"), (0.0, 1.0)),
        "accuracy": Measure("copy accuracy", "share", _variable("accuracy"), (0.0, 1.0)),
        "loss": Measure("loss where copies are predicted", "nats per token", _variable("loss"), (0.0, np.inf)),
        "together": Measure("loss added by ablating all induction heads", "nats per token", _variable("together")),
        "needed": Measure(
            "more than as many random heads", "nats per token", lambda result: result["together"] - result["others"]
        ),
    }
)
"""Name -> what it is."""


@dataclass(frozen=True)
class CorrectedEstimate:
    """A mean with its 95 % interval, over seeds or over the prompts of one network, and its p, corrected."""

    estimate: Estimate
    sample: Literal["seeds", "prompts"]
    p_adjusted: Probability = np.nan
    untested: Verdict | None = None
    """Why there is no p, where the comparison ends at a limit or the architecture fixes it."""

    def __post_init__(self) -> None:
        check_annotated(self)

    @property
    def significant(self) -> bool:
        return self.p_adjusted < ALPHA


@dataclass(frozen=True)
class Induction:
    """What was measured of one model: all of its networks, by seed, and one of them over its training."""

    anatomy: Anatomy
    window: Size
    result: xr.Dataset
    """Of `copying.over_seeds`."""
    training: xr.Dataset | None = None
    """Of `copying.over_training`; None for a model without checkpoints."""

    def __post_init__(self) -> None:
        check_annotated(self)
        for name, axis, one in (("result", "seed", self.result), ("training", "step", self.training)):
            if one is not None:
                check_copying(one, f"{name} of Induction", axis)

    @property
    def name(self) -> str:
        return self.anatomy.name

    @property
    def seeds(self) -> list[int]:
        return self.result["seed"].values.tolist()

    @property
    def lengths(self) -> list[int]:
        """The repeat lengths n, the shortest first."""
        return self.result["n"].values.tolist()

    @property
    def nearest(self) -> tuple[int, int]:
        """The last repeat length with answers inside the window, and the first with answers beyond it."""
        return nearest(self.lengths, self.window)

    def values(self, measure: str, n: int) -> xr.DataArray | None:
        """A measure of `MEASURES`, by seed and prompt."""
        values = MEASURES[check_choice(measure, "measure", tuple(MEASURES))].of(self.result)
        return None if values is None else values.sel(distance=self._distance(n), drop=True)

    def has_role(self, n: int) -> xr.DataArray:
        """By seed, layer and head, whether a head has the induction pattern."""
        return self.result["induction"].sel(distance=self._distance(n)).mean("prompt") >= PATTERN_SCORE

    def _distance(self, n: int) -> int:
        if check_whole(n, "n") not in self.lengths:
            raise ValueError(f"n = {n}: {self.name} was measured at {', '.join(map(str, self.lengths))}")
        return n - 1

    @property
    def candidates(self) -> int:
        """How many tokens the random sequences are drawn from; the vocabulary where a result of an earlier version does
        not record it."""
        return int(self.result.attrs.get("candidates", self.anatomy.d_vocab))

    def estimate(self, measure: str, n: int) -> CorrectedEstimate | None:
        """The mean of a measure and its interval; None where a model has nothing of the kind."""
        values = self.values(measure, n)
        if values is None:
            return None
        mean = estimate_all({measure: values})[measure]
        low, high = (float(np.clip(end, *MEASURES[measure].within)) for end in (mean.estimate.low, mean.estimate.high))
        return replace(mean, estimate=replace(mean.estimate, low=low, high=high))

    @property
    def joined(self) -> xr.Dataset:
        """All that was measured as one dataset; what was measured over the training is called `..._by_step`."""
        result = self.result.assign_attrs(window=self.window)
        if self.training is None:
            return result
        by_step = self.training.drop_vars(["n", "length"])
        by_step = by_step.rename({name: f"{name}_by_step" for name in map(str, by_step.data_vars)})
        both = xr.merge([result, by_step], join="outer", compat="override", combine_attrs="override")
        return both.assign_attrs(training_fingerprint=self.training.attrs["fingerprint"])

    @property
    def out_of_reach(self) -> float | None:
        """The largest induction score of a local layer where the answer is beyond its window, over all networks and
        checkpoints; by the law exactly 0. None for a model without local layers."""
        parts = [self.result] if self.training is None else [self.result, self.training]
        local = [part["induction"].isel(layer=part["attention_kind"].values == "local") for part in parts]
        far = [part.where(part["distance"] >= part["window"]) for part in local if part.sizes["layer"]]
        return max(float(part.max()) for part in far) if far else None


@checked
def nearest(lengths: Sequence[Size], window: Size) -> tuple[int, int]:
    """The last of the repeat lengths with answers inside a window, and the first with answers beyond it.

    Raises:
        ValueError: none on one side.
    """
    inside, beyond = [n for n in lengths if n <= window], [n for n in lengths if n > window]
    if not inside or not beyond:
        raise ValueError(
            f"repeat lengths {', '.join(map(str, lengths)) or 'none'}: expected some on both sides of the window of "
            f"{window}, where answers stand n - 1 tokens back: up to {window} and from {window + 1}"
        )
    return max(inside), min(beyond)


@checked
def formation_lengths(lengths: Sequence[Size], window: Size) -> list[int]:
    """The repeat lengths at which checkpoints are asked: the shortest, which may fit into texts that train little else,
    and those on both sides of the window, whose lengths hardly differ."""
    return sorted({*nearest(lengths, window), min(lengths)})


@checked
def estimate_all(
    values: Mapping[Key, xr.DataArray], untested: Mapping[Key, Verdict] = MappingProxyType({})
) -> dict[Key, CorrectedEstimate]:
    """Means with intervals, and p of a mean of 0 corrected for all that are tested; those without a value have n = 0.

    Args:
        values: by prompt, and by seed where there are several networks, which then are the sample. All single networks
            have as many prompts.
        untested: those that have no p and do not count for the correction of the others.

    Raises:
        ValueError: values by other axes, single networks with other numbers of prompts, or no value that is untested.
    """
    _check_values(values, untested)
    if untested:
        tested = estimate_all({key: value for key, value in values.items() if key not in untested})
        bare = estimate_all({key: values[key] for key in untested})
        tested |= {key: replace(one, p_adjusted=np.nan, untested=untested[key]) for key, one in bare.items()}
        return {key: tested[key] for key in values}
    several = {key: one for key, one in values.items() if one.sizes.get("seed", 1) > 1}
    estimates = {key: seeds.mean_ci(one.mean("prompt")) for key, one in several.items()}
    adjusted = seeds.adjust_p_values({str(number): one for number, one in enumerate(estimates.values())})
    all_means = {
        key: CorrectedEstimate(one, "seeds", p)
        for (key, one), p in zip(estimates.items(), adjusted.values(), strict=True)
    }
    single = {
        key: one.squeeze("seed") if "seed" in one.dims else one for key, one in values.items() if key not in all_means
    }
    all_means |= {key: CorrectedEstimate(Estimate(np.nan, np.nan, np.nan, 0), "prompts") for key in single}
    all_means |= _over_prompts({key: one.values.astype(float) for key, one in single.items() if one.notnull().all()})
    return {key: all_means[key] for key in values}


def _check_values(values: Mapping[Any, xr.DataArray], untested: Mapping[Any, Verdict]) -> None:
    for key, one in values.items():
        if one.dtype.kind not in "biuf" or "prompt" not in one.dims or not {*one.dims} <= {"prompt", "seed"}:
            axes = ", ".join(map(str, one.dims)) or "no axes"
            raise ValueError(
                f"values[{shown(key)}] of {one.dtype} by {axes}: expected numbers by prompt, or also by seed"
            )
    if unknown := [key for key in untested if key not in values]:
        raise ValueError(f"untested holds {shown(unknown[0])}: expected those of values, {shown(list(values))}")
    prompts = {one.sizes["prompt"] for one in values.values() if one.sizes.get("seed", 1) == 1}
    if len(prompts) > 1:
        raise ValueError(f"values of {shown(sorted(prompts))} prompts: expected as many in all single networks")


def _over_prompts(values: Mapping[Key, np.ndarray]) -> dict[Key, CorrectedEstimate]:
    """Bootstrap intervals and max-T."""
    if not values:
        return {}
    rows = np.stack(list(values.values()))
    tests = paired_tests(rows)
    numbers = [values.tolist() for values in (tests.mean, tests.low, tests.high, tests.p, tests.p_adjusted)]
    n = rows.shape[1]
    return {
        key: CorrectedEstimate(Estimate(mean, low, high, n, p), "prompts", adjusted)
        for key, mean, low, high, p, adjusted in zip(values, *numbers, strict=True)
    }
