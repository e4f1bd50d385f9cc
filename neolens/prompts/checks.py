"""From what a caller gives to what `PromptPairs` holds, or a refusal that names the pair."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from neolens.checks import check_list, check_whole, holds_tokens, shown
from neolens.prompts.tokenizing import Reading, answer_token, place_of
from neolens.prompts.tokens import is_prompt

_INTEGERS = (torch.int64, torch.int32)

_LARGEST = 2**31 - 1
"""The largest token and index."""


def prompts_of(given: Any, side: str) -> tuple[Int[Tensor, " _"], ...]:
    """One-dimensional int64 prompts on the CPU, copied, from a tensor [prompt, pos] or a sequence of tensors.

    Raises:
        TypeError: no integer tensors.
        ValueError: a tensor of another rank than two.
    """
    if isinstance(given, Tensor) and given.ndim != 2:
        raise ValueError(
            f"the {side} prompts have shape {tuple(given.shape)}: expected [prompt, pos]; for one "
            "prompt use tokens[None]"
        )
    if not isinstance(given, Tensor | list | tuple):
        raise TypeError(
            f"the {side} prompts are {shown(given)}: expected a tensor [prompt, pos] or a list of one-dimensional "
            "tensors; for text use PromptPairs.from_text"
        )
    if not len(given):
        raise ValueError(
            f"there is no pair: the {side} prompts are {shown(given)}; expected at least one clean and one "
            "corrupted prompt"
        )
    for number, prompt in enumerate(given):
        if not is_prompt(prompt) or prompt.dtype not in _INTEGERS:
            raise TypeError(
                f"the {side} prompt of pair {number} is {shown(prompt)}: expected a one-dimensional tensor of tokens, "
                "int64 or int32"
            )
    return tuple(prompt.detach().to("cpu", torch.int64, copy=True) for prompt in given)


def tokens_of(given: Any, which: str, pairs: int) -> Int[Tensor, " prompt"]:
    """One token per prompt, from a tensor or a sequence of integers; `which` is "answer" or "distractor".

    Raises:
        TypeError: not integers.
        ValueError: several tokens for a prompt, or not as many as pairs.
    """
    if isinstance(given, Tensor):
        if given.ndim != 1:
            raise ValueError(f"the {which}s have shape {tuple(given.shape)}: expected [prompt], one token per prompt")
        if given.dtype not in _INTEGERS or not holds_tokens(given):
            raise TypeError(f"the {which}s are {shown(given)}: expected tokens, int64 or int32, in memory")
    tokens: list[int] = []
    for number, token in enumerate(counted(given, f"{which}s", pairs)):
        size = token.numel() if isinstance(token, Tensor) else len(token) if isinstance(token, list | tuple) else 1
        if size != 1:
            raise ValueError(f"the {which} of pair {number} is {size} tokens: expected one; choose a word of one token")
        tokens.append(check_whole(token, f"the {which} of pair {number} is", 0, _LARGEST))
    return torch.tensor(tokens, dtype=torch.long)


def answers_of(tokenizer: Any, prompts: Sequence[Reading], given: Any, which: str) -> Int[Tensor, " prompt"]:
    """One token per prompt, from a string each.

    Raises:
        TypeError: not strings.
        ValueError: not as many as prompts, or not one token after its prompt.
    """
    texts = counted(given, f"{which}s", len(prompts))
    tokens = [
        answer_token(tokenizer, prompt.text, text, f"the {which} of pair {number}")
        for number, (prompt, text) in enumerate(zip(prompts, texts))
    ]
    return torch.tensor(tokens, dtype=torch.long)


def positions_of(
    given: Any, lengths: Sequence[int], tokenizer: Any = None, prompts: Sequence[Reading] | None = None
) -> dict[str, Int[Tensor, " prompt"]]:
    """Name -> one index per prompt from 0, from indices (negative ones count from the end) or, with prompts, texts.

    Raises:
        TypeError: no mapping from strings, or not an index or a text for each prompt.
        ValueError: not as many as prompts, or a text that does not stand in its prompt exactly once.
    """
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise TypeError(
            f"positions are {shown(given)}: expected a mapping from a name to indices, such as {{'end': [-1]}}"
        )
    found = {}
    for name, places in given.items():
        if not isinstance(name, str) or not name:
            raise TypeError(f"a position is named {shown(name)}: expected a string such as 'end'")
        places = counted(places, f"places of position {name!r}", len(lengths))
        indices = []
        for number, (place, length) in enumerate(zip(places, lengths)):
            which = f"position {name!r} of pair {number}"
            if isinstance(place, str) and prompts is not None:
                place = place_of(tokenizer, prompts[number], place, which)
            remedy = f"give an index{'' if prompts is None else ' or a text'}"
            index = check_whole(place, f"{which} is", -_LARGEST, _LARGEST, remedy=remedy)
            indices.append(index + length if -length <= index < 0 else index)
        found[name] = torch.tensor(indices, dtype=torch.long)
    return found


def counted(given: Any, which: str, pairs: int) -> list[Any]:
    """The items of a list, as many as pairs.

    Raises:
        TypeError: no list.
        ValueError: not as many.
    """
    items = check_list(given, f"the {which} are", "one item per prompt")
    if len(items) != pairs:
        raise ValueError(f"there are {len(items)} {which} for {pairs} pairs: expected one each")
    return items


def refuse_counts(clean: int, corrupted: int, others: Mapping[str, int]) -> None:
    """Refuse no pair, and a different number of anything.

    Raises:
        ValueError: so it is.
    """
    if clean != corrupted:
        raise ValueError(f"there are {clean} clean and {corrupted} corrupted prompts: expected as many, in one order")
    if not clean:
        raise ValueError("there is no pair: expected at least one clean and one corrupted prompt")
    for which, count in others.items():
        if count != clean:
            raise ValueError(f"there are {count} {which} for {clean} pairs: expected one each")


def refuse_pair(number: int, clean: Int[Tensor, " _"], corrupted: Int[Tensor, " _"], words: Any = None) -> None:
    """Refuse two prompts that cannot be patched into each other.

    Raises:
        ValueError: unequal lengths, the same tokens, none, or a negative one.
    """
    if len(clean) != len(corrupted):
        parted = next((i for i, (a, b) in enumerate(zip(clean.tolist(), corrupted.tolist())) if a != b), None)
        where = "" if parted is None else f", and they part at position {parted}"
        if parted is not None and words is not None:
            where += f" ({words[0][parted]!r} and {words[1][parted]!r})"
        raise ValueError(
            f"pair {number}: the clean prompt has {len(clean)} tokens and the corrupted one {len(corrupted)}{where}: "
            "expected as many, so that positions correspond; replace words by words of as many tokens"
        )
    for side, prompt in (("clean", clean), ("corrupted", corrupted)):
        if not len(prompt):
            raise ValueError(f"pair {number}: the {side} prompt is empty: expected at least one token")
        if int(prompt.min()) < 0:
            raise ValueError(f"pair {number}: the {side} prompt holds {int(prompt.min())}: expected tokens from 0")
    if torch.equal(clean, corrupted):
        raise ValueError(
            f"pair {number}: the clean and the corrupted prompt are the same {len(clean)} tokens, so a patch would "
            "change nothing: corrupt at least one token"
        )


def refuse_answer(number: int, answer: int, distractor: int | None) -> None:
    """Refuse an answer that cannot be told from its distractor.

    Raises:
        ValueError: they are the same, or negative.
    """
    for which, token in (("answer", answer), ("distractor", distractor)):
        if token is not None and token < 0:
            raise ValueError(f"the {which} of pair {number} is {token}: expected a token from 0")
    if answer == distractor:
        raise ValueError(
            f"pair {number}: answer and distractor are both token {answer}, so their difference is 0 whatever the "
            "model does: choose another distractor, or give none"
        )


def numbers_of(chosen: Any, count: int) -> list[int]:
    """The numbers of the pairs that an index chooses: a slice, a sequence of numbers, or one number.

    Raises:
        IndexError: no pair of that number.
        TypeError: not whole numbers.
    """
    if isinstance(chosen, slice):
        for end in (chosen.start, chosen.stop, chosen.step):
            if end is not None:
                check_whole(end, "index of pairs")
        return list(range(count))[chosen]
    single = hasattr(chosen, "__index__") and getattr(chosen, "ndim", 0) == 0
    example = "[0, 2]"
    items = [chosen] if single else check_list(chosen, "index of pairs", "whole numbers", example=example)
    numbers = [check_whole(number, "index of pairs") for number in items]
    for number in numbers:
        if not -count <= number < count:
            raise IndexError(f"no pair {shown(number)}: pairs are 0 to {count - 1}")
    return [number % count for number in numbers]
