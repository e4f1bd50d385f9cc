"""Every figure of the package, drawn from what the functions of the package return on the lab's networks.

`FIGURES` names each with what is measured for it and what draws it; both are asked once a session.
"""

import functools
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import plotly.graph_objects as go
import torch
import xarray as xr

import neolens
from neolens import figures, position
from neolens.ablation import effect, random_like
from neolens.ablation.effects import by_distance
from neolens.lab.evaluation.curves import curves
from neolens.models.checkpoints import checkpoints
from neolens.prompts import indirect_object, random_repeats, random_tokens
from neolens.stats import seeds
from neolens.stats.contrasts import Contrast, Measure, Variant, contrasts
from neolens.studies.induction import figures as induction_figures
from neolens.studies.induction import formation_figures
from neolens.studies.induction.measure import copying, over_seeds, over_training
from neolens.studies.induction.summary import Induction
from neolens.studies.rotary_vs_absolute import measure as position_measure
from neolens.studies.rotary_vs_absolute.measure import texts
from neolens.studies.window_reach.measure import at_distances, planted

HOMES = (figures, induction_figures, formation_figures)
"""The modules with figures: those of all results, and those that belong to a study."""

HOSTILE = "</script><img src=x onerror=alert(1)> <b>$x$ &lt;"
ABSOLUTE, LOCAL, ROTARY, NONE = "lab/gpt2", "lab/gpt-neo", "lab/pythia", "lab/nope"

load = functools.cache(neolens.load)


@functools.cache
def repeats(n: int = 16, prompts: int = 4) -> torch.Tensor:
    return random_repeats(load(ABSOLUTE), n, prompts=prompts)


def of_each(ask: Callable[[Any], Any], *names: str) -> dict[str, Any]:
    return {name: ask(load(name)) for name in names}


def attention():
    return of_each(lambda model: neolens.attention(model, repeats(24)), ABSOLUTE, LOCAL)


def roles():
    return of_each(lambda model: neolens.roles(model, repeats(24), progress=False), ABSOLUTE, LOCAL)


def causes():
    return of_each(
        lambda model: neolens.roles(model, repeats(24, 8), causes=True, resamples=200, progress=False), LOCAL, ROTARY
    )


def shift():
    return of_each(lambda model: neolens.shift(model, repeats(), [0, 1, 8, 64], progress=False), ABSOLUTE, ROTARY)


def patch(metric: Any = neolens.logit_difference):
    pairs = indirect_object(load(LOCAL), 4, seed=0)
    return neolens.patch(load(LOCAL), pairs, "z", positions="all", metric=metric, progress=False)


def ablate(metric: Any = neolens.loss):
    heads, copied = neolens.each_head(load(LOCAL)), range(25, 48)
    return neolens.ablate(load(LOCAL), repeats(24, 8), heads, metric=metric, positions=copied, progress=False)


def ablate_groups(metric: Any = neolens.loss):
    groups, copied = neolens.by_kind(load(LOCAL)), range(25, 48)
    return neolens.ablate(load(LOCAL), repeats(24, 8), groups, metric=metric, positions=copied, progress=False)


def ablate_by_distance():
    model, lengths = load(LOCAL), (8, 12, 16, 17, 24, 32)
    prompts = [prompt for n in lengths for prompt in random_repeats(model, n, prompts=4)]
    distance = np.full((len(prompts), 2 * max(lengths) + 1), -1)
    for row, n in enumerate(np.repeat(lengths, 4)):
        distance[row, n + 1 : 2 * n] = n - 1  # predicts what follows, which stands n - 1 before
    groups = neolens.by_kind(model) | {"1.2": [(1, 2)]} | random_like(model, [(0, 1), (0, 2)], draws=3)
    return by_distance(neolens.ablate(model, prompts, groups, progress=False), distance)


def toeplitz():
    return of_each(lambda model: position.toeplitz(model, random_tokens(model, 24, prompts=16)), ABSOLUTE, ROTARY)


def part_shares():
    return of_each(lambda model: position.part_shares(model, repeats()), ABSOLUTE, ROTARY)


def score_parts():
    return position.score_parts(load(ABSOLUTE), repeats()[0])


def bands():
    return of_each(lambda model: position.bands(model, repeats(), progress=False), ROTARY)


def embedding_geometry():
    return of_each(position.embedding_geometry, ABSOLUTE, LOCAL)


def ablate_positions():
    return of_each(lambda model: position.ablate_positions(model, repeats(24), progress=False), ABSOLUTE, ROTARY)


def beyond_context():
    words = random_tokens(load(ROTARY), 17, prompts=3)
    longer = torch.cat([words[:, :1], words[:, 1:].repeat(1, 16)[:, :255]], 1)
    return of_each(lambda model: position.beyond_context(model, longer), ROTARY, NONE)


def probe():
    asked = of_each(lambda model: position_measure.probe(model, texts(model, prompts=6)), ABSOLUTE, ROTARY)
    return {name: position_measure.over_seeds([network], [0]) for name, network in asked.items()}


def crossing():
    pairs = {d: planted(load(LOCAL), "recall", d, 4, 0) for d in (15, 16, 40)}
    return {LOCAL: at_distances([load(LOCAL)], pairs, 16)}


def induction():
    found = {}
    for name in (ABSOLUTE, LOCAL):
        asked = {n: random_repeats(load(name), n, prompts=8) for n in (8, 16, 17, 24)}
        kept = {
            step: functools.partial(neolens.load, one, revision=revision)
            for step, (one, revision) in list(checkpoints(name).items())[::3]
        }
        training = over_training(kept, {n: asked[n] for n in (8, 16, 17)})
        result = over_seeds([copying(load(name), asked)], [0])
        found[name] = Induction(load(name).anatomy, 16, result, training).joined
    return found


def estimates():
    share = {name: one["loss"].isel(step=-1) for name, one in curves().groupby("model")}
    return {str(name): seeds.mean_ci(values.squeeze("model", drop=True)) for name, values in share.items()}


MEASURES = {
    "loss": Measure("loss at the end of training", "nats per token", lambda result: result["loss"].isel(step=-1)),
    "copied": Measure("copies 32 back", "share", lambda result: result["induction"].sel(distance=32).isel(step=-1)),
}


def variants():
    found = {str(name): one.squeeze("model", drop=True) for name, one in curves().groupby("model")}
    return [Variant(load(name).anatomy, one) for name, one in found.items()]


def compared():
    return contrasts(variants(), MEASURES, "position")


def qk():
    """A circuit, words, and the vectors of their tokens."""
    model = load(ROTARY)
    tokens = random_tokens(model, 9, prompts=1)[0, 1:]
    return position.qk(model, 0, 3, 1), [model.tokenizer.decode([token]) for token in tokens], model.W_E[tokens]


def ov():
    model = load(ROTARY)
    tokens = random_tokens(model, 7, prompts=1)[0, 1:]
    words = [model.tokenizer.decode([token]) for token in tokens]
    return position.ov(model, 2, 1), words, model.W_E[tokens], words[:4], model.W_U.T[tokens[:4]]


LOGITS = (neolens.logit_difference, neolens.probability)
LOSSES = (neolens.loss, neolens.rank)


@dataclass(frozen=True)
class Drawn:
    """A figure: what is measured for it, with what arguments, and what draws it."""

    measure: Callable[..., Any]
    draw: Callable[[Any], go.Figure]
    asked: tuple[Any, ...] = ()

    @property
    def result(self) -> Any:
        """What the measurement gives, made once."""
        return _result(self.measure, *self.asked)


@functools.cache
def _result(measure: Callable[..., Any], *asked: Any) -> Any:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "the mean is over only")
        return measure(*asked)


FIGURES = {
    "heads": Drawn(attention, lambda found: figures.heads(found, "induction")),
    "heads of a shift": Drawn(
        shift, lambda found: figures.heads({name: one.sel(shift=8) for name, one in found.items()}, "pattern")
    ),
    "mass_by_distance": Drawn(attention, figures.mass_by_distance),
    "scores_by_kind": Drawn(attention, figures.scores_by_kind),
    "roles_by_head": Drawn(roles, figures.roles_by_head),
    "pattern_and_cause": Drawn(causes, figures.pattern_and_cause),
    "patch_heatmap": Drawn(patch, figures.patch_heatmap),
    "by_metric of a patch": Drawn(patch, figures.by_metric, (LOGITS,)),
    "ablation_heads": Drawn(ablate, figures.ablation_heads),
    "ablation_groups": Drawn(ablate_groups, figures.ablation_groups),
    "ablation_by_distance": Drawn(ablate_by_distance, lambda found: figures.ablation_by_distance(found, window=16)),
    "by_metric of heads": Drawn(ablate, figures.by_metric, (LOSSES,)),
    "by_metric of groups": Drawn(ablate_groups, figures.by_metric, (LOSSES,)),
    "heads_beside": Drawn(
        ablate, lambda found: figures.heads_beside({"once": effect(found), f"again {HOSTILE}": effect(found)})
    ),
    "shift_by_distance": Drawn(shift, figures.shift_by_distance),
    "toeplitz_shares": Drawn(toeplitz, figures.toeplitz_shares),
    "distance_kernels": Drawn(toeplitz, figures.distance_kernels),
    "distance_kernels of roles": Drawn(probe, figures.distance_kernels),
    "part_shares": Drawn(part_shares, figures.part_shares),
    "score_parts": Drawn(score_parts, lambda found: figures.score_parts(found, 0)),
    "band_shares": Drawn(bands, figures.band_shares),
    "embedding_geometry": Drawn(embedding_geometry, figures.embedding_geometry),
    "loss_without_positions": Drawn(ablate_positions, figures.loss_without_positions),
    "loss_beyond": Drawn(beyond_context, figures.loss_beyond),
    "token_circuit of qk": Drawn(qk, lambda found: figures.token_circuit(*found, called="QK of head 0.3, 1 back")),
    "token_circuit of ov": Drawn(
        ov, lambda found: figures.token_circuit(*found, called="OV of head 2.1", axes=("source", "logit"))
    ),
    "recall_by_distance": Drawn(
        crossing, lambda found: figures.recall_by_distance({name: {"recall": one} for name, one in found.items()})
    ),
    "places_by_distance": Drawn(crossing, figures.places_by_distance),
    "narrowing_by_distance": Drawn(crossing, figures.narrowing_by_distance),
    "induction_by_length": Drawn(induction, induction_figures.induction_by_length),
    "scores_and_copying": Drawn(induction, induction_figures.scores_and_copying),
    "induction_causes": Drawn(induction, induction_figures.induction_causes),
    "copying_without": Drawn(induction, induction_figures.copying_without),
    "formation_by_step": Drawn(induction, formation_figures.formation_by_step),
    "learning": Drawn(curves, lambda found: figures.learning(found, distance=32)),
    "measures_by_variant": Drawn(variants, lambda found: figures.measures_by_variant(found, MEASURES, "attention")),
    "measures_by_variant of positions": Drawn(
        variants, lambda found: figures.measures_by_variant(found, MEASURES, "position")
    ),
    "differences_by_measure": Drawn(compared, figures.differences_by_measure),
    "estimates": Drawn(
        estimates, lambda found: figures.estimates(found, quantity="loss at the end", unit="nats per token")
    ),
}


@functools.cache
def figure(name: str) -> go.Figure:
    """A figure, drawn once; not to be changed."""
    return FIGURES[name].draw(FIGURES[name].result)


def renamed(result: Any) -> Any:
    """The same result with a hostile text in every name that is not ours: of models, groups, parts, tokens, words."""
    if isinstance(result, xr.Dataset):
        named = [name for name in ("group", "part", "token", "model") if name in result.coords]
        words = {name: result[name].copy(data=_hostile(result[name].values)) for name in named}
        return result.assign_coords(words).assign_attrs(model=HOSTILE)
    if isinstance(result, dict):
        return {f"{name} {HOSTILE}": renamed(one) for name, one in result.items()}
    if isinstance(result, list):
        return [renamed(one) for one in result]
    if isinstance(result, Variant):
        return replace(result, anatomy=replace(result.anatomy, name=f"{result.name} {HOSTILE}"))
    if isinstance(result, Contrast):
        return replace(result, first=renamed(result.first), second=renamed(result.second))
    if isinstance(result, tuple):
        return tuple([f"{word} {HOSTILE}" for word in its] if isinstance(its, list) else its for its in result)
    return result


def _hostile(words: np.ndarray) -> np.ndarray:
    return np.array([f"{word} {HOSTILE}" for word in words.ravel()]).reshape(words.shape)


def function(name: str) -> Callable[..., go.Figure]:
    """The function that draws a figure of `FIGURES`."""
    return next(getattr(home, name.split()[0]) for home in HOMES if hasattr(home, name.split()[0]))
