"""BOS, the token before every prompt: which one a tokenizer has, and the explicit choice of none.

A tokenizer without BOS puts its end-of-text token first, as GPT-2's and Pythia's do. Where it has neither, no other
token takes the place: the caller passes `prepend_bos=False`.
"""

from __future__ import annotations

from typing import Any

from neolens.checks import check_bool
from neolens.models.tokenizers import bos_token


def chosen_bos(tokenizer: Any, prepend_bos: bool, d_vocab: int | None = None) -> int | None:
    """The token to put before prompts, or None where the caller chose none.

    Raises:
        TypeError: `prepend_bos` that is no bool.
        ValueError: `prepend_bos`, and the tokenizer has no BOS and no end-of-text token, or there is no tokenizer.
    """
    if not check_bool(prepend_bos, "prepend_bos"):
        return None
    bos = bos_token(tokenizer, d_vocab)
    if bos is not None:
        return bos
    if tokenizer is None:
        raise ValueError("the model has no tokenizer, and so no BOS: pass prepend_bos=False")
    raise ValueError(
        "the tokenizer has no BOS and no end-of-text token: pass prepend_bos=False, or set tokenizer.bos_token"
    )
