"""Scores by distance: against plain loops over the oracle's scores, and on scores whose share is known beforehand.

An exact law besides. Let the tokens of a prompt be a + b i modulo a prime number of tokens, one prompt for every a and
b: any two positions then hold every pair of tokens once. In the first layer of a rotary network a score depends on two
tokens and a distance, so that the average over these prompts is a function of distance, E[q] R(d) E[k], to the digit.
"""

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
from neolens.models import AttentionSpan
from neolens.network import PatternBlock
from neolens.position import toeplitz
from neolens.whatif import what_if
from test_whatif import windows_of

MODULE = import_module("neolens.position.toeplitz")
SHARES = ("toeplitz_share", "toeplitz_share_corrected", "row_share", "row_share_corrected")
VARIABLES = ("kernel", "kernel_error", "variance", *SHARES)

every_family = pytest.mark.parametrize("name", tiny.NAMES)
windowed = pytest.mark.parametrize("windows", [None, 5, {0: 2, 1: "global"}], ids=str)


# Plain loops -----------------------------------------------------------------------------------------------


def cells_of(length, window):
    """Visible cells (i, j) with j >= 1, by distance."""
    reach = length if window is None else window
    cells = {d: [(j + d, j) for j in range(1, length - d)] for d in range(min(reach, length))}
    return {d: its for d, its in cells.items() if its}


def truth(scores: Tensor, window=None) -> dict:
    """All variables but the corrected share, from one head's scores [prompt, query, key]."""
    prompts, length, _ = scores.shape
    cells = cells_of(length, window)
    mean = scores.mean(0)
    values = [float(mean[i, j]) for its in cells.values() for i, j in its]
    middle = sum(values) / len(values)
    variance = sum((value - middle) ** 2 for value in values) / len(values)
    kernel, error, between = [np.nan] * length, [np.nan] * length, 0.0
    for d, its in cells.items():
        of_prompt = [sum(float(scores[p, i, j]) for i, j in its) / len(its) for p in range(prompts)]
        kernel[d] = sum(of_prompt) / prompts
        error[d] = (sum((one - kernel[d]) ** 2 for one in of_prompt) / (prompts - 1) / prompts) ** 0.5
        between += len(its) * (kernel[d] - middle) ** 2 / len(values)
    return {
        "kernel": kernel,
        "kernel_error": error,
        "variance": variance,
        "toeplitz_share": between / variance if len(values) > 1 else np.nan,
    }


@every_family
@windowed
def test_every_variable_is_that_of_plain_loops_over_the_oracles_scores(name, windows, bridges, networks):
    tokens, net = tiny.tokens(batch=5, length=11), networks[name]
    with nullcontext() if windows is None else what_if(bridges[name], windows=windows):
        found = toeplitz(bridges[name], tokens)
    its = windows_of(net, windows)
    run = oracles.forward(net, tokens, windows=its)
    for layer, window in enumerate(its):
        scores = run.after[f"blocks.{layer}.attn.hook_attn_scores"]
        for head in range(scores.shape[1]):
            for variable, expected in truth(scores[:, head], window).items():
                got = found[variable].sel(layer=layer, head=head)
                np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5, err_msg=f"{variable} {layer}.{head}")


def test_there_is_no_kernel_where_there_is_no_cell(bridges):
    found = toeplitz(bridges["gpt-neo"], tiny.tokens(batch=3, length=9))
    for layer, farthest in enumerate([7, 3, 7, 3]):  # key 0 alone is 8 back; a window of 4 ends 3 back
        for variable in ("kernel", "kernel_error"):
            there = np.isfinite(found[variable].sel(layer=layer)).all("head")
            assert there["distance"].values[there].tolist() == list(range(farthest + 1)), variable


@settings(max_examples=25, deadline=None)
@given(
    length=st.integers(4, 24), window=st.integers(1, 30), cells=st.integers(1, 4000), name=st.sampled_from(tiny.NAMES)
)
def test_blocks_of_any_size_give_the_same(length, window, cells, name, bridges):
    tokens = tiny.tokens(seed=length, batch=3, length=length)
    with pytest.MonkeyPatch.context() as patch, what_if(bridges[name], windows={1: window}):
        whole = toeplitz(bridges[name], tokens)
        patch.setattr(MODULE, "_BLOCK_CELLS", cells)
        cut = toeplitz(bridges[name], tokens)
    for variable in VARIABLES:
        np.testing.assert_allclose(cut[variable], whole[variable], rtol=1e-3, atol=1e-5, err_msg=variable)


def test_the_order_of_prompts_changes_nothing(bridges):
    tokens = tiny.tokens(batch=6)
    one, other = (toeplitz(bridges["gpt2"], some) for some in (tokens, tokens.flip(0)))
    for variable in VARIABLES:
        np.testing.assert_allclose(one[variable], other[variable], rtol=1e-5, err_msg=variable)


# Scores that are known -------------------------------------------------------------------------------------


def fed(scores: Tensor, block=None, window=None) -> dict[str, Tensor]:
    """The variables of planted scores [prompt, head, query, key], handed over in blocks as a layer hands them."""
    prompts, heads, length, _ = scores.shape
    seen = oracles.visible(length, window)
    scores = scores.masked_fill(~seen, -torch.inf)
    span = AttentionSpan("global") if window is None else AttentionSpan("local", window)
    layer = MODULE._Layer(prompts, heads, length, span)
    for first in range(0, length, block or length):
        last = min(first + (block or length), length)
        start = 0 if window is None else max(0, first - window + 1)
        its = scores[:, :, first:last, start:last]
        layer.add(PatternBlock(0, first, start, its.softmax(-1), its))
    return layer.finish()


def by_distance(kernel: Tensor) -> Tensor:
    """[..., query, key] with the value kernel[..., i - j] at every cell; 0 above the diagonal."""
    length = kernel.shape[-1]
    scores = torch.zeros(*kernel.shape, length, dtype=kernel.dtype)
    for i in range(length):
        for j in range(i + 1):
            scores[..., i, j] = kernel[..., i - j]
    return scores


def without_diagonals(scores: Tensor) -> Tensor:
    """Scores less their mean over the cells j >= 1 of each distance."""
    scores, length = scores.clone(), scores.shape[-1]
    for d, its in cells_of(length, None).items():
        i, j = map(list, zip(*its, strict=True))
        scores[..., i, j] -= scores[..., i, j].mean(-1, keepdim=True)
        assert i[0] - j[0] == d
    return scores


def draws(seed, *shape) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


sizes = dict(
    prompts=st.integers(2, 6),
    length=st.integers(5, 20),
    window=st.none() | st.integers(2, 22),
    block=st.integers(1, 20),
    seed=st.integers(0, 2**31),
)


@settings(max_examples=40, deadline=None)
@given(**sizes)
def test_scores_that_are_a_function_of_distance_have_a_share_of_exactly_one(prompts, length, window, block, seed):
    kernel = draws(seed, 3, length)
    found = fed(by_distance(kernel).expand(prompts, 3, length, length), block, window)
    assert found["toeplitz_share"].tolist() == pytest.approx([1.0] * 3, abs=1e-9)
    assert found["toeplitz_share_corrected"].tolist() == pytest.approx([1.0] * 3, abs=1e-9)
    there = list(cells_of(length, window))
    np.testing.assert_allclose(found["kernel"][:, there], kernel[:, there], atol=1e-12)
    np.testing.assert_allclose(found["kernel_error"][:, there], 0, atol=1e-12)


@settings(max_examples=40, deadline=None)
@given(**sizes)
def test_scores_whose_diagonals_are_alike_have_a_share_of_zero(prompts, length, window, block, seed):
    scores = without_diagonals(draws(seed, 1, 3, length, length)) + 7.0
    found = fed(scores.expand(prompts, 3, length, length), block, window)
    for share in ("toeplitz_share", "toeplitz_share_corrected"):
        assert found[share].tolist() == pytest.approx([0.0] * 3, abs=1e-9)
    cells = [cell for its in cells_of(length, window).values() for cell in its]
    expected = [np.var([float(scores[0, head, i, j]) for i, j in cells]) for head in range(3)]
    assert found["variance"].tolist() == pytest.approx(expected)


def row_share_by_dummies(mean: Tensor, window) -> float:
    """By numpy's least squares: a constant a row, and beside it one a distance, as columns of noughts and ones."""
    cells = [cell for its in cells_of(len(mean), window).values() for cell in its]
    values = np.array([float(mean[cell]) for cell in cells])
    rows, diagonals = np.zeros((2, len(cells), len(mean)))
    for at, (i, j) in enumerate(cells):
        rows[at, i] = diagonals[at, i - j] = 1.0

    def left(columns):
        return ((values - columns @ np.linalg.lstsq(columns, values, rcond=None)[0]) ** 2).sum()

    return 1 - left(np.hstack([rows, diagonals])) / left(rows)


@settings(max_examples=40, deadline=None)
@given(**{**sizes, "length": st.integers(6, 16), "window": st.none() | st.integers(3, 18)})
def test_the_share_of_rows_is_that_of_least_squares_with_dummies(prompts, length, window, block, seed):
    scores = draws(seed, prompts, 2, length, length)
    found = fed(scores, block, window)
    for head in range(2):
        expected = row_share_by_dummies(scores[:, head].mean(0), window)
        assert float(found["row_share"][head]) == pytest.approx(expected, abs=1e-9)


@settings(max_examples=40, deadline=None)
@given(**{**sizes, "window": st.none() | st.integers(3, 22)})
def test_a_constant_of_its_own_in_each_row_changes_no_share_of_rows(prompts, length, window, block, seed):
    kernel, constants = draws(seed, 2, length), draws(seed + 1, prompts, 2, length, 1)
    scores = by_distance(kernel).expand(prompts, 2, length, length)
    found = fed(scores + 5 * constants, block, window)
    for share in ("row_share", "row_share_corrected"):
        assert found[share].tolist() == pytest.approx([1.0] * 2, abs=1e-6), share
    noisy = scores + draws(seed + 2, prompts, 2, length, length)
    one, other = fed(noisy, block, window), fed(noisy + constants, block, window)
    np.testing.assert_allclose(one["row_share"], other["row_share"], atol=1e-9)


def test_the_corrected_share_of_rows_is_not_biased_by_noise_where_the_plain_one_is():
    length, heads, prompts = 14, 300, 4
    part = by_distance(draws(3, length)) + 0.7 * without_diagonals(draws(4, length, length))
    known = row_share_by_dummies(part, None)
    found = fed(part + 2 * draws(5, length, 1) + draws(6, prompts, heads, length, length))
    assert 0.3 < known < 0.9
    assert float(found["row_share"].mean()) < known - 0.05
    assert float(found["row_share_corrected"].mean()) == pytest.approx(known, abs=0.02)


def test_the_first_key_counts_for_nothing():
    scores = by_distance(draws(1, 2, 9)).expand(3, 2, 9, 9).clone()
    scores[..., 0] = 1000 * draws(2, 3, 2, 9)
    assert fed(scores, 4)["toeplitz_share"].tolist() == pytest.approx([1.0, 1.0])


def test_a_kernel_worked_by_hand():
    # cells j >= 1 of four tokens: (1,1) (2,2) (3,3) at distance 0, (2,1) (3,2) at 1, (3,1) at 2
    first = torch.tensor([[9.0, 0, 0, 0], [9, 1, 0, 0], [9, 4, 2, 0], [9, 6, 8, 3]], dtype=torch.float64)
    second = torch.tensor([[5.0, 0, 0, 0], [5, 3, 0, 0], [5, 0, 2, 0], [5, 2, 4, 1]], dtype=torch.float64)
    found = fed(torch.stack([first, second])[:, None])
    # diagonals of the first: 2, 6, 6; of the second: 2, 2, 2; so their means 2, 4, 4, the halves of differences 0, 2, 2
    np.testing.assert_allclose(found["kernel"][0], [2, 4, 4, np.nan])
    np.testing.assert_allclose(found["kernel_error"][0], [0, 2, 2, np.nan])
    # the mean scores: 2 2 2, 2 6, 4, with mean 3 and squares 4 4 4, 4 36, 16 of mean 34/3: variance 34/3 - 9 = 7/3
    assert float(found["variance"]) == pytest.approx(7 / 3)
    # between: (3 (2 - 3)^2 + 2 (4 - 3)^2 + (4 - 3)^2) / 6 = 1
    assert float(found["toeplitz_share"]) == pytest.approx(3 / 7)


# The corrected share ---------------------------------------------------------------------------------------


def independent(seed, prompts, heads, length) -> Tensor:
    return draws(seed, prompts, heads, length, length)


def of_rows_and_columns(seed, prompts, heads, length) -> Tensor:
    """What a token makes of every score that its query or its key is in: cells of a prompt are not independent."""
    rows, columns = draws(seed, prompts, heads, length, 1), draws(seed + 1, prompts, heads, 1, length)
    return (rows + columns + draws(seed + 2, prompts, heads, length, length)) / 3**0.5


MIXTURES = {
    "half": (1.0, 1.0),
    "mostly distance": (2.0, 0.5),
    "little distance": (0.5, 1.0),
}
REPLICATES = 400


@pytest.mark.parametrize("noise", [independent, of_rows_and_columns])
@pytest.mark.parametrize("mixture", MIXTURES)
@pytest.mark.parametrize("prompts", [4, 16])
def test_the_corrected_share_is_that_without_noise_where_the_plain_one_is_too_low(mixture, noise, prompts):
    """Heads are replicates: the same scores, other noise. The share is a ratio, so some bias of second order is left.

    Noise of variance v, independent in N cells on D diagonals, adds v (N - 1) / N to the variance and v (D - 1) / N to
    what diagonals explain of it.
    """
    length, size = 20, 1.5
    distance, rest = MIXTURES[mixture]
    signal = distance * by_distance(draws(3, length)) + rest * draws(4, length, length)
    known = truth(signal[None].expand(2, -1, -1))
    expected, variance = known["toeplitz_share"], known["variance"]
    cells = [len(its) for its in cells_of(length, None).values()]

    found = fed(signal + size * noise(10, prompts, REPLICATES, length))

    plain, corrected = (found[name].numpy() for name in ("toeplitz_share", "toeplitz_share_corrected"))
    assert not np.isnan(corrected).any()
    assert corrected.mean() == pytest.approx(expected, abs=0.01)
    if noise is independent:
        added, between = (size**2 / prompts * (number - 1) / sum(cells) for number in (sum(cells), len(cells)))
        too_low = (expected * variance + between) / (variance + added)
        assert plain.mean() == pytest.approx(too_low, abs=0.01)
        assert too_low < expected - 0.004


def test_pure_distance_under_noise_is_corrected_to_one_and_no_distance_to_zero():
    length, prompts = 20, 8
    alone = 1.5 * by_distance(draws(3, length))
    none = without_diagonals(draws(4, length, length))
    noise = 1.5 * independent(10, prompts, REPLICATES, length)
    high, low = (fed(signal + noise) for signal in (alone, none))
    assert float(high["toeplitz_share"].mean()) < 0.95
    assert float(high["toeplitz_share_corrected"].mean()) > 0.98
    assert float(low["toeplitz_share"].mean()) > 0.015
    assert float(low["toeplitz_share_corrected"].mean()) < 0.01


def test_where_there_is_nothing_but_noise_there_is_no_corrected_share():
    found = fed(independent(10, 8, REPLICATES, 20))
    assert float(found["toeplitz_share_corrected"].isnan().double().mean()) > 0.99
    assert not found["toeplitz_share"].isnan().any()


def test_the_error_of_a_kernel_is_how_far_it_scatters():
    noise = independent(5, 6, 4000, 9)
    found = fed(noise)
    there = [d for d in cells_of(9, None)]
    scatter = found["kernel"][:, there].std(0)
    reported = found["kernel_error"][:, there].square().mean(0).sqrt()
    np.testing.assert_allclose(reported, scatter, rtol=0.05)
    by_hand = [(1 / 6 / len(its)) ** 0.5 for its in cells_of(9, None).values()]  # 6 prompts of independent cells
    np.testing.assert_allclose(reported, by_hand, rtol=0.05)


# The law of rotary networks --------------------------------------------------------------------------------

PRIME = 13


def every_pair_once(length) -> Tensor:
    """Prompts in which any two positions hold every pair of tokens once."""
    rows = [[(a + b * i) % PRIME for i in range(length)] for a in range(PRIME) for b in range(PRIME)]
    return torch.tensor(rows)


def expected_kernel(net, length) -> Tensor:
    """[head, distance] of the first layer: scale E[q] R(d) E[k]; at distance 0 both are of one token, scale E[q k]."""
    layer = net.layers[0]
    normed = oracles.layer_norm(net.embed, layer.ln1, net.eps)
    q, k = (
        torch.einsum("tm,hmd->htd", normed, weight) + bias[:, None]
        for weight, bias in ((layer.w_q, layer.b_q), (layer.w_k, layer.b_k))
    )
    kernel = torch.empty(len(q), length, dtype=torch.float64)
    kernel[:, 0] = (q * k).sum(-1).mean(-1)
    for d in range(1, length):
        turned = oracles.rotate(q.mean(1)[None, None], torch.tensor([d]), net.rotary_dims, net.rotary_base)[0, 0]
        kernel[:, d] = (turned * k.mean(1)).sum(-1)
    return net.scales[0] * kernel


@pytest.mark.parametrize("name", tiny.ROTARY)
def test_over_all_pairs_of_tokens_a_first_rotary_layer_is_distance_alone(name, tmp_path_factory):
    model = tiny.model(name, vocab_size=PRIME)
    found = toeplitz(tiny.loaded(model, tmp_path_factory), every_pair_once(12)).sel(layer=0)
    np.testing.assert_allclose(found["toeplitz_share"], 1, atol=1e-6)
    expected = expected_kernel(oracles.network(model), 12)
    np.testing.assert_allclose(found["kernel"][:, :11], expected[:, :11], atol=1e-5)


def test_over_all_pairs_of_tokens_a_first_absolute_layer_is_not(tmp_path_factory):
    model = tiny.model("gpt2", vocab_size=PRIME)
    found = toeplitz(tiny.loaded(model, tmp_path_factory), every_pair_once(12)).sel(layer=0)
    assert (found["toeplitz_share"] < 0.7).all()


def test_without_positions_a_first_layer_tells_only_its_own_token_apart(tmp_path_factory):
    model = tiny.model("pythia", vocab_size=PRIME, rotary_pct=0.0)
    found = toeplitz(tiny.loaded(model, tmp_path_factory), every_pair_once(12)).sel(layer=0)
    far = found["kernel"].sel(distance=slice(1, 10))
    np.testing.assert_allclose(far, far.isel(distance=[0] * 10), atol=1e-6)
    assert (abs(far[:, 0] - found["kernel"].sel(distance=0)) > 0.05).all()


@pytest.mark.parametrize("name", tiny.ROTARY)
def test_on_random_tokens_the_kernel_is_that_law_within_its_error_and_the_corrected_share_is_near_one(
    name, tmp_path_factory
):
    model = tiny.model(name, vocab_size=PRIME)
    tokens = torch.randint(0, PRIME, (3000, 12), generator=torch.Generator().manual_seed(1))
    found = toeplitz(tiny.loaded(model, tmp_path_factory), tokens).sel(layer=0)
    expected = expected_kernel(oracles.network(model), 12)
    apart = ((found["kernel"] - expected.numpy()) / found["kernel_error"]).values[:, :11]
    assert np.abs(apart).max() < 4.5
    assert 0.4 < (apart**2).mean() < 2
    assert (found["toeplitz_share_corrected"] > 0.95).all()
    assert (found["toeplitz_share"] < found["toeplitz_share_corrected"]).all()


# What is asked ---------------------------------------------------------------------------------------------


def test_a_model_without_positions_is_measured_too():
    model = neolens.load("lab/nope")
    found = toeplitz(model, torch.randint(2, 120, (4, 9), generator=torch.Generator().manual_seed(0)))
    shares = found["toeplitz_share"]
    assert ((shares >= 0) & (shares <= 1 + 1e-9)).all()


def test_the_result_says_how_many_prompts_of_which_length(bridges):
    found = toeplitz(bridges["gpt-neo"], tiny.tokens(batch=5, length=9))
    assert (found.attrs["prompts"], found.attrs["length"]) == (5, 9)
    assert found["attention_kind"].values.tolist() == ["global", "local"] * 2
    assert found["distance"].values.tolist() == list(range(9))


REFUSED = {
    "one prompt": (
        tiny.tokens(batch=1),
        ValueError,
        "there is 1 prompt to average tokens out over: expected at least 2",
    ),
    "several lengths": (
        [tiny.tokens()[0], tiny.tokens()[1, :9]],
        ValueError,
        "prompts have 9 to 14 tokens: expected one",
    ),
    "too short": (tiny.tokens(length=3), ValueError, "prompt 0 has 3 tokens: .* takes 4 to 64"),
    "too long": (tiny.tokens(length=65), ValueError, "prompt 0 has 65 tokens: .* takes 4 to 64"),
    "no tokens": (tiny.tokens().double(), TypeError, "prompt 0 is not a one-dimensional integer tensor"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_input_is_refused_before_the_model_runs(case, bridges, monkeypatch):
    monkeypatch.setattr(MODULE, "residual", lambda *args, **rest: pytest.fail("the model ran"))
    tokens, error, message = REFUSED[case]
    with pytest.raises(error, match=message):
        toeplitz(bridges["gpt2"], tokens)


def test_hooks_and_other_models_are_refused(bridges, tiny_models):
    hook = ("blocks.0.attn.hook_q", lambda x, hook: x)
    with bridges["gpt2"].hooks(fwd_hooks=[hook]), pytest.raises(ValueError, match="the model has hooks at blocks.0"):
        toeplitz(bridges["gpt2"], tiny.tokens())
    with pytest.raises(TypeError, match="expected a model from neolens.load, got GPTNeoForCausalLM"):
        toeplitz(tiny_models["gpt-neo"], tiny.tokens())
