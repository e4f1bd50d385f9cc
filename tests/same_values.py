"""Compare what the studies saved before and after a change of the layout: every value has to be equal to the bit.

    python tests/same_values.py BEFORE AFTER

Both are folders with one folder per study, as `experiments.NAME --out FOLDER/NAME` writes them. Every variable and
coordinate of every netCDF file is compared under its new name (`RENAMED`), and the findings and warnings of every
record that has them as data. Prints one row per study, and ends with exit code 1 where something differs.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import h5netcdf
import numpy as np
import xarray as xr

RENAMED: dict[str, str] = {}
"""Name of a variable or coordinate before -> after."""


def main(before: Path, after: Path) -> int:
    """Compare all studies; the exit code."""
    failed = 0
    for study in sorted(path for path in before.iterdir() if path.is_dir()):
        differing, count = [], 0
        for path in sorted(study.rglob("*.nc")):
            for name, equal in compared(path, after / path.relative_to(before)):
                count += 1
                differing += [] if equal else [f"{path.relative_to(study)}: {name}"]
        differing += [f"record.json: {name}" for name in findings(study, after / study.name)]
        print(f"{study.name}: {count} arrays, {len(differing)} differ {', '.join(differing[:8])}".rstrip())
        failed += bool(differing) or not count
    return int(failed > 0)


def compared(before: Path, after: Path) -> Iterator[tuple[str, bool]]:
    """Every array of two files, and whether it is equal to the bit; NaN is equal to NaN."""
    if not after.is_file():
        yield "the file is missing", False
        return
    for group in groups(before):
        with xr.open_dataset(before, group=group) as one, xr.open_dataset(after, group=group) as other:
            for name in sorted(map(str, one.variables)):
                here, there = one[name], other.variables.get(RENAMED.get(name, name))
                dims = [RENAMED.get(str(dim), str(dim)) for dim in here.dims]
                same = there is not None and dims == list(there.dims) and here.dtype == there.dtype
                exact = {"equal_nan": True} if here.dtype.kind == "f" else {}
                yield f"{group}/{name}".lstrip("/"), same and np.array_equal(here.values, there.values, **exact)


def groups(path: Path) -> list[str]:
    """The groups of a netCDF file."""
    with h5netcdf.File(path, "r") as file:
        found = ["/", *(f"/{name}" for name in file.groups)]
    return found


def findings(before: Path, after: Path) -> list[str]:
    """Which of the findings and warnings of two records differ; records before findings were data are not compared."""
    one, other = (json.loads((folder / "record.json").read_text(encoding="utf-8")) for folder in (before, after))
    both = [name for name in ("findings", "warnings") if not any(isinstance(row, str) for row in one[name])]
    return [name for name in both if one[name] != other[name]]


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: python tests/same_values.py BEFORE AFTER")
    sys.exit(main(*map(Path, sys.argv[1:])))
