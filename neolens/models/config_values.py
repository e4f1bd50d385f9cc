"""Whether each field of a config.json that its class reads has a value from which a model can be built.

Checked before transformers sees the config, whose errors do not say which field is wrong, or blame the weights: the
type and the range of every field, and that two names of one fact do not contradict each other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from neolens.checks import shown

MOST_LAYERS = 100_000
_LARGEST = 2**31 - 1
_DTYPES = ("float32", "float16", "bfloat16", "float64", "auto")
_PROBLEMS = ("regression", "single_label_classification", "multi_label_classification")
_SUMMARIES = ("last", "first", "mean", "cls_index", "attn")


@dataclass(frozen=True)
class _Kind:
    """What a field may hold, in words and as a test."""

    expected: str
    accepts: Callable[[Any], bool]

    def or_null(self) -> _Kind:
        return _Kind(f"{self.expected}, or null", lambda value: value is None or self.accepts(value))


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _whole(least: int, most: int = _LARGEST) -> _Kind:
    return _Kind(f"a whole number from {least} to {most}", lambda value: _is_whole(value) and least <= value <= most)


def _number(least: float | int, most: float | int, example: str) -> _Kind:
    def accepts(value: Any) -> bool:
        return (_is_whole(value) or isinstance(value, float)) and least <= value <= most

    return _Kind(f"a number from {least:g} to {most:g}, such as {example}", accepts)


def _word(*words: str) -> _Kind:
    return _Kind(f"one of {', '.join(words)}", lambda value: isinstance(value, str) and value in words)


def _list_of(expected: str, accepts: Callable[[Any], bool], least: int = 0) -> _Kind:
    return _Kind(
        expected, lambda value: isinstance(value, list | tuple) and len(value) >= least and all(map(accepts, value))
    )


def _is_span_group(value: Any) -> bool:
    """Whether an entry of `attention_types` is a list of kinds and how often it is repeated."""
    if not (isinstance(value, list | tuple) and len(value) == 2 and _KIND_LIST.accepts(value[0])):
        return False
    return _is_whole(value[1]) and 0 <= value[1] <= MOST_LAYERS


_SIZE = _whole(1)
_LAYERS = _whole(1, MOST_LAYERS)
_FLAG = _Kind("true or false", lambda value: isinstance(value, bool))
_SHARE = _number(0, 1, "0.1")
_EPSILON = _number(1e-30, 1, "1e-05")
_INITIAL = _number(0, 1e30, "0.02")
_TOKEN = _whole(-1)
_TOKENS = _Kind(
    f"{_TOKEN.expected}, a list of them",
    lambda value: _TOKEN.accepts(value) or (isinstance(value, list | tuple) and all(map(_TOKEN.accepts, value))),
).or_null()
_TEXT = _Kind("a string", lambda value: isinstance(value, str))
_TABLE = _Kind("an object in braces", lambda value: isinstance(value, Mapping)).or_null()
_LABELS = _Kind(
    'an object such as {"0": "LABEL_0"}',
    lambda value: isinstance(value, Mapping) and all(str(key).isdecimal() for key in value),
).or_null()
_KIND_LIST = _list_of('a list of "global" or "local" for each layer', lambda kind: kind in ("global", "local"), 1)
_SPAN_GROUPS = _list_of('a list such as [[["global", "local"], 6]] for 12 layers', _is_span_group, 1)
_BASE = _number(1, 1e12, "10000")
_ROTATED = _number(0, 1, "0.25")

_COMMON = {
    "architectures": _list_of("a list of names of classes", _TEXT.accepts).or_null(),
    **dict.fromkeys(("bos_token_id", "pad_token_id"), _TOKEN.or_null()),
    "eos_token_id": _TOKENS,
    **dict.fromkeys(("tie_word_embeddings", "use_cache", "is_decoder", "is_encoder_decoder"), _FLAG),
    **dict.fromkeys(("output_hidden_states", "output_attentions", "return_dict"), _FLAG.or_null()),
    "use_return_dict": _FLAG.or_null(),
    "chunk_size_feed_forward": _whole(0),
    **dict.fromkeys(("dtype", "torch_dtype"), _word(*_DTYPES).or_null()),
    "initializer_range": _INITIAL,
    **dict.fromkeys(("label2id", "task_specific_params", "rope_parameters", "rope_scaling"), _TABLE),
    "id2label": _LABELS,
    **dict.fromkeys(("num_labels", "_num_labels"), _whole(0)),
    "problem_type": _word(*_PROBLEMS).or_null(),
    **dict.fromkeys(("transformers_version", "_name_or_path"), _TEXT.or_null()),
    "classifier_dropout": _SHARE,
    "vocab_size": _SIZE,
    **dict.fromkeys(("n_ctx", "head_dim"), _SIZE.or_null()),
}
_KINDS: dict[str, dict[str, _Kind]] = {
    "gpt2": {
        **dict.fromkeys(("n_positions", "n_embd", "n_head"), _SIZE),
        "n_layer": _LAYERS,
        "n_inner": _SIZE.or_null(),
        "activation_function": _TEXT,
        **dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop", "summary_first_dropout"), _SHARE),
        "layer_norm_epsilon": _EPSILON,
        "summary_type": _word(*_SUMMARIES),
        "summary_activation": _TEXT.or_null(),
        **dict.fromkeys(("summary_use_proj", "summary_proj_to_labels", "scale_attn_weights"), _FLAG),
        **dict.fromkeys(("scale_attn_by_inverse_layer_idx", "reorder_and_upcast_attn", "add_cross_attention"), _FLAG),
    },
    "gpt_neo": {
        **dict.fromkeys(("max_position_embeddings", "hidden_size", "num_heads"), _SIZE),
        "num_layers": _LAYERS,
        "intermediate_size": _SIZE.or_null(),
        "window_size": _whole(0),
        "attention_types": _SPAN_GROUPS.or_null(),
        "attention_layers": _KIND_LIST,
        "activation_function": _TEXT,
        **dict.fromkeys(("resid_dropout", "embed_dropout", "attention_dropout"), _SHARE),
        "layer_norm_epsilon": _EPSILON,
    },
    "gpt_neox": {
        **dict.fromkeys(("max_position_embeddings", "hidden_size", "num_attention_heads", "intermediate_size"), _SIZE),
        "num_hidden_layers": _LAYERS,
        "hidden_act": _TEXT,
        **dict.fromkeys(("attention_dropout", "hidden_dropout"), _SHARE),
        "layer_norm_eps": _EPSILON,
        **dict.fromkeys(("use_parallel_residual", "attention_bias"), _FLAG),
        "rotary_emb_base": _BASE,
        "rotary_pct": _ROTATED,
        "rope_theta": _BASE,
        "partial_rotary_factor": _ROTATED,
    },
}
_ROPE = {
    "rope_theta": _BASE,
    "partial_rotary_factor": _ROTATED,
    **dict.fromkeys(("rope_type", "type"), _TEXT),
}
_ROPE_TABLES = ("rope_scaling", "rope_parameters")
# Names under which GPT-NeoX's rotation is also given; the class reads the first of each.
_ROPE_NAMES = {
    "rope_theta": ("rotary_emb_base", "rope_theta"),
    "partial_rotary_factor": ("rotary_pct", "partial_rotary_factor"),
}


def check_values(raw: Mapping[str, Any], family: str, aliases: Mapping[str, str], name: str) -> None:
    """Check the value of every field that the class reads.

    Args:
        raw: what config.json holds.
        aliases: other names of fields -> the name in `raw` that the class gives them.
        name: of the model.

    Raises:
        ValueError: a value of the wrong type or out of range, or two that contradict each other; the field is named.
    """
    kinds = _COMMON | _KINDS[family]
    for field, value in raw.items():
        kind = kinds.get(aliases.get(field, field))
        if kind is not None and not kind.accepts(value):
            raise bad_value(name, field, value, kind.expected)
    for alias, field in aliases.items():
        if alias in raw and field in raw and raw[alias] != raw[field]:
            raise _contradiction(name, alias, raw[alias], field, raw[field])
    if family == "gpt_neo":
        _check_spans(raw, aliases, name)
    if family == "gpt_neox":
        _check_rope(raw, name)


def bad_value(name: str, field: str, value: Any, expected: str) -> ValueError:
    """The error about a config field with an impossible value."""
    return ValueError(f"{name}: config field {field} = {shown(value)}: expected {expected}; correct it in config.json")


def field_to_blame(build: Callable[[dict[str, Any]], Any], fields: Mapping[str, Any]) -> str | None:
    """The field without which `build` accepts the others, if there is one."""
    for field in fields:
        with suppress(Exception):
            build({key: value for key, value in fields.items() if key != field})
            return field
    return None


def _contradiction(name: str, field: str, value: Any, other: str, held: Any) -> ValueError:
    return ValueError(
        f"{name}: config field {field} = {shown(value)} contradicts {other} = {shown(held)}: delete the wrong one from "
        "config.json"
    )


def _check_spans(raw: Mapping[str, Any], aliases: Mapping[str, str], name: str) -> None:
    """Check that GPT-Neo's `attention_layers` and `attention_types` say which kind each of its layers is."""
    names = [field for field in ("num_layers", *aliases) if aliases.get(field, field) == "num_layers"]
    layers = next((raw[field] for field in names if field in raw), 24)
    groups, kinds = raw.get("attention_types"), raw.get("attention_layers")
    counts = {"attention_types": sum(len(group) * times for group, times in groups or [[["global", "local"], 12]])}
    if kinds is not None:
        counts = {"attention_layers": len(kinds)} | (counts if groups else {})
    for field, count in counts.items():
        if count != layers:
            raise bad_value(name, field, raw.get(field), f"{layers} layers, as num_layers says, and not {count}")
    if kinds and groups and [kind for group, times in groups for kind in list(group) * times] != list(kinds):
        raise _contradiction(name, "attention_types", groups, "attention_layers", kinds)


def _check_rope(raw: Mapping[str, Any], name: str) -> None:
    for field in _ROPE_TABLES:
        for key, value in (raw.get(field) or {}).items():
            if key in _ROPE and not _ROPE[key].accepts(value):
                raise bad_value(name, f"{field}.{key}", value, _ROPE[key].expected)


def check_rotation(raw: Mapping[str, Any], rope: Mapping[str, Any], name: str) -> None:
    """Check that every field about GPT-NeoX's rotation says what the class has read, some of which it ignores.

    Args:
        rope: the parameters in force.

    Raises:
        ValueError: a field that says something else.
    """
    for key, names in _ROPE_NAMES.items():
        given = {field: raw[field] for field in names if raw.get(field) is not None}
        tables = {field: raw[field] for field in _ROPE_TABLES if raw.get(field)}
        given |= {f"{field}.{key}": table[key] for field, table in tables.items() if key in table}
        for field, value in given.items():
            if value != rope[key]:
                raise _contradiction(name, field, value, f"rope_parameters.{key}", rope[key])
