"""Scores by kind of layer, how much is copied, and the exact checks of windows, of several models by name.

Each function takes results as `neolens.studies.local_vs_global` measures them: scores on text; `induction` and `copied`
on sequences repeated inside the window, `induction_beyond` and `copied_beyond` on sequences repeated beyond it,
`copied_beyond_all_local` with every layer restricted to the window; the values of the exact checks in the attributes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import xarray as xr

from neolens.checks import check_number
from neolens.checks.annotations import Size, checked
from neolens.models import from_record
from neolens.near_far import NearFar, near_far
from neolens.results import check_result, check_results
from neolens.scores import by_kind, top_head
from neolens.studies.study import ExactCheck

Scores = Mapping[str, xr.Dataset]
Row = list[str | float | None]

CHECKS = {
    "difference_at_window": (
        "largest change of a logit when every layer is made global, prompt as long as the window",
        True,
    ),
    "difference_past_window": ("the same, one token longer", False),
    "mass_out_of_reach": ("largest attention of a local head at the window or beyond", True),
    "induction_out_of_reach": ("largest induction score of a local head beyond the window", True),
}
"""Attribute -> the claim, and whether its value has to be exactly 0 (else: anything but 0)."""

CHECKED = ("exact check", "value", "expected", "passed")

COLUMNS = {
    "mean_distance": "mean distance",
    "share_beyond": "share {beyond}",
    "entropy_normalised": "normalised entropy",
    "previous_token": "previous token",
    "sink": "sink",
    "induction": "induction inside",
    "induction_beyond": "induction beyond",
}
"""Score -> its title, of those that are compared by kind of layer; see `column_titles`."""

UNIFORM = "mean distance, uniform head"

COPIED = {
    "copied": "after {} tokens",
    "copied_beyond": "after {} tokens",
    "copied_beyond_all_local": "after {} tokens, every layer restricted",
}
"""Share of a repeated sequence that is predicted -> its title."""

BEST = {"induction": "best induction head after {} tokens", "induction_beyond": "after {} tokens"}
"""Score -> the title of the head with the highest."""


@checked
def column_titles(split: NearFar) -> dict[str, str]:
    """Score -> its title, with the name of the distance that separates near from far."""
    return {score: title.format(beyond=split.beyond) for score, title in COLUMNS.items()}


@checked
def split_of(scores: Scores, window: Size, model: str | None = None) -> NearFar:
    """What a distance is called in a report of these models: a window, or where it comes from."""
    for name, result in scores.items():
        check_result(result, f"scores[{name!r}]", ["window"], source="neolens.attention")
    anatomies = [from_record(result.attrs["anatomy"]) for result in scores.values() if "anatomy" in result.attrs]
    windows = {
        name: [int(size) for size in np.unique(result["window"].values) if np.isfinite(size)]
        for name, result in scores.items()
    }
    return near_far(window, windows, [facts.context for facts in anatomies], model)


@checked
def exact_checks(scores: Scores) -> list[ExactCheck]:
    """Of each model, the checks of windows that were measured."""
    return [
        ExactCheck(claim, value, zero, subject=name)
        for name, result in scores.items()
        for attribute, (claim, zero) in CHECKS.items()
        if (value := _value(result, name, attribute)) is not None
    ]


@checked
def check_table(scores: Scores) -> tuple[list[str], list[Row]]:
    """Header and a row for each exact check: the value, what it has to be, and whether it is."""
    rows: list[Row] = [
        [f"{one.subject}: {one.claim}", one.value, "0" if one.zero else "not 0", "yes" if one.passes else "FAILED"]
        for one in exact_checks(scores)
    ]
    return list(CHECKED), rows


@checked
def kind_table(scores: Scores, window: Size) -> tuple[list[str], list[Row]]:
    """Header and a row for each model and kind of layer: means over prompts, heads and layers."""
    check_scores(scores, *("mass_by_distance" if score == "share_beyond" else score for score in COLUMNS))
    rows: list[Row] = []
    for name, result in scores.items():
        kinds = by_kind(result, window)
        for kind in kinds["attention_kind"].values:
            row = kinds.sel(attention_kind=kind)
            first, *others = (float(row[score]) for score in COLUMNS)
            rows.append([f"{name}, {kind}", first, uniform_distance(result, kind), *others])
    first_title, *titles = column_titles(split_of(scores, window)).values()
    return ["layers", first_title, UNIFORM, *titles], rows


@checked
def copy_table(scores: Scores, lengths: tuple[Size, Size]) -> tuple[list[str], list[Row]]:
    """Header and a row for each model: the share of the second half of a repeated sequence that is predicted, and the
    heads with the highest induction scores."""
    header, rows = ["copied"], list[Row]([name] for name in scores)
    for column, title in (COPIED | BEST).items():
        header.append(title.format(lengths["beyond" in column]))
        for row, (name, result) in zip(rows, scores.items(), strict=True):
            if column in result:
                check_result(result, f"scores[{name!r}]", [column], ["prompt"], "neolens.attention")
            present = column in result
            row.append((_best(result[column]) if column in BEST else float(result[column].mean())) if present else None)
    return header, rows


def check_scores(scores: Scores, *variables: str) -> None:
    """Check that results, where there are some, have what is read of them, by prompt."""
    labels = ["attention_kind", "window", "length", "layer", *(["head"] if variables else [])]
    source = "neolens.attention, as neolens.studies.local_vs_global measures them"
    if scores:
        check_results(scores, "scores", [*labels, *variables], ["layer", "prompt"], source)


def uniform_distance(result: xr.Dataset, kind: str) -> float:
    """The mean distance of a head that attends alike to every key that it sees: half the way to the farthest."""
    window = float(result["window"].where(result["attention_kind"] == kind).max())
    lengths = result["length"].dropna("prompt").values
    farthest = [np.minimum(np.arange(length), np.inf if np.isnan(window) else window - 1) for length in lengths]
    return float(np.mean([np.mean(steps) / 2 for steps in farthest]))


def _value(result: xr.Dataset, name: str, attribute: str) -> float | None:
    """The value of an exact check, which is an attribute; None where it was not measured."""
    value = result.attrs.get(attribute)
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return value
    return check_number(value, f"attribute {attribute} of scores[{name!r}]")


def _best(score: xr.DataArray) -> str:
    head, kind, value = top_head(score)
    return f"{head} ({kind}, {value:.2f})"
