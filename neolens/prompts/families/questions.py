"""Questions as pieces of text, and sets of them as pairs.

A family of prompts is drawn as questions: pieces that the tokenizer splits apart, of which some have names and some
stand otherwise in the corrupted prompt. Where a piece stands in tokens follows from the pieces before it.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import accumulate
from typing import Any

import numpy as np

from neolens.checks import check_bool, check_choice, check_seed, check_whole, shown
from neolens.prompts.pairs import PromptPairs
from neolens.prompts.tokenizing import token_ids, tokenizer_of

CORRUPTIONS = ("swap", "other")
"""`swap`: the corrupted prompt asks the same and its answer is the distractor. `other`: it tells neither of the two."""


@dataclass(frozen=True)
class Question:
    """One prompt and its corruption."""

    pieces: tuple[str, ...]
    """The clean prompt, cut where every tokenizer of the family cuts it; a space belongs to the word after it."""
    places: Mapping[str, int]
    """Name of a position -> number of a piece; the position is that of its last token."""
    answer: str
    distractor: str
    changed: Mapping[int, str]
    """Number of a piece -> what stands there in the corrupted prompt."""
    core: Hashable
    """What no two questions of a set have in common."""

    @property
    def corrupted_pieces(self) -> tuple[str, ...]:
        return tuple(self.changed.get(number, piece) for number, piece in enumerate(self.pieces))


@dataclass(frozen=True)
class Supply:
    """The questions of one kind: how to draw number `n` of a set, and how many different ones there are."""

    what: str
    draw: Callable[[np.random.Generator, int], Question]
    total: int


def check_arguments(
    corruption: Any, prompts: Any, seed: Any, prepend_bos: Any, distance: Any = None
) -> tuple[int, int, Any]:
    """The number of prompts, the seed and the distance, as plain numbers.

    Raises:
        TypeError: numbers that are not whole, `prepend_bos` that is no bool.
        ValueError: an unknown corruption, no prompts, a negative seed, a distance below 1.
    """
    check_choice(corruption, "corruption", CORRUPTIONS)
    check_bool(prepend_bos, "prepend_bos")
    distance = None if distance is None else check_whole(distance, "distance", 1, 2**31 - 1)
    return check_whole(prompts, "prompts", 1), check_seed(seed), distance


def drawn(supply: Supply, prompts: int, seed: int) -> list[Question]:
    """Different questions; more of them begin with the same ones.

    Raises:
        ValueError: more than there are.
    """
    if prompts > supply.total:
        raise ValueError(
            f"{shown(prompts)} {supply.what} prompts: there are {supply.total} different ones with this tokenizer"
        )
    rng, found = np.random.default_rng(seed), dict[Hashable, Question]()
    while len(found) < prompts:
        question = supply.draw(rng, len(found))
        found.setdefault(question.core, question)
    return list(found.values())


def pairs_of(model: Any, questions: Sequence[Question], *, prepend_bos: bool = True) -> PromptPairs:
    """The questions as pairs, their named pieces as positions.

    Raises:
        ValueError: a tokenizer that does not split the prompts where their pieces end; prompts beyond the context.
    """
    tokenizer = tokenizer_of(model)
    ids = cache(lambda piece: token_ids(tokenizer, piece))
    for question in questions:
        for pieces in (question.pieces, question.corrupted_pieces):
            if token_ids(tokenizer, "".join(pieces)) != [token for piece in pieces for token in ids(piece)]:
                raise ValueError(
                    f"the tokenizer of this model joins words of {''.join(pieces)!r} into one token: this family needs "
                    "one that splits before spaces and punctuation; write the prompts with PromptPairs.from_text"
                )
    ends = [list(accumulate(len(ids(piece)) for piece in question.pieces)) for question in questions]
    return PromptPairs.from_text(
        model,
        ["".join(question.pieces) for question in questions],
        ["".join(question.corrupted_pieces) for question in questions],
        [question.answer for question in questions],
        [question.distractor for question in questions],
        {  # after BOS, which moves every token by one, the last of a piece stands where the piece ends
            name: [end[question.places[name]] - (not prepend_bos) for question, end in zip(questions, ends)]
            for name in questions[0].places
        },
        prepend_bos=prepend_bos,
    )
