"""The report of `window_reach`: how well the models answer, and for each task where the effect is and what it needs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from neolens import figures, report
from neolens.near_far import NearFar, of_anatomies
from neolens.studies.study import Measured, Summary
from neolens.studies.window_reach import own_prompts
from neolens.studies.window_reach import tables as reach_tables
from neolens.studies.window_reach.findings import SECTION
from neolens.studies.window_reach.summary import Carriers

RECALL = (
    "Means over seeds and over the distances {inside} and {beyond}. The effect of the source token is the logit "
    "difference less that {corrupted}; it exceeds the logit difference where the latter is negative."
)
CHANGES = (
    "The share of the effect of the source token that is removed when the same weights see otherwise: a layer "
    "restricted to {name} (local) or widened to everything (global). 0: not needed; 1: nothing is left; below 0: the "
    "effect is larger. Intervals: bootstrap over prompts, 1,000 samples; star: p below 0.05, by sign flips of prompts, "
    "corrected for all changes and distances of one network and task (max-T)."
)
ABLATED = (
    "What mean ablation of all heads of a kind, of as many random heads of all layers, and of single layers adds to "
    "the logit difference, in logits, {inside} and {beyond}; mean over seeds and distances. A layer may be needed for "
    "something else than for reach: then ablating it costs as much at the nearer distances."
)


def sections(measured: Measured, summary: Summary) -> Iterator[report.Block]:
    """How well the models answer, and each task."""
    carriers: dict[str, Carriers] = summary.content
    split = split_of(measured)
    if carriers:
        recall = figures.recall_by_distance({name: each.results for name, each in carriers.items()})
        yield from (report.Heading(SECTION), report.Figure(recall))
        own = measured.config.pairs is not None
        corrupted = "of the corrupted prompt" if own else "with another word in place of the answer"
        caption = RECALL.format(inside=split.inside, beyond=split.beyond, corrupted=corrupted)
        table = report.Table(*reach_tables.recall_table(list(carriers.values())), caption=caption)
        yield report.Folded("Accuracies and logit differences", [table])
    for task in measured.config.tasks if measured.config.pairs is None else (own_prompts.TASK,):
        yield from section(task, carriers, split)


def section(task: str, found: Mapping[str, Carriers], split: NearFar) -> Iterator[report.Block]:
    """One task: which layers are needed; folded away, where the effect is and what ablation costs."""
    carriers = [each for each in found.values() if task in each.tasks]
    if not carriers:
        return
    by_model = {each.name: each.results[task] for each in carriers}
    yield report.Heading(task.replace("_", " ").capitalize())
    yield report.Figure(figures.narrowing_by_distance(by_model))
    what = "the effect of the source token" if task == own_prompts.TASK else "the answer"
    yield report.Folded(f"Where {what} is", [report.Figure(figures.places_by_distance(by_model, what=what))])
    changes = report.Table(*reach_tables.change_table(carriers, task), caption=in_terms_of(CHANGES, split))
    ablated = report.Table(*reach_tables.ablation_table(carriers, task), caption=in_terms_of(ABLATED, split))
    yield report.Folded("Every change of windows, and ablated layers, in numbers", [changes, ablated])


def first_figure(found: Mapping[str, Carriers]) -> report.Figure | None:
    """Accuracy against distance of the first model with local layers, else of the first model."""
    if not found:
        return None
    first = min(found.values(), key=lambda one: "local" not in one.kinds)
    drawing = figures.compact(figures.recall_by_distance({first.name: first.results}))
    caption = f"{first.name}: share of prompts in which the answer is the likeliest token, by its distance; mean over "
    caption += f"seeds, 95 % intervals over prompts. Dotted: every layer restricted to {first.near_far.short}."
    return report.Figure(drawing, caption)


def split_of(measured: Measured) -> NearFar:
    """The distance that separates near from far."""
    return of_anatomies(measured.scope["window"], measured.anatomies)


def title(measured: Measured) -> str:
    beyond = f"Beyond {split_of(measured).short}"
    return beyond if measured.config.pairs is None else f"{beyond}: the prompts of {Path(measured.config.pairs).name}"


def in_terms_of(caption: str, split: NearFar) -> str:
    """A caption with the names of the distance that separates near from far."""
    return caption.format(name=split.name, inside=split.inside, beyond=split.beyond)
