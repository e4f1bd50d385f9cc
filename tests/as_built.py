"""A check that a model is as it was built, after whatever was done with it."""

import functools
import threading
from collections.abc import Callable
from typing import Any

import torch

import tiny
from neolens.models.modifications import hooked_points, modified_modules
from neolens.models.state import state_of


def plain_logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(tiny.tokens(length=9))


def in_another_thread(call: Callable[[], Any]) -> Any:
    """What a call returns in a thread of its own, or the exception that it raises there."""
    outcome: list[Any] = []

    def run() -> None:
        try:
            outcome.append(call())
        except BaseException as error:
            outcome.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(timeout=60)
    assert outcome, "the thread does not end"
    return outcome[0]


def assert_as_built(model: Any, logits: torch.Tensor) -> None:
    """Anatomy, holds, hooks, cache settings and logits, also for another thread."""
    state = state_of(model)
    assert state.holds() == []
    assert model.anatomy is state.loaded
    assert hooked_points(model) == [], "hooks are left"
    assert modified_modules(model, state.structure) == []
    assert not any(point.caches_clones for point in model._points())
    assert torch.equal(plain_logits(model), logits)
    elsewhere = in_another_thread(functools.partial(plain_logits, model))
    assert torch.equal(elsewhere, logits)
