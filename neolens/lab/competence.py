"""What a network of the lab has learned, as accuracies on texts that training never drew.

Three tasks, each asked at chosen distances (see `planted`): inside the window of the lab's local layers, beyond
it, and beyond any distance of training. Induction is also asked in its purest form, [BOS, r, r] with r random:
the only way to be right about the second copy is to find the same word in the first and to say what followed.
"""

from collections.abc import Iterable, Mapping
from functools import lru_cache
from types import MappingProxyType

import numpy as np
import torch
from jaxtyping import Bool, Int
from transformers import PreTrainedModel

from neolens.lab.language import EVALUATION, FARTHEST, KINDS, NEAR, SHORTEST, repeated
from neolens.lab.planted import NEAREST, TASKS, farthest, planted

DISTANCES = (4, 8, 12, 15, 16, 20, 24, 32, 48, 64, 72, 88, 104)
"""Distances at which the tasks are asked, where they can be."""

LENGTHS = (4, 8, 12, 16, 32, 60)
"""Repeat lengths at which induction is measured."""

_BATCH = 16
"""Prompts per forward pass: more do not fit the caches of a core."""

_planted = lru_cache(maxsize=64)(planted)
"""The prompts of all distances, drawn once for all networks and training steps that are asked the same."""


def reach(distance: int) -> str:
    """Where a distance lies: `inside` the window, `beyond` it, or `unseen` in training."""
    return "inside" if distance < NEAR else "beyond" if distance <= FARTHEST else "unseen"


REACHES: Mapping[str, tuple[int, ...]] = MappingProxyType(
    {name: tuple(d for d in DISTANCES if reach(d) == name) for name in ("inside", "beyond", "unseen")}
)
"""The distances of `DISTANCES` by where they lie."""


def predicted(model: PreTrainedModel, tokens: Int[np.ndarray, "prompt pos"]) -> Int[np.ndarray, "prompt pos"]:
    """The likeliest next token after each position."""
    with torch.no_grad():
        return model(torch.from_numpy(tokens).to(model.device)).logits.argmax(-1).cpu().numpy()


def accuracy(
    model: PreTrainedModel, tokens: Int[np.ndarray, "prompt pos"], asked: Bool[np.ndarray, "prompt pos"]
) -> float:
    """Share of the tokens marked in `asked` that the network predicts from what stands before them."""
    right = predicted(model, tokens)[:, :-1] == tokens[:, 1:]
    return float(right[asked[:, 1:]].mean())


def at_distance(model: PreTrainedModel, task: str, distance: int, *, prompts: int = 64, seed: int = 0) -> float:
    """Accuracy on a task whose answer stands `distance` tokens back, in prompts as long as the context."""
    asked = _planted(task, distance, length=model.config.max_position_embeddings, prompts=prompts, seed=seed)
    queries = asked.positions["query"]
    order, right = np.argsort(queries, kind="stable"), 0
    for rows in np.split(order, range(_BATCH, prompts, _BATCH)):  # no token after the last query is needed
        tokens = asked.tokens[rows, : queries[rows[-1]] + 1]
        right += np.sum(predicted(model, tokens)[np.arange(len(rows)), queries[rows]] == asked.answer[rows])
    return float(right / prompts)


def by_distance(
    model: PreTrainedModel,
    distances: Iterable[int] = DISTANCES,
    *,
    prompts: int = 64,
    seed: int = 0,
) -> dict[str, dict[str, float]]:
    """Task -> distance -> accuracy, at those distances that the task and the context have room for."""
    context, distances = model.config.max_position_embeddings, list(distances)
    return {
        task: {
            str(d): at_distance(model, task, d, prompts=prompts, seed=seed)
            for d in distances
            if NEAREST[task] <= d <= farthest(task, context)
        }
        for task in TASKS
    }


def by_reach(accuracies: Mapping[str, Mapping[str, float]]) -> dict[str, dict[str, float]]:
    """Task -> `inside`, `beyond`, `unseen` -> mean over the distances of `by_distance` that lie there, if any do."""
    table: dict[str, dict[str, float]] = {}
    for task, found in accuracies.items():
        for name, distances in REACHES.items():
            if values := [found[str(d)] for d in distances if str(d) in found]:
                table.setdefault(task, {})[name] = float(np.mean(values))
    return table


def induction(model: PreTrainedModel, length: int, *, prompts: int = 64, seed: int = 0) -> float:
    """Accuracy on r_2..r_n of the second copy in [BOS, r, r], n = `length`; chance is one in 202 words."""
    tokens = repeated(length, prompts=prompts, seed=seed)
    asked = np.broadcast_to(np.arange(tokens.shape[1]) > length + 1, tokens.shape)
    return accuracy(model, tokens, asked)


def solved(model: PreTrainedModel, kind: str, *, length: int = 128, prompts: int = 32, seed: int = 0) -> float:
    """Accuracy on the tokens that fresh documents of one kind, `length` tokens long, ask for."""
    drawn = [
        KINDS[kind](np.random.default_rng((EVALUATION, seed, prompt, length)), length) for prompt in range(prompts)
    ]
    return accuracy(model, np.stack([d.tokens for d in drawn]), np.stack([d.asked for d in drawn]))


def competence(model: PreTrainedModel, *, prompts: int = 64, seed: int = 0) -> dict[str, dict[str, dict[str, float]]]:
    """Accuracy by distance, by reach, by length of a pure repeat, and by kind of document."""
    was_training, context = model.training, model.config.max_position_embeddings
    model.eval()
    distances = by_distance(model, prompts=prompts, seed=seed)
    table = {
        "reach": by_reach(distances),
        "distance": distances,
        "repeats": {
            "induction": {str(n): induction(model, n, prompts=prompts, seed=seed) for n in LENGTHS if 2 * n < context}
        },
        "documents": {
            "accuracy": {
                kind: solved(model, kind, length=context, seed=seed) for kind in KINDS if context >= SHORTEST[kind]
            }
        },
    }
    model.train(was_training)
    return table
