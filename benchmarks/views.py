"""Attention views beside circuitsvis: bytes and seconds of 12 heads whose patterns no compression finds an order in.

    python -m benchmarks.views [--rounds 5]

Softmax of random scores, 12 heads: bytes of HTML and seconds to build from the pattern, ours and circuitsvis's at 300
tokens, ours at 1,024. Bars: at 300 tokens at most 1 MB and 1 second, at 1,024 at most 8 MB. With a model, of
GPT-Neo-125M's shape with random weights: one layer of each kind, from the tokens on.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated

import torch
import typer
from jaxtyping import Float
from torch import Tensor

import neolens
from benchmarks.ablation import random_prompts
from benchmarks.common import alternating, median_ratio, random_folder, report
from neolens import views

HEADS, SHORTER, LONGER = 12, 300, 1024
SPREAD = 2.5

Rows = list[tuple[str, str, str]]
"""What, figure, bar."""


def random_pattern(length: int) -> Float[Tensor, "head query_pos key_pos"]:
    """Causal softmax of random scores: the least regular pattern there is."""
    scores = SPREAD * torch.randn(HEADS, length, length, generator=torch.Generator().manual_seed(0))
    return scores.masked_fill(torch.ones(length, length, dtype=torch.bool).triu(1), -torch.inf).softmax(-1)


def ours(pattern: Float[Tensor, "head query_pos key_pos"]) -> str:
    """The HTML of our view."""
    return str(views.attention_view(words(pattern), pattern, labels()))


def circuitsvis(pattern: Float[Tensor, "head query_pos key_pos"]) -> str:
    """The HTML of circuitsvis's own, which loads its script from a network; that script is not counted."""
    from circuitsvis.attention import attention_heads

    return str(attention_heads(pattern, words(pattern), labels()))


def words(pattern: Float[Tensor, "head query_pos key_pos"]) -> list[str]:
    return [f" word{position}" for position in range(pattern.shape[-1])]


def labels() -> list[str]:
    return [f"0.{head} global" for head in range(HEADS)]


def from_patterns(rounds: int) -> Rows:
    """Ours beside circuitsvis at the shorter length, ours alone at the longer one."""
    shorter, longer = random_pattern(SHORTER), random_pattern(LONGER)
    runs: dict[str, Callable[[], str]] = {
        f"neolens, {SHORTER} tokens": partial(ours, shorter),
        f"circuitsvis, {SHORTER} tokens": partial(circuitsvis, shorter),
        f"neolens, {LONGER:,} tokens": partial(ours, longer),
    }
    first, theirs, last = runs
    sizes = {name: len(run().encode()) / 1e6 for name, run in runs.items()}
    seconds = alternating(runs, rounds)
    size_bars, second_bars = {first: "at most 1", last: "at most 8"}, {first: "at most 1"}
    return [
        *((f"{name}, MB of HTML", f"{size:.2f}", size_bars.get(name, "")) for name, size in sizes.items()),
        *((f"{n}, median seconds", f"{statistics.median(s):.3f}", second_bars.get(n, "")) for n, s in seconds.items()),
        ("bytes, circuitsvis's over ours", f"{sizes[theirs] / sizes[first]:.1f}", ""),
        ("seconds, circuitsvis's over ours", f"{median_ratio(seconds, theirs, first):.1f}", ""),
    ]


def with_a_model(folder: Path, rounds: int) -> Rows:
    """The view of one global and one local layer, from tokens on."""
    model = neolens.load(random_folder("gpt-neo-125M", folder), device="cpu")
    prompts = {length: random_prompts(model.anatomy, 1, length)[0] for length in (SHORTER, LONGER)}
    rows: Rows = []
    for layer in (0, 1):
        runs = {length: partial(views.attention, model, prompt, layers=[layer]) for length, prompt in prompts.items()}
        seconds = alternating({f"{length:,}": run for length, run in runs.items()}, rounds)
        for length, run in runs.items():
            name = f"{HEADS} heads of layer {layer} ({model.anatomy.attention[layer]}), {length:,} tokens"
            rows.append((f"{name}, MB of HTML", f"{len(str(run()).encode()) / 1e6:.2f}", ""))
            rows.append((f"{name}, median seconds", f"{statistics.median(seconds[f'{length:,}']):.3f}", ""))
    return rows


def main(rounds: Annotated[int, typer.Option(help="counted rounds")] = 5) -> None:
    """Measure and print."""
    torch.set_grad_enabled(False)
    report("views of patterns", from_patterns(rounds))
    with tempfile.TemporaryDirectory() as temporary:
        report("views with a model", with_a_model(Path(temporary) / "model", rounds))


if __name__ == "__main__":
    typer.run(main)
