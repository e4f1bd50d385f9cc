"""Where do local and global layers look, and what is copied from far back?

GPT-Neo (Black et al. 2021) alternates global layers with local ones that see only the last few tokens, a window. For
each model this measures every head on longer text (attention mass by distance, mean distance, entropy, previous-token
and sink scores) and on random sequences repeated after fewer and after more tokens than a local layer sees (induction,
Olsson et al. 2022, and how much is copied), groups the heads by the kind of their layer, and checks what must hold
exactly.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import xarray as xr

from neolens import figures, report, views
from neolens.near_far import of_anatomies
from neolens.scores import top_head
from neolens.studies import inputs
from neolens.studies.local_vs_global import findings as attention_findings
from neolens.studies.local_vs_global import tables as attention_tables
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


CONTEXT = (
    "Attention of every head on text, and how much is copied of random sequences that repeat after {inside} and after "
    "{beyond} tokens, on both sides of {name}."
)
LIMITS = (
    "One network of each model: intervals and p are over prompts, and do not cover variation between trained models.",
    "Attention shows where a head looks, not whether the network needs it: see head_ablation and window_reach.",
)
FIRST = (
    "Mean attention by how far back the key is, on text. Thick: the mean over layers of a kind; thin: each layer. "
    "Dashed: the window, where there is one."
)
MEANS = (
    "Means over prompts, heads and layers. Text: {text}. Near and far: {name}; repeats after {inside} and {beyond} "
    "tokens. Uniform head: one that attends to all keys that it sees alike. Sink: attention to key 0."
)
REPEATED = "Repeated after {} tokens: {}."


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
        findings=attention_findings.findings(scores, window, _lengths(measured)),
        warnings=attention_findings.warnings(scores, window),
        figure=first_figure(scores),
        results=scores,
    )


def context(measured: Measured) -> str:
    """What was measured, and on what."""
    split = of_anatomies(measured.scope["window"], measured.anatomies)
    inside, beyond = _lengths(measured)
    return CONTEXT.format(inside=inside, beyond=beyond, name=split.name)


def exact_checks(measured: Measured, summary: Summary) -> list[ExactCheck]:
    """What holds exactly for windows."""
    return attention_tables.exact_checks(summary.results)


def first_figure(scores: Mapping[str, xr.Dataset]) -> report.Figure | None:
    """Attention by distance, of the first model with local layers and the first without."""
    local = {name: "local" in result["attention_kind"].values for name, result in scores.items()}
    chosen = [next((name for name in scores if local[name] is kind), None) for kind in (True, False)]
    drawn = {name: scores[name] for name in chosen if name is not None}
    if not drawn:
        return None
    drawing = figures.compact(figures.mass_by_distance(drawn))
    return report.Figure(drawing, FIRST)


def sections(measured: Measured, summary: Summary) -> Iterator[report.Block]:
    """Figures of all heads, tables, and the patterns."""
    scores, lengths, window = summary.results, _lengths(measured), measured.scope["window"]
    split = of_anatomies(window, measured.anatomies)
    yield report.Heading(attention_findings.SECTION)
    yield report.Figure(figures.scores_by_kind(scores, TEXT_SCORES), "Every head on text, by model and kind of layer.")
    means = MEANS.format(text=inputs.described(measured.inputs), name=split.name, inside=lengths[0], beyond=lengths[1])
    copies = "The share of the second copy that is predicted, mean over prompts; with the score of each head."
    by_kind = report.Table(*attention_tables.kind_table(scores, window), caption=means)
    copied = report.Table(*attention_tables.copy_table(scores, lengths), caption=copies)
    yield report.Folded("Scores by kind of layer, and how much is copied", [by_kind, copied])
    yield report.Heading("Every head")
    every = [report.Figure(figures.mass_by_distance(scores), "Where attention lies, by how far back the key is.")]
    every.append(report.Figure(figures.heads(scores, "mean_distance"), "On text."))
    for ending, n, where in (("", lengths[0], split.inside), ("_beyond", lengths[1], split.beyond)):
        heads = report.Figure(figures.heads(on_repeats(scores, ending, n), "induction"), REPEATED.format(n, where))
        every.append(heads)
    yield every.pop()
    yield report.Folded("Attention by distance, mean distance, and induction scores inside", every)
    if checks := attention_tables.check_table(scores)[1]:
        yield report.Folded("Exact checks", [report.Table(attention_tables.CHECKED, checks)])
    yield report.Heading(f"Attention patterns across {split.short}")
    drawn: list[report.Block] = list(patterns(measured))
    yield from drawn[:1] or [report.Paragraph(f"None: a prompt that crosses {split.name} is too long for the view.")]
    if drawn[1:]:
        yield report.Folded("More patterns", drawn[1:])


def patterns(measured: Measured) -> Iterator[report.Figure]:
    """The patterns of the most inductive layer of each kind, of models with local layers first."""
    for name, results in sorted(measured.first.items(), key=lambda item: not measured.anatomy(item[0]).windows):
        shown = results.get("patterns", xr.Dataset({"layer": ("group", [])}))
        for layer in dict.fromkeys(map(int, shown["layer"].values)):
            heads = shown.isel(group=shown["layer"].values == layer)
            tokens, labels = heads["token"].values.tolist(), heads["group"].values.tolist()
            span, n = measured.anatomy(name).attention[layer], measured.scope["beyond"]
            best, *_ = top_head(results["beyond"]["induction_beyond"].sel(layer=[layer]))
            yield report.Figure(
                views.attention_view(tokens, heads["pattern"].values, labels, title=name, first=best),
                f"{name}, layer {layer} ({span}): a random sequence of {n} tokens, repeated.",
            )


def _lengths(measured: Measured) -> tuple[int, int]:
    return measured.scope["inside"], measured.scope["beyond"]


STUDY = Study(
    name="local_vs_global",
    question="Where do local and global layers look, and what is copied from far back?",
    title="Local and global attention",
    context=context,
    limits=LIMITS,
    config=Config,
    prepare=prepare,
    parts=parts,
    measure=measure,
    summarise=summarise,
    sections=sections,
    exact_checks=exact_checks,
    seeds="first",
)
