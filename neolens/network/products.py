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


def apply(
    linear: Linear, x: Float[Tensor, "*rows d_in"], activation: str | None = None
) -> Float[Tensor, "*rows d_out"]:
    """x W^T + b, and the activation of that."""
    weight, rows = linear.weight, x.shape[:-1].numel()
    dense = weight.is_contiguous() or weight.T.is_contiguous()
    if _fits(weight, x, rows) and (dense or rows >= _WORTH_A_COPY):
        of, how = _FUSED[activation]
        weight = weight if dense else weight.contiguous()
        return torch.ops.mkldnn._linear_pointwise(x, weight, linear.bias, of, [], how)
    y = F.linear(x, weight, linear.bias)
    return y if activation is None else ACTIVATIONS[activation](y)


def _fits(weight: Tensor, x: Tensor, rows: int) -> bool:
    """Whether oneDNN's product can take this one and is worth its call."""
    return (
        x.dtype == weight.dtype == torch.float32
        and x.device.type == "cpu"
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
