"""The answers to the two questions: what each claim rests on, the headline of each question first.

Seeds are the sample: an estimate is the mean over the networks of a variant with Student's interval, and variants are
compared seed by seed, corrected for everything that is tested of a question.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from neolens.patching.effects import ranked
from neolens.stats import seeds
from neolens.stats.contrasts import Contrast, kind
from neolens.studies.compare.found import TASK, Found
from neolens.studies.contrast_findings import above_zero, of_contrasts
from neolens.studies.finding import Finding, StudyWarning, of_estimate
from neolens.studies.head_ablation.findings import warnings as ablation_warnings
from neolens.studies.ioi.findings import warnings as object_warnings
from neolens.studies.ioi.summary import SOLVED, solves
from neolens.studies.local_vs_global.findings import warnings as attention_warnings
from neolens.studies.local_vs_global.findings import where_layers_attend
from neolens.studies.rotary_vs_absolute.findings import loss_beyond_context, rotary_bands, shift_changes_predictions
from neolens.studies.rotary_vs_absolute.findings import warnings as position_warnings
from neolens.studies.window_reach.findings import layers_needed, restricted
from neolens.studies.window_reach.findings import warnings as reach_warnings
from neolens.wording import join, two_digits

LOCAL = "What do local layers do that global layers do not?"
ROTARY = "What does rotary position encoding do that learned absolute positions do not?"
NAMES = "Which networks find the indirect object?"

ATTENTION = "Where local and global layers attend"
WINDOW, ABLATED, POSITIONS = "Reach beyond the window", "Without the layers of a kind", "Rotary and absolute positions"
MEASURES, OBJECT = "All measures", "The indirect object"
"""Headings of the sections."""

Contrasts = tuple[Sequence[Contrast], Sequence[Contrast]]
"""Between variants that differ in attention alone, and in positions alone."""


def findings(found: Sequence[Found], contrasts: Contrasts) -> list[Finding]:
    """All findings, those of the first screen first within each question."""
    on_attention, on_positions = contrasts
    alternating = _alternating(found)
    others = [one for one in found if one not in alternating]
    attention = [_attention(one) for one in alternating]
    reach = [_restricted(one) for one in alternating]
    shifts = _shifts(found, on_positions)
    about = {
        LOCAL: [
            *(finding for first, second in zip(attention, reach, strict=True) for finding in (*first[:1], *second)),
            *of_contrasts(on_attention, first=("copied_beyond",), figure=MEASURES),
            *(finding for listed in attention for finding in listed[1:]),
            *(finding for one in others for finding in _restricted(one)),
            *_needed([*alternating, *others]),
            *_without_a_kind(found),
        ],
        ROTARY: [
            *shifts,
            *of_contrasts(on_positions, first=("toeplitz_first",), figure=MEASURES),
            *_positions(found),
        ],
    }
    headlines = {LOCAL: _about_local_layers(alternating, attention, reach), ROTARY: _about_rotary(found, shifts)}
    for question, headline in headlines.items():
        first = about[question] or [Finding(claim="the two differ", subject="all models", verdict="not measured")]
        about[question] = [replace(first[0], headline=headline), *first[1:]]
    about[NAMES] = _indirect_object(found)
    return [replace(one, question=question) for question, listed in about.items() for one in listed]


def _alternating(found: Sequence[Found]) -> list[Found]:
    return [one for one in found if kind(one.anatomy, "attention") == "global and local"]


def _attention(one: Found) -> list[Finding]:
    """How much attention of each kind of layer lies beyond the window, and how far back it is; of a model with both."""
    networks = [parts["attention"] for parts in one.networks.values()]
    return [
        replace(each, figure=ATTENTION) for each in where_layers_attend(one.name, networks, one.window, one.near_far)
    ]


def _restricted(one: Found) -> list[Finding]:
    """Whether an answer from beyond the window needs a layer that sees so far, in every network that answers."""
    return [] if one.carriers is None else [replace(restricted(one.carriers, TASK), figure=WINDOW)]


def _needed(found: Sequence[Found]) -> list[Finding]:
    """Which layers answers need at each distance."""
    return [replace(each, figure=WINDOW) for one in found if one.carriers for each in layers_needed(one.carriers)]


def _without_a_kind(found: Sequence[Found]) -> list[Finding]:
    """What ablating all layers of a kind adds to the loss, on text and where the answer lies beyond the window."""
    places = {"text": "on text", "beyond": f"on answers {found[0].near_far.beyond}"} if found else {}
    rows = {
        (one.name, group, place): [
            row for need in one.needs for row in need.compared if (row.group, row.condition) == (group, condition)
        ]
        for one in _alternating(found)
        for condition, place in places.items()
        for group in ("local", "global")
    }
    estimates = {key: seeds.mean_ci(np.array([row.effect for row in each])) for key, each in rows.items() if each}
    claims = {
        key: (f"ablating all {key[1]} layers raises the loss {key[2]}", key[0], estimate)
        for key, estimate in estimates.items()
    }
    about: dict[str, Any] = {"unit": "nats per token", "figure": ABLATED}
    limited = [claims.pop(key) for key in estimates if any(row.limit == "chance level" for row in rows[key])]
    untested: dict[str, Any] = {"p": np.nan, "reason": "ends at chance level"}
    return [
        *above_zero(list(claims.values()), **about),
        *(of_estimate(claim, name, mean, "not measured", **untested, **about) for claim, name, mean in limited),
    ]


def _shifts(found: Sequence[Found], compared: Sequence[Contrast]) -> list[Finding]:
    """Whether shifting every position changes the predictions: first of the pair that differs in positions alone."""
    pair = [one.name for contrast in compared[:1] for one in (contrast.first, contrast.second)]
    shifted = [one for one in found if "shift_logits" in one.encoding.result]
    ordered = sorted(shifted, key=lambda one: pair.index(one.name) if one.name in pair else len(pair))
    return [replace(shift_changes_predictions(one.encoding), figure=POSITIONS) for one in ordered]


def _positions(found: Sequence[Found]) -> list[Finding]:
    """Which rotary bands heads depend on, and the loss beyond the context."""
    encodings = [one.encoding for one in found]
    return [replace(one, figure=POSITIONS) for one in (*loss_beyond_context(encodings), *rotary_bands(encodings))]


def _indirect_object(found: Sequence[Found]) -> list[Finding]:
    """How many networks of each variant find the indirect object, and by which head most."""
    listed = []
    for one in found:
        if one.circuits:
            able = [circuit for circuit in one.circuits if solves(circuit)]
            heads = [ranked(circuit.shares["z"].sel(pos="end")["share"])[0] for circuit in able]
            listed.append(
                Finding(
                    claim=f"every network puts the indirect object first in {SOLVED:.0%} of prompts or more",
                    subject=one.name,
                    estimate=len(able) / len(one.circuits),
                    unit="of networks",
                    n=len(one.circuits),
                    verdict="supported" if len(able) == len(one.circuits) else "contradicted",
                    reason=f"the head at the end with the largest effect: {join(heads)}" if heads else "",
                    figure=OBJECT,
                )
            )
    return listed


def _about_local_layers(
    alternating: Sequence[Found], attention: Sequence[Sequence[Finding]], reach: Sequence[Sequence[Finding]]
) -> str:
    """The headline of the first question, which holds for every model with both kinds of layers.

    Args:
        attention: of each of them, the findings of `_attention`.
        reach: of each of them, the findings of `_restricted`.
    """
    if not alternating:
        return "Not measured: no model here has both local and global layers."
    if any(listed[0].verdict == "contradicted" for listed in attention):
        return "Local layers attend beyond their window, which is impossible: see the failed exact checks."
    start = f"Local layers read only the last {alternating[0].window} tokens"
    if not all(listed and listed[0].verdict == "supported" for listed in reach):
        return f"{start}; that answers from farther back need the global layers is not shown for this model."
    sides = [side for one in alternating if one.carriers for side in one.carriers.beyond[TASK] if side.answers]
    trained = two_digits(float(np.mean([side.likeliest for side in sides])))
    without = two_digits(float(np.mean([side.likeliest_all_local for side in sides])))
    accuracy = f"accuracy {trained}; {without} with every layer restricted to the window"
    return f"{start}; answers farther back come through global layers ({accuracy})."


def _about_rotary(found: Sequence[Found], shifts: Sequence[Finding]) -> str:
    """The headline of the second question, which holds for every model; the numbers are those of the first of a kind.

    Args:
        shifts: of `_shifts`.
    """
    encodings = {one.name: one.encoding for one in found}
    by_kind = {kind: [one for one in shifts if encodings[one.subject].kind == kind] for kind in ("rotary", "absolute")}
    rotary, absolute = by_kind.values()
    if not rotary or not absolute:
        missing = "rotary encoding" if not rotary else "learned absolute positions"
        return f"Not measured: no model here has {missing}."
    by, name = int(encodings[rotary[0].subject].result["shift"][-1]), absolute[0].subject
    divergence = two_digits(absolute[0].estimate)
    if all(one.verdict == "exact" for one in rotary) and all(one.verdict == "supported" for one in absolute):
        return (
            f"With rotary encoding, shifting every position by {by} changes no prediction; with learned absolute "
            f"positions it does (KL divergence {divergence} nats per token in {name})."
        )
    return (
        f"Shifting every position by {by} changes predictions by a KL divergence of {two_digits(rotary[0].estimate)} "
        f"nats per token in {rotary[0].subject} (rotary), {divergence} in {name} (absolute)."
    )


def warnings(found: Sequence[Found], left_out: Mapping[str, Mapping[str, str]]) -> list[StudyWarning]:
    """What limits the numbers of each model, model by model, and what does not apply to it.

    Args:
        left_out: model -> part -> why.
    """
    parts = {"reach": f"{TASK} at several distances", "circuit": "the indirect object"}
    listed = [
        StudyWarning(model, "does not apply", f"{model} was not asked for {parts.get(part, part)}: {reason}")
        for model, reasons in left_out.items()
        for part, reason in reasons.items()
    ]
    if found:
        listed += attention_warnings({one.name: one.first["attention"] for one in found}, found[0].window)
        listed += position_warnings([one.encoding for one in found])
    for one in found:
        listed += [warning for circuit in one.circuits for warning in object_warnings(circuit)]
        listed += reach_warnings(one.carriers) if one.carriers is not None else []
        listed += [warning for need in one.needs for warning in ablation_warnings(need)]
    order = [one.name for one in found]
    unique = list(dict.fromkeys(listed))
    return sorted(unique, key=lambda one: order.index(one.subject) if one.subject in order else -1)
