"""Documents of the lab's language: pure functions of a random generator.

Six kinds, each a task that a probe can look at. *Background*: sentences (see `grammar`). *Periodic*: one
random segment over and over. *Distant*: the same with a segment longer than a local window. *Spaced*: one
random segment again and again with unrelated words between, so that no fixed distance helps. Induction
(Olsson et al. 2022, "In-context Learning and Induction Heads") solves these three. *Recall*: a list of keys
with their values, asked again later, after filler. *Indirect object*: two names, then the one who gives, and
the other is to be named (Wang et al. 2022, arXiv 2211.00593). No answer stands farther back than `FARTHEST`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from types import MappingProxyType
from typing import Any

import numpy as np
from jaxtyping import Int

from neolens.checks import check_choice, check_number, check_type, check_whole, shown
from neolens.lab.language.grammar import FOLLOWS, MOST, check_rng, filler, sentences
from neolens.lab.language.words import BOS_ID, VOCABULARY, ids

CONTENT = np.array([*ids("name", "trade", "verb", "object", "preposition", "place", "time")])
"""The words that random segments are made of: all but those that tell one kind of sentence from another."""

START, TEXTS, EVALUATION = 1, 2, 3
"""First part of every random seed, so that draws for different purposes never coincide."""

NEAR = 16
"""Segments of `distant` documents are longer than this many words, the window of the lab's local layers."""

FARTHEST = 64
"""Largest distance in training from the token that predicts back to the nearest token that holds the answer."""

NOWHERE = -1

SHORTEST = MappingProxyType(
    {"background": 2, "periodic": 5, "distant": 2 * NEAR + 3, "spaced": 5, "recall": 9, "indirect_object": 16}
)
"""Kind of document -> tokens that it needs, BOS among them."""


@dataclass(frozen=True)
class Document:
    """Tokens that start with BOS, and what is known about them."""

    kind: str
    tokens: Int[np.ndarray, " pos"]
    source: Int[np.ndarray, " pos"]
    """Where a token that the task asks for stood last, `NOWHERE` for the other tokens. What a background sentence asks
    for follows from the two words before it and stood nowhere: there it is the place of the later of the two."""

    @property
    def asked(self) -> np.ndarray:
        """True where the task asks for the token: it follows from those before it."""
        return self.source != NOWHERE

    @property
    def distance(self) -> np.ndarray:
        """How many tokens back from the one that predicts the answer stands; meaningful where `asked`."""
        return np.arange(len(self.tokens)) - 1 - self.source


class Draft:
    """A document in the making: words are added until it is full, what is too long is cut."""

    def __init__(self, length: int) -> None:
        self.tokens = np.full(length, BOS_ID)
        self.source = np.full(length, NOWHERE)
        self.at = 1

    @property
    def room(self) -> int:
        """Tokens still to be written."""
        return len(self.tokens) - self.at

    def add(self, words: Sequence[int] | np.ndarray, answer: int | None = None, source: int = NOWHERE) -> int:
        """Write words, number `answer` of which is asked for and stood at `source`; returns where they begin."""
        start, n = self.at, min(len(words), self.room)
        self.tokens[start : start + n] = words[:n]
        if answer is not None and answer < n:
            self.source[start + answer] = source
        self.at += n
        return start


Draw = Callable[[np.random.Generator, int], Document]


def _checked(draw: Draw) -> Draw:
    """A kind of document whose arguments are checked."""

    @wraps(draw)
    def checked(rng: np.random.Generator, length: int) -> Document:
        check_rng(rng)
        return draw(rng, _check_length(length, draw.__name__))

    return checked


def _check_length(length: Any, kind: str) -> int:
    length = check_whole(length, "length", most=MOST, unit="tokens")
    if length < SHORTEST[kind]:
        raise ValueError(f"no {kind} document has {shown(length)} tokens: at least {SHORTEST[kind]}")
    return length


@_checked
def background(rng: np.random.Generator, length: int) -> Document:
    """Sentences up to `length` tokens, the last cut short."""
    n = -(-(length - 1) // len(FOLLOWS))
    tokens = np.concatenate([[BOS_ID], sentences(rng, n).ravel()])[:length]
    asked = np.concatenate([[False], np.tile(FOLLOWS, n)])[:length]
    return Document("background", tokens, np.where(asked, np.arange(length) - 1, NOWHERE))


def log_uniform(rng: np.random.Generator, least: int, most: int) -> int:
    """A number from `least` (1 or more) to `most`, drawn evenly on a logarithmic scale: more often small than large."""
    return min(most, int(np.exp(rng.uniform(np.log(least), np.log(most + 1)))))


def _over_and_over(rng: np.random.Generator, kind: str, length: int, n: int) -> Document:
    segment = rng.choice(CONTENT, n, replace=False)
    tokens, at = np.concatenate([[BOS_ID], np.resize(segment, length - 1)]), np.arange(length)
    return Document(kind, tokens, np.where(at > n + 1, at - n, NOWHERE))


@_checked
def periodic(rng: np.random.Generator, length: int) -> Document:
    """A segment of different words, over and over up to `length` tokens; the last copy may be cut short."""
    return _over_and_over(rng, "periodic", length, log_uniform(rng, 2, min(FARTHEST, (length - 1) // 2)))


@_checked
def distant(rng: np.random.Generator, length: int) -> Document:
    """As `periodic`, with a segment of more than `NEAR` words, its length drawn evenly."""
    return _over_and_over(rng, "distant", length, int(rng.integers(NEAR + 1, min(FARTHEST, (length - 1) // 2) + 1)))


@_checked
def spaced(rng: np.random.Generator, length: int) -> Document:
    """A segment of different words, then unrelated words, then the segment, and so on; the gaps are of random
    length and may be empty. No word of the segment stands in a gap."""
    body = length - 1
    n = log_uniform(rng, 2, max(2, body // 3))
    shuffled = rng.permutation(CONTENT)
    segment, others = shuffled[:n], shuffled[n:]
    draft, last = Draft(length), 1 + int(rng.integers(0, max(1, body - 2 * n + 1)) * rng.random())
    draft.add(rng.choice(others, last - 1))
    draft.add(segment)
    while draft.room:
        widest = max(0, min(FARTHEST + 1 - n, body - 2 * n))
        draft.add(rng.choice(others, log_uniform(rng, 1, widest + 1) - 1))
        start = draft.add(segment)
        asked = np.arange(start + 1, draft.at)
        draft.source[asked] = asked - (start - last)
        last = start
    return Document("spaced", draft.tokens, draft.source)


FOR, COMMA, WHEN, AND, WENT, TO, THE, GAVE, STOP = (
    VOCABULARY.index(word) for word in ("for", ",", "when", "and", "went", "to", "the", "gave", ".")
)


def fact(name: int, thing: int) -> tuple[int, ...]:
    """The words "for Mary corn ,": a key and its value."""
    return (FOR, name, thing, COMMA)


@_checked
def recall(rng: np.random.Generator, length: int) -> Document:
    """A list of up to ten keys and their values, "for Mary corn , for John bread ,", in which each key is asked
    again and again at random, background sentences between. The value of a key stays the same."""
    n, share_of_filler = int(rng.integers(2, 11)), max(0.0, rng.uniform(-0.5, 0.7))
    names, things = rng.choice(ids("name"), n, replace=False), rng.choice(ids("object"), n)
    draft, last = Draft(length), dict[int, int]()
    while draft.room:
        if rng.random() < share_of_filler:
            draft.add(filler(rng, int(rng.integers(1, 15))))
            continue
        known = [key for key, at in last.items() if draft.at + 1 - at <= FARTHEST]
        key = known[rng.integers(len(known))] if known and rng.random() < 0.7 else int(rng.integers(n))
        near_enough = key in last and draft.at + 1 - last[key] <= FARTHEST
        if key in last and not near_enough:
            draft.add(filler(rng, len(FOLLOWS)))  # too far back to be asked: never mentioned again
            continue
        start = draft.add(fact(int(names[key]), int(things[key])), 2 if near_enough else None, last.get(key, NOWHERE))
        last[key] = start + 2
    return Document("recall", draft.tokens, draft.source)


CLAUSE = 9
"""Words of the first clause of a story, `clause`."""


def clause(first: int, second: int, place: int) -> tuple[int, ...]:
    """The words "when Mary and John went to the market ,"."""
    return (WHEN, first, AND, second, WENT, TO, THE, place, COMMA)


def gift(giver: int, thing: int, receiver: int) -> tuple[int, ...]:
    """The words "John gave the corn to Mary ."."""
    return (giver, GAVE, THE, thing, TO, receiver, STOP)


@_checked
def indirect_object(rng: np.random.Generator, length: int) -> Document:
    """Stories "when Mary and John went to the market , John gave the corn to Mary .", with background of random
    length before the gift and between stories; no name is in two stories."""
    draft, names = Draft(length), rng.permutation(ids("name")).tolist()
    wide = rng.random() < 0.5
    while draft.room:
        if len(names) < 2 or rng.random() < 0.2:
            draft.add(filler(rng, int(rng.integers(1, 15))))
            continue
        pair, of_giver = (names.pop(), names.pop()), int(rng.integers(2))
        start = draft.add(clause(*pair, int(rng.choice(ids("place")))))
        if wide:
            draft.add(filler(rng, log_uniform(rng, 1, FARTHEST - 11) - 1))
        giver, receiver = pair[of_giver], pair[1 - of_giver]
        draft.add(gift(giver, int(rng.choice(ids("object"))), receiver), 5, start + 1 + 2 * (1 - of_giver))
    return Document("indirect_object", draft.tokens, draft.source)


KINDS: Mapping[str, Draw] = MappingProxyType(
    {
        "background": background,
        "periodic": periodic,
        "distant": distant,
        "spaced": spaced,
        "recall": recall,
        "indirect_object": indirect_object,
    }
)
"""Kind of document -> how to draw one of a given length."""


def check_mix(mix: Any) -> dict[str, float]:
    """Kinds of documents and their shares, which need not add up to 1.

    Raises:
        TypeError: no mapping from words to numbers.
        ValueError: an unknown kind, a negative share, or no share at all.
    """
    expected = "a mapping from kinds of documents to shares, such as {'recall': 1.0}"
    shares = {
        check_choice(kind, "kind of document", KINDS): check_number(share, f"share of {kind}", 0)
        for kind, share in check_type(mix, "mix", Mapping, expected).items()
    }
    if not sum(shares.values()):
        raise ValueError(f"mix {shown(mix)}: expected {expected}")
    return shares


def document(rng: np.random.Generator, length: int, mix: Mapping[str, float]) -> Document:
    """One document of `length` tokens of a kind drawn by the shares in `mix`.

    Raises:
        ValueError: an unknown kind, or a length in which a kind of the mix has no room.
    """
    check_rng(rng)
    shares = np.array(list(check_mix(mix).values()))
    for kind in mix:
        _check_length(length, kind)
    kind = list(mix)[rng.choice(len(shares), p=shares / shares.sum())]
    return KINDS[kind](rng, length)


def repeated(length: int, *, prompts: int = 48, seed: int = 0) -> Int[np.ndarray, "prompt pos"]:
    """Prompts [BOS, r_1..r_n, r_1..r_n] with n = `length`, r drawn without replacement from the content words.

    Raises:
        ValueError: a length that is not between 2 and the number of these words.
    """
    prompts, seed = check_whole(prompts, "prompts", 1, MOST), check_whole(seed, "seed", 0)
    length = check_whole(length, "length")
    if not 2 <= length <= len(CONTENT):
        raise ValueError(f"repeat length {shown(length)}: the language has words for 2 to {len(CONTENT)}")
    rng = np.random.default_rng((EVALUATION, seed, length))
    segments = np.stack([rng.choice(CONTENT, length, replace=False) for _ in range(prompts)])
    return np.concatenate([np.full((prompts, 1), BOS_ID), segments, segments], axis=1)
