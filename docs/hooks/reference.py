"""The reference tells of functions that are called like the module that they stand in, such as `report.appendix`.

mkdocstrings reads the source and finds the module under that name; Python, which imports the function after it, finds
the function. So each `::: neolens.report` is followed by one more line for each such name of its `__all__`.
"""

import re
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import Files
from mkdocs.structure.pages import Page

WHOLE = re.compile(r"^::: (neolens\.\w+)$", re.MULTILINE)
SHOWN = (
    "    options:\n      show_root_heading: true\n      show_root_toc_entry: true\n      show_root_full_path: false\n"
)


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Add what is shadowed to a module that is told of as a whole."""
    return WHOLE.sub(lambda line: "\n\n".join([line.group(0), *map(told, shadowed(line.group(1)))]), markdown)


def shadowed(package: str) -> list[str]:
    """The paths of public functions and classes of a package that are called like one of its modules."""
    module = import_module(package)
    if not hasattr(module, "__path__"):
        return []
    names = [name for name in getattr(module, "__all__", ()) if find_spec(f"{package}.{name}")]
    values = [getattr(module, name) for name in names]
    return [f"{value.__module__}.{value.__name__}" for value in values if not isinstance(value, ModuleType)]


def told(path: str) -> str:
    return f"::: {path}\n{SHOWN}"
