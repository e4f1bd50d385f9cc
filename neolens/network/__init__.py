"""The pure forward pass: weights, tokens, spans and positions in; residual stream, patterns and logits out."""

from neolens.models.spans import visible
from neolens.network.agreement import refuse_hooks, standing_hooks, verify
from neolens.network.blockwise import Edit, Observer, PatternBlock, attend
from neolens.network.fingerprint import fingerprint
from neolens.network.forward import logits, residual
from neolens.network.patterns import head_patterns, patterns
from neolens.network.weights import Weights, cast, weights_of

__all__ = [
    "Edit",
    "Observer",
    "PatternBlock",
    "Weights",
    "attend",
    "cast",
    "fingerprint",
    "head_patterns",
    "logits",
    "patterns",
    "refuse_hooks",
    "residual",
    "standing_hooks",
    "verify",
    "visible",
    "weights_of",
]
