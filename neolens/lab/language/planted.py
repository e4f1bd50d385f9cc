"""Prompts with one question each, whose answer stands a chosen distance back.

The distance is that from the token that is to predict the answer (`query`) to the token that holds it
(`source`): what one attention head would have to bridge. The places that a probe wants to look at have names.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from jaxtyping import Int

from neolens.checks import check_choice, check_whole, shown
from neolens.lab.language.documents import CLAUSE, CONTENT, EVALUATION, clause, fact, gift
from neolens.lab.language.grammar import MOST, filler
from neolens.lab.language.words import BOS_ID, ids

SEGMENT = 8
"""Words of a repeated segment, fewer where the distance is shorter."""

FACTS = 4
"""Keys of a list, fewer after the one asked for where the distance is shorter."""


@dataclass(frozen=True)
class Planted:
    """Prompts of one task: BOS, background, what is to be remembered, background, the question, its answer, background.

    `tokens[p, positions["query"][p] + 1]` is `answer[p]`.
    """

    task: str
    distance: int
    tokens: Int[np.ndarray, "prompt pos"]
    answer: Int[np.ndarray, " prompt"]
    distractor: Int[np.ndarray, " prompt"]
    """What a network says that has the form of the task but not the right place: another word of the segment,
    another key's value, the one who gives."""
    positions: Mapping[str, Int[np.ndarray, " prompt"]]
    """Name of a place -> where it is in each prompt. `source` and `query` are in every task."""


@dataclass(frozen=True)
class _Question:
    words: list[int]
    """From the first word of the task to the last before the answer."""
    answer: int
    distractor: int
    places: dict[str, int]
    """Name -> number of the word in `words`."""
    around: Int[np.ndarray, " word"] | None = None
    """Words to draw what stands around the task from; background where None."""


def _induction(rng: np.random.Generator, distance: int) -> _Question:
    n = min(SEGMENT, distance + 1)
    shuffled = rng.permutation(CONTENT)
    segment, others = shuffled[:n], shuffled[n:]
    gap = rng.choice(others, distance + 1 - n)
    words = [*segment, *gap, *segment[:-1]]
    places = {"previous": n - 2, "source": n - 1, "query": len(words) - 1}
    words = [int(word) for word in words]
    return _Question(words, int(segment[-1]), int(segment[rng.integers(n - 1)]), places, others)


def _recall(rng: np.random.Generator, distance: int) -> _Question:
    after = min(int(rng.integers(FACTS)), (distance - 3) // 4)
    names = rng.choice(ids("name"), FACTS, replace=False).tolist()
    things = rng.choice(ids("object"), FACTS, replace=False).tolist()
    facts = [word for pair in zip(names, things, strict=True) for word in fact(*pair)]
    facts = facts[4 * after :] + facts[: 4 * after]
    asked = FACTS - 1 - after
    names, things = names[after:] + names[:after], things[after:] + things[:after]
    words = [*facts, *filler(rng, distance - 3 - 4 * after).tolist(), *fact(names[asked], 0)[:2]]
    places = {"key": 4 * asked + 1, "source": 4 * asked + 2, "query": len(words) - 1}
    return _Question(words, things[asked], things[asked - 1], places)


def _indirect_object(rng: np.random.Generator, distance: int) -> _Question:
    first_receives = distance >= 12 and bool(rng.integers(2))
    gap = distance - (12 if first_receives else 10)
    pair = rng.choice(ids("name"), 2, replace=False).tolist()
    receiver, giver = pair if first_receives else pair[::-1]
    question = gift(giver, int(rng.choice(ids("object"))), receiver)[:5]
    words = [*clause(pair[0], pair[1], int(rng.choice(ids("place")))), *filler(rng, gap).tolist(), *question]
    places = {
        "source": 1 if first_receives else 3,
        "first_giver": 3 if first_receives else 1,
        "second_giver": CLAUSE + gap,
        "query": len(words) - 1,
    }
    return _Question(words, receiver, giver, places)


_TASKS: Mapping[str, tuple[int, Callable[[np.random.Generator, int], _Question]]] = MappingProxyType(
    {"induction": (1, _induction), "recall": (3, _recall), "indirect_object": (10, _indirect_object)}
)

TASKS = tuple(_TASKS)
"""Tasks that can be planted."""

NEAREST = MappingProxyType({task: nearest for task, (nearest, _) in _TASKS.items()})
"""Task -> the shortest distance at which it can be asked."""


def farthest(task: str, length: int) -> int:
    """The longest distance that has room in prompts of `length` tokens."""
    check_choice(task, "task", TASKS)
    length = check_whole(length, "length", 1)
    before = {"induction": SEGMENT, "recall": 4 * FACTS - 1, "indirect_object": 4}[task]
    shorter = min(SEGMENT - 2, (length - 3) // 2) if task == "induction" else 0  # segments of distance + 1 words
    return max(length - 2 - before, shorter)


MOST_PROMPTS = 1_000_000


def check_prompts(prompts: Any) -> int:
    """The number of prompts.

    Raises:
        TypeError, ValueError: no whole number, or none of 1 or more.
    """
    if (prompts := check_whole(prompts, "prompts", most=MOST_PROMPTS)) < 1:
        raise ValueError(f"{shown(prompts)} prompts: at least 1 is needed")
    return prompts


def planted(task: str, distance: int, *, length: int = 128, prompts: int = 64, seed: int = 0) -> Planted:
    """Prompts of `length` tokens in which the answer stands `distance` tokens before the one that predicts it, the
    question at a random place.

    Raises:
        ValueError: an unknown task, a distance that the task or the length has no room for, or no prompts.
    """
    check_choice(task, "task", TASKS)
    length, distance = check_whole(length, "length", 1, MOST), check_whole(distance, "distance")
    prompts, seed = check_prompts(prompts), check_whole(seed, "seed", 0)
    if farthest(task, length) < NEAREST[task]:
        raise ValueError(f"{task} cannot be asked in {length} tokens: give prompts of more")
    if not NEAREST[task] <= distance <= farthest(task, length):
        raise ValueError(
            f"{task} at distance {shown(distance)}: in {length} tokens it can be asked at {NEAREST[task]} to "
            f"{farthest(task, length)}"
        )
    drawn = [
        _in_prompt(
            np.random.default_rng((EVALUATION, seed, TASKS.index(task), distance, prompt)), task, distance, length
        )
        for prompt in range(prompts)
    ]
    questions = [question for question, _, _ in drawn]
    places = {name: np.array([at + question.places[name] for question, at, _ in drawn]) for name in questions[0].places}
    return Planted(
        task,
        distance,
        np.stack([tokens for _, _, tokens in drawn]),
        np.array([question.answer for question in questions]),
        np.array([question.distractor for question in questions]),
        MappingProxyType(places),
    )


def _in_prompt(
    rng: np.random.Generator, task: str, distance: int, length: int
) -> tuple[_Question, int, Int[np.ndarray, " pos"]]:
    """A question, where it begins, and the whole prompt."""
    question = _TASKS[task][1](rng, distance)
    room = length - 2 - len(question.words)
    before = int(rng.integers(room + 1))
    surroundings = [
        filler(rng, n) if question.around is None else rng.choice(question.around, n) for n in (before, room - before)
    ]
    tokens = [BOS_ID, *surroundings[0], *question.words, question.answer, *surroundings[1]]
    return question, 1 + before, np.array(tokens)
