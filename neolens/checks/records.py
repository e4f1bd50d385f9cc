"""Checks of records: that a value is of a class, and that the fields of a dataclass are what their annotations say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from neolens.checks.lists import check_list
from neolens.checks.values import check_bool, check_number, check_text, check_type, check_whole

_LARGEST = 2**31 - 1


def check_records(value: Any, what: str, kind: type, source: str) -> list[Any]:
    """The items of a list of records of one class.

    >>> check_records(3, "found", dict, "neolens.studies.ioi.summary")
    Traceback (most recent call last):
    TypeError: found 3: expected a list of dict, as neolens.studies.ioi.summary returns them

    Raises:
        TypeError: no list, or something else in it.
    """
    expected = f"{kind.__name__}, as {source} returns them"
    return [
        check_type(item, f"{what}[{at}]", kind, f"a {expected}")
        for at, item in enumerate(check_list(value, what, expected))
    ]


def check_fields(record: Any, bounds: Mapping[str, tuple[float | int, float | int]] | None = None) -> None:
    """Check the fields of a frozen dataclass that are annotated as int, float, bool or str, and make them plain.

    Whole numbers are 1 to 2**31 - 1, numbers 0 to 1 where `bounds` has nothing else; text is not empty; a field that
    is annotated as `... | None` may be None.

    Args:
        bounds: name of a field -> the lowest and the highest value.

    Raises:
        TypeError: a field of another type.
        ValueError: one outside its bounds, or an empty text.
    """
    for field in fields(record):
        value, what = getattr(record, field.name), field.name
        kind = field.type if isinstance(field.type, str) else getattr(field.type, "__name__", "")
        plain, _, optional = kind.partition(" | ")
        if value is None and optional == "None":
            continue
        low, high = (bounds or {}).get(field.name, (1, _LARGEST) if plain == "int" else (0, 1))
        if plain == "int":
            value = check_whole(value, what, int(low), int(high))
        elif plain == "float":
            value = check_number(value, what, low, high)
        elif plain == "bool":
            value = check_bool(value, what)
        elif plain == "str":
            value = check_text(value, what)
        object.__setattr__(record, field.name, value)
