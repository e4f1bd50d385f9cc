"""What all experiments have in common besides their questions: models by name, what is recorded, printed, repeated."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
import xarray as xr

from neolens import files, report, results
from neolens import models as loading
from neolens.cli import check_config_fields
from neolens.models import Anatomy, anatomy, fetch, lab_names, lab_seeds
from neolens.models.folders import resolve
from neolens.processes import cores, one_thread, run_tasks
from neolens.scores import narrowest_window

Names = Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", help="more models")]
"""What follows the first name after --models."""

Models = Annotated[
    list[str] | None, typer.Option(metavar="NAME ...", help="names, hub ids or folders; LABEL=NAME labels one")
]

Out = Annotated[str, typer.Option(help="folder for the result, its record and the report")]

Text = Annotated[str | None, typer.Option(help="a UTF-8 text file")]

Tokens = Annotated[str | None, typer.Option(help="prompts as tokens: a .npy or .pt file, or lines of integers")]
"""In the place of --text, for any vocabulary and without a tokenizer."""

IgnoreFields = Annotated[str | None, typer.Option(help="fields of config.json that change nothing, such as a,b")]

SMALL = 10_000_000
"""Parameters below which a second thread costs more than it brings."""

PROCESSES = 8
"""Side by side at most, each with about 1 GB."""


def named(models: Sequence[str] | None, names: Sequence[str] | None, default: Collection[str]) -> tuple[str, ...]:
    """All models of a command line, or the default where none is given."""
    return tuple([*(models or []), *(names or [])]) or tuple(default)


def anatomies(config: Any) -> tuple[Anatomy, ...]:
    """The anatomies of a config's models, after a check that its folder can be written to.

    Raises:
        ValueError: a folder that cannot, no such model, one that is named twice in whatever spelling, or two with one
            label.
    """
    files.writable_folder(config.out)
    models = config.models
    found = tuple(anatomy(name, ignore_fields=config.ignore_fields or ()) for name in models)
    check_config_fields(models, config.ignore_fields or ())
    identities, labels = [resolve(name).identity for name in models], [facts.name for facts in found]
    for at, name in enumerate(models):
        if (first := identities.index(identities[at])) < at:
            raise ValueError(
                f"models {models[first]} and {name} are the same model ({identities[at][0]}): give each only once"
            )
        if (first := labels.index(labels[at])) < at:
            raise ValueError(
                f"models {models[first]} and {name} have one label, {labels[at]}: give one of them another, such as "
                f"other={name}"
            )
    return found


def one_window(anatomies: Sequence[Anatomy]) -> int:
    """The window that local layers share, or the one to hold global layers to where there is none.

    Raises:
        ValueError: windows that differ, so that "beyond the window" means several things.
    """
    window = narrowest_window(list(anatomies))
    for facts in anatomies:
        if facts.windows and facts.windows != (window,):
            raise ValueError(f"{facts.name} has a window of {facts.windows[-1]}, not of {window}: ask it by itself")
    return window


def fetched(config: Any) -> None:
    """All weights on this machine, before anything is measured."""
    for name in config.models:
        fetch(name, ignore_fields=config.ignore_fields or ())


def load(config: Any, name: str, revision: str | None = None) -> Any:
    """One model of an experiment, with the config fields ignored that its command line names."""
    return loading.load(name, revision=revision, ignore_fields=config.ignore_fields or ())


def networks(anatomies: Sequence[Anatomy], models: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Model -> its networks: all seeds of an arm of the lab; any other model, also a single seed, is itself alone.

    Raises:
        ValueError: a seed of an arm that is given as a whole, which would count as two networks.
    """
    found = {
        facts.name: tuple(lab_seeds(facts.name)) if facts.name in lab_names() else (name,)
        for facts, name in zip(anatomies, models)
    }
    for name in found:
        if twice := [other for other, several in found.items() if other != name and name in several]:
            raise ValueError(f"{name} is one of the networks of {twice[0]}: give one of the two")
    return found


def seed_of(network: str) -> int:
    """The seed of a lab model, the number after the @ of its name; 0 where there is none, and of any other model."""
    number = network.partition("@")[2]
    return int(number) if network.startswith("lab/") and number.isdecimal() else 0


def choose_threads(anatomies: Collection[Anatomy]) -> None:
    """One thread for small models."""
    if all(facts.parameters < SMALL for facts in anatomies):
        one_thread()


def side_by_side(
    do: Callable[..., Any], tasks: Sequence[tuple[Any, ...]], anatomies: Collection[Anatomy]
) -> Iterator[Any]:
    """What each task gives, in the order in which they are done: small models in a process a core, large ones one after
    the other, each with all cores.

    Args:
        do: a function of a module, for other processes have to find it.
        tasks: its arguments, which go to another process by value.
    """
    choose_threads(anatomies)
    small = all(facts.parameters < SMALL for facts in anatomies)
    yield from run_tasks(do, tasks, min(cores(), PROCESSES) if small else 1)


def command(experiment: str, config: Any) -> str:
    """The command that does this again: every field of the config but those that are None."""
    given = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    models, out = given.pop("models"), given.pop("out")
    words = ["python -m", f"experiments.{experiment}", "--models", *map(shlex.quote, models)]
    for name, value in given.items():
        if value is not None:
            text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
            words += [f"--{name.replace('_', '-')}", shlex.quote(text)]
    return " ".join([*words, "--out", shlex.quote(out)])


def record(config: Any, measured: Mapping[str, xr.Dataset], seconds: float, **found: Any) -> dict[str, Any]:
    """What was asked of which weights with which versions, how long it took, and what was found.

    Args:
        measured: model -> its result, with its weights' fingerprint.
    """
    return {
        "config": dataclasses.asdict(config),
        "versions": results.versions(),
        "fingerprints": {name: result.attrs["fingerprint"] for name, result in measured.items()},
        "seconds": round(seconds, 1),
        **found,
    }


def publish(folder: Path, measured: Mapping[str, xr.Dataset], noted: Mapping[str, Any], page: str) -> Path:
    """Write `result.nc`, `record.json` and `report.html`, without `result.nc` where no model was measured.

    Args:
        measured: model -> its result.

    Returns:
        The path of the report.
    """
    if measured:
        return report.publish(folder, results.stack(measured), noted, page)
    report.write_record(folder, noted)
    (folder / "result.nc").unlink(missing_ok=True)
    return report.write(folder / "report.html", page)


def tell(noted: Mapping[str, Any], page: Path) -> None:
    """Print the findings of a record, its warnings on standard error, and where the report is."""
    for sentence in noted["findings"]:
        typer.echo(sentence)
    for sentence in noted["warnings"]:
        typer.echo(f"Warning: {sentence}", err=True)
    typer.echo(f"Done in {noted['seconds']} s. Open {page}")


def end(noted: Mapping[str, Any]) -> None:
    """End with exit code 1 where the record says that a law that must hold exactly is broken."""
    if not noted["laws_hold"]:
        typer.echo("A law that must hold exactly is broken: see the report.", err=True)
        raise typer.Exit(1)
