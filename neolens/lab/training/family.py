"""The whole family: every arm with every seed, trained side by side.

Each training is a task of its own in a process of its own, one thread each, so that the weights do not depend on how
many run at a time; a task that is done is not done again.
"""

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from neolens.checks import check_list, check_text, check_type, check_whole, shown
from neolens.files import writable_folder
from neolens.lab.training.recipe import Recipe
from neolens.lab.training.train import check_device, check_steps, terms_of, train
from neolens.processes import remedy, run_tasks, worker_number

MOST_THREADS = MOST_JOBS = 1024


@dataclass(frozen=True)
class Plan:
    """What all trainings of a family share.

    Raises:
        TypeError, ValueError: an argument that cannot be meant, or a folder that cannot be written to.
    """

    out: Path
    recipe: Recipe
    device: str = "cpu"
    threads: int = 1
    """CPU threads a training; the weights depend on it in the last bits."""
    checkpoints: Collection[int] = ()

    def __post_init__(self) -> None:
        check_whole(self.threads, "threads", 1, MOST_THREADS)
        check_type(self.recipe, "recipe", Recipe, "a neolens.lab.training.recipe.Recipe")
        check_steps(self.checkpoints)
        check_device(self.device)
        writable_folder(self.out)


def train_family(arms: Iterable[str], seeds: Iterable[int], plan: Plan, *, jobs: int = 1) -> Iterator[Path]:
    """Train every arm with every seed, `jobs` at a time, and give each folder when it is done.

    Raises:
        TypeError, ValueError: an unknown arm, a seed below 0, one of them twice or less than one job, before anything
            is trained; or what `train` refuses.
        OSError: `plan.out` cannot be written.
    """
    check_type(plan, "plan", Plan, "a neolens.lab.training.family.Plan")
    tasks = [
        (plan, arm, seed)
        for seed in _each_once(seeds, "seed", check_whole, "[0, 1]")
        for arm in _each_once(arms, "arm", check_text, "['gpt2', 'nope']")
    ]
    for _, arm, seed in tasks:
        terms_of(arm, seed, plan.recipe)
    if check_whole(jobs, "jobs", most=MOST_JOBS) < 1:
        raise ValueError(f"{shown(jobs)} trainings at a time: expected at least 1")
    with remedy(f"trainings are kept in {plan.out} up to the last 50 steps, run the command again to continue"):
        yield from run_tasks(_trained, tasks, jobs)


def _each_once(values: Iterable[Any], what: str, check: Callable[[Any, str], Any], example: str) -> list[Any]:
    """A list without repetitions.

    Raises:
        TypeError, ValueError: something else, or one of them twice.
    """
    found = [check(value, what) for value in check_list(values, f"{what}s", "values", example=example)]
    if twice := [value for at, value in enumerate(found) if value in found[:at]]:
        raise ValueError(f"{what} {shown(twice[0])} is given twice: give it once")
    if not found:
        raise ValueError(f"{what}s []: expected at least one, such as {example}")
    return found


def _trained(plan: Plan, arm: str, seed: int) -> Path:
    torch.set_num_threads(plan.threads)
    return train(
        arm,
        plan.out,
        seed=seed,
        recipe=plan.recipe,
        device=plan.device,
        checkpoints=plan.checkpoints,
        line=worker_number(),
    )
