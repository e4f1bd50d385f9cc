"""What a model predicts under whatever is in force: its loss at every position."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from neolens.ablation.reading import at_tokens
from neolens.metrics import loss
from neolens.network import measurement, residual, weights_of
from neolens.position.asked import alike


@measurement(error=False)
def losses(model: Any, prompts: Sequence[Tensor]) -> Float[np.ndarray, "prompt pos"]:
    """The loss of predicting token i + 1 at each position i, in nats; NaN at the last, and beyond a prompt's end."""
    weights = weights_of(model)
    found = np.full((len(prompts), max(map(len, prompts))), np.nan)
    for rows in alike(prompts):
        batch = torch.stack([prompts[row] for row in rows]).to(weights.embedding.device)
        final = residual(weights, batch)[:, :-1]
        found[rows, : final.shape[1]] = at_tokens(weights, [loss], final, batch[:, 1:], None, None)[..., 0].cpu()
    return found
