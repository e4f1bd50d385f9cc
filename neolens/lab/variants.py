"""The arms: networks that are to differ in one thing only, as rows of a table.

Each arm is an ordinary Hugging Face class. What the classes do differently besides attention and position is
set alike (tied embedding, activation, no dropout, no biases on queries, keys and values); what is left is in
`DIFFERENCES`.
All arms start from the same values (see `start`) and are trained by the same recipe.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from transformers import GPT2Config, GPTNeoConfig, GPTNeoXConfig, PreTrainedConfig

from neolens.checks import check_fields, check_type
from neolens.lab.language.words import BOS_ID, VOCABULARY


@dataclass(frozen=True)
class Size:
    """What all arms share: the shape of the network."""

    layers: int = 4
    heads: int = 4
    width: int = 64
    context: int = 128
    window: int = 16
    """How many tokens a local layer sees, the present one among them."""
    vocabulary: int = len(VOCABULARY)
    spread: float = 0.08
    """Standard deviation of the starting values."""

    def __post_init__(self) -> None:
        check_fields(self, {"spread": (1e-9, 1e9)})
        if self.width % self.heads:
            raise ValueError(f"width {self.width} of a Size: expected a multiple of its {self.heads} heads")


@dataclass(frozen=True)
class Arm:
    """One network of the family."""

    name: str
    config: Callable[[Size], PreTrainedConfig]
    scores_scaled: bool
    """Whether the class divides scores by the square root of the head's width. Where it does not, queries and
    keys start smaller by the fourth root and learn at a rate as much lower: under Adam the same thing."""


def _check_size(size: Any) -> Size:
    return check_type(size, "size", Size, "a neolens.lab.variants.Size")


def _shared(size: Size) -> dict[str, object]:
    special = {"bos_token_id": BOS_ID, "eos_token_id": BOS_ID}
    return {
        "vocab_size": size.vocabulary,
        "initializer_range": size.spread,
        "tie_word_embeddings": True,
        **special,
    }


def gpt2_config(size: Size) -> PreTrainedConfig:
    """All layers global, learned absolute positions, attention before MLP."""
    _check_size(size)
    shape = {"n_layer": size.layers, "n_head": size.heads, "n_embd": size.width, "n_positions": size.context}
    return GPT2Config(resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, **shape, **_shared(size))


def gpt_neo_config(size: Size) -> PreTrainedConfig:
    """Global and local layers in turn, the first global; otherwise as GPT-2."""
    if _check_size(size).layers % 2:
        raise ValueError(f"{size.layers} layers of a Size: expected an even number, half of them local")
    return _gpt_neo_config(size, [[["global", "local"], size.layers // 2]])


def gpt_neo_global_config(size: Size) -> PreTrainedConfig:
    """As `gpt_neo_config`, every layer global."""
    return _gpt_neo_config(size, [[["global"], _check_size(size).layers]])


def _gpt_neo_config(size: Size, attention_types: list) -> PreTrainedConfig:
    return GPTNeoConfig(
        num_layers=size.layers,
        num_heads=size.heads,
        hidden_size=size.width,
        max_position_embeddings=size.context,
        attention_types=attention_types,
        window_size=size.window,
        **_shared(size),
    )


def _neox_config(size: Size, *, rotary: float, parallel: bool) -> PreTrainedConfig:
    return GPTNeoXConfig(
        num_hidden_layers=_check_size(size).layers,
        num_attention_heads=size.heads,
        hidden_size=size.width,
        intermediate_size=4 * size.width,
        max_position_embeddings=size.context,
        hidden_act="gelu_new",
        rotary_pct=rotary,
        use_parallel_residual=parallel,
        **_shared(size),
    )


def pythia_config(size: Size) -> PreTrainedConfig:
    """All layers global, a quarter of each head rotary, attention and MLP side by side."""
    return _neox_config(size, rotary=0.25, parallel=True)


def pythia_sequential_config(size: Size) -> PreTrainedConfig:
    """As `pythia_config`, attention before MLP."""
    return _neox_config(size, rotary=0.25, parallel=False)


def nope_config(size: Size) -> PreTrainedConfig:
    """As `pythia_sequential_config`, nothing rotated: no position code at all."""
    return _neox_config(size, rotary=0.0, parallel=False)


ARMS: Mapping[str, Arm] = MappingProxyType(
    {
        arm.name: arm
        for arm in (
            Arm("gpt2", gpt2_config, scores_scaled=True),
            Arm("gpt-neo", gpt_neo_config, scores_scaled=False),
            Arm("gpt-neo-global", gpt_neo_global_config, scores_scaled=False),
            Arm("pythia", pythia_config, scores_scaled=True),
            Arm("pythia-sequential", pythia_sequential_config, scores_scaled=True),
            Arm("nope", nope_config, scores_scaled=True),
        )
    }
)
"""Arm's name -> arm."""

DIFFERENCES = (
    "GPT-Neo does not scale its scores: its queries and keys start smaller and learn at a rate as much lower, which is "
    "the same training up to the clipping of gradients and rounding",
    "the biases of queries, keys and values, which GPT-Neo does not have, stay 0 in the other arms",
    "the pythia arm differs from the gpt2 arm in two things, rotary positions and parallel blocks; "
    "pythia-sequential differs in the first alone",
)
"""What the arms do not share although no question asks about it, or share although the classes would not."""
