"""What heads are needed for, in tables: the heads that tell, and the kinds of layers beside as many random heads.

For what `neolens.studies.head_ablation.summary` holds; each table has a caption that says what its numbers are.
"""

from __future__ import annotations

import numpy as np

from neolens.ablation.controls import control_groups
from neolens.checks.annotations import checked
from neolens.studies.head_ablation.comparisons import Compared
from neolens.studies.head_ablation.summary import CONDITIONS, Needs
from neolens.studies.head_ablation.text import interval, number, smaller, tells

SHOWN = 20
"""Heads in a table at most."""

HEADS = (
    f"The heads that change the loss by 0.01 or more (p below 0.05), the largest first, {SHOWN} at most. Effect: loss "
    "with the head ablated less the loss as it is, nats a token, mean over prompts; interval: bootstrap over prompts; "
    "p: sign flips of whole prompts, corrected for all heads of the model (max-T). It is at least 1 / 1,001, with n "
    "prompts up to 12 at least 2 / 2^n. Cut: the head only loses the keys that are {beyond}."
)
KINDS = (
    "Beside each group random heads, as many, evenly from all layers: the mean effect of the draws, the lowest and the "
    "highest draw, and how many raise the loss less. The last three columns: how much more the group raises it than "
    "the draws do on average, with its interval over prompts (it knows of no other draws), and p times the "
    "comparisons in this table that are tested (Bonferroni). Blank: as many heads would be the same ones. Words in "
    "place of p: there is no test, because masking changes nothing by construction (exact), or because a loss ends at "
    "chance level or at its ceiling."
)

_HEADER = {"beyond": "beyond", "cut": "beyond, cut", "inside": "inside", "text": "text"}

Row = list[str | int | float | None]


@checked
def head_table(found: Needs) -> tuple[list[str], list[Row]]:
    """Header and a row for each head that changes the loss under some condition, corrected; the largest first."""
    header = ["head", "layer", *(part for name in CONDITIONS for part in (f"{_HEADER[name]} (95 % interval)", "p"))]
    effects = [found.heads[name] for name in CONDITIONS]
    sizes = np.max([np.abs(one["effect"].values) for one in effects], axis=0)
    which = np.any([tells(one) for one in effects], axis=0)
    chosen = [row for row in np.argsort(-sizes, kind="stable").tolist() if which[row]][:SHOWN]
    rows: list[Row] = []
    for at in chosen:
        head = str(effects[0]["group"].values[at])
        row: Row = [head, str(found.facts.attention[int(head.split(".")[0])])]
        for one in (one.isel(group=at) for one in effects):
            its = interval(float(one["low"]), float(one["high"]))
            row += [f"{number(float(one['effect']))} ({its})", float(one["p_adjusted"])]
        rows.append(row)
    return header, rows or [["no head", *[None] * (len(header) - 1)]]


@checked
def kind_table(found: Needs) -> tuple[list[str], list[Row]]:
    """Header and a row for each kind and condition: its effect, that of as many random heads, how much more it is."""
    header = ["ablated", "where", "effect", "95 % interval", "random heads", "lowest to highest", "smaller"]
    rows: list[Row] = []
    for row in found.compared:
        told: Row = [row.group, _HEADER[row.condition], row.effect, interval(row.low, row.high)]
        if row.draws:
            spread = interval(min(row.draws), max(row.draws))
            told += [float(np.mean(row.draws)), spread, f"{smaller(row)} of {len(row.draws)}"]
            told += [row.more, interval(row.more_low, row.more_high), _p(row)]
        else:
            told += [None, "", "", None, "", None]
        rows.append(told)
    return [*header, "more than random", "95 % interval", "p"], rows


def _p(row: Compared) -> float | str:
    """The corrected p, or why nothing was tested."""
    if np.isfinite(row.p):
        return row.p
    return row.verdict.status if row.verdict.status in ("exact", "contradicted") else row.verdict.reason


@checked
def drawn(found: Needs) -> list[str]:
    """The groups of a figure by distance: those that are compared with random heads, and the random heads."""
    compared = dict.fromkeys(row.group for row in found.compared)
    return [*compared, *control_groups(found.repeats)]
