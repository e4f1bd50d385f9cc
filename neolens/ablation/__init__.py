"""Head ablation: what are heads, layers and kinds of layers needed for?

`ablate` ablates groups of heads, one group after the other; `groups` names groups and their controls, `methods` what
replaces their output; `effects` turns a result into effects with intervals; `generation` continues a text with and
without them.
"""

from neolens.ablation.ablate import ablate
from neolens.ablation.effects import by_distance, difference, effect, heads_grid
from neolens.ablation.generation import Continuations, ablated, continuations
from neolens.ablation.groups import by_kind, each_head, each_layer, random_like
from neolens.ablation.methods import HOWS, Beyond, Within

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
