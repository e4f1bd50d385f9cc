"""Checks of tensors, without importing torch: that they hold numbers in memory, of a kind and with axes."""

from __future__ import annotations

from typing import Any

from neolens.checks.values import shown

_TOKEN_DTYPES = ("torch.int64", "torch.int32", "torch.int16", "torch.int8", "torch.uint8")


def holds_tokens(value: Any) -> bool:
    """Whether a tensor holds integers, in memory and not sparse."""
    dtype, layout, device = (str(getattr(value, name, "")) for name in ("dtype", "layout", "device"))
    return dtype in _TOKEN_DTYPES and layout == "torch.strided" and device != "meta"


def check_tokens(value: Any, what: str, axes: str, d_vocab: int | None = None, of: str = "") -> Any:
    """A tensor of tokens, as it is: whole numbers with these axes, at least one, all of them in the vocabulary.

    >>> check_tokens("Mary", "prompt", "[pos]")
    Traceback (most recent call last):
    TypeError: prompt 'Mary': expected an integer tensor [pos] in memory; tokenize text first

    Args:
        axes: such as "[prompt, pos]".
        d_vocab: the size of the vocabulary; None where it is not known.
        of: the model that has it.

    Raises:
        TypeError: no tensor of integers.
        ValueError: another number of axes, no token, or one outside the vocabulary.
    """
    expected = f"expected an integer tensor {axes}"
    if not holds_tokens(value):
        raise TypeError(f"{what} {shown(value)}: {expected} in memory; tokenize text first")
    if value.ndim != axes.count(",") + 1 or not value.numel():
        raise ValueError(f"{what} of shape {tuple(value.shape)}: {expected}, with at least one token")
    if d_vocab is not None:
        low, high = (int(end) for end in value.aminmax())
        if low < 0 or high >= d_vocab:
            raise ValueError(
                f"{what} holds token {low if low < 0 else high}: {of or 'the vocabulary'} has 0 to {d_vocab - 1}; "
                "tokenize with the model's own tokenizer"
            )
    return value


_FLOAT_DTYPES = ("torch.float16", "torch.bfloat16", "torch.float32", "torch.float64")


def check_floats(value: Any, what: str, axes: str) -> Any:
    """A tensor of floats, as it is, with these axes and at least one number.

    >>> check_floats(3, "logits", "[run, pos, column]")
    Traceback (most recent call last):
    TypeError: logits 3: expected a tensor of floats [run, pos, column]

    Raises:
        TypeError: no tensor of real floats in memory.
        ValueError: another number of axes, or an empty one.
    """
    dtype, layout, device = (str(getattr(value, name, "")) for name in ("dtype", "layout", "device"))
    if dtype not in _FLOAT_DTYPES or layout != "torch.strided" or device == "meta":
        raise TypeError(f"{what} {shown(value)}: expected a tensor of floats {axes}")
    if value.ndim != axes.count(",") + 1 or not value.numel():
        raise ValueError(f"{what} of shape {tuple(value.shape)}: expected {axes}, at least one of each")
    return value
