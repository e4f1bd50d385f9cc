"""Which heads find the indirect object, and through what?

After "When Mary and John went to the market, John gave the ring to" comes Mary. In GPT-2 small, Wang et al. 2022
(arXiv 2211.00593) found heads that notice at the second John (s2) that he was named before, heads that carry this to
the end (S-inhibition), and heads that then copy Mary (name movers). Here one activation at a time is patched in any of
the models: the residual stream, and z, q, k and v of every head, at both names (io, s1), at s2 and at the end. Heads
are ranked by how much of the answer they move, and for gpt2 the published ones are marked.

In the corrupted prompt a third name stands at s2 ("other"), so that nobody is named twice. The published analysis
corrupts alike, but exchanges the first two names besides (p_ABC). Here the two prompts are the same up to s2: patches
before it have effect 0, and heads that act there (previous token) cannot show. With "swap" Mary stands at s2 and the
answer becomes John. Denoising shows what suffices, noising what is needed (Heimersheim and Nanda 2024, arXiv
2404.15255); in noising, backup name movers make good for a name mover that is lost. The lab models take about ten
seconds of one core, gpt2 two minutes. Expect no name mover in the lab: the answer moves through values that a few
heads read at s2, not through queries at the end.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Annotated, Any

import typer
import xarray as xr
from tqdm.auto import tqdm

from experiments import command_line, inputs, settings
from experiments.inputs import Inputs
from neolens import PromptPairs, circuits, figures, files, patch, report
from neolens.checks import check_choice, check_whole
from neolens.cli import run_cleanly
from neolens.models import Anatomy
from neolens.patching.sweep import DIRECTIONS
from neolens.prompts import indirect_object
from neolens.prompts.questions import CORRUPTIONS

POSITIONS = ("io", "s1", "s2", "end")
"""Of the family: both names, the second mention of the one who gives, and the token that predicts the answer."""

DRAWN = (("z", "end"), ("q", "end"), ("z", "s2"), ("k", "s2"), ("v", "s2"))
"""The maps of heads: site and position."""

HEADS = (
    "The heads that move most by any of these patches, ranked by the size of z at end. Every number is a share: how "
    "much of what lies between the clean and the corrupted mean logit difference this one patch moves; positive where "
    "the clean activation speaks for the answer. Shares of several heads need not add up. k and v: at the position "
    "where they move most. Interval: bootstrap over the prompts, 1,000 samples; it knows of no other weights."
)
ROLES = (
    "Wang et al. 2022, who patched direct paths only; here a patch moves all that follows from it. Each role is looked "
    "for by the patches that should show it: its heads with their ranks, and how many are among the first, as many as "
    "published heads should show there. Previous-token heads act before s2, backup name movers when name movers are "
    "gone: neither can be looked for so."
)
MAPS = {
    "denoise": "The maps show the patched less the corrupted mean logit difference, heads all on one scale.",
    "noise": "The maps show the patched less the clean mean logit difference, heads all on one scale: negative where a "
    "head is needed, the sign turned against that in the table.",
}


@dataclass(frozen=True)
class Config:
    models: tuple[str, ...] = ("lab/gpt2", "lab/gpt-neo", "lab/pythia")
    """Catalogue names, hub ids or folders; one whose tokenizer does not have the words is left out."""
    ignore_fields: tuple[str, ...] | None = None
    """Unknown fields of config.json that change nothing."""
    out: str = "results/ioi"
    """The folder for result.nc, record.json and report.html."""
    prompts: int = 32
    """Pairs of prompts for each model."""
    seed: int = 0
    """Seed of the prompts."""
    corruption: str = "other"
    """What stands at s2 in the corrupted prompt: a third name ("other"), or the indirect object ("swap")."""
    direction: str = "denoise"
    """"denoise" puts clean activations into the corrupted run, "noise" the reverse."""
    distance: int | None = None
    """Tokens from the indirect object to the end; by default 12 in the lab's language, and in English those of the
    plain sentence."""

    def __post_init__(self) -> None:
        settings.check(self)
        check_choice(self.corruption, "corruption", CORRUPTIONS)
        check_choice(self.direction, "direction", DIRECTIONS)
        if self.distance is not None:
            settings.update(self, distance=check_whole(self.distance, "distance", 1, settings.FARTHEST, unit="tokens"))


@dataclass(frozen=True)
class Plan:
    """What each model is asked, settled before anything is patched; by the model's name."""

    anatomies: tuple[Anatomy, ...]
    pairs: Mapping[str, PromptPairs]
    """Of the models that can be asked in words."""
    inputs: tuple[Inputs, ...]


def plan(config: Config) -> Plan:
    """Check all input, and ask every model's tokenizer for its prompts."""
    anatomies = command_line.anatomies(config)
    command_line.fetched(config)
    pairs, readings = {}, []
    for facts, name in zip(anatomies, config.models):
        model = command_line.load(config, name)
        reason = inputs.unreadable(model, indirect_object)
        if reason is None:
            pairs[facts.name] = ask(model, config)
        readings.append(inputs.summary(model, left_out={} if reason is None else {"the indirect object": reason}))
    return Plan(anatomies, pairs, tuple(readings))


def ask(model: Any, config: Config) -> PromptPairs:
    """One model's pairs."""
    how: Any = {"corruption": config.corruption, "distance": config.distance, "seed": config.seed}
    try:
        return indirect_object(model, config.prompts, prepend_bos=inputs.has_bos(model), **how)
    except ValueError as error:
        raise ValueError(f"{model.anatomy.name}: {error}") from error


def run(config: Config, asked: Plan) -> dict[str, circuits.Circuit]:
    """Each model in turn: load, patch every site at every named position, let it go."""
    noted: dict[str, str | int] = {"seed": config.seed, "corruption": config.corruption}
    noted |= {} if config.distance is None else {"distance": config.distance}
    command_line.choose_threads(asked.anatomies)
    found = {}
    able = [(name, facts) for name, facts in zip(config.models, asked.anatomies) if facts.name in asked.pairs]
    with tqdm(total=len(able) * len(circuits.SITES), desc="patching", unit="site") as bar:
        for name, facts in able:
            model, pairs, by_site = command_line.load(config, name), asked.pairs[facts.name], {}
            for site in circuits.SITES:
                by_site[site] = patch(
                    model, pairs, site, positions=POSITIONS, direction=config.direction, progress=False
                )
                bar.update()
            found[facts.name] = circuits.circuit(circuits.joined(by_site).assign_attrs(noted), facts)
    return found


def pictures(result: xr.Dataset) -> list[report.Figure]:
    """The maps of one model, those by head on one scale, so that equal colours are equal effects."""
    stream = figures.patch_heatmap(circuits.of_site(result, "resid_pre"))
    heads = [circuits.of_site(result, site).sel(pos=[at]) for site, at in DRAWN]
    largest = max(figures.largest_effect(one) for one in heads)
    return [report.Figure(drawn) for drawn in (stream, *(figures.patch_heatmap(one, limit=largest) for one in heads))]


def section(found: circuits.Circuit) -> list[report.Block]:
    """One model: its strongest heads, the published ones where there are some, its maps."""
    return [
        report.Heading(found.result.attrs["model"]),
        report.Table(*circuits.head_table(found), caption=HEADS),
        *([report.Table(*circuits.published_table(found), caption=ROLES)] if found.roles else []),
        report.Paragraph(MAPS[found.result.attrs["direction"]]),
        *pictures(found.result),
    ]


def page(config: Config, asked: Plan, found: Mapping[str, circuits.Circuit]) -> str:
    """The report: findings first, then the task, each model's heads and maps, and what else differs."""
    blocks = [report.Paragraph(part.replace("\n", " ")) for part in str(__doc__).split("\n\n")[1:]]
    return report.page(
        "The indirect object",
        [
            *blocks,
            *(report.Note(circuits.finding(one), "finding") for one in found.values()),
            *(report.Note(text, "warning") for text in all_warnings(asked, found)),
            *([report.Heading("How well they do the task")] if found else []),
            *([report.Table(*circuits.task_table(list(found.values())))] if found else []),
            *(block for one in found.values() for block in section(one)),
            *report.appendix(asked.anatomies, command_line.command("ioi", config)),
        ],
    )


def all_warnings(asked: Plan, found: Mapping[str, circuits.Circuit]) -> list[str]:
    """Which models were not asked and why, and what keeps numbers from meaning what they seem to mean."""
    return [*inputs.sentences(asked.inputs), *(text for one in found.values() for text in circuits.warnings(one))]


def record(config: Config, asked: Plan, found: Mapping[str, circuits.Circuit], seconds: float) -> dict[str, Any]:
    """What was asked of which weights with which versions, how long it took, and what was found."""
    return command_line.record(
        config,
        {name: one.result for name, one in found.items()},
        seconds,
        inputs=inputs.record(asked.inputs),
        warnings=all_warnings(asked, found),
        findings=[circuits.finding(one) for one in found.values()],
        published={name: [asdict(row) for row in one.compared] for name, one in found.items() if one.compared},
    )


def main(
    names: command_line.Names = None,
    models: command_line.Models = None,
    ignore_fields: command_line.IgnoreFields = None,
    out: command_line.Out = Config.out,
    prompts: Annotated[int, typer.Option(help="pairs of prompts for each model")] = Config.prompts,
    seed: Annotated[int, typer.Option(help="seed of the prompts")] = Config.seed,
    corruption: Annotated[str, typer.Option(help="what stands at s2: other or swap")] = Config.corruption,
    direction: Annotated[str, typer.Option(help="denoise or noise")] = Config.direction,
    distance: Annotated[int | None, typer.Option(help="tokens from the indirect object to the end")] = None,
) -> None:
    """Which heads find the indirect object, and through what?"""
    began = time.perf_counter()
    chosen, ignored = command_line.named(models, names, Config.models), settings.listed(ignore_fields, "fields")
    config = Config(chosen, ignored, out, prompts, seed, corruption, direction, distance)
    asked = plan(config)
    folder = files.claim_folder(out)
    found = run(config, asked)
    written = page(config, asked, found)
    noted = record(config, asked, found, time.perf_counter() - began)
    measured = {name: one.result for name, one in found.items()}
    command_line.tell(noted, command_line.publish(folder, measured, noted, written))


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    run_cleanly(app)
