"""The planted networks are what they are said to be, and neolens.attention says so to the last digit."""

import numpy as np
import pytest
import torch

import neolens
import oracles
import planted
from neolens.network.blockwise import BLOCK
from neolens.prompts import repeated

HEADS = {
    (0, 1): "previous_token",
    (0, 3): "sink",
    (1, 0): "duplicate_token",
    (1, 2): "local_only",
    (2, 0): "local_only",
    (2, 1): "duplicate_token",
    (2, 3): "induction",
    (3, 0): "previous_token",
    (3, 2): "induction",
}
"""Layers 1 and 3 of GPT-Neo are local."""

SHARP = {name: {place for place, role in HEADS.items() if role != "local_only"} for name in ("gpt2", "gpt-neo")}
SHARP |= {name: set(HEADS) for name in ("pythia", "neox-sequential")}
"""Family -> heads that look at a single key."""

every_family = pytest.mark.parametrize("family", planted.FAMILIES)
every_length = pytest.mark.parametrize("n", [20, 66])
"""Prompts of 41 tokens, and of 133: more than a block of queries."""


def network(family, n):
    """With a window that sees the whole first copy, but not the whole prompt."""
    return planted.gpt_neo(HEADS, window=n + 4) if family == "gpt-neo" else planted.FAMILIES[family](HEADS)


def prompts(n):
    return repeated(range(1, planted.VOCAB), n, bos=0, prompts=3, seed=n)


def known(family, role, n):
    """The pattern that was built: a single key for each query, or all of the query's dozen alike."""
    pattern = torch.zeros(2 * n + 1, 2 * n + 1, dtype=torch.float64)
    for query, row in enumerate(pattern):
        if role != "local_only":
            row[planted.key(role, query, n)] = 1.0
        else:
            first = max(query - query % planted.PLACES, min(query, 1)) if family in planted.ABSOLUTE else query
            row[first : query + 1] = 1.0 / (query + 1 - first)
    return pattern


def scores(pattern, n):
    """Every score of a known pattern, by plain loops."""
    return {
        "previous_token": oracles.previous_token(pattern),
        "current_token": oracles.current_token(pattern),
        "duplicate_token": oracles.duplicate_token(pattern, n),
        "induction": oracles.induction(pattern, n),
        "sink": oracles.sink(pattern),
        "mean_distance": oracles.mean_distance(pattern),
        "mean_distance_without_key_0": oracles.mean_distance_without_first_key(pattern),
        "entropy": oracles.entropy(pattern),
    }


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """The attention of each network, measured once."""
    held = {}

    def measure(family, n):
        if (family, n) not in held:
            folder = tmp_path_factory.mktemp(family)
            network(family, n).save_pretrained(folder)
            held[family, n] = neolens.attention(neolens.load(folder), prompts(n))
        return held[family, n]

    return measure


@every_family
@every_length
def test_a_planted_head_has_exactly_the_scores_and_the_mass_of_the_pattern_that_was_built(family, n, measured):
    assert 2 * 20 + 1 < BLOCK < 2 * 66 + 1
    got = measured(family, n)
    for layer, head in SHARP[family]:
        role, cell = HEADS[layer, head], got.sel(layer=layer, head=head)
        pattern = known(family, role, n)
        expected = scores(pattern, n)
        assert {name: cell[name].values.tolist() for name in expected} == {
            name: [value] * 3 for name, value in expected.items()
        }, (layer, head, role)
        np.testing.assert_array_equal(cell["mass_by_distance"], [oracles.mass_by_distance(pattern)] * 3)
        if role in expected:
            assert expected[role] == 1.0


@pytest.mark.parametrize("family", planted.ABSOLUTE)
@every_length
def test_a_head_of_the_same_dozen_looks_at_all_of_it_alike_and_never_beyond(family, n, measured):
    pattern = known(family, "local_only", n)
    for layer, head in ((1, 2), (2, 0)):
        cell = measured(family, n).sel(layer=layer, head=head)
        assert (cell["mass_by_distance"].sel(distance=slice(planted.PLACES, None)) == 0.0).all()
        np.testing.assert_allclose(cell["mass_by_distance"], [oracles.mass_by_distance(pattern)] * 3, atol=1e-3)
        for name, value in scores(pattern, n).items():
            np.testing.assert_allclose(cell[name], value, rtol=1e-3, atol=1e-3, err_msg=name)


@every_family
def test_a_second_implementation_in_double_precision_finds_the_patterns_that_were_built(family):
    tokens, built = prompts(20), network(family, 20)
    after = oracles.forward(oracles.network(built), tokens).after
    for (layer, head), role in HEADS.items():
        pattern = after[f"blocks.{layer}.attn.hook_pattern"][:, head]
        expected = known(family, role, 20).expand_as(pattern)
        torch.testing.assert_close(pattern, expected, rtol=0, atol=1e-9, msg=f"{layer}.{head} {role}")


@every_family
def test_the_planted_circuit_copies_and_the_rest_of_the_network_cannot(family):
    tokens, n = prompts(20), 20
    copying, random = network(family, n), planted.FAMILIES[family]({})
    for model, least, most in ((copying, 0.0, 0.3), (random, 3.0, 9.0)):
        with torch.no_grad():
            chosen = model(tokens).logits[:, n + 1 : -1].log_softmax(-1).gather(2, tokens[:, n + 2 :, None])
        assert least < -chosen.mean() < most


@every_family
@every_length
def test_random_heads_are_as_far_from_uniform_as_those_of_the_tiny_models_and_hold_no_pattern(family, n, measured):
    got = measured(family, n)
    random = [(layer, head) for layer in range(4) for head in range(4) if (layer, head) not in HEADS]
    cells = [got.sel(layer=layer, head=head).mean("prompt") for layer, head in random]
    assert 0.5 < np.mean([cell["entropy_normalised"] for cell in cells]) < 0.75
    for name in ("previous_token", "duplicate_token", "induction"):
        assert max(float(cell[name]) for cell in cells) < 0.2
