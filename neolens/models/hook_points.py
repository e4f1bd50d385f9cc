"""Hook points at which every edit acts, or is refused with the reason."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor
from transformer_lens.hook_points import HookPoint

from neolens.checks import check_choice, shown
from neolens.models.hook_names import HookNameError
from neolens.models.inputs import check_hook


class EditableHookPoint(HookPoint):
    """A hook point whose hooks take effect whatever they return, or are refused.

    A returned tensor is made contiguous, as the activation was (Hugging Face's `Conv1D` takes a view of it). Where a
    point does not fire, or an edit would be lost, the reason is kept here and says so.
    """

    never_fires: str | None = None
    """Why no hook would run here at the moment."""
    edits_are_lost: str | None = None
    """Why a hook may only read here at the moment."""
    caches_clones: bool = False
    """Whether hooks that are added read a copy, which no later edit in place can change."""

    def add_hook(self, hook: Any, dir: Any = "fwd", *args: Any, **kwargs: Any) -> Any:
        if self.never_fires is not None:
            raise HookNameError(self.never_fires)
        check_hook(hook)
        check_choice(dir, "dir", ("fwd", "bwd"))
        run = reading_a_copy(hook) if self.caches_clones else hook
        handle = super().add_hook(checking_edits(run) if dir == "fwd" else run, dir, *args, **kwargs)
        handle.user_hook = hook
        return handle

    def __call__(self, x: Tensor) -> Tensor:
        if not self._forward_hooks:
            return super().__call__(x)
        before = None if self.edits_are_lost is None else x.detach().clone()
        output = super().__call__(x)
        if before is not None and not (output.shape == before.shape and torch.equal(output, before)):
            raise HookNameError(str(self.edits_are_lost))
        return output if output is x else output.contiguous()


def reading_a_copy(hook: Any) -> Any:
    """A hook that reads: it is handed a copy of the activation, and what it returns is ignored."""

    @functools.wraps(hook)
    def read(x: Tensor, hook: Any, *, _read: Any = hook) -> None:
        _read(x.clone(), hook=hook)

    return read


def _like(value: Any) -> str:
    """What an activation is like, for an error."""
    if not isinstance(value, Tensor):
        return shown(value)
    return f"a tensor of shape {tuple(value.shape)}, {str(value.dtype).removeprefix('torch.')}, on {value.device}"


def checking_edits(hook: Any) -> Any:
    """A hook whose result, where it is no None, is an activation like the one that it was handed."""

    def run(x: Any, hook: Any, *, _run: Any = hook) -> Any:
        edited = _run(x, hook=hook)
        if edited is not None and edited is not x and isinstance(x, Tensor):
            same = isinstance(edited, Tensor)
            if not same or (edited.shape, edited.dtype, edited.device) != (x.shape, x.dtype, x.device):
                kind = TypeError if not same else ValueError
                raise kind(f"hook at {hook.name} returned {_like(edited)}: expected {_like(x)}, or None")
        return edited

    return run


class CloningHookPoint(EditableHookPoint):
    """A hook point that hands its hooks a copy, so that an edit in place changes this branch alone."""

    def forward(self, x: Tensor) -> Tensor:
        return x.clone() if self._forward_hooks else x


class InPlaceEditHookPoint(EditableHookPoint):
    """A hook point whose output is a new tensor where a hook edited in place; upstream detects edits by identity."""

    def __call__(self, x: Tensor) -> Tensor:
        if not self._forward_hooks:
            return super().__call__(x)
        before = x.detach().clone()
        output = super().__call__(x)
        return x.clone() if output is x and not torch.equal(before, x) else output
