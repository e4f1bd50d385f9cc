"""What a text is coloured by, read from a result or from numbers: tokens, names of the choices, units, values.

A result brings its tokens, the length of its prompt, what was chosen of it and what can still be chosen; a plain
tensor brings numbers alone, and its words come with it.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import torch
import xarray as xr
from jaxtyping import Float

from neolens.checks import check_number, shown
from neolens.figures.style import unit as unit_of
from neolens.results import AXES
from neolens.views.words import check_words, prompt_tokens, token_strings

_POSITIONS = ("pos", "query_pos", "key_pos")


@dataclass(frozen=True)
class Values:
    """One row of values for each choice; choices of one metric are drawn on one scale."""

    words: list[str]
    positions: list[int]
    values: Float[np.ndarray, "choice pos"]
    names: list[str]
    metrics: list[str]
    units: list[str]
    title: str
    variable: str


def read(values: Any, words: Any, model: Any, *, title: str, unit: str) -> Values:
    """The values with all that belongs to them.

    Raises:
        TypeError: a dataset, or words that are none.
        ValueError: several prompts, no axis of positions, tokens that are missing or do not fit, or infinity.
    """
    array = _one_prompt(values) if isinstance(values, xr.DataArray) else _of_numbers(values)
    others = [str(dim) for dim in array.dims[:-1]]
    picked = [dict(zip(others, at, strict=True)) for at in product(*(array[dim].values.tolist() for dim in others))]
    rows = array.values.reshape(len(picked), -1).astype(np.float64)
    given = _words(array, words, model)
    if len(given) != rows.shape[1]:
        raise ValueError(f"{len(given)} tokens do not fit values at {rows.shape[1]} positions: give a token for each")
    if np.isinf(rows).any():
        at = int(np.isinf(rows).nonzero()[1][0])
        raise ValueError(f"the value at position {at} is infinite: expected numbers, or NaN where there is none")
    chosen = array.coords["metric"].item() if "metric" in array.coords and not array["metric"].ndim else ""
    metrics = [str(at.get("metric", chosen)) for at in picked]
    stated = str(array.attrs.get("units", ""))
    units = [unit or stated or (unit_of(metric) if metric else "") for metric in metrics]
    names = [_name(array, at) for at in picked]
    return Values(
        given, _positions(array), rows, names, metrics, units, title or _title(array), str(array.name or "value")
    )


def _one_prompt(values: xr.DataArray) -> xr.DataArray:
    """The values of the one prompt as far as it is long, positions last."""
    if values.dtype.kind not in "biuf":
        raise TypeError(f"values of type {values.dtype}: expected real numbers")
    along = [dim for dim in values.dims if dim in _POSITIONS]
    if len(along) != 1:
        axes = ", ".join(map(str, values.dims)) or "none"
        raise ValueError(f"values by {axes}: expected one axis of positions, such as pos, besides those to choose from")
    if values.sizes.get("prompt", 1) != 1:
        raise ValueError(f"values of {values.sizes['prompt']} prompts: choose one, such as values.isel(prompt=0)")
    values = values.squeeze("prompt") if "prompt" in values.dims else values
    if not values.size:
        raise ValueError("no values to show: expected at least one token")
    if "length" in values.coords and values["length"].ndim == 0 and values[along[0]].dtype.kind == "i":
        length = check_number(values["length"].item(), "coordinate length of values", 1)
        values = values.isel({along[0]: np.flatnonzero(values[along[0]].values < length)})
    if "window" in values.coords and values["window"].dtype.kind not in "biuf":
        raise TypeError(f"coordinate window of values of type {values['window'].dtype}: expected numbers")
    return values.transpose(..., along[0])


def _of_numbers(values: Any) -> xr.DataArray:
    """A tensor [..., pos] as an array whose further axes have no names."""
    if isinstance(values, xr.Dataset):
        raise TypeError(f"a whole dataset: choose one of its variables, {', '.join(map(str, values))}")
    if isinstance(values, torch.Tensor) and values.is_complex():
        raise TypeError("complex values: expected real numbers, such as their absolute values")
    try:
        values = values.detach().float().cpu().numpy() if isinstance(values, torch.Tensor) else values
        numbers = np.asarray(None if isinstance(values, str | bytes | Mapping | Set) else values)
    except (TypeError, ValueError, RuntimeError, NotImplementedError):  # of ragged lists, of tensors without data
        numbers = np.array(None)
    if numbers.dtype.kind not in "biuf":
        raise TypeError(f"values {shown(values)}: expected an array of a result, or numbers, one for each token")
    numbers = numbers.astype(float)
    if not numbers.ndim or not numbers.size:
        raise ValueError(f"values of shape {numbers.shape}: expected one number for each token, positions last")
    rows = ["row"] if numbers.ndim == 2 else [f"axis {at}:" for at in range(numbers.ndim - 1)]
    return xr.DataArray(numbers, dims=[*rows, "pos"])


def _words(array: xr.DataArray, words: Any, model: Any) -> list[str]:
    """The strings of the tokens, from where they are known."""
    if words is None:
        if "token" not in array.coords or array["token"].ndim != 1:
            raise ValueError("the values do not bring their tokens: give words, or the tokens or the text with model")
        return [str(word) for word in array["token"].values]
    if isinstance(words, str):
        if model is None:
            raise ValueError("a text is read by a model's tokenizer: give model, or the tokens as a list of strings")
        return token_strings(model, prompt_tokens(model, words))
    if isinstance(words, torch.Tensor):
        return token_strings(model, prompt_tokens(model, words))
    return check_words(words, "words")


def _positions(array: xr.DataArray) -> list[int]:
    """The positions in the prompt, also where only some of it was chosen."""
    along = array[array.dims[-1]]
    return along.values.tolist() if along.dtype.kind == "i" else list(range(len(along)))


def _name(array: xr.DataArray, at: Mapping[str, Any]) -> str:
    """What a choice is called: a head as `1.3 local 16`, else the values of its axes."""
    left = dict(at)
    parts = []
    if "layer" in left:
        one = array.sel(layer=left["layer"])
        head = f".{left.pop('head')}" if "head" in left else ""
        parts.append(f"{left.pop('layer')}{head}" if head else f"layer {left.pop('layer')}")
        parts += [str(one[name].item()) for name in ("attention_kind",) if name in one.coords]
        if "window" in one.coords and np.isfinite(one["window"].item()):
            parts.append(f"{one['window'].item():.0f}")
    parts += [value if isinstance(value, str) else f"{name} {value}" for name, value in left.items()]
    return " ".join(parts)


def _title(array: xr.DataArray) -> str:
    """The variable, and what was chosen of it."""
    scalars = {str(name): array.coords[name].item() for name in array.coords if not array.coords[name].ndim}
    chosen = [f"{name} {scalars[name]}" for name in AXES if name in scalars]
    return ", ".join([str(array.name)] * (array.name is not None) + chosen)
