"""`attention`: the scores of every head on the user's prompts, without storing a pattern."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor
from tqdm.auto import tqdm

from neolens import results
from neolens.models.catalogue import near_misses
from neolens.network import PatternBlock, Weights, refuse_hooks, residual, weights_of
from neolens.prompts.tokens import Prompts, repeat_length, validated
from neolens.scores.sums import Sums

REPEATED_SCORES = ("duplicate_token", "induction")
SCORES = (
    *("previous_token", "current_token", *REPEATED_SCORES, "sink", "mean_distance"),
    *("mean_distance_without_key_0", "entropy", "entropy_normalised"),
)

_TOKENS_AT_ONCE = 4096


@torch.no_grad()
def attention(
    model: Any,
    tokens: Prompts,
    *,
    scores: Sequence[str] | None = None,
    distances: Sequence[int] | None = None,
) -> xr.Dataset:
    """Where each head looks: its scores and its attention mass by distance, a block of queries at a time.

    With A the attention pattern, i the query and j the key position, T the length and w the window:

    - `previous_token` mean over i >= 1 of A[i, i-1]; `current_token` mean of A[i, i];
    - on [first, r_1..r_n, r_1..r_n], over the second half: `duplicate_token` mean of A[i, i-n], `induction` mean of
      A[i, i-n+1] (prefix matching, Olsson et al. 2022);
    - `sink` mean of A[i, 0] (Gu et al. 2024); `mean_distance` sum of A (i - j) over T, in tokens (Vig and Belinkov
      2019), and without key 0; `entropy` mean over i >= 1 of - sum A log A, in nats, and normalised by
      log(min(i + 1, w)), the entropy of a uniform row;
    - `mass_by_distance` mean of A[i, j] over all T - d cells with i - j = d, so it does not sum to 1.

    Args:
        model: from `neolens.load`.
        tokens: an integer tensor [prompt, pos], or a list of one-dimensional ones where lengths differ.
        scores: names of scores; by default all that apply to the prompts.
        distances: the distances whose mass is kept; by default all.

    Returns:
        A dataset with dims (prompt, layer, head), and `distance` besides in `mass_by_distance`. NaN where a prompt
        is too short for a distance, or does not repeat.

    Raises:
        ValueError: an unknown score, a score that does not apply to a prompt, an empty or over-long prompt, or a model
            with hooks on it, which the pure forward pass would not run.
    """
    began = time.perf_counter()
    weights = weights_of(model)
    refuse_hooks(model)
    facts = weights.anatomy
    prompts = validated(tokens, facts, shortest=2)
    names = _chosen(scores, prompts)
    kept = _distances(distances, max(map(len, prompts)))
    values, mass = _collected(weights, prompts, names, kept)
    attrs = results.provenance(model, facts, seconds=time.perf_counter() - began)
    variables: dict[str, tuple[tuple[str, ...], np.ndarray]]
    variables = {name: (("prompt", "layer", "head"), value) for name, value in values.items()}
    variables["mass_by_distance"] = (("prompt", "layer", "head", "distance"), mass)
    coords = {
        "prompt": np.arange(len(prompts)),
        "length": ("prompt", [len(prompt) for prompt in prompts]),
        "distance": kept,
    }
    return results.build(variables, facts, coords=coords, attrs=attrs)


def _collected(
    weights: Weights, prompts: list[Tensor], names: list[str], kept: np.ndarray
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Every score [prompt, layer, head], and the mass [..., distance] at the kept distances; NaN where undefined."""
    shape = (len(prompts), weights.anatomy.layers, weights.anatomy.heads)
    values = {name: np.full(shape, np.nan) for name in names}
    mass = np.full((*shape, len(kept)), np.nan)
    total = len(prompts) * weights.anatomy.layers
    with tqdm(total=total, unit="layer", desc=weights.anatomy.name, delay=2, leave=False) as bar:
        for group in _groups(prompts):
            found, found_mass = _measured(weights, [prompts[index] for index in group], bar)
            for name in set(names) & set(found):
                values[name][group] = found[name].cpu()
            within = kept < found_mass.shape[-1]
            rows = mass[group]
            rows[..., within] = found_mass.cpu()[..., kept[within]]
            mass[group] = rows
    return values, mass


def _measured(weights: Weights, prompts: list[Tensor], bar: tqdm) -> tuple[dict[str, Tensor], Tensor]:
    """The scores and the mass by distance of prompts that go through the network together."""
    batch = torch.stack(prompts).to(weights.embedding.device)
    length = batch.shape[1]
    sums = Sums(weights.anatomy, len(prompts), length, repeat_length(prompts[0]), batch.device)

    def observe(block: PatternBlock) -> None:
        sums.add(block)
        if block.first_query + block.queries == length:
            bar.update(len(prompts))

    residual(weights, batch, observer=observe, stop_after=weights.anatomy.layers - 1)
    return sums.finish()


def _chosen(scores: Sequence[str] | None, prompts: list[Tensor]) -> list[str]:
    """The scores to compute; those of repeated sequences only where some prompt repeats."""
    repeats = [repeat_length(prompt) is not None for prompt in prompts]
    if isinstance(scores, str):
        raise TypeError(f"scores are given as a list of names, got the string {scores!r}: write [{scores!r}]")
    if scores is None:
        return [name for name in SCORES if any(repeats) or name not in REPEATED_SCORES]
    for name in scores:
        if name not in SCORES:
            raise ValueError(f"no score {name!r}: {near_misses(name, list(SCORES))}scores are {', '.join(SCORES)}")
        if name in REPEATED_SCORES and not all(repeats):
            raise ValueError(
                f"{name} does not apply to prompt {repeats.index(False)}: it needs a first token and then one "
                "sequence twice, [BOS, r_1..r_n, r_1..r_n] with n >= 2; see neolens.prompts.repeated"
            )
    return list(dict.fromkeys(scores))


def _distances(distances: Sequence[int] | None, longest: int) -> np.ndarray:
    if distances is None:
        return np.arange(longest)
    kept = np.unique(np.asarray(list(distances), dtype=int))
    if len(kept) == 0 or kept[0] < 0 or kept[-1] >= longest:
        raise ValueError(
            f"distances {list(distances)!r} are not within 0 to {longest - 1}, the longest prompt's: give some of these"
        )
    return kept


def _groups(prompts: list[Tensor]) -> Iterator[list[int]]:
    """Indices of prompts that go through the network together: one length, one repeat length, a bounded size."""
    alike: dict[tuple[int, int | None], list[int]] = {}
    for index, prompt in enumerate(prompts):
        alike.setdefault((len(prompt), repeat_length(prompt)), []).append(index)
    for (length, _), indices in alike.items():
        at_once = max(1, _TOKENS_AT_ONCE // length)
        for first in range(0, len(indices), at_once):
            yield indices[first : first + at_once]
