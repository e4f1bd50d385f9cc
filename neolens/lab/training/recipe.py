"""How the lab's networks are trained: one recipe for every arm, and the texts of every step.

The texts of a step depend on the seed and the step alone, so every arm sees the same ones and a resumed
training goes on with the right ones. Documents grow over the training, because networks with absolute
positions learn induction from short repeats first; a short document stands anywhere in the context, so that
every position is trained from the start.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import numpy as np
from jaxtyping import Int

from neolens.checks import check_fields, check_index, check_list, check_number, check_type, check_whole, shown
from neolens.lab.language.documents import SHORTEST, TEXTS, check_mix, document
from neolens.lab.variants import Size


@dataclass(frozen=True)
class Stage:
    """A stretch of the training with documents of one length."""

    length: int
    """Tokens that are read per document."""
    until: float
    """Share of the steps at which the stage ends."""
    mix: Mapping[str, float]
    """Kind of document -> its share."""

    def __post_init__(self) -> None:
        check_fields(self, {"until": (1e-9, 1)})
        check_mix(self.mix)


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
        if check_whole(self.steps, "steps", most=MOST_STEPS) < 1:
            raise ValueError(f"{shown(self.steps)} steps: a training has at least 1")
        for name in ("rate", "clip"):
            check_number(getattr(self, name), name, above=0)
        bounds = dict.fromkeys(("rate", "clip"), (1e-30, 1e30)) | {"tokens": (1, 2**31 - 1), "warm": (0, 2**31 - 1)}
        check_fields(self, bounds)
        check_type(self.size, "size", Size, "a neolens.lab.variants.Size")
        betas = [check_number(beta, "betas", 0, 1 - 1e-9) for beta in check_list(self.betas, "betas", "two numbers")]
        if len(betas) != 2:
            raise ValueError(f"betas {shown(self.betas)}: expected two numbers, such as (0.9, 0.98)")
        for stage in check_list(self.curriculum, "curriculum", "Stage"):
            check_type(stage, "curriculum", Stage, "a list of neolens.lab.training.recipe.Stage")
        object.__setattr__(self, "betas", tuple(betas))
        object.__setattr__(self, "curriculum", tuple(self.curriculum))
        self._check_curriculum()

    def _check_curriculum(self) -> None:
        ends = [stage.until for stage in self.curriculum]
        if longest := [stage.length for stage in self.curriculum if stage.length > self.size.context]:
            raise ValueError(f"documents of {longest[0]} tokens in a context of {self.size.context}")
        for stage in self.curriculum:
            for kind in stage.mix:
                if stage.length + 1 < SHORTEST.get(kind, 0):
                    raise ValueError(
                        f"no {kind} document has {stage.length + 1} tokens: a stage with them is at least "
                        f"{SHORTEST[kind] - 1} long"
                    )
        if ends[-1:] != [1.0]:
            raise ValueError("the curriculum's last stage must last until 1.0")
        if ends != sorted(ends):
            raise ValueError(f"the curriculum's stages end at {ends}: expected them to ascend")

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
    _check_step(recipe, step)
    rng = np.random.default_rng((TEXTS, check_whole(seed, "seed", 0), step))
    stage = next(stage for stage in recipe.curriculum if step < stage.until * recipe.steps)
    length, n = stage.length, max(1, recipe.tokens // stage.length)
    tokens = np.stack([document(rng, length + 1, stage.mix).tokens for _ in range(n)])
    starts = rng.integers(0, recipe.size.context - length + 1, (n, 1))
    return Batch(tokens, starts + np.arange(length))


def _check_step(recipe: Any, step: Any) -> None:
    check_type(recipe, "recipe", Recipe, "a neolens.lab.training.recipe.Recipe")
    check_index(step, "step", recipe.steps)


def learning_rate(recipe: Recipe, step: int) -> float:
    """Share of the highest rate at a step: rises in a line, stays, falls in a line."""
    _check_step(recipe, step)
    left = 1 - step / recipe.steps
    return min(1.0, (step + 1) / max(1, recipe.warm), max(0.02, left / recipe.cool) if recipe.cool else 1.0)
