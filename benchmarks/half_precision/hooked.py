"""The variables of instruments without `engine="hooks"`, computed from the hooked model's activations in float64.

Each function takes a model and prompts [prompt, pos] and returns the variables by name, with the axes of the
instrument's result.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

import neolens
from benchmarks.half_precision.models import CONTEXT, REPEAT, long_prompts
from neolens.models.spans import visible
from neolens.scores.kinds import share_beyond
from neolens.sites import hook_name
from neolens.whatif import Scale, Shift, WithoutBands

Values = dict[str, np.ndarray]

SHIFTS = (1, 8)
NEAR = 3
"""Tokens within which a head counts as local."""


def activations(model: Any, tokens: Tensor, site: str) -> Tensor:
    """[layer, ...]: the hooked model's activations at a site."""
    names = [hook_name(site, layer) for layer in range(model.anatomy.layers)]
    _, cache = model.run_with_cache(tokens, names_filter=names)
    return torch.stack([cache[name].double() for name in names])


def losses(model: Any, tokens: Tensor) -> np.ndarray:
    """[prompt, pos]: the loss of predicting token i + 1; NaN at the last position."""
    log_p = model(tokens)[:, :-1].double().log_softmax(-1)
    values = torch.full(tokens.shape, torch.nan, dtype=torch.float64)
    values[:, :-1] = -log_p.gather(-1, tokens[:, 1:, None])[..., 0]
    return values.numpy()


def roles(model: Any, tokens: Tensor) -> Values:
    result = neolens.attention(model, tokens, engine="hooks")
    scores = [result[name].mean("prompt") for name in ("previous_token", "duplicate_token", "induction", "sink")]
    local = (1 - share_beyond(result, NEAR)).mean("prompt").where(~(result["window"] <= NEAR))
    return {"score": np.stack([score.values for score in (*scores, local)])}


def patterns(model: Any, tokens: Tensor) -> Values:
    """Of the first prompt."""
    return {"pattern": activations(model, tokens[:1], "pattern")[:, 0].numpy()}


def view(model: Any, tokens: Tensor) -> Values:
    """The cells that a view of the first prompt has, in its order."""
    query, key = np.tril_indices(tokens.shape[1])
    return {"attention": patterns(model, tokens)["pattern"][:, :, query, key].flatten()}


def shift(model: Any, tokens: Tensor) -> Values:
    """Without `logits_exact` and `rounding`, which are about float64."""
    plain, by_shift = _run(model, tokens), []
    for by in SHIFTS:
        with neolens.what_if(model, positions=Shift(by)):
            shifted = _run(model, tokens)
        change = {name: shifted[name] - plain[name] for name in plain}
        log_p, log_q = (run["logits"].log_softmax(-1) for run in (plain, shifted))
        by_shift.append(
            {
                "logits": change["logits"].abs().amax((1, 2)),
                "kl_divergence": (log_p.exp() * (log_p - log_q)).sum(-1).clamp(min=0).mean(-1),
                "loss": change["losses"][:, :-1].mean(-1),
                "residual": (change["stream"].norm(dim=-1) / plain["stream"].norm(dim=-1)).mean(-1).T,
                "pattern": change["pattern"].abs().sum(-1)[..., 1:].mean(-1).transpose(0, 1) / 2,
            }
        )
    values = {name: torch.stack([each[name] for each in by_shift], dim=1).numpy() for name in by_shift[0]}
    return values | {"spread": (plain["logits"].amax((1, 2)) - plain["logits"].amin((1, 2))).numpy()}


def _run(model: Any, tokens: Tensor) -> dict[str, Tensor]:
    return {
        "logits": model(tokens).double(),
        "losses": torch.from_numpy(losses(model, tokens)),
        "stream": activations(model, tokens, "resid_post"),
        "pattern": activations(model, tokens, "pattern"),
    }


def ablate_positions(model: Any, tokens: Tensor) -> Values:
    ablated = []
    for treatment in ("off",) if model.anatomy.position.kind == "rotary" else ("zero", "mean", "shuffle"):
        with neolens.what_if(model, positions=treatment):
            ablated.append(losses(model, tokens))
    return {"ablated": np.stack(ablated), "baseline": losses(model, tokens)}


def beyond_context(model: Any, tokens: Tensor) -> Values:
    """Of prompts longer than the context, whatever the prompts given."""
    long = long_prompts()
    with neolens.what_if(model, positions=Scale(CONTEXT / long.shape[1])):
        interpolated = losses(model, long)
    return {"loss": np.stack([losses(model, long), interpolated])}


def part_shares(model: Any, tokens: Tensor) -> Values:
    seen, parts = _visible(model, tokens, 0), _rotary_parts(model, tokens)
    mean = parts.masked_fill(~seen, 0).sum(-1, keepdim=True) / seen.sum(-1, keepdim=True)
    parts = (parts - mean).masked_fill(~seen, 0)
    whole = parts.sum(0)
    share = (parts * whole).sum((-2, -1)) / whole.square().sum((-2, -1))
    size = (parts.square().sum((-2, -1)) / seen.sum()).sqrt()
    return {name: value.permute(2, 1, 3, 0).numpy() for name, value in (("share", share), ("size", size))}


def score_parts(model: Any, tokens: Tensor) -> Values:
    """Of the last layer and the first prompt."""
    parts = _rotary_parts(model, tokens[:1])[:, -1, 0]
    return {"score": parts.masked_fill(~_visible(model, tokens, -1), torch.nan).numpy()}


def summed_parts(model: Any, tokens: Tensor) -> Values:
    """The scores of the first layer and the first prompt, which their parts add up to."""
    scores = activations(model, tokens[:1], "attn_scores")[0, 0]
    return {"sum": scores.masked_fill(~_visible(model, tokens, 0), torch.nan).numpy()}


def _visible(model: Any, tokens: Tensor, layer: int) -> Tensor:
    return visible(range(tokens.shape[1]), range(tokens.shape[1]), model.anatomy.attention[layer])


def _rotary_parts(model: Any, tokens: Tensor) -> Tensor:
    """The rotated and the unrotated part of every score: [part, layer, prompt, head, query_pos, key_pos]."""
    q, k = (activations(model, tokens, site).transpose(2, 3) for site in ("rot_q", "rot_k"))
    dims = model.anatomy.position.rotary_dims
    cuts = slice(0, dims), slice(dims, None)
    return torch.stack([q[..., cut] @ k[..., cut].transpose(-1, -2) * model.anatomy.scale for cut in cuts])


def bands(model: Any, tokens: Tensor) -> Values:
    count, names = model.anatomy.position.rotary_dims // 2, ("previous_token", "induction")
    by_band: dict[str, list[Any]] = {f"{name}_{way}": [] for name in names for way in ("held", "without")}
    by_band |= {"loss_without": [], "query_norm": [], "key_norm": []}
    for band in range(count):
        pair = [band, band + count]
        for name, site in (("query_norm", "rot_q"), ("key_norm", "rot_k")):
            by_band[name].append(activations(model, tokens, site)[..., pair].norm(dim=-1).mean(2).transpose(0, 1))
        held = _repeat_scores(_patterns_without(model, tokens, pair))
        with neolens.what_if(model, positions=WithoutBands([band])):
            without = _repeat_scores(activations(model, tokens, "pattern"))
            by_band["loss_without"].append(losses(model, tokens))
        for name in names:
            by_band[f"{name}_held"].append(held[name])
            by_band[f"{name}_without"].append(without[name])
    plain = _repeat_scores(activations(model, tokens, "pattern")) | {"loss": losses(model, tokens)}
    return plain | {name: np.stack(values, axis=-1) for name, values in by_band.items()}


def _patterns_without(model: Any, tokens: Tensor, pair: list[int]) -> Tensor:
    """The pattern of each layer with a pair of dimensions 0 in its queries and the layers below unchanged."""

    def remove(q: Tensor, hook: Any) -> Tensor:
        q = q.clone()
        q[..., pair] = 0
        return q

    layers: list[Tensor] = []
    for layer in range(model.anatomy.layers):
        read = (hook_name("pattern", layer), lambda pattern, hook: layers.append(pattern.double()))
        model.run_with_hooks(tokens, fwd_hooks=[(hook_name("rot_q", layer), remove), read])
    return torch.stack(layers)


def _repeat_scores(patterns: Tensor) -> Values:
    """Scores of patterns [layer, prompt, head, query_pos, key_pos], by prompt, layer and head."""
    second = torch.arange(REPEAT + 1, 2 * REPEAT + 1)
    scores = {
        "previous_token": patterns.diagonal(-1, -2, -1).mean(-1),
        "induction": patterns[..., second, second - REPEAT + 1].mean(-1),
    }
    return {name: value.transpose(0, 1).numpy() for name, value in scores.items()}


def toeplitz(model: Any, tokens: Tensor) -> Values:
    layers = []
    for layer, scores in enumerate(activations(model, tokens, "attn_scores")):
        cells = _visible(model, tokens, layer)
        cells[:, 0] = False
        layers.append(_distance_kernel(scores, cells))
    return {name: np.stack([layer[name] for layer in layers]) for name in layers[0]}


def _distance_kernel(scores: Tensor, cells: Tensor) -> Values:
    """The variables of one layer, from scores [prompt, head, query_pos, key_pos] and the cells that count."""
    count, heads, length, _ = scores.shape
    query, key = cells.nonzero().T
    values, distance = scores[:, :, query, key], query - key
    kernel = torch.full((count, heads, length), torch.nan, dtype=torch.float64)
    for d in distance.unique().tolist():
        kernel[..., d] = values[..., distance == d].mean(-1)
    mean = _sums_of_squares(values.mean(0), query, distance)
    single = {name: value.mean(0) for name, value in _sums_of_squares(values, query, distance).items()}
    noise = {name: (single[name] - mean[name]) / (count - 1) for name in mean}
    zero = 1e-12 * values.mean(0).square().sum(-1)
    result = {"kernel": kernel.mean(0), "kernel_error": kernel.std(0) / count**0.5}
    result["variance"] = mean["all"] / len(query)
    for name, explained, whole in (("toeplitz", "by distance", "all"), ("row", "beside rows", "in rows")):
        left = mean[whole] - noise[whole]
        share = mean[explained] / mean[whole].where(mean[whole] > zero, torch.nan)
        corrected = (mean[explained] - noise[explained]) / left.where(left > noise[whole].maximum(zero), torch.nan)
        result |= {f"{name}_share": share, f"{name}_share_corrected": corrected.clamp(0, 1)}
    return {name: value.numpy() for name, value in result.items()}


def _sums_of_squares(values: Tensor, query: Tensor, distance: Tensor) -> dict[str, Tensor]:
    """Over cells [..., cell]: `all` about their mean, of that `by distance`; `in rows` about the means of their
    queries, of that what distance explains `beside rows`. By projection on indicators."""
    rows, distances = (torch.nn.functional.one_hot(label).double() for label in (query, distance))
    rows, distances = rows[:, rows.any(0)], distances[:, distances.any(0)]

    def project(x: Tensor, onto: Tensor) -> Tensor:
        return x @ torch.linalg.pinv(onto).T @ onto.T

    centred, in_rows = values - values.mean(-1, keepdim=True), values - project(values, rows)
    sums = {"all": centred, "by distance": project(centred, distances), "in rows": in_rows}
    sums["beside rows"] = project(in_rows, distances - project(distances.T, rows).T)
    return {name: value.square().sum(-1) for name, value in sums.items()}
