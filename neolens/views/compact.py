"""A pattern of many tokens on one canvas: a byte a value, all heads small, one large, every value on hover.

circuitsvis writes 12 heads of 300 tokens as 15 MB of digits and draws a million elements; here they are at most
0.7 MB and one picture. The script of the picture stands in `pattern.js` and `attention.js`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from torch import Tensor

from neolens.views.labels import colour, window
from neolens.views.packing import packed, precision, quantised, restored, seen
from neolens.views.view import asset
from neolens.views.words import script_json, visible

_SMALL = 0.01


def drawn(
    tokens: Sequence[str], pattern: Float[Tensor, "head query_pos key_pos"], labels: Sequence[str], first: int = 0
) -> str:
    """The JavaScript function that draws the heads; it is `neolensAttention` of attention.js."""
    heads = [_head(head.numpy(), label) for head, label in zip(pattern.detach().float().cpu(), labels, strict=True)]
    data = {
        "tokens": [visible(token) for token in tokens],
        "heads": [head for head, _ in heads],
        "first": first,
        "precision": _in_words(max(error for _, error in heads)),
    }
    return f"element => neolensAttention(element, {script_json(data)})"


def script() -> str:
    """The JavaScript that draws; it defines the global `neolensAttention`."""
    return f"(() => {{\n{asset('pattern.js')}\n{asset('attention.js')}\n}})();"


def _head(pattern: Float[np.ndarray, "query_pos key_pos"], label: str) -> tuple[dict[str, Any], float]:
    """One head for the script, and the largest error of its values. A band is enough if nothing lies beyond it."""
    count, reach = len(pattern), window(label)
    within = seen(count, count if reach is None else reach)
    if np.count_nonzero(pattern) == np.count_nonzero(values := pattern[within]):
        width = min(count, reach or count)
    else:
        width, values = count, pattern[seen(count, count)]
    values = np.clip(values, 0, 1)
    codes = quantised(values)
    error = float(np.abs(restored(codes) - values).max())
    head = {"label": label, "colour": colour(label), "window": reach, "width": width, "cells": packed(codes)}
    return head, error


def _in_words(error: float) -> str:
    below = precision(int(quantised(np.array([_SMALL]))[0]))
    return (
        f"A byte a value: no value shown is off by more than {error:.2g}, and none below {_SMALL:g} by more than "
        f"{below:.2g}."
    )
