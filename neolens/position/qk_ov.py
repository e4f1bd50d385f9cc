"""The QK and OV circuits of a head (Elhage et al. 2021, "A mathematical framework for transformer circuits"), the
rotation included.

TransformerLens's `QK` is made of the weights alone; in a rotary model what a query makes of a key depends on how far
back it stands as well.
"""

from __future__ import annotations

from typing import Any

import torch
from transformer_lens import FactoredMatrix

from neolens.checks import check_index, check_layer, check_whole, shown
from neolens.models.treatments import EXACT
from neolens.network import Weights, weights_of
from neolens.network.forward import rotate, rotations
from neolens.network.weights import Linear


@torch.no_grad()
def qk(model: Any, layer: Any, head: Any, distance: Any = 0) -> FactoredMatrix:
    """W_Q R(d) W_K^T, [d_model, d_model]: what a query makes of a key `distance` tokens back.

    With n the layer norm's output at the query and m that at the key, n^T qk m is the score before the scale and
    without the biases of q and k. R(d) turns by d positions; without a rotation it is the same at every distance, and
    at distance 0 TransformerLens's `QK`.

    Args:
        model: from `neolens.load`.
        layer: its number, from 0, as the head's.
        distance: tokens from the query back to the key, a whole number.

    Raises:
        TypeError: not a model from `neolens.load`, or no whole number.
        ValueError: no such layer or head, or a distance that its queries do not see.
    """
    weights = weights_of(model)
    layer, head = _asked(weights, layer, head)
    back = check_whole(distance, "distance", unit="tokens")
    facts = weights.anatomy
    window = facts.attention[layer].window
    farthest = (EXACT if facts.position.kind == "rotary" else facts.context - 1) if window is None else window - 1
    if not 0 <= back <= farthest:
        raise ValueError(
            f"no key {shown(back)} tokens back is seen in layer {layer}: expected a distance of 0 to {farthest}"
        )
    q, k = (_of_head(weights, linear, head) for linear in (weights.layers[layer].q, weights.layers[layer].k))
    places = torch.tensor([back, 0], device=q.device)
    turn = rotations(weights, places.double() if q.dtype == torch.float64 else places, q.dtype)
    if turn is not None:
        turned = [rotate(x.T[None, None], turn[at : at + 1])[0, 0].T for at, x in enumerate((q, k))]
        q, k = turned
    return FactoredMatrix(q.T, k)


@torch.no_grad()
def ov(model: Any, layer: Any, head: Any) -> FactoredMatrix:
    """W_V W_O, [d_model, d_model]: what a head writes of what stands at a key, x^T ov for the layer norm's output x,
    without the biases. No position acts on it.

    Raises:
        TypeError: not a model from `neolens.load`, or no whole number.
        ValueError: no such layer or head.
    """
    weights = weights_of(model)
    layer, head = _asked(weights, layer, head)
    at = weights.layers[layer]
    out = at.o.weight.detach().unflatten(1, (weights.anatomy.heads, -1))[:, head]
    return FactoredMatrix(_of_head(weights, at.v, head).T, out.T)


def _of_head(weights: Weights, linear: Linear, head: int) -> torch.Tensor:
    """[d_head, d_model]."""
    return linear.weight.detach().unflatten(0, (weights.anatomy.heads, -1))[head]


def _asked(weights: Weights, layer: Any, head: Any) -> tuple[int, int]:
    """The layer and the head, if there are such."""
    facts = weights.anatomy
    return check_layer(layer, facts.layers, facts.name), check_index(head, "head", facts.heads, facts.name)
