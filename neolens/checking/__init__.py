"""`neolens check`: compare a model, on this machine and with these weights, with three independent sources.

The logits with those of Hugging Face's own model; every hook, edited by return and in place, with the pure forward pass
given the same edit; and, for models with a published figure, the loss on "Hello world!" with BOS prepended
(TransformerLens's acceptance tests). The pure pass also gives the effect to expect of an edit: where it is none (a
window of one token, a head that writes 0), the hook must have none.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from tqdm.auto import tqdm

from neolens.checking.edits import edit_at, in_place, pure_logits, random_tokens, returned, rounding_bound
from neolens.checks import check_bool
from neolens.checks.annotations import check_annotated
from neolens.models.anatomy import Anatomy
from neolens.models.loading import load
from neolens.models.sources import resolve
from neolens.models.supported import quiet_transformers
from neolens.models.weight_files import KEY_MAPPING
from neolens.network import weights_of
from neolens.prompts import bos_token
from neolens.sites import hook_name, sites_of

PUBLISHED_LOSS = {"gpt2": 5.331856, "gpt-neo-125M": 4.900552, "pythia-70m": 4.659345}
"""Loss in nats on "Hello world!" with BOS prepended, from TransformerLens's acceptance tests."""

HOOK_TOLERANCE = 1e-2
"""An error as a share of the edit's effect, in float32. A hook that does nothing has 1; rounding 1e-7 to 1e-3."""
SMALL_EFFECT = 1e-3
"""Effects below this share of the range of the logits count as this large: an error of `HOOK_TOLERANCE` of it, 1e-5 of
the range, can be rounding, and an effect that small is no effect."""
LOGIT_TOLERANCE = {torch.float64: 1e-5, torch.float32: 1e-5, torch.float16: 1e-2, torch.bfloat16: 5e-2}
"""Dtype -> a difference from Hugging Face's logits as a share of their range, where they are not equal to the bit.
Float64 has that of float32, in which Hugging Face computes parts of it."""
LOSS_TOLERANCE = 2e-3


@dataclass(frozen=True)
class Line:
    """One line of the table: what was compared, the figure, the bound it had to keep, and whether it did."""

    what: str
    figure: str
    bound: str
    holds: bool

    def __post_init__(self) -> None:
        check_annotated(self)


def check(
    name: str | Path,
    *,
    revision: str | None = None,
    device: str | None = None,
    dtype: str | None = None,
    every_layer: bool = False,
    ignore_fields: Sequence[str] = (),
) -> list[Line]:
    """Compare a model with Hugging Face, its hooks with the pure forward pass, its loss with the published one.

    Where a hook acts does not depend on the dtype, and rounding in half precision would hide it, so hooks are tried
    in float32.

    Args:
        every_layer: try the hooks of every layer, not only of the first, the last and one of each kind (and of the
            others where those have no effect).

    Returns:
        One line per comparison. Logits: their largest difference, and the share of their range that it may be. A site:
        the error of an edit as a share of its effect, or "no effect" where the pure pass expects none.

    Raises:
        ValueError: the model cannot be loaded.
    """
    check_bool(every_layer, "every_layer")
    resolve(name, revision)
    model = load(name, revision=revision, device=device, dtype=dtype, ignore_fields=ignore_fields)
    lines = [_against_hugging_face(model, name, revision)]
    if model.cfg.dtype != torch.float32:
        del model  # before the next is loaded: a large model may fit in memory only once
        model = load(name, revision=revision, device=device, ignore_fields=ignore_fields)
    lines += _hooks(model, every_layer)
    published = PUBLISHED_LOSS.get(model.anatomy.name) if model.anatomy.data else None  # a folder may be called gpt2
    return lines if published is None else [*lines, _against_published(model, published)]


def _against_hugging_face(model: Any, name: str | Path, revision: str | None) -> Line:
    """The largest difference of a logit on random tokens that cross the window: 0 where they are equal to the bit."""
    from transformers import AutoModelForCausalLM

    tokens = random_tokens(model, past_window=8)
    with torch.no_grad(), quiet_transformers():
        ours = model(tokens)
        theirs = AutoModelForCausalLM.from_pretrained(
            resolve(name, revision).folder,
            attn_implementation="eager",
            dtype=model.cfg.dtype,
            local_files_only=True,
            key_mapping=KEY_MAPPING,
        ).to(model.cfg.device)
        theirs = theirs.eval()(tokens).logits
    what = f"logits against Hugging Face, {tokens.shape[1]} tokens"
    same = (ours == theirs) | (ours.isnan() & theirs.isnan())
    if same.all():
        return Line(f"{what}: equal to the bit", "0", "0", True)
    difference = (ours - theirs).abs().masked_fill(same, 0.0).max().item()
    bound = LOGIT_TOLERANCE[model.cfg.dtype] * (theirs.max() - theirs.min()).item()
    if difference > bound:
        bound = max(bound, rounding_bound(weights_of(model), tokens))
    return Line(f"{what}: largest difference", f"{difference:.2g}", f"{bound:.2g}", difference <= bound)


def _hooks(model: Any, every_layer: bool) -> Iterator[Line]:
    """One line per site: the worst of its layers and of the two ways of editing."""
    facts = model.anatomy
    weights = weights_of(model)
    tokens = random_tokens(model, past_window=8 if max(facts.windows, default=0) <= 64 else None)
    layers = list(range(facts.layers)) if every_layer else _telling_layers(facts)
    others = [layer for layer in range(facts.layers) if layer not in layers]
    model.set_use_attn_result(False)
    plain = pure_logits(weights, tokens)
    for site in tqdm(sites_of(facts), desc="hooks", unit="site", delay=2, leave=False, disable=None):
        try_layer = partial(_trial, model, weights, tokens, plain, site)
        trials = [try_layer(layer) for layer in ([None] if site in ("embed", "pos_embed") else layers)]
        if trials[0].layer is not None and not any(trial.has_effect for trial in trials):
            trials += [try_layer(layer) for layer in others]
        yield _line(site, trials)


@dataclass(frozen=True)
class _Trial:
    """A site of one layer, edited in the hooked model and in the pure pass."""

    layer: int | None
    effect: float
    """The largest change of a logit by the edit, in the pure pass."""
    error: float
    """The largest difference of a logit between the two, by return or in place."""
    unit: float
    """What the error is a share of: the effect, or `SMALL_EFFECT` of the range of the logits where that is more."""

    @property
    def share(self) -> float:
        return self.error / self.unit if math.isfinite(self.error) else math.inf

    @property
    def has_effect(self) -> bool:
        """Whether a hook that did nothing would be found."""
        return self.effect > HOOK_TOLERANCE * self.unit


def _trial(model: Any, weights: Any, tokens: Tensor, plain: Tensor, site: str, layer: int | None) -> _Trial:
    edit = edit_at(site, layer)
    expected = pure_logits(weights, tokens, edit=edit)
    effect = (expected - plain).abs().max().item()
    error = max(_error(model, tokens, site, layer, hook, expected) for hook in (returned, in_place))
    unit = max(effect, SMALL_EFFECT * (plain.max() - plain.min()).item(), sys.float_info.min)
    if HOOK_TOLERANCE * unit < error < math.inf:
        unit = max(unit, rounding_bound(weights, tokens, edit) / HOOK_TOLERANCE)
    return _Trial(layer, effect, error, unit)


def _line(site: str, trials: list[_Trial]) -> Line:
    worst = max(trial.share for trial in trials)
    without = [trial.layer for trial in trials if not trial.has_effect]
    if len(without) == len(trials):
        what = f"{site}: no effect" if worst <= HOOK_TOLERANCE else f"{site}: effect of an edit that should have none"
    else:
        what = f"{site}: error of an edit over its effect" + (f"; no effect in {_layers(without)}" if without else "")
    return Line(what, f"{worst:.1e}", f"{HOOK_TOLERANCE:g}", worst <= HOOK_TOLERANCE)


def _layers(numbers: list[int | None]) -> str:
    return ("layer " if len(numbers) == 1 else "layers ") + ", ".join(map(str, numbers))


def _telling_layers(facts: Anatomy) -> list[int]:
    """The first and last layers, and one of each kind."""
    kinds = [facts.layers_of_kind(kind)[:1] for kind in ("global", "local")]
    return sorted({0, facts.layers - 1, *(layer for kind in kinds for layer in kind)})


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
