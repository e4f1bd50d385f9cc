"""Which heads are induction heads, by pattern and by cause; whether they copy from beyond the window of local layers;
and in training, what forms first?

An induction head attends to what followed an earlier copy of its token (Elhage et al. 2021; Olsson et al. 2022, arXiv
2209.11895). On [BOS, r, r], r of n random tokens, the answer to every prediction is n - 1 tokens back: a layer of
window w sees it up to n = w, and from n = w + 1 not at all. At repeat lengths on both sides every head is scored, and
the heads with the pattern are ablated: each alone, compared with heads of its layer without the pattern, and all at
once, compared with as many random heads (heads back each other up: one alone often costs little).

The sample of a lab model is its seeds: intervals are Student's, p is corrected for all that is tested (Benjamini and
Hochberg 1995). The sample of a single network is its prompts (bootstrap; max-T, Westfall and Young 1993). Where no
model has local layers, w is an eighth of the shortest context or a third of the tokens to draw from, whichever is
smaller.

Training checkpoints are measured at the shortest n, at n = w and at n = w + 1: at which step does the best
previous-token head score 0.4, the best induction head 0.4, do the heads with the pattern cost half a nat per token more
than as many random heads, is half of the second copy predicted? One network of a model has checkpoints, so the order is
that of a network; it is no finer than the checkpoints and belongs to these thresholds.

The lab models take about two minutes of one core.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import xarray as xr
from jaxtyping import Int
from torch import Tensor

from neolens import results
from neolens.models import Anatomy, fetch
from neolens.models.checkpoints import Checkpoint, checkpoints
from neolens.near_far import of_anatomies
from neolens.prompts import random_repeats
from neolens.report import Figure
from neolens.studies import inputs, models, settings
from neolens.studies.induction import findings as induction_findings
from neolens.studies.induction import measure as induction_measure
from neolens.studies.induction.comparisons import comparisons
from neolens.studies.induction.figures import scores_and_copying
from neolens.studies.induction.formation import formations
from neolens.studies.induction.sections import sections
from neolens.studies.induction.summary import Induction, formation_lengths, nearest
from neolens.studies.models import Models
from neolens.studies.settings import MODELS, OUT, setting
from neolens.studies.study import ExactCheck, Measured, Prepared, Study, StudyConfig, Summary


@dataclass(frozen=True, kw_only=True)
class Config(StudyConfig):
    models: tuple[str, ...] = setting(
        ("lab/gpt-neo", "lab/gpt-neo-global", "lab/gpt2", "lab/pythia"),
        MODELS,
    )
    out: str = setting("results/induction", OUT)
    prompts: int = setting(16, "prompts per repeat length, 8 or more", least=settings.ENOUGH)
    seed: int = setting(0, "seed of the prompts")
    lengths: tuple[int, ...] | None = setting(
        None,
        "repeat lengths n, such as 16,17,48; by default w/2, w-1, w, w+1, 3w/2, 2w and 3w, as far as contexts have "
        "room for [BOS, r, r]",
        each_least=induction_measure.LEAST,
    )
    revisions: tuple[str, ...] | None = setting(
        None,
        "training checkpoints, such as step1000,step4000; by default all of lab models and of folders that hold some, "
        "and none of public models",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.lengths is not None:
            settings.update(self, lengths=settings.numbers(self.lengths, "lengths", 1))
        if self.revisions is not None:
            settings.update(self, revisions=settings.words(self.revisions, "revision"))


@dataclass(frozen=True)
class Prompts:
    """What the networks of a model are measured on."""

    repeats: Mapping[int, Int[Tensor, "prompt pos"]]
    """n -> prompts [BOS, r_1..r_n, r_1..r_n]."""
    first: str
    """The network whose training has checkpoints."""
    checkpoints: Mapping[int, Checkpoint]
    """Training step -> what to load; none for most models."""
    at_checkpoints: tuple[int, ...]
    """The n at which checkpoints are measured."""


def prepare(config: Config, models: Models) -> Prepared:
    """Find the checkpoints, and make the prompts of every model in its own tokens."""
    window = inputs.window(models)
    lengths = chosen_lengths(config, window, models.context)
    steps = {facts.name: chosen_checkpoints(name, config) for facts, name in zip(models.anatomies, config.models)}
    if config.revisions is not None and not any(steps.values()):
        raise ValueError(
            f"revisions {', '.join(config.revisions)}: no model here has training checkpoints; lab/gpt2, lab/gpt-neo "
            "and lab/pythia have, and Pythia on the hub"
        )
    for name, revision in (checkpoint for each in steps.values() for checkpoint in each.values()):
        fetch(name, revision=revision, ignore_fields=config.ignore_fields or ())
    prompts, readings = {}, []
    for name, networks in models.networks.items():
        model = models.load(name)
        draw: Any = {"prompts": config.prompts, "seed": config.seed, "prepend_bos": inputs.has_bos(model)}
        repeats = {n: random_repeats(model, n, **draw) for n in lengths}
        prompts[name] = Prompts(repeats, networks[0], steps[name], tuple(formation_lengths(lengths, window)))
        readings.append(inputs.summary(model, repeats=lengths))
    scope = {"window": window, "lengths": lengths, "checkpoints": {name: sorted(each) for name, each in steps.items()}}
    return Prepared(prompts, readings, scope)


def chosen_lengths(config: Config, window: int, context: int) -> tuple[int, ...]:
    """Repeat lengths on both sides of the window, with room for two copies in every context."""
    chosen = induction_measure.lengths(window, context) if config.lengths is None else config.lengths
    nearest(chosen, window)
    if min(chosen) < induction_measure.LEAST or max(chosen) > (context - 1) // 2:
        raise ValueError(
            f"lengths {', '.join(map(str, chosen))}: expected {induction_measure.LEAST} to {(context - 1) // 2}, for "
            f"BOS and two copies have to fit into the context of {context}"
        )
    return chosen


def chosen_checkpoints(name: str, config: Config) -> dict[int, Checkpoint]:
    """The training checkpoints of a model by step, two or more where there are any."""
    found = checkpoints(name, config.revisions)
    if len(found) == 1 and config.revisions is None:
        return {}
    if len(found) == 1:
        raise ValueError(f"revision step{next(iter(found))} alone: give two or more, to see what forms first")
    return found


def of_network(prompts: Prompts, network: str) -> Prompts:
    """Only the first network of a model has checkpoints."""
    return prompts if network == prompts.first else replace(prompts, checkpoints={})


def parts(prompts: Prompts, config: Config) -> list[str]:
    """One per repeat length and per checkpoint, the last step first: its heads are ablated at every step."""
    steps = sorted(prompts.checkpoints, reverse=True)
    return [*(f"length {n}" for n in prompts.repeats), *(f"step {step}" for step in steps)]


def measure(model: Any, prompts: Prompts, config: Config) -> Iterator[tuple[str, xr.Dataset]]:
    """Scores and causes at every repeat length, and at fewer of them at every checkpoint."""
    names = iter(parts(prompts, config))
    for n, tokens in prompts.repeats.items():
        yield next(names), induction_measure.copying(model, {n: tokens})
    repeats, later = {n: prompts.repeats[n] for n in prompts.at_checkpoints}, None
    for step in sorted(prompts.checkpoints, reverse=True):
        result = induction_measure.at_checkpoint(models.load(config, *prompts.checkpoints[step]), repeats, later)
        later = later or induction_measure.holders_by_length(result)
        yield next(names), result


def described(measured: Measured, anatomy: Anatomy) -> Induction:
    """What was measured of one model: all of its networks, and the checkpoints of the first."""
    window, by_seed = measured.scope["window"], measured.results[anatomy.name]
    networks = [
        results.concat([parts[f"length {n}"] for n in measured.scope["lengths"]], "distance")
        for parts in by_seed.values()
    ]
    steps, training = measured.scope["checkpoints"][anatomy.name], None
    if steps:
        training = results.concat([measured.first[anatomy.name][f"step {step}"] for step in steps], "step", steps)
    return Induction(anatomy, window, induction_measure.over_seeds(networks, list(by_seed)), training)


def summarise(measured: Measured) -> Summary:
    """Comparisons across the window and over seeds, and the order of formation."""
    models = [described(measured, anatomy) for anatomy in measured.anatomies]
    tests, formed, joined = comparisons(models), formations(models), {one.name: one.joined for one in models}
    return Summary(
        findings=induction_findings.findings(models, tests, formed),
        figure=Figure(scores_and_copying(joined), FIGURE),
        warnings=induction_findings.warnings(models),
        results=joined,
        content=(models, tests, formed),
    )


def exact_checks(measured: Measured, summary: Summary) -> list[ExactCheck]:
    """A local layer cannot attend to an answer that is out of its reach."""
    claim = "the largest induction score of a local layer where the answer is beyond its window"
    largest = {one.name: one.out_of_reach for one in summary.content[0]}
    return [ExactCheck(claim, value, subject=name) for name, value in largest.items() if value is not None]


def limits(measured: Measured) -> list[str]:
    """What the report does not show of these models."""
    split = of_anatomies(measured.scope["window"], measured.anatomies)
    lines = [CONTROLS, split.note or (LENGTH if any(not one.windows for one in measured.anatomies) else "")]
    return [*filter(None, lines), *([STEPS] if any(measured.scope["checkpoints"].values()) else [])]


CONTEXT = (
    "Prompts repeat random tokens: [BOS, r, r], r of n tokens, so that the token to copy is n - 1 positions back. An "
    "induction head attends to it with a mean probability (induction score) of 0.4 or more in the second copy."
)
FIGURE = "Means over seeds. Right of the dashed line the token to copy is at least as far back as it marks."
CONTROLS = (
    "Control heads are random heads without the pattern; a previous-token head among them costs much, so differences "
    "from them are on the low side."
)
LENGTH = "Where every layer is global, a change with n is due to the length and not to a window."
STEPS = (
    "One network per model has checkpoints: what forms first is that of a network, not of an architecture or position "
    "encoding, and no finer than its checkpoints and these thresholds."
)

STUDY = Study(
    name="induction",
    question="Which heads are induction heads, by pattern and by cause, near and far, and over training?",
    title="Induction heads",
    context=CONTEXT,
    limits=limits,
    config=Config,
    prepare=prepare,
    parts=parts,
    measure=measure,
    summarise=summarise,
    sections=sections,
    exact_checks=exact_checks,
    of_network=of_network,
)
