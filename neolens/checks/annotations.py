"""Checks of arguments by their annotations: types of values, and of the items of lists and mappings.

`Annotated` adds a check of the value, such as its bounds. Arrays with axes, and what has the annotation `Any`, are left
to the function.
"""

from __future__ import annotations

import functools
import inspect
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import fields
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, ParamSpec, TypeVar, Union, get_args, get_origin, get_type_hints

from neolens.checks.values import check_bool, check_choice, check_number, check_text, check_whole, shown

P = ParamSpec("P")
R = TypeVar("R")


def _check_probability(value: float, what: str) -> None:
    if not 0 <= value <= 1 and value == value:
        raise ValueError(f"{what} {shown(value)}: expected a number from 0 to 1, or NaN where there is none")


Text = Annotated[str, check_text]
"""A string that is not empty."""
Count = Annotated[int, functools.partial(check_whole, least=0)]
Size = Annotated[int, functools.partial(check_whole, least=1)]
Probability = Annotated[float, _check_probability]
"""From 0 to 1, or NaN where there is none."""

_PLAIN = {str: "string", int: "whole number", float: "number", bool: "truth value"}
_NUMBERS: dict[type, Callable[..., Any]] = {int: check_whole, float: check_number, bool: check_bool}
_ITEMS = (Sequence, list, tuple)


def checked(function: Callable[P, R]) -> Callable[P, R]:
    """The function, which checks every argument against its annotation before it does anything.

    >>> @checked
    ... def double(text: str, times: int = 2) -> str:
    ...     return text * times
    >>> double("a", "b")
    Traceback (most recent call last):
    TypeError: times 'b': expected a whole number

    Raises:
        TypeError: an argument of another type.
        ValueError: a word that is not one of a `Literal`.
    """
    signature = inspect.signature(function)

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            bound, hints = signature.bind(*args, **kwargs), _hints(function)
        except TypeError as error:
            raise TypeError(f"{function.__name__}(): {error}") from None
        for name, value in bound.arguments.items():
            if name in hints and signature.parameters[name].kind < inspect.Parameter.VAR_KEYWORD:
                bound.arguments[name] = check_as(value, name, hints[name])
        return function(*bound.args, **bound.kwargs)

    return call


def check_annotated(record: Any) -> None:
    """Check the fields of a dataclass against their annotations, in its `__post_init__`.

    Raises:
        TypeError: a field of another type.
        ValueError: a word that is not one of its `Literal`.
    """
    hints = _hints(record.__class__)
    for each in fields(record):
        value = check_as(getattr(record, each.name), f"{each.name} of {type(record).__name__}", hints[each.name])
        object.__setattr__(record, each.name, value)


def check_as(value: Any, what: str, hint: Any) -> Any:
    """The value, if it is of an annotated type: numbers of any kind, and any ordered collection in place of a list.

    >>> check_as([1, "a"], "seeds", Sequence[int])
    Traceback (most recent call last):
    TypeError: seeds[1] 'a': expected a whole number

    Raises:
        TypeError: of another type.
        ValueError: a word that is not one of a `Literal`.
    """
    if get_origin(hint) is Annotated:
        value = check_as(value, what, hint.__origin__)
        for check in hint.__metadata__:
            check(value, what)
        return value
    origin, inside = get_origin(hint), get_args(hint) or (Any, Any)
    if not _fits(value, hint):
        raise TypeError(f"{what} {shown(value)}: expected {_expected(hint)}")
    if origin in (Union, UnionType):
        return check_as(value, what, next(option for option in inside if _fits(value, option)))
    if origin is Literal:
        return check_choice(value, what, inside)
    if hint in _NUMBERS:
        return value if isinstance(value, int | float) else {int: operator.index}.get(hint, hint)(value)
    if origin in _ITEMS:
        return _checked_items(value, what, origin, inside)
    if origin in (Mapping, dict):
        for key in value:
            check_as(key, f"a name in {what}", inside[0])
        items = {key: check_as(item, f"{what}[{shown(key)}]", inside[1]) for key, item in value.items()}
        return value if all(items[key] is item for key, item in value.items()) else items
    return value


@functools.cache
def _hints(what: Any) -> dict[str, Any]:
    return {name: hint for name, hint in get_type_hints(what, include_extras=True).items() if name != "return"}


def _checked_items(value: Any, what: str, origin: type, inside: tuple[Any, ...]) -> Any:
    """The items of a list or tuple; the collection itself where it is one already."""
    items, whole = list(value), origin is not tuple or inside[1:] == (...,)
    if not whole and len(items) != len(inside):
        raise ValueError(f"{what} {shown(value)}: expected {len(inside)} values")
    each = [inside[0]] * len(items) if whole else inside
    result = [check_as(item, f"{what}[{at}]", one) for at, (item, one) in enumerate(zip(items, each, strict=True))]
    if origin is tuple:
        return tuple(result)
    same = isinstance(value, Sequence) and all(new is old for new, old in zip(result, items, strict=True))
    return value if same else result


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value is of a type, its items apart."""
    hint = _without_checks(hint)
    origin = get_origin(hint) or hint
    if origin in (Union, UnionType):
        return any(_fits(value, option) for option in get_args(hint))
    if origin in _NUMBERS:
        return _is_number(value, origin)
    if origin is Literal:
        return isinstance(value, str)
    if origin in _ITEMS:
        unordered = isinstance(value, str | bytes | bytearray | Mapping | Set) or getattr(value, "ndim", 1) == 0
        return isinstance(value, Iterable) and not unordered
    if origin in (Mapping, dict):
        return isinstance(value, Mapping) and not hasattr(value, "data_vars")  # as datasets have
    if origin is Callable:
        return callable(value)
    unchecked = origin is Any or hasattr(origin, "array_type") or not isinstance(origin, type)
    return unchecked or isinstance(value, origin)


def _is_number(value: Any, kind: type) -> bool:
    try:
        _NUMBERS[kind](value, "")
    except TypeError:
        return False
    except ValueError:  # not finite
        return kind is float
    return True


def _without_checks(hint: Any) -> Any:
    return hint.__origin__ if get_origin(hint) is Annotated else hint


def _expected(hint: Any) -> str:
    hint = _without_checks(hint)
    origin, inside = get_origin(hint) or hint, get_args(hint) or (Any, Any)
    if origin in (Union, UnionType):
        return " or ".join([_expected(one) for one in inside if one is not NoneType] + ["None"] * (NoneType in inside))
    if origin is Literal:
        return " or ".join(map(str, inside))
    if origin in _ITEMS:
        return f"a list of {_several(inside[0])}"
    if origin in (Mapping, dict):
        return f"a mapping from {_several(inside[0])} to {_several(inside[1])}"
    if origin is Callable:
        return "a function"
    name = "True or False" if origin is bool else _name(origin)
    return name if origin is bool else f"{'an' if name.startswith('x') else 'a'} {name}"


def _several(hint: Any) -> str:
    hint = _without_checks(hint)
    return f"{_PLAIN[hint]}s" if hint in _PLAIN else _name(hint) if isinstance(hint, type) else _expected(hint)


def _name(hint: Any) -> str:
    """`string`, or the name of a class with the module that has it."""
    if hint in _PLAIN:
        return _PLAIN[hint]
    home = hint.__module__ if hint.__module__.startswith("neolens") else hint.__module__.partition(".")[0]
    return f"{home}.{hint.__name__}"


def check_as_many(**lists: Sequence[Any]) -> None:
    """Check that lists are of one length.

    >>> check_as_many(names=["a"], effects=[0.1, 0.2])
    Traceback (most recent call last):
    ValueError: 1 names, 2 effects: expected as many of each

    Raises:
        ValueError: they are not.
    """
    if len({len(values) for values in lists.values()}) > 1:
        counts = ", ".join(f"{len(values)} {name}" for name, values in lists.items())
        raise ValueError(f"{counts}: expected as many of each")
