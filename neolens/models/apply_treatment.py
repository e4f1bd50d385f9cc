"""What each treatment of positions does to tensors: to indices, to position embeddings, to the tables of a rotation.

The hooked model's components and the pure forward pass both call these, and both hand in position indices as they
would be without the treatment.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, Real
from torch import Tensor

from neolens.models.treatments import (
    Freeze,
    Mean,
    OnlyRotated,
    OnlyUnrotated,
    Scale,
    Shift,
    Shuffle,
    Treatment,
    Unrotated,
    WithoutBands,
    Zero,
    no_position,
    shifted_by,
)


def placed(treatment: Treatment | None, indices: Real[Tensor, "*pos"], context: int = 0) -> Real[Tensor, "*pos"]:
    """Where each token stands: i + by, a fixed index, i * by, the permutation of i; else i itself.

    Args:
        context: number of positions that a shuffle without `within` exchanges.
    """
    match treatment:
        case Shift(by=by):
            return indices + by
        case Freeze(at=at):
            return torch.full_like(indices, at)
        case Scale(by=by):
            return indices.to(torch.promote_types(indices.dtype, torch.float32)) * by
        case Shuffle(seed=seed, within=within):
            order = torch.arange(context)
            some = context if within is None else within
            order[:some] = torch.randperm(some, generator=torch.Generator().manual_seed(seed))
            return order.to(indices.device)[indices]
        case _:
            return indices


def embedded(
    treatment: Treatment | None, table: Float[Tensor, "context d_model"], indices: Int[Tensor, "*pos"]
) -> Float[Tensor, "*pos d_model"]:
    """The position embedding at each index under a treatment.

    Raises:
        ValueError: an index beyond the positions that the treatment leaves.
    """
    if treatment is None:
        return F.embedding(indices, table)
    room = len(table) - shifted_by(treatment)
    if indices.numel() and (last := int(indices.max())) >= room:
        raise ValueError(f"{no_position(treatment, last, room)}; cut the prompt to {room} tokens")
    match treatment:
        case Zero():
            return table.new_zeros(*indices.shape, table.shape[1])
        case Mean():
            return table.mean(0).expand(*indices.shape, -1)
        case _:
            return F.embedding(placed(treatment, indices, len(table)), table)


def turned(
    treatment: Treatment | None, cos: Float[Tensor, "*pos rotary"], sin: Float[Tensor, "*pos rotary"]
) -> tuple[Float[Tensor, "*pos rotary"], Float[Tensor, "*pos rotary"]]:
    """The tables of a rotation with some bands not turned (cos 1, sin 0) or taken out (both 0)."""
    pairs = cos.shape[-1] // 2
    match treatment:
        case Unrotated(bands=bands):
            value = 1.0
        case WithoutBands(bands=bands):
            value = 0.0
        case OnlyUnrotated():
            bands, value = None, 0.0
        case _:
            return cos, sin
    dims = [band + half for half in (0, pairs) for band in (range(pairs) if bands is None else bands)]
    cos, sin = cos.clone(), sin.clone()
    cos[..., dims], sin[..., dims] = value, 0.0
    return cos, sin


def keeps_rest(treatment: Treatment | None) -> bool:
    """Whether the dimensions that are not rotary count in the score."""
    return not isinstance(treatment, OnlyRotated)
