"""Models whose architecture neolens does not know: as much as measuring their attention needs, and no more.

`Foreign` holds what the Hugging Face config says of the attention's size and of the keys that each layer's queries
see, in the words of transformers: `layer_types`, `sliding_window`, `use_sliding_window`. A window w means 0 <= i - j <=
w - 1 there too. What is said in other words is refused, not guessed; that the model attends as its config says is
checked where it is measured.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from neolens.checks import check_type
from neolens.models.anatomy import FAMILY_TITLES, Anatomy, AttentionSpan
from neolens.models.loading import anatomy

_KINDS = {"full_attention": "global", "sliding_attention": "local"}

_OTHER_WINDOWS = re.compile(r"window|local_att|^attention_(chunk|layers|types)")
_OURS = ("sliding_window", "use_sliding_window")


@dataclass(frozen=True)
class Foreign:
    """The size of a model's attention, and which keys each layer's queries see."""

    name: str
    architecture: str
    layers: int
    heads: int
    d_vocab: int
    context: int
    attention: tuple[AttentionSpan, ...]

    def layers_of_kind(self, kind: str) -> tuple[int, ...]:
        """The layers whose attention is `kind` ("global" or "local")."""
        return tuple(layer for layer, span in enumerate(self.attention) if span.kind == kind)


Facts = Anatomy | Foreign
"""What is known of a model: all of it, or what its attention needs."""


def facts_of(model: Any) -> Facts:
    """The anatomy of a hooked model where neolens handles the architecture, else what its config says of its attention.

    Args:
        model: any TransformerBridge.

    Raises:
        ValueError: a config that does not say what each layer's queries see, or says it in words unknown here.
    """
    known = getattr(model, "anatomy", None)
    if isinstance(known, Anatomy):
        return known
    config: Any = getattr(model.original_model, "config", None)
    if not hasattr(config, "get_text_config"):
        raise ValueError(
            f"{type(model.original_model).__name__} has no Hugging Face config to read its attention from: build the "
            "bridge from a Hugging Face model"
        )
    try:
        return anatomy(model)
    except ValueError as error:  # another architecture, or a field that would change more than its attention
        try:
            return _foreign(config.get_text_config(), model)
        except ValueError as other:
            raise (error if config.model_type in FAMILY_TITLES else other) from None


def _foreign(config: Any, model: Any) -> Foreign:
    architecture = type(model.original_model).__name__
    name = getattr(config, "_name_or_path", "") or architecture
    if getattr(config, "is_encoder_decoder", False):
        raise ValueError(f"{name} is an encoder with a decoder: expected a causal language model")
    layers = _whole(config, "num_hidden_layers", name)
    has_context = getattr(config, "max_position_embeddings", None) is not None
    return Foreign(
        name=name,
        architecture=architecture,
        layers=layers,
        heads=_whole(config, "num_attention_heads", name),
        d_vocab=_whole(config, "vocab_size", name),
        context=_whole(config, "max_position_embeddings", name) if has_context else model.cfg.n_ctx,
        attention=_spans(config, layers, name),
    )


def _spans(config: Any, layers: int, name: str) -> tuple[AttentionSpan, ...]:
    """One span a layer: by `layer_types`, else the window in all layers, else global."""
    types = getattr(config, "layer_types", None)
    if types is None:
        sliding = bool(getattr(config, "sliding_window", None) and getattr(config, "use_sliding_window", True))
        _refuse_other_windows(config, name, sliding)
        types = ["sliding_attention" if sliding else "full_attention"] * layers
    if len(types) != layers:
        raise ValueError(f"{name}: config field layer_types names {len(types)} layers: expected all {layers}")
    for layer, kind in enumerate(types):
        if kind not in _KINDS:
            raise ValueError(
                f"{name}: layer {layer} is {kind!r} in config field layer_types: neolens measures "
                f"{' and '.join(_KINDS)} only"
            )
    local = _whole(config, "sliding_window", name) if "sliding_attention" in types else None
    return tuple(
        AttentionSpan("global") if kind == "full_attention" else AttentionSpan("local", local) for kind in types
    )


def _refuse_other_windows(config: Any, name: str, sliding: bool) -> None:
    idle = () if sliding else ("max_window_layers",)
    for field, value in config.to_dict().items():
        if value and _OTHER_WINDOWS.search(field) and field not in (*_OURS, *idle):
            raise ValueError(
                f"{name}: config field {field} = {value!r} is not handled: it may say which keys are seen, and neolens "
                "reads layer_types and sliding_window only"
            )


def _whole(config: Any, field: str, name: str) -> int:
    """A field of the config that is a whole number, 1 or more."""
    value = getattr(config, field, None)
    if not isinstance(value, int) or value < 1:
        raise ValueError(
            f"{name}: config field {field} is {value!r}: expected a whole number that holds for every layer"
        )
    return value


def check_anatomy(anatomy: Any) -> Facts:
    """The anatomy itself.

    Raises:
        TypeError: it is none.
    """
    return check_type(anatomy, "anatomy", (Anatomy, Foreign), "that of a model, as of neolens.anatomy(model)")
