"""The anatomy that a Hugging Face config describes, its parameter counts computed from the shapes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from neolens.models.anatomy import Anatomy, AttentionSpan, Position

if TYPE_CHECKING:
    from transformers import PretrainedConfig


def from_config(
    config: PretrainedConfig,
    name: str,
    *,
    data: str | None = None,
    tokenizer: str | None = None,
    ignored_fields: tuple[str, ...] = (),
) -> Anatomy:
    """The anatomy that a (supported) Hugging Face config describes."""
    facts = _READERS[config.model_type](config)
    d_model, layers = facts["d_model"], facts["layers"]
    facts["d_head"] = d_model // facts["heads"]
    total, inner = _parameter_counts(facts)
    return Anatomy(
        name=name,
        family=config.model_type,
        parameters=total,
        parameters_without_embeddings=inner,
        data=data,
        tokenizer=tokenizer,
        ignored_fields=ignored_fields,
        **{**facts, "attention": tuple(facts["attention"][:layers])},
    )


def _gpt2(config: PretrainedConfig) -> dict:
    return {
        "layers": config.n_layer,
        "heads": config.n_head,
        "d_model": config.n_embd,
        "d_mlp": config.n_inner or 4 * config.n_embd,
        "d_vocab": config.vocab_size,
        "context": config.n_positions,
        "attention": [AttentionSpan("global")] * config.n_layer,
        "position": Position("absolute"),
        "scale": (config.n_embd // config.n_head) ** -0.5 if config.scale_attn_weights else 1.0,
        "upcasts_scores": config.reorder_and_upcast_attn,
        "inverse_layer_scale": config.scale_attn_by_inverse_layer_idx,
        "parallel": False,
        "activation": config.activation_function,
        "norm_eps": config.layer_norm_epsilon,
        "qkv_bias": True,
        "tied_embedding": config.tie_word_embeddings,
        "dropout": max(config.attn_pdrop, config.resid_pdrop, config.embd_pdrop),
    }


def _gpt_neo(config: PretrainedConfig) -> dict:
    spans = {"global": AttentionSpan("global"), "local": AttentionSpan("local", config.window_size)}
    return {
        "layers": config.num_layers,
        "heads": config.num_heads,
        "d_model": config.hidden_size,
        "d_mlp": config.intermediate_size or 4 * config.hidden_size,
        "d_vocab": config.vocab_size,
        "context": config.max_position_embeddings,
        "attention": [spans[kind] for kind in config.attention_layers],
        "position": Position("absolute"),
        "scale": 1.0,
        "upcasts_scores": True,
        "parallel": False,
        "activation": config.activation_function,
        "norm_eps": config.layer_norm_epsilon,
        "qkv_bias": False,
        "tied_embedding": config.tie_word_embeddings,
        "dropout": max(config.attention_dropout, config.resid_dropout, config.embed_dropout),
    }


def _gpt_neox(config: PretrainedConfig) -> dict:
    d_head = config.hidden_size // config.num_attention_heads
    rotary_dims = int(d_head * config.rope_parameters["partial_rotary_factor"])
    base = float(config.rope_parameters["rope_theta"])
    return {
        "layers": config.num_hidden_layers,
        "heads": config.num_attention_heads,
        "d_model": config.hidden_size,
        "d_mlp": config.intermediate_size,
        "d_vocab": config.vocab_size,
        "context": config.max_position_embeddings,
        "attention": [AttentionSpan("global")] * config.num_hidden_layers,
        "position": Position("rotary", rotary_dims, base) if rotary_dims else Position("none"),
        "scale": d_head**-0.5,
        "parallel": config.use_parallel_residual,
        "activation": config.hidden_act,
        "norm_eps": config.layer_norm_eps,
        "qkv_bias": True,
        "tied_embedding": config.tie_word_embeddings,
        "dropout": max(config.attention_dropout, config.hidden_dropout),
    }


_READERS = {"gpt2": _gpt2, "gpt_neo": _gpt_neo, "gpt_neox": _gpt_neox}


def _parameter_counts(facts: dict) -> tuple[int, int]:
    """Parameters in all, and without token, position and output embeddings."""
    d, m = facts["d_model"], facts["d_mlp"]
    attention = 4 * d * d + d + (3 * d if facts["qkv_bias"] else 0)
    block = attention + 2 * d * m + m + d + 4 * d
    inner = facts["layers"] * block + 2 * d
    embeddings = facts["d_vocab"] * d * (1 if facts["tied_embedding"] else 2)
    if facts["position"].kind == "absolute":
        embeddings += facts["context"] * d
    return inner + embeddings, inner
