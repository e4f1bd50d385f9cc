"""Checks of arguments that hold several results, or several records of the package, each with one wording."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import xarray as xr

from neolens.checks import check_list, check_type, shown
from neolens.results import check_result


def check_results(
    value: Any,
    what: str,
    variables: Sequence[str] = (),
    dims: Sequence[str] = (),
    source: str = "a function of neolens",
) -> dict[Any, xr.Dataset]:
    """One or several results by name, each with what a function needs of it.

    >>> check_results([], "measured", ["patched"], source="neolens.patch")
    Traceback (most recent call last):
    TypeError: measured []: expected a mapping from names to results of neolens.patch

    Raises:
        TypeError: no mapping, or something else than a dataset in it.
        ValueError: an empty one, or a result without a variable or an axis.
    """
    expected = f"expected a mapping from names to results of {source}"
    check_type(value, what, Mapping, expected.removeprefix("expected "))
    if not value:
        raise ValueError(f"{what} {shown(value)}: {expected}, with at least one")
    return {
        name: check_result(result, f"{what}[{shown(name)}]", variables, dims, source) for name, result in value.items()
    }


def check_records(value: Any, what: str, kind: type, source: str) -> list[Any]:
    """The items of a list of records of one class.

    >>> check_records(3, "found", dict, "neolens.circuits.circuit")
    Traceback (most recent call last):
    TypeError: found 3: expected a list of dict, as neolens.circuits.circuit returns them

    Raises:
        TypeError: no list, or something else in it.
    """
    expected = f"{kind.__name__}, as {source} returns them"
    return [
        check_type(item, f"{what}[{at}]", kind, f"a {expected}")
        for at, item in enumerate(check_list(value, what, expected))
    ]
