"""The whole question in a few sentences, said only as far as the numbers say it.

Seeds are the sample: what is said of an arm is the mean over its networks with Student's interval, and arms are told
apart seed by seed, corrected for all that is compared. What single instruments say in full stands in the sections of
the report.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import xarray as xr

from neolens.checks.annotations import checked
from neolens.models.describe import differences
from neolens.patching.effects import ranked
from neolens.scores import by_kind
from neolens.stats import seeds
from neolens.stats.contrasts import Contrast, in_short, kind, recorded
from neolens.studies.compare import answers
from neolens.studies.compare.found import TASK, Found
from neolens.studies.compare.measures import SCORE_BOUNDS, compared, split_of
from neolens.studies.head_ablation import text as need_text
from neolens.studies.ioi import text as ioi_text
from neolens.studies.ioi.text import solves
from neolens.studies.local_vs_global import text as attention_text
from neolens.studies.rotary_vs_absolute import summary as position_summary
from neolens.studies.rotary_vs_absolute import text as position_text
from neolens.studies.study import ExactCheck, Measured, Summary
from neolens.studies.window_reach import text as reach_text

Row = list[str | int | float | None]
Contrasts = tuple[Sequence[Contrast], Sequence[Contrast]]
"""Between variants that differ in attention alone, and in positions alone."""


def summarise(measured: Measured) -> Summary:
    """The variants, the differences between them, and the answers that both give."""
    found = [Found(by_seed, measured.anatomies) for by_seed in measured.results.values()]
    contrasts = contrasted(found)
    left_out = {name: inputs.get("left_out", {}) for name, inputs in measured.inputs.items()}
    return Summary(
        findings=findings(found, contrasts),
        figure=first_figure(found, contrasts),
        warnings=warnings(found, left_out),
        record={"contrasts": [recorded(contrast) for both in contrasts for contrast in both]},
        content=(found, contrasts),
    )


def exact_checks(measured: Measured, summary: Summary) -> Iterator[ExactCheck]:
    """The laws of windows, in every network."""
    found, _ = summary.content
    return (
        ExactCheck(law, value, zero, subject=name) for name, law, value, zero in window_laws(attentions(found))
    )


@checked
def attentions(found: Sequence[Found]) -> dict[str, xr.Dataset]:
    """Network -> its scores, of all arms and seeds."""
    return {
        name: parts["attention"]
        for one in found
        for name, parts in zip(one.fingerprints(), one.networks.values(), strict=True)
    }


@checked
def kind_table(found: Sequence[Found]) -> tuple[list[str], list[Row]]:
    """Header and a row for each model, kind of layer and score: the mean over heads, layers and prompts, then seeds."""
    header = ["model, layers", "score", "mean over seeds", "low", "high", "seeds", "seed by seed"]
    rows: list[Row] = []
    for one in found:
        each = [by_kind(parts["attention"], one.window) for parts in one.networks.values()]
        for its_kind in each[0]["attention_kind"].values.tolist():
            for score, title in attention_text.column_titles(one.near_far).items():
                values = np.array([float(its[score].sel(attention_kind=its_kind)) for its in each])
                its = seeds.mean_ci(values, SCORE_BOUNDS[score])
                row: Row = [f"{one.name}, {its_kind}", title, its.mean, its.low, its.high, its.n]
                rows.append([*row, seeds.each_seed(its, ".2g")])
    return header, rows


@checked
def contrasted(found: Sequence[Found]) -> tuple[list[Contrast], list[Contrast]]:
    """The differences between arms that differ in attention alone, and in positions alone."""
    return compared(found), position_summary.contrasts([one.encoding for one in found])


@checked
def alone(found: Sequence[Found], question: str) -> list[tuple[str, str]]:
    """The pairs of models that differ in what is asked, "attention" or "position", and in nothing else."""
    return [
        (one.name, other.name)
        for at, one in enumerate(found)
        for other in found[at + 1 :]
        if kind(one.facts, question) != kind(other.facts, question)
        and not differences([one.facts, other.facts], question)
    ]


@checked
def strongest_table(found: Sequence[Found]) -> tuple[list[str], list[Row]]:
    """Header and a row for each network that finds the indirect object: the head whose output at the end moves most."""
    header = ["network", "head", "layer", "share of the logit difference", "95 % interval over prompts"]
    rows: list[Row] = []
    for one in found:
        for seed, its in zip(one.seeds, one.circuits):
            if solves(its):
                end = its.shares["z"].sel(pos="end")
                head = ranked(end["share"])[0]
                layer, number = map(int, head.split("."))
                at = end.sel(layer=layer, head=number)
                interval = f"{float(at['low']):.2f} to {float(at['high']):.2f}"
                network = f"{one.name}, seed {seed}"
                rows.append([network, head, str(one.facts.attention[layer]), float(at["share"]), interval])
    return header, rows
