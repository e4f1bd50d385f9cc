"""Random hooks on random tiny models, judged by an independent forward pass.

The claim: an edit at any hook of a model from `neolens.load` either has exactly the effect that it should have, or is
refused with an error. `draw` makes a `Case` from a seed: a family, TransformerLens's switches, one to four edits, and
how each is made and added. `judge` runs it and compares logits, gradients and cached activations with
`hook_oracle.forward` in float64, and the hooks that ran with those that should have run. A refusal is right only where
the edit cannot have an effect.
"""

import random
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache, partial
from typing import Any

import torch
from torch import Tensor
from transformer_lens.hook_points import HookPoint

import hook_oracle
import oracles
import tiny
from hook_oracle import SPLITS, SWITCHES, Switches, has_effect, in_any_layer, names_of, point_of

# ----------------------------------------------------------------------------------------------------
# Cases
# ----------------------------------------------------------------------------------------------------

KINDS = ("halve", "add noise", "mean of another prompt", "zero a slice")
FORMS = ("returned", "returned transposed", "returned expanded", "in place", "in place and returned")
"""How a hook hands over the new value; transposed and expanded tensors are not contiguous."""
WAYS = ("add_hook", "point.add_hook", "hooks", "run_with_hooks")
"""How a hook is added, in the order in which a case uses them."""
TARGETS = ("name", "filter", "filter of all layers")
RUNS = ("forward", "run_with_hooks", "run_with_cache", "get_caching_hooks")

LENGTH = 9  # more than two windows

DEAD_NAMES = (
    *["hook_pos_embed", "rotary_emb.hook_in", "rotary_emb.hook_out", "rotary_emb.hook_cos", "blocks.0.hook_resid_mid"],
    *["blocks.0.attn.hook_rot_q", "blocks.1.attn.hook_rot_k", "blocks.1.attn.hook_cos", "blocks.0.attn.hook_sin"],
    *["blocks.0.attn.qkv.hook_in", "blocks.1.attn.qkv.hook_out", "blocks.1.attn.hook_hidden_states"],
)
"""Names for which a family has no point, or one that never fires."""
MISSPELT_NAMES = (
    *["blocks.0.attn.hook_patern", "blocks.1.hook_resid_mdi", "hook_embedd", "blocks.0.hook_pattern", "hook_q"],
    *["blocks.9.hook_resid_pre", "blocks.-1.attn.hook_z", "blocks.0.mlp.hook_mid", "ln_final.hook_scales"],
)


@dataclass(frozen=True)
class Edit:
    """One hook: an entry of `KINDS`, `FORMS`, `WAYS` and `TARGETS` each; `entry` chooses the slice."""

    name: str
    kind: str = "halve"
    form: str = "returned"
    way: str = "run_with_hooks"
    target: str = "name"
    entry: int = 0

    @property
    def in_place(self) -> bool:
        return self.form.startswith("in place")

    def matches(self, name: str) -> bool:
        """The filter of names."""
        if self.target == "filter of all layers":
            return in_any_layer(name) == in_any_layer(self.name)
        return name == self.name


@dataclass(frozen=True)
class Case:
    """The edits of one run. `flip` is a switch that is flipped after hooks were added and before the run."""

    family: str
    edits: tuple[Edit, ...]
    switches: Switches = frozenset()
    flip: str | None = None
    run: str = "run_with_hooks"
    gradients: bool = False
    prompt: int = 0

    @property
    def tokens(self) -> Tensor:
        return tiny.tokens(self.prompt, length=LENGTH)

    @property
    def final_switches(self) -> Switches:
        """The switches during the run."""
        return self.switches ^ ({self.flip} if self.flip else set())

    def points(self, edit: Edit) -> list[str]:
        """The points that fire during the run and that the edit is meant for."""
        names = names_of(list(unedited_values(self.family, self.final_switches)))
        return list(dict.fromkeys(point_of(name) for name in names if edit.matches(name)))


def draw(seed: int) -> Case:
    """The case of a seed. In most cases every edit can be made; in others any name is drawn."""
    rng = random.Random(seed)
    family, run = rng.choice(tiny.NAMES), rng.choice(RUNS)
    switches = frozenset(switch for switch in SWITCHES if rng.random() < 0.35)
    if switches >= SPLITS and rng.random() < 0.9:
        switches -= {rng.choice(sorted(SPLITS))}
    flip = rng.choice(SWITCHES) if rng.random() < 0.15 else None
    names = names_with_effect(family, switches ^ ({flip} if flip and rng.random() < 0.5 else set()))
    if rng.random() < 0.2:
        names = (*all_names(family), *DEAD_NAMES, *MISSPELT_NAMES)
    elif rng.random() < 0.1:  # all edits at one point
        names = tuple(names_of([point_of(rng.choice(names))]))
    ways = WAYS if run in ("run_with_hooks", "get_caching_hooks") else WAYS[:-1]
    edits = [_draw_edit(rng, names, ways, filters=flip is None) for _ in range(rng.randint(1, 4))]
    edits.sort(key=lambda edit: WAYS.index(edit.way))
    return Case(family, tuple(edits), switches, flip, run, gradients=rng.random() < 0.4, prompt=rng.randrange(4))


def _draw_edit(rng: random.Random, names: Sequence[str], ways: Sequence[str], filters: bool) -> Edit:
    kind, way = rng.choice(KINDS), rng.choice(ways)
    forms = [form for form in FORMS if form != "returned expanded" or kind == "mean of another prompt"]
    target = rng.choice(TARGETS) if filters and way != "point.add_hook" and rng.random() < 0.4 else "name"
    return Edit(rng.choice(names), kind, rng.choice(forms), way, target, entry=rng.randrange(24))


@lru_cache
def unedited_values(family: str, switches: Switches) -> dict[str, Tensor]:
    """The value at every point that fires, in a run of another prompt without edits; none where switches conflict."""
    if switches >= SPLITS:
        return {}
    with torch.no_grad():
        return hook_oracle.forward(_network(family), tiny.tokens(100, length=LENGTH), switches).values


@lru_cache
def _network(family: str, dtype: torch.dtype = torch.float64) -> oracles.Network:
    return oracles.network(tiny.model(family), dtype, grad=True)


@lru_cache
def names_with_effect(family: str, switches: Switches) -> tuple[str, ...]:
    """All names of the points where an edit has an effect."""
    switches = switches - {"use_attn_in"} if switches >= SPLITS else switches
    return tuple(names_of([point for point in unedited_values(family, switches) if has_effect(point, switches)]))


@lru_cache
def all_names(family: str) -> tuple[str, ...]:
    """All names of all points that fire with one set of switches or another."""
    points = [point for switches in hook_oracle.allowed_switches() for point in unedited_values(family, switches)]
    return tuple(names_of(list(dict.fromkeys(points))))


# ----------------------------------------------------------------------------------------------------
# Edits
# ----------------------------------------------------------------------------------------------------

MASKED = -1e30  # no visible score is as low


def apply_edit(edit: Edit, value: Tensor, point: str, source: Tensor) -> Tensor:
    """What the edit puts in place of `value`, in the same precision; `source` is the value in another prompt.

    Masked scores stay masked, and the divisor of a layer norm stays positive.
    """
    if not value.is_floating_point():
        return _apply_to_indices(edit, value)
    divisor = point.endswith("hook_scale")
    if edit.kind == "halve":  # every other entry: a layer norm undoes a change of scale
        new = value * (1 - 0.5 * (torch.arange(value.shape[-1]) % 2 == 0)).to(value.dtype)
    elif edit.kind == "add noise":
        noise = _noise(value.shape).to(value.dtype)
        new = value + (noise.abs() if divisor else noise)
    elif edit.kind == "mean of another prompt":
        new = source.mean(dim=(0, 1), keepdim=True).to(value.dtype).expand_as(value)
    else:
        new = value.clone()
        _slice_of(new, edit.entry).mul_(2.0 if divisor else 0.0)
    return torch.where(value < MASKED, value, new) if point.endswith("attn_scores") else new


def _apply_to_indices(edit: Edit, indices: Tensor) -> Tensor:
    """Other tokens or positions, all of them below the size of the vocabulary and of the context."""
    if edit.kind == "halve":
        return indices // 2
    if edit.kind == "add noise":
        return (indices + 7) % tiny.VOCAB
    if edit.kind == "mean of another prompt":
        return indices[:, 3:4].expand_as(indices)
    new = indices.clone()
    _slice_of(new, edit.entry).zero_()
    return new


def _slice_of(value: Tensor, entry: int) -> Tensor:
    """A view of one entry along one axis other than the first."""
    axis = 1 + entry % (value.ndim - 1)
    return value.select(axis, entry % value.shape[axis])


@lru_cache
def _noise(shape: torch.Size) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(len(shape)), dtype=torch.float64)


def hand_over(edit: Edit, value: Tensor, new: Tensor) -> Tensor | None:
    """What the hook returns, after it has written to `value` where it edits in place."""
    if edit.in_place:
        value.copy_(new)
        return value if edit.form == "in place and returned" else None
    if edit.form == "returned transposed":
        return new.transpose(0, 1).contiguous().transpose(0, 1)
    return new if edit.form == "returned expanded" else new.contiguous()


# ----------------------------------------------------------------------------------------------------
# The run on the model
# ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Subject:
    """A model from `neolens.load` with the weights of `tiny.model(family)`, and its logits without hooks."""

    family: str
    model: Any
    plain: Tensor = field(repr=False)
    points: list[HookPoint] = field(repr=False)

    @classmethod
    def of(cls, family: str, model: Any) -> "Subject":
        points = [module for module in model.modules() if isinstance(module, HookPoint)]
        return cls(family, model, model(tiny.tokens(length=LENGTH)).detach(), points)

    def hooked_points(self) -> list[str]:
        """The names of the points that have hooks."""
        return [str(point.name) for point in self.points if point._forward_hooks or point.fwd_hooks]

    def has_changed(self) -> bool:
        """Whether the logits without hooks differ from those at the beginning."""
        return not torch.equal(self.model(tiny.tokens(length=LENGTH)), self.plain)

    def restore(self) -> None:
        """Remove the hooks of a case and turn its switches off."""
        self.model.reset_hooks()
        for switch in SWITCHES:
            if getattr(self.model.cfg, switch):
                getattr(self.model, f"set_{switch}")(False)


@dataclass
class Observation:
    """The results of a run; `calls` are pairs (number of the edit, name of the point where its hook ran)."""

    logits: Tensor
    cache: Mapping[str, Tensor] | None
    gradient: Tensor | None
    calls: list[tuple[int, str]]


def observe(model: Any, case: Case) -> Observation:
    """Add the hooks of a case and run the model; hooks that last and switches stay."""
    calls: list[tuple[int, str]] = []
    hooks: dict[str, list] = {way: [] for way in WAYS}
    for number, edit in enumerate(case.edits):
        target = edit.name if edit.target == "name" else edit.matches
        hooks[edit.way].append((target, partial(_hook, case, number, calls)))
    with ExitStack() as stack:
        stack.enter_context(torch.set_grad_enabled(case.gradients))
        for switch in sorted(case.switches):
            getattr(model, f"set_{switch}")(True)
        for target, hook in hooks["add_hook"]:
            model.add_hook(target, hook)
        for target, hook in hooks["point.add_hook"]:
            hook_point(model, target).add_hook(hook)
        stack.enter_context(model.hooks(fwd_hooks=hooks["hooks"]))
        if case.flip:
            getattr(model, f"set_{case.flip}")(case.flip not in case.switches)
        logits, cache = _run(model, case, hooks["run_with_hooks"])
        gradient = gradient_of(logits, model.embed.weight) if case.gradients else None
    return Observation(logits.detach(), cache, gradient, calls)


def _hook(case: Case, number: int, calls: list, value: Tensor, hook: Any) -> Tensor | None:
    edit = case.edits[number]
    point = point_of(edit.name if edit.target == "name" else hook.name)
    calls.append((number, point))
    source = unedited_values(case.family, case.final_switches).get(point, value)
    return hand_over(edit, value, apply_edit(edit, value, point, source))


def _run(model: Any, case: Case, hooks: list) -> tuple[Tensor, Mapping[str, Tensor] | None]:
    tokens, cache = case.tokens, None
    if case.run == "forward":
        logits = model(tokens)
    elif case.run == "run_with_cache":
        logits, cache = model.run_with_cache(tokens)
    elif case.run == "get_caching_hooks":
        cache, reading, _ = model.get_caching_hooks()
        logits = model.run_with_hooks(tokens, fwd_hooks=hooks + reading)
    else:
        logits = model.run_with_hooks(tokens, fwd_hooks=hooks)
    if not torch.equal(tokens, case.tokens):
        raise AssertionError("the caller's tokens were changed")
    return logits, cache


def hook_point(model: Any, name: str) -> HookPoint:
    """The hook point object, by attributes, whether the model lists it or not."""
    part: Any = model
    try:
        for attribute in name.split("."):
            part = part[int(attribute)] if attribute.isdigit() else getattr(part, attribute)
    except (AttributeError, IndexError) as error:
        raise KeyError(name) from error
    return part


def gradient_of(logits: Tensor, embedding: Tensor) -> Tensor:
    """The gradient of a weighted sum of the logits at the embedding matrix."""
    if not logits.requires_grad:
        return torch.zeros_like(embedding)
    (gradient,) = torch.autograd.grad(tiny.weighted_sum(logits), embedding, allow_unused=True)
    return torch.zeros_like(embedding) if gradient is None else gradient


# ----------------------------------------------------------------------------------------------------
# The verdict
# ----------------------------------------------------------------------------------------------------

TOLERANCE = 1e-5  # of the standard deviation of the logits, or of the largest entry of another tensor
ROUNDING = 20  # times the error of the naive pass itself in float32, where that is more, and at most:
LARGEST_ROUNDING = 1e-3

REFUSALS = (KeyError, ValueError, NotImplementedError)
SAVED_BY_AUTOGRAD = ("attn.hook_pattern", "hook_scale")
"""Points whose value the backward pass needs as it was: autograd refuses an edit in place."""


@dataclass(frozen=True)
class Verdict:
    """`outcome` is "right", "refused" (rightly) or "wrong"."""

    outcome: str
    reason: str = ""


def judge_all(subjects: Mapping[str, Subject], seeds: Iterable[int]) -> Iterator[tuple[int, Case, Verdict]]:
    """Each seed, its case and the verdict; a model whose logits without hooks have changed makes its case wrong."""
    for count, seed in enumerate(seeds):
        case = draw(seed)
        verdict = judge(subjects[case.family], case)
        if count % 10 == 9 and subjects[case.family].has_changed():
            verdict = Verdict("wrong", "the logits without hooks have changed in this case or one before")
        yield seed, case, verdict


def judge(subject: Subject, case: Case) -> Verdict:
    """Run a case and compare it with the naive pass; afterwards the model is as it was."""
    error, observation, left = None, None, []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # upstream warns of rounding where a layer norm is edited
        try:
            observation = observe(subject.model, case)
        except Exception as raised:
            error = raised
        if all(edit.way in ("hooks", "run_with_hooks") for edit in case.edits):
            left = subject.hooked_points()
        subject.restore()
    if left := left + subject.hooked_points():
        return Verdict("wrong", f"hooks were left at {left}")
    return _verdict_on_error(case, error) if observation is None else verdict_on_run(case, observation)


def why_refuse(case: Case, *, at_first: bool = False) -> str | None:
    """Why the case cannot have an effect, or None; with `at_first`, as seen when the hooks were added."""
    if case.switches >= SPLITS or case.final_switches >= SPLITS:
        return "two switches exclude each other"
    for edit in case.edits:
        before = replace(case, flip=None) if at_first and edit.way != "run_with_hooks" else case
        points = before.points(edit)
        if not points:
            return f"{edit.name} does not fire"
        if not all(has_effect(point, before.final_switches) for point in points):
            return f"nothing depends on {edit.name} while {', '.join(before.final_switches & SPLITS)} is on"
    return None


def _verdict_on_error(case: Case, error: Exception | None) -> Verdict:
    message = f"{type(error).__name__}: {error}"
    if isinstance(error, REFUSALS):
        needed = why_refuse(case) or why_refuse(case, at_first=True)
        return Verdict("refused", message) if needed else Verdict("wrong", f"refused without need: {message}")
    if isinstance(error, RuntimeError) and _refused_by_torch(case, message):
        return Verdict("refused", message)
    return Verdict("wrong", message)


def _refused_by_torch(case: Case, message: str) -> bool:
    """Whether torch had to refuse an edit in place: of a value that autograd has saved, or of an expanded tensor that
    an earlier hook at the same point returned."""
    for number, edit in enumerate(case.edits):
        points = case.points(edit)
        saved = case.gradients and any(point.endswith(SAVED_BY_AUTOGRAD) for point in points)
        earlier = [case.points(before) for before in case.edits[:number] if before.form == "returned expanded"]
        expanded = [point for names in earlier for point in names]
        if edit.in_place and "inplace operation" in message and saved:
            return True
        if edit.in_place and "single memory location" in message and set(points) & set(expanded):
            return True
    return False


def verdict_on_run(case: Case, observation: Observation) -> Verdict:
    if reason := why_refuse(case):
        return Verdict("wrong", f"not refused: {reason}")
    expected = Counter((number, point) for number, edit in enumerate(case.edits) for point in case.points(edit))
    calls = Counter(observation.calls)
    if calls != expected:
        return Verdict("wrong", f"too many calls {dict(calls - expected)}, calls missing {dict(expected - calls)}")
    for what, difference in _differences(case, observation):
        if difference:
            return Verdict("wrong", f"{what}: {difference}")
    return Verdict("right")


@dataclass
class Truth:
    """The naive run of a case, in float64 and, computed where it is needed, in float32."""

    case: Case

    @cached_property
    def exact(self) -> hook_oracle.Run:
        return self._forward(torch.float64)

    @cached_property
    def rounded(self) -> hook_oracle.Run:
        return self._forward(torch.float32)

    def _forward(self, dtype: torch.dtype) -> hook_oracle.Run:
        case, edits = self.case, {}
        sources = unedited_values(case.family, case.final_switches)
        for edit in case.edits:
            for point in case.points(edit):
                edits.setdefault(point, []).append(partial(apply_edit, edit, point=point, source=sources[point]))
        with torch.set_grad_enabled(case.gradients):
            return hook_oracle.forward(_network(case.family, dtype), case.tokens, case.final_switches, edits)

    def gradient(self, run: hook_oracle.Run) -> Tensor:
        return gradient_of(run.logits, _network(self.case.family, run.logits.dtype).embed)


def _differences(case: Case, observation: Observation) -> Iterator[tuple[str, str]]:
    """Everything that is compared with the naive pass, and the difference: empty where there is none."""
    truth = Truth(case)
    std = truth.exact.logits.std().item()
    yield "logits", difference(observation.logits, truth, lambda run: run.logits, std)
    for name, value in (observation.cache or {}).items():
        point = point_of(name)
        if point in truth.exact.values:
            yield f"cache entry {name}", difference(value, truth, lambda run, point=point: run.values[point])
    if observation.gradient is not None:
        yield "gradient", difference(observation.gradient, truth, truth.gradient)
    if observation.cache is not None:
        points = list(truth.exact.values)
        expected = set(names_of(points) if case.run == "run_with_cache" else points)
        more, missing = sorted(set(observation.cache) - expected), sorted(expected - set(observation.cache))
        yield "names in the cache", f"too many {more}, missing {missing}" if more or missing else ""


def difference(ours: Tensor, truth: Truth, part: Callable[[hook_oracle.Run], Tensor], size: float | None = None) -> str:
    """How `ours` differs by more than rounding from a part of the naive run, relative to `size`; empty if it does not.

    The size is that of the largest entry unless it is given.
    """
    exact = part(truth.exact).detach()
    if ours.shape != exact.shape:
        return f"shape {tuple(ours.shape)}, expected {tuple(exact.shape)}"
    masked = exact < MASKED
    if not torch.equal(masked, ours < MASKED):
        return "masked scores are not those that should be masked"
    exact, ours = exact.masked_fill(masked, 0), ours.masked_fill(masked, 0)
    size = max(exact.abs().max().item() if size is None else size, 1e-6)
    error = (ours - exact).abs().max().item() / size
    if error < TOLERANCE:
        return ""
    rounding = (part(truth.rounded).detach().masked_fill(masked, 0) - exact).abs().max().item() / size
    return "" if error < min(ROUNDING * rounding, LARGEST_ROUNDING) else f"off by {error:.1e}, rounding {rounding:.1e}"


def shrink(subject: Subject, case: Case) -> Case:
    """A case that is wrong as well, without the edits, switches and settings that are not needed for that."""
    count = range(len(case.edits))
    smaller = [replace(case, edits=case.edits[:at] + case.edits[at + 1 :]) for at in count if len(case.edits) > 1]
    smaller += [replace(case, switches=case.switches - {switch}) for switch in sorted(case.switches)]
    smaller += [replace(case, flip=None), replace(case, gradients=False)]
    if case.run in ("run_with_cache", "get_caching_hooks"):
        smaller.append(replace(case, run="run_with_hooks"))
    smaller += [replace(case, edits=tuple(replace(edit, kind="halve", form="returned") for edit in case.edits))]
    smaller += [replace(case, edits=tuple(replace(edit, target="name") for edit in case.edits))]
    for option in smaller:
        if option != case and judge(subject, option).outcome == "wrong":
            return shrink(subject, option)
    return case
