"""Results as netCDF files with a checksum, which appear whole or not at all (`neolens.files`)."""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Mapping
from pathlib import Path

import xarray as xr

from neolens import files
from neolens.checks import check_text, check_type, shown

_FORMAT = "neolens_format"
"""The attribute of the root group of a file that has a checksum."""

_HDF5 = b"\x89HDF\r\n\x1a\n"


def write(groups: Mapping[str, xr.Dataset], path: str | Path) -> Path:
    """Write datasets as the groups of one file with a checksum, whole or not at all.

    The file is made in memory, for HDF5 crashes on a full disk.

    Raises:
        TypeError: not a path.
        ValueError: what netCDF cannot hold.
        OSError: the file cannot be written, for example because the disk is full.
    """
    path = files.check_path(path)
    for name, one in check_type(groups, "groups", Mapping, "a mapping from names to datasets").items():
        check_type(one, f"groups[{shown(name)}]", xr.Dataset, "an xarray.Dataset")
        check_text(name, "a name in groups", example="/")
    if os.path.isdir(path):  # also where a name is too long
        raise IsADirectoryError(f"{path} is a folder: give the name of a file, such as {path / 'result.nc'}")
    try:
        tree = xr.DataTree.from_dict({name: _plain(one) for name, one in groups.items()})
        tree.attrs[_FORMAT] = 1
        content = files.with_checksum(tree.to_netcdf(engine="h5netcdf"))
    except Exception as error:  # xarray and HDF5 raise errors of many kinds for what a file cannot hold
        reason = " ".join(str(error).split())
        raise ValueError(
            f"the result cannot be written as netCDF ({reason:.150}): remove what it cannot hold"
        ) from error
    return files.write_whole(path, lambda beside: beside.write_bytes(content))


def _plain(result: xr.Dataset) -> xr.Dataset:
    """The result without the encoding of the file that it was read from, which would cut longer words to the length of
    those in that file; compression, which changes no value, stays."""
    plain = result.drop_encoding()
    for name, variable in result.variables.items():
        if variable.encoding.get("zlib"):
            plain[name].encoding = {"zlib": True, "complevel": variable.encoding.get("complevel", 4)}
    return plain


def read(path: str | Path, what: str) -> xr.DataTree:
    """The groups of a netCDF file in memory, after its checksum was compared.

    Args:
        what: the file is expected to hold.

    Raises:
        TypeError: not a path.
        ValueError: no such file, not a netCDF file, or a damaged one.

    Warns:
        UserWarning: a file of an earlier version, which has no checksum.
    """
    path, expected = files.check_path(path), f"expected {check_text(what, 'what')} written by neolens (.nc)"
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
            for variable in (variable for node in tree.subtree for variable in node.variables.values()):
                variable.load()  # xarray 2026 leaves out those that have the name of a group
    except Exception as error:  # HDF5 and xarray raise errors of many kinds for damaged files
        raise files.DamagedFileError(path) from error
    if tree.attrs.pop(_FORMAT, None) is None:
        warnings.warn(f"{path} is of an earlier version and has no checksum: damage would not be noticed", stacklevel=4)
    return tree
