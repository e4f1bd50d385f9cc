"""The lab on the command line: `neolens lab check`, `neolens lab train`."""

from __future__ import annotations

from typing import Annotated

import typer

from neolens.checks import check_seed, check_whole

MOST_JOBS = 1024

app = typer.Typer(
    help="The lab's matched small models: ask what they can do, or train them anew.", no_args_is_help=True
)


@app.command()
def check(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            help="lab names or folders; an arm stands for all its seeds. All arms if left out", metavar="MODEL..."
        ),
    ] = None,
    prompts: Annotated[int, typer.Option(help="fresh prompts a task and distance")] = 64,
    seed: Annotated[int, typer.Option(help="of the prompts")] = 1,
) -> None:
    """Print how often each arm is right, by task and by how far back the answer stands: mean and spread over seeds."""
    from neolens.lab.evaluation.spread import spread, table
    from neolens.processes import cores, one_thread

    one_thread()
    seed = check_seed(seed)
    typer.echo(table(spread(names, prompts=prompts, seed=seed, processes=cores(), progress=True)))
    typer.echo(
        "\nAccuracy on fresh prompts, mean (lowest to highest seed). inside: the answer stands 4 to 15 tokens back,\n"
        "in the window of a local layer; beyond: 16 to 64; unseen: 72 to 104, farther than in any text of the training."
    )


@app.command()
def train(
    arm: Annotated[list[str] | None, typer.Option(help="an arm to train; all of them if none is named")] = None,
    seed: Annotated[
        list[int] | None, typer.Option(help="decides starting values and texts; 0, 1 and 2 if left out")
    ] = None,
    out: Annotated[str, typer.Option(help="where the folders go, one a training")] = "lab-models",
    jobs: Annotated[int, typer.Option(help="trainings at a time")] = 1,
    steps: Annotated[int | None, typer.Option(help="length of a training; as the shipped models if left out")] = None,
    device: Annotated[str, typer.Option(help="cpu, or cuda where there is one")] = "cpu",
    threads: Annotated[int, typer.Option(help="CPU threads a training; weights depend on it in the last bits")] = 1,
    checkpoints: Annotated[bool, typer.Option("--checkpoints", help="keep the network at steps along the way")] = False,
) -> None:
    """Train the lab's networks; go on where an earlier run was killed. Nine to fourteen minutes of one core each."""
    from neolens.files import writable_folder
    from neolens.lab import SEEDS
    from neolens.lab.training.family import Plan, train_family
    from neolens.lab.training.recipe import Recipe
    from neolens.lab.training.train import CHECKPOINTS
    from neolens.lab.variants import ARMS

    check_whole(jobs, "jobs", most=MOST_JOBS)
    recipe = Recipe() if steps is None else Recipe(steps=steps)
    plan = Plan(writable_folder(out), recipe, device, threads, CHECKPOINTS if checkpoints else ())
    for folder in train_family(arm or list(ARMS), seed or list(SEEDS), plan, jobs=jobs):
        typer.echo(str(folder))
