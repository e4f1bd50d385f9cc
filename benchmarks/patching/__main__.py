"""`neolens.patch` measured on random weights of GPT-2 small's and GPT-Neo-125M's shape.

    python -m benchmarks.patching [beside] [savings] [reach] [prompts] [memory] [lengths] [layers]
        [--model FOLDER] [--length 16] [--differ 1] [--sites z,q] [--cells 48] [--rounds 3] [--json FILE]

Bars: the sweep of `z` where the runs differ from position 1 on at least 30 times TransformerLens, from position 8 on
at least 60 times, the other sites 15 times; largest difference 1e-4 of the effects' range; at least 0.6 of the
machine's matrix rate; 32 prompts in one call never slower than one call each; memory within the budget.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from benchmarks.common import random_folder
from benchmarks.patching import beside, growth, savings
from neolens.files import write_whole

PARTS = ("beside", "savings", "reach", "prompts", "memory", "lengths", "layers")


def main(
    parts: Annotated[
        list[str] | None, typer.Argument(help=f"what to measure: {', '.join(PARTS)}; by default all")
    ] = None,
    model: Annotated[str, typer.Option(help="a model folder; without one, GPT-2 small's shape is built")] = "",
    local: Annotated[str, typer.Option(help="a folder with local layers; without one, GPT-Neo-125M's shape")] = "",
    length: Annotated[int, typer.Option(help="tokens, beside the others")] = 16,
    differ: Annotated[int, typer.Option(help="the first position at which the runs differ")] = 1,
    sites: Annotated[str, typer.Option(help="separated by commas")] = ",".join(beside.SETTERS),
    cells: Annotated[int, typer.Option(help="cells that the others run, of each site; 0 for all")] = 48,
    rounds: Annotated[int, typer.Option(help="counted rounds")] = 3,
    many: Annotated[int, typer.Option(help="prompts of the parts prompts and memory")] = 32,
    device: Annotated[str, typer.Option(help="cpu or cuda, beside the others")] = "cpu",
    exact: Annotated[bool, typer.Option(help="beside the others, also the errors against float64")] = False,
    out: Annotated[str, typer.Option("--json", help="also write all figures to this file")] = "",
) -> None:
    """Measure, print, and write."""
    chosen = parts or list(PARTS)
    if unknown := sorted({*chosen} - {*PARTS}):
        raise typer.BadParameter(f"no part {unknown[0]!r}: parts are {', '.join(PARTS)}")
    torch.set_grad_enabled(False)
    with tempfile.TemporaryDirectory() as temporary:
        folder = model or str(random_folder("gpt2", Path(temporary) / "gpt2", spread=1.0))
        neo = local if local or "reach" not in chosen else str(random_folder("gpt-neo-125M", Path(temporary) / "neo"))
        measured: dict[str, Callable[[], Iterable[dict[str, Any]]]] = {
            "beside": lambda: beside.beside(folder, sites.split(","), length, differ, cells, rounds, device, exact),
            "savings": lambda: savings.savings(folder, [16, 64, 256], rounds),
            "reach": lambda: savings.reaches(neo, [512, 2048], rounds),
            "prompts": lambda: growth.prompts(folder, many, 16, 1),
            "memory": lambda: growth.memory(folder, many, 64, [2**28, 2**29, 2**30]),
            "lengths": lambda: growth.lengths(folder, [16, 32, 64, 128, 256, 512], 1),
            "layers": lambda: growth.layers([6, 12, 24], 1),
        }
        found: dict[str, Any] = {"threads": torch.get_num_threads(), "torch": torch.__version__, "device": device}
        for part in chosen:
            print(f"\n{part} ({torch.get_num_threads()} threads, torch {torch.__version__}, {device})", flush=True)
            found[part] = []
            for row in measured[part]():
                found[part].append(row)
                print("\n".join(f"  {name:<44} {_shown(value)}" for name, value in row.items()), flush=True)
                print(flush=True)
    if out:
        write_whole(out, lambda path: path.write_text(json.dumps(found, indent=2) + "\n"))


def _shown(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    typer.run(main)
