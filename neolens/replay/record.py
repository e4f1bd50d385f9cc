"""Recorded runs: the activations of whole prompts of one length, from which a patched run starts.

Queries and keys are kept as the scores are made of them, in a rotary model rotated.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence, Set

import torch
from jaxtyping import Float, Int
from torch import Tensor

from neolens.checks import check_choice, check_layers, check_list, check_type, shown
from neolens.models.anatomy import AttentionSpan
from neolens.network import Weights, residual
from neolens.network.forward import check_spans
from neolens.network.weights import check_weights
from neolens.sites import SITES

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

    Raises:
        TypeError, ValueError: no weights, no tokens of their vocabulary, or sites, spans or layers that there are not.
    """
    for site in check_list(list(sites) if isinstance(sites, Set) else sites, "sites", "names", example="['z']"):
        check_choice(site, "site", SITES)
    facts = check_weights(weights).anatomy
    spans = check_spans(spans, facts)
    if layers is not None:
        layers = check_layers(sorted(layers) if isinstance(layers, Set) else layers, facts.layers, facts.name)
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
    stream = check_type(record_, "record", Mapping, "what neolens.replay.record returns").get("resid_post")
    if not isinstance(stream, Mapping) or not stream:
        raise ValueError(f"record {shown(record_)} has no resid_post: expected what neolens.replay.record returns")
    return stream[max(stream)]
