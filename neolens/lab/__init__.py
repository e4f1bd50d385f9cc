"""Small trained networks that differ in one thing only, shipped with the package.

A language of 126 English words, three ordinary Hugging Face networks trained on it (same texts, same order,
same size, same starting values), and the script that trains them: `python -m neolens.lab.training`. In the
order of the data: `words`, `language`, `tokenizer`; `arms`, `start`; `recipe`, `training`, `keeping`;
`competence`.
"""

from difflib import get_close_matches
from pathlib import Path

__all__ = ["NAMES", "folder"]

NAMES = ("lab/gpt2", "lab/gpt-neo", "lab/pythia")
"""The networks that are shipped."""

WEIGHTS = Path(__file__).parent / "weights"


def folder(name: str) -> Path:
    """The Hugging Face folder of a shipped network, named `lab/gpt2` or `gpt2`, in any case.

    Raises:
        ValueError: no such network; the message names the nearest.
    """
    arm = name.lower().removeprefix("lab/")
    if f"lab/{arm}" in NAMES:
        return WEIGHTS / arm
    near = get_close_matches(arm, [known.removeprefix("lab/") for known in NAMES], cutoff=0.5)
    hint = f"did you mean {' or '.join(f'lab/{close}' for close in near)}?" if near else f"there are {', '.join(NAMES)}"
    raise ValueError(f"no lab model {name!r}: {hint}")
