"""What positions do: the shift test, scores by distance and by part, rotary bands, absolute embeddings, long texts.

Each probe is a function of a model from `neolens.load` and of tokens, and gives one labelled result.
"""

from neolens.position.ablation import ablate_positions
from neolens.position.beyond_context import beyond_context
from neolens.position.embedding_geometry import embedding_geometry
from neolens.position.parts import ABSOLUTE_PARTS, ROTARY_PARTS, part_shares, score_parts
from neolens.position.qk_ov import ov, qk
from neolens.position.rotary_bands import bands, taken_away
from neolens.position.shift import shift
from neolens.position.toeplitz import toeplitz

__all__ = [
    "ABSOLUTE_PARTS",
    "ROTARY_PARTS",
    "ablate_positions",
    "bands",
    "beyond_context",
    "embedding_geometry",
    "ov",
    "part_shares",
    "qk",
    "score_parts",
    "shift",
    "taken_away",
    "toeplitz",
]
