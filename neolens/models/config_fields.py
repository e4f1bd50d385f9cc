"""Which fields of a config.json can change what a model computes.

A field that Hugging Face's class does not read cannot change its logits, but the weights may have been trained with
what it says: a sliding window, a scaled rotation, normalised queries. So a field is read by the class; or it is of a
harmless kind (dropout, names, paths, dates, training, other heads, the size that another field says too); or it names
a part of the mathematics and is refused unless it is off; or it is unknown and refused unless the caller names it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from neolens.checks import shown

if TYPE_CHECKING:
    from transformers import PretrainedConfig

# Read by the config classes or the base class besides what `to_dict` lists, or written by older versions of them.
_READ = {
    *("is_causal", "torch_dtype", "dtype", "attn_implementation", "is_decoder", "is_encoder_decoder", "num_labels"),
    *("_commit_hash", "_attn_implementation", "_attn_implementation_internal", "_attn_implementation_autoset"),
    *("return_dict", "use_return_dict", "torchscript", "use_bfloat16", "tf_legacy_loss", "output_past", "_num_labels"),
    *("n_ctx", "task_specific_params", "predict_special_tokens", "_from_model_config", "chunk_size_feed_forward"),
    *("custom_pipeline", "custom_pipelines", "transformers.js_config", "head_dim"),
}
_READ_BY = {
    "gpt_neo": {"attention_types", "attention_layers"},
    "gpt_neox": {
        *("rotary_pct", "rotary_emb_base", "rope_theta", "rope_scaling", "rope_parameters", "partial_rotary_factor"),
    },
}

# Used in training alone, or a choice of kernel, whatever else the name mentions.
_TRAINING_ONLY = re.compile(
    r"flash_att|xformers|dropout|pdrop|drop_?path|layer_?drop|(^|_)(grads?|gradients?|loss|checkpointing)(_|$)"
)

_HARMLESS = re.compile(
    # where the model comes from
    r"(^|_)(path|paths|dir|directory|folder|files?|filename|names?|urls?|uri|repo|hash|commit|version|date|timestamp|"
    r"author|authors|license|licence|description|comments?|notes?|tags|languages?|domain|run_id|model_id)$"
    r"|^(name|created|modified|trained|finetuned|pretrained)(_|$)|_(created|trained|modified)(_at|_on)?$"
    # how it was trained, and on what
    r"|^(num|n|max|global|total|train|training|save|eval|log|logging|warmup|decay|current)_(train_|training_)?"
    r"(steps?|iters|iterations|epochs?)$|^(steps?|epochs?|iter_num|num_train_epochs|pretraining_tp)$"
    r"|^(train|training|trainer|eval|evaluation|finetune|finetuning|fine_tuning|pretraining|data|datasets?|corpus|"
    r"optimizer|optim|adam|adamw|lr|scheduler|warmup|batch|wandb|log|logging|deepspeed|seed|zero)(_|$)"
    r"|(^|_)(data|datasets?|corpus|seed|lr|learning_rate|weight_decay|batch_size|label_smoothing|optimizer)$"
    r"|^init(ializer)?_(std|range|method)$|^(line_by_line|block_size|model_max_length)$|^condition_on_"
    r"|^(max_)?(seq|sequence|context)_len(gth)?$"
    # hardware and precision of the weights in the file
    r"|(^|_)(devices?|dtype|fp16|bf16|fp32|float16|bfloat16|jax|flax|tpu|gpus?|world_size|parallel_size)$"
    # tokenizer, generation, heads of other tasks
    r"|^(tokenizer|summary|classifier|generation|unsloth)(_|$)|(^|_)(token_ids?|labels?|prompt|prefix|suffix)$"
    r"|^(bos|eos|pad|sep|unk|cls)_token$|^(label2id|id2label|problem_type)$"
)

# A name of a harmless kind that has one of these words is unknown: it may describe the architecture.
_ARCHITECTURE = re.compile(
    r"(^|_)(act|activation|attention|attn|embed|embeds?|embeddings?|pos|positions?|positional|bias|mlp|ffn|layers?|"
    r"heads?|hidden|resid|residual|blocks|softmax|mask|logits?|cap|query|key|value|qkv|proj|gated?|glu|swiglu|conv|"
    r"weights|dims?)(_|$)"
)

_PROTECTED: dict[str, re.Pattern[str]] = {
    "custom code, which is never run": re.compile(r"auto_map|custom_code|remote_code"),
    "quantized weights": re.compile(r"quant|gptq|awq|(^|_)(n?bits|int8|int4)(_|$)"),
    "an adapter": re.compile(r"(^|_)(adapters?|lora|peft)(_|$)"),
    "rotary positions": re.compile(r"rotary|(^|_)(rope|yarn|ntk)(_|$)"),
    "ALiBi": re.compile(r"alibi"),
    "which keys are seen": re.compile(r"window|sliding|(^|_)(local|sparse|sparsity|dilated|global_att\w*)(_|$)"),
    "a scale": re.compile(r"(^|_)(scale[sd]?|scaling|multiplier|mup|softcap\w*)(_|$)"),
    "cross-attention": re.compile(r"cross_att|encoder_decoder"),
    "a norm": re.compile(r"norm|(^|_)ln(_|$)"),
    "shared or grouped attention": re.compile(
        r"(^|_)(shared?|sharing|multi_?query|key_value|mqa|gqa|group(ed|s)?|kv)(_|$)"
    ),
    "removed heads or experts": re.compile(r"(^|_)(pruned|experts?|moe)(_|$)"),
    "another architecture or other files": re.compile(r"^(transformers_weights|fusion_config|\w+_config)$"),
}
_ADVICE = {
    "custom code, which is never run": "if the weights are those of the plain architecture, delete the field",
    "quantized weights": "save the model unquantized (model.dequantize(), then save_pretrained) and load that folder",
    "an adapter": "merge it into the weights first (merge_and_unload of peft, then save_pretrained)",
}
# Parts that every model of the family has: a field that says there are none contradicts the class.
_PRESENT = {"gpt2": (), "gpt_neo": ("which keys are seen",), "gpt_neox": ("rotary positions",)}
_ABSENT_NORM = re.compile(r"(^|_)(qk?|k|rms\w*|post|sandwich|embed\w*)(_|$)")
_SCORE_SCALE = re.compile(r"attn|attention|qk|scores?(_|$)")

# The same fact under a name of another class: harmless where it says what the class computes.
_SYNONYMS: dict[str, tuple[str, ...]] = {
    "num_hidden_layers": ("n_layer", "n_layers", "num_layers", "num_hidden_layers"),
    "num_attention_heads": (
        *("n_head", "n_heads", "num_heads", "num_attention_heads"),
        *("num_key_value_heads", "num_kv_heads", "n_head_kv", "n_kv_heads", "num_kv"),
    ),
    "hidden_size": ("n_embd", "n_embed", "d_model", "hidden_size", "embed_dim", "embedding_size", "hidden_dim"),
    "max_position_embeddings": ("n_positions", "max_position_embeddings", "max_positions", "num_positions"),
    "vocab_size": ("n_vocab", "vocab_size", "vocabulary_size"),
}


def check_fields(config: PretrainedConfig, raw: dict[str, Any], name: str, ignore: Sequence[str] = ()) -> None:
    """Check that every field of a config.json is read by the class, harmless, off or ignored by name.

    Raises:
        ValueError: another field, or an ignored one that the class reads or that names a part of the mathematics.
    """
    title = type(config).__name__
    if used := [field for field in ignore if field in raw and field in read_fields(type(config))]:
        raise ValueError(
            f"{name}: config field {used[0]} cannot be ignored: {title} reads it; change its value in config.json"
        )
    for field in unread_fields(config, raw):
        part = _protected_part(_snake(field))
        if part is not None:
            remedy = (
                "if the weights do not need it, delete the field from config.json; else use transformer_lens directly"
            )
            refuse(
                name, field, raw[field], f"{title} does not read it, and it names {part}: {_ADVICE.get(part, remedy)}"
            )
        if field not in ignore:
            refuse(
                name,
                field,
                raw[field],
                "unknown to neolens, it may change the mathematics; if the field changes nothing, pass "
                f"ignore_fields=({field!r},) (command line: --ignore-fields {field})",
            )


def read_fields(config_class: type[PretrainedConfig]) -> set[str]:
    """The fields that a config class, or what is built from it, reads or used to read."""
    from transformers import GenerationConfig

    listed = {*config_class().to_dict(), *config_class.attribute_map, *GenerationConfig().to_dict()}
    return listed | _READ | _READ_BY.get(config_class.model_type, set())


def unread_fields(config: PretrainedConfig, raw: dict[str, Any]) -> list[str]:
    """The fields that the class does not read and that are neither harmless nor off, in the order of the file."""
    read = read_fields(type(config))
    return [field for field, value in raw.items() if field not in read and not _no_effect(field, value, config)]


def is_harmless(field: str) -> bool:
    """Whether a field that the class does not read is of a kind that cannot describe the architecture."""
    words = _snake(field)
    if _TRAINING_ONLY.search(words):
        return True
    return bool(_HARMLESS.search(words)) and _protected_part(words) is None and not _ARCHITECTURE.search(words)


def refuse(name: str, field: str, value: Any, reason: str) -> None:
    """Raise the ValueError about a config field, in its one wording."""
    raise ValueError(f"{name}: config field {field} = {shown(value, 120)} is not handled: {reason}")


def _protected_part(words: str) -> str | None:
    return next((part for part, names in _PROTECTED.items() if names.search(words)), None)


def _no_effect(field: str, value: Any, config: PretrainedConfig) -> bool:
    if value is None or value in ([], {}, "") or is_harmless(field) or value == _same_fact(field, config):
        return True
    return _is_off(_snake(field), value, config.model_type)


def _is_off(words: str, value: Any, family: str) -> bool:
    """Whether a field that names a part of the mathematics says that there is none, as in the class."""
    part = _protected_part(words)
    if part is None or value is True or isinstance(value, str) or value not in (0, -1, 1):
        return False
    if part == "a scale":
        return value == 1 or (value is False and not _SCORE_SCALE.search(words))
    if part == "a norm":
        return value is False and bool(_ABSENT_NORM.search(words))
    return value != 1 and part not in _PRESENT[family]


def _same_fact(field: str, config: PretrainedConfig) -> Any:
    """What the class says of the fact that `field` names in another class; an object that equals nothing otherwise."""
    width = config.hidden_size
    inner = getattr(config, "n_inner", None) or getattr(config, "intermediate_size", None) or 4 * width
    eps = getattr(config, "layer_norm_epsilon", None) or getattr(config, "layer_norm_eps", None)
    activation = getattr(config, "hidden_act", None) or getattr(config, "activation_function", None)
    facts: dict[str, Any] = {name: getattr(config, key) for key, names in _SYNONYMS.items() for name in names}
    facts |= dict.fromkeys(("n_inner", "intermediate_size", "ffn_dim", "d_ff", "inner_dim", "d_mlp"), inner)
    facts |= dict.fromkeys(("layer_norm_eps", "layer_norm_epsilon", "norm_eps"), eps)
    facts |= dict.fromkeys(("activation_function", "hidden_act", "activation"), activation)
    facts |= dict.fromkeys(("head_dim", "d_head", "head_size"), width / config.num_attention_heads)
    if config.model_type == "gpt_neox":
        dims = int(width / config.num_attention_heads * config.rope_parameters["partial_rotary_factor"])
        facts |= dict.fromkeys(("rotary_dim", "rotary_dims", "rotary_ndims"), dims)
        facts |= dict.fromkeys(("rotary", "use_rotary", "use_rope"), True)
        facts["position_embedding_type"] = "rotary"
    else:
        facts["position_embedding_type"] = "absolute"
    return facts.get(field, object())


def _snake(field: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", field).lower().replace("-", "_").replace(".", "_")
