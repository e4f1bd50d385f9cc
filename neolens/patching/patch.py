"""`neolens.patch`: the sweep, its engine, and the labelled result."""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import xarray as xr
from tqdm import tqdm

from neolens import network, results
from neolens.checks import check_choice, check_type, check_whole, shown
from neolens.metrics import logit_difference
from neolens.models.other_architectures import facts_of
from neolens.network import measurement
from neolens.patching.hook_checks import is_from_neolens
from neolens.patching.hooked import hooked
from neolens.patching.replayed import replayed
from neolens.patching.rounding import DTYPES, rounding
from neolens.patching.sweep import AnyMetric, Sweep, planned
from neolens.prompts.pairs import PromptPairs

MAX_MEMORY = 2 * 2**30
"""Bytes that a sweep may take besides the model and the result, by default."""

ENGINES = ("auto", "replay", "hooks")


@measurement(error=False)
def patch(
    model: Any,
    pairs: PromptPairs,
    site: str,
    *,
    positions: str | Sequence[str | tuple[str, ...]] = "each",
    layers: Collection[int] | None = None,
    heads: Collection[int] | None = None,
    metric: AnyMetric | Sequence[AnyMetric] = logit_difference,
    direction: str = "denoise",
    engine: str = "auto",
    dtype: torch.dtype | str | None = None,
    max_memory: int = MAX_MEMORY,
    verify: bool = False,
    progress: bool = True,
) -> xr.Dataset:
    """The metric of a run in which one activation is that of another run, for every patch that is asked for.

    Args:
        model: from `neolens.load`, or with `engine="hooks"` any TransformerBridge.
        site: `resid_pre resid_mid resid_post attn_out mlp_out`, or by head `z q k v pattern`.
        positions: `"each"` by itself, `"all"` together, or a list of names of positions of the pairs; in it a tuple of
            two names, such as `("source", "query")`, is all positions strictly between them, patched together. For
            `pattern` a position is the query's.
        layers: by default all.
        heads: by default all, for sites that have heads.
        metric: of `neolens.metrics`, its name, a function of all logits [run, pos, d_vocab] -> [run], or several.
        direction: `"denoise"` puts the clean run's activation into the corrupted run, `"noise"` the reverse.
        engine: `"replay"` computes what a patch can have changed, all patches at once; `"hooks"` runs the whole model
            once for each; `"auto"` is replay for models of `neolens.load`.
        dtype: of the replay engine's arithmetic, by default the model's. In `"bfloat16"` and `"float16"` some patches
            are run in float32 besides, and the attribute `error` is the largest difference of each metric, in its unit.
        max_memory: bytes besides the model (and its copy in another dtype) and the result.
        verify: compare the replay engine's forward pass with the hooked model on these prompts first.
        progress: whether to show a bar, counting patched runs.

    Returns:
        `patched` by prompt, layer, head (for sites that have them) and pos (unless all are patched together), and the
        unpatched `clean` and `corrupted` by prompt; with several metrics a `metric` axis. What lies between two names
        is labelled `source..query`. NaN where a prompt has no such position, or nothing between.

    Raises:
        TypeError: arguments of another type, such as prompts that are no `PromptPairs`.
        ValueError: a site, layer, head, position, metric or direction that there is not, pairs that do not fit the
            model, a metric that does not give one finite number a run, or a model with hooks on it.
        AssertionError: `verify` found a difference.
    """
    began = time.perf_counter()
    facts = facts_of(model)
    check_type(pairs, "pairs", PromptPairs, "PromptPairs, of PromptPairs.from_tokens or from_text").check(model)
    sweep = planned(facts, pairs, site, positions, layers, heads, metric, direction)
    chosen = chosen_engine(model, engine, max_memory)
    dtype = _dtype(model, dtype, chosen)
    shape = (len(pairs), len(sweep.layers), len(sweep.heads or (0,)), sweep.columns, len(sweep.metrics))
    patched = np.full(shape, np.nan, dtype=np.float32)
    baselines = {run: np.full((len(pairs), len(sweep.metrics)), np.nan, np.float32) for run in ("clean", "corrupted")}
    with tqdm(total=sweep.cells, desc=site, unit="cell", disable=None if progress else True, mininterval=0.5) as bar:
        if chosen == "replay":
            if verify:
                _verify(model, pairs)
            weights = network.cast(network.weights_of(model), dtype)
            found = replayed(weights, sweep, patched, baselines, max_memory=max_memory, progress=bar.update)
            _leave_out(sweep, patched)
            more = {"arithmetic": found} | rounding(model, dtype, sweep, patched, max_memory=max_memory)
        else:
            hooked(model, sweep, patched, baselines, progress=bar.update)
            _leave_out(sweep, patched)
            more = {}
    return _labelled(
        sweep,
        patched,
        baselines,
        several=isinstance(metric, (list, tuple)),
        attrs=results.provenance(
            model,
            facts,
            site=site,
            direction=direction,
            engine=chosen,
            metric=json.dumps([one.name for one in sweep.metrics]),
            seconds=round(time.perf_counter() - began, 3),
            dtype=str(dtype).removeprefix("torch."),
            **more,
        ),
    )


def recovered(result: xr.Dataset) -> xr.DataArray:
    """(patched - corrupted) / (clean - corrupted): 1 where the patch restores the clean run's metric, 0 where it does
    nothing; NaN where the two runs' metrics are equal.

    Raises:
        TypeError, ValueError: no result of `neolens.patch`.
    """
    results.check_result(result, "result", ["patched", "clean", "corrupted"], (), "neolens.patch")
    between = result["clean"] - result["corrupted"]
    return ((result["patched"] - result["corrupted"]) / between.where(between != 0)).rename("recovered")


def chosen_engine(model: Any, engine: str, max_memory: int) -> str:
    check_choice(engine, "engine", ENGINES)
    check_whole(max_memory, "max_memory", 1, unit="bytes", remedy="such as 2**30")
    ours = is_from_neolens(model)
    if engine == "replay" and not ours:
        raise ValueError(
            "the replay engine takes models of neolens.load: load the model with it, or take engine='hooks'"
        )
    return engine if engine != "auto" else "replay" if ours else "hooks"


def _dtype(model: Any, asked: torch.dtype | str | None, engine: str) -> torch.dtype:
    """The dtype of the arithmetic."""
    own = network.dtype_of(model)
    if asked is None:
        return own
    check_type(asked, "dtype", (str, torch.dtype), f"one of {', '.join(DTYPES)}")
    if engine != "replay":
        raise ValueError(f"dtype {asked}: engine='hooks' runs the model as it is; load it in another dtype instead")
    dtype = DTYPES.get(str(asked).removeprefix("torch."))
    if dtype is None:
        raise ValueError(f"no dtype {shown(str(asked))}: expected one of {', '.join(DTYPES)}")
    return dtype


def _leave_out(sweep: Sweep, patched: np.ndarray) -> None:
    """NaN for the patches of [prompt, layer, head, column, metric] that a prompt has no position for."""
    prompts, columns = sweep.missing.nonzero()
    patched[prompts, :, :, columns] = np.nan


def _verify(model: Any, pairs: PromptPairs) -> None:
    for prompts in pairs.groups().values():
        for prompt in prompts:
            network.verify(model, torch.stack([pairs.clean[prompt], pairs.corrupted[prompt]]))


def _labelled(
    sweep: Sweep,
    patched: np.ndarray,
    baselines: Mapping[str, np.ndarray],
    *,
    several: bool,
    attrs: Mapping[str, Any],
) -> xr.Dataset:
    """The dataset: axes that the sweep does not have are dropped."""
    axes = ["prompt", "layer", "head", "pos", "metric"]
    coords: dict[str, Any] = {"prompt": range(len(sweep.pairs)), "length": ("prompt", list(sweep.pairs.lengths))}
    if sweep.heads is None:
        patched, axes = patched[:, :, 0], [axis for axis in axes if axis != "head"]
    if sweep.positions == "all":
        patched, axes = patched[..., 0, :], [axis for axis in axes if axis != "pos"]
    if not several:
        patched, axes = patched[..., 0], axes[:-1]
        baselines = {run: values[:, 0] for run, values in baselines.items()}
    else:
        coords["metric"] = [metric.name for metric in sweep.metrics]
    variables: dict[str, tuple[tuple[str, ...], np.ndarray]] = {"patched": (tuple(axes), patched)}
    variables |= {run: (("prompt", "metric") if several else ("prompt",), values) for run, values in baselines.items()}
    if sweep.positions == "each":
        coords["pos"] = range(sweep.columns)
        if sweep.pairs.words is not None:
            words = [[*words, *[""] * (sweep.columns - len(words))] for words in sweep.pairs.words]
            coords["token"] = (("prompt", "pos"), words)
    elif sweep.positions != "all":
        coords["pos"] = sweep.labels
    return results.build(variables, sweep.facts, coords=coords, attrs=attrs, layers=sweep.layers, heads=sweep.heads)
