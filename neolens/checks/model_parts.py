"""Checks of what a model has: layers, heads, and tokens of its vocabulary."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from neolens.checks.lists import check_list
from neolens.checks.values import check_whole, shown

Head = tuple[int, int]


def check_index(value: Any, what: str, count: int, of: str = "") -> int:
    """The number of one of `count` things, from 0.

    >>> check_index(16, "band", 16, "lab/pythia")
    Traceback (most recent call last):
    ValueError: no band 16 in lab/pythia: bands are 0 to 15

    Args:
        what: one of the things.
        of: what has them.

    Raises:
        TypeError: not an integer.
        ValueError: outside 0 to `count` - 1.
    """
    number = check_whole(value, what, remedy=f"{what}s are 0 to {count - 1}")
    if not 0 <= number < count:
        raise ValueError(f"no {what} {shown(number)}{of and f' in {of}'}: {what}s are 0 to {count - 1}")
    return number


def check_indices(value: Any, what: str, count: int, of: str = "") -> list[int]:
    """The numbers of one or several of `count` things, each once and in the order given.

    >>> check_indices(None, "band", 16)
    Traceback (most recent call last):
    TypeError: bands None: expected a list of whole numbers, such as [0, 1]

    Raises:
        TypeError: not integers.
        ValueError: none, or one that does not exist.
    """
    single = hasattr(value, "__index__") and getattr(value, "ndim", 0) == 0
    items = [value] if single else check_list(value, f"{what}s", "whole numbers", example="[0, 1]")
    if not items:
        raise ValueError(f"{what}s {shown(value)}: expected at least one of 0 to {count - 1}")
    return list(dict.fromkeys(check_index(item, what, count, of) for item in items))


def check_layer(value: Any, count: int, of: str = "") -> int:
    """A layer of a model with `count` layers.

    >>> check_layer(4, 4, "lab/gpt-neo")
    Traceback (most recent call last):
    ValueError: no layer 4 in lab/gpt-neo: layers are 0 to 3

    Raises:
        TypeError: not an integer.
        ValueError: no such layer.
    """
    return check_index(value, "layer", count, of)


def check_layers(value: Any, count: int, of: str = "") -> list[int]:
    """One or several layers, each once and in the order given; a single number is accepted in place of a list.

    >>> check_layers([1.5], 4)
    Traceback (most recent call last):
    TypeError: layer 1.5: expected a whole number; layers are 0 to 3

    Raises:
        TypeError: not integers.
        ValueError: none, or one that does not exist.
    """
    return check_indices(value, "layer", count, of)


def check_head(value: Any, layers: int, heads: int, of: str = "") -> Head:
    """A head as (layer, head), from such a pair or from text such as "3.7".

    >>> check_head("3.7", 4, 12)
    (3, 7)
    >>> check_head((3, 12), 4, 12)
    Traceback (most recent call last):
    ValueError: no head 12 in layer 3: heads are 0 to 11

    Raises:
        TypeError: neither.
        ValueError: no such head.
    """
    parts: Sequence[Any] = ()
    if isinstance(value, str):
        parts = [int(part) if part.isascii() and part.isdigit() else None for part in value.split(".")]
    elif isinstance(value, tuple | list) or getattr(value, "ndim", 0) == 1:
        parts = list(value)
    if len(parts) != 2 or any(part is None for part in parts):
        raise TypeError(f"head {shown(value)}: expected (layer, head) or text, such as (3, 7) or '3.7'")
    layer = check_layer(parts[0], layers, of)
    head = check_whole(parts[1], "head", remedy=f"heads are 0 to {heads - 1}")
    if not 0 <= head < heads:
        raise ValueError(f"no head {shown(head)} in layer {layer}{of and f' of {of}'}: heads are 0 to {heads - 1}")
    return layer, head
