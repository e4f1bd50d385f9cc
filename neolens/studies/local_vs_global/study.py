"""Where do local and global layers look, and what is copied from far back?

GPT-Neo (Black et al. 2021) alternates global layers with local ones that see only the last few tokens, a window. For
each model this measures every head on longer text (attention mass by distance, mean distance, entropy, previous-token
and sink scores) and on random sequences repeated after fewer and after more tokens than a local layer sees (induction,
Olsson et al. 2022, and how much is copied), groups the heads by the kind of their layer, and tests the laws that must
hold exactly. The lab models take under a minute on two cores. Expect local layers to attend to nothing farther back, to
the last cell, and whatever is copied from there to be read by global heads.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import xarray as xr

from neolens import figures, report, views
from neolens.near_far import of_anatomies
from neolens.studies import inputs
from neolens.studies.local_vs_global import text as attention_text
from neolens.studies.local_vs_global.measure import (
    TEXT_SCORES,
    Scope,
    Tokens,
    inductive_patterns,
    joined,
    measure_scores,
    most_heads,
    on_repeats,
    scope_of,
    score_parts,
    tokenize,
)
from neolens.studies.models import Models
from neolens.studies.settings import MODELS, OUT, setting
from neolens.studies.study import ExactCheck, Measured, Prepared, Study, Summary, TextConfig

__all__ = ["STUDY", "TEXT_SCORES", "Config", "Scope", "Tokens", "measure_scores", "on_repeats", "scope_of", "tokenize"]


@dataclass(frozen=True, kw_only=True)
class Config(TextConfig):
    models: tuple[str, ...] = setting(("lab/gpt2", "lab/gpt-neo", "lab/pythia"), MODELS)
    out: str = setting("results/local_vs_global", OUT)
    prompts: int = setting(8, "prompts of text, at most so many where it is short, and of repeated sequences")
    length: int = setting(2048, "tokens per prompt of text, BOS included; less where a context is shorter")
    seed: int = setting(0, "seed of text and repeats")


def prepare(config: Config, models: Models) -> Prepared:
    """The prompts of every model in its own tokens."""
    scope = scope_of(config, models)
    prompts = {name: tokenize(models.load(name), config, scope) for name in models.networks}
    lengths = {"length": scope.source.length, "window": scope.window, "inside": scope.inside, "beyond": scope.beyond}
    return Prepared(prompts, [tokens.inputs for tokens in prompts.values()], lengths)


def parts(tokens: Tokens, config: Config) -> list[str]:
    return ["text", "inside", "beyond", *(["patterns"] if most_heads(tokens) else [])]


def measure(model: Any, tokens: Tokens, config: Config) -> Iterator[tuple[str, xr.Dataset]]:
    """The scores of every head, and the patterns of a few."""
    for name, result in score_parts(model, tokens):
        yield name, result
    if most_heads(tokens):
        yield "patterns", inductive_patterns(model, result, tokens)


def summarise(measured: Measured) -> Summary:
    """Where each kind of layer looks, and what is copied."""
    scores = {name: joined(results).assign_attrs(seed=measured.config.seed) for name, results in measured.first.items()}
    window = measured.scope["window"]
    return Summary(
        findings=attention_text.local_and_global(scores, window, _lengths(measured)),
        warnings=attention_text.warnings(scores, window),
        results=scores,
        note=of_anatomies(window, measured.anatomies).note,
    )


def exact_checks(measured: Measured, summary: Summary) -> list[ExactCheck]:
    """The laws of windows."""
    return [
        ExactCheck(f"{name}: {law}", value, zero) for name, law, value, zero in attention_text.laws(summary.results)
    ]


def sections(measured: Measured, summary: Summary) -> Iterator[report.Block]:
    """The laws, the figures, and the patterns."""
    scores, lengths, window = summary.results, _lengths(measured), measured.scope["window"]
    split = of_anatomies(window, measured.anatomies)
    yield report.Heading("Laws that must hold exactly")
    yield report.Table(*attention_text.law_table(scores))
    yield report.Heading("Local and global heads")
    means = (
        f"Means over prompts, heads and layers. Text: {inputs.described(measured.inputs)}. Near and far: {split.name}; "
        f"repeats after {lengths[0]} and {lengths[1]} tokens. Uniform: a head that attends to all that it sees "
        "alike. Sink: attention to key 0."
    )
    yield report.Table(*attention_text.kind_table(scores, window), caption=means)
    copies = "The share of the second copy that is predicted, mean over prompts."
    yield report.Table(*attention_text.copy_table(scores, lengths), caption=copies)
    yield report.Figure(figures.mass_by_distance(scores), "Where attention lies, by how far back the key is.")
    yield report.Figure(figures.scores_by_kind(scores, TEXT_SCORES), "Every head on text, by model and kind of layer.")
    yield report.Figure(figures.heads(scores, "mean_distance"), "On text.")
    for ending, n, where in (("", lengths[0], split.inside), ("_beyond", lengths[1], split.beyond)):
        heads = figures.heads(on_repeats(scores, ending, n), "induction")
        yield report.Figure(heads, f"Repeated after {n} tokens: {where}.")
    yield report.Heading(f"Attention patterns across {split.short}")
    drawn: list[report.Block] = list(patterns(measured))
    yield from drawn or [report.Paragraph(f"None: a prompt that crosses {split.name} is too long for the view.")]


def patterns(measured: Measured) -> Iterator[report.Figure]:
    """The patterns of the most inductive layer of each kind."""
    for name, results in measured.first.items():
        shown = results.get("patterns", xr.Dataset({"layer": ("group", [])}))
        for layer in dict.fromkeys(map(int, shown["layer"].values)):
            heads = shown.isel(group=shown["layer"].values == layer)
            tokens, labels = heads["token"].values.tolist(), heads["group"].values.tolist()
            span, n = measured.anatomy(name).attention[layer], measured.scope["beyond"]
            yield report.Figure(
                views.attention_view(tokens, heads["pattern"].values, labels, title=name),
                f"{name}, layer {layer} ({span}): a random sequence of {n} tokens, repeated.",
            )


def _lengths(measured: Measured) -> tuple[int, int]:
    return measured.scope["inside"], measured.scope["beyond"]


STUDY = Study(
    name="local_vs_global",
    question="Where do local and global layers look, and what is copied from far back?",
    title="Local and global attention",
    introduction=str(__doc__).split("\n\n")[1],
    config=Config,
    prepare=prepare,
    parts=parts,
    measure=measure,
    summarise=summarise,
    sections=sections,
    exact_checks=exact_checks,
    seeds="first",
)
