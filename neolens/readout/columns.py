"""Logits of a few columns of the vocabulary, such as those of the answer and the distractor."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from neolens.network import Weights


def column_logits(
    weights: Weights, normed: Float[Tensor, "row read d_model"], columns: Int[Tensor, "row column"]
) -> Float[Tensor, "row read column"]:
    """The logits of each row's own columns.

    Args:
        normed: final residual streams after the last normalisation.
    """
    unembedding = weights.unembedding
    exact = torch.promote_types(normed.dtype, torch.float32)
    logits = torch.einsum("rpd,rcd->rpc", normed.to(exact), unembedding.weight[columns].to(exact))
    logits = logits if unembedding.bias is None else logits + unembedding.bias[columns][:, None]
    return logits.to(normed.dtype)
