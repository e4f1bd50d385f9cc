"""`record.json`: what a study measured of which weights, read field by field, so that a wrong one is named first."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, NotRequired, TypedDict, TypeVar, get_args, get_origin, get_type_hints, is_typeddict

from neolens import files
from neolens.checks import did_you_mean, shown
from neolens.models import from_record
from neolens.studies import store
from neolens.studies.digest import digest
from neolens.studies.models import network_names

Config = TypeVar("Config")

_ELSEWHERE = ("out", "threads")
"""Settings that do not decide what is measured."""

NAMES = {str: "text", int: "a whole number", float: "a number", bool: "true or false", NoneType: "null"}


class Text(TypedDict):
    source: str
    prompts: int
    length: int
    sha256: str


class Input(TypedDict):
    bos: bool
    text: NotRequired[Text]
    left_out: dict[str, str]


class Asked(TypedDict):
    networks: dict[str, list[str]]
    window: NotRequired[int]


class Record(TypedDict):
    """What is read from a record; it may hold more."""

    study: NotRequired[str]
    config: dict[str, Any]
    versions: dict[str, str]
    fingerprints: dict[str, str]
    seconds: float
    asked: Asked
    prompts: NotRequired[dict[str, str]]
    measure: NotRequired[str]
    anatomies: NotRequired[dict[str, str]]
    inputs: NotRequired[dict[str, Input]]
    notes: NotRequired[list[str]]
    left_out: NotRequired[dict[str, dict[str, str]]]
    checks_pass: NotRequired[bool]
    laws_hold: NotRequired[bool]
    resumed: NotRequired[bool]
    warnings: list[Any]
    findings: list[Any]


def read(folder: Path, name: str, config: type[Config]) -> tuple[dict[str, Any], Config]:
    """The record of a study in a folder, and the settings in it.

    Raises:
        ValueError: no record, one of another study, or a field that this study would not have written.
    """
    path, where = folder / "record.json", ""
    try:
        record = files.read_json(path, f"a record of {name}")
        where = f"{path}: "
        _check(record, Record, "")
        _check_content(record, "record")
        if record.get("study", "compare") != name:
            raise ValueError(f"study is {shown(record.get('study', 'compare'))}: expected {name}")
        settings = _settings(record["config"], config)
        _check_networks(record)
    except ValueError as error:
        raise ValueError(
            f"{folder} holds no record of {name}: expected a folder that it wrote ({where}{error}); measure again with "
            "--resume, or give another folder"
        ) from error
    return record, settings


def settings_text(config: Any) -> str:
    """The settings that a network's results come from, as JSON; those that are None are left out, so that results stay
    valid when a study gets another setting."""
    values = {name: value for name, value in asdict(config).items() if name not in _ELSEWHERE}
    return json.dumps({name: value for name, value in values.items() if value is not None})


def stamps(record: Mapping[str, Any], config: Any) -> dict[str, dict[str, store.Stamp]]:
    """Model -> network -> what its results must come from to be those of a record; less where the record is older, and
    weights only where it has them."""
    shared = {"settings": settings_text(config), "versions": json.dumps(record["versions"])}
    shared |= {"measure": record["measure"]} if "measure" in record else {}
    return {
        model: {
            network: {**shared, **_origin(record, model), **_weights(record, name)}
            for network, name in network_names(model, networks).items()
        }
        for model, networks in record["asked"]["networks"].items()
    }


def inputs_of(record: Mapping[str, Any]) -> Mapping[str, Any]:
    """Model -> what it was measured on; of the oldest records only what was left out of it."""
    left_out = {model: {"left_out": parts} for model, parts in record.get("left_out", {}).items()}
    inputs: Mapping[str, Any] = record.get("inputs", left_out)
    return inputs


def _origin(record: Mapping[str, Any], model: str) -> store.Stamp:
    """What a model was measured on: in older records the window and the text."""
    scope = {name: value for name, value in record["asked"].items() if name != "networks"}
    window = {"asked_window": scope["window"]} if "window" in scope else {}
    inputs = record.get("inputs", {}).get(model, {})
    if "prompts" in record:
        return {
            **window,
            "prompts": record["prompts"][model],
            "inputs": digest(json.dumps([scope, inputs], sort_keys=True)),
        }
    return {**window, "text": inputs["text"]["sha256"]} if "text" in inputs else window


def _weights(record: Mapping[str, Any], network: str) -> store.Stamp:
    return {"fingerprint": record["fingerprints"][network]} if "fingerprints" in record else {}


def _settings(value: Mapping[str, Any], config: type[Config]) -> Config:
    hints = get_type_hints(config)
    for name in value:
        if name not in hints:
            raise ValueError(f"config.{name} is no setting: {did_you_mean(name, hints)}expected {', '.join(hints)}")
    for name, hint in hints.items():
        if name in value:
            _check(value[name], hint, f"config.{name}")
        elif NoneType not in get_args(hint):
            raise ValueError(f"config.{name} is missing: expected {_kind(hint)}")
    if not value["models"]:
        raise ValueError("config.models is []: expected at least one model")
    return config(**{name: tuple(item) if isinstance(item, list) else item for name, item in value.items()})


def _check_networks(record: Mapping[str, Any]) -> None:
    """Check that the record has the same models in all its fields."""
    asked: dict[str, list[str]] = record["asked"]["networks"]
    names = [network for several in asked.values() for network in several]
    if not all(asked.values()) or len(set(names)) < len(names):
        raise ValueError(f"asked.networks is {shown(asked)}: expected the networks of each model, each once")
    models = list(record.get("anatomies", asked))
    if len(models) != len(record["config"]["models"]) or set(asked) - set(models):
        raise ValueError(
            f"asked.networks has {len(asked)} models: expected {len(record['config']['models'])} of config"
        )
    keys = [key for name, several in asked.items() for key in network_names(name, several).values()]
    _check_names(record["fingerprints"], keys, "fingerprints")
    if "study" in record:  # older records have none of both
        _check_names(record.get("prompts", {}), list(asked), "prompts")
    if "inputs" in record:
        _check_names(record["inputs"], models, "inputs")
    for name, text in record.get("anatomies", {}).items():
        if from_record(text).name != name:
            raise ValueError(f"anatomies.{name} is that of {shown(from_record(text).name)}")
    if unknown := [model for model in record.get("left_out", {}) if model not in asked]:
        raise ValueError(f"left_out has an unknown {shown(unknown[0])}: expected models of asked.networks")


def _check_names(value: Mapping[str, Any], expected: Sequence[str], where: str) -> None:
    if set(value) != set(expected):
        differing = sorted(set(value) ^ set(expected))[0]
        raise ValueError(f"{where} {'lacks' if differing in expected else 'has an unknown'} {shown(differing)}")


def _check(value: Any, hint: Any, where: str, kind: str = "") -> None:
    """Check that a value of JSON has a type, and all that it holds.

    Raises:
        ValueError: it has another; the message names the field.
    """
    inner, of = get_args(hint), get_origin(hint)
    if hint is Any:
        return
    if of is UnionType or (of is not None and NoneType in inner):
        if value is None and NoneType in inner:
            return
        return _check(value, next(each for each in inner if each is not NoneType), where, _kind(hint))
    if of is NotRequired:
        return _check(value, inner[0], where)
    expected = dict if is_typeddict(hint) else {tuple: list}.get(of or hint, of or hint)
    accepted = (int, float) if expected is float else expected
    if not isinstance(value, accepted) or (isinstance(value, bool) and expected is not bool):
        raise ValueError(f"{where or 'the record'} is {shown(value)}: expected {kind or _kind(hint)}")
    for item, of_item, name in _items(value, hint, where):
        _check(item, of_item, name)
    return None


def _items(value: Any, hint: Any, where: str) -> Iterator[tuple[Any, Any, str]]:
    """What a list, a dictionary or a record holds: value, type and name."""
    inner, before = get_args(hint), f"{where}." if where else ""
    if is_typeddict(hint):
        for name, inside in get_type_hints(hint, include_extras=True).items():
            if name in value:
                yield value[name], inside, f"{before}{name}"
            elif get_origin(inside) is not NotRequired:
                raise ValueError(f"{before}{name} is missing: expected {_kind(inside)}")
    elif isinstance(value, dict):
        yield from ((item, inner[1], f"{before}{name}") for name, item in value.items())
    elif isinstance(value, list):
        yield from ((item, inner[0], f"{where}[{at}]") for at, item in enumerate(value))


def _kind(hint: Any) -> str:
    inner, of = get_args(hint), get_origin(hint)
    if of is UnionType:
        return " or ".join(_kind(each) for each in inner)
    if of is NotRequired:
        return _kind(inner[0])
    if of in (list, tuple):
        return f"a list of {NAMES.get(inner[0], 'lists')}"
    return NAMES.get(hint, "an object")


def _check_content(value: Any, where: str) -> None:
    """Check that no number is infinite, and no text broken, anywhere.

    Raises:
        ValueError: one is.
    """
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{where} is {value}: expected a finite number")
    if isinstance(value, str) and not value.isascii() and any("\ud800" <= letter <= "\udfff" for letter in value):
        raise ValueError(f"{where} is {value!r:.60}: expected text in Unicode")
    if isinstance(value, dict):
        for name, item in value.items():
            _check_content(name, f"a name in {where}")
            _check_content(item, f"{where}.{name}"[:200] if name.isascii() else where)
    if isinstance(value, list):
        for at, item in enumerate(value):
            _check_content(item, f"{where}[{at}]")
