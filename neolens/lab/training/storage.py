"""Where a training keeps what it has: its state while it runs, a Hugging Face folder when it is done.

Both appear whole or not at all: they are written beside their name and renamed. A training that is not done
has a folder without a `config.json`, which nothing takes for a model. States hold tensors and plain values
only, read back with torch's `weights_only`. A state has a checksum, and a card those of the files beside it.
"""

import csv
import hashlib
import io
import json
import os
import pickle
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel
from transformers.utils import logging as transformers_logging

from neolens import files
from neolens.lab.language.tokenizer import tokenizer

STATE = "state.pt"


class DamagedStateError(ValueError):
    """A training cannot go on from what its folder holds; it can start anew."""


@dataclass
class State:
    """A training after `step` steps: to go on from it gives what never stopping would have given."""

    terms: dict[str, Any]
    """Arm, seed and recipe; only a training on the same terms may go on from here."""
    step: int = 0
    seconds: float = 0.0
    losses: list[float] = field(default_factory=list)
    """Mean loss of every step, in nats a token."""
    curve: list[dict[str, float | int]] = field(default_factory=list)
    """Loss and accuracies at regular steps."""
    model: dict[str, Any] = field(default_factory=dict)
    optimizer: dict[str, Any] = field(default_factory=dict)


def save_state(folder: Path, state: State) -> None:
    """Write the state with a checksum, leaving the old one in place until the new one is complete.

    Raises:
        OSError: the folder cannot be written or the disk is full; the old state stays.
    """

    def write(beside: Path) -> None:
        try:
            torch.save(vars(state), beside)
        except RuntimeError as error:  # torch's writer reports a full disk so
            raise OSError(f"cannot write {STATE}: {str(error).splitlines()[0]}") from error
        beside.write_bytes(files.with_checksum(beside.read_bytes()))

    files.write_whole(folder / STATE, write)


def saved_state(folder: Path, terms: dict[str, Any]) -> State | None:
    """The state that a training in this folder left, or None where there is none.

    Raises:
        DamagedStateError: the state cannot be read.
        ValueError: the state is on other terms.
    """
    path = folder / STATE
    if not path.exists():
        return None
    remedy = f"remove {folder} to start anew, or train into another folder"
    try:
        content, _ = files.checked_content(path)
        state = State(**torch.load(io.BytesIO(content), weights_only=True, map_location="cpu"))
        if not all(isinstance(value, type(getattr(State({}), name))) for name, value in vars(state).items()):
            raise TypeError("a field of another type")
    except files.DamagedFileError as error:
        raise DamagedStateError(f"{path} is not a training state (it is damaged): {remedy}") from error
    except (RuntimeError, TypeError, ValueError, KeyError, EOFError, OSError, pickle.UnpicklingError) as error:
        raise DamagedStateError(f"{path} is not a training state ({type(error).__name__}): {remedy}") from error
    if state.terms != terms:
        changed = sorted(key for key in terms if terms[key] != state.terms.get(key))
        raise ValueError(f"{folder} holds a training with another {', '.join(changed)}: {remedy}")
    return state


def discard(folder: Path) -> None:
    """Remove the state that a training left in this folder, if there is one."""
    shutil.rmtree(folder, ignore_errors=True)


def clear(folder: Path) -> None:
    """Remove all that a folder holds; the folder itself, and a lock on it, stay."""
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def finished(folder: Path, terms: dict[str, Any]) -> bool:
    """Whether the folder holds a network trained on these terms, undamaged.

    Raises:
        ValueError: it holds something else.
    """
    if not folder.exists():
        return False
    try:
        card = files.read_json(folder / "card.json")
    except ValueError:
        card = {}
    if any(card.get(key) != value for key, value in terms.items()):
        raise ValueError(f"{folder} is there already and is not this training: remove it, or train into another folder")
    return damaged_file(folder) is None and all(
        damaged_file(path) is None for path in folder.glob("step*") if path.is_dir()
    )


def damaged_file(folder: Path) -> Path | None:
    """The first file of a shipped network that is not what its card says; None where all are, or the card is of an
    earlier version, which does not say."""
    try:
        sums = files.read_json(folder / "card.json").get("sha256", {})
        for name, expected in sums.items():
            if not (folder / name).is_file() or _sha256(folder / name) != expected:
                return folder / name
    except (ValueError, AttributeError, TypeError):
        return folder / "card.json"
    return None


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def round_to_half(model: PreTrainedModel) -> None:
    """Replace every weight by the nearest half-precision one: what the folder will hold."""
    for parameter in model.parameters():
        parameter.data = parameter.data.half().float()


def ship(
    folder: Path,
    model: PreTrainedModel,
    card: dict[str, Any],
    *,
    curve: list[dict[str, float | int]],
    checkpoints: Path | None,
) -> None:
    """Write a network as an ordinary Hugging Face folder, weights in half precision, with its tokenizer, its card,
    `curve.csv` where there is one, and copies of the checkpoints (`step...`) that lie in another folder.

    Raises:
        OSError: the folder cannot be written; nothing is left behind.
    """
    beside = folder.with_name(f".{folder.name}.new")
    shutil.rmtree(beside, ignore_errors=True)
    try:
        with _no_bars(), files.write_errors(folder):
            halves = {name: value.half() for name, value in model.named_parameters()}  # a tied embedding once
            model.save_pretrained(beside, state_dict=halves)
            tokenizer(model.config.max_position_embeddings).save_pretrained(beside)
            if curve:
                with (beside / "curve.csv").open("w", newline="") as file:
                    writer = csv.DictWriter(file, curve[0])
                    writer.writeheader()
                    writer.writerows(curve)
            sums = {path.name: _sha256(path) for path in sorted(beside.iterdir())}
            (beside / "card.json").write_text(json.dumps(card | {"sha256": sums}, indent=2) + "\n")
            for checkpoint in sorted(checkpoints.glob("step*")) if checkpoints else []:
                shutil.copytree(checkpoint, beside / checkpoint.name)
            _replace(beside, folder)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _replace(beside: Path, folder: Path) -> None:
    """Rename a folder to the name of another, which is removed if there is one."""
    old = folder.with_name(f".{folder.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        os.replace(folder, old)
    os.replace(beside, folder)
    shutil.rmtree(old, ignore_errors=True)


@contextmanager
def _no_bars() -> Iterator[None]:
    bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if bars:
            transformers_logging.enable_progress_bar()
