"""The lab's language: its words, its documents, its tokenizer."""

from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neolens.lab import NAMES, folder
from neolens.lab.language import FOLLOWS, KINDS, NEAR, SHORTEST, document, repeated, sentences
from neolens.lab.tokenizer import tokenizer
from neolens.lab.words import BOS, BOS_ID, CLASSES, FIRST_WORD, UNK_ID, VOCABULARY, WORDS, ids

seeds, lengths = st.integers(0, 2**32), st.integers(2, 129)
kinds, repeating = st.sampled_from(sorted(KINDS)), st.sampled_from(["periodic", "distant", "spaced"])
few = settings(max_examples=60, deadline=None)


def drawn(kind, seed, length):
    """A document of this length, or as long as its kind needs."""
    return KINDS[kind](np.random.default_rng(seed), max(length, SHORTEST[kind]))


def test_the_language_has_at_least_120_different_words_without_white_space():
    assert len(WORDS) == len(set(WORDS)) == sum(len(words) for words in CLASSES.values()) >= 120
    assert all(word == "".join(word.split()) for word in WORDS)
    assert VOCABULARY.index(BOS) == BOS_ID
    assert VOCABULARY.index("<unk>") == UNK_ID


def test_ids_name_the_words_of_adjoining_classes():
    assert [VOCABULARY[i] for i in ids("name", "trade")] == [*CLASSES["name"], *CLASSES["trade"]]
    assert [VOCABULARY[i] for i in ids("stop")] == ["."]


@few
@given(kinds, seeds, lengths)
def test_a_document_is_one_bos_and_then_words_only(kind, seed, length):
    tokens = drawn(kind, seed, length).tokens
    assert tokens.shape == (max(length, SHORTEST[kind]),)
    assert tokens[0] == BOS_ID
    assert ((tokens[1:] >= FIRST_WORD) & (tokens[1:] < len(VOCABULARY))).all()


@few
@given(kinds, seeds, lengths)
def test_the_same_seed_draws_the_same_document(kind, seed, length):
    assert (drawn(kind, seed, length).tokens == drawn(kind, seed, length).tokens).all()


@few
@given(repeating, seeds, lengths)
def test_every_repeat_stands_at_its_planted_distance_and_holds_no_word_twice(kind, seed, length):
    doc = drawn(kind, seed, length)
    for repeat in doc.repeats:
        first = doc.tokens[repeat.first : repeat.first + repeat.length]
        assert repeat.first + repeat.length <= repeat.second + (kind != "spaced")
        assert (doc.tokens[repeat.second : repeat.second + repeat.length] == first).all()
        assert len(set(first)) == repeat.length


@few
@given(repeating, seeds, lengths)
def test_the_predictable_tokens_are_those_that_a_plain_induction_rule_gets_right(kind, seed, length):
    doc = drawn(kind, seed, length)
    planted = np.zeros(len(doc.tokens), dtype=bool)
    for repeat in doc.repeats:
        planted[repeat.second + 1 : repeat.second + repeat.length] = True
    if kind != "spaced":  # the end of one copy also says that the next begins
        planted |= np.isin(np.arange(len(planted)), [repeat.second for repeat in doc.repeats[1:]])
    assert (doc.predictable == planted).all()
    for at in np.flatnonzero(doc.predictable):
        before = list(doc.tokens[: at - 1])
        assert doc.tokens[before.index(doc.tokens[at - 1]) + 1] == doc.tokens[at]


@few
@given(seeds, st.integers(2 * NEAR + 3, 129))
def test_no_word_of_a_distant_document_stands_twice_within_the_window(seed, length):
    tokens = drawn("distant", seed, length).tokens.tolist()
    assert all(len(set(tokens[at : at + NEAR + 1])) == len(tokens[at : at + NEAR + 1]) for at in range(length))


@few
@given(seeds, lengths)
def test_words_between_spaced_copies_are_not_of_the_segment(seed, length):
    doc = drawn("spaced", seed, length)
    copies = np.zeros(len(doc.tokens), dtype=bool)
    for repeat in doc.repeats:
        copies[repeat.second : repeat.second + repeat.length] = True
        longest = max(r.length for r in doc.repeats)
        copies[repeat.first : repeat.first + longest] = True
    if doc.repeats:
        assert not set(doc.tokens[copies]) & set(doc.tokens[~copies])


def test_an_object_follows_from_the_two_words_before_it_and_from_neither_alone():
    spoken = sentences(np.random.default_rng(0), 4000)
    for at in np.flatnonzero(FOLLOWS[:-1]):
        both, last = defaultdict(set), defaultdict(set)
        for words in spoken:
            both[tuple(words[at - 2 : at])].add(words[at])
            last[words[at - 1]].add(words[at])
        assert {len(options) for options in both.values()} == {1}
        assert np.mean([len(options) > 1 for options in last.values()]) > 0.5


def test_sentences_keep_the_order_of_the_word_classes():
    order = [("name", "trade"), ("verb",), ("object",), ("preposition",), ("place",), ("time",), ("stop",)]
    spoken = sentences(np.random.default_rng(1), 200)
    for column, names in zip(spoken.T, order, strict=True):
        assert set(column) <= set(ids(*names))


@pytest.mark.parametrize("length", [2, 16, 60, 126])
def test_a_repeated_prompt_is_bos_and_two_copies_of_different_words(length):
    prompts = repeated(length, prompts=5, seed=1)
    assert prompts.shape == (5, 1 + 2 * length)
    assert (prompts[:, 0] == BOS_ID).all()
    assert (prompts[:, 1 : length + 1] == prompts[:, length + 1 :]).all()
    assert all(len(set(row[1 : length + 1])) == length for row in prompts.tolist())
    assert prompts[:, 1:].min() >= FIRST_WORD


def test_repeated_prompts_come_from_all_words():
    assert set(repeated(126, prompts=1)[0, 1:].tolist()) == set(range(FIRST_WORD, len(VOCABULARY)))


@pytest.mark.parametrize("length", [1, 127])
def test_a_repeat_length_without_words_for_it_is_refused(length):
    with pytest.raises(ValueError, match=f"repeat length {length}: the language has words for 2 to 126"):
        repeated(length)


def test_a_mix_draws_kinds_by_their_shares():
    rng = np.random.default_rng(0)
    drawn_kinds = [document(rng, 16, {"periodic": 3.0, "background": 1.0}).kind for _ in range(800)]
    assert abs(drawn_kinds.count("periodic") - 600) < 60
    assert "spaced" not in drawn_kinds


@pytest.mark.parametrize(
    ("length", "mix", "message"),
    [
        (
            16,
            {"recall": 1.0},
            r"no kind of document \['recall'\]: kinds are \['background', 'distant', 'periodic', 'spaced'\]",
        ),
        (4, {"spaced": 1.0}, "no spaced document has 4 tokens: at least 5"),
        (34, {"distant": 1.0}, "no distant document has 34 tokens: at least 35"),
    ],
)
def test_a_document_that_cannot_be_drawn_is_refused(length, mix, message):
    with pytest.raises(ValueError, match=message):
        document(np.random.default_rng(0), length, mix)


def test_every_word_is_one_token_and_comes_back():
    words = tokenizer(128)
    text = " ".join(WORDS)
    assert words(text).input_ids == list(range(FIRST_WORD, len(VOCABULARY)))
    assert words.decode(words(text).input_ids) == text


def test_the_tokenizer_adds_no_bos_and_reads_a_written_one():
    words = tokenizer(128)
    farmer = VOCABULARY.index("farmer")
    assert words("farmer").input_ids == [farmer]
    assert words("<bos> farmer").input_ids == [words.bos_token_id, farmer]


def test_a_word_outside_the_language_becomes_unk():
    words = tokenizer(128)
    assert words("farmer sells elephants").input_ids[-1] == words.unk_token_id == UNK_ID
    assert (words.bos_token_id, words.eos_token_id) == (BOS_ID, BOS_ID)


@pytest.mark.parametrize("name", [*NAMES, "gpt2", "Lab/GPT-Neo", "PYTHIA"])
def test_a_lab_name_leads_to_its_folder_in_any_case(name):
    assert folder(name).name == name.lower().removeprefix("lab/")
    assert (folder(name) / "config.json").is_file()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("lab/gptneo", r"no lab model 'lab/gptneo': did you mean lab/gpt-neo"),
        ("xyzzy", r"no lab model 'lab/xyzzy': there are lab/gpt-neo, lab/gpt2, lab/pythia"),
    ],
)
def test_an_unknown_lab_name_is_refused_with_the_nearest(name, message):
    with pytest.raises(ValueError, match=message):
        folder(name)
