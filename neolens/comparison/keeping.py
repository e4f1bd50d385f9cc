"""Results of networks, a file each: kept as soon as they are measured, known again by what they come from."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path

import xarray as xr

from neolens import results
from neolens.comparison.found import OPTIONAL, PARTS

Stamp = Mapping[str, str | int]
"""Attributes that tell what results come from: `settings`, `text`, `versions` and others."""


def kept(folder: Path, network: str) -> Path:
    """Where the results of a network are: no two in one file, though a name loses what no file's name may have."""
    plain = re.sub(r"[^A-Za-z0-9@._-]+", "-", network).strip("-.")[-80:]
    other = "" if network.startswith("lab/") else f"-{hashlib.sha256(network.encode()).hexdigest()[:8]}"
    return folder / "networks" / f"{plain}{other}.nc".lstrip("-")


def write(parts: Mapping[str, xr.Dataset], path: Path, stamp: Stamp) -> Path:
    """Keep the parts of one network, whole or not at all, stamped with what they come from."""
    return results.save_parts({**parts, "attention": parts["attention"].assign_attrs(stamp)}, path)


def holds(path: Path, stamp: Stamp) -> bool:
    """Whether all of a network is kept there, with this stamp; the fingerprint of its weights may be part of it."""
    try:
        parts = results.load_parts(path)
    except ValueError:  # none yet, or no file of ours
        return False
    whole = set(PARTS) - set(OPTIONAL) <= set(parts)
    return whole and all(parts["attention"].attrs.get(name) == value for name, value in stamp.items())


def read(path: Path, settings: str) -> dict[str, xr.Dataset]:
    """The parts of one network.

    Raises:
        ValueError: a file that is not there, or that was measured with other settings.
    """
    parts = results.load_parts(path)
    if "attention" not in parts or parts["attention"].attrs.get("settings") != settings:
        raise ValueError(f"{path} was measured with other settings than the record tells: measure it again")
    return parts
