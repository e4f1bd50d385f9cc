"""What the checks of arguments cost: their share of a sweep of `patch`, `ablate` and `attention`.

    python -m benchmarks.checks [--prompts 8] [--rounds 3]

Bar: less than 1 % of a sweep. A sweep runs under `cProfile`, and the time within checks (everything that a check calls
included) is divided by that of the whole. Profiling slows Python code and leaves products of matrices as they are, so
the share is an upper bound. Models: the smallest of the lab, and GPT-2 small's shape with random weights.
"""

from __future__ import annotations

import cProfile
import pstats
import re
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

import neolens
from benchmarks.common import random_folder, report
from neolens.prompts import random_repeats

CHECKS = re.compile(r"_?check_(?!unchanged)\w+|_?checked\w*|validated|_?refuse_\w+|asked|predictions|several_metrics")
"""Names of functions in neolens that read arguments and run no model; `check_unchanged` reads the model's weights."""

BAR = 0.01


def share_of_checks(run: Callable[[], Any]) -> float:
    """The share of the time of `run` within checks, those that other checks call counted once."""
    profile = cProfile.Profile()
    profile.runcall(run)
    stats: dict[Any, Any] = pstats.Stats(profile).stats  # type: ignore[attr-defined]
    within = 0.0
    for function, (*_, callers) in stats.items():
        if _is_check(function):
            within += sum(times[3] for caller, times in callers.items() if not _is_check(caller))
    return within / sum(own for _, _, own, *_ in stats.values())


def sweeps(model: Any, prompts: int) -> dict[str, Callable[[], Any]]:
    """The three sweeps, on prompts of 17 tokens."""
    tokens = random_repeats(model, 8, prompts=prompts, prepend_bos=False)
    corrupted = tokens.clone()
    corrupted[:, 4] = tokens[:, 5]
    pairs = neolens.PromptPairs.from_tokens(tokens, corrupted, tokens[:, 9], tokens[:, 10])
    quiet: Any = {"progress": False}
    return {
        "patch resid_pre": lambda: neolens.patch(model, pairs, "resid_pre", **quiet),
        "ablate each head": lambda: neolens.ablate(model, tokens, neolens.each_head(model), **quiet),
        "attention": lambda: neolens.attention(model, tokens),
    }


def main(
    prompts: Annotated[int, typer.Option(help="prompts of 17 tokens")] = 8,
    rounds: Annotated[int, typer.Option(help="rounds, of which the median is taken")] = 3,
) -> None:
    """Print the share of the checks in each sweep; exit code 1 if one of GPT-2 small reaches the bar."""
    torch.manual_seed(0)
    rows, shares = [], []
    with tempfile.TemporaryDirectory() as folder:
        small = neolens.load("lab/gpt2")
        for name, model in (
            ("lab/gpt2", small),
            ("gpt2", neolens.load(str(random_folder("gpt2", Path(folder) / "gpt2")))),
        ):
            for what, run in sweeps(model, prompts).items():
                run()
                share = statistics.median(share_of_checks(run) for _ in range(rounds))
                shares += [share] * (name == "gpt2")
                rows.append((f"{name}, {what}", f"{share:.2%}", f"below {BAR:.0%}" if name == "gpt2" else ""))
    report("checks of arguments, share of a sweep", rows)
    raise typer.Exit(int(max(shares) >= BAR))


def _is_check(function: tuple[str, int, str]) -> bool:
    file, _, name = function
    return "neolens" in file and CHECKS.fullmatch(name) is not None


if __name__ == "__main__":
    typer.run(main)
