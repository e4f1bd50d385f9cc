"""`neolens.ablate`: heads taken out in groups, the engine, and the labelled result."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr
from tqdm import tqdm

from neolens import network, results
from neolens.ablation.groups import coordinates
from neolens.ablation.hooked import check_ablation_works, hooked
from neolens.ablation.replayed import replayed
from neolens.ablation.spec import Asked, asked
from neolens.metrics import loss
from neolens.models.other_architectures import facts_of
from neolens.network import measurement
from neolens.patching.patch import MAX_MEMORY, chosen_engine
from neolens.prompts.pairs import PromptPairs
from neolens.prompts.tokens import Prompts


def _few_groups(arguments: dict[str, Any]) -> dict[str, Any]:
    """Some groups of a call, from the first to the last."""
    groups = arguments["groups"]
    if not isinstance(groups, Mapping):
        return arguments
    step = max(1, len(groups) // _SAMPLE)
    return arguments | {"groups": {name: groups[name] for name in list(groups)[::step]}}


_SAMPLE = 4
"""Groups that are ablated again in float32, or a few more."""


@measurement(narrow=_few_groups)
def ablate(
    model: Any,
    tokens: Prompts | PromptPairs,
    groups: Any,
    *,
    how: Any = "mean",
    metric: Any = loss,
    reference: Any = None,
    positions: Any = None,
    answers: Any = None,
    distractors: Any = None,
    seed: Any = 0,
    engine: str = "auto",
    max_memory: int = MAX_MEMORY,
    progress: bool = True,
) -> xr.Dataset:
    """The metric of runs in which a group of heads is ablated, one group after the other, at every position.

    Args:
        model: from `neolens.load`, or with `engine="hooks"` any TransformerBridge.
        tokens: an integer tensor [prompt, pos], a list of one-dimensional ones, or `PromptPairs`, whose clean prompts
            are run and whose answers are expected after their last position.
        groups: name -> heads (layer, head); `neolens.each_head`, `each_layer`, `by_kind` make some.
        how: `"zero"`; `"mean"`, of the reference at the same position; `"mean_all_positions"`, one mean over all
            positions of all reference prompts, each position counting as much; `"resample"`, another reference
            prompt's, drawn by `seed`, never the prompt itself; or only some attention: `Beyond(distance)`,
            `Within(distance)` of `neolens.ablation`, the softmax over the keys that are left.
        metric: of `neolens.metrics`, its name, or several, each read at every position; or a function of all logits
            [run, pos, d_vocab] -> [run].
        reference: prompts as long as `tokens`, for `mean` and `resample`, or of any lengths, for `mean_all_positions`;
            by default `tokens` themselves.
        positions: where the metric is read: by default everywhere (`"each"`), in pairs with a metric of the last
            position there; or indices that are the same in every prompt, a dict from a name to one index a prompt, or
            names of the pairs' positions. Fewer positions take less time.
        answers: the token expected after each position, as `tokens` are, -1 where none; by default the next one.
        distractors: the tokens that `logit_difference` compares with, likewise.
        engine: `"replay"` starts each group at its first ablated layer, all groups at once; `"hooks"` runs the whole
            model once for each; `"auto"` is replay for models of `neolens.load`.
        max_memory: bytes besides the model and the result.
        progress: whether to show a bar, counting ablated runs.

    Returns:
        `ablated` by group, prompt and pos, and `baseline`, the run as it is, without group; with several metrics a
        `metric` axis. The loss at `pos` i is that of predicting token i + 1; NaN where nothing is expected. Coordinates
        at `group`: `heads`, `attention_kind` (`local`, `global` or `both`), `layer` where all heads are of one
        layer, and of random controls what they are drawn like (`control`) and the number of the `draw`.

    Raises:
        TypeError, ValueError: heads that do not exist, an empty group, an unknown `how` or metric, a reference of
            another length or tokenizer or of fewer than two prompts, positions or answers that do not fit, or a model
            with hooks on it. Before the model runs.

    Warns:
        UserWarning: a mean over fewer than eight prompts.
    """
    began = time.perf_counter()
    facts = facts_of(model)
    for pairs in (tokens, reference):
        if isinstance(pairs, PromptPairs):
            pairs.check(model)
    call = asked(facts, tokens, groups, how, metric, reference, positions, answers, distractors, seed)
    chosen = chosen_engine(model, engine, max_memory)
    check_ablation_works(model, facts, call.how, call.layers)
    shape = (len(call.groups), len(call.prompts), 1 if call.of_runs else call.read.columns, len(call.metrics))
    ablated, baseline = np.full(shape, np.nan, np.float32), np.full(shape[1:], np.nan, np.float32)
    runs = shape[0] * shape[1]
    with tqdm(total=runs, desc="ablating", unit="run", disable=None if progress else True, delay=1) as bar:
        if chosen == "replay":
            replayed(network.weights_of(model), call, ablated, baseline, max_memory=max_memory, progress=bar.update)
        else:
            hooked(model, call, ablated, baseline, progress=bar.update)
    attrs = results.provenance(
        model,
        facts,
        how=str(call.how),
        metric=json.dumps([one.name for one in call.metrics]),
        seed=call.seed,
        reference=len(call.reference) or None,
        engine=chosen,
        seconds=round(time.perf_counter() - began, 3),
    )
    return _labelled(call, ablated, baseline, several=isinstance(metric, (list, tuple)), attrs=attrs)


def _labelled(
    call: Asked, ablated: np.ndarray, baseline: np.ndarray, *, several: bool, attrs: Mapping[str, Any]
) -> xr.Dataset:
    """The dataset: axes that the call does not have are dropped."""
    axes = ["group", "prompt", "pos", "metric"]
    coords: dict[str, Any] = {
        "group": list(call.groups),
        **coordinates(call.groups, call.facts),
        "prompt": range(len(call.prompts)),
        "length": ("prompt", [len(prompt) for prompt in call.prompts]),
    }
    if several:
        coords["metric"] = [metric.name for metric in call.metrics]
    else:
        ablated, baseline, axes = ablated[..., 0], baseline[..., 0], axes[:-1]
    if call.read.labels is None:
        ablated, baseline = ablated[:, :, 0], baseline[:, 0]
        axes.remove("pos")
    else:
        coords["pos"] = list(call.read.labels)
        if call.read.labels == range(call.read.columns) and call.words is not None:
            words = [[*words, *[""] * (call.read.columns - len(words))] for words in call.words]
            coords["token"] = (("prompt", "pos"), words)
    variables = {"ablated": (tuple(axes), ablated), "baseline": (tuple(axes[1:]), baseline)}
    return results.build(variables, call.facts, coords=coords, attrs=attrs)
