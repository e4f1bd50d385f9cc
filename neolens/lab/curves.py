"""How the shipped networks learned: the curves that their trainings wrote, as one labelled result."""

import csv
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import xarray as xr

from neolens.lab import NAMES, folder
from neolens.lab.planted import TASKS
from neolens.models import anatomy, lab_seeds


def read_curve(path: Path) -> dict[str, np.ndarray]:
    """The columns of a `curve.csv`: `step`, `loss` in nats, and accuracies such as `induction 32`.

    Raises:
        ValueError: no such file, or no row in it.
    """
    if not path.is_file():
        raise ValueError(f"{path}: no such file: expected the curve.csv that a training of the lab wrote")
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    if not rows:
        raise ValueError(f"{path}: the curve is empty: the training was shorter than its first point")
    return {name: np.array([float(row[name]) for row in rows]) for name in rows[0]}


def curves(names: Iterable[str] = NAMES) -> xr.Dataset:
    """Loss (`loss`, nats) and accuracy of each task by `model`, `seed` and `step`, accuracies by `distance` too.

    What the curves tell of each arm, `position` and whether its layers are all global (`attention`), stands at `model`.

    Raises:
        ValueError: no such arm.
    """
    names = list(names)
    return xr.concat([_of_arm(name) for name in names], dim=xr.DataArray(names, dims="model", name="model"))


def _of_arm(name: str) -> xr.Dataset:
    seeds = lab_seeds(name)
    found = [_labelled(read_curve(folder(seed) / "curve.csv")) for seed in seeds]
    facts = anatomy(name)
    local = any(span.kind == "local" for span in facts.attention)
    return xr.concat(found, dim=xr.DataArray(range(len(seeds)), dims="seed", name="seed")).assign_coords(
        position=facts.position.kind, attention="local and global" if local else "global"
    )


def _labelled(columns: dict[str, np.ndarray]) -> xr.Dataset:
    distances = sorted({int(name.split(" ")[1]) for name in columns if " " in name})
    accuracies = {
        task: (("step", "distance"), np.stack([columns[f"{task} {d}"] for d in distances], axis=1)) for task in TASKS
    }
    coords = {"step": columns["step"].astype(int), "distance": distances}
    return xr.Dataset({"loss": ("step", columns["loss"]), **accuracies}, coords=coords)
