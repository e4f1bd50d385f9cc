"""Which layers carry an answer from beyond the window?

The lab's GPT-Neo arm answers questions whose answer stands farther back than its local layers see. Under the same
weights some layers are restricted to the window and others widened to everything, and the same questions are asked
again, in accuracy. Takes two to three minutes of one core. Finds, in means over 16 to 64 tokens, that every answer
needs the global layer 2, that the indirect object needs the global layer 0 besides, and that widening a local layer
adds nothing. Means over distances hide that induction needs layer 0 as well at 64 tokens: `experiments.window_reach`
measures each distance by itself, in logits.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
import typer
import xarray as xr

from experiments import settings
from neolens import files, load, network, results
from neolens.checks import check_text, shown
from neolens.cli import run_cleanly
from neolens.lab.planted import NEAREST, TASKS, planted
from neolens.models import Anatomy, AttentionSpan, anatomy, lab_seeds
from neolens.models.describe import as_text


@dataclass(frozen=True)
class Config:
    """What is asked."""

    model: str = "lab/gpt-neo"
    """An arm of the lab with local layers; all its seeds are asked."""
    distances: tuple[int, ...] = (4, 8, 12, 15, 16, 20, 24, 28, 31, 32, 48, 64)
    """How many tokens back the answer stands."""
    prompts: int = 64
    """Prompts a task and distance."""
    seed: int = 2
    """Of the prompts."""
    out: str = "results/lab_layers"
    """Folder for the result."""

    def __post_init__(self) -> None:
        settings.check(self)
        settings.update(self, distances=settings.numbers(self.distances, "distances", min(NEAREST.values())))
        layers = anatomy(check_text(self.model, "model", example="lab/gpt-neo")).attention
        if not self.model.lower().startswith("lab/") or not any(span.window for span in layers):
            raise ValueError(f"model {shown(self.model)}: expected an arm of the lab with local layers, lab/gpt-neo")


def architectures(anatomy: Anatomy) -> Iterator[tuple[str, tuple[AttentionSpan, ...]]]:
    """The model as trained, each layer changed to the other kind, and all layers of one kind."""
    trained = anatomy.attention
    window = next(span.window for span in trained if span.window)
    local, everything = AttentionSpan("local", window), AttentionSpan("global")
    yield "as trained", trained
    for layer, span in enumerate(trained):
        other = everything if span.kind == "local" else local
        yield f"layer {layer} {other.kind}", (*trained[:layer], other, *trained[layer + 1 :])
    yield "all local", (local,) * anatomy.layers
    yield "all global", (everything,) * anatomy.layers


def run(config: Config) -> xr.Dataset:
    """Accuracy of each task by `seed`, `group` (the architecture) and `distance`; NaN where it cannot be so near."""
    seeds = [load(name) for name in lab_seeds(config.model)]
    groups = dict(architectures(seeds[0].anatomy))
    shape = (len(seeds), len(groups), len(config.distances))
    found = {task: (("seed", "group", "distance"), np.full(shape, np.nan)) for task in TASKS}
    for at, model in enumerate(seeds):
        weights = network.weights_of(model)
        for task, distance in ((task, d) for task in TASKS for d in config.distances if d >= NEAREST[task]):
            asked = planted(task, distance, prompts=config.prompts, seed=config.seed)
            tokens, rows = torch.from_numpy(asked.tokens), np.arange(config.prompts)
            for group, spans in enumerate(groups.values()):
                with torch.no_grad():
                    final = network.residual(weights, tokens, spans=spans)
                    said = network.logits(weights, final[rows, asked.positions["query"]][:, None])[:, 0].argmax(-1)
                right = (said.numpy() == asked.answer).mean()
                found[task][1][at, group, config.distances.index(distance)] = right
    coords = {"seed": range(len(seeds)), "group": list(groups), "distance": list(config.distances)}
    window = next(span.window for span in groups["as trained"] if span.window)
    noted = {"model": config.model, "window": window, "prompts": config.prompts, "prompt_seed": config.seed}
    return results.check(xr.Dataset(found, coords=coords, attrs=noted))


def table(result: xr.Dataset) -> tuple[list[str], list[list[str]]]:
    """Mean accuracy over seeds inside and beyond the window, a row an architecture."""
    window = result.attrs["window"]
    sides = {"inside": result.distance < window, "beyond": result.distance >= window}
    head = ["architecture", *(f"{task.replace('_', ' ')} {side}" for task in TASKS for side in sides)]
    rows = []
    for group in result.group.values:
        one = result.sel(group=group)
        means = [float(one[task].where(side).mean()) for task in TASKS for side in sides.values()]
        rows.append([str(group), *(f"{mean:.2f}" for mean in means)])
    return head, rows


def main(
    model: Annotated[str, typer.Option(help="an arm of the lab with local layers")] = Config.model,
    prompts: Annotated[int, typer.Option(help="prompts a task and distance")] = Config.prompts,
    out: Annotated[str, typer.Option(help="folder for the result")] = Config.out,
) -> None:
    """Which layers carry an answer from beyond the window?"""
    config = Config(model=model, prompts=prompts, out=out)
    folder = files.claim_folder(out)
    result = run(config)
    results.save(result, folder / "result.nc")
    typer.echo(as_text(*table(result)))
    inside = [str(distance) for distance in config.distances if distance < result.attrs["window"]]
    beyond = [str(distance) for distance in config.distances if distance >= result.attrs["window"]]
    typer.echo(
        f"\nMean accuracy over {result.sizes['seed']} seeds and over the distances {', '.join(inside)} (inside) and "
        f"{', '.join(beyond)} (beyond). Written: {folder / 'result.nc'}"
    )


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    run_cleanly(app)
