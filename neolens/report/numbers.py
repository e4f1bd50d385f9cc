"""Numbers in the tables of a report: two digits after the point, p values with two significant digits."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from numbers import Integral

from neolens.wording import p_value, two_digits

Cell = str | int | float | None

_P = re.compile(r"(^|\s)p($|\s)")
"""In the header of a column of p values."""


def column(header: str, cells: Sequence[Cell]) -> tuple[bool, list[str]]:
    """Whether the column holds numbers only, and its cells as text, all fractions with as many digits."""
    numbers = [cell for cell in cells if isinstance(cell, int | float) and not isinstance(cell, bool)]
    numeric = bool(numbers) and len(numbers) == sum(cell is not None for cell in cells)
    if _P.search(header) and all(0 <= cell <= 1 for cell in numbers if not math.isnan(cell)):
        return numeric, [_written(cell, p_value) for cell in cells]
    fractions = {abs(cell) for cell in numbers if isinstance(cell, float) and math.isfinite(cell)}
    top = max(fractions, default=0.0)
    digits = 2 if top < 100 else 1 if top < 1000 else 0
    texts = [_written(cell, lambda number: _fraction(number, digits)) for cell in cells]
    if len(fractions) > 1 and len({text.lstrip("-") for text in texts if text}) == 1 and top < 10:
        texts = [_written(cell, lambda number: _fraction(number, 3)) for cell in cells]  # two digits would be equal
    return numeric, texts


def _written(cell: Cell, fraction: Callable[[float], str]) -> str:
    """A cell as text: 0 only where it is exact, NaN is blank."""
    if cell is None:
        return ""
    if isinstance(cell, str | bool):
        return str(cell)
    if math.isnan(cell):
        return ""
    return f"{cell:,}" if isinstance(cell, Integral) or math.isinf(cell) else fraction(cell)


def _fraction(number: float, digits: int) -> str:
    """With as many digits as its column, a small one with two; what would be rounded to 0 is `below 0.01`."""
    if digits == 3 and abs(number) >= 0.0005:
        return f"{number:.3f}"
    return two_digits(number) if abs(number) < 1 else f"{number:,.{digits}f}"
