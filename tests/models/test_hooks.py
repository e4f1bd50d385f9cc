"""Every hook of a model from `neolens.load` acts, on all families, and says so where it cannot.

Each edit is made twice, by the hooked model in float32 and by the independent forward pass of `oracles.py` in
float64, and the logits and the gradients of the two are compared.
"""

from collections.abc import Callable
from contextlib import contextmanager

import pandas as pd
import pytest
import torch
from torch import Tensor
from transformer_lens import patching
from transformer_lens.tools.analysis import attribution_patching

import oracles
import tiny

TOLERANCE = 1e-5  # of the standard deviation of the logits (or of the largest gradient)
LARGE = 0.1  # of the same: an edit that moves less would prove nothing

ATTENTION = ("q", "k", "v", "attn_scores", "pattern", "z", "result")
BLOCK = ("resid_pre", "attn_out", "mlp_out", "resid_post")

# Softmax keeps its own output for the backward pass, so autograd refuses an edit of that very tensor.
IN_PLACE_MAY_BE_REFUSED = {"attn.hook_pattern"}


def sites_of(name: str) -> list[str]:
    """The hooks that must act on this model, by their names inside a block, and those of the embedding."""
    sites = [f"hook_{site}" for site in BLOCK] + [f"attn.hook_{site}" for site in ATTENTION]
    sites += ["attn.hook_rot_q", "attn.hook_rot_k"] if name in tiny.ROTARY else ["hook_pos_embed"]
    sites += ["hook_resid_mid"] if name in tiny.SEQUENTIAL else []
    return ["hook_embed", *sites]


CASES = [(name, site) for name in tiny.NAMES for site in sites_of(name)]


@contextmanager
def switched(model, switch: str | None):
    """The model with one of TransformerLens's switches on, and off again afterwards."""
    if switch is not None:
        getattr(model, switch)(True)
    try:
        yield
    finally:
        if switch is not None:
            getattr(model, switch)(False)


def able(model, site: str):
    """The model with the switch on that this site needs: only per-head results need one."""
    return switched(model, "set_use_attn_result" if site == "attn.hook_result" else None)


def names_of(site: str, layers: int) -> list[str]:
    """The full names of a site: one per layer."""
    if site in ("hook_embed", "hook_pos_embed"):
        return [site]
    return [f"blocks.{layer}.{site}" for layer in range(layers)]


def returned(value: Tensor, hook) -> Tensor:
    return tiny.nudged(value)


def in_place(value: Tensor, hook) -> None:
    tiny.nudge_(value)


def in_place_and_returned(value: Tensor, hook) -> Tensor:
    tiny.nudge_(value)
    return value


EDITS = {"returned": returned, "in place": in_place, "in place and returned": in_place_and_returned}


def assert_close(ours: Tensor, truth: Tensor, about: str) -> None:
    error = ((ours - truth).abs().max() / truth.std()).item()
    assert error < TOLERANCE, f"{about}: off by {error:.1e} of the logits' standard deviation"


def assert_large(edited: Tensor, plain: Tensor, about: str) -> None:
    effect = ((edited - plain).abs().max() / plain.std()).item()
    assert effect > LARGE, f"{about}: the edit moves the logits by {effect:.1e} only, so it would prove nothing"


def assert_same_gradient(ours: Tensor | None, truth: Tensor, about: str) -> None:
    assert ours is not None, f"{about}: no gradient arrived"
    assert ours.shape == truth.shape, f"{about}: gradient of shape {tuple(ours.shape)}, expected {tuple(truth.shape)}"
    error = ((ours - truth).abs().max() / truth.abs().max()).item()
    assert error < TOLERANCE, f"{about}: gradient off by {error:.1e} of its largest entry"


# Edits ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
@pytest.mark.parametrize(("name", "site"), CASES)
def test_an_edit_acts_as_it_should(name, site, edit, bridges, nudged_truth):
    model, seed = bridges[name], 0
    tokens = tiny.tokens(seed)

    with torch.no_grad(), able(model, site):
        plain = model(tokens)
        for hook_name in names_of(site, model.cfg.n_layers):
            edited = model.run_with_hooks(tokens, fwd_hooks=[(hook_name, edit)])
            truth, _ = nudged_truth(name, hook_name, seed)

            assert_large(truth, plain, hook_name)
            assert_close(edited, truth, hook_name)
        assert torch.equal(model(tokens), plain), "the hook left a trace"


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
@pytest.mark.parametrize(("name", "site"), CASES)
def test_an_edit_acts_with_gradients_on_and_the_gradient_passes_through_it(name, site, edit, bridges, nudged_truth):
    model, seed = bridges[name], 0

    for hook_name in names_of(site, model.cfg.n_layers):
        try:
            with able(model, site):
                edited, gradient = run_with_gradient(model, tiny.tokens(seed), [(hook_name, edit)])
        except RuntimeError as refusal:
            if edit is returned or site not in IN_PLACE_MAY_BE_REFUSED or "inplace" not in str(refusal):
                raise
            continue
        truth, truth_gradient = nudged_truth(name, hook_name, seed)

        assert_close(edited, truth, hook_name)
        assert_same_gradient(gradient, truth_gradient, hook_name)


def run_with_gradient(model, tokens: Tensor, fwd_hooks: list) -> tuple[Tensor, Tensor]:
    """Logits, and the gradient of their weighted sum at the embedding matrix."""
    logits = model.run_with_hooks(tokens, fwd_hooks=fwd_hooks)
    (gradient,) = torch.autograd.grad(tiny.weighted_sum(logits), model.embed.weight, allow_unused=True)
    return logits.detach(), gradient


@pytest.mark.parametrize(("name", "site"), CASES)
def test_the_gradient_at_a_hook_is_right(name, site, bridges, leaf_networks):
    model, net, tokens = bridges[name], leaf_networks[name], tiny.tokens(seed=2)
    names = names_of(site, len(net.layers))

    caught = {}
    hooks = [(hook_name, lambda gradient, hook, key=hook_name: caught.update({key: gradient})) for hook_name in names]
    with able(model, site), model.hooks(bwd_hooks=hooks):
        tiny.weighted_sum(model(tokens)).backward()
    model.zero_grad()

    run = oracles.forward(net, tokens)
    truths = torch.autograd.grad(tiny.weighted_sum(run.logits), [run.after[hook_name] for hook_name in names])
    for hook_name, truth in zip(names, truths, strict=True):
        assert_same_gradient(caught.get(hook_name), truth, hook_name)


@pytest.mark.parametrize("name", tiny.NAMES)
def test_edits_at_several_hooks_act_together(name, bridges, networks):
    model, tokens = bridges[name], tiny.tokens(seed=4)
    names = [
        "hook_embed",
        "blocks.0.attn.hook_attn_scores",
        "blocks.1.attn.hook_pattern",
        "blocks.1.attn.hook_v",
    ]
    names += ["blocks.1.hook_resid_mid"] if name in tiny.SEQUENTIAL else ["blocks.1.attn.hook_rot_k"]

    with torch.no_grad():
        edited = model.run_with_hooks(tokens, fwd_hooks=[(hook_name, returned) for hook_name in names])
    truth = oracles.forward(networks[name], tokens, dict.fromkeys(names, tiny.nudged)).logits

    assert_close(edited, truth, ", ".join(names))


@pytest.mark.parametrize("name", tiny.NAMES)
def test_a_filter_of_names_attaches_to_every_layer(name, bridges, networks):
    model, tokens = bridges[name], tiny.tokens(seed=12)
    names = names_of("attn.hook_pattern", model.cfg.n_layers)

    with torch.no_grad():
        edited = model.run_with_hooks(tokens, fwd_hooks=[(lambda n: n.endswith("hook_pattern"), returned)])

    truth = oracles.forward(networks[name], tokens, dict.fromkeys(names, tiny.nudged)).logits
    assert_close(edited, truth, ", ".join(names))


@pytest.mark.parametrize("name", tiny.NAMES)
def test_every_hook_point_that_the_model_lists_fires(name, bridges):
    model, fired = bridges[name], set()
    switched_off = ("hook_result", "hook_q_input", "hook_k_input", "hook_v_input", "attn_in", "mlp_in")
    names = [hook_name for hook_name in model.hook_dict if not hook_name.endswith(switched_off)]

    hooks = [(hook_name, lambda value, hook, key=hook_name: fired.add(key)) for hook_name in names]
    model.run_with_hooks(tiny.tokens(), fwd_hooks=hooks)

    assert set(names) - fired == set()
    assert {full for site in sites_of(name) for full in names_of(site, model.cfg.n_layers)} <= set(model.hook_dict)


@pytest.mark.parametrize("name", tiny.NAMES)
def test_an_edit_of_one_slice_in_place_changes_that_slice_alone(name, bridges, networks):
    model, tokens = bridges[name], tiny.tokens(seed=5)

    def silence_one_head(pattern: Tensor, hook=None) -> Tensor:
        pattern[:, 2, 5:, 3:5] = 0.0
        return pattern

    with torch.no_grad():
        for hook_name in names_of("attn.hook_pattern", len(networks[name].layers)):
            edited = model.run_with_hooks(tokens, fwd_hooks=[(hook_name, silence_one_head)])
            edit = {hook_name: lambda pattern: silence_one_head(pattern.clone())}
            assert_close(edited, oracles.forward(networks[name], tokens, edit).logits, hook_name)


@pytest.mark.parametrize("name", tiny.NAMES)
def test_a_lasting_hook_acts_until_it_is_removed(name, bridges, networks):
    model, tokens, hook_name = bridges[name], tiny.tokens(seed=6), "blocks.1.attn.hook_pattern"
    plain = model(tokens).detach()
    truth = oracles.forward(networks[name], tokens, {hook_name: tiny.nudged}).logits

    model.add_hook(hook_name, returned)
    hooked = model(tokens).detach()
    model.reset_hooks()

    assert_close(hooked, truth, hook_name)
    assert torch.equal(model(tokens), plain)


# Values --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", tiny.NAMES)
def test_every_cached_activation_is_the_oracles(name, bridges, networks):
    model, net, tokens = bridges[name], networks[name], tiny.tokens(seed=7)

    with torch.no_grad(), switched(model, "set_use_attn_result"):
        _, cache = model.run_with_cache(tokens)
    truth = oracles.forward(net, tokens).after

    for hook_name in [full for site in sites_of(name) for full in names_of(site, len(net.layers))]:
        ours, expected = cache[hook_name], truth[hook_name]
        assert ours.shape == expected.shape, hook_name
        if hook_name.endswith("attn_scores"):
            masked = expected.isinf()
            assert (ours[masked] < -1e30).all(), f"{hook_name}: a masked score is not masked"
            ours, expected = ours[~masked], expected[~masked]
        assert (ours - expected).abs().max() < TOLERANCE * (expected.max() - expected.min()), hook_name


# Names ---------------------------------------------------------------------------------------------

CANNOT_ACT = [
    ("pythia", "blocks.0.hook_resid_mid", "parallel"),
    ("pythia", "hook_pos_embed", "rotary"),
    ("neox-sequential", "hook_pos_embed", "rotary"),
    ("gpt2", "blocks.0.attn.hook_rot_q", "absolute|not rotary|no rotary"),
    ("gpt-neo", "blocks.1.attn.hook_rot_k", "absolute|not rotary|no rotary"),
    ("gpt2", "blocks.3.hook_resid_pre", "0 to 2"),
    ("gpt-neo", "blocks.4.attn.hook_pattern", "0 to 3"),
    ("pythia", "blocks.-1.attn.hook_z", "0 to 2"),
    ("gpt2", "blocks.0.attn.hook_patern", "hook_pattern"),
    ("gpt-neo", "blocks.0.hook_resid_mdi", "hook_resid_mid"),
    ("pythia", "blocks.0.hook_pattern", "attn.hook_pattern"),
    ("neox-sequential", "hook_embedd", "hook_embed"),
]

ATTACH: dict[str, Callable] = {
    "run_with_hooks": lambda model, name: model.run_with_hooks(tiny.tokens(), fwd_hooks=[(name, returned)]),
    "backward": lambda model, name: model.run_with_hooks(tiny.tokens(), bwd_hooks=[(name, returned)]),
    "hooks": lambda model, name: model.hooks(fwd_hooks=[(name, returned)]).__enter__(),
    "add_hook": lambda model, name: model.add_hook(name, returned),
    "add_perma_hook": lambda model, name: model.add_perma_hook(name, returned),
}


@pytest.mark.parametrize("attach", ATTACH.values(), ids=ATTACH)
@pytest.mark.parametrize(("name", "hook_name", "reason"), CANNOT_ACT)
def test_a_name_that_cannot_act_is_refused_with_the_reason(name, hook_name, reason, attach, bridges):
    with pytest.raises((KeyError, ValueError), match=reason):
        attach(bridges[name], hook_name)


@pytest.mark.parametrize("name", tiny.NAMES)
def test_per_head_results_are_refused_until_they_are_asked_for(name, bridges):
    with pytest.raises(ValueError, match="set_use_attn_result"):
        bridges[name].run_with_hooks(tiny.tokens(), fwd_hooks=[("blocks.0.attn.hook_result", returned)])


# Config --------------------------------------------------------------------------------------------


def test_the_config_of_gpt_neo_tells_its_local_layers_and_its_missing_scale(bridges):
    cfg = bridges["gpt-neo"].cfg

    assert list(cfg.attn_types) == ["global", "local", "global", "local"]
    assert (cfg.use_local_attn, cfg.window_size, cfg.use_attn_scale) == (True, tiny.WINDOW, False)


@pytest.mark.parametrize("name", ["gpt2", "pythia", "neox-sequential"])
def test_the_config_of_an_all_global_model_says_so(name, bridges):
    cfg = bridges[name].cfg

    assert not cfg.use_local_attn
    assert set(cfg.attn_types or ["global"]) == {"global"}
    assert cfg.use_attn_scale is True


@pytest.mark.parametrize(("name", "dims", "base"), [("pythia", 4, 10000), ("neox-sequential", 8, 500)])
def test_the_config_of_a_rotary_model_tells_dimensions_and_base(name, dims, base, bridges):
    cfg = bridges[name].cfg

    assert cfg.positional_embedding_type == "rotary"
    assert (cfg.rotary_dim, cfg.rotary_base) == (dims, base)
    assert bool(cfg.parallel_attn_mlp) == (name == "pythia")


# TransformerLens's own tools -----------------------------------------------------------------------

LENGTH = 8  # twice the window, and few enough cells for a loop


def last_logits(logits: Tensor) -> Tensor:
    """A metric with a part of every prompt's last logits in it."""
    generator = torch.Generator().manual_seed(11)
    weights = torch.randn(logits.shape[0], logits.shape[-1], generator=generator, dtype=torch.float64)
    return (logits[:, -1] * weights.to(logits.dtype)).sum()


def pairs() -> tuple[Tensor, Tensor]:
    """Clean and corrupted prompts that differ in two tokens."""
    clean = tiny.tokens(seed=8, length=LENGTH)
    corrupted = clean.clone()
    corrupted[:, 3:5] = (corrupted[:, 3:5] + 17) % tiny.VOCAB
    return clean, corrupted


# name of the sweep: TransformerLens's function, its hook, the slice that it writes
SWEEPS = {
    "resid_pre": (patching.get_act_patch_resid_pre, "hook_resid_pre", lambda p: (slice(None), p)),
    "resid_mid": (patching.get_act_patch_resid_mid, "hook_resid_mid", lambda p: (slice(None), p)),
    "attn_out": (patching.get_act_patch_attn_out, "hook_attn_out", lambda p: (slice(None), p)),
    "mlp_out": (patching.get_act_patch_mlp_out, "hook_mlp_out", lambda p: (slice(None), p)),
    "z": (patching.get_act_patch_attn_head_out_all_pos, "attn.hook_z", lambda h: (..., h, slice(None))),
    "q": (patching.get_act_patch_attn_head_q_all_pos, "attn.hook_q", lambda h: (..., h, slice(None))),
    "k": (patching.get_act_patch_attn_head_k_all_pos, "attn.hook_k", lambda h: (..., h, slice(None))),
    "v": (patching.get_act_patch_attn_head_v_all_pos, "attn.hook_v", lambda h: (..., h, slice(None))),
    "pattern": (
        patching.get_act_patch_attn_head_pattern_all_pos,
        "attn.hook_pattern",
        lambda h: (slice(None), h),
    ),
    "pattern by position": (
        patching.get_act_patch_attn_head_pattern_by_pos,
        "attn.hook_pattern",
        lambda h, p: (slice(None), h, p),
    ),
}
SWEEP_CASES = [("gpt-neo", sweep) for sweep in SWEEPS]
SWEEP_CASES += [
    ("gpt2", "resid_mid"),
    ("neox-sequential", "resid_mid"),
    ("gpt2", "pattern"),
    ("pythia", "pattern"),
]


@pytest.mark.parametrize(("name", "sweep"), SWEEP_CASES)
def test_transformer_lenss_own_patching_agrees_with_a_loop_over_the_oracle(name, sweep, bridges, networks):
    model, net = bridges[name], networks[name]
    get_act_patch, site, where = SWEEPS[sweep]
    clean, corrupted = pairs()

    _, cache = model.run_with_cache(clean)
    with_gradients = get_act_patch(model, corrupted, cache, last_logits).detach()
    with torch.no_grad():
        without_gradients = get_act_patch(model, corrupted, cache, last_logits)
    truth, baseline = oracle_sweep(net, clean, corrupted, site, with_gradients.shape, where)

    assert_sweep(with_gradients, truth, baseline, net, corrupted)
    assert_sweep(without_gradients, truth, baseline, net, corrupted)


def oracle_sweep(net, clean: Tensor, corrupted: Tensor, site: str, shape, where) -> tuple[Tensor, Tensor]:
    """The metric for every cell `[layer, *axes]`, one run of the oracle each, and for the corrupted run."""
    source = oracles.forward(net, clean).after
    truth = torch.zeros(*shape, dtype=torch.float64)
    for cell in torch.cartesian_prod(*[torch.arange(size) for size in shape]).tolist():
        hook_name = f"blocks.{cell[0]}.{site}"
        truth[tuple(cell)] = patched(net, corrupted, hook_name, source[hook_name], where(*cell[1:]))
    return truth, last_logits(oracles.forward(net, corrupted).logits)


def patched(net, tokens: Tensor, hook_name: str, source: Tensor, where) -> Tensor:
    """The metric after the slice `where` of one activation was overwritten from `source`."""

    def write(value: Tensor) -> Tensor:
        value = value.clone()
        value[where] = source[where]
        return value

    return last_logits(oracles.forward(net, tokens, {hook_name: write}).logits)


def assert_sweep(ours: Tensor, truth: Tensor, baseline: Tensor, net, tokens: Tensor) -> None:
    """The metric sums 2 x 61 logits with weights of size 1: it spreads 11 times as far as a logit."""
    spread = oracles.forward(net, tokens).logits.std() * (2 * tiny.VOCAB) ** 0.5
    assert (truth - baseline).abs().max() > 0.5 * LARGE * spread, "no patch does anything"
    error = ((ours - truth).abs().max() / spread).item()
    assert error < TOLERANCE, f"off by {error:.1e} of the metric's spread"


def test_patching_single_cells_of_a_pattern_agrees_with_the_oracle(bridges, networks):
    model, net = bridges["gpt-neo"], networks["gpt-neo"]
    clean, corrupted = pairs()
    cells = [(0, 1, 7, 2), (0, 3, 5, 4), (1, 0, 6, 4), (1, 2, 7, 4), (2, 1, 7, 3), (2, 2, 4, 0), (3, 3, 7, 6)]

    _, cache = model.run_with_cache(clean)
    ours = patching.get_act_patch_attn_head_pattern_dest_src_pos(
        model,
        corrupted,
        cache,
        last_logits,
        index_axis_names=None,
        index_df=pd.DataFrame(cells, columns=["layer", "head_index", "dest_pos", "src_pos"]),
    )

    source = oracles.forward(net, clean).after
    truth = [
        patched(net, corrupted, name, source[name], (slice(None), head, query, key))
        for layer, head, query, key in cells
        for name in [f"blocks.{layer}.attn.hook_pattern"]
    ]
    assert_sweep(ours.detach(), torch.stack(truth), last_logits(oracles.forward(net, corrupted).logits), net, clean)


SPLITS = [
    ("set_use_split_qkv_input", "hook_q_input"),
    ("set_use_split_qkv_input", "hook_k_input"),
    ("set_use_split_qkv_input", "hook_v_input"),
    ("set_use_attn_in", "hook_attn_in"),
    ("set_use_hook_mlp_in", "hook_mlp_in"),
]


@pytest.mark.parametrize("edit", [returned, in_place], ids=["returned", "in place"])
@pytest.mark.parametrize(("switch", "site"), SPLITS)
@pytest.mark.parametrize("name", tiny.NAMES)
def test_a_split_input_can_be_edited(name, switch, site, edit, bridges, networks):
    model, net, tokens = bridges[name], networks[name], tiny.tokens(seed=9)
    plain = oracles.forward(net, tokens).logits

    with torch.no_grad(), switched(model, switch):
        assert_close(model(tokens), plain, f"{switch} alone")
        for hook_name in names_of(site, len(net.layers)):
            edited = model.run_with_hooks(tokens, fwd_hooks=[(hook_name, edit)])
            truth = oracles.forward(net, tokens, {hook_name: tiny.nudged}).logits
            assert_large(truth, plain, hook_name)
            assert_close(edited, truth, hook_name)


@pytest.mark.parametrize("name", tiny.SEQUENTIAL)
def test_the_mlps_own_input_and_the_middle_of_the_block_are_two_sites(name, bridges, networks):
    model, tokens = bridges[name], tiny.tokens(seed=10)
    names = ["blocks.1.hook_resid_mid", "blocks.1.hook_mlp_in"]

    with torch.no_grad(), switched(model, "set_use_hook_mlp_in"):
        edited = model.run_with_hooks(tokens, fwd_hooks=[(hook_name, returned) for hook_name in names])

    assert_close(edited, oracles.forward(networks[name], tokens, dict.fromkeys(names, tiny.nudged)).logits, name)


@pytest.mark.parametrize("switch", ["set_use_split_qkv_input", "set_use_attn_in", "set_use_attn_result"])
@pytest.mark.parametrize("site", ["hook_resid_pre", "attn.hook_q", "attn.hook_pattern", "attn.hook_z"])
@pytest.mark.parametrize("name", tiny.NAMES)
def test_the_other_hooks_act_as_well_when_inputs_or_results_are_split(name, site, switch, bridges, networks):
    model, tokens, hook_name = bridges[name], tiny.tokens(seed=11), f"blocks.1.{site}"

    with torch.no_grad(), switched(model, switch):
        edited = model.run_with_hooks(tokens, fwd_hooks=[(hook_name, returned)])

    assert_close(edited, oracles.forward(networks[name], tokens, {hook_name: tiny.nudged}).logits, hook_name)


@pytest.mark.parametrize("name", tiny.NAMES)
def test_node_attribution_is_the_oracles_gradient_times_the_difference(name, bridges, leaf_networks):
    net = leaf_networks[name]
    clean, corrupted = (tokens[:1] for tokens in pairs())

    scores = attribution_patching.attribution_patch(bridges[name], clean, corrupted, last_logits).node_scores

    run = oracles.forward(net, corrupted)
    source = oracles.forward(net, clean).after
    for node, score in scores.items():
        (gradient,) = torch.autograd.grad(last_logits(run.logits), run.after[node.hook_name], retain_graph=True)
        effect = ((source[node.hook_name] - run.after[node.hook_name]) * gradient)[0, node.position]
        effect = effect if node.head is None else effect[node.head]
        assert score == pytest.approx(effect.sum().item(), abs=1e-5 * largest(scores)), node


def largest(scores: dict) -> float:
    return max(abs(score) for score in scores.values())


def test_edge_attribution_on_gpt_neo_is_the_oracles_gradient_times_the_difference(bridges, leaf_networks):
    net = leaf_networks["gpt-neo"]
    clean, corrupted = (tokens[:1, 2:] for tokens in pairs())
    config = attribution_patching.EdgeAttributionConfig(granularity="edge")

    scores = attribution_patching.attribution_patch(bridges["gpt-neo"], clean, corrupted, last_logits, config)

    run = oracles.forward(net, corrupted)
    source = oracles.forward(net, clean).after
    metric, gradients, deltas = last_logits(run.logits), {}, {}
    for writer, reader in scores.edge_scores:
        at = reader.hook_name.replace("attn.hook_q_", "hook_q_").replace("attn.hook_k_", "hook_k_")
        at = at.replace("attn.hook_v_", "hook_v_")
        if at not in gradients:
            (gradients[at],) = torch.autograd.grad(metric, run.after[at], retain_graph=True)
        name = writer.hook_name.replace("hook_z", "hook_result")
        deltas[name] = source[name] - run.after[name]
        delta, gradient = deltas[name][0, writer.position], gradients[at][0, reader.position]
        delta = delta if writer.head is None else delta[writer.head]
        gradient = gradient if reader.head is None else gradient[reader.head]
        truth = (delta * gradient).sum().item()
        assert scores.edge_scores[writer, reader] == pytest.approx(truth, abs=1e-5 * largest(scores.edge_scores))


@pytest.mark.parametrize("name", tiny.NAMES)
@pytest.mark.parametrize(
    "point", ["ln1.hook_normalized", "ln2.hook_scale", "ln1.hook_in", "ln2.hook_in", "attn.q.hook_in"]
)
def test_an_edit_in_place_inside_a_branch_does_what_a_returned_one_does(name, point, bridges):
    tokens, hook = tiny.tokens(), f"blocks.1.{point}"
    with torch.no_grad():
        plain = bridges[name](tokens)
        returned = bridges[name].run_with_hooks(tokens, fwd_hooks=[(hook, lambda x, hook: tiny.nudged(x))])
        in_place = bridges[name].run_with_hooks(tokens, fwd_hooks=[(hook, lambda x, hook: tiny.nudge_(x))])
    assert (plain - returned).abs().max() > 0.01
    torch.testing.assert_close(in_place, returned, rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", tiny.NAMES)
def test_reading_at_a_layer_norm_leaves_the_logits_as_they_are_to_the_bit(name, bridges):
    tokens = tiny.tokens()
    with torch.no_grad():
        logits, _ = bridges[name].run_with_cache(tokens)
        assert torch.equal(logits, bridges[name](tokens))
