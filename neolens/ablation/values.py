"""What takes the place of ablated heads, as tensors: means over a reference, or what another prompt's heads said."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from neolens.ablation.asked import Asked
from neolens.ablation.how import Beyond, Cut
from neolens.models.facts import Anatomy, AttentionSpan
from neolens.models.spans import seen
from neolens.network import Weights, attend, residual
from neolens.network.blockwise import fused
from neolens.replay import Heads, record

_TOKENS_AT_ONCE = 4096

Values = Float[Tensor, "_ head pos d_head"]
"""Of one layer's heads, for all prompts alike or for each."""


@dataclass(frozen=True)
class Replaced:
    """A change of heads to values that do not depend on the run; to zero without values."""

    heads: Bool[Tensor, "group layer head"]
    values: Mapping[int, Values] | None
    """By layer."""

    def __call__(self, computed: Heads) -> Tensor:
        rows, heads = self.heads[computed.branches.group, computed.layer].nonzero(as_tuple=True)
        if not len(rows):
            return computed.z
        if self.values is None:
            computed.z[rows, heads] = 0.0
            return computed.z
        values = self.values[computed.layer]
        prompts = computed.branches.prompt[rows] if len(values) > 1 else torch.zeros_like(rows)
        if isinstance(computed.queries, range):
            stretch = slice(computed.queries.start, computed.queries.stop)
            computed.z[rows, heads] = values[prompts, heads, stretch]
        else:
            where = computed.queries[rows]
            computed.z[rows, heads] = values[prompts[:, None], heads[:, None], where]
        return computed.z


@dataclass(frozen=True)
class CutOff:
    """A change of heads to what they compute without some of their keys."""

    heads: Bool[Tensor, "group layer head"]
    how: Cut
    facts: Anatomy

    def __call__(self, computed: Heads) -> Tensor:
        assert computed.qkv is not None
        rows, heads = self.heads[computed.branches.group, computed.layer].nonzero(as_tuple=True)
        if not len(rows):
            return computed.z
        q, k, v = (x[rows, heads][:, None] for x in computed.qkv)
        span, nearest = remaining(self.facts.attention[computed.layer], self.how)
        scale, upcast = self.facts.layer_scale(computed.layer), self.facts.upcasts_scores
        if isinstance(computed.queries, range):
            z = attend(q, k, v, span, scale=scale, upcast=upcast, nearest=nearest)
        else:
            where = computed.queries[rows]
            back = where[:, :, None] - torch.arange(computed.keys.start, computed.keys.stop, device=where.device)
            mask = (seen(where, computed.keys, span) & (back >= nearest))[:, None]
            z = fused(q, k, v, mask, scale, upcast=upcast)
        computed.z[rows, heads] = z[:, 0]
        return computed.z


def remaining(span: AttentionSpan, how: Cut) -> tuple[AttentionSpan, int]:
    """What is left of a span after a cut, and how many tokens back its nearest key stands."""
    if isinstance(how, Beyond):
        return AttentionSpan("local", min(span.window or how.distance, how.distance)), 0
    return span, how.distance


def values_of(weights: Weights, asked: Asked, prompts: Sequence[int], until: int) -> Mapping[int, Values] | None:
    """Layer -> the values of `mean` or `resample` for these prompts of one length, up to position `until`."""
    if not asked.reference:
        return None
    if asked.how == "mean":
        length = len(asked.prompts[prompts[0]])
        tokens = torch.stack([other for other in asked.reference if len(other) == length])
        return mean_of_heads(weights, tokens[:, :until], asked.layers)
    tokens = torch.stack([asked.reference[asked.donors[prompt]] for prompt in prompts])
    tokens = tokens[:, :until].to(weights.embedding.device)
    return record(weights, tokens, {"z"}, weights.anatomy.attention, asked.layers)["z"]


def mean_of_heads(weights: Weights, tokens: Int[Tensor, "prompt pos"], layers: Collection[int]) -> dict[int, Values]:
    """Layer -> the mean of z over the prompts, position by position."""
    sums: dict[int, Tensor] = {}

    def add(site: str, layer: int | None, x: Tensor) -> None:
        if site == "z" and layer is not None and layer in layers:
            total = x.to(torch.promote_types(x.dtype, torch.float32)).sum(0, keepdim=True).transpose(1, 2)
            sums[layer] = sums[layer] + total if layer in sums else total.contiguous()

    for some in tokens.split(max(1, _TOKENS_AT_ONCE // tokens.shape[1])):
        residual(weights, some.to(weights.embedding.device), watch=add)
    return {layer: (total / len(tokens)).to(weights.embedding.dtype) for layer, total in sums.items()}
