"""The anatomy that a saved result carries, read back with every value checked."""

from __future__ import annotations

import json
from dataclasses import fields

from neolens.checks import check_bool, check_list, check_number, check_text, check_whole, shown
from neolens.models.facts import FAMILY_TITLES, Anatomy, AttentionSpan, Position


def from_record(text: str) -> Anatomy:
    """The anatomy that a result carries as the JSON of its attribute `anatomy`.

    Raises:
        ValueError: something else, or an anatomy under a treatment, which no model has by itself.
    """
    try:
        facts = json.loads(text)
        spans = tuple(AttentionSpan(**span) for span in facts.pop("attention"))
        position = Position(**facts.pop("position"))
        facts.setdefault("upcasts_scores", facts["family"] == "gpt_neo")  # records of earlier versions
        facts["ignored_fields"] = tuple(check_list(facts.get("ignored_fields", ()), "ignored_fields", "names"))
        found = Anatomy(attention=spans, position=position, **facts)
        _check_types(found)
    except (TypeError, KeyError, AttributeError, ValueError, RecursionError) as error:
        raise ValueError(f"{shown(text, 40)} is no record of an anatomy: expected the attribute of a result") from error
    if position.treatment is not None:
        raise ValueError(f"the record of {found.name} was made under what_if: expected one of a model as it is")
    return found


def _check_types(anatomy: Anatomy) -> None:
    """Check the fields of an anatomy that was read from a file.

    Raises:
        TypeError: a value of another type.
        ValueError: a number that no model has.
    """
    kinds = {field.name: field.type for field in fields(Anatomy)}
    for name, kind in kinds.items():
        value = getattr(anatomy, name)
        if kind == "int":
            check_whole(value, name, 1, 2**62 if name.startswith("parameters") else 2**31 - 1)
        elif kind == "float":
            check_number(value, name, 0, 1)
        elif kind == "bool":
            check_bool(value, name)
        elif kind == "str" or (kind == "str | None" and value is not None):
            check_text(value, name, empty=True)
    for field in anatomy.ignored_fields:
        check_text(field, "ignored_fields")
    sizes = anatomy.heads * anatomy.d_head == anatomy.d_model and len(anatomy.attention) == anatomy.layers
    if anatomy.family not in FAMILY_TITLES or not sizes:
        raise ValueError(f"family {shown(anatomy.family)}, or sizes that contradict each other")
