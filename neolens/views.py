"""Attention patterns to look at, token by token: circuitsvis without a network, heads named with their kind.

circuitsvis asks the internet whether it is there and then loads its script from a CDN; its own wheel brings
the same script along. A `View` takes that script from the wheel, holds the data beside it, and is the same in
a notebook, in a file and in a report, with or without a network. Data goes into a page as JSON in which no
character can end a script; tokens are drawn as text.
"""

from __future__ import annotations

import functools
import html
import importlib.resources
import json
import re
import unicodedata
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from neolens.figures import KIND_COLOURS
from neolens.prompts.tokenizing import token_words

MAX_TOKENS = 320
"""Tokens that one view may hold: past the window of 256 of the released GPT-Neo models."""
MAX_CELLS = 20 * 128**2
"""Attention values that one view may hold: about 3 MB of HTML, 20 heads of 128 tokens or 3 of 320."""

_NEITHER = "#3d4852"
_STYLE = """<style>
.neolens-view { max-width: 860px; margin: 0 auto; padding: 4px 10px; background: #fff; color: #1f2933; }
.neolens-view p { margin: 4px 0; font-size: 14px; line-height: 1.7; }
.neolens-view .neolens-tokens { font-family: ui-monospace, Menlo, Consolas, monospace; font-size: 13px;
  white-space: pre-wrap; overflow-wrap: anywhere; }
.neolens-view .neolens-tokens span { display: inline-block; max-width: 100%; background: #f0f2f5;
  padding: 1px 2px; margin-right: 1px; }
.neolens-view .neolens-tokens span:nth-child(even) { background: #dfe4ea; }
.neolens-view h2, .neolens-view h3 { border: 0; font-size: 13px; line-height: 1.3; }
.neolens-view h4 { font-size: 9px; line-height: 1.3; }
</style>"""


@dataclass(frozen=True)
class View:
    """A picture that a browser draws: `str()` is its HTML, complete in itself, and notebooks show it.

    `body` is HTML to read; `draw` a JavaScript function that takes the element to draw into; `script` the
    library that `draw` needs. A page with several views includes an equal script once.
    """

    body: str = field(repr=False)
    draw: str = field(repr=False)
    script: str = field(repr=False)

    def __str__(self) -> str:
        name = f"neolens-{uuid.uuid4()}"
        return (
            f'<div class="neolens-view">{self.body}<div id="{name}"></div>\n'
            f"<script>{self.script}</script>\n"
            f'<script>({self.draw})(document.getElementById("{name}"))</script></div>'
        )

    def _repr_html_(self) -> str:
        return str(self)


def attention(
    model: Any,
    text_or_tokens: str | Int[Tensor, " pos"] | Int[Tensor, "1 pos"],
    *,
    layers: Sequence[int] | None = None,
    heads: Sequence[int] | None = None,
) -> View:
    """The attention patterns of the chosen layers and heads (all, unless told) on one prompt.

    BOS is put before a text, not before tokens.

    Raises: ValueError: a layer or head that does not exist, a text without a tokenizer, or more than a
    browser can draw (320 tokens; fewer where there are many heads).
    """
    from neolens.models import anatomy
    from neolens.network import patterns

    facts = anatomy(model)
    layers = _existing(layers, facts.layers, "layer")
    heads = _existing(heads, facts.heads, "head")
    tokens = _tokens(model, text_or_tokens)
    _refuse_too_large(len(tokens), len(layers) * len(heads))
    labels = [f"{layer}.{head} {facts.attention[layer]}" for layer in layers for head in heads]
    pattern = torch.cat([patterns(model, tokens, layer)[list(heads)].cpu() for layer in layers])
    return attention_view(token_strings(model, tokens), pattern, labels, title=facts.name)


def attention_view(
    tokens: Sequence[str],
    pattern: Float[Tensor, "head query_pos key_pos"],
    labels: Sequence[str],
    title: str = "",
) -> View:
    """The view of given patterns. A label such as `1.3 local 16` names each head.

    Heads of one kind are drawn in the colour that this kind has in the figures.

    Raises: ValueError: numbers of tokens, labels and pattern cells that do not fit each other, or too many of
    them.
    """
    expected = (len(labels), len(tokens), len(tokens))
    if tuple(pattern.shape) != expected:
        raise ValueError(
            f"a pattern of shape {tuple(pattern.shape)} does not fit {len(labels)} labels and {len(tokens)} "
            f"tokens: expected (head, query_pos, key_pos) = {expected}"
        )
    _refuse_too_large(len(tokens), len(labels))
    shown = [visible(token) for token in tokens]
    props = {
        "tokens": shown,
        "attention": [[[round(cell, 4) for cell in row] for row in head] for head in pattern.tolist()],
        "attentionHeadNames": list(labels),
        "positiveColor": _colour(labels),
        "minValue": 0,
        "maxValue": 1,
    }
    draw = (
        f"element => {{ element.id ||= 'circuitsvis-' + Math.random().toString(36).slice(2); "
        f"CircuitsVis.render(element.id, CircuitsVis.AttentionHeads, {script_json(props)}); }}"
    )
    return View(_body(shown, title), draw, bundled_script())


def token_strings(model: Any, tokens: Int[Tensor, " pos"]) -> list[str]:
    """What each token stands for, or its number where the model has no tokenizer."""
    tokenizer = getattr(model, "tokenizer", None)
    if tokenizer is None:
        return [str(token) for token in tokens.tolist()]
    return list(token_words(tokenizer, tokens.tolist()))


def visible(token: str) -> str:
    """The token with its line ends, tabs and other invisible characters written out."""
    known = {"\n": "⏎", "\t": "⇥", "\r": "␍"}
    hidden = ("Cc", "Cf", "Cs", "Zl", "Zp")
    return "".join(
        known.get(char) or (f"\\u{ord(char):04x}" if unicodedata.category(char) in hidden else char) for char in token
    )


def script_json(value: object) -> str:
    """`value` as JSON that may stand inside a script element: nothing in it can end the script."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


@functools.cache
def bundled_script() -> str:
    """The JavaScript that the circuitsvis wheel brings along; it defines the global `CircuitsVis`."""
    source = importlib.resources.files("circuitsvis").joinpath("dist/cdn/iife.js").read_text(encoding="utf-8")
    source = re.sub(r"^//# sourceMappingURL=.*$", "", source, flags=re.MULTILINE)
    return re.sub(r"</(script)", r"<\\/\1", source, flags=re.IGNORECASE).strip()


def _tokens(model: Any, given: str | Int[Tensor, " pos"] | Int[Tensor, "1 pos"]) -> Int[Tensor, " pos"]:
    tokens = given if isinstance(given, Tensor) else _of_text(model, given)
    if tokens.ndim == 2 and len(tokens) == 1:
        tokens = tokens[0]
    if tokens.ndim != 1:
        raise ValueError(f"tokens of shape {tuple(tokens.shape)} are not one prompt: pass one row of them")
    return tokens


def _of_text(model: Any, text: str) -> Int[Tensor, "1 pos"]:
    if getattr(model, "tokenizer", None) is None:
        raise ValueError("the model has no tokenizer, so it takes no text: pass an integer tensor of tokens")
    return model.to_tokens(text, prepend_bos=True, truncate=False)


def _existing(chosen: Sequence[int] | None, count: int, what: str) -> list[int]:
    chosen = list(range(count)) if chosen is None else list(chosen)
    missing = [index for index in chosen if not 0 <= index < count]
    if missing:
        raise ValueError(f"no {what} {missing[0]}: {what}s are 0 to {count - 1}")
    if not chosen:
        raise ValueError(f"no {what}s to show: name at least one of 0 to {count - 1}, or leave {what}s out")
    return chosen


def _refuse_too_large(tokens: int, heads: int) -> None:
    if tokens > MAX_TOKENS:
        raise ValueError(f"{tokens} tokens are too many for an attention view: pass at most {MAX_TOKENS}")
    if heads * tokens**2 > MAX_CELLS:
        most = MAX_CELLS // tokens**2
        raise ValueError(f"{heads} heads of {tokens} tokens are too many for one view: choose at most {most} heads")


def _colour(labels: Sequence[str]) -> str:
    """The colour of the kind that all heads share, grey where kinds differ or are not named."""
    kinds = {next((kind for kind in KIND_COLOURS if kind in label.split()), None) for label in labels}
    return KIND_COLOURS.get(next(iter(kinds)) or "", _NEITHER) if len(kinds) == 1 else _NEITHER


def _body(tokens: Sequence[str], title: str) -> str:
    numbered = "".join(
        f'<span title="position {position}">{html.escape(token)}</span>' for position, token in enumerate(tokens)
    )
    head = f"<strong>{html.escape(title)}</strong>, " if title else ""
    return (
        f"{_STYLE}<p>{head}{len(tokens)} tokens; rows are queries (destination), columns keys (source):</p>"
        f'<p class="neolens-tokens">{numbered}</p>'
    )
