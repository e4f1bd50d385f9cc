"""The config of a model from `neolens.load`: complete, and true under `neolens.what_if`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from transformer_lens.config.transformer_bridge_config import TransformerBridgeConfig

from neolens.models.anatomy import Anatomy
from neolens.models.state import ModelState


def _follows_state(name: str, value: Callable[[Anatomy], Any]) -> property:
    """A field of the config that is computed from the anatomy in force and cannot be set."""

    def refuse(config: LiveConfig, _: Any) -> None:
        raise AttributeError(f"cfg.{name} says what is in force and cannot be set: use neolens.what_if(model, ...)")

    return property(lambda config: value(config._neolens_state.anatomy), refuse)


class LiveConfig(TransformerBridgeConfig):
    """A config whose fields about attention and context say what is in force on the model."""

    _neolens_state: ModelState

    attn_types = _follows_state("attn_types", lambda anatomy: [span.kind for span in anatomy.attention])
    use_local_attn = _follows_state("use_local_attn", lambda anatomy: bool(anatomy.windows))
    window_size = _follows_state("window_size", lambda anatomy: next(iter(anatomy.windows), None))
    n_ctx = _follows_state("n_ctx", lambda anatomy: anatomy.context)


def complete_cfg(cfg: Any, anatomy: Anatomy) -> None:
    """Write into the config what TransformerLens leaves at its defaults."""
    cfg.use_attn_scale = anatomy.scale != 1.0
    cfg.attn_scale = 1 / anatomy.scale
    cfg.scale_attn_by_inverse_layer_idx = anatomy.inverse_layer_scale
    cfg.n_params = anatomy.parameters_without_embeddings
    if anatomy.position.kind == "rotary":
        cfg.rotary_dim = anatomy.position.rotary_dims
        cfg.rotary_base = anatomy.position.base
        cfg.rotary_pct = anatomy.position.rotary_dims / anatomy.d_head
        cfg.rotary_adjacent_pairs = False
