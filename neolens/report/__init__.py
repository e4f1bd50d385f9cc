"""One page that can be sent around: text, tables, figures and views in a single HTML file that loads nothing.

`page(title, blocks)` gives the HTML of a list of blocks (`Folded` ones are folded away), `write(path, html)` puts it
into a file, `appendix` is how every experiment's page ends, `publish` writes it beside the result and its record.
"""

from neolens.report.appendix import appendix
from neolens.report.blocks import Answer, Block, Code, Columns, Figure, Folded, Heading, Note, Paragraph, Table
from neolens.report.page import page, write
from neolens.report.publish import as_json, publish, write_record

__all__ = [
    "Answer",
    "Block",
    "Code",
    "Columns",
    "Figure",
    "Folded",
    "Heading",
    "Note",
    "Paragraph",
    "Table",
    "appendix",
    "as_json",
    "page",
    "publish",
    "write",
    "write_record",
]
