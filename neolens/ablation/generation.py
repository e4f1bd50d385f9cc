"""What a model writes with and without some of its heads, side by side.

The likeliest token each time (greedy), so that all difference comes from the heads. Heads are ablated by hooks on the
model itself, with its key-value cache.
"""

from __future__ import annotations

import textwrap
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import numpy as np
import torch
from torch import Tensor

from neolens.ablation.groups import check_heads, checked
from neolens.ablation.hooked import check_ablation_works, hooks_of
from neolens.ablation.methods import ALL_POSITIONS, HOWS, MEANS, Cut, How, checked_how, warn_of_few
from neolens.ablation.values import mean_of_heads
from neolens.checks import check_bool, check_index, check_list, check_seed, check_whole, shown
from neolens.models import Anatomy, anatomy
from neolens.models.modifications import modified_modules
from neolens.models.state import state_of
from neolens.network import check_unchanged, weights_of
from neolens.network.measurement import check_finite
from neolens.network.weights import check_model
from neolens.prompts.bos import chosen_bos
from neolens.prompts.pairs import PromptPairs
from neolens.prompts.tokenizing import read, tokenizer_of
from neolens.prompts.tokens import validated

AS_IT_IS = "as it is"


@dataclass(frozen=True)
class Continuations:
    """Texts and how each is continued: `str()` lays them out side by side."""

    prompts: tuple[str, ...]
    by_group: Mapping[str, tuple[str, ...]]
    """`as it is`, then each group -> the continuation of every prompt."""
    agreed: Mapping[str, tuple[int, ...]]
    """The same -> how many tokens each continuation has in common with the model's as it is, from the first on."""

    def __str__(self) -> str:
        return "\n\n".join(self.side_by_side(number) for number in range(len(self.prompts)))

    def side_by_side(self, number: int, *, width: int = 118) -> str:
        """One prompt and its continuations in columns, `width` characters in all."""
        number = check_index(number, "prompt", len(self.prompts))
        each = max(24, check_whole(width, "width", 1, 10_000, unit="characters") // len(self.by_group) - 3)
        parting = {name: f"parts after {agreed[number]} tokens" for name, agreed in self.agreed.items()}
        parting[AS_IT_IS] = ""
        columns = [
            [*textwrap.wrap(name, each)[:1], parting[name], "-" * each, *textwrap.wrap(texts[number], each)]
            for name, texts in self.by_group.items()
        ]
        lines = ["   ".join(cell.ljust(each) for cell in row).rstrip() for row in zip_longest(*columns, fillvalue="")]
        return "\n".join([*textwrap.wrap(f"> {self.prompts[number]}", width), "", *lines])


@contextmanager
def ablated(model: Any, heads: Any, *, how: How = "zero", reference: Any = None, seed: int = 0) -> Iterator[Any]:
    """The model with these heads ablated, whatever is run inside: a pass, a cache, `generate`; then as before.

    Args:
        model: from `neolens.load`.
        heads: (layer, head) of each.
        how: as `neolens.ablate`; a mean over the reference at the same position or over all positions, a resample of
            one reference prompt drawn by `seed`.
        reference: prompts of one length (or `PromptPairs`, their clean ones), as long as any text that is run, for
            `mean` and `resample`; of any lengths for `mean_all_positions`. They are run without the hooks on the model.

    Raises:
        TypeError, ValueError: heads that do not exist, an unknown `how`, no reference where one is needed; while
            running, a text longer than the reference.
    """
    check_model(model)
    facts = anatomy(model)
    chosen, way = check_heads(heads, facts), checked_how(how)
    layers = {layer for layer, _ in chosen}
    check_ablation_works(model, facts, way, layers)
    values = _values(model, facts, way, layers, reference, seed)
    with model.hooks(fwd_hooks=hooks_of(facts, chosen, way, values)):
        yield model


def continuations(
    model: Any,
    prompts: Any,
    groups: Any,
    *,
    how: How = "zero",
    reference: Any = None,
    new_tokens: int = 32,
    seed: int = 0,
    prepend_bos: bool = True,
) -> Continuations:
    """How the model continues each prompt as it is, and with each group of heads ablated, by its likeliest tokens.

    Args:
        model: from `neolens.load`, with a tokenizer.
        prompts: a text, or a list of texts.
        groups: as `neolens.ablate`.
        how: as `ablated`.
        reference: as `ablated`; for `mean` and `resample` as long as prompt and continuation together, or longer.
        new_tokens: of each continuation.
        seed: as `ablated`.
        prepend_bos: put BOS before each prompt, or the end-of-text token where the tokenizer has no BOS.

    Raises:
        TypeError, ValueError: as `ablated`; no BOS to put before the prompts; prompts and continuations that do not
            fit the context; a model that drops activations at random, or whose logits are not finite.
    """
    check_model(model)
    facts, tokenizer = anatomy(model), tokenizer_of(model)
    chosen, way = checked(groups, facts), checked_how(how)
    if AS_IT_IS in chosen:
        raise ValueError(f"a group is named {AS_IT_IS!r}, as is what the model writes unablated: name it otherwise")
    texts = [prompts] if isinstance(prompts, str) else check_list(prompts, "prompts", "texts")
    new_tokens, prepend_bos = check_whole(new_tokens, "new_tokens", 1), check_bool(prepend_bos, "prepend_bos")
    bos = chosen_bos(tokenizer, prepend_bos, facts.d_vocab)
    begun = [read(tokenizer, text, bos, f"prompt {number}") for number, text in enumerate(texts)]
    if not begun:
        raise ValueError("there is no prompt: expected at least one text")
    for number, one in enumerate(begun):
        if len(one.ids) + new_tokens > facts.context:
            raise ValueError(
                f"prompt {number} has {len(one.ids)} tokens: with {shown(new_tokens)} more it does not fit the "
                f"{facts.context} of {facts.name}; shorten it, or ask for fewer"
            )
    layers = {layer for heads in chosen.values() for layer, _ in heads}
    check_ablation_works(model, facts, way, layers)
    check_unchanged(model, by_model=True)
    values = _values(model, facts, way, layers, reference, seed)
    check_finite(model, *(torch.tensor([one.ids]) for one in begun))
    written = {AS_IT_IS: [_continued(model, one.ids, new_tokens) for one in begun]}
    for name, heads in chosen.items():
        with model.hooks(fwd_hooks=hooks_of(facts, heads, way, values)):
            written[name] = [_continued(model, one.ids, new_tokens) for one in begun]
    return Continuations(
        tuple(texts),
        {name: tuple(tokenizer.decode(tokens) for tokens in its) for name, its in written.items()},
        {name: tuple(map(_agreed, its, written[AS_IT_IS])) for name, its in written.items()},
    )


@torch.no_grad()
def _continued(model: Any, ids: Sequence[int], new_tokens: int) -> list[int]:
    start = torch.tensor([list(ids)], device=model.cfg.device)
    how = {"do_sample": False, "stop_at_eos": False, "return_type": "tokens", "verbose": False}
    return model.generate(start, max_new_tokens=new_tokens, **how)[0, start.shape[1] :].tolist()


def _agreed(tokens: Sequence[int], others: Sequence[int]) -> int:
    return next((n for n, (a, b) in enumerate(zip(tokens, others)) if a != b), len(tokens))


def _values(
    model: Any, facts: Anatomy, how: How, layers: Collection[int], reference: Any, seed: Any
) -> dict[int, Tensor] | None:
    """Layer -> z [1, pos, head, d_head] to put in place of the heads, of runs without any hook; one position, where the
    mean is over all."""
    seed = check_seed(seed)
    if isinstance(how, Cut) or how == "zero":
        if reference is not None:
            raise ValueError(f"how={how!r} puts nothing in the heads' place: leave reference out")
        return None
    anywhere = how == ALL_POSITIONS
    if reference is None:
        raise ValueError(
            f"how={how!r} needs reference prompts{'' if anywhere else ' as long as what is to be written'}: give "
            f"reference, or take one of {HOWS[0]!r}, Beyond(distance) and Within(distance)"
        )
    try:
        prompts = validated(list(reference.clean) if isinstance(reference, PromptPairs) else reference, facts)
    except (TypeError, ValueError) as error:
        raise type(error)(f"in the reference: {error}") from error
    lengths = {len(prompt) for prompt in prompts}
    if len(prompts) < 2 or (len(lengths) > 1 and not anywhere):
        raise ValueError(
            f"{len(prompts)} reference prompts of {len(lengths)} lengths: expected two or more of one length, or with "
            f"how={ALL_POSITIONS!r}, the mean over all reference positions, of any lengths"
        )
    if how in MEANS:
        warn_of_few(len(prompts), stacklevel=3)
    else:
        prompts = [prompts[int(np.random.default_rng(seed).integers(len(prompts)))]]
    if names := modified_modules(model, state_of(model).structure):
        raise ValueError(f"{names[0]} is modified, and the reference prompts are run without that: remove it")
    with torch.no_grad():
        means = mean_of_heads(weights_of(model), prompts, layers, how)
    return {layer: z.transpose(1, 2) for layer, z in means.items()}
