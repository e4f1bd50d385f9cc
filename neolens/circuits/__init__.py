"""Circuits: which heads carry an answer and through what, by patching, beside the published heads; which layers carry
one from beyond a window; in words."""

from neolens.circuits import crossing_words
from neolens.circuits.carriers import Carriers, Side, carriers, side
from neolens.circuits.circuit import SITES, Circuit, circuit, joined, of_site
from neolens.circuits.crossing import TASKS, at_distances, crossing, distances, of_all_tasks, planted
from neolens.circuits.effects import Input, effects, inputs, ranked
from neolens.circuits.published import PUBLISHED, ROLES, Compared, Role, compared, published
from neolens.circuits.words import finding, head_table, published_table, task_table, warnings

__all__ = [
    "PUBLISHED",
    "ROLES",
    "SITES",
    "TASKS",
    "Carriers",
    "Circuit",
    "Compared",
    "Input",
    "Role",
    "Side",
    "at_distances",
    "carriers",
    "circuit",
    "compared",
    "crossing",
    "crossing_words",
    "distances",
    "effects",
    "finding",
    "head_table",
    "inputs",
    "joined",
    "of_all_tasks",
    "of_site",
    "planted",
    "published",
    "published_table",
    "ranked",
    "side",
    "task_table",
    "warnings",
]
