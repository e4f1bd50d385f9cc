"""Circuits: which heads carry an answer and through what, by patching; beside the published heads; in words."""

from neolens.circuits.circuit import SITES, Circuit, circuit, joined, of_site
from neolens.circuits.effects import Input, effects, inputs, ranked
from neolens.circuits.published import PUBLISHED, ROLES, Compared, Role, compared, published
from neolens.circuits.words import finding, head_table, published_table, task_table, warnings

__all__ = [
    "PUBLISHED",
    "ROLES",
    "SITES",
    "Circuit",
    "Compared",
    "Input",
    "Role",
    "circuit",
    "compared",
    "effects",
    "finding",
    "head_table",
    "inputs",
    "joined",
    "of_site",
    "published",
    "published_table",
    "ranked",
    "task_table",
    "warnings",
]
