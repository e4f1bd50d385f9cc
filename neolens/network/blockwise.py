"""Causal attention computed in blocks of queries, so that no pattern is ever held whole.

A pattern of 12 heads and 2,048 tokens is 200 MB a layer. A block of queries needs only its own rows, and in a
local layer only the band of keys that its queries can see. An observer is handed each block before it is dropped.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from neolens.checks import check_bool, check_floats, check_function, check_number, check_type, check_whole, shown
from neolens.models.anatomy import AttentionSpan
from neolens.models.spans import visible

BLOCK = 128
"""Queries a block: 128 rows of 2,048 keys and 12 heads are 12 MB in fp32, which the caches bear."""


@dataclass(frozen=True)
class PatternBlock:
    """Some rows of one layer's attention pattern; keys outside the columns have weight 0.

    `pattern[b, h, r, c]` is the weight of query `first_query + r` on key `first_key + c`; `scores` are what the softmax
    took, -inf where a query does not see a key; None where the pattern is all that is known.
    """

    layer: int
    first_query: int
    first_key: int
    pattern: Float[Tensor, "prompt head query_pos key_pos"]
    scores: Float[Tensor, "prompt head query_pos key_pos"] | None = None

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
    if edit is None:
        return x
    other = edit(site, layer, x)
    if not isinstance(other, Tensor) or other.shape != x.shape:
        raise ValueError(f"edit of {site} gives {shown(other)}: expected a tensor of shape {tuple(x.shape)}")
    return other


def attend(
    q: Float[Tensor, "prompt head query_pos d_head"],
    k: Float[Tensor, "prompt head key_pos d_head"],
    v: Float[Tensor, "prompt head key_pos d_value"],
    span: AttentionSpan,
    *,
    scale: float = 1.0,
    upcast: bool = True,
    nearest: int = 0,
    layer: int = 0,
    observer: Observer | None = None,
    edit: Edit | None = None,
    block: int = BLOCK,
    scores_too: bool = False,
) -> Float[Tensor, "prompt head query_pos d_value"]:
    """z = softmax(scale * q k^T within the span) v, a block of queries at a time; queries are those of the last keys.

    An `edit` of `attn_scores` or `pattern` is handed one block at a time. In single and double precision, and where
    there is no observer or edit, torch's fused attention computes the same in a third of the time.

    Args:
        upcast: of half-precision inputs, whether scores and softmax are computed in float32 (as Hugging Face does for
            GPT-Neo), or in the inputs' dtype, in which they can overflow (GPT-2, Pythia).
        nearest: keys nearer than so many tokens are not seen; a query that sees none has z = 0.
        scores_too: whether the observer is handed the scores besides the pattern.
    """
    _check_qkv(q, k, v)
    check_type(span, "span", AttentionSpan, "a neolens.AttentionSpan")
    check_callbacks(observer=observer, edit=edit)
    block, nearest = check_whole(block, "block", 1, unit="queries"), check_whole(nearest, "nearest", 0, 2**31 - 1)
    layer, scale = check_whole(layer, "layer", 0), check_number(scale, "scale")
    upcast, scores_too = check_bool(upcast, "upcast"), check_bool(scores_too, "scores_too")
    return attend_in_blocks(
        *(q, k, v, span),
        scale=scale,
        upcast=upcast,
        nearest=nearest,
        layer=layer,
        observer=observer,
        edit=edit,
        block=block,
        scores_too=scores_too,
    )


def attend_in_blocks(
    q: Float[Tensor, "prompt head query_pos d_head"],
    k: Float[Tensor, "prompt head key_pos d_head"],
    v: Float[Tensor, "prompt head key_pos d_value"],
    span: AttentionSpan,
    *,
    scale: float = 1.0,
    upcast: bool = True,
    nearest: int = 0,
    layer: int = 0,
    observer: Observer | None = None,
    edit: Edit | None = None,
    block: int = BLOCK,
    scores_too: bool = False,
) -> Float[Tensor, "prompt head query_pos d_value"]:
    """`attend` without its checks, which would be repeated in every layer of a pass."""
    length = k.shape[2]
    offset, z = length - q.shape[2], q.new_empty(len(q), q.shape[2], q.shape[1], v.shape[3], dtype=v.dtype)
    for first in range(offset, length, block):
        last = min(first + block, length)
        start = 0 if span.window is None else max(0, first - span.window + 1)
        seen = visible(range(first, last), range(start, last), span, device=q.device)
        if nearest:
            seen = seen.tril(first - start - nearest)
        parts = (q[:, :, first - offset : last - offset], k[:, :, start:last], v[:, :, start:last])
        into = slice(first - offset, last - offset)
        if observer is None and edit is None:
            z[:, into] = fused(*parts, seen, scale, upcast=upcast).transpose(1, 2)
            continue
        scores = edited(edit, "attn_scores", layer, masked_scores(*parts[:2], seen, scale, upcast=upcast))
        pattern = edited(edit, "pattern", layer, softmax_of_seen(scores, seen).to(v.dtype))
        handed = scores if scores_too else None
        del scores  # gone before the observer takes its room, unless that is handed them
        if observer is not None:
            observer(PatternBlock(layer, first, start, pattern, handed))
        z[:, into] = torch.matmul(pattern.to(v.dtype), parts[2]).transpose(1, 2)
    return z.transpose(1, 2)


def check_callbacks(**functions: Any) -> None:
    """Check functions that a pass hands its activations to, by their names; None for none.

    Raises:
        TypeError: something else than a function.
    """
    for what, function in functions.items():
        if function is not None:
            of, arguments = ("a PatternBlock", 1) if what == "observer" else ("site, layer and activation", 3)
            check_function(function, what, f"a function of {of}", arguments)


def _check_qkv(q: Any, k: Any, v: Any) -> None:
    """Check queries, keys and values: of one dtype, as many rows and heads, and a key for each query."""
    for what, x in (("q", q), ("k", k), ("v", v)):
        check_floats(x, what, "[prompt, head, pos, d_head]")
    alike = q.dtype == k.dtype == v.dtype and q.shape[:2] == k.shape[:2] == v.shape[:2]
    if not alike or k.shape[2] != v.shape[2] or q.shape[2] > k.shape[2] or q.shape[3] != k.shape[3]:
        shapes = ", ".join(f"{tuple(x.shape)}" for x in (q, k, v))
        raise ValueError(f"q, k and v of shapes {shapes}: expected one dtype, the same heads, and a key per query")


def fused(
    q: Float[Tensor, "prompt head query_pos d_head"],
    k: Float[Tensor, "prompt head key_pos d_head"],
    v: Float[Tensor, "prompt head key_pos d_value"],
    seen: Bool[Tensor, "*rows query_pos key_pos"],
    scale: float,
    *,
    upcast: bool = True,
) -> Float[Tensor, "prompt head query_pos d_value"]:
    """softmax(scale q k^T, where seen) v; 0 for a query that sees no key. In half precision step by step, each rounded
    as in the model."""
    if q.dtype.itemsize == 2:
        return softmax_of_seen(masked_scores(q, k, seen, scale, upcast=upcast), seen).to(v.dtype) @ v
    z = F.scaled_dot_product_attention(q, k, v, attn_mask=seen, scale=scale)
    blind = ~seen.any(-1, keepdim=True)
    return z.masked_fill(blind, 0.0) if blind.any() else z


def masked_scores(
    q: Float[Tensor, "prompt head query_pos d_head"],
    k: Float[Tensor, "prompt head key_pos d_head"],
    seen: Bool[Tensor, "*rows query_pos key_pos"],
    scale: float,
    *,
    upcast: bool = True,
) -> Float[Tensor, "prompt head query_pos key_pos"]:
    """scale q k^T, -inf where a key is not seen."""
    dtype = torch.promote_types(q.dtype, torch.float32) if upcast else q.dtype
    scores = torch.matmul(q.to(dtype), k.to(dtype).transpose(-1, -2))
    if scale != 1.0:
        scores = scores * scale
    return scores.masked_fill_(~seen, -torch.inf)


def softmax_of_seen(
    scores: Float[Tensor, "prompt head query_pos key_pos"], seen: Bool[Tensor, "*rows query_pos key_pos"]
) -> Float[Tensor, "prompt head query_pos key_pos"]:
    """The pattern that scores give; 0 for a query that sees no key."""
    pattern = torch.softmax(scores, dim=-1)
    blind = ~seen.any(-1, keepdim=True)
    return pattern.masked_fill(blind, 0.0) if blind.any() else pattern
