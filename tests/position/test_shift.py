"""The shift test: every change against the oracle in float64, with every position index moved by hand.

The law behind it, number 3 of the definitions: a rotary model does not feel a shift, an absolute one does. What a
rotary model's logits move in float32 is rounding of two kinds, and the oracle can tell them apart.
"""

import json
from contextlib import nullcontext
from importlib import import_module

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import neolens
import oracles
import tiny
from neolens.network import logits, residual, weights_of
from neolens.whatif import Freeze, Shift, Shuffle, what_if
from test_whatif import windows_of

shifting = import_module("neolens.position.shift")


TOLERANCE = 1e-5  # of the size of what is compared
SHIFTS = [1, 5, 40]
VARIABLES = ("logits", "kl_divergence", "loss", "residual", "pattern")

every_family = pytest.mark.parametrize("name", tiny.NAMES)
absolute_families = pytest.mark.parametrize("name", tiny.ABSOLUTE)
rotary_families = pytest.mark.parametrize("name", tiny.ROTARY)
windowed = pytest.mark.parametrize("windows", [None, 3, {0: 6, 1: "global"}], ids=str)


# The truth -------------------------------------------------------------------------------------------------


def run_at(net, prompt, by, windows=None):
    """The oracle's run of one prompt whose first token stands at `by`."""
    places = torch.arange(len(prompt)) + by
    return oracles.forward(net, prompt[None], windows=windows, positions=places)


def truth(net, prompt, by, windows=None, standing=0) -> dict:
    """Every variable for one prompt and one shift, cell by cell; unshifted the first token is at `standing`."""
    before, after = run_at(net, prompt, standing, windows), run_at(net, prompt, standing + by, windows)
    length, layers = len(prompt), len(net.layers)
    divergences, harms = [], []
    for i in range(length):
        p, q = before.logits[0, i].softmax(-1), after.logits[0, i].softmax(-1)
        divergences.append(sum(float(a * (a / b).log()) for a, b in zip(p, q)))
        if i + 1 < length:
            harms.append(float(p[prompt[i + 1]].log() - q[prompt[i + 1]].log()))
    stream, pattern = [], []
    for layer in range(layers):
        x, moved = (run.after[f"blocks.{layer}.hook_resid_post"][0] for run in (before, after))
        stream.append(np.mean([float((moved[i] - x[i]).norm() / x[i].norm()) for i in range(length)]))
        a, b = (run.after[f"blocks.{layer}.attn.hook_pattern"][0] for run in (before, after))
        heads = range(a.shape[0])
        pattern.append([np.mean([float((b[h, i] - a[h, i]).abs().sum() / 2) for i in range(1, length)]) for h in heads])
    return {
        "logits": float((after.logits - before.logits).abs().max()),
        "kl_divergence": float(np.mean(divergences)),
        "loss": float(np.mean(harms)),
        "residual": np.array(stream),
        "pattern": np.array(pattern),
    }


def assert_is_the_truth(found, expected, prompt, by) -> None:
    for name, value in expected.items():
        got = found[name].sel({"prompt": prompt, "shift": by}).values
        np.testing.assert_allclose(got, value, rtol=1e-4, atol=2e-5, err_msg=f"{name} by {by}")


# Every variable --------------------------------------------------------------------------------------------


@every_family
@windowed
def test_every_change_is_the_oracles_whose_positions_were_moved(name, windows, bridges, networks):
    tokens, net = tiny.tokens(), networks[name]
    with nullcontext() if windows is None else what_if(bridges[name], windows=windows):
        found = neolens.shift(bridges[name], tokens, SHIFTS)
    for prompt, by in np.ndindex(len(tokens), len(SHIFTS)):
        expected = truth(net, tokens[prompt], SHIFTS[by], windows_of(net, windows))
        assert_is_the_truth(found, expected, prompt, SHIFTS[by])


@rotary_families
def test_a_rotary_model_takes_negative_shifts(name, bridges, networks):
    tokens = tiny.tokens(seed=2)
    found = neolens.shift(bridges[name], tokens, [-1, -50])
    for by in (-1, -50):
        assert_is_the_truth(found, truth(networks[name], tokens[1], by), 1, by)


@settings(max_examples=25, deadline=None)
@given(
    name=st.sampled_from(tiny.ABSOLUTE),
    length=st.integers(2, 20),
    by=st.integers(0, 44),
    window=st.integers(1, 20),
    seed=st.integers(0, 99),
)
def test_changes_are_the_oracles_for_any_length_shift_and_window(name, length, by, window, seed, bridges, networks):
    (prompt,), net = tiny.tokens(seed, 1, length), networks[name]
    with what_if(bridges[name], windows={1: window}):
        found = neolens.shift(bridges[name], prompt[None], by)
    assert_is_the_truth(found, truth(net, prompt, by, windows_of(net, {1: window})), 0, by)


@every_family
def test_in_float64_every_change_is_the_oracles_to_the_last_digits(name, tiny_folders, networks):
    model, tokens = neolens.load(tiny_folders[name], dtype="float64"), tiny.tokens()
    found = neolens.shift(model, tokens, 40)
    expected = truth(networks[name], tokens[0], 40)
    for variable, value in expected.items():
        np.testing.assert_allclose(found[variable].sel(prompt=0, shift=40), value, rtol=1e-10, atol=1e-12)
    assert (found["rounding"] == 0).all()


@every_family
def test_the_spread_is_that_of_the_unshifted_logits(name, bridges, networks):
    tokens = tiny.tokens()
    found = neolens.shift(bridges[name], tokens, [0, 3])
    for prompt in range(len(tokens)):
        said = run_at(networks[name], tokens[prompt], 0).logits
        assert float(found["spread"][prompt]) == pytest.approx(float(said.max() - said.min()), rel=TOLERANCE)


@every_family
def test_rounding_is_how_far_the_unshifted_logits_are_from_float64(name, bridges, networks):
    tokens, weights = tiny.tokens(), weights_of(bridges[name])
    found = neolens.shift(bridges[name], tokens, 3)
    with torch.no_grad():
        own = logits(weights, residual(weights, tokens)).double()
    for prompt in range(len(tokens)):
        expected = (own[prompt] - run_at(networks[name], tokens[prompt], 0).logits[0]).abs().max()
        # the order of additions in a batch of another size moves a last digit
        assert 0.5 * expected <= float(found["rounding"][prompt]) <= 2 * expected


@every_family
def test_what_is_exact_is_the_oracles_change_in_float64(name, bridges, networks):
    tokens = tiny.tokens()
    found = neolens.shift(bridges[name], tokens, SHIFTS)
    for prompt, by in np.ndindex(len(tokens), len(SHIFTS)):
        expected = truth(networks[name], tokens[prompt], SHIFTS[by])["logits"]
        assert float(found["logits_exact"][prompt, by]) == pytest.approx(expected, rel=1e-10, abs=1e-12)


def test_without_exact_nothing_is_said_of_float64_and_all_else_stays(bridges):
    tokens = tiny.tokens()
    whole, plain = (neolens.shift(bridges["gpt2"], tokens, SHIFTS, exact=exact) for exact in (True, False))
    assert set(plain) == set(whole) - {"logits_exact", "rounding"}
    assert plain.equals(whole[list(plain)])


# Prompts and passes ----------------------------------------------------------------------------------------


@every_family
def test_prompts_of_several_lengths_give_what_each_gives_alone(name, bridges):
    prompts = [tiny.tokens(0, 1, 9)[0], tiny.tokens(1, 1, 14)[0], tiny.tokens(2, 1, 2)[0], tiny.tokens(3, 1, 9)[0]]
    together = neolens.shift(bridges[name], prompts, SHIFTS)
    assert together["length"].values.tolist() == [9, 14, 2, 9]
    for number, prompt in enumerate(prompts):
        alone = neolens.shift(bridges[name], [prompt], SHIFTS)
        for variable in (*VARIABLES, "spread", "logits_exact", "rounding"):
            np.testing.assert_allclose(together[variable][number], alone[variable][0], atol=1e-6, err_msg=variable)


@every_family
@pytest.mark.parametrize("at_once", [1, 45, 80])
def test_shifts_cut_into_passes_give_what_all_at_once_give(name, at_once, bridges, monkeypatch):
    tokens, by = tiny.tokens(), [0, 1, 2, 5, 9, 30, 50]
    whole = neolens.shift(bridges[name], tokens, by)
    monkeypatch.setattr(shifting, "TOKENS_AT_ONCE", at_once)
    cut = neolens.shift(bridges[name], tokens, by)
    assert set(cut) == set(whole)
    for variable in whole:
        np.testing.assert_allclose(cut[variable], whole[variable], rtol=1e-5, atol=1e-5, err_msg=variable)


def test_logits_read_some_positions_at_a_time_give_the_same(bridges, monkeypatch):
    tokens = tiny.tokens()
    whole = neolens.shift(bridges["gpt2"], tokens, SHIFTS)
    monkeypatch.setattr(shifting, "LOGIT_BYTES", 8 * tiny.VOCAB * 4 * 3)  # three positions of four runs
    cut = neolens.shift(bridges["gpt2"], tokens, SHIFTS)
    for variable in whole:
        np.testing.assert_allclose(cut[variable], whole[variable], rtol=1e-5, atol=1e-6, err_msg=variable)


# The law ---------------------------------------------------------------------------------------------------


def with_float32_angles(net, prompt, by) -> Tensor:
    """The oracle's logits in float64 where the angles alone are rounded to float32, as Hugging Face takes them."""
    half = net.rotary_dims // 2
    frequency = 1 / net.rotary_base ** (torch.arange(half, dtype=torch.float32) * 2 / net.rotary_dims)
    angle = ((torch.arange(len(prompt)) + by).float()[:, None] * frequency).double()
    cos, sin = angle.cos()[:, None], angle.sin()[:, None]
    seen, edit = {}, {}
    for layer in range(len(net.layers)):
        for part in "qk":

            def remember(x, key=(layer, part)):
                seen[key] = x
                return x

            def turn(x, key=(layer, part)):
                first, second, rest = seen[key].split([half, half, x.shape[-1] - 2 * half], dim=-1)
                return torch.cat([first * cos - second * sin, second * cos + first * sin, rest], dim=-1)

            edit |= {f"blocks.{layer}.attn.hook_{part}": remember, f"blocks.{layer}.attn.hook_rot_{part}": turn}
    return oracles.forward(net, prompt[None], edit).logits


@st.composite
def rotary_networks(draw):
    """A tiny NeoX model of random shape and weights, its attention sharpened."""
    heads, d_head = draw(st.integers(1, 3)), draw(st.sampled_from([4, 6, 8, 16]))
    rotary_dims = draw(st.sampled_from(sorted({2, d_head // 4 * 2, d_head})))
    shape = dict(
        num_hidden_layers=draw(st.integers(1, 3)),
        num_attention_heads=heads,
        hidden_size=heads * d_head,
        intermediate_size=20,
        rotary_pct=rotary_dims / d_head,
        rotary_emb_base=draw(st.sampled_from([10, 500, 10000])),
        use_parallel_residual=draw(st.booleans()),
    )
    model = tiny.model("pythia", seed=draw(st.integers(0, 999)), **shape)
    sharper = draw(st.sampled_from([1, 3, 10, 30]))
    with torch.no_grad():
        for key, weight in model.named_parameters():
            if "query_key_value.weight" in key:
                weight.mul_(sharper**0.5)  # of queries and keys alike (and of values)
    return model


@settings(max_examples=30, deadline=None)
@given(model=rotary_networks(), length=st.integers(2, 30), by=st.integers(-5000, 5000), seed=st.integers(0, 99))
def test_a_rotary_model_does_not_feel_a_shift_but_for_rounding(model, length, by, seed, tmp_path_factory):
    """In float64 nothing moves. In float32 the angle p f of a pair is rounded at each position p on its own, by up to
    2^-24 p f, which no longer depends on i - j alone: this part grows with the shift, whatever `rounding` is, and the
    oracle says how much it is. All else is as large as what float32 does to the unshifted run: each of the two runs has
    it once, and the largest of few numbers scatters.
    """
    (prompt,), bridge, net = tiny.tokens(seed, 1, length), tiny.loaded(model, tmp_path_factory), oracles.network(model)

    found = neolens.shift(bridge, prompt[None], by).isel(prompt=0, shift=0)

    spread, last_digit = float(found["spread"]), 2**-23 * float(found["spread"])
    explained = (with_float32_angles(net, prompt, by) - with_float32_angles(net, prompt, 0)).abs().max()
    assert float(found["logits_exact"]) < 1e-9 * spread
    assert float(found["logits"]) < float(explained) + 4 * (float(found["rounding"]) + last_digit)


def test_rounding_of_angles_alone_explains_what_a_far_shift_moves(bridges, networks):
    (prompt,), net, by = tiny.tokens(0, 1, 14), networks["neox-sequential"], 1_000_000
    found = neolens.shift(bridges["neox-sequential"], prompt[None], by).isel(prompt=0, shift=0)
    explained = (with_float32_angles(net, prompt, by) - with_float32_angles(net, prompt, 0)).abs().max()
    assert float(found["logits"]) == pytest.approx(float(explained), rel=0.01)
    assert float(found["logits"]) > 1000 * float(found["rounding"])
    assert float(found["logits_exact"]) < 1e-9 * float(found["spread"])


@absolute_families
def test_an_absolute_model_moves_far_more_than_rounding_at_every_shift_and_not_at_all_without_one(name, bridges):
    found = neolens.shift(bridges[name], tiny.tokens(), range(51))
    assert (found["logits"].sel(shift=slice(1, None)) > 1e5 * found["rounding"]).all()
    for variable in VARIABLES:
        assert (found[variable].sel(shift=0) == 0).all()
        assert (abs(found[variable].sel(shift=slice(1, None))) > 1e-3).all()
    assert (found["logits_exact"].sel(shift=0) == 0).all()


def test_position_embeddings_that_repeat_move_nothing_at_their_period_and_something_between(tmp_path_factory):
    model = tiny.model("gpt2")
    with torch.no_grad():
        table = model.transformer.wpe.weight
        table.copy_(table[:8].repeat(len(table) // 8, 1))
    found = neolens.shift(tiny.loaded(model, tmp_path_factory), tiny.tokens(), range(25))
    still = found["logits"].max("prompt") == 0
    assert found["shift"].values[still].tolist() == [0, 8, 16, 24]


@rotary_families
def test_where_every_token_is_frozen_at_one_place_a_shift_changes_exactly_nothing(name, bridges):
    with what_if(bridges[name], positions=Freeze(3)):
        found = neolens.shift(bridges[name], tiny.tokens(), [1, 30])
    assert all((found[variable] == 0).all() for variable in (*VARIABLES, "logits_exact"))


# What is asked ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "length", "expected"),
    [
        ("gpt2", 14, [1, 2, 4, 8, 16, 32, 50]),  # 64 positions leave room for 50
        ("gpt2", 32, [1, 2, 4, 8, 16, 32]),
        ("gpt-neo", 63, [1]),
        ("pythia", 14, [1, 2, 4, 8, 16, 32, 64]),
        ("pythia", 64, [1, 2, 4, 8, 16, 32, 64]),
    ],
)
def test_by_default_shifts_are_powers_of_two_and_the_room_left(name, length, expected, bridges):
    found = neolens.shift(bridges[name], tiny.tokens(length=length), exact=False)
    assert found["shift"].values.tolist() == expected


def test_the_longest_prompt_says_how_much_room_is_left(bridges):
    found = neolens.shift(bridges["gpt2"], [tiny.tokens()[0], tiny.tokens(length=61)[0]], exact=False)
    assert found["shift"].values.tolist() == [1, 2, 3]


@absolute_families
def test_inside_a_shift_there_is_less_room_and_positions_start_later(name, bridges, networks):
    (prompt,) = tiny.tokens(0, 1, 14)
    with what_if(bridges[name], positions=Shift(3)):
        found = neolens.shift(bridges[name], prompt[None])
        with pytest.raises(
            ValueError, match="cannot be shifted by 48: .* has positions 0 to 60 here; expected 0 to 47"
        ):
            neolens.shift(bridges[name], prompt[None], 48)
    assert found["shift"].values.tolist() == [1, 2, 4, 8, 16, 32, 47]
    for by in (1, 47):
        assert_is_the_truth(found, truth(networks[name], prompt, by, standing=3), 0, by)


def test_inside_a_shuffle_the_shifted_indices_are_shuffled(bridges, networks):
    (prompt,), order = tiny.tokens(0, 1, 14), torch.randperm(tiny.CONTEXT, generator=torch.Generator().manual_seed(5))
    with what_if(bridges["gpt2"], positions=Shuffle(5)):
        found = neolens.shift(bridges["gpt2"], prompt[None], 20).isel(prompt=0, shift=0)
    before, after = (
        oracles.forward(networks["gpt2"], prompt[None], positions=order[by : by + 14]).logits for by in (0, 20)
    )
    assert float(found["logits"]) == pytest.approx(float((after - before).abs().max()), rel=TOLERANCE)


ONE_AND_SEVERAL = {
    "a number": (3, [3]),
    "a number of numpy": (np.int64(3), [3]),
    "a number of torch": (torch.tensor(3), [3]),
    "an array": (np.array([9, 1]), [9, 1]),
    "a tensor": (torch.tensor([9, 1]), [9, 1]),
    "a range": (range(0, 9, 4), [0, 4, 8]),
    "a generator": ((by for by in (2, 1)), [2, 1]),
}


@pytest.mark.parametrize("asked", ONE_AND_SEVERAL)
def test_one_shift_or_several_are_kept_in_the_order_given(asked, bridges):
    by, expected = ONE_AND_SEVERAL[asked]
    found = neolens.shift(bridges["gpt2"], tiny.tokens(), by, exact=False)
    assert found["shift"].values.tolist() == expected
    for one in expected:
        alone = neolens.shift(bridges["gpt2"], tiny.tokens(), one, exact=False)
        np.testing.assert_allclose(found["logits"].sel(shift=one), alone["logits"].sel(shift=one), rtol=1e-5)


def test_the_result_names_its_model_weights_and_layers(bridges):
    found = neolens.shift(bridges["gpt-neo"], tiny.tokens(), 1)
    assert found["attention_kind"].values.tolist() == ["global", "local"] * 2
    assert found.attrs["fingerprint"] == neolens.fingerprint(bridges["gpt-neo"])
    assert json.loads(found.attrs["anatomy"])["context"] == tiny.CONTEXT


# What is refused -------------------------------------------------------------------------------------------

REFUSED = {
    "beyond the context": (
        "gpt2",
        [tiny.tokens()[0], tiny.tokens(length=20)[0]],
        [1, 45],
        ValueError,
        "prompt 1 of 20 tokens cannot be shifted by 45: .* has positions 0 to 63 here; expected 0 to 44",
    ),
    "backwards": ("gpt-neo", tiny.tokens(), -1, ValueError, "cannot be shifted by -1: .*; expected 0 to 50"),
    "no room": (
        "gpt2",
        tiny.tokens(length=64),
        None,
        ValueError,
        "a prompt has 64 tokens and .* 64 positions: there is no room",
    ),
    "too far for angles": (
        "pythia",
        tiny.tokens(),
        2**24 + 1,
        ValueError,
        "a shift by 16777217: expected at most 16777216",
    ),
    "positions too far for angles": (
        "pythia",
        tiny.tokens(),
        2**24 - 12,
        ValueError,
        "cannot be shifted by 16777204: beyond 16777216 positions are not exact",
    ),
    "a bool": ("gpt2", tiny.tokens(), True, TypeError, "a shift by True: expected a whole number"),
    "a bool among numbers": ("gpt2", tiny.tokens(), [1, False], TypeError, "a shift by False: expected a whole"),
    "a bool of numpy": ("gpt2", tiny.tokens(), np.True_, TypeError, "a shift by np.True_: expected a whole number"),
    "a bool of torch": ("gpt2", tiny.tokens(), torch.tensor(True), TypeError, "tensor.True.: expected a whole number"),
    "a float": ("gpt2", tiny.tokens(), 1.0, TypeError, "a shift by 1.0: expected a whole number, or a list of several"),
    "floats": ("pythia", tiny.tokens(), torch.tensor([1.0, 2.0]), TypeError, r"tensor\(1.\): expected a whole number"),
    "a word": ("gpt2", tiny.tokens(), "12", TypeError, "a shift by '12': expected a whole number"),
    "one twice": (
        "gpt2",
        tiny.tokens(),
        [1, 2, 1],
        ValueError,
        r"\[1, 2, 1\]: expected at least one whole number, each once",
    ),
    "none": ("pythia", tiny.tokens(), [], ValueError, r"a shift by \[\]: expected at least one"),
    "one token": ("gpt2", tiny.tokens(length=1), 1, ValueError, "prompt 0 has 1 tokens: .* takes 2 to 64"),
    "too many tokens": ("pythia", tiny.tokens(length=65), 1, ValueError, "prompt 0 has 65 tokens: .* takes 2 to 64"),
    "one prompt without its axis": ("gpt2", tiny.tokens()[0], 1, ValueError, r"expected \[prompt, pos\]"),
    "no tokens": ("gpt2", tiny.tokens().float(), 1, TypeError, "prompt 0 is not a one-dimensional integer tensor"),
    "a token that is none": ("gpt2", tiny.tokens() + 60, 1, ValueError, "holds token .*: .* has 0 to 60"),
    "no prompt": ("gpt2", [], 1, ValueError, "there is no prompt"),
}


@pytest.fixture
def no_runs(monkeypatch):
    """The model may not run, nor its weights be copied."""
    for name in ("residual", "cast"):
        monkeypatch.setattr(shifting, name, lambda *args, **rest: pytest.fail("the model ran"))


@pytest.mark.parametrize("case", REFUSED)
def test_bad_input_is_refused_before_the_model_runs(case, bridges, no_runs):
    name, tokens, by, error, message = REFUSED[case]
    with pytest.raises(error, match=message):
        neolens.shift(bridges[name], tokens, by)


def test_a_model_without_positions_has_nothing_to_shift(tmp_path_factory, no_runs):
    for model in (tiny.loaded(tiny.model("pythia", rotary_pct=0.0), tmp_path_factory), neolens.load("lab/nope")):
        with pytest.raises(ValueError, match="has no position encoding: a shift needs absolute or rotary positions"):
            neolens.shift(model, torch.ones(1, 5, dtype=torch.long), 1)


def test_a_model_with_hooks_on_it_is_refused(bridges, no_runs):
    hook = ("blocks.1.hook_resid_post", lambda x, hook: x)
    with bridges["gpt2"].hooks(fwd_hooks=[hook]), pytest.raises(ValueError, match="the model has hooks at blocks.1"):
        neolens.shift(bridges["gpt2"], tiny.tokens(), 1)


@pytest.mark.parametrize("given", ["gpt2", None, tiny.tokens()], ids=["a name", "nothing", "a tensor"])
def test_what_is_no_model_of_neolens_is_refused(given, no_runs):
    with pytest.raises(TypeError, match="expected a model from neolens.load, got"):
        neolens.shift(given, tiny.tokens(), 1)


def test_a_model_of_hugging_face_is_refused(tiny_models, no_runs):
    with pytest.raises(TypeError, match="expected a model from neolens.load, got GPT2LMHeadModel"):
        neolens.shift(tiny_models["gpt2"], tiny.tokens(), 1)
