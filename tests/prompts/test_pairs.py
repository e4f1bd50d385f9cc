"""Prompt pairs: what is given is what is kept, and every bad pair is refused by its number."""

import pickle
import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from neolens.lab.language.tokenizer import tokenizer as lab_tokenizer
from neolens.prompts.pairs import PromptPairs
from neolens.prompts.tokenizing import vocabulary_fingerprint

many = settings(max_examples=25, deadline=None)

CLEAN, CORRUPTED = "When Mary and John went, John gave to", "When Mary and John went, Mary gave to"


def byte_level(pieces, *, bos="<|endoftext|>", size=5000):
    """A tokenizer like GPT-2's in which each of the pieces is one token; the first pieces win where they compete."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=size, special_tokens=[bos], initial_alphabet=alphabet, show_progress=False)
    backend.train_from_iterator([piece for n, piece in enumerate(reversed(pieces)) for _ in range(2 + n)], trainer)
    return PreTrainedTokenizerFast(tokenizer_object=backend, bos_token=bos, eos_token=bos, unk_token=bos)


def standin(tokenizer, *, name="tiny", context=64, d_vocab=None):
    """What `from_text` needs of a model."""
    d_vocab = d_vocab or (len(tokenizer) if tokenizer else 61)
    return SimpleNamespace(tokenizer=tokenizer, anatomy=SimpleNamespace(name=name, context=context, d_vocab=d_vocab))


WORDS = [" Mary", " John", "Mary", " and", " went", " gave", " to", "When", ",", " 17", "32", "to"]


@pytest.fixture(scope="module")
def model():
    return standin(byte_level(WORDS))


@pytest.fixture(scope="module")
def lab():
    return standin(lab_tokenizer(128), name="lab/tiny", context=128)


@st.composite
def any_pairs(draw):
    """Token lists of several lengths, and what else belongs to a set."""
    lengths, rng = draw(st.lists(st.integers(1, 7), min_size=1, max_size=8)), draw(st.randoms(use_true_random=False))
    clean = [[rng.randrange(10) for _ in range(length)] for length in lengths]
    corrupted = [list(prompt) for prompt in clean]
    for prompt in corrupted:
        for at in rng.sample(range(len(prompt)), rng.randint(1, len(prompt))):
            prompt[at] = (prompt[at] + rng.randint(1, 9)) % 10
    answers = [rng.randrange(10) for _ in clean]
    distractors = [(answer + rng.randint(1, 9)) % 10 for answer in answers]
    places = [rng.randrange(-length, length) for length in lengths]
    return clean, corrupted, answers, distractors, places


def made(drawn, dtype=torch.int64):
    clean, corrupted, answers, distractors, places = drawn
    tensors = [[torch.tensor(prompt, dtype=dtype) for prompt in side] for side in (clean, corrupted)]
    return PromptPairs.from_tokens(*tensors, answers, distractors, {"here": places})


def contents(pairs):
    """A set of pairs as plain lists."""
    return (
        [prompt.tolist() for prompt in pairs.clean],
        [prompt.tolist() for prompt in pairs.corrupted],
        pairs.answers.tolist(),
        None if pairs.distractors is None else pairs.distractors.tolist(),
        {name: at.tolist() for name, at in pairs.positions.items()},
        pairs.words,
        pairs.corrupted_words,
        pairs.vocabulary,
    )


# ----------------------------------------------------------------------------------------------------
# From tokens
# ----------------------------------------------------------------------------------------------------


@many
@given(any_pairs(), st.sampled_from([torch.int64, torch.int32]))
def test_what_is_given_as_tokens_is_kept(drawn, dtype):
    clean, corrupted, answers, distractors, places = drawn
    pairs = made(drawn, dtype)
    at = [place % len(prompt) for place, prompt in zip(places, clean)]
    assert contents(pairs) == (clean, corrupted, answers, distractors, {"here": at}, None, None, None)
    assert [prompt[i] for prompt, i in zip(clean, at)] == [prompt[i] for prompt, i in zip(clean, places)]
    assert {prompt.dtype for prompt in (*pairs.clean, *pairs.corrupted, pairs.answers)} == {torch.int64}


def test_a_tensor_of_prompts_is_the_list_of_its_rows():
    clean, corrupted = torch.arange(12).view(3, 4), torch.arange(12).view(3, 4) + 1
    answers, place = torch.tensor([1, 2, 3]), {"end": torch.tensor([-1, -1, 3])}
    one = PromptPairs.from_tokens(clean, corrupted, answers, positions=place)
    two = PromptPairs.from_tokens(list(clean), tuple(corrupted), [1, 2, 3], positions={"end": np.array([3, 3, 3])})
    assert contents(one) == contents(two)
    assert one.distractors is None


@many
@given(any_pairs())
def test_the_groups_share_out_the_pairs_by_length(drawn):
    groups = made(drawn).groups()
    lengths = [len(prompt) for prompt in drawn[0]]
    assert sorted(number for numbers in groups.values() for number in numbers) == list(range(len(lengths)))
    assert all(lengths[number] == length for length, numbers in groups.items() for number in numbers)
    assert list(groups) == sorted(groups)


@many
@given(any_pairs())
def test_the_first_difference_is_where_a_loop_finds_it(drawn):
    expected = []
    for clean, corrupted in zip(drawn[0], drawn[1]):
        at = 0
        while clean[at] == corrupted[at]:
            at += 1
        expected.append(at)
    assert made(drawn).first_difference.tolist() == expected


@many
@given(any_pairs())
def test_swapped_exchanges_the_prompts_alone_and_twice_is_the_same(drawn):
    clean, corrupted, *rest = drawn
    pairs = made(drawn)
    assert contents(pairs.swapped()) == contents(made((corrupted, clean, *rest)))
    assert contents(pairs.swapped().swapped()) == contents(pairs)


@many
@given(any_pairs(), st.data())
def test_a_subset_is_that_of_the_lists(drawn, data):
    pairs, count = made(drawn), len(drawn[0])
    numbers = data.draw(st.lists(st.integers(-count, count - 1), min_size=1, max_size=5))
    for chosen in (numbers, tuple(numbers), torch.tensor(numbers), np.array(numbers)):
        assert contents(pairs[chosen]) == contents(made([[part[n] for n in numbers] for part in drawn]))
    first = data.draw(st.integers(0, count - 1))
    assert contents(pairs[first:]) == contents(made([part[first:] for part in drawn]))
    assert contents(pairs[first]) == contents(made([part[first : first + 1] for part in drawn]))
    assert [contents(pair) for pair in pairs] == [contents(pairs[n]) for n in range(count)]


@many
@given(any_pairs())
def test_a_set_survives_pickling(drawn):
    assert contents(pickle.loads(pickle.dumps(made(drawn)))) == contents(made(drawn))


def test_what_happens_later_to_the_callers_tensors_changes_nothing():
    clean, corrupted, answers = torch.zeros(2, 3, dtype=torch.long), torch.ones(2, 3, dtype=torch.long), torch.ones(2)
    answers = answers.long()
    pairs = PromptPairs.from_tokens(clean, corrupted, answers)
    clean += 5
    answers += 5
    assert [prompt.tolist() for prompt in pairs.clean] == [[0, 0, 0], [0, 0, 0]]
    assert pairs.answers.tolist() == [1, 1]


def test_a_set_says_how_large_it_is_and_what_has_a_name():
    rows = [torch.tensor([1, 2]), torch.tensor([3, 4, 5])]
    pairs = PromptPairs.from_tokens(rows, [row + 1 for row in rows], [7, 7], positions={"io": [0, 0], "end": [-1, -1]})
    assert repr(pairs) == "PromptPairs(2 of 2 to 3 tokens, positions io, end)"
    assert pairs.lengths == (2, 3)


ROWS = [[1, 2, 3], [4, 5]]
OTHER = [[1, 9, 3], [4, 6]]


def tensors(rows):
    return [torch.tensor(row) for row in rows]


# What is wrong, and what is said. Everything else in a call is right.
TOKEN_ERRORS = [
    (dict(clean=[], corrupted=[], answers=[]), ValueError, "there is no pair: the clean prompts are"),
    (dict(corrupted=tensors(OTHER[:1])), ValueError, "there are 2 clean and 1 corrupted prompts"),
    (dict(clean=torch.tensor([1, 2])), ValueError, "the clean prompts have shape (2,): expected [prompt, pos]"),
    (dict(clean="Mary"), TypeError, "the clean prompts are 'Mary': expected a tensor [prompt, pos] or a list"),
    (dict(corrupted=np.ones((2, 3))), TypeError, "the corrupted prompts are ndarray of shape (2, 3)"),
    (
        dict(clean=["Mary", "John"]),
        TypeError,
        "the clean prompt of pair 0 is 'Mary': expected a one-dimensional tensor",
    ),
    (dict(clean=ROWS), TypeError, "the clean prompt of pair 0 is [1, 2, 3]"),
    (
        dict(corrupted=[torch.tensor([1, 9, 3]), torch.tensor([4.0, 6.0])]),
        TypeError,
        "pair 1 is Tensor of shape (2,)",
    ),
    (
        dict(corrupted=torch.ones(2, 3)),
        TypeError,
        "the corrupted prompt of pair 0 is Tensor of shape (3,) and dtype fl",
    ),
    (
        dict(clean=torch.ones(2, 3, dtype=torch.bool)),
        TypeError,
        "dtype bool: expected a one-dimensional tensor of tokens",
    ),
    (
        dict(clean=tensors([[1, 2, 3], [4, 5, 6]])),
        ValueError,
        "pair 1: the clean prompt has 3 tokens and the corrupted one",
    ),
    (dict(clean=tensors([[1, 2, 3], [4, 5, 6]])), ValueError, "2, and they part at position 1: expected as many"),
    (
        dict(corrupted=tensors([[1, 9, 3], [4, 5]])),
        ValueError,
        "pair 1: the clean and the corrupted prompt are the same 2",
    ),
    (
        dict(corrupted=tensors([[1, 9, 3], [4, -6]])),
        ValueError,
        "pair 1: the corrupted prompt holds -6: expected tokens",
    ),
    (
        dict(clean=tensors([[1, 2, 3], []]), corrupted=tensors([[1, 9, 3], []])),
        TypeError,
        "pair 1 is Tensor of shape (0",
    ),
    (dict(answers=[7]), ValueError, "there are 1 answers for 2 pairs: expected one each"),
    (dict(answers=[7, -1]), ValueError, "the answer of pair 1 is -1: expected a whole number of at least 0"),
    (dict(answers=[7, [8, 9]]), ValueError, "the answer of pair 1 is 2 tokens: expected one"),
    (dict(answers=torch.ones(2, 2).long()), ValueError, "the answers have shape (2, 2): expected [prompt]"),
    (
        dict(answers=torch.ones(2)),
        TypeError,
        "the answers are Tensor of shape (2,) and dtype float32: expected tokens, int64 or int32",
    ),
    (dict(answers=[7, 8.0]), TypeError, "the answer of pair 1 is 8.0: expected a whole number"),
    (dict(answers=[7, " Mary"]), TypeError, "the answer of pair 1 is ' Mary': expected a whole number"),
    (dict(answers=7), TypeError, "the answers are 7: expected a list of one item per prompt"),
    (dict(distractors=[1]), ValueError, "there are 1 distractors for 2 pairs"),
    (dict(distractors=[1, 8]), ValueError, "pair 1: answer and distractor are both token 8"),
    (dict(distractors=[1, True]), TypeError, "the distractor of pair 1 is True: expected a whole number"),
    (dict(positions={"io": [0]}), ValueError, "there are 1 places of position 'io' for 2 pairs: expected one each"),
    (
        dict(positions={"io": [0, None]}),
        TypeError,
        "position 'io' of pair 1 is None: expected a whole number; give an index",
    ),
    (
        dict(positions={"io": [0, "Mary"]}),
        TypeError,
        "position 'io' of pair 1 is 'Mary': expected a whole number; give an index",
    ),
    (dict(positions={"io": [0, 2]}), ValueError, "position 'io' of pair 1 is 2: expected 0 to 1, or -2 to -1"),
    (dict(positions={"io": [-4, 0]}), ValueError, "position 'io' of pair 0 is -4: expected 0 to 2, or -3 to -1"),
    (dict(positions={"io": "Mary"}), TypeError, "the places of position 'io' are 'Mary': expected a list"),
    (dict(positions={3: [0, 0]}), TypeError, "a position is named 3: expected a string"),
    (dict(positions=[0, 0]), TypeError, "positions are [0, 0]: expected a mapping"),
]


@pytest.mark.parametrize(("wrong", "kind", "message"), TOKEN_ERRORS, ids=[message for *_, message in TOKEN_ERRORS])
def test_wrong_tokens_are_refused_by_the_number_of_the_pair(wrong, kind, message):
    right = dict(clean=tensors(ROWS), corrupted=tensors(OTHER), answers=[7, 8], distractors=None, positions=None)
    with pytest.raises(kind, match=re.escape(message)):
        PromptPairs.from_tokens(**{**right, **wrong})


def test_empty_prompts_are_refused():
    rows = [torch.tensor([1, 2]), torch.empty(0, dtype=torch.long)]
    with pytest.raises(ValueError, match="pair 1: the clean prompt is empty"):
        PromptPairs.from_tokens(rows, [rows[0] + 1, rows[1]], [1, 1])


@pytest.mark.parametrize(
    ("chosen", "kind", "message"),
    [
        ([0, 2], IndexError, "no pair 2: pairs are 0 to 1"),
        (-3, IndexError, "no pair -3: pairs are 0 to 1"),
        ([True, False], TypeError, "index of pairs True: expected a whole number"),
        ("io", TypeError, "index of pairs 'io'"),
        (slice(2, 2), ValueError, "there is no pair"),
        ([], ValueError, "there is no pair"),
    ],
)
def test_a_subset_that_is_not_there_is_refused(chosen, kind, message):
    pairs = PromptPairs.from_tokens(tensors(ROWS), tensors(OTHER), [7, 8])
    with pytest.raises(kind, match=message):
        pairs[chosen]


# ----------------------------------------------------------------------------------------------------
# From text
# ----------------------------------------------------------------------------------------------------


def test_text_becomes_tokens_with_bos_and_the_words_of_both_prompts(model):
    positions = {"io": ["Mary"], "s1": [" and John"], "s2": [", John"], "end": [-1], "first": [1]}
    pairs = PromptPairs.from_text(model, [CLEAN], [CORRUPTED], [" Mary"], [" John"], positions)
    words = ("<|endoftext|>", "When", " Mary", " and", " John", " went", ",", " John", " gave", " to")
    assert pairs.words == (words,)
    assert pairs.corrupted_words == ((*words[:7], " Mary", *words[8:]),)
    assert model.tokenizer.decode(pairs.clean[0]) == "<|endoftext|>" + CLEAN
    assert model.tokenizer.convert_ids_to_tokens([int(pairs.answers), int(pairs.distractors)]) == ["ĠMary", "ĠJohn"]
    # counted by hand in `words`
    assert {name: at.tolist() for name, at in pairs.positions.items()} == {
        **{"io": [2], "s1": [4], "s2": [7]},
        **{"end": [9], "first": [1]},
    }
    assert pairs.vocabulary == vocabulary_fingerprint(model.tokenizer)
    assert pairs.swapped().words == pairs.corrupted_words


def test_without_bos_every_position_is_one_lower(model):
    pairs = PromptPairs.from_text(
        model, [CLEAN], [CORRUPTED], [" Mary"], positions={"s2": [", John"]}, prepend_bos=False
    )
    assert pairs.words[0][:2] == ("When", " Mary")
    assert pairs.positions["s2"].tolist() == [6]


def test_bos_written_once_in_the_text_is_taken_as_it_stands(model):
    texts = [["<|endoftext|>" + text] for text in (CLEAN, CORRUPTED)]
    written = PromptPairs.from_text(model, *texts, [" Mary"], positions={"io": ["Mary"]}, prepend_bos=False)
    put = PromptPairs.from_text(model, [CLEAN], [CORRUPTED], [" Mary"], positions={"io": ["Mary"]})
    assert contents(written) == contents(put)


def test_the_position_of_a_text_is_that_of_its_last_token_even_inside_a_character(model):
    """No merge of the tiny tokenizer joins bytes: BOS, na, three bytes to a kanji, two to an ï."""
    texts = ["naïve 日本 to", "naïve 日本 and"]
    pairs = PromptPairs.from_text(model, texts[:1], texts[1:], [" Mary"], positions={"word": ["ïve"], "sun": ["日"]})
    tokens = [model.tokenizer.convert_ids_to_tokens(int(token)) for token in pairs.clean[0]]
    assert tokens[: int(pairs.positions["word"]) + 1][-4:] == ["Ã", "¯", "v", "e"]
    assert bytes("naïve 日", "utf8") == b"".join(
        [bytes(map(_byte, token)) for token in tokens[1 : int(pairs.positions["sun"]) + 1]]
    )


def _byte(letter):
    """The byte that a letter of the byte-level alphabet stands for: what is no visible Latin letter is moved up."""
    visible = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [byte for byte in range(256) if byte not in visible]
    return ord(letter) if ord(letter) < 256 else hidden[ord(letter) - 256]


def test_an_answer_may_be_what_a_number_goes_on_with(model):
    texts = ["When Mary 1732 to 17", "When John 1732 to 17"]
    pairs = PromptPairs.from_text(model, texts[:1], texts[1:], ["32"])
    assert model.tokenizer.decode(pairs.answers) == "32"


@pytest.mark.parametrize("space", ["", " "])
def test_where_spaces_mean_nothing_an_answer_needs_none(lab, space):
    texts = ["when Mary and John went", "when Mary and Anna went"]
    pairs = PromptPairs.from_text(lab, texts[:1], texts[1:], [f"{space}to"], positions={"second": ["John"]})
    assert pairs.words == (("<bos>", "when", "Mary", "and", "John", "went"),)
    assert lab.tokenizer.decode(pairs.answers) == "to"
    assert pairs.positions["second"].tolist() == [4]


def test_a_long_text_is_not_warned_about_nor_cut(model, recwarn):
    long = standin(byte_level(WORDS), context=3000)
    long.tokenizer.model_max_length = 10
    pairs = PromptPairs.from_text(long, ["When" + " and" * 2500], ["When" + " and" * 2499 + " to"], [" to"])
    assert pairs.lengths == (2502,)
    assert not recwarn.list


TEXT_ERRORS = [
    (dict(clean=CLEAN), TypeError, "the clean prompts are 'When Mary and John went, John gave to': expected a list"),
    (dict(clean=[[1, 2]]), TypeError, "the clean prompt of pair 0 is [1, 2]: expected a string"),
    (dict(corrupted=[""]), ValueError, "the corrupted prompt of pair 0 is '', which has no tokens"),
    (dict(clean=[CLEAN] * 2, answers=[" Mary"] * 2), ValueError, "there are 2 clean and 1 corrupted prompts"),
    (dict(answers=[" Mary"] * 2), ValueError, "there are 2 answers for 1 pairs: expected one each"),
    (dict(distractors=[]), ValueError, "there are 0 distractors for 1 pairs: expected one each"),
    (
        dict(corrupted=["When Mary and Zed went, John gave to"]),
        ValueError,
        "part at position 4 (' John' and ' '): expected",
    ),
    (dict(corrupted=[CLEAN]), ValueError, "pair 0: the clean and the corrupted prompt are the same 10 tokens"),
    (dict(clean=["<|endoftext|>" + CLEAN]), ValueError, "the clean prompt of pair 0 begins with <|endoftext|> twice"),
    (
        dict(answers=[7]),
        TypeError,
        "the answer of pair 0 is 7: expected a string; PromptPairs.from_tokens takes tokens",
    ),
    (dict(answers=[""]), ValueError, "the answer of pair 0 is '', which is 0 tokens (): expected one"),
    (
        dict(answers=[" Zed"]),
        ValueError,
        "is ' Zed', which is 4 tokens (' ', 'Z', 'e', 'd'): expected one; choose a word",
    ),
    (dict(answers=["John"]), ValueError, "expected one; with a leading space it is one token: ' John'"),
    (
        dict(answers=["Mary"]),
        ValueError,
        "the answer of pair 0 is 'Mary', which does not follow its prompt as a word of",
    ),
    (dict(answers=["Mary"]), ValueError, "(together they end ' gave', ' to', 'Mary'): with a leading space it is one"),
    (dict(answers=[" Mary"], distractors=[" Mary"]), ValueError, "pair 0: answer and distractor are both token"),
    (dict(distractors=["John"]), ValueError, "the distractor of pair 0 is 'John', which is"),
    (
        dict(clean=[CLEAN + " "], corrupted=[CORRUPTED + " "]),
        ValueError,
        "take the space from the end of the prompt and",
    ),
    (
        dict(positions={"io": ["Anna"]}),
        ValueError,
        "position 'io' of pair 0 is 'Anna', which is not in the clean prompt",
    ),
    (
        dict(positions={"s": ["John"]}),
        ValueError,
        "position 's' of pair 0 is 'John', which stands 2 times in the prompt",
    ),
    (
        dict(positions={"io": ["Mar"]}),
        ValueError,
        "position 'io' of pair 0 is 'Mar', which is only a part of tokens in",
    ),
    (
        dict(positions={"io": ["ary"]}),
        ValueError,
        "position 'io' of pair 0 is 'ary', which is only a part of tokens in",
    ),
    (dict(positions={"io": [" "]}), ValueError, "position 'io' of pair 0 is ' ': expected a text with some characters"),
    (
        dict(positions={"io": [1.5]}),
        TypeError,
        "position 'io' of pair 0 is 1.5: expected a whole number; give an index or a text",
    ),
    (
        dict(positions={"io": [None]}),
        TypeError,
        "position 'io' of pair 0 is None: expected a whole number; give an index or a text",
    ),
    (dict(positions={"io": []}), ValueError, "there are 0 places of position 'io' for 1 pairs"),
    (dict(positions={"end": [10]}), ValueError, "position 'end' of pair 0 is 10: expected 0 to 9, or -10 to -1"),
    (dict(model=standin(None)), ValueError, "the model has no tokenizer, so it takes no text"),
]


@pytest.mark.parametrize(("wrong", "kind", "message"), TEXT_ERRORS, ids=[message for *_, message in TEXT_ERRORS])
def test_wrong_text_is_refused_by_the_number_of_the_pair(model, wrong, kind, message):
    right = dict(model=model, clean=[CLEAN], corrupted=[CORRUPTED], answers=[" Mary"])
    with pytest.raises(kind, match=re.escape(message)):
        PromptPairs.from_text(**{**right, **wrong})


@pytest.mark.parametrize("answer", ["Mary", " Mary"])
def test_a_space_at_the_end_of_a_prompt_is_refused_whatever_the_answers(model, answer):
    with pytest.raises(ValueError, match="take the space from the end of the prompt and give the answer as ' Mary'"):
        PromptPairs.from_text(model, [CLEAN + " "], [CORRUPTED + " "], [answer])


def test_a_word_outside_the_vocabulary_is_refused_by_name(lab):
    with pytest.raises(
        ValueError, match="the corrupted prompt of pair 0 holds 'Zebedee' that the tokenizer does not know"
    ):
        PromptPairs.from_text(lab, ["when Mary"], ["when Zebedee"], [" and"])
    with pytest.raises(ValueError, match="the answer of pair 0 holds 'zebra' that the tokenizer does not know"):
        PromptPairs.from_text(lab, ["when Mary"], ["when John"], [" zebra"])


def test_a_tokenizer_without_offsets_takes_indices_only():
    class Slow:
        is_fast = False

        def __init__(self):
            self.inner = byte_level(WORDS)

        def __getattr__(self, name):
            return getattr(self.inner, name)

        def __len__(self):
            return len(self.inner)

        def __call__(self, *args, **kwargs):
            return self.inner(*args, **kwargs)

    slow = standin(Slow())
    assert len(PromptPairs.from_text(slow, [CLEAN], [CORRUPTED], [" Mary"], positions={"io": [2]})) == 1
    with pytest.raises(ValueError, match="position 'io' of pair 0: this tokenizer does not say .* give an index"):
        PromptPairs.from_text(slow, [CLEAN], [CORRUPTED], [" Mary"], positions={"io": ["Mary"]})


# ----------------------------------------------------------------------------------------------------
# The model they were made for
# ----------------------------------------------------------------------------------------------------


def test_the_fingerprint_is_that_of_the_words_and_their_numbers():
    one, same, other = byte_level(WORDS), byte_level(WORDS), byte_level([*WORDS, " zebra"])
    assert vocabulary_fingerprint(one) == vocabulary_fingerprint(same)
    assert len({vocabulary_fingerprint(tokenizer) for tokenizer in (one, other, lab_tokenizer(8))}) == 3
    moved = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel({"a": 0, "b": 1}, unk_token="a")))
    still = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel({"a": 1, "b": 0}, unk_token="a")))
    assert vocabulary_fingerprint(moved) != vocabulary_fingerprint(still)


def test_pairs_made_with_another_tokenizer_are_refused_and_with_the_same_words_not(model, lab):
    pairs = PromptPairs.from_text(model, [CLEAN], [CORRUPTED], [" Mary"])
    pairs.check(standin(byte_level(WORDS), name="its twin"))
    pairs.check(standin(None, name="without words", d_vocab=5000))
    with pytest.raises(ValueError, match="another tokenizer than that of lab/tiny"):
        pairs.check(lab)


def test_a_model_of_transformer_lens_is_known_by_its_config():
    pairs = PromptPairs.from_tokens(tensors(ROWS), tensors(OTHER), [7, 8])
    pairs.check(SimpleNamespace(cfg=SimpleNamespace(model_name="other", n_ctx=3, d_vocab=10)))
    with pytest.raises(ValueError, match="pair 0 has prompts of 3 tokens: other has 2 positions"):
        pairs.check(SimpleNamespace(cfg=SimpleNamespace(model_name="other", n_ctx=2, d_vocab=10)))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (dict(context=2), "pair 0 has prompts of 3 tokens: tiny has 2 positions; shorten them"),
        (dict(d_vocab=9), "pair 0 holds token 9: tiny has 0 to 8; use its own tokenizer"),
        (dict(d_vocab=11), "pair 1 holds token 12: tiny has 0 to 10"),
        (dict(d_vocab=12), "pair 1 holds token 12: tiny has 0 to 11; use its own tokenizer"),
    ],
)
def test_what_does_not_fit_the_model_is_refused(changed, message):
    pairs = PromptPairs.from_tokens(tensors(ROWS), tensors(OTHER), [7, 11], [8, 12])
    pairs.check(standin(None, context=3, d_vocab=13))
    with pytest.raises(ValueError, match=message):
        pairs.check(standin(None, **changed))


def test_text_beyond_the_context_is_refused_when_the_pairs_are_made(model):
    short = standin(model.tokenizer, context=9)
    with pytest.raises(ValueError, match="pair 0 has prompts of 10 tokens: tiny has 9 positions"):
        PromptPairs.from_text(short, [CLEAN], [CORRUPTED], [" Mary"])


def test_pairs_of_a_tokenizer_without_bos_have_none_by_choice_only():
    tokenizer = byte_level(WORDS)
    bare = standin(PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer))
    message = "no BOS and no end-of-text token: pass prepend_bos=False, or set tokenizer.bos_token"
    with pytest.raises(ValueError, match=message):
        PromptPairs.from_text(bare, [CLEAN], [CORRUPTED], [" Mary"])
    pairs = PromptPairs.from_text(bare, [CLEAN], [CORRUPTED], [" Mary"], prepend_bos=False)
    assert pairs.clean[0].tolist() == tokenizer(CLEAN)["input_ids"]
    small = standin(tokenizer, d_vocab=len(tokenizer))
    small.tokenizer.add_special_tokens({"bos_token": "<new>", "eos_token": "<end>"})  # ids that the model does not have
    with pytest.raises(ValueError, match=message):
        PromptPairs.from_text(small, [CLEAN], [CORRUPTED], [" Mary"])
