"""How far back do local and global layers look, on a text of your own?

    python -m experiments.my_question --models gpt-neo-125M --text my_text.txt

A study of your own in one file: copy it and change what is measured. Options, several seeds, saved results, `--resume`,
`--from`, the record and the page around your sections come from the runner.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import xarray as xr

from neolens import attention, figures, report
from neolens.stats import seeds
from neolens.studies import Measured, Prepared, Study, Summary, TextConfig, inputs, main, setting, settings


@dataclass(frozen=True, kw_only=True)
class Config(TextConfig):
    models: tuple[str, ...] = setting(("lab/gpt-neo",), settings.MODELS)
    out: str = setting("results/my_question", settings.OUT)


def prepare(config: Config, models: Any) -> Prepared:
    """The text in the tokens of each model."""
    source = inputs.source(config, models.anatomies, min(config.length, models.context))
    prompts, readings = {}, []
    for name in models.networks:
        model = models.load(name)
        text = inputs.read(model, source)
        prompts[name] = text.tokens
        readings.append(inputs.summary(model, text=text))
    return Prepared(prompts, readings)


def measure(model: Any, tokens: Any, config: Config) -> Iterator[tuple[str, xr.Dataset]]:
    """The mean distance between query and key of every head."""
    yield "attention", attention(model, tokens, scores=["mean_distance"])


def summarise(measured: Measured) -> Summary:
    """The mean over heads and prompts for each kind of layer, with its interval over seeds."""
    findings = []
    for name, networks in measured.results.items():
        each = [parts["attention"]["mean_distance"].mean(("prompt", "head")) for parts in networks.values()]
        by_kind = xr.concat([distance.groupby("attention_kind").mean() for distance in each], dim="seed")
        for kind in by_kind["attention_kind"].values.tolist():
            mean = seeds.mean_ci(by_kind.sel(attention_kind=kind).values)
            findings.append(f"{name}: {kind} layers look {seeds.format_estimate(mean, '.1f')} tokens back on average.")
    return Summary(findings)


def sections(measured: Measured, summary: Summary) -> Iterator[report.Block]:
    """One figure."""
    scores = {name: parts["attention"] for name, parts in measured.first.items()}
    yield report.Heading("Every head")
    yield report.Figure(figures.heads(scores, "mean_distance"), "The first network of each model.")


STUDY = Study(
    name="my_question",
    question="How far back do local and global layers look, on a text of your own?",
    config=Config,
    prepare=prepare,
    measure=measure,
    summarise=summarise,
    sections=sections,
)

if __name__ == "__main__":
    main(STUDY)
