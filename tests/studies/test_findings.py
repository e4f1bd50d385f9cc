"""Findings as data: their words, the table of the first screen, CSV and record, and which lead."""

import csv
import io
import json
import math

import numpy as np
import pytest
import xarray as xr

import neolens
from neolens.stats import contrasts, seeds, verdicts
from neolens.stats.contrasts import Measure, Variant
from neolens.studies import Finding, findings
from neolens.studies.contrast_findings import of_contrasts
from neolens.studies.finding import StudyWarning, as_csv, of_estimate, sentence, table, value, verdict
from neolens.studies.page import leading

SOLID = Finding(
    claim="accuracy falls beyond the window",
    subject="lab/gpt-neo",
    verdict="supported",
    estimate=0.931,
    low=0.9,
    high=0.9649,
    unit="share",
    n=3,
    p=0.0123,
    comparisons=26,
)


def test_a_sentence_has_subject_claim_estimate_interval_sample_p_and_verdict():
    assert sentence(SOLID) == (
        "lab/gpt-neo: accuracy falls beyond the window: 0.93 share [0.90, 0.96], n = 3 seeds, p = 0.012 (corrected for "
        "26 comparisons); supported."
    )


@pytest.mark.parametrize(
    ("fields", "words", "told"),
    [
        ({"verdict": "exact", "estimate": 0.0}, "exactly 0", ""),
        ({"verdict": "contradicted", "estimate": 0.2, "reason": "must be exactly 0"}, "0.20", "contradicted: must be"),
        ({"verdict": "not significant", "estimate": -0.0004, "p": 0.4}, "above -0.01", "not significant"),
        ({"verdict": "not measured", "reason": "ends at chance level"}, "", "not measured: ends at chance level"),
        ({"verdict": "supported", "estimate": 1234.5, "low": 0.0, "high": math.inf}, "1,234 [0, inf]", "supported"),
    ],
)
def test_each_verdict_has_its_words(fields, words, told):
    one = Finding(claim="a claim", subject="a model", **fields)
    assert value(one) == words
    assert verdict(one).startswith(told)


@pytest.mark.untyped
@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        ({"verdict": "perhaps"}, ValueError, "'perhaps'"),
        ({"low": 1.0, "high": 0.0}, ValueError, "low 1 of a Finding: expected at most high, 0"),
        ({"p": 1.5}, ValueError, "1.5"),
        ({"claim": ""}, ValueError, "claim"),
        ({"n": "three"}, TypeError, "three"),
    ],
)
def test_a_wrong_field_is_refused(wrong, error, message):
    with pytest.raises(error, match=message):
        Finding(**{"claim": "a claim", "subject": "a model", "verdict": "supported"} | wrong)


def test_of_estimate_keeps_the_reason_only_where_nothing_was_tested():
    estimate = seeds.mean_ci(np.array([1.0, 2.0, 3.0]))
    tested = of_estimate("a claim", "a model", estimate, verdicts.significance("a claim", estimate.p, "1.00"))
    assert (tested.verdict, tested.reason, tested.n) == ("not significant", "", 3)
    assert (tested.estimate, tested.low, tested.high) == (estimate.mean, estimate.low, estimate.high)
    alone = seeds.mean_ci(np.array([1.0]))
    untested = of_estimate("a claim", "a model", alone, verdicts.significance("a claim", alone.p))
    assert (untested.verdict, untested.reason) == ("not measured", "fewer than two seeds")


def test_csv_has_a_line_per_finding_and_no_cell_that_a_spreadsheet_computes():
    hostile = Finding(claim='=HYPERLINK("x")', subject="@model, with a comma", verdict="not measured", unit="-1")
    rows = list(csv.DictReader(io.StringIO(as_csv([SOLID, hostile]))))
    assert [row["verdict"] for row in rows] == ["supported", "not measured"]
    assert float(rows[0]["estimate"]) == SOLID.estimate
    assert rows[0]["low"] == "0.9"
    assert (rows[1]["claim"], rows[1]["subject"], rows[1]["unit"]) == (
        '\'=HYPERLINK("x")',
        "'@model, with a comma",
        "'-1",
    )
    assert rows[1]["estimate"] == rows[1]["p"] == ""


def test_the_first_screen_takes_the_first_findings_of_each_question_in_turn():
    def named(question, number):
        return Finding(question=question, claim=f"{question}{number}", subject="m", verdict="supported")

    several = [named("a", at) for at in range(9)] + [named("b", at) for at in range(2)]
    assert [one.claim for one in leading(several)] == ["a0", "a1", "a2", "b0", "b1"]
    assert [one.claim for one in leading(several[:9])] == ["a0", "a1", "a2", "a3", "a4"]
    unclear = Finding(claim="c", subject="m", verdict="not significant", estimate=1.0, p=0.0516, comparisons=8)
    assert table([unclear], short=True)[1][0][2] == "not significant (corrected p = 0.052)"
    header, rows = table(leading(several), short=True)
    assert header[0] == "claim"
    assert len(rows) == 5


def test_findings_of_a_folder_are_those_of_its_record(tmp_path):
    record = {"findings": [{"claim": "c", "subject": "m", "verdict": "exact", "estimate": 0.0, "low": None}]}
    (tmp_path / "record.json").write_text(json.dumps(record))
    (one,) = findings(tmp_path)
    assert (one.claim, one.estimate, math.isnan(one.low)) == ("c", 0.0, True)


@pytest.mark.untyped
@pytest.mark.parametrize(
    "listed",
    [
        ["a sentence of an earlier version"],
        None,
        [{"claim": "c"}],
        [{"claim": "c", "subject": "m", "verdict": "exact", "unknown": 1}],
        [{"claim": 3, "subject": "m", "verdict": "exact"}],
    ],
)
def test_a_record_without_findings_as_data_is_refused_with_a_remedy(listed, tmp_path):
    (tmp_path / "record.json").write_text(json.dumps({"findings": listed}))
    with pytest.raises(ValueError, match="record.json .*measure it again, or draw it again with --from"):
        findings(tmp_path)


@pytest.mark.untyped
def test_a_warning_without_text_is_refused():
    with pytest.raises(ValueError, match="text"):
        StudyWarning("lab/gpt2", "few prompts", "")


def test_contrasts_are_findings_with_the_significant_ones_first():
    measure = {
        "far": Measure("far accuracy", "share", lambda result: result["far"]),
        "near": Measure("near accuracy", "share", lambda result: result["near"]),
    }

    def variant(name, far, near):
        result = xr.Dataset({"far": ("seed", far), "near": ("seed", near)}, coords={"seed": [0, 1, 2]})
        return Variant(neolens.anatomy(name), result)

    variants = [
        variant("lab/gpt-neo-global", [0.9, 0.91, 0.92], [0.5, 0.6, 0.4]),
        variant("lab/gpt-neo", [0.1, 0.1, 0.1], [0.4, 0.6, 0.5]),
    ]
    far, near = of_contrasts(contrasts.contrasts(variants, measure, "attention"), question="q", figure="f")
    assert (far.claim, far.verdict, far.comparisons, far.unit) == ("far accuracy differs", "supported", 2, "share")
    assert (near.claim, near.verdict) == ("near accuracy differs", "not significant")
    assert far.estimate == pytest.approx(-0.81)
    assert far.subject == "lab/gpt-neo - lab/gpt-neo-global"
    assert (far.question, far.figure) == ("q", "f")
    assert far.p == pytest.approx(2 * seeds.mean_ci(np.array([-0.8, -0.81, -0.82])).p)
