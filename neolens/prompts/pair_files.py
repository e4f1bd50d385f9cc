"""Prompt pairs of a user's own: one JSON object per line, checked line by line."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from neolens.checks import did_you_mean, shown
from neolens.prompts.pairs import PromptPairs
from neolens.prompts.text import read_text
from neolens.prompts.tokenizing import tokenizer_of

FIELDS = ("clean", "corrupted", "answer", "distractor")


def read_pairs(path: str | Path, model: Any, *, prepend_bos: bool = True) -> PromptPairs:
    r"""The pairs of a file in the tokens of a model.

    Each line is an object such as `{"clean": "The sky is", "corrupted": "The grass is", "answer": " blue",
    "distractor": " green"}`. Besides the positions of `PromptPairs`, pairs have two named ones: `changed`, the first
    token in which the prompts of a pair differ, and `end`, the last token.

    Args:
        path: a UTF-8 file, usually called `.jsonl`.
        model: from `neolens.load`, with a tokenizer.
        prepend_bos: as in `PromptPairs.from_text`.

    Raises:
        ValueError: no such file, a line that is no object with these fields, or one that is no pair in the tokens of
            this model; the message names the line.

    Example:
        >>> import neolens, tempfile
        >>> line = '{"clean": "Mary gave Tom", "corrupted": "Anna gave Tom", "answer": "Mary", "distractor": "Anna"}'
        >>> with tempfile.NamedTemporaryFile("w", suffix=".jsonl") as file:
        ...     _ = file.write(line + "\n")
        ...     file.flush()
        ...     pairs = neolens.prompts.read_pairs(file.name, neolens.load("lab/gpt2"))
        >>> len(pairs), pairs.positions["changed"].tolist(), pairs.positions["end"].tolist()
        (1, [1], [3])
    """
    tokenizer_of(model)
    rows = pair_rows(path)
    try:
        pairs = _pairs(model, list(rows.values()), prepend_bos)
    except TypeError:
        raise
    except Exception as error:  # also a plain one, of a tokenizer without [UNK] that lacks a word
        raise ValueError(_first_error(model, rows, path, prepend_bos) or f"pairs of {path}: {error}") from error
    positions = {"changed": pairs.first_difference, "end": torch.tensor(pairs.lengths) - 1}
    return replace(pairs, positions=positions)


def pair_rows(path: str | Path) -> dict[int, dict[str, str]]:
    """Line, counted from 1 -> its four texts; blank lines are left out.

    Raises:
        ValueError: no such file, or a line that is no object with these fields.
    """
    lines = enumerate(read_text(path).split("\n"), 1)
    return {number: _row(line, f"line {number} of {path}") for number, line in lines if line.strip()}


def _pairs(model: Any, rows: Sequence[Mapping[str, str]], prepend_bos: bool) -> PromptPairs:
    columns = ([row[name] for row in rows] for name in FIELDS)
    return PromptPairs.from_text(model, *columns, prepend_bos=prepend_bos)


def _first_error(model: Any, rows: Mapping[int, Mapping[str, str]], path: str | Path, prepend_bos: bool) -> str:
    """What is wrong with the first line that is no pair by itself, and which line it is."""
    for number, row in rows.items():
        try:
            _pairs(model, [row], prepend_bos)
        except Exception as error:
            reason = str(error).removeprefix("pair 0: ").replace("pair 0", "the pair")
            return f"line {number} of {path}: {reason}"
    return ""


def _row(line: str, where: str) -> dict[str, str]:
    """The four texts of a line."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{where} is not valid JSON ({reason:.80}): expected {_EXAMPLE}") from error
    if not isinstance(row, dict):
        raise ValueError(f"{where} holds {shown(row)}: expected an object with {', '.join(FIELDS)}")
    for name in row:
        if name not in FIELDS:
            near = did_you_mean(name, FIELDS)
            raise ValueError(f"{where} has the field {shown(name)}: {near}expected {', '.join(FIELDS)}")
    for name in FIELDS:
        if name not in row:
            raise ValueError(f"{where} lacks {name}: expected {', '.join(FIELDS)}")
        if not isinstance(row[name], str):
            raise ValueError(f"{where}: {name} is {shown(row[name])}: expected text")
    return row


_EXAMPLE = '{"clean": "...", "corrupted": "...", "answer": "...", "distractor": "..."}'
