"""Which keys a query sees: the one place that turns an `AttentionSpan` into a mask.

The hooked model's attention and the pure forward pass both read it, so that a layer that is made local or global
(`neolens.what_if`) is so in both.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from neolens.checks import check_type
from neolens.models.anatomy import AttentionSpan
from neolens.models.devices import check_device


def visible(
    queries: range, keys: range, span: AttentionSpan, *, device: torch.device | str = "cpu"
) -> Bool[Tensor, "query_pos key_pos"]:
    """True where the query at position i sees the key at position j: 0 <= i - j (<= window - 1 in a local layer)."""
    for what, positions in (("queries", queries), ("keys", keys)):
        check_type(positions, what, range, "a range of positions, such as range(8)")
    check_type(span, "span", AttentionSpan, "a neolens.AttentionSpan")
    device = device if isinstance(device, torch.device) else check_device(device)
    i = torch.arange(queries.start, queries.stop, device=device)
    return seen(i, keys, span)


def seen(
    queries: Int[Tensor, "*row query_pos"], keys: range, span: AttentionSpan
) -> Bool[Tensor, "*row query_pos key_pos"]:
    """The same for queries at any positions, such as each row's own."""
    back = queries[..., None] - torch.arange(keys.start, keys.stop, device=queries.device)
    return back >= 0 if span.window is None else (back >= 0) & (back < span.window)
