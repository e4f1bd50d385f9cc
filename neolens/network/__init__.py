"""The pure forward pass: weights, tokens, spans and positions in; residual stream, patterns and logits out."""

from neolens.models.spans import visible
from neolens.network.agreement import check_unchanged, hooks_on, verify
from neolens.network.blockwise import Edit, Observer, PatternBlock, attend
from neolens.network.checksum import fingerprint
from neolens.network.forward import logits, residual
from neolens.network.measurement import measurement
from neolens.network.patterns import head_patterns, patterns
from neolens.network.weights import Weights, cast, dtype_of, weights_of

__all__ = [
    "Edit",
    "Observer",
    "PatternBlock",
    "Weights",
    "attend",
    "cast",
    "check_unchanged",
    "dtype_of",
    "fingerprint",
    "head_patterns",
    "hooks_on",
    "logits",
    "measurement",
    "patterns",
    "residual",
    "verify",
    "visible",
    "weights_of",
]
