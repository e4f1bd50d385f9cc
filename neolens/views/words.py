"""Tokens as text in a page: what they stand for, what cannot be seen written out, nothing that a script could be.

Data goes into a page as JSON in which no character can end a script, and text as text: a prompt may hold anything.
"""

from __future__ import annotations

import html
import json
import unicodedata
from collections.abc import Sequence
from typing import Any

from jaxtyping import Int
from torch import Tensor

from neolens.prompts.bos import bos_token
from neolens.prompts.tokenizing import token_words

_KNOWN = {"\n": "⏎", "\t": "⇥", "\r": "␍"}
_HIDDEN = ("Cc", "Cf", "Cs", "Zl", "Zp")


def token_strings(model: Any, tokens: Int[Tensor, " pos"]) -> list[str]:
    """What each token stands for, or its number where the model has no tokenizer."""
    tokenizer = getattr(model, "tokenizer", None)
    if tokenizer is None:
        return [str(token) for token in tokens.tolist()]
    return list(token_words(tokenizer, tokens.tolist()))


def prompt_tokens(model: Any, given: str | Int[Tensor, " pos"] | Int[Tensor, "1 pos"]) -> Int[Tensor, " pos"]:
    """One prompt as tokens; BOS is put before a text, not before tokens.

    Raises:
        ValueError: a text without a tokenizer, or several prompts.
    """
    tokens = given if isinstance(given, Tensor) else _of_text(model, given)
    if tokens.ndim == 2 and len(tokens) == 1:
        tokens = tokens[0]
    if tokens.ndim != 1:
        raise ValueError(f"tokens of shape {tuple(tokens.shape)} are not one prompt: pass one row of them")
    return tokens


def visible(token: str) -> str:
    """The token with its line ends, tabs and other invisible characters written out."""
    return "".join(
        _KNOWN.get(char) or (f"\\u{ord(char):04x}" if unicodedata.category(char) in _HIDDEN else char) for char in token
    )


def script_json(value: object) -> str:
    """`value` as JSON that may stand inside a script element: nothing in it can end the script."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def numbered(tokens: Sequence[str]) -> str:
    """The tokens as HTML to read, each with its position on hover."""
    spans = "".join(
        f'<span title="position {position}">{html.escape(visible(token))}</span>'
        for position, token in enumerate(tokens)
    )
    return f'<p class="neolens-tokens">{spans}</p>'


def named(title: str) -> str:
    """The title as HTML, ready to be followed by a sentence."""
    return f"<strong>{html.escape(title)}</strong>, " if title else ""


def _of_text(model: Any, text: str) -> Int[Tensor, "1 pos"]:
    if getattr(model, "tokenizer", None) is None:
        raise ValueError("the model has no tokenizer, so it takes no text: pass an integer tensor of tokens")
    return model.to_tokens(text, prepend_bos=bos_token(model.tokenizer) is not None, truncate=False)
