"""What on a model changes its computation besides its weights: hooks, parametrizations, replaced modules, dropout.

The pure forward pass reads the weights alone, so whatever is found here has to be run by the model itself or refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.modules import module as torch_module
from transformer_lens.hook_points import HookPoint


def modules_of(model: nn.Module) -> Iterator[nn.Module]:
    """Every module of a TransformerBridge and of the Hugging Face model that it wraps, each once."""
    seen: set[int] = set()
    waiting = [model]
    if isinstance(original := getattr(model, "original_model", None), nn.Module):
        waiting.append(original)
    while waiting:
        module = waiting.pop()
        if id(module) not in seen:
            seen.add(id(module))
            yield module
            waiting += [child for child in module._modules.values() if child is not None]


@dataclass(frozen=True)
class Inspection:
    """What one walk over the modules of a model sees."""

    structure: tuple[type, ...]
    """The types of all modules, in the order of `modules_of`; a replaced or parametrized module changes it."""
    modified: tuple[nn.Module, ...]
    """Modules and hook points with a hook, or with a forward method of their own; the model itself where torch has
    hooks on all modules."""
    dropping: bool
    """Whether a part of the model is in training mode and drops activations."""
    dtypes: frozenset[torch.dtype]
    """Of the weights."""


def inspect(model: nn.Module) -> Inspection:
    """Look at every module of a model once."""
    structure: list[type] = []
    modified: list[nn.Module] = [model] if _global_hooks() else []
    dtypes: set[torch.dtype] = set()
    dropping = False
    for module in modules_of(model):
        structure.append(type(module))
        if module._forward_hooks or module._forward_pre_hooks or "forward" in module.__dict__:
            modified += [module] if _is_modified(module) else []
        if module.training:
            dropping = dropping or _dropout_rate(module) > 0
        dtypes.update(weight.dtype for weight in module._parameters.values() if weight is not None)
    return Inspection(tuple(structure), tuple(modified), dropping, frozenset(dtypes))


def hooked_points(model: Any) -> list[str]:
    """The names of all hook points with a forward hook, any of their names."""
    hooked = {id(module): str(module.name) for module in inspect(model).modified if isinstance(module, HookPoint)}
    if not hooked:
        return []
    names = {name for name, point in model.hook_dict.items() if id(point) in hooked}
    return sorted(names | {*hooked.values()})


def modified_modules(model: nn.Module, built: tuple[type, ...] | None = None) -> list[str]:
    """The names of all modules with a torch hook, a parametrization or a forward method of their own.

    Args:
        built: the structure of the model as it was built; the first module of another type counts too.
    """
    seen = inspect(model)
    everywhere = ["every module (a global torch hook)"] if _global_hooks() else []
    modified = [module for module in seen.modified if not isinstance(module, HookPoint)]
    if built is not None and seen.structure != built:
        modified.append(_replaced(model, built))
    return everywhere + [_name(model, module) for module in modified]


def _global_hooks() -> bool:
    """Whether torch has hooks on the modules of all models."""
    return bool(torch_module._global_forward_hooks or torch_module._global_forward_pre_hooks)


def _is_modified(module: nn.Module) -> bool:
    hooks = [*module._forward_hooks.values(), *module._forward_pre_hooks.values()]
    return any(not _is_upstreams_own(hook) for hook in hooks) or "forward" in module.__dict__


def _is_upstreams_own(hook: Any) -> bool:
    """Whether a hook is one by which TransformerLens or transformers reads activations; they change none."""
    name, module = getattr(hook, "__qualname__", ""), getattr(hook, "__module__", "")
    return "._maybe_wire_capture_hooks." in name or module == "transformers.utils.output_capturing"


def _replaced(model: nn.Module, built: tuple[type, ...]) -> nn.Module:
    """The first module whose type is not that of the model as it was built."""
    pairs = zip(modules_of(model), built, strict=False)
    return next((module for module, was in pairs if type(module) is not was), model)


def _dropout_rate(module: nn.Module) -> float:
    """The rate of a dropout module, or of GPT-NeoX attention, which calls the function."""
    rate = module.p if isinstance(module, nn.Dropout) else getattr(module, "attention_dropout", 0.0)
    return rate if isinstance(rate, float | int) else 0.0


def _name(model: nn.Module, module: nn.Module) -> str:
    for root in (model, getattr(model, "original_model", model)):
        for name, other in root.named_modules():
            if other is module:
                return name.replace("._original_component", "") or type(module).__name__
    return type(module).__name__
