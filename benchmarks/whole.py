"""What a user waits for, from the first line to the last: the comparison of all lab models, its redrawing, notebooks.

    python -m benchmarks.whole [--out FOLDER]

Each is a process of its own, started anew, imports and all. Bars: the comparison at most two minutes on two cores and
its report at most 5 MB; the notebooks at most three minutes together.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated

import nbformat
import typer
from nbclient import NotebookClient

from benchmarks.common import report

NOTEBOOKS = Path(__file__).resolve().parent.parent / "notebooks"


def compare(out: Path) -> list[tuple[str, str, str]]:
    """Seconds of the whole comparison, size of its report, and seconds to draw it once more."""
    asked = seconds("experiments.compare", "--out", str(out))
    again = seconds("experiments.compare", "--from", str(out))
    size = (out / "report.html").stat().st_size / 1e6
    return [
        ("python -m experiments.compare", f"{asked:.0f} s", "at most 120 s"),
        ("its report", f"{size:.1f} MB", "at most 5 MB"),
        ("the same drawn again, --from", f"{again:.0f} s", ""),
    ]


def notebooks() -> list[tuple[str, str, str]]:
    """Seconds of each notebook, from the start of its kernel to its last cell, and of all."""
    rows, whole = [], 0.0
    for path in sorted(NOTEBOOKS.glob("*.ipynb")):
        began = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            resources = {"metadata": {"path": folder}}
            NotebookClient(nbformat.read(path, as_version=4), timeout=600, resources=resources).execute()
        took = time.perf_counter() - began
        whole += took
        rows.append((f"notebooks/{path.name}", f"{took:.0f} s", ""))
    return [*rows, ("all notebooks", f"{whole:.0f} s", "at most 180 s")]


def seconds(module: str, *arguments: str) -> float:
    """How long a module takes as a process of its own."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-m", module, *arguments], check=True, capture_output=True)
    return time.perf_counter() - began


def main(out: Annotated[Path | None, typer.Option(help="keep the comparison in this folder")] = None) -> None:
    """What a user waits for."""
    with tempfile.TemporaryDirectory() as folder:
        rows = compare(out or Path(folder))
    report("From the first line to the last", rows + notebooks())


if __name__ == "__main__":
    typer.run(main)
