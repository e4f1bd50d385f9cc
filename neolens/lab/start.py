"""Starting values: the same for every arm, wherever the shapes allow.

Matrices are drawn by role, in one order; each family then says under which name and in which layout it keeps
a role. So two arms that differ in attention alone start as the same network.
"""

from types import MappingProxyType

import numpy as np
import torch
from jaxtyping import Float
from transformers import AutoModelForCausalLM, PreTrainedModel

from neolens.lab.arms import Arm, Size
from neolens.lab.language import START


def starting_values(size: Size, seed: int) -> dict[str, Float[np.ndarray, "out in"]]:
    """Matrices by role, `[out, in]`: `embed`, `position`, and for each layer l `l.q l.k l.v l.o l.in l.out`.

    Normal with deviation `size.spread`; what writes to the residual stream is divided by the root of the
    number of writes, so that the stream starts at one size (Radford et al. 2019, section 2.3).
    """
    rng, d = np.random.default_rng((START, seed, 0)), size.width
    writes = np.sqrt(2 * size.layers)

    def normal(*shape: int, by: float = 1.0) -> np.ndarray:
        return (rng.standard_normal(shape) * size.spread / by).astype(np.float32)

    values = {"embed": normal(size.vocabulary, d), "position": normal(size.context, d)}
    for layer in range(size.layers):
        values |= {f"{layer}.{role}": normal(d, d) for role in "qkv"}
        values |= {f"{layer}.o": normal(d, d, by=writes), f"{layer}.in": normal(4 * d, d)}
        values |= {f"{layer}.out": normal(d, 4 * d, by=writes)}
    return values


def _gpt2_layout(values: dict, layer: int, heads: int) -> dict[str, np.ndarray]:
    q, k, v, o, up, down = (values[f"{layer}.{role}"] for role in ("q", "k", "v", "o", "in", "out"))
    root = f"transformer.h.{layer}."
    return {
        root + "attn.c_attn.weight": np.concatenate([q, k, v]).T,
        root + "attn.c_proj.weight": o.T,
        root + "mlp.c_fc.weight": up.T,
        root + "mlp.c_proj.weight": down.T,
    }


def _gpt_neo_layout(values: dict, layer: int, heads: int) -> dict[str, np.ndarray]:
    q, k, v, o, up, down = (values[f"{layer}.{role}"] for role in ("q", "k", "v", "o", "in", "out"))
    root, less = f"transformer.h.{layer}.", (len(q) // heads) ** -0.25
    return {
        root + "attn.attention.q_proj.weight": q * less,
        root + "attn.attention.k_proj.weight": k * less,
        root + "attn.attention.v_proj.weight": v,
        root + "attn.attention.out_proj.weight": o,
        root + "mlp.c_fc.weight": up,
        root + "mlp.c_proj.weight": down,
    }


def _neox_layout(values: dict, layer: int, heads: int) -> dict[str, np.ndarray]:
    q, k, v, o, up, down = (values[f"{layer}.{role}"] for role in ("q", "k", "v", "o", "in", "out"))
    by_head = np.stack([m.reshape(heads, -1, m.shape[1]) for m in (q, k, v)], axis=1)
    root = f"gpt_neox.layers.{layer}."
    return {
        root + "attention.query_key_value.weight": by_head.reshape(-1, q.shape[1]),
        root + "attention.dense.weight": o,
        root + "mlp.dense_h_to_4h.weight": up,
        root + "mlp.dense_4h_to_h.weight": down,
    }


LAYOUTS = MappingProxyType(
    {
        "gpt2": ("transformer.wte.weight", "transformer.wpe.weight", _gpt2_layout),
        "gpt_neo": ("transformer.wte.weight", "transformer.wpe.weight", _gpt_neo_layout),
        "gpt_neox": ("gpt_neox.embed_in.weight", None, _neox_layout),
    }
)
"""Model type -> where it keeps the token and the position embedding, and a layer's matrices."""


def fresh_model(arm: Arm, size: Size, seed: int) -> PreTrainedModel:
    """An untrained network of this arm: matrices from `starting_values`, biases 0, layer norms 1."""
    config = arm.config(size)
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    values = starting_values(size, seed)
    embed, position, layout = LAYOUTS[config.model_type]
    named = {embed: values["embed"]} | ({position: values["position"]} if position else {})
    for layer in range(size.layers):
        named |= layout(values, layer, size.heads)
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for name, parameter in parameters.items():
            if name in named:
                parameter.copy_(torch.from_numpy(np.ascontiguousarray(named[name])))
            else:
                assert parameter.ndim == 1, f"no starting value for {name}"
                parameter.fill_(1.0 if name.endswith("weight") else 0.0)
    assert set(named) <= set(parameters)
    return model


def parameter_groups(model: PreTrainedModel, arm: Arm, size: Size, rate: float) -> list[dict[str, object]]:
    """Parameters for Adam with their highest learning rates: less for unscaled queries and keys (`Arm`)."""
    less = 1.0 if arm.scores_scaled else (size.width // size.heads) ** -0.25
    slow = [p for name, p in model.named_parameters() if "q_proj" in name or "k_proj" in name]
    rest = [p for name, p in model.named_parameters() if "q_proj" not in name and "k_proj" not in name]
    groups = [{"params": rest, "highest": rate}, {"params": slow, "highest": rate * less}]
    return [group for group in groups if group["params"]]
