"""What an experiment leaves in its folder: the labelled result, the record of how it came about, and the report."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import xarray as xr

from neolens import results
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
    json.dumps(record)
    results.save(result, Path(folder) / "result.nc")
    write_record(folder, record)
    return write(Path(folder) / "report.html", page)


def write_record(folder: str | Path, record: Mapping[str, Any]) -> Path:
    """Write `record.json`, whole or not at all.

    Raises:
        TypeError: a record that JSON cannot hold; nothing is written then.
    """
    noted = json.dumps(record, indent=2) + "\n"
    return results.write_whole(Path(folder) / "record.json", lambda path: path.write_text(noted, encoding="utf-8"))
