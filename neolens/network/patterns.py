"""Whole attention patterns, of one layer or of chosen heads, for pictures of short prompts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from neolens.checks import check_indices, check_layer, check_tokens, check_type
from neolens.network.blockwise import PatternBlock
from neolens.network.forward import residual
from neolens.network.measurement import measurement
from neolens.network.weights import weights_of


def patterns(model: Any, tokens: Int[Tensor, " pos"], layer: int) -> Float[Tensor, "head query_pos key_pos"]:
    """A[h, i, j], the attention of head h of `layer` from query i to key j; rows sum to 1.

    Args:
        tokens: one prompt, BOS included.

    Raises:
        ValueError: the layer does not exist, or the prompt is empty or longer than the model's context.
    """
    facts = weights_of(model).anatomy
    layer = check_layer(layer, facts.layers, facts.name)
    return head_patterns(model, tokens, {layer: range(facts.heads)})[layer]


@measurement(error=False)
def head_patterns(
    model: Any, tokens: Int[Tensor, " pos"], heads: Mapping[int, Sequence[int]]
) -> dict[int, Float[Tensor, "head query_pos key_pos"]]:
    """Layer -> the patterns of its chosen heads, in the order in which they are named, all in one pass.

    Args:
        tokens: one prompt, BOS included.
        heads: layer -> heads.

    Raises:
        ValueError: a layer or head that does not exist, or a prompt that is empty or longer than the model's context.
    """
    weights = weights_of(model)
    facts = weights.anatomy
    expected = "a mapping from layers to lists of heads, such as {1: [0, 2]}"
    heads = {
        check_layer(layer, facts.layers, facts.name): check_indices(
            its, "head", facts.heads, f"layer {layer} of {facts.name}"
        )
        for layer, its in check_type(heads, "heads", Mapping, expected).items()
    }
    check_tokens(tokens, "prompt", "[pos]", facts.d_vocab, facts.name)
    if len(tokens) > facts.context:
        raise ValueError(f"the prompt has {len(tokens)} tokens: {facts.name} takes 1 to {facts.context}")
    empty = partial(weights.embedding.new_zeros, dtype=torch.float32)
    whole = {layer: empty(len(its), len(tokens), len(tokens)) for layer, its in heads.items()}

    def keep(block: PatternBlock) -> None:
        if block.layer in whole:
            rows = slice(block.first_query, block.first_query + block.queries)
            columns = slice(block.first_key, block.first_key + block.keys)
            whole[block.layer][:, rows, columns] = block.pattern[0, list(heads[block.layer])].float()

    residual(weights, tokens[None].to(weights.embedding.device), observer=keep, stop_after=max(heads, default=0))
    return whole
