"""Models: which checkpoints exist, the facts in which they differ, and how to load them with hooks that act."""

from neolens.models.catalogue import catalogue
from neolens.models.facts import Anatomy, AttentionSpan, Position
from neolens.models.folders import lab_names
from neolens.models.loading import anatomy, fetch, load

__all__ = ["Anatomy", "AttentionSpan", "Position", "anatomy", "catalogue", "fetch", "lab_names", "load"]
