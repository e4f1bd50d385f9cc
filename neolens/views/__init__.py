"""Views to look at token by token: attention patterns of any head, and texts coloured by a result.

`attention` draws with circuitsvis what circuitsvis can draw, and beyond that a compact picture of our own;
`tokens` colours a text. Each returns a `View`, which is the same in a notebook, in a file and in a report, with or
without a network.
"""

from neolens.views.circuits_vis import bundled_script
from neolens.views.coloured import MAX_VALUES, tokens
from neolens.views.heads import MAX_CELLS, SHORT, attention, attention_view
from neolens.views.view import View
from neolens.views.words import script_json, token_strings, visible

__all__ = [
    "MAX_CELLS",
    "MAX_VALUES",
    "SHORT",
    "View",
    "attention",
    "attention_view",
    "bundled_script",
    "script_json",
    "token_strings",
    "tokens",
    "visible",
]
