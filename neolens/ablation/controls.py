"""Control heads: heads drawn at random, with which the effect of a group is compared.

The effect of many heads says little before one knows the effect of as many others. Which others are comparable depends
on the question, so there are four ways to draw them; each depends on nothing but its arguments and the seed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

import numpy as np
import xarray as xr

from neolens.models.other_architectures import Facts

Head = tuple[int, int]
"""Layer and head, from 0."""


class ControlHeads(list[Head]):
    """Heads drawn at random, with which a group is compared.

    Results of `neolens.ablate` have its two attributes as coordinates of the group: `control`, which is empty for other
    groups, and `draw`.
    """

    def __init__(self, heads: Iterable[Head] = (), control: str = "", draw: int = 0) -> None:
        super().__init__(heads)
        self.control = control
        """What they are drawn like, such as `random 24 heads`: the same for all draws."""
        self.draw = draw
        """The number of the draw."""


def head_name(head: Head) -> str:
    """`3.7`: head 7 of layer 3."""
    return f"{head[0]}.{head[1]}"


def size_label(size: int) -> str:
    """The name that all controls of `by_kind` of one size have in common: `random 24 heads`."""
    return f"random {size} heads"


def evenly_spread(facts: Facts, size: int, draws: int, seed: int) -> list[ControlHeads]:
    """`size` heads of all layers, as evenly as possible."""
    each = [_spread(facts, size, np.random.default_rng((seed, size, draw))) for draw in range(draws)]
    return [ControlHeads(heads, size_label(size), draw) for draw, heads in enumerate(each)]


def matched_by_layer(heads: Sequence[Head], facts: Facts, draws: int, seed: int) -> list[ControlHeads]:
    """As many heads as these in each of their layers, drawn among the others of the layer.

    Raises:
        ValueError: a layer in which there are not as many others.
    """
    by_layer = {layer: [head for at, head in heads if at == layer] for layer, _ in heads}
    for layer, taken in by_layer.items():
        if 2 * len(taken) > facts.heads:
            raise ValueError(
                f"{len(taken)} of the {facts.heads} heads of layer {layer} are in the group: there are not as many "
                "others to draw; take fewer, or compare with neolens.by_kind"
            )
    drawn = []
    control = f"random like {' '.join(map(head_name, heads))}"
    for draw in range(draws):
        rng = np.random.default_rng((seed, draw))
        chosen = sorted(
            (layer, int(head))
            for layer, taken in by_layer.items()
            for head in rng.choice([n for n in range(facts.heads) if n not in taken], len(taken), replace=False)
        )
        drawn.append(ControlHeads(chosen, control, draw))
    return drawn


def random_heads(facts: Facts, head: Head, draws: int, seed: int, excluded: Collection[Head] = ()) -> list[Head]:
    """Distinct other heads of the same layer, at random: `draws` of them, or all where there are fewer.

    Args:
        excluded: heads that are no controls, such as those that have a role that the head has.
    """
    layer, own = head
    others = [other for other in range(facts.heads) if other != own and (layer, other) not in excluded]
    rng = np.random.default_rng((seed, layer, own))
    return sorted((layer, int(other)) for other in rng.permutation(others)[:draws])


def size_matched(heads: Sequence[Head], everywhere: Sequence[Head], draws: int) -> list[list[Head]]:
    """Groups of as many other heads, at random; none where there are fewer others."""
    others = [head for head in everywhere if head not in heads]
    if len(others) < len(heads):
        return []
    rngs = [np.random.default_rng((len(heads), draw)) for draw in range(draws)]
    return [[others[int(number)] for number in rng.choice(len(others), len(heads), replace=False)] for rng in rngs]


def control_groups(result: xr.Dataset, control: str | None = None) -> list[str]:
    """The names of the groups of a result that are random controls; those drawn like something, such as
    `random 24 heads`, where it is named. A result without the coordinate `control` has none."""
    kinds = result["control"].values if "control" in result.coords else np.full(result.sizes["group"], "")
    chosen = kinds != "" if control is None else kinds == control
    return [str(name) for name in result["group"].values[chosen]]


def _spread(facts: Facts, size: int, rng: np.random.Generator) -> list[Head]:
    """`size` heads at random, as many from every layer, give or take one."""
    each, more = divmod(size, facts.layers)
    extra = set(rng.permutation(facts.layers)[:more].tolist())
    return sorted(
        (layer, int(head))
        for layer in range(facts.layers)
        for head in rng.choice(facts.heads, each + (layer in extra), replace=False)
    )
