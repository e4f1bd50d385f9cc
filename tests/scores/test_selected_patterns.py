"""Whole patterns of chosen heads, as a labelled result."""

import numpy as np
import pytest

import tiny
from neolens import results
from neolens.network import patterns
from neolens.scores import shown_patterns


def test_the_patterns_of_chosen_heads_are_those_of_the_pass_in_the_order_asked_for(bridges, tmp_path):
    model, prompt = bridges["gpt-neo"], tiny.tokens(batch=1)[0]
    shown = shown_patterns(model, prompt, [(1, 2), (0, 0)])
    assert shown["group"].values.tolist() == [f"1.2 local {tiny.WINDOW}", "0.0 global"]
    assert shown["attention_kind"].values.tolist() == ["local", "global"]
    np.testing.assert_array_equal(shown["pattern"][0], patterns(model, prompt, 1)[2])
    np.testing.assert_array_equal(shown["pattern"][1], patterns(model, prompt, 0)[0])
    assert shown["token"].values.tolist() == [str(token) for token in prompt.tolist()]
    back = results.load(results.save(shown, tmp_path / "shown.nc"))
    np.testing.assert_array_equal(back["pattern"], shown["pattern"])


@pytest.mark.parametrize(
    ("heads", "message"),
    [
        ([], "expected at least one"),
        ([(0, 0), (0, 0)], "each once"),
        ([(9, 0)], "no layer 9 in"),
        ([(0, -1)], "no head -1 in layer 0 of .*: heads are 0 to"),
    ],
)
def test_heads_that_are_not_there_are_refused(bridges, heads, message):
    with pytest.raises(ValueError, match=message):
        shown_patterns(bridges["gpt2"], tiny.tokens(batch=1)[0], heads)
