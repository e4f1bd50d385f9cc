"""Results of networks, a file each: kept as soon as they are measured, and read only with the stamp of their origin.

One reader (`read`) serves a run, `--resume` and `--from`. A file counts if it is whole, holds what was written, and was
measured with the settings, text, versions, window and weights that its reader expects.
"""

from __future__ import annotations

import hashlib
import json
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from neolens import results
from neolens.checks import shown
from neolens.checks.annotations import checked
from neolens.files import DamagedFileError

Stamp = Mapping[str, str | int]
"""Attributes of the first part that say what results come from: those of `ORIGINS`, or some of them."""

ORIGINS = {
    "settings": "with other settings",
    "text": "on another text",
    "prompts": "on other prompts",
    "measure": "by another function",
    "inputs": "on other inputs",
    "versions": "with other versions",
    "asked_window": "with another window",
    "fingerprint": "with other weights",
}
"""Attribute -> what to say where it differs."""

CONTENT = "content"
"""The attribute with a checksum of everything else, which shows an edit that the checksum of the file does not."""


@checked
def path_of(folder: Path, network: str) -> Path:
    """Where the results of a network are: no two in one file, though a name loses what no file's name may have."""
    plain = re.sub(r"[^A-Za-z0-9@._-]+", "-", network).strip("-.")[-80:]
    other = "" if network.startswith("lab/") else f"-{hashlib.sha256(network.encode()).hexdigest()[:8]}"
    return folder / "networks" / f"{plain}{other}.nc".lstrip("-")


@checked
def write(parts: Mapping[str, xr.Dataset], path: Path, stamp: Stamp) -> Path:
    """Keep the parts of one network, whole or not at all, stamped with what they come from.

    Raises:
        TypeError, ValueError: no datasets by part.
    """
    if not parts:
        raise ValueError(f"parts {shown(parts)}: expected the results of a network, by part")
    first = next(iter(parts))
    stamped = {**parts, first: parts[first].assign_attrs(stamp)}
    checksum = {CONTENT: _checksum(stamped, first)}
    return results.save_parts({**stamped, first: stamped[first].assign_attrs(checksum)}, path)


@checked
def origin(parts: Mapping[str, xr.Dataset]) -> Mapping[str, Any]:
    """The attributes of the part that has the stamp."""
    return parts[_stamped(parts)].attrs


@checked
def is_complete(path: Path, stamp: Stamp) -> bool:
    """Whether all of a network is kept there, with this stamp."""
    try:
        with warnings.catch_warnings(action="ignore"):
            parts = read(path, stamp)
    except ValueError:  # none yet, a damaged one, or one of another origin
        return False
    return CONTENT in origin(parts)


@checked
def read(path: Path, stamp: Stamp) -> dict[str, xr.Dataset]:
    """The parts of one network.

    Raises:
        DamagedFileError: the content is not what was written.
        ValueError: there is no file, or it has another stamp.

    Warns:
        UserWarning: a file of an earlier version, with less to compare.
    """
    if not path.is_file():
        raise ValueError(f"{path}: no such file: measure it again")
    try:
        parts = results.load_parts(path)
    except ValueError as error:
        raise DamagedFileError(path) from error
    attributes = origin(parts)
    for name, expected in stamp.items():
        if name in attributes and not _same(attributes[name], expected):
            raise ValueError(
                f"{path} was measured {ORIGINS[name]} than the record tells: measure it again "
                f"({name} {_short(attributes[name])}, expected {_short(expected)})"
            )
    if CONTENT in attributes and attributes[CONTENT] != _checksum(parts, _stamped(parts)):
        raise DamagedFileError(path)
    if missing := [name for name in (*stamp, CONTENT) if name not in attributes]:
        warnings.warn(
            f"{path} is of an earlier version, without its {', '.join(missing)}: it may be of another origin",
            stacklevel=2,
        )
    return parts


@checked
def read_all(stamps: Mapping[Path, Stamp]) -> dict[Path, dict[str, xr.Dataset]]:
    """The parts of several networks, all of one window and of one version of the file.

    Raises:
        ValueError: as `read`, or files that do not belong together.
    """
    if not stamps:
        raise ValueError("stamps {}: expected the path of at least one network with its stamp")
    found = {path: read(path, stamp) for path, stamp in stamps.items()}
    each = {path: origin(parts) for path, parts in found.items()}
    first = next(iter(each))
    for path, attributes in each.items():
        for name in ("asked_window", "settings", "versions"):
            if not _same(attributes.get(name), each[first].get(name)):
                raise ValueError(f"{path} was measured {ORIGINS[name]} than {first}: measure both again")
        if (CONTENT in attributes) != (CONTENT in each[first]):
            raise ValueError(f"{path} and {first} were measured by different versions: measure both again")
    return found


def _stamped(parts: Mapping[str, xr.Dataset]) -> str:
    """The part that has the stamp: the first."""
    stamped = (part for part, result in parts.items() if CONTENT in result.attrs or "settings" in result.attrs)
    return next(stamped, next(iter(parts)))


def _same(one: Any, other: Any) -> bool:
    """Whether two values of a stamp are equal. Settings and versions are JSON, in which the order does not count and
    what is null may be missing."""
    return bool(one == other or _without_null(one) == _without_null(other))


def _without_null(text: Any) -> Any:
    """The object that a JSON text holds, without what is null in it; any other value as it is."""
    try:
        value = json.loads(text)
    except (TypeError, ValueError, RecursionError):
        return text
    return {name: item for name, item in value.items() if item is not None} if isinstance(value, dict) else text


def _short(value: Any) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= 20 else f"{hashlib.sha256(text.encode()).hexdigest()[:8]}..."


def _checksum(parts: Mapping[str, xr.Dataset], stamped: str) -> str:
    """SHA-256 of names, axes, dtypes, values and attributes, the same before and after a file."""
    digest = hashlib.sha256()
    for part, result in sorted(parts.items()):
        left_out = {*ORIGINS, CONTENT} if part == stamped else set()
        attributes = {name: value for name, value in result.attrs.items() if name not in left_out}
        digest.update(_plain([part, sorted(attributes.items())]))
        for name, variable in sorted(result.variables.items(), key=lambda item: str(item[0])):
            values = variable.values
            words = values.dtype.kind in "OUS"
            axes = [name, variable.dims, values.shape, "str" if words else values.dtype.str, name in result.coords]
            digest.update(_plain(axes) + (_plain(values.ravel()) if words else np.ascontiguousarray(values).tobytes()))
    return digest.hexdigest()


def _plain(value: Any) -> bytes:
    def simple(other: Any) -> Any:
        return np.asarray(other).tolist() if isinstance(other, np.ndarray | np.generic) else str(other)

    return json.dumps(value, default=simple).encode()
