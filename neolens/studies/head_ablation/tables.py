"""What heads are needed for, in tables: significant heads, and kinds of layers compared with as many random heads.

For what `neolens.studies.head_ablation.summary` holds; each table has a caption that defines its numbers.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr
from jaxtyping import Bool

from neolens.ablation.controls import control_groups
from neolens.checks.annotations import checked
from neolens.stats import ALPHA
from neolens.studies.head_ablation.comparisons import Compared
from neolens.studies.head_ablation.summary import CONDITIONS, Needs
from neolens.wording import interval, two_digits

LEAST = 0.01
"""Nats per token: heads that change the loss by less stand in figures, but in no table."""

SHOWN = 20
"""Heads in a table at most."""

HEADS = (
    f"The heads that change the loss by {LEAST} nats per token or more (p below {ALPHA}), the largest first, {SHOWN} "
    "at most. Effect: loss with the head ablated less that without ablation, mean over prompts; interval: bootstrap "
    "over prompts; p: sign flips of whole prompts, corrected for all heads of the model (max-T). Masked: the head only "
    "loses the keys beyond the window."
)
KINDS = (
    "Nats per token. Beside each group as many random heads, evenly from all layers: the mean effect of the draws, the "
    "lowest and the highest draw, and how many raise the loss less. More than random: the effect less the mean of the "
    "draws; p: times the comparisons that are tested (Bonferroni), or why nothing is tested. Masked: heads only lose "
    "the keys beyond the window."
)
LOSSES = "The loss without ablation, in nats per token, mean over prompts."

LOSS_HEADER = ["model", "beyond", "inside", "text", "random sequences", "prompts of text"]
KIND_HEADER = [
    *("ablated", "where", "effect", "95 % interval", "random heads", "lowest to highest", "smaller"),
    *("more than random", "95 % interval", "p"),
]
INTERVAL = "{} [95 % interval]"
_HEADER = {"beyond": "beyond", "cut": "beyond, masked", "inside": "inside", "text": "text"}

Row = list[str | int | float | None]


@checked
def head_table(found: Needs) -> tuple[list[str], list[Row]]:
    """Header and a row for each head that changes the loss under some condition, corrected; the largest first."""
    header = ["head", "layer", *(part for name in CONDITIONS for part in (INTERVAL.format(_HEADER[name]), "p"))]
    effects = [found.heads[name] for name in CONDITIONS]
    sizes = np.max([np.abs(one["effect"].values) for one in effects], axis=0)
    which = np.any([significant(one) for one in effects], axis=0)
    chosen = [row for row in np.argsort(-sizes, kind="stable").tolist() if which[row]][:SHOWN]
    rows: list[Row] = []
    for at in chosen:
        head = str(effects[0]["group"].values[at])
        row: Row = [head, str(found.facts.attention[int(head.split(".")[0])])]
        for one in (one.isel(group=at) for one in effects):
            effect, low, high = (float(one[name]) for name in ("effect", "low", "high"))
            row += [f"{two_digits(effect)} {interval(low, high)}", float(one["p_adjusted"])]
        rows.append(row)
    return header, rows or [["none", *[None] * (len(header) - 1)]]


@checked
def significant(effects: xr.Dataset) -> Bool[np.ndarray, " group"]:
    """Whether each effect is significant and `LEAST` or more."""
    return (effects["p_adjusted"].values < ALPHA) & (np.abs(effects["effect"].values) >= LEAST)


@checked
def loss_table(needs: Sequence[Needs]) -> tuple[list[str], list[Row]]:
    """Header and a row for each model: its loss under each condition, and of how many prompts."""
    return LOSS_HEADER, [
        [one.facts.name, *(float(one.groups[at]["baseline"]) for at in ("beyond", "inside", "text")),
         one.repeats.sizes["prompt"], one.text.sizes["prompt"]]
        for one in needs
    ]  # fmt: skip


@checked
def kind_table(found: Needs) -> tuple[list[str], list[Row]]:
    """Header and a row for each kind and condition: its effect, that of as many random heads, how much more it is."""
    rows: list[Row] = []
    for row in found.compared:
        start: Row = [row.group, _HEADER[row.condition], row.effect, interval(row.low, row.high)]
        if not row.draws:
            rows.append([*start, None, "", "", None, "", None])
            continue
        ends, below = interval(min(row.draws), max(row.draws)), f"{smaller(row)}/{len(row.draws)}"
        more: Row = [row.more, interval(row.more_low, row.more_high), _p(row)]
        rows.append([*start, float(np.mean(row.draws)), ends, below, *more])
    return KIND_HEADER, rows


@checked
def smaller(row: Compared) -> int:
    """Draws of random heads that raise the loss less than the group does."""
    return sum(draw < row.effect for draw in row.draws)


def _p(row: Compared) -> float | str:
    """The corrected p, or why nothing was tested."""
    if np.isfinite(row.p):
        return row.p
    return row.verdict.status if row.fixed else row.verdict.reason


@checked
def drawn(found: Needs) -> list[str]:
    """The groups of a figure by distance: those that are compared with random heads, and the random heads."""
    compared = dict.fromkeys(row.group for row in found.compared)
    return [*compared, *control_groups(found.repeats)]
