"""Metrics: from logits to one number a run. Pure functions, and what of the logits each of them reads.

A logit difference needs two columns of the unembedding at one position, not 50,257 at all of them. So a metric says
which positions and which columns it reads, and nothing else is computed. Zhang and Nanda 2023 (arXiv 2309.16042) and
Heimersheim and Nanda 2024 on which to prefer: the logit difference.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from neolens.checks import (
    check_bool,
    check_choice,
    check_floats,
    check_function,
    check_text,
    check_tokens,
    check_type,
    did_you_mean,
    holds_tokens,
    shown,
)


@dataclass(frozen=True)
class Asked:
    """What a metric may compare logits with, a row a run."""

    answers: Int[Tensor, " row"]
    distractors: Int[Tensor, " row"] | None
    tokens: Int[Tensor, "row pos"]
    """Of the run that is patched."""
    clean: Float[Tensor, "row read d_vocab"] | None = None
    """Logits of the clean run at the positions that are read, for a metric that asks for them."""

    def __post_init__(self) -> None:
        _check_targets(self, "run", "[run, pos, d_vocab]")
        check_tokens(self.tokens, "tokens of Asked", "[run, pos]")


@dataclass(frozen=True)
class Expected:
    """What single predictions are compared with, an item a position of a run."""

    answers: Int[Tensor, " item"]
    distractors: Int[Tensor, " item"] | None = None
    clean: Float[Tensor, "item d_vocab"] | None = None
    """Logits of the clean run (of an ablation, the run as it is) there, for a metric that asks for them."""

    def __post_init__(self) -> None:
        _check_targets(self, "item", "[item, d_vocab]")

    @property
    def columns(self) -> Int[Tensor, "item column"]:
        """The answer and then, if there is one, the distractor."""
        tokens = [self.answers] if self.distractors is None else [self.answers, self.distractors]
        return torch.stack(tokens, dim=1)


OfToken = Callable[[Tensor, Expected], Tensor]
"""(logits [item, column], expected) -> [item]."""


@dataclass(frozen=True)
class Metric:
    """A named function of logits, and what it reads of them."""

    name: str
    of: Callable[[Tensor, Asked], Tensor]
    """(logits [row, read, column], asked) -> [row]."""
    of_token: OfToken | None = None
    """The same of one position; None for a metric that has a value for whole runs only."""
    reads: Literal["last", "every"] = "last"
    """The last position, or every one."""
    columns: Literal["answers", "all"] = "all"
    """All of the vocabulary, or the answer's and then, if there are distractors, the distractor's."""
    against_clean: bool = False
    """Whether it needs the clean run's logits."""
    needs_distractors: bool = False

    def __post_init__(self) -> None:
        check_text(self.name, "name of a metric", example="margin")
        for name, function in (("of", self.of), *([] if self.of_token is None else [("of_token", self.of_token)])):
            check_function(function, f"{name} of metric {self.name}", "a function of logits and what is asked", 2)
        check_choice(self.reads, "reads", ("last", "every"))
        check_choice(self.columns, "columns", ("answers", "all"))
        check_bool(self.against_clean, "against_clean")
        check_bool(self.needs_distractors, "needs_distractors")

    def __call__(self, logits: Float[Tensor, "row read column"], asked: Asked) -> Float[Tensor, " row"]:
        """The metric of each run.

        Raises:
            TypeError: logits that are no tensor of floats, or no `Asked`.
            ValueError: logits of another shape, another number of answers, or a function that gives something else than
                one number a run.
        """
        _check_logits(self, logits, asked)
        values = self.of(_columns_read(self, logits, asked), asked)
        whole = isinstance(values, Tensor) and values.layout == torch.strided and not values.is_meta
        if not whole or values.is_complex() or values.shape != (logits.shape[0],):
            given = f"{shown(values)} of {values.dtype}" if isinstance(values, Tensor) else type(values).__name__
            given = f"shape {tuple(values.shape)}" if whole and not values.is_complex() else given
            raise ValueError(
                f"metric {self.name} gives {given} for {logits.shape[0]} runs: expected a tensor with one number a run"
            )
        return values.to(torch.float32)

    def of_every(self, logits: Float[Tensor, "row pos d_vocab"], asked: Asked) -> Float[Tensor, " row"]:
        """The metric of each run from all of its logits, of which it is handed what it reads."""
        _check_logits(self, logits, asked)
        if self.reads == "last":
            logits = logits[:, -1:]
            asked = replace(asked, clean=None if asked.clean is None else asked.clean[:, -1:])
        return self(logits, asked)


def _check_targets(targets: Asked | Expected, each: str, axes: str) -> None:
    """Check the tokens and the logits that predictions are compared with."""
    of = type(targets).__name__
    for name in ("answers", "distractors"):
        tokens = getattr(targets, name)
        if name == "answers" or tokens is not None:
            if not holds_tokens(tokens) or tokens.ndim != 1:
                raise TypeError(f"{name} {shown(tokens)} of {of}: expected an integer tensor [{each}], in memory")
            if len(tokens) != len(targets.answers):
                raise ValueError(f"{len(tokens)} {name} for {len(targets.answers)} answers: expected as many")
    if targets.clean is not None:
        check_floats(targets.clean, f"clean of {of}", axes)


def _check_logits(metric: Metric, logits: Any, asked: Any) -> None:
    """Check that there are logits of each run, and what the metric compares them with."""
    check_floats(logits, "logits", "[run, pos, column]")
    check_type(asked, "asked", Asked, "a neolens.metrics.Asked, with answers of each run")
    _check_targets(asked, "run", "[run, pos, d_vocab]")
    if asked.answers.shape != logits.shape[:1]:
        shape = tuple(asked.answers.shape)
        raise ValueError(f"answers of shape {shape} for {len(logits)} runs: expected one token each")
    if metric.needs_distractors and asked.distractors is None:
        raise TypeError(f"distractors None: metric {metric.name} needs an integer tensor [run]")
    if metric.against_clean and asked.clean is None:
        raise ValueError(f"asked.clean None: metric {metric.name} needs the logits of the clean run")
    if metric.against_clean and asked.clean.shape[::2] != logits.shape[::2]:
        shapes = f"{tuple(asked.clean.shape)} for logits of shape {tuple(logits.shape)}"
        raise ValueError(f"asked.clean of shape {shapes}: expected as many runs and tokens")


def _columns_read(metric: Metric, logits: Tensor, asked: Asked) -> Tensor:
    """The logits of the answer and the distractor alone, where a metric reads no others."""
    needed = 2 if metric.needs_distractors else 1
    if logits.shape[2] < needed:
        raise ValueError(f"logits of shape {tuple(logits.shape)}: metric {metric.name} needs {needed} columns")
    if metric.columns == "all" or logits.shape[2] <= 2:
        return logits
    columns = Expected(asked.answers, asked.distractors).columns
    _check_columns(columns, logits.shape[2])
    return logits.gather(2, columns[:, None].expand(-1, logits.shape[1], -1).to(torch.int64))


def _check_columns(tokens: Tensor, count: int) -> None:
    if tokens.numel() and not 0 <= int(tokens.min()) <= int(tokens.max()) < count:
        wrong = next(token for token in tokens.flatten().tolist() if not 0 <= token < count)
        raise ValueError(f"answers hold token {wrong}: expected 0 to {count - 1}, as the logits have columns")


def _logit_difference(logits: Tensor, expected: Expected) -> Tensor:
    answer, distractor = _exact(logits[:, :2]).unbind(1)
    return answer - distractor


def _log_probability(logits: Tensor, expected: Expected) -> Tensor:
    logits = _exact(logits)
    return _answer_logits(logits, expected)[:, 0] - torch.logsumexp(logits, dim=-1)


def _answer_logits(logits: Tensor, expected: Expected) -> Float[Tensor, "item 1"]:
    answers = expected.answers.to(torch.int64)
    _check_columns(answers, logits.shape[1])
    return logits.gather(1, answers[:, None])


def _probability(logits: Tensor, expected: Expected) -> Tensor:
    return _log_probability(logits, expected).exp()


def _rank(logits: Tensor, expected: Expected) -> Tensor:
    answer = _answer_logits(logits, expected)
    return (logits > answer).sum(1).to(_exact(answer).dtype)


def _kl_divergence(logits: Tensor, expected: Expected) -> Tensor:
    assert expected.clean is not None
    clean, patched = (torch.log_softmax(_exact(each), dim=-1) for each in (expected.clean, logits))
    return (clean.exp() * (clean - patched)).sum(-1)


def _loss(logits: Tensor, expected: Expected) -> Tensor:
    return -_log_probability(logits, expected)


def _mean_loss(logits: Tensor, asked: Asked) -> Tensor:
    if asked.tokens.shape != logits.shape[:2] or logits.shape[1] < 2:
        shapes = f"{tuple(asked.tokens.shape)} for logits of shape {tuple(logits.shape)}"
        raise ValueError(f"tokens of shape {shapes}: metric loss needs a token for each position, of at least two")
    following = asked.tokens[:, 1:]
    return _loss(logits[:, :-1].flatten(0, 1), Expected(following.flatten())).view(following.shape).mean(1)


def _exact(logits: Tensor) -> Tensor:
    """The logits in float32 at least: a metric is not rounded to half precision once more."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def _of_last(name: str, of_token: OfToken, **reads: Any) -> Metric:
    """The metric whose value for a run is that at its last position."""

    def of(logits: Tensor, asked: Asked) -> Tensor:
        clean = None if asked.clean is None else asked.clean[:, -1]
        return of_token(logits[:, -1], Expected(asked.answers, asked.distractors, clean))

    return Metric(name, of, of_token, **reads)


logit_difference = _of_last("logit_difference", _logit_difference, columns="answers", needs_distractors=True)
"""logit(answer) - logit(distractor) at the last position, in nats. Positive: the answer is preferred."""

probability = _of_last("probability", _probability)
"""Probability of the answer at the last position."""

log_probability = _of_last("log_probability", _log_probability)
"""Natural logarithm of the probability of the answer at the last position."""

rank = _of_last("rank", _rank)
"""How many tokens have a larger logit than the answer at the last position: 0 is the likeliest."""

kl_divergence = _of_last("kl_divergence", _kl_divergence, against_clean=True)
"""sum p log(p / q) at the last position in nats, p the clean run's next-token distribution and q this run's."""

loss = Metric("loss", _mean_loss, _loss, reads="every")
"""Mean over positions i of -log p(token i + 1 | tokens up to i) in nats, on the tokens of the run that is patched."""

METRICS = {m.name: m for m in (logit_difference, probability, log_probability, rank, kl_divergence, loss)}
"""Name -> metric."""


def of_function(function: Callable[[Tensor], Tensor]) -> Metric:
    """A metric from a plain function of all logits: [row, pos, d_vocab] -> [row].

    Raises:
        TypeError: no function.
    """
    check_function(function, "metric", "a function of logits")
    name = getattr(function, "__name__", type(function).__name__)
    return Metric(name, lambda logits, asked: function(logits), reads="every")


AnyMetric = Metric | str | Callable[[Tensor], Tensor]
"""A metric, its name, or a function of all logits."""


def several_metrics(metric: Any) -> tuple[Metric, ...]:
    """One metric or a list of them, by name or as functions, as metrics.

    Raises:
        TypeError: what is no metric.
        ValueError: an unknown name, none at all, or two of one name.
    """
    several = metric if isinstance(metric, (list, tuple)) else [metric]
    chosen = [_metric(one) for one in several]
    names = [one.name for one in chosen]
    if not chosen or len(set(names)) < len(names):
        raise ValueError(f"metrics {names}: expected one or several, each with a name of its own")
    return tuple(chosen)


def _metric(metric: Any) -> Metric:
    if isinstance(metric, Metric):
        return metric
    if isinstance(metric, str):
        if metric not in METRICS:
            raise ValueError(
                f"no metric {shown(metric)}: {did_you_mean(metric, METRICS)}metrics are {', '.join(METRICS)}"
            )
        return METRICS[metric]
    if callable(metric):
        return of_function(metric)
    raise TypeError(
        f"metric {shown(metric)}: a metric is one of neolens.metrics, its name or a function of logits, got "
        f"{type(metric).__name__}"
    )
