"""Which heads find the indirect object, and through what?

After "When Mary and John went to the market, John gave the ring to" comes Mary. In GPT-2 small, Wang et al. 2022
(arXiv 2211.00593) found heads that notice at the second John (s2) that he was named before, heads that move this to
the end (S-inhibition), and heads that then copy Mary (name movers). Here one activation at a time is patched in any of
the models: the residual stream, and z, q, k and v of every head, at both names (io, s1), at s2 and at the end. Heads
are ranked by how much of the answer they move, and for gpt2 the published heads are marked.

In the corrupted prompt a third name is at s2 ("other"), so that nobody is named twice. The published analysis does the
same, but also exchanges the first two names (p_ABC). Here the two prompts are the same up to s2: patches before it have
effect 0, and heads that act there (previous token) cannot show. With "swap" Mary is at s2 and the answer becomes John.
Denoising shows what suffices, noising what is needed (Heimersheim and Nanda 2024, arXiv 2404.15255); in noising, backup
name movers replace a name mover that is lost. The lab models take about ten seconds of one core, gpt2 two minutes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from neolens import figures, report
from neolens.checks import check_choice, check_whole
from neolens.patching import patch
from neolens.patching.sweep import DIRECTIONS
from neolens.prompts import PromptPairs, indirect_object
from neolens.prompts.families.questions import CORRUPTIONS
from neolens.studies import inputs, settings
from neolens.studies.ioi import findings as ioi_findings
from neolens.studies.ioi import summary as ioi_summary
from neolens.studies.ioi.figures import strongest_heads
from neolens.studies.ioi.summary import SITES, Circuit, changed_position, joined, of_site
from neolens.studies.ioi.tables import HEADS, ROLES, head_table, published_table, task_table
from neolens.studies.models import Models
from neolens.studies.own_pairs import check_file, pairs_setting, read_own
from neolens.studies.settings import MODELS, OUT, setting
from neolens.studies.study import ExactCheck, Measured, Prepared, Study, StudyConfig, Summary

POSITIONS = ("io", "s1", "s2", "end")
"""Of the family: both names, the second mention of the one who gives, and the token that predicts the answer."""

OWN_POSITIONS = ("changed", "end")
"""Of pairs of a user's own: the first token in which the prompts of a pair differ, and the last one."""

DRAWN = (("z", "end"), ("q", "end"), ("z", "s2"), ("k", "s2"), ("v", "s2"))
"""The maps of heads: site and position; in pairs of a user's own `changed` in place of s2."""

CONTEXT = (
    "One activation at a time is patched ({direction}): the residual stream, and z, q, k and v of every head, at "
    "{positions}. A share is how much of the difference between the clean and the corrupted mean logit difference a "
    "patch moves."
)
OWN_PROMPTS = "The prompts are those of {file}: pairs of a clean and a corrupted prompt. "
ASKED = "the names (io, s1), at the second mention of the giver (s2) and at the end, which predicts the indirect object"
OWN_PLACES = "the first token in which the prompts of a pair differ (changed) and at the end, which predicts the answer"

LIMITS = (
    "Intervals are over prompts: they do not cover variation between trained models.",
    "A patch moves everything that follows from it: shares of several heads need not add up.",
    "Denoising shows what suffices, noising what is needed; tokens before the first that differs cannot show.",
)

STRONGEST = (
    "The heads of each model that move most by their output (z, with its 95 % interval), and what their inputs move: q "
    "at the end, k and v at the position where they move most."
)
MAPS = {
    "denoise": "Patched less corrupted mean logit difference; maps of heads are on one scale.",
    "noise": "Patched less clean mean logit difference, negative where a head is needed (in the table the sign is "
    "reversed); maps of heads are on one scale.",
}


@dataclass(frozen=True, kw_only=True)
class Config(StudyConfig):
    models: tuple[str, ...] = setting(
        ("lab/gpt2", "lab/gpt-neo", "lab/pythia"),
        MODELS + "; a model whose tokenizer does not have the words is left out",
    )
    out: str = setting("results/ioi", OUT)
    prompts: int = setting(32, "pairs of prompts for each model", replaced_by="pairs")
    seed: int = setting(0, "seed of the prompts", replaced_by="pairs")
    corruption: str = setting(
        "other", "what stands at s2 in the corrupted prompt: other (a third name) or swap", replaced_by="pairs"
    )
    direction: str = setting("denoise", "denoise puts clean activations into the corrupted run, noise the reverse")
    distance: int | None = setting(
        None,
        "tokens from the indirect object to the end; by default 12 in the lab, in English those of the sentence",
        replaced_by="pairs",
    )
    pairs: str | None = pairs_setting("prompts, seed, corruption and distance")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice(self.corruption, "corruption", CORRUPTIONS)
        check_choice(self.direction, "direction", DIRECTIONS)
        if self.distance is not None:
            settings.update(self, distance=check_whole(self.distance, "distance", 1, settings.FARTHEST, unit="tokens"))


def prepare(config: Config, models: Models) -> Prepared:
    """The pairs of every model that can be asked in words; pairs of a user's own have to be read by every model."""
    if config.pairs is not None:
        check_file(config.pairs)
    pairs, readings = {}, []
    for name in models.networks:
        model = models.load(name)
        reason = inputs.unreadable(model, indirect_object) if config.pairs is None else None
        if reason is None:
            pairs[name] = ask(model, config)
        readings.append(inputs.summary(model, left_out={} if reason is None else {"the indirect object": reason}))
    return Prepared(pairs, readings)


def ask(model: Any, config: Config) -> PromptPairs:
    """The pairs of one model."""
    if config.pairs is not None:
        return read_own(model, config.pairs)
    how: Any = {"corruption": config.corruption, "distance": config.distance, "seed": config.seed}
    try:
        return indirect_object(model, config.prompts, prepend_bos=inputs.has_bos(model), **how)
    except ValueError as error:
        raise ValueError(f"{model.anatomy.name}: {error}") from error


def parts(pairs: PromptPairs, config: Config) -> tuple[str, ...]:
    return SITES


def measure(model: Any, pairs: PromptPairs, config: Config) -> Iterator[tuple[str, xr.Dataset]]:
    """Every site, patched at every named position."""
    positions = POSITIONS if config.pairs is None else OWN_POSITIONS
    for site in SITES:
        yield site, patch(model, pairs, site, positions=positions, direction=config.direction, progress=False)


def summarise(measured: Measured) -> Summary:
    """The strongest heads of each model."""
    config = measured.config
    attributes: dict[str, Any] = {"seed": config.seed, "corruption": config.corruption}
    attributes |= {} if config.distance is None else {"distance": config.distance}
    if config.pairs is not None:
        attributes = {"pairs": config.pairs}
    by_model = {
        name: ioi_summary.circuit(joined(by_site).assign_attrs(attributes), measured.anatomy(name))
        for name, by_site in measured.first.items()
    }
    published = {name: [asdict(row) for row in circuit.compared] for name, circuit in by_model.items()}
    question = "" if config.pairs is None else title(measured)
    able = [circuit for circuit in by_model.values() if ioi_summary.solves(circuit)]
    return Summary(
        findings=[replace(one, question=question) for one in ioi_findings.findings(list(by_model.values()))],
        figure=report.Figure(strongest_heads(able), STRONGEST) if able else None,
        warnings=[warning for circuit in by_model.values() for warning in ioi_findings.warnings(circuit)],
        results={name: circuit.result for name, circuit in by_model.items()},
        record={"published": {name: rows for name, rows in published.items() if rows}},
        content=by_model,
    )


def context(measured: Measured) -> str:
    """What was patched, and where."""
    config = measured.config
    start, positions = ("", ASKED) if config.pairs is None else (OWN_PROMPTS.format(file=config.pairs), OWN_PLACES)
    return start + CONTEXT.format(direction=config.direction, positions=positions)


def exact_checks(measured: Measured, summary: Summary) -> Iterator[ExactCheck]:
    """Patches before s2, where the two prompts do not differ, change nothing; of pairs of a user's own no position
    before the difference is patched."""
    if measured.config.pairs is not None:
        return
    for name, by_site in measured.first.items():
        unpatched = "corrupted" if measured.config.direction == "denoise" else "clean"
        before = [abs(site["patched"].sel(pos=["io", "s1"]) - site[unpatched]).max() for site in by_site.values()]
        yield ExactCheck("the largest effect of a patch before s2", float(np.max(before)), subject=name)


def sections(measured: Measured, summary: Summary) -> Iterator[report.Block]:
    """How well the models do the task; of each two maps, the published heads where there are some, the rest folded."""
    circuits: dict[str, Circuit] = summary.content
    if circuits:
        yield report.Heading("How well they do the task")
        yield report.Table(*task_table(list(circuits.values())))
    for name, circuit in circuits.items():
        stream, first, *others = maps(circuit.result)
        yield report.Heading(name)
        yield from (stream, first)
        yield report.Paragraph(MAPS[measured.config.direction])
        if circuit.roles:
            yield report.Table(*published_table(circuit), caption=ROLES)
        yield report.Folded("Its strongest heads as numbers", [report.Table(*head_table(circuit), caption=HEADS)])
        yield report.Folded("Maps of q, k and v, and of z where the prompts begin to differ", others)


def maps(result: xr.Dataset) -> list[report.Figure]:
    """The maps of one model, those by head on one scale, so that equal colours are equal effects."""
    stream = figures.patch_heatmap(of_site(result, "resid_pre"))
    places = {"s2": changed_position(result)}
    heads = [of_site(result, site).sel(pos=[places.get(at, at)]) for site, at in DRAWN]
    largest = max(figures.largest_effect(effects) for effects in heads)
    return [
        report.Figure(drawn)
        for drawn in (stream, *(figures.patch_heatmap(effects, limit=largest) for effects in heads))
    ]


def title(measured: Measured) -> str:
    """What the report is about."""
    if measured.config.pairs is None:
        return "The indirect object"
    return f"Which heads answer the prompts of {Path(measured.config.pairs).name}"


STUDY = Study(
    name="ioi",
    question="Which heads find the indirect object, and through what?",
    title=title,
    context=context,
    limits=LIMITS,
    config=Config,
    prepare=prepare,
    parts=parts,
    measure=measure,
    summarise=summarise,
    sections=sections,
    exact_checks=exact_checks,
    seeds="first",
)
