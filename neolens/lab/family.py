"""The whole family: every arm with every seed, trained side by side.

Each training is a task of its own in a process of its own, one thread each, so that the weights do not depend on how
many run at a time; a task that is done is not done again.
"""

import signal
from collections.abc import Collection, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from multiprocessing.queues import Queue
from pathlib import Path

import torch

from neolens.lab.recipe import Recipe
from neolens.lab.training import terms_of, train

_line = 0


@dataclass(frozen=True)
class Plan:
    """What all trainings of a family share."""

    out: Path
    recipe: Recipe
    device: str = "cpu"
    threads: int = 1
    """CPU threads a training; the weights depend on it in the last bits."""
    checkpoints: Collection[int] = ()


def train_family(arms: Iterable[str], seeds: Iterable[int], plan: Plan, *, jobs: int = 1) -> Iterator[Path]:
    """Train every arm with every seed, `jobs` at a time, and give each folder when it is done.

    Raises:
        ValueError: an unknown arm, a seed below 0 or less than one job, before anything is trained; or what `train`
            refuses.
        OSError: `plan.out` cannot be written.
    """
    tasks = [(arm, seed) for seed in seeds for arm in arms]
    for arm, seed in tasks:
        terms_of(arm, seed, plan.recipe)
    if jobs < 1:
        raise ValueError(f"{jobs} trainings at a time: expected at least 1")
    if jobs == 1 or len(tasks) == 1:
        yield from (_trained(plan, *task) for task in tasks)
        return
    context = get_context("spawn")
    lines = context.Queue()
    for line in range(jobs):
        lines.put(line)
    with ProcessPoolExecutor(jobs, mp_context=context, initializer=_take_line, initargs=(lines,)) as pool:
        running = [pool.submit(partial(_trained, plan), *task) for task in tasks]
        try:
            for done in as_completed(running):
                yield done.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _take_line(lines: "Queue[int]") -> None:
    """In a process of its own: end at Ctrl-C without a word, and take a line of the terminal for the progress bar."""
    global _line
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    _line = lines.get()


def _trained(plan: Plan, arm: str, seed: int) -> Path:
    torch.set_num_threads(plan.threads)
    return train(
        arm,
        plan.out,
        seed=seed,
        recipe=plan.recipe,
        device=plan.device,
        checkpoints=plan.checkpoints,
        line=_line,
    )
