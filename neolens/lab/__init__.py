"""Small trained networks that differ in one thing only, shipped with the package.

A language of 126 English words, three ordinary Hugging Face networks trained on it (same texts, same order,
same size, same starting values), and the script that trains them: `python -m neolens.lab.training`. In the
order of the data: `words`, `language`, `tokenizer`; `arms`, `start`; `recipe`, `training`, `keeping`;
`competence`.
"""

from pathlib import Path

from neolens.models.folders import resolve

__all__ = ["NAMES", "folder"]

NAMES = ("lab/gpt2", "lab/gpt-neo", "lab/pythia")
"""The networks that are shipped."""


def folder(name: str) -> Path:
    """The Hugging Face folder of a shipped network, named `lab/gpt2` or `gpt2`, in any case.

    Raises:
        ValueError: no such network; the message names the nearest.
    """
    local = resolve(f"lab/{name.lower().removeprefix('lab/')}").local
    assert local is not None
    return local
