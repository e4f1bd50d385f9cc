"""The laws of activation patching, on random small models of every family: shapes, windows, prompts and sweeps drawn.

The truth is `oracles.forward` in float64 with one activation replaced; the models are loaded in float64 too, so that
a wrong number cannot hide among roundings. What test_patching.py says of the fixed tiny models is not said again.
"""

import functools
import json
import math
from collections.abc import Callable
from types import ModuleType

import numpy as np
import pytest
import torch
import xarray as xr
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st
from torch import Tensor

import neolens
import oracles
import tiny
from neolens import replay
from neolens.patching import patch
from neolens.prompts.pairs import PromptPairs
from neolens.readout import patched_runs
from neolens.replay import HEAD_SITES, SITES
from test_patching import naive

METRICS = ("logit_difference", "probability", "log_probability", "rank", "kl_divergence", "loss")
AFTER = ("resid_mid", "resid_post", "attn_out", "mlp_out", "z", "q", "pattern")
"""Sites whose patch changes the output of its own layer at its own position alone."""


def examples(number: int) -> settings:
    """Without shrinking: each step builds another model, and what is drawn is small as it is."""
    return settings(max_examples=number, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])


# What is drawn ---------------------------------------------------------------------------------------------

any_family = st.sampled_from(["gpt-neo", "pythia", *tiny.NAMES])  # windows and parallel blocks twice as often
any_window, any_length = st.integers(1, 12), st.integers(2, 20)
any_size, some = st.integers(1, 4), st.sampled_from([[2], [1, 2], [2, 0], [0, 1]])
gpt_neo, either, directions = st.just("gpt-neo"), st.booleans(), st.sampled_from(["denoise", "noise"])


@st.composite
def models(draw, family=any_family, window=any_window, local=either, size=any_size):
    """A family and the fields of its config, as a key of `build`."""
    name = draw(family)
    layers, heads, d_head = draw(size), draw(size), draw(st.sampled_from([2, 4, 6, 8]))
    if name == "gpt2":
        fields = {"n_layer": layers, "n_head": heads, "n_embd": heads * d_head}
    elif name == "gpt-neo":
        kinds = ["local" if draw(local) else "global" for _ in range(layers)]
        fields = {"num_layers": layers, "num_heads": heads, "hidden_size": heads * d_head}
        fields |= {"attention_types": [[kinds, 1]], "window_size": draw(window)}
    else:
        fields = {"num_hidden_layers": layers, "num_attention_heads": heads, "hidden_size": heads * d_head}
        fields |= {"rotary_pct": 2 * draw(st.integers(0, d_head // 2)) / d_head}
    return name, json.dumps(fields)


@st.composite
def prompts(draw, lengths=any_length, most=3):
    """What `pairs` makes: prompts of one or two lengths, each the same up to a position of its own, named positions."""
    chosen = draw(st.lists(st.sampled_from([draw(lengths), draw(lengths)]), min_size=1, max_size=most))

    def position() -> list[int]:
        return [draw(st.integers(0, length - 1)) for length in chosen]

    return chosen, position(), position(), position(), draw(st.integers(0, 10**6))


def pairs(lengths, differ, a, b, seed) -> PromptPairs:
    generator = torch.Generator().manual_seed(seed)
    clean, corrupted = (
        [torch.randint(1, tiny.VOCAB, (length,), generator=generator) for length in lengths] for _ in range(2)
    )
    for one, other, at in zip(clean, corrupted, differ, strict=True):
        other[:at] = one[:at]
        other[at] = one[at] % (tiny.VOCAB - 1) + 1
    answers = torch.randint(0, 30, (2, len(lengths)), generator=generator)
    return PromptPairs.from_tokens(clean, corrupted, answers[0], answers[1] + 30, {"a": a, "b": b})


def has(model, site: str) -> bool:
    return not (site == "resid_mid" and model.anatomy.parallel)


@pytest.fixture(scope="module")
def build(tmp_path_factory) -> Callable:
    """(family, fields) -> the model from its folder, and the oracle's network of the same weights."""

    @functools.cache
    def build(name: str, fields: str, dtype: torch.dtype = torch.float64):
        truth, folder = tiny.model(name, **json.loads(fields)), tmp_path_factory.mktemp("drawn")
        truth.save_pretrained(folder)
        return neolens.load(folder, dtype=dtype), oracles.network(truth)

    return build


# The metrics by hand -----------------------------------------------------------------------------------------


def measured(metric: str, logits: Tensor, asked: PromptPairs, prompt: int, target: Tensor, clean: Tensor) -> Tensor:
    """Of runs [row, pos, d_vocab] of one prompt, with the logits [pos, d_vocab] of its clean run."""
    answer, distractor = int(asked.answers[prompt]), int(asked.distractors[prompt])
    last, log_p = logits[:, -1], logits - logits.logsumexp(-1, keepdim=True)
    if metric == "logit_difference":
        return last[:, answer] - last[:, distractor]
    if metric == "probability":
        return log_p[:, -1, answer].exp()
    if metric == "log_probability":
        return log_p[:, -1, answer]
    if metric == "rank":
        return torch.tensor([_rank(row, answer) for row in last.tolist()]).double()
    if metric == "kl_divergence":
        before = clean[-1] - clean[-1].logsumexp(-1)
        return torch.stack([sum(before.exp() * (before - row)) for row in log_p[:, -1]])
    assert metric == "loss"
    return -torch.stack([log_p[:, i, target[i + 1]] for i in range(len(target) - 1)]).mean(0)


def _rank(logits: list[float], answer: int) -> float:
    """NaN where another token is within 1e-6: there rounding decides."""
    others = [logit - logits[answer] for token, logit in enumerate(logits) if token != answer]
    return math.nan if min(map(abs, others)) < 1e-6 else sum(other > 0 for other in others)


def in_turn(asked: PromptPairs, direction: str) -> list[tuple[int, Tensor, Tensor]]:
    """Each prompt's number, the run that is patched and the one that the activations are of."""
    both = list(zip(range(len(asked)), asked.corrupted, asked.clean, strict=True))
    return both if direction == "denoise" else [(number, clean, corrupted) for number, corrupted, clean in both]


def covered(asked: PromptPairs, prompt: int, positions: str | list[str]) -> list[tuple[int, int]]:
    """The positions that each patch of a prompt covers, first and end."""
    length = asked.lengths[prompt]
    if positions == "all":
        return [(0, length)]
    places = range(length) if positions == "each" else [int(asked.positions[name][prompt]) for name in positions]
    return [(at, at + 1) for at in places]


def agree(found, truth) -> None:
    """To 2e-6 of the value: results are stored in fp32, to 6e-8, and the rotation's angles are fp32 at 20 positions."""
    found, truth = np.asarray(found, dtype=np.float64), np.asarray(truth, dtype=np.float64)
    assert np.isfinite(found).all()
    known = ~np.isnan(truth)
    np.testing.assert_allclose(found[known], truth[known], rtol=2e-6, atol=1e-6)


# Every patch ---------------------------------------------------------------------------------------------------

LIMITS = [
    (module, name)
    for module in (*vars(replay).values(), patched_runs)
    if isinstance(module, ModuleType)
    for name in vars(module)
    if name.endswith("_BYTES")
]
"""Of memory that the engine takes at a time, module by module: far above what these models need."""


def test_the_engine_has_the_limits_that_are_lowered_below():
    assert {name for _, name in LIMITS} == {"ATTENTION_BYTES", "LOGIT_BYTES"}


PARALLEL = ("pythia", '{"num_attention_heads": 2, "hidden_size": 16}')
LOCAL = ("gpt-neo", '{"num_layers": 3, "attention_types": [[["local"], 3]], "window_size": 3}')
MIXED = ([9, 7, 9], [2, 0, 1], [0, 0, 0], [8, 3, 5], 11)


@examples(15)
@given(
    models(),
    prompts(),
    st.lists(st.sampled_from(SITES), min_size=3, max_size=3, unique=True),
    st.sampled_from(["each", "all", ["b"], ["a", "b"]]),
    directions,
    st.lists(st.sampled_from(METRICS), min_size=1, max_size=4, unique=True),
    st.sets(st.integers(0, 3)),
    st.sets(st.integers(0, 3)),
    st.sampled_from([1, 3_000, 100_000, 2**31]),
    st.booleans(),
)
@example(PARALLEL, MIXED, ["attn_out", "k", "pattern"], "each", "denoise", ["loss", "rank"], set(), {1}, 3_000, True)
@example(LOCAL, MIXED, ["resid_pre", "k", "pattern"], "each", "noise", ["kl_divergence"], set(), {0, 1}, 1, True)
def test_any_sweep_of_any_model_is_the_runs_of_the_whole_network(
    build, model, asked, sites, positions, direction, metrics, layers, heads, max_memory, in_pieces
):
    (model, network), asked = build(*model), pairs(*asked)
    layers = sorted(layers & {*range(model.anatomy.layers)}) or None
    heads = sorted(heads & {*range(model.anatomy.heads)}) or None
    sweep = dict(positions=positions, layers=layers, metric=metrics, direction=direction, max_memory=max_memory)
    for site in [site for site in sites if has(model, site)]:
        with pytest.MonkeyPatch.context() as set_:
            for module, name in LIMITS if in_pieces else ():
                set_.setattr(module, name, 1)
            result = patch(model, asked, site, heads=heads if site in HEAD_SITES else None, **sweep, progress=False)
        chosen = result["head"].values.tolist() if site in HEAD_SITES else [None]
        for prompt, target, source in in_turn(asked, direction):
            stretches = covered(asked, prompt, positions)
            patches = [(head, *stretch) for head in chosen for stretch in stretches]
            clean = oracles.forward(network, asked.clean[prompt][None]).logits[0]
            for layer in result.layer.values.tolist():
                logits = naive(network, target, source, site, layer, patches)
                found = result.patched.sel(prompt=prompt, layer=layer)
                found = found if positions == "all" else found.isel(pos=slice(len(stretches)))
                for metric in metrics:
                    truth = measured(metric, logits, asked, prompt, target, clean)
                    agree(found.sel(metric=metric).values.ravel(), truth)


@examples(8)
@given(models(), prompts(st.integers(2, 8), most=2), st.sampled_from(SITES), directions)
def test_whole_runs_with_a_hook_give_the_same_on_any_model(build, model, asked, site, direction):
    (model, _), asked = build(*model), pairs(*asked)
    if has(model, site):
        sweep = dict(
            positions=["b", "a"],
            direction=direction,
            metric=["logit_difference", "kl_divergence", "loss"],
            progress=False,
        )
        hooked, replayed = (patch(model, asked, site, engine=engine, **sweep) for engine in ("hooks", "replay"))
        # attention of GPT-Neo and Pythia is fp32 under hooks, as in Hugging Face
        np.testing.assert_allclose(hooked.patched, replayed.patched, rtol=1e-4, atol=2e-5)


# The ends --------------------------------------------------------------------------------------------------------


@examples(10)
@given(models(), prompts(), st.sampled_from(["resid_pre", "resid_mid", "resid_post"]), directions)
def test_the_whole_residual_stream_of_any_layer_is_the_run_that_it_is_of(build, model, asked, site, direction):
    (model, network), asked = build(*model), pairs(*asked)
    if not has(model, site):
        return
    result = patch(model, asked, site, positions="all", direction=direction, metric=list(METRICS), progress=False)
    for prompt, target, source in in_turn(asked, direction):
        tokens = {"clean": asked.clean[prompt], "corrupted": asked.corrupted[prompt]}
        logits = {run: oracles.forward(network, its[None]).logits for run, its in tokens.items()}
        restored = oracles.forward(network, source[None]).logits
        for metric in METRICS:
            here = {"prompt": prompt, "metric": metric}
            (truth,) = measured(metric, restored, asked, prompt, target, logits["clean"][0])
            agree(result.patched.sel(here), np.full(result.sizes["layer"], truth))
            for run, its in tokens.items():  # nothing patched
                (truth,) = measured(metric, logits[run], asked, prompt, its, logits["clean"][0])
                agree(result[run].sel(here), truth)


@examples(10)
@given(models(), prompts(), st.sampled_from(SITES), directions, st.sampled_from(["each", ["a", "b"]]))
@example(("gpt2", "{}"), ([6, 6, 4], [4, 5, 3], [0, 1, 2], [3, 4, 0], 0), "z", "denoise", ["a", "b"])
def test_a_patch_before_the_first_difference_does_exactly_nothing(build, model, asked, site, direction, positions):
    (model, _), asked = build(*model), pairs(*asked)
    if not has(model, site):
        return
    result = patch(
        model, asked, site, positions=positions, direction=direction, metric=list(METRICS), progress=False
    ).transpose("prompt", "pos", ..., "metric")
    unpatched = result.corrupted if direction == "denoise" else result.clean
    for prompt, differ in enumerate(asked.first_difference.tolist()):
        for column, (at, _) in enumerate(covered(asked, prompt, positions)):
            if at < differ:
                found = result.patched[prompt, column]
                np.testing.assert_array_equal(found, unpatched[prompt].broadcast_like(found).transpose(*found.dims))


@examples(10)
@given(models(), prompts(), st.sampled_from(SITES), directions)
def test_denoising_is_noising_the_swapped_pairs_and_swapped_answers_swap_the_sign(build, model, asked, site, direction):
    (model, _), asked = build(*model), pairs(*asked)
    if not has(model, site):
        return
    sweep = dict(metric=["logit_difference", "probability", "rank", "loss"], progress=False)
    other = {"denoise": "noise", "noise": "denoise"}[direction]
    found = patch(model, asked, site, direction=direction, **sweep)
    mirrored = patch(model, asked.swapped(), site, direction=other, **sweep)
    np.testing.assert_array_equal(found.patched, mirrored.patched)
    np.testing.assert_array_equal(found.clean, mirrored.corrupted)
    turned = PromptPairs.from_tokens(asked.clean, asked.corrupted, asked.distractors, asked.answers)
    again = patch(model, turned, site, direction=direction, progress=False).patched
    np.testing.assert_allclose(again, -found.patched.sel(metric="logit_difference"), rtol=1e-6, atol=1e-6)


@examples(10)
@given(models(size=st.integers(3, 4)), prompts(), st.sampled_from(SITES), some, some)
def test_some_layers_and_heads_are_a_slice_of_the_whole_sweep(build, model, asked, site, layers, heads):
    (model, _), asked = build(*model), pairs(*asked)
    if not has(model, site):
        return
    heads = sorted(heads) if site in HEAD_SITES else None
    whole = patch(model, asked, site, progress=False).patched.sel(layer=sorted(layers))
    part = patch(model, asked, site, layers=layers, heads=heads, progress=False).patched
    xr.testing.assert_allclose(part, whole if heads is None else whole.sel(head=heads), rtol=1e-6, atol=1e-7)


# Windows ---------------------------------------------------------------------------------------------------------


@examples(10)
@given(models(gpt_neo), prompts(), st.sampled_from(SITES), st.integers(0, 3), directions)
def test_within_the_window_a_local_layer_is_exactly_a_global_one(build, model, asked, site, wider, direction):
    name, fields = model[0], json.loads(model[1])
    asked, layers = pairs(*asked), fields["num_layers"]
    fields["window_size"] = max(asked.lengths) + wider
    twin = fields | {"attention_types": [[["global"], layers]]}
    (one, _), (other, _) = (build(name, json.dumps(its), torch.float32) for its in (fields, twin))
    sweep = dict(metric=list(METRICS), direction=direction, progress=False)
    np.testing.assert_array_equal(patch(one, asked, site, **sweep).patched, patch(other, asked, site, **sweep).patched)


@pytest.mark.parametrize("site", ["resid_pre", "q", "v", "pattern"])
@pytest.mark.parametrize(("window", "same"), [(8, True), (7, False)])
def test_a_window_of_the_prompts_length_is_none_and_one_less_is_one(site, window, same, build):
    spans = [["global", "local"], ["global", "global"]]
    fields = [json.dumps({"num_layers": 2, "attention_types": [[its, 1]], "window_size": window}) for its in spans]
    asked = pairs([8, 8], [2, 0], [0, 0], [0, 0], 1)
    one, other = (patch(build("gpt-neo", its, torch.float32)[0], asked, site, progress=False) for its in fields)
    assert bool((one.patched == other.patched).any()) is same
    assert bool((one.patched == other.patched).all()) is same


def in_reach(windows, length: int, site: str, layer: int) -> list[bool]:
    """From which positions of a site there is a way through the windows to the last position of the output."""
    ways = torch.arange(length) == length - 1
    for window in reversed(windows[layer + (site in AFTER) :]):
        ways = (oracles.visible(length, window) & ways[:, None]).any(0)
    return ways.tolist()


@examples(15)
@given(
    models(gpt_neo, st.integers(1, 6), st.sampled_from([True, True, True, False])),
    prompts(st.integers(8, 20)),
    st.sampled_from(SITES),
    directions,
)
def test_a_patch_that_no_window_hands_on_to_the_last_position_does_exactly_nothing(
    build, model, asked, site, direction
):
    (model, network), asked = build(*model), pairs(*asked)
    metrics = ["logit_difference", "rank", "kl_divergence"]
    result = patch(model, asked, site, direction=direction, metric=metrics, progress=False)
    unpatched = result.corrupted if direction == "denoise" else result.clean
    for prompt, length in enumerate(asked.lengths):
        for layer in range(model.anatomy.layers):
            found = result.patched.sel(prompt=prompt, layer=layer, pos=slice(0, length - 1)).transpose("pos", ...)
            beyond = found[~np.array(in_reach(network.windows, length, site, layer))]
            np.testing.assert_array_equal(beyond, unpatched[prompt].broadcast_like(beyond).transpose(*beyond.dims))


REACH = {"resid_pre": (5, 7, 9), "v": (5, 7, 9), "resid_post": (7, 9, 11), "mlp_out": (7, 9, 11), "z": (7, 9, 11)}
"""Three layers, window 3, 12 tokens: what enters layer 0 goes two positions in each layer, from 5 to 7, 9 and 11."""


@pytest.mark.parametrize(("site", "first"), REACH.items())
def test_the_first_position_in_reach_is_the_one_worked_out_by_hand(site, first, build):
    fields = {"num_layers": 3, "attention_types": [[["local"], 3]], "window_size": 3}
    model, _ = build("gpt-neo", json.dumps(fields))
    result = patch(model, pairs([12], [0], [0], [0], 3), site, progress=False).isel(prompt=0)
    effect = abs(result.patched - result.corrupted).transpose("layer", "pos", ...)
    effect = effect.max("head") if site in HEAD_SITES else effect
    for layer in range(3):
        assert (effect[layer, : first[layer]] == 0).all()
        assert (effect[layer, first[layer] :] > 1e-5).all()
    everything = patch(model, pairs([12], [0], [0], [0], 3), site, metric="loss", progress=False).isel(prompt=0)
    assert (abs(everything.patched - everything.corrupted).isel(pos=slice(11)) > 0).all(), "read at all but the last"
