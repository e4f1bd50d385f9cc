"""Settings of studies: declared with their help, checked where a config is made, and read from the text of options."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Sequence
from dataclasses import field, fields
from pathlib import Path
from typing import Any

from neolens.checks import (
    check_choice,
    check_list,
    check_seed,
    check_text,
    check_whole,
    check_whole_numbers,
    did_you_mean,
    shown,
)

ENOUGH = 8
"""Prompts of which means and intervals hold: a mean ablation of fewer keeps much of each of them."""

MODELS = "names, hub ids or folders; LABEL=NAME labels one"
"""The help of `models`, to which the command line adds what a lab name without a seed stands for."""

OUT = "folder for results, record and report"

FARTHEST = 2**24
"""Tokens of a distance or a length; how many a model has room for is checked with its context."""

RANGES = {"prompts": (1, 10_000), "length": (8, 1_000_000), "draws": (1, 10_000)}
"""Setting -> the smallest and the largest value, unless its field says otherwise; a length beyond a model's context is
cut to it."""

DTYPES = ("float32", "bfloat16", "float16", "float64")


def setting(
    default: Any,
    help: str,
    *,
    least: int | None = None,
    most: int | None = None,
    each_least: int = 1,
    replaced_by: str | None = None,
) -> Any:
    """A field of a study's config.

    Args:
        help: what the option's help and the documentation say.
        least, most: the range of a whole number.
        each_least: the smallest number of a list, for the error where an option has something else.
        replaced_by: another setting, such as pairs; where that is set, this one has to keep its default.
    """
    about = {"help": help, "least": least, "most": most, "each_least": each_least, "replaced_by": replaced_by}
    return field(default=default, metadata=about)


def replaced(config: Any) -> set[str]:
    """The settings in whose place another one stands, such as prompts and seed where pairs are read from a file."""
    by = {each.name: each.metadata["replaced_by"] for each in fields(config)}
    return {name for name, other in by.items() if other is not None and getattr(config, other) is not None}


def check(config: Any) -> None:
    """Check the settings of a config, and put plain Python values in their place.

    Raises:
        TypeError, ValueError: a setting that no model can be measured with.
    """
    values = {each.name: getattr(config, each.name) for each in fields(config)}
    plain: dict[str, Any] = {"out": _path(values["out"], "out"), "models": _names(values["models"])}
    for name in {"text", "tokens", "pairs"} & {name for name, value in values.items() if value is not None}:
        plain[name] = _path(values[name], name)
    if len(plain.keys() & {"text", "tokens"}) == 2:
        raise ValueError(f"text {plain['text']} and tokens {plain['tokens']}: give one of the two")
    if values["ignore_fields"] is not None:
        plain["ignore_fields"] = _fields(values["ignore_fields"])
    for each in fields(config):
        least, most = RANGES.get(each.name, (None, None))
        least, most = each.metadata["least"] or least, each.metadata["most"] or most
        if least is not None and not (values[each.name] is None and each.default is None):
            few = "fewer give no means and intervals" if each.name == "prompts" and least > 1 else ""
            plain[each.name] = check_whole(values[each.name], each.name, least, most, remedy=few)
    if "seed" in values:
        plain["seed"] = check_seed(values["seed"])
    if values["dtype"] is not None:
        check_choice(values["dtype"], "dtype", DTYPES)
    if values["device"] is not None:
        plain["device"] = str(values["device"])  # whether it can be used is checked before models are read
    update(config, **plain)
    _check_replaced(config)


def _check_replaced(config: Any) -> None:
    for each in fields(config):
        value = getattr(config, each.name)
        if each.name in replaced(config) and value != each.default:
            other = each.metadata["replaced_by"]
            raise ValueError(
                f"{other} {shown(getattr(config, other))} takes the place of {each.name}: leave out "
                f"{each.name} {shown(value)}"
            )


def update(config: Any, **values: Any) -> None:
    """Replace fields of a frozen dataclass while it is made."""
    for name, value in values.items():
        object.__setattr__(config, name, value)


def words(value: Any, what: str, choices: Iterable[str] | None = None) -> tuple[str, ...]:
    """One or several different words, such as tasks.

    Raises:
        TypeError, ValueError: none, one twice, or one that is not among the choices.
    """
    found = tuple(check_text(item, what) for item in check_list(value, f"{what}s", "strings"))
    _refuse_repeats(found, f"{what}s", shown(value))
    names = None if choices is None else list(choices)
    for word in found:
        if names is not None and word not in names:
            raise ValueError(f"no {what} {shown(word)}: {did_you_mean(word, names)}expected some of {','.join(names)}")
    return found


def numbers(value: Any, what: str, least: int) -> tuple[int, ...]:
    """One or several different whole numbers, in ascending order.

    Raises:
        TypeError, ValueError: something else.
    """
    return tuple(sorted(check_whole_numbers(value, what, least, FARTHEST)))


def listed(text: str | None, what: str) -> tuple[str, ...] | None:
    """The parts of an option such as `recall,induction`.

    Raises:
        ValueError: none, or one twice.
    """
    if text is None:
        return None
    parts = tuple(part.strip() for part in text.split(",") if part.strip())
    _refuse_repeats(parts, what, repr(text))
    return parts


def listed_numbers(text: str | None, what: str, least: int) -> tuple[int, ...] | None:
    """The whole numbers of an option such as `16,32`, in ascending order.

    Raises:
        ValueError: not whole numbers; `least` is the smallest that can be asked, for the error.
    """
    parts = listed(text, f"{what}s")
    for part in parts or ():
        if not (part.isascii() and part.isdigit()) or len(part) > 18:
            raise ValueError(f"{what} {shown(part)}: expected a whole number of tokens from {least}")
    return None if parts is None else tuple(sorted(map(int, parts)))


def _refuse_repeats(parts: Sequence[str], what: str, value: str) -> None:
    if not parts or len(set(parts)) < len(parts):
        raise ValueError(f"{what} {value}: expected some, each once, with commas between")


def _names(value: Any) -> tuple[str, ...]:
    """Models by name or path."""
    names = check_list(value, "models", "names", example="('lab/gpt2', 'lab/pythia')")
    if not names:
        raise ValueError(f"models {shown(value)}: expected at least one name, hub id or folder")
    for name in names:
        if not isinstance(name, str | Path):
            raise TypeError(f"model {shown(name)}: expected a name, hub id or folder, such as 'lab/gpt2'")
    return tuple(map(str, names))


def _path(value: Any, what: str) -> str:
    """A path as text."""
    if not isinstance(value, str | Path):
        raise TypeError(f"{what} {shown(value)}: expected a path")
    path = check_text(str(value), what, example="results/new" if what == "out" else f"{what}.txt")
    if "\0" in path:
        raise ValueError(f"{what} {shown(path)}: expected a path without a NUL byte")
    try:
        os.lstat(path)
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise ValueError(f"{what} {shown(path)}: expected a shorter path (file name too long)") from error
    return path


def _fields(value: Any) -> tuple[str, ...]:
    """Names of fields of config.json."""
    names = words(value, "field")
    for name in names:
        if not name.isidentifier():
            raise ValueError(f"field {shown(name)}: expected the name of a field of config.json, such as use_cache")
    return names
