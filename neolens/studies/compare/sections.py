"""What the report draws: the measures side by side first, then a section per question, from results alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from neolens import figures, report, views
from neolens.models.describe import differences, differences_title
from neolens.near_far import NearFar
from neolens.stats.contrasts import contrast_table, measure_table
from neolens.studies import inputs
from neolens.studies.compare.found import TASK, Found
from neolens.studies.compare.measures import measures, mixed, numbers, split_of
from neolens.studies.compare.summary import Contrasts, alone, attentions, kind_table, strongest_table
from neolens.studies.finding import sentence
from neolens.studies.head_ablation import tables as need_tables
from neolens.studies.ioi.findings import of_model
from neolens.studies.ioi.summary import Circuit, of_site
from neolens.studies.ioi.tables import HEADS, ROLES, head_table, published_table, task_table
from neolens.studies.local_vs_global import text as attention_text
from neolens.studies.local_vs_global.study import TEXT_SCORES, on_repeats
from neolens.studies.rotary_vs_absolute import text as position_text
from neolens.studies.rotary_vs_absolute.study import HEADS as ROLE_HEADS
from neolens.studies.rotary_vs_absolute.study import drawn
from neolens.studies.rotary_vs_absolute.text import in_detail
from neolens.studies.study import Measured, Summary
from neolens.studies.window_reach import tables as reach_tables
from neolens.studies.window_reach import text as reach_text

MEASURED = "Means over seeds, with Student's 95 % intervals; n: seeds, where not all have one."
COMPARED = (
    "Differences seed by seed, of variants that differ in {} alone (of all that differ in it, where there are none). "
    "p: Student's t, corrected for all rows that have one (Benjamini and Hochberg)."
)
KINDS = "Means over the heads and layers of a kind and over prompts, then over seeds, with Student's 95 % intervals."
FIRST = "Of the first network of each model."


def sections(measured: Measured, summary: Summary) -> Iterator[report.Block]:
    """The measures side by side, then a section for each question."""
    found, contrasts = summary.content
    yield from differences_in_measures(found, contrasts)
    yield from confounds(found)
    yield from where_they_look(found, inputs.described(measured.inputs))
    yield from beyond_the_window(found)
    yield from without_a_kind(found)
    yield from positions(found)
    yield from indirect_object(found)
    yield from patterns(found)


def differences_in_measures(found: Sequence[Found], contrasts: Contrasts) -> Iterator[report.Block]:
    """Every measure of every variant, and the differences between variants."""
    yield report.Heading("Measures")
    alternating = mixed([one.anatomy for one in found])
    variants, asked = [numbers(one, alternating) for one in found], measures(alternating, split_of(found))
    yield report.Figure(figures.measures_by_variant(variants, asked, "attention"))
    yield report.Folded(
        "Every measure as a number",
        [
            report.Table(*measure_table(variants, asked, "attention"), caption=MEASURED),
            report.Table(*position_text.measure_table([one.encoding for one in found]), caption=MEASURED),
        ],
    )
    for contrast, what in zip(contrasts, ("attention", "positions")):
        if contrast:
            yield report.Figure(figures.differences_by_measure(contrast), COMPARED.format(what))
            yield report.Folded("These differences as numbers", [report.Table(*contrast_table(contrast))])


def confounds(found: Sequence[Found]) -> Iterator[report.Block]:
    """What is confounded with positions, and which pairs differ in one thing alone."""
    anatomies = [one.anatomy for one in found]
    yield report.Heading("What is confounded and what is not")
    on_positions = [differences_title(anatomies, "position"), *differences(anatomies, "position")]
    yield report.Paragraph("Asked about position. " + "\n\n".join(on_positions))
    for question in ("attention", "position"):
        pairs = [f"{one} and {other}" for one, other in alone(found, question)]
        yield report.Paragraph(
            f"Pairs that differ in {question} alone: {'; '.join(pairs) or 'none, so no difference has this one cause'}."
        )


def where_they_look(found: Sequence[Found], texts: str) -> Iterator[report.Block]:
    """Attention by kind of layer, on text and on repeated sequences."""
    scores = {one.name: one.first["attention"] for one in found}
    inside = int(found[0].first["ablation_repeats"]["distance"].min()) + 1
    repeats = on_repeats(scores, "", inside)
    yield report.Heading("Where local and global layers look")
    if texts:
        yield report.Paragraph(f"Text: {texts}.")
    yield report.Table(*attention_text.law_table(attentions(found)))
    yield report.Figure(figures.mass_by_distance(scores), f"Where attention lies. {FIRST}")
    yield report.Figure(figures.scores_by_kind(scores, TEXT_SCORES), f"Every head on text. {FIRST}")
    yield report.Folded(
        "Head by head, and the means of each kind",
        [
            report.Figure(figures.heads(scores, "mean_distance"), f"On text. {FIRST}"),
            report.Figure(figures.heads(repeats, "induction"), f"Repeated after {inside} tokens. {FIRST}"),
            report.Table(*kind_table(found), caption=KINDS),
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
            *(report.Paragraph(text) for one in carriers for text in reach_text.findings(one)),
            report.Figure(figures.places_by_distance(held)),
            report.Table(*reach_tables.change_table(carriers, TASK)),
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
    yield from (report.Paragraph(text) for text in in_detail(every))
    yield from drawn(every)
    yield report.Folded(
        "Every head that holds a role, and what ablating it does",
        [report.Table(*position_text.head_table(every), caption=ROLE_HEADS)],
    )


def indirect_object(found: Sequence[Found]) -> Iterator[report.Block]:
    """How well networks find the indirect object, and the heads that do."""
    able = [one for one in found if one.circuits]
    if not able:
        return
    yield report.Heading("Who finds the indirect object")
    yield report.Table(*task_table([one.circuits[0] for one in able]), caption=FIRST)
    yield report.Folded("The head that moves most, in every network", [report.Table(*strongest_table(able))])
    for one in able:
        its = one.circuits[0]
        blocks: list[report.Block] = [
            report.Paragraph(sentence(of_model(its)[0])),
            report.Table(*head_table(its), caption=HEADS),
            *([report.Table(*published_table(its), caption=ROLES)] if its.roles else []),
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


def _maps(its: Circuit) -> list[Any]:
    return [of_site(its.result, "resid_pre"), of_site(its.result, "z").sel(pos=["end"])]


def _split(found: Sequence[Found]) -> NearFar:
    """The distance that separates near from far in titles and captions."""
    return split_of(found) or NearFar(0, "")
