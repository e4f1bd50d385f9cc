"""What each saving of the replay engine is worth: the same sweep with one of them taken away.

Layers: every patch's row is run from layer 0 on, not from the layer of the patch. Positions: rows hold all positions,
not those from the patch on. Equal prefix: patches before the first token that differs are run too. Reach: everything is
computed up to the last layer's last position. One batch: each layer's and position's patches are run by themselves.
The numbers stay the same; the largest difference is printed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

import neolens
from benchmarks.common import alternating, median_ratio
from benchmarks.patching.beside import ANSWER, DISTRACTOR, random_pairs
from neolens.metrics import logit_difference
from neolens.network import Weights, weights_of
from neolens.readout.patched_runs import Reader
from neolens.replay import NEEDED, READ, Cells, Reach, Record, Rows, Suffix, final, reach, record, replay

WITHOUT = ("nothing", "layers", "positions", "equal prefix", "reach", "one batch")

BUDGET = 2**30


class Widened(Suffix):
    """A suffix whose rows hold every position: what they have not changed is the record's."""

    def through(self, layer: int, entering: list[Rows], between: list[Rows], after: list[Rows]) -> list[Rows]:
        """The rows after a block."""
        streams = ("resid_pre", "resid_post" if self.weights.anatomy.parallel else "resid_mid", "resid_post")
        wide = [
            [self._widened(rows, self.target[stream][layer]) for rows in joining]
            for joining, stream in zip((entering, between, after), streams)
        ]
        return super().through(layer, *wide)

    def _widened(self, rows: Rows, stream: Tensor) -> Rows:
        parts = [stream[rows.prompt, : rows.first], rows.residual, stream[rows.prompt, rows.last :]]
        return rows.replaced(0, self.reach.length, torch.cat(parts, dim=1))


def savings(folder: str, lengths: list[int], rounds: int) -> Iterator[dict[str, Any]]:
    """A row for each length: the seconds of the sweep of `z`, and how many times as long it takes without a saving.

    The runs differ from the middle on. At 16 tokens every head and position is patched, beyond it one head at 16
    positions.
    """
    model = neolens.load(folder, device="cpu")
    weights = weights_of(model)
    for length in lengths:
        heads = range(weights.anatomy.heads) if length <= 16 else range(1)
        places = range(0, length, max(1, length // 16))
        sweeps = {name: Sweep(weights, length, places, heads, name) for name in WITHOUT}
        seconds = alternating({name: sweep.run for name, sweep in sweeps.items()}, rounds)
        plain = sweeps["nothing"]
        row: dict[str, Any] = {"tokens": length, "patches": plain.values.numel(), "seconds": min(seconds["nothing"])}
        for name in WITHOUT[1:]:
            row[f"without {name}: times the seconds"] = median_ratio(seconds, name, "nothing")
            row[f"without {name}: times the arithmetic"] = sweeps[name].arithmetic / plain.arithmetic
        apart = max(float((sweep.values - plain.values).abs().max()) for sweep in sweeps.values())
        row["largest difference, logits"] = apart
        row["range of the effects, logits"] = float(plain.values.max() - plain.values.min())
        yield row


def started(
    weights: Weights, clean: Tensor, corrupted: Tensor, site: str, plan: Reach, kind: type[Suffix] = Suffix
) -> tuple[Suffix, Record, Reader]:
    """Both runs recorded: what goes on from the corrupted one, what is put in, and what measures."""
    spans = weights.anatomy.attention
    target = record(weights, corrupted, {*NEEDED, *READ[site]}, spans)
    asked = torch.tensor([ANSWER]), torch.tensor([DISTRACTOR])
    reader = Reader(weights, [logit_difference], corrupted, final(target), *asked)
    return kind(weights, target, spans, plan), record(weights, clean, READ[site], spans), reader


class Sweep:
    """The sweep of z at some places and heads in every layer, without one of the savings."""

    def __init__(self, weights: Weights, length: int, places: range, heads: range, without: str) -> None:
        self.weights, self.without, self.length = weights, without, length
        pairs = random_pairs(weights.anatomy, length, length // 2)
        self.clean, self.corrupted = pairs.clean[0][None], pairs.corrupted[0][None]
        start = 0 if without == "equal prefix" else length // 2
        kept = [place for place in places if place >= start]
        self.skipped = (len(places) - len(kept)) * len(heads)
        first = torch.tensor(kept).repeat_interleave(len(heads))
        head = torch.tensor(list(heads)).repeat(len(kept))
        number = torch.arange(len(first))
        self.cells = Cells(torch.zeros_like(first), head, first, first + 1, number)

    def run(self) -> None:
        """Record both runs and patch; leaves `values` [layer, cell], those that were skipped included."""
        spans, layers = self.weights.anatomy.attention, self.weights.anatomy.layers
        with torch.no_grad():
            its = reach(spans, self.length, self.length - 1)
            if self.without == "reach":
                its = replace(its, seen_from=(0,) * layers, windows=(None,) * layers)
            kind = Widened if self.without == "positions" else Suffix
            suffix, source, reader = started(self.weights, self.clean, self.corrupted, "z", its, kind)
            values = reader.unpatched().repeat(layers * (self.skipped + len(self.cells)), 1)
            values = values.view(layers, -1, 1)
            if self.without == "one batch":
                self._each_alone(suffix, source, reader, values)
            else:
                out = values[:, self.skipped :].flatten(0, 1).contiguous()
                replay(suffix, source, "z", range(layers), self.cells, reader, out, budget=BUDGET)
                values[:, self.skipped :] = out.view(layers, -1, 1)
            if self.without == "layers":
                self._from_layer_0(suffix)
        self.values, self.arithmetic = values[..., 0], suffix.arithmetic

    def _each_alone(self, suffix: Suffix, source: Any, reader: Reader, values: Tensor) -> None:
        """Each layer's and position's patches by themselves."""
        for layer in range(len(suffix.spans)):
            for _, _, cells in self.cells.alike():
                out = values[layer, self.skipped + cells.number].contiguous()
                alone = replace(cells, number=torch.arange(len(cells)))
                replay(suffix, source, "z", [layer], alone, reader, out, budget=BUDGET)
                values[layer, self.skipped + cells.number] = out

    def _from_layer_0(self, suffix: Suffix) -> None:
        """What is skipped below the layers of the patches: rows that hold the record's own stream."""
        for layer in range(1, len(suffix.spans)):
            rows = []
            for first, _, cells in self.cells.alike():
                stream = suffix.target["resid_pre"][0][cells.prompt, first:]
                rows.append(Rows(first, self.length, cells.prompt, cells.number, stream))
            for below in range(layer):
                rows = suffix.through(below, rows, [], [])


def reaches(folder: str, lengths: list[int], rounds: int) -> Iterator[dict[str, Any]]:
    """A row for each length of a model with local layers: the plan's arithmetic and the seconds with the reach of the
    windows, without its backward part, without its forward part, and without both.

    `resid_pre` of every layer at four positions (an eighth, a half, seven eighths of the prompt and 64 before its end);
    the metric reads the last position, and in the last layer that alone is computed, with and without.
    """
    model = neolens.load(folder, device="cpu")
    weights = weights_of(model)
    depth = weights.anatomy.layers
    for length in lengths:
        pairs = random_pairs(weights.anatomy, length, 1)
        clean, corrupted = pairs.clean[0][None], pairs.corrupted[0][None]
        first = torch.tensor(sorted({length // 8, length // 2, 7 * length // 8, length - 64}))
        cells = Cells(torch.zeros_like(first), torch.zeros_like(first), first, first + 1, torch.arange(len(first)))
        full = reach(weights.anatomy.attention, length, length - 1)
        nothing = (0,) * len(full.windows)
        only_read = (*nothing[1:], length - 1)
        plans = {
            "with": full,
            "without backward": replace(full, seen_from=only_read),
            "without forward": replace(full, windows=(None,) * len(nothing)),
            "without both": replace(full, seen_from=only_read, windows=(None,) * len(nothing)),
        }
        found: dict[str, tuple[Tensor, int]] = {}

        def run(name: str, plan: Reach, clean=clean, corrupted=corrupted, cells=cells, found=found) -> None:
            with torch.no_grad():
                suffix, source, reader = started(weights, clean, corrupted, "resid_pre", plan)
                out = reader.unpatched().repeat(depth * len(cells), 1)
                replay(suffix, source, "resid_pre", range(depth), cells, reader, out, budget=BUDGET)
            found[name] = out, suffix.arithmetic

        seconds = alternating({name: partial(run, name, plan) for name, plan in plans.items()}, rounds)
        row: dict[str, Any] = {"tokens": length, "patches": depth * len(cells)}
        for name in plans:
            row[f"{name}: TFLOP"] = found[name][1] / 1e12
            row[f"{name}: seconds"] = sorted(seconds[name])[len(seconds[name]) // 2]
        values = [out for out, _ in found.values()]
        apart = max(float((value - values[0]).abs().max()) for value in values)
        row["largest difference / range"] = apart / float(values[0].max() - values[0].min())
        yield row
