"""How much of a head's scores is distance alone, once the tokens are averaged out.

Averaged over random token sequences, the score S[i, j] keeps what positions make of it. The Toeplitz share is the part
of its variance, over keys j <= i other than key 0, that its diagonals explain: 1 for a head whose averaged scores are a
function of i - j. That function is the head's distance kernel.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import xarray as xr
from jaxtyping import Float
from torch import Tensor

from neolens import results
from neolens.models import Anatomy, AttentionSpan
from neolens.models.spans import visible
from neolens.network import PatternBlock, measurement, residual
from neolens.position.checks import asked_weights, of_one_length
from neolens.prompts.tokens import Prompts
from neolens.scores.sums import diagonal_sums

_BLOCK_CELLS = 2**22
"""Cells (prompt, head, query, key) of a block: all prompts go through together, so blocks have fewer queries."""

_ROUNDING = 1e-12
"""A variance below this share of the mean square is a difference of two equal numbers: none."""


@measurement()
def toeplitz(model: Any, tokens: Prompts) -> xr.Dataset:
    """The distance kernel of every head and the share of its averaged scores that is a function of distance alone.

    With M[i, j] the mean over prompts of the score S[i, j] (what the softmax takes, the scale in it), over the visible
    cells with j >= 1, N in all and n_d of them at distance d:

    - `kernel` K[d], the mean of M over the cells with i - j = d, in units of the score, and `kernel_error`, the
      standard error of K[d] over prompts; NaN without a cell: at d = T - 1, and in a local layer beyond the window;
    - `variance` of M over its cells, and `toeplitz_share` = sum_d n_d (K[d] - mean)^2 / (N variance);
    - `row_share`, the same of what the softmax sees: a constant added to a query's row changes no pattern, so each row
      has one of its own. The part of the variance about the means of the rows that a function of distance explains
      beside such constants (least squares);
    - `toeplitz_share_corrected` and `row_share_corrected`: what few prompts leave of the tokens adds to both variances.
      They are taken less what the spread over prompts says that noise has added, so that the share does not depend on
      how many prompts there are; within 0 and 1, and NaN where no more variance is left than was noise.

    Args:
        model: from `neolens.load`; it need have no position encoding.
        tokens: an integer tensor [prompt, pos] of random tokens, 2 or more prompts of one length; the more, the better
            averaged. All go through the network together.

    Raises:
        TypeError: not a model from `neolens.load`.
        ValueError: prompts of several lengths, fewer than 2, or of fewer than 4 tokens, or a model with hooks on it.
    """
    began = time.perf_counter()
    weights = asked_weights(model, "a Toeplitz share")
    facts = weights.anatomy
    batch = of_one_length(tokens, facts, shortest=4, fewest=2, because=" to average tokens out over")
    prompts, length = batch.shape
    sums = [_Layer(prompts, facts.heads, length, span) for span in facts.attention]

    def observe(block: PatternBlock) -> None:
        sums[block.layer].add(block)

    cells = prompts * facts.heads * length
    residual(
        weights,
        batch.to(weights.embedding.device),
        observer=observe,
        block=max(1, _BLOCK_CELLS // cells),
        scores_too=True,
        stop_after=facts.layers - 1,
    )
    return _labelled(model, facts, [one.finish() for one in sums], batch, time.perf_counter() - began)


def _labelled(model: Any, facts: Anatomy, layers: list[dict[str, Tensor]], batch: Tensor, seconds: float) -> xr.Dataset:
    variables = {}
    for name in layers[0]:
        value = torch.stack([layer[name] for layer in layers]).cpu().numpy()
        variables[name] = (("layer", "head", "distance")[: value.ndim], value)
    attrs = results.provenance(model, facts, seconds=round(seconds, 3), prompts=len(batch), length=batch.shape[1])
    return results.build(variables, facts, coords={"distance": np.arange(batch.shape[1])}, attrs=attrs)


@dataclass
class _Layer:
    """Running totals of one layer over blocks of its queries."""

    prompts: int
    heads: int
    length: int
    span: AttentionSpan
    by_diagonal: Float[Tensor, "prompt head distance"] = field(init=False)
    """Sum of each prompt's scores at each distance, and in each row below."""
    by_row: Float[Tensor, "prompt head query_pos"] = field(init=False)
    squares: Float[Tensor, " head"] = field(init=False)
    """Sum over cells of M[i, j]^2, and below of the squares of the single prompts' scores."""
    single_squares: Float[Tensor, " head"] = field(init=False)
    cells: Float[Tensor, "query_pos distance"] = field(init=False)
    """1 where a query has a cell at a distance."""

    def __post_init__(self) -> None:
        shape = (self.prompts, self.heads, self.length)
        self.by_diagonal, self.by_row = torch.zeros(2, *shape, dtype=torch.float64)
        self.squares, self.single_squares = torch.zeros(2, self.heads, dtype=torch.float64)
        self.cells = torch.zeros(self.length, self.length, dtype=torch.float64)

    def add(self, block: PatternBlock) -> None:
        """Add one block's scores."""
        assert block.scores is not None
        queries = range(block.first_query, block.first_query + block.queries)
        keys = range(block.first_key, block.first_key + block.keys)
        counts = visible(queries, keys, self.span, device=block.scores.device)
        if block.first_key == 0:
            counts = counts.clone()
            counts[:, 0] = False
        scores = block.scores.double().masked_fill(~counts, 0.0)
        by_diagonal = diagonal_sums(scores)
        self.by_diagonal[..., : by_diagonal.shape[-1]] += by_diagonal.cpu()
        rows = slice(block.first_query, block.first_query + block.queries)
        self.by_row[..., rows] = scores.sum(-1).cpu()
        query, key = counts.cpu().nonzero().T
        self.cells[block.first_query + query, block.first_query + query - block.first_key - key] = 1.0
        self.squares += scores.mean(0).square().sum((-2, -1)).cpu()
        self.single_squares += scores.square().sum((0, -2, -1)).cpu()

    def finish(self) -> dict[str, Tensor]:
        """The variables of this layer, by head."""
        number = self.cells.sum(0)
        of_prompts = self.by_diagonal / number.where(number > 0, torch.nan)
        inverse = self._inverse()
        seen = self._sums(self.squares, self.by_diagonal.mean(0), self.by_row.mean(0), inverse)
        singles = self._sums(self.single_squares / self.prompts, self.by_diagonal, self.by_row, inverse)
        # All are quadratic in the scores: what the spread over prompts adds to that of their mean is the same of it.
        noise = {name: (singles[name] - its) / (self.prompts - 1) for name, its in seen.items()}
        left = {name: its - noise[name] for name, its in seen.items()}
        found = {"kernel": of_prompts.mean(0), "kernel_error": of_prompts.std(0) / self.prompts**0.5}
        found["variance"] = seen["all"] / self.cells.sum()
        rounding = _ROUNDING * self.squares
        for name, explained, whole in (("toeplitz_share", "diagonals", "all"), ("row_share", "beside rows", "in rows")):
            found[name] = seen[explained] / seen[whole].where(seen[whole] > rounding, torch.nan)
            above = left[whole].where(left[whole] > torch.maximum(noise[whole], rounding), torch.nan)
            found[f"{name}_corrected"] = (left[explained] / above).clamp(0, 1)
        return found

    def _inverse(self) -> Float[Tensor, "there there"]:
        """Of the normal equations of a kernel beside a constant for each row, over distances that have a cell."""
        row, there = self.cells.sum(1) > 0, self.cells.sum(0) > 0
        cells = self.cells[row][:, there]
        equations = cells.sum(0).diag() - cells.T @ (cells / cells.sum(1, keepdim=True))
        return torch.linalg.pinv(equations, hermitian=True)

    def _sums(
        self,
        squares: Float[Tensor, " head"],
        by_diagonal: Float[Tensor, "*prompt head distance"],
        by_row: Float[Tensor, "*prompt head query_pos"],
        inverse: Float[Tensor, "there there"],
    ) -> dict[str, Float[Tensor, " head"]]:
        """Sums of squares, means over prompts: of all cells about their mean and of the diagonals; of all cells about
        the means of their rows, and what a function of distance explains of that."""
        of_row, of_distance = self.cells.sum(1), self.cells.sum(0)
        row, there = of_row > 0, of_distance > 0
        cells, of_row, of_distance = self.cells[row][:, there], of_row[row], of_distance[there]
        by_diagonal, by_row = by_diagonal[..., there], by_row[..., row]
        middle = by_diagonal.sum(-1) ** 2 / cells.sum()
        diagonals = (by_diagonal**2 / of_distance).sum(-1) - middle
        # Least squares of a kernel beside a constant for each row, the constants eliminated.
        apart = by_diagonal - (by_row / of_row) @ cells
        beside = ((apart @ inverse) * apart).sum(-1)
        rows = (by_row**2 / of_row).sum(-1)
        found = {"diagonals": diagonals, "beside rows": beside, "all": squares - middle, "in rows": squares - rows}
        return {name: value.reshape(-1, self.heads).mean(0) for name, value in found.items()}
