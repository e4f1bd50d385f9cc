"""Every wrong option of every experiment ends in one line, before anything is measured or written."""

import json
import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from transformers import GPT2Config, GPT2LMHeadModel

import shell
from forked import run_script
from neolens.lab import folder as lab_folder
from neolens.studies import command, find_study, models, runner

pytestmark = pytest.mark.untyped

EXPERIMENTS = (
    "ioi", "induction", "head_ablation", "local_vs_global", "window_reach", "rotary_vs_absolute", "compare",
)  # fmt: skip
READERS = ("head_ablation", "local_vs_global", "compare")
"""Experiments that read a text, or tokens."""
PATCHING = ("ioi", "window_reach")
"""Experiments that patch pairs of a user's own."""
HUGE = str(10**30)
NUMBER = "expected a whole number"

ALL = [
    (["--prompts", "0"], "prompts 0: expected a whole number from"),
    (["--prompts", "-1"], "prompts -1: expected"),
    (["--prompts", "1000000000"], "prompts 1000000000: expected a whole number from"),
    (["--prompts", HUGE], f"prompts {HUGE}: expected a whole number from"),
    (["--prompts", "x"], f"--prompts 'x': {NUMBER}"),
    (["--prompts", "1.5"], f"--prompts '1.5': {NUMBER}"),
    (["--prompts", "nan"], f"--prompts 'nan': {NUMBER}"),
    (["--prompts", ""], f"--prompts '': {NUMBER}"),
    (["--prompts=1e3"], f"--prompts '1e3': {NUMBER}"),
    (["--seed", "-1"], "seed -1: expected a whole number of at least 0"),
    (["--seed", HUGE], f"seed {HUGE}: expected a whole number of at least 0, below 2**63"),
    (["--seed", str(2**64)], f"seed {2**64}: expected a whole number"),
    (["--seed", "x"], f"--seed 'x': {NUMBER}"),
    (["--seed"], "'--seed' requires an argument"),
    (["--models", ""], "no model ''"),
    (["--models", "lab/gtp2"], "did you mean lab/gpt2"),
    (["--models", "lab/gpt2\0"], "no model 'lab/gpt2\\x00'"),
    (["--models", "a="], "'a=': expected LABEL=NAME"),
    (["--models", "=lab/gpt2"], "'=lab/gpt2': expected LABEL=NAME"),
    (["--models", "lab/gpt2@7"], "has no seed '7': there are lab/gpt2, lab/gpt2@1"),
    (["--models", "{in}/file"], "/file is a file: give the folder"),
    (["--models", "{in}"], "has no config.json"),
    (["--models", "{in}/bert"], "model_type 'bert' is not handled"),
    (["--models", "lab/gpt2", "LAB/GPT2"], "are the same model"),
    (["--models", "a=lab/gpt2", "a=lab/pythia"], "have one label, a"),
    (["--models", "lab/gpt2", ""], "no model ''"),
    (["--models"], "'--models' requires an argument"),
    (["--ignore-fields", ""], "fields '': expected some"),
    (["--ignore-fields", "a,a"], "fields 'a,a': expected some, each once"),
    (["--ignore-fields", "1.5"], "field '1.5': expected the name of a field of config.json"),
    (["--ignore-fields", "n_positionss"], "field 'n_positionss': "),
    (["--out", ""], "out '': expected"),
    (["--out", "a\0b"], "out 'a\\x00b': expected a path without a NUL byte"),
    (["--out", "{in}/file"], "file' cannot be written to (Not a directory)"),
    (["--out", "{in}/file/below"], "below' cannot be written to (Not a directory)"),
    (["--out", "{in}/dangling"], "dangling' cannot be written to"),
    (["--out", "{in}/loop"], "loop' cannot be written to"),
    (["--out", "x" * 300], "expected a shorter path"),
    (["--out"], "'--out' requires an argument"),
    (["--promts", "8"], "No such option: --promts (Possible options: --"),
    (["--resume=1"], "'--resume' does not take a value"),
    (["--from"], "'--from' requires an argument"),
    (["--from", "{in}/none"], "holds no record of"),
    (["--from", "{in}", "--resume"], "give no models or settings with it"),
    (["--from", "{in}", "--seed", "9"], "give no models or settings with it"),
    (["--device", ""], "device '' cannot be used here"),
    (["--device", "tpu"], "device 'tpu' cannot be used here"),
    (["--dtype", "int8"], "no dtype 'int8': expected float32, bfloat16, float16 or float64"),
    (["--threads", "0"], "threads 0: expected a whole number from 1 to 1024"),
    (["--threads", "x"], f"--threads 'x': {NUMBER}"),
]  # fmt: skip

TEXTS = [
    (["--length", "7"], "length 7: expected a whole number from 8 to"),
    (["--length", "-1"], "length -1: expected"),
    (["--length", "1000000000"], "length 1000000000: expected"),
    (["--length", HUGE], f"length {HUGE}: expected"),
    (["--length", "nan"], f"--length 'nan': {NUMBER}"),
    (["--text", ""], "text '': expected"),
    (["--text", "a\0b"], "text 'a\\x00b': expected a path without a NUL byte"),
    (["--text", "x" * 5000], "expected a shorter path"),
    (["--text", "{in}/none.txt"], "none.txt' does not exist"),
    (["--text", "{in}"], "text file"),
    (["--text", "{in}/link.txt"], "link.txt' does not exist"),
    (["--text", "{in}/empty.txt"], "empty.txt' is empty"),
    (["--text", "{in}/spaces.txt"], "spaces.txt' is empty"),
    (["--text", "{in}/nul.txt"], "it holds NUL bytes"),
    (["--text", "{in}/latin.txt"], "is not UTF-8 text (byte 1)"),
    (["--text", "{in}/utf16.txt"], "is not UTF-8 text"),
    (["--text", "{in}/good.txt", "--tokens", "{in}/words.tok"], "give one of the two"),
    (["--tokens", ""], "tokens '': expected"),
    (["--tokens", "{in}/none.npy"], "none.npy' does not exist"),
    (["--tokens", "{in}"], "token file"),
    (["--tokens", "{in}/words.tok"], "line 1 holds 'x': expected integers"),
    (["--tokens", "{in}/float.tok"], "line 1 holds '1.5': expected integers"),
    (["--tokens", "{in}/negative.tok"], "line 1 holds token -2"),
    (["--tokens", "{in}/outside.tok"], "line 2 holds token 9999: lab/gpt2 has 0 to 203"),
    (["--tokens", "{in}/long.tok"], "line 1 holds"),
    (["--tokens", "{in}/blank.tok"], "blank.tok' "),
    (["--tokens", "{in}/single.tok"], "has prompts of 1 token: expected 2 or more"),
    (["--tokens", "{in}/float.npy"], "dtype float64: expected integers"),
    (["--tokens", "{in}/cube.npy"], "has shape (2, 3, 4): expected [prompt, pos]"),
    (["--tokens", "{in}/object.npy"], "is no NumPy array of integers"),
    (["--tokens", "{in}/none-at-all.npy"], "has no prompts"),
    (["--tokens", "{in}/truncated.npy"], "is no NumPy array of integers"),
    (["--tokens", "{in}/float.pt"], "holds a tensor of torch.float32"),
    (["--tokens", "{in}/dict.pt"], "holds a dict"),
    (["--tokens", "{in}/meta.pt"], "holds a tensor without data"),
    (["--tokens", "{in}/pickle.pt"], "Python objects besides tensors"),
    (["--tokens", "{in}/garbage.pt"], "cannot be read as tensors"),
]  # fmt: skip

PAIRS = [
    (["--pairs"], "'--pairs' requires an argument"),
    (["--pairs", ""], "pairs '': expected"),
    (["--pairs", "a\0b"], "pairs 'a\\x00b': expected a path without a NUL byte"),
    (["--pairs", "x" * 5000], "expected a shorter path"),
    (["--pairs", "{in}/none.jsonl"], "none.jsonl' does not exist"),
    (["--pairs", "{in}"], "text file"),
    (["--pairs", "{in}/spaces.txt"], "spaces.txt' is empty"),
    (["--pairs", "{in}/broken.jsonl"], "broken.jsonl is not valid JSON"),
    (["--pairs", "{in}/row.tok"], "line 1 of "),
    (["--pairs", "{in}/list.jsonl"], "expected an object with clean, corrupted, answer, distractor"),
    (["--pairs", "{in}/unknown.jsonl"], "has the field 'distracter': did you mean distractor?"),
    (["--pairs", "{in}/lacking.jsonl"], "lacking.jsonl lacks distractor"),
    (["--pairs", "{in}/number.jsonl"], "number.jsonl: answer is 3: expected text"),
]

LISTS = [
    ("window_reach", "--distances", "distance", 1), ("induction", "--lengths", "length", 3),
]  # fmt: skip

OWN = [
    ("head_ablation", ["--prompts", "1"], "prompts 1: expected a whole number from 2 to"),
    ("head_ablation", ["--draws", "0"], "draws 0: expected a whole number from 1 to"),
    ("head_ablation", ["--draws", "1000000000"], "draws 1000000000: expected"),
    ("head_ablation", ["--draws", "x"], f"--draws 'x': {NUMBER}"),
    ("head_ablation", ["--how", ""], "no way to ablate ''"),
    ("head_ablation", ["--how", "Mean"], "no way to ablate 'Mean': did you mean mean"),
    ("head_ablation", ["--how", "mean,zero"], "no way to ablate 'mean,zero'"),
    ("head_ablation", ["--models", "lab/gpt-neo", "{in}/narrow"], "has a window of 16, not of 4"),
    ("head_ablation", ["--models", "{in}/short"], "sees 2 tokens, too few to cross "),
    ("local_vs_global", ["--models", "{in}/short"], "sees 2 tokens, too few to cross "),
    ("compare", ["--prompts", "7"], "prompts 7: expected a whole number from 8 to"),
    ("compare", ["--draws", HUGE], f"draws {HUGE}: expected"),
    ("compare", ["--draws", "-1"], "draws -1: expected"),
    ("compare", ["--models", "{in}/short"], "sees 2 tokens, too few to cross "),
    ("compare", ["--models", "lab/gpt2", "lab/gpt2@1"], "is one of the networks of lab/gpt2"),
    ("compare", ["--resume", "yes"], "no model 'yes'"),
    ("compare", ["--from", ""], "holds no record of compare"),
    ("compare", ["--from", "{in}/none"], "holds no record of compare"),
    ("compare", ["--from", "{in}/file"], "holds no record of compare"),
    ("compare", ["--from", "a\0b"], "holds no record of compare"),
    ("compare", ["--from", "{in}"], "holds no record of compare"),
    ("compare", ["--from", "{in}", "--prompts", "9"], "give no models or settings with it"),
    ("compare", ["--from", "{in}", "lab/gpt2"], "give no models or settings with it"),
    ("compare", ["--from", "{in}", "--text", "{in}/good.txt"], "give no models or settings with it"),
    ("ioi", ["--corruption", ""], "no corruption ''"),
    ("ioi", ["--corruption", "Swap"], "no corruption 'Swap': did you mean swap"),
    ("ioi", ["--direction", "denoise,noise"], "no direction 'denoise,noise'"),
    ("ioi", ["--distance", "0"], "distance 0: expected a whole number of tokens, at least 1"),
    ("ioi", ["--distance", "x"], f"--distance 'x': {NUMBER}"),
    ("window_reach", ["--prompts", "7"], "prompts 7: expected a whole number from 8 to"),
    ("window_reach", ["--tasks", ""], "tasks '': expected some"),
    ("window_reach", ["--tasks", "recall,recall"], "tasks 'recall,recall': expected some, each once"),
    ("window_reach", ["--tasks", "recal"], "no task 'recal': did you mean recall"),
    ("window_reach", ["--distances", "17,18"], "distances 17, 18: expected some"),
    ("window_reach", ["--distances", "15,200"], "below the context of 128"),
    ("window_reach", ["--models", "lab/gpt-neo", "{in}/narrow"], "has a window of 16, not of 4"),
    ("induction", ["--prompts", "7"], "prompts 7: expected a whole number from 8 to"),
    ("induction", ["--lengths", "2,17"], "lengths 2, 17: expected 3 to 63, for BOS and two copies have to fit"),
    ("induction", ["--lengths", "16,64"], "lengths 16, 64: expected 3 to 63"),
    ("induction", ["--revisions", "main"], "revision 'main': expected step and a number"),
    ("induction", ["--revisions", "step400"], "revision step400 alone"),
    ("induction", ["--revisions", "step400,step400"], "each once"),
    ("induction", ["--revisions", ","], "revisions ',': expected some"),
    ("rotary_vs_absolute", ["--prompts", "7"], "prompts 7: expected a whole number from 8 to"),
    ("ioi", ["--pairs", "{in}/pairs.jsonl", "--seed", "3"], "takes the place of seed: leave out seed 3"),
    ("ioi", ["--pairs", "{in}/pairs.jsonl", "--prompts", "8"], "takes the place of prompts: leave out prompts 8"),
    ("ioi", ["--pairs", "{in}/pairs.jsonl", "--corruption", "swap"], "leave out corruption 'swap'"),
    ("ioi", ["--pairs", "{in}/pairs.jsonl", "--distance", "12"], "leave out distance 12"),
    ("window_reach", ["--pairs", "{in}/pairs.jsonl", "--distances", "15,16"], "leave out distances (15, 16)"),
    ("window_reach", ["--pairs", "{in}/pairs.jsonl", "--tasks", "recall"], "leave out tasks ('recall',)"),
    *((name, ["--models", "lab/gpt2", *row], words) for name in PATCHING for row, words in PAIRS),
    *((name, ["--models", "lab/gpt2", *row], words) for name in READERS for row, words in TEXTS),
    *(
        (name, [option, value], f"{what} {value!r}: expected a whole number of tokens from {least}")
        for name, option, what, least in LISTS
        for value in ("x", "-1", "1.5", "8 16", "\u00b2", "\0", HUGE)
    ),
    *((name, [option, "0,16"], f"{what}s 0: expected a whole number") for name, option, what, _ in LISTS),
    *((name, [option, "8,8"], f"{what}s '8,8': expected some, each once") for name, option, what, _ in LISTS),
]  # fmt: skip

UNREADABLE_PAIRS = [
    (["--pairs", "{in}/same.jsonl"], "same.jsonl: the clean and the corrupted prompt are the same 5 tokens"),
    (["--pairs", "{in}/words.jsonl"], "lab/gpt2: line 3 of "),
    (["--pairs", "{in}/words.jsonl"], "words.jsonl: the answer of the pair is 'corn eggs', which is 2 tokens"),
    (["--pairs", "{in}/longer.jsonl"], "longer.jsonl: "),
]

LOADED = [
    ("ioi", ["--distance", "3"], "lab/gpt2: indirect_object at distance 3"),
    ("ioi", ["--distance", HUGE], f"distance {HUGE}"),
    ("ioi", ["--models", "{in}/weightless"], "no weights in the folder"),
    *((name, ["--models", "lab/gpt2", *row], words) for name in PATCHING for row, words in UNREADABLE_PAIRS),
    ("ioi", ["--models", "lab/gpt2", "{in}/wordless", "--pairs", "{in}/pairs.jsonl"], "wordless has no tokenizer"),
    ("window_reach", ["--models", "{in}/wordless", "--pairs", "{in}/pairs.jsonl"], "wordless has no tokenizer"),
    ("window_reach", ["--models", "lab/gpt2", "--pairs", "{in}/several.jsonl"], "differ in 2 tokens: expected one"),
    ("window_reach", ["--models", "lab/gpt2", "--pairs", "{in}/last.jsonl"], "differ in the last token"),
    ("window_reach", ["--models", "lab/gpt2", "--pairs", "{in}/lengths.jsonl"], "expected one length per distance"),
    ("window_reach", ["--models", "lab/gpt2", "--pairs", "{in}/pairs.jsonl"], "as many at each distance, 8 or more"),
    ("window_reach", ["--models", "lab/gpt2", "--pairs", "{in}/uneven.jsonl"], "9 at distance 1 and 8 at distance 2"),
    (
        "window_reach",
        ["--models", "lab/gpt2", "--pairs", "{in}/near.jsonl"],
        "near.jsonl has distances 1: expected some",
    ),
    ("window_reach", ["--distances", "4,16"], "indirect_object at distance 4"),
    ("window_reach", ["--distances", "15,119"], "induction at distance 119"),
    ("rotary_vs_absolute", ["--models", "{in}/short"], "has a context of 2 tokens: expected at least 32"),
    ("head_ablation", ["--models", "lab/gpt2", "--text", "{in}/good.txt"], "fills no 2 prompts of 128 tokens"),
    ("head_ablation", ["--models", "lab/gpt2", "--tokens", "{in}/row.tok"], "fills no 2 prompts of 128 tokens"),
    ("compare", ["--models", "lab/gpt2", "--text", "{in}/good.txt"], "fills no 2 prompts of 128 tokens"),
]
"""Options that only a loaded model shows to be wrong."""


class Command:
    """What a pickle would run."""

    def __reduce__(self):
        return os.system, ("exit 1",)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """Files and folders that no experiment takes."""
    folder = tmp_path_factory.mktemp("in")
    texts = {
        "file": "x", "empty.txt": "", "spaces.txt": " \n\t", "nul.txt": "a\0b", "good.txt": "farmer sells corn .",
        "words.tok": "1 2 x", "float.tok": "1.5 2", "negative.tok": "1 -2", "outside.tok": "1 2\n3 9999",
        "long.tok": "9" * 5000, "blank.tok": "\n \n", "single.tok": "5", "row.tok": "5 6 7", "garbage.pt": "x",
    }  # fmt: skip
    for name, text in texts.items():
        (folder / name).write_text(text)
    (folder / "latin.txt").write_bytes("Käse".encode("latin-1"))
    (folder / "utf16.txt").write_bytes("corn".encode("utf-16"))
    for name, target in {"dangling": "nowhere", "loop": "loop", "link.txt": "nowhere"}.items():
        (folder / name).symlink_to(folder / target)
    np.save(folder / "float.npy", np.ones((2, 3)))
    np.save(folder / "cube.npy", np.ones((2, 3, 4), dtype=int))
    np.save(folder / "object.npy", np.array([[1], [2, 3]], dtype=object), allow_pickle=True)
    np.save(folder / "none-at-all.npy", np.ones((0, 3), dtype=int))
    (folder / "truncated.npy").write_bytes((folder / "cube.npy").read_bytes()[:140])
    torch.save(torch.ones(2, 3), folder / "float.pt")
    torch.save({"tokens": torch.ones(3)}, folder / "dict.pt")
    torch.save(torch.ones(2, 3, dtype=torch.long, device="meta"), folder / "meta.pt")
    (folder / "pickle.pt").write_bytes(pickle.dumps(Command()))
    save_pairs(folder)
    save_models(folder)
    return folder


def save_pairs(folder):
    """Files of prompt pairs, all but `pairs.jsonl` wrong for one study or for both."""

    def row(clean="farmer sells corn .", corrupted="farmer sells eggs .", answer="corn", distractor="eggs", **more):
        return json.dumps({"clean": clean, "corrupted": corrupted, "answer": answer, "distractor": distractor, **more})

    farther = row("corn farmer sells", "eggs farmer sells")
    files = {
        "pairs": [row()], "broken": [row(), '{"clean": '], "list": ["[1, 2]"], "unknown": [row(distracter="eggs")],
        "lacking": ['{"clean": "corn", "corrupted": "eggs", "answer": "corn"}'], "number": [row(answer=3)],
        "same": [row(corrupted="farmer sells corn .")], "words": [row(), "", row(answer="corn eggs")],
        "longer": [row(corrupted="farmer sells eggs always .")], "several": [row(corrupted="potter sells eggs .")],
        "last": [row("farmer sells corn", "farmer sells eggs")],
        "lengths": [row(), row("sells corn .", "sells eggs .")],
        "uneven": [row()] * 9 + [farther] * 8, "near": [row()] * 8,
    }  # fmt: skip
    for name, lines in files.items():
        (folder / f"{name}.jsonl").write_text("\n".join(lines))


def save_models(folder):
    """Models of another kind, without weights, of two positions, and of another window."""
    for name in ("bert", "weightless"):
        (folder / name).mkdir()
    (folder / "bert/config.json").write_text('{"model_type": "bert"}')
    shutil.copy(lab_folder("lab/gpt2") / "config.json", folder / "weightless")
    sizes = {"vocab_size": 50, "n_positions": 2, "n_embd": 8, "n_layer": 1, "n_head": 1}
    GPT2LMHeadModel(GPT2Config(**sizes, bos_token_id=0, eos_token_id=0)).save_pretrained(folder / "short")
    wordless = shutil.ignore_patterns("step*", "tokenizer*")
    shutil.copytree(lab_folder("lab/gpt2"), folder / "wordless", ignore=wordless)
    shutil.copytree(lab_folder("lab/gpt-neo"), folder / "narrow", ignore=shutil.ignore_patterns("step*"))
    config = json.loads((folder / "narrow/config.json").read_text())
    (folder / "narrow/config.json").write_text(json.dumps(config | {"window_size": 4}))


def refused(experiment, arguments, words, inputs, folder, capsys, monkeypatch):
    """Assert that an experiment ends in one line that holds `words`, before it measures or writes anything."""
    out = folder / "out"
    monkeypatch.setattr(runner, "_measure_all", lambda *args, **kwargs: pytest.fail("something was measured"))
    arguments = [argument.replace("{in}", str(inputs)) for argument in arguments]
    before = sorted(inputs.rglob("*"))
    code = shell.call(find_study(experiment), *([] if arguments[0] == "--out" else ["--out", out]), *arguments)
    lines = capsys.readouterr().err.splitlines()
    assert code == 2
    assert len(lines) == 1, lines
    assert lines[0].startswith("error: ")
    assert words in lines[0]
    assert len(lines[0]) < 500 + len(str(inputs))
    assert not out.exists()
    assert sorted(inputs.rglob("*")) == before


CASES = [(name, *row) for name in EXPERIMENTS for row in ALL] + OWN


@pytest.mark.parametrize(("experiment", "arguments", "words"), CASES)
def test_a_wrong_option_is_refused_before_a_model_is_loaded(
    experiment, arguments, words, inputs, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(models, "load", lambda *args, **kwargs: pytest.fail("a model was loaded"))
    refused(experiment, arguments, words, inputs, tmp_path, capsys, monkeypatch)


@pytest.mark.parametrize(("experiment", "arguments", "words"), LOADED)
def test_what_only_a_loaded_model_shows_is_refused_before_anything_is_measured(
    experiment, arguments, words, inputs, tmp_path, capsys, monkeypatch
):
    refused(experiment, arguments, words, inputs, tmp_path, capsys, monkeypatch)


def test_the_table_has_300_rows_and_every_option_of_every_study():
    assert len(CASES) + len(LOADED) >= 300
    for name in EXPERIMENTS:
        used = {word.partition("=")[0] for experiment, words, _ in CASES if experiment == name for word in words}
        options = [option.opts[0] for option in typer.main.get_command(command.app(find_study(name))).params]
        assert {option for option in options if option.startswith("--")} - {"--help"} <= used, name


@pytest.mark.parametrize(
    ("experiment", "arguments", "words"),
    [
        ("ioi", ["--prompts", HUGE], f"prompts {HUGE}: expected"),
        ("compare", ["--models", "lab/gtp2"], "did you mean lab/gpt2"),
        ("window_reach", ["--tasks"], "'--tasks' requires an argument"),
    ],
)
def test_a_process_that_refuses_an_option_ends_with_code_2_and_one_line(experiment, arguments, words, tmp_path):
    root = Path(__file__).resolve().parents[2]
    code = f"import runpy, sys\nsys.path.insert(0, {str(root)!r})\n"
    run = run_script(code + f"runpy.run_module('experiments.{experiment}', run_name='__main__')", tmp_path, *arguments)
    assert run.returncode == 2
    assert run.stdout == ""
    assert words in run.stderr
    assert run.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


BAD_CONFIGS = [
    ("ioi", {"models": "lab/gpt2"}, TypeError, "models 'lab/gpt2': expected a list of names"),
    ("ioi", {"models": ()}, ValueError, "expected at least one name"),
    ("ioi", {"models": (3,)}, TypeError, "model 3: expected a name"),
    ("ioi", {"models": None}, TypeError, "models None: expected a list of names"),
    ("ioi", {"models": {"lab/gpt2": 1}}, TypeError, "expected a list of names"),
    ("ioi", {"prompts": True}, TypeError, "prompts True: expected a whole number"),
    ("ioi", {"prompts": 8.0}, TypeError, "prompts 8.0: expected a whole number"),
    ("ioi", {"prompts": None}, TypeError, "prompts None"),
    ("ioi", {"seed": "1"}, TypeError, "seed '1'"),
    ("ioi", {"corruption": None}, TypeError, "corruption None: expected swap or other"),
    ("ioi", {"direction": ["noise"]}, TypeError, "direction ['noise']: expected denoise or noise"),
    ("ioi", {"distance": 1.5}, TypeError, "distance 1.5: expected a whole number of tokens"),
    ("ioi", {"out": None}, TypeError, "out None: expected a path"),
    ("ioi", {"out": 3}, TypeError, "out 3: expected a path"),
    ("ioi", {"ignore_fields": "a"}, TypeError, "fields 'a': expected a list of strings"),
    ("ioi", {"ignore_fields": (1,)}, TypeError, "field 1: expected a string"),
    ("local_vs_global", {"text": 5}, TypeError, "text 5: expected a path"),
    ("local_vs_global", {"text": "a", "tokens": "b"}, ValueError, "give one of the two"),
    ("local_vs_global", {"length": np.array([8, 9])}, TypeError, "length ndarray of shape (2,)"),
    ("head_ablation", {"how": 1}, TypeError, "way to ablate 1: expected zero"),
    ("head_ablation", {"draws": float("nan")}, TypeError, "draws nan"),
    ("window_reach", {"tasks": "recall"}, TypeError, "tasks 'recall': expected a list of strings"),
    ("window_reach", {"tasks": ()}, ValueError, "tasks (): expected some"),
    ("window_reach", {"tasks": ("recal",)}, ValueError, "did you mean recall"),
    ("window_reach", {"distances": "16"}, TypeError, "distances '16': expected"),
    ("window_reach", {"distances": (16, 16)}, ValueError, "16 occurs twice"),
    ("window_reach", {"distances": (0, 16)}, ValueError, "distances 0: expected"),
    ("induction", {"lengths": (-2, 17)}, ValueError, "lengths -2: expected a whole number of at least 1"),
    ("induction", {"lengths": {16: 17}}, TypeError, "lengths {16: 17}: expected"),
    ("induction", {"revisions": "step400"}, TypeError, "revisions 'step400': expected a list of strings"),
    ("induction", {"revisions": (400,)}, TypeError, "revision 400: expected a string"),
    ("compare", {"prompts": 7}, ValueError, "prompts 7: expected a whole number from 8"),
    ("window_reach", {"distances": 10**30}, ValueError, "expected a whole number from 1 to 16777216"),
    ("ioi", {"distance": 10**30}, ValueError, "expected a whole number of tokens from 1 to 16777216"),
]


@pytest.mark.parametrize(("experiment", "fields", "error", "words"), BAD_CONFIGS)
def test_a_wrong_setting_is_refused_where_a_config_is_made(experiment, fields, error, words):
    with pytest.raises(error) as caught:
        find_study(experiment).config(**fields)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_cannot_change_the_mathematics_is_accepted_and_becomes_plain(tmp_path):
    config = find_study("window_reach").config
    fields = {"models": ["lab/gpt2"], "out": tmp_path, "prompts": np.int64(8), "seed": torch.tensor(3)}
    made = config(**fields, tasks=["recall"], distances=range(15, 17))
    plain = {"models": ("lab/gpt2",), "out": str(tmp_path), "prompts": 8, "seed": 3}
    assert made == config(**plain, tasks=("recall",), distances=(15, 16))
    assert [type(value) for value in (made.prompts, made.seed, *made.distances)] == [int] * 4


def test_the_largest_numbers_that_are_accepted_can_be_drawn_with():
    from neolens.lab.language.planted import planted

    seed = 2**63 - 1
    torch.Generator().manual_seed(seed)
    assert np.random.default_rng((seed, 0)).integers(10) >= 0
    assert len(planted("induction", 12, prompts=4, seed=seed).tokens) == 4
