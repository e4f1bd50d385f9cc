"""The induction task in random tokens, for models without the words of `neolens.prompts.induction`.

Copying from an earlier occurrence needs no words (Olsson et al. 2022, "In-context Learning and Induction Heads").
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from neolens.checks import check_whole, shown
from neolens.prompts import PromptPairs, token_pool
from neolens.prompts.bos import chosen_bos
from neolens.prompts.families.questions import check_arguments

SEGMENT = 8
"""Tokens of the repeated segment, as in words; fewer where the distance is shorter or the vocabulary small."""

SMALLEST_SEGMENT = 3
"""The answer, the token before it, and a distractor."""


def random_induction(
    model: Any, prompts: int = 32, *, distance: int = 12, seed: int = 0, prepend_bos: bool = True
) -> PromptPairs:
    """Random tokens A ... B C ... A ... B, answer C, which stands `distance` tokens before the end.

    A segment of different tokens, other tokens, and the segment again up to its last token but one. The distractor is
    another token of the segment; in the corrupted prompt a token that occurs nowhere else replaces C in the first copy.

    Args:
        model: what has an `anatomy` and perhaps a `tokenizer`; tokens are those of `neolens.prompts.token_pool`.
        prepend_bos: begin with the tokenizer's BOS, or its end-of-text token where it has no BOS; False begins with the
            segment.

    Returns:
        Pairs with the positions `previous` (the B before C), `source` (C) and `query` (the last B).

    Raises:
        ValueError: no BOS to begin with, fewer than five tokens to draw from, a distance below 2, or prompts beyond the
            context.
    """
    if not (hasattr(model, "anatomy") and hasattr(model, "tokenizer")):
        raise TypeError(f"model {shown(model)}: expected a model from neolens.load")
    prompts, distance = check_whole(prompts, "prompts", 1, 100_000), check_whole(distance, "distance", 2, unit="tokens")
    prompts, seed, distance = check_arguments("other", prompts, seed, prepend_bos, distance)
    if distance >= model.anatomy.context:
        raise ValueError(
            f"distance {shown(distance)}: expected at most {model.anatomy.context - 1} tokens, the context of "
            f"{model.anatomy.name} less one"
        )
    bos = chosen_bos(model.tokenizer, prepend_bos, model.anatomy.d_vocab)
    pool = [token for token in token_pool(model) if token != bos]
    n = min(SEGMENT, distance + 1, len(pool) - 2)
    if n < SMALLEST_SEGMENT:
        raise ValueError(
            f"induction at distance {distance} from {len(pool)} tokens: expected a distance of at least 2 and at least "
            f"{SMALLEST_SEGMENT + 2} tokens to draw from"
        )
    start = [] if bos is None else [bos]
    clean, corrupted, answers, distractors = [], [], [], []
    source = len(start) + n - 1
    for number in range(prompts):
        rng = np.random.default_rng((seed, number))
        order = rng.permutation(pool).tolist()
        segment, stranger, others = order[:n], order[n], order[n + 1 :]
        prompt = [*start, *segment, *rng.choice(others, distance + 1 - n).tolist(), *segment[:-1]]
        clean.append(prompt)
        corrupted.append([*prompt[:source], stranger, *prompt[source + 1 :]])
        answers.append(segment[-1])
        distractors.append(segment[int(rng.integers(n - 2))])
    places = {"previous": [source - 1] * prompts, "source": [source] * prompts, "query": [-1] * prompts}
    pairs = PromptPairs.from_tokens(torch.tensor(clean), torch.tensor(corrupted), answers, distractors, places)
    pairs.check(model)
    return pairs
