"""Runs that leave a recorded one for good: from a layer on, at all positions.

What an ablation needs. A branch begins at the attention of the first layer whose heads it changes, with the record's
stream and what its heads computed there; in the layers after it its heads are changed again. All branches go up the
layers together, each layer one batch, and in the last layer only the positions that are read are computed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from neolens.checks import check_bool
from neolens.models.anatomy import AttentionSpan
from neolens.models.spans import seen
from neolens.network import Weights
from neolens.network.blockwise import attend_in_blocks, fused
from neolens.network.forward import Rotation, mlp, normalise, rotate, rotations
from neolens.network.products import apply
from neolens.network.weights import Linear
from neolens.replay.reach import reach
from neolens.replay.record import Record

_ITEMS = {"cpu": 2**11, "cuda": 2**16}
"""Positions of a chunk, if one branch has not more: every one of them takes part in every product, so fewer than in a
sweep of patches fill them."""

_PER_ITEM = 16
"""Vectors of d_model that a position of a branch takes at the peak: stream, normed, q, k, v, z, and copies."""

Positions = range | Tensor
"""The same positions in all branches, or each branch's own: Int[Tensor, "row pos"]."""


@dataclass(frozen=True)
class Branches:
    """Runs by the layer in which they begin, ascending."""

    first: Int[Tensor, " row"]
    """The first layer whose heads change; on the CPU."""
    prompt: Int[Tensor, " row"]
    """Which recorded run each leaves."""
    group: Int[Tensor, " row"]
    """What is changed in it."""

    def __len__(self) -> int:
        return len(self.first)

    def __getitem__(self, which: slice) -> Branches:
        return Branches(self.first[which], self.prompt[which], self.group[which])

    def chunks(self, vectors: int, size: int, budget: int) -> Iterator[Branches]:
        """The branches in parts whose `vectors` of `size` bytes each fit `budget` bytes; at least one branch each."""
        most = min(_ITEMS.get(self.prompt.device.type, _ITEMS["cuda"]), budget // (size * _PER_ITEM))
        step = max(1, most // vectors)
        for begin in range(0, len(self), step):
            yield self[begin : begin + step]


@dataclass(frozen=True)
class Heads:
    """What the heads of a layer computed in some branches, queries and keys as the scores are made of them."""

    layer: int
    branches: Branches
    z: Float[Tensor, "row head query_pos d_head"]
    """The branches' own: it may be written into."""
    qkv: tuple[Tensor, Tensor, Tensor] | None
    """[row, head, pos, d_head] each; None where a branch begins from a record that does not hold them."""
    queries: Positions
    keys: range


Change = Callable[[Heads], Float[Tensor, "row head query_pos d_head"]]
"""What the heads computed -> the z to go on with."""


def recorded_sites(parallel: bool, scores: bool) -> frozenset[str]:
    """What of a run is recorded to begin branches from; `scores` also what its scores are made of."""
    parallel, scores = check_bool(parallel, "parallel"), check_bool(scores, "scores")
    of_scores = {"q", "k", "v"} if scores else set()
    return frozenset({"z", "resid_pre"} | ({"mlp_out"} if parallel else set()) | of_scores)


@dataclass(frozen=True)
class Trunk:
    """Recorded runs of one length, what changes in the branches, and what is read at their end."""

    weights: Weights
    record: Record
    spans: Sequence[AttentionSpan]
    change: Change
    length: int
    read: Int[Tensor, "prompt read"] | None
    """The positions of each prompt that are read, or None for all."""

    def through(self, branches: Branches) -> Float[Tensor, "row read d_model"]:
        """The final residual stream of the branches at the positions that are read."""
        last = len(self.spans) - 1
        needed = reach(self.spans, self.length, 0 if self.read is None else int(self.read.min())).seen_from
        stream, keys, entered = self.weights.embedding.new_empty(0), range(self.length), 0
        for layer in range(int(branches.first[0]), last + 1):
            until = int((branches.first <= layer).sum())
            queries: Positions = self._asked(needed[layer])
            if layer == last and self.read is not None:
                queries = self.read[branches.prompt[:until]]
            parts = []
            if entered:
                parts.append(self._block(layer, branches[:entered], stream, keys, _of(queries, slice(entered))))
            if until > entered:
                parts.append(self._beginning(layer, branches[entered:until], _of(queries, slice(entered, until))))
            stream = parts[0] if len(parts) == 1 else torch.cat(parts)
            keys, entered = self._asked(needed[layer]), until
        return stream

    def _asked(self, first: int) -> range:
        return range(first, self.length)

    def _block(
        self, layer: int, branches: Branches, stream: Tensor, keys: range, queries: Positions
    ) -> Float[Tensor, "row pos d_model"]:
        """The stream of branches under way after a block, at the queries."""
        weights = self.weights.layers[layer]
        normed = normalise(self.weights, weights.norm_attention, stream)
        k, v = (self._heads(linear, normed) for linear in (weights.k, weights.v))
        q = self._heads(weights.q, _at(normed, queries, keys, 1))
        rotation = self._rotation(keys)
        if rotation is not None:
            q, k = rotate(q, rotation[_places(queries, keys)]), rotate(k, rotation)
        z = self._attend(layer, q, k, v, queries, keys)
        z = self.change(Heads(layer, branches, z, (q, k, v), queries, keys))
        before = _at(stream, queries, keys, 1)
        attn_out = apply(weights.o, _joined(z))
        if self.weights.anatomy.parallel:
            return mlp(self.weights, weights, before) + attn_out + before
        after = before + attn_out
        return after + mlp(self.weights, weights, after)

    def _beginning(self, layer: int, branches: Branches, queries: Positions) -> Float[Tensor, "row pos d_model"]:
        """The stream of branches after the block in which they begin, at the queries."""
        weights, keys = self.weights.layers[layer], range(self.length)

        def recorded(site: str, dim: int, where: Positions = queries) -> Tensor:
            return _at(self.record[site][layer][branches.prompt], where, keys, dim)

        before, qkv = recorded("z", 2), None
        if "q" in self.record:
            qkv = recorded("q", 2), recorded("k", 2, keys), recorded("v", 2, keys)
        z = self.change(Heads(layer, branches, before.clone(), qkv, queries, keys))
        if self.weights.anatomy.parallel:  # the MLP beside does not see what changed
            return recorded("mlp_out", 1) + apply(weights.o, _joined(z)) + recorded("resid_pre", 1)
        after = recorded("resid_pre", 1) + apply(weights.o, _joined(z))
        return after + mlp(self.weights, weights, after)

    def _heads(self, linear: Linear, x: Float[Tensor, "row pos d_model"]) -> Float[Tensor, "row head pos d_head"]:
        return apply(linear, x).unflatten(-1, (self.weights.anatomy.heads, -1)).transpose(1, 2)

    def _rotation(self, keys: range) -> Rotation | None:
        where = torch.arange(keys.start, keys.stop, device=self.weights.embedding.device)
        return rotations(self.weights, where, self.weights.embedding.dtype)

    def _attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, queries: Positions, keys: range) -> Tensor:
        span, facts = self.spans[layer], self.weights.anatomy
        if isinstance(queries, Tensor):
            mask = seen(queries, keys, span)[:, None]
            return fused(q, k, v, mask, facts.layer_scale(layer), upcast=facts.upcasts_scores)
        return attend_in_blocks(q, k, v, span, scale=facts.layer_scale(layer), upcast=facts.upcasts_scores)


def _of(queries: Positions, rows: slice) -> Positions:
    """The positions of some branches."""
    return queries if isinstance(queries, range) else queries[rows]


def _places(queries: Positions, keys: range) -> slice | Tensor:
    """Where the queries stand among the keys, to choose their rotation by."""
    if isinstance(queries, range):
        return slice(queries.start - keys.start, queries.stop - keys.start)
    return (queries - keys.start)[:, None]


def _at(x: Tensor, queries: Positions, keys: range, dim: int) -> Tensor:
    """The queries of what stands at the keys; positions are axis `dim`."""
    if isinstance(queries, range):
        return x.narrow(dim, queries.start - keys.start, len(queries))
    shape = [1] * x.ndim
    shape[0], shape[dim] = queries.shape
    return torch.take_along_dim(x, (queries - keys.start).view(shape), dim)


def _joined(z: Float[Tensor, "row head pos d_head"]) -> Float[Tensor, "row pos d_model"]:
    return z.transpose(1, 2).flatten(2)
