"""The words of the lab's language, one token each, and the two special tokens.

The language is English enough to read in a figure ("farmer sells corn near river today .") and small enough
for a network of a fifth of a million parameters. Words belong to classes that take fixed places in a
sentence; the order of `VOCABULARY` is the order of the token ids.
"""

from types import MappingProxyType

BOS, UNK = "<bos>", "<unk>"
"""Start of a document, and the stand-in for a word outside the language, which training texts never hold."""

_LISTS = {
    "name": "Mary John Anna Paul Lucy Mark Sara Luke Emma Adam Rose Jack Nina Karl Ruth Hugo "
    "Clara Peter Julia Simon Alice David Laura Tom "
    "Frank Helen Oscar Grace Victor Irene Felix Nora",
    "trade": "farmer baker sailor teacher doctor painter miner singer "
    "soldier writer hunter tailor pilot nurse king queen "
    "weaver potter fisher smith judge clerk guard monk",
    "verb": "sells buys trades carries brings takes sees finds wants makes mends cleans counts hides paints",
    "object": "corn bread salt fish books maps coats shoes apples pears milk wine "
    "silk gold coal wood rope bricks lamps cups knives bells drums pens "
    "rings boats carts tables chairs doors clocks hats bags seeds eggs honey "
    "cheese butter sugar tea plums nuts beans rice wool linen leather paper "
    "nails saws axes pots plates spoons keys locks flags masks toys flutes",
    "preposition": "near beside behind under inside above",
    "place": "river bridge market church school castle forest garden harbor island mill tower "
    "field village cave lake palace road shop barn station temple valley well "
    "square inn bakery library museum theater hill beach pond canal gate wall",
    "time": "today tonight daily weekly often early late soon again first last twice once alone now "
    "monthly yearly always seldom rarely",
    "particle": "when and went to the gave for ,",
    "stop": ".",
}

CLASSES = MappingProxyType({name: tuple(words.split()) for name, words in _LISTS.items()})
"""Word class -> its words. Names stand in stories and lists only, trades are the subjects of background sentences."""

WORDS = tuple(word for words in CLASSES.values() for word in words)
VOCABULARY = (BOS, UNK, *WORDS)
"""Token id -> token."""

BOS_ID, UNK_ID, FIRST_WORD = 0, 1, 2
"""Ids of the special tokens, and of the first word: words are the ids from it to the end."""


def ids(*classes: str) -> range:
    """Token ids of adjoining word classes, in the order of the vocabulary.

    Raises:
        KeyError: no such class.
    """
    first = VOCABULARY.index(CLASSES[classes[0]][0])
    return range(first, first + sum(len(CLASSES[name]) for name in classes))
