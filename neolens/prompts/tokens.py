"""Prompts as tokens: one integer tensor [prompt, pos], or a list of one-dimensional ones; no padding anywhere."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from neolens.lab.language import CONTENT
from neolens.models.foreign import Facts
from neolens.prompts.lab_questions import speaks_lab
from neolens.prompts.pairs import limits
from neolens.prompts.text import beginning_of_sequence

_INTEGERS = (torch.int64, torch.int32, torch.int16, torch.uint8, torch.int8)

Prompts = Tensor | Sequence[Tensor]
"""Int[Tensor, "prompt pos"], or a sequence of Int[Tensor, " pos"]; `validated` checks them, with errors in words."""


def validated(tokens: Prompts, anatomy: Facts, *, shortest: int = 1) -> list[Tensor]:
    """The prompts one by one, on the CPU.

    Raises:
        TypeError: not integer tensors.
        ValueError: no prompt, or one that is too short, too long, or holds an id outside the vocabulary; named.
    """
    if isinstance(tokens, Tensor) and tokens.ndim != 2:
        raise ValueError(f"tokens have shape {tuple(tokens.shape)}: expected [prompt, pos]; for one use tokens[None]")
    prompts = list(tokens)
    if not prompts:
        raise ValueError("there is no prompt: expected at least one")
    for index, prompt in enumerate(prompts):
        if not isinstance(prompt, Tensor) or prompt.dtype not in _INTEGERS or prompt.ndim != 1:
            raise TypeError(f"prompt {index} is not a one-dimensional integer tensor: tokenize it first")
        if not shortest <= len(prompt) <= anatomy.context:
            remedy = (
                "give a longer one" if len(prompt) < shortest else "cut it, for example with neolens.prompts.chunks"
            )
            raise ValueError(
                f"prompt {index} has {len(prompt)} tokens: {anatomy.name} takes {shortest} to {anatomy.context} here; "
                f"{remedy}"
            )
        low, high = int(prompt.min()), int(prompt.max())
        if low < 0 or high >= anatomy.d_vocab:
            raise ValueError(
                f"prompt {index} holds token {low if low < 0 else high}: {anatomy.name} has 0 to "
                f"{anatomy.d_vocab - 1}; tokenize with the model's own tokenizer"
            )
    return [prompt.cpu().long() for prompt in prompts]


def repeat_length(prompt: Int[Tensor, " pos"]) -> int | None:
    """n where the prompt is [first, r_1..r_n, r_1..r_n] with n >= 2, else None."""
    n, odd = divmod(len(prompt) - 1, 2)
    if odd or n < 2 or not torch.equal(prompt[1 : n + 1], prompt[n + 1 :]):
        return None
    return n


def second_copy(n: int) -> range:
    """The positions of [first, r_1..r_n, r_1..r_n] at which r_2..r_n of the second copy are predicted, from the first.

    Its r_1 cannot be: nothing says when a copy begins.
    """
    return range(n + 1, 2 * n)


def repeated(
    candidates: Sequence[int] | Int[Tensor, " token"], n: int, *, bos: int, prompts: int = 1, seed: int = 0
) -> Int[Tensor, "prompt pos"]:
    """Prompts [bos, r_1..r_n, r_1..r_n], each r drawn without replacement from `candidates`.

    Raises:
        ValueError: n < 2, or fewer than n candidates.
    """
    pool = torch.as_tensor(candidates, dtype=torch.long)
    pool = pool[pool != bos].unique()
    if not 2 <= n <= len(pool):
        raise ValueError(f"a repeat length of {n} is not within 2 to {len(pool)}, the number of tokens to draw from")
    generator = torch.Generator().manual_seed(seed)
    drawn = [pool[torch.randperm(len(pool), generator=generator)[:n]] for _ in range(prompts)]
    return torch.stack([torch.cat([torch.tensor([bos]), r, r]) for r in drawn])


def random_repeats(model: Any, n: int, *, prompts: int = 8, seed: int = 0) -> Int[Tensor, "prompt pos"]:
    """Prompts [BOS, r_1..r_n, r_1..r_n] in a model's own tokens, each r drawn without replacement: the lab's words of
    meaning where the tokenizer speaks its language, else all tokens but the special ones.

    Args:
        model: what has a `tokenizer` and an `anatomy` (or a `cfg`), such as a model from `neolens.load`.

    Raises:
        ValueError: no tokenizer, no prompts, prompts beyond the model's context, n < 2, or fewer than n tokens to draw
            from.
    """
    pool, bos, name, context = _words(model, prompts)
    if 2 * n + 1 > context:
        raise ValueError(
            f"a sequence of {n} tokens, repeated, is a prompt of {2 * n + 1}: {name} has {context} positions; expected "
            f"2 to {(context - 1) // 2}"
        )
    return repeated(pool, n, bos=bos, prompts=prompts, seed=seed)


def random_tokens(model: Any, length: int, *, prompts: int = 8, seed: int = 0) -> Int[Tensor, "prompt pos"]:
    """Prompts of `length` tokens, BOS first and then tokens drawn at random, each by itself, from those of
    `random_repeats`.

    Raises:
        ValueError: no tokenizer, no prompts, or a length that is not within 2 and the model's context.
    """
    pool, bos, name, context = _words(model, prompts)
    if not 2 <= length <= context:
        raise ValueError(f"prompts of {length} tokens: {name} takes 2 to {context} here")
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.tensor(pool)[torch.randint(len(pool), (prompts, length - 1), generator=generator)]
    return torch.cat([torch.full((prompts, 1), bos), drawn], dim=1)


def _words(model: Any, prompts: int) -> tuple[list[int], int, str, int]:
    """The tokens that a model's random prompts are drawn from, BOS, its name and its context."""
    if prompts < 1:
        raise ValueError(f"{prompts} prompts: expected at least 1")
    name, context, d_vocab = limits(model)
    tokenizer = getattr(model, "tokenizer", None)
    if tokenizer is None:
        raise ValueError(
            f"{name} has no tokenizer, which says what tokens there are to draw from: make the prompts with "
            "neolens.prompts.repeated, or save a tokenizer into the model's folder"
        )
    special = set(tokenizer.all_special_ids)
    words = [token for token in range(min(len(tokenizer), d_vocab)) if token not in special]
    return CONTENT.tolist() if speaks_lab(tokenizer) else words, beginning_of_sequence(tokenizer), name, context
