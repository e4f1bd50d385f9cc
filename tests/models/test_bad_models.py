"""Bad names, revisions, devices, folders and files: the library and the command line refuse each in one clear line."""

import io
import json
import math
import random
import shutil
import struct
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
import torch

import neolens
import tiny
from neolens import checking, cli, models
from neolens.lab import folder as lab_folder
from neolens.models import describe
from neolens.models.checkpoints import checkpoints, step_of
from neolens.models.tokenizers import read_tokenizer

pytestmark = pytest.mark.untyped

REFUSALS = (ValueError, TypeError, OSError)


@pytest.fixture(autouse=True)
def _offline(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


@pytest.fixture(scope="module")
def model():
    return neolens.load("lab/gpt2", device="cpu")


@pytest.fixture
def places(tmp_path):
    """Paths at which there is no model."""
    (tmp_path / "file").write_text("x")
    (tmp_path / "empty").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a").write_text("")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    return tmp_path


def refusal(function, *arguments, **options):
    """The error of a call, which has to be ours and one line."""
    with pytest.raises(REFUSALS) as raised:
        function(*arguments, **options)
    message = str(raised.value)
    assert message.strip()
    assert "\n" not in message
    assert len(message) < 450
    assert raised.traceback[-1].path.is_relative_to(Path(neolens.__file__).parent), message
    return message


class Unprintable:
    def __repr__(self):
        raise RuntimeError("no repr")


NAMES = {
    **dict.fromkeys(["", " ", "\n", "\0", "a\0b"], "expected a catalogue name"),
    **dict.fromkeys(["/", "/nowhere/x", "a/b/c", "~nobody/x", "x" * 5000, "/" + "x" * 5000], "config.json"),
    **dict.fromkeys(["gpt-3", "gpt2 ", "lab/", "lab/x"], ""),
    **dict.fromkeys(["-a/b", "nobody/nothing", "a--b/c"], "hub"),
    **dict.fromkeys(["=", "a=", "=b"], "expected LABEL=NAME"),
    **dict.fromkeys(["lab/gpt2@", "lab/gpt2@9", "lab/gpt2@x"], "there are lab/gpt2, lab/gpt2@1"),
    "lab/gpt2@step400": "revision='step400'",
}
NOT_NAMES = [None, 5, 2.5, True, [], ["lab/gpt2"], {}, b"lab/gpt2", ("lab/gpt2",), np.array(["x"]), torch.zeros(2), int]


@pytest.mark.parametrize(
    ("name", "fact"), [(n, f) for n, f in NAMES.items() if n != "gpt2 "], ids=lambda v: repr(v)[:30]
)
def test_a_name_that_no_model_has_is_refused_by_every_function(name, fact):
    for function in (neolens.anatomy, neolens.load, models.fetch, checking.check):
        assert fact in refusal(function, name)
    refusal(models.lab_seeds, name)
    refusal(models.lab_revisions, name)


@pytest.mark.parametrize("place", ["file", "empty", "dangling", "loop", "file/inside", "nowhere"])
@pytest.mark.parametrize("kind", [str, Path])
def test_a_path_without_a_model_is_refused_by_every_function(place, kind, places):
    for function in (neolens.anatomy, neolens.load, models.fetch, checking.check, checkpoints):
        assert place.split("/")[0] in refusal(function, kind(places / place))


@pytest.mark.parametrize("value", [*NOT_NAMES, Unprintable()], ids=lambda value: type(value).__name__)
def test_what_is_no_name_is_refused_by_every_function(value):
    for function in (neolens.anatomy, neolens.load, models.fetch, checking.check, models.lab_seeds, checkpoints):
        message = refusal(function, value)
        assert any(words in message for words in ("expected", "named by a string or a path", "takes a model's name"))


@pytest.mark.parametrize(
    "revision", ["", " ", "step401", "400", "STEP400", "main\0", 400, 4.5, True, [], b"x", "x" * 999]
)
def test_a_revision_that_does_not_exist_is_refused_by_every_function(revision, model):
    for function in (neolens.anatomy, neolens.load, models.fetch, checking.check):
        assert "revision" in refusal(function, "lab/gpt2", revision=revision)
    assert "revision" in refusal(models.fetch, "gpt2", revision=revision)
    for in_memory in (model, model.original_model):
        assert "has no revision" in refusal(neolens.anatomy, in_memory, revision=revision)
    assert "revision" in refusal(checkpoints, "lab/gpt-neo", [revision])
    if revision != "step401":
        assert "step1000" in refusal(step_of, revision)


@pytest.mark.parametrize("revisions", ["step400", 400, {"step400": 1}, b"x", {"step400"}, 2.5, True])
def test_revisions_that_are_no_list_are_refused(revisions):
    assert "expected a list of names" in refusal(checkpoints, "lab/gpt-neo", revisions)


DEVICES = [
    "",
    "tpu",
    "gpu",
    "cuda:99",
    "meta",
    "cpu:x",
    "CPU",
    99,
    -1,
    2.5,
    True,
    False,
    [],
    ["cpu"],
    {},
    b"cpu",
    "x" * 500,
]


@pytest.mark.parametrize("device", DEVICES, ids=lambda value: repr(value)[:20])
def test_a_device_that_cannot_be_used_is_refused_before_the_model_is_read(device, monkeypatch):
    monkeypatch.setattr("neolens.models.weights.read_model", lambda *a: pytest.fail("read"))
    for function in (neolens.load, checking.check):
        assert refusal(function, "lab/gpt2", device=device).startswith("device ")


DTYPES = ["", "int64", "float33", "torch.float32", torch.int8, np.float32, np.dtype("float32"), 0, 32, False, [], {}]


@pytest.mark.parametrize(
    "dtype", [*DTYPES, ["float32"], b"float32", float, torch.zeros(3)], ids=lambda value: repr(value)[:20]
)
def test_a_dtype_that_is_not_handled_is_refused(dtype, model):
    for function in (neolens.load, checking.check):
        assert "expected float32, bfloat16" in refusal(function, "lab/gpt2", dtype=dtype)
    assert "expected float32, bfloat16" in refusal(neolens.load, model.original_model, dtype=dtype)


FIELDS = [5, None, 2.5, True, [1], [None], [""], [["a"]], {"a": 1}, b"x", "", " ", {"a"}, object(), [b"x"], "n_layer"]


@pytest.mark.parametrize("fields", FIELDS, ids=lambda value: repr(value)[:20])
def test_ignored_fields_are_names_of_fields(fields):
    for function in (neolens.anatomy, neolens.load, models.fetch, checking.check):
        assert "ignore" in refusal(function, "lab/gpt2", ignore_fields=fields)


@pytest.mark.parametrize("tokenizer", ["gpt2", True, 5, [], {}, int, object(), str.split, 0, ""])
def test_what_is_no_tokenizer_is_refused_before_the_weights_are_read(tokenizer, model, monkeypatch):
    monkeypatch.setattr("neolens.models.weights.read_model", lambda *a: pytest.fail("read"))
    for name in ("lab/gpt2", model.original_model):
        assert "expected a Hugging Face tokenizer" in refusal(neolens.load, name, tokenizer=tokenizer)


@pytest.mark.parametrize("value", ["yes", 1, None, 2.5, []])
def test_whether_every_layer_is_tried_is_true_or_false(value):
    assert "every_layer" in refusal(checking.check, "lab/gpt2", every_layer=value)


@pytest.mark.parametrize("place", ["file", "full", "dangling", "loop", "file/inside", "x" * 300, "", "\0"])
def test_a_model_is_not_saved_where_that_is_impossible(place, places, model):
    before = sorted(places.rglob("*"))
    assert "folder" in refusal(models.save, model, str(places / place) if place else place)
    assert sorted(places.rglob("*")) == before


@pytest.mark.parametrize("value", [None, 5, [], b"x", True, object()])
def test_a_model_is_saved_under_a_path(value, model):
    assert "expected the path of a new folder" in refusal(models.save, model, value)


@pytest.mark.parametrize(
    "value", [None, 5, "lab/gpt2", [], object, torch.nn.Linear(2, 2)], ids=lambda value: repr(value)[:20]
)
def test_what_is_no_model_is_neither_saved_nor_described(value, tmp_path):
    assert "takes a model from neolens.load" in refusal(models.save, value, tmp_path / "new")
    if value != "lab/gpt2":
        assert "expected a model or a model's name" in refusal(neolens.anatomy, value)


def test_a_part_of_a_model_is_not_described(model):
    assert "expected a model" in refusal(neolens.anatomy, model.blocks[0])
    assert "expected a model" in refusal(neolens.anatomy, type(model))


SPANS = [("x",), (None,), ("local", "4"), ("local", 2.5), ("local", True), ("local", -1), ("local", 10**30), ("local",)]
POSITIONS = [("x",), (5,), (["rotary"],), ("rotary",), ("rotary", 4), ("rotary", 4, -1.0), ("rotary", 4, math.nan)]


@pytest.mark.parametrize(
    "arguments", [*SPANS, ("local", math.nan), ("local", [4]), ("global", 0), (["local"], 4)], ids=repr
)
def test_a_span_of_no_attention_is_refused(arguments):
    refusal(models.AttentionSpan, *arguments)


@pytest.mark.parametrize(
    "arguments", [*POSITIONS, ("rotary", 3, 1e4), ("rotary", "4", 1e4), ("none", 0, 5.0)], ids=repr
)
def test_a_position_of_no_model_is_refused(arguments):
    refusal(models.Position, *arguments)


RECORD = neolens.anatomy("lab/gpt-neo")


@pytest.mark.parametrize(
    "text", [None, 5, b"x", "", "{", "[]", "null", "[" * 100_000, "{}", {}, []], ids=lambda v: repr(v)[:20]
)
def test_what_is_no_record_of_an_anatomy_is_refused(text):
    assert "is no record of an anatomy" in refusal(models.from_record, text)


@pytest.mark.parametrize("value", [-5, 10**30, math.nan, [1], {"a": 1}], ids=repr)
def test_a_record_with_an_impossible_value_is_refused(value):
    import dataclasses

    record = dataclasses.asdict(RECORD)
    assert models.from_record(json.dumps(record)) == RECORD
    for field in record:
        if field != "ignored_fields" or value != [1]:
            refusal(models.from_record, json.dumps({**record, field: value}))


@pytest.mark.parametrize("question", ["weather", "", None, 5, [], ["attention"]])
def test_a_question_that_no_comparison_asks_is_refused(question):
    for function in (describe.differences, describe.differences_title):
        assert "expected one of attention, position" in refusal(function, [RECORD], question)
    assert "anatomies" in refusal(describe.side_by_side, ["lab/gpt2"])


# Files ------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    """A copy of a lab network that a test may damage."""
    return Path(shutil.copytree(lab_folder("gpt-neo"), tmp_path / "m", ignore=shutil.ignore_patterns("step*")))


WEIGHTS = (lab_folder("gpt-neo") / "model.safetensors").read_bytes()
HEADER = 8 + struct.unpack("<Q", WEIGHTS[:8])[0]


def flipped(at, bit):
    content = bytearray(WEIGHTS)
    content[at] ^= 1 << bit
    return bytes(content)


def test_weights_cut_anywhere_are_refused_in_one_line(folder):
    for size in (0, 1, 8, 9, 100, HEADER - 1, HEADER, len(WEIGHTS) // 2, len(WEIGHTS) - 1):
        (folder / "model.safetensors").write_bytes(WEIGHTS[:size])
        assert "model.safetensors" in refusal(neolens.load, folder)


def test_a_flipped_bit_in_the_header_of_the_weights_is_refused_in_one_line(folder):
    draw = random.Random(0)
    for _ in range(40):
        (folder / "model.safetensors").write_bytes(flipped(draw.randrange(HEADER), draw.randrange(8)))
        assert "config field" not in refusal(neolens.load, folder)


def test_whole_numbers_are_not_read_as_weights(folder):
    at = WEIGHTS.index(b'"F16"')
    (folder / "model.safetensors").write_bytes(WEIGHTS[:at] + b'"I16"' + WEIGHTS[at + 5 :])
    assert "has dtype I16: expected one of BF16, F16, F32, F64" in refusal(neolens.load, folder)


@pytest.mark.parametrize(
    ("index", "fact"),
    [
        ("", "is not valid JSON"),
        ("[]", "holds a list"),
        ("[" * 100_000, "nested too deeply"),
        ('{"weight_map": 5}', "has no weight_map"),
        ('{"weight_map": {}}', "has no weight_map"),
        ('{"weight_map": {"a": 5}}', "has no weight_map"),
        ('{"weight_map": {"a": "x.safetensors"}}', "'x.safetensors' is not in the folder"),
    ],
)
def test_a_damaged_index_of_shards_is_refused_by_its_name(index, fact, folder):
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(index)
    message = refusal(neolens.load, folder)
    assert fact in message
    assert "model.safetensors.index.json" in message


def test_a_folder_without_weights_names_the_file_that_was_expected_and_the_one_that_is_there(folder):
    (folder / "model.safetensors").rename(folder / "weights.safetensors")
    assert "expected model.safetensors beside config.json, and not weights.safetensors" in refusal(neolens.load, folder)
    (folder / "pytorch_model.bin").write_bytes(b"garbage")
    assert "read from pytorch_model.bin (torch.save has not written it" in refusal(neolens.load, folder)


NOT_AN_OBJECT = ["", "{", "[]", "null", "5", "[" * 100_000, "\x00"]
JSON_FILES = ["tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "generation_config.json"]


@pytest.mark.parametrize("file", JSON_FILES)
def test_a_damaged_file_beside_the_weights_is_refused_by_its_name(file, folder):
    for content in NOT_AN_OBJECT:
        (folder / file).write_text(content)
        message = refusal(neolens.load, folder)
        assert file in message
        assert "the weights" not in message


WRONG_SETTINGS = {
    "bos_token": [-5, 2.5, True, [], {"a": 1}],
    "eos_token": [5, [], {"content": 5}],
    "model_max_length": ["x", [], {"a": 1}, -5, True],
    "tokenizer_class": [-5, 2.5, True, [], {"a": 1}],
    "added_tokens_decoder": ["x", None, -5, [], {"a": 1}, {"5": 1}],
    "padding_side": ["x", None, 5, []],
    "extra_special_tokens": ["x", 5, True, {"a": 1}, [1]],
    "chat_template": [5, True, [1]],
}


@pytest.mark.parametrize("field", WRONG_SETTINGS)
def test_an_impossible_value_in_tokenizer_config_json_is_refused_by_the_name_of_its_field(field, folder):
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    for value in WRONG_SETTINGS[field]:
        (folder / "tokenizer_config.json").write_text(json.dumps({**settings, field: value}))
        message = refusal(read_tokenizer, folder, "m")
        assert f"tokenizer_config.json: field {field} = " in message
        assert "tokenizer=False" in message


def test_an_impossible_setting_of_generation_is_not_blamed_on_the_weights(folder):
    settings = json.loads((folder / "generation_config.json").read_text())
    (folder / "generation_config.json").write_text(json.dumps({**settings, "suppress_tokens": 2.5}))
    assert "generation_config.json: field suppress_tokens = 2.5 cannot be read" in refusal(neolens.load, folder)


@pytest.mark.parametrize(
    "card", ["", "[]", "{}", '{"recipe": 5}', '{"recipe": {"steps": "x"}}', '{"recipe": {"steps": -1}}']
)
def test_a_damaged_card_of_a_training_is_refused_by_its_name(card, tmp_path):
    folder = shutil.copytree(lab_folder("gpt-neo"), tmp_path / "m")
    (folder / "card.json").write_text(card)
    assert "card.json" in refusal(checkpoints, folder)


# The command line ---------------------------------------------------------------------------------------

COMMANDS = [
    *([command, name] for command in ("describe", "check") for name in ("", " ", "\0", "lab/x", "gpt-3", "x" * 5000)),
    *([command, "nobody/nothing"] for command in ("describe", "check")),
    *(
        [command, "lab/gpt2", "--revision", revision]
        for command in ("describe", "check")
        for revision in ("", " ", "step401", "x" * 500, "main\0", "-1")
    ),
    *(
        [command, "lab/gpt2", "--ignore-fields", field]
        for command in ("describe", "check")
        for field in ("", "n_layer")
    ),
    *(["describe", "lab/gpt2", "--question", question] for question in ("", "x", "Attention", "attention,position")),
    *(["check", "lab/gpt2", "--device", device] for device in ("tpu", "cuda:99", "", "meta", "-1")),
    *(["check", "lab/gpt2", "--dtype", dtype] for dtype in ("int8", "", "float33", "32", "None")),
]
USAGE = [["models", "x"], ["frobnicate"], ["check"], ["describe"], ["check", "lab/gpt2", "--bad"], ["check", "a", "b"]]


def call(*arguments):
    """The exit code of a command, and what it prints on standard output and standard error."""
    out, err = io.StringIO(), io.StringIO()
    argv = ["neolens", *map(str, arguments)]
    with (
        patch.object(sys, "argv", argv),
        redirect_stdout(out),
        redirect_stderr(err),
        pytest.raises(SystemExit) as end,
    ):
        cli.main()
    return end.value.code, out.getvalue(), err.getvalue()


@pytest.mark.parametrize("arguments", COMMANDS, ids=lambda words: " ".join(words)[:50])
def test_a_bad_argument_of_a_command_ends_in_one_line_and_exit_code_2(arguments):
    code, out, err = call(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert len(err) < 450


@pytest.mark.parametrize("arguments", USAGE, ids=" ".join)
def test_a_wrong_use_of_a_command_ends_in_one_line_and_exit_code_2(arguments):
    code, out, err = call(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert err.endswith("see --help\n")
    assert err.count("\n") == 1


@pytest.mark.parametrize("place", ["file", "empty", "dangling", "loop", "nowhere"])
def test_a_command_refuses_a_path_without_a_model_in_one_line(place, places):
    for command in ("describe", "check"):
        code, out, err = call(command, places / place)
        assert (code, out) == (2, "")
        assert err.startswith("error: ")
        assert err.count("\n") == 1


def test_a_folder_may_be_saved_into_when_it_is_empty(places, model):
    folder = models.save(model, places / "empty")
    assert torch.equal(neolens.load(folder, device="cpu")(torch.arange(9)[None]), model(torch.arange(9)[None]))


def test_the_tiny_models_still_load(tiny_folders):
    assert {neolens.load(tiny_folders[name]).anatomy.family for name in tiny.NAMES} == {"gpt2", "gpt_neo", "gpt_neox"}


@pytest.mark.parametrize(
    ("field", "value"), [("max_new_tokens", -5), ("cache_implementation", "x"), ("watermarking_config", 5)]
)
def test_a_setting_of_generation_in_config_json_is_not_blamed_on_the_weights(field, value, folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, field: value}))
    message = refusal(neolens.load, folder)
    assert f"config field {field} = {value!r}: expected a setting of generation" in message
    assert "the weights" not in message
