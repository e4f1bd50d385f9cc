"""Induction heads in sentences: said only as far as the numbers say it.

Which heads hold the pattern on both sides of the window, what changes from the last repeat length inside it to the
first beyond it, and whether ablating them costs more than ablating others. Whatever is tested in a run is corrected
together (see `induction.comparisons`); what is not told apart is said to be so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr

from neolens.checks.annotations import checked
from neolens.near_far import NearFar, of_anatomies
from neolens.stats import ALPHA
from neolens.stats.verdicts import Verdict, more_than_controls
from neolens.studies.induction.comparisons import CROSSING, Comparison, check_tests
from neolens.studies.induction.formation import COPIES
from neolens.studies.induction.measure import HOLDS
from neolens.studies.induction.summary import MEASURES, Induction, Sure
from neolens.wording import count, join, number, percent, value_range

NAMED = 6
"""Heads of a network that a sentence names at most, the highest scores first."""


@checked
def findings(found: Sequence[Induction], tests: Mapping[Comparison, Sure]) -> list[str]:
    """What changes at the window in all models, whether the law of the window holds, then each model by itself."""
    check_tests(found, tests)
    said = [_at_the_window(found, tests), *filter(None, [law(found)])]
    for one in found:
        said += [_which(one), _across(one, tests), _needed(one, tests)]
    return said


@checked
def law(found: Sequence[Induction]) -> str | None:
    """Whether no head of a local layer looks where it cannot; None where no model has local layers."""
    local = [(one, one.out_of_reach) for one in found if one.out_of_reach is not None]
    if not local:
        return None
    largest, parts = max(value for _, value in local), []
    for one, _ in local:
        asked = [count(len(one.seeds), "network")]
        asked += [] if one.training is None else [count(one.training.sizes["step"], "checkpoint")]
        far = join([str(n) for n in one.lengths if n > one.window])
        parts.append(f"{one.name} ({join(asked)}) at n = {far}")
    holds = "so it is" if largest == 0 else "so the law is BROKEN, and no number here is to be trusted"
    return (
        "Where the answer stands a window or more tokens back (n - 1 >= w) the induction score of a local layer has to "
        f"be exactly 0. The largest in {'; '.join(parts)} is {largest:.3g}: {holds}."
    )


@checked
def warnings(found: Sequence[Induction]) -> list[str]:
    """What keeps a number from meaning what it seems to mean."""
    said = []
    if any(one.out_of_reach for one in found):
        said.append("A local layer seems to look beyond its window, which cannot be: see the finding on the law.")
    for one in found:
        said += [text for n in one.nearest for text in _warnings_at(one, n)]
        if len(one.seeds) == 1:
            said.append(f"{one.name} is one network: its intervals and p are over prompts, and about no other network.")
    return said


@checked
def told(its: Sure, form: str = ".2f") -> str:
    """`4.32 (95 %: 4.26 to 4.38, n = 3 seeds)`; no interval where there are too few for one."""
    return f"{number(its.its.mean, form)} ({_sample(its, form)})"


@checked
def p_of(its: Sure) -> str:
    """`corrected p = 0.001`, or why there is none."""
    if its.untested is not None:
        return f"not tested: {its.untested.reason}"
    return f"corrected p = {its.p_adjusted:.2g}" if np.isfinite(its.p_adjusted) else "no p"


def _at_the_window(found: Sequence[Induction], tests: Mapping[Comparison, Sure]) -> str:
    """Of every measure, the models in which it changes at the window."""
    inside, beyond = found[0].nearest
    every = {key: its for key, its in tests.items() if key[2] is None and its.its.n}
    changes = {key: its for key, its in every.items() if its.untested is None}
    left_out = f" {len(every) - len(changes)} others end at chance level or at a ceiling, or are fixed by the "
    left_out = f"{left_out}architecture, and are not tested." if len(every) > len(changes) else ""
    tested = sum(bool(np.isfinite(its.p_adjusted)) for its in tests.values())
    without = {one.name for one in found if not one.facts.windows}
    some = any(its.tells and name in without for (name, *_), its in changes.items())
    length = " Where every layer is global it changes with n, and not by a window." if some else ""
    parts = []
    for measure in CROSSING:
        apart = [(name, its) for (name, what, _), its in changes.items() if what == measure and its.tells]
        models = [f"{name} ({number(its.its.mean, '+.2g')})" for name, its in apart]
        parts += [f"{MEASURES[measure].title} in {join(models)}"] if models else []
    return (
        f"From n = {inside} to n = {beyond} the answer moves from {inside - 1} to {beyond - 1} tokens back, across "
        f"{_split(found).name}. Of {len(changes)} changes (best score in local and in global layers, copying, "
        f"ablation of all induction heads, in {count(len(found), 'model')}) these are told apart: "
        f"{'; '.join(parts) or 'none'} (corrected p below 0.05, for {tested} tests in all).{left_out}{length}"
    )


def _split(found: Sequence[Induction]) -> NearFar:
    """What separates near from far in a sentence about all models."""
    return of_anatomies(found[0].window, [one.facts for one in found])


def _which(one: Induction) -> str:
    """Which heads hold the pattern inside the window, and which of them beyond it."""
    inside, beyond = one.nearest
    held = {n: one.holds(n) for n in one.nearest}
    positions = f"{one.facts.position.kind} positions".replace("none", "no")
    start = f"{one.name} ({positions}, {_layers(one)}; {count(len(one.seeds), 'network')}): "
    near, far = (count(int(each.sum()), "head") for each in held.values())
    if not any(bool(each.any()) for each in held.values()):
        return f"{start}no head holds the induction pattern (score at least {HOLDS:g}) at n = {inside} or {beyond}."
    lost, new = held[inside] & ~held[beyond], held[beyond] & ~held[inside]
    changed = [
        f"{what} {_places(one, heads)}" for what, heads in (("no longer by", lost), ("now also by", new)) if heads.any()
    ]
    named = "; ".join(_named(one, seed, inside) for seed in one.seeds)
    return (
        f"{start}at n = {inside} the induction pattern (score at least {HOLDS:g}) is held by {near}: "
        f"{named}. At n = {beyond} {f'by {far}, ' if changed else 'by the same'}{', '.join(changed)}."
    )


def _across(one: Induction, tests: Mapping[Comparison, Sure]) -> str:
    """How scores and copying go through the window, and over all lengths."""
    inside, beyond = one.nearest
    changes = {measure: tests[one.name, measure, None] for measure in CROSSING if (one.name, measure, None) in tests}
    changes = {measure: its for measure, its in changes.items() if its.its.n}
    apart = [MEASURES[measure].title for measure, its in changes.items() if its.tells]
    highest = [max(_means(one, kind, n) for kind in ("local", "global")) for n in one.lengths]
    copied = [_means(one, "accuracy", n) for n in one.lengths]
    return (
        f"{one.name} from n = {inside} to {beyond}: {'; '.join(_change(one, *item) for item in changes.items())}. Told "
        f"apart: {join(apart) if apart else 'none'}. From n = {one.lengths[0]} to {one.lengths[-1]} the best head "
        f"scores {value_range(highest, '{:.2f}'.format)}, and {value_range(copied, percent)} of the second copy is "
        "predicted."
    )


def _change(one: Induction, measure: str, its: Sure) -> str:
    """What a measure was and is, and the difference with its interval and p."""
    form = percent if measure == "accuracy" else number
    near, far = (form(_means(one, measure, n)) for n in one.nearest)
    what = f"{MEASURES[measure].title} {near} to {far}{' nats a token' if measure == 'together' else ''}"
    if its.its.mean == its.its.low == its.its.high == 0:
        return f"{what} (no change in any)"
    return f"{what} ({number(its.its.mean, '+.2g')}, {_sample(its, '+.2g')}, {p_of(its)})"


def _needed(one: Induction, tests: Mapping[Comparison, Sure]) -> str:
    """What ablating all of them costs beyond control heads, and how many cost something alone."""
    causes = []
    for n in one.nearest:
        effect, its, verdict = one.sure("together", n), tests[one.name, "needed", n], cause(one, n, tests)
        start = f"at n = {n}" + (f" it adds {effect.its.mean:.2f} nats a token" if effect and effect.its.n else "")
        if effect is None or not effect.its.n:
            causes.append(f"{start} there are none")
        elif not its.its.n:
            causes.append(f"{start}; whether that is more than control heads do is not measured: {verdict.reason}")
        else:
            which = "less" if its.its.mean < 0 else "more"
            size = _sample(its, ".2f")
            size = size if its.untested is None else f"{size}, {p_of(its)}"
            sure = ": not told apart" if verdict.status == "not significant" else ""
            by = f"{number(abs(its.its.mean))} ({size})" if which == "more" else f"{number(its.its.mean)} ({size})"
            p = f", {p_of(its)}" if its.untested is None else ""
            causes.append(f"{start}, {which} than as many random heads by {by}{p}{sure}")
    return f"Ablating all induction heads of {one.name} at once: {'; '.join(causes)}.{_alone(one)}"


@checked
def cause(one: Induction, n: int, tests: Mapping[Comparison, Sure]) -> Verdict:
    """Whether ablating all induction heads at once adds more than as many heads without the pattern, of the network
    that has the most induction heads."""
    check_tests([one], tests)
    count = int(one.holds(n).sum(("layer", "head")).max())
    its, effect = tests[one.name, "needed", n], one.sure("together", n)
    if its.untested is not None:
        return its.untested
    added = effect.its.mean if effect is not None else np.nan
    heads, controls = f"all induction heads of {one.name} at n = {n}", one.facts.layers * one.facts.heads - count
    if its.its.n:
        controls = max(controls, count)  # some network has controls
    return more_than_controls(heads, count, added, its.its.mean, its.p_adjusted, "the network", controls=controls)


def _alone(one: Induction) -> str:
    """How many heads cost more alone than heads of their layer without the pattern, and which have no such control."""
    parts, without = [], []
    for n in one.nearest:
        at, holds = one.result.sel(distance=n - 1), one.holds(n)
        more = int(((at["more"] > 0) & (at["p_adjusted"] < ALPHA)).sum())
        tested = int((holds & at["more"].notnull()).sum())
        parts += [f"{more} of {tested} heads at n = {n}"] if tested else []
        bare = int((holds & at["more"].isnull()).sum())
        if bare:
            layers = _layers_without(one, n)
            without.append(f"{bare} of {int(holds.sum())} at n = {n} ({layers})")
    said = ""
    if parts:
        said = (
            f" Alone, {join(parts)} cost more than heads of their layer without the pattern (corrected p below 0.05 "
            "within a network)."
        )
    if without:
        said += f" For {join(without)} there is no control: every head of the layer has the pattern."
    return said


def _layers_without(one: Induction, n: int) -> str:
    """The layers whose heads all have the pattern: `layer 1 in seeds 0 and 2`."""
    full = one.holds(n).all("head")
    parts = []
    for layer in full["layer"].values.tolist():
        if seeds := [seed for seed in one.seeds if bool(full.sel(layer=layer, seed=seed))]:
            parts.append(f"layer {layer}{_in_seeds(one, seeds).rstrip(',').replace(', seed', ' in seed')}")
    return join(parts) if parts else "no control was drawn"


def _warnings_at(one: Induction, n: int) -> list[str]:
    said, at = [], one.result.sel(distance=n - 1)
    accuracy = at["accuracy"].mean("prompt")
    if lost := [seed for seed in one.seeds if float(accuracy.sel(seed=seed)) < COPIES]:
        shares = join([percent(float(accuracy.sel(seed=seed))) for seed in lost])
        said.append(
            f"{one.name}{_in_seeds(one, lost)} copies {shares} at n = {n}: ablating heads can take little away there."
        )
    full = one.holds(n).any(("layer", "head")) & at["others"].isnull().all("prompt")
    if crowded := [seed for seed in one.seeds if bool(full.sel(seed=seed))]:
        said.append(
            f"{one.name}{_in_seeds(one, crowded)} has the induction pattern in more than half of its heads at n = {n}: "
            "there are not as many others to compare them with."
        )
    return said


def _named(one: Induction, seed: int, n: int) -> str:
    """The heads of a network by score, the first few of them, and which are local where the model has both kinds."""
    score = one.result["induction"].sel(distance=n - 1, seed=seed).mean("prompt").transpose("layer", "head").values
    heads = np.argwhere(one.holds(n).sel(seed=seed).transpose("layer", "head").values)
    ranked = sorted(((int(layer), int(head)) for layer, head in heads), key=lambda head: -float(score[head]))
    local = set(one.facts.layers_of_kind("local"))
    names = [
        f"{layer}.{head} ({'local, ' if layer in local else ''}{float(score[layer, head]):.2f})"
        for layer, head in ranked[:NAMED]
    ]
    more = [f"{len(ranked) - NAMED} more"] if len(ranked) > NAMED else []
    which = join([*names, *more]) if names else "none"
    return which if len(one.seeds) == 1 else f"in seed {seed} {which}"


def _places(one: Induction, holds: xr.DataArray) -> str:
    local, parts = set(one.facts.layers_of_kind("local")), []
    for seed, layer, head in np.argwhere(holds.transpose("seed", "layer", "head").values):
        of = "" if len(one.seeds) == 1 else f" of seed {one.seeds[seed]}"
        parts.append(f"{layer}.{head}{of}{' (local)' if layer in local else ''}")
    more = [f"{len(parts) - NAMED} more"] if len(parts) > NAMED else []
    return join([*parts[:NAMED], *more])


def _means(one: Induction, measure: str, n: int) -> float:
    """The mean of a measure; -inf where a model has nothing of the kind."""
    its = one.sure(measure, n)
    return -np.inf if its is None else its.its.mean


def _layers(one: Induction) -> str:
    local = one.facts.layers_of_kind("local")
    if not local:
        return "every layer global"
    return f"layer{'s' if len(local) > 1 else ''} {join(list(map(str, local)))} local"


def _in_seeds(one: Induction, seeds: Sequence[int]) -> str:
    return "" if len(one.seeds) == 1 else f", seed{'' if len(seeds) == 1 else 's'} {join(list(map(str, seeds)))},"


def _sample(its: Sure, form: str) -> str:
    """The interval, and what it is over."""
    one, over = its.its, its.over if its.its.n != 1 else its.over.removesuffix("s")
    interval = f"95 %: {number(one.low, form)} to {number(one.high, form)}, " if np.isfinite(one.low) else ""
    return f"{interval}n = {one.n} {over}"
