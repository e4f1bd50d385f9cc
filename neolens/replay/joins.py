"""Where a patch enters: every site comes down to rows that join at a layer with a changed residual stream.

A patched residual stream is the source's, or the target's plus the difference of what is added to it. A patched head is
followed to its z, whose difference times W_O is added after attention; for a query or a pattern that is the z of one
position, for a key or a value that of every later query that sees it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from neolens.checks import holds_tokens, shown
from neolens.network import visible
from neolens.replay.record import Record
from neolens.replay.rows import Rows
from neolens.replay.suffix import ATTENTION_BYTES, Suffix

SITES = ("resid_pre", "resid_mid", "resid_post", "attn_out", "mlp_out", "z", "q", "k", "v", "pattern")
HEAD_SITES = ("z", "q", "k", "v", "pattern")
READ = {site: (site,) for site in SITES} | {"pattern": ("q", "k")}
"""Site -> what is read of the source's run."""


@dataclass(frozen=True)
class Cells:
    """Patches of one layer, one a cell: the positions from `first` to before `last` of a prompt, in a head or not."""

    prompt: Int[Tensor, " cell"]
    head: Int[Tensor, " cell"]
    first: Int[Tensor, " cell"]
    last: Int[Tensor, " cell"]
    number: Int[Tensor, " cell"]
    """Of the cell in the result."""

    def __post_init__(self) -> None:
        for name in ("prompt", "head", "first", "last", "number"):
            values = getattr(self, name)
            if not holds_tokens(values) or values.shape != self.prompt.shape or values.ndim != 1:
                raise TypeError(f"{name} {shown(values)} of Cells: expected an integer tensor [cell], each as long")

    def __getitem__(self, which: Tensor) -> Cells:
        return Cells(*(getattr(self, name)[which] for name in ("prompt", "head", "first", "last", "number")))

    def __len__(self) -> int:
        return len(self.prompt)

    def alike(self) -> Iterator[tuple[int, int, Cells]]:
        """The cells by the positions that they patch."""
        for first, last in sorted(set(zip(self.first.tolist(), self.last.tolist(), strict=True))):
            yield first, last, self[(self.first == first) & (self.last == last)]


@dataclass(frozen=True)
class Joins:
    """Rows that join the runs under way at one layer, by where in the block."""

    before: list[Rows]
    between: list[Rows]
    after: list[Rows]


def joins(suffix: Suffix, source: Record, site: str, layer: int, cells: Cells) -> Joins:
    """The rows that these patches start; one that nothing can see any more starts none."""
    rows = []
    for first, last, same in cells.alike():
        start = _of_head if site in HEAD_SITES else _of_stream
        rows.append(start(suffix, source, site, layer, first, last, same))
    rows = [group for group in rows if group.first < group.last]
    if site == "resid_pre":
        return Joins(rows, [], [])
    if site in ("resid_post", "mlp_out") or suffix.weights.anatomy.parallel:
        return Joins([], [], rows)
    return Joins([], rows, [])


def _of_stream(suffix: Suffix, source: Record, site: str, layer: int, first: int, last: int, cells: Cells) -> Rows:
    begin = first if site == "resid_pre" else max(first, suffix.reach.seen_from[layer])
    stream = source[site][layer][:, begin:last]
    if site in ("attn_out", "mlp_out"):
        stream = _with_added(suffix, site, layer, stream, slice(begin, last))
    return Rows(begin, max(begin, last), cells.prompt, cells.number, stream[cells.prompt])


def _with_added(
    suffix: Suffix, site: str, layer: int, added: Tensor, at: slice, prompts: Tensor | slice = slice(None)
) -> Float[Tensor, "row pos d_model"]:
    """The target's residual stream with what attention or the MLP adds exchanged, summed in the order of the forward
    pass, so that it is rounded alike."""

    def recorded(name: str) -> Tensor:
        return suffix.target[name][layer][:, at][prompts]

    if not suffix.weights.anatomy.parallel:
        return recorded("resid_pre" if site == "attn_out" else "resid_mid") + added
    return added + recorded("mlp_out" if site == "attn_out" else "attn_out") + recorded("resid_pre")


def _of_head(suffix: Suffix, source: Record, site: str, layer: int, first: int, last: int, cells: Cells) -> Rows:
    """The target's stream with another z of a head, at every query that sees the patch."""
    begin = max(first, suffix.reach.seen_from[layer])
    end = max(begin, suffix.reach.changed_until(layer, last) if site in ("k", "v") else last)
    z = suffix.target["z"][layer][:, :, begin:end]
    patched = {}
    for head in cells.head.unique().tolist() if begin < end else []:
        which = (cells.head == head).nonzero()[:, 0]
        prompts = cells.prompt[which]
        patched[head] = which, _patched_z(suffix, source, site, layer, head, prompts, (first, last), (begin, end))
    join = _rounded_once if z.dtype.itemsize == 2 else _plus_change
    return Rows(begin, end, cells.prompt, cells.number, join(suffix, layer, cells, z, patched, slice(begin, end)))


Patched = Mapping[int, tuple[Tensor, Tensor]]
"""Head -> the rows in which it is patched, and its z there."""


def _plus_change(
    suffix: Suffix, layer: int, cells: Cells, z: Tensor, patched: Patched, at: slice
) -> Float[Tensor, "row pos d_model"]:
    """The stream after attention plus the change of each head's z, times its W_O: the least arithmetic."""
    after = "resid_post" if suffix.weights.anatomy.parallel else "resid_mid"
    stream = suffix.target[after][layer][:, at][cells.prompt].clone()
    output = suffix.weights.layers[layer].o.weight.unflatten(1, (suffix.weights.anatomy.heads, -1))
    for head, (rows, new) in patched.items():
        change = new - z[cells.prompt[rows], head]
        suffix.arithmetic += 2 * change.numel() * output.shape[0]
        stream[rows] += change @ output[:, head].T
    return stream


def _rounded_once(
    suffix: Suffix, layer: int, cells: Cells, z: Tensor, patched: Patched, at: slice
) -> Float[Tensor, "row pos d_model"]:
    """The same in half precision, from the z of all heads, so that their sum is rounded once, as in the forward
    pass."""
    whole = z[cells.prompt]
    for head, (rows, new) in patched.items():
        whole[rows, head] = new
    joined = whole.transpose(1, 2).flatten(2)
    attn_out = suffix.linear(suffix.weights.layers[layer].o, joined.flatten(0, 1)).view_as(joined)
    return _with_added(suffix, "attn_out", layer, attn_out, at, cells.prompt)


def _patched_z(
    suffix: Suffix,
    source: Record,
    site: str,
    layer: int,
    head: int,
    prompts: Int[Tensor, " row"],
    patched: tuple[int, int],
    queries: tuple[int, int],
) -> Float[Tensor, "row pos d_head"]:
    """z with the patch, of one head at the queries that may change."""
    target, (first, last), (begin, end) = suffix.target, patched, queries
    if site == "z":
        return source["z"][layer][prompts, head, begin:end]
    span = suffix.spans[layer]
    start = 0 if span.window is None else max(0, begin - span.window + 1)
    seen = visible(range(begin, end), range(start, end), span, device=prompts.device)
    stretches = {"q": (begin, end), "k": (start, end), "v": (start, end)}
    whole = {"pattern": ("q", "k"), "q": ("q",)}.get(site, ())
    found = []
    rows = max(1, ATTENTION_BYTES // (4 * (end - start) * max(end - begin, 1)))
    for some in prompts.split(rows):
        parts = {}
        for part, (low, high) in stretches.items():
            run = source if part in whole else target
            parts[part] = run[part][layer][some, head, low:high]
        if site in ("k", "v"):
            low, high = max(first, start), min(last, end)
            parts[site][:, low - start : high - start] = source[site][layer][some, head, low:high]
        q, k, v = (parts[part][:, None] for part in ("q", "k", "v"))
        found.append(suffix.attend(layer, q, k, v, seen)[:, 0])
    return torch.cat(found)
