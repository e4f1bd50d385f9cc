"""What crosses a window, in tables: how well networks answer, what each change of windows removes at each distance, and
what ablation costs."""

from __future__ import annotations

from collections.abc import Sequence

from neolens.checks import check_choice
from neolens.checks.annotations import checked
from neolens.near_far import NearFar
from neolens.stats import ALPHA
from neolens.studies.window_reach.summary import Carriers, Side

Row = list[str | int | float | None]

RECALL = (
    "model, task", "answer above distractor, {inside}", "{beyond}", "answer likeliest, {inside}", "{beyond}",
    "{beyond}, every layer restricted", "logit difference, {beyond}", "effect of the source token on it",
)  # fmt: skip
CHANGE = ("model, changed", "share removed {inside}, mean")
DISTANCE = "{} tokens back, by seed"
ABLATION = ("model, ablated", "{inside}", "lowest to highest seed", "{beyond}", "lowest to highest seed")
"""Headers, with the names of the distance that separates near from far."""


@checked
def recall_table(found: Sequence[Carriers]) -> tuple[list[str], list[Row]]:
    """Header and a row for each model and task, means over seeds: how well it answers on both sides of the window, and
    the effect of the source token on the logit difference."""
    rows: list[Row] = []
    for one in found:
        for task in one.tasks:
            inside, beyond = one.inside[task], one.beyond[task]
            values = [[side.above for side in inside], [side.above for side in beyond]]
            values += [[side.likeliest for side in inside], [side.likeliest for side in beyond]]
            values += [[side.likeliest_all_local for side in beyond]]
            values += [[side.difference for side in beyond], [side.carried for side in beyond]]
            rows.append([f"{one.name}, {task.replace('_', ' ')}", *(_mean(each) for each in values)])
    return _header(RECALL, found), rows


@checked
def change_table(found: Sequence[Carriers], task: str) -> tuple[list[str], list[Row]]:
    """Header and a row for each model and change of windows: the share of the effect of the source token that
    it removes, as a mean inside the window, and by seed at each distance beyond it."""
    _check_task(task, found)
    far = sorted({distance for one in found for distance in one.far[task]})
    rows: list[Row] = []
    for one in found:
        for group in map(str, one.beyond[task][0].changes["group"].values):
            near = _mean([float(side.changes["share"].sel(group=group)) for side in one.inside[task]])
            cells = [_by_seed(one.far[task].get(distance, ()), group) for distance in far]
            rows.append([f"{one.name}, {group}", near, *cells])
    return [*_header(CHANGE, found), *map(DISTANCE.format, far)], rows


@checked
def ablation_table(found: Sequence[Carriers], task: str) -> tuple[list[str], list[Row]]:
    """Header and a row for each model and group of heads: what mean ablation makes of the logit difference, as a mean
    over seeds and from the lowest to the highest."""
    _check_task(task, found)
    rows: list[Row] = []
    for one in found:
        for group in map(str, one.beyond[task][0].ablated["group"].values):
            row: Row = [f"{one.name}, {group}"]
            for sides in (one.inside[task], one.beyond[task]):
                effects = [float(each.ablated["effect"].sel(group=group)) for each in sides]
                row += [_mean(effects), f"{min(effects):.2f} to {max(effects):.2f}"]
            rows.append(row)
    return _header(ABLATION, found), rows


def _header(titles: Sequence[str], found: Sequence[Carriers]) -> list[str]:
    split = found[0].near_far if found else NearFar(0, "")
    return [title.format(inside=split.inside, beyond=split.beyond) for title in titles]


def _check_task(task: str, found: Sequence[Carriers]) -> None:
    for one in found:
        check_choice(task, f"task in the results of {one.name}", one.tasks)


def _by_seed(sides: Sequence[Side], group: str) -> str:
    """`0.73 (0.62 to 0.81)*; 0.02 (-0.10 to 0.12)`: by seed with 95 % intervals, significant ones with a star."""
    cells = []
    for one in (side.changes.sel(group=group) for side in sides):
        share, low, high = (f"{float(one[name]):.2f}" for name in ("share", "low", "high"))
        cells.append(f"{share} ({low} to {high}){'*' * (float(one['p_adjusted']) < ALPHA)}")
    return "; ".join(cells).replace("-0.00", "0.00")


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
