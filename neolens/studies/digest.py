"""The SHA-256 of prompts, whatever they consist of: results on other prompts are not those of this run."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np
from torch import Tensor


def digest(value: Any) -> str:
    """The SHA-256 of tensors, numbers, text, and what dataclasses, mappings and sequences hold of them.

    Example:
        >>> digest([1, 2]) == digest((1, 2)), digest([1, 2]) == digest([2, 1])
        (True, False)
    """
    found = hashlib.sha256()
    _add(value, found)
    return found.hexdigest()


def _add(value: Any, found: Any) -> None:
    if isinstance(value, Tensor | np.ndarray | np.generic):
        values = np.asarray(value.cpu() if isinstance(value, Tensor) else value)
        found.update(f"{values.dtype.str}{values.shape}".encode() + np.ascontiguousarray(values).tobytes())
    elif is_dataclass(value):
        _add({field.name: getattr(value, field.name) for field in fields(value)}, found)
    elif isinstance(value, Mapping):
        found.update(b"{")
        for name, item in value.items():
            _add([name, item], found)
        found.update(b"}")
    elif isinstance(value, Sequence) and not isinstance(value, str | bytes):
        found.update(b"[")
        for item in value:
            _add(item, found)
        found.update(b"]")
    else:
        found.update(json.dumps(value).encode() + b",")


def source(function: Callable[..., Any]) -> str:
    """The source of a function; of one without a file, such as one typed into a console, its name."""
    try:
        return inspect.getsource(function)
    except (OSError, TypeError):
        return str(getattr(function, "__qualname__", type(function).__name__))
