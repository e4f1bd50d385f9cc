"""Linear maps of many rows: nearly all of the arithmetic of a forward pass, so by the fastest product there is.

On a processor with AVX-512 that is oneDNN's, which torch ships and uses in compiled graphs: torch's own compiler writes
`mkldnn._linear_pointwise` for a linear layer and its activation. For GPT-2 small's shapes in fp32 it takes less than
half the time of `torch.nn.functional.linear` on AMD's processors, where MKL holds back. Everywhere else, and wherever a
gradient is wanted, `linear` it is.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from neolens.network.weights import Linear

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu_new": lambda x: F.gelu(x, approximate="tanh"),
    "gelu_pytorch_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "gelu_fast": lambda x: F.gelu(x, approximate="tanh"),
    "gelu": F.gelu,
    "relu": F.relu,
}

_FUSED = {
    None: ("none", ""),
    "gelu_new": ("gelu", "tanh"),
    "gelu_pytorch_tanh": ("gelu", "tanh"),
    "gelu_fast": ("gelu", "tanh"),
    "gelu": ("gelu", "none"),
    "relu": ("relu", ""),
}
"""Activation -> oneDNN's name for it, and how it is computed."""

_WORTH = 2**22
"""Multiplications below which a call's own cost is more than oneDNN saves."""

_WORTH_A_COPY = 128
"""Rows from which on a weight that is a slice of a larger one (GPT-2's q, k and v) is copied: as a slice, oneDNN has
no fast product for it."""

_BLOCKS = (1024, 512, 256, 128, 64, 32, 16)
"""Rows that a product may have. For each number of rows that it has met, up to 1,024 of them, oneDNN keeps about as
much memory as the result takes: so it meets only these, and the last few rows go the other way."""


def blocks(rows: int) -> list[int]:
    """The numbers of rows, largest first, in which `rows` are multiplied."""
    sizes = []
    for size in _BLOCKS:
        sizes += [size] * (rows // size)
        rows %= size
    return [*sizes, rows] if rows else sizes


def apply(
    linear: Linear, x: Float[Tensor, "*rows d_in"], activation: str | None = None
) -> Float[Tensor, "*rows d_out"]:
    """x W^T + b, and the activation of that."""
    weight, rows = linear.weight, x.shape[:-1].numel()
    dense = weight.is_contiguous() or weight.T.is_contiguous()
    if not _fits(weight, x, rows) or (not dense and rows < _WORTH_A_COPY):
        return _plain(linear, x, activation)
    linear = linear if dense else Linear(weight.contiguous(), linear.bias)
    sizes = blocks(rows)
    if len(sizes) == 1:
        return _block(linear, x, activation)
    out = x.new_empty(rows, weight.shape[0])
    for block, into in zip(x.reshape(rows, -1).split(sizes), out.split(sizes), strict=True):
        into.copy_(_block(linear, block, activation))
    return out.view(*x.shape[:-1], weight.shape[0])


def _block(linear: Linear, x: Tensor, activation: str | None) -> Tensor:
    if x.shape[:-1].numel() not in _BLOCKS:
        return _plain(linear, x, activation)
    of, how = _FUSED[activation]
    return torch.ops.mkldnn._linear_pointwise(x, linear.weight, linear.bias, of, [], how)


def _plain(linear: Linear, x: Tensor, activation: str | None) -> Tensor:
    y = F.linear(x, linear.weight, linear.bias)
    if activation is None:
        return y
    return _operation_by_operation(activation)(y) if y.dtype.itemsize == 2 else ACTIVATIONS[activation](y)


@cache
def _operation_by_operation(activation: str) -> Callable[[Tensor], Tensor]:
    """The activation as Hugging Face computes it, which in half precision rounds after every operation."""
    from transformers.activations import ACT2FN

    return ACT2FN[activation]


def _fits(weight: Tensor, x: Tensor, rows: int) -> bool:
    """Whether oneDNN's product can take this one and is worth its call."""
    return (
        x.dtype == weight.dtype == torch.float32
        and x.device.type == "cpu"
        and rows >= _BLOCKS[-1]
        and rows * weight.numel() >= _WORTH
        and not (torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad))
        and _there()
    )


@cache
def _there() -> bool:
    return (
        torch.backends.mkldnn.is_available()
        and torch.backends.cpu.get_cpu_capability() == "AVX512"
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    )
