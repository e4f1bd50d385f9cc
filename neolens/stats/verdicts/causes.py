"""Verdicts about causes: whether heads with a role matter more than control heads, through which layers an answer
arrives, and whether a shift of all positions changes the output. Pure functions of numbers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from neolens.checks import shown
from neolens.checks.annotations import Count, Probability, Text, check_annotated, checked
from neolens.stats.verdicts.verdict import Status, Verdict, significance

NEEDED = 0.1
"""The share of the effect of the source token that restricting a layer must remove for the layer to be needed."""

ROUNDING = 1e-9
"""A change of the logits in float64, as a share of their range, below which nothing has changed but rounding."""

NATS = 1e-3
"""Nats per token: a smaller KL divergence is no change of the predictions worth speaking of."""


@checked
def more_than_controls(
    heads: Text, count: Count, effect: float, more: float, p: Probability, where: Text, *, controls: Count
) -> Verdict:
    """Whether ablating heads with a role adds more to the loss than ablating control heads, which do not have it.

    Args:
        heads: what is ablated, such as `all induction heads of lab/gpt2`, `count` heads.
        effect: what that adds to the loss, in nats per token; `more` than control heads, with its corrected `p`.
        where: where control heads are drawn, such as `layer 2`, with so many `controls`, heads without the role.
    """
    claim = f"ablating {heads} adds more to the loss than ablating as many control heads of {where}"
    if untested := _no_control(count, more, where, controls):
        return Verdict(claim, "not measured", untested)
    sizes = f"{effect:.2f} nats per token, {more:+.2f} more than control heads"
    verdict = significance(claim, p, sizes, untested="without a p")
    return replace(verdict, status="contradicted") if verdict.status == "supported" and more <= 0 else verdict


def _no_control(count: int, more: float, where: str, controls: int) -> str:
    """Why heads with a role cannot be compared with control heads; empty where they can."""
    if not count:
        return "no head has the role"
    if controls < count:
        return f"no control: {count} with the role and {controls} without it in {where}"
    return "" if math.isfinite(more) else "no control heads were ablated"


@dataclass(frozen=True)
class NeededLayers:
    """Through which layers an answer arrives at distances that agree."""

    distances: tuple[int, ...]
    seeds: Mapping[tuple[int, ...], Sequence[int]]
    """Needed layers, that which removes most first -> the seeds in which exactly these are needed; the most seeds
    first. Seeds in which no layer is needed are left out."""
    status: Status
    reason: str

    def __post_init__(self) -> None:
        check_annotated(self)


def needed_layers(
    shares: Float[np.ndarray, "*axes layer"], significant: Bool[np.ndarray, "*axes layer"]
) -> Bool[np.ndarray, "*axes layer"]:
    """Which layers are needed: restricting one removes `NEEDED` of the effect or more, significantly; a NaN share is of
    a layer that was not restricted."""
    shares = _array(shares, "shares", float)
    return _array(significant, "significant", bool, shares.shape) & (np.nan_to_num(shares, nan=-np.inf) >= NEEDED)


@checked
def arrives_through(
    distances: Sequence[int],
    seeds: Sequence[int],
    shares: Float[np.ndarray, "seed distance layer"],
    significant: Bool[np.ndarray, "seed distance layer"],
    answers: Bool[np.ndarray, "seed distance"],
    *,
    restricted_to: Text,
) -> list[NeededLayers]:
    """Through which layers an answer arrives, for each group of distances at which the same layers are needed in every
    seed; distances that disagree are never pooled.

    `supported` where a layer is needed, `not significant` where no single one is, `not measured` where no network
    answers.

    Args:
        shares: of the effect of the source token that restricting a layer removes; NaN where a layer was not
            restricted, as it is local already.
        significant: whether each share is, corrected for all of them.
        answers: whether a network answers at a distance; where it does not, its shares mean nothing.
        restricted_to: what a layer was restricted to, such as `the window of 16 tokens`.
    """
    answers = _array(answers, "answers", bool, (len(seeds), len(distances)))
    shares = _array(shares, "shares", float, (*answers.shape, None))
    needed = needed_layers(shares, significant) & answers[..., None]
    groups: dict[bytes, list[int]] = {}
    for at in range(len(distances)):
        groups.setdefault(np.concatenate([needed[:, at].ravel(), answers[:, at]]).tobytes(), []).append(at)
    return [
        NeededLayers(
            tuple(distances[at] for at in group),
            _by_layers(shares[:, group].mean(1), needed[:, group[0]], seeds),
            *_status(needed[:, group], shares[answers[:, group[0]]][:, group], restricted_to),
        )
        for group in groups.values()
    ]


def _array(value: Any, what: str, kind: type, shape: tuple[int | None, ...] | None = None) -> np.ndarray:
    """Numbers or truth values of a shape, in which None is any size."""
    try:
        array = np.asarray(value)
        numbers = array if array.dtype.kind in "biuf" and array.ndim else None
    except (TypeError, ValueError):  # of ragged lists and of tensors that are not in memory
        numbers = None
    if numbers is None or (kind is bool and numbers.dtype != bool):
        raise TypeError(
            f"{what} {shown(value)}: expected an array of {'numbers' if kind is float else 'True and False'}"
        )
    if shape is not None and (
        numbers.ndim != len(shape)
        or any(size not in (None, has) for size, has in zip(shape, numbers.shape, strict=True))
    ):
        axes = ", ".join("any" if size is None else str(size) for size in shape)
        raise ValueError(f"{what} of shape {numbers.shape}: expected ({axes})")
    return numbers.astype(kind)


def _by_layers(
    shares: Float[np.ndarray, "seed layer"], needed: Bool[np.ndarray, "seed layer"], seeds: Sequence[int]
) -> dict[tuple[int, ...], list[int]]:
    """`NeededLayers.seeds`."""
    cases: dict[tuple[int, ...], list[int]] = {}
    for seed in np.flatnonzero(needed.any(-1)):
        by_share = np.argsort(-shares[seed], kind="stable").tolist()
        order = tuple(layer for layer in by_share if needed[seed, layer])
        same = next((case for case in cases if set(case) == set(order)), order)
        cases.setdefault(same, []).append(seeds[int(seed)])
    return dict(sorted(cases.items(), key=lambda case: -len(case[1])))


def _status(needed: np.ndarray, shares: np.ndarray, restricted_to: str) -> tuple[Status, str]:
    """The status and reason of one group, from the shares of the networks that answer."""
    if needed.any():
        return "supported", ""
    if not len(shares):
        return "not measured", "no network answers"
    if not np.isfinite(shares).any():
        return "not measured", f"no layer attends farther than {restricted_to}"
    return "not significant", f"no layer removes {NEEDED:.0%} or more, significantly"


@checked
def shift_changes_output(kl: float, logits_exact: float, by: int, *, relative: bool) -> Verdict:
    """Whether shifting every position index changes the predictions.

    `supported`: the KL divergence is `NATS` or more; `exact`: in float64 nothing is left but rounding, so the
    predictions are unchanged; `contradicted`: they should be and are not.

    Args:
        kl: mean KL divergence of the shifted from the unshifted predictions, in nats per token.
        logits_exact: largest change of a logit in float64, as a share of the range of the logits; NaN where it was not
            computed.
        relative: whether scores depend on relative positions alone, so that nothing may change.
    """
    shifting = f"shifting every position index by {by}"
    claims = {True: f"{shifting} leaves the predictions unchanged", False: f"{shifting} changes the predictions"}
    exactly = f"{logits_exact:.1g} of the range of the logits in float64"
    if not math.isfinite(kl):
        return Verdict(claims[relative], "not measured", "no position index to shift")
    if logits_exact < ROUNDING:
        return Verdict(claims[True], "exact", f"but for rounding, {exactly}")
    if relative and math.isfinite(logits_exact):
        return Verdict(claims[True], "contradicted", f"logits change by {exactly}")
    if kl < NATS:
        return Verdict(claims[False], "not significant", f"below {NATS:g} nats per token")
    return Verdict(claims[False], "supported", "")
