"""The laws of windows and the grouping by kind, on networks where the truth is known."""

import numpy as np
import pytest
import torch

import neolens
import oracles
import tiny
from neolens.models.anatomy import AttentionSpan
from neolens.prompts import repeated
from neolens.scores import by_kind, share_beyond, top_head
from neolens.scores import exact_checks as laws


@pytest.mark.parametrize(("length", "zero"), [(1, True), (tiny.WINDOW, True), (tiny.WINDOW + 1, False)])
def test_making_every_layer_global_changes_nothing_up_to_the_window(length, zero, bridges):
    difference = laws.window_difference(bridges["gpt-neo"], tiny.tokens(length=length))
    assert (difference == 0) is zero


def test_the_difference_past_the_window_is_the_oracles(bridges, networks):
    tokens, net = tiny.tokens(length=12), networks["gpt-neo"]
    own = oracles.forward(net, tokens).logits
    changed = oracles.forward(net, tokens, windows=[None] * len(net.layers)).logits
    expected = (own - changed).abs().max().item()
    assert laws.window_difference(bridges["gpt-neo"], tokens) == pytest.approx(expected, rel=1e-4)


def test_a_model_without_local_layers_has_no_difference(bridges):
    assert laws.window_difference(bridges["pythia"], tiny.tokens()) == 0


@pytest.mark.parametrize("spans", [None, [AttentionSpan("local", 2)] * 4])
def test_repeat_accuracy_is_that_of_the_oracles_logits(spans, bridges, networks):
    n, net = 6, networks["gpt-neo"]
    tokens = repeated(range(1, tiny.VOCAB), n, bos=0, prompts=8)
    windows = None if spans is None else [2] * 4
    likeliest = oracles.forward(net, tokens, windows=windows).logits.argmax(-1)
    expected = [
        sum(int(likeliest[prompt, i] == tokens[prompt, i + 1]) for i in range(n + 1, 2 * n)) / (n - 1)
        for prompt in range(8)
    ]
    assert laws.repeat_accuracy(bridges["gpt-neo"], tokens, spans=spans) == pytest.approx(expected)


def test_repeat_accuracy_of_a_trained_copier_is_one_and_falls_with_its_global_layers():
    model = neolens.load("lab/gpt-neo")
    tokens = repeated(range(2, 128), 32, bos=0, prompts=4)
    narrow = [AttentionSpan("local", 16)] * 4
    assert min(laws.repeat_accuracy(model, tokens)) > 0.9
    assert max(laws.repeat_accuracy(model, tokens, spans=narrow)) < 0.1


def test_a_prompt_that_does_not_repeat_has_no_repeat_accuracy(bridges):
    with pytest.raises(ValueError, match="prompt 0 does not repeat"):
        laws.repeat_accuracy(bridges["gpt2"], tiny.tokens())


def test_the_share_beyond_is_the_attention_on_far_keys(bridges, networks):
    tokens = tiny.tokens(length=13)
    share = share_beyond(neolens.attention(bridges["gpt-neo"], tokens), 3)
    for layer in range(4):
        pattern = oracles.forward(networks["gpt-neo"], tokens).after[f"blocks.{layer}.attn.hook_pattern"]
        far = torch.ones(13, 13).tril(-3)  # keys 3 or more back
        expected = (pattern * far).sum((-2, -1)) / 13
        np.testing.assert_allclose(share.sel(layer=layer), expected, atol=1e-6)


def test_scores_are_grouped_by_the_kind_of_layer(bridges):
    result = neolens.attention(bridges["gpt-neo"], tiny.tokens())
    kinds = by_kind(result, tiny.WINDOW)
    assert float(kinds["share_beyond"].sel(attention_kind="local")) == 0
    expected = result["entropy"].values[:, [0, 2]].mean()
    assert float(kinds["entropy"].sel(attention_kind="global")) == pytest.approx(expected)


def test_the_top_head_is_named_with_its_kind(bridges):
    score = neolens.attention(bridges["gpt-neo"], tiny.tokens())["sink"]
    score = score.copy(data=np.zeros(score.shape))
    score[:, 1, 3] = [0.5, 0.7]
    assert top_head(score) == ("1.3", "local", pytest.approx(0.6))


def test_the_narrowest_window_counts_and_an_eighth_of_the_context_without_one():
    facts = [neolens.anatomy(name) for name in ("gpt2", "gpt-neo-125M", "lab/gpt-neo")]
    assert laws.narrowest_window(facts) == 16
    assert laws.narrowest_window(facts[:2]) == 256
    assert laws.narrowest_window(facts[:1]) == 128
