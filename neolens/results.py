"""Labelled results: one vocabulary of axes, provenance in the attributes, one netCDF file a result.

Every function of the package that measures returns an `xarray.Dataset` built here. A cell that does not exist is
NaN, never 0. A file has a checksum, and appears whole or not at all (`neolens.files`).
"""

from __future__ import annotations

import io
import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from neolens import files
from neolens.checks import did_you_mean, shown
from neolens.models.facts import Anatomy
from neolens.models.foreign import Facts
from neolens.models.treatments import in_words
from neolens.network.fingerprint import fingerprint
from neolens.network.weights import dtype_of

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
    labels, dims = dict(coords or {}), {dim for names, _ in variables.values() for dim in names}
    if "layer" in dims:
        numbers = np.arange(anatomy.layers) if layers is None else np.asarray(layers)
        spans = [anatomy.attention[layer] for layer in numbers]
        labels["layer"] = numbers
        labels["attention_kind"] = ("layer", [span.kind for span in spans])
        labels["window"] = ("layer", [np.nan if span.window is None else float(span.window) for span in spans])
    if "head" in dims:
        labels["head"] = np.arange(anatomy.heads) if heads is None else np.asarray(heads)
    return check(xr.Dataset(dict(variables), coords=labels, attrs=dict(attrs or {})))


def check(result: xr.Dataset) -> xr.Dataset:
    """The dataset itself, if its axes are those of the vocabulary.

    Raises:
        ValueError: an axis outside the vocabulary, or `layer` without its kinds.
    """
    unknown = sorted(set(map(str, result.dims)) - set(AXES))
    if unknown:
        raise ValueError(f"axis {unknown[0]!r} is not in the vocabulary: expected {', '.join(AXES)}")
    if "layer" in result.dims and "attention_kind" not in result.coords:
        raise ValueError("a result with a layer axis needs the coordinate attention_kind: build it with results.build")
    return result


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
        ValueError: an empty one, or one without a variable or an axis.
    """
    needed = [*variables, *(f"the axis {dim}" for dim in dims if dim not in variables)]
    listed = " and ".join([", ".join(needed[:-1]), needed[-1]] if len(needed) > 1 else needed)
    expected = f"expected the result of {source}, a dataset{listed and f' with {listed}'}"
    if not isinstance(value, xr.Dataset):
        raise TypeError(f"{what} {shown(value)}: {expected}")
    present = [str(name) for name in value.variables]
    missing = [name for name in variables if name not in value.variables]
    missing += [dim for dim in dims if dim not in value.dims]
    if missing:
        more = [*present[:8], *["..."] * (len(present) > 8)]
        hint = did_you_mean(missing[0], present)
        raise ValueError(f"{what} without {missing[0]}: {expected}; {hint}it has {', '.join(more) or 'nothing'}")
    used = {*dims, *(dim for name in variables or value.variables for dim in value[name].dims)}
    if empty := [str(dim) for dim in value.dims if dim in used and not value.sizes[dim]]:
        raise ValueError(f"{what} with no {empty[0]} at all: {expected}, of at least one {empty[0]}")
    if not value.data_vars:
        raise ValueError(f"{what} without variables: {expected}")
    return value


def stack(by_model: Mapping[str, xr.Dataset]) -> xr.Dataset:
    """Results of several models as one, with a `model` axis; what a model does not have is NaN (or "" for words)."""
    parts = [part.reset_coords(["attention_kind", "window", "length"]) for part in by_model.values()]
    axes = {name: part[name] for part in parts for name in part.indexes}
    parts = [part.assign_coords({name: at for name, at in axes.items() if name not in part.indexes}) for part in parts]
    names = xr.DataArray(list(by_model), dims="model", name="model")
    both = xr.concat(parts, dim=names, join="outer", data_vars="all", combine_attrs="drop")
    both["attention_kind"] = both["attention_kind"].fillna("").astype(str)
    both.attrs = {"provenance": json.dumps({name: dict(part.attrs) for name, part in by_model.items()}, default=str)}
    return check(both.set_coords(["attention_kind", "window", "length"]))


def provenance(model: Any, anatomy: Facts, **more: Any) -> dict[str, Any]:
    """Where a result comes from: model, weights, versions, dtype and device, ready for a netCDF attribute each."""
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
        OSError: the file cannot be written, for example because the disk is full.
    """
    return _write(xr.DataTree(result), path)


def load(path: str | Path) -> xr.Dataset:
    """Read a result that `save` wrote, into memory.

    Raises:
        ValueError: no such file, not a netCDF file, a damaged one, or several results.

    Warns:
        UserWarning: a file of an earlier version, which has no checksum.
    """
    tree = _read(path, "a result")
    if tree.children:
        raise ValueError(f"{path}: several results, not one: read it with neolens.results.load_parts")
    return check(tree.to_dataset(inherit=False))


def save_parts(parts: Mapping[str, xr.Dataset], path: str | Path) -> Path:
    """Write several results, which need not share their axes, as the groups of one netCDF file with a checksum, whole
    or not at all.

    Raises:
        ValueError: a name with a slash in it, which is no group's name.
        OSError: the file cannot be written, for example because the disk is full.
    """
    if wrong := [name for name in parts if not name or "/" in name]:
        raise ValueError(f"part {wrong[0]!r}: expected names without a slash")
    return _write(xr.DataTree.from_dict(dict(parts)), path)


def load_parts(path: str | Path) -> dict[str, xr.Dataset]:
    """Read the results that `save_parts` wrote, into memory.

    Raises:
        ValueError: no such file, not a netCDF file, a damaged one, or not one of several results.

    Warns:
        UserWarning: a file of an earlier version, which has no checksum.
    """
    parts = {name: check(part.to_dataset(inherit=False)) for name, part in _read(path, "results").children.items()}
    if not parts:
        raise ValueError(f"{path}: one result, not several: read it with neolens.results.load")
    return parts


_FORMAT = "neolens_format"
"""The attribute of the root group of a file that has a checksum."""

_HDF5 = b"\x89HDF\r\n\x1a\n"


def _write(tree: xr.DataTree, path: str | Path) -> Path:
    """Write a file that was made in memory: HDF5 crashes on a full disk."""
    tree.attrs[_FORMAT] = 1
    content = files.with_checksum(tree.to_netcdf(engine="h5netcdf"))
    return files.write_whole(path, lambda beside: beside.write_bytes(content))


def _read(path: str | Path, what: str) -> xr.DataTree:
    """The groups of a netCDF file in memory, after its checksum was compared."""
    expected = f"expected {what} written by neolens (.nc)"
    try:
        content, has_checksum = files.checked_content(path)
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file: {expected}") from None
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror}): {expected}") from error
    if not has_checksum and _FORMAT.encode() in content:
        raise files.DamagedFileError(path)
    if not content.startswith(_HDF5):
        raise ValueError(f"{path}: not a netCDF file: {expected}")
    try:
        with xr.open_datatree(io.BytesIO(content), engine="h5netcdf") as opened:
            tree = opened.load()
    except Exception as error:  # HDF5 and xarray raise errors of many kinds for damaged files
        raise files.DamagedFileError(path) from error
    if tree.attrs.pop(_FORMAT, None) is None:
        warnings.warn(f"{path} is of an earlier version and has no checksum: damage would not be noticed", stacklevel=3)
    return tree
