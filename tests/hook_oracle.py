"""A naive forward pass with a callback at every hook point of TransformerLens, component-level points included.

`oracles.forward` covers the sites of the field; here are also the inputs and outputs of every linear map, the parts of
a layer norm, the rotary tables, tokens and positions. The pass reads the weights of an `oracles.Network` and shares no
code with neolens. What it knows of TransformerLens are the names of the points, the shapes of their values, and which
switch makes which of them fire.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product

import torch
from torch import Tensor

import oracles

SWITCHES = ("use_attn_result", "use_attn_in", "use_split_qkv_input", "use_hook_mlp_in")
SPLITS = frozenset({"use_attn_in", "use_split_qkv_input"})
"""Switches that give each head its own copy of the residual stream; only one of the two can be on."""

Switches = frozenset[str]
Point = Callable[[str, Tensor], Tensor]
"""What calls the edits at a point: from its name and value to the value after the edits."""


def allowed_switches() -> Iterator[Switches]:
    """Every set of switches that can be on together."""
    for choice in product((False, True), repeat=len(SWITCHES)):
        switches = frozenset(switch for switch, on in zip(SWITCHES, choice) if on)
        if not switches >= SPLITS:
            yield switches


# ----------------------------------------------------------------------------------------------------
# The forward pass
# ----------------------------------------------------------------------------------------------------


@dataclass
class Run:
    """The logits, and the value at every point that fires, after the edits there, in the order of firing."""

    logits: Tensor
    values: dict[str, Tensor]


def forward(
    net: oracles.Network,
    tokens: Tensor,
    switches: Switches = frozenset(),
    edits: Mapping[str, Sequence[Callable[[Tensor], Tensor]]] | None = None,
) -> Run:
    """Run `tokens` `[batch, pos]`; `edits` maps the name of a point to functions that are applied to its value in turn.

    Points have TransformerLens's names inside the model, such as `blocks.0.attn.q.hook_out`, and its shapes.
    """
    values: dict[str, Tensor] = {}

    def point(name: str, value: Tensor) -> Tensor:
        for edit in (edits or {}).get(name, ()):
            value = edit(value)
        values[name] = value
        return value

    batch, length = tokens.shape
    resid = point("embed.hook_out", net.embed[point("embed.hook_in", tokens)])
    tables: tuple[Tensor, ...] = ()
    if net.pos_embed is None:
        cos, sin = _rotary_tables(net, length)
        tables = point("rotary_emb.hook_cos", cos), point("rotary_emb.hook_sin", sin)
    else:
        positions = net.pos_embed[point("pos_embed.hook_in", torch.arange(length)[None])]
        resid = resid + point("pos_embed.hook_out", positions.expand(batch, -1, -1))
    for index in range(len(net.layers)):
        resid = _block(net, index, resid, tables, switches, point)
    final = point("unembed.hook_in", _layer_norm(net, net.ln_final, resid, "ln_final", point))
    return Run(point("unembed.hook_out", final @ net.unembed.T), values)


def _block(
    net: oracles.Network, index: int, resid: Tensor, tables: tuple[Tensor, ...], switches: Switches, point: Point
) -> Tensor:
    layer = net.layers[index]

    def inside(name: str, value: Tensor) -> Tensor:
        return point(f"blocks.{index}.{name}", value)

    resid = inside("hook_in", resid)
    attn_out = _attention(net, index, resid, tables, switches, inside)
    mid = resid if net.parallel else inside("hook_resid_mid", resid + attn_out)
    mlp_in = inside("hook_mlp_in", mid) if "use_hook_mlp_in" in switches else mid
    normed = inside("mlp.hook_in", _layer_norm(net, layer.ln2, mlp_in, "ln2", inside))
    pre = inside("mlp.in.hook_out", inside("mlp.in.hook_in", normed) @ layer.w_in + layer.b_in)
    post = inside("mlp.out.hook_in", oracles.ACTIVATIONS[net.activation](pre))
    mlp_out = inside("mlp.hook_out", inside("mlp.out.hook_out", post @ layer.w_out + layer.b_out))
    return inside("hook_out", mid + mlp_out + attn_out if net.parallel else mid + mlp_out)


def _layer_norm(net: oracles.Network, norm: oracles.Norm, x: Tensor, name: str, point: Point) -> Tensor:
    x = point(f"{name}.hook_in", x)
    centred = x - x.mean(dim=-1, keepdim=True)
    scale = point(f"{name}.hook_scale", ((centred**2).mean(dim=-1, keepdim=True) + net.eps).sqrt())
    normalized = point(f"{name}.hook_normalized", centred / scale)
    return point(f"{name}.hook_out", normalized * norm.weight + norm.bias)


def _attention(
    net: oracles.Network, index: int, resid: Tensor, tables: tuple[Tensor, ...], switches: Switches, point: Point
) -> Tensor:
    layer = net.layers[index]
    q, k, v = _queries_keys_values(net, layer, resid, switches, point)
    if tables:
        cos, sin = point("attn.hook_cos", tables[0]), point("attn.hook_sin", tables[1])
        q = point("attn.hook_rot_q", _rotate(q, cos, sin))
        k = point("attn.hook_rot_k", _rotate(k, cos, sin))
    scores = torch.einsum("bihd,bjhd->bhij", q, k) * net.scales[index]
    scores = scores.masked_fill(~_visible(scores.shape[-1], net.windows[index]), -torch.inf)
    pattern = point("attn.hook_pattern", point("attn.hook_attn_scores", scores).softmax(dim=-1))
    z = point("attn.o.hook_in", torch.einsum("bhij,bjhd->bihd", pattern, v))
    result = torch.einsum("bphd,hdm->bphm", z, layer.w_o)
    if "use_attn_result" in switches:
        result = point("attn.hook_result", result)
    out = point("attn.o.hook_out", result.sum(dim=2) + layer.b_o)
    if net.scales[index] != 1.0:  # GPT-Neo, which alone does not scale its scores, has no such point
        out = point("attn.hook_hidden_states", out)
    return point("attn.hook_out", out)


def _queries_keys_values(
    net: oracles.Network, layer: oracles.Layer, resid: Tensor, switches: Switches, point: Point
) -> list[Tensor]:
    """q, k and v `[batch, pos, head, d_head]`.

    Split inputs are copies of the residual stream, one per head, which are normalised one by one. The shared layer norm
    runs nevertheless, but nothing depends on its output.
    """
    shared = point("attn.hook_in", _layer_norm(net, layer.ln1, resid, "ln1", point))
    copies = torch.stack([resid] * layer.w_q.shape[0], dim=2)
    if "use_attn_in" in switches:
        copies = point("attn.hook_attn_in", copies)
    projected = []
    for part, weight, bias in zip("qkv", (layer.w_q, layer.w_k, layer.w_v), (layer.b_q, layer.b_k, layer.b_v)):
        if switches & SPLITS:
            inputs = point(f"attn.hook_{part}_input", copies) if "use_split_qkv_input" in switches else copies
            value = torch.einsum("bphm,hmd->bphd", oracles.layer_norm(inputs, layer.ln1, net.eps), weight)
        else:
            value = torch.einsum("bpm,hmd->bphd", point(f"attn.{part}.hook_in", shared), weight)
        projected.append(point(f"attn.{part}.hook_out", value + bias))
    return projected


def _rotary_tables(net: oracles.Network, length: int) -> tuple[Tensor, Tensor]:
    """`cos` and `sin` `[1, pos, rotary_dims]` of the angles of all pairs of dimensions, first and second halves."""
    frequencies = net.rotary_base ** (-torch.arange(0, net.rotary_dims, 2, dtype=torch.float64) / net.rotary_dims)
    angles = (torch.arange(length)[:, None] * frequencies).repeat(1, 2)[None]
    return angles.cos().to(net.embed.dtype), angles.sin().to(net.embed.dtype)


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn the first dimensions of `x` `[batch, pos, head, d_head]`, in pairs (m, m + rotary_dims / 2)."""
    dims = cos.shape[-1]
    turned, rest = x[..., :dims], x[..., dims:]
    partner = torch.cat([-turned[..., dims // 2 :], turned[..., : dims // 2]], dim=-1)
    return torch.cat([turned * cos[:, :, None] + partner * sin[:, :, None], rest], dim=-1)


@lru_cache
def _visible(length: int, window: int | None) -> Tensor:
    return oracles.visible(length, window)


# ----------------------------------------------------------------------------------------------------
# Names
# ----------------------------------------------------------------------------------------------------

ALIASES = {
    **{"hook_embed": "embed.hook_out", "hook_pos_embed": "pos_embed.hook_out", "hook_unembed": "unembed.hook_out"},
    **{"blocks.N.hook_resid_pre": "blocks.N.hook_in", "blocks.N.hook_resid_post": "blocks.N.hook_out"},
    **{"blocks.N.hook_attn_out": "blocks.N.attn.hook_out", "blocks.N.hook_mlp_out": "blocks.N.mlp.hook_out"},
    **{f"blocks.N.hook_{part}_input": f"blocks.N.attn.hook_{part}_input" for part in "qkv"},
    **{f"blocks.N.attn.hook_{part}": f"blocks.N.attn.{part}.hook_out" for part in "qkv"},
    **{"blocks.N.hook_attn_in": "blocks.N.attn.hook_attn_in", "blocks.N.attn.hook_z": "blocks.N.attn.o.hook_in"},
    **{"blocks.N.mlp.hook_pre": "blocks.N.mlp.in.hook_out", "blocks.N.mlp.hook_post": "blocks.N.mlp.out.hook_in"},
}
"""Second name of a point -> its name inside the model, in any layer N."""
_ALIAS_OF = {point: alias for alias, point in ALIASES.items()}


def in_any_layer(name: str) -> str:
    """The name with N for the number of the layer."""
    return re.sub(r"^blocks\.\d+\.", "blocks.N.", name)


def point_of(name: str) -> str:
    """The name inside the model of the point that has this name."""
    return _translated(name, ALIASES) or name


def names_of(points: Sequence[str]) -> list[str]:
    """All names of these points."""
    return [name for point in points for name in (point, _translated(point, _ALIAS_OF)) if name is not None]


def _translated(name: str, names: Mapping[str, str]) -> str | None:
    translation = names.get(in_any_layer(name))
    if translation is None or not translation.startswith("blocks.N."):
        return translation
    return translation.replace("blocks.N", f"blocks.{name.split('.')[1]}")


_BEFORE_SPLIT = ("ln1.hook_in", "ln1.hook_scale", "ln1.hook_normalized", "ln1.hook_out", ".attn.hook_in")


def has_effect(point: str, switches: Switches) -> bool:
    """Whether anything depends on the value at a point that fires."""
    return not (switches & SPLITS and point.endswith(_BEFORE_SPLIT))
