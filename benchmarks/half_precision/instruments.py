"""Every instrument whose values depend on a run of the model, with the same variables from the hooked model.

`qk`, `ov` and `embedding_geometry` are functions of the weights alone and are left out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import xarray as xr
from torch import Tensor

import neolens
from benchmarks.half_precision import hooked
from benchmarks.half_precision.hooked import NEAR, SHIFTS, Values
from benchmarks.half_precision.models import FAMILIES, HEADS, LAYERS, ROTARY, long_prompts, pairs
from neolens import network, position, views
from neolens.ablation import Beyond, Within

SITES = ("resid_pre", "attn_out", "mlp_out", "z", "k", "pattern")
WAYS = ("zero", "mean", "resample", Beyond(3), Within(2))
METRICS = ["logit_difference", "loss", "kl_divergence"]


@dataclass(frozen=True)
class Instrument:
    """One call of an instrument."""

    name: str
    run: Callable[[Any, Tensor], Any]
    """(model, prompts) -> the result."""
    hooked: Callable[[Any, Tensor], Values]
    """(model, prompts) -> the same variables, from the hooked model."""
    detail: str = ""
    """What the call asks for, where there are several of the same instrument."""
    families: tuple[str, ...] = FAMILIES

    def __str__(self) -> str:
        return f"{self.name} {self.detail}".strip()


def instruments() -> list[Instrument]:
    """All that are measured."""
    absolute = tuple(family for family in FAMILIES if family not in ROTARY)
    parts = position.score_parts
    return [
        Instrument("attention", neolens.attention, partial(_attention, engine="hooks")),
        *(Instrument("patch", partial(_patch, site), partial(_patch, site, engine="hooks"), site) for site in SITES),
        *(
            Instrument("ablate", partial(_ablate, how), partial(_ablate, how, engine="hooks"), _name(how))
            for how in WAYS
        ),
        Instrument("roles", partial(neolens.roles, within=NEAR, progress=False), hooked.roles),
        Instrument("head_patterns", _head_patterns, hooked.patterns),
        Instrument("views.attention", _view, hooked.view),
        Instrument("shift", partial(position.shift, by=SHIFTS, exact=False, progress=False), hooked.shift),
        Instrument("ablate_positions", partial(position.ablate_positions, progress=False), hooked.ablate_positions),
        Instrument("toeplitz", position.toeplitz, hooked.toeplitz),
        Instrument("part_shares", position.part_shares, hooked.part_shares, families=ROTARY),
        Instrument("score_parts", lambda m, t: parts(m, t[0], LAYERS - 1), hooked.score_parts, families=ROTARY),
        Instrument("score_parts", _summed_parts, hooked.summed_parts, "summed", absolute),
        Instrument("bands", partial(position.bands, progress=False), hooked.bands, families=ROTARY),
        Instrument("beyond_context", _beyond_context, hooked.beyond_context, families=ROTARY),
    ]


def by_variable(result: Any) -> Values:
    """The float variables of a result by name, those with a metric axis as one per metric."""
    if not isinstance(result, xr.Dataset):
        return result
    values: Values = {}
    for name, value in result.data_vars.items():
        if value.dtype.kind == "f" and "metric" in value.dims:
            values |= {f"{name} {metric.item()}": value.sel(metric=metric).values for metric in value["metric"]}
        elif value.dtype.kind == "f":
            values[str(name)] = value.values
    return values


def _name(how: Any) -> str:
    return how if isinstance(how, str) else f"{type(how).__name__}({how.distance})"


def _attention(model: Any, tokens: Tensor, engine: str) -> Values:
    return by_variable(neolens.attention(model, tokens, engine=engine))


def _patch(site: str, model: Any, tokens: Tensor, engine: str = "auto") -> Any:
    heads = None if site in ("resid_pre", "attn_out", "mlp_out") else [2]
    result = neolens.patch(model, pairs(tokens), site, heads=heads, metric=METRICS, engine=engine, progress=False)
    return result if engine == "auto" else by_variable(result)


def _ablate(how: Any, model: Any, tokens: Tensor, engine: str = "auto") -> Any:
    groups = neolens.each_head(model)
    result = neolens.ablate(model, tokens, groups, how=how, metric=METRICS[1:], engine=engine, progress=False)
    return result if engine == "auto" else by_variable(result)


def _head_patterns(model: Any, tokens: Tensor) -> Values:
    layers = network.head_patterns(model, tokens[0], {layer: range(HEADS) for layer in range(LAYERS)})
    return {"pattern": torch.stack([layers[layer] for layer in range(LAYERS)]).numpy()}


def _view(model: Any, tokens: Tensor) -> Values:
    table = views.attention(model, tokens[0]).table
    assert table is not None
    return {"attention": table()["attention"].to_numpy()}


def _summed_parts(model: Any, tokens: Tensor) -> Values:
    return {"sum": position.score_parts(model, tokens[0], 0)["score"].sum("part", skipna=False).values}


def _beyond_context(model: Any, tokens: Tensor) -> xr.Dataset:
    return position.beyond_context(model, long_prompts())
