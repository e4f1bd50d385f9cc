"""Words and sentences for prompts in plain English, as far as a tokenizer has them as one token each.

Every byte-level tokenizer has its own list of whole words. Words that fall apart in the model's are left out, so that a
position holds a word, and corruption leaves the length as it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from neolens.prompts.tokenizing import token_ids

_LISTS = {
    "name": "Mary John Anna Paul Lucy Mark Sarah Luke Emma Adam Rose Jack Kate Karl Ruth Peter Julia Simon Alice David "
    "Laura Tom Frank Helen Oscar Grace Victor Amy James Robert Michael Daniel Thomas Susan Linda Karen George Martin "
    "Henry Alex Ben Sam Jane Anne Maria Sophie Hannah Rachel Nick Steve Kevin Brian Jason Eric",
    "place": "market school garden store office park station hospital library restaurant museum beach church house "
    "farm hotel theater kitchen",
    "gift": "book ring drink bone basket computer letter ball camera map coat watch cake card gift hat phone bag cup "
    "box key",
    "stuff": "corn bread salt fish milk wine silk gold coal wood rope tea cheese butter sugar rice wool paper soap oil "
    "cotton glass copper honey coffee meat fruit sand clay paint",
    "noun": "stone river glass paper horse clock bridge candle silver window table garden flower engine butter salt "
    "sugar cotton leather copper needle basket bottle button ladder mirror hammer pencil carpet blanket lantern anchor "
    "barrel bell brick bucket cable chain chair cloud coin corn curtain desk door drum fence flag forest fork gate "
    "guitar island jar lamp leaf lemon lock magnet maple marble medal mountain mug nail net oil onion orange oven "
    "paint piano pillow plate pocket pond potato purse rail rope saddle sail sand shell ship shirt shoe shovel snow "
    "soap spoon spring square statue steam straw sword tent thread ticket timber torch tower tray tree tunnel valley "
    "violin wagon wall wheel wood wool",
    "event": "war siege strike trial famine plague drought project reign voyage festival rebellion treaty campaign "
    "conflict crisis marriage debate expedition journey career study tour battle search construction",
    "argument": "load size file last name path data value index key mode type count text line page user group list "
    "node field level state color style label order time date host port code token word offset width height limit "
    "start result output input source target parent child",
    "subject": "farmer sailor teacher doctor painter singer soldier writer hunter driver pilot nurse king queen clerk "
    "guard judge",
    "adjective": "old young tired happy quiet tall poor rich busy small",
    "verb": "slept waited smiled worked laughed rested walked talked cooked danced listened",
    "where": "there outside inside upstairs nearby alone slowly here",
    "when": "again today tonight yesterday late",
    "century": "11 12 13 14 15 16 17 18",
}

WORDS = MappingProxyType({kind: tuple(words.split()) for kind, words in _LISTS.items()})
"""Kind of word -> candidates."""

_LEADS: tuple[tuple[str, ...], ...] = ((), (" Now",), (" And", " now"), (" And", " so", " now"))
"""What stands between two sentences where there is no room for a third."""

_SHORTEST, _LONGEST = 4, 7


def is_one_token(tokenizer: Any, piece: str) -> bool:
    """Whether the tokenizer knows the piece as one token."""
    ids = token_ids(tokenizer, piece)
    return len(ids) == 1 and ids[0] != tokenizer.unk_token_id


def words_of(tokenizer: Any, kind: str, least: int) -> list[str]:
    """The words of a kind, with their leading space, that are one token each.

    Raises:
        ValueError: fewer than `least`.
    """
    found = [f" {word}" for word in WORDS[kind] if is_one_token(tokenizer, f" {word}")]
    if len(found) < least:
        raise ValueError(
            f"{len(found)} of {len(WORDS[kind])} candidates for {kind} (such as {' ' + WORDS[kind][0]!r}) are one "
            f"token of this model's tokenizer: at least {least} are needed; write the prompts yourself, with "
            "PromptPairs.from_text"
        )
    return found


class Filler:
    """Sentences of an exact number of tokens, without a name and without a word that is ever asked for.

    Raises:
        ValueError: too few words of the tokenizer's are one token.
    """

    def __init__(self, tokenizer: Any) -> None:
        fixed = [" The", ".", *_LEADS[1], *_LEADS[3]]
        if broken := [piece for piece in fixed if not is_one_token(tokenizer, piece)]:
            raise ValueError(
                f"{broken[0]!r} is not one token of this model's tokenizer, so no distance can be chosen with "
                "sentences between: write the prompts with PromptPairs.from_text"
            )
        self._words = {kind: words_of(tokenizer, kind, 1) for kind in ("subject", "adjective", "verb", "where", "when")}

    def __call__(self, rng: np.random.Generator, tokens: int) -> list[str]:
        """Pieces of one token each."""
        pieces: list[str] = []
        while tokens >= _SHORTEST:
            most = tokens if tokens <= _LONGEST else min(_LONGEST, tokens - _SHORTEST)
            length = most if tokens <= _LONGEST else int(rng.integers(_SHORTEST, most + 1))
            pieces += self._sentence(rng, length)
            tokens -= length
        return [*pieces, *_LEADS[tokens]]

    def _sentence(self, rng: np.random.Generator, length: int) -> list[str]:
        """ "The farmer slept.", with an adjective, a place and a time as the length grows from four to seven."""
        subject, adjective, verb, where, when = (words[rng.integers(len(words))] for words in self._words.values())
        extra = length - _SHORTEST
        return [" The", *[adjective][:extra], subject, verb, *[where, when][: max(0, extra - 1)], "."]


def choice(rng: np.random.Generator, words: Sequence[str], count: int) -> list[str]:
    """So many different words."""
    return [words[number] for number in rng.choice(len(words), count, replace=False)]
