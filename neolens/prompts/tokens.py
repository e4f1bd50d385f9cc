"""Prompts as tokens: one integer tensor [prompt, pos], or a list of one-dimensional ones; no padding anywhere."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from neolens.checks import check_list, check_tokens, check_whole, holds_tokens, shown
from neolens.models.other_architectures import Facts, check_anatomy

Prompts = Tensor | Sequence[Tensor]
"""Int[Tensor, "prompt pos"], or a sequence of Int[Tensor, " pos"]; `validated` checks them, with errors in words."""


def validated(tokens: Prompts, anatomy: Facts, *, shortest: int = 1) -> list[Tensor]:
    """The prompts one by one, on the CPU.

    Raises:
        TypeError: not integer tensors.
        ValueError: no prompt, or one that is too short, too long, or holds an id outside the vocabulary; named.
    """
    check_anatomy(anatomy)
    shortest = check_whole(shortest, "shortest", 1)
    if isinstance(tokens, Tensor) and tokens.ndim != 2:
        raise ValueError(f"tokens have shape {tuple(tokens.shape)}: expected [prompt, pos]; for one use tokens[None]")
    of = "one-dimensional integer tensors"
    prompts = (
        list(tokens)
        if isinstance(tokens, Tensor)
        else check_list(tokens, "tokens", of, example="[tokens[0], tokens[1]], or a tensor [prompt, pos]")
    )
    if not prompts:
        raise ValueError("there is no prompt: tokens has none; expected at least one")
    for index, prompt in enumerate(prompts):
        if not is_prompt(prompt):
            raise TypeError(
                f"prompt {index} is not a one-dimensional integer tensor in memory but {shown(prompt)}: tokenize it "
                "first"
            )
        if not shortest <= len(prompt) <= anatomy.context:
            remedy = (
                "give a longer one" if len(prompt) < shortest else "cut it, for example with neolens.prompts.chunks"
            )
            raise ValueError(
                f"prompt {index} has {len(prompt)} tokens: {anatomy.name} takes {shortest} to {anatomy.context} here; "
                f"{remedy}"
            )
        check_vocabulary(int(prompt.min()), int(prompt.max()), f"prompt {index}", anatomy)
    return [prompt.cpu().long() for prompt in prompts]


def is_prompt(value: Any) -> bool:
    """Whether a value is a one-dimensional tensor of integers, of any length."""
    return isinstance(value, Tensor) and value.ndim == 1 and holds_tokens(value)


def check_vocabulary(low: int, high: int, which: str, anatomy: Facts) -> None:
    """Check that the smallest and the largest token of a prompt are in the model's vocabulary.

    Raises:
        ValueError: one is not; `which` names the prompt.
    """
    if low < 0 or high >= anatomy.d_vocab:
        raise ValueError(
            f"{which} holds token {low if low < 0 else high}: {anatomy.name} has 0 to {anatomy.d_vocab - 1}; tokenize "
            "with the model's own tokenizer"
        )


def repeat_length(prompt: Int[Tensor, " pos"]) -> int | None:
    """n where the prompt is [first, r_1..r_n, r_1..r_n] with n >= 2, else None.

    Raises:
        TypeError, ValueError: no one-dimensional integer tensor, or an empty one.
    """
    check_tokens(prompt, "prompt", "[pos]")
    n, odd = divmod(len(prompt) - 1, 2)
    if odd or n < 2 or not torch.equal(prompt[1 : n + 1], prompt[n + 1 :]):
        return None
    return n


def second_copy(n: int) -> range:
    """The positions of [first, r_1..r_n, r_1..r_n] at which r_2..r_n of the second copy are predicted, from the first.

    Its r_1 cannot be: nothing says when a copy begins.

    Raises:
        TypeError, ValueError: no whole number of at least 1.
    """
    n = check_whole(n, "n", 1)
    return range(n + 1, 2 * n)
