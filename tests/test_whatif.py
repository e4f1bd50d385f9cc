"""The same weights under another architecture: every window and treatment against the oracle, and as it was afterwards.

The truth is `oracles.forward` in float64, told by hand which keys each layer sees, where each token stands, which
position embeddings it has and which dimensions of q and k are turned or left out.
"""

import copy
import dataclasses
import json
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from torch import Tensor

import neolens
import oracles
import tiny
from neolens.network import logits, residual, verify, weights_of
from neolens.results import provenance
from neolens.whatif import (
    Freeze,
    Mean,
    OnlyRotated,
    OnlyUnrotated,
    Scale,
    Shift,
    Shuffle,
    Unrotated,
    WithoutBands,
    Zero,
    what_if,
)
from test_patching import pairs

TOLERANCE = 1e-5  # of the spread of the logits
LARGE = 0.01  # of the same: what moves them less would prove nothing
WORDS = {"zero": Zero(), "mean": Mean(), "shuffle": Shuffle(), "off": Unrotated()}

OF_ABSOLUTE = (Shift(8), Freeze(3), Zero(), Mean(), Shuffle(), Shuffle(seed=5, within=9), "zero", "mean", "shuffle")
OF_ROTARY = (Freeze(3), Unrotated(), Unrotated([1]), Scale(0.5), Scale(3), WithoutBands((0,)), "off")
MOVING = (
    [(name, treatment) for name in tiny.ABSOLUTE for treatment in OF_ABSOLUTE]
    + [(name, treatment) for name in tiny.ROTARY for treatment in OF_ROTARY]
    + [("pythia", OnlyRotated()), ("pythia", OnlyUnrotated())]  # the other rotates all dimensions
)
"""Every treatment on every family that takes it, where it changes something."""

every_family = pytest.mark.parametrize("name", tiny.NAMES)
every_treatment = pytest.mark.parametrize(("name", "treatment"), MOVING, ids=str)
rotary_families = pytest.mark.parametrize("name", tiny.ROTARY)
cached = pytest.mark.parametrize("cache", [True, False], ids=["with cache", "without cache"])


# The truth -------------------------------------------------------------------------------------------------


def truth(net, tokens, windows=None, treatment=None, edit=None) -> Tensor:
    """Logits of the oracle with a window a layer (None: global; not given: the network's own) and a treatment."""
    places, context = torch.arange(tokens.shape[1]), tiny.CONTEXT
    pairs, d_head = net.rotary_dims // 2, net.layers[0].w_q.shape[2]
    told = {}
    match WORDS.get(treatment, treatment) if isinstance(treatment, str) else treatment:
        case Shift(by=by):
            told["positions"] = places + by
        case Freeze(at=at):
            told["positions"] = torch.tensor([at] * len(places))
        case Scale(by=by):
            told["positions"] = places.double() * by
        case Zero():
            net = dataclasses.replace(net, pos_embed=torch.zeros_like(net.pos_embed))
        case Mean():
            mean = sum(net.pos_embed[i] for i in range(context)) / context
            net = dataclasses.replace(net, pos_embed=torch.stack([mean] * context))
        case Shuffle(seed=seed, within=within):
            drawn = torch.randperm(within or context, generator=torch.Generator().manual_seed(seed)).tolist()
            order = drawn + list(range(len(drawn), context))
            told["positions"] = torch.tensor([order[i] for i in places])
        case Unrotated(bands=bands):
            told["unrotated"] = range(pairs) if bands is None else bands
        case WithoutBands(bands=bands):
            told["dropped"] = [*bands, *(band + pairs for band in bands)]
        case OnlyRotated():
            told["dropped"] = range(2 * pairs, d_head)
        case OnlyUnrotated():
            told["dropped"] = range(2 * pairs)
    return oracles.forward(net, tokens, edit, windows=windows, **told).logits


def windows_of(net, asked) -> list[int | None]:
    """The window of each layer when `asked` is what `what_if` is given."""
    if asked is None:
        return net.windows
    if not isinstance(asked, dict):
        asked = {layer: asked for layer in range(len(net.layers))}
    there = {layer: None if window == "global" else window for layer, window in asked.items()}
    return [there.get(layer, window) for layer, window in enumerate(net.windows)]


@torch.no_grad()
def pure(model, tokens) -> Tensor:
    weights = weights_of(model)
    return logits(weights, residual(weights, tokens))


def off(ours: Tensor, expected: Tensor) -> float:
    """The largest difference as a share of the spread."""
    return ((ours - expected).abs().max() / (expected.max() - expected.min())).item()


def assert_both(model, tokens, expected) -> None:
    with torch.no_grad():
        assert off(model(tokens), expected) <= TOLERANCE, "the hooked model"
    assert off(pure(model, tokens), expected) <= TOLERANCE, "the pure forward pass"


# Windows and treatments, drawn -----------------------------------------------------------------------------

any_window = st.just("global") | st.integers(1, 20)


@st.composite
def questions(draw, name, layers, bands):
    """A length, and windows and positions for `what_if`, at least one; a treatment as its class and its numbers."""
    length = draw(st.integers(1, 20))
    several = st.dictionaries(st.integers(0, layers - 1), any_window, min_size=1)
    windows = draw(st.none() | any_window | several)
    some = st.lists(st.integers(0, bands - 1), max_size=bands + 1)
    numbers = {Shift: st.integers(-64, 64), Freeze: st.integers(0, 63)}
    if name in tiny.ABSOLUTE:
        numbers[Shift] = st.integers(0, tiny.CONTEXT - length)
        several_numbers = st.tuples(st.just(Shuffle), st.integers(0, 9), st.none() | st.integers(1, tiny.CONTEXT))
        without, words = [Zero, Mean], ["zero", "mean", "shuffle"]
    else:
        numbers |= {Unrotated: some, WithoutBands: some, Scale: st.floats(0.1, 3.0)}
        several_numbers = st.just((Scale, 0.5))
        without, words = [OnlyRotated, Unrotated] + [OnlyUnrotated] * (name == "pythia"), ["off"]
    treatments = [st.tuples(st.just(kind), number) for kind, number in numbers.items()]
    treatment = st.one_of(*treatments, several_numbers, st.sampled_from(without).map(lambda kind: (kind,)))
    treatment |= st.sampled_from(words)
    return length, windows, draw(treatment if windows is None else st.none() | treatment)


@every_family
@settings(max_examples=40, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(data=st.data())
def test_the_hooked_model_and_the_pure_pass_give_the_oracles_logits(name, data, bridges, networks):
    model, net = bridges[name], networks[name]
    length, windows, positions = data.draw(questions(name, len(net.layers), net.rotary_dims // 2))
    tokens = tiny.tokens(seed=length, length=length)
    if isinstance(positions, tuple):
        positions = positions[0](*positions[1:])

    expected = truth(net, tokens, windows_of(net, windows), positions)

    with what_if(model, windows=windows, positions=positions) as inside:
        assert inside is model
        assert_both(model, tokens, expected)


@every_treatment
def test_a_treatment_moves_the_logits_to_the_oracles(name, treatment, bridges, networks):
    model, tokens = bridges[name], tiny.tokens(length=20)
    with torch.no_grad():
        plain = model(tokens)
    with what_if(model, positions=treatment):
        expected = truth(networks[name], tokens, treatment=treatment)
        assert off(plain, expected) > LARGE
        assert_both(model, tokens, expected)


@pytest.mark.parametrize("dtype", ["float64", "bfloat16"])
@every_family
def test_hooked_and_pure_agree_in_other_dtypes(name, dtype, tiny_folders):
    model = neolens.load(tiny_folders[name], dtype=dtype)
    for treatment in [each for other, each in MOVING if other == name]:
        with what_if(model, windows={1: 3}, positions=treatment):
            verify(model, tiny.tokens())


# Laws ------------------------------------------------------------------------------------------------------


def difference(model, tokens, **changes) -> tuple[float, float]:
    """The largest difference of a logit that the change makes, in the hooked model and in the pure forward pass."""
    with torch.no_grad():
        before = model(tokens), pure(model, tokens)
        with what_if(model, **changes):
            after = model(tokens), pure(model, tokens)
    hooked, plain = ((a - b).abs().max().item() for a, b in zip(after, before, strict=True))
    return hooked, plain


def test_a_local_layer_made_global_changes_exactly_nothing_up_to_its_window(bridges):
    model = bridges["gpt-neo"]
    for length in range(1, tiny.WINDOW + 1):
        assert difference(model, tiny.tokens(length=length), windows="global") == (0.0, 0.0)
    assert min(difference(model, tiny.tokens(length=tiny.WINDOW + 1), windows="global")) > 0.1


@every_family
@pytest.mark.parametrize("window", [1, 3, 8])
def test_a_window_changes_exactly_nothing_in_prompts_that_fit_into_it(name, window, bridges):
    changed = {0: window}  # a global layer in every family
    assert difference(bridges[name], tiny.tokens(length=window), windows=changed) == (0.0, 0.0)
    assert min(difference(bridges[name], tiny.tokens(length=window + 1), windows=changed)) > 0.1


@every_family
def test_what_is_in_force_already_changes_exactly_nothing(name, bridges):
    model = bridges[name]
    own = {layer: span.window or "global" for layer, span in enumerate(model.anatomy.attention)}
    assert difference(model, tiny.tokens(), windows=own) == (0.0, 0.0)
    nothing = [Shift(0), Shuffle(within=1)] if name in tiny.ABSOLUTE else [Shift(0), Scale(1)]
    nothing += [] if name in tiny.ABSOLUTE else [Unrotated(()), WithoutBands(())]
    nothing += [OnlyRotated()] if name == "neox-sequential" else []
    for treatment in nothing:
        assert difference(model, tiny.tokens(), positions=treatment) == (0.0, 0.0), treatment


@rotary_families
@pytest.mark.parametrize("by", [-40, -1, 1, 8, 64])
def test_a_rotary_model_does_not_feel_a_shift_and_an_absolute_one_does(name, by, bridges):
    tokens = tiny.tokens(length=20)
    spread = bridges[name](tokens).detach()
    spread = (spread.max() - spread.min()).item()
    assert max(difference(bridges[name], tokens, positions=Shift(by))) <= TOLERANCE * spread
    if 0 < by <= tiny.CONTEXT - 20:
        assert min(difference(bridges["gpt2"], tokens, positions=Shift(by))) > 1


@rotary_families
@pytest.mark.parametrize("sharper", [1, 3, 10, 30])
def test_a_shift_moves_logits_no_more_than_rounding_explains_however_sharp_attention_is(name, sharper, tmp_path):
    model, tokens = tiny.model(name), tiny.tokens(0, 4, 20)
    with torch.no_grad():
        for key, weight in model.named_parameters():
            if "query_key_value.weight" in key:
                weight.mul_(sharper**0.5)  # of queries and keys alike (and of values)
    model.save_pretrained(tmp_path)
    bridge, network = neolens.load(tmp_path), oracles.network(model)
    exact = oracles.forward(network, tokens).logits
    shifted_exact = oracles.forward(network, tokens, positions=torch.arange(20) + 8).logits
    assert (shifted_exact - exact).abs().max() < 1e-9 * (exact.max() - exact.min())
    own = bridge(tokens).detach().double()
    rounding = (own - exact).abs().max()
    for by in (1, 8, 40):
        with what_if(bridge, positions=Shift(by)):
            moved = (bridge(tokens).detach().double() - own).abs().max()
        assert moved < 4 * rounding, by


@rotary_families
def test_only_content_is_left_where_every_token_stands_at_one_place(name, bridges):
    model, tokens = bridges[name], tiny.tokens(length=20)
    with torch.no_grad(), what_if(model, positions="off"):
        unrotated = model(tokens)
        with what_if(model, positions=Freeze(17)):
            assert off(model(tokens), unrotated) <= TOLERANCE  # q_i and k_j turned by the same angle


@pytest.mark.parametrize("treatment", [Freeze(5), Zero(), Mean()], ids=str)
def test_absolute_tokens_without_a_place_see_each_other_as_a_set(treatment, bridges):
    tokens = tiny.tokens(length=12)
    mixed = tokens[:, [3, 0, 9, 6, 1, 10, 2, 8, 4, 7, 5, 11]]  # the last stays where it is
    with torch.no_grad(), what_if(bridges["gpt2"], windows="global", positions=treatment):
        only_first = [f"blocks.{layer}.hook_attn_out" for layer in range(1, 3)]
        first_layer = [(name, lambda x, hook: x * 0) for name in only_first]  # later ones see what each token had seen
        one, other = (bridges["gpt2"].run_with_hooks(each, fwd_hooks=first_layer)[:, -1] for each in (tokens, mixed))
    assert off(other, one) <= TOLERANCE


def test_a_shuffle_is_one_permutation_of_the_first_positions(bridges):
    model, table = bridges["gpt2"], bridges["gpt2"].W_pos.detach()
    tokens = tiny.tokens(length=tiny.CONTEXT)

    def embeddings(treatment) -> Tensor:
        with torch.no_grad(), what_if(model, positions=treatment):
            return model.run_with_cache(tokens, names_filter="hook_pos_embed")[1]["hook_pos_embed"][0]

    for treatment, some in ((Shuffle(1), tiny.CONTEXT), (Shuffle(1, within=10), 10)):
        got = embeddings(treatment)
        places = [next(j for j in range(len(table)) if torch.equal(row, table[j])) for row in got]
        assert sorted(places) == list(range(tiny.CONTEXT))
        assert places[:some] != list(range(some))
        assert places[some:] == list(range(some, tiny.CONTEXT))
        assert torch.equal(embeddings(treatment), got)
    assert not torch.equal(embeddings(Shuffle(1)), embeddings(Shuffle(2)))


# Generation, padding, copies, compatibility mode -----------------------------------------------------------

NEW = 14
WINDOWED = [(name, {"windows": windows}) for name in tiny.NAMES for windows in (3, {1: 5}, "global")]
TREATED = [(name, {"positions": treatment, "windows": {0: 6}}) for name, treatment in MOVING]
IDS = [f"{name} {changes}" for name, changes in [*WINDOWED, *TREATED]]


def generated(model, tokens, cache, **options):
    said = dict(do_sample=False, stop_at_eos=False, return_type="tokens", verbose=False, output_logits=True)
    return model.generate(tokens, max_new_tokens=NEW, use_past_kv_cache=cache, **said, **options)


@pytest.mark.parametrize(("name", "changes"), [*WINDOWED, *TREATED], ids=IDS)
@cached
def test_generation_is_the_oracles_token_by_token(name, changes, cache, bridges, networks):
    model, net, tokens = bridges[name], networks[name], tiny.tokens(seed=3, length=6)
    windows, treatment = windows_of(net, changes["windows"]), changes.get("positions")
    with what_if(model, **changes):
        run = generated(model, tokens, cache)
    expected = truth(net, run.sequences[:, :-1], windows, treatment)[:, 5:]  # causal: each row is that of its step
    assert off(torch.stack(run.logits, dim=1), expected) <= TOLERANCE
    assert torch.equal(run.sequences[:, 6:], expected.argmax(-1))


@cached
@pytest.mark.parametrize(("name", "changes"), [*WINDOWED, *TREATED], ids=IDS)
def test_a_left_padded_prompt_is_as_the_prompt_alone(name, changes, cache, bridges):
    model, tokens = bridges[name], tiny.tokens(seed=31, batch=1, length=9)
    padded, mask = torch.cat([torch.full((1, 5), 3), tokens], dim=1), torch.tensor([[0] * 5 + [1] * 9])
    with torch.no_grad(), what_if(model, **changes):
        alone = model(tokens)
        assert off(model(padded, attention_mask=mask)[:, 5:], alone) <= TOLERANCE
        continued = generated(model, tokens, cache).sequences
        assert torch.equal(generated(model, padded, cache, attention_mask=mask).sequences[:, 5:], continued)


@every_family
def test_hugging_faces_own_generate_follows_too(name, bridges, networks):
    model, tokens = bridges[name], tiny.tokens(seed=3, batch=1, length=6)
    treatment = Shift(8) if name in tiny.ABSOLUTE else "off"
    with what_if(model, windows=4, positions=treatment):
        told = dict(max_new_tokens=NEW, do_sample=False, pad_token_id=0, eos_token_id=None)
        ours = model.original_model.generate(tokens, attention_mask=torch.ones_like(tokens), **told)
    for _ in range(NEW):
        last = truth(networks[name], tokens, [4] * len(networks[name].layers), treatment)[:, -1:]
        tokens = torch.cat([tokens, last.argmax(-1)], dim=1)
    assert ours.tolist() == tokens.tolist()


@every_family
def test_a_copy_made_inside_is_as_the_model_was_loaded(name, tiny_folders):
    model, tokens = neolens.load(tiny_folders[name]), tiny.tokens()
    anatomy, plain = model.anatomy, model(tokens).detach()
    with what_if(model, windows=3, positions=Shift(8) if name in tiny.ABSOLUTE else "off"):
        twin = copy.deepcopy(model)
        assert twin.anatomy == anatomy
        assert torch.equal(twin(tokens), plain)
        assert torch.equal(pure(twin, tokens), pure(copy.deepcopy(twin), tokens))
    assert twin.anatomy == anatomy
    with what_if(twin, windows=2):
        assert torch.equal(model(tokens), plain)


@every_family
def test_windows_act_in_compatibility_mode(name, tiny_folders, networks):
    model, tokens = neolens.load(tiny_folders[name]), tiny.tokens()
    model.enable_compatibility_mode(disable_warnings=True)
    with torch.no_grad(), what_if(model, windows=3):
        ours = model(tokens).log_softmax(-1)  # the unembedding is centred, so each row of logits is moved
    expected = truth(networks[name], tokens, [3] * len(networks[name].layers)).log_softmax(-1)
    assert (ours - expected).abs().max() < 1e-4


# Hooks -----------------------------------------------------------------------------------------------------

SITES = ("attn.hook_attn_scores", "attn.hook_pattern", "attn.hook_z", "attn.hook_q", "hook_resid_post")
EDITS = [(name, site) for name in tiny.NAMES for site in SITES]
EDITS += [(name, site) for name in tiny.ROTARY for site in ("attn.hook_rot_q", "attn.hook_rot_k")]
EDITS += [(name, "hook_pos_embed") for name in tiny.ABSOLUTE]


@pytest.mark.parametrize(("name", "site"), EDITS)
def test_an_edit_inside_acts_as_the_oracle_says(name, site, bridges, networks):
    model, net, tokens = bridges[name], networks[name], tiny.tokens()
    hook = site if site == "hook_pos_embed" else f"blocks.1.{site}"
    treatments = OF_ABSOLUTE[:6] if name in tiny.ABSOLUTE else (Scale(2), WithoutBands([1]), OnlyRotated())
    for treatment in treatments:
        expected = truth(net, tokens, windows_of(net, 5), treatment, edit={hook: tiny.nudged})
        assert off(truth(net, tokens, windows_of(net, 5), treatment), expected) > LARGE
        with torch.no_grad(), what_if(model, windows=5, positions=treatment):
            returned = model.run_with_hooks(tokens, fwd_hooks=[(hook, lambda x, hook: tiny.nudged(x))])
            in_place = model.run_with_hooks(tokens, fwd_hooks=[(hook, lambda x, hook: tiny.nudge_(x))])
        assert off(returned, expected) <= TOLERANCE
        assert off(in_place, expected) <= TOLERANCE


@every_family
def test_it_is_no_hook_and_removing_all_hooks_leaves_it_in_force(name, bridges, networks):
    model, tokens = bridges[name], tiny.tokens()
    treatment = Freeze(2)
    with torch.no_grad(), what_if(model, windows=3, positions=treatment):
        neolens.network.check_unchanged(model)
        model.reset_hooks(including_permanent=True)
        expected = truth(networks[name], tokens, [3] * len(networks[name].layers), treatment)
        assert off(model(tokens), expected) <= TOLERANCE


# The other functions of the package ------------------------------------------------------------------------

FOR_EACH = [
    (name, changes)
    for name in tiny.NAMES
    for changes in (
        {"windows": {0: 3, 1: "global"}},
        {"positions": Freeze(4) if name in tiny.ROTARY else Shuffle(2)},
        {"windows": 6, "positions": Scale(0.5) if name in tiny.ROTARY else Shift(20)},
        *([{"positions": OnlyRotated()}, {"positions": WithoutBands([0])}] if name == "pythia" else []),
    )
]
for_each = pytest.mark.parametrize(("name", "changes"), FOR_EACH, ids=[f"{name} {c}" for name, c in FOR_EACH])


@for_each
@pytest.mark.parametrize("site", ["resid_pre", "z", "q", "k", "pattern"])
def test_patching_by_replay_is_patching_by_hooks(name, changes, site, bridges):
    asked, told = (
        pairs(lengths=(14, 9)),
        {"positions": "each" if site == "resid_pre" else ["b", "a"], "progress": False},
    )
    with what_if(bridges[name], **changes):
        replayed, hooked = (
            neolens.patch(bridges[name], asked, site, engine=engine, **told).patched.values
            for engine in ("replay", "hooks")
        )
    plain = neolens.patch(bridges[name], asked, site, **told).patched.values
    assert off(torch.tensor(replayed).nan_to_num(), torch.tensor(hooked).nan_to_num()) <= TOLERANCE
    assert np.nanmax(np.abs(replayed - plain)) > LARGE


@for_each
def test_attention_is_measured_on_the_patterns_of_the_hooked_model(name, changes, bridges):
    model, tokens = bridges[name], tiny.tokens(length=15)
    with torch.no_grad(), what_if(model, **changes):
        scores = neolens.attention(model, tokens)
        cache = model.run_with_cache(tokens)[1]
        patterns = [cache[f"blocks.{layer}.attn.hook_pattern"].double() for layer in range(model.cfg.n_layers)]
    for layer, pattern in enumerate(patterns):
        for prompt, head in np.ndindex(2, 4):
            one, cell = pattern[prompt, head], dict(prompt=prompt, layer=layer, head=head)
            assert float(scores.previous_token.sel(cell)) == pytest.approx(oracles.previous_token(one), abs=1e-5)
            assert float(scores.mean_distance.sel(cell)) == pytest.approx(oracles.mean_distance(one), abs=1e-4)


@for_each
def test_every_result_says_what_was_in_force(name, changes, bridges):
    model, tokens = bridges[name], tiny.tokens(length=15)
    with what_if(model, **changes):
        facts, result = neolens.anatomy(model), neolens.attention(model, tokens)
    assert json.loads(result.attrs["anatomy"]) == json.loads(json.dumps(dataclasses.asdict(facts)))
    assert result.attrs["fingerprint"] == neolens.fingerprint(model)
    spans = [(span.kind, span.window) for span in facts.attention]
    windows = [None if np.isnan(window) else window for window in result.window.values]
    assert list(zip(result.attention_kind.values, windows, strict=True)) == spans


KINDS = {
    Shift(8): ("shift", "shifted by 8"),
    Freeze(3): ("freeze", "every token at 3"),
    Zero(): ("zero", "embedding zero"),
    Mean(): ("mean", "embedding the mean"),
    Shuffle(): ("shuffle", "shuffled (seed 0)"),
    Shuffle(1, 9): ("shuffle", "the first 9 shuffled (seed 1)"),
    Unrotated(): ("unrotated", "not rotated"),
    Unrotated([1, 0, 1]): ("unrotated", "bands 0, 1 not rotated"),
    Unrotated([]): ("unrotated", "every band rotated"),
    Scale(0.5): ("scale", "scaled by 0.5"),
    WithoutBands([1]): ("without bands", "without band 1"),
    WithoutBands([]): ("without bands", "with every band"),
    OnlyRotated(): ("only rotated", "rotated part only"),
    OnlyUnrotated(): ("only unrotated", "unrotated part only"),
}


@pytest.mark.parametrize("treatment", KINDS, ids=str)
def test_anatomy_and_provenance_tell_the_treatment_apart_from_all_others(treatment, bridges):
    kind, words = KINDS[treatment]
    model = bridges["gpt2" if kind in ("shift", "freeze", "zero", "mean", "shuffle") else "pythia"]
    built = str(model.anatomy.position)
    with what_if(model, positions=treatment):
        facts = neolens.anatomy(model)
        told = json.loads(provenance(model, facts)["anatomy"])["position"]["treatment"]
    assert str(facts.position) == f"{built}, {words}"
    numbers = {name: list(value) if isinstance(value, tuple) else value for name, value in vars(treatment).items()}
    assert told == {**numbers, "kind": kind}


def test_the_config_says_what_is_in_force(bridges):
    model = bridges["gpt-neo"]
    with what_if(model, windows={0: 7, 1: "global", 3: 9}, positions=Shift(4)):
        cfg = model.cfg
        assert cfg.attn_types == ["local", "global", "global", "local"]
        assert (cfg.use_local_attn, cfg.window_size, cfg.n_ctx) == (True, 7, tiny.CONTEXT - 4)
        with what_if(model, windows="global"):
            assert (cfg.use_local_attn, cfg.window_size, cfg.n_ctx) == (False, None, tiny.CONTEXT - 4)
    assert (cfg.use_local_attn, cfg.window_size, cfg.n_ctx) == (True, tiny.WINDOW, tiny.CONTEXT)


def test_the_learned_position_embeddings_stay_whole(bridges):
    for by in (1, 2, 3):  # TransformerLens takes a table of two rows more than the context for OPT's, and cuts it
        with what_if(bridges["gpt2"], positions=Shift(by)):
            assert bridges["gpt2"].W_pos.shape[0] == tiny.CONTEXT


# The context -----------------------------------------------------------------------------------------------


@settings(max_examples=200, deadline=None)
@given(by=st.floats(0.02, 80) | st.fractions(min_value=1, max_value=64).map(lambda x: float(1 / x)))
def test_a_scaled_context_is_every_position_that_lands_inside_the_trained_one(by, bridges):
    with what_if(bridges["pythia"], positions=Scale(by)):
        assert bridges["pythia"].anatomy.context == sum(p * by < tiny.CONTEXT for p in range(64 * 64))


@pytest.mark.parametrize("name", tiny.ABSOLUTE)
def test_a_prompt_beyond_a_shifted_context_is_refused_by_the_model_and_the_functions(name, bridges):
    model = bridges[name]
    with what_if(model, positions=Shift(60)):
        assert model.anatomy.context == 4
        fitting = tiny.tokens(length=4)
        assert model(fitting).shape[1] == 4
        too_long = "there is no position 4: of 64 learned positions, 4 are left where they are shifted by 60; cut"
        with pytest.raises(ValueError, match=re.escape(too_long)):
            model(tiny.tokens(length=5))
        with pytest.raises(ValueError, match=re.escape(too_long)):
            pure(model, tiny.tokens(length=5))
        with pytest.raises(ValueError, match=re.escape(too_long)):
            generated(model, fitting, cache=True)
        with pytest.raises(ValueError, match="prompt 0 has 5 tokens: .* takes 2 to 4 here"):
            neolens.attention(model, tiny.tokens(length=5))
    with what_if(model, positions="zero"), pytest.raises(ValueError, match="there is no position 64: of 64 learned"):
        model(tiny.tokens(length=65))


def test_a_scaled_rotary_model_takes_longer_prompts(bridges, networks):
    model, tokens = bridges["pythia"], tiny.tokens(length=100)
    with what_if(model, positions=Scale(0.5)):
        assert_both(model, tokens, truth(networks["pythia"], tokens, treatment=Scale(0.5)))
        assert neolens.attention(model, tokens).sizes["prompt"] == 2


# Nesting, and as it was afterwards -------------------------------------------------------------------------


def test_windows_add_up_and_a_treatment_replaces_the_one_in_force(bridges, networks):
    model, net, tokens = bridges["gpt-neo"], networks["gpt-neo"], tiny.tokens()
    with what_if(model, windows={0: 3}, positions=Shift(60 - 14)):
        outer = truth(net, tokens, [3, 4, None, 4], Shift(46))
        with what_if(model, windows={1: "global"}, positions=Freeze(60)):  # beyond the 18 that the shift had left
            assert_both(model, tokens, truth(net, tokens, [3, None, None, 4], Freeze(60)))
            assert model.anatomy.context == tiny.CONTEXT
            with what_if(model, windows={2: 2}):
                assert_both(model, tokens, truth(net, tokens, [3, None, 2, 4], Freeze(60)))
        assert_both(model, tokens, outer)
        with what_if(model, positions="zero"):
            assert_both(model, tokens, truth(net, tokens, [3, 4, None, 4], "zero"))
        assert_both(model, tokens, outer)


def state(model):
    """All that could be left behind: facts, config, hooks of torch on any module, attributes of every component."""
    hooks = {
        (name, kind): dict(getattr(module, kind))
        for name, module in model.named_modules()
        for kind in ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    }
    parts = {
        (name, key): value
        for name, module in model.named_modules()
        for key, value in vars(module).items()
        if key in ("span", "treatment")
    }
    buffers = {name: buffer.clone() for name, buffer in model.original_model.named_buffers()}
    return {"cfg": dict(vars(model.cfg)), "hooks": hooks, "parts": parts}, buffers


def leave_normally(model):
    generated(model, tiny.tokens(length=4), cache=True)


def leave_by_an_error(model):
    raise KeyboardInterrupt


def leave_by_a_refusal(model):
    what_if(model, windows=0)


def leave_from_inside(model):
    with what_if(model, windows=2, positions=Freeze(1)):
        raise KeyboardInterrupt


def leave_by_an_error_in_a_hook(model):
    def fails(x, hook):
        raise KeyboardInterrupt

    model.run_with_hooks(tiny.tokens(), fwd_hooks=[("blocks.1.attn.hook_pattern", fails)])


EXITS = (leave_normally, leave_by_an_error, leave_by_a_refusal, leave_from_inside, leave_by_an_error_in_a_hook)


@pytest.mark.parametrize("leave", EXITS)
@every_family
def test_the_model_is_as_it_was_however_the_context_is_left(name, leave, bridges):
    model, tokens = bridges[name], tiny.tokens(length=30)
    model(tokens)
    anatomy, (before, buffers) = model.anatomy, state(model)
    plain, by_hand, fingerprint = model(tokens).detach(), pure(model, tokens), neolens.fingerprint(model)
    try:
        with what_if(model, windows=3, positions=Freeze(2)), what_if(model, windows={1: 7}, positions=Shift(5)):
            assert not torch.equal(model(tokens), plain)
            assert neolens.fingerprint(model) == fingerprint
            leave(model)
    except (KeyboardInterrupt, ValueError):
        pass
    after, buffers_after = state(model)
    assert after == before
    assert model.anatomy is anatomy
    assert all(torch.equal(buffers[key], buffers_after[key]) for key in buffers)
    assert torch.equal(model(tokens), plain)
    assert torch.equal(pure(model, tokens), by_hand)


@pytest.mark.parametrize("field", ["attn_types", "use_local_attn", "window_size", "n_ctx"])
def test_the_config_follows_what_is_in_force_and_cannot_be_set(field, bridges):
    with pytest.raises(AttributeError, match=f"cfg.{field} .* neolens.what_if"):
        setattr(bridges["gpt-neo"].cfg, field, getattr(bridges["gpt-neo"].cfg, field))


# What is refused -------------------------------------------------------------------------------------------

BOTH = "expected a treatment such as neolens.whatif.Shift(8), or 'zero', 'mean', 'shuffle', 'off'"
REFUSED = [
    ("gpt2", {}, ValueError, "nothing is changed: give windows (such as 16), positions"),
    ("gpt2", {"windows": 0}, ValueError, "window 0: expected a whole number of keys, at least 1; or 'global'"),
    ("gpt2", {"windows": -3}, ValueError, "window -3: expected a whole number of keys, at least 1"),
    ("gpt2", {"windows": True}, TypeError, "window True: expected a whole number of keys"),
    ("gpt2", {"windows": 4.0}, TypeError, "window 4.0: expected a whole number"),
    ("gpt2", {"windows": [3, 4]}, TypeError, "window [3, 4]: expected a whole number"),
    ("gpt2", {"windows": "globl"}, ValueError, "no window 'globl': did you mean global? expected 'glob"),
    ("gpt2", {"windows": {}}, ValueError, "windows is an empty mapping: give at least one layer"),
    ("gpt2", {"windows": {3: 4}}, ValueError, "no layer 3 in "),
    ("gpt2", {"windows": {3: 4}}, ValueError, ": layers are 0 to 2"),
    ("gpt2", {"windows": {-1: 4}}, ValueError, "no layer -1 in "),
    ("gpt2", {"windows": {True: 4}}, TypeError, "layer True: expected a whole number; layers are 0 to 2"),
    ("gpt2", {"windows": {"1": 4}}, TypeError, "layer '1': expected a whole number; layers are 0 to 2"),
    ("gpt2", {"windows": {1: None}}, TypeError, "window None: expected a whole number"),
    ("gpt2", {"windows": {0: 3, 1: 0}}, ValueError, "window 0: expected a whole number of keys, at least 1"),
    ("gpt2", {"positions": "zeros"}, ValueError, "no treatment of positions 'zeros': did you mean zero? expe"),
    ("gpt2", {"positions": 8}, TypeError, f"positions is 8: {BOTH}"),
    ("gpt2", {"positions": Shift}, TypeError, f"positions is the class Shift: {BOTH}"),
    ("gpt2", {"positions": Shift(-1)}, ValueError, "cannot be shifted by -1: no embedding was learned before"),
    ("gpt2", {"positions": Shift(64)}, ValueError, "cannot be shifted by 64: it learned 64 positions, so none"),
    ("gpt2", {"positions": Freeze(64)}, ValueError, "has no position 64: it learned positions 0 to 63"),
    ("gpt2", {"positions": Shuffle(within=65)}, ValueError, "has no 65 positions to shuffle: it learned 64"),
    ("gpt-neo", {"positions": "off"}, ValueError, "has absolute positions, which Unrotated does not act on"),
    ("gpt-neo", {"positions": Scale(2)}, ValueError, "Scale does not act on: expected Shift, Freeze, Zero, Mean"),
    ("gpt-neo", {"positions": WithoutBands([])}, ValueError, "absolute positions, which WithoutBands does not act"),
    ("gpt-neo", {"positions": OnlyRotated()}, ValueError, "which OnlyRotated does not act on"),
    ("gpt-neo", {"positions": OnlyUnrotated()}, ValueError, "which OnlyUnrotated does not act on"),
    ("pythia", {"positions": "zero"}, ValueError, "has rotary positions, which Zero does not act on: expec"),
    ("pythia", {"positions": "mean"}, ValueError, "which Mean does not act on"),
    ("pythia", {"positions": "shuffle", "windows": 3}, ValueError, "which Shuffle does not act on"),
    ("pythia", {"positions": Shift(2**24)}, ValueError, "beyond 16777216 positions are not exact in float32"),
    ("pythia", {"positions": Unrotated([0, 2])}, ValueError, "no band 2 in "),
    ("pythia", {"positions": WithoutBands([2])}, ValueError, ": bands are 0 (the fastest) to 1"),
    ("neox-sequential", {"positions": OnlyUnrotated()}, ValueError, "rotates all 8 dimensions of a head: nothing is"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "changes", "error", "message"), REFUSED)
def test_what_cannot_be_is_refused_before_anything_changes(name, changes, error, message, bridges):
    model, anatomy = bridges[name], bridges[name].anatomy
    with pytest.raises(error, match=re.escape(message)):
        what_if(model, **changes)
    assert model.anatomy is anatomy


MADE = [
    (lambda: Shift(True), TypeError, "a shift by True: expected a whole number"),
    (lambda: Shift(1.0), TypeError, "a shift by 1.0: expected a whole number"),
    (lambda: Shift("8"), TypeError, "a shift by '8': expected a whole number"),
    (
        lambda: Shift(2**24 + 1),
        ValueError,
        "a shift by 16777217: expected at most 16777216, up to which angles are exact",
    ),
    (lambda: Freeze(-1), ValueError, "position -1: expected a whole number of at least 0"),
    (lambda: Freeze(2.5), TypeError, "position 2.5: expected a whole number of at least 0"),
    (lambda: Freeze(2**25), ValueError, "position 33554432: expected a whole number from 0 to 16777216"),
    (lambda: Shuffle(seed=-1), ValueError, "seed -1: expected a whole number of at least 0, below 2**63"),
    (lambda: Shuffle(seed=None), TypeError, "seed None: expected a whole number"),
    (lambda: Shuffle(within=0), ValueError, "within 0: expected a whole number of positions, at least 1"),
    (lambda: Shuffle(within=False), TypeError, "within False: expected a whole number of positions"),
    (lambda: Scale(0), ValueError, "scale 0: expected a number from 1e-09 to 1e+09"),
    (lambda: Scale(-1), ValueError, "scale -1: expected a number from 1e-09"),
    (lambda: Scale(float("nan")), ValueError, "scale nan: expected a number from 1e-09"),
    (lambda: Scale(float("inf")), ValueError, "scale inf: expected a number from 1e-09"),
    (lambda: Scale(True), TypeError, "scale True: expected a number from 1e-09"),
    (lambda: Scale("2"), TypeError, "scale '2': expected a number from 1e-09"),
    (lambda: Unrotated(3), TypeError, "bands 3: expected a list of band numbers, such as (0, 1)"),
    (lambda: Unrotated("all"), TypeError, "bands 'all': expected a list"),
    (lambda: Unrotated([-1]), ValueError, "band -1: expected a whole number of at least 0"),
    (lambda: WithoutBands([0.0]), TypeError, "band 0.0: expected a whole number"),
    (lambda: WithoutBands([True]), TypeError, "band True: expected a whole number"),
]


@pytest.mark.parametrize(("make", "error", "message"), MADE, ids=[message for _, _, message in MADE])
def test_a_treatment_of_a_wrong_number_is_refused(make, error, message):
    with pytest.raises(error, match=re.escape(message)):
        make()


def test_numbers_of_any_integer_type_are_taken(bridges, networks):
    assert Unrotated(np.array([1, 0, 1])) == Unrotated((0, 1)) == Unrotated(torch.tensor([0, 1])) == Unrotated(range(2))
    assert (Shift(np.int64(8)), Scale(np.float32(0.5))) == (Shift(8), Scale(0.5))
    with what_if(bridges["gpt2"], windows={np.int64(1): np.int32(3)}, positions=Shift(torch.tensor(2))):
        json.dumps(dataclasses.asdict(bridges["gpt2"].anatomy))
        tokens = tiny.tokens()
        assert_both(bridges["gpt2"], tokens, truth(networks["gpt2"], tokens, [None, 3, None], Shift(2)))


def test_a_model_without_positions_has_none_to_treat_but_takes_windows():
    model, tokens = neolens.load("lab/nope"), torch.arange(4, 34)[None]
    with pytest.raises(ValueError, match="lab/nope has no position encoding at all: there is nothing to treat"):
        what_if(model, positions=Shift(1))
    assert difference(model, tokens[:, :5], windows=5) == (0.0, 0.0)
    assert min(difference(model, tokens, windows=5)) > 0.1
    with what_if(model, windows=5):
        verify(model, tokens)


@pytest.mark.parametrize("other", ["lab/gpt2", None, torch.nn.Linear(2, 2)], ids=["a name", "None", "a module"])
def test_only_models_of_neolens_are_taken(other):
    with pytest.raises(TypeError, match=f"expected a model from neolens.load, got {type(other).__name__}"):
        what_if(other, windows=3)


def test_a_model_of_hugging_face_is_refused(tiny_models):
    with pytest.raises(TypeError, match="expected a model from neolens.load, got GPT2LMHeadModel"):
        what_if(tiny_models["gpt2"], windows=3)


def test_treatments_and_the_facts_need_no_torch():
    code = "import sys, neolens.models.anatomy, neolens.whatif; print('torch' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"
