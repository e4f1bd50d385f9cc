"""What changes a model besides its weights is refused by the default engines, and run by `engine="hooks"`.

A table of modifications; each is made on a model of its own and taken away again. The truth of the hooked engines is
the modified model itself, run by hand.
"""

import contextlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize

import neolens
import tiny
from as_built import assert_as_built, plain_logits
from instrument_calls import DEFAULT, HOOKED, OF_RUNS, PAIRS, TOKENS, assert_same_numbers
from neolens.models.modifications import hooked_points, modified_modules
from neolens.models.state import state_of
from neolens.network import hooks_on

FAMILIES = ("gpt2", "gpt-neo", "pythia")


def original(component: Any) -> nn.Module:
    """The Hugging Face module under a component."""
    while hasattr(component, "original_component"):
        component = component.original_component
    return component


def linear_in(model: Any, layer: int = 1) -> Any:
    return getattr(model.blocks[layer].mlp, "in")


# Modifications: context managers over a model ---------------------------------------------------------------


def larger(output: Any) -> Any:
    """Twice the output, or the first of several."""
    return (output[0] * 2, *output[1:]) if isinstance(output, tuple) else output * 2


def moved(output: Any) -> Any:
    """An edit of logits that no later softmax undoes."""
    output = output.clone() if isinstance(output, torch.Tensor) else output
    logits = output if isinstance(output, torch.Tensor) else output.logits
    logits[..., :6] += 1.0
    return output


def forward_hook(find: Callable[[Any], nn.Module], edit: Callable = larger) -> Callable:
    @contextlib.contextmanager
    def modified(model: Any) -> Iterator[None]:
        handle = find(model).register_forward_hook(lambda module, inputs, output: edit(output))
        try:
            yield
        finally:
            handle.remove()

    return modified


def pre_hook(find: Callable[[Any], nn.Module]) -> Callable:
    @contextlib.contextmanager
    def modified(model: Any) -> Iterator[None]:
        handle = find(model).register_forward_pre_hook(lambda module, inputs: (inputs[0] * 2, *inputs[1:]))
        try:
            yield
        finally:
            handle.remove()

    return modified


class Doubled(nn.Module):
    """A parametrization."""

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        return weight * 2


def parametrized(find: Callable[[Any], nn.Module]) -> Callable:
    @contextlib.contextmanager
    def modified(model: Any) -> Iterator[None]:
        module = find(model)
        parametrize.register_parametrization(module, "weight", Doubled())
        try:
            yield
        finally:
            parametrize.remove_parametrizations(module, "weight", leave_parametrized=False)

    return modified


def weight_norm(find: Callable[[Any], nn.Module]) -> Callable:
    @contextlib.contextmanager
    def modified(model: Any) -> Iterator[None]:
        module = find(model)
        weight = module.weight
        parametrizations.weight_norm(module)
        with torch.no_grad():
            module.parametrizations.weight.original0.mul_(2)
        try:
            yield
        finally:
            parametrize.remove_parametrizations(module, "weight")
            module.weight = weight

    return modified


def old_weight_norm(find: Callable[[Any], nn.Module]) -> Callable:
    """The deprecated one, a forward pre-hook that computes the weight."""

    @contextlib.contextmanager
    def modified(model: Any) -> Iterator[None]:
        module = find(model)
        weight = module.weight
        nn.utils.weight_norm(module)
        with torch.no_grad():
            module.weight_g.mul_(2)
        try:
            yield
        finally:
            nn.utils.remove_weight_norm(module)
            module.weight = weight

    return modified


class WithAdapter(nn.Module):
    """A linear map with a low-rank adapter, as LoRA libraries make it: `weight` is that of the base alone."""

    def __init__(self, base: nn.Module) -> None:
        super().__init__()
        draw = torch.Generator().manual_seed(3)
        self.base = base
        self.down = nn.Parameter(0.3 * torch.randn(32, 2, generator=draw))
        self.up = nn.Parameter(0.3 * torch.randn(2, 48, generator=draw))

    @property
    def weight(self) -> torch.Tensor:
        return self.base.weight

    @property
    def bias(self) -> torch.Tensor:
        return self.base.bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.base(x) + x @ self.down @ self.up


WithAdapter.__name__ = WithAdapter.__qualname__ = "Linear"


class Square(nn.Module):
    """An activation function, or an MLP."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * x / 4


def replaced(parent: Callable[[Any], nn.Module], name: str, make: Callable[[nn.Module], nn.Module]) -> Callable:
    @contextlib.contextmanager
    def modified(model: Any) -> Iterator[None]:
        module = parent(model)
        before = module._modules[name]
        module._modules[name] = make(before)
        try:
            yield
        finally:
            module._modules[name] = before

    return modified


def own_forward(find: Callable[[Any], nn.Module], edit: Callable = larger) -> Callable:
    """Written into `__dict__`: assigned to a component, TransformerLens passes it on to the Hugging Face module."""

    @contextlib.contextmanager
    def modified(model: Any) -> Iterator[None]:
        module = find(model)
        before = module.forward
        module.__dict__["forward"] = lambda *args, **kwargs: edit(before(*args, **kwargs))
        try:
            yield
        finally:
            del module.__dict__["forward"]

    return modified


@contextlib.contextmanager
def assigned_forward(model: Any) -> Iterator[None]:
    """As a user would write it."""
    module = original(model.blocks[1].mlp)
    before = module.forward
    model.blocks[1].mlp.forward = lambda *args, **kwargs: before(*args, **kwargs) * 2
    try:
        yield
    finally:
        del module.forward


@contextlib.contextmanager
def doubled_hook_point(model: Any) -> Iterator[None]:
    model.add_hook("blocks.1.hook_mlp_out", lambda value, hook: value * 2)
    try:
        yield
    finally:
        model.reset_hooks()


@dataclass(frozen=True)
class Modification:
    """`named`: a pattern of the module's name in the refusal and in `hooks_on`."""

    make: Callable
    named: str
    families: tuple[str, ...] = FAMILIES


MODIFICATIONS = {
    "hook on a hook point": Modification(doubled_hook_point, r"blocks\.1\.hook_mlp_out"),
    "torch hook on a hook point": Modification(forward_hook(lambda m: m.blocks[1].mlp.hook_out), "mlp"),
    "torch pre-hook on a hook point": Modification(pre_hook(lambda m: m.blocks[1].mlp.hook_in), "mlp"),
    "hook on an MLP": Modification(forward_hook(lambda m: m.blocks[1].mlp), r"1\.mlp"),
    "hook on an attention": Modification(forward_hook(lambda m: m.blocks[1].attn), r"1\.attn|1\.attention"),
    "hook on a block": Modification(forward_hook(lambda m: m.blocks[1]), r"blocks\.1"),
    "hook on a layer norm": Modification(forward_hook(lambda m: m.blocks[1].ln1), r"1\.(ln_1|input_layernorm)"),
    "hook on a projection": Modification(forward_hook(lambda m: m.blocks[1].attn.q), r"1\..*\.q"),
    "hook on the embedding": Modification(forward_hook(lambda m: m.embed), "embed|wte"),
    "pre-hook on an MLP": Modification(pre_hook(lambda m: m.blocks[1].mlp), r"1\.mlp"),
    "pre-hook on a layer norm": Modification(
        pre_hook(lambda m: getattr(m.blocks[1].mlp, "in")), r"1\.mlp\.(c_fc|dense_h_to_4h)"
    ),
    "hook on Hugging Face's linear": Modification(
        forward_hook(lambda m: original(linear_in(m))), r"1\.mlp\.(c_fc|dense_h_to_4h)"
    ),
    "hook on Hugging Face's layer norm": Modification(
        forward_hook(lambda m: original(m.blocks[1].ln1)), r"1\.(ln_1|input_layernorm)"
    ),
    "hook on Hugging Face's MLP": Modification(forward_hook(lambda m: original(m.blocks[1].mlp)), r"1\.mlp"),
    "hook on the model": Modification(forward_hook(lambda m: m, moved), "Bridge|model"),
    "hook on the original model": Modification(forward_hook(lambda m: m.original_model, moved), "GPT|original_model"),
    "parametrized linear": Modification(
        parametrized(lambda m: original(linear_in(m))), r"1\.mlp\.(c_fc|dense_h_to_4h)"
    ),
    "parametrized layer norm": Modification(
        parametrized(lambda m: original(m.blocks[1].ln1)), r"1\.(ln_1|input_layernorm)"
    ),
    "weight norm": Modification(weight_norm(lambda m: original(linear_in(m))), r"1\.mlp\.(c_fc|dense_h_to_4h)"),
    "old weight norm": Modification(old_weight_norm(lambda m: original(linear_in(m))), r"1\.mlp\.(c_fc|dense_h_to_4h)"),
    "adapter": Modification(replaced(linear_in, "_original_component", WithAdapter), r"1\.mlp\.(c_fc|dense_h_to_4h)"),
    "replaced activation": Modification(
        replaced(lambda m: original(m.blocks[1].mlp), "act", lambda _: Square()), r"1\.mlp\.act"
    ),
    "replaced MLP": Modification(
        replaced(lambda m: m.blocks[1].mlp, "_original_component", lambda _: Square()), r"1\.mlp"
    ),
    "forward of an MLP": Modification(own_forward(lambda m: m.blocks[1].mlp), r"1\.mlp"),
    "forward assigned to an MLP": Modification(assigned_forward, r"1\.mlp"),
    "forward of Hugging Face's linear": Modification(
        own_forward(lambda m: original(linear_in(m))), r"1\.mlp\.(c_fc|dense_h_to_4h)"
    ),
}
CASES = [
    pytest.param(
        family,
        modification,
        id=f"{family}, {name}",
        marks=pytest.mark.filterwarnings("ignore:.*weight_norm.*deprecated:FutureWarning"),
    )
    for name, modification in MODIFICATIONS.items()
    for family in modification.families
]

RUN_BY_HOOKS = [case for case in CASES if case.values[1] is not MODIFICATIONS["hook on the model"]]


@pytest.fixture(scope="module")
def models(tiny_folders):
    """Models of their own: what is left behind would break other tests."""
    return {family: neolens.load(tiny_folders[family]) for family in FAMILIES}


@pytest.fixture(scope="module")
def logits(models):
    return {family: plain_logits(model) for family, model in models.items()}


# Refused, or run -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("family", "modification"), CASES)
def test_default_engines_refuse_a_modified_model_and_name_the_module(family, modification, models, logits):
    model = models[family]
    with modification.make(model):
        assert not torch.allclose(plain_logits(model), logits[family]), "the modification changes nothing"
        for call in OF_RUNS:
            if family in (*call.families, "gpt2"):
                with pytest.raises(ValueError, match=modification.named) as refusal:
                    call.measure(model)
                assert ("engine='hooks'" in str(refusal.value)) == (call in DEFAULT), call
    assert_as_built(model, logits[family])
    DEFAULT[0].measure(model)


def run_with(model: Any, tokens: torch.Tensor, name: str, hook: Callable) -> torch.Tensor:
    """The model itself, called."""
    with model.hooks(fwd_hooks=[(name, hook)]):
        return model(tokens)


@torch.no_grad()
def by_hand(model: Any) -> dict[str, Any]:
    """Patterns of every layer, the patched logit difference and the ablated loss, from the model itself."""
    patterns = torch.stack(
        [model.run_with_cache(TOKENS)[1][f"blocks.{layer}.attn.hook_pattern"] for layer in range(model.cfg.n_layers)]
    )
    clean, corrupted = PAIRS.clean[0][None], PAIRS.corrupted[0][None]
    z = "blocks.1.attn.hook_z"
    source = model.run_with_cache(clean)[1][z]
    answer, distractor = int(PAIRS.answers[0]), int(PAIRS.distractors[0])
    patched = []
    for head in range(model.cfg.n_heads):

        def put(value: torch.Tensor, hook: Any, head: int = head) -> torch.Tensor:
            value = value.clone()
            value[:, :, head] = source[:, :, head]
            return value

        last = run_with(model, corrupted, z, put)[0, -1]
        patched.append(float(last[answer] - last[distractor]))

    def zero(value: torch.Tensor, hook: Any) -> torch.Tensor:
        value = value.clone()
        value[:, :, 0] = 0.0
        return value

    ablated = run_with(model, TOKENS, z, zero).log_softmax(-1)
    losses = -ablated[:, :-1].gather(2, TOKENS[:, 1:, None])[..., 0]
    return {"patterns": patterns, "patched": patched, "losses": losses}


@pytest.mark.parametrize("call", HOOKED, ids=str)
@pytest.mark.parametrize("family", FAMILIES)
def test_the_hooks_engine_refuses_a_torch_hook_on_the_model_which_run_with_hooks_would_not_run(family, call, models):
    modified = MODIFICATIONS["hook on the model"].make(models[family])
    with modified, pytest.raises(ValueError, match="torch hook on the model itself"):
        call.measure(models[family])
    call.measure(models[family])


@pytest.mark.parametrize(("family", "modification"), RUN_BY_HOOKS)
def test_the_hooks_engine_gives_what_the_modified_model_gives(family, modification, models, logits):
    model = models[family]
    plain = by_hand(model)
    with modification.make(model):
        expected = by_hand(model)
        attention, patched, ablated = (call.measure(model) for call in HOOKED)
        names = hooks_on(model)
    current = expected["patterns"].diagonal(dim1=-2, dim2=-1).mean(-1).permute(1, 0, 2)
    np.testing.assert_allclose(attention["current_token"].values, current, atol=1e-5)
    np.testing.assert_allclose(patched["patched"].values[0, 0], expected["patched"], atol=1e-4)
    np.testing.assert_allclose(ablated["ablated"].sel(group="1.0").values[:, :-1], expected["losses"], atol=1e-4)
    assert not np.allclose(expected["patched"], plain["patched"], atol=1e-3), "the modification changes nothing"
    assert re.search(modification.named, attention.attrs["hooks"])
    assert attention.attrs["hooks"] == ", ".join(names)
    assert_as_built(model, logits[family])


# Several dtypes, and training mode -------------------------------------------------------------------------


@pytest.mark.parametrize("call", OF_RUNS, ids=str)
def test_a_model_with_one_block_in_another_dtype_is_refused_with_the_dtypes(call, tiny_folders):
    model = neolens.load(tiny_folders[call.families[0]])
    model.blocks[1].to(torch.bfloat16)
    with pytest.raises(ValueError, match="several dtypes.*bfloat16.*float32"):
        call.measure(model)
    model.blocks[1].to(torch.float32)
    call.measure(model)


@pytest.fixture(scope="module")
def dropping(tmp_path_factory):
    """family -> a model with a dropout of 0.3, in evaluation mode."""
    return {family: tiny.loaded(tiny.model(family, dropout=0.3), tmp_path_factory) for family in FAMILIES}


def root(model: Any) -> nn.Module:
    return model


PARTS = {
    "the model": (root, FAMILIES),
    "the original model": (lambda model: model.original_model, FAMILIES),
    "a block": (lambda model: model.blocks[1], FAMILIES),
    "an attention": (lambda model: model.blocks[1].attn, FAMILIES),
    "one dropout module": (lambda model: original(model.blocks[1].mlp).dropout, ("gpt2", "gpt-neo")),
}


@pytest.mark.parametrize("call", OF_RUNS + HOOKED, ids=str)
@pytest.mark.parametrize(
    ("part", "family"), [(part, family) for part, (_, families) in PARTS.items() for family in families]
)
def test_dropout_in_training_mode_is_refused_by_both_engines(part, family, call, dropping):
    if family not in (*call.families, "gpt2"):
        pytest.skip("does not apply to this family")
    model = dropping[family]
    PARTS[part][0](model).train()
    try:
        with pytest.raises(ValueError, match=r"training mode.*model\.eval\(\)"):
            call.measure(model)
    finally:
        model.eval()
    if call in DEFAULT:
        call.measure(model)


@pytest.mark.parametrize("call", OF_RUNS + HOOKED, ids=str)
def test_training_mode_without_dropout_is_accepted(call, tiny_folders):
    model = neolens.load(tiny_folders[call.families[0]])
    expected = call.measure(model)
    model.train()
    assert_same_numbers(call.measure(model), expected)


# What is no modification -----------------------------------------------------------------------------------


def backward_pass(model: Any) -> None:
    model(TOKENS).sum().backward()
    model.zero_grad()


USES = {
    "run_with_cache": lambda model: model.run_with_cache(TOKENS),
    "run_with_hooks": lambda model: model.run_with_hooks(
        TOKENS, fwd_hooks=[("blocks.0.hook_mlp_out", lambda x, hook: x * 2)]
    ),
    "generate": lambda model: model.generate(TOKENS[:1], max_new_tokens=3, do_sample=False, verbose=False),
    "a backward pass": backward_pass,
    "output_attentions": lambda model: model.original_model(TOKENS, output_attentions=True, output_hidden_states=True),
}


@pytest.mark.parametrize("use", USES.values(), ids=USES)
@pytest.mark.parametrize("family", FAMILIES)
def test_after_an_ordinary_use_nothing_counts_as_modified(family, use, models, logits):
    model = models[family]
    expected = DEFAULT[0].measure(model)
    use(model)
    assert hooked_points(model) == []
    assert modified_modules(model, state_of(model).structure) == []
    assert_same_numbers(DEFAULT[0].measure(model), expected, 0)
    assert_as_built(model, logits[family])


EDITS = {
    "in place": lambda weight: weight.mul_(1.5),
    "through .data": lambda weight: weight.data.mul_(1.5),
    "a slice": lambda weight: weight[:4].zero_(),
}


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
@pytest.mark.parametrize("family", FAMILIES)
def test_an_edit_of_a_weight_is_seen_by_both_engines(family, edit, tiny_folders):
    model = neolens.load(tiny_folders[family])
    before, fingerprint = DEFAULT[0].measure(model), neolens.fingerprint(model)
    with torch.no_grad():
        edit(original(model.blocks[1].attn.q).weight)
    after, hooked = DEFAULT[0].measure(model), HOOKED[0].measure(model)
    assert float(abs(after["current_token"] - before["current_token"]).sel(layer=1).max()) > 1e-3
    assert float(abs(after["current_token"] - before["current_token"]).sel(layer=0).max()) == 0.0
    np.testing.assert_allclose(after["current_token"], hooked["current_token"], atol=1e-5)
    assert after.attrs["fingerprint"] == neolens.fingerprint(model) != fingerprint


@pytest.mark.parametrize("family", ["gpt2", "pythia", "neox-sequential"])
@pytest.mark.parametrize("field", ["weight", "bias"])
def test_the_joint_projection_has_no_parameters_and_says_what_to_use(field, family, bridges):
    joint = bridges[family].blocks[1].attn.qkv.original_component
    assert list(joint.parameters()) == []
    with pytest.raises(AttributeError, match=rf"{field} of attn\.q, attn\.k and attn\.v"):
        getattr(joint, field)


BIAS_OF_KEYS = re.compile(r"\.k\..*bias")
"""It shifts all scores of a query alike, which the softmax does not see (but after a rotation)."""


@pytest.mark.parametrize("family", tiny.NAMES)
@torch.no_grad()
def test_every_parameter_has_an_effect_on_the_logits(family, tiny_folders):
    model = neolens.load(tiny_folders[family])
    tokens = torch.arange(1, tiny.VOCAB)[None]
    plain = model(tokens)
    for name, parameter in model.named_parameters():
        if family == "gpt2" and BIAS_OF_KEYS.search(name):
            continue
        kept = parameter.clone()
        parameter.zero_()
        assert float((model(tokens) - plain).abs().max()) > 1e-3, f"{name} is not used"
        parameter.copy_(kept)
    assert torch.equal(model(tokens), plain)
