"""Kill every study and `neolens lab train` at random moments, resume, and compare with a whole run.

    python -m benchmarks.interrupted --kills 10
    python -m benchmarks.interrupted --kills 5 --only ioi --only induction

Every run is killed with SIGKILL, the process that was started alone: its workers have to end by themselves. Before
every other resumption a byte of a random file that was kept is flipped, or the file is cut in half. Prints a row for
each kill: after how many seconds, what was kept and damaged, processes left over, and whether every value is bit-equal.
Ends with exit code 1 if one is not. About a minute of two cores per kill.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated

import numpy as np
import psutil
import typer

from neolens import results
from neolens.cli import run_cleanly
from neolens.models.describe import as_text

NETWORKS = ("lab/gpt2@1", "lab/nope@1", "lab/gpt-neo@1")
SHORT = {
    "compare": ("--draws", "1", "--length", "32"),
    "head_ablation": ("--draws", "1", "--length", "64"),
    "local_vs_global": ("--length", "64"),
    "window_reach": ("--tasks", "induction,recall", "--distances", "15,16,32"),
    "induction": ("--lengths", "16,17"),
    "ioi": (),
    "rotary_vs_absolute": (),
}
"""Study -> options that keep it short."""

COMMANDS = {
    **{
        name: ("-m", "neolens", "run", name, "--models", *NETWORKS, "--prompts", "8", *options, "--resume", "--out")
        for name, options in SHORT.items()
    },
    "lab train": (
        *("-m", "neolens.cli", "lab", "train", "--arm", "gpt2", "--arm", "nope", "--seed", "0", "--steps", "120"),
        *("--jobs", "2", "--checkpoints", "--out"),
    ),
}


def run(command: str, out: Path, seconds: float | None = None) -> tuple[float, int]:
    """Run a command to its end, or kill it.

    Returns:
        How long it ran, and how many of its processes are left 15 seconds later.
    """
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, *COMMANDS[command], str(out)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE if seconds is None else subprocess.DEVNULL,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )
    if seconds is None:
        _, errors = process.communicate()
        if process.returncode:
            raise RuntimeError(f"{command} ended with {process.returncode}: {errors.decode()[-500:]}")
        return time.perf_counter() - began, 0
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        started = psutil.Process(process.pid).children(recursive=True)
        process.kill()
        process.wait()
        _, alive = psutil.wait_procs(started, timeout=15)  # a worker that imports ends after its imports
        return time.perf_counter() - began, len(alive)
    return time.perf_counter() - began, 0


def kept(out: Path) -> list[Path]:
    """What a resumption may go on from: networks, states of trainings, finished trainings."""
    return sorted(path for kind in ("networks/*.nc", "*.pt", "*.safetensors") for path in out.rglob(kind))


def damage(path: Path, rng: np.random.Generator) -> str:
    """Flip a byte of a file, or cut it in half."""
    content = path.read_bytes()
    at = int(rng.integers(len(content)))
    cut = rng.random() < 0.5
    path.write_bytes(
        content[: len(content) // 2] if cut else content[:at] + bytes([content[at] ^ 255]) + content[at + 1 :]
    )
    return f"{path.parent.name}/{path.name} {'cut' if cut else 'flipped'}"


def equal(whole: Path, resumed: Path) -> bool:
    """Whether two folders hold the same variables and weights, to the bit."""
    names = sorted(path.relative_to(whole) for path in kept(whole))
    if not names or names != sorted(path.relative_to(resumed) for path in kept(resumed)):
        return False
    return all(_same(whole / name, resumed / name) for name in names)


def _same(one: Path, other: Path) -> bool:
    if one.suffix != ".nc":
        return one.read_bytes() == other.read_bytes()
    first, second = results.load_parts(one), results.load_parts(other)
    return first.keys() == second.keys() and all(
        part.variables.keys() == second[name].variables.keys()
        and all(
            variable.dims == second[name].variables[label].dims
            and variable.values.tobytes() == second[name].variables[label].values.tobytes()
            for label, variable in part.variables.items()
            if variable.dtype.kind != "O"
        )
        for name, part in first.items()
    )


def trials(command: str, kills: int, rng: np.random.Generator, folder: Path) -> list[list[str]]:
    """A row for each kill."""
    whole = folder / "whole"
    seconds, _ = run(command, whole)
    rows = []
    for kill in range(kills):
        out = folder / f"killed-{kill}"
        after, left = run(command, out, float(rng.uniform(1, seconds)))
        files = kept(out)
        damaged = damage(files[int(rng.integers(len(files)))], rng) if kill % 2 and files else ""
        run(command, out)
        row = [command, f"{after:.1f} of {seconds:.1f}", str(len(files)), damaged, str(left)]
        rows.append([*row, "yes" if equal(whole, out) else "NO"])
        print("\t".join(rows[-1]), file=sys.stderr, flush=True)
    return rows


def main(
    kills: Annotated[int, typer.Option(help="of each command")] = 10,
    seed: Annotated[int, typer.Option(help="of the moments and of the damage")] = 0,
    only: Annotated[list[str] | None, typer.Option(help=f"some of {', '.join(COMMANDS)}")] = None,
) -> None:
    """Kill, damage, resume, compare."""
    rng = np.random.default_rng(seed)
    with tempfile.TemporaryDirectory() as folder:
        rows = [row for command in only or COMMANDS for row in trials(command, kills, rng, Path(folder) / command)]
    print(as_text(["command", "killed after (s)", "kept", "damaged", "processes left", "bit-equal"], rows))
    if any(row[-1] == "NO" or row[-2] != "0" for row in rows):
        raise typer.Exit(1)


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    run_cleanly(app)
