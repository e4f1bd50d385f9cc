"""Verdicts about causes: whether heads with a role matter more than control heads, through which layers an answer
arrives, and whether a shift of all positions changes the output. Pure functions of numbers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from neolens.checks import shown
from neolens.checks.annotations import Count, Probability, Text, check_as_many, checked
from neolens.stats import ALPHA
from neolens.stats.verdicts.verdict import Status, Verdict
from neolens.wording import join

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
        heads: what is ablated, such as `head 2.1 of lab/gpt2` or `all induction heads of lab/gpt2`.
        count: how many heads that is.
        effect: what ablating them adds to the loss, in nats per token.
        more: how much more than control heads.
        p: of `more`, corrected; NaN where there is none.
        where: where control heads are drawn, such as `layer 2` or `the network`.
        controls: heads there without the role.
    """
    claim = f"ablating {heads} adds more to the loss than ablating as many control heads of {where}"
    if not count:
        return Verdict(claim, "not measured", "no head has the role")
    if not controls:
        return Verdict(claim, "not measured", f"no control: every head of {where} has the role")
    if controls < count:
        have = f"only {controls} head{'s' if controls > 1 else ''} of {where} {'do' if controls > 1 else 'does'} not"
        return Verdict(claim, "not measured", f"no control: {count} heads have the role and {have}")
    if not math.isfinite(more):
        return Verdict(claim, "not measured", "no control heads were ablated")
    reason = f"{effect:.2f} nats per token, {more:+.2f} more than control heads"
    if not math.isfinite(p):
        return Verdict(claim, "not measured", f"{reason}, without a p")
    status: Status = "not significant" if p >= ALPHA else "supported" if more > 0 else "contradicted"
    return Verdict(claim, status, f"{reason}, corrected p = {p:.2g}")


@dataclass(frozen=True)
class Arrival(Verdict):
    """A verdict on the layers through which an answer arrives, at distances that agree."""

    distances: tuple[int, ...]
    through: str
    """Such as `global layers 2 and 0 in seeds 0, 1 and 2`."""
    removed: str
    """The share of the effect of the source token that restricting each of these layers removes."""


def needed_layers(
    shares: Float[np.ndarray, "*axes layer"], significant: Bool[np.ndarray, "*axes layer"]
) -> Bool[np.ndarray, "*axes layer"]:
    """Which layers are needed: restricting one removes `NEEDED` of the effect or more, significantly; a NaN share is of
    a layer that was not restricted."""
    shares = _array(shares, "shares", float)
    return _array(significant, "significant", bool, shares.shape) & (np.nan_to_num(shares, nan=-np.inf) >= NEEDED)


@checked
def arrives_through(
    subject: Text,
    distances: Sequence[int],
    seeds: Sequence[int],
    shares: Float[np.ndarray, "seed distance layer"],
    significant: Bool[np.ndarray, "seed distance layer"],
    answers: Bool[np.ndarray, "seed distance"],
    *,
    restricted_to: Text,
    kinds: Sequence[str] = (),
) -> list[Arrival]:
    """Through which layers an answer arrives, a verdict for each group of distances at which the same layers are
    needed in every seed; distances that disagree are never pooled.

    `supported` where a layer is needed, `not significant` where no single one is, `not measured` where no network
    answers.

    Args:
        subject: task and model, such as `the answer to induction in lab/gpt-neo`.
        shares: of the effect of the source token that restricting a layer removes; NaN where a layer was not
            restricted, as it is local already.
        significant: whether each share is, corrected for all of them.
        answers: whether a network answers at a distance; where it does not, its shares mean nothing.
        restricted_to: what a layer was restricted to, such as `the window of 16 tokens`.
        kinds: the kind of attention of each layer where layers differ.
    """
    answers = _array(answers, "answers", bool, (len(seeds), len(distances)))
    shares = _array(shares, "shares", float, (*answers.shape, None))
    if len(kinds):
        check_as_many(kinds=kinds, layers=range(shares.shape[-1]))
    needed = needed_layers(shares, significant) & answers[..., None]
    groups: dict[bytes, list[int]] = {}
    for at in range(len(distances)):
        groups.setdefault(np.concatenate([needed[:, at].ravel(), answers[:, at]]).tobytes(), []).append(at)
    return [
        _at(subject, [distances[at] for at in group], seeds, shares[:, group], needed[:, group[0]],
            answers[:, group[0]], restricted_to, kinds)
        for group in groups.values()
    ]  # fmt: skip


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


def _at(
    subject: str,
    distances: Sequence[int],
    seeds: Sequence[int],
    shares: Float[np.ndarray, "seed distance layer"],
    needed: Bool[np.ndarray, "seed layer"],
    answering: Bool[np.ndarray, " seed"],
    restricted_to: str,
    kinds: Sequence[str],
) -> Arrival:
    """One group of distances, at which the same layers are needed."""
    cases: dict[tuple[int, ...], list[int]] = {}
    for seed in np.flatnonzero(answering):
        by_share = np.argsort(-shares[seed].mean(0), kind="stable").tolist()
        order = tuple(layer for layer in by_share if needed[seed, layer])
        same = next((case for case in cases if set(case) == set(order)), order)
        cases.setdefault(same, []).append(int(seed))
    through, removed = [], []
    for layers, rows in sorted(cases.items(), key=lambda case: -len(case[1])):
        of = _in_seeds([seeds[row] for row in rows], len(seeds))
        through.append(f"{_through(layers, kinds)}{of}")
        each = [f"layer {layer}: {_span(shares[rows][:, :, layer])}" for layer in layers]
        removed += [f"{', '.join(each)}{of if len(cases) > 1 else ''}"] if each else []
    told = join(through) if through else "a single layer"
    status, reason = _why(shares[answering], "; ".join(removed), restricted_to)
    claim = f"{join([str(one) for one in distances])} tokens back, {subject} arrives through {told}"
    return Arrival(claim, status, reason, tuple(distances), told, "; ".join(removed))


def _why(shares: Float[np.ndarray, "seed distance layer"], removed: str, restricted_to: str) -> tuple[Status, str]:
    """The status and reason of one group, from the shares of the networks that answer."""
    effect = "of the effect of the source token"
    if not len(shares):
        return "not measured", "no network answers"
    if removed:
        return "supported", f"share {effect} removed by restricting a layer to {restricted_to}: {removed}"
    tried = shares[np.isfinite(shares)]
    if not tried.size:
        return "not measured", f"no layer attends farther than {restricted_to}"
    start = f"restricting a single layer to {restricted_to} removes {NEEDED:.0%} {effect} in none, significantly"
    return "not significant", f"{start} (largest share: {tried.max():.2f})"


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


def _through(layers: Sequence[int], kinds: Sequence[str]) -> str:
    """`global layer 2`, `layers 2 and 0`, `no single layer`."""
    if not layers:
        return "no single layer"
    of = {kinds[layer] for layer in layers} if kinds else set()
    kind = f"{of.pop()} " if len(of) == 1 else ""
    return f"{kind}layer{'s' if len(layers) > 1 else ''} {join([str(layer) for layer in layers])}"


def _span(shares: Float[np.ndarray, "*axes"]) -> str:
    """`0.70 to 0.96`: the lowest and the highest of seeds and distances."""
    ends = [f"{float(np.nanmin(shares)) + 0.0:.2f}", f"{float(np.nanmax(shares)) + 0.0:.2f}"]
    return " to ".join(dict.fromkeys(ends))


def _in_seeds(these: Sequence[int], of: int) -> str:
    if of == 1:
        return ""
    return f" in seed{'s' if len(these) > 1 else ''} {join([str(one) for one in these])}"
