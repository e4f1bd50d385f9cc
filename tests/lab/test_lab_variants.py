"""The arms: one difference is one. Weights moved from one arm's class into another's compute the same.

The raw parameters are read by `oracles.network`, which shares no code with neolens.
"""

import dataclasses
import itertools
import math

import numpy as np
import pytest
import torch

import oracles
from neolens.lab.training import train as training
from neolens.lab.training.recipe import NEAR_MIX, Recipe, Stage
from neolens.lab.training.start import QKV, empty_model, fresh_model, layout, parameter_groups, parts, put
from neolens.lab.training.storage import State
from neolens.lab.variants import ARMS, Size

# A head is 16 wide, as in the lab: queries and keys of GPT-Neo are then smaller by exactly a half.
SIZE = Size(layers=2, heads=2, width=32, context=24, window=6, vocabulary=40)
SHORT = Recipe(size=SIZE, steps=4, tokens=64, warm=1, curriculum=(Stage(16, 1.0, NEAR_MIX),))
WORDS = dataclasses.replace(SIZE, vocabulary=Size().vocabulary)

every_arm = pytest.mark.parametrize("name", ARMS)
ABSOLUTE, ROTARY = ("gpt2", "gpt-neo", "gpt-neo-global"), ("pythia", "pythia-sequential", "nope")
QKV_BIASES = ("c_attn.bias", "query_key_value.bias")


def tokens(length, batch=3):
    return torch.from_numpy(np.random.default_rng(length).integers(0, SIZE.vocabulary, (batch, length)))


def logits(model, texts, positions=None):
    with torch.no_grad():
        return model(texts, position_ids=positions).logits


def filled(name, size=SIZE):
    """A network of this arm with random values in every parameter but the biases of queries, keys and values."""
    model, generator = empty_model(ARMS[name], size).eval(), torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter_name, parameter in model.named_parameters():
            by = 0.15 if "q_proj" in parameter_name or "k_proj" in parameter_name else 0.3
            parameter.copy_(by * torch.randn(parameter.shape, generator=generator))
            if "ln_" in parameter_name or "norm" in parameter_name:
                parameter += parameter_name.endswith("weight")
            if parameter_name.endswith(QKV_BIASES):
                parameter.zero_()
    return model


def moved(model, name, size=SIZE, **changed):
    """A network of another arm with the parts of this one."""
    other = empty_model(ARMS[name], size).eval()
    put(other, parts(model) | changed)
    return other


def config_differences(one, two):
    """Field -> its two values, where the configs of two arms differ."""
    first, second = (ARMS[name].config(Size()).to_dict() for name in (one, two))
    assert first.keys() == second.keys()
    return {field: (first[field], second[field]) for field in first if first[field] != second[field]}


def test_there_are_six_arms():
    assert list(ARMS) == ["gpt2", "gpt-neo", "gpt-neo-global", "pythia", "pythia-sequential", "nope"]
    assert all(arm.name == name for name, arm in ARMS.items())


# ----------------------------------------------------------------------------------------------------
# What an arm computes
# ----------------------------------------------------------------------------------------------------


@every_arm
def test_an_arm_computes_what_the_definitions_say(name):
    model, texts = filled(name), tokens(20)
    expected = oracles.forward(oracles.network(model), texts).logits
    torch.testing.assert_close(logits(model, texts).double(), expected, atol=1e-4, rtol=0)


@every_arm
def test_an_arm_has_the_layers_the_window_and_the_positions_of_its_name(name):
    net = oracles.network(fresh_model(ARMS[name], SIZE, 0))
    assert net.windows == ([None, 6] if name == "gpt-neo" else [None, None])
    assert (net.pos_embed is not None) == (name in ABSOLUTE)
    assert net.rotary_dims == (4 if name in ("pythia", "pythia-sequential") else 0)  # a quarter of 16
    assert net.parallel == (name == "pythia")
    assert (net.activation, net.eps) == ("gelu_new", 1e-5)


@every_arm
def test_an_arm_has_a_tied_embedding_and_no_dropout(name):
    model, texts = filled(name), tokens(12)
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    assert torch.equal(logits(model.eval(), texts), logits(model.train(), texts))


def test_without_position_code_a_text_reads_alike_everywhere():
    model, texts = filled("nope"), tokens(10)
    here, there = (logits(model, texts, torch.arange(start, start + 10)[None]) for start in (0, 11))
    assert torch.equal(here, there)


def test_without_position_code_one_layer_cannot_tell_the_order_of_what_came_before():
    model, texts = filled("nope", dataclasses.replace(SIZE, layers=1)), tokens(10)
    shuffled = texts[:, [3, 1, 0, 8, 2, 7, 5, 6, 4, 9]]
    one, two = (logits(model, each)[:, -1] for each in (texts, shuffled))
    torch.testing.assert_close(one, two, atol=1e-5, rtol=0)
    one, two = (
        logits(filled("pythia", dataclasses.replace(SIZE, layers=1)), each)[:, -1] for each in (texts, shuffled)
    )
    assert (one - two).abs().max() > 1e-2


# ----------------------------------------------------------------------------------------------------
# One difference is one
# ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("one", "other"), [("gpt-neo-global", "gpt2"), ("gpt2", "gpt-neo-global")])
def test_gpt2_is_gpt_neo_with_every_layer_global(one, other):
    model, texts = filled(one), tokens(24)
    torch.testing.assert_close(logits(moved(model, other), texts), logits(model, texts), atol=1e-5, rtol=0)


def test_nope_is_gpt2_without_positions():
    model, texts = filled("nope"), tokens(24)
    torch.testing.assert_close(logits(moved(model, "gpt2"), texts), logits(model, texts), atol=1e-5, rtol=0)


def test_gpt2_without_positions_is_nope():
    gpt2, texts = filled("gpt2"), tokens(24)
    with torch.no_grad():
        gpt2.transformer.wpe.weight.zero_()
    torch.testing.assert_close(logits(moved(gpt2, "nope"), texts), logits(gpt2, texts), atol=1e-5, rtol=0)


@pytest.mark.parametrize(("one", "other"), [("gpt-neo", "gpt-neo-global"), ("gpt-neo-global", "gpt-neo")])
def test_a_local_layer_is_a_global_one_up_to_its_window_and_no_farther(one, other):
    model, longer = filled(one), tokens(SIZE.window + 1)
    same = moved(model, other)
    torch.testing.assert_close(logits(same, longer[:, :6]), logits(model, longer[:, :6]), atol=1e-5, rtol=0)
    first, second = logits(same, longer), logits(model, longer)
    torch.testing.assert_close(first[:, :6], second[:, :6], atol=1e-5, rtol=0)
    assert ((first[:, 6] - second[:, 6]).abs().amax(-1) > 1e-2).all()


@pytest.mark.parametrize(("one", "other"), [("pythia", "pythia-sequential"), ("pythia-sequential", "nope")])
def test_what_one_weight_computes_is_another_thing_in_another_arm_of_the_same_class(one, other):
    model, texts = filled(one), tokens(24)
    assert (logits(moved(model, other), texts) - logits(model, texts)).abs().max() > 1e-2


def test_rotary_positions_are_no_difference_on_a_text_of_one_token():
    """A rotation by nothing; nothing else may differ between the arms."""
    model, texts = filled("pythia-sequential"), tokens(1)
    torch.testing.assert_close(logits(moved(model, "nope"), texts), logits(model, texts), atol=1e-5, rtol=0)


def test_parallel_blocks_are_no_difference_where_attention_writes_nothing():
    model, texts = filled("pythia"), tokens(24)
    silent = {
        f"{layer}.o{end}": torch.zeros(*shape) for layer in (0, 1) for end, shape in (("", (32, 32)), (".bias", (32,)))
    }
    one, other = (logits(moved(model, name, **silent), texts) for name in ("pythia", "pythia-sequential"))
    torch.testing.assert_close(one, other, atol=1e-5, rtol=0)


def test_pythia_sequential_and_nope_differ_in_the_rotary_share_alone():
    differences = config_differences("pythia-sequential", "nope")
    assert set(differences) == {"rope_parameters"}
    one, two = differences["rope_parameters"]
    assert {key: (one[key], two[key]) for key in one if one[key] != two[key]} == {"partial_rotary_factor": (0.25, 0.0)}
    assert one.keys() == two.keys()


def test_pythia_and_pythia_sequential_differ_in_the_parallel_residual_alone():
    assert config_differences("pythia", "pythia-sequential") == {"use_parallel_residual": (True, False)}


def test_gpt_neo_and_gpt_neo_global_differ_in_their_attention_types_alone():
    assert config_differences("gpt-neo", "gpt-neo-global") == {
        "attention_types": ([[["global", "local"], 2]], [[["global"], 4]]),
        "attention_layers": (["global", "local"] * 2, ["global"] * 4),
    }


@pytest.mark.parametrize("name", ["gpt2", "gpt-neo", "pythia", "nope"])
def test_every_part_counts(name):
    """So that equal logits of two arms say that every part was moved."""
    model, texts = filled(name), tokens(12)
    before, generator = logits(model, texts), torch.Generator().manual_seed(1)
    for part, value in parts(model).items():
        if part.endswith((".q.bias", ".k.bias", ".v.bias")):
            continue
        changed = moved(model, name, **{part: value + torch.randn(value.shape, generator=generator)})
        assert (logits(changed, texts) - before).abs().max() > 1e-2, part


# ----------------------------------------------------------------------------------------------------
# Parts and their places
# ----------------------------------------------------------------------------------------------------


@every_arm
def test_every_parameter_holds_its_parts_and_every_part_stands_once(name):
    model = fresh_model(ARMS[name], SIZE, 0)
    parameters, places = dict(model.named_parameters()), layout(model)
    assert sorted(place.parameter for place in places) == sorted(parameters)
    named = [part for place in places for part in place.parts]
    assert len(named) == len(set(named))
    assert sum(value.numel() for value in parts(model).values()) == sum(p.numel() for p in parameters.values())
    lacks = set() if name in ("gpt2",) else {"position"} if name in ROTARY else {"q.bias", "k.bias", "v.bias"}
    layer = {"q", "k", "v", "q.bias", "k.bias", "v.bias", "o", "o.bias", "in", "in.bias", "out", "out.bias"}
    layer |= {f"norm{n}{end}" for n in (1, 2) for end in ("", ".bias")}
    ends = {"embed", "position", "norm", "norm.bias"} - lacks
    assert set(named) == ends | {f"{n}.{part}" for n in (0, 1) for part in layer - lacks}


@every_arm
def test_parts_that_were_put_come_back_to_the_bit(name):
    model = filled(name)
    taken = {part: value.clone() for part, value in parts(model).items()}
    back = parts(moved(model, name))
    assert back.keys() == taken.keys()
    assert all(torch.equal(back[part], value) for part, value in taken.items())
    copy = moved(model, name)
    assert all(torch.equal(a, b) for a, b in zip(copy.parameters(), model.parameters(), strict=True))


@every_arm
def test_a_part_that_is_not_given_is_zero(name):
    model = filled(name)
    put(model, {})
    assert all((parameter == 0).all() for parameter in model.parameters())


@pytest.mark.parametrize(
    ("one", "other", "part", "family"),
    [
        ("gpt2", "nope", "position", "gpt_neox"),
        ("gpt-neo", "pythia", "position", "gpt_neox"),
        ("gpt2", "gpt-neo", "0.q.bias", "gpt_neo"),
        ("pythia", "gpt-neo", "1.v.bias", "gpt_neo"),
    ],
)
def test_a_part_without_a_home_is_refused_with_its_name(one, other, part, family):
    model = filled(one)
    changed = {part: torch.ones(parts(model)[part].shape)}
    with pytest.raises(ValueError, match=f"^{family} has no place for {part}: these parts must be 0$"):
        moved(model, other, **changed)


def test_all_parts_without_a_home_are_named():
    values = {"position": torch.ones(24, 32), "0.quark": torch.ones(1), "1.quark": torch.zeros(1)}
    with pytest.raises(ValueError, match=r"gpt_neox has no place for 0\.quark, position: these parts must be 0"):
        put(empty_model(ARMS["nope"], SIZE), values)


# ----------------------------------------------------------------------------------------------------
# The start
# ----------------------------------------------------------------------------------------------------


def starts(name, seed=0):
    """The raw starting values of an arm, in one form for all: queries and keys as they act on scaled scores."""
    net = oracles.network(fresh_model(ARMS[name], SIZE, seed), torch.float32)
    found = {"embed": net.embed, "unembed": net.unembed}
    for index, (layer, scale) in enumerate(zip(net.layers, net.scales, strict=True)):
        # a score is q k scale, and 1 / 4 where the class divides by the root of 16
        found |= {f"{index} q": layer.w_q * (4 * scale) ** 0.5, f"{index} k": layer.w_k * (4 * scale) ** 0.5}
        found |= {
            f"{index} v": layer.w_v,
            f"{index} o": layer.w_o,
            f"{index} in": layer.w_in,
            f"{index} out": layer.w_out,
        }
    return found, net


@every_arm
def test_all_arms_start_from_the_same_matrices(name):
    (expected, gpt2), (found, net) = starts("gpt2"), starts(name)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[part], expected[part]) for part in expected)
    if name in ABSOLUTE:
        assert torch.equal(net.pos_embed, gpt2.pos_embed)


@every_arm
def test_an_arm_starts_with_biases_of_0_and_layer_norms_of_1(name):
    _, net = starts(name)
    norms = [net.ln_final, *(norm for layer in net.layers for norm in (layer.ln1, layer.ln2))]
    assert all((norm.weight == 1).all() and (norm.bias == 0).all() for norm in norms)
    for layer in net.layers:
        for bias in (layer.b_q, layer.b_k, layer.b_v, layer.b_o, layer.b_in, layer.b_out):
            assert (bias == 0).all()


@every_arm
def test_another_seed_starts_elsewhere(name):
    (one, _), (two, _) = starts(name), starts(name, seed=1)
    assert not any(torch.equal(one[part], two[part]) for part in one)


def test_starting_values_spread_as_told_and_less_where_they_write_to_the_stream():
    """Four writes in two layers: their matrices are smaller by the root of four."""
    found, net = starts("gpt2")
    for part, values in [*found.items(), ("position", net.pos_embed)]:
        expected = 0.08 / 2 if part.endswith((" o", " out")) else 0.08
        assert values.std() == pytest.approx(expected, rel=4 / math.sqrt(2 * values.numel()))


def test_pythia_starts_with_the_queries_of_gpt2_head_by_head():
    gpt2, pythia = (fresh_model(ARMS[name], SIZE, 0) for name in ("gpt2", "pythia"))
    fused = gpt2.transformer.h[1].attn.c_attn.weight.T  # queries of all heads, then keys, then values
    by_head = pythia.gpt_neox.layers[1].attention.query_key_value.weight  # head by head: query, key, value
    for head, part in itertools.product(range(2), range(3)):
        expected = fused[part * 32 + head * 16 :][:16]
        assert torch.equal(by_head[(3 * head + part) * 16 :][:16], expected)


def test_the_arms_start_as_the_same_network_within_the_window():
    texts = tokens(24)
    gpt2, local, everywhere = (logits(fresh_model(ARMS[name], SIZE, 0), texts) for name in ABSOLUTE)
    torch.testing.assert_close(gpt2, everywhere, atol=1e-5, rtol=0)
    torch.testing.assert_close(gpt2[:, :6], local[:, :6], atol=1e-5, rtol=0)
    assert (gpt2[:, 6:] - local[:, 6:]).abs().max() > 1e-4


# ----------------------------------------------------------------------------------------------------
# What learns
# ----------------------------------------------------------------------------------------------------


def trained(name, recipe, double=False):
    """An arm of the lab's vocabulary after the few steps of a recipe."""
    model = fresh_model(ARMS[name], recipe.size, 0)
    model = model.double() if double else model
    optimizer = torch.optim.Adam(parameter_groups(model, ARMS[name], recipe.size, recipe.rate), betas=recipe.betas)
    state = State(training.terms_of(name, 0, recipe))
    for _ in training.steps(model, optimizer, recipe, state):
        pass
    return model.eval()


@every_arm
def test_everything_learns_but_the_biases_of_queries_keys_and_values(name):
    recipe = dataclasses.replace(SHORT, size=WORDS)
    before, after = (dict(m.named_parameters()) for m in (fresh_model(ARMS[name], WORDS, 0), trained(name, recipe)))
    frozen = {key for key in before if key.endswith(QKV_BIASES)}
    assert len(frozen) == (0 if "neo" in name else 2)
    assert {key for key in before if torch.equal(before[key], after[key])} == frozen
    assert all((after[key] == 0).all() for key in frozen)


def test_unscaled_queries_and_keys_learn_at_a_rate_lower_by_the_fourth_root_of_the_width():
    arm, model = ARMS["gpt-neo"], fresh_model(ARMS["gpt-neo"], SIZE, 0)
    rest, slow = parameter_groups(model, arm, SIZE, 1e-2)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    assert {names[id(p)].split(".")[-2] for p in slow["params"]} == {"q_proj", "k_proj"}
    assert len(slow["params"]) == 4
    assert len(slow["params"]) + len(rest["params"]) == len(names)
    assert (rest["highest"], slow["highest"]) == (1e-2, 1e-2 / 2)


def test_unscaled_queries_and_keys_learn_as_if_scaled():
    """Adam steps alike whatever the scale of a gradient: without clipping the two arms stay one network."""
    recipe = dataclasses.replace(SHORT, size=WORDS, clip=1e9)
    gpt2, neo = (parts(trained(name, recipe, double=True)) for name in ("gpt2", "gpt-neo-global"))
    before = parts(fresh_model(ARMS["gpt2"], WORDS, 0))
    for part in neo:
        learned = (gpt2[part] - before[part]).abs().mean()
        assert (gpt2[part] - neo[part]).abs().mean() < 0.02 * learned, part
    assert all(
        (gpt2[f"{layer}.{part}"] - before[f"{layer}.{part}"]).abs().max() > 1e-3 for layer in (0, 1) for part in QKV
    )


def test_within_the_window_the_local_arm_learns_what_the_global_one_learns_to_the_bit():
    wide = dataclasses.replace(SHORT, size=dataclasses.replace(WORDS, window=16))
    local, everywhere = (trained(name, wide).state_dict() for name in ("gpt-neo", "gpt-neo-global"))
    assert local.keys() == everywhere.keys()
    assert all(torch.equal(local[key], everywhere[key]) for key in local)
