"""How the shipped networks learned: the curves that their trainings wrote, as one labelled result."""

import csv
import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import xarray as xr

from neolens.checks import check_list, check_text, check_type, shown
from neolens.lab import NAMES, folder
from neolens.lab.language.planted import TASKS
from neolens.models import anatomy, lab_seeds


def read_curve(path: Path) -> dict[str, np.ndarray]:
    """The columns of a `curve.csv`: `step`, `loss` in nats, and accuracies such as `induction 32`.

    Raises:
        ValueError: no such file, or no row in it.
    """
    path = Path(check_type(path, "path", (str, Path), "the path of a curve.csv"))
    if not os.path.isfile(path):  # also where the name itself is impossible
        raise ValueError(
            f"{shown(str(path), 200)}: no such file: expected the curve.csv that a training of the lab wrote"
        )
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        if not rows:
            raise ValueError("the curve is empty: the training was shorter than its first point")
        found = {name: np.array([float(row[name]) for row in rows]) for name in rows[0]}
        if wrong := [name for name in ("step", "loss") if name not in found]:
            raise ValueError(f"no column {wrong[0]}: expected the curve.csv that a training of the lab wrote")
        if odd := [name for name, values in found.items() if not np.isfinite(values).all()]:
            raise ValueError(f"column {odd[0]} is not finite: train the network again")
        if (found["step"] % 1).any():
            raise ValueError("column step holds fractions: train the network again")
    except (TypeError, csv.Error, OSError) as error:
        raise ValueError(f"{path}: a row that is no row of numbers: train the network again") from error
    except ValueError as error:
        raise ValueError(f"{path}: {error}; expected the curve.csv that a training of the lab wrote") from error
    return found


def curves(names: Iterable[str] = NAMES) -> xr.Dataset:
    """Loss (`loss`, nats) and accuracy of each task by `model`, `seed` and `step`, accuracies by `distance` too.

    What the curves tell of each arm, `position` and whether its layers are all global (`attention`), stands at `model`.

    Raises:
        ValueError: no such arm.
    """
    arms = check_list(names, "names", "arms", example="['lab/gpt2']")
    names = [check_text(name, "name", example="lab/gpt2") for name in arms]
    if twice := [name for at, name in enumerate(names) if name in names[:at]]:
        raise ValueError(f"names hold {shown(twice[0])} twice: expected each once")
    if not names:
        raise ValueError(f"names {shown(names)}: expected at least one arm, such as ['lab/gpt2']")
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
