"""Pairs of a user's own in place of planted questions: the token that differs is the source, the last one the query.

All that patching moves, and all that reaches the query, has to come from one source token, so the prompts of a pair may
differ in no other. Means, intervals and mean ablation are taken over the prompts of one distance, and over those of all
distances on one side of the window; so the prompts of a distance have one length, and every distance has as many.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from neolens.prompts import PromptPairs
from neolens.studies.own_pairs import check_file, read_own
from neolens.studies.settings import ENOUGH
from neolens.wording import join

TASK = "your_prompts"


def own_pairs(model: Any, path: str) -> dict[int, PromptPairs]:
    """Distance from the source to the query -> the pairs of a file with this distance, in ascending order.

    Raises:
        ValueError: pairs that differ in several tokens or in the last one; several lengths at one distance; fewer than
            8 pairs at a distance, or not as many at each.
    """
    pairs, lines = read_own(model, path), check_file(path)
    numbers: dict[int, list[int]] = {}
    for number in range(len(pairs)):
        where = f"{model.anatomy.name}: line {lines[number]} of {path}"
        distance = _distance(pairs, number, where)
        first = numbers.setdefault(distance, [number])[0]
        if pairs.lengths[number] != pairs.lengths[first]:
            raise ValueError(
                f"{where} has prompts of {pairs.lengths[number]} tokens, line {lines[first]}, also at distance "
                f"{distance}, of {pairs.lengths[first]}: expected one length per distance"
            )
        numbers[distance] += [number] if number != first else []
    _check_counts({distance: len(of) for distance, of in numbers.items()}, f"{model.anatomy.name}: {path}")
    return {distance: _named(pairs[numbers[distance]]) for distance in sorted(numbers)}


def _distance(pairs: PromptPairs, number: int, where: str) -> int:
    """How far the one token that differs is from the end."""
    differing = (pairs.clean[number] != pairs.corrupted[number]).nonzero().flatten().tolist()
    if len(differing) > 1:
        raise ValueError(
            f"{where} has prompts that differ in {len(differing)} tokens: expected one, the source of all that reaches "
            "the end"
        )
    distance = pairs.lengths[number] - 1 - int(differing[0])
    if distance == 0:
        raise ValueError(f"{where} has prompts that differ in the last token: expected a token before it")
    return distance


def _check_counts(counts: dict[int, int], where: str) -> None:
    """As many pairs at each distance, enough for means and intervals."""
    if len(set(counts.values())) > 1 or min(counts.values()) < ENOUGH:
        told = join([f"{count} at distance {distance}" for distance, count in sorted(counts.items())][:8])
        raise ValueError(f"{where} has these pairs: {told}; expected as many at each distance, {ENOUGH} or more")


def _named(pairs: PromptPairs) -> PromptPairs:
    return replace(pairs, positions={"source": pairs.positions["changed"], "query": pairs.positions["end"]})
