"""What takes the place of ablated heads, as tensors: means over a reference, or what another prompt's heads said."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from neolens.ablation.methods import ALL_POSITIONS, Beyond, Cut, How
from neolens.ablation.spec import Asked
from neolens.models.anatomy import Anatomy, AttentionSpan
from neolens.models.spans import seen
from neolens.network import Weights, residual
from neolens.network.blockwise import attend_in_blocks, fused
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
            z = attend_in_blocks(q, k, v, span, scale=scale, upcast=upcast, nearest=nearest)
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
    """Layer -> the values for these prompts of one length, up to position `until`; one position, where the mean is
    over all."""
    if not asked.reference:
        return None
    if asked.how == ALL_POSITIONS:
        return mean_of_heads(weights, asked.reference, asked.layers, asked.how)
    if asked.how == "mean":
        length = len(asked.prompts[prompts[0]])
        alike = [other[:until] for other in asked.reference if len(other) == length]
        return mean_of_heads(weights, alike, asked.layers, asked.how)
    tokens = torch.stack([asked.reference[asked.donors[prompt]] for prompt in prompts])
    tokens = tokens[:, :until].to(weights.embedding.device)
    return record(weights, tokens, {"z"}, weights.anatomy.attention, asked.layers)["z"]


def mean_of_heads(
    weights: Weights, prompts: Sequence[Int[Tensor, " _"]], layers: Collection[int], how: How
) -> dict[int, Values]:
    """Layer -> the mean of z over prompts of one length, position by position; or over all positions of prompts of any
    lengths, which has one position."""
    sums: dict[int, Tensor] = {}

    def add(site: str, layer: int | None, x: Tensor) -> None:
        if site == "z" and layer is not None and layer in layers:
            total = summed(x, how).transpose(1, 2)
            sums[layer] = sums[layer] + total if layer in sums else total.contiguous()

    for some in batches(prompts, lambda length: _TOKENS_AT_ONCE // length):
        residual(weights, some.to(weights.embedding.device), watch=add)
    count = summands(prompts, how)
    return {layer: (total / count).to(weights.embedding.dtype) for layer, total in sums.items()}


def batches(prompts: Sequence[Int[Tensor, " _"]], at_once: Callable[[int], int]) -> Iterator[Int[Tensor, "some pos"]]:
    """Prompts of one length together, `at_once(length)` at a time or one."""
    for length in sorted({len(prompt) for prompt in prompts}):
        alike = torch.stack([prompt for prompt in prompts if len(prompt) == length])
        yield from alike.split(max(1, at_once(length)))


def summed(z: Float[Tensor, "prompt pos head d_head"], how: How) -> Float[Tensor, "1 _ head d_head"]:
    """The sum over prompts, position by position or over all positions, in float32 at least."""
    over = (0, 1) if how == ALL_POSITIONS else (0,)
    return z.to(torch.promote_types(z.dtype, torch.float32)).sum(over, keepdim=True)


def summands(prompts: Sequence[Int[Tensor, " _"]], how: How) -> int:
    """How many values such a sum over these prompts has."""
    return sum(map(len, prompts)) if how == ALL_POSITIONS else len(prompts)
