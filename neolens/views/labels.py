"""What the label of a head says: `1.3 local 16` is head 3 of layer 1, whose queries see 16 keys.

Heads of one kind have the colour that this kind has in the figures.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from neolens.figures import KIND_COLOURS

NEITHER = "#3d4852"
"""The colour of a head whose kind is not named."""


def colour(label: str) -> str:
    """The colour of the kind that the label names."""
    return next((KIND_COLOURS[kind] for kind in KIND_COLOURS if kind in label.split()), NEITHER)


def shared_colour(labels: Sequence[str]) -> str:
    """The colour of the kind that all heads share, grey where kinds differ or are not named."""
    colours = {colour(label) for label in labels}
    return colours.pop() if len(colours) == 1 else NEITHER


def window(label: str) -> int | None:
    """The window that the label names, if it names one."""
    found = re.search(r"\blocal ([1-9]\d*)\b", label)
    return int(found[1]) if found else None
