"""What everybody expects of a TransformerBridge and of a Hugging Face model holds for `neolens.load` too."""

import copy
import io
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

import neolens
import oracles
import tiny


def hugging_face(folder: Path, dtype: torch.dtype = torch.float32):
    return AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager", dtype=dtype).eval()


def nudge(value: Tensor, hook) -> Tensor:
    return tiny.nudged(value)


def assert_close(ours: Tensor, truth: Tensor, tolerance: float = 1e-5) -> None:
    assert (ours - truth).abs().max() < tolerance * truth.std()


# Logits --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [1, tiny.WINDOW, 14, 40])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("name", tiny.NAMES)
def test_logits_are_hugging_faces_to_the_bit(name, dtype, length, tiny_folders, loaded):
    model, truth = loaded(name, dtype), hugging_face(tiny_folders[name], dtype)
    tokens = tiny.tokens(seed=length, batch=3, length=length)

    with torch.no_grad():
        logits, expected = model(tokens), truth(tokens).logits

    assert logits.dtype == dtype
    assert (logits - expected).abs().max().item() == 0.0
    assert (model(tokens) - expected).abs().max().item() == 0.0, "gradients on"


@pytest.fixture(scope="module")
def loaded(tiny_folders):
    models = {}

    def load(name: str, dtype: torch.dtype):
        if (name, dtype) not in models:
            models[name, dtype] = neolens.load(tiny_folders[name], dtype=dtype)
        return models[name, dtype]

    return load


@pytest.mark.parametrize("name", tiny.NAMES)
def test_a_run_can_stop_before_a_layer_and_go_on_from_there(name, bridges, networks):
    model, tokens = bridges[name], tiny.tokens(seed=20)
    resid = oracles.forward(networks[name], tokens).after["blocks.2.hook_resid_pre"]

    with torch.no_grad():
        stopped = model(tokens, stop_at_layer=2)
        resumed = model(stopped, start_at_layer=2)

        assert_close(stopped, resid)
        assert_close(resumed, model(tokens))


# The process around it -----------------------------------------------------------------------------

BESIDE = """
    import sys
    import torch
    from transformer_lens.factories.architecture_adapter_factory import (
        SUPPORTED_ARCHITECTURES,
        ArchitectureAdapterFactory,
    )
    from transformer_lens.model_bridge import TransformerBridge

    torch.set_num_threads(1)
    tokens = torch.arange(1, 29).reshape(2, 14)
    watched = ("transformer_lens", "transformers.models.gpt", "transformers.modeling_utils", "torch.nn")

    def snapshot():
        seen = {}
        for module_name, module in list(sys.modules.items()):
            if not module_name.startswith(watched):
                continue
            for name, value in list(vars(module).items()):
                seen[module_name, name] = value
                if isinstance(value, type) and value.__module__ == module_name:
                    seen.update({(module_name, name, key): part for key, part in vars(value).items()})
        return seen

    folders = sys.argv[1:]
    plain = [TransformerBridge.boot_transformers(folder) for folder in folders]
    before = [model(tokens).detach() for model in plain]
    aliases = [dict(model.blocks[0].hook_aliases) for model in plain]
    registry = (dict(SUPPORTED_ARCHITECTURES), dict(ArchitectureAdapterFactory._adapters))
    switches = (torch.get_default_dtype(), torch.is_grad_enabled(), torch.get_num_threads())
    world = snapshot()

    import neolens

    ours = [neolens.load(folder) for folder in folders]
    for model in ours:
        model.run_with_hooks(tokens, fwd_hooks=[("blocks.0.attn.hook_pattern", lambda x, hook: x * 2)])

    later = snapshot()
    # a counter that TransformerLens itself advances for every bridge it builds
    changed = [k for k, value in world.items() if later.get(k) is not value and k[1] != "_ALIAS_GENERATION"]
    assert not changed, f"changed: {changed[:5]}"
    assert (SUPPORTED_ARCHITECTURES, ArchitectureAdapterFactory._adapters) == registry
    assert switches == (torch.get_default_dtype(), torch.is_grad_enabled(), torch.get_num_threads())
    again = [TransformerBridge.boot_transformers(folder) for folder in folders]
    for logits, old, new, alias in zip(before, plain, again, aliases):
        assert torch.equal(old(tokens), logits), "a model booted before has changed"
        assert torch.equal(new(tokens), logits), "a model booted afterwards differs"
        assert type(old) is type(new) is TransformerBridge
        assert dict(new.blocks[0].hook_aliases) == alias
    print("as before")
"""


def test_a_model_booted_beside_ours_behaves_as_before_and_nothing_global_is_patched(tiny_folders):
    folders = [str(folder) for folder in tiny_folders.values()]

    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(BESIDE), *folders],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
    )

    assert run.returncode == 0, run.stderr[-2000:]
    assert run.stdout.strip().endswith("as before")


# Copies and weights --------------------------------------------------------------------------------


def used(folder: Path):
    """A model that has run before, with gradients on: what a run leaves behind must not disturb a copy."""
    model = neolens.load(folder)
    model(tiny.tokens())
    return model


@pytest.mark.parametrize("name", tiny.NAMES)
def test_a_deep_copy_is_the_same_model(name, tiny_folders):
    model, tokens = used(tiny_folders[name]), tiny.tokens(seed=21)

    twin = copy.deepcopy(model)

    assert type(twin) is type(model)
    assert neolens.anatomy(twin) == neolens.anatomy(model)
    assert torch.equal(twin(tokens), model(tokens))
    with pytest.raises((KeyError, ValueError), match="layers are 0 to"):
        twin.run_with_hooks(tokens, fwd_hooks=[("blocks.9.hook_resid_pre", nudge)])


COPIED_SITES = {
    "attn.hook_q": None,
    "attn.hook_pattern": None,
    "hook_resid_mid": None,
    "hook_resid_post": None,
    "attn.hook_result": "set_use_attn_result",
    "hook_q_input": "set_use_split_qkv_input",
    "hook_attn_in": "set_use_attn_in",
    "hook_mlp_in": "set_use_hook_mlp_in",
}


@pytest.mark.parametrize("name", tiny.NAMES)
def test_hooks_act_on_a_deep_copy_and_leave_the_original_alone(name, tiny_folders, networks):
    model, tokens = used(tiny_folders[name]), tiny.tokens(seed=22)
    plain = model(tokens).detach()
    twin = copy.deepcopy(model)

    for site, switch in COPIED_SITES.items():
        if site == "hook_resid_mid" and name not in tiny.SEQUENTIAL:
            continue
        hook_name = f"blocks.1.{site}"
        if switch:
            getattr(twin, switch)(True)
        edited = twin.run_with_hooks(tokens, fwd_hooks=[(hook_name, nudge)]).detach()
        if switch:
            getattr(twin, switch)(False)

        truth = oracles.forward(networks[name], tokens, {hook_name: tiny.nudged}).logits
        assert (edited - truth).abs().max() < 1e-5 * truth.std(), hook_name
        assert torch.equal(model(tokens), plain), f"{hook_name} of the copy reached the original"


@pytest.mark.parametrize("name", tiny.NAMES)
def test_hooks_switches_and_weights_of_a_copy_are_its_own(name, tiny_folders):
    model, tokens = used(tiny_folders[name]), tiny.tokens(seed=23)
    twin = copy.deepcopy(model)
    plain = model(tokens).detach()

    twin.add_hook("blocks.1.attn.hook_z", nudge)
    twin.set_use_attn_result(True)
    assert torch.equal(model(tokens), plain), "a hook on the copy reached the original"
    assert not model.cfg.use_attn_result, "a switch on the copy reached the original"
    twin.reset_hooks()
    twin.set_use_attn_result(False)

    model.add_hook("blocks.1.attn.hook_pattern", nudge)
    assert torch.equal(twin(tokens), plain), "a hook on the original reached the copy"
    model.reset_hooks()

    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.mul_(0.5)
    assert not torch.allclose(twin(tokens), plain)
    assert torch.equal(model(tokens), plain), "weights are shared"


@pytest.mark.parametrize("name", tiny.NAMES)
def test_a_copy_of_a_hooked_model_takes_its_hooks_along_and_drops_them_alone(name, tiny_folders):
    model, tokens = used(tiny_folders[name]), tiny.tokens(seed=24)
    plain = model(tokens).detach()
    model.add_hook("blocks.0.attn.hook_pattern", nudge)
    hooked = model(tokens).detach()

    twin = copy.deepcopy(model)
    assert torch.equal(twin(tokens), hooked)
    twin.reset_hooks()

    assert torch.equal(twin(tokens), plain)
    assert torch.equal(model(tokens), hooked)


@pytest.mark.parametrize("name", tiny.NAMES)
def test_a_state_dict_survives_the_round_trip(name, tiny_folders, tmp_path):
    tiny.model(name, seed=1).save_pretrained(tmp_path)
    tokens = tiny.tokens(seed=25)
    source, target = neolens.load(tiny_folders[name]), neolens.load(tmp_path)
    assert not torch.allclose(source(tokens), target(tokens))

    file = io.BytesIO()
    torch.save(source.state_dict(), file)
    file.seek(0)
    report = target.load_state_dict(torch.load(file, weights_only=True))

    assert (report.missing_keys, report.unexpected_keys) == ([], [])
    assert torch.equal(source(tokens), target(tokens))


# Training mode -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def dropout_folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("dropout")
    for name in tiny.NAMES:
        tiny.model(name, dropout=0.3).save_pretrained(root / name)
    return {name: root / name for name in tiny.NAMES}


@pytest.mark.parametrize("name", tiny.NAMES)
def test_training_mode_drops_what_hugging_face_drops(name, dropout_folders):
    model, truth = neolens.load(dropout_folders[name]), hugging_face(dropout_folders[name])
    tokens = tiny.tokens(seed=26)
    plain = model(tokens)

    model.train()
    truth.train()
    torch.manual_seed(3)
    ours = model(tokens)
    torch.manual_seed(3)
    theirs = truth(tokens).logits

    assert (ours - theirs).abs().max().item() == 0.0
    assert not torch.allclose(ours, plain), "nothing was dropped"
    assert torch.equal(model.eval()(tokens), plain), "evaluation mode is not restored"


@pytest.mark.parametrize("name", tiny.NAMES)
def test_one_step_of_gradient_descent_is_hugging_faces(name, tiny_folders):
    model, truth = neolens.load(tiny_folders[name]), hugging_face(tiny_folders[name])
    tokens = tiny.tokens(seed=27)

    for parameters, logits in (
        (model.parameters(), model(tokens)),
        (truth.parameters(), truth(tokens).logits),
    ):
        optimiser = torch.optim.SGD(parameters, lr=1e-3)
        tiny.weighted_sum(logits).backward()
        optimiser.step()

    after = truth(tokens).logits.detach()
    assert not torch.allclose(after, hugging_face(tiny_folders[name])(tokens).logits)
    assert_close(model(tokens).detach(), after, tolerance=1e-4)


# Generation ----------------------------------------------------------------------------------------

NEW = 16  # with a prompt of 6, well past the window


def generated(model, tokens: Tensor, *, cache: bool, **options) -> Tensor:
    settings = dict(do_sample=False, stop_at_eos=False, return_type="tokens", verbose=False)
    return model.generate(tokens, max_new_tokens=NEW, use_past_kv_cache=cache, **settings, **options)


@pytest.mark.parametrize("cache", [True, False], ids=["with cache", "without cache"])
@pytest.mark.parametrize("name", tiny.NAMES)
def test_greedy_generation_past_the_window_is_hugging_faces(name, cache, bridges, tiny_folders):
    truth, tokens = hugging_face(tiny_folders[name]), tiny.tokens(seed=28, batch=6, length=6)
    truth.generation_config.eos_token_id = None
    mask = torch.ones_like(tokens)

    ours = generated(bridges[name], tokens, cache=cache)
    theirs = truth.generate(tokens, attention_mask=mask, max_new_tokens=NEW, do_sample=False, pad_token_id=0)

    assert ours.tolist() == theirs.tolist()
    assert len(ours[:, 6:].unique()) > 4, "constant continuations would prove little"


@pytest.mark.parametrize("cache", [True, False], ids=["with cache", "without cache"])
@pytest.mark.parametrize("site", ["attn.hook_z", "attn.hook_pattern", "hook_resid_post"])
@pytest.mark.parametrize("name", tiny.NAMES)
def test_a_hook_acts_at_every_step_of_generation(name, site, cache, bridges, networks):
    model, tokens, hook_name = bridges[name], tiny.tokens(seed=29, length=6), f"blocks.1.{site}"

    with model.hooks(fwd_hooks=[(hook_name, lambda value, hook: value * 0.3)]):
        ours = generated(model, tokens, cache=cache)

    truth = tokens
    for _ in range(NEW):
        logits = oracles.forward(networks[name], truth, {hook_name: lambda value: value * 0.3}).logits
        truth = torch.cat([truth, logits[:, -1:].argmax(dim=-1)], dim=1)
    assert ours.tolist() == truth.tolist()


@pytest.mark.parametrize("name", tiny.NAMES)
def test_left_padding_leaves_the_logits_of_the_prompt_alone(name, bridges):
    model, tokens = bridges[name], tiny.tokens(seed=30, batch=1, length=9)
    pads = torch.full((1, 5), 3)
    padded, mask = torch.cat([pads, tokens], dim=1), torch.tensor([[0] * 5 + [1] * 9])

    with torch.no_grad():
        alone = model(tokens)
        beside = model(padded, attention_mask=mask)[:, 5:]
        ignored = model(padded)[:, 5:]

    assert_close(beside, alone)
    assert not torch.allclose(ignored, alone), "the padding would not have mattered"


@pytest.mark.parametrize("cache", [True, False], ids=["with cache", "without cache"])
@pytest.mark.parametrize("name", tiny.NAMES)
def test_a_left_padded_prompt_is_continued_as_the_prompt_alone(name, cache, bridges):
    model, tokens = bridges[name], tiny.tokens(seed=31, batch=1, length=6)
    padded, mask = torch.cat([torch.full((1, 5), 3), tokens], dim=1), torch.tensor([[0] * 5 + [1] * 6])

    alone = generated(model, tokens, cache=cache)
    beside = generated(model, padded, cache=cache, attention_mask=mask)

    assert beside[:, 5:].tolist() == alone.tolist()
