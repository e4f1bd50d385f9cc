"""Python code run as a script in a process of its own, with neolens and its libraries imported beforehand.

A new interpreter spends about five seconds on these imports. Here a server process does so once and is forked for each
script (multiprocessing's `forkserver`), which has a namespace, a folder and an output of its own.
"""

import contextlib
import multiprocessing
import os
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path

_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(["neolens.cli", "neolens.checking", "neolens.figures", "neolens.models.building"])


@dataclass(frozen=True)
class Run:
    """How a script ended, as `subprocess.run` says it."""

    returncode: int
    stdout: str
    stderr: str


def run_script(code: str, folder: Path, *arguments: str) -> Run:
    """Run Python code as a script with these arguments, in a folder."""
    written = folder / ".stdout", folder / ".stderr"
    process = _SERVER.Process(target=_script, args=(code, str(folder), arguments, *map(str, written)))
    process.start()
    process.join()
    assert process.exitcode is not None
    run = Run(process.exitcode, *(path.read_text(encoding="utf-8") for path in written))
    for path in written:
        path.unlink()
    return run


def _script(code: str, folder: str, arguments: tuple[str, ...], stdout: str, stderr: str) -> None:
    os.chdir(folder)
    for path, stream in ((stdout, 1), (stderr, 2)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), stream)
    sys.stdout = os.fdopen(1, "w", encoding="utf-8", closefd=False)
    sys.stderr = os.fdopen(2, "w", encoding="utf-8", closefd=False)
    sys.argv = ["script", *arguments]
    code_of_exit: object = 0
    try:
        exec(compile(code, "<script>", "exec"), {"__name__": "__main__"})
    except SystemExit as error:
        code_of_exit = error.code
    except BaseException:
        traceback.print_exc()
        code_of_exit = 1
    with contextlib.suppress(Exception):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code_of_exit if isinstance(code_of_exit, int) else int(code_of_exit is not None))
