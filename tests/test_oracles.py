"""The oracles themselves: the forward pass against Hugging Face, the scores against patterns done by hand."""

import math

import pytest
import torch

import oracles
import tiny

# GPT-2 is float64 throughout. Hugging Face keeps GPT-Neo's scores and the rotary angles in float32 whatever
# the precision of the model, and so is itself off by this much.
FLOAT64_TOLERANCE = {"gpt2": 1e-13, "gpt-neo": 2e-6, "pythia": 2e-6, "neox-sequential": 2e-6}


@pytest.mark.parametrize("name", tiny.NAMES)
def test_the_forward_pass_is_hugging_faces_in_float64(name):
    own_dtype = {"reorder_and_upcast_attn": False} if name == "gpt2" else {}  # with it Hugging Face refuses float64
    model = tiny.model(name, **own_dtype).double()
    tokens = tiny.tokens()

    with torch.no_grad():
        ours = oracles.forward(oracles.network(model), tokens).logits
        theirs = model(tokens).logits

    assert (ours - theirs).abs().max() < FLOAT64_TOLERANCE[name] * theirs.std()


@pytest.mark.parametrize("name", tiny.NAMES)
def test_the_forward_pass_is_hugging_faces_in_float32(name, tiny_models):
    tokens = tiny.tokens(seed=1, length=24)

    with torch.no_grad():
        ours = oracles.forward(oracles.network(tiny_models[name], torch.float32), tokens).logits
        theirs = tiny_models[name](tokens).logits

    assert (ours - theirs).abs().max() < 1e-5 * theirs.std()


@pytest.mark.parametrize("name", tiny.NAMES)
def test_patterns_and_residual_streams_are_hugging_faces(name, tiny_models):
    tokens = tiny.tokens(seed=2)

    with torch.no_grad():
        run = oracles.forward(oracles.network(tiny_models[name]), tokens)
        theirs = tiny_models[name](tokens, output_attentions=True, output_hidden_states=True)

    for layer, pattern in enumerate(theirs.attentions):
        assert (run.after[f"blocks.{layer}.attn.hook_pattern"] - pattern).abs().max() < 1e-5
        resid = run.after[f"blocks.{layer}.hook_resid_pre"]
        assert (resid - theirs.hidden_states[layer]).abs().max() < 1e-5 * resid.std()


@pytest.mark.parametrize("name", tiny.NAMES)
def test_weight_gradients_are_hugging_faces(name):
    model = tiny.model(name)
    tokens = tiny.tokens(seed=3)
    net = oracles.network(model, grad=True)
    embedding = model.get_input_embeddings().weight

    weighting = torch.randn(2, 14, tiny.VOCAB, generator=torch.Generator().manual_seed(0))
    (theirs,) = torch.autograd.grad((model(tokens).logits * weighting).sum(), embedding)
    (ours,) = torch.autograd.grad((oracles.forward(net, tokens).logits * weighting).sum(), net.embed)

    assert (ours - theirs).abs().max() < 1e-5 * theirs.abs().max()


@pytest.mark.parametrize("name", tiny.NAMES)
def test_an_edit_at_any_site_moves_the_logits_and_an_identity_does_not(name, tiny_models):
    net = oracles.network(tiny_models[name])
    tokens = tiny.tokens()
    plain = oracles.forward(net, tokens).logits

    for site in net.sites:
        assert torch.equal(oracles.forward(net, tokens, {site: lambda value: value.clone()}).logits, plain)
        nudged = oracles.forward(net, tokens, {site: tiny.nudged}).logits
        assert (nudged - plain).abs().max() > 0.1 * plain.std(), site


def test_a_site_that_does_not_exist_is_refused(tiny_models):
    net = oracles.network(tiny_models["pythia"])

    for site in (
        "hook_pos_embed",
        "blocks.0.hook_resid_mid",
        "blocks.9.hook_resid_pre",
        "blocks.0.attn.hook_qq",
    ):
        with pytest.raises(KeyError, match="no such site"):
            oracles.forward(net, tiny.tokens(), {site: lambda value: value})


def test_a_local_layer_sees_itself_and_window_minus_one_keys_before():
    rows = oracles.visible(4, 2).int().tolist()

    assert rows == [[1, 0, 0, 0], [1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 1, 1]]


def test_rotation_turns_the_pair_m_and_m_plus_half_and_leaves_the_rest():
    x = torch.tensor([1.0, 0.0, 0.0, 0.0, 7.0, 8.0], dtype=torch.float64).reshape(1, 1, 1, 6)

    turned = oracles.rotate(x, torch.tensor([3]), dims=4, base=10000.0).flatten().tolist()

    # m = 0 turns by 3 radians, its partner is dimension 0 + 4/2; dimensions 4 and 5 are not rotary
    assert turned == pytest.approx([math.cos(3), 0.0, math.sin(3), 0.0, 7.0, 8.0])


def test_windows_and_positions_can_replace_the_models_own(tiny_models):
    tokens = tiny.tokens()
    neo = oracles.network(tiny_models["gpt-neo"])
    rotary = oracles.network(tiny_models["pythia"])

    with_own = oracles.forward(neo, tokens, windows=[None, tiny.WINDOW, None, tiny.WINDOW]).logits
    wide = oracles.forward(neo, tokens, windows=[None, 14, None, 14]).logits
    shifted = oracles.forward(rotary, tokens, positions=torch.arange(14) + 5).logits

    assert torch.equal(with_own, oracles.forward(neo, tokens).logits)
    assert torch.equal(wide, oracles.forward(neo, tokens, windows=[None] * 4).logits)
    assert (wide - with_own).abs().max() > 0.1 * with_own.std()
    assert (shifted - oracles.forward(rotary, tokens).logits).abs().max() < 1e-9


# The scores, on patterns whose scores are known without counting -----------------------------------


def planted(length: int, key_of) -> torch.Tensor:
    """A pattern in which query i puts everything on key `key_of(i)`."""
    pattern = torch.zeros(length, length, dtype=torch.float64)
    for i in range(length):
        pattern[i, key_of(i)] = 1.0
    return pattern


def uniform(length: int, window: int | None = None) -> torch.Tensor:
    mask = oracles.visible(length, window).double()
    return mask / mask.sum(dim=-1, keepdim=True)


def test_a_perfect_previous_token_head_scores_one_and_nothing_else():
    pattern = planted(9, lambda i: max(i - 1, 0))

    assert oracles.previous_token(pattern) == 1.0
    assert oracles.current_token(pattern) == pytest.approx(1 / 9)  # query 0 has no other key
    assert oracles.sink(pattern) == pytest.approx(2 / 9)  # queries 0 and 1
    assert oracles.mean_distance(pattern) == pytest.approx(8 / 9)
    assert oracles.entropy(pattern) == 0.0
    assert oracles.mass_by_distance(pattern)[:3] == pytest.approx([1 / 9, 1.0, 0.0])


def test_a_perfect_induction_head_and_a_perfect_duplicate_head_are_told_apart():
    n = 4  # [BOS, a, b, c, d, a, b, c, d]: the token after the earlier copy of token 5 stands at 2
    induction = planted(9, lambda i: i - n + 1 if i > n else 0)
    duplicate = planted(9, lambda i: i - n if i > n else 0)

    assert (oracles.induction(induction, n), oracles.duplicate_token(induction, n)) == (1.0, 0.0)
    assert (oracles.induction(duplicate, n), oracles.duplicate_token(duplicate, n)) == (0.0, 1.0)


def test_a_uniform_head_has_entropy_one_of_what_its_window_allows():
    assert oracles.entropy_normalised(uniform(12)) == pytest.approx(1.0)
    assert oracles.entropy_normalised(uniform(12, window=4), window=4) == pytest.approx(1.0)
    assert oracles.entropy(uniform(3)) == pytest.approx((math.log(2) + math.log(3)) / 2)


def test_a_uniform_head_over_three_tokens_worked_by_hand():
    # rows: [1], [1/2, 1/2], [1/3, 1/3, 1/3]
    pattern = uniform(3)

    assert oracles.previous_token(pattern) == pytest.approx((1 / 2 + 1 / 3) / 2)
    assert oracles.current_token(pattern) == pytest.approx((1 + 1 / 2 + 1 / 3) / 3)
    assert oracles.sink(pattern) == pytest.approx((1 + 1 / 2 + 1 / 3) / 3)
    assert oracles.sink(pattern, k=1) == pytest.approx((1 / 2 + 1 / 3) / 2)
    assert oracles.mean_distance(pattern) == pytest.approx((0 + 1 / 2 + (1 + 2) / 3) / 3)
    assert oracles.mean_distance_without_first_key(pattern) == pytest.approx((1 / 3) / 3)
    assert oracles.mean_distance_of_mass_without_first_key(pattern) == pytest.approx((1 / 3) / (1 / 2 + 2 / 3))
    assert oracles.mass_by_distance(pattern) == pytest.approx([(1 + 1 / 2 + 1 / 3) / 3, (1 / 2 + 1 / 3) / 2, 1 / 3])


def test_beyond_the_window_mass_and_out_of_reach_induction_are_exactly_zero():
    pattern = uniform(13, window=4)  # n = 6, so the induction key stands 5 back, out of reach

    assert oracles.mass_by_distance(pattern)[4:] == [0.0] * 9
    assert oracles.induction(pattern, 6) == 0.0
