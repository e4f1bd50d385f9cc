"""What all studies share: measuring network by network, resuming, drawing again, exact checks, and the command line."""

import dataclasses
import json
import subprocess
import sys

import numpy as np
import pytest
import torch
import typer
import xarray as xr

import neolens
import shell
from experiments import my_question
from neolens import results
from neolens.cli import app
from neolens.prompts import PromptPairs, lab_documents
from neolens.studies import ExactCheck, command, find_study, findings, models, runner, store
from neolens.studies.command import run_cleanly
from neolens.studies.digest import digest, source
from neolens.studies.finding import sentence

SHORT = ("--models", "lab/gpt-neo", "lab/gpt2@1", "--prompts", "2", "--length", "40")


def call(*arguments, study=my_question.STUDY):
    return shell.call(study, *arguments)


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """The folder of a study of a user's own."""
    out = tmp_path_factory.mktemp("question") / "out"
    assert call(*SHORT, "--out", out) == 0
    return out


def record_of(folder):
    return json.loads((folder / "record.json").read_text())


# A study of a user's own ------------------------------------------------------------------------------------------


def test_a_study_of_ones_own_is_under_90_lines_and_every_other_file_under_40(request):
    folder = request.config.rootpath / "experiments"
    lengths = {path.name: len(path.read_text().splitlines()) for path in folder.glob("*.py")}
    assert lengths.pop("my_question.py") < 90
    assert max(lengths.values()) <= 40
    assert sum(lengths.values()) <= 450


def test_a_study_of_ones_own_gets_results_record_and_report(done):
    assert sorted(path.name for path in done.iterdir()) == [
        "findings.csv",
        "networks",
        "record.json",
        "report.html",
    ]
    kept = sorted(path.name for path in (done / "networks").iterdir())
    assert kept == ["lab-gpt-neo.nc", "lab-gpt-neo@1.nc", "lab-gpt-neo@2.nc", "lab-gpt2@1.nc"]
    record = record_of(done)
    assert record["study"] == "my_question"
    assert record["asked"]["networks"]["lab/gpt2@1"] == ["lab/gpt2@1"]
    assert len(set(record["fingerprints"].values())) == 4
    html = (done / "report.html").read_text()
    assert "python -m experiments.my_question --models lab/gpt-neo lab/gpt2@1 --prompts 2 --length 40" in html
    (finding,) = findings(done)
    assert finding.subject == "lab/gpt-neo"
    assert finding.headline in html
    assert sentence(finding).startswith("lab/gpt-neo: global layers attend farther back than local layers: ")


def test_its_numbers_are_those_of_the_instrument_called_by_hand(done):
    tokens = neolens.prompts.chunks(
        neolens.load("lab/gpt-neo").tokenizer, lab_documents(2, 40, seed=0)[0], 40, prompts=1
    )
    means = []
    for seed in (0, 1, 2):
        parts = results.load_parts(done / "networks" / f"lab-gpt-neo{f'@{seed}' if seed else ''}.nc")
        mine = parts["attention"]["mean_distance"].isel(prompt=0)
        pattern = neolens.load(f"lab/gpt-neo@{seed}").run_with_cache(tokens)[1]["blocks.1.attn.hook_pattern"][0]
        back = torch.arange(tokens.shape[1])[:, None] - torch.arange(tokens.shape[1])
        by_hand = (pattern * back).sum(-1).mean(-1)
        np.testing.assert_allclose(mine.sel(layer=1), by_hand, atol=1e-4)
        by_layer = parts["attention"]["mean_distance"].mean(("prompt", "head")).values
        means.append((by_layer[[1, 3]].mean(), by_layer[[0, 2]].mean()))
    local, everywhere = np.mean(means, 0)
    (finding,) = findings(done)
    assert finding.estimate == pytest.approx(everywhere - local)
    assert f"global layers {everywhere:.1f}, local layers {local:.1f}" in finding.headline


# Saving, resuming, drawing again ----------------------------------------------------------------------------------


def test_resume_measures_what_is_missing_or_damaged_alone(done, tmp_path, monkeypatch):
    out = tmp_path / "out"
    assert call(*SHORT, "--out", out) == 0
    (out / "networks/lab-gpt2@1.nc").unlink()
    path = out / "networks/lab-gpt-neo@2.nc"
    path.write_bytes(path.read_bytes()[:-40])
    measured = []
    monkeypatch.setattr(runner, "PROCESSES", 1)
    plain = runner._measure
    monkeypatch.setattr(runner, "_measure", lambda *task: (measured.append(task[1]), plain(*task))[1])
    assert call(*SHORT, "--out", out, "--resume") == 0
    assert sorted(measured) == ["lab/gpt-neo@2", "lab/gpt2@1"]
    assert record_of(out)["findings"] == record_of(done)["findings"]
    for file in (done / "networks").iterdir():
        mine, other = results.load_parts(file), results.load_parts(out / "networks" / file.name)
        xr.testing.assert_identical(mine["attention"].drop_attrs(), other["attention"].drop_attrs())


@pytest.mark.parametrize("changed", [("--length", "41"), ("--seed", "1"), ("--dtype", "float64")])
def test_resume_with_other_settings_measures_all_again(changed, tmp_path, monkeypatch):
    out, one = (
        tmp_path / "out",
        ("--models", "lab/gpt2@1", "--prompts", "2", "--length", "40", "--out", tmp_path / "out"),
    )
    assert call(*one) == 0
    measured = []
    plain = runner._measure
    monkeypatch.setattr(runner, "_measure", lambda *task: (measured.append(task[1]), plain(*task))[1])
    assert call(*one, "--resume") == 0
    assert measured == []
    assert call(*one, "--resume", *changed) == 0
    assert measured == ["lab/gpt2@1"]
    assert (
        store.origin(results.load_parts(out / "networks/lab-gpt2@1.nc"))["prompts"]
        == record_of(out)["prompts"]["lab/gpt2@1"]
    )


def test_resume_measures_again_what_another_function_measured(tmp_path, monkeypatch):
    def with_entropy(model, tokens, config):
        yield "attention", neolens.attention(model, tokens, scores=["mean_distance", "entropy"])

    one = ("--models", "lab/gpt2@1", "--prompts", "2", "--length", "40", "--out", tmp_path)
    other = dataclasses.replace(my_question.STUDY, measure=with_entropy)
    assert call(*one) == 0
    assert call(*one, "--resume", study=other) == 0
    assert "entropy" in results.load_parts(tmp_path / "networks/lab-gpt2@1.nc")["attention"]
    assert call("--from", tmp_path) == 0  # it draws what is saved, whatever measured it


def test_a_report_is_drawn_again_without_a_model_to_the_same_bytes(done, tmp_path, monkeypatch):
    monkeypatch.setattr(models, "load", lambda *args: pytest.fail("a model was loaded"))
    assert call("--from", done, "--out", tmp_path) == 0
    assert (tmp_path / "report.html").read_bytes() == (done / "report.html").read_bytes()


def test_results_of_a_device_are_drawn_where_there_is_no_such_device(tmp_path, monkeypatch):
    one = ("--models", "lab/gpt2@1", "--prompts", "2", "--length", "40", "--device", "cpu")
    assert call(*one, "--out", tmp_path) == 0
    monkeypatch.setattr(models, "check_device", lambda device: pytest.fail("the device was needed"))
    assert call("--from", tmp_path) == 0


def test_a_function_without_a_file_is_known_by_its_name():
    typed = {}
    exec("def measure(model, tokens, config): ...", typed)
    assert source(typed["measure"]) == "measure"
    assert source(my_question.measure).startswith("def measure(")


def test_a_folder_of_another_study_is_not_drawn(done, tmp_path, capsys):
    assert call("--from", done, "--out", tmp_path, study=find_study("ioi")) == 2
    error = capsys.readouterr().err
    assert "study is 'my_question': expected ioi" in error
    assert error.count("\n") == 1


# Exact checks -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "zero", "passes"),
    [(0.0, True, True), (5e-324, True, False), (0.0, False, False), (0.1, False, True), (float("nan"), False, False)],
)
def test_an_exact_check_passes_only_at_exactly_0_or_anything_else(value, zero, passes):
    assert ExactCheck("claim", value, zero).passes is passes


def test_a_failed_exact_check_is_reported_first_and_ends_with_code_1(tmp_path, capsys):
    def checks(measured, summary):
        return [ExactCheck("attention of local layers beyond the window", 0.25), ExactCheck("another", 0.0)]

    broken = dataclasses.replace(my_question.STUDY, exact_checks=checks)
    arguments = ("--models", "lab/gpt2@1", "--prompts", "2", "--length", "40", "--out", tmp_path)
    assert call(*arguments, study=broken) == 1
    sentence = "An exact check failed: attention of local layers beyond the window: 0.25, expected 0."
    assert sentence in capsys.readouterr().err
    html = (tmp_path / "report.html").read_text()
    assert html.index(sentence) < html.index(">Every head</h2>")
    assert record_of(tmp_path)["checks_pass"] is False
    assert call("--from", tmp_path, study=broken) == 1


# The command line -------------------------------------------------------------------------------------------------


def test_every_setting_is_an_option_with_its_help():
    for name in ("compare", "ioi"):
        study = find_study(name)
        options = {option.name: option for option in typer.main.get_command(command.app(study)).params}
        for field in dataclasses.fields(study.config):
            assert options[field.name].help.startswith(field.metadata["help"])
    seeds = {"compare": "all its seeds", "ioi": "seed 0"}
    for name, meant in seeds.items():
        shown = typer.main.get_command(command.app(find_study(name))).params
        assert next(option.help for option in shown if option.name == "models").endswith(f"stands for {meant}")


def neolens_run(*arguments):
    """The exit code of `neolens run`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["neolens", "run", *map(str, arguments)])
        try:
            run_cleanly(app)
        except SystemExit as end:
            return end.code or 0
    return 0


def test_neolens_run_runs_a_study(tmp_path, capsys):
    arguments = ("ioi", "--models", "lab/gpt2@1", "--prompts", "2", "--out", tmp_path)
    assert neolens_run(*arguments) == 0
    assert record_of(tmp_path)["study"] == "ioi"
    assert "neolens run ioi --models lab/gpt2@1 --prompts 2" in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["iio"], "no study 'iio': did you mean ioi? expected one of ioi, window_reach,"),
        (["ioi", "--prompts", "x"], "--prompts 'x': expected a whole number"),
        (["ioi", "--from", ".", "--prompts", "3"], "--from draws what was measured: give no models or settings"),
        (["compare", "--from", "nothing"], "nothing holds no record of compare"),
    ],
)
def test_a_wrong_argument_of_neolens_run_is_one_line(arguments, words, capsys):
    assert neolens_run(*arguments) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1


def test_neolens_run_without_a_name_lists_the_studies(capsys):
    assert neolens_run() == 0
    assert "rotary_vs_absolute" in capsys.readouterr().out


def test_listing_the_studies_imports_no_torch():
    code = "import sys\nfrom neolens import cli\nprint('torch' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "False\n"


# Prompts ----------------------------------------------------------------------------------------------------------


def test_the_digest_of_prompts_depends_on_every_value_type_and_place():
    clean, corrupted = torch.tensor([[1, 2]]), torch.tensor([[1, 3]])
    pairs = PromptPairs.from_tokens(clean, corrupted, torch.tensor([2]), torch.tensor([3]), {"end": [1]})
    moved = dataclasses.replace(pairs, positions={"end": torch.tensor([0])})
    values = [
        1, 1.0, "1", True, None, [1], [[1]], [1, 1], {"a": 1}, {"b": 1}, {"a": 1, "b": 1}, torch.tensor([1]),
        torch.tensor([1.0]), torch.tensor([[1]]), pairs, moved,
    ]  # fmt: skip
    digests = [digest(value) for value in values]
    assert len(set(digests)) == len(values)
    assert digest((1, {"a": torch.tensor([1])})) == digest([1, {"a": np.array([1])}])
