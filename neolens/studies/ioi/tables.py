"""A circuit in tables: how well models do the task, the heads that move most, and the published heads with their ranks.

For prompts of the family `neolens.prompts.indirect_object`, patched at its named positions io, s1, s2 and end, or for
pairs of a user's own, patched at the first token that differs (`changed`) and at the end.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr

from neolens.checks.annotations import checked
from neolens.patching.effects import inputs, of_head, ranked
from neolens.studies.ioi.published import PUBLISHED, role_of
from neolens.studies.ioi.summary import Circuit, accuracy, changed_position, means
from neolens.wording import interval

SHOWN, VISIBLE = 20, 0.005
"""Heads in a table at most, and the share that a head has to move by some patch to be listed."""

HEADS = (
    "The heads that move most by any of these patches, ranked by the size of z at end. A share: how much of the "
    "difference between the clean and the corrupted mean logit difference this one patch moves; positive where the "
    "clean activation favours the answer. Shares of several heads need not add up. k and v: where they move most. "
    "Interval: bootstrap over the prompts; it does not cover other weights."
)
ROLES = (
    "Wang et al. 2022, who patched direct paths only; here a patch moves all that follows from it. Each role has the "
    "patches that should show it: its heads with their ranks, and how many are among the first, as many as published "
    "heads should show there. Previous-token heads act before s2, backup name movers when name movers are ablated: "
    "neither can show."
)

SOURCE = "gpt2, Wang et al. 2022"
TASK_HEADER = ["model", "prompts", "answer above distractor", "mean logit difference, clean", "corrupted"]
HEAD_HEADER = ["", "head", "layer", "z at end", "95 % interval", "z at {at}", "q at end", "k", "at", "v", "at"]
ROLE_HEADER = ["published role", "patched", "heads and their ranks", "among the first"]

Row = list[str | int | float | None]


@checked
def task_table(found: Sequence[Circuit]) -> tuple[list[str], list[Row]]:
    """Header and a row for each model: how well it does the task; last, if one has published heads, what they reach."""
    rows: list[Row] = []
    for one in found:
        rows.append([one.result.attrs["model"], one.result.sizes["prompt"], accuracy(one.result), *means(one.result)])
    if any(one.roles for one in found):
        rows.append([SOURCE, None, PUBLISHED["accuracy"], PUBLISHED["logit_difference"], None])
    return TASK_HEADER, rows


@checked
def head_table(found: Circuit) -> tuple[list[str], list[Row]]:
    """Header and a row for each head that moves most by any patch, with its rank by the size of z at `end`."""
    at = changed_position(found.result)
    header = [name.format(at=at) for name in HEAD_HEADER] + ROLE_HEADER[:1] * bool(found.roles)
    end, changed = (found.shares["z"].sel(pos=position) for position in ("end", at))
    rows: list[Row] = []
    for rank, head in enumerate(ranked(end["share"]), start=1):
        effect, (q, k, v) = of_head(end, head), inputs(found.shares, head)
        row: Row = [
            rank,
            head,
            span(effect),
            float(effect["share"]),
            interval(float(effect["low"]), float(effect["high"])),
        ]
        row += [float(of_head(changed, head)["share"]), q.share, k.share, k.position, v.share, v.position]
        rows.append([*row, role_of(head, found.roles)] if found.roles else row)
    moved = sorted((_most(row) for row in rows), reverse=True)
    least = max([VISIBLE, *moved[SHOWN - 1 : SHOWN]])
    return header, [row for row in rows if _most(row) >= least]


def _most(row: Row) -> float:
    """The largest share in a row."""
    return max(abs(cell) for cell in row if isinstance(cell, float))


@checked
def published_table(found: Circuit) -> tuple[list[str], list[Row]]:
    """Header and a row for each role and patch: the heads with their ranks, and how many are where they should be."""
    return ROLE_HEADER, [
        [
            row.role,
            f"{row.site} at {row.position}",
            ", ".join(f"{head} ({rank})" for head, rank in row.ranks.items()),
            f"{row.found} of {len(row.ranks)} in {row.first}",
        ]
        for row in found.compared
    ]


def span(effect: xr.Dataset) -> str:
    """The kind of the layer of a head, with its window: `local 16`."""
    window = float(effect["window"])
    return str(effect["attention_kind"].values) + ("" if np.isnan(window) else f" {window:.0f}")
