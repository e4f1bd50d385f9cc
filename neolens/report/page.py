"""The page around the blocks: style, table of contents, the libraries that draw, and the file on disk.

The libraries are packed into the page, which a content security policy forbids every request (see
`neolens.figures.offline`).
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from importlib.resources import files
from pathlib import Path

import plotly.graph_objects as go

from neolens.checks import check_text
from neolens.figures import offline
from neolens.figures.saving import check_place
from neolens.files import write_whole
from neolens.report.blocks import Block, Heading, checked_blocks, figures, named
from neolens.views import View


def page(title: str, blocks: Iterable[Block]) -> str:
    """The blocks as one HTML page, complete in itself.

    Raises:
        TypeError: something that is not a block.
    """
    check_text(title, "title", empty=True)
    blocks = checked_blocks(blocks)
    content = "\n".join(block.html(name) for name, block in named(blocks))
    drawings = [(name, figure.drawing) for name, figure in figures(blocks)]
    body = _BODY.format(
        title=html.escape(title),
        contents=_contents(named(blocks)),
        body=content,
        scripts=_scripts(drawings, tables='<div class="table">' in content),
    )
    return offline.document(title, body, _asset("page.css")).decode("utf-8")


def write(path: str | Path, page: str) -> Path:
    """Write the page beside `path` and rename it, so that a crash leaves the old file or the new one.

    Raises:
        TypeError, ValueError: no path, a folder, or a link that leads nowhere; a page that is not text.
    """
    path = check_place(path, "report.html")
    data = check_text(page, "page", empty=True).encode("utf-8", errors="xmlcharrefreplace")
    return write_whole(path, lambda beside: beside.write_bytes(data))


_BODY = """<main>
<h1>{title}</h1>
<noscript><aside class="warning"><p>The figures are drawn by scripts in this page.</p></aside></noscript>
{contents}
{body}
</main>
{scripts}"""


def _contents(named: Sequence[tuple[str, Block]]) -> str:
    links = [
        f'<li><a href="#{name}">{html.escape(block.text)}</a></li>'
        for name, block in named
        if isinstance(block, Heading)
    ]
    return f'<nav aria-label="Contents"><ol>{"".join(links)}</ol></nav>' if len(links) > 2 else ""


def _scripts(drawings: Sequence[tuple[str, go.Figure | View]], *, tables: bool) -> str:
    """What draws every figure and offers its numbers, and fits tables to the page."""
    drawn = [
        (name, *((its.draw, its.script) if isinstance(its, View) else offline.drawing(its))) for name, its in drawings
    ]
    page = f"<script>\n{_asset('page.js')}\n</script>"
    return "\n".join([page] * (tables or bool(drawn)) + [offline.scripts(drawn)] * bool(drawn))


def _asset(name: str) -> str:
    return files("neolens.report").joinpath(name).read_text(encoding="utf-8").strip()
