"""Random prompts in a model's own tokens, of any vocabulary: repeated sequences, and tokens drawn one by one.

In a repeated sequence [first, r_1..r_n, r_1..r_n] every token of r differs where the vocabulary has n tokens to draw
from. A smaller vocabulary gives r with repeated tokens, drawn so that as few as possible of its continuations are
ambiguous.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from neolens.checks import check_bool, check_list, check_seed, check_whole, shown
from neolens.lab.language.documents import CONTENT
from neolens.prompts.bos import bos_token, chosen_bos
from neolens.prompts.families.lab_questions import speaks_lab
from neolens.prompts.pairs import limits

LARGEST = 2**31 - 1
"""The largest token, length and number of prompts."""

MOST_TOKENS = 2**24
"""That are drawn at a time."""


def token_pool(model: Any) -> list[int]:
    """The tokens that random prompts are drawn from: the model's vocabulary without special tokens, ascending.

    For the lab's tokenizer, the words of its language that carry meaning. With another tokenizer, its tokens that the
    model has embeddings for, without its special tokens. Without a tokenizer, the model's vocabulary without the ids
    that the Hugging Face config names (`bos_token_id`, `eos_token_id`, `pad_token_id`, ...).

    Args:
        model: what has an `anatomy` (or a `cfg`) and perhaps a `tokenizer`, such as a model from `neolens.load`.

    Raises:
        ValueError: fewer than two tokens are left.
    """
    name, _, d_vocab = limits(model)
    tokenizer = getattr(model, "tokenizer", None)
    if tokenizer is None:
        vocabulary, special = set(range(d_vocab)), _ids_in_config(model)
    elif speaks_lab(tokenizer):
        return list(CONTENT.tolist())
    else:
        vocabulary = {token for token in tokenizer.get_vocab().values() if 0 <= token < d_vocab}
        added = getattr(tokenizer, "added_tokens_decoder", {})
        special = {*tokenizer.all_special_ids, *(token for token, content in added.items() if content.special)}
    pool = sorted(vocabulary - special)
    if len(pool) < 2:
        raise ValueError(
            f"{name} has {len(pool)} tokens besides special ones, of {d_vocab}: expected at least 2 to draw prompts "
            "from; make the prompts yourself, as an integer tensor [prompt, pos]"
        )
    return pool


def _ids_in_config(model: Any) -> set[int]:
    """The ids in the fields of a model's Hugging Face config that end in `_token_id`."""
    config: Any = getattr(getattr(model, "original_model", None), "config", None)
    fields = config.to_dict() if hasattr(config, "to_dict") else {}
    named = [value for field, value in fields.items() if field.endswith("_token_id") and value is not None]
    return {token for value in named for token in (value if isinstance(value, list) else [value])}


def repeated(
    candidates: Sequence[int] | Int[Tensor, " token"],
    n: int,
    *,
    bos: int | None,
    prompts: int = 1,
    seed: int = 0,
) -> Int[Tensor, "prompt pos"]:
    """Prompts [first, r_1..r_n, r_1..r_n] of random tokens.

    Where there are enough candidates, each r is drawn without replacement, so that every token of it occurs once. Where
    there are fewer, tokens recur: none follows itself (also r_1 in the second copy; two candidates alternate), none
    follows a token that it has followed before while another is left, and all occur equally often as far as that
    permits. Then the last two tokens together determine the next one, up to n of about m * m / 2 for m candidates,
    while the last one alone does not.

    Args:
        candidates: tokens; each counts once.
        bos: the first token, which is not drawn again; None for one more of the candidates. That one is not in r,
            unless there are only two candidates.

    Raises:
        TypeError: candidates that are no list of whole numbers, or numbers that are not whole.
        ValueError: n below 2, no prompts, or fewer than two candidates.
    """
    n, prompts, seed = _check_counts(n, "n", prompts, seed)
    check_room(prompts, 2 * n + 1)
    bos = None if bos is None else check_whole(bos, "bos", 0, LARGEST)
    several = check_list(candidates, "candidates", "tokens", example="[5, 6, 7]")
    pool = torch.tensor(sorted({check_whole(token, "candidate", 0, LARGEST) for token in several} - {bos}))
    if len(pool) < 2:
        raise ValueError(
            f"candidates {shown(candidates)}: {len(pool)} tokens to draw a repeated sequence from: expected at least "
            "2, BOS not counted"
        )
    generator = torch.Generator().manual_seed(seed)
    rows = []
    for _ in range(prompts):
        order = pool[torch.randperm(len(pool), generator=generator)]
        first = order[-1:] if bos is None else torch.tensor([bos])
        words = order[:-1] if bos is None and len(order) > 2 else order
        r = words[:n] if n <= len(words) else words[_recurring(len(words), n, generator)]
        rows.append(torch.cat([first, r, r]))
    return torch.stack(rows)


def check_room(prompts: int, length: int) -> None:
    """Check that so many prompts are not more tokens than are drawn at a time.

    Raises:
        ValueError: they are.
    """
    if prompts * length > MOST_TOKENS:
        raise ValueError(f"{prompts} prompts of {length} tokens: expected at most {MOST_TOKENS} in all; draw fewer")


def _check_counts(length: Any, what: str, prompts: Any, seed: Any) -> tuple[int, int, int]:
    return check_whole(length, what, 2, LARGEST), check_whole(prompts, "prompts", 1, LARGEST), check_seed(seed)


def _recurring(count: int, n: int, generator: torch.Generator) -> Int[Tensor, " n"]:
    """n numbers below `count`, fewer than n: each one of those that followed the one before it least often, and of
    these one that was drawn least often; not the one before it, nor, at the end, the first."""
    uses, followed = torch.zeros(count), torch.zeros(count, count)
    drawn = [int(torch.randint(count, (1,), generator=generator))]
    uses[drawn[0]] += 1
    while len(drawn) < n:
        cost = uses + n * followed[drawn[-1]]
        if len(drawn) == n - 1:
            cost[drawn[0]] += n**2
        cost[drawn[-1]] = torch.inf
        best = (cost == cost.min()).nonzero().flatten()
        drawn.append(int(best[torch.randint(len(best), (1,), generator=generator)]))
        followed[drawn[-2], drawn[-1]] += 1
        uses[drawn[-1]] += 1
    return torch.tensor(drawn)


def longest_repeat(model: Any) -> int:
    """The largest n at which `random_repeats` draws r without a token that recurs."""
    bos = bos_token(getattr(model, "tokenizer", None), limits(model)[2])
    return len({*token_pool(model)} - {bos}) - (bos is None)


def random_repeats(
    model: Any, n: int, *, prompts: int = 8, seed: int = 0, prepend_bos: bool = True
) -> Int[Tensor, "prompt pos"]:
    """Prompts [BOS, r_1..r_n, r_1..r_n] in a model's own tokens (`token_pool`), drawn as `repeated` does.

    Every token of r occurs once where the pool has n tokens. In a smaller one tokens recur, and scores of repeated
    sequences, which count the position of the copy alone, are lower for a head that attends to all occurrences.

    Args:
        model: what has an `anatomy` (or a `cfg`) and perhaps a `tokenizer`, such as a model from `neolens.load`.
        prepend_bos: begin with the tokenizer's BOS, or its end-of-text token where it has no BOS. False: with one more
            random token, as for a model without a tokenizer.

    Raises:
        ValueError: no BOS to begin with, no prompts, prompts beyond the model's context, n below 2, or fewer than two
            tokens to draw from.
    """
    name, context, d_vocab = limits(model)
    (n, prompts, seed), prepend_bos = _check_counts(n, "n", prompts, seed), check_bool(prepend_bos, "prepend_bos")
    if 2 * n + 1 > context:
        raise ValueError(
            f"a sequence of {n} tokens, repeated, is a prompt of {2 * n + 1}: {name} has {context} positions; expected "
            f"2 to {(context - 1) // 2}"
        )
    bos = chosen_bos(getattr(model, "tokenizer", None), prepend_bos, d_vocab)
    return repeated(token_pool(model), n, bos=bos, prompts=prompts, seed=seed)


def random_tokens(
    model: Any, length: int, *, prompts: int = 8, seed: int = 0, prepend_bos: bool = True
) -> Int[Tensor, "prompt pos"]:
    """Prompts of `length` tokens, BOS first and then tokens of `token_pool` drawn independently, with replacement.

    Args:
        prepend_bos: as in `random_repeats`; False draws the first token too.

    Raises:
        ValueError: no BOS to begin with, no prompts, a length that is not within 2 and the model's context, or fewer
            than two tokens to draw from.
    """
    name, context, d_vocab = limits(model)
    prompts, seed = check_whole(prompts, "prompts", 1, LARGEST), check_seed(seed)
    length, prepend_bos = check_whole(length, "length"), check_bool(prepend_bos, "prepend_bos")
    if not 2 <= length <= context:
        raise ValueError(f"prompts of {shown(length)} tokens: {name} takes 2 to {context} here")
    check_room(prompts, length)
    bos = chosen_bos(getattr(model, "tokenizer", None), prepend_bos, d_vocab)
    pool, generator = torch.tensor(token_pool(model)), torch.Generator().manual_seed(seed)
    first = torch.empty(prompts, 0, dtype=torch.long) if bos is None else torch.full((prompts, 1), bos)
    drawn = torch.randint(len(pool), (prompts, length - first.shape[1]), generator=generator)
    return torch.cat([first, pool[drawn]], dim=1)
