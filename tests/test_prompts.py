"""Prompts: repeated sequences and plain text, cut to fit."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

import neolens
from neolens.lab.language import CONTENT
from neolens.prompts import bos_token, chunks, random_tokens, read_text, repeat_length, repeated


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


@pytest.mark.parametrize("n", [1, 10])
def test_a_repeat_length_that_cannot_be_drawn_is_refused(n):
    with pytest.raises(ValueError, match=f"a repeat length of {n} is not within 2 to 9"):
        repeated(range(10), n, bos=0)


def test_text_is_cut_into_whole_prompts_with_bos_first(tokenizer):
    rows = chunks(tokenizer, "a b c d e f g", 4)
    assert tokenizer.batch_decode(rows) == ["<bos> a b c", "<bos> d e f"]
    assert tokenizer.batch_decode(chunks(tokenizer, "a b c d e f g", 4, prompts=1)) == ["<bos> a b c"]


def test_a_text_shorter_than_a_prompt_gives_one_shorter_prompt(tokenizer):
    assert tokenizer.batch_decode(chunks(tokenizer, "a b", 9)) == ["<bos> a b"]


def test_bad_text_and_lengths_are_refused(tokenizer):
    with pytest.raises(ValueError, match="prompts of 1 tokens hold no text"):
        chunks(tokenizer, "a b", 1)
    with pytest.raises(ValueError, match="the text has no tokens"):
        chunks(tokenizer, "  ", 5)


def test_a_tokenizer_without_bos_begins_with_its_end_of_text(tokenizer):
    assert bos_token(tokenizer) == 0
    bare = PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer, eos_token="h")
    assert bos_token(bare) == 9
    with pytest.raises(ValueError, match="no BOS and no end-of-text token"):
        bos_token(PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer))


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
