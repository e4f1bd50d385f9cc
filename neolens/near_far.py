"""The distance that separates near from far keys in a report, and what the report calls it.

Where layers have a window, it is the narrowest window. Where no layer has one, near and far are split at another
distance, and calling that distance a window would state a fact about the model that is false.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr

from neolens.checks import check_whole
from neolens.checks.annotations import Count, Size, check_annotated, checked
from neolens.models import Anatomy
from neolens.results import check_result

SMALLEST = 4
"""The smallest distance at which near and far are split where no layer has a window."""


@dataclass(frozen=True)
class NearFar:
    """A distance in tokens and its origin.

    >>> near_far(16, {"lab/gpt-neo": [16], "lab/gpt2": []}, [128, 128], "lab/gpt2").name
    'the window of 16 tokens of lab/gpt-neo'
    >>> near_far(128, {"gpt2": []}, [1024]).name
    '128 tokens (an eighth of the context, since no layer has a window)'
    """

    tokens: Count
    owner: str | None
    """The model whose window it is; empty where that is the model of the sentence, or no model is meant; None where it
    is no window."""
    origin: str = ""
    """Where a distance that is no window comes from."""

    def __post_init__(self) -> None:
        check_annotated(self)

    @property
    def is_window(self) -> bool:
        """Whether a layer has a window of this size."""
        return self.owner is not None

    @property
    def name(self) -> str:
        """`the window of 16 tokens`, or `64 tokens (an eighth of the context, since no layer has a window)`."""
        if self.is_window:
            return f"the window of {self.tokens} tokens{self._of_owner}"
        return f"{self.tokens} tokens{self.origin and f' ({self.origin})'}"

    @property
    def short(self) -> str:
        """`the window`, or `64 tokens`: what a layer is restricted to."""
        return f"the window{self._of_owner}" if self.is_window else f"{self.tokens} tokens"

    @property
    def inside(self) -> str:
        """`inside the window`, or `fewer than 64 tokens back`."""
        return f"inside {self.short}" if self.is_window else f"fewer than {self.tokens} tokens back"

    @property
    def beyond(self) -> str:
        """`beyond the window`, or `64 or more tokens back`."""
        return f"beyond {self.short}" if self.is_window else f"{self.tokens} or more tokens back"

    @property
    def mark(self) -> str:
        """`window 16`, or `64 tokens`: the label in a figure."""
        return f"window {self.tokens}" if self.is_window else f"{self.tokens} tokens"

    @property
    def note(self) -> str | None:
        """A sentence for a report without local layers; None where a layer has this window."""
        if self.is_window:
            return None
        return f"Near and far are split at {self.name}: a layer restricted to it sees the last {self.tokens} tokens."

    @property
    def _of_owner(self) -> str:
        return f" of {self.owner}" if self.owner else ""


@checked
def near_far(
    tokens: Count, windows: Mapping[str, Sequence[Size]], contexts: Sequence[Size] = (), model: str | None = None
) -> NearFar:
    """What a distance is: a window of the model, that of another model of the report, or none.

    Args:
        windows: model -> the windows of its local layers, of every model of the report.
        contexts: of these models, in tokens, for the origin of a distance that is no window.
        model: which model a sentence is about; None for all of them, as in titles.
    """
    owners = [name for name, sizes in windows.items() if tokens in sizes]
    if owners:
        return NearFar(tokens, "" if model is None or model in owners else owners[0])
    if any(windows.values()):
        return NearFar(tokens, None)
    return NearFar(tokens, None, f"{_origin(tokens, contexts)}since no layer has a window")


@checked
def of_anatomies(tokens: Count, anatomies: Sequence[Anatomy], model: str | None = None) -> NearFar:
    """`near_far` of the models of a report."""
    windows = {facts.name: facts.windows for facts in anatomies}
    return near_far(tokens, windows, [facts.context for facts in anatomies], model)


@checked
def of_results(results: Sequence[xr.Dataset]) -> NearFar:
    """`near_far` of results whose attribute `window` is the distance: a window where a layer of some result has it.

    Raises:
        ValueError: none, or one without its windows.
    """
    if not results:
        raise ValueError("results []: expected at least one result with the attribute window")
    for at, result in enumerate(results):
        check_result(result, f"results[{at}]", ["window"], source="at_distances")
        check_whole(result.attrs.get("window"), f"attribute window of results[{at}]", 1)
    windows = {
        str(number): [int(size) for size in np.unique(result["window"].values) if np.isfinite(size)]
        for number, result in enumerate(results)
    }
    return near_far(int(results[0].attrs["window"]), windows)


def _origin(tokens: int, contexts: Sequence[int]) -> str:
    """Why this distance was taken where no layer has a window."""
    if not contexts:
        return ""
    eighth = min(contexts) // 8
    if tokens == eighth:
        return f"an eighth of the {'shortest ' if len(set(contexts)) > 1 else ''}context, "
    if tokens == SMALLEST and eighth < SMALLEST:
        return f"the smallest distance used, an eighth of the context being {eighth}, "
    return "a third of the tokens to draw from, " if tokens < eighth else ""
