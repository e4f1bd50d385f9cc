"""How the lab's networks are trained: one recipe for every arm, and the texts of every step.

The texts of a step depend on the seed and the step alone, so every arm sees the same ones and a resumed
training goes on with the right ones. Documents grow over the training, because networks with absolute
positions learn induction from short repeats first; a short document stands anywhere in the context, so that
every position is trained from the start.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields

import numpy as np
from jaxtyping import Int

from neolens.checks import check_number, check_whole
from neolens.lab.arms import Size
from neolens.lab.language import SHORTEST, TEXTS, document


@dataclass(frozen=True)
class Stage:
    """A stretch of the training with documents of one length."""

    length: int
    """Tokens that are read per document."""
    until: float
    """Share of the steps at which the stage ends."""
    mix: Mapping[str, float]
    """Kind of document -> its share."""


NEAR_MIX: Mapping[str, float] = {
    "background": 0.1,
    "periodic": 0.25,
    "spaced": 0.25,
    "recall": 0.2,
    "indirect_object": 0.2,
}
FAR_MIX: Mapping[str, float] = {
    "background": 0.05,
    "periodic": 0.05,
    "distant": 0.4,
    "spaced": 0.15,
    "recall": 0.15,
    "indirect_object": 0.2,
}
"""For the stage in which the network is to learn to copy from beyond a local window. Without so many distant
documents the arm with local layers still copied within the window alone after 2,500 steps."""

EVEN_MIX: Mapping[str, float] = {
    "background": 0.1,
    "periodic": 0.1,
    "distant": 0.2,
    "spaced": 0.2,
    "recall": 0.2,
    "indirect_object": 0.2,
}
"""For the last stage, in which the network keeps what it can do."""


MOST_STEPS = 10_000_000


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the weights besides arm, seed and machine."""

    size: Size = field(default_factory=Size)
    steps: int = 3500
    tokens: int = 4096
    """Tokens in a step, whatever the length of the documents."""
    rate: float = 3e-3
    """Highest learning rate."""
    warm: int = 100
    """Steps over which the rate rises."""
    cool: float = 0.25
    """Share of the steps, at the end, over which the rate falls to a fiftieth."""
    betas: tuple[float, float] = (0.9, 0.98)
    clip: float = 1.0
    """Largest norm of a step's gradient."""
    curriculum: tuple[Stage, ...] = (
        Stage(16, 0.13, NEAR_MIX),
        Stage(48, 0.5, FAR_MIX),
        Stage(128, 1.0, EVEN_MIX),
    )

    def __post_init__(self) -> None:
        check_whole(self.steps, "steps", most=MOST_STEPS)
        for name, least in (("tokens", 1), ("warm", 0)):
            check_whole(getattr(self, name), name, least)
        for name in ("rate", "clip"):
            check_number(getattr(self, name), name, above=0)
        check_number(self.cool, "cool", 0, 1)
        if self.steps < 1:
            raise ValueError(f"{self.steps} steps: a training has at least 1")
        if longest := [stage.length for stage in self.curriculum if stage.length > self.size.context]:
            raise ValueError(f"documents of {longest[0]} tokens in a context of {self.size.context}")
        for stage in self.curriculum:
            for kind in stage.mix:
                if stage.length + 1 < SHORTEST.get(kind, 0):
                    raise ValueError(
                        f"no {kind} document has {stage.length + 1} tokens: a stage with them is at least "
                        f"{SHORTEST[kind] - 1} long"
                    )
        if [stage.until for stage in self.curriculum][-1] != 1.0:
            raise ValueError("the curriculum's last stage must last until 1.0")

    def as_json(self) -> dict[str, object]:
        """The recipe in the terms of JSON."""
        plain = {item.name: getattr(self, item.name) for item in fields(self)}
        stages = [{"length": s.length, "until": s.until, "mix": dict(s.mix)} for s in self.curriculum]
        return plain | {"size": asdict(self.size), "betas": list(self.betas), "curriculum": stages}


@dataclass(frozen=True)
class Batch:
    """The texts of one step: the network reads `tokens[:, :-1]` at `positions`, predicts `tokens[:, 1:]`."""

    tokens: Int[np.ndarray, "document pos_and_next"]
    positions: Int[np.ndarray, "document pos"]


def batch(recipe: Recipe, seed: int, step: int) -> Batch:
    """The documents of one step, each at a random place of the context."""
    rng = np.random.default_rng((TEXTS, seed, step))
    stage = next(stage for stage in recipe.curriculum if step < stage.until * recipe.steps)
    length, n = stage.length, max(1, recipe.tokens // stage.length)
    tokens = np.stack([document(rng, length + 1, stage.mix).tokens for _ in range(n)])
    starts = rng.integers(0, recipe.size.context - length + 1, (n, 1))
    return Batch(tokens, starts + np.arange(length))


def learning_rate(recipe: Recipe, step: int) -> float:
    """Share of the highest rate at a step: rises in a line, stays, falls in a line."""
    left = 1 - step / recipe.steps
    return min(1.0, (step + 1) / recipe.warm, max(0.02, left / recipe.cool))
