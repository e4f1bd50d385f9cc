"""What crosses a window: an answer planted a chosen distance back, and which layers bring it to where it is asked for.

The word that is the answer (the source) is exchanged for another, and what that changes in the logit difference at
the end (the query) is *carried*: it is 0 to the last digit where nothing of the source can arrive. A layer that is held
to the window and was needed takes it away. A residual stream patched at the source, at the query, or at all positions
between says where the answer stands before each layer: an answer that goes from the source to the query in one hop
never stands between.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
import xarray as xr
from jaxtyping import Float

from neolens import results
from neolens.ablation import ablate, by_kind, each_layer
from neolens.checks import check_choice, check_list, check_seed, check_type, check_whole
from neolens.checks.annotations import checked
from neolens.metrics import logit_difference
from neolens.models import Anatomy, anatomy
from neolens.network import logits, measurement, residual, weights_of
from neolens.patching import patch
from neolens.prompts import PromptPairs, indirect_object, induction, recall
from neolens.prompts.families.random_induction import random_induction
from neolens.results import check_results
from neolens.whatif import what_if

Tasks = Mapping[str, tuple[Callable[..., PromptPairs], str, str]]
"""Task -> its family of prompts, and what the family calls the source and the query."""

TASKS: Tasks = MappingProxyType(
    {
        "induction": (induction, "source", "query"),
        "indirect_object": (indirect_object, "io", "end"),
        "recall": (recall, "source", "query"),
    }
)
"""The tasks in words."""

WORDLESS_TASKS: Tasks = MappingProxyType({"induction": (random_induction, "source", "query")})
"""The tasks that random tokens can state, for models that do not read words."""

PLACES = ("source", ("source", "query"), "query")
"""Where the residual stream is patched."""

BETWEEN = "source..query"

PARTS = ("clean", "corrupted", "patched", "all_local", "all_global", "localised", "globalised", "ablated", "rank")
"""Variables of a result of `crossing`, besides `rank_all_local`."""

_DRAWN = (12, 32)
"""How many times the prompts that are kept are drawn, so that as many have one length."""


def distances(window: int, context: int) -> tuple[int, ...]:
    """Distances on both sides of a window, the first that are out of its reach among them, with room for a question.

    A layer that sees `window` keys sees the one `window` - 1 tokens back, and none farther.
    """
    window, context = check_whole(window, "window", 1), check_whole(context, "context", 1)
    room = context - min(32, context // 4)
    chosen = (window - 2, window - 1, window, window + 1, window + 2, 2 * window, 4 * window)
    return tuple(distance for distance in dict.fromkeys(chosen) if 1 <= distance <= room)


@checked
def planted(
    model: Any,
    task: str,
    distance: int,
    prompts: int,
    seed: int,
    *,
    tasks: Tasks = TASKS,
    prepend_bos: bool = True,
) -> PromptPairs:
    """Pairs of one length in which the answer stands `distance` tokens before the end; corrupted, an answer of another
    prompt stands there. Positions: `source` and `query`.

    The families' own corruptions change more than the source, or (in the indirect object) something nearer.

    Args:
        tasks: `TASKS`, in words, or `WORDLESS_TASKS`.
        prepend_bos: as in the families.

    Raises:
        ValueError: a distance that the task has no room for, or too few prompts of one length.
    """
    family, source, query = tasks[check_choice(task, "task", tasks)]
    prompts, seed = check_whole(prompts, "prompts", 1, 100_000), check_seed(seed)
    distance = check_whole(distance, "distance", 1, unit="tokens")
    kept: list[int] = []
    for times in _DRAWN:
        drawn = family(model, times * prompts, distance=distance, seed=seed, prepend_bos=prepend_bos)
        kept = max(drawn.groups().values(), key=len)[:prompts]
        if len(kept) == prompts:
            break
    else:
        raise ValueError(f"{task} at distance {distance}: only {len(kept)} prompts have one length; ask for fewer")
    pairs, at = drawn[kept], [int(drawn.positions[source][number]) for number in kept]
    corrupted = []
    for number, (prompt, place) in enumerate(zip(pairs.clean, at, strict=True)):
        others = np.setdiff1d(drawn.answers.numpy(), prompt.numpy())
        if not len(others):
            raise ValueError(f"{task}: every answer stands in prompt {number}; ask for more prompts")
        corrupted.append(prompt.clone())
        corrupted[-1][place] = int(np.random.default_rng((seed, number)).choice(others))
    places = {"source": at, "query": pairs.positions[query]}
    return PromptPairs.from_tokens(pairs.clean, corrupted, pairs.answers, pairs.distractors, places)


@measurement(exclusive=True)
def crossing(model: Any, pairs: PromptPairs, window: int) -> xr.Dataset:
    """Everything that is asked of one model with prompts of one task and distance.

    Returns:
        `clean` and `corrupted`, logit differences, and the `rank` of the answer, by prompt; `patched` by layer and
        position; `localised`, what is carried with a layer held to the window, and `globalised`, with a local one
        widened to everything, by layer, NaN where it is so anyway; `all_local` and `all_global`, and the rank
        `rank_all_local`; `ablated` by group, kinds and layers, mean ablation. All in logits but the ranks.
    """
    facts, window = anatomy(model), check_whole(window, "window", 1)
    _check_pairs(pairs, "pairs")
    streams = patch(model, pairs, "resid_pre", positions=PLACES, progress=False)
    groups = by_kind(model) | each_layer(model)
    ablated = ablate(model, pairs, groups, how="mean", metric=logit_difference, progress=False)
    shape = (facts.layers, len(pairs))
    changed = {"localised": np.full(shape, np.nan), "globalised": np.full(shape, np.nan)}
    for name, layer, windows in _one_layer_changed(facts, window):
        with what_if(model, windows=windows):
            changed[name][layer] = _carried(model, pairs)[0]
    variables: dict[str, tuple[tuple[str, ...], np.ndarray]]
    variables = {name: (("layer", "prompt"), values) for name, values in changed.items()}
    whole: dict[str, Any] = {
        "all_local": {layer: min(window, span.window or window) for layer, span in enumerate(facts.attention)}
    }
    for name, spans in (whole | {"all_global": "global"}).items():
        with what_if(model, windows=spans):
            carried, rank = _carried(model, pairs)
        variables[name] = (("prompt",), carried)
        variables |= {"rank_all_local": (("prompt",), rank)} if name == "all_local" else {}
    variables["rank"] = (("prompt",), _carried(model, pairs)[1])
    kept = {name: streams[name].drop_vars("length") for name in ("clean", "corrupted", "patched")}
    kept["ablated"] = ablated["ablated"].reset_coords(drop=True)
    return results.build(variables, facts, attrs=streams.attrs).assign(kept)


def at_distances(models: Sequence[Any], pairs: Mapping[int, PromptPairs], window: int) -> xr.Dataset:
    """`crossing` of each of several networks of one shape, such as the seeds of a model, at each distance.

    Returns:
        The same by seed (numbered as the models are) and distance besides; `length` is that of a distance's prompts.
    """
    window, seeds = check_whole(window, "window", 1), []
    check_type(pairs, "pairs", Mapping, "a mapping from distances to PromptPairs, as planted returns them")
    if not check_list(models, "models", "models of neolens.load") or not pairs:
        raise ValueError(f"{len(models)} models and {len(pairs)} distances: expected at least one of each")
    for distance, each in pairs.items():
        _check_pairs(each, f"pairs at distance {check_whole(distance, 'distance', 1, unit='tokens')}")
    for model in models:
        found = [crossing(model, its, window) for its in pairs.values()]
        seeds.append(results.concat(found, "distance", list(pairs)))
    result = results.concat(seeds, "seed", list(range(len(models))))
    lengths = [its.lengths[0] for its in pairs.values()]
    return results.check(result.assign_coords(length=("distance", lengths)).assign_attrs(window=window))


def of_all_tasks(results_: Mapping[str, xr.Dataset]) -> xr.Dataset:
    """What `at_distances` gave for several tasks as one result: `clean_recall`, `patched_recall`, ..., NaN where a task
    was not asked at a distance; `length` is that of the longest prompts."""
    check_results(results_, "results_", ["length"], ["seed", "distance"], "reach_measure.at_distances")
    parts = [
        result.drop_vars("length").rename({name: f"{name}_{task}" for name in map(str, result.data_vars)})
        for task, result in results_.items()
    ]
    merged = xr.merge(parts, join="outer", compat="no_conflicts", combine_attrs="override")
    lengths = xr.concat([result["length"] for result in results_.values()], dim="task", join="outer")
    return results.check(merged.assign_coords(length=("distance", lengths.max("task").values)))


def _check_pairs(pairs: Any, what: str) -> None:
    check_type(pairs, what, PromptPairs, "PromptPairs, as reach_measure.planted returns them")
    if pairs.distractors is None:
        raise ValueError(f"{what} without distractors: expected a distractor for each answer")
    if missing := [name for name in ("source", "query") if name not in pairs.positions]:
        raise ValueError(f"{what} without the position {missing[0]!r}: expected source and query")
    if len(set(pairs.lengths)) > 1:
        raise ValueError(f"{what} of {len(set(pairs.lengths))} different lengths: expected one length")


def _one_layer_changed(facts: Anatomy, window: int) -> Iterator[tuple[str, int, dict[int, Any]]]:
    """Each layer that sees farther than the window held to it, and each local one widened."""
    for layer, span in enumerate(facts.attention):
        if span.window is None or span.window > window:
            yield "localised", layer, {layer: window}
        if span.window is not None:
            yield "globalised", layer, {layer: "global"}


def _carried(model: Any, pairs: PromptPairs) -> tuple[Float[np.ndarray, " prompt"], Float[np.ndarray, " prompt"]]:
    """What the source moves of the logit difference, and the rank of the answer in the clean run, of each prompt."""
    assert pairs.distractors is not None
    weights, rows = weights_of(model), torch.arange(len(pairs))
    tokens = torch.stack([*pairs.clean, *pairs.corrupted]).to(weights.embedding.device)
    said = logits(weights, residual(weights, tokens)[:, -1:])[:, 0].float().cpu()
    clean, corrupted = said[: len(pairs)], said[len(pairs) :]
    both = [each[rows, pairs.answers] - each[rows, pairs.distractors] for each in (clean, corrupted)]
    rank = (clean > clean[rows, pairs.answers][:, None]).sum(1)
    return (both[0] - both[1]).double().numpy(), rank.double().numpy()
