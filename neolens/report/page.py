"""The page around the blocks: style, table of contents, the libraries that draw, and the file on disk.

plotly.js and circuitsvis's script are included once each, compressed to two fifths of their size, and
unpacked by the browser itself. A content security policy in the page forbids every request, so that even a
fault in one of them could not make any.
"""

from __future__ import annotations

import base64
import functools
import gzip
import html
from collections.abc import Iterable, Sequence
from importlib.resources import files
from pathlib import Path

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from neolens.report.blocks import Block, Figure, Heading
from neolens.results import write_whole
from neolens.views import View, script_json

_POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"
_MODEBAR = {"responsive": True, "displaylogo": False, "showSendToCloud": False, "plotlyServerURL": ""}


def page(title: str, blocks: Iterable[Block]) -> str:
    """The blocks as one HTML page, complete in itself.

    Raises:
        TypeError: something that is not a block.
    """
    blocks = list(blocks)
    for block in blocks:
        if not isinstance(block, Block):
            raise TypeError(
                f"{type(block).__name__} is no block of a report: wrap text in Paragraph(...), "
                "a plotly figure or a view in Figure(...)"
            )
    named = [(f"{type(block).__name__.lower()}-{number}", block) for number, block in enumerate(blocks, start=1)]
    body = "\n".join(block.html(name) for name, block in named)
    return _TEMPLATE.format(
        policy=_POLICY,
        title=html.escape(title),
        style=_asset("page.css"),
        contents=_contents(named),
        body=body,
        scripts=_scripts([(name, block.drawing) for name, block in named if isinstance(block, Figure)]),
    )


def write(path: str | Path, page: str) -> Path:
    """Write the page beside `path` and rename it, so that a crash leaves the old file or the new one."""
    data = page.encode("utf-8", errors="xmlcharrefreplace")
    return write_whole(path, lambda beside: beside.write_bytes(data))


_TEMPLATE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="generator" content="neolens">
<title>{title}</title>
<style>
{style}
</style>
</head>
<body>
<main>
<h1>{title}</h1>
<noscript><aside class="warning"><p>The figures are drawn by scripts in this page.</p></aside></noscript>
{contents}
{body}
</main>
{scripts}
</body>
</html>
"""


def _contents(named: Sequence[tuple[str, Block]]) -> str:
    links = [
        f'<li><a href="#{name}">{html.escape(block.text)}</a></li>'
        for name, block in named
        if isinstance(block, Heading)
    ]
    return f'<nav aria-label="Contents"><ol>{"".join(links)}</ol></nav>' if len(links) > 2 else ""


def _scripts(drawings: Sequence[tuple[str, go.Figure | View]]) -> str:
    """Each library once, then what draws every figure when its library is there."""
    if not drawings:
        return ""
    libraries: dict[str, str] = {}
    draws = []
    for name, drawing in drawings:
        view = drawing if isinstance(drawing, View) else _plotly_view(drawing)
        library = libraries.setdefault(view.script, f"library-{len(libraries) + 1}")
        draws.append(f'["{library}", "{name}", {view.draw}]')
    packed = [
        f'<script type="text/plain" id="{library}">{_packed(script)}</script>' for script, library in libraries.items()
    ]
    calls = ",\n".join(draws)
    return "\n".join([*packed, f"<script>\n{_asset('page.js')}\ndrawAll([\n{calls}\n]);\n</script>"])


def _plotly_view(figure: go.Figure) -> View:
    figure_json = figure.to_json().replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
    draw = (
        f"element => {{ const figure = {figure_json}; "
        f"return Plotly.newPlot(element, figure.data, figure.layout, {script_json(_MODEBAR)}); }}"
    )
    return View("", draw, get_plotlyjs())


@functools.cache
def _packed(script: str) -> str:
    return base64.b64encode(gzip.compress(script.encode(), compresslevel=9, mtime=0)).decode()


def _asset(name: str) -> str:
    return files("neolens.report").joinpath(name).read_text(encoding="utf-8").strip()
