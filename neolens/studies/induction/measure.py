"""How a network copies [BOS, r, r]: which heads look where induction heads do, and what is lost without them.

An induction head looks at what followed an earlier copy of its token (Elhage et al. 2021; Olsson et al. 2022, arXiv
2209.11895), which it can only find where a previous-token head has put the token before it. With r of n tokens the
answer stands n - 1 tokens back, which is the `distance` of results here, so a layer of window w sees it where the
distance is below w. A pattern is not yet a cause: all heads that have it are ablated, each alone and all at once, for
heads back each other up.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Int
from torch import Tensor

from neolens import results
from neolens.ablation.groups import Head
from neolens.checks import check_function, check_text, check_tokens, check_type, check_whole, check_whole_numbers, shown
from neolens.checks.annotations import Count, Size, check_as_many, checked
from neolens.checks.labels import check_axes
from neolens.models import anatomy
from neolens.network.weights import check_model
from neolens.prompts.drawing import token_pool
from neolens.prompts.tokens import repeat_length, second_copy
from neolens.readout.losses import losses
from neolens.results import check_result
from neolens.scores import THRESHOLDS, attention, repeat_accuracy
from neolens.scores.causes import ablate_jointly, effects_beside_controls

PATTERN_SCORE = THRESHOLDS["induction"]
"""The score from which on a head has the pattern."""

LEAST = 3
"""The shortest r: with two tokens what followed the earlier copy is the previous token."""

DRAWS = 3
"""Control heads of each induction head: heads of its layer that do not have the pattern, as in `neolens.roles`."""

RESAMPLES = 1000

Prompts = Int[Tensor, "prompt pos"]

Repeats = Mapping[int, Prompts]
"""n -> prompts [BOS, r_1..r_n, r_1..r_n]."""

_SCORES = ("previous_token", "induction")


@checked
def lengths(window: Size, context: Size) -> tuple[int, ...]:
    """Repeat lengths n with answers on both sides of a window, the last inside and the first beyond it among them.

    w / 2, w - 1, w, w + 1, 3 w / 2, 2 w and 3 w, those from `LEAST` on that the context has room for twice: a layer
    that sees `window` keys sees what stands n - 1 tokens back up to n = w.
    """
    chosen = (window // 2, window - 1, window, window + 1, 3 * window // 2, 2 * window, 3 * window)
    return tuple(n for n in dict.fromkeys(chosen) if LEAST <= n <= (context - 1) // 2)


@checked
def copying(model: Any, repeats: Repeats) -> xr.Dataset:
    """Everything that is asked of one network, at each repeat length.

    Returns:
        By distance (n - 1; the coordinate `n` has n):

        - `previous_token`, `induction` by prompt, layer and head: the scores of `neolens.attention`; heads whose mean
          is at least `PATTERN_SCORE` have the pattern;
        - `accuracy`, `loss` by prompt: of predicting r_2..r_n of the second copy, a share and nats per token;
        - `alone`, `beside`, `more`, `low`, `high`, `p_adjusted` by layer and head, NaN for heads that do not hold it:
          what ablating the head adds to that loss, what ablating others of its layer that do not have the pattern does
          on average, the difference, its 95 % interval, and its p, corrected for all such heads of the network at this
          n; all but `alone` are NaN where every head of the layer has the pattern, so that there is no control;
        - `together`, `others` by prompt: what ablating all of them at once adds, and as many random others; NaN where
          there are none.

        The attribute `candidates` is the number of tokens that random sequences are drawn from, which fixes the chance
        level.
    """
    repeats = _checked_repeats(model, repeats)
    found = []
    for n, prompts in repeats.items():
        part = _seen(model, prompts, n)
        heads = holders(part)
        alone = effects_beside_controls(
            model,
            list(prompts),
            n,
            heads,
            roles=[heads],
            draws=DRAWS,
            how="mean",
            resamples=RESAMPLES,
            seed=0,
            progress=False,
        )
        found.append(part.assign(_alone(alone)).assign(_at_once(model, prompts, n, {"together": heads})))
    return _by_distance(model, repeats, found)


@checked
def holders(result: xr.Dataset) -> list[Head]:
    """The heads of one network at one distance whose mean induction score is at least `PATTERN_SCORE`."""
    check_result(result, "result", ["induction"], ["prompt", "layer", "head"], "neolens.attention")
    if {*result["induction"].dims} != {"prompt", "layer", "head"}:
        axes = ", ".join(map(str, result["induction"].dims))
        raise ValueError(f"result: induction by {axes}: expected prompt, layer, head; choose one of the others")
    mean = result["induction"].mean("prompt").transpose("layer", "head").values
    return [(int(layer), int(head)) for layer, head in np.argwhere(mean >= PATTERN_SCORE)]


@checked
def over_seeds(networks: Sequence[xr.Dataset], seeds: Sequence[Count]) -> xr.Dataset:
    """The networks of an arm as one result with a `seed` axis."""
    check_as_many(networks=networks, seeds=seeds)
    check_whole_numbers(seeds, "seeds", 0)
    for at, one in enumerate(networks):
        check_copying(one, f"networks[{at}]")
    return results.concat(networks, "seed", seeds)


@checked
def over_training(checkpoints: Mapping[Count, Callable[[], Any]], repeats: Repeats) -> xr.Dataset:
    """The same of a network at several steps of its training, without ablating heads alone.

    Args:
        checkpoints: step -> what loads the network as it was after it.

    Returns:
        By step and distance the scores, `accuracy` and `loss`, `together` and `others` of the heads that hold the
        pattern at that step, and `later` and `later_others` of those that hold it at the last step: what they will look
        for, they may be needed for before they do, or after. `holding`, the number of heads that hold it.
    """
    if not checkpoints:
        raise ValueError("checkpoints {}: expected at least one step with what loads its network")
    for step, load in checkpoints.items():
        check_function(load, f"checkpoints[{step}]", "a function without arguments that loads the network", 0)
    found: dict[int, xr.Dataset] = {}
    later: dict[int, list[Head]] | None = None
    for step in sorted(checkpoints, reverse=True):  # the last first, which has the heads to ablate at every step
        found[step] = at_checkpoint(checkpoints[step](), repeats, later)
        later = later or holders_by_length(found[step])
    steps = sorted(found)
    return results.concat([found[step] for step in steps], "step", steps)


@checked
def at_checkpoint(model: Any, repeats: Repeats, later: Mapping[Size, Sequence[Head]] | None = None) -> xr.Dataset:
    """One step of `over_training`.

    Args:
        later: n -> the heads that have the pattern at the last step; None at that step.
    """
    repeats, parts = _checked_repeats(model, repeats), []
    for n, prompts in repeats.items():
        part = _seen(model, prompts, n)
        now = holders(part)
        groups = {"together": now, "later": now if later is None else later[n]}
        parts.append(part.assign(_at_once(model, prompts, n, groups)).assign(holding=len(now)))
    return _by_distance(model, repeats, parts)


@checked
def holders_by_length(result: xr.Dataset) -> dict[int, list[Head]]:
    """n -> the heads of one network that have the pattern there."""
    return {int(n): holders(result.sel(distance=n - 1)) for n in result["n"].values}


def check_copying(result: Any, what: str, axis: str = "") -> None:
    """Check a result of `copying`; by seed that of an arm, by step that of a network over its training.

    Raises:
        TypeError: no dataset, or no numbers in it.
        ValueError: a variable, a coordinate, an axis or an attribute is missing, or a score without a value.
    """
    source = {"seed": "copying.over_seeds", "step": "copying.over_training"}.get(axis, "copying.copying")
    axes = {"induction": "prompt layer head", "previous_token": "prompt layer head"}
    axes |= dict.fromkeys(("accuracy", "loss", "together", "others"), "prompt")
    if axis == "step":
        axes |= dict.fromkeys(("later", "later_others"), "prompt")
    else:
        axes |= dict.fromkeys(("alone", "beside", "more", "p_adjusted"), "layer head")
    coords = ["distance", "n", "length", "attention_kind", "window", *([axis] if axis else [])]
    check_result(result, what, [*axes, *coords], ["prompt", "layer", "head"], f"the study induction ({source})")
    for name, of in axes.items():
        check_axes(result[name], what, f"{axis} distance {of}", f"the study induction ({source})")
    for name in ("induction", "previous_token"):
        if bool(result[name].isnull().all(("layer", "head")).any()):
            raise ValueError(f"{what}: {name} is NaN in every head: expected the scores that neolens.attention gives")
    if result["n"].dtype.kind not in "iu":
        raise TypeError(f"{what}: n of type {result['n'].dtype}: expected whole numbers")
    check_text(result.attrs.get("fingerprint"), f"attribute fingerprint of {what}")


def _checked_repeats(model: Any, repeats: Repeats) -> dict[int, Tensor]:
    """The prompts of each length, checked before the network is asked anything."""
    check_model(model)
    check_type(repeats, "repeats", Mapping, "a mapping from n to prompts [BOS, r_1..r_n, r_1..r_n]")
    if not repeats:
        raise ValueError("repeats {}: expected at least one n with its prompts")
    for n, prompts in repeats.items():
        what = f"repeats[{shown(n)}]"
        check_whole(n, "n of repeats", LEAST)
        for prompt in check_tokens(prompts, what, "[prompt, pos]", model.cfg.d_vocab):
            if repeat_length(prompt) != n:
                raise ValueError(
                    f"{what} of shape {tuple(prompts.shape)}: expected [first, r_1..r_n, r_1..r_n], n = {n}"
                )
    return {n: prompts.long() for n, prompts in repeats.items()}


def _seen(model: Any, prompts: Prompts, n: int) -> xr.Dataset:
    """The scores of every head, and how well the second copy is predicted."""
    scores = attention(model, prompts, scores=list(_SCORES), distances=[0])[list(_SCORES)]
    accuracy = np.array(repeat_accuracy(model, prompts))
    loss = losses(model, list(prompts))[:, second_copy(n)].mean(1)
    return scores.assign(accuracy=("prompt", accuracy), loss=("prompt", loss)).drop_vars("length")


def _alone(found: xr.Dataset) -> dict[str, xr.DataArray]:
    """Under names that say what they are."""
    ours = {"effect": "alone", "control": "beside", "more": "more", "more_low": "low", "more_high": "high"}
    return {name: found[of].drop_vars("controls") for of, name in (ours | {"more_p_adjusted": "p_adjusted"}).items()}


def _at_once(model: Any, prompts: Prompts, n: int, groups: Mapping[str, Sequence[Head]]) -> dict[str, xr.DataArray]:
    """Each group ablated at once under its name, and as many random heads: `others`, or `later_others`."""
    found = ablate_jointly(model, list(prompts), n, groups)
    variables: dict[str, xr.DataArray] = {}
    for name in groups:
        its = found.sel(group=name, drop=True)
        variables |= {name: its["effect"], "others" if name == "together" else f"{name}_others": its["control"]}
    return variables


def _by_distance(model: Any, repeats: Repeats, parts: Sequence[xr.Dataset]) -> xr.Dataset:
    joined = results.concat(parts, "distance", [n - 1 for n in repeats]).drop_attrs()
    places = {"n": ("distance", list(repeats)), "length": ("distance", [2 * n + 1 for n in repeats])}
    provenance = results.provenance(model, anatomy(model))
    return joined.assign_coords(places).assign_attrs(provenance, candidates=len(token_pool(model)))
