"""From numbers to sentences and tables: what a comparison found, said only as far as the numbers say it.

Each function takes the results of several models by name, as `neolens.studies.local_vs_global` measures them: scores on
text; `induction` and `copied` on sequences repeated inside the window, `induction_beyond` and `copied_beyond` on
sequences repeated beyond it, `copied_beyond_all_local` with every layer held to the window; the figures of the laws
in the attributes.
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
from neolens.wording import percent

Measured = Mapping[str, xr.Dataset]

_LAWS = {
    "difference_at_window": (
        "window: largest change of a logit when every layer is made global, prompt as long as the window",
        True,
    ),
    "difference_past_window": ("window: the same, one token longer", False),
    "mass_out_of_reach": ("out of reach: largest mass of a local head at the window or beyond", True),
    "induction_out_of_reach": (
        "out of reach: largest induction score of a local head beyond the window",
        True,
    ),
}
"""Attribute -> the law, and whether its figure has to be exactly 0 (else: anything but 0)."""

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


@checked
def column_titles(split: NearFar) -> dict[str, str]:
    """Score -> its title, with the name of the distance that separates near from far."""
    return {score: title.format(beyond=split.beyond) for score, title in COLUMNS.items()}


@checked
def split_of(measured: Measured, window: Size, model: str | None = None) -> NearFar:
    """What a distance is called in a report of these models: a window, or where it comes from."""
    for name, result in measured.items():
        check_result(result, f"measured[{name!r}]", ["window"], source="neolens.attention")
    anatomies = [from_record(result.attrs["anatomy"]) for result in measured.values() if "anatomy" in result.attrs]
    windows = {
        name: [int(size) for size in np.unique(result["window"].values) if np.isfinite(size)]
        for name, result in measured.items()
    }
    return near_far(window, windows, [facts.context for facts in anatomies], model)


@checked
def local_and_global(measured: Measured, window: Size, lengths: tuple[Size, Size]) -> list[str]:
    """Where local and global layers look, what is copied inside and beyond the window, and by which heads.

    Args:
        lengths: the repeat lengths inside and beyond the window.
    """
    scores = ("mean_distance", "mass_by_distance", "sink", "induction", "induction_beyond")
    _check(measured, *scores, "copied", "copied_beyond")
    mixed = [name for name, result in measured.items() if set(result["attention_kind"].values) == {"local", "global"}]
    plain = [name for name, result in measured.items() if set(result["attention_kind"].values) == {"global"}]
    _check({name: measured[name] for name in mixed}, "copied_beyond_all_local")
    sentences = [_where_they_look(name, measured[name], window) for name in mixed]
    sentences += [_what_is_copied(name, measured[name], lengths) for name in mixed]
    if plain:
        split = split_of(measured, window, plain[0])
        at = f"at repeat lengths {lengths[0]}, {split.inside}, and {lengths[1]}, {split.beyond}"
        at += f" ({split.origin})" if split.origin else ""
        copied = "; ".join(_copied_by_global(name, measured[name]) for name in plain)
        sentences.append(f"With global attention in every layer, {at}: {copied}.")
    return sentences


@checked
def laws(measured: Measured) -> list[tuple[str, str, float, bool]]:
    """Of each model and law that was tested: model, law, figure, and whether it has to be exactly 0 (else: not 0)."""
    return [
        (name, law, figure, zero)
        for name, result in measured.items()
        for attribute, (law, zero) in _LAWS.items()
        if (figure := _figure(result, name, attribute)) is not None
    ]


@checked
def laws_hold(measured: Measured) -> bool:
    """Whether every figure that has to be exactly 0 is, and every one that must not be is not."""
    return all(_holds(figure, zero) for *_, figure, zero in laws(measured))


@checked
def law_table(measured: Measured) -> tuple[list[str], list[list[str | float]]]:
    """Header and a row for each model and law: the figure, what it has to be, whether it is."""
    rows: list[list[str | float]] = [
        [f"{name}: {law}", figure, "0" if zero else "not 0", "holds" if _holds(figure, zero) else "BROKEN"]
        for name, law, figure, zero in laws(measured)
    ]
    return ["law", "figure", "has to be", ""], rows or [["no model here has local layers", "", "", ""]]


@checked
def kind_table(measured: Measured, window: Size) -> tuple[list[str], list[list[str | float]]]:
    """Header and a row for each model and kind of layer: means over prompts, heads and layers."""
    _check(measured, *("mass_by_distance" if score == "share_beyond" else score for score in COLUMNS))
    rows: list[list[str | float]] = []
    for name, result in measured.items():
        kinds = by_kind(result, window)
        for kind in kinds["attention_kind"].values:
            row = kinds.sel(attention_kind=kind)
            first, *others = (float(row[score]) for score in COLUMNS)
            rows.append([f"{name}, {kind}", first, _uniform_distance(result, kind), *others])
    first_title, *titles = column_titles(split_of(measured, window)).values()
    return ["layers", first_title, "the same, uniform", *titles], rows


@checked
def copy_table(measured: Measured, lengths: tuple[Size, Size]) -> tuple[list[str], list[list[str | float | None]]]:
    """Header and a row for each model: the share of the second half of a repeated sequence that is predicted."""
    for name, result in measured.items():
        present = [share for share in ("copied", "copied_beyond", "copied_beyond_all_local") if share in result]
        check_result(result, f"measured[{name!r}]", present, source="neolens.attention")
    header = ["copied", f"after {lengths[0]} tokens", f"after {lengths[1]}", f"after {lengths[1]}, every layer local"]
    shares = ("copied", "copied_beyond", "copied_beyond_all_local")
    rows: list[list[str | float | None]] = [
        [name, *(float(result[share].mean()) if share in result else None for share in shares)]
        for name, result in measured.items()
    ]
    return header, rows


@checked
def warnings(measured: Measured, window: Size) -> list[str]:
    """What keeps a number from meaning what it seems to mean."""
    _check(measured)
    short = [
        f"{name} was given text of {int(result['length'].max())} tokens a prompt, which does not cross "
        f"{split_of(measured, window, name).name}: on it local and global layers see the same. Give a longer text."
        for name, result in measured.items()
        if int(result["length"].max()) <= window
    ]
    return short + [
        f"{name} does not know {percent(result.attrs['unknown'])} of the text's words and reads each as <unk>: its "
        "figures on text describe repeated <unk> more than the text. Use a public model for this text."
        for name, result in measured.items()
        if result.attrs.get("unknown", 0) > 0.05
    ]


def _figure(result: xr.Dataset, name: str, attribute: str) -> float | None:
    """The figure of a law, which is an attribute; None where the law was not tested."""
    value = result.attrs.get(attribute)
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return value
    return check_number(value, f"attribute {attribute} of measured[{name!r}]")


def _check(measured: Measured, *variables: str) -> None:
    """Check that results, where there are some, have what is read of them, by prompt."""
    labels = ["attention_kind", "window", "length", "layer", *(["head"] if variables else [])]
    source = "neolens.attention, as neolens.studies.local_vs_global measures them"
    if measured:
        check_results(measured, "measured", [*labels, *variables], ["layer", "prompt"], source)


def _holds(figure: float, zero: bool) -> bool:
    return not math.isnan(figure) and bool(figure == 0) is zero


def _uniform_distance(result: xr.Dataset, kind: str) -> float:
    """The mean distance of a head that attends alike to every key that it sees: half the way to the farthest."""
    window = float(result["window"].where(result["attention_kind"] == kind).max())
    lengths = result["length"].dropna("prompt").values
    farthest = [np.minimum(np.arange(length), np.inf if np.isnan(window) else window - 1) for length in lengths]
    return float(np.mean([np.mean(steps) / 2 for steps in farthest]))


def _where_they_look(name: str, result: xr.Dataset, window: Size) -> str:
    kinds = by_kind(result, window)
    local, everywhere = (kinds.sel(attention_kind=kind) for kind in ("local", "global"))
    near, far = (float(kind["mean_distance"]) for kind in (local, everywhere))
    share_near, share_far = (percent(float(kind["share_beyond"])) for kind in (local, everywhere))
    prompts = int(result["sink"].notnull().any(("layer", "head")).sum())
    return (
        f"In {name}, a local layer looks {near:.1f} tokens back on average and a global one {far:.1f} (a uniform head: "
        f"{_uniform_distance(result, 'local'):.1f} and {_uniform_distance(result, 'global'):.1f}); {share_near} of "
        f"local and {share_far} of global attention lies {window} or more tokens back "
        f"({prompts} {'prompt' if prompts == 1 else 'prompts'} of {int(result['length'].max())} tokens)."
    )


def _what_is_copied(name: str, result: xr.Dataset, lengths: tuple[Size, Size]) -> str:
    kinds = result["attention_kind"].values
    local, everywhere = (result["induction_beyond"].isel(layer=kinds == kind) for kind in ("local", "global"))
    shares = ("copied", "copied_beyond", "copied_beyond_all_local")
    inside, beyond, alone = (percent(float(result[copied].mean())) for copied in shares)
    largest = float(local.max())
    reach = "no local head can reach" if largest == 0 else "a local head can still reach"
    heads = " and ".join(_top(result["induction"].isel(layer=kinds == kind)) for kind in ("local", "global"))
    return (
        f"{name} copies {inside} of a sequence repeated after {lengths[0]} tokens, where its best local and global "
        f"induction heads are {heads}, and {beyond} of one repeated after {lengths[1]}: there {reach} (largest "
        f"induction score {largest:.2g}), and the best global head is {_top(everywhere)}. With its global layers held "
        f"to the same window, under the same weights, it copies {alone}."
    )


def _copied_by_global(name: str, result: xr.Dataset) -> str:
    inside, beyond = (percent(float(result[copied].mean())) for copied in ("copied", "copied_beyond"))
    return f"{name} copies {inside} and {beyond} (best induction head beyond: {_top(result['induction_beyond'])})"


def _top(score: xr.DataArray) -> str:
    head, kind, value = top_head(score)
    return f"{head} ({kind}, {value:.2f})"
