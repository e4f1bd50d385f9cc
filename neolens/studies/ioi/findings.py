"""A circuit as findings: whether a model does the task, its strongest heads with their inputs, and the published heads.

A share is the part of the difference between the clean and the corrupted mean logit difference that one patch moves;
intervals are over prompts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import zip_longest
from typing import Any

import xarray as xr

from neolens.checks.annotations import Text, checked
from neolens.patching.effects import Input, inputs, of_head, ranked
from neolens.stats.verdicts import Status
from neolens.studies.finding import Finding, StudyWarning
from neolens.studies.ioi.published import Compared
from neolens.studies.ioi.summary import SOLVED, Circuit, accuracy, means, solves
from neolens.studies.ioi.tables import span
from neolens.wording import percent, two_digits

LEAST = 0.02
"""Shares below this are never significant."""

FEW = 8
"""Prompts below which the intervals are warned about."""

PLACES = {
    "changed": "the first changed token",
    "end": "the last token",
    "io": "the indirect object",
    "s1": "the first mention of the giver",
    "s2": "the second mention of the giver",
}
INPUTS = {"q": "queries", "k": "keys", "v": "values"}

HEADLINES = {
    "supported": "Patching head {head} of {model} alone moves {share} of the logit difference{through}.",
    "not significant": f"No single head of {{model}} moves {LEAST} of the logit difference or more, with an interval "
    "that excludes 0.",
    "not measured": "Which head of {model} moves the logit difference was not measured: {reason}.",
    "contradicted": "{model} does not do the task: it prefers the answer in {share} of clean prompts{reason}.",
}
"""Verdict -> the answer to the question of the study."""

THROUGH = ", {share} through its {what} at {place}"
TASK = f"prefers the answer in {percent(SOLVED)} of clean prompts or more, and less in corrupted ones"
MOVES = "patching the output of {head} at the last token moves the logit difference"
READS = "patching the {what} of head {head} at {place} moves the logit difference"
ROLE = (
    "half or more of the {n} published {row.role} heads are among the first {row.first} by {row.site} at {row.position}"
)

WARNINGS = {
    "does not do the task": "{model} prefers the answer in only {right} of {prompts} prompts, less than {solved}: its "
    "heads are no circuit for this task.",
    "no difference to patch": "{model} prefers the answer no more in clean than in corrupted prompts, so there are no "
    "shares.",
    "few prompts": f"{{model}} has fewer than {FEW} prompts ({{prompts}}): its intervals are rough.",
}
"""Kind of warning -> its text."""


@checked
def findings(circuits: Sequence[Circuit]) -> list[Finding]:
    """The findings of each model in turn, those that do the task first; the first has the headline."""
    ordered = sorted(circuits, key=lambda one: not solves(one))
    in_turn = [one for same in zip_longest(*map(of_model, ordered)) for one in same if one is not None]
    return [replace(one, headline="" if at else headline(ordered[0])) for at, one in enumerate(in_turn)]


@checked
def of_model(circuit: Circuit) -> list[Finding]:
    """The strongest head with its strongest input, the task, the strongest head of each kind, and the published heads;
    of a model that does not do the task, only that."""
    if not solves(circuit):
        return [task(circuit)]
    head, first = _strongest(circuit), strongest_head(circuit)
    kinds = [kind for kind in ("global", "local") if _strongest(circuit, kind) not in ("", head)]
    sources = [strongest_input(circuit, head)] if first.verdict == "supported" else []
    others = [strongest_head(circuit, kind) for kind in kinds]
    return [first, *sources, task(circuit), *others, *(_published(circuit, row) for row in circuit.compared)]


@checked
def task(circuit: Circuit) -> Finding:
    """Whether a model does the task."""
    status: Status = "supported" if solves(circuit) else "contradicted"
    clean, corrupted = means(circuit.result)
    reason = "" if clean > corrupted else "no more in clean than in corrupted prompts"
    return _finding(circuit, TASK, status, estimate=accuracy(circuit.result), unit="share of prompts", reason=reason)


@checked
def strongest_head(circuit: Circuit, kind: str = "") -> Finding:
    """The head whose output at the end moves most, of those with an interval without 0; of all heads where none has.

    Args:
        kind: of the layers whose heads are ranked, `global` or `local`; by default all layers.

    Raises:
        ValueError: no such head, or no shares, as in a model whose clean and corrupted runs are alike.
    """
    head, end = _strongest(circuit, kind), circuit.shares["z"].sel(pos="end")
    if not head:
        raise ValueError(f"no {kind} head of {circuit.result.attrs['model']} has a share: see `solves`")
    effect = of_head(end, head)
    return _of_share(circuit, MOVES.format(head=f"head {head} ({span(effect)})"), effect)


@checked
def strongest_input(circuit: Circuit, head: Text) -> Finding:
    """The q, k or v of a head, at the position where it moves most."""
    source = _source(circuit, head)
    effect = of_head(circuit.shares[source.site].sel(pos=source.position), head)
    place = PLACES.get(source.position, source.position)
    return _of_share(circuit, READS.format(what=INPUTS[source.site], head=head, place=place), effect)


@checked
def headline(circuit: Circuit) -> str:
    """The answer, in words that follow from the verdict on the first finding of a model."""
    first, second, *_ = *of_model(circuit), None
    head, through = _strongest(circuit), ""
    if first.verdict == "supported" and second is not None and second.verdict == "supported":
        source = _source(circuit, head)
        place = PLACES.get(source.position, source.position)
        through = THROUGH.format(share=two_digits(second.estimate), what=INPUTS[source.site], place=place)
    words = {"model": first.subject, "head": head, "share": two_digits(first.estimate), "through": through}
    if first.claim == TASK:
        reason = f", {first.reason}" if first.reason else ""
        words |= {"share": percent(first.estimate), "reason": reason}
    return HEADLINES[first.verdict].format(**{"reason": first.reason, **words})


@checked
def warnings(circuit: Circuit) -> list[StudyWarning]:
    """What keeps the numbers of a model from meaning what they seem to mean."""
    (clean, corrupted), prompts = means(circuit.result), circuit.result.sizes["prompt"]
    name, right = str(circuit.result.attrs["model"]), int((circuit.result["clean"] > 0).sum())
    values = {"model": name, "right": right, "prompts": prompts, "solved": percent(SOLVED)}
    applies = (accuracy(circuit.result) < SOLVED, clean <= corrupted, prompts < FEW)
    kinds = [kind for kind, there in zip(WARNINGS, applies, strict=True) if there]
    return [StudyWarning(name, kind, WARNINGS[kind].format(**values)) for kind in kinds]


def _strongest(circuit: Circuit, kind: str = "") -> str:
    """The first head in the ranking by size that is significant, else the first; empty where there is no head."""
    end = circuit.shares["z"].sel(pos="end")
    end = end.isel(layer=end["attention_kind"].values == kind) if kind else end
    heads = ranked(end["share"]) if end.sizes["layer"] else []
    return next((head for head in heads if _status(of_head(end, head)) == "supported"), heads[0] if heads else "")


def _source(circuit: Circuit, head: str) -> Input:
    return max(inputs(circuit.shares, head), key=lambda one: abs(one.share))


def _published(circuit: Circuit, row: Compared) -> Finding:
    """Whether the published heads of a role are among the first by a patch that should show them."""
    heads = len(row.ranks)
    status: Status = "supported" if 2 * row.found >= heads else "contradicted"
    return _finding(circuit, ROLE.format(n=heads, row=row), status, estimate=float(row.found), unit="heads")


def _of_share(circuit: Circuit, claim: str, effect: xr.Dataset) -> Finding:
    numbers = {name: float(effect[of]) for name, of in (("estimate", "share"), ("low", "low"), ("high", "high"))}
    reasons = {"not measured": "a single prompt has no interval", "supported": ""}
    reasons["not significant"] = f"below {LEAST}" if abs(numbers["estimate"]) < LEAST else "the interval includes 0"
    status = _status(effect)
    unit = "share of the logit difference"
    return _finding(circuit, claim, status, unit=unit, reason=reasons[status], **numbers)


def _status(effect: xr.Dataset) -> Status:
    """`supported` where a share is `LEAST` or more and its interval is on one side of 0."""
    share, low, high = (float(effect[name]) for name in ("share", "low", "high"))
    if math.isnan(low):
        return "not measured"
    return "not significant" if abs(share) < LEAST or low <= 0 <= high else "supported"


def _finding(circuit: Circuit, claim: str, status: Status, **fields: Any) -> Finding:
    name, prompts = str(circuit.result.attrs["model"]), circuit.result.sizes["prompt"]
    return Finding(claim=claim, subject=name, verdict=status, n=prompts, sample="prompts", figure=name, **fields)
