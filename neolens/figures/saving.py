"""A figure as a file: a page that loads nothing, a picture without a display, or its numbers.

Pictures are made by kaleido, which draws with plotly.js in a headless Chrome or Chromium of this machine. Left to
itself it would load MathJax from a CDN; here it gets plotly.js from plotly's own wheel, no MathJax, and a proxy that
leads nowhere, so that neither the page nor the browser can ask the network.
"""

from __future__ import annotations

import asyncio
import math
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from os import PathLike, fspath
from os.path import lexists
from pathlib import Path
from typing import Any

import plotly.graph_objects as go

from neolens.checks import check_number, shown
from neolens.figures.offline import document, drawing, scripts
from neolens.figures.tidy import data, plain
from neolens.files import write_whole

PICTURES = (".png", ".svg", ".pdf")
SUFFIXES = (".html", *PICTURES, ".csv")

MOST_PIXELS = 16_384
"""Of a side of a picture: what a browser draws whole, whatever the other side is."""

_NOWHERE = "127.0.0.1:9"  # the port of RFC 863, where nothing listens
_NEEDED = 'a picture needs kaleido and a Chrome or Chromium: pip install "neolens[image]" and apt-get install chromium'


def save(figure: Any, path: str | Path, *, width: int | float = 1000, scale: int | float = 2) -> Path:
    """Write a figure into a file, whole or not at all; what is written goes by the suffix of the name.

    `.html` is one page that works without a network, `.png`, `.svg` and `.pdf` are pictures, `.csv` holds what
    `neolens.figures.data` gives. Pictures need the extra `neolens[image]` and a Chrome or Chromium, on the PATH or
    named by the environment variable BROWSER_PATH; no display.

    Args:
        width: of a picture, in pixels; its height is that of the figure.
        scale: pixels of a PNG for each of those.

    Raises:
        TypeError: no plotly figure.
        ValueError: another suffix, a path that is a folder or leads through a file, a width or scale that is no number
            above 0, or a picture of less than 1 pixel or more than 16,384 a side.
        RuntimeError: kaleido or a browser is missing, or the browser failed; nothing is written then.
    """
    path = check_place(path, "figure.html")
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise ValueError(f"{path.name!r} ends in {path.suffix or 'no suffix'!r}: expected one of {', '.join(SUFFIXES)}")
    if not isinstance(figure, go.Figure):
        raise TypeError(f"{shown(figure)} is no figure: expected what a function of neolens.figures returns")
    width, scale = check_number(width, "width", above=0), check_number(scale, "scale", above=0)
    if suffix == ".csv":
        written = data(figure).to_csv(index=False, float_format="%.7g", lineterminator="\n").encode()
    elif suffix == ".html":
        written = _page(figure)
    else:
        (written,) = pictures([figure], suffix, width=width, scale=scale)
    return write_whole(path, lambda beside: beside.write_bytes(written))


def pictures(
    figures: Sequence[go.Figure], suffix: str, *, width: int | float = 1000, scale: int | float = 2
) -> list[bytes]:
    """Each figure as a picture, all from one browser, whose start takes longer than a drawing.

    Raises:
        ValueError: one of less than 1 pixel or more than 16,384 a side.
        RuntimeError: kaleido or a browser is missing, or the browser failed.
    """
    shape = {"format": suffix.removeprefix("."), "width": width, "scale": scale if suffix == ".png" else 1}
    asked = [shape | {"height": figure.layout.height or 450} for figure in figures]
    for one in asked:
        _check_size(one["width"], one["height"], one["scale"], suffix)
    try:
        import kaleido
        from choreographer.errors import ChromeNotFoundError, DevtoolsProtocolError
        from kaleido.errors import KaleidoError
    except ImportError as error:
        raise RuntimeError(f"{_NEEDED}; kaleido is missing") from error

    async def draw() -> list[bytes]:
        async with kaleido.Kaleido(plotlyjs=_plotly_script(), mathjax=False, proxy_server=_NOWHERE) as browser:
            return [await browser.calc_fig(one, opts=opts) for one, opts in zip(figures, asked, strict=True)]

    try:
        with ThreadPoolExecutor(1) as thread:  # a notebook has a loop of its own
            return thread.submit(lambda: asyncio.run(draw())).result()
    except ChromeNotFoundError as error:
        raise RuntimeError(f"{_NEEDED}, or name it in BROWSER_PATH; no browser is found") from error
    except (RuntimeError, OSError, KaleidoError, DevtoolsProtocolError) as error:  # of starting, talking, and drawing
        why = str(error.args[0]) if error.args else type(error).__name__
        raise RuntimeError(f"the browser that draws pictures failed: {why}; name another in BROWSER_PATH") from error


def check_place(path: Any, example: str) -> Path:
    """The path of a file that can be written, as far as that shows before it is written.

    Raises:
        TypeError: no path.
        ValueError: an empty one, a folder, a link that leads nowhere, or one that leads through a file.
    """
    if not isinstance(path, str | PathLike) or isinstance(fspath(path), bytes):
        raise TypeError(f"path {shown(path)}: expected the name of a file, such as {example!r}")
    place, name = Path(path), repr(fspath(path))
    if not place.name or "\0" in str(place):
        raise ValueError(f"path {shown(fspath(path))}: expected the name of a file, such as {example!r}")
    try:
        os.fsencode(place)
    except UnicodeEncodeError:
        raise ValueError(f"path {fspath(path)!a}: expected a name of valid characters; choose another") from None
    try:
        if place.is_dir():
            raise ValueError(f"{name} is a folder: expected the name of a file; put one behind it")
        there = next(part for part in place.absolute().parents if lexists(part))
        if not there.is_dir():
            kind = "a link to no folder" if there.is_symlink() else "a file"
            raise ValueError(f"{name} leads through {there.name!r}, which is {kind}: expected a folder; choose another")
        if place.is_symlink() and not place.exists():
            raise ValueError(f"{name} is a link to a file that does not exist: remove the link or choose another name")
    except OSError as error:
        raise ValueError(f"{shown(fspath(path))} cannot be written ({error.strerror}): choose another name") from error
    return place


def _check_size(width: int | float, height: int | float, scale: int | float, suffix: str) -> None:
    """Whether a browser draws so large a picture: of a larger one it gives an empty one, without a word."""
    sides = [side * scale for side in (width, height)]
    if min(sides) >= 1 and max(sides) <= MOST_PIXELS:
        return
    if 1 <= sides[1] <= MOST_PIXELS:
        fits = f"at a scale of {scale:g} a width up to {MOST_PIXELS / scale:,.0f}"
    elif suffix == ".png":
        wide = min(width, MOST_PIXELS)
        fits = f"at a width of {wide:,.0f} a scale up to {math.floor(100 * MOST_PIXELS / max(wide, height)) / 100}"
    else:
        fits = f"a figure up to {MOST_PIXELS:,} high, or a PNG at a smaller scale"
    asked = " x ".join(f"{side:,.0f}" for side in sides)
    raise ValueError(f"a picture of {asked} pixels: expected 1 to {MOST_PIXELS:,} a side; {fits} would fit")


def _plotly_script() -> Path:
    import plotly

    return Path(plotly.__file__).parent / "package_data" / "plotly.min.js"


def _page(figure: go.Figure) -> bytes:
    draw, library = drawing(figure)
    area = f'<div id="figure" style="height:{figure.layout.height or 450:g}px"></div>'
    return document(plain(figure.layout.title.text or "figure"), f"{area}\n{scripts([('figure', draw, library)])}")
