"""Training checkpoints of a model: from its name to steps, and what loads the network as it was after each.

Seed 0 of three of the lab's arms ships some; a folder may hold some in folders of its own, `step400`, as `neolens lab
train` writes them, or `checkpoint-400`, as Hugging Face's trainer does; Pythia has 154 on the hub (Biderman et al.
2023, arXiv 2304.01373) and Stanford's GPT-2 about 600 per seed (Karamcheti et al. 2021), of which one names some.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from neolens.checks import check_list, check_text, shown
from neolens.models.lab_models import lab_revisions, last_step
from neolens.models.loading import anatomy
from neolens.models.sources import resolve

Checkpoint = tuple[str, str | None]
"""A name and a revision, as `neolens.load` takes them."""

_STEP = re.compile(r"(?:step|checkpoint-)(\d+)")


def checkpoints(name: str, revisions: Sequence[str] | None = None) -> dict[int, Checkpoint]:
    """Training step -> the checkpoint; none for a model that has only been published as trained.

    Args:
        revisions: such as `step1000` or `checkpoint-1000`: these and no others. Without them a model on the hub has
            none, for each is a download of its own.

    Raises:
        ValueError: no such revision of a model that has checkpoints, or one that is not named after a step.
    """
    if revisions is not None:
        revisions = check_list(revisions, "revisions", "names", example="['step1000']")
    for revision in revisions or ():
        step_of(revision)
    source, found = resolve(name), dict[int, Checkpoint]()
    if source.name.startswith("lab/"):
        held = lab_revisions(source.name)
        found = {step_of(revision): (name, revision) for revision in revisions or held} if len(held) > 1 else {}
    elif source.local is not None:
        found = _in_folder(source.local, revisions)
    elif revisions and (source.entry is None or source.entry.has_checkpoints):
        found = {step_of(revision): (name, revision) for revision in revisions}
    for where, at in found.values():
        anatomy(where, revision=at)
    return dict(sorted(found.items()))


def step_of(revision: str) -> int:
    """The training step that a revision is named after.

    Raises:
        ValueError: it is not.
    """
    match = _STEP.fullmatch(check_text(revision, "revision", example="step1000"))
    if match is None or not match[1].isascii() or len(match[1]) > 12:
        raise ValueError(f"revision {shown(revision)}: expected step and a number, such as step1000 or checkpoint-1000")
    return int(match[1])


def _in_folder(folder: Path, revisions: Sequence[str] | None) -> dict[int, Checkpoint]:
    kept = [path.parent for path in folder.glob("*/config.json") if _STEP.fullmatch(path.parent.name)]
    if not kept:
        anatomy(folder)  # without checkpoints it has to be a model itself
    found: dict[int, Checkpoint] = {step_of(path.name): (str(path), None) for path in kept}
    if found and (folder / "card.json").is_file():  # a training of the lab, whose last step is the folder itself
        found[last_step(folder)] = (str(folder), None)
    if not found or not revisions:
        return found
    if missing := [revision for revision in revisions if step_of(revision) not in found]:
        names = {step_of(path.name): path.name for path in kept}
        there = ", ".join(names.get(step, f"step{step}") for step in sorted(found))
        raise ValueError(f"{folder} has no checkpoint {missing[0]!r}: there are {there}")
    return {step_of(revision): found[step_of(revision)] for revision in revisions}
