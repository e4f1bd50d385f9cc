"""`attention`: the scores of every head on the user's prompts, its engine, and the labelled result."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor
from tqdm.auto import tqdm

from neolens import results
from neolens.checks import check_choice, check_indices, check_list, check_whole, shown
from neolens.models import Anatomy
from neolens.models.other_architectures import Facts, facts_of
from neolens.network import PatternBlock, hooks_on, measurement, residual, weights_of
from neolens.network.blockwise import BLOCK
from neolens.network.measurement import few_prompts
from neolens.prompts.tokens import Prompts, repeat_length, validated
from neolens.scores.hooked import hooked, refuse_patternless
from neolens.scores.sums import Sums

REPEATED_SCORES = ("duplicate_token", "induction")
SCORES = (
    *("previous_token", "current_token", *REPEATED_SCORES, "sink", "mean_distance"),
    *("mean_distance_without_key_0", "entropy", "entropy_normalised"),
)

ENGINES = ("auto", "stream", "hooks")

_QUERIES_AT_ONCE = 64
"""On a CPU: as fast as twice as many, which take a fifth more memory."""
_TOKENS_AT_ONCE = 4096
_CELLS_AT_ONCE = 2**22
"""Cells of one head's whole patterns: with hooks they are all there."""

_SHORTEST_REPEAT = 5
"""[BOS, r_1, r_2, r_1, r_2]."""


@measurement(narrow=few_prompts)
def attention(
    model: Any,
    tokens: Prompts,
    *,
    scores: Sequence[str] | None = None,
    distances: Any = None,
    sink_key: int = 0,
    engine: str = "auto",
) -> xr.Dataset:
    """Where each head looks: its scores and its attention mass by distance, a block of queries at a time.

    With A the attention pattern, i the query and j the key position, T the length and w the window:

    - `previous_token` mean over i >= 1 of A[i, i-1]; `current_token` mean of A[i, i];
    - on [first, r_1..r_n, r_1..r_n], over the second half: `duplicate_token` mean of A[i, i-n], `induction` mean of
      A[i, i-n+1] (prefix matching, Olsson et al. 2022);
    - `sink` mean over i >= k of A[i, k], k the `sink_key` (Gu et al. 2024); `mean_distance` sum of A (i - j) over T, in
      tokens (Vig and Belinkov 2019), and without key 0; `entropy` mean over i >= 1 of - sum A log A, in nats, and
      normalised by log(min(i + 1, w)), the entropy of a uniform row;
    - `mass_by_distance` mean of A[i, j] over all T - d cells with i - j = d, so it does not sum to 1.

    Args:
        model: from `neolens.load`, or with `engine="hooks"` any TransformerBridge.
        tokens: an integer tensor [prompt, pos], or a list of one-dimensional ones where lengths differ.
        scores: names of scores; by default all that apply to the prompts.
        distances: the distances whose mass is kept, one or several; by default all.
        sink_key: the key position that `sink` is about.
        engine: `"stream"` computes the patterns alone, block by block, without the model's hooks; `"hooks"` runs the
            model itself, hooks that stand on it included, up to its last layer's pattern; `"auto"` is stream for models
            of `neolens.load`.

    Returns:
        A dataset with dims (prompt, layer, head), and `distance` besides in `mass_by_distance`. NaN where a prompt
        is too short for a distance, or does not repeat. The attribute `hooks` names hooks that acted.

    Raises:
        TypeError: not a TransformerBridge.
        ValueError: an unknown score or engine, a score or `sink_key` that does not apply to a prompt, an empty or
            over-long prompt, a model with hooks on it, which the streamed pass would not run, or with hooks one whose
            patterns are not to be seen or not those of its config.
    """
    began = time.perf_counter()
    chosen = _engine(model, engine)
    facts = facts_of(model)
    prompts = validated(tokens, facts, shortest=2)
    asked = _Asked(facts, prompts, _chosen(scores, prompts), _distances(distances, prompts), _key(sink_key, prompts))
    values, mass = _collected(asked, _pass(model, facts, chosen), next(model.parameters()).device)
    seconds = time.perf_counter() - began
    acting = ", ".join(hooks_on(model)) if chosen == "hooks" else ""  # streamed, there are none
    attrs = results.provenance(
        model, facts, engine=chosen, sink_key=asked.sink_key, hooks=acting or None, seconds=seconds
    )
    variables: dict[str, tuple[tuple[str, ...], np.ndarray]]
    variables = {name: (("prompt", "layer", "head"), value) for name, value in values.items()}
    variables["mass_by_distance"] = (("prompt", "layer", "head", "distance"), mass)
    coords = {
        "prompt": np.arange(len(prompts)),
        "length": ("prompt", [len(prompt) for prompt in prompts]),
        "distance": asked.distances,
    }
    return results.build(variables, facts, coords=coords, attrs=attrs)


@dataclass(frozen=True)
class _Asked:
    """What is to be measured, all of it checked."""

    facts: Facts
    prompts: list[Tensor]
    scores: list[str]
    distances: np.ndarray
    sink_key: int


_Pass = Callable[..., object]
"""(tokens [prompt, pos], observer=): a pass that hands every layer's pattern to the observer."""


def _engine(model: Any, engine: str) -> str:
    check_choice(engine, "engine", ENGINES)
    ours = isinstance(getattr(model, "anatomy", None), Anatomy)
    if engine == "stream" and not ours:
        raise ValueError(
            "the stream engine takes models of neolens.load: load the model with it, or take engine='hooks'"
        )
    return engine if engine != "auto" else "stream" if ours else "hooks"


def _pass(model: Any, facts: Facts, engine: str) -> _Pass:
    if engine == "hooks":
        refuse_patternless(model, facts)
        return partial(hooked, model, facts)
    weights = weights_of(model)
    block = _QUERIES_AT_ONCE if weights.embedding.device.type == "cpu" else BLOCK
    return partial(residual, weights, stop_after=facts.layers - 1, block=block)


def _collected(asked: _Asked, run: _Pass, device: torch.device | str) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Every score [prompt, layer, head], and the mass [..., distance] at the kept distances; NaN where undefined."""
    prompts, facts = asked.prompts, asked.facts
    shape = (len(prompts), facts.layers, facts.heads)
    values = {name: np.full(shape, np.nan) for name in asked.scores}
    mass = np.full((*shape, len(asked.distances)), np.nan)
    with tqdm(
        total=len(prompts) * facts.layers, unit="layer", desc=facts.name, delay=2, leave=False, disable=None
    ) as bar:
        for group in _groups(prompts):
            batch = torch.stack([prompts[index] for index in group]).to(device)
            found, found_mass = _measured(asked, batch, repeat_length(prompts[group[0]]), run, bar)
            for name in set(asked.scores) & set(found):
                values[name][group] = found[name].cpu()
            within = asked.distances < found_mass.shape[-1]
            rows = mass[group]
            rows[..., within] = found_mass.cpu()[..., asked.distances[within]]
            mass[group] = rows
    return values, mass


def _measured(
    asked: _Asked, batch: Tensor, repeat: int | None, run: _Pass, bar: tqdm
) -> tuple[dict[str, Tensor], Tensor]:
    """The scores and the mass by distance of prompts that go through the network together."""
    prompts, length = batch.shape
    sums = Sums(asked.facts, prompts, length, repeat, batch.device, sink_key=asked.sink_key)

    def observe(block: PatternBlock) -> None:
        sums.add(block)
        if block.first_query + block.queries == length:
            bar.update(prompts)

    run(batch, observer=observe)
    return sums.finish()


def _chosen(scores: Sequence[str] | None, prompts: list[Tensor]) -> list[str]:
    """The scores to compute; those of repeated sequences only where some prompt repeats."""
    repeats = [repeat_length(prompt) is not None for prompt in prompts]
    if scores is None:
        return [name for name in SCORES if any(repeats) or name not in REPEATED_SCORES]
    names = check_list(
        scores, "scores", "names", example=str([scores]) if isinstance(scores, str) and scores in SCORES else "['sink']"
    )
    if not names:
        raise ValueError(f"scores {shown(scores)}: expected at least one of {', '.join(SCORES)}")
    for name in names:
        check_choice(name, "score", SCORES)
        if name in REPEATED_SCORES and not all(repeats):
            _refuse_unrepeated(name, prompts, repeats.index(False))
    return list(dict.fromkeys(names))


def _refuse_unrepeated(score: str, prompts: list[Tensor], index: int) -> None:
    length = len(prompts[index])
    if length < _SHORTEST_REPEAT:
        raise ValueError(
            f"{score} does not apply to prompt {index}, which has {length} tokens: it needs at least "
            f"{_SHORTEST_REPEAT}, [BOS, r_1, r_2, r_1, r_2]; see neolens.prompts.repeated"
        )
    raise ValueError(
        f"{score} does not apply to prompt {index}: it needs a first token and then one sequence twice, "
        "[BOS, r_1..r_n, r_1..r_n] with n >= 2; see neolens.prompts.repeated"
    )


def _key(key: int, prompts: list[Tensor]) -> int:
    """The sink's key position, which every prompt has."""
    key = check_whole(key, "sink_key", 0)
    for index, prompt in enumerate(prompts):
        if len(prompt) <= key:
            raise ValueError(
                f"prompt {index} has {len(prompt)} tokens and no key {shown(key)}: expected at least "
                f"{shown(key + 1)} tokens, or a smaller sink_key"
            )
    return key


def _distances(distances: Any, prompts: list[Tensor]) -> np.ndarray:
    longest = max(map(len, prompts))
    if distances is None:
        return np.arange(longest)
    return np.array(sorted(check_indices(distances, "distance", longest, "the longest prompt")), dtype=int)


def _groups(prompts: list[Tensor]) -> Iterator[list[int]]:
    """Indices of prompts that go through the network together: one length, one repeat length, a bounded size."""
    alike: dict[tuple[int, int | None], list[int]] = {}
    for index, prompt in enumerate(prompts):
        alike.setdefault((len(prompt), repeat_length(prompt)), []).append(index)
    for (length, _), indices in alike.items():
        at_once = max(1, min(_TOKENS_AT_ONCE // length, _CELLS_AT_ONCE // length**2))
        for first in range(0, len(indices), at_once):
            yield indices[first : first + at_once]
