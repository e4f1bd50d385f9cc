"""Documents of the lab's language: pure functions of a random generator.

Three kinds, each a task that a probe can look at. *Background*: sentences whose object, place and time follow from the
two words before them, which no bigram can know, so that heads looking at the previous token pay off at once. *Periodic*: one
random segment over and over. *Spaced*: one random segment again and again with unrelated words between, so that no fixed
distance helps. Induction (Olsson et al. 2022, "In-context Learning and Induction Heads") solves the last two.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from types import MappingProxyType

import numpy as np
from jaxtyping import Bool, Int

from neolens.lab.words import BOS_ID, FIRST_WORD, VOCABULARY, ids

ALL_WORDS = np.arange(FIRST_WORD, len(VOCABULARY))
GRAMMAR_SEED = 5
"""The grammar's tables are part of the language, not of a training run: one seed for good."""

VERB_CLASS, PREPOSITION_CLASS = 3, 3
"""Verbs (and prepositions) that stand together in groups of three act alike: to sell, buy or trade is the same here."""


@dataclass(frozen=True)
class Repeat:
    """A segment of `length` tokens at `first` that stands again at `second` (positions in the document)."""

    first: int
    second: int
    length: int


@dataclass(frozen=True)
class Document:
    """Tokens that start with BOS, and what is known about them."""

    kind: str
    tokens: Int[np.ndarray, " pos"]
    predictable: Bool[np.ndarray, " pos"]
    """True where the token follows from those before it in the document."""
    repeats: tuple[Repeat, ...] = field(default=())


@cache
def grammar() -> Mapping[str, Int[np.ndarray, "earlier later"]]:
    """Which word follows from which two: `object` from (subject, verb group), `place` from (object, preposition group)
    and `time` from (preposition group, place), as token ids drawn once."""
    draw = np.random.default_rng(GRAMMAR_SEED)
    subjects, objects, places = len(ids("name", "trade")), len(ids("object")), len(ids("place"))
    verbs, prepositions = len(ids("verb")) // VERB_CLASS, len(ids("preposition")) // PREPOSITION_CLASS
    shapes = {"object": (subjects, verbs), "place": (objects, prepositions), "time": (prepositions, places)}
    return MappingProxyType({name: draw.choice(ids(name), shape) for name, shape in shapes.items()})


def sentences(rng: np.random.Generator, n: int) -> Int[np.ndarray, "sentence word"]:
    """`n` sentences: subject, verb, object, preposition, place, time, full stop. Subject, verb and preposition are
    drawn evenly, the others follow (see `grammar`)."""
    table = grammar()
    subject, verb, preposition = (
        rng.choice(ids(*names), n) for names in (("name", "trade"), ("verb",), ("preposition",))
    )
    verb_class = (verb - ids("verb")[0]) // VERB_CLASS
    preposition_class = (preposition - ids("preposition")[0]) // PREPOSITION_CLASS
    obj = table["object"][subject - ids("name", "trade")[0], verb_class]
    place = table["place"][obj - ids("object")[0], preposition_class]
    time = table["time"][preposition_class, place - ids("place")[0]]
    stop = np.full(n, ids("stop")[0])
    return np.stack([subject, verb, obj, preposition, place, time, stop], axis=1)


FOLLOWS = np.array([False, False, True, False, True, True, True])
"""Which words of a sentence follow from those before them."""


def background(rng: np.random.Generator, length: int) -> Document:
    """Sentences up to `length` tokens, the last cut short."""
    n = -(-(length - 1) // len(FOLLOWS))
    tokens = np.concatenate([[BOS_ID], sentences(rng, n).ravel()])[:length]
    predictable = np.concatenate([[False], np.tile(FOLLOWS, n)])[:length]
    return Document("background", tokens, predictable)


def segment_length(rng: np.random.Generator, longest: int) -> int:
    """A length from 2 to `longest`, drawn evenly on a logarithmic scale: short segments often, long ones too."""
    return min(longest, int(np.exp(rng.uniform(np.log(2), np.log(longest + 1)))))


def periodic(rng: np.random.Generator, length: int) -> Document:
    """A segment of different words, over and over up to `length` tokens; the last copy may be cut short."""
    n = segment_length(rng, min(len(ALL_WORDS), (length - 1) // 2))
    segment = rng.choice(ALL_WORDS, n, replace=False)
    tokens = np.concatenate([[BOS_ID], np.resize(segment, length - 1)])
    starts = range(1, length, n)
    repeats = tuple(Repeat(1, start, min(n, length - start)) for start in starts[1:])
    return Document("periodic", tokens, np.arange(length) > n + 1, repeats)


def spaced(rng: np.random.Generator, length: int) -> Document:
    """A segment of different words, then unrelated words, then the segment, and so on; the gaps are of random length
    and may be empty. No word of the segment stands in a gap."""
    body = length - 1
    n = segment_length(rng, max(2, body // 3))
    shuffled = rng.permutation(ALL_WORDS)
    segment, others = shuffled[:n], shuffled[n:]
    tokens, predictable = rng.choice(others, length), np.zeros(length, dtype=bool)
    tokens[0] = BOS_ID
    starts, at = [], 1 + int(rng.integers(0, max(1, body - 2 * n + 1)) * rng.random())
    while at < length:
        starts.append(at)
        tokens[at : at + n] = segment[: length - at]
        if len(starts) > 1:
            predictable[at + 1 : at + n] = True
        at += n + int(rng.integers(0, max(1, body - 2 * n + 1 if len(starts) == 1 else body // 3)))
    repeats = tuple(Repeat(starts[0], start, min(n, length - start)) for start in starts[1:])
    return Document("spaced", tokens, predictable, repeats)


KINDS: Mapping[str, Callable[[np.random.Generator, int], Document]] = MappingProxyType(
    {"background": background, "periodic": periodic, "spaced": spaced}
)
"""Kind of document -> how to draw one of a given length."""

MIX: Mapping[str, float] = MappingProxyType({"background": 0.3, "periodic": 0.3, "spaced": 0.4})
"""Kind of document -> its share of the documents."""


def document(rng: np.random.Generator, length: int, mix: Mapping[str, float] = MIX) -> Document:
    """One document of `length` tokens of a kind drawn by the shares in `mix`.

    Raises:
        ValueError: an unknown kind, or a length in which nothing can repeat.
    """
    if unknown := set(mix) - set(KINDS):
        raise ValueError(f"no kind of document {sorted(unknown)}: kinds are {sorted(KINDS)}")
    if length < 6:
        raise ValueError(f"a document of {length} tokens has no room for a repeat: at least 6")
    shares = np.array(list(mix.values()))
    kind = list(mix)[rng.choice(len(shares), p=shares / shares.sum())]
    return KINDS[kind](rng, length)


def rows(
    rng: np.random.Generator, n: int, length: int, document_length: int, mix: Mapping[str, float] = MIX
) -> Int[np.ndarray, "row pos"]:
    """`n` rows of `length` tokens, each packed with documents of `document_length`, the last cut short: so every
    position is trained however short the documents are."""
    each = -(-length // document_length)
    packed = [[document(rng, document_length, mix).tokens for _ in range(each)] for _ in range(n)]
    return np.array(packed).reshape(n, -1)[:, :length]


def repeated(length: int, *, prompts: int = 48, seed: int = 0) -> Int[np.ndarray, "prompt pos"]:
    """Prompts [BOS, r_1..r_n, r_1..r_n] with n = `length`, r drawn without replacement from all words.

    Raises:
        ValueError: a length that is not between 2 and the number of words.
    """
    if not 2 <= length <= len(ALL_WORDS):
        raise ValueError(f"repeat length {length}: the language has words for 2 to {len(ALL_WORDS)}")
    rng = np.random.default_rng((seed, length))
    segments = np.stack([rng.choice(ALL_WORDS, length, replace=False) for _ in range(prompts)])
    return np.concatenate([np.full((prompts, 1), BOS_ID), segments, segments], axis=1)
