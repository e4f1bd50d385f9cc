"""Recorded runs: the activations of whole prompts of one length, from which a patched run starts.

Queries and keys are kept as the scores are made of them, in a rotary model rotated.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from neolens.models.facts import AttentionSpan
from neolens.network import Weights, residual

Record = Mapping[str, Mapping[int, Tensor]]
"""Site -> layer -> its activation: the stream [prompt, pos, d_model], heads [prompt, head, pos, d_head]."""

_OF_HEADS = ("q", "k", "v", "z")


def record(
    weights: Weights,
    tokens: Int[Tensor, "prompt pos"],
    sites: Collection[str],
    spans: Sequence[AttentionSpan],
    layers: Collection[int] | None = None,
) -> Record:
    """The activations at these sites of one run of the prompts.

    Args:
        layers: by default all; the stream after the last one is kept in any case.
    """
    kept: dict[str, dict[int, Tensor]] = {site: {} for site in {*sites, "resid_post"}}
    wanted = range(len(spans)) if layers is None else layers
    rotated = {"rot_q": "q", "rot_k": "k"} if weights.anatomy.position.kind == "rotary" else {"q": "q", "k": "k"}

    def watch(site: str, layer: int | None, x: Tensor) -> None:
        name = rotated.get(site, "") if site in ("q", "k", "rot_q", "rot_k") else site
        if layer is not None and layer in wanted and name in sites:
            kept[name][layer] = x.transpose(1, 2).contiguous() if name in _OF_HEADS else x

    with torch.no_grad():
        kept["resid_post"][len(spans) - 1] = residual(weights, tokens, spans=spans, watch=watch)
    return kept


def final(record_: Record) -> Float[Tensor, "prompt pos d_model"]:
    """The stream after the last layer."""
    stream = record_["resid_post"]
    return stream[max(stream)]
