"""The model that `neolens.load` returns: a TransformerBridge built from true components.

The components are put in place through `build_bridge_from_module`'s hook for this one model; no adapter is
registered and no class is changed, so a model booted beside ours by TransformerLens behaves as it always did.
"""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING, Any

from torch import Tensor
from transformer_lens.hook_points import HookPoint
from transformer_lens.model_bridge import TransformerBridge
from transformer_lens.model_bridge.sources import build_bridge_from_module

from neolens.models.components import (
    JointAttention,
    NoticingHookPoint,
    OwnTensorHookPoint,
    PositionEmbedding,
    RotaryAttention,
    RotaryEmbedding,
    SequentialBlock,
    WindowedAttention,
)
from neolens.models.facts import Anatomy

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_ARCHITECTURES = {"gpt2": "GPT2LMHeadModel", "gpt_neo": "GPTNeoForCausalLM", "gpt_neox": "GPTNeoXForCausalLM"}


class HookNameError(KeyError, ValueError):
    """A hook name that this model does not have, with the reason."""

    def __str__(self) -> str:
        return str(self.args[0])


class HookDict(dict[str, HookPoint]):
    """Hook points by name; asking for one that does not exist says why it does not."""

    def __init__(self, points: dict[str, HookPoint], anatomy: Anatomy):
        super().__init__(points)
        self.anatomy = anatomy

    def __missing__(self, name: str) -> HookPoint:
        raise HookNameError(absence(name, self.anatomy, list(self)))

    def get(self, name: str, default: Any = None) -> Any:
        return self[name] if default is None else super().get(name, default)


class Bridge(TransformerBridge):
    """A TransformerBridge that knows its anatomy and refuses hook names that cannot act, with the reason."""

    anatomy: Anatomy

    def __getstate__(self) -> dict[str, Any]:
        """What a copy takes over: not the closures that tie hooks to this model's blocks; a pass makes them anew."""
        for block in self.blocks:
            block._teardown_capture_hooks()
            block._clear_attention_capture()
        return self.__dict__

    @property
    def hook_dict(self) -> dict[str, HookPoint]:
        """All hook points that fire, by name, aliases included; any other name is refused with the reason."""
        points = super().hook_dict
        return HookDict({name: points[name] for name in points if not _says_nothing(name, self.anatomy)}, self.anatomy)

    @property
    def W_pos(self) -> Tensor:
        """The position embeddings as they were learned, all of them, whatever is in force."""
        return self.pos_embed.W_pos if self.anatomy.position.kind == "absolute" else super().W_pos

    def add_hook(self, name: Any, *args: Any, **kwargs: Any) -> None:
        """As in TransformerLens; a name that cannot act is refused with the reason."""
        if isinstance(name, str):
            self.hook_dict[name]
        super().add_hook(name, *args, **kwargs)


_ROTATED = ("hook_rot_q", "hook_rot_k")


def _says_nothing(name: str, anatomy: Anatomy) -> bool:
    """Hook points that TransformerLens registers but never calls, where an edit would silently do nothing, and those
    of a rotation that a network without rotated dimensions does not do."""
    if name.endswith(("attn.qkv.hook_in", "attn.qkv.hook_out")):
        return True
    if name.endswith(_ROTATED) and anatomy.position.kind != "rotary":
        return True
    return anatomy.family == "gpt_neox" and name in ("hook_pos_embed", "rotary_emb.hook_out", "rotary_emb.hook_in")


def absence(name: str, anatomy: Anatomy, names: list[str]) -> str:
    """Why a model of this anatomy has no hook point `name`."""
    layer = re.match(r"blocks\.(-?\d+)\.", name)
    if layer and not 0 <= int(layer[1]) < anatomy.layers:
        return f"no layer {layer[1]} in {anatomy.name}: layers are 0 to {anatomy.layers - 1} (asked for {name})"
    if name.endswith("hook_resid_mid") and anatomy.parallel:
        return (
            f"{anatomy.name} has no {name}: attention and MLP run in parallel, so no residual stream lies between "
            "them; use hook_resid_pre, hook_attn_out or hook_resid_post"
        )
    if name == "hook_pos_embed" and anatomy.position.kind != "absolute":
        if anatomy.position.kind == "none":
            return f"{anatomy.name} has no hook_pos_embed: it has no position encoding at all"
        return (
            f"{anatomy.name} has no hook_pos_embed: positions are {anatomy.position.kind}, none is added to the "
            "residual stream; use attn.hook_rot_q and attn.hook_rot_k"
        )
    if name.endswith(_ROTATED) and anatomy.position.kind != "rotary":
        kind = {"none": "there is no position encoding"}.get(anatomy.position.kind, "positions are absolute")
        return f"{anatomy.name} has no {name}: {kind}, q and k are not rotated; use hook_q and hook_k"
    if ".qkv." in name:
        return f"{anatomy.name} has no {name}: TransformerLens splits the joint projection; use hook_q, hook_k, hook_v"
    close = difflib.get_close_matches(name, names, n=2, cutoff=0.6)
    return f"{anatomy.name} has no hook {name!r}: " + (
        f"did you mean {' or '.join(close)}?" if close else "names are those of model.hook_dict"
    )


def build_bridge(model: PreTrainedModel, anatomy: Anatomy, *, tokenizer: Any | None = None) -> Bridge:
    """Wrap a Hugging Face model of the three families; its submodules are replaced, its weights are not copied."""
    bridge = build_bridge_from_module(
        model,
        _ARCHITECTURES[anatomy.family],
        hf_config=model.config,
        tokenizer=tokenizer,
        dtype=model.dtype,
        device=model.device,
        model_name=anatomy.name,
        post_adapter_hook=lambda adapter: _place_components(adapter, anatomy),
    )
    bridge.__class__ = Bridge
    _tell_the_truth(bridge.cfg, anatomy)
    put_in_force(bridge, anatomy)
    return bridge


FOLLOWS = ("attn_types", "use_local_attn", "window_size", "n_ctx")
"""Fields of the config that say what is in force."""


def put_in_force(bridge: Bridge, anatomy: Anatomy) -> None:
    """Make the hooked model attend and count positions as `anatomy` says, and let its config say so too."""
    bridge.anatomy = anatomy
    for block, span in zip(bridge.blocks, anatomy.attention, strict=True):
        block.attn.span = span
        if anatomy.position.kind == "rotary":
            block.attn.treatment = anatomy.position.treatment
    if anatomy.position.kind != "none":
        positions = bridge.pos_embed if anatomy.position.kind == "absolute" else bridge.rotary_emb
        positions.treatment = anatomy.position.treatment
    cfg = bridge.cfg
    cfg.attn_types = [span.kind for span in anatomy.attention]
    cfg.use_local_attn = bool(anatomy.windows)
    cfg.window_size = anatomy.windows[0] if anatomy.windows else None
    cfg.n_ctx = anatomy.context


def _place_components(adapter: Any, anatomy: Anatomy) -> None:
    mapping, cfg = adapter.component_mapping, adapter.cfg
    blocks = mapping["blocks"]
    parts = dict(blocks.submodules)
    for norm in (parts["ln1"], parts["ln2"], mapping["ln_final"]):
        norm.use_native_layernorm_autograd = True
        norm.hook_in = OwnTensorHookPoint()
        norm.hook_scale, norm.hook_normalized = NoticingHookPoint(), NoticingHookPoint()
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
        parts["attn"].hook_cos, parts["attn"].hook_sin = OwnTensorHookPoint(), OwnTensorHookPoint()
    for linear in ("q", "k", "v"):
        parts["attn"].submodules[linear].hook_in = OwnTensorHookPoint()
    if "pos_embed" in mapping:
        mapping["pos_embed"] = PositionEmbedding(mapping["pos_embed"].name)
    if "rotary_emb" in mapping:
        mapping["rotary_emb"] = RotaryEmbedding(mapping["rotary_emb"].name)
    if anatomy.parallel:
        mapping["blocks"] = type(blocks)(blocks.name, submodules=parts)
    else:
        mapping["blocks"] = SequentialBlock(blocks.name, cfg, parts, returns_pattern=anatomy.family == "gpt_neo")
    mapping["blocks"].hook_mlp_in = OwnTensorHookPoint()


def _fused(attention: Any) -> dict[str, Any]:
    return {name: attention.submodules[name] for name in ("qkv", "o")}


def _tell_the_truth(cfg: Any, anatomy: Anatomy) -> None:
    """Write into the config what TransformerLens leaves at its defaults."""
    cfg.use_attn_scale = anatomy.scale != 1.0
    cfg.attn_scale = 1 / anatomy.scale
    cfg.n_params = anatomy.parameters_without_embeddings
    if anatomy.position.kind == "rotary":
        cfg.rotary_dim = anatomy.position.rotary_dims
        cfg.rotary_base = anatomy.position.base
        cfg.rotary_pct = anatomy.position.rotary_dims / anatomy.d_head
        cfg.rotary_adjacent_pairs = False
