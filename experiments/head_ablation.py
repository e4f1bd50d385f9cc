"""What are local and global heads needed for, near and far?

Where a head looks does not tell whether the network needs it. Here every head, every layer and every kind of layer is
taken out of a model, and the loss is measured on text and on random sequences repeated after n tokens (Olsson et al.
2022), whose answers stand n - 1 tokens back: where local layers see w tokens, they see it up to n = w. Where no model
has local layers, w is an eighth of the shortest context, or less. Ablated heads say their mean over the prompts at each
position (Wang et al. 2022 on why not zero). For n above w they are also only cut off from the keys that lie w or more
tokens back (attention knockout, Geva et al. 2023).

What many heads do together says little before one knows what as many others do: beside each kind stand as many random
heads, spread evenly over all layers. And layers of a kind have their places: a model that is global throughout is asked
for the same layers. Effects come with intervals over prompts, which know of no other weights, so lab/gpt-neo comes with
all its seeds; p of heads are corrected for all heads of a model (max-T, Westfall and Young 1993).

The six lab models take about a minute of one core; a public model of 12 layers and w = 256, by the arithmetic, hours.
Expect that in lab/gpt-neo copying from w or more tokens back needs what global layers read there; that what local
layers do is needed too in some seeds (a head that looks one token back needs no more); and that in the others layers
read so far that are local in lab/gpt-neo.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Annotated, Any

import typer
import xarray as xr
from jaxtyping import Int
from torch import Tensor
from tqdm.auto import tqdm

from experiments import command_line, inputs, settings
from experiments.inputs import Inputs
from neolens import ablate, figures, files, report, results
from neolens.ablation import HOWS, Beyond, continuations
from neolens.ablation.groups import Groups
from neolens.checks import check_choice
from neolens.circuits import need_tables, need_words, needs
from neolens.cli import run_cleanly
from neolens.figures.ablation_beside import heads_beside
from neolens.models import Anatomy
from neolens.near_far import of_anatomies
from neolens.prompts import bos_token, random_repeats, second_copy, token_pool

CHANCE = "Of {} draws and a group that is no different, the group is the largest once in {} times."


@dataclass(frozen=True)
class Config:
    models: tuple[str, ...] = (
        "lab/gpt-neo",
        "lab/gpt-neo@1",
        "lab/gpt-neo@2",
        "lab/gpt-neo-global",
        "lab/gpt2",
        "lab/pythia",
    )
    """Catalogue names, hub ids or folders."""
    text: str | None = None
    """A UTF-8 text file; by default sentences of the lab's synthetic English, or random tokens where a model has no
    tokenizer that reads them."""
    tokens: str | None = None
    """A file of tokens in its place: .npy, .pt, or lines of integers; taken as they are, without BOS before them."""
    ignore_fields: tuple[str, ...] | None = None
    """Unknown fields of config.json that change nothing."""
    out: str = "results/head_ablation"
    """The folder for result.nc, record.json and report.html."""
    how: str = "mean"
    """What takes the place of a head: zero, its mean over the prompts (at each position, or over all of them:
    mean_all_positions), or its output on another prompt (resample)."""
    prompts: int = 16
    """Prompts of text, and random sequences, for each model; a mean wants 8 or more."""
    length: int = 512
    """Tokens a prompt of text, BOS included; less where a context is shorter."""
    draws: int = 19
    """Random controls of each size."""
    seed: int = 0
    """Seed of the text, of the sequences and of the controls."""

    def __post_init__(self) -> None:
        settings.check(self, prompts=2)
        check_choice(self.how, "way to ablate", HOWS)


@dataclass(frozen=True)
class Tokens:
    """One model's prompts: text, and the same random tokens repeated after each n."""

    text: Int[Tensor, "prompt pos"]
    unknown: float
    """The share of the text's tokens that the tokenizer does not know."""
    repeats: Mapping[int, Int[Tensor, "prompt pos"]]
    inputs: Inputs


@dataclass(frozen=True)
class Plan:
    """What is asked of every model, settled before the first is measured; tokens by the model's name."""

    anatomies: tuple[Anatomy, ...]
    window: int
    lengths: tuple[int, ...]
    """The n after which sequences repeat."""
    tokens: Mapping[str, Tokens]

    @property
    def mixed(self) -> Anatomy | None:
        """The first model with layers of both kinds."""
        return next((facts for facts in self.anatomies if len({span.kind for span in facts.attention}) > 1), None)


def plan(config: Config) -> Plan:
    """Check all input; sequences repeat after half a window to three windows, as far as the contexts allow."""
    anatomies = command_line.anatomies(config)
    command_line.one_window(anatomies)
    window, context = inputs.window(config, anatomies), min(facts.context for facts in anatomies)
    longest = (context - 1) // 2
    if longest <= window:
        short = next(facts.name for facts in anatomies if facts.context == context)
        split = of_anatomies(window, anatomies).name
        raise ValueError(f"{short} sees {context} tokens, too few to cross {split}: leave it out")
    asked = (window // 2, window - 1, window, window + 1, 3 * window // 2, 2 * window, 3 * window)
    lengths = tuple(sorted({max(2, min(n, longest)) for n in asked}))
    source = inputs.source(config, anatomies, min(config.length, context))
    command_line.fetched(config)
    tokens = {
        facts.name: tokenize(command_line.load(config, name), source, lengths, config)
        for name, facts in zip(config.models, anatomies)
    }
    return Plan(anatomies, window, lengths, tokens)


def tokenize(model: Any, source: inputs.Source, lengths: tuple[int, ...], config: Config) -> Tokens:
    """The prompts in the model's own tokens, BOS first in each where there is one."""
    text = inputs.read(model, source)
    if len(text.tokens) < 2:
        raise ValueError(
            f"the text fills no 2 prompts of {source.length} tokens of {model.anatomy.name}: give a longer text, or a "
            "smaller --length"
        )
    draw: Any = {"prompts": config.prompts, "seed": config.seed, "prepend_bos": inputs.has_bos(model)}
    repeats = {n: random_repeats(model, n, **draw) for n in lengths}
    left_out = {"continuations": "it has no tokenizer"} if model.tokenizer is None else {}
    return Tokens(
        text.tokens, text.unknown, repeats, inputs.summary(model, text=text, repeats=lengths, left_out=left_out)
    )


def measure(model: Any, config: Config, asked: Plan) -> needs.Needs:
    """The loss without each group, on text and on the second copy of every repeated sequence."""
    facts = model.anatomy
    tokens = asked.tokens[facts.name]
    groups = needs.asked_groups(facts, asked.mixed, draws=config.draws, seed=config.seed)
    how: Any = {"how": config.how, "seed": config.seed, "progress": False}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "the mean is over only")  # the report says so
        text = ablate(model, tokens.text, groups, **how).assign_attrs(unknown=tokens.unknown)
        repeats = needs.by_repeat({n: ablated(model, tokens, n, groups, **how) for n in asked.lengths})
    repeats = repeats.assign_attrs(candidates=len(token_pool(model)))
    beyond: Any = {"how": Beyond(asked.window), "progress": False}
    cut = needs.by_repeat({n: ablated(model, tokens, n, groups, **beyond) for n in asked.lengths})
    split = of_anatomies(asked.window, asked.anatomies, facts.name)
    return replace(needs.needs(facts, text, repeats, cut, asked.window), split=split)


def ablated(model: Any, tokens: Tokens, n: int, groups: Groups, **how: Any) -> xr.Dataset:
    """The loss without each group where the second copy is predicted from the first, all but its first token."""
    return ablate(model, tokens.repeats[n], groups, positions=second_copy(n), **how)


def write(model: Any, config: Config, asked: Plan, groups: Collection[str]) -> list[report.Block]:
    """How the model goes on without each of these groups: in text, and in a sequence repeated beyond the window."""
    tokens, short = asked.tokens[model.anatomy.name], of_anatomies(asked.window, asked.anatomies).short
    if model.tokenizer is None:
        return []
    named = needs.asked_groups(model.anatomy, asked.mixed, draws=1)
    without = {name: named[name] for name in groups}
    some = min(16, tokens.text.shape[1] // 3)
    n = next(n for n in asked.lengths if n >= min(3 * asked.window // 2, asked.lengths[-1]))
    reference = None if config.how == "zero" else tokens.text
    plain, copied = tokens.text[0, : 1 + some], tokens.repeats[n][0, : n + 3]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "the mean is over only")
        text = continued(model, plain, without, how=config.how, reference=reference, new_tokens=some)
    repeat = continued(model, copied, without, how=Beyond(asked.window), new_tokens=min(16, n - 2))
    return [
        report.Paragraph(f"How it goes on in text, as it is and without each group ({config.how} ablation):"),
        text,
        report.Paragraph(f"And in a random sequence that began again after {n} tokens, heads only cut at {short}:"),
        repeat,
    ]


def continued(model: Any, prompt: Int[Tensor, " pos"], groups: Groups, **how: Any) -> report.Block:
    """The continuations of one prompt side by side, or why its tokens cannot be written as text and read again."""
    begins = int(prompt[0]) == bos_token(model.tokenizer, model.anatomy.d_vocab)
    text = model.tokenizer.decode(prompt[1:] if begins else prompt)
    try:
        return report.Code(str(continuations(model, text, groups, prepend_bos=begins, **how)))
    except Exception as error:  # of ours, or a plain one of a tokenizer that cannot read its own text
        return report.Note(
            f"{model.anatomy.name} was not asked for the continuations of {text!r:.60}: {error}", "warning"
        )


def run(config: Config, asked: Plan) -> tuple[dict[str, needs.Needs], dict[str, list[report.Block]]]:
    """Each model in turn: load, measure, let it write, let it go."""
    command_line.choose_threads(asked.anatomies)
    found: dict[str, needs.Needs] = {}
    written: dict[str, list[report.Block]] = {}
    for name, facts in zip(tqdm(config.models, desc="ablating", unit="model"), asked.anatomies):
        model = command_line.load(config, name)
        found[facts.name] = measure(model, config, asked)
        written[facts.name] = write(
            model, config, asked, dict.fromkeys(row.group for row in found[facts.name].compared)
        )
    return found, written


def section(found: needs.Needs) -> list[report.Block]:
    """One model: its heads, its kinds beside random heads, and how far back it finds an answer without them."""
    split = found.near_far
    titles = {"beyond": split.beyond, "cut": f"{split.beyond}, cut there", "inside": split.inside, "text": "on text"}
    titles = {name: title[0].upper() + title[1:] for name, title in titles.items()}
    by_distance: Any = {"groups": need_tables.drawn(found), "window": found.window, "label": split.mark}
    return [
        report.Heading(found.facts.name),
        *(report.Note(text, "finding") for text in need_words.findings(found)),
        report.Figure(heads_beside({title: found.heads[name] for name, title in titles.items()})),
        report.Table(*need_tables.head_table(found), caption=need_tables.HEADS.format(beyond=split.beyond)),
        report.Table(*need_tables.kind_table(found), caption=need_tables.KINDS),
        report.Figure(
            figures.ablation_by_distance(found.repeats, **by_distance), "Sequences of random tokens, repeated."
        ),
        report.Figure(
            figures.ablation_by_distance(found.cut, **by_distance), f"The same, heads only cut at {split.short}."
        ),
        *(
            report.Figure(figures.ablation_groups(found.groups[name]), f"{title}. Random heads: the mean of the draws.")
            for name, title in titles.items()
        ),
    ]


def page(
    config: Config, asked: Plan, found: Mapping[str, needs.Needs], written: Mapping[str, list[report.Block]]
) -> str:
    """The report: what the models side by side need, then each model, and what else differs."""
    return report.page(
        "What heads are needed for",
        [
            *(report.Paragraph(part.replace("\n", " ")) for part in str(__doc__).split("\n\n")[1:]),
            report.Paragraph(CHANCE.format(config.draws, config.draws + 1)),
            *([report.Paragraph(note)] if (note := of_anatomies(asked.window, asked.anatomies).note) else []),
            *(report.Note(text, "finding") for text in need_words.side_by_side(list(found.values()))),
            *(report.Note(text, "warning") for text in all_warnings(asked, found, written)),
            report.Paragraph(f"Text: {inputs.described(readings(asked))}."),
            *(block for name, one in found.items() for block in [*section(one), *written[name]]),
            *report.appendix(asked.anatomies, command_line.command("head_ablation", config)),
        ],
    )


def readings(asked: Plan) -> list[Inputs]:
    """What each model was asked with."""
    return [tokens.inputs for tokens in asked.tokens.values()]


def all_warnings(asked: Plan, found: Mapping[str, needs.Needs], written: Mapping[str, list[report.Block]]) -> list[str]:
    """What is peculiar to the prompts of a model, and what keeps its numbers from meaning what they seem to mean."""
    return [
        *inputs.sentences(readings(asked)),
        *(block.text for blocks in written.values() for block in blocks if isinstance(block, report.Note)),
        *(text for one in found.values() for text in need_words.warnings(one)),
    ]


def record(
    config: Config,
    asked: Plan,
    found: Mapping[str, needs.Needs],
    written: Mapping[str, list[report.Block]],
    seconds: float,
) -> dict[str, Any]:
    """What was asked of which weights with which versions, how long it took, and what was found."""
    side_by_side = need_words.side_by_side(list(found.values()))
    return command_line.record(
        config,
        {name: one.text for name, one in found.items()},
        seconds,
        asked={"window": asked.window, "repeated after": asked.lengths},
        inputs=inputs.record(readings(asked)),
        warnings=all_warnings(asked, found, written),
        findings=[*side_by_side, *(text for one in found.values() for text in need_words.findings(one))],
        compared={name: [asdict(row) for row in one.compared] for name, one in found.items()},
    )


def main(
    names: command_line.Names = None,
    models: command_line.Models = None,
    text: command_line.Text = None,
    tokens: command_line.Tokens = None,
    ignore_fields: command_line.IgnoreFields = None,
    out: command_line.Out = Config.out,
    how: Annotated[str, typer.Option(help="zero, mean, mean_all_positions or resample")] = Config.how,
    prompts: Annotated[int, typer.Option(help="prompts of text, and random sequences, a model")] = Config.prompts,
    length: Annotated[int, typer.Option(help="tokens a prompt of text")] = Config.length,
    draws: Annotated[int, typer.Option(help="random controls of each size")] = Config.draws,
    seed: Annotated[int, typer.Option(help="seed of text, sequences and controls")] = Config.seed,
) -> None:
    """What are local and global heads needed for, near and far?"""
    began = time.perf_counter()
    chosen, ignored = command_line.named(models, names, Config.models), settings.listed(ignore_fields, "fields")
    config = Config(chosen, text, tokens, ignored, out, how, prompts, length, draws, seed)
    asked = plan(config)
    folder = files.claim_folder(out)
    found, written = run(config, asked)
    html = page(config, asked, found, written)
    noted = record(config, asked, found, written, time.perf_counter() - began)
    stacked = results.stack({name: needs.labelled(one) for name, one in found.items()})
    command_line.tell(noted, report.publish(folder, stacked, noted, html))


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    run_cleanly(app)
