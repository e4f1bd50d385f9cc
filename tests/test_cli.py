"""The command line, as a user calls it: what is printed, what is refused, with which exit code."""

import io
import re
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from types import SimpleNamespace
from unittest.mock import patch

import pytest

import shell
import tiny
from neolens import cli


def call(*arguments):
    """What `neolens ARGUMENTS` prints, and its exit code."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    with patch.object(sys, "argv", ["neolens", *map(str, arguments)]), redirect_stdout(out), redirect_stderr(err):
        try:
            cli.main()
        except SystemExit as end:
            code = end.code or 0
    return SimpleNamespace(returncode=code, stdout=out.getvalue(), stderr=err.getvalue())


def test_models_are_listed_with_where_they_come_from():
    run = call("models")
    assert run.returncode == 0
    assert "EleutherAI/gpt-neo-125m" in run.stdout
    assert run.stdout.splitlines()[2].startswith("lab/gpt-neo")


def test_the_list_tells_seeds_and_checkpoints_of_the_lab():
    rows = {line.split()[0]: line for line in call("models").stdout.splitlines()[2:] if line}
    assert "in the package, 3 seeds, " in rows["lab/gpt-neo"]
    assert "checkpoints" in rows["lab/gpt-neo"]
    assert "checkpoints" not in rows["lab/nope"]


def test_lab_check_prints_the_mean_and_the_spread_over_seeds():
    run = call("lab", "check", "lab/pythia", "lab/gpt2@1", "--prompts", "4")
    assert run.returncode == 0, run.stderr
    rows = [re.split(r"  +", line.strip()) for line in run.stdout.splitlines()[:8]]
    assert rows[0] == ["arm", "task", "inside", "beyond", "unseen"]
    assert [row[:2] for row in rows[2:]] == [
        [name, task] for name in ("lab/pythia", "lab/gpt2@1") for task in ("induction", "recall", "indirect object")
    ]
    assert all(re.fullmatch(r"[01]\.\d\d \([01]\.\d\d to [01]\.\d\d\)", cell) for row in rows[2:5] for cell in row[2:])
    assert all(re.fullmatch(r"[01]\.\d\d", cell) for row in rows[5:8] for cell in row[2:])


def test_lab_check_shows_its_progress_with_the_time_left_and_gives_in_two_processes_what_one_gives():
    from neolens.lab.evaluation.spread import spread, table

    command = ["-m", "neolens.cli", "lab", "check", "lab/nope@2", "lab/gpt2@1", "--prompts", "3"]
    process, terminal = shell.on_terminal(command, stdout=subprocess.PIPE, text=True)
    shown = "".join(iter(lambda: shell.read(terminal, 120), ""))
    expected = table(spread(["lab/nope@2", "lab/gpt2@1"], prompts=3, seed=1, processes=1))
    assert process.communicate()[0].startswith(expected + "\n")
    assert re.search(r"networks: +50%.* 1/2 \[\d\d:\d\d<\d\d:\d\d", shown)


def test_lab_train_trains_arms_side_by_side_into_folders_that_load(tmp_path):
    import neolens

    options = ["--steps", "2", "--jobs", "2", "--seed", "5", "--out", tmp_path, "--checkpoints"]
    run = subprocess.run(
        [sys.executable, "-m", "neolens.cli", "lab", "train", "--arm", "nope", "--arm", "gpt2", *map(str, options)],
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    assert sorted(run.stdout.split()) == [str(tmp_path / "gpt2@5"), str(tmp_path / "nope@5")]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["gpt2@5", "nope@5"]
    assert neolens.load(tmp_path / "nope@5").anatomy.position.kind == "none"
    assert neolens.load(tmp_path / "gpt2@5" / "step0").anatomy.position.kind == "absolute"


def test_models_side_by_side_name_their_confounds():
    run = call("describe", "gpt-neo-125m", "gpt2", "pythia-160M")
    assert run.returncode == 0
    rows = {line.split("  ")[0]: line for line in run.stdout.splitlines()}
    assert "global in layers 0, 2, ...; local (window 256) in 1, 3, ..." in rows["attention"]
    assert "85,028,352" in rows["without embeddings"]
    confounds = run.stdout.split("Besides attention, these models differ in:")[1]
    assert "- training data: the Pile (gpt-neo-125M, pythia-160m); WebText (gpt2)" in confounds
    assert "- score scale: none (1) (gpt-neo-125M)" in confounds
    assert "- attention:" not in confounds


def test_the_question_decides_what_is_a_confound():
    run = call("describe", "gpt2", "pythia-160m", "--question", "position")
    confounds = run.stdout.split("Besides position")[1]
    assert "- attention and MLP: sequential (gpt2); parallel (pythia-160m)" in confounds
    assert "- position:" not in confounds


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["gpt2", "gpt2-medium"], "These models differ in:"),
        (["lab/gpt2", "lab/gpt2"], "They do not differ."),
        (["gpt2", "gpt-neo-125M"], "Besides attention, these models differ in:"),
    ],
)
def test_what_stands_before_the_differences_is_true(names, words):
    assert words in call("describe", *names).stdout


def test_check_prints_a_table_and_succeeds_on_a_true_model():
    run = call("check", "lab/gpt-neo")
    assert run.returncode == 0, run.stderr
    assert "MISMATCH" not in run.stdout
    assert run.stdout.count(" ok") == 15


def test_check_ends_with_exit_code_1_on_a_mismatch(monkeypatch):
    from neolens import checking

    monkeypatch.setattr(checking, "check", lambda *a, **k: [checking.Line("pattern", "1", "0.01", False)])
    run = call("check", "lab/gpt2")
    assert run.returncode == 1
    assert "MISMATCH" in run.stdout


def test_the_command_is_installed_and_its_exit_code_reaches_the_shell():
    run = subprocess.run([sys.executable, "-m", "neolens.cli", "describe", "gpt-3"], capture_output=True, text=True)
    assert run.returncode == 2
    assert run.stderr.startswith("error: no model 'gpt-3'")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["describe", "gpt-neo-125"], "no model 'gpt-neo-125': did you mean gpt-neo-125M"),
        (["describe", "gpt2", "--question", "weather"], "no question 'weather': expected one of attention, position"),
        (["check", "lab/gpt3"], "no lab model 'lab/gpt3': did you mean lab/gpt2"),
        (["check", "lab/gpt2", "--revision", "step401"], "lab/gpt2 has no revision 'step401': did you mean step400"),
        (["lab", "check", "lab/gptneo"], "no lab model 'lab/gptneo': did you mean lab/gpt-neo"),
        (["lab", "check", "gpt2"], "gpt2 has 50257 tokens, the lab's language 204: give a lab model or a folder"),
        (["lab", "check", "--prompts", "0"], "0 prompts: at least 1 is needed"),
        (["lab", "train", "--arm", "gptneo"], "no arm 'gptneo': did you mean gpt-neo"),
        (["lab", "train", "--seed", "-1"], "seed -1: seeds are 0 and above"),
        (["lab", "train", "--jobs", "0"], "0 trainings at a time: expected at least 1"),
        (["lab", "train", "--steps", "0"], "0 steps: a training has at least 1"),
        (["lab", "train", "--steps", "many"], "--steps 'many': expected a whole number; see --help"),
        (["lab", "train", "--steps"], "'--steps' requires an argument"),
        (["check", "lab/gpt2", "--dtipe", "float32"], "--dtipe (Possible options: --dtype); see --help"),
        (["check"], "Missing argument 'MODEL'"),
        (["check", "lab/gpt2", "lab/pythia"], "lab/pythia"),
        (["describe", "lab/gpt2", "--question"], "'--question' requires an argument"),
        (["chek"], "No such command 'chek'"),
        (["describe", "lab/gpt2", "--ignore-fields", "n_positionss"], "field 'n_positionss': did you mean n_positions"),
        (["check", "lab/gpt2", "--ignore-fields", "zz"], "field 'zz': expected a field of a model's config.json"),
        (["describe", "a=lab/gpt2", "a=lab/pythia"], "two have one label"),
        (["lab", "check", "lab/gpt2", "--seed", str(2**63)], "expected a whole number of at least 0, below 2**63"),
        (["lab", "train", "--jobs", str(10**30)], "expected a whole number of at most 1024"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(arguments, message):
    run = call(*arguments)
    assert run.returncode == 2
    assert run.stdout == ""
    assert run.stderr.startswith("error: ")
    assert run.stderr.count("\n") == 1
    assert message in run.stderr


def test_a_folder_without_config_is_refused_in_one_line(tmp_path):
    run = call("check", tmp_path)
    assert run.returncode == 2
    assert run.stderr == (
        f"error: {tmp_path}: the folder has no config.json: expected a model folder written by save_pretrained\n"
    )


def test_a_folder_can_be_described(tiny_folders):
    run = call("describe", tiny_folders["pythia"])
    assert f"rotary, 4 dimensions a head, base {10000}" in run.stdout
    assert str(tiny.VOCAB) in run.stdout
