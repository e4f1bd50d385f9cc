"""Effects that end at chance level or at a ceiling: there they are bounded from one side only, and not tested."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from neolens.checks import check_index
from neolens.checks.annotations import Size, Text, check_annotated, check_as_many, checked
from neolens.stats.verdicts.verdict import Verdict

NEAR_CHANCE = 0.95
"""A loss is at chance level from this share of the loss of a guess on. A network that has lost everything is not
uniform over exactly the possible tokens, so its loss is close to that of a guess, on either side (measured on the lab:
0.98 to 1.09 of ln 193); what separates two such networks is how they guess. For accuracies alike: at most 5 % of the
way from a guess to 1."""

CEILING = 0.99
"""An accuracy is at its ceiling from here on, and a loss where the probability of the right token is as high: at most
-ln 0.99 = 0.01 nats. Nothing that could get better is left to compare."""

Scale = Literal["loss", "accuracy"]
Limit = Literal["chance level", "ceiling"]


@checked
def limit(value: float, scale: Scale, candidates: Size | None) -> Limit | None:
    """Whether a loss, in nats, or an accuracy is at chance level or at its ceiling; None where it is at neither.

    Args:
        candidates: how many tokens a guess is among, so that chance level is ln n nats, or 1/n; None where the chance
            level is not known, as on text.
    """
    if scale == "loss":
        if value <= -math.log(CEILING):
            return "ceiling"
        return "chance level" if candidates is not None and value >= NEAR_CHANCE * math.log(candidates) else None
    if value >= CEILING:
        return "ceiling"
    if candidates is None:
        return None
    return "chance level" if value <= 1 / candidates + (1 - NEAR_CHANCE) * (1 - 1 / candidates) else None


@dataclass(frozen=True)
class Levels:
    """The losses or accuracies at which an effect ends in one model: by seed, or a single one."""

    name: str
    values: Sequence[float]
    scale: Scale
    candidates: Size | None
    """As in `limit`."""

    def __post_init__(self) -> None:
        check_annotated(self)

    @property
    def limits(self) -> list[Limit | None]:
        """The limit of each value."""
        return [limit(value, self.scale, self.candidates) for value in self.values]

    def bound(self, at: int) -> int:
        """1 where a value can only be a lower bound of what is measured, -1 where an upper one, 0 where neither: beyond
        chance level a loss tells of no further harm, and an accuracy cannot exceed 1."""
        at = check_index(at, "value", len(self.values), self.name)
        sign = {"chance level": 1, "ceiling": -1, None: 0}[self.limits[at]]
        return sign if self.scale == "loss" else -sign


@checked
def limited(claim: Text, one: Levels, other: Levels, differences: Sequence[float]) -> Verdict | None:
    """`not measured` where the effect ends at chance level or at its ceiling in either of two models; None where it
    does in neither, so that a test is possible.

    At a limit the effect is only bounded from one side, and so is a mean over seeds that includes such an effect: one
    seed is enough. The reason gives the sign where the bound implies it in every seed.

    Args:
        differences: by seed, that of `one` minus that of `other`.
    """
    for levels in (one, other):
        check_as_many(differences=differences, **{f"values of {levels.name}": levels.values})
    at_limit = [levels for levels in (one, other) if any(levels.limits)]
    if not at_limit:
        return None
    sign = _certain_sign(one, other, differences)
    bound = f"; {one.name} is at least this much {'higher' if sign > 0 else 'lower'}" if sign else ""
    return Verdict(claim, "not measured", f"ends at {' and '.join(map(_ends, at_limit))}{bound}")


@checked
def unknown_candidates(name: str, vocabulary: Size) -> str:
    """A warning for results of earlier versions, whose chance level is that of the whole vocabulary."""
    return f"{name} was measured by an earlier version: chance level is taken to be a guess among {vocabulary} tokens."


def _certain_sign(one: Levels, other: Levels, differences: Sequence[float]) -> int:
    """1 or -1 where every difference has that sign whatever lies beyond the limits, else 0."""
    signs = set()
    for at, difference in enumerate(differences):
        bounds = {one.bound(at), -other.bound(at)} - {0}
        sign = (difference > 0) - (difference < 0)
        signs.add(sign if bounds <= {sign} else 0)
    return signs.pop() if len(signs) == 1 else 0


def _ends(levels: Levels) -> str:
    """`chance level in lab/gpt-neo (2 of 3 seeds)`."""
    limits = [one for one in levels.limits if one is not None]
    seeds = f" ({len(limits)} of {len(levels.values)} seeds)" if len(levels.values) > 1 else ""
    return f"{' or '.join(dict.fromkeys(limits))} in {levels.name}{seeds}"
