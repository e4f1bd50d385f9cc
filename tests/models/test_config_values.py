"""Impossible values in config.json: each is refused with the field, the value and what was expected, before the weights
are read."""

import json
import math
import shutil

import pytest
import torch

import neolens
import tiny
from neolens.models import weight_files
from neolens.models.config_values import check_values

pytestmark = pytest.mark.untyped

WRONG = {
    "whole": ["x", "", None, -5, 0, 2.5, True, 10**30, math.nan, math.inf, [], [1], {"a": 1}, "1"],
    "layers": ["x", None, -5, 0, 2.5, True, 10**30, 10**9, math.nan, [], {"a": 1}],
    "share": ["x", None, -5, 1.5, True, 10**30, math.nan, math.inf, -1e-5, [], [0.1], {"a": 1}],
    "epsilon": ["x", None, -5, 0, 0.0, True, 10**30, math.nan, math.inf, -1e-5, 1e39, [], {"a": 1}],
    "flag": ["x", "true", None, 0, 1, 2.5, [], {"a": 1}, math.nan],
    "word": [None, -5, 0, 2.5, True, [], {"a": 1}, "mish", ""],
    "token": ["x", -5, 2.5, True, 10**30, math.nan, {"a": 1}, ["x"], [None]],
    "base": ["x", None, 0, -5, 0.5, True, math.nan, math.inf, 10**30, [], {"a": 1}],
    "kinds": [
        "x",
        -5,
        True,
        {"a": 1},
        [],
        [1],
        ["globa", "local"],
        [["global"]],
        ["global"],
        ["local"] * 5,
        [None] * 4,
    ],
    "groups": ["x", -5, {"a": 1}, [1], [[1]], [[["global"]]], [[["x"], 4]], [[["global"], 10**9]], [[["global"], 2.5]]],
    "table": ["x", -5, 2.5, True, [1], [{"rope_theta": 1}]],
    "names": ["x", -5, True, [1], [None], [["GPT2LMHeadModel"]], {"a": 1}],
}
FIELDS = {
    "gpt2": {
        **dict.fromkeys(("vocab_size", "n_positions", "n_embd", "n_head"), "whole"),
        "n_layer": "layers",
        **dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop", "summary_first_dropout"), "share"),
        "layer_norm_epsilon": "epsilon",
        **dict.fromkeys(("scale_attn_weights", "scale_attn_by_inverse_layer_idx", "reorder_and_upcast_attn"), "flag"),
        **dict.fromkeys(("add_cross_attention", "tie_word_embeddings", "use_cache"), "flag"),
        **dict.fromkeys(("activation_function", "summary_type"), "word"),
        **dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"), "token"),
        "architectures": "names",
    },
    "gpt-neo": {
        **dict.fromkeys(("vocab_size", "max_position_embeddings", "hidden_size", "num_heads", "window_size"), "whole"),
        "num_layers": "layers",
        **dict.fromkeys(("resid_dropout", "embed_dropout", "attention_dropout"), "share"),
        "layer_norm_epsilon": "epsilon",
        **dict.fromkeys(("tie_word_embeddings", "use_cache"), "flag"),
        "activation_function": "word",
        "attention_layers": "kinds",
        "attention_types": "groups",
        "eos_token_id": "token",
        "architectures": "names",
    },
    "pythia": {
        **dict.fromkeys(("vocab_size", "max_position_embeddings", "hidden_size", "num_attention_heads"), "whole"),
        "intermediate_size": "whole",
        "num_hidden_layers": "layers",
        **dict.fromkeys(("attention_dropout", "hidden_dropout", "classifier_dropout"), "share"),
        "layer_norm_eps": "epsilon",
        **dict.fromkeys(("use_parallel_residual", "attention_bias", "tie_word_embeddings"), "flag"),
        "hidden_act": "word",
        **dict.fromkeys(("rope_parameters.rope_theta", "rotary_emb_base", "rope_theta"), "base"),
        **dict.fromkeys(("rope_parameters.partial_rotary_factor", "rotary_pct", "partial_rotary_factor"), "share"),
        **dict.fromkeys(("rope_parameters", "rope_scaling"), "table"),
        "architectures": "names",
    },
}
CASES = [(family, field) for family, fields in FIELDS.items() for field in fields]


def changed(config, field, value):
    """A copy of a config's fields with one other value; `rope_parameters.rope_theta` is inside an object."""
    outer, _, inner = field.partition(".")
    return {**config, outer: {**config[outer], inner: value} if inner else value}


@pytest.mark.parametrize(("family", "field"), CASES)
def test_every_impossible_value_is_refused_by_the_name_of_its_field(family, field, tmp_path):
    raw = tiny.config(family, architectures=None).to_dict()
    for value in WRONG[FIELDS[family][field]]:
        (tmp_path / "config.json").write_text(json.dumps(changed(raw, field, value)))
        with pytest.raises(ValueError, match=rf"config field {field.replace('.', '[.]')} = .*: ") as refusal:
            neolens.load(tmp_path)  # there are no weights: that is not what is refused
        message = str(refusal.value)
        assert "\n" not in message
        assert "the weights" not in message
        assert len(message) < 450


def test_possible_values_are_left_alone():
    raw = {"n_inner": None, "layer_norm_epsilon": 1, "resid_pdrop": 0, "embd_pdrop": 1, "dtype": "float16"}
    check_values({**raw, "eos_token_id": [0, 1], "pad_token_id": -1, "unheard_of": object()}, "gpt2", {}, "model")
    rope = {"rope_theta": 10000, "rope_type": "default", "partial_rotary_factor": 1}
    check_values({"rope_parameters": rope, "rotary_pct": 0, "rope_scaling": None}, "gpt_neox", {}, "model")
    spans = {"attention_types": ((("global",), 1), (("local",), 2)), "attention_layers": ("global", "local", "local")}
    check_values({**spans, "num_layers": 3, "window_size": 2**20}, "gpt_neo", {}, "model")


CONTRADICTIONS = [
    ("pythia", {"rope_theta": 500.0}, "rope_theta = 500.0 contradicts rope_parameters.rope_theta = 10000"),
    ("pythia", {"rotary_emb_base": 500}, "rotary_emb_base = 500 contradicts rope_parameters.rope_theta = 10000"),
    ("pythia", {"rotary_pct": 0.25}, "rotary_pct = 0.25 contradicts rope_parameters.partial_rotary_factor = 0.5"),
    ("pythia", {"partial_rotary_factor": 1.0}, "partial_rotary_factor = 1.0 contradicts"),
    ("pythia", {"rope_scaling": {"rope_theta": 20.0}}, r"rope_parameters\.rope_theta = 10000 contradicts .* = 20.0"),
    ("gpt2", {"hidden_size": 64}, "hidden_size = 64 contradicts n_embd = 32"),
    ("gpt2", {"num_attention_heads": 2}, "num_attention_heads = 2 contradicts n_head = 4"),
    ("gpt-neo", {"num_hidden_layers": 2}, "num_hidden_layers = 2 contradicts num_layers = 4"),
    ("gpt-neo", {"num_layers": 3}, "attention_layers = .*: expected 3 layers, as num_layers says, and not 4"),
    ("gpt-neo", {"attention_types": [[["local"], 4]]}, "attention_types = .* contradicts attention_layers = "),
]


@pytest.mark.parametrize(("family", "change", "message"), CONTRADICTIONS)
def test_two_names_of_one_fact_may_not_contradict_each_other(family, change, message, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({**tiny.config(family).to_dict(), **change}))
    with pytest.raises(ValueError, match=message):
        neolens.anatomy(tmp_path)


NOT_AN_OBJECT = {
    "empty": b"",
    "cut": b"{",
    "list": b"[]",
    "null": b"null",
    "number": b"5",
    "binary": b"\x00\xff\xfe\x80",
    "100,000 brackets": b"[" * 100_000,
    "100,000 brackets inside": b'{"a":' + b"[" * 100_000,
    "a number of 5,000 digits": b'{"model_type": "gpt2", "n_layer": ' + b"1" * 5000 + b"}",
}


@pytest.mark.parametrize("content", NOT_AN_OBJECT.values(), ids=NOT_AN_OBJECT.keys())
def test_a_config_that_is_no_json_object_is_refused_in_one_line(content, tmp_path):
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"config\.json (is not valid JSON|holds a ).*save the model anew") as refusal:
        neolens.load(tmp_path)
    assert "\n" not in str(refusal.value)


def test_deeply_nested_values_are_shown_in_short(tmp_path):
    for field in ("architectures", "unheard_of"):
        (tmp_path / "config.json").write_text(f'{{"model_type": "gpt2", "{field}": {"[" * 900}{"]" * 900}}}')
        with pytest.raises(ValueError, match=rf"config field {field} = \[\[.*\.\.\."):
            neolens.anatomy(tmp_path)


MISMATCHED = {
    ("gpt2", "vocab_size"): (60, "transformer.wte.weight has shape [61, 32]", 61),
    ("gpt2", "n_positions"): (32, "transformer.wpe.weight has shape [64, 32]", 64),
    ("gpt2", "n_embd"): (64, "transformer.wte.weight has shape [61, 32]", 32),
    ("gpt2", "n_inner"): (None, "transformer.h.0.mlp.c_fc.weight has shape [32, 48]", 48),
    ("gpt2", "n_layer"): (2, "the weights have 3 layers", 3),
    ("gpt-neo", "vocab_size"): (10**6, "transformer.wte.weight has shape [61, 32]", 61),
    ("gpt-neo", "max_position_embeddings"): (2**30, "transformer.wpe.weight has shape [64, 32]", 64),
    ("gpt-neo", "intermediate_size"): (None, "transformer.h.0.mlp.c_fc.weight has shape [48, 32]", 48),
    ("pythia", "vocab_size"): (2**31 - 1, "gpt_neox.embed_in.weight has shape [61, 32]", 61),
    ("pythia", "hidden_size"): (64, "gpt_neox.embed_in.weight has shape [61, 32]", 32),
    ("pythia", "intermediate_size"): (128, "gpt_neox.layers.0.mlp.dense_h_to_4h.weight has shape [48, 32]", 48),
    ("pythia", "num_hidden_layers"): (4, "the weights have 3 layers", 3),
}


@pytest.mark.parametrize("pickled", [False, True])
@pytest.mark.parametrize(("case", "expected"), MISMATCHED.items())
def test_a_size_that_the_weights_contradict_is_named_with_the_one_that_fits(
    case, expected, pickled, tiny_folders, tmp_path
):
    (name, field), (value, fact, right) = case, expected
    folder = shutil.copytree(tiny_folders[name], tmp_path / "model")
    if pickled:
        torch.save(tiny.model(name).state_dict(), folder / "pytorch_model.bin")
        (folder / "model.safetensors").unlink()
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, field: value}))
    with pytest.raises(ValueError, match=f"config field {field} = {value}") as refusal:
        neolens.load(folder)
    assert fact in str(refusal.value)
    assert f"({field} = {right})" in str(refusal.value)


def test_headers_are_read_before_transformers_builds_a_model(tiny_folders, tmp_path, monkeypatch):
    folder = shutil.copytree(tiny_folders["gpt2"], tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "vocab_size": 2**31 - 1}))
    monkeypatch.setattr("transformers.AutoModelForCausalLM.from_pretrained", lambda *a, **k: pytest.fail("built"))
    with pytest.raises(ValueError, match="vocab_size"):
        neolens.load(folder)
    assert weight_files.WEIGHT_FILES[0] == "model.safetensors"


@pytest.mark.parametrize("change", [{"layer_norm_epsilon": -1.0}, {"attn_pdrop": 2.0}, {"n_head": "4"}])
def test_a_model_in_memory_with_an_impossible_config_is_refused_too(change):
    model = tiny.model("gpt2")
    for field, value in change.items():
        model.config.__dict__[field] = value
    with pytest.raises(ValueError, match=f"config field {next(iter(change))} = "):
        neolens.load(model)
