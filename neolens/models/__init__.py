"""Models: which checkpoints exist, the facts in which they differ, and how to load them with hooks that act."""

from neolens.models.anatomy import Anatomy, AttentionSpan, Position
from neolens.models.catalogue import catalogue
from neolens.models.lab_models import lab_names, lab_revisions, lab_seeds
from neolens.models.loading import anatomy, fetch, load
from neolens.models.records import from_record
from neolens.models.saving import save

__all__ = [
    "Anatomy",
    "AttentionSpan",
    "Position",
    "anatomy",
    "catalogue",
    "fetch",
    "from_record",
    "lab_names",
    "lab_revisions",
    "lab_seeds",
    "load",
    "save",
]
