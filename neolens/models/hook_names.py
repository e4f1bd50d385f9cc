"""Hook points by name, and the reason why a name has none that fires.

TransformerLens registers points that are never called, and points that are called only while a switch of the model is
on or off. A hook there would silently do nothing: the former are left out of `hook_dict`, the latter refuse hooks while
they do not fire.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable
from typing import Any

from transformer_lens.hook_points import HookPoint

from neolens.models.anatomy import Anatomy

SWITCHES = ("use_attn_result", "use_attn_in", "use_split_qkv_input", "use_hook_mlp_in")
"""The switches of TransformerLens by which hook points begin or cease to fire: `model.set_use_attn_result(True)`."""

_NEEDS = {
    "use_attn_result": ("attn.hook_result",),
    "use_attn_in": ("hook_attn_in",),
    "use_split_qkv_input": ("hook_q_input", "hook_k_input", "hook_v_input"),
    "use_hook_mlp_in": ("hook_mlp_in",),
}
"""Switch -> the points that fire only while it is on."""

_SPLITS = ("use_attn_in", "use_split_qkv_input")
"""While one of these is on, each head normalises its own copy of the residual stream."""
_BYPASSED = ("attn.q.hook_in", "attn.k.hook_in", "attn.v.hook_in")
_IGNORED = ("attn.hook_in", "ln1.hook_in", "ln1.hook_scale", "ln1.hook_normalized", "ln1.hook_out")

_ROTATED = ("hook_rot_q", "hook_rot_k")
_TABLES = ("hook_cos", "hook_sin")


class HookNameError(KeyError, ValueError):
    """A hook that would have no effect on this model, with the reason."""

    def __str__(self) -> str:
        return str(self.args[0])


class HookDict(dict[str, HookPoint]):
    """Hook points by name; asking for one that does not exist says why it does not."""

    def __init__(self, points: dict[str, HookPoint], reason: Callable[[str, list[str]], str]):
        super().__init__(points)
        self._reason = reason

    def __missing__(self, name: str) -> HookPoint:
        raise HookNameError(self._reason(name, list(self)))

    def get(self, name: str, default: Any = None) -> Any:
        return self[name] if default is None else super().get(name, default)


def why_absent(name: str, anatomy: Anatomy) -> str | None:
    """Why the point of this name never fires, whatever is switched on; None where it does.

    Names are those inside the model, aliases included, such as `blocks.1.attn.hook_result`.
    """
    if name.endswith(("attn.qkv.hook_in", "attn.qkv.hook_out")):
        return f"{anatomy.name} has no {name}: the joint projection was split; use hook_q, hook_k, hook_v"
    if anatomy.position.kind != "rotary" and name.endswith((*_ROTATED, *_TABLES)):
        return _not_rotated(name, anatomy)
    if anatomy.family == "gpt_neox" and name in ("hook_pos_embed", "rotary_emb.hook_out", "rotary_emb.hook_in"):
        return f"{anatomy.name} has no {name}: {_positions(anatomy)}"
    return None


def why_silent(name: str, anatomy: Anatomy, switches: frozenset[str]) -> str | None:
    """Why the point of this name does not fire while these switches are on; None where it does."""
    for switch, ends in _NEEDS.items():
        if name.endswith(ends) and switch not in switches:
            return f"{name} fires only while a switch is on: call model.set_{switch}(True) first"
    on = next((switch for switch in _SPLITS if switch in switches), None)
    if on is not None and name.endswith(_BYPASSED):
        return f"{name} does not fire while {on} is on: {_each_head(on)}"
    return why_absent(name, anatomy)


def why_ignored(name: str, switches: frozenset[str]) -> str | None:
    """Why an edit at the point of this name would be lost while these switches are on; None where it would not."""
    on = next((switch for switch in _SPLITS if switch in switches), None)
    if on is None or not name.endswith(_IGNORED):
        return None
    return f"an edit at {name} has no effect while {on} is on: {_each_head(on)}"


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
        return f"{anatomy.name} has no hook_pos_embed: {_positions(anatomy)}"
    if (reason := why_absent(name, anatomy)) is not None:
        return reason
    close = difflib.get_close_matches(name, names, n=2, cutoff=0.6)
    return f"{anatomy.name} has no hook {name!r}: " + (
        f"did you mean {' or '.join(close)}?" if close else "names are those of model.hook_dict"
    )


def _each_head(switch: str) -> str:
    points = "hook_attn_in" if switch == "use_attn_in" else "hook_q_input, hook_k_input or hook_v_input"
    return f"each head then reads its own copy of the residual stream; use {points}, or call model.set_{switch}(False)"


def _not_rotated(name: str, anatomy: Anatomy) -> str:
    kind = {"none": "there is no position encoding"}.get(anatomy.position.kind, "positions are absolute")
    return f"{anatomy.name} has no {name}: {kind}, q and k are not rotated; use hook_q and hook_k"


def _positions(anatomy: Anatomy) -> str:
    if anatomy.position.kind == "none":
        return "it has no position encoding at all"
    return (
        f"positions are {anatomy.position.kind}, none is added to the residual stream; use attn.hook_rot_q and "
        "attn.hook_rot_k"
    )
