"""Roles of heads: on networks planted by hand among random heads, beside plain loops, and their causes beside hooks."""

import itertools
import math
from importlib import import_module
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import xarray as xr
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

import neolens
import oracles
import planted
import tiny
from neolens import results
from neolens.ablation.controls import random_heads
from neolens.ablation.effects import difference, effect
from neolens.lab.language.documents import CONTENT
from neolens.prompts import random_repeats, repeated
from neolens.scores import THRESHOLDS, causes, heads_of, roles

N, WITHIN = 24, 12
"""Prompts of 49 tokens; the dozen of a planted local-only head lies within 12."""

every_family = pytest.mark.parametrize("family", planted.FAMILIES)


def prompts(count=8, n=N, vocab=planted.VOCAB, seed=0):
    return repeated(range(1, vocab), n, bos=0, prompts=count, seed=seed)


def load(model, folder):
    model.save_pretrained(folder)
    return neolens.load(folder)


def named(found):
    """Every (layer, head, role) that is held."""
    return {(*head, str(role)) for role in found["role"].values for head in heads_of(found, role)}


# Planted heads among random ones --------------------------------------------------------------------------------------

HELD = {
    "previous_token": {"previous_token", "local_only"},
    "duplicate_token": {"duplicate_token", "sink"},
    "induction": {"induction", "sink"},
    "sink": {"sink"},
    "local_only": {"local_only"},
}
"""What a planted head looks like: one that finds nothing in the first copy rests on the first token, 25 times of 49."""


def drawn(seed, family):
    """Where heads are planted: a previous-token head below an induction head, and one of each other role anywhere."""
    rng = np.random.default_rng(seed)
    below = int(rng.integers(planted.LAYERS - 1))
    above = int(rng.integers(below + 1, planted.LAYERS))
    heads = {(below, int(rng.integers(4))): "previous_token", (above, int(rng.integers(4))): "induction"}
    for role in ("sink", "duplicate_token", "local_only", "previous_token"):
        seen = (0, 2) if role == "sink" and family == "gpt-neo" else range(4)  # a local layer loses the first token
        free = [(layer, head) for layer in seen for head in range(4) if (layer, head) not in heads]
        heads[free[int(rng.integers(len(free)))]] = role
    return heads


@every_family
@pytest.mark.parametrize("seed", range(20))
def test_every_planted_head_is_found_and_no_random_one_is_named(family, seed, tmp_path):
    heads = drawn(seed, family)
    found = roles(load(planted.FAMILIES[family](heads, seed), tmp_path), prompts(seed=seed), within=WITHIN)
    assert named(found) == {(*place, looks) for place, role in heads.items() for looks in HELD[role]}
    for (layer, head), role in heads.items():
        assert float(found["score"].sel(role=role, layer=layer, head=head)) == 1.0


# Scores and thresholds ------------------------------------------------------------------------------------------------


def near(pattern, within):
    """The share of a pattern on keys fewer than `within` tokens back, by plain loops."""
    rows = pattern.tolist()
    return sum(sum(row[max(0, i - within + 1) : i + 1]) for i, row in enumerate(rows)) / len(rows)


@pytest.mark.parametrize("name", tiny.NAMES)
@pytest.mark.parametrize("within", [3, 4])
def test_the_score_of_every_role_is_the_mean_of_plain_loops_over_whole_patterns(name, within, tiny_folders, networks):
    model, tokens, n = neolens.load(tiny_folders[name], dtype="float64"), prompts(3, 5, tiny.VOCAB), 5
    found = roles(model, tokens, within=within)
    after = oracles.forward(networks[name], tokens).after
    for layer, span in enumerate(model.anatomy.attention):
        whole = after[f"blocks.{layer}.attn.hook_pattern"]
        for head in range(4):
            each = list(whole[:, head])
            expected = {
                "previous_token": np.mean([oracles.previous_token(pattern) for pattern in each]),
                "duplicate_token": np.mean([oracles.duplicate_token(pattern, n) for pattern in each]),
                "induction": np.mean([oracles.induction(pattern, n) for pattern in each]),
                "sink": np.mean([oracles.sink(pattern) for pattern in each]),
                "local_only": np.mean([near(pattern, within) for pattern in each]),
            }
            if span.window is not None and span.window <= within:
                expected["local_only"] = math.nan
            cell = found["score"].sel(layer=layer, head=head)
            assert {str(role): float(cell.sel(role=role)) for role in found["role"].values} == pytest.approx(
                expected, abs=1e-6, nan_ok=True
            )


def test_a_head_holds_a_role_from_its_threshold_on(bridges):
    tokens = prompts(3, 5, tiny.VOCAB)
    scores = roles(bridges["gpt2"], tokens)["score"]
    limit = float(scores.sel(role="sink", layer=1, head=2))
    found = roles(bridges["gpt2"], tokens, thresholds={"sink": limit})
    assert found["threshold"].sel(role="sink") == limit
    assert found["threshold"].sel(role="induction") == THRESHOLDS["induction"] == 0.4
    at_least = {
        (layer, head) for layer in range(3) for head in range(4) if scores.sel(role="sink")[layer, head] >= limit
    }
    assert set(heads_of(found, "sink")) == at_least
    assert (1, 2) in at_least
    higher = roles(bridges["gpt2"], tokens, thresholds={"sink": math.nextafter(limit, 1)})
    assert set(heads_of(higher, "sink")) == at_least - {(1, 2)}


def test_nobody_is_local_only_where_the_window_makes_it_so(bridges):
    found = roles(bridges["gpt-neo"], prompts(3, 5, tiny.VOCAB), thresholds={"local_only": 0.01})
    assert found.attrs["within"] == tiny.WINDOW
    assert {layer for layer, _ in heads_of(found, "local_only")} == {0, 2}
    assert found["score"].sel(role="local_only", layer=[1, 3]).isnull().all()
    assert not found["holds"].sel(role="local_only", layer=[1, 3]).any()


@pytest.mark.parametrize(
    ("name", "given", "n", "within"),
    [
        ("lab/gpt-neo", None, 32, 16),  # the window
        ("lab/gpt2", None, 32, 16),  # a quarter of 65
        ("lab/gpt2", 10, 32, 10),
        ("lab/pythia", 40, 40, 40),  # longer than twice 40
    ],
)
def test_where_no_tokens_are_given_repeats_are_drawn_that_can_tell_local_heads(name, given, n, within):
    model = neolens.load(name)
    found = roles(model, within=given, seed=3)
    assert {key: found.attrs[key] for key in ("n", "prompts", "within", "seed")} == {
        "n": n, "prompts": 8, "within": within, "seed": 3,
    }  # fmt: skip
    assert found.attrs["first_token"] == "BOS"
    same = roles(model, random_repeats(model, n, seed=3), within=within)
    xr.testing.assert_identical(found.drop_attrs(), same.drop_attrs())


def test_a_result_names_its_model_and_is_loaded_as_it_was_saved(bridges, tmp_path):
    model = bridges["gpt-neo"]
    found = roles(
        model, prompts(8, 5, tiny.VOCAB), thresholds={"sink": 0.1}, causes=True, how="zero", draws=2, progress=False
    )
    back = results.load(results.save(found, tmp_path / "roles.nc"))
    xr.testing.assert_equal(back, found)
    assert back["holds"].dtype == bool
    assert found["attention_kind"].values.tolist() == ["global", "local"] * 2
    expected = {"fingerprint": neolens.fingerprint(model), "n": 5, "prompts": 8, "within": 4, "how": "zero", "draws": 2}
    assert {name: back.attrs[name] for name in expected} == expected
    assert back.attrs["correction"] == "max_t"


# Causes ---------------------------------------------------------------------------------------------------------------

CIRCUIT = {
    (0, 1): "previous_token",
    (0, 3): "sink",
    (1, 0): "duplicate_token",
    (2, 2): "induction",
    (3, 0): "local_only",
}
QUIET = [place for place, role in CIRCUIT.items() if role not in ("previous_token", "induction")]
"""They write nothing, whatever they look at."""


@pytest.fixture(scope="module")
def circuits(tmp_path_factory):
    return {
        family: load(make(CIRCUIT, seed=1), tmp_path_factory.mktemp(family))
        for family, make in planted.FAMILIES.items()
    }


def losses(model, tokens, heads=(), value=None):
    """Each prompt's mean loss on r_2..r_n of the second copy, z of these heads replaced by `value[layer]`."""
    n = tokens.shape[1] // 2

    def put(layer):
        def hook(z, hook):
            z = z.clone()
            for _, head in [place for place in heads if place[0] == layer]:
                z[:, :, head] = value[layer][:, head]
            return z

        return hook

    hooks = [(f"blocks.{layer}.attn.hook_z", put(layer)) for layer in {layer for layer, _ in heads}]
    with torch.no_grad():
        logits = model.run_with_hooks(tokens, fwd_hooks=hooks).double()
    log_p = logits - logits.logsumexp(-1, keepdim=True)
    rows = [[-log_p[b, i, row[i + 1]].item() for i in range(n + 1, 2 * n)] for b, row in enumerate(tokens.tolist())]
    return np.mean(rows, axis=1)


def spoken(model, tokens, how):
    """What takes the heads' place, [pos, head, d_head] of each layer: the mean over prompts, or nothing."""
    with torch.no_grad():
        _, cache = model.run_with_cache(tokens)
    each = [cache[f"blocks.{layer}.attn.hook_z"] for layer in range(len(model.blocks))]
    return [z.mean(0) if how == "mean" else torch.zeros_like(z[0]) for z in each]


@every_family
@pytest.mark.parametrize("how", ["mean", "zero"])
def test_effects_and_controls_are_those_of_hooks_written_by_hand(family, how, circuits):
    model, tokens = circuits[family], prompts(8)
    found = roles(model, tokens, within=WITHIN, causes=True, how=how, progress=False)
    value, own = spoken(model, tokens, how), losses(model, tokens)
    for layer, head in itertools.product(range(4), range(4)):
        cell = found.sel(layer=layer, head=head)
        if (layer, head) not in CIRCUIT:
            assert cell["controls"] == ""
            assert all(np.isnan(cell[name]) for name in causes.CAUSES)
            continue
        beside = [tuple(map(int, name.split("."))) for name in str(cell["controls"].values).split()]
        by_hand = losses(model, tokens, [(layer, head)], value) - own
        control = np.mean([losses(model, tokens, [other], value) - own for other in beside], axis=0)
        assert float(cell["effect"]) == pytest.approx(by_hand.mean(), abs=2e-5)
        assert float(cell["control"]) == pytest.approx(control.mean(), abs=2e-5)
        assert float(cell["more"]) == pytest.approx((by_hand - control).mean(), abs=2e-5)


@every_family
def test_the_heads_of_the_circuit_are_needed_and_heads_that_only_look_so_are_not(family, circuits):
    found = roles(circuits[family], prompts(16), within=WITHIN, causes=True, progress=False)
    for layer, head in ((0, 1), (2, 2)):
        cell = found.sel(layer=layer, head=head)
        assert float(cell["effect"]) > 1.0
        assert float(cell["low"]) > 0
        assert float(cell["more_low"]) > 0
        assert float(cell["more_p_adjusted"]) < 0.01
    for layer, head in QUIET:
        assert abs(float(found["effect"].sel(layer=layer, head=head))) < 1e-5


@pytest.fixture(scope="module")
def lab():
    """A trained network, its own prompts, and what is found of it."""
    model = neolens.load("lab/gpt-neo")
    tokens = random_repeats(model, 32)
    return model, tokens, roles(model, tokens, causes=True, draws=2, progress=False)


def largest_t(x):
    """Westfall and Young over all flips of whole prompts: how often the largest |t| reaches each group's."""

    def size(rows):
        spread = rows.std(1, ddof=1)
        return np.abs(rows.mean(1)) / spread

    flips = [size(x * np.array(signs)).max() for signs in itertools.product((1, -1), repeat=x.shape[1])]
    return [np.mean(np.array(flips) >= one - 1e-9) for one in size(x)]


def test_intervals_and_p_are_those_of_ablate_effect_and_difference_asked_directly(lab):
    model, tokens, found = lab
    held = sorted({head for role in THRESHOLDS for head in heads_of(found, role)})
    assert len(held) > 3
    runs = neolens.ablate(model, tokens, neolens.each_head(model), positions=range(33, 64), progress=False)
    alone, apart = effect(runs), []
    for layer, head in held:
        name, cell = f"{layer}.{head}", found.sel(layer=layer, head=head)
        for variable in ("effect", "low", "high", "p"):
            assert float(cell[variable]) == pytest.approx(float(alone[variable].sel(group=name)), abs=1e-6)
        others = str(cell["controls"].values).split()
        compared = difference(runs, name, others)
        expected = {"more": "difference", "more_low": "low", "more_high": "high", "more_p": "p", "control": "other"}
        for variable, theirs in expected.items():
            assert float(cell[variable]) == pytest.approx(float(compared[theirs]), abs=1e-6), variable
        moved = (runs["ablated"].astype(float) - runs["baseline"]).mean("pos")
        apart.append((moved.sel(group=name) - moved.sel(group=others).mean("group")).values)
    adjusted = [float(found["more_p_adjusted"].sel(layer=layer, head=head)) for layer, head in held]
    assert adjusted == pytest.approx(largest_t(np.array(apart)))


def test_the_trained_network_copies_with_what_looks_like_induction_beyond_its_window(lab):
    model, tokens, found = lab
    induction = neolens.attention(model, tokens)["induction"].mean("prompt")
    expected = list(map(tuple, np.argwhere(induction.values >= 0.4).tolist()))
    assert heads_of(found, "induction") == expected
    assert {layer for layer, _ in expected} == {2}, "31 tokens back is beyond the window of 16"
    group = {"induction": heads_of(found, "induction")}
    without = effect(neolens.ablate(model, tokens, group, positions=range(33, 64), progress=False))
    assert without["effect"].item() > 1.0


# Controls -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("draws", [1, 2, 3, 9])
def test_controls_are_heads_of_the_layer_without_the_roles_and_each_head_is_ablated_once(draws, bridges, monkeypatch):
    calls, ablate = [], causes.ablate

    def recorded(model, tokens, groups, **arguments):
        calls.append(groups)
        return ablate(model, tokens, groups, **arguments)

    monkeypatch.setattr(causes, "ablate", recorded)
    tokens, call = prompts(8, 5, tiny.VOCAB), dict(thresholds={"sink": 0.15}, causes=True, draws=draws, progress=False)
    found = roles(bridges["pythia"], tokens, **call)
    held, ablated = {(layer, head) for layer, head, _ in named(found)}, set()
    for layer, head in held:
        controls = str(found["controls"].sel(layer=layer, head=head).values).split()
        holds = found["holds"].sel(layer=layer).transpose("head", "role").values
        others = [other for other in range(4) if other != head and not (holds[other] & holds[head]).any()]
        assert set(controls) <= {f"{layer}.{other}" for other in others}
        assert len(set(controls)) == min(draws, len(others))
        assert np.isnan(float(found["control"].sel(layer=layer, head=head))) == (not others)
        ablated |= {f"{layer}.{head}", *controls}
    assert held
    (groups,) = calls
    assert set(groups) == ablated
    assert all(heads == [tuple(map(int, name.split(".")))] for name, heads in groups.items())
    assert roles(bridges["pythia"], tokens, **call)["controls"].equals(found["controls"])


def test_every_other_head_is_a_control_for_some_seed(bridges):
    facts = bridges["gpt2"].anatomy
    drawn = [random_heads(facts, (1, 2), 2, seed) for seed in range(40)]
    assert {head for heads in drawn for head in heads} == {(1, 0), (1, 1), (1, 3)}
    assert len({tuple(heads) for heads in drawn}) == 3


def test_a_layer_of_one_head_has_effects_but_no_controls(tmp_path):
    model = load(tiny.model("gpt2", n_head=1), tmp_path)
    found = roles(model, prompts(8, 5, tiny.VOCAB), thresholds={"sink": 0.01}, causes=True, progress=False)
    assert len(heads_of(found, "sink")) == 3
    assert np.isfinite(found["effect"]).all()
    assert (
        found[["control", "more", "more_low", "more_high", "more_p", "more_p_adjusted"]].isnull().all().to_array().all()
    )
    assert (found["controls"] == "").all()


def test_where_no_head_holds_a_role_nothing_is_ablated(bridges, monkeypatch):
    monkeypatch.setattr(causes, "ablate", lambda *a, **k: pytest.fail("ablated"))
    found = roles(bridges["gpt2"], prompts(8, 5, tiny.VOCAB), thresholds=dict.fromkeys(THRESHOLDS, 1.0), causes=True)
    assert named(found) == set()
    assert all(found[name].isnull().all() for name in causes.CAUSES)


def test_a_mean_over_few_prompts_is_warned_of_once(bridges):
    tokens, call = prompts(3, 5, tiny.VOCAB), dict(thresholds={"sink": 0.1}, causes=True, progress=False)
    with pytest.warns(UserWarning, match="the mean is over only 3 reference prompts") as warned:
        roles(bridges["gpt2"], tokens, **call)
    assert len(warned) == 1
    roles(bridges["gpt2"], tokens, how="zero", **call)  # warnings of neolens are errors here


# Refusals -------------------------------------------------------------------------------------------------------------

FIVE = prompts(2, 5, tiny.VOCAB)


@pytest.mark.parametrize(
    ("tokens", "arguments", "error", "message"),
    [
        (FIVE, {"thresholds": {"inductoin": 0.5}}, ValueError, "no role 'inductoin': did you mean induction"),
        (FIVE, {"thresholds": {"sink": 0.0}}, ValueError, "threshold of sink is 0.0: .* above 0, at most 1"),
        (FIVE, {"thresholds": {"sink": 1.5}}, ValueError, "threshold of sink is 1.5"),
        (FIVE, {"thresholds": {"sink": math.nan}}, ValueError, "threshold of sink is nan"),
        (FIVE, {"thresholds": {"sink": "high"}}, TypeError, "threshold of sink is 'high': expected a number"),
        (FIVE, {"thresholds": 0.5}, TypeError, "thresholds are 0.5: expected a dict"),
        (FIVE, {"within": 6}, ValueError, "more than 12 tokens, .* have 11: .* at least 6, or within of at most 5"),
        (FIVE, {"within": 0}, ValueError, "within 0: expected a whole number of tokens, at least 1"),
        (FIVE, {"within": 2.5}, TypeError, "within 2.5: expected a whole number"),
        (prompts(2, 2, tiny.VOCAB), {}, ValueError, "prompt 0 has 5 tokens: .* takes 7 to 64 here; give a longer one"),
        (prompts(2, 3, tiny.VOCAB), {}, ValueError, "within 4 needs prompts of more than 8 tokens"),
        (tiny.tokens(length=11), {}, ValueError, "prompt 0 does not repeat: expected .*random_repeats"),
        ([FIVE[0], prompts(1, 6, tiny.VOCAB)[0]], {}, ValueError, "repeat after 5, 6 tokens: give those of one n"),
        (FIVE, {"seed": -1}, ValueError, "seed -1: expected a whole number of at least 0"),
        (FIVE, {"causes": True, "how": "means"}, ValueError, "no way to ablate 'means': did you mean mean"),
        (FIVE, {"causes": True, "draws": 0}, ValueError, "draws 0: expected a whole number from 1 to 10000"),
        (FIVE, {"causes": True, "resamples": 0}, ValueError, "resamples 0: expected a whole number of at least 1"),
        (FIVE[:1], {"causes": True}, ValueError, "there is 1 prompt: .* give at least 2"),
    ],
)  # fmt: skip
def test_bad_input_is_refused_before_the_model_runs(tokens, arguments, error, message, bridges, monkeypatch):
    monkeypatch.setattr(
        import_module("neolens.scores.roles"), "attention", lambda *a, **k: pytest.fail("the model ran")
    )
    with pytest.raises(error, match=message):
        roles(bridges["gpt-neo"], tokens, **arguments)


@pytest.mark.parametrize(
    ("name", "changes", "n", "within"),
    [
        ("gpt2", {}, 31, 15),  # all that the context of 64 has room for
        ("gpt2", {"vocab_size": 21}, 19, 9),  # token 0 is BOS by the config, and one more stands first
        ("gpt2", {"vocab_size": 5}, 3, 1),
        ("gpt2", {"vocab_size": 3}, 3, 1),  # one token stands twice in r: fewer than 3 have no room for roles
        ("gpt2", {"n_positions": 8}, 3, 1),
        ("gpt-neo", {"vocab_size": 12, "window_size": 16}, 16, 16),  # the window, in which tokens recur
        ("gpt-neo", {"vocab_size": 12}, 10, 4),
    ],
)
def test_default_prompts_fit_any_vocabulary_and_context_without_a_tokenizer(name, changes, n, within, tmp_path_factory):
    model = tiny.loaded(tiny.model(name, **changes), tmp_path_factory)
    found = roles(model, seed=2)
    assert {key: found.attrs[key] for key in ("n", "within", "first_token", "prompts")} == {
        "n": n, "within": within, "first_token": "random", "prompts": 8,
    }  # fmt: skip
    tokens = repeated(range(1, model.anatomy.d_vocab), n, bos=None, prompts=8, seed=2)
    xr.testing.assert_identical(found.drop_attrs(), roles(model, tokens).drop_attrs())
    assert "first_token" not in roles(model, tokens).attrs


def test_a_context_without_room_for_roles_is_refused(tmp_path_factory):
    model = tiny.loaded(tiny.model("gpt2", n_positions=6), tmp_path_factory)
    with pytest.raises(ValueError, match=r"a context of 6 tokens: roles are defined on \[first, r, r\] of at least 7"):
        roles(model)


def test_a_context_too_short_to_tell_local_heads_is_refused_with_the_length_it_takes():
    with pytest.raises(ValueError, match="within 64 needs prompts of more than 128 tokens, .* these have 127"):
        roles(neolens.load("lab/gpt2"), within=64)


@pytest.mark.parametrize(
    ("result", "role", "message"),
    [
        (None, "duplicate", "no role 'duplicate': did you mean duplicate_token"),
        (xr.Dataset(), "sink", "expected the result of neolens.roles"),
        ("sink", "sink", "expected the result of neolens.roles"),
    ],
)
def test_heads_are_only_taken_from_what_has_them(result, role, message, bridges):
    result = roles(bridges["gpt2"], FIVE) if result is None else result
    with pytest.raises(TypeError if isinstance(result, str) else ValueError, match=message):
        heads_of(result, role)


# Drawing repeats ------------------------------------------------------------------------------------------------------


def with_tokenizer(words, d_vocab=99, context=32):
    """What `random_repeats` reads of a model whose tokenizer has these words."""
    backend = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<bos>", unk_token="<unk>")
    return SimpleNamespace(tokenizer=tokenizer, anatomy=SimpleNamespace(name="mine", context=context, d_vocab=d_vocab))


def test_repeats_are_drawn_from_the_words_of_the_lab_where_it_is_spoken():
    rows = random_repeats(neolens.load("lab/pythia"), 40, prompts=60, seed=2)
    assert torch.equal(rows, repeated(CONTENT.tolist(), 40, bos=0, prompts=60, seed=2))
    assert set(rows[:, 1:].unique().tolist()) == set(CONTENT.tolist())


def test_other_repeats_are_drawn_from_all_tokens_that_are_in_the_model_and_not_special():
    rows = random_repeats(with_tokenizer(["a", "<unk>", "b", "c", "<bos>", "d", "e", "f"], d_vocab=7), 3, prompts=40)
    assert set(rows[:, 1:].unique().tolist()) == {0, 2, 3, 5, 6}
    assert rows.shape == (40, 7)
    assert (rows[:, 0] == 4).all()
    assert torch.equal(rows[:, 1:4], rows[:, 4:])


@pytest.mark.parametrize(
    ("change", "n", "prompts", "message"),
    [
        ({"tokenizer": None}, 3, 8, "the model has no tokenizer, and so no BOS: pass prepend_bos=False"),
        ({}, 16, 8, "a prompt of 33: mine has 32 positions; expected 2 to 15"),
        ({}, 1, 8, "n 1: expected a whole number of at least 2"),
        ({}, 3, 0, "prompts 0: expected a whole number of at least 1"),
    ],
)
def test_repeats_that_cannot_be_drawn_are_refused(change, n, prompts, message):
    model = with_tokenizer(["<bos>", "<unk>", "a", "b", "c", "d"])
    vars(model).update(change)
    with pytest.raises(ValueError, match=message):
        random_repeats(model, n, prompts=prompts)
