"""What a sweep patches: the arguments of `neolens.patch`, checked against the model and the pairs before a run."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from torch import Tensor

from neolens.metrics import METRICS, Metric, of_function
from neolens.models import Anatomy
from neolens.models.catalogue import near_misses
from neolens.prompts.pairs import PromptPairs
from neolens.replay import HEAD_SITES, SITES

AnyMetric = Metric | str | Callable[[Tensor], Tensor]
DIRECTIONS = ("denoise", "noise")


@dataclass(frozen=True)
class Sweep:
    """All patches of a call."""

    pairs: PromptPairs
    site: str
    layers: tuple[int, ...]
    heads: tuple[int, ...] | None
    """None for a site without heads."""
    positions: tuple[str, ...] | Literal["each", "all"]
    metrics: tuple[Metric, ...]
    direction: str
    facts: Anatomy

    @property
    def target(self) -> tuple[Tensor, ...]:
        """The prompts whose runs are patched."""
        return self.pairs.corrupted if self.direction == "denoise" else self.pairs.clean

    @property
    def source(self) -> tuple[Tensor, ...]:
        """The prompts whose activations are put in."""
        return self.pairs.clean if self.direction == "denoise" else self.pairs.corrupted

    def stretches(self, prompt: int) -> list[tuple[int, int]]:
        """The positions that each patch of a prompt covers, first and end: one for each column of the result."""
        length = len(self.target[prompt])
        if self.positions == "each":
            return [(at, at + 1) for at in range(length)]
        if self.positions == "all":
            return [(0, length)]
        places = [int(self.pairs.positions[name][prompt]) for name in self.positions]
        return [(at, at + 1) for at in places]

    @property
    def columns(self) -> int:
        """Positions in the result; 1 where all are patched together."""
        return max(len(self.stretches(prompt)) for prompt in range(len(self.pairs)))

    @property
    def cells(self) -> int:
        """Patched runs."""
        heads = 1 if self.heads is None else len(self.heads)
        return len(self.layers) * heads * sum(len(self.stretches(prompt)) for prompt in range(len(self.pairs)))


def planned(
    facts: Anatomy,
    pairs: PromptPairs,
    site: str,
    positions: str | Sequence[str],
    layers: Collection[int] | None,
    heads: Collection[int] | None,
    metric: AnyMetric | Sequence[AnyMetric],
    direction: str,
) -> Sweep:
    """The checked sweep.

    Raises:
        ValueError: what `neolens.patch` says.
    """
    if site not in SITES:
        raise ValueError(
            f"no site {site!r} to patch: {near_misses(str(site), list(SITES))}sites are {', '.join(SITES)}"
        )
    if site == "resid_mid" and facts.parallel:
        raise ValueError(
            f"{facts.name} has no resid_mid: attention and MLP run in parallel; patch resid_pre, attn_out or resid_post"
        )
    if site not in HEAD_SITES and heads is not None:
        raise ValueError(f"{site} has no heads: leave heads out, or patch one of {', '.join(HEAD_SITES)}")
    if direction not in DIRECTIONS:
        raise ValueError(
            f"no direction {direction!r}: expected 'denoise' (clean into corrupted) or 'noise' (corrupted into clean)"
        )
    return Sweep(
        pairs,
        site,
        _numbers("layer", layers, facts.layers, facts.name),
        _numbers("head", heads, facts.heads, facts.name) if site in HEAD_SITES else None,
        _positions(positions, pairs),
        _metrics(metric, pairs),
        direction,
        facts,
    )


def finite(baselines: Mapping[str, np.ndarray], sweep: Sweep) -> None:
    """Nothing, if every metric of both unpatched runs is a finite number.

    Raises:
        ValueError: one is not.
    """
    for run, values in baselines.items():
        for prompt, number in np.argwhere(~np.isfinite(values)):
            raise ValueError(
                f"metric {sweep.metrics[number].name} of the {run} run of prompt {prompt} is {values[prompt, number]}: "
                "expected a finite number"
            )


def _numbers(what: str, chosen: Collection[int] | None, there_are: int, name: str) -> tuple[int, ...]:
    if chosen is None:
        return tuple(range(there_are))
    numbers = [int(number) for number in chosen]
    if not numbers:
        raise ValueError(f"no {what}s are asked for: give some, or leave {what}s out for all")
    if wrong := [number for number in numbers if not 0 <= number < there_are]:
        raise ValueError(f"no {what} {wrong[0]} in {name}: {what}s are 0 to {there_are - 1}")
    return tuple(sorted(set(numbers)))


def _positions(positions: str | Sequence[str], pairs: PromptPairs) -> tuple[str, ...] | Literal["each", "all"]:
    if positions in ("each", "all"):
        return "each" if positions == "each" else "all"
    names = [positions] if isinstance(positions, str) else list(positions)
    known = list(pairs.positions)
    if not names:
        raise ValueError("no positions are asked for: give 'each', 'all' or names of positions")
    for name in names:
        if name not in known:
            there = f"the pairs name {', '.join(known)}" if known else "the pairs name none"
            raise ValueError(f"no position {name!r}: expected 'each', 'all' or a name; {there}")
    return tuple(names)


def _metrics(metric: AnyMetric | Sequence[AnyMetric], pairs: PromptPairs) -> tuple[Metric, ...]:
    several: Any = metric if isinstance(metric, (list, tuple)) else [metric]
    chosen = [_metric(one) for one in several]
    names = [one.name for one in chosen]
    if not chosen or len(set(names)) < len(names):
        raise ValueError(f"metrics {names}: expected one or several, each with a name of its own")
    for one in chosen:
        if one.needs_distractors and pairs.distractors is None:
            raise ValueError(f"{one.name} needs distractors: give them to the pairs, or take log_probability")
    return tuple(chosen)


def _metric(metric: AnyMetric) -> Metric:
    if isinstance(metric, Metric):
        return metric
    if isinstance(metric, str):
        if metric not in METRICS:
            raise ValueError(
                f"no metric {metric!r}: {near_misses(metric, list(METRICS))}metrics are {', '.join(METRICS)}"
            )
        return METRICS[metric]
    if callable(metric):
        return of_function(metric)
    raise TypeError(
        f"a metric is one of neolens.metrics, its name or a function of logits, got {type(metric).__name__}"
    )
