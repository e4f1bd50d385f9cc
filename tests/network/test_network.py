"""The pure forward pass: against the oracle over spans, positions, lengths and block sizes; laws of windows."""

import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import neolens
import oracles
import tiny
from neolens.models.anatomy import AttentionSpan
from neolens.network import attend, fingerprint, head_patterns, logits, patterns, residual, visible, weights_of
from neolens.network.checksum import _multilinear


@pytest.fixture(scope="module")
def exact(tiny_folders):
    """Every tiny model's weights in float64, where rounding cannot hide a mistake."""
    return {name: weights_of(neolens.load(folder, dtype="float64")) for name, folder in tiny_folders.items()}


def run(weights, tokens, **arguments):
    with torch.no_grad():
        return logits(weights, residual(weights, tokens, **arguments))


def span(window):
    return AttentionSpan("global") if window is None else AttentionSpan("local", window)


@pytest.mark.parametrize("name", tiny.NAMES)
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_logits_are_the_oracles_for_any_spans_positions_and_blocks(name, data, exact, networks):
    weights, net = exact[name], networks[name]
    length = data.draw(st.integers(1, 20), label="length")
    windows = data.draw(st.lists(st.none() | st.integers(1, 20), min_size=len(net.layers), max_size=len(net.layers)))
    shift = data.draw(st.integers(0, tiny.CONTEXT - length), label="shift")
    tokens = tiny.tokens(seed=length, length=length)
    positions = torch.arange(length) + shift

    got = run(
        weights,
        tokens,
        spans=[span(window) for window in windows],
        positions=positions,
        block=data.draw(st.integers(1, 24), label="block"),
    )

    expected = oracles.forward(net, tokens, windows=windows, positions=positions).logits
    # rotary angles are taken in float32, as Hugging Face takes them
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-9 if name in tiny.ABSOLUTE else 2e-5)


@pytest.mark.parametrize("name", tiny.NAMES)
def test_logits_are_those_of_the_hooked_model(name, bridges):
    tokens = tiny.tokens(length=40)
    with torch.no_grad():
        expected = bridges[name](tokens)
    got = run(weights_of(bridges[name]), tokens)
    assert (got - expected).abs().max() <= 1e-5 * (expected.max() - expected.min())


@pytest.mark.parametrize("length", [1, 3, 4, 5, 30])
def test_a_local_layer_is_a_global_one_up_to_its_window_and_not_beyond(length, exact):
    weights, tokens = exact["gpt-neo"], tiny.tokens(length=length)
    everything = [AttentionSpan("global")] * weights.anatomy.layers
    difference = (run(weights, tokens) - run(weights, tokens, spans=everything)).abs().max().item()
    if length <= tiny.WINDOW:
        assert difference == 0.0
    else:
        assert difference > 1e-3


def test_moving_all_positions_leaves_rotary_logits_and_moves_absolute_ones(exact):
    tokens = tiny.tokens(length=12)
    moved = torch.arange(12) + 7
    for name in tiny.NAMES:
        plain, shifted = run(exact[name], tokens), run(exact[name], tokens, positions=moved)
        spread = (plain.max() - plain.min()).item()
        difference = (plain - shifted).abs().max().item()
        assert difference < 1e-5 * spread if name in tiny.ROTARY else difference > 1e-2 * spread


@pytest.mark.parametrize("name", tiny.NAMES)
@pytest.mark.parametrize(
    "site", ["attn_scores", "pattern", "q", "k", "v", "z", "result", "attn_out", "mlp_out", "resid_pre"]
)
def test_an_edit_acts_as_in_the_oracle(name, site, exact, networks):
    from neolens.sites import hook_name

    tokens, layer = tiny.tokens(), 1
    got = run(
        exact[name],
        tokens,
        edit=lambda here, index, x: tiny.nudged(x) if (here, index) == (site, layer) else x,
    )
    expected = oracles.forward(networks[name], tokens, {hook_name(site, layer): tiny.nudged}).logits
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-9 if name in tiny.ABSOLUTE else 2e-5)


def test_attention_over_equal_keys_is_the_mean_of_the_visible_values():
    # q = 0 makes every visible key equal: z at i is the mean of v over the keys it sees.
    v = torch.arange(6, dtype=torch.float64).reshape(1, 1, 6, 1)
    zeros = torch.zeros_like(v)
    z = attend(zeros, zeros, v, AttentionSpan("local", 3), block=2).flatten()
    # 0, (0+1)/2, (0+1+2)/3, (1+2+3)/3, (2+3+4)/3, (3+4+5)/3
    assert z.tolist() == pytest.approx([0, 0.5, 1, 2, 3, 4])


def test_visible_keys_of_a_window_of_two_are_oneself_and_the_one_before():
    assert visible(range(2, 4), range(0, 4), AttentionSpan("local", 2)).tolist() == [
        [False, True, True, False],
        [False, False, True, True],
    ]


@pytest.mark.parametrize("layer", [0, 1])
def test_patterns_are_the_oracles(layer, bridges, networks):
    tokens = tiny.tokens(batch=1, length=14)
    got = patterns(bridges["gpt-neo"], tokens[0], layer)
    expected = oracles.forward(networks["gpt-neo"], tokens).after[f"blocks.{layer}.attn.hook_pattern"][0]
    torch.testing.assert_close(got.double(), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("tokens", "layer", "message"),
    [
        (torch.ones(5, dtype=torch.long), 4, "no layer 4 in .*: layers are 0 to 3"),
        (torch.ones(65, dtype=torch.long), 0, "the prompt has 65 tokens: .* takes 1 to 64"),
        (torch.ones(0, dtype=torch.long), 0, r"prompt of shape \(0,\): .* at least one token"),
    ],
)
def test_patterns_refuse_what_does_not_exist(tokens, layer, message, bridges):
    with pytest.raises(ValueError, match=message):
        patterns(bridges["gpt-neo"], tokens, layer)


def test_patterns_of_chosen_heads_come_from_one_pass_in_the_order_asked_for(bridges, monkeypatch):
    model, tokens = bridges["gpt-neo"], tiny.tokens(batch=1, length=14)[0]
    expected = {layer: patterns(model, tokens, layer) for layer in (0, 3)}
    passes = []
    module = sys.modules["neolens.network.patterns"]
    monkeypatch.setattr(module, "residual", lambda *args, **how: passes.append(0) or residual(*args, **how))
    found = head_patterns(model, tokens, {3: [2, 0], 0: [1]})
    assert len(passes) == 1
    torch.testing.assert_close(found[3], expected[3][[2, 0]], rtol=0, atol=0)
    torch.testing.assert_close(found[0], expected[0][[1]], rtol=0, atol=0)
    with pytest.raises(ValueError, match=r"no head 9 in layer 0 of .*: heads are 0 to"):
        head_patterns(model, tokens, {0: [9]})


def test_weights_are_the_models_own_and_not_copies(bridges):
    model = bridges["gpt2"]
    weights = weights_of(model)
    assert weights.layers[0].q.weight.data_ptr() == model.blocks[0].attn.q.original_component.weight.data_ptr()
    assert weights.layers[0].up.weight.data_ptr() == model.original_model.transformer.h[0].mlp.c_fc.weight.data_ptr()


def test_weights_of_something_else_are_refused():
    with pytest.raises(TypeError, match=r"expected a model from neolens\.load, got str"):
        weights_of("gpt2")


def test_the_fingerprint_changes_with_any_weight_and_with_nothing_else(tiny_folders):
    model, twin = neolens.load(tiny_folders["pythia"]), neolens.load(tiny_folders["pythia"])
    first = fingerprint(model)
    assert fingerprint(twin) == first
    weight = twin.blocks[2].attn.v.original_component.weight
    with torch.no_grad():
        weight[3, 5] += 1e-3
    assert fingerprint(twin) != first
    with torch.no_grad():
        weight[3, 5] = model.blocks[2].attn.v.original_component.weight[3, 5]
    assert fingerprint(twin) == first


def test_the_fingerprint_sees_an_edit_through_data_and_inference_tensors(tiny_folders):
    model = neolens.load(tiny_folders["gpt2"])
    first = fingerprint(model)
    model.blocks[0].attn.q.original_component.weight.data[0, 0] += 1
    assert fingerprint(model) != first
    for name, weight in model.original_model.named_parameters():
        before = fingerprint(model)
        kept = weight.data.clone()
        weight.data[...] = kept.roll(1, 0)
        assert fingerprint(model) != before or torch.equal(weight.data, kept), name
    with torch.inference_mode():
        assert fingerprint(neolens.load(tiny_folders["gpt2"])) == first


def test_the_checksum_on_a_gpu_changes_with_one_bit_and_with_the_order_of_two_values():
    values = torch.arange(2**22 + 50, dtype=torch.float32)
    for at, other in ((0, 1), (3, 2**22 + 10)):
        edited, swapped = values.clone(), values.clone()
        edited.view(torch.int32)[at] ^= 1
        swapped[[at, other]] = values[[other, at]]
        assert len({_multilinear(each) for each in (values, edited, swapped)}) == 3
    assert _multilinear(values) == _multilinear(values.clone())


def test_the_band_of_a_local_layer_is_all_that_is_computed():
    widths = []
    x = torch.randn(1, 1, 40, 2, generator=torch.Generator().manual_seed(0))
    attend(x, x, x, AttentionSpan("local", 4), block=8, observer=lambda block: widths.append(block.keys))
    assert widths == [8, 11, 11, 11, 11]  # a block's 8 queries see themselves and 3 keys before
