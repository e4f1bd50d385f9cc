"""Tokenizers: read from a folder as Hugging Face's `AutoTokenizer` reads them, and text as a model's tokens.

No token is made up. TransformerLens sets BOS, end-of-text and padding tokens to `<|endoftext|>` where a tokenizer lacks
them, which adds an id that the model may not have, or reads as the unknown token; here a tokenizer without BOS and
end-of-text has none, and text becomes its tokens and nothing more.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from neolens.checks import check_whole, shown
from neolens.models.supported import first_line
from neolens.models.tokenizer_settings import SETTINGS, check_settings

TOKENIZER_FILES = ("*.json", "*.txt", "*.model", "*.spm", "*.tiktoken", "*.bpe", "*.codes")
"""Patterns of the files that a tokenizer may need, to be fetched from the hub."""

_VOCABULARIES = (
    *("tokenizer.json", "vocab.json", "vocab.txt", "*.model", "*.spm", "*.tiktoken", "tekken.json", "encoder.json"),
    *("merges.txt", "*.bpe", "*.codes"),
)
_LIBRARIES = {"sentencepiece": "sentencepiece", "protobuf": "google.protobuf", "tiktoken": "tiktoken"}


def read_tokenizer(folder: Path, name: str) -> Any | None:
    """The tokenizer of a folder as `AutoTokenizer` reads it, or None where the folder has no file of one.

    Raises:
        ValueError: files that cannot be read, that the tokenizer's class does not read, or that need code.
    """
    from transformers import AutoTokenizer

    files = sorted({path.name for pattern in _VOCABULARIES for path in folder.glob(pattern)})
    settings = folder / SETTINGS
    if not files and not settings.is_file():
        return None
    check_settings(folder)
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except Exception as error:  # the tokenizers library raises plain exceptions
        if not files and "auto_map" not in settings.read_text(encoding="utf-8", errors="replace"):
            return None
        file = files[0] if files else settings.name
        raise ValueError(
            f"{name}: the tokenizer cannot be read from {file} ({first_line(error)}): {_remedy(file, error)}, "
            "or pass tokenizer=False to load the model without one"
        ) from error
    read = {file for key, file in tokenizer.vocab_files_names.items() if key != "merges_file"} | {"tokenizer.json"}
    if not tokenizer.vocab_files_names or any((folder / file).is_file() for file in read):
        return tokenizer
    if not files:
        return None
    raise ValueError(
        f"{name}: {files[0]} is not read by {type(tokenizer).__name__}, which reads {' or '.join(sorted(read))}: name "
        'the class that reads it in tokenizer_config.json, such as {"tokenizer_class": "BertTokenizer"} for vocab.txt, '
        "or pass tokenizer=False to load the model without one"
    )


def prepared(tokenizer: Any) -> Any:
    """The tokenizer, with BOS and padding set to tokens that it has, as TransformerLens's batches of text need them.

    The end-of-text token is also BOS where there is none, and padding is the end-of-text token or BOS. What was set is
    listed in `tokenizer.neolens_set`; nothing is where the tokenizer has neither token.
    """
    was_set = dict(getattr(tokenizer, "neolens_set", {}))
    for missing, sources in (("bos_token", ("eos_token",)), ("pad_token", ("eos_token", "bos_token"))):
        source = next((source for source in sources if _has(tokenizer, source)), None)
        if getattr(tokenizer, missing) is None and source is not None:
            setattr(tokenizer, missing, getattr(tokenizer, source))
            was_set[missing] = source
    tokenizer.neolens_set = was_set
    return tokenizer


def bos_token(tokenizer: Any, d_vocab: int | None = None) -> int | None:
    """The token to put before a prompt: the tokenizer's BOS, or its end-of-text token where it has no BOS.

    Args:
        tokenizer: None for a model without one.
        d_vocab: the size of the model's vocabulary; a token outside it does not count.

    Returns:
        The token's id, or None where there is neither. A name that the tokenizer's vocabulary lacks, and so reads as
        the unknown token, does not count.
    """
    if tokenizer is not None and not hasattr(tokenizer, "unk_token_id"):
        raise TypeError(f"tokenizer {shown(tokenizer)}: expected a Hugging Face tokenizer, or None")
    d_vocab = None if d_vocab is None else check_whole(d_vocab, "d_vocab", 1)
    names = ("bos_token", "eos_token") if tokenizer is not None else ()
    ids = [getattr(tokenizer, f"{name}_id") for name in names if _has(tokenizer, name)]
    return next((int(token) for token in ids if d_vocab is None or token < d_vocab), None)


def text_tokens(
    tokenizer: Any,
    text: str | Sequence[str],
    *,
    prepend_bos: bool | None = None,
    padding_side: str | None = None,
    context: int | None = None,
    d_vocab: int | None = None,
) -> list[list[int]]:
    """Texts as tokens, rows of one length: BOS, where the tokenizer has one, then the text without special tokens.

    Args:
        prepend_bos: None: BOS where the tokenizer has one (`bos_token`). True: BOS, or an error. False: no BOS.
        padding_side: "left" or "right", where texts have different lengths; by default the tokenizer's.
        context: cut each text after so many tokens.
        d_vocab: the size of the model's vocabulary.

    Raises:
        ValueError: a text without tokens, `prepend_bos` without a BOS, or no token to pad with.
    """
    texts = [text] if isinstance(text, str) else list(text)
    bos = None if prepend_bos is False else bos_token(tokenizer, d_vocab)
    if prepend_bos and bos is None:
        raise ValueError(
            "the tokenizer has no BOS and no end-of-text token: pass prepend_bos=False, or set tokenizer.bos_token"
        )
    start = [] if bos is None else [bos]
    rows = [
        [*start, *tokenizer(each, add_special_tokens=False, verbose=False)["input_ids"]][:context] for each in texts
    ]
    if not all(rows):
        raise ValueError(f"text {texts[rows.index([])]!r} has no tokens: give one with some words")
    width = max(map(len, rows), default=0)
    pad = tokenizer.pad_token_id
    if pad is None and any(len(row) < width for row in rows):
        raise ValueError(
            "the texts have different lengths and the tokenizer has no padding token: give one text at a time, or set "
            "tokenizer.pad_token"
        )
    left = (padding_side or tokenizer.padding_side) == "left"
    return [[pad] * (width - len(row)) + row if left else row + [pad] * (width - len(row)) for row in rows]


def _has(tokenizer: Any, name: str) -> bool:
    """Whether a special token is in the tokenizer's vocabulary under its own name."""
    token, text = getattr(tokenizer, f"{name}_id", None), getattr(tokenizer, name, None)
    return token is not None and tokenizer.convert_ids_to_tokens(int(token)) == str(text)


def _remedy(file: str, error: Exception) -> str:
    """What to do about a tokenizer that cannot be read; transformers tries several libraries and names the last."""
    words = str(error).lower()
    if "trust_remote_code" in words or "custom code" in words or file == "tokenizer_config.json":
        return "it may need code from the folder, which is never run: pass tokenizer=, one that you have made"
    sentencepiece = file.endswith((".model", ".spm"))
    named = ["sentencepiece", "protobuf"] if sentencepiece else [name for name in _LIBRARIES if name in words]
    missing = [library for library in named if find_spec(_LIBRARIES[library]) is None]
    return f"pip install {' '.join(missing)}" if missing else "fetch or save the folder anew"
