"""What position encodings do, in sentences and tables: said only as far as the numbers say it.

A difference between two variants is told with its interval over seeds and its p, corrected for every measure of every
pair (see `measures.contrasts`); where the variants differ in more than their positions, the sentence says so.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr

from neolens.stats import ALPHA, contrasts, seeds
from neolens.stats.contrasts import Contrast
from neolens.stats.contrasts.words import Row
from neolens.stats.seeds import Estimate, format_estimate
from neolens.stats.verdicts import Verdict, more_than_controls, shift_changes_output
from neolens.studies.rotary_vs_absolute.summary import LOSS, MEASURES, PROBED, Encoding, check_encoding, check_encodings
from neolens.wording import join

COPIES = 1.0
"""Nats a token above which a network does not predict a copy from its first."""


def findings(found: Sequence[Encoding], compared: Sequence[Contrast]) -> list[str]:
    """The answer in sentences: what tells variants apart, the shift, rotary bands, and texts beyond the context."""
    shifts = " ".join(_shifted(one) for one in check_encodings(found) if "shift_logits" in one.result)
    return [*contrasts.told_apart(compared), *([shifts] if shifts else []), *in_detail(found)]


def in_detail(found: Sequence[Encoding]) -> list[str]:
    """Which rotary bands heads live on, and what becomes of the loss beyond the context."""
    bands = " ".join(_bands([one for one in check_encodings(found) if one.kind == "rotary"]))
    beyond = " ".join(_beyond([one for one in found if "loss_beyond" in one.result]))
    return [text for text in (bands, beyond) if text]


def warnings(found: Sequence[Encoding]) -> list[str]:
    """What keeps a number from meaning what it seems to mean."""
    said = []
    for one in check_encodings(found, ["copied_loss"]):
        loss = one.result["copied_loss"]
        if lost := [str(int(seed)) for seed in loss["seed"].values if float(loss.sel(seed=seed)) > COPIES]:
            which = f"with seed {join(lost)} the network" if loss.sizes["seed"] > 1 else "it"
            said.append(
                f"{one.name}: {which} does not predict copies (loss above {COPIES:g} nats "
                "a token), so little can be lost by taking a head or positions away from it."
            )
        if loss.sizes["seed"] < 2:
            said.append(f"{one.name} is one network: its numbers have no interval over seeds, and no p.")
    said += contrasts.without_candidates(found)
    said += [
        f"{one.name}: {verdict.reason}; {verdict.claim} was {verdict.status}."
        for one in found
        for verdict in _uncontrolled(one)
    ]
    said += [
        f"{one.name} and {other.name} have no seed in common, and so are not compared."
        for number, one in enumerate(found)
        for other in found[number + 1 :]
        if one.kind != other.kind and not set(one.result["seed"].values) & set(other.result["seed"].values)
    ]
    return said


def _uncontrolled(one: Encoding) -> list[Verdict]:
    """The roles whose heads, ablated at once, have no control in some network."""
    if "role_effect" not in one.result:
        return []
    check_encoding(one, one.name, ["holds", "role_effect", "role_more"])
    verdicts = []
    for role in ("previous_token", "induction"):
        holds = one.result["holds"].sel(role=role, drop=True) == 1
        effect, more = (one.result[name].sel(role=role, drop=True) for name in ("role_effect", "role_more"))
        for seed in one.result["seed"].values[(effect.notnull() & more.isnull()).values].tolist():
            count, heads = int(holds.sel(seed=seed).sum()), int(holds.sel(seed=seed).size)
            what = f"all {role.replace('_', '-')} heads{f' of seed {seed}' if one.result.sizes['seed'] > 1 else ''}"
            verdicts.append(
                more_than_controls(what, count, np.nan, np.nan, np.nan, "the network", controls=heads - count)
            )
    return verdicts


def measure_table(found: Sequence[Encoding]) -> tuple[list[str], list[Row]]:
    """Header and a row a measure: its mean over seeds and 95 % interval in each variant."""
    return contrasts.measure_table(check_encodings(found, PROBED), MEASURES, "position")


def head_table(found: Sequence[Encoding]) -> tuple[list[str], list[Row]]:
    """Header and a row for each head that holds a role: its scores, and what ablating it does beside other heads."""
    header = [
        "network, head",
        "roles",
        "highest score",
        "effect (nats a token)",
        "heads of its layer without its roles",
        "more",
    ]
    rows: list[Row] = []
    for one in check_encodings(found, ["holds", "score", "effect", "control", "more", "more_p_adjusted"]):
        for seed in one.result["seed"].values.tolist():
            rows += _heads_of(one, one.result.sel(seed=seed), seed)
    return [*header, "corrected p"], rows


def band_estimates(one: Encoding) -> dict[int, Estimate]:
    """Band -> the share of the score of previous-token heads that goes with it, the mean over such heads of a network,
    then over seeds that have one."""
    holds = (
        check_encoding(one, variables=["holds", "taken_away"]).result["holds"].sel(role="previous_token", drop=True)
        == 1
    )
    shares = one.result["taken_away"].where(holds).mean(("layer", "head"))
    return {int(band): seeds.mean_ci(shares.sel(band=band), (-np.inf, 1.0)) for band in shares["band"].values}


def shift(one: Encoding) -> Verdict:
    """Whether moving every position index by the farthest shift changes the predictions; KL divergence first."""
    result = check_encoding(one, variables=["shift", "shift_kl", "shift_logits", "shift_exact", "rounding"]).result
    kl = seeds.mean_ci(result["shift_kl"].isel(shift=-1), LOSS)
    logits = float(result["shift_logits"].isel(shift=-1).mean())
    exact = float(result["shift_exact"].isel(shift=-1).max())
    sample = format_estimate(kl).partition("(")[2].rstrip(")")
    subject, by = f"{one.name} ({one.kind})", int(result["shift"][-1])
    return shift_changes_output(subject, kl.mean, logits, exact, float(result["rounding"].max()), by, sample)


def _shifted(one: Encoding) -> str:
    verdict = shift(one)
    verb = "does not significantly change" if verdict.status == "not significant" else "changes"
    claim = verdict.claim.replace("changes", verb, 1)
    return f"{claim[0].upper()}{claim[1:]}: {verdict.reason}."


def _bands(found: Sequence[Encoding]) -> list[str]:
    """Which bands previous-token heads live on; the two that take most are compared, corrected over the variants."""
    estimates = {one.name: band_estimates(one) for one in found}
    estimates = {name: its for name, its in estimates.items() if any(band.n for band in its.values())}
    ranked = {name: sorted(its, key=lambda band: -its[band].mean) for name, its in estimates.items()}
    apart = {one.name: _apart(one, ranked[one.name]) for one in found if len(ranked.get(one.name, ())) > 1}
    adjusted = seeds.adjust_p_values(apart)
    said = []
    for one in found:
        if one.name not in estimates:
            continue
        its, order = estimates[one.name], ranked[one.name][:3]
        wavelength = one.result["wavelength"]
        parts = [
            f"band {band} (wavelength {float(wavelength.sel(band=band)):.3g} tokens) {format_estimate(its[band])}"
            for band in order
        ]
        said.append(
            f"Previous-token heads of {one.name} lose this share of their score without a rotary band in them alone: "
            f"{join(parts)}. {_most(order, adjusted.get(one.name, np.nan), len(apart))}"
        )
    return said


def _most(order: Sequence[int], p: float, variants: int) -> str:
    """Which band takes most, as far as that is told apart."""
    if not np.isfinite(p):
        return f"Most goes with band {order[0]}, without a p: there are not two seeds."
    among = f"p = {p:.2g}, corrected for {variants} variant{'s' if variants > 1 else ''}"
    if p < ALPHA:
        return f"They live most on band {order[0]} ({among})."
    return f"Which of bands {order[0]} and {order[1]} they live on more is not told apart ({among})."


def _apart(one: Encoding, order: Sequence[int]) -> Estimate:
    holds = one.result["holds"].sel(role="previous_token", drop=True) == 1
    shares = one.result["taken_away"].where(holds).mean(("layer", "head"))
    return seeds.paired_difference(shares.sel(band=order[0], drop=True), shares.sel(band=order[1], drop=True))


def _beyond(found: Sequence[Encoding]) -> list[str]:
    """What becomes of the loss past the context: inside, beyond and interpolated."""
    inside, beyond = ({one.name: _part(one, "loss_beyond", far) for one in found} for far in (False, True))
    more = {name: seeds.paired_difference(beyond[name], inside[name]) for name in beyond}
    adjusted = seeds.adjust_p_values(more)
    said = []
    for one in found:
        here, there = (_short(seeds.mean_ci(part[one.name], LOSS)) for part in (inside, beyond))
        p = f", corrected p = {adjusted[one.name]:.2g}" if np.isfinite(adjusted[one.name]) else ""
        text = (
            f"On periodic texts of twice the context of {one.anatomy.context}, the loss of {one.name} is {here} nats a "
            f"token in the last quarter of the context and {there} in the last quarter of the text, a difference of "
            f"{format_estimate(more[one.name])}{p}"
        )
        if "loss_interpolated" in one.result:
            squeezed = _short(seeds.mean_ci(_part(one, "loss_interpolated", True), LOSS))
            text += f"; with positions interpolated, without further training, it is {squeezed} there"
        said.append(f"{text}.")
    return said


def last_quarters(one: Encoding) -> tuple[Estimate, Estimate]:
    """The loss in the last quarter of the context, and of a text twice as long, of a variant with `loss_beyond`."""
    check_encoding(one, variables=["loss_beyond"])
    inside, beyond = (seeds.mean_ci(_part(one, "loss_beyond", far), LOSS) for far in (False, True))
    return inside, beyond


def _part(one: Encoding, variable: str, beyond: bool) -> xr.DataArray:
    """The mean loss by seed in the last quarter of the context, or of a text twice as long."""
    context = one.anatomy.context
    end, size = (2 * context, context // 2) if beyond else (context, context // 4)
    return one.result[variable].sel(pos=slice(end - size, end - 1)).mean("pos")


def _heads_of(one: Encoding, network: xr.Dataset, seed: int) -> list[Row]:
    rows: list[Row] = []
    holding = network["holds"] == 1
    for layer, head in np.argwhere(holding.any("role").transpose("layer", "head").values):
        its, at = holding.isel(layer=layer, head=head), {"layer": layer, "head": head}
        roles = [str(role) for role in network["role"].values[its.values]]
        best = float(network["score"].isel(at).where(its).max())
        name = f"{one.name}{f'@{seed}' if one.result.sizes['seed'] > 1 else ''}, {layer}.{head}"
        numbers: Row = [
            float(network[variable].isel(at)) for variable in ("effect", "control", "more", "more_p_adjusted")
        ]
        if np.isnan(float(network["control"].isel(at))):
            numbers[1] = "no control"
        rows.append([name, join([role.replace("_", " ") for role in roles]), best, *numbers])
    return rows


def _short(its: Estimate) -> str:
    """A mean and its interval, in few characters."""
    if not np.isfinite(its.mean):
        return "none"
    return f"{its.mean:.2f}" + ("" if not np.isfinite(its.low) else f" ({its.low:.2f} to {its.high:.2f})")
