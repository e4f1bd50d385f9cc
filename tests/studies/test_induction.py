"""Induction heads: networks planted by hand, results made by hand whose order is known, and the experiment."""

import dataclasses
import itertools
import json
import shutil
from functools import partial

import numpy as np
import pytest
import xarray as xr
from scipy import stats
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

import browser
import neolens
import planted
import shell
import tiny
from browser import Parsed
from neolens import figures, results
from neolens.ablation import each_head
from neolens.models.checkpoints import checkpoints
from neolens.prompts import random_repeats, repeated
from neolens.scores import causes
from neolens.stats import seeds
from neolens.studies import finding as findings_module
from neolens.studies import models as loading
from neolens.studies.induction import findings as induction_findings
from neolens.studies.induction import measure as induction_measure
from neolens.studies.induction import study as job
from neolens.studies.induction import summary as measures
from neolens.studies.induction import tables as induction_tables
from neolens.studies.induction.comparisons import comparisons, verdict
from neolens.studies.induction.figures import (
    copying_without,
    induction_by_length,
    induction_causes,
    scores_and_copying,
)
from neolens.studies.induction.formation import MILESTONES, formations, sides
from neolens.studies.induction.formation_figures import formation_by_step
from neolens.studies.induction.summary import Induction, estimate_all, nearest
from neolens.studies.study import Measured, Summary

WINDOW = 12
"""Of the planted networks."""


def loaded(model, folder):
    model.save_pretrained(folder)
    return neolens.load(folder)


def repeats(*lengths, prompts=8, vocab=planted.VOCAB, seed=0):
    return {n: repeated(range(1, vocab), n, bos=0, prompts=prompts, seed=seed) for n in lengths}


def network(heads, folder):
    """GPT-Neo with planted heads; layers 1 and 3 are local."""
    return loaded(planted.gpt_neo(heads, window=WINDOW), folder)


# Repeat lengths -------------------------------------------------------------------------------------------------------


def test_repeat_lengths_stand_on_both_sides_of_the_last_that_a_window_reaches():
    # with n = 16 answers stand 15 back, the last that a layer of window 16 sees; two copies and BOS fit into 128
    assert induction_measure.lengths(16, 128) == (8, 15, 16, 17, 24, 32, 48)
    assert induction_measure.lengths(256, 1024) == (128, 255, 256, 257, 384)
    assert induction_measure.lengths(4, 64) == (3, 4, 5, 6, 8, 12)
    assert nearest((8, 15, 16, 17), 16) == (16, 17)
    assert measures.formation_lengths((8, 15, 16, 17, 24), 16) == [8, 16, 17]
    with pytest.raises(ValueError, match="repeat lengths 8, 16: expected some on both sides of the window of 16, "):
        nearest((8, 16), 16)


# Planted heads --------------------------------------------------------------------------------------------------------


def test_a_planted_induction_head_of_a_local_layer_copies_up_to_its_window_and_is_gone_beyond(tmp_path):
    found = induction_measure.copying(
        network({(0, 1): "previous_token", (1, 2): "induction"}, tmp_path), repeats(6, 12, 13)
    )
    assert found["n"].values.tolist() == [6, 12, 13]
    assert found["distance"].values.tolist() == [5, 11, 12]
    assert [induction_measure.holders(found.sel(distance=d)) for d in (5, 11, 12)] == [[(1, 2)], [(1, 2)], []]
    assert (found["induction"].sel(layer=1, head=2, distance=[5, 11]) == 1).all()
    assert (found["induction"].sel(layer=[1, 3], distance=12) == 0).all()
    assert found["accuracy"].mean("prompt").values.tolist() == [1, 1, 0]
    needed = (found["together"] - found["others"]).mean("prompt").values
    assert (needed[:2] > 3).all()
    assert np.isnan(needed[2])


def test_one_in_a_global_layer_copies_at_any_distance(tmp_path):
    found = induction_measure.copying(
        network({(0, 1): "previous_token", (2, 2): "induction"}, tmp_path), repeats(12, 13)
    )
    assert [induction_measure.holders(found.sel(distance=d)) for d in (11, 12)] == [[(2, 2)]] * 2
    assert (found["accuracy"] == 1).all()
    assert (found["together"] - found["others"] > 3).all()
    alone = found.sel(layer=2, head=2)
    np.testing.assert_allclose(alone["alone"], found["together"].mean("prompt"), atol=1e-5)  # it is the only one
    np.testing.assert_allclose(alone["more"], alone["alone"] - alone["beside"], atol=1e-5)


@pytest.mark.parametrize(
    ("steps", "order"),
    [
        (
            [{}, {(0, 1): "previous_token"}, {(0, 1): "previous_token", (2, 2): "induction"}],
            [(100, ["previous_token"]), (200, ["induction", "cause", "copying"])],
        ),
        (
            [{}, {(0, 1): "previous_token", (2, 2): "induction"}, {(0, 1): "previous_token", (2, 2): "induction"}],
            [(100, ["previous_token", "induction", "cause", "copying"])],
        ),
        ([{}, {(2, 2): "induction"}, {(0, 1): "previous_token"}], [(200, ["previous_token"])]),
    ],
)
def test_what_is_planted_at_a_checkpoint_forms_there(steps, order, tmp_path):
    loads = {
        100 * number: partial(loaded, planted.gpt_neo(heads, window=WINDOW), tmp_path / str(number))
        for number, heads in enumerate(steps)
    }
    training = induction_measure.over_training(loads, repeats(12, 13))
    facts = neolens.anatomy(tmp_path / "0")
    result = induction_measure.over_seeds([induction_measure.copying(loads[200](), repeats(12, 13))], [0])
    inside, beyond = formations([Induction(facts, WINDOW, result, training)])
    assert inside.order == beyond.order == order
    assert (inside.n, beyond.n) == (12, 13)


def test_the_heads_that_hold_the_pattern_at_the_end_are_ablated_at_every_step(tmp_path):
    both = {(0, 1): "previous_token", (2, 2): "induction"}
    loads = {
        step: partial(loaded, planted.gpt_neo(heads, window=WINDOW), tmp_path / str(step))
        for step, heads in {0: {(0, 1): "previous_token"}, 50: both, 100: both}.items()
    }
    training = induction_measure.over_training(loads, repeats(12, 13))
    assert training["step"].values.tolist() == [0, 50, 100]
    assert training["holding"].values.tolist() == [[0, 0], [1, 1], [1, 1]]
    assert training["together"].isnull().all(("distance", "prompt")).values.tolist() == [True, False, False]
    assert bool(training["later"].notnull().all())
    by_hand = neolens.ablate(loads[0](), repeats(13)[13], {"a": [(2, 2)]}, positions=range(14, 26), progress=False)
    effect = (by_hand["ablated"] - by_hand["baseline"]).sel(group="a").mean("pos")
    np.testing.assert_allclose(training["later"].sel(step=0, distance=12), effect, atol=1e-5)


# What is measured -----------------------------------------------------------------------------------------------------


def test_scores_copying_and_effects_are_those_of_neolens_asked_by_hand():
    model, n = neolens.load("lab/pythia@2"), 17
    tokens = random_repeats(model, n, prompts=8)
    found = induction_measure.copying(model, {n: tokens}).sel(distance=16)
    scores = neolens.attention(model, tokens)
    for name in ("induction", "previous_token"):
        np.testing.assert_allclose(found[name], scores[name], atol=1e-6)
    logits = model(tokens)[:, n + 1 : 2 * n].detach().log_softmax(-1)
    following = tokens[:, n + 2 :]
    np.testing.assert_allclose(found["loss"], -logits.gather(-1, following[..., None])[..., 0].mean(1), atol=1e-4)
    np.testing.assert_allclose(found["accuracy"], (logits.argmax(-1) == following).double().mean(1))
    heads = [(int(a), int(b)) for a, b in np.argwhere(scores["induction"].mean("prompt").values >= 0.4)]
    assert induction_measure.holders(found) == heads
    assert len(heads) > 1
    groups = {"all": heads, "one": heads[:1]}
    hooked = neolens.ablate(model, tokens, groups, positions=range(n + 1, 2 * n), engine="hooks", progress=False)
    effects = (hooked["ablated"] - hooked["baseline"]).mean("pos")
    np.testing.assert_allclose(found["together"], effects.sel(group="all"), atol=1e-3)
    layer, head = heads[0]
    assert float(found["alone"].sel(layer=layer, head=head)) == pytest.approx(
        float(effects.sel(group="one").mean()), abs=1e-3
    )


def test_random_groups_are_as_many_heads_and_never_those_that_are_asked_about(monkeypatch, bridges):
    groups, ablate = {}, causes.ablate
    monkeypatch.setattr(causes, "ablate", lambda *args, **kw: groups.update(args[2]) or ablate(*args, **kw))
    asked = {
        "three": [(0, 1), (1, 2), (2, 0)],
        "none": [],
        "most": [h for (h,) in each_head(bridges["gpt2"]).values()][:7],
    }
    tokens = repeated(range(1, tiny.VOCAB), 6, bos=0, prompts=8)
    found = causes.ablate_jointly(bridges["gpt2"], list(tokens), 6, asked, draws=4)
    drawn = {name: heads for name, heads in groups.items() if "random" in name}
    assert len(drawn) == 4
    for heads in drawn.values():
        assert len(set(map(tuple, heads))) == 3
        assert not set(map(tuple, heads)) & set(asked["three"])
    assert len({tuple(map(tuple, heads)) for heads in drawn.values()}) > 1
    by_hand = neolens.ablate(bridges["gpt2"], tokens, groups, positions=range(7, 12), engine="hooks", progress=False)
    effects = (by_hand["ablated"] - by_hand["baseline"]).mean("pos")
    np.testing.assert_allclose(found["effect"].sel(group="three"), effects.sel(group="three"), atol=1e-4)
    np.testing.assert_allclose(
        found["control"].sel(group="three"), effects.sel(group=list(drawn)).mean("group"), atol=1e-4
    )
    assert bool(found.sel(group="none").isnull().all().to_array().all())
    assert bool(found["effect"].sel(group="most").notnull().all())  # of 12 heads 7 leave no 7 others
    assert bool(found["control"].sel(group="most").isnull().all())


# How sure -------------------------------------------------------------------------------------------------------------


def test_over_seeds_it_is_students_t_corrected_by_benjamini_and_hochberg():
    rng = np.random.default_rng(0)
    values = {
        key: xr.DataArray(rng.normal(mean, 1, (3, 5)), dims=("seed", "prompt")) for key, mean in (("a", 5), ("b", 0))
    }
    found = estimate_all(values)
    tests = {key: stats.ttest_1samp(each.mean("prompt").values, 0) for key, each in values.items()}
    low, high = tests["a"].confidence_interval()
    estimate = found["a"].estimate
    assert (estimate.mean, estimate.low, estimate.high, estimate.n) == pytest.approx(
        (float(values["a"].mean()), low, high, 3)
    )
    adjusted = stats.false_discovery_control([one.pvalue for one in tests.values()])
    assert [one.p_adjusted for one in found.values()] == pytest.approx(list(adjusted))
    assert {one.sample for one in found.values()} == {"seeds"}


def test_over_prompts_the_largest_of_all_counts_under_every_flip_of_signs():
    rows = {"a": np.array([2.0, 3, 1, 2]), "b": np.array([1.0, -1, 0.5, 2])}
    found = estimate_all({key: xr.DataArray(row, dims="prompt") for key, row in rows.items()})

    def size(signs, row):
        flipped = np.array(signs) * row
        return abs(flipped.mean()) / (flipped.std(ddof=1) + 1e-12)

    flips = list(itertools.product((1, -1), repeat=4))
    for key, row in rows.items():
        reached = [max(size(signs, other) for other in rows.values()) >= size([1] * 4, row) - 1e-9 for signs in flips]
        assert found[key].p_adjusted == pytest.approx(np.mean(reached))
        assert found[key].sample == "prompts"
        assert found[key].estimate.n == 4


def test_what_has_no_value_is_not_tested_and_seeds_without_one_are_left_out():
    found = estimate_all(
        {
            "none": xr.DataArray([np.nan] * 4, dims="prompt"),
            "two": xr.DataArray([[1.0, 1], [np.nan, np.nan], [3, 3]], dims=("seed", "prompt")),
        }
    )
    assert found["none"].estimate.n == 0
    assert not found["none"].significant
    assert (found["two"].estimate.mean, found["two"].estimate.n) == (2, 2)


# Made by hand ---------------------------------------------------------------------------------------------------------

LENGTHS = (8, 16, 17)


def made(name="lab/gpt-neo", *, scores=None, effect=4.0, others=1.0, accuracy=1.0, seeds=1, prompts=8, training=None):
    """A model asked at n = 8, 16 and 17: heads that score 0 but for `scores`, (seed, n, layer, head) -> score, and
    those that hold the pattern (0.4) cost `effect` together, as many others `others`, each alone half a nat."""
    facts = neolens.anatomy(name)
    shape = (seeds, len(LENGTHS), prompts)
    heads = np.zeros((*shape, facts.layers, facts.heads))
    for (seed, n, layer, head), score in (scores or {}).items():
        heads[seed, LENGTHS.index(n), :, layer, head] = score
    holds = heads.mean(2) >= 0.4
    spread = 1 + 0.1 * np.arange(seeds)[:, None, None] * np.ones(shape)  # seeds are not alike
    held = holds.any((2, 3))[..., None]
    by_head, by_prompt = ("seed", "distance", "layer", "head"), ("seed", "distance", "prompt")
    variables = {
        "induction": ((*by_prompt, "layer", "head"), heads),
        "previous_token": ((*by_prompt, "layer", "head"), heads[..., ::-1, :]),
        "accuracy": (by_prompt, np.full(shape, accuracy)),
        "loss": (by_prompt, np.full(shape, 0.1)),
        "together": (by_prompt, np.where(held, effect * spread, np.nan)),
        "others": (by_prompt, np.where(held, others, np.nan) * np.ones(shape)),
        "alone": (by_head, np.where(holds, 0.5, np.nan)),
        "beside": (by_head, np.where(holds, 0.1, np.nan)),
        "more": (by_head, np.where(holds, 0.4, np.nan)),
        "low": (by_head, np.where(holds, 0.3, np.nan)),
        "high": (by_head, np.where(holds, 0.5, np.nan)),
        "p_adjusted": (by_head, np.where(holds, 0.01, np.nan)),
    }
    distance = [n - 1 for n in LENGTHS]
    coords = {"seed": range(seeds), "distance": distance, "n": ("distance", list(LENGTHS))}
    coords |= {"length": ("distance", [2 * n + 1 for n in LENGTHS])}
    result = results.build(variables, facts, coords=coords, attrs={"model": name, "fingerprint": "0"})
    return Induction(facts, 16, result, training)


def trained(previous, pattern, cause, copied, later=None, *, beyond=None, name="lab/gpt2", prompts=8, prints="a b c d"):
    """Four checkpoints at n = 16 and 17: best scores, `cause` of the heads that hold the pattern (NaN where none do),
    accuracy, and the cause of those that hold it at the end. `beyond` replaces the pattern at n = 17."""
    facts, steps = neolens.anatomy(name), [0, 10, 20, 30]
    shape = (4, 2, prompts)
    heads = {what: np.zeros((*shape, facts.layers, facts.heads)) for what in ("induction", "previous_token")}
    for step in range(4):
        heads["previous_token"][step, ..., 0, 0] = previous[step]
        heads["induction"][step, 0, ..., 1, 0] = pattern[step]
        heads["induction"][step, 1, ..., 1, 0] = (beyond or pattern)[step]
    axes = ("step", "distance", "prompt")

    def everywhere(values):
        return axes, np.array(values, float)[:, None, None] * np.ones(shape)

    variables = {what: ((*axes, "layer", "head"), values) for what, values in heads.items()}
    variables |= {"accuracy": everywhere(copied), "loss": everywhere([1] * 4)}
    variables |= {"together": everywhere(cause), "others": everywhere([0] * 4)}
    variables |= {"later": everywhere(cause if later is None else later), "later_others": everywhere([0] * 4)}
    variables |= {"holding": (("step", "distance"), np.ones((4, 2)))}
    coords = {"step": steps, "distance": [15, 16], "n": ("distance", [16, 17]), "length": ("distance", [33, 35])}
    training = results.build(variables, facts, coords=coords, attrs={"fingerprint": prints})
    return made(name, scores={(0, n, 1, 0): 0.9 for n in LENGTHS}, training=training, prompts=prompts)


LOW, NONE = [0.1] * 4, [np.nan] * 4


def rising(at):
    """0.1, and 0.9 from the step with this number on."""
    return [0.1] * at + [0.9] * (4 - at)


ORDERS = {
    "head, pattern, cause, copying": (
        (rising(0), rising(1), [np.nan, 0.2, 2, 2], rising(3)),
        [(0, ["previous_token"]), (10, ["induction"]), (20, ["cause"]), (30, ["copying"])],
    ),
    "pattern and cause, head, copying": (
        (rising(2), rising(1), [np.nan, 2, 2, 2], rising(3)),
        [(10, ["induction", "cause"]), (20, ["previous_token"]), (30, ["copying"])],
    ),
    "copying first": (
        (rising(2), rising(3), [*[np.nan] * 3, 2], rising(1)),
        [(10, ["copying"]), (20, ["previous_token"]), (30, ["induction", "cause"])],
    ),
    "all at once": (
        (rising(2), rising(2), [np.nan, np.nan, 2, 2], rising(2)),
        [(20, ["previous_token", "induction", "cause", "copying"])],
    ),
    "no cause": ((rising(1), rising(1), [np.nan, 0.4, 0.4, 0.4], LOW), [(10, ["previous_token", "induction"])]),
    "a harm is no cause": ((LOW, rising(1), [np.nan, -2, -2, -2], LOW), [(10, ["induction"])]),
    "nothing": ((LOW, LOW, NONE, LOW), []),
}


def found_in(*models):
    return induction_findings.findings(models, comparisons(models), formations(models))


def picked(found, start, subject=None):
    """The one finding whose claim begins so."""
    (one,) = [one for one in found if one.claim.startswith(start) and subject in (None, one.subject)]
    return one


def headlines(found):
    """The headlines by question, each of at most 25 words."""
    assert all(len(one.headline.split()) <= 25 for one in found), [one.headline for one in found]
    by_question = {}
    for one in found:
        by_question.setdefault(one.question, []).append(one.headline)
    assert all(first and not any(others) for first, *others in by_question.values())
    return [first for first, *_ in by_question.values()]


@pytest.mark.parametrize(("curves", "order"), ORDERS.values(), ids=ORDERS)
def test_what_passes_first_is_what_is_claimed_to_form_first(curves, order):
    one = trained(*curves)
    assert [formed.order for formed in formations([one])] == [order, order]
    for n in (16, 17):
        first = [
            each for each in found_in(one) if each.figure == "What forms first" and each.claim.endswith(f"n = {n}")
        ]
        assert len(first) == 1
        if not order:
            assert (first[0].verdict, first[0].reason) == ("not significant", "no threshold is passed")
            continue
        (step, names), *_ = order
        assert (first[0].verdict, first[0].estimate, first[0].n, first[0].sample) == ("supported", step, 8, "prompts")
        assert all((title in first[0].claim) == (name in names) for name, title in list(MILESTONES.items())[:4])
        assert ("form together" in first[0].claim) == (len(names) == 4)


def test_a_cause_has_to_be_significant_and_not_only_large():
    one = trained(LOW, rising(1), [np.nan, 2, 2, 2], LOW)
    signs = np.array([1, -1, 1, -1, 1, -1, 1, 1]) * 8.0  # 2 nats per token on average, and as likely -2
    one.training["together"][:] = one.training["together"] * 0 + xr.DataArray(signs, dims="prompt")
    assert float((one.training["together"] - one.training["others"]).sel(step=30, distance=15).mean()) == 2
    assert all(formed.reached["cause"].step is None for formed in formations([one]))


@pytest.mark.parametrize(
    ("changed", "step", "shift", "verdict"),
    [
        ("first", 1, 0.0, "supported"),
        ("first", 1, -0.45, "not significant"),  # 0.45 on average, and the interval includes the threshold of 0.4
        ("before", 0, 0.28, "not significant"),  # 0.38 on average: it may have passed one checkpoint earlier
        ("before", 0, 0.0, "supported"),
        ("later", 1, 0.28, "not significant"),  # the pattern may have passed together with the previous-token head
    ],
)
def test_an_order_that_intervals_leave_open_is_not_significant(changed, step, shift, verdict):
    one = trained(rising(1), rising(2), NONE, LOW)
    score = one.training["induction" if changed == "later" else "previous_token"]
    place = {"layer": 1 if changed == "later" else 0, "head": 0, "step": 10 * step}
    if shift:
        noise = xr.DataArray([0.1, -0.1] * 4, dims="prompt")
        score.loc[place] = score.loc[place] + shift + noise
    found = found_in(one)
    first = picked(found, "the previous-token head forms first at n = 17")
    assert (first.estimate, first.verdict) == (10, verdict)
    assert first.reason == ("" if verdict == "supported" else "an interval includes the threshold")
    certain = "In 1 of 1 model the previous-token head forms first at n = 17."
    assert headlines(found)[2] == (
        certain if verdict == "supported" else "No order is certain at these checkpoints in 1 model."
    )


@pytest.mark.parametrize(("copied", "tested"), [(0.9899, 4), (0.9901, 3)])
def test_steps_at_which_copying_is_at_its_ceiling_on_both_sides_are_not_tested(copied, tested):
    one = trained(LOW, LOW, NONE, [0.5, 0.6, 0.7, copied])
    assert sides([one])[1] == {("lab/gpt2", "induction"): 4, ("lab/gpt2", "copying"): tested}


def test_copying_at_its_limit_at_every_step_is_not_measured_and_no_difference_is_not_significant():
    found = found_in(trained(LOW, LOW, NONE, [0, 0, 1, 1]))
    assert picked(found, "copying differs").verdict == "not measured"
    assert picked(found, "the induction pattern differs").verdict == "not significant"


def test_where_nothing_forms_no_order_is_claimed_and_without_checkpoints_nothing_is_asked():
    found = found_in(trained(LOW, LOW, NONE, LOW, later=NONE))
    assert headlines(found)[2] == "No order is certain at these checkpoints in 1 model."
    assert {one.question for one in found_in(made())} == {
        "Do induction heads copy from beyond the window?",
        "Are induction heads needed more than random heads?",
    }
    both = found_in(trained(LOW, LOW, NONE, LOW), made())
    missing = picked(both, "something forms first")
    assert (missing.subject, missing.verdict, missing.reason) == ("lab/gpt-neo", "not measured", "no checkpoints")


def test_the_two_sides_of_the_window_are_compared_at_the_step_at_which_they_differ_most():
    one = trained(rising(1), rising(1), [np.nan, 2, 2, 2], LOW, beyond=[0.1, 0.3, 0.9, 0.9])
    changes, tested = sides([one])
    assert tested.total() == 8
    step, inside, beyond, test = changes["lab/gpt2", "induction"]
    assert (step, inside, beyond) == (10, pytest.approx(0.9), pytest.approx(0.3))
    assert test.estimate.mean == pytest.approx(0.6)
    assert changes["lab/gpt2", "copying"] is None
    differs = picked(found_in(one), "the induction pattern differs between n = 16 and n = 17 at step 10")
    assert (differs.estimate, differs.verdict, differs.comparisons) == (pytest.approx(0.6), "supported", 8)
    assert differs.p == pytest.approx(2 / 256)  # of 8 prompts that are all alike, 2 of the 256 flips reach the mean
    assert picked(found_in(one), "copying differs between n = 16 and n = 17 at step any").verdict == "not significant"


def test_the_headline_of_formation_is_the_most_frequent_order_beyond_the_window():
    early = trained(rising(0), rising(1), [np.nan, 2, 2, 2], rising(1), name="lab/pythia")
    late = trained(rising(2), rising(2), [np.nan, np.nan, 2, 2], rising(2), name="lab/gpt2")
    also = trained(rising(1), rising(2), [np.nan, np.nan, 2, 2], LOW, name="lab/nope")
    assert headlines(found_in(early, late, also))[2] == (
        "In 2 of 3 models the previous-token head forms first at n = 17; not in others."
    )
    assert headlines(found_in(late))[2] == (
        "In 1 of 1 model the previous-token head, the induction pattern, the causal effect and copying form together "
        "at n = 17."
    )


def test_checkpoints_with_the_same_weights_are_warned_about():
    def same(prints):
        warnings = induction_findings.warnings([trained(LOW, LOW, NONE, LOW, prints=prints)])
        return [one.text for one in warnings if one.kind == "repeated checkpoint"]

    assert same("a b c d") == []
    (text,) = same("a b a c")
    assert text.startswith("lab/gpt2 has the same weights at steps 0 and 20: ")


def test_over_seeds_findings_have_students_interval_and_a_p_corrected_for_all_that_is_tested():
    scores = {(0, 16, 1, 3): 0.5, (0, 16, 2, 1): 0.9, (0, 17, 2, 1): 0.8, (1, 16, 2, 0): 0.7, (1, 17, 2, 0): 0.7}
    found = found_in(made(scores=scores | {(1, 17, 0, 2): 0.6}, seeds=2))
    # over two seeds t(0.975, 1) = 12.706: global 0.9 and 0.7 to 0.8 and 0.7, -0.05 +- 12.706 * 0.05, t = 1, p = 0.5; of
    # four p (twice 0.04 for the need, 0.5, 1 for ablation) it is the third: 0.5 * 4 / 3
    change = picked(found, "the best score in global layers changes from n = 16 to n = 17")
    assert (change.estimate, change.low, change.high) == pytest.approx((-0.05, -0.685, 0.585), abs=1e-3)
    assert (change.p, change.verdict, change.comparisons) == (pytest.approx(2 / 3), "not significant", 4)
    # 4 and 4.4 less 1: 3.2 +- 12.706 * 0.2
    needed = picked(found, "ablating all induction heads costs more than as many random heads at n = 16")
    assert (needed.estimate, needed.low, needed.high) == pytest.approx((3.2, 0.659, 5.741), abs=1e-3)
    assert (f"{needed.p:.2g}", needed.verdict, needed.n, needed.sample) == ("0.079", "not significant", 2, "seeds")
    assert picked(found, "the copy accuracy changes").verdict == "not measured"
    # what the architecture fixes is the score beyond the window, not the change to it
    local = picked(found, "no local layer attends to the answer at n = 17")
    assert (findings_module.value(local), local.verdict) == ("exactly 0", "exact")
    assert headlines(found)[1] == "In 0 of 1 model ablating them costs more than as many random heads; 1 undecided."


def test_a_single_network_has_its_prompts_as_sample_and_is_warned_about():
    one = made("lab/gpt2", scores={(0, n, 1, 0): 0.9 for n in (16, 17)})
    needed = picked(found_in(one), "ablating all induction heads costs more than as many random heads at n = 16")
    assert (needed.estimate, needed.low, needed.high, needed.n, needed.sample) == (3, 3, 3, 8, "prompts")
    assert (needed.p, needed.verdict) == (pytest.approx(2 / 256), "supported")
    (warning,) = induction_findings.warnings([one])
    assert (warning.subject, warning.kind) == ("lab/gpt2", "one network")


@pytest.mark.parametrize(
    ("effect", "scores", "others", "verdicts", "headline"),
    [
        (3.0, (16, 17), 1.0, ["supported"] * 2, "In 1 of 1 model {} (2.00 nats per token)."),
        (1.0, (16, 17), 1.0, ["not significant"] * 2, "In 0 of 1 model {}; 1 undecided."),
        (0.5, (16, 17), 1.0, ["contradicted"] * 2, "In 0 of 1 model {}."),
        (3.0, (16,), 1.0, ["not measured", "supported"], "In 0 of 1 model {}; 1 undecided."),
        (3.0, (), 1.0, ["not measured"] * 2, "In 0 of 1 model {}; 1 not testable."),
        (3.0, (16, 17), np.nan, ["not measured"] * 2, "In 0 of 1 model {}; 1 not testable."),
    ],
)
def test_heads_are_needed_only_where_they_cost_significantly_more_on_both_sides(
    effect, scores, others, verdicts, headline
):
    found = found_in(made("lab/gpt2", scores={(0, n, 1, 0): 0.9 for n in scores}, effect=effect, others=others))
    assert [one.verdict for one in found if one.claim.startswith("ablating")] == verdicts
    assert headlines(found)[1] == headline.format("ablating them costs more than as many random heads")


def test_headlines_of_models_that_differ_count_each_case_and_stay_short():
    def model(name, effect, lengths=(16, 17), accuracy=0.98):
        scores = {(0, n, 1, 0): 0.9 for n in lengths}
        return made(name, scores=scores, effect=effect, accuracy=accuracy)

    models = [
        model("lab/gpt2", 3.0),
        model("lab/gpt-neo-global", 2.5, accuracy=0.985),
        model("lab/nope", 1.0),
        model("lab/pythia", 3.0, ()),
    ]
    first, second = headlines(found_in(*models))
    assert first == (
        "In 3 of 4 models induction heads attend 16 or more tokens back and at least half is copied (accuracy 98.0% to "
        "98.5%)."
    )
    assert second == (
        "In 2 of 4 models ablating them costs more than as many random heads (1.50 to 2.00 nats per token); 1 not "
        "testable; 1 undecided."
    )


def test_networks_that_copy_little_or_leave_no_controls_are_warned_about():
    idle = induction_findings.warnings([made("lab/gpt2", accuracy=0.1, seeds=2)])
    assert [one.kind for one in idle] == ["little is copied"] * 2
    assert idle[0].text.startswith("lab/gpt2@0,1 copies less than 50% at n = 16: ")
    assert induction_findings.warnings([made("lab/gpt2", accuracy=0.5, seeds=2)]) == []
    full = induction_findings.warnings([made("lab/gpt2", scores={(0, 16, 1, 0): 0.9}, others=np.nan)])
    assert [one.text for one in full if one.kind == "too few control heads"] == [
        "lab/gpt2 has the pattern in more than half of its heads at n = 16: no control."
    ]


BEYOND = (0, 17, 2, 1)

HIGH, LOWER, MIXED = (0.7, 0.71, 0.72), (0.2, 0.21, 0.22), (0.3, 0.9, 0.9)
"""Of three seeds: significantly above 0.5, significantly below 0.4, and neither."""


@pytest.mark.parametrize(
    ("accuracies", "scores", "pattern", "copies", "headline"),
    [
        (HIGH, HIGH, "supported", "supported", "1 of 1 model {} (accuracy 71.0%)."),
        (MIXED, HIGH, "supported", "not significant", "0 of 1 model {} (accuracy 70.0%); 1 undecided."),
        (LOWER, HIGH, "supported", "contradicted", "0 of 1 model {} (accuracy 21.0%)."),
        (HIGH, MIXED, "not significant", "supported", "0 of 1 model {} (accuracy 71.0%); 1 undecided."),
        (HIGH, LOWER, "contradicted", "supported", "0 of 1 model {} (accuracy 71.0%)."),
    ],
)
def test_copying_from_beyond_the_window_takes_a_head_and_copies_significantly_above_their_thresholds(
    accuracies, scores, pattern, copies, headline
):
    by_seed = np.array(accuracies)[:, None, None]
    held = {(seed, 17, 2, 1): score for seed, score in enumerate(scores)}
    found = found_in(made(scores=held, accuracy=by_seed, seeds=3))
    best, copied = picked(found, "the best head has"), picked(found, "50% or more of the second copy")
    assert (best.verdict, copied.verdict, best.comparisons) == (pattern, copies, 2)
    assert headlines(found)[0] == "In " + headline.format(
        "induction heads attend beyond the window and at least half is copied"
    )
    raw = [stats.ttest_1samp(scores, 0.4), stats.ttest_1samp(accuracies, 0.5)]
    assert [best.p, copied.p] == pytest.approx(stats.false_discovery_control([test.pvalue for test in raw]))
    low, high = raw[1].confidence_interval()
    assert (copied.estimate, copied.low, copied.high) == pytest.approx(
        (np.mean(accuracies), max(0, low), min(1, high)), abs=1e-9
    )


def test_the_headline_of_models_without_a_window_has_the_distance_and_the_range_of_accuracies():
    models = [
        made(name, scores={BEYOND: 0.9}, accuracy=0.98 + at / 100) for at, name in enumerate(("lab/gpt2", "lab/nope"))
    ]
    found = found_in(*models)
    assert headlines(found)[0] == (
        "In 2 of 2 models induction heads attend 16 or more tokens back and at least half is copied (accuracy 98.0% to "
        "99.0%)."
    )


def test_what_changes_across_the_window_is_corrected_for_what_is_tested_alone():
    scores = {(0, 16, 2, 1): 0.9, (0, 17, 2, 1): 0.8, (0, 16, 1, 3): 0.5}
    found = found_in(made(scores=scores))
    # tested: the need at 16 and 17, global scores, ablation; the need at n = 8 has no heads
    change = picked(found, "the best score in global layers changes")
    assert (change.estimate, change.verdict, change.comparisons) == (pytest.approx(-0.1), "supported", 4)
    assert picked(found, "the copy accuracy changes").comparisons == 0
    assert "the induction pattern" not in " ".join(one.claim for one in found)


def test_a_change_where_every_layer_is_global_is_not_attributed_to_a_window():
    def limits(*names):
        anatomies = tuple(map(neolens.anatomy, names))
        return job.limits(Measured(job.Config(), anatomies, {}, {"window": 16, "checkpoints": {}}, {}, []))

    assert any("due to the length and not to a window" in line for line in limits("lab/gpt-neo", "lab/nope"))
    assert not any("due to the length" in line for line in limits("lab/gpt-neo"))
    assert any("a layer restricted to it sees the last 16 tokens" in line for line in limits("lab/nope"))
    text = " ".join(f"{one.claim} {one.headline}" for one in found_in(made("lab/nope", scores={BEYOND: 0.8})))
    assert "window" not in text


@pytest.mark.parametrize(("checkpoints", "lines"), [({}, 0), ({"lab/gpt2": [0, 10]}, 1)])
def test_with_checkpoints_the_report_says_that_they_are_of_one_network(checkpoints, lines):
    scope = {"window": 16, "checkpoints": checkpoints}
    limits = job.limits(Measured(job.Config(), (neolens.anatomy("lab/gpt2"),), {}, scope, {}, []))
    assert sum("not of an architecture or position encoding" in line for line in limits) == lines
    assert len(limits) <= 3


CHANCE = 0.95 * np.log(202)  # of the vocabulary, where a result does not record its candidates


@pytest.mark.parametrize(("loss", "tested"), [(CHANCE - 0.01, True), (CHANCE + 0.01, False)])
def test_an_ablation_that_ends_at_chance_level_is_not_tested(loss, tested):
    one = made("lab/gpt2", scores={(0, n, 1, 0): 0.9 for n in (16, 17)}, effect=loss - 0.1, accuracy=0.7)
    tests = comparisons([one])
    for key in (("lab/gpt2", "needed", 16), ("lab/gpt2", "needed", 17), ("lab/gpt2", "together", None)):
        assert np.isfinite(tests[key].p_adjusted) == tested == (tests[key].untested is None)
    assert verdict(one, "needed", 16, tests).status == ("supported" if tested else "not measured")
    found = found_in(one)
    needed = picked(found, "ablating all induction heads costs more than as many random heads at n = 17")
    assert needed.reason.startswith("" if tested else "ends at chance level in lab/gpt2 without induction heads")
    assert ("is at least this much higher" in needed.reason) != tested
    assert headlines(found)[1] == (
        "In 1 of 1 model ablating them costs more than as many random heads (3.93 nats per token)."
        if tested
        else "Without them prediction is at chance level in 1 of 1 model, so the difference from random heads is not "
        "tested."
    )


def test_the_chance_level_is_that_of_the_tokens_that_sequences_are_drawn_from():
    one = made("lab/gpt2", scores={(0, n, 1, 0): 0.9 for n in (16, 17)}, effect=4.0, accuracy=0.7)
    few = dataclasses.replace(one, result=one.result.assign_attrs(candidates=70))  # 0.95 ln 70 = 4.04 < 4.1
    assert comparisons([one])["lab/gpt2", "needed", 16].untested is None
    assert comparisons([few])["lab/gpt2", "needed", 16].untested is not None


def test_a_ceiling_without_random_heads_is_not_called_chance_level():
    one = made("lab/gpt2", scores={(0, n, 1, 0): 0.9 for n in (16, 17)}, others=-0.095)  # 0.1 less it: 0.005
    found = found_in(one)
    assert picked(found, "ablating all induction heads costs more than as many random heads at n = 17").verdict == (
        "not measured"
    )
    assert headlines(found)[1].endswith("; 1 not testable.")


@pytest.mark.parametrize(("accuracy", "tested"), [(0.9899, True), (0.9901, False), (0.054, False), (0.055, True)])
def test_copying_at_its_ceiling_or_at_chance_level_is_not_tested(accuracy, tested):
    # chance level of 202 tokens: at most 1 / 202 + 0.05 (1 - 1 / 202) = 0.0547
    changes = comparisons([made("lab/gpt2", accuracy=accuracy)])["lab/gpt2", "accuracy", None]
    assert (changes.untested is None) == tested == np.isfinite(changes.p_adjusted)


def test_the_score_of_local_layers_beyond_their_window_is_exact_and_not_tested():
    scores = {(0, 16, 1, 3): 0.5}
    assert comparisons([made(scores=scores)])["lab/gpt-neo", "local", None].untested.status == "exact"
    broken = made(scores=scores | {(0, 17, 1, 3): 0.1})
    assert comparisons([broken])["lab/gpt-neo", "local", None].untested.status == "contradicted"
    wrong = picked(found_in(broken), "no local layer attends to the answer at n = 17")
    assert (wrong.verdict, wrong.estimate) == ("contradicted", pytest.approx(0.1))


def test_the_law_of_the_window_is_an_exact_check():
    fine = made(scores={(0, 16, 1, 3): 0.5})
    broken = made(scores={(0, 17, 1, 3): 1e-9})
    late = made(training=trained(LOW, LOW, NONE, LOW, beyond=[0, 0, 1e-3, 0], name="lab/gpt-neo").training)
    assert late.out_of_reach == 1e-3  # the training's head 1.0 is in a local layer of lab/gpt-neo
    assert made("lab/gpt2").out_of_reach is None
    nothing = Measured(job.Config(), (), {}, {}, {}, [])
    checks = [
        job.exact_checks(nothing, Summary(content=([one], {}, []))) for one in (fine, broken, late, made("lab/gpt2"))
    ]
    assert [[(check.subject, check.value, check.passes) for check in each] for each in checks] == [
        [("lab/gpt-neo", 0, True)],
        [("lab/gpt-neo", 1e-9, False)],
        [("lab/gpt-neo", 1e-3, False)],
        [],
    ]


def test_a_random_local_layer_obeys_the_law_too(bridges):
    n = {size: repeated(range(1, tiny.VOCAB), size, bos=0, prompts=8) for size in (tiny.WINDOW, tiny.WINDOW + 1)}
    found = induction_measure.copying(bridges["gpt-neo"], n)
    local = found["induction"].isel(layer=found["attention_kind"].values == "local")
    assert (local.sel(distance=tiny.WINDOW) == 0).all()
    assert (local.sel(distance=tiny.WINDOW - 1) > 0).all()


def test_tables_hold_what_was_found():
    one = made(scores={(0, 16, 1, 3): 0.5, (0, 16, 2, 1): 0.9, (0, 17, 2, 1): 0.9})
    header, rows = induction_tables.length_table([one], comparisons([one]))
    assert len(header) == len(rows[0])
    assert rows[1][:6] == ["lab/gpt-neo, 16", 1, 1, "0.50", "0.90", "1.00"]
    assert rows[1][7:] == ["4.00", "3.00", pytest.approx(2 / 256)]
    header, rows = induction_tables.head_table([one])
    assert len(header) == len(rows[0]) == 12
    assert rows[0][:7] == ["lab/gpt-neo, 1.3", "local", 0.5, 0.5, 0.1, 0.4, 0.01]
    assert rows[0][7] == 0
    assert np.isnan(rows[0][8])
    header, rows = induction_tables.formation_table(formations([trained(*ORDERS["no cause"][0], later=[0, 1, 1, 1])]))
    assert rows[0] == [
        "lab/gpt2, 16",
        "0 to 10: 0.90",
        "0 to 10: 0.90",
        "never",
        "never",
        "0 to 10: 1.00",
    ]


def test_intervals_of_shares_end_at_0_and_1():
    scores = {(0, 16, 2, 1): 1.0, (1, 16, 2, 1): 0.9}
    estimate = made(scores=scores, seeds=2).estimate("global", 16).estimate
    assert estimate.mean == pytest.approx(0.95)
    assert (estimate.low, estimate.high) == (pytest.approx(0.95 - 12.706 * 0.05, abs=1e-3), 1.0)


# Figures --------------------------------------------------------------------------------------------------------------


def test_figures_show_scores_causes_and_formation():
    scores = {(0, 16, 1, 3): 0.5, (0, 16, 2, 1): 0.9, (0, 17, 2, 1): 0.8}
    both = [made(scores=scores), trained(rising(0), rising(1), [np.nan, 2, 2, 2], rising(2))]
    held = {one.name: one.joined for one in both}
    by_length = induction_by_length(held)
    compact = {trace.name: trace for trace in scores_and_copying(held).data if trace.xaxis == "x"}
    assert list(compact["lab/gpt-neo, local layers"].y) == [0, 0.5, 0]
    assert list(compact["lab/gpt-neo, global layers"].y) == [0, 0.9, 0.8]
    lines = {trace.name: trace for trace in by_length.data if trace.xaxis == "x" and trace.mode == "lines+markers"}
    assert list(lines["best head of a local layer"].y) == [0, 0.5, 0]
    assert list(lines["best head of a global layer"].y) == [0, 0.9, 0.8]
    assert lines["best head of a local layer"].line.color == figures.LOCAL_COLOUR
    assert by_length.layout.xaxis.ticktext == ("8", "16", "17")
    assert by_length.layout.shapes[0].x0 == 1.5  # between 16 and 17
    points = [trace for trace in induction_causes(held).data if trace.xaxis == "x" and len(trace.x)]
    assert {trace.name: (*trace.x.round(6), *trace.y) for trace in points} == {
        "local layer, inside the window": (0.5, 0.4),
        "global layer, inside the window": (0.9, 0.4),
        "global layer, beyond the window": (0.8, 0.4),
    }
    without = {trace.name: trace for trace in copying_without(held).data if trace.xaxis == "x"}
    assert list(without["all induction heads at once"].y)[1:] == [4, 4]
    assert list(without["as many random heads"].y)[1:] == [1, 1]
    formed = formation_by_step(held)
    curves = {trace.name: trace for trace in formed.data if trace.name and trace.line.dash == "solid"}
    assert list(curves["best previous-token score"].y) == pytest.approx([0.9] * 4)
    assert list(curves["copy accuracy"].y) == pytest.approx([0.1, 0.1, 0.9, 0.9])
    assert list(curves["heads with the pattern at that step"].y)[1:] == [2, 2, 2]
    assert formed.layout.xaxis.ticktext == ("0", "10", "20", "30")
    assert (
        len([trace for trace in by_length.data if trace.showlegend and trace.name == "best head of a global layer"])
        == 1
    )
    with pytest.raises(ValueError, match="no result has training checkpoints"):
        formation_by_step({"lab/gpt-neo": made().joined})
    with pytest.raises(
        ValueError, match=r"results\['wrong'\] without .*expected the result of neolens.studies.induction.summary"
    ):
        induction_by_length({"wrong": xr.Dataset()})


# Checkpoints ----------------------------------------------------------------------------------------------------------


def test_checkpoints_are_those_of_the_lab_of_a_folder_or_named_ones_of_the_hub(tmp_path):
    assert list(checkpoints("lab/gpt2"))[-3:] == [1000, 2000, 3500]
    assert checkpoints("lab/gpt2", ["step500", "step400"]) == {
        400: ("lab/gpt2", "step400"),
        500: ("lab/gpt2", "step500"),
    }
    assert checkpoints("lab/gpt2@1") == checkpoints("lab/nope") == checkpoints("gpt2", ["step1"]) == {}
    assert checkpoints("pythia-70m") == {}
    assert checkpoints("pythia-70m", ["step1000"]) == {1000: ("pythia-70m", "step1000")}
    planted.gpt2({}).save_pretrained(tmp_path)
    assert checkpoints(str(tmp_path)) == {}


# The experiment -------------------------------------------------------------------------------------------------------


def call(*arguments):
    """Run the experiment as from the shell; its exit code."""
    return shell.call(job.STUDY, *arguments)


SMALL = ["--prompts", "8", "--lengths", "17,16", "--revisions", "step400,step500,step550,step3500"]


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """The folder that the experiment wrote for two models of the lab, two lengths and four checkpoints."""
    out = tmp_path_factory.mktemp("induction") / "out"
    assert call("--models", "lab/gpt-neo", "lab/gpt-neo-global", *SMALL, "--out", out) == 0
    return out


@pytest.fixture(scope="module")
def result(done):
    return results.load(done / "result.nc")


@pytest.fixture(scope="module")
def record(done):
    return json.loads((done / "record.json").read_text())


@pytest.fixture(scope="module")
def found(done):
    return findings_module.read_findings(done)


def test_it_writes_a_result_a_record_and_a_report(done, result, record):
    assert sorted(file.name for file in done.iterdir()) == [
        "findings.csv",
        "networks",
        "record.json",
        "report.html",
        "result.nc",
    ]
    assert result["model"].values.tolist() == ["lab/gpt-neo", "lab/gpt-neo-global"]
    assert result["seed"].values.tolist() == [0, 1, 2]
    assert result["distance"].values.tolist() == [15, 16]
    assert result["step"].values.tolist() == [400, 500, 550, 3500]
    assert record["asked"]["checkpoints"] == {"lab/gpt-neo": [400, 500, 550, 3500], "lab/gpt-neo-global": []}
    assert {f"lab/gpt-neo@{seed}" for seed in (0, 1, 2)} <= set(record["fingerprints"])
    assert len(set(record["fingerprints"].values())) == 6
    assert record["warnings"] == []


def test_the_law_holds_in_the_saved_result(result):
    neo = result.sel(model="lab/gpt-neo")
    for score in ("induction", "induction_by_step"):
        local = neo[score].sel(layer=[1, 3])
        assert (local.sel(distance=16) == 0).all()
        assert (local.sel(distance=15) > 0).any()


def test_the_finding_of_the_need_is_a_paired_t_test_of_the_saved_numbers(result, found):
    for distance in (15, 16):
        claim = f"ablating all induction heads costs more than as many random heads at n = {distance + 1}"
        needed = picked(found, claim, "lab/gpt-neo")
        at = result.sel(model="lab/gpt-neo", distance=distance)
        more = (at["together"] - at["others"]).mean("prompt").values
        low, high = stats.ttest_1samp(more, 0).confidence_interval()
        assert (needed.estimate, needed.low, needed.high, needed.n) == pytest.approx((more.mean(), low, high, 3))


def test_p_are_corrected_for_all_that_is_tested(result, found):
    """Chance level is ln 193 for the words that sequences are drawn from; copying is at its ceiling; the score of local
    layers beyond the window is fixed."""
    chance, p, levels = 0.95 * np.log(193), {}, {}
    for name in ("lab/gpt-neo", "lab/gpt-neo-global"):
        one = result.sel(model=name)
        assert (one["accuracy"].mean("prompt") > 0.99).any("seed").all()
        end, needed = (one["loss"] + one["together"]).mean("prompt"), (one["together"] - one["others"]).mean("prompt")
        at_chance = (end >= chance).any("seed").sel(distance=[15, 16])
        claim = "ablating all induction heads costs more than as many random heads at n = {}"
        p |= {
            (name, claim.format(d + 1)): stats.ttest_1samp(needed.sel(distance=d), 0).pvalue
            for d in (15, 16)
            if not at_chance.sel(distance=d)
        }
        layers = [0, 2] if name == "lab/gpt-neo" else [0, 1, 2, 3]
        best = one["induction"].mean("prompt").sel(layer=layers).max(("layer", "head"))
        each = {"the best score in global layers": best}
        each |= (
            {}
            if at_chance.any()
            else {"the loss added by ablating all induction heads": one["together"].mean("prompt")}
        )
        for title, values in each.items():
            change = (values.sel(distance=16) - values.sel(distance=15)).values
            p[name, f"{title} changes from n = 16 to n = 17"] = (
                1.0 if (change == 0).all() else stats.ttest_1samp(change, 0).pvalue
            )
        levels[name, "the best head has an induction score of 0.4 or more at n = 17"] = best.sel(distance=16) - 0.4
        copied = one["accuracy"].mean("prompt").sel(distance=16) - 0.5
        levels[name, "50% or more of the second copy is predicted at n = 17"] = copied
    above = {key: seeds.mean_ci(values.values).p for key, values in levels.items()}
    for family in (p, above):
        adjusted = dict(zip(family, stats.false_discovery_control(list(family.values())), strict=True))
        for (name, claim), expected in adjusted.items():
            one = picked(found, claim, name)
            assert (one.p, one.comparisons) == (pytest.approx(expected), len(family))
            assert one.verdict == ("supported" if expected < 0.05 else "not significant")
    with_p = {(one.subject, one.claim) for one in found if np.isfinite(one.p) and one.sample == "seeds"}
    assert with_p == {*p, *above}


def test_the_order_of_formation_is_that_of_the_saved_curves(result, found):
    neo = result.sel(model="lab/gpt-neo")
    for n in (16, 17):
        at = neo.sel(distance=n - 1)
        steps = at["step"].values.tolist()
        curves = {
            "the previous-token head": at["previous_token_by_step"].mean("prompt").max(("layer", "head")) >= 0.4,
            "the induction pattern": at["induction_by_step"].mean("prompt").max(("layer", "head")) >= 0.4,
            "copying": at["accuracy_by_step"].mean("prompt") >= 0.5,
            "the causal effect": (at["together_by_step"] - at["others_by_step"]).mean("prompt") >= 0.5,
        }
        first = {
            title: next(step for step, here in zip(steps, passes.values, strict=True) if here)
            for title, passes in curves.items()
        }
        (one,) = [one for one in found if one.figure == "What forms first" and one.claim.endswith(f"at n = {n}")]
        assert one.estimate == min(first.values())
        assert {title for title in first if title in one.claim} == {
            title for title, step in first.items() if step == one.estimate
        }


def test_on_the_lab_what_a_local_layer_sees_is_copied_sooner_than_what_it_does_not(result, found):
    neo = result.sel(model="lab/gpt-neo", step=[400, 500])["accuracy_by_step"].mean("prompt")
    inside, beyond = neo.sel(distance=15), neo.sel(distance=16)
    assert (inside > beyond + 0.1).all()
    worst = int((inside - beyond).values.argmax())
    one = picked(found, f"copying differs between n = 16 and n = 17 at step {int(neo['step'][worst])}")
    assert (one.estimate, one.verdict) == (pytest.approx(float((inside - beyond)[worst])), "supported")


def test_the_report_answers_first_and_has_figures_tables_confounds_and_what_to_repeat(done, found):
    parsed = Parsed((done / "report.html").read_text())
    assert len(headlines(found)) == 3
    for headline in headlines(found):
        assert headline in parsed.text
    assert len([tag for tag in parsed.tags("div") if tag.get("class") == "plot"]) == 5
    assert "curriculum" in parsed.text
    assert (
        "neolens run induction --models lab/gpt-neo lab/gpt-neo-global --prompts 8 --seed 0 --lengths 16,17 "
        f"--revisions step400,step500,step550,step3500 --out {done}"
    ) in parsed.text


def test_each_repeat_length_and_each_checkpoint_is_a_part_and_only_the_first_network_has_checkpoints(done):
    lengths, steps = ["length 16", "length 17"], ["step 3500", "step 550", "step 500", "step 400"]
    saved = {path.stem: list(results.load_parts(path)) for path in (done / "networks").iterdir()}
    assert saved.pop("lab-gpt-neo") == [*lengths, *steps]
    assert len(saved) == 5
    assert all(parts == lengths for parts in saved.values())


def test_checkpoints_measured_by_themselves_are_a_training_measured_at_once(result):
    steps = {step: partial(neolens.load, "lab/gpt-neo", revision=f"step{step}") for step in (400, 3500)}
    whole = induction_measure.over_training(
        steps, {n: random_repeats(neolens.load("lab/gpt-neo"), n, prompts=8) for n in (16, 17)}
    )
    assert float(whole["later"].sel(step=400).max()) > 0.1
    saved = result.sel(model="lab/gpt-neo", step=[400, 3500])
    for name in ("induction", "previous_token", "accuracy", "loss", "together", "others", "later", "later_others"):
        both = saved[f"{name}_by_step"].transpose(*whole[name].dims)
        np.testing.assert_allclose(both, whole[name], rtol=1e-6, atol=1e-6, err_msg=name)


def test_the_report_is_drawn_again_without_a_model(done, tmp_path, monkeypatch):
    monkeypatch.setattr(loading, "load", lambda *args: pytest.fail("a model was loaded"))
    assert call("--from", done, "--out", tmp_path / "again") == 0
    for name in ("report.html", "findings.csv"):
        assert (tmp_path / "again" / name).read_bytes() == (done / name).read_bytes()


def test_a_run_that_goes_on_measures_only_the_networks_that_are_missing(done, result, tmp_path, monkeypatch):
    out, measured = shutil.copytree(done, tmp_path / "out"), []
    (out / "networks" / "lab-gpt-neo@1.nc").unlink()
    copied = induction_measure.copying
    monkeypatch.setattr(
        induction_measure, "copying", lambda model, of: measured.append((model.anatomy.name, *of)) or copied(model, of)
    )
    monkeypatch.setattr(
        induction_measure, "at_checkpoint", lambda *args: pytest.fail("a checkpoint was measured again")
    )
    assert call("--models", "lab/gpt-neo", "lab/gpt-neo-global", *SMALL, "--out", out, "--resume") == 0
    assert measured == [("lab/gpt-neo@1", 16), ("lab/gpt-neo@1", 17)]
    xr.testing.assert_equal(results.load(out / "result.nc"), result)


def in_words(model, folder):
    """A model's folder with a tokenizer that has a word for each of its tokens."""
    words = ["<bos>", *(f"w{number}" for number in range(1, model.config.vocab_size))]
    backend = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="<bos>"))
    PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<bos>", unk_token="<bos>").save_pretrained(folder)
    model.save_pretrained(folder)
    return folder


def test_a_folder_with_checkpoints_of_its_own_is_asked_and_what_was_planted_is_found(tmp_path):
    both = {(0, 1): "previous_token", (2, 2): "induction", (1, 3): "induction"}
    folder = in_words(planted.gpt_neo(both, window=WINDOW), tmp_path / "mine")
    for step, heads in {0: {}, 100: {(0, 1): "previous_token"}, 200: both}.items():
        planted.gpt_neo(heads, window=WINDOW).save_pretrained(folder / f"step{step}")
    assert call("--models", folder, "--prompts", "8", "--lengths", "6,12,13", "--out", tmp_path / "out") == 0
    record = json.loads((tmp_path / "out" / "record.json").read_text())
    assert record["asked"]["window"] == WINDOW
    assert record["asked"]["checkpoints"] == {"mine": [0, 100, 200]}
    found = findings_module.read_findings(tmp_path / "out")
    assert picked(found, "the best head").verdict == "supported"
    assert picked(found, "no local layer").verdict == "exact"
    first = picked(found, "the previous-token head forms first at n = 13")
    assert (first.estimate, first.verdict) == (100, "supported")
    assert results.load(tmp_path / "out" / "result.nc")["n"].values.tolist() == [6, 12, 13]
    with pytest.raises(ValueError, match="has no checkpoint 'step7': there are step0, step100, step200"):
        checkpoints(str(folder), ["step7"])


def test_a_random_network_holds_nothing_and_the_report_says_so(tiny_models, tmp_path):
    folder = in_words(tiny_models["gpt-neo"], tmp_path / "tiny")
    for step in (0, 10):
        tiny_models["gpt-neo"].save_pretrained(folder / f"step{step}")
    assert call("--models", folder, "--prompts", "8", "--lengths", "4,5", "--out", tmp_path / "out") == 0
    record = json.loads((tmp_path / "out" / "record.json").read_text())
    found = findings_module.read_findings(tmp_path / "out")
    assert {one.verdict for one in found if one.claim.startswith("the best head")} == {"contradicted"}
    needed = [one for one in found if one.claim.startswith("ablating")]
    assert {(one.verdict, one.reason) for one in needed} == {("not measured", "no head has the role")}
    forming = [one for one in found if one.claim.startswith("something forms")]
    assert {(one.verdict, one.reason) for one in forming} == {("not significant", "no threshold is passed")}
    assert any("has the same weights at steps 0 and 10" in one["text"] for one in record["warnings"])
    parsed = Parsed((tmp_path / "out" / "report.html").read_text())
    assert "No head has the pattern: none was ablated." in parsed.text
    assert len([tag for tag in parsed.tags("div") if tag.get("class") == "plot"]) == 3


BAD = {
    "unknown model": (["--models", "lab/gpt-noe"], "did you mean lab/gpt-neo"),
    "a model twice": (["--models", "lab/gpt2", "lab/gpt2"], "give each only once"),
    "a folder without config": (["--models", "{tmp}"], "has no config.json"),
    "windows that differ": (["--models", "lab/gpt-neo", "gpt-neo-125M"], "has a window of 256, not of 16"),
    "few prompts": (
        ["--prompts", "7"],
        "prompts 7: expected a whole number from 8 to 10000; fewer give no means and intervals",
    ),
    "a negative seed": (["--seed", "-1"], "seed -1: expected a whole number of at least 0"),
    "no number": (["--lengths", "16,far"], "length 'far': expected a whole number of tokens from 3"),
    "a length twice": (["--lengths", "16,17,16"], "lengths '16,17,16': expected some, each once"),
    "none beyond": (["--lengths", "8,16"], "repeat lengths 8, 16: expected some on both sides of the window of 16"),
    "none inside": (["--lengths", "17,20"], "repeat lengths 17, 20: expected some on both sides of the window of 16"),
    "too short": (["--lengths", "2,17"], "lengths 2, 17: expected 3 to 63, for BOS and two copies have to fit into"),
    "too long": (["--lengths", "16,64"], "lengths 16, 64: expected 3 to 63"),
    "unknown revision": (["--revisions", "step400,step501"], "has no revision 'step501': did you mean step500?"),
    "no step": (["--revisions", "main,step400"], "revision 'main': expected step and a number, such as step1000"),
    "a revision twice": (["--revisions", "step400,step400"], "revisions 'step400,step400': expected some, each once"),
    "one revision": (["--revisions", "step400"], "revision step400 alone: give two or more"),
    "no checkpoints": (
        ["--models", "lab/nope", "--revisions", "step1,step2"],
        "no model here has training checkpoints",
    ),
    "out is a file": (["--models", "lab/gpt-neo", "--lengths", "16,17", "--out", "{tmp}/file"], "cannot be written to"),
}


@pytest.mark.parametrize(("arguments", "message"), BAD.values(), ids=BAD)
def test_bad_input_is_one_line_before_anything_is_measured(arguments, message, tmp_path, capsys, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(induction_measure, "copying", lambda *args: pytest.fail("something was measured"))
    out = shell.refused(call, arguments, message, tmp_path, capsys)
    assert not out.exists()


def test_a_checkpoint_alone_in_a_folder_is_no_training(tmp_path):
    folder = shell.without_tokenizer("lab/gpt2", tmp_path / "one")
    shutil.copytree(neolens.lab.folder("lab/gpt2") / "step400", folder / "step400")
    (folder / "card.json").unlink()
    assert job.chosen_checkpoints(str(folder), job.Config()) == {}


@browser.needed
def test_a_browser_without_a_network_draws_the_whole_report(done, tmp_path):
    browser.whole(done / "report.html", tmp_path)
