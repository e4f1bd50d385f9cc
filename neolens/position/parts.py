"""What a score is made of: content and position apart.

A rotary score is the sum of what the rotated dimensions of a head say and what the others say, exactly. An absolute
score is a product of sums: in the first layer, with the layer norm's scale held at its value, what goes into q and k is
the token's embedding plus the position's plus the biases, so the score is the sum of nine products (QK circuits: Elhage
et al. 2021, "A mathematical framework for transformer circuits").
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
import xarray as xr
from jaxtyping import Bool, Float, Int
from torch import Tensor

from neolens import results
from neolens.checks import check_layer
from neolens.models import Anatomy
from neolens.models.apply_treatment import embedded
from neolens.models.spans import visible
from neolens.network import Weights, measurement, residual
from neolens.network.weights import Linear
from neolens.position.checks import asked_weights
from neolens.prompts.tokens import Prompts, validated
from neolens.readout.losses import batches_by_length

SOURCES = ("content", "position", "bias")
"""What goes into q and into k in the first layer of an absolute model; a part is named `query-key`."""

ABSOLUTE_PARTS = tuple(f"{query}-{key}" for query in SOURCES for key in SOURCES)
ROTARY_PARTS = ("rotated", "unrotated")

_BLOCK_CELLS = 2**19
"""Cells (prompt, head, query, key) of a block: nine parts of it are held at once."""

Heads = Float[Tensor, "prompt head pos d_part"]


@dataclass(frozen=True)
class Part:
    """One term of a layer's scores, scale q k^T of a part of q and a part of k."""

    name: str
    q: Heads
    k: Heads


@measurement()
def score_parts(model: Any, tokens: Any, layer: Any = 0) -> xr.Dataset:
    """The parts of every score of one layer on one prompt: `score` by part, head, query_pos and key_pos, in units of
    the score, NaN where the query does not see the key; over parts they add up to the score.

    Rotary: `rotated` and `unrotated`. Absolute, in the first layer alone: nine, named by what the query and what the
    key contributes, such as `content-position`; a part that does not depend on the key (`content-bias`) shifts a
    query's row, which the softmax does not see.

    Args:
        model: from `neolens.load`, with absolute or rotary positions.
        tokens: one prompt, an integer tensor [pos].
        layer: its number, from 0.

    Raises:
        TypeError: not a model from `neolens.load`, no integers, or a layer that is no whole number.
        ValueError: a model without positions or with hooks on it, a layer that it does not have or, of an absolute
            model, another than the first.
    """
    weights = asked_weights(model, "a split of scores", "absolute", "rotary")
    facts = weights.anatomy
    layer = _asked_layer(facts, layer)
    if isinstance(tokens, Tensor) and tokens.ndim != 1:
        raise ValueError(f"tokens have shape {tuple(tokens.shape)}: expected one prompt, [pos]; take one of them")
    (prompt,) = validated([tokens], facts)
    found: dict[str, Tensor] = {}

    def use(at: int, parts: list[Part]) -> None:
        if at == layer:
            seen = visible(range(len(prompt)), range(len(prompt)), facts.attention[at], device=parts[0].q.device)
            found.update({part.name: _scores(part, facts).masked_fill(~seen, torch.nan)[0] for part in parts})

    _each_layer(weights, prompt[None].to(weights.embedding.device), use, last=layer)
    score = torch.stack(list(found.values())).cpu().numpy()
    variables = {"score": (("part", "head", "query_pos", "key_pos"), score)}
    place = np.arange(len(prompt))
    coords = {"part": list(found), "query_pos": place, "key_pos": place}
    return results.build(variables, facts, coords=coords, attrs=results.provenance(model, facts, layer=layer))


@measurement()
def part_shares(model: Any, tokens: Prompts) -> xr.Dataset:
    """How much of what the softmax sees each part of the scores makes: by prompt, layer, head and part.

    The softmax does not see a constant added to a query's row, so scores and parts are taken less their mean over the
    keys of the row. With s the score and p the part, so centred: `share` = sum p s / sum s^2 over all visible cells,
    which over parts adds up to 1 (a part that works against the others has a share below 0); `size` = sqrt(mean p^2),
    in units of the score.

    Args:
        model: from `neolens.load`, with absolute positions (the first layer alone) or rotary ones (every layer).
        tokens: an integer tensor [prompt, pos], or a list of one-dimensional ones where lengths differ.

    Raises:
        TypeError, ValueError: what `score_parts` says, or a prompt of fewer than 2 tokens.
    """
    began = time.perf_counter()
    weights = asked_weights(model, "a split of scores", "absolute", "rotary")
    facts = weights.anatomy
    prompts = validated(tokens, facts, shortest=2)
    rotary = facts.position.kind == "rotary"
    layers = range(facts.layers if rotary else 1)
    names = ROTARY_PARTS if rotary else ABSOLUTE_PARTS
    shape = (len(prompts), len(layers), facts.heads, len(names))
    found = {name: np.full(shape, np.nan) for name in ("share", "size")}
    rows: list[int] = []

    def use(layer: int, parts: list[Part]) -> None:
        for name, value in _shares(parts, facts, layer).items():
            found[name][rows, layer] = value.cpu()

    for rows in batches_by_length(prompts):
        batch = torch.stack([prompts[row] for row in rows]).to(weights.embedding.device)
        _each_layer(weights, batch, use, last=layers[-1])
    dims = ("prompt", "layer", "head", "part")
    coords = {
        "prompt": np.arange(len(prompts)),
        "length": ("prompt", [len(prompt) for prompt in prompts]),
        "part": list(names),
    }
    attrs = results.provenance(model, facts, seconds=round(time.perf_counter() - began, 3))
    variables = {name: (dims, value) for name, value in found.items()}
    return results.build(variables, facts, coords=coords, attrs=attrs, layers=layers)


def _asked_layer(facts: Anatomy, asked: Any) -> int:
    """The layer, if its scores can be split."""
    layer = check_layer(asked, facts.layers, facts.name)
    if facts.position.kind == "absolute" and layer:
        raise ValueError(
            f"layer {layer} of {facts.name}: absolute positions are mixed with everything else behind the first layer; "
            "expected layer 0"
        )
    return layer


def _each_layer(
    weights: Weights, tokens: Int[Tensor, "prompt pos"], use: Callable[[int, list[Part]], None], *, last: int
) -> None:
    """Hand the parts of each layer up to `last` that has them to `use`, as the pass comes by."""
    if weights.anatomy.position.kind == "absolute":
        use(0, _absolute(weights, tokens))
        return
    dims, q = weights.anatomy.position.rotary_dims, torch.empty(0)
    cut = {"rotated": slice(0, dims), "unrotated": slice(dims, None)}

    def watch(site: str, layer: int | None, x: Tensor) -> None:
        nonlocal q
        if site == "rot_q":
            q = x.transpose(1, 2)
        elif site == "rot_k":
            k = x.transpose(1, 2)
            assert layer is not None
            use(layer, [Part(name, q[..., at], k[..., at]) for name, at in cut.items()])

    residual(weights, tokens, watch=watch, stop_after=last)


def _absolute(weights: Weights, tokens: Int[Tensor, "prompt pos"]) -> list[Part]:
    """The nine parts of the first layer, in float32 at least: what is linear in the residual stream is split, and the
    norm's scale is held."""
    facts, layer = weights.anatomy, weights.layers[0]
    assert weights.position is not None
    exact = torch.promote_types(weights.embedding.dtype, torch.float32)
    content = F.embedding(tokens, weights.embedding).to(exact)
    where = torch.arange(tokens.shape[1], device=tokens.device)
    position = embedded(facts.position.treatment, weights.position, where).to(exact).expand_as(content)
    whole, norm = content + position, layer.norm_attention
    scale = torch.rsqrt(whole.var(-1, unbiased=False, keepdim=True) + facts.norm_eps)
    normed = {
        "content": (content - content.mean(-1, keepdim=True)) * scale * norm.weight.to(exact),
        "position": (position - position.mean(-1, keepdim=True)) * scale * norm.weight.to(exact),
        "bias": norm.bias.to(exact).expand_as(content),
    }

    def through(linear: Linear, source: str) -> Heads:
        bias = linear.bias.to(exact) if source == "bias" and linear.bias is not None else None
        return F.linear(normed[source], linear.weight.to(exact), bias).unflatten(-1, (facts.heads, -1)).transpose(1, 2)

    q = {source: through(layer.q, source) for source in SOURCES}
    k = {source: through(layer.k, source) for source in SOURCES}
    return [Part(f"{query}-{key}", q[query], k[key]) for query in SOURCES for key in SOURCES]


def _scores(part: Part, facts: Anatomy, rows: slice = slice(None)) -> Float[Tensor, "prompt head query_pos key_pos"]:
    """scale q k^T in float32 at least, of some of the queries."""
    exact = torch.promote_types(part.q.dtype, torch.float32)
    return part.q[:, :, rows].to(exact) @ part.k.to(exact).transpose(-1, -2) * facts.scale


def _shares(parts: list[Part], facts: Anatomy, layer: int) -> dict[str, Float[Tensor, "prompt head part"]]:
    """Share and size of each part of one layer, a block of queries at a time."""
    prompts, heads, length, _ = parts[0].q.shape
    along = torch.zeros(prompts, heads, len(parts), dtype=torch.float64, device=parts[0].q.device)
    squares, whole, cells = torch.zeros_like(along), torch.zeros_like(along[..., 0]), 0
    block = max(1, _BLOCK_CELLS // (prompts * heads * length))
    for first in range(0, length, block):
        queries = range(first, min(first + block, length))
        seen = visible(queries, range(length), facts.attention[layer], device=along.device)
        centred = [_centred(_scores(part, facts, slice(first, first + block)).double(), seen) for part in parts]
        total = sum(centred[1:], start=centred[0])
        whole += total.square().sum((-2, -1))
        cells += int(seen.sum())
        for number, part in enumerate(centred):
            along[..., number] += (part * total).sum((-2, -1))
            squares[..., number] += part.square().sum((-2, -1))
    return {"share": along / whole.where(whole > 0, torch.nan)[..., None], "size": (squares / cells).sqrt()}


def _centred(
    scores: Float[Tensor, "prompt head query_pos key_pos"], seen: Bool[Tensor, "query_pos key_pos"]
) -> Float[Tensor, "prompt head query_pos key_pos"]:
    """Scores less the mean over the keys that their query sees; 0 where it does not see one."""
    mean = scores.masked_fill(~seen, 0.0).sum(-1, keepdim=True) / seen.sum(-1, keepdim=True)
    return (scores - mean).masked_fill(~seen, 0.0)
