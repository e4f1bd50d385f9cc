"""The report of `experiments.compare`: a summary first, then a section a question, drawn from results alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from experiments import ioi, local_vs_global, rotary_vs_absolute
from neolens import circuits, encodings, figures, findings, report, views
from neolens.circuits import crossing_tables, crossing_words, need_tables
from neolens.comparison import TASK, Found, measures, mixed, numbers, split_of, words
from neolens.models.describe import differences, differences_title, side_by_side
from neolens.near_far import NearFar
from neolens.stats.contrasts import Contrast, contrast_table, measure_table

INTRODUCTION = (
    "GPT-2 is global and absolute, GPT-Neo alternates global with local layers, Pythia is global and rotary. What do "
    "local layers do that global ones do not, and rotary positions that absolute ones do not? The summary says what "
    "the numbers below say, and no more; every figure can be saved as CSV."
)
MEASURED = "Means over seeds, with Student's 95 % intervals; n: seeds, where not all have one."
COMPARED = (
    "Differences seed by seed, of arms that differ in {} alone (of all that differ in it, where there are none). p: "
    "Student's t, corrected for all rows that have one (Benjamini and Hochberg)."
)
KINDS = "Means over the heads and layers of a kind and over prompts, then over seeds, with Student's 95 % intervals."
FIRST = "Of the first network of each model."

Record = Mapping[str, Any]


def page(found: Sequence[Found], noted: Record, command: str) -> str:
    """The report of everything that was measured.

    Args:
        noted: the record that stands beside the results.
        command: what makes them again.
    """
    contrasts = words.contrasted(found)
    return report.page(
        "Local against global attention, rotary against absolute positions",
        [
            report.Paragraph(INTRODUCTION),
            *summary(found, noted, contrasts),
            *what_they_are(found),
            *where_they_look(found, noted),
            *beyond_the_window(found),
            *without_a_kind(found),
            *positions(found),
            *indirect_object(found),
            *patterns(found),
            report.Heading("How to repeat this"),
            report.Code(command),
            report.Code(report.as_json(noted), summary="The record: settings, weights, versions, findings"),
        ],
    )


def summary(
    found: Sequence[Found], noted: Record, contrasts: tuple[Sequence[Contrast], Sequence[Contrast]]
) -> Iterator[report.Block]:
    """What was found, question by question, and the measures side by side."""
    on_attention, on_positions = contrasts
    yield report.Heading("Summary")
    if note := _split(found).note:
        yield report.Paragraph(note)
    for question, sentences in words.summary(found, contrasts).items():
        yield report.Note("\n\n".join(sentences), "finding", title=question)
    if warnings := [*noted.get("notes", []), *words.warnings(found, noted["left_out"])]:
        yield report.Note("\n\n".join(warnings), "warning")
    arms, asked = [numbers(one, _alternating(found)) for one in found], measures(_alternating(found), split_of(found))
    yield report.Figure(figures.measures_by_arm(arms, asked, "attention"))
    yield report.Folded(
        "Every measure as a number",
        [
            report.Table(*measure_table(arms, asked, "attention"), caption=MEASURED),
            report.Table(*encodings.measure_table([one.encoding for one in found]), caption=MEASURED),
        ],
    )
    for one, what in ((on_attention, "attention"), (on_positions, "positions")):
        if one:
            yield report.Figure(figures.differences_by_measure(one), COMPARED.format(what))
            yield report.Folded("These differences as numbers", [report.Table(*contrast_table(one))])


def what_they_are(found: Sequence[Found]) -> Iterator[report.Block]:
    """The models side by side, and what is confounded."""
    anatomies = [one.facts for one in found]
    yield report.Heading("What the models are made of")
    yield report.Table(*side_by_side(anatomies))
    yield report.Heading("What is confounded and what is not")
    for question in ("attention", "position"):
        told = [differences_title(anatomies, question), *differences(anatomies, question)]
        yield report.Paragraph(f"Asked about {question}. " + "\n\n".join(told))
        alone = [f"{a} and {b}" for a, b in words.alone(found, question)]
        yield report.Paragraph(
            f"Pairs that differ in {question} alone: {'; '.join(alone) or 'none, so no difference has this one cause'}."
        )


def where_they_look(found: Sequence[Found], noted: Record) -> Iterator[report.Block]:
    """Attention by kind of layer, on text and on repeated sequences."""
    scores = {one.name: one.first["attention"] for one in found}
    inside = int(found[0].first["ablation_repeats"]["distance"].min()) + 1
    on_repeats = local_vs_global.on_repeats(scores, "", inside)
    yield report.Heading("Where local and global layers look")
    if sources := dict.fromkeys(its["text"]["source"] for its in noted.get("inputs", {}).values()):
        yield report.Paragraph(f"Text: {'; '.join(sources)}.")
    yield report.Table(*findings.law_table(words.attentions(found)))
    yield report.Figure(figures.mass_by_distance(scores), f"Where attention lies. {FIRST}")
    yield report.Figure(figures.scores_by_kind(scores, local_vs_global.TEXT_SCORES), f"Every head on text. {FIRST}")
    yield report.Folded(
        "Head by head, and the means of each kind",
        [
            report.Figure(figures.heads(scores, "mean_distance"), f"On text. {FIRST}"),
            report.Figure(figures.heads(on_repeats, "induction"), f"Repeated after {inside} tokens. {FIRST}"),
            report.Table(*words.kind_table(found), caption=KINDS),
        ],
    )


def beyond_the_window(found: Sequence[Found]) -> Iterator[report.Block]:
    """Which layers bring an answer from beyond the window, at each distance."""
    carriers = [one.carriers for one in found if one.carriers is not None]
    if not carriers:
        return
    yield report.Heading(f"What reaches beyond {_split(found).short}")
    held = {one.name: one.results[TASK] for one in carriers}
    yield report.Figure(figures.recall_by_distance({one.name: one.results for one in carriers}))
    yield report.Figure(figures.narrowing_by_distance(held))
    yield report.Folded(
        "Model by model: where the answer stands, and what each change takes away",
        [
            *(report.Paragraph(text) for one in carriers for text in crossing_words.findings(one)),
            report.Figure(figures.places_by_distance(held)),
            report.Table(*crossing_tables.change_table(carriers, TASK)),
        ],
    )


def without_a_kind(found: Sequence[Found]) -> Iterator[report.Block]:
    """What ablating the layers of a kind does, beside as many random heads."""
    yield report.Heading("What is lost without the layers of a kind")
    split = _split(found)
    titles = {"beyond": f"Answers {split.beyond}", "cut": f"The same, heads only cut at {split.short}", "text": "Text"}
    for one in found:
        need = one.needs[0]
        blocks: list[report.Block] = [report.Table(*need_tables.kind_table(need), caption=need_tables.KINDS)]
        blocks += [
            report.Figure(figures.ablation_groups(need.groups[name]), f"{title}. Random heads: the mean of the draws.")
            for name, title in titles.items()
        ]
        yield report.Folded(f"{one.name}: its layers and kinds of layers, the first network", blocks)


def positions(found: Sequence[Found]) -> Iterator[report.Block]:
    """The shift, the Toeplitz share, roles by pattern and by cause, rotary bands, and texts beyond the context."""
    every = [one.encoding for one in found]
    yield report.Heading("What positions do, and which heads hold which role")
    yield from (report.Paragraph(text) for text in encodings.in_detail(every))
    yield from rotary_vs_absolute.drawn(every)
    yield report.Folded(
        "Every head that holds a role, and what ablating it does",
        [report.Table(*encodings.head_table(every), caption=rotary_vs_absolute.HEADS)],
    )


def indirect_object(found: Sequence[Found]) -> Iterator[report.Block]:
    """How well networks find the indirect object, and the heads that do."""
    able = [one for one in found if one.circuits]
    if not able:
        return
    yield report.Heading("Who finds the indirect object")
    yield report.Table(*circuits.task_table([one.circuits[0] for one in able]), caption=FIRST)
    yield report.Folded("The head that moves most, in every network", [report.Table(*words.strongest_table(able))])
    for one in able:
        its = one.circuits[0]
        blocks: list[report.Block] = [
            report.Paragraph(circuits.finding(its)),
            report.Table(*circuits.head_table(its), caption=ioi.HEADS),
            *([report.Table(*circuits.published_table(its), caption=ioi.ROLES)] if its.roles else []),
            *(report.Figure(figures.patch_heatmap(its_site)) for its_site in _maps(its)),
        ]
        yield report.Folded(f"{one.name}: its heads, the first network", blocks)


def patterns(found: Sequence[Found]) -> Iterator[report.Block]:
    """The patterns of the most inductive heads of each kind of layer."""
    yield report.Heading(f"Attention patterns across {_split(found).short}")
    for one in found:
        its = one.first["patterns"]
        labels = [str(name) for name in its["group"].values]
        view = views.attention_view(its["token"].values.tolist(), its["pattern"].values, labels, title=one.name)
        caption = (
            f"{one.name}, the first network: the two heads of each kind of layer with the highest induction score."
        )
        yield report.Figure(view, caption)


def _maps(its: circuits.Circuit) -> list[Any]:
    return [circuits.of_site(its.result, "resid_pre"), circuits.of_site(its.result, "z").sel(pos=["end"])]


def _split(found: Sequence[Found]) -> NearFar:
    """The distance that separates near from far in titles and captions."""
    return split_of(found) or NearFar(0, "")


def _alternating(found: Sequence[Found]) -> Any:
    return mixed([one.facts for one in found])
