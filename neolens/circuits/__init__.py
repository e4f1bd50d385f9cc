"""Circuits: which heads carry an answer and through what, by patching, beside the published heads; which layers carry
one from beyond a window; in words."""

from neolens.circuits import copying, crossing_words, formation_words, induction_tables, induction_words
from neolens.circuits.carriers import Carriers, Side, carriers, side
from neolens.circuits.circuit import SITES, Circuit, circuit, joined, of_site
from neolens.circuits.crossing import (
    TASKS,
    WORDLESS_TASKS,
    Tasks,
    at_distances,
    crossing,
    distances,
    of_all_tasks,
    planted,
)
from neolens.circuits.effects import Input, effects, inputs, ranked
from neolens.circuits.formation import Formation, Milestone, formations
from neolens.circuits.induction import Induction, Sure
from neolens.circuits.induction_comparisons import comparisons
from neolens.circuits.published import PUBLISHED, ROLES, Compared, Role, compared, published
from neolens.circuits.random_induction import random_induction
from neolens.circuits.words import finding, head_table, published_table, solves, task_table, warnings

__all__ = [
    "PUBLISHED",
    "ROLES",
    "SITES",
    "TASKS",
    "WORDLESS_TASKS",
    "Carriers",
    "Circuit",
    "Compared",
    "Formation",
    "Induction",
    "Input",
    "Milestone",
    "Role",
    "Side",
    "Sure",
    "Tasks",
    "at_distances",
    "carriers",
    "circuit",
    "compared",
    "comparisons",
    "copying",
    "crossing",
    "crossing_words",
    "distances",
    "effects",
    "finding",
    "formation_words",
    "formations",
    "head_table",
    "induction_tables",
    "induction_words",
    "inputs",
    "joined",
    "of_all_tasks",
    "of_site",
    "planted",
    "published",
    "published_table",
    "random_induction",
    "ranked",
    "side",
    "solves",
    "task_table",
    "warnings",
]
