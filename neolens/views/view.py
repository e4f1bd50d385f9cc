"""A `View`: a picture that a browser draws, with the data that is in it.

It holds HTML to read, a function that draws and the script that this needs, and puts them together for a notebook,
for a file of its own or, through `neolens.report`, for a report. Nothing in it asks a network for anything, and the
policy of a page forbids that it could.
"""

from __future__ import annotations

import functools
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path

import pandas as pd

from neolens.checks import check_function, check_text
from neolens.figures.offline import document
from neolens.figures.saving import check_place
from neolens.files import write_whole

_BODY = """<noscript><p>The picture is drawn by a script in this page.</p></noscript>
{view}"""
_DRAW = """<script>(async (element) => {{
  try {{
    await ({draw})(element);
  }} catch (error) {{
    element.textContent = `This view could not be drawn; a browser from 2023 or later is needed. (${{error}})`;
    console.error(error);
  }}
}})(document.getElementById("{name}"));</script>"""


@dataclass(frozen=True)
class View:
    """A picture that a browser draws: `str()` is its HTML, complete in itself, and notebooks show it.

    `body` is HTML to read; `draw` a JavaScript function that takes the element to draw into; `script` the
    library that `draw` needs. A page with several views includes an equal script once. `table` gives the data
    that is drawn, one value a row.
    """

    body: str = field(repr=False)
    draw: str = field(repr=False)
    script: str = field(repr=False)
    table: Callable[[], pd.DataFrame] | None = field(default=None, repr=False, compare=False, kw_only=True)

    def __post_init__(self) -> None:
        for name in ("body", "draw", "script"):
            check_text(getattr(self, name), name, empty=True)
        if self.table is not None:
            check_function(self.table, "table", "a function without arguments that returns a table, or None", 0)

    def __str__(self) -> str:
        name = f"neolens-{uuid.uuid4()}"
        return (
            f'<div class="neolens-view">{self.body}<div id="{name}"></div>\n'
            f"<script>{self.script}</script>\n{_DRAW.format(draw=self.draw, name=name)}</div>"
        )

    def _repr_html_(self) -> str:
        return str(self)

    def save(self, path: str | Path) -> Path:
        """Write the view as an HTML page of its own, whole or not at all, and return its path.

        The folder is made if need be.

        Raises:
            TypeError, ValueError: no path, a folder, or a link that leads nowhere.
        """
        path = check_place(path, "view.html")
        page = document(path.stem, _BODY.format(view=self), "")
        return write_whole(path, lambda beside: beside.write_bytes(page))


@functools.cache
def asset(name: str) -> str:
    """A script or style that stands in the package beside this module."""
    return files("neolens.views").joinpath(name).read_text(encoding="utf-8").strip()
