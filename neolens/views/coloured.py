"""A text whose tokens are coloured by a result: one value for each, or one of several at choice.

Drawn by a script of our own. circuitsvis's `ColoredTokens` puts tokens into the page as HTML, so that a prompt could
run a script there; it shows no scale, and one undefined value, such as the loss of the last token, takes the colour
from all. Here tokens are text, values below 0 make the scale diverge around 0, and what is undefined has no colour.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import pandas as pd
from plotly.colors import diverging, sequential

from neolens.checks import check_number, check_text
from neolens.figures.style import RISING_IS_WORSE
from neolens.views.values import Values, read
from neolens.views.view import View, asset
from neolens.views.words import named, script_json, tokenizer_or_none, visible

MAX_VALUES = 500_000
"""Values that one view may hold: about 4 MB of HTML."""


def tokens(
    values: Any,
    words: Any = None,
    *,
    model: Any = None,
    limit: float | None = None,
    title: str = "",
    unit: str = "",
) -> View:
    """The tokens of one prompt, each in the colour of its value.

    Colours go from 0 to the largest value; where some are below 0 they diverge, from minus to plus the largest by size;
    where none is above, such as log probabilities, they go from the lowest to 0. A loss that rises is red.
    Several values a token share one scale, each metric has its own. NaN is not coloured. The value, to four digits, is
    told on hover. `table` of the view has the columns pos, token, and one for each choice.

    Args:
        values: an array of a result, such as `result["ablated"].sel(group="local").isel(prompt=0)`: an axis `pos`,
            and further ones to choose from (groups, layers and heads, metrics); or a tensor [..., pos].
        words: the tokens, where `values` does not bring them as its coordinate `token`: a list of strings, an integer
            tensor [pos] or [1, pos], or a text, before which BOS is put.
        model: which gives numbers and a text their words.
        limit: the value, by size, at which the colours end; by default the largest.
        title: by default what the result says of itself.
        unit: of the values; that of neolens's metrics is known where the result has an axis `metric`.

    Raises:
        TypeError: a whole dataset instead of one of its variables, or words, a title, a unit or a
            limit of another type.
        ValueError: several prompts, tokens that are not known or do not fit, infinite values, too many for one view
            (500,000), or a limit that is not above 0.
    """
    if limit is not None:
        limit = check_number(limit, "limit", above=0, remedy="the value at which the colours end")
    check_text(title, "title", empty=True)
    check_text(unit, "unit", empty=True)
    tokenizer_or_none(model)
    given = read(values, words, model, title=title, unit=unit)
    if given.values.size > MAX_VALUES:
        count, length = given.values.shape
        raise ValueError(
            f"{count:,} values for each of {length:,} tokens are too many for one view: choose at most "
            f"{MAX_VALUES // length:,} of them, such as one layer or group"
        )
    printed = [visible(word) for word in given.words]
    data = {"tokens": printed, "positions": given.positions, "choices": _choices(given, limit)}
    scales = {
        "signed": list(diverging.RdBu), "unsigned": list(sequential.Blues), "worse": list(sequential.Reds)
    }  # fmt: skip
    body = f"<style>{asset('views.css')}</style><p>{named(given.title)}{len(given.words):,} tokens:</p>"
    draw = f"element => neolensColoured(element, {script_json(data | scales)})"
    return View(body, draw, asset("coloured.js"), table=partial(_table, given))


def _choices(given: Values, limit: float | None) -> list[dict[str, Any]]:
    """What the script takes of each choice: name, unit, limits of its colours, and values; null is undefined."""
    ends: dict[str, tuple[float, float]] = {}
    for metric, row in zip(given.metrics, given.values, strict=True):
        defined = [value for value in row.tolist() if value == value]
        low, high = ends.get(metric, (0.0, 0.0))
        ends[metric] = min([low, *defined]), max([high, *defined])
    chosen = []
    for at, row in enumerate(given.values):
        low, high = ends[given.metrics[at]]
        end = limit or max(-low, high) or 1.0
        shown = [float(f"{value:.4g}") if value == value else None for value in row.tolist()]
        limits = {"low": -end if low < 0 else 0.0, "high": end if high > 0 or low == 0 else 0.0}
        worse = given.metrics[at] in RISING_IS_WORSE
        chosen.append({"name": given.names[at], "unit": given.units[at], **limits, "worse": worse, "values": shown})
    return chosen


def _table(given: Values) -> pd.DataFrame:
    names = [name or given.variable for name in given.names]
    table = pd.DataFrame(given.values.T, columns=names)
    table.insert(0, "token", given.words, allow_duplicates=True)
    table.insert(0, "pos", given.positions, allow_duplicates=True)
    return table
