"""What a model is made of: the facts in which GPT-2, GPT-Neo and Pythia differ.

`Anatomy` holds them as one frozen value, read from the Hugging Face config and never guessed, so that a
comparison can say what else differs between two models besides the thing asked about. Parameter counts follow
from the shapes. Sources: the architectures' reference code in transformers; GPT-Neo's alternation of global and
local layers (counting from 0, layer 0 is global) in the released checkpoints' `attention_types`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

from neolens import checks
from neolens.checks import check_choice, check_number, check_type, check_whole, shown
from neolens.models.treatments import Treatment, in_words

if TYPE_CHECKING:
    from transformers import PretrainedConfig

Family = Literal["gpt2", "gpt_neo", "gpt_neox"]

FAMILY_TITLES: dict[str, str] = {"gpt2": "GPT-2", "gpt_neo": "GPT-Neo", "gpt_neox": "GPT-NeoX (Pythia)"}


@dataclass(frozen=True)
class AttentionSpan:
    """Which keys a query at position i sees: all j <= i (global), or those with i - j <= window - 1 (local)."""

    kind: Literal["global", "local"]
    window: int | None = None

    def __post_init__(self) -> None:
        if self.kind not in ("global", "local"):
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
        if self.kind not in ("absolute", "rotary", "none"):
            raise ValueError(f"position kind {shown(self.kind)}: expected 'absolute', 'rotary' or 'none'")
        if self.kind == "rotary":
            check_number(self.base, "base of the rotation", above=0)
            if check_whole(self.rotary_dims, "rotary_dims", 2) % 2:
                raise ValueError(f"rotary_dims {self.rotary_dims}: expected an even number")
        elif self.rotary_dims or self.base is not None:
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
        checks.check_text(self.name, "name of an Anatomy")
        check_choice(self.family, "family", FAMILY_TITLES)
        for size in ("layers", "heads", "d_model", "d_head", "d_mlp", "d_vocab", "context", "parameters"):
            check_whole(getattr(self, size), size, 1)
        for span in checks.check_list(self.attention, "attention", "AttentionSpan"):
            check_type(span, "attention", AttentionSpan, "a neolens.AttentionSpan per layer")
        if len(self.attention) != self.layers:
            raise ValueError(f"attention of {len(self.attention)} layers: expected one span per layer, {self.layers}")
        check_type(self.position, "position", Position, "a neolens.Position")

    @property
    def windows(self) -> tuple[int, ...]:
        """The distinct windows of the local layers, ascending; empty where every layer is global."""
        return tuple(sorted({span.window for span in self.attention if span.window is not None}))

    def layer_scale(self, layer: int) -> float:
        """What multiplies the scores of a layer: `scale`, divided by layer + 1 where `inverse_layer_scale` (GPT-2 with
        `scale_attn_by_inverse_layer_idx`)."""
        checks.check_index(layer, "layer", self.layers, self.name)
        return self.scale / float(layer + 1) if self.inverse_layer_scale else self.scale

    def layers_of_kind(self, kind: str) -> tuple[int, ...]:
        """The layers whose attention is `kind` ("global" or "local")."""
        check_choice(kind, "kind of attention", ("global", "local"))
        return tuple(layer for layer, span in enumerate(self.attention) if span.kind == kind)


def from_config(
    config: PretrainedConfig,
    name: str,
    *,
    data: str | None = None,
    tokenizer: str | None = None,
    ignored_fields: tuple[str, ...] = (),
) -> Anatomy:
    """The anatomy that a (supported) Hugging Face config describes."""
    facts = _READERS[config.model_type](config)
    d_model, layers = facts["d_model"], facts["layers"]
    facts["d_head"] = d_model // facts["heads"]
    total, inner = _parameter_counts(facts)
    return Anatomy(
        name=name,
        family=config.model_type,
        parameters=total,
        parameters_without_embeddings=inner,
        data=data,
        tokenizer=tokenizer,
        ignored_fields=ignored_fields,
        **{**facts, "attention": tuple(facts["attention"][:layers])},
    )


def _gpt2(config: PretrainedConfig) -> dict:
    return {
        "layers": config.n_layer,
        "heads": config.n_head,
        "d_model": config.n_embd,
        "d_mlp": config.n_inner or 4 * config.n_embd,
        "d_vocab": config.vocab_size,
        "context": config.n_positions,
        "attention": [AttentionSpan("global")] * config.n_layer,
        "position": Position("absolute"),
        "scale": (config.n_embd // config.n_head) ** -0.5 if config.scale_attn_weights else 1.0,
        "upcasts_scores": config.reorder_and_upcast_attn,
        "inverse_layer_scale": config.scale_attn_by_inverse_layer_idx,
        "parallel": False,
        "activation": config.activation_function,
        "norm_eps": config.layer_norm_epsilon,
        "qkv_bias": True,
        "tied_embedding": config.tie_word_embeddings,
        "dropout": max(config.attn_pdrop, config.resid_pdrop, config.embd_pdrop),
    }


def _gpt_neo(config: PretrainedConfig) -> dict:
    spans = {"global": AttentionSpan("global"), "local": AttentionSpan("local", config.window_size)}
    return {
        "layers": config.num_layers,
        "heads": config.num_heads,
        "d_model": config.hidden_size,
        "d_mlp": config.intermediate_size or 4 * config.hidden_size,
        "d_vocab": config.vocab_size,
        "context": config.max_position_embeddings,
        "attention": [spans[kind] for kind in config.attention_layers],
        "position": Position("absolute"),
        "scale": 1.0,
        "upcasts_scores": True,
        "parallel": False,
        "activation": config.activation_function,
        "norm_eps": config.layer_norm_epsilon,
        "qkv_bias": False,
        "tied_embedding": config.tie_word_embeddings,
        "dropout": max(config.attention_dropout, config.resid_dropout, config.embed_dropout),
    }


def _gpt_neox(config: PretrainedConfig) -> dict:
    d_head = config.hidden_size // config.num_attention_heads
    rotary_dims = int(d_head * config.rope_parameters["partial_rotary_factor"])
    base = float(config.rope_parameters["rope_theta"])
    return {
        "layers": config.num_hidden_layers,
        "heads": config.num_attention_heads,
        "d_model": config.hidden_size,
        "d_mlp": config.intermediate_size,
        "d_vocab": config.vocab_size,
        "context": config.max_position_embeddings,
        "attention": [AttentionSpan("global")] * config.num_hidden_layers,
        "position": Position("rotary", rotary_dims, base) if rotary_dims else Position("none"),
        "scale": d_head**-0.5,
        "parallel": config.use_parallel_residual,
        "activation": config.hidden_act,
        "norm_eps": config.layer_norm_eps,
        "qkv_bias": True,
        "tied_embedding": config.tie_word_embeddings,
        "dropout": max(config.attention_dropout, config.hidden_dropout),
    }


_READERS = {"gpt2": _gpt2, "gpt_neo": _gpt_neo, "gpt_neox": _gpt_neox}


def _parameter_counts(facts: dict) -> tuple[int, int]:
    """Parameters in all, and without token, position and output embeddings."""
    d, m = facts["d_model"], facts["d_mlp"]
    attention = 4 * d * d + d + (3 * d if facts["qkv_bias"] else 0)
    block = attention + 2 * d * m + m + d + 4 * d
    inner = facts["layers"] * block + 2 * d
    embeddings = facts["d_vocab"] * d * (1 if facts["tied_embedding"] else 2)
    if facts["position"].kind == "absolute":
        embeddings += facts["context"] * d
    return inner + embeddings, inner
