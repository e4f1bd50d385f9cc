"""`neolens.ablate` beside TransformerLens's hooks one by one: every head of GPT-Neo-125M's shape, random weights.

    python -m benchmarks.ablation [heads] [memory] [--model FOLDER] [--prompts 8] [--length 512] [--positions 32]
        [--cells 12] [--rounds 3] [--how mean] [--json FILE]

Bars: all 144 heads, 8 prompts of 512 tokens, the loss at 32 named positions of each, at least 3 times as fast as
TransformerLens; the loss at all of 2,048 positions within 0.5 GB above the model. TransformerLens runs a sample of the
heads, drawn once over all layers, and its time is scaled to all; both take turns. What the arithmetic alone would give:
multiplications of whole runs with all logits over those that the ablations need. More than that comes of faster
products, fused attention and fewer passes over memory.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

import neolens
from benchmarks.common import peak_memory, random_folder, report
from neolens.files import write_whole
from neolens.models import Anatomy

PARTS = ("heads", "memory")


def random_prompts(facts: Anatomy, prompts: int, length: int) -> Tensor:
    """Random tokens."""
    return torch.randint(facts.d_vocab, (prompts, length), generator=torch.Generator().manual_seed(0))


def named_positions(prompts: int, length: int, count: int) -> dict[str, list[int]]:
    """`count` names of positions, drawn for each prompt, the last token left out."""
    rng = np.random.default_rng(0)
    drawn = [np.sort(rng.choice(length - 1, count, replace=False)).tolist() for _ in range(prompts)]
    return {f"p{number}": [row[number] for row in drawn] for number in range(count)}


def arithmetic(facts: Anatomy, length: int, positions: int) -> tuple[float, float]:
    """Multiplications and additions of one prompt's ablated runs of every head: whole runs, and what has to be done.

    Ablated in layer l, a run needs the MLP of l and all of the layers above, but in the last layer keys and values
    alone at every position and the rest where the loss is read.
    """
    d, depth = facts.d_model, facts.layers
    square, mlp = 2 * d * d, 4 * d * facts.d_mlp

    def scores(queries: int, layer: int) -> float:
        window = facts.attention[layer].window or length
        keys = min(window, length) * (1 - min(window, length) / (2 * length)) if queries == length else length / 2
        return 4 * d * queries * keys

    def layer_cost(layer: int, queries: int) -> float:
        return length * 2 * square + queries * (2 * square + mlp) + scores(queries, layer)

    unembedding = 2 * d * facts.d_vocab
    whole = sum(layer_cost(layer, length) for layer in range(depth)) + length * unembedding
    needed = 0.0
    for layer in range(depth):
        last = layer == depth - 1
        needed += (positions if last else length) * (square + mlp) + positions * unembedding
        needed += sum(
            layer_cost(above, positions if above == depth - 1 else length) for above in range(layer + 1, depth)
        )
    return whole * depth * facts.heads, needed * facts.heads


def upstream(folder: str) -> TransformerBridge:
    """The same weights in plain TransformerLens."""
    from transformer_lens.model_bridge.sources import build_bridge_from_module
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager").eval()
    name = type(model).__name__
    return build_bridge_from_module(
        model, name, hf_config=model.config, tokenizer=None, dtype=model.dtype, device="cpu"
    )


def heads(folder: str, prompts: int, length: int, positions: int, cells: int, rounds: int, how: str) -> dict[str, Any]:
    """Seconds, ratio, ceiling, the largest difference and the memory of both."""
    ours = neolens.load(folder, device="cpu")
    theirs, facts = upstream(folder), ours.anatomy
    tokens, places = random_prompts(facts, prompts, length), named_positions(prompts, length, positions)
    everything = neolens.each_head(facts)
    chosen = np.random.default_rng(0).permutation(len(everything))[:cells]
    sample = [list(everything.values())[number][0] for number in sorted(chosen)]
    where = torch.tensor([places[name] for name in places]).T
    means = _means(theirs, tokens) if how == "mean" else None

    def one(layer: int, head: int) -> Tensor:
        def change(z: Tensor, hook: Any) -> Tensor:
            z[:, :, head] = 0.0 if means is None else means[layer][:, head]
            return z

        logits = theirs.run_with_hooks(tokens, fwd_hooks=[(f"blocks.{layer}.attn.hook_z", change)])
        read = torch.take_along_dim(logits, where[..., None], 1)
        answers = torch.take_along_dim(tokens, where + 1, 1)
        return torch.logsumexp(read, -1) - torch.take_along_dim(read, answers[..., None], 2)[..., 0]

    def all_of_ours() -> Any:
        return neolens.ablate(ours, tokens, everything, how=how, positions=places, progress=False)

    seconds: dict[str, list[float]] = {"neolens": [], "TransformerLens": []}
    one(*sample[0])
    for _ in range(rounds):
        result = _timed(seconds["neolens"], all_of_ours)
        found = _timed(seconds["TransformerLens"], lambda: [one(*head) for head in sample])
    scale = len(everything) / len(sample)
    differences = [
        float((torch.from_numpy(result["ablated"].sel(group=f"{layer}.{head}").values) - its).abs().max())
        for (layer, head), its in zip(sample, found, strict=True)
    ]
    ratios = [b * scale / a for a, b in zip(seconds["neolens"], seconds["TransformerLens"], strict=True)]
    whole, needed = arithmetic(facts, length, positions)
    return {
        "ablated runs": len(everything) * prompts,
        "neolens, seconds": statistics.median(seconds["neolens"]),
        f"TransformerLens, seconds, scaled from {len(sample)} of {len(everything)} heads": scale
        * statistics.median(seconds["TransformerLens"]),
        "times as fast, median of the rounds": statistics.median(ratios),
        "times as fast, each round": [round(ratio, 2) for ratio in ratios],
        "what the arithmetic alone would give": whole / needed,
        "largest difference of a loss, nats": max(differences),
        "neolens, peak GB above the model": peak_memory(all_of_ours),
        "TransformerLens, one head, peak GB above the model": peak_memory(lambda: one(*sample[0])),
    }


def memory(folder: str, length: int) -> dict[str, Any]:
    """Peak memory of the loss at every position, of one long prompt and of several: a head in each layer, so that every
    layer is recorded, and in every fourth."""
    ours = neolens.load(folder, device="cpu")
    found = {}
    for prompts, how, step in ((1, "zero", 1), (8, "mean", 4)):
        tokens = random_prompts(ours.anatomy, prompts, length)
        groups = {f"{layer}.0": [(layer, 0)] for layer in range(0, ours.anatomy.layers, step)}

        name = f"{prompts} prompt{'s' if prompts > 1 else ''} of {length} tokens, {how}, {len(groups)} heads"
        run = partial(neolens.ablate, ours, tokens, groups, how=how, progress=False)
        found[f"{name}: peak GB above the model"] = peak_memory(run)
    return found


def _timed(seconds: list[float], run: Callable[[], Any]) -> Any:
    began = time.perf_counter()
    found = run()
    seconds.append(time.perf_counter() - began)
    return found


def _means(model: TransformerBridge, tokens: Tensor) -> list[Tensor]:
    """Of each layer's z over the prompts."""
    taken: list[Tensor] = []
    hooks = [
        (f"blocks.{layer}.attn.hook_z", lambda z, hook: taken.append(z.mean(0))) for layer in range(model.cfg.n_layers)
    ]
    model.run_with_hooks(tokens, fwd_hooks=hooks)
    return taken


def main(
    parts: Annotated[list[str] | None, typer.Argument(help=f"what to measure: {', '.join(PARTS)}")] = None,
    model: Annotated[str, typer.Option(help="a model folder; without one, GPT-Neo-125M's shape is built")] = "",
    prompts: Annotated[int, typer.Option(help="prompts")] = 8,
    length: Annotated[int, typer.Option(help="tokens a prompt")] = 512,
    positions: Annotated[int, typer.Option(help="named positions of each prompt")] = 32,
    cells: Annotated[int, typer.Option(help="heads that TransformerLens runs")] = 12,
    rounds: Annotated[int, typer.Option(help="counted rounds")] = 3,
    how: Annotated[str, typer.Option(help="zero or mean")] = "mean",
    long: Annotated[int, typer.Option(help="tokens of the long prompts whose memory is measured")] = 2048,
    out: Annotated[str, typer.Option("--json", help="also write all figures to this file")] = "",
) -> None:
    """Measure, print, and write."""
    chosen = parts or list(PARTS)
    if unknown := sorted({*chosen} - {*PARTS}):
        raise typer.BadParameter(f"no part {unknown[0]!r}: parts are {', '.join(PARTS)}")
    torch.set_grad_enabled(False)
    found: dict[str, Any] = {"threads": torch.get_num_threads(), "torch": torch.__version__}
    with tempfile.TemporaryDirectory() as temporary:
        folder = model or str(random_folder("gpt-neo-125M", Path(temporary) / "model", spread=1.0))
        if "heads" in chosen:
            found["heads"] = heads(folder, prompts, length, positions, cells, rounds, how)
        if "memory" in chosen:
            found["memory"] = memory(folder, long)
    for part in chosen:
        rows = [(name, f"{v:.3g}" if isinstance(v, float) else str(v), "") for name, v in found[part].items()]
        report(part, rows)
    if out:
        write_whole(out, lambda path: path.write_text(json.dumps(found, indent=2) + "\n"))


if __name__ == "__main__":
    typer.run(main)
