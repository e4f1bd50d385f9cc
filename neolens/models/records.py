"""The anatomy that a saved result carries, read back with every value checked."""

from __future__ import annotations

import json

from neolens.checks import check_list, check_text, shown
from neolens.models.anatomy import Anatomy, AttentionSpan, Position


def from_record(text: str) -> Anatomy:
    """The anatomy that a result carries as the JSON of its attribute `anatomy`.

    Raises:
        ValueError: something else, or an anatomy under a treatment, which no model has by itself.
    """
    try:
        facts = json.loads(check_text(text, "record"))
        spans = tuple(AttentionSpan(**span) for span in facts.pop("attention"))
        position = Position(**facts.pop("position"))
        facts.setdefault("upcasts_scores", facts["family"] == "gpt_neo")  # records of earlier versions
        ignored = tuple(check_list(facts.pop("ignored_fields", ()), "ignored_fields", "names"))
        found = Anatomy(attention=spans, position=position, ignored_fields=ignored, **facts)
    except (TypeError, KeyError, AttributeError, ValueError, RecursionError) as error:
        raise ValueError(f"{shown(text, 40)} is no record of an anatomy: expected the attribute of a result") from error
    if position.treatment is not None:
        raise ValueError(f"the record of {found.name} was made under what_if: expected one of a model as it is")
    return found
