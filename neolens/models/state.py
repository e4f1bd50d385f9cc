"""Which architecture is in force on a model, and which threads use the model at the moment.

`neolens.what_if` changes a model for the length of a `with` block, and an instrument uses it for the length of a call.
Both are a `Hold` on the model's `ModelState`. A hold is in force exactly while its lock is locked, and leaving the
block is the lock's own `__exit__`, a single call of C code: neither Ctrl-C nor another order of leaving can keep a
model changed. The components of the model read the anatomy that follows from the holds in force; nothing is written to
them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from neolens.models.anatomy import Anatomy

Change = Callable[[Anatomy], Anatomy]
"""The anatomy before -> the anatomy in force."""


class ThreadConflictError(RuntimeError):
    """A model that another thread changes, or uses while this one would change it."""


class _ReleaseLock:
    """`__exit__` of a `Hold`: of an instance, that of its lock, which no signal can interrupt."""

    def __get__(self, hold: Hold | None, owner: type | None = None) -> Callable[..., Any]:
        return _release if hold is None else hold.lock.__exit__


def _release(hold: Hold, *exception: Any) -> None:
    """What `contextlib.ExitStack` calls, which looks `__exit__` up in the class."""
    hold.lock.release()


class Hold:
    """One thread's use of a model, from entering a `with` block to leaving it.

    Args:
        purpose: what the model is used for, for the error of another thread.
        exclusive: whether no other thread may use the model meanwhile.
        change: what the block changes in the anatomy.
        value: what `with ... as` yields.
    """

    __exit__ = _ReleaseLock()

    def __init__(
        self, state: ModelState, purpose: str, *, exclusive: bool, change: Change | None = None, value: Any = None
    ) -> None:
        self.state, self.purpose, self.exclusive, self.change, self.value = state, purpose, exclusive, change, value
        self.lock, self.thread, self.admitted = threading.Lock(), 0, False

    @property
    def in_force(self) -> bool:
        return self.lock.locked()

    def __enter__(self) -> Any:
        if self.in_force:
            raise RuntimeError(f"this {self.purpose} is in force already: make another one for a block inside it")
        try:
            self.thread, self.admitted = threading.get_ident(), False
            self.lock.acquire(blocking=False)
            self.state.admit(self)
            self.admitted = True
            return self.value
        except BaseException:  # Ctrl-C included
            if self.in_force and self.thread == threading.get_ident():
                self.lock.release()
            raise

    def conflicts_with(self, other: Hold) -> bool:
        return self.thread != other.thread and (self.exclusive or other.exclusive)


class ModelState:
    """The anatomy that a model was built with, and the holds on the model in the order in which they began.

    A copy of the model starts with the anatomy that it was built with, and without holds. `structure`: the types of
    the modules that it was built from.
    """

    def __init__(self, built: Anatomy | None, name: str) -> None:
        self.built, self.name = built, name
        self.structure: tuple[type, ...] | None = None
        self._holds: list[Hold] = []
        self._in_force: tuple[tuple[Hold, ...], Anatomy | None] = ((), built)

    def __getstate__(self) -> dict[str, Any]:
        return {"built": self.built, "name": self.name, "structure": self.structure}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["built"], state["name"])  # type: ignore[misc]
        self.structure = state["structure"]

    @property
    def anatomy(self) -> Anatomy:
        """The anatomy in force: that of the model as it was built, with the change of each hold in turn."""
        changes = tuple(hold for hold in self.holds() if hold.change is not None and hold.admitted)
        known, anatomy = self._in_force
        if changes != known:
            anatomy = self.built
            for hold in changes:
                anatomy = hold.change(anatomy)  # type: ignore[misc, arg-type]
            self._in_force = changes, anatomy
        assert anatomy is not None
        return anatomy

    @property
    def loaded(self) -> Anatomy:
        """The anatomy that the model was built with; only models from `neolens.load` have one."""
        assert self.built is not None
        return self.built

    def holds(self) -> list[Hold]:
        """The holds in force."""
        return [hold for hold in self._holds if hold.in_force] if self._holds else []

    def hold(self, purpose: str, *, exclusive: bool = False, change: Change | None = None, value: Any = None) -> Hold:
        """A context in which the calling thread uses the model.

        Raises:
            ThreadConflictError: on entering, if another thread uses the model and one of the two uses is exclusive.
        """
        return Hold(self, purpose, exclusive=exclusive, change=change, value=value)

    def admit(self, hold: Hold) -> None:
        """Append a hold, or raise if it conflicts with another thread's. First append, then look: of two threads that
        enter at once, at least one sees the other."""
        for ended in [other for other in self._holds if not other.in_force]:
            with suppress(ValueError):  # another thread has removed it
                self._holds.remove(ended)
        self._holds.append(hold)
        for other in self.holds():
            if hold.conflicts_with(other):
                raise ThreadConflictError(
                    f"{self.name} cannot be used for {hold.purpose} here while another thread uses it for "
                    f"{other.purpose}: wait until that has ended, or give each thread its own copy.deepcopy(model)"
                )


def state_of(model: Any) -> ModelState:
    """The state of a model from `neolens.load`; of any other model, one that is made at the first call."""
    state = getattr(model, "_neolens_state", None)
    if state is None:
        state = ModelState(None, type(model).__name__)
        object.__setattr__(model, "_neolens_state", state)
    return state
