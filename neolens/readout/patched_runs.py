"""Metrics of patched runs: only the positions and columns that some metric reads."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from neolens.checks import check_floats, check_records, check_tokens
from neolens.metrics import Asked, Metric
from neolens.network import Weights
from neolens.network.forward import normalise
from neolens.network.products import apply
from neolens.network.weights import check_weights
from neolens.readout.columns import column_logits
from neolens.replay.rows import Rows

LOGIT_BYTES = 128 * 2**20
"""Logits that are held at a time."""


class Reader:
    """Metrics of runs that started from recorded ones and share their final residual stream where nothing changed."""

    def __init__(
        self,
        weights: Weights,
        metrics: Sequence[Metric],
        tokens: Int[Tensor, "prompt pos"],
        final: Float[Tensor, "prompt pos d_model"],
        answers: Int[Tensor, " prompt"],
        distractors: Int[Tensor, " prompt"] | None,
        clean: Float[Tensor, "prompt pos d_model"] | None = None,
    ) -> None:
        check_weights(weights)
        metrics = check_records(metrics, "metrics", Metric, "neolens.metrics.several_metrics")
        check_tokens(tokens, "tokens", "[prompt, pos]", weights.anatomy.d_vocab, weights.anatomy.name)
        check_floats(final, "final", "[prompt, pos, d_model]")
        Asked(answers, distractors, tokens, clean)  # which checks them
        self.weights, self.metrics, self.tokens, self.final = weights, metrics, tokens, final
        self.answers, self.distractors = answers, distractors
        self.every = any(metric.reads == "every" for metric in metrics)
        self.whole = any(metric.columns == "all" for metric in metrics)
        self.clean = clean

    @property
    def read_from(self) -> int:
        """The first position that some metric reads."""
        return 0 if self.every else self.tokens.shape[1] - 1

    def unpatched(self) -> Float[Tensor, "prompt metric"]:
        """The metrics of the recorded runs themselves."""
        prompts = torch.arange(len(self.tokens), device=self.tokens.device)
        return self(Rows(0, self.tokens.shape[1], prompts, prompts, self.final))

    def __call__(self, rows: Rows) -> Float[Tensor, "row metric"]:
        read = self.tokens.shape[1] - self.read_from
        columns = self.weights.anatomy.d_vocab if self.whole else 2
        at_a_time = max(1, LOGIT_BYTES // (4 * read * columns))
        steps = torch.arange(len(rows.prompt), device=rows.prompt.device).split(at_a_time)
        return torch.cat([self._some(rows, step) for step in steps])

    def _some(self, rows: Rows, which: Tensor) -> Float[Tensor, "row metric"]:
        prompts = rows.prompt[which]
        if self.every:
            stream = self.final[prompts].clone()
            stream[:, rows.first : rows.last] = rows.residual[which]
        else:
            stream = rows.residual[which, -1:]
        normed = normalise(self.weights, self.weights.norm_final, stream)
        asked = Asked(
            self.answers[prompts],
            None if self.distractors is None else self.distractors[prompts],
            self.tokens[prompts],
            self._clean_logits(prompts),
        )
        logits = {"answers": self._answer_columns(normed, asked)}
        if self.whole:
            logits["all"] = apply(self.weights.unembedding, normed)
        return torch.stack([metric(logits[metric.columns], asked) for metric in self.metrics], dim=1)

    def _answer_columns(self, normed: Tensor, asked: Asked) -> Float[Tensor, "row read column"]:
        """Logits of the answer and then, if there is one, of the distractor."""
        tokens = [asked.answers] if asked.distractors is None else [asked.answers, asked.distractors]
        return column_logits(self.weights, normed, torch.stack(tokens, dim=1))

    def _clean_logits(self, prompts: Tensor) -> Tensor | None:
        if self.clean is None:
            return None
        stream = self.clean[prompts, self.read_from :]
        return apply(self.weights.unembedding, normalise(self.weights, self.weights.norm_final, stream))
