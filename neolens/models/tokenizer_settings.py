"""The small JSON files beside a tokenizer's vocabulary, checked before transformers reads them: its errors name neither
the file nor the field."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from neolens.checks import shown
from neolens.files import read_json

SETTINGS = "tokenizer_config.json"
_FILES = (SETTINGS, "special_tokens_map.json", "added_tokens.json")
_REMEDY = "fetch or save the folder anew, or pass tokenizer=False to load the model without one"


def _is_token(value: Any) -> bool:
    return (
        value is None
        or isinstance(value, str)
        or (isinstance(value, Mapping) and isinstance(value.get("content"), str))
    )


def _is_number(value: Any) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool) and value > 0)


def _is_table_of_tokens(value: Any) -> bool:
    return isinstance(value, Mapping) and all(str(key).isdecimal() and _is_token(each) for key, each in value.items())


def _is_tokens(value: Any) -> bool:
    """Whether a value is a list of tokens, or an object from names to tokens."""
    tokens = value.values() if isinstance(value, Mapping) else value
    return value is None or (
        isinstance(value, list | Mapping) and all(each is not None and _is_token(each) for each in tokens)
    )


def _is_template(value: Any) -> bool:
    """Whether a value is a chat template, or several with names."""
    entries = isinstance(value, list) and all(isinstance(each, Mapping) for each in value)
    return value is None or isinstance(value, str | Mapping) or entries


_Check = tuple[str, Callable[[Any], bool]]
_TOKEN: _Check = ("a string, or an object with its content", _is_token)
_SIDE: _Check = ("left or right", lambda value: value in ("left", "right"))
_NAME: _Check = ("a string", lambda value: value is None or isinstance(value, str))
_FLAG: _Check = ("true or false", lambda value: value is None or isinstance(value, bool))

_FIELDS: dict[str, _Check] = {
    **dict.fromkeys(("bos_token", "eos_token", "pad_token", "unk_token"), _TOKEN),
    **dict.fromkeys(("sep_token", "cls_token", "mask_token"), _TOKEN),
    **dict.fromkeys(("padding_side", "truncation_side"), _SIDE),
    **dict.fromkeys(("tokenizer_class", "name_or_path"), _NAME),
    **dict.fromkeys(("add_bos_token", "add_eos_token", "add_prefix_space", "clean_up_tokenization_spaces"), _FLAG),
    "model_max_length": ("a number above 0", _is_number),
    **dict.fromkeys(
        ("extra_special_tokens", "additional_special_tokens"), ("a list of tokens, or an object of them", _is_tokens)
    ),
    "chat_template": ("a string", _is_template),
    "added_tokens_decoder": ("an object from ids to tokens", _is_table_of_tokens),
}


def check_settings(folder: Path) -> None:
    """Check the settings of a folder's tokenizer, where there are any.

    Raises:
        ValueError: a file that is no JSON object, or a field with an impossible value; both are named.
    """
    for file in _FILES:
        path = folder / file
        if not path.is_file():
            continue
        settings = read_json(path, f"the JSON object of a tokenizer; {_REMEDY}")
        for field, value in settings.items() if file != "added_tokens.json" else ():
            expected, accepts = _FIELDS.get(field, ("", None))
            if accepts is not None and not accepts(value):
                raise ValueError(f"{path}: field {field} = {shown(value)}: expected {expected}; {_REMEDY}")
