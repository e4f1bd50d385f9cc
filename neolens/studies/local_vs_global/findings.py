"""Where local and global layers attend, and what is copied from beyond the window, as findings.

Of a single network, intervals and p are over prompts; of several seeds of a model, over seeds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Float

from neolens.checks.annotations import Size, checked
from neolens.near_far import NearFar
from neolens.scores import share_beyond
from neolens.stats import seeds
from neolens.stats.paired import paired_tests
from neolens.stats.seeds import Estimate
from neolens.stats.verdicts import Status, at_least, exact_by_construction, increase
from neolens.studies.finding import Finding, StudyWarning, of_estimate
from neolens.studies.local_vs_global.tables import Scores, check_scores, split_of
from neolens.wording import join, percent

ATTEND, COPIED = "Where do local and global layers look?", "What is copied from far back?"

MOST, SOLVED = 0.5, 0.9
"""Shares from which on most attention lies beyond the window, and a sequence counts as copied."""

UNKNOWN = 0.05
"""Share of unknown words from which on a text is warned about."""

NONE_FAR = "no attention of local layers lies {beyond}"
FARTHER = "global layers attend farther back than local layers on average"
MOST_FAR = "most attention of global layers lies {beyond}"
NO_TEXT = "no text is longer than {short}"
COPIES = "copies {share:.0%} or more of a sequence repeated after {length} tokens, {beyond}"
COPIES_LESS = "copies less with every layer restricted to {short}"
OUT_OF_REACH = "no local head attends to the token to copy {beyond}"
SECTION = "Local and global heads"
"""Claims, the reason for what is not measured, and the heading of the section with the figure."""

Networks = Sequence[xr.Dataset]
Read = Callable[[xr.Dataset], xr.DataArray]
Values = Float[np.ndarray, " value"]
Means = Mapping[str, Values]


@checked
def findings(scores: Scores, window: Size, lengths: tuple[Size, Size]) -> list[Finding]:
    """Of both questions, models with local layers first; the first finding of each question has its headline.

    Args:
        lengths: the repeat lengths inside and beyond the window.
    """
    check_scores(scores, "mean_distance", "mass_by_distance", "induction_beyond", "copied_beyond")
    listed: dict[str, list[Finding]] = {ATTEND: [], COPIED: []}
    for name, result in sorted(scores.items(), key=lambda item: "local" not in item[1]["attention_kind"].values):
        split = split_of(scores, window, name)
        listed[ATTEND] += where_layers_attend(name, [result], window, split)
        listed[COPIED] += what_is_copied(name, [result], lengths[1], split)
    return _corrected([one for each in listed.values() for one in each])


@checked
def where_layers_attend(name: str, networks: Sequence[xr.Dataset], window: Size, split: NearFar) -> list[Finding]:
    """How much attention of each kind of layer lies beyond the window on text, and how far back it is on average.

    Args:
        networks: the scores of one network, or of the seeds of a model.
        split: what the window is called in a report of several models.
    """
    about: dict[str, Any] = {"question": ATTEND, "figure": SECTION, "sample": _sample(networks)}
    words = {"beyond": split.beyond, "short": split.short}
    kinds = [kind for kind in ("local", "global") if kind in networks[0]["attention_kind"].values]
    far = {kind: _means(networks, lambda result: share_beyond(result, window), kind) for kind in kinds}
    back = {kind: _means(networks, lambda result: result["mean_distance"], kind) for kind in kinds}
    listed = []
    if _fixed(networks, window):
        listed.append(_zero(NONE_FAR.format(**words), name, far["local"], about))
    if "global" in kinds:
        share = _estimate(far["global"], networks, (0.0, 1.0))
        listed.append(_at_least(MOST, MOST_FAR.format(**words), name, share, about | {"unit": "share"}))
    if len(kinds) == 2:
        difference = _estimate(back["global"] - back["local"], networks)
        finding = of_estimate(FARTHER, name, difference, _above_0(difference), unit="tokens", **about)
        listed.insert(1, finding)
    if max(int(result["length"].max()) for result in networks) <= window:
        listed = [_not_measured(one, NO_TEXT.format(**words)) for one in listed]
    headline = _attention_headline(name, far, back, split, listed[0].verdict) if listed else ""
    return [replace(one, headline=headline * (at == 0)) for at, one in enumerate(listed)]


@checked
def what_is_copied(name: str, networks: Sequence[xr.Dataset], length: Size, split: NearFar) -> list[Finding]:
    """How much is copied of a sequence repeated after `length` tokens, beyond the window, with all layers as they are
    and with every layer restricted to the window.

    Args:
        networks: as in `where_layers_attend`.
    """
    about: dict[str, Any] = {"question": COPIED, "figure": SECTION, "sample": _sample(networks)}
    copied = _means(networks, lambda result: result["copied_beyond"])
    share: dict[str, Any] = {"unit": "share"}
    claim = COPIES.format(share=SOLVED, length=length, beyond=split.beyond)
    listed = [_at_least(SOLVED, claim, name, _estimate(copied, networks, (0.0, 1.0)), about | share)]
    restricted = None
    if all("copied_beyond_all_local" in result for result in networks):
        restricted = _means(networks, lambda result: result["copied_beyond_all_local"])
        drop, claim = _estimate(copied - restricted, networks), COPIES_LESS.format(short=split.short)
        listed.append(of_estimate(claim, name, drop, _above_0(drop), **about, **share))
    if _fixed(networks, split.tokens) and length > split.tokens:
        scores = _means(networks, lambda result: result["induction_beyond"], "local")
        listed.append(_zero(OUT_OF_REACH.format(beyond=split.beyond), name, scores, about))
    headline = _copying_headline(name, copied, restricted, length, split)
    return [replace(listed[0], headline=headline), *listed[1:]]


def _attention_headline(name: str, far: Means, back: Means, split: NearFar, verdict: Status) -> str:
    where = f"beyond {split.name}" if split.is_window else split.beyond
    if verdict == "not measured":
        return f"Not measured: no text of {name} is longer than {split.name}."
    if verdict == "contradicted" and "local" in far:
        share = percent(float(far["local"].mean()))
        return f"An exact check failed: local layers of {name} put {share} of attention {where}, expected exactly 0."
    put = join([f"{kind} layers {'put ' * (at == 0)}{percent(float(far[kind].mean()))}" for at, kind in enumerate(far)])
    distances = join([f"{values.mean():.1f}" for values in back.values()])
    return f"In {name}, {put} of attention {where} (mean distance: {distances} tokens)."


def _copying_headline(name: str, copied: Values, restricted: Values | None, length: int, split: NearFar) -> str:
    share = f"{percent(float(copied.mean()))} of a sequence repeated after {length} tokens, {split.beyond}"
    if restricted is None:
        return f"{name} copies {share}."
    return f"{name} copies {share}; {percent(float(restricted.mean()))} with every layer restricted to {split.name}."


@checked
def warnings(scores: Scores, window: Size) -> list[StudyWarning]:
    """Texts that do not cross the window, and texts of unknown words."""
    check_scores(scores)
    listed = []
    for name, result in scores.items():
        if (longest := int(result["length"].max())) <= window:
            text = f"{name} has text of {longest} tokens per prompt, which does not cross "
            text += f"{split_of(scores, window, name).name}: give a longer text."
            listed.append(StudyWarning(name, "short text", text))
        if (unknown := result.attrs.get("unknown", 0)) > UNKNOWN:
            text = f"{name} does not know {percent(unknown)} of the text's words and reads each as <unk>: scores on "
            listed.append(StudyWarning(name, "unknown words", f"{text}text describe repeated <unk>."))
    return listed


def _above_0(difference: Estimate) -> Status:
    return increase("the difference is above 0", difference.mean, difference.p, untested="too few prompts").status


def _at_least(least: float, claim: str, name: str, estimate: Estimate, about: Mapping[str, Any]) -> Finding:
    status = at_least(least, estimate.low, estimate.high)
    return of_estimate(claim, name, estimate, status, p=np.nan, **about)


def _not_measured(finding: Finding, reason: str) -> Finding:
    none: dict[str, Any] = dict.fromkeys(("estimate", "low", "high", "p"), np.nan)
    return replace(finding, verdict="not measured", reason=reason, n=0, **none)


def _zero(claim: str, name: str, values: Values, about: Mapping[str, Any]) -> Finding:
    """The finding that a value is exactly 0, as the architecture fixes."""
    verdict = exact_by_construction(claim, {name: values.tolist()})
    return Finding(
        claim=claim, subject=name, verdict=verdict.status, estimate=float(np.abs(values).max()), n=len(values), **about
    )


def _fixed(networks: Networks, window: int) -> bool:
    """Whether there are local layers, none of which sees farther than the window."""
    local = networks[0]["window"].where(_local(networks[0]), drop=True).values
    return len(local) > 0 and bool((local <= window).all())


def _local(result: xr.Dataset) -> xr.DataArray:
    return result["attention_kind"] == "local"


def _sample(networks: Networks) -> str:
    return "prompts" if len(networks) == 1 else "seeds"


def _means(networks: Networks, read: Read, kind: str = "") -> Values:
    """The mean of a score over heads and the layers of a kind: of each prompt of a single network, else of each
    network."""
    each = []
    for result in networks:
        values = read(result)
        values = values.isel(layer=result["attention_kind"].values == kind) if kind else values
        each.append(values.mean([str(axis) for axis in values.dims if axis != "prompt"]).dropna("prompt"))
    return each[0].values if len(networks) == 1 else np.array([float(values.mean()) for values in each])


def _estimate(values: Values, networks: Networks, bounds: tuple[float, float] = seeds.UNBOUNDED) -> Estimate:
    """The mean with its interval and p, over the prompts of a single network, else over networks."""
    if len(networks) > 1:
        return seeds.mean_ci(values, bounds)
    tests = paired_tests(values[None].astype(float))
    mean, low, high, p = (float(each[0]) for each in (tests.mean, tests.low, tests.high, tests.p))
    return Estimate(mean, low, high, len(values), p)


def _corrected(listed: Sequence[Finding]) -> list[Finding]:
    """The findings with p corrected for all of them, and the first headline of each question alone."""
    tested = {str(at): one for at, one in enumerate(listed) if np.isfinite(one.p)}
    adjusted = seeds.adjust_p_values(
        {at: Estimate(one.estimate, one.low, one.high, one.n, one.p) for at, one in tested.items()}
    )
    first = {one.question: at for at, one in reversed(list(enumerate(listed))) if one.headline}
    findings = []
    for at, one in enumerate(listed):
        if str(at) in tested:
            estimate = Estimate(one.estimate, one.low, one.high, one.n, adjusted[str(at)])
            one = replace(one, p=estimate.p, verdict=_above_0(estimate), comparisons=len(tested))
        findings.append(one if first.get(one.question) == at else replace(one, headline=""))
    return findings
