"""Which heads are induction heads, by pattern and by cause; what becomes of them as the answer moves away, out of reach
of local layers; and in training, what forms first?

An induction head looks at what followed an earlier copy of its token (Elhage et al. 2021; Olsson et al. 2022, arXiv
2209.11895). On [BOS, r, r], r of n random tokens, the answer to every prediction stands n - 1 tokens back: a layer of
window w sees it up to n = w and from n = w + 1 not at all. At repeat lengths on both sides, every head is scored, those
that look there are ablated, each alone beside heads of its layer that do not and all at once beside as many heads that
do not (heads back each other up: one alone often costs little), and how much of the second copy is predicted is
measured.

A lab model is asked with all its seeds, which are the sample: intervals are Student's, p is corrected for all that is
tested (Benjamini and Hochberg 1995). Of a single network the sample are its prompts (bootstrap; max-T, Westfall and
Young 1993). Where no model has local layers, w is an eighth of the shortest context or a third of the tokens to draw
from, whichever is smaller.

Where checkpoints of the training are at hand, each is asked at the shortest n, at n = w and at n = w + 1:
at which step does the best previous-token head score 0.4, the best induction head 0.4, do the heads that look like it
cost half a nat a token more than as many random heads, is half of the second copy predicted? One network of a model
has checkpoints, so the order is that of a network; it is no finer than the checkpoints and belongs to these thresholds.

The lab models take about a minute of one core. Expect induction heads in global layers of every network, few in local
layers and those with a score of exactly 0 from n = w + 1 on; single heads that cost a part of what all of them cost
together; and the pattern, its cause and copying within a checkpoint or two of each other, in lab/pythia first.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

import typer
import xarray as xr
from tqdm.auto import tqdm

from experiments import command_line, inputs, settings
from experiments.inputs import Inputs
from neolens import figures, files, report, results
from neolens.circuits import copying, formation_words, induction_tables, induction_words
from neolens.circuits.formation import Formation, formations
from neolens.circuits.induction import Induction, Sure, formation_lengths, nearest
from neolens.circuits.induction_comparisons import Comparison, comparisons
from neolens.cli import run_cleanly
from neolens.models import Anatomy, fetch
from neolens.models.checkpoints import Checkpoint, checkpoints
from neolens.near_far import of_anatomies
from neolens.prompts import random_repeats

LENGTHS = (
    "Means over seeds with Student's 95 % intervals, cut at the ends of a share; of a single network over prompts "
    "(bootstrap). Heads: those that hold the pattern, with an induction score of at least 0.4 over all prompts, of all "
    "networks. Ablated by their mean over prompts, on the loss of predicting r_2..r_n of the second copy. Random "
    "heads: 19 groups of as many heads of the network that do not hold it, whatever else they do; where a "
    "previous-token head is among them they cost much, so the difference is on the low side. p is of the difference; "
    "none where the loss ends at chance level, where more than measured can be lost."
)
HEADS = (
    "Heads that hold the pattern at n = w or the next n, inside and beyond. Alone: what mean ablation of "
    "the head adds to the loss where copies are predicted (nats a token), next to up to three heads of its "
    "layer that do not hold the pattern; no control where every head of the layer holds it. p: sign "
    "flips of prompts, corrected for all heads of the network at this n "
    "(max-T)."
)
FORMED = (
    "The first checkpoint at which the best score is at least 0.4, half of the second copy is predicted, or ablating "
    "costs half a nat a token more than as many random heads at a corrected p below 0.05 (max-T over all models, "
    "steps and lengths). The cause of the heads that hold the pattern at a step cannot pass before the pattern. In "
    "brackets: 95 % intervals over prompts."
)
CURRICULUM = (
    "The steps of lab models belong to their curriculum: for the first 13 % of the steps (455 of 3,500) documents have "
    "16 tokens, so that no answer stands more than 14 tokens back."
)


@dataclass(frozen=True)
class Config:
    models: tuple[str, ...] = ("lab/gpt-neo", "lab/gpt-neo-global", "lab/gpt2", "lab/pythia")
    """Catalogue names, hub ids or folders; a lab model stands for all its seeds."""
    ignore_fields: tuple[str, ...] | None = None
    """Unknown fields of config.json that change nothing."""
    out: str = "results/induction"
    """The folder for result.nc, record.json and report.html."""
    prompts: int = 16
    """Prompts a repeat length."""
    seed: int = 0
    """Seed of the prompts."""
    lengths: tuple[int, ...] | None = None
    """Repeat lengths n; by default w/2, w-1, w, w+1, 3w/2, 2w and 3w, as far as contexts have room for [BOS, r, r]."""
    revisions: tuple[str, ...] | None = None
    """Training checkpoints such as step1000; by default all of lab models and of folders that hold some, and none of
    public models."""

    def __post_init__(self) -> None:
        settings.check(self, prompts=settings.ENOUGH)
        if self.lengths is not None:
            settings.update(self, lengths=settings.numbers(self.lengths, "lengths", 1))
        if self.revisions is not None:
            settings.update(self, revisions=settings.words(self.revisions, "revision"))


@dataclass(frozen=True)
class Plan:
    """What is asked, settled before anything is measured; by the model's name."""

    anatomies: tuple[Anatomy, ...]
    window: int
    networks: Mapping[str, tuple[str, ...]]
    """The seeds of each model."""
    checkpoints: Mapping[str, Mapping[int, Checkpoint]]
    """Training step -> what to load; none for most models."""
    repeats: Mapping[str, copying.Repeats]
    inputs: tuple[Inputs, ...]


def plan(config: Config) -> Plan:
    """Check all input, find the checkpoints, and make the prompts of every model in its own tokens."""
    anatomies = command_line.anatomies(config)
    command_line.one_window(anatomies)
    window = inputs.window(config, anatomies)
    asked = chosen_lengths(config, window, anatomies)
    kept = {facts.name: chosen_checkpoints(name, config) for facts, name in zip(anatomies, config.models)}
    if config.revisions is not None and not any(kept.values()):
        raise ValueError(
            f"revisions {', '.join(config.revisions)}: no model here has training checkpoints; lab/gpt2, lab/gpt-neo "
            "and lab/pythia have, and Pythia on the hub"
        )
    command_line.fetched(config)
    for name, revision in (one for its in kept.values() for one in its.values()):
        fetch(name, revision=revision, ignore_fields=config.ignore_fields or ())
    networks = command_line.networks(anatomies, config.models)
    repeats, readings = {}, []
    for name, several in networks.items():
        model = command_line.load(config, several[0])
        draw: Any = {"prompts": config.prompts, "seed": config.seed, "prepend_bos": inputs.has_bos(model)}
        repeats[name] = {n: random_repeats(model, n, **draw) for n in asked}
        readings.append(inputs.summary(model, repeats=asked))
    return Plan(anatomies, window, networks, kept, repeats, tuple(readings))


def chosen_lengths(config: Config, window: int, anatomies: Sequence[Anatomy]) -> tuple[int, ...]:
    """Repeat lengths on both sides of the window, with room for two copies in every context."""
    context = min(facts.context for facts in anatomies)
    asked = copying.lengths(window, context) if config.lengths is None else config.lengths
    nearest(asked, window)
    if min(asked) < copying.LEAST or max(asked) > (context - 1) // 2:
        raise ValueError(
            f"lengths {', '.join(map(str, asked))}: expected {copying.LEAST} to {(context - 1) // 2}, for BOS and two "
            f"copies have to fit into the context of {context}"
        )
    return asked


def chosen_checkpoints(name: str, config: Config) -> dict[int, Checkpoint]:
    """The training checkpoints of a model by step, two or more where there are any."""
    found = checkpoints(name, config.revisions)
    if len(found) == 1 and config.revisions is None:
        return {}
    if len(found) == 1:
        raise ValueError(f"revision step{next(iter(found))} alone: give two or more, to see what forms first")
    return found


def run(config: Config, asked: Plan) -> list[Induction]:
    """Each network in turn, and each checkpoint: load, measure, let it go."""
    command_line.choose_threads(asked.anatomies)
    found = []
    total = sum(map(len, asked.networks.values())) + sum(map(len, asked.checkpoints.values()))
    with tqdm(total=total, desc="induction", unit="network") as bar:

        def loaded(name: str, revision: str | None = None) -> Any:
            bar.update()
            return command_line.load(config, name, revision)

        for facts in asked.anatomies:
            networks, repeats = asked.networks[facts.name], asked.repeats[facts.name]
            measured = [copying.copying(loaded(network), repeats) for network in networks]
            result = copying.over_seeds(measured, [command_line.seed_of(network) for network in networks])
            kept = {step: partial(loaded, *one) for step, one in asked.checkpoints[facts.name].items()}
            some = {n: repeats[n] for n in formation_lengths(list(repeats), asked.window)}
            training = copying.over_training(kept, some) if kept else None
            split = of_anatomies(asked.window, asked.anatomies, facts.name)
            found.append(Induction(facts, asked.window, result, training, split))
    return found


def cause_section(found: Sequence[Induction], measured: Mapping[str, xr.Dataset]) -> list[report.Block]:
    """Pattern beside cause, where any head has the pattern."""
    if not any(bool(result["alone"].notnull().any()) for result in measured.values()):
        return [report.Heading("Pattern and cause"), report.Paragraph("No head holds the pattern: none was ablated.")]
    return [
        report.Heading("Pattern and cause"),
        report.Figure(figures.induction_causes(measured)),
        report.Figure(figures.copying_without(measured)),
        report.Table(*induction_tables.head_table(found), caption=HEADS),
    ]


def formed_section(found: Sequence[Induction], formed: Sequence[Formation]) -> list[report.Block]:
    """What forms first; only what was left out, where no model has checkpoints."""
    told = [report.Note(text, "finding") for text in formation_words.findings(found, formed)]
    if not formed:
        return [report.Heading("What forms first"), *told]
    note = [report.Note(CURRICULUM)] if any(one.found.name.startswith("lab/") for one in formed) else []
    return [
        report.Heading("What forms first"),
        *told,
        *note,
        report.Figure(figures.formation_by_step({one.name: one.joined for one in found})),
        report.Table(*induction_tables.formation_table(formed), caption=FORMED),
    ]


def page(
    config: Config,
    asked: Plan,
    found: Sequence[Induction],
    tests: Mapping[Comparison, Sure],
    formed: Sequence[Formation],
) -> str:
    """The report: what was found, the window, causes, formation, and what else differs."""
    measured, split = {one.name: one.joined for one in found}, of_anatomies(asked.window, asked.anatomies)
    return report.page(
        "Induction heads",
        [
            *(report.Paragraph(part.replace("\n", " ")) for part in str(__doc__).split("\n\n")),
            *([report.Paragraph(split.note)] if split.note else []),
            *(report.Note(text, "finding") for text in induction_words.findings(found, tests)),
            *(report.Note(text, "warning") for text in all_warnings(asked, found)),
            report.Heading(f"Through {split.short}"),
            report.Figure(figures.induction_by_length(measured)),
            report.Table(*induction_tables.length_table(found, tests), caption=LENGTHS),
            *cause_section(found, measured),
            *formed_section(found, formed),
            *report.appendix([one.facts for one in found], command_line.command("induction", config)),
        ],
    )


def all_warnings(asked: Plan, found: Sequence[Induction]) -> list[str]:
    return [*inputs.sentences(asked.inputs), *induction_words.warnings(found), *formation_words.warnings(found)]


def record(
    config: Config,
    asked: Plan,
    found: Sequence[Induction],
    tests: Mapping[Comparison, Sure],
    formed: Sequence[Formation],
    seconds: float,
) -> dict[str, Any]:
    """What was asked of which weights with which versions, how long it took, and what was found."""
    measured: dict[str, xr.Dataset] = {one.name: one.joined for one in found}
    kept = {name: sorted(its) for name, its in asked.checkpoints.items()}
    return command_line.record(
        config,
        measured,
        seconds,
        asked={"window": asked.window, "networks": dict(asked.networks), "checkpoints": kept},
        inputs=inputs.record(asked.inputs),
        warnings=all_warnings(asked, found),
        findings=[*induction_words.findings(found, tests), *formation_words.findings(found, formed)],
    )


def main(
    names: command_line.Names = None,
    models: command_line.Models = None,
    ignore_fields: command_line.IgnoreFields = None,
    out: command_line.Out = Config.out,
    prompts: Annotated[int, typer.Option(help="prompts a repeat length, 8 or more")] = Config.prompts,
    seed: Annotated[int, typer.Option(help="seed of the prompts")] = Config.seed,
    lengths: Annotated[str | None, typer.Option(help="repeat lengths, such as 16,17,48")] = None,
    revisions: Annotated[str | None, typer.Option(help="training checkpoints, such as step1000,step4000")] = None,
) -> None:
    """Which heads are induction heads, by pattern and by cause, near and far, and over training?"""
    began = time.perf_counter()
    chosen = command_line.named(models, names, Config.models)
    ignored, steps = settings.listed(ignore_fields, "fields"), settings.listed(revisions, "revisions")
    asked_lengths = settings.listed_numbers(lengths, "length", copying.LEAST)
    config = Config(chosen, ignored, out, prompts, seed, asked_lengths, steps)
    asked = plan(config)
    folder = files.claim_folder(out)
    found = run(config, asked)
    tests, formed = comparisons(found), formations(found)
    html = page(config, asked, found, tests, formed)
    noted = record(config, asked, found, tests, formed, time.perf_counter() - began)
    stacked = results.stack({one.name: one.joined for one in found})
    command_line.tell(noted, report.publish(folder, stacked, noted, html))


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    run_cleanly(app)
