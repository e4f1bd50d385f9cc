"""Figures drawn while the site is built: `<!-- figure: name -->` in a page becomes a figure of `drawn.py`.

They are plotly figures that one can hover and zoom; plotly.js is the copy that plotly's own package ships, stored once
for the whole site, so nothing is fetched. On GitHub the comment shows nothing.
"""

import difflib
import html
import re
from functools import cache
from pathlib import Path

import plotly
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from mkdocs.utils import get_relative_url

import drawn

MARK = re.compile(r"<!-- figure: (\S+) -->")
SCRIPT = "assets/plotly.min.js"
CONFIG = {"displaylogo": False, "responsive": True}


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add plotly.js to what the site holds."""
    source = Path(plotly.__file__).parent / "package_data" / "plotly.min.js"
    files.append(File.generated(config, SCRIPT, abs_src_path=str(source)))
    return files


def on_page_content(content: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Draw what a page asks for; its script is loaded by pages that have a figure, and by no others."""
    names = MARK.findall(content)
    if not names:
        return content
    script = f'<script src="{get_relative_url(SCRIPT, page.url)}"></script>\n'
    return script + MARK.sub(lambda mark: element(mark.group(1)), content)


@cache
def element(name: str) -> str:
    """A figure and its caption as HTML.

    Raises:
        PluginError: no such figure.
    """
    if name not in drawn.FIGURES:
        near = difflib.get_close_matches(name, drawn.FIGURES, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise PluginError(f"no figure {name!r}: {hint}there are {', '.join(drawn.FIGURES)}")
    figure, caption = drawn.FIGURES[name]()
    figure.update_layout(title_subtitle_font_size=12)  # the caption in the figure: a page is narrower than a report
    size = {"default_height": f"{figure.layout.height:g}px"}
    plot = figure.to_html(full_html=False, include_plotlyjs=False, config=CONFIG, div_id=f"figure-{name}", **size)
    said = f"<figcaption>{html.escape(caption)}</figcaption>" if caption else ""
    return f'<figure class="drawn">{plot}{said}</figure>'
