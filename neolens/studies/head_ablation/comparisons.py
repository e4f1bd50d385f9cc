"""Groups of heads compared with as many random heads, and which of these comparisons can be tested.

Masking what lies beyond the window changes nothing in layers that see no farther: that is exact, and not tested. A loss
at chance level cannot tell how much more would have been lost, and one at its ceiling cannot improve: comparisons that
end there are not tested either, and do not count for the correction of the others.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import xarray as xr

from neolens.ablation import difference, effect
from neolens.ablation.controls import control_groups, size_label
from neolens.checks.annotations import check_annotated, checked
from neolens.models import Anatomy
from neolens.stats import verdicts
from neolens.stats.verdicts import Levels, Limit, Verdict

KINDS = ("global", "local")

MASKED = "cut"
"""The condition in which heads only lose the keys beyond the window."""

CLAIMS = {
    "cut": "masking {group} {window} or more tokens back raises the loss on copies from there",
    "inside": "ablating {group} raises the loss on copies from fewer than {window} tokens back",
    "text": "ablating {group} raises the loss on text",
    "beyond": "ablating {group} raises the loss on copies from {window} or more tokens back",
    "exact": "masking {group} {window} or more tokens back changes nothing",
}
"""Condition -> the claim about a group of heads, the most important first; `exact` where masking cannot change
anything."""


@dataclass(frozen=True)
class Compared:
    """A group of heads and as many random heads, under one condition: means over prompts, in nats per token."""

    condition: str
    group: str
    effect: float
    """How much ablating the group raises the loss, with its 95 % interval."""
    low: float
    high: float
    draws: tuple[float, ...]
    """The same of each draw of random heads; none where as many would be the same heads."""
    more: float
    """How much more the group raises it than the draws do on average, with its 95 % interval."""
    more_low: float
    more_high: float
    p: float
    """Of `more`, times the comparisons that are tested in the model (Bonferroni), at most 1; NaN without a test."""
    limit: Limit | None
    """Whether the loss without the group is at chance level or at its ceiling."""
    verdict: Verdict
    """On whether the group raises the loss more than random heads do."""

    def __post_init__(self) -> None:
        check_annotated(self)

    @property
    def fixed(self) -> bool:
        """Whether the architecture fixes the effect, so that it is not tested."""
        return self.verdict.status in ("exact", "contradicted") and not np.isfinite(self.p)

    @property
    def end(self) -> str:
        """`ends at chance level`; empty where the loss without the group is at no limit."""
        return f"ends at {self.limit}" if self.limit else ""


@checked
def beside_controls(
    conditions: Mapping[str, xr.Dataset], groups: list[str], facts: Anatomy, window: int
) -> tuple[Compared, ...]:
    """Each group under each condition; p is multiplied by the number of comparisons that are tested."""
    rows = [_compared(name, result, group, facts, window) for group in groups for name, result in conditions.items()]
    times = sum(bool(np.isfinite(row.p)) for row in rows)
    return tuple(_corrected(row, times) if np.isfinite(row.p) else row for row in rows)


@checked
def claim(condition: str, group: str, window: int) -> str:
    """What is claimed of a group of heads under a condition, one of `CLAIMS`."""
    return CLAIMS[condition].format(group=f"all {group} heads" if group in KINDS else group, window=window)


@checked
def reads_no_farther(heads: str, facts: Anatomy, window: int) -> bool:
    """Whether no head of a group, written such as `1.0 1.3`, sees a key `window` or more tokens back."""
    spans = [facts.attention[int(head.split(".")[0])] for head in heads.split()]
    return bool(spans) and all(span.window is not None and span.window <= window for span in spans)


@checked
def without_untested(effects: xr.Dataset, condition: str, facts: Anatomy, window: int) -> xr.Dataset:
    """The effects of `neolens.ablation.effects.effect` without p where there is nothing to test: of heads that see no
    farther than the window at which they are masked, and where the loss is at one limit before and after, at chance
    level or at its ceiling. An effect that only ends at chance level is there, and larger than it looks."""
    baseline, candidates = float(effects["baseline"]), candidates_of(effects)
    before = verdicts.limit(baseline, "loss", candidates)
    untested = [
        (condition == MASKED and reads_no_farther(str(heads), facts, window))
        or (before is not None and verdicts.limit(baseline + value, "loss", candidates) == before)
        for heads, value in zip(effects["heads"].values, effects["effect"].values, strict=True)
    ]
    tested = xr.DataArray(~np.array(untested, bool), dims="group")
    return effects.assign({name: effects[name].where(tested) for name in ("p", "p_adjusted")})


@checked
def candidates_of(result: xr.Dataset) -> int | None:
    """How many tokens the random sequences of a result are drawn from; None of text."""
    return int(result.attrs["candidates"]) if "candidates" in result.attrs else None


@checked
def masked_effects(effects: xr.Dataset, facts: Anatomy, window: int) -> list[float]:
    """The effects of heads that see no farther than the window at which they are masked."""
    fixed = [reads_no_farther(str(heads), facts, window) for heads in effects["heads"].values]
    return list(map(float, effects["effect"].values[fixed]))


def _compared(condition: str, result: xr.Dataset, group: str, facts: Anatomy, window: int) -> Compared:
    """One group beside the random controls that have as many heads, p not yet corrected."""
    heads = str(result["heads"].sel(group=group).values)
    draws = control_groups(result, size_label(len(heads.split())))
    effects = effect(result.sel(group=[group, *draws]))
    alone, low, high = (float(effects[name].values[0]) for name in ("effect", "low", "high"))
    baseline, candidates = float(effects["baseline"]), candidates_of(result)
    limit = verdicts.limit(baseline + alone, "loss", candidates)
    each = tuple(map(float, effects["effect"].values[1:]))
    more = more_low = more_high = p = np.nan
    if draws:
        beside = difference(result, group, draws)
        more, more_low, more_high, p = (float(beside[name]) for name in ("difference", "low", "high", "p"))
    more_than_random = f"{claim(condition, group, window)} more than as many random heads do"
    verdict: Verdict | None = None
    if condition == MASKED and reads_no_farther(heads, facts, window):
        verdict = verdicts.exact_by_construction(claim("exact", group, window), {facts.name: [alone]})
    elif draws:
        ours = Levels("the group", [baseline + alone], "loss", candidates)
        theirs = Levels("the random heads", [baseline + alone - more], "loss", candidates)
        verdict = verdicts.limited(more_than_random, ours, theirs, [more])
    if verdict is not None:
        p = np.nan
    verdict = verdict or verdicts.increase(
        more_than_random, more, p, untested="as many random heads would be the same heads"
    )
    return Compared(condition, group, alone, low, high, each, more, more_low, more_high, p, limit, verdict)


def _corrected(row: Compared, times: int) -> Compared:
    p = min(1.0, times * row.p)
    return replace(row, p=p, verdict=verdicts.increase(row.verdict.claim, row.more, p, untested=""))
