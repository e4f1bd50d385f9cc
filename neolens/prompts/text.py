"""Plain text as prompts: read a file, tokenize, cut into prompts that fit the model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor


def read_text(path: str | Path) -> str:
    """The text of a file.

    Raises:
        ValueError: no such file, not UTF-8 text, or empty.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"text file {str(path)!r} does not exist: expected the path of a UTF-8 text file")
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ValueError(f"text file {str(path)!r} cannot be read ({error.strerror}): give one that can be") from error
    except UnicodeDecodeError as error:
        raise ValueError(
            f"text file {str(path)!r} is not UTF-8 text (byte {error.start}): convert it, or give another file"
        ) from error
    if "\0" in text:
        raise ValueError(f"text file {str(path)!r} is not text (it holds NUL bytes): give a UTF-8 text file")
    if not text.strip():
        raise ValueError(f"text file {str(path)!r} is empty: give one with some words")
    return text


def beginning_of_sequence(tokenizer: Any) -> int:
    """The token put before a prompt: the tokenizer's BOS, or its end-of-text token where it has no BOS.

    Raises:
        ValueError: the tokenizer has neither.
    """
    for token in (tokenizer.bos_token_id, tokenizer.eos_token_id):
        if token is not None:
            return int(token)
    raise ValueError("the tokenizer has no BOS and no end-of-text token: set tokenizer.bos_token")


def chunks(tokenizer: Any, text: str, length: int, *, prompts: int | None = None) -> Int[Tensor, "prompt pos"]:
    """Consecutive prompts of `length` tokens, BOS first in each; a rest shorter than that is left out.

    A text that fills no whole prompt gives one shorter prompt.

    Args:
        prompts: at most so many; by default as many as the text fills.

    Raises:
        ValueError: `length` below 2, or a text without tokens.
    """
    if length < 2:
        raise ValueError(f"prompts of {length} tokens hold no text: expected a length of at least 2")
    body = length - 1
    needed = text if prompts is None else text[: 40 * body * prompts]
    ids = tokenizer(needed, add_special_tokens=False, verbose=False)["input_ids"]
    if not ids:
        raise ValueError("the text has no tokens: give one with some words")
    whole = max(1, len(ids) // body)
    count = whole if prompts is None else min(prompts, whole)
    rows = torch.tensor(ids[: count * body]).reshape(count, -1)
    bos = torch.full((count, 1), beginning_of_sequence(tokenizer))
    return torch.cat([bos, rows], dim=1)


def lab_documents(count: int, tokens: int, *, seed: int = 0) -> list[str]:
    """Documents of the lab's synthetic English, which every tokenizer can read, of at least so many tokens each.

    A document begins with a sentence, as in the lab's training: the absolute lab models read no other.
    """
    from neolens.lab.grammar import sentences
    from neolens.lab.words import VOCABULARY

    rng = np.random.default_rng(seed)
    rows = [sentences(rng, tokens // 7 + 1).ravel() for _ in range(count)]
    return [" ".join(VOCABULARY[token] for token in row) for row in rows]
