"""What does rotary position encoding do that learned absolute positions do not?

A rotation turns queries and keys by the place of their tokens, so that scores depend on how far apart two tokens stand
(Su et al. 2021, arXiv 2104.09864); a learned embedding adds a vector of its own for every place to the residual stream.
Five things are asked of each network. The shift: all position indices move by D, the text stays; what moves? The
Toeplitz share: how much of the scores, tokens averaged out, is a function of distance alone? The heads: which look at
the previous token or at what followed an earlier copy (Olsson et al. 2022), and is that pattern a cause, measured by
ablating them next to random heads of the same layer? What is lost when positions are taken away under the same weights,
and for rotation, which frequencies previous-token heads live on (cf. Barbero et al. 2024, arXiv 2410.06205)? And what
becomes of the loss as a text runs past the context?

Public checkpoints differ in everything at once. The lab's arms lab/gpt2 and lab/pythia-sequential differ in their
positions alone, lab/pythia also in its parallel block, and lab/nope has no positions. Each is asked with all its seeds,
which are the sample: intervals are Student's over seeds, arms are compared seed by seed, p is corrected for every
measure of every pair that is tested (Benjamini and Hochberg 1995); what is exact by construction, or ends at chance
level or at ceiling, is not. Takes half a minute of one core for the lab's twelve networks; in
large models rounding is judged by a copy of the weights in float64. Expect that shifts move absolute models and no
rotary one; that in the first layer of a rotary network scores, averaged over tokens, are a function of distance; and
that both encodings come to previous-token and induction heads that matter.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import typer
import xarray as xr
from tqdm.auto import tqdm

from experiments import command_line, inputs, settings
from experiments.inputs import Inputs
from neolens import encodings, figures, files, report, results
from neolens.cli import run_cleanly
from neolens.encodings import Contrast, Encoding, Texts
from neolens.models import Anatomy

MEASURED = (
    "Means over seeds, with Student's 95 % intervals. Best heads are the highest scores of a network. All heads that "
    "hold a role are ablated at once, beside 19 groups of as many heads drawn among all others. Positions are taken "
    "away by the mean of the learned embeddings at every token, or by not rotating. n: seeds, where not all have one."
)
COMPARED = (
    "Differences seed by seed, of arms that differ in their positions alone (of all, where there are none). p: "
    "Student's t, corrected for all rows that have one (Benjamini and Hochberg). A difference between models that "
    "differ besides in something else is not yet an effect of their positions."
)
HEADS = (
    "Heads that hold a role by their pattern, and what mean ablation of each adds to the loss where the second copy is "
    "predicted, next to random other heads of its layer. p: sign flips of prompts, corrected for all heads of the "
    "network that were checked. A pattern is not yet a cause."
)


@dataclass(frozen=True)
class Config:
    models: tuple[str, ...] = ("lab/gpt2", "lab/pythia-sequential", "lab/pythia", "lab/nope")
    """Catalogue names, hub ids or folders; a lab model stands for all its seeds."""
    ignore_fields: tuple[str, ...] | None = None
    """Unknown fields of config.json that change nothing."""
    out: str = "results/rotary_vs_absolute"
    """The folder for result.nc, record.json and report.html."""
    prompts: int = 16
    """Prompts [BOS, r, r]; eight times as many random ones, to average tokens out."""
    seed: int = 0
    """Seed of the prompts."""

    def __post_init__(self) -> None:
        settings.check(self, prompts=settings.ENOUGH)


@dataclass(frozen=True)
class Plan:
    """What is asked, settled before anything is measured; by the model's name."""

    anatomies: tuple[Anatomy, ...]
    networks: Mapping[str, tuple[str, ...]]
    """The seeds of each model."""
    texts: Mapping[str, Texts]
    inputs: tuple[Inputs, ...]


def plan(config: Config) -> Plan:
    """Check all input, and make the prompts of every model in its own tokens."""
    anatomies = command_line.anatomies(config)
    command_line.fetched(config)
    networks = command_line.networks(anatomies, config.models)
    texts, readings = {}, []
    for name, several in networks.items():
        model = command_line.load(config, several[0])
        draw: Any = {"prompts": config.prompts, "seed": config.seed, "prepend_bos": inputs.has_bos(model)}
        texts[name] = encodings.texts(model, **draw)
        readings.append(inputs.summary(model, repeats=[texts[name].repeats.shape[1] // 2]))
    return Plan(anatomies, networks, texts, tuple(readings))


def run(config: Config, asked: Plan) -> list[Encoding]:
    """Each network in turn: load, probe, let it go."""
    command_line.choose_threads(asked.anatomies)
    found = []
    with tqdm(total=sum(map(len, asked.networks.values())), desc="positions", unit="network") as bar:
        for facts in asked.anatomies:
            networks, measured = asked.networks[facts.name], []
            for network in networks:
                measured.append(encodings.probe(command_line.load(config, network), asked.texts[facts.name]))
                bar.update()
            seeds = [command_line.seed_of(network) for network in networks]
            found.append(Encoding(facts, encodings.over_seeds(measured, seeds)))
    return found


def drawn(found: Sequence[Encoding]) -> list[report.Block]:
    """The figures, those that there is something to draw in."""
    by_name = {one.name: one.result for one in found}
    holding = {
        figures.shift_by_distance: "shift_logits",
        figures.toeplitz_shares: "toeplitz_share",
        figures.distance_kernels: "kernel",
        figures.pattern_and_cause: "more",
        figures.band_shares: "taken_away",
        figures.loss_beyond: "loss_beyond",
    }
    made = [
        draw(by_name) for draw, variable in holding.items() if any(variable in result for result in by_name.values())
    ]
    return [report.Figure(one) for one in made if len(figures.data(one))]


def page(config: Config, asked: Plan, found: Sequence[Encoding], compared: Sequence[Contrast]) -> str:
    """The report: what was found, the measures and their differences, figures, heads, and what else differs."""
    return report.page(
        "Rotary against absolute positions",
        [
            *(report.Paragraph(part.replace("\n", " ")) for part in str(__doc__).split("\n\n")[1:]),
            *(report.Note(text, "finding") for text in encodings.findings(found, compared)),
            *(report.Note(text, "warning") for text in all_warnings(asked, found)),
            report.Heading("Measures"),
            report.Table(*encodings.measure_table(found), caption=MEASURED),
            report.Table(*encodings.contrast_table(compared), caption=COMPARED),
            report.Heading("Figures"),
            *drawn(found),
            report.Heading("Heads"),
            report.Table(*encodings.head_table(found), caption=HEADS),
            *report.appendix(asked.anatomies, command_line.command("rotary_vs_absolute", config), question="position"),
        ],
    )


def all_warnings(asked: Plan, found: Sequence[Encoding]) -> list[str]:
    """What is peculiar to the prompts of a model, and what keeps its numbers from meaning what they seem to mean."""
    return [*inputs.sentences(asked.inputs), *encodings.warnings(found)]


def record(
    config: Config, asked: Plan, found: Sequence[Encoding], compared: Sequence[Contrast], seconds: float
) -> dict[str, Any]:
    """What was asked of which weights with which versions, how long it took, and what was found."""
    measured: dict[str, xr.Dataset] = {one.name: one.result for one in found}
    return command_line.record(
        config,
        measured,
        seconds,
        asked={"networks": {name: list(several) for name, several in asked.networks.items()}},
        inputs=inputs.record(asked.inputs),
        warnings=all_warnings(asked, found),
        findings=encodings.findings(found, compared),
        contrasts=[encodings.recorded(one) for one in compared],
    )


def main(
    names: command_line.Names = None,
    models: command_line.Models = None,
    ignore_fields: command_line.IgnoreFields = None,
    out: command_line.Out = Config.out,
    prompts: Annotated[int, typer.Option(help="prompts of repeated sequences, 8 or more")] = Config.prompts,
    seed: Annotated[int, typer.Option(help="seed of the prompts")] = Config.seed,
) -> None:
    """What does rotary position encoding do that learned absolute positions do not?"""
    began = time.perf_counter()
    chosen, ignored = command_line.named(models, names, Config.models), settings.listed(ignore_fields, "fields")
    config = Config(chosen, ignored, out, prompts, seed)
    asked = plan(config)
    folder = files.claim_folder(out)
    found = run(config, asked)
    compared = encodings.contrasts(found)
    html = page(config, asked, found, compared)
    noted = record(config, asked, found, compared, time.perf_counter() - began)
    stacked = results.stack({one.name: one.result for one in found})
    command_line.tell(noted, report.publish(folder, stacked, noted, html))


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    run_cleanly(app)
