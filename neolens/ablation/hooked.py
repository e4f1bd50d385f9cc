"""The plain way to ablate: hooks that change heads, and the whole model run once for every group.

For any TransformerBridge, beside the replay engine as a second opinion, and for whatever else a model does with its
heads ablated, such as generating.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from neolens.ablation.groups import Head
from neolens.ablation.methods import ALL_POSITIONS, MEANS, Cut, How
from neolens.ablation.predictions import NOTHING
from neolens.ablation.spec import Asked
from neolens.ablation.values import batches, remaining, summands, summed
from neolens.metrics import Asked as OfRun
from neolens.metrics import Expected
from neolens.models.other_architectures import Facts
from neolens.network import dtype_of, visible
from neolens.patching.hook_checks import check_hooks_work
from neolens.readout.predictions import of_last
from neolens.sites import hook_name

Hook = tuple[str, Callable[..., Tensor | None]]

_LOGIT_BYTES = 2**29


def hooked(
    model: Any, asked: Asked, ablated: np.ndarray, baseline: np.ndarray, *, progress: Callable[[float], object]
) -> None:
    """Fill `ablated` [group, prompt, column, metric] and `baseline` [prompt, column, metric]."""
    values = None
    for length, prompts in asked.lengths().items():
        if values is None or asked.how != ALL_POSITIONS:
            values = _means(model, asked, length)
        step = _at_once(asked, length)
        for at in range(0, len(prompts), step):
            some = prompts[at : at + step]
            if asked.how == "resample":
                values = heads_of(model, [asked.reference[asked.donors[prompt]] for prompt in some], asked.layers)
            tokens = torch.stack([asked.prompts[prompt] for prompt in some]).to(model.cfg.device)
            own = model(tokens)
            found = _measured(asked, some, tokens, own, own)
            baseline[some, : found.shape[1]] = found
            for number, heads in enumerate(asked.groups.values()):
                hooks = hooks_of(asked.facts, heads, asked.how, values, whole=True)
                found = _measured(asked, some, tokens, model.run_with_hooks(tokens, fwd_hooks=hooks), own)
                ablated[number, some, : found.shape[1]] = found
                progress(len(some))


def check_ablation_works(model: Any, facts: Facts, how: How, layers: Collection[int]) -> None:
    """Check, on a bridge that neolens did not build, that hooks can ablate heads of these layers in this way.

    Raises:
        ValueError: a hook there would have no effect.
    """
    sites = ("attn_scores", "pattern") if isinstance(how, Cut) else ("z",)
    runs = torch.arange(4, device=model.cfg.device).view(2, 1, 2) % facts.d_vocab
    try:
        check_hooks_work(model, facts, sites, layers, *runs)
    except ValueError as error:
        raise ValueError(f"how={how!r}: {error}") from None


def hooks_of(
    facts: Facts,
    heads: Sequence[Head],
    how: How,
    values: Mapping[int, Tensor] | None = None,
    *,
    whole: bool = False,
) -> list[Hook]:
    """Hooks that ablate these heads.

    Args:
        values: layer -> z [prompt or 1, pos, head, d_head] to put in their place, with one position for a mean over all
            of them; None for zero and for cuts.
        whole: whether all runs begin at position 0, without a cache. Then no pattern is asked for, which
            TransformerLens's own GPT-Neo hands out only when the heads have spoken.
    """
    by_layer = {layer: [head for its, head in heads if its == layer] for layer, _ in heads}
    if isinstance(how, Cut):
        return [hook for layer, its in by_layer.items() for hook in _cutting(facts, layer, its, how)]
    return [
        hook
        for layer, its in by_layer.items()
        for hook in _putting(layer, its, None if values is None else values[layer], whole, how == ALL_POSITIONS)
    ]


def heads_of(model: Any, prompts: Sequence[Tensor], layers: Collection[int]) -> dict[int, Tensor]:
    """Layer -> z [prompt, pos, head, d_head] of these prompts of one length."""
    taken: dict[int, Tensor] = {}

    def take(layer: int) -> Hook:
        return hook_name("z", layer), lambda z, hook: taken.update({layer: z.detach().clone()})

    model.run_with_hooks(torch.stack(list(prompts)).to(model.cfg.device), fwd_hooks=[take(layer) for layer in layers])
    return taken


def _means(model: Any, asked: Asked, length: int) -> dict[int, Tensor] | None:
    if asked.how not in MEANS:
        return None
    its = [other for other in asked.reference if asked.how == ALL_POSITIONS or len(other) == length]
    sums = dict.fromkeys(asked.layers, torch.zeros(()))
    for some in batches(its, partial(_at_once, asked)):
        for layer, z in heads_of(model, some.unbind(), asked.layers).items():
            total = summed(z, asked.how)
            sums[layer] = sums[layer].to(total) + total
    return {layer: (total / summands(its, asked.how)).to(dtype_of(model)) for layer, total in sums.items()}


def _at_once(asked: Asked, length: int) -> int:
    """Prompts whose logits are held together."""
    return max(1, _LOGIT_BYTES // (4 * length * asked.facts.d_vocab))


def _putting(layer: int, heads: list[int], values: Tensor | None, whole: bool, alike: bool) -> list[Hook]:
    """Put values (or 0) in place of z, also while a text is generated with a cache: the pattern tells how many keys
    there are, and so where the queries stand. With `alike`, one value serves all positions."""
    keys = 0

    def count(pattern: Tensor, hook: Any) -> None:
        nonlocal keys
        keys = pattern.shape[-1]

    def put(z: Tensor, hook: Any) -> Tensor:
        z = z.clone()
        if values is None or alike:
            z[:, :, heads] = 0.0 if values is None else values[:, :, heads]
            return z
        last = z.shape[1] if whole else keys
        if last > values.shape[1]:
            raise ValueError(
                f"the text has come to {last} tokens and the reference prompts have {values.shape[1]}: give longer "
                f"ones, or take how={ALL_POSITIONS!r}, the mean over all reference positions, for texts of any length"
            )
        z[:, :, heads] = values[:, last - z.shape[1] : last, heads]
        return z

    putting = (hook_name("z", layer), put)
    return [putting] if whole or alike or values is None else [(hook_name("pattern", layer), count), putting]


def _cutting(facts: Facts, layer: int, heads: list[int], how: Cut) -> list[Hook]:
    """Hide keys before the softmax; queries that see none attend to nothing."""
    span, nearest = remaining(facts.attention[layer], how)

    def seen(x: Tensor) -> Tensor:
        queries, keys = x.shape[-2:]
        mask = visible(range(keys - queries, keys), range(keys), span, device=x.device)
        return mask.tril(keys - queries - nearest) if nearest else mask

    def hide(scores: Tensor, hook: Any) -> Tensor:
        scores = scores.clone()
        scores[:, heads] = scores[:, heads].masked_fill(~seen(scores), -torch.inf)
        return scores

    def empty(pattern: Tensor, hook: Any) -> Tensor:
        pattern = pattern.clone()
        pattern[:, heads] = pattern[:, heads].masked_fill(~seen(pattern).any(-1, keepdim=True), 0.0)
        return pattern

    return [(hook_name("attn_scores", layer), hide), (hook_name("pattern", layer), empty)]


def _measured(asked: Asked, prompts: Sequence[int], tokens: Tensor, logits: Tensor, own: Tensor) -> np.ndarray:
    """Every metric from the logits of all positions: [prompt, column, metric]."""
    device, others = logits.device, asked.read.distractors
    answers = torch.stack([asked.read.answers[prompt] for prompt in prompts]).to(device)
    distractors = None if others is None else torch.stack([others[prompt] for prompt in prompts]).to(device)
    at = torch.stack([asked.read.at[prompt] for prompt in prompts]).to(device)
    if asked.of_runs:
        last = None if distractors is None else distractors[:, -1]
        run = OfRun(of_last(answers, asked.facts.d_vocab), last, tokens, own)
        return torch.stack([metric.of_every(logits, run) for metric in asked.metrics], dim=1)[:, None].cpu().numpy()
    found = torch.full((*at.shape, len(asked.metrics)), torch.nan)
    for row in range(len(at)):
        for number, metric in enumerate(asked.metrics):
            known = torch.ones_like(at[row], dtype=torch.bool) if metric.against_clean else answers[row] != NOTHING
            if metric.needs_distractors and distractors is not None:
                known = known & (distractors[row] != NOTHING)
            where = at[row][known]
            if not len(where):
                continue
            expected = Expected(
                answers[row][known].clamp(min=0),
                None if distractors is None else distractors[row][known].clamp(min=0),
                own[row, where],
            )
            given = logits[row, where]
            if metric.columns == "answers":
                given = given.gather(1, expected.columns)
            assert metric.of_token is not None
            found[row, known.cpu(), number] = metric.of_token(given, expected).float().cpu()
    return found.numpy()
