"""`neolens.attention` with all its scores beside Hugging Face's own forward pass, 2,048 tokens, GPT-Neo-125M's shape.

    python -m benchmarks.attention [--model FOLDER --text FILE] [--rounds 3]

Prints seconds and ratio (bar: at most 1.2 times Hugging Face's eager forward without the unembedding), and the peak
memory of each above the loaded model (bar: ours at most 0.5 GB). A text needs a model folder with a tokenizer;
without one, tokens are random, which takes the same time.
"""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path
from typing import Annotated

import torch
import typer

import neolens
from benchmarks.common import alternating, median_ratio, peak_memory, random_folder, report
from neolens.prompts import chunks, read_text


def main(
    model: Annotated[str, typer.Option(help="a model folder; without one, GPT-Neo-125M's shape is built")] = "",
    text: Annotated[str, typer.Option(help="a text file; needs --model with a tokenizer")] = "",
    length: Annotated[int, typer.Option(help="tokens")] = 2048,
    rounds: Annotated[int, typer.Option(help="counted rounds")] = 3,
) -> None:
    """Time and weigh both, in turn."""
    from transformers import AutoModel

    torch.set_grad_enabled(False)
    with tempfile.TemporaryDirectory() as temporary:
        folder = model or str(random_folder("gpt-neo-125M", Path(temporary) / "model"))
        ours = neolens.load(folder, device="cpu")
        theirs = AutoModel.from_pretrained(folder, attn_implementation="eager").eval()
    if text:
        tokens = chunks(ours.tokenizer, read_text(text), length, prompts=1)
    else:
        tokens = torch.randint(ours.anatomy.d_vocab, (1, length), generator=torch.Generator().manual_seed(0))
    runs = {
        "neolens": lambda: neolens.attention(ours, tokens),
        "Hugging Face": lambda: theirs(tokens, use_cache=False),
    }
    seconds = alternating(runs, rounds)
    memory = {name: peak_memory(run) for name, run in runs.items()}
    rows = [(f"{name}, median seconds", f"{statistics.median(values):.2f}", "") for name, values in seconds.items()]
    rows.append(("ratio", f"{median_ratio(seconds, 'neolens', 'Hugging Face'):.2f}", "at most 1.2"))
    rows += [(f"{name}, peak GB above the model", f"{peak:.2f}", "") for name, peak in memory.items()]
    rows.append(("ours", f"{memory['neolens']:.2f}", "at most 0.5"))
    report(f"attention with all scores, {tokens.shape[1]} tokens", rows)


if __name__ == "__main__":
    typer.run(main)
