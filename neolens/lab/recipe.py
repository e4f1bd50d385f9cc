"""How the lab's networks are trained: one recipe for every arm, and the texts of every step.

The texts of a step depend on the seed and the step alone, so every arm sees the same ones and a resumed training goes
on with the right ones. Documents grow over the training, because absolute positions learn induction only from short
repeats first; a short document stands anywhere in the context, so that every position is trained from the start.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

import numpy as np
from jaxtyping import Int

from neolens.lab.arms import Size
from neolens.lab.language import MIX, document

START, TEXTS, EVALUATION = 1, 2, 3
"""First part of every random seed: draws for different purposes never coincide."""


@dataclass(frozen=True)
class Stage:
    """A stretch of the training with documents of one length."""

    length: int
    """Tokens that are read per document."""
    until: float
    """Share of the steps at which the stage ends."""


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the weights besides arm, seed and machine."""

    size: Size = field(default_factory=Size)
    steps: int = 2500
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
    curriculum: tuple[Stage, ...] = (Stage(16, 0.15), Stage(32, 0.3), Stage(64, 0.6), Stage(128, 1.0))
    mix: Mapping[str, float] = field(default_factory=lambda: dict(MIX))
    """Kind of document -> its share."""

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"{self.steps} steps: a training has at least 1")
        if longest := [stage.length for stage in self.curriculum if stage.length > self.size.context]:
            raise ValueError(f"documents of {longest[0]} tokens in a context of {self.size.context}")
        if [stage.until for stage in self.curriculum][-1] != 1.0:
            raise ValueError("the curriculum's last stage must last until 1.0")

    def as_json(self) -> dict[str, object]:
        """The recipe in the terms of JSON."""
        plain = asdict(self)
        return plain | {
            "betas": list(self.betas),
            "curriculum": [[stage.length, stage.until] for stage in self.curriculum],
        }


@dataclass(frozen=True)
class Batch:
    """The texts of one step: the network reads `tokens[:, :-1]` at `positions` and predicts `tokens[:, 1:]`."""

    tokens: Int[np.ndarray, "document pos_and_next"]
    positions: Int[np.ndarray, "document pos"]


def batch(recipe: Recipe, seed: int, step: int) -> Batch:
    """The documents of one step, each at a random place of the context."""
    rng = np.random.default_rng((TEXTS, seed, step))
    length = next(stage.length for stage in recipe.curriculum if step < stage.until * recipe.steps)
    n = max(1, recipe.tokens // length)
    tokens = np.stack([document(rng, length + 1, recipe.mix).tokens for _ in range(n)])
    starts = rng.integers(0, recipe.size.context - length + 1, (n, 1))
    return Batch(tokens, starts + np.arange(length))


def learning_rate(recipe: Recipe, step: int) -> float:
    """Share of the highest rate at a step: rises in a line, stays, falls in a line."""
    left = 1 - step / recipe.steps
    return min(1.0, (step + 1) / recipe.warm, max(0.02, left / recipe.cool))
