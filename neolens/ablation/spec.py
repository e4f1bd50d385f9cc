"""What an ablation asks: the arguments of `neolens.ablate`, checked against the model before a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from neolens.ablation.groups import Head, checked
from neolens.ablation.methods import Cut, How, checked_how, donors, refuse_reference
from neolens.ablation.predictions import Predictions, predictions
from neolens.checks import check_seed
from neolens.metrics import Metric, several_metrics
from neolens.models.other_architectures import Facts
from neolens.prompts.pairs import PromptPairs
from neolens.prompts.tokens import validated


@dataclass(frozen=True)
class Asked:
    """All ablations of a call."""

    facts: Facts
    prompts: tuple[Tensor, ...]
    groups: Mapping[str, Sequence[Head]]
    how: How
    metrics: tuple[Metric, ...]
    read: Predictions
    reference: tuple[Tensor, ...]
    """The prompts whose activations take the heads' place; none for zero and for cuts."""
    seed: int
    donors: tuple[int, ...]
    """Resampled, for each prompt the number of the reference prompt whose heads speak in its place."""
    words: tuple[tuple[str, ...], ...] | None = None
    """What the tokens stand for, where that is known."""

    @property
    def of_runs(self) -> bool:
        """Whether the metrics have a value for whole runs only."""
        return self.metrics[0].of_token is None

    @property
    def layers(self) -> set[int]:
        """The layers in which some group has heads."""
        return {layer for heads in self.groups.values() for layer, _ in heads}

    def lengths(self) -> dict[int, list[int]]:
        """Length -> the numbers of the prompts that have it."""
        return {
            length: [number for number, prompt in enumerate(self.prompts) if len(prompt) == length]
            for length in sorted({len(prompt) for prompt in self.prompts})
        }


def asked(
    facts: Facts,
    tokens: Any,
    groups: Any,
    how: Any,
    metric: Any,
    reference: Any,
    positions: Any,
    answers: Any,
    distractors: Any,
    seed: Any,
) -> Asked:
    """The checked call.

    Raises:
        TypeError, ValueError: what `neolens.ablate` says.
    """
    pairs = tokens if isinstance(tokens, PromptPairs) else None
    prompts = tuple(validated(tokens if pairs is None else list(pairs.clean), facts, shortest=2))
    seed = check_seed(seed)
    metrics, chosen = _metrics(metric), checked_how(how)
    read = predictions(facts, prompts, pairs, metrics, positions, answers, distractors)
    its = checked(groups, facts)
    others = _reference(reference, prompts, facts, chosen)
    return Asked(
        facts,
        prompts,
        its,
        chosen,
        metrics,
        read,
        others,
        seed,
        tuple(donors(prompts, others, seed)) if chosen == "resample" else (),
        None if pairs is None else pairs.words,
    )


def _metrics(metric: Any) -> tuple[Metric, ...]:
    chosen = several_metrics(metric)
    if len({one.of_token is None for one in chosen}) > 1:
        raise ValueError(
            f"metrics {', '.join(one.name for one in chosen)}: some have a value at every position and some for whole "
            "runs only; ask for them in two calls"
        )
    for one in chosen:
        if one.of_token is None and one.columns == "answers":
            raise ValueError(
                f"metric {one.name} reads the answers' columns of whole runs: give it of_token, what it says of one "
                "position, or let it read all columns"
            )
    return chosen


def _reference(reference: Any, prompts: Sequence[Tensor], facts: Facts, how: How) -> tuple[Tensor, ...]:
    if isinstance(how, Cut) or how == "zero":
        if reference is not None:
            raise ValueError(f"how={how!r} puts nothing in the heads' place: leave reference out")
        return ()
    given = list(reference.clean) if isinstance(reference, PromptPairs) else reference
    try:
        others = tuple(prompts if given is None else validated(given, facts))
    except (TypeError, ValueError) as error:
        raise type(error)(f"in the reference: {error}") from error
    refuse_reference(others, prompts, how)
    return others
