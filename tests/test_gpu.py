"""On a GPU: the same numbers as on the CPU. Skipped where there is none."""

import numpy as np
import pytest
import torch

import neolens
import tiny
from neolens import checking, position
from neolens.ablation import Beyond, Within
from neolens.prompts import repeated
from neolens.replay import SITES
from neolens.whatif import Shift, WithoutBands

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU: these compare a GPU's numbers with the CPU's"),
]


@pytest.mark.parametrize("name", tiny.NAMES)
def test_logits_and_scores_on_the_gpu_are_those_on_the_cpu(name, tiny_folders):
    tokens = tiny.tokens()
    here, there = (neolens.load(tiny_folders[name], device=device) for device in ("cpu", "cuda"))
    assert there.cfg.device.startswith("cuda")
    with torch.no_grad():
        torch.testing.assert_close(there(tokens.cuda()).cpu(), here(tokens), rtol=0, atol=1e-4)
    mine, theirs = (neolens.attention(model, tokens) for model in (there, here))
    for score in theirs.data_vars:
        np.testing.assert_allclose(mine[score], theirs[score], atol=1e-4)


@pytest.mark.parametrize("name", tiny.NAMES)
def test_every_hook_acts_on_the_gpu(name, tiny_folders):
    lines = checking.check(tiny_folders[name], device="cuda", every_layer=True)
    assert [line.what for line in lines if not line.holds] == []


@pytest.mark.parametrize("site", SITES)
@pytest.mark.parametrize("name", tiny.NAMES)
def test_patching_on_the_gpu_is_patching_on_the_cpu(name, site, tiny_folders):
    here, there = (neolens.load(tiny_folders[name], device=device) for device in ("cpu", "cuda"))
    if site == "resid_mid" and here.anatomy.parallel:
        pytest.skip("a parallel block has no resid_mid")
    clean, corrupted = tiny.tokens(seed=1), tiny.tokens(seed=2)
    pairs = neolens.PromptPairs.from_tokens(clean, corrupted, [3] * len(clean), [4] * len(clean))
    mine, theirs = (neolens.patch(model, pairs, site, progress=False) for model in (there, here))
    np.testing.assert_allclose(mine.patched, theirs.patched, atol=1e-4)


@pytest.mark.parametrize("how", ["zero", "mean", "mean_all_positions", "resample", Beyond(3), Within(2)], ids=str)
@pytest.mark.parametrize("name", tiny.NAMES)
def test_ablating_on_the_gpu_is_ablating_on_the_cpu(name, how, tiny_folders):
    here, there = (neolens.load(tiny_folders[name], device=device) for device in ("cpu", "cuda"))
    groups = neolens.each_layer(here) | {"mine": [(0, 1), (2, 3)]}
    for positions in (None, [3, 9]):
        asked = {"how": how, "positions": positions, "progress": False}
        mine, theirs = (neolens.ablate(model, tiny.tokens(0, 8), groups, **asked) for model in (there, here))
        np.testing.assert_allclose(mine.ablated, theirs.ablated, atol=1e-3)


@pytest.mark.parametrize("name", tiny.NAMES)
def test_another_architecture_on_the_gpu_is_what_it_is_on_the_cpu(name, tiny_folders):
    here, there = (neolens.load(tiny_folders[name], device=device) for device in ("cpu", "cuda"))
    treatments = (Shift(3), "shuffle") if name in tiny.ABSOLUTE else (Shift(3), "off", WithoutBands([1]))
    for treatment in treatments:
        said = []
        for model in (here, there):
            with neolens.what_if(model, windows=5, positions=treatment), torch.no_grad():
                said.append(model(tiny.tokens().to(model.cfg.device)).cpu())
        torch.testing.assert_close(*said, rtol=0, atol=1e-3)


def both(folder, measure):
    """What is measured on the GPU and on the CPU."""
    return [measure(neolens.load(folder, device=device)) for device in ("cuda", "cpu")]


def assert_alike(mine, theirs, atol=1e-3):
    assert set(mine.data_vars) == set(theirs.data_vars)
    for name in theirs.data_vars:
        np.testing.assert_allclose(mine[name], theirs[name], atol=atol, err_msg=str(name))


@pytest.mark.parametrize("name", tiny.NAMES)
def test_position_probes_on_the_gpu_are_those_on_the_cpu(name, tiny_folders):
    tokens = tiny.tokens(0, 6, 17)
    probes = [
        lambda model: neolens.shift(model, tokens, [1, 8], progress=False).drop_vars(["rounding", "logits_exact"]),
        lambda model: position.toeplitz(model, tokens)[["kernel", "toeplitz_share", "variance"]],
        lambda model: position.part_shares(model, tokens),
        lambda model: position.score_parts(model, tokens[0]),
        lambda model: position.ablate_positions(model, tokens, progress=False),
    ]
    if name in tiny.ROTARY:
        probes.append(lambda model: position.bands(model, tokens, progress=False))
        longer = tiny.tokens(0, 2, tiny.CONTEXT + 9)
        probes.append(lambda model: position.beyond_context(model, longer))
    else:
        probes.append(position.embedding_geometry)
    for probe in probes:
        assert_alike(*both(tiny_folders[name], probe))


@pytest.mark.parametrize("name", tiny.NAMES)
def test_roles_and_attention_through_hooks_on_the_gpu_are_those_on_the_cpu(name, tiny_folders):
    tokens = repeated(range(1, tiny.VOCAB), 9, bos=0, prompts=8)
    roles = both(tiny_folders[name], lambda model: neolens.roles(model, tokens, within=4, progress=False))
    np.testing.assert_allclose(*(one["score"] for one in roles), atol=1e-4)
    assert_alike(*both(tiny_folders[name], lambda model: neolens.attention(model, tokens, engine="hooks")), atol=1e-4)
