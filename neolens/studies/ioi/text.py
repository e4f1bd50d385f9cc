"""A circuit in sentences and tables: what patching found in one model, said only as far as the numbers say it.

For prompts of the family `neolens.prompts.indirect_object`, patched at its named positions io, s1, s2 and end, or for
pairs of a user's own, patched at the first token that differs (`changed`) and at the end.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr

from neolens.checks.annotations import checked
from neolens.patching.effects import inputs, of_head, ranked
from neolens.studies.ioi.published import PUBLISHED, Compared, role_of
from neolens.studies.ioi.summary import Circuit, changed_position
from neolens.wording import join

SOLVED = 0.9
"""The share of clean prompts with the answer above the distractor from which on a model counts as doing the task."""

LEAST = 0.02
"""Shares below this stand in tables and figures, but in no sentence."""

FEW = 8
"""Prompts below which the intervals are warned about."""

SHOWN, VISIBLE = 20, 0.005
"""Heads in a table at most, and the share that one has to move by some patch to stand there."""

Row = list[str | int | float | None]


@checked
def solves(found: Circuit) -> bool:
    """Whether a model does the task: the answer above the distractor in 90 % of clean prompts, and preferred in them
    more than in the corrupted ones."""
    clean, corrupted = _means(found.result)
    return _accuracy(found.result) >= SOLVED and clean > corrupted


@checked
def finding(found: Circuit) -> str:
    """What was found in one model; of one that does not do the task, only how far it does."""
    result, shares = found.result, found.shares
    right, (clean, corrupted) = int((result["clean"] > 0).sum()), _means(result)
    task = (
        f"{result.attrs['model']} puts the answer above the distractor in {right} of {result.sizes['prompt']} prompts "
        f"(mean logit difference {clean:.2f}, corrupted {corrupted:.2f})."
    )
    if not solves(found):
        return task
    parts = [task, _residual(shares["resid_pre"]["share"]), _heads(shares), _kinds(shares["z"]), _found(found.compared)]
    return " ".join(filter(None, parts))


@checked
def warnings(found: Circuit) -> list[str]:
    """What keeps the numbers of a model from meaning what they seem to mean."""
    result, said = found.result, []
    name, prompts, right = result.attrs["model"], result.sizes["prompt"], int((result["clean"] > 0).sum())
    clean, corrupted = _means(result)
    if _accuracy(result) < SOLVED:
        said.append(
            f"{name} puts the answer above the distractor in only {right} of {prompts} prompts, less than "
            f"{SOLVED:.0%}: it does not do this task, so its heads are no circuit for it."
        )
    if clean <= corrupted:
        said.append(
            f"{name} prefers the answer no more in the clean prompts than in the corrupted ones: there is nothing to "
            "have a share of, and its table is blank."
        )
    if prompts < FEW:
        said.append(f"{name} was asked fewer than {FEW} prompts ({prompts}): its intervals are rough.")
    return said


@checked
def task_table(found: Sequence[Circuit]) -> tuple[list[str], list[Row]]:
    """Header and a row for each model: how well it does the task; last, if one has published heads, what they reach."""
    header = ["model", "prompts", "answer above distractor", "mean logit difference, clean", "corrupted"]
    rows: list[Row] = []
    for one in found:
        rows.append([one.result.attrs["model"], one.result.sizes["prompt"], _accuracy(one.result), *_means(one.result)])
    if any(one.roles for one in found):
        rows.append(["gpt2, Wang et al. 2022", None, PUBLISHED["accuracy"], PUBLISHED["logit_difference"], None])
    return header, rows


@checked
def head_table(found: Circuit) -> tuple[list[str], list[Row]]:
    """Header and a row for each head that moves most by any patch, with its rank by the size of z at `end`."""
    at = changed_position(found.result)
    header = ["", "head", "layer", "z at end", "95 % interval", f"z at {at}", "q at end", "k", "at", "v", "at"]
    end, changed = (found.shares["z"].sel(pos=position) for position in ("end", at))
    rows: list[Row] = []
    for rank, head in enumerate(ranked(end["share"]), start=1):
        effect, (q, k, v) = of_head(end, head), inputs(found.shares, head)
        row: Row = [rank, head, _span(effect), float(effect["share"]), _interval(effect)]
        row += [float(of_head(changed, head)["share"]), q.share, k.share, k.position, v.share, v.position]
        rows.append([*row, role_of(head, found.roles)] if found.roles else row)
    moved = sorted((_most(row) for row in rows), reverse=True)
    least = max([VISIBLE, *moved[SHOWN - 1 : SHOWN]])
    return [*header, "published role"] if found.roles else header, [row for row in rows if _most(row) >= least]


def _most(row: Row) -> float:
    """The largest share in a row."""
    return max(abs(cell) for cell in row if isinstance(cell, float))


@checked
def published_table(found: Circuit) -> tuple[list[str], list[Row]]:
    """Header and a row for each role and patch: the heads with their ranks, and how many are where they should be."""
    return ["published role", "patched", "heads and their ranks", "among the first"], [
        [
            row.role,
            f"{row.site} at {row.position}",
            ", ".join(f"{head} ({rank})" for head, rank in row.ranks.items()),
            f"{row.found} of {len(row.ranks)} in {row.first}",
        ]
        for row in found.compared
    ]


def _accuracy(result: xr.Dataset) -> float:
    return float((result["clean"] > 0).mean())


def _means(result: xr.Dataset) -> tuple[float, float]:
    return float(result["clean"].mean()), float(result["corrupted"].mean())


def _span(effect: xr.Dataset) -> str:
    window = float(effect["window"])
    return str(effect["attention_kind"].values) + ("" if np.isnan(window) else f" {window:.0f}")


def _interval(effect: xr.Dataset) -> str:
    low, high = float(effect["low"]), float(effect["high"])
    return "" if np.isnan(low) else f"{low:.3f} to {high:.3f}"


def _residual(share: xr.DataArray) -> str:
    """Where, and before which layers, the residual stream moves half of the difference or more."""
    held = {str(at): share["layer"].values[share.sel(pos=at).values >= 0.5].tolist() for at in share["pos"].values}
    places = [f"at {_place(at)} before {_layers(layers)}" for at, layers in held.items() if layers]
    said = "Of what lies between the two, patching the residual stream moves half or more"
    return f"{said} {join(places)}." if places else ""


def _place(position: str) -> str:
    return "the first changed token" if position == "changed" else position


def _layers(layers: list[int]) -> str:
    if len(layers) == 1:
        return f"layer {layers[0]}"
    if layers == list(range(layers[0], layers[-1] + 1)):
        return f"layers {layers[0]} to {layers[-1]}"
    return f"layers {join(list(map(str, layers)))}"


def _heads(shares: Mapping[str, xr.Dataset]) -> str:
    """The strongest heads at the end, three at most, each with the input that moves most."""
    end = shares["z"].sel(pos="end")
    strong = [head for head in ranked(end["share"]) if _tells(of_head(end, head))][:3]
    if not strong:
        return f"No single head moves {LEAST:.0%} of it at end, with an interval that leaves out 0."
    told = []
    for head in strong:
        effect, source = of_head(end, head), max(inputs(shares, head), key=lambda one: abs(one.share))
        at = f"{source.site} at {_place(source.position)}"
        through = f", {at} {source.share:.2f}" if abs(source.share) >= LEAST else ""
        told.append(f"{head} ({_span(effect)}; z {float(effect['share']):.2f}{through})")
    most = "The head that moves most of it at end is" if len(told) == 1 else "The heads that move most of it at end are"
    return f"{most} {join(told)}."


def _tells(effect: xr.Dataset) -> bool:
    """Whether a share is large enough to speak of, and its interval (if there is one) all on one side of 0."""
    low, high = float(effect["low"]), float(effect["high"])
    return abs(float(effect["share"])) >= LEAST and not low <= 0 <= high


def _kinds(z: xr.Dataset) -> str:
    """Of a model with layers of both kinds: the strongest head at the end in each."""
    end, best = z.sel(pos="end"), []
    for kind in ("global", "local"):
        of_kind = end.isel(layer=end["attention_kind"].values == kind)
        for head in ranked(of_kind["share"])[:1]:
            share = float(of_head(of_kind, head)["share"])
            best.append(f"{head} ({share:.2f})" if abs(share) >= LEAST else f"none that moves {LEAST:.0%}")
    return f"The strongest there in a global layer: {best[0]}; in a local one: {best[1]}." if len(best) == 2 else ""


def _found(rows: Sequence[Compared]) -> str:
    """How many of the published heads stand where they should."""
    told = [
        f"{row.found} of {len(row.ranks)} {row.role} heads (by {row.site} at {row.position}, first {row.first})"
        for row in rows
    ]
    return f"Of the published heads these are among the strongest: {join(told)}." if told else ""
