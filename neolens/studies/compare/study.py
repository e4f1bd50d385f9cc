"""What do local attention layers do that global ones do not, and rotary positions that learned absolute ones do not?

The whole question over any set of models, in one report. Every instrument is asked as its own study asks it, with fewer
distances and no single heads ablated. A lab model is asked with all its seeds, which are the sample: intervals are
Student's over seeds, variants that differ in one thing alone are compared seed by seed, and p is corrected for all
measures that are tested of a question (Benjamini and Hochberg 1995).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from neolens.ablation import each_head
from neolens.models import Anatomy, lab_names
from neolens.prompts import PromptPairs, indirect_object, random_repeats
from neolens.studies import inputs, settings
from neolens.studies.compare.found import TASK
from neolens.studies.compare.measure import Prompts, measure, parts
from neolens.studies.compare.measures import mixed
from neolens.studies.compare.sections import sections
from neolens.studies.compare.summary import exact_checks, summarise
from neolens.studies.head_ablation import summary as need_summary
from neolens.studies.local_vs_global.study import Scope, scope_of, tokenize
from neolens.studies.models import Models
from neolens.studies.rotary_vs_absolute.measure import texts
from neolens.studies.settings import MODELS, OUT, setting
from neolens.studies.study import Measured, Prepared, Study, TextConfig
from neolens.studies.window_reach import measure as reach_measure
from neolens.studies.window_reach.study import plant, wordless
from neolens.wording import count, join

Pairs = TypeVar("Pairs")


def context(measured: Measured) -> str:
    """What was measured, and which models have local layers and which position encoding, in two sentences."""
    networks = sum(map(len, measured.results.values()))
    anatomies = [one for one in measured.anatomies if one.name in measured.results]
    kinds = {"local layers": [one.name for one in anatomies if one.windows]}
    for kind, title in (("rotary", "rotary"), ("absolute", "learned absolute positions"), ("none", "no positions")):
        kinds[title] = [one.name for one in anatomies if one.position.kind == kind]
    which = "; ".join(f"{title}: {join(names)}" for title, names in kinds.items() if names)
    models = count(len(measured.results), "model")
    return f"{count(networks, 'network')} of {models}; estimates are means over seeds. {which[0].upper()}{which[1:]}."


def limits(measured: Measured) -> list[str]:
    """What the report does not show."""
    seeds = max(map(len, measured.results.values()))
    sample = (
        f"With {count(seeds, 'seed')} per model only large differences are significant; a difference that is not "
        "significant is not evidence of equality."
        if seeds > 1
        else "One network per model: nothing here covers variation between trained models."
    )
    lab = "The lab models have 4 layers and one synthetic language: in large models effects may differ."
    small = any(name.startswith("lab/") for name in measured.results)
    return [
        sample,
        "A difference between models that differ in several ways has no single cause.",
        *([lab] if small else []),
    ]


@dataclass(frozen=True, kw_only=True)
class Config(TextConfig):
    models: tuple[str, ...] = setting(tuple(lab_names()), MODELS)
    out: str = setting("results/compare", OUT)
    prompts: int = setting(
        16, "prompts of each kind: text, repeated sequences, planted questions", least=settings.ENOUGH
    )
    draws: int = setting(19, "random controls of each size, beside the layers of a kind")
    seed: int = setting(0, "seed of texts, sequences, questions and controls")


def prepare(config: Config, models: Models) -> Prepared:
    """The prompts of every model in its own tokens."""
    scope = scope_of(config, models)
    prompts, readings = {}, []
    for name in models.networks:
        prompts[name], reading = prompts_of(models.load(name), config, scope, models.anatomies)
        readings.append(reading)
    return Prepared(prompts, readings, {"window": scope.window})


def prompts_of(model: Any, config: Config, scope: Scope, anatomies: Sequence[Anatomy]) -> tuple[Prompts, inputs.Inputs]:
    """The prompts of one model, and which parts do not apply to it."""
    facts: Anatomy = model.anatomy
    tokens = tokenize(model, config, scope)
    if len(tokens.text) < 2:
        raise ValueError(
            f"the text fills no 2 prompts of {scope.source.length} tokens of {facts.name}: give a longer text, or a "
            "smaller --length"
        )
    draw: Any = {"prompts": config.prompts, "seed": config.seed, "prepend_bos": inputs.has_bos(model)}
    groups = need_summary.asked_groups(facts, mixed(anatomies), draws=config.draws, seed=config.seed)
    left_out: dict[str, str] = {}
    planted = _unless_refused(lambda: plant_around(model, config, scope.window), "reach", left_out)
    prompts = Prompts(
        scope.window,
        tokens,
        {n: random_repeats(model, n, **draw) for n in (scope.inside, scope.beyond)},
        texts(model, **draw),
        {name: heads for name, heads in groups.items() if name not in each_head(facts)},
        planted,
        _unless_refused(lambda: indirect_pairs(model, config), "circuit", left_out),
    )
    notes = [] if planted is None else wordless(model, [TASK])
    return prompts, replace(tokens.inputs, sentences=(*tokens.inputs.sentences, *notes), left_out=left_out)


def indirect_pairs(model: Any, config: Config) -> PromptPairs:
    """The indirect object, after a check that the model reads its words.

    Raises:
        ValueError: it does not.
    """
    if reason := inputs.unreadable(model, indirect_object):
        raise ValueError(reason)
    draw: Any = {"seed": config.seed, "prepend_bos": inputs.has_bos(model)}
    return indirect_object(model, config.prompts, corruption="other", **draw)


def plant_around(model: Any, config: Config, window: int) -> Mapping[int, PromptPairs]:
    """An answer on both sides of the window: just inside, just beyond, and farther where there is room."""
    distances = sorted(
        {window - 1, window, 2 * window, 4 * window} & set(reach_measure.distances(window, model.anatomy.context))
    )
    return plant(model, TASK, distances, window, prompts=config.prompts, seed=config.seed)


def _unless_refused(make: Callable[[], Pairs], part: str, left_out: dict[str, str]) -> Pairs | None:
    """The prompts of a part, or None with the reason in `left_out` where the part does not apply to the model."""
    try:
        return make()
    except ValueError as error:
        left_out[part] = str(error)
        return None


STUDY = Study(
    name="compare",
    question=(
        "What do local attention layers do that global ones do not, and rotary positions that learned absolute ones do "
        "not?"
    ),
    title="Local against global attention, rotary against absolute positions",
    context=context,
    limits=limits,
    config=Config,
    prepare=prepare,
    parts=parts,
    measure=measure,
    summarise=summarise,
    sections=sections,
    exact_checks=exact_checks,
)
