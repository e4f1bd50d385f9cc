"""Drawings in a page that loads nothing: the policy that forbids requests, and the libraries packed into the page.

Each library is in the page once, compressed to two fifths of its size, and unpacked by the browser itself; then every
drawing is drawn into its element, one in a folded section when that is opened. A report holds many drawings, a saved
figure is one.
"""

from __future__ import annotations

import base64
import functools
import gzip
import html
import json
from collections.abc import Iterable
from importlib.resources import files

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"
"""What the page may load: nothing, even if a library of it had a fault."""

_MODEBAR = {"responsive": False, "displaylogo": False, "showSendToCloud": False, "plotlyServerURL": ""}


_DOCUMENT = """<!DOCTYPE html>
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
{body}
</body>
</html>
"""


def document(title: str, body: str, style: str = "body { margin: 0; background: #fff; }") -> bytes:
    """A whole page that may load nothing, as a file holds it.

    Args:
        title: plain text.
        body: HTML, with what draws.
        style: CSS.
    """
    page = _DOCUMENT.format(policy=POLICY, title=html.escape(title), style=style, body=body)
    return page.encode("utf-8", errors="xmlcharrefreplace")


def drawing(figure: go.Figure) -> tuple[str, str]:
    """A JavaScript function that draws the figure into an element, and the library that it needs."""
    written = str(figure.to_json()).replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
    draw = f"element => drawFigure(element, {written}, {json.dumps(_MODEBAR)})"
    return draw, get_plotlyjs()


def scripts(drawings: Iterable[tuple[str, str, str]]) -> str:
    """Each library once, then what draws every drawing when its library is there.

    Args:
        drawings: the id of the element, the function that draws into it, and the library of each.
    """
    libraries: dict[str, str] = {}
    draws = []
    for name, draw, script in drawings:
        library = libraries.setdefault(script, f"library-{len(libraries) + 1}")
        draws.append(f'["{library}", "{name}", {draw}]')
    packed = [f'<script type="text/plain" id="{name}">{_packed(script)}</script>' for script, name in libraries.items()]
    fit = f"const drawFigure = (() => {{\n{_asset('lines.js')}\n{_asset('fit.js')}\nreturn drawFigure;\n}})();"
    code = f"{fit}\n{_asset('draw.js')}"
    calls = ",\n".join(draws)
    return "\n".join([*packed, f"<script>\n{code}\ndrawAll([\n{calls}\n]);\n</script>"])


def packed(text: str) -> str:
    """The text compressed, in characters that may stand in any element."""
    return base64.b64encode(gzip.compress(text.encode(errors="backslashreplace"), compresslevel=9, mtime=0)).decode()


def _asset(name: str) -> str:
    return files("neolens.figures").joinpath(name).read_text(encoding="utf-8").strip()


@functools.cache
def _packed(script: str) -> str:
    return packed(script)
