"""The options of a hooked model's own methods, each checked by its name; an unknown one is refused with the nearest.

TransformerLens hands options that it does not know to Hugging Face, which ignores them: `retrun_type="loss"` would give
logits, without a word.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge
from transformer_lens.utilities import Slice
from transformers import StoppingCriteria

from neolens.checks import (
    check_bool,
    check_choice,
    check_list,
    check_number,
    check_text,
    check_tokens,
    check_type,
    check_whole,
    did_you_mean,
    holds_tokens,
    shown,
)
from neolens.models.anatomy import Anatomy
from neolens.models.treatments import no_position

RETURN_TYPES = ("logits", "loss", "both", "predictions", "logits_and_cache")

_MOST = 1_000_000
"""Of a temperature or a penalty."""

_FORWARD = ("position_ids", "use_cache", "use_past_kv_cache", "output_attentions", "output_hidden_states")
"""Options of a forward pass that TransformerLens hands to Hugging Face, which reads them."""

_FLAGS = (
    *("loss_per_token", "use_cache", "use_past_kv_cache", "output_attentions", "output_hidden_states"),
    *("stop_at_eos", "do_sample", "verbose", "output_logits", "return_cache", "return_input_tokens"),
    *("return_cache_object", "remove_batch_dim", "incl_bwd", "reset_hooks_end", "clear_contexts", "is_permanent"),
)
_NEVER_NONE = ("dir", "temperature", "freq_penalty", "repetition_penalty")
_OTHER_MODELS = ("pixel_values", "input_values", "forced_bos_token_id")


def check_call(method: str, args: Sequence[Any], options: Mapping[str, Any], anatomy: Anatomy, value: Any) -> None:
    """Check the options of a call of `forward`, `run_with_hooks`, `run_with_cache`, `hooks` or `generate`.

    Args:
        args: those that are given by position, the input left out.
        value: the input.

    Raises:
        TypeError: an unknown option, or one of another type.
        ValueError: an option that this model or input cannot be run with.
    """
    if not args and not options:
        return
    names = _names(method)
    given = dict(zip(names, args)) | dict(options)
    for name, option in given.items():
        if name not in names:
            own = [other for other in names if other not in _OTHER_MODELS]
            remedy = did_you_mean(name, own) or f"expected one of {', '.join(own[:8])}, ..."
            raise TypeError(f"no argument {shown(name)} of {method}: {remedy.strip()}")
        if option is not None or name in _FLAGS or name in _NEVER_NONE:
            _check_option(name, option, method, anatomy)
    if given.get("incl_bwd") and (given.get("return_type") != "loss" or given.get("loss_per_token")):
        raise ValueError("incl_bwd=True: expected return_type='loss' with it, one number to go back from")
    start, stop = (given.get(name) for name in ("start_at_layer", "stop_at_layer"))
    if (
        start is not None
        and stop is not None
        and start % anatomy.layers >= (stop if stop >= 0 else stop + anatomy.layers)
    ):
        raise ValueError(f"start_at_layer {start} and stop_at_layer {stop}: expected a layer to run between them")
    if isinstance(value, Tensor) and holds_tokens(value) and given.get("past_key_values") is None:
        _check_shapes(tuple(value.shape) if value.ndim == 2 else (1, *value.shape), given)


@cache
def _names(method: str) -> tuple[str, ...]:
    """The options of a method, in the order in which they are given by position."""
    own = [
        name
        for name, parameter in inspect.signature(getattr(TransformerBridge, method)).parameters.items()
        if name not in ("self", "input") and parameter.kind is not parameter.VAR_KEYWORD
    ]
    if method == "forward":
        return (*own, *_FORWARD)
    more = (*_names("forward"), "device") if method.startswith("run_with") else ()
    return tuple(dict.fromkeys([*own, *more]))


def _check_option(name: str, value: Any, method: str, anatomy: Anatomy) -> None:
    if name in _OTHER_MODELS:
        raise ValueError(f"{name} {shown(value)}: {anatomy.name} reads text alone; leave {name} out")
    if name in _FLAGS or name == "prepend_bos":
        check_bool(value, name)
    elif name == "return_type":
        check_choice(value, name, ("input", "str", "tokens") if method == "generate" else RETURN_TYPES)
    elif name in ("start_at_layer", "stop_at_layer"):
        check_whole(value, name, -anatomy.layers, anatomy.layers)
    elif name in _CHECKS:
        _CHECKS[name](value, name, anatomy)


def _check_mask(value: Any, name: str, anatomy: Anatomy) -> None:
    expected = "expected [prompt, pos], 1 where a token is read and 0 where not"
    check_type(value, name, Tensor, expected.replace("expected ", "a tensor "))
    if value.ndim not in (2, 4) or value.layout is not torch.strided or value.device.type == "meta":
        raise ValueError(f"{name} {shown(value)} of shape {tuple(value.shape)}: {expected}")
    if value.ndim == 2 and not bool(((value == 0) | (value == 1)).all()):
        raise ValueError(f"{name} holds {float(value[(value != 0) & (value != 1)][0]):g}: {expected}")


def _check_position_ids(value: Any, name: str, anatomy: Anatomy) -> None:
    if not isinstance(value, Tensor) or not holds_tokens(value) or value.dtype not in (torch.int64, torch.int32):
        raise TypeError(f"{name} {shown(value)}: expected an integer tensor [prompt, pos]")
    learned = anatomy.position.kind == "absolute" and anatomy.position.treatment is None
    if not value.numel() or not learned:
        return
    low, high = int(value.min()), int(value.max())
    if not 0 <= low <= high < anatomy.context:
        raise ValueError(f"{name} from {low} to {high}: {anatomy.name} learned positions 0 to {anatomy.context - 1}")


def _check_labels(value: Any, name: str, anatomy: Anatomy) -> None:
    expected = "an integer tensor [prompt, pos] of tokens, -100 where none is expected"
    check_type(value, name, Tensor, expected)
    if value.dtype is not torch.int64 or not holds_tokens(value):
        raise TypeError(f"{name} {shown(value)}: expected {expected}")
    check_tokens(value.masked_fill(value == -100, 0), name, "[prompt, pos]", anatomy.d_vocab, anatomy.name)


def _check_past(value: Any, name: str, anatomy: Anatomy) -> None:
    if not hasattr(value, "get_seq_length") or isinstance(value, type):
        raise TypeError(f"{name} {shown(value)}: expected the cache that return_type='logits_and_cache' returns")


def _check_device(value: Any, name: str, anatomy: Anatomy) -> None:
    try:
        torch.device(check_type(value, name, (str, torch.device), "a torch device, such as 'cpu'"))
    except RuntimeError:
        raise ValueError(f"no {name} {shown(value)}: expected a torch device, such as 'cpu' or 'cuda'") from None


def _check_end(value: Any, name: str, anatomy: Anatomy) -> None:
    several = value if isinstance(value, list | tuple) and value else [value]
    for token in several:
        check_whole(token, name, 0, anatomy.d_vocab - 1, remedy=f"the tokens of {anatomy.name}")


def _check_stop_strings(value: Any, name: str, anatomy: Anatomy) -> None:
    several = [value] if isinstance(value, str) else check_list(value, name, "strings", example="['.']")
    if not several:
        raise ValueError(f"{name} {shown(value)}: expected at least one string")
    for text in several:
        if not check_text(text, name, empty=True):
            raise ValueError(f"{name} {shown(value)}: expected strings that are not empty")


def _check_criteria(value: Any, name: str, anatomy: Anatomy) -> None:
    for one in value if isinstance(value, list | tuple) else [value]:
        check_type(one, name, StoppingCriteria, "a transformers.StoppingCriteria, or a list of some")


def _check_pos_slice(value: Any, name: str, anatomy: Anatomy) -> None:
    expected = "a position, a slice or a list of positions"
    if isinstance(value, slice | tuple):
        ends = [value.start, value.stop, value.step] if isinstance(value, slice) else value
        if not 0 < len(ends) <= 3:
            raise ValueError(f"{name} {shown(value)}: expected {expected}")
        for end in ends:
            if end is not None:
                check_whole(end, name, remedy=expected)
    elif not isinstance(value, Slice):
        single = hasattr(value, "__index__") and not getattr(value, "ndim", 0)
        if not single and not len(check_type(value, name, (list, Tensor, np.ndarray), expected)):
            raise ValueError(f"{name} {shown(value)}: expected {expected}, at least one")
        for place in [value] if single else check_list(value, name, "positions", example="[0, 1]"):
            check_whole(place, name, -2 * anatomy.context, 2 * anatomy.context)


_CHECKS: Mapping[str, Callable[[Any, str, Anatomy], Any]] = {
    "attention_mask": _check_mask,
    "position_ids": _check_position_ids,
    "labels": _check_labels,
    "past_key_values": _check_past,
    "padding_side": lambda value, name, _: check_choice(value, name, ("left", "right")),
    "device": _check_device,
    "pos_slice": _check_pos_slice,
    "top_k": lambda value, name, _: check_whole(value, name, 1, unit="tokens"),
    "top_p": lambda value, name, _: check_number(value, name, above=0, most=1),
    "temperature": lambda value, name, _: check_number(value, name, 0, _MOST),
    "freq_penalty": lambda value, name, _: check_number(value, name, 0, _MOST),
    "repetition_penalty": lambda value, name, _: check_number(value, name, above=0, most=_MOST),
    "dir": lambda value, name, _: check_choice(value, name, ("fwd", "bwd")),
    "eos_token_id": _check_end,
    "stop_strings": _check_stop_strings,
    "stopping_criteria": _check_criteria,
}


def _check_shapes(shape: tuple[int, ...], given: Mapping[str, Any]) -> None:
    """Check that what is given by position has one entry for each token."""
    for name in ("attention_mask", "position_ids", "labels"):
        its = given.get(name)
        if its is not None and its.ndim != 4:
            fits = its.ndim <= 2 and its.shape[-1:] == shape[-1:] and its.numel() in (shape[1], shape[0] * shape[1])
            if not fits or (name != "position_ids" and its.numel() != shape[0] * shape[1]):
                raise ValueError(f"{name} of shape {tuple(its.shape)}: expected that of the tokens, {shape}")
    of_loss = given.get("return_type") in ("loss", "both") and not given.get("loss_per_token")
    if of_loss and shape[-1] < 2:
        raise ValueError(f"return_type {given['return_type']!r} of {shape[-1]} token: a loss needs at least 2 tokens")


def check_room(new_tokens: Any, length: int, anatomy: Anatomy) -> int:
    """The number of tokens to generate, if a model with learned positions has one for each of them.

    Raises:
        TypeError: not an integer.
        ValueError: none, or too many.
    """
    wanted, most = check_whole(new_tokens, "max_new_tokens", 1), anatomy.context - length + 1
    if anatomy.position.kind == "absolute" and wanted > most:
        treatment, given = anatomy.position.treatment, f"max_new_tokens {shown(wanted)} after {length} tokens"
        if treatment is not None:
            reason = no_position(treatment, anatomy.context, anatomy.context)
            raise ValueError(f"{given}: {reason}; cut the prompt, or generate at most {max(most, 0)} tokens")
        raise ValueError(
            f"{given}: {anatomy.name} has {anatomy.context} positions; expected at most {max(most, 0)}, or a shorter "
            "input"
        )
    return wanted
