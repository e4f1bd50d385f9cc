"""Numbers, percentages, counts and lists in words, each with one format."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from neolens.checks import shown
from neolens.checks.annotations import checked


@checked
def join(parts: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`.

    >>> join(["1", "2", "3"])
    '1, 2 and 3'
    """
    return " and ".join(filter(None, [", ".join(parts[:-1]), parts[-1]]))


@checked
def count(number: int, noun: str) -> str:
    """A number of things.

    >>> count(1, "head"), count(3, "head")
    ('1 head', '3 heads')
    """
    return f"{number} {noun}{'' if number == 1 else 's'}"


@checked
def number(value: float, form: str = ".2f") -> str:
    """A number in this format, without the sign of what is rounded to 0.

    >>> number(-0.001), number(0.204, "+.1f")
    ('0.00', '+0.2')
    """
    try:
        text = f"{value:{form}}"
    except ValueError:
        raise ValueError(f"form {shown(form)}: expected a format of numbers, such as '.2f'") from None
    return text if float(text) else text.replace("-", "").replace("+", "")


@checked
def percent(share: float) -> str:
    """A share in percent; 0 and 100 only where they are exact.

    >>> percent(0.5), percent(0.9999), percent(1.0)
    ('50.0%', '99.9%', '100%')
    """
    if share in (0.0, 1.0):
        return f"{100 * share:.0f}%"
    return f"{min(max(100 * share, 0.1), 99.9):.1f}%"


@checked
def value_range(values: Sequence[float], form: Callable[[float], str]) -> str:
    """The lowest and the highest value, or the only one.

    >>> value_range([0.2, 0.4, 0.3], "{:.1f}".format)
    '0.2 to 0.4'
    """
    low, high = form(min(values)), form(max(values))
    return low if low == high else f"{low} to {high}"


@checked
def two_digits(value: float) -> str:
    """Two digits after the point below 10, fewer above; what would be rounded to 0 is `below 0.01`.

    >>> two_digits(0.931), two_digits(0.00096), two_digits(-0.001), two_digits(0.0), two_digits(34.56)
    ('0.93', 'below 0.01', 'above -0.01', '0', '34.6')
    """
    if not value:
        return "0"
    if abs(value) < 0.005:
        return "below 0.01" if value > 0 else "above -0.01"
    return f"{value:,.{2 if abs(value) < 10 else 1 if abs(value) < 100 else 0}f}"


@checked
def p_value(p: float) -> str:
    """Two significant digits; what is less than 0.001 is `below 0.001`.

    >>> p_value(0.034), p_value(0.0002), p_value(1.0)
    ('0.034', 'below 0.001', '1')
    """
    return "below 0.001" if p < 0.001 else f"{p:.2g}"


@checked
def interval(low: float, high: float) -> str:
    """`[0.90, 0.96]`; nothing without an interval.

    >>> interval(0.9, 0.96), interval(0.0, 0.001), interval(float("nan"), float("nan"))
    ('[0.90, 0.96]', '[0, below 0.01]', '')
    """
    return "" if math.isnan(low) or math.isnan(high) else f"[{two_digits(low)}, {two_digits(high)}]"
