"""Labelled results as plotly figures: a function takes a result and returns a figure, nothing else happens.

Each takes what a function of the package returned, for one model or for several: a mapping from a name to a result,
or a list of results that carry the name of their model. One module for each question that a figure answers; what all
have in common (the colours of local and global layers and of position encodings, titles, captions, escaping) is in
`style`. `save` writes a figure into a file, `data` gives its numbers as a table.
"""

from neolens.figures.ablation import ablation_groups, ablation_heads
from neolens.figures.ablation_beside import heads_beside
from neolens.figures.ablation_by_distance import ablation_by_distance
from neolens.figures.by_metric import by_metric
from neolens.figures.causes_and_bands import band_shares, pattern_and_cause
from neolens.figures.compact import compact
from neolens.figures.embedding_geometry import embedding_geometry
from neolens.figures.estimates import estimates
from neolens.figures.inputs import Results
from neolens.figures.learning import learning
from neolens.figures.loss_by_position import loss_beyond, loss_without_positions
from neolens.figures.mass_by_distance import mass_by_distance
from neolens.figures.measures_by_variant import differences_by_measure, measures_by_variant
from neolens.figures.patch_heatmap import largest_effect, patch_heatmap
from neolens.figures.roles_by_head import roles_by_head
from neolens.figures.saving import save
from neolens.figures.score_map import heads
from neolens.figures.score_parts import part_shares, score_parts
from neolens.figures.scores_by_distance import distance_kernels, shift_by_distance, toeplitz_shares
from neolens.figures.scores_by_kind import scores_by_kind
from neolens.figures.style import (
    GLOBAL_COLOUR,
    KIND_COLOURS,
    LOCAL_COLOUR,
    POSITION_COLOURS,
    SCORES,
    Score,
    escape,
)
from neolens.figures.tidy import data
from neolens.figures.token_circuit import token_circuit
from neolens.figures.window_reach import narrowing_by_distance, places_by_distance, recall_by_distance

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
    "by_metric",
    "compact",
    "data",
    "differences_by_measure",
    "distance_kernels",
    "embedding_geometry",
    "escape",
    "estimates",
    "heads",
    "heads_beside",
    "largest_effect",
    "learning",
    "loss_beyond",
    "loss_without_positions",
    "mass_by_distance",
    "measures_by_variant",
    "narrowing_by_distance",
    "part_shares",
    "patch_heatmap",
    "pattern_and_cause",
    "places_by_distance",
    "recall_by_distance",
    "roles_by_head",
    "save",
    "score_parts",
    "scores_by_kind",
    "shift_by_distance",
    "toeplitz_shares",
    "token_circuit",
]
