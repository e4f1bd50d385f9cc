"""The forward pass of GPT-2, GPT-Neo and Pythia as a pure function of weights, tokens, spans and positions.

It shares no code with the hooked model, computes attention in blocks (see `blockwise`), and takes the spans and
the position indices as arguments, so that the same function serves the attention scores, the replay of suffixes
and the what-if questions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from neolens.models.facts import AttentionSpan, Position
from neolens.network.blockwise import BLOCK, Observer, attend
from neolens.network.weights import Layer, Linear, Norm, Weights

_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu_new": lambda x: F.gelu(x, approximate="tanh"),
    "gelu_pytorch_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "gelu": F.gelu,
    "relu": F.relu,
}


def residual(
    weights: Weights,
    tokens: Int[Tensor, "prompt pos"],
    *,
    spans: Sequence[AttentionSpan] | None = None,
    positions: Int[Tensor, " pos"] | None = None,
    observer: Observer | None = None,
    block: int = BLOCK,
    stop_after: int | None = None,
) -> Float[Tensor, "prompt pos d_model"]:
    """The residual stream after the last block.

    Args:
        spans: which keys each layer's queries see; by default the model's own.
        positions: the position index of each token; by default 0, 1, 2, ...
        observer: is handed every block of every layer's attention pattern.
        block: queries computed at a time.
        stop_after: the last layer whose attention is needed; the pass ends there, before its output.
    """
    spans = weights.anatomy.attention if spans is None else spans
    if positions is None:
        positions = torch.arange(tokens.shape[1], device=tokens.device)
    x = embed(weights, tokens, positions)
    rotation = rotations(weights.anatomy.position, positions, x.dtype)
    for index, (layer, span) in enumerate(zip(weights.layers, spans, strict=True)):
        attn_out = _attention(weights, layer, index, x, span, rotation, observer, block)
        if index == stop_after:
            break
        x = _add_mlp(weights, layer, x, attn_out)
    return x


def logits(
    weights: Weights, final: Float[Tensor, "prompt pos d_model"]
) -> Float[Tensor, "prompt pos d_vocab"]:
    """The logits that a final residual stream gives: layer norm, then the unembedding."""
    return _apply(weights.unembedding, _normalise(weights, weights.norm_final, final))


def embed(
    weights: Weights, tokens: Int[Tensor, "prompt pos"], positions: Int[Tensor, " pos"]
) -> Float[Tensor, "prompt pos d_model"]:
    """Token embedding plus, where it is learned, the position embedding."""
    x = F.embedding(tokens, weights.embedding)
    return x if weights.position is None else x + F.embedding(positions, weights.position)


def rotations(
    position: Position, positions: Int[Tensor, " pos"], dtype: torch.dtype
) -> tuple[Float[Tensor, "pos rotary"], Float[Tensor, "pos rotary"]] | None:
    """Cosine and sine by which q and k are turned at each position; None where nothing is rotated."""
    if position.kind != "rotary":
        return None
    dims = position.rotary_dims
    pair = torch.arange(0, dims, 2, dtype=torch.float32, device=positions.device)
    angles = positions[:, None].float() * (1.0 / (position.base ** (pair / dims)))
    angles = torch.cat([angles, angles], dim=-1)
    return angles.cos().to(dtype), angles.sin().to(dtype)


def rotate(
    x: Float[Tensor, "prompt head pos d_head"],
    cos: Float[Tensor, "pos rotary"],
    sin: Float[Tensor, "pos rotary"],
) -> Float[Tensor, "prompt head pos d_head"]:
    """Turn dimension m with m + rotary_dims / 2 by the position's angle; the other dimensions stay."""
    turned, kept = x[..., : cos.shape[-1]], x[..., cos.shape[-1] :]
    first, second = turned.chunk(2, dim=-1)
    turned = turned * cos + torch.cat([-second, first], dim=-1) * sin
    return torch.cat([turned, kept], dim=-1)


def _attention(
    weights: Weights,
    layer: Layer,
    index: int,
    x: Tensor,
    span: AttentionSpan,
    rotation: tuple[Tensor, Tensor] | None,
    observer: Observer | None,
    block: int,
) -> Float[Tensor, "prompt pos d_model"]:
    heads = weights.anatomy.heads
    normed = _normalise(weights, layer.norm_attention, x)
    q, k, v = (
        _apply(linear, normed).unflatten(-1, (heads, -1)).transpose(1, 2) for linear in (layer.q, layer.k, layer.v)
    )
    if rotation is not None:
        q, k = rotate(q, *rotation), rotate(k, *rotation)
    z = attend(q, k, v, span, scale=weights.anatomy.scale, layer=index, observer=observer, block=block)
    return _apply(layer.o, z.transpose(1, 2).flatten(2))


def _add_mlp(weights: Weights, layer: Layer, x: Tensor, attn_out: Tensor) -> Float[Tensor, "prompt pos d_model"]:
    """The block's output: the MLP reads the stream after attention, or before it in a parallel block."""
    mid = x + attn_out
    read = x if weights.anatomy.parallel else mid
    hidden = _ACTIVATIONS[weights.anatomy.activation](_apply(layer.up, _normalise(weights, layer.norm_mlp, read)))
    return mid + _apply(layer.down, hidden)


def _normalise(weights: Weights, norm: Norm, x: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], norm.weight, norm.bias, weights.anatomy.norm_eps)


def _apply(linear: Linear, x: Tensor) -> Tensor:
    return F.linear(x, linear.weight, linear.bias)
