"""The background of the lab's language: sentences with statistics of their own.

Object, place and time follow from two words before them, of which the last alone does not tell, so that heads
looking at the previous token pay off at once. The tables are part of the language. Background stands in
documents by itself and as filler of any length between two parts of a task. No sentence holds a name.
"""

from collections.abc import Mapping
from functools import cache
from types import MappingProxyType
from typing import Any

import numpy as np
from jaxtyping import Int

from neolens.checks import check_type, check_whole
from neolens.lab.language.words import ids

GRAMMAR_SEED = 5
"""The grammar's tables are part of the language, not of a training run: one seed for good."""

GROUP = 3
"""So many verbs (prepositions) in a row of their class act alike: to sell, buy or trade is the same here."""

MOST = 2**24
"""Sentences, prompts, and tokens of a document, that are drawn at a time."""

FOLLOWS = np.array([False, False, True, False, True, True, True])
"""Which words of a sentence follow from those before them."""


@cache
def grammar() -> Mapping[str, Int[np.ndarray, "earlier later"]]:
    """Which word follows from which two: `object` from (subject, verb group), `place` from (object,
    preposition group) and `time` from (preposition group, place), as token ids drawn once."""
    draw = np.random.default_rng(GRAMMAR_SEED)
    subjects, objects, places = len(ids("trade")), len(ids("object")), len(ids("place"))
    verbs, prepositions = len(ids("verb")) // GROUP, len(ids("preposition")) // GROUP
    shapes = {"object": (subjects, verbs), "place": (objects, prepositions), "time": (prepositions, places)}
    return MappingProxyType({name: draw.choice(ids(name), shape) for name, shape in shapes.items()})


def check_rng(value: Any) -> None:
    """Check that a value is a NumPy generator of random numbers.

    Raises:
        TypeError: it is not.
    """
    check_type(value, "rng", np.random.Generator, "a generator such as numpy.random.default_rng(0)")


def sentences(rng: np.random.Generator, n: int) -> Int[np.ndarray, "sentence word"]:
    """`n` sentences: subject, verb, object, preposition, place, time, full stop. Subject, verb and
    preposition are drawn evenly, the others follow (see `grammar`)."""
    check_rng(rng)
    n, table = check_whole(n, "n", 0, MOST), grammar()
    subject, verb, preposition = (rng.choice(ids(name), n) for name in ("trade", "verb", "preposition"))
    verb_group = (verb - ids("verb")[0]) // GROUP
    preposition_group = (preposition - ids("preposition")[0]) // GROUP
    obj = table["object"][subject - ids("trade")[0], verb_group]
    place = table["place"][obj - ids("object")[0], preposition_group]
    time = table["time"][preposition_group, place - ids("place")[0]]
    stop = np.full(n, ids("stop")[0])
    return np.stack([subject, verb, obj, preposition, place, time, stop], axis=1)


def filler(rng: np.random.Generator, n: int) -> Int[np.ndarray, " word"]:
    """`n` words of background that end with a full stop; the first sentence lacks its beginning."""
    n = check_whole(n, "n", 0, MOST)
    return sentences(rng, -(-n // len(FOLLOWS))).ravel()[-n:] if n else np.empty(0, dtype=int)
