"""The class of the model that `neolens.load` returns: a TransformerBridge on which every hook takes effect or is
refused with the reason."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor
from transformer_lens.hook_points import HookPoint
from transformer_lens.model_bridge import TransformerBridge

from neolens.checks import check_bool
from neolens.models.anatomy import Anatomy
from neolens.models.caches import named
from neolens.models.hook_names import SWITCHES, HookDict, HookNameError, absence, why_absent, why_ignored, why_silent
from neolens.models.hook_points import EditableHookPoint, reading_a_copy
from neolens.models.inputs import check_hook, check_hooks, check_input, check_name, names_listed, residual_or_input
from neolens.models.modifications import inspect
from neolens.models.options import check_call, check_room
from neolens.models.saving import pickled
from neolens.models.state import ModelState
from neolens.models.texts import TextMethods

Names = str | Sequence[str] | Callable[[str], bool] | None


class Bridge(TextMethods, TransformerBridge):
    """A TransformerBridge with an anatomy, on which every hook takes effect or is refused with the reason."""

    _neolens_state: ModelState

    @property
    def anatomy(self) -> Anatomy:
        """The architecture in force."""
        return self._neolens_state.anatomy

    def __getstate__(self) -> dict[str, Any]:
        """What a copy takes over: not the closures that tie hooks to this model's blocks; a pass makes them anew."""
        for block in self.blocks:
            block._teardown_capture_hooks()
            block._clear_attention_capture()
        return self.__dict__

    def __copy__(self) -> Bridge:
        """A shallow copy, as Python makes it of other objects."""
        copied = type(self).__new__(type(self))
        copied.__setstate__(self.__getstate__())
        return copied

    def __deepcopy__(self, memo: dict[int, Any]) -> Bridge:
        """A copy with weights of its own."""
        copied = memo[id(self)] = type(self).__new__(type(self))
        copied.__setstate__(copy.deepcopy(self.__getstate__(), memo))
        return copied

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        """What pickle, torch.save and multiprocessing write: the Hugging Face model, for upstream's modules cannot."""
        return pickled(self)

    @property
    def W_pos(self) -> Tensor:
        """The position embeddings as they were learned, all of them, whatever is in force."""
        return self.pos_embed.W_pos if self.anatomy.position.kind == "absolute" else super().W_pos

    def _apply(self, fn: Any, recurse: bool = True) -> Bridge:
        """A cast or a move, after which the config says what the dtype is."""
        super()._apply(fn, recurse)
        self.cfg.dtype = self.embed.weight.dtype
        return self

    # Hook points -----------------------------------------------------------------------------------

    @property
    def switches(self) -> frozenset[str]:
        """Which of TransformerLens's switches are on."""
        return frozenset(name for name in SWITCHES if getattr(self.cfg, name))

    @property
    def hook_dict(self) -> dict[str, HookPoint]:
        """All hook points by name, aliases included, but for those that never fire; any other name is refused with the
        reason."""
        points = {name: point for name, point in super().hook_dict.items() if why_absent(name, self.anatomy) is None}
        return HookDict(points, lambda name, names: absence(name, self.anatomy, names))

    def add_hook(self, name: Any, *args: Any, **kwargs: Any) -> None:
        """As in TransformerLens; a name or filter that would have no effect is refused with the reason."""
        self._check_names([check_name(name)])
        check_call("add_hook", (name, *args), kwargs, self.anatomy, None)
        if args or "hook_fn" in kwargs:
            check_hook(args[0] if args else kwargs["hook_fn"])
        super().add_hook(name, *args, **kwargs)

    def hooks(self, fwd_hooks: Any = (), bwd_hooks: Any = (), *args: Any, **kwargs: Any) -> Any:
        """As in TransformerLens; a name or filter that would have no effect is refused with the reason."""
        fwd_hooks, bwd_hooks = check_hooks(fwd_hooks, "fwd_hooks"), check_hooks(bwd_hooks, "bwd_hooks")
        check_call("hooks", (fwd_hooks, bwd_hooks, *args), kwargs, self.anatomy, None)
        self._check_names([name for name, _ in (*fwd_hooks, *bwd_hooks)])
        return super().hooks(fwd_hooks, bwd_hooks, *args, **kwargs)

    def run_with_hooks(self, input: Any, fwd_hooks: Any = (), bwd_hooks: Any = (), *args: Any, **kwargs: Any) -> Any:
        """As in TransformerLens; a name or filter that would have no effect is refused with the reason."""
        fwd_hooks, bwd_hooks = check_hooks(fwd_hooks, "fwd_hooks"), check_hooks(bwd_hooks, "bwd_hooks")
        check_call("run_with_hooks", (fwd_hooks, bwd_hooks, *args), kwargs, self.anatomy, input)
        residual_or_input(input, kwargs.get("start_at_layer"), self.anatomy, self.cfg.dtype)
        names = [name for name, _ in (*fwd_hooks, *bwd_hooks)]
        self._check_names(names)
        self._check_layers_run(names, kwargs.get("start_at_layer"), kwargs.get("stop_at_layer"))
        with self._neolens_state.hold("run_with_hooks", exclusive=True), self._removing_hooks():
            return super().run_with_hooks(input, fwd_hooks, bwd_hooks, *args, **kwargs)

    def run_with_cache(
        self,
        input: Any,
        return_cache_object: bool = True,
        remove_batch_dim: bool = False,
        names_filter: Names = None,
        **kwargs: Any,
    ) -> Any:
        """As in TransformerLens; the cache holds what was computed, also where an edit in place changes it later."""
        options = {"return_cache_object": return_cache_object, "remove_batch_dim": remove_batch_dim, **kwargs}
        check_call("run_with_cache", (), options, self.anatomy, input)
        residual_or_input(input, kwargs.get("start_at_layer"), self.anatomy, self.cfg.dtype)
        names_filter = self._checked_filter(names_filter)
        if names_filter is None:
            names_filter = {name for name, point in self.hook_dict.items() if point.never_fires is None}.__contains__
        points = [point for point in self._points() if not point.caches_clones]
        with self._neolens_state.hold("run_with_cache", exclusive=True), self._removing_hooks():
            try:
                for point in points if inspect(self).modified else []:
                    point.caches_clones = True
                output, cache = super().run_with_cache(
                    input, return_cache_object, remove_batch_dim, names_filter=names_filter, **kwargs
                )
                return output, named(cache)
            finally:
                for point in points:
                    point.caches_clones = False

    @contextmanager
    def _removing_hooks(self) -> Iterator[None]:
        """Remove the hooks that a run has added and, interrupted by Ctrl-C while it added them, has left.

        Raises:
            HookNameError: a torch hook on the model itself, which TransformerLens would not run here.
        """
        if self._forward_hooks or self._forward_pre_hooks:
            raise HookNameError("a torch hook on the model itself has no effect here: it is run by model(tokens) alone")
        before = {id(point): {*point._forward_hooks} for point in self._points() if point._forward_hooks}
        level = getattr(self, "context_level", 0)
        try:
            yield
        except BaseException:
            self.context_level = level
            for point in self._points():
                for key in {*point._forward_hooks} - before.get(id(point), set()):
                    del point._forward_hooks[key]
                point.fwd_hooks = [handle for handle in point.fwd_hooks if handle.hook.id in point._forward_hooks]
            raise

    def get_caching_hooks(self, names_filter: Names = None, *args: Any, **kwargs: Any) -> Any:
        """As in TransformerLens; what is cached is a copy, which no later edit in place changes."""
        names_filter = self._checked_filter(names_filter)
        if names_filter is None:
            names_filter = {point.name for point in self._points() if point.never_fires is None}.__contains__
        cache, forward, backward = super().get_caching_hooks(names_filter, *args, **kwargs)
        return cache, [(name, reading_a_copy(hook)) for name, hook in forward], backward

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """As in TransformerLens.

        Raises:
            HookNameError: a hook on a point that does not fire.
            ThreadConflictError: another thread is within `neolens.what_if` on this model.
            TypeError, ValueError: no text or tokens, or tokens outside the vocabulary.
        """
        value, options = args[0] if args else kwargs.get("input"), {**kwargs}
        options.pop("input", None)
        residual_or_input(value, options.get("start_at_layer"), self.anatomy, self.cfg.dtype)
        check_call("forward", args[1:], options, self.anatomy, value)
        for point in self._points():
            if point.never_fires is not None and (point._forward_hooks or point._backward_hooks):
                raise HookNameError(point.never_fires)
        with self._neolens_state.hold("a forward pass"):
            return super().forward(*args, **kwargs)

    def generate(self, input: Any = "", max_new_tokens: int = 10, *args: Any, **kwargs: Any) -> Any:
        """As in TransformerLens; tokens outside the vocabulary, and more of them than positions, are refused."""
        check_input(input, self.anatomy)
        check_call("generate", (max_new_tokens, *args), kwargs, self.anatomy, input)
        tokens = input if isinstance(input, Tensor) else self.to_tokens(input, kwargs.get("prepend_bos"))
        length = tokens.shape[-2 if tokens.is_floating_point() else -1]
        if kwargs.get("names_filter") is not None:
            kwargs["names_filter"] = self._checked_filter(kwargs["names_filter"])
        return super().generate(input, check_room(max_new_tokens, length, self.anatomy), *args, **kwargs)

    def _points(self) -> list[EditableHookPoint]:
        """Every hook point once, those that do not fire included."""
        return list({id(point): point for point in self._hook_registry.values()}.values())

    def _check_names(self, names: Sequence[str | Callable[[str], bool]]) -> None:
        """Raise for a name, or for a filter of names, that chooses no hook point that fires."""
        points = self.hook_dict if names else {}
        firing = [name for name, point in points.items() if point.never_fires is None]
        for name in names:
            if isinstance(name, str) and points[name].never_fires is not None:
                raise HookNameError(points[name].never_fires)
            if callable(name) and not any(map(name, firing)):
                silent = [point.never_fires for other, point in points.items() if name(other)]
                anywhere = (
                    f"the filter chooses no hook point of {self.anatomy.name}: names are those of model.hook_dict"
                )
                raise HookNameError(silent[0] if silent else anywhere)

    def _checked_filter(self, names: Any) -> Any:
        """A filter that chooses hook points that fire, in a type that TransformerLens takes; None for all."""
        if names is None:
            return None
        listed = names_listed(names)
        self._check_names(listed)
        return names if isinstance(names, str) or callable(names) else listed

    def _check_layers_run(self, names: Sequence[Any], start: int | None, stop: int | None) -> None:
        """Raise for a hook in a layer that `start_at_layer` or `stop_at_layer` leaves out."""
        layers = self.anatomy.layers
        first, last = (layers + at if at is not None and at < 0 else at for at in (start, stop))
        for name in names:
            if isinstance(name, str) and name.startswith("blocks."):
                layer = int(name.split(".")[1])
                if layer < (first or 0) or (last is not None and layer >= last):
                    raise HookNameError(
                        f"a hook at {name} would have no effect: the run has layers {first or 0} to "
                        f"{(layers if last is None else last) - 1} (start_at_layer={start}, stop_at_layer={stop})"
                    )

    # Switches --------------------------------------------------------------------------------------

    def set_use_attn_result(self, use_attn_result: bool) -> None:
        """As in TransformerLens; refused while a hook is on a point that would stop firing."""
        self._switch("use_attn_result", use_attn_result, super().set_use_attn_result)

    def set_use_attn_in(self, use_attn_in: bool) -> None:
        """As in TransformerLens; refused while a hook is on a point that would stop firing."""
        self._switch("use_attn_in", use_attn_in, super().set_use_attn_in)

    def set_use_split_qkv_input(self, use_split_qkv_input: bool) -> None:
        """As in TransformerLens; refused while a hook is on a point that would stop firing."""
        self._switch("use_split_qkv_input", use_split_qkv_input, super().set_use_split_qkv_input)

    def set_use_hook_mlp_in(self, use_hook_mlp_in: bool) -> None:
        """As in TransformerLens; refused while a hook is on a point that would stop firing."""
        self._switch("use_hook_mlp_in", use_hook_mlp_in, super().set_use_hook_mlp_in)

    def _switch(self, switch: str, on: bool, set_switch: Callable[[bool], None]) -> None:
        on = check_bool(on, switch)
        switches = self.switches | {switch} if on else self.switches - {switch}
        for point in self._points():
            silent = why_silent(str(point.name), self.anatomy, switches)
            if silent is not None and point.never_fires is None and (point._forward_hooks or point._backward_hooks):
                raise HookNameError(f"set_{switch}({on}) would leave a hook without effect: {silent}; remove it first")
        set_switch(on)
        self._mark_points()

    def _mark_points(self) -> None:
        """Note at each point why it does not fire, or why edits are lost, with the switches as they are."""
        for point in self._points():
            point.never_fires = why_silent(str(point.name), self.anatomy, self.switches)
            point.edits_are_lost = why_ignored(str(point.name), self.switches)

    def enable_compatibility_mode(self, *args: Any, **kwargs: Any) -> None:
        """As in TransformerLens."""
        super().enable_compatibility_mode(*args, **kwargs)
        self._complete()

    def _complete(self) -> None:
        """What has to be done again when TransformerLens has rebuilt its components or hook points."""
        for module in self.modules():
            if type(module) is HookPoint:
                module.__class__ = EditableHookPoint
        self._mark_points()
