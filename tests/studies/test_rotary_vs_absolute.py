"""Rotary against absolute positions: what the study writes, that its findings are its numbers, what it refuses."""

import dataclasses
import json
import math

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
from neolens.stats.verdicts import NATS, ROUNDING
from neolens.studies import findings as saved_findings
from neolens.studies.rotary_vs_absolute import study as job
from neolens.studies.rotary_vs_absolute.figures import divergence_by_shift
from neolens.studies.rotary_vs_absolute.findings import (
    findings,
    loss_beyond_context,
    rotary_bands,
    shift_changes_predictions,
    warnings,
)
from neolens.studies.rotary_vs_absolute.measure import probe, texts
from neolens.studies.rotary_vs_absolute.summary import MEASURES, Encoding, contrasts
from neolens.studies.rotary_vs_absolute.tables import head_table, measure_table
from neolens.studies.study import Measured, Summary

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
    names = ["findings.csv", "networks", "record.json", "report.html", "result.nc"]
    assert sorted(file.name for file in done.iterdir()) == names


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


# Findings ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def listed(done):
    return saved_findings(str(done))


def of_claim(listed, part, subject):
    """The one finding with these words in its claim."""
    (chosen,) = [one for one in listed if part in one.claim and one.subject == subject]
    return chosen


def test_a_shift_changes_an_absolute_model_by_its_kl_divergence_and_leaves_a_rotary_one_exactly(listed, result):
    absolute = of_claim(listed, "shifting every position index by 63 changes the predictions", "lab/gpt2")
    kl = result["shift_kl"].sel(model="lab/gpt2", shift=63)
    low, high = stats.ttest_1samp(kl, 0).confidence_interval()
    assert (absolute.verdict, absolute.n, absolute.unit) == ("supported", 3, "nats per token")
    assert (absolute.estimate, absolute.low, absolute.high) == pytest.approx((float(kl.mean()), max(low, 0), high))
    assert absolute.reason == "0.001 or more in 3 of 3 seeds"
    rotary = of_claim(listed, "by 63 leaves the predictions unchanged", "lab/pythia-sequential")
    exact = float(result["shift_exact"].sel(model="lab/pythia-sequential", shift=63).max())
    assert exact < 1e-12
    assert (rotary.verdict, rotary.estimate, rotary.low, rotary.high) == ("exact", 0, 0, 0)
    assert rotary.reason == f"but for rounding, {exact:.1g} of the range of the logits in float64"


def test_the_headline_has_the_divergence_and_stands_on_the_first_finding_alone(listed, result):
    kl = float(result["shift_kl"].sel(model="lab/gpt2", shift=63).mean())
    assert listed[0].headline == (
        "Predictions with all positions shifted: exactly unchanged in lab/pythia-sequential (rotary), changed by "
        f"{kl:.2f} nats per token in lab/gpt2 (absolute)."
    )
    assert [one for one in listed[1:] if one.headline] == []


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
    pair = "{0} in lab/pythia-sequential (3 of 3 seeds) and {0} in lab/gpt2 (3 of 3 seeds)"
    assert limits.pop("copied_loss") == f"ends at {pair.format('ceiling')}"  # both copy: loss at most -ln 0.99
    assert all(reason.startswith("ends at chance level in lab/pythia-sequential") for reason in limits.values())


def test_every_contrast_but_that_of_the_shift_is_a_finding_with_its_numbers(record, listed):
    rows = {
        (MEASURES[row["measure"]].title, f"{row['first']} - {row['second']}"): row
        for row in record["contrasts"]
        if row["measure"] != "shift"  # the findings on shifts have it, model by model
    }
    tested = sum(row["p_adjusted"] is not None for row in record["contrasts"])
    pairs = [one for one in listed if " - " in one.subject]
    assert len(pairs) == len(rows)
    for one in pairs:
        row = rows[one.claim.removesuffix(" differs"), one.subject]
        assert (one.verdict, one.n) == (row["status"], row["n"])
        assert one.estimate == pytest.approx(row["mean"])
        if row["p_adjusted"] is None:
            assert math.isnan(one.p)
            assert (one.verdict, one.reason, one.comparisons) == ("not measured", row["reason"], 0)
        else:
            assert one.p == pytest.approx(row["p_adjusted"])
            assert (one.verdict == "supported", one.comparisons) == (one.p < 0.05, tested)


def test_the_scores_of_the_first_layer_of_a_rotary_network_are_a_function_of_distance(listed):
    pair = "lab/pythia-sequential - lab/gpt2"
    one = of_claim(listed, "share of first-layer score variance explained by distance", pair)
    assert one.low > 0.3
    assert one.p < 0.05


def test_bands_are_compared_by_their_shares(listed, result):
    one = of_claim(listed, "previous-token heads depend more on rotary band 0", "lab/pythia-sequential")
    variant = result.sel(model="lab/pythia-sequential")
    has_role = variant["holds"].sel(role="previous_token").values == 1
    shares = [
        [variant["taken_away"].sel(seed=seed, band=band).values[has_role[seed]].mean() for band in (0, 1)]
        for seed in (0, 1, 2)
    ]
    test = stats.ttest_rel(*np.array(shares).T)
    interval = test.confidence_interval()
    assert (one.estimate, one.p) == pytest.approx((np.diff(np.array(shares)[:, ::-1]).mean(), test.pvalue))
    assert (one.low, one.high) == pytest.approx((interval.low, interval.high))
    assert "(wavelength 6.28 tokens) than on band 1 (628)" in one.claim


def test_the_loss_beyond_the_context_is_that_of_the_last_quarters(listed, result):

    def rise(name):
        loss = result["loss_beyond"].sel(model=name).values  # [seed, pos], a context of 128
        return np.nanmean(loss[:, 192:256], 1) - np.nanmean(loss[:, 96:128], 1)

    one = of_claim(listed, "the loss of periodic text rises beyond the context", "lab/nope")
    assert (one.estimate, one.n) == (pytest.approx(rise("lab/nope").mean()), 3)
    raw = {name: stats.ttest_1samp(rise(name), 0).pvalue for name in ("lab/pythia-sequential", "lab/nope")}
    adjusted = dict(zip(raw, stats.false_discovery_control(list(raw.values())), strict=True))
    assert (one.p, one.comparisons) == (pytest.approx(adjusted["lab/nope"]), 2)
    rotary = result.sel(model="lab/pythia-sequential")
    squeezed = np.nanmean((rotary["loss_interpolated"] - rotary["loss_beyond"]).values[:, 192:256], 1)
    one = of_claim(listed, "interpolating positions raises the loss beyond", "lab/pythia-sequential")
    assert (one.estimate, one.verdict) == (pytest.approx(squeezed.mean()), "supported")


def test_every_finding_names_a_section_of_the_report(done, listed):
    html = (done / "report.html").read_text()
    assert all(f">{name}</h2>" in html for name in {one.figure for one in listed})


def test_the_report_is_drawn_again_with_the_same_findings(done, tmp_path, monkeypatch):
    monkeypatch.setattr(neolens.models, "load", lambda *args, **options: pytest.fail("a model was loaded"))
    assert call("--from", done, "--out", tmp_path / "again") == 0
    assert (tmp_path / "again" / "report.html").read_text() == (done / "report.html").read_text()


# Verdicts of constructed results ------------------------------------------------------------------------------


def shifted(name, kl, exact, **others):
    """A variant whose predictions change by these KL divergences, one per seed, and logits by this in float64."""
    values = {"shift_kl": kl, "shift_exact": exact, "shift_logits": exact}
    variables = {key: (("seed", "shift"), np.array([each], float).T) for key, each in values.items()}
    coords = {"seed": range(len(kl)), "shift": [63], "role": ["previous_token", "induction"]}
    result = xr.Dataset(variables, coords).assign(copied_loss=("seed", [0.0] * len(kl)))
    return Encoding(dataclasses.replace(anatomy(name), name=others.get("called", name)), result)


UP, DOWN = 1 + 1e-9, 1 - 1e-9
SHIFTS = {
    "rotary, rounding": ("lab/pythia", [1e-9] * 3, [ROUNDING * DOWN, 0, 0], "exact"),
    "rotary, more than rounding in one seed": ("lab/pythia", [1e-9] * 3, [ROUNDING, 0, 0], "contradicted"),
    "absolute, just above": ("lab/gpt2", [NATS * UP] * 3, [0.4] * 3, "supported"),
    "absolute, just below": ("lab/gpt2", [NATS * DOWN] * 3, [0.4] * 3, "not significant"),
    "absolute, without any effect": ("lab/gpt2", [0.0] * 3, [0.0] * 3, "exact"),
    "one network": ("lab/gpt2", [0.7], [0.4], "supported"),
    "not a number": ("lab/gpt2", [np.nan], [np.nan], "not measured"),
}


@pytest.mark.parametrize(("name", "kl", "exact", "verdict"), SHIFTS.values(), ids=SHIFTS)
def test_a_shift_has_the_verdict_of_its_size(name, kl, exact, verdict):
    one = shift_changes_predictions(shifted(name, kl, exact))
    assert one.verdict == verdict
    assert ("leaves the predictions unchanged" in one.claim) == (verdict in ("exact", "contradicted"))
    assert "63" in one.claim


def test_a_change_in_some_seeds_alone_is_told_by_their_number():
    assert (
        shift_changes_predictions(shifted("lab/gpt2", [0.5, 0.0], [0.4, 0.4])).reason == "0.001 or more in 1 of 2 seeds"
    )


ROTARY, ABSOLUTE = ("lab/pythia", [1e-9] * 3, [1e-15] * 3), ("lab/gpt2", [0.5, 0.7, 0.9], [0.4] * 3)
BROKEN, STILL = ("lab/pythia", [0.5] * 3, [0.1] * 3), ("lab/gpt2", [1e-5] * 3, [1e-3] * 3)
HEADLINES = {
    "both": ([ROTARY, ABSOLUTE], "exactly unchanged in a (rotary), changed by 0.70 nats per token in b (absolute)."),
    "rotary alone": ([ROTARY], "exactly unchanged in a (rotary)."),
    "absolute alone": ([ABSOLUTE], "shifted: changed by 0.70 nats per token in a (absolute)."),
    "contradicted": ([BROKEN, ABSOLUTE], "exactly unchanged in 0 of 1 rotary models, changed by 0.70"),
    "one of two rotary": ([ROTARY, BROKEN], "exactly unchanged in 1 of 2 rotary models."),
    "not significant": ([ROTARY, STILL], "in a (rotary), changed in 0 of 1 absolute models."),
    "several": (
        [ROTARY, BROKEN, ABSOLUTE, ("lab/gpt2", [1.5] * 3, [0.4] * 3), STILL],
        "exactly unchanged in 1 of 2 rotary models, changed by 0.70-1.50 nats per token in 2 of 3 absolute models.",
    ),
}


@pytest.mark.parametrize(("made", "headline"), HEADLINES.values(), ids=HEADLINES)
def test_the_headline_claims_what_the_verdicts_allow(made, headline):
    encodings = [shifted(*one, called=called) for one, called in zip(made, "abcde")]
    listed = findings(encodings, [])
    assert headline in listed[0].headline
    assert len(listed[0].headline.split()) <= 25
    assert [one for one in listed[1:] if one.headline] == []


def test_without_positions_nothing_is_said_of_shifts():
    (one,) = findings([beyond("lab/nope", [1.0, 1.1], [2.0, 2.1])], [])
    assert one.headline == "No model here has positions to shift."
    assert one.claim == "the loss of periodic text rises beyond the context"
    assert findings([], []) == []


@pytest.mark.parametrize(("exact", "passes"), [(ROUNDING * DOWN, True), (ROUNDING, False)])
def test_a_rotary_model_that_a_shift_changes_fails_an_exact_check(exact, passes):
    encodings = [shifted("lab/pythia", [0.0, 0.0], [exact, 0.0]), shifted(*ABSOLUTE)]
    measured = Measured(job.Config(), (), {}, {}, {}, ())
    (check,) = job.exact_checks(measured, Summary(content=(encodings, [])))
    assert (check.subject, check.passes) == ("lab/pythia", passes)


def test_float64_that_was_not_computed_is_no_failed_check():
    measured = Measured(job.Config(), (), {}, {}, {}, ())
    assert list(job.exact_checks(measured, Summary(content=([shifted("lab/pythia", [0.0], [np.nan])], [])))) == []


def banded(shares, roles=(1.0, 0.0)):
    """Two heads with these shares by band, of which the first has the role: [seed, band]."""
    shares = np.stack([np.asarray(shares, float), np.full(np.shape(shares), 9.0)], axis=1)
    variables = {
        "taken_away": (("seed", "layer", "head", "band"), shares[:, None]),
        "holds": (("role", "layer", "head"), np.array([[roles], [[0.0, 1.0]]])),
        "wavelength": ("band", [6.0, 60.0, 600.0][: shares.shape[-1]]),
    }
    coords = {"seed": range(len(shares)), "band": range(shares.shape[-1]), "role": ["previous_token", "induction"]}
    return Encoding(anatomy("lab/pythia"), xr.Dataset(variables, coords))


def test_the_two_bands_with_the_largest_shares_are_compared_seed_by_seed():
    (one,) = rotary_bands([banded([[0.1, 0.5, 0.8], [0.0, 0.6, 0.7], [0.1, 0.4, 0.9]])])
    assert "more on rotary band 2 (wavelength 600 tokens) than on band 1 (60)" in one.claim
    p = stats.ttest_1samp([0.3, 0.1, 0.5], 0).pvalue
    assert (one.verdict, one.estimate, one.p) == ("not significant", pytest.approx(0.3), pytest.approx(p))
    assert (one.comparisons, one.unit) == (1, "of their score")
    (one,) = rotary_bands([banded([[0.8, 0.1], [0.8, 0.11], [0.8, 0.09]])])
    assert one.verdict == "supported"


def test_bands_of_several_models_are_corrected_together():
    one, other = rotary_bands(
        [banded([[0.8, 0.5], [0.7, 0.6], [0.9, 0.4]]), banded([[0.8, 0.1], [0.8, 0.2], [0.9, 0.0]])]
    )
    raw = [stats.ttest_1samp(each, 0).pvalue for each in ([0.3, 0.1, 0.5], [0.7, 0.6, 0.9])]
    assert [one.p, other.p] == pytest.approx(stats.false_discovery_control(raw))
    assert one.comparisons == 2


def test_bands_of_one_network_or_without_heads_are_not_ranked():
    (one,) = rotary_bands([banded([[0.8, 0.5]])])
    assert (one.verdict, one.reason) == ("not measured", "fewer than two seeds")
    assert math.isnan(one.p)
    assert rotary_bands([banded([[0.8, 0.5]], roles=(0.0, 0.0))]) == []
    assert rotary_bands([banded([[0.8]])]) == []
    assert rotary_bands([shifted(*ABSOLUTE)]) == []


def beyond(name, inside, later, interpolated=None):
    """A variant with this loss inside its context and later, one per seed."""
    context = anatomy(name).context
    loss = {"loss_beyond": np.repeat(np.array([inside, later]).T, context, axis=1)}
    if interpolated is not None:
        loss["loss_interpolated"] = np.repeat(np.array([interpolated]).T, 2 * context, axis=1)
    variables = {key: (("seed", "pos"), each) for key, each in loss.items()}
    return Encoding(anatomy(name), xr.Dataset(variables, {"seed": range(len(inside)), "pos": range(2 * context)}))


LOSSES = {
    "rises": ([1.0, 1.1, 1.2], [2.0, 2.1, 2.3], "supported"),
    "falls": ([2.0, 2.1, 2.3], [1.0, 1.1, 1.2], "contradicted"),
    "neither": ([1.0, 1.1, 1.2], [1.1, 1.0, 1.2], "not significant"),
    "one network": ([1.0], [2.0], "not measured"),
}


@pytest.mark.parametrize(("inside", "later", "verdict"), LOSSES.values(), ids=LOSSES)
def test_the_loss_rises_beyond_the_context_where_that_is_significant(inside, later, verdict):
    (one,) = loss_beyond_context([beyond("lab/nope", inside, later)])
    assert (one.verdict, one.estimate) == (verdict, pytest.approx(np.mean(later) - np.mean(inside)))


def test_interpolated_positions_are_a_test_of_their_own():
    rises, raises = loss_beyond_context([beyond("lab/pythia", [1.0, 1.1, 1.2], [1.1, 1.0, 1.2], [5.0, 5.1, 5.1])])
    assert (rises.verdict, rises.comparisons) == ("not significant", 1)
    assert (raises.verdict, raises.estimate) == ("supported", pytest.approx(5.0667 - 1.1, abs=1e-3))
    (lower,) = loss_beyond_context([beyond("lab/pythia", [1.0, 1.1, 1.2], [5.0, 5.1, 5.1], [1.1, 1.0, 1.2])])[1:]
    assert lower.verdict == "contradicted"


# Warnings -----------------------------------------------------------------------------------------------------


def kinds_of(listed, kind):
    return [one.text for one in listed if one.kind == kind]


def test_arms_without_a_common_seed_are_said_not_to_be_compared():
    one, other = variant("lab/gpt2", **made_up([1, 2, 3])), variant("lab/pythia-sequential", **made_up([1, 2, 3]))
    apart = [Encoding(one.anatomy, one.result.isel(seed=[0])), Encoding(other.anatomy, other.result.isel(seed=[1]))]
    assert contrasts(apart) == []
    text = "lab/gpt2 and lab/pythia-sequential have no seed in common, and so are not compared."
    assert kinds_of(warnings(apart), "no common seed") == [text]
    assert kinds_of(warnings([one, other]), "no common seed") == []


def test_results_of_an_earlier_version_warn_of_their_chance_level():
    old = variant("lab/gpt2", **made_up([0.1, 0.2, 0.3]))
    new = Encoding(old.anatomy, old.result.assign_attrs(candidates=193))
    (text,) = kinds_of(warnings([old]), "earlier version")
    assert "lab/gpt2 was measured by an earlier version" in text
    assert "204" in text
    assert warnings([new]) == []


@pytest.mark.parametrize(("loss", "lost"), [(1.0, False), (1.0 + 1e-6, True)])
def test_a_network_that_does_not_copy_and_a_single_one_are_warned_about(loss, lost):
    made = variant("lab/gpt2", **made_up([0.1, loss, 0.3]))
    texts = kinds_of(warnings([made]), "does not copy")
    assert (["seed 1 (" in text for text in texts] == [True]) == lost
    alone = Encoding(made.anatomy, made.result.isel(seed=[0]))
    assert len(kinds_of(warnings([alone]), "one network")) == 1


def test_a_role_without_control_heads_is_warned_about():
    made = variant("lab/gpt2", **made_up([0.1, 0.2, 0.3]))
    more = xr.DataArray([[0.1, np.nan], [0.1, 0.1], [0.1, np.nan]], dims=("seed", "role"))
    effect = xr.DataArray([[1.0, 1.0], [1.0, 1.0], [1.0, np.nan]], dims=("seed", "role"))
    holds = xr.DataArray(np.ones((3, 2, 1, 1)), dims=("seed", "role", "layer", "head"))
    one = Encoding(made.anatomy, made.result.assign(role_more=more, role_effect=effect, holds=holds))
    (text,) = kinds_of(warnings([one]), "no control heads")
    assert text.startswith("lab/gpt2, all induction heads of seed 0: no control: ")


def test_a_window_as_long_as_the_prompts_is_no_hindrance():
    model = load("lab/gpt-neo")
    with neolens.what_if(model, windows={1: 64, 3: 64}):
        asked = texts(model, prompts=8)
        found = probe(model, asked)
        mass = neolens.attention(model, asked.repeats)
    near = 1 - share_beyond(mass, 65 // 4).mean("prompt")
    np.testing.assert_allclose(found["score"].sel(role="local_only"), near, atol=1e-9)


def test_a_network_that_does_not_copy_is_warned_about(record):
    (one,) = [one for one in record["warnings"] if one["kind"] == "does not copy"]
    assert one["text"].startswith("lab/nope does not predict copies with seed 2 (loss above 1 nats per token)")


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


def test_a_difference_worked_by_hand_is_significant_and_one_of_0_is_not():
    absolute, rotary = (
        variant("lab/gpt2", **made_up([0.1, 0.2, 0.3])),
        variant("lab/pythia-sequential", **made_up([3.1, 3.21, 3.29])),
    )
    by_measure = {one.measure: one for one in contrasts([absolute, rotary])}
    loss = by_measure["copied_loss"]
    assert loss.difference.mean == pytest.approx(3.0)
    assert loss.significant
    assert not by_measure["induction"].significant
    first, *others = findings([absolute, rotary], list(by_measure.values()))
    assert (first.claim, first.verdict) == ("loss where a copy is predicted differs", "supported")
    assert (first.estimate, first.comparisons) == (pytest.approx(3.0), 8)
    assert {one.verdict for one in others} == {"not significant"}


def test_the_table_of_measures_is_blank_where_an_arm_has_none():
    header, rows = measure_table([variant("lab/nope", **made_up([1, 2, 3]))])
    assert header == ["measure", "lab/nope (none)"]
    cells = {row[0]: row[1] for row in rows}
    assert cells["loss added by removing positions (nats per token)"] == ""
    assert cells["loss where a copy is predicted (nats per token)"] == "2.00 (0.00 to 4.48), seeds 1.00, 2.00, 3.00"


# Figures ----------------------------------------------------------------------------------------------------


def test_the_shift_is_drawn_as_it_was_measured(result):
    one = result.sel(model="lab/gpt2").assign_attrs(json.loads(result.attrs["provenance"])["lab/gpt2"])
    (line,) = [trace for trace in figures.shift_by_distance({"lab/gpt2": one}).data if trace.name]
    np.testing.assert_allclose(line.y, one["shift_logits"].mean("seed"), rtol=1e-6)
    assert line.line.color == figures.POSITION_COLOURS["absolute"]


def test_the_first_figure_is_the_divergence_of_every_shift(result):
    models = {}
    for name in MODELS:
        one = result.sel(model=name).assign_attrs(json.loads(result.attrs["provenance"])[name])
        models[name] = one.dropna("shift", how="all") if name == "lab/nope" else one
    figure = divergence_by_shift({name: one for name, one in models.items() if name != "lab/nope"})
    lines = {trace.name: trace for trace in figure.data if trace.name}
    assert list(lines) == ["lab/gpt2 (absolute)", "lab/pythia-sequential (rotary)"]
    for name, line in lines.items():
        one = models[name.split()[0]]["shift_kl"]
        one = one.isel(shift=one["shift"].values > 0)
        np.testing.assert_allclose(line.y, one.mean("seed"), rtol=1e-6)
    assert figure.layout.height == 300


def test_a_head_with_a_role_is_a_row_with_what_ablating_it_adds(result):
    one = result.sel(model="lab/gpt2").drop_vars("model")
    header, rows = head_table([Encoding(anatomy("lab/gpt2"), one)])
    assert len(rows) == int((one["holds"] == 1).any("role").sum())
    network, _, head = rows[0][0].partition(", ")
    layer, head = (int(part) for part in head.split("."))
    mine = one.sel(seed=int(network.rpartition("@")[2]), layer=layer, head=head)
    numbers = [float(mine[name]) for name in ("effect", "more", "more_p_adjusted")]
    assert [rows[0][header.index(name)] for name in ("effect (nats per token)", "difference", "corrected p")] == (
        pytest.approx(numbers)
    )


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
