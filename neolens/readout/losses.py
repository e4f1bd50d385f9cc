"""What a model predicts under whatever is in force: its loss at every position."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from neolens.metrics import loss
from neolens.network import measurement, residual, weights_of
from neolens.readout.predictions import at_tokens

TOKENS_AT_ONCE = 4096
"""Tokens that go through the network together."""


@measurement(error=False)
def losses(model: Any, prompts: Sequence[Tensor]) -> Float[np.ndarray, "prompt pos"]:
    """The loss of predicting token i + 1 at each position i, in nats; NaN at the last, and beyond a prompt's end."""
    weights = weights_of(model)
    found = np.full((len(prompts), max(map(len, prompts))), np.nan)
    for rows in batches_by_length(prompts):
        batch = torch.stack([prompts[row] for row in rows]).to(weights.embedding.device)
        final = residual(weights, batch)[:, :-1]
        found[rows, : final.shape[1]] = at_tokens(weights, [loss], final, batch[:, 1:], None, None)[..., 0].cpu()
    return found


def batches_by_length(prompts: Sequence[Tensor]) -> Iterator[list[int]]:
    """Numbers of prompts of one length that go through the network together."""
    for length in sorted({len(prompt) for prompt in prompts}):
        rows = [number for number, prompt in enumerate(prompts) if len(prompt) == length]
        at_once = max(1, TOKENS_AT_ONCE // length)
        yield from (rows[first : first + at_once] for first in range(0, len(rows), at_once))
