"""What crosses a window: shares by hand, tiny networks under other windows by the oracle, and the experiment."""

import json

import numpy as np
import pytest
import torch
import xarray as xr

import browser
import neolens
import oracles
import shell
import tiny
from browser import Parsed
from neolens import figures, report, results
from neolens.prompts.pairs import PromptPairs
from neolens.studies.finding import read_findings
from neolens.studies.models import read_models, seed_of
from neolens.studies.window_reach import measure as reach_measure
from neolens.studies.window_reach import study as job
from neolens.studies.window_reach import tables as reach_tables
from neolens.studies.window_reach.arrivals import arrivals
from neolens.studies.window_reach.findings import (
    ARRIVES,
    LAYERS,
    answered,
    findings,
    hops,
    layers_needed,
    warnings,
)
from neolens.studies.window_reach.measure import TASKS, crossing, of_all_tasks, planted
from neolens.studies.window_reach.own_prompts import own_pairs
from neolens.studies.window_reach.summary import ALL_LOCAL, carriers, each_distance, side
from neolens.wording import percent

every_family = pytest.mark.parametrize("name", tiny.NAMES)
every_task = pytest.mark.parametrize("task", TASKS)


# Planting ---------------------------------------------------------------------------------------------------


@every_task
@pytest.mark.parametrize("distance", [12, 40])
def test_the_answer_is_planted_at_its_distance_and_nothing_else_differs(task, distance):
    pairs = planted(neolens.load("lab/gpt2"), task, distance, 8, seed=3)
    assert len(pairs) == 8
    assert len(set(pairs.lengths)) == 1
    for number, (clean, corrupted) in enumerate(zip(pairs.clean, pairs.corrupted, strict=True)):
        source, query = (int(pairs.positions[name][number]) for name in ("source", "query"))
        assert query == len(clean) - 1
        assert query - source == distance
        assert clean[source] == pairs.answers[number]
        assert (clean != corrupted).nonzero().flatten().tolist() == [source]
        assert corrupted[source] not in clean


def test_planting_is_the_same_again_and_different_with_another_seed():
    model = neolens.load("lab/gpt2")
    one, again, other = (planted(model, "recall", 20, 8, seed) for seed in (0, 0, 1))
    assert all(map(torch.equal, (*one.clean, *one.corrupted), (*again.clean, *again.corrupted)))
    assert not all(a.tolist() == b.tolist() for a, b in zip(one.clean, other.clean))


def test_a_distance_without_room_is_refused():
    with pytest.raises(ValueError, match="recall at distance 120: in the model's 128 positions it can be asked at 3"):
        planted(neolens.load("lab/gpt2"), "recall", 120, 8, seed=0)


def test_distances_stand_on_both_sides_of_the_first_that_is_out_of_reach():
    # a layer of window 16 sees 15 tokens back and not 16; 4 * 16 leaves room for the question in 128
    assert reach_measure.distances(16, 128) == (14, 15, 16, 17, 18, 32, 64)
    assert reach_measure.distances(256, 1024) == (254, 255, 256, 257, 258, 512)
    assert reach_measure.distances(2, 128) == (1, 2, 3, 4, 8)


# Tiny networks under other windows --------------------------------------------------------------------------


def tiny_pairs(length=20, at=4, count=8):
    draw = torch.Generator().manual_seed(5)
    clean = torch.randint(1, tiny.VOCAB, (count, length), generator=draw)
    corrupted = clean.clone()
    corrupted[:, at] = clean[:, at] % (tiny.VOCAB - 1) + 1
    answers = torch.randint(0, 30, (2, count), generator=draw)
    places = {"source": [at] * count, "query": [length - 1] * count}
    return PromptPairs.from_tokens(clean, corrupted, answers[0], answers[1] + 30, places)


def carried(network, pairs, windows):
    """Clean less corrupted logit difference under these windows, in float64."""
    rows = torch.arange(len(pairs))
    both = []
    for runs in (pairs.clean, pairs.corrupted):
        last = oracles.forward(network, torch.stack(runs), windows=windows).logits[:, -1]
        both.append(last[rows, pairs.answers] - last[rows, pairs.distractors])
    return (both[0] - both[1]).numpy()


@every_family
def test_what_is_carried_under_other_windows_is_what_the_oracle_says(name, bridges, networks):
    pairs, own = tiny_pairs(), list(networks[name].windows)
    found = crossing(bridges[name], pairs, window=4)
    layers = range(len(own))
    np.testing.assert_allclose(found["clean"] - found["corrupted"], carried(networks[name], pairs, own), atol=2e-5)
    for layer in layers:
        narrow, wide = ([*own[:layer], window, *own[layer + 1 :]] for window in (4, None))
        for variable, windows, applies in (("localised", narrow, own[layer] is None), ("globalised", wide, own[layer])):
            values = found[variable].sel(layer=layer).values
            if applies:
                np.testing.assert_allclose(values, carried(networks[name], pairs, windows), atol=2e-5)
            else:
                assert np.isnan(values).all()
    for variable, window in (("all_local", 4), ("all_global", None)):
        np.testing.assert_allclose(found[variable], carried(networks[name], pairs, [window for _ in layers]), atol=2e-5)
    logits = oracles.forward(networks[name], torch.stack(pairs.clean), windows=[4 for _ in layers]).logits[:, -1]
    ranks = [int((row > row[answer]).sum()) for row, answer in zip(logits, pairs.answers, strict=True)]
    assert found["rank_all_local"].values.tolist() == ranks
    plain = oracles.forward(networks[name], torch.stack(pairs.clean)).logits[:, -1]
    assert found["rank"].values.tolist() == [int((r > r[a]).sum()) for r, a in zip(plain, pairs.answers, strict=True)]


@every_family
def test_nothing_is_carried_farther_than_all_hops_within_the_window_reach(name, bridges):
    # each layer goes 3 tokens back with a window of 4: 3 layers go 9, 4 layers 12
    layers = bridges[name].anatomy.layers
    for distance, arrives in ((3 * layers, True), (3 * layers + 1, False)):
        found = crossing(bridges[name], tiny_pairs(length=20, at=19 - distance), window=4)
        assert (found["all_local"] != 0).any() == arrives


def test_patching_and_ablation_are_those_of_neolens(bridges):
    pairs = tiny_pairs()
    found = crossing(bridges["gpt-neo"], pairs, window=4)
    places = ["source", ("source", "query"), "query"]
    direct = neolens.patch(bridges["gpt-neo"], pairs, "resid_pre", positions=places, progress=False)
    np.testing.assert_array_equal(found["patched"], direct["patched"])
    groups = {"local": neolens.by_kind(bridges["gpt-neo"])["local"]}
    ablated = neolens.ablate(bridges["gpt-neo"], pairs, groups, metric="logit_difference", progress=False)
    np.testing.assert_allclose(found["ablated"].sel(group="local"), ablated["ablated"].sel(group="local"), atol=1e-5)


# By hand ----------------------------------------------------------------------------------------------------


def made(name="lab/gpt-neo", *, taken=None, places=None, clean=6.0, rank=0, prompts=10, seeds=1, left=0.0):
    """A result of `at_distances` (15, 16, 40; window 16) in which the source makes 4 logits (6 clean, 2 corrupted), and
    beyond the window layers take `taken` of it, `left` stays with all local, and the stream moves `places`.

    Args:
        taken: (seed, layer) -> share; else 0.
        places: (seed, layer, pos) -> share; else all at the source before layer 2, at the query after it.
    """
    facts, distances = neolens.anatomy(name), [15, 16, 40]
    shape = (seeds, len(distances), prompts)
    far = (np.array(distances) >= 16)[None, :, None]
    local = np.full((seeds, len(distances), facts.layers, prompts), 4.0)
    wide = np.full_like(local, np.nan)
    for layer, span in enumerate(facts.attention):
        if span.kind == "local":
            local[:, :, layer], wide[:, :, layer] = np.nan, 4.0
    for (seed, layer), share in (taken or {}).items():
        local[seed, 1:, layer] = 4 * (1 - share)
    stream = np.full((seeds, len(distances), prompts, facts.layers, 3), 2.0)
    stream[:, :, :, :3, 0] = stream[:, :, :, 3:, 2] = 6.0
    for (seed, layer, pos), share in (places or {}).items():
        stream[seed, :, :, layer, pos] = 2 + 4 * share
    axes = ("seed", "distance", "prompt")
    variables = {
        "clean": (axes, np.full(shape, clean)),
        "corrupted": (axes, np.full(shape, clean - 4.0)),
        "rank": (axes, np.full(shape, rank)),
        "rank_all_local": (axes, np.where(far, 7, 0) + np.zeros(shape)),
        "all_local": (axes, np.where(far, 4 * left, 4.0) + np.zeros(shape)),
        "all_global": (axes, np.full(shape, 4.0)),
        "localised": (("seed", "distance", "layer", "prompt"), local),
        "globalised": (("seed", "distance", "layer", "prompt"), wide),
        "patched": (("seed", "distance", "prompt", "layer", "pos"), stream),
        "ablated": (("seed", "distance", "group", "prompt"), np.full((seeds, 3, 2, prompts), 5.0)),
    }
    coords = {"seed": range(seeds), "distance": distances, "group": ["local", "global"]}
    coords |= {"pos": ["source", "source..query", "query"], "length": ("distance", [20, 21, 45])}
    attrs = {"window": 16, "model": name, "fingerprint": "0"}
    return results.build(variables, facts, coords=coords, attrs=attrs)


def test_a_share_is_what_a_change_takes_of_what_the_source_makes():
    beyond = side(made(taken={(0, 2): 0.75, (0, 0): 0.05}).isel(seed=0), 16, beyond=True)
    assert beyond.distances == (16, 40)
    assert (beyond.difference, beyond.carried) == (6, 4)
    assert beyond.narrowed == pytest.approx({0: 0.05, 2: 0.75})
    assert beyond.needed == [2]
    assert beyond.left == 0
    assert (beyond.removed.mean, beyond.prompts) == (1, 20)
    one = beyond.changes.sel(group="layer 2 local")
    assert [float(one[name]) for name in ("share", "low", "high")] == pytest.approx([0.75, 0.75, 0.75])
    assert float(beyond.changes["share"].sel(group=ALL_LOCAL)) == 1
    assert (beyond.likeliest, beyond.likeliest_all_local, beyond.above) == (1, 0, 1)
    assert beyond.ablated["effect"].values.tolist() == [-1, -1]


def test_inside_the_window_is_told_apart_from_beyond():
    inside = side(made(taken={(0, 2): 0.75}).isel(seed=0), 16, beyond=False)
    assert inside.distances == (15,)
    assert inside.narrowed == {0: 0, 2: 0}
    assert inside.needed == []
    assert (inside.left, inside.likeliest_all_local) == (1, 1)


def test_a_share_is_of_means_over_prompts_and_its_interval_of_resampled_prompts():
    result = made(prompts=40).isel(seed=0)
    # a layer that takes all of every fourth prompt's 4 logits and nothing of the others'
    result["localised"].loc[{"layer": 2}] = np.where(np.arange(40) % 4 == 0, 0.0, 4.0)
    one = side(result, 16, beyond=True).changes.sel(group="layer 2 local")
    assert float(one["share"]) == 0.25
    # of 80 prompts: binomial, standard error sqrt(0.25 * 0.75 / 80) = 0.0484
    assert float(one["low"]) == pytest.approx(0.25 - 1.96 * 0.0484, abs=0.02)
    assert float(one["high"]) == pytest.approx(0.25 + 1.96 * 0.0484, abs=0.02)


def test_a_layer_that_takes_much_of_a_few_prompts_only_is_not_needed_surely():
    result = made(prompts=8).isel(seed=0)
    # by turns the share is 2.6 and -2: 0.3 on average, with a standard error of 0.6
    result["localised"].loc[{"layer": 0}] = 4 * (1 - np.array([2.6, -2.0] * 4))
    beyond = side(result, 16, beyond=True)
    assert beyond.narrowed[0] == pytest.approx(0.3)
    assert beyond.needed == []


def test_what_bypasses_the_positions_between_is_the_rest_of_what_they_hold():
    beyond = side(made().isel(seed=0), 16, beyond=True)
    assert beyond.bypass.mean == beyond.bypass.low == 1
    hopping = side(made(places={(0, 2, 1): 0.9, (0, 1, 1): 0.3}).isel(seed=0), 16, beyond=True)
    assert [hopping.bypass.mean, hopping.bypass.low, hopping.bypass.high] == pytest.approx([0.1] * 3)


def test_a_side_without_distances_is_refused():
    with pytest.raises(ValueError, match="no distance inside the window of 10: distances are"):
        side(made().isel(seed=0), 10, beyond=False)


def found(name="lab/gpt-neo", **settings):
    return carriers(name, {"recall": made(name, **settings)})


def numbers(finding):
    return pytest.approx([finding.estimate, finding.low, finding.high])


def test_needed_layers_are_named_by_seed_with_the_numbers_of_the_one_that_removes_least():
    taken = {(0, 2): 1.0, (1, 2): 0.5, (1, 0): 0.25}
    (finding,) = layers_needed(found(seeds=2, taken=taken))
    assert finding.claim == (
        "recall, 16 and 40 tokens back: needs global layer 2 (seed 0) and global layers 2 and 0 (seed 1)"
    )
    assert (finding.subject, finding.verdict, finding.reason) == ("lab/gpt-neo", "supported", "")
    assert numbers(finding) == [0.25] * 3
    assert (finding.n, finding.sample, finding.p < 0.05) == (10, "prompts", True)
    # two distances, and of the changes: layers 0 and 2 restricted, 1 and 3 widened, all local, all global
    assert finding.comparisons == 2 * 6
    assert (finding.question, finding.figure) == (LAYERS, "Recall")


def test_seeds_in_which_no_layer_is_needed_are_not_named():
    (finding,) = layers_needed(found(seeds=2, taken={(0, 2): 1.0, (1, 2): 0.09}))
    assert finding.claim == "recall, 16 and 40 tokens back: needs global layer 2 (seed 0)"
    assert numbers(finding) == [1.0] * 3


def test_distances_at_which_other_layers_are_needed_are_findings_of_their_own():
    result = made(taken={(0, 2): 1.0})
    result["localised"].loc[{"layer": 0, "distance": 40}] = 4 * (1 - 0.7)
    one = carriers("lab/gpt-neo", {"recall": result})
    near, far = layers_needed(one)
    assert near.claim == "recall, 16 tokens back: needs global layer 2"
    assert far.claim == "recall, 40 tokens back: needs global layers 2 and 0"
    assert (near.estimate, far.estimate) == (1, pytest.approx(0.7))
    assert [its.distances for its in arrivals(one, "recall")] == [(16,), (40,)]
    headline = findings([one])[1].headline
    assert "needs global layer 2 in 2 of 2 cases (task, distance, seed) and global layer 0 in 1;" in headline
    _, rows = reach_tables.change_table([one], "recall")
    changed = {row[0]: row[1:] for row in rows}
    assert changed["lab/gpt-neo, layer 0 local"] == [0, "0.00 (0.00 to 0.00)", "0.70 (0.70 to 0.70)*"]


def test_p_is_corrected_for_all_distances_together():
    rng = np.random.default_rng(0)
    result = made(prompts=12, taken={(0, 2): 1.0}).isel(seed=0)
    result["localised"].loc[{"layer": 0}] = 4 * (1 - rng.normal(0.4, 0.6, result["localised"].sel(layer=0).shape))
    alone = side(result.sel(distance=[16]), 16, beyond=True)
    both = each_distance(result, 16)
    name = "layer 0 local"
    p = [float(one.changes["p_adjusted"].sel(group=name)) for one in (alone, both[16])]
    assert p[1] >= p[0]
    assert float(both[16].changes["share"].sel(group=name)) == float(alone.changes["share"].sel(group=name))


@pytest.mark.parametrize(("share", "verdict"), [(0.09, "not significant"), (0.11, "supported")])
def test_a_layer_below_a_tenth_is_not_said_to_be_needed(share, verdict):
    one = found(taken={(0, 2): share})
    (finding,) = layers_needed(one)
    assert finding.verdict == verdict
    assert numbers(finding) == [share] * 3
    needs = "needs global layer 2" if verdict == "supported" else "needs at least one layer"
    assert finding.claim.endswith(needs)
    assert "seed" not in finding.claim
    headline = findings([one])[1].headline
    none = "In none of 2 cases (task, distance, seed) does restricting a single layer of lab/gpt-neo remove 10%"
    assert headline.startswith(none) == (verdict == "not significant")


def test_a_layer_that_removes_much_of_a_few_prompts_only_is_not_said_to_be_needed():
    result = made(prompts=8)
    result["localised"].loc[{"layer": 0}] = 4 * (1 - np.array([2.6, -2.0] * 4))
    (finding,) = layers_needed(carriers("lab/gpt-neo", {"recall": result}))
    assert (finding.verdict, finding.estimate) == ("not significant", pytest.approx(0.3))
    assert finding.low < 0 < finding.high


def verdicts(findings):
    return [finding.verdict for finding in findings]


@pytest.mark.parametrize(
    ("left", "between", "expected"),
    [
        (0.09, 0.0, ["supported", "supported"]),
        (0.11, 0.0, ["contradicted", "supported"]),
        (0.0, 0.11, ["supported", "contradicted"]),
        (0.5, 0.3, ["contradicted", "contradicted"]),
    ],
)
def test_what_still_comes_within_the_window_or_is_between_is_not_said_to_come_in_one_hop(left, between, expected):
    one = found(taken={(0, 2): 1.0}, left=left, places={(0, 1, 1): between})
    restricted, hop = hops(one)
    assert verdicts([restricted, hop]) == expected
    assert numbers(restricted) == [1 - left] * 3
    assert numbers(hop) == [1 - between] * 3
    assert (
        restricted.claim
        == "recall: restricting every layer to the window removes 90% or more of the source token's effect"
    )
    assert findings([one])[1].headline.endswith(f"; in {2 * (between < 0.1)} it takes one hop.")


def test_one_seed_with_several_hops_contradicts_the_claim_about_all_seeds():
    hop = {(1, 2, 0): 0.2, (1, 2, 1): 0.8}
    _, one_hop = hops(found(seeds=2, taken={(0, 2): 1.0, (1, 2): 1.0}, places=hop))
    assert (one_hop.verdict, one_hop.estimate) == ("contradicted", pytest.approx(0.2))


def test_what_is_left_is_of_the_distance_that_supports_the_claim_least():
    result = made(prompts=40)
    result["all_local"].loc[{"distance": 40}] = np.where(np.arange(40) % 8 == 0, 4.0, 0.0)
    restricted, _ = hops(carriers("lab/gpt-neo", {"recall": result}))
    # an eighth is left at 40 tokens, with a standard error of sqrt(7 / 64 / 40) = 0.05: from 0.02 to 0.23
    assert (restricted.verdict, restricted.estimate) == ("not significant", 0.875)
    assert restricted.low < 0.9 < restricted.high


@pytest.mark.parametrize(
    ("right", "verdict", "answer"),
    [(10, "not significant", "Uncertain"), (100, "supported", "Yes"), (0, "contradicted", "No")],
)
def test_whether_the_answer_arrives_follows_from_the_interval_over_prompts(right, verdict, answer):
    result = made(prompts=max(right, 10), rank=int(right == 0))
    one = carriers("lab/gpt-neo", {"recall": result})
    (finding,) = answered(one)
    assert finding.claim == "recall: 90% of prompts or more are answered at every distance beyond the window"
    assert (finding.verdict, finding.sample, finding.n) == (verdict, "prompts", max(right, 10))
    assert [finding.low, finding.high] == pytest.approx(
        figures.window_reach.share_interval(float(right > 0), finding.n)
    )
    first = findings([one])[0]
    share = "100%" if right else "0%"
    assert first.headline == (
        f"{answer}: lab/gpt-neo answers {share} of prompts beyond the window of 16 tokens, on average 0% with every "
        "layer restricted."
    )


def test_a_distance_at_which_the_answer_does_not_arrive_is_not_averaged_away():
    result = made(seeds=3)
    result["rank"].loc[{"distance": 40}] = np.where(np.arange(10) < 5, 3, 0)
    one = carriers("lab/gpt-neo", {"recall": result, "induction": made(seeds=3)})
    recall, induction = answered(one)
    assert (recall.verdict, recall.estimate, recall.n, recall.sample) == ("contradicted", 0.5, 3, "seeds")
    assert (induction.verdict, induction.estimate) == ("supported", 1)
    assert findings([one])[0].headline.startswith("It varies: lab/gpt-neo answers 50.0% to 100% of prompts")


def test_models_with_local_layers_come_first_and_each_question_has_one_headline():
    plain = found("lab/gpt2", seeds=2, taken={(0, 1): 1.0, (1, 1): 1.0})
    listed = findings([plain, found(taken={(0, 2): 1.0})])
    subjects = {question: [one.subject for one in listed if one.question == question] for question in (ARRIVES, LAYERS)}
    assert subjects == {ARRIVES: ["lab/gpt-neo", "lab/gpt2"], LAYERS: ["lab/gpt-neo"] * 3 + ["lab/gpt2"] * 3}
    assert [one.subject for one in listed if one.headline] == ["lab/gpt-neo"] * 2
    assert all(len(one.headline.split()) <= 25 for one in listed)
    alone = findings([plain])
    assert alone[0].headline == (
        "Yes: lab/gpt2 answers 100% of prompts 16 or more tokens back, on average 0% with every layer restricted."
    )
    assert alone[1].headline == "lab/gpt2 needs layer 1 in 4 of 4 cases (task, distance, seed); in 4 it takes one hop."
    assert "needs layer 1 (seeds 0 and 1)" in alone[1].claim
    assert findings([]) == []


def test_a_network_that_does_not_answer_is_warned_about_and_no_layer_is_named():
    failing = found(clean=-1.0, rank=3, taken={(0, 2): 1.0})
    accuracy, *layers = findings([failing])
    assert accuracy.verdict == "contradicted"
    assert {(one.verdict, one.reason) for one in layers} == {("not measured", "no network answers")}
    assert all(np.isnan(one.estimate) for one in layers)
    assert layers[0].headline == "Not measured: lab/gpt-neo does not answer beyond the window."
    assert not any("layer 2" in one.claim for one in layers)
    (warning,) = warnings(failing)
    assert (warning.subject, warning.kind) == ("lab/gpt-neo", "does not do the task")
    assert warning.text.startswith("lab/gpt-neo puts the answer above the distractor in 0% of the prompts beyond the")
    assert "effect of 4.0 logits" in warning.text
    both = carriers("lab/gpt-neo", {**failing.results, "induction": made(taken={(0, 2): 1.0})})
    assert "needs global layer 2 in 2 of 2 cases" in findings([both])[2].headline
    assert warnings(found()) == []


def test_of_seeds_only_those_that_answer_count():
    result = made(seeds=2, taken={(0, 2): 1.0, (1, 2): 1.0})
    result["clean"].loc[{"seed": 1}] = -1.0
    result["corrupted"].loc[{"seed": 1}] = -5.0
    one = carriers("lab/gpt-neo", {"recall": result})
    assert layers_needed(one)[0].claim == "recall, 16 and 40 tokens back: needs global layer 2 (seed 0)"
    assert "in 2 of 2 cases" in findings([one])[1].headline
    assert [warning.text.partition(" puts")[0] for warning in warnings(one)] == ["lab/gpt-neo, seed 1,"]


def test_tables_hold_what_was_found():
    both = [found(seeds=2, taken={(0, 2): 1.0, (1, 2): 0.5}), found("lab/gpt2")]
    header, rows = reach_tables.recall_table(both)
    assert len(header) == len(rows[0])
    assert rows[0] == ["lab/gpt-neo, recall", 1, 1, 1, 1, 0, 6, 4]
    header, rows = reach_tables.change_table(both, "recall")
    changed = {row[0]: row[1:] for row in rows}
    told = changed["lab/gpt-neo, layer 2 local"]
    assert told == [0, *["1.00 (1.00 to 1.00)*; 0.50 (0.50 to 0.50)*"] * 2]
    assert "lab/gpt-neo, layer 1 global" in changed
    assert "lab/gpt2, layer 1 local" in changed
    header, rows = reach_tables.ablation_table(both, "recall")
    assert rows[0] == ["lab/gpt-neo, local", -1, "-1.00 to -1.00", -1, "-1.00 to -1.00"]


def test_the_interval_of_a_share_is_wilsons():
    # 8 of 10, as in Newcombe 1998's formula: centre (0.8 + 0.192) / 1.384, by hand 0.490 to 0.943
    assert figures.window_reach.share_interval(0.8, 10) == pytest.approx((0.490, 0.943), abs=5e-4)
    assert figures.window_reach.share_interval(1.0, 10) == pytest.approx((0.722, 1.0), abs=5e-4)


def test_figures_show_the_shares_of_each_model_layer_and_distance():
    held = {"lab/gpt-neo": made(seeds=2, taken={(0, 2): 1.0, (1, 2): 0.5}), "lab/gpt2": made("lab/gpt2")}
    narrow = figures.narrowing_by_distance(held)
    lines = [trace for trace in narrow.data if trace.name == "layer 2" and trace.xaxis == "x"]
    assert [list(line.y) for line in lines if line.mode != "none" and line.line.width] == [[0, 0.75, 0.75]]
    assert not [trace for trace in narrow.data if trace.name == "layer 1" and trace.xaxis == "x"]
    assert narrow.layout.xaxis.ticktext == ("15", "16", "40")
    assert narrow.layout.shapes[0].x0 == 0.5  # between 15 and 16
    places = figures.places_by_distance(held)
    assert len(places.data) == 4  # the effect between source and query is 0 and has no map
    np.testing.assert_allclose(places.data[0].z, [[1] * 3] * 3 + [[0] * 3])
    np.testing.assert_allclose(places.data[1].z, [[0] * 3] * 3 + [[1] * 3])
    assert "between" in places.layout.title.subtitle.text
    recall = figures.recall_by_distance({name: {"recall": result} for name, result in held.items()})
    assert [list(trace.y) for trace in recall.data[:2]] == [[1, 1, 1], [1, 0, 0]]
    with pytest.raises(ValueError, match=r"results\['wrong'\] without .*result of at_distances"):
        figures.places_by_distance({"wrong": xr.Dataset()})


def test_tasks_stand_side_by_side_with_their_own_distances():
    both = of_all_tasks({"recall": made(), "induction": made().isel(distance=[0, 2])})
    assert both["distance"].values.tolist() == [15, 16, 40]
    assert bool(both["clean_induction"].sel(distance=16).isnull().all())
    assert bool((both["clean_recall"] == 6).all())
    assert both["length"].values.tolist() == [20, 21, 45]


# Publishing -------------------------------------------------------------------------------------------------


def test_publishing_writes_all_three_files_or_none(tmp_path):
    page = report.publish(tmp_path / "new" / "out", made(), {"findings": ["é"]}, "<p>page</p>")
    assert page.read_text() == "<p>page</p>"
    assert sorted(file.name for file in page.parent.iterdir()) == ["record.json", "report.html", "result.nc"]
    assert json.loads((page.parent / "record.json").read_text()) == {"findings": ["é"]}
    np.testing.assert_array_equal(results.load(page.parent / "result.nc")["clean"], made()["clean"])
    with pytest.raises(TypeError):
        report.publish(tmp_path / "other", made(), {"bad": object()}, "")
    assert not (tmp_path / "other").exists()


# The experiment ---------------------------------------------------------------------------------------------


def call(*arguments):
    """Run the experiment as from the shell; its exit code."""
    return shell.call(job.STUDY, *arguments)


SMALL = ["--tasks", "induction", "--prompts", "8", "--distances", "32,15"]


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """The folder that the experiment wrote for two models of the lab, one task and two distances."""
    out = tmp_path_factory.mktemp("reach") / "out"
    assert call("--models", "lab/gpt-neo", "lab/gpt2", *SMALL, "--out", out) == 0
    return out


def test_it_writes_a_result_a_record_and_a_report(done):
    files = ["findings.csv", "networks", "record.json", "report.html", "result.nc"]
    assert sorted(file.name for file in done.iterdir()) == files


def test_the_result_holds_models_seeds_and_distances(done):
    result = results.load(done / "result.nc")
    assert result["model"].values.tolist() == ["lab/gpt-neo", "lab/gpt2"]
    assert result["seed"].values.tolist() == [0, 1, 2]
    assert result["distance"].values.tolist() == [15, 32]
    model = neolens.load("lab/gpt-neo@1")
    pairs = planted(neolens.load("lab/gpt-neo"), "induction", 32, 8, seed=0)
    # All places of the experiment: a smaller batch has products of other sizes, which some processors round otherwise.
    places = ["source", ("source", "query"), "query"]
    stream = neolens.patch(model, pairs, "resid_pre", positions=places, progress=False)
    mine = result["patched_induction"].sel(model="lab/gpt-neo", seed=1, distance=32, pos=stream["pos"])
    np.testing.assert_array_equal(mine.transpose(*stream["patched"].dims), stream["patched"])


def test_on_the_lab_the_answer_from_beyond_the_window_goes_through_the_global_layer_2(done):
    # every local layer of lab/gpt-neo reaches 15 tokens, so 32 back only global layers bring anything in one hop
    result = results.load(done / "result.nc").sel(model="lab/gpt-neo")
    made_by_source = result["clean_induction"] - result["corrupted_induction"]
    held = result["localised_induction"].sel(layer=2)
    assert (made_by_source.mean("prompt") > 3).all()
    assert (abs(held.sel(distance=32).mean("prompt")) < 0.1 * made_by_source.sel(distance=32).mean("prompt")).all()
    assert (held.sel(distance=15).mean("prompt") > 0.5 * made_by_source.sel(distance=15).mean("prompt")).all()


def test_the_findings_are_what_the_numbers_say(done):
    record = json.loads((done / "record.json").read_text())
    result = results.load(done / "result.nc")
    neo = result.sel(model="lab/gpt-neo", distance=32)
    source = (neo["clean_induction"] - neo["corrupted_induction"]).mean("prompt")
    taken = 1 - neo["localised_induction"].mean("prompt") / source
    most = [int(taken["layer"][int(np.nanargmax(taken.sel(seed=seed).values))]) for seed in (0, 1, 2)]
    assert most == [2, 2, 2]
    listed = read_findings(done)
    (needed,) = (one for one in listed if one.subject == "lab/gpt-neo" and "tokens back" in one.claim)
    assert needed.claim == "induction, 32 tokens back: needs global layer 2 (seeds 0, 1 and 2)"
    assert needed.verdict == "supported"
    assert needed.estimate == pytest.approx(float(taken.sel(layer=2).min()))
    (removed,) = (one for one in listed if one.subject == "lab/gpt-neo" and "every layer" in one.claim)
    shares = 1 - neo["all_local_induction"].mean("prompt") / source
    assert removed.estimate in [pytest.approx(float(share)) for share in shares]
    (hop,) = (one for one in listed if one.subject == "lab/gpt-neo" and "one hop" in one.claim)
    moved = (neo["patched_induction"] - neo["corrupted_induction"]).mean("prompt") / source
    shares = 1 - moved.sel(pos="source..query").max("layer")
    assert hop.estimate in [pytest.approx(float(share)) for share in shares]
    accuracy = float((neo["rank_induction"] == 0).mean())
    assert (listed[0].subject, listed[0].estimate) == ("lab/gpt-neo", accuracy)
    restricted = float((neo["rank_all_local_induction"] == 0).mean())
    assert listed[0].headline == (
        f"Yes: lab/gpt-neo answers {percent(accuracy)} of prompts beyond the window of 16 tokens, on average "
        f"{percent(restricted)} with every layer restricted."
    )
    assert record["asked"]["networks"]["lab/gpt2"] == ["lab/gpt2", "lab/gpt2@1", "lab/gpt2@2"]
    assert {f"lab/gpt2@{seed}" for seed in (0, 1, 2)} <= set(record["fingerprints"])
    assert len(set(record["fingerprints"].values())) == 6
    assert [warning["text"] for warning in record["warnings"]] == [
        f"{name} has only 8 prompts beyond the window{of} (induction): the intervals are rough."
        for name, of in (("lab/gpt-neo", ""), ("lab/gpt2", " of lab/gpt-neo"))
    ]


def test_the_report_carries_findings_figures_tables_confounds_and_what_to_repeat(done):
    parsed = Parsed((done / "report.html").read_text())
    for finding in read_findings(done):
        assert finding.claim in parsed.text
        assert finding.headline in parsed.text
    assert len([tag for tag in parsed.tags("div") if tag.get("class") == "plot"]) == 4
    assert "lab/gpt-neo, random 8 heads 0" in parsed.text
    assert (
        "neolens run window_reach --models lab/gpt-neo lab/gpt2 --prompts 8 --seed 0 --tasks induction "
        f"--distances 15,32 --out {done}"
    ) in parsed.text


def test_one_seed_of_the_lab_is_asked_alone_and_a_task_without_room_at_a_default_distance_is_left_out(tmp_path):
    config = job.Config(models=("lab/gpt-neo@2",), prompts=8, tasks=("indirect_object",))
    models = read_models(config, "all")
    prepared = job.prepare(config, models)
    assert models.networks == {"lab/gpt-neo@2": ("lab/gpt-neo@2",)}
    assert list(prepared.prompts["lab/gpt-neo@2"].pairs["indirect_object"]) == [14, 15, 16, 17, 18, 32, 64]
    assert seed_of("lab/gpt-neo@2") == 2
    model = neolens.load("lab/gpt-neo")
    # the giver stands between, so an indirect object is 10 tokens back at least
    draw = {"prompts": 8, "seed": 0}
    assert list(job.plant(model, "indirect_object", (4, 15, 16), 16, **draw)) == [15, 16]
    with pytest.raises(ValueError, match="lab/gpt-neo: indirect_object at distance 4"):
        job.plant(model, "indirect_object", (4, 16), 16, **draw)


# Pairs of a user's own --------------------------------------------------------------------------------------


def own_rows(distance):
    """Eight pairs in which a receiver stands `distance` tokens before the end: for Mary eggs, ... for Mary."""
    names = ["Mary", "Tom", "Laura", "Oscar", "Nora", "Paul", "Alice", "Jack"]
    gifts = ["eggs", "spoons", "maps", "saws", "tea", "salt", "pots", "bricks"]
    rows = []
    for at, name in enumerate(names):
        other, gift, others = names[at - 1], gifts[at], gifts[at - 1]
        rest = f", for {other} {gifts[at - 2]} , {'always ' * (distance - 7)}for {name}"
        clean, corrupted = (f"for {name} {one} {rest}" for one in (gift, others))
        rows.append({"clean": clean, "corrupted": corrupted, "answer": gift, "distractor": gifts[at - 2]})
    return rows


def own_file(folder, *distances):
    """A file of pairs at several distances."""
    rows = [row for distance in distances for row in own_rows(distance)]
    (folder / "mine.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder / "mine.jsonl"


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """The file and the folder of a run with a user's own pairs."""
    folder = tmp_path_factory.mktemp("own")
    file = own_file(folder, 32, 15)
    assert call("--models", "lab/gpt-neo@1", "lab/pythia@0", "--pairs", file, "--out", folder / "out") == 0
    return file, folder / "out"


@pytest.mark.parametrize("distance", [15, 32])
def test_own_pairs_are_one_task_whose_source_is_the_token_that_differs(own, distance):
    model, rows = neolens.load("lab/gpt-neo@1"), own_rows(distance)
    columns = ([row[name] for row in rows] for name in ("clean", "corrupted", "answer", "distractor"))
    length = 1 + len(rows[0]["clean"].split())  # BOS and words
    places = {"source": [3] * 8, "query": [length - 1] * 8}  # BOS for Mary eggs
    pairs = PromptPairs.from_text(model, *columns, places)
    assert length - 1 - 3 == distance
    stream = neolens.patch(
        model, pairs, "resid_pre", positions=["source", ("source", "query"), "query"], progress=False
    )
    result = results.load(own[1] / "result.nc").sel(model="lab/gpt-neo@1", seed=1, distance=distance)
    mine = result["patched_your_prompts"].sel(pos=stream["pos"]).transpose(*stream["patched"].dims)
    np.testing.assert_array_equal(mine, stream["patched"])
    np.testing.assert_array_equal(result["clean_your_prompts"], stream["clean"])
    assert int(result["length"]) == length
    with neolens.what_if(model, windows={2: 16}):
        both = neolens.patch(model, pairs, "resid_pre", positions=["query"], progress=False)
    np.testing.assert_allclose(
        result["localised_your_prompts"].sel(layer=2), both["clean"] - both["corrupted"], atol=1e-4
    )


def test_the_report_on_own_pairs_says_whose_they_are(own):
    file, out = own
    parsed = Parsed((out / "report.html").read_text())
    assert "Beyond the window: the prompts of mine.jsonl" in parsed.text
    assert f"The prompts are those of {file}: pairs that differ in one token, the source" in parsed.text
    assert "the logit difference less that of the corrupted prompt" in parsed.text
    assert f"--models lab/gpt-neo@1 lab/pythia@0 --pairs {file} --out {out}" in parsed.text
    assert ">Your prompts</h2>" in (out / "report.html").read_text()
    for word in ("induction", "receiver", "indirect object", "recall", "another word", "prompts of your prompts"):
        assert word not in parsed.text.partition("The record: settings")[0], word
    claims = [(one.subject, one.claim) for one in read_findings(out)]
    assert any(name == "lab/gpt-neo@1" and text.startswith("your prompts, 32 tokens back: ") for name, text in claims)


def test_the_report_on_own_pairs_is_drawn_again(own, tmp_path):
    assert call("--from", own[1], "--out", tmp_path) == 0
    assert (tmp_path / "report.html").read_bytes() == (own[1] / "report.html").read_bytes()


def test_few_own_prompts_are_warned_about():
    failing = carriers("lab/gpt-neo", {"your_prompts": made(clean=-1.0, prompts=4)})
    assert [warning.kind for warning in warnings(failing)] == ["does not do the task", "few prompts"]
    assert warnings(failing)[1].text.startswith("lab/gpt-neo has only 8 prompts beyond the window (your prompts)")


def test_own_pairs_of_a_distance_are_those_of_the_file_in_its_order(tmp_path):
    model = neolens.load("lab/gpt2")
    by_distance = own_pairs(model, str(own_file(tmp_path, 20, 9)))
    assert list(by_distance) == [9, 20]
    for distance, pairs in by_distance.items():
        assert [" ".join(row[1:]) for row in pairs.words] == [row["clean"] for row in own_rows(distance)]
        assert (pairs.positions["query"] - pairs.positions["source"]).tolist() == [distance] * 8


BAD = {
    "unknown model": (["--models", "lab/gpt-noe"], "did you mean lab/gpt-neo"),
    "a model twice": (["--models", "lab/gpt2", "lab/gpt2"], "give each only once"),
    "a folder without config": (["--models", "{tmp}"], "has no config.json"),
    "windows that differ": (["--models", "lab/gpt-neo", "gpt-neo-125M"], "has a window of 256, not of 16"),
    "few prompts": (
        ["--prompts", "7"],
        "prompts 7: expected a whole number from 8 to 10000; fewer give no means and intervals",
    ),
    "a negative seed": (["--seed", "-1"], "seed -1: expected a whole number of at least 0"),
    "unknown task": (
        ["--tasks", "recal"],
        "no task 'recal': did you mean recall? expected some of induction,indirect_object,recall",
    ),
    "a task twice": (["--tasks", "recall,recall"], "tasks 'recall,recall': expected some, each once"),
    "no number": (["--distances", "16,far"], "distance 'far': expected a whole number of tokens from 1"),
    "none beyond": (["--distances", "8,15"], "distances 8, 15: expected some on both sides of the window of 16"),
    "none inside": (["--distances", "16,20"], "distances 16, 20: expected some on both sides of the window of 16"),
    "beyond the context": (["--distances", "15,200"], "below the context of 128"),
    "no room": (["--distances", "15,119"], "lab/gpt-neo: induction at distance 119: in the model's 128 positions"),
    "too near": (["--distances", "4,16"], "lab/gpt-neo: indirect_object at distance 4"),
    "out is a file": ([*SMALL, "--models", "lab/gpt-neo", "--out", "{tmp}/file"], "cannot be written to"),
}


@pytest.mark.parametrize(("arguments", "message"), BAD.values(), ids=BAD)
def test_bad_input_is_one_line_before_anything_is_measured(arguments, message, tmp_path, capsys, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(job, "at_distances", lambda *args: pytest.fail("something was measured"))
    out = shell.refused(call, arguments, message, tmp_path, capsys)
    assert not out.exists()


@browser.needed
def test_a_browser_without_a_network_draws_the_whole_report(done, tmp_path):
    browser.whole(done / "report.html", tmp_path)
