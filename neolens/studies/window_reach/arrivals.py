"""Through which layers an answer arrives, decided at each distance and in each network."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from neolens.checks import check_choice
from neolens.checks.annotations import checked
from neolens.stats.verdicts import NeededLayers, arrives_through
from neolens.studies.window_reach.summary import Carriers, Side


@checked
def arrivals(found: Carriers, task: str) -> list[NeededLayers]:
    """Through which layers the answer to a task arrives, for each group of distances that agree (see
    `neolens.stats.verdicts.arrives_through`)."""
    far = found.far[check_choice(task, "task", found.tasks)]
    layers = range(len(found.kinds))

    def by_side(read: Callable[[Side], Any]) -> np.ndarray:
        return np.array([[read(sides[at]) for sides in far.values()] for at in range(len(found.seeds))])

    def shares(one: Side) -> list[float]:
        narrowed = one.narrowed
        return [narrowed.get(layer, np.nan) for layer in layers]

    def significant(one: Side) -> list[bool]:
        return [layer in one.narrowed and one.significant(layer) for layer in layers]

    return arrives_through(
        list(far),
        found.seeds,
        by_side(shares),
        by_side(significant),
        by_side(lambda one: one.answers),
        restricted_to=found.near_far.name,
    )
