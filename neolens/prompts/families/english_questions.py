"""The families in plain English: each a supply of questions for one tokenizer."""

from __future__ import annotations

from math import perm
from typing import Any

import numpy as np

from neolens.prompts.families.english import Filler, choice, is_one_token, words_of
from neolens.prompts.families.questions import Question, Supply
from neolens.prompts.tokenizing import token_ids

FACTS = 4
"""Names in a list of things, as in the lab's language."""

SEGMENT = 8
"""Words of a repeated segment, fewer where the distance is shorter."""

_OPENINGS = (
    ("When", "{first}", " and", "{second}", " went to the", "{place}", ","),
    ("While", "{first}", " and", "{second}", " were at the", "{place}", ","),
    ("After", "{first}", " and", "{second}", " came back from the", "{place}", ","),
    ("Yesterday", "{first}", " and", "{second}", " met at the", "{place}", "."),
    ("One day", "{first}", " and", "{second}", " were working at the", "{place}", "."),
    ("This morning", "{first}", " and", "{second}", " took a walk to the", "{place}", "."),
)
_CLOSINGS = (
    ("{giver}", " gave the", "{gift}", " to"),
    ("{giver}", " decided to give the", "{gift}", " to"),
    ("{giver}", " handed the", "{gift}", " to"),
)


def indirect_object(tokenizer: Any, corruption: str, distance: int | None) -> Supply:
    """ "When Mary and John went to the market, John gave the ring to": templates and both orders in turn.

    With a distance, only openings that are a sentence of their own, and sentences between.
    """
    names, places, gifts = (
        words_of(tokenizer, kind, least) for kind, least in (("name", 3), ("place", 1), ("gift", 1))
    )
    templates = [
        (opening, closing, io_first)
        for closing in _CLOSINGS
        for opening in _OPENINGS
        for io_first in (True, False)
        if distance is None or opening[-1] == "."
    ]
    filler = None if distance is None else Filler(tokenizer)
    natural = [_tokens_between(tokenizer, *template) for template in templates]
    if distance is not None and distance < max(natural):
        raise ValueError(f"indirect object at distance {distance}: it can be asked at {max(natural)} and more")

    def draw(rng: np.random.Generator, number: int) -> Question:
        chosen = number % len(templates)
        opening, closing, io_first = templates[chosen]
        io, s, third = choice(rng, names, 3)
        place, gift = choice(rng, places, 1)[0], choice(rng, gifts, 1)[0]
        words = {"{first}": io if io_first else s, "{second}": s if io_first else io, "{giver}": s}
        words |= {"{place}": place, "{gift}": gift}
        between = [] if filler is None or distance is None else filler(rng, distance - natural[chosen])
        pieces = [words.get(piece, piece) for piece in (*opening, *between, *closing)]
        s2 = len(opening) + len(between)
        positions = {"io": 1 if io_first else 3, "s1": 3 if io_first else 1, "s2": s2, "end": len(pieces) - 1}
        changed = {s2: io if corruption == "swap" else third}
        return Question(tuple(pieces), positions, io, s, changed, (chosen, io, s, place, gift))

    each = perm(len(names), 2) * len(places) * len(gifts)
    return Supply("indirect-object", draw, each * len(templates))


def _tokens_between(tokenizer: Any, opening: tuple[str, ...], closing: tuple[str, ...], io_first: bool) -> int:
    """Tokens from the indirect object to the end, without filler."""
    after = [*opening[2 if io_first else 4 :], *closing]
    return sum(1 if piece[0] == "{" else len(token_ids(tokenizer, piece)) for piece in after)


def induction(tokenizer: Any, corruption: str, distance: int) -> Supply:
    """A segment of different random nouns, unrelated ones, and the segment again up to its last word but one."""
    nouns = words_of(tokenizer, "noun", SEGMENT + 2)
    if distance < 2:
        raise ValueError(f"induction at distance {distance}: it can be asked at 2 and more")
    n = min(SEGMENT, distance + 1)

    def draw(rng: np.random.Generator, number: int) -> Question:
        shuffled = choice(rng, nouns, len(nouns))
        segment, stranger, others = shuffled[:n], shuffled[n], shuffled[n + 1 :]
        gap = [others[i] for i in rng.integers(len(others), size=distance + 1 - n)]
        elsewhere = int(rng.integers(n - 2))
        pieces = (*segment, *gap, *segment[:-1])
        changed = {n - 1: stranger}
        if corruption == "swap":
            changed = {n - 1: segment[elsewhere], elsewhere: segment[-1]}
        places = {"previous": n - 2, "source": n - 1, "query": len(pieces) - 1}
        return Question(pieces, places, segment[-1], segment[elsewhere], changed, tuple(segment))

    return Supply("induction", draw, perm(len(nouns), n))


def recall(tokenizer: Any, corruption: str, distance: int) -> Supply:
    """ "Who has what? Mary has the corn. John has the salt. ... Mary has the": one of four facts, asked again."""
    names, stuff = words_of(tokenizer, "name", FACTS), words_of(tokenizer, "stuff", FACTS + 1)
    filler, each = Filler(tokenizer), 3 + sum(len(token_ids(tokenizer, piece)) for piece in (" has", " the"))
    nearest = each - 1
    if distance < nearest:
        raise ValueError(f"recall at distance {distance}: it can be asked at {nearest} and more")

    def draw(rng: np.random.Generator, number: int) -> Question:
        asked = FACTS - 1 - min(int(rng.integers(FACTS)), (distance - nearest) // each)
        who, *things = choice(rng, names, FACTS), *choice(rng, stuff, FACTS + 1)
        facts = [piece for fact in zip(who, things) for piece in (fact[0], " has", " the", fact[1], ".")]
        between = filler(rng, distance - nearest - each * (FACTS - 1 - asked))
        pieces = ("Who has what?", *facts, *between, who[asked], " has", " the")
        source, wrong = 5 * asked + 4, (asked - 1) % FACTS
        changed = {source: things[FACTS]}
        if corruption == "swap":
            changed = {source: things[wrong], 5 * wrong + 4: things[asked]}
        places = {"key": 5 * asked + 1, "source": source, "query": len(pieces) - 1}
        core = (asked, *who, *things[:FACTS])
        return Question(pieces, places, things[asked], things[wrong], changed, core)

    return Supply("recall", draw, perm(len(names), FACTS) * perm(len(stuff), FACTS))


def greater_than(tokenizer: Any) -> Supply:
    """ "The war lasted from the year 1732 to the year 17", which 33 to 99 can follow; corrupted, the year is 1701."""
    events = words_of(tokenizer, "event", 1)
    years = {century: _years(tokenizer, century) for century in words_of(tokenizer, "century", 1)}
    asked = [(century, year) for century, known in years.items() for year in known[2:-1] if known[0] == "01"]
    if not asked:
        raise ValueError(
            "this model's tokenizer does not split years such as ' 1732' into ' 17' and '32', so greater_than does not "
            "fit it: use a model with the tokenizer of GPT-2 or Pythia"
        )

    def draw(rng: np.random.Generator, number: int) -> Question:
        event = events[rng.integers(len(events))]
        century, year = asked[rng.integers(len(asked))]
        answer = choice(rng, [other for other in years[century] if other > year], 1)[0]
        distractor = choice(rng, [other for other in years[century] if "01" < other < year], 1)[0]
        pieces = ("The", event, " lasted from the year", century, year, " to the year", century)
        places = {"noun": 1, "xx": 3, "yy": 4, "end": 6}
        return Question(pieces, places, answer, distractor, {4: "01"}, (event, century, year))

    return Supply("greater-than", draw, len(events) * len(asked))


def _years(tokenizer: Any, century: str) -> list[str]:
    """The two last digits, from 01, of the years of a century that fall into two tokens after the second digit."""
    written = [f"{year:02d}" for year in range(1, 100)]
    halves = {year: token_ids(tokenizer, century) + token_ids(tokenizer, year) for year in written}
    known = [year for year in written if is_one_token(tokenizer, year)]
    return [year for year in known if token_ids(tokenizer, century + year) == halves[year]]


def docstring(tokenizer: Any, corruption: str) -> Supply:
    """A Python function whose documentation names two of its four arguments, and is to name the third."""
    words = words_of(tokenizer, "argument", 12)

    def draw(rng: np.random.Generator, number: int) -> Question:
        name, a, b, c, d, stranger, *told = choice(rng, words, 12)
        pieces = ["def", name, "(self,", a, ",", b, ",", c, ",", d, '):\n    """The', told[0], told[1], "."]
        for start, argument, one, two in (("\n\n", a, *told[2:4]), ("\n", b, *told[4:6])):
            pieces += [f"{start}    :param", argument, ":", one, two]
        pieces += ["\n    :param"]
        places = {"a_def": 3, "b_def": 5, "c_def": 7, "d_def": 9, "a_doc": 15, "b_doc": 20, "end": len(pieces) - 1}
        changed = {7: d, 9: c} if corruption == "swap" else {7: stranger}
        return Question(tuple(pieces), places, c, d, changed, (name, a, b, c, d))

    return Supply("docstring", draw, perm(len(words), 5))
