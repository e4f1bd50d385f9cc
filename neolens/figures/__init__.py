"""Labelled results as plotly figures: a function takes a result and returns a figure, nothing else happens.

Each takes what `neolens.attention` returned, for one model or for several: a mapping from a name to a result,
or a list of results that carry the name of their model. One module for each question that a figure answers;
what all have in common (the two colours of local and global layers, titles, captions, escaping) is in
`style`.
"""

from neolens.figures.ablation import ablation_groups, ablation_heads
from neolens.figures.ablation_by_distance import ablation_by_distance
from neolens.figures.encodings import band_shares, loss_beyond, pattern_and_cause
from neolens.figures.formation import formation_by_step
from neolens.figures.heatmap import heads
from neolens.figures.induction import copying_without, induction_by_length, induction_causes
from neolens.figures.learning import POSITION_COLOURS, learning
from neolens.figures.patching import largest_effect, patch_heatmap
from neolens.figures.position import distance_kernels, shift_by_distance, toeplitz_shares
from neolens.figures.reach import mass_by_distance
from neolens.figures.strip import scores_by_kind
from neolens.figures.style import GLOBAL_COLOUR, KIND_COLOURS, LOCAL_COLOUR, SCORES, Results, Score, escape
from neolens.figures.window import narrowing_by_distance, places_by_distance, recall_by_distance

__all__ = [
    "GLOBAL_COLOUR",
    "KIND_COLOURS",
    "LOCAL_COLOUR",
    "POSITION_COLOURS",
    "SCORES",
    "Results",
    "Score",
    "ablation_by_distance",
    "ablation_groups",
    "ablation_heads",
    "band_shares",
    "copying_without",
    "distance_kernels",
    "escape",
    "formation_by_step",
    "heads",
    "induction_by_length",
    "induction_causes",
    "largest_effect",
    "learning",
    "loss_beyond",
    "mass_by_distance",
    "narrowing_by_distance",
    "patch_heatmap",
    "pattern_and_cause",
    "places_by_distance",
    "recall_by_distance",
    "scores_by_kind",
    "shift_by_distance",
    "toeplitz_shares",
]
