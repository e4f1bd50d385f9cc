"""The replay engine at work on a sweep: prompts of one length together, some at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from neolens.network import Weights, residual
from neolens.patching.sweep import Sweep, finite
from neolens.readout.patched_runs import Reader
from neolens.replay import NEEDED, READ, Cells, Suffix, final, reach, record, replay


def replayed(
    weights: Weights,
    sweep: Sweep,
    patched: np.ndarray,
    baselines: Mapping[str, np.ndarray],
    *,
    max_memory: int,
    progress: Callable[[float], object] = lambda cells: None,
    only: np.ndarray | None = None,
) -> int:
    """Fill `patched` [prompt, layer, head, column, metric] and the baselines [prompt, metric]; returns the arithmetic.

    Both runs of all prompts are measured first, so that a metric that does not work ends here. With `only`, true at
    [prompt, head, column] of the patches to run, the others keep the value of a patch without effect.
    """
    groups = list(_groups(weights, sweep, max_memory // 2))
    for prompts in groups:
        _unpatched(weights, sweep, prompts, baselines)
    finite(baselines, sweep)
    budget = max_memory // 2
    return sum(_group(weights, sweep, prompts, patched, baselines, budget, progress, only) for prompts in groups)


def _groups(weights: Weights, sweep: Sweep, budget: int) -> Iterator[list[int]]:
    """Prompts of one length whose recorded runs fit the budget; at least one at a time."""
    facts = weights.anatomy
    vectors = facts.layers * (len(_target_sites(sweep)) + len(READ[sweep.site]))
    for length, prompts in sweep.pairs.groups().items():
        size = vectors * length * facts.d_model * weights.embedding.element_size()
        step = max(1, budget // size)
        yield from (prompts[at : at + step] for at in range(0, len(prompts), step))


def _target_sites(sweep: Sweep) -> set[str]:
    """What is read of the run that is patched."""
    sites = set(NEEDED) | ({"z"} if sweep.heads is not None else set())
    if not getattr(sweep.facts, "parallel", False):
        return sites
    beside = {"attn_out": "mlp_out", "mlp_out": "attn_out"}.get(sweep.site, "mlp_out" if sweep.heads else "")
    return sites - {"resid_mid"} | ({beside} if beside else set())


def _tokens(runs: Sequence[Tensor], prompts: Sequence[int], weights: Weights) -> Tensor:
    return torch.stack([runs[prompt] for prompt in prompts]).to(weights.embedding.device)


def _reader(
    weights: Weights, sweep: Sweep, prompts: Sequence[int], tokens: Tensor, final: Tensor, clean: Tensor
) -> Reader:
    which = torch.tensor(prompts)
    device = tokens.device
    distractors = sweep.pairs.distractors
    return Reader(
        weights,
        sweep.metrics,
        tokens,
        final,
        sweep.pairs.answers[which].to(device),
        None if distractors is None else distractors[which].to(device),
        clean if any(metric.against_clean for metric in sweep.metrics) else None,
    )


def _unpatched(weights: Weights, sweep: Sweep, prompts: list[int], baselines: Mapping[str, np.ndarray]) -> None:
    """The metrics of both runs."""
    spans, finals = sweep.facts.attention, {}
    tokens = {
        "clean": _tokens(sweep.pairs.clean, prompts, weights),
        "corrupted": _tokens(sweep.pairs.corrupted, prompts, weights),
    }
    for run, its in tokens.items():
        finals[run] = residual(weights, its, spans=spans)
    for run, its in tokens.items():
        values = _reader(weights, sweep, prompts, its, finals[run], finals["clean"]).unpatched()
        baselines[run][prompts] = values.cpu().numpy()


def _group(
    weights: Weights,
    sweep: Sweep,
    prompts: list[int],
    patched: np.ndarray,
    baselines: Mapping[str, np.ndarray],
    budget: int,
    progress: Callable[[float], object],
    only: np.ndarray | None,
) -> int:
    """All patches of these prompts."""
    spans, tokens = sweep.facts.attention, _tokens(sweep.target, prompts, weights)
    target = record(weights, tokens, _target_sites(sweep), spans)
    source = record(weights, _tokens(sweep.source, prompts, weights), READ[sweep.site], spans)
    clean = final(target)
    if any(metric.against_clean for metric in sweep.metrics) and sweep.direction == "denoise":
        clean = residual(weights, _tokens(sweep.pairs.clean, prompts, weights), spans=spans)
    reader = _reader(weights, sweep, prompts, tokens, final(target), clean)
    suffix = Suffix(weights, target, spans, reach(spans, tokens.shape[1], reader.read_from))
    unpatched = baselines["corrupted" if sweep.direction == "denoise" else "clean"]
    columns = [len(sweep.stretches(prompt)) for prompt in prompts]
    for prompt, there in zip(prompts, columns, strict=True):
        patched[prompt, :, :, :there] = unpatched[prompt]  # what a patch without effect gives
    cells, (at, head, column) = _cells(sweep, prompts, tokens.device, only)
    heads = 1 if sweep.heads is None else len(sweep.heads)
    progress(len(sweep.layers) * (sum(columns) * heads - len(cells)))
    numbers = torch.from_numpy(unpatched[prompts])[at].repeat(len(sweep.layers), 1).to(tokens.device)
    replay(suffix, source, sweep.site, sweep.layers, cells, reader, numbers, budget=budget, progress=progress)
    found = numbers.cpu().numpy().reshape(len(sweep.layers), len(cells), len(sweep.metrics))
    patched[np.asarray(prompts)[at], :, head, column] = found.transpose(1, 0, 2)
    return suffix.arithmetic


def _cells(
    sweep: Sweep, prompts: list[int], device: torch.device, only: np.ndarray | None
) -> tuple[Cells, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """The patches of one layer that may have an effect, in the order of the positions where they begin, and where their
    numbers belong: prompt (of these), head (of those asked for), column. Before the two runs differ, a patch has
    none."""
    heads, differs = sweep.heads or (0,), sweep.pairs.first_difference.tolist()
    rows = [
        (max(first, differ), last, at, number, head, column)
        for at, prompt in enumerate(prompts)
        for differ in [differs[prompt]]
        for column, (first, last) in enumerate(sweep.stretches(prompt))
        if last > differ
        for number, head in enumerate(heads)
        if only is None or only[prompt, number, column]
    ]
    table = np.array(sorted(rows), dtype=np.int64).reshape(-1, 6).T
    first, last, at, number, head, column = table
    cells = (torch.from_numpy(part.copy()).to(device) for part in (at, head, first, last, np.arange(table.shape[1])))
    return Cells(*cells), (at, number, column)
