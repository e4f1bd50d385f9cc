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

from neolens.checks import check_list, check_text, check_tokens, shown
from neolens.prompts.bos import bos_token
from neolens.prompts.tokenizing import check_unicode, refuse_unknown, token_words

_KNOWN = {"\n": "⏎", "\t": "⇥", "\r": "␍"}
_HIDDEN = ("Cc", "Cf", "Cs", "Zl", "Zp")


def tokenizer_or_none(model: Any) -> Any:
    """The tokenizer of a model, None where it has none, or where there is no model.

    Raises:
        TypeError: no model.
    """
    tokenizer = getattr(model, "tokenizer", None)
    strange = isinstance(model, type) or (tokenizer is not None and not hasattr(tokenizer, "decode"))
    if strange or not (model is None or hasattr(model, "tokenizer")):
        raise TypeError(f"model {shown(model)}: expected a model from neolens.load, or None")
    return tokenizer


def token_strings(model: Any, tokens: Int[Tensor, " pos"]) -> list[str]:
    """What each token stands for, or its number where the model has no tokenizer."""
    tokenizer = tokenizer_or_none(model)
    check_tokens(tokens, "tokens", "[pos]", getattr(getattr(model, "cfg", None), "d_vocab", None))
    if tokenizer is None:
        return [str(token) for token in tokens.tolist()]
    return list(token_words(tokenizer, tokens.tolist()))


def prompt_tokens(model: Any, given: str | Int[Tensor, " pos"] | Int[Tensor, "1 pos"]) -> Int[Tensor, " pos"]:
    """One prompt as tokens; BOS is put before a text, not before tokens.

    Raises:
        TypeError: neither a text nor an integer tensor.
        ValueError: a text without a tokenizer, one without tokens or with unknown words, several prompts, or a token
            outside the vocabulary.
    """
    tokenizer_or_none(model)
    if isinstance(given, str):
        return _of_text(model, given)[0]
    if not isinstance(given, Tensor):
        raise TypeError(f"prompt {shown(given)}: expected a text, or an integer tensor [pos] of tokens")
    if given.ndim > 1 and len(given) != 1:
        raise ValueError(f"tokens of shape {tuple(given.shape)} are not one prompt: pass one row of them")
    tokens = given[0] if given.ndim == 2 else given
    return check_tokens(tokens, "prompt", "[pos]", getattr(getattr(model, "cfg", None), "d_vocab", None)).long()


def visible(token: str) -> str:
    """The token with its line ends, tabs and other invisible characters written out."""
    check_text(token, "token", empty=True)
    return "".join(
        _KNOWN.get(char) or (f"\\u{ord(char):04x}" if unicodedata.category(char) in _HIDDEN else char) for char in token
    )


def script_json(value: object) -> str:
    """`value` as JSON that may stand inside a script element: nothing in it can end the script."""
    try:
        text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    except TypeError:
        raise TypeError(f"value {shown(value)}: expected text, numbers, lists and dicts, which JSON has") from None
    except (ValueError, RecursionError):
        raise ValueError(f"value {shown(value)}: expected finite numbers, in lists and dicts, which JSON has") from None
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
    bos = bos_token(model.tokenizer) is not None
    tokens = model.to_tokens(check_unicode(text, "text"), prepend_bos=bos, truncate=False)
    ids = tokens[0, int(bos) :].tolist()
    if not ids:
        raise ValueError(f"text {text!r}: it has no tokens; give one with some words")
    refuse_unknown(model.tokenizer, text, ids, "the text")
    return tokens


def check_words(words: Any, what: str) -> list[str]:
    """Strings, any of which may be empty.

    Raises:
        TypeError: something else.
    """
    listed = check_list(words, what, "strings", example="['the', 'cat']")
    return [check_text(word, f"{what}[{number}]", empty=True) for number, word in enumerate(listed)]
