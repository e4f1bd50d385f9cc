"""patch and ablate with engine="hooks" on TransformerLens's own bridges, and on architectures that neolens does not
know: right, or refused where the bridge would ignore or misplace an edit."""

import copy

import numpy as np
import pytest
import torch

import neolens
import tiny
from neolens.ablation import Beyond
from neolens.prompts import PromptPairs
from test_scores_hooked import foreign, upstream

PAIRS = PromptPairs.from_tokens(tiny.tokens(0), tiny.tokens(1), [1, 2], [3, 4])
SITES = ("resid_pre", "resid_post", "attn_out", "mlp_out", "z", "q", "k", "v", "pattern")


@pytest.fixture(scope="module")
def plain(tiny_models):
    """TransformerLens's own bridge of each tiny model."""
    return {name: upstream(copy.deepcopy(model)) for name, model in tiny_models.items()}


@pytest.mark.parametrize("site", SITES)
@pytest.mark.parametrize("name", tiny.NAMES)
def test_a_sweep_on_transformer_lenss_own_bridge_is_right_or_refused(name, site, plain, bridges):
    if (name, site) == ("gpt-neo", "pattern"):
        with pytest.raises(ValueError, match=r"discards what a hook returns at blocks\.0\.attn\.hook_pattern: load"):
            neolens.patch(plain[name], PAIRS, site, engine="hooks", progress=False)
        return
    if site in ("q", "k") and name in tiny.ROTARY:
        pytest.skip("before the rotation there, behind it here")
    result = neolens.patch(plain[name], PAIRS, site, engine="hooks", progress=False)
    expected = neolens.patch(bridges[name], PAIRS, site, progress=False)
    np.testing.assert_allclose(result.patched, expected.patched, atol=1e-4)


@pytest.mark.parametrize("name", tiny.SEQUENTIAL)
def test_resid_mid_is_refused_where_the_skip_connection_misses_an_edit(name, plain):
    with pytest.raises(ValueError, match=r"blocks\.0\.hook_resid_mid reaches only a part of what follows"):
        neolens.patch(plain[name], PAIRS, "resid_mid", engine="hooks", progress=False)


def test_a_mask_is_refused_where_scores_are_ignored(plain):
    with pytest.raises(ValueError, match=r"discards what a hook returns at blocks\.0\.attn\.hook_attn_scores"):
        neolens.ablate(plain["gpt-neo"], tiny.tokens(), {"head": [(0, 1)]}, how=Beyond(2), engine="hooks")


def forward_without_head(model, tokens, layer, head, d_head):
    """Logits of a Hugging Face Llama with one head's output zeroed before the output projection."""

    def zero(module, inputs):
        z = inputs[0].clone()
        z[..., head * d_head : (head + 1) * d_head] = 0
        return (z,)

    handle = model.model.layers[layer].self_attn.o_proj.register_forward_pre_hook(zero)
    with torch.no_grad():
        logits = model(tokens).logits
    handle.remove()
    return logits


@pytest.mark.parametrize("name", ["llama", "mistral", "qwen2"])
def test_heads_of_another_architecture_are_ablated_as_by_hand(name):
    model, tokens = foreign(name), tiny.tokens(length=12)
    logits = forward_without_head(model, tokens, 1, 2, 8)
    expected = torch.nn.functional.cross_entropy(
        logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten(), reduction="none"
    )
    result = neolens.ablate(upstream(model), tokens, {"head": [(1, 2)]}, how="zero", engine="hooks", progress=False)
    np.testing.assert_allclose(result.ablated[0, :, :-1].values.ravel(), expected, atol=1e-5)
    assert result.attention_kind.item() == ("local" if name == "mistral" else "global")


def test_residual_streams_of_another_architecture_are_patched_and_shared_key_heads_refused():
    model = upstream(foreign("llama"))
    result = neolens.patch(model, PAIRS, "resid_post", positions="all", engine="hooks", progress=False)
    np.testing.assert_allclose(result.patched.values, np.repeat(result.clean.values[:, None], 3, axis=1), atol=1e-5)
    with pytest.raises(ValueError, match=r"blocks\.0\.attn\.hook_k of .* has 2 heads, which its 4 query heads share"):
        neolens.patch(model, PAIRS, "k", engine="hooks", progress=False)
