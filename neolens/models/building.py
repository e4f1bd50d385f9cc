"""From a Hugging Face model to a bridge made of neolens's components.

The components are put in place through `build_bridge_from_module`'s hook for this one model; no adapter is
registered and no class is changed, so a model booted beside ours by TransformerLens behaves as it always did.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from transformer_lens.model_bridge.sources import build_bridge_from_module

from neolens.models.anatomy import Anatomy
from neolens.models.bridge import Bridge
from neolens.models.components import (
    JointAttention,
    PositionEmbedding,
    RotaryAttention,
    RotaryEmbedding,
    SequentialBlock,
    WindowedAttention,
)
from neolens.models.hook_points import CloningHookPoint, InPlaceEditHookPoint
from neolens.models.joint_product import without_parameters
from neolens.models.live_config import LiveConfig, complete_cfg
from neolens.models.modifications import inspect
from neolens.models.state import ModelState

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_ARCHITECTURES = {"gpt2": "GPT2LMHeadModel", "gpt_neo": "GPTNeoForCausalLM", "gpt_neox": "GPTNeoXForCausalLM"}


def build_bridge(model: PreTrainedModel, anatomy: Anatomy, *, tokenizer: Any | None = None) -> Bridge:
    """Wrap a Hugging Face model of the three families; its submodules are replaced, its weights are not copied."""
    bridge = build_bridge_from_module(
        model,
        _ARCHITECTURES[anatomy.family],
        hf_config=model.config,
        dtype=model.dtype,
        device=model.device,
        model_name=anatomy.name,
        post_adapter_hook=lambda adapter: _place_components(adapter, anatomy),
    )
    complete_cfg(bridge.cfg, anatomy)
    state = ModelState(anatomy, anatomy.name)
    object.__setattr__(bridge.cfg, "_neolens_state", state)
    bridge.cfg.__class__ = LiveConfig
    bridge.__class__ = Bridge
    bridge._neolens_state = state
    for name in {"pos_embed", "rotary_emb"} & {*bridge._modules}:
        bridge._modules[name].state = state
    for layer, block in enumerate(bridge.blocks):
        block.attn.state, block.attn.layer = state, layer
        if "qkv" in block.attn._modules:
            without_parameters(block.attn.qkv.original_component)
    bridge.cfg.default_prepend_bos = True  # upstream does not for GPT-NeoX
    bridge.tokenizer = tokenizer
    bridge._complete()
    state.structure = inspect(bridge).structure
    return bridge


def _place_components(adapter: Any, anatomy: Anatomy) -> None:
    mapping, cfg = adapter.component_mapping, adapter.cfg
    blocks = mapping["blocks"]
    parts = dict(blocks.submodules)
    for norm in (parts["ln1"], parts["ln2"], mapping["ln_final"]):
        norm.use_native_layernorm_autograd = True
        norm.hook_in = CloningHookPoint()
        norm.hook_scale, norm.hook_normalized = InPlaceEditHookPoint(), InPlaceEditHookPoint()
    if anatomy.family == "gpt_neo":
        parts["attn"] = WindowedAttention("attn.attention", cfg, parts["attn"].submodules)
    elif anatomy.family == "gpt2":
        parts["attn"] = JointAttention("attn", cfg, submodules=_fused(parts["attn"]))
    else:
        parts["attn"] = RotaryAttention(
            "attention",
            cfg,
            split_qkv_matrix=adapter.split_qkv_matrix,
            submodules=_fused(parts["attn"]),
            requires_attention_mask=True,
        )
        parts["attn"].hook_cos, parts["attn"].hook_sin = CloningHookPoint(), CloningHookPoint()
    for linear in ("q", "k", "v"):
        parts["attn"].submodules[linear].hook_in = CloningHookPoint()
    mapping["embed"].hook_in = CloningHookPoint()  # the tokens are the caller's
    if "pos_embed" in mapping:
        mapping["pos_embed"] = PositionEmbedding(mapping["pos_embed"].name)
    if "rotary_emb" in mapping:
        mapping["rotary_emb"] = RotaryEmbedding(mapping["rotary_emb"].name)
    if anatomy.parallel:
        mapping["blocks"] = type(blocks)(blocks.name, submodules=parts)
    else:
        mapping["blocks"] = SequentialBlock(blocks.name, cfg, parts, returns_pattern=anatomy.family == "gpt_neo")
    mapping["blocks"].hook_mlp_in = CloningHookPoint()


def _fused(attention: Any) -> dict[str, Any]:
    return {name: attention.submodules[name] for name in ("qkv", "o")}
