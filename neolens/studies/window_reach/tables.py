"""What crosses a window, in tables: how well networks answer, what each change of windows removes at each distance, and
what ablation costs."""

from __future__ import annotations

from collections.abc import Sequence

from neolens.checks import check_choice
from neolens.checks.annotations import checked
from neolens.stats import ALPHA
from neolens.studies.window_reach.summary import Carriers, Side

Row = list[str | int | float | None]


@checked
def recall_table(found: Sequence[Carriers]) -> tuple[list[str], list[Row]]:
    """Header and a row for each model and task, means over seeds: how well it answers on both sides of the window, and
    how much of the logit difference is the effect of the source token."""
    near, far = (found[0].near_far.inside, found[0].near_far.beyond) if found else ("inside", "beyond")
    header = ["model, task", f"answer above distractor, {near}", far, f"answer likeliest, {near}", far]
    header += [f"{far}, every layer restricted", f"logit difference, {far}", "of it made by the source"]
    rows: list[Row] = []
    for one in found:
        for task in one.tasks:
            inside, beyond = one.inside[task], one.beyond[task]
            values = [[side.above for side in inside], [side.above for side in beyond]]
            values += [[side.likeliest for side in inside], [side.likeliest for side in beyond]]
            values += [[side.likeliest_all_local for side in beyond]]
            values += [[side.difference for side in beyond], [side.carried for side in beyond]]
            rows.append([f"{one.name}, {_title(task)}", *(_mean(each) for each in values)])
    return header, rows


@checked
def change_table(found: Sequence[Carriers], task: str) -> tuple[list[str], list[Row]]:
    """Header and a row for each model and change of windows: the share of the effect of the source token that
    it removes, as a mean inside the window, and by seed at each distance beyond it."""
    _check_task(task, found)
    far = sorted({distance for one in found for distance in one.far[task]})
    inside = found[0].near_far.inside if found else "inside"
    header = ["model, changed", f"taken away {inside}, mean", *(f"{distance} tokens back, by seed" for distance in far)]
    rows: list[Row] = []
    for one in found:
        for group in map(str, one.beyond[task][0].changes["group"].values):
            near = _mean([float(side.changes["share"].sel(group=group)) for side in one.inside[task]])
            cells = [_by_seed(one.far[task].get(distance, ()), group) for distance in far]
            rows.append([f"{one.name}, {group}", near, *cells])
    return header, rows


def _check_task(task: str, found: Sequence[Carriers]) -> None:
    for one in found:
        check_choice(task, f"task in the results of {one.name}", one.tasks)


def _by_seed(sides: Sequence[Side], group: str) -> str:
    """`0.73 (0.62 to 0.81)*; 0.02 (-0.10 to 0.12)`: by seed with 95 % intervals, significant ones with a star."""
    told = []
    for one in (side.changes.sel(group=group) for side in sides):
        share, low, high = (f"{float(one[name]):.2f}" for name in ("share", "low", "high"))
        told.append(f"{share} ({low} to {high}){'*' * (float(one['p_adjusted']) < ALPHA)}")
    return "; ".join(told).replace("-0.00", "0.00")


@checked
def ablation_table(found: Sequence[Carriers], task: str) -> tuple[list[str], list[Row]]:
    """Header and a row for each model and group of heads: what mean ablation makes of the logit difference, as a mean
    over seeds and from the lowest to the highest."""
    _check_task(task, found)
    near, far = (found[0].near_far.inside, found[0].near_far.beyond) if found else ("inside", "beyond")
    header = ["model, ablated", near, "lowest to highest seed", far, "lowest to highest seed"]
    rows: list[Row] = []
    for one in found:
        for group in map(str, one.beyond[task][0].ablated["group"].values):
            row: Row = [f"{one.name}, {group}"]
            for sides in (one.inside[task], one.beyond[task]):
                effects = [float(each.ablated["effect"].sel(group=group)) for each in sides]
                row += [_mean(effects), f"{min(effects):.2f} to {max(effects):.2f}"]
            rows.append(row)
    return header, rows


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _title(task: str) -> str:
    return task.replace("_", " ")
