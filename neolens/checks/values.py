"""Checks of single values: text, numbers and choices, whatever they stand for.

Every function returns the value in plain Python types, so that NumPy integers and tensors of one number are accepted
wherever they can only mean one thing. A truth value is not a number.
"""

from __future__ import annotations

import difflib
import inspect
import math
import operator
import reprlib
from collections.abc import Iterable, Mapping
from typing import Any

_FAR = 2**24


def shown(value: Any, most: int = 60) -> str:
    """A value as it appears in an error: on one line, at most about `most` characters, arrays by type, shape and dtype.

    >>> shown([1.5, 2])
    '[1.5, 2]'
    """
    try:
        shape = getattr(value, "shape", None)
    except Exception:  # of a nested tensor
        shape = None
    if isinstance(shape, tuple) and math.prod(shape) != 1:
        dtype = str(getattr(value, "dtype", "")).removeprefix("torch.")
        return f"{type(value).__name__} of shape {tuple(shape)}{dtype and f' and dtype {dtype}'}"
    if type(value).__module__.partition(".")[0] in ("xarray", "pandas", "torch", "transformers", "neolens"):
        plain = str(value) if getattr(value, "ndim", None) == 0 else f"{type(value).__name__} object"
    elif isinstance(value, int) and abs(value) > 10**most:
        plain = f"an integer of {value.bit_length()} bits"
    else:
        try:
            plain = repr(value) if isinstance(value, str | bytes | float | int) else reprlib.repr(value)
        except Exception:  # a repr of someone else's
            plain = f"{type(value).__name__} object"
    plain = " ".join(plain.split())
    return plain if len(plain) <= most else f"{plain[: most - 3]}..."


def did_you_mean(name: Any, names: Iterable[str]) -> str:
    """A phrase with the names most like `name`, for error messages; empty if none is near.

    >>> did_you_mean("atention", ["attention", "loss"])
    'did you mean attention? '
    """
    lowered = {candidate.lower(): candidate for candidate in names}
    close = difflib.get_close_matches(str(name).lower(), list(lowered), n=3, cutoff=0.6)
    return f"did you mean {' or '.join(lowered[match] for match in close)}? " if close else ""


def check_type(value: Any, what: str, types: type | tuple[type, ...], expected: str) -> Any:
    """The value itself, if it is of one of these types.

    >>> check_type("lab/gpt2", "anatomy", dict, "that of a model, such as neolens.anatomy(model)")
    Traceback (most recent call last):
    TypeError: anatomy 'lab/gpt2': expected that of a model, such as neolens.anatomy(model)

    Raises:
        TypeError: of another type.
    """
    is_dataset = types is Mapping and hasattr(value, "data_vars")  # which is a mapping, too
    if not isinstance(value, types) or is_dataset:
        raise TypeError(f"{what} {shown(value)}: expected {expected}")
    return value


def check_whole(
    value: Any, what: str, least: int | None = None, most: int | None = None, *, unit: str = "", remedy: str = ""
) -> int:
    """A whole number of any integer type.

    >>> check_whole(0, "prompts", 1)
    Traceback (most recent call last):
    ValueError: prompts 0: expected a whole number of at least 1

    Args:
        what: the name of the argument, which begins the error.
        unit: what is counted, such as "tokens".
        remedy: what to do, which ends the error.

    Raises:
        TypeError: not an integer.
        ValueError: outside `least` to `most`.
    """

    def kind(whole: int = 0) -> str:
        """What is expected; bounds far away are named only where the value is beyond them."""
        low = None if least is not None and least <= -_FAR <= whole else least
        high = None if most is not None and whole <= _FAR <= most else most
        return f"a whole number{f' of {unit}' if unit else ''}{_range(low, high, unit)}{remedy and f'; {remedy}'}"

    try:
        if isinstance(value, bool) or getattr(value, "ndim", None) or "bool" in str(getattr(value, "dtype", "")):
            raise TypeError
        whole = operator.index(value)
    except Exception:  # torch raises others for a tensor that holds no numbers
        raise TypeError(f"{what} {shown(value)}: expected {kind()}") from None
    if (least is not None and whole < least) or (most is not None and whole > most):
        raise ValueError(f"{what} {shown(whole)}: expected {kind(whole)}")
    return whole


def check_seed(value: Any, what: str = "seed") -> int:
    """A seed that every random generator accepts.

    >>> check_seed(-1)
    Traceback (most recent call last):
    ValueError: seed -1: expected a whole number of at least 0, below 2**63

    Raises:
        TypeError: not an integer.
        ValueError: negative, or 2**63 and more.
    """
    seed = check_whole(value, what)
    if not 0 <= seed < 2**63:
        raise ValueError(f"{what} {shown(seed)}: expected a whole number of at least 0, below 2**63")
    return seed


def check_number(
    value: Any,
    what: str,
    least: float | int | None = None,
    most: float | int | None = None,
    *,
    above: float | int | None = None,
    remedy: str = "",
) -> float:
    """A finite number of any real type.

    >>> check_number("x", "limit", above=0)
    Traceback (most recent call last):
    TypeError: limit 'x': expected a number above 0

    Args:
        above: a lower bound that the number may not be equal to.

    Raises:
        TypeError: not a number.
        ValueError: not finite, or outside the bounds.
    """
    bounds = f" above {above}" + ("" if most is None else f", at most {most}") if above is not None else ""
    kind = f"a number{bounds or _range(least, most)}{remedy and f'; {remedy}'}"
    try:
        if isinstance(value, bool | str | bytes) or getattr(value, "ndim", None):
            raise TypeError
        if any(kind in str(getattr(value, "dtype", "")) for kind in ("bool", "complex")):
            raise TypeError
        number = float(value)
    except OverflowError:
        number = math.inf
    except Exception:  # torch raises others for a tensor that holds no numbers
        raise TypeError(f"{what} {shown(value)}: expected {kind}") from None
    outside = (least is not None and number < least) or (most is not None and number > most)
    if not math.isfinite(number) or outside or (above is not None and number <= above):
        raise ValueError(f"{what} {shown(value)}: expected {kind}")
    return number


def check_bool(value: Any, what: str) -> bool:
    """True or False.

    >>> check_bool("yes", "progress")
    Traceback (most recent call last):
    TypeError: progress 'yes': expected True or False

    Raises:
        TypeError: anything else.
    """
    if isinstance(value, bool):
        return value
    if type(value).__name__ in ("bool", "bool_") and type(value).__module__ == "numpy":
        return bool(value)
    raise TypeError(f"{what} {shown(value)}: expected True or False")


def check_text(value: Any, what: str, *, empty: bool = False, example: str = "") -> str:
    """A string.

    >>> check_text(3, "title")
    Traceback (most recent call last):
    TypeError: title 3: expected a string

    Args:
        empty: whether an empty one, or one of spaces alone, is accepted.
        example: a valid value, for the error.

    Raises:
        TypeError: not a string.
        ValueError: an empty one.
    """
    expected = f"a string{f' such as {example!r}' if example else ''}"
    if not isinstance(value, str):
        raise TypeError(f"{what} {shown(value)}: expected {expected}")
    if not empty and not value.strip():
        raise ValueError(f"{what} {value!r}: expected {expected} that is not empty")
    return value


def check_choice(value: Any, what: str, choices: Iterable[str]) -> str:
    """One of several words.

    >>> check_choice("cleen", "run", ["clean", "corrupted"])
    Traceback (most recent call last):
    ValueError: no run 'cleen': did you mean clean? expected clean or corrupted

    Raises:
        TypeError: not a string.
        ValueError: another word; the error names the nearest one.
    """
    names = list(choices)
    expected = " or ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
    if not isinstance(value, str):
        raise TypeError(f"{what} {shown(value)}: expected {expected}")
    if value not in names:
        raise ValueError(f"no {what} {shown(value)}: {did_you_mean(value, names)}expected {expected}")
    return value


def check_function(value: Any, what: str, expected: str, arguments: int = 1, **keywords: Any) -> Any:
    """A function that can be called with so many arguments, and with these keywords; a class is none.

    >>> check_function(3, "observer", "a function of a PatternBlock")
    Traceback (most recent call last):
    TypeError: observer 3: expected a function of a PatternBlock

    Raises:
        TypeError: something else.
    """
    if not callable(value) or isinstance(value, type):
        raise TypeError(f"{what} {shown(value)}: expected {expected}")
    try:
        inspect.signature(value).bind(*[None] * arguments, **keywords)
    except TypeError as error:
        raise TypeError(f"{what} {shown(value)}: expected {expected} ({error})") from None
    except ValueError:  # a built-in function without a signature
        pass
    return value


def _range(least: float | int | None, most: float | int | None, unit: str = "") -> str:
    low, high = (f"{end:g}" if isinstance(end, float) else str(end) for end in (least, most))
    if least is not None and most is not None:
        return f" from {low} to {high}"
    if least is not None:
        return f", at least {low}" if unit else f" of at least {low}"
    return "" if most is None else f", at most {high}" if unit else f" of at most {high}"
