"""Checks of lists: tuples, ranges and arrays are accepted in their place; text, mappings and sets are not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from typing import Any

from neolens.checks.values import check_whole, shown


def check_list(value: Any, what: str, of: str, *, example: str = "") -> list[Any]:
    """The items of a list, tuple, range, array or other ordered collection; text, mappings and sets are none.

    >>> check_list("abc", "words", "strings", example="['a', 'b']")
    Traceback (most recent call last):
    TypeError: words 'abc': expected a list of strings, such as ['a', 'b']

    Raises:
        TypeError: anything else.
    """
    unordered = isinstance(value, str | bytes | bytearray | memoryview | Mapping | Set)
    try:
        if unordered or not isinstance(value, Iterable) or getattr(value, "ndim", 1) == 0:
            raise TypeError("no ordered collection")
        if hasattr(value, "columns") or not _is_in_memory(value):
            raise TypeError("no list of single items")
        return list(value)
    except Exception as error:  # also of a generator of the user's, which the traceback then shows
        such = f", such as {example}" if example else ""
        raise TypeError(f"{what} {shown(value)}: expected a list of {of}{such}") from error


def _is_in_memory(value: Any) -> bool:
    """Whether a value, if it is a tensor, holds its numbers one beside the other."""
    return str(getattr(value, "layout", "torch.strided")) == "torch.strided" and not getattr(value, "is_meta", False)


def check_whole_numbers(
    value: Any, what: str, least: int | None = None, most: int | None = None, *, unit: str = ""
) -> tuple[int, ...]:
    """One or several different whole numbers, in the order given; a single number is accepted in place of a list.

    >>> check_whole_numbers([1, 8, 1], "shifts")
    Traceback (most recent call last):
    ValueError: shifts [1, 8, 1]: expected at least one whole number, each once; 1 occurs twice

    Raises:
        TypeError: not integers.
        ValueError: none, one of them twice, or one outside `least` to `most`.
    """
    single = hasattr(value, "__index__") and getattr(value, "ndim", 0) == 0
    if not single and (isinstance(value, str | bytes) or not isinstance(value, Iterable)):
        raise TypeError(f"{what} {shown(value)}: expected a whole number, or a list of several, such as [1, 8, 64]")
    items = [value] if single else check_list(value, what, "whole numbers", example="[1, 8, 64]")
    numbers = tuple(check_whole(item, what, least, most, unit=unit) for item in items)
    if not numbers:
        raise ValueError(f"{what} {shown(value)}: expected at least one whole number")
    if twice := [number for number in numbers if numbers.count(number) > 1]:
        raise ValueError(
            f"{what} {shown(value)}: expected at least one whole number, each once; {twice[0]} occurs twice"
        )
    return numbers
