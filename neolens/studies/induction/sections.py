"""The sections of the report on induction heads: repeat lengths, pattern and cause, and what forms first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import xarray as xr

from neolens import report
from neolens.near_far import of_anatomies
from neolens.studies.induction import tables as induction_tables
from neolens.studies.induction.figures import copying_without, induction_by_length, induction_causes
from neolens.studies.induction.formation import Formation
from neolens.studies.induction.formation_figures import formation_by_step
from neolens.studies.induction.summary import Induction
from neolens.studies.study import Measured, Summary

LENGTHS = (
    "Means over seeds with Student's 95 % intervals, cut at the ends of a share; of a single network over prompts "
    "(bootstrap). Heads: those that hold the pattern, with an induction score of at least 0.4 over all prompts, of all "
    "networks. Ablated by their mean over prompts, on the loss of predicting r_2..r_n of the second copy. Random "
    "heads: 19 groups of as many heads of the network that do not hold it, whatever else they do; where a "
    "previous-token head is among them they cost much, so the difference is on the low side. p is of the difference; "
    "none where the loss ends at chance level, where more than measured can be lost."
)
HEADS = (
    "Heads that hold the pattern at n = w or the next n, inside and beyond. Alone: what mean ablation of "
    "the head adds to the loss where copies are predicted (nats a token), next to up to three heads of its "
    "layer that do not hold the pattern; no control where every head of the layer holds it. p: sign "
    "flips of prompts, corrected for all heads of the network at this n "
    "(max-T)."
)
FORMED = (
    "The first checkpoint at which the best score is at least 0.4, half of the second copy is predicted, or ablating "
    "costs half a nat a token more than as many random heads at a corrected p below 0.05 (max-T over all models, "
    "steps and lengths). The cause of the heads that hold the pattern at a step cannot pass before the pattern. In "
    "brackets: 95 % intervals over prompts."
)
CURRICULUM = (
    "The steps of lab models belong to their curriculum: for the first 13 % of the steps (455 of 3,500) documents have "
    "16 tokens, so that no answer stands more than 14 tokens back."
)


def sections(measured: Measured, summary: Summary) -> list[report.Block]:
    """The window, causes, and formation."""
    found, tests, formed = summary.content
    split = of_anatomies(measured.scope["window"], measured.anatomies)
    return [
        report.Heading(f"Through {split.short}"),
        report.Figure(induction_by_length(summary.results)),
        report.Table(*induction_tables.length_table(found, tests), caption=LENGTHS),
        *cause_section(found, summary.results),
        *formed_section(found, formed, summary.in_sections),
    ]


def cause_section(found: Sequence[Induction], measured: Mapping[str, xr.Dataset]) -> list[report.Block]:
    """Pattern beside cause, where any head has the pattern."""
    if not any(bool(result["alone"].notnull().any()) for result in measured.values()):
        return [report.Heading("Pattern and cause"), report.Paragraph("No head holds the pattern: none was ablated.")]
    return [
        report.Heading("Pattern and cause"),
        report.Figure(induction_causes(measured)),
        report.Figure(copying_without(measured)),
        report.Table(*induction_tables.head_table(found), caption=HEADS),
    ]


def formed_section(
    found: Sequence[Induction], formed: Sequence[Formation], findings: Sequence[str]
) -> list[report.Block]:
    """What forms first; only what was left out, where no model has checkpoints."""
    notes = [report.Note(text, "finding") for text in findings]
    if not formed:
        return [report.Heading("What forms first"), *notes]
    curriculum = [report.Note(CURRICULUM)] if any(one.found.name.startswith("lab/") for one in formed) else []
    return [
        report.Heading("What forms first"),
        *notes,
        *curriculum,
        report.Figure(formation_by_step({one.name: one.joined for one in found})),
        report.Table(*induction_tables.formation_table(formed), caption=FORMED),
    ]
