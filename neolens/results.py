"""Labelled results: one vocabulary of axes, provenance in the attributes, one netCDF file a result.

Every function of the package that measures returns an `xarray.Dataset` built here. A cell that does not exist is
NaN, never 0. A file is written beside its name and renamed, so that a crash leaves the old file or the new one.
"""

from __future__ import annotations

import json
import os
import tempfile
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

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
    """Write a result as one netCDF file, whole or not at all."""
    return write_whole(path, lambda beside: result.to_netcdf(beside, engine="h5netcdf"))


def load(path: str | Path) -> xr.Dataset:
    """Read a result that `save` wrote, into memory.

    Raises:
        ValueError: no such file, or not a netCDF file.
    """
    if not Path(path).is_file():
        raise ValueError(f"{path}: no such file: expected a result written by neolens (.nc)")
    try:
        return check(xr.load_dataset(path, engine="h5netcdf"))
    except OSError as error:
        raise ValueError(f"{path}: not a netCDF file: expected a result written by neolens (.nc)") from error


def save_parts(parts: Mapping[str, xr.Dataset], path: str | Path) -> Path:
    """Write several results, which need not share their axes, as the groups of one netCDF file, whole or not at all.

    Raises:
        ValueError: a name with a slash in it, which is no group's name.
    """
    if wrong := [name for name in parts if not name or "/" in name]:
        raise ValueError(f"part {wrong[0]!r}: expected names without a slash")
    tree = xr.DataTree.from_dict(dict(parts))
    return write_whole(path, lambda beside: tree.to_netcdf(beside, engine="h5netcdf"))


def load_parts(path: str | Path) -> dict[str, xr.Dataset]:
    """Read the results that `save_parts` wrote, into memory.

    Raises:
        ValueError: no such file, or not one of several results.
    """
    if not Path(path).is_file():
        raise ValueError(f"{path}: no such file: expected results written by neolens (.nc)")
    try:
        with xr.open_datatree(path, engine="h5netcdf") as tree:
            parts = {name: check(part.to_dataset(inherit=False).load()) for name, part in tree.children.items()}
    except OSError as error:
        raise ValueError(f"{path}: not a netCDF file: expected results written by neolens (.nc)") from error
    if not parts:
        raise ValueError(f"{path}: one result, not several: read it with neolens.results.load")
    return parts


def write_whole(path: str | Path, write: Callable[[Path], Any]) -> Path:
    """Call `write` with a name beside `path`, then rename: a crash leaves the old file or the new one.

    The folder is made if need be.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name[:50]}.{uuid.uuid4().hex}.partial")  # no longer than a name may be
    try:
        write(beside)
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)
    return path


def writable_folder(path: str | Path) -> Path:
    """The folder, which need not exist yet, after a file was made and removed again where it is or will be.

    Raises:
        ValueError: it is a file, or cannot be made or written to.
    """
    folder = Path(path)
    there = next(part for part in (folder, *folder.absolute().parents) if part.exists())
    try:
        if not str(path).strip():
            raise NotADirectoryError(0, "no name")
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        raise ValueError(
            f"out folder {str(path)!r} cannot be written to ({error.strerror}): give a folder that can be"
        ) from error
    return folder
