"""The report of `window_reach`: how well the models answer, and for each task where the effect is and what it needs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from neolens import figures, report
from neolens.near_far import NearFar, of_anatomies
from neolens.studies.study import Measured, Summary
from neolens.studies.window_reach import own_prompts
from neolens.studies.window_reach import tables as reach_tables
from neolens.studies.window_reach import text as words
from neolens.studies.window_reach.summary import Carriers

RECALL = (
    "Means over seeds and over the distances {inside} and {beyond}. Made by the source: the logit difference less that "
    "{corrupted}. It is more than the logit difference where the latter is negative."
)
CHANGES = (
    "The share of what the source makes that is taken away when the same weights see otherwise: a layer restricted to "
    "{name} (local) or widened to everything (global). 0: not needed; 1: nothing is left; below 0: the network does "
    "better so. Intervals: bootstrap over prompts, 1,000 samples; star: p below 0.05, by sign flips of prompts, "
    "corrected for all changes and distances of one network and task (max-T)."
)
ABLATED = (
    "What mean ablation of all heads of a kind, of as many random heads of all layers, and of single layers adds to "
    "the logit difference, in logits, {inside} and {beyond}; mean over seeds and distances. A layer may be needed for "
    "something else than for reach: then ablating it costs as much at the nearer distances."
)


def sections(measured: Measured, summary: Summary) -> Iterator[report.Block]:
    """How well the models answer, and each task."""
    found: dict[str, Carriers] = summary.content
    split = split_of(measured)
    if found:
        recall = figures.recall_by_distance({name: each.results for name, each in found.items()})
        yield from (report.Heading("How well they answer"), report.Figure(recall))
        own = measured.config.pairs is not None
        corrupted = "of the corrupted prompt" if own else "with another word in the answer's place"
        caption = RECALL.format(inside=split.inside, beyond=split.beyond, corrupted=corrupted)
        yield report.Table(*reach_tables.recall_table(list(found.values())), caption=caption)
    for task in measured.config.tasks if measured.config.pairs is None else (own_prompts.TASK,):
        yield from section(task, found, split)


def section(task: str, found: Mapping[str, Carriers], split: NearFar) -> Iterator[report.Block]:
    """One task: where the answer is, which layers are needed, and what ablation costs."""
    carriers = [each for each in found.values() if task in each.tasks]
    if not carriers:
        return
    held = {each.name: each.results[task] for each in carriers}
    yield report.Heading(task.replace("_", " ").capitalize())
    yield from (report.Paragraph(words.findings(each)[each.tasks.index(task)]) for each in carriers)
    what = "the effect of the source token" if task == own_prompts.TASK else "the answer"
    yield report.Figure(figures.places_by_distance(held, what=what))
    yield report.Figure(figures.narrowing_by_distance(held))
    yield report.Table(*reach_tables.change_table(carriers, task), caption=in_terms_of(CHANGES, split))
    yield report.Table(*reach_tables.ablation_table(carriers, task), caption=in_terms_of(ABLATED, split))


def split_of(measured: Measured) -> NearFar:
    """The distance that separates near from far."""
    return of_anatomies(measured.scope["window"], measured.anatomies)


def title(measured: Measured) -> str:
    beyond = f"Beyond {split_of(measured).short}"
    return beyond if measured.config.pairs is None else f"{beyond}: the prompts of {Path(measured.config.pairs).name}"


def in_terms_of(caption: str, split: NearFar) -> str:
    """A caption with the names of the distance that separates near from far."""
    return caption.format(name=split.name, inside=split.inside, beyond=split.beyond)
