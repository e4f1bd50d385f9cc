"""Does an answer from far back arrive, and which layers bring it, in one hop or in several?

A question is planted whose answer stands a chosen distance back, on both sides of what a local layer reaches: a word
of a sequence that repeats (induction, Olsson et al. 2022), the receiver of a gift (Wang et al. 2022), the value of a
key. Corrupted, another word stands in the answer's place and nothing else differs, so whatever patching moves, and
whatever is carried, comes from that one word, the source; the corruptions of the published tasks change more, or
something nearer. Three things are asked of the same prompts. Where does the answer stand: the residual stream is
patched before each layer at the source, at all positions between, and at the query, clean into corrupted. Which layers
are needed: each is restricted to what a local layer sees, under the same weights, each local one is widened, and all at
once. Which heads are needed: kinds of layers and single layers are ablated, beside as many random heads.

Layers are restricted to the narrowest window of the models; where no layer has one, to an eighth of the shortest
context (less where a vocabulary has few tokens). With every layer so restricted, whatever still arrives from farther
back came in several hops. Different layers may be needed at different distances, so each is judged by itself. Lab
models are asked with all their seeds, each by itself, because networks alike in everything but the seed carry by
different layers; intervals and p know of other prompts only. The lab models take about two minutes of one core. Expect
lab/gpt-neo to need its global layer 2 at every distance and its global layer 0 besides at 64 tokens, and the others
whichever layer the seed made it.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import typer
import xarray as xr
from tqdm.auto import tqdm

from experiments import command_line, inputs, settings
from experiments.inputs import Inputs
from neolens import PromptPairs, circuits, figures, files, report
from neolens.circuits import crossing_tables
from neolens.circuits import crossing_words as words
from neolens.cli import run_cleanly
from neolens.models import Anatomy
from neolens.near_far import NearFar, of_anatomies
from neolens.prompts.tokenizing import vocabulary_fingerprint

RECALL = (
    "Means over seeds and over the distances {inside} and {beyond}. Made by the source: the logit difference less that "
    "with another word in the answer's place. It is more than the logit difference where the latter is negative."
)
CHANGES = (
    "The share of what the source makes that is taken away when the same weights see otherwise: a layer restricted to "
    "{name} (local) or widened to everything (global). 0: not needed; 1: nothing is left; below 0: the network does "
    "better so. Intervals: bootstrap over prompts, 1,000 samples; star: p below 0.05, by sign flips of prompts, "
    "corrected for all changes and distances of one network and task (max-T)."
)
ABLATED = (
    "What mean ablation of all heads of a kind, of as many random heads of all layers, and of single layers adds to "
    "the logit difference, in logits, {inside} and {beyond}; mean over seeds and distances. A layer may be needed for "
    "something else than for reach: then ablating it costs as much at the nearer distances."
)

Found = Mapping[str, circuits.Carriers]


@dataclass(frozen=True)
class Config:
    models: tuple[str, ...] = ("lab/gpt-neo", "lab/gpt-neo-global", "lab/gpt2", "lab/pythia")
    """Catalogue names, hub ids or folders; a lab model stands for all its seeds. One that does not have the words of a
    task is not asked for it; induction it is asked for in random tokens."""
    ignore_fields: tuple[str, ...] | None = None
    """Unknown fields of config.json that change nothing."""
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

    def __post_init__(self) -> None:
        settings.check(self, prompts=settings.ENOUGH)
        settings.update(self, tasks=settings.words(self.tasks, "task", circuits.TASKS))
        if self.distances is not None:
            settings.update(self, distances=settings.numbers(self.distances, "distances", 1))


@dataclass(frozen=True)
class Plan:
    """What is asked, settled before anything is measured; by the model's name."""

    anatomies: tuple[Anatomy, ...]
    window: int
    networks: Mapping[str, tuple[str, ...]]
    """The seeds of each model."""
    pairs: Mapping[str, Mapping[str, Mapping[int, PromptPairs]]]
    """Model -> task -> distance -> prompts, of the tasks that it can be asked for."""
    inputs: tuple[Inputs, ...]


def plan(config: Config) -> Plan:
    """Check all input, and plant every question in the tokens of every model."""
    anatomies = command_line.anatomies(config)
    command_line.one_window(anatomies)
    window = inputs.window(config, anatomies)
    asked = chosen_distances(config, of_anatomies(window, anatomies), min(facts.context for facts in anatomies))
    command_line.fetched(config)
    networks = command_line.networks(anatomies, config.models)
    alike: dict[Any, tuple[dict[str, dict[int, PromptPairs]], dict[str, str]]] = {}
    pairs, readings = {}, []
    for facts in anatomies:
        model = command_line.load(config, networks[facts.name][0])
        key = language(model)
        if key not in alike:
            alike[key] = plant_all(model, asked, window, config)
        pairs[facts.name], left_out = alike[key]
        readings.append(inputs.summary(model, left_out=left_out, notes=wordless(model, pairs[facts.name])))
    return Plan(anatomies, window, networks, pairs, tuple(readings))


def chosen_distances(config: Config, split: NearFar, context: int) -> tuple[int, ...]:
    """Distances on both sides of what a restricted layer sees, within the shortest context."""
    asked = circuits.distances(split.tokens, context) if config.distances is None else config.distances
    if not asked or min(asked) >= split.tokens or not split.tokens <= max(asked) < context:
        raise ValueError(
            f"distances {', '.join(map(str, asked))}: expected some on both sides of {split.name}, below the context "
            f"of {context}"
        )
    return asked


def language(model: Any) -> tuple[str, int, int]:
    """What models that are asked the same prompts have in common: their tokens and how many they take."""
    tokenizer, facts = model.tokenizer, model.anatomy
    vocabulary = facts.name if tokenizer is None else vocabulary_fingerprint(tokenizer)
    return vocabulary, facts.d_vocab, facts.context


def plant_all(
    model: Any, asked: tuple[int, ...], window: int, config: Config
) -> tuple[dict[str, dict[int, PromptPairs]], dict[str, str]]:
    """Every task that the model can be asked for, and why it cannot be asked for the others."""
    pairs: dict[str, dict[int, PromptPairs]] = {}
    left_out: dict[str, str] = {}
    for task in config.tasks:
        _, reason = stated(model, task)
        try:
            if reason is None:
                pairs[task] = plant(model, task, asked, window, config)
        except ValueError as error:
            if config.distances is not None:
                raise
            reason = str(error.__cause__)
        if reason is not None:
            left_out[task.replace("_", " ")] = reason
    return pairs, left_out


def stated(model: Any, task: str) -> tuple[circuits.Tasks, str | None]:
    """How a model is asked for a task, in words or else in random tokens, and why it cannot be asked in either."""
    reason = inputs.unreadable(model, circuits.TASKS[task][0])
    if reason is None or task not in circuits.WORDLESS_TASKS:
        return circuits.TASKS, reason
    return circuits.WORDLESS_TASKS, inputs.undrawable(model, circuits.WORDLESS_TASKS[task][0])


def wordless(model: Any, tasks: Collection[str]) -> list[str]:
    """Which of its tasks a model is asked for in random tokens, and why."""
    return [
        f"{model.anatomy.name} was asked for {task} in random tokens, not in words: "
        f"{inputs.unreadable(model, circuits.TASKS[task][0])}."
        for task in tasks
        if stated(model, task)[0] is circuits.WORDLESS_TASKS
    ]


def plant(model: Any, task: str, asked: tuple[int, ...], window: int, config: Config) -> dict[int, PromptPairs]:
    """One task at every distance that it has room for; those that were named must have it."""
    pairs: dict[int, PromptPairs] = {}
    refused: ValueError | None = None
    how: Any = {"tasks": stated(model, task)[0], "prepend_bos": inputs.has_bos(model)}
    for distance in asked:
        try:
            pairs[distance] = circuits.planted(model, task, distance, config.prompts, config.seed, **how)
        except ValueError as error:
            refused = error
    there = bool(pairs) and min(pairs) < window <= max(pairs)
    if refused is not None and not (there and config.distances is None):
        raise ValueError(f"{model.anatomy.name}: {refused}") from refused
    return pairs


def run(config: Config, asked: Plan) -> dict[str, dict[str, xr.Dataset]]:
    """Each model in turn: load all its seeds, ask every task at every distance, let it go."""
    command_line.choose_threads(asked.anatomies)
    measured: dict[str, dict[str, xr.Dataset]] = {}
    with tqdm(total=sum(len(tasks) for tasks in asked.pairs.values()), desc="window reach", unit="task") as bar:
        for name, networks in asked.networks.items():
            if not asked.pairs[name]:
                continue
            models, measured[name] = [command_line.load(config, network) for network in networks], {}
            for task, pairs in asked.pairs[name].items():
                found = circuits.at_distances(models, pairs, asked.window)
                measured[name][task] = found.assign_coords(seed=[command_line.seed_of(network) for network in networks])
                bar.update()
    return measured


def section(task: str, found: Found, split: NearFar) -> list[report.Block]:
    """One task: where the answer stands, which layers are needed, and what ablation costs."""
    carriers = [one for one in found.values() if task in one.tasks]
    if not carriers:
        return []
    held = {one.name: one.results[task] for one in carriers}
    return [
        report.Heading(task.replace("_", " ").capitalize()),
        *(report.Paragraph(words.findings(one)[one.tasks.index(task)]) for one in carriers),
        report.Figure(figures.places_by_distance(held)),
        report.Figure(figures.narrowing_by_distance(held)),
        report.Table(*crossing_tables.change_table(carriers, task), caption=in_terms_of(CHANGES, split)),
        report.Table(*crossing_tables.ablation_table(carriers, task), caption=in_terms_of(ABLATED, split)),
    ]


def in_terms_of(caption: str, split: NearFar) -> str:
    """A caption with the names of the distance that separates near from far."""
    return caption.format(name=split.name, inside=split.inside, beyond=split.beyond)


def page(config: Config, asked: Plan, found: Found) -> str:
    """The report: what all models say together first, then how well they answer, each task, and what else differs."""
    carriers, split = list(found.values()), of_anatomies(asked.window, asked.anatomies)
    answered: list[report.Block] = []
    if found:
        recall = figures.recall_by_distance({name: one.results for name, one in found.items()})
        answered = [report.Heading("How well they answer"), report.Figure(recall)]
        answered.append(report.Table(*crossing_tables.recall_table(carriers), caption=in_terms_of(RECALL, split)))
    return report.page(
        f"Beyond {split.short}",
        [
            *(report.Paragraph(part.replace("\n", " ")) for part in str(__doc__).split("\n\n")[1:]),
            *([report.Paragraph(split.note)] if split.note else []),
            *(report.Note(text, "finding") for text in words.compared(carriers)),
            *(report.Note(text, "warning") for text in all_warnings(asked, found)),
            *answered,
            *(block for task in config.tasks for block in section(task, found, split)),
            *report.appendix(asked.anatomies, command_line.command("window_reach", config)),
        ],
    )


def all_warnings(asked: Plan, found: Found) -> list[str]:
    """What models were not asked for and why, and what keeps numbers from meaning what they seem to mean."""
    return [*inputs.sentences(asked.inputs), *(text for one in found.values() for text in words.warnings(one))]


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
        inputs=inputs.record(asked.inputs),
        warnings=all_warnings(asked, found),
        findings=[*words.compared(carriers), *(text for one in carriers for text in words.findings(one))],
    )


def main(
    names: command_line.Names = None,
    models: command_line.Models = None,
    ignore_fields: command_line.IgnoreFields = None,
    out: command_line.Out = Config.out,
    prompts: Annotated[int, typer.Option(help="prompts a task and distance, 8 or more")] = Config.prompts,
    seed: Annotated[int, typer.Option(help="seed of the prompts")] = Config.seed,
    tasks: Annotated[str | None, typer.Option(help="some of induction,indirect_object,recall")] = None,
    distances: Annotated[str | None, typer.Option(help="tokens back, such as 15,16,64")] = None,
) -> None:
    """Does an answer from far back arrive, and which layers bring it, in one hop or in several?"""
    began = time.perf_counter()
    chosen = command_line.named(models, names, Config.models)
    config = Config(
        chosen,
        settings.listed(ignore_fields, "fields"),
        out,
        prompts,
        seed,
        settings.listed(tasks, "tasks") or Config.tasks,
        settings.listed_numbers(distances, "distance", 1),
    )
    asked = plan(config)
    folder = files.claim_folder(out)
    measured = run(config, asked)
    found = {
        name: circuits.carriers(name, by_task, of_anatomies(asked.window, asked.anatomies, name))
        for name, by_task in measured.items()
    }
    joined = {name: circuits.of_all_tasks(by_task) for name, by_task in measured.items()}
    written = page(config, asked, found)
    noted = record(config, asked, found, joined, time.perf_counter() - began)
    command_line.tell(noted, command_line.publish(folder, joined, noted, written))


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    run_cleanly(app)
