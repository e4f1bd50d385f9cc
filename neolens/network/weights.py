"""The weights of a hooked model as plain tensors, the same for all three families.

Nothing is copied: every tensor is the model's own parameter or a view of it, read anew at each call, so that an
edit of the model's weights is seen. Every linear map is held as [d_out, d_in] (`torch.nn.functional.linear`'s
layout); GPT-2's stored [d_in, d_out] matrices appear as transposed views.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from neolens.models.facts import Anatomy
from neolens.models.loading import anatomy as anatomy_of


@dataclass(frozen=True)
class Linear:
    """y = x W^T + b."""

    weight: Float[Tensor, "d_out d_in"]
    bias: Float[Tensor, " d_out"] | None


@dataclass(frozen=True)
class Norm:
    """Layer norm: (x - mean) / sqrt(variance + eps) * weight + bias."""

    weight: Float[Tensor, " d_model"]
    bias: Float[Tensor, " d_model"]


@dataclass(frozen=True)
class Layer:
    """One block: attention (q, k, v, o) and MLP (up, down), each behind its layer norm."""

    norm_attention: Norm
    norm_mlp: Norm
    q: Linear
    k: Linear
    v: Linear
    o: Linear
    up: Linear
    down: Linear


@dataclass(frozen=True)
class Weights:
    """All that a forward pass needs besides the spans and the positions. `position` is None where none is learned."""

    anatomy: Anatomy
    embedding: Float[Tensor, "d_vocab d_model"]
    position: Float[Tensor, "context d_model"] | None
    layers: tuple[Layer, ...]
    norm_final: Norm
    unembedding: Linear


def weights_of(model: Any) -> Weights:
    """The weights of a model from `neolens.load`.

    Raises:
        TypeError: not a hooked model (a TransformerBridge).
    """
    if not hasattr(model, "blocks") or not hasattr(model, "unembed"):
        raise TypeError(f"expected a model from neolens.load, got {type(model).__name__}")
    facts = anatomy_of(model)
    return Weights(
        anatomy=facts,
        embedding=_raw(model.embed).weight,
        position=_raw(model.pos_embed).weight if facts.position.kind == "absolute" else None,
        layers=tuple(_layer(block) for block in model.blocks),
        norm_final=_norm(model.ln_final),
        unembedding=_linear(model.unembed),
    )


def cast(weights: Weights, dtype: torch.dtype) -> Weights:
    """The same weights in another dtype: a copy, unless it is theirs. What is tied stays so."""
    return weights if weights.embedding.dtype == dtype else _cast(weights, dtype, {})


def _cast(part: Any, dtype: torch.dtype, done: dict[int, Tensor]) -> Any:
    if isinstance(part, Tensor):
        if id(part) not in done:
            done[id(part)] = part.detach().to(dtype)
        return done[id(part)]
    if isinstance(part, tuple):
        return tuple(_cast(item, dtype, done) for item in part)
    if isinstance(part, (Weights, Layer, Linear, Norm)):
        return replace(part, **{its.name: _cast(getattr(part, its.name), dtype, done) for its in fields(part)})
    return part


def _layer(block: Any) -> Layer:
    attn, mlp = block.attn, block.mlp
    return Layer(
        norm_attention=_norm(block.ln1),
        norm_mlp=_norm(block.ln2),
        q=_linear(attn.q),
        k=_linear(attn.k),
        v=_linear(attn.v),
        o=_linear(attn.o),
        up=_linear(getattr(mlp, "in")),
        down=_linear(mlp.out),
    )


def _raw(component: Any) -> Any:
    """The Hugging Face module under a TransformerLens component."""
    module = component.original_component
    return _raw(module) if hasattr(module, "original_component") else module


def _norm(component: Any) -> Norm:
    module = _raw(component)
    return Norm(module.weight, module.bias)


def _linear(component: Any) -> Linear:
    module = _raw(component)
    weight = module.weight.T if type(module).__name__ == "Conv1D" else module.weight
    return Linear(weight, module.bias)
