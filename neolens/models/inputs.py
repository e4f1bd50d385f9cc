"""What may be given to a hooked model itself: texts, tokens of its vocabulary, or a residual stream.

Hugging Face looks tokens up without a check, so one outside the vocabulary ends in an IndexError of torch, or on a GPU
in an assertion that takes the whole process with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from neolens.checks import check_choice, check_list, check_number, check_tokens, check_type, check_whole, shown
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


RETURN_TYPES = ("logits", "loss", "both", "predictions", "logits_and_cache")


def check_options(options: Mapping[str, Any], anatomy: Anatomy) -> None:
    """Check the keyword arguments of a forward pass.

    Raises:
        TypeError: an argument of another type.
        ValueError: an unknown `return_type`, a layer that does not exist, or positions that were not learned.
    """
    if options.get("return_type") is not None:
        check_choice(options["return_type"], "return_type", RETURN_TYPES)
    for name in ("start_at_layer", "stop_at_layer"):
        if options.get(name) is not None:
            check_whole(options[name], name, -anatomy.layers, anatomy.layers)
    for name in ("attention_mask", "position_ids"):
        if options.get(name) is not None:
            check_type(options[name], name, Tensor, "a tensor [prompt, pos]")
    if (mask := options.get("attention_mask")) is not None and mask.ndim not in (2, 4):
        raise ValueError(
            f"attention_mask of shape {tuple(mask.shape)}: expected [prompt, pos], 1 where a token is read"
        )
    if (positions := options.get("position_ids")) is not None:
        learned = anatomy.position.kind == "absolute" and anatomy.position.treatment is None
        check_positions(positions, anatomy.context if learned else None, anatomy.name)


def check_positions(positions: Tensor, context: int | None, name: str) -> None:
    """Check position indices, `context` of which were learned.

    Raises:
        TypeError: not whole numbers.
        ValueError: one that was not learned.
    """
    if positions.dtype not in (torch.int64, torch.int32):
        raise TypeError(f"position_ids {shown(positions)}: expected an integer tensor [prompt, pos]")
    if context is not None and positions.numel() and not 0 <= int(positions.min()) <= int(positions.max()) < context:
        low, high = int(positions.min()), int(positions.max())
        raise ValueError(f"position_ids from {low} to {high}: {name} learned positions 0 to {context - 1}")


def check_sampling(options: Mapping[str, Any]) -> None:
    """Check the keyword arguments with which tokens are drawn.

    Raises:
        TypeError: not numbers.
        ValueError: outside what a distribution can be cut to.
    """
    if options.get("top_k") is not None:
        check_whole(options["top_k"], "top_k", 1, unit="tokens")
    if options.get("top_p") is not None:
        check_number(options["top_p"], "top_p", above=0, most=1)
    if "temperature" in options:
        check_number(options["temperature"], "temperature", 0)


def check_hooks(hooks: Any, what: str) -> list[tuple[Any, Any]]:
    """Hooks as pairs of a name, or a filter of names, and a function.

    Raises:
        TypeError: something else.
    """
    example = "[('blocks.0.attn.hook_z', function)]"
    pairs = check_list(hooks, what, "pairs (name, function)", example=example)
    for pair in pairs:
        whole = isinstance(pair, tuple | list) and len(pair) == 2
        if not whole or (not isinstance(pair[0], str) and not callable(pair[0])) or not callable(pair[1]):
            raise TypeError(f"{what} holds {shown(pair)}: expected a pair (name, function), such as {example[1:-1]}")
    return pairs
