"""What an experiment leaves in its folder: the labelled result, the record of how it came about, and the report."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import xarray as xr

from neolens import files, results
from neolens.report.page import write


def publish(folder: str | Path, result: xr.Dataset, record: Mapping[str, Any], page: str) -> Path:
    """Write `result.nc`, `record.json` and `report.html`, each whole or not at all; returns the path of the report.

    Args:
        folder: made if need be.
        record: what JSON can hold.
        page: of `neolens.report.page`.

    Raises:
        TypeError: a record that JSON cannot hold; nothing is written then.
    """
    as_json(record)
    results.save(result, Path(folder) / "result.nc")
    write_record(folder, record)
    return write(Path(folder) / "report.html", page)


def write_record(folder: str | Path, record: Mapping[str, Any]) -> Path:
    """Write `record.json`, whole or not at all; what is no number (NaN), such as the p of one network, is null.

    Raises:
        TypeError: a record that JSON cannot hold; nothing is written then.
    """
    noted = as_json(record)
    return files.write_whole(Path(folder) / "record.json", lambda path: path.write_text(noted, encoding="utf-8"))


def as_json(record: Mapping[str, Any]) -> str:
    """A record as the text of its file.

    Raises:
        TypeError: what JSON cannot hold.
    """
    return json.dumps(_finite(json.loads(json.dumps(record))), indent=2, allow_nan=False) + "\n"


def _finite(value: Any) -> Any:
    """The same with None for numbers that JSON does not have."""
    if isinstance(value, dict):
        return {name: _finite(its) for name, its in value.items()}
    if isinstance(value, list):
        return [_finite(its) for its in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
