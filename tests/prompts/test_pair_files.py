"""Pairs from a file: the tokens are those of `PromptPairs.from_text`, and a wrong line is refused by its number."""

import json
from types import SimpleNamespace

import pytest
import torch

from neolens.lab.language.tokenizer import tokenizer as lab_tokenizer
from neolens.prompts import PromptPairs, read_pairs
from neolens.prompts.pair_files import pair_rows


def standin(tokenizer):
    """What `read_pairs` needs of a model."""
    facts = SimpleNamespace(name="lab/tiny", context=128, d_vocab=len(lab_tokenizer(128)))
    return SimpleNamespace(tokenizer=tokenizer, anatomy=facts)


@pytest.fixture(scope="module")
def lab():
    return standin(lab_tokenizer(128))


ROW = {"clean": "farmer sells corn .", "corrupted": "farmer sells eggs .", "answer": "corn", "distractor": "eggs"}
OTHER = {"clean": "Mary gave Tom", "corrupted": "Anna gave Tom", "answer": "Mary", "distractor": "Anna"}


def write(folder, *lines):
    """A file of these lines, objects as JSON."""
    path = folder / "pairs.jsonl"
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines), encoding="utf-8")
    return path


def test_the_pairs_are_those_of_from_text_with_the_first_difference_and_the_end_named(lab, tmp_path):
    pairs = read_pairs(write(tmp_path, ROW, "", OTHER, " "), lab)
    columns = ([row[name] for row in (ROW, OTHER)] for name in ("clean", "corrupted", "answer", "distractor"))
    direct = PromptPairs.from_text(lab, *columns)
    assert all(map(torch.equal, (*pairs.clean, *pairs.corrupted), (*direct.clean, *direct.corrupted)))
    assert torch.equal(pairs.answers, direct.answers)
    assert torch.equal(pairs.distractors, direct.distractors)
    # BOS farmer sells corn . and BOS Mary gave Tom
    assert {name: at.tolist() for name, at in pairs.positions.items()} == {"changed": [3, 1], "end": [4, 3]}


def test_without_bos_positions_are_one_less(lab, tmp_path):
    pairs = read_pairs(write(tmp_path, ROW), lab, prepend_bos=False)
    assert {name: at.tolist() for name, at in pairs.positions.items()} == {"changed": [2], "end": [3]}


def test_changed_is_the_first_of_several_tokens_that_differ(lab, tmp_path):
    pairs = read_pairs(write(tmp_path, {**ROW, "corrupted": "potter sells eggs ."}), lab)
    assert pairs.positions["changed"].tolist() == [1]


def test_lines_are_counted_from_1_and_blank_ones_left_out(tmp_path):
    assert pair_rows(write(tmp_path, "", ROW, "\t", OTHER)) == {2: ROW, 4: OTHER}


WRONG = {
    "broken JSON": ('{"clean": ', "is not valid JSON"),
    "deep JSON": ("[" * 100_000, "is not valid JSON"),
    "a list": ("[1]", "expected an object with clean, corrupted, answer, distractor"),
    "an unknown field": ({**ROW, "anwser": "corn"}, "has the field 'anwser': did you mean answer?"),
    "a field that is missing": ({"clean": "corn", "corrupted": "eggs", "answer": "corn"}, "lacks distractor"),
    "a number": ({**ROW, "answer": 3}, "answer is 3: expected text"),
    "identical prompts": ({**ROW, "corrupted": ROW["clean"]}, "are the same 5 tokens"),
    "prompts of two lengths": ({**ROW, "corrupted": "farmer sells eggs"}, "the clean prompt has 5 tokens"),
    "an answer of two tokens": (
        {**ROW, "answer": "corn eggs"},
        "the answer of the pair is 'corn eggs', which is 2 tokens",
    ),
    "an unknown word": ({**ROW, "clean": "farmer sells kohlrabi ."}, "the clean prompt of the pair holds 'kohlrabi'"),
    "one answer twice": ({**ROW, "distractor": "corn"}, "answer and distractor are both token"),
    "no words": ({**ROW, "clean": ""}, "the clean prompt of the pair is ''"),
    "a prompt beyond the context": (
        {**ROW, "clean": "corn " * 128, "corrupted": "corn " * 127 + "eggs"},
        "the pair has prompts of 129 tokens: lab/tiny has 128 positions",
    ),
}


@pytest.mark.parametrize(("line", "message"), WRONG.values(), ids=WRONG)
def test_a_wrong_line_is_refused_by_its_number(line, message, lab, tmp_path):
    path = write(tmp_path, ROW, "", line, OTHER)
    with pytest.raises(ValueError) as error:
        read_pairs(path, lab)
    assert str(error.value).startswith(f"line 3 of {path}")
    assert message in str(error.value)
    assert "pair 0" not in str(error.value)


def test_a_model_without_a_tokenizer_and_what_is_no_model_are_refused(tmp_path):
    path = write(tmp_path, ROW)
    with pytest.raises(ValueError, match="the model has no tokenizer"):
        read_pairs(path, standin(None))
    with pytest.raises(TypeError, match="expected a model"):
        read_pairs(path, "lab/gpt2")


def test_an_error_of_the_tokenizer_itself_names_the_line(tmp_path):
    class Strict:
        """A tokenizer without an unknown token raises a plain Exception at a word that it lacks."""

        def __getattr__(self, name):
            return getattr(lab_tokenizer(128), name)

        def __call__(self, text, **settings):
            if "kohlrabi" in text:
                raise Exception("WordLevel error: Missing [UNK] token from the vocabulary")
            return lab_tokenizer(128)(text, **settings)

    path = write(tmp_path, OTHER, {**ROW, "clean": "farmer sells kohlrabi ."})
    with pytest.raises(ValueError, match="line 2 of .*Missing .UNK. token"):
        read_pairs(path, standin(Strict()))
