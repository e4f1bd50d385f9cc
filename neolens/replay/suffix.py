"""One block for many patched runs at once: only the positions that can have changed, and that can still be seen.

A row enters a block with a stretch of changed positions. Their keys and values are computed, those of all other
positions are the record's. Queries are needed where the change can have reached and the metric can still see: before
the changed stretch nothing has changed, after it the queries are the record's as long as the layers below have not
changed them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor

from neolens.checks import check_type
from neolens.models.anatomy import AttentionSpan
from neolens.network import Weights, visible
from neolens.network.blockwise import fused
from neolens.network.forward import check_spans, mlp, normalise, rotate, rotations
from neolens.network.products import apply
from neolens.network.weights import Linear, check_weights
from neolens.replay.reach import Reach
from neolens.replay.record import Record
from neolens.replay.rows import Rows, flat, merged, unflat

ATTENTION_BYTES = 32 * 2**20
"""Keys of a group of rows that are gathered at a time."""

NEEDED = frozenset({"resid_pre", "resid_mid", "resid_post", "q", "k", "v"})
"""Sites of the run that is patched which a replay reads."""


@dataclass
class Suffix:
    """The run that is patched, and how to go on from it when some positions have changed."""

    weights: Weights
    target: Record
    spans: Sequence[AttentionSpan]
    reach: Reach
    arithmetic: int = field(default=0, init=False)
    """Multiplications and additions in matrix products so far."""

    def __post_init__(self) -> None:
        check_weights(self.weights)
        check_type(self.target, "target", Mapping, "what neolens.replay.record returns")
        check_spans(self.spans, self.weights.anatomy)
        check_type(self.reach, "reach", Reach, "what neolens.replay.reach returns")
        where = torch.arange(self.reach.length, device=self.weights.embedding.device)
        self.rotation = rotations(self.weights, where, self.weights.embedding.dtype)

    def through(self, layer: int, entering: list[Rows], between: list[Rows], after: list[Rows]) -> list[Rows]:
        """The rows after a block: those that enter it, those that join between attention and MLP (in a sequential
        block), and those that join behind it."""
        rows = self._after_attention(layer, entering)
        if not self.weights.anatomy.parallel:
            rows = self._after_mlp(layer, merged([*rows, *between]))
        return merged([*rows, *after])

    def linear(self, linear: Linear, x: Float[Tensor, "item d_in"]) -> Float[Tensor, "item d_out"]:
        """The linear map of a list of items, its arithmetic counted."""
        self.arithmetic += 2 * x.shape[0] * linear.weight.numel()
        return apply(linear, x)

    def _after_mlp(self, layer: int, rows: list[Rows]) -> list[Rows]:
        if not rows:
            return []
        stream = flat([group.residual for group in rows])
        out = stream + self._mlp(layer, stream)
        shapes = [tuple(group.residual.shape[:2]) for group in rows]
        return [group.replaced(group.first, group.last, x) for group, x in zip(rows, unflat(out, shapes), strict=True)]

    def _mlp(self, layer: int, stream: Float[Tensor, "item d_model"]) -> Float[Tensor, "item d_model"]:
        """What the MLP adds, its arithmetic counted."""
        weights = self.weights.layers[layer]
        self.arithmetic += 2 * len(stream) * (weights.up.weight.numel() + weights.down.weight.numel())
        return mlp(self.weights, weights, stream)

    def _after_attention(self, layer: int, rows: list[Rows]) -> list[Rows]:
        """The stream after attention, and in a parallel block after the MLP beside it, where it can have changed."""
        seen = self.reach.seen_from[layer]
        stretches = [(max(g.first, seen), self.reach.changed_until(layer, g.last)) for g in rows]
        kept = [(group, stretch) for group, stretch in zip(rows, stretches, strict=True) if stretch[0] < stretch[1]]
        if not kept:
            return []
        z = self._heads(layer, kept)
        before = [self._stream(layer, group, *stretch) for group, stretch in kept]
        stream = flat(before)
        out = self.linear(self.weights.layers[layer].o, z)
        if self.weights.anatomy.parallel:
            out = self._mlp(layer, stream) + out
        out = out + stream
        shapes = [tuple(x.shape[:2]) for x in before]
        return [group.replaced(*stretch, x) for (group, stretch), x in zip(kept, unflat(out, shapes), strict=True)]

    def _stream(self, layer: int, group: Rows, first: int, last: int) -> Float[Tensor, "row pos d_model"]:
        """The stream that a block reads at positions that change in it: the rows' own, then the record's."""
        own = group.residual[:, first - group.first :]
        if last == group.last:
            return own
        start = max(first, group.last)
        recorded = self.target["resid_pre"][layer][:, start:last][group.prompt]
        return torch.cat([own, recorded], dim=1) if own.shape[1] else recorded

    def _heads(self, layer: int, kept: list[tuple[Rows, tuple[int, int]]]) -> Float[Tensor, "item d_model"]:
        """z of all heads at every (row, position) of the stretches to come."""
        weights = self.weights.layers[layer]
        normed = normalise(self.weights, weights.norm_attention, flat([group.residual for group, _ in kept]))
        shapes = [tuple(group.residual.shape[:2]) for group, _ in kept]
        keys, values = (unflat(self.linear(linear, normed), shapes) for linear in (weights.k, weights.v))
        asking = unflat(normed, shapes)
        asking = [x[:, max(0, first - group.first) :] for x, (group, (first, _)) in zip(asking, kept, strict=True)]
        asked = [tuple(x.shape[:2]) for x in asking]
        queries = unflat(self.linear(weights.q, flat(asking)), asked)
        z = [
            self._group(layer, group, stretch, *own)
            for (group, stretch), *own in zip(kept, queries, keys, values, strict=True)
        ]
        return flat(z)

    def _group(
        self, layer: int, group: Rows, stretch: tuple[int, int], q: Tensor, k: Tensor, v: Tensor
    ) -> Float[Tensor, "row pos d_model"]:
        """z of one group of rows: their own queries, keys and values where they have changed, else the record's."""
        (first, last), span = stretch, self.spans[layer]
        start = 0 if span.window is None else max(0, first - span.window + 1)
        q, k, v = (x.unflatten(-1, (self.weights.anatomy.heads, -1)).transpose(1, 2) for x in (q, k, v))
        q, k = self._rotated(q, max(first, group.first)), self._rotated(k, group.first)
        hidden = visible(range(first, last), range(start, last), span, device=q.device)
        recorded = {site: self.target[site][layer] for site in ("q", "k", "v")}
        per_row = self.weights.anatomy.d_model * (last - start) * q.element_size()
        at_a_time = max(1, ATTENTION_BYTES // per_row)
        out = q.new_empty(q.shape[0], last - first, self.weights.anatomy.d_model)
        own_from = max(group.first, start)
        own_until = max(group.last, own_from)
        for begin, end in _cuts(q.shape[0], at_a_time):
            prompts = group.prompt[begin:end]
            mine = [recorded[site][:, :, start:last][prompts] for site in ("k", "v")]
            for whole, own in zip(mine, (k, v), strict=True):
                whole[:, :, own_from - start : own_until - start] = own[begin:end, :, own_from - group.first :]
            queries = q[begin:end]
            if group.last < last:
                rest = recorded["q"][:, :, max(first, group.last) : last][prompts]
                queries = torch.cat([queries, rest], dim=2)
            z = self.attend(layer, queries, mine[0], mine[1], hidden)
            out[begin:end] = z.transpose(1, 2).flatten(2)
        return out

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, seen: Tensor) -> Float[Tensor, "row head pos d_head"]:
        """softmax(scale q k^T, where seen) v."""
        self.arithmetic += 4 * q.shape[0] * q.shape[1] * q.shape[2] * k.shape[2] * q.shape[3]
        facts = self.weights.anatomy
        return fused(q, k, v, seen, facts.layer_scale(layer), upcast=facts.upcasts_scores)

    def _rotated(self, x: Float[Tensor, "row head pos d_head"], first: int) -> Float[Tensor, "row head pos d_head"]:
        return x if self.rotation is None else rotate(x, self.rotation[first : first + x.shape[2]])


def _cuts(length: int, step: int) -> list[tuple[int, int]]:
    return list(pairwise([*range(0, length, step), length]))
