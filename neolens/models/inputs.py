"""What may be given to a hooked model itself: texts, tokens of its vocabulary, or a residual stream.

Hugging Face looks tokens up without a check, so one outside the vocabulary ends in an IndexError of torch, or on a GPU
in an assertion that takes the whole process with it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from neolens.checks import check_function, check_list, check_tokens, shown
from neolens.models.anatomy import Anatomy


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
        check_name(pair[0])
        check_hook(pair[1])
    return pairs


def check_hook(hook: Any) -> Any:
    """A function that can be run at a hook point.

    Raises:
        TypeError: something else.
    """
    return check_function(hook, "hook", "a function (activation, hook)", hook=None)


def check_name(name: Any, what: str = "name") -> Any:
    """The name of a hook point, or a filter of names.

    Raises:
        TypeError: something else.
    """
    if isinstance(name, str):
        return name
    return check_function(name, what, "the name of a hook point, one of model.hook_dict, or a function of it")


def names_listed(names: Any) -> list[Any]:
    """The names of a filter, or the one function that it is.

    Raises:
        TypeError: neither names nor a function.
    """
    if isinstance(names, str) or callable(names):
        return [check_name(names, "names_filter")]
    expected = "a name, a list of names or a function of one"
    if not isinstance(names, list | tuple | set | frozenset) or not all(isinstance(name, str) for name in names):
        raise TypeError(f"names_filter {shown(names)}: expected {expected}, such as 'blocks.0.hook_resid_pre'")
    return list(names)


def residual_or_input(value: Any, start_at_layer: Any, anatomy: Anatomy, dtype: torch.dtype) -> None:
    """Check the input of a forward pass from a layer on, which is a residual stream, or from the first, which is not.

    Raises:
        TypeError, ValueError: what `check_input` says; no residual stream of this model.
    """
    if start_at_layer is None:
        return check_input(value, anatomy)
    expected = f"with start_at_layer a residual stream [prompt, pos, {anatomy.d_model}] of {dtype}".replace(
        "torch.", ""
    )
    if not isinstance(value, Tensor):
        raise TypeError(f"input {shown(value)}: expected {expected}")
    if value.ndim != 3 or value.shape[-1] != anatomy.d_model or not value.numel() or value.dtype != dtype:
        raise ValueError(f"input {shown(value)}: expected {expected}")
    return None
