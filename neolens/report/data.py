"""What a figure or a view shows, as a file to keep: a small link that unpacks a table which the page holds."""

from __future__ import annotations

import html
import re

import pandas as pd
import plotly.graph_objects as go

from neolens.checks import check_type
from neolens.figures.offline import packed
from neolens.figures.tidy import data, plain
from neolens.views import View

MOST_ROWS = 20_000
"""Rows up to which a table is put into the page; a drawing of more has no link."""


def link(drawing: go.Figure | View, caption: str, name: str) -> str:
    """The link and the packed table, or nothing where there is no table, an empty one or a large one.

    Args:
        caption: what the file is called after, of a drawing without a title.
        name: of the drawing in the page.
    """
    if isinstance(drawing, View):
        table, title = _table_of(drawing), caption
    else:
        table, title = data(drawing), plain(drawing.layout.title.text or caption)
    if table is None or not 0 < len(table) <= MOST_ROWS:
        return ""
    file = html.escape(f"{_file_name(title) or name}.csv")
    written = packed(table.to_csv(index=False, float_format="%.7g", lineterminator="\n"))
    button = f'<button type="button" class="data" data-of="{name}-data" data-file="{file}">Data (CSV)</button>'
    return f'{button}<script type="text/csv" id="{name}-data">{written}</script>'


def _table_of(view: View) -> pd.DataFrame | None:
    if view.table is None:
        return None
    try:
        table = view.table()
    except Exception as error:  # of someone else's function
        raise ValueError(f"table of a View raises {type(error).__name__}: expected a function that works") from error
    return check_type(table, "table of a View returns", pd.DataFrame, "a pandas.DataFrame")


def _file_name(title: str) -> str:
    """Letters, digits and dashes that any file system takes."""
    words = re.findall(r"[a-z0-9]+", title.lower())
    return "-".join(words)[:60].strip("-")
