"""What a metric can still see: positions of each layer's output that reach the positions it reads.

A local layer hands on from key j to queries j to j + window - 1 only, a global one to all that follow. Backwards from
the positions that the metric reads, this bounds what has to be computed; forwards from a patch, what it can have
changed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from neolens.checks import check_index, check_list, check_type, check_whole
from neolens.models.anatomy import AttentionSpan


@dataclass(frozen=True)
class Reach:
    """Which positions of a run have to be computed, backwards from the metric and forwards from a patch."""

    length: int
    read_from: int
    """The first position that the metric reads."""
    seen_from: tuple[int, ...]
    """For each layer the first position of its output that reaches an output position at or after `read_from`."""
    windows: tuple[int | None, ...]

    def changed_until(self, layer: int, last: int) -> int:
        """The end of the output positions that a change of the layer's input before `last` can have changed."""
        window = self.windows[layer]
        return self.length if window is None else min(self.length, last + window - 1)


def reach(spans: Sequence[AttentionSpan], length: int, read_from: int) -> Reach:
    """The reach of these layers, from the first on, in a run of `length` positions."""
    for span in check_list(spans, "spans", "AttentionSpan", example="model.anatomy.attention"):
        check_type(span, "span", AttentionSpan, "a neolens.AttentionSpan")
    length = check_whole(length, "length", 1)
    read_from = check_index(read_from, "position", length)
    windows = tuple(span.window for span in spans)
    first, backwards = read_from, []
    for window in reversed(windows):
        backwards.append(first)
        first = 0 if window is None else max(0, first - window + 1)
    return Reach(length, read_from, tuple(reversed(backwards)), windows)
