"""What does rotary position encoding do that learned absolute positions do not?

A rotation turns queries and keys by the place of their tokens, so that scores depend on how far apart two tokens stand
(Su et al. 2021, arXiv 2104.09864); a learned embedding adds a vector of its own for every place to the residual stream.
Five things are asked of each network. The shift: all position indices move by D, the text stays; what moves? The
Toeplitz share: how much of the scores, tokens averaged out, is a function of distance alone? The heads: which look at
the previous token or at what followed an earlier copy (Olsson et al. 2022), and is that pattern a cause, measured by
ablating them next to random heads of the same layer? What is lost when positions are taken away under the same weights,
and for rotation, which frequencies previous-token heads live on (cf. Barbero et al. 2024, arXiv 2410.06205)? And what
becomes of the loss as a text runs past the context?

Public checkpoints differ in everything at once. The lab's variants lab/gpt2 and lab/pythia-sequential differ in their
positions alone, lab/pythia also in its parallel block, and lab/nope has no positions. Each is asked with all its seeds,
which are the sample: intervals are Student's over seeds, variants are compared seed by seed, p is corrected for every
measure of every pair that is tested (Benjamini and Hochberg 1995); what is exact by construction, or ends at chance
level or at ceiling, is not. Takes half a minute of one core for the lab's twelve networks; in
large models rounding is judged by a copy of the weights in float64. Expect that shifts move absolute models and no
rotary one; that in the first layer of a rotary network scores, averaged over tokens, are a function of distance; and
that both encodings come to previous-token and induction heads that matter.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import xarray as xr

from neolens import figures, report
from neolens.stats.contrasts import contrast_table, recorded
from neolens.studies import inputs, settings
from neolens.studies.models import Models
from neolens.studies.rotary_vs_absolute import measure as position_measure
from neolens.studies.rotary_vs_absolute import text as position_text
from neolens.studies.rotary_vs_absolute.measure import Texts, over_seeds, probe
from neolens.studies.rotary_vs_absolute.summary import Encoding, contrasts
from neolens.studies.rotary_vs_absolute.text import head_table, measure_table
from neolens.studies.settings import MODELS, OUT, setting
from neolens.studies.study import Measured, Prepared, Study, StudyConfig, Summary

MEASURED = (
    "Means over seeds, with Student's 95 % intervals. Best heads are the highest scores of a network. All heads that "
    "hold a role are ablated at once, beside 19 groups of as many heads drawn among all others. Positions are taken "
    "away by the mean of the learned embeddings at every token, or by not rotating. n: seeds, where not all have one."
)
COMPARED = (
    "Differences seed by seed, of variants that differ in their positions alone (of all, where there are none). p: "
    "Student's t, corrected for all rows that have one (Benjamini and Hochberg). A difference between models that "
    "differ besides in something else is not yet an effect of their positions."
)
HEADS = (
    "Heads that hold a role by their pattern, and what mean ablation of each adds to the loss where the second copy is "
    "predicted, next to random other heads of its layer. p: sign flips of prompts, corrected for all heads of the "
    "network that were checked. A pattern is not yet a cause."
)


@dataclass(frozen=True, kw_only=True)
class Config(StudyConfig):
    models: tuple[str, ...] = setting(
        ("lab/gpt2", "lab/pythia-sequential", "lab/pythia", "lab/nope"),
        MODELS,
    )
    out: str = setting("results/rotary_vs_absolute", OUT)
    prompts: int = setting(
        16,
        "prompts of repeated sequences, and eight times as many random ones",
        least=settings.ENOUGH,
    )
    seed: int = setting(0, "seed of the prompts")


def prepare(config: Config, models: Models) -> Prepared:
    """The prompts of every model in its own tokens."""
    texts, readings = {}, []
    for name in models.networks:
        model = models.load(name)
        draw: Any = {"prompts": config.prompts, "seed": config.seed, "prepend_bos": inputs.has_bos(model)}
        texts[name] = position_measure.texts(model, **draw)
        readings.append(inputs.summary(model, repeats=[texts[name].repeats.shape[1] // 2]))
    return Prepared(texts, readings)


def parts(texts: Texts, config: Config) -> list[str]:
    return ["positions"]


def measure(model: Any, texts: Texts, config: Config) -> Iterator[tuple[str, xr.Dataset]]:
    """Every probe of positions."""
    yield "positions", probe(model, texts)


def summarise(measured: Measured) -> Summary:
    """All networks of each model as one, and the differences between variants."""
    found = [
        Encoding(
            measured.anatomy(name),
            over_seeds([parts["positions"] for parts in by_seed.values()], list(by_seed)),
        )
        for name, by_seed in measured.results.items()
    ]
    compared = contrasts(found)
    return Summary(
        findings=position_text.findings(found, compared),
        warnings=position_text.warnings(found),
        results={one.name: one.result for one in found},
        record={"contrasts": [recorded(one) for one in compared]},
        content=(found, compared),
    )


def sections(measured: Measured, summary: Summary) -> list[report.Block]:
    """The measures and their differences, figures, and heads."""
    found, compared = summary.content
    return [
        report.Heading("Measures"),
        report.Table(*measure_table(found), caption=MEASURED),
        report.Table(*contrast_table(compared), caption=COMPARED),
        report.Heading("Figures"),
        *drawn(found),
        report.Heading("Heads"),
        report.Table(*head_table(found), caption=HEADS),
    ]


def drawn(found: Sequence[Encoding]) -> list[report.Block]:
    """The figures, those that there is something to draw in."""
    by_name = {one.name: one.result for one in found}
    holding = {
        figures.shift_by_distance: "shift_logits",
        figures.toeplitz_shares: "toeplitz_share",
        figures.distance_kernels: "kernel",
        figures.pattern_and_cause: "more",
        figures.band_shares: "taken_away",
        figures.loss_beyond: "loss_beyond",
    }
    made = [
        draw(by_name) for draw, variable in holding.items() if any(variable in result for result in by_name.values())
    ]
    return [report.Figure(one) for one in made if len(figures.data(one))]


STUDY = Study(
    name="rotary_vs_absolute",
    question="What does rotary position encoding do that learned absolute positions do not?",
    title="Rotary against absolute positions",
    introduction="\n\n".join(str(__doc__).split("\n\n")[1:]),
    config=Config,
    prepare=prepare,
    parts=parts,
    measure=measure,
    summarise=summarise,
    sections=sections,
    asks_about="position",
)
