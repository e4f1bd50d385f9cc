"""Small models in several processes, one thread each, and what Ctrl-C does to them.

A worker has a pipe of its own, through which copies go, ignores Ctrl-C, which a terminal sends to all processes, and
ends when the process that started it ends, whatever ends that one.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from types import FrameType
from typing import Any

from neolens.checks import check_list, check_text, check_type, check_whole, shown

SIGNALS = (signal.SIGINT, signal.SIGTERM)
"""Ctrl-C, and what `kill` and a batch system send."""

LONGEST_CLEANUP = 2.0
"""Seconds after which a process that was interrupted ends in any case."""

_number = 0


class Interrupted(BaseException):
    """A signal that ends the command; `remedy` says what is kept and how to continue. It is no `KeyboardInterrupt`,
    which typer would turn into another message and exit code."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.exit_code = 128 + check_whole(number, "number")
        self.remedy = "no result was saved, run the command again"

    def __str__(self) -> str:
        return self.remedy


class WorkerEndedError(ChildProcessError):
    """A process that ended without an answer, as when memory runs out."""

    def __init__(self, code: int | None) -> None:
        code = code if code is None else check_whole(code, "code")
        how = f"signal {-code}, often a lack of memory" if code is not None and code < 0 else f"exit code {code}"
        super().__init__(how)
        self.remedy = "free some memory and run the command again"

    def __str__(self) -> str:
        return f"a worker process was ended ({self.args[0]}): {self.remedy}"


@contextmanager
def remedy(text: str) -> Iterator[None]:
    """What an error says when the command is interrupted, or one of its workers ended, within this context.

    Args:
        text: what is kept, and how to continue.
    """
    check_text(text, "remedy")
    try:
        yield
    except (Interrupted, WorkerEndedError) as error:
        error.remedy = text
        raise


@contextmanager
def interruptible() -> Iterator[None]:
    """Signals that end a process raise `Interrupted`; cleaning up ends after `LONGEST_CLEANUP` seconds.

    A signal that is ignored, as by nohup, stays so; in a thread nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    timers: list[threading.Timer] = []

    def interrupt(number: int, frame: FrameType | None) -> None:
        for each in SIGNALS:
            signal.signal(each, signal.SIG_IGN)
        timers.append(threading.Timer(LONGEST_CLEANUP, _end_now, [number]))
        timers[-1].daemon = True
        timers[-1].start()
        raise Interrupted(number)

    before = {each: signal.getsignal(each) for each in SIGNALS}
    for each, handler in before.items():
        if handler != signal.SIG_IGN:
            signal.signal(each, interrupt)
    try:
        yield
    finally:
        for timer in timers:
            timer.cancel()
        for each, handler in before.items():
            signal.signal(each, handler or signal.SIG_DFL)


def _end_now(number: int) -> None:
    for child in multiprocessing.active_children():
        child.kill()
    os.write(2, f"\ninterrupted: {Interrupted(number)}\n".encode())
    os._exit(128 + number)


def one_thread() -> None:
    """One thread for torch and for numpy: on tensors this small a second one, waiting for a core, doubles the time."""
    import torch
    from threadpoolctl import threadpool_limits

    torch.set_num_threads(1)
    threadpool_limits(1)


def cores() -> int:
    """Cores that this process may use; all of the machine's where the system does not say."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def worker_number() -> int:
    """The number of this process among those of `run_tasks`, from 0."""
    return _number


def run_tasks(do: Callable[..., Any], tasks: Sequence[tuple[Any, ...]], processes: int) -> Iterator[Any]:
    """What each task returns, in the order in which they end: in this process where `processes` is 1, else in as many
    new ones, each with one thread.

    Args:
        do: a function of a module, so that other processes can import it.
        tasks: its arguments, which are pickled.

    Raises:
        WorkerEndedError: a process was killed.
        Exception: what a task raises; the other processes are ended.
    """
    if not callable(do):
        raise TypeError(f"do {shown(do)}: expected a function of a module")
    for at, task in enumerate(tasks := check_list(tasks, "tasks", "tuples of arguments", example="[(1, 2)]")):
        check_type(task, f"tasks[{at}]", tuple, "a tuple of arguments")
    processes = min(len(tasks), check_whole(processes, "processes", 1))
    if processes < 2:
        yield from (do(*task) for task in tasks)
        return
    _pickled(do, "do")
    workers: dict[Connection, BaseProcess] = {}
    try:
        for number in range(processes):
            _start(do, number, workers)
        yield from _results(workers, list(tasks))
    finally:
        for connection, worker in workers.items():
            worker.kill()
            worker.join()
            connection.close()


def _pickled(value: Any, what: str) -> bytes:
    try:
        return pickle.dumps(value)
    except Exception as error:  # pickle raises errors of many kinds
        reason = " ".join(str(error).split())
        raise TypeError(f"{what} {shown(value)}: expected what another process can import ({reason:.120})") from error


def _start(do: Callable[..., Any], number: int, workers: dict[Connection, BaseProcess]) -> None:
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    worker = spawn.Process(target=_work, args=(theirs, do, number), daemon=True)
    with _signals_afterwards():
        worker.start()
        workers[ours] = worker
    theirs.close()


@contextmanager
def _signals_afterwards() -> Iterator[None]:
    """Start a process: a signal is handled when it has all it needs. It inherits a mask and never handles Ctrl-C, also
    while it imports what sets its handlers."""
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "pthread_sigmask"):
        yield
        return
    pending: list[int] = []
    before = {each: signal.getsignal(each) for each in SIGNALS}
    resource_tracker.ensure_running()  # which unmasks the signals when it starts
    for each, handler in before.items():
        if handler != signal.SIG_IGN:
            signal.signal(each, lambda number, frame: pending.append(number))
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
        for each, handler in before.items():
            signal.signal(each, handler or signal.SIG_DFL)
        if pending:
            signal.raise_signal(pending[0])


def _results(workers: dict[Connection, BaseProcess], tasks: list[tuple[Any, ...]]) -> Iterator[Any]:
    """Give each process that is ready or has answered the next task, until all are done."""
    left, waiting = len(tasks), iter(tasks)
    while left:
        for connection in wait(list(workers)):
            assert isinstance(connection, Connection)
            try:
                kind, answer = pickle.loads(connection.recv_bytes())
                task = next(waiting, None)
                if task is not None and kind != "error":
                    connection.send_bytes(_pickled(task, "task"))
            except (EOFError, ConnectionError):
                workers[connection].join(1)
                raise WorkerEndedError(workers[connection].exitcode) from None
            if kind == "error":
                raise answer
            if kind == "done":
                left -= 1
                yield answer


def _work(connection: Connection, do: Callable[..., Any], number: int) -> None:
    """Do tasks until there are no more, in a process of its own."""
    global _number
    from tqdm import tqdm

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    tqdm.set_lock(threading.RLock())  # its default is a semaphore of the system, which a killed process would leave
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _number = number
    one_thread()
    connection.send_bytes(pickle.dumps(("ready", None)))
    with suppress(EOFError):
        while True:
            task = pickle.loads(connection.recv_bytes())
            try:
                answer = pickle.dumps(("done", do(*task)))
            except Exception as error:
                answer = _pickled_error(error)
            connection.send_bytes(answer)


def _pickled_error(error: Exception) -> bytes:
    """The error with its traceback as a note; a plain one with its text where it cannot be pickled."""
    error.add_note("".join(traceback.format_exception(error)))
    try:
        answer = pickle.dumps(("error", error))
        pickle.loads(answer)
    except Exception:
        return pickle.dumps(("error", RuntimeError(f"{type(error).__name__}: {error}")))
    return answer


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
