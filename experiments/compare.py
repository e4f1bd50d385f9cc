"""What do local attention layers do that global ones do not, and rotary positions that learned absolute ones do not?

The whole question over any set of models, in one report. What are they made of, and in what do they differ besides what
is asked? Where do local and global layers look? Does the answer to induction arrive from farther back than a local
layer sees, and through which layers at which distance? What is lost without the layers of a kind, beside as many random
heads, and without what they read so far back?
What moves when all positions move, how much of the scores is distance alone, which heads hold which role, by pattern
and by cause? And which heads find the indirect object (Wang et al. 2022)? Every instrument is asked as its own
experiment asks it, with fewer distances and no single heads ablated; the experiments go into each in full.

A lab model is asked with all its seeds, which are the sample: intervals are Student's over seeds, arms that differ in
one thing alone are compared seed by seed, and p is corrected for all measures that are tested of a question (Benjamini
and Hochberg 1995). What is exact by construction, and effects that end at chance level or at ceiling, are stated and
not tested. Public models differ in everything at once, and a difference between them is not yet an effect of one of
these things. The 18 networks of the lab take about a minute on two cores, small models side by side; a public model of
12 layers takes hours. What was measured is kept network by network, and `--from` draws the report again without a
model. Expect that local layers carry nothing from beyond the window and the lab copies from there nevertheless, by
global layers, by more of them from farther back; and that what tells rotary from absolute positions is the shift and
the first layer, not what networks can do.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Any

import typer
import xarray as xr
from jaxtyping import Int
from neolens.comparison.keeping import kept
from torch import Tensor
from tqdm.auto import tqdm

from experiments import (
    command_line,
    comparison_page,
    comparison_record,
    inputs,
    ioi,
    local_vs_global,
    settings,
    window_reach,
)
from experiments.inputs import Inputs
from neolens import PromptPairs, ablate, circuits, each_head, encodings, files, fingerprint, patch, report, results
from neolens.ablation import Beyond
from neolens.circuits import needs
from neolens.cli import run_cleanly
from neolens.comparison import TASK, Found, in_one_report, keeping, mixed, words
from neolens.models import Anatomy, lab_names
from neolens.processes import remedy
from neolens.prompts import indirect_object, random_repeats, second_copy
from neolens.scores import shown_patterns
from neolens.stats.contrasts import recorded

LONGEST = 128
"""Tokens of a repeated sequence whose patterns are shown; where it is longer, text that crosses the window is."""


@dataclass(frozen=True)
class Config:
    models: tuple[str, ...] = tuple(lab_names())
    """Catalogue names, hub ids or folders; a lab model stands for all its seeds."""
    text: str | None = None
    """A UTF-8 text file; by default sentences of the lab's synthetic English, or random tokens where a model has no
    tokenizer that reads them."""
    tokens: str | None = None
    """A file of tokens in its place: .npy, .pt, or lines of integers; taken as they are, without BOS before them."""
    ignore_fields: tuple[str, ...] | None = None
    """Unknown fields of config.json that change nothing."""
    out: str = "results/compare"
    """The folder for networks/*.nc, record.json and report.html."""
    prompts: int = 16
    """Prompts of each kind: text, repeated sequences, planted questions."""
    length: int = 512
    """Tokens a prompt of text, BOS included; less where a context is shorter."""
    draws: int = 19
    """Random controls of each size, beside the layers of a kind."""
    seed: int = 0
    """Seed of texts, sequences, questions and controls."""

    def __post_init__(self) -> None:
        settings.check(self, prompts=settings.ENOUGH)


@dataclass(frozen=True)
class Questions:
    """What all networks of a model are asked, in its own tokens."""

    window: int
    tokens: local_vs_global.Tokens
    repeats: Mapping[int, Int[Tensor, "prompt pos"]]
    """n -> random sequences that repeat after n tokens, inside the window and beyond it."""
    texts: encodings.Texts
    groups: Mapping[str, list[tuple[int, int]]]
    """Layers, kinds of layers, and random heads."""
    planted: Mapping[int, PromptPairs] | None
    """Distance -> an answer planted there; None where the model cannot be asked."""
    indirect: PromptPairs | None
    """Of the indirect object; None where the model cannot be asked."""


@dataclass(frozen=True)
class Plan:
    """What is asked, settled before anything is measured; by the model's name."""

    anatomies: tuple[Anatomy, ...]
    networks: Mapping[str, tuple[str, ...]]
    """The seeds of each model."""
    questions: Mapping[str, Questions]
    left_out: Mapping[str, Mapping[str, str]]
    """Model -> part that it cannot be asked -> why."""
    inputs: tuple[Inputs, ...]


def plan(config: Config) -> Plan:
    """Check all input, and put every question in the tokens of every model."""
    scores = local_vs_global.plan(on_scores(config))
    command_line.one_window(scores.anatomies)
    networks = command_line.networks(scores.anatomies, config.models)
    questions: dict[str, Questions] = {}
    left_out: dict[str, dict[str, str]] = {facts.name: {} for facts in scores.anatomies}
    readings = []
    for facts in scores.anatomies:
        model = command_line.load(config, networks[facts.name][0])
        questions[facts.name], reading = ask(model, config, scores, left_out[facts.name])
        readings.append(reading)
    left_out = {name: why for name, why in left_out.items() if why}
    return Plan(scores.anatomies, networks, questions, left_out, tuple(readings))


def on_scores(config: Config) -> local_vs_global.Config:
    """The same settings, for the scores of heads on text and on repeats."""
    names = [field.name for field in fields(local_vs_global.Config)]
    return local_vs_global.Config(**{name: getattr(config, name) for name in names})


def ask(model: Any, config: Config, scores: local_vs_global.Plan, left_out: dict[str, str]) -> tuple[Questions, Inputs]:
    """One model's questions; `left_out` is told which it cannot be asked."""
    facts: Anatomy = model.anatomy
    tokens = local_vs_global.tokenize(model, on_scores(config), scores)
    if len(tokens.text) < 2:
        raise ValueError(
            f"the text fills no 2 prompts of {scores.source.length} tokens of {facts.name}: give a longer text, or a "
            "smaller --length"
        )
    lengths, single = (scores.inside, scores.beyond), each_head(facts)
    draw: Any = {"prompts": config.prompts, "seed": config.seed, "prepend_bos": inputs.has_bos(model)}
    groups = needs.asked_groups(facts, mixed(scores.anatomies), draws=config.draws, seed=config.seed)
    planted: Mapping[int, PromptPairs] | None = None
    notes: list[str] = []
    try:
        planted = plant(model, config, scores.window)
        notes = window_reach.wordless(model, [TASK])
    except ValueError as error:
        left_out["reach"] = str(error)
    indirect: PromptPairs | None = None
    try:
        indirect = ask_indirect(model, config)
    except ValueError as error:
        left_out["circuit"] = str(error)
    questions = Questions(
        scores.window,
        tokens,
        {n: random_repeats(model, n, **draw) for n in lengths},
        encodings.texts(model, **draw),
        {name: heads for name, heads in groups.items() if name not in single},
        planted,
        indirect,
    )
    return questions, replace(tokens.inputs, sentences=(*tokens.inputs.sentences, *notes), left_out=left_out)


def ask_indirect(model: Any, config: Config) -> PromptPairs:
    """The indirect object, after a check that the model reads its words.

    Raises:
        ValueError: it does not.
    """
    if reason := inputs.unreadable(model, indirect_object):
        raise ValueError(reason)
    draw: Any = {"seed": config.seed, "prepend_bos": inputs.has_bos(model)}
    return indirect_object(model, config.prompts, corruption="other", **draw)


def plant(model: Any, config: Config, window: int) -> dict[int, PromptPairs]:
    """An answer on both sides of the window: just inside, just beyond, and farther where there is room."""
    chosen = set(circuits.distances(window, model.anatomy.context)) & {window - 1, window, 2 * window, 4 * window}
    settings = window_reach.Config(prompts=config.prompts, seed=config.seed)
    return window_reach.plant(model, TASK, tuple(sorted(chosen)), window, settings)


def measure(network: str, asked: Questions, config: Config) -> dict[str, xr.Dataset]:
    """Everything that one network is asked, by part."""
    model = command_line.load(config, network)
    parts = {"attention": local_vs_global.measure(model, asked.tokens)}
    parts["patterns"] = shown(model, parts["attention"], asked)
    parts |= ablated(model, asked)
    parts["positions"] = encodings.probe(model, asked.texts)
    if asked.planted is not None:
        reach = circuits.at_distances([model], asked.planted, asked.window)
        parts["reach"] = reach.assign_coords(seed=[command_line.seed_of(network)])
    if asked.indirect is not None:
        patched = {
            site: patch(model, asked.indirect, site, positions=ioi.POSITIONS, progress=False) for site in circuits.SITES
        }
        parts["circuit"] = circuits.joined(patched)
    return parts


def ablated(model: Any, asked: Questions) -> dict[str, xr.Dataset]:
    """The loss without the layers of each kind, on text, on what is copied, and there with attention cut at the
    window."""
    how: Any = {"how": "mean", "progress": False}
    cut: Any = {"how": Beyond(asked.window), "progress": False}
    on_repeats = (
        needs.by_repeat(
            {n: ablate(model, its, asked.groups, positions=second_copy(n), **one) for n, its in asked.repeats.items()}
        )
        for one in (how, cut)
    )
    parts = (ablate(model, asked.tokens.text, asked.groups, **how), *on_repeats)
    return dict(zip(("ablation_text", "ablation_repeats", "ablation_cut"), parts, strict=True))


def shown(model: Any, scores: xr.Dataset, asked: Questions) -> xr.Dataset:
    """The patterns of the two most inductive heads of each kind of layer, on a prompt that crosses the window."""
    prompt = asked.tokens.beyond[0]
    if len(prompt) > LONGEST:
        prompt = asked.tokens.text[0, : asked.window + 32]
    induction = scores["induction"].mean("prompt")
    heads = [
        head
        for kind in sorted(set(induction["attention_kind"].values.tolist()))
        for head in circuits.ranked(induction.isel(layer=induction["attention_kind"].values == kind), sign=1)[:2]
    ]
    chosen = sorted((int(layer), int(head)) for layer, head in (head.split(".") for head in heads))
    return shown_patterns(model, prompt, chosen)


def keep(network: str, asked: Questions, config: Config, path: Path) -> None:
    """Measure one network, and keep what was found."""
    keeping.write(measure(network, asked, config), path, stamp(config, asked))


def stamp(config: Config, asked: Questions) -> keeping.Stamp:
    """What must be the same for results to be those of this run, weights aside."""
    text = hashlib.sha256(asked.tokens.text.numpy().tobytes()).hexdigest()
    versions = json.dumps(results.versions())
    return {
        "settings": comparison_record.settings_text(config),
        "text": text,
        "versions": versions,
        "asked_window": asked.window,
    }


def run(config: Config, asked: Plan, folder: Path, *, resume: bool = False) -> None:
    """Every network, small ones side by side, one a core; each is kept as soon as it is measured."""
    tasks = [
        (network, asked.questions[name], config, kept(folder, network))
        for name, several in asked.networks.items()
        for network in several
    ]
    missing = [task for task in tasks if not (resume and is_kept(*task))]
    with tqdm(total=len(tasks), initial=len(tasks) - len(missing), desc="comparing", unit="network") as bar:
        for _ in command_line.side_by_side(keep, missing, asked.anatomies):
            bar.update()


def is_kept(network: str, asked: Questions, config: Config, path: Path) -> bool:
    """Whether all of a network was measured: of these weights, on this text, with these settings and versions."""
    if not path.is_file():
        return False
    expected = stamp(config, asked)
    if not keeping.holds(path, expected):  # without loading the model
        return False
    return keeping.holds(path, {**expected, "fingerprint": fingerprint(command_line.load(config, network))})


def read(folder: Path, stamps: Mapping[str, Mapping[str, keeping.Stamp]]) -> list[Found]:
    """What was measured, from the files of all networks.

    Args:
        stamps: model -> network -> what its results come from.

    Raises:
        ValueError: a file that is not there, is damaged, or has another stamp.
    """
    parts = keeping.read_all({kept(folder, name): its for several in stamps.values() for name, its in several.items()})
    return in_one_report(
        [
            Found({command_line.seed_of(name): parts[kept(folder, name)] for name in several})
            for several in stamps.values()
        ]
    )


def expected(config: Config, asked: Plan) -> dict[str, dict[str, keeping.Stamp]]:
    """Model -> network -> the stamp of this run's results."""
    return {
        name: {network: stamp(config, asked.questions[name]) for network in several}
        for name, several in asked.networks.items()
    }


def record(config: Config, asked: Plan, found: Sequence[Found], seconds: float, *, resumed: bool) -> dict[str, Any]:
    """What was asked of which weights with which versions, how long it took (this run alone), and what was found."""
    contrasts = words.contrasted(found)
    return command_line.record(
        config,
        words.attentions(found),
        seconds,
        asked={
            "networks": {name: list(several) for name, several in asked.networks.items()},
            "window": next(iter(asked.questions.values())).window,
        },
        resumed=resumed,
        inputs=inputs.record(asked.inputs),
        notes=inputs.sentences(asked.inputs),
        left_out=asked.left_out,
        laws_hold=words.laws_hold(found),
        warnings=[*inputs.sentences(asked.inputs), *words.warnings(found, asked.left_out)],
        findings=[text for said in words.summary(found, contrasts).values() for text in said],
        contrasts=[recorded(one) for both in contrasts for one in both],
    )


def redraw(folder: Path, out: Path) -> tuple[dict[str, Any], Path]:
    """The report once more, from what a folder holds and without a model.

    Raises:
        ValueError: a folder without a record of this experiment, or without the results that it tells of.
    """
    noted, config = comparison_record.read(folder, Config)
    command_line.one_thread()
    found = read(folder, comparison_record.stamps(noted, config))
    page = comparison_page.page(found, noted, command_line.command("compare", config))
    return noted, report.write(files.claim_folder(out) / "report.html", page)


def main(
    names: command_line.Names = None,
    models: command_line.Models = None,
    text: command_line.Text = None,
    tokens: command_line.Tokens = None,
    ignore_fields: command_line.IgnoreFields = None,
    out: Annotated[str | None, typer.Option(help="folder for results, record and report")] = None,
    prompts: Annotated[int, typer.Option(help="prompts of each kind, 8 or more")] = Config.prompts,
    length: Annotated[int, typer.Option(help="tokens a prompt of text")] = Config.length,
    draws: Annotated[int, typer.Option(help="random controls of each size")] = Config.draws,
    seed: Annotated[int, typer.Option(help="seed of texts, questions and controls")] = Config.seed,
    resume: Annotated[bool, typer.Option("--resume", help="go on where a run was cut off")] = False,
    source: Annotated[str | None, typer.Option("--from", help="draw again what this folder holds")] = None,
) -> None:
    """What do local layers do that global ones do not, and rotary positions that absolute ones do not?"""
    began = time.perf_counter()
    chosen, ignored = command_line.named(models, names, Config.models), settings.listed(ignore_fields, "fields")
    config = Config(chosen, text, tokens, ignored, Config.out if out is None else out, prompts, length, draws, seed)
    if source is not None:
        if config != Config(out=config.out) or resume:
            raise ValueError("--from draws what was measured: give no models or settings with it, only --out")
        noted, page = redraw(Path(source), files.writable_folder(source if out is None else out))
        typer.echo(f"Drawn again from {source}. Open {page}")
    else:
        asked = plan(config)
        folder = files.claim_folder(config.out)
        with remedy(f"networks measured so far are kept in {folder}, run the command again with --resume"):
            run(config, asked, folder, resume=resume)
            found = read(folder, expected(config, asked))
            noted = record(config, asked, found, time.perf_counter() - began, resumed=resume)
            report.write_record(folder, noted)
            typer.echo("All is measured; drawing the report ...", err=True)
            written = comparison_page.page(found, noted, command_line.command("compare", config))
            command_line.tell(noted, report.write(folder / "report.html", written))
    command_line.end(noted)


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    run_cleanly(app)
