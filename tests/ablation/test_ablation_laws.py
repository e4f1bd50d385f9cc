"""The laws of ablation, on random small models of every family: shapes, windows, prompts, groups and positions drawn.

The truth is `oracles.forward` in float64 with heads replaced; the models are loaded in float64 too, so that a wrong
number cannot hide among roundings. What test_ablation.py says of the fixed tiny models is not said again.
"""

import json

import numpy as np
import pytest
import torch
import xarray as xr
from hypothesis import example, given
from hypothesis import strategies as st

import neolens
import oracles
import tiny
from neolens.ablation import Beyond, Within, ablate, each_head, each_layer
from neolens.models import AttentionSpan
from neolens.network import logits, residual, weights_of
from test_ablation import MINE, instead, naive, pairs, prompts
from test_ablation import measured as by_hand
from test_patching_laws import agree, build, examples, models

__all__ = ["build"]

pytestmark = pytest.mark.filterwarnings("ignore:the mean is over only:UserWarning")

METRICS = ("loss", "log_probability", "probability", "kl_divergence", "logit_difference")
every_family = pytest.mark.parametrize("name", tiny.NAMES)
cuts = st.builds(Beyond, st.integers(1, 12)) | st.builds(Within, st.integers(1, 12))
any_how = st.sampled_from(["zero", "mean", "mean_all_positions", "resample"]) | cuts

ROUNDING = {"rtol": 2e-6, "atol": 1e-5}
"""fp32 against fp32 in another order of sums, for numbers up to 40."""


@pytest.fixture(scope="module")
def exact(tiny_folders) -> dict:
    """The tiny models in float64."""
    return {name: neolens.load(folder, dtype=torch.float64) for name, folder in tiny_folders.items()}


def values(result: xr.Dataset) -> np.ndarray:
    return result.ablated.values


# Any ablation of any model -----------------------------------------------------------------------------------------

heads = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=5)
several = st.lists(heads, min_size=1, max_size=3)
lengths = st.lists(st.integers(2, 16), min_size=1, max_size=2).flatmap(
    lambda drawn: st.permutations([each for each in drawn for _ in range(2)])
)
NAMED = [[(0, 0)], [(1, 1), (0, 1), (1, 1)], [(3, 3), (2, 0)]]
LOCAL = ("gpt-neo", '{"num_layers": 3, "attention_types": [[["local"], 3]], "window_size": 3}')
PARALLEL = ("pythia", '{"num_attention_heads": 2, "hidden_size": 16}')


@examples(12)
@given(models(), several, any_how, lengths, st.booleans(), st.integers(0, 10**6), st.sampled_from([1, 10_000, 2**31]))
@example(LOCAL, NAMED, Within(3), [12, 12, 5, 5], True, 0, 1)
@example(LOCAL, NAMED, "mean", [12, 9, 12, 9], True, 0, 1)
@example(LOCAL, NAMED, "mean_all_positions", [12, 9, 3], True, 0, 1)
@example(PARALLEL, NAMED, Beyond(4), [12, 5, 12, 5], True, 1, 10_000)
@example(PARALLEL, NAMED, "resample", [12, 5, 12, 5], False, 2, 1)
def test_any_ablation_of_any_model_is_the_run_of_the_whole_network(
    build, model, groups, how, lengths, named, seed, max_memory
):
    (model, network), asked = build(*model), prompts(tuple(lengths), seed)
    facts, draw = model.anatomy, torch.Generator().manual_seed(seed)
    groups = {
        str(number): [(layer % facts.layers, head % facts.heads) for layer, head in group]
        for number, group in enumerate(groups)
    }
    answers, others = ([torch.randint(0, tiny.VOCAB, p.shape, generator=draw) for p in asked] for _ in range(2))
    places = torch.stack([torch.randint(0, length, (2,), generator=draw) for length in lengths])
    positions = {"one": places[:, 0].tolist(), "two": places[:, 1].tolist()} if named else None
    found = ablate(
        model, asked, groups, how=how, metric=list(METRICS), answers=answers, distractors=others, seed=seed,
        positions=positions, max_memory=max_memory, progress=False,
    )  # fmt: skip
    for number, prompt in enumerate(asked):
        own = oracles.forward(network, prompt[None]).logits[0]
        runs = naive(network, prompt, groups.values(), how, instead(network, asked, asked, how, number, seed))
        at = places[number].tolist() if named else list(range(len(prompt)))
        given = answers[number][at].tolist(), others[number][at].tolist()
        of = found.sel(prompt=number).isel(pos=slice(len(at)))
        for metric in METRICS:
            agree(of.baseline.sel(metric=metric), by_hand(metric, own[at], own[at], *given))
            truth = [by_hand(metric, run[at], own[at], *given) for run in runs]
            agree(of.ablated.sel(metric=metric), truth)


# What is exactly or nearly nothing -----------------------------------------------------------------------------------


@every_family
def test_cutting_what_lies_beyond_the_prompt_changes_nothing_beyond_rounding(name, bridges):
    tokens = tiny.tokens(batch=3, length=12)
    result = ablate(bridges[name], tokens, each_head(bridges[name]) | MINE, how=Beyond(12), progress=False)
    shown = np.broadcast_to(result.baseline, result.ablated.shape)
    np.testing.assert_allclose(result.ablated, shown, **ROUNDING)
    shorter = ablate(bridges[name], tokens, {"first": each_layer(bridges[name])["layer 0"]}, how=Beyond(11),
                     metric="kl_divergence", progress=False)  # fmt: skip
    assert (abs(shorter.ablated[..., :11]) < 1e-6).all()
    assert (abs(shorter.ablated[..., 11]) > 1e-6).any(), "the last token alone has lost a key"


@every_family
def test_a_cut_leaves_the_positions_before_its_distance_as_they_were(name, bridges):
    tokens, groups = tiny.tokens(batch=3), each_layer(bridges[name]) | MINE
    result = ablate(bridges[name], tokens, groups, how=Beyond(6), progress=False)
    shown = np.broadcast_to(result.baseline, result.ablated.shape)
    np.testing.assert_allclose(result.ablated[..., :6], shown[..., :6], **ROUNDING)
    whole = result.sel(group=[name for name in groups if result.attention_kind.sel(group=name) != "local"])
    assert (abs(whole.ablated - whole.baseline)[..., 6:-1].max("pos") > 1e-4).all()


@every_family
def test_cutting_all_near_keys_is_zero_ablation_exactly(name, bridges):
    tokens, groups = tiny.tokens(batch=3, length=10), each_head(bridges[name]) | each_layer(bridges[name]) | MINE
    zero = ablate(bridges[name], tokens, groups, how="zero", progress=False)
    for distance in (10, 25):
        cut = ablate(bridges[name], tokens, groups, how=Within(distance), progress=False)
        np.testing.assert_array_equal(values(cut), values(zero))
    nearly = ablate(bridges[name], tokens, groups, how=Within(9), progress=False)
    np.testing.assert_array_equal(nearly.ablated[..., :9], zero.ablated[..., :9])  # the last query alone sees a key
    moved = [ablate(bridges[name], tokens, {"first": groups["layer 0"]}, how=how, metric="kl_divergence",
                    progress=False).ablated[..., 9] for how in (Within(9), "zero")]  # fmt: skip
    assert (abs(moved[0] - moved[1]) > 1e-4).all()


@pytest.mark.parametrize("window", [1, 4])
def test_a_local_layer_cut_within_its_window_says_nothing(window, build):
    fields = {"num_layers": 2, "attention_types": [[["global", "local"], 1]], "window_size": window}
    model, _ = build("gpt-neo", json.dumps(fields))
    call = dict(progress=False)
    cut = ablate(model, prompts(), {"local": [(1, 0), (1, 2)]}, how=Within(window), **call)
    zero = ablate(model, prompts(), {"local": [(1, 0), (1, 2)]}, how="zero", **call)
    np.testing.assert_array_equal(values(cut), values(zero))
    beyond = ablate(model, prompts(), {"local": [(1, 0), (1, 2)]}, how=Beyond(window), **call)
    agree(values(beyond)[..., :8], np.broadcast_to(beyond.baseline, beyond.ablated.shape)[..., :8])


@every_family
def test_a_mean_over_copies_of_the_prompt_is_what_it_says_itself(name, bridges):
    tokens = tiny.tokens(batch=1, length=10)
    groups = each_head(bridges[name]) | each_layer(bridges[name]) | MINE
    result = ablate(bridges[name], tokens, groups, reference=tokens.repeat(8, 1), progress=False)
    np.testing.assert_allclose(result.ablated, np.broadcast_to(result.baseline, result.ablated.shape), **ROUNDING)


@every_family
@pytest.mark.parametrize("engine", ["replay", "hooks"])
def test_the_baseline_is_the_model_as_it_is(name, engine, bridges):
    tokens = tiny.tokens(batch=3, length=9)
    result = ablate(bridges[name], tokens, MINE, how="zero", engine=engine, progress=False)
    log_p = bridges[name](tokens).detach().double().log_softmax(-1)
    truth = -log_p[:, :-1].gather(2, tokens[:, 1:, None])[..., 0]
    np.testing.assert_allclose(result.baseline[:, :-1], truth, **ROUNDING)
    assert np.isnan(result.baseline[:, -1]).all()


# Whole layers ---------------------------------------------------------------------------------------------------------


def losses(model, tokens, spans) -> np.ndarray:
    weights = weights_of(model)
    with torch.no_grad():
        log_p = logits(weights, residual(weights, tokens, spans=spans)).log_softmax(-1)
    return -log_p[:, :-1].gather(2, tokens[:, 1:, None])[..., 0].numpy()


@every_family
@pytest.mark.parametrize("window", [1, 3, 7])
def test_a_layer_cut_beyond_a_window_is_that_layer_made_local(name, window, exact):
    model, tokens = exact[name], tiny.tokens(batch=2)
    result = ablate(model, tokens, each_layer(model), how=Beyond(window), progress=False)
    for layer, span in enumerate(model.anatomy.attention):
        spans = list(model.anatomy.attention)
        spans[layer] = AttentionSpan("local", min(window, span.window or window))
        agree(result.ablated[layer, :, :-1], losses(model, tokens, spans))


@every_family
def test_a_layer_cut_beyond_a_window_is_what_it_would_be_with_that_window(name, exact):
    model, tokens = exact[name], tiny.tokens(batch=2)
    every = [head for heads in each_layer(model).values() for head in heads]
    result = ablate(model, tokens, each_layer(model) | {"all": every}, how=Beyond(3), progress=False)
    for layer in range(model.anatomy.layers):
        with neolens.what_if(model, windows={layer: 3}):
            treated = ablate(model, tokens, {"none": [(0, 0)]}, how="zero", progress=False).baseline
        agree(result.ablated[layer, :, :-1], treated[:, :-1])
    with neolens.what_if(model, windows=3):
        agree(result.ablated[-1, :, :-1], losses(model, tokens, None))
        inside = ablate(model, tokens, MINE, how="zero", progress=False)
        hooked = ablate(model, tokens, MINE, how="zero", engine="hooks", progress=False)
        agree(inside.ablated[..., :-1], hooked.ablated[..., :-1])
        assert set(inside.attention_kind.values.tolist()) == {"local"}


@every_family
def test_without_any_head_attention_adds_its_output_bias_alone(name, exact, networks):
    model, network, tokens = exact[name], networks[name], tiny.tokens(batch=2)
    everything = {"all": [head for heads in each_layer(model).values() for head in heads]}
    result = ablate(model, tokens, everything, how="zero", progress=False)
    edits = {
        f"blocks.{index}.hook_attn_out": lambda x, bias=layer.b_o: torch.zeros_like(x) + bias
        for index, layer in enumerate(network.layers)
    }
    log_p = oracles.forward(network, tokens, edits).logits.log_softmax(-1)
    agree(result.ablated[0, :, :-1], -log_p[:, :-1].gather(2, tokens[:, 1:, None])[..., 0])
    reordered = tokens.clone()
    reordered[:, 2:5] = tokens[:, [3, 4, 2]]
    again = ablate(model, reordered, everything, how="zero", progress=False)
    agree(again.ablated[0, :, 5:-1], result.ablated[0, :, 5:-1])  # no position hears of another


# What does not matter ---------------------------------------------------------------------------------------------


@every_family
@pytest.mark.parametrize("how", ["resample", Within(2)], ids=str)
def test_memory_decides_only_how_many_run_together(name, how, bridges):
    call = dict(how=how, metric=["loss", "kl_divergence"], progress=False)
    asked, groups = prompts((14, 9, 14, 9, 9)), MINE | each_layer(bridges[name])
    whole = ablate(bridges[name], asked, groups, **call)
    for max_memory in (1, 100_000):
        part = ablate(bridges[name], asked, groups, max_memory=max_memory, **call)
        np.testing.assert_allclose(part.ablated, whole.ablated, **ROUNDING)
        np.testing.assert_allclose(part.baseline, whole.baseline, **ROUNDING)


@every_family
def test_logits_taken_a_few_at_a_time_are_the_same(name, bridges, monkeypatch):
    def size(logits):
        return logits.square().mean((1, 2))

    call, asked = dict(how="zero", progress=False), prompts((9, 6, 9))
    each = {"metric": ["loss", "kl_divergence", "logit_difference"], "distractors": [7 - p % 7 for p in asked]}
    whole = [ablate(bridges[name], asked, MINE, **call, **its) for its in (each, {"metric": size})]
    monkeypatch.setattr("neolens.readout.predictions.LOGIT_BYTES", 1)
    monkeypatch.setattr("neolens.ablation.values._TOKENS_AT_ONCE", 1)
    parts = [ablate(bridges[name], asked, MINE, **call, **its) for its in (each, {"metric": size})]
    for part, one in zip(parts, whole, strict=True):
        np.testing.assert_allclose(part.ablated, one.ablated, **ROUNDING)
    mean = ablate(bridges[name], asked, MINE, reference=prompts((9, 6) * 4, seed=2), progress=False)
    monkeypatch.undo()
    once = ablate(bridges[name], asked, MINE, reference=prompts((9, 6) * 4, seed=2), progress=False)
    np.testing.assert_allclose(mean.ablated, once.ablated, **ROUNDING)


@every_family
@pytest.mark.parametrize("how", ["mean", "resample", Within(2)], ids=str)
def test_a_group_has_its_numbers_alone_in_any_order_and_among_any_prompts(name, how, bridges):
    asked, model = prompts((14, 9, 14, 9)), bridges[name]
    groups = MINE | each_layer(model)
    reference = prompts((14, 9) * 8, seed=3) if how == "mean" else None
    call = dict(how=how, reference=reference, progress=False)
    whole = ablate(model, asked, groups, **call)
    turned = ablate(model, asked, dict(reversed(groups.items())), **call)
    np.testing.assert_allclose(turned.ablated.sel(group=list(groups)), whole.ablated, **ROUNDING)
    alone = ablate(model, asked, {"mine": groups["mine"][::-1]}, **call)
    np.testing.assert_allclose(alone.ablated[0], whole.ablated.sel(group="mine"), **ROUNDING)
    if how != "resample":  # there the number of a prompt draws its donor
        few = ablate(model, asked[1:2], groups, **call | {"reference": reference and reference[1::2]})
        np.testing.assert_allclose(few.ablated[:, 0], whole.ablated[:, 1, :9], **ROUNDING)


@every_family
def test_a_head_named_twice_is_ablated_once(name, bridges):
    one, twice = MINE["mine"], [*MINE["mine"], *MINE["mine"][::-1]]
    for how in ("mean", Beyond(3)):
        once, again = (ablate(bridges[name], prompts(), {"mine": its}, how=how, progress=False) for its in (one, twice))
        np.testing.assert_array_equal(values(again), values(once))
        assert again["heads"].values.tolist() == once["heads"].values.tolist() == ["0.2 0.3 1.0 2.1"]


@every_family
@pytest.mark.parametrize("how", ["resample", Beyond(3)], ids=str)
def test_swapped_answers_swap_the_sign(name, how, bridges):
    its = pairs((9, 6, 9, 6))
    turned = neolens.PromptPairs.from_tokens(its.clean, its.corrupted, its.distractors, its.answers)
    found, mirrored = (
        ablate(bridges[name], asked, MINE, how=how, metric="logit_difference", progress=False)
        for asked in (its, turned)
    )
    np.testing.assert_allclose(mirrored.ablated, -found.ablated, rtol=0, atol=1e-6)
    np.testing.assert_allclose(mirrored.baseline, -found.baseline, rtol=0, atol=1e-6)
    assert (abs(found.ablated) > 1e-3).all()


@every_family
@pytest.mark.parametrize("how", ["zero", Beyond(3), Within(2)], ids=str)
def test_what_follows_does_not_matter(name, how, exact):
    (prompt,) = prompts((14,))
    whole, start = (ablate(exact[name], p[None], MINE, how=how, progress=False) for p in (prompt, prompt[:9]))
    agree(start.ablated[..., :8], whole.ablated[..., :8])


@every_family
@pytest.mark.parametrize("how", ["mean", "resample"])
def test_in_the_last_layer_only_what_is_said_at_a_position_counts_there(name, how, exact, networks):
    model, network, tokens = exact[name], networks[name], tiny.tokens(batch=3, length=10)
    last = model.anatomy.layers - 1
    result = ablate(model, tokens, {"last": [(last, 1)]}, how=how, seed=1, progress=False)
    for number in range(3):
        said = instead(network, list(tokens), list(tokens), how, number, seed=1)[last][:, 1]
        for at in (0, 4, 8):

            def put(z, at=at, said=said):
                z = z.clone()
                z[:, at, 1] = said[at]
                return z

            log_p = oracles.forward(network, tokens[number][None], {f"blocks.{last}.attn.hook_z": put}).logits[0, at]
            agree(result.ablated[0, number, at], -log_p.log_softmax(-1)[tokens[number, at + 1]])


# Half precision -----------------------------------------------------------------------------------------------------


@every_family
@pytest.mark.parametrize("how", ["mean"])
def test_in_half_precision_the_effects_are_those_of_single_within_a_tenth_of_their_range(
    name, how, bridges, tiny_folders
):
    half = neolens.load(tiny_folders[name], dtype="bfloat16")
    call = dict(how=how, progress=False)
    truth = ablate(bridges[name], prompts(), each_layer(bridges[name]) | MINE, **call)
    found = ablate(half, prompts(), each_layer(half) | MINE, **call)
    assert found.attrs["dtype"] == "bfloat16"
    effect = truth.ablated - truth.baseline
    wrong = (found.ablated - found.baseline) - effect
    assert float(np.sqrt((wrong**2).mean())) < 0.1 * float(np.sqrt((effect**2).mean()))
