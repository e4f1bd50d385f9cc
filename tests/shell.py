"""Experiments run as from the shell."""

import sys
from collections.abc import Callable
from unittest.mock import patch

import torch
import typer

from neolens.cli import run_cleanly


def call(main: Callable, *arguments: object) -> int | str:
    """Run an experiment's `main` with these arguments; its exit code. The number of threads stays as it was."""
    app = typer.Typer(add_completion=False)
    app.command()(main)
    threads = torch.get_num_threads()
    try:
        with patch.object(sys, "argv", ["experiment", *map(str, arguments)]):
            run_cleanly(app)
    except SystemExit as end:
        return end.code or 0
    finally:
        torch.set_num_threads(threads)
    return 0
