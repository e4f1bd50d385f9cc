"""The whole attention pattern of one layer, for pictures of short prompts."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from neolens.network.blockwise import PatternBlock
from neolens.network.forward import residual
from neolens.network.weights import weights_of


@torch.no_grad()
def patterns(model: Any, tokens: Int[Tensor, " pos"], layer: int) -> Float[Tensor, "head query_pos key_pos"]:
    """A[h, i, j], the attention of head h of `layer` from query i to key j; rows sum to 1.

    Args:
        tokens: one prompt, BOS included.

    Raises:
        ValueError: the layer does not exist, or the prompt is empty or longer than the model's context.
    """
    weights = weights_of(model)
    facts = weights.anatomy
    if not 0 <= layer < facts.layers:
        raise ValueError(f"no layer {layer} in {facts.name}: layers are 0 to {facts.layers - 1}")
    if not 0 < len(tokens) <= facts.context:
        raise ValueError(f"the prompt has {len(tokens)} tokens: {facts.name} takes 1 to {facts.context}")
    if tokens.is_floating_point() or int(tokens.min()) < 0 or int(tokens.max()) >= facts.d_vocab:
        raise ValueError(
            f"the prompt holds what is no token of {facts.name}: expected integers, 0 to {facts.d_vocab - 1}"
        )
    whole = weights.embedding.new_zeros(facts.heads, len(tokens), len(tokens), dtype=torch.float32)

    def keep(block: PatternBlock) -> None:
        if block.layer == layer:
            rows = slice(block.first_query, block.first_query + block.queries)
            whole[:, rows, block.first_key : block.first_key + block.keys] = block.pattern[0].float()

    residual(weights, tokens[None].to(weights.embedding.device), observer=keep, stop_after=layer)
    return whole
