"""Clean and corrupted prompts in pairs, with the answer to look at and the positions that have names.

The two prompts of a pair have the same length, so that a position means the same in both; pairs of different lengths
stand in one set, grouped where they are run, and nothing is padded. Everything that can be wrong with a set is
refused when it is made, by the number of the pair. Which corruption to choose: Zhang and Nanda 2023,
arXiv 2309.16042; Heimersheim and Nanda 2024, arXiv 2404.15255.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from neolens.checks import check_list, check_text, check_type, shown
from neolens.prompts.bos import chosen_bos
from neolens.prompts.checks import (
    answers_of,
    numbers_of,
    positions_of,
    prompts_of,
    refuse_answer,
    refuse_counts,
    refuse_pair,
    tokens_of,
)
from neolens.prompts.tokenizing import Reading, read, tokenizer_of, vocabulary_fingerprint
from neolens.prompts.tokens import is_prompt


@dataclass(frozen=True, eq=False, repr=False)
class PromptPairs:
    """Validated pairs of prompts; make them with `from_tokens` or `from_text`.

    Raises:
        ValueError: a pair that is no pair, named by its number; a different number of anything.
    """

    clean: tuple[Int[Tensor, " _"], ...]
    """One-dimensional int64 tokens, one a prompt, on the CPU."""
    corrupted: tuple[Int[Tensor, " _"], ...]
    answers: Int[Tensor, " prompt"]
    """The token that is to follow the clean prompt."""
    distractors: Int[Tensor, " prompt"] | None = None
    """The token to compare it with."""
    positions: Mapping[str, Int[Tensor, " prompt"]] = field(default_factory=dict)
    """Name -> one index per prompt, from 0; the same in the clean and the corrupted prompt."""
    words: tuple[tuple[str, ...], ...] | None = None
    """What the tokens of the clean prompts stand for, where the pairs were made from text."""
    corrupted_words: tuple[tuple[str, ...], ...] | None = None
    vocabulary: str | None = None
    """Fingerprint of the tokenizer that made the tokens from text (`vocabulary_fingerprint`)."""

    def __post_init__(self) -> None:
        self._check_types()
        others = {"answers": len(self.answers)}
        if self.distractors is not None:
            others["distractors"] = len(self.distractors)
        others |= {f"places of position {name!r}": len(at) for name, at in self.positions.items()}
        refuse_counts(len(self.clean), len(self.corrupted), others)
        distractors = [None] * len(self) if self.distractors is None else self.distractors.tolist()
        for number, (clean, corrupted) in enumerate(zip(self.clean, self.corrupted)):
            words = self.words and self.corrupted_words and (self.words[number], self.corrupted_words[number])
            refuse_pair(number, clean, corrupted, words)
            refuse_answer(number, int(self.answers[number]), distractors[number])
        for name, at in self.positions.items():
            for number, (index, length) in enumerate(zip(at.tolist(), self.lengths)):
                if not 0 <= index < length:
                    raise ValueError(
                        f"position {name!r} of pair {number} is {index}: expected 0 to {length - 1}, or "
                        f"-{length} to -1 counted from the end of the prompt"
                    )

    def _check_types(self) -> None:
        for side, given in (("clean", self.clean), ("corrupted", self.corrupted)):
            if not isinstance(given, tuple | list) or not all(map(is_prompt, given)):
                raise TypeError(
                    f"the {side} prompts are {shown(given)}: expected a tuple of one-dimensional integer tensors; make "
                    "pairs with PromptPairs.from_tokens or from_text"
                )
        positions = check_type(
            self.positions, "positions", Mapping, "a mapping from a name to an integer tensor [prompt]"
        )
        of_pairs = {"answers": self.answers} | {f"position {shown(name)}": at for name, at in positions.items()}
        of_pairs |= {} if self.distractors is None else {"distractors": self.distractors}
        for which, given in of_pairs.items():
            if not is_prompt(given):
                raise TypeError(f"{which} {shown(given)}: expected an integer tensor [prompt], one number per pair")
        for name in positions:
            check_text(name, "name of a position", example="end")
        sides = ("words", self.words, self.clean), ("corrupted_words", self.corrupted_words, self.corrupted)
        for which, words, prompts in sides:
            if words is None:
                continue
            rows = [check_list(row, which, "strings") for row in check_list(words, which, "tuples of strings")]
            if any(not isinstance(word, str) for row in rows for word in row):
                raise TypeError(f"{which} {shown(words)}: expected one string for each token of each prompt")
            lengths = list(map(len, rows))
            if lengths != [*map(len, prompts)]:
                raise ValueError(f"{which} {shown(words)}: expected one string for each token of each prompt")
        if self.vocabulary is not None:
            check_text(self.vocabulary, "vocabulary", example="the fingerprint of a tokenizer")

    @classmethod
    def from_tokens(
        cls, clean: Any, corrupted: Any, answers: Any, distractors: Any = None, positions: Any = None
    ) -> PromptPairs:
        """Pairs from tokens; whether they begin with BOS is the caller's business.

        Args:
            clean: Int[Tensor, "prompt pos"], or a sequence of Int[Tensor, " pos"] of any lengths; int32 or int64.
            corrupted: the same, each prompt as long as the clean one.
            answers: one token per prompt, a tensor or a sequence of integers.
            distractors: the same, or None.
            positions: name -> one index per prompt; negative ones count from the end of the prompt.

        Raises:
            TypeError: not integers, or not one-dimensional tensors.
            ValueError: as `PromptPairs`.
        """
        prompts = prompts_of(clean, "clean")
        return cls(
            prompts,
            prompts_of(corrupted, "corrupted"),
            tokens_of(answers, "answer", len(prompts)),
            None if distractors is None else tokens_of(distractors, "distractor", len(prompts)),
            positions_of(positions, [len(prompt) for prompt in prompts]),
        )

    @classmethod
    def from_text(
        cls,
        model: Any,
        clean: Any,
        corrupted: Any,
        answers: Any,
        distractors: Any = None,
        positions: Any = None,
        *,
        prepend_bos: bool = True,
    ) -> PromptPairs:
        """Pairs from text, made by the model's own tokenizer.

        Args:
            model: what has a `tokenizer` and an `anatomy` (or a `cfg`), such as a model from `neolens.load`.
            clean: strings.
            corrupted: strings, each of as many tokens as the clean one.
            answers: one string per prompt, one token as it follows the prompt; its leading space is part of it.
            distractors: the same, or None.
            positions: name -> per prompt an index (negative ones count from the end; BOS counts), or a text that stands
                once in the clean prompt: the position of its last token.
            prepend_bos: put the model's BOS (its end-of-text token where there is none) before every prompt; False
                puts nothing before it.

        Raises:
            TypeError: not strings.
            ValueError: as `PromptPairs`; no BOS to put before the prompts, BOS twice, an answer that is not one token,
                a word or a named text that is not there, or prompts that do not fit the model.
        """
        tokenizer = tokenizer_of(model)
        bos = chosen_bos(tokenizer, prepend_bos, limits(model)[2])

        def readings(given: Any, side: str) -> list[Reading]:
            texts = check_list(given, f"the {side} prompts are", "strings", example="['Mary has']")
            if not texts:
                raise ValueError(f"there is no pair: the {side} prompts are {shown(given)}; expected at least one text")
            which = f"the {side} prompt of pair"
            return [read(tokenizer, text, bos, f"{which} {number}") for number, text in enumerate(texts)]

        told, other = readings(clean, "clean"), readings(corrupted, "corrupted")
        pairs = cls(
            tuple(torch.tensor(prompt.ids) for prompt in told),
            tuple(torch.tensor(prompt.ids) for prompt in other),
            answers_of(tokenizer, told, answers, "answer"),
            None if distractors is None else answers_of(tokenizer, told, distractors, "distractor"),
            positions_of(positions, [len(prompt.ids) for prompt in told], tokenizer, told),
            tuple(prompt.words for prompt in told),
            tuple(prompt.words for prompt in other),
            vocabulary_fingerprint(tokenizer),
        )
        pairs._refuse_limits(*limits(model))
        return pairs

    def check(self, model: Any) -> None:
        """Refuse a model that these pairs were not made for.

        Raises:
            ValueError: made from text with another vocabulary, a prompt beyond the context, a token that the model does
                not have.
        """
        name, context, d_vocab = limits(model)
        tokenizer = getattr(model, "tokenizer", None)
        if self.vocabulary and tokenizer is not None and vocabulary_fingerprint(tokenizer) != self.vocabulary:
            raise ValueError(
                f"these pairs were made from text with another tokenizer than that of {name}, where the same numbers "
                f"are other words: make them anew with PromptPairs.from_text and {name}"
            )
        self._refuse_limits(name, context, d_vocab)

    def _refuse_limits(self, name: str, context: int, d_vocab: int) -> None:
        for number, length in enumerate(self.lengths):
            if length > context:
                raise ValueError(
                    f"pair {number} has prompts of {length} tokens: {name} has {context} positions; shorten them"
                )
            asked = [self.answers[number : number + 1]]
            asked += [] if self.distractors is None else [self.distractors[number : number + 1]]
            highest = int(torch.cat([self.clean[number], self.corrupted[number], *asked]).max())
            if highest >= d_vocab:
                raise ValueError(
                    f"pair {number} holds token {highest}: {name} has 0 to {d_vocab - 1}; use its own tokenizer"
                )

    def __len__(self) -> int:
        return len(self.clean)

    def __repr__(self) -> str:
        lengths = sorted({*self.lengths})
        span = f"{lengths[0]}" if len(lengths) == 1 else f"{lengths[0]} to {lengths[-1]}"
        named = f", positions {', '.join(self.positions)}" if self.positions else ""
        return f"PromptPairs({len(self)} of {span} tokens{named})"

    def __getitem__(self, chosen: Any) -> PromptPairs:
        """The pairs of a slice, of a sequence of numbers (in its order), or of one number, as a set of their own.

        Raises:
            IndexError: no pair of that number.
            TypeError: not whole numbers.
            ValueError: no pair at all.
        """
        numbers = numbers_of(chosen, len(self))
        index = torch.tensor(numbers, dtype=torch.long)
        return PromptPairs(
            tuple(self.clean[number] for number in numbers),
            tuple(self.corrupted[number] for number in numbers),
            self.answers[index],
            None if self.distractors is None else self.distractors[index],
            {name: at[index] for name, at in self.positions.items()},
            None if self.words is None else tuple(self.words[number] for number in numbers),
            None if self.corrupted_words is None else tuple(self.corrupted_words[number] for number in numbers),
            self.vocabulary,
        )

    @property
    def lengths(self) -> tuple[int, ...]:
        """Tokens of each prompt."""
        return tuple(map(len, self.clean))

    @property
    def first_difference(self) -> Int[Tensor, " prompt"]:
        """The first position of each pair at which its two prompts hold different tokens."""
        first = [int((a != b).nonzero()[0]) for a, b in zip(self.clean, self.corrupted)]
        return torch.tensor(first, dtype=torch.long)

    def groups(self) -> dict[int, list[int]]:
        """Length -> the numbers of the pairs that have it; lengths and numbers ascend."""
        lengths = self.lengths
        return {length: [i for i, n in enumerate(lengths) if n == length] for length in sorted({*lengths})}

    def swapped(self) -> PromptPairs:
        """Clean and corrupted exchanged; answers, distractors and positions stay."""
        return PromptPairs(
            self.corrupted,
            self.clean,
            self.answers,
            self.distractors,
            self.positions,
            self.corrupted_words,
            self.words,
            self.vocabulary,
        )


def limits(model: Any) -> tuple[str, int, int]:
    """The name of a model, its positions, and the size of its vocabulary.

    Raises:
        TypeError: what has neither an anatomy nor a `cfg` that give them.
    """
    facts, cfg = getattr(model, "anatomy", None), getattr(model, "cfg", None)
    for found, names in ((facts, ("name", "context", "d_vocab")), (cfg, ("model_name", "n_ctx", "d_vocab"))):
        if isinstance(getattr(found, "d_vocab", None), int):
            name, context, d_vocab = (getattr(found, field) for field in names)
            return name, context, d_vocab
    raise TypeError(
        f"model {shown(model)}: expected a model, such as one from neolens.load, got {type(model).__name__}"
    )
