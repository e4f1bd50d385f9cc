"""On a GPU: the same numbers as on the CPU. Skipped where there is none."""

import numpy as np
import pytest
import torch

import neolens
import tiny
from neolens import checking
from neolens.ablation import Beyond, Within
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


@pytest.mark.parametrize("how", ["zero", "mean", "resample", Beyond(3), Within(2)], ids=str)
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
