"""What a report is made of: small values, each of which knows its HTML.

All text is escaped here, so a block may hold anything that a prompt, a file or a model's name may hold. A
figure leaves an empty element behind, into which the page draws it.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from numbers import Integral, Real
from typing import Any, Literal

import plotly.graph_objects as go

from neolens.checks import check_choice, check_list, check_text, shown
from neolens.report import data, numbers
from neolens.report.numbers import Cell
from neolens.views import View

_NUMBER, _SHORT = re.compile(r"[-+]?\d"), 40
"""How a number with what belongs to it, such as an interval, begins, and up to how many characters it is kept on one
line."""


@dataclass(frozen=True)
class Heading:
    """Opens a section; the page's table of contents lists it."""

    text: str

    def __post_init__(self) -> None:
        _check_texts(self, "text")

    def html(self, name: str) -> str:
        return f'<h2 id="{name}">{html.escape(self.text)}</h2>'


@dataclass(frozen=True)
class Paragraph:
    """Plain text; an empty line in it opens a new paragraph."""

    text: str

    def __post_init__(self) -> None:
        _check_texts(self, "text")

    def html(self, name: str) -> str:
        return _paragraphs(self.text)


@dataclass(frozen=True)
class Note:
    """Text set apart: a remark, a warning, or a finding; under its title if it has one, else under its kind."""

    text: str
    kind: Literal["note", "warning", "finding"] = "note"
    title: str = ""

    def __post_init__(self) -> None:
        _check_texts(self, "text", "title")
        check_choice(self.kind, "kind of note", ("note", "warning", "finding"))

    def html(self, name: str) -> str:
        titled = f'<strong class="title">{html.escape(self.title)}</strong>'
        head = titled if self.title else f"<strong>{self.kind.title()}</strong>"
        return f'<aside class="{self.kind}">{head}{_paragraphs(self.text)}</aside>'


@dataclass(frozen=True)
class Answer:
    """A question and its answer in one sentence, in large letters."""

    question: str
    headline: str

    def __post_init__(self) -> None:
        _check_texts(self, "question", "headline")

    def html(self, name: str) -> str:
        question, headline = html.escape(self.question), html.escape(self.headline)
        return f'<section class="answer"><p class="question">{question}</p><p class="headline">{headline}</p></section>'


@dataclass(frozen=True)
class Table:
    """Rows under a header; the first column names the row. None and NaN are blank.

    Raises:
        ValueError: a row that is not as long as the header.
    """

    header: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    caption: str = ""

    def __post_init__(self) -> None:
        _check_texts(self, "caption")
        header = [
            check_text(name, "header of Table", empty=True) for name in check_list(self.header, "header", "names")
        ]
        rows = [check_list(row, f"row {at}", "cells") for at, row in enumerate(check_list(self.rows, "rows", "rows"))]
        for number, row in enumerate(rows):
            if len(row) != len(header):
                raise ValueError(f"row {number} has {len(row)} cells under a header of {len(header)}")
            rows[number] = [_plain(cell, f"row {number}") for cell in row]
        object.__setattr__(self, "header", header)
        object.__setattr__(self, "rows", rows)

    def html(self, name: str) -> str:
        columns = [numbers.column(name, [row[i] for row in self.rows]) for i, name in enumerate(self.header)]
        classes = [' class="number"' if numeric else "" for numeric, _ in columns]
        head = "".join(f"<th{c}>{html.escape(cell)}</th>" for cell, c in zip(self.header, classes, strict=True))
        cells = zip(*(texts for _, texts in columns), strict=True)
        body = "".join(f"<tr>{_row(row, classes)}</tr>" for row in cells)
        caption = f'<p class="caption">{html.escape(self.caption)}</p>' if self.caption else ""
        table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
        return f'<div class="table">{table}</div>{caption}'


@dataclass(frozen=True)
class Figure:
    """A plotly figure or a view, with a caption under it and a link that saves what it shows as CSV."""

    drawing: go.Figure | View = field(repr=False)
    caption: str = ""

    def __post_init__(self) -> None:
        _check_texts(self, "caption")
        if not isinstance(self.drawing, go.Figure | View):
            raise TypeError(f"drawing {shown(self.drawing)}: expected a figure of neolens.figures or a view")

    def html(self, name: str) -> str:
        if isinstance(self.drawing, View):
            area = f'<div class="neolens-view">{self.drawing.body}<div id="{name}"></div></div>'
        else:
            height = self.drawing.layout.height or 450
            area = f'<div id="{name}" class="plot" style="height:{height:g}px"></div>'
        caption = f"<figcaption>{html.escape(self.caption)}</figcaption>" if self.caption else ""
        link = data.link(self.drawing, self.caption, name)
        return f'<figure><div class="paper">{area}</div>{caption}{link}</figure>'


@dataclass(frozen=True)
class Code:
    """Text shown letter for letter, such as a command; folded away under `summary` if there is one."""

    text: str
    summary: str = ""

    def __post_init__(self) -> None:
        _check_texts(self, "text", "summary")

    def html(self, name: str) -> str:
        block = f"<pre><code>{html.escape(self.text)}</code></pre>"
        if not self.summary:
            return block
        return f"<details><summary>{html.escape(self.summary)}</summary>{block}</details>"


@dataclass(frozen=True)
class Folded:
    """Blocks folded away under a line of text; figures among them are drawn when they are shown.

    Raises:
        TypeError: something that is not a block.
    """

    summary: str
    blocks: Sequence[Block]

    def __post_init__(self) -> None:
        _check_texts(self, "summary")
        object.__setattr__(self, "blocks", checked_blocks(self.blocks))

    def html(self, name: str) -> str:
        inside = "\n".join(block.html(its) for its, block in named(self.blocks, f"{name}-"))
        return f"<details><summary>{html.escape(self.summary)}</summary>\n{inside}\n</details>"


@dataclass(frozen=True)
class Columns:
    """Blocks side by side; one below the other where the page is narrow.

    Raises:
        TypeError: something that is not a block.
    """

    blocks: Sequence[Block]

    def __post_init__(self) -> None:
        object.__setattr__(self, "blocks", checked_blocks(self.blocks))

    def html(self, name: str) -> str:
        cells = "\n".join(f"<div>{block.html(its)}</div>" for its, block in named(self.blocks, f"{name}-"))
        return f'<div class="columns">\n{cells}\n</div>'


Block = Heading | Paragraph | Note | Answer | Table | Figure | Code | Folded | Columns


def checked_blocks(blocks: Any) -> list[Block]:
    """The blocks of a report.

    Raises:
        TypeError: something that is not a block.
    """
    listed = check_list(blocks, "blocks", "blocks", example="[Paragraph('...')]")
    for block in listed:
        if not isinstance(block, Block):
            raise TypeError(
                f"{shown(block)} is no block of a report: wrap text in Paragraph(...), "
                "a plotly figure or a view in Figure(...)"
            )
    return listed


def _check_texts(block: Any, *names: str) -> None:
    for name in names:
        check_text(getattr(block, name), f"{name} of {type(block).__name__}", empty=True)


def named(blocks: Sequence[Block], before: str = "") -> list[tuple[str, Block]]:
    """The blocks with the name that each has in the page; of blocks in another block, after `before`."""
    return [(f"{before}{type(block).__name__.lower()}-{number}", block) for number, block in enumerate(blocks, start=1)]


def figures(blocks: Sequence[Block], before: str = "") -> Iterator[tuple[str, Figure]]:
    """Every figure with its name, also those in other blocks."""
    for name, block in named(blocks, before):
        if isinstance(block, Figure):
            yield name, block
        elif isinstance(block, Folded | Columns):
            yield from figures(block.blocks, f"{name}-")


def _paragraphs(text: str) -> str:
    return "".join(f"<p>{html.escape(part.strip())}</p>" for part in text.split("\n\n") if part.strip())


def _row(row: Sequence[str], classes: Sequence[str]) -> str:
    first, *others = (html.escape(cell) for cell in row)
    kept = [
        c or (' class="kept"' if _NUMBER.match(cell) and len(cell) <= _SHORT else "")
        for cell, c in zip(others, classes[1:])
    ]
    cells = "".join(f"<td{c}>{cell}</td>" for cell, c in zip(others, kept, strict=True))
    return f'<th scope="row"{classes[0]}>{first}</th>{cells}'


def _plain(cell: Any, row: str) -> Cell:
    """Text, None or a number, fractions of other types as floats."""
    if cell is None or isinstance(cell, str | float | bool):
        return cell
    if not isinstance(cell, Real):
        raise TypeError(f"{row} holds {shown(cell)}: expected text, numbers or None")
    try:
        number = float(cell)
    except OverflowError:
        raise ValueError(f"{row} holds {shown(cell)}: expected numbers that a float can hold, or text") from None
    return int(cell) if isinstance(cell, Integral) else number
