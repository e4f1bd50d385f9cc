"""Whether a head that looks as if it did something does it: its ablation beside that of other heads of its layer.

A pattern shows where a head looks, not that the network needs what it finds there (Jain and Wallace 2019, "Attention is
not explanation"). So each such head is ablated, and beside it others drawn from its layer, for layers differ in how
much they matter: what the ablation of any head there does is no sign of a role. Controls do not have the role
themselves; where every head of a layer has it, there is no control.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Float
from torch import Tensor

from neolens.ablation.ablate import ablate
from neolens.ablation.by_prompt import read
from neolens.ablation.controls import random_heads, size_matched
from neolens.ablation.groups import Head, each_head, head_name
from neolens.models import anatomy
from neolens.prompts.tokens import second_copy
from neolens.stats.paired import paired_tests

CORRECTION = "max_t"
"""How the p of `more` are corrected (`neolens.stats.paired`): the chance of any false finding."""

GROUPS = 19
"""Groups of random heads beside all heads that hold a role."""

_OWN = {"mean": "effect", "low": "low", "high": "high", "p": "p"}
_MORE = {"mean": "more", "low": "more_low", "high": "more_high", "p": "more_p", "p_adjusted": "more_p_adjusted"}
CAUSES = (*_OWN.values(), "control", *_MORE.values())
"""The variables of `effects_beside_controls`."""


def effects_beside_controls(
    model: Any,
    prompts: Sequence[Tensor],
    n: int,
    heads: Sequence[Head],
    *,
    roles: Sequence[Collection[Head]],
    draws: int,
    how: Any,
    resamples: int,
    seed: int,
    progress: bool,
) -> xr.Dataset:
    """What ablating each head does to the loss on r_2..r_n of the second copy, and how much more than others do.

    Each head and each control is ablated once, all in one call. By (layer, head), NaN for every other head:

    - `effect` mean(ablated - baseline), in nats a token, positive where ablating raises the loss; `low`, `high` of the
      95 % bootstrap over prompts, and `p` of the sign-flip test;
    - `control` the mean effect of its control heads, which the coordinate `controls` names: heads of its layer that
      have none of its roles; NaN where there are none;
    - `more` effect - control, prompt by prompt, with `more_low`, `more_high` and `more_p`, and `more_p_adjusted` for
      all heads that are checked (max-T, Westfall and Young 1993).

    Args:
        prompts: [first, r_1..r_n, r_1..r_n], two or more, all of one n.
        roles: the heads that have each role.
        draws: controls of each head, fewer where its layer has fewer others without its roles.
    """
    facts = anatomy(model)
    alike = {head: {other for having in roles if head in having for other in having} for head in heads}
    controls = {head: random_heads(facts, head, draws, seed, alike[head]) for head in heads}
    found = {name: np.full((facts.layers, facts.heads), np.nan) for name in CAUSES}
    if heads:
        every = sorted({*heads, *(other for its in controls.values() for other in its)})
        groups = {head_name(head): [head] for head in every}
        with warnings.catch_warnings():  # whoever asks is to say so
            warnings.filterwarnings("ignore", "the mean is over only")
            result = ablate(
                *(model, list(prompts), groups), how=how, positions=second_copy(n), seed=seed, progress=progress
            )
        its: Any = {"resamples": resamples, "seed": seed}
        rows = dict(zip(map(str, result["group"].values), read(result).effect, strict=True))
        _fill(found, {head: rows[head_name(head)] for head in heads}, _OWN, **its)
        differences = {
            head: rows[head_name(head)] - np.mean([rows[head_name(other)] for other in others], axis=0)
            for head, others in controls.items()
            if others
        }
        _fill(found, differences, _MORE, correction=CORRECTION, **its)
        found["control"] = found["effect"] - found["more"]
    names = [[_listed(controls.get((layer, head), [])) for head in range(facts.heads)] for layer in range(facts.layers)]
    variables = {name: (("layer", "head"), values) for name, values in found.items()}
    return xr.Dataset(variables, coords={"controls": (("layer", "head"), np.array(names))})


def ablate_jointly(
    model: Any,
    prompts: Sequence[Tensor],
    n: int,
    groups: Mapping[str, Sequence[Head]],
    *,
    draws: int = GROUPS,
    how: Any = "mean",
    progress: bool = False,
) -> xr.Dataset:
    """What ablating all heads of a group at once does to the loss on r_2..r_n of the second copy, prompt by prompt.

    Heads back each other up, so one alone may cost little where all of them cost everything. By group and prompt, in
    nats a token:

    - `effect` ablated - baseline, positive where ablating raises the loss; NaN for a group without heads;
    - `control` the mean effect of `draws` groups of as many heads, drawn at random among all other heads of the
      network, whatever they do; NaN where there are fewer others.

    Args:
        prompts: [first, r_1..r_n, r_1..r_n], all of one n.
        groups: name -> heads, such as those that hold a role; some may be empty.
    """
    everywhere = [head for (head,) in each_head(model).values()]
    chosen = {name: list(heads) for name, heads in groups.items() if heads}
    beside = {name: size_matched(heads, everywhere, draws) for name, heads in chosen.items()}
    asked = chosen | {f"{name}, random {draw}": one for name, its in beside.items() for draw, one in enumerate(its)}
    found = {what: np.full((len(groups), len(prompts)), np.nan) for what in ("effect", "control")}
    if asked:
        result = ablate(model, list(prompts), asked, how=how, positions=second_copy(n), progress=progress)
        rows = dict(zip(asked, read(result).effect, strict=True))
        for number, name in enumerate(groups):
            if name in chosen:
                found["effect"][number] = rows[name]
            if beside.get(name):
                others = [rows[f"{name}, random {draw}"] for draw in range(draws)]
                found["control"][number] = np.mean(others, axis=0)
    variables = {what: (("group", "prompt"), values) for what, values in found.items()}
    return xr.Dataset(variables, coords={"group": list(groups)})


def _fill(
    grids: Mapping[str, Float[np.ndarray, "layer head"]],
    by_head: Mapping[Head, Float[np.ndarray, " prompt"]],
    names: Mapping[str, str],
    **options: Any,
) -> None:
    """Put the mean, the interval and the p of each head where they belong; `names` maps them to names of grids."""
    if by_head:
        layers, heads = np.array(list(by_head)).T
        tests = paired_tests(np.stack(list(by_head.values())), **options)
        for of, name in names.items():
            grids[name][layers, heads] = getattr(tests, of)


def _listed(heads: Sequence[Head]) -> str:
    return " ".join(map(head_name, heads))
