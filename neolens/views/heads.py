"""Attention patterns to look at, every head named with its kind: `1.3 local 256`.

A few tokens are drawn by circuitsvis, 40 or more, or many heads, as a compact picture. Both are views of the same
pattern, refused in the same words where it is no pattern or too much for one view.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from neolens.checks import Head, check_bool, check_head, check_indices, check_layers, check_text, shown
from neolens.network import measurement
from neolens.prompts.bos import bos_token
from neolens.views import circuits_vis, compact
from neolens.views.labels import window
from neolens.views.packing import cells
from neolens.views.view import View, asset
from neolens.views.words import check_words, named, numbered, prompt_tokens, token_strings

SHORT = 40
"""Tokens from which on patterns are drawn as the compact picture."""
LONGEST = 128
"""Tokens up to which circuitsvis draws at all."""
MAX_CELLS = 6_500_000
"""Attention values that one view may hold: 12 heads of 1,024 tokens, about 6.5 MB of HTML; a local head has fewer."""

_AT_ONCE = 20 * LONGEST**2  # what a browser draws with circuitsvis without a wait
_ABOVE_1 = 1e-3  # by which a pattern of low precision may pass it


@measurement(error=False)
def attention(
    model: Any,
    text_or_tokens: str | Int[Tensor, " pos"] | Int[Tensor, "1 pos"],
    *,
    layers: Sequence[int] | None = None,
    heads: Sequence[int] | None = None,
    first: Head | str | None = None,
    circuitsvis: bool | None = None,
) -> View:
    """The attention patterns of the chosen layers and heads (by default all) on one prompt.

    BOS is put before a text, and the view says so, but not before tokens. Fewer than 40 tokens are drawn by
    circuitsvis, more as a compact picture: one byte per value, largest error 0.0078, exactly 0 only what is 0.

    Args:
        first: the head that the view opens with, by default the first.
        circuitsvis: True draws up to 128 tokens with circuitsvis, False none.

    Raises:
        TypeError, ValueError: a layer or head that does not exist, no prompt, a text without a tokenizer, or more than
            a view holds (12 heads of 1,024 tokens; local layers count as far as their windows reach).
    """
    from neolens.models import anatomy
    from neolens.network import head_patterns

    facts = anatomy(model)
    layers = check_layers(range(facts.layers) if layers is None else layers, facts.layers, facts.name)
    heads = check_indices(range(facts.heads) if heads is None else heads, "head", facts.heads, facts.name)
    tokens = prompt_tokens(model, text_or_tokens)
    labels = [f"{layer}.{head} {facts.attention[layer]}" for layer in layers for head in heads]
    _refuse_too_large(len(tokens), labels)
    found = head_patterns(model, tokens, dict.fromkeys(layers, heads))
    pattern = torch.cat([found[layer].cpu() for layer in layers])
    bos = isinstance(text_or_tokens, str) and bos_token(model.tokenizer) is not None
    opened = None if first is None else _label_of(check_head(first, facts.layers, facts.heads, facts.name), labels)
    words = token_strings(model, tokens)
    return _view(words, pattern, labels, title=facts.name, first=opened, circuitsvis=circuitsvis, bos=bos)


def attention_view(
    tokens: Sequence[str],
    pattern: Float[Tensor | np.ndarray, "head query_pos key_pos"],
    labels: Sequence[str],
    title: str = "",
    *,
    first: str | None = None,
    circuitsvis: bool | None = None,
) -> View:
    """The view of given patterns. A label such as `1.3 local 16` names each head.

    A head has the colour that the kind in its label has in the figures. The `table` of the view has a row for each
    head, query and key that is no later: head, query_pos, query, key_pos, key, attention.

    Args:
        first: the label, or its first word such as `1.3`, of the head that the view opens with.
        circuitsvis: True draws up to 128 tokens with circuitsvis, False none; by default fewer than 40.

    Raises:
        TypeError: tokens or labels that are not strings, or a pattern that is not numbers.
        ValueError: numbers of tokens, labels and pattern cells that do not fit each other, too many of them, or
            values that are no causal attention.
    """
    tokens, labels = check_words(tokens, "tokens"), check_words(labels, "labels")
    check_text(title, "title", empty=True)
    pattern = _numbers(pattern)
    expected = (len(labels), len(tokens), len(tokens))
    if tuple(pattern.shape) != expected:
        raise ValueError(
            f"a pattern of shape {tuple(pattern.shape)} does not fit {len(labels)} labels and {len(tokens)} "
            f"tokens: expected (head, query_pos, key_pos) = {expected}"
        )
    if not tokens or not labels:
        raise ValueError(
            f"nothing to draw: {len(labels)} labels and {len(tokens)} tokens, expected at least one of each"
        )
    _refuse_too_large(len(tokens), labels)
    _refuse_no_attention(pattern, labels)
    return _view(tokens, pattern, labels, title=title, first=first, circuitsvis=circuitsvis)


def _view(
    tokens: list[str],
    pattern: Tensor,
    labels: list[str],
    *,
    title: str,
    first: str | None,
    circuitsvis: Any,
    bos: bool = False,
) -> View:
    """The view of a pattern that was checked; `bos`: the first token was added to a text."""
    if circuitsvis is not None:
        check_bool(circuitsvis, "circuitsvis")
    opened = 0 if first is None else labels.index(_label_of(first, labels))
    most = LONGEST if circuitsvis else SHORT - 1
    small = len(tokens) <= most and pattern.numel() <= _AT_ONCE
    if circuitsvis and not small:
        raise ValueError(
            f"circuitsvis does not draw {len(labels)} heads of {len(tokens):,} tokens: pass at most {LONGEST} tokens "
            f"and {_AT_ONCE // len(tokens) ** 2} heads, or leave out circuitsvis=True"
        )
    head = f"<style>{asset('views.css')}</style><p>{named(title)}{len(tokens):,} tokens; "
    head += "rows are queries (destination), columns keys (source)"
    head += "; BOS was added before the text, as token 0" if bos else ""
    table = partial(_table, tokens, pattern, labels)
    if small and circuitsvis is not False:
        order = [opened, *(at for at in range(len(labels)) if at != opened)]
        drawn = circuits_vis.drawn(tokens, pattern[order], [labels[at] for at in order])
        body, draw = f"{head}:</p>{numbered(tokens)}", drawn
        return View(body, draw, circuits_vis.bundled_script(), table=table)
    body = f"{head}.</p><details><summary>The tokens</summary>{numbered(tokens)}</details>"
    return View(body, compact.drawn(tokens, pattern, labels, opened), compact.script(), table=table)


def _label_of(head: Any, labels: Sequence[str]) -> str:
    """The label of a head, which is the label itself, its first word, or (layer, head)."""
    name = ".".join(map(str, head)) if isinstance(head, tuple) else check_text(head, "first", example=repr(labels[0]))
    for label in labels:
        if name in (label, *label.split()[:1]):
            return label
    raise ValueError(f"first {shown(name)}: no such head in the view, which has {', '.join(labels[:8])}")


def _numbers(pattern: Any) -> Tensor:
    """A pattern as a tensor of floats in memory."""
    is_array = isinstance(pattern, np.ndarray) and pattern.dtype.kind in "fiu"
    numbers = torch.from_numpy(_native(pattern)) if is_array else pattern
    unreal = not isinstance(numbers, Tensor) or numbers.is_complex() or numbers.dtype == torch.bool
    if unreal or numbers.is_meta or numbers.layout != torch.strided:
        raise TypeError(f"pattern {shown(pattern)}: expected a tensor or array of numbers [head, query_pos, key_pos]")
    numbers = numbers.detach().cpu()
    return (
        numbers if numbers.dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64) else numbers.float()
    )


def _native(pattern: np.ndarray) -> np.ndarray:
    """Floats of a type, an order of bytes and of axes that torch has."""
    return pattern.astype(np.float32 if pattern.dtype.itemsize <= 4 else np.float64, order="C")


def _table(tokens: list[str], pattern: Tensor, labels: list[str]) -> pd.DataFrame:
    query, key = np.tril_indices(len(tokens))
    words = np.array(tokens, dtype=object)
    return pd.DataFrame(
        {
            "head": np.repeat(np.array(labels, dtype=object), len(query)),
            "query_pos": np.tile(query, len(labels)),
            "query": np.tile(words[query], len(labels)),
            "key_pos": np.tile(key, len(labels)),
            "key": np.tile(words[key], len(labels)),
            "attention": pattern[:, query, key].float().flatten().numpy(),
        }
    )


def _refuse_too_large(tokens: int, labels: Sequence[str]) -> None:
    """Refuse more causal cells than one view may hold; say how many heads, or how many tokens, it may."""
    windows = [window(label) for label in labels]
    each = np.cumsum([cells(tokens, width) for width in windows])
    if each[-1] <= MAX_CELLS:
        return
    fitting = int((each <= MAX_CELLS).sum())
    shorter = next(n for n in range(tokens, 0, -1) if sum(cells(n, width) for width in windows) <= MAX_CELLS)
    fewer = f"choose at most {fitting} of these heads, or " if fitting else ""
    heads = (
        f"{len(labels)} heads of {tokens:,} tokens hold" if len(labels) > 1 else f"a head of {tokens:,} tokens holds"
    )
    raise ValueError(
        f"{heads} {each[-1]:,} attention values, too many for one view: {fewer}pass at most {shorter:,} tokens"
    )


def _refuse_no_attention(pattern: Float[Tensor, "head query_pos key_pos"], labels: Sequence[str]) -> None:
    """Refuse values that are undefined, negative, above 1, or of keys after their query."""
    bad = ~((pattern >= 0) & (pattern <= 1 + _ABOVE_1)) | (pattern.triu(1) != 0)
    if bad.any():
        head, query, key = bad.nonzero()[0].tolist()
        raise ValueError(
            f"head {labels[head]!r} gives key {key} at query {query} the value {pattern[head, query, key]:.3g}: "
            "expected causal attention, 0 to 1, and 0 where the key comes after the query"
        )
