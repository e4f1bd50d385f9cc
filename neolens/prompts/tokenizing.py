"""What a tokenizer makes of a prompt: tokens, their strings, one-token answers, and where a text stands.

Byte-level tokenizers join a space with the word after it, so " Mary" and "Mary" are different tokens, and a space at
the end of a prompt leaves none for its answer. Nothing here puts a space in or takes one out: an error says where it
belongs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from neolens.checks import shown


def tokenizer_of(model: Any) -> Any:
    """The tokenizer of a model.

    Raises:
        TypeError: no model.
        ValueError: it has none.
    """
    if isinstance(model, type) or not hasattr(model, "tokenizer"):
        raise TypeError(f"expected a model, such as one from neolens.load, got {type(model).__name__}")
    tokenizer = model.tokenizer
    if tokenizer is not None and not hasattr(tokenizer, "get_vocab"):
        raise TypeError(f"the model's tokenizer is {shown(tokenizer)}: expected a Hugging Face tokenizer")
    if tokenizer is None:
        raise ValueError("the model has no tokenizer, so it takes no text: use PromptPairs.from_tokens")
    return tokenizer


def check_unicode(text: str, which: str) -> str:
    """The text itself, if a tokenizer can read it.

    Raises:
        ValueError: half of a surrogate pair, which is no character.
    """
    if any("\ud800" <= letter <= "\udfff" for letter in text):
        raise ValueError(f"{which} {shown(text)}: expected text without lone surrogates, which are no characters")
    return text


def vocabulary_fingerprint(tokenizer: Any) -> str:
    """Sixteen hexadecimal digits that change with any token's string or id (BLAKE2b); equal for GPT-2 and GPT-Neo."""
    digest = hashlib.blake2b(digest_size=8)
    for token, number in sorted(tokenizer.get_vocab().items()):
        digest.update(f"{number} {token}\n".encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def token_ids(tokenizer: Any, text: str) -> list[int]:
    """The tokens of a text and nothing more: no BOS is added."""
    return list(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])


def token_words(tokenizer: Any, ids: Sequence[int]) -> tuple[str, ...]:
    """What each token stands for."""
    return tuple(tokenizer.decode([token], clean_up_tokenization_spaces=False) for token in ids)


@dataclass(frozen=True)
class Reading:
    """One prompt as the tokenizer reads it, with BOS where the caller chose one."""

    text: str
    ids: list[int]
    words: tuple[str, ...]


def read(tokenizer: Any, text: Any, bos: int | None, which: str) -> Reading:
    """The tokens of one prompt, after `bos` unless that is None; `which` names it in errors ("the clean prompt of pair
    3").

    Raises:
        TypeError: not a string.
        ValueError: no tokens, BOS twice, or a word that the tokenizer does not know.
    """
    if not isinstance(text, str):
        raise TypeError(f"{which} is {shown(text)}: expected a string; PromptPairs.from_tokens takes tokens")
    ids = token_ids(tokenizer, check_unicode(text, f"{which} is"))
    if not ids:
        raise ValueError(f"{which} is {text!r}, which has no tokens: give one with some words")
    refuse_unknown(tokenizer, text, ids, which)
    if bos is not None:
        ids = [bos, *ids]
    if len(ids) > 1 and ids[0] == ids[1] and ids[0] in {tokenizer.bos_token_id, tokenizer.eos_token_id}:
        raise ValueError(
            f"{which} begins with {tokenizer.decode(ids[:1])} twice: leave it out of the text, which gets one by "
            "itself, or write it once and pass prepend_bos=False"
        )
    return Reading(text, ids, token_words(tokenizer, ids))


def refuse_unknown(tokenizer: Any, text: str, ids: Sequence[int], which: str) -> None:
    """Refuse a text in which the tokenizer puts its unknown-word token for words of the text.

    Raises:
        ValueError: it does.
    """
    unknown = tokenizer.unk_token_id
    if unknown is None or ids.count(unknown) <= text.count(tokenizer.unk_token):
        return
    strange = [word for word in text.split() if unknown in token_ids(tokenizer, word) and word != tokenizer.unk_token]
    named = list(dict.fromkeys(strange))
    words = ", ".join([*map(shown, named[:3]), *["..."] * (len(named) > 3)])
    raise ValueError(f"{which} holds {words or 'words'} that the tokenizer does not know: use words of its vocabulary")


def answer_token(tokenizer: Any, prompt: str, answer: Any, which: str) -> int:
    """The one token that `answer` is when it follows `prompt`; `which` names it in errors ("the answer of pair 3").

    A leading space is part of the answer as given. Where spaces mean nothing to the tokenizer, it may be left out.

    Raises:
        TypeError: not a string.
        ValueError: several tokens, none, an unknown word, not that token where it stands after the prompt, two spaces
            between, or a part of the prompt's last word that with a leading space would be a token of its own.
    """
    if not isinstance(answer, str):
        raise TypeError(f"{which} is {shown(answer)}: expected a string; PromptPairs.from_tokens takes tokens")
    check_unicode(answer, f"{which} is")
    alone, before, spaced = token_ids(tokenizer, answer), token_ids(tokenizer, prompt), f" {answer.lstrip()}"
    refuse_unknown(tokenizer, answer, alone, which)
    if len(alone) != 1:
        remedy = "choose a word of one token"
        if not answer.startswith(" ") and len(token_ids(tokenizer, spaced)) == 1 and not prompt.endswith(" "):
            remedy = f"with a leading space it is one token: {spaced!r}"
        parts = ", ".join(map(repr, token_words(tokenizer, alone)))
        raise ValueError(f"{which} is {answer!r}, which is {len(alone)} tokens ({parts}): expected one; {remedy}")
    after_space, after = (token_ids(tokenizer, prompt + gap + answer) for gap in (" ", ""))
    if after_space == before + alone:
        return alone[0]
    one_with_space = len(token_ids(tokenizer, spaced)) == 1 and len(after_space) == len(before) + 1
    two_spaces = prompt.endswith(" ") and answer.startswith(" ")
    goes_on = prompt[-1].isalpha() and answer[0].isalpha() and one_with_space
    if after == before + alone and not two_spaces and not goes_on:
        return alone[0]
    remedy = "end the prompt at the end of a token, or use PromptPairs.from_tokens"
    if prompt.endswith(" "):
        remedy = f"take the space from the end of the prompt and give the answer as {spaced!r}"
    elif one_with_space:
        remedy = f"with a leading space it is one token, {spaced!r}; to go on within a word use PromptPairs.from_tokens"
    joined = ", ".join(map(repr, token_words(tokenizer, after[-3:])))
    raise ValueError(
        f"{which} is {answer!r}, which does not follow its prompt as a word of one token (together they end {joined}): "
        f"{remedy}"
    )


def place_of(tokenizer: Any, reading: Reading, text: str, which: str) -> int:
    """The position of the last token of `text` in a prompt, where it stands exactly once, whole tokens only.

    A space before its first token need not be given. `which` names it in errors ("position 'io' of pair 3").

    Raises:
        ValueError: not in the prompt, there more than once, within other tokens only, or no fast tokenizer.
    """
    if not getattr(tokenizer, "is_fast", False):
        raise ValueError(f"{which}: this tokenizer does not say where its tokens stand in a text; give an index")
    if not text.strip():
        raise ValueError(f"{which} is {text!r}: expected a text with some characters, or an index")
    spans = tokenizer(reading.text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    ends = [end for _, end in spans["offset_mapping"]]
    starts = [at for at in range(len(reading.text)) if reading.text.startswith(text, at)]
    whole = [at for at in starts if _begins(reading.text, at, ends) and at + len(text) in ends]
    if len(whole) == 1:
        last = max(index for index, end in enumerate(ends) if end == whole[0] + len(text))
        return last + len(reading.ids) - len(ends)
    if whole:
        raise ValueError(
            f"{which} is {text!r}, which stands {len(whole)} times in the prompt {reading.text!r}: give more of the "
            "text before it, or an index"
        )
    if starts:
        raise ValueError(f"{which} is {text!r}, which is only a part of tokens in {reading.words}: give whole tokens")
    raise ValueError(f"{which} is {text!r}, which is not in the clean prompt {reading.text!r}: give a part of it")


def _begins(text: str, at: int, ends: Sequence[int]) -> bool:
    """Whether a token begins at a character, or before it with nothing but white space between."""
    boundary = max((end for end in ends if end <= at), default=0)
    return not text[boundary:at].strip()
