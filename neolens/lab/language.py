"""Documents of the lab's language: pure functions of a random generator.

Four kinds, each a task that a probe can look at. *Background*: sentences whose object, place and time follow
from two words before them, of which the last alone does not tell, so that heads looking at the previous token
pay off at once. *Periodic*: one random segment over and over. *Distant*: the same with a segment longer than
a local window. *Spaced*: one random segment again and again with unrelated words between, so that no fixed
distance helps. Induction (Olsson et al. 2022, "In-context Learning and Induction Heads") solves all but the
first.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from types import MappingProxyType

import numpy as np
from jaxtyping import Bool, Int

from neolens.lab.words import BOS_ID, FIRST_WORD, VOCABULARY, ids

ALL_WORDS = np.arange(FIRST_WORD, len(VOCABULARY))
START, TEXTS, EVALUATION = 1, 2, 3
"""First part of every random seed, so that draws for different purposes never coincide."""

GRAMMAR_SEED = 5
"""The grammar's tables are part of the language, not of a training run: one seed for good."""

NEAR = 16
"""Segments of `distant` documents are longer than this many words, the window of the lab's local layers."""

GROUP = 3
"""So many verbs (prepositions) in a row of their class act alike: to sell, buy or trade is the same here."""


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
    """Which word follows from which two: `object` from (subject, verb group), `place` from (object,
    preposition group) and `time` from (preposition group, place), as token ids drawn once."""
    draw = np.random.default_rng(GRAMMAR_SEED)
    subjects, objects, places = len(ids("name", "trade")), len(ids("object")), len(ids("place"))
    verbs, prepositions = len(ids("verb")) // GROUP, len(ids("preposition")) // GROUP
    shapes = {"object": (subjects, verbs), "place": (objects, prepositions), "time": (prepositions, places)}
    return MappingProxyType({name: draw.choice(ids(name), shape) for name, shape in shapes.items()})


def sentences(rng: np.random.Generator, n: int) -> Int[np.ndarray, "sentence word"]:
    """`n` sentences: subject, verb, object, preposition, place, time, full stop. Subject, verb and
    preposition are drawn evenly, the others follow (see `grammar`)."""
    table = grammar()
    subject, verb, preposition = (
        rng.choice(ids(*names), n) for names in (("name", "trade"), ("verb",), ("preposition",))
    )
    verb_group = (verb - ids("verb")[0]) // GROUP
    preposition_group = (preposition - ids("preposition")[0]) // GROUP
    obj = table["object"][subject - ids("name", "trade")[0], verb_group]
    place = table["place"][obj - ids("object")[0], preposition_group]
    time = table["time"][preposition_group, place - ids("place")[0]]
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
    """A length from 2 to `longest`, drawn evenly on a logarithmic scale: short often, long too."""
    return min(longest, int(np.exp(rng.uniform(np.log(2), np.log(longest + 1)))))


def _over_and_over(rng: np.random.Generator, kind: str, length: int, n: int) -> Document:
    segment = rng.choice(ALL_WORDS, n, replace=False)
    tokens = np.concatenate([[BOS_ID], np.resize(segment, length - 1)])
    starts = range(1, length, n)
    repeats = tuple(Repeat(1, start, min(n, length - start)) for start in starts[1:])
    return Document(kind, tokens, np.arange(length) > n + 1, repeats)


def periodic(rng: np.random.Generator, length: int) -> Document:
    """A segment of different words, over and over up to `length` tokens; the last copy may be cut short."""
    n = segment_length(rng, min(len(ALL_WORDS), (length - 1) // 2))
    return _over_and_over(rng, "periodic", length, n)


def distant(rng: np.random.Generator, length: int) -> Document:
    """As `periodic`, with a segment of more than `NEAR` words, its length drawn evenly."""
    longest = min(len(ALL_WORDS), (length - 1) // 2)
    return _over_and_over(rng, "distant", length, int(rng.integers(NEAR + 1, longest + 1)))


def spaced(rng: np.random.Generator, length: int) -> Document:
    """A segment of different words, then unrelated words, then the segment, and so on; the gaps are of random
    length and may be empty. No word of the segment stands in a gap."""
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
    {"background": background, "periodic": periodic, "distant": distant, "spaced": spaced}
)
"""Kind of document -> how to draw one of a given length."""

SHORTEST = MappingProxyType({"background": 2, "periodic": 5, "distant": 2 * NEAR + 3, "spaced": 5})
"""Kind of document -> tokens that it needs, BOS among them."""


def document(rng: np.random.Generator, length: int, mix: Mapping[str, float]) -> Document:
    """One document of `length` tokens of a kind drawn by the shares in `mix`.

    Raises:
        ValueError: an unknown kind, or a length in which a kind of the mix has no room.
    """
    if unknown := set(mix) - set(KINDS):
        raise ValueError(f"no kind of document {sorted(unknown)}: kinds are {sorted(KINDS)}")
    for kind in mix:
        if length < SHORTEST[kind]:
            raise ValueError(f"no {kind} document has {length} tokens: at least {SHORTEST[kind]}")
    shares = np.array(list(mix.values()))
    kind = list(mix)[rng.choice(len(shares), p=shares / shares.sum())]
    return KINDS[kind](rng, length)


def repeated(length: int, *, prompts: int = 48, seed: int = 0) -> Int[np.ndarray, "prompt pos"]:
    """Prompts [BOS, r_1..r_n, r_1..r_n] with n = `length`, r drawn without replacement from all words.

    Raises:
        ValueError: a length that is not between 2 and the number of words.
    """
    if not 2 <= length <= len(ALL_WORDS):
        raise ValueError(f"repeat length {length}: the language has words for 2 to {len(ALL_WORDS)}")
    rng = np.random.default_rng((EVALUATION, seed, length))
    segments = np.stack([rng.choice(ALL_WORDS, length, replace=False) for _ in range(prompts)])
    return np.concatenate([np.full((prompts, 1), BOS_ID), segments, segments], axis=1)
