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
from neolens.stats.verdicts import significance
from neolens.studies import Finding, inputs, main, of_estimate, setting, settings
from neolens.studies.study import Measured, Prepared, Study, Summary, TextConfig


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
    """Whether global layers of each model attend farther back than its local ones, over seeds."""
    findings: list[Finding] = []
    claim = "global layers attend farther back than local layers"
    for name, networks in measured.results.items():
        each = [parts["attention"]["mean_distance"].mean(("prompt", "head")) for parts in networks.values()]
        by_kind = xr.concat([distance.groupby("attention_kind").mean() for distance in each], dim="seed")
        kinds = {str(kind): by_kind.sel(attention_kind=kind, drop=True) for kind in by_kind["attention_kind"].values}
        if len(kinds) == 2:
            difference = seeds.paired_difference(kinds["global"], kinds["local"])
            means = ", ".join(f"{kind} layers {float(mean.mean()):.1f}" for kind, mean in kinds.items())
            headline = "" if findings else f"Tokens that {name} attends back, on average: {means}."
            verdict = significance(claim, difference.p)
            findings.append(of_estimate(claim, name, difference, verdict, unit="tokens", headline=headline))
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
