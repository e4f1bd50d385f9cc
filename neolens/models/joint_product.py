"""The joint product of q, k and v, where its rounding depends on how many columns it has.

TransformerLens splits the matrix of GPT-2 and GPT-NeoX into three; Hugging Face multiplies by the whole. A processor's
kernel is chosen by the shape, so for some shapes the split gives other last bits.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

_NARROW = 16
"""Widths up to which products of q, k and v alone may round differently from the joint one; in float32, those up to 10
and single rows of any have been seen to."""


class JointProduct:
    """q, k and v as slices of one product, as in Hugging Face, where a product a third as wide rounds differently: of
    narrow models, and of a single row. In half precision other shapes differ too, and the parts are multiplied alone.

    The weights are those of `attn.q`, `attn.k` and `attn.v`, stacked at each call.
    """

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        x = self._apply_attention_input_hook(*args, **kwargs)  # type: ignore[attr-defined]
        linears = (self.q, self.k, self.v)  # type: ignore[attr-defined]
        if self._is_split_qkv_fork_active():  # type: ignore[attr-defined]
            parts = self._split_forward_qkv(x)  # type: ignore[attr-defined]
        elif _rounds_by_width(x) and all(map(_is_plain, linears)):
            parts = self._slices(x, linears)
        else:
            parts = tuple(linear(x) for linear in linears)
        return self._process_output(self._reconstruct_attention(*parts, **kwargs))  # type: ignore[attr-defined]

    def _slices(self, x: Tensor, linears: tuple[Any, ...]) -> Iterator[Tensor]:
        """Of the product with the input of each part, which its hooks may have changed."""
        weights, biases = zip(*((each.original_component.weight, each.original_component.bias) for each in linears))
        bias = None if biases[0] is None else torch.cat(biases)
        inputs = [linear.hook_in(x) for linear in linears]
        products = {id(each): self._product(each, weights, bias).chunk(3, dim=-1) for each in inputs}
        for place, (linear, each) in enumerate(zip(linears, inputs)):
            yield linear.hook_out(products[id(each)][place].clone())  # which a hook may edit in place

    def _product(self, x: Tensor, weights: tuple[Tensor, ...], bias: Tensor | None) -> Tensor:
        return nn.functional.linear(x, stacked(weights, 0), bias)


def _rounds_by_width(x: Tensor) -> bool:
    return x.dtype.itemsize > 2 and (x.shape[-1] <= _NARROW or x.shape[:-1].numel() == 1)


def _is_plain(linear: Any) -> bool:
    """Whether a part is its weight and bias alone, and no torch hook has to be run with it."""
    module = linear.original_component
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks", "forward")
    return type(module) is nn.Linear and not any(vars(each).get(name) for each in (linear, module) for name in hooks)


def store_side_by_side(linears: tuple[Any, ...]) -> None:
    """Make the weights of linear maps neighbours in one storage, so that `stacked` need not copy them."""
    modules = [linear.original_component for linear in linears]
    joint = torch.cat([module.weight.detach() for module in modules])
    for module, weight in zip(modules, joint.chunk(len(modules))):
        module.weight = nn.Parameter(weight, requires_grad=module.weight.requires_grad)


def stacked(parts: tuple[Tensor, ...], dim: int) -> Tensor:
    """`torch.cat`, without a copy where the parts are neighbours in one storage and no gradient is wanted."""
    first, step = parts[0], parts[0].shape[dim] * parts[0].stride(dim)
    starts = [first.storage_offset() + place * step for place in range(len(parts))]
    if (
        torch.is_grad_enabled()
        or len({(part.untyped_storage().data_ptr(), part.shape, part.stride()) for part in parts}) > 1
        or [part.storage_offset() for part in parts] != starts
    ):
        return torch.cat(parts, dim)
    size = [length * (len(parts) if axis == dim else 1) for axis, length in enumerate(first.shape)]
    return first.as_strided(size, first.stride())


class SplitProjection(nn.Module):
    """The joint projection of q, k and v after it was split: it has no parameters, since an edit of them would do
    nothing (a cast of the model, and in Pythia the split itself, copies the parts)."""

    def __getattr__(self, name: str) -> Any:
        if name in ("weight", "bias"):
            raise AttributeError(f"the joint projection was split: use the {name} of attn.q, attn.k and attn.v")
        return super().__getattr__(name)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("the joint projection was split: call attn.q, attn.k and attn.v")


def without_parameters(joint: nn.Module) -> None:
    """Turn a joint projection into a `SplitProjection`, wherever it is referred to."""
    joint._parameters.clear()
    joint.__class__ = SplitProjection
