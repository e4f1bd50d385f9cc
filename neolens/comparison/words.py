"""The whole question in a few sentences, said only as far as the numbers say it.

Seeds are the sample: what is said of an arm is the mean over its networks with Student's interval, and arms are told
apart seed by seed, corrected for all that is compared. What single instruments say in full stands in the sections of
the report.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr

from neolens import circuits, encodings, findings, seeds
from neolens.circuits import crossing_words, need_words
from neolens.circuits.words import SOLVED, listed
from neolens.comparison.found import Found
from neolens.comparison.measures import compared
from neolens.contrasts import Contrast, in_short, kind
from neolens.models.describe import differences
from neolens.scores import by_kind

Row = list[str | int | float | None]


def summary(found: Sequence[Found], contrasts: tuple[Sequence[Contrast], Sequence[Contrast]]) -> dict[str, list[str]]:
    """What is said first: question -> its answer in sentences; a question without an answer is left out.

    Args:
        contrasts: of `contrasted`.
    """
    on_attention, on_positions = contrasts
    said = {
        "What do local layers do that global ones do not?": [
            on_laws(found),
            *(_where_they_look(one) for one in found if kind(one.facts, "attention") == "global and local"),
            *in_short(on_attention),
            *crossing_words.compared([one.carriers for one in found if one.carriers is not None]),
        ],
        "What do rotary positions do that absolute ones do not?": [*in_short(on_positions), *_moved(found)],
        "Who finds the indirect object?": _who_finds(found),
    }
    return {question: sentences for question, sentences in said.items() if sentences}


def on_laws(found: Sequence[Found]) -> str:
    """Whether everything that has to be exactly 0 is."""
    held = {name: findings.laws_hold({name: one}) for name, one in attentions(found).items() if _has_laws(one)}
    if not held:
        return "No network here has local layers, so there is no law of windows to test."
    if broken := [name for name, holds in held.items() if not holds]:
        return f"A law of windows that has to hold exactly is broken in {listed(broken)}: see the table of laws."
    asked = [set(attentions(found)[name].attrs) for name in held]
    said = [text for law, text in _LAWS.items() if all(law in its for its in asked)]
    if not said:
        return "No law of windows could be tested, for no prompt is longer than the windows."
    return f"In every network with local layers ({listed(list(held))}) {', and '.join(said)}."


def laws_hold(found: Sequence[Found]) -> bool:
    """Whether every law of windows holds, in every network."""
    return findings.laws_hold(attentions(found))


def attentions(found: Sequence[Found]) -> dict[str, xr.Dataset]:
    """Network -> its scores, of all arms and seeds."""
    return {
        name: parts["attention"]
        for one in found
        for name, parts in zip(one.fingerprints(), one.networks.values(), strict=True)
    }


def warnings(found: Sequence[Found], left_out: Mapping[str, Mapping[str, str]]) -> list[str]:
    """What keeps numbers from meaning what they seem to mean, and what a model could not be asked.

    Args:
        left_out: model -> part -> why.
    """
    said = [
        f"{model} was not asked for {_TITLES[part]}: {reason}"
        for model, parts in left_out.items()
        for part, reason in parts.items()
    ]
    said += findings.warnings({one.name: one.first["attention"] for one in found}, found[0].window)
    said += encodings.warnings([one.encoding for one in found])
    said += [text for one in found for text in _unable(one)]
    return list(dict.fromkeys(said))


def kind_table(found: Sequence[Found]) -> tuple[list[str], list[Row]]:
    """Header and a row for each model, kind of layer and score: the mean over heads, layers and prompts, then seeds."""
    header = ["model, layers", "score", "mean over seeds", "low", "high", "seeds"]
    rows: list[Row] = []
    for one in found:
        each = [by_kind(parts["attention"], one.window) for parts in one.networks.values()]
        for its_kind in each[0]["attention_kind"].values.tolist():
            for score, title in findings.COLUMNS.items():
                its = seeds.estimate(np.array([float(its[score].sel(attention_kind=its_kind)) for its in each]))
                rows.append([f"{one.name}, {its_kind}", title, its.mean, its.low, its.high, its.n])
    return header, rows


def contrasted(found: Sequence[Found]) -> tuple[list[Contrast], list[Contrast]]:
    """The differences between arms that differ in attention alone, and in positions alone."""
    return compared(found), encodings.contrasts([one.encoding for one in found])


def alone(found: Sequence[Found], question: str) -> list[tuple[str, str]]:
    """The pairs of models that differ in what is asked, "attention" or "position", and in nothing else."""
    return [
        (one.name, other.name)
        for at, one in enumerate(found)
        for other in found[at + 1 :]
        if kind(one.facts, question) != kind(other.facts, question)
        and not differences([one.facts, other.facts], question)
    ]


_LAWS = {
    "mass_out_of_reach": "attention beyond the window is exactly 0",
    "difference_at_window": "up to the window local and global layers compute exactly the same logits",
}
"""Attribute of `findings.laws_hold` that is there where the law was tested -> what it says."""

_TITLES = {"reach": "an answer beyond the window", "circuit": "the indirect object"}


def _where_they_look(one: Found) -> str:
    each = [by_kind(parts["attention"], one.window) for parts in one.networks.values()]

    def over(of: str, score: str, form: str) -> str:
        values = [float(its[score].sel(attention_kind=of)) for its in each]
        return seeds.in_words(seeds.estimate(np.array(values)), form)

    look = (
        f"On text a local layer of {one.name} looks {over('local', 'mean_distance', '.1f')} tokens back on average, a "
        f"global one {over('global', 'mean_distance', '.1f')}"
    )
    if int(one.first["attention"]["length"].max()) <= one.window:
        return f"{look}; no text is longer than the window of {one.window}."
    far = [float(its["share_beyond"].sel(attention_kind="local")) for its in each]
    nothing = "exactly 0" if max(far) == 0 else over("local", "share_beyond", ".2g")
    return (
        f"{look}; of local attention {nothing} lies beyond the window of {one.window}, of global attention the share "
        f"{over('global', 'share_beyond', '.2f')}."
    )


def _moved(found: Sequence[Found]) -> list[str]:
    """By how much of their spread logits move when all positions do; what is rounding is said to be rounding."""
    told = []
    for one in found:
        if "shift_logits" not in one.encoding.result:
            continue
        moved = seeds.estimate(one.encoding.result["shift_logits"].isel(shift=-1))
        exact = float(one.encoding.result["shift_exact"].isel(shift=-1).max())
        rounding = exact < encodings.ROUNDING
        size = f"{moved.mean:.1g}, rounding ({exact:.1g} in float64)" if rounding else seeds.in_words(moved)
        told.append((int(one.encoding.result["shift"][-1]), f"{one.name} ({one.encoding.kind}) {size}"))
    return [
        f"With every position index moved by {by}, the logit that moves most moves by, of the spread of the logits: "
        f"{'; '.join(text for its, text in told if its == by)}."
        for by in dict.fromkeys(by for by, _ in told)
    ]


def _who_finds(found: Sequence[Found]) -> list[str]:
    """How many networks do the task, and in each the head whose output at the end moves most of it."""
    asked = [one for one in found if one.circuits]
    if not asked:
        return []
    told = []
    for one in asked:
        able = [its for its in one.circuits if _solves(its)]
        best = ", ".join(circuits.ranked(its.shares["z"].sel(pos="end")["share"])[0] for its in able)
        told.append(f"{one.name} {len(able)} of {len(one.circuits)}{f' ({best})' if best else ''}")
    prompts = asked[0].circuits[0].result.sizes["prompt"]
    return [
        f"Networks that put the indirect object above the other name in {SOLVED:.0%} of {prompts} prompts or more, and "
        f"of each the head whose output at the end moves most of the logit difference: {'; '.join(told)}."
    ]


def strongest_table(found: Sequence[Found]) -> tuple[list[str], list[Row]]:
    """Header and a row for each network that finds the indirect object: the head whose output at the end moves most."""
    header = ["network", "head", "layer", "share of the logit difference", "95 % interval over prompts"]
    rows: list[Row] = []
    for one in found:
        for seed, its in zip(one.seeds, one.circuits):
            if _solves(its):
                end = its.shares["z"].sel(pos="end")
                head = circuits.ranked(end["share"])[0]
                layer, number = map(int, head.split("."))
                at = end.sel(layer=layer, head=number)
                interval = f"{float(at['low']):.2f} to {float(at['high']):.2f}"
                network = f"{one.name}, seed {seed}"
                rows.append([network, head, str(one.facts.attention[layer]), float(at["share"]), interval])
    return header, rows


def _unable(one: Found) -> list[str]:
    said = [text for its in one.circuits[:1] for text in circuits.warnings(its)]
    said += crossing_words.warnings(one.carriers) if one.carriers is not None else []
    return said + need_words.warnings(one.needs[0])


def _solves(one: circuits.Circuit) -> bool:
    clean, corrupted = one.result["clean"], one.result["corrupted"]
    return float((clean > 0).mean()) >= SOLVED and float(clean.mean()) > float(corrupted.mean())


def _has_laws(result: xr.Dataset) -> bool:
    return bool((result["attention_kind"] == "local").any())
