"""What figures of several arms share: colours by position encoding, dashes and marks, lines over seeds, captions.

Encodings have their colours (see `style`); models with the same kind of positions are told apart by the dash of
their line. Where a result has seeds, a line is their mean and the band goes from the lowest to the highest.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import plotly.graph_objects as go
import xarray as xr

from neolens.figures import style
from neolens.figures.inputs import position_kind
from neolens.figures.style import DASHES, POSITION_COLOURS, escape

SYMBOLS = dict(zip(DASHES, ("circle", "square", "diamond", "cross", "x", "star")))


def drawn_as(models: dict[str, xr.Dataset]) -> Iterator[tuple[str, xr.Dataset, dict[str, str]]]:
    """Name, result, and the colour, dash and kind of positions of each model."""
    met: dict[str, int] = {}
    for name, result in models.items():
        kind = position_kind(result, name)
        dash = DASHES[met.setdefault(kind, 0) % len(DASHES)]
        met[kind] += 1
        yield escape(name), result, {"colour": POSITION_COLOURS[kind], "dash": dash, "kind": kind}


def line_over_seeds(values: xr.DataArray, along: str, name: str, line: dict[str, str], hover: str) -> list[go.Scatter]:
    """The mean over seeds (or prompts), and a band from the lowest to the highest."""
    over = [axis for axis in ("seed", "prompt") if axis in values.dims]
    mean, low, high = (values.mean(over), values.min(over), values.max(over)) if over else (values,) * 3
    x, group = values[along].values, f"{name} {line['dash']}"
    return [
        *style.band(x, low.values, high.values, line["colour"], group),
        go.Scatter(
            x=x,
            y=mean.values,
            mode="lines",
            name=name,
            legendgroup=group,
            line={"color": line["colour"], "dash": line["dash"], "width": 2},
            hovertemplate=f"{hover}<extra></extra>",
        ),
    ]


def highest(score: xr.DataArray) -> tuple[int, int]:
    """Layer and head of the highest score."""
    values = score.transpose("layer", "head").values
    layer, head = np.unravel_index(int(np.nanargmax(values)), values.shape)
    return int(layer), int(head)


def head_of(layer: Any, its: Mapping[str, Any]) -> str:
    seed = f", seed {its['seed']}" if "seed" in its else ""
    return f"{layer}.{its['head']}{seed}"


def networks(models: dict[str, xr.Dataset]) -> str:
    """`lab/gpt2 (absolute, 3 seeds); ...`."""
    parts = []
    for name, result in models.items():
        kind = position_kind(result, name)
        count = result.sizes.get("seed", 1)
        parts.append(f"{escape(name)} ({kind}{f', {count} seeds' if count > 1 else ''})")
    return "; ".join(parts)
