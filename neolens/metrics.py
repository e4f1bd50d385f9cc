"""Metrics: from logits to one number a run. Pure functions, and what of the logits each of them reads.

A logit difference needs two columns of the unembedding at one position, not 50,257 at all of them. So a metric says
which positions and which columns it reads, and nothing else is computed. Zhang and Nanda 2023 (arXiv 2309.16042) and
Heimersheim and Nanda 2024 on which to prefer: the logit difference.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True)
class Asked:
    """What a metric may compare logits with, a row a run."""

    answers: Int[Tensor, " row"]
    distractors: Int[Tensor, " row"] | None
    tokens: Int[Tensor, "row pos"]
    """Of the run that is patched."""
    clean: Float[Tensor, "row read d_vocab"] | None = None
    """Logits of the clean run at the positions that are read, for a metric that asks for them."""


@dataclass(frozen=True)
class Metric:
    """A named function of logits, and what it reads of them."""

    name: str
    of: Callable[[Tensor, Asked], Tensor]
    """(logits [row, read, column], asked) -> [row]."""
    reads: Literal["last", "every"] = "last"
    """The last position, or every one."""
    columns: Literal["answers", "all"] = "all"
    """All of the vocabulary, or the answer's and then, if there are distractors, the distractor's."""
    against_clean: bool = False
    """Whether it needs the clean run's logits."""
    needs_distractors: bool = False

    def __call__(self, logits: Float[Tensor, "row read column"], asked: Asked) -> Float[Tensor, " row"]:
        """The metric of each run.

        Raises:
            ValueError: the function gives something else than one number a run.
        """
        values = self.of(logits, asked)
        if not isinstance(values, Tensor) or values.shape != (logits.shape[0],):
            given = f"shape {tuple(values.shape)}" if isinstance(values, Tensor) else type(values).__name__
            raise ValueError(
                f"metric {self.name} gives {given} for {logits.shape[0]} runs: expected a tensor with one number a run"
            )
        return values.to(torch.float32)


def _logit_difference(logits: Tensor, asked: Asked) -> Tensor:
    return logits[:, -1, 0] - logits[:, -1, 1]


def _log_probability(logits: Tensor, asked: Asked) -> Tensor:
    return _log_softmax(logits[:, -1]).gather(1, asked.answers[:, None])[:, 0]


def _probability(logits: Tensor, asked: Asked) -> Tensor:
    return _log_probability(logits, asked).exp()


def _rank(logits: Tensor, asked: Asked) -> Tensor:
    answer = logits[:, -1].gather(1, asked.answers[:, None])
    return (logits[:, -1] > answer).sum(1).to(logits.dtype)


def _kl_divergence(logits: Tensor, asked: Asked) -> Tensor:
    assert asked.clean is not None
    clean, patched = _log_softmax(asked.clean[:, -1]), _log_softmax(logits[:, -1])
    return (clean.exp() * (clean - patched)).sum(-1)


def _loss(logits: Tensor, asked: Asked) -> Tensor:
    following = asked.tokens[:, 1:, None]
    return -_log_softmax(logits[:, :-1]).gather(2, following)[..., 0].mean(1)


def _log_softmax(logits: Tensor) -> Tensor:
    return torch.log_softmax(logits.to(torch.promote_types(logits.dtype, torch.float32)), dim=-1)


logit_difference = Metric("logit_difference", _logit_difference, columns="answers", needs_distractors=True)
"""logit(answer) - logit(distractor) at the last position, in nats. Positive: the answer is preferred."""

probability = Metric("probability", _probability)
"""Probability of the answer at the last position."""

log_probability = Metric("log_probability", _log_probability)
"""Natural logarithm of the probability of the answer at the last position."""

rank = Metric("rank", _rank)
"""How many tokens have a larger logit than the answer at the last position: 0 is the likeliest."""

kl_divergence = Metric("kl_divergence", _kl_divergence, against_clean=True)
"""sum p log(p / q) at the last position in nats, p the clean run's next-token distribution and q this run's."""

loss = Metric("loss", _loss, reads="every")
"""Mean over positions i of -log p(token i + 1 | tokens up to i) in nats, on the tokens of the run that is patched."""

METRICS = {m.name: m for m in (logit_difference, probability, log_probability, rank, kl_divergence, loss)}
"""Name -> metric."""


def of_function(function: Callable[[Tensor], Tensor]) -> Metric:
    """A metric from a plain function of all logits: [row, pos, d_vocab] -> [row]."""
    name = getattr(function, "__name__", type(function).__name__)
    return Metric(name, lambda logits, asked: function(logits), reads="every")
