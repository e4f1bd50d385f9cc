"""The sections of the report on what heads are needed for: kinds of layers, single heads, distances, continuations."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import xarray as xr

from neolens import figures, report
from neolens.figures.ablation_beside import heads_beside
from neolens.near_far import NearFar, of_anatomies
from neolens.studies import inputs
from neolens.studies.head_ablation import tables
from neolens.studies.head_ablation.figures import kinds_beside_random
from neolens.studies.head_ablation.findings import HEAD_SECTION, KIND_SECTION
from neolens.studies.head_ablation.summary import Needs
from neolens.studies.study import Measured, Summary

RANDOM = "Filled: all heads of a kind; hollow: the same layers where all layers are global. Far: {far}."


def sections(measured: Measured, summary: Summary) -> Iterator[report.Block]:
    """Kinds of layers beside random heads, every head, and the loss by distance; details of each model are folded."""
    needs: dict[str, Needs] = summary.content
    split = of_anatomies(measured.scope["window"], measured.anatomies)
    yield report.Heading(KIND_SECTION)
    yield report.Figure(kinds_beside_random(needs), RANDOM.format(far=split.beyond))
    numbers: list[report.Block] = [report.Table(*tables.loss_table(list(needs.values())), caption=tables.LOSSES)]
    numbers += [report.Table(*tables.kind_table(one), caption=f"{name}. {tables.KINDS}") for name, one in needs.items()]
    yield report.Folded("The same as numbers, and the loss of each model", numbers)
    yield report.Heading(HEAD_SECTION)
    yield from _first_open({name: _heads(one) for name, one in needs.items()}, "every head")
    yield report.Heading("How far back copies reach")
    yield from _first_open({name: _by_distance(one) for name, one in needs.items()}, "loss by distance, single layers")
    yield report.Heading("How a model writes without them")
    yield report.Paragraph(f"Text: {inputs.described(measured.inputs)}.")
    for name in needs:
        if (written := measured.first[name].get("continuations")) is not None:
            yield report.Folded(f"{name}: continuations", continued(written, measured.config.how, split.short))


def _first_open(by_model: dict[str, list[report.Block]], what: str) -> Iterator[report.Block]:
    """The first figure of the first model open; the rest folded, model by model."""
    first, *rest = by_model.values()
    yield first[0]
    for name, blocks in zip(by_model, [first[1:], *rest], strict=True):
        yield report.Folded(f"{name}: {what}", blocks)


def _titles(split: NearFar) -> dict[str, str]:
    """Condition -> the title of its map."""
    titles = {"beyond": split.beyond, "cut": f"{split.beyond}, masked", "inside": split.inside, "text": "on text"}
    return {name: title[0].upper() + title[1:] for name, title in titles.items()}


def _heads(needs: Needs) -> list[report.Block]:
    """Every head of one model."""
    maps = heads_beside({title: needs.heads[name] for name, title in _titles(needs.near_far).items()})
    return [report.Figure(maps), report.Table(*tables.head_table(needs), caption=tables.HEADS)]


def _by_distance(needs: Needs) -> list[report.Block]:
    """How far back one model finds an answer, heads ablated and masked, then its layers and groups."""
    split = needs.near_far
    options: Any = {"groups": tables.drawn(needs), "window": needs.window, "label": split.mark}
    masked = f"The same; heads only lose the keys {split.beyond}."
    return [
        report.Figure(figures.ablation_by_distance(needs.repeats, **options), "Random sequences, repeated."),
        report.Figure(figures.ablation_by_distance(needs.cut, **options), masked),
        *(
            report.Figure(figures.ablation_groups(needs.groups[name]), f"{title}. Random heads: the mean of the draws.")
            for name, title in _titles(split).items()
        ),
    ]


def continued(written: xr.Dataset, how: str, split: str) -> list[report.Block]:
    """How the model goes on without each group: in text, and in a sequence repeated beyond the window."""
    titles = {
        "text": f"Text, continued without ablation and without each group ({how} ablation):",
        "repeat": f"A random sequence that begins again after {written.attrs['n']} tokens, heads masked at {split}:",
    }
    blocks: list[report.Block] = []
    for part, title in titles.items():
        text, failure = (json.loads(written[name].sel(part=part).item()) for name in ("continuations", "failure"))
        blocks += [report.Paragraph(title), report.Note(failure, "warning") if failure else report.Code(text)]
    return blocks
