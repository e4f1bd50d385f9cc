"""What each model reads: text, tokens from a file, or random tokens; with BOS or without; and which parts are left out.

A model need not have a tokenizer, and a tokenizer need neither have a BOS nor know English. Parts of an experiment that
need words are left out by name for a model that cannot read them; everything else is measured in its own tokens.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from neolens.models import Anatomy
from neolens.prompts import (
    PromptPairs,
    bos_token,
    chunks,
    lab_documents,
    longest_repeat,
    random_tokens,
    read_text,
    read_tokens,
    token_chunks,
)
from neolens.studies.models import Models, one_window

LAB_ENGLISH = "sentences of the synthetic English of the lab"

UNREADABLE = 0.5
"""The share of unknown tokens above which a tokenizer does not read the lab's English."""

SMALLEST_WINDOW = 4

LARGE = 8
"""A vocabulary of so many windows has enough tokens for repeated sequences, whatever its tokenizer leaves out."""


@dataclass(frozen=True)
class Source:
    """Where prompts of text come from, checked before any model is loaded."""

    documents: Sequence[str]
    """Texts; several give one prompt each."""
    tokens: str | None
    """A file of tokens in place of a text."""
    name: str
    default: bool
    """Whether the command line names neither a text nor tokens."""
    prompts: int
    length: int
    seed: int


@dataclass(frozen=True)
class Text:
    """One model's prompts of text, or what takes their place."""

    tokens: Int[Tensor, "prompt pos"]
    source: str
    unknown: float = 0.0
    """The share of the tokens that the tokenizer does not know."""

    def record(self) -> dict[str, Any]:
        """What identifies the prompts, for record.json."""
        digest = hashlib.sha256(self.tokens.numpy().tobytes()).hexdigest()
        return {"source": self.source, "prompts": len(self.tokens), "length": self.tokens.shape[1], "sha256": digest}


@dataclass(frozen=True)
class Inputs:
    """What one model was asked with, for its record, and in sentences for its report."""

    model: str
    bos: bool
    sentences: tuple[str, ...]
    text: Mapping[str, Any] | None = None
    """`Text.record`; None where an experiment reads no text."""
    left_out: Mapping[str, str] = field(default_factory=dict)
    """Part -> why this model was not asked for it."""


def source(config: Any, anatomies: Sequence[Anatomy], length: int) -> Source:
    """Read the text or the tokens that the command line names; sentences in the lab's English where it names none.

    Raises:
        ValueError: no such file; a token that a model does not have.
    """
    documents: list[str] = []
    if config.tokens is not None:
        for facts in anatomies:
            longest = max(map(len, read_tokens(config.tokens, facts)))
            if longest < 2:
                raise ValueError(f"token file {config.tokens!r} has prompts of {longest} token: expected 2 or more")
    elif config.text is not None:
        documents = [read_text(config.text)]
    else:
        documents = lab_documents(config.prompts, length, seed=config.seed)
    name = config.text or (LAB_ENGLISH if config.tokens is None else f"tokens of {config.tokens}")
    default = config.text is None and config.tokens is None
    return Source(documents, config.tokens, name, default, config.prompts, length, config.seed)


def read(model: Any, texts: Source) -> Text:
    """One model's prompts of text: the tokens of the file as they are, without BOS before them; the text in its own
    tokens, BOS first where it has one; else random tokens.

    Raises:
        ValueError: a text that has no tokens in this model.
    """
    name, tokenizer = model.anatomy.name, model.tokenizer
    if texts.tokens is not None:
        rows = read_tokens(texts.tokens, model.anatomy)
        return Text(token_chunks(rows, _common_length(rows, texts), prompts=texts.prompts), texts.name)
    if tokenizer is None:
        return _random(model, texts, f"{name} has no tokenizer")
    try:
        tokens = _tokenized(model, texts)
    except Exception as error:  # a tokenizer without [UNK] raises a plain Exception at the first word it lacks
        if not texts.default:
            raise ValueError(f"{name} cannot read {texts.name} ({error}): give another text, or --tokens") from error
        return _random(model, texts, f"the tokenizer of {name} does not read {LAB_ENGLISH}")
    unknown = _unknown(model, tokens)
    if int(tokens.max()) >= model.anatomy.d_vocab and texts.default:
        return _random(model, texts, f"the tokenizer of {name} has tokens that the model does not have")
    if texts.default and unknown > UNREADABLE:
        return _random(model, texts, f"the tokenizer of {name} does not know {unknown:.0%} of {LAB_ENGLISH}")
    return Text(tokens, texts.name, unknown)


def has_bos(model: Any) -> bool:
    """Whether prompts begin with BOS, or with the end-of-text token where there is no BOS."""
    return bos_token(model.tokenizer, model.anatomy.d_vocab) is not None


def unreadable(model: Any, family: Callable[..., PromptPairs]) -> str | None:
    """Why a model cannot be asked a family of questions in words; None where it can be."""
    if model.tokenizer is None:
        return "it has no tokenizer; save one into its folder, or patch pairs of your own (PromptPairs.from_tokens)"
    return undrawable(model, family)


def undrawable(model: Any, family: Callable[..., PromptPairs]) -> str | None:
    """Why no prompt of a family can be drawn in a model's tokens; None where one can be."""
    try:
        family(model, 1, prepend_bos=has_bos(model))
    except Exception as error:  # of ours, or a plain one of a tokenizer without [UNK] that lacks a word
        return str(error)
    return None


def window(models: Models) -> int:
    """The window that all local layers share; where no model has one, an eighth of the shortest context, or a third of
    the tokens that prompts of a small vocabulary are drawn from: then no token occurs twice in three windows.

    Raises:
        ValueError: windows that differ.
    """
    narrowest = one_window(models.anatomies)
    if any(facts.windows for facts in models.anatomies):
        return narrowest
    small = [facts.name for facts in models.anatomies if facts.d_vocab < LARGE * narrowest]
    longest = [longest_repeat(models.load(name)) for name in small]
    return max(SMALLEST_WINDOW, min([narrowest, *(n // 3 for n in longest)]))


def summary(
    model: Any,
    *,
    text: Text | None = None,
    repeats: Iterable[int] = (),
    left_out: Mapping[str, str] | None = None,
    notes: Sequence[str] = (),
) -> Inputs:
    """What a model was asked with, and a sentence for each of its peculiarities.

    Args:
        repeats: the n after which its random sequences repeat.
        notes: more sentences.
    """
    name, bos = model.anatomy.name, has_bos(model)
    sentences = []
    if not bos:
        why = "it has no tokenizer" if model.tokenizer is None else "its tokenizer has none"
        sentences.append(f"Prompts of {name} begin without BOS: {why}.")
    if text is not None and text.source.startswith("random tokens"):
        sentences.append(f"Text of {name}: {text.source}. Give --tokens FILE for prompts of its own kind.")
    distinct = longest_repeat(model) if repeats else 0
    if recurring := [n for n in repeats if n > distinct]:
        sentences.append(
            f"Sequences of {name} that repeat after {min(recurring)} or more tokens have tokens that occur more than "
            f"once in a copy: it has {distinct} to draw from."
        )
    sentences += notes
    sentences += [f"{name} was not asked for {part}: {why}." for part, why in (left_out or {}).items()]
    return Inputs(name, bos, tuple(sentences), None if text is None else text.record(), left_out or {})


def record(every: Iterable[Inputs]) -> dict[str, Any]:
    """Model -> what it was asked with, for record.json."""
    return {
        one.model: {"bos": one.bos, **({} if one.text is None else {"text": one.text}), "left_out": dict(one.left_out)}
        for one in every
    }


def sentences(every: Iterable[Inputs]) -> list[str]:
    """What is peculiar to the prompts of each model, for the report and the terminal."""
    return [text for one in every for text in one.sentences]


def described(recorded: Mapping[str, Any]) -> str:
    """The sources of the text of all models, such as the path of a file.

    Args:
        recorded: of `record`.
    """
    return "; ".join(dict.fromkeys(str(one["text"]["source"]) for one in recorded.values() if "text" in one))


def _tokenized(model: Any, texts: Source) -> Int[Tensor, "prompt pos"]:
    """Prompts of one length from all documents."""
    each = texts.prompts if len(texts.documents) == 1 else 1
    rows = [
        chunks(model.tokenizer, document, texts.length, prompts=each, prepend_bos=has_bos(model))
        for document in texts.documents
    ]
    shortest = min(row.shape[1] for row in rows)
    return torch.cat([row[:, :shortest] for row in rows])


def _unknown(model: Any, tokens: Int[Tensor, "prompt pos"]) -> float:
    unknown = model.tokenizer.unk_token_id
    if unknown in (None, bos_token(model.tokenizer, model.anatomy.d_vocab)):
        return 0.0
    return (tokens == unknown).double().mean().item()


def _random(model: Any, texts: Source, why: str) -> Text:
    length = min(texts.length, model.anatomy.context)
    tokens = random_tokens(model, length, prompts=texts.prompts, seed=texts.seed, prepend_bos=has_bos(model))
    return Text(tokens, f"random tokens, since {why}")


def _common_length(rows: Sequence[Int[Tensor, " _"]], texts: Source) -> int:
    """The most tokens per prompt, up to the length asked for, at which as many prompts are filled as are asked for, or
    as many as the file has where those are fewer."""
    wanted = min(texts.prompts, len(rows))
    lengths = [len(row) for row in rows]
    return next((n for n in range(texts.length, 2, -1) if sum(length // n for length in lengths) >= wanted), 2)
