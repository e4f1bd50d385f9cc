"""What each network reads, and the scores of its heads: on text, and on sequences repeated inside and beyond the
window."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Int
from torch import Tensor

from neolens import views
from neolens.models import AttentionSpan
from neolens.near_far import of_anatomies
from neolens.prompts import bos_token, repeated, token_pool
from neolens.prompts.families.lab_questions import speaks_lab
from neolens.scores import REPEATED_SCORES, attention, shown_patterns
from neolens.scores import exact_checks as laws
from neolens.studies import inputs
from neolens.studies.models import Models

TEXT_SCORES = ("previous_token", "sink", "mean_distance", "entropy", "entropy_normalised")

LONG = 128
"""Tokens of a sequence up to which all heads of a layer are saved, in full precision."""

SMALLEST = np.float16(6e-8)
"""The smallest positive number of 16 bits, so that no attention is rounded to 0."""


@dataclass(frozen=True)
class Scope:
    """What all models are measured on alike."""

    source: inputs.Source
    """Of the text."""
    window: int
    inside: int
    """Sequences repeat after so many tokens inside the window."""
    beyond: int
    """The same, beyond the window."""


@dataclass(frozen=True)
class Tokens:
    """The prompts of one model: text, and random sequences repeated inside and beyond the window."""

    text: Int[Tensor, "text text_pos"]
    unknown: float
    """The share of the text's tokens that the tokenizer does not know."""
    inside: Int[Tensor, "prompt near"]
    beyond: Int[Tensor, "prompt far"]
    inputs: inputs.Inputs


def scope_of(config: Any, models: Models) -> Scope:
    """Repeat lengths are half the window and, where the contexts allow, twice it.

    Raises:
        ValueError: windows that differ, a context too short to cross the window, or a text that cannot be read.
    """
    window, context = inputs.window(models), models.context
    beyond = min(2 * window, (context - 1) // 2)
    if beyond <= window:
        short = next(facts.name for facts in models.anatomies if facts.context == context)
        split = of_anatomies(window, models.anatomies).name
        raise ValueError(f"{short} sees {context} tokens, too few to cross {split}: leave it out")
    source = inputs.source(config, models.anatomies, min(config.length, context))
    return Scope(source, window, min(max(2, window // 2), beyond), beyond)


def tokenize(model: Any, config: Any, scope: Scope) -> Tokens:
    """The prompts in the model's own tokens, BOS first in each where there is one."""
    text = inputs.read(model, scope.source)
    bos, pool = bos_token(model.tokenizer, model.anatomy.d_vocab), token_pool(model)
    if model.tokenizer is not None and speaks_lab(model.tokenizer):  # all words, also those without a meaning
        pool = sorted(set(range(len(model.tokenizer))) - set(model.tokenizer.all_special_ids))
    inside, beyond = (
        repeated(pool, n, bos=bos, prompts=config.prompts, seed=config.seed) for n in (scope.inside, scope.beyond)
    )
    summary = inputs.summary(model, text=text, repeats=(scope.inside, scope.beyond))
    return Tokens(text.tokens, text.unknown, inside, beyond, summary)


def score_parts(model: Any, tokens: Tokens) -> Iterator[tuple[str, xr.Dataset]]:
    """Scores of every head on text and on repeated sequences, the share that is copied, and the exact checks."""
    windows, longest = model.anatomy.windows, tokens.beyond.shape[1]
    text = attention(model, tokens.text).drop_vars(list(REPEATED_SCORES), errors="ignore")
    if windows and windows[0] < tokens.text.shape[1]:
        text.attrs["mass_out_of_reach"] = laws.mass_out_of_reach(text)
    yield "text", text.assign_attrs(unknown=tokens.unknown)
    yield "inside", _on_repeats(model, tokens.inside, "")
    beyond = _on_repeats(model, tokens.beyond, "_beyond")
    if windows:
        every = [AttentionSpan("local", windows[0])] * model.anatomy.layers
        beyond["copied_beyond_all_local"] = "prompt", laws.repeat_accuracy(model, tokens.beyond, spans=every)
    if windows and windows[0] < longest:
        prompt = tokens.beyond[:1, : windows[0] + 1]
        beyond.attrs["difference_at_window"] = laws.window_difference(model, prompt[:, :-1])
        beyond.attrs["difference_past_window"] = laws.window_difference(model, prompt)
    yield "beyond", beyond


def _on_repeats(model: Any, prompts: Int[Tensor, "prompt pos"], ending: str) -> xr.Dataset:
    """The induction score of every head, and the share that is copied."""
    scores, windows = attention(model, prompts, scores=["induction"], distances=[0]), model.anatomy.windows
    if windows and windows[-1] <= (prompts.shape[1] - 1) // 2 - 1:
        scores.attrs["induction_out_of_reach"] = laws.induction_out_of_reach(scores)
    copied = "prompt", laws.repeat_accuracy(model, prompts)
    result = scores[["induction"]].drop_vars("length").rename(induction=f"induction{ending}")
    return result.assign({f"copied{ending}": copied})


def joined(parts: Mapping[str, xr.Dataset]) -> xr.Dataset:
    """The parts of `score_parts` as one result."""
    checks = {name: value for name, value in parts["beyond"].attrs.items() if name not in parts["text"].attrs}
    result = parts["text"]
    for name in ("inside", "beyond"):
        result = result.merge(parts[name], join="outer", compat="no_conflicts")
    return result.assign_attrs(checks)


def measure_scores(model: Any, tokens: Tokens) -> xr.Dataset:
    """Scores of every head on text and on repeated sequences, the share that is copied, and the exact checks."""
    return joined(dict(score_parts(model, tokens)))


def most_heads(tokens: Tokens) -> int:
    """Heads of a layer whose patterns are shown; 0 where one view does not hold the pattern of one."""
    n = tokens.beyond.shape[1]
    return min(12 if n <= LONG else 4, views.MAX_CELLS // (n * (n + 1) // 2))


def inductive_patterns(model: Any, beyond: xr.Dataset, tokens: Tokens) -> xr.Dataset:
    """The patterns of the most inductive layer of each kind on a repeated sequence that crosses the window.

    Of a long sequence the four most inductive heads, fewer where one view does not hold them, and numbers of 16 bits.
    """
    chosen = []
    for kind in sorted(set(beyond["attention_kind"].values), reverse=True):
        of_kind = beyond["induction_beyond"].isel(layer=beyond["attention_kind"].values == kind).mean("prompt")
        layer = int(of_kind.max("head").idxmax("layer"))
        best = of_kind.sel(layer=layer).argsort().values[::-1]
        chosen += [(layer, head) for head in sorted(map(int, best[: most_heads(tokens)]))]
    shown = shown_patterns(model, tokens.beyond[0], chosen)
    shown = shown.assign_coords(layer=("group", [layer for layer, _ in chosen]))
    if tokens.beyond.shape[1] > LONG:
        whole = shown["pattern"].values
        rounded = np.where(whole > 0, np.maximum(whole.astype(np.float16), SMALLEST), np.float16(0))
        shown["pattern"] = shown["pattern"].copy(data=rounded.astype(np.float32))
        shown["pattern"].encoding = {"zlib": True, "complevel": 4}
    return shown


def on_repeats(scores: Mapping[str, xr.Dataset], ending: str, n: int) -> dict[str, xr.Dataset]:
    """The induction scores on sequences repeated after `n` tokens, labelled with their own length."""
    return {
        name: result[[f"induction{ending}"]]
        .rename({f"induction{ending}": "induction"})
        .assign_coords(length=("prompt", [2 * n + 1] * result.sizes["prompt"]))
        for name, result in scores.items()
    }
