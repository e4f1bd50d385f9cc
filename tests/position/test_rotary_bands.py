"""Rotary bands: norms by loops, heads without a band against the oracle, a head that stands in one band alone.

Band b of a head is the pair of dimensions (b, b + half), half the rotary dimensions apart.
"""

import math
from contextlib import nullcontext

import numpy as np
import pytest
import torch

import neolens
import oracles
import tiny
from neolens.position import bands, taken_away
from neolens.position import rotary_bands as frequencies
from neolens.prompts import repeated
from neolens.whatif import Scale, Shift, WithoutBands, what_if

HALF = {"pythia": 2, "neox-sequential": 4}
BASE = {"pythia": 10000, "neox-sequential": 500}
NEAR = dict(rtol=1e-4, atol=1e-5)
CLOSE = dict(rel=1e-4, abs=1e-5)

rotary_families = pytest.mark.parametrize("name", tiny.ROTARY)
windowed = pytest.mark.parametrize("windows", [None, {0: 3, 1: 6}], ids=str)


def pattern(net, tokens, layer, **told):
    return oracles.forward(net, tokens, **told).after[f"blocks.{layer}.attn.hook_pattern"]


def losses(net, tokens, **told) -> np.ndarray:
    """[prompt, pos], NaN at the last."""
    said, found = oracles.forward(net, tokens, **told).logits.log_softmax(-1), np.full(tokens.shape, np.nan)
    for prompt, i in np.ndindex(tokens.shape[0], tokens.shape[1] - 1):
        found[prompt, i] = -float(said[prompt, i, tokens[prompt, i + 1]])
    return found


@pytest.fixture(scope="module")
def repeating():
    """Two prompts [first, r, r] with five tokens in r."""
    return repeated(range(1, tiny.VOCAB), 5, bos=0, prompts=2)


# Use -------------------------------------------------------------------------------------------------------


@rotary_families
def test_norms_are_mean_lengths_of_the_pairs_of_q_and_k(name, bridges, networks):
    tokens = tiny.tokens()
    found, run = bands(bridges[name], tokens, progress=False), oracles.forward(networks[name], tokens)
    for layer in range(3):
        for variable, part in (("query_norm", "q"), ("key_norm", "k")):
            x = run.after[f"blocks.{layer}.attn.hook_{part}"]  # a rotation keeps lengths
            for prompt, head, band in np.ndindex(2, 4, HALF[name]):
                pairs = [math.hypot(x[prompt, i, head, band], x[prompt, i, head, band + HALF[name]]) for i in range(14)]
                got = found[variable].sel(prompt=prompt, layer=layer, head=head, band=band)
                assert float(got) == pytest.approx(sum(pairs) / 14, rel=1e-4)


@rotary_families
def test_bands_carry_their_frequency_and_wavelength(name, bridges):
    found = bands(bridges[name], tiny.tokens(), progress=False)
    assert found["band"].values.tolist() == list(range(HALF[name]))
    for band in range(HALF[name]):
        frequency = BASE[name] ** (-band / HALF[name])
        assert float(found["frequency"][band]) == pytest.approx(frequency)
        assert float(found["wavelength"][band]) == pytest.approx(2 * math.pi / frequency)


# Without a band --------------------------------------------------------------------------------------------


@rotary_families
@windowed
def test_held_is_the_score_when_one_heads_rotated_query_is_zero_in_the_band(
    name, windows, bridges, networks, repeating
):
    net, half = networks[name], HALF[name]
    spans = [(windows or {}).get(layer) for layer in range(3)]
    with nullcontext() if windows is None else what_if(bridges[name], windows=windows):
        found = bands(bridges[name], repeating, progress=False)
    for layer, head, band in np.ndindex(3, 4, half):

        def cut(q, head=head, pair=(band, band + half)):
            q[:, :, head, pair] = 0.0
            return q

        edited = pattern(net, repeating, layer, edit={f"blocks.{layer}.attn.hook_rot_q": cut}, windows=spans)
        for prompt in range(2):
            cell = dict(prompt=prompt, layer=layer, head=head, band=band)
            expected = oracles.previous_token(edited[prompt, head])
            assert float(found["previous_token_held"].sel(cell)) == pytest.approx(expected, **CLOSE)
            expected = oracles.induction(edited[prompt, head], 5)
            assert float(found["induction_held"].sel(cell)) == pytest.approx(expected, **CLOSE)


@rotary_families
@windowed
def test_without_is_the_score_and_the_loss_of_the_network_without_the_band(name, windows, bridges, networks, repeating):
    net, half = networks[name], HALF[name]
    spans = [(windows or {}).get(layer) for layer in range(3)]
    with nullcontext() if windows is None else what_if(bridges[name], windows=windows):
        found = bands(bridges[name], repeating, progress=False)
    np.testing.assert_allclose(found["loss"], losses(net, repeating, windows=spans), **NEAR)
    for band in range(half):
        told = dict(dropped=[band, band + half], windows=spans)
        np.testing.assert_allclose(found["loss_without"].sel(band=band), losses(net, repeating, **told), **NEAR)
        run = oracles.forward(net, repeating, **told)
        for layer, head, prompt in np.ndindex(3, 4, 2):
            its = run.after[f"blocks.{layer}.attn.hook_pattern"][prompt, head]
            cell = dict(prompt=prompt, layer=layer, head=head, band=band)
            assert float(found["previous_token_without"].sel(cell)) == pytest.approx(
                oracles.previous_token(its), **CLOSE
            )
            assert float(found["induction_without"].sel(cell)) == pytest.approx(oracles.induction(its, 5), **CLOSE)


@rotary_families
def test_scores_with_every_band_are_those_of_attention(name, bridges, networks, repeating):
    found = bands(bridges[name], repeating, progress=False)
    for layer, head, prompt in np.ndindex(3, 4, 2):
        its = pattern(networks[name], repeating, layer)[prompt, head]
        cell = dict(prompt=prompt, layer=layer, head=head)
        assert float(found["previous_token"].sel(cell)) == pytest.approx(oracles.previous_token(its), **CLOSE)
        assert float(found["induction"].sel(cell)) == pytest.approx(oracles.induction(its, 5), **CLOSE)


@rotary_families
def test_in_the_first_layer_both_ways_of_taking_a_band_out_are_one(name, bridges, repeating):
    found = bands(bridges[name], repeating, progress=False)
    for score in ("previous_token", "induction"):
        held, without = (found[f"{score}_{how}"].sel(layer=0) for how in ("held", "without"))
        np.testing.assert_allclose(held, without, atol=1e-6)  # no layer below, of which it could get another input
        later = abs(found[f"{score}_held"] - found[f"{score}_without"]).sel(layer=[1, 2])
        assert (later.max(("prompt", "head", "band")) > 1e-3).all()


def test_the_model_is_as_it_was_afterwards(bridges):
    model, tokens = bridges["pythia"], tiny.tokens()
    anatomy, before = model.anatomy, model(tokens).detach()
    bands(model, tokens, progress=False)
    assert model.anatomy is anatomy
    assert torch.equal(model(tokens), before)


# A head that is known --------------------------------------------------------------------------------------


def one_band_head(band):
    """A model of 4 bands whose head 0.0 looks one back by one band alone, other heads random.

    Its q and k are biases: q is that of k turned one position back, so that the score is sharp cos(f (i - j - 1)),
    highest one back. With f = 1, the fastest, the next cosine as high is 2 pi tokens on.
    """
    model = tiny.model("neox-sequential", rotary_emb_base=3)  # frequencies 1, 0.76, 0.58, 0.44
    layer, frequency = model.gpt_neox.layers[0].attention.query_key_value, 3 ** (-band / 4)
    with torch.no_grad():
        layer.weight[:16], layer.bias[:16] = 0.0, 0.0  # q and k of the first head
        layer.bias[band], layer.bias[band + 4] = 1000 * math.cos(frequency), -1000 * math.sin(frequency)
        layer.bias[8 + band] = 10.0
    return model


@pytest.mark.parametrize("band", range(4))
def test_a_head_that_stands_in_one_band_is_lost_with_it_and_unmoved_without_any_other(band, tmp_path_factory):
    model = tiny.loaded(one_band_head(band), tmp_path_factory)
    length = 6  # shorter than any wavelength
    found = bands(model, tiny.tokens(length=length), progress=False).sel(layer=0, head=0)
    uniform = sum(1 / (i + 1) for i in range(1, length)) / (length - 1)  # of a head without a score
    np.testing.assert_allclose(found["previous_token"], 1, atol=1e-6)
    for other in range(4):
        for how in ("held", "without"):
            expected = uniform if other == band else 1.0
            np.testing.assert_allclose(found[f"previous_token_{how}"].sel(band=other), expected, atol=1e-6)
        away = taken_away(bands(model, tiny.tokens(length=length), other, progress=False)).sel(layer=0, head=0)
        np.testing.assert_allclose(away, [1 - uniform if other == band else 0], atol=1e-6)
    norms = found["query_norm"].isel(prompt=0).values
    np.testing.assert_allclose(norms, [1000.0 if other == band else 0 for other in range(4)], rtol=1e-5)
    norms = found["key_norm"].isel(prompt=0).values
    np.testing.assert_allclose(norms, [10.0 if other == band else 0 for other in range(4)], rtol=1e-5)


# Shares taken away -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["held", "without"])
@pytest.mark.parametrize("score", ["previous_token", "induction"])
def test_what_is_taken_away_is_a_share_of_means_over_prompts(score, how, bridges, repeating):
    found = bands(bridges["pythia"], repeating, progress=False)
    away = taken_away(found, score, how=how)
    assert away.dims == ("layer", "head", "band")
    for layer, head, band in np.ndindex(3, 4, 2):
        whole = sum(float(found[score][prompt, layer, head]) for prompt in range(2)) / 2
        left = sum(float(found[f"{score}_{how}"][prompt, layer, head, band]) for prompt in range(2)) / 2
        assert float(away[layer, head, band]) == pytest.approx((whole - left) / whole)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(score="induction"), "no induction_held of heads in the result: it holds previous_token_held"),
        (dict(how="with"), "no previous_token_with of heads in the result"),
        (dict(score="loss", how="without"), "no loss_without of heads in the result"),
    ],
)
def test_what_a_result_does_not_hold_cannot_be_taken_away(arguments, message, bridges):
    found = bands(bridges["pythia"], tiny.tokens(), progress=False)
    with pytest.raises(ValueError, match=message):
        taken_away(found, **arguments)


def test_a_result_of_something_else_is_refused(bridges):
    with pytest.raises(ValueError, match="without band: expected the result of neolens.position.bands"):
        taken_away(neolens.attention(bridges["pythia"], tiny.tokens()))


# What is asked ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("which", "expected"), [(3, [3]), ([2, 0], [2, 0]), (range(1, 3), [1, 2]), ({1}, [1])])
def test_some_bands_are_what_they_are_among_all(which, expected, bridges):
    whole, some = (bands(bridges["neox-sequential"], tiny.tokens(), its, progress=False) for its in (None, which))
    assert some["band"].values.tolist() == expected
    for variable in whole:
        got = whole[variable].sel(band=expected) if "band" in whole[variable].dims else whole[variable]
        np.testing.assert_allclose(some[variable], got, atol=1e-6, err_msg=variable)


def test_prompts_of_several_lengths_give_what_each_gives_alone(tiny_folders, repeating):
    model = neolens.load(tiny_folders["pythia"], dtype="float64")  # else rounding, which differs from batch to batch
    prompts = [tiny.tokens(0, 1, 9)[0], repeating[0], tiny.tokens(1, 1, 9)[0], tiny.tokens(2, 1, 2)[0]]
    together = bands(model, prompts, progress=False)
    assert "induction" not in together  # not every prompt repeats
    for number, prompt in enumerate(prompts):
        alone, length = bands(model, [prompt], progress=False), len(prompt)
        for variable in together:
            mine = together[variable].isel(prompt=number)
            if "pos" in mine.dims:
                assert mine.isel(pos=slice(length - 1, None)).isnull().all()
                mine = mine.isel(pos=slice(length))
            np.testing.assert_allclose(mine, alone[variable].isel(prompt=0), atol=1e-12, err_msg=variable)


def test_prompts_that_repeat_with_other_lengths_are_measured_each_by_its_own(bridges):
    prompts = [repeated(range(1, 60), n, bos=0)[0] for n in (5, 3, 5)]
    together = bands(bridges["pythia"], prompts, progress=False)
    for number, prompt in enumerate(prompts):
        alone = bands(bridges["pythia"], [prompt], progress=False)
        for variable in ("induction", "induction_held", "induction_without"):
            np.testing.assert_allclose(
                together[variable].isel(prompt=number), alone[variable].isel(prompt=0), atol=1e-6, err_msg=variable
            )


REFUSED = {
    "no such band": ("pythia", tiny.tokens(), [2], ValueError, "no band 2 in .*: bands are 0 to 1"),
    "a negative band": ("pythia", tiny.tokens(), -1, ValueError, "band -1: expected a whole number of at least 0"),
    "a float": ("pythia", tiny.tokens(), 0.5, TypeError, "band 0.5: expected a whole number"),
    "a bool": ("pythia", tiny.tokens(), [True], TypeError, "band True: expected a whole number"),
    "a word": ("pythia", tiny.tokens(), "fastest", TypeError, "band 'fastest': expected a whole number"),
    "none": ("pythia", tiny.tokens(), [], ValueError, r"band \[\]: expected at least one"),
    "one twice": (
        "pythia",
        tiny.tokens(),
        [1, 1],
        ValueError,
        r"band \[1, 1\]: expected at least one whole number, each once",
    ),
    "one token": ("pythia", tiny.tokens(length=1), None, ValueError, "prompt 0 has 1 tokens: .* takes 2 to 64"),
    "too long": ("pythia", tiny.tokens(length=65), None, ValueError, "prompt 0 has 65 tokens: .* takes 2 to 64"),
    "absolute positions": ("gpt2", tiny.tokens(), None, ValueError, "has absolute positions: a probe of rotary bands"),
    "with windows": ("gpt-neo", tiny.tokens(), None, ValueError, "has absolute positions: a probe of rotary bands"),
}


@pytest.fixture
def no_runs(monkeypatch):
    for name in ("residual", "attention", "losses"):
        monkeypatch.setattr(frequencies, name, lambda *args, **rest: pytest.fail("the model ran"))


@pytest.mark.parametrize("case", REFUSED)
def test_bad_input_is_refused_before_the_model_runs(case, bridges, no_runs):
    name, tokens, which, error, message = REFUSED[case]
    with pytest.raises(error, match=message):
        bands(bridges[name], tokens, which)


@pytest.mark.parametrize("treatment", [Shift(3), Scale(0.5), WithoutBands([0]), "off"], ids=str)
def test_positions_that_are_treated_already_are_refused(treatment, bridges, no_runs):
    with what_if(bridges["pythia"], positions=treatment), pytest.raises(ValueError, match="treated already"):
        bands(bridges["pythia"], tiny.tokens())


def test_models_without_positions_hooks_and_other_models_are_refused(bridges, tiny_models, no_runs):
    with pytest.raises(ValueError, match="has no position encoding: a probe of rotary bands needs rotary positions"):
        bands(neolens.load("lab/nope"), tiny.tokens())
    with pytest.raises(TypeError, match="expected a model from neolens.load, got GPTNeoXForCausalLM"):
        bands(tiny_models["pythia"], tiny.tokens())
    hook = ("blocks.0.attn.hook_q", lambda x, hook: x)
    with bridges["pythia"].hooks(fwd_hooks=[hook]), pytest.raises(ValueError, match="the model has hooks at blocks.0"):
        bands(bridges["pythia"], tiny.tokens())
