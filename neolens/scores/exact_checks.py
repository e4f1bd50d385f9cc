"""The exact laws of windows, measured: what holds by construction, and so tells a true tool from a false one.

Window: on a prompt of at most w tokens a local layer computes exactly what a global one would. Out of reach: in a
local layer no attention lies at a distance of w or more, and so the induction score is exactly 0 where the token to
copy is that far away.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import xarray as xr

from neolens.checks import check_choice, check_list
from neolens.models.anatomy import Anatomy, AttentionSpan
from neolens.models.other_architectures import check_anatomy
from neolens.network import logits, measurement, residual, weights_of
from neolens.network.forward import check_spans
from neolens.prompts.tokens import Prompts, repeat_length, second_copy, validated
from neolens.results import check_result


@measurement(error=False)
def window_difference(model: Any, tokens: Prompts) -> float:
    """The largest difference of a logit, over prompts and positions, when every layer is made global.

    By the law of the window it is exactly 0 where no prompt is longer than the narrowest window, and not 0 beyond.
    """
    weights = weights_of(model)
    everywhere = [AttentionSpan("global")] * weights.anatomy.layers
    largest = torch.zeros((), dtype=torch.float64)
    for prompt in validated(tokens, weights.anatomy):
        row = prompt[None].to(weights.embedding.device)
        own, changed = (logits(weights, residual(weights, row, spans=spans)) for spans in (None, everywhere))
        largest = torch.maximum(largest, (own - changed).abs().max().double().cpu())  # keeps NaN, unlike max
    return largest.item()


def local_layers(result: xr.Dataset) -> xr.Dataset:
    """The part of a result that belongs to local layers.

    Raises:
        TypeError, ValueError: no result by layer, or a model without local layers.
    """
    check_result(result, "result", ["attention_kind"], ["layer"], "neolens.attention")
    if "local" not in result["attention_kind"].values:
        raise ValueError("result of a model without local layers: expected one with a local layer, such as lab/gpt-neo")
    return result.isel(layer=result["attention_kind"].values == "local")


def mass_out_of_reach(result: xr.Dataset) -> float:
    """The largest mass that a local layer puts on a distance of its window or more; by the law exactly 0."""
    check_result(result, "result", ["mass_by_distance", "window"], ["layer", "distance"], "neolens.attention")
    local = local_layers(result)
    return float(local["mass_by_distance"].where(local["distance"] >= local["window"]).max(skipna=True))


def induction_out_of_reach(result: xr.Dataset, score: str = "induction") -> float:
    """The largest induction score of a local layer; by the law exactly 0 where n - 1 is its window or more."""
    check_result(result, "result", ["mass_by_distance", "window"], ["layer", "distance"], "neolens.attention")
    check_choice(score, "score", [str(name) for name in result if name != "mass_by_distance"])
    return float(local_layers(result)[score].max(skipna=True))


@measurement(error=False)
def repeat_accuracy(model: Any, tokens: Prompts, *, spans: Sequence[AttentionSpan] | None = None) -> list[float]:
    """For each prompt [first, r_1..r_n, r_1..r_n], the share of r_2..r_n of the second copy that is predicted.

    Predicted: the likeliest next token is the right one. With `spans`, each layer sees what its span says, under the
    same weights: with every layer local, what is still copied did not need the global ones.

    Raises:
        TypeError, ValueError: a prompt that does not repeat, or spans that are not one for each layer.
    """
    weights = weights_of(model)
    spans = None if spans is None else check_spans(spans, weights.anatomy)
    shares = []
    for index, prompt in enumerate(validated(tokens, weights.anatomy)):
        n = repeat_length(prompt)
        if n is None:
            raise ValueError(f"prompt {index} does not repeat: expected [first, r_1..r_n, r_1..r_n] with n >= 2")
        row = prompt[None].to(weights.embedding.device)
        asked = residual(weights, row, spans=spans)[:, second_copy(n)]
        right = logits(weights, asked).argmax(-1)[0].cpu() == prompt[n + 2 :]
        shares.append(right.double().mean().item())
    return shares


def narrowest_window(anatomies: list[Anatomy]) -> int:
    """The narrowest window of the models; an eighth of the shortest context where all are global.

    Raises:
        TypeError, ValueError: no list of anatomies, or an empty one.
    """
    chosen = check_list(anatomies, "anatomies", "anatomies", example="[neolens.anatomy(model)]")
    anatomies = [check_anatomy(anatomy) for anatomy in chosen]  # type: ignore[misc]
    if not anatomies:
        raise ValueError("anatomies []: expected at least one, such as neolens.anatomy(model)")
    windows = [window for anatomy in anatomies for window in anatomy.windows]
    return min(windows) if windows else max(4, min(anatomy.context for anatomy in anatomies) // 8)
