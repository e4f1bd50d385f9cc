"""What half precision costs: some of the patches again in float32, beside what half precision said of them."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from neolens.network import cast, weights_of
from neolens.patching.replayed import replayed
from neolens.patching.sweep import Sweep

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16, "float64": torch.float64}
HALF = (torch.bfloat16, torch.float16)

SAMPLE = 8
"""Patches a layer that are run again, of those whose two runs differ at some patched position."""


def rounding(model: Any, dtype: torch.dtype, sweep: Sweep, patched: np.ndarray, *, max_memory: int) -> dict[str, Any]:
    """Nothing in single or double precision; in half precision, for a sample of the patches drawn once: `error`, each
    metric's largest difference from float32 in its unit, `error_of_range`, that as a share of the metric's range over
    the sweep (both JSON), and `error_cells`, how many patches were run again."""
    if dtype not in HALF:
        return {}
    live = [
        (prompt, head, column)
        for prompt, differs in enumerate(sweep.pairs.first_difference.tolist())
        for column, (_, last) in enumerate(sweep.stretches(prompt))
        if last > differs
        for head in range(patched.shape[2])
    ]
    if not live:
        return {"error": json.dumps({}), "error_of_range": json.dumps({}), "error_cells": 0}
    chosen = [live[number] for number in np.random.default_rng(0).permutation(len(live))[:SAMPLE]]
    prompts = sorted({prompt for prompt, _, _ in chosen})
    some, before = replace(sweep, pairs=sweep.pairs[prompts]), patched[prompts]
    only = np.zeros((len(prompts), *patched.shape[2:4]), dtype=bool)
    for prompt, head, column in chosen:
        only[prompts.index(prompt), head, column] = True
    weights, exact = cast(weights_of(model), torch.float32), np.full_like(before, np.nan)
    baselines = {run: np.zeros((len(prompts), len(sweep.metrics)), np.float32) for run in ("clean", "corrupted")}
    replayed(weights, some, exact, baselines, max_memory=max_memory, only=only)
    differences = np.abs(exact - before).transpose(0, 2, 3, 1, 4)[only].reshape(-1, len(sweep.metrics))
    names, errors = [metric.name for metric in sweep.metrics], differences.max(axis=0)
    ranges = np.nanmax(patched, axis=(0, 1, 2, 3)) - np.nanmin(patched, axis=(0, 1, 2, 3))
    shares = np.divide(errors, ranges, out=np.full_like(errors, np.nan), where=ranges > 0)
    return {
        "error": json.dumps(dict(zip(names, errors.tolist()))),
        "error_of_range": json.dumps(dict(zip(names, shares.tolist()))),
        "error_cells": len(differences),
    }
