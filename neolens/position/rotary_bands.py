"""Rotary bands: how much each frequency is used by each head, and what is lost without it.

A rotation turns each pair of dimensions (m, m + rotary dimensions / 2) of q and k at a frequency of its own; band 0 is
the fastest. The norms of the pairs say how much of a head stands in a band (Barbero et al. 2024, arXiv 2410.06205);
what becomes of the head without the band says whether it matters.
"""

from __future__ import annotations

import math
import time
from collections.abc import Set
from typing import Any

import numpy as np
import torch
import xarray as xr
from jaxtyping import Int
from torch import Tensor
from tqdm.auto import tqdm

from neolens import results
from neolens.checks import check_indices, check_text, check_whole_numbers, shown
from neolens.models import Anatomy
from neolens.models.treatments import WithoutBands
from neolens.network import Weights, measurement, residual
from neolens.network.blockwise import attend_in_blocks
from neolens.position.checks import asked_weights
from neolens.prompts.tokens import Prompts, repeat_length, validated
from neolens.readout.losses import batches_by_length, losses
from neolens.scores.attention import attention
from neolens.scores.sums import Sums
from neolens.whatif import what_if


@measurement(exclusive=True)
def bands(model: Any, tokens: Prompts, which: Any = None, *, progress: bool = True) -> xr.Dataset:
    """The use of each rotary band by each head, and what its head and the whole network lose without it.

    A head's band can be taken out in two ways. *Held*: from this head alone, everything that comes into it held as it
    was. *Without*: from every head of every layer at once (`what_if(positions=WithoutBands([band]))`), so that heads
    above get another input besides.

    Args:
        model: from `neolens.load`, with rotary positions.
        tokens: an integer tensor [prompt, pos], or a list of one-dimensional ones where lengths differ.
        which: bands, from 0, the fastest; by default all.
        progress: whether to show a bar, counting bands.

    Returns:
        By prompt, layer, head and band: `query_norm` and `key_norm`, the mean over positions of the length of the two-
        dimensional pair of q and of k. `previous_token` by prompt, layer and head as of `neolens.attention`, and
        `previous_token_held` and `previous_token_without` with the band taken out; where every prompt repeats
        [BOS, r, r] the same of `induction`. `loss` by prompt and pos, of predicting token i + 1, in nats, and
        `loss_without` by band besides. Bands carry their `frequency` (radians a token) and `wavelength` (tokens).

    Raises:
        TypeError: not a model from `neolens.load`, or bands that are no whole numbers.
        ValueError: a model without rotary positions, with hooks on it or inside another `what_if(positions=...)`, a
            band that does not exist, or a prompt of fewer than 2 tokens.
    """
    began = time.perf_counter()
    weights = asked_weights(model, "a probe of rotary bands", "rotary", untreated=True)
    facts = weights.anatomy
    chosen = range(len(facts.position.frequencies)) if which is None else _chosen(which, facts)
    prompts = validated(tokens, facts, shortest=2)
    names = ["previous_token"]
    if all(repeat_length(prompt) is not None for prompt in prompts):
        names.append("induction")
    with tqdm(total=1 + len(chosen), desc="bands", unit="band", disable=None if progress else True, delay=1) as bar:
        found = _held(weights, prompts, chosen, names)
        found |= {name: value.values for name, value in _scores(model, prompts, names)}
        found["loss"] = losses(model, prompts)
        bar.update()
        for name in [*names, "loss"]:
            found[f"{name}_without"] = np.empty((*found[name].shape, len(chosen)))
        for number, band in enumerate(chosen):
            with what_if(model, positions=WithoutBands([band])):
                for name, value in _scores(model, prompts, names):
                    found[f"{name}_without"][..., number] = value.values
                found["loss_without"][..., number] = losses(model, prompts)
            bar.update()
    return _labelled(model, facts, prompts, chosen, found, time.perf_counter() - began)


def _chosen(which: Any, facts: Anatomy) -> tuple[int, ...]:
    bands = check_whole_numbers([*which] if isinstance(which, Set) else which, "band", 0)
    return tuple(check_indices(bands, "band", len(facts.position.frequencies), facts.name))


def taken_away(result: xr.Dataset, score: str = "previous_token", *, how: str = "held") -> xr.DataArray:
    """The share of a head's score that goes with each band: (score - score without the band) / score, means over
    prompts first, by layer, head and band; below 0 where the score rises.

    Args:
        result: of `bands`.
        how: "held" or "without".

    Raises:
        ValueError: a score or way that the result does not hold.
    """
    results.check_result(result, "result", [], ["band"], "neolens.position.bands")
    check_text(score, "score", example="previous_token")
    check_text(how, "how", example="held")
    held = sorted(
        str(name) for name in result if str(name).endswith(("_held", "_without")) and "head" in result[name].dims
    )
    if f"{score}_{how}" not in held:
        raise ValueError(
            f"no {shown(f'{score}_{how}').strip(chr(39))} of heads in the result: it holds "
            f"{', '.join(held) or 'nothing of neolens bands'}"
        )
    whole = result[score].mean("prompt")
    return ((whole - result[f"{score}_{how}"].mean("prompt")) / whole).rename("taken_away")


def _labelled(
    model: Any, facts: Anatomy, prompts: list[Tensor], chosen: Any, found: dict[str, np.ndarray], seconds: float
) -> xr.Dataset:
    by_head = ("prompt", "layer", "head", "band")
    variables = {}
    for name, value in found.items():
        dims = ("prompt", "pos", "band") if name.startswith("loss") else by_head
        variables[name] = (dims[: value.ndim], value)
    frequencies = [facts.position.frequencies[band] for band in chosen]
    coords = {
        "prompt": np.arange(len(prompts)),
        "length": ("prompt", [len(prompt) for prompt in prompts]),
        "band": list(chosen),
        "frequency": ("band", frequencies),
        "wavelength": ("band", [2 * math.pi / frequency for frequency in frequencies]),
    }
    attrs = results.provenance(model, facts, seconds=round(seconds, 3))
    return results.build(variables, facts, coords=coords, attrs=attrs)


def _scores(model: Any, prompts: list[Tensor], names: list[str]) -> list[tuple[str, xr.DataArray]]:
    found = attention(model, prompts, scores=names, distances=[0])
    return [(name, found[name]) for name in names]


def _held(weights: Weights, prompts: list[Tensor], chosen: Any, names: list[str]) -> dict[str, np.ndarray]:
    """Norms of the bands, and scores with each band taken out of one head at a time, its input held."""
    shape = (len(prompts), weights.anatomy.layers, weights.anatomy.heads, len(chosen))
    found = {name: np.empty(shape) for name in ("query_norm", "key_norm", *(f"{name}_held" for name in names))}
    for rows in batches_by_length(prompts):
        batch = torch.stack([prompts[row] for row in rows]).to(weights.embedding.device)
        one = _Held(weights.anatomy, batch, repeat_length(prompts[rows[0]]), chosen)
        residual(weights, batch, watch=one.watch, stop_after=shape[1] - 1)
        found["query_norm"][rows], found["key_norm"][rows] = (norm.cpu() for norm in (one.query_norm, one.key_norm))
        for number, sums in enumerate(one.sums):
            scores, _ = sums.finish()
            for name in names:
                found[f"{name}_held"][rows, ..., number] = scores[name].cpu()
    return found


class _Held:
    """Watches a pass go by, and attends in each layer once more without each band."""

    def __init__(self, facts: Anatomy, tokens: Int[Tensor, "prompt pos"], repeat: int | None, chosen: Any) -> None:
        self.facts, self.chosen = facts, list(chosen)
        count, length = tokens.shape
        self.sums = [Sums(facts, count, length, repeat, tokens.device) for _ in self.chosen]
        shape = (2, count, facts.layers, facts.heads, len(self.chosen))
        norms = torch.zeros(shape, dtype=torch.float64, device=tokens.device)
        self.query_norm, self.key_norm = norms
        self.q = torch.empty(0)

    def watch(self, site: str, layer: int | None, x: Tensor) -> None:
        if site == "rot_q":
            self.q = x.transpose(1, 2)
        elif site == "rot_k" and layer is not None:
            self.attend(self.q, x.transpose(1, 2), layer)

    def attend(self, q: Tensor, k: Tensor, layer: int) -> None:
        half = self.facts.position.rotary_dims // 2
        for number, (band, sums) in enumerate(zip(self.chosen, self.sums, strict=True)):
            pair = [band, band + half]
            self.query_norm[:, layer, :, number] = q[..., pair].double().norm(dim=-1).mean(-1)
            self.key_norm[:, layer, :, number] = k[..., pair].double().norm(dim=-1).mean(-1)
            without = q.clone()
            without[..., pair] = 0.0
            attend_in_blocks(
                *(without, k, k[..., :1], self.facts.attention[layer]),
                scale=self.facts.layer_scale(layer),
                upcast=self.facts.upcasts_scores,
                layer=layer,
                observer=sums.add,
            )
