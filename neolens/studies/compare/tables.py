"""Tables of the comparison, and which models differ in one thing alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from neolens.checks.annotations import checked
from neolens.models.describe import differences
from neolens.patching.effects import ranked
from neolens.scores import by_kind
from neolens.stats import seeds
from neolens.stats.contrasts import kind
from neolens.studies.compare.found import Found
from neolens.studies.compare.measures import SCORE_BOUNDS
from neolens.studies.ioi.summary import solves
from neolens.studies.local_vs_global.tables import column_titles

Row = list[str | int | float | None]


@checked
def kind_table(found: Sequence[Found]) -> tuple[list[str], list[Row]]:
    """Header and a row for each model, kind of layer and score: the mean over heads, layers and prompts, then seeds."""
    header = ["model, layers", "score", "mean over seeds", "low", "high", "seeds", "seed by seed"]
    rows: list[Row] = []
    for one in found:
        each = [by_kind(parts["attention"], one.window) for parts in one.networks.values()]
        for its_kind in each[0]["attention_kind"].values.tolist():
            for score, title in column_titles(one.near_far).items():
                values = np.array([float(its[score].sel(attention_kind=its_kind)) for its in each])
                its = seeds.mean_ci(values, SCORE_BOUNDS[score])
                row: Row = [f"{one.name}, {its_kind}", title, its.mean, its.low, its.high, its.n]
                rows.append([*row, seeds.each_seed(its, ".2g")])
    return header, rows


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
