"""The same weights under another architecture: other windows, or positions that say something else.

Two models that differ in one part of their architecture differ in everything that training made of it as well. Here
the weights stay and the part changes: inside `what_if` a layer sees less or more than it was trained to see, and
positions are shifted, frozen, shuffled, not rotated. It shows what the trained weights rely on, not what training
would have made of the other architecture.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

from neolens.checks import check_layer, check_whole, did_you_mean, shown
from neolens.models.anatomy import Anatomy, AttentionSpan
from neolens.models.treatments import (
    EXACT,
    OF_ABSOLUTE,
    OF_ROTARY,
    Freeze,
    Mean,
    OnlyRotated,
    OnlyUnrotated,
    Scale,
    Shift,
    Shuffle,
    Treatment,
    Unrotated,
    WithoutBands,
    Zero,
)

__all__ = [
    "Freeze",
    "Mean",
    "OnlyRotated",
    "OnlyUnrotated",
    "Scale",
    "Shift",
    "Shuffle",
    "Treatment",
    "Unrotated",
    "WithoutBands",
    "Zero",
    "what_if",
]

BY_WORD: dict[str, Treatment] = {"zero": Zero(), "mean": Mean(), "shuffle": Shuffle(), "off": Unrotated()}
"""Treatments that need no number, by the words that stand for them."""


def what_if(model: Any, *, windows: Any = None, positions: Any = None) -> AbstractContextManager[Any]:
    """A context in which the model has the same weights, but other windows or another treatment of positions.

    Inside, the hooked model, `generate` and every function of neolens follow, and `neolens.anatomy(model)` says what
    is in force; afterwards, whatever happened (an error, Ctrl-C), the model is as it was. Contexts nest: windows add to
    those in force, a treatment replaces the one in force. Left in another order than entered, each takes its own change
    away. A copy of the model made inside is as the model was loaded. The model belongs to the thread that entered;
    every other use of it is refused meanwhile.

    Args:
        model: a model from `neolens.load`.
        windows: "global" (every query sees all earlier keys), a number of keys, or a mapping from layers to either,
            which leaves the other layers as they are.
        positions: a treatment (`Shift`, `Freeze`; absolute: `Zero`, `Mean`, `Shuffle`; rotary: `Unrotated`, `Scale`,
            `WithoutBands`, `OnlyRotated`, `OnlyUnrotated`), or "zero", "mean", "shuffle" or "off" (`Unrotated()`).

    Returns:
        A context manager that yields the model.

    Raises:
        TypeError: not a model from `neolens.load`, or a value of a type that cannot be meant.
        ValueError: neither is given, no such layer, window or word, or a treatment that this model cannot take.
        RuntimeError: on entering, while another thread uses the model.
    """
    change = _change(model, windows, positions)  # what is wrong is refused here, before the context is entered
    return model._neolens_state.hold("what_if", exclusive=True, change=change, value=model)


def _change(model: Any, windows: Any, positions: Any) -> Callable[[Anatomy], Anatomy]:
    """The anatomy in force before the context -> that inside it."""
    from neolens.models.bridge import Bridge
    from neolens.network.weights import check_model

    check_model(model, Bridge)
    if windows is None and positions is None:
        raise ValueError("nothing is changed: give windows (such as 16), positions (such as 'zero') or both")
    spans = {} if windows is None else _spans(model.anatomy, windows)
    treated = {} if positions is None else _treated(model._neolens_state.loaded, treatment_of(positions))

    def change(before: Anatomy) -> Anatomy:
        attention = tuple(spans.get(layer, span) for layer, span in enumerate(before.attention))
        return replace(before, attention=attention, **treated)

    return change


def _treated(built: Anatomy, treatment: Treatment) -> dict[str, Any]:
    """The fields of an anatomy that a treatment of positions changes."""
    return {"position": replace(built.position, treatment=treatment), "context": _context(treatment, built)}


def _spans(facts: Anatomy, windows: Any) -> dict[int, AttentionSpan]:
    """Layer -> its span, for the layers that are changed."""
    if not isinstance(windows, Mapping):
        return dict.fromkeys(range(facts.layers), _span(windows))
    if not windows:
        raise ValueError("windows is an empty mapping: give at least one layer, such as {1: 'global'}")
    return {check_layer(layer, facts.layers, facts.name): _span(window) for layer, window in windows.items()}


def _span(window: Any) -> AttentionSpan:
    if isinstance(window, str):
        if window != "global":
            raise ValueError(f"no window {window!r}: {did_you_mean(window, ['global'])}expected 'global' or a number")
        return AttentionSpan("global")
    return AttentionSpan("local", check_whole(window, "window", 1, EXACT, unit="keys", remedy="or 'global'"))


def treatment_of(positions: Any) -> Treatment:
    """The treatment that is meant."""
    if isinstance(positions, str):
        if positions not in BY_WORD:
            raise ValueError(
                f"no treatment of positions {positions!r}: {did_you_mean(positions, BY_WORD)}expected "
                f"{', '.join(map(repr, BY_WORD))} or a treatment such as neolens.whatif.Shift(8)"
            )
        return BY_WORD[positions]
    if not isinstance(positions, (*OF_ABSOLUTE, *OF_ROTARY)):
        given = f"the class {positions.__name__}" if isinstance(positions, type) else shown(positions)
        raise TypeError(
            f"positions is {given}: expected a treatment such as neolens.whatif.Shift(8), or "
            f"{', '.join(map(repr, BY_WORD))}"
        )
    return positions


def _context(treatment: Treatment, built: Anatomy) -> int:
    """The longest prompt under a treatment, where the model as it was built takes `built.context` tokens.

    Raises:
        ValueError: this model cannot take it.
    """
    kind = built.position.kind
    if kind == "none":
        raise ValueError(f"{built.name} has no position encoding at all: there is nothing to treat; give windows alone")
    fitting = OF_ABSOLUTE if kind == "absolute" else OF_ROTARY
    if not isinstance(treatment, fitting):
        raise ValueError(
            f"{built.name} has {kind} positions, which {type(treatment).__name__} does not act on: expected "
            f"{', '.join(each.__name__ for each in fitting)}"
        )
    return _of_absolute(treatment, built) if kind == "absolute" else _of_rotary(treatment, built)


def _of_absolute(treatment: Treatment, built: Anatomy) -> int:
    name, context = built.name, built.context
    match treatment:
        case Shift(by=by):
            if by < 0:
                raise ValueError(
                    f"{name} cannot be shifted by {by}: no embedding was learned before position 0; give 0 or more"
                )
            if by >= context:
                raise ValueError(
                    f"{name} cannot be shifted by {by}: it learned {context} positions, so none is left; expected at "
                    f"most {context - 1}"
                )
            return context - by
        case Freeze(at=at) if at >= context:
            raise ValueError(f"{name} has no position {at}: it learned positions 0 to {context - 1}")
        case Shuffle(within=within) if within is not None and within > context:
            raise ValueError(f"{name} has no {within} positions to shuffle: it learned {context}")
    return context


def _of_rotary(treatment: Treatment, built: Anatomy) -> int:
    name, context, bands = built.name, built.context, len(built.position.frequencies)
    match treatment:
        case Shift(by=by) if abs(by) + context > EXACT:
            raise ValueError(f"{name} cannot be shifted by {by}: beyond {EXACT} positions are not exact in float32")
        case Scale(by=by):
            return _positions_below(context, by)
        case Unrotated(bands=several) | WithoutBands(bands=several) if several and several[-1] >= bands:
            raise ValueError(f"no band {several[-1]} in {name}: bands are 0 (the fastest) to {bands - 1}")
        case OnlyUnrotated() if built.position.rotary_dims == built.d_head:
            raise ValueError(f"{name} rotates all {built.d_head} dimensions of a head: nothing is left without them")
    return context


def _positions_below(context: int, by: float) -> int:
    """How many positions p = 0, 1, 2, ... have p * by < context."""
    count = math.ceil(context / by)
    while (count - 1) * by >= context:
        count -= 1
    return count if count * by >= context else count + 1
