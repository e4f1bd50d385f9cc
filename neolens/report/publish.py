"""What an experiment leaves in its folder: the labelled result, the record of how it came about, and the report."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import xarray as xr

from neolens import files, results
from neolens.checks import check_text, check_type, shown
from neolens.figures.saving import check_place
from neolens.report.page import write


def publish(folder: str | Path, result: xr.Dataset, record: Mapping[str, Any], page: str) -> Path:
    """Write `result.nc`, `record.json` and `report.html`, each whole or not at all; returns the path of the report.

    Args:
        folder: made if need be.
        record: what JSON can hold.
        page: of `neolens.report.page`.

    Raises:
        TypeError: no folder, dataset or page, or a record that JSON cannot hold; nothing is written then.
        ValueError: a folder that cannot be written to, or a record that JSON cannot hold.
    """
    as_json(record)
    check_text(page, "page", empty=True)
    folder = _check_folder(folder)
    results.save(result, folder / "result.nc")
    write_record(folder, record)
    return write(folder / "report.html", page)


def write_record(folder: str | Path, record: Mapping[str, Any]) -> Path:
    """Write `record.json`, whole or not at all; what is no number (NaN), such as the p of one network, is null.

    Raises:
        TypeError, ValueError: no folder, or a record that JSON cannot hold; nothing is written then.
    """
    noted, folder = as_json(record), _check_folder(folder)
    return files.write_whole(folder / "record.json", lambda path: path.write_text(noted, encoding="utf-8"))


def as_json(record: Mapping[str, Any]) -> str:
    """A record as the text of its file.

    Raises:
        TypeError: no mapping, or a value that JSON cannot hold.
        ValueError: a mapping that contains itself or is nested too deeply.
    """
    check_type(record, "record", Mapping, "a mapping from names to what JSON can hold")
    if hasattr(record, "data_vars"):
        raise TypeError(f"record {shown(record)}: expected a mapping from names to what JSON can hold")
    try:
        return json.dumps(_finite(json.loads(json.dumps(dict(record)))), indent=2, allow_nan=False) + "\n"
    except TypeError as error:
        raise TypeError(f"record cannot be JSON ({error}): expected text, numbers, lists and dicts in it") from error
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else error
        raise ValueError(f"record cannot be JSON ({reason}): expected text, numbers, lists and dicts") from error


def _check_folder(folder: Any) -> Path:
    """The folder, if a file can be written into it as far as that shows before it is written."""
    if not isinstance(folder, str | PathLike) or not str(folder).strip():
        raise TypeError(f"folder {shown(folder)}: expected the path of a folder, such as 'results'")
    return check_place(Path(folder) / "record.json", "results/record.json").parent


def _finite(value: Any) -> Any:
    """The same with None for numbers that JSON does not have."""
    if isinstance(value, dict):
        return {name: _finite(its) for name, its in value.items()}
    if isinstance(value, list):
        return [_finite(its) for its in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
