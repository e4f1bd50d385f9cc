"""Checks of labelled results, without importing xarray: numbers by which axes, and labels that name each place once."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from neolens.checks.values import shown

_COUNTED = ("layer", "head", "seed", "step", "distance", "band")
_NUMBERED = (*_COUNTED, "shift")
_NAMED = ("role", "group", "metric")
_LABELLED = ("role", "seed", "group")
_KINDS = ("global", "local", "both", "")
"""Both: of a group of heads; none: of a layer that a stacked model does not have."""


def check_labels(result: Any, what: str, variables: Iterable[str], axes: Iterable[str], expected: str) -> None:
    """Check that variables are numbers, and that labels of axes are there, each once, and none of them NaN.

    Raises:
        TypeError: variables or labels of another type.
        ValueError: labels that are missing, undefined or there twice.
    """
    for name in variables:
        if name in result.data_vars and result[name].dtype.kind not in "biuf":
            needed = expected.removeprefix("expected ")
            raise TypeError(f"{what}: {name} of type {result[name].dtype}: expected numbers, {needed}")
    axes = set(axes)
    for name, check in (("attention_kind", _check_kinds), ("window", _check_windows)):
        if name in result.coords and axes >= {*result[name].dims}:
            check(result[name], f"{what}: {name}", expected)
    for axis in sorted(axes):
        labels = result.indexes.get(axis)
        if labels is None:
            if axis in _LABELLED:
                raise ValueError(f"{what}: axis {axis} without labels: {expected}, its coordinates kept")
            continue
        first = f"{what}: {axis} {shown(labels.tolist()[0])}"
        if axis in _NUMBERED and labels.dtype.kind not in "iuf":
            raise TypeError(f"{first} is no number: {expected}")
        if axis in _NAMED and labels.dtype.kind in "biufcmM":
            raise TypeError(f"{first} is no name: {expected}")
        if labels.hasnans:
            raise ValueError(f"{what}: {axis} is NaN somewhere: {expected}")
        if not labels.is_unique:
            again = labels[labels.duplicated()].tolist()[0]
            raise ValueError(f"{what}: {axis} {shown(again)} twice: expected each once")
        if axis in _COUNTED and labels.min() < 0:
            raise ValueError(f"{what}: {axis} {labels.min()} is below 0: {expected}")


def _check_kinds(values: Any, what: str, expected: str) -> None:
    """Check the kinds of attention of layers, or of groups of heads."""
    if unknown := [kind for kind in values.values.ravel().tolist() if kind not in _KINDS]:
        raise ValueError(f"{what} {shown(unknown[0])} is neither global nor local: {expected}")


def _check_windows(values: Any, what: str, expected: str) -> None:
    """Check the number of keys that each layer sees: NaN for all."""
    if values.dtype.kind not in "iuf" or bool((values < 1).any()):
        raise ValueError(f"{what} {shown(values.values.tolist())}: expected numbers from 1 on, or NaN")


def fits_axes(values: Any, axes: str) -> bool:
    """Whether values have these axes, separated by spaces; one that ends in a question mark may be missing."""
    present, listed = {str(dim) for dim in values.dims}, axes.split()
    required = {axis for axis in listed if not axis.endswith("?")}
    return required <= present <= {axis.removesuffix("?") for axis in listed}


def check_axes(values: Any, what: str, axes: str, source: str) -> None:
    """Check that values are numbers by these axes.

    Raises:
        TypeError: values of another type.
        ValueError: other axes.
    """
    if values.dtype.kind not in "biuf":
        raise TypeError(f"{what}: {values.name} of type {values.dtype}: expected numbers, the result of {source}")
    if fits_axes(values, axes):
        return
    allowed = [axis.removesuffix("?") for axis in axes.split()]
    more = [str(dim) for dim in values.dims if dim not in allowed]
    hint = f"; choose one {more[0]}, such as .isel({more[0]}=0)" if more else ""
    expected = ", ".join(axis.replace("?", " (or none)") for axis in axes.split()) or "no axes"
    present = ", ".join(map(str, values.dims)) or "no axes"
    raise ValueError(f"{what}: {values.name} by {present}: expected {expected}, the result of {source}{hint}")
