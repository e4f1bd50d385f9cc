"""The lab's language: its words, its documents, its tokenizer.

Every kind of document has a rule here, written from its description in plain Python over words, that says what
comes next from the words before alone, or None where the task asks for nothing. `test_lab_planted` uses them too.
"""

from collections import defaultdict
from functools import cache
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neolens.lab import folder
from neolens.lab.language.documents import FARTHEST, KINDS, NEAR, NOWHERE, SHORTEST, document, log_uniform, repeated
from neolens.lab.language.grammar import filler, sentences
from neolens.lab.language.tokenizer import tokenizer
from neolens.lab.language.words import BOS, BOS_ID, CLASSES, FIRST_WORD, UNK_ID, VOCABULARY, WORDS, ids
from neolens.models import lab_models

NAMES, TRADES = set(CLASSES["name"]), set(CLASSES["trade"])
SENTENCE = ("trade", "verb", "object", "preposition", "place", "time", "stop")
ASKED_IN_SENTENCES = {*CLASSES["object"], *CLASSES["place"], *CLASSES["time"], "."}

seeds, lengths = st.integers(0, 2**32), st.integers(2, 129)
kinds, repeating = st.sampled_from(sorted(KINDS)), st.sampled_from(["periodic", "distant", "spaced"])
few = settings(max_examples=60, deadline=None)


def drawn(kind, seed, length):
    """A document of this length, or as long as its kind needs."""
    return KINDS[kind](np.random.default_rng(seed), max(length, SHORTEST[kind]))


def text(tokens):
    """Token ids as words."""
    return [VOCABULARY[token] for token in tokens]


def places(words, word):
    """Where a word stands."""
    return [at for at, other in enumerate(words) if other == word]


# ----------------------------------------------------------------------------------------------------
# The rules
# ----------------------------------------------------------------------------------------------------


def by_induction(before):
    """What followed the present word when it stood last."""
    earlier = places(before[:-1], before[-1])
    return before[earlier[-1] + 1] if earlier else None


def by_key(before):
    """After "for Mary": what stood after "for Mary" last."""
    if len(before) < 2 or before[-2] != "for":
        return None
    values = [before[at + 2] for at in places(before[:-2], "for") if before[at + 1] == before[-1]]
    return values[-1] if values else None


def by_elimination(before):
    """After "John gave the corn to": the one of the two in "when Mary and John" that does not give."""
    if before[-1] != "to" or len(before) < 5 or before[-4] != "gave":
        return None
    story = places(before, "when")[-1]
    first, also, second = before[story + 1 : story + 4]
    assert also == "and"
    return {first: second, second: first}[before[-5]]


@cache
def sentences_heard():
    """Two words of a sentence -> the words that were heard to follow, in twenty thousand sentences."""
    follows = defaultdict(set)
    for spoken in sentences(np.random.default_rng(20_240_601), 20_000):
        words = text(spoken)
        for at in range(2, 7):
            follows[words[at - 2], words[at - 1]].add(words[at])
    return follows


def by_grammar(before):
    """The only word that was ever heard after the last two; None where several were."""
    heard = sentences_heard().get(tuple(before[-2:]), set())
    return next(iter(heard)) if len(heard) == 1 else None


RULES = {
    "background": by_grammar,
    "periodic": by_induction,
    "distant": by_induction,
    "spaced": by_induction,
    "recall": by_key,
    "indirect_object": by_elimination,
}


# ----------------------------------------------------------------------------------------------------
# Words
# ----------------------------------------------------------------------------------------------------


def test_the_language_has_202_different_words_without_white_space():
    assert len(WORDS) == len(set(WORDS)) == sum(len(words) for words in CLASSES.values()) == 202
    assert all(word == "".join(word.split()) for word in WORDS)
    assert VOCABULARY.index(BOS) == BOS_ID
    assert VOCABULARY.index("<unk>") == UNK_ID


def test_ids_name_the_words_of_adjoining_classes():
    assert text(ids("name", "trade")) == [*CLASSES["name"], *CLASSES["trade"]]
    assert text(ids("particle", "stop")) == ["when", "and", "went", "to", "the", "gave", "for", ",", "."]


# ----------------------------------------------------------------------------------------------------
# Background sentences
# ----------------------------------------------------------------------------------------------------


def test_sentences_keep_the_order_of_the_word_classes():
    spoken = sentences(np.random.default_rng(1), 200)
    for column, name in zip(spoken.T, SENTENCE, strict=True):
        assert set(text(column)) <= set(CLASSES[name])


def test_an_object_follows_from_the_two_words_before_it_and_from_neither_alone():
    spoken = [text(words) for words in sentences(np.random.default_rng(0), 4000)]
    for at in (2, 4, 5):  # object, place, time
        both, last, last_but_one = defaultdict(set), defaultdict(set), defaultdict(set)
        for words in spoken:
            both[tuple(words[at - 2 : at])].add(words[at])
            last[words[at - 1]].add(words[at])
            last_but_one[words[at - 2]].add(words[at])
        assert {len(options) for options in both.values()} == {1}
        assert np.mean([len(options) > 1 for options in last.values()]) > 0.5
        assert np.mean([len(options) > 1 for options in last_but_one.values()]) > 0.5


@pytest.mark.parametrize(
    ("group", "before"),
    [("sells buys trades", "trade"), ("makes mends cleans", "trade"), ("near beside behind", "object")],
)
def test_words_of_one_group_of_verbs_or_prepositions_act_alike(group, before):
    heard, same = sentences_heard(), group.split()
    followed = [{tuple(heard[word, one]) for one in same if (word, one) in heard} for word in CLASSES[before]]
    assert {len(alike) for alike in followed} <= {0, 1}  # 0: an object that no trade ever leads to
    assert len(set.union(*followed)) > 5


@few
@given(seeds, st.integers(0, 40))
def test_filler_is_the_end_of_background_sentences(seed, n):
    words = text(filler(np.random.default_rng(seed), n))
    assert len(words) == n
    for back, word in enumerate(reversed(words)):  # from the full stop at the end to the front
        assert word in CLASSES[SENTENCE[-1 - back % 7]]


# ----------------------------------------------------------------------------------------------------
# Documents of any kind
# ----------------------------------------------------------------------------------------------------


@few
@given(kinds, seeds, lengths)
def test_a_document_is_one_bos_and_then_words_only(kind, seed, length):
    doc = drawn(kind, seed, length)
    assert doc.kind == kind
    assert doc.tokens.shape == doc.source.shape == (max(length, SHORTEST[kind]),)
    assert doc.tokens[0] == BOS_ID
    assert ((doc.tokens[1:] >= FIRST_WORD) & (doc.tokens[1:] < len(VOCABULARY))).all()


@few
@given(kinds, seeds, lengths)
def test_the_same_seed_draws_the_same_document(kind, seed, length):
    one, two = drawn(kind, seed, length), drawn(kind, seed, length)
    assert (one.tokens == two.tokens).all()
    assert (one.source == two.source).all()


@settings(max_examples=200, deadline=None)
@given(kinds, seeds, lengths)
def test_every_token_asked_for_is_what_the_rule_of_its_kind_says_from_the_tokens_before(kind, seed, length):
    doc = drawn(kind, seed, length)
    words = text(doc.tokens)
    for at in np.flatnonzero(doc.asked):
        assert RULES[kind](words[:at]) == words[at]


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(["periodic", "distant", "recall", "indirect_object"]), seeds, lengths)
def test_a_token_is_asked_for_wherever_the_rule_of_its_kind_has_an_answer(kind, seed, length):
    doc = drawn(kind, seed, length)
    words = text(doc.tokens)
    answered = [at for at in range(1, len(words)) if RULES[kind](words[:at]) is not None]
    assert np.flatnonzero(doc.asked).tolist() == answered


@few
@given(seeds, lengths)
def test_background_asks_for_objects_places_times_and_full_stops(seed, length):
    doc = drawn("background", seed, length)
    asked = [word in ASKED_IN_SENTENCES for word in text(doc.tokens)]
    assert doc.asked.tolist() == asked
    assert (doc.distance[doc.asked] == 0).all()  # from the word before, the later of the two that tell


@settings(max_examples=200, deadline=None)
@given(kinds, seeds, lengths)
def test_no_answer_stands_farther_back_than_the_farthest_nor_ahead(kind, seed, length):
    doc = drawn(kind, seed, length)
    for at, source in enumerate(doc.source.tolist()):
        if source != NOWHERE:
            assert doc.distance[at] == (at - 1) - source
            assert 0 <= at - 1 - source <= FARTHEST == 64
            assert doc.asked[at]


@pytest.mark.parametrize("kind", ["periodic", "distant", "spaced", "recall", "indirect_object"])
def test_answers_stand_inside_the_window_and_beyond_it(kind):
    """The window counts the token that predicts, so its farthest word is NEAR - 1 back."""
    distances = np.concatenate([(doc := drawn(kind, seed, 129)).distance[doc.asked] for seed in range(200)])
    beyond = np.mean(distances >= NEAR)
    assert beyond == 1.0 if kind == "distant" else 0.1 < beyond < 0.9


@pytest.mark.parametrize("kind", ["periodic", "distant", "spaced", "recall", "indirect_object"])
def test_the_farthest_answer_of_many_documents_stands_at_the_farthest_distance_or_just_before(kind):
    """Far answers are rare in some kinds, too rare for a few documents to show one that is too far."""
    farthest = max((doc := drawn(kind, seed, 129)).distance[doc.asked].max(initial=0) for seed in range(800, 1600))
    assert FARTHEST - 2 <= farthest <= FARTHEST


@few
@given(st.sampled_from(["periodic", "distant", "spaced", "indirect_object"]), seeds, lengths)
def test_the_source_is_where_the_answer_stood_last(kind, seed, length):
    doc = drawn(kind, seed, length)
    words = text(doc.tokens)
    for at in np.flatnonzero(doc.asked):
        assert doc.source[at] == places(words[:at], words[at])[-1]


@pytest.mark.parametrize("kind", sorted(set(KINDS) - {"background"}))
def test_a_task_asks_for_something_in_documents_of_its_shortest_length(kind):
    assert any(drawn(kind, seed, 0).asked.any() for seed in range(40))


# ----------------------------------------------------------------------------------------------------
# Documents that induction solves
# ----------------------------------------------------------------------------------------------------


@few
@given(repeating, seeds, lengths)
def test_random_segments_hold_no_particle_and_no_full_stop(kind, seed, length):
    words = text(drawn(kind, seed, length).tokens)
    assert not {*CLASSES["particle"], "."} & set(words)


@few
@given(st.sampled_from(["periodic", "distant"]), seeds, lengths)
def test_a_periodic_document_is_one_segment_of_different_words_over_and_over(kind, seed, length):
    doc = drawn(kind, seed, length)
    words = text(doc.tokens)[1:]
    segment = words[: words.index(words[0], 1)]
    assert len(set(segment)) == len(segment)
    assert words == (segment * len(words))[: len(words)]
    assert len(words) >= 2 * len(segment)  # it is heard twice at least


@few
@given(seeds, st.integers(2 * NEAR + 3, 129))
def test_no_word_of_a_distant_document_stands_twice_within_the_window(seed, length):
    tokens = drawn("distant", seed, length).tokens.tolist()
    assert all(len(set(tokens[at : at + NEAR + 1])) == len(tokens[at : at + NEAR + 1]) for at in range(length))


@few
@given(seeds, lengths)
def test_words_between_spaced_copies_are_not_of_the_segment(seed, length):
    doc = drawn("spaced", seed, length)
    words = text(doc.tokens)
    follows = {words[at - 1]: words[at] for at in np.flatnonzero(doc.asked)}
    if not follows:
        return
    (first,) = set(follows) - set(follows.values())
    segment = [first]
    while segment[-1] in follows:
        segment.append(follows[segment[-1]])
    assert len(set(segment)) == len(segment) == len(follows) + 1
    at, copies = 1, 0
    while at < len(words):
        copy = words[at] == first
        stretch = segment[: len(words) - at] if copy else words[at : at + 1]
        assert words[at : at + len(stretch)] == stretch  # whole, or cut by the end of the document
        assert copy or words[at] not in segment
        assert not doc.asked[at]
        assert (doc.asked[at + 1 : at + len(stretch)] == (copies > 0)).all()
        copies, at = copies + copy, at + len(stretch)
    assert copies >= 2


def test_the_gaps_between_spaced_copies_differ_within_a_document():
    several = 0
    for seed in range(100):
        doc = drawn("spaced", seed, 129)
        several += len(set(doc.distance[doc.asked].tolist())) > 1
    assert several > 50


@pytest.mark.parametrize("length", [2, 16, 60, 126, 193])
def test_a_repeated_prompt_is_bos_and_two_copies_of_different_words(length):
    prompts = repeated(length, prompts=5, seed=1)
    assert prompts.shape == (5, 1 + 2 * length)
    assert (prompts[:, 0] == BOS_ID).all()
    assert (prompts[:, 1 : length + 1] == prompts[:, length + 1 :]).all()
    assert all(len(set(row[1 : length + 1])) == length for row in prompts.tolist())
    assert prompts[:, 1:].min() >= FIRST_WORD


def test_repeated_prompts_come_from_all_words_but_particles_and_the_full_stop():
    assert set(text(repeated(193, prompts=1)[0, 1:])) == set(WORDS) - {*CLASSES["particle"], "."}


@pytest.mark.parametrize("length", [1, 194])
def test_a_repeat_length_without_words_for_it_is_refused(length):
    with pytest.raises(ValueError, match=f"repeat length {length}: the language has words for 2 to 193"):
        repeated(length)


@few
@given(seeds, st.integers(1, 40), st.integers(0, 60))
def test_a_log_uniform_number_lies_between_its_ends(seed, least, more):
    assert least <= log_uniform(np.random.default_rng(seed), least, least + more) <= least + more


def test_a_log_uniform_number_falls_as_often_under_the_root_as_over_it():
    rng = np.random.default_rng(0)
    drawn_numbers = np.array([log_uniform(rng, 1, 63) for _ in range(4000)])  # log 64 in two halves: log 8 each
    assert abs(np.mean(drawn_numbers < 8) - 0.5) < 0.03
    assert {1, 63} <= set(drawn_numbers.tolist())


# ----------------------------------------------------------------------------------------------------
# Lists and stories
# ----------------------------------------------------------------------------------------------------


@few
@given(seeds, lengths)
def test_a_key_of_a_list_keeps_its_value(seed, length):
    words = text(drawn("recall", seed, length).tokens)
    values = defaultdict(set)
    for at in places(words[:-2], "for"):
        values[words[at + 1]].add(words[at + 2])
    assert set(values) <= NAMES
    assert all(len(one) == 1 and one <= set(CLASSES["object"]) for one in values.values())
    assert len(values) <= 10


@few
@given(seeds, lengths)
def test_the_source_in_a_list_is_the_value_at_the_last_mention_of_its_key(seed, length):
    doc = drawn("recall", seed, length)
    words = text(doc.tokens)
    for at in np.flatnonzero(doc.asked):
        mentions = [for_ for for_ in places(words[: at - 2], "for") if words[for_ + 1] == words[at - 1]]
        assert doc.source[at] == mentions[-1] + 2
        assert words[doc.source[at]] == words[at]


def test_most_lists_have_several_keys_and_none_more_than_ten():
    found = [len(NAMES & set(text(drawn("recall", seed, 129).tokens))) for seed in range(300)]
    assert np.mean(np.array(found) >= 3) > 0.7  # of a list's keys some may never be mentioned
    assert 8 <= max(found) <= 10


@few
@given(st.sampled_from(["recall", "indirect_object"]), seeds, lengths)
def test_between_facts_and_stories_stand_background_sentences(kind, seed, length):
    """Taken out what belongs to the task, the rest is pieces of sentences: ends, since filler ends with a full stop."""
    words, rest, at = text(drawn(kind, seed, length).tokens), [[]], 1
    while at < len(words):
        if kind == "recall" and words[at] == "for":
            taken = 4
        elif kind == "indirect_object" and words[at] == "when":
            taken = 9
        elif kind == "indirect_object" and words[at] in NAMES:
            taken = 7
        else:
            rest[-1].append(words[at])
            at += 1
            continue
        at += taken
        rest.append([])
    *whole, _cut_by_the_end = rest
    for piece in whole:
        assert not piece or piece[-1] == "."
    for piece in rest:
        for one, two in pairwise(piece):
            place, after = (next(i for i, name in enumerate(SENTENCE) if w in CLASSES[name]) for w in (one, two))
            assert after == (place + 1) % 7 or one == "."


def story_names(words):
    """The names of each story, in their order."""
    return [words[at + 1 : at + 4 : 2] for at in places(words, "when") if len(words) >= at + 4]


@few
@given(seeds, lengths)
def test_no_name_is_in_two_stories(seed, length):
    names = [name for pair in story_names(text(drawn("indirect_object", seed, length).tokens)) for name in pair]
    assert len(names) == len(set(names))
    assert set(names) <= NAMES


@few
@given(seeds, lengths)
def test_a_story_has_its_words_in_their_order(seed, length):
    words = text(drawn("indirect_object", seed, length).tokens)
    clause = ["when", NAMES, "and", NAMES, "went", "to", "the", set(CLASSES["place"]), ","]
    gift = [NAMES, "gave", "the", set(CLASSES["object"]), "to", NAMES, "."]
    for at in places(words, "when"):
        for word, expected in zip(words[at : at + 9], clause):
            assert word in (expected if isinstance(expected, set) else {expected})
    for at in places(words, "gave"):
        for word, expected in zip(words[at - 1 : at + 6], gift):
            assert word in (expected if isinstance(expected, set) else {expected})
    assert len(places(words, "when")) - len(places(words, "gave")) in (0, 1)  # the last gift may be cut off


def test_the_first_name_of_a_story_receives_as_often_as_the_second():
    receivers = []
    for seed in range(200):
        doc = drawn("indirect_object", seed, 129)
        receivers += [text(doc.tokens[[s - 1]])[0] for s in doc.source[doc.asked]]
    assert set(receivers) == {"when", "and"}
    share, n = np.mean(np.array(receivers) == "when"), len(receivers)
    assert abs(share - 0.5) < 3 * 0.5 / np.sqrt(n)
    assert n > 400


def test_background_holds_no_name():
    assert all(not NAMES & set(text(drawn("background", seed, 129).tokens)) for seed in range(20))


# ----------------------------------------------------------------------------------------------------
# Mixes
# ----------------------------------------------------------------------------------------------------


def test_a_mix_draws_kinds_by_their_shares():
    rng = np.random.default_rng(0)
    drawn_kinds = [document(rng, 16, {"periodic": 3.0, "background": 1.0}).kind for _ in range(800)]
    assert abs(drawn_kinds.count("periodic") - 600) < 60
    assert set(drawn_kinds) == {"periodic", "background"}


@pytest.mark.parametrize(
    ("length", "mix", "message"),
    [
        (
            16,
            {"quiz": 1.0},
            "no kind of document 'quiz': expected background, periodic, distant, spaced, recall or indirect_object",
        ),
        (4, {"spaced": 1.0}, "no spaced document has 4 tokens: at least 5"),
        (34, {"distant": 1.0}, "no distant document has 34 tokens: at least 35"),
        (8, {"background": 1.0, "recall": 1.0}, "no recall document has 8 tokens: at least 9"),
        (15, {"indirect_object": 1.0}, "no indirect_object document has 15 tokens: at least 16"),
    ],
)
def test_a_document_that_cannot_be_drawn_is_refused(length, mix, message):
    with pytest.raises(ValueError, match=message):
        document(np.random.default_rng(0), length, mix)


# ----------------------------------------------------------------------------------------------------
# Tokenizer and folders
# ----------------------------------------------------------------------------------------------------


def test_every_word_is_one_token_and_comes_back():
    words = tokenizer(128)
    whole = " ".join(WORDS)
    assert words(whole).input_ids == list(range(FIRST_WORD, len(VOCABULARY)))
    assert words.decode(words(whole).input_ids) == whole


def test_the_tokenizer_adds_no_bos_and_reads_a_written_one():
    words = tokenizer(128)
    farmer = VOCABULARY.index("farmer")
    assert words("farmer").input_ids == [farmer]
    assert words("<bos> farmer").input_ids == [words.bos_token_id, farmer]


def test_a_word_outside_the_language_becomes_unk():
    words = tokenizer(128)
    assert words("farmer sells elephants").input_ids[-1] == words.unk_token_id == UNK_ID
    assert (words.bos_token_id, words.eos_token_id) == (BOS_ID, BOS_ID)


@pytest.fixture
def two_arms(tmp_path, monkeypatch):
    """A folder of weights with two arms, one in two seeds."""
    for name in ("gpt2@0", "gpt-neo@0", "gpt-neo@1"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text("{}")
    monkeypatch.setattr(lab_models, "LAB_FOLDER", tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("lab/gpt2", "gpt2@0"),
        ("gpt2", "gpt2@0"),
        ("Lab/GPT-Neo", "gpt-neo@0"),
        ("GPT-NEO@1", "gpt-neo@1"),
        ("lab/gpt-neo@0", "gpt-neo@0"),
    ],
)
def test_a_lab_name_leads_to_its_folder_in_any_case(name, expected, two_arms):
    assert folder(name) == two_arms / expected


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("lab/gptneo", r"no lab model 'lab/gptneo': did you mean lab/gpt-neo"),
        ("xyzzy", r"no lab model 'lab/xyzzy': there are lab/gpt-neo, lab/gpt2"),
        ("gpt2@7", r"lab/gpt2 has no seed '7': there are lab/gpt2$"),
    ],
)
def test_an_unknown_lab_name_is_refused_with_the_nearest(name, message, two_arms):
    with pytest.raises(ValueError, match=message):
        folder(name)
