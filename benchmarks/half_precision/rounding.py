"""An instrument's difference from the half-precision model, beside that model's own rounding error."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.half_precision.instruments import Instrument, by_variable

MOST = 2.0
"""The bar: the largest difference, as a multiple of the model's own rounding error."""


@dataclass(frozen=True)
class Rounding:
    """One variable on one model: largest absolute values over its cells."""

    own: float
    """The hooked model in half precision against the hooked model in float32."""
    difference: float
    """The instrument against the hooked model, both in half precision."""
    floor: float
    """4 ulp of float32 at the variable's largest magnitude. An instrument sums in float32, in an order of its own, so
    it differs by as much where the model's own error is 0."""

    @property
    def ratio(self) -> float:
        """The difference beyond the floor, over the model's own error."""
        beyond = max(self.difference - self.floor, 0.0)
        return beyond / self.own if self.own else float("inf") if beyond else 0.0

    @property
    def within_bar(self) -> bool:
        return self.ratio <= MOST


def compare(instrument: Instrument, half: Any, single: Any, tokens: Tensor) -> dict[str, Rounding]:
    """Every variable of an instrument on a model in half precision, and on the same weights in float32."""
    with torch.no_grad():
        hooked, exact = instrument.hooked(half, tokens), instrument.hooked(single, tokens)
    result = by_variable(instrument.run(half, tokens))
    if missing := hooked.keys() - result.keys():
        raise KeyError(f"{instrument} has no variable {', '.join(sorted(missing))}: it has {', '.join(result)}")
    return {name: rounding(result[name], hooked[name], exact[name]) for name in hooked}


def rounding(result: np.ndarray, hooked: np.ndarray, exact: np.ndarray) -> Rounding:
    """The comparison of one variable.

    A cell that is NaN in one of the model's own two runs only (a share of a variance that rounds to 0) is left out.
    Elsewhere a NaN of the instrument alone, or of the hooked model alone, is an infinite difference.
    """
    if result.shape != hooked.shape:
        raise ValueError(f"shape {result.shape} of the instrument, {hooked.shape} of the hooked model: expected equal")
    counted = np.isnan(hooked) == np.isnan(exact)
    result, hooked, exact = (np.asarray(values, np.float64)[counted] for values in (result, hooked, exact))
    defined = ~np.isnan(hooked)
    apart = np.where(np.isnan(result) & ~defined, 0.0, np.nan_to_num(np.abs(result - hooked), nan=np.inf))
    own, scale = np.abs(hooked - exact)[defined], np.abs(hooked[defined]).max(initial=0.0)
    floor = 4 * np.finfo(np.float32).eps * scale
    return Rounding(float(own.max(initial=0.0)), float(apart.max(initial=0.0)), float(floor))


def refusal(instrument: Instrument, half: Any, tokens: Tensor) -> str:
    """What an instrument does on a model whose logits are not finite: "refused", another error, or "a result"."""
    try:
        instrument.run(half, tokens)
    except ValueError as error:
        named = "logits" in str(error) and "not finite" in str(error)
        return "refused" if named else f"ValueError: {error}"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "a result"
