"""What a probe of positions is asked: a model that has some, and prompts; anything else is refused."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from neolens.models import Anatomy
from neolens.network import Weights, weights_of
from neolens.prompts.tokens import Prompts, validated


def asked_weights(model: Any, probe: str, *kinds: str, untreated: bool = False) -> Weights:
    """The weights of a model from `neolens.load` whose positions are of one of these kinds.

    Args:
        probe: what is asked, as the subject of a sentence.
        kinds: "absolute", "rotary"; any, also none at all, if there are none.
        untreated: whether the probe treats positions itself, so that no `what_if(positions=...)` may be in force.

    Raises:
        TypeError: not a hooked model.
        ValueError: other positions, or treated ones.
    """
    weights = weights_of(model)
    facts = weights.anatomy
    if kinds and facts.position.kind not in kinds:
        has = "no position encoding" if facts.position.kind == "none" else f"{facts.position.kind} positions"
        raise ValueError(f"{facts.name} has {has}: {probe} needs {' or '.join(kinds)} positions")
    if untreated and facts.position.treatment is not None:
        raise ValueError(f"positions of {facts.name} are treated already ({facts.position}): leave that what_if first")
    return weights


def of_one_length(
    tokens: Prompts, facts: Anatomy, *, shortest: int, fewest: int = 1, because: str = ""
) -> Int[Tensor, "prompt pos"]:
    """The prompts as one tensor, on the CPU.

    Args:
        because: what needs so many prompts or tokens, for the error.

    Raises:
        TypeError, ValueError: what `validated` says, prompts of several lengths, or too few.
    """
    prompts = validated(tokens, facts, shortest=shortest)
    lengths = sorted({len(prompt) for prompt in prompts})
    if len(lengths) > 1:
        raise ValueError(f"prompts have {lengths[0]} to {lengths[-1]} tokens: expected one length; cut them alike")
    if len(prompts) < fewest:
        raise ValueError(f"there is {len(prompts)} prompt{because}: expected at least {fewest}")
    return torch.stack(prompts)
