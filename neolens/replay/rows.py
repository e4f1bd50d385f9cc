"""Patched runs under way: rows that differ from the recorded run at the same stretch of positions.

The linear layers see all rows as one flat list of items (row, position); attention alone needs to know which items
belong together.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True)
class Rows:
    """Runs that differ from the record at the positions from `first` to before `last`."""

    first: int
    last: int
    prompt: Int[Tensor, " row"]
    """Which recorded run each row started from."""
    cell: Int[Tensor, " row"]
    """Where the row's number belongs in the result."""
    residual: Float[Tensor, "row pos d_model"]
    """The residual stream at those positions."""

    @property
    def items(self) -> int:
        return self.residual.shape[0] * self.residual.shape[1]

    def replaced(self, first: int, last: int, residual: Tensor) -> Rows:
        """The same runs with another stretch and stream."""
        return Rows(first, last, self.prompt, self.cell, residual)


def merged(rows: Iterable[Rows]) -> list[Rows]:
    """The same runs, those with the same stretch together."""
    alike: dict[tuple[int, int], list[Rows]] = {}
    for group in rows:
        if group.residual.shape[0] and group.last > group.first:
            alike.setdefault((group.first, group.last), []).append(group)
    return [
        groups[0]
        if len(groups) == 1
        else Rows(
            first,
            last,
            torch.cat([group.prompt for group in groups]),
            torch.cat([group.cell for group in groups]),
            torch.cat([group.residual for group in groups]),
        )
        for (first, last), groups in sorted(alike.items())
    ]


def flat(parts: Sequence[Float[Tensor, "_ _ d"]]) -> Float[Tensor, "item d"]:
    """All items of all rows in one list."""
    each = [part.flatten(0, 1) for part in parts]
    return each[0] if len(each) == 1 else torch.cat(each)


def unflat(items: Float[Tensor, "item d"], shapes: Sequence[Sequence[int]]) -> list[Tensor]:
    """The items of each group again as [row, pos, ...], views of the list."""
    sizes = [shape[0] * shape[1] for shape in shapes]
    return [part.unflatten(0, shape) for part, shape in zip(items.split(sizes), shapes, strict=True)]
