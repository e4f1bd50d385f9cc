"""Beyond the context, positions ablated, QK and OV circuits, and positions that the forward pass is told: each against
the oracle, told the same by hand.
"""

import dataclasses
import json
from importlib import import_module

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import neolens
import oracles
import tiny
from neolens.ablation import effect
from neolens.network import cast, logits, residual, weights_of
from neolens.position import ablate_positions, beyond_context, ov, qk
from neolens.position import ablation as ablating
from neolens.whatif import Freeze, Mean, OnlyRotated, Scale, Shift, Shuffle, Unrotated, WithoutBands, Zero, what_if

length = import_module("neolens.position.beyond_context")


NEAR = dict(rtol=1e-4, atol=1e-5)

every_family = pytest.mark.parametrize("name", tiny.NAMES)
rotary_families = pytest.mark.parametrize("name", tiny.ROTARY)
absolute_families = pytest.mark.parametrize("name", tiny.ABSOLUTE)


@pytest.fixture(scope="module")
def nope(tmp_path_factory):
    """A tiny model without positions, and the oracle's weights of it."""
    model = tiny.model("pythia", rotary_pct=0.0)
    return tiny.loaded(model, tmp_path_factory), oracles.network(model)


def losses(net, tokens, **told) -> np.ndarray:
    """[prompt, pos] of predicting token i + 1, NaN at the last."""
    said, found = oracles.forward(net, tokens, **told).logits.log_softmax(-1), np.full(tokens.shape, np.nan)
    for prompt, i in np.ndindex(tokens.shape[0], tokens.shape[1] - 1):
        found[prompt, i] = -float(said[prompt, i, tokens[prompt, i + 1]])
    return found


# Beyond the context ----------------------------------------------------------------------------------------

LONG = tiny.tokens(seed=7, length=100)


@rotary_families
def test_the_loss_beyond_the_context_is_the_oracles_at_indices_scaled_by_hand(name, bridges, networks):
    found = beyond_context(bridges[name], LONG, scales=[0.5, 0.3])["loss"]
    assert found["group"].values.tolist() == ["as trained", "interpolated by 0.5", "interpolated by 0.3"]
    for group, factor in (("as trained", 1.0), ("interpolated by 0.5", 0.5), ("interpolated by 0.3", 0.3)):
        expected = losses(networks[name], LONG, positions=torch.arange(100).double() * factor)
        np.testing.assert_allclose(found.sel(group=group), expected, **NEAR, err_msg=group)
        assert float(found["scale"].sel(group=group)) == factor


@rotary_families
def test_by_default_indices_are_squeezed_into_the_context(name, bridges, networks):
    found = beyond_context(bridges[name], LONG)
    assert found["group"].values.tolist() == ["as trained", "interpolated by 0.64"]  # 64 positions of 100 tokens
    expected = losses(networks[name], LONG, positions=torch.arange(100).double() * 0.64)
    np.testing.assert_allclose(found["loss"].sel(group="interpolated by 0.64"), expected, **NEAR)


def test_a_model_without_positions_goes_on_as_it_is(nope):
    model, net = nope
    found = beyond_context(model, LONG)
    assert found["group"].values.tolist() == ["as trained"]
    np.testing.assert_allclose(found["loss"].sel(group="as trained"), losses(net, LONG), **NEAR)


def test_positions_say_whether_the_context_holds_them(bridges):
    inside = beyond_context(bridges["pythia"], LONG)["inside"]
    assert inside.values.tolist() == [True] * 64 + [False] * 36


def test_windows_act_beyond_the_context_too(bridges, networks):
    with what_if(bridges["pythia"], windows={1: 9}):
        found = beyond_context(bridges["pythia"], LONG, scales=0.5)["loss"]
    told = dict(windows=[None, 9, None], positions=torch.arange(100).double() * 0.5)
    np.testing.assert_allclose(found.sel(group="interpolated by 0.5"), losses(networks["pythia"], LONG, **told), **NEAR)


@pytest.mark.parametrize("scales", [0.5, (0.5,), np.array([0.5]), torch.tensor(0.5), np.float32(0.5)], ids=repr)
def test_a_scale_is_one_number_or_several(scales, bridges):
    found = beyond_context(bridges["pythia"], LONG, scales=scales)
    assert found["scale"].values.tolist() == [1.0, 0.5]


BEYOND = {
    "absolute": (
        "gpt2",
        LONG,
        None,
        ValueError,
        "has absolute positions and learned 64 of them, none for a longer text",
    ),
    "absolute, local": ("gpt-neo", LONG, None, ValueError, "has absolute positions and learned 64 of them, none"),
    "no longer than the context": (
        "pythia",
        LONG[:, :64],
        None,
        ValueError,
        "prompts have 64 tokens, which the context of .* holds: expected more than 64",
    ),
    "several lengths": (
        "pythia",
        [LONG[0], LONG[1, :90]],
        None,
        ValueError,
        "prompts have 90 to 100 tokens: expected one",
    ),
    "a scale of 1": ("pythia", LONG, 1, ValueError, "a scale of 1 does not interpolate: expected a factor below 1"),
    "a scale above 1": ("pythia", LONG, [0.5, 2.0], ValueError, "a scale of 2 does not interpolate"),
    "a scale of 0": ("pythia", LONG, 0.0, ValueError, "scale 0.0: expected a number from 1e-09"),
    "a negative scale": ("pythia", LONG, -0.5, ValueError, "scale -0.5: expected a number from 1e-09"),
    "no number": ("pythia", LONG, float("nan"), ValueError, "scale nan: expected a number from 1e-09"),
    "a bool": ("pythia", LONG, True, TypeError, "scale True: expected a number"),
    "a word": ("pythia", LONG, "0.5", TypeError, "scale '0.5': expected a number"),
    "one twice": ("pythia", LONG, [0.5, 0.5], ValueError, "scales .*: expected each once"),
    "too alike": ("pythia", LONG, [0.5, 0.50001], ValueError, "scales .*: expected each once, apart in their first"),
    "no tokens": ("pythia", LONG.float(), None, TypeError, "prompt 0 is not a one-dimensional integer tensor"),
}


@pytest.fixture
def no_runs(monkeypatch):
    for module in (length, ablating):
        monkeypatch.setattr(module, "losses", lambda *args, **rest: pytest.fail("the model ran"))


@pytest.mark.parametrize("case", BEYOND)
def test_what_has_no_loss_beyond_the_context_is_refused_before_the_model_runs(case, bridges, no_runs):
    name, tokens, scales, error, message = BEYOND[case]
    with pytest.raises(error, match=message):
        beyond_context(bridges[name], tokens, scales=scales)


def test_without_positions_there_is_nothing_to_interpolate(nope, no_runs):
    with pytest.raises(ValueError, match="has no position encoding, so there is nothing to interpolate"):
        beyond_context(nope[0], LONG, scales=0.5)


def test_inside_another_treatment_there_is_no_loss_as_trained(bridges, no_runs):
    with what_if(bridges["pythia"], positions=Scale(0.5)), pytest.raises(ValueError, match="are treated already"):
        beyond_context(bridges["pythia"], tiny.tokens(length=200))


@pytest.mark.parametrize("probe", [beyond_context, ablate_positions])
def test_hooks_and_other_models_are_refused(probe, bridges, tiny_models, no_runs):
    hook = ("blocks.0.attn.hook_q", lambda x, hook: x)
    with bridges["pythia"].hooks(fwd_hooks=[hook]), pytest.raises(ValueError, match="the model has hooks at blocks.0"):
        probe(bridges["pythia"], LONG)
    with pytest.raises(TypeError, match="expected a model from neolens.load, got GPTNeoXForCausalLM"):
        probe(tiny_models["pythia"], LONG)


# Positions ablated -----------------------------------------------------------------------------------------


def told(net, treatment, tokens):
    """The oracle's weights and arguments under a treatment."""
    places = torch.arange(tokens.shape[1])
    match treatment:
        case Zero():
            return dataclasses.replace(net, pos_embed=torch.zeros_like(net.pos_embed)), {}
        case Mean():
            mean = sum(net.pos_embed) / len(net.pos_embed)
            return dataclasses.replace(net, pos_embed=torch.stack([mean] * len(net.pos_embed))), {}
        case Shuffle(seed=seed):
            order = torch.randperm(tiny.CONTEXT, generator=torch.Generator().manual_seed(seed))
            return net, {"positions": order[places]}
        case Shift(by=by):
            return net, {"positions": places + by}
        case Freeze(at=at):
            return net, {"positions": torch.full_like(places, at)}
        case Unrotated():
            return net, {"unrotated": range(net.rotary_dims // 2)}
        case Scale(by=by):
            return net, {"positions": places.double() * by}
        case WithoutBands(bands=bands):
            return net, {"dropped": [half + band for half in (0, net.rotary_dims // 2) for band in bands]}


BY_DEFAULT = {
    "gpt2": {"embedding zero": Zero(), "embedding the mean": Mean(), "shuffled (seed 0)": Shuffle()},
    "gpt-neo": {"embedding zero": Zero(), "embedding the mean": Mean(), "shuffled (seed 0)": Shuffle()},
    "pythia": {"not rotated": Unrotated()},
    "neox-sequential": {"not rotated": Unrotated()},
}
ASKED = {
    "gpt2": {"shifted by 8": Shift(8), "every token at 3": Freeze(3), "shuffled (seed 4)": Shuffle(4)},
    "gpt-neo": {"shifted by 50": Shift(50), "embedding zero": Zero()},
    "pythia": {"scaled by 0.5": Scale(0.5), "without band 1": WithoutBands([1]), "every token at 3": Freeze(3)},
    "neox-sequential": {"without bands 0, 2": WithoutBands([2, 0])},
}


def assert_losses_are_the_oracles(found, net, tokens, treatments) -> None:
    assert found["group"].values.tolist() == list(treatments)
    np.testing.assert_allclose(found["baseline"], losses(net, tokens), **NEAR)
    for group, treatment in treatments.items():
        other, arguments = told(net, treatment, tokens)
        expected = losses(other, tokens, **arguments)
        np.testing.assert_allclose(found["ablated"].sel(group=group), expected, **NEAR, err_msg=group)


@every_family
def test_by_default_nothing_of_positions_is_left(name, bridges, networks):
    found = ablate_positions(bridges[name], tiny.tokens(), progress=False)
    assert_losses_are_the_oracles(found, networks[name], tiny.tokens(), BY_DEFAULT[name])


@every_family
def test_asked_for_treatments_are_those_of_the_oracle(name, bridges, networks):
    found = ablate_positions(bridges[name], tiny.tokens(), list(ASKED[name].values()), progress=False)
    assert_losses_are_the_oracles(found, networks[name], tiny.tokens(), ASKED[name])


def test_treatments_have_the_names_that_they_are_given(bridges, networks):
    named = {"nothing": "zero", "moved": Shift(3)}
    found = ablate_positions(bridges["gpt2"], tiny.tokens(), named, progress=False)
    treatments = {"nothing": Zero(), "moved": Shift(3)}
    assert_losses_are_the_oracles(found, networks["gpt2"], tiny.tokens(), treatments)


@pytest.mark.parametrize("one", ["shuffle", Shift(2)], ids=str)
def test_one_treatment_needs_no_list(one, bridges):
    alone, listed = (ablate_positions(bridges["gpt2"], tiny.tokens(), its, progress=False) for its in (one, [one]))
    assert alone.equals(listed)


def test_prompts_of_several_lengths_are_padded_with_nan(bridges, networks):
    prompts = [tiny.tokens(0, 1, 9)[0], tiny.tokens(1, 1, 14)[0], tiny.tokens(2, 1, 9)[0]]
    found = ablate_positions(bridges["gpt2"], prompts, "mean", progress=False)
    assert found["length"].values.tolist() == [9, 14, 9]
    for number, prompt in enumerate(prompts):
        other, _ = told(networks["gpt2"], Mean(), prompt[None])
        expected = np.full(14, np.nan)
        expected[: len(prompt)] = losses(other, prompt[None])[0]
        np.testing.assert_allclose(found["ablated"][0, number], expected, **NEAR)


def test_windows_in_force_stay_and_treatments_in_force_are_refused(bridges, networks):
    model, net, tokens = bridges["gpt2"], networks["gpt2"], tiny.tokens()
    with what_if(model, windows={0: 3}):
        found = ablate_positions(model, tokens, Freeze(2), progress=False)
    with what_if(model, positions=Shift(5)), pytest.raises(ValueError, match="treated already"):
        ablate_positions(model, tokens, Freeze(2), progress=False)
    its = dict(windows=[3, None, None])
    np.testing.assert_allclose(found["baseline"], losses(net, tokens, **its), **NEAR)
    expected = losses(net, tokens, positions=torch.full((14,), 2), **its)
    np.testing.assert_allclose(found["ablated"][0], expected, **NEAR)


def test_effects_of_ablated_positions_are_mean_differences_of_losses(bridges, networks):
    tokens, net = tiny.tokens(batch=5), networks["gpt2"]
    found = effect(ablate_positions(bridges["gpt2"], tokens, progress=False), resamples=200)
    assert found["group"].values.tolist() == list(BY_DEFAULT["gpt2"])
    baseline = losses(net, tokens)[:, :-1]
    assert float(found["baseline"]) == pytest.approx(baseline.mean(), rel=1e-4)
    for group, treatment in BY_DEFAULT["gpt2"].items():
        other, arguments = told(net, treatment, tokens)
        expected = (losses(other, tokens, **arguments)[:, :-1] - baseline).mean()
        one = found.sel(group=group)
        assert float(one["effect"]) == pytest.approx(expected, rel=1e-3, abs=1e-5)
        assert float(one["low"]) <= float(one["effect"]) <= float(one["high"])


def test_an_ablation_that_changes_nothing_has_no_effect(bridges):
    model = bridges["pythia"]
    found = ablate_positions(model, tiny.tokens(), {"none": Shift(0)}, progress=False)
    np.testing.assert_array_equal(found["ablated"][0], found["baseline"])
    assert json.loads(found.attrs["metric"]) == ["loss"]


ABLATED = {
    "not of absolute positions": (
        "gpt2",
        tiny.tokens(),
        "off",
        ValueError,
        "has absolute positions, which Unrotated does not act on",
    ),
    "not of rotary positions": (
        "pythia",
        tiny.tokens(),
        "zero",
        ValueError,
        "rotary positions, which Zero does not act",
    ),
    "one of several": ("pythia", tiny.tokens(), ["off", Shuffle()], ValueError, "which Shuffle does not act on"),
    "nothing left of all dimensions": (
        "neox-sequential",
        tiny.tokens(),
        neolens.whatif.OnlyUnrotated(),
        ValueError,
        "rotates all 8 dimensions",
    ),
    "a word that is none": ("gpt2", tiny.tokens(), "shufle", ValueError, "no treatment of positions 'shufle': did you"),
    "no treatment": ("gpt2", tiny.tokens(), [], ValueError, "there is no treatment: expected at least one"),
    "no treatment by name": ("gpt2", tiny.tokens(), {}, ValueError, "there is no treatment: expected at least one"),
    "a number": ("gpt2", tiny.tokens(), 8, TypeError, "positions is 8: expected a treatment such as"),
    "a class": ("gpt2", tiny.tokens(), [Zero], TypeError, "positions is the class Zero: expected a treatment"),
    "too long for a shift": (
        "gpt2",
        tiny.tokens(),
        Shift(60),
        ValueError,
        "prompt 0 has 14 tokens: .* takes 1 to 4 here",
    ),
    "one token": ("gpt2", tiny.tokens(length=1), None, ValueError, "prompt 0 has 1 tokens: .* takes 2 to 64"),
    "too long": ("pythia", tiny.tokens(length=65), None, ValueError, "prompt 0 has 65 tokens: .* takes 2 to 64"),
}


@pytest.mark.parametrize("case", ABLATED)
def test_what_cannot_be_ablated_is_refused_before_the_model_runs(case, bridges, no_runs):
    name, tokens, treatments, error, message = ABLATED[case]
    model = bridges[name]
    anatomy = model.anatomy
    with pytest.raises(error, match=message):
        ablate_positions(model, tokens, treatments)
    assert model.anatomy is anatomy


def test_a_model_without_positions_has_none_to_ablate(nope, no_runs):
    with pytest.raises(ValueError, match="no position encoding: an ablation of positions needs absolute or rotary"):
        ablate_positions(nope[0], tiny.tokens())


# QK and OV -------------------------------------------------------------------------------------------------


def turned(net, x, by) -> torch.Tensor:
    """A vector of one head, turned by `by` positions where the network is rotary."""
    if not net.rotary_dims:
        return x
    return oracles.rotate(x[None, None, None], torch.tensor([by]), net.rotary_dims, net.rotary_base)[0, 0, 0]


CELLS = [(13, 13), (13, 12), (9, 4), (13, 1), (1, 0)]


@every_family
@pytest.mark.parametrize(("layer", "head"), [(0, 0), (1, 3), (2, 1)])
def test_a_score_is_n_qk_m_and_what_biases_add(name, layer, head, bridges, networks):
    net, tokens = networks[name], tiny.tokens(batch=1)
    run, its = oracles.forward(net, tokens), networks[name].layers[layer]
    normed = oracles.layer_norm(run.after[f"blocks.{layer}.hook_resid_pre"][0], its.ln1, net.eps)
    window = net.windows[layer] or 14
    for i, j in CELLS:
        if i - j >= window:
            continue
        d, n, m = i - j, normed[i], normed[j]
        circuit = qk(bridges[name], layer, head, d).AB.double()
        q, k = n @ its.w_q[head], m @ its.w_k[head]
        assert float(n @ circuit @ m) == pytest.approx(float(turned(net, q, d) @ k), rel=1e-4, abs=1e-5)

        b_q, b_k = turned(net, its.b_q[head], d), its.b_k[head]
        of_biases = turned(net, q, d) @ b_k + b_q @ k + b_q @ b_k
        expected = run.after[f"blocks.{layer}.attn.hook_attn_scores"][0, head, i, j]
        got = net.scales[layer] * (n @ circuit @ m + of_biases)
        assert float(got) == pytest.approx(float(expected), rel=1e-4, abs=1e-5)


@every_family
def test_at_distance_0_qk_is_transformer_lenss_and_ov_always_is(name, bridges):
    model = bridges[name]
    for layer, head in ((0, 0), (1, 3), (2, 2)):
        torch.testing.assert_close(qk(model, layer, head).AB, model.QK[layer, head].AB)
        torch.testing.assert_close(ov(model, layer, head).AB, model.OV[layer, head].AB)


@absolute_families
def test_without_a_rotation_qk_is_the_same_at_every_distance_of_the_context(name, bridges):
    at_0 = qk(bridges[name], 0, 2).AB
    for distance in (1, 7, tiny.CONTEXT - 1):
        assert torch.equal(qk(bridges[name], 0, 2, distance).AB, at_0)
    with pytest.raises(ValueError, match="expected a distance of 0 to 63"):
        qk(bridges[name], 0, 2, tiny.CONTEXT)


def test_treatments_that_are_called_alike_are_refused(bridges):
    alike = [Scale(0.1234567), Scale(0.1234568)]
    with pytest.raises(ValueError, match="two are called alike"):
        ablate_positions(bridges["pythia"], tiny.tokens(), alike, progress=False)
    named = ablate_positions(bridges["pythia"], tiny.tokens(), dict(zip("ab", alike)), progress=False)
    assert named["group"].values.tolist() == ["a", "b"]


@settings(max_examples=25, deadline=None)
@given(name=st.sampled_from(tiny.ROTARY), layer=st.integers(0, 2), head=st.integers(0, 3), distance=st.integers(0, 300))
def test_qk_is_w_q_turned_times_w_k_for_any_head_and_distance(name, layer, head, distance, bridges, networks):
    net = networks[name]
    its = net.layers[layer]
    rows = torch.stack([turned(net, row, distance) for row in its.w_q[head]])
    expected = rows @ its.w_k[head].T
    got = qk(bridges[name], layer, head, distance)
    assert got.shape == (32, 32)
    np.testing.assert_allclose(got.AB, expected, rtol=1e-3, atol=1e-5)


@every_family
def test_what_a_head_writes_is_its_pattern_over_x_ov_and_the_bias_of_v(name, bridges, networks):
    net, tokens = networks[name], tiny.tokens(batch=1)
    run, its = oracles.forward(net, tokens), networks[name].layers[1]
    normed = oracles.layer_norm(run.after["blocks.1.hook_resid_pre"][0], its.ln1, net.eps)
    for head in range(4):
        pattern = run.after["blocks.1.attn.hook_pattern"][0, head]
        circuit = ov(bridges[name], 1, head).AB.double()
        got = pattern @ normed @ circuit + its.b_v[head] @ its.w_o[head]  # a row of a pattern sums to 1
        expected = run.after["blocks.1.attn.hook_result"][0, :, head]
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)


def test_qk_follows_the_treatment_of_positions_in_force(bridges, networks):
    model, net = bridges["neox-sequential"], networks["neox-sequential"]
    w_q, w_k = net.layers[0].w_q[1], net.layers[0].w_k[1]
    scaled = torch.stack([turned(net, row, 3) for row in w_q]) @ w_k.T
    with what_if(model, positions=Scale(0.5)):
        np.testing.assert_allclose(qk(model, 0, 1, 6).AB, scaled, atol=1e-5)
    with what_if(model, positions="off"):
        np.testing.assert_allclose(qk(model, 0, 1, 6).AB, w_q @ w_k.T, atol=1e-5)
    with what_if(bridges["pythia"], positions=OnlyRotated()):
        its = networks["pythia"].layers[0]
        rotated = torch.stack([turned(networks["pythia"], row, 6) for row in its.w_q[1]])[:, :4] @ its.w_k[1][:, :4].T
        np.testing.assert_allclose(qk(bridges["pythia"], 0, 1, 6).AB, rotated, atol=1e-5)


def test_a_model_without_positions_has_circuits_too(nope):
    model, net = nope
    expected = net.layers[2].w_q[3] @ net.layers[2].w_k[3].T
    np.testing.assert_allclose(qk(model, 2, 3, 5).AB, expected, atol=1e-5)


CIRCUITS = {
    "beyond a local window": (qk, "gpt-neo", (1, 0, 4), ValueError, "no key 4 tokens back .* in layer 1: .* 0 to 3"),
    "a negative distance": (qk, "pythia", (1, 0, -1), ValueError, "no key -1 tokens back is seen in layer 1"),
    "a distance without exact angles": (qk, "pythia", (1, 0, 2**24 + 1), ValueError, "no key 16777217 tokens back"),
    "no such layer": (qk, "gpt2", (3, 0), ValueError, "no layer 3 in .*: layers are 0 to 2"),
    "no such head": (qk, "gpt2", (0, 4), ValueError, "no head 4 in .*: heads are 0 to 3"),
    "a negative head": (ov, "gpt2", (0, -1), ValueError, "no head -1 in .*: heads are 0 to 3"),
    "no such layer of ov": (ov, "gpt-neo", (4, 0), ValueError, "no layer 4 in .*: layers are 0 to 3"),
    "a layer that is a float": (ov, "gpt2", (0.0, 1), TypeError, "layer 0.0: expected a whole number"),
    "a head that is a bool": (ov, "gpt2", (0, True), TypeError, "head True: expected a whole number"),
    "a distance that is a float": (qk, "pythia", (0, 0, 1.5), TypeError, "distance 1.5: expected a whole number"),
    "several distances": (qk, "pythia", (0, 0, [1, 2]), TypeError, r"distance \[1, 2\]: expected a whole number"),
}


@pytest.mark.parametrize("case", CIRCUITS)
def test_circuits_that_do_not_exist_are_refused(case, bridges):
    circuit, name, asked, error, message = CIRCUITS[case]
    with pytest.raises(error, match=message):
        circuit(bridges[name], *asked)


@pytest.mark.parametrize("circuit", [qk, ov])
def test_circuits_are_of_models_of_neolens(circuit, tiny_models):
    with pytest.raises(TypeError, match="expected a model from neolens.load, got GPT2LMHeadModel"):
        circuit(tiny_models["gpt2"], 0, 0)


def test_what_a_window_hides_is_seen_without_it(bridges, networks):
    its = networks["gpt-neo"].layers[1]
    with what_if(bridges["gpt-neo"], windows="global"):
        got = qk(bridges["gpt-neo"], 1, 2, 40).AB
    np.testing.assert_allclose(got, its.w_q[2] @ its.w_k[2].T, atol=1e-5)


# Positions that the forward pass is told -------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(name=st.sampled_from(tiny.NAMES), starts=st.lists(st.integers(0, 20), min_size=1, max_size=4), data=st.data())
def test_each_prompt_at_positions_of_its_own_is_as_alone_and_as_the_oracle_says(name, starts, data, bridges, networks):
    length, weights = data.draw(st.integers(1, 20)), weights_of(bridges[name])
    tokens = tiny.tokens(seed=length, batch=len(starts), length=length)
    steps = torch.tensor(data.draw(st.lists(st.integers(0, 2), min_size=length, max_size=length)))
    positions = torch.tensor(starts)[:, None] + steps.cumsum(0)
    positions = positions.flip(1) if data.draw(st.booleans()) else positions
    with torch.no_grad():
        together = logits(weights, residual(weights, tokens, positions=positions))
        for row, its in enumerate(positions):
            alone = logits(weights, residual(weights, tokens[row : row + 1], positions=its))[0]
            torch.testing.assert_close(together[row], alone, rtol=1e-4, atol=1e-5)
            expected = oracles.forward(networks[name], tokens[row : row + 1], positions=its).logits[0]
            torch.testing.assert_close(together[row].double(), expected, rtol=1e-4, atol=1e-4)


@rotary_families
def test_float64_positions_take_their_angles_in_float64_and_whole_numbers_in_float32(name, bridges, networks):
    weights, tokens = cast(weights_of(bridges[name]), torch.float64), tiny.tokens()
    positions = torch.arange(14) + 1_000_000
    expected = oracles.forward(networks[name], tokens, positions=positions).logits
    exact, rounded = (
        logits(weights, residual(weights, tokens, positions=its)) for its in (positions.double(), positions)
    )
    assert (exact - expected).abs().max() < 1e-8
    assert (rounded - expected).abs().max() > 1e-4


@rotary_families
def test_float64_positions_are_scaled_in_float64(name, bridges, networks):
    weights, tokens = weights_of(bridges[name]), tiny.tokens()
    with what_if(bridges[name], positions=Scale(1 / 3)):
        weights = cast(weights_of(bridges[name]), torch.float64)
    positions = torch.arange(14).double() + 999_999
    expected = oracles.forward(networks[name], tokens, positions=positions / 3).logits
    exact = logits(weights, residual(weights, tokens, positions=positions))
    assert (exact - expected).abs().max() < 1e-8


@rotary_families
def test_a_fraction_of_a_position_is_an_angle_between(name, bridges, networks):
    weights, tokens, positions = weights_of(bridges[name]), tiny.tokens(), torch.arange(14).double() * 0.7
    expected = oracles.forward(networks[name], tokens, positions=positions).logits
    with torch.no_grad():
        got = logits(weights, residual(weights, tokens, positions=positions))
    torch.testing.assert_close(got.double(), expected, rtol=1e-4, atol=1e-4)
