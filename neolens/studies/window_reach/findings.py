"""Which answers arrive from beyond the window, and through which layers, as findings.

Networks and distances are judged one by one. A finding about several of them has the estimate, the interval and p of
the network, distance and layer that support its claim least.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from neolens.checks.annotations import Text, checked
from neolens.figures.window_reach import share_interval
from neolens.stats import seeds
from neolens.stats.seeds import Estimate
from neolens.stats.verdicts import NEEDED, NeededLayers, at_least
from neolens.studies.finding import Finding, StudyWarning, of_estimate
from neolens.studies.window_reach.arrivals import arrivals
from neolens.studies.window_reach.summary import SOLVED, Carriers, Side
from neolens.wording import join, percent, value_range

ARRIVES, LAYERS = "Does an answer from far back arrive?", "Which layers bring it, in one hop or in several?"

SECTION = "How well they answer"
"""Heading of the section with the accuracies."""

FEW = 16
"""Prompts on one side of the window below which the intervals are warned about."""

ANSWERED = "{task}: {share:.0%} of prompts or more are answered at every distance {beyond}"
NEEDS = "{task}, {distances} tokens back: needs {layers}"
RESTRICTED = "{task}: restricting every layer to {short} removes {share:.0%} or more of the source token's effect"
ONE_HOP = "{task}: {share:.0%} or more of the effect takes one hop from source to query"
ANY_LAYER, NO_NETWORK = "at least one layer", "no network answers"
"""Claims, and the reason for what is not measured."""

_NONE = Estimate(np.nan, np.nan, np.nan, 0)
_ANSWER = {"supported": "Yes", "contradicted": "No", "not significant": "Uncertain"}


@checked
def findings(found: Sequence[Carriers]) -> list[Finding]:
    """Of both questions, models with local layers first; the first finding of each question has its headline."""
    ranked = sorted(found, key=lambda one: "local" not in one.kinds)
    accuracies = [finding for one in ranked for finding in answered(one)]
    layers = [finding for one in ranked for finding in [*layers_needed(one), *hops(one)]]
    if ranked:
        accuracies[0] = replace(accuracies[0], headline=_answer(ranked[0], answered(ranked[0])))
        layers[0] = replace(layers[0], headline=_needs(ranked[0]))
    return accuracies + layers


@checked
def answered(found: Carriers) -> list[Finding]:
    """Whether the answer to each task is the likeliest token at every distance beyond the window."""
    sample = "prompts" if len(found.seeds) == 1 else "seeds"
    about = {"question": ARRIVES, "figure": SECTION, "unit": "share", "sample": sample}
    claims = [ANSWERED.format(task=title(task), share=SOLVED, beyond=found.near_far.beyond) for task in found.tasks]
    cases = [[_accuracy(sides, found.prompts) for sides in found.far[task].values()] for task in found.tasks]
    return [_at_least(SOLVED, claim, found, each, about) for claim, each in zip(claims, cases, strict=True)]


@checked
def layers_needed(found: Carriers) -> list[Finding]:
    """Which layers the answer to each task needs, for each group of distances that agree; p is corrected for all
    changes of windows and distances of one network and task."""
    return [_needed(found, task, one) for task in found.tasks for one in arrivals(found, task)]


@checked
def hops(found: Carriers) -> list[Finding]:
    """How much of the effect comes without far sight in any layer, and how much is at positions between."""
    return [one for task in found.tasks for one in (restricted(found, task), one_hop(found, task))]


@checked
def restricted(found: Carriers, task: Text) -> Finding:
    """Whether restricting every layer to the window removes nearly all of the effect, in every network that answers."""
    return _most(RESTRICTED, found, task, [side.removed for side in _answering(found, task)])


@checked
def one_hop(found: Carriers, task: Text) -> Finding:
    """Whether the answer comes in one hop: no position between source and query has it."""
    return _most(ONE_HOP, found, task, [side.bypass for side in _answering(found, task)])


def _most(claim: str, found: Carriers, task: str, shares: Sequence[Estimate]) -> Finding:
    about = {"question": LAYERS, "figure": title(task).capitalize(), "unit": "share", "sample": "prompts"}
    words = {"task": title(task), "share": 1 - NEEDED, "short": found.near_far.short}
    return _at_least(1 - NEEDED, claim.format(**words), found, shares, about)


@checked
def warnings(found: Carriers) -> list[StudyWarning]:
    """Networks that do not do a task, and tasks with few prompts."""
    listed = []
    for task in found.tasks:
        prompts = f"prompts {found.near_far.beyond} ({title(task)})"
        for seed, side in zip(found.seeds, found.beyond[task], strict=True):
            name = found.name if len(found.seeds) == 1 else f"{found.name}, seed {seed},"
            text = f"{name} puts the answer above the distractor in {side.above:.0%} of the {prompts}, and the source "
            text += f"token has an effect of {side.carried:.1f} logits: no claim about layers is made."
            listed += [] if side.answers else [StudyWarning(found.name, "does not do the task", text)]
        if (number := len(found.far[task]) * found.prompts) < FEW:
            text = f"{found.name} has only {number} {prompts}: the intervals are rough."
            listed.append(StudyWarning(found.name, "few prompts", text))
    return listed


def title(task: str) -> str:
    return task.replace("_", " ")


def in_layers(found: Carriers, layers: Sequence[int]) -> str:
    """`global layer 2`, `layers 2 and 0`; the kind where the model has several."""
    kind = f"{found.kinds[layers[0]]} " if "local" in found.kinds else ""
    return f"{kind}layer{'s' * (len(layers) > 1)} {join(list(map(str, layers)))}"


def _needed(found: Carriers, task: str, at: NeededLayers) -> Finding:
    sides = [side for distance in at.distances for side in found.far[task][distance] if side.answers]
    needed = [side.restricted(layer) for side in sides for layer in side.needed]
    tried = [side.restricted(layer) for side in sides for layer in side.narrowed]
    weakest = min(needed, key=lambda one: one.mean) if needed else max(tried, key=lambda one: one.mean, default=_NONE)
    each = {layers: f" (seed{'s' * (len(of) > 1)} {join(list(map(str, of)))})" for layers, of in at.seeds.items()}
    layers = [f"{in_layers(found, one)}{of * (len(found.seeds) > 1)}" for one, of in each.items()]
    distances = join(list(map(str, at.distances)))
    claim = NEEDS.format(task=title(task), distances=distances, layers=join(layers or [ANY_LAYER]))
    about: Any = {"question": LAYERS, "figure": title(task).capitalize(), "unit": "share", "sample": "prompts"}
    tested = len(found.far[task]) * found.beyond[task][0].changes.sizes["group"] if weakest.n else 0
    return of_estimate(claim, found.name, weakest, at.status, reason=at.reason, comparisons=tested, **about)


def _at_least(least: float, claim: str, found: Carriers, cases: Sequence[Estimate], about: Any) -> Finding:
    """The finding that all values are so large: supported where all intervals are, contradicted where one is below."""
    weakest = min(cases, key=lambda one: (one.high >= least, one.low), default=_NONE)
    status, reason = at_least(least, weakest.low, weakest.high), "" if cases else NO_NETWORK
    return of_estimate(claim, found.name, weakest, status, p=np.nan, reason=reason, **about)


def _answering(found: Carriers, task: str) -> list[Side]:
    """The networks that answer at a distance beyond the window, for each distance."""
    return [side for sides in found.far[task].values() for side in sides if side.answers]


def _accuracy(sides: Sequence[Side], prompts: int) -> Estimate:
    """Over seeds; of a single one, over prompts."""
    shares = [side.likeliest for side in sides]
    if len(shares) == 1:
        return Estimate(shares[0], *share_interval(shares[0], prompts), prompts)
    return seeds.mean_ci(np.array(shares), (0.0, 1.0))


def _answer(found: Carriers, listed: Sequence[Finding]) -> str:
    """The headline on how often the answer arrives."""
    verdicts = {one.verdict for one in listed}
    answer = _ANSWER[verdicts.pop()] if len(verdicts) == 1 else "It varies"
    far = [side for task in found.tasks for sides in found.far[task].values() for side in sides]
    shares, restricted = value_range([side.likeliest for side in far], percent), [s.likeliest_all_local for s in far]
    beyond = f"beyond {found.near_far.name}" if found.near_far.is_window else found.near_far.beyond
    mean = percent(float(np.mean(restricted)))
    return (
        f"{answer}: {found.name} answers {shares} of prompts {beyond}, on average {mean} with every layer restricted."
    )


def _needs(found: Carriers) -> str:
    """The headline on the layers that bring it."""
    cases = [side for task in found.tasks for side in _answering(found, task)]
    if not cases:
        return f"Not measured: {found.name} does not answer {found.near_far.beyond}."
    number = f"{len(cases)} cases (task, distance, seed)"
    needed = Counter(layer for side in cases for layer in side.needed).most_common(2)
    if not needed:
        return (
            f"In none of {number} does restricting a single layer of {found.name} remove {NEEDED:.0%}, significantly."
        )
    first, *second = [(in_layers(found, [layer]), times) for layer, times in needed]
    hop = sum(side.bypass.low >= 1 - NEEDED for side in cases)
    others = "".join(f" and {layer} in {times}" for layer, times in second)
    return f"{found.name} needs {first[0]} in {first[1]} of {number}{others}; in {hop} it takes one hop."
