"""Pairs of prompts from a user's file, in place of those that a study draws."""

from __future__ import annotations

from typing import Any

from neolens.prompts import PromptPairs, read_pairs
from neolens.prompts.pair_files import pair_rows
from neolens.studies import inputs
from neolens.studies.settings import setting


def pairs_setting(replaced: str) -> Any:
    """The setting `pairs` of a study that patches.

    Args:
        replaced: the settings whose place it takes, in words.
    """
    return setting(
        None,
        "a file with your own pairs of prompts, one JSON object per line with clean, corrupted, answer and distractor; "
        f"it takes the place of {replaced}",
    )


def check_file(path: str) -> list[int]:
    """The lines of a file that hold pairs, after a check of their form, which needs no model.

    Raises:
        ValueError: as `neolens.prompts.read_pairs`.
    """
    return list(pair_rows(path))


def read_own(model: Any, path: str) -> PromptPairs:
    """The pairs of a file in the tokens of a model, with the positions `changed` and `end`.

    Raises:
        ValueError: a model without a tokenizer, or a line that it cannot be asked; the message names both.
    """
    name = model.anatomy.name
    if model.tokenizer is None:
        raise ValueError(f"{name} has no tokenizer to read {path} with: save one into its folder, or leave it out")
    try:
        return read_pairs(path, model, prepend_bos=inputs.has_bos(model))
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
