"""What the report draws below its first screen: a section for each instrument, from results alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from neolens import figures, report, views
from neolens.near_far import NearFar
from neolens.scores import top_head
from neolens.stats.contrasts import contrast_table, kind, measure_table
from neolens.studies import inputs
from neolens.studies.compare.figures import accuracy_by_distance
from neolens.studies.compare.findings import ABLATED, ATTENTION, MEASURES, OBJECT, POSITIONS, WINDOW, Contrasts
from neolens.studies.compare.found import TASK, Found
from neolens.studies.compare.measures import measures, mixed, numbers, split_of
from neolens.studies.compare.tables import alone, kind_table, strongest_table
from neolens.studies.head_ablation import tables as need_tables
from neolens.studies.ioi.study import HEADS, ROLES
from neolens.studies.ioi.summary import Circuit, of_site
from neolens.studies.ioi.tables import head_table, published_table, task_table
from neolens.studies.local_vs_global.study import TEXT_SCORES, on_repeats
from neolens.studies.rotary_vs_absolute import tables as position_tables
from neolens.studies.rotary_vs_absolute.study import HEADS as ROLE_HEADS
from neolens.studies.rotary_vs_absolute.study import drawn
from neolens.studies.study import Measured, Summary
from neolens.studies.window_reach import tables as reach_tables

MEASURED = "Means over seeds, with Student's 95 % intervals; n: seeds, where not all have one."
COMPARED = (
    "Differences seed by seed, of variants that differ in {} alone (of all that differ in it, where there are none). "
    "p: Student's t, corrected for all rows that have one (Benjamini and Hochberg)."
)
KINDS = "Means over the heads and layers of a kind and over prompts, then over seeds, with Student's 95 % intervals."
FIRST = "Of the first network of each model."
RANDOM = "Random heads: the mean of the draws."
PATTERNS = "the two heads of each kind of layer with the highest induction score."


def sections(measured: Measured, summary: Summary) -> Iterator[report.Block]:
    """A section for each instrument, the figure that says most first and the rest folded away."""
    found, contrasts = summary.content
    yield from beyond_the_window(found)
    yield from attention_by_kind(found, inputs.described(measured.inputs))
    yield from without_a_kind(found)
    yield from positions(found)
    yield from indirect_object(found)
    yield from all_measures(found, contrasts)
    yield from patterns(found)


def first_figure(found: Sequence[Found], contrasts: Contrasts) -> report.Figure | None:
    """Accuracy against the distance of the answer, of the variants that are compared first."""
    results = {one.name: one.carriers.results[TASK] for one in found if one.carriers is not None}
    order = [name for both in contrasts for one in both[:1] for name in (one.first.name, one.second.name)]
    return report.Figure(accuracy_by_distance(results, order)) if results else None


def beyond_the_window(found: Sequence[Found]) -> Iterator[report.Block]:
    """Which layers bring an answer from beyond the window, at each distance."""
    reach = [one.carriers for one in found if one.carriers is not None]
    if not reach:
        return
    yield report.Heading(WINDOW)
    results = {one.name: one.results[TASK] for one in reach}
    yield report.Figure(figures.narrowing_by_distance(results))
    yield report.Folded(
        "Accuracy of every model, where the answer is, and what each change of windows removes",
        [
            report.Figure(figures.recall_by_distance({one.name: one.results for one in reach})),
            report.Figure(figures.places_by_distance(results)),
            report.Table(*reach_tables.change_table(reach, TASK)),
        ],
    )


def attention_by_kind(found: Sequence[Found], texts: str) -> Iterator[report.Block]:
    """Attention by kind of layer, on text and on repeated sequences."""
    scores = {one.name: one.first["attention"] for one in found}
    inside = int(found[0].first["ablation_repeats"]["distance"].min()) + 1
    yield report.Heading(ATTENTION)
    yield report.Figure(figures.mass_by_distance(scores), f"On text{f' ({texts})' if texts else ''}. {FIRST}")
    yield report.Folded(
        "Head by head, and the means of each kind",
        [
            report.Figure(figures.scores_by_kind(scores, TEXT_SCORES), f"Every head on text. {FIRST}"),
            report.Figure(figures.heads(scores, "mean_distance"), f"On text. {FIRST}"),
            report.Figure(
                figures.heads(on_repeats(scores, "", inside), "induction"), f"Repeated after {inside} tokens. {FIRST}"
            ),
            report.Table(*kind_table(found), caption=KINDS),
        ],
    )


def without_a_kind(found: Sequence[Found]) -> Iterator[report.Block]:
    """What ablating the layers of a kind does, next to as many random heads."""
    yield report.Heading(ABLATED)
    split = split_of(found) or NearFar(0, "")
    titles = {"beyond": f"Answers {split.beyond}", "cut": f"Attention masked beyond {split.short}", "text": "Text"}
    for at, one in enumerate(alternating_first(found)):
        need = one.needs[0]
        bars = [
            report.Figure(figures.ablation_groups(need.groups[name]), f"{one.name}: {title}. {RANDOM}")
            for name, title in titles.items()
        ]
        yield from bars[: at == 0]
        blocks: list[report.Block] = [
            *bars[at == 0 :],
            report.Table(*need_tables.kind_table(need), caption=need_tables.KINDS),
        ]
        yield report.Folded(f"{one.name}: its layers and kinds of layers, the first network", blocks)


def positions(found: Sequence[Found]) -> Iterator[report.Block]:
    """The shift, the Toeplitz share, roles by pattern and by cause, rotary bands, and texts beyond the context."""
    every = [one.encoding for one in found]
    yield report.Heading(POSITIONS)
    shown = list(drawn(every))
    yield from shown[:1]
    heads = report.Table(*position_tables.head_table(every), caption=ROLE_HEADS)
    yield report.Folded("Scores by distance, heads with a role, rotary bands, long texts", [*shown[1:], heads])


def indirect_object(found: Sequence[Found]) -> Iterator[report.Block]:
    """How well networks find the indirect object, and the heads that do."""
    able = [one for one in found if one.circuits]
    if not able:
        return
    yield report.Heading(OBJECT)
    yield report.Table(*task_table([one.circuits[0] for one in able]), caption=FIRST)
    yield report.Folded("The head that moves most, in every network", [report.Table(*strongest_table(able))])
    for one in able:
        first = one.circuits[0]
        blocks: list[report.Block] = [
            *(report.Figure(figures.patch_heatmap(site)) for site in _maps(first)),
            report.Table(*head_table(first), caption=HEADS),
            *([report.Table(*published_table(first), caption=ROLES)] if first.roles else []),
        ]
        yield report.Folded(f"{one.name}: its heads, the first network", blocks)


def all_measures(found: Sequence[Found], contrasts: Contrasts) -> Iterator[report.Block]:
    """The differences between variants, every measure of every variant, and what is confounded."""
    yield report.Heading(MEASURES)
    alternating = mixed([one.anatomy for one in found])
    variants, compared = [numbers(one, alternating) for one in found], measures(alternating, split_of(found))
    for contrast, what in zip(contrasts, ("attention", "positions"), strict=True):
        if contrast:
            yield report.Figure(figures.differences_by_measure(contrast), COMPARED.format(what))
            yield report.Folded("These differences as numbers", [report.Table(*contrast_table(contrast))])
    yield report.Folded(
        "Every measure of every model",
        [
            report.Figure(figures.measures_by_variant(variants, compared, "attention")),
            report.Table(*measure_table(variants, compared, "attention"), caption=MEASURED),
            report.Table(*position_tables.measure_table([one.encoding for one in found]), caption=MEASURED),
        ],
    )
    pairs = {what: [f"{one} and {other}" for one, other in alone(found, what)] for what in ("attention", "position")}
    yield from (
        report.Paragraph(f"Pairs that differ in {what} alone: {'; '.join(names) or 'none, so there are confounds'}.")
        for what, names in pairs.items()
    )


def patterns(found: Sequence[Found]) -> Iterator[report.Block]:
    """The patterns of the most inductive heads of each kind of layer."""
    yield report.Heading("Attention patterns")
    for at, one in enumerate(alternating_first(found)):
        shown = one.first["patterns"]
        labels = [str(name) for name in shown["group"].values]
        tokens, (best, *_) = shown["token"].values.tolist(), top_head(one.first["attention"]["induction"])
        view = views.attention_view(tokens, shown["pattern"].values, labels, title=one.name, first=best)
        figure = report.Figure(view, f"{one.name}, the first network: {PATTERNS}")
        yield report.Folded(f"{one.name}: attention patterns", [figure]) if at else figure


def alternating_first(found: Sequence[Found]) -> list[Found]:
    """Models with both kinds of layers, then the others."""
    return sorted(found, key=lambda one: kind(one.anatomy, "attention") != "global and local")


def _maps(circuit: Circuit) -> list[Any]:
    return [of_site(circuit.result, "resid_pre"), of_site(circuit.result, "z").sel(pos=["end"])]
