"""Which Hugging Face configs neolens handles, and a refusal by name of every other.

A config that describes other mathematics (another activation, a scaled rotation, a sliding window) would give wrong
numbers without a warning, so every value is checked here, and every field in `config_fields`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from neolens.checks import shown
from neolens.models.config_fields import check_fields, read_fields, refuse, unread_fields
from neolens.models.config_values import bad_value, check_rotation, check_values, field_to_blame

if TYPE_CHECKING:
    from transformers import PretrainedConfig

ACTIVATIONS = ("gelu_new", "gelu", "gelu_pytorch_tanh", "gelu_fast", "relu")

_CAUSAL = {"gpt2": "GPT2LMHeadModel", "gpt_neo": "GPTNeoForCausalLM", "gpt_neox": "GPTNeoXForCausalLM"}
_PREFIXES = {"gpt2": "GPT2", "gpt_neo": "GPTNeo", "gpt_neox": "GPTNeoX"}
# Classes that have the language model's head, and those that have it only where it is the token embedding.
_WITH_HEAD = ("LMHeadModel", "ForCausalLM", "DoubleHeadsModel", "HeadWithValueModel")
_WITHOUT_HEAD = ("Model", "ForSequenceClassification", "ForTokenClassification", "ForQuestionAnswering")

# Fields whose other values would change the mathematics in a way that neolens does not compute.
_FIXED: dict[str, dict[str, Any]] = {
    "gpt2": {
        "add_cross_attention": False,
    },
    "gpt_neo": {},
    "gpt_neox": {"attention_bias": True},
}


def supported_config(raw: dict[str, Any], name: str, ignore_fields: Sequence[str] = ()) -> PretrainedConfig:
    """The config object of a config.json that neolens handles, made of the fields that its class reads.

    Args:
        ignore_fields: fields that neolens does not know and that change nothing.

    Raises:
        ValueError: the architecture, or a field that would change the mathematics, is not handled; named.
    """
    from transformers import GPT2Config, GPTNeoConfig, GPTNeoXConfig

    classes = {"gpt2": GPT2Config, "gpt_neo": GPTNeoConfig, "gpt_neox": GPTNeoXConfig}
    family = raw.get("model_type")
    if family is None and (known := _family_of(raw.get("architectures"))):
        raise ValueError(
            f'{name}: config.json has no model_type: add "model_type": "{known}" (its architectures are '
            f"{raw['architectures']})"
        )
    if not isinstance(family, str) or family not in classes:
        raise ValueError(
            f"{name}: model_type {shown(family)} is not handled: neolens handles gpt2, gpt_neo and gpt_neox "
            "(GPT-2, GPT-Neo, Pythia); use transformer_lens directly for others"
        )
    check_values(raw, family, classes[family].attribute_map, name)
    config = _built(classes[family], raw, name)
    refuse_unsupported(config, raw, name, ignore_fields)
    return config


def _built(config_class: type[PretrainedConfig], raw: dict[str, Any], name: str) -> PretrainedConfig:
    """The config object; the class may change what it is given, so that it gets copies of inner objects."""
    read = read_fields(config_class)
    fields = {key: dict(value) if isinstance(value, dict) else value for key, value in raw.items() if key in read}
    with quiet_transformers():
        try:
            return config_class.from_dict(dict(fields))
        except Exception as error:  # transformers raises errors of its own kinds for bad values
            if field := field_to_blame(config_class.from_dict, fields):
                raise bad_value(name, field, raw[field], f"a valid value ({first_line(error)})") from error
            title = config_class.__name__
            raise ValueError(f"{name}: config.json is not a valid {title}: {first_line(error)}") from error


def refuse_unsupported(
    config: PretrainedConfig, raw: dict[str, Any], name: str, ignore_fields: Sequence[str] = ()
) -> None:
    """Raise a ValueError that names the first field of the config that neolens does not handle."""
    family = config.model_type
    _refuse_architecture(config, raw.get("architectures"), name)
    for field, expected in _FIXED[family].items():
        if getattr(config, field) != expected:
            refuse(name, field, getattr(config, field), f"neolens computes {expected!r} only")
    if raw.get("is_causal", True) is not True:
        refuse(name, "is_causal", raw["is_causal"], "neolens computes causal attention only")
    activation = "hidden_act" if family == "gpt_neox" else "activation_function"
    if getattr(config, activation) not in ACTIVATIONS:
        refuse(name, activation, getattr(config, activation), f"neolens knows {', '.join(ACTIVATIONS)}")
    _refuse_shapes(config, name)
    if family == "gpt_neo" and "local" in config.attention_layers and config.window_size < 1:
        refuse(name, "window_size", config.window_size, "expected at least 1 key")
    if family == "gpt_neox":
        check_rotation(raw, config.rope_parameters, name)
        _refuse_rope(config, raw, name)
    check_fields(config, raw, name, ignore_fields)


def ignored_fields(config: PretrainedConfig, raw: dict[str, Any], ignore_fields: Sequence[str]) -> tuple[str, ...]:
    """The fields of a config.json that are unknown and loaded without because the caller named them."""
    return tuple(sorted({*ignore_fields} & {*unread_fields(config, raw)}))


def _family_of(architectures: Any) -> str | None:
    """The family of which one of the architectures is a class."""
    names = [name for name in architectures if isinstance(name, str)] if isinstance(architectures, list) else []
    ends = (*_WITH_HEAD, *_WITHOUT_HEAD)
    return next((key for key, start in _PREFIXES.items() if {*names} & {start + end for end in ends}), None)


def _refuse_architecture(config: PretrainedConfig, architectures: Any, name: str) -> None:
    family = config.model_type
    if not architectures:
        return
    if _family_of(architectures) != family:
        refuse(name, "architectures", architectures, f"neolens handles the language model {_CAUSAL[family]}")
    whole = {_PREFIXES[family] + end for end in (*_WITH_HEAD, "Model")}
    if not whole & {*architectures} and not config.tie_word_embeddings:
        refuse(
            name,
            "architectures",
            architectures,
            "it has no language-model head, and the token embedding does not serve as one (tie_word_embeddings is "
            f"false): neolens handles the language model {_CAUSAL[family]}",
        )


def _refuse_shapes(config: PretrainedConfig, name: str) -> None:
    heads, d_model = config.num_attention_heads, config.hidden_size
    if d_model % heads:
        names = {key: config.attribute_map.get(key, key) for key in ("num_attention_heads", "hidden_size")}
        raise ValueError(
            f"{name}: config field {names['num_attention_heads']} = {heads}: {heads} heads do not divide the width "
            f"{d_model} ({names['hidden_size']}); correct it in config.json"
        )
    if getattr(config, "head_dim", None) not in (None, d_model // heads):
        refuse(name, "head_dim", config.head_dim, f"neolens computes width / heads = {d_model // heads}")


def _refuse_rope(config: PretrainedConfig, raw: dict[str, Any], name: str) -> None:
    rope = config.rope_parameters
    if rope.get("rope_type", "default") != "default":
        refuse(name, "rope_type", rope["rope_type"], "neolens rotates by the default frequencies only")
    extra = sorted(set(rope) - {"rope_type", "rope_theta", "partial_rotary_factor"})
    if extra:
        refuse(
            name,
            f"{'rope_scaling' if raw.get('rope_scaling') else 'rope_parameters'}.{extra[0]}",
            rope[extra[0]],
            "unknown to neolens",
        )
    dims = int(config.hidden_size // config.num_attention_heads * rope["partial_rotary_factor"])
    if dims % 2:
        refuse(name, "partial_rotary_factor", rope["partial_rotary_factor"], f"{dims} rotated dimensions are odd")


def first_line(error: BaseException) -> str:
    """The first line of an error of another library, short enough to stand within one of ours."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)[:160]


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Without transformers' loading report and bar: what they say is checked, and raised, by us."""
    from transformers.utils import logging

    verbosity, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bar:
            logging.enable_progress_bar()
