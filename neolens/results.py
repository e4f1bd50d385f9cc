"""Labelled results: one vocabulary of axes, provenance in the attributes, one netCDF file a result.

Every function of the package that measures returns an `xarray.Dataset` built here. A cell that does not exist is
NaN, never 0. A file has a checksum, and appears whole or not at all (`neolens.netcdf`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np
import xarray as xr

from neolens import netcdf
from neolens.checks import check_indices, check_layers, check_list, check_text, check_type, shown
from neolens.checks.results import check_dataset, check_named, check_result, check_results
from neolens.models.anatomy import Anatomy
from neolens.models.other_architectures import Facts, check_anatomy
from neolens.models.treatments import in_words
from neolens.network.checksum import fingerprint
from neolens.network.weights import dtype_of

__all__ = [
    "AXES", "build", "check", "check_result", "check_results", "concat", "load", "load_parts", "provenance", "save",
    "save_parts", "stack", "versions",
]  # fmt: skip

AXES = (
    "prompt", "pos", "query_pos", "key_pos", "layer", "head", "role", "group", "distance", "metric", "seed", "model",
    "shift", "band", "part", "component", "step", "d_model", "d_head", "d_vocab",
)  # fmt: skip


def build(
    variables: Mapping[str, tuple[tuple[str, ...], np.ndarray]],
    anatomy: Facts,
    *,
    coords: Mapping[str, Any] | None = None,
    attrs: Mapping[str, Any] | None = None,
    layers: Sequence[int] | None = None,
    heads: Sequence[int] | None = None,
) -> xr.Dataset:
    """A checked dataset; axes `layer` and `head` get their numbers (by default all of the model's), layers their
    `attention_kind` and `window`."""
    check_anatomy(anatomy)
    expected = "a mapping from names to (axes, array), such as {'loss': (('prompt',), losses)}"
    dims: set[str] = set()
    for name, value in check_type(variables, "variables", Mapping, expected).items():
        check_text(name, "name of a variable", example="loss")
        if not isinstance(value, tuple) or len(value) != 2:
            raise TypeError(f"variables[{shown(name)}] {shown(value)}: expected (axes, array), a tuple of two")
        axes = [value[0]] if isinstance(value[0], str) else check_list(value[0], "axes", "names", example="['pos']")
        if len(set(axes)) < len(axes):
            raise ValueError(f"variables[{shown(name)}] has the axes {shown(axes)}: expected each once")
        dims |= {check_text(axis, "axis", example="pos") for axis in axes}
    labels = {**check_type({} if coords is None else coords, "coords", Mapping, "a mapping from names to labels")}
    noted = {**check_type({} if attrs is None else attrs, "attrs", Mapping, "a mapping from names to values")}
    for name in (*labels, *noted):
        check_text(name, "name of a coordinate or an attribute", example="length")
    if "layer" in dims:
        count, of = anatomy.layers, anatomy.name
        numbers = np.arange(count) if layers is None else np.array(check_layers(layers, count, of))
        spans = [anatomy.attention[layer] for layer in numbers]
        labels["layer"] = numbers
        labels["attention_kind"] = ("layer", [span.kind for span in spans])
        labels["window"] = ("layer", [np.nan if span.window is None else float(span.window) for span in spans])
    if "head" in dims:
        labels["head"] = np.arange(anatomy.heads) if heads is None else check_indices(heads, "head", anatomy.heads)
    try:
        result = xr.Dataset(dict(variables), coords=labels, attrs=noted)
    except Exception as error:  # xarray raises errors of many kinds
        reason = " ".join(str(error).split())
        raise ValueError(f"variables cannot be labelled ({reason:.120}): expected {expected}") from error
    return check(result)


def check(result: xr.Dataset) -> xr.Dataset:
    """The dataset itself, if its axes are those of the vocabulary.

    Raises:
        TypeError: not a dataset.
        ValueError: an axis outside the vocabulary, or `layer` without its kinds.
    """
    check_dataset(result, "result")
    unknown = sorted(set(map(str, result.dims)) - set(AXES))
    if unknown:
        raise ValueError(f"axis {unknown[0]!r} is not in the vocabulary: expected {', '.join(AXES)}")
    if "layer" in result.dims and "attention_kind" not in result.coords:
        raise ValueError("a result with a layer axis needs the coordinate attention_kind: build it with results.build")
    return result


def stack(by_model: Mapping[str, xr.Dataset]) -> xr.Dataset:
    """Results of several models as one, with a `model` axis; what a model does not have is NaN (or "" for words).

    Raises:
        TypeError, ValueError: no mapping from names to datasets with these coordinates, or an empty one.
    """
    check_named(by_model, "by_model")
    for name, result in by_model.items():
        if missing := [label for label in ("attention_kind", "window", "length") if label not in result.coords]:
            raise ValueError(
                f"result of {shown(name)} has no coordinate {missing[0]}: expected results of one measure of neolens"
            )
    first = next(iter(by_model))
    for name, result in by_model.items():
        if not {*result.data_vars} & {*by_model[first].data_vars}:
            raise ValueError(f"results of {shown(first)} and {shown(name)} share no variable: expected one measure")
        if twice := [axis for axis, labels in result.indexes.items() if not labels.is_unique]:
            raise ValueError(f"result of {shown(name)} has a {twice[0]} twice: expected each once")
    parts = [part.reset_coords(["attention_kind", "window", "length"]) for part in by_model.values()]
    axes = {name: part[name] for part in parts for name in part.indexes}
    parts = [part.assign_coords({name: at for name, at in axes.items() if name not in part.indexes}) for part in parts]
    names = xr.DataArray(list(by_model), dims="model", name="model")
    try:
        both = xr.concat(parts, dim=names, join="outer", data_vars="all", combine_attrs="drop")
    except Exception as error:  # xarray raises errors of many kinds
        reason = " ".join(str(error).split())
        raise ValueError(f"by_model cannot be stacked ({reason:.120}): expected results of one measure") from error
    both["attention_kind"] = both["attention_kind"].fillna("").astype(str)
    both.attrs = {"provenance": json.dumps({name: dict(part.attrs) for name, part in by_model.items()}, default=str)}
    return check(both.set_coords(["attention_kind", "window", "length"]))


def concat(
    parts: Sequence[xr.Dataset],
    axis: str,
    values: Sequence[int] | None = None,
    *,
    compat: Literal["override", "equals"] = "override",
) -> xr.Dataset:
    """Results along a new axis, such as the networks of a variant along `seed`; the attributes are those of the first,
    but for the fingerprints of several networks, which are all there.

    Args:
        values: of the new axis; None where the parts have it.
        compat: whether coordinates that do not have the axis are those of the first part, or have to be equal.
    """
    along: Any = axis if values is None else xr.Variable(axis, list(values))
    joined = xr.concat(
        list(parts), along, data_vars="all", coords="minimal", join="outer", compat=compat, combine_attrs="override"
    )
    if axis in ("seed", "step"):
        joined.attrs["fingerprint"] = " ".join(part.attrs["fingerprint"] for part in parts)
    return joined


def provenance(model: Any, anatomy: Facts, **more: Any) -> dict[str, Any]:
    """Where a result comes from: model, weights, versions, dtype and device, ready for a netCDF attribute each."""
    check_anatomy(anatomy)
    treatment = anatomy.position.treatment if isinstance(anatomy, Anatomy) else None
    ignored = getattr(anatomy, "ignored_fields", ())
    return {
        "model": anatomy.name,
        "fingerprint": fingerprint(model),
        "anatomy": json.dumps(asdict(anatomy)),
        **({} if treatment is None else {"treatment": in_words(treatment)}),
        **({"ignored_fields": ", ".join(ignored)} if ignored else {}),
        "versions": json.dumps(versions()),
        "dtype": str(dtype_of(model)).removeprefix("torch."),
        "device": str(model.cfg.device),
        **{name: value for name, value in more.items() if value is not None},
    }


@cache
def versions() -> Mapping[str, str]:
    """The versions of neolens and of the libraries whose arithmetic it uses."""
    return {name: version(name) for name in ("neolens", "transformer_lens", "transformers", "torch")}


def save(result: xr.Dataset, path: str | Path) -> Path:
    """Write a result as one netCDF file with a checksum, whole or not at all.

    Raises:
        TypeError: not a dataset, or not a path.
        ValueError: what a netCDF file cannot hold, such as a nested list as an attribute.
        OSError: the file cannot be written, for example because the disk is full.
    """
    check_dataset(result, "result")
    return netcdf.write({"/": result}, path)


def load(path: str | Path) -> xr.Dataset:
    """Read a result that `save` wrote, into memory.

    Raises:
        ValueError: no such file, not a netCDF file, a damaged one, or several results.

    Warns:
        UserWarning: a file of an earlier version, which has no checksum.
    """
    tree = netcdf.read(path, "a result")
    if tree.children:
        raise ValueError(f"{path}: several results, not one: read it with neolens.results.load_parts")
    return check(_with_controls(tree.to_dataset(inherit=False)))


def save_parts(parts: Mapping[str, xr.Dataset], path: str | Path) -> Path:
    """Write several results, which need not share their axes, as the groups of one netCDF file with a checksum, whole
    or not at all.

    Raises:
        TypeError: no mapping from names to datasets, or not a path.
        ValueError: no part, a name with a slash in it, which is no group's name, or what a netCDF file cannot hold.
        OSError: the file cannot be written, for example because the disk is full.
    """
    check_named(parts, "parts")
    if wrong := [name for name in parts if not name.strip(".") or "/" in name or "\0" in name]:
        raise ValueError(f"part {wrong[0]!r}: expected names without a slash")
    return netcdf.write(parts, path)


def load_parts(path: str | Path) -> dict[str, xr.Dataset]:
    """Read the results that `save_parts` wrote, into memory.

    Raises:
        ValueError: no such file, not a netCDF file, a damaged one, or not one of several results.

    Warns:
        UserWarning: a file of an earlier version, which has no checksum.
    """
    parts = {
        name: check(_with_controls(part.to_dataset(inherit=False)))
        for name, part in netcdf.read(path, "results").children.items()
    }
    if not parts:
        raise ValueError(f"{path}: one result, not several: read it with neolens.results.load")
    return parts


def _with_controls(result: xr.Dataset) -> xr.Dataset:
    """The result of an ablation with the coordinates `control` and `draw`; in files of earlier versions only the name
    of a group, such as `random 24 heads 0`, tells them."""
    if not {"group", "heads"} <= set(result.coords) or "control" in result.coords:
        return result
    named = [re.fullmatch(r"(random .*?),? (\d+)", str(name)) for name in result["group"].values]
    if not any(named):
        return result
    control = [match[1] if match else "" for match in named]
    draw = [float(match[2]) if match else np.nan for match in named]
    return result.assign_coords(control=("group", control), draw=("group", draw))
