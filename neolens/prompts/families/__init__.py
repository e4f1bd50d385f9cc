"""Families of prompt pairs: one question asked in many words, with the field's names for its positions.

Each function asks in the lab's language where the model's tokenizer speaks that, and in plain English with any other.
`corruption="swap"`: the corrupted prompt asks the same and its answer is the distractor. `corruption="other"`: a word
that stands nowhere else takes the place of what the answer follows from, so the corrupted prompt tells neither. The
clean prompts are the same for both. Every prompt begins with BOS, or with `prepend_bos=False` with its first word, and
ends where the answer is to follow; no two clean ones are equal; more prompts of a seed begin with the same ones.
"""

from __future__ import annotations

from typing import Any

from neolens.checks import check_whole
from neolens.prompts.families import english_questions as english
from neolens.prompts.families import lab_questions as lab
from neolens.prompts.families.questions import Supply, check_arguments, drawn, pairs_of
from neolens.prompts.pairs import PromptPairs, limits
from neolens.prompts.tokenizing import tokenizer_of

LAB_DISTANCE = 12
"""The nearest distance at which the lab asks for both names of a story."""


def indirect_object(
    model: Any,
    prompts: int = 32,
    *,
    corruption: str = "swap",
    distance: int | None = None,
    seed: int = 0,
    prepend_bos: bool = True,
) -> PromptPairs:
    """ "When Mary and John went to the market, John gave the ring to", answer Mary, distractor John.

    Several templates (in English) and both orders of the names. Positions: `io` (Mary), `s1` and `s2` (John), `end`.
    Corrupted, `s2` is Mary ("swap") or a third name ("other"). Wang et al. 2022, arXiv 2211.00593, section 2; their
    p_ABC has three other names.

    Args:
        model: what has a tokenizer and an anatomy, such as a model from `neolens.load`.
        distance: tokens from `io` to `end`, reached by sentences before `s2`; by default none stand there in English,
            and 12 tokens in the lab's language.
        prepend_bos: as in `PromptPairs.from_text`.

    Raises:
        TypeError: numbers that are not whole.
        ValueError: an unknown corruption; a distance or a number of prompts that cannot be had; a tokenizer in which
            too few words are one token, or without BOS.
    """
    prompts, seed, distance = check_arguments(corruption, prompts, seed, prepend_bos, distance)
    tokenizer = tokenizer_of(model)
    if lab.speaks_lab(tokenizer):
        return _lab(
            model,
            "indirect_object",
            LAB_DISTANCE if distance is None else distance,
            corruption,
            prompts,
            seed,
            prepend_bos,
        )
    return _english(model, english.indirect_object(tokenizer, corruption, distance), prompts, seed, prepend_bos)


def induction(
    model: Any,
    prompts: int = 32,
    *,
    distance: int = 12,
    corruption: str = "swap",
    seed: int = 0,
    prepend_bos: bool = True,
) -> PromptPairs:
    """Random words A ... B C ... A ... B, answer C, which stands `distance` tokens before the end.

    A segment of eight words (fewer where the distance is shorter), unrelated words, and the segment again. Positions:
    `source` (C), `previous` (the B before it), `query` (the last B). The distractor is another word of the segment;
    corrupted, it changes places with C in the first copy ("swap"), or a new word stands for C there ("other"). Olsson
    et al. 2022, "In-context Learning and Induction Heads".

    Raises:
        TypeError, ValueError: as `indirect_object`.
    """
    distance = check_whole(distance, "distance", 1, 2**31 - 1)
    prompts, seed, distance = check_arguments(corruption, prompts, seed, prepend_bos, distance)
    tokenizer = tokenizer_of(model)
    if lab.speaks_lab(tokenizer):
        return _lab(model, "induction", distance, corruption, prompts, seed, prepend_bos)
    return _english(model, english.induction(tokenizer, corruption, distance), prompts, seed, prepend_bos)


def recall(
    model: Any,
    prompts: int = 32,
    *,
    distance: int = 12,
    corruption: str = "swap",
    seed: int = 0,
    prepend_bos: bool = True,
) -> PromptPairs:
    """ "Mary has the corn. John has the salt. ... Mary has the", answer corn, which stands `distance` tokens back.

    One of four facts is asked again after sentences about other things. Positions: `source` (the corn of the fact),
    `key` (its Mary), `query` (the end). The distractor is another fact's value; corrupted, the two values change places
    ("swap"), or a new one stands for the answer ("other").

    Raises:
        TypeError, ValueError: as `indirect_object`.
    """
    distance = check_whole(distance, "distance", 1, 2**31 - 1)
    prompts, seed, distance = check_arguments(corruption, prompts, seed, prepend_bos, distance)
    tokenizer = tokenizer_of(model)
    if lab.speaks_lab(tokenizer):
        return _lab(model, "recall", distance, corruption, prompts, seed, prepend_bos)
    return _english(model, english.recall(tokenizer, corruption, distance), prompts, seed, prepend_bos)


def greater_than(model: Any, prompts: int = 32, *, seed: int = 0, prepend_bos: bool = True) -> PromptPairs:
    """ "The war lasted from the year 1732 to the year 17", answer a year after 32, distractor a year before it.

    Positions: `noun`, `xx` (the first 17), `yy` (32), `end`. Corrupted, the first year is 1701, after which both are.
    Only years that the tokenizer splits in the middle. Hanna et al. 2023, arXiv 2305.00586, section 2, who sum the
    probability of all years where here one answer and one distractor are drawn.

    Raises:
        TypeError, ValueError: as `indirect_object`; also a model of the lab, whose language has no numbers.
    """
    prompts, seed, _ = check_arguments("swap", prompts, seed, prepend_bos)
    _refuse_lab(model, "no numbers", "greater_than")
    return _english(model, english.greater_than(tokenizer_of(model)), prompts, seed, prepend_bos)


def docstring(
    model: Any, prompts: int = 32, *, corruption: str = "swap", seed: int = 0, prepend_bos: bool = True
) -> PromptPairs:
    """A Python function of four arguments; its documentation names two, and the answer is the third.

    Positions: `a_def b_def c_def d_def` (the arguments), `a_doc b_doc` (where they are documented), `end`. The
    distractor is the fourth argument; corrupted, it changes places with the third ("swap"), or a new word stands for
    the third ("other"). After Heimersheim and Janiak 2023, "A circuit for Python docstrings in a 4-layer attention-only
    transformer".

    Raises:
        TypeError, ValueError: as `indirect_object`; also a model of the lab, whose language is not Python.
    """
    prompts, seed, _ = check_arguments(corruption, prompts, seed, prepend_bos)
    _refuse_lab(model, "no Python", "docstring")
    return _english(model, english.docstring(tokenizer_of(model), corruption), prompts, seed, prepend_bos)


def _english(model: Any, supply: Supply, prompts: int, seed: int, prepend_bos: bool) -> PromptPairs:
    return pairs_of(model, drawn(supply, prompts, seed), prepend_bos=prepend_bos)


def _lab(
    model: Any, task: str, distance: int, corruption: str, prompts: int, seed: int, prepend_bos: bool
) -> PromptPairs:
    context = limits(model)[1]
    asked = lab.questions(task, distance, corruption, context=context, prompts=prompts, seed=seed)
    return pairs_of(model, asked, prepend_bos=prepend_bos)


def _refuse_lab(model: Any, lacking: str, family: str) -> None:
    if lab.speaks_lab(tokenizer_of(model)):
        raise ValueError(
            f"{limits(model)[0]} speaks the lab's language, which has {lacking}, so {family} does not fit it: ask for "
            "indirect_object, induction or recall, or load a public model"
        )
