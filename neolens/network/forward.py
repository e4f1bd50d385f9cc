"""The forward pass of GPT-2, GPT-Neo and Pythia as a pure function of weights, tokens, spans and positions.

It shares no code with the hooked model, computes attention in blocks (see `blockwise`), and takes the spans and
the position indices as arguments, so that the same function serves the attention scores, the replay of suffixes
and the what-if questions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, Real
from torch import Tensor

from neolens.checks import (
    check_bool,
    check_floats,
    check_layer,
    check_list,
    check_tokens,
    check_type,
    check_whole,
    shown,
)
from neolens.models.anatomy import Anatomy, AttentionSpan
from neolens.models.apply_treatment import embedded, keeps_rest, placed, turned
from neolens.network.blockwise import BLOCK, Edit, Observer, Watch, attend_in_blocks, check_callbacks, edited
from neolens.network.products import apply, blocks
from neolens.network.weights import Layer, Norm, Weights, check_weights


def residual(
    weights: Weights,
    tokens: Int[Tensor, "prompt pos"],
    *,
    spans: Sequence[AttentionSpan] | None = None,
    positions: Real[Tensor, "*prompt pos"] | None = None,
    observer: Observer | None = None,
    edit: Edit | None = None,
    watch: Watch | None = None,
    block: int = BLOCK,
    scores_too: bool = False,
    stop_after: int | None = None,
) -> Float[Tensor, "prompt pos d_model"]:
    """The residual stream after the last block.

    Args:
        spans: which keys each layer's queries see; by default the model's own.
        positions: the position index of each token, the same for all prompts or each its own; by default 0, 1, 2, ...
            Whole numbers, or of a rotation in float64, which takes its angles in float64 instead of float32.
        observer: is handed every block of every layer's attention pattern.
        edit: is handed every activation by its site and layer, and gives back the one to go on with.
        watch: is handed every activation but `result` by its site and layer, as the pass goes on with it.
        block: queries computed at a time.
        scores_too: whether the observer is handed the scores besides the pattern.
        stop_after: the last layer whose attention is needed; the pass ends there, before its output.

    Raises:
        TypeError, ValueError: no weights, no tokens of their vocabulary, or not one span for each layer.
    """
    facts = check_weights(weights).anatomy
    spans = facts.attention if spans is None else check_spans(spans, facts)
    check_tokens(tokens, "tokens", "[prompt, pos]", facts.d_vocab, facts.name)
    positions = torch.arange(tokens.shape[1], device=tokens.device) if positions is None else positions
    _check_positions(positions, tokens, facts)
    check_callbacks(observer=observer, edit=edit, watch=watch)
    block, scores_too = check_whole(block, "block", 1, unit="queries"), check_bool(scores_too, "scores_too")
    stop_after = None if stop_after is None else check_layer(stop_after, facts.layers, facts.name)
    x = embed(weights, tokens, positions, edit=edit)
    rotation = rotations(weights, positions, x.dtype)
    if rotation is not None and positions.ndim > 1:
        rotation = rotation[:, None]  # alike in every head
    for index, span in enumerate(spans):
        at = _Place(weights, index, edit, watch, observer, block, scores_too)
        x = at("resid_pre", x)
        attn_out = _attention(at, x, span, rotation)
        if index == stop_after:
            break
        x = at("resid_post", _add_mlp(at, x, attn_out))
        del attn_out  # not to be there beside the next layer's attention
    return x


def _check_positions(positions: Any, tokens: Tensor, anatomy: Anatomy) -> None:
    """Check the position of each token: whole numbers that were learned, or of a rotation any real ones."""
    learned = anatomy.position.kind == "absolute" and anatomy.position.treatment is None
    real = isinstance(positions, Tensor) and positions.dtype in (torch.float32, torch.float64)
    if learned or not real:
        check_tokens(positions, "positions", "[pos]" if getattr(positions, "ndim", 1) == 1 else "[prompt, pos]")
    if positions.shape not in (tokens.shape, tokens.shape[1:]) or positions.layout != torch.strided:
        raise ValueError(f"positions {shown(positions)}: expected one for each token of {tuple(tokens.shape)}")
    if learned and not 0 <= int(positions.min()) <= int(positions.max()) < anatomy.context:
        low, high = int(positions.min()), int(positions.max())
        raise ValueError(f"positions from {low} to {high}: {anatomy.name} learned 0 to {anatomy.context - 1}; cut them")


def check_spans(spans: Any, anatomy: Anatomy) -> list[AttentionSpan]:
    """The spans as a list.

    Raises:
        TypeError: no list of spans.
        ValueError: not one for each layer.
    """
    found = check_list(spans, "spans", "AttentionSpan", example="model.anatomy.attention")
    for span in found:
        check_type(span, "span", AttentionSpan, "a neolens.AttentionSpan")
    if len(found) != anatomy.layers:
        raise ValueError(f"spans of {len(found)} layers: expected one for each of the {anatomy.layers} layers")
    return found


def logits(weights: Weights, final: Float[Tensor, "prompt pos d_model"]) -> Float[Tensor, "prompt pos d_vocab"]:
    """The logits that a final residual stream gives: layer norm, then the unembedding.

    Raises:
        TypeError, ValueError: no weights, or no stream of their size and dtype.
    """
    facts, dtype = check_weights(weights).anatomy, weights.embedding.dtype
    check_floats(final, "final", "[prompt, pos, d_model]")
    if final.shape[2] != facts.d_model or final.dtype != dtype:
        raise ValueError(f"final {shown(final)}: expected d_model {facts.d_model} and the weights' dtype, {dtype}")
    return apply(weights.unembedding, normalise(weights, weights.norm_final, final))


def embed(
    weights: Weights,
    tokens: Int[Tensor, "prompt pos"],
    positions: Real[Tensor, "*prompt pos"],
    *,
    edit: Edit | None = None,
) -> Float[Tensor, "prompt pos d_model"]:
    """Token embedding plus, where it is learned, the position embedding."""
    x = edited(edit, "embed", None, F.embedding(tokens, weights.embedding))
    if weights.position is None:
        return x
    where = embedded(weights.anatomy.position.treatment, weights.position, positions).expand_as(x)
    return x + edited(edit, "pos_embed", None, where)


@dataclass(frozen=True)
class Rotation:
    """How q and k are turned at each position of a run: dimension m with m + rotary_dims / 2."""

    cos: Float[Tensor, "*pos rotary"]
    sin: Float[Tensor, "*pos rotary"]
    rest: bool = True
    """Whether the dimensions that are not rotary count."""

    def __getitem__(self, which: slice | Tensor | tuple[slice, None]) -> Rotation:
        """The same at some of the positions."""
        return Rotation(self.cos[which], self.sin[which], self.rest)


def rotations(weights: Weights, positions: Real[Tensor, "*pos"], dtype: torch.dtype) -> Rotation | None:
    """How q and k are turned at these positions; None where nothing is rotated.

    Angles are taken in float32, as Hugging Face takes them, but in float64 for positions that are float64.
    """
    position = weights.anatomy.position
    if position.base is None:
        return None
    dims, exact = position.rotary_dims, positions.dtype if positions.is_floating_point() else torch.float32
    if weights.frequencies is None:
        pair = torch.arange(0, dims, 2, dtype=exact, device=positions.device)
        frequencies = 1.0 / (position.base ** (pair / dims))
    else:
        frequencies = weights.frequencies.to(exact)
    angles = placed(position.treatment, positions)[..., None].to(exact) * frequencies
    angles = torch.cat([angles, angles], dim=-1)
    cos, sin = turned(position.treatment, angles.cos(), angles.sin())
    return Rotation(cos.to(dtype), sin.to(dtype), keeps_rest(position.treatment))


def rotate(x: Float[Tensor, "prompt head pos d_head"], by: Rotation | None) -> Float[Tensor, "prompt head pos d_head"]:
    """Turn q or k by each position's angle; the other dimensions stay, or are 0 where they do not count."""
    if by is None:
        return x
    rotary, kept = x[..., : by.cos.shape[-1]], x[..., by.cos.shape[-1] :]
    first, second = rotary.chunk(2, dim=-1)
    rotary = rotary * by.cos + torch.cat([-second, first], dim=-1) * by.sin
    return torch.cat([rotary, kept if by.rest else torch.zeros_like(kept)], dim=-1)


@dataclass(frozen=True)
class _Place:
    """One layer of the network, who looks on, and the edit of its activations: `place(site, x)` is what goes on."""

    weights: Weights
    index: int
    edit: Edit | None
    watch: Watch | None
    observer: Observer | None
    block: int
    scores_too: bool

    def __call__(self, site: str, x: Tensor) -> Tensor:
        x = edited(self.edit, site, self.index, x)
        if self.watch is not None:
            self.watch(site, self.index, x)
        return x

    @property
    def layer(self) -> Layer:
        return self.weights.layers[self.index]

    def normalise(self, norm: Norm, x: Tensor) -> Tensor:
        return normalise(self.weights, norm, x)


def _attention(
    at: _Place,
    x: Float[Tensor, "prompt pos d_model"],
    span: AttentionSpan,
    rotation: Rotation | None,
) -> Float[Tensor, "prompt pos d_model"]:
    facts, layer = at.weights.anatomy, at.layer
    normed = at.normalise(layer.norm_attention, x)
    linears = {"q": layer.q, "k": layer.k, "v": layer.v}
    q, k, v = (at(site, apply(linear, normed).unflatten(-1, (facts.heads, -1))) for site, linear in linears.items())
    del normed
    q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)
    if at.observer is not None or at.edit is not None:  # else every block of queries would copy all keys anew
        k, v = k.contiguous(), v.contiguous()
    if rotation is not None:
        q, k = (
            at(site, rotate(y, rotation).transpose(1, 2)).transpose(1, 2) for site, y in (("rot_q", q), ("rot_k", k))
        )
    z = attend_in_blocks(
        *(q, k, v, span),
        scale=facts.layer_scale(at.index),
        upcast=facts.upcasts_scores,
        layer=at.index,
        observer=at.observer,
        edit=at.edit,
        block=at.block,
        scores_too=at.scores_too,
    ).transpose(1, 2)
    del q, k, v
    return at("attn_out", _add_heads(at, at("z", z)))


def _add_heads(at: _Place, z: Float[Tensor, "prompt pos head d_head"]) -> Float[Tensor, "prompt pos d_model"]:
    """The sum of what the heads write, z_h W_O_h, plus the bias; head by head only where it may be edited."""
    output = at.layer.o
    if at.edit is None:
        return apply(output, z.flatten(2))
    by_head = output.weight.unflatten(1, (at.weights.anatomy.heads, -1))
    result = at("result", torch.einsum("bphe,mhe->bphm", z, by_head))
    return result.sum(2) if output.bias is None else result.sum(2) + output.bias


def _add_mlp(
    at: _Place, x: Float[Tensor, "prompt pos d_model"], attn_out: Float[Tensor, "prompt pos d_model"]
) -> Float[Tensor, "prompt pos d_model"]:
    """The block's output: the MLP reads the stream after attention, or before it in a parallel block."""
    if at.weights.anatomy.parallel:  # in the order of Hugging Face, which rounding depends on
        return at("mlp_out", mlp(at.weights, at.layer, x)) + attn_out + x
    mid = at("resid_mid", x + attn_out)
    return mid + at("mlp_out", mlp(at.weights, at.layer, mid))


def mlp(weights: Weights, layer: Layer, x: Float[Tensor, "*rows d_model"]) -> Float[Tensor, "*rows d_model"]:
    """What the MLP adds to the stream: on a CPU a block of rows at a time, so that its hidden activations stay in the
    caches."""
    rows = x.flatten(0, -2)
    if x.device.type != "cpu" or torch.is_grad_enabled():
        return _mlp(weights, layer, rows).view_as(x)
    out, sizes = torch.empty_like(rows), blocks(len(rows))
    for some, into in zip(rows.split(sizes), out.split(sizes), strict=True):
        into.copy_(_mlp(weights, layer, some))
    return out.view_as(x)


def _mlp(weights: Weights, layer: Layer, x: Float[Tensor, "row d_model"]) -> Float[Tensor, "row d_model"]:
    hidden = apply(layer.up, normalise(weights, layer.norm_mlp, x), weights.anatomy.activation)
    return apply(layer.down, hidden)


def normalise(weights: Weights, norm: Norm, x: Tensor) -> Tensor:
    """Layer norm of the last axis."""
    return F.layer_norm(x, x.shape[-1:], norm.weight, norm.bias, weights.anatomy.norm_eps)
