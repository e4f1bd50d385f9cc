"""What takes the place of an ablated head: nothing, its mean, another prompt's; or what is left of its attention.

Zero ablation gives noisy results in practice (Wang et al. 2022, arXiv 2211.00593); a mean over prompts keeps what a
head always says, position by position, and takes away what it says of this prompt; a mean over all positions takes away
what it says of the position, too, and needs no prompts of one length; a resample puts in what it said of another prompt
(Chan et al. 2022, "Causal scrubbing"). Cutting attention leaves a head what it reads elsewhere (Geva et al. 2023, arXiv
2304.14767, "attention knockout").
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from neolens.checks import check_whole, did_you_mean, shown
from neolens.models.treatments import EXACT

ALL_POSITIONS = "mean_all_positions"
"""The mean over all positions of all reference prompts, each position counting as much: one value per head, for
prompts of any lengths."""

HOWS = ("zero", "mean", ALL_POSITIONS, "resample")
MEANS = ("mean", ALL_POSITIONS)

FEW = 8
"""Prompts of a reference below which a mean is warned about."""


@dataclass(frozen=True)
class Beyond:
    """The head no longer sees keys `distance` or more tokens back: what a local layer of this window would see."""

    distance: Any
    """A whole number of tokens."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "distance", check_whole(self.distance, "distance", 1, EXACT, unit="tokens"))

    def __str__(self) -> str:
        return f"without keys {self.distance} or more tokens back"


@dataclass(frozen=True)
class Within:
    """The head no longer sees keys fewer than `distance` tokens back, itself among them; z is 0 where none is left."""

    distance: Any
    """A whole number of tokens."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "distance", check_whole(self.distance, "distance", 1, EXACT, unit="tokens"))

    def __str__(self) -> str:
        return f"without keys fewer than {self.distance} tokens back"


Cut = Beyond | Within
How = str | Cut


def checked_how(how: Any) -> How:
    """What was asked for.

    Raises:
        TypeError: no way to ablate.
        ValueError: an unknown name.
    """
    if isinstance(how, Cut):
        return how
    if not isinstance(how, str):
        raise TypeError(
            f"how is {shown(how)}: expected {', '.join(map(repr, HOWS))}, Beyond(distance) or Within(distance)"
        )
    if how not in HOWS:
        raise ValueError(
            f"no way to ablate {shown(how)}: {did_you_mean(how, HOWS)}ways are {', '.join(HOWS)}, Beyond(distance) and "
            "Within(distance)"
        )
    return how


def refuse_reference(reference: Sequence[Tensor], prompts: Sequence[Tensor], how: How) -> None:
    """Nothing, if every prompt finds in the reference what takes the place of its heads.

    Raises:
        ValueError: fewer than two reference prompts; one that begins otherwise than all prompts do; position by
            position also one of a length that no prompt has, or fewer than two of a prompt's length; resampled also
            none but the prompt itself.
    """
    if how == ALL_POSITIONS:
        if len(reference) < 2:
            raise ValueError(f"{len(reference)} reference prompt: {how} needs at least 2; give more prompts")
        fewest = len(reference)
    else:
        fewest = _refuse_lengths(reference, prompts, how)
    begins = {int(prompt[0]) for prompt in prompts}
    for number, other in enumerate(reference):
        if len(begins) == 1 and len(prompts) > 1 and int(other[0]) not in begins:
            raise ValueError(
                f"reference prompt {number} begins with token {int(other[0])}, all prompts with {min(begins)}: it was "
                "made by another tokenizer, or one of them lacks BOS; make both alike"
            )
    if how == "resample":
        for number, prompt in enumerate(prompts):
            if not _others(prompt, reference):
                raise ValueError(
                    f"every reference prompt is prompt {number} itself: resample needs another of its length"
                )
    else:
        warn_of_few(fewest, stacklevel=6)


def _refuse_lengths(reference: Sequence[Tensor], prompts: Sequence[Tensor], how: How) -> int:
    """The smallest number of reference prompts that have one prompt's length, 2 or more."""
    lengths = {len(prompt) for prompt in prompts}
    remedy = f"or take how={ALL_POSITIONS!r}, the mean over all reference positions, for prompts of any lengths"
    for number, other in enumerate(reference):
        if len(other) not in lengths:
            raise ValueError(
                f"reference prompt {number} has {len(other)} tokens, which no prompt has ({_listed(lengths)}): "
                "activations are taken position by position, so give reference prompts as long as the prompts, "
                f"{remedy}"
            )
    counts = {length: sum(len(other) == length for other in reference) for length in sorted(lengths)}
    for length, count in counts.items():
        if count < 2:
            raise ValueError(
                f"{count} reference {'prompt has' if count == 1 else 'prompts have'} {length} tokens: {how} needs at "
                f"least 2 of each prompt's length; give more prompts, or a reference, {remedy}"
            )
    return min(counts.values())


def warn_of_few(prompts: int, *, stacklevel: int) -> None:
    """Warn of a mean over fewer than `FEW` reference prompts."""
    if prompts < FEW:
        warnings.warn(
            f"the mean is over only {prompts} reference prompts: with fewer than {FEW} it still says much of each of "
            "them; give a larger reference",
            stacklevel=stacklevel,
        )


def donors(prompts: Sequence[Tensor], reference: Sequence[Tensor], seed: int) -> list[int]:
    """For each prompt the number of the reference prompt whose heads speak in its place, never the prompt itself."""
    found = []
    for number, prompt in enumerate(prompts):
        others = _others(prompt, reference)
        found.append(others[int(np.random.default_rng((seed, number)).integers(len(others)))])
    return found


def _others(prompt: Tensor, reference: Sequence[Tensor]) -> list[int]:
    return [n for n, other in enumerate(reference) if len(other) == len(prompt) and not torch.equal(other, prompt)]


def _listed(lengths: set[int]) -> str:
    return f"{min(lengths)}" if len(lengths) == 1 else f"{len(lengths)} lengths from {min(lengths)} to {max(lengths)}"
