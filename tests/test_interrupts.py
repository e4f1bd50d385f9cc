"""Ctrl-C on any line of neolens leaves the model as it was built.

A trace function raises KeyboardInterrupt before the k-th line of neolens that runs, for every k. It does not do so on
a `with` line for the second time, where Python calls `__exit__`: a signal is never handled between the end of a block
and that call.
"""

import ast
import contextlib
import functools
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import neolens
from as_built import assert_as_built, plain_logits
from instrument_calls import PAIRS, TOKENS
from neolens.models.modifications import hooked_points
from neolens.models.state import state_of
from neolens.whatif import Freeze

PACKAGE = str(Path(neolens.__file__).parent)
HOLDING = ("state.py", "measurement.py", "bridge.py", "hooked.py", "whatif.py", "components.py", "hook_points.py")
"""The modules with what has to be undone; in all others an interrupt propagates through these."""


def with_lines(file: Path) -> frozenset[int]:
    """The lines on which a `with` statement begins, and those of its contexts."""
    statements = [node for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.With)]
    lines = {node.lineno for node in statements}
    return frozenset(lines | {item.context_expr.lineno for node in statements for item in node.items})


WITH_LINES = {str(file): with_lines(file) for file in Path(PACKAGE).rglob("*.py")}


class Interrupt:
    """Raises KeyboardInterrupt before line number `at` of neolens; `lines` counts those that were run."""

    def __init__(self, at: int, files: tuple[str, ...] | None = None) -> None:
        self.at, self.files, self.lines = at, files, 0
        self.entered: set[tuple[int, int]] = set()
        self.place = ""

    def __call__(self, frame: FrameType, event: str, argument: Any) -> Callable | None:
        file = frame.f_code.co_filename
        if not file.startswith(PACKAGE) or (self.files and not file.endswith(self.files)):
            return None
        if event == "line" and not self._leaves_with(frame):
            self.lines += 1
            if self.lines == self.at:
                self.place = f"{Path(file).name}:{frame.f_lineno}"
                raise KeyboardInterrupt
        return self

    def _leaves_with(self, frame: FrameType) -> bool:
        if frame.f_lineno not in WITH_LINES[frame.f_code.co_filename]:
            return False
        key = (id(frame), frame.f_lineno)
        if key in self.entered:
            return True
        self.entered.add(key)
        return False


def interrupted(call: Callable[[], Any], at: int, files: tuple[str, ...] | None = None) -> Interrupt:
    """Run a call with an interrupt."""
    interrupt = Interrupt(at, files)
    before = sys.gettrace()
    sys.settrace(interrupt)
    try:
        call()
    except KeyboardInterrupt:
        assert interrupt.place, "an interrupt that was not raised here"
    finally:
        sys.settrace(before)
    return interrupt


def within_what_if(model: Any) -> None:
    positions = Freeze(2) if model.anatomy.position.kind == "absolute" else "off"
    with neolens.what_if(model, windows=3, positions=positions):
        pass


def within_two(model: Any) -> None:
    with neolens.what_if(model, windows=3), neolens.what_if(model, positions=Freeze(2)):
        pass


def run_with_cache(model: Any) -> None:
    model.run_with_cache(TOKENS[:1])


def run_with_hooks(model: Any) -> None:
    model.run_with_hooks(TOKENS[:1], fwd_hooks=[("blocks.1.hook_mlp_out", lambda value, hook: value * 2)])


def attention(model: Any) -> None:
    neolens.attention(model, TOKENS[:1], scores=["sink"])


def attention_with_hooks(model: Any) -> None:
    neolens.attention(model, TOKENS[:1], scores=["sink"], engine="hooks")


def patch(model: Any) -> None:
    neolens.patch(model, PAIRS, "z", layers=[1], heads=[0], positions="all", progress=False)


def patch_with_hooks(model: Any) -> None:
    neolens.patch(model, PAIRS, "z", layers=[1], heads=[0], positions="all", engine="hooks", progress=False)


def ablate_positions(model: Any) -> None:
    neolens.position.ablate_positions(model, TOKENS[:1], [Freeze(2)], progress=False)


CONTEXTS = (within_what_if, within_two)
CALLS = (run_with_cache, run_with_hooks, attention, attention_with_hooks, patch, patch_with_hooks, ablate_positions)

MOST = 15
"""Interrupts of a call that runs thousands of lines, beside those in its first and last lines."""


@pytest.fixture(scope="module", params=["gpt-neo", "pythia"])
def model(request, tiny_folders):
    """A model of its own: what an interrupt left behind would break other tests."""
    return neolens.load(tiny_folders[request.param])


@pytest.fixture(scope="module")
def logits(model):
    return plain_logits(model)


def release_all(model: Any) -> None:
    """End what an interrupt has left in force, so that one failure does not become many."""
    for hold in state_of(model).holds():
        hold.lock.release()
    model.reset_hooks(including_permanent=True)


def assert_as_built_after(call: Callable, at: int, model: Any, logits: Any, files: tuple[str, ...] | None) -> Interrupt:
    interrupt = interrupted(functools.partial(call, model), at, files)
    place, state = interrupt.place, state_of(model)
    try:
        assert state.holds() == [], f"an interrupt before {place} leaves a hold in force"
        assert hooked_points(model) == [], f"an interrupt before {place} leaves hooks"
        assert_as_built(model, logits)
    finally:
        release_all(model)
    return interrupt


@pytest.mark.parametrize("call", CONTEXTS)
def test_an_interrupt_on_any_line_of_entering_or_leaving_what_if_leaves_the_model_as_built(call, model, logits):
    call(model)
    at = 1
    while assert_as_built_after(call, at, model, logits, None).place:
        at += 1
    assert at > 50


@pytest.mark.parametrize("call", CALLS)
def test_an_interrupt_in_a_run_or_an_instrument_leaves_the_model_as_built(call, model, logits):
    call(model)
    lines = interrupted(functools.partial(call, model), 0, HOLDING).lines
    first_and_last = {*range(1, min(MOST, lines) + 1), *range(max(1, lines - MOST), lines + 1)}
    for at in sorted(first_and_last | {*range(1, lines + 1, max(1, lines // MOST))}):
        assert_as_built_after(call, at, model, logits, HOLDING)


def test_an_interrupt_between_an_instrument_and_the_end_of_its_contexts_leaves_no_hold(model, logits):
    """`contextlib` ends a generator's context by Python code, before which a signal can be handled. The exception is
    kept, as a notebook keeps the last one: no garbage collection ends what it refers to."""

    def trace(frame: FrameType, event: str, argument: Any) -> Callable | None:
        leaves = frame.f_code.co_name == "__exit__" and frame.f_code.co_filename == contextlib.__file__
        if leaves and frame.f_back is not None and frame.f_back.f_code.co_filename.endswith("measurement.py"):
            return interrupt
        return None

    def interrupt(frame: FrameType, event: str, argument: Any) -> None:
        raise KeyboardInterrupt

    last = None
    before = sys.gettrace()
    sys.settrace(trace)
    try:
        attention(model)
    except KeyboardInterrupt as error:
        last = error
    finally:
        sys.settrace(before)
    holds = state_of(model).holds()
    assert last is not None
    del last
    assert holds == []
    assert_as_built(model, logits)
