"""`neolens.ablate` against implementations that know nothing of it.

A head whose columns of the output matrix are 0 writes nothing: Hugging Face's models with such columns, and the pure
pass of the same weights, with which the replay of a sequential block agrees to the last bit. And TransformerLens's
plain bridges, run by `engine="hooks"` and with hooks written out here.
"""

import copy
import functools
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

import neolens
import tiny
from neolens.ablation import Beyond, Within, ablate, each_head, each_layer
from neolens.network import logits, residual, weights_of
from test_ablation import MINE, close, loss_by_hand, prompts

pytestmark = pytest.mark.filterwarnings("ignore:the mean is over only:UserWarning")

every_family = pytest.mark.parametrize("name", tiny.NAMES)


@pytest.fixture(scope="module")
def plain(tiny_folders) -> Callable[[str], TransformerBridge]:
    """TransformerLens's own bridge of each tiny model."""
    return functools.cache(lambda name: TransformerBridge.boot_transformers(str(tiny_folders[name]), device="cpu"))


# Hugging Face's models with columns of zeros --------------------------------------------------------------------


def columns(model, layer: int, head: int) -> Tensor:
    """What of the output matrix a head's z is multiplied by."""
    kind, each = model.config.model_type, model.config.hidden_size // model.config.num_attention_heads
    block, its = (model.gpt_neox.layers if kind == "gpt_neox" else model.transformer.h)[layer], slice(head * each, None)
    if kind == "gpt2":  # a matrix [in, out]
        return block.attn.c_proj.weight[its][:each]
    output = block.attn.attention.out_proj if kind == "gpt_neo" else block.attention.dense
    return output.weight[:, its][:, :each]


def silenced(model, heads):
    """A copy of the model in which these heads write nothing."""
    model = copy.deepcopy(model)
    with torch.no_grad():
        for layer, head in heads:
            assert columns(model, layer, head).abs().sum() > 1
            columns(model, layer, head).zero_()
    return model


@every_family
def test_zero_ablation_is_hugging_faces_model_with_the_heads_columns_zero(name, tiny_models, bridges):
    asked = prompts((11, 7))
    groups = each_head(bridges[name]) | each_layer(bridges[name]) | MINE
    result = ablate(bridges[name], asked, groups, how="zero", progress=False)
    for group, heads in groups.items():
        model = silenced(tiny_models[name], heads)
        for number, prompt in enumerate(asked):
            with torch.no_grad():
                truth = loss_by_hand(model(prompt[None], use_cache=False).logits.double(), prompt)[0]
            close(result.ablated.sel(group=group, prompt=number)[: len(prompt)], truth)


def pure_losses(model, tokens: Tensor) -> Tensor:
    """The loss at every position but the last, of one pure pass."""
    weights = weights_of(model)
    with torch.no_grad():
        its = logits(weights, residual(weights, tokens))
        found = its[:, :-1].gather(2, tokens[:, 1:, None])[..., 0] - its[:, :-1].logsumexp(-1)
    return -found


@pytest.mark.parametrize("heads", [[(0, 1)], [(1, 0), (1, 3)], [(0, 2), (1, 1), (2, 0)]], ids=str)
@every_family
def test_it_is_the_pure_pass_with_those_columns_zero_to_the_last_bit(name, heads, tiny_models, bridges, tmp_path):
    silenced(tiny_models[name], heads).save_pretrained(tmp_path)
    mute, tokens = neolens.load(tmp_path), tiny.tokens(batch=3)
    ours = ablate(bridges[name], tokens, {"one": heads}, how="zero", progress=False).ablated[0, :, :-1].values
    theirs = ablate(mute, tokens, {"one": heads}, how="zero", progress=False)
    np.testing.assert_array_equal(ours, theirs.baseline[:, :-1])
    np.testing.assert_array_equal(ours, theirs.ablated[0, :, :-1])
    np.testing.assert_allclose(ours, pure_losses(mute, tokens), rtol=1e-6, atol=5e-6)


# TransformerLens's bridges ----------------------------------------------------------------------------------------


@every_family
@pytest.mark.parametrize("how", ["zero", "mean", "resample"])
def test_a_plain_bridge_gives_the_same_numbers_by_hooks(name, how, plain, bridges):
    asked, call = prompts((8, 5, 8, 5)), dict(how=how, metric=["loss", "kl_divergence"], seed=2, progress=False)
    theirs = ablate(plain(name), asked, MINE, engine="hooks", **call)
    ours = ablate(bridges[name], asked, MINE, **call)
    assert ours.attrs["engine"] == "replay"
    for metric in ("loss", "kl_divergence"):
        close(ours.ablated.sel(metric=metric), theirs.ablated.sel(metric=metric))
        close(ours.baseline.sel(metric=metric), theirs.baseline.sel(metric=metric))
    automatic = ablate(plain(name), asked[:1], {"one": [(0, 0)]}, how="zero", progress=False)
    assert automatic.attrs["engine"] == "hooks"
    assert automatic.attention_kind.values.tolist() == ["global"]


@pytest.mark.parametrize("name", ["gpt2", "pythia", "neox-sequential"])
@pytest.mark.parametrize("how", [Beyond(3), Within(2)], ids=str)
def test_a_plain_bridge_cuts_attention_as_the_replay_does(name, how, plain, bridges):
    asked, call = prompts((8, 5)), dict(how=how, progress=False)
    theirs = ablate(plain(name), asked, MINE, engine="hooks", **call)
    close(ablate(bridges[name], asked, MINE, **call).ablated, theirs.ablated)
    assert (abs(theirs.ablated - theirs.baseline).max(("prompt", "pos")) > 1e-2).all()


@every_family
@pytest.mark.parametrize("how", ["zero", "mean"])
@torch.no_grad()
def test_hooks_on_a_plain_bridge_with_no_code_of_ours_say_the_same(name, how, plain, bridges):
    model, tokens = plain(name), torch.stack(prompts((8, 8, 8)))
    _, cache = model.run_with_cache(tokens)

    def put(heads, layer, z, hook):
        mean = cache[f"blocks.{layer}.attn.hook_z"].mean(0)
        for head in heads:
            z[:, :, head] = 0.0 if how == "zero" else mean[:, head]
        return z

    result = ablate(bridges[name], tokens, MINE, how=how, progress=False)
    for group, heads in MINE.items():
        layers = {layer: [head for its, head in heads if its == layer] for layer, _ in heads}
        hooks = [(f"blocks.{layer}.attn.hook_z", functools.partial(put, its, layer)) for layer, its in layers.items()]
        found = model.run_with_hooks(tokens, fwd_hooks=hooks).double()
        for number, prompt in enumerate(tokens):
            close(result.ablated.sel(group=group, prompt=number), loss_by_hand(found[number][None], prompt)[0])


def test_a_plain_bridge_that_takes_no_notice_of_changed_scores_is_refused_for_cuts(plain, bridges):
    with pytest.raises(ValueError, match=r"how=Beyond\(distance=2\): this bridge discards .* neolens\.load"):
        ablate(plain("gpt-neo"), prompts(), MINE, how=Beyond(2), progress=False)
    assert (
        ablate(bridges["gpt-neo"], prompts(), MINE, how=Beyond(2), engine="hooks", progress=False).sizes["group"] == 2
    )


@pytest.mark.filterwarnings("ignore:A hook on attn:UserWarning")
@torch.no_grad()
def test_that_bridge_still_takes_no_notice(plain):
    # fails when TransformerLens mends it: then take the refusal out of neolens.ablation.ablate
    model, tokens = plain("gpt-neo"), torch.stack(prompts((8, 8)))
    changed = model.run_with_hooks(tokens, fwd_hooks=[("blocks.0.attn.hook_attn_scores", lambda x, hook: x * 0.0)])
    assert torch.equal(changed, model(tokens))


def test_the_replay_engine_does_not_take_a_plain_bridge(plain):
    with pytest.raises(ValueError, match="the replay engine takes models of neolens.load: load the model with it, or"):
        ablate(plain("gpt2"), prompts(), MINE, how="zero", engine="replay", progress=False)
