"""Random tiny models of each family: plain Hugging Face models, seconds to build, wrong in no convenient way.

Biases and layer norms start at 0 and 1, and weights so small that attention is nearly uniform: with those,
many mistakes change nothing. Here everything is random and large enough to matter. The window is shorter than
the prompts.
"""

import os

import torch
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    GPTNeoConfig,
    GPTNeoXConfig,
    PreTrainedConfig,
    PreTrainedModel,
)

GPT2_FLAGS = {
    "": {},
    "stanford": {"scale_attn_by_inverse_layer_idx": True, "reorder_and_upcast_attn": True},
    "inverse": {"scale_attn_by_inverse_layer_idx": True},
    "upcast": {"reorder_and_upcast_attn": True},
    "unscaled": {"scale_attn_weights": False},
}
"""Config fields that change GPT-2's scores. The environment variable NEOLENS_TINY_GPT2 names those of the tiny `gpt2`,
so that all its tests can be run on another GPT-2 (`make stanford`)."""

WINDOW = 4
VOCAB = 61
CONTEXT = 64

NAMES = ("gpt2", "gpt-neo", "pythia", "neox-sequential")
ABSOLUTE = ("gpt2", "gpt-neo")
ROTARY = ("pythia", "neox-sequential")
SEQUENTIAL = ("gpt2", "gpt-neo", "neox-sequential")


def config(name: str, dropout: float = 0.0, **changes) -> PreTrainedConfig:
    """The config of a tiny model; `changes` replace single fields."""
    if name == "gpt2":
        fields = dict(n_layer=3, n_head=4, n_embd=32, n_inner=48, n_positions=CONTEXT, vocab_size=VOCAB)
        drop = dict(resid_pdrop=dropout, embd_pdrop=dropout, attn_pdrop=dropout)
        ends = dict(bos_token_id=0, eos_token_id=0)
        flags = GPT2_FLAGS[os.environ.get("NEOLENS_TINY_GPT2", "")]
        return GPT2Config(**{**fields, **drop, **ends, **flags, **changes})
    if name == "gpt-neo":
        fields = dict(num_layers=4, num_heads=4, hidden_size=32, intermediate_size=48, window_size=WINDOW)
        sizes = dict(max_position_embeddings=CONTEXT, vocab_size=VOCAB, attention_types=[[["global", "local"], 2]])
        drop = dict(resid_dropout=dropout, embed_dropout=dropout, attention_dropout=dropout)
        ends = dict(bos_token_id=0, eos_token_id=0)
        return GPTNeoConfig(**{**fields, **sizes, **drop, **ends, **changes})
    if name in ROTARY:
        fields = dict(num_hidden_layers=3, num_attention_heads=4, hidden_size=32, intermediate_size=48)
        sizes = dict(max_position_embeddings=CONTEXT, vocab_size=VOCAB)
        parallel = name == "pythia"
        rope = dict(rotary_pct=0.5 if parallel else 1.0, rotary_emb_base=10000 if parallel else 500)
        drop = dict(hidden_dropout=dropout, attention_dropout=dropout)
        ends = dict(bos_token_id=0, eos_token_id=0)
        return GPTNeoXConfig(
            **{**fields, **sizes, **rope, **drop, **ends, "use_parallel_residual": parallel, **changes}
        )
    raise KeyError(f"no tiny model {name!r}: choose one of {NAMES}")


def model(name: str, seed: int = 0, dropout: float = 0.0, **changes) -> PreTrainedModel:
    """A tiny model in eval mode, eager attention, every parameter random."""
    generator = torch.Generator().manual_seed(seed)
    built = AutoModelForCausalLM.from_config(config(name, dropout, **changes), attn_implementation="eager")
    with torch.no_grad():
        for parameter_name, parameter in built.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(_spread(parameter_name, parameter) * noise + _centre(parameter_name, parameter))
    return built.eval()


def loaded(model: PreTrainedModel, tmp_path_factory):
    """A Hugging Face model, saved and loaded by neolens."""
    import neolens

    folder = tmp_path_factory.mktemp("model")
    model.save_pretrained(folder)
    return neolens.load(folder)


def _is_norm(name: str) -> bool:
    return "ln_" in name or "layernorm" in name or "layer_norm" in name


def _spread(name: str, parameter: torch.Tensor) -> float:
    if parameter.ndim == 1:
        return 0.3
    if "q_proj" in name or "k_proj" in name:  # GPT-Neo alone has these, and it does not scale its scores
        return 0.15
    return 0.7 if "wte" in name or "wpe" in name or "embed_in" in name else 0.25


def _centre(name: str, parameter: torch.Tensor) -> float:
    return 1.0 if _is_norm(name) and name.endswith("weight") else 0.0


def tokens(seed: int = 0, batch: int = 2, length: int = 14) -> torch.Tensor:
    """Random prompts `[batch, pos]`, longer than three windows unless `length` says otherwise."""
    return torch.randint(1, VOCAB, (batch, length), generator=torch.Generator().manual_seed(1000 + seed))


def nudged(value: torch.Tensor) -> torch.Tensor:
    """An edit that no site can miss and no layer norm undo: half of the value, plus noise of size 1.

    The noise depends on the shape alone, so the same edit can be made in another precision. Masked scores
    stay masked.
    """
    return value * 0.5 + _noise(value)


def nudge_(value: torch.Tensor) -> None:
    """The same edit in place."""
    value.mul_(0.5).add_(_noise(value))


def _noise(value: torch.Tensor) -> torch.Tensor:
    generator = torch.Generator().manual_seed(sum(7**place * size for place, size in enumerate(value.shape)))
    return torch.randn(value.shape, generator=generator, dtype=torch.float64).to(value.dtype)


def weighted_sum(logits: torch.Tensor) -> torch.Tensor:
    """A scalar in which every logit has a part of its own."""
    weights = torch.randn(logits.shape, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    return (logits * weights.to(logits.dtype)).sum()
