"""What a sweep patches: the arguments of `neolens.patch`, checked against the model and the pairs before a run."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool
from torch import Tensor

from neolens.checks import check_choice, check_indices, check_list, shown
from neolens.metrics import AnyMetric, Metric, several_metrics
from neolens.models.other_architectures import Facts
from neolens.prompts.pairs import PromptPairs
from neolens.replay import HEAD_SITES, SITES

DIRECTIONS = ("denoise", "noise")

Place = str | tuple[str, str]
"""A named position, or the stretch strictly between two."""

NOTHING = (0, 0)
"""The stretch of a patch that a prompt has no position for."""


@dataclass(frozen=True)
class Sweep:
    """All patches of a call."""

    pairs: PromptPairs
    site: str
    layers: tuple[int, ...]
    heads: tuple[int, ...] | None
    """None for a site without heads."""
    positions: tuple[Place, ...] | Literal["each", "all"]
    metrics: tuple[Metric, ...]
    direction: str
    facts: Facts

    @property
    def target(self) -> tuple[Tensor, ...]:
        """The prompts whose runs are patched."""
        return self.pairs.corrupted if self.direction == "denoise" else self.pairs.clean

    @property
    def source(self) -> tuple[Tensor, ...]:
        """The prompts whose activations are put in."""
        return self.pairs.clean if self.direction == "denoise" else self.pairs.corrupted

    def stretches(self, prompt: int) -> list[tuple[int, int]]:
        """The positions that each patch of a prompt covers, first and end: one for each column of the result, `NOTHING`
        where there are none."""
        length = len(self.target[prompt])
        if self.positions == "each":
            return [(at, at + 1) for at in range(length)]
        if self.positions == "all":
            return [(0, length)]
        return [_stretch(place, self.pairs, prompt) for place in self.positions]

    @property
    def labels(self) -> list[str]:
        """What the columns are called: a name, or `source..query` for what lies between two."""
        return [place if isinstance(place, str) else "..".join(place) for place in self.positions]

    @property
    def missing(self) -> Bool[np.ndarray, "prompt column"]:
        """Where a prompt has nothing between two names."""
        stretches = [self.stretches(prompt) for prompt in range(len(self.pairs))]
        return np.array([[one == NOTHING for one in its] + [False] * (self.columns - len(its)) for its in stretches])

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
    facts: Facts,
    pairs: PromptPairs,
    site: str,
    positions: str | Sequence[str | tuple[str, ...]],
    layers: Collection[int] | None,
    heads: Collection[int] | None,
    metric: AnyMetric | Sequence[AnyMetric],
    direction: str,
) -> Sweep:
    """The checked sweep.

    Raises:
        ValueError: what `neolens.patch` says.
    """
    check_choice(site, "site", SITES)
    if site == "resid_mid" and getattr(facts, "parallel", False):
        raise ValueError(
            f"{facts.name} has no resid_mid: attention and MLP run in parallel; patch resid_pre, attn_out or resid_post"
        )
    if site not in HEAD_SITES and heads is not None:
        raise ValueError(f"{site} has no heads: leave heads out, or patch one of {', '.join(HEAD_SITES)}")
    if not isinstance(direction, str) or direction not in DIRECTIONS:
        raise ValueError(
            f"no direction {shown(direction)}: expected 'denoise' (clean into corrupted) or 'noise' (corrupted into "
            "clean)"
        )
    return Sweep(
        pairs,
        site,
        _chosen("layer", layers, facts.layers, facts.name),
        _chosen("head", heads, facts.heads, facts.name) if site in HEAD_SITES else None,
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


def _chosen(what: str, chosen: Any, count: int, name: str) -> tuple[int, ...]:
    return tuple(range(count) if chosen is None else sorted(check_indices(chosen, what, count, name)))


def _positions(
    positions: str | Sequence[str | tuple[str, ...]], pairs: PromptPairs
) -> tuple[Place, ...] | Literal["each", "all"]:
    if isinstance(positions, str) and positions in ("each", "all"):
        return "each" if positions == "each" else "all"
    example = "['source', ('source', 'query')]; or 'each' or 'all'"
    places = [positions] if isinstance(positions, str) else check_list(positions, "positions", "names", example=example)
    if not places:
        raise ValueError("no positions are asked for: give 'each', 'all' or names of positions")
    chosen = tuple(_place(place, pairs) for place in places)
    if twice := [place for place in chosen if chosen.count(place) > 1]:
        raise ValueError(f"positions {shown(places)}: expected each once; {twice[0]} occurs twice")
    return chosen


def _place(place: Any, pairs: PromptPairs) -> Place:
    """A name that the pairs have, or two of them with something between, in their order."""
    if isinstance(place, tuple) and len(place) != 2:
        raise ValueError(f"positions hold {shown(place)}: expected a name, or two for the positions between them")
    known = list(pairs.positions)
    for name in place if isinstance(place, tuple) else (place,):
        if not isinstance(name, str) or name not in known:
            there = f"the pairs name {', '.join(known)}" if known else "the pairs name none"
            raise ValueError(f"no position {shown(name)}: expected 'each', 'all' or a name; {there}")
    if not isinstance(place, tuple):
        return place
    before, after = place
    steps = (pairs.positions[after] - pairs.positions[before]).tolist()
    if wrong := [number for number, step in enumerate(steps) if step < 0]:
        raise ValueError(
            f"position {after!r} of pair {wrong[0]} stands before {before!r}: give the two names in their order"
        )
    if max(steps) < 2:
        raise ValueError(f"no pair has a position between {before!r} and {after!r}: leave that stretch out")
    return before, after


def _stretch(place: Place, pairs: PromptPairs, prompt: int) -> tuple[int, int]:
    """First and end of a place in one prompt."""
    if isinstance(place, str):
        at = int(pairs.positions[place][prompt])
        return at, at + 1
    first, end = (int(pairs.positions[name][prompt]) for name in place)
    return (first + 1, end) if end > first + 1 else NOTHING


def _metrics(metric: AnyMetric | Sequence[AnyMetric], pairs: PromptPairs) -> tuple[Metric, ...]:
    chosen = several_metrics(metric)
    for one in chosen:
        if one.needs_distractors and pairs.distractors is None:
            raise ValueError(f"{one.name} needs distractors: give them to the pairs, or take log_probability")
    return chosen
