"""What heads are needed for, in sentences: said only as far as the numbers say it.

For what `neolens.studies.head_ablation.summary` holds. Effects are on the loss, in nats per token, positive where
ablating raises it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import xarray as xr
from jaxtyping import Bool

from neolens.checks.annotations import checked
from neolens.models import Anatomy
from neolens.stats import ALPHA, verdicts
from neolens.stats.verdicts import largest_significant, limit, strongest
from neolens.studies.head_ablation.comparisons import Compared, candidates_of, masking_is_exact
from neolens.studies.head_ablation.summary import CONDITIONS, KINDS, Needs, group_of
from neolens.wording import join

LEAST = 0.01
"""Nats a token: heads that change the loss by less stand in figures, but in no table and no count."""

FEW = 8
"""Prompts below which means and intervals are warned about."""


@checked
def where(found: Needs) -> dict[str, str]:
    """The conditions under which heads are ablated, in a sentence; `cut` is told by itself."""
    split = found.near_far
    if split.is_window:
        return {"beyond": split.beyond, "inside": "inside it", "text": "on text"}
    return {"beyond": f"at {split.beyond}", "inside": f"at {split.inside}", "text": "on text"}


@checked
def side_by_side(found: Sequence[Needs]) -> list[str]:
    """What is cut off with the layers of each kind, and with the same layers where all are global."""
    mixed = next((one.facts for one in found if len(_kinds(one)) == len(KINDS)), None)
    said: list[str] = []
    if mixed is None:
        return said
    for kind in KINDS:
        rows = [(one.facts, row) for one in found if (row := _cut(one, kind, mixed))]
        here, there = (
            [f"{_moved(row)} in {facts.name}" for facts, row in rows if (facts.attention == mixed.attention) is same]
            for same in (True, False)
        )
        if there:
            layers = ", ".join(map(str, mixed.layers_of_kind(kind)))
            over = f"nats a token, {found[0].repeats.sizes['prompt']} sequences, 95 % intervals"
            said.append(
                f"With what layers {layers} read from beyond the window cut off, the loss there ({over}) is "
                f"{join(here)}, where they are {kind}; where all layers are global, {join(there)}."
            )
    return said


@checked
def findings(found: Needs) -> list[str]:
    """What one model needs: its kinds of layers beside random heads, and its heads."""
    return [_kinds_of(found), _heads_of(found)]


def _cut(found: Needs, kind: str, mixed: Anatomy) -> Compared | None:
    """What is cut off with the layers that are of a kind in `mixed`; none where they are not asked for."""
    group = group_of(found.facts, kind, mixed)
    return next((row for row in found.compared if (row.condition, row.group) == ("cut", group)), None)


def _kinds_of(found: Needs) -> str:
    """The loss of a model, and without its kinds of layers, beside random heads."""
    name, how = found.facts.name, found.text.attrs["how"]
    loss = join([f"{_level(found, condition):.3f} {at}" for condition, at in where(found).items()])
    said = [
        f"The loss of {name} is {loss}, in nats a token ({_asked_at(found)}; {_prompts(found)}; {how} "
        "ablation, 95 % intervals)."
    ]
    said += [_one_kind(found)] if len(_kinds(found)) == 1 else []
    return " ".join([*said, *(_group(found, group) for group in dict.fromkeys(row.group for row in found.compared))])


def _heads_of(found: Needs) -> str:
    """The head that matters most under each condition, and how many matter."""
    most = {name: _strongest(found.heads[name]) for name in CONDITIONS}
    many = {name: _count(found, name) for name in CONDITIONS}
    most_at, many_at = (join([f"{told[name]} {at}" for name, at in where(found).items()]) for told in (most, many))
    return (
        f"In {found.facts.name} the head that matters most is {most_at}; of heads cut at {found.near_far.short}, "
        f"{most['cut']} beyond it. With p corrected for all {found.heads['cut'].sizes['group']} heads below "
        f"{ALPHA}, the loss is changed by {LEAST} or more by {many_at}; cut, by {many['cut']}."
        f"{_masked_local_heads(found)}"
    )


def _masked_local_heads(found: Needs) -> str:
    """What masking does to heads that see no farther than the window; nothing where there are none."""
    verdict = masking_is_exact(found.facts.name, found.heads["cut"], found.facts, found.window)
    said = {
        "exact": " Of local heads, which see no farther than the window, that is exact, and not tested.",
        "contradicted": f" It should be exactly 0 in local heads, which see no farther; {verdict.reason}.",
    }
    return said.get(verdict.status, "")


@checked
def warnings(found: Needs) -> list[str]:
    """What keeps the numbers of a model from meaning what they seem to mean."""
    name, said = found.facts.name, []
    for condition in ("inside", "beyond"):
        candidates = candidates_of(found.groups[condition]) or found.facts.d_vocab
        loss, chance = _level(found, condition), math.log(candidates)
        if loss > chance / 2:
            said.append(
                f"{name} hardly copies {getattr(found.near_far, condition)} (loss {loss:.2f}, by chance {chance:.2f}): "
                "what ablating does there says little of copying."
            )
    if candidates_of(found.repeats) is None:
        said.append(verdicts.unknown_candidates(name, found.facts.d_vocab))
    fewest = min(found.text.sizes["prompt"], found.repeats.sizes["prompt"])
    if fewest < FEW:
        said.append(f"{name} was asked fewer than {FEW} prompts ({fewest}): means and intervals are rough.")
    if found.text.sizes["pos"] <= found.window:
        said.append(
            f"{name} was given text of {found.text.sizes['pos']} tokens a prompt, which does not cross "
            f"{found.near_far.name}: on it local and global layers see the same. Give a longer text."
        )
    if (unknown := found.text.attrs.get("unknown", 0)) > 0.05:
        said.append(
            f"{name} does not know {unknown:.1%} of the text's words and reads each as <unk>: its figures on text "
            "describe repeated <unk> more than the text. Use a public model for this text."
        )
    return said


def _asked_at(found: Needs) -> str:
    """`window 16`, or the distance and why."""
    return f"window {found.window}" if found.near_far.owner == "" else f"near and far split at {found.near_far.name}"


def _level(found: Needs, condition: str) -> float:
    return float(found.groups[condition]["baseline"])


def _prompts(found: Needs) -> str:
    n = (found.repeats["length"].values - 1) // 2
    far = found.repeats["distance"].values >= found.window
    inside, beyond = (join([str(one) for one in n[its]]) for its in (~far, far))
    sequences, text = found.repeats.sizes["prompt"], found.text.sizes["prompt"]
    return f"{sequences} random sequences repeated after {beyond} tokens and, inside, {inside}; {text} prompts of text"


def _kinds(found: Needs) -> list[str]:
    return [kind for kind in KINDS if found.facts.layers_of_kind(kind)]


def _one_kind(found: Needs) -> str:
    (kind,) = _kinds(found)
    return f"All its layers are {kind}: no others are as many, so nothing controls for ablating them all."


def _group(found: Needs, group: str) -> str:
    """One group under each condition, then as many random heads."""
    rows = {row.condition: row for row in found.compared if row.group == group}
    what = group
    if group in KINDS:
        what = f"all {found.facts.heads * len(found.facts.layers_of_kind(group))} {group} heads"
    moved = join([f"{_moved(rows[name])} {at}" for name, at in where(found).items()])
    said = (
        f"Without {what} it is {moved}; with only what they read from {found.near_far.beyond} cut off, "
        f"{_moved(rows['cut'])} there."
    )
    if not rows["cut"].draws:
        return said
    ordered = [rows[name] for name in (*where(found), "cut")]
    means, below = (join([str(told(row)) for row in ordered]) for told in (_random, smaller))
    return (
        f"{said} With as many random heads the four are {means}, means of {len(ordered[0].draws)} draws; {below} of "
        + ("the draws raise it less.")
    )


def _moved(row: Compared) -> str:
    """`5.20 higher (5.17 to 5.23)`."""
    if row.verdict.status == "exact":
        return "exactly unchanged"
    if row.effect == row.low == row.high == 0:
        return "unchanged"
    if not row.low <= row.high:  # a single prompt has no interval
        return f"changed by {number(row.effect)}"
    if row.low <= 0 <= row.high:
        return f"not told from before ({number(row.effect)}; {interval(row.low, row.high)})"
    low, high = sorted((abs(row.low), abs(row.high)))
    mark = ", at chance level" if row.limit == "chance level" else ""
    return f"{number(abs(row.effect))} {'higher' if row.effect > 0 else 'lower'} ({interval(low, high)}{mark})"


def _strongest(effects: xr.Dataset) -> str:
    """The head with the largest significant effect by size, or the largest of all and that it is not significant."""
    names = [str(name) for name in effects["group"].values]
    values, p = (effects[name].values.tolist() for name in ("effect", "p_adjusted"))
    verdict, best = strongest("changes the loss", names, values, p), largest_significant(values, p)
    if best is None:
        start = "not known" if verdict.status == "not measured" else "none that is told from chance"
        return f"{start} ({verdict.reason})"
    its = effects.isel(group=best)
    between = interval(float(its["low"]), float(its["high"]))
    if "baseline" in effects:
        end = limit(float(effects["baseline"]) + values[best], "loss", candidates_of(effects))
        between += ", at chance level" if end == "chance level" else ""
    return f"{names[best]} ({its['attention_kind'].item()}; {number(values[best])}, {between})"


def _count(found: Needs, condition: str) -> str:
    """How many heads of each kind change the loss, corrected for all of them."""
    effects = found.heads[condition]
    which, kinds = tells(effects), effects["attention_kind"].values
    counts = [f"{(which & (kinds == kind)).sum()} of {(kinds == kind).sum()} {kind}" for kind in _kinds(found)]
    return f"{join(counts)} heads"


@checked
def tells(effects: xr.Dataset) -> Bool[np.ndarray, " group"]:
    """Whether each effect is large enough to speak of, and told from chance."""
    return (effects["p_adjusted"].values < ALPHA) & (np.abs(effects["effect"].values) >= LEAST)


def _random(row: Compared) -> str:
    return number(float(np.mean(row.draws)))


@checked
def smaller(row: Compared) -> int:
    """Draws of random heads that raise the loss less."""
    return sum(draw < row.effect for draw in row.draws)


@checked
def number(value: float) -> str:
    """Two digits after the point, or two that count where there is less than a tenth."""
    if abs(value) >= 0.1 or value == 0:
        return f"{value:.2f}"
    return np.format_float_positional(value, precision=2, fractional=False, trim="-")


@checked
def interval(low: float, high: float) -> str:
    return "" if math.isnan(low) else f"{number(low)} to {number(high)}"
