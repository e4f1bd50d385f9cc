"""What the benchmarks share: a model of true shape with random weights, alternating timings, peak memory."""

from __future__ import annotations

import gc
import statistics
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import psutil
import torch

from neolens.models.catalogue import find
from neolens.models.supported import supported_config


def random_folder(name: str, folder: Path, *, spread: float = 2.5, **config: Any) -> Path:
    """A Hugging Face folder with the true shape of a catalogue model and random weights, without a tokenizer.

    `spread` multiplies the weight matrices, so that attention is not uniform; `config` replaces some of its fields.
    """
    from transformers import AutoModelForCausalLM

    entry = find(name)
    if entry is None:
        raise ValueError(f"no catalogue model {name!r}: see `neolens models`")
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(supported_config({**entry.config, **config}, name))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(spread)
            else:
                parameter.add_(0.1 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    return folder


def alternating(runs: Mapping[str, Callable[[], Any]], rounds: int, *, warm: bool = True) -> dict[str, list[float]]:
    """Seconds of each run in each round; the runs take turns, after one round that is not counted (`warm`)."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for counted in range(-1 if warm else 0, rounds):
        for name, run in runs.items():
            gc.collect()
            began = time.perf_counter()
            run()
            if counted >= 0:
                seconds[name].append(time.perf_counter() - began)
    return seconds


def median_ratio(seconds: Mapping[str, list[float]], name: str, other: str) -> float:
    """The median over the rounds of `name`'s seconds over `other`'s of the same round."""
    return statistics.median(a / b for a, b in zip(seconds[name], seconds[other], strict=True))


def peak_memory(run: Callable[[], Any]) -> float:
    """The most that the process's resident memory grows over its start while `run` runs, in GB (10**9 bytes)."""
    process, done = psutil.Process(), threading.Event()
    gc.collect()
    start = peak = process.memory_info().rss

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.002):
            peak = max(peak, process.memory_info().rss)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        run()
    finally:
        done.set()
        watcher.join()
    return (max(peak, process.memory_info().rss) - start) / 1e9


def report(title: str, rows: list[tuple[str, str, str]]) -> None:
    """Print a table of what, figure and bar."""
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    print(f"\n{title} ({torch.get_num_threads()} threads, torch {torch.__version__})")
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def matrix_rate(device: str = "cpu", rounds: int = 30) -> float:
    """Floating-point operations a second in a product of [2048, 768] and [768, 3072] in fp32, median of the rounds."""
    a, b = torch.randn(2048, 768, device=device), torch.randn(768, 3072, device=device)
    seconds = []
    for _ in range(rounds):
        settle(device)
        began = time.perf_counter()
        torch.mm(a, b)
        settle(device)
        seconds.append(time.perf_counter() - began)
    return 2 * 2048 * 768 * 3072 / statistics.median(seconds)


def settle(device: str) -> None:
    """Wait until a GPU has done what it was given."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize()
