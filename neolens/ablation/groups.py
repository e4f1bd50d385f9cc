"""Which heads are ablated together: every head, every layer, every kind of layer, and random ones beside them.

A group's name is what results call it. An effect of many heads says little before one knows what as many others do:
so the kinds come with random heads as controls.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from neolens.ablation.controls import ControlHeads, Head, evenly_spread, head_name, matched_by_layer
from neolens.checks import check_head, check_list, check_seed, check_text, check_whole, shown
from neolens.models import Anatomy, anatomy
from neolens.models.other_architectures import Facts, Foreign, facts_of
from neolens.network.weights import check_model

Groups = Mapping[str, Sequence[Head]]
"""Name -> the heads that are ablated together."""


def each_head(model: Any) -> dict[str, list[Head]]:
    """Every head by itself, such as `3.7`.

    Args:
        model: a model, its name or its anatomy.
    """
    return {head_name(head): [head] for head in _all(_facts(model))}


def each_layer(model: Any) -> dict[str, list[Head]]:
    """All heads of a layer together, such as `layer 3`."""
    facts = _facts(model)
    return {f"layer {layer}": _of_layers(facts, [layer]) for layer in range(facts.layers)}


def by_kind(model: Any, *, draws: int = 3, seed: int = 0) -> dict[str, list[Head]]:
    """All `local` and all `global` heads and, as controls, as many heads drawn at random from all layers alike.

    A control, such as `random 24 heads 0`, has as many heads as the kind, spread evenly over all layers of the model;
    the two kinds share their controls where they have as many heads. (As many of the kind's own layers would be the
    same heads; for a group that leaves some, there is `random_like`.) A model with layers of one kind has that group
    alone.

    Args:
        draws: controls of each size.
        seed: of the draws.

    Raises:
        TypeError: no model, or numbers that are not whole.
        ValueError: a negative number of draws, or a negative seed.
    """
    facts = _facts(model)
    draws, seed = check_whole(draws, "draws", 0, 10_000), check_seed(seed)
    kinds = {kind: _of_layers(facts, facts.layers_of_kind(kind)) for kind in ("local", "global")}
    groups = {kind: heads for kind, heads in kinds.items() if heads}
    if len(groups) < 2:
        return groups
    sizes = dict.fromkeys(len(heads) for heads in kinds.values())
    controls = [heads for size in sizes for heads in evenly_spread(facts, size, draws, seed)]
    return groups | {f"{heads.control} {heads.draw}": heads for heads in controls}


def random_like(model: Any, heads: Iterable[Head], *, draws: int = 3, seed: int = 0) -> dict[str, list[Head]]:
    """As many heads as these in each of their layers, drawn at random among the others: the control of a finding.

    They are named `random like 3.7 5.0, 0`, and so on.

    Raises:
        TypeError: no list of heads, or numbers that are not whole.
        ValueError: a layer in which there are not as many others, heads that do not exist, or no draws.
    """
    facts = _facts(model)
    chosen = check_heads(heads, facts)
    draws, seed = check_whole(draws, "draws", 1, 10_000), check_seed(seed)
    drawn = matched_by_layer(chosen, facts, draws, seed)
    return {f"{heads.control}, {heads.draw}": heads for heads in drawn}


def coordinates(groups: Mapping[str, Sequence[Head]], facts: Facts) -> dict[str, tuple[str, list[Any]]]:
    """What is known of each group, as coordinates at `group`: its `heads`, the `attention_kind` and, where it is one,
    the `layer` that they are in, and of controls what they are drawn like (`control`) and the number of the `draw`."""
    layers = [{layer for layer, _ in heads} for heads in groups.values()]
    return {
        "heads": ("group", [" ".join(map(head_name, heads)) for heads in groups.values()]),
        "attention_kind": ("group", [kind_of(heads, facts) for heads in groups.values()]),
        "layer": ("group", [float(*its) if len(its) == 1 else np.nan for its in layers]),
        "control": ("group", [getattr(heads, "control", "") for heads in groups.values()]),
        "draw": ("group", [float(getattr(heads, "draw", np.nan)) for heads in groups.values()]),
    }


GROUP_COORDINATES = ("heads", "attention_kind", "layer", "control", "draw")
"""The coordinates at `group`."""


def checked(groups: Any, facts: Facts) -> dict[str, Sequence[Head]]:
    """The groups, each head once, in order.

    Raises:
        TypeError: no mapping from names to heads.
        ValueError: no group, an empty one, or a head that does not exist.
    """
    if not isinstance(groups, Mapping):
        raise TypeError(
            f"groups are {shown(groups)}, a {type(groups).__name__}: expected a dict from a name to heads, such as "
            "{'mine': [(3, 7), (5, 0)]}, or neolens.each_head(model)"
        )
    if not groups:
        raise ValueError("there is no group: expected at least one, such as {'mine': [(3, 7)]}")
    return {name: _heads(name, heads, facts) for name, heads in groups.items()}


def kind_of(heads: Sequence[Head], facts: Facts) -> str:
    """`local` or `global` where all heads are of layers of that kind, else `both`."""
    kinds = {facts.attention[layer].kind for layer, _ in heads}
    return kinds.pop() if len(kinds) == 1 else "both"


def check_heads(heads: Any, facts: Facts) -> tuple[Head, ...]:
    """The heads, each once and in order.

    Raises:
        TypeError: no list of (layer, head).
        ValueError: none, or one that does not exist.
    """
    chosen = check_list(heads, "heads", "(layer, head)", example="[(3, 7), (5, 0)]")
    if not chosen:
        raise ValueError(f"heads {shown(heads)}: expected at least one (layer, head)")
    return tuple(sorted({check_head(head, facts.layers, facts.heads, facts.name) for head in chosen}))


def _heads(name: Any, heads: Any, facts: Facts) -> Sequence[Head]:
    check_text(name, "name of a group", example="mine")
    try:
        chosen = check_heads(heads, facts)
    except (TypeError, ValueError) as error:
        raise type(error)(f"group {shown(name)}: {error}") from None
    return ControlHeads(chosen, heads.control, heads.draw) if isinstance(heads, ControlHeads) else chosen


def _facts(model: Any) -> Facts:
    if isinstance(model, Anatomy | Foreign):
        return model
    if isinstance(model, str | Path):
        return anatomy(model)
    check_model(model)
    return facts_of(model)


def _all(facts: Facts) -> list[Head]:
    return _of_layers(facts, range(facts.layers))


def _of_layers(facts: Facts, layers: Iterable[int]) -> list[Head]:
    return [(layer, head) for layer in layers for head in range(facts.heads)]
