"""Activation patching: every site, position and direction, against a naive run of the whole network for each patch."""

import json

import numpy as np
import pytest
import torch
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

import neolens
import oracles
import tiny
from neolens import figures, metrics, results, sites
from neolens.models import AttentionSpan
from neolens.network import agreement
from neolens.patching import patch, recovered
from neolens.prompts.pairs import PromptPairs
from neolens.replay import HEAD_SITES, SITES, reach

every_family = pytest.mark.parametrize("name", tiny.NAMES)
every_site = pytest.mark.parametrize("site", SITES)


def pairs(lengths=(14, 9, 14), differ=3, seed=0, distractors=True, names=True):
    """Random pairs that agree before position `differ`; `b` names another place in every prompt."""
    draw = torch.Generator().manual_seed(seed)
    clean = [torch.randint(1, tiny.VOCAB, (n,), generator=draw) for n in lengths]
    corrupted = [p.clone() for p in clean]
    for prompt, before in zip(corrupted, clean):
        prompt[differ:] = torch.randint(1, tiny.VOCAB, (len(prompt) - differ,), generator=draw)
        prompt[differ] = (prompt[differ] + 1) % tiny.VOCAB
        if prompt[differ] == before[differ]:  # drawn alike: a pair has to differ there
            prompt[differ] = (prompt[differ] + 1) % tiny.VOCAB
    answers = torch.randint(1, tiny.VOCAB, (2, len(lengths)), generator=draw)
    answers[1] = (answers[0] + 1 + answers[1] % (tiny.VOCAB - 1)) % tiny.VOCAB
    places = {"a": [n - 1 for n in lengths], "b": [differ + i for i in range(len(lengths))]} if names else None
    return PromptPairs.from_tokens(clean, corrupted, answers[0], answers[1] if distractors else None, places)


def has(name, site):
    return not (site == "resid_mid" and name == "pythia")


def naive(network, target, source, site, layer, patches):
    """Logits of runs of `target`, each with one (head, first, last) of the run of `source`: the network in float64."""
    hook = sites.hook_name(site, layer)
    taken = oracles.forward(network, source[None]).after[hook][0]

    def put(x):
        x = x.clone()
        for row, (head, first, last) in enumerate(patches):
            if site == "pattern":
                x[row, head, first:last] = taken[head, first:last]
            elif site in HEAD_SITES:
                x[row, first:last, head] = taken[first:last, head]
            else:
                x[row, first:last] = taken[first:last]
        return x

    return oracles.forward(network, target.expand(len(patches), -1), {hook: put}).logits


def logit_difference(logits, pairs, prompt):
    return logits[..., -1, pairs.answers[prompt]] - logits[..., -1, pairs.distractors[prompt]]


@every_family
@every_site
@pytest.mark.parametrize("direction", ["denoise", "noise"])
@pytest.mark.parametrize("positions", ["each", "all", ["b", "a"], [("b", "a"), "b"]], ids=str)
def test_every_patch_is_the_run_of_the_whole_network_with_it(name, site, direction, positions, bridges, networks):
    if not has(name, site):
        pytest.skip("a parallel block has no resid_mid")
    asked = pairs()
    result = patch(bridges[name], asked, site, positions=positions, direction=direction, progress=False)
    target, source = (asked.corrupted, asked.clean) if direction == "denoise" else (asked.clean, asked.corrupted)
    largest = float(abs(result.patched).max())
    for prompt in range(3):
        layer, length = (prompt + len(site)) % result.sizes["layer"], len(target[prompt])
        if positions == "each":
            stretches = [(at, at + 1) for at in range(length)]
        elif positions == "all":
            stretches = [(0, length)]
        else:
            at = {name: int(asked.positions[name][prompt]) for name in ("a", "b")}
            whole = {("b", "a"): (at["b"] + 1, at["a"]), **{name: (at[name], at[name] + 1) for name in at}}
            stretches = [whole[place] for place in positions]
        patches = [(head, *stretch) for head in (range(4) if site in HEAD_SITES else [None]) for stretch in stretches]
        truth = logit_difference(
            naive(networks[name], target[prompt], source[prompt], site, layer, patches), asked, prompt
        )
        found = result.patched.isel(prompt=prompt, layer=layer).values.ravel()
        found = found[~np.isnan(found)]
        assert np.abs(found - truth.numpy()).max() < 2e-5 * largest


@every_family
@every_site
def test_the_hooks_engine_gives_the_same_numbers(name, site, bridges):
    if not has(name, site):
        pytest.skip("a parallel block has no resid_mid")
    asked = pairs(lengths=(8, 8, 5), differ=2)
    every = [metrics.logit_difference, "kl_divergence", "rank", "loss", "probability", "log_probability"]
    settings_ = {"metric": every, "layers": [0, 2], "progress": False}
    replayed, hooked = (patch(bridges[name], asked, site, engine=engine, **settings_) for engine in ("replay", "hooks"))
    assert replayed.patched.dims == hooked.patched.dims
    for variable in ("patched", "clean", "corrupted"):
        np.testing.assert_allclose(replayed[variable], hooked[variable], atol=3e-5, equal_nan=True)
    assert replayed.attrs["engine"] == "replay"
    assert hooked.attrs["engine"] == "hooks"


def between(places, lengths=(9, 9, 7), differ=4):
    """Pairs whose names `from` and `to` stand at these places."""
    its = pairs(lengths, differ, names=False)
    named = {"from": [first for first, _ in places], "to": [last for _, last in places]}
    return PromptPairs.from_tokens(its.clean, its.corrupted, its.answers, its.distractors, named)


@pytest.mark.parametrize("engine", ["replay", "hooks"])
@pytest.mark.parametrize("site", ["resid_pre", "attn_out", "z", "v", "pattern"])
def test_a_prompt_with_nothing_between_two_names_has_no_number_there(engine, site, bridges):
    its = between([(2, 6), (5, 6), (5, 5)])
    asked = {"engine": engine, "progress": False}
    found = patch(bridges["gpt-neo"], its, site, positions=["to", ("from", "to")], **asked)
    assert found.pos.values.tolist() == ["to", "from..to"]
    assert np.isnan(found.patched.sel(pos="from..to", prompt=[1, 2])).all()
    assert found.patched.notnull().sel(pos="from..to", prompt=0).all()
    named = patch(bridges["gpt-neo"], its, site, positions=["to"], **asked)
    np.testing.assert_allclose(found.patched.sel(pos="to"), named.patched.sel(pos="to"), atol=1e-5)


@every_family
def test_a_stretch_of_one_position_is_that_position_and_one_before_the_difference_does_nothing(name, bridges):
    its = between([(4, 6), (5, 7), (4, 6)])
    each = patch(bridges[name], its, "resid_post", progress=False)
    found = patch(bridges[name], its, "resid_post", positions=[("from", "to")], progress=False)
    for prompt, at in enumerate((5, 6, 5)):
        alone = each.patched.sel(prompt=prompt, pos=at)
        np.testing.assert_allclose(found.patched.sel(prompt=prompt, pos="from..to"), alone, atol=1e-5)
    early = patch(bridges[name], between([(0, 4)] * 3), "resid_post", positions=[("from", "to")], progress=False)
    assert (early.patched.isel(pos=0).transpose(..., "prompt").values == early.corrupted.values).all()


@every_family
def test_a_stretch_noised_is_the_swapped_pairs_denoised_and_in_half_precision_close_to_single(name, bridges):
    its, asked = between([(2, 8), (5, 6), (3, 6)]), {"positions": [("from", "to"), "to"], "progress": False}
    noised = patch(bridges[name], its, "z", direction="noise", **asked)
    np.testing.assert_array_equal(noised.patched, patch(bridges[name], its.swapped(), "z", **asked).patched)
    half = patch(bridges[name], its, "z", direction="noise", dtype="bfloat16", **asked)
    np.testing.assert_array_equal(half.patched.isnull(), noised.patched.isnull())
    assert json.loads(half.attrs["error_of_range"])["logit_difference"] < 0.1


def test_the_heatmap_has_a_column_for_a_stretch_that_some_prompts_have(bridges):
    its = between([(2, 6), (5, 6), (3, 6)])
    result = patch(bridges["gpt2"], its, "resid_pre", positions=["from", ("from", "to"), "to"], progress=False)
    figure = figures.patch_heatmap(result)
    assert list(figure.layout.xaxis.ticktext) == ["from", "from..to", "to"]
    by_hand = (result.patched - result.corrupted).sel(prompt=[0, 2], pos="from..to").mean("prompt")
    np.testing.assert_allclose(np.array(figure.data[0].z)[:, 1], by_hand, atol=1e-6)


STRETCHES = {
    "unknown": (("from", "c"), "no position 'c': expected 'each', 'all' or a name; the pairs name from, to"),
    "three": (("from", "to", "to"), r"positions hold \('from', 'to', 'to'\): expected a name, or two"),
    "order": (("to", "from"), "position 'from' of pair 1 stands before 'to': give the two names in their order"),
    "one": (("from", "from"), "no pair has a position between 'from' and 'from': leave that stretch out"),
}


@pytest.mark.parametrize(("stretch", "message"), STRETCHES.values(), ids=STRETCHES)
def test_a_stretch_that_is_none_is_refused(stretch, message, bridges):
    with pytest.raises(ValueError, match=message):
        patch(bridges["gpt2"], between([(5, 5), (2, 6), (3, 4)]), "z", positions=["to", stretch], progress=False)


def test_a_stretch_that_no_prompt_has_is_refused(bridges):
    with pytest.raises(ValueError, match="no pair has a position between 'from' and 'to': leave that stretch out"):
        patch(bridges["gpt2"], between([(5, 5), (2, 3), (3, 4)]), "z", positions=[("from", "to")], progress=False)


@every_family
def test_each_metric_is_what_its_definition_says(name, bridges, networks):
    asked = pairs(lengths=(7, 7), differ=2)

    def norm(logits):
        return logits.square().mean((1, 2))

    result = patch(bridges[name], asked, "resid_post", layers=[1], metric=[*metrics.METRICS, norm], progress=False).sel(
        layer=1
    )
    for prompt in range(2):
        clean = oracles.forward(networks[name], asked.clean[prompt][None]).logits[0].log_softmax(-1)
        for at in range(7):
            runs = asked.corrupted[prompt], asked.clean[prompt]
            (logits,) = naive(networks[name], *runs, "resid_post", 1, [(None, at, at + 1)])
            log_p, answer = logits.log_softmax(-1), int(asked.answers[prompt])
            by_hand = {
                "logit_difference": float(logit_difference(logits, asked, prompt)),
                "probability": float(log_p[-1, answer].exp()),
                "log_probability": float(log_p[-1, answer]),
                "rank": sum(float(value) > float(logits[-1, answer]) for value in logits[-1]),
                "kl_divergence": sum(float(p.exp() * (p - q)) for p, q in zip(clean[-1], log_p[-1], strict=True)),
                "loss": np.mean([-float(log_p[i, asked.corrupted[prompt][i + 1]]) for i in range(6)]),
                "norm": float(logits.square().mean()),
            }
            found = result.patched.sel(prompt=prompt, pos=at)
            assert {str(m): float(found.sel(metric=m)) for m in found.metric.values} == pytest.approx(
                by_hand, rel=2e-5, abs=2e-5
            )


@every_family
@every_site
def test_patching_before_the_first_difference_does_nothing_exactly(name, site, bridges):
    if has(name, site):
        result = patch(bridges[name], pairs(differ=4), site, progress=False)
        early = result.patched.sel(pos=slice(0, 3)).transpose(..., "prompt")
        assert (early.values == result.corrupted.values).all()


@every_family
@pytest.mark.parametrize("site", ["resid_pre", "resid_mid", "resid_post"])
def test_the_whole_residual_stream_restores_the_clean_run(name, site, bridges):
    if has(name, site):
        result = patch(bridges[name], pairs(), site, positions="all", progress=False)
        np.testing.assert_allclose(recovered(result), 1, atol=1e-4)
        heads = patch(bridges[name], pairs(), "z", positions="all", progress=False)
        assert float(abs(recovered(heads) - 1).min()) > 1e-3


@every_family
@pytest.mark.parametrize("site", ["resid_pre", "z", "k", "pattern"])
def test_denoising_is_noising_of_the_swapped_pairs_and_swapping_the_answers_swaps_the_sign(name, site, bridges):
    asked = pairs()
    denoised = patch(bridges[name], asked, site, progress=False)
    noised = patch(bridges[name], asked.swapped(), site, direction="noise", progress=False)
    np.testing.assert_array_equal(denoised.patched, noised.patched)
    np.testing.assert_array_equal(denoised.clean, noised.corrupted)
    other = PromptPairs.from_tokens(asked.clean, asked.corrupted, asked.distractors, asked.answers)
    np.testing.assert_allclose(patch(bridges[name], other, site, progress=False).patched, -denoised.patched, atol=1e-6)


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from(tiny.NAMES),
    st.sampled_from(SITES),
    st.lists(st.integers(2, 20), min_size=1, max_size=4),
    st.integers(0, 10**6),
    st.sampled_from([1, 30_000, 2**30]),
)
def test_any_lengths_in_any_memory_give_the_numbers_of_the_prompts_by_themselves(
    bridges, name, site, lengths, seed, max_memory
):
    if not has(name, site):
        return
    asked = pairs(tuple(lengths), differ=min(lengths) // 2, seed=seed, names=False)
    whole = patch(
        bridges[name], asked, site, metric=["logit_difference", "loss"], max_memory=max_memory, progress=False
    )
    for prompt, length in enumerate(lengths):
        alone = patch(bridges[name], asked[[prompt]], site, metric=["logit_difference", "loss"], progress=False)
        mine = whole.patched.sel(prompt=prompt, pos=slice(0, length - 1))
        np.testing.assert_allclose(mine, alone.patched.sel(prompt=0), atol=2e-5)
        assert np.isnan(whole.patched.sel(prompt=prompt, pos=slice(length, None))).all()


def test_a_small_change_has_the_effect_that_its_gradient_says(bridges, networks):
    # attribution patching: for a vanishing difference of the embeddings, effect = gradient . difference
    from neolens.network import weights_of
    from neolens.readout.patched_runs import Reader
    from neolens.replay import NEEDED, Cells, Suffix, final, record, replay

    weights, tokens = weights_of(bridges["gpt2"]), tiny.tokens(batch=1, length=6)
    spans, answers = weights.anatomy.attention, (torch.tensor([3]), torch.tensor([4]))
    with torch.no_grad():
        target = record(weights, tokens, NEEDED, spans)
        step = 1e-2 * torch.randn_like(target["resid_pre"][1])
        source = {"resid_pre": {layer: x + step for layer, x in target["resid_pre"].items()}}
        reader = Reader(weights, [metrics.logit_difference], tokens, final(target), *answers)
        suffix, at = Suffix(weights, target, spans, reach(spans, 6, reader.read_from)), torch.arange(6)
        cells = Cells(at * 0, at * 0, at, at + 1, at)
        out = reader.unpatched().repeat(6, 1)
        before = out.clone()
        replay(suffix, source, "resid_pre", [1], cells, reader, out, budget=2**20)
    effect = (out - before)[:, 0]

    network, gradients = networks["gpt2"], []

    def watched(x):
        x = x.detach().requires_grad_()
        gradients.append(x)
        return x

    logits = oracles.forward(network, tokens, {"blocks.1.hook_resid_pre": watched}).logits[0, -1]
    (gradient,) = torch.autograd.grad(logits[3] - logits[4], gradients[0])
    expected = (gradient[0] * step[0].double()).sum(-1)
    torch.testing.assert_close(effect.double(), expected, atol=2e-3 * float(expected.abs().max()) + 1e-4, rtol=0.05)


def test_the_reach_of_windows_worked_out_by_hand():
    local, everything = AttentionSpan("local", 4), AttentionSpan("global")
    # read at 9: the last layer's inputs from 9 - 3, the layer's below that from 6 - 3, the one's below global from 0
    assert reach((local, local, local), 10, 9).seen_from == (3, 6, 9)
    assert reach((local, everything, local), 10, 9).seen_from == (0, 6, 9)
    both = reach((local, everything), 10, 9)
    assert [both.changed_until(0, last) for last in (1, 6, 7, 8)] == [4, 9, 10, 10]
    assert both.changed_until(1, 1) == 10


@every_family
def test_the_result_is_labelled(name, bridges):
    asked = pairs()
    result = patch(bridges[name], asked, "z", layers=[2, 0], heads=[1, 3], positions=["a", "b"], progress=False)
    assert result.patched.dims == ("prompt", "layer", "head", "pos")
    assert result.layer.values.tolist() == [0, 2]
    assert result["head"].values.tolist() == [1, 3]
    assert result.pos.values.tolist() == ["a", "b"]
    spans = bridges[name].anatomy.attention
    assert result.attention_kind.values.tolist() == [spans[0].kind, spans[2].kind]
    assert result.attrs["site"] == "z"
    assert result.attrs["direction"] == "denoise"
    whole = patch(bridges[name], asked, "z", progress=False)
    assert (
        result.patched.sel(pos="a", prompt=1, layer=2, head=3) == whole.patched.sel(pos=8, prompt=1, layer=2, head=3)
    ).all()


def test_a_model_is_the_same_after_a_sweep_finished_failed_or_interrupted(bridges):
    model, tokens = bridges["gpt-neo"], tiny.tokens()
    before = model(tokens)

    def stops(logits):
        calls.append(1)
        if len(calls) > 2:
            raise KeyboardInterrupt
        return logits[:, -1, 0]

    for engine in ("replay", "hooks"):
        calls = []
        patch(model, pairs(lengths=(6,)), "z", engine=engine, progress=False)
        with pytest.raises(KeyboardInterrupt):
            patch(model, pairs(lengths=(6,)), "z", engine=engine, metric=stops, progress=False)
        assert torch.equal(model(tokens), before)
        assert not any(point.fwd_hooks or point.bwd_hooks for point in model.hook_dict.values())


def wrong_shape(logits):
    return logits[:, -1]


def not_a_number(logits):
    return logits[:, -1, 0] * float("nan")


BAD = {
    "site": ({"site": "resid"}, "no site 'resid': .*expected resid_pre, "),
    "near miss": ({"site": "patern"}, "no site 'patern': did you mean pattern"),
    "layer": ({"layers": [0, 3]}, "no layer 3 in .*: layers are 0 to 2"),
    "no layer": ({"layers": []}, r"layers \[\]: expected at least one of 0 to 2"),
    "head": ({"site": "z", "heads": [4]}, "no head 4 in .*: heads are 0 to 3"),
    "heads of the stream": (
        {"heads": [1]},
        "resid_pre has no heads: leave heads out, or patch one of z, q, k, v, pattern",
    ),
    "position": ({"positions": ["c"]}, "no position 'c': expected 'each', 'all' or a name; the pairs name a, b"),
    "direction": ({"direction": "sideways"}, "no direction 'sideways': expected 'denoise'"),
    "engine": ({"engine": "warp"}, "no engine 'warp': expected auto, replay or hooks"),
    "memory": ({"max_memory": 0}, "max_memory 0: expected a whole number of bytes, at least 1"),
    "metric": ({"metric": "logit_diference"}, "no metric 'logit_diference': did you mean logit_difference"),
    "metric twice": ({"metric": ["loss", "loss"]}, "each with a name of its own"),
    "shape": ({"metric": wrong_shape}, r"metric wrong_shape gives shape \(1, 40\) for 1 runs: expected"),
    "nan": (
        {"metric": not_a_number},
        "metric not_a_number of the clean run of prompt 0 is nan: expected a finite number",
    ),
}


@pytest.mark.parametrize(("change", "message"), BAD.values(), ids=BAD)
def test_bad_input_is_refused_before_the_sweep(change, message, bridges):
    asked = {"site": "resid_pre", "progress": False} | change
    message = message.replace("40", str(tiny.VOCAB))
    with pytest.raises(ValueError, match=message):
        patch(bridges["gpt2"], pairs(lengths=(6,)), asked.pop("site"), **asked)


def test_resid_mid_of_a_parallel_block_and_missing_distractors_and_long_prompts_are_refused(bridges):
    with pytest.raises(ValueError, match="has no resid_mid: attention and MLP run in parallel"):
        patch(bridges["pythia"], pairs(), "resid_mid")
    with pytest.raises(ValueError, match="logit_difference needs distractors: give them to the pairs"):
        patch(bridges["gpt2"], pairs(distractors=False), "z")
    with pytest.raises(ValueError, match=f"pair 1 has prompts of 70 tokens: .* has {tiny.CONTEXT} positions"):
        patch(bridges["gpt2"], pairs(lengths=(6, 70)), "z")
    foreign = PromptPairs.from_tokens([torch.tensor([1, 500])], [torch.tensor([2, 500])], [1], [2])
    with pytest.raises(ValueError, match="pair 0 holds token 500: .* has 0 to "):
        patch(bridges["gpt2"], foreign, "z")


def test_recovered_is_nan_where_both_runs_have_the_same_metric(bridges):
    result = patch(bridges["gpt2"], pairs(lengths=(6,)), "resid_pre", progress=False)
    by_hand = (result.patched.values - result.corrupted.values) / (result.clean.values - result.corrupted.values)
    np.testing.assert_allclose(recovered(result), by_hand)
    assert np.isnan(recovered(result.assign(clean=result.corrupted))).all()


def test_patch_is_public():
    assert neolens.patch is patch
    assert neolens.recovered is recovered
    assert neolens.PromptPairs is PromptPairs


def test_results_of_several_models_stand_in_one_dataset(bridges):
    swept = {name: patch(bridges[name], pairs(), "z", progress=False) for name in ("gpt2", "pythia")}
    both = results.stack(swept)
    assert list(both.model.values) == ["gpt2", "pythia"]
    for name, one in swept.items():
        np.testing.assert_array_equal(both.patched.sel(model=name, layer=one.layer).values, one.patched.values)
        np.testing.assert_array_equal(both.length.sel(model=name), [14, 9, 14])


@every_family
@pytest.mark.parametrize("dtype", ["bfloat16", torch.float16])
def test_half_precision_reports_its_error_against_float32(name, dtype, bridges):
    its, several = pairs(), ["logit_difference", "log_probability"]
    exact = patch(bridges[name], its, "z", metric=several, progress=False)
    half = patch(bridges[name], its, "z", metric=several, dtype=dtype, progress=False)

    assert half.attrs["dtype"] == str(dtype).removeprefix("torch.")
    assert exact.attrs["dtype"] == "float32"
    assert "error" not in exact.attrs
    error, share = json.loads(half.attrs["error"]), json.loads(half.attrs["error_of_range"])
    assert half.attrs["error_cells"] == 8 * exact.sizes["layer"]
    for metric in several:
        truth, found = exact.patched.sel(metric=metric), half.patched.sel(metric=metric)
        largest = float(abs(truth - found).max())
        assert 0.1 * largest <= error[metric] <= largest * (1 + 1e-4)
        assert share[metric] == pytest.approx(error[metric] / float(found.max() - found.min()), rel=1e-4)
        assert share[metric] < 0.1


def test_a_sweep_of_nothing_that_differs_is_the_unpatched_run(bridges):
    its = pairs(lengths=(9, 9), differ=5, names=False)
    its = PromptPairs.from_tokens(its.clean, its.corrupted, its.answers, its.distractors, {"before": [1, 4]})
    for dtype in (None, "bfloat16"):
        result = patch(bridges["gpt2"], its, "z", positions=["before"], dtype=dtype, progress=False)
        assert (result.patched == result.corrupted).all()
    assert result.attrs["error_cells"] == 0


def test_a_model_in_half_precision_is_compared_with_its_own_weights_in_float32(tiny_folders, monkeypatch):
    monkeypatch.setattr("neolens.patching.rounding.SAMPLE", 10**6)  # every patch, so that both have the same batches
    half = neolens.load(tiny_folders["gpt2"], dtype="bfloat16")
    alone = patch(half, pairs(), "resid_pre", progress=False)
    exact = patch(half, pairs(), "resid_pre", dtype="float32", progress=False)
    assert json.loads(alone.attrs["error"])["logit_difference"] == float(abs(alone.patched - exact.patched).max())
    assert exact.attrs["dtype"] == "float32"
    assert "error" not in exact.attrs


@every_family
def test_a_hook_on_the_model_is_refused_by_the_replay_engine_and_runs_in_the_other(name, bridges):
    model, its = bridges[name], pairs(lengths=(9,))
    plain = patch(model, its, "resid_pre", positions="all", progress=False)
    model.add_hook("blocks.0.hook_mlp_out", lambda x, hook: x * 0.0)
    try:
        with pytest.raises(ValueError, match=r"hooks at blocks\.0\.hook_mlp_out.*or take engine='hooks'"):
            patch(model, its, "resid_pre", progress=False)
        with pytest.raises(ValueError, match="hooks at blocks"):
            neolens.attention(model, its.clean)
        hooked = patch(model, its, "resid_pre", positions="all", engine="hooks", progress=False)
    finally:
        model.reset_hooks()
    silenced = [("blocks.0.hook_mlp_out", lambda x, hook: x * 0.0)]
    logits = model.run_with_hooks(its.clean[0][None], fwd_hooks=silenced)[0, -1].detach()
    expected = float(logits[its.answers[0]] - logits[its.distractors[0]])
    assert float(hooked.clean[0]) == pytest.approx(expected, abs=1e-5)
    assert abs(expected - float(plain.clean[0])) > 1e-3
    xr.testing.assert_identical(
        plain, patch(model, its, "resid_pre", positions="all", progress=False).assign_attrs(plain.attrs)
    )


@every_family
def test_a_pure_pass_that_differs_from_the_model_is_found_on_request(name, tiny_folders, monkeypatch):
    model, its = neolens.load(tiny_folders[name]), pairs()
    assert patch(model, its, "resid_pre", verify=True, progress=False).sizes["layer"] == model.anatomy.layers
    exact = agreement.logits
    monkeypatch.setattr(agreement, "logits", lambda weights, final: exact(weights, final) * 1.01)
    with pytest.raises(AssertionError, match="pure forward pass differs from the hooked model by"):
        patch(model, its, "resid_pre", verify=True, progress=False)
