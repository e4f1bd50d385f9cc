"""The indirect-object circuit: shares worked by hand, planted heads found again, and the study end to end."""

import json
import math
import shutil
from dataclasses import replace

import numpy as np
import pytest
import xarray as xr
from transformers import GPT2Config

import browser
import neolens
import shell
from browser import Parsed
from neolens import results
from neolens.lab import folder
from neolens.models.config_facts import from_config
from neolens.patching import effects
from neolens.patching.effects import ranked
from neolens.prompts import PromptPairs, indirect_object
from neolens.studies import models
from neolens.studies.finding import read_findings as saved_findings
from neolens.studies.ioi import published
from neolens.studies.ioi import study as job
from neolens.studies.ioi.figures import strongest_heads
from neolens.studies.ioi.findings import TASK, findings, of_model, strongest_head, strongest_input, warnings
from neolens.studies.ioi.published import ROLES
from neolens.studies.ioi.summary import SITES, circuit, joined, solves
from neolens.studies.ioi.tables import head_table, published_table, task_table

POSITIONS = ("io", "s1", "s2", "end")


def patched(values, clean, corrupted, direction="denoise"):
    """A result of `neolens.patch` for one layer, from `values` [prompt][head] at one position."""
    facts = from_config(GPT2Config(n_layer=1, n_head=len(values[0]), n_embd=4 * len(values[0])), "hand-made")
    variables = {
        "patched": (("prompt", "layer", "head", "pos"), np.array(values, dtype=np.float32)[:, None, :, None]),
        "clean": (("prompt",), np.array(clean, dtype=np.float32)),
        "corrupted": (("prompt",), np.array(corrupted, dtype=np.float32)),
    }
    coords = {"prompt": range(len(clean)), "pos": ["end"]}
    return results.build(variables, facts, coords=coords, attrs={"direction": direction})


def of_head(effect, head):
    """The share, low and high of one head of `patched`."""
    return [float(effect[name].sel(layer=0, head=head, pos="end")) for name in ("share", "low", "high")]


def test_a_share_is_what_a_patch_moves_of_the_difference_of_the_means():
    # clean 4 and 2, corrupted 0 and -2: between them 4 and 4. Head 0 moves 2 and 1, head 1 moves 4 and 0.
    effect = effects.effects(patched([[2, 4], [-1, -2]], clean=[4, 2], corrupted=[0, -2]))
    np.testing.assert_allclose(effect["share"].values.ravel(), [3 / 8, 4 / 8])


def test_a_prompt_whose_runs_hardly_differ_does_not_outweigh_the_others():
    # between 10 and 0.1: the mean of the ratios would be (0.5 + 5) / 2
    effect = effects.effects(patched([[5], [0.5]], clean=[10, 0.1], corrupted=[0, 0]))
    assert of_head(effect, 0)[0] == pytest.approx(5.5 / 10.1)


def test_noising_has_the_same_sign_as_denoising():
    # clean 4, corrupted 0: a head without which 1 is left moves 3 of 4
    effect = effects.effects(patched([[1, 4, 5]], clean=[4], corrupted=[0], direction="noise"))
    np.testing.assert_allclose(effect["share"].values.ravel(), [0.75, 0, -0.25])


def test_an_interval_holds_the_means_of_resampled_prompts():
    # resamples of two prompts: twice the first (1), one of each (2/3), twice the second (0)
    effect = effects.effects(patched([[4, 2], [0, 1]], clean=[4, 2], corrupted=[0, 0]))
    assert of_head(effect, 0) == pytest.approx([2 / 3, 0, 1])
    assert of_head(effect, 1) == pytest.approx([1 / 2, 1 / 2, 1 / 2])


def test_an_interval_is_that_of_the_binomial_distribution_where_prompts_move_all_or_nothing():
    def quantile(share):
        terms = np.cumsum([math.comb(40, k) * 0.75**k * 0.25 ** (40 - k) for k in range(41)])
        return int(np.searchsorted(terms, share)) / 40

    values = [[1.0]] * 30 + [[0.0]] * 10
    effect = effects.effects(patched(values, clean=[1] * 40, corrupted=[0] * 40), resamples=20_000)
    assert of_head(effect, 0) == pytest.approx([0.75, quantile(0.025), quantile(0.975)], abs=1e-9)


def test_intervals_do_not_change_from_call_to_call():
    result = patched([[1.0], [3.0], [0.5]], clean=[4, 4, 4], corrupted=[0, 0, 0])
    assert effects.effects(result).identical(effects.effects(result))


def test_what_has_no_share_is_nan():
    backwards = effects.effects(patched([[1], [1]], clean=[0, 1], corrupted=[1, 1]))
    assert np.isnan(of_head(backwards, 0)).all()
    share, low, high = of_head(effects.effects(patched([[1]], clean=[2], corrupted=[0])), 0)
    assert share == 0.5
    assert np.isnan([low, high]).all()
    gap = effects.effects(patched([[1, np.nan], [1, 2]], clean=[2, 2], corrupted=[0, 0]))
    assert of_head(gap, 0)[0] == 0.5
    assert np.isnan(of_head(gap, 1)).all()


def test_effects_of_something_else_are_refused():
    result = patched([[1]], clean=[2], corrupted=[0])
    for wrong in (result.drop_vars("clean"), result.expand_dims(metric=["loss"])):
        with pytest.raises(ValueError, match="expected a result of neolens.patch with one metric"):
            effects.effects(wrong)


def test_heads_are_ranked_by_size_or_by_sign_and_those_without_a_share_left_out():
    share = effects.effects(patched([[1, -3, 2, np.nan]], clean=[4], corrupted=[0]))["share"].sel(pos="end")
    assert ranked(share) == ["0.1", "0.2", "0.0"]
    assert ranked(share, 1) == ["0.2", "0.0", "0.1"]
    assert ranked(share, -1) == ["0.1", "0.0", "0.2"]


def planted(facts, effects, *, prompts=10, clean=4.0, corrupted=0.0, right=None):
    """A joined result in which only `effects` (site, position, head) -> share move anything."""
    shape = (prompts, facts.layers, facts.heads, len(POSITIONS))
    by_site = {}
    for site in SITES:
        values = np.full(shape if site != "resid_pre" else (*shape[:2], shape[3]), corrupted, dtype=np.float32)
        for (its, position, head), share in effects.items():
            if its == site:
                at = [int(part) for part in str(head).split(".")]
                values[(slice(None), *at, POSITIONS.index(position))] += share * (clean - corrupted)
        axes = ("prompt", "layer", "head", "pos") if site != "resid_pre" else ("prompt", "layer", "pos")
        cleans = np.full(prompts, clean, dtype=np.float32)
        variables = {
            "patched": (axes, values),
            "clean": (("prompt",), cleans if right is None else np.where(np.arange(prompts) < right, cleans, -0.5)),
            "corrupted": (("prompt",), np.full(prompts, corrupted, dtype=np.float32)),
        }
        attrs = {"direction": "denoise", "model": facts.name, "site": site, "seconds": 1.0}
        coords = {"prompt": range(prompts), "pos": list(POSITIONS)}
        by_site[site] = results.build(variables, facts, coords=coords, attrs=attrs)
    return joined(by_site)


GPT2 = neolens.anatomy("gpt2")
MIXED = replace(neolens.anatomy("lab/gpt-neo"), name="mixed")

CIRCUIT = {
    ("q", "end", "9.9"): 0.5,
    ("q", "end", "9.6"): 0.4,
    ("q", "end", "1.1"): 0.3,  # none of the published
    ("q", "end", "10.0"): 0.2,
    ("q", "end", "10.7"): -0.6,
    ("q", "end", "11.10"): -0.1,
    ("z", "end", "9.9"): 0.5,
    ("z", "end", "8.6"): 0.4,
    ("v", "s2", "8.6"): 0.3,
    ("z", "s2", "3.0"): 0.2,
}


def test_the_published_heads_are_the_26_heads_in_7_classes_of_the_paper():
    heads = [head for role in ROLES for head in role.heads]
    assert (len(ROLES), len(heads), len(set(heads))) == (7, 26, 26)
    assert all(0 <= int(part) < 12 for head in heads for part in head.split("."))


def test_published_heads_are_ranked_by_the_patch_that_should_show_them():
    found = circuit(planted(GPT2, CIRCUIT), GPT2)
    rows = {(row.role, row.site): row for row in found.compared}
    movers = rows["name mover", "q"]
    assert dict(movers.ranks) == {"9.9": 1, "10.0": 4, "9.6": 2}
    assert (movers.first, movers.found) == (3, 2)
    negative = rows["negative name mover", "q"]
    assert dict(negative.ranks) == {"10.7": 1, "11.10": 2}
    assert (negative.first, negative.found) == (2, 2)
    # by z at end, name movers and S-inhibition heads together are 7
    assert rows["name mover", "z"].first == rows["S-inhibition", "z"].first == 7
    assert rows["S-inhibition", "z"].ranks["8.6"] == 2
    assert rows["S-inhibition", "v"].ranks["8.6"] == 1
    assert rows["duplicate token", "z"].ranks["3.0"] == 1
    assert not {role for role, _ in rows} & {"previous token", "backup name mover"}


def test_a_report_of_gpt2_has_the_published_columns():
    found = circuit(planted(GPT2, CIRCUIT), GPT2)
    header, rows = head_table(found)
    roles = {row[1]: row[-1] for row in rows}
    assert header[-1] == "published role"
    assert roles == {
        "9.9": "name mover",
        "10.0": "name mover",
        "9.6": "name mover",
        "10.7": "negative name mover",
        "11.10": "negative name mover",
        "8.6": "S-inhibition",
        "3.0": "duplicate token",
        "1.1": "",
    }
    assert ["name mover", "q at end", "9.9 (1), 10.0 (4), 9.6 (2)", "2 of 3 in 3"] in published_table(found)[1]
    assert task_table([found])[1][-1] == ["gpt2, Wang et al. 2022", None, 0.993, 3.56, None]
    roles = {one.claim: one for one in of_model(found) if "published" in one.claim}
    movers = roles["half or more of the 3 published name mover heads are among the first 3 by q at end"]
    assert (movers.verdict, movers.estimate, movers.unit) == ("supported", 2, "heads")
    thwarted = roles["half or more of the 4 published S-inhibition heads are among the first 4 by v at s2"]
    rank = next(row for row in found.compared if (row.role, row.site) == ("S-inhibition", "v"))
    assert (thwarted.estimate, thwarted.verdict) == (rank.found, "supported" if rank.found >= 2 else "contradicted")


@pytest.mark.parametrize("name", ["gpt2", "GPT2", "openai-community/gpt2"])
def test_every_name_of_gpt2_has_the_published_roles(name):
    assert published.published(neolens.anatomy(name)) == ROLES


SHAPED = from_config(GPT2Config(n_layer=12, n_head=12, n_embd=24), "my-model")
OTHERS = {
    "a larger gpt2": neolens.anatomy("gpt2-medium"),
    "gpt-neo of the same shape": neolens.anatomy("gpt-neo-125M"),
    "the lab's": neolens.anatomy("lab/gpt2"),
    "random weights of the shape of gpt2": SHAPED,
    "a folder of that name with another shape": replace(SHAPED, name="gpt2", layers=6, attention=SHAPED.attention[:6]),
}


@pytest.mark.parametrize("facts", OTHERS.values(), ids=OTHERS)
def test_no_other_model_has_published_roles(facts):
    assert published.published(facts) == ()


def test_without_published_roles_the_table_is_the_same_less_a_column():
    other = replace(GPT2, name="my-model")
    ours, theirs = (circuit(planted(facts, CIRCUIT), facts) for facts in (GPT2, other))
    (header, rows), (shorter, cut) = head_table(ours), head_table(theirs)
    assert shorter == header[:-1]
    assert cut == [row[:-1] for row in rows]
    assert len(task_table([theirs])[1]) == 1
    assert not any("published" in one.claim for one in of_model(theirs))


def test_a_table_holds_the_rank_the_kind_and_the_strongest_places_of_a_head():
    effects = {("z", "end", "1.3"): -0.5, ("k", "s2", "1.3"): 0.1, ("k", "end", "1.3"): -0.2, ("v", "s2", "1.3"): 0.3}
    found = circuit(planted(MIXED, effects | {("z", "s2", "0.2"): 0.25}), MIXED)
    header, rows = head_table(found)
    assert header == ["", "head", "layer", "z at end", "95 % interval", "z at s2", "q at end", "k", "at", "v", "at"]
    rank, head, span, z, interval, z_s2, q, k, k_at, v, v_at = rows[0]
    assert (rank, head, span, interval, k_at, v_at) == (1, "1.3", "local 16", "[-0.50, -0.50]", "end", "s2")
    assert [z, z_s2, q, k, v] == pytest.approx([-0.5, 0, 0, -0.2, 0.3])
    # 0.2 moves nothing at the end, and stands there for its z at s2; those that move nothing at all do not
    assert [row[1] for row in rows] == ["1.3", "0.2"]


def test_findings_are_the_strongest_head_its_input_the_task_and_the_strongest_head_of_the_other_kind():
    stream = {("resid_pre", "s2", layer): 1.0 for layer in (0, 1, 2)} | {("resid_pre", "end", 3): 0.8}
    heads = {("z", "end", "2.0"): 0.84, ("v", "s2", "2.0"): 0.83, ("z", "end", "3.2"): 0.09, ("q", "end", "3.2"): 0.07}
    found = circuit(planted(MIXED, stream | heads | {("z", "end", "1.1"): 0.01}), MIXED)
    listed = findings([found])
    assert [(one.claim, one.verdict) for one in listed] == [
        ("patching the output of head 2.0 (global) at the last token moves the logit difference", "supported"),
        (
            "patching the values of head 2.0 at the second mention of the giver moves the logit difference",
            "supported",
        ),
        (TASK, "supported"),
        ("patching the output of head 3.2 (local 16) at the last token moves the logit difference", "supported"),
    ]
    assert [one.estimate for one in listed] == pytest.approx([0.84, 0.83, 1, 0.09])
    assert [one.headline for one in listed] == [
        "Patching head 2.0 of mixed alone moves 0.84 of the logit difference, 0.83 through its values at the second "
        "mention of the giver.",
        *[""] * 3,
    ]
    assert {(one.subject, one.n, one.sample) for one in listed} == {("mixed", 10, "prompts")}
    assert warnings(found) == []


SHARES = {
    "just below the least": (0.0199, "not significant"),
    "the least": (0.0201, "supported"),
    "a negative share": (-0.0201, "supported"),
    "a small negative share": (-0.0199, "not significant"),
    "nothing": (0.0, "not significant"),
}


@pytest.mark.parametrize(("share", "verdict"), SHARES.values(), ids=SHARES)
def test_a_head_that_moves_less_than_two_hundredths_is_not_significant(share, verdict):
    found = circuit(planted(MIXED, {("z", "end", "2.0"): share}), MIXED)
    one = strongest_head(found)
    assert (one.verdict, one.estimate) == (verdict, pytest.approx(share, abs=1e-6))
    (first, *others) = findings([found])
    assert ("No single head of mixed moves 0.02" in first.headline) == (verdict != "supported")
    assert any("values" in one.claim or "keys" in one.claim or "queries" in one.claim for one in others) == (
        verdict == "supported"
    )


def swinging(share, *others):
    """A head whose shares in ten prompts are +0.5 and -0.3 by turns, 0.1 on average."""
    result = planted(MIXED, {("z", "end", "2.0"): share, **dict(others)})
    swings = np.where(np.arange(10) % 2, 2.0, -1.2).astype(np.float32)
    result["patched_z"].loc[{"layer": 2, "head": 0, "pos": "end"}] = swings
    return circuit(result, MIXED)


def test_a_head_whose_interval_includes_0_is_not_significant_and_a_smaller_one_without_0_leads():
    alone = strongest_head(swinging(0.1))
    assert (alone.verdict, alone.reason) == ("not significant", "the interval includes 0")
    assert alone.low < 0 < alone.high
    first = strongest_head(swinging(0.1, (("z", "end", "1.1"), 0.05)))
    assert ("head 1.1" in first.claim, first.verdict) == (True, "supported")


def test_an_input_that_moves_nothing_is_in_no_headline():
    found = circuit(planted(MIXED, {("z", "end", "2.0"): 0.84}), MIXED)
    assert strongest_input(found, "2.0").verdict == "not significant"
    assert findings([found])[0].headline == "Patching head 2.0 of mixed alone moves 0.84 of the logit difference."


def test_models_that_do_the_task_lead_and_their_findings_take_turns():
    able, unable = (circuit(planted(MIXED, {("z", "end", "2.0"): 0.84}, right=right), MIXED) for right in (None, 8))
    assert (solves(able), solves(unable)) == (True, False)
    listed = findings([unable, able])
    assert ["output" in one.claim for one in listed[:2]] == [True, False]
    assert sum(one.claim == TASK for one in listed) == 2


@pytest.mark.parametrize(("right", "status"), [(9, "supported"), (8, "contradicted")])
def test_a_model_does_the_task_from_nine_tenths_of_the_prompts_on_and_else_nothing_more_is_claimed_of_it(right, status):
    found = circuit(planted(MIXED, {("z", "end", "2.0"): 0.84}, right=right), MIXED)
    listed = findings([found])
    (task,) = (one for one in listed if one.claim == TASK)
    assert (task.verdict, task.estimate) == (status, pytest.approx(right / 10))
    assert (len(listed) == 1) == (status == "contradicted")
    assert [one.kind for one in warnings(found)] == (["does not do the task"] if right == 8 else [])
    if right == 8:
        assert "mixed prefers the answer in only 8 of 10 prompts, less than 90.0%" in warnings(found)[0].text
        assert task.headline == "mixed does not do the task: it prefers the answer in 80.0% of clean prompts."


def test_a_corruption_that_changes_nothing_is_warned_about_and_leaves_the_table_blank():
    found = circuit(planted(MIXED, {}, clean=4.0, corrupted=4.0), MIXED)
    assert [one.kind for one in warnings(found)] == ["no difference to patch"]
    assert head_table(found)[1] == []
    (task,) = findings([found])
    assert (task.verdict, task.reason) == ("contradicted", "no more in clean than in corrupted prompts")
    assert task.headline.endswith("in 100% of clean prompts, no more in clean than in corrupted prompts.")
    with pytest.raises(ValueError, match="head of mixed has a share"):
        strongest_head(found)


def test_few_prompts_are_warned_about_and_of_one_prompt_no_share_is_claimed():
    found = circuit(planted(MIXED, {("z", "end", "2.0"): 1}, prompts=1), MIXED)
    assert [one.text for one in warnings(found)] == ["mixed has fewer than 8 prompts (1): its intervals are rough."]
    assert warnings(circuit(planted(MIXED, {}, prompts=8), MIXED)) == []
    assert head_table(found)[1][0][4] == ""
    first = findings([found])[0]
    assert (first.verdict, first.reason) == ("not measured", "a single prompt has no interval")
    assert "was not measured" in first.headline


def test_the_figure_has_the_share_of_the_strongest_heads_and_of_their_inputs():
    heads = {("z", "end", "2.0"): 0.84, ("v", "s2", "2.0"): 0.83, ("z", "end", "3.2"): 0.09, ("q", "end", "3.2"): 0.07}
    drawn = strongest_heads([circuit(planted(MIXED, heads), MIXED)])
    by_name = {trace.name: list(trace.x[:2]) for trace in drawn.data}
    assert by_name["z at end"] == pytest.approx([0.84, 0.09])
    assert by_name["v"] == pytest.approx([0.83, 0])
    assert by_name["q"] == pytest.approx([0, 0.07])
    assert drawn.layout.yaxis.ticktext[:2] == ("mixed 2.0", "mixed 3.2")


def call(*arguments):
    """Run the study as from the shell; its exit code."""
    return shell.call(job.STUDY, *arguments)


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """The folder that the study wrote for two models of the lab."""
    out = tmp_path_factory.mktemp("ioi") / "out"
    assert call("--models", "lab/gpt-neo", "lab/pythia", "--prompts", "8", "--out", out) == 0
    return out


def test_it_writes_a_result_a_record_and_a_report(done):
    assert sorted(file.name for file in done.iterdir()) == [
        *("findings.csv", "networks", "record.json", "report.html", "result.nc")
    ]


@pytest.mark.parametrize("site", SITES)
def test_the_result_is_that_of_patching_directly(done, site):
    result = results.load(done / "result.nc").sel(model="lab/gpt-neo")
    model = neolens.load("lab/gpt-neo")
    pairs = indirect_object(model, 8, corruption="other")
    direct = neolens.patch(model, pairs, site, positions=POSITIONS, progress=False)
    mine = result[f"patched_{site}"].transpose(*direct["patched"].dims)
    np.testing.assert_array_equal(mine.values, direct["patched"].values)
    np.testing.assert_array_equal(result["clean"].values, direct["clean"].values)
    assert mine["pos"].values.tolist() == list(POSITIONS)
    assert result["length"].values.tolist() == list(pairs.lengths)


def test_before_s2_nothing_moves_and_at_s2_the_first_residual_moves_all(done):
    result = results.load(done / "result.nc")
    for site in SITES:
        there = result[f"patched_{site}"].sel(pos=["io", "s1"])
        assert (there == result["corrupted"]).where(there.notnull()).all()
    whole = result["patched_resid_pre"].sel(pos="s2", layer=0)
    np.testing.assert_allclose(whole, result["clean"], atol=1e-4)


def test_the_findings_are_what_the_numbers_say(done):
    record = json.loads((done / "record.json").read_text())
    result = results.load(done / "result.nc").sel(model="lab/gpt-neo")
    between = float((result["clean"] - result["corrupted"]).mean())
    share = (result["patched_z"].sel(pos="end") - result["corrupted"]).mean("prompt").transpose(
        "layer", "head"
    ) / between
    layer, head = np.unravel_index(np.abs(share.values).argmax(), share.shape)
    kind = ["global", "local 16"][layer % 2]
    listed = [one for one in saved_findings(done) if one.subject == "lab/gpt-neo"]
    assert listed[0].claim.startswith(f"patching the output of head {layer}.{head} ({kind})")
    assert listed[0].estimate == pytest.approx(float(share[layer, head]), abs=1e-6)
    assert f"{layer}.{head} of lab/gpt-neo alone moves {float(share[layer, head]):.2f}" in listed[0].headline
    (task,) = (one for one in listed if one.claim == TASK)
    assert task.estimate == float((result["clean"] > 0).mean())
    values = (result["patched_v"] - result["corrupted"]).sel(layer=layer, head=head).mean("prompt") / between
    assert listed[1].estimate == pytest.approx(float(values[np.abs(values).argmax("pos")]), abs=1e-6)
    assert record["fingerprints"].keys() == {"lab/gpt-neo", "lab/pythia"}
    assert record["config"]["corruption"] == "other"
    assert record["published"] == {}
    assert record["warnings"] == []


def test_the_report_carries_findings_tables_maps_confounds_and_what_to_repeat(done):
    page = (done / "report.html").read_text()
    parsed = Parsed(page)
    listed = saved_findings(done)
    assert listed[0].headline in parsed.text
    assert all(one.claim in parsed.text for one in listed)
    for heading in ("How well they do the task", "lab/gpt-neo", "lab/pythia", "What else differs between them"):
        assert f">{heading}</h2>" in page
    assert len([tag for tag in parsed.tags("div") if tag.get("class") == "plot"]) == 1 + 2 * 6
    assert "position: absolute (lab/gpt-neo); rotary" in parsed.text
    assert "published role" not in parsed.text
    assert (
        "neolens run ioi --models lab/gpt-neo lab/pythia --prompts 8 --seed 0 --corruption other "
        f"--direction denoise --out {done}"
    ) in parsed.text


def test_maps_of_heads_share_a_scale_and_the_residual_stream_has_its_own():
    effects = {("resid_pre", "s2", 0): 1.0, ("z", "end", "2.0"): 0.5, ("v", "s2", "2.0"): -0.25}
    stream, *heads = (figure.drawing.data[0] for figure in job.maps(planted(MIXED, effects)))
    assert (stream.zmin, stream.zmax) == (-4, 4)
    assert [(each.zmin, each.zmax) for each in heads] == [(-2, 2)] * 5
    assert heads[0].z[2][0] == 2
    assert heads[-1].z[2][0] == -1


def test_noising_a_swap_farther_away_is_asked_for_and_said(tmp_path):
    arguments = ["--corruption", "swap", "--direction", "noise", "--distance", "20", "--seed", "3"]
    assert call("--models", "lab/gpt2", "--prompts", "3", *arguments, "--out", tmp_path / "out") == 0
    result = results.load(tmp_path / "out" / "result.nc").sel(model="lab/gpt2")
    model = neolens.load("lab/gpt2")
    pairs = indirect_object(model, 3, corruption="swap", distance=20, seed=3)
    direct = neolens.patch(model, pairs, "z", positions=POSITIONS, direction="noise", progress=False)
    np.testing.assert_array_equal(result["patched_z"].transpose(*direct["patched"].dims), direct["patched"])
    provenance = json.loads(results.load(tmp_path / "out" / "result.nc").attrs["provenance"])["lab/gpt2"]
    assert [provenance[name] for name in ("corruption", "direction", "distance", "seed")] == ["swap", "noise", 20, 3]
    page = (tmp_path / "out" / "report.html").read_text()
    assert "negative where a head is needed" in page
    assert "--corruption swap --direction noise --distance 20" in page
    assert "has fewer than 8 prompts (3): its intervals are rough" in page


def test_a_hostile_folder_name_is_shown_as_it_is_written(tmp_path, monkeypatch):
    name = "<img src=x onerror=alert(1)>&lt;$x$"
    shutil.copytree(folder("lab/gpt2"), tmp_path / name, ignore=shutil.ignore_patterns("step*"))
    monkeypatch.chdir(tmp_path)
    assert call("--models", name, "--prompts", "2", "--out", "out") == 0
    page = (tmp_path / "out" / "report.html").read_text()
    parsed = Parsed(page)
    assert parsed.tags("img") == []
    assert f"{name}: prefers the answer" in parsed.text
    assert f"--models '{name}'" in parsed.text
    assert "<img" not in "".join(parsed.scripts)


# Pairs of a user's own --------------------------------------------------------------------------------------

OWN = [
    ("king hides pears . when Oscar and Laura went to the library , {} gave the maps to", "Laura", "Oscar"),
    (". when Nora and Paul went to the palace , again . {} gave the spoons to", "Nora", "Paul"),
    ("when Mary and Tom went to the market , {} gave the eggs to", "Mary", "Tom"),
]


def own_file(folder):
    """A file of pairs, each of another length."""
    rows = [
        {"clean": text.format(one), "corrupted": text.format(other), "answer": other, "distractor": one}
        for text, one, other in OWN
    ]
    (folder / "mine.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder / "mine.jsonl"


@pytest.fixture(scope="module", params=["denoise", "noise"])
def own(request, tmp_path_factory):
    """A direction, and the file and the folder of a run with a user's own pairs."""
    folder = tmp_path_factory.mktemp("own")
    arguments = ["--models", "lab/gpt-neo", "lab/pythia", "--direction", request.param, "--out", folder / "out"]
    assert call("--pairs", own_file(folder), *arguments) == 0
    return request.param, folder / "mine.jsonl", folder / "out"


@pytest.mark.parametrize("site", SITES)
def test_own_pairs_are_patched_where_they_begin_to_differ_and_at_the_end(own, site):
    direction, _, out = own
    model = neolens.load("lab/pythia")
    columns = [[text.format(one) for text, one, _ in OWN], [text.format(other) for text, _, other in OWN]]
    lengths = [1 + len(text.split()) for text in columns[0]]  # BOS and words
    places = {"changed": [1 + text.split().index("{}") for text, _, _ in OWN], "end": [n - 1 for n in lengths]}
    answers = [other for _, _, other in OWN], [one for _, one, _ in OWN]
    pairs = PromptPairs.from_text(model, *columns, *answers, places)
    direct = neolens.patch(model, pairs, site, positions=["changed", "end"], direction=direction, progress=False)
    result = results.load(out / "result.nc").sel(model="lab/pythia")
    mine = result[f"patched_{site}"].transpose(*direct["patched"].dims)
    np.testing.assert_array_equal(mine.values, direct["patched"].values)
    np.testing.assert_array_equal(result["clean"].values, direct["clean"].values)
    assert mine["pos"].values.tolist() == ["changed", "end"]
    assert result["length"].values.tolist() == lengths


def test_the_report_on_own_pairs_says_so_and_nothing_of_indirect_objects(own):
    direction, file, out = own
    parsed = Parsed((out / "report.html").read_text())
    text = parsed.text.partition("The record: settings")[0]
    assert "Which heads answer the prompts of mine.jsonl" in text
    assert f"The prompts are those of {file}: pairs of a clean and a corrupted prompt" in text
    assert "at the first changed token moves the logit difference" in text
    assert "z at changed" in text
    assert f"--models lab/gpt-neo lab/pythia --direction {direction} --pairs {file} --out" in parsed.text
    drawn = (out / "report.html").read_text().split("<script")[0] + " ".join(
        figure.drawing.to_json() for figure in job.maps(results.load(out / "result.nc").sel(model="lab/pythia"))
    )
    for word in (" s2", "indirect object", "Mary", "third name", "published"):
        assert word not in text, word
        assert word not in drawn, word


def test_the_record_of_own_pairs_has_no_exact_check_and_no_settings_of_other_prompts(own):
    _, file, out = own
    record = json.loads((out / "record.json").read_text())
    assert record["exact_checks"] == []
    assert record["published"] == {}
    assert record["config"]["pairs"] == str(file)
    assert [one["text"] for one in record["warnings"]] == [
        f"{name} has fewer than 8 prompts (3): its intervals are rough." for name in ("lab/gpt-neo", "lab/pythia")
    ]
    provenance = json.loads(results.load(out / "result.nc").attrs["provenance"])["lab/pythia"]
    assert provenance["pairs"] == str(file)
    assert not {"seed", "corruption", "distance"} & provenance.keys()


def test_the_report_on_own_pairs_is_drawn_again_without_model_and_file(own, tmp_path, monkeypatch):
    _, _, out = own
    shutil.copytree(out, tmp_path / "moved")
    monkeypatch.setattr(models, "load", lambda *args: pytest.fail("a model was loaded"))
    assert call("--from", tmp_path / "moved", "--out", tmp_path / "again") == 0
    assert (tmp_path / "again" / "report.html").read_bytes() == (out / "report.html").read_bytes()


def test_resume_measures_again_when_the_file_has_other_pairs(tmp_path, monkeypatch):
    file, patched = own_file(tmp_path), []
    monkeypatch.setattr(
        job, "patch", lambda model, *args, **kw: patched.append(len(args[0])) or neolens.patch(model, *args, **kw)
    )
    arguments = ["--models", "lab/gpt2", "--pairs", file, "--out", tmp_path / "out", "--resume"]
    assert call(*arguments) == 0
    assert call(*arguments) == 0
    assert patched == [3] * len(SITES)
    file.write_text("\n".join(file.read_text().split("\n")[:2]))
    assert call(*arguments) == 0
    assert patched == [3] * len(SITES) + [2] * len(SITES)


def test_gpt2_has_no_published_heads_on_other_prompts():
    result = planted(GPT2, CIRCUIT)
    own = result.sel(pos=["s2", "end"]).assign_coords(pos=["changed", "end"])
    found = circuit(own, GPT2)
    assert found.roles == found.compared == ()
    header, rows = head_table(found)
    assert header == [
        "",
        "head",
        "layer",
        "z at end",
        "95 % interval",
        "z at changed",
        "q at end",
        "k",
        "at",
        "v",
        "at",
    ]
    by_head = {row[1]: row for row in rows}
    assert by_head["3.0"][5] == pytest.approx(0.2)
    assert by_head["8.6"][-2:] == [pytest.approx(0.3), "changed"]
    values = strongest_input(found, "8.6")
    assert values.claim == "patching the values of head 8.6 at the first changed token moves the logit difference"
    assert values.estimate == pytest.approx(0.3)
    assert not any("published" in one.claim for one in of_model(found))


BAD = {
    "unknown model": (["--models", "lab/gpt-noe"], "did you mean lab/gpt-neo"),
    "a model twice": (["--models", "lab/gpt2", "lab/gpt2"], "give each only once"),
    "a folder without config": (["--models", "{tmp}"], "has no config.json"),
    "no prompts": (["--prompts", "0"], "prompts 0: expected a whole number from 1"),
    "a negative seed": (["--seed", "-1"], "seed -1: expected a whole number of at least 0"),
    "unknown corruption": (["--corruption", "swop"], "no corruption 'swop': did you mean swap?"),
    "unknown direction": (
        ["--direction", "denoize"],
        "no direction 'denoize': did you mean denoise",
    ),
    "too far": (["--distance", "500"], "lab/gpt2: indirect_object at distance 500: in the model's 128 positions"),
    "too near": (["--distance", "3"], "indirect_object at distance 3"),
    "out is a file": (["--models", "lab/gpt2", "--prompts", "1", "--out", "{tmp}/file"], "cannot be written to"),
}


@pytest.mark.parametrize(("arguments", "message"), BAD.values(), ids=BAD)
def test_bad_input_is_one_line_before_anything_is_patched(arguments, message, tmp_path, capsys, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(job, "patch", lambda *args, **kwargs: pytest.fail("something was patched"))
    out = shell.refused(call, arguments, message, tmp_path, capsys)
    assert not out.exists()


@pytest.mark.parametrize("direction", ["denoise", "noise"])
def test_a_patch_before_s2_that_changes_anything_fails_the_run(direction, tmp_path, monkeypatch, capsys):
    def patched_wrongly(model, pairs, site, **settings):
        result = neolens.patch(model, pairs, site, **settings)
        if site == "q":
            result["patched"].loc[{"pos": "s1", "layer": 1, "head": 2, "prompt": 0}] += 0.5
        return result

    monkeypatch.setattr(job, "patch", patched_wrongly)
    arguments = ["--models", "lab/gpt2", "--prompts", "2", "--direction", direction, "--out", tmp_path]
    assert call(*arguments) == 1
    failure = "An exact check failed: lab/gpt2: the largest effect of a patch before s2: 0.5, expected 0."
    assert failure in capsys.readouterr().err
    assert failure in Parsed((tmp_path / "report.html").read_text()).text
    assert json.loads((tmp_path / "record.json").read_text())["checks_pass"] is False


@pytest.mark.parametrize("corruption", ["other", "swap"])
def test_patches_before_s2_change_nothing_with_either_corruption(corruption, tmp_path):
    arguments = ["--models", "lab/gpt-neo", "--prompts", "2", "--corruption", corruption, "--out", tmp_path]
    assert call(*arguments, "--direction", "noise") == 0
    (check,) = json.loads((tmp_path / "record.json").read_text())["exact_checks"]
    assert (check["value"], check["zero"]) == (0, True)


def test_the_report_is_drawn_again_without_a_model(done, tmp_path, monkeypatch):
    monkeypatch.setattr(models, "load", lambda *args: pytest.fail("a model was loaded"))
    assert call("--from", done, "--out", tmp_path / "again") == 0
    for name in ("report.html", "findings.csv"):
        assert (tmp_path / "again" / name).read_bytes() == (done / name).read_bytes()


def test_resume_patches_only_the_networks_that_are_missing(done, tmp_path, monkeypatch):
    shutil.copytree(done / "networks", tmp_path / "networks")
    (tmp_path / "networks" / "lab-pythia.nc").unlink()
    patched = []
    monkeypatch.setattr(
        job, "patch", lambda model, *args, **kw: patched.append(model.anatomy.name) or neolens.patch(model, *args, **kw)
    )
    assert call("--models", "lab/gpt-neo", "lab/pythia", "--prompts", "8", "--resume", "--out", tmp_path) == 0
    assert patched == ["lab/pythia"] * len(SITES)
    xr.testing.assert_equal(results.load(tmp_path / "result.nc"), results.load(done / "result.nc"))


@browser.needed
def test_a_browser_without_a_network_draws_the_whole_report(done, tmp_path):
    browser.whole(done / "report.html", tmp_path)
