"""The weights of a hooked model as plain tensors, the same for all three families.

Nothing is copied: every tensor is the model's own parameter or a view of it, read anew at each call, so that an
edit of the model's weights is seen. Every linear map is held as [d_out, d_in] (`torch.nn.functional.linear`'s
layout); GPT-2's stored [d_in, d_out] matrices appear as transposed views.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import cache
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from neolens.checks import check_type, shown
from neolens.models.anatomy import Anatomy, Position
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
    frequencies: Float[Tensor, " band"] | None = None
    """Of the rotation, in radians per position, where they are not those that its base gives (in a model cast to half
    precision they are rounded, too)."""


def dtype_of(model: Any) -> torch.dtype:
    """The dtype of a model's weights, whatever its config says."""
    expected = "a model, such as one from neolens.load"
    for weight in check_type(model, "model", nn.Module, expected).parameters():
        if weight.is_floating_point():
            return weight.dtype
    raise ValueError(f"model {shown(model)} has no weights: expected {expected}")


def check_model(model: Any, kind: type | None = None, expected: str = "a model from neolens.load") -> None:
    """Check that a model is a hooked one.

    Args:
        kind: its class, by default any TransformerBridge.

    Raises:
        TypeError: it is not.
    """
    from transformer_lens.model_bridge import TransformerBridge

    if not isinstance(model, TransformerBridge if kind is None else kind):
        name = f" {shown(model)}" if isinstance(model, str) else ""
        raise TypeError(f"expected {expected}, got {type(model).__name__}{name}")


def check_weights(value: Any) -> Weights:
    """The weights themselves.

    Raises:
        TypeError: something else.
    """
    return check_type(value, "weights", Weights, "those of a model, of neolens.network.weights_of(model)")


def weights_of(model: Any) -> Weights:
    """The weights of a model from `neolens.load`.

    Raises:
        TypeError: not a hooked model (a TransformerBridge).
        ValueError: a module that neolens cannot read, such as an adapter in the place of a linear map.
    """
    check_model(model)
    facts = anatomy_of(model)
    return Weights(
        anatomy=facts,
        embedding=_raw(model.embed).weight,
        position=_raw(model.pos_embed).weight if facts.position.kind == "absolute" else None,
        layers=tuple(_layer(block) for block in model.blocks),
        norm_final=_norm(model.ln_final),
        unembedding=_linear(model.unembed),
        frequencies=_frequencies(model.rotary_emb, facts.position) if facts.position.kind == "rotary" else None,
    )


def cast(weights: Weights, dtype: torch.dtype) -> Weights:
    """The same weights in another dtype: a copy, unless it is theirs. What is tied stays so."""
    check_weights(weights)
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        name = dtype if isinstance(dtype, torch.dtype) else shown(dtype)
        raise TypeError(f"dtype {name}: expected one of floats, such as torch.float32")
    return weights if weights.embedding.dtype == dtype else _cast(weights, dtype, {})


def _cast(part: Any, dtype: torch.dtype, done: dict[int, Tensor]) -> Any:
    if isinstance(part, Tensor):
        if id(part) not in done:
            done[id(part)] = part.detach().to(dtype)
        return done[id(part)]
    if isinstance(part, tuple):
        return tuple(_cast(item, dtype, done) for item in part)
    if isinstance(part, (Weights, Layer, Linear, Norm)):
        names = [field.name for field in fields(part) if field.name != "frequencies"]  # those stay in float32
        return replace(part, **{name: _cast(getattr(part, name), dtype, done) for name in names})
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


def _frequencies(component: Any, position: Position) -> Float[Tensor, " band"] | None:
    """The frequencies by which a model rotates, in float32 as Hugging Face takes them; None for those of its base."""
    assert position.base is not None
    frequencies = component.original_component.inv_freq.float()
    pair = torch.arange(0, position.rotary_dims, 2, dtype=torch.float32, device=frequencies.device)
    return None if torch.equal(frequencies, 1.0 / (position.base ** (pair / position.rotary_dims))) else frequencies


@cache
def _readable() -> tuple[type, ...]:
    """The types of module whose weight and bias are all that they compute with."""
    from transformers.pytorch_utils import Conv1D

    return nn.Linear, Conv1D, nn.Embedding, nn.LayerNorm


def _raw(component: Any) -> Any:
    """The Hugging Face module under a TransformerLens component."""
    module = component.original_component
    if hasattr(module, "original_component"):
        return _raw(module)
    if type(module) not in _readable():
        raise ValueError(
            f"{component.name} is a {type(module).__module__}.{type(module).__name__}: expected one of "
            f"{', '.join(kind.__name__ for kind in _readable())}; remove the adapter or parametrization, or merge it "
            "into the weights"
        )
    return module


def _norm(component: Any) -> Norm:
    module = _raw(component)
    return Norm(module.weight, module.bias)


def _linear(component: Any) -> Linear:
    module = _raw(component)
    weight = module.weight.T if type(module).__name__ == "Conv1D" else module.weight
    return Linear(weight, module.bias)
