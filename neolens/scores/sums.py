"""The scores of a head as sums over blocks of its attention pattern; no pattern is kept.

Each score of `definitions` is a sum over cells (query i, key j) of the pattern A. `Sums` adds a block's cells to
running totals and drops the block; `finish` divides. Sources: prefix matching, Olsson et al. 2022; sink, Gu et al.
2024 (arXiv 2410.10781); mean distance, Vig and Belinkov 2019.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad

from neolens.models.facts import Anatomy
from neolens.network.blockwise import PatternBlock

Score = Float[Tensor, "prompt layer head"]


class Sums:
    """Running totals over the pattern blocks of prompts that have one length.

    Args:
        repeat: n where the prompts are [first, r_1..r_n, r_1..r_n], else None.
    """

    def __init__(
        self,
        anatomy: Anatomy,
        prompts: int,
        length: int,
        repeat: int | None,
        device: torch.device | str = "cpu",
    ):
        shape = (prompts, anatomy.layers, anatomy.heads)
        self.windows = [length if span.window is None else span.window for span in anatomy.attention]
        self.length, self.repeat = length, repeat
        self.mass = torch.zeros(*shape, length, dtype=torch.float64, device=device)
        names = ("entropy", "entropy_normalised", "key_0", "distance_to_key_0", "duplicate", "induction")
        self.totals = {name: torch.zeros(shape, dtype=torch.float64, device=device) for name in names}

    def add(self, block: PatternBlock) -> None:
        """Add one block's cells to the totals."""
        pattern = block.pattern
        query = torch.arange(block.first_query, block.first_query + block.queries, device=pattern.device)
        by_distance = diagonal_sums(pattern)
        self.mass[:, block.layer, :, : by_distance.shape[-1]] += by_distance
        self._add_entropy(block, query)
        if block.first_key == 0:
            column = pattern[..., 0].double()
            self._add("key_0", block, column.sum(-1))
            self._add("distance_to_key_0", block, column @ query.double())
        if self.repeat is not None:
            self._add("duplicate", block, self._second_half(block, query, self.repeat))
            self._add("induction", block, self._second_half(block, query, self.repeat - 1))

    def finish(self) -> tuple[dict[str, Score], Float[Tensor, "prompt layer head distance"]]:
        """The scores, and the mean of A over the length - d cells at each distance d."""
        length = self.length
        distance = torch.arange(length, dtype=torch.float64, device=self.mass.device)
        mass = self.mass / (length - distance)
        reach = self.mass @ distance
        scores = {
            "previous_token": mass[..., 1],
            "current_token": mass[..., 0],
            "sink": self.totals["key_0"] / length,
            "mean_distance": reach / length,
            "mean_distance_without_key_0": (reach - self.totals["distance_to_key_0"]) / length,
            "entropy": self.totals["entropy"] / (length - 1),
            "entropy_normalised": self.totals["entropy_normalised"] / (length - 1),
        }
        if self.repeat is not None:
            scores["duplicate_token"] = self.totals["duplicate"] / self.repeat
            scores["induction"] = self.totals["induction"] / self.repeat
        return scores, mass

    def _add(self, name: str, block: PatternBlock, value: Float[Tensor, "prompt head"]) -> None:
        self.totals[name][:, block.layer] += value

    def _add_entropy(self, block: PatternBlock, query: Tensor) -> None:
        """- sum_j A log A of each query, plain and over the entropy of a uniform row, log(min(i + 1, w))."""
        entropy = torch.special.entr(block.pattern).sum(-1).double()
        self._add("entropy", block, entropy.sum(-1))
        highest = (query + 1).clamp(max=self.windows[block.layer]).double().log()
        highest[query == 0] = 1.0  # the first query sees one key: entropy 0, left out of the mean
        self._add("entropy_normalised", block, (entropy / highest).sum(-1))

    def _second_half(self, block: PatternBlock, query: Tensor, back: int) -> Float[Tensor, "prompt head"]:
        """The sum of A[i, i - back] over the block's queries in the second half of a repeated sequence."""
        key = query - back - block.first_key
        row = torch.nonzero((query > (self.length - 1) // 2) & (key >= 0)).flatten()
        return block.pattern[:, :, row, key[row]].double().sum(-1)


def diagonal_sums(
    pattern: Float[Tensor, "prompt head query_pos key_pos"],
) -> Float[Tensor, "prompt head distance"]:
    """Sums over the diagonals of a block whose last query is also its last key, by distance 0, 1, ...

    Reversed along the keys and laid out in rows one element wider than they are read, each row moves one place to
    the right of the row above, so that a distance becomes a column.
    """
    rows, columns = pattern.shape[-2:]
    skewed = pad(pattern.flip(-1), (0, rows)).flatten(-2)[..., :-rows]
    return skewed.unflatten(-1, (rows, rows + columns - 1)).sum(-2)[..., rows - 1 :]
