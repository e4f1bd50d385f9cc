"""What are local and global heads needed for, near and far?

Every head, every layer and every kind of layer is ablated, and the loss is measured on text and on random sequences
repeated after n tokens (Olsson et al. 2022), whose answers are n - 1 tokens back: where local layers see w tokens, they
see the answer up to n = w. Where no model has local layers, w is an eighth of the shortest context, or less. Ablated
heads output their mean over the prompts at each position (Wang et al. 2022 on why not zero). For n above w heads are
also only masked at keys w or more tokens back (attention knockout, Geva et al. 2023).

An effect of many heads means little without that of as many others: each kind is compared with as many random heads,
drawn evenly from all layers. Layers of a kind also have a position in the network: in a model that is global
throughout, the same layers are ablated. Effects have intervals over prompts, which do not cover other weights, so
lab/gpt-neo is measured with all its seeds; p of heads are corrected for all heads of a model (max-T, Westfall and Young
1993).

The six lab models take about a minute of one core; a public model of 12 layers and w = 256 takes hours (estimated).
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Int
from torch import Tensor

from neolens import report, results
from neolens.ablation import HOWS, Beyond, ablate, continuations
from neolens.ablation.groups import Groups
from neolens.checks import check_choice
from neolens.models import Anatomy
from neolens.near_far import of_anatomies
from neolens.prompts import bos_token, random_repeats, second_copy, token_pool
from neolens.studies import inputs
from neolens.studies.finding import StudyWarning
from neolens.studies.head_ablation import findings as need_findings
from neolens.studies.head_ablation import summary as need_summary
from neolens.studies.head_ablation.comparisons import masked_effects
from neolens.studies.head_ablation.figures import kinds_beside_random
from neolens.studies.head_ablation.sections import sections
from neolens.studies.models import Models
from neolens.studies.settings import MODELS, OUT, setting
from neolens.studies.study import ExactCheck, Measured, Prepared, Study, Summary, TextConfig

WRITTEN = "continuations"
"""The part that only a model with a tokenizer has."""

LENGTHS = "repeated after"
"""What the scope of the record has of the random sequences."""

FAR = "Far: the answer is beyond the window; masked: heads only lose the keys there. Random heads: mean and range."

CONTEXT = (
    "The heads of each kind of layer, and as many random heads, are ablated ({how}) or masked at far keys. The loss is "
    "measured on text and on copies: random tokens repeated after {first} to {last}; far is beyond {split}."
)
LIMITS = (
    "Intervals and p values are over prompts: they do not cover variation between trained models.",
    "Where a loss ends at chance level nothing is copied any more: such effects are lower bounds and do not rank.",
    "Ablating a kind of layer does not separate its attention span from its position in the network.",
)


@dataclass(frozen=True, kw_only=True)
class Config(TextConfig):
    models: tuple[str, ...] = setting(
        ("lab/gpt-neo", "lab/gpt-neo@1", "lab/gpt-neo@2", "lab/gpt-neo-global", "lab/gpt2", "lab/pythia"),
        MODELS,
    )
    out: str = setting("results/head_ablation", OUT)
    how: str = setting(
        "mean",
        "what takes the place of a head: zero, its mean over the prompts (mean: at each position; mean_all_positions: "
        "over all of them), or its output on another prompt (resample)",
    )
    prompts: int = setting(16, "prompts of text, and random sequences, per model; a mean needs 8 or more", least=2)
    draws: int = setting(19, "random controls of each size")
    seed: int = setting(0, "seed of the text, of the sequences and of the controls")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice(self.how, "way to ablate", HOWS)


@dataclass(frozen=True)
class Prompts:
    """What a model is measured on: text, and the same random tokens repeated after each n."""

    text: Int[Tensor, "text text_pos"]
    unknown: float
    """The share of the text's tokens that the tokenizer does not know."""
    repeats: Mapping[int, Int[Tensor, "prompt pos"]]
    window: int
    mixed: Anatomy | None
    """The first model with layers of both kinds."""
    writes: bool
    """Whether the model has a tokenizer."""


def prepare(config: Config, models: Models) -> Prepared:
    """The prompts of every model; sequences repeat after half a window to three windows, as far as contexts allow."""
    anatomies, window, context = models.anatomies, inputs.window(models), models.context
    longest = (context - 1) // 2
    if longest <= window:
        short = next(facts.name for facts in anatomies if facts.context == context)
        split = of_anatomies(window, anatomies).name
        raise ValueError(f"{short} sees {context} tokens, too few to cross {split}: leave it out")
    chosen = (window // 2, window - 1, window, window + 1, 3 * window // 2, 2 * window, 3 * window)
    lengths = sorted({max(2, min(n, longest)) for n in chosen})
    source = inputs.source(config, anatomies, min(config.length, context))
    mixed = next((facts for facts in anatomies if len({span.kind for span in facts.attention}) > 1), None)
    prompts, readings = {}, []
    for name in models.networks:
        model = models.load(name)
        text = read(model, source)
        draw: Any = {"prompts": config.prompts, "seed": config.seed, "prepend_bos": inputs.has_bos(model)}
        repeats = {n: random_repeats(model, n, **draw) for n in lengths}
        writes = model.tokenizer is not None
        left_out = {} if writes else {WRITTEN: "it has no tokenizer"}
        readings.append(inputs.summary(model, text=text, repeats=lengths, left_out=left_out))
        prompts[name] = Prompts(text.tokens, text.unknown, repeats, window, mixed, writes)
    return Prepared(prompts, readings, {"window": window, LENGTHS: lengths})


def read(model: Any, source: inputs.Source) -> inputs.Text:
    """The prompts of text in the model's own tokens, BOS first in each where there is one."""
    text = inputs.read(model, source)
    if len(text.tokens) < 2:
        raise ValueError(
            f"the text fills no 2 prompts of {source.length} tokens of {model.anatomy.name}: give a longer text, or a "
            "smaller --length"
        )
    return text


def parts(prompts: Prompts, config: Config) -> list[str]:
    """The text, every repeat length with heads ablated and with heads masked, and continuations."""
    repeats = [f"{name} {n}" for name in ("ablated", "masked") for n in prompts.repeats]
    return ["text", *repeats, *([WRITTEN] if prompts.writes else [])]


def measure(model: Any, prompts: Prompts, config: Config) -> Iterator[tuple[str, xr.Dataset]]:
    """The loss without each group, on text and on the second copy of every repeated sequence; continuations."""
    groups = need_summary.asked_groups(model.anatomy, prompts.mixed, draws=config.draws, seed=config.seed)
    how: Any = {"how": config.how, "seed": config.seed}
    text = loss_without(model, prompts.text, groups, **how)
    yield "text", text.assign_attrs(unknown=prompts.unknown)
    candidates = len(token_pool(model))
    for name, way in (("ablated", how), ("masked", {"how": Beyond(prompts.window)})):
        for n, tokens in prompts.repeats.items():
            loss = loss_without(model, tokens, groups, positions=second_copy(n), **way)
            yield f"{name} {n}", need_summary.by_repeat({n: loss}).assign_attrs(candidates=candidates)
    if prompts.writes:
        named = need_summary.asked_groups(model.anatomy, prompts.mixed, draws=1)
        without = {name: named[name] for name in need_summary.compared_groups(text, model.anatomy)}
        yield WRITTEN, written(model, prompts, without, config)


def loss_without(model: Any, tokens: Int[Tensor, "prompt pos"], groups: Groups, **how: Any) -> xr.Dataset:
    """`neolens.ablate`; where prompts are few, the report says so."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "the mean is over only")
        return ablate(model, tokens, groups, progress=False, **how)


def written(model: Any, prompts: Prompts, groups: Groups, config: Config) -> xr.Dataset:
    """How the model continues a text, and a sequence repeated beyond the window, without each of these groups.

    Returns:
        By part, text and repeat: `continuations`, side by side, and `failure`, why there are none; both as JSON, since
        a netCDF file does not hold every character.
    """
    lengths, window = list(prompts.repeats), prompts.window
    new = min(16, prompts.text.shape[1] // 3)
    n = next(n for n in lengths if n >= min(3 * window // 2, lengths[-1]))
    how: Any = {"how": config.how, "reference": None if config.how == "zero" else prompts.text}
    both = [
        continued(model, prompts.text[0, : 1 + new], groups, new_tokens=new, **how),
        continued(model, prompts.repeats[n][0, : n + 3], groups, new_tokens=min(16, n - 2), how=Beyond(window)),
    ]
    texts, failures = ([json.dumps(each) for each in column] for column in zip(*both))
    variables = {"continuations": ("part", texts), "failure": ("part", failures)}
    return xr.Dataset(variables, coords={"part": ["text", "repeat"]}, attrs={"n": n})


def continued(model: Any, prompt: Int[Tensor, " pos"], groups: Groups, **how: Any) -> tuple[str, str]:
    """The continuations of one prompt side by side, or why its tokens cannot be written as text and read again."""
    begins = int(prompt[0]) == bos_token(model.tokenizer, model.anatomy.d_vocab)
    text = model.tokenizer.decode(prompt[1:] if begins else prompt)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "the mean is over only")
            return str(continuations(model, text, groups, prepend_bos=begins, **how)), ""
    except Exception as error:  # of ours, or a plain one of a tokenizer that cannot read its own text
        return "", f"{model.anatomy.name} was not asked for the continuations of {text!r:.60}: {error}"


def described(measured: Measured, facts: Anatomy) -> need_summary.Needs:
    """What one model needs its heads for."""
    saved, window = measured.first[facts.name], measured.scope["window"]
    repeats, masked = (
        results.concat([saved[f"{name} {n}"] for n in measured.scope[LENGTHS]], "distance")
        for name in ("ablated", "masked")
    )
    split = of_anatomies(window, measured.anatomies, facts.name)
    return replace(need_summary.needs(facts, saved["text"], repeats, masked, window), split=split)


def summarise(measured: Measured) -> Summary:
    """What each model needs its heads for; the figure is that of the first model with local layers."""
    needs = {facts.name: described(measured, facts) for facts in measured.anatomies}
    failures = [
        StudyWarning(name, "no continuations", failure)
        for name, saved in measured.first.items()
        if WRITTEN in saved
        for failure in map(json.loads, saved[WRITTEN]["failure"].values.tolist())
        if failure
    ]
    first = min(needs.values(), key=lambda one: not one.facts.layers_of_kind("local"))
    return Summary(
        findings=need_findings.findings(list(needs.values())),
        figure=report.Figure(kinds_beside_random({first.facts.name: first}), f"{first.facts.name}. {FAR}"),
        warnings=[*failures, *(warning for one in needs.values() for warning in need_findings.warnings(one))],
        results={name: need_summary.labelled(one) for name, one in needs.items()},
        record={"compared": {name: [asdict(row) for row in one.compared] for name, one in needs.items()}},
        content=needs,
    )


def context(measured: Measured) -> str:
    """What was ablated, and on what the loss was measured."""
    lengths, split = measured.scope[LENGTHS], of_anatomies(measured.scope["window"], measured.anatomies)
    return CONTEXT.format(how=measured.config.how, first=lengths[0], last=lengths[-1], split=split.name)


def exact_checks(measured: Measured, summary: Summary) -> list[ExactCheck]:
    """Masking changes nothing for heads that see no farther than the window."""
    checks = []
    for name, one in summary.content.items():
        if effects := masked_effects(one.heads["cut"], one.facts, one.window):
            claim = f"the largest effect of masking a local head at keys {one.window} or more tokens back"
            checks.append(ExactCheck(claim, float(np.abs(effects).max()), subject=name))
    return checks


STUDY = Study(
    name="head_ablation",
    question="What are local and global heads needed for, near and far?",
    title="What heads are needed for",
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
