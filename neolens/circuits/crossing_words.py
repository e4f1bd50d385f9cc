"""What crosses a window, in sentences and tables: said only as far as the numbers say it.

A sentence names a layer where holding it to the window takes away a good part of what is carried, surely so in that
network (`carriers.NEEDED`, corrected for all changes of the windows); seeds that differ are told apart.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from neolens.circuits.carriers import MOVES, NEEDED, Carriers, Side
from neolens.circuits.words import listed

FEW = 16
"""Prompts on one side of the window below which the intervals are warned about."""

Row = list[str | int | float | None]


def compared(found: Sequence[Carriers]) -> list[str]:
    """Which layers carry an answer beyond the window: of each model with local layers, then of the others together;
    over the tasks and seeds that answer at all."""
    able = [one for one in found if _able(one)]
    mixed = [one for one in able if "local" in one.kinds]
    plain = [one for one in able if "local" not in one.kinds]
    said = [_in_mixed(one) for one in mixed]
    if plain:
        each = "; ".join(f"in {one.name} ({_asked(one)}) {_first_layers(one)}" for one in plain)
        said.append(
            "Where every layer is global, the layer that takes away most of what is carried beyond the window when it "
            f"is held to {plain[0].window} tokens is {each}."
        )
    return said


def findings(found: Carriers) -> list[str]:
    """What was found in one model, a sentence or two a task."""
    return [_told(found, task) for task in found.tasks]


def warnings(found: Carriers) -> list[str]:
    """What keeps the numbers of a model from meaning what they seem to mean."""
    said = []
    for task in found.tasks:
        beyond = f"prompts of {_title(task)} beyond the window"
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


def recall_table(found: Sequence[Carriers]) -> tuple[list[str], list[Row]]:
    """Header and a row for each model and task, means over seeds: how well it answers on both sides of the window, and
    what the source makes of that."""
    header = ["model, task", "answer above distractor, inside", "beyond", "answer likeliest, inside", "beyond"]
    header += ["beyond, every layer local", "logit difference, beyond", "of it made by the source"]
    rows: list[Row] = []
    for one in found:
        for task in one.tasks:
            near, far = one.inside[task], one.beyond[task]
            values = [[side.above for side in near], [side.above for side in far]]
            values += [[side.likeliest for side in near], [side.likeliest for side in far]]
            values += [[side.likeliest_all_local for side in far]]
            values += [[side.difference for side in far], [side.carried for side in far]]
            rows.append([f"{one.name}, {_title(task)}", *(_mean(each) for each in values)])
    return header, rows


def change_table(found: Sequence[Carriers], task: str) -> tuple[list[str], list[Row]]:
    """Header and a row for each model and change of windows: the share of what is carried that it takes away."""
    header = ["model, changed", "taken away inside", "beyond", "by seed, with 95 % intervals", "p, corrected, by seed"]
    rows: list[Row] = []
    for one in found:
        for group in map(str, one.beyond[task][0].changes["group"].values):
            near, far = ([side.changes.sel(group=group) for side in sides[task]] for sides in (one.inside, one.beyond))
            means = [_mean([float(each["share"]) for each in sides]) for sides in (near, far)]
            told = "; ".join(
                f"{float(each['share']):.2f} ({float(each['low']):.2f} to {float(each['high']):.2f})"
                for each in far
                if not np.isnan(each["share"])
            )
            p = "; ".join(f"{float(each['p_adjusted']):.3f}" for each in far)
            rows.append([f"{one.name}, {group}", *means, told.replace("-0.00", "0.00"), p])
    return header, rows


def ablation_table(found: Sequence[Carriers], task: str) -> tuple[list[str], list[Row]]:
    """Header and a row for each model and group of heads: what mean ablation makes of the logit difference, as a mean
    over seeds and from the lowest to the highest."""
    header = ["model, ablated", "inside", "lowest to highest seed", "beyond", "lowest to highest seed"]
    rows: list[Row] = []
    for one in found:
        for group in map(str, one.beyond[task][0].ablated["group"].values):
            row: Row = [f"{one.name}, {group}"]
            for sides in (one.inside[task], one.beyond[task]):
                effects = [float(each.ablated["effect"].sel(group=group)) for each in sides]
                row += [_mean(effects), f"{min(effects):.2f} to {max(effects):.2f}"]
            rows.append(row)
    return header, rows


def _in_mixed(found: Carriers) -> str:
    """Of a model with layers of both kinds: what its global layers carry, and what is left without their far sight."""
    able = _able(found)
    most = max(able, key=lambda one: one.left)
    highest = max(one.left_interval[1] for one in able)
    alone = sum(one.left_interval[1] < NEEDED for one in able)
    layers = listed([str(layer) for layer, kind in enumerate(found.kinds) if kind == "global"])
    said = (
        f"In {found.name}, whose global layers are {layers}, the one that takes away most of what is carried beyond "
        f"the window of {found.window} when it is held to it is, {_asked(found)}, {_first_layers(found)}. "
    )
    if alone == len(able):
        return (
            f"{said}With every layer held to the window at most {_percent(most.left)} is left (95 % intervals up to "
            f"{_percent(highest)}): beyond it the answer is carried by global layers."
        )
    low, high = map(_percent, most.left_interval)
    still = f"up to {_percent(most.left)} ({low} to {high}) still comes, in several hops within the window."
    if alone == 0:
        return f"{said}With every layer held to the window {still}"
    others = len(able) - alone
    return (
        f"{said}With every layer held to the window less than {_percent(NEEDED)} is left, 95 % intervals included, in "
        f"{alone} of {len(able)} cases: there the answer is carried by global layers. In "
        f"{'the other' if others == 1 else f'{others} others'} {still}"
    )


def _first_layers(found: Carriers) -> str:
    """How often each layer takes most away, over tasks and seeds."""
    sides = _able(found)
    counts = Counter(one.needed[0] if one.needed else None for one in sides)
    told = []
    for layer, count in sorted(counts.items(), key=lambda item: (-item[1], item[0] is None, item[0] or 0)):
        what = f"no single layer by {_percent(NEEDED)}" if layer is None else f"layer {layer}"
        told.append(f"{what} ({count} of {len(sides)})")
    return listed(told)


def _able(found: Carriers) -> list[Side]:
    """What was found beyond the window where the network answers."""
    return [one for sides in found.beyond.values() for one in sides if one.answers]


def _asked(found: Carriers) -> str:
    """How many cases a count is of."""
    tasks, seeds = found.tasks, found.seeds
    return f"over {len(tasks)} task{_s(tasks)} and {len(seeds)} seed{_s(seeds)}"


def _told(found: Carriers, task: str) -> str:
    """One task: how well it is done, which layers are needed, and in how many hops the answer comes."""
    near, far = found.inside[task], found.beyond[task]
    distances, likeliest = far[0].distances, [_range([one.likeliest for one in side]) for side in (far, near)]
    head = (
        f"{found.name}, {_title(task)}, {distances[0]} to {distances[-1]} tokens back: the answer is likeliest in "
        f"{likeliest[0]} of prompts (inside the window in {likeliest[1]})"
    )
    if not all(one.answers for one in far):
        return f"{head}."
    low, high = (bound(one.carried for one in far) for bound in (min, max))
    left = _range([one.left for one in far])
    return (
        f"{head}, and the source makes {_span(low, high)} logits of difference. {_layers(found, task)}. With every "
        f"layer held to the window {left} is left. {_arrivals(found, far)} {_hops(found, far)}"
    )


def _layers(found: Carriers, task: str) -> str:
    """The layers that are needed beyond the window, and what the same layers take away inside it."""
    needed = sorted({layer for one in found.beyond[task] for layer in one.needed})
    if not needed:
        return f"No single layer that is held to the window takes {_percent(NEEDED)} of it away"
    told = [f"layer {layer} ({found.kinds[layer]}) {_by_seed(found, found.beyond[task], layer)}" for layer in needed]
    inside = max(one.narrowed[layer] for one in found.inside[task] for layer in needed)
    return f"Held to the window, {'; '.join(told)} (inside the window at most {_percent(max(inside, 0.0))})"


def _by_seed(found: Carriers, sides: Sequence[Side], layer: int) -> str:
    """What a layer takes away in each seed in which it is needed, with the interval."""
    told, seeds = [], []
    for seed, one in zip(found.seeds, sides, strict=True):
        if layer in one.needed:
            its = one.changes.sel(group=f"layer {layer} local")
            share, low, high = (_percent(float(its[name])) for name in ("share", "low", "high"))
            told.append(f"{share} ({low} to {high})")
            seeds.append(seed)
    return f"takes away {listed(told)}{_in_seeds(found, seeds)}"


def _arrivals(found: Carriers, sides: Sequence[Side]) -> str:
    """In which layer the answer comes to the query."""
    by_layer: dict[int, list[int]] = {}
    for seed, one in zip(found.seeds, sides, strict=True):
        by_layer.setdefault(one.arrives, []).append(seed)
    told = [f"in layer {layer}{_in_seeds(found, seeds)}" for layer, seeds in sorted(by_layer.items())]
    return f"The answer comes to the query {listed(told)}."


def _hops(found: Carriers, sides: Sequence[Side]) -> str:
    """Whether the answer ever stands between source and query."""
    kinds: dict[str, list[int]] = {"one": [], "several": [], "partly": []}
    for number, one in enumerate(sides):
        share = one.between[0]
        kinds["several" if share >= MOVES else "one" if share < NEEDED else "partly"].append(number)
    told = []
    for kind, words in (("one", "In one hop"), ("several", "In several hops"), ("partly", "Partly in several hops")):
        if numbers := kinds[kind]:
            shares = [sides[number].between[0] for number in numbers]
            before = sorted({sides[number].between[1] for number in numbers})
            where = "" if kind == "one" else f" (before layer {listed(list(map(str, before)))})"
            most = f"at most {_percent(max(shares))}" if kind == "one" else _range(shares)
            seeds = _in_seeds(found, [found.seeds[number] for number in numbers])
            told.append(f"{words}{seeds}: all positions between source and query move {most}{where}.")
    return " ".join(told)


def _in_seeds(found: Carriers, seeds: Sequence[int]) -> str:
    """Which seeds are meant, where there are several."""
    if len(found.seeds) == 1:
        return ""
    return f" in seed{_s(seeds)} {listed(list(map(str, seeds)))}"


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _network(found: Carriers, seed: int) -> str:
    return found.name if len(found.seeds) == 1 else f"{found.name}, seed {seed}"


def _title(task: str) -> str:
    return task.replace("_", " ")


def _percent(share: float) -> str:
    return f"{share + 0.0:.0%}".replace("-0%", "0%")


def _range(shares: Sequence[float]) -> str:
    low, high = _percent(min(shares)), _percent(max(shares))
    return low if low == high else f"{low} to {high}"


def _span(low: float, high: float) -> str:
    return f"{low:.1f}" if f"{low:.1f}" == f"{high:.1f}" else f"{low:.1f} to {high:.1f}"


def _s(things: Sequence[object]) -> str:
    return "" if len(things) == 1 else "s"
