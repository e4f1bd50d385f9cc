"""Prompts: pairs to patch between and families of them, validated tokens, repeated random sequences, plain text."""

from neolens.prompts.families import docstring, greater_than, indirect_object, induction, recall
from neolens.prompts.pairs import PromptPairs
from neolens.prompts.text import beginning_of_sequence, chunks, lab_documents, read_text
from neolens.prompts.tokens import random_repeats, random_tokens, repeat_length, repeated, second_copy, validated

__all__ = [
    "PromptPairs",
    "beginning_of_sequence",
    "chunks",
    "docstring",
    "greater_than",
    "indirect_object",
    "induction",
    "lab_documents",
    "random_repeats",
    "random_tokens",
    "read_text",
    "recall",
    "repeat_length",
    "repeated",
    "second_copy",
    "validated",
]
