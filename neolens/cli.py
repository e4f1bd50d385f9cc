"""The command line: `neolens models`, `neolens describe`, `neolens check`, `neolens run`, `neolens lab`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from neolens.lab.commands import app as lab_app
from neolens.models.sources import check_config_fields
from neolens.studies import NAMES, command, find_study
from neolens.studies.command import run_cleanly

_UsageError: Any = typer.BadParameter.__base__  # of click, which some versions of typer include

app = typer.Typer(
    help="Mechanistic interpretability of GPT-2, GPT-Neo and Pythia: local against global attention, "
    "rotary against absolute positions.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

app.add_typer(lab_app, name="lab")

Names = Annotated[list[str], typer.Argument(help="names, hub ids, folders, or LABEL=NAME", metavar="MODEL...")]
Ignored = Annotated[
    list[str] | None, typer.Option("--ignore-fields", help="an unknown field of config.json that changes nothing")
]
Revision = Annotated[str | None, typer.Option(help="branch, tag or commit on the hub, such as step3000")]


@app.command()
def models() -> None:
    """List the names that neolens knows."""
    from neolens.models import catalogue, lab_names
    from neolens.models.describe import as_text

    rows = [[name, _shipped(name), "the lab's synthetic language"] for name in lab_names()]
    rows += [[entry.name, entry.hub_id, entry.data] for entry in catalogue().values()]
    typer.echo(as_text(["name", "where", "training data"], rows))
    typer.echo(
        "\nA lab name stands for seed 0, lab/gpt-neo@1 for another; a checkpoint is a revision, such as step400.\n"
        "Also any hub id or local folder of these architectures. Letter case does not matter."
    )


def _shipped(name: str) -> str:
    """Where a lab model is, how many seeds and how many training steps of it."""
    from neolens.models import lab_revisions, lab_seeds

    steps = len(lab_revisions(name)) - 1
    return f"in the package, {len(lab_seeds(name))} seeds" + (f", {steps} checkpoints" if steps else "")


@app.command()
def describe(
    names: Names,
    question: Annotated[str, typer.Option(help="what the comparison asks about: attention or position")] = "attention",
    revision: Revision = None,
    ignore_fields: Ignored = None,
) -> None:
    """Print models side by side, and what differs besides the thing asked about. Needs no weights."""
    from neolens.models import anatomy
    from neolens.models.describe import as_text, differences, differences_title, side_by_side

    anatomies = [anatomy(name, revision=revision, ignore_fields=ignore_fields or ()) for name in names]
    check_config_fields(names, ignore_fields or ())
    if len({facts.name for facts in anatomies}) < len(set(names)):
        raise ValueError(f"models {', '.join(names)}: two have one label; give one of them another, such as other=NAME")
    lines = differences(anatomies, question)
    typer.echo(as_text(*side_by_side(anatomies)))
    if len(anatomies) > 1:
        typer.echo(f"\n{differences_title(anatomies, question)}")
    for line in lines:
        typer.echo(f"- {line}")


@app.command()
def check(
    name: Annotated[str, typer.Argument(help="a catalogue name, hub id, folder, or LABEL=NAME", metavar="MODEL")],
    revision: Revision = None,
    device: Annotated[str | None, typer.Option(help="torch device; by default the GPU if there is one")] = None,
    dtype: Annotated[str, typer.Option(help="float32, bfloat16, float16 or float64")] = "float32",
    every_layer: Annotated[bool, typer.Option("--every-layer", help="try the hooks of every layer")] = False,
    ignore_fields: Ignored = None,
) -> None:
    """Compare logits with Hugging Face and every hook with the pure forward pass; exit code 1 on a mismatch."""
    from neolens.checking import check as run
    from neolens.models.describe import as_text

    check_config_fields([name], ignore_fields or ())
    lines = run(
        name, revision=revision, device=device, dtype=dtype, every_layer=every_layer, ignore_fields=ignore_fields or ()
    )
    rows = [[line.what, line.figure, line.bound, "ok" if line.holds else "MISMATCH"] for line in lines]
    typer.echo(as_text([name, "figure", "bound", ""], rows))
    typer.echo(
        "\nEach activation is edited, by return and in place, in the hooked model and in the pure forward pass. The\n"
        "error is the largest difference of their logits over the largest change by the edit: a dead hook has 1. A\n"
        "change below 1e-3 of the range of the logits counts as that large; below 1e-5, as rounding, it is no effect."
    )
    if not all(line.holds for line in lines):
        raise typer.Exit(1)


@app.command(add_help_option=False, context_settings={"ignore_unknown_options": True})
def run(
    name: Annotated[str | None, typer.Argument(help=f"one of {', '.join(NAMES)}", metavar="STUDY")] = None,
    options: Annotated[list[str] | None, typer.Argument(help="its options", metavar="OPTIONS")] = None,
) -> None:
    """Run a study, such as `neolens run compare`; its options: `neolens run compare --help`."""
    if name is None or name == "--help":
        typer.echo(f"Usage: neolens run STUDY [OPTIONS]\n\nStudies: {', '.join(NAMES)}.")
        typer.echo("The options of a study: neolens run STUDY --help")
        return
    chosen = typer.main.get_command(command.app(find_study(name)))
    code = chosen.main(list(options or []), prog_name=f"neolens run {name}", standalone_mode=False)
    if code:
        raise typer.Exit(code)


def main() -> None:
    """Run the command line; bad input is one line on standard error and exit code 2."""
    run_cleanly(app)


if __name__ == "__main__":
    main()
