"""What verdicts, records, sentences, tables and files refuse: each in one line that names the value and what was
expected, before anything is written."""

import os
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr

import neolens
from neolens import files, metrics, near_far, netcdf, processes, report, views
from neolens.checking import Line
from neolens.checks.annotations import check_as
from neolens.patching.effects import ranked
from neolens.prompts.families.random_induction import random_induction
from neolens.results import check_result
from neolens.stats import contrasts, verdicts
from neolens.stats.seeds import Estimate
from neolens.studies import store
from neolens.studies.compare import summary
from neolens.studies.compare import tables as compare_tables
from neolens.studies.compare.found import Found
from neolens.studies.compare.measures import split_of
from neolens.studies.head_ablation import findings as need_findings
from neolens.studies.head_ablation import summary as need_summary
from neolens.studies.head_ablation import tables as need_tables
from neolens.studies.induction import findings as induction_findings
from neolens.studies.induction import formation
from neolens.studies.induction import measure as induction_measure
from neolens.studies.induction.summary import CorrectedEstimate, Induction, estimate_all, formation_lengths, nearest
from neolens.studies.ioi import findings as ioi_findings
from neolens.studies.ioi import tables as ioi_tables
from neolens.studies.ioi.published import ROLES, Role, compared, published
from neolens.studies.ioi.summary import Circuit, solves
from neolens.studies.local_vs_global import findings as attention_findings
from neolens.studies.local_vs_global import tables as attention_tables
from neolens.studies.rotary_vs_absolute.measure import Texts, probe
from neolens.studies.window_reach import arrivals
from neolens.studies.window_reach import findings as reach_findings
from neolens.studies.window_reach import tables as reach_tables

pytestmark = pytest.mark.untyped

LEVELS = verdicts.Levels("m", [1.0], "loss", 5)
SHARES = {"shares": np.zeros((1, 1, 2)), "significant": np.zeros((1, 1, 2), bool), "answers": np.ones((1, 1), bool)}
GPT2 = neolens.anatomy("lab/gpt2")


VARIANT = contrasts.Variant(GPT2, xr.Dataset({"a": ("seed", [1.0])}, coords={"seed": [0]}))
ESTIMATE, VERDICT = Estimate(1.0, 0.5, 1.5, 3, 0.01), verdicts.Verdict("c", "exact", "r")
REPEATED = torch.tensor([[1, 2, 3, 4, 5, 6, 2, 3, 4, 5, 6]])
ABLATED = xr.Dataset(
    {"ablated": (("group", "prompt", "pos"), np.ones((1, 1, 1))), "baseline": (("prompt", "pos"), np.ones((1, 1)))},
    coords={"group": ["0.0"], "length": ("prompt", [19])},
)
TOKENS = SimpleNamespace(tokenizer=None, anatomy=GPT2)
SCORES = xr.DataArray(np.ones((1, 2)), dims=("layer", "head"), coords={"layer": [0], "head": [0, 1]}, name="share")


def seeded(result):
    return result["a"]


def measured(function):
    variant = contrasts.Variant(GPT2, xr.Dataset({"a": ("seed", [1.0])}))
    return variant.estimate(contrasts.Measure("t", "u", function))


def arriving(**changed):
    asked = {"distances": [16], "seeds": [0], "restricted_to": "r", **SHARES}
    return verdicts.arrives_through(**{**asked, **changed})


def controls(**changed):
    asked = {"heads": "h", "count": 1, "effect": 1.0, "more": 1.0, "p": 0.1, "where": "w", "controls": 3}
    return verdicts.more_than_controls(**{**asked, **changed})


# Name -> (call, what its message holds).
REFUSED = {
    "a claim that is no text": (lambda: verdicts.Verdict(3, "exact", ""), ["claim of Verdict 3", "string"]),
    "an empty claim": (lambda: verdicts.Verdict(" ", "exact", ""), ["claim of Verdict ' '", "not empty"]),
    "another status": (lambda: verdicts.Verdict("c", "exac", ""), ["'exac'", "did you mean exact", "not measured"]),
    "a reason that is None": (lambda: verdicts.Verdict("c", "exact", None), ["reason of Verdict None", "string"]),
    "distances that are no whole numbers": (
        lambda: verdicts.NeededLayers((1, 2.5), {}, "exact", "r"),
        ["distances of NeededLayers[1] 2.5", "whole number"],
    ),
    "values that are text": (lambda: verdicts.Levels("m", ["a"], "loss", 5), ["values of Levels[0] 'a'", "number"]),
    "values that are a string": (lambda: verdicts.Levels("m", "12", "loss", 5), ["'12'", "list of numbers"]),
    "another scale": (lambda: verdicts.Levels("m", [1.0], "losses", 5), ["'losses'", "did you mean loss"]),
    "no candidates": (lambda: verdicts.Levels("m", [1.0], "loss", 0), ["candidates of Levels 0", "at least 1"]),
    "a value that does not exist": (lambda: LEVELS.bound(4), ["no value 4", "0 to 0"]),
    "a limit of None": (lambda: verdicts.limit(None, "loss", 5), ["value None", "number"]),
    "a limit of True": (lambda: verdicts.limit(True, "loss", 5), ["value True", "number"]),
    "candidates of a limit": (lambda: verdicts.limit(1.0, "loss", -3), ["candidates -3", "at least 1"]),
    "levels that are a list": (lambda: verdicts.limited("c", [1], LEVELS, [0.1]), ["one [1]", "Levels"]),
    "differences of other seeds": (
        lambda: verdicts.limited("c", LEVELS, LEVELS, [0.1, 0.2]),
        ["2 differences, 1 values of m"],
    ),
    "deviations that are a list": (lambda: verdicts.exact_by_construction("c", [0.0]), ["[0.0]", "mapping"]),
    "deviations of text": (lambda: verdicts.exact_by_construction("c", {"m": ["0"]}), ["deviations['m'][0] '0'"]),
    "a deviation without a list": (lambda: verdicts.exact_by_construction("c", {"m": 0}), ["deviations['m'] 0"]),
    "a model without a name": (lambda: verdicts.exact_by_construction("c", {3: [0.0]}), ["a name in deviations 3"]),
    "a p above 1": (lambda: verdicts.significance("c", 1.5), ["p 1.5", "from 0 to 1", "NaN"]),
    "a negative p": (lambda: verdicts.significance("c", -0.1), ["p -0.1", "from 0 to 1"]),
    "a p that is text": (lambda: verdicts.significance("c", "0.01"), ["p '0.01'", "number"]),
    "an effect that is a number": (lambda: verdicts.significance("c", 0.01, 3), ["effect 3", "string"]),
    "names of other effects": (
        lambda: verdicts.strongest("w", ["a"], [1.0, 2.0], [0.1]),
        ["1 names, 2 effects, 1 p", "as many"],
    ),
    "effects of other p": (lambda: verdicts.largest_significant([1.0], [0.1, 0.2]), ["1 effects, 2 p"]),
    "effects that are None": (lambda: verdicts.largest_significant(None, [0.1]), ["effects None", "list of numbers"]),
    "a count of heads": (lambda: controls(count=-1), ["count -1", "at least 0"]),
    "controls that are a fraction": (lambda: controls(controls=1.5), ["controls 1.5", "whole number"]),
    "more that is None": (lambda: controls(more=None), ["more None", "number"]),
    "shares that are text": (lambda: verdicts.needed_layers("x", [True]), ["shares 'x'", "array of numbers"]),
    "shares of another shape": (
        lambda: verdicts.needed_layers(np.zeros(2), np.zeros(3, bool)),
        ["significant of shape (3,)", "(2)"],
    ),
    "significant that are numbers": (
        lambda: verdicts.needed_layers([0.5], [0.5]),
        ["significant [0.5]", "array of True and False"],
    ),
    "more distances than shares": (lambda: arriving(distances=[1, 2]), ["answers of shape (1, 1)", "(1, 2)"]),
    "shares of two axes": (lambda: arriving(shares=np.zeros((1, 2))), ["shares of shape (1, 2)", "(1, 1, any)"]),
    "seeds of needed layers that are text": (
        lambda: verdicts.NeededLayers((1,), {(2,): "0"}, "supported", ""),
        ["seeds of NeededLayers", "'0'"],
    ),
    "a threshold that is text": (lambda: verdicts.at_least("0.9", 0.1, 0.2), ["least '0.9'", "number"]),
    "shares on no device": (lambda: arriving(shares=torch.zeros(1, 1, 2, device="meta")), ["shares", "numbers"]),
    "a shift that is text": (lambda: verdicts.shift_changes_output("x", 0.1, 3, relative=True), ["kl 'x'", "number"]),
    "a shift by half": (lambda: verdicts.shift_changes_output(0.1, 0.1, 2.5, relative=True), ["by 2.5", "whole"]),
    "a negative distance": (lambda: near_far.NearFar(-1, ""), ["tokens of NearFar -1", "at least 0"]),
    "an owner that is a number": (lambda: near_far.NearFar(3, 4), ["owner of NearFar 4", "string or None"]),
    "windows that are a list": (lambda: near_far.near_far(16, [16]), ["windows [16]", "mapping from strings"]),
    "windows that are a number": (lambda: near_far.near_far(16, {"m": 16}), ["windows['m'] 16", "list"]),
    "anatomies that are names": (
        lambda: near_far.of_anatomies(16, ["lab/gpt2"]),
        ["anatomies[0] 'lab/gpt2'", "Anatomy"],
    ),
    "no results": (lambda: near_far.of_results([]), ["results []", "at least one"]),
    "results without a window": (lambda: near_far.of_results([xr.Dataset({"a": 1.0})]), ["results[0]", "window"]),
    "scores that are None": (lambda: attention_tables.exact_checks(None), ["scores None", "mapping"]),
    "scores that are a dataset": (lambda: attention_tables.check_table(xr.Dataset()), ["scores", "mapping"]),
    "scores of another kind": (
        lambda: attention_tables.kind_table({"m": xr.Dataset({"a": 1.0})}, 16),
        ["scores['m'] without attention_kind"],
    ),
    "a window of 0": (lambda: attention_findings.warnings({}, 0), ["window 0", "at least 1"]),
    "one repeat length": (lambda: attention_tables.copy_table({}, (16,)), ["lengths (16,)", "2 values"]),
    "a law that is text": (
        lambda: attention_tables.exact_checks({"m": xr.Dataset(attrs={"mass_out_of_reach": "x"})}),
        ["mass_out_of_reach", "'x'"],
    ),
    "a contrast of nothing": (
        lambda: contrasts.Contrast("m", None, None, None, "position", None, 0.1, None),
        ["what of Contrast None"],
    ),
    "a circuit of None": (lambda: Circuit(None, {}), ["result of Circuit None", "xarray.Dataset"]),
    "a circuit without sites": (
        lambda: Circuit(xr.Dataset({"clean": ("prompt", [1.0]), "corrupted": ("prompt", [0.0])}), {}),
        ["shares of Circuit without resid_pre"],
    ),
    "roles of no head": (lambda: Role("n", "9.9"), ["heads of Role '9.9'", "list of strings"]),
    "heads published of a name": (lambda: published("gpt2"), ["facts 'gpt2'", "Anatomy"]),
    "sites that are missing": (lambda: compared({}, list(ROLES)), ["by_site without q"]),
    "groups of a name": (lambda: need_summary.group_of("lab/gpt2", "local", GPT2), ["facts 'lab/gpt2'", "Anatomy"]),
    "another kind of layer": (lambda: need_summary.group_of(GPT2, "locl", GPT2), ["'locl'", "did you mean local"]),
    "repeats of no length": (lambda: need_summary.by_repeat({}), ["results {}", "at least one"]),
    "repeats of length 0": (lambda: need_summary.by_repeat({0: xr.Dataset()}), ["a name in results 0", "at least 1"]),
    "a network without parts": (lambda: Found({}), ["networks {}", "at least one"]),
    "parts that are None": (lambda: Found({0: None}), ["networks of Found[0] None", "mapping"]),
    "a part that is a number": (lambda: Found({0: {"attention": 3}}), ["'attention'", "3", "Dataset"]),
    "a network kept without results": (
        lambda: store.write({}, files.Path("/nowhere/a.nc"), {}),
        ["parts {}", "results of a network"],
    ),
    "no stamps": (lambda: store.read_all({}), ["stamps {}", "at least one"]),
    "a line of a check": (lambda: Line("w", "f", "b", "yes"), ["holds of Line 'yes'", "True or False"]),
    "tasks that are no tuples": (lambda: list(processes.run_tasks(max, [1], 1)), ["tasks[0] 1", "tuple"]),
    "no process": (lambda: list(processes.run_tasks(max, [(1, 2)], 0)), ["processes 0", "at least 1"]),
    "a task that is no function": (lambda: list(processes.run_tasks("max", [(1, 2)], 1)), ["do 'max'", "function"]),
    "JSON of None": (lambda: report.as_json(None), ["record None", "mapping"]),
    "JSON of an object": (lambda: report.as_json({"a": object()}), ["record", "not JSON serializable", "expected"]),
    "JSON of a set": (lambda: report.as_json({"a": {1}}), ["record", "set", "expected"]),
    "JSON of a dataset": (lambda: report.as_json(xr.Dataset()), ["record", "mapping"]),
    "a file of bytes": (lambda: files.write_whole(b"a", print), ["path b'a'", "expected a path"]),
    "a file without a writer": (lambda: files.write_whole("a", None), ["write None", "function"]),
    "a file with a NUL": (lambda: files.read_json("a\0"), ["path", "name of a file"]),
    "a file with half a character": (lambda: files.write_whole("\ud800", print), ["path", "name of a file"]),
    "a folder with half a character": (lambda: files.writable_folder("\ud800"), ["out folder", "no text"]),
    "a checksum of text": (lambda: files.with_checksum("a"), ["content 'a'", "bytes"]),
    "groups that are None": (lambda: netcdf.write(None, "a.nc"), ["groups None", "mapping"]),
    "a group that is a number": (lambda: netcdf.write({"/": 3}, "a.nc"), ["groups['/'] 3", "Dataset"]),
    "words of None": (lambda: random_induction(None), ["model None", "neolens.load"]),
    "more prompts than any machine holds": (lambda: random_induction(TOKENS, 10**30), ["prompts 1", "100000"]),
    "a distance of None": (lambda: random_induction(TOKENS, 2, distance=None), ["distance None", "whole number"]),
    "a distance beyond the context": (lambda: random_induction(TOKENS, 2, distance=10**6), ["1000000", "at most 127"]),
    "a share of text": (lambda: ranked(SCORES.astype(str)), ["share: share", "expected numbers"]),
    "heads with other names": (lambda: ranked(SCORES.assign_coords(head=["a", "b"])), ["share: head", "numbers"]),
    "a measure that returns a number": (lambda: measured(lambda result: 3), ["value of 't'", "3", "per seed"]),
    "a measure without seeds": (lambda: measured(lambda result: result["a"].sum()), ["no axes", "axis seed"]),
    "a call without arguments": (verdicts.limit, ["limit(): missing a required argument", "value"]),
    "an argument that no function has": (lambda: verdicts.limit(1.0, "loss", 5, zcale=1), ["limit()", "'zcale'"]),
    "a measure that reads what is not there": (lambda: measured(lambda result: result["b"]), ["value of 't'", "'b'"]),
    "a measure of two arguments": (
        lambda: contrasts.Measure("t", "u", lambda one, other: None),
        ["of of a Measure", "function", "'other'"],
    ),
    "candidates that are text": (
        lambda: contrasts.Variant(GPT2, xr.Dataset(attrs={"candidates": "x"})).candidates,
        ["candidates of lab/gpt2 'x'", "whole number"],
    ),
    "seeds that a variant has not": (
        lambda: VARIANT.levels(contrasts.Measure("t", "u", seeded, end=seeded), xr.DataArray([7])),
        ["of_seeds holds 7", "[0]"],
    ),
    "a probability above 1": (
        lambda: contrasts.Contrast(
            "m", contrasts.Measure("t", "u", seeded), VARIANT, VARIANT, "position", ESTIMATE, 2.0, VERDICT
        ),
        ["p_adjusted of Contrast 2.0", "from 0 to 1"],
    ),
    "a mean of no estimate": (lambda: CorrectedEstimate(3, "seeds"), ["estimate of CorrectedEstimate 3", "Estimate"]),
    "a mean over layers": (
        lambda: CorrectedEstimate(ESTIMATE, "layers"),
        ["sample of CorrectedEstimate 'layers'", "seeds"],
    ),
    "a result that is none": (lambda: Induction(GPT2, 16, xr.Dataset()), ["result of Induction without", "induction"]),
    "a milestone at half a step": (lambda: formation.Milestone(1.5), ["step of Milestone 1.5", "whole number"]),
    "a formation of text": (lambda: formation.Formation("a", 16, {}), ["model of Formation 'a'", "Induction"]),
    "an unknown milestone": (
        lambda: formation.passes("caus", CorrectedEstimate(ESTIMATE, "seeds")),
        ["'caus'", "did you mean cause"],
    ),
    "lengths on one side": (lambda: nearest([3, 4], 16), ["3, 4", "both sides of the window of 16"]),
    "no lengths": (lambda: formation_lengths([], 16), ["repeat lengths none", "both sides"]),
    "values by layer": (lambda: estimate_all({"a": SCORES}), ["values['a']", "layer, head", "by prompt"]),
    "values of other numbers of prompts": (
        lambda: estimate_all({"a": xr.DataArray([1.0], dims="prompt"), "b": xr.DataArray([1.0, 2.0], dims="prompt")}),
        ["[1, 2] prompts", "as many"],
    ),
    "no model to compare": (lambda: induction_findings.findings([], {}, []), ["models []", "at least one"]),
    "prompts that are no repeats": (
        lambda: induction_measure.copying(neolens.load("lab/gpt2"), {8: torch.arange(1, 18)[None]}),
        ["repeats[8] of shape (1, 17)", "r_1..r_n", "n = 8"],
    ),
    "checkpoints that are models": (
        lambda: induction_measure.over_training({0: GPT2}, {}),
        ["checkpoints[0]", "function"],
    ),
    "texts that do not repeat": (
        lambda: Texts(*[torch.arange(1, 18)[None]] * 3, (1,)),
        ["repeats of Texts of shape (1, 17)", "r_1..r_n"],
    ),
    "texts of another vocabulary": (
        lambda: probe(neolens.load("lab/gpt2"), Texts(*[REPEATED + 10**6] * 3, (1,))),
        ["repeats of Texts holds token 1000006", "lab/gpt2 has 0 to"],
    ),
    "a head twice": (
        lambda: check_result(SCORES.assign_coords(head=[1, 1]).to_dataset(), "result", ["share"]),
        ["result: head 1 twice", "each once"],
    ),
    "a layer that is NaN": (
        lambda: check_result(SCORES.assign_coords(layer=[np.nan]).to_dataset(), "result", ["share"]),
        ["result: layer is NaN", "expected the result"],
    ),
    "layers that have names": (
        lambda: check_result(SCORES.assign_coords(layer=["x"]).to_dataset(), "result", ["share"]),
        ["result: layer 'x' is no number"],
    ),
    "groups without names": (
        lambda: check_result(ABLATED.drop_vars("group"), "result", ["ablated"]),
        ["axis group without labels", "coordinates kept"],
    ),
    "a negative layer": (
        lambda: check_result(SCORES.assign_coords(layer=[-1]).to_dataset(), "result", ["share"]),
        ["result: layer -1 is below 0"],
    ),
    "another kind of attention": (
        lambda: check_result(
            SCORES.assign_coords(attention_kind=("layer", ["wide"])).to_dataset(), "result", ["share"]
        ),
        ["attention_kind 'wide'", "global nor local"],
    ),
    "a window that is a word": (
        lambda: check_result(SCORES.assign_coords(window=("layer", ["wide"])).to_dataset(), "result", ["share"]),
        ["window ['wide']", "from 1 on"],
    ),
    "repeats with another axis": (
        lambda: need_summary.by_repeat({9: ABLATED.expand_dims(metric=["loss"])}),
        ["results[9]: ablated by metric", "choose one metric"],
    ),
    "a table that raises": (
        lambda: report.page("t", [report.Figure(views.View("", "", "", table=lambda: 1 / 0))]),
        ["table of a View raises ZeroDivisionError"],
    ),
    "a table that is a number": (
        lambda: report.page("t", [report.Figure(views.View("", "", "", table=lambda: 3))]),
        ["table of a View returns 3", "pandas.DataFrame"],
    ),
    "a cell that no float can hold": (lambda: report.Table(["a"], [[10**400]]), ["row 0", "a float can hold"]),
    "a metric of no argument": (lambda: metrics.of_function(lambda: 3), ["metric", "function of logits"]),
    "a metric that is a class": (lambda: metrics.of_function(dict), ["metric", "function of logits"]),
    "a deep record": (lambda: report.as_json({"a": nested(5000)}), ["record", "nested too deeply"]),
}

SENTENCES = [
    *(reach_findings.answered, reach_findings.layers_needed, reach_findings.hops),
    *(reach_findings.warnings, need_findings.warnings),
    *(need_tables.head_table, need_tables.kind_table, need_tables.drawn, need_summary.labelled),
    *(solves, ioi_findings.of_model, ioi_findings.warnings, ioi_tables.head_table, ioi_tables.published_table),
]
LISTS = [
    *(reach_findings.findings, reach_tables.recall_table, ioi_tables.task_table),
    *(summary.attentions, summary.contrasted, compare_tables.kind_table, compare_tables.strongest_table),
    *(split_of,),
]
WRONG = {"None": None, "a number": 3, "text": "found", "an array": np.zeros((2, 2)), "a dataset": xr.Dataset()}


def nested(depth):
    value = {}
    for _ in range(depth):
        value = {"a": value}
    return value


def one_line(error, *facts):
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 320
    assert all(fact in str(error.value) for fact in facts), str(error.value)


@pytest.mark.parametrize("name", REFUSED)
def test_wrong_values_are_refused_in_one_line(name):
    call, facts = REFUSED[name]
    with pytest.raises((TypeError, ValueError)) as error:
        call()
    one_line(error, *facts)


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("of", SENTENCES, ids=lambda function: f"{function.__module__}.{function.__name__}")
def test_what_is_told_of_one_result_takes_no_other_thing(of, wrong):
    with pytest.raises(TypeError, match="expected a neolens") as error:
        of(WRONG[wrong])
    one_line(error)


@pytest.mark.parametrize("wrong", [*WRONG, "a list"])
@pytest.mark.parametrize("of", LISTS, ids=lambda function: f"{function.__module__}.{function.__name__}")
def test_what_is_told_of_several_results_takes_no_other_thing(of, wrong):
    with pytest.raises(TypeError, match=r"found(\[0\])? .*: expected a (list of )?neolens") as error:
        of({**WRONG, "a list": [3]}[wrong])
    one_line(error)


def test_the_layers_of_an_arrival_are_asked_of_carriers_alone():
    with pytest.raises(TypeError, match="found .*: expected a neolens.studies.window_reach.summary.Carriers"):
        arrivals.arrivals(SimpleNamespace(tasks=["recall"]), "recall")


@pytest.mark.parametrize(
    ("record", "page"), [({"a": object()}, "page"), ({}, None), ({}, b"page")], ids=["record", "no page", "bytes"]
)
def test_nothing_is_written_of_what_cannot_be_published(record, page, tmp_path):
    with pytest.raises(TypeError):
        report.publish(tmp_path / "new" / "folder", xr.Dataset(), record, page)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("folder", [None, 3, "", b"results", "\ud800", "file/results"])
def test_nothing_is_written_into_what_is_no_folder(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("x")
    with pytest.raises((TypeError, ValueError)) as error:
        report.publish(folder, xr.Dataset(), {}, "page")
    one_line(error, "expected")
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize(
    ("value", "hint", "same"),
    [
        (np.int64(3), int, 3),
        (torch.tensor(3), int, 3),
        (np.float32(0.5), float, 0.5),
        (3, float, 3),
        (float("nan"), float, None),
        (np.bool_(True), bool, True),
        ((1, 2), list[int], (1, 2)),
        (range(2), tuple[int, ...], (0, 1)),
        (np.array([1, 2]), list[int], [1, 2]),
        (None, int | None, None),
    ],
)
def test_what_can_only_mean_one_thing_is_accepted(value, hint, same):
    checked = check_as(value, "value", hint)
    assert checked != checked if same is None and value is not None else checked == same


def test_an_argument_of_any_type_is_left_to_the_function():
    assert check_as({"a": object}, "value", dict[str, Any]) == {"a": object}
