"""Small trained networks that differ in one thing only, shipped with the package.

A language of about two hundred English words (`language`), six variants of ordinary Hugging Face networks (`variants`)
trained on it with three seeds each: same texts, same order, same size, same starting values (`training`). Training
checkpoints of three of them, and what they can do (`evaluation`). The commands: `neolens lab train`, `neolens lab
check`.
"""

from pathlib import Path

from neolens.checks import check_text
from neolens.models.lab_models import lab_folder

__all__ = ["NAMES", "SEEDS", "folder"]

NAMES = ("lab/gpt2", "lab/gpt-neo", "lab/gpt-neo-global", "lab/pythia", "lab/pythia-sequential", "lab/nope")
"""The arms that are shipped; each name stands for seed 0."""

SEEDS = (0, 1, 2)
"""The seeds of each arm: `lab/gpt-neo@1`."""


def folder(name: str, revision: str | None = None) -> Path:
    """The Hugging Face folder of a shipped network, named `lab/gpt2`, `lab/gpt2@1` or `gpt2`, in any case.

    Raises:
        TypeError, ValueError: no such network, seed or revision; the message names the nearest.
    """
    check_text(name, "name", example="lab/gpt-neo")
    if revision is not None:
        check_text(revision, "revision", example="step400")
    return lab_folder(f"lab/{name.lower().removeprefix('lab/')}", revision)[1]
