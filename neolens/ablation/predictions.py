"""Where a metric is read in each prompt, and what is expected there.

By default at every position the token that follows; in `PromptPairs` the answer after the last one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from neolens.checks import check_list, check_text, check_whole, shown
from neolens.metrics import Metric
from neolens.models.other_architectures import Facts
from neolens.prompts.pairs import PromptPairs
from neolens.prompts.tokens import is_prompt
from neolens.readout.predictions import NOTHING


@dataclass(frozen=True)
class Predictions:
    """Where the metric is read, and what is expected there: of each prompt, one item a position that is read."""

    at: tuple[Int[Tensor, " _"], ...]
    answers: tuple[Int[Tensor, " _"], ...]
    """The token to come, `NOTHING` after the last."""
    distractors: tuple[Int[Tensor, " _"], ...] | None
    labels: tuple[str, ...] | Sequence[int] | None
    """What the positions are called in the result; None where it has no such axis."""

    @property
    def columns(self) -> int:
        return max(map(len, self.at))


def predictions(
    facts: Facts,
    prompts: Sequence[Tensor],
    pairs: PromptPairs | None,
    metrics: Sequence[Metric],
    positions: Any,
    answers: Any,
    distractors: Any,
) -> Predictions:
    """The checked positions, answers and distractors.

    Raises:
        TypeError, ValueError: what `neolens.ablate` says.
    """
    lengths = [len(prompt) for prompt in prompts]
    of_runs = metrics[0].of_token is None
    if of_runs and positions is not None:
        raise ValueError(f"metric {metrics[0].name} has one value a run: leave positions out")
    expected = _expected(facts, prompts, pairs, answers, "answers")
    others = _expected(facts, prompts, pairs, distractors, "distractors")
    at, labels = _positions(positions, pairs, lengths, metrics)
    if of_runs:
        at, labels = [torch.arange(length) for length in lengths], None
    wanting = [one.name for one in metrics if one.needs_distractors]
    if wanting and others is None:
        raise ValueError(
            f"{wanting[0]} needs distractors: a token for each position, as tokens are (-1 where none), or give "
            "PromptPairs that have them"
        )
    if positions is not None and not isinstance(positions, str):
        if not all(one.against_clean for one in metrics):
            _refuse_unanswered(at, expected, labels, "answers")
        if wanting and others is not None:
            _refuse_unanswered(at, others, labels, "distractors")
    return Predictions(
        tuple(at),
        tuple(its[where] for its, where in zip(expected or (), at)),
        None if others is None else tuple(its[where] for its, where in zip(others, at)),
        labels,
    )


def _expected(
    facts: Facts, prompts: Sequence[Tensor], pairs: PromptPairs | None, given: Any, which: str
) -> list[Tensor] | None:
    """For every position the token to come, or the one to compare it with; `NOTHING` where there is none."""
    if given is not None:
        rows = list(given) if isinstance(given, Sequence) or (isinstance(given, Tensor) and given.ndim) else []
        fits = len(rows) == len(prompts) and all(
            is_prompt(row) and row.shape == prompt.shape for row, prompt in zip(rows, prompts)
        )
        if not fits:
            raise ValueError(
                f"{which} do not fit the tokens: expected one token for each of theirs, {NOTHING} where none, in "
                f"tensors of whole numbers as the tokens are, not {shown(given)}"
            )
        low, high = min(int(row.min()) for row in rows), max(int(row.max()) for row in rows)
        if low < NOTHING or high >= facts.d_vocab:
            raise ValueError(
                f"{which} hold {low if low < NOTHING else high}: expected tokens of {facts.name}, 0 to "
                f"{facts.d_vocab - 1}, or {NOTHING} where there is none"
            )
        return [row.cpu().long() for row in rows]
    last = None if pairs is None else {"answers": pairs.answers, "distractors": pairs.distractors}[which]
    if which == "distractors" and last is None:
        return None
    rows = [torch.full_like(prompt, NOTHING) for prompt in prompts]
    for number, (row, prompt) in enumerate(zip(rows, prompts)):
        if which == "answers":
            row[:-1] = prompt[1:]
        if last is not None:
            row[-1] = last[number]
    return rows


def _positions(
    positions: Any, pairs: PromptPairs | None, lengths: Sequence[int], metrics: Sequence[Metric]
) -> tuple[list[Tensor], tuple[str, ...] | Sequence[int] | None]:
    """Where the metric is read in each prompt, and what these places are called."""
    if positions is None and pairs is not None and all(metric.reads == "last" for metric in metrics):
        return [torch.tensor([length - 1]) for length in lengths], None
    if positions is None or (isinstance(positions, str) and positions == "each"):
        return [torch.arange(length) for length in lengths], range(max(lengths))
    if isinstance(positions, str):
        positions = [positions]
    if not isinstance(positions, Mapping):
        example = "[0, -1]; or 'each', or a dict from a name to one index per prompt"
        several = check_list(positions, "positions", "indices or names", example=example)
        return _listed_positions(several, pairs, lengths)
    names = {
        check_text(name, "name of a position", example="end"): check_list(places, f"position {name!r}", "indices")
        for name, places in positions.items()
    }
    for name, places in names.items():
        if len(places) != len(lengths):
            raise ValueError(
                f"position {name!r} has {len(places)} places for {len(lengths)} prompts: expected one each"
            )
    return _stacked(names, lengths)


def _listed_positions(
    chosen: list[Any], pairs: PromptPairs | None, lengths: Sequence[int]
) -> tuple[list[Tensor], tuple[str, ...] | Sequence[int]]:
    """Positions by their names in the pairs, or by numbers that are the same in every prompt."""
    known = {} if pairs is None else pairs.positions
    chosen = [
        one if isinstance(one, str) else check_whole(one, "position", remedy="give an index or a name")
        for one in chosen
    ]
    names: dict[str, list[Any]] = {}
    for one in chosen:
        if isinstance(one, str) and one not in known:
            there = f"the pairs name {', '.join(known)}" if known else "names need a dict or PromptPairs that have them"
            raise ValueError(f"no position {one!r}: expected 'each', a name or an index; {there}")
        names[str(one)] = known[one].tolist() if isinstance(one, str) else [one] * len(lengths)
    at, labels = _stacked(names, lengths)
    numbered = not any(isinstance(one, str) or one < 0 for one in chosen)
    return at, list(map(int, labels)) if numbered else labels


def _stacked(names: Mapping[str, list[Any]], lengths: Sequence[int]) -> tuple[list[Tensor], tuple[str, ...]]:
    if not names:
        raise ValueError("no positions are asked for: give some, or leave positions out for all")
    rows = [
        [_index(places[number], name, number, length) for name, places in names.items()]
        for number, length in enumerate(lengths)
    ]
    return [torch.tensor(row) for row in rows], tuple(names)


def _index(place: Any, name: str, number: int, length: int) -> int:
    index = check_whole(place, f"position {name!r} of prompt {number} is")
    if not -length <= index < length:
        raise ValueError(
            f"position {name!r} of prompt {number} is {shown(index)}: expected 0 to {length - 1}, or -{length} to -1 "
            "counted from the end"
        )
    return index % length


def _refuse_unanswered(
    at: Sequence[Tensor], expected: Sequence[Tensor] | None, labels: tuple[str, ...] | Sequence[int] | None, which: str
) -> None:
    for number, (where, tokens) in enumerate(zip(at, expected or ())):
        for column, index in enumerate(where.tolist()):
            if int(tokens[index]) == NOTHING:
                name = labels[column] if labels is not None else index
                raise ValueError(
                    f"position {str(name)!r} of prompt {number} has none of the {which}: nothing is known that follows "
                    f"position {index}; leave it out, or give {which}"
                )
