"""Torch's ambient state, which is not a model's and must not change what is loaded or measured."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch


@contextmanager
def plain_torch() -> Iterator[None]:
    """Torch without autocast and with the CPU as the default device, whatever is set outside.

    Raises:
        ValueError: another default dtype than float32. It is one for all threads, so it cannot be set aside here.
    """
    if torch.get_default_dtype() != torch.float32:
        name = str(torch.get_default_dtype()).removeprefix("torch.")
        raise ValueError(
            f"torch's default dtype is {name}, to which parts of a computation would be rounded: call "
            "torch.set_default_dtype(torch.float32), and give the dtype of the weights to neolens.load(..., dtype=...)"
        )
    with ExitStack() as stack:
        for device in ("cpu", "cuda"):
            if torch.is_autocast_enabled(device):
                stack.enter_context(torch.autocast(device, enabled=False))
        if torch.get_default_device().type != "cpu":
            stack.enter_context(torch.device("cpu"))
        yield
