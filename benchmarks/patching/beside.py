"""`neolens.patch` beside TransformerLens's and nnsight's activation patching: every layer, head and position.

The others run the whole model once a cell; a sample of cells, drawn once, is timed and scaled up to all of them (or
all are run). All take turns in every round. The share of the machine's matrix rate counts the arithmetic that the plan
needs, over the rate of a product of [2048, 768] and [768, 3072] in fp32 in the same round.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import Any

import numpy as np
import pandas as pd
import torch
import xarray as xr
from torch import Tensor
from transformer_lens import patching as upstream
from transformer_lens.model_bridge import TransformerBridge

import neolens
from benchmarks.common import matrix_rate, settle
from neolens import PromptPairs
from neolens.models import Anatomy
from neolens.replay import HEAD_SITES

SETTERS = {
    "resid_pre": upstream.layer_pos_patch_setter,
    "resid_mid": upstream.layer_pos_patch_setter,
    "resid_post": upstream.layer_pos_patch_setter,
    "attn_out": upstream.layer_pos_patch_setter,
    "mlp_out": upstream.layer_pos_patch_setter,
    "z": upstream.layer_pos_head_vector_patch_setter,
    "q": upstream.layer_pos_head_vector_patch_setter,
    "k": upstream.layer_pos_head_vector_patch_setter,
    "v": upstream.layer_pos_head_vector_patch_setter,
    "pattern": upstream.layer_head_pos_pattern_patch_setter,
}
"""Site -> how TransformerLens puts an activation in."""

ANSWER, DISTRACTOR = 11, 12


def random_pairs(facts: Anatomy, length: int, differ: int, prompts: int = 1, seed: int = 0) -> PromptPairs:
    """Random prompts that agree before position `differ`."""
    draw = torch.Generator().manual_seed(seed)
    clean, other = torch.randint(1, facts.d_vocab, (2, prompts, length), generator=draw)
    corrupted = clean.clone()
    corrupted[:, differ:] = torch.where(other == clean, (other + 1) % facts.d_vocab, other)[:, differ:]
    return PromptPairs.from_tokens(clean, corrupted, torch.full((prompts,), ANSWER), torch.full((prompts,), DISTRACTOR))


def beside(
    folder: str, sites: list[str], length: int, differ: int, cells: int, rounds: int, device: str, exact: bool
) -> Iterator[dict[str, Any]]:
    """A row for each site: seconds, ratios, the largest difference, arithmetic, share of the matrix rate; `exact`, also
    how far each is from a sweep in float64."""
    ours = neolens.load(folder, device=device)
    theirs = TransformerBridge.boot_transformers(folder, device=device)
    pairs = random_pairs(ours.anatomy, length, differ)
    for site in sites:
        index = sample(ours.anatomy, site, length, cells)
        runs = {"TransformerLens": _transformer_lens(theirs, pairs, site, index)}
        if site == "z" and find_spec("nnsight"):
            runs["nnsight"] = _nnsight(theirs.original_model, pairs, ours.anatomy, index)
        yield _row(ours, pairs, site, index, runs, rounds, device, exact)


def sample(facts: Anatomy, site: str, length: int, cells: int, seed: int = 0) -> pd.DataFrame:
    """Cells drawn evenly from the sweep (0: all of them), as TransformerLens's setters index them."""
    axes = {"layer": facts.layers, "pos": length} | ({"head": facts.heads} if site in HEAD_SITES else {})
    every = pd.MultiIndex.from_product([range(size) for size in axes.values()], names=list(axes)).to_frame(index=False)
    order = ["layer", "head", "pos"] if site == "pattern" else list(axes)
    return (every.sample(cells, random_state=seed) if cells else every)[order].reset_index(drop=True)


def _transformer_lens(model: Any, pairs: PromptPairs, site: str, index: pd.DataFrame) -> Callable[[], Tensor]:
    clean, corrupted = (run[0][None].to(model.cfg.device) for run in (pairs.clean, pairs.corrupted))
    _, cache = model.run_with_cache(clean, names_filter=lambda hook: hook.endswith(f"hook_{site}"))

    def metric(logits: Tensor) -> Tensor:
        return logits[0, -1, ANSWER] - logits[0, -1, DISTRACTOR]

    return lambda: upstream.generic_activation_patch(
        model, corrupted, cache, metric, SETTERS[site], site, index_df=index
    )


def _nnsight(model: Any, pairs: PromptPairs, facts: Anatomy, index: pd.DataFrame) -> Callable[[], Tensor]:
    """The input of the output projection is z of all heads: one head's part of it is put in at one position."""
    from nnsight import NNsight

    wrapped, width = NNsight(model), facts.d_head
    outputs = [block.attn.c_proj for block in wrapped.transformer.h]

    def run() -> Tensor:
        clean, corrupted = (run[0][None].to(model.device) for run in (pairs.clean, pairs.corrupted))
        taken = []
        with torch.no_grad(), wrapped.trace(clean):
            for output in outputs:
                taken.append(output.input.save())
        found = []
        for layer, pos, head in index[["layer", "pos", "head"]].itertuples(index=False):
            part = slice(head * width, (head + 1) * width)
            with torch.no_grad(), wrapped.trace(corrupted):
                outputs[layer].input[:, pos, part] = taken[layer][:, pos, part]
                logits = wrapped.lm_head.output[0, -1].save()
            found.append(logits[ANSWER] - logits[DISTRACTOR])
        return torch.stack(found)

    return run


def _row(
    model: Any,
    pairs: PromptPairs,
    site: str,
    index: pd.DataFrame,
    runs: dict[str, Callable],
    rounds: int,
    device: str,
    exact: bool,
) -> dict[str, Any]:
    result, values, seconds, rates = _timed(model, pairs, site, runs, rounds, device)
    whole = result.patched.isel(prompt=0)
    cells = {axis: xr.DataArray(index[axis].to_numpy(), dims="cell") for axis in index}
    found, spread = whole.sel(cells).values, np.ptp(whole.values)
    row: dict[str, Any] = {
        "site": site,
        "cells": whole.size,
        "neolens s": statistics.median(seconds["neolens"]),
    }
    for name in runs:
        scale = whole.size / len(index)
        row[f"{name} s"] = scale * statistics.median(seconds[name])
        ratios = [scale * b / a for a, b in zip(seconds["neolens"], seconds[name])]
        row[f"times {name}"] = statistics.median(ratios)
        row[f"difference from {name} / range"] = float(np.abs(found - values[name]).max() / spread)
    if exact:
        truth = neolens.patch(model, pairs, site, dtype="float64", progress=False).patched.isel(prompt=0)
        values["neolens"], truth = found, truth.sel(cells).values
        for name, its in values.items():
            row[f"error of {name} in fp32 / range"] = float(np.abs(its - truth).max() / spread)
    row["TFLOP needed"] = result.attrs["arithmetic"] / 1e12
    row["matrix rate, GFLOP/s"] = statistics.median(rates) / 1e9
    shares = [result.attrs["arithmetic"] / a / rate for a, rate in zip(seconds["neolens"], rates)]
    row["share of the rate"] = statistics.median(shares)
    return row


def _timed(
    model: Any, pairs: PromptPairs, site: str, runs: dict[str, Callable], rounds: int, device: str
) -> tuple[xr.Dataset, dict[str, np.ndarray], dict[str, list[float]], list[float]]:
    """The sweep, what the others found, everyone's seconds, and the matrix rate around ours, by round."""
    seconds: dict[str, list[float]] = {name: [] for name in ("neolens", *runs)}
    values, rates = {}, []
    for _ in range(rounds):
        rates.append(matrix_rate(device))
        began = time.perf_counter()
        result = neolens.patch(model, pairs, site, progress=False)
        seconds["neolens"].append(time.perf_counter() - began)
        rates[-1] = (rates[-1] + matrix_rate(device)) / 2
        for name, run in runs.items():
            began = time.perf_counter()
            values[name] = run().cpu().numpy()
            settle(device)
            seconds[name].append(time.perf_counter() - began)
    return result, values, seconds, rates
