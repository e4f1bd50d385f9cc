"""A sweep: all patches of a group of prompts of one length, cut into chunks that fit a budget of memory."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor

from neolens.replay.joins import Cells, joins
from neolens.replay.record import Record
from neolens.replay.rows import Rows, merged
from neolens.replay.suffix import Suffix

_PER_ITEM = 20
"""Vectors of d_model that an item takes at the peak: stream, normed, q, k, v, z, what the MLP holds, and copies."""

ITEMS = {"cpu": 2**12, "cuda": 2**16}
"""Items that are held at a time: of a chunk in its last layer, if a chunk of one cell has not more. On a CPU their
vectors then stay in the caches, and memory is used again instead of being asked for anew, which costs as much as the
arithmetic."""

Progress = Callable[[float], object]


def chunks(suffix: Suffix, cells: Cells, layers: int, budget: int) -> Iterator[slice]:
    """Stretches of the cells whose rows, in all layers, fit `budget` bytes; at least one cell each."""
    width, size = suffix.weights.anatomy.d_model, suffix.weights.embedding.element_size()
    items = (suffix.reach.length - cells.first).to(torch.float64) * layers
    most = min(ITEMS.get(items.device.type, ITEMS["cuda"]), budget // (width * size * _PER_ITEM) + 1)
    filled = (items.cumsum(0) / most).floor().long()
    cuts = (filled.diff() > 0).nonzero()[:, 0].add(1).tolist()
    for begin, end in pairwise([0, *cuts, len(cells)]):
        yield slice(begin, end)


def replay(
    suffix: Suffix,
    source: Record,
    site: str,
    layers: Collection[int],
    cells: Cells,
    measure: Callable[[Rows], Float[Tensor, "row metric"]],
    out: Float[Tensor, "cell metric"],
    *,
    budget: int,
    progress: Progress = lambda cells: None,
) -> None:
    """Patch every cell in every layer and write what `measure` says of it into `out`, at number + layer * cells.

    `out` comes with the unpatched run's numbers, which stay where a patch can have no effect. `cells.number` are
    those of the first layer of `layers`, which count on from layer to layer.
    """
    order, per_layer = sorted(layers), len(cells)
    if not per_layer:
        return
    depth = len(suffix.spans)
    for some in chunks(suffix, cells, len(order), budget):
        chunk = cells[torch.arange(some.start, some.stop, device=cells.prompt.device)]
        rows: list[Rows] = []
        for layer in range(order[0], depth):
            before, between, after = [], [], []
            if layer in order:
                shifted = Cells(
                    chunk.prompt, chunk.head, chunk.first, chunk.last, chunk.number + order.index(layer) * per_layer
                )
                here = joins(suffix, source, site, layer, shifted)
                before, between, after = here.before, here.between, here.after
            rows = suffix.through(layer, merged([*rows, *before]), between, after)
            progress(len(chunk) * len(order) / (depth - order[0]))
        for group in rows:
            if group.last > suffix.reach.read_from:
                out[group.cell] = measure(group).to(out.dtype)
