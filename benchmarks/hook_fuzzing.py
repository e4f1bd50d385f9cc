"""Random hooks on the tiny models of the tests, judged by an independent forward pass: see tests/hook_fuzzing.py.

    python -m benchmarks.hook_fuzzing [--edits 10000] [--seed 0]

Prints how many cases are right, rightly refused and wrong, what the edits were, and the smallest case of each kind of
error. Bar: none is wrong; otherwise the exit code is 1. 10,000 edits are about 4,000 cases, one to two minutes on one
core.
"""

from __future__ import annotations

import itertools
import re
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import torch
import typer

import neolens

# The judge and its models belong to the tests, which are no package.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
import hook_fuzzing
import tiny

SEEDS_BETWEEN_RUNS = 10_000_000
EDIT_PROPERTIES = ("family", "switch on", "switch flipped", "kind", "form", "added by", "chosen by", "run by")


def subjects() -> dict[str, Any]:
    """Every tiny model, loaded by neolens."""
    models = {}
    for family in tiny.NAMES:
        with tempfile.TemporaryDirectory() as folder:
            tiny.model(family).save_pretrained(folder)
            models[family] = hook_fuzzing.Subject.of(family, neolens.load(folder, device="cpu"))
    return models


def count_edits(case: Any, counts: dict[str, Counter[str]]) -> None:
    """Count the edits of a case by switch and by every way of editing."""
    gradients = "with gradients" if case.gradients else "without gradients"
    for edit in case.edits:
        counts["family"][case.family] += 1
        counts["switch on"].update(case.final_switches or ["none"])
        counts["switch flipped"][case.flip or "none"] += 1
        counts["kind"][edit.kind] += 1
        counts["form"][edit.form] += 1
        counts["added by"][edit.way] += 1
        counts["chosen by"][edit.target] += 1
        counts["run by"][f"{case.run}, {gradients}"] += 1


def error_of(case: Any, reason: str) -> str:
    """The kind of error of a wrong case, the same for every layer and number."""
    reason = re.sub(r"(too many|missing|too many calls|calls missing) [\[{].+?[\]}]", r"\1 [...]", reason)
    reason = re.sub(r"off by .*", "off", re.sub(r"blocks\.-?\d+", "blocks.N", reason))
    points = ", ".join(sorted({hook_fuzzing.in_any_layer(hook_fuzzing.point_of(edit.name)) for edit in case.edits}))
    switches = ", ".join(sorted(case.switches)) + (f", then {case.flip} flipped" if case.flip else "")
    return f"{points} ({switches or 'no switch'}): {reason[:160]}"


def report_edits(cases: list[Any]) -> None:
    """Print the number of edits by switch and by every way of editing."""
    counts: dict[str, Counter[str]] = {what: Counter() for what in EDIT_PROPERTIES}
    for case in cases:
        count_edits(case, counts)
    for what, counter in counts.items():
        print(f"\nedits by {what}")
        for name, count in counter.most_common():
            print(f"  {count:7,}  {name}")


def report_wrong(models: dict[str, Any], wrong: list[tuple[int, Any, Any]]) -> None:
    """Print the kinds of error, how many cases have each, and the smallest form of the first."""
    first: dict[str, str] = {}
    errors: Counter[str] = Counter()
    for seed, case, verdict in wrong:
        smallest = hook_fuzzing.shrink(models[case.family], case)
        error = error_of(smallest, hook_fuzzing.judge(models[case.family], smallest).reason or verdict.reason)
        errors[error] += 1
        first.setdefault(error, f"seed {seed}: {smallest}")
    print("\nwrong cases by error")
    for error, count in errors.most_common():
        print(f"  {count:7,}  {error}\n           {first[error]}")


def main(edits: int = 10_000, seed: int = 0) -> None:
    """Judge random edits of hooks."""
    torch.set_num_threads(1)
    models, judged, done, began = subjects(), [], 0, time.perf_counter()
    for result in hook_fuzzing.judge_all(models, itertools.count(seed * SEEDS_BETWEEN_RUNS)):
        judged.append(result)
        done += len(result[1].edits)
        if done >= edits:
            break
    print(f"{done:,} edits in {len(judged):,} cases, seed {seed}, {time.perf_counter() - began:.0f} s")
    outcomes = Counter(verdict.outcome for _, _, verdict in judged)
    for outcome in ("right", "refused", "wrong"):
        print(f"  {outcomes[outcome]:7,}  {outcome}")
    report_edits([case for _, case, _ in judged])
    if outcomes["wrong"]:
        report_wrong(models, [result for result in judged if result[2].outcome == "wrong"])
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
