"""The scores of a head as sums over blocks of its attention pattern; no pattern is kept.

Each score of `definitions` is a sum over cells (query i, key j) of the pattern A. `Sums` adds a block's cells to
running totals and drops the block; `finish` divides. Within a block the arithmetic is the pattern's (fp32 at least),
the totals are float64. Sources: prefix matching, Olsson et al. 2022; sink, Gu et al. 2024 (arXiv 2410.10781); mean
distance, Vig and Belinkov 2019.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from neolens.models.other_architectures import Facts
from neolens.network.blockwise import PatternBlock

Score = Float[Tensor, "prompt layer head"]


class Sums:
    """Running totals over the pattern blocks of prompts that have one length.

    Args:
        repeat: n where the prompts are [first, r_1..r_n, r_1..r_n], else None.
        sink_key: the key position k whose mean attention is `sink`.
    """

    def __init__(
        self,
        facts: Facts,
        prompts: int,
        length: int,
        repeat: int | None,
        device: torch.device | str = "cpu",
        *,
        sink_key: int = 0,
    ):
        shape = (prompts, facts.layers, facts.heads)
        self.windows = [length if span.window is None else span.window for span in facts.attention]
        self.length, self.repeat, self.sink_key = length, repeat, sink_key
        self.mass = torch.zeros(*shape, length, dtype=torch.float64, device=device)
        names = ("entropy", "entropy_normalised", "sink", "distance_to_key_0", "duplicate", "induction")
        self.totals = {name: torch.zeros(shape, dtype=torch.float64, device=device) for name in names}

    def add(self, block: PatternBlock) -> None:
        """Add one block's cells to the totals."""
        pattern = block.pattern.to(torch.promote_types(block.pattern.dtype, torch.float32))
        query = torch.arange(block.first_query, block.first_query + block.queries, device=pattern.device)
        by_distance = diagonal_sums(pattern)
        self.mass[:, block.layer, :, : by_distance.shape[-1]] += by_distance
        self._add_entropy(block, pattern, query)
        if 0 <= self.sink_key - block.first_key < block.keys:
            self._add("sink", block, pattern[..., self.sink_key - block.first_key].double().sum(-1))
        if block.first_key == 0:
            self._add("distance_to_key_0", block, pattern[..., 0].double() @ query.double())
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
            "sink": self.totals["sink"] / (length - self.sink_key),
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

    def _add_entropy(
        self, block: PatternBlock, pattern: Float[Tensor, "prompt head query_pos key_pos"], query: Tensor
    ) -> None:
        """- sum_j A log A of each query, plain and over the entropy of a uniform row, log(min(i + 1, w)).

        The smallest normal number is added under the logarithm, where it changes 0 alone: 0 log 0 is 0, and torch's
        `entr` takes three times as long. Attention below 0, which a hook may have made, has no entropy: NaN.
        """
        logs = (pattern + torch.finfo(pattern.dtype).tiny).log_()
        entropy = -logs.mul_(pattern).sum(-1).double()
        entropy[..., query == 0] = 0.0  # left out of the mean
        self._add("entropy", block, entropy.sum(-1))
        highest = (query + 1).clamp(max=self.windows[block.layer]).double().log()
        highest[query == 0] = 1.0
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

    Read in rows one element longer than they are, a diagonal is a column: no copy for those that cross every row. The
    others lie in the corner below, where a copy with zeros above them is read so too.
    """
    rows, columns = pattern.shape[-2:]
    *outer, down, right = pattern.stride()
    across = pattern.as_strided((*pattern.shape[:-1], columns - rows + 1), (*outer, down + right, right)).sum(-2)
    if rows == 1:
        return across.flip(-1)
    corner = pattern[..., :rows].tril(-1).flatten(-2)[..., 2:]
    below = corner.unfold(-1, rows - 1, rows + 1).sum(-2)
    return torch.cat([below, across], -1).flip(-1)
