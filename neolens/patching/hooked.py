"""The plain way to patch: a hook that puts the activation in, and the whole model run once for every patch.

For any TransformerBridge, and beside the replay engine as a second opinion: it shares no arithmetic with it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from neolens.metrics import Asked
from neolens.patching.hook_checks import check_hooks_work
from neolens.patching.sweep import Sweep, finite
from neolens.sites import hook_name


def hooked(
    model: Any,
    sweep: Sweep,
    patched: np.ndarray,
    baselines: Mapping[str, np.ndarray],
    *,
    progress: Callable[[float], object],
) -> None:
    """Fill `patched` [prompt, layer, head, column, metric] and the baselines [prompt, metric]."""
    groups = list(sweep.pairs.groups().values())
    first = [_tokens(model, runs, groups[0][:1]) for runs in (sweep.source, sweep.target)]
    check_hooks_work(model, sweep.facts, [sweep.site], sweep.layers, *first)
    for prompts in groups:
        runs = {"clean": _tokens(model, sweep.pairs.clean, prompts)}
        runs["corrupted"] = _tokens(model, sweep.pairs.corrupted, prompts)
        clean = model(runs["clean"])
        for run, tokens in runs.items():
            logits = clean if run == "clean" else model(tokens)
            baselines[run][prompts] = _measured(sweep, prompts, logits, tokens, clean)
    finite(baselines, sweep)
    for prompts in groups:
        _group(model, sweep, prompts, patched, progress)


def _tokens(model: Any, runs: Sequence[Tensor], prompts: list[int]) -> Tensor:
    return torch.stack([runs[prompt] for prompt in prompts]).to(model.cfg.device)


def _group(
    model: Any, sweep: Sweep, prompts: list[int], patched: np.ndarray, progress: Callable[[float], object]
) -> None:
    source, target = _tokens(model, sweep.source, prompts), _tokens(model, sweep.target, prompts)
    compared = any(metric.against_clean for metric in sweep.metrics)
    clean = model(_tokens(model, sweep.pairs.clean, prompts)) if compared else None
    stretches = [sweep.stretches(prompt) for prompt in prompts]
    for number, layer in enumerate(sweep.layers):
        name = hook_name(sweep.site, layer)
        taken: list[Tensor] = []
        model.run_with_hooks(source, fwd_hooks=[(name, lambda x, hook, taken=taken: taken.append(x.clone()) or None)])
        for place, head in enumerate(sweep.heads or (None,)):
            for column in range(len(stretches[0])):
                put = _putting(taken[0], sweep.site, head, [its[column] for its in stretches])
                logits = model.run_with_hooks(target, fwd_hooks=[(name, put)])
                patched[prompts, number, place, column] = _measured(sweep, prompts, logits, target, clean)
                progress(len(prompts))


def _putting(source: Tensor, site: str, head: int | None, stretches: list[tuple[int, int]]) -> Callable[..., Tensor]:
    """A hook that puts the source's activation into these positions of each prompt."""

    def put(x: Tensor, hook: Any) -> Tensor:
        x = x.clone()
        for prompt, (first, last) in enumerate(stretches):
            if site == "pattern":
                x[prompt, head, first:last] = source[prompt, head, first:last]
            elif head is None:
                x[prompt, first:last] = source[prompt, first:last]
            else:
                x[prompt, first:last, head] = source[prompt, first:last, head]
        return x

    return put


def _measured(sweep: Sweep, prompts: list[int], logits: Tensor, tokens: Tensor, clean: Tensor | None) -> np.ndarray:
    """Every metric of each prompt's run, from the logits of all positions."""
    answers = sweep.pairs.answers[prompts].to(logits.device)
    distractors = None if sweep.pairs.distractors is None else sweep.pairs.distractors[prompts].to(logits.device)
    asked = Asked(answers, distractors, tokens, clean)
    columns = answers[:, None] if distractors is None else torch.stack([answers, distractors], dim=1)
    two = logits.gather(2, columns[:, None].expand(-1, logits.shape[1], -1))
    values = [metric(two if metric.columns == "answers" else logits, asked) for metric in sweep.metrics]
    return torch.stack(values, dim=1).cpu().numpy()
