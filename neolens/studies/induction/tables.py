"""Induction heads in tables: every measure at every repeat length, every head on both sides of the window, and when
what formed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from neolens.checks.annotations import checked
from neolens.studies.induction.comparisons import Comparison, check_tests
from neolens.studies.induction.formation import MILESTONES, Formation, Milestone
from neolens.studies.induction.summary import MEASURES, CorrectedEstimate, Induction
from neolens.wording import number

Row = list[str | int | float | None]

LENGTHS = (
    ["model, n", "local heads", "global heads"]
    + [f"{measure.title} ({measure.unit})" for measure in MEASURES.values()]
    + ["corrected p"]
)
HEADS = ["head", "layer"] + [
    f"{what}{side}"
    for side in (", inside", ", beyond")
    for what in ("score", "ablated alone", "controls of its layer", "difference", "corrected p")
]


@checked
def length_table(
    models: Sequence[Induction], tests: Mapping[Comparison, CorrectedEstimate]
) -> tuple[list[str], list[Row]]:
    """Header and one row per model and repeat length: every measure with its interval, and the p of the difference from
    random heads."""
    check_tests(models, tests)
    rows: list[Row] = []
    for one in models:
        for n in one.lengths:
            heads = one.has_role(n)
            counts = [int(heads.isel(layer=heads["attention_kind"] == kind).sum()) for kind in ("local", "global")]
            cells = [_cell(one.estimate(name, n)) for name in MEASURES]
            rows.append([f"{one.name}, {n}", *counts, *cells, tests[one.name, "needed", n].p_adjusted])
    return LENGTHS, rows


@checked
def head_table(models: Sequence[Induction]) -> tuple[list[str], list[Row]]:
    """Header and one row per head that has the pattern on one side of the window: its scores, and what ablating it
    alone adds, next to heads of its layer without the pattern."""
    rows: list[Row] = []
    for one in models:
        inside, beyond = (one.has_role(n) for n in one.nearest)
        for seed in one.seeds:
            either = (inside | beyond).sel(seed=seed).transpose("layer", "head")
            for layer, head in np.argwhere(either.values):
                rows.append(_head_row(one, seed, int(layer), int(head)))
    return HEADS, rows


@checked
def formation_table(formed: Sequence[Formation]) -> tuple[list[str], list[Row]]:
    """Header and one row per model and repeat length: between which checkpoints each milestone passes, and what was
    measured at the second."""
    rows: list[Row] = [[f"{one.model.name}, {one.n}", *map(_passed, one.reached.values())] for one in formed]
    return ["model, n", *MILESTONES.values()], rows


def _passed(milestone: Milestone) -> str:
    if milestone.estimate is None:
        return "never"
    when = f"{milestone.step}" if milestone.after is None else f"{milestone.after} to {milestone.step}"
    lost = f"; below again at {', '.join(map(str, milestone.lost))}" if milestone.lost else ""
    return f"{when}: {_cell(milestone.estimate)}{lost}"


def _head_row(one: Induction, seed: int, layer: int, head: int) -> Row:
    of_seed = "" if len(one.seeds) == 1 else f"@{seed}"
    row: Row = [f"{one.name}{of_seed}, {layer}.{head}", str(one.anatomy.attention[layer].kind)]
    for n in one.nearest:
        at = one.result.sel(distance=n - 1, seed=seed, layer=layer, head=head)
        alone, beside, more, p = (float(at[name]) for name in ("alone", "beside", "more", "p_adjusted"))
        control = "no control" if np.isfinite(alone) and not np.isfinite(beside) else beside
        row += [float(at["induction"].mean()), alone, control, more, p]
    return row


def _cell(value: CorrectedEstimate | None) -> str:
    if value is None or not value.estimate.n:
        return ""
    mean, low, high = value.estimate.mean, value.estimate.low, value.estimate.high
    interval = "" if not np.isfinite(low) or low == high else f" ({number(low)} to {number(high)})"
    return f"{number(mean)}{interval}"
