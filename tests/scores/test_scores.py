"""The streamed scores: against plain loops over whole patterns, planted patterns, and the laws of windows."""

import math
from importlib import import_module

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import neolens
import oracles
import tiny
from neolens.models.anatomy import Anatomy, AttentionSpan, Position
from neolens.network.blockwise import PatternBlock
from neolens.prompts import repeated
from neolens.scores import SCORES
from neolens.scores.sums import Sums, diagonal_sums

measure = import_module("neolens.scores.attention")


NAIVE = {
    "previous_token": oracles.previous_token,
    "current_token": oracles.current_token,
    "sink": oracles.sink,
    "mean_distance": oracles.mean_distance,
    "mean_distance_without_key_0": oracles.mean_distance_without_first_key,
    "entropy": oracles.entropy,
}


@pytest.fixture(scope="module")
def exact(tiny_folders):
    return {name: neolens.load(folder, dtype="float64") for name, folder in tiny_folders.items()}


def naive(pattern, window, n):
    """Every score of one head by plain loops."""
    scores = {name: score(pattern) for name, score in NAIVE.items()}
    scores["entropy_normalised"] = oracles.entropy_normalised(pattern, window)
    if n is not None:
        scores |= {
            "duplicate_token": oracles.duplicate_token(pattern, n),
            "induction": oracles.induction(pattern, n),
        }
    return scores


@pytest.mark.parametrize("name", tiny.NAMES)
@pytest.mark.parametrize("n", [None, 2, 3, 4, 9])
def test_every_score_is_that_of_plain_loops_over_the_whole_pattern(name, n, exact, networks):
    tokens = tiny.tokens(length=17) if n is None else repeated(range(1, tiny.VOCAB), n, bos=0, prompts=2, seed=n)

    got = neolens.attention(exact[name], tokens)

    activations = oracles.forward(networks[name], tokens).after
    for layer, span in enumerate(neolens.anatomy(exact[name]).attention):
        pattern = activations[f"blocks.{layer}.attn.hook_pattern"]
        for prompt in range(2):
            for head in range(4):
                cell = got.sel(prompt=prompt, layer=layer, head=head)
                expected = naive(pattern[prompt, head], span.window, n)
                assert {str(score) for score in got.data_vars} - {"mass_by_distance"} == set(expected)
                for score, value in expected.items():
                    assert float(cell[score]) == pytest.approx(value, abs=1e-6), score
                mass = oracles.mass_by_distance(pattern[prompt, head])
                np.testing.assert_allclose(cell["mass_by_distance"], mass, atol=1e-6)


def facts(window=None, heads=1):
    """An anatomy of one layer, for planted patterns."""
    spans = (AttentionSpan("global") if window is None else AttentionSpan("local", window),)
    sizes = dict(layers=1, heads=heads, d_model=4, d_head=4, d_mlp=4, d_vocab=9, context=64)
    rest = dict(scale=1.0, parallel=False, activation="gelu", norm_eps=1e-5, qkv_bias=True, tied_embedding=True)
    counts = dict(dropout=0.0, parameters=1, parameters_without_embeddings=1)
    return Anatomy(
        name="planted",
        family="gpt2",
        attention=spans,
        position=Position("absolute"),
        **sizes,
        **rest,
        **counts,
    )


def stream(pattern, window=None, repeat=None, block=3, sink_key=0):
    """The scores of a whole pattern [query, key], fed to the sums in blocks."""
    length = pattern.shape[0]
    sums = Sums(facts(window), 1, length, repeat, sink_key=sink_key)
    for first in range(0, length, block):
        last = min(first + block, length)
        start = 0 if window is None else max(0, first - window + 1)
        cells = pattern[None, None, first:last, start:last]
        sums.add(PatternBlock(layer=0, first_query=first, first_key=start, pattern=cells))
    scores, mass = sums.finish()
    return {name: value.item() for name, value in scores.items()}, mass.flatten()


@settings(max_examples=60, deadline=None)
@given(
    st.integers(2, 24), st.none() | st.integers(2, 30), st.integers(1, 30), st.integers(0, 23), st.integers(0, 2**31)
)
def test_blocks_of_any_size_give_the_scores_of_the_whole_pattern(length, window, block, k, seed):
    generator = torch.Generator().manual_seed(seed)
    scores = 3 * torch.randn(length, length, generator=generator, dtype=torch.float64)
    pattern = scores.masked_fill(~oracles.visible(length, window), -torch.inf).softmax(-1)
    n, k = (length - 1) // 2 if length % 2 and length >= 5 else None, min(k, length - 1)

    got, mass = stream(pattern, window, n, block, k)

    for name, value in (naive(pattern, window, n) | {"sink": oracles.sink(pattern, k)}).items():
        assert got[name] == pytest.approx(value, abs=1e-9), name
    np.testing.assert_allclose(mass, oracles.mass_by_distance(pattern), atol=1e-12)


def test_attention_below_zero_has_no_entropy_and_every_other_score():
    pattern = planted(9, lambda i: 0)
    pattern[5, 3] = -0.5
    scores, _ = stream(pattern)
    assert math.isnan(scores["entropy"])
    assert math.isnan(scores["entropy_normalised"])
    assert scores["sink"] == 1
    assert scores["mean_distance"] == pytest.approx((36 - 0.5 * 2) / 9)


@pytest.mark.parametrize("window", [None, 100])
def test_blocks_in_float32_give_float64s_scores(window):
    length, generator = 1501, torch.Generator().manual_seed(0)
    scores = 4 * torch.randn(length, length, generator=generator)
    pattern = scores.masked_fill(~oracles.visible(length, window), -torch.inf).softmax(-1)

    (got, mass), (exact, exact_mass) = (stream(its, window, 750, block=128) for its in (pattern, pattern.double()))

    for name, value in exact.items():
        assert got[name] == pytest.approx(value, rel=1e-6, abs=1e-6), name
    np.testing.assert_allclose(mass, exact_mass, atol=1e-6)


def planted(length, key_of):
    """The pattern of a head that puts all its attention on `key_of(i)`."""
    pattern = torch.zeros(length, length, dtype=torch.float64)
    for i in range(length):
        pattern[i, key_of(i)] = 1.0
    return pattern


def test_a_perfect_previous_token_head_scores_one_and_looks_one_back():
    scores, mass = stream(planted(9, lambda i: max(i - 1, 0)))
    assert scores["previous_token"] == 1
    assert scores["entropy"] == 0
    assert scores["mean_distance"] == pytest.approx(8 / 9)  # the first token has none before it
    assert mass[1] == 1


def test_a_perfect_induction_head_scores_one_and_no_duplicate():
    n = 4
    scores, _ = stream(planted(9, lambda i: i - n + 1 if i > n else 0), repeat=n)
    assert scores["induction"] == 1
    assert scores["duplicate_token"] == 0


def test_a_perfect_duplicate_token_head_scores_one():
    n = 4
    scores, _ = stream(planted(9, lambda i: i - n if i > n else 0), repeat=n)
    assert scores["duplicate_token"] == 1
    assert scores["induction"] == 0


def test_a_perfect_sink_scores_one_and_has_no_distance_without_key_0():
    scores, _ = stream(planted(9, lambda i: 0))
    assert scores["sink"] == 1
    assert scores["mean_distance"] == 4  # (0 + 1 + ... + 8) / 9
    assert scores["mean_distance_without_key_0"] == 0


@pytest.mark.parametrize("window", [None, 2, 5])
def test_a_uniform_head_has_normalised_entropy_one_whatever_its_window(window):
    seen = oracles.visible(12, window).double()
    scores, _ = stream(seen / seen.sum(-1, keepdim=True), window)
    assert scores["entropy_normalised"] == pytest.approx(1)
    widths = [min(i + 1, window or 12) for i in range(1, 12)]
    assert scores["entropy"] == pytest.approx(sum(map(math.log, widths)) / 11)


def test_sums_over_diagonals_are_by_distance():
    # rows are queries 2 and 3, columns keys 0 to 3: distance 0 is 3 + 8, 1 is 2 + 7, 2 is 1 + 6, 3 is 5
    block = torch.tensor([[1.0, 2, 3, 0], [5, 6, 7, 8]])[None, None]
    assert diagonal_sums(block).flatten().tolist() == [11, 9, 7, 5]


def test_sums_over_diagonals_of_a_part_of_a_pattern_take_nothing_from_around_it():
    # the same cells, with others before, after, above and below them that belong to other blocks
    whole = torch.full((1, 1, 4, 7), 100.0)
    whole[0, 0, 1:3, 2:6] = torch.tensor([[1.0, 2, 3, 0], [5, 6, 7, 8]])
    assert diagonal_sums(whole[:, :, 1:3, 2:6]).flatten().tolist() == [11, 9, 7, 5]


def test_a_model_in_float32_has_the_scores_of_the_same_weights_in_float64(exact, bridges):
    tokens = repeated(range(1, tiny.VOCAB), 30, bos=0)
    for name in tiny.NAMES:
        narrow, wide = (neolens.attention(models[name], tokens) for models in (bridges, exact))
        for score in wide.data_vars:
            np.testing.assert_allclose(narrow[score], wide[score], rtol=1e-6, atol=1e-6, err_msg=f"{name} {score}")


@pytest.mark.parametrize("n", [4, 5, 9])
def test_induction_and_mass_out_of_a_local_layers_reach_are_exactly_zero(n, bridges):
    got = neolens.attention(bridges["gpt-neo"], repeated(range(1, tiny.VOCAB), n, bos=0, prompts=3))
    local = got.isel(layer=got["attention_kind"].values == "local")
    far = local["mass_by_distance"].sel(distance=slice(tiny.WINDOW, None))
    assert (far == 0).all()
    assert far.size > 0
    reached = n - 1 < tiny.WINDOW
    assert bool((local["induction"] > 0).all()) is reached
    assert bool((local["induction"] == 0).all()) is not reached


def test_prompts_of_several_lengths_give_what_each_gives_alone(bridges):
    model = bridges["gpt-neo"]
    rows = [tiny.tokens(0, 1, 9)[0], repeated(range(1, 60), 3, bos=0)[0], tiny.tokens(1, 1, 9)[0]]
    together = neolens.attention(model, rows)
    for prompt, row in enumerate(rows):
        alone = neolens.attention(model, row[None]).isel(prompt=0)
        mine = together.isel(prompt=prompt)
        for score in alone.data_vars:
            got = mine[score].sel(distance=alone["distance"]) if "distance" in mine[score].dims else mine[score]
            np.testing.assert_allclose(got, alone[score], atol=1e-6)
    assert together["induction"].isnull().all(("layer", "head")).values.tolist() == [True, False, True]
    assert together["mass_by_distance"].sel(prompt=1, distance=slice(7, None)).isnull().all()


def test_asked_for_scores_and_distances_are_those_given(bridges):
    got = neolens.attention(bridges["gpt2"], tiny.tokens(), scores=["sink", "entropy"], distances=[5, 1])
    assert list(got.data_vars) == ["sink", "entropy", "mass_by_distance"]
    assert got["distance"].values.tolist() == [1, 5]
    whole = neolens.attention(bridges["gpt2"], tiny.tokens())
    np.testing.assert_array_equal(got["mass_by_distance"], whole["mass_by_distance"].sel(distance=[1, 5]))


def test_the_result_names_its_model_weights_and_layers(bridges):
    got = neolens.attention(bridges["gpt-neo"], tiny.tokens())
    assert got["attention_kind"].values.tolist() == ["global", "local"] * 2
    np.testing.assert_array_equal(got["window"], [np.nan, 4, np.nan, 4])
    assert got.attrs["fingerprint"] == neolens.fingerprint(bridges["gpt-neo"])
    assert got.attrs["dtype"] == "float32"


@pytest.mark.parametrize(
    ("tokens", "arguments", "error", "message"),
    [
        (tiny.tokens(), {"scores": ["sinks"]}, ValueError, "no score 'sinks': did you mean sink"),
        (tiny.tokens(), {"scores": ["induction"]}, ValueError, "induction does not apply to prompt 0"),
        (tiny.tokens(), {"distances": [14]}, ValueError, "no distance 14 in the longest prompt: distances are 0 to 13"),
        (tiny.tokens(), {"distances": [1.5]}, TypeError, "distance 1.5: expected a whole number"),
        (tiny.tokens(), {"distances": "a"}, TypeError, "distances 'a': expected a list of whole numbers"),
        (tiny.tokens(length=1), {}, ValueError, "prompt 0 has 1 tokens: .* takes 2 to 64"),
        (torch.ones(1, 65, dtype=torch.long), {}, ValueError, "prompt 0 has 65 tokens: .* takes 2 to 64"),
        (
            [tiny.tokens()[0], torch.tensor([3, 61])],
            {},
            ValueError,
            "prompt 1 holds token 61: .* has 0 to 60",
        ),
        ([], {}, ValueError, "there is no prompt"),
        (torch.ones(9, dtype=torch.long), {}, ValueError, r"expected \[prompt, pos\]"),
        ([torch.ones(4)], {}, TypeError, "prompt 0 is not a one-dimensional integer tensor"),
    ],
)
def test_bad_input_is_refused_before_the_model_runs(tokens, arguments, error, message, bridges, monkeypatch):
    monkeypatch.setattr(
        import_module("neolens.scores.attention"), "residual", lambda *a, **k: pytest.fail("the model ran")
    )
    with pytest.raises(error, match=message):
        neolens.attention(bridges["gpt-neo"], tokens, **arguments)


def test_the_list_of_scores_is_complete(bridges):
    got = neolens.attention(bridges["gpt2"], repeated(range(1, 60), 3, bos=0))
    assert set(got.data_vars) == {*SCORES, "mass_by_distance"}


def test_a_repeating_and_a_plain_prompt_of_one_length_are_each_measured_as_they_are(bridges):
    repeating, plain = repeated(range(1, 60), 4, bos=0)[0], tiny.tokens(0, 1, 9)[0]
    for rows in ([plain, repeating], [repeating, plain]):
        got = neolens.attention(bridges["gpt-neo"], rows)
        index = 0 if rows[0] is repeating else 1
        alone = neolens.attention(bridges["gpt-neo"], repeating[None])
        np.testing.assert_allclose(got["induction"].sel(prompt=index), alone["induction"].sel(prompt=0), atol=1e-6)
        assert got["induction"].sel(prompt=1 - index).isnull().all()


def test_a_single_score_name_is_refused_and_not_read_letter_by_letter(bridges):

    with pytest.raises(TypeError, match="scores"):
        measure.attention(bridges["gpt2"], tiny.tokens(), scores="sink")
