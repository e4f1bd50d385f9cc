"""How a sweep grows with its prompts, their length and the layers, and whether it keeps within its memory."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch

import neolens
from benchmarks.common import alternating, matrix_rate, median_ratio, peak_memory, random_folder
from benchmarks.patching.beside import random_pairs
from neolens import PromptPairs


def prompts(folder: str, many: int, length: int, rounds: int) -> Iterator[dict[str, Any]]:
    """`z`, every layer, head and position: all prompts in one call beside one call each."""
    model = neolens.load(folder, device="cpu")
    pairs = random_pairs(model.anatomy, length, 1, prompts=many)
    found: dict[str, Any] = {}

    def together() -> None:
        found["together"] = neolens.patch(model, pairs, "z", progress=False)

    def apart() -> None:
        found["apart"] = [neolens.patch(model, pairs[[at]], "z", progress=False) for at in range(many)]

    neolens.patch(model, pairs[:1], "z", progress=False)
    seconds = alternating({"together": together, "apart": apart}, rounds, warm=False)
    rate = matrix_rate()
    together_s = statistics.median(seconds["together"])
    one = torch.stack([torch.from_numpy(its.patched.values[0]) for its in found["apart"]])
    whole = torch.from_numpy(found["together"].patched.values)
    yield {
        "prompts": many,
        "one call, seconds a prompt": together_s / many,
        "one call each, seconds a prompt": statistics.median(seconds["apart"]) / many,
        "seconds together / apart (bar: at most 1)": median_ratio(seconds, "together", "apart"),
        "share of the matrix rate (bar: 0.6)": found["together"].attrs["arithmetic"] / together_s / rate,
        "largest difference / range": float((one - whole).abs().max() / (whole.max() - whole.min())),
    }


def memory(folder: str, many: int, length: int, budgets: list[int]) -> Iterator[dict[str, Any]]:
    """The most that memory grows over the loaded model while a sweep of some heads of many prompts runs, by budget."""
    model = neolens.load(folder, device="cpu")
    pairs = random_pairs(model.anatomy, length, 1, prompts=many)
    neolens.patch(model, pairs[:1], "z", heads=[0], progress=False)  # what the first call keeps is not the sweep's
    for budget in budgets:
        sweep = partial(neolens.patch, model, pairs, "z", heads=[0], max_memory=budget, progress=False)
        used = peak_memory(sweep)
        yield {"prompts": many, "tokens": length, "budget, GB": budget / 1e9, "most used, GB (bar: the budget)": used}


def lengths(folder: str, tokens: list[int], rounds: int) -> Iterator[dict[str, Any]]:
    """`z` of every head of every layer at the second position, which changes the whole prompt, by its length."""
    model = neolens.load(folder, device="cpu")
    for length in tokens:
        pairs = random_pairs(model.anatomy, length, 1)
        pairs = PromptPairs.from_tokens(pairs.clean, pairs.corrupted, pairs.answers, pairs.distractors, {"second": [1]})
        yield {"tokens": length} | _timed(model, pairs, rounds, positions=["second"])


def layers(depths: list[int], rounds: int) -> Iterator[dict[str, Any]]:
    """`z` of every head at every position of 16 tokens, in GPT-2 small's width, by the number of layers."""
    for depth in depths:
        with tempfile.TemporaryDirectory() as temporary:
            folder = random_folder("gpt2", Path(temporary) / "model", spread=1.0, n_layer=depth)
            model = neolens.load(folder, device="cpu")
        yield {"layers": depth} | _timed(model, random_pairs(model.anatomy, 16, 1), rounds, positions="each")


def _timed(model: Any, pairs: PromptPairs, rounds: int, **asked: Any) -> dict[str, Any]:
    results = []
    sweep = partial(neolens.patch, model, pairs, "z", progress=False, **asked)
    seconds = alternating({"sweep": lambda: results.append(sweep())}, rounds)
    needed, taken = results[-1].attrs["arithmetic"], statistics.median(seconds["sweep"])
    return {
        "patches": results[-1].patched.size,
        "seconds": taken,
        "TFLOP needed": needed / 1e12,
        "share of the matrix rate": needed / taken / matrix_rate(),
    }
