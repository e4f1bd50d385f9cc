"""What the arms can do, over their seeds: the competence table of `neolens lab check`."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from tqdm.auto import tqdm
from transformers import AutoConfig

from neolens.checks import check_bool, check_list, check_number, check_text, check_type, check_whole
from neolens.lab import NAMES, folder
from neolens.lab.evaluation.competence import REACHES, by_distance, by_reach
from neolens.lab.language.planted import TASKS, check_prompts
from neolens.lab.language.words import VOCABULARY
from neolens.models import anatomy, lab_seeds
from neolens.models.describe import as_text
from neolens.models.lab_models import card_part
from neolens.models.sources import resolve
from neolens.models.weights import read_model
from neolens.processes import run_tasks

Accuracies = Mapping[str, Mapping[str, Sequence[float]]]
"""Task -> `inside`, `beyond`, `unseen` -> accuracy of each seed."""


MOST_PROCESSES = 1024


def spread(
    names: Iterable[str] | None = None, *, prompts: int = 64, seed: int = 0, processes: int = 1, progress: bool = False
) -> dict[str, Accuracies]:
    """Arm (or folder) -> accuracies on fresh prompts, of each of its seeds.

    Args:
        names: arms, which stand for all their seeds, single models (`lab/gpt-neo@1`) or folders; all arms by default.
        processes: networks at a time, each but a single one in a process of its own with one thread.
        progress: show how many networks are done, and the time left, on standard error.

    Raises:
        ValueError: no such model, one that does not speak the lab's language, or fewer than one prompt.
    """
    prompts, progress = check_prompts(prompts), check_bool(progress, "progress")
    seed, processes = check_whole(seed, "seed", 0), check_whole(processes, "processes", 1, MOST_PROCESSES)
    given = NAMES if names is None else check_list(names, "names", "lab names or folders", example="['lab/gpt2']")
    groups = {name: _members(check_text(name, "name", example="lab/gpt2")) for name in given or NAMES}
    networks = list(dict.fromkeys(member for members in groups.values() for member in members))
    for member in networks:
        if anatomy(member).d_vocab != len(VOCABULARY):
            raise ValueError(
                f"{member} has {anatomy(member).d_vocab} tokens, the lab's language {len(VOCABULARY)}: "
                "give a lab model or a folder that `neolens lab train` wrote"
            )
    done = run_tasks(_reached, [(member, prompts, seed) for member in networks], processes)
    reached = dict(
        tqdm(done, "networks", len(networks), leave=False, unit="network", disable=None if progress else True)
    )
    return {name: _of_seeds([reached[member] for member in members]) for name, members in groups.items()}


def _members(name: str) -> list[str]:
    is_arm = name.lower().startswith("lab/") and "@" not in name
    return lab_seeds(name) if is_arm else [name]


def _reached(name: str, prompts: int, seed: int) -> tuple[str, dict[str, dict[str, float]]]:
    source = resolve(name)
    config = AutoConfig.from_pretrained(source.folder, local_files_only=True)
    model = read_model(source.folder, config, torch.float32, source.name)
    if config.model_type != "gpt_neo":  # whose attention has one implementation only
        model.set_attn_implementation("sdpa")
    return name, by_reach(by_distance(model, prompts=prompts, seed=seed))


def shipped() -> dict[str, Accuracies]:
    """Arm -> accuracies of each of its seeds, as the cards of the shipped networks tell them."""
    return {name: _of_seeds([_told_by_card(folder(seed)) for seed in lab_seeds(name)]) for name in NAMES}


def _told_by_card(network: Path) -> dict[str, dict[str, float]]:
    """The accuracies on a network's card.

    Raises:
        ValueError: a card that is damaged, or has none.
    """
    found = card_part(network, "competence", "reach")
    try:
        return {
            task: {reach: check_number(value, reach, 0, 1) for reach, value in found[task].items()} for task in TASKS
        }
    except (TypeError, KeyError, AttributeError, ValueError):
        raise ValueError(
            f"{network / 'card.json'}: competence.reach holds something else than accuracies: expected the card of a "
            "training; train the network anew"
        ) from None


def _of_seeds(found: list[dict[str, dict[str, float]]]) -> Accuracies:
    return {
        task: {name: [one[task][name] for one in found] for name in REACHES if name in found[0][task]}
        for task in found[0]
    }


def rows(found: Mapping[str, Accuracies]) -> list[list[str]]:
    """A row for each arm and task: arm, task, and for each reach `mean (lowest to highest)`."""
    expected = "what neolens.lab.evaluation.spread.spread returns"
    for name, accuracies in check_type(found, "found", Mapping, expected).items():
        check_text(name, "name in found", example="lab/gpt2")
        for task in TASKS:
            reaches = check_type(accuracies, f"found[{name!r}]", Mapping, expected).get(task)
            for reach, values in check_type(reaches, f"found[{name!r}][{task!r}]", Mapping, expected).items():
                for value in check_list(values, f"{task} {reach}", "accuracies"):
                    check_number(value, f"{task} {reach}", 0, 1)
    return [
        [name, task.replace("_", " "), *(_cell(accuracies[task].get(reach, ())) for reach in REACHES)]
        for name, accuracies in found.items()
        for task in TASKS
    ]


def _cell(values: Sequence[float]) -> str:
    if not values:
        return ""
    mean = f"{np.mean(values):.2f}"
    return mean if len(values) == 1 else f"{mean} ({min(values):.2f} to {max(values):.2f})"


def table(found: Mapping[str, Accuracies]) -> str:
    """The rows as text with a head."""
    return as_text(["arm", "task", *REACHES], rows(found))
