"""`neolens.patch` beside TransformerLens's activation patching: GPT-2 small's shape, every layer, head and position.

    python -m benchmarks.patching [--model FOLDER] [--length 16] [--differ 1] [--sites z,q,resid_pre] [--cells 48]

TransformerLens runs the whole model once a cell; a sample of cells, drawn once, is timed and scaled up to all of them.
Prints for each site the seconds of both, their ratio (bars: at least 30 for `z` where the runs differ from position 1,
60 where they differ from position 8, 15 for the other sites), the largest difference on the sample as a share of the
effects' range (bar: 1e-4), and the share of the machine's matrix rate, which is measured in the same run on a product
of [2048, 768] and [768, 3072] in fp32 and counts the arithmetic that the plan needs (bar: 0.6).
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import torch
import typer
from transformer_lens import patching as upstream
from transformer_lens.model_bridge import TransformerBridge

import neolens
from benchmarks.common import random_folder, report
from neolens import PromptPairs
from neolens.models import Anatomy
from neolens.replay import HEAD_SITES

UPSTREAM = {
    "resid_pre": (upstream.layer_pos_patch_setter, "resid_pre"),
    "resid_post": (upstream.layer_pos_patch_setter, "resid_post"),
    "attn_out": (upstream.layer_pos_patch_setter, "attn_out"),
    "mlp_out": (upstream.layer_pos_patch_setter, "mlp_out"),
    "z": (upstream.layer_pos_head_vector_patch_setter, "z"),
    "q": (upstream.layer_pos_head_vector_patch_setter, "q"),
    "k": (upstream.layer_pos_head_vector_patch_setter, "k"),
    "v": (upstream.layer_pos_head_vector_patch_setter, "v"),
    "pattern": (upstream.layer_head_pos_pattern_patch_setter, "pattern"),
}
"""Site -> TransformerLens's setter and the name of its activation."""


def random_pairs(facts: Anatomy, length: int, differ: int, prompts: int = 1, seed: int = 0) -> PromptPairs:
    """Random prompts that agree before position `differ`."""
    draw = torch.Generator().manual_seed(seed)
    clean, other = torch.randint(1, facts.d_vocab, (2, prompts, length), generator=draw)
    corrupted = clean.clone()
    corrupted[:, differ:] = torch.where(other == clean, (other + 1) % facts.d_vocab, other)[:, differ:]
    return PromptPairs.from_tokens(clean, corrupted, torch.full((prompts,), 11), torch.full((prompts,), 12))


def sample(facts: Anatomy, site: str, length: int, cells: int, seed: int = 0) -> pd.DataFrame:
    """Cells for TransformerLens, drawn evenly from the sweep, as its setter indexes them."""
    draw = np.random.default_rng(seed)
    drawn = {"layer": draw.integers(0, facts.layers, cells), "pos": draw.integers(0, length, cells)}
    if site not in HEAD_SITES:
        return pd.DataFrame(drawn)
    drawn["head"] = draw.integers(0, facts.heads, cells)
    order = ["layer", "head", "pos"] if site == "pattern" else ["layer", "pos", "head"]
    return pd.DataFrame(drawn)[order]


def matrix_rate(rounds: int = 30) -> float:
    """Floating-point operations a second in a product of [2048, 768] and [768, 3072]."""
    a, b = torch.randn(2048, 768), torch.randn(768, 3072)
    seconds = []
    for _ in range(rounds):
        began = time.perf_counter()
        torch.mm(a, b)
        seconds.append(time.perf_counter() - began)
    return 2 * 2048 * 768 * 3072 / statistics.median(seconds)


def main(
    model: Annotated[str, typer.Option(help="a model folder; without one, GPT-2 small's shape is built")] = "",
    length: Annotated[int, typer.Option(help="tokens")] = 16,
    differ: Annotated[int, typer.Option(help="the first position at which the runs differ")] = 1,
    sites: Annotated[str, typer.Option(help="separated by commas")] = "z,q,k,v,pattern,resid_pre,resid_post",
    cells: Annotated[int, typer.Option(help="cells that TransformerLens runs, of each site")] = 48,
    rounds: Annotated[int, typer.Option(help="counted rounds")] = 3,
) -> None:
    """Time each site's sweep in turn with TransformerLens."""
    torch.set_grad_enabled(False)
    with tempfile.TemporaryDirectory() as temporary:
        folder = model or str(random_folder("gpt2", Path(temporary) / "model", spread=1.0))
        ours = neolens.load(folder, device="cpu")
        theirs = TransformerBridge.boot_transformers(folder, device="cpu")
    pairs = random_pairs(ours.anatomy, length, differ)
    clean, corrupted = pairs.clean[0][None], pairs.corrupted[0][None]

    def metric(logits: torch.Tensor) -> torch.Tensor:
        return logits[0, -1, 11] - logits[0, -1, 12]

    for site in sites.split(","):
        setter, name = UPSTREAM[site]
        index = sample(ours.anatomy, site, length, cells)
        _, cache = theirs.run_with_cache(clean, names_filter=lambda hook, name=name: hook.endswith(f"hook_{name}"))
        seconds: dict[str, list[float]] = {"ours": [], "theirs": [], "rate": []}
        for _ in range(rounds):
            began = time.perf_counter()
            result = neolens.patch(ours, pairs, site, progress=False)
            seconds["ours"].append(time.perf_counter() - began)
            seconds["rate"].append(matrix_rate())
            began = time.perf_counter()
            values = upstream.generic_activation_patch(theirs, corrupted, cache, metric, setter, name, index_df=index)
            seconds["theirs"].append(time.perf_counter() - began)
        _report(site, result, index, values, seconds, cells)


def _report(site: str, result, index: pd.DataFrame, values: torch.Tensor, seconds: dict, cells: int) -> None:
    """The rows of one site."""
    whole = result.patched.isel(prompt=0)
    scale = whole.size / cells
    found = [float(whole.sel({axis: int(at) for axis, at in row.items()})) for _, row in index.iterrows()]
    spread = float(whole.max() - whole.min())
    ratios = [scale * theirs / ours for ours, theirs in zip(seconds["ours"], seconds["theirs"], strict=True)]
    shares = [
        result.attrs["arithmetic"] / ours / rate for ours, rate in zip(seconds["ours"], seconds["rate"], strict=True)
    ]
    rows = [
        ("neolens, median seconds", f"{statistics.median(seconds['ours']):.2f}", ""),
        (
            f"TransformerLens, {cells} cells scaled to {whole.size}",
            f"{scale * statistics.median(seconds['theirs']):.1f}",
            "",
        ),
        ("times faster, median", f"{statistics.median(ratios):.1f}", "15; z: 30, from position 8 on 60"),
        (
            "largest difference / range",
            f"{np.abs(np.array(found) - values.numpy()).max() / spread:.1e}",
            "at most 1e-4",
        ),
        ("share of the matrix rate", f"{statistics.median(shares):.2f}", "at least 0.6"),
        ("matrix rate, GFLOP/s", f"{statistics.median(seconds['rate']) / 1e9:.0f}", ""),
    ]
    report(f"patching {site}, {result.sizes['pos']} tokens", rows)


if __name__ == "__main__":
    typer.run(main)
