"""The families in the lab's language: planted questions (`neolens.lab.language.planted`), cut before their answer."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Int

from neolens.lab.language.documents import CONTENT, FOR
from neolens.lab.language.grammar import FOLLOWS
from neolens.lab.language.planted import NEAREST, SEGMENT, Planted, farthest, planted
from neolens.lab.language.words import VOCABULARY, ids
from neolens.prompts.families.questions import Question

_NAMES = {
    "induction": {"previous": "previous", "source": "source", "query": "query"},
    "recall": {"key": "key", "source": "source", "query": "query"},
    "indirect_object": {"io": "source", "s1": "first_giver", "s2": "second_giver", "end": "query"},
}
"""Task -> name of a position -> the lab's own name for it."""

_OTHERS = {"induction": CONTENT, "recall": np.array(ids("object")), "indirect_object": np.array(ids("name"))}
"""Task -> words of which one takes the place of what is corrupted."""


def speaks_lab(tokenizer: Any) -> bool:
    """Whether a tokenizer's vocabulary is the words of the lab's language, and nothing else."""
    return len(tokenizer) == len(VOCABULARY) and tokenizer.get_vocab() == {
        word: number for number, word in enumerate(VOCABULARY)
    }


def questions(task: str, distance: int, corruption: str, *, context: int, prompts: int, seed: int) -> list[Question]:
    """Different questions; more of them begin with the same ones.

    Up to a sentence of background stands before each, so that no place in the prompt tells the answer.

    Raises:
        ValueError: a distance that the task or the context has no room for.
    """
    nearest = max(NEAREST[task], 2)  # nearer, a segment of two words has none to exchange the answer with
    if not nearest <= distance <= farthest(task, context):
        raise ValueError(
            f"{task} at distance {distance}: in the model's {context} positions it can be asked at {nearest} to "
            f"{farthest(task, context)}"
        )
    length = min(context, distance + context - farthest(task, context) + len(FOLLOWS))
    drawn = prompts
    while True:
        asked = planted(task, distance, length=length, prompts=drawn, seed=seed)
        rngs = (np.random.default_rng((seed, number)) for number in range(drawn))
        found = [_question(asked, number, corruption, rng) for number, rng in enumerate(rngs)]
        different = {question.pieces: question for question in reversed(found)}
        if len(different) >= prompts:
            return list(reversed(different.values()))[:prompts]
        drawn *= 2


def _question(asked: Planted, number: int, corruption: str, rng: np.random.Generator) -> Question:
    """Planted question `number` up to the token that predicts its answer."""
    at = {name: int(asked.positions[lab][number]) for name, lab in _NAMES[asked.task].items()}
    last = at["end" if asked.task == "indirect_object" else "query"]
    tokens = asked.tokens[number, : last + 1]
    answer, wrong = int(asked.answer[number]), int(asked.distractor[number])
    other = int(rng.choice(np.setdiff1d(_OTHERS[asked.task], tokens)))
    if asked.task == "indirect_object":
        swapped, changed = {at["s2"]: answer}, {at["s2"]: other}
    else:
        elsewhere = (
            _in_segment(rng, at["source"], asked.distance) if asked.task == "induction" else _value(tokens, wrong)
        )
        wrong = int(tokens[elsewhere])
        swapped, changed = {at["source"]: wrong, elsewhere: answer}, {at["source"]: other}
    changed = swapped if corruption == "swap" else changed
    pieces = tuple(f" {VOCABULARY[token]}" for token in tokens[1:])  # BOS is put before them again
    return Question(
        pieces,
        {name: place - 1 for name, place in at.items()},
        f" {VOCABULARY[answer]}",
        f" {VOCABULARY[wrong]}",
        {place - 1: f" {VOCABULARY[token]}" for place, token in changed.items()},
        pieces,
    )


def _in_segment(rng: np.random.Generator, source: int, distance: int) -> int:
    """A place in the segment's first copy that holds neither the answer nor the word before it."""
    n = min(SEGMENT, distance + 1)
    return int(rng.integers(source - n + 1, source - 1))


def _value(tokens: Int[np.ndarray, " pos"], thing: int) -> int:
    """Where a thing stands as the value of a key, "for Mary corn"; background may hold it too."""
    return next(place for place in range(3, len(tokens)) if tokens[place] == thing and tokens[place - 2] == FOR)
