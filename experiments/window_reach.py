"""Does an answer from beyond the window arrive, and which layers bring it, in one hop or in several?

A question is planted whose answer stands a chosen distance back, on both sides of what a local layer reaches: a word
of a sequence that repeats (induction, Olsson et al. 2022), the receiver of a gift (Wang et al. 2022), the value of a
key. Corrupted, another word stands in the answer's place and nothing else differs, so whatever patching moves, and
whatever is carried, comes from that one word, the source; the corruptions of the published tasks change more, or
something nearer. Three things are asked of the same prompts. Where does the answer stand: the residual stream is
patched before each layer at the source, at all positions between, and at the query, clean into corrupted. Which layers
are needed: each is held to the window under the same weights, each local one is widened, and all at once. Which heads
are needed: kinds of layers and single layers are ablated, beside as many random heads.

The window is the narrowest of the models, and a layer of a model that is global throughout is held to the same one.
With every layer held to it, whatever still arrives from beyond came in several hops. Lab models are asked with all
their seeds, each by itself, because networks alike in everything but the seed carry by different layers; intervals and
p know of other prompts only. The lab models take about two minutes of one core. Expect lab/gpt-neo to carry by its
global layer 2, nearly always in one hop, and the others by whichever layer the seed made it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import typer
import xarray as xr
from tqdm.auto import tqdm

from experiments import command_line
from neolens import PromptPairs, circuits, figures, report, results
from neolens.circuits import crossing_words as words
from neolens.cli import run_cleanly
from neolens.models import Anatomy, load
from neolens.prompts.tokenizing import vocabulary_fingerprint

RECALL = (
    "Means over seeds and over the distances of each side. Made by the source: the logit difference less that with "
    "another word in the answer's place. It is more than the logit difference where the latter is negative."
)
CHANGES = (
    "The share of what the source makes that is taken away when the same weights see otherwise: a layer held to the "
    "window (local) or widened to everything (global). 0: not needed; 1: nothing is left; below 0: the network does "
    "better so. Intervals: bootstrap over prompts, 1,000 samples; p: sign flips of prompts, corrected for all changes "
    "of one network and task (max-T), at least 1 in 1,001."
)
ABLATED = (
    "What mean ablation of all heads of a kind, of as many random heads of all layers, and of single layers adds to "
    "the logit difference, in logits, inside and beyond the window; mean over seeds. A layer may be needed for "
    "something else than for reach: then ablating it costs as much inside."
)

Found = Mapping[str, circuits.Carriers]


@dataclass(frozen=True)
class Config:
    models: tuple[str, ...] = ("lab/gpt-neo", "lab/gpt-neo-global", "lab/gpt2", "lab/pythia")
    """Catalogue names, hub ids or folders, each with a tokenizer; a lab model stands for all its seeds."""
    out: str = "results/window_reach"
    """The folder for result.nc, record.json and report.html."""
    prompts: int = 16
    """Prompts a task and distance."""
    seed: int = 0
    """Seed of the prompts."""
    tasks: tuple[str, ...] = tuple(circuits.TASKS)
    """What is planted."""
    distances: tuple[int, ...] | None = None
    """Tokens back; by default w-2, w-1, w, w+1, w+2, 2w and 4w, as far as contexts and tasks have room for them."""


@dataclass(frozen=True)
class Plan:
    """What is asked, settled before anything is measured; by the model's name."""

    anatomies: tuple[Anatomy, ...]
    window: int
    networks: Mapping[str, tuple[str, ...]]
    """The seeds of each model."""
    pairs: Mapping[str, Mapping[str, Mapping[int, PromptPairs]]]
    """Model -> task -> distance -> prompts."""


def plan(config: Config) -> Plan:
    """Check all input, and plant every question in the tokens of every model."""
    refuse(config)
    anatomies = command_line.distinct(config.models)
    window = command_line.one_window(anatomies)
    asked = chosen_distances(config, window, min(facts.context for facts in anatomies))
    command_line.fetched(config.models)
    networks = command_line.networks(anatomies, config.models)
    alike: dict[tuple[str, int], list[str]] = {}
    for facts in anatomies:
        alike.setdefault(language(networks[facts.name][0], facts), []).append(facts.name)
    pairs: dict[str, Mapping[str, Mapping[int, PromptPairs]]] = {}
    for names in alike.values():
        model = load(networks[names[0]][0])
        planted = {task: plant(model, task, asked, window, config) for task in config.tasks}
        pairs |= dict.fromkeys(names, planted)
    return Plan(anatomies, window, networks, {facts.name: pairs[facts.name] for facts in anatomies})


def refuse(config: Config) -> None:
    """Refuse numbers and tasks that cannot be asked of any model."""
    command_line.refuse_few(config.prompts, config.seed)
    for task in config.tasks:
        if task not in circuits.TASKS:
            raise ValueError(f"no task {task!r}: expected some of {','.join(circuits.TASKS)}")


def chosen_distances(config: Config, window: int, context: int) -> tuple[int, ...]:
    """Distances on both sides of the window, within the shortest context."""
    asked = circuits.distances(window, context) if config.distances is None else config.distances
    if not asked or min(asked) >= window or not window <= max(asked) < context:
        raise ValueError(
            f"distances {', '.join(map(str, asked))}: expected some on both sides of the window of {window}, below the "
            f"context of {context}"
        )
    return asked


def language(network: str, facts: Anatomy) -> tuple[str, int]:
    """What models that are asked the same prompts have in common: their tokens and how many they take."""
    tokenizer = load(network).tokenizer
    if tokenizer is None:
        raise ValueError(f"{facts.name} has no tokenizer: save one into its folder to ask it in words")
    return vocabulary_fingerprint(tokenizer), facts.context


def plant(model: Any, task: str, asked: tuple[int, ...], window: int, config: Config) -> dict[int, PromptPairs]:
    """One task at every distance that it has room for; those that were named must have it."""
    pairs: dict[int, PromptPairs] = {}
    refused: ValueError | None = None
    for distance in asked:
        try:
            pairs[distance] = circuits.planted(model, task, distance, config.prompts, config.seed)
        except ValueError as error:
            refused = error
    there = bool(pairs) and min(pairs) < window <= max(pairs)
    if refused is not None and not (there and config.distances is None):
        raise ValueError(f"{model.anatomy.name}: {refused}") from refused
    return pairs


def run(asked: Plan) -> dict[str, dict[str, xr.Dataset]]:
    """Each model in turn: load all its seeds, ask every task at every distance, let it go."""
    command_line.choose_threads(asked.anatomies)
    measured: dict[str, dict[str, xr.Dataset]] = {}
    with tqdm(total=sum(len(tasks) for tasks in asked.pairs.values()), desc="window reach", unit="task") as bar:
        for name, networks in asked.networks.items():
            models, measured[name] = [load(network) for network in networks], {}
            for task, pairs in asked.pairs[name].items():
                found = circuits.at_distances(models, pairs, asked.window)
                measured[name][task] = found.assign_coords(seed=[command_line.seed_of(network) for network in networks])
                bar.update()
    return measured


def section(task: str, found: Found) -> list[report.Block]:
    """One task: where the answer stands, which layers are needed, and what ablation costs."""
    held = {name: one.results[task] for name, one in found.items()}
    carriers = list(found.values())
    return [
        report.Heading(task.replace("_", " ").capitalize()),
        *(report.Paragraph(words.findings(one)[one.tasks.index(task)]) for one in carriers),
        report.Figure(figures.places_by_distance(held)),
        report.Figure(figures.narrowing_by_distance(held)),
        report.Table(*words.change_table(carriers, task), caption=CHANGES),
        report.Table(*words.ablation_table(carriers, task), caption=ABLATED),
    ]


def page(config: Config, asked: Plan, found: Found) -> str:
    """The report: what all models say together first, then how well they answer, each task, and what else differs."""
    carriers = list(found.values())
    recall = figures.recall_by_distance({name: one.results for name, one in found.items()})
    return report.page(
        "Beyond the window",
        [
            *(report.Paragraph(part.replace("\n", " ")) for part in str(__doc__).split("\n\n")[1:]),
            *(report.Note(text, "finding") for text in words.compared(carriers)),
            *(report.Note(text, "warning") for one in carriers for text in words.warnings(one)),
            report.Heading("How well they answer"),
            report.Figure(recall),
            report.Table(*words.recall_table(carriers), caption=RECALL),
            *(block for task in config.tasks for block in section(task, found)),
            *report.appendix(asked.anatomies, command_line.command("window_reach", config)),
        ],
    )


def record(
    config: Config, asked: Plan, found: Found, joined: Mapping[str, xr.Dataset], seconds: float
) -> dict[str, Any]:
    """What was asked of which weights with which versions, how long it took, and what was found."""
    carriers = list(found.values())
    return command_line.record(
        config,
        joined,
        seconds,
        asked={"window": asked.window, "networks": dict(asked.networks)},
        warnings=[text for one in carriers for text in words.warnings(one)],
        findings=[*words.compared(carriers), *(text for one in carriers for text in words.findings(one))],
    )


def main(
    names: command_line.Names = None,
    models: command_line.Models = None,
    out: command_line.Out = Config.out,
    prompts: Annotated[int, typer.Option(help="prompts a task and distance, 8 or more")] = Config.prompts,
    seed: Annotated[int, typer.Option(help="seed of the prompts")] = Config.seed,
    tasks: Annotated[str | None, typer.Option(help="some of induction,indirect_object,recall")] = None,
    distances: Annotated[str | None, typer.Option(help="tokens back, such as 15,16,64")] = None,
) -> None:
    """Does an answer from beyond the window arrive, and which layers bring it, in one hop or in several?"""
    began = time.perf_counter()
    chosen = command_line.named(models, names, Config.models)
    config = Config(
        chosen,
        out,
        prompts,
        seed,
        command_line.listed(tasks, "tasks") or Config.tasks,
        command_line.distances(distances),
    )
    asked = plan(config)
    folder = results.writable_folder(out)
    measured = run(asked)
    found = {name: circuits.carriers(name, by_task) for name, by_task in measured.items()}
    joined = {name: circuits.of_all_tasks(by_task) for name, by_task in measured.items()}
    written = page(config, asked, found)
    noted = record(config, asked, found, joined, time.perf_counter() - began)
    command_line.tell(noted, report.publish(folder, results.stack(joined), noted, written))


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    run_cleanly(app)
