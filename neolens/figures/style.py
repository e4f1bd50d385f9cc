"""What every figure shares: colours, the names and units of the scores, titles, captions, escaping.

Local and global layers have the same two colours everywhere, and so have absolute, rotary and no positions: five of
Okabe and Ito (2008), which are told apart with any colour vision, and no figure has them for anything else. The title
names the quantity and its unit, the caption under it the models and their prompts. Plotly reads some markup in its
labels, so every text from outside is escaped.
"""

from __future__ import annotations

import html
import math
import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import plotly.graph_objects as go
import xarray as xr
from plotly.subplots import make_subplots

from neolens.checks import check_bool, check_text
from neolens.figures.tidy import HIGH, LOW

GLOBAL_COLOUR = "#0072B2"
LOCAL_COLOUR = "#D55E00"
KIND_COLOURS: dict[str, str] = {"global": GLOBAL_COLOUR, "local": LOCAL_COLOUR}
"""Kind of layer -> its colour."""
POSITION_COLOURS: dict[str, str] = {"absolute": "#009E73", "rotary": "#CC79A7", "none": "#7F7F7F"}
"""Kind of positions -> the colour of a network that has them."""
TASK_COLOURS = ("#E69F00", "#56B4E9", "#000000")
"""What else is told apart by colour: those of the same palette that no kind of layer and of positions has."""
CONTROL_COLOUR = "#A9B3BD"
"""Of random controls, and of what is there to be compared with."""

DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
"""Lines of one colour."""

INK, GREY = "#1f2933", "#616e7c"
_FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
PANELS_PER_ROW = 3
_ABOVE, _BELOW = 90, 62  # pixels for title and caption, and for the lowest axis
_TITLED = 22  # more where panels have titles
_LINE = 17  # of a caption
CELL = 26  # pixels: a layer of a map, or a row
_CAPTION_WIDTH, _BESIDE_LEGEND = 120, 84  # characters of a caption, and of one beside a legend
_BOUND = "\N{NO-BREAK SPACE}"  # between words that stay on one line
_BAND_OPACITY = 0.18
_SILENT = {"hoverinfo": "skip", "showlegend": False}


@dataclass(frozen=True)
class Score:
    """How one score is written: its title, its unit, and whether it is a share (between 0 and 1)."""

    title: str
    unit: str
    share: bool = False

    def __post_init__(self) -> None:
        check_text(self.title, "title")
        check_text(self.unit, "unit", empty=True)
        check_bool(self.share, "share")


_PROBABILITY = "mean attention probability"
SCORES: dict[str, Score] = {
    "previous_token": Score("Previous-token score", _PROBABILITY, share=True),
    "current_token": Score("Current-token score", _PROBABILITY, share=True),
    "duplicate_token": Score("Duplicate-token score", _PROBABILITY, share=True),
    "induction": Score("Induction score", _PROBABILITY, share=True),
    "sink": Score("Sink score", "mean attention probability of key 0", share=True),
    "mean_distance": Score("Mean distance", "tokens from query to key"),
    "mean_distance_without_key_0": Score("Mean distance without key 0", "tokens from query to key"),
    "entropy": Score("Entropy of attention", "nats"),
    "entropy_normalised": Score("Normalised entropy of attention", "share of the largest possible", share=True),
    "pattern": Score("Change of the pattern", "mean total variation distance", share=True),
}


UNITS = {
    "logit_difference": "logits",
    "log_probability": "nats",
    "probability": "probability",
    "kl_divergence": "nats",
    "loss": "nats per token",
    "rank": "tokens",
}
"""Metric -> its unit."""


RISING_IS_WORSE = ("loss", "kl_divergence", "rank")


def diverging(metric: str) -> str:
    """The colours of effects on a metric: what makes the predictions worse is red, what makes them better blue."""
    return "RdBu_r" if metric in RISING_IS_WORSE else "RdBu"


def unit(metric: str) -> str:
    """The unit of a metric, also when it is none of ours."""
    return UNITS.get(metric, "metric's unit")


def meaning(score: str) -> Score:
    """How `score` is written, also when it is none of ours."""
    return SCORES.get(score, Score(escape(score.replace("_", " ")), "unit not known"))


def escape(text: str) -> str:
    """`text` for a plotly label, so that markup, entities and TeX in it are shown as they stand."""
    return html.escape(check_text(text, "text", empty=True), quote=True).replace("$", "&#36;")


def layers_by_kind(result: xr.Dataset) -> Iterator[tuple[str, list[int]]]:
    """The kinds of attention that the model has, in a fixed order, each with its layers."""
    kinds = [str(kind) for kind in result["attention_kind"].values]
    for kind in KIND_COLOURS:
        layers = [int(layer) for layer, its in zip(result["layer"].values, kinds, strict=True) if its == kind]
        if layers:
            yield kind, layers


def panels(models: dict[str, xr.Dataset], **spacing: float) -> tuple[go.Figure, list[dict[str, int]]]:
    """An empty figure with a panel for each model, named above it; the row and column of each panel."""
    columns = min(PANELS_PER_ROW, len(models))
    rows = math.ceil(len(models) / columns)
    titles = [f"<b>{escape(name)}</b>" for name in models] if len(models) > 1 else None
    figure = make_subplots(rows, columns, subplot_titles=titles, shared_yaxes="all", **spacing)
    return figure, [{"row": i // columns + 1, "col": i % columns + 1} for i in range(len(models))]


def style(figure: go.Figure, title: str, caption: str, height: int) -> go.Figure:
    """Give the figure title, caption, fonts and legend; `height` is that of the drawing itself, in pixels.

    The button that would send the data to plotly's server, which plotly.js shows unless told not to, is
    removed.
    """
    beside = any(trace.name and trace.showlegend is not False for trace in figure.data)
    titled = any(map(names_panel, figure.layout.annotations))
    above = _ABOVE + _TITLED * titled
    figure.update_layout(
        template="plotly_white",
        title={
            "text": title,
            "subtitle": {"text": caption, "font": {"size": 13, "color": GREY}},
            **{"x": 0, "xref": "paper", "y": 1, "yref": "container", "yanchor": "top", "pad": {"t": 20}},
        },
        legend={
            "orientation": "h",
            **{"x": 1, "xanchor": "right", "yanchor": "top", "yref": "container"},
        },
        font={"family": _FONT, "size": 13, "color": INK},
        margin={"l": 76, "r": 24, "t": above, "b": _BELOW},
        height=above + height + _BELOW,
        hoverlabel={"bgcolor": "white"},
        meta={"neolens": {"below": _BELOW}},
        modebar={"remove": ["sendChartToCloud", "select2d", "lasso2d", "zoomIn2d", "zoomOut2d", "autoScale2d"]},
    )
    return caption_over(figure, beside_legend=beside)


def names_panel(note: Any) -> bool:
    """Whether an annotation is the title over a panel."""
    return bool(note.text) and note.xref == note.yref == "paper" and note.yanchor == "bottom"


def caption_over(figure: go.Figure, *, beside_legend: bool) -> go.Figure:
    """The figure with its caption broken into lines that fit beside a legend, or without one; as high as they need."""
    title, margin = figure.layout.title, figure.layout.margin
    before = (title.subtitle.text or "").split("<br>")
    lines = broken(" ".join(before), _BESIDE_LEGEND if beside_legend else _CAPTION_WIDTH)
    above = margin.t + _LINE * (len(lines) - max(len(before), 1))
    height = figure.layout.height + above - margin.t
    at = {"legend_y": 1 - 26 / height, "title_subtitle_text": "<br>".join(lines)}
    return figure.update_layout(**at, margin_t=above, height=height)


def broken(text: str, width: int) -> list[str]:
    """Lines of about one length where the last would be a short one; none begins with a number or a percent sign."""
    bound = re.sub(r"(?<![,;:.]) (?=\d)|(?<=\d) (?=%)", _BOUND, text)
    lines = textwrap.wrap(bound, width, break_long_words=False, break_on_hyphens=False)
    if len(lines) > 1 and len(lines[-1]) < width / 4:
        widths = range(len(bound) // len(lines), width + 1)
        evened = (textwrap.wrap(bound, each, break_long_words=False, break_on_hyphens=False) for each in widths)
        lines = next((each for each in evened if len(each) == len(lines)), lines)
    return [line.replace(_BOUND, " ") for line in lines]


def band(x: Any, low: Any, high: Any, colour: str, group: str, opacity: float = _BAND_OPACITY) -> list[go.Scatter]:
    """From `low`, unseen, up to `high`, filled down to it: what is shaded around the line of a legend group, which
    comes next."""
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    unseen = {"x": x, "mode": "lines", "legendgroup": group, "line": {"width": 0}} | _SILENT
    return [
        go.Scatter(y=low, meta=LOW, **unseen),
        go.Scatter(y=high, meta=HIGH, fill="tonexty", fillcolor=f"rgba({red},{green},{blue},{opacity})", **unseen),
    ]


def title(score: str) -> str:
    """The title of a figure of one score: quantity and unit."""
    return f"<b>{meaning(score).title}</b> ({meaning(score).unit})"


def caption(models: dict[str, xr.Dataset]) -> str:
    """Models, prompts and tokens: `lab/gpt2, lab/gpt-neo: 8 prompts of 128 tokens`."""
    described: dict[str, list[str]] = {}
    for name, result in models.items():
        prompts = result.sizes.get("prompt", 0)
        text = f"{prompts} prompt{'' if prompts == 1 else 's'}"
        if "length" in result.coords and prompts:
            low, high = int(result["length"].min()), int(result["length"].max())
            text += f" of {low} tokens" if low == high else f" of {low} to {high} tokens"
        described.setdefault(text, []).append(escape(name))
    return "; ".join(f"{', '.join(names)}: {text}" for text, names in described.items())


def windows(result: xr.Dataset | xr.DataArray) -> list[int]:
    """The distinct windows of the local layers, ascending."""
    if "window" not in result.coords:
        return []
    return sorted({int(window) for window in result["window"].values if np.isfinite(window)})


def span(result: xr.Dataset, layer: int) -> str:
    """The kind of a layer with its window: `local 16`, or `global`."""
    at = result.sel(layer=layer)
    kind = str(at["attention_kind"].item())
    size = float(at["window"]) if "window" in at.coords else math.nan
    return f"{kind} {size:.0f}" if math.isfinite(size) else kind
