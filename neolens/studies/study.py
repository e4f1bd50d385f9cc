"""A study: one question about models, declared as a record of plain functions that `neolens.studies.runner` executes.

The runner loads models, measures network by network, saves, resumes and reports. A study says what it asks: which
prompts each model gets (`prepare`), what is measured of one network (`measure`), what follows from the results of all
networks (`summarise`), and what the report draws (`sections`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import xarray as xr

from neolens.models import Anatomy
from neolens.report import Block
from neolens.studies import settings
from neolens.studies.finding import Finding, StudyWarning
from neolens.studies.inputs import Inputs
from neolens.studies.settings import setting

Results = Mapping[str, Mapping[int, Mapping[str, xr.Dataset]]]
"""Model -> seed -> part -> result."""


@dataclass(frozen=True, kw_only=True)
class StudyConfig:
    """The settings that all studies have; each adds its own, with its help, by `setting`."""

    models: tuple[str, ...] = setting((), settings.MODELS)
    ignore_fields: tuple[str, ...] | None = setting(None, "fields of config.json that change nothing, such as a,b")
    out: str = setting("results", settings.OUT)
    device: str | None = setting(None, "torch device; by default the GPU if there is one")
    dtype: str | None = setting(None, "float32, bfloat16, float16 or float64; by default float32")
    threads: int | None = setting(None, "CPU threads; by default one for small models, else all", least=1, most=1024)

    def __post_init__(self) -> None:
        settings.check(self)


@dataclass(frozen=True, kw_only=True)
class TextConfig(StudyConfig):
    """The settings of studies that read a text."""

    text: str | None = setting(
        None,
        "a UTF-8 text file; by default sentences of the lab's synthetic English, or random tokens where a model has no "
        "tokenizer that reads them",
    )
    tokens: str | None = setting(
        None, "a file of tokens in its place: .npy, .pt, or lines of integers; taken as they are, without BOS"
    )
    prompts: int = setting(8, "prompts of text for each model; fewer where the text is short")
    length: int = setting(512, "tokens per prompt of text, BOS included; less where a context is shorter")
    seed: int = setting(0, "seed of the text")


@dataclass(frozen=True)
class Prepared:
    """What is measured, settled before the first measurement."""

    prompts: Mapping[str, Any]
    """Model -> what its networks are measured on; models that cannot be measured are left out."""
    inputs: Sequence[Inputs] = ()
    """What is peculiar to the prompts of each model."""
    scope: Mapping[str, Any] = field(default_factory=dict)
    """What holds for all models and is saved in the record, such as the window."""


@dataclass(frozen=True)
class Measured:
    """The results of all networks, as saved; everything that a report says comes from here."""

    config: Any
    anatomies: tuple[Anatomy, ...]
    """Of all models, also those that were not measured."""
    results: Results
    scope: Mapping[str, Any]
    """`Prepared.scope`."""
    inputs: Mapping[str, Any]
    """Model -> what it was measured on, as in the record."""
    notes: Sequence[str]
    """Sentences on what is peculiar to the prompts of each model."""
    command: str = ""
    """The command that repeats this."""

    def anatomy(self, model: str) -> Anatomy:
        """The anatomy of a model of this name."""
        return next(facts for facts in self.anatomies if facts.name == model)

    @property
    def first(self) -> dict[str, Mapping[str, xr.Dataset]]:
        """Model -> the parts of its first network."""
        return {name: next(iter(by_seed.values())) for name, by_seed in self.results.items()}


@dataclass(frozen=True)
class ExactCheck:
    """A value that has to be exactly 0, or must not be 0; one that fails fails the run."""

    claim: str
    value: float
    zero: bool = True
    subject: str = ""
    """The model."""

    @property
    def passes(self) -> bool:
        return self.value == self.value and (self.value == 0) is self.zero


@dataclass(frozen=True)
class Summary:
    """What follows from the results."""

    findings: Sequence[Finding] = ()
    """The most important ones of each question first, the first with the headline."""
    figure: Block | None = None
    """The figure that shows the answer, for the first screen."""
    warnings: Sequence[StudyWarning] = ()
    results: Mapping[str, xr.Dataset] = field(default_factory=dict)
    """Model -> one result of all its networks, for `result.nc`; empty where a study has none."""
    record: Mapping[str, Any] = field(default_factory=dict)
    """What else the record holds."""
    content: Any = None
    """What the sections draw."""


def _no_checks(measured: Measured, summary: Summary) -> Iterable[ExactCheck]:
    return ()


def _one_part(prompts: Any, config: Any) -> Sequence[str]:
    return ("",)


def _same(prompts: Any, network: str) -> Any:
    return prompts


@dataclass(frozen=True)
class Study:
    """One question about models."""

    name: str
    question: str
    """One sentence."""
    config: type[StudyConfig]
    prepare: Callable[[Any, Any], Prepared]
    """From the config and the `neolens.studies.models.Models`; checks everything that the models allow to check."""
    measure: Callable[[Any, Any, Any], Iterable[tuple[str, xr.Dataset]]]
    """From a model, its prompts and the config: the name and the result of each part."""
    summarise: Callable[[Measured], Summary]
    sections: Callable[[Measured, Summary], Iterable[Block]]
    title: str | Callable[[Measured], str] = ""
    """Of the report; by default the question."""
    context: str | Callable[[Measured], str] = ""
    """What was measured, in at most two sentences."""
    limits: Sequence[str] | Callable[[Measured], Sequence[str]] = ()
    """What the report does not show, at most three lines."""
    parts: Callable[[Any, Any], Sequence[str]] = _one_part
    """From the prompts of a model and the config: the names of all parts, in order, of which the progress bar counts
    each; one unless given."""
    exact_checks: Callable[[Measured, Summary], Iterable[ExactCheck]] = _no_checks
    of_network: Callable[[Any, str], Any] = _same
    """From the prompts of a model and the name of a network: what this network is measured on, where networks differ.
    """
    seeds: Literal["all", "first"] = "all"
    """What a lab name without a seed stands for: all seeds of the variant, or seed 0."""
    asks_about: Literal["attention", "position"] = "attention"
    """What is compared; other differences between the models are confounds."""
