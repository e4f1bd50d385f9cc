"""Pages of studies show what the code says: the docstring of a study, its options and their defaults.

`<!-- asked by: name -->` becomes the docstring of the study's module without its first paragraph,
`<!-- options of: name -->` the table of its options, read from the command line that its config makes, and
`<!-- source of: name -->` the file of that experiment.
"""

import inspect
import re
from importlib import import_module
from pathlib import Path

import typer
import typer.core
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import Files
from mkdocs.structure.pages import Page

from neolens.studies import Study, command, find_study

ASKED = re.compile(r"<!-- asked by: (\w+) -->")
SOURCE = re.compile(r"<!-- source of: (\w+) -->")
OPTIONS = re.compile(r"<!-- options of: (\w+) -->")


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Put in what the marks stand for."""
    markdown = ASKED.sub(lambda mark: asked(find_study(mark.group(1))), markdown)
    markdown = SOURCE.sub(lambda mark: source(mark.group(1)), markdown)
    return OPTIONS.sub(lambda mark: options(find_study(mark.group(1))), markdown)


def asked(study: Study) -> str:
    """What the docstring of the study's module says after its question, with the names of lab models as code."""
    text = inspect.getdoc(import_module(f"neolens.studies.{study.name}.study")) or ""
    return re.sub(r"(?<![`\w])(lab/[\w-]*\w(?:@\d)?)", r"`\1`", text.partition("\n\n")[2])


def source(name: str) -> str:
    """The file of an experiment as a block of code."""
    text = (Path(__file__).parents[2] / "experiments" / f"{name}.py").read_text(encoding="utf-8")
    return f"```python\n{text}```"


def options(study: Study) -> str:
    """A table of the options, their meaning and their defaults."""
    rows = ["| option | meaning | default |", "| --- | --- | --- |"]
    for parameter in typer.main.get_command(command.app(study)).params:
        if parameter.param_type_name == "option" and parameter.name != "help":
            rows.append(f"| `{parameter.opts[0]}` | {parameter.help} | {default(study, parameter)} |")
    return "\n".join(rows)


def default(study: Study, parameter: typer.core.TyperOption) -> str:
    """What holds where the option is left out, as one would write it; nothing for a switch."""
    if parameter.name == "models":
        return f"`{' '.join(study.config.models)}`"
    return "" if parameter.default is None or parameter.default is False else f"`{parameter.default}`"
