"""Single answers to the whole question, each a sentence computed from the networks of every variant.

Means are over seeds with Student's interval; where seeds differ in kind, as in the layer that carries an answer, each
is told.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr

from neolens.checks.annotations import checked
from neolens.patching.effects import ranked
from neolens.results import check_results
from neolens.scores import by_kind
from neolens.stats import seeds
from neolens.stats.contrasts import kind
from neolens.stats.seeds import Estimate
from neolens.stats.verdicts import exact_by_construction
from neolens.studies.compare.found import TASK, Found
from neolens.studies.compare.measures import SCORE_BOUNDS
from neolens.studies.ioi.summary import SOLVED, solves
from neolens.studies.local_vs_global import text as attention_text
from neolens.studies.rotary_vs_absolute.summary import MEASURES
from neolens.studies.rotary_vs_absolute.text import last_quarters, shift
from neolens.studies.window_reach.arrivals import arrivals
from neolens.studies.window_reach.summary import Carriers, Side
from neolens.wording import join

_LAWS = {
    "mass_out_of_reach": "attention beyond the window is exactly 0",
    "difference_at_window": "up to the window local and global layers compute exactly the same logits",
}
"""Attribute of a result that is there where a law was tested -> what the law says."""


@checked
def laws(attentions: Mapping[str, xr.Dataset]) -> str:
    """Whether everything that has to be exactly 0 is.

    Args:
        attentions: network -> its scores.
    """
    check_results(attentions, "attentions", ["attention_kind"], ["layer"], "neolens.attention")
    local = {name: its for name, its in attentions.items() if (its["attention_kind"] == "local").any()}
    if not local:
        return "No network here has local layers, so there is no law of windows to test."
    if broken := [name for name, its in local.items() if not attention_text.laws_hold({name: its})]:
        return f"A law of windows that has to hold exactly is broken in {join(broken)}: see the table of laws."
    said = [text for law, text in _LAWS.items() if all(law in its.attrs for its in local.values())]
    if not said:
        return "No law of windows could be tested, for no prompt is longer than the windows."
    return f"In every network with local layers ({join(list(local))}) {', and '.join(said)}."


@checked
def where_they_look(one: Found) -> str:
    """How far back local and global layers look on text, and how much of it beyond the window."""
    each = [by_kind(parts["attention"], one.window) for parts in one.networks.values()]

    def over(of: str, score: str, form: str) -> str:
        values = [float(its[score].sel(attention_kind=of)) for its in each]
        return _estimate(np.array(values), SCORE_BOUNDS[score], form)

    look = (
        f"On text a local layer of {one.name} looks {over('local', 'mean_distance', '.1f')} tokens back on average, a "
        f"global one {over('global', 'mean_distance', '.1f')}"
    )
    if int(one.first["attention"]["length"].max()) <= one.window:
        return f"{look}; no text is longer than {one.near_far.name}."
    far = [float(its["share_beyond"].sel(attention_kind="local")) for its in each]
    claim = f"local layers of {one.name} do not attend beyond the window of {one.window}"
    exact = exact_by_construction(claim, {one.name: far}).status == "exact"
    nothing = "exactly 0" if exact else f"{over('local', 'share_beyond', '.2g')}, which should be exactly 0,"
    return (
        f"{look}; of local attention {nothing} lies beyond the window of {one.window}, of global attention the share "
        f"{over('global', 'share_beyond', '.2f')}."
    )


@checked
def without_a_kind(one: Found) -> str:
    """What the layers of each kind are needed for: the loss that ablating them all adds, seed by seed."""

    def cost(group: str, condition: str) -> str:
        rows = [row for need in one.needs for row in need.compared if (row.group, row.condition) == (group, condition)]
        numbers = join([f"{row.effect:.2f}" if abs(row.effect) >= 0.005 else f"{row.effect:.3f}" for row in rows])
        chance = [seed for seed, row in zip(one.seeds, rows, strict=True) if row.limit == "chance level"]
        if not chance:
            return numbers
        which = f" in seed{'s' if len(chance) > 1 else ''} {join(list(map(str, chance)))}"
        return f"{numbers} (at chance level{which if len(chance) < len(rows) else ''})"

    return (
        f"Mean ablation of all local layers of {one.name} adds {cost('local', 'text')} nats a token to the loss on text"
        f"{_of_seeds(one.seeds)}, of all global ones {cost('global', 'text')}; where copies of what lies beyond the "
        f"window are predicted it adds {cost('local', 'beyond')}, of all global ones {cost('global', 'beyond')}."
    )


@checked
def carried(found: Sequence[Found]) -> list[str]:
    """Through which layers the answer to the planted task arrives, at each distance beyond the window: of models with
    local layers, then of the others together."""
    asked = [(one, one.carriers) for one in found if one.carriers is not None and _answers(one.carriers)]
    mixed = [(one, its) for one, its in asked if kind(one.anatomy, "attention") == "global and local"]
    plain = [(one, its) for one, its in asked if kind(one.anatomy, "attention") == "global"]
    removed = "the share of the effect of the source token removed by restricting that layer to"
    said = [
        f"In {one.name} the answer to {TASK} arrives {_through(its)}. In brackets: {removed} {one.near_far.name}."
        f"{_left(its)}"
        for one, its in mixed
    ]
    if plain:
        name = plain[0][0].near_far.name
        each = "; ".join(f"in {one.name} {_through(its)}" for one, its in plain)
        said.append(f"Where every layer is global, the answer to {TASK} arrives {each}. In brackets: {removed} {name}.")
    return said


@checked
def moved(found: Sequence[Found]) -> list[str]:
    """What becomes of the predictions when all positions move; KL divergence first, and rounding is called rounding."""
    told = [
        (
            int(one.encoding.result["shift"][-1]),
            f"{one.name} ({one.encoding.kind}) {shift(one.encoding).reason}",
        )
        for one in found
        if "shift_logits" in one.encoding.result
    ]
    return [
        f"With every position index moved by {by}: {'. '.join(text for its, text in told if its == by)}."
        for by in dict.fromkeys(by for by, _ in told)
    ]


@checked
def by_distance_alone(found: Sequence[Found]) -> list[str]:
    """How much of the scores of the first layer is a function of distance alone."""
    share = MEASURES["toeplitz_first"]
    told = [
        f"{one.name} ({one.encoding.kind}) {_with_seeds(one.encoding.estimate(share))}"
        for one in found
        if one.encoding.kind != "none" and one.encoding.estimate(share).n
    ]
    what = "Of the scores of the first layer, averaged over tokens, distance alone explains the share"
    return [f"{what}: {'; '.join(told)}."] if told else []


@checked
def onward(found: Sequence[Found]) -> list[str]:
    """What becomes of the loss as a text runs past the context, where positions do not end with it."""
    told = []
    for one in found:
        if "loss_beyond" in one.encoding.result:
            inside, beyond = last_quarters(one.encoding)
            told.append(f"{one.name} ({one.encoding.kind}) {inside.mean:.2f} and {_with_seeds(beyond)}")
    what = "The loss on periodic text, in the last quarter of the context and in that of a text twice as long"
    return [f"{what}, in nats a token: {'; '.join(told)}."] if told else []


@checked
def who_finds(found: Sequence[Found]) -> list[str]:
    """How many networks find the indirect object, and in each the head whose output at the end moves most of it."""
    asked = [one for one in found if one.circuits]
    if not asked:
        return []
    told = []
    for one in asked:
        able = {seed: its for seed, its in zip(one.seeds, one.circuits, strict=True) if solves(its)}
        best = [ranked(its.shares["z"].sel(pos="end")["share"])[0] for its in able.values()]
        heads = f", head {join(best)}{_of_seeds(list(able)) if len(one.seeds) > 1 else ''}" if best else ""
        told.append(f"{one.name} {len(able)} of {len(one.circuits)}{heads}")
    prompts = asked[0].circuits[0].result.sizes["prompt"]
    return [
        f"How many networks find the indirect object (put it above the other name in {SOLVED:.0%} of {prompts} prompts "
        "or more, and prefer it less where the prompts are corrupted), and in each of them the head whose output at "
        f"the end moves the logit difference most: {'; '.join(told)}."
    ]


def _estimate(values: np.ndarray, bounds: tuple[float, float], form: str) -> str:
    return _with_seeds(seeds.mean_ci(values, bounds), form)


def _with_seeds(its: Estimate, form: str = ".2f") -> str:
    """A mean with its interval, and two or three seeds one by one."""
    each = seeds.each_seed(its, form)
    return f"{seeds.format_estimate(its, form)}{f' [{each}]' if each else ''}"


def _through(found: Carriers) -> str:
    """`16 and 32 tokens back through layer 2 (layer 2 0.98 to 1.00), 64 tokens back through layers 2 and 0 (...)`."""
    return ", ".join(
        f"{join(list(map(str, one.distances)))} tokens back through {one.through} ({one.removed or one.reason})"
        for one in arrivals(found, TASK)
    )


def _answers(found: Carriers) -> list[Side]:
    """What was found at each distance beyond the window, of the networks that answer there."""
    return [one for sides in found.far[TASK].values() for one in sides if one.answers]


def _left(found: Carriers) -> str:
    """What is left without far sight in any layer, at the distance and in the network where most is."""
    most = max(_answers(found), key=lambda one: one.left)
    return (
        f" With every layer restricted to it {_percent(most.left)} of the effect is left at most, at "
        f"{most.distances[0]} tokens (95 % interval up to {_percent(most.left_interval[1])})."
    )


def _of_seeds(these: Sequence[int]) -> str:
    """` (seeds 0, 1 and 2)`; nothing of a single network."""
    return f" (seeds {join(list(map(str, these)))})" if len(these) > 1 else ""


def _percent(share: float) -> str:
    return "less than 1 %" if share < 0.01 else f"{100 * share:.0f} %"
