"""One network under every probe of positions, as one labelled result; and the same over the seeds of a variant."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import xarray as xr
from jaxtyping import Int
from torch import Tensor

from neolens import position, results
from neolens.ablation import effect
from neolens.ablation.groups import Head
from neolens.checks import (
    check_list,
    check_seed,
    check_text,
    check_tokens,
    check_type,
    check_whole,
    check_whole_numbers,
)
from neolens.network.weights import check_model
from neolens.prompts import longest_repeat, random_repeats, random_tokens, token_pool
from neolens.prompts.tokens import repeat_length, second_copy
from neolens.readout.losses import losses
from neolens.scores import heads_of, roles
from neolens.scores.causes import ablate_jointly
from neolens.studies.induction.measure import LEAST

PERIOD = 32
"""Tokens after which the texts that run past a context begin again, or an eighth of a shorter context."""

LONG_TOKENS = 8192
"""Tokens of all texts that run past a context together, where a context is long; one text at least."""


@dataclass(frozen=True)
class Texts:
    """What a network is asked, alike for all that share its tokens and its context."""

    repeats: Int[Tensor, "prompt pos"]
    """[BOS, r_1..r_n, r_1..r_n]; without BOS, here and below, a random token is first."""
    random: Int[Tensor, "many few"]
    """[BOS, random tokens], more prompts and fewer tokens, to average tokens out."""
    longer: Int[Tensor, "some long"]
    """[BOS, r, r, ...] of twice the context, r of `PERIOD` tokens; fewer prompts where a context is long."""
    shifts: tuple[int, ...]
    """By how much position indices move: 1, 2, 4, ... and all that the context has room for."""

    def __post_init__(self) -> None:
        for name in ("repeats", "random", "longer"):
            check_tokens(getattr(self, name), f"{name} of Texts", "[prompt, pos]")
        check_whole_numbers(self.shifts, "shifts of Texts", 0)
        lengths = {repeat_length(prompt) for prompt in self.repeats}
        if None in lengths:
            shape = tuple(self.repeats.shape)
            raise ValueError(f"repeats of Texts of shape {shape}: expected [first, r_1..r_n, r_1..r_n] in each row")


def texts(model: Any, *, prompts: int, seed: int = 0, prepend_bos: bool = True) -> Texts:
    """The random prompts that a model is asked, in tokens of its vocabulary.

    Repeats take half of the context, 129 tokens, or two copies of all tokens to draw from, whichever is smallest; so
    `lab` models have room for shifts by up to 63.

    Args:
        prepend_bos: as in `neolens.prompts.random_repeats`.

    Raises:
        ValueError: no BOS to begin with, or a context of fewer than 32 tokens.
    """
    check_model(model)
    prompts, seed = check_whole(prompts, "prompts", 1, 100_000), check_seed(seed)
    anatomy = model.anatomy
    if anatomy.context < 32:
        raise ValueError(f"{anatomy.name} has a context of {anatomy.context} tokens: expected at least 32 to move in")
    n = min(anatomy.context // 4, 64, max(LEAST, longest_repeat(model)))
    room = anatomy.context - (2 * n + 1)
    period = min(PERIOD, anatomy.context // 8)
    few = max(1, min(prompts, LONG_TOKENS // (2 * anatomy.context)))
    draw: dict[str, Any] = {"seed": seed, "prepend_bos": prepend_bos}
    words = random_tokens(model, period + 1, prompts=few, **draw)
    copies = -(-2 * anatomy.context // period)
    return Texts(
        random_repeats(model, n, prompts=prompts, **draw),
        random_tokens(model, min(64, 2 * n + 1), prompts=8 * prompts, **draw),
        torch.cat([words[:, :1], words[:, 1:].repeat(1, copies)], dim=1)[:, : 2 * anatomy.context],
        tuple(sorted({*(2**power for power in range(room.bit_length())), room})),
    )


def probe(model: Any, asked: Texts) -> xr.Dataset:
    """What every probe says of one network, means over prompts.

    - `shift_kl` by shift, in nats; `shift_logits`, the largest change of a logit over the range of the logits (the
      largest less the smallest), `shift_exact` the same in float64 and `rounding` (no shift, against float64);
      `shift_pattern` by layer and head;
    - `toeplitz_share` and `row_share` (both corrected for the noise of few prompts) and `kernel` by layer and head;
    - `score` and `holds` by role, layer and head, `effect`, `control` and `more` of heads that hold one, in nats a
      token of the second copy (see `neolens.roles`), `more_p_adjusted`;
    - `role_effect` by role, what ablating all heads that hold it at once adds to that loss, and `role_more`, how much
      more than as many heads drawn at random among all others;
    - `copied_loss`, the loss where the second copy is predicted from the first, in nats a token, and
      `positions_effect` by group, what taking positions away adds to it;
    - `taken_away` by layer, head and band, the share of a previous-token score that goes with a rotary band held out of
      the head alone, and `band_effect` by band, what leaving it out everywhere adds to the loss where copies are
      predicted;
    - `loss_beyond` and `loss_interpolated` by pos, on texts of twice the context.

    What a network does not have, such as bands, is left out.
    """
    check_type(asked, "asked", Texts, "Texts, as position_measure.texts returns them")
    check_model(model)
    for name in ("repeats", "random", "longer"):
        check_tokens(getattr(asked, name), f"{name} of Texts", "[prompt, pos]", model.cfg.d_vocab, model.anatomy.name)
    kind = model.anatomy.position.kind
    found = _heads(model, asked) | _toeplitz(model, asked) | {"copied_loss": _copied_loss(model, asked)}
    if kind != "none":
        found |= _shift(model, asked) | _positions(model, asked)
    if kind == "rotary":
        found |= _bands(model, asked)
    if kind != "absolute":
        found |= _longer(model, asked)
    attrs = results.provenance(model, model.anatomy, candidates=len(token_pool(model)))
    merged = xr.merge([one.rename(name) for name, one in found.items()], join="outer", compat="override")
    kinds = [str(span.kind) for span in model.anatomy.attention]
    windows = [np.nan if span.window is None else float(span.window) for span in model.anatomy.attention]
    merged = merged.drop_vars("length", errors="ignore")
    merged = merged.assign_coords(
        attention_kind=("layer", kinds), window=("layer", windows), length=asked.repeats.shape[1]
    )
    return results.check(merged.assign_attrs(attrs))


def over_seeds(networks: Sequence[xr.Dataset], seeds: Sequence[int]) -> xr.Dataset:
    """The networks of a variant as one result with a `seed` axis; provenance is that of the first, but for the
    fingerprints, which are all there."""
    networks = check_list(networks, "networks", "results of neolens.studies.rotary_vs_absolute.measure")
    seeds = check_whole_numbers(seeds, "seeds", 0)
    if not networks or len(networks) != len(seeds):
        raise ValueError(f"{len(networks)} networks and {len(seeds)} seeds: expected as many, and at least one")
    coords = ["attention_kind", "window", "length"]
    for at, one in enumerate(networks):
        results.check_result(one, f"networks[{at}]", coords, ["layer"], "neolens.studies.rotary_vs_absolute.measure")
        check_text(one.attrs.get("fingerprint"), f"attribute fingerprint of networks[{at}]")
    each = [one.drop_vars(coords) for one in networks]
    joined = results.concat(each, "seed", seeds, compat="equals")
    joined = joined.reset_coords()  # bands and thresholds differ between variants
    joined = joined.assign_coords({name: networks[0][name] for name in coords})
    return results.check(joined)


def _heads(model: Any, asked: Texts) -> dict[str, xr.DataArray]:
    within = asked.repeats.shape[1] // 4  # alike in all variants, whatever their windows
    found = roles(model, asked.repeats, within=within, causes=True, progress=False)
    at_once = _all_at_once(model, asked, {str(role): heads_of(found, role) for role in found["role"].values})
    found = found.assign(holds=found["holds"].astype(float)).drop_vars("controls")
    one_by_one = {name: found[name] for name in ("score", "holds", "effect", "control", "more", "more_p_adjusted")}
    return one_by_one | at_once


def _all_at_once(model: Any, asked: Texts, holding: Mapping[str, Sequence[Head]]) -> dict[str, xr.DataArray]:
    """All heads of a role ablated at once, beside as many random others."""
    n = repeat_length(asked.repeats[0])
    assert n is not None
    found = ablate_jointly(model, list(asked.repeats), n, holding).mean("prompt").rename(group="role")
    return {"role_effect": found["effect"], "role_more": found["effect"] - found["control"]}


def _copied_loss(model: Any, asked: Texts) -> xr.DataArray:
    return xr.DataArray(losses(model, list(asked.repeats))[:, _copied(asked.repeats)].mean())


def _toeplitz(model: Any, asked: Texts) -> dict[str, xr.DataArray]:
    found = position.toeplitz(model, asked.random)
    shares = {name: found[f"{name}_corrected"] for name in ("toeplitz_share", "row_share")}
    return shares | {"kernel": found["kernel"]}


def _shift(model: Any, asked: Texts) -> dict[str, xr.DataArray]:
    found = position.shift(model, asked.repeats, asked.shifts, progress=False)
    return {
        "shift_logits": (found["logits"] / found["spread"]).mean("prompt"),
        "shift_exact": (found["logits_exact"] / found["spread"]).mean("prompt"),
        "rounding": (found["rounding"] / found["spread"]).mean("prompt"),
        "shift_kl": found["kl_divergence"].mean("prompt"),
        "shift_pattern": found["pattern"].mean("prompt"),
    }


def _positions(model: Any, asked: Texts) -> dict[str, xr.DataArray]:
    found = position.ablate_positions(model, asked.repeats, progress=False)
    where = np.broadcast_to(_copied(asked.repeats), found["baseline"].shape)
    return {"positions_effect": effect(found, where=where)["effect"]}


def _bands(model: Any, asked: Texts) -> dict[str, xr.DataArray]:
    found = position.bands(model, asked.repeats, progress=False)
    more = (found["loss_without"] - found["loss"]).isel(pos=_copied(asked.repeats))
    return {"taken_away": position.taken_away(found), "band_effect": more.mean(("prompt", "pos"))}


def _longer(model: Any, asked: Texts) -> dict[str, xr.DataArray]:
    loss = position.beyond_context(model, asked.longer)["loss"].mean("prompt")
    names = ("loss_beyond", "loss_interpolated")
    return {name: loss.isel(group=number, drop=True) for number, name in enumerate(names[: loss.sizes["group"]])}


def _copied(repeats: Int[Tensor, "prompt pos"]) -> np.ndarray:
    """[pos]: where the second copy is predicted from the first, which is from its second token on."""
    n = repeat_length(repeats[0])
    assert n is not None
    return np.isin(np.arange(repeats.shape[1]), second_copy(n))
