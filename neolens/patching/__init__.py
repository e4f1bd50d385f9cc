"""Activation patching: one activation of one run put into another, for every layer, head and position.

The effect on a metric says what an activation carries. *Denoising* puts the clean run's activation into the corrupted
run and shows what suffices, *noising* the reverse and what is needed (Heimersheim and Nanda 2024, arXiv 2404.15255).
Every value is exact: that of a whole run with the one activation replaced (see `neolens.replay` for how it is
computed).
"""

from neolens.patching.patch import patch, recovered

__all__ = ["patch", "recovered"]
