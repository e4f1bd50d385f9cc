"""The sections of the report on induction heads: repeat lengths, pattern and cause, and what forms first."""

from __future__ import annotations

from collections.abc import Sequence

from neolens import report
from neolens.studies.induction import tables
from neolens.studies.induction.figures import copying_without, induction_by_length, induction_causes
from neolens.studies.induction.findings import BY_LENGTH, CAUSE, FORMED
from neolens.studies.induction.formation import Formation
from neolens.studies.induction.formation_figures import formation_by_step
from neolens.studies.induction.summary import Induction
from neolens.studies.study import Measured, Summary

LENGTHS = (
    "Means over seeds with Student's 95 % intervals, cut at the ends of a share; of a single network over prompts "
    "(bootstrap). Heads: those with an induction score of at least 0.4 over all prompts, of all networks. Ablated by "
    "their mean over prompts, on the loss of predicting r_2..r_n of the second copy. Random heads: 19 groups of as "
    "many heads of the network without the pattern, whatever else they do. p is of the difference; none where the loss "
    "ends at chance level, where more than measured can be lost."
)
HEADS = (
    "Heads that have the pattern at one of the two n next to the dashed line. Ablated alone: what mean ablation of the "
    "head adds to the loss where copies are predicted (nats per token), next to up to three heads of its layer without "
    "the pattern; no control where every head of the layer has it. p: sign flips of prompts, corrected for all heads "
    "of the network at this n (max-T)."
)
STEPS = (
    "The first checkpoint at which the best score is at least 0.4, half of the second copy is predicted, or ablating "
    "costs half a nat per token more than as many random heads at a corrected p below 0.05 (max-T over all models, "
    "steps and lengths). The effect of the heads that have the pattern at a step cannot pass before the pattern. In "
    "brackets: 95 % intervals over prompts."
)
CURRICULUM = (
    "The steps of lab models belong to their curriculum: for the first 13 % of the steps (455 of 3,500) documents have "
    "16 tokens, so that no answer stands more than 14 tokens back."
)


def sections(measured: Measured, summary: Summary) -> list[report.Block]:
    """Repeat lengths, causes, and formation."""
    models, tests, formed = summary.content
    return [
        report.Heading(BY_LENGTH),
        report.Figure(induction_by_length(summary.results)),
        report.Folded("Every measure by repeat length", [report.Table(*tables.length_table(models, tests), LENGTHS)]),
        report.Heading(CAUSE),
        *cause_section(models),
        report.Heading(FORMED),
        *formed_section(formed),
    ]


def cause_section(models: Sequence[Induction]) -> list[report.Block]:
    """Scores next to effects, where any head has the pattern."""
    results = {one.name: one.joined for one in models}
    if not any(bool(result["alone"].notnull().any()) for result in results.values()):
        return [report.Paragraph("No head has the pattern: none was ablated.")]
    return [
        report.Figure(copying_without(results)),
        report.Folded(
            "Every head with the pattern",
            [report.Figure(induction_causes(results)), report.Table(*tables.head_table(models), HEADS)],
        ),
    ]


def formed_section(formed: Sequence[Formation]) -> list[report.Block]:
    """The curves over the training, and when each threshold is passed."""
    if not formed:
        return [report.Paragraph("No model here has training checkpoints.")]
    lab = any(one.model.name.startswith("lab/") for one in formed)
    return [
        report.Figure(formation_by_step({one.model.name: one.model.joined for one in formed})),
        report.Table(*tables.formation_table(formed), STEPS),
        *([report.Note(CURRICULUM)] if lab else []),
    ]
