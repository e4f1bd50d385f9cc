"""Where do local and global layers look, and what is copied from far back?

GPT-Neo (Black et al. 2021) alternates global layers with local ones that see only the last few tokens, a window. For
each model this measures every head on longer text (attention mass by distance, mean distance, entropy, previous-token
and sink scores) and on random sequences repeated after fewer and after more tokens than a local layer sees (induction,
Olsson et al. 2022, and how much is copied), groups the heads by the kind of their layer, and tests the laws that must
hold exactly. The lab models take under a minute on two cores. Expect local layers to attend to nothing farther back, to
the last cell, and whatever is copied from there to be read by global heads.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import typer
import xarray as xr
from jaxtyping import Int
from torch import Tensor
from tqdm.auto import tqdm

from experiments import command_line, inputs, settings
from experiments.inputs import Inputs
from neolens import figures, files, findings, report, results, views
from neolens.cli import run_cleanly
from neolens.models import Anatomy, AttentionSpan
from neolens.near_far import of_anatomies
from neolens.prompts import bos_token, repeated, token_pool
from neolens.prompts.lab_questions import speaks_lab
from neolens.scores import REPEATED_SCORES, attention, laws

TEXT_SCORES = ("previous_token", "sink", "mean_distance", "entropy", "entropy_normalised")


@dataclass(frozen=True)
class Config:
    models: tuple[str, ...] = ("lab/gpt2", "lab/gpt-neo", "lab/pythia")
    """Catalogue names, hub ids or folders."""
    text: str | None = None
    """A UTF-8 text file; by default sentences of the lab's synthetic English, or random tokens where a model has no
    tokenizer that reads them."""
    tokens: str | None = None
    """A file of tokens in its place: .npy, .pt, or lines of integers; taken as they are, without BOS before them."""
    ignore_fields: tuple[str, ...] | None = None
    """Unknown fields of config.json that change nothing."""
    out: str = "results/local_vs_global"
    """The folder for result.nc, record.json and report.html."""
    prompts: int = 8
    """Prompts of text, and of repeated sequences, for each model; at most so many where the text is short."""
    length: int = 2048
    """Tokens a prompt of text, BOS included; less where a context is shorter."""
    seed: int = 0
    """Seed of the text and of the repeated sequences."""

    def __post_init__(self) -> None:
        settings.check(self)


@dataclass(frozen=True)
class Plan:
    """What is asked of every model alike, settled before the first is loaded."""

    anatomies: tuple[Anatomy, ...]
    source: inputs.Source
    window: int
    inside: int
    beyond: int


def plan(config: Config) -> Plan:
    """Check all input; repeat lengths are half the narrowest window and, where the contexts allow, twice it."""
    anatomies = command_line.anatomies(config)
    window = inputs.window(config, anatomies)
    context = min(facts.context for facts in anatomies)
    length, beyond = min(config.length, context), min(2 * window, (context - 1) // 2)
    if beyond <= window:
        short = next(facts.name for facts in anatomies if facts.context == context)
        split = of_anatomies(window, anatomies).name
        raise ValueError(f"{short} sees {context} tokens, too few to cross {split}: leave it out")
    source = inputs.source(config, anatomies, length)
    command_line.fetched(config)
    return Plan(anatomies, source, window, min(max(2, window // 2), beyond), beyond)


@dataclass(frozen=True)
class Tokens:
    """One model's prompts: text, and random sequences repeated inside and beyond the window."""

    text: Int[Tensor, "prompt pos"]
    unknown: float
    """The share of the text's tokens that the tokenizer does not know."""
    inside: Int[Tensor, "prompt pos"]
    beyond: Int[Tensor, "prompt pos"]
    inputs: Inputs


def tokenize(model: Any, config: Config, asked: Plan) -> Tokens:
    """The prompts in the model's own tokens, BOS first in each where there is one."""
    text = inputs.read(model, asked.source)
    bos, pool = bos_token(model.tokenizer, model.anatomy.d_vocab), token_pool(model)
    if model.tokenizer is not None and speaks_lab(model.tokenizer):  # all words, also those without a meaning
        pool = sorted(set(range(len(model.tokenizer))) - set(model.tokenizer.all_special_ids))
    inside, beyond = (
        repeated(pool, n, bos=bos, prompts=config.prompts, seed=config.seed) for n in (asked.inside, asked.beyond)
    )
    reading = inputs.summary(model, text=text, repeats=(asked.inside, asked.beyond))
    return Tokens(text.tokens, text.unknown, inside, beyond, reading)


def measure(model: Any, tokens: Tokens) -> xr.Dataset:
    """Scores of every head on text and on repeated sequences, the share that is copied, and the laws."""
    result = attention(model, tokens.text).drop_vars(list(REPEATED_SCORES), errors="ignore")
    for ending, prompts in (("", tokens.inside), ("_beyond", tokens.beyond)):
        induction = attention(model, prompts, scores=["induction"], distances=[0])["induction"].drop_vars("length")
        copied = xr.DataArray(
            laws.repeat_accuracy(model, prompts), dims="prompt", coords={"prompt": induction["prompt"]}
        )
        more = {f"induction{ending}": induction, f"copied{ending}": copied}
        result = result.merge(more, join="outer", compat="no_conflicts")
    if model.anatomy.windows:
        narrow = [AttentionSpan("local", model.anatomy.windows[0])] * model.anatomy.layers
        result["copied_beyond_all_local"] = "prompt", laws.repeat_accuracy(model, tokens.beyond, spans=narrow)
    return result.assign_attrs(measure_laws(model, result, tokens), unknown=tokens.unknown)


def measure_laws(model: Any, result: xr.Dataset, tokens: Tokens) -> dict[str, float]:
    """The figures of the laws "window" and "out of reach", as far as the prompts cross the model's windows."""
    windows, longest = model.anatomy.windows, tokens.beyond.shape[1]
    held = {}
    if windows and windows[0] < longest:
        prompt = tokens.beyond[:1, : windows[0] + 1]
        held["difference_at_window"] = laws.window_difference(model, prompt[:, :-1])
        held["difference_past_window"] = laws.window_difference(model, prompt)
    if windows and windows[0] < tokens.text.shape[1]:
        held["mass_out_of_reach"] = laws.mass_out_of_reach(result)
    if windows and windows[-1] <= (longest - 1) // 2 - 1:
        held["induction_out_of_reach"] = laws.induction_out_of_reach(result, "induction_beyond")
    return held


def pictures(model: Any, result: xr.Dataset, tokens: Tokens, asked: Plan) -> list[report.Figure]:
    """The pattern of the most inductive layer of each kind on a repeated sequence that crosses the window.

    Of a long sequence the four most inductive heads, fewer where one view does not hold them.
    """
    prompt, shown = tokens.beyond[0], f"a random sequence of {asked.beyond} tokens, repeated"
    most = min(12 if len(prompt) <= views.SHORT else 4, views.MAX_CELLS // (len(prompt) * (len(prompt) + 1) // 2))
    drawn = []
    for kind in sorted(set(result["attention_kind"].values), reverse=True) if most else []:
        of_kind = result["induction_beyond"].isel(layer=result["attention_kind"].values == kind).mean("prompt")
        layer = int(of_kind.max("head").idxmax("layer"))
        best = of_kind.sel(layer=layer).argsort().values[::-1]
        heads = sorted(int(head) for head in best[:most])
        caption = f"{model.anatomy.name}, layer {layer} ({model.anatomy.attention[layer]}): {shown}."
        drawn.append(report.Figure(views.attention(model, prompt, layers=[layer], heads=heads), caption))
    return drawn


def run(config: Config, asked: Plan) -> tuple[dict[str, xr.Dataset], list[report.Figure], list[Inputs]]:
    """Each model in turn: load, measure, draw its patterns, let it go."""
    command_line.choose_threads(asked.anatomies)
    measured: dict[str, xr.Dataset] = {}
    drawn: list[report.Figure] = []
    readings = []
    for name, facts in zip(tqdm(config.models, desc="models", unit="model"), asked.anatomies):
        model = command_line.load(config, name)
        tokens = tokenize(model, config, asked)
        readings.append(tokens.inputs)
        measured[facts.name] = measure(model, tokens).assign_attrs(seed=config.seed)
        drawn += pictures(model, measured[facts.name], tokens, asked)
    return measured, drawn, readings


def on_repeats(measured: Mapping[str, xr.Dataset], ending: str, n: int) -> dict[str, xr.Dataset]:
    """The induction scores on sequences repeated after `n` tokens, labelled with their own length."""
    return {
        name: result[[f"induction{ending}"]]
        .rename({f"induction{ending}": "induction"})
        .assign_coords(length=("prompt", [2 * n + 1] * result.sizes["prompt"]))
        for name, result in measured.items()
    }


def page(
    config: Config,
    asked: Plan,
    measured: Mapping[str, xr.Dataset],
    drawn: list[report.Figure],
    readings: Sequence[Inputs],
) -> str:
    """The report: findings first, then the laws, the figures, the patterns, and what else differs."""
    sentences = findings.local_and_global(measured, asked.window, (asked.inside, asked.beyond))
    split = of_anatomies(asked.window, asked.anatomies)
    means = (
        f"Means over prompts, heads and layers. Text: {inputs.described(readings)}. Near and far: {split.name}; "
        f"repeats after {asked.inside} and {asked.beyond} tokens. Uniform: a head that attends to all that it sees "
        "alike. Sink: attention to key 0."
    )
    copies = "The share of the second copy that is predicted, mean over prompts."
    too_long = f"None: a prompt that crosses {split.name} is too long for the view."
    return report.page(
        "Local and global attention",
        [
            report.Paragraph(str(__doc__).split("\n\n")[1].replace("\n", " ")),
            *([report.Paragraph(split.note)] if split.note else []),
            *(report.Note(text, "finding") for text in sentences),
            *(report.Note(text, "warning") for text in warnings(asked, measured, readings)),
            report.Heading("Laws that must hold exactly"),
            report.Table(*findings.law_table(measured)),
            report.Heading("Local and global heads"),
            report.Table(*findings.kind_table(measured, asked.window), caption=means),
            report.Table(*findings.copy_table(measured, (asked.inside, asked.beyond)), caption=copies),
            report.Figure(figures.mass_by_distance(measured), "Where attention lies, by how far back the key is."),
            report.Figure(
                figures.scores_by_kind(measured, TEXT_SCORES), "Every head on text, by model and kind of layer."
            ),
            report.Figure(figures.heads(measured, "mean_distance"), "On text."),
            *(
                report.Figure(
                    figures.heads(on_repeats(measured, ending, n), "induction"), f"Repeated after {n} tokens: {where}."
                )
                for ending, n, where in (
                    ("", asked.inside, split.inside),
                    ("_beyond", asked.beyond, split.beyond),
                )
            ),
            report.Heading(f"Attention patterns across {split.short}"),
            *drawn,
            *([] if drawn else [report.Paragraph(too_long)]),
            *report.appendix(asked.anatomies, command_line.command("local_vs_global", config)),
        ],
    )


def warnings(asked: Plan, measured: Mapping[str, xr.Dataset], readings: Sequence[Inputs]) -> list[str]:
    """What is peculiar to the prompts of a model, and what keeps a number from meaning what it seems to mean."""
    return [*inputs.sentences(readings), *findings.warnings(measured, asked.window)]


def record(
    config: Config, asked: Plan, measured: Mapping[str, xr.Dataset], readings: Sequence[Inputs], seconds: float
) -> dict[str, Any]:
    """What was asked of which weights with which versions, how long it took, and what was found."""
    return command_line.record(
        config,
        measured,
        seconds,
        asked={"length": asked.source.length, "window": asked.window, "inside": asked.inside, "beyond": asked.beyond},
        inputs=inputs.record(readings),
        warnings=warnings(asked, measured, readings),
        laws_hold=findings.laws_hold(measured),
        findings=findings.local_and_global(measured, asked.window, (asked.inside, asked.beyond)),
    )


def main(
    names: command_line.Names = None,
    models: command_line.Models = None,
    text: command_line.Text = None,
    tokens: command_line.Tokens = None,
    ignore_fields: command_line.IgnoreFields = None,
    out: command_line.Out = Config.out,
    prompts: Annotated[int, typer.Option(help="prompts for each model")] = Config.prompts,
    length: Annotated[int, typer.Option(help="tokens a prompt of text")] = Config.length,
    seed: Annotated[int, typer.Option(help="seed of text and repeats")] = Config.seed,
) -> None:
    """Where do local and global layers look, and what is copied from far back?"""
    began = time.perf_counter()
    chosen, ignored = command_line.named(models, names, Config.models), settings.listed(ignore_fields, "fields")
    config = Config(chosen, text, tokens, ignored, out, prompts, length, seed)
    asked = plan(config)
    folder = files.claim_folder(out)
    measured, drawn, readings = run(config, asked)
    written = page(config, asked, measured, drawn, readings)
    noted = record(config, asked, measured, readings, time.perf_counter() - began)
    command_line.tell(noted, report.publish(folder, results.stack(measured), noted, written))
    command_line.end(noted)


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    run_cleanly(app)
