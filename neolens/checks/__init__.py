"""Checks of arguments, each with one wording: what the value was, what was expected, and the nearest valid name."""

from neolens.checks.lists import check_list, check_whole_numbers
from neolens.checks.model_parts import (
    Head,
    check_head,
    check_index,
    check_indices,
    check_layer,
    check_layers,
)
from neolens.checks.records import check_fields, check_records
from neolens.checks.tensors import check_floats, check_tokens, holds_tokens
from neolens.checks.values import (
    check_bool,
    check_choice,
    check_function,
    check_number,
    check_seed,
    check_text,
    check_type,
    check_whole,
    did_you_mean,
    shown,
)

__all__ = [
    "Head",
    "check_bool",
    "check_choice",
    "check_fields",
    "check_floats",
    "check_function",
    "check_head",
    "check_index",
    "check_indices",
    "check_layer",
    "check_layers",
    "check_list",
    "check_number",
    "check_records",
    "check_seed",
    "check_text",
    "check_tokens",
    "check_type",
    "check_whole",
    "check_whole_numbers",
    "did_you_mean",
    "holds_tokens",
    "shown",
]
