"""What a model is made of: the facts in which GPT-2, GPT-Neo and Pythia differ.

`Anatomy` holds them as one frozen value, read from the Hugging Face config and never guessed, so that a
comparison can say what else differs between two models besides the thing asked about. Parameter counts follow
from the shapes. Sources: the architectures' reference code in transformers; GPT-Neo's alternation of global and
local layers (counting from 0, layer 0 is global) in the released checkpoints' `attention_types`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from neolens.checks import (
    check_choice,
    check_fields,
    check_index,
    check_list,
    check_number,
    check_text,
    check_type,
    check_whole,
    shown,
)
from neolens.models.supported import ACTIVATIONS
from neolens.models.treatments import Treatment, in_words

Family = Literal["gpt2", "gpt_neo", "gpt_neox"]

_BOUNDS = {
    "scale": (1e-9, 1),
    "norm_eps": (1e-30, 1),
    "parameters": (1, 2**62),
    "parameters_without_embeddings": (0, 2**62),
}
"""Of an `Anatomy`'s numbers, where they are not those of `check_fields`."""

FAMILY_TITLES: dict[str, str] = {"gpt2": "GPT-2", "gpt_neo": "GPT-Neo", "gpt_neox": "GPT-NeoX (Pythia)"}


@dataclass(frozen=True)
class AttentionSpan:
    """Which keys a query at position i sees: all j <= i (global), or those with i - j <= window - 1 (local)."""

    kind: Literal["global", "local"]
    window: int | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.kind, str) or self.kind not in ("global", "local"):
            raise ValueError(f"attention kind {shown(self.kind)} is unknown: expected 'global' or 'local'")
        if self.kind == "global" and self.window is not None:
            raise ValueError(f"a global layer has no window, got {shown(self.window)}: pass window=None")
        if self.kind == "local":
            if self.window is None:
                raise ValueError("a local layer needs a window of at least 1 key, got None")
            window = check_whole(self.window, "a local layer needs a window of at least 1 key, got", 1, 2**31 - 1)
            object.__setattr__(self, "window", window)

    def __str__(self) -> str:
        return self.kind if self.window is None else f"{self.kind} {self.window}"


@dataclass(frozen=True)
class Position:
    """How the model knows where a token is: a learned absolute embedding, a rotation of q and k, or not at all.

    `treatment`: what `neolens.what_if` does to it; None in a model as it was built.
    """

    kind: Literal["absolute", "rotary", "none"]
    rotary_dims: int = 0
    base: float | None = None
    treatment: Treatment | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.kind, str) or self.kind not in ("absolute", "rotary", "none"):
            raise ValueError(f"position kind {shown(self.kind)}: expected 'absolute', 'rotary' or 'none'")
        if self.kind == "rotary":
            object.__setattr__(self, "base", check_number(self.base, "base of the rotation", above=0))
            object.__setattr__(self, "rotary_dims", check_whole(self.rotary_dims, "rotary_dims", 2, 2**31 - 1))
            if self.rotary_dims % 2:
                raise ValueError(f"rotary_dims {self.rotary_dims}: expected an even number")
        elif check_whole(self.rotary_dims, "rotary_dims") or self.base is not None:
            raise ValueError(f"a position of kind {self.kind} has no rotary_dims and no base: leave them out")
        if self.treatment is not None:
            check_type(self.treatment, "treatment", get_args(Treatment), "one such as neolens.whatif.Shift(8), or None")

    @property
    def frequencies(self) -> tuple[float, ...]:
        """Radians a position by which each pair (m, m + rotary_dims / 2) turns: base ** (-2 m / rotary_dims)."""
        if self.base is None:
            return ()
        return tuple(self.base ** (-2 * m / self.rotary_dims) for m in range(self.rotary_dims // 2))

    def __str__(self) -> str:
        words: list[str] = [self.kind]
        if self.kind == "rotary":
            words += [f"{self.rotary_dims} dimensions a head", f"base {self.base:g}"]
        return ", ".join(words if self.treatment is None else [*words, in_words(self.treatment)])


@dataclass(frozen=True)
class Anatomy:
    """The architecture of one model.

    `scale` multiplies the score q . k before the softmax (1 in GPT-Neo, d_head ** -0.5 elsewhere), see `layer_scale`.
    `upcasts_scores`: scores and softmax are computed in float32 in half precision too (GPT-Neo, and GPT-2 with
    `reorder_and_upcast_attn`), else in the dtype of the model, in which they can overflow. `parallel`: the MLP reads
    the block's input, not the residual stream after attention. `parameters_without_embeddings` leaves out token,
    position and output embeddings. `data` and `tokenizer` are known for catalogue names only.
    `ignored_fields`: unknown fields of the config that the caller has declared to change nothing.
    Fields of another type, and sizes that no model has, raise TypeError and ValueError.
    """

    name: str
    family: Family
    layers: int
    heads: int
    d_model: int
    d_head: int
    d_mlp: int
    d_vocab: int
    context: int
    attention: tuple[AttentionSpan, ...]
    position: Position
    scale: float
    parallel: bool
    activation: str
    norm_eps: float
    qkv_bias: bool
    tied_embedding: bool
    dropout: float
    parameters: int
    parameters_without_embeddings: int
    data: str | None = None
    tokenizer: str | None = None
    upcasts_scores: bool = False
    inverse_layer_scale: bool = False
    ignored_fields: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_fields(self, _BOUNDS)
        check_choice(self.family, "family", FAMILY_TITLES)
        check_choice(self.activation, "activation", ACTIVATIONS)
        spans, ignored = check_list(self.attention, "attention", "AttentionSpan"), self.ignored_fields
        for span in spans:
            check_type(span, "attention", AttentionSpan, "a neolens.AttentionSpan per layer")
        if len(spans) != self.layers:
            raise ValueError(f"attention of {len(spans)} layers: expected one span per layer, {self.layers}")
        check_type(self.position, "position", Position, "a neolens.Position")
        if self.heads * self.d_head != self.d_model:
            raise ValueError(f"{self.heads} heads of d_head {self.d_head}: expected d_model, {self.d_model}, in all")
        if self.position.rotary_dims > self.d_head:
            raise ValueError(f"rotary_dims {self.position.rotary_dims}: expected at most d_head, {self.d_head}")
        if self.parameters_without_embeddings > self.parameters:
            without = f"parameters_without_embeddings {self.parameters_without_embeddings}"
            raise ValueError(f"{without}: expected at most parameters, {self.parameters}")
        object.__setattr__(self, "attention", tuple(spans))
        fields_ = [check_text(name, "ignored_fields") for name in check_list(ignored, "ignored_fields", "names")]
        object.__setattr__(self, "ignored_fields", tuple(fields_))

    @property
    def windows(self) -> tuple[int, ...]:
        """The distinct windows of the local layers, ascending; empty where every layer is global."""
        return tuple(sorted({span.window for span in self.attention if span.window is not None}))

    def layer_scale(self, layer: int) -> float:
        """What multiplies the scores of a layer: `scale`, divided by layer + 1 where `inverse_layer_scale` (GPT-2 with
        `scale_attn_by_inverse_layer_idx`)."""
        layer = check_index(layer, "layer", self.layers, self.name)
        return self.scale / (layer + 1) if self.inverse_layer_scale else self.scale

    def layers_of_kind(self, kind: str) -> tuple[int, ...]:
        """The layers whose attention is `kind` ("global" or "local")."""
        check_choice(kind, "kind of attention", ("global", "local"))
        return tuple(layer for layer, span in enumerate(self.attention) if span.kind == kind)
