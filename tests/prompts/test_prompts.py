"""Prompts: repeated sequences of any vocabulary, plain text and files of tokens, cut to fit."""

import os
import pickle
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

import neolens
from neolens.lab.language.documents import CONTENT
from neolens.models.anatomy import AttentionSpan
from neolens.models.other_architectures import Foreign
from neolens.prompts import (
    bos_token,
    chunks,
    longest_repeat,
    random_repeats,
    random_tokens,
    read_text,
    read_tokens,
    repeat_length,
    repeated,
    token_chunks,
    token_pool,
)


@pytest.fixture(scope="module")
def tokenizer():
    words = {word: index for index, word in enumerate(["<bos>", "<unk>", *"abcdefgh"])}
    backend = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<bos>", unk_token="<unk>")


@given(st.integers(2, 30), st.integers(1, 5), st.integers(0, 10**6))
def test_a_repeated_prompt_is_bos_and_twice_the_same_distinct_tokens(n, prompts, seed):
    rows = repeated(range(40), n, bos=7, prompts=prompts, seed=seed)
    assert rows.shape == (prompts, 2 * n + 1)
    for row in rows.tolist():
        assert row[0] == 7
        assert row[1 : n + 1] == row[n + 1 :]
        assert len(set(row[1 : n + 1]) - {7}) == n
    assert torch.equal(rows, repeated(range(40), n, bos=7, prompts=prompts, seed=seed))
    assert all(repeat_length(row) == n for row in rows)


@pytest.mark.parametrize("row", [[0, 1, 2, 1], [0, 1, 2, 1, 3], [0, 1, 1], [0]])
def test_what_does_not_repeat_has_no_repeat_length(row):
    assert repeat_length(torch.tensor(row)) is None


@given(st.integers(2, 30), st.integers(0, 10**6))
def test_without_bos_a_repeated_prompt_begins_with_one_more_token_of_the_pool(n, seed):
    (row,) = repeated(range(31), n, bos=None, seed=seed).tolist()
    assert row[1 : n + 1] == row[n + 1 :]
    assert len(set(row)) == n + 1
    assert set(row) <= set(range(31))


@given(st.integers(2, 9), st.integers(1, 60), st.booleans(), st.integers(0, 10**6))
def test_in_a_small_vocabulary_a_token_is_followed_by_another_and_by_a_new_one_while_there_is_one(m, more, bos, seed):
    n = m + more
    row = repeated(range(m), n, bos=99 if bos else None, seed=seed)[0].tolist()
    r = row[1 : n + 1]
    assert r == row[n + 1 :]
    pool = set(range(m)) if bos or m == 2 else set(range(m)) - {row[0]}
    assert row[0] == 99 or row[0] not in pool or m == 2
    assert set(r) == pool
    followed = {token: [] for token in pool}
    for at, (a, b) in enumerate(pairwise(r)):
        allowed = pool - {a} - ({r[0]} if at == n - 2 else set()) or pool - {a}
        least = min(followed[a].count(token) for token in allowed)
        assert b in allowed
        assert followed[a].count(b) == least
        followed[a].append(b)
    assert r[-1] != r[0] or len(pool) == 2


@pytest.mark.parametrize("m", [4, 8, 20])
def test_while_there_are_new_pairs_the_last_two_tokens_tell_the_next_and_all_occur_equally_often(m):
    n = m * m // 2
    for row in repeated(range(m), n, bos=99, prompts=20):
        r = row[1 : n + 1].tolist()
        assert len(set(pairwise(r))) == n - 1
        counts = [r.count(token) for token in range(m)]
        assert max(counts) - min(counts) <= 2


@pytest.mark.parametrize(
    ("candidates", "n", "message"),
    [
        (range(10), 1, "n 1: expected a whole number of at least 2"),
        ([0, 5, 5], 3, "1 tokens to draw a repeated sequence from: expected at least 2, BOS not counted"),
    ],
)
def test_a_repeated_sequence_that_cannot_be_drawn_is_refused(candidates, n, message):
    with pytest.raises(ValueError, match=message):
        repeated(candidates, n, bos=0)


def test_text_is_cut_into_whole_prompts_with_bos_first(tokenizer):
    rows = chunks(tokenizer, "a b c d e f g", 4)
    assert tokenizer.batch_decode(rows) == ["<bos> a b c", "<bos> d e f"]
    assert tokenizer.batch_decode(chunks(tokenizer, "a b c d e f g", 4, prompts=1)) == ["<bos> a b c"]


def test_a_text_shorter_than_a_prompt_gives_one_shorter_prompt(tokenizer):
    assert tokenizer.batch_decode(chunks(tokenizer, "a b", 9)) == ["<bos> a b"]


def test_bad_text_and_lengths_are_refused(tokenizer):
    with pytest.raises(ValueError, match="length 1: expected a whole number of tokens, at least 2"):
        chunks(tokenizer, "a b", 1)
    with pytest.raises(ValueError, match="the text has no tokens"):
        chunks(tokenizer, "  ", 5)


def test_bos_is_the_tokenizers_own_or_its_end_of_text_and_never_made_up(tokenizer):
    def bare(**special):
        return PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer, **special)

    assert bos_token(tokenizer) == bos_token(tokenizer, 1) == 0
    assert bos_token(bare(eos_token="h")) == bos_token(bare(bos_token="h", eos_token="a")) == 9
    assert bos_token(bare(bos_token="h"), 9) is None, "the model has 0 to 8"
    assert bos_token(bare(bos_token="h", eos_token="a"), 9) == 2
    assert bos_token(bare(unk_token="<unk>")) is bos_token(bare()) is bos_token(None) is None
    absent = bare(unk_token="<unk>")
    absent.bos_token = "<|endoftext|>"  # not in the vocabulary
    assert bos_token(absent) is None


NO_BOS = "the tokenizer has no BOS and no end-of-text token: pass prepend_bos=False, or set tokenizer.bos_token"


def test_without_bos_text_is_cut_by_choice_only(tokenizer):
    bare = PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer, unk_token="<unk>")
    with pytest.raises(ValueError, match=NO_BOS):
        chunks(bare, "a b c d e f g", 3)
    for each in (bare, tokenizer):
        rows = chunks(each, "a b c d e f g", 3, prepend_bos=False)
        assert each.batch_decode(rows) == ["a b c", "d e f"]
    with pytest.raises(ValueError, match="prompts 0: expected a whole number of at least 1"):
        chunks(tokenizer, "a b", 3, prompts=0)


def test_prompts_of_tokens_are_cut_as_text_is_and_never_across_prompts(tokenizer):
    ids = torch.tensor(tokenizer("a b c d e f g", add_special_tokens=False)["input_ids"])
    for call in ({}, {"prompts": 1}, {"prompts": 5}):
        for length in (2, 3, 4, 7, 8, 30):
            assert torch.equal(
                token_chunks([ids], length, bos=0, **call), chunks(tokenizer, "a b c d e f g", length, **call)
            )
    rows = [torch.arange(5), torch.arange(10, 12), torch.arange(20, 27)]
    assert token_chunks(rows, 3).tolist() == [[0, 1, 2], [20, 21, 22], [23, 24, 25]]
    assert token_chunks(rows, 4, bos=9, prompts=2).tolist() == [[9, 0, 1, 2], [9, 20, 21, 22]]
    assert token_chunks(rows, 50).tolist() == [[*range(20, 27)]]


@pytest.mark.parametrize(
    ("rows", "call", "message"),
    [
        ([], {"length": 4}, "there are no tokens to cut"),
        ([torch.arange(0)], {"length": 4}, "there are no tokens to cut"),
        ([torch.arange(9)], {"length": 1}, "length 1: expected a whole number of tokens, at least 2"),
        ([torch.arange(9)], {"length": 4, "prompts": 0}, "prompts 0: expected a whole number of at least 1"),
    ],
)
def test_tokens_that_cannot_be_cut_are_refused(rows, call, message):
    with pytest.raises(ValueError, match=message):
        token_chunks(rows, **call)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "does not exist: expected the path of a UTF-8 text file"),
        (b"", "is empty"),
        (b" \n\t", "is empty"),
        (b"\x89PNG\r\n\x1a\n", r"is not UTF-8 text \(byte 0\)"),
        (b"a\0b", "holds NUL bytes"),
    ],
)
def test_a_file_that_is_no_text_is_refused(content, message, tmp_path):
    path = tmp_path / "text.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_text(path)


def test_text_is_read_as_it_stands(tmp_path):
    (tmp_path / "text.txt").write_text("café\nau lait", encoding="utf-8")
    assert read_text(tmp_path / "text.txt") == "café\nau lait"


# Files of tokens ---------------------------------------------------------------------------------------------------

FACTS = Foreign("mine", "Mine", 1, 1, d_vocab=50, context=4, attention=(AttentionSpan("global"),))
SAVED = {
    "rows.npy": lambda path: np.save(path, np.array([[1, 2, 3], [4, 5, 49]], dtype=np.uint16)),
    "row.npy": lambda path: np.save(path, np.arange(9, dtype=np.int32)),
    "rows.pt": lambda path: torch.save(torch.tensor([[1, 2, 3], [4, 5, 49]], dtype=torch.int16), path),
    "ragged.pt": lambda path: torch.save([torch.arange(9), torch.tensor([7])], path),
    "lines.txt": lambda path: path.write_text("1 2 3\n\n4, 5,49\n"),
    "marked.csv": lambda path: path.write_text("\ufeff1,2,3\r\n4,5,49\r\n", encoding="utf-8"),
    "lines": lambda path: path.write_text("0,1,2,3,4,5,6,7,8"),
}
ROWS, LONG = [[1, 2, 3], [4, 5, 49]], [[*range(9)]]
CONTENTS = {
    **{"rows.npy": ROWS, "rows.pt": ROWS, "lines.txt": ROWS, "marked.csv": ROWS},
    **{"row.npy": LONG, "ragged.pt": [*LONG, [7]], "lines": LONG},
}


@pytest.mark.parametrize("name", SAVED)
def test_a_file_of_tokens_holds_prompts_of_any_length(name, tmp_path):
    SAVED[name](tmp_path / name)
    for path in (tmp_path / name, str(tmp_path / name)):
        rows = read_tokens(path, FACTS)
        assert [row.tolist() for row in rows] == CONTENTS[name]
        assert {row.dtype for row in rows} == {torch.int64}


class Harmful:
    """Writes a file when it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def pickled(path):
    np.save(path, np.array([Harmful(path.parent / "harm")], dtype=object), allow_pickle=True)


def torch_pickled(path):
    path.write_bytes(pickle.dumps(Harmful(path.parent / "harm"), protocol=2))


def saved_bytes(path):
    torch.save(torch.arange(9), path)
    return path.read_bytes()


REFUSED = [
    ("missing.npy", lambda path: None, "token file '.*missing.npy' does not exist: expected a .npy or .pt file"),
    ("float.npy", lambda path: np.save(path, np.ones((2, 3))), "prompt 0 has shape .3,. and dtype float64: expected"),
    ("bool.pt", lambda path: torch.save(torch.ones(2, 3) > 0, path), "prompt 0 has shape .* dtype bool: expected"),
    ("deep.npy", lambda path: np.save(path, np.ones((2, 3, 4), int)), r"has shape \(2, 3, 4\): expected"),
    ("none.npy", lambda path: np.save(path, np.ones((0, 3), int)), "has no prompts"),
    ("empty.npy", lambda path: np.save(path, np.ones((2, 0), int)), "prompt 0 is empty: expected at least one token"),
    ("object.npy", pickled, "object.npy' is no NumPy array of integers .*allow_pickle"),
    ("text.npy", lambda path: path.write_text("1 2 3"), "text.npy' is no NumPy array of integers"),
    ("high.npy", lambda path: np.save(path, np.array([[1], [50]])), "prompt 1 holds token 50: mine has 0 to 49"),
    ("huge.npy", lambda path: np.save(path, np.array([2**64 - 1], np.uint64)), "prompt 0 holds token 18446744073"),
    ("object.pt", torch_pickled, "object.pt' cannot be read as tensors"),
    ("text.pt", lambda path: path.write_text("1 2 3"), "text.pt' cannot be read as tensors"),
    ("half.pt", lambda path: torch.save(torch.ones(2, 3, dtype=torch.bfloat16), path), "holds a tensor of torch.bf"),
    ("cut.pt", lambda path: path.write_bytes(saved_bytes(path)[:-40]), "cut.pt' cannot be read as tensors"),
    ("dict.pt", lambda path: torch.save({"a": torch.ones(2)}, path), "holds a dict: expected an integer tensor, or a"),
    ("low.pt", lambda path: torch.save([torch.tensor([3]), torch.tensor([-1])], path), "prompt 1 holds token -1: mine"),
    ("words.txt", lambda path: path.write_text("1 2\n3 x 4"), "words.txt', line 2 holds 'x': expected integers"),
    ("point.txt", lambda path: path.write_text("1 2.5"), "line 1 holds '2.5': expected integers"),
    ("high.txt", lambda path: path.write_text(f"1\n\n{10**30}"), "line 3 holds token 10000.*: mine has 0 to 49"),
    ("low.txt", lambda path: path.write_text("1 -1"), "line 1 holds token -1"),
    ("commas.txt", lambda path: path.write_text(",\n,"), "commas.txt' has no prompts: expected integers, one prompt"),
    ("empty.txt", lambda path: path.write_text(""), "is empty"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "save", "message"), REFUSED, ids=[name for name, _, _ in REFUSED])
def test_a_file_that_holds_no_tokens_of_the_model_is_refused_with_its_prompt_or_line(name, save, message, tmp_path):
    save(tmp_path / name)
    with pytest.raises(ValueError, match=message):
        read_tokens(tmp_path / name, FACTS)
    assert not (tmp_path / "harm").exists(), "an object was unpickled"


# Random prompts ----------------------------------------------------------------------------------------------------


def standin(tokenizer=None, d_vocab=40, context=64, **config):
    """What random prompts need of a model."""
    facts = SimpleNamespace(name="mine", context=context, d_vocab=d_vocab)
    original = SimpleNamespace(config=SimpleNamespace(to_dict=lambda: config))
    return SimpleNamespace(tokenizer=tokenizer, anatomy=facts, original_model=original)


def test_without_a_tokenizer_the_pool_is_the_vocabulary_without_the_ids_that_the_config_names():
    assert token_pool(standin(d_vocab=5)) == [0, 1, 2, 3, 4]
    named = {"bos_token_id": 2, "eos_token_id": [0, 50256], "pad_token_id": None, "vocab_size": 3}
    assert token_pool(standin(d_vocab=5, **named)) == [1, 3, 4]
    with pytest.raises(ValueError, match="mine has 1 tokens besides special ones, of 2: expected at least 2"):
        token_pool(standin(d_vocab=2, bos_token_id=0))


def test_a_tokenizers_pool_is_its_tokens_in_the_model_without_special_ones_also_where_ids_are_missing():
    words = {"<bos>": 0, "a": 1, "b": 2, "[HUMAN]": 5, "c": 6, "d": 9, "e": 12}
    backend = Tokenizer(models.WordLevel(words, unk_token="a"))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<bos>")
    tokenizer.add_special_tokens({"additional_special_tokens": ["[HUMAN]"]})
    assert token_pool(standin(tokenizer, d_vocab=10)) == [1, 2, 6, 9]
    assert token_pool(neolens.load("lab/gpt2")) == CONTENT.tolist()


def test_a_model_without_a_tokenizer_has_random_prompts_by_choice_only():
    model = standin(d_vocab=6, context=64, bos_token_id=0)
    for call in (random_repeats, random_tokens):
        with pytest.raises(ValueError, match="the model has no tokenizer, and so no BOS: pass prepend_bos=False"):
            call(model, 9)
    tokens = random_tokens(model, 9, prompts=100, prepend_bos=False)
    assert tokens.shape == (100, 9)
    assert set(tokens[:, 0].tolist()) == set(tokens.flatten().tolist()) == {1, 2, 3, 4, 5}
    repeats = random_repeats(model, 9, prompts=3, seed=4, prepend_bos=False)
    assert torch.equal(repeats, repeated([1, 2, 3, 4, 5], 9, bos=None, prompts=3, seed=4))
    assert [repeat_length(row) for row in repeats] == [9, 9, 9]
    assert longest_repeat(model) == 4
    assert all(len(set(row.tolist())) == 5 for row in random_repeats(model, 4, prompts=9, prepend_bos=False))


def test_a_tokenizer_without_bos_has_random_prompts_by_choice_only(tokenizer):
    bare = PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer, unk_token="<unk>")
    model = standin(bare)
    for call in (random_repeats, random_tokens):
        with pytest.raises(ValueError, match=NO_BOS):
            call(model, 4)
    assert 1 not in random_tokens(model, 30, prompts=30, prepend_bos=False), "the unknown token"
    assert (longest_repeat(standin(tokenizer)), longest_repeat(model)) == (8, 7)  # a to h; one of them first


def test_random_tokens_are_bos_and_words_of_the_pool_each_drawn_by_itself():
    model = neolens.load("lab/gpt2")
    tokens = random_tokens(model, 100, prompts=400, seed=1)
    assert set(tokens[:, 0].tolist()) == {0}
    assert set(tokens[:, 1:].unique().tolist()) == set(CONTENT.tolist())
    # m words, k draws: a prompt of 99 draws holds on average m (1 - (1 - 1/m)^99) different ones
    m = len(CONTENT)
    different = sum(len(set(row[1:].tolist())) for row in tokens) / 400
    assert different == pytest.approx(m * (1 - (1 - 1 / m) ** 99), abs=1.0)
    assert torch.equal(tokens, random_tokens(model, 100, prompts=400, seed=1))
    assert not torch.equal(tokens, random_tokens(model, 100, prompts=400, seed=2))


@pytest.mark.parametrize(
    ("length", "prompts", "message"), [(1, 8, "takes 2 to 128"), (129, 8, "takes 2 to 128"), (9, 0, "at least 1")]
)
def test_random_tokens_that_cannot_be_drawn_are_refused(length, prompts, message):
    with pytest.raises(ValueError, match=message):
        random_tokens(neolens.load("lab/gpt2"), length, prompts=prompts)
