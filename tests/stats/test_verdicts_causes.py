"""Tables of constructed numbers with the verdict that follows: just above, just below and exactly at each threshold."""

import numpy as np
import pytest

import neolens
from neolens.ablation.controls import random_heads
from neolens.near_far import NearFar, near_far
from neolens.stats.verdicts import NATS, NEEDED, arrives_through, more_than_controls, shift_changes_output

NAN = float("nan")
UP, DOWN = np.nextafter(1, 2), np.nextafter(1, 0)
"""Factors that give the next number above and below a threshold."""


# (d) The distance that separates near from far --------------------------------------------------------------------

ONE = {"lab/gpt-neo": [16]}
MIXED = {"lab/gpt-neo": [16], "lab/gpt2": []}
NONE = {"lab/gpt2": [], "lab/pythia": []}
DISTANCES = {
    "the model's own window": (16, ONE, [128], "lab/gpt-neo", "the window of 16 tokens"),
    "of all models, each with it": (16, ONE, [128], None, "the window of 16 tokens"),
    "own window in a mixed report": (16, MIXED, [128, 128], "lab/gpt-neo", "the window of 16 tokens"),
    "another model's": (16, MIXED, [128, 128], "lab/gpt2", "the window of 16 tokens of lab/gpt-neo"),
    "of all models of a mixed report": (16, MIXED, [128, 128], None, "the window of 16 tokens"),
    "a wider window than the narrowest": (
        16,
        {"a": [16], "b": [256]},
        [128, 2048],
        "b",
        "the window of 16 tokens of a",
    ),
    "another distance than the window": (8, ONE, [128], None, "8 tokens"),
    "an eighth of one context": (16, {"a": []}, [128], None, "16 tokens (an eighth of the context, since "),
    "an eighth, rounded down": (16, {"a": []}, [135], None, "16 tokens (an eighth of the context, since "),
    "just above an eighth": (17, {"a": []}, [135], None, "17 tokens (since "),
    "just below an eighth": (15, {"a": []}, [128], None, "15 tokens (a third of the tokens to draw from, since "),
    "an eighth of the shortest": (16, NONE, [128, 1024], None, "16 tokens (an eighth of the shortest context, since "),
    "the smallest": (
        4,
        NONE,
        [24, 24],
        None,
        "4 tokens (the smallest distance used, an eighth of the context being 3, ",
    ),
    "an eighth that is the smallest": (4, NONE, [32, 32], None, "4 tokens (an eighth of the context, since "),
    "contexts not known": (16, NONE, [], None, "16 tokens (since no layer has a window"),
    "no model": (16, {}, [], None, "16 tokens (since no layer has a window"),
}


@pytest.mark.parametrize(("tokens", "windows", "contexts", "model", "name"), DISTANCES.values(), ids=DISTANCES)
def test_a_distance_is_named_after_the_window_or_after_where_it_comes_from(tokens, windows, contexts, model, name):
    split = near_far(tokens, windows, contexts, model)
    assert split.name.startswith(name)
    if not any(windows.values()):
        assert split.name.endswith("since no layer has a window)")
        assert "window" not in "".join([split.short, split.inside, split.beyond, split.mark])
        assert str(tokens) in split.note
    assert split.is_window == any(tokens in sizes for sizes in windows.values())


def test_a_window_and_another_distance_have_their_own_phrases():
    window, other = NearFar(16, ""), NearFar(64, None, "an eighth of the context, since no layer has a window")
    of_another = NearFar(16, "lab/gpt-neo")
    assert (window.short, window.inside, window.beyond) == ("the window", "inside the window", "beyond the window")
    assert (other.short, other.inside, other.beyond) == (
        "64 tokens",
        "fewer than 64 tokens back",
        "64 or more tokens back",
    )
    assert of_another.beyond == "beyond the window of lab/gpt-neo"
    assert [split.mark for split in (window, other, of_another)] == ["window 16", "64 tokens", "window 16"]
    assert (window.note, of_another.note) == (None, None)


# (e) Heads with a role against control heads without it -----------------------------------------------------------

CONTROLS = {
    "more, just below p = 0.05": (4, 5.0, 1.0, 0.05 * DOWN, 12, "supported", "+1.00 more than control heads"),
    "more, exactly at p = 0.05": (4, 5.0, 1.0, 0.05, 12, "not significant", "corrected p = 0.05"),
    "more, just above p = 0.05": (4, 5.0, 1.0, 0.05 * UP, 12, "not significant", "corrected p = 0.05"),
    "less, significantly": (4, 0.5, -1.0, 0.01, 12, "contradicted", "-1.00 more than control heads"),
    "less, not significantly": (4, 0.5, -1.0, 0.2, 12, "not significant", "corrected p = 0.2"),
    "no head has the role": (0, NAN, NAN, NAN, 16, "not measured", "no head has the role"),
    "every head has the role": (
        4,
        5.0,
        NAN,
        NAN,
        0,
        "not measured",
        "no control: 4 with the role and 0 without it in layer 2",
    ),
    "as many without it": (2, 5.0, 1.0, 0.01, 2, "supported", "corrected p = 0.01"),
    "one fewer without it": (
        3,
        5.0,
        NAN,
        NAN,
        2,
        "not measured",
        "no control: 3 with the role and 2 without it in layer 2",
    ),
    "a single one without it": (
        3,
        5.0,
        NAN,
        NAN,
        1,
        "not measured",
        "no control: 3 with the role and 1 without it in layer 2",
    ),
    "one seed, so no p": (4, 5.0, 1.0, NAN, 12, "not measured", "without a p"),
}


@pytest.mark.parametrize(
    ("count", "effect", "more", "p", "controls", "status", "reason"), CONTROLS.values(), ids=CONTROLS
)
def test_heads_with_a_role_matter_more_only_than_heads_without_it(count, effect, more, p, controls, status, reason):
    found = more_than_controls("all induction heads", count, effect, more, p, "layer 2", controls=controls)
    assert found.status == status
    assert reason in found.reason
    assert "all induction heads" in found.claim
    assert "layer 2" in found.claim


def test_control_heads_do_not_have_the_role_and_a_layer_in_which_all_have_it_has_none():
    facts = neolens.anatomy("lab/gpt2")
    having = {(1, 0), (1, 2), (2, 0), (2, 1), (2, 2), (2, 3)}
    for seed in range(20):
        assert set(random_heads(facts, (1, 0), 3, seed, having)) == {(1, 1), (1, 3)}
        assert random_heads(facts, (2, 0), 3, seed, having) == []
        assert len(random_heads(facts, (1, 0), 3, seed)) == 3


# (g) Through which layers an answer arrives, distance by distance -------------------------------------------------


def arrival(shares, significant=True, answers=True, distances=(16, 32, 64), seeds=None):
    """Verdicts on shares [seed, distance, layer]."""
    shares = np.array(shares, dtype=float)
    seeds = range(len(shares)) if seeds is None else seeds
    mask = np.broadcast_to(significant, shares.shape)
    able = np.broadcast_to(answers, shares.shape[:2])
    return arrives_through(distances, list(seeds), shares, mask, able, restricted_to="the window of 16 tokens")


FAR = [[[0.0, NAN, 1.0], [0.0, NAN, 1.0], [share, NAN, 1.0]] for share in (0.70, 0.96, 0.67)]
"""The shares that restricting each layer of lab/gpt-neo removes, in three seeds at 16, 32 and 64 tokens."""


def test_distances_at_which_different_layers_are_needed_are_not_pooled():
    near, far = arrival(FAR)
    assert near.status == far.status == "supported"
    assert (near.distances, near.seeds) == ((16, 32), {(2,): [0, 1, 2]})
    assert (far.distances, far.seeds) == ((64,), {(2, 0): [0, 1, 2]})


def test_distances_at_which_the_same_layers_are_needed_are_one_statement():
    (every,) = arrival([[[0.0, NAN, 0.98], [0.0, NAN, 1.0], [0.05, NAN, 1.0]]])
    assert (every.distances, every.seeds) == ((16, 32, 64), {(2,): [0]})


THRESHOLD = {
    "just above": (NEEDED * UP, True, (2, 0)),
    "exactly": (NEEDED, True, (2, 0)),
    "just below": (NEEDED * DOWN, True, (2,)),
    "large but not significant": (0.9, False, (2,)),
    "negative": (-0.5, True, (2,)),
    "not restricted": (NAN, True, (2,)),
}


@pytest.mark.parametrize(("share", "significant", "layers"), THRESHOLD.values(), ids=THRESHOLD)
def test_a_layer_is_needed_from_a_tenth_of_the_effect_on(share, significant, layers):
    (needed,) = arrival([[[share, NAN, 1.0]]], [[[significant, True, True]]], distances=(64,))
    assert needed.status == "supported"
    assert needed.seeds == {layers: [0]}


def test_seeds_in_which_other_layers_are_needed_are_apart_and_those_in_which_none_is_are_left_out():
    shares = [[[0.0, NAN, 1.0]], [[0.9, NAN, 1.0]], [[1.0, NAN, 0.5]], [[0.0, NAN, 0.05]]]
    (needed,) = arrival(shares, distances=(64,), seeds=(0, 2, 5, 7))
    assert needed.status == "supported"
    assert list(needed.seeds.items()) == [((2, 0), [2, 5]), ((2,), [0])]


@pytest.mark.parametrize(
    ("shares", "significant", "answers", "status", "reason"),
    [
        ([[[0.05, NAN, 0.02]]], True, True, "not significant", "no layer removes 10% or more, significantly"),
        ([[[0.5, NAN, 0.9]]], False, True, "not significant", "no layer removes 10% or more, significantly"),
        ([[[0.5, NAN, 0.9]]], True, False, "not measured", "no network answers"),
        ([[[NAN, NAN, NAN]]], True, True, "not measured", "no layer attends farther than the window of 16 tokens"),
    ],
)
def test_without_a_needed_layer_no_layer_is_named(shares, significant, answers, status, reason):
    (needed,) = arrival(shares, significant, answers, distances=(64,))
    assert (needed.status, needed.reason, needed.seeds) == (status, reason, {})


def test_networks_that_do_not_answer_are_left_out():
    (needed,) = arrival([[[0.0, NAN, 1.0]], [[0.9, NAN, 0.0]]], answers=[[True], [False]], distances=(64,))
    assert needed.seeds == {(2,): [0]}
    assert arrival(np.empty((1, 0, 3)), distances=()) == []


def test_distances_at_which_other_networks_answer_are_not_pooled():
    shares = [[[0.0, NAN, 1.0]] * 2, [[0.0, NAN, 1.0]] * 2]
    both, one = arrival(shares, answers=[[True, True], [True, False]], distances=(16, 32))
    assert (both.distances, both.seeds) == ((16,), {(2,): [0, 1]})
    assert (one.distances, one.seeds) == ((32,), {(2,): [0]})


# (i) The shift test -----------------------------------------------------------------------------------------------

SHIFTS = {
    "just above": (NATS * UP, 0.42, 0.42, "supported"),
    "exactly": (NATS, 0.42, 0.42, "supported"),
    "just below": (NATS * DOWN, 0.42, 0.42, "not significant"),
    "rounding, just below 1e-9 of the range": (1e-12, 1e-6, 1e-9 * DOWN, "exact"),
    "exactly 1e-9 of the range is a change": (1e-12, 1e-6, 1e-9, "not significant"),
    "float64 not computed": (0.5, 0.42, NAN, "supported"),
    "no positions": (NAN, NAN, NAN, "not measured"),
}


@pytest.mark.parametrize(("kl", "logits", "exact", "status"), SHIFTS.values(), ids=SHIFTS)
def test_a_shift_changes_the_output_by_its_kl_divergence(kl, logits, exact, status):
    found = shift_changes_output("lab/gpt2", kl, logits, exact, 1e-6, 63, "n = 3")
    assert found.status == status
    assert "63" in found.claim
    if status != "not measured":
        assert found.reason.startswith("rounding: " if status == "exact" else "KL divergence ")
