"""Families of prompt pairs: every answer is found again, by rules that read the words and nothing else."""

import ast
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import neolens
from neolens.lab.language.documents import CONTENT
from neolens.lab.language.tokenizer import tokenizer as lab_tokenizer
from neolens.lab.language.words import BOS, CLASSES, VOCABULARY
from neolens.prompts.families import docstring, greater_than, indirect_object, induction, recall
from neolens.prompts.families.english import WORDS, Filler, is_one_token
from neolens.prompts.families.questions import check_arguments
from test_lab_language import by_elimination, by_induction, by_key
from test_pairs import byte_level, contents, standin

FIXED = [" The", ".", " Now", " And", " now", " so", " has", " the", " and", " went", " to", "When", ","]
YEARS = [f"{year:02d}" for year in range(100)]
SPACED = list(dict.fromkeys(f" {word}" for kind, words in WORDS.items() if kind != "century" for word in words))
PIECES = [*(f" {century}" for century in WORDS["century"]), *YEARS, *FIXED, *SPACED]

FAMILIES = {"indirect_object": indirect_object, "induction": induction, "recall": recall}
corruptions = pytest.mark.parametrize("corruption", ["swap", "other"])
families = pytest.mark.parametrize("family", FAMILIES)
few = settings(max_examples=12, deadline=None)


@pytest.fixture(scope="module")
def english():
    return standin(byte_level(PIECES), context=512)


@pytest.fixture(scope="module")
def lab():
    return standin(lab_tokenizer(128), name="lab/tiny", context=128)


def told(model, pairs):
    """Every pair as the words of its prompts without BOS, its answer and its distractor, and its places in them."""
    for number in range(len(pairs)):
        answer, distractor = (model.tokenizer.decode([tokens[number]]) for tokens in (pairs.answers, pairs.distractors))
        places = {name: int(at[number]) for name, at in pairs.positions.items()}
        yield pairs.words[number], pairs.corrupted_words[number], answer, distractor, places


def differing(clean, corrupted):
    return {at for at, (a, b) in enumerate(zip(clean, corrupted)) if a != b}


def plain(words):
    """The text of a prompt, without BOS."""
    return "".join(words[1:])


# ----------------------------------------------------------------------------------------------------
# In plain English
# ----------------------------------------------------------------------------------------------------


def receiver(text):
    """The one of the two names of a story that is not the giver's; None where the giver is a third."""
    names = "|".join(WORDS["name"])
    first, second, giver = re.findall(rf"\b({names})\b", text)
    return {first: second, second: first}.get(giver)


@corruptions
@pytest.mark.parametrize("distance", [None, 40])
def test_the_indirect_object_is_the_name_that_does_not_give(english, corruption, distance):
    pairs = indirect_object(english, 40, corruption=corruption, distance=distance)
    for clean, corrupted, answer, distractor, at in told(english, pairs):
        assert f" {receiver(plain(clean))}" == answer == clean[at["io"]]
        assert clean[at["s1"]] == clean[at["s2"]] == distractor
        assert at["s1"] != at["s2"] > max(at["io"], at["s1"])
        assert at["end"] == len(clean) - 1
        assert clean[-1] == " to"
        assert differing(clean, corrupted) == {at["s2"]}
        if corruption == "swap":
            assert f" {receiver(plain(corrupted))}" == distractor
        else:
            assert receiver(plain(corrupted)) is None
        if distance is not None:
            assert at["end"] - at["io"] == distance


def test_a_set_of_stories_has_both_orders_equally_often_and_several_templates(english):
    pairs = indirect_object(english, 72)
    assert sum((pairs.positions["io"] < pairs.positions["s1"]).tolist()) == 36
    skeletons = {
        re.sub("|".join([*WORDS["name"], *WORDS["place"], *WORDS["gift"]]), "_", plain(words)) for words in pairs.words
    }
    assert len(skeletons) == 18  # six openings, three closings
    assert len(pairs.groups()) > 1


def after_last(words):
    """What followed the last word when it stood before."""
    earlier = [at for at, word in enumerate(words[:-1]) if word == words[-1]]
    return words[earlier[-1] + 1]


@corruptions
@pytest.mark.parametrize("distance", [2, 3, 7, 8, 300])
def test_induction_says_what_followed_the_last_word_before(english, corruption, distance):
    for clean, corrupted, answer, distractor, at in told(
        english, induction(english, 12, distance=distance, corruption=corruption)
    ):
        assert after_last(clean) == answer == clean[at["source"]]
        assert clean[at["previous"]] == clean[at["query"]]
        assert (at["query"] - at["source"], at["source"] - at["previous"]) == (distance, 1)
        assert at["query"] == len(clean) - 1
        segment = clean[1 : at["source"] + 1]
        assert len(segment) == len(set(segment)) == min(8, distance + 1)
        assert distractor in set(segment) - {answer, clean[at["query"]]}
        if corruption == "swap":
            assert after_last(corrupted) == distractor
            assert sorted(corrupted) == sorted(clean)
        else:
            assert after_last(corrupted) not in clean
            assert differing(clean, corrupted) == {at["source"]}


@corruptions
@pytest.mark.parametrize("distance", [*range(4, 30), 301])
def test_recall_says_what_the_one_asked_for_has(english, corruption, distance):
    def values(words):
        return dict(re.findall(r"(\w+) has the (\w+)\.", plain(words)))

    for clean, corrupted, answer, distractor, at in told(
        english, recall(english, 6, distance=distance, corruption=corruption)
    ):
        asked = clean[at["key"]].strip()
        assert re.search(r"(\w+) has the$", plain(clean))[1] == asked
        assert f" {values(clean)[asked]}" == answer == clean[at["source"]]
        assert at["query"] - at["source"] == distance
        assert at["query"] == len(clean) - 1
        assert len(values(clean)) == len(set(values(clean).values())) == 4
        assert distractor.strip() in set(values(clean).values()) - {answer.strip()}
        if corruption == "swap":
            assert f" {values(corrupted)[asked]}" == distractor
            assert sorted(corrupted) == sorted(clean)
        else:
            assert f" {values(corrupted)[asked]}" not in clean
            assert differing(clean, corrupted) == {at["source"]}


def test_every_fact_is_asked_where_the_distance_allows_it(english):
    """Five tokens a fact, and four from the last one's value to the end: all four from 4 + 3 * 5 = 19 on."""
    for distance, facts in ((18, 3), (19, 4)):
        keys = recall(english, 60, distance=distance).positions["key"].tolist()
        assert len(set(keys)) == facts


def test_greater_than_is_answered_by_a_later_year_only(english):
    pairs = greater_than(english, 60)
    pattern = r"The (\w+) lasted from the year (\d\d)(\d\d) to the year (\d\d)$"
    for clean, corrupted, answer, distractor, at in told(english, pairs):
        event, century, year, again = re.fullmatch(pattern, plain(clean)).groups()
        assert century == again
        assert 1 < int(distractor) < int(year) < int(answer)
        assert [clean[at[name]] for name in ("noun", "xx", "yy", "end")] == [
            f" {event}",
            f" {century}",
            year,
            f" {again}",
        ]
        assert at["end"] == len(clean) - 1
        assert differing(clean, corrupted) == {at["yy"]}
        assert corrupted[at["yy"]] == "01"


@corruptions
def test_a_docstring_goes_on_with_the_third_argument(english, corruption):
    """Python itself reads the function, the answer put in."""
    for clean, corrupted, answer, distractor, at in told(english, docstring(english, 20, corruption=corruption)):
        function = ast.parse(plain(clean) + answer + '"""').body[0]
        arguments = [argument.arg for argument in function.args.args]
        assert arguments[0] == "self"
        assert re.findall(r":param (\w+)", ast.get_docstring(function)) == arguments[1:4]
        assert [answer, distractor] == [f" {argument}" for argument in arguments[3:5]]
        named = ("a_def", "b_def", "c_def", "d_def", "a_doc", "b_doc")
        expected = [f" {argument}" for argument in (*arguments[1:5], *arguments[1:3])]
        assert [clean[at[name]] for name in named] == expected
        assert at["a_def"] < at["b_def"] < at["c_def"] < at["d_def"] < at["a_doc"] < at["b_doc"]
        assert at["end"] == len(clean) - 1
        changed = {at["c_def"], at["d_def"]} if corruption == "swap" else {at["c_def"]}
        assert differing(clean, corrupted) == changed
        assert (corrupted[at["c_def"]] == distractor) == (corruption == "swap")
        assert answer not in corrupted or corruption == "swap"


@few
@given(st.integers(0, 60), st.integers(0, 10**6))
def test_filler_has_exactly_the_tokens_asked_for_and_none_of_the_words_that_are_asked(english, tokens, seed):
    tokenizer = english.tokenizer
    text = "".join(Filler(tokenizer)(np.random.default_rng(seed), tokens))
    assert len(tokenizer(text)["input_ids"]) == tokens
    assert not set(text.replace(".", "").split()) & {*WORDS["name"], *WORDS["stuff"], *WORDS["gift"], *WORDS["place"]}
    assert tokens < 4 or text.count(".") == text.count(" The") > 0


# ----------------------------------------------------------------------------------------------------
# In the lab's language
# ----------------------------------------------------------------------------------------------------

RULES = {"indirect_object": by_elimination, "induction": by_induction, "recall": by_key}
NEAREST = {"indirect_object": 10, "induction": 2, "recall": 3}


@families
@corruptions
@pytest.mark.parametrize("distance", [None, "nearest", 30])
def test_the_rules_of_the_language_find_the_answer_and_in_the_swapped_prompt_the_distractor(
    lab, family, corruption, distance
):
    chosen = {None: {}, "nearest": {"distance": NEAREST[family]}, 30: {"distance": 30}}[distance]
    for clean, corrupted, answer, distractor, at in told(
        lab, FAMILIES[family](lab, 12, corruption=corruption, **chosen)
    ):
        assert clean.count(BOS) == 1
        assert RULES[family](list(clean)) == answer
        source, query = (at["io"], at["end"]) if family == "indirect_object" else (at["source"], at["query"])
        assert clean[source] == answer
        assert query == len(clean) - 1
        assert query - source == (chosen or {"distance": 12})["distance"]
        if corruption == "swap":
            assert RULES[family](list(corrupted)) == distractor
        else:
            (changed,) = differing(clean, corrupted)
            assert changed == (at["s2"] if family == "indirect_object" else source)
            assert corrupted[changed] not in clean
            kind = CLASSES[{"indirect_object": "name", "recall": "object"}.get(family, "name")]
            allowed = [VOCABULARY[token] for token in CONTENT] if family == "induction" else kind
            assert corrupted[changed] in allowed


def test_the_labs_names_of_places_are_the_fields(lab):
    for clean, _, answer, distractor, at in told(lab, indirect_object(lab, 20)):
        assert set(at) == {"io", "s1", "s2", "end"}
        assert [clean[at[name]] for name in ("io", "s1", "s2", "end")] == [answer, distractor, distractor, "to"]
    for clean, _, _, _, at in told(lab, recall(lab, 20)):
        assert set(at) == {"key", "source", "query"}
        assert clean[at["key"]] == clean[at["query"]]
    for clean, _, _, _, at in told(lab, induction(lab, 20)):
        assert set(at) == {"previous", "source", "query"}
        assert clean[at["previous"]] == clean[at["query"]]


def test_no_place_in_the_prompt_tells_the_labs_answer(lab):
    assert all(
        len(set(FAMILIES[family](lab, 60).positions[name].tolist())) >= 5
        for family, name in (("indirect_object", "io"), ("induction", "source"), ("recall", "source"))
    )


@families
def test_a_trained_network_of_the_lab_gives_the_answer_and_in_the_swapped_prompt_the_distractor(family):
    model = neolens.load("lab/pythia")
    pairs = FAMILIES[family](model, 12)
    for number in range(len(pairs)):
        clean, corrupted = (side[number][None] for side in (pairs.clean, pairs.corrupted))
        assert model(clean)[0, -1].argmax() == pairs.answers[number]
        assert model(corrupted)[0, -1].argmax() == pairs.distractors[number]


# ----------------------------------------------------------------------------------------------------
# Any family
# ----------------------------------------------------------------------------------------------------

ALL = [(family, language) for family in FAMILIES for language in ("english", "lab")]
ALL += [("greater_than", "english"), ("docstring", "english")]
every = pytest.mark.parametrize(("family", "language"), ALL)


def ask(family, model, *args, **kwargs):
    return {**FAMILIES, "greater_than": greater_than, "docstring": docstring}[family](model, *args, **kwargs)


@every
def test_no_prompt_stands_twice_and_more_of_them_begin_with_the_same(family, language, request):
    model = request.getfixturevalue(language)
    many, fewer, other = ask(family, model, 60), ask(family, model, 25), ask(family, model, 25, seed=1)
    assert len(set(many.words)) == 60
    assert contents(many[:25]) == contents(fewer)
    assert contents(fewer) == contents(ask(family, model, 25, seed=0))
    assert set(fewer.words) != set(other.words)


@every
def test_the_clean_prompts_are_the_same_for_both_corruptions(family, language, request):
    if family == "greater_than":
        return
    model = request.getfixturevalue(language)
    one, two = (ask(family, model, 20, corruption=corruption) for corruption in ("swap", "other"))
    assert one.words == two.words
    assert contents(one)[2:5] == contents(two)[2:5]


def without(*left_out, kind):
    """A tokenizer that has only some words of a kind as one token."""
    kept = [f" {word}" for word in WORDS[kind] if word not in left_out]
    gone = {f" {word}" for word in WORDS[kind]} - set(kept)
    return standin(byte_level([piece for piece in PIECES if piece not in gone]), context=512)


def test_names_of_several_tokens_are_left_out():
    model = without("Mary", "Paul", "Lucy", kind="name")
    names = {
        words[int(at)]
        for pairs in [indirect_object(model, 200)]
        for words, at in zip(pairs.words, pairs.positions["io"])
    }
    assert not is_one_token(model.tokenizer, " Mary")
    assert names
    assert not names & {" Mary", " Paul", " Lucy"}


def test_a_set_of_all_there_are_is_drawn_and_one_more_refused():
    """Two events; 96 years from 03 to 98, in each of eight centuries."""
    model = without(*WORDS["event"][2:], kind="event")
    assert len(set(greater_than(model, 2 * 8 * 96).words)) == 1536
    with pytest.raises(
        ValueError, match="1537 greater-than prompts: there are 1536 different ones with this tokenizer"
    ):
        greater_than(model, 1537)


REFUSED = [
    (
        "indirect_object",
        "english",
        dict(corruption="swop"),
        "no corruption 'swop': did you mean swap? expected swap or",
    ),
    ("recall", "lab", dict(prompts=0), "prompts 0: expected a whole number of at least 1"),
    ("recall", "lab", dict(seed=-1), "seed -1: expected a whole number of at least 0"),
    ("recall", "lab", dict(distance=0), "distance 0: expected a whole number of at least 1"),
    ("induction", "english", dict(distance=1), "induction at distance 1: it can be asked at 2 and more"),
    (
        "induction",
        "lab",
        dict(distance=1),
        "induction at distance 1: in the model's 128 positions it can be asked at 2 to 118",
    ),
    ("recall", "english", dict(distance=3), "recall at distance 3: it can be asked at 4 and more"),
    (
        "recall",
        "lab",
        dict(distance=2),
        "recall at distance 2: in the model's 128 positions it can be asked at 3 to 111",
    ),
    (
        "recall",
        "lab",
        dict(distance=112),
        "recall at distance 112: in the model's 128 positions it can be asked at 3 to",
    ),
    ("indirect_object", "lab", dict(distance=9), "in the model's 128 positions it can be asked at 10 to 122"),
    ("recall", "english", dict(distance=600), "tokens: tiny has 512 positions; shorten them"),
    (
        "greater_than",
        "lab",
        {},
        "lab/tiny speaks the lab's language, which has no numbers, so greater_than does not fit",
    ),
    ("docstring", "lab", {}, "lab/tiny speaks the lab's language, which has no Python, so docstring does not fit it"),
]


@pytest.mark.parametrize(("family", "language", "arguments", "message"), REFUSED, ids=[row[-1] for row in REFUSED])
def test_what_a_family_cannot_ask_is_refused(family, language, arguments, message, request):
    with pytest.raises(ValueError, match=re.escape(message)):
        ask(family, request.getfixturevalue(language), **arguments)


def test_the_nearest_distance_of_a_story_is_said_and_can_be_asked(english):
    with pytest.raises(ValueError, match="indirect object at distance 3: it can be asked at (.*) and more") as refused:
        indirect_object(english, distance=3)
    nearest = int(re.search(r"asked at (\d+)", str(refused.value))[1])
    pairs = indirect_object(english, 40, distance=nearest)
    assert set((pairs.positions["end"] - pairs.positions["io"]).tolist()) == {nearest}
    with pytest.raises(ValueError, match=f"at distance {nearest - 1}"):
        indirect_object(english, distance=nearest - 1)


@pytest.mark.parametrize("value", [2.0, True, "8", None])
def test_numbers_that_are_not_whole_are_refused(value):
    with pytest.raises(TypeError, match=re.escape(f"prompts {value!r}: expected a whole number of at least 1")):
        check_arguments("swap", value, 0, True)


UNFIT = [
    (indirect_object, "name", WORDS["name"][2:], "2 of 54 candidates for name (such as ' Mary') are one token"),
    (induction, "noun", WORDS["noun"], "1 of 113 candidates for noun (such as ' stone') are one token"),
    (recall, "verb", WORDS["verb"], "0 of 11 candidates for verb (such as ' slept') are one token"),
]


@pytest.mark.parametrize(("family", "kind", "gone", "message"), UNFIT, ids=[row[-1] for row in UNFIT])
def test_a_tokenizer_with_too_few_words_of_one_token_is_refused_with_the_number(family, kind, gone, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        family(without(*gone, kind=kind))


def test_a_tokenizer_that_does_not_split_years_is_refused():
    model = standin(byte_level([piece for piece in PIECES if piece not in YEARS]))
    with pytest.raises(ValueError, match=r"does not split years such as ' 1732' into ' 17' and '32'"):
        greater_than(model)


def test_a_tokenizer_that_joins_words_is_refused():
    tokenizer = byte_level(PIECES)
    tokenizer.add_tokens([f" and {name}" for name in WORDS["name"]])
    with pytest.raises(ValueError, match="the tokenizer of this model joins words of 'When"):
        indirect_object(standin(tokenizer))


@families
def test_a_model_without_a_tokenizer_is_refused(family):
    with pytest.raises(ValueError, match="the model has no tokenizer, so it takes no text"):
        FAMILIES[family](standin(None))


@pytest.mark.parametrize("language", ["english", "lab"])
@pytest.mark.parametrize("family", [indirect_object, induction, recall, greater_than, docstring])
def test_without_bos_the_prompts_are_the_same_but_for_their_first_token(family, language, request):
    model = request.getfixturevalue(language)
    if language == "lab" and family in (greater_than, docstring):
        pytest.skip("not in the lab's language")
    whole, rest = (family(model, 6, seed=3, prepend_bos=prepend) for prepend in (True, False))
    for number in range(6):
        assert whole.clean[number].tolist() == [model.tokenizer.bos_token_id, *rest.clean[number].tolist()]
        assert whole.corrupted[number][1:].tolist() == rest.corrupted[number].tolist()
    assert {name: (at - 1).tolist() for name, at in whole.positions.items()} == {
        name: at.tolist() for name, at in rest.positions.items()
    }
    assert whole.answers.tolist() == rest.answers.tolist()
