"""What heads are needed for: effects and comparisons worked by hand, findings, and the experiment end to end."""

import json
import math
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
import xarray as xr

import browser
import neolens
import oracles
import shell
from browser import Parsed
from neolens import report, results
from neolens.ablation import by_kind
from neolens.ablation.groups import coordinates
from neolens.figures.ablation_beside import heads_beside
from neolens.lab import folder
from neolens.lab.language.documents import CONTENT
from neolens.models.anatomy import AttentionSpan
from neolens.prompts import random_repeats, repeated
from neolens.studies import models
from neolens.studies.finding import read_findings as saved_findings
from neolens.studies.head_ablation import findings as need_findings
from neolens.studies.head_ablation import sections
from neolens.studies.head_ablation import study as job
from neolens.studies.head_ablation import summary as need_summary
from neolens.studies.head_ablation import tables as need_tables
from neolens.studies.head_ablation.figures import RANDOM, kinds_beside_random
from neolens.studies.study import Measured, Summary

WINDOW = 4
GLOBAL, LOCAL = AttentionSpan("global"), AttentionSpan("local", WINDOW)
MIXED = replace(neolens.anatomy("lab/gpt-neo"), name="mixed", layers=2, heads=2, d_head=32, attention=(GLOBAL, LOCAL))
PLAIN = replace(MIXED, name="plain", attention=(GLOBAL, GLOBAL))
DISTANCES = (1, 3, 4, 7)


def planted(facts, effects, *, mixed=None, draws=2, prompts=10, noise=0.0, baseline=0.1, text_tokens=9):
    """What the experiment finds where groups raise the loss by `effects`, (group, condition) -> nats, on average."""
    groups = need_summary.asked_groups(facts, mixed, draws=draws)
    rng = np.random.default_rng(0)

    def result(axis, conditions):
        shape = (len(groups), prompts, len(axis[1]))
        ablated = np.full(shape, baseline) + noise * rng.normal(size=shape)
        for row, group in enumerate(groups):
            ablated[row] += [effects.get((group, condition), 0.0) for condition in conditions]
        attrs = {"model": facts.name, "how": "mean", "metric": '["loss"]', "fingerprint": "f"}
        attrs["candidates"] = facts.d_vocab
        attrs["anatomy"] = json.dumps({"layers": 2, "heads": 2, "attention": [vars(span) for span in facts.attention]})
        coords = {
            "group": list(groups),
            **coordinates(groups, facts),
            "prompt": range(prompts),
            "length": ("prompt", [9] * prompts),
            axis[0]: list(axis[1]),
        }
        variables = {
            "ablated": (("group", "prompt", axis[0]), ablated),
            "baseline": (("prompt", axis[0]), np.full(shape[1:], baseline)),
        }
        return xr.Dataset(variables, coords=coords, attrs=attrs)

    far = ["inside" if step < WINDOW else "beyond" for step in DISTANCES]
    lengths = ("distance", [2 * step + 3 for step in DISTANCES])
    repeats = result(("distance", DISTANCES), far).assign_coords(length=lengths)
    cut = result(("distance", DISTANCES), ["cut"] * 4).assign_coords(length=lengths)
    text = result(("pos", range(text_tokens)), ["text"] * text_tokens)
    return need_summary.needs(facts, text, repeats, cut, WINDOW)


EFFECTS = {
    ("0.1", "beyond"): 2.0,
    ("0.1", "text"): -0.25,
    ("1.0", "inside"): 0.5,
    ("layer 0", "beyond"): 3.0,
    ("global", "beyond"): 3.0,
    ("global", "cut"): 1.5,
    ("local", "inside"): 0.75,
    ("random 2 heads 0", "beyond"): 1.0,
    ("random 2 heads 1", "beyond"): 4.0,
}


def row_of(found, group, condition):
    return next(row for row in found.compared if (row.group, row.condition) == (group, condition))


# Groups and results ----------------------------------------------------------------------------------------------


def test_a_model_of_both_kinds_is_asked_for_heads_layers_kinds_and_as_many_random_heads():
    groups = need_summary.asked_groups(MIXED, MIXED, draws=2)
    heads, layers = ["0.0", "0.1", "1.0", "1.1"], ["layer 0", "layer 1"]
    assert list(groups) == [*heads, *layers, "local", "global", "random 2 heads 0", "random 2 heads 1"]
    assert groups["global"] == [(0, 0), (0, 1)]


def test_a_model_of_one_kind_is_asked_for_the_layers_and_the_random_heads_of_the_other_model():
    groups, theirs = need_summary.asked_groups(PLAIN, MIXED, draws=2), by_kind(MIXED, draws=2)
    assert groups["layers 1 (local in mixed)"] == theirs["local"]
    assert groups["layers 0 (global in mixed)"] == theirs["global"]
    assert groups["random 2 heads 1"] == theirs["random 2 heads 1"]
    assert len(groups["global"]) == 4


@pytest.mark.parametrize(
    "mixed", [None, replace(MIXED, heads=4, d_head=16), replace(MIXED, layers=3, attention=(GLOBAL, LOCAL, GLOBAL))]
)
def test_a_model_of_one_kind_without_a_like_one_has_no_controls(mixed):
    groups = need_summary.asked_groups(PLAIN, mixed)
    assert [name for name in groups if "random" in name or "layers" in name] == []


def test_a_repeat_is_one_number_a_sequence_at_the_distance_of_its_answers():
    def part(values):
        coords = {"pos": range(len(values[0])), "length": ("prompt", [9, 9])}
        coords |= {"group": ["0.0"], "heads": ("group", ["0.0"]), "attention_kind": ("group", ["global"])}
        rows = np.array(values, dtype=np.float32)
        variables = {"ablated": (("group", "prompt", "pos"), rows[None] + 1), "baseline": (("prompt", "pos"), rows)}
        return xr.Dataset(variables, coords=coords, attrs={"model": "m"})

    found = need_summary.by_repeat({5: part([[1, 2, 6, 3], [0, 0, 0, 4]]), 3: part([[1, 3], [5, 6]])})
    assert found["distance"].values.tolist() == [2, 4]
    assert found["length"].values.tolist() == [7, 11]
    # (1 + 3) / 2 and (5 + 6) / 2 at distance 2; 12 / 4 and 4 / 4 at distance 4
    np.testing.assert_array_equal(found["baseline"].transpose("prompt", "distance"), [[2, 3], [5.5, 1]])
    np.testing.assert_array_equal(found["ablated"].transpose("group", "prompt", "distance")[0], [[3, 4], [6.5, 2]])
    assert found.attrs == {"model": "m"}


def test_the_same_random_tokens_are_repeated_after_every_length():
    short, long = (repeated(CONTENT.tolist(), n, bos=0, prompts=3, seed=5) for n in (4, 9))
    assert torch.equal(short[:, :5], long[:, :5])


def test_distances_inside_and_beyond_the_window_are_averaged_apart():
    found = planted(MIXED, EFFECTS)
    effects = {
        name: found.heads[name]["effect"].sel(group=["0.1", "1.0"]).values.tolist() for name in need_summary.CONDITIONS
    }
    expected = {"beyond": [2, 0], "cut": [0, 0], "inside": [0, 0.5], "text": [-0.25, 0]}
    assert effects == {name: pytest.approx(values) for name, values in expected.items()}
    assert found.heads["beyond"]["group"].values.tolist() == ["0.0", "0.1", "1.0", "1.1"]
    last = [*["layer 0", "layer 1", "local", "global"], "random 2 heads, mean of 2"]
    assert found.groups["beyond"]["group"].values.tolist() == last
    assert found.groups["beyond"]["effect"].values.tolist() == pytest.approx([3, 0, 0, 3, 2.5])  # (1 + 4) / 2


def test_a_kind_is_compared_with_the_mean_of_the_random_heads_that_are_as_many():
    found = planted(MIXED, EFFECTS)
    row = row_of(found, "global", "beyond")
    assert (row.effect, row.low, row.high) == pytest.approx((3, 3, 3))
    assert row.draws == pytest.approx((1, 4))
    assert (row.more, row.more_low, row.more_high) == pytest.approx((0.5, 0.5, 0.5))
    # all ten prompts alike; two kinds under four conditions, but local layers masked at their window are exact
    assert row.p == pytest.approx(7 * 2 / 2**10)
    assert need_tables.smaller(row) == 1
    assert [row.group for row in found.compared[:4]] == ["global"] * 4


def test_all_heads_of_a_model_of_one_kind_are_compared_with_nothing():
    row = row_of(planted(PLAIN, EFFECTS, mixed=MIXED), "global", "beyond")
    assert row.effect == pytest.approx(3)
    assert row.draws == ()
    assert math.isnan(row.more)
    assert math.isnan(row.p)


def test_what_float32_rounds_is_no_effect():
    found = planted(MIXED, {("global", "cut"): 5e-7, ("local", "cut"): 5e-6})
    assert row_of(found, "global", "cut").effect == 0
    assert row_of(found, "local", "cut").effect == pytest.approx(5e-6)


def test_distances_on_one_side_of_the_window_only_are_refused():
    found = planted(MIXED, EFFECTS)
    near, far = ([found.repeats.isel(distance=its), found.cut.isel(distance=its)] for its in (slice(2), slice(2, 4)))
    for parts, which in ((near, "beyond"), (far, "inside")):
        with pytest.raises(ValueError, match=f"no repeat {which} a window of 4"):
            need_summary.needs(MIXED, found.text, *parts, WINDOW)
    with pytest.raises(ValueError, match="cut holds other distances than repeats"):
        need_summary.needs(MIXED, found.text, found.repeats, near[1], WINDOW)


def test_what_is_kept_of_a_model_holds_losses_and_effects_by_group():
    found = planted(MIXED, EFFECTS)
    kept = need_summary.labelled(found)
    np.testing.assert_array_equal(kept["ablated"].sel(group="global"), found.repeats["ablated"].sel(group="global"))
    assert float(kept["effect_beyond"].sel(group="0.1")) == pytest.approx(2)
    assert float(kept["effect_beyond"].sel(group="global")) == pytest.approx(3)
    assert math.isnan(kept["effect_beyond"].sel(group="random 2 heads 1"))
    assert float(kept["ablated_text"].sel(group="0.1", prompt=0)) == pytest.approx(0.1 - 0.25)
    assert str(kept["attention_kind"].sel(group="local").values) == "local"
    assert json.loads(kept.attrs["groups"])["global"] == "0.0 0.1"


# Findings --------------------------------------------------------------------------------------------------------

FAR = "copies from 4 or more tokens back"
CLAIMS = {
    "beyond": f"ablating all {{}} heads raises the loss on {FAR}",
    "cut": "masking all {} heads 4 or more tokens back raises the loss on copies from there",
    "inside": "ablating all {} heads raises the loss on copies from fewer than 4 tokens back",
    "text": "ablating all {} heads raises the loss on text",
}


def finding_of(found, group, condition, random=False):
    """The finding on a kind of layer under a condition, on its own or beside random heads."""
    claim = CLAIMS[condition].format(group) + " more than as many random heads do" * random
    return next(one for one in need_findings.loss_without_kind(found, group) if one.claim == claim)


LEAST_AT_CHANCE = 0.95 * math.log(MIXED.d_vocab) - 0.1  # added to the baseline of 0.1: 95 % of the loss of a guess
ALONE = {
    "an increase": ({("global", "beyond"): 3.0}, "global", "beyond", "supported", ""),
    "a decrease": ({("local", "text"): -0.05}, "local", "text", "contradicted", ""),
    "no effect": ({}, "global", "beyond", "not significant", ""),
    "just below chance level": ({("global", "cut"): LEAST_AT_CHANCE - 1e-6}, "global", "cut", "supported", ""),
    "just above it": (
        {("global", "cut"): LEAST_AT_CHANCE + 1e-6},
        *("global", "cut", "supported", "ends at chance level"),
    ),
}


@pytest.mark.parametrize(("effects", "group", "condition", "verdict", "reason"), ALONE.values(), ids=ALONE)
def test_a_kind_of_layer_raises_the_loss_lowers_it_or_neither(effects, group, condition, verdict, reason):
    one = finding_of(planted(MIXED, effects), group, condition)
    value = effects.get((group, condition), 0.0)
    assert (one.verdict, one.reason, one.subject, one.n, one.sample) == (verdict, reason, "mixed", 10, "prompts")
    assert (one.estimate, one.low, one.high) == pytest.approx((value, value, value))


def test_an_effect_that_noise_explains_is_not_significant():
    one = finding_of(planted(MIXED, {}, noise=0.1), "global", "beyond")
    assert (one.verdict, one.p > 0.05, one.estimate != 0) == ("not significant", True, True)


def test_an_effect_is_not_tested_where_the_loss_is_at_chance_level_before_and_after_or_of_a_single_prompt():
    at_chance = finding_of(planted(MIXED, {}, baseline=math.log(MIXED.d_vocab)), "global", "beyond")
    assert (at_chance.verdict, at_chance.reason, at_chance.comparisons) == ("not measured", "ends at chance level", 0)
    single = finding_of(planted(MIXED, {("global", "beyond"): 3.0}, prompts=1), "global", "beyond")
    assert (single.verdict, single.reason) == ("not measured", "too few prompts")


MORE = {
    "more than random heads": (3.0, 1.0, "supported", ""),
    "less than random heads": (1.0, 3.0, "contradicted", ""),
    "as much as random heads": (2.0, 2.0, "not significant", ""),
    "just below chance level": (LEAST_AT_CHANCE - 1e-6, 1.0, "supported", ""),
    "just above it": (
        *(LEAST_AT_CHANCE + 1e-6, 1.0, "not measured"),
        "ends at chance level in the group; the group is at least this much higher",
    ),
    "random heads at chance level": (
        *(1.0, LEAST_AT_CHANCE + 1e-6, "not measured"),
        "ends at chance level in the random heads; the group is at least this much lower",
    ),
}


@pytest.mark.parametrize(("effect", "random", "verdict", "reason"), MORE.values(), ids=MORE)
def test_a_kind_is_compared_with_random_heads_where_neither_ends_at_chance_level(effect, random, verdict, reason):
    draws = {(f"random 2 heads {draw}", "beyond"): random for draw in (0, 1)}
    found = planted(MIXED, {("global", "beyond"): effect} | draws)
    one = finding_of(found, "global", "beyond", random=True)
    assert (one.verdict, one.reason) == (verdict, reason)
    assert one.estimate == pytest.approx(effect - random)
    row = row_of(found, "global", "beyond")
    assert (row.verdict.status, math.isnan(row.p), row.limit is not None) == (
        verdict,
        verdict == "not measured",
        reason.startswith("ends at chance level in the group"),
    )
    assert math.isnan(one.p) == (verdict == "not measured")


def test_local_heads_masked_at_their_window_are_exact_and_a_change_there_is_a_contradiction():
    nothing = "masking all local heads 4 or more tokens back changes nothing"

    def masked(found):
        claims = {one.claim: one for one in need_findings.loss_without_kind(found, "local")}
        assert CLAIMS["cut"].format("local") + " more than as many random heads do" not in claims
        return claims[nothing]

    exact = masked(planted(MIXED, EFFECTS))
    assert (exact.verdict, exact.estimate, math.isnan(exact.p)) == ("exact", 0, True)
    wrong = masked(planted(MIXED, {("local", "cut"): 0.5, ("1.0", "cut"): 0.5}))
    assert (wrong.verdict, wrong.estimate) == ("contradicted", pytest.approx(0.5))
    assert "architecture of mixed fixes another value" in wrong.reason


def test_the_strongest_head_is_the_largest_significant_one():
    found = planted(MIXED, EFFECTS)
    beyond, inside, text, cut = (
        need_findings.strongest_head(found, name) for name in ("beyond", "inside", "text", "cut")
    )
    most = "most of the significant ones"
    assert (beyond.claim, beyond.estimate) == (f"head 0.1 (global) changes the loss on {FAR}, {most}", pytest.approx(2))
    assert inside.claim.startswith("head 1.0 (local) changes the loss on copies from fewer than 4")
    assert (text.claim, text.estimate) == (
        f"head 0.1 (global) changes the loss on text, {most}",
        pytest.approx(-0.25),
    )
    assert (beyond.verdict, inside.verdict, text.verdict) == ("supported",) * 3
    assert (cut.verdict, cut.estimate, cut.p) == ("not significant", 0, 1)
    assert cut.claim.startswith("at least one head changes")


def test_a_strongest_head_at_chance_level_is_not_ranked():
    for effect, ranked in ((LEAST_AT_CHANCE - 1e-6, True), (LEAST_AT_CHANCE + 1e-6, False)):
        one = need_findings.strongest_head(planted(MIXED, {("0.1", "beyond"): effect}), "beyond")
        assert (one.verdict, "most of" in one.claim) == ("supported", ranked)
        assert one.reason == ("" if ranked else "ends at chance level")


def test_a_model_that_is_at_chance_level_before_anything_is_ablated_has_no_strongest_head():
    found = planted(MIXED, {}, noise=0.01, baseline=math.log(MIXED.d_vocab))
    one = need_findings.strongest_head(found, "beyond")
    assert (one.verdict, one.reason, math.isnan(one.estimate)) == ("not measured", "none was tested", True)


def test_heads_that_change_the_loss_by_less_than_a_hundredth_are_not_listed():
    found = planted(MIXED, {("0.1", "beyond"): 0.009, ("1.1", "beyond"): 0.011})
    assert [row[0] for row in need_tables.head_table(found)[1]] == ["1.1"]


def test_a_model_of_one_kind_is_compared_by_the_layers_of_the_other_model_alone():
    layers = "layers 1 (local in mixed)"
    found = planted(PLAIN, {(layers, "cut"): 2.0}, mixed=MIXED)
    listed = need_findings.findings([found])
    random = [one.claim for one in listed if "random" in one.claim]
    assert len(random) == 2 * 4
    assert not any("all global heads" in claim for claim in random)
    (masked,) = (one for one in listed if one.claim.startswith(f"masking {layers}") and "random" not in one.claim)
    assert (masked.verdict, masked.estimate) == ("supported", pytest.approx(2))


HEADLINES = {
    "an increase": (
        {("global", "cut"): 1.5},
        "Without attention 4 or more tokens back in its global layers, mixed loses 1.50 nats per token on copies from "
        "there.",
    ),
    "to chance level": ({("global", "cut"): LEAST_AT_CHANCE + 1e-6}, "on copies from there, reaching chance level."),
    "no effect": ({}, "global layers of mixed changes its loss there by 0 nats per token: not significant."),
    "a decrease": ({("global", "cut"): -0.05}, "Against expectation, masking attention 4 or more tokens back"),
}


@pytest.mark.parametrize(("effects", "words"), HEADLINES.values(), ids=HEADLINES)
def test_the_headline_states_no_more_than_the_verdict_on_what_global_layers_read_far_back(effects, words):
    first, *others = need_findings.findings([planted(PLAIN, {}), planted(MIXED, effects)])
    assert first.subject == "mixed"  # the model with local layers
    assert words in first.headline
    assert len(first.headline.split()) <= 25
    assert not any(one.headline for one in others)


def test_without_a_test_the_headline_says_so_and_without_global_layers_that_nothing_can_change():
    (first, *_) = need_findings.findings([planted(MIXED, {}, baseline=math.log(MIXED.d_vocab))])
    assert "was not measured: ends at chance level." in first.headline
    local = replace(MIXED, name="near", attention=(LOCAL, LOCAL))
    (first, *_) = need_findings.findings([planted(local, {})])
    assert (first.verdict, first.headline) == (
        "exact",
        "The local layers of near see nothing 4 or more tokens back, so masking attention there changes nothing.",
    )
    assert need_findings.findings([]) == []


WARNED = {
    "none": ({}, []),
    "few prompts": ({"prompts": 3}, ["few prompts"]),
    "as many as are enough": ({"prompts": 8}, []),
    "half the loss of a guess": ({"baseline": 0.5 * math.log(MIXED.d_vocab) - 1e-6}, []),
    "above it": ({"baseline": 0.5 * math.log(MIXED.d_vocab) + 1e-6}, ["hardly copies near", "hardly copies far"]),
    "text that fits the window": ({"text_tokens": 4}, ["short text"]),
    "text that crosses it": ({"text_tokens": 5}, []),
}


@pytest.mark.parametrize(("settings", "kinds"), WARNED.values(), ids=WARNED)
def test_what_keeps_numbers_from_their_meaning_is_warned_about(settings, kinds):
    warnings = need_findings.warnings(planted(MIXED, EFFECTS, **settings))
    assert [one.kind for one in warnings] == kinds
    assert all(one.subject == "mixed" and one.text.startswith("mixed ") for one in warnings)


def test_a_result_of_an_earlier_version_has_the_chance_level_of_its_vocabulary_and_a_warning():
    found = planted(MIXED, EFFECTS)
    old = {name: value for name, value in found.repeats.attrs.items() if name != "candidates"}
    (warning,) = need_findings.warnings(
        replace(found, repeats=found.repeats.assign_attrs().drop_attrs().assign_attrs(old))
    )
    assert (warning.kind, f"a guess among {MIXED.d_vocab} tokens" in warning.text) == ("earlier version", True)


def test_the_figure_has_every_kind_and_the_mean_and_range_of_random_heads():
    mixed, plain = planted(MIXED, EFFECTS), planted(PLAIN, {}, mixed=MIXED)
    figure = kinds_beside_random({"mixed": mixed, "plain": plain})
    first = [trace for trace in figure.data if trace.xaxis in (None, "x")]
    by_name = {trace.name: trace for trace in first if trace.name != RANDOM}
    assert dict(zip(["beyond", "cut", "inside", "text"], by_name["all global heads"].x)) == pytest.approx(
        {"beyond": 3, "cut": 1.5, "inside": 0, "text": 0}
    )
    assert by_name["all local heads"].x[2] == pytest.approx(0.75)
    beyond = next(trace for trace in first if trace.name == RANDOM and trace.x[0] > 0)
    low, high = beyond.x[0] - beyond.error_x.arrayminus[0], beyond.x[0] + beyond.error_x.array[0]
    assert (beyond.x[0], low, high) == pytest.approx((2.5, 1, 4))
    second = [trace.name for trace in figure.data if trace.xaxis == "x2"]
    assert "layers 1 (local in mixed)" in second
    assert [note.text for note in figure.layout.annotations] == ["<b>mixed</b>", "<b>plain</b>"]


def test_tables_hold_the_strongest_heads_and_each_kind_beside_its_controls():
    found = planted(MIXED, EFFECTS)
    header, rows = need_tables.head_table(found)
    assert [row[:3] for row in rows] == [
        ["0.1", "global", "2.00 [2.00, 2.00]"],
        ["1.0", "local 4", "0 [0, 0]"],
    ]
    assert len(header) == len(rows[0])
    header, rows = need_tables.kind_table(found)
    assert rows[0][:2] == ["global", "beyond"]
    assert rows[0][4:7] == [pytest.approx(2.5), "[1.00, 4.00]", "1/2"]
    assert need_tables.head_table(planted(MIXED, {}))[1][0][0] == "none"
    (row,) = need_tables.loss_table([found])[1]
    assert row == ["mixed", *[pytest.approx(0.1)] * 3, 10, 10]


def test_maps_side_by_side_hold_each_heads_effect_on_one_scale():
    found = planted(MIXED, EFFECTS)
    figure = heads_beside({"Beyond": found.heads["beyond"], "Inside": found.heads["inside"]})
    beyond, inside = figure.data
    np.testing.assert_allclose(beyond.z, [[0, 2], [0, 0]], atol=1e-12)
    np.testing.assert_allclose(inside.z, [[0, 0], [0.5, 0]], atol=1e-12)
    assert [cells.text for cells in (beyond, inside)] == [(["", "2.00 ●"], ["", ""]), (["", ""], ["0.50 ●", ""])]
    scale = figure.layout.coloraxis
    assert (scale.cmax, scale.cmin) == (pytest.approx(2), pytest.approx(-2))
    assert (scale.colorscale[0][1], scale.colorscale[-1][1]) == ("rgb(5,48,97)", "rgb(103,0,31)")  # more loss is red
    assert {"<b>Beyond</b>", "<b>Inside</b>"} <= {note.text for note in figure.layout.annotations}


def test_maps_of_nothing_or_of_different_models_are_refused():
    with pytest.raises(ValueError, match="to draw: expected"):
        heads_beside({})
    found = planted(MIXED, EFFECTS).heads["beyond"]
    larger = found.assign_attrs(anatomy=json.dumps({"layers": 3, "heads": 2, "attention": [vars(GLOBAL)] * 3}))
    with pytest.raises(ValueError, match="models of different sizes"):
        heads_beside({"one": found, "other": larger})


# The experiment --------------------------------------------------------------------------------------------------


def call(*arguments):
    """Run the experiment as from the shell; its exit code."""
    return shell.call(job.STUDY, *arguments)


SMALL = ("--prompts", "3", "--draws", "1", "--length", "32")


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """The folder that the experiment wrote for a model of both kinds and its twin of one, three prompts each."""
    out = tmp_path_factory.mktemp("job") / "out"
    assert call("--models", "lab/gpt-neo", "lab/gpt-neo-global", *SMALL, "--out", out) == 0
    return out


def test_it_writes_a_result_a_record_and_a_report(done):
    assert sorted(file.name for file in done.iterdir()) == [
        *("findings.csv", "networks", "record.json", "report.html", "result.nc")
    ]


def test_the_result_is_what_a_naive_run_in_float64_gives(done):
    from transformers import AutoModelForCausalLM

    result = results.load(done / "result.nc").sel(model="lab/gpt-neo")
    network = oracles.network(AutoModelForCausalLM.from_pretrained(folder("lab/gpt-neo")))
    tokens = repeated(CONTENT.tolist(), 17, bos=0, prompts=3, seed=0)
    spoken = oracles.forward(network, tokens).after

    def by_mean(site):
        return lambda z: spoken[site].mean(0).expand_as(z)

    edits = {site: by_mean(site) for site in ("blocks.0.attn.hook_z", "blocks.2.attn.hook_z")}
    for edit, name in (({}, "baseline"), (edits, "ablated")):
        logp = oracles.forward(network, tokens, edit).logits.log_softmax(-1)
        loss = -logp[:, 18:34].gather(-1, tokens[:, 19:35, None])[..., 0]
        found = result[name].sel(distance=16) if name == "baseline" else result[name].sel(distance=16, group="global")
        np.testing.assert_allclose(found, loss.mean(1), rtol=1e-4, atol=1e-5)


def test_local_heads_lose_nothing_where_only_reading_beyond_the_window_is_cut_off(done):
    result = results.load(done / "result.nc")
    neo, twin = result.sel(model="lab/gpt-neo"), result.sel(model="lab/gpt-neo-global")
    assert float(neo["effect_cut"].sel(group="local")) == 0
    assert float(neo["effect_cut"].sel(group="layer 1")) == 0
    assert float(neo["effect_cut"].sel(group="global")) > 1
    assert float(twin["effect_cut"].sel(group="layers 1, 3 (local in lab/gpt-neo)")) > 1
    assert int(twin["window"]) == 16


def test_findings_are_what_the_numbers_say(done):
    result = results.load(done / "result.nc").sel(model="lab/gpt-neo")
    record = json.loads((done / "record.json").read_text())
    listed = {one.claim: one for one in saved_findings(done) if one.subject == "lab/gpt-neo"}
    far, near = [16, 23, 31, 47], [7, 14, 15]
    text = result["ablated_text"] - result["baseline_text"]

    def increase(group, distances, ablated="ablated"):
        both = result[ablated].sel(group=group), result["baseline"]
        return float(np.subtract(*(one.sel(distance=distances).transpose("prompt", "distance") for one in both)).mean())

    random = [name for name in result["group"].values if str(name).startswith("random 8 heads") and "mean" not in name]
    for kind in ("global", "local"):
        start = f"ablating all {kind} heads raises the loss on"
        expected = {
            f"{start} copies from 16 or more tokens back": increase(kind, far),
            f"{start} copies from fewer than 16 tokens back": increase(kind, near),
            f"{start} text": float(text.sel(group=kind).mean()),
        }
        assert {claim: listed[claim].estimate for claim in expected} == pytest.approx(expected, abs=2e-6)
        more = expected[f"{start} text"] - float(text.sel(group=random).mean())
        assert listed[f"{start} text more than as many random heads do"].estimate == pytest.approx(more, abs=2e-6)
    masked = listed["masking all global heads 16 or more tokens back raises the loss on copies from there"]
    assert masked.estimate == pytest.approx(increase("global", far, "ablated_cut"), abs=2e-6)
    assert masked.verdict == "not significant"  # p of three prompts is at least 2 / 2^3
    assert f"of lab/gpt-neo changes its loss there by {masked.estimate:.2f} nats per token" in masked.headline
    assert listed["masking all local heads 16 or more tokens back changes nothing"].verdict == "exact"
    networks = {name: [name] for name in ("lab/gpt-neo", "lab/gpt-neo-global")}
    assert record["asked"] == {"networks": networks, "window": 16, "repeated after": [8, 15, 16, 17, 24, 32, 48]}
    assert record["fingerprints"].keys() == {"lab/gpt-neo", "lab/gpt-neo-global"}
    assert any("fewer than 8 prompts (3)" in one["text"] for one in record["warnings"])


def test_the_report_holds_findings_tables_figures_samples_and_what_to_repeat(done):
    page = Parsed((done / "report.html").read_text())
    listed = saved_findings(done)
    assert listed[0].headline in page.text
    assert all(f"{one.subject}: {one.claim}" in page.text or one.claim in page.text for one in listed)
    drawn = [tag for tag in page.tags("div") if tag.get("class") == "plot"]
    assert len(drawn) == 2 + 2 * (1 + 2 + 4)
    assert "neolens run head_ablation --models lab/gpt-neo lab/gpt-neo-global --prompts 3" in page.text
    assert "--how mean" in page.text
    assert "parts after" in page.text


def test_the_report_is_drawn_again_without_a_model(done, tmp_path, monkeypatch):
    monkeypatch.setattr(models, "load", lambda *args: pytest.fail("a model was loaded"))
    assert call("--from", done, "--out", tmp_path / "again") == 0
    for name in ("report.html", "findings.csv"):
        assert (tmp_path / "again" / name).read_bytes() == (done / name).read_bytes()


def test_a_run_that_goes_on_measures_only_the_networks_that_are_missing(done, tmp_path, monkeypatch):
    out, measured = shutil.copytree(done, tmp_path / "out"), []
    (out / "networks" / "lab-gpt-neo-global.nc").unlink()
    measure = job.loss_without

    def recorded(model, tokens, *args, **how):
        measured.append((model.anatomy.name, tokens.shape[1]))
        return measure(model, tokens, *args, **how)

    monkeypatch.setattr(job, "loss_without", recorded)
    assert call("--models", "lab/gpt-neo", "lab/gpt-neo-global", *SMALL, "--out", out, "--resume") == 0
    lengths = [2 * n + 1 for n in (8, 15, 16, 17, 24, 32, 48)]
    assert measured == [("lab/gpt-neo-global", length) for length in (32, *lengths, *lengths)]
    xr.testing.assert_equal(results.load(out / "result.nc"), results.load(done / "result.nc"))


def test_parts_are_known_before_they_are_measured(done):
    lengths = (8, 15, 16, 17, 24, 32, 48)
    tokens = torch.zeros(1, 2, dtype=torch.long)
    prompts = job.Prompts(tokens, 0.0, dict.fromkeys(lengths, tokens), 16, None, writes=True)
    assert list(results.load_parts(done / "networks" / "lab-gpt-neo.nc")) == job.parts(prompts, job.Config())
    assert job.parts(replace(prompts, writes=False), job.Config())[-1] == "masked 48"


def test_continuations_are_saved_to_the_character_and_a_failure_is_a_warning(tmp_path, monkeypatch):
    """A text may hold what a netCDF file does not, such as NUL."""
    model, text = neolens.load("lab/gpt-neo"), torch.tensor([[0, 5, 6, 7, 8, 9, 10, 11, 12]])
    prompts = job.Prompts(text, 0.0, {n: random_repeats(model, n, prompts=1) for n in (8, 24)}, 16, None, writes=True)

    def write(model, text, groups, *, how, **more):
        if how != "mean":
            raise ValueError("not again")
        return "NUL \0 and <b> \ud800"

    monkeypatch.setattr(job, "continuations", write)
    part = job.written(model, prompts, {"global": [(0, 0)]}, job.Config())
    saved = results.load_parts(results.save_parts({"continuations": part}, tmp_path / "part.nc"))["continuations"]
    title, code, other, note = sections.continued(saved, "mean", "the window")
    assert code == report.Code("NUL \0 and <b> \ud800")
    assert "(mean ablation)" in title.text
    assert "begins again after 24 tokens, heads masked at the window:" in other.text
    assert (note.kind, note.text[:49]) == ("warning", "lab/gpt-neo was not asked for the continuations o")
    assert note.text.endswith(": not again")


def test_masking_at_the_window_has_to_change_nothing_in_local_heads():
    exact, broken = planted(MIXED, EFFECTS), planted(MIXED, {("1.0", "cut"): 0.5})
    plain = planted(PLAIN, EFFECTS)
    nothing = Measured(job.Config(), (), {}, {}, {}, [])
    checks = [job.exact_checks(nothing, Summary(content={"mixed": one})) for one in (exact, broken, plain)]
    assert [[check.passes for check in each] for each in checks] == [[True], [False], []]
    assert checks[1][0].value == pytest.approx(0.5)
    assert "masking a local head at keys 4 or more tokens back" in checks[1][0].claim
    assert checks[1][0].subject == "mixed"


def test_heads_can_be_ablated_in_other_ways(tmp_path):
    assert call("--models", "lab/gpt-neo", "--how", "resample", *SMALL, "--out", tmp_path) == 0
    assert "are ablated (resample)" in Parsed((tmp_path / "report.html").read_text()).text


BAD = {
    "unknown model": (["--models", "lab/gpt-noe"], "did you mean lab/gpt-neo"),
    "a model twice": (["--models", "lab/gpt2", "lab/gpt2"], "give each only once"),
    "another way": (["--how", "median"], "no way to ablate 'median': did you mean mean? expected zero, mean, "),
    "one prompt": (["--prompts", "1"], "prompts 1: expected a whole number from 2"),
    "no draws": (["--draws", "0"], "draws 0: expected a whole number from 1"),
    "short prompts": (["--length", "4"], "length 4: expected a whole number from 8"),
    "no text file": (["--text", "{tmp}/none.txt"], "none.txt' does not exist"),
    "a short text": (["--text", "{tmp}/short.txt"], "fills no 2 prompts of 128 tokens of lab/gpt-neo"),
    "windows that differ": (["--models", "lab/gpt-neo", "gpt-neo-125M"], "has a window of 256, not of 16"),
    "a context within the window": (["--models", "{tmp}/narrow"], "too few to cross the window of 64 tokens"),
    "text and tokens": (["--text", "{tmp}/short.txt", "--tokens", "{tmp}/none.npy"], "give one of the two"),
    "no token file": (["--tokens", "{tmp}/none.npy"], "none.npy' does not exist"),
    "few tokens": (
        ["--tokens", "{tmp}/few.txt", "--models", "lab/gpt2"],
        "fills no 2 prompts of 128 tokens of lab/gpt2",
    ),
    "a token that is none": (["--tokens", "{tmp}/large.txt", "--models", "lab/gpt2"], "lab/gpt2 has 0 to"),
    "out is a file": (["--out", "{tmp}/short.txt", "--models", "lab/gpt-neo"], "cannot be written to"),
}


@pytest.mark.parametrize(("arguments", "message"), BAD.values(), ids=BAD)
def test_bad_input_is_one_line_and_leaves_nothing_behind(arguments, message, tmp_path, capsys):
    (tmp_path / "short.txt").write_text("farmer sells corn near river today .")
    (tmp_path / "few.txt").write_text("5 6 7 8")
    (tmp_path / "large.txt").write_text("5 6 7 8000")
    shutil.copytree(folder("lab/gpt-neo"), tmp_path / "narrow")
    config = json.loads((tmp_path / "narrow" / "config.json").read_text())
    (tmp_path / "narrow" / "config.json").write_text(json.dumps(config | {"window_size": 64}))
    out = shell.refused(call, arguments, message, tmp_path, capsys)
    assert not out.exists()


def test_a_text_of_unknown_words_is_warned_about(tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("a quick brown fox jumps over a lazy dog " * 40)
    out = tmp_path / "out"
    assert call("--models", "lab/gpt-neo", "--text", text, "--how", "zero", *SMALL, "--out", out) == 0
    # 31 words and BOS: 31 of 32 tokens are unknown
    warnings = json.loads((out / "record.json").read_text())["warnings"]
    assert any("lab/gpt-neo does not know 96.9% of the text's words" in one["text"] for one in warnings)


@browser.needed
def test_a_browser_without_a_network_draws_the_whole_report(done, tmp_path):
    browser.whole(done / "report.html", tmp_path)
