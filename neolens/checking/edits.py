"""The edit with which every hook is tried, the pure pass that says what it does, and how far rounding moves a logit."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from neolens.network import logits, residual
from neolens.network.blockwise import Edit


def _ramp(x: Tensor) -> tuple[Tensor, Tensor]:
    """Factors and addends that no layer norm undoes, 1 + cos(index) / 2 and sin(index + 1) / 2 along the last axis: the
    addends have an effect also where the activation is 0."""
    index = torch.arange(x.shape[-1], device=x.device, dtype=torch.float32)
    return (1 + 0.5 * torch.cos(index)).to(x.dtype), (0.5 * torch.sin(index + 1)).to(x.dtype)


def returned(x: Tensor, hook: Any = None) -> Tensor:
    factor, addend = _ramp(x)
    return x * factor + addend


def in_place(x: Tensor, hook: Any) -> None:
    factor, addend = _ramp(x)
    x.mul_(factor).add_(addend)


def edit_at(site: str, layer: int | None) -> Edit:
    return lambda here, index, x: returned(x) if (here, index) == (site, layer) else x


def rounding_bound(weights: Any, tokens: Tensor, edit: Edit | None = None) -> float:
    """How far rounding can move a logit: four times as far as errors of one unit in the last place, drawn for every
    activation, move it in the pure pass. A layer norm of two nearly equal numbers multiplies them."""
    generator = torch.Generator().manual_seed(0)

    def rounded(site: str, layer: int | None, x: Tensor) -> Tensor:
        noise = torch.finfo(x.dtype).eps * torch.randn(x.shape, generator=generator)
        x = x * (1 + noise.to(x.device, x.dtype))
        return x if edit is None else edit(site, layer, x)

    exact = pure_logits(weights, tokens, edit=edit)
    return 4 * max((pure_logits(weights, tokens, edit=rounded) - exact).abs().max().item() for _ in range(4))


@torch.no_grad()
def pure_logits(weights: Any, tokens: Tensor, edit: Any = None) -> Float[Tensor, "prompt pos d_vocab"]:
    return logits(weights, residual(weights, tokens, edit=edit, block=tokens.shape[1])).float()


def random_tokens(model: Any, past_window: int | None) -> Tensor:
    """Two prompts of random tokens, `past_window` longer than the widest window, or a few tokens."""
    facts = model.anatomy
    length = 16 if past_window is None or not facts.windows else max(facts.windows) + past_window
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(facts.d_vocab, (2, min(length, facts.context)), generator=generator)
    return tokens.to(model.cfg.device)
