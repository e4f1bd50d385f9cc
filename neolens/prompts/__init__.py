"""Prompts: validated tokens, repeated random sequences, plain text."""

from neolens.prompts.text import beginning_of_sequence, chunks, lab_documents, read_text
from neolens.prompts.tokens import repeat_length, repeated, validated

__all__ = [
    "beginning_of_sequence",
    "chunks",
    "lab_documents",
    "read_text",
    "repeat_length",
    "repeated",
    "validated",
]
