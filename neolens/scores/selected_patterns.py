"""Whole patterns of a few chosen heads, to be looked at and kept: a view draws them without a model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import xarray as xr
from jaxtyping import Int
from torch import Tensor

from neolens import results
from neolens.checks import check_head, check_list
from neolens.models import anatomy
from neolens.network import head_patterns, measurement
from neolens.prompts.tokenizing import token_words


@measurement()
def shown_patterns(model: Any, prompt: Int[Tensor, " pos"], heads: Sequence[tuple[int, int]]) -> xr.Dataset:
    """The attention of chosen heads from every query to every key of one prompt.

    Args:
        prompt: tokens, BOS included.
        heads: (layer, head), each once.

    Returns:
        `pattern` by group, query_pos and key_pos, probabilities; a group is one head under a name such as
        `1.3 local 256`. `token` by query_pos says what stands where, the number of the token where the model has no
        tokenizer.

    Raises:
        ValueError: no heads, one twice, one that does not exist, or a prompt that the model does not take.
    """
    facts = anatomy(model)
    heads = [
        check_head(head, facts.layers, facts.heads, facts.name)
        for head in check_list(heads, "heads", "(layer, head)", example="[(3, 7)]")
    ]
    if not heads or len(set(heads)) < len(heads):
        raise ValueError(f"heads {heads}: expected at least one (layer, head), each once")
    by_layer: dict[int, list[int]] = {}
    for layer, head in heads:
        by_layer.setdefault(layer, []).append(head)
    whole = head_patterns(model, prompt, by_layer)
    tokenizer = getattr(model, "tokenizer", None)
    numbers = prompt.tolist()
    words = list(map(str, numbers)) if tokenizer is None else list(token_words(tokenizer, numbers))
    pattern = torch.stack([whole[layer][by_layer[layer].index(head)].cpu() for layer, head in heads])
    coords = {
        "group": [f"{layer}.{head} {facts.attention[layer]}" for layer, head in heads],
        "attention_kind": ("group", [facts.attention[layer].kind for layer, _ in heads]),
        "token": ("query_pos", words),
    }
    variables = {"pattern": (("group", "query_pos", "key_pos"), pattern.numpy())}
    return results.build(variables, facts, coords=coords, attrs=results.provenance(model, facts))
