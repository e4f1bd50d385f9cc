"""What follows from the probes of positions: findings per model, differences between variants, and warnings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import combinations

import numpy as np
import xarray as xr

from neolens.stats import seeds
from neolens.stats.contrasts import Contrast
from neolens.stats.verdicts import NATS as CHANGE
from neolens.stats.verdicts import more_than_controls, shift_changes_output, unknown_candidates
from neolens.studies.contrast_findings import ORDER, above_zero, of_contrasts
from neolens.studies.finding import Finding, StudyWarning, of_estimate
from neolens.studies.rotary_vs_absolute.summary import LOSS, Encoding, check_encoding, check_encodings
from neolens.wording import join, two_digits

NATS = "nats per token"

COPIES = 1.0
"""Nats per token above which a network does not predict the second copy of a sequence from the first."""

SHIFT, DIFFERENCES = "Shifted positions", "Differences between variants"
DISTANCE, HEADS, BEYOND = "Scores by distance", "Heads", "Beyond the context"
"""Headings of the sections."""


def findings(encodings: Sequence[Encoding], compared: Sequence[Contrast]) -> list[Finding]:
    """The shift of every model with the headline, differences between variants, rotary bands, and texts beyond the
    context."""
    shifts = [shift_changes_predictions(one) for one in check_encodings(encodings) if "shift_logits" in one.result]
    rest = [
        *of_contrasts([one for one in compared if one.measure != "shift"], figure=DIFFERENCES),  # shifts have it
        *rotary_bands(encodings),
        *loss_beyond_context(encodings),
    ]
    listed = [*shifts, *sorted(rest, key=lambda one: ORDER.index(one.verdict))]
    return [replace(one, headline="" if at else headline(encodings, shifts)) for at, one in enumerate(listed)]


def headline(encodings: Sequence[Encoding], shifts: Sequence[Finding]) -> str:
    """What a shift of all positions does to rotary and to absolute models, as far as the verdicts go."""
    kinds, parts = {one.name: one.kind for one in encodings}, []
    for kind, status, text in (("rotary", "exact", "exactly unchanged"), ("absolute", "supported", "changed")):
        tried = [one for one in shifts if kinds[one.subject] == kind and one.verdict != "not measured"]
        hits = [one for one in tried if one.verdict == status]
        ends = dict.fromkeys(two_digits(end(one.estimate for one in hits)) for end in (min, max) if hits)
        size = f" by {'-'.join(ends)} nats per token" if hits and status != "exact" else ""
        models = f"{len(hits)} of {len(tried)} {kind} models"
        names = f"{tried[0].subject} ({kind})" if len(tried) == len(hits) == 1 else models
        parts += [f"{text}{size} in {names}"] if tried else []
    if not parts:
        return "No model here has positions to shift."
    return f"Predictions with all positions shifted: {', '.join(parts)}."


def shift_changes_predictions(encoding: Encoding) -> Finding:
    """Whether shifting every position index by the farthest shift changes the predictions: KL divergence."""
    result = check_encoding(encoding, variables=["shift", "shift_kl", "shift_exact"]).result.isel(shift=-1)
    estimate = seeds.mean_ci(result["shift_kl"], LOSS)
    verdict = shift_changes_output(
        estimate.mean, float(result["shift_exact"].max()), int(result["shift"]), relative=encoding.kind == "rotary"
    )
    if verdict.status == "exact":
        estimate = replace(estimate, mean=0.0, low=0.0, high=0.0)
    changed = int((result["shift_kl"] >= CHANGE).sum())
    reason = verdict.reason or f"{CHANGE:g} or more in {changed} of {estimate.n} seeds"
    about = {"reason": reason, "unit": NATS, "figure": SHIFT}
    return of_estimate(verdict.claim, encoding.name, estimate, verdict, p=np.nan, **about)


def rotary_bands(encodings: Sequence[Encoding]) -> list[Finding]:
    """Whether previous-token heads depend more on one rotary band than on the next: the difference of the shares of
    their score that are lost without the band, of the two bands with the largest share."""
    claims = []
    for one in [one for one in check_encodings(encodings) if "taken_away" in one.result]:
        shares = band_shares(one)
        means = shares.mean("seed").dropna("band")
        if means.size > 1:
            first, second = means["band"].values[np.argsort(-means.values, kind="stable")[:2]]
            lengths = [f"{float(one.result['wavelength'].sel(band=band)):.3g}" for band in (first, second)]
            claim = f"previous-token heads depend more on rotary band {first} (wavelength {lengths[0]} tokens) than on "
            claim += f"band {second} ({lengths[1]})"
            ends = [shares.sel(band=band, drop=True) for band in (first, second)]
            claims.append((claim, one.name, seeds.paired_difference(ends[0], ends[1])))
    return above_zero(claims, unit="of their score", figure=HEADS)


def band_shares(encoding: Encoding) -> xr.DataArray:
    """[seed, band]: the share of the score that is lost without a band, the mean over previous-token heads."""
    result = check_encoding(encoding, variables=["holds", "taken_away"]).result
    has_role = result["holds"].sel(role="previous_token", drop=True) == 1
    return result["taken_away"].where(has_role).mean(("layer", "head"))


def loss_beyond_context(encodings: Sequence[Encoding]) -> list[Finding]:
    """Whether the loss rises from the last quarter of the context to that of a text twice as long, and whether it rises
    further where positions are interpolated into the context."""
    rises, raises = [], []
    for one in check_encodings(encodings):
        if "loss_beyond" in one.result:
            inside, beyond = (_last_quarter(one, "loss_beyond", factor) for factor in (1, 2))
            claim = "the loss of periodic text rises beyond the context"
            rises.append((claim, one.name, seeds.paired_difference(beyond, inside)))
        if "loss_interpolated" in one.result:
            difference = seeds.paired_difference(_last_quarter(one, "loss_interpolated", 2), beyond)
            raises.append(("interpolating positions raises the loss beyond the context", one.name, difference))
    return [one for each in (rises, raises) for one in above_zero(each, unit=NATS, figure=BEYOND)]


def _last_quarter(one: Encoding, variable: str, factor: int) -> xr.DataArray:
    """The mean loss by seed in the last quarter of a text of `factor` times the context."""
    end = factor * one.anatomy.context
    return one.result[variable].sel(pos=slice(end - end // 4, end - 1)).mean("pos")


def warnings(encodings: Sequence[Encoding]) -> list[StudyWarning]:
    """What keeps a number from meaning what it seems to mean."""
    listed = [one for encoding in check_encodings(encodings, ["copied_loss"]) for one in _warnings(encoding)]
    for one, other in combinations(encodings, 2):
        if one.kind != other.kind and not set(one.result["seed"].values) & set(other.result["seed"].values):
            text = f"{one.name} and {other.name} have no seed in common, and so are not compared."
            listed.append(StudyWarning("", "no common seed", text))
    return listed


def _warnings(one: Encoding) -> Iterator[StudyWarning]:
    """Of one model: networks that do not copy, a single network, an unknown chance level, roles without controls."""
    loss = one.result["copied_loss"]
    if lost := [str(seed) for seed in loss["seed"].values[loss.values > COPIES]]:
        text = f"{one.name} does not predict copies with seed {join(lost)} (loss above {COPIES:g} nats per token): "
        yield StudyWarning(one.name, "does not copy", f"{text}ablating heads or positions can add little to the loss.")
    if loss.size < 2:
        yield StudyWarning(one.name, "one network", f"{one.name} has one seed: no interval over seeds, and no p.")
    if "candidates" not in one.result.attrs:
        yield StudyWarning(one.name, "earlier version", unknown_candidates(one.name, one.candidates))
    for role in ("previous_token", "induction") if "role_effect" in one.result else ():
        of_role = check_encoding(one, one.name, ["holds", "role_effect", "role_more"]).result.sel(role=role)
        for seed in loss["seed"].values[(of_role["role_effect"].notnull() & of_role["role_more"].isnull()).values]:
            has_role = of_role["holds"].sel(seed=seed) == 1
            count, heads = int(has_role.sum()), f"all {role.replace('_', '-')} heads of seed {seed}"
            numbers = {"count": count, "controls": has_role.size - count}
            verdict = more_than_controls(heads, **numbers, effect=np.nan, more=np.nan, p=np.nan, where="the network")
            yield StudyWarning(one.name, "no control heads", f"{one.name}, {heads}: {verdict.reason}.")
