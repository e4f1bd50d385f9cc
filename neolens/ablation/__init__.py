"""Head ablation: what are heads, layers and kinds of layers needed for?

`ablate` takes groups of heads out of a model, one group after the other; `groups` names groups and their controls,
`how` says what takes their place; `effects` turns a result into effects with intervals; `writing` continues a text
with and without them.
"""

from neolens.ablation.effects import by_distance, difference, effect, heads_grid
from neolens.ablation.groups import by_kind, each_head, each_layer, random_like
from neolens.ablation.how import HOWS, Beyond, Within
from neolens.ablation.measure import ablate
from neolens.ablation.writing import Continuations, ablated, continuations

__all__ = [
    "HOWS",
    "Beyond",
    "Continuations",
    "Within",
    "ablate",
    "ablated",
    "by_distance",
    "by_kind",
    "continuations",
    "difference",
    "each_head",
    "each_layer",
    "effect",
    "heads_grid",
    "random_like",
]
