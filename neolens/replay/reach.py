"""What a metric can still see: positions of each layer's output that reach the positions it reads.

A local layer hands on from key j to queries j to j + window - 1 only, a global one to all that follow. Backwards from
the positions that the metric reads, this bounds what has to be computed; forwards from a patch, what it can have
changed.
"""

from __future__ import annotations

from collections.abc import Sequence

from neolens.models.facts import AttentionSpan


def seen_from(spans: Sequence[AttentionSpan], read_from: int) -> tuple[int, ...]:
    """For each layer the first position of its output that reaches an output position at or after `read_from`."""
    first, backwards = read_from, []
    for span in reversed(spans):
        backwards.append(first)
        first = 0 if span.window is None else max(0, first - span.window + 1)
    return tuple(reversed(backwards))


def changed_until(span: AttentionSpan, last: int, length: int) -> int:
    """The end of the output positions that a change of the input before `last` can have changed."""
    return length if span.window is None else min(length, last + span.window - 1)
