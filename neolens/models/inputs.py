"""What may be given to a hooked model itself: texts, tokens of its vocabulary, or a residual stream.

Hugging Face looks tokens up without a check, so one outside the vocabulary ends in an IndexError of torch, or on a GPU
in an assertion that takes the whole process with it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from neolens.checks import check_tokens, shown
from neolens.models.facts import Anatomy


def check_input(value: Any, anatomy: Anatomy) -> None:
    """Check the input of a forward pass.

    Raises:
        TypeError: neither text, tokens nor embeddings.
        ValueError: no text, no token, one outside the vocabulary, or more than a model with learned positions has.
    """
    expected = "expected a text, a list of texts or an integer tensor [prompt, pos]"
    if isinstance(value, str):
        return
    if isinstance(value, list):
        if not value or not all(isinstance(text, str) for text in value):
            raise TypeError(f"input {shown(value)}: {expected}; for tokens use torch.tensor")
        return
    if not isinstance(value, Tensor):
        raise TypeError(f"input {shown(value)}: {expected}")
    if value.is_floating_point():
        if value.ndim != 3 or value.shape[-1] != anatomy.d_model or not value.numel():
            raise TypeError(f"input {shown(value)}: {expected}, or embeddings [prompt, pos, {anatomy.d_model}]")
        return
    if value.dtype not in (torch.int64, torch.int32):
        raise TypeError(f"input {shown(value)}: {expected} of int64 or int32")
    check_tokens(value, "input", "[pos]" if value.ndim == 1 else "[prompt, pos]", anatomy.d_vocab, anatomy.name)
    absolute = anatomy.position.kind == "absolute" and anatomy.position.treatment is None
    if absolute and value.shape[-1] > anatomy.context:
        raise ValueError(
            f"input of {value.shape[-1]} tokens: {anatomy.name} has {anatomy.context} positions; cut it, for example "
            "with neolens.prompts.token_chunks"
        )
