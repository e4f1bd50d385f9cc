"""A short pattern, drawn by circuitsvis without a network.

circuitsvis asks the internet whether it is there and then loads its script from a CDN; its own wheel brings
the same script along. That script is taken from the wheel, and the data stands beside it. It holds every value in
decimal digits, seven bytes of them, and draws every cell as an element of a chart, which a browser does at once for
some hundred thousand.
"""

from __future__ import annotations

import functools
import importlib.resources
import re
from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor

from neolens.views.labels import shared_colour
from neolens.views.words import script_json, visible


def drawn(tokens: Sequence[str], pattern: Float[Tensor, "head query_pos key_pos"], labels: Sequence[str]) -> str:
    """The JavaScript function that draws the heads with circuitsvis, values to four decimals."""
    props = {
        "tokens": [visible(token) for token in tokens],
        "attention": [[[round(cell, 4) for cell in row] for row in head] for head in pattern.tolist()],
        "attentionHeadNames": list(labels),
        "positiveColor": shared_colour(labels),
        "minValue": 0,
        "maxValue": 1,
    }
    return (
        f"element => {{ element.id ||= 'circuitsvis-' + Math.random().toString(36).slice(2); "
        f"CircuitsVis.render(element.id, CircuitsVis.AttentionHeads, {script_json(props)}); }}"
    )


@functools.cache
def bundled_script() -> str:
    """The JavaScript that the circuitsvis wheel brings along; it defines the global `CircuitsVis`."""
    source = importlib.resources.files("circuitsvis").joinpath("dist/cdn/iife.js").read_text(encoding="utf-8")
    source = re.sub(r"^//# sourceMappingURL=.*$", "", source, flags=re.MULTILINE)
    return re.sub(r"</(script)", r"<\\/\1", source, flags=re.IGNORECASE).strip()
