"""Checks of results: a dataset, or several by name, with the variables, axes and labels that a function needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import xarray as xr

from neolens.checks.labels import check_labels
from neolens.checks.values import check_text, check_type, did_you_mean, shown


def check_result(
    value: Any,
    what: str,
    variables: Sequence[str] = (),
    dims: Sequence[str] = (),
    source: str = "a function of neolens",
) -> xr.Dataset:
    """The dataset itself, if it has what a function needs of it.

    >>> check_result(3, "result", ["patched"], source="neolens.patch")
    Traceback (most recent call last):
    TypeError: result 3: expected the result of neolens.patch, a dataset with patched

    Args:
        what: the name of the argument, which begins the error.
        variables: names of variables or coordinates that it needs.
        dims: its axes, each of size 1 or more.
        source: the function that returns such results, for the error.

    Raises:
        TypeError: no dataset.
        ValueError: an empty one, or one without a variable or an axis, or with labels twice or undefined.
    """
    needed = [*variables, *(f"the axis {dim}" for dim in dims if dim not in variables)]
    most = [*needed[:4], *["..."] * (len(needed) > 4)]
    listed = " and ".join([", ".join(most[:-1]), most[-1]] if 1 < len(needed) <= 4 else [", ".join(most)])
    expected = f"expected the result of {source}, a dataset{listed and f' with {listed}'}"
    if not isinstance(value, xr.Dataset):
        raise TypeError(f"{what} {shown(value)}: {expected}")
    present = [str(name) for name in value.variables]
    missing = [name for name in variables if name not in value.variables]
    missing += [dim for dim in dims if dim not in value.dims]
    if missing:
        more = [*present[:5], *["..."] * (len(present) > 5)]
        hint = did_you_mean(missing[0], present)
        raise ValueError(f"{what} without {missing[0]}: {expected}; {hint}it has {', '.join(more) or 'nothing'}")
    used = {*dims, *(dim for name in variables or value.variables for dim in value[name].dims)}
    if empty := [str(dim) for dim in value.dims if dim in used and not value.sizes[dim]]:
        raise ValueError(f"{what} with no {empty[0]} at all: {expected}, of at least one {empty[0]}")
    if not value.data_vars:
        raise ValueError(f"{what} without variables: {expected}")
    check_labels(value, what, variables, map(str, used), expected)
    return value


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


def check_dataset(value: Any, what: str) -> None:
    """Check that a value is a dataset.

    Raises:
        TypeError: something else.
    """
    if not isinstance(value, xr.Dataset):
        raise TypeError(f"{what} {shown(value)}: expected an xarray.Dataset that neolens measured")


def check_named(value: Any, what: str) -> None:
    """Check a mapping from names to datasets.

    Raises:
        TypeError: no such mapping.
        ValueError: an empty one, or an empty name.
    """
    if not isinstance(value, Mapping) or isinstance(value, xr.Dataset | xr.DataTree):
        raise TypeError(f"{what} {shown(value)}: expected a mapping from names to results")
    if not value:
        raise ValueError(f"{what} {{}}: expected at least one name with its result")
    for name, result in value.items():
        check_text(name, f"a name in {what}", example="lab/gpt2")
        check_dataset(result, f"{what}[{name!r}]")
