"""Studies run as from the shell."""

import os
import select
import shutil
import subprocess
import sys
import termios
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

from neolens.lab import folder as lab_folder
from neolens.studies import Study, command
from neolens.studies.command import run_cleanly


def call(study: Study, *arguments: object) -> int | str:
    """Run a study with these arguments; its exit code. The number of threads stays as it was."""
    app = command.app(study)
    threads = torch.get_num_threads()
    try:
        with patch.object(sys, "argv", ["experiment", *map(str, arguments)]):
            run_cleanly(app)
    except SystemExit as end:
        return end.code or 0
    finally:
        torch.set_num_threads(threads)
    return 0


def on_terminal(arguments: list[str], **options: Any) -> tuple[subprocess.Popen, int]:
    """Python with these arguments, and the terminal that is its standard error: only a terminal shows progress."""
    terminal, its_end = os.openpty()
    termios.tcsetwinsize(its_end, (24, 80))
    outputs = {"stdout": subprocess.DEVNULL, "stderr": its_end}
    process = subprocess.Popen([sys.executable, *arguments], **outputs | options)
    os.close(its_end)
    return process, terminal


def read(terminal: int, seconds: float) -> str:
    """What a terminal shows next; nothing at its end, or when it shows nothing for some seconds."""
    ready, _, _ = select.select([terminal], [], [], seconds)
    try:
        return os.read(terminal, 4096).decode() if ready else ""
    except OSError:  # of a terminal whose other end is closed
        return ""


def refused(run: Callable[..., int | str], arguments: list[str], message: str, folder: Path, capsys: Any) -> Path:
    """Assert that an experiment ends in one line that holds `message`; returns where it would have written.

    Args:
        run: calls the experiment; `{tmp}` in its arguments stands for `folder`.
    """
    arguments, out = [argument.replace("{tmp}", str(folder)) for argument in arguments], folder / "out"
    code = run(*arguments, *([] if "--out" in arguments else ["--out", out]))
    error = capsys.readouterr().err.splitlines()[-1]
    assert code == 2
    assert error.startswith("error: ")
    assert message in error
    return out


def without_tokenizer(name: str, folder: Path) -> Path:
    """A copy of a lab model's folder that has no tokenizer."""
    return Path(shutil.copytree(lab_folder(name), folder, ignore=shutil.ignore_patterns("step*", "*token*", "vocab*")))
