"""The lab models in the package: from a name, a seed and a training step to a folder.

`lab/gpt-neo` is seed 0 of the arm `gpt-neo`, `lab/gpt-neo@1` another seed, and the revision `step400` the same network
after 400 steps, where checkpoints are shipped.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from neolens.checks import check_text, check_whole, did_you_mean, shown
from neolens.files import read_json

LAB_FOLDER = Path(__file__).resolve().parent.parent / "lab" / "weights"


def lab_names() -> list[str]:
    """The arms shipped in the package, such as `lab/gpt-neo`; each name stands for seed 0."""
    return sorted({f"lab/{path.parent.name.split('@')[0]}" for path in LAB_FOLDER.glob("[!.]*@*/config.json")})


def lab_seeds(name: str) -> list[str]:
    """The seeds of an arm as names, such as `lab/gpt-neo`, `lab/gpt-neo@1`, `lab/gpt-neo@2`.

    Raises:
        ValueError: no such arm or seed; the message names the nearest.
    """
    lab_folder(name)
    return _seeds(_arm(name))


def _seeds(arm: str) -> list[str]:
    seeds = sorted(int(path.parent.name.split("@")[1]) for path in LAB_FOLDER.glob(f"{arm}@*/config.json"))
    return [f"lab/{arm}@{seed}" if seed else f"lab/{arm}" for seed in seeds]


def lab_revisions(name: str) -> list[str]:
    """The training steps of a lab model that are shipped, in order; the last is the model itself.

    Raises:
        ValueError: no such model.
    """
    folder = lab_folder(name)[1]
    kept = sorted(int(path.parent.name.removeprefix("step")) for path in folder.glob("step*/config.json"))
    return [f"step{step}" for step in [*kept, last_step(folder)]]


def card_part(folder: Path, *keys: str) -> Any:
    """What the card of a training has under these keys, one within the other.

    Raises:
        ValueError: no card, a damaged one, or one that does not have it.
    """
    path = folder / "card.json"
    value: Any = read_json(path, "the card of a training; train the network anew")
    for key in keys:
        if not isinstance(value, dict) or key not in value:
            raise ValueError(f"{path} has no {'.'.join(keys)}: expected the card of a training; train the network anew")
        value = value[key]
    return value


def last_step(folder: Path) -> int:
    """The number of steps of a training that has ended, from its card."""
    what = f"{folder / 'card.json'}: recipe.steps"
    return check_whole(card_part(folder, "recipe", "steps"), what, 0, remedy="train the network anew")


def lab_folder(name: str, revision: str | None = None) -> tuple[str, Path]:
    """The name and the folder of a lab model, named `lab/gpt-neo@1` in any case; seed 0 has no number in its name.

    Raises:
        ValueError: no such arm, seed or revision; the message says which there are.
    """
    arm = _arm(name)
    seeds = _seeds(arm)
    seed = name.partition("@")[2].strip() if "@" in name else "0"
    canonical = f"lab/{arm}" if seed == "0" else f"lab/{arm}@{seed}"
    if canonical not in seeds and seed.startswith("step"):
        raise ValueError(f"{name!r}: a training step is a revision: load lab/{arm} with revision={seed!r}")
    if canonical not in seeds:
        raise ValueError(f"lab/{arm} has no seed {shown(seed)}: there are {', '.join(seeds)}")
    folder = LAB_FOLDER / f"{arm}@{seed}"
    if revision is None:
        return canonical, folder
    revisions = lab_revisions(canonical)
    if revision not in revisions:
        raise ValueError(
            f"{canonical} has no revision {shown(revision)}: {_nearest(str(revision), revisions)}"
            f"{_what_there_is(canonical, revisions)}"
        )
    return canonical, folder if revision == revisions[-1] else folder / revision


def _arm(name: str) -> str:
    check_text(name, "lab model", example="lab/gpt-neo")
    names, arm = lab_names(), name.strip().lower().partition("@")[0]
    if arm not in names:
        raise ValueError(f"no lab model {shown(name)}: {did_you_mean(arm, names)}there are {', '.join(names)}")
    return arm.removeprefix("lab/")


def _nearest(revision: str, revisions: list[str]) -> str:
    """A phrase with the training step next to the one asked for; empty where none was or there is no choice."""
    digits = revision.lower().removeprefix("step").strip(" _-")
    if not digits.isdecimal() or len(revisions) == 1:
        return ""
    nearest = min(revisions, key=lambda name: abs(int(name.removeprefix("step")) - int(digits)))
    return f"did you mean {nearest}? "


def _what_there_is(name: str, revisions: list[str]) -> str:
    if len(revisions) > 1:
        return f"there are {', '.join(revisions)}"
    others = [arm for arm in lab_names() if len(lab_revisions(arm)) > 1]
    return f"it is shipped as trained ({revisions[0]}); {', '.join(others)} have checkpoints"
