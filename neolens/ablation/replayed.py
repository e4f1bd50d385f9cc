"""The replay engine at work on ablations: prompts of one length together, every group a branch of each run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from neolens.ablation.methods import ALL_POSITIONS, Cut
from neolens.ablation.spec import Asked
from neolens.ablation.values import CutOff, Replaced, Values, values_of
from neolens.network import Weights
from neolens.readout.predictions import at_tokens, of_last, of_runs
from neolens.replay import ITEMS, Branches, Trunk, final, record, recorded_sites

Progress = Callable[[float], object]


def replayed(
    weights: Weights,
    asked: Asked,
    ablated: np.ndarray,
    baseline: np.ndarray,
    *,
    max_memory: int,
    progress: Progress = lambda runs: None,
) -> None:
    """Fill `ablated` [group, prompt, column, metric] and `baseline` [prompt, column, metric]."""
    kept = None
    for prompts in asked.lengths().values():
        until = max(int(asked.read.at[prompt].max()) for prompt in prompts) + 1
        at_once = ITEMS.get(weights.embedding.device.type, ITEMS["cuda"]) // until
        step = max(1, min(at_once, (max_memory // 2) // _recorded_bytes(weights, asked, until)))
        kept = kept if asked.how == ALL_POSITIONS else None
        for at in range(0, len(prompts), step):
            some = prompts[at : at + step]
            if kept is None or asked.how == "resample":  # a mean is the same for all prompts of one length, or of any
                kept = values_of(weights, asked, some, until)
            _Prompts(weights, asked, some, until, kept).run(ablated, baseline, max_memory // 2, progress)


def _recorded_bytes(weights: Weights, asked: Asked, until: int) -> int:
    """What one prompt takes: its recorded run and, resampled, that of another."""
    begins = {min(layer for layer, _ in heads) for heads in asked.groups.values()}
    begun = 2 + weights.anatomy.parallel + 3 * isinstance(asked.how, Cut)
    vectors = 1 + len(begins) * begun + len(asked.layers) * (asked.how == "resample")
    return vectors * until * weights.anatomy.d_model * weights.embedding.element_size()


class _Prompts:
    """Prompts of one length whose runs are recorded together."""

    def __init__(
        self, weights: Weights, asked: Asked, prompts: Sequence[int], until: int, values: Mapping[int, Values] | None
    ) -> None:
        facts, device = weights.anatomy, weights.embedding.device
        self.weights, self.asked, self.prompts, self.until = weights, asked, list(prompts), until
        tokens = torch.stack([asked.prompts[prompt] for prompt in prompts])
        self.tokens = tokens.to(device)
        at = torch.stack([asked.read.at[prompt] for prompt in prompts]).to(device)
        self.read = None if torch.equal(at, torch.arange(tokens.shape[1], device=device).repeat(len(tokens), 1)) else at
        self.answers = torch.stack([asked.read.answers[prompt] for prompt in prompts]).to(device)
        others = asked.read.distractors
        self.distractors = None if others is None else torch.stack([others[prompt] for prompt in prompts]).to(device)
        sites = recorded_sites(facts.parallel, isinstance(asked.how, Cut))
        self.begins = torch.tensor([min(layer for layer, _ in heads) for heads in asked.groups.values()])
        recorded = record(weights, self.tokens[:, :until], sites, facts.attention, set(self.begins.tolist()))
        heads = membership(asked).to(device)
        if isinstance(asked.how, Cut):
            change: CutOff | Replaced = CutOff(heads, asked.how, facts)
        else:
            change = Replaced(heads, values and {layer: z.expand(-1, -1, until, -1) for layer, z in values.items()})
        self.trunk = Trunk(weights, recorded, facts.attention, change, until, self.read)
        stream = final(recorded)
        self.final = stream if self.read is None else torch.take_along_dim(stream, self.read[..., None], 1)

    def run(self, ablated: np.ndarray, baseline: np.ndarray, budget: int, progress: Progress) -> None:
        every = torch.arange(len(self.prompts), device=self.tokens.device)
        own = self._measured(self.final, every)
        baseline[self.prompts, : own.shape[1]] = own.cpu().numpy()
        width, size = self.weights.anatomy.d_model, self.weights.embedding.element_size()
        for branches in self._branches().chunks(self.until, width * size, budget):
            found = self._measured(self.trunk.through(branches), branches.prompt).cpu().numpy()
            groups, prompts = branches.group.cpu().numpy(), np.asarray(self.prompts)[branches.prompt.cpu().numpy()]
            ablated[groups, prompts, : found.shape[1]] = found
            progress(len(branches))

    def _branches(self) -> Branches:
        """A branch for every group and prompt, by the layer in which it begins."""
        device, count = self.tokens.device, len(self.prompts)
        order = self.begins.argsort(stable=True)
        return Branches(
            self.begins[order].repeat_interleave(count),
            torch.arange(count, device=device).repeat(len(order)),
            order.repeat_interleave(count).to(device),
        )

    def _measured(self, stream: Tensor, prompts: Tensor) -> Tensor:
        """Every metric of runs of these prompts: [row, column, metric]."""
        metrics = self.asked.metrics
        clean = self.final[prompts] if any(metric.against_clean for metric in metrics) else None
        answers = self.answers[prompts]
        distractors = None if self.distractors is None else self.distractors[prompts]
        if not self.asked.of_runs:
            return at_tokens(self.weights, metrics, stream, answers, distractors, clean)
        last = None if distractors is None else distractors[:, -1]
        ends = of_last(answers, self.asked.facts.d_vocab)
        return of_runs(self.weights, metrics, stream, self.tokens[prompts], ends, last, clean)[:, None]


def membership(asked: Asked) -> Bool[Tensor, "group layer head"]:
    """Which heads each group ablates."""
    heads = torch.zeros(len(asked.groups), asked.facts.layers, asked.facts.heads, dtype=torch.bool)
    for number, chosen in enumerate(asked.groups.values()):
        for layer, head in chosen:
            heads[number, layer, head] = True
    return heads
