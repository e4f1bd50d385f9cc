"""What a network of the lab has learned, as accuracies on texts that training never drew.

Three tasks, each asked at chosen distances (see `planted`): inside the window of the lab's local layers, beyond
it, and beyond any distance of training. Induction is also asked in its purest form, [BOS, r, r] with r random:
the only way to be right about the second copy is to find the same word in the first and to say what followed.
"""

from collections.abc import Iterable, Mapping, Set
from functools import lru_cache
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Int
from transformers import PreTrainedModel

from neolens.checks import check_choice, check_list, check_type, check_whole, shown
from neolens.lab.language.documents import EVALUATION, FARTHEST, KINDS, NEAR, SHORTEST, repeated
from neolens.lab.language.grammar import MOST
from neolens.lab.language.planted import NEAREST, TASKS, check_prompts, farthest, planted

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
    distance = check_whole(distance, "distance", 0)
    return "inside" if distance < NEAR else "beyond" if distance <= FARTHEST else "unseen"


REACHES: Mapping[str, tuple[int, ...]] = MappingProxyType(
    {name: tuple(d for d in DISTANCES if reach(d) == name) for name in ("inside", "beyond", "unseen")}
)
"""The distances of `DISTANCES` by where they lie."""


def _check_network(model: Any) -> PreTrainedModel:
    """The network itself, if it is an ordinary Hugging Face model."""
    expected = "a Hugging Face model, such as transformers.AutoModelForCausalLM gives of neolens.lab.folder('gpt2')"
    return check_type(model, "model", PreTrainedModel, expected)


def predicted(model: PreTrainedModel, tokens: Int[np.ndarray, "prompt pos"]) -> Int[np.ndarray, "prompt pos"]:
    """The likeliest next token after each position.

    Raises:
        TypeError, ValueError: no Hugging Face model, or no tokens of its vocabulary that fit its context.
    """
    config = _check_network(model).config
    array = check_type(tokens, "tokens", np.ndarray, "an integer array [prompt, pos]")
    if array.dtype.kind not in "iu" or array.ndim != 2 or not array.size:
        raise ValueError(f"tokens {shown(array)}: expected an integer array [prompt, pos], of at least one token")
    size = getattr(config, "vocab_size", 2**63)
    if array.min() < 0 or array.max() >= size:
        wrong = next(token for token in array.flat if not 0 <= token < size)
        raise ValueError(f"tokens hold {wrong}: the model has 0 to {size - 1}")
    if array.shape[1] > config.max_position_embeddings:
        raise ValueError(f"tokens of {array.shape[1]} positions: the model has {config.max_position_embeddings}")
    with torch.no_grad():
        return model(torch.from_numpy(tokens).to(model.device)).logits.argmax(-1).cpu().numpy()


def accuracy(
    model: PreTrainedModel, tokens: Int[np.ndarray, "prompt pos"], asked: Bool[np.ndarray, "prompt pos"]
) -> float:
    """Share of the tokens marked in `asked` that the network predicts from what stands before them."""
    expected = "a boolean array [prompt, pos], true for at least one token after the first"
    if check_type(asked, "asked", np.ndarray, expected).dtype != bool or asked.shape != getattr(tokens, "shape", ()):
        raise ValueError(f"asked {shown(asked)} for tokens {shown(tokens)}: expected {expected}")
    if not asked[:, 1:].any():
        raise ValueError(f"asked is false everywhere after the first token: expected {expected}")
    right = predicted(model, tokens)[:, :-1] == tokens[:, 1:]
    return float(right[asked[:, 1:]].mean())


def at_distance(model: PreTrainedModel, task: str, distance: int, *, prompts: int = 64, seed: int = 0) -> float:
    """Accuracy on a task whose answer stands `distance` tokens back, in prompts as long as the context."""
    context = _check_network(model).config.max_position_embeddings
    check_choice(task, "task", TASKS)
    distance, prompts, seed = check_whole(distance, "distance"), check_prompts(prompts), check_whole(seed, "seed", 0)
    asked = _planted(task, distance, length=context, prompts=prompts, seed=seed)
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
    context = _check_network(model).config.max_position_embeddings
    prompts, seed = check_prompts(prompts), check_whole(seed, "seed", 0)
    several = sorted(distances) if isinstance(distances, Set) else distances
    distances = [
        check_whole(distance, "distance") for distance in check_list(several, "distances", "numbers", example="[4, 16]")
    ]
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
    expected = "a mapping from tasks to accuracies by distance, as by_distance returns it"
    for task, found in check_type(accuracies, "accuracies", Mapping, expected).items():
        check_type(found, f"accuracies[{task!r}]", Mapping, "a mapping from distances to accuracies")
        for name, distances in REACHES.items():
            if values := [found[str(d)] for d in distances if str(d) in found]:
                table.setdefault(task, {})[name] = float(np.mean(values))
    return table


def induction(model: PreTrainedModel, length: int, *, prompts: int = 64, seed: int = 0) -> float:
    """Accuracy on r_2..r_n of the second copy in [BOS, r, r], n = `length`; chance is one in 202 words."""
    _check_network(model)
    tokens = repeated(length, prompts=check_prompts(prompts), seed=seed)
    asked = np.broadcast_to(np.arange(tokens.shape[1]) > length + 1, tokens.shape)
    return accuracy(model, tokens, asked)


def solved(model: PreTrainedModel, kind: str, *, length: int = 128, prompts: int = 32, seed: int = 0) -> float:
    """Accuracy on the tokens that fresh documents of one kind, `length` tokens long, ask for."""
    _check_network(model)
    check_choice(kind, "kind of document", KINDS)
    prompts, seed, length = check_prompts(prompts), check_whole(seed, "seed", 0), check_whole(length, "length", 1, MOST)
    drawn = [
        KINDS[kind](np.random.default_rng((EVALUATION, seed, prompt, length)), length) for prompt in range(prompts)
    ]
    return accuracy(model, np.stack([d.tokens for d in drawn]), np.stack([d.asked for d in drawn]))


def competence(model: PreTrainedModel, *, prompts: int = 64, seed: int = 0) -> dict[str, dict[str, dict[str, float]]]:
    """Accuracy by distance, by reach, by length of a pure repeat, and by kind of document."""
    prompts, seed = check_prompts(prompts), check_whole(seed, "seed", 0)
    was_training, context = _check_network(model).training, model.config.max_position_embeddings
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
