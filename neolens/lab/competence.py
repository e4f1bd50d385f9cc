"""What a network of the lab has learned, as accuracies on texts that training never drew.

Induction is asked in its purest form, [BOS, r, r] with r random: the only way to be right about the second
copy is to find the same word in the first and to say what followed. Its accuracy by the length of r says over
what distance it works.
"""

from collections.abc import Iterable

import numpy as np
import torch
from jaxtyping import Bool, Int
from transformers import PreTrainedModel

from neolens.lab.language import EVALUATION, KINDS, SHORTEST, repeated

LENGTHS = (4, 8, 12, 16, 32, 60)
"""Repeat lengths at which induction is measured."""


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


def induction(model: PreTrainedModel, length: int, *, prompts: int = 64, seed: int = 0) -> float:
    """Accuracy on r_2..r_n of the second copy in [BOS, r, r], n = `length`; chance is one in 126 words."""
    tokens = repeated(length, prompts=prompts, seed=seed)
    asked = np.broadcast_to(np.arange(tokens.shape[1]) > length + 1, tokens.shape)
    return accuracy(model, tokens, asked)


def solved(model: PreTrainedModel, kind: str, *, length: int = 128, prompts: int = 32, seed: int = 0) -> float:
    """Accuracy on the predictable tokens of fresh documents of one kind, `length` tokens long."""
    drawn = [
        KINDS[kind](np.random.default_rng((EVALUATION, seed, prompt, length)), length) for prompt in range(prompts)
    ]
    return accuracy(model, np.stack([d.tokens for d in drawn]), np.stack([d.predictable for d in drawn]))


def competence(
    model: PreTrainedModel, lengths: Iterable[int] = LENGTHS, *, prompts: int = 64, seed: int = 0
) -> dict[str, dict[str, float]]:
    """Induction by repeat length, and accuracy by kind of document, in documents as long as the context."""
    was_training, context = model.training, model.config.max_position_embeddings
    model.eval()
    table = {
        "induction": {str(n): induction(model, n, prompts=prompts, seed=seed) for n in lengths},
        "documents": {
            kind: solved(model, kind, length=context, seed=seed) for kind in KINDS if context >= SHORTEST[kind]
        },
    }
    model.train(was_training)
    return table
