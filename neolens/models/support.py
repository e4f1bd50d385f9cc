"""Which Hugging Face configs neolens handles, and a refusal by name of every other.

A config field that we do not know may change the mathematics (a sliding window, a logit cap, a scaled rotation),
and a wrong number without a warning is the one thing this package must not give. So fields are known, known to be
harmless, or refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PretrainedConfig

ACTIVATIONS = ("gelu_new", "gelu", "gelu_pytorch_tanh", "gelu_fast", "relu")

_CAUSAL = {"gpt2": "GPT2LMHeadModel", "gpt_neo": "GPTNeoForCausalLM", "gpt_neox": "GPTNeoXForCausalLM"}
_BASE = {"gpt2": "GPT2Model", "gpt_neo": "GPTNeoModel", "gpt_neox": "GPTNeoXModel"}

# Fields whose other values would change the mathematics in a way that neolens does not compute.
_FIXED: dict[str, dict[str, Any]] = {
    "gpt2": {
        "add_cross_attention": False,
    },
    "gpt_neo": {},
    "gpt_neox": {"attention_bias": True},
}

# Keys seen in published config.json files that the config classes do not define and that change no logit.
_HARMLESS = {
    *(
        "torch_dtype",
        "dtype",
        "transformers_version",
        "_name_or_path",
        "_commit_hash",
        "architectures",
        "name",
    ),
    *(
        "n_ctx",
        "task_specific_params",
        "gradient_checkpointing",
        "output_past",
        "pad_token_id",
        "sep_token_id",
    ),
    *("bos_token_id", "eos_token_id", "unk_token_id", "decoder_start_token_id", "output_attentions"),
    *("output_hidden_states", "return_dict", "use_cache", "use_return_dict", "is_decoder", "finetuning_task"),
    *("summary_type", "summary_use_proj", "summary_activation", "summary_proj_to_labels"),
    *(
        "summary_first_dropout",
        "classifier_dropout",
        "initializer_range",
        "_num_labels",
        "id2label",
        "label2id",
    ),
    *("problem_type", "chunk_size_feed_forward", "do_sample", "max_length", "temperature", "top_k", "top_p"),
    *(
        "attention_types",
        "attention_layers",
        "rotary_pct",
        "rotary_emb_base",
        "rope_theta",
        "rope_parameters",
    ),
    *("partial_rotary_factor", "_attn_implementation_autoset", "attn_implementation", "model_type"),
    *("is_encoder_decoder", "num_labels", "tokenizer_class", "predict_special_tokens", "prefix", "custom_pipelines"),
    *("_attn_implementation", "_attn_implementation_internal", "unsloth_version", "torchscript", "use_bfloat16"),
    *("tf_legacy_loss", "return_dict_in_generate", "output_scores", "early_stopping", "_from_model_config"),
}

# Fields that say nothing while they are off, and change the mathematics when they are on.
_OFF = {"add_cross_attention", "tie_encoder_decoder", "cross_attention_hidden_size"}


def supported_config(raw: dict[str, Any], name: str) -> PretrainedConfig:
    """The config object of a config.json that neolens handles.

    Raises:
        ValueError: the architecture, or a field that would change the mathematics, is not handled; named.
    """
    from transformers import GPT2Config, GPTNeoConfig, GPTNeoXConfig

    classes = {"gpt2": GPT2Config, "gpt_neo": GPTNeoConfig, "gpt_neox": GPTNeoXConfig}
    family = raw.get("model_type")
    if not isinstance(family, str) or family not in classes:
        raise ValueError(
            f"{name}: model_type {family!r} is not handled: neolens handles gpt2, gpt_neo and gpt_neox "
            "(GPT-2, GPT-Neo, Pythia); use transformer_lens directly for others"
        )
    try:
        config = classes[family].from_dict(dict(raw))
    except Exception as error:  # transformers raises errors of its own kinds for bad values
        raise ValueError(f"{name}: config.json is not a valid {family} config: {first_line(error)}") from error
    refuse_unsupported(config, raw, name)
    return config


def refuse_unsupported(config: PretrainedConfig, raw: dict[str, Any], name: str) -> None:
    """Raise a ValueError that names the first field of the config that neolens does not handle."""
    from transformers import GenerationConfig

    family = config.model_type
    _refuse_architecture(family, raw.get("architectures"), name)
    for field, expected in _FIXED[family].items():
        if getattr(config, field) != expected:
            _refuse(name, field, getattr(config, field), f"neolens computes {expected!r} only")
    if raw.get("is_causal", True) is not True:
        _refuse(name, "is_causal", raw["is_causal"], "neolens computes causal attention only")
    known = {*type(config)().to_dict(), *type(config).attribute_map, *GenerationConfig().to_dict(), "is_causal"}
    for field, value in raw.items():
        off = value is None or value in ([], {}, "") or (field in _OFF and value is False)
        if field not in known | _HARMLESS and not off:
            _refuse(name, field, value, "unknown to neolens, it may change the mathematics")
    activation = "hidden_act" if family == "gpt_neox" else "activation_function"
    if getattr(config, activation) not in ACTIVATIONS:
        _refuse(name, activation, getattr(config, activation), f"neolens knows {', '.join(ACTIVATIONS)}")
    _refuse_shapes(config, name)
    if family == "gpt_neo":
        _refuse_spans(config, name)
    if family == "gpt_neox":
        _refuse_rope(config, name)


def _refuse_architecture(family: str, architectures: list[str] | None, name: str) -> None:
    expected = (_CAUSAL[family], _BASE[family])
    if architectures and not set(architectures) & set(expected):
        _refuse(name, "architectures", architectures, f"neolens handles the language model {expected[0]}")


def _refuse_shapes(config: PretrainedConfig, name: str) -> None:
    heads, d_model = config.num_attention_heads, config.hidden_size
    fields = ("num_attention_heads", "hidden_size", "num_hidden_layers", "vocab_size", "max_position_embeddings")
    for field in fields:
        if getattr(config, field) < 1:
            _refuse(name, field, getattr(config, field), "expected at least 1")
    if d_model % heads:
        raise ValueError(f"{name}: {heads} heads do not divide the width {d_model}")
    if getattr(config, "head_dim", None) not in (None, d_model // heads):
        _refuse(name, "head_dim", config.head_dim, f"neolens computes width / heads = {d_model // heads}")


def _refuse_spans(config: PretrainedConfig, name: str) -> None:
    kinds = list(config.attention_layers)
    unknown = sorted(set(kinds) - {"global", "local"})
    if unknown or len(kinds) != config.num_layers:
        _refuse(name, "attention_layers", kinds, f"expected 'global' or 'local' for {config.num_layers} layers")
    if "local" in kinds and config.window_size < 1:
        _refuse(name, "window_size", config.window_size, "expected at least 1 key")


def _refuse_rope(config: PretrainedConfig, name: str) -> None:
    rope = config.rope_parameters
    if rope.get("rope_type", "default") != "default":
        _refuse(name, "rope_type", rope["rope_type"], "neolens rotates by the default frequencies only")
    extra = sorted(set(rope) - {"rope_type", "rope_theta", "partial_rotary_factor"})
    if extra:
        _refuse(name, f"rope_parameters.{extra[0]}", rope[extra[0]], "unknown to neolens")
    dims = int(config.hidden_size // config.num_attention_heads * rope["partial_rotary_factor"])
    if not 0 <= rope["partial_rotary_factor"] <= 1:
        _refuse(name, "partial_rotary_factor", rope["partial_rotary_factor"], "expected a share, 0 to 1")
    if dims % 2:
        _refuse(name, "partial_rotary_factor", rope["partial_rotary_factor"], f"{dims} rotated dimensions are odd")


def _refuse(name: str, field: str, value: Any, reason: str) -> None:
    raise ValueError(f"{name}: config field {field} = {value!r} is not handled: {reason}")


def first_line(error: BaseException) -> str:
    """The first line of an error of another library, short enough to stand within one of ours."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)[:160]
