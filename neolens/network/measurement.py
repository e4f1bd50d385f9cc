"""What every instrument has in common: `measurement` runs it on the loaded model as it is, or refuses.

Torch's ambient state (autocast, default dtype and device, gradients) is not the model's, so it must not change a
result. Dropout would make it random; another thread within `what_if` would change it half way. In half precision
scores can overflow, so a run whose logits are not finite is refused, and each result says how far it is from float32.
"""

from __future__ import annotations

import copy
import functools
import inspect
import json
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ParamSpec, TypeVar

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from neolens.checks import check_bool, did_you_mean
from neolens.models.ambient import plain_torch
from neolens.models.state import state_of
from neolens.network.agreement import check_unchanged
from neolens.network.weights import check_model, dtype_of

P = ParamSpec("P")
R = TypeVar("R")

Arguments = dict[str, Any]
Narrow = Callable[[Arguments], Arguments]
"""The arguments of a call -> those of a smaller one, whose result is a part of the whole one's."""

_SAMPLE = 4
"""Prompts that are measured again in float32."""

_PROMPTS = ("tokens", "pairs", "prompts", "prompt")
"""What instruments call the prompts that they run."""

_TOKENS_AT_ONCE = 2048

_HALF = (torch.float16, torch.bfloat16)

_MEASURING = object()
"""What marks a hold on a model as that of an instrument."""


def measurement(
    *, narrow: Narrow = dict, error: bool = True, exclusive: bool = False
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """A decorator of instruments, functions whose first argument is the model. It checks the model and every argument
    that is annotated as a bool.

    An argument `engine="hooks"` says that the model itself is run, with whatever is on it; else the pure pass is, and a
    model with hooks is refused.

    Args:
        narrow: which part of a measurement in half precision is made again in float32; by default all of it.
        error: whether the result is a dataset whose attribute `error` is to give its distance from float32.
        exclusive: whether the instrument changes the model for a while, so that no other thread may use it.
    """

    def decorate(instrument: Callable[P, R]) -> Callable[P, R]:
        signature = inspect.signature(instrument)
        flags = [name for name, parameter in signature.parameters.items() if parameter.annotation in ("bool", bool)]
        expected = "a TransformerBridge, such as a model from neolens.load" if "engine" in signature.parameters else ""

        @functools.wraps(instrument)
        def measured(*args: P.args, **kwargs: P.kwargs) -> R:
            arguments = _bound(instrument.__name__, signature, args, kwargs)
            model = next(iter(arguments.values()))
            check_model(model, expected=expected or "a model from neolens.load")
            for name in {*flags} & {*arguments}:
                check_bool(arguments[name], name)
            by_model = (isinstance(engine := arguments.get("engine"), str) and engine == "hooks") or state_of(
                model
            ).built is None
            outer = _outermost(model)
            use = state_of(model).hold(instrument.__name__, exclusive=exclusive or by_model, value=_MEASURING)
            with torch.no_grad(), plain_torch(), use:  # left first, in one step
                if outer:
                    hooks = ", or take engine='hooks'" if "engine" in signature.parameters else ""
                    check_unchanged(model, by_model=by_model, otherwise=hooks)
                prompts = [arguments[name] for name in _PROMPTS if name in arguments]
                if dtype_of(model) not in _HALF:
                    return instrument(*args, **kwargs)
                with _explaining_overflow(model, prompts):
                    result = instrument(*args, **kwargs)
                check_finite(model, *prompts)
                if error and outer:
                    result = _with_error(model, instrument, result, narrow(arguments))
            return result

        return measured

    return decorate


def _bound(name: str, signature: inspect.Signature, args: Any, kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a call by name, after a check that the instrument has them."""
    names = [parameter for parameter in signature.parameters if parameter != "model"]
    if unknown := [argument for argument in kwargs if argument not in signature.parameters]:
        hint = did_you_mean(unknown[0], names)
        raise TypeError(f"{name} has no argument {unknown[0]!r}: {hint}it has {', '.join(names)}")
    try:
        return signature.bind(*args, **kwargs).arguments
    except TypeError as wrong:
        raise TypeError(f"{name}: {wrong}; its arguments are {', '.join(names)}") from None


def few_prompts(arguments: Arguments) -> Arguments:
    """The first prompts of a call where all have one length; where lengths differ, so may the scores that apply."""
    tokens = arguments["tokens"]
    return arguments | {"tokens": tokens[:_SAMPLE]} if isinstance(tokens, Tensor) else arguments


def _outermost(model: Any) -> bool:
    """Whether no other instrument of this thread uses the model."""
    mine = threading.get_ident()
    return not any(hold.value is _MEASURING and hold.thread == mine for hold in state_of(model).holds())


class NotFiniteError(ValueError):
    """A run of the model whose logits are not finite."""


@contextmanager
def _explaining_overflow(model: Any, prompts: Iterable[Any]) -> Iterator[None]:
    """Where an instrument is refused because of logits that are not finite, say so, and not what came of them."""
    try:
        yield
    except ValueError as error:
        try:
            check_finite(model, *prompts)
        except NotFiniteError as reason:
            raise reason from error
        except Exception:  # prompts that cannot be run
            raise error from None
        raise


def check_finite(model: Any, *prompts: Any) -> None:
    """Check that the model's own logits on some prompts are finite.

    Raises:
        ValueError: they are not, for example because attention scores overflow in float16.
    """
    rows = [row for given in prompts for row in _rows(given)]
    for length in {len(row) for row in rows}:
        alike = torch.stack([row for row in rows if len(row) == length]).to(next(model.parameters()).device)
        for batch in alike.split(max(1, _TOKENS_AT_ONCE // length)):
            if not torch.isfinite(model(batch)).all():
                dtype = str(dtype_of(model)).removeprefix("torch.")
                raise NotFiniteError(
                    f"the model's logits are not finite on prompts of {length} tokens in {dtype}: attention scores or "
                    "activations overflow; load the model with dtype='float32' or 'bfloat16'"
                )


def _rows(prompts: Any) -> Iterable[Tensor]:
    """The prompts of an argument one by one: both runs of pairs, the rows of a tensor, a list; none of a text."""
    if prompts is None or isinstance(prompts, str):
        return []
    if hasattr(prompts, "corrupted"):
        return [*prompts.clean, *prompts.corrupted]
    return [prompts] if isinstance(prompts, Tensor) and prompts.ndim == 1 else list(prompts)


def _with_error(model: Any, instrument: Callable[..., Any], result: Any, arguments: Mapping[str, Any]) -> Any:
    """The result, with the largest difference of each variable from the same in float32 as its attribute `error`."""
    state = state_of(model)
    if state.built is None:  # a model that neolens did not load may not be copied
        return result
    _, *others = arguments
    twin, anatomy = in_float32(model), model.anatomy
    quiet = {"progress": False} if "progress" in inspect.signature(instrument).parameters else {}
    with warnings.catch_warnings(), state_of(twin).hold("what_if", exclusive=True, change=lambda _: anatomy):
        warnings.simplefilter("ignore")
        exact = instrument(twin, **{name: arguments[name] for name in others} | quiet)
    differences = largest_differences(result, exact)
    cells = max((exact[name].size for name in differences), default=0)
    return result.assign_attrs(error=json.dumps(differences), error_cells=cells)


def in_float32(model: Any) -> Any:
    """A copy of a model with the same weights in float32; the tokenizer is shared."""
    tokenizer = getattr(model, "tokenizer", None)
    return copy.deepcopy(model, {} if tokenizer is None else {id(tokenizer): tokenizer}).float()


def largest_differences(result: xr.Dataset, exact: xr.Dataset) -> dict[str, float]:
    """Variable -> the largest difference of a cell that both results have, in the variable's unit; equal infinities
    and cells that are undefined in both do not differ."""
    differences = {}
    for name in map(str, set(result.data_vars) & set(exact.data_vars)):
        if result[name].dtype.kind == "f":
            own, other = xr.align(result[name], exact[name], join="inner")
            difference = np.abs(own.values.astype(float) - other.values.astype(float))
            difference[(own.values == other.values) | (np.isnan(own.values) & np.isnan(other.values))] = 0.0
            differences[name] = float(np.max(difference, initial=0.0))
    return dict(sorted(differences.items()))
