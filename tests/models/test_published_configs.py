"""Configs as they are published, with sizes shrunk: they load and agree with Hugging Face, or are refused with advice.

The fields are those of the config.json in each model's repository, or in public logs of it; the model types are theirs.
"""

import json

import pytest
import torch
from transformers import AutoModelForCausalLM

import neolens
import tiny
from neolens import results
from neolens.models.config_fields import is_harmless

ACCEPTED = {
    "EleutherAI/gpt-neox-20b": ("pythia", {"attention_probs_dropout_prob": 0, "hidden_dropout_prob": 0}),
    "EleutherAI/polyglot-ko": ("pythia", {"num_steps": "global_step320000", "attention_probs_dropout_prob": 0}),
    "h2oai/h2ogpt": (
        "pythia",
        {"custom_pipelines": {"text-generation": {"impl": "h2oai_pipeline.H2OTextGenerationPipeline"}}},
    ),
    "AuroraGPT": ("pythia", {"use_deepspeed_checkpointing": True, "hidden_dropout_prob": 0.1}),
    "ncfrey/ChemGPT": ("gpt-neo", {"cache_path": "/data1/groups/molecules/models/", "n_layer": 4}),
    "roneneldan/TinyStories": (
        "gpt-neo",
        {"_name_or_path": "//results/checkpoint-25750/", "gradient_checkpointing": False, "summary_type": "cls_index"},
    ),
    "aitextgen": ("gpt2", {"line_by_line": False, "gradient_checkpointing": True, "n_ctx": 64}),
    "icct-research": ("gpt2", {"name_or_path": "gpt2-small"}),
    "Graylab/IgLM": ("gpt2", {"condition_on_chain": True, "condition_on_species": True}),
    "stanford-crfm/BioMedLM": ("gpt2", {"scale_attn_by_inverse_layer_idx": True, "reorder_and_upcast_attn": False}),
    "codeparrot": ("gpt2", {"scale_attn_by_inverse_layer_idx": True, "reorder_and_upcast_attn": True}),
    "microsoft/DialoGPT": ("gpt2", {"task_specific_params": {"conversational": {"max_length": 1000}}, "n_ctx": 64}),
    "Xenova/distilgpt2": ("gpt2", {"transformers.js_config": {"dtype": "q8"}, "_num_labels": 1}),
    "fields of other classes": (
        "gpt2",
        {"num_key_value_heads": 4, "layer_norm_eps": 1e-5, "position_embedding_type": "absolute", "rope_theta": None},
    ),
    "what is off": ("gpt2", {"alibi": False, "multi_query": False, "use_rotary": False, "qk_norm": False}),
}
REFUSED = {
    "GPT-J as GPT-Neo": ("gpt-neo", {"rotary": True, "jax": True}, "rotary = True .*names rotary positions"),
    "rotary dimensions": ("gpt-neo", {"rotary_dim": 64}, "rotary_dim = 64 .*rotary positions"),
    "rotary off where the class rotates": ("pythia", {"use_rotary": False}, "use_rotary = False"),
    "ALiBi": ("gpt2", {"alibi": True}, "alibi = True .*names ALiBi"),
    "window": ("gpt2", {"window_size": 16}, "window_size = 16 .*which keys are seen"),
    "scale": ("gpt2", {"embedding_scale": 8.0}, "embedding_scale = 8.0 .*a scale"),
    "norm": ("gpt2", {"norm_type": "rmsnorm"}, "norm_type = 'rmsnorm' .*a norm"),
    "another epsilon": ("gpt2", {"layer_norm_eps": 1e-3}, "layer_norm_eps = 0.001 .*a norm"),
    "norm off where the class has one": ("gpt2", {"do_layer_norm_before": False}, "do_layer_norm_before"),
    "multi-query": ("gpt2", {"multi_query": True}, "multi_query = True .*shared or grouped attention"),
    "grouped": ("gpt2", {"num_key_value_heads": 2}, "num_key_value_heads = 2"),
    "quantized": ("gpt2", {"quantization_config": {"bits": 4}}, "quantized weights: save the model unquantized"),
    "custom code": ("gpt2", {"auto_map": {"AutoModel": "modeling.Model"}}, "never run: if the weights are those of"),
    "adapters": ("gpt2", {"lora_rank": 8}, "merge it into the weights first"),
    "pruned heads": ("gpt2", {"pruned_heads": {"0": [1]}}, "removed heads"),
    "other files": ("gpt2", {"transformers_weights": "other.safetensors"}, "or other files"),
}


def folder_with(path, family, fields):
    """A folder with a tiny model and more fields in its config.json."""
    known = {key: value for key, value in fields.items() if key.startswith(("scale_attn", "reorder"))}
    tiny.model(family, **known).save_pretrained(path)
    config = path / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | fields))
    return path


@pytest.mark.parametrize(("family", "fields"), ACCEPTED.values(), ids=ACCEPTED.keys())
def test_published_configs_load_and_agree_with_hugging_face(family, fields, tmp_path):
    folder, tokens = folder_with(tmp_path, family, fields), tiny.tokens()
    theirs = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager").eval()
    ours = neolens.load(folder, device="cpu")
    with torch.no_grad():
        assert torch.equal(ours(tokens), theirs(tokens).logits)
    assert ours.anatomy.ignored_fields == ()


@pytest.mark.parametrize(("family", "fields", "message"), REFUSED.values(), ids=REFUSED.keys())
@pytest.mark.parametrize("named", [False, True])
def test_fields_that_name_mathematics_are_refused_also_when_they_are_to_be_ignored(
    family, fields, message, named, tmp_path
):
    folder = folder_with(tmp_path, family, fields)
    with pytest.raises(ValueError, match=message):
        neolens.anatomy(folder, ignore_fields=tuple(fields) if named else ())


def test_an_unknown_field_is_ignored_when_it_is_named_and_results_say_so(tmp_path):
    folder, tokens = folder_with(tmp_path, "gpt2", {"unheard_of": 3, "num_steps": 10}), tiny.tokens()
    with pytest.raises(ValueError, match=r"pass ignore_fields=\('unheard_of',\) .*--ignore-fields unheard_of"):
        neolens.load(folder)
    model = neolens.load(folder, ignore_fields="unheard_of")
    assert torch.equal(model(tokens), tiny.model("gpt2")(tokens).logits)
    assert model.anatomy.ignored_fields == ("unheard_of",)
    result = neolens.attention(model, tokens)
    assert result.attrs["ignored_fields"] == "unheard_of"
    assert neolens.models.from_record(result.attrs["anatomy"]) == model.anatomy
    assert "ignored_fields" not in results.provenance(neolens.load("lab/gpt2"), neolens.anatomy("lab/gpt2"))


def test_a_field_that_the_class_reads_cannot_be_ignored(tmp_path):
    folder = folder_with(tmp_path, "gpt2", {"activation_function": "relu"})
    with pytest.raises(ValueError, match="activation_function cannot be ignored: GPT2Config reads it"):
        neolens.anatomy(folder, ignore_fields=("activation_function",))


@pytest.mark.parametrize(
    ("architecture", "model_type"),
    [("GPT2LMHeadModel", "gpt2"), ("GPTNeoForCausalLM", "gpt_neo"), ("GPTNeoXForCausalLM", "gpt_neox")],
)
def test_a_config_without_model_type_is_refused_with_the_one_to_add(architecture, model_type, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"architectures": [architecture]}))
    with pytest.raises(ValueError, match=f'has no model_type: add "model_type": "{model_type}"'):
        neolens.anatomy(tmp_path)


@pytest.mark.parametrize(
    "field",
    [
        *("max_grad_norm", "loss_scale", "full_bf16", "model_device", "training_date", "wandb_project", "run_name"),
        *("dataset_name", "seed", "learning_rate", "warmup_steps", "eval_steps", "cls_token_id", "tokenizer_type"),
        *("seq_length", "block_size", "unsloth_fixed", "layerdrop", "author", "gradient_accumulation_steps"),
        *("use_flash_attention", "_flash_attn_2_enabled", "attn_dropout"),
    ],
)
def test_kinds_of_fields_that_cannot_describe_an_architecture_are_harmless(field):
    assert is_harmless(field)


@pytest.mark.parametrize(
    "field",
    [
        *("token_shift", "time_mix", "activation_name", "norm_name", "position_embedding_type", "use_bias", "ffn_type"),
        *("train_window", "rope_dir", "parallel_attn", "qkv_proj", "logit_cap", "layer_types", "memory_tokens"),
        *("sparse_mode", "attention_path", "sharedHeads", "kvHeads", "scale-file", "unheard_of"),
    ],
)
def test_names_that_may_describe_an_architecture_are_not_harmless(field):
    assert not is_harmless(field)
