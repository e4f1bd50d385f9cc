"""What positions do: the shift test, scores by distance and by part, rotary bands, absolute embeddings, long texts.

Each probe is a function of a model from `neolens.load` and of tokens, and gives one labelled result.
"""

from neolens.position.ablating import ablate_positions
from neolens.position.circuits import ov, qk
from neolens.position.frequencies import bands, taken_away
from neolens.position.geometry import embedding_geometry
from neolens.position.kernels import toeplitz
from neolens.position.length import beyond_context
from neolens.position.parts import ABSOLUTE_PARTS, ROTARY_PARTS, part_shares, score_parts
from neolens.position.shifting import shift

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
