"""The whole question in a few sentences, said only as far as the numbers say it.

Seeds are the sample: what is said of a variant is the mean over its networks with Student's interval, and variants are
compared seed by seed, corrected for all that is compared. What single instruments say in full stands in the sections of
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
from neolens.studies.head_ablation import findings as need_findings
from neolens.studies.ioi import findings as ioi_findings
from neolens.studies.ioi.summary import solves
from neolens.studies.local_vs_global import text as attention_text
from neolens.studies.rotary_vs_absolute import summary as position_summary
from neolens.studies.rotary_vs_absolute import text as position_text
from neolens.studies.study import ExactCheck, Measured, Summary
from neolens.studies.window_reach import text as reach_text

Row = list[str | int | float | None]
Contrasts = tuple[Sequence[Contrast], Sequence[Contrast]]
"""Between variants that differ in attention alone, and in positions alone."""


def summarise(measured: Measured) -> Summary:
    """The variants, the differences between them, and what both say."""
    found = [Found(by_seed, measured.anatomies) for by_seed in measured.results.values()]
    contrasts, split = contrasted(found), split_of(found)
    answered = by_question(found, contrasts)
    return Summary(
        findings=[sentence for sentences in answered.values() for sentence in sentences],
        warnings=warnings(found, {name: inputs.get("left_out", {}) for name, inputs in measured.inputs.items()}),
        record={"contrasts": [recorded(contrast) for both in contrasts for contrast in both]},
        content=(found, contrasts),
        titled=answered,
        note=split.note if split else None,
    )


def exact_checks(measured: Measured, summary: Summary) -> Iterator[ExactCheck]:
    """The laws of windows, in every network."""
    found, _ = summary.content
    return (
        ExactCheck(f"{name}: {law}", value, zero) for name, law, value, zero in attention_text.laws(attentions(found))
    )


@checked
def by_question(found: Sequence[Found], contrasts: Contrasts) -> dict[str, list[str]]:
    """What is said first: question -> its answer in sentences; a question without an answer is left out.

    Args:
        contrasts: of `contrasted`.
    """
    on_attention, on_positions = contrasts
    alternating = [one for one in found if kind(one.anatomy, "attention") == "global and local"]
    said = {
        "What do local layers do that global ones do not?": [
            answers.laws(attentions(found)),
            *(answers.where_they_look(one) for one in alternating),
            *(answers.without_a_kind(one) for one in alternating),
            *answers.carried(found),
            *in_short(on_attention),
        ],
        "What do rotary positions do that absolute ones do not?": [
            *answers.moved(found),
            *answers.by_distance_alone(found),
            *answers.onward(found),
            *in_short(on_positions),
        ],
        "Who finds the indirect object?": answers.who_finds(found),
    }
    return {question: sentences for question, sentences in said.items() if sentences}


@checked
def attentions(found: Sequence[Found]) -> dict[str, xr.Dataset]:
    """Network -> its scores, of all variants and seeds."""
    return {
        name: parts["attention"]
        for one in found
        for name, parts in zip(one.fingerprints(), one.networks.values(), strict=True)
    }


@checked
def warnings(found: Sequence[Found], left_out: Mapping[str, Mapping[str, str]]) -> list[str]:
    """What keeps numbers from meaning what they seem to mean, and what a model could not be asked, model by model.

    Args:
        left_out: model -> part -> why.
    """
    if not found:
        return []
    said = [
        f"{model} was not asked for {_TITLES.get(part, part)}: {reason}"
        for model, parts in left_out.items()
        for part, reason in parts.items()
    ]
    said += attention_text.warnings({one.name: one.first["attention"] for one in found}, found[0].window)
    said += position_text.warnings([one.encoding for one in found])
    said += [text for one in found for text in _unable(one)]
    names = [one.name for one in found]
    of = [next((at for at, its in enumerate(names) if re.match(rf"{re.escape(its)}[ ,:@]", text)), 0) for text in said]
    return list(dict.fromkeys(text for _, text in sorted(zip(of, said), key=lambda its: its[0])))


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
    """The differences between variants that differ in attention alone, and in positions alone."""
    return compared(found), position_summary.contrasts([one.encoding for one in found])


@checked
def alone(found: Sequence[Found], question: str) -> list[tuple[str, str]]:
    """The pairs of models that differ in what is asked, "attention" or "position", and in nothing else."""
    return [
        (one.name, other.name)
        for at, one in enumerate(found)
        for other in found[at + 1 :]
        if kind(one.anatomy, question) != kind(other.anatomy, question)
        and not differences([one.anatomy, other.anatomy], question)
    ]


_TITLES = {"reach": f"{TASK} at several distances", "circuit": "the indirect object"}


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
                rows.append([network, head, str(one.anatomy.attention[layer]), float(at["share"]), interval])
    return header, rows


def _unable(one: Found) -> list[str]:
    said = [warning.text for its in one.circuits for warning in ioi_findings.warnings(its)]
    said += reach_text.warnings(one.carriers) if one.carriers is not None else []
    return said + [warning.text for need in one.needs for warning in need_findings.warnings(need)]
