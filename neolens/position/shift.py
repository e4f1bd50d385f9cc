"""The shift test: every position index moves by D, and nothing else changes.

Scores of a rotary model depend on i - j alone, so its logits stay, up to rounding, wherever the text stands (Su et al.
2021, arXiv 2104.09864, eq. 16). A learned absolute embedding is another vector at each index, so an absolute model
moves as far as it reads where it is. Rounding is judged against float64: what is left of a change when everything,
angles included, is computed in it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import xarray as xr
from jaxtyping import Float, Int, Real
from torch import Tensor
from tqdm.auto import tqdm

from neolens import results
from neolens.checks import check_whole_numbers, shown
from neolens.models import Anatomy
from neolens.models.treatments import EXACT, Shift
from neolens.network import PatternBlock, Weights, cast, logits, measurement, residual
from neolens.network.measurement import few_prompts
from neolens.position.checks import asked_weights
from neolens.prompts.tokens import Prompts, validated
from neolens.readout.losses import TOKENS_AT_ONCE
from neolens.readout.predictions import LOGIT_BYTES

_VARIABLES = {
    "logits": ("prompt", "shift"),
    "kl_divergence": ("prompt", "shift"),
    "loss": ("prompt", "shift"),
    "residual": ("prompt", "shift", "layer"),
    "pattern": ("prompt", "shift", "layer", "head"),
}


@measurement(narrow=few_prompts)
def shift(model: Any, tokens: Prompts, by: Any = None, *, exact: bool = True, progress: bool = True) -> xr.Dataset:
    """How far logits, residual stream and patterns move when every position index moves by D.

    Args:
        model: from `neolens.load`, with absolute or rotary positions; a shift adds to a `what_if` in force.
        tokens: an integer tensor [prompt, pos], or a list of one-dimensional ones where lengths differ.
        by: D, or several; by default 1, 2, 4, ... and the farthest: as far as an absolute model's context has room for
            the prompts, of a rotary model the whole context.
        exact: whether to judge rounding by the same runs in float64; takes a copy of the weights in it.
        progress: whether to show a bar, counting runs.

    Returns:
        By prompt and `shift`: `logits`, the largest change of a logit over positions and vocabulary, in logits;
        `kl_divergence` sum p log(p / q) in nats, p unshifted, the mean over positions; `loss`, the shifted loss less
        the unshifted one, in nats a token, positive where the shift does harm; `residual` by layer besides, the mean
        over positions of |x' - x| / |x| after the layer; `pattern` by layer and head, the mean over queries from 1 on
        of the total variation distance, sum |A' - A| / 2, 0 to 1. `spread` by prompt is the largest less the smallest
        unshifted logit. With `exact`, `logits_exact` is `logits` in float64, angles included, and `rounding` by prompt
        the largest difference between an unshifted logit and that in float64. A rotary model's angles are taken in
        float32, coarser the farther they are: a far shift can move its `logits` by more than `rounding`, and only
        `logits_exact` tells that nothing has moved.

    Raises:
        TypeError: not a model from `neolens.load`, or a shift that is no whole number.
        ValueError: a model without positions or with hooks on it, a prompt of fewer than 2 tokens, or an absolute
            model that has no learned position where a token would stand.
    """
    began = time.perf_counter()
    weights = asked_weights(model, "a shift", "absolute", "rotary")
    facts = weights.anatomy
    prompts = validated(tokens, facts, shortest=2)
    shifts = _asked(by, prompts, facts)
    found: dict[str, list] = {name: [] for name in (*_VARIABLES, "spread", "logits_exact", "rounding")}
    double = cast(weights, torch.float64) if exact else None
    with tqdm(
        total=len(prompts) * len(shifts), desc="shifts", unit="run", disable=None if progress else True, delay=1
    ) as bar:
        for prompt in prompts:
            for name, value in _of_prompt(weights, double, prompt.to(weights.embedding.device), shifts, bar).items():
                found[name].append(value)
    variables: dict[str, tuple[tuple[str, ...], np.ndarray]]
    variables = {name: (dims, np.stack(found[name])) for name, dims in _VARIABLES.items()}
    variables["spread"] = (("prompt",), np.array(found["spread"]))
    if exact:
        variables["logits_exact"] = (("prompt", "shift"), np.stack(found["logits_exact"]))
        variables["rounding"] = (("prompt",), np.array(found["rounding"]))
    coords = {
        "prompt": np.arange(len(prompts)),
        "length": ("prompt", [len(prompt) for prompt in prompts]),
        "shift": np.array(shifts),
    }
    attrs = results.provenance(model, facts, seconds=round(time.perf_counter() - began, 3))
    return results.build(variables, facts, coords=coords, attrs=attrs)


def _asked(by: Any, prompts: Sequence[Tensor], facts: Anatomy) -> tuple[int, ...]:
    """The shifts, each of which every prompt can take."""
    longest = max(map(len, prompts))
    room = facts.context - longest if facts.position.kind == "absolute" else facts.context
    if by is None:
        if room < 1:
            raise ValueError(
                f"a prompt has {longest} tokens and {facts.name} {facts.context} positions: there is no room to shift "
                "it; cut it, for example with neolens.prompts.chunks"
            )
        return tuple(sorted({*(2**power for power in range(room.bit_length())), room}))
    shifts = check_whole_numbers(by, "a shift by")
    for one in shifts:
        if facts.position.kind == "absolute" and not 0 <= one <= room:
            number = next(n for n, prompt in enumerate(prompts) if len(prompt) == longest)
            raise ValueError(
                f"prompt {number} of {longest} tokens cannot be shifted by {shown(one)}: {facts.name} has positions 0 "
                f"to {facts.context - 1} here; expected 0 to {room}, or shorter prompts"
            )
        Shift(one)
        if one + longest - 1 > EXACT:
            raise ValueError(
                f"{facts.name} cannot be shifted by {shown(one)}: beyond {EXACT} positions are not exact in float32"
            )
    return shifts


def _of_prompt(
    weights: Weights, double: Weights | None, prompt: Int[Tensor, " pos"], shifts: Sequence[int], bar: tqdm
) -> dict[str, Any]:
    """Every variable of one prompt."""
    at_once = max(1, TOKENS_AT_ONCE // len(prompt) - 1)
    parts, final = [], torch.empty(0)
    for first in range(0, len(shifts), at_once):
        some = shifts[first : first + at_once]
        moved, final = _moved(weights, prompt, some)
        parts.append(moved)
        bar.update(len(some))
    found: dict[str, Any] = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    found["spread"] = float(parts[0]["spread"][0])
    if double is not None:
        final_exact, found["logits_exact"] = _exact_changes(double, prompt, shifts)
        found["rounding"] = 0.0 if double is weights else _largest_difference((weights, final), (double, final_exact))
    return found


def _exact_changes(
    weights: Weights, prompt: Int[Tensor, " pos"], shifts: Sequence[int]
) -> tuple[Float[Tensor, "pos d_model"], list[float]]:
    """The unshifted final residual stream, and the largest change of a logit by each shift, with weights in float64.

    One run at a time: the rows of a product of several runs may be rounded differently, and runs that are equal have to
    be so to the bit.
    """
    place = torch.arange(len(prompt), device=prompt.device)

    def run(by: int) -> Float[Tensor, "pos d_model"]:
        return residual(weights, prompt[None], positions=_positions(weights, place + by))[0]

    final = run(0)
    return final, [_largest_difference((weights, final), (weights, run(by))) for by in shifts]


def _positions(weights: Weights, positions: Int[Tensor, "*pos"]) -> Real[Tensor, "*pos"]:
    """The positions, in the dtype in which a rotation takes its angles as exactly as the weights are."""
    exactly = weights.embedding.dtype == torch.float64 and weights.anatomy.position.kind == "rotary"
    return positions.double() if exactly else positions


def _moved(
    weights: Weights, prompt: Int[Tensor, " pos"], shifts: Sequence[int]
) -> tuple[dict[str, np.ndarray], Float[Tensor, "pos d_model"]]:
    """What each shift moves, and the unshifted final residual stream; the runs go up the layers side by side."""
    facts, length = weights.anatomy, len(prompt)
    exact = torch.promote_types(weights.embedding.dtype, torch.float32)
    by = torch.tensor([0, *shifts], device=prompt.device)
    positions = _positions(weights, torch.arange(length, device=prompt.device) + by[:, None])
    pattern = torch.zeros(len(shifts), facts.layers, facts.heads, dtype=torch.float64, device=prompt.device)
    stream = torch.zeros(len(shifts), facts.layers, dtype=torch.float64, device=prompt.device)

    def observe(block: PatternBlock) -> None:
        rows = block.pattern.to(exact)
        apart = (rows[1:] - rows[:1]).abs().sum(-1).double() / 2
        pattern[:, block.layer] += apart.sum(-1) / (length - 1)  # the first query sees one key: its row cannot move

    def watch(site: str, layer: int | None, x: Tensor) -> None:
        if site == "resid_post":
            x = x.to(exact)
            stream[:, layer] = ((x[1:] - x[:1]).norm(dim=-1) / x[:1].norm(dim=-1)).double().mean(-1)

    final = residual(
        weights,
        prompt.expand(len(by), -1),
        positions=positions,
        observer=observe,
        watch=watch,
    )
    said = _said(weights, final, prompt)
    found = {"pattern": pattern, "residual": stream, **said}
    return {name: value.cpu().numpy() for name, value in found.items()}, final[0]


def _said(
    weights: Weights, final: Float[Tensor, "run pos d_model"], prompt: Int[Tensor, " pos"]
) -> dict[str, Float[Tensor, " _"]]:
    """What each shifted run says beside the unshifted one, which is the first, and the spread of that one; some
    positions at a time."""
    length, runs = len(prompt), len(final) - 1
    zeros = final.new_zeros(runs, dtype=torch.float64)
    largest, divergence, losses = zeros, zeros.clone(), final.new_zeros(runs + 1, dtype=torch.float64)
    low, high = torch.inf, -torch.inf
    step = max(1, LOGIT_BYTES // (8 * weights.anatomy.d_vocab * len(final)))
    for some in torch.arange(length, device=prompt.device).split(step):
        said = logits(weights, final[:, some]).double()
        low, high = min(low, float(said[0].min())), max(high, float(said[0].max()))
        largest = torch.maximum(largest, (said[1:] - said[:1]).abs().amax((1, 2)))
        log_p = said.log_softmax(-1)
        divergence += (log_p[:1].exp() * (log_p[:1] - log_p[1:])).sum((1, 2)).clamp(min=0) / length
        asked = some[some < length - 1]
        right = log_p[:, : len(asked)].gather(-1, prompt[asked + 1].expand(runs + 1, -1)[..., None])
        losses -= right.sum((1, 2)) / (length - 1)
    spread = torch.tensor([high - low])
    return {"logits": largest, "kl_divergence": divergence, "loss": losses[1:] - losses[0], "spread": spread}


def _largest_difference(*runs: tuple[Weights, Float[Tensor, "pos d_model"]]) -> float:
    """The largest difference of a logit between two runs of one prompt, each with its own weights."""
    step, largest = max(1, LOGIT_BYTES // (8 * runs[0][0].anatomy.d_vocab)), 0.0
    for part in zip(*(final.split(step) for _, final in runs), strict=True):
        one, other = (logits(weights, x[None]).double() for (weights, _), x in zip(runs, part, strict=True))
        largest = max(largest, float((one - other).abs().max()))
    return largest
