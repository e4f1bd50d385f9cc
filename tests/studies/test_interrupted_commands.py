"""Ctrl-C, SIGTERM and SIGKILL: one line, no worker left over, and a run that goes on to the same values."""

import os
import re
import signal
import time

import numpy as np
import psutil
import pytest

import shell
from benchmarks import interrupted
from neolens.processes import WorkerEndedError, interruptible, remedy, run_tasks, worker_number

NETWORKS = ("--models", "lab/gpt2@1", "lab/nope@1", "--prompts", "8", "--draws", "1", "--length", "32", "--out")


def square(number):
    return worker_number(), number**2


def refuse(number):
    raise ValueError(f"number {number}: expected another")


class ForeignError(Exception):
    def __init__(self, one, other):
        super().__init__(f"{one} and {other}")


def refuse_strangely(number):
    raise ForeignError(number, 2)


def end(number):
    os.kill(os.getpid(), signal.SIGKILL)


def test_tasks_in_several_processes_give_what_one_gives():
    tasks = [(number,) for number in range(5)]
    found = list(run_tasks(square, tasks, 2))
    assert sorted(answer for _, answer in found) == [answer for _, answer in run_tasks(square, tasks, 1)]
    assert {worker for worker, _ in found} <= {0, 1}


def test_an_error_of_a_task_is_raised_as_it_is_and_ends_the_workers():
    before = psutil.Process().children()
    with pytest.raises(ValueError) as error:
        list(run_tasks(refuse, [(0,), (1,)], 2))
    assert re.fullmatch(r"number \d: expected another", str(error.value))
    assert "in refuse" in "".join(error.value.__notes__)
    with pytest.raises(RuntimeError, match=r"ForeignError: \d and 2"):
        list(run_tasks(refuse_strangely, [(0,), (1,)], 2))
    after = [child for child in psutil.Process().children() if child not in before]
    assert [child for child in after if "tracker" not in cmd(child)] == []


def cmd(process):
    return " ".join(process.cmdline())


def test_a_worker_that_is_killed_is_one_error_with_what_to_do():
    with (
        pytest.raises(
            ChildProcessError, match=r"a worker process was ended \(signal 9, often a lack of memory\): go on"
        ),
        remedy("go on with --resume"),
    ):
        list(run_tasks(end, [(0,), (1,)], 2))
    assert "free some memory" in str(WorkerEndedError(-9))


def test_a_signal_that_is_ignored_stays_ignored():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with interruptible():
            os.kill(os.getpid(), signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def listen_to_signals():
    """In a new process: a shell that runs tests in the background makes them ignore Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def started(arguments, at):
    """A command and the terminal that is its standard error, since only a terminal shows progress: when it has shown a
    text, or after some seconds where `at` is a number."""
    process, terminal = shell.on_terminal(arguments, start_new_session=True, preexec_fn=listen_to_signals)
    if isinstance(at, float):
        time.sleep(at)
        return process, terminal
    shown = ""
    while at not in shown:
        part = shell.read(terminal, 120)
        assert part, shown
        shown += part
    return process, terminal


TRAIN = ["-m", "neolens.cli", "lab", "train", "--arm", "gpt2", "--arm", "nope", "--jobs", "2", "--out"]
COMPARE = ["-m", "experiments.compare", *NETWORKS]
CHECK = ["-m", "neolens.cli", "lab", "check", "lab/gpt2", "--prompts", "2000"]
CASES = {
    "while Python imports": (COMPARE, 0.5, signal.SIGINT, "run the command again"),
    "while workers start": (COMPARE, "0/16", signal.SIGINT, "run the command again with --resume"),
    "SIGTERM": (COMPARE, "0/16", signal.SIGTERM, "run the command again with --resume"),
    "lab check": (CHECK, "0/3", signal.SIGINT, "run the command again"),
    "lab train": (TRAIN, "2/3500", signal.SIGINT, "up to the last 50 steps, run the command again to continue"),
}


def test_ctrl_c_ends_compare_in_one_line_without_a_process_left(tmp_path):
    check_interrupted(*CASES["while workers start"], os.killpg, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("send", [os.killpg, os.kill], ids=["all processes", "the first"])
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_signal_ends_a_command_in_one_line_without_a_process_left(case, send, tmp_path):
    check_interrupted(*case, send, tmp_path)


def check_interrupted(arguments, at, number, message, send, folder):
    """A signal to all processes of a command, or to the first: one line, the exit code of a signal, no process left."""
    out = [str(folder / "out")] if arguments[-1] == "--out" else []
    process, terminal = started([*arguments, *out], at)
    children = psutil.Process(process.pid).children(recursive=True)
    send(process.pid, number)
    errors = ""
    try:
        while part := shell.read(terminal, 20):
            errors += part
        process.wait(timeout=20)
    finally:
        process.kill()
        os.close(terminal)
    lines = [line for line in errors.replace("\r", "\n").splitlines() if line.strip() and "|" not in line]
    assert process.returncode == 128 + number
    assert len(lines) == 1, errors
    assert lines[0].startswith("interrupted: ")
    assert lines[0].endswith(message)
    assert psutil.wait_procs(children, timeout=2)[1] == []


@pytest.mark.slow
@pytest.mark.parametrize("command", interrupted.COMMANDS)
def test_a_run_that_is_killed_and_whose_files_are_damaged_goes_on_to_the_same_bits(command, tmp_path):
    rows = interrupted.trials(command, 2, np.random.default_rng(3), tmp_path)
    assert [row[-2:] for row in rows] == [["0", "yes"]] * 2
