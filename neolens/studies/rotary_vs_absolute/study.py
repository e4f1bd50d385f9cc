"""What does rotary position encoding do that learned absolute positions do not?

A rotation turns queries and keys by an angle that grows with the position, so scores depend on the distance between two
tokens (Su et al. 2021, arXiv 2104.09864); a learned embedding adds one vector per position to the residual stream. Five
measurements per network: the change of the predictions when every position index is shifted; the Toeplitz share, how
much of the scores, averaged over tokens, is a function of distance alone; previous-token and induction heads (Olsson et
al. 2022) and what ablating them adds to the loss; the loss without positions, and the share of a previous-token score
that each rotary frequency accounts for (cf. Barbero et al. 2024, arXiv 2410.06205); the loss beyond the context.

Public checkpoints differ in many things at once. The lab variants lab/gpt2 and lab/pythia-sequential differ in their
position encoding alone, lab/pythia also in its parallel block, and lab/nope has no positions. Expect that shifts change
absolute models and no rotary one, and that both encodings have previous-token and induction heads with an effect.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go
import xarray as xr

from neolens import figures, report
from neolens.stats.contrasts import contrast_table, recorded
from neolens.studies import inputs, settings
from neolens.studies.models import Models
from neolens.studies.rotary_vs_absolute import findings as position_findings
from neolens.studies.rotary_vs_absolute import measure as position_measure
from neolens.studies.rotary_vs_absolute.figures import divergence_by_shift
from neolens.studies.rotary_vs_absolute.measure import Texts, over_seeds, probe
from neolens.studies.rotary_vs_absolute.summary import Encoding, contrasts, shift_deviation
from neolens.studies.rotary_vs_absolute.tables import head_table, measure_table
from neolens.studies.settings import MODELS, OUT, setting
from neolens.studies.study import ExactCheck, Measured, Prepared, Study, StudyConfig, Summary

CONTEXT = (
    "Every network reads random and repeated token sequences: unchanged, with every position index shifted, without "
    "positions, and past its context. Variants whose position encodings differ are compared seed by seed."
)
LIMITS = (
    "A difference between models that differ in more than position encoding is not yet an effect of it.",
    "With few seeds only large differences are significant; a non-significant one is not evidence of equality.",
    "Effects that end at chance level or at a ceiling are not compared.",
)
MEASURED = (
    "Means over seeds, with Student's 95 % intervals. Shares explained by distance are Toeplitz shares of scores "
    "averaged over tokens, means over heads with variance above noise; within rows: without the constants per query "
    "that do not change a softmax. Heads with a role are ablated together, and compared with 19 random groups of as "
    "many other heads. Positions are removed by the mean of the learned embeddings at every token, or by not rotating."
)
COMPARED = (
    "Differences seed by seed, of variants that differ in position encoding alone (of all, where there are none). p: "
    "Student's t, corrected for all rows that have one (Benjamini and Hochberg)."
)
HEADS = (
    "Heads with a role by their pattern, and what mean ablation of each adds to the loss where the second copy is "
    "predicted, compared with random heads of its layer without its roles. p: sign flips of prompts, corrected for all "
    "heads of the network that were ablated. A pattern is not yet a cause."
)
SECTIONS: dict[str, dict[Any, str]] = {
    position_findings.SHIFT: {figures.shift_by_distance: "shift_logits"},
    position_findings.DISTANCE: {figures.toeplitz_shares: "toeplitz_share", figures.distance_kernels: "kernel"},
    position_findings.HEADS: {figures.pattern_and_cause: "more", figures.band_shares: "taken_away"},
    position_findings.BEYOND: {figures.loss_beyond: "loss_beyond"},
}
"""Heading -> its figures, and the variable that each draws."""


@dataclass(frozen=True, kw_only=True)
class Config(StudyConfig):
    models: tuple[str, ...] = setting(
        ("lab/gpt2", "lab/pythia-sequential", "lab/pythia", "lab/nope"),
        MODELS,
    )
    out: str = setting("results/rotary_vs_absolute", OUT)
    prompts: int = setting(
        16,
        "prompts of repeated sequences, and eight times as many random ones",
        least=settings.ENOUGH,
    )
    seed: int = setting(0, "seed of the prompts")


def prepare(config: Config, models: Models) -> Prepared:
    """The prompts of every model in its own tokens."""
    texts, readings = {}, []
    for name in models.networks:
        model = models.load(name)
        draw: Any = {"prompts": config.prompts, "seed": config.seed, "prepend_bos": inputs.has_bos(model)}
        texts[name] = position_measure.texts(model, **draw)
        readings.append(inputs.summary(model, repeats=[texts[name].repeats.shape[1] // 2]))
    return Prepared(texts, readings)


def parts(texts: Texts, config: Config) -> list[str]:
    return ["positions"]


def measure(model: Any, texts: Texts, config: Config) -> Iterator[tuple[str, xr.Dataset]]:
    """Every probe of positions."""
    yield "positions", probe(model, texts)


def summarise(measured: Measured) -> Summary:
    """All networks of each model as one, and the differences between variants."""
    found = [
        Encoding(
            measured.anatomy(name),
            over_seeds([parts["positions"] for parts in by_seed.values()], list(by_seed)),
        )
        for name, by_seed in measured.results.items()
    ]
    compared = contrasts(found)
    shifted = {one.name: one.result for one in found if "shift_kl" in one.result}
    return Summary(
        findings=position_findings.findings(found, compared),
        warnings=position_findings.warnings(found),
        figure=report.Figure(divergence_by_shift(shifted)) if shifted else None,
        results={one.name: one.result for one in found},
        record={"contrasts": [recorded(one) for one in compared]},
        content=(found, compared),
    )


def exact_checks(measured: Measured, summary: Summary) -> Iterator[ExactCheck]:
    """Rotary scores depend on distance alone, so a shift of all positions changes no logit."""
    for one in summary.content[0]:
        deviation = shift_deviation(one)
        if deviation is not None and deviation.notnull().any():
            claim = "largest change of a logit by a shift of all positions, in float64 and beyond rounding"
            yield ExactCheck(claim, float(deviation.max()), subject=one.name)


def sections(measured: Measured, summary: Summary) -> Iterator[report.Block]:
    """The figures of each measurement with its tables, and the differences between variants."""
    found, compared = summary.content
    tables: list[report.Block] = [report.Table(*measure_table(found), caption=MEASURED)]
    for heading in SECTIONS:
        if drawings := _drawn(found, heading):
            yield report.Heading(heading)
            yield from (report.Figure(one) for one in drawings)
        if heading == position_findings.SHIFT:
            yield report.Heading(position_findings.DIFFERENCES)
            if compared:
                yield report.Figure(figures.differences_by_measure(compared))
                tables.append(report.Table(*contrast_table(compared), caption=COMPARED))
            yield report.Folded("Every measure of every variant, and every difference, as numbers", tables)
        if heading == position_findings.HEADS:
            yield report.Folded("Every head with a role", [report.Table(*head_table(found), caption=HEADS)])


def drawn(found: Sequence[Encoding]) -> list[report.Block]:
    """All figures, those that there is something to draw in."""
    return [report.Figure(one) for heading in SECTIONS for one in _drawn(found, heading)]


def _drawn(found: Sequence[Encoding], heading: str) -> list[go.Figure]:
    by_name = {one.name: one.result for one in found}
    chosen = [
        draw(by_name)
        for draw, variable in SECTIONS[heading].items()
        if any(variable in result for result in by_name.values())
    ]
    return [one for one in chosen if len(figures.data(one))]


STUDY = Study(
    name="rotary_vs_absolute",
    question="What does rotary position encoding do that learned absolute positions do not?",
    title="Rotary against absolute positions",
    context=CONTEXT,
    limits=LIMITS,
    config=Config,
    prepare=prepare,
    parts=parts,
    measure=measure,
    summarise=summarise,
    sections=sections,
    exact_checks=exact_checks,
    asks_about="position",
)
