"""The second question's experiment: what it writes, that its sentences are its numbers, what it refuses."""

import dataclasses
import json
import re

import numpy as np
import pytest
import torch
import xarray as xr
from scipy import stats

import browser
import neolens
import shell
from neolens import figures, results
from neolens.models import anatomy, load
from neolens.prompts import random_repeats
from neolens.scores import share_beyond
from neolens.studies.rotary_vs_absolute import study as job
from neolens.studies.rotary_vs_absolute import text as encodings_words
from neolens.studies.rotary_vs_absolute.measure import probe, texts
from neolens.studies.rotary_vs_absolute.summary import MEASURES, Encoding, contrasts
from neolens.studies.rotary_vs_absolute.text import findings, measure_table, warnings

MODELS = ("lab/gpt2", "lab/pythia-sequential", "lab/nope")


def call(*arguments):
    """Run the experiment as from the shell; its exit code."""
    return shell.call(job.STUDY, *arguments)


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """The folder that the experiment wrote for three variants, few prompts."""
    out = tmp_path_factory.mktemp("job") / "out"
    assert call("--models", *MODELS, "--out", out, "--prompts", "8") == 0
    return out


@pytest.fixture(scope="module")
def record(done):
    return json.loads((done / "record.json").read_text())


@pytest.fixture(scope="module")
def result(done):
    return results.load(done / "result.nc")


# What it writes ----------------------------------------------------------------------------------------------


def test_it_writes_a_result_a_record_and_a_report(done):
    assert sorted(file.name for file in done.iterdir()) == ["networks", "record.json", "report.html", "result.nc"]


def test_the_result_holds_every_arm_and_seed_and_nothing_where_an_arm_has_nothing(result):
    assert result["model"].values.tolist() == list(MODELS)
    assert result["seed"].values.tolist() == [0, 1, 2]
    nope, rotary = (result.sel(model=name) for name in ("lab/nope", "lab/pythia-sequential"))
    assert nope["shift_logits"].isnull().all()
    assert rotary["shift_logits"].notnull().all()
    assert result.sel(model="lab/gpt2")["taken_away"].isnull().all()
    assert rotary["band_effect"].notnull().all()


def test_the_numbers_of_a_network_are_those_of_the_instruments_called_by_hand(result):
    model = load("lab/pythia-sequential@1")
    tokens = random_repeats(model, 32, prompts=8)
    mine = result.sel(model="lab/pythia-sequential", seed=1)
    found = neolens.attention(model, tokens, scores=["induction", "previous_token"])
    for role in ("induction", "previous_token"):
        np.testing.assert_allclose(mine["score"].sel(role=role), found[role].mean("prompt"), atol=1e-6)
    logits = model(tokens)[:, 33:64].log_softmax(-1)
    loss = -logits.gather(-1, tokens[:, 34:65, None]).mean().item()
    assert float(mine["copied_loss"]) == pytest.approx(loss, abs=1e-4)
    with torch.no_grad(), neolens.what_if(model, positions="off"):
        changed = -model(tokens)[:, 33:64].log_softmax(-1).gather(-1, tokens[:, 34:65, None]).mean().item()
    assert float(mine["positions_effect"].sel(group="not rotated")) == pytest.approx(changed - loss, abs=1e-3)


def test_all_heads_of_a_role_are_ablated_at_once(result):
    model = load("lab/gpt2")
    tokens = random_repeats(model, 32, prompts=8)
    mine = result.sel(model="lab/gpt2", seed=0)
    heads = np.argwhere(mine["holds"].sel(role="induction").transpose("layer", "head").values == 1)
    assert len(heads) > 1
    group = {"all": [(int(layer), int(head)) for layer, head in heads]}
    its = neolens.ablate(model, tokens, group, positions=range(33, 64), progress=False)
    effect = float((its["ablated"] - its["baseline"]).mean())
    assert float(mine["role_effect"].sel(role="induction")) == pytest.approx(effect, abs=1e-3)


# What it says ------------------------------------------------------------------------------------------------


def test_a_rotary_network_is_said_to_stay_and_an_absolute_one_to_move(record, result):
    (said,) = [text for text in record["findings"] if text.startswith("Moving every position index by 63")]
    absolute, rotary = said.split("Moving every position index")[1:]
    kl = result["shift_kl"].sel(model="lab/gpt2", shift=63)
    low, high = stats.ttest_1samp(kl, 0).confidence_interval()
    assert (
        f"KL divergence {float(kl.mean()):.2f} nats per token (95 %: {max(low, 0):.2f} to {high:.2f}, n = 3)"
        in absolute
    )
    moved = float(result["shift_logits"].sel(model="lab/gpt2", shift=63).mean())
    assert f"the largest change of a logit is {moved:.2f} of the range of the logits" in absolute
    exact = float(result["shift_exact"].sel(model="lab/pythia-sequential", shift=63).max())
    assert exact < 1e-12
    assert "changes nothing in lab/pythia-sequential" in rotary
    assert f"are rounding: in float64 at most {exact:.1g}" in rotary
    assert "rounding" not in absolute


def test_differences_between_arms_are_paired_t_tests_corrected_together(record, result):
    rows = record["contrasts"]
    raw = {}
    for number, row in enumerate(rows):
        variants = [
            MEASURES[row["measure"]].of(result.sel(model=row[side]).dropna("shift", how="all"))
            if row["measure"] == "shift"
            else MEASURES[row["measure"]].of(result.sel(model=row[side]))
            for side in ("first", "second")
        ]
        apart = (variants[0] - variants[1]).dropna("seed")
        assert row["n"] == apart.size
        assert row["mean"] == pytest.approx(float(apart.mean()), rel=1e-5, abs=1e-9)
        if apart.size > 1 and row["status"] in ("supported", "not significant"):
            raw[number] = stats.ttest_1samp(apart, 0).pvalue
        else:
            assert (row["p"], row["p_adjusted"]) == (None, None)
    adjusted = stats.false_discovery_control(list(raw.values()))
    assert [rows[number]["p_adjusted"] for number in raw] == pytest.approx(adjusted, rel=1e-5)


def test_effects_that_end_at_chance_level_or_at_ceiling_and_what_rotation_fixes_are_not_tested(record):
    ours = [r for r in record["contrasts"] if (r["first"], r["second"]) == ("lab/pythia-sequential", "lab/gpt2")]
    status = {row["measure"]: row["status"] for row in ours}
    assert status["shift"] == "exact"  # rotary scores depend on distance alone
    limits = {row["measure"]: row["reason"] for row in ours if row["reason"].startswith("ends at")}
    assert limits.keys() == {"previous_token_cause", "induction_cause", "copied_loss", "positions"}
    assert "ends at ceiling in 3 of 3 seeds" in limits.pop("copied_loss")  # both copy: loss at most -ln 0.99
    assert all("a guess among 193: 5.26" in reason for reason in limits.values())  # ln 193


def test_every_number_of_a_told_difference_is_in_its_contrast(record):
    (said,) = [text for text in record["findings"] if text.startswith("lab/pythia-sequential (rotary) less lab/gpt2")]
    ours = [r for r in record["contrasts"] if (r["first"], r["second"]) == ("lab/pythia-sequential", "lab/gpt2")]
    tested = [row for row in ours if row["p_adjusted"] is not None]
    apart = [row for row in tested if row["p_adjusted"] < 0.05]
    assert f"told apart in {len(apart)} of {len(tested)} measures" in said
    assert apart
    for row in apart:
        text = f"{row['mean']:+.2f} (95 %: {row['low']:+.2f} to {row['high']:+.2f}, n = 3)"
        assert f"{text}, corrected p = {row['p_adjusted']:.2g}" in said
    assert f"corrected for {sum(r['p_adjusted'] is not None for r in record['contrasts'])} comparisons" in said


def test_the_first_layer_of_a_rotary_network_is_distance_alone_and_that_is_told_apart(record):
    (row,) = [
        r for r in record["contrasts"] if (r["measure"], r["second"]) == ("toeplitz_first", "lab/gpt2") and r["n"] == 3
    ]
    assert row["low"] > 0.3
    assert row["p_adjusted"] < 0.05


def test_bands_are_told_with_their_shares(record, result):
    (said,) = [text for text in record["findings"] if text.startswith("Previous-token heads")]
    variant = result.sel(model="lab/pythia-sequential")
    holds = variant["holds"].sel(role="previous_token") == 1
    for band in (0, 1):
        shares = variant["taken_away"].sel(band=band).where(holds).mean(("layer", "head"))
        assert re.search(rf"band {band} \(wavelength [\d.]+ tokens\) {float(shares.mean()):.2f} ", said)


def test_what_is_not_told_apart_is_not_said_to_be_alike_and_one_network_has_no_p():
    facts = anatomy("lab/pythia")
    share = xr.DataArray([[[[0.8, 0.5]]], [[[0.7, 0.6]]], [[[0.9, 0.4]]]], dims=("seed", "layer", "head", "band"))
    its = {"taken_away": share, "holds": ("role", [1.0, 0.0]), "wavelength": ("band", [6.0, 600.0])}
    coords = {"seed": [0, 1, 2], "band": [0, 1], "role": ["previous_token", "induction"]}
    whole = xr.Dataset(its, coords=coords)
    (three,) = encodings_words._bands([Encoding(facts, whole)])
    p = stats.ttest_1samp([0.3, 0.1, 0.5], 0).pvalue
    assert f"Which of bands 0 and 1 they live on more is not told apart (p = {p:.2g}, corrected for 1 variant)" in three
    (alone,) = encodings_words._bands([Encoding(facts, whole.isel(seed=[0]))])
    assert "Most goes with band 0, without a p: there are not two seeds." in alone


def test_arms_without_a_common_seed_are_said_not_to_be_compared():
    one, other = variant("lab/gpt2", **made_up([1, 2, 3])), variant("lab/pythia-sequential", **made_up([1, 2, 3]))
    apart = [Encoding(one.anatomy, one.result.isel(seed=[0])), Encoding(other.anatomy, other.result.isel(seed=[1]))]
    assert contrasts(apart) == []
    assert warnings(apart)[-1] == (
        "lab/gpt2 and lab/pythia-sequential have no seed in common, and so are not compared."
    )


def test_a_window_as_long_as_the_prompts_is_no_hindrance():
    model = load("lab/gpt-neo")
    with neolens.what_if(model, windows={1: 64, 3: 64}):
        asked = texts(model, prompts=8)
        found = probe(model, asked)
        mass = neolens.attention(model, asked.repeats)
    near = 1 - share_beyond(mass, 65 // 4).mean("prompt")
    np.testing.assert_allclose(found["score"].sel(role="local_only"), near, atol=1e-9)


def test_a_network_that_does_not_copy_is_warned_about(record):
    assert any("lab/nope: with seed 2 the network does not predict copies" in text for text in record["warnings"])


def test_a_report_shows_every_figure_and_the_command(done):
    html = (done / "report.html").read_text()
    for title in ("Shift test", "Toeplitz share", "Distance kernel", "Pattern and cause", "Bands of previous-token"):
        assert f"\\u003cb\\u003e{title}" in html
    assert "neolens run rotary_vs_absolute --models lab/gpt2" in html
    assert "They differ in position alone." in html


# What is compared -------------------------------------------------------------------------------------------


def variant(name, **variables):
    """A variant with made-up numbers: by seed, or with the axes that a measure takes a mean or a maximum over."""
    facts = dataclasses.replace(anatomy(name), name=name)
    return Encoding(facts, xr.Dataset(variables, coords={"seed": [0, 1, 2], "role": ["previous_token", "induction"]}))


def made_up(loss):
    score = xr.DataArray(np.full((3, 2, 1, 1), 0.5), dims=("seed", "role", "layer", "head"))
    share = xr.DataArray(np.full((3, 1, 1), 0.5), dims=("seed", "layer", "head"), coords={"layer": [0]})
    return {
        "score": score,
        "toeplitz_share": share,
        "row_share": share,
        "role_more": score[..., 0, 0],
        "copied_loss": ("seed", np.asarray(loss, dtype=float)),
    }


def test_arms_that_differ_in_positions_alone_are_compared_and_others_only_where_there_are_none():
    every = [variant(name, **made_up([1, 2, 3])) for name in ("lab/gpt2", "lab/pythia-sequential", "lab/pythia")]
    pairs = {(one.first.name, one.second.name) for one in contrasts(every)}
    assert pairs == {("lab/pythia-sequential", "lab/gpt2")}
    confounded = contrasts([every[0], every[2]])
    assert {(one.first.name, one.second.name) for one in confounded} == {("lab/pythia", "lab/gpt2")}
    assert confounded[0].differ_in == ["attention and MLP: sequential (lab/gpt2); parallel (lab/pythia)"] or (
        confounded[0].differ_in == ["attention and MLP: parallel (lab/pythia); sequential (lab/gpt2)"]
    )


def test_arms_of_one_kind_of_positions_are_not_compared():
    assert contrasts([variant(name, **made_up([1, 2, 3])) for name in ("lab/gpt2", "lab/gpt-neo-global")]) == []


def test_a_difference_worked_by_hand_is_told_apart_and_an_equal_one_is_not():
    absolute, rotary = (
        variant("lab/gpt2", **made_up([0.1, 0.2, 0.3])),
        variant("lab/pythia-sequential", **made_up([3.1, 3.21, 3.29])),
    )
    by_measure = {one.measure: one for one in contrasts([absolute, rotary])}
    loss = by_measure["copied_loss"]
    assert loss.difference.mean == pytest.approx(3.0)
    assert loss.significant
    assert not by_measure["induction"].significant
    said = findings([], list(by_measure.values()))
    assert "told apart in 1 of 8 measures: loss where a copy is predicted" in said[0]
    assert "best induction head" in said[0].split("Not told apart in")[1]


def test_the_table_of_measures_is_blank_where_an_arm_has_none():
    header, rows = measure_table([variant("lab/nope", **made_up([1, 2, 3]))])
    assert header == ["measure", "lab/nope (none)"]
    cells = {row[0]: row[1] for row in rows}
    assert cells["taking positions away adds to that loss (nats a token)"] == ""
    assert cells["loss where a copy is predicted (nats a token)"] == "2.00 (0.00 to 4.48), seeds 1.00, 2.00, 3.00"


# Figures ----------------------------------------------------------------------------------------------------


def test_the_shift_is_drawn_as_it_was_measured(result):
    one = result.sel(model="lab/gpt2").assign_attrs(json.loads(result.attrs["provenance"])["lab/gpt2"])
    (line,) = [trace for trace in figures.shift_by_distance({"lab/gpt2": one}).data if trace.name]
    np.testing.assert_allclose(line.y, one["shift_logits"].mean("seed"), rtol=1e-6)
    assert line.line.color == figures.POSITION_COLOURS["absolute"]


# Bad input --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--prompts", "7"], "prompts 7: expected a whole number from 8 to 10000; fewer give no means and intervals"),
        (["--seed", "-1"], "seed -1: expected a whole number of at least 0"),
        (["--models", "lab/gpt2", "lab/gpt2"], "give each only once"),
        (["--models", "lab/gtp2"], "lab/gtp2"),
        (["--models", "{tmp}/nothing"], "nothing"),
    ],
)
def test_bad_input_ends_in_one_line_and_writes_nothing(arguments, message, tmp_path, capsys):
    assert not shell.refused(call, arguments, message, tmp_path, capsys).exists()


@browser.needed
def test_a_browser_without_a_network_draws_the_whole_report(done, tmp_path):
    browser.whole(done / "report.html", tmp_path)
