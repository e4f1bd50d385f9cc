"""`neolens check`: is what neolens says of this model, on this machine, with these weights, true?

Three comparisons, each against something that is not the thing itself: the logits with Hugging Face's own model;
every hook, edited by return and in place, with the pure forward pass given the same edit; and, for models with a
published figure, the loss on "Hello world!" with BOS prepended (TransformerLens's acceptance tests).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from tqdm.auto import tqdm

from neolens.models.facts import Anatomy
from neolens.models.folders import resolve
from neolens.models.loading import load, quiet_transformers
from neolens.network import logits, residual, weights_of
from neolens.prompts import bos_token
from neolens.sites import hook_name, sites_of

PUBLISHED_LOSS = {"gpt2": 5.331856, "gpt-neo-125M": 4.900552, "pythia-70m": 4.659345}
"""Loss in nats on "Hello world!" with BOS prepended, from TransformerLens's acceptance tests."""

HOOK_TOLERANCE = 1e-2
"""An error as a share of the edit's effect, in float32. A hook that does nothing has 1; rounding 1e-7 to 1e-3."""
LOGIT_TOLERANCE = {torch.float64: 1e-4}
"""Logits are equal to the bit, but for float64, where Hugging Face itself computes parts in float32."""
LOSS_TOLERANCE = 2e-3


@dataclass(frozen=True)
class Line:
    """One line of the table: what was compared, the figure, the bound it had to keep, and whether it did."""

    what: str
    figure: str
    bound: str
    holds: bool


def check(
    name: str | Path,
    *,
    revision: str | None = None,
    device: str | None = None,
    dtype: str | None = None,
    every_layer: bool = False,
) -> list[Line]:
    """Compare a model with Hugging Face, its hooks with the pure forward pass, its loss with the published one.

    Where a hook acts does not depend on the dtype, and rounding in half precision would hide it, so hooks are tried
    in float32.

    Args:
        every_layer: try the hooks of every layer, not only of the first, the last and one of each kind.

    Raises:
        ValueError: the model cannot be loaded.
    """
    model = load(name, revision=revision, device=device, dtype=dtype)
    lines = [_against_hugging_face(model, name, revision)]
    if model.cfg.dtype != torch.float32:
        del model  # before the next is loaded: a large model may fit in memory only once
        model = load(name, revision=revision, device=device)
    lines += _hooks(model, every_layer)
    published = PUBLISHED_LOSS.get(model.anatomy.name)
    return lines if published is None else [*lines, _against_published(model, published)]


def _against_hugging_face(model: Any, name: str | Path, revision: str | None) -> Line:
    """The largest difference of a logit on random tokens that cross the window; 0, but in float64."""
    from transformers import AutoModelForCausalLM

    tokens = _random_tokens(model, past_window=8)
    with torch.no_grad(), quiet_transformers():
        ours = model(tokens)
        theirs = AutoModelForCausalLM.from_pretrained(
            resolve(name, revision).folder,
            attn_implementation="eager",
            dtype=model.cfg.dtype,
            local_files_only=True,
        ).to(model.cfg.device)
        difference = (ours - theirs.eval()(tokens).logits).abs().max().item()
    bound = LOGIT_TOLERANCE.get(model.cfg.dtype, 0.0)
    what = f"logits against Hugging Face, {tokens.shape[1]} tokens"
    return Line(what, f"{difference:.2g}", f"{bound:g}", difference <= bound)


def _hooks(model: Any, every_layer: bool) -> Iterator[Line]:
    """One line a site: the worst of its layers and of the two ways of editing."""
    facts = model.anatomy
    weights = weights_of(model)
    tokens = _random_tokens(model, past_window=8 if max(facts.windows, default=0) <= 64 else None)
    layers = range(facts.layers) if every_layer else _telling_layers(facts)
    model.set_use_attn_result(False)
    plain = _pure(weights, tokens)
    for site in tqdm(sites_of(facts), desc="hooks", unit="site", delay=2, leave=False):
        worst = 0.0
        for layer in (None,) if site in ("embed", "pos_embed") else layers:
            expected = _pure(weights, tokens, edit=_at(site, layer))
            effect = (expected - plain).abs().max().item()
            for hook in (_returned, _in_place):
                error = _error(model, tokens, site, layer, hook, expected)
                worst = max(worst, error / effect if effect > 0 else math.inf)
        what = f"{site}: error of an edit over its effect"
        yield Line(what, f"{worst:.1e}", f"{HOOK_TOLERANCE:g}", worst <= HOOK_TOLERANCE)


def _telling_layers(facts: Anatomy) -> list[int]:
    """The first and last layers, and one of each kind."""
    kinds = [facts.layers_of_kind(kind)[:1] for kind in ("global", "local")]
    return sorted({0, facts.layers - 1, *(layer for kind in kinds for layer in kind)})


def _ramp(x: Tensor) -> Tensor:
    """Factors that no layer norm undoes: 1 + cos(index) / 2 along the last axis."""
    index = torch.arange(x.shape[-1], device=x.device, dtype=torch.float32)
    return (1 + 0.5 * torch.cos(index)).to(x.dtype)


def _returned(x: Tensor, hook: Any) -> Tensor:
    return x * _ramp(x)


def _in_place(x: Tensor, hook: Any) -> None:
    x.mul_(_ramp(x))


def _at(site: str, layer: int | None) -> Callable[[str, int | None, Tensor], Tensor]:
    return lambda here, index, x: x * _ramp(x) if (here, index) == (site, layer) else x


@torch.no_grad()
def _pure(weights: Any, tokens: Tensor, edit: Any = None) -> Float[Tensor, "prompt pos d_vocab"]:
    return logits(weights, residual(weights, tokens, edit=edit, block=tokens.shape[1])).float()


def _error(model: Any, tokens: Tensor, site: str, layer: int | None, hook: Any, expected: Tensor) -> float:
    """The largest difference of a logit; infinite where the hook cannot be used at all."""
    try:
        error = (_hooked(model, tokens, site, layer, hook) - expected).abs().max().item()
    except (RuntimeError, NotImplementedError, KeyError):
        return math.inf
    return math.inf if math.isnan(error) else error


@torch.no_grad()
def _hooked(model: Any, tokens: Tensor, site: str, layer: int | None, hook: Any) -> Float[Tensor, "prompt pos d_vocab"]:
    model.set_use_attn_result(site == "result")
    try:
        return model.run_with_hooks(tokens, fwd_hooks=[(hook_name(site, layer), hook)]).float()
    finally:
        model.set_use_attn_result(False)


def _against_published(model: Any, published: float) -> Line:
    bos = bos_token(model.tokenizer)
    tokens = torch.tensor([[bos, *model.tokenizer("Hello world!", add_special_tokens=False)["input_ids"]]])
    with torch.no_grad():
        loss = model(tokens.to(model.cfg.device), return_type="loss").item()
    return Line(
        'loss on "Hello world!" in nats',
        f"{loss:.6f}",
        f"published {published:.6f} +- {LOSS_TOLERANCE}",
        abs(loss - published) <= LOSS_TOLERANCE,
    )


def _random_tokens(model: Any, past_window: int | None) -> Tensor:
    """Two prompts of random tokens, `past_window` longer than the widest window, or a few tokens."""
    facts = model.anatomy
    length = 16 if past_window is None or not facts.windows else max(facts.windows) + past_window
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(facts.d_vocab, (2, min(length, facts.context)), generator=generator)
    return tokens.to(model.cfg.device)
