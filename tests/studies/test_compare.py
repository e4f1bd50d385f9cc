"""The whole question in one report: what it keeps, that its numbers are the instruments', that it redraws, what it
refuses."""

import csv
import dataclasses
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import browser
import neolens
import shell
from browser import Parsed
from neolens import report, results
from neolens.models import anatomy, from_record, load
from neolens.processes import run_tasks
from neolens.studies import models as study_models
from neolens.studies import record as study_record
from neolens.studies import runner, store
from neolens.studies.compare import findings as answers
from neolens.studies.compare import sections
from neolens.studies.compare import study as job
from neolens.studies.compare.figures import accuracy_by_distance
from neolens.studies.compare.found import Found
from neolens.studies.compare.measures import measures, mixed, numbers
from neolens.studies.digest import digest
from neolens.studies.study import Measured, Summary

MODELS = ("lab/gpt-neo@1", "lab/gpt-neo-global@1", "lab/pythia-sequential@1", "lab/gpt2@1")
ARGUMENTS = ("--models", *MODELS, "--prompts", "8", "--draws", "3")


def call(*arguments):
    """Run the study as from the shell; its exit code."""
    return shell.call(job.STUDY, *arguments)


def configured(models, out):
    return job.Config(models=models, prompts=8, draws=3, out=str(out))


def prepared(config):
    return job.prepare(config, study_models.read_models(config, "all"))


def measured_of(by_model, inputs=None):
    """What the report is made of, from the parts of one network of each model."""
    anatomies = tuple(from_record(each["attention"].attrs["anatomy"]) for each in by_model.values())
    by_seed = {facts.name: {1: each} for facts, each in zip(anatomies, by_model.values())}
    return Measured(job.Config(), anatomies, by_seed, {"window": 16}, inputs or {}, [], "command")


def page_of(measured, saved):
    """The report, and the checks that failed."""
    content = job.STUDY.summarise(measured)
    checks = list(job.STUDY.exact_checks(measured, content))
    page = runner.page(job.STUDY, measured, content, checks, saved)
    return page, [check for check in checks if not check.passes]


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """The folder that the study wrote for four networks, few prompts."""
    out = tmp_path_factory.mktemp("job") / "out"
    assert call(*ARGUMENTS, "--out", out) == 0
    return out


@pytest.fixture(scope="module")
def record(done):
    return json.loads((done / "record.json").read_text())


@pytest.fixture(scope="module")
def parts(done):
    """Network -> part -> result."""
    return {name: results.load_parts(store.path_of(done, name)) for name in MODELS}


@pytest.fixture(scope="module")
def html(done):
    return (done / "report.html").read_text(encoding="utf-8")


# What it keeps -----------------------------------------------------------------------------------------------


def test_it_keeps_every_network_a_record_and_a_report(done):
    assert sorted(file.name for file in done.iterdir()) == ["findings.csv", "networks", "record.json", "report.html"]
    kept = sorted(file.name for file in (done / "networks").iterdir())
    assert kept == [f"{name.replace('/', '-')}.nc" for name in sorted(MODELS)]


def test_what_is_kept_of_a_network_is_what_the_instruments_give(parts):
    model, its = load("lab/gpt-neo@1"), parts["lab/gpt-neo@1"]
    tokens = prepared(configured(MODELS, "results/new")).prompts["lab/gpt-neo@1"].tokens
    scores = neolens.attention(model, tokens.text, scores=["mean_distance"])
    np.testing.assert_array_equal(its["attention"]["mean_distance"], scores["mean_distance"])
    groups = {"global": [(layer, head) for layer in (0, 2) for head in range(4)]}
    ablated = neolens.ablate(model, tokens.text, groups, progress=False)["ablated"]
    np.testing.assert_allclose(its["ablation_text"]["ablated"].sel(group="global"), ablated[0], atol=1e-5)
    assert its["attention"].attrs["fingerprint"] == neolens.fingerprint(model)


def test_the_patterns_that_are_shown_are_those_of_the_most_inductive_heads_of_each_kind(parts):
    its = parts["lab/gpt-neo@1"]
    scores = its["attention"]["induction"].mean("prompt")
    for kind in ("global", "local"):
        of_kind = scores.isel(layer=its["attention"]["attention_kind"].values == kind).stack(at=("layer", "head"))
        best = {f"{layer}.{head}" for layer, head in of_kind.sortby(of_kind)["at"].values[-2:]}
        shown = [str(name).split()[0] for name in its["patterns"]["group"].values if kind in str(name)]
        assert set(shown) == best
    np.testing.assert_allclose(its["patterns"]["pattern"].sum("key_pos"), 1, atol=1e-5)


def test_the_record_tells_settings_weights_and_versions(record):
    assert record["config"]["models"] == list(MODELS)
    assert record["config"]["prompts"] == 8
    assert record["fingerprints"]["lab/gpt2@1"] == neolens.fingerprint(load("lab/gpt2@1"))
    assert record["versions"]["neolens"] == neolens.__version__
    assert record["checks_pass"] is True
    assert {check["subject"] for check in record["exact_checks"]} == {"lab/gpt-neo@1"}
    assert all(record["inputs"][name]["left_out"] == {} for name in MODELS)


# Its numbers --------------------------------------------------------------------------------------------------


def test_differences_are_those_of_the_pair_that_differs_in_one_thing(record, parts):
    pairs = {(one["first"], one["second"]) for one in record["contrasts"]}
    assert pairs == {("lab/gpt-neo@1", "lab/gpt-neo-global@1"), ("lab/pythia-sequential@1", "lab/gpt2@1")}
    assert all(one["differ_in"] == [] and one["n"] == 1 for one in record["contrasts"])
    by_measure = {one["measure"]: one for one in record["contrasts"]}
    here, there = (
        parts[name]["attention"]["copied_beyond"].mean() for name in ("lab/gpt-neo@1", "lab/gpt-neo-global@1")
    )
    assert by_measure["copied_beyond"]["mean"] == pytest.approx(float(here - there))


def test_measures_are_read_out_of_what_was_measured(parts):
    found = [Found({1: parts[name]}) for name in MODELS]
    alternating = mixed([one.anatomy for one in found])
    assert alternating.name == "lab/gpt-neo@1"
    neo, plain = (numbers(one, alternating).result.isel(seed=0) for one in found[:2])
    cut = parts["lab/gpt-neo-global@1"]["ablation_cut"].sel(distance=31)
    group = "layers 1, 3 (local in lab/gpt-neo@1)"
    effect = (cut["ablated"].sel(group=group) - cut["baseline"]).mean()
    assert float(plain["cut_local"]) == pytest.approx(float(effect), abs=1e-6)
    assert float(neo["cut_local"]) == 0  # cut at the window that they have anyway
    distance = parts["lab/gpt-neo@1"]["attention"]["mean_distance"]
    assert float(neo["distance"]) == pytest.approx(float(distance.mean()))
    assert set(neo.data_vars) == set(measures(alternating))


def test_what_ends_at_chance_level_or_is_fixed_by_an_architecture_is_not_compared(record):
    """Without layers 0 and 2 both networks guess among the 193 words that sequences are drawn from: ln 193 = 5.26."""
    rows = {row["measure"]: row for row in record["contrasts"] if row["first"] == "lab/gpt-neo@1"}
    beyond, cut = rows["beyond_global"], rows["cut_local"]
    assert (beyond["status"], beyond["p_adjusted"]) == ("not measured", None)
    assert beyond["reason"].startswith("ends at chance level in lab/gpt-neo@1")
    assert (cut["status"], cut["p_adjusted"]) == ("exact", None)
    ablated = finding("ablating all global layers raises the loss on answers beyond", record)
    assert (ablated["verdict"], ablated["reason"], ablated["p"]) == ("not measured", "ends at chance level", None)


def finding(claim, record, subject="lab/gpt-neo@1"):
    """The one finding of a record whose claim begins so."""
    (row,) = (row for row in record["findings"] if row["claim"].startswith(claim) and row["subject"] == subject)
    return row


def test_local_layers_have_exactly_no_attention_beyond_the_window(record):
    row = finding("no attention of local layers lies beyond the window", record)
    assert (row["verdict"], row["estimate"], row["question"]) == ("exact", 0.0, answers.LOCAL)


def test_attention_beyond_the_window_contradicts_the_claim(parts):
    broken = dict(parts["lab/gpt-neo@1"])
    scores = broken["attention"]
    local = (scores["attention_kind"] == "local") & (scores["distance"] == 20)
    broken["attention"] = scores.assign(mass_by_distance=scores["mass_by_distance"].where(~local, 0.25))
    row, *_ = answers.findings([Found({1: broken})], ([], []))
    assert row.verdict == "contradicted"
    assert row.estimate > 0
    assert row.headline.startswith("Local layers attend beyond their window, which is impossible")


def test_what_ablating_layers_of_a_kind_adds_is_the_mean_of_the_loss_with_less_that_without(record, parts):
    text, far = (parts["lab/gpt-neo@1"]["ablation_text"], parts["lab/gpt-neo@1"]["ablation_repeats"].sel(distance=31))
    for kind in ("local", "global"):
        for result, place in ((text, "on text"), (far, "on answers beyond the window")):
            effect = float((result["ablated"].sel(group=kind) - result["baseline"]).mean())
            row = finding(f"ablating all {kind} layers raises the loss {place}", record)
            assert row["estimate"] == pytest.approx(effect, abs=1e-6)
            assert row["verdict"] == "not measured"  # of a single network


RESTRICTED = "induction: restricting every layer to the window removes 90% or more of the source token's effect"


def test_restricting_every_layer_removes_the_effect_of_the_source_token(record, parts):
    reach = parts["lab/gpt-neo@1"]["reach"].sel(distance=[16, 32, 64], seed=1)
    effect = (reach["clean"] - reach["corrupted"]).mean("prompt")
    removed = 1 - (reach["all_local"].mean("prompt") / effect)
    row = finding(RESTRICTED, record)
    assert row["verdict"] == "supported"
    assert min(abs(removed.values - row["estimate"])) < 1e-6
    assert 0.9 < row["low"] <= row["estimate"] <= row["high"]
    assert (row["n"], row["sample"]) == (8, "prompts")


@pytest.mark.parametrize(("share", "verdict"), [(0.02, "supported"), (0.6, "contradicted")])
def test_what_is_left_decides_whether_global_layers_are_needed(share, verdict, parts):
    made = dict(parts["lab/gpt-neo@1"])
    reach = made["reach"]
    corrupted = reach["clean"] - 5.0
    made["reach"] = reach.assign(corrupted=corrupted, all_local=share * (reach["clean"] - corrupted))
    first, second, *_ = answers.findings([Found({1: made})], ([], []))
    assert (second.claim, second.verdict) == (RESTRICTED, verdict)
    assert ("come through global layers" in first.headline) == (verdict == "supported")
    assert ("is not shown for this model" in first.headline) == (verdict != "supported")


def test_a_network_that_does_not_answer_leaves_the_claim_unmeasured(parts):
    made = dict(parts["lab/gpt-neo@1"])
    made["reach"] = made["reach"].assign(clean=-abs(made["reach"]["clean"]))
    first, second, *_ = answers.findings([Found({1: made})], ([], []))
    assert (second.verdict, second.reason) == ("not measured", "no network answers")
    assert "is not shown for this model" in first.headline


def test_the_headlines_are_short_and_state_both_answers(record):
    headlines = {row["question"]: row["headline"] for row in record["findings"] if row["headline"]}
    assert set(headlines) == {answers.LOCAL, answers.ROTARY}
    assert all(len(headline.split()) <= 25 for headline in headlines.values())
    assert headlines[answers.LOCAL].startswith("Local layers read only the last 16 tokens; answers farther back come")
    assert headlines[answers.ROTARY].startswith("With rotary encoding, shifting every position by 63 changes no predic")


def test_a_headline_does_not_say_more_than_the_verdicts_of_a_shift(parts):
    one, other = Found({1: parts["lab/pythia-sequential@1"]}), Found({1: parts["lab/gpt2@1"]})
    made = {name: part for name, part in parts["lab/pythia-sequential@1"].items()}
    made["positions"] = made["positions"].assign(shift_exact=made["positions"]["shift_exact"] + 0.1)
    headline = answers.findings([Found({1: made}), other], ([], []))
    assert any(row.headline.startswith("Shifting every position by 63 changes predictions by") for row in headline)
    assert any(row.subject == one.name and row.verdict == "contradicted" for row in headline)
    headline = answers.findings([one], ([], []))
    assert any(row.headline == "Not measured: no model here has learned absolute positions." for row in headline)


def test_a_headline_holds_for_every_model_and_not_for_the_first_alone(parts):
    rotary, absolute = (Found({1: parts[name]}) for name in ("lab/pythia-sequential@1", "lab/gpt2@1"))
    made = dict(parts["lab/pythia-sequential@1"])
    facts = json.loads(made["attention"].attrs["anatomy"]) | {"name": "another"}
    made["attention"] = made["attention"].assign_attrs(anatomy=json.dumps(facts))

    def headline(*others):
        listed = answers.findings([rotary, absolute, *others], ([], []))
        return next(row.headline for row in listed if row.question == answers.ROTARY and row.headline)

    assert headline(Found({1: made})) == headline()
    assert "changes no prediction" in headline()
    made["positions"] = made["positions"].assign(shift_exact=made["positions"]["shift_exact"] + 0.1)
    assert "changes no prediction" not in headline(Found({1: made}))


def test_a_shift_is_exact_with_rotary_encoding_and_changes_predictions_of_absolute_positions(record, parts):
    rotary = finding("shifting every position index by 63", record, "lab/pythia-sequential@1")
    assert rotary["verdict"] == "exact"
    absolute = finding("shifting every position index by 63", record, "lab/gpt2@1")
    divergence = float(parts["lab/gpt2@1"]["positions"]["shift_kl"].isel(shift=-1).mean())
    assert absolute["verdict"] == "supported"
    assert absolute["estimate"] == pytest.approx(divergence)


def test_a_failed_exact_check_is_shown_first(parts):
    broken = dict(parts["lab/gpt-neo@1"])
    broken["attention"] = broken["attention"].assign_attrs(mass_out_of_reach=0.25)
    page, failed = page_of(measured_of({"lab/gpt-neo@1": broken}), {})
    assert [check.value for check in failed] == [0.25]
    first = re.search(r'<aside class="warning"><strong>(.*?)</aside>', page, flags=re.DOTALL)
    assert "An exact check failed: lab/gpt-neo@1" in first[1]
    assert first.start() < page.index('class="headline"')


def test_an_exact_check_that_was_not_made_is_not_counted(parts):
    made = dict(parts["lab/gpt-neo@1"])
    made["attention"] = made["attention"].copy()
    complete = list(job.STUDY.exact_checks(*_checked(made)))
    del made["attention"].attrs["mass_out_of_reach"]
    assert len(list(job.STUDY.exact_checks(*_checked(made)))) == len(complete) - 1


def _checked(parts):
    measured = measured_of({"lab/gpt-neo@1": parts})
    return measured, job.STUDY.summarise(measured)


def test_nothing_is_said_of_what_lies_beyond_the_window_on_text_that_does_not_cross_it(parts):
    made = dict(parts["lab/gpt-neo@1"])
    scores = made["attention"]
    made["attention"] = scores.assign_coords(length=("prompt", [16] * scores.sizes["prompt"]))
    row, *_ = answers.findings([Found({1: made})], ([], []))
    assert (row.verdict, row.reason) == ("not measured", "no text is longer than the window")


def test_models_without_local_layers_leave_the_first_question_unanswered(parts):
    found = [Found({1: parts["lab/gpt2@1"]})]
    measured = measured_of({"lab/gpt2@1": parts["lab/gpt2@1"]})
    assert list(job.STUDY.exact_checks(measured, job.STUDY.summarise(measured))) == []
    first, *_ = answers.findings(found, ([], []))
    assert first.headline == "Not measured: no model here has both local and global layers."


def test_findings_csv_and_record_hold_the_same_numbers(done, record):
    rows = list(csv.DictReader((done / "findings.csv").open(encoding="utf-8")))
    assert len(rows) == len(record["findings"])
    for row, recorded in zip(rows, record["findings"], strict=True):
        assert row["verdict"] == recorded["verdict"]
        for name in ("estimate", "low", "high", "p"):
            assert (row[name] == "") == (recorded[name] is None)
            assert row[name] == "" or float(row[name]) == recorded[name]


def test_the_figure_of_the_first_screen_has_a_dotted_line_for_every_model_restricted_to_the_window(parts):
    results = {name: Found({1: parts[name]}).carriers.results["induction"] for name in MODELS}
    figure = accuracy_by_distance(results, order=["lab/gpt2@1"])
    assert figure.data[0].name == "lab/gpt2@1"
    lines = {line.name: line for line in figure.data}
    for name, result in results.items():
        correct = (result["rank"].sel(seed=1) == 0).mean("prompt").values
        np.testing.assert_allclose(lines[name].y, correct)
        restricted = lines[f"{name}, restricted"]
        np.testing.assert_allclose(restricted.y, (result["rank_all_local"].sel(seed=1) == 0).mean("prompt").values)
        assert (lines[name].line.dash, restricted.line.dash) == ("solid", "dot")
    assert len(accuracy_by_distance({f"{name}{copy}": r for copy in "ab" for name, r in results.items()}).data) == 8


# The report ---------------------------------------------------------------------------------------------------


def test_the_report_opens_with_a_summary_and_ends_with_how_to_repeat_it(html):
    page = Parsed(html)
    titles = re.findall(r"<h2[^>]*>([^<]*)", html)
    assert html.index(answers.LOCAL) < html.index(answers.ROTARY) < html.index("<h2")
    assert titles[0] == answers.WINDOW
    assert titles[-1] == "How to repeat this"
    assert len(set(titles)) == len(titles)
    assert f"neolens run compare --models {' '.join(MODELS)} --prompts 8" in page.text
    assert '"fingerprints"' in page.text
    assert len(html) < 5_000_000


def test_the_induction_scores_are_drawn_with_the_length_of_the_sequences_that_they_are_of(parts):
    blocks = list(sections.attention_by_kind([Found({1: parts["lab/gpt-neo@1"]})], ""))
    (folded,) = (block for block in blocks if isinstance(block, report.Folded))
    on_text, on_repeats = folded.blocks[1:3]
    assert "8 prompts of 128 tokens" in on_text.drawing.layout.title.subtitle.text
    assert "8 prompts of 17 tokens" in on_repeats.drawing.layout.title.subtitle.text  # <bos> and 8 tokens, twice
    assert on_repeats.caption.startswith("Repeated after 8 tokens.")


def test_every_finding_of_the_record_stands_in_the_report(html, record):
    text = Parsed(html).text
    assert all(row["claim"] in text and row["subject"] in text for row in record["findings"])
    assert all(row["text"] in text for row in record["warnings"])


def test_the_report_is_drawn_again_from_what_was_kept_without_a_model(done, html, tmp_path, monkeypatch):
    monkeypatch.setattr(neolens.models, "load", lambda *args, **options: pytest.fail("a model was loaded"))
    assert call("--from", done, "--out", tmp_path / "again") == 0
    assert (tmp_path / "again" / "report.html").read_text(encoding="utf-8") == html
    assert sorted(file.name for file in (tmp_path / "again").iterdir()) == ["findings.csv", "report.html"]
    assert (tmp_path / "again/findings.csv").read_bytes() == (done / "findings.csv").read_bytes()


@browser.needed
def test_a_browser_without_a_network_draws_the_whole_report(done, tmp_path):
    def unfold(tab):
        for folded in tab.locator("summary").all():
            folded.click()
        tab.wait_for_timeout(500)
        tab.wait_for_function("() => [...document.querySelectorAll('.plot')].every((e) => e.querySelector('svg'))")
        with tab.expect_download() as waiting:
            tab.locator("button.data").first.click()
        return waiting.value.path().read_text(encoding="utf-8")

    seen = browser.opened(done / "report.html", tmp_path, unfold)
    assert seen.console == []
    assert seen.requests == []
    assert "distance of the answer (tokens),accuracy" in seen.answer
    page = Parsed(seen.document)
    drawn = [attrs for attrs in page.tags("div") if "js-plotly-plot" in (attrs.get("class") or "")]
    assert len(drawn) == len([attrs for attrs in page.tags("div") if "plot" in (attrs.get("class") or "").split()])
    assert len(page.tags("canvas")) >= len(MODELS)


HOSTILE = "</script><img src=x onerror=alert(1)>"


@browser.needed
def test_hostile_names_and_tokens_are_text_in_the_whole_report(parts, record, tmp_path):
    def named(result):
        facts = json.loads(result.attrs["anatomy"]) | {"name": HOSTILE}
        coords = {"token": ("query_pos", [HOSTILE] * result.sizes["query_pos"])} if "query_pos" in result.dims else {}
        return result.assign_coords(coords).assign_attrs(model=HOSTILE, anatomy=json.dumps(facts))

    its = {name: named(part) for name, part in parts["lab/gpt-neo@1"].items()}
    measured = measured_of({HOSTILE: its}, {HOSTILE: {"left_out": {"reach": HOSTILE}}})
    page, _ = page_of(dataclasses.replace(measured, command=HOSTILE), record | {"notes": [HOSTILE]})
    file = tmp_path / "hostile.html"
    file.write_text(page, encoding="utf-8")
    seen = browser.whole(file, tmp_path)
    shown = Parsed(seen.document)
    assert shown.tags("img") == []
    assert shown.text.count(HOSTILE) > 65  # every token of the view, and names


# Going on, and what is refused ---------------------------------------------------------------------------------


def test_a_run_that_was_cut_off_goes_on_with_what_is_missing(done, html, copied, monkeypatch):
    measured, measure = [], runner._measure
    monkeypatch.setattr(runner, "_measure", lambda *task: (measured.append(task[1]), measure(*task))[1])
    monkeypatch.setattr(runner, "PROCESSES", 1)
    missing = store.path_of(copied, MODELS[1])
    missing.unlink()
    (copied / "report.html").unlink()
    assert call(*ARGUMENTS, "--out", copied, "--resume") == 0
    assert measured == [MODELS[1]]
    for part, before in results.load_parts(store.path_of(done, MODELS[1])).items():
        xr.testing.assert_equal(results.load_parts(missing)[part], before)
    written = (copied / "report.html").read_text(encoding="utf-8")
    assert written.partition("How to repeat this</h2>")[0] == html.partition("How to repeat this</h2>")[0]


@pytest.fixture
def one(done):
    """A network, its prompts, the settings and the file of what was measured with them."""
    config = configured(MODELS, done)
    return MODELS[0], prepared(config).prompts[MODELS[0]], config, store.path_of(done, MODELS[0])


def is_kept(network, prompts, config, path):
    """Whether `--resume` would keep a network."""
    recorded = json.loads(Path(config.out, "record.json").read_text())
    model = next(iter(recorded["prompts"]))
    recorded |= {"versions": dict(results.versions()), "prompts": recorded["prompts"] | {model: digest(prompts)}}
    stamp = dict(study_record.stamps(recorded, config)[model][model])
    del stamp["fingerprint"]
    return runner._is_kept(config, network, path, stamp)


def test_what_is_kept_counts_only_for_the_same_text_settings_versions_and_weights(one, tmp_path):
    network, prompts, config, path = one
    assert is_kept(*one)
    other_text = dataclasses.replace(prompts.tokens, text=prompts.tokens.text.flip(0))
    assert not is_kept(network, dataclasses.replace(prompts, tokens=other_text), config, path)
    assert not is_kept(network, prompts, dataclasses.replace(config, seed=1), path)
    assert not is_kept("lab/gpt-neo@2", prompts, config, path)
    parts = results.load_parts(path)
    older = parts | {"attention": parts["attention"].assign_attrs(versions='{"neolens": "0.0.1"}')}
    assert not is_kept(network, prompts, config, results.save_parts(older, tmp_path / "older.nc"))


def test_a_file_that_is_cut_short_or_lacks_a_part_is_measured_again(one, tmp_path):
    network, prompts, config, path = one
    short = tmp_path / "short.nc"
    short.write_bytes(path.read_bytes()[:5000])
    assert not is_kept(network, prompts, config, short)
    fewer = {name: part for name, part in results.load_parts(path).items() if name != "positions"}
    assert not is_kept(network, prompts, config, results.save_parts(fewer, tmp_path / "fewer.nc"))


def test_models_of_like_names_are_kept_in_files_of_their_own():
    names = ["models/a/b", "models/a-b", "models/a b", "数/a", "典/a", "x" * 300, "x" * 301, *MODELS]
    files = {store.path_of(Path("out"), name).name for name in names}
    assert len(files) == len(names)
    assert all(re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9@._-]{1,120}\.nc", file) for file in files)


def test_a_model_that_cannot_be_asked_one_thing_is_asked_the_others(monkeypatch):
    def refuse(*args, **kwargs):
        raise ValueError("too few names are one token")

    monkeypatch.setattr(job, "indirect_object", refuse)
    found = prepared(job.Config(models=("lab/gpt2@1",), prompts=8, draws=1))
    prompts = found.prompts["lab/gpt2@1"]
    assert [inputs.left_out for inputs in found.inputs] == [{"circuit": "too few names are one token"}]
    assert prompts.indirect is None
    assert prompts.planted
    assert job.parts(prompts, None)[-2:] == ["positions", "reach"]


def test_a_page_without_the_indirect_object_says_why(parts, record):
    its = {name: part for name, part in parts["lab/gpt2@1"].items() if name != "circuit"}
    inputs = {"lab/gpt2@1": {"left_out": {"circuit": "too few names are one token"}}}
    text = Parsed(page_of(measured_of({"lab/gpt2@1": its}, inputs), record)[0]).text
    assert "lab/gpt2@1 was not asked for the indirect object: too few names are one token" in text
    assert answers.OBJECT not in re.findall(r"<h2[^>]*>([^<]*)", text)


def test_results_that_lack_a_part_are_refused(parts):
    its = {name: part for name, part in parts["lab/gpt2@1"].items() if name != "positions"}
    with pytest.raises(ValueError, match="the results of seed 1 lack positions: measure that network again"):
        Found({1: its})


def test_results_of_other_settings_are_not_drawn_with_a_record(done, tmp_path, capsys):
    copy = tmp_path / "copy"
    shutil.copytree(done, copy)
    record = json.loads((copy / "record.json").read_text())
    record["config"]["seed"] = 5
    (copy / "record.json").write_text(json.dumps(record))
    shell.refused(
        call, ["--from", str(copy)], "was measured with other settings than the record tells", tmp_path, capsys
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--prompts", "7"], "prompts 7: expected a whole number from 8 to 10000; fewer give no means and intervals"),
        (["--draws", "0"], "draws 0: expected a whole number from 1"),
        (["--seed", "-1"], "seed -1: expected a whole number of at least 0"),
        (["--length", "4"], "length 4: expected a whole number from 8"),
        (["--models", "lab/gpt2", "lab/gpt2"], "give each only once"),
        (["--models", "lab/gpt2", "lab/gpt2@1"], "lab/gpt2@1 is one of the networks of lab/gpt2: give one of the two"),
        (["--models", "lab/gtp2"], "lab/gtp2"),
        (["--from", "{tmp}/nothing"], "holds no record of compare"),
        (["--from", "{tmp}", "--models", "lab/gpt2"], "give no models or settings with it"),
        (["--from", "{tmp}", "--seed", "3"], "give no models or settings with it"),
    ],
)
def test_bad_input_ends_in_one_line_and_writes_nothing(arguments, message, tmp_path, capsys):
    assert not shell.refused(call, arguments, message, tmp_path, capsys).exists()


@pytest.mark.parametrize(
    "text",
    ["", "[1]", '{"config": []}', '{"config": {"models": []}, "asked": {"networks": []}, "left_out": {}}', "\xff"],
)
def test_what_is_no_record_is_refused(text, tmp_path):
    (tmp_path / "record.json").write_text(text, encoding="latin-1")
    with pytest.raises(ValueError, match="holds no record of compare: expected a folder that it wrote"):
        redraw(tmp_path)


@pytest.fixture
def copied(done, tmp_path):
    """A copy of the folder of four networks."""
    return Path(shutil.copytree(done, tmp_path / "copied"))


def read(measured):
    """All that is read of a folder before anything is computed from it."""
    for by_seed in measured.results.values():
        Found(by_seed, measured.anatomies)
    return Summary()


READING = dataclasses.replace(
    job.STUDY, summarise=read, sections=lambda measured, summary: [], exact_checks=lambda measured, summary: []
)


def redraw(folder):
    """Read all of a folder, and draw a page of nothing."""
    return runner.redraw(READING, folder, folder)


def edited(path, edit):
    """The results of one network after an edit, with a valid checksum of the file."""
    results.save_parts(edit(results.load_parts(path)), path)


def in_attention(**attributes):
    return lambda parts: parts | {"attention": parts["attention"].assign_attrs(attributes)}


OTHERS = {
    "settings": ({"settings": "{}"}, "was measured with other settings than the record tells"),
    "prompts": ({"prompts": "0" * 64}, "was measured on other prompts than the record tells"),
    "inputs": ({"inputs": "0" * 64}, "was measured on other inputs than the record tells"),
    "versions": ({"versions": "{}"}, "was measured with other versions than the record tells"),
    "window": ({"asked_window": 8}, "was measured with another window than the record tells"),
    "weights": ({"fingerprint": "0" * 16}, "was measured with other weights than the record tells"),
}


@pytest.mark.parametrize(("attributes", "message"), OTHERS.values(), ids=OTHERS)
def test_a_network_of_another_origin_than_the_record_is_not_drawn(attributes, message, copied):
    path = store.path_of(copied, MODELS[2])
    edited(path, in_attention(**attributes))
    with pytest.raises(ValueError, match=f"{path.name} {message}: measure it again"):
        redraw(copied)


def test_seeds_measured_on_different_texts_are_no_sample_of_one_model(parts):
    for origin, what in (("prompts", "prompts"), ("text", "texts")):  # of this version, and of earlier ones
        other = in_attention(**{origin: "0" * 64})(parts["lab/gpt2@1"])
        message = f"seeds 0, 1 of lab/gpt2@1 were measured on different {what}: measure them again"
        with pytest.raises(ValueError, match=message):
            Found({0: parts["lab/gpt2@1"], 1: other})


EDITS = {
    "no part": lambda parts: {name: part for name, part in parts.items() if name != "positions"},
    "an unknown part": lambda parts: parts | {"more": parts["positions"]},
    "no optional part": lambda parts: {name: part for name, part in parts.items() if name != "circuit"},
    "a value": lambda parts: parts | {"attention": parts["attention"] * 1.001},
    "a dtype": lambda parts: parts | {"positions": parts["positions"].astype("float16")},
    "an axis": lambda parts: parts | {"patterns": parts["patterns"].transpose(..., "group")},
    "a variable": lambda parts: parts | {"reach": parts["reach"].drop_vars("clean")},
    "an attribute's type": in_attention(anatomy=3),
    "a lost attribute": lambda parts: parts | {"ablation_text": parts["ablation_text"].drop_attrs()},
    "a coordinate": lambda parts: parts | {"attention": parts["attention"].assign_coords(head=[3, 2, 1, 0])},
}


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
def test_a_file_with_other_content_than_was_written_is_damaged(edit, one, copied):
    path = store.path_of(copied, MODELS[0])
    edited(path, edit)
    with pytest.raises(ValueError, match=f"{path.name} is damaged: measure it again"):
        redraw(copied)
    assert not is_kept(*one[:3], path)


def test_a_file_damaged_anywhere_is_damaged_and_one_that_is_gone_is_missed(one, copied):
    path, rng = store.path_of(copied, MODELS[0]), np.random.default_rng(0)
    content = path.read_bytes()
    flipped = [
        content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :] for at in rng.integers(len(content), size=20)
    ]
    for damaged in [*flipped, content[: len(content) // 2], content[:-1], content + b"x", b"", b"{}"]:
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=f"{path.name} is damaged: measure it again"):
            redraw(copied)
    assert not is_kept(*one[:3], path)
    path.unlink()
    with pytest.raises(ValueError, match=f"{path.name}: no such file: measure it again"):
        redraw(copied)


def of_earlier_version(parts):
    """Results without the checksum of their content and what identifies their prompts."""
    attributes = {name: value for name, value in parts["attention"].attrs.items() if name not in ("content", "prompts")}
    return parts | {"attention": parts["attention"].drop_attrs().assign_attrs(attributes)}


def test_files_of_an_earlier_version_are_drawn_with_a_warning_measured_again_and_not_mixed(one, copied):
    older = [store.path_of(copied, name) for name in MODELS]
    edited(older[0], of_earlier_version)
    with pytest.warns(UserWarning, match="earlier version"), pytest.raises(ValueError, match="different versions"):
        redraw(copied)
    for path in older[1:]:
        edited(path, of_earlier_version)
    with pytest.warns(UserWarning, match="is of an earlier version, without its prompts, content"):
        redraw(copied)
    assert not is_kept(*one[:3], older[0])


@pytest.mark.filterwarnings("ignore:.*earlier version")
def test_a_file_of_an_earlier_version_that_lacks_a_part_is_not_drawn(copied):
    for name in MODELS:
        edited(store.path_of(copied, name), of_earlier_version)
    edited(
        store.path_of(copied, MODELS[2]),
        lambda parts: {name: part for name, part in parts.items() if name != "positions"},
    )
    with pytest.raises(ValueError, match="the results of seed 1 lack positions: measure that network again"):
        redraw(copied)


@pytest.fixture
def previous(copied, record):
    """The folder as the version before studies wrote it: a text instead of prompts, and no anatomies in the record."""
    later = ("study", "prompts", "anatomies", "checks_pass", "exact_checks")
    config = {name: value for name, value in record["config"].items() if name not in ("device", "dtype", "threads")}
    older = {name: value for name, value in record.items() if name not in later}
    older |= {"config": config, "laws_hold": True, "left_out": {}}
    (copied / "record.json").write_text(json.dumps(older))
    for name in MODELS:
        path = store.path_of(copied, name)
        parts = results.load_parts(path)
        stamp = {each: parts["attention"].attrs[each] for each in ("versions", "asked_window", "fingerprint")}
        stamp["settings"] = json.dumps({each: config[each] for each in config if each != "out"})
        plain = of_earlier_version(parts)
        store.write(plain, path, {**stamp, "text": record["inputs"][name]["text"]["sha256"]})
    return copied


def test_a_folder_of_the_previous_version_gives_the_same_report(previous, html):
    assert call("--from", previous) == 0
    written = (previous / "report.html").read_text(encoding="utf-8")
    assert written.partition("How to repeat this</h2>")[0] == html.partition("How to repeat this</h2>")[0]


def test_a_network_of_the_previous_version_on_another_text_is_not_drawn(previous):
    path = store.path_of(previous, MODELS[2])
    edited(path, in_attention(text="0" * 64))
    with pytest.raises(ValueError, match=f"{path.name} was measured on another text than the record tells"):
        redraw(previous)


def test_what_a_record_without_inputs_left_out_is_in_the_report(previous):
    older = json.loads((previous / "record.json").read_text())
    del older["inputs"]
    older["left_out"] = {MODELS[3]: {"circuit": "too few names", "a part of another version": "a reason"}}
    (previous / "record.json").write_text(json.dumps(older))
    assert call("--from", previous) == 0
    text = Parsed((previous / "report.html").read_text(encoding="utf-8")).text
    assert f"{MODELS[3]} was not asked for the indirect object: too few names" in text
    assert f"{MODELS[3]} was not asked for a part of another version: a reason" in text


def fields_of(value, path=()):
    """The paths of all fields of a record, of lists the first two items."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value[:2]) if isinstance(value, list) else ()
    for name, item in items:
        yield from fields_of(item, (*path, name))


def redrawn(folder):
    """The error of drawing a folder again; None where there is none."""
    try:
        redraw(folder)
    except ValueError as error:
        return str(error)
    return None


NONSENSE = (None, True, "x", -7, 1.5, float("nan"), [], {}, ["x"], {"x": 1}, "\ud800", 10**30, "lost")
FREE = (
    *("contrasts", "exact_checks", "findings", "warnings", "notes", "seconds", "source", "prompts", "length"),
    *("resumed", "bos", "out"),
)
"""Fields of which the page shows whatever of their type they hold."""


def test_nonsense_in_any_field_of_a_record_ends_in_one_line_that_names_the_file(copied, record, monkeypatch):
    places = [path for path in fields_of(record) if path and "contrasts" not in path]
    rng, refused = np.random.default_rng(0), 0
    load, cache = results.load_parts, {}
    monkeypatch.setattr(
        results, "load_parts", lambda path: cache[path] if path in cache else cache.setdefault(path, load(path))
    )
    for place in places:
        for nonsense in rng.permutation(np.array(NONSENSE, dtype=object))[:6]:
            wrong = json.loads(json.dumps(record))
            holder = wrong
            for name in place[:-1]:
                holder = holder[name]
            if nonsense == "lost":
                del holder[place[-1]]
            elif holder[place[-1]] == nonsense and type(holder[place[-1]]) is type(nonsense):
                continue
            else:
                holder[place[-1]] = nonsense
            (copied / "record.json").write_text(json.dumps(wrong))
            line = redrawn(copied)
            refused += line is not None
            harmless = set(FREE) & set(place) or nonsense in (None, "lost") or nonsense == {}
            assert harmless if line is None else str(copied) in line, (place, nonsense)
            assert "\n" not in (line or ""), (place, nonsense)
    assert refused > 150


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("prompts", "x", "record.json: config.prompts is 'x': expected a whole number"),
        ("models", "lab/gpt2", "record.json: config.models is 'lab/gpt2': expected a list of text"),
        ("models", [], "config.models is []: expected at least one model"),
        ("seed", True, "config.seed is True: expected a whole number"),
        ("seed", None, "config.seed is None: expected a whole number"),
        ("text", 3, "config.text is 3: expected text or null"),
        ("promts", 8, "config.promts is no setting: did you mean prompts?"),
    ],
)
def test_a_wrong_setting_in_a_record_is_named_with_what_was_expected(field, value, message, copied, record):
    wrong = record | {"config": record["config"] | {field: value}}
    (copied / "record.json").write_text(json.dumps(wrong))
    with pytest.raises(ValueError) as error:
        redraw(copied)
    assert message in str(error.value)
    assert "measure again with --resume, or give another folder" in str(error.value)


# What it stands on ---------------------------------------------------------------------------------------------


def test_tasks_of_small_models_run_in_several_processes_and_give_what_one_gives():
    tasks = [(f"lab/gpt2@{seed}",) for seed in range(5)]
    several = sorted(run_tasks(study_models.seed_of, tasks, 2))
    assert several == [0, 1, 2, 3, 4]


def test_only_a_lab_model_has_a_seed_in_its_name():
    assert [study_models.seed_of(name) for name in ("lab/gpt2@2", "lab/gpt2", "models/m@7")] == [2, 0, 0]


def test_an_anatomy_comes_back_from_the_record_of_a_result(parts):
    for name in MODELS:
        assert from_record(parts[name]["attention"].attrs["anatomy"]) == anatomy(name)


@pytest.mark.parametrize("text", ["", "{}", '{"attention": []}', "[1]"])
def test_what_is_no_record_of_an_anatomy_is_refused(text):
    with pytest.raises(ValueError, match="is no record of an anatomy"):
        from_record(text)
