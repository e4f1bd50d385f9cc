"""Small models side by side: one process per core, one thread in each."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import Any

import torch
from threadpoolctl import threadpool_limits


def one_thread() -> None:
    """One thread for torch and for numpy: on tensors this small a second one, waiting for a core, doubles the time."""
    torch.set_num_threads(1)
    threadpool_limits(1)


def cores() -> int:
    """Cores that this process may use; all of the machine's where the system does not say."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run_tasks(do: Callable[..., Any], tasks: Sequence[tuple[Any, ...]], processes: int) -> Iterator[Any]:
    """What each task returns, in the order in which they end: in this process where `processes` is 1, else in as many
    new ones, each with one thread.

    Args:
        do: a function of a module, so that other processes can import it.
        tasks: its arguments, which are pickled.
    """
    processes = min(len(tasks), processes)
    if processes < 2:
        yield from (do(*task) for task in tasks)
        return
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, spawn, initializer=one_thread) as pool:
        waiting = [pool.submit(do, *task) for task in tasks]
        try:
            for done in as_completed(waiting):
                yield done.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
