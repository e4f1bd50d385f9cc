"""Plain text or long prompts of tokens as prompts that fit the model: read a file, tokenize, cut."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from neolens.checks import check_list, check_seed, check_text, check_type, check_whole, shown
from neolens.prompts.bos import chosen_bos
from neolens.prompts.drawing import check_room
from neolens.prompts.tokenizing import check_unicode
from neolens.prompts.tokens import is_prompt


def check_file(path: Any, what: str, expected: str) -> Path:
    """The path of a file that is there.

    Raises:
        TypeError: no path.
        ValueError: no such file.
    """
    path = Path(check_type(path, what, (str, Path), expected)).expanduser()
    if not os.path.isfile(path):  # also where the name itself is impossible
        raise ValueError(f"{what} {shown(str(path), 200)} does not exist: {expected}")
    return path


def read_text(path: str | Path) -> str:
    """The text of a file.

    Raises:
        TypeError: no path.
        ValueError: no such file, not UTF-8 text, or empty.
    """
    path = check_file(path, "text file", "expected the path of a UTF-8 text file")
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


def chunks(
    tokenizer: Any, text: str, length: int, *, prompts: int | None = None, prepend_bos: bool = True
) -> Int[Tensor, "prompt pos"]:
    """Consecutive prompts of `length` tokens, BOS first in each; a rest shorter than that is left out.

    A text that fills no whole prompt gives one shorter prompt.

    Args:
        prompts: at most so many; by default as many as the text fills.
        prepend_bos: begin each with the tokenizer's BOS, or its end-of-text token where it has no BOS; False puts
            nothing before the text.

    Raises:
        ValueError: no BOS to begin with, `length` below 2, `prompts` below 1, or a text without tokens.
    """
    length, prompts = _check_sizes(length, prompts)
    if not hasattr(tokenizer, "get_vocab"):
        raise TypeError(f"tokenizer {shown(tokenizer)}: expected a Hugging Face tokenizer, such as model.tokenizer")
    check_unicode(check_text(text, "text", empty=True), "text")
    bos = chosen_bos(tokenizer, prepend_bos)
    needed = text if prompts is None else text[: 40 * length * prompts]
    ids = tokenizer(needed, add_special_tokens=False, verbose=False)["input_ids"]
    if not ids:
        raise ValueError("the text has no tokens: give one with some words")
    return token_chunks([torch.tensor(ids, dtype=torch.long)], length, prompts=prompts, bos=bos)


def token_chunks(
    tokens: Sequence[Int[Tensor, " _"]], length: int, *, prompts: int | None = None, bos: int | None = None
) -> Int[Tensor, "prompt pos"]:
    """Consecutive prompts of `length` tokens from longer ones, such as those of `read_tokens`.

    No prompt goes on in the next one: of each, a rest that is shorter is left out. Where none is long enough, the
    longest ones are given whole, and the prompts are as long as they are.

    Args:
        tokens: one-dimensional integer tensors of any lengths.
        prompts: at most so many; by default all.
        bos: a token to put first in each, which counts towards `length`; None for none.

    Raises:
        ValueError: `length` below 2, `prompts` below 1, or no tokens.
    """
    length, prompts = _check_sizes(length, prompts)
    bos = None if bos is None else check_whole(bos, "bos", 0, 2**31 - 1)
    tokens = check_list(tokens, "tokens", "one-dimensional integer tensors")
    for number, prompt in enumerate(tokens):
        if not is_prompt(prompt):
            raise TypeError(f"prompt {number} is {shown(prompt)}: expected a one-dimensional integer tensor in memory")
        if len(prompt) and int(prompt.min()) < 0:
            raise ValueError(f"prompt {number} holds token {int(prompt.min())}: expected tokens from 0")
    body = min(length - (bos is not None), max(map(len, tokens), default=0))
    if body == 0:
        raise ValueError("there are no tokens to cut into prompts: give at least one prompt with some")
    rows = torch.cat([prompt[: len(prompt) // body * body].reshape(-1, body) for prompt in tokens])[:prompts].long()
    return rows if bos is None else torch.cat([torch.full((len(rows), 1), bos), rows], dim=1)


def _check_sizes(length: Any, prompts: Any) -> tuple[int, int | None]:
    most = 2**31 - 1
    length = check_whole(length, "length", 2, most, unit="tokens")
    return length, None if prompts is None else check_whole(prompts, "prompts", 1, most)


def lab_documents(count: int, tokens: int, *, seed: int = 0) -> list[str]:
    """Documents of the lab's synthetic English, which every tokenizer can read, of at least so many tokens each.

    A document begins with a sentence, as in the lab's training: the absolute lab models read no other.

    Raises:
        TypeError, ValueError: no whole numbers, or none of 1 or more.
    """
    from neolens.lab.language.grammar import sentences
    from neolens.lab.language.words import VOCABULARY

    most = 2**31 - 1
    count, tokens, seed = check_whole(count, "count", 1, most), check_whole(tokens, "tokens", 1, most), check_seed(seed)
    check_room(count, tokens)
    rng = np.random.default_rng(seed)
    rows = [sentences(rng, tokens // 7 + 1).ravel() for _ in range(count)]
    return [" ".join(VOCABULARY[token] for token in row) for row in rows]
