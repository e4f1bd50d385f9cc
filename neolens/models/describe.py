"""Models side by side, and what differs between them besides the thing asked about.

Public checkpoints differ in many ways at once, so every comparison that neolens prints carries its confounds: one
line for each fact that differs, grouped by value.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from neolens.checks import check_list, check_type, shown
from neolens.models.anatomy import FAMILY_TITLES, Anatomy

_ROWS: dict[str, Callable[[Anatomy], str]] = {
    "family": lambda a: FAMILY_TITLES[a.family],
    "parameters": lambda a: f"{a.parameters:,}",
    "without embeddings": lambda a: f"{a.parameters_without_embeddings:,}",
    "layers x heads": lambda a: f"{a.layers} x {a.heads}",
    "d_model": lambda a: f"{a.d_model:,}",
    "d_head": lambda a: str(a.d_head),
    "d_mlp": lambda a: f"{a.d_mlp:,}",
    "vocabulary": lambda a: f"{a.d_vocab:,}",
    "context": lambda a: f"{a.context:,}",
    "attention": lambda a: spans_in_words(a),
    "position": lambda a: str(a.position),
    "score scale": lambda a: (
        ("none (1)" if a.scale == 1 else f"1/sqrt(d_head) = {a.scale:.4g}")
        + (", divided by layer + 1" if a.inverse_layer_scale else "")
    ),
    "attention and MLP": lambda a: "parallel" if a.parallel else "sequential",
    "activation": lambda a: a.activation,
    "biases in q, k, v": lambda a: "yes" if a.qkv_bias else "no",
    "embeddings tied": lambda a: "yes" if a.tied_embedding else "no",
    "dropout in training": lambda a: f"{a.dropout:g}",
    "training data": lambda a: a.data or "not known",
    "tokenizer": lambda a: a.tokenizer or "not known",
    "ignored config fields": lambda a: ", ".join(a.ignored_fields) or "none",
}

# Rows that answer the question itself; the others are its confounds.
_ASKED: dict[str, tuple[str, ...]] = {"attention": ("attention",), "position": ("position",)}
# Rows that follow from others.
_DERIVED = ("family", "parameters", "without embeddings", "d_head")


def spans_in_words(anatomy: Anatomy) -> str:
    """The layers' attention in a few words, such as `global 0, 2 / local (window 16) 1, 3`."""
    if not check_type(anatomy, "anatomy", Anatomy, "what neolens.anatomy returns").windows:
        return "global in every layer"
    kinds = [span.kind for span in anatomy.attention]
    windows = "/".join(map(str, anatomy.windows))
    if kinds == ["global", "local"] * (len(kinds) // 2) and len(kinds) % 2 == 0:
        return f"global in layers 0, 2, ...; local (window {windows}) in 1, 3, ..."
    if set(kinds) == {"local"}:
        return f"local (window {windows}) in every layer"
    local = ", ".join(map(str, anatomy.layers_of_kind("local")))
    return f"local (window {windows}) in layers {local}; global elsewhere"


def side_by_side(anatomies: Sequence[Anatomy]) -> tuple[list[str], list[list[str]]]:
    """Header and rows of a table with a column for each model."""
    _check(anatomies)
    header = ["", *(anatomy.name for anatomy in anatomies)]
    rows = [[title, *map(read, anatomies)] for title, read in _ROWS.items()]
    return header, [row for row in rows if {*row[1:]} != {"none"}]


def differences(anatomies: Sequence[Anatomy], question: str = "attention") -> list[str]:
    """One line for each way in which the models differ besides the one that `question` asks about.

    Raises:
        ValueError: an unknown question.
    """
    _check(anatomies, question)
    lines = []
    for title, read in _ROWS.items():
        if title in _ASKED[question] or title in _DERIVED:
            continue
        groups: dict[str, list[str]] = {}
        for anatomy in anatomies:
            groups.setdefault(read(anatomy), []).append(anatomy.name)
        if len(groups) > 1:
            lines.append(f"{title}: " + "; ".join(f"{value} ({', '.join(who)})" for value, who in groups.items()))
    return lines


def differences_title(anatomies: Sequence[Anatomy], question: str = "attention") -> str:
    """The words that stand before the differences: what else differs, or that nothing does."""
    _check(anatomies, question)
    asked = len({tuple(_ROWS[title](anatomy) for title in _ASKED[question]) for anatomy in anatomies}) > 1
    if differences(anatomies, question):
        return f"Besides {question}, these models differ in:" if asked else "These models differ in:"
    return f"They differ in {question} alone." if asked else "They do not differ."


def _check(anatomies: Sequence[Anatomy], question: str = "attention") -> None:
    """Check the arguments of a comparison."""
    if not isinstance(question, str) or question not in _ASKED:
        raise ValueError(f"no question {shown(question)}: expected one of {', '.join(_ASKED)}")
    items = check_list(anatomies, "anatomies", "anatomies of models")
    if not items:
        raise ValueError("anatomies []: expected at least one, of neolens.anatomy")
    for anatomy in items:
        if not isinstance(anatomy, Anatomy):
            raise TypeError(f"anatomies {shown(anatomies)}: expected a list of what neolens.anatomy returns")


def as_text(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A plain-text table, columns aligned."""
    for what, cells in (("header", header), *(("row", row) for row in check_list(rows, "rows", "lists of strings"))):
        listed = check_list(cells, what, "strings", example="['a', 'b']")
        if len(listed) != len(header) or not all(isinstance(cell, str) for cell in listed):
            raise ValueError(f"{what} {shown(cells)}: expected a string for each column of the header")
    widths = [max(len(row[column]) for row in (header, *rows)) for column in range(len(header))]
    line = [[cell.ljust(width) for cell, width in zip(row, widths)] for row in (header, *rows)]
    rule = "  ".join("-" * width for width in widths)
    text = ["  ".join(row).rstrip() for row in line]
    return "\n".join([text[0], rule, *text[1:]])
