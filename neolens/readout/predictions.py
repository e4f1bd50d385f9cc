"""Metrics of every prediction of a run: some predictions at a time, so that never all logits are held.

The logits of 2,048 positions and 50,257 columns are 412 MB in fp32.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from neolens.metrics import Asked, Expected, Metric
from neolens.network import Weights, logits
from neolens.network.forward import normalise
from neolens.readout.columns import column_logits

NOTHING = -1
"""In place of a token that nothing is compared with."""

LOGIT_BYTES = 32 * 2**20
"""Logits that are held at a time."""


def at_tokens(
    weights: Weights,
    metrics: Sequence[Metric],
    final: Float[Tensor, "row read d_model"],
    answers: Int[Tensor, "row read"],
    distractors: Int[Tensor, "row read"] | None,
    clean: Float[Tensor, "row read d_model"] | None,
) -> Float[Tensor, "row read metric"]:
    """Each metric of each prediction; NaN where nothing is expected that it could compare with.

    Args:
        clean: the final stream of the run as it is, for metrics that compare with it.
    """
    whole = any(metric.columns == "all" for metric in metrics)
    columns = weights.anatomy.d_vocab if whole else weights.anatomy.d_model
    items = torch.arange(answers.numel(), device=answers.device).split(max(1, LOGIT_BYTES // (4 * columns)))
    flat = final.flatten(0, 1)
    found = torch.empty(answers.numel(), len(metrics), device=final.device)
    for some in items:
        expected = Expected(
            answers.flatten()[some].clamp(min=0),
            None if distractors is None else distractors.flatten()[some].clamp(min=0),
            None if clean is None else logits(weights, clean.flatten(0, 1)[None, some])[0],
        )
        given = {"all": logits(weights, flat[None, some])[0]} if whole else {}
        if any(metric.columns == "answers" for metric in metrics):
            normed = normalise(weights, weights.norm_final, flat[some])[:, None]
            given["answers"] = column_logits(weights, normed, expected.columns)[:, 0]
        for number, metric in enumerate(metrics):
            assert metric.of_token is not None
            found[some, number] = metric.of_token(given[metric.columns], expected).to(found.dtype)
    for number, metric in enumerate(metrics):
        found[_unknown(metric, answers.flatten(), distractors), number] = torch.nan
    return found.view(*answers.shape, len(metrics))


def of_last(answers: Int[Tensor, "row read"], d_vocab: int) -> Int[Tensor, " row"]:
    """The answers after the last position; where there is none a token that does not exist, so that whoever looks it up
    is told."""
    return answers[:, -1].masked_fill(answers[:, -1] == NOTHING, d_vocab)


def of_runs(
    weights: Weights,
    metrics: Sequence[Metric],
    final: Float[Tensor, "row pos d_model"],
    tokens: Int[Tensor, "row pos"],
    answers: Int[Tensor, " row"],
    distractors: Int[Tensor, " row"] | None,
    clean: Float[Tensor, "row pos d_model"] | None,
) -> Float[Tensor, "row metric"]:
    """Each metric of whole runs, from all logits of some runs at a time."""
    rows = torch.arange(len(tokens), device=tokens.device)
    found = []
    for some in rows.split(max(1, LOGIT_BYTES // (4 * tokens.shape[1] * weights.anatomy.d_vocab))):
        its = None if clean is None else logits(weights, clean[some])
        asked = Asked(answers[some], None if distractors is None else distractors[some], tokens[some], its)
        given = logits(weights, final[some])
        found.append(torch.stack([metric.of_every(given, asked) for metric in metrics], dim=1))
    return torch.cat(found)


def _unknown(metric: Metric, answers: Tensor, distractors: Tensor | None) -> Tensor:
    if metric.against_clean:
        return torch.zeros_like(answers, dtype=torch.bool)
    unknown = answers == NOTHING
    if metric.needs_distractors and distractors is not None:
        unknown = unknown | (distractors.flatten() == NOTHING)
    return unknown
