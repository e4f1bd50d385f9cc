"""Prompts: pairs to patch between and families of them, validated tokens, repeated random sequences, plain text."""

from neolens.prompts.bos import bos_token
from neolens.prompts.drawing import longest_repeat, random_repeats, random_tokens, repeated, token_pool
from neolens.prompts.families import docstring, greater_than, indirect_object, induction, recall
from neolens.prompts.pair_files import read_pairs
from neolens.prompts.pairs import PromptPairs
from neolens.prompts.text import chunks, lab_documents, read_text, token_chunks
from neolens.prompts.token_files import read_tokens
from neolens.prompts.tokens import repeat_length, second_copy, validated

__all__ = [
    "PromptPairs",
    "bos_token",
    "chunks",
    "docstring",
    "greater_than",
    "indirect_object",
    "induction",
    "lab_documents",
    "longest_repeat",
    "random_repeats",
    "random_tokens",
    "read_pairs",
    "read_text",
    "read_tokens",
    "recall",
    "repeat_length",
    "repeated",
    "second_copy",
    "token_chunks",
    "token_pool",
    "validated",
]
