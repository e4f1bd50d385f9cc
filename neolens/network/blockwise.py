"""Causal attention computed in blocks of queries, so that no pattern is ever held whole.

A pattern of 12 heads and 2,048 tokens is 200 MB a layer. A block of queries needs only its own rows, and in a
local layer only the band of keys that its queries can see. An observer is handed each block before it is dropped.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from neolens.models.facts import AttentionSpan

BLOCK = 128
"""Queries a block: 128 rows of 2,048 keys and 12 heads are 12 MB in fp32, which the caches bear."""


@dataclass(frozen=True)
class PatternBlock:
    """Some rows of one layer's attention pattern; keys outside the columns have weight 0.

    `pattern[b, h, r, c]` is the weight of query `first_query + r` on key `first_key + c`.
    """

    layer: int
    first_query: int
    first_key: int
    pattern: Float[Tensor, "prompt head query_pos key_pos"]

    @property
    def queries(self) -> int:
        return self.pattern.shape[2]

    @property
    def keys(self) -> int:
        return self.pattern.shape[3]


Observer = Callable[[PatternBlock], None]

Edit = Callable[[str, int | None, Tensor], Tensor]
"""(site, layer, activation) -> activation to go on with; sites and shapes are TransformerLens's (see `sites`)."""

Watch = Callable[[str, int | None, Tensor], None]
"""(site, layer, activation), as an `Edit`, but only looking."""


def edited(edit: Edit | None, site: str, layer: int | None, x: Tensor) -> Tensor:
    """The activation that the pass goes on with."""
    return x if edit is None else edit(site, layer, x)


def attend(
    q: Float[Tensor, "prompt head pos d_head"],
    k: Float[Tensor, "prompt head pos d_head"],
    v: Float[Tensor, "prompt head pos d_head"],
    span: AttentionSpan,
    *,
    scale: float = 1.0,
    layer: int = 0,
    observer: Observer | None = None,
    edit: Edit | None = None,
    block: int = BLOCK,
) -> Float[Tensor, "prompt head pos d_head"]:
    """z = softmax(scale * q k^T within the span) v, a block of queries at a time.

    Scores and softmax are computed in fp32 for half-precision inputs (as Hugging Face does for GPT-Neo and Pythia).
    An `edit` of `attn_scores` or `pattern` is handed one block at a time.
    """
    length = q.shape[2]
    exact = torch.promote_types(q.dtype, torch.float32)
    z = []
    for first in range(0, length, block):
        last = min(first + block, length)
        start = 0 if span.window is None else max(0, first - span.window + 1)
        keys = k[:, :, start:last].to(exact)
        scores = torch.matmul(q[:, :, first:last].to(exact), keys.transpose(-1, -2))
        if scale != 1.0:
            scores = scores * scale
        hidden = ~visible(range(first, last), range(start, last), span, device=q.device)
        scores = edited(edit, "attn_scores", layer, scores.masked_fill(hidden, -torch.inf))
        pattern = edited(edit, "pattern", layer, torch.softmax(scores, dim=-1))
        if observer is not None:
            observer(PatternBlock(layer, first, start, pattern))
        z.append(torch.matmul(pattern.to(v.dtype), v[:, :, start:last]))
    return torch.cat(z, dim=2)


def visible(
    queries: range, keys: range, span: AttentionSpan, *, device: torch.device | str = "cpu"
) -> Bool[Tensor, "query_pos key_pos"]:
    """True where the query at position i sees the key at position j: 0 <= i - j (<= window - 1 in a local layer)."""
    i = torch.arange(queries.start, queries.stop, device=device)[:, None]
    j = torch.arange(keys.start, keys.stop, device=device)[None, :]
    seen = i >= j
    return seen if span.window is None else seen & (i - j < span.window)
