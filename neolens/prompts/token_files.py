"""Prompts from files of tokens, for models without a tokenizer: `.npy`, `.pt`, or lines of integers.

No file is unpickled: NumPy's `allow_pickle=False`, PyTorch's `weights_only=True`.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from pickle import UnpicklingError

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from neolens.models.other_architectures import Facts, check_anatomy
from neolens.models.supported import first_line
from neolens.prompts.text import check_file, read_text
from neolens.prompts.tokens import check_vocabulary

_INTEGER = re.compile(r"-?[0-9]+")
_LONGEST = 40
"""Digits; Python converts no number of thousands of them."""


def read_tokens(path: str | Path, anatomy: Facts) -> list[Int[Tensor, " _"]]:
    """The prompts in a file of tokens, int64, of any lengths: `token_chunks` cuts them to fit a context.

    Args:
        path: `.npy`, an integer array [prompt, pos] or [pos]; `.pt`, an integer tensor of these shapes or a list of
            one-dimensional ones; any other name, lines of integers separated by spaces or commas, one prompt per line
            (blank lines are skipped).
        anatomy: of the model whose tokens they are.

    Raises:
        ValueError: no such file, another content, no prompt, an empty prompt, or a token outside the vocabulary; with
            the file and the prompt or line.
    """
    check_anatomy(anatomy)
    path = check_file(path, "token file", "expected a .npy or .pt file, or lines of integers")
    what = f"token file {str(path)!r}"
    kind = path.suffix.lower()
    if kind not in (".npy", ".pt"):
        return _lines(read_text(path), what, anatomy)
    rows = _rows(_array(path, what) if kind == ".npy" else _tensors(path, what), what)
    for number, row in enumerate(rows):
        which = f"{what}, prompt {number}"
        if not len(row):
            raise ValueError(f"{which} is empty: expected at least one token")
        check_vocabulary(int(row.min()), int(row.max()), which, anatomy)
    return [torch.from_numpy(row.astype(np.int64)) for row in rows]


def _lines(text: str, what: str, anatomy: Facts) -> list[Int[Tensor, " _"]]:
    """One prompt per line that is not blank."""
    prompts = []
    for number, line in enumerate(text.removeprefix("\ufeff").splitlines(), start=1):
        words = line.replace(",", " ").split()
        if not words:
            continue
        for word in words:
            if len(word) > _LONGEST and _INTEGER.fullmatch(word):
                raise ValueError(
                    f"{what}, line {number} holds token {word:.40}...: {anatomy.name} has 0 to {anatomy.d_vocab - 1}; "
                    "tokenize with the model's own tokenizer"
                )
            if not _INTEGER.fullmatch(word):
                raise ValueError(
                    f"{what}, line {number} holds {word!r:.40}: expected integers separated by spaces or commas"
                )
        ids = [int(word) for word in words]
        check_vocabulary(min(ids), max(ids), f"{what}, line {number}", anatomy)
        prompts.append(torch.tensor(ids))
    if not prompts:
        raise ValueError(f"{what} has no prompts: expected integers, one prompt per line")
    return prompts


def _array(path: Path, what: str) -> np.ndarray:
    try:
        array = np.load(path, allow_pickle=False)
    except Exception as error:  # a damaged header makes NumPy's parser raise any
        raise ValueError(f"{what} is no NumPy array of integers ({first_line(error)}): save one with np.save") from None
    if not isinstance(array, np.ndarray):
        raise ValueError(f"{what} is an archive: expected one array, as np.save writes it")
    return array


def _tensors(path: Path, what: str) -> np.ndarray | list[np.ndarray]:
    expected = "expected an integer tensor, or a list of one-dimensional ones, saved with torch.save"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of the pickle protocol
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file makes the unpickler raise any
        objects = isinstance(error, UnpicklingError) and "weights_only" in str(error)
        reason = "it is damaged, or holds Python objects besides tensors" if objects else first_line(error)
        raise ValueError(f"{what} cannot be read as tensors ({reason}): {expected}") from None
    rows = content if isinstance(content, list | tuple) else [content]
    for row in rows:
        odd = not isinstance(row, Tensor) or row.is_nested or row.is_quantized or row.layout != torch.strided
        if odd or row.is_floating_point() or row.is_complex():
            held = f"a tensor of {row.dtype}" if isinstance(row, Tensor) else f"a {type(row).__name__}"
            raise ValueError(f"{what} holds {held}: {expected}")
        if row.is_meta:
            raise ValueError(f"{what} holds a tensor without data: {expected}")
    arrays = [row.numpy(force=True) for row in rows]
    return arrays[0] if isinstance(content, Tensor) else arrays


def _rows(content: np.ndarray | Sequence[np.ndarray], what: str) -> list[np.ndarray]:
    """One-dimensional integer arrays, one per prompt."""
    if isinstance(content, np.ndarray) and content.ndim not in (1, 2):
        raise ValueError(f"{what} has shape {content.shape}: expected [prompt, pos] or [pos]")
    rows = [content] if isinstance(content, np.ndarray) and content.ndim == 1 else list(content)
    if not rows:
        raise ValueError(f"{what} has no prompts: expected at least one")
    for number, row in enumerate(rows):
        if row.ndim != 1 or row.dtype.kind not in "iu":
            raise ValueError(
                f"{what}, prompt {number} has shape {row.shape} and dtype {row.dtype}: expected integers [pos]"
            )
    return rows
