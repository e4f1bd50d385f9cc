"""Does an answer from far back arrive, and which layers bring it, in one hop or in several?

A question is planted whose answer is a chosen distance back, on both sides of what a local layer reaches: a word of a
sequence that repeats (induction, Olsson et al. 2022), the receiver of a gift (Wang et al. 2022), the value of a key.
Corrupted, another word is in place of the answer and nothing else differs, so everything that patching moves is the
effect of this one word, the source; the corruptions of the published tasks change more, or something nearer.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import xarray as xr

from neolens import results
from neolens.near_far import NearFar, of_anatomies
from neolens.prompts import PromptPairs
from neolens.prompts.tokenizing import vocabulary_fingerprint
from neolens.studies import inputs, settings
from neolens.studies.models import Models
from neolens.studies.own_pairs import check_file, pairs_setting
from neolens.studies.settings import MODELS, OUT, setting
from neolens.studies.study import Measured, Prepared, Study, StudyConfig, Summary
from neolens.studies.window_reach import findings as reach_findings
from neolens.studies.window_reach import measure as reach_measure
from neolens.studies.window_reach import own_prompts
from neolens.studies.window_reach import summary as reach_summary
from neolens.studies.window_reach.measure import TASKS, WORDLESS_TASKS, Tasks, at_distances, of_all_tasks
from neolens.studies.window_reach.sections import first_figure, sections, split_of, title
from neolens.studies.window_reach.summary import Carriers


@dataclass(frozen=True, kw_only=True)
class Config(StudyConfig):
    models: tuple[str, ...] = setting(
        ("lab/gpt-neo", "lab/gpt-neo-global", "lab/gpt2", "lab/pythia"),
        MODELS,
    )
    out: str = setting("results/window_reach", OUT)
    prompts: int = setting(16, "prompts per task and distance, 8 or more", least=settings.ENOUGH, replaced_by="pairs")
    seed: int = setting(0, "seed of the prompts", replaced_by="pairs")
    tasks: tuple[str, ...] = setting(tuple(TASKS), "some of induction,indirect_object,recall", replaced_by="pairs")
    distances: tuple[int, ...] | None = setting(
        None,
        "tokens back, such as 15,16,64; by default w-2, w-1, w, w+1, w+2, 2w and 4w, as far as contexts have room",
        replaced_by="pairs",
    )
    pairs: str | None = pairs_setting("prompts, seed, tasks and distances; the prompts of a pair differ in one token")

    def __post_init__(self) -> None:
        super().__post_init__()
        settings.update(self, tasks=settings.words(self.tasks, "task", TASKS))
        if self.distances is not None:
            settings.update(self, distances=settings.numbers(self.distances, "distances", 1))


@dataclass(frozen=True)
class Planted:
    """What the networks of a model are measured on."""

    window: int
    pairs: Mapping[str, Mapping[int, PromptPairs]]
    """Task -> distance -> prompts."""


def prepare(config: Config, models: Models) -> Prepared:
    """Plant every question in the tokens of every model."""
    if config.pairs is not None:
        return prepare_own(config.pairs, models)
    window = inputs.window(models)
    distances = chosen_distances(config, of_anatomies(window, models.anatomies), models.context)
    by_language: dict[Any, tuple[dict[str, dict[int, PromptPairs]], dict[str, str]]] = {}
    planted, readings = {}, []
    for facts in models.anatomies:
        model = models.load(facts.name)
        key = language(model)
        if key not in by_language:
            by_language[key] = plant_all(model, distances, window, config)
        pairs, left_out = by_language[key]
        readings.append(inputs.summary(model, left_out=left_out, notes=wordless(model, pairs)))
        if pairs:
            planted[facts.name] = Planted(window, pairs)
    return Prepared(planted, readings, {"window": window})


def chosen_distances(config: Config, split: NearFar, context: int) -> tuple[int, ...]:
    """Distances on both sides of what a restricted layer sees, within the shortest context."""
    chosen = reach_measure.distances(split.tokens, context) if config.distances is None else config.distances
    check_distances(chosen, split, context)
    return chosen


def check_distances(chosen: Sequence[int], split: NearFar, context: int, where: str = "") -> None:
    """Check that some are on each side of what a restricted layer sees."""
    if not chosen or min(chosen) >= split.tokens or not split.tokens <= max(chosen) < context:
        raise ValueError(
            f"{where}distances {', '.join(map(str, chosen))}: expected some on both sides of {split.name}, below the "
            f"context of {context}"
        )


def prepare_own(path: str, models: Models) -> Prepared:
    """The pairs of a user's own as one task, in the tokens of every model."""
    check_file(path)
    window = inputs.window(models)
    planted, readings = {}, []
    for facts in models.anatomies:
        model = models.load(facts.name)
        pairs = own_prompts.own_pairs(model, path)
        split = of_anatomies(window, models.anatomies)
        check_distances(list(pairs), split, facts.context, f"{facts.name}: {path} has ")
        readings.append(inputs.summary(model))
        planted[facts.name] = Planted(window, {own_prompts.TASK: pairs})
    return Prepared(planted, readings, {"window": window})


def language(model: Any) -> tuple[str, int, int]:
    """What models that get the same prompts have in common: their tokens and how many they take."""
    tokenizer, facts = model.tokenizer, model.anatomy
    vocabulary = facts.name if tokenizer is None else vocabulary_fingerprint(tokenizer)
    return vocabulary, facts.d_vocab, facts.context


def plant_all(
    model: Any, distances: tuple[int, ...], window: int, config: Config
) -> tuple[dict[str, dict[int, PromptPairs]], dict[str, str]]:
    """Every task that the model can do, and why it cannot do the others."""
    pairs: dict[str, dict[int, PromptPairs]] = {}
    left_out: dict[str, str] = {}
    named, draw = config.distances is not None, {"prompts": config.prompts, "seed": config.seed}
    for task in config.tasks:
        _, reason = stated(model, task)
        try:
            if reason is None:
                pairs[task] = plant(model, task, distances, window, all_distances=named, **draw)
        except ValueError as error:
            if named:
                raise
            reason = str(error.__cause__)
        if reason is not None:
            left_out[task.replace("_", " ")] = reason
    return pairs, left_out


def stated(model: Any, task: str) -> tuple[Tasks, str | None]:
    """How a model is asked for a task, in words or else in random tokens, and why it cannot be asked in either."""
    reason = inputs.unreadable(model, TASKS[task][0])
    if reason is None or task not in WORDLESS_TASKS:
        return TASKS, reason
    return WORDLESS_TASKS, inputs.undrawable(model, WORDLESS_TASKS[task][0])


def wordless(model: Any, tasks: Collection[str]) -> list[str]:
    """Which of its tasks a model is asked for in random tokens, and why."""
    return [
        f"{model.anatomy.name} was asked for {task} in random tokens, not in words: "
        f"{inputs.unreadable(model, TASKS[task][0])}."
        for task in tasks
        if stated(model, task)[0] is WORDLESS_TASKS
    ]


def plant(
    model: Any,
    task: str,
    distances: Sequence[int],
    window: int,
    *,
    prompts: int,
    seed: int,
    all_distances: bool = False,
) -> dict[int, PromptPairs]:
    """One task at every distance that it has room for.

    Args:
        all_distances: refuse a distance without room; by default it is left out.

    Raises:
        ValueError: a distance without room, or none that has room on one side of the window.
    """
    pairs: dict[int, PromptPairs] = {}
    refused: ValueError | None = None
    how: Any = {"tasks": stated(model, task)[0], "prepend_bos": inputs.has_bos(model)}
    for distance in distances:
        try:
            pairs[distance] = reach_measure.planted(model, task, distance, prompts, seed, **how)
        except ValueError as error:
            refused = error
    on_both_sides = bool(pairs) and min(pairs) < window <= max(pairs)
    if refused is not None and (all_distances or not on_both_sides):
        raise ValueError(f"{model.anatomy.name}: {refused}") from refused
    return pairs


def parts(planted: Planted, config: Config) -> list[str]:
    return list(planted.pairs)


def measure(model: Any, planted: Planted, config: Config) -> Iterator[tuple[str, xr.Dataset]]:
    """Each task at every distance."""
    for task, pairs in planted.pairs.items():
        yield task, at_distances([model], pairs, planted.window)


def summarise(measured: Measured) -> Summary:
    """Which layers are needed, of each network and distance."""
    window = measured.scope["window"]
    carriers: dict[str, Carriers] = {}
    for name, by_seed in measured.results.items():
        tasks = next(iter(by_seed.values()))
        by_task = {
            task: results.concat([each[task] for each in by_seed.values()], "seed", list(by_seed)) for task in tasks
        }
        carriers[name] = reach_summary.carriers(name, by_task, of_anatomies(window, measured.anatomies, name))
    return Summary(
        findings=reach_findings.findings(list(carriers.values())),
        warnings=[warning for each in carriers.values() for warning in reach_findings.warnings(each)],
        figure=first_figure(carriers),
        results={name: of_all_tasks(each.results) for name, each in carriers.items()},
        content=carriers,
    )


def context(measured: Measured) -> str:
    """The prompts, and what is changed."""
    split, file = split_of(measured), measured.config.pairs
    return (PLANTED if file is None else OWN).format(name=split.name, short=split.short, file=file)


PLANTED = (
    "An answer is planted in the prompt at distances on both sides of {name}; replacing it by another word, the only "
    "change, gives the effect of this source token on the logit difference. A layer is needed where restricting it to "
    "{short}, under the same weights, removes 10% or more of the effect, significantly in that network at that "
    "distance."
)
OWN = (
    "The prompts are those of {file}: pairs that differ in one token, the source, at distances on both sides of {name} "
    "from the last token; the logit difference less that of the corrupted prompt is the effect of this source token. A "
    "layer is needed where restricting it to {short}, under the same weights, removes 10% or more of the effect, "
    "significantly in that network at that distance."
)
LIMITS = (
    "Intervals and p of layers are over prompts of one network: they do not cover variation between trained models. A "
    "finding about several networks or distances has the numbers of the case that supports it least.",
    "Tasks and distances of one network are not independent cases.",
    "A layer that is not needed can still contribute where another one replaces it.",
)

STUDY = Study(
    name="window_reach",
    question="Does an answer from far back arrive, and which layers bring it, in one hop or in several?",
    title=title,
    context=context,
    limits=LIMITS,
    config=Config,
    prepare=prepare,
    parts=parts,
    measure=measure,
    summarise=summarise,
    sections=sections,
)
