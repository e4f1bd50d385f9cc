"""`neolens.patch` against two implementations that know nothing of it.

TransformerLens's own sweeps (`transformer_lens.patching.get_act_patch_*`), which run the whole model once for every
patch: on its plain bridges where those are right, on models of `neolens.load` for all. And a loop of plain PyTorch
hooks on the modules of Hugging Face, with no code of either package in it.
"""

import functools
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr
from torch import Tensor
from transformer_lens import patching as upstream
from transformer_lens.model_bridge import TransformerBridge

import tiny
from neolens.patching import patch
from neolens.prompts.pairs import PromptPairs
from test_patching import has, naive

CLOSE = 1e-5
"""Of the largest effect. Both sides are fp32 and sum in another order; the largest difference seen is 3e-6."""

STREAM = ("resid_pre", "resid_mid", "attn_out", "mlp_out")
HEADS = {"z": "out", "q": "q", "k": "k", "v": "v", "pattern": "pattern"}
SWEEPS = {(site, "each"): f"get_act_patch_{site}" for site in STREAM}
SWEEPS |= {(site, "each"): f"get_act_patch_attn_head_{word}_by_pos" for site, word in HEADS.items()}
SWEEPS |= {(site, "all"): f"get_act_patch_attn_head_{word}_all_pos" for site, word in HEADS.items()}
"""Site and positions -> upstream's name for the sweep. Its rotary q and k are those before the rotation and ours those
after it; put at the position that it came from, either is the other."""

every_family = pytest.mark.parametrize("name", tiny.NAMES)
every_direction = pytest.mark.parametrize("direction", ["denoise", "noise"])


@pytest.fixture(scope="module")
def plain(tiny_folders) -> Callable[[str], TransformerBridge]:
    """TransformerLens's own bridge of each tiny model."""
    return functools.cache(lambda name: TransformerBridge.boot_transformers(str(tiny_folders[name]), device="cpu"))


def pairs(length: int = 5, prompts: int = 2, seed: int = 0) -> PromptPairs:
    """Random pairs of one length, longer than the window; pair i differs from position 1 + i."""
    draw = torch.Generator().manual_seed(seed)
    clean, corrupted = torch.randint(1, tiny.VOCAB, (2, prompts, length), generator=draw)
    for number in range(prompts):
        corrupted[number, : number + 1] = clean[number, : number + 1]
        corrupted[number, number + 1] = clean[number, number + 1] % (tiny.VOCAB - 1) + 1
    return PromptPairs.from_tokens(clean, corrupted, range(3, 3 + prompts), range(20, 20 + prompts))


def runs(asked: PromptPairs, direction: str) -> tuple[Tensor, Tensor]:
    """The prompts that are patched and those that the activations are of."""
    clean, corrupted = torch.stack(asked.clean), torch.stack(asked.corrupted)
    return (corrupted, clean) if direction == "denoise" else (clean, corrupted)


def logit_difference(asked: PromptPairs, logits: Tensor) -> Tensor:
    rows = torch.arange(len(asked))
    return logits[rows, -1, asked.answers] - logits[rows, -1, asked.distractors]


def swept(model, asked: PromptPairs, direction: str, site: str, positions: str, like: xr.DataArray) -> tuple:
    """What upstream's sweep says of the cells of `like`, and its largest effect."""
    target, source = runs(asked, direction)
    _, cache = model.run_with_cache(source)
    sweep, metric = getattr(upstream, SWEEPS[site, positions]), functools.partial(logit_difference, asked)
    axes = sweep.keywords["index_axis_names"]
    dims = [{"head_index": "head", "dest_pos": "pos"}.get(axis, axis) for axis in axes]
    coords = {dim: like[dim].values for dim in dims}
    cells = pd.MultiIndex.from_product(coords.values(), names=axes).to_frame(index=False)
    found = sweep(model, target, cache, metric, index_axis_names=None, index_df=cells, reduce="none", baseline=True)
    shape = (*(len(values) for values in coords.values()), len(asked))
    values = xr.DataArray(found.values.numpy().reshape(shape), coords, [*dims, "prompt"])
    return values.transpose(*like.dims), float(found.effect().abs().max())


def furthest(one, other: xr.DataArray) -> float:
    return float(np.abs(np.asarray(one) - other.values).max())


# TransformerLens's sweeps ------------------------------------------------------------------------------


@every_family
@pytest.mark.parametrize(("site", "positions"), SWEEPS)
@pytest.mark.parametrize(("kind", "direction"), [("plain", "denoise"), ("neolens", "noise")])
def test_every_sweep_is_transformer_lenss_own(kind, name, site, positions, direction, plain, bridges):
    # one way on each: all that upstream is told is whose run to patch
    if not has(name, site):
        pytest.skip("a parallel block has no resid_mid")
    if (kind, name, site) == ("plain", "gpt-neo", "pattern"):
        pytest.skip("an edit of it does nothing upstream: see the test of what is wrong there")
    asked = pairs()
    model, heads = plain(name) if kind == "plain" else bridges[name], [0, 3] if site in HEADS else None
    sweep = dict(positions=positions, heads=heads, direction=direction, progress=False)
    ours = patch(bridges[name], asked, site, **sweep).patched
    with torch.no_grad():  # then upstream edits in place, and its resid_mid is right
        theirs, largest = swept(model, asked, direction, site, positions, ours)
    assert largest > 0.2
    assert furthest(theirs, ours) < CLOSE * largest


def true_effects(network, asked: PromptPairs, site: str, positions: str, like: xr.DataArray) -> xr.DataArray:
    """The same sweep, denoising, by the oracle."""
    length, truth = asked.lengths[0], like.copy()
    stretches = [(at, at + 1) for at in range(length)] if positions == "each" else [(0, length)]
    patches = [(head, *stretch) for head in (range(4) if site in HEADS else [None]) for stretch in stretches]
    for prompt in range(len(asked)):
        for layer in range(like.sizes["layer"]):
            logits = naive(network, asked.corrupted[prompt], asked.clean[prompt], site, layer, patches)
            values = logits[:, -1, asked.answers[prompt]] - logits[:, -1, asked.distractors[prompt]]
            here = truth.loc[{"prompt": prompt, "layer": layer}]
            here[...] = values.numpy().reshape(here.shape)
    return truth


WRONG = [("gpt2", "resid_mid", "each"), ("gpt-neo", "resid_mid", "each"), ("neox-sequential", "resid_mid", "each")]
WRONG += [("gpt-neo", "pattern", "each"), ("gpt-neo", "pattern", "all")]


@pytest.mark.filterwarnings("ignore:A hook on attn:UserWarning")
@pytest.mark.parametrize(("name", "site", "positions"), WRONG)
def test_upstream_alone_is_still_wrong_here_and_neolens_is_right(name, site, positions, plain, bridges, networks):
    # fails when TransformerLens mends it: then take its row out of WRONG, and what mends it out of neolens.models
    asked = pairs()
    ours = patch(bridges[name], asked, site, positions=positions, progress=False)
    truth = true_effects(networks[name], asked, site, positions, ours.patched)
    largest = float(abs(truth - ours.corrupted).max())
    with torch.enable_grad():  # the default: then upstream's edits are returned and not made in place
        alone, effect_alone = swept(plain(name), asked, "denoise", site, positions, truth)
        with_ours, _ = swept(bridges[name], asked, "denoise", site, positions, truth)
    assert furthest(ours.patched, truth) < CLOSE * largest
    assert furthest(with_ours, truth) < CLOSE * largest
    assert furthest(alone, truth) > 0.5 * largest
    assert (effect_alone < CLOSE * largest) is (site == "pattern"), "an edited pattern changes nothing, resid_mid does"


# Hugging Face's modules ----------------------------------------------------------------------------------

Tap = tuple[torch.nn.Module, str, int, int]
"""A module, its "input" or "output", and the columns there, first and end."""


def taps(model, layer: int, head: int) -> dict[str, Tap]:
    """Where each activation of a block can be seen and replaced by a hook on a module."""
    kind, width = model.config.model_type, model.config.hidden_size
    each = width // model.config.num_attention_heads
    block = model.gpt_neox.layers[layer] if kind == "gpt_neox" else model.transformer.h[layer]
    if kind == "gpt2":  # one matrix gives all q, then all k, then all v
        attention, output, before_mlp = block.attn, block.attn.c_proj, block.ln_2
        joint = [(block.attn.c_attn, part * width + head * each) for part in range(3)]
    elif kind == "gpt_neo":
        attention, output, before_mlp = block.attn, block.attn.attention.out_proj, block.ln_2
        joint = [(getattr(block.attn.attention, f"{part}_proj"), head * each) for part in "qkv"]
    else:  # one matrix gives head by head its q, k and v
        attention, output, before_mlp = block.attention, block.attention.dense, block.post_attention_layernorm
        joint = [(block.attention.query_key_value, (3 * head + part) * each) for part in range(3)]
    return {
        "resid_pre": (block, "input", 0, width),
        "resid_mid": (before_mlp, "input", 0, width),
        "resid_post": (block, "output", 0, width),
        "attn_out": (attention, "output", 0, width),
        "mlp_out": (block.mlp, "output", 0, width),
        "z": (output, "input", head * each, (head + 1) * each),
        **{part: (module, "output", at, at + each) for part, (module, at) in zip("qkv", joint, strict=True)},
    }


def run(model, tokens: Tensor, tap: Tap, change: Callable[[Tensor], Tensor], **asked):
    """The output of a run in which `change` has had what passes the tap."""
    module, side, first, last = tap

    def changed(passing):
        whole = passing[0] if isinstance(passing, tuple) else passing
        new = whole.clone()
        new[..., first:last] = change(whole[..., first:last])
        return (new, *passing[1:]) if isinstance(passing, tuple) else new

    if side == "input":
        handle = module.register_forward_pre_hook(lambda module, passing: changed(passing))
    else:
        handle = module.register_forward_hook(lambda module, _, passing: changed(passing))
    try:
        with torch.no_grad():
            return model(tokens, use_cache=False, **asked)
    finally:
        handle.remove()


def seen(model, tokens: Tensor, tap: Tap) -> Tensor:
    """What passes the tap: [pos, column]."""
    kept: list[Tensor] = []
    run(model, tokens[None], tap, lambda x: kept.append(x[0].clone()) or x)
    return kept[0]


def patched_by_hooks(model, target: Tensor, source: Tensor, site: str, layer: int, head: int) -> Tensor:
    """Logits at the last position [pos + 1, d_vocab]: patched at each position by itself, and at all together."""
    tap, length = taps(model, layer, head), len(target)
    through = site
    if site == "resid_mid":  # no module hands it to the MLP and to the skip connection: attention adds what it lacks
        through, new = "attn_out", seen(model, source, tap["resid_mid"]) - seen(model, target, tap["resid_pre"])
    elif site == "pattern":  # nor does one hold it alone: the source's pattern of the target's values is a z
        whole = run(model, source[None], tap["z"], lambda x: x, output_attentions=True).attentions[layer][0, head]
        through, new = "z", whole @ seen(model, target, tap["v"])
    else:
        new = seen(model, source, tap[site])
    here = torch.cat([torch.eye(length), torch.ones(1, length)]).bool()[..., None]
    out = run(model, target.expand(length + 1, -1), tap[through], lambda x: torch.where(here, new, x))
    return out.logits[:, -1]


@every_family
@pytest.mark.parametrize("site", [*STREAM, "resid_post", *HEADS])
@every_direction
def test_every_patch_is_that_of_hooks_on_hugging_faces_modules(name, site, direction, tiny_models, bridges):
    if not has(name, site):
        pytest.skip("a parallel block has no resid_mid")
    asked = pairs(length=11, prompts=1, seed=len(site))
    target, source = runs(asked, direction)
    found = {
        positions: patch(bridges[name], asked, site, positions=positions, direction=direction, progress=False)
        for positions in ("each", "all")
    }
    unpatched = float(found["all"]["corrupted" if direction == "denoise" else "clean"][0])
    ours, theirs = [], []
    for layer in found["all"].layer.values:
        for head in range(4) if site in HEADS else [None]:
            logits = patched_by_hooks(tiny_models[name], target[0], source[0], site, layer, head or 0)
            theirs.append(logits[:, asked.answers[0]] - logits[:, asked.distractors[0]])
            here = {"prompt": 0, "layer": layer} | ({} if head is None else {"head": head})
            ours.append([*found["each"].patched.sel(here).values, found["all"].patched.sel(here).item()])
    theirs, ours = torch.stack(theirs).numpy(), np.array(ours)
    largest = np.abs(theirs - unpatched).max()
    assert largest > 0.2
    assert np.abs(ours - theirs).max() < CLOSE * largest
