"""Induction heads in tables: every measure at every repeat length, every head on both sides of the window, and when
what formed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from neolens.checks.annotations import checked
from neolens.studies.induction.comparisons import Comparison, check_tests
from neolens.studies.induction.formation import MILESTONES, Formation, Milestone
from neolens.studies.induction.summary import MEASURES, Induction, Sure
from neolens.studies.induction.text import p_of
from neolens.wording import number

Row = list[str | int | float | None]


@checked
def length_table(found: Sequence[Induction], tests: Mapping[Comparison, Sure]) -> tuple[list[str], list[Row]]:
    """Header and a row for each model and repeat length: every measure with its interval, and the p of the cause."""
    check_tests(found, tests)
    header = ["model, n", "local heads", "global heads"]
    header += [f"{MEASURES[name].title} ({MEASURES[name].unit})" for name in MEASURES]
    rows: list[Row] = []
    for one in found:
        for n in one.lengths:
            held = one.holds(n)
            counts = [int(held.isel(layer=held["attention_kind"].values == kind).sum()) for kind in ("local", "global")]
            cells = [_cell(one.sure(name, n)) for name in MEASURES]
            p = tests[one.name, "needed", n].p_adjusted
            rows.append([f"{one.name}, {n}", *counts, *cells, p])
    return [*header, "corrected p"], rows


@checked
def head_table(found: Sequence[Induction]) -> tuple[list[str], list[Row]]:
    """Header and a row for each head that holds the pattern on one side of the window: its scores, and what ablating it
    alone adds beside heads of its layer that do not."""
    header, rows = ["head", "layer"], []
    for side in ("inside", "beyond"):
        header += [f"score {side}", "alone", "heads of its layer without it", "more", "corrected p"]
    for one in found:
        both = [one.holds(n) for n in one.nearest]
        for seed in one.seeds:
            either = (both[0] | both[1]).sel(seed=seed).transpose("layer", "head")
            for layer, head in np.argwhere(either.values):
                rows.append(_head_row(one, seed, int(layer), int(head)))
    return header, rows


@checked
def formation_table(formed: Sequence[Formation]) -> tuple[list[str], list[Row]]:
    """Header and a row for each model and repeat length: between which checkpoints each milestone passes, and what was
    measured at the second."""
    rows: list[Row] = [
        [f"{one.found.name}, {one.n}", *(_passed(one.reached[name], name) for name in MILESTONES)] for one in formed
    ]
    return ["model, n", *MILESTONES.values()], rows


def _passed(milestone: Milestone, name: str) -> str:
    if milestone.its is None:
        return "at no step"
    when = f"{milestone.step}" if milestone.after is None else f"{milestone.after} to {milestone.step}"
    p = f", {p_of(milestone.its)}" if "cause" in name else ""
    lost = f"; below again at {', '.join(map(str, milestone.lost))}" if milestone.lost else ""
    return f"{when}: {_cell(milestone.its)}{p}{lost}"


def _head_row(one: Induction, seed: int, layer: int, head: int) -> Row:
    of = "" if len(one.seeds) == 1 else f"@{seed}"
    row: Row = [f"{one.name}{of}, {layer}.{head}", str(one.facts.attention[layer].kind)]
    for n in one.nearest:
        at = one.result.sel(distance=n - 1, seed=seed, layer=layer, head=head)
        alone, beside, more, p = (float(at[name]) for name in ("alone", "beside", "more", "p_adjusted"))
        control = "no control" if np.isfinite(alone) and not np.isfinite(beside) else beside
        row += [float(at["induction"].mean()), alone, control, more, p]
    return row


def _cell(its: Sure | None) -> str:
    if its is None or not its.its.n:
        return ""
    one = its.its
    interval = (
        ""
        if not np.isfinite(one.low) or one.low == one.high
        else f" ({number(one.low, '.2f')} to {number(one.high, '.2f')})"
    )
    return f"{number(one.mean, '.2f')}{interval}"
