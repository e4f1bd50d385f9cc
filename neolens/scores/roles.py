"""What heads look like: which of them look to the previous token, to an earlier copy, to what followed it, and so on.

The names are the field's: previous-token and duplicate-token heads (Wang et al. 2022, arXiv 2211.00593), induction
heads (Olsson et al. 2022), sinks (Gu et al. 2024, arXiv 2410.10781). A name is where a score passes a threshold, so it
is about a pattern on some prompts; whether the network needs the head for it is asked with `causes`.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import xarray as xr
from torch import Tensor

from neolens import results
from neolens.ablation.groups import Head
from neolens.ablation.methods import FEW, MEANS, checked_how, warn_of_few
from neolens.checks import check_choice, check_number, check_seed, check_whole, shown
from neolens.models import Anatomy, anatomy
from neolens.network import measurement
from neolens.prompts.bos import bos_token
from neolens.prompts.drawing import longest_repeat, random_repeats
from neolens.prompts.tokens import Prompts, repeat_length, validated
from neolens.scores.attention import attention
from neolens.scores.causes import CORRECTION, effects_beside_controls
from neolens.scores.kinds import share_beyond
from neolens.stats.paired import MAX_RESAMPLES

THRESHOLDS: Mapping[str, float] = MappingProxyType(
    {"previous_token": 0.4, "duplicate_token": 0.4, "induction": 0.4, "sink": 0.3, "local_only": 0.95}
)
"""Role -> the score from which on a head holds it. That of sinks is Gu et al.'s, at 64 tokens; 0.4 is a custom (of the
ARENA exercises, among others), and 0.95 leaves a twentieth to all that lies farther back."""

REPEAT, PROMPTS = 32, 8
"""Tokens that repeat, and prompts, where none are given."""

_SHORTEST = 7
"""[BOS, r, r] of three tokens: after two, the token that followed the earlier copy is the previous one."""


@measurement()
def roles(
    model: Any,
    tokens: Prompts | None = None,
    *,
    thresholds: Any = None,
    within: Any = None,
    causes: bool = False,
    draws: Any = 3,
    how: Any = "mean",
    resamples: Any = 1000,
    seed: Any = 0,
    progress: bool = True,
) -> xr.Dataset:
    """Which heads look like what, on random sequences that are repeated; and with `causes` whether they are needed for
    it.

    - `previous_token`, `duplicate_token`, `induction`, `sink`: the scores of `neolens.attention`;
    - `local_only`: the share of a head's attention on keys fewer than `within` tokens back, 1 - `share_beyond`. It is
      asked of a layer that could look farther: where a window is at most `within` the score is NaN and nobody holds it.

    A head may hold several: a previous-token head of a global layer is local-only too, and an induction head that rests
    on the first token until something is repeated is a sink for so long. In a local layer of window w no head can see
    the duplicate token where n >= w, nor what followed it where n > w, and the score is exactly 0. On drawn prompts n
    is w or more: ask local layers with tokens of a smaller n, and a smaller `within`. `duplicate_token` and `induction`
    count the key n and n - 1 back alone: where tokens recur within r, a head that attends to all their occurrences has
    a lower score.

    Args:
        model: from `neolens.load`.
        tokens: [first, r_1..r_n, r_1..r_n], all of one n of at least 3. By default 8 prompts drawn with `seed`
            (`neolens.prompts.random_repeats`), n = 32, or `within` where that is more; less where the context is short,
            and where the vocabulary has fewer tokens to draw from, so that none recurs in r, but not below `within`.
            They begin with BOS where the tokenizer has one, else with a random token; the attribute `first_token` of
            the result is `BOS` or `random`.
        thresholds: role -> the score from which on a head holds it, in place of that in `THRESHOLDS`.
        within: tokens; by default the model's narrowest window, at most half of its context, or a quarter of the
            prompt's length where it has none.
            Prompts are longer than twice that: in shorter ones every head looks local.
        causes: ablate every head that holds a role, and `draws` others of its layer beside it.
        draws: controls of each head, drawn with `seed` among the heads of its layer that hold none of its roles; fewer
            where there are fewer, and none where every head of the layer holds one.
        how: what takes an ablated head's place, as in `neolens.ablate`.

    Returns:
        By role, layer and head `score`, the mean over prompts, and `holds`, score >= the coordinate `threshold`. With
        `causes` by layer and head, NaN for heads without a role, in nats a token of r_2..r_n of the second copy:
        `effect`, positive where ablating raises the loss, `low` and `high` (95 %, bootstrap over prompts), `p`;
        `control`, the mean effect of the heads named by the coordinate `controls`; `more`, effect - control, with
        `more_low`, `more_high`, `more_p` and `more_p_adjusted` for all heads checked. NaN where there are no controls.

    Raises:
        TypeError, ValueError: an unknown role or `how`, a threshold that is no share, prompts that are too short or do
            not repeat alike, numbers that are none, or with `causes` fewer than two prompts; a model with hooks on it,
            or a context of fewer than 7 tokens. Before the model runs.

    Warns:
        UserWarning: `causes` by a mean over fewer than eight prompts.
    """
    began = time.perf_counter()
    asked = _thresholds(thresholds)
    draws, resamples = check_whole(draws, "draws", 1, 10_000), check_whole(resamples, "resamples", 1, MAX_RESAMPLES)
    seed = check_seed(seed)
    within = None if within is None else check_whole(within, "within", 1, unit="tokens")
    ways = checked_how(how)
    prompts, n, near = _prompts(model, anatomy(model), tokens, within, seed)
    if causes and len(prompts) < 2:
        raise ValueError(f"there is {len(prompts)} prompt: causes are effects with intervals; give at least 2")
    seen = attention(model, prompts, scores=list(THRESHOLDS)[:-1], distances=range(near, 2 * n + 1))
    found = _scores(seen, near)
    limits = xr.DataArray(list(asked.values()), dims="role", coords={"role": list(asked)})
    result = xr.Dataset({"score": found, "holds": found >= limits}).assign_coords(threshold=limits)
    attrs = seen.attrs | {"n": n, "prompts": len(prompts), "within": near, "seed": seed}
    attrs |= {} if tokens is not None else {"first_token": "BOS" if _has_bos(model, anatomy(model)) else "random"}
    if causes:
        if ways in MEANS and len(prompts) < FEW:
            warn_of_few(len(prompts), stacklevel=3)
        heads, numbers = _holders(result["holds"].any("role")), {"resamples": resamples, "seed": seed}
        having = [_holders(result["holds"].sel(role=role, drop=True)) for role in asked]
        beside = effects_beside_controls(
            model, prompts, n, heads, roles=having, draws=draws, how=ways, progress=progress, **numbers
        )
        result = result.merge(beside)
        attrs |= {"how": str(ways), "draws": draws, "resamples": resamples, "correction": CORRECTION}
    return results.check(result.assign_attrs(attrs | {"seconds": round(time.perf_counter() - began, 3)}))


def heads_of(result: Any, role: str) -> list[Head]:
    """The heads that hold a role, (layer, head) in order: a group for `neolens.ablate`.

    Args:
        result: of `roles`.

    Raises:
        ValueError: no such result, or no such role in it.
    """
    results.check_result(result, "result", ["holds"], ["role", "layer", "head"], "neolens.roles")
    check_choice(role, "role", [str(name) for name in result["role"].values])
    return _holders(result["holds"].sel(role=role))


def _holders(holds: xr.DataArray) -> list[Head]:
    layers, heads = holds["layer"].values, holds["head"].values
    return [
        (int(layers[layer]), int(heads[head])) for layer, head in np.argwhere(holds.transpose("layer", "head").values)
    ]


def _scores(found: xr.Dataset, within: int) -> xr.DataArray:
    """The score of every role by layer and head, averaged over prompts."""
    near = (1 - share_beyond(found, within)).where(~(found["window"] <= within))
    means = [(near if name == "local_only" else found[name]).mean("prompt") for name in THRESHOLDS]
    return xr.concat(means, dim=xr.Variable("role", list(THRESHOLDS)))


def _thresholds(given: Any) -> dict[str, float]:
    """Those that are given, and the others' defaults."""
    if given is not None and (not isinstance(given, Mapping) or isinstance(given, xr.Dataset)):
        raise TypeError(
            f"thresholds are {shown(given)}: expected a dict from a role to a share, such as {{'sink': 0.5}}"
        )
    found = dict(THRESHOLDS)
    for role, value in (given or {}).items():
        check_choice(role, "role", THRESHOLDS)
        found[role] = check_number(value, f"the threshold of {role} is", above=0, most=1)
    return found


def _prompts(
    model: Any, facts: Anatomy, tokens: Prompts | None, within: int | None, seed: int
) -> tuple[list[Tensor], int, int]:
    """The prompts, drawn where none are given, the n of their repeats, and `within`."""
    if within is None and facts.windows:
        within = min(facts.windows[0], (facts.context - 1) // 2)
    if tokens is None:
        tokens = _drawn(model, facts, within or 0, seed)
    prompts = validated(tokens, facts, shortest=_SHORTEST)
    n = _repeat(prompts)
    length = 2 * n + 1
    near = int(length // 4 if within is None else within)
    if length <= 2 * near:
        longer = "" if 2 * near >= facts.context else f"[BOS, r_1..r_n, r_1..r_n] with n of at least {near}, or "
        raise ValueError(
            f"within {shown(near)} needs prompts of more than {shown(2 * near)} tokens, for in shorter ones every head "
            f"looks local; these have {length}: give {longer}within of at most {n}"
        )
    return prompts, n, near


def _drawn(model: Any, facts: Anatomy, within: int, seed: int) -> Tensor:
    """Repeated sequences as long as the context and, but for `within`, the vocabulary permit."""
    shortest, longest = _SHORTEST // 2, (facts.context - 1) // 2
    if longest < shortest:
        raise ValueError(
            f"{facts.name} has a context of {facts.context} tokens: roles are defined on [first, r, r] of at least "
            f"{_SHORTEST}; expected a model with a longer context"
        )
    n = min(max(REPEAT, within), longest, max(longest_repeat(model), within, shortest))
    return random_repeats(model, n, prompts=PROMPTS, seed=seed, prepend_bos=_has_bos(model, facts))


def _has_bos(model: Any, facts: Anatomy) -> bool:
    return bos_token(getattr(model, "tokenizer", None), facts.d_vocab) is not None


def _repeat(prompts: list[Tensor]) -> int:
    """The n after which all prompts repeat."""
    lengths = [repeat_length(prompt) for prompt in prompts]
    if None in lengths:
        raise ValueError(
            f"prompt {lengths.index(None)} does not repeat: expected [BOS, r_1..r_n, r_1..r_n], as of "
            "neolens.prompts.random_repeats or repeated"
        )
    found = sorted({n for n in lengths if n is not None})
    if len(found) > 1:
        raise ValueError(f"prompts repeat after {', '.join(map(str, found))} tokens: give those of one n at a time")
    return found[0]
