"""Which answers arrive from beyond a window, in sentences that state no more than the numbers support.

A sentence names a layer where restricting it to the window removes a tenth or more of the effect of the source token,
significantly in that network and at that distance (`neolens.stats.verdicts.arrives_through`); seeds and distances that
differ are stated by themselves.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from neolens.checks.annotations import checked
from neolens.stats.verdicts import NEEDED
from neolens.studies.window_reach.arrivals import arrivals
from neolens.studies.window_reach.own_prompts import TASK
from neolens.studies.window_reach.summary import MOVES, Carriers, Side
from neolens.wording import join, value_range

FEW = 16
"""Prompts on one side of the window below which the intervals are warned about."""


@checked
def compared(found: Sequence[Carriers]) -> list[str]:
    """Which layers are needed for an answer from far back, at each distance, over the tasks and seeds that answer
    there: of each model with local layers, then of the others together."""
    able = [one for one in found if any(_cases(one).values())]
    mixed = [one for one in able if "local" in one.kinds]
    plain = [one for one in able if "local" not in one.kinds]
    said = []
    for one in mixed:
        layers = join([str(layer) for layer, kind in enumerate(one.kinds) if kind == "global"])
        said.append(
            f"In {one.name}, whose global layers are {layers}, these layers are needed, for restricting one to "
            f"{one.near_far.name} removes {_percent(NEEDED)} or more of the effect of the source token "
            f"({_asked(one)}): {_needed_where(one)}. {_left(one)}"
        )
    if plain:
        each = "; ".join(f"in {one.name} ({_asked(one)}) {_needed_where(one)}" for one in plain)
        said.append(
            "Where every layer is global, these layers are needed, for restricting one to "
            f"{plain[0].near_far.name} removes {_percent(NEEDED)} or more of the effect of the source token: {each}."
        )
    return said


@checked
def findings(found: Carriers) -> list[str]:
    """What was found in one model, a sentence or two a task."""
    return [_told(found, task) for task in found.tasks]


@checked
def warnings(found: Carriers) -> list[str]:
    """What keeps the numbers of a model from meaning what they seem to mean."""
    said = []
    for task in found.tasks:
        beyond = f"prompts of {'the file' if task == TASK else _title(task)} {found.near_far.beyond}"
        for seed, one in zip(found.seeds, found.beyond[task], strict=True):
            if not one.answers:
                said.append(
                    f"{_network(found, seed)} puts the answer above the distractor in {_percent(one.above)} of the "
                    f"{beyond}, and the source makes {one.carried:.1f} logits of difference: it does not do this task, "
                    "so there is no telling what carries it."
                )
        prompts = len(found.beyond[task][0].distances) * found.results[task].sizes["prompt"]
        if prompts < FEW:
            said.append(f"{found.name} was asked only {prompts} {beyond}: its intervals are rough.")
    return said


def _needed_where(found: Carriers) -> str:
    """At each distance, or group of distances that agree, in how many cases each layer is needed."""
    counts: dict[int, str] = {}
    for distance, sides in _cases(found).items():
        layers = Counter(layer for one in sides for layer in one.needed)
        if sides:
            told = [f"layer {layer} ({count} of {len(sides)})" for layer, count in layers.most_common()]
            counts[distance] = join(told) if told else f"no layer ({len(sides)} of {len(sides)})"
    return "; ".join(f"{_back(distances)} {text}" for text, distances in _grouped(counts).items())


def _cases(found: Carriers) -> dict[int, list[Side]]:
    """Distance -> what was found of each task and seed where the network answers there."""
    every = sorted({distance for far in found.far.values() for distance in far})
    return {
        distance: [one for far in found.far.values() for one in far.get(distance, ()) if one.answers]
        for distance in every
    }


def _left(found: Carriers) -> str:
    """What is left of the effect without far sight in any layer, over all cases; by distance where that differs."""
    cases = {distance: sides for distance, sides in _cases(found).items() if sides}
    every = [one for sides in cases.values() for one in sides]
    alone = sum(one.left_interval[1] < NEEDED for one in every)
    start = f"With every layer restricted to {found.near_far.short}"
    if alone == len(every):
        most, highest = max(one.left for one in every), max(one.left_interval[1] for one in every)
        far = "global" if "local" in found.kinds else "attention to keys farther back in single"
        return (
            f"{start} at most {_percent(most)} is left (95 % intervals up to {_percent(highest)}): the effect comes "
            f"through {far} layers."
        )
    there = join([str(at) for at, sides in cases.items() if any(one.left_interval[1] >= NEEDED for one in sides)])
    most_left = max(every, key=lambda one: one.left)
    low, high = map(_percent, most_left.left_interval)
    return (
        f"{start} less than {_percent(NEEDED)} is left, 95 % intervals included, in {alone} of {len(every)} cases; in "
        f"the others ({there} tokens back) up to {_percent(most_left.left)} ({low} to {high}) still comes, in several "
        "hops."
    )


def _asked(found: Carriers) -> str:
    """How many cases a count is of, at each distance."""
    tasks, seeds = found.tasks, found.seeds
    return f"{len(tasks)} task{_s(tasks)}, {len(seeds)} seed{_s(seeds)}"


def _told(found: Carriers, task: str) -> str:
    """One task: how well it is done, which layers are needed at which distance, and in how many hops the answer
    comes."""
    far = {distance: [one for one in sides if one.answers] for distance, sides in found.far[task].items()}
    likeliest = [
        value_range([one.likeliest for one in sides], _percent)
        for sides in (_flat(found.far[task]), found.inside[task])
    ]
    head = (
        f"{found.name}, {_title(task)}: {_back(list(far))}, the answer is likeliest in {likeliest[0]} of prompts "
        f"({found.near_far.inside} in {likeliest[1]})"
    )
    answering = [one for sides in far.values() for one in sides]
    if not answering:
        return f"{head}."
    low, high = (bound(one.carried for one in answering) for bound in (min, max))
    told = [f"{head}, and the source token makes {_span(low, high)} logits of difference."]
    told.append(_through(found, task))
    left = {distance: value_range([one.left for one in sides], _percent) for distance, sides in far.items() if sides}
    told.append(
        f"With every layer restricted to {found.near_far.short}, this share of the effect is left: {_each(left)}."
    )
    return " ".join([*told, _arrivals(found, task), _hops(found, task)])


def _through(found: Carriers, task: str) -> str:
    """Through which layers the answer arrives, at each group of distances."""
    told = []
    for one in arrivals(found, task):
        shares = one.removed or one.reason
        told.append(f"{_back(one.distances)} through {one.through} ({shares})")
    what = "Its effect" if task == TASK else "It"
    return (
        f"{what} arrives {'; '.join(told)}. In brackets: the share of the effect of the source token removed by "
        f"restricting that layer to {found.near_far.name}."
    )


def _arrivals(found: Carriers, task: str) -> str:
    """In which layer the answer comes to the query."""
    told = {}
    for distance, sides in found.far[task].items():
        by_layer: dict[int, list[int]] = {}
        for seed, one in zip(found.seeds, sides, strict=True):
            if one.answers:
                by_layer.setdefault(one.arrives, []).append(seed)
        if by_layer:
            told[distance] = join([f"in layer {at}{_in_seeds(found, its)}" for at, its in sorted(by_layer.items())])
    what = "effect of the source token" if task == TASK else "answer"
    return f"The {what} comes to the query {_each(told)}."


def _hops(found: Carriers, task: str) -> str:
    """Whether the answer ever stands between source and query."""
    told = {}
    for distance, sides in found.far[task].items():
        numbers: dict[str, list[int]] = {"one": [], "several": [], "partly": []}
        for number, one in enumerate(sides):
            share = one.between[0]
            kind = "several" if share >= MOVES else "one" if share < NEEDED else "partly"
            if one.answers:
                numbers[kind].append(number)
        parts = [_hop(found, kind, [sides[one] for one in its], its) for kind, its in numbers.items() if its]
        if parts:
            told[distance] = join(parts)
    moved = [one.between[0] for one in _flat(found.far[task]) if one.answers]
    return f"It comes {_each(told)}: all positions between source and query move {value_range(moved, _percent)}."


def _hop(found: Carriers, kind: str, sides: Sequence[Side], numbers: Sequence[int]) -> str:
    words = {"one": "in one hop", "several": "in several hops", "partly": "partly in several hops"}[kind]
    before = "" if kind == "one" else f" (before layer {join(sorted({str(one.between[1]) for one in sides}))})"
    return f"{words}{_in_seeds(found, [found.seeds[number] for number in numbers])}{before}"


def _grouped(texts: Mapping[int, str]) -> dict[str, list[int]]:
    """Text -> the distances at which it holds."""
    groups: dict[str, list[int]] = {}
    for distance, text in texts.items():
        groups.setdefault(text, []).append(distance)
    return groups


def _each(texts: Mapping[int, str]) -> str:
    """One text for all distances where they agree, else each with its distances."""
    groups = _grouped(texts)
    if len(groups) == 1:
        return next(iter(groups))
    return "; ".join(f"{text} ({_back(distances)})" for text, distances in groups.items())


def _back(distances: Sequence[int]) -> str:
    """`16, 17 and 32 tokens back`."""
    return f"{join([str(one) for one in distances])} tokens back"


def _flat(far: Mapping[int, Sequence[Side]]) -> list[Side]:
    return [one for sides in far.values() for one in sides]


def _in_seeds(found: Carriers, seeds: Sequence[int]) -> str:
    """Which seeds are meant, where there are several."""
    if len(found.seeds) == 1:
        return ""
    return f" in seed{_s(seeds)} {join(list(map(str, seeds)))}"


def _network(found: Carriers, seed: int) -> str:
    return found.name if len(found.seeds) == 1 else f"{found.name}, seed {seed}"


def _title(task: str) -> str:
    return task.replace("_", " ")


def _percent(share: float) -> str:
    return f"{share + 0.0:.0%}".replace("-0%", "0%")


def _span(low: float, high: float) -> str:
    return f"{low:.1f}" if f"{low:.1f}" == f"{high:.1f}" else f"{low:.1f} to {high:.1f}"


def _s(things: Sequence[object]) -> str:
    return "" if len(things) == 1 else "s"
