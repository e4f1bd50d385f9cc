"""The sections of the report on what heads are needed for: one per model, with how the model writes without them."""

from __future__ import annotations

import json
from typing import Any

import xarray as xr

from neolens import figures, report
from neolens.figures.ablation_beside import heads_beside
from neolens.near_far import of_anatomies
from neolens.studies import inputs
from neolens.studies.head_ablation import tables as need_tables
from neolens.studies.head_ablation import text as need_text
from neolens.studies.head_ablation.summary import Needs
from neolens.studies.study import Measured, Summary

CHANCE = "Of {} draws and a group that is no different, the group is the largest once in {} times."


def sections(measured: Measured, summary: Summary) -> list[report.Block]:
    """Each model: what it needs its heads for, and how it writes without them."""
    draws, split = measured.config.draws, of_anatomies(measured.scope["window"], measured.anatomies)
    blocks: list[report.Block] = [
        report.Paragraph(CHANCE.format(draws, draws + 1)),
        report.Paragraph(f"Text: {inputs.described(measured.inputs)}."),
    ]
    for name, found in summary.content.items():
        blocks += section(found)
        if (written := measured.first[name].get("continuations")) is not None:
            blocks += continued(written, measured.config.how, split.short)
    return blocks


def section(found: Needs) -> list[report.Block]:
    """One model: its heads, its kinds beside random heads, and how far back it finds an answer without them."""
    split = found.near_far
    titles = {"beyond": split.beyond, "cut": f"{split.beyond}, cut there", "inside": split.inside, "text": "on text"}
    titles = {name: title[0].upper() + title[1:] for name, title in titles.items()}
    by_distance: Any = {"groups": need_tables.drawn(found), "window": found.window, "label": split.mark}
    return [
        report.Heading(found.facts.name),
        *(report.Note(text, "finding") for text in need_text.findings(found)),
        report.Figure(heads_beside({title: found.heads[name] for name, title in titles.items()})),
        report.Table(*need_tables.head_table(found), caption=need_tables.HEADS.format(beyond=split.beyond)),
        report.Table(*need_tables.kind_table(found), caption=need_tables.KINDS),
        report.Figure(
            figures.ablation_by_distance(found.repeats, **by_distance), "Sequences of random tokens, repeated."
        ),
        report.Figure(
            figures.ablation_by_distance(found.cut, **by_distance), f"The same, heads only cut at {split.short}."
        ),
        *(
            report.Figure(figures.ablation_groups(found.groups[name]), f"{title}. Random heads: the mean of the draws.")
            for name, title in titles.items()
        ),
    ]


def continued(written: xr.Dataset, how: str, split: str) -> list[report.Block]:
    """How the model goes on without each group: in text, and in a sequence repeated beyond the window."""
    titles = {
        "text": f"How it goes on in text, as it is and without each group ({how} ablation):",
        "repeat": f"And in a random sequence that began again after {written.attrs['n']} tokens, heads only cut at "
        f"{split}:",
    }
    blocks: list[report.Block] = []
    for part, title in titles.items():
        text, failure = (json.loads(written[name].sel(part=part).item()) for name in ("continuations", "failure"))
        blocks += [report.Paragraph(title), report.Note(failure, "warning") if failure else report.Code(text)]
    return blocks
