"""Anatomy: against Hugging Face's own models, published counts, and refusals by name."""

import json
from dataclasses import replace

import pytest
import torch
from transformers import AutoModelForCausalLM

import neolens
import tiny
from neolens.models import catalogue
from neolens.models.anatomy import AttentionSpan, Position
from neolens.models.supported import supported_config

# Published: gpt2 124M; "85M" without embeddings for the 125M-class; Biderman et al. 2023, table 1 for Pythia.
PUBLISHED_COUNTS = {
    "gpt2": (124_439_808, 85_056_000),
    "gpt2-xl": (1_557_611_200, 1_475_561_600),
    "gpt-neo-125M": (125_198_592, 85_028_352),
    "pythia-70m": (70_426_624, 18_915_328),
    "pythia-160m": (162_322_944, 85_056_000),
    "pythia-410m": (405_334_016, 302_311_424),
    "pythia-1.4b": (1_414_647_808, 1_208_602_624),
    "pythia-6.9b": (6_857_302_016, 6_444_163_072),
    "pythia-12b": (11_846_072_320, 11_327_027_200),
}


@pytest.mark.parametrize(("name", "counts"), PUBLISHED_COUNTS.items())
def test_parameter_counts_are_the_published_ones(name, counts):
    anatomy = neolens.anatomy(name)
    assert (anatomy.parameters, anatomy.parameters_without_embeddings) == counts


@pytest.mark.parametrize("name", [name for name in catalogue() if not name.endswith("-deduped")])
def test_parameters_are_counted_as_hugging_face_builds_them(name):
    entry = catalogue()[name]
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(supported_config(entry.config, name))
    assert neolens.anatomy(name).parameters == sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("name", tiny.NAMES)
def test_a_model_a_folder_and_a_bridge_have_one_anatomy(name, tiny_models, tiny_folders, bridges):
    of_folder = neolens.anatomy(tiny_folders[name])
    assert neolens.anatomy(bridges[name]) == of_folder
    of_model = neolens.anatomy(tiny_models[name])
    assert replace(of_model, name=of_folder.name) == of_folder
    assert of_folder.parameters == sum(parameter.numel() for parameter in tiny_models[name].parameters())


def test_gpt_neo_counts_its_layers_from_zero_and_zero_is_global():
    anatomy = neolens.anatomy("gpt-neo-125m")
    assert anatomy.attention == (AttentionSpan("global"), AttentionSpan("local", 256)) * 6
    assert anatomy.scale == 1.0
    assert not anatomy.qkv_bias
    assert anatomy.layers_of_kind("local") == (1, 3, 5, 7, 9, 11)


@pytest.mark.parametrize("letter", "abcde")
def test_stanfords_gpt2_is_gpt2_small_with_two_flags(letter):
    stanford, gpt2 = neolens.anatomy(f"Stanford-GPT2-small-{letter}"), neolens.anatomy("gpt2")
    changed = {"upcasts_scores": True, "inverse_layer_scale": True, "data": "OpenWebText", "name": stanford.name}
    assert stanford == replace(gpt2, **changed)
    assert stanford.layer_scale(3) == 0.125 / 4
    assert catalogue()[stanford.name].hub_id.startswith("stanford-crfm/")


def test_checkpoints_are_revisions_named_after_their_step(tmp_path):
    from neolens.models.checkpoints import checkpoints

    name = "stanford-gpt2-small-c"
    both = checkpoints(name, ["checkpoint-1000", "checkpoint-200"])
    assert both == {200: (name, "checkpoint-200"), 1000: (name, "checkpoint-1000")}
    assert checkpoints("gpt2", ["checkpoint-1000"]) == {}
    for step in (20, 100):
        tiny.model("gpt2").save_pretrained(tmp_path / f"checkpoint-{step}")
    tiny.model("gpt2").save_pretrained(tmp_path)
    assert [*checkpoints(str(tmp_path))] == [20, 100]
    with pytest.raises(ValueError, match="has no checkpoint 'step7': there are checkpoint-20, checkpoint-100"):
        checkpoints(str(tmp_path), ["step7"])
    with pytest.raises(ValueError, match="expected step and a number, such as step1000 or checkpoint-1000"):
        checkpoints(name, ["checkpoint1000"])


def test_pythia_turns_a_quarter_of_each_head():
    anatomy = neolens.anatomy("Pythia-160M")
    assert anatomy.position == Position("rotary", rotary_dims=16, base=10000.0)
    # 10000 ** (-2 m / 16) for m = 0..7
    assert anatomy.position.frequencies == pytest.approx([1, 10**-0.5, 0.1, 10**-1.5, 0.01, 10**-2.5, 1e-3, 10**-3.5])
    assert anatomy.parallel
    assert not anatomy.tied_embedding
    assert anatomy.scale == 0.125


def test_neox_without_rotated_dimensions_has_no_position():
    config = tiny.config("neox-sequential", rotary_pct=0.0)
    assert neolens.models.config_facts.from_config(config, "nope").position == Position("none")


@pytest.mark.parametrize("name", ["GPT2", "gpt-NEO-125m", "eleutherai/PYTHIA-70M-deduped", "LAB/gpt-neo"])
def test_letter_case_does_not_matter(name):
    assert neolens.anatomy(name).name.lower() in name.lower()


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("gpt-neo-125", "gpt-neo-125M"),
        ("pythia160m", "pythia-160m"),
        ("lab/gptneo", "lab/gpt-neo"),
        ("gpt22", "gpt2"),
    ],
)
def test_an_unknown_name_is_refused_with_its_near_misses(name, near):
    with pytest.raises(ValueError, match=f"did you mean .*{near}"):
        neolens.anatomy(name)


@pytest.mark.parametrize(
    ("family", "change", "message"),
    [
        ("gpt2", {"add_cross_attention": True}, "add_cross_attention = True"),
        ("gpt2", {"activation_function": "mish"}, "activation_function = 'mish' is not handled"),
        ("gpt2", {"sliding_window": 128}, "sliding_window = 128 is not handled: .*which keys are seen"),
        ("gpt2", {"quantization_config": {"bits": 4}}, "quantization_config"),
        ("pythia", {"architectures": ["GPTNeoXForSequenceClassification"]}, "it has no language-model head"),
        ("gpt2", {"architectures": ["GPTNeoForCausalLM"]}, "neolens handles the language model GPT2LMHeadModel"),
        ("gpt2", {"is_causal": False}, "is_causal = False is not handled"),
        ("gpt2", {"unheard_of": False}, "unheard_of = False is not handled: unknown .*--ignore-fields unheard_of"),
        ("gpt2", {"n_head": 0}, "n_head = 0: expected a whole number from 1"),
        ("pythia", {"model_type": ["gpt_neox"]}, "is not handled"),
        ("gpt2", {"n_head": 5}, "5 heads do not divide the width 32"),
        ("gpt-neo", {"window_size": 0}, "window_size = 0"),
        ("gpt-neo", {"attention_types": [[["global", "sparse"], 2]]}, "attention_types = .*'sparse'"),
        ("pythia", {"attention_bias": False}, "attention_bias = False"),
        ("pythia", {"rope_parameters": {"rope_type": "linear", "factor": 2.0}}, "rope_type = 'linear'"),
        ("pythia", {"head_dim": 16}, "head_dim = 16"),
        ("pythia", {"model_type": "llama"}, "model_type 'llama' is not handled"),
    ],
)
def test_what_would_change_the_mathematics_is_refused_by_name(family, change, message, tmp_path):
    raw = tiny.config(family).to_dict()
    if "attention_types" in change:
        raw.pop("attention_layers")
    (tmp_path / "config.json").write_text(json.dumps({**raw, **change}))
    with pytest.raises(ValueError, match=message):
        neolens.anatomy(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("global", 4), "a global layer has no window"),
        (("local", None), "a local layer needs a window"),
        (("local", 0), "a local layer needs a window of at least 1"),
    ],
)
def test_impossible_spans_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        AttentionSpan(*arguments)


def test_what_published_configs_hold_besides_is_no_obstacle(tmp_path):
    extra = {
        "tokenizer_class": "GPT2Tokenizer",
        "task_specific_params": {"text-generation": {"do_sample": True, "max_length": 50}},
        "output_past": True,
        "gradient_checkpointing": False,
        "_num_labels": 1,
        "n_ctx": 64,
        "add_cross_attention": False,
        "num_beams": 1,
        "torch_dtype": "float16",
        "rope_scaling": None,
    }
    (tmp_path / "config.json").write_text(json.dumps({**tiny.config("gpt2").to_dict(), **extra}))
    assert neolens.anatomy(tmp_path).layers == 3
