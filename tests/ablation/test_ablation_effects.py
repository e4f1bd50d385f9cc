"""Effects of ablation: worked by hand, beside scipy and plain loops, and never surer than chance allows."""

import itertools
import json
import math

import numpy as np
import pytest
import torch
import xarray as xr
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import stats

import neolens
from neolens import results
from neolens.ablation.effects import by_distance, difference, effect, heads_grid, of_answers
from neolens.lab.language import documents as language

ANATOMY = {
    "layers": 3,
    "heads": 2,
    "attention": [
        {"kind": "global", "window": None},
        {"kind": "local", "window": 8},
        {"kind": "global", "window": None},
    ],
}


def result(effects, *, baseline=None, groups=None, heads=None, metric="loss") -> xr.Dataset:
    """What `neolens.ablate` gives, with these effects: [group, prompt] or [group, prompt, pos]."""
    effects = np.asarray(effects, float)
    dims = ("prompt", "pos")[: effects.ndim - 1]
    baseline = np.zeros(effects.shape[1:]) if baseline is None else np.asarray(baseline, float)
    names = groups or [f"group {number}" for number in range(len(effects))]
    coords = {
        "group": names,
        "heads": ("group", heads or ["1.0 1.1"] * len(names)),
        "attention_kind": ("group", ["local"] * len(names)),
        "prompt": range(effects.shape[1]),
        "length": ("prompt", [effects.shape[2] if effects.ndim > 2 else 9] * effects.shape[1]),
    }
    if effects.ndim > 2:
        coords["pos"] = range(effects.shape[2])
    attrs = {"model": "lab/gpt-neo", "how": "mean", "metric": json.dumps([metric]), "anatomy": json.dumps(ANATOMY)}
    variables = {"ablated": (("group", *dims), baseline + effects), "baseline": (dims, baseline)}
    return xr.Dataset(variables, coords=coords, attrs=attrs).astype("float32", keep_attrs=True)


NAN = np.nan
# Two prompts, the second one token shorter; its last two positions predict nothing, the first's last one.
BY_HAND = result(
    [[[1, 2, 6, NAN], [4, 2, NAN, NAN]], [[0, 0, 0, NAN], [0, 0, NAN, NAN]]],
    baseline=[[1, 1, 1, NAN], [2, 4, NAN, NAN]],
    groups=["some", "none"],
)


def several_metrics() -> xr.Dataset:
    both = xr.concat([BY_HAND, BY_HAND * 2], dim=xr.Variable("metric", ["loss", "rank"]), combine_attrs="override")
    both["ablated"] = both["ablated"].transpose("group", "prompt", "pos", "metric")
    return both.assign_attrs(metric='["loss", "rank"]')


def test_an_effect_is_the_mean_over_prompts_of_the_mean_over_the_positions_that_are_read():
    found = effect(BY_HAND)
    assert found["effect"].values.tolist() == [3.0, 0.0]  # (1 + 2 + 6) / 3 = 3, (4 + 2) / 2 = 3
    assert float(found["baseline"]) == 2.0  # 1 and (2 + 4) / 2 = 3
    assert found.attrs["prompts"] == 2
    assert found["heads"].identical(BY_HAND["heads"])
    assert found["attention_kind"].identical(BY_HAND["attention_kind"])


def test_only_the_chosen_positions_count_and_a_prompt_without_any_is_left_out():
    later = xr.DataArray([[False, True, True, True], [False, False, True, True]], dims=("prompt", "pos"))
    found = effect(BY_HAND, where=later.transpose())
    assert found["effect"].values.tolist() == [4.0, 0.0]  # (2 + 6) / 2 of the first prompt alone
    assert found.attrs["prompts"] == 1
    assert np.isnan([found[name].values for name in ("low", "high", "p", "p_adjusted")]).all()


def test_ablating_what_lowers_the_metric_has_a_negative_effect():
    assert effect(result([[-1, -2, -3]]))["effect"].item() == -2


def test_of_several_metrics_the_chosen_one_is_taken():
    data = several_metrics()
    assert effect(data, metric="rank")["effect"].values.tolist() == [6.0, 0.0]
    assert effect(data, metric=neolens.loss)["effect"].values.tolist() == [3.0, 0.0]
    assert json.loads(effect(data, metric="rank").attrs["metric"]) == ["rank"]


def test_the_p_of_few_prompts_counts_all_flips():
    # Of the 8 sums +-1 +-2 +-3, two are 6 by size. For 1, -2, 3, six are 2 or more by size: only 1 + 2 - 3 is not.
    found = effect(result([[1, 2, 3], [1, -2, 3]]))
    assert found["p"].values.tolist() == [2 / 8, 6 / 8]


def test_the_adjusted_p_of_few_prompts_compares_with_the_largest_t_of_all_groups():
    """|t| of 1, 2, 3 is 2 / (1 / sqrt 3) = 3.46, that of 1, 1, 7 is 3 / 2 = 1.5; under the four flips but for a sign
    they are 3.46 and 1.5; 0, 0.35; 0.46, 0.35 (1, -2, 3: 2/3 over 2.52 / sqrt 3); and so on: see the loop."""
    x = np.array([[1.0, 2.0, 3.0], [1.0, 1.0, 7.0], [0.0, 0.0, 0.0]])
    assert effect(result(x))["p_adjusted"].values.tolist() == pytest.approx(loops_of_max_t(x))
    assert loops_of_max_t(x)[0] == 2 / 8


def size_of_t(x):
    """|t| of one sample, plainly; infinite for equal values, 0 for zeros."""
    n, mean = len(x), sum(x) / len(x)
    variance = sum((value - mean) ** 2 for value in x) / (n - 1)
    if variance < 1e-18:
        return math.inf if abs(mean) > 1e-9 else 0.0
    return abs(mean) / math.sqrt(variance / n)


def loops_of_max_t(x):
    """Westfall and Young's single step over all flips of whole prompts."""
    observed = [size_of_t(row) for row in x]
    hits = [0] * len(x)
    flips = list(itertools.product((1, -1), repeat=x.shape[1]))
    for signs in flips:
        largest = max(size_of_t(row * signs) for row in x)
        for group, its in enumerate(observed):
            hits[group] += largest >= its * (1 - 1e-9)
    return [its / len(flips) for its in hits]


@settings(max_examples=25, deadline=None)
@example(6, 1, 1)  # effects that add up to 0, but for rounding
@given(st.integers(2, 6), st.integers(1, 4), st.integers(0, 2**31))
def test_adjusted_ps_of_few_prompts_are_those_of_plain_loops(prompts, groups, seed):
    x = np.random.default_rng(seed).integers(-3, 4, (groups, prompts)).astype(float)
    assert effect(result(x))["p_adjusted"].values == pytest.approx(loops_of_max_t(x))


def test_adjusted_ps_of_many_prompts_agree_with_scipys_permutations():
    """scipy flips whole prompts of all groups alike, and draws other flips than we do."""
    x = np.random.default_rng(4).normal(0.35, 1, (5, 30)).astype("float32").astype(float)

    def t(x, axis):
        return x.mean(axis) / (x.std(axis, ddof=1) / math.sqrt(x.shape[axis]))

    drawn = stats.permutation_test(
        (x,), t, permutation_type="samples", n_resamples=9999, vectorized=True, axis=-1, rng=np.random.default_rng(1)
    )
    largest = np.abs(drawn.null_distribution).max(-1)
    theirs = [(largest >= abs(its)).mean() for its in drawn.statistic]
    ours = effect(result(x), resamples=9999)["p_adjusted"].values
    assert ours == pytest.approx(theirs, abs=0.02)
    assert 0.01 < min(theirs) < 0.3


def test_single_ps_agree_with_those_of_the_t_test_on_normal_effects():
    x = np.random.default_rng(6).normal(0.3, 1, (6, 60))
    found = effect(result(x), resamples=9999)["p"].values
    assert found == pytest.approx(stats.ttest_1samp(x, 0, axis=1).pvalue, abs=0.02)


@pytest.mark.parametrize("prompts", [5, 40])
def test_the_only_group_needs_no_correction(prompts):
    x = np.random.default_rng(prompts).normal(0.3, 1, (1, prompts))
    for correction in ("max_t", "benjamini_hochberg"):
        found = effect(result(x), correction=correction)
        assert found["p_adjusted"].item() == found["p"].item()


@settings(max_examples=15, deadline=None)
@given(st.integers(2, 20), st.integers(1, 5), st.integers(0, 2**31))
def test_an_adjusted_p_is_never_below_the_single_one_and_more_groups_never_lower_it(prompts, groups, seed):
    x = np.random.default_rng(seed).normal(0.4, 1, (groups + 1, prompts))
    more, fewer = (effect(result(some), resamples=200, seed=3) for some in (x, x[:-1]))
    assert (more["p_adjusted"].values >= more["p"].values).all()
    assert (more["p_adjusted"].values[:-1] >= fewer["p_adjusted"].values).all()


def test_false_discoveries_are_those_of_benjamini_and_hochberg():
    """p of 2/32, 2/32, 1 and 1 (zeros) times 4 over the rank: 2/32 * 4 / 2, twice, and 1, twice."""
    x = [[1, 2, 3, 4, 5], [5, 4, 3, 2, 1], [0] * 5, [0] * 5]
    found = effect(result(x), correction="benjamini_hochberg")
    assert found["p_adjusted"].values == pytest.approx([4 / 32, 4 / 32, 1, 1])
    assert found.attrs["correction"] == "benjamini_hochberg"


def test_where_ablating_does_nothing_few_sweeps_find_anything_after_correction_and_most_before():
    rng, sweeps = np.random.default_rng(0), 120
    found = [effect(result(rng.normal(size=(20, 16))), resamples=200, seed=sweep) for sweep in range(sweeps)]
    corrected = np.mean([(one["p_adjusted"] < 0.05).any() for one in found])
    single = np.mean([(one["p"] < 0.05).any() for one in found])
    assert corrected <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / sweeps)
    assert single > 0.4  # 1 - 0.95 ** 20 = 0.64


def test_a_group_without_any_effect_has_p_1_and_disturbs_no_other(recwarn):
    x = np.random.default_rng(1).normal(1, 1, (2, 20))
    x[1] = 0
    found = effect(result(x))
    assert found.isel(group=1)[["effect", "low", "high", "p", "p_adjusted"]].to_array().values.tolist() == [
        0,
        0,
        0,
        1,
        1,
    ]
    assert found["p_adjusted"][0] == effect(result(x[:1]))["p_adjusted"][0]
    assert not recwarn.list


def test_equal_effects_on_all_prompts_are_the_surest_there_are():
    found = effect(result(np.array([[0.1] * 8, [1, 2, 3, 4, 5, 6, 7, -8]])))
    assert found["p_adjusted"][0] == found["p"][0] == 2 / 2**8
    assert found["low"][0] == found["high"][0] == pytest.approx(0.1)


def test_the_interval_resamples_prompts():
    """Of two prompts, half of all resamples hold one of them only; of many, it is 1.96 standard errors either way."""
    assert [effect(result([[0, 1]]))[end].item() for end in ("low", "high")] == [0, 1]
    x = np.random.default_rng(2).normal(2, 1, (1, 400))
    found, error = effect(result(x), resamples=4000), x.std(ddof=1) / 20
    for end, sign in (("low", -1), ("high", 1)):
        assert found[end].item() == pytest.approx(x.mean() + sign * 1.96 * error, abs=0.1 * error)


def test_the_same_seed_gives_the_same_numbers_and_another_one_others():
    data = result(np.random.default_rng(3).normal(0.2, 1, (3, 25)))
    xr.testing.assert_identical(effect(data, seed=7), effect(data, seed=7))
    assert (effect(data, seed=7)["low"] != effect(data, seed=8)["low"]).all()


def test_groups_resampled_in_several_parts_are_resampled_alike(monkeypatch):
    from neolens.stats import paired

    data = result(np.random.default_rng(3).normal(0.2, 1, (7, 25)))
    whole = effect(data)
    monkeypatch.setattr(paired, "_CELLS", 2**15)
    xr.testing.assert_allclose(effect(data), whole, rtol=1e-12)


def test_a_difference_is_taken_prompt_by_prompt():
    x = np.array([[5, 6, 7, 8], [1, 3, 2, 4], [3, 1, 4, 2]])  # less the mean of the others, 2, 2, 3, 3: 3, 4, 4, 5
    found = difference(result(x, groups=["local", "random 0", "random 1"]), "local", ["random 0", "random 1"])
    assert [found[name].item() for name in ("difference", "effect", "other")] == [4, 6.5, 2.5]
    assert found["p"].item() == 2 / 16
    assert 3 <= found["low"] < 4 < found["high"] <= 5
    assert json.loads(found.attrs["other"]) == ["random 0", "random 1"]


def test_a_difference_has_the_interval_and_p_of_the_effect_that_it_is():
    x = np.random.default_rng(9).normal(0.3, 1, (2, 30)).astype("float32").astype(float)
    apart, as_effect = difference(result(x), "group 0", "group 1"), effect(result((x[0] - x[1])[None]))
    assert apart["p"].item() == as_effect["p"].item()
    for end in ("low", "high"):
        assert apart[end].item() == pytest.approx(as_effect[end].item(), abs=1e-6)


def test_the_metric_at_a_position_belongs_to_the_distance_of_the_token_that_it_predicts():
    # Token 2 is predicted at position 1 and stood 1 back from there; token 3 at position 2, 2 back.
    at = of_answers(BY_HAND, [[-1, -1, 1, 2], [-1, -1, 1, -1]])
    np.testing.assert_array_equal(at, [[NAN, 1, 2, NAN], [NAN, 1, NAN, NAN]])
    found = by_distance(BY_HAND, [[-1, -1, 1, 2], [-1, NAN, -1, -1]])
    assert found["distance"].values.tolist() == [1, 2]
    np.testing.assert_array_equal(found["baseline"], [[1, 1], [NAN, NAN]])
    np.testing.assert_array_equal(found["ablated"].sel(group="some"), [[3, 7], [NAN, NAN]])


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 4), st.integers(1, 3), st.integers(6, 24), st.integers(0, 2**31))
def test_by_distance_is_what_plain_loops_over_documents_give(prompts, groups, length, seed):
    rng = np.random.default_rng(seed)
    documents = [language.periodic(rng, length) for _ in range(prompts)]
    data = result(rng.normal(size=(groups, prompts, length)), baseline=rng.normal(size=(prompts, length)))
    data["baseline"][:, -1] = NAN
    found = by_distance(data, np.stack([np.where(one.asked, one.distance, -1) for one in documents]))
    told: dict[int, dict[int, list[int]]] = {}
    for prompt, document in enumerate(documents):
        for token in range(length):
            if document.asked[token]:
                back = token - 1 - int(document.source[token])
                told.setdefault(back, {}).setdefault(prompt, []).append(token - 1)
    assert found["distance"].values.tolist() == sorted(told)
    for back, prompt in itertools.product(told, range(prompts)):
        cell, places = found.sel(distance=back).isel(prompt=prompt), told[back].get(prompt)
        if places is None:
            assert np.isnan(cell["baseline"])
            assert np.isnan(cell["ablated"]).all()
            continue
        assert cell["baseline"] == pytest.approx(data["baseline"].values[prompt, places].mean(), abs=1e-6)
        for group in range(groups):
            mean = data["ablated"].values[group, prompt, places].mean()
            assert cell["ablated"][group] == pytest.approx(mean, abs=1e-6)


def test_by_distance_keeps_what_is_known_of_groups_and_prompts():
    found = by_distance(several_metrics(), [[-1, -1, 1, 2], [-1, -1, 1, -1]], metric="rank")
    assert found["heads"].identical(BY_HAND["heads"])
    assert found["length"].identical(BY_HAND["length"])
    assert json.loads(found.attrs["metric"]) == ["rank"]
    assert found["baseline"].values[0, 0] == 2


def test_single_heads_stand_at_their_layer_and_head_and_others_are_blank():
    x = [[1, 1], [2, 2], [3, 3]]
    grid = heads_grid(effect(result(x, heads=["1.1", "2.0", "0.0 0.1"])))
    np.testing.assert_array_equal(grid["effect"].transpose("layer", "head"), [[NAN, NAN], [NAN, 1], [2, NAN]])
    assert grid["attention_kind"].values.tolist() == ["global", "local", "global"]
    np.testing.assert_array_equal(grid["window"], [NAN, 8, NAN])
    assert "group" not in grid.dims
    assert float(grid["baseline"]) == 0
    assert results.check(grid) is grid


def test_effects_are_kept_in_a_file(tmp_path):
    found = effect(BY_HAND)
    xr.testing.assert_identical(results.load(results.save(found, tmp_path / "effects.nc")), found)


ONE = [[-1, -1, 1, 2], [-1, -1, 1, -1]]
REFUSED = [
    (
        lambda: effect({"ablated": 1}),
        "expected the result of neolens.ablate, a dataset with ablated, baseline and group",
    ),
    (lambda: effect(BY_HAND.drop_vars("baseline")), "result without baseline: expected the result of neolens.ablate"),
    (
        lambda: effect(BY_HAND.rename(prompt="layer", pos="head")),
        "ablated has the axes .*: expected those of neolens.ablate",
    ),
    (lambda: effect(BY_HAND.expand_dims(seed=[0])), "ablated has the axes"),
    (lambda: effect(several_metrics()), "choose a metric: the result holds loss, rank"),
    (lambda: effect(several_metrics(), metric="los"), "no metric 'los': did you mean loss"),
    (lambda: effect(BY_HAND, metric="rank"), "no metric 'rank': the result holds loss"),
    (lambda: effect(BY_HAND, correction="maxt"), "no correction 'maxt': did you mean max_t"),
    (lambda: effect(BY_HAND, resamples=0), "resamples 0: expected a whole number of at least 1"),
    (lambda: effect(BY_HAND, resamples=True), "resamples True: expected a whole number"),
    (lambda: effect(BY_HAND, seed=-1), "seed -1: expected a whole number of at least 0"),
    (
        lambda: effect(BY_HAND, where=np.ones((2, 3), bool)),
        "where has the shape .2, 3.: expected .prompt, pos.",
    ),
    (lambda: effect(BY_HAND, where=np.ones((2, 4))), "where holds float64: expected booleans"),
    (lambda: effect(BY_HAND, where=np.zeros((2, 4), bool)), "no prompt has a value at a position that counts"),
    (lambda: effect(BY_HAND, where=BY_HAND["ablated"] > 0), "where has the axes .*: expected prompt and pos"),
    (lambda: effect(result([[1, 2]]), where=np.ones((1, 2), bool)), "one value a prompt, so there are no positions"),
    (lambda: effect(result([[1, NAN]])), "with group 'group 0' ablated the metric is nan at prompt 1, position 0"),
    (lambda: effect(result([[1, np.inf]])), "with group 'group 0' ablated the metric is inf at prompt 1"),
    (lambda: effect(result([[1, 1]], baseline=[0, np.inf])), "the baseline of prompt 1 is inf at position 0"),
    (lambda: difference(BY_HAND, "some", "non"), "no group 'non': did you mean none"),
    (lambda: difference(BY_HAND, "some", []), "no group is named"),
    (lambda: difference(BY_HAND, "some", ["none", "some"]), "group 'some' is compared with itself"),
    (lambda: by_distance(result([[1, 2]]), ONE), "the result has no value at each position"),
    (lambda: by_distance(BY_HAND.assign_coords(pos=list("abcd")), ONE), "the result has no value at each position"),
    (lambda: by_distance(BY_HAND, ONE[:1]), "distance has the shape .1, 4.: expected .prompt, pos. = .2, 4."),
    (lambda: by_distance(BY_HAND, [[1], [1, 2]]), "distance has rows of several lengths"),
    (lambda: by_distance(BY_HAND, np.full((2, 4), -1)), "distance asks for no token that the result has a value for"),
    (lambda: by_distance(BY_HAND, [[-1, -1, 0.5, 2], ONE[1]]), "distance 0.5 of token 2 of prompt 0: expected 0, 1"),
    (lambda: by_distance(BY_HAND, [[-1, -1, -2, 2], ONE[1]]), "distance -2 of token 2 of prompt 0: expected 0, 1"),
    (
        lambda: by_distance(BY_HAND, [ONE[0], [0, -1, 1, -1]]),
        "distance 0 of token 0 of prompt 1: nothing stands so far back",
    ),
    (lambda: heads_grid(BY_HAND["ablated"]), "effects DataArray .*: expected the result of neolens.ablation.effect"),
    (lambda: heads_grid(effect(BY_HAND)), "no group is a single head: ablate neolens.each_head"),
    (lambda: heads_grid(result([[1], [2]], heads=["1.0", "1.0"])), "head 1.0 is ablated by several groups"),
    (lambda: heads_grid(result([[1]], heads=["1.0"]).assign_attrs(anatomy=None).drop_attrs()), "anatomy is missing"),
]


@pytest.mark.parametrize(("call", "message"), REFUSED, ids=[message[:40] for _, message in REFUSED])
def test_what_does_not_fit_is_refused(call, message):
    with pytest.raises((TypeError, ValueError), match=message):
        call()


@pytest.fixture(scope="module")
def real():
    """A trained model whose local layers see 16 tokens, on documents with answers near and far."""
    model, rng = neolens.load("lab/gpt-neo"), np.random.default_rng(2)
    documents = [language.KINDS[kind](rng, 128) for kind in ("distant", "periodic") for _ in range(8)]
    tokens = torch.tensor(np.stack([one.tokens for one in documents]))
    distance = np.stack([np.where(one.asked, one.distance, -1) for one in documents])
    return model, tokens, distance


def test_on_a_trained_model_far_answers_need_the_global_heads_more_than_as_many_random_ones(real):
    from neolens.ablation import ablate, by_kind

    model, tokens, distance = real
    result = ablate(model, tokens, by_kind(model), progress=False)
    far = of_answers(result, distance) >= 16
    controls = [str(name) for name in result["group"].values if str(name).startswith("random")]
    found = difference(result, "global", controls, where=far)
    assert found["low"] > 0
    assert found["p"] < 0.01
    binned = by_distance(result, distance)
    assert (binned["baseline"].sel(distance=slice(17, None)).mean() < 1).item()
    assert (binned["ablated"].sel(group="global", distance=slice(17, None)).mean() > 3).item()


def test_an_effect_on_a_trained_model_is_the_difference_of_two_losses(real):
    """Hugging Face's model with the output projection of one head set to 0, against what ablating the head gives."""
    from transformers import AutoModelForCausalLM

    from neolens.ablation import ablate
    from neolens.models.sources import resolve

    model, tokens, _ = real
    found = effect(ablate(model, tokens, {"2.3": [(2, 3)], "0.0": [(0, 0)]}, how="zero", progress=False))
    theirs = AutoModelForCausalLM.from_pretrained(resolve("lab/gpt-neo").folder, attn_implementation="eager").eval()
    with torch.no_grad():
        whole = theirs(tokens, labels=tokens).loss.item()
        head = model.anatomy.d_head
        theirs.transformer.h[2].attn.attention.out_proj.weight[:, 3 * head : 4 * head] = 0
        without = theirs(tokens, labels=tokens).loss.item()
    assert float(found["effect"].sel(group="2.3")) == pytest.approx(without - whole, abs=1e-5)
