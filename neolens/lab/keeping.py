"""Where a training keeps what it has: its state while it runs, a Hugging Face folder when it is done.

Both appear whole or not at all: they are written beside their name and renamed. A training that is not done
has a folder without a `config.json`, which nothing takes for a model. States hold tensors and plain values
only, read back with torch's `weights_only`.
"""

import csv
import json
import os
import pickle
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel
from transformers.utils import logging as transformers_logging

from neolens.lab.tokenizer import tokenizer

STATE = "state.pt"


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
    """Write the state, leaving the old one in place until the new one is complete.

    Raises:
        OSError: the folder cannot be written or the disk is full; the old state stays.
    """
    folder.mkdir(parents=True, exist_ok=True)
    beside = folder / f"{STATE}.new"
    try:
        torch.save(vars(state), beside)
        os.replace(beside, folder / STATE)
    except RuntimeError as error:  # torch's writer reports a full disk so
        raise OSError(f"cannot write {folder / STATE}: {error}") from error
    finally:
        beside.unlink(missing_ok=True)


def saved_state(folder: Path, terms: dict[str, Any]) -> State | None:
    """The state that a training in this folder left, or None where there is none.

    Raises:
        ValueError: the state is on other terms, or cannot be read.
    """
    path = folder / STATE
    if not path.exists():
        return None
    remedy = f"remove {folder} to start anew, or train into another folder"
    try:
        state = State(**torch.load(path, weights_only=True, map_location="cpu"))
    except (RuntimeError, TypeError, EOFError, pickle.UnpicklingError) as error:
        raise ValueError(f"{path} is not a training state ({type(error).__name__}): {remedy}") from error
    if state.terms != terms:
        changed = sorted(key for key in terms if terms[key] != state.terms.get(key))
        raise ValueError(f"{folder} holds a training with another {', '.join(changed)}: {remedy}")
    return state


def discard(folder: Path) -> None:
    """Remove the state that a training left in this folder, if there is one."""
    shutil.rmtree(folder, ignore_errors=True)


def finished(folder: Path, terms: dict[str, Any]) -> bool:
    """Whether the folder holds a network trained on these terms.

    Raises:
        ValueError: it holds something else.
    """
    if not folder.exists():
        return False
    try:
        card = json.loads((folder / "card.json").read_text())
    except (OSError, json.JSONDecodeError):
        card = {}
    if any(card.get(key) != value for key, value in terms.items()):
        raise ValueError(f"{folder} is there already and is not this training: remove it, or train into another folder")
    return True


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
    bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        halves = {name: value.half() for name, value in model.named_parameters()}  # a tied embedding once
        model.save_pretrained(beside, state_dict=halves)
        tokenizer(model.config.max_position_embeddings).save_pretrained(beside)
        (beside / "card.json").write_text(json.dumps(card, indent=2) + "\n")
        if curve:
            with (beside / "curve.csv").open("w", newline="") as file:
                writer = csv.DictWriter(file, curve[0])
                writer.writeheader()
                writer.writerows(curve)
        for checkpoint in sorted(checkpoints.glob("step*")) if checkpoints else []:
            shutil.copytree(checkpoint, beside / checkpoint.name)
        os.replace(beside, folder)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
        if bars:
            transformers_logging.enable_progress_bar()
