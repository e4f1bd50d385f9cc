"""`neolens.load` beside TransformerLens's own boot, on a model of GPT-Neo-125M's shape with random weights.

    python -m benchmarks.loading [--model FOLDER] [--rounds 5]

Prints the seconds of both, their ratio (bar: at most 1.3), and the bytes of weights that each holds (bar: equal).
"""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

import neolens
from benchmarks.common import alternating, median_ratio, random_folder, report


def held_bytes(model: Any) -> int:
    """Bytes of the distinct storages behind all parameters and buffers of a bridge."""
    modules = [model, model.original_model]
    tensors = [tensor for module in modules for tensor in (*module.parameters(), *module.buffers())]
    storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in tensors}
    return sum(storages.values())


def main(
    model: Annotated[str, typer.Option(help="a model folder; without one, GPT-Neo-125M's shape is built")] = "",
    rounds: Annotated[int, typer.Option(help="counted rounds")] = 5,
) -> None:
    """Time both ways of loading, in turn."""
    from transformer_lens.model_bridge import TransformerBridge

    torch.set_grad_enabled(False)
    with tempfile.TemporaryDirectory() as temporary:
        folder = model or str(random_folder("gpt-neo-125M", Path(temporary) / "model"))
        runs = {
            "neolens": lambda: neolens.load(folder, device="cpu"),
            "TransformerLens": lambda: TransformerBridge.boot_transformers(folder, device="cpu"),
        }
        seconds = alternating(runs, rounds)
        ours, theirs = (held_bytes(run()) for run in runs.values())
    rows = [(f"{name}, median seconds", f"{statistics.median(values):.2f}", "") for name, values in seconds.items()]
    rows.append(("ratio", f"{median_ratio(seconds, 'neolens', 'TransformerLens'):.2f}", "at most 1.3"))
    rows.append(("bytes of weights held, ours / TransformerLens's", f"{ours:,} / {theirs:,}", "equal"))
    report("load", rows)


if __name__ == "__main__":
    typer.run(main)
