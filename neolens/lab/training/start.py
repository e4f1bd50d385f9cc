"""Where each family keeps the parts of the network, and the values that all arms start from.

A part has one name and one shape in every family (`0.q`, `0.q.bias`, `embed`, ...); a `Place` says which parameter
holds it and how. So two arms that differ in attention alone start as the same network, and the weights of one arm can
be moved into another arm's class to prove that nothing else differs.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers.activations import NewGELUActivation

from neolens.checks import check_type, check_whole
from neolens.lab.language.documents import START
from neolens.lab.variants import Arm, Size

QKV = ("q", "k", "v")


def starting_values(size: Size, seed: int) -> dict[str, Float[np.ndarray, "out in"]]:
    """Matrices by part, `[out, in]`: `embed`, `position`, and for each layer l `l.q l.k l.v l.o l.in l.out`.

    Normal with deviation `size.spread`; what writes to the residual stream is divided by the root of the
    number of writes, so that the stream starts at one size (Radford et al. 2019, section 2.3).
    """
    check_type(size, "size", Size, "a neolens.lab.variants.Size")
    seed = check_whole(seed, "seed", 0)
    rng, d = np.random.default_rng((START, seed, 0)), size.width
    writes = np.sqrt(2 * size.layers)

    def normal(*shape: int, by: float = 1.0) -> np.ndarray:
        return (rng.standard_normal(shape) * size.spread / by).astype(np.float32)

    values = {"embed": normal(size.vocabulary, d), "position": normal(size.context, d)}
    for layer in range(size.layers):
        values |= {f"{layer}.{part}": normal(d, d) for part in QKV}
        values |= {f"{layer}.o": normal(d, d, by=writes), f"{layer}.in": normal(4 * d, d)}
        values |= {f"{layer}.out": normal(d, 4 * d, by=writes)}
    return values


@dataclass(frozen=True)
class Place:
    """The parameter that holds one or more parts, and the way from the parts to its value and back."""

    parameter: str
    parts: tuple[str, ...]
    join: Callable[[list[Tensor]], Tensor]
    split: Callable[[Tensor], list[Tensor]]


def _as_is(parameter: str, part: str, by: float = 1.0) -> Place:
    return Place(parameter, (part,), lambda parts: parts[0] * by, lambda value: [value / by])


def _transposed(parameter: str, *parts: str) -> Place:
    return Place(parameter, parts, lambda each: torch.cat(each).T, lambda value: list(value.T.chunk(len(parts))))


def _joined(parameter: str, *parts: str) -> Place:
    return Place(parameter, parts, torch.cat, lambda value: list(value.chunk(len(parts))))


def _by_head(parameter: str, heads: int, *parts: str) -> Place:
    """Head by head: queries, keys, values of the first, then of the second, ..."""

    def join(each: list[Tensor]) -> Tensor:
        return torch.stack([part.unflatten(0, (heads, -1)) for part in each], dim=1).flatten(0, 2)

    def split(value: Tensor) -> list[Tensor]:
        return [part.flatten(0, 1) for part in value.unflatten(0, (heads, len(parts), -1)).unbind(1)]

    return Place(parameter, parts, join, split)


def _with_bias(parameter: str, part: str) -> list[Place]:
    return [_as_is(f"{parameter}.{end}", f"{part}{suffix}") for end, suffix in (("weight", ""), ("bias", ".bias"))]


def _gpt2(layer: int, heads: int, d_head: int) -> list[Place]:
    root, at = f"transformer.h.{layer}.", f"{layer}."
    places = [
        _transposed(root + "attn.c_attn.weight", *(at + part for part in QKV)),
        _joined(root + "attn.c_attn.bias", *(f"{at}{part}.bias" for part in QKV)),
    ]
    for module, part in (("attn.c_proj", "o"), ("mlp.c_fc", "in"), ("mlp.c_proj", "out")):
        places.append(_transposed(f"{root}{module}.weight", at + part))
        places.append(_as_is(f"{root}{module}.bias", f"{at}{part}.bias"))
    return [*places, *_with_bias(root + "ln_1", at + "norm1"), *_with_bias(root + "ln_2", at + "norm2")]


def _gpt_neo(layer: int, heads: int, d_head: int) -> list[Place]:
    """Scores are not divided by the root of the head's width here, so queries and keys are smaller by its root."""
    root, at = f"transformer.h.{layer}.", f"{layer}."
    return [
        _as_is(root + "attn.attention.q_proj.weight", at + "q", by=d_head**-0.25),
        _as_is(root + "attn.attention.k_proj.weight", at + "k", by=d_head**-0.25),
        _as_is(root + "attn.attention.v_proj.weight", at + "v"),
        *_with_bias(root + "attn.attention.out_proj", at + "o"),
        *_with_bias(root + "mlp.c_fc", at + "in"),
        *_with_bias(root + "mlp.c_proj", at + "out"),
        *_with_bias(root + "ln_1", at + "norm1"),
        *_with_bias(root + "ln_2", at + "norm2"),
    ]


def _neox(layer: int, heads: int, d_head: int) -> list[Place]:
    root, at = f"gpt_neox.layers.{layer}.", f"{layer}."
    return [
        _by_head(root + "attention.query_key_value.weight", heads, *(at + part for part in QKV)),
        _by_head(root + "attention.query_key_value.bias", heads, *(f"{at}{part}.bias" for part in QKV)),
        *_with_bias(root + "attention.dense", at + "o"),
        *_with_bias(root + "mlp.dense_h_to_4h", at + "in"),
        *_with_bias(root + "mlp.dense_4h_to_h", at + "out"),
        *_with_bias(root + "input_layernorm", at + "norm1"),
        *_with_bias(root + "post_attention_layernorm", at + "norm2"),
    ]


_LAYERS = MappingProxyType({"gpt2": _gpt2, "gpt_neo": _gpt_neo, "gpt_neox": _neox})


def layout(model: PreTrainedModel) -> list[Place]:
    """Every parameter of a network of one of the three families, and what it holds."""
    config = model.config
    heads = config.num_attention_heads
    if config.model_type == "gpt_neox":
        ends = [_as_is("gpt_neox.embed_in.weight", "embed"), *_with_bias("gpt_neox.final_layer_norm", "norm")]
    else:
        ends = [
            _as_is("transformer.wte.weight", "embed"),
            _as_is("transformer.wpe.weight", "position"),
            *_with_bias("transformer.ln_f", "norm"),
        ]
    of_layer = partial(_LAYERS[config.model_type], heads=heads, d_head=config.hidden_size // heads)
    return [*ends, *(place for layer in range(config.num_hidden_layers) for place in of_layer(layer))]


def parts(model: PreTrainedModel) -> dict[str, Tensor]:
    """Part -> its value, alike for all families. Parts that a family lacks are left out."""
    parameters = dict(model.named_parameters())
    return {
        part: value
        for place in layout(model)
        for part, value in zip(place.parts, place.split(parameters[place.parameter].detach()), strict=True)
    }


def put(model: PreTrainedModel, values: Mapping[str, Tensor]) -> None:
    """Set every parameter of a network from parts; a part that is not given is 0.

    Raises:
        ValueError: a part with other values than 0 for which this family has no place.
    """
    parameters, places = dict(model.named_parameters()), layout(model)
    assert {place.parameter for place in places} == set(parameters)
    homeless = set(values) - {part for place in places for part in place.parts}
    if lost := sorted(part for part in homeless if bool((values[part] != 0).any())):
        raise ValueError(f"{model.config.model_type} has no place for {', '.join(lost)}: these parts must be 0")
    with torch.no_grad():
        for place in places:
            parameter = parameters[place.parameter]
            shape = place.split(parameter)[0].shape
            parameter.copy_(place.join([values.get(part, torch.zeros(shape)) for part in place.parts]))


def empty_model(arm: Arm, size: Size) -> PreTrainedModel:
    """A network of this arm's class with the values that the class draws, to be filled by `put`.

    The activation is the same function as the class's, in one kernel instead of seven."""
    check_type(arm, "arm", Arm, "a neolens.lab.variants.Arm, such as ARMS['gpt2']")
    model = AutoModelForCausalLM.from_config(arm.config(size), attn_implementation="eager")
    for module in model.modules():
        if isinstance(module, NewGELUActivation):
            module.forward = partial(torch.nn.functional.gelu, approximate="tanh")
    return model


def fresh_model(arm: Arm, size: Size, seed: int) -> PreTrainedModel:
    """An untrained network of this arm: matrices from `starting_values`, biases 0, layer norms 1.

    The biases of queries, keys and values stay 0, since one family has none.
    """
    seed = check_whole(seed, "seed", 0)
    model = empty_model(arm, size)
    values = {name: torch.from_numpy(value) for name, value in starting_values(size, seed).items()}
    if model.config.model_type == "gpt_neox":
        del values["position"]
    norms = ["norm", *(f"{layer}.norm{n}" for layer in range(size.layers) for n in (1, 2))]
    put(model, values | {norm: torch.ones(size.width) for norm in norms})
    for place in layout(model):
        if any(part.endswith((".q.bias", ".k.bias", ".v.bias")) for part in place.parts):
            model.get_parameter(place.parameter).requires_grad_(False)
    return model


def parameter_groups(model: PreTrainedModel, arm: Arm, size: Size, rate: float) -> list[dict[str, object]]:
    """Parameters for Adam with their highest learning rates: less for unscaled queries and keys (`Arm`)."""
    less = 1.0 if arm.scores_scaled else (size.width // size.heads) ** -0.25
    learned = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    slow = [parameter for name, parameter in learned if "q_proj" in name or "k_proj" in name]
    rest = [parameter for name, parameter in learned if "q_proj" not in name and "k_proj" not in name]
    groups = [{"params": rest, "highest": rate}, {"params": slow, "highest": rate * less}]
    return [group for group in groups if group["params"]]
