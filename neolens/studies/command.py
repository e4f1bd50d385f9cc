"""The command line of a study, made from its config: one source for options, `--help` and the documentation."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import typer

from neolens import files
from neolens.checks import shown
from neolens.processes import Interrupted, interruptible
from neolens.studies import settings

_UsageError: Any = typer.BadParameter.__base__  # of click, which some versions of typer include

_RUN = {
    "resume": (bool, typer.Option("--resume", help="continue where a run was interrupted"), False),
    "source": (
        str | None,
        typer.Option("--from", metavar="FOLDER", help="draw the report again from what this folder holds"),
        None,
    ),
}
"""The options that are no settings."""


def main(study: Any) -> None:
    """Run a study as a command; bad input is one line on standard error and exit code 2."""
    run_cleanly(app(study))


def app(study: Any) -> typer.Typer:
    """The command line of a study."""
    made = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    made.command(help=study.question)(_command(study))
    return made


def _command(study: Any) -> Callable[..., None]:
    """A function with one parameter per setting, which typer reads."""

    def command(context: Any, **values: Any) -> None:  # typer's own context, which is of a private class
        from neolens.studies import runner

        resume, source, out = values.pop("resume"), values.pop("source"), values["out"]
        names = (*(values.pop("models") or ()), *(values.pop("names") or ()))
        config = study.config(**_parsed(study.config, values), **({"models": names} if names else {}))
        if source is None:
            code = runner.run(study, config, resume=resume)
        elif resume or config != study.config(out=config.out):
            raise ValueError("--from draws what was measured: give no models or settings with it, only --out")
        else:
            chosen = getattr(context.get_parameter_source("out"), "name", "") == "COMMANDLINE"
            code = runner.redraw(study, Path(source), files.writable_folder(out if chosen else source))
        if code:
            raise typer.Exit(code)

    rows: dict[str, tuple[Any, Any, Any]] = {
        "names": (list[str] | None, typer.Argument(metavar="[NAME]...", help="more models"), None),
        **{name: _option(study, name) for name in get_type_hints(study.config)},
        **_RUN,
    }
    keyword = inspect.Parameter.KEYWORD_ONLY
    parameters = [
        inspect.Parameter(name, keyword, annotation=Annotated[hint, option], default=default)
        for name, (hint, option, default) in rows.items()
    ]
    context = inspect.Parameter("context", keyword, annotation=typer.Context)
    command.__signature__ = inspect.Signature([context, *parameters])  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in (context, *parameters)}
    return command


def _option(study: Any, name: str) -> tuple[Any, Any, Any]:
    """The type, the option and the default of a setting, as typer reads it: a list is text with commas."""
    hint, default = get_type_hints(study.config)[name], getattr(study.config, name)
    help = next(field.metadata["help"] for field in fields(study.config) if field.name == name)
    if name == "models":
        seeds = "all its seeds" if study.seeds == "all" else "seed 0"
        help = f"{help}; a lab name without a seed stands for {seeds}"
        return list[str] | None, typer.Option(metavar="NAME ...", help=help), None
    kind: Any = next((kind for kind in (int, float) if kind in _kinds(hint)), str)
    text = ",".join(map(str, default)) if isinstance(default, tuple) else default
    return (kind | None if text is None else kind), typer.Option(help=help), text


def _kinds(hint: Any) -> tuple[Any, ...]:
    """The types of a setting without None; of a list nothing, since it is given as text."""
    inner = get_args(hint) or (hint,)
    return tuple(kind for kind in inner if kind is not NoneType and get_origin(kind) is None)


def _parsed(config: type, values: dict[str, Any]) -> dict[str, Any]:
    """The settings of a command line with lists in place of text."""
    found = {}
    each_least = {field.name: field.metadata["each_least"] for field in fields(config)}
    for name, value in values.items():
        hint = get_type_hints(config)[name]
        listed = [kind for kind in (hint, *get_args(hint)) if get_origin(kind) is tuple]
        if listed and isinstance(value, str):
            if int in get_args(listed[0]):
                value = settings.listed_numbers(value, name.removesuffix("s"), each_least[name])
            else:
                value = settings.listed(value, name.removeprefix("ignore_"))
        found[name] = value
    return found


def run_cleanly(command: typer.Typer) -> None:
    """Run a typer app so that bad input ends in one line on standard error and exit code 2, without a traceback.

    Ctrl-C ends in one line too, with exit code 130; SIGTERM with 143. A command without arguments shows its help.
    """
    code = 0
    try:
        with interruptible():
            code = command(standalone_mode=False)
    except Interrupted as stop:
        print(f"\ninterrupted: {stop}", file=sys.stderr)  # after a progress bar, which has no end
        raise SystemExit(stop.exit_code) from None
    except (ValueError, TypeError, OSError, _UsageError) as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            print(error, file=sys.stderr)
        else:
            print("error:", _one_line(error), file=sys.stderr)
        raise SystemExit(2) from None
    if code:
        raise SystemExit(code)


def _one_line(error: Exception) -> str:
    """Its message; that of a wrong option names the option and its value, and refers to the list of options."""
    if not isinstance(error, _UsageError):
        return " ".join(str(error).split())
    message = error.format_message().rstrip(".")
    wrong: list[Any] = getattr(error.__cause__, "errors", list)()  # of pydantic, which reads numbers for typer
    if wrong and (option := getattr(error, "param", None)):
        kind = "a whole number" if wrong[0]["type"].startswith("int") else "a number"
        message = f"{option.opts[0]} {shown(wrong[0]['input'])}: expected {kind}"
    return f"{' '.join(message.split())}; see --help"
