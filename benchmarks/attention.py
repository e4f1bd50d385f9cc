"""`neolens.attention` beside Hugging Face and TransformerLens: GPT-Neo-125M's shape with random weights.

    python -m benchmarks.attention [beside] [memory] [lengths] [--model FOLDER] [--length 2047] [--rounds 5]
        [--json FILE]

`beside`: seconds of one repeated prompt of 2,047 tokens, all in turn: ours, with every score; Hugging Face's eager
forward, without the unembedding and without a score; TransformerLens without the unembedding, the same scores taken in
hooks on each layer's whole pattern. Bars: at least 3 times as fast as TransformerLens, at most 1.2 times Hugging Face's
forward, the same numbers to 1e-4. `memory`: the most that a fresh process of each grows over its loaded model; bar: at
most a tenth of TransformerLens's: in hooks as sparing as we could write them, in hooks as their definitions read with
the logits besides, and where all patterns are cached and then scored.
`lengths`: microseconds a token and layer, from 1,024 to 8,192 tokens, where every layer is local with a window of 256
and where every layer is global; bar: local flat, to 1.15.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
import xarray as xr
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

import neolens
from benchmarks.ablation import random_prompts, upstream
from benchmarks.common import alternating, median_ratio, peak_memory, random_folder, report
from neolens.files import write_whole
from neolens.prompts import repeated
from neolens.sites import hook_name

PARTS = ("beside", "memory", "lengths")
WINDOW = 256
LENGTHS = (1024, 2048, 4096, 8192)
SAME = 1e-4
NAMES = ("neolens", "Hugging Face", "TransformerLens")
WRITTEN = "TransformerLens, scores and logits as one writes them"
CACHED = "TransformerLens, all patterns cached"

Rows = list[tuple[str, float, str]]
"""What, figure, bar."""


def scores_of(pattern: Tensor, n: int, window: int | None) -> dict[str, Tensor]:
    """Every score of one layer from its whole patterns [prompt, head, query, key] of a repeated prompt.

    As fast and as sparing as torch does it: diagonals are read in place, in rows one element longer than they are (what
    such a row takes from the row before it lies in the future and is 0), and the entropy takes one copy.
    """
    length = pattern.shape[-1]
    query, back = torch.arange(length), torch.arange(length).double()
    below = pattern.flatten(-2)[..., 2:].unfold(-1, length - 1, length + 1).sum(-2).flip(-1)
    on = pattern.diagonal(dim1=-2, dim2=-1)
    mass = torch.cat([on.sum(-1, keepdim=True), below], -1).double()
    first = pattern[..., 0].double()
    logs = pattern.clamp_min(torch.finfo(pattern.dtype).tiny).log_()
    entropy = -logs.mul_(pattern).sum(-1).double()[..., 1:]
    highest = (query[1:] + 1).clamp(max=window or length).double().log()
    return {
        "previous_token": pattern.diagonal(-1, -2, -1).double().mean(-1),
        "current_token": on.double().mean(-1),
        "duplicate_token": pattern.diagonal(-n, -2, -1)[..., 1:].double().mean(-1),
        "induction": pattern.diagonal(1 - n, -2, -1)[..., 2:].double().mean(-1),
        "sink": first.mean(-1),
        "mean_distance": mass @ back / length,
        "mean_distance_without_key_0": (mass @ back - first @ back) / length,
        "entropy": entropy.mean(-1),
        "entropy_normalised": (entropy / highest).mean(-1),
        "mass_by_distance": mass / (length - back),
    }


def scores_as_written(pattern: Tensor, n: int, window: int | None) -> dict[str, Tensor]:
    """The same as their definitions read."""
    length = pattern.shape[-1]
    query = torch.arange(length)
    back = (query[:, None] - query).clamp(min=0)
    entropy = -(pattern * pattern.clamp_min(1e-30).log()).sum(-1)[..., 1:]
    mass = torch.stack([pattern.diagonal(-d, -2, -1).mean(-1) for d in range(length)], -1)
    return {
        "previous_token": mass[..., 1],
        "current_token": mass[..., 0],
        "duplicate_token": pattern[..., query[n + 1 :], query[1 : n + 1]].mean(-1),
        "induction": pattern[..., query[n + 1 :], query[2 : n + 2]].mean(-1),
        "sink": pattern[..., 0].mean(-1),
        "mean_distance": (pattern * back).sum((-2, -1)) / length,
        "mean_distance_without_key_0": (pattern * back)[..., 1:].sum((-2, -1)) / length,
        "entropy": entropy.mean(-1),
        "entropy_normalised": (entropy / (query[1:] + 1).clamp(max=window or length).log()).mean(-1),
        "mass_by_distance": mass,
    }


def scores_in_hooks(
    model: TransformerBridge, tokens: Tensor, windows: list[int | None], *, written: bool = False
) -> dict[str, Tensor]:
    """The same scores of every layer in plain TransformerLens; each pattern is dropped when its scores are taken."""
    found: list[dict[str, Tensor]] = []
    n, scores = tokens.shape[1] // 2, scores_as_written if written else scores_of
    hooks = [
        (hook_name("pattern", layer), lambda pattern, hook, w=window: found.append(scores(pattern, n, w)))
        for layer, window in enumerate(windows)
    ]
    sparing: dict[str, Any] = {} if written else {"return_type": None, "use_cache": False, "logits_to_keep": 1}
    model.run_with_hooks(tokens, fwd_hooks=hooks, **sparing)
    return {name: torch.stack([layer[name] for layer in found], 1) for name in found[0]}


def scores_of_cache(model: TransformerBridge, tokens: Tensor, windows: list[int | None]) -> dict[str, Tensor]:
    """The same from a cache of all patterns."""
    _, cache = model.run_with_cache(tokens, names_filter=lambda name: name.endswith("attn.hook_pattern"))
    found = [scores_of(cache["pattern", layer], tokens.shape[1] // 2, w) for layer, w in enumerate(windows)]
    return {name: torch.stack([layer[name] for layer in found], 1) for name in found[0]}


def runs_on(folder: str, who: str) -> Callable[[Tensor], Any]:
    """What one of them does with tokens, its model loaded."""
    from transformers import AutoModel

    if who == "neolens":
        ours = neolens.load(folder, device="cpu")
        return lambda tokens: neolens.attention(ours, tokens)
    if who.startswith("TransformerLens"):
        theirs = upstream(folder)
        scores = scores_of_cache if who == CACHED else partial(scores_in_hooks, written=who == WRITTEN)
        windows = [span.window for span in neolens.anatomy(folder).attention]
        return lambda tokens: scores(theirs, tokens, windows)
    model = AutoModel.from_pretrained(folder, attn_implementation="eager").eval()
    return lambda tokens: model(tokens, use_cache=False)


def prompt(folder: str, length: int) -> Tensor:
    """One prompt [first, r_1..r_n, r_1..r_n] of random tokens."""
    if length % 2 == 0:
        raise typer.BadParameter(f"a repeated prompt has an odd number of tokens, got {length}")
    return repeated(range(1, neolens.anatomy(folder).d_vocab), length // 2, bos=0)


def largest_difference(ours: xr.Dataset, theirs: dict[str, Tensor]) -> float:
    """Of any score, as a share of its value where that is above 1."""
    assert set(ours.data_vars) == set(theirs)
    return max(
        float((np.abs(ours[name].values - its.numpy()) / np.maximum(1.0, np.abs(its.numpy()))).max())
        for name, its in theirs.items()
    )


def beside(folder: str, length: int, rounds: int) -> Rows:
    """Seconds of the three, their ratios, and the largest difference of a score."""
    tokens = prompt(folder, length)
    runs = {name: runs_on(folder, name) for name in NAMES}
    difference = largest_difference(runs["neolens"](tokens), runs["TransformerLens"](tokens))
    assert difference <= SAME, f"the scores differ by {difference:.1e}"
    seconds = alternating({name: partial(run, tokens) for name, run in runs.items()}, rounds)
    return [
        *((f"{name}, median seconds", statistics.median(seconds[name]), "") for name in NAMES),
        ("times as fast as TransformerLens", median_ratio(seconds, "TransformerLens", "neolens"), "at least 3"),
        ("seconds over Hugging Face's", median_ratio(seconds, "neolens", "Hugging Face"), "at most 1.2"),
        ("largest difference of a score", difference, f"at most {SAME:g}"),
    ]


def memory(folder: str, length: int) -> Rows:
    """Peak GB of each above its model, in a process of its own, where no earlier run has left pages."""
    command = [sys.executable, "-m", "benchmarks.attention", "--model", folder, "--length", str(length), "--weigh"]
    peaks = {
        name: float(subprocess.run([*command, name], check=True, capture_output=True, text=True).stdout)
        for name in (*NAMES, WRITTEN, CACHED)
    }
    return [
        *((f"{name}, peak GB above the model", peak, "") for name, peak in peaks.items()),
        *((f"share of {name}", peaks["neolens"] / peaks[name], "at most 0.1") for name in peaks if "Lens" in name),
    ]


def weigh(folder: str, length: int, who: str) -> float:
    """Peak GB of one run above the loaded model, after a run of eight tokens."""
    run, tokens = runs_on(folder, who), prompt(folder, length)
    run(tokens[:, :7])
    return peak_memory(lambda: run(tokens))


def lengths(folder: Path, rounds: int) -> Rows:
    """Microseconds a token and layer at every length, all layers local and all layers global."""
    layers, kinds = 4, {"local": WINDOW, "global": "global"}
    sizes: dict[str, Any] = dict(
        num_layers=layers, attention_types=[[["global", "local"], layers // 2]], vocab_size=1024
    )
    random_folder("gpt-neo-125M", folder, max_position_embeddings=max(LENGTHS), **sizes)
    model = neolens.load(folder, device="cpu")

    def run(kind: str, tokens: Tensor) -> None:
        with neolens.what_if(model, windows=kinds[kind]):
            neolens.attention(model, tokens)

    prompts = {length: random_prompts(model.anatomy, 1, length) for length in LENGTHS}
    seconds = alternating({f"{kind} {n}": partial(run, kind, prompts[n]) for kind in kinds for n in LENGTHS}, rounds)
    found: Rows = []
    for kind in kinds:
        costs = {n: 1e6 * statistics.median(seconds[f"{kind} {n}"]) / (n * layers) for n in LENGTHS}
        found += [(f"{kind}, {n:,} tokens, microseconds a token and layer", cost, "") for n, cost in costs.items()]
        largest = max(costs.values()) / min(costs.values())
        found.append((f"{kind}, largest over smallest", largest, "at most 1.15" if kind == "local" else ""))
    return found


def main(
    parts: Annotated[list[str] | None, typer.Argument(help=f"what to measure: {', '.join(PARTS)}")] = None,
    model: Annotated[str, typer.Option(help="a model folder; without one, GPT-Neo-125M's shape is built")] = "",
    length: Annotated[int, typer.Option(help="tokens of the repeated prompt, an odd number")] = 2047,
    rounds: Annotated[int, typer.Option(help="counted rounds")] = 5,
    out: Annotated[str, typer.Option("--json", help="also write all figures to this file")] = "",
    weighed: Annotated[str, typer.Option("--weigh", help="print one's peak memory alone, for `memory`")] = "",
) -> None:
    """Measure, print, and write."""
    torch.set_grad_enabled(False)
    if weighed:
        print(weigh(model, length, weighed))
        return
    chosen = parts or list(PARTS)
    if unknown := sorted({*chosen} - {*PARTS}):
        raise typer.BadParameter(f"no part {unknown[0]!r}: parts are {', '.join(PARTS)}")
    found: dict[str, Rows] = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = model or str(random_folder("gpt-neo-125M", Path(temporary) / "model"))
        for part in chosen:
            if part == "lengths":
                found[part] = lengths(Path(temporary) / "long", rounds)
            else:
                found[part] = beside(folder, length, rounds) if part == "beside" else memory(folder, length)
            report(part, [(what, f"{figure:.3g}", bar) for what, figure, bar in found[part]])
    if out:
        whole = {part: {what: figure for what, figure, _ in rows} for part, rows in found.items()}
        versions = {"threads": torch.get_num_threads(), "torch": torch.__version__}
        write_whole(out, lambda path: path.write_text(json.dumps({**versions, **whole}, indent=2) + "\n"))


if __name__ == "__main__":
    typer.run(main)
