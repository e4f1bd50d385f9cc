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
from neolens.models import Anatomy
from neolens.network import PatternBlock, residual
from neolens.position.asked import asked_weights, of_one_length
from neolens.prompts.tokens import Prompts
from neolens.scores.sums import diagonal_sums

_BLOCK_CELLS = 2**22
"""Cells (prompt, head, query, key) of a block: all prompts go through together, so blocks have fewer queries."""


@torch.no_grad()
def toeplitz(model: Any, tokens: Prompts) -> xr.Dataset:
    """The distance kernel of every head and the share of its averaged scores that is a function of distance alone.

    With M[i, j] the mean over prompts of the score S[i, j] (what the softmax takes, the scale in it), over the visible
    cells with j >= 1, N in all and n_d of them at distance d:

    - `kernel` K[d], the mean of M over the cells with i - j = d, in units of the score, and `kernel_error`, the
      standard error of K[d] over prompts; NaN without a cell: at d = T - 1, and in a local layer beyond the window;
    - `variance` of M over its cells, and `toeplitz_share` = sum_d n_d (K[d] - mean)^2 / (N variance);
    - `toeplitz_share_corrected`: what few prompts leave of the tokens adds to the variance and lowers the share. Both
      variances less what the spread over prompts says that noise has added, so that the share does not depend on how
      many prompts there are; NaN where nothing is left above the noise.

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
    sums = [_Layer(prompts, facts.heads, length) for _ in range(facts.layers)]

    def observe(block: PatternBlock) -> None:
        sums[block.layer].add(block)

    cells = prompts * facts.heads * length
    residual(
        weights,
        batch.to(weights.embedding.device),
        observer=observe,
        block=max(1, _BLOCK_CELLS // cells),
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
    by_diagonal: Float[Tensor, "prompt head distance"] = field(init=False)
    """Sum of each prompt's scores at each distance."""
    squares: Float[Tensor, " head"] = field(init=False)
    """Sum over cells of M[i, j]^2, and of the squares of single scores below."""
    single_squares: Float[Tensor, " head"] = field(init=False)
    cells: Float[Tensor, " distance"] = field(init=False)

    def __post_init__(self) -> None:
        self.by_diagonal = torch.zeros(self.prompts, self.heads, self.length, dtype=torch.float64)
        self.squares, self.single_squares = torch.zeros(2, self.heads, dtype=torch.float64)
        self.cells = torch.zeros(self.length, dtype=torch.float64)

    def add(self, block: PatternBlock) -> None:
        """Add one block's scores."""
        assert block.scores is not None
        counts = torch.isfinite(block.scores[:1, :1])
        if block.first_key == 0:
            counts = counts.clone()
            counts[..., 0] = False
        scores = block.scores.double().masked_fill(~counts, 0.0)
        by_diagonal = diagonal_sums(scores)
        self.by_diagonal[..., : by_diagonal.shape[-1]] += by_diagonal.cpu()
        cells = diagonal_sums(counts.double())[0, 0]
        self.cells[: len(cells)] += cells.cpu()
        self.squares += scores.mean(0).square().sum((-2, -1)).cpu()
        self.single_squares += scores.square().sum((0, -2, -1)).cpu()

    def finish(self) -> dict[str, Tensor]:
        """The variables of this layer, by head."""
        there = self.cells > 0
        number, cells = self.cells[there], self.cells.sum()
        of_prompts = self.by_diagonal[..., there] / number
        kernel = of_prompts.mean(0)
        mean = (kernel * number).sum(-1) / cells
        variance = self.squares / cells - mean**2
        between = ((kernel - mean[:, None]) ** 2 * number).sum(-1) / cells
        noise_of_cells = (self.single_squares / self.prompts - self.squares) / cells / (self.prompts - 1)
        noise_of_kernel = of_prompts.var(0) / self.prompts
        noise_of_mean = ((of_prompts * number).sum(-1) / cells).var(0) / self.prompts
        true = variance - (noise_of_cells - noise_of_mean)
        true_between = between - ((noise_of_kernel * number).sum(-1) / cells - noise_of_mean)
        return {
            "kernel": self._spread(kernel, there),
            "kernel_error": self._spread(noise_of_kernel.sqrt(), there),
            "variance": variance,
            "toeplitz_share": between / variance.where(variance > 0, torch.nan),
            "toeplitz_share_corrected": (true_between / true.where(true > noise_of_cells, torch.nan)).clamp(0, 1),
        }

    def _spread(self, values: Float[Tensor, "head there"], there: Tensor) -> Float[Tensor, "head distance"]:
        whole = torch.full((self.heads, self.length), torch.nan, dtype=torch.float64)
        whole[:, there] = values
        return whole
