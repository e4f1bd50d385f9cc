"""Pages of experiments say what the experiments themselves say: docstring, options and defaults cannot go stale.

`<!-- asked by: name -->` becomes the docstring of `experiments.name` without its first sentence, and
`<!-- options of: name -->` the table of its options, read from the command line that the experiment makes.
"""

import re
from importlib import import_module
from types import ModuleType

import typer
import typer.core
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import Files
from mkdocs.structure.pages import Page

ASKED = re.compile(r"<!-- asked by: (\w+) -->")
OPTIONS = re.compile(r"<!-- options of: (\w+) -->")


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Put in what the marks stand for."""
    markdown = ASKED.sub(lambda mark: asked(experiment(mark.group(1))), markdown)
    return OPTIONS.sub(lambda mark: options(experiment(mark.group(1))), markdown)


def experiment(name: str) -> ModuleType:
    return import_module(f"experiments.{name}")


def asked(module: ModuleType) -> str:
    """The docstring, with the names of lab models and code as code, without the question that the page opens with."""
    _, _, rest = str(module.__doc__).partition("?\n\n") if "?\n\n" in str(module.__doc__) else ("", "", module.__doc__)
    return re.sub(r"(?<![`\w])(lab/[\w-]*\w(?:@\d)?)", r"`\1`", str(rest).strip())


def options(module: ModuleType) -> str:
    """A table of the options, their meaning and their defaults."""
    app = typer.Typer(add_completion=False)
    app.command()(module.main)
    rows = ["| option | meaning | default |", "| --- | --- | --- |"]
    for parameter in typer.main.get_command(app).params:
        if parameter.param_type_name == "option" and parameter.name != "help":
            rows.append(f"| `{parameter.opts[0]}` | {parameter.help} | {default(module, parameter)} |")
    return "\n".join(rows)


def default(module: ModuleType, parameter: typer.core.TyperOption) -> str:
    """What holds where the option is left out: its own default, or that of the config, as one would write it."""
    value = parameter.default
    if value is None:
        value = getattr(module.Config, str(parameter.name), None)
    if isinstance(value, tuple):
        value = (" " if parameter.name == "models" else ",").join(map(str, value))
    return "" if value is None else f"`{value}`"
