"""Checks of arguments: what they accept, what they refuse, and that the error is one line with value and remedy."""

import doctest
from fractions import Fraction

import numpy as np
import pytest
import torch

from neolens import checks
from neolens.checks import lists, model_parts, results, values

pytestmark = pytest.mark.untyped

WHOLE = [3, np.int64(3), np.uint8(3), torch.tensor(3), np.array(3)]
NOT_WHOLE = [3.0, "3", b"3", True, np.True_, None, [3], (3,), {3: 3}, torch.tensor(3.0), torch.tensor([3]), 3j,
             torch.tensor(True), np.array([3]), ...]  # fmt: skip
NUMBERS = [2, 2.5, np.float32(2.5), torch.tensor(2.5), Fraction(5, 2)]
NOT_NUMBERS = ["2", b"2", True, np.True_, None, [2.0], {}, 2j, torch.tensor([2.0])]
NOT_FINITE = [float("nan"), float("inf"), -np.inf, torch.tensor(float("nan")), 10**400]


def one_line(raised, *facts):
    text = str(raised.value)
    assert "\n" not in text
    assert len(text) < 250
    for fact in facts:
        assert fact in text


def test_the_examples_of_the_docstrings_run():
    for module in (values, lists, model_parts, results):
        found = doctest.testmod(module)
        assert found.attempted > 0
        assert found.failed == 0


@pytest.mark.parametrize("value", WHOLE, ids=repr)
def test_any_integer_type_is_a_whole_number(value):
    number = checks.check_whole(value, "n", 0)
    assert number == 3
    assert type(number) is int


@pytest.mark.parametrize("value", NOT_WHOLE, ids=repr)
def test_what_is_no_integer_is_no_whole_number(value):
    with pytest.raises(TypeError) as raised:
        checks.check_whole(value, "prompts", 1, unit="prompts", remedy="give 8 or more")
    one_line(raised, "prompts", "a whole number of prompts, at least 1", "give 8 or more")


@pytest.mark.parametrize(("value", "bounds"), [(0, (1, None)), (9, (None, 8)), (-1, (0, 8)), (10**400, (0, 8))])
def test_a_whole_number_outside_its_bounds_is_refused_with_them(value, bounds):
    with pytest.raises(ValueError) as raised:
        checks.check_whole(value, "n", *bounds)
    one_line(raised, "n ", *(str(bound) for bound in bounds if bound is not None))


@pytest.mark.parametrize("value", NUMBERS, ids=repr)
def test_any_real_type_is_a_number(value):
    number = checks.check_number(value, "limit", 0, 3)
    assert number == float(value)
    assert type(number) is float


@pytest.mark.parametrize("value", NOT_NUMBERS, ids=repr)
def test_what_is_no_number_is_refused(value):
    with pytest.raises(TypeError) as raised:
        checks.check_number(value, "limit", above=0)
    one_line(raised, "limit", "expected a number above 0")


@pytest.mark.parametrize("value", [*NOT_FINITE, 0, -1, 4], ids=lambda value: repr(value)[:20])
def test_a_number_that_is_not_finite_or_outside_its_bounds_is_refused(value):
    with pytest.raises(ValueError) as raised:
        checks.check_number(value, "limit", above=0, most=3)
    one_line(raised, "limit", "above 0, at most 3")


@pytest.mark.parametrize("value", [1, 0, "True", None, np.int64(1), torch.tensor(True)], ids=repr)
def test_only_truth_values_are_true_or_false(value):
    with pytest.raises(TypeError) as raised:
        checks.check_bool(value, "progress")
    one_line(raised, "progress", "True or False")


def test_truth_values_of_numpy_are_accepted():
    assert checks.check_bool(np.True_, "progress") is True
    assert checks.check_bool(False, "progress") is False


@pytest.mark.parametrize(("value", "kind"), [(None, TypeError), (3, TypeError), (b"a", TypeError), (["a"], TypeError),
                                             ("", ValueError), ("  ", ValueError)])  # fmt: skip
def test_text_is_a_string_that_is_not_empty(value, kind):
    with pytest.raises(kind) as raised:
        checks.check_text(value, "title", example="a title")
    one_line(raised, "title", "a title")


def test_an_unknown_word_is_refused_with_the_nearest_and_all_others():
    with pytest.raises(ValueError) as raised:
        checks.check_choice("nosie", "direction", ("denoise", "noise"))
    one_line(raised, "no direction 'nosie'", "did you mean noise", "denoise or noise")
    with pytest.raises(TypeError):
        checks.check_choice(None, "direction", ("denoise", "noise"))


@pytest.mark.parametrize("value", ["abc", b"abc", {"a": 1}, {1, 2}, 3, None, np.array(3), torch.tensor(3)], ids=repr)
def test_text_mappings_and_sets_are_no_lists(value):
    with pytest.raises(TypeError) as raised:
        checks.check_list(value, "words", "strings", example="['a']")
    one_line(raised, "words", "a list of strings, such as ['a']")


LAYERS = [[0, 2], (0, 2), range(0, 4, 2), np.array([0, 2]), torch.tensor([0, 2]), [np.int64(0), torch.tensor(2)]]
NOT_LAYERS = [[1.5], ["1"], [True], "12", b"\x01", {"0": 1}, {0: 1}, {0}, None, 1.5, True, [[0]], torch.ones(2)]


@pytest.mark.parametrize("value", LAYERS, ids=repr)
def test_layers_may_be_any_ordered_integers(value):
    assert checks.check_layers(value, 4) == [0, 2]


@pytest.mark.parametrize("value", NOT_LAYERS, ids=repr)
def test_layers_are_not_text_fractions_truth_values_or_mappings(value):
    with pytest.raises(TypeError) as raised:
        checks.check_layers(value, 4, "lab/gpt2")
    one_line(raised, "layer", "whole number")


@pytest.mark.parametrize("value", [[], [4], -1, [0, 10**30], [-5]], ids=repr)
def test_layers_that_do_not_exist_are_refused_with_those_that_do(value):
    with pytest.raises(ValueError) as raised:
        checks.check_layers(value, 4, "lab/gpt2")
    one_line(raised, "0 to 3")


def test_one_layer_stands_for_a_list_and_a_repeated_one_counts_once():
    assert checks.check_layers(np.int64(1), 4) == [1]
    assert checks.check_layers([1, 0, 1], 4) == [1, 0]


@pytest.mark.parametrize("value", [(1, 2), [1, 2], "1.2", np.array([1, 2]), torch.tensor([1, 2])], ids=repr)
def test_a_head_is_a_pair_or_text(value):
    assert checks.check_head(value, 4, 4) == (1, 2)


@pytest.mark.parametrize("value", ["1", "1.2.3", "a.b", "-1.0", (1,), (1, 2, 3), 1, 1.2, None, (1.0, 2), (True, 0),
                                   ("1", 2)], ids=repr)  # fmt: skip
def test_what_is_no_pair_of_whole_numbers_is_no_head(value):
    with pytest.raises(TypeError) as raised:
        checks.check_head(value, 4, 4)
    one_line(raised, "expected")


@pytest.mark.parametrize(
    ("value", "fact"), [((4, 0), "layers are 0 to 3"), ("1.4", "heads are 0 to 3"), ((0, -1), "0 to 3")]
)
def test_a_head_that_does_not_exist_is_refused_with_those_that_do(value, fact):
    with pytest.raises(ValueError) as raised:
        checks.check_head(value, 4, 4, "lab/gpt2")
    one_line(raised, fact, "lab/gpt2")


LONG = [np.zeros((3, 4)), torch.zeros(1000), "x\ny" * 100, list(range(1000)), 10**5000, ...]


@pytest.mark.parametrize("value", LONG, ids=lambda value: type(value).__name__)
def test_a_value_is_shown_on_one_short_line(value):
    text = checks.shown(value)
    assert "\n" not in text
    assert len(text) <= 61


def test_arrays_are_shown_with_their_dtype():
    assert checks.shown(torch.zeros(2, 3)) == "Tensor of shape (2, 3) and dtype float32"
    assert checks.shown(np.zeros(0, int)) == "ndarray of shape (0,) and dtype int64"


@pytest.mark.parametrize("value", [-1, 2**63, 10**30])
def test_a_seed_is_one_that_every_generator_takes(value):
    assert checks.check_seed(np.int64(2**62)) == 2**62
    with pytest.raises(ValueError) as raised:
        checks.check_seed(value)
    one_line(raised, f"seed {value}", "at least 0, below 2**63")


def test_a_far_bound_is_named_only_where_a_value_is_beyond_it():
    for value, range_ in ((0, "of at least 1"), (2**31, "from 1 to 2147483647")):
        with pytest.raises(ValueError) as raised:
            checks.check_whole(value, "prompts", 1, 2**31 - 1)
        one_line(raised, f"prompts {value}: expected a whole number {range_}")


def test_one_of_several_things_is_named_by_its_number():
    assert checks.check_indices(np.array([2, 0]), "band", 3) == [2, 0]
    with pytest.raises(ValueError) as raised:
        checks.check_indices([0, 3], "band", 3, "lab/pythia")
    one_line(raised, "no band 3 in lab/pythia: bands are 0 to 2")


TOKENS = torch.tensor([[1, 5], [2, 6]])
NO_TOKENS = {
    "floats": (TOKENS.float(), TypeError, "dtype float32"),
    "truth values": (TOKENS > 1, TypeError, "dtype bool"),
    "an array": (TOKENS.numpy(), TypeError, "ndarray"),
    "a list": ([[1, 5]], TypeError, "[[1, 5]]"),
    "text": ("Mary", TypeError, "tokenize text first"),
    "another device": (TOKENS.to("meta"), TypeError, "in memory"),
    "sparse": (TOKENS.to_sparse(), TypeError, "in memory"),
    "one axis": (TOKENS[0], ValueError, "[prompt, pos]"),
    "none": (TOKENS[:0], ValueError, "at least one token"),
    "too large": (TOKENS + 1, ValueError, "holds token 7: lab/gpt2 has 0 to 6"),
    "negative": (TOKENS - 2, ValueError, "holds token -1: lab/gpt2 has 0 to 6"),
}


@pytest.mark.parametrize(("value", "kind", "fact"), NO_TOKENS.values(), ids=NO_TOKENS)
def test_tokens_are_integers_in_memory_of_the_vocabulary(value, kind, fact):
    assert checks.check_tokens(TOKENS, "tokens", "[prompt, pos]", 7) is TOKENS
    with pytest.raises(kind) as raised:
        checks.check_tokens(value, "tokens", "[prompt, pos]", 7, "lab/gpt2")
    one_line(raised, "tokens", fact)
