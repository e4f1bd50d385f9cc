"""Induction heads: networks planted by hand, results made by hand whose order is known, and the experiment."""

import dataclasses
import itertools
import json
import re
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
from neolens.studies import models as loading
from neolens.studies.induction import formation, formation_text
from neolens.studies.induction import measure as induction_measure
from neolens.studies.induction import study as job
from neolens.studies.induction import summary as measures
from neolens.studies.induction import tables as induction_tables
from neolens.studies.induction import text as induction_text
from neolens.studies.induction.comparisons import comparisons
from neolens.studies.induction.figures import copying_without, induction_by_length, induction_causes
from neolens.studies.induction.formation import formations, sides
from neolens.studies.induction.formation_figures import formation_by_step
from neolens.studies.induction.summary import Induction, nearest, sure
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
    assert (inside.beyond, beyond.beyond) == (False, True)


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
    found = sure(values)
    tests = {key: stats.ttest_1samp(each.mean("prompt").values, 0) for key, each in values.items()}
    low, high = tests["a"].confidence_interval()
    its = found["a"].its
    assert (its.mean, its.low, its.high, its.n) == pytest.approx((float(values["a"].mean()), low, high, 3))
    adjusted = stats.false_discovery_control([one.pvalue for one in tests.values()])
    assert [one.p_adjusted for one in found.values()] == pytest.approx(list(adjusted))
    assert {one.over for one in found.values()} == {"seeds"}


def test_over_prompts_the_largest_of_all_counts_under_every_flip_of_signs():
    rows = {"a": np.array([2.0, 3, 1, 2]), "b": np.array([1.0, -1, 0.5, 2])}
    found = sure({key: xr.DataArray(row, dims="prompt") for key, row in rows.items()})

    def size(signs, row):
        flipped = np.array(signs) * row
        return abs(flipped.mean()) / (flipped.std(ddof=1) + 1e-12)

    flips = list(itertools.product((1, -1), repeat=4))
    for key, row in rows.items():
        reached = [max(size(signs, other) for other in rows.values()) >= size([1] * 4, row) - 1e-9 for signs in flips]
        assert found[key].p_adjusted == pytest.approx(np.mean(reached))
        assert found[key].over == "prompts"
        assert found[key].its.n == 4


def test_what_has_no_value_is_not_tested_and_seeds_without_one_are_left_out():
    found = sure(
        {
            "none": xr.DataArray([np.nan] * 4, dims="prompt"),
            "two": xr.DataArray([[1.0, 1], [np.nan, np.nan], [3, 3]], dims=("seed", "prompt")),
        }
    )
    assert found["none"].its.n == 0
    assert not found["none"].tells
    assert (found["two"].its.mean, found["two"].its.n) == (2, 2)


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


@pytest.mark.parametrize(("curves", "order"), ORDERS.values(), ids=ORDERS)
def test_what_passes_first_is_told_first(curves, order):
    one = trained(*curves)
    for formed in formations([one]):
        assert formed.order == order
        passed = [name for _, names in order for name in names]
        assert sorted([*passed, *formed.never]) == sorted(["previous_token", "induction", "cause", "copying"])
    said = formation_text.findings([one], formations([one]))[0]
    parts = re.split(r", then |, and (?=.* at no step)", said.partition("): ")[2].partition(". The heads")[0])
    for (step, names), part in zip(order, parts):
        assert part.startswith("at step 0 already" if step == 0 else f"between steps {step - 10} and {step}")
        assert [formation.MILESTONES[name] in part for name in names] == [True] * len(names)


def test_a_cause_has_to_be_told_apart_and_not_only_large():
    one = trained(LOW, rising(1), [np.nan, 2, 2, 2], LOW)
    signs = np.array([1, -1, 1, -1, 1, -1, 1, 1]) * 8.0  # 2 nats a token on average, and as likely -2
    one.training["together"][:] = one.training["together"] * 0 + xr.DataArray(signs, dims="prompt")
    assert float((one.training["together"] - one.training["others"]).sel(step=30, distance=15).mean()) == 2
    assert all("cause" in formed.never for formed in formations([one]))


def test_a_sentence_of_formation_has_its_numbers():
    curves = (rising(0), [0.1, 0.5, 0.1, 0.9], [np.nan, 0.2, np.nan, 2], LOW)
    one = trained(*curves, later=[0, 0.2, 0.7, 2])
    said = formation_text.findings([one], formations([one]))
    # of 8 prompts that all say the same, 2 of the 256 flips reach the mean
    assert said[0] == (
        "lab/gpt2 at n = 16, fewer than 16 tokens back (4 checkpoints of one network, steps 0 to 30; 95 % intervals "
        "over 8 prompts): at step 0 already the previous-token head (score 0.90, 0.90 to 0.90), then between "
        "steps 0 and 10 "
        "the induction pattern (score 0.50, 0.50 to 0.50, below again at 20), then between steps 20 and 30 the cause "
        "(2.00 nats a token, 2.00 to 2.00, corrected p = 0.0078), and copying at no step. The heads that hold the "
        "pattern at the end are needed from step 20 on (0.70 nats a token more than others, 0.70 to 0.70, corrected "
        "p = 0.0078), after the pattern has passed."
    )
    assert said[1].startswith("lab/gpt2 at n = 17, 16 or more tokens back (")
    assert said[2] == (
        "Between n = 16, fewer than 16 tokens back, and n = 17, 16 or more tokens back, the first steps differ in no "
        "model."
    )
    assert said[3] == (
        "Over the training the nearest lengths on both sides differ most in nothing. At no step told apart: the "
        "induction "
        "pattern in lab/gpt2 and copying in lab/gpt2 (8 differences were tested)."
    )
    assert len(said) == 4


@pytest.mark.parametrize(("copied", "tested"), [(0.9899, 4), (0.9901, 3)])
def test_steps_at_which_copying_is_at_its_ceiling_on_both_sides_are_not_tested(copied, tested):
    one = trained(LOW, LOW, NONE, [0.5, 0.6, 0.7, copied])
    assert sides([one])[1] == 4 + tested


def test_where_nothing_forms_it_is_said_so():
    one = trained(LOW, LOW, NONE, LOW, later=NONE)
    said = formation_text.findings([one], formations([one]))[0]
    assert said.endswith(
        "95 % intervals over 8 prompts): the previous-token head, the induction pattern, the cause and copying at no "
        "step. The heads that hold the pattern at the end cost 0.5 nats a token more than others at no step."
    )
    assert formation_text.findings([made()], []) == [
        "Without training checkpoints, and so not asked what forms first: lab/gpt-neo."
    ]


def test_the_two_sides_of_the_window_are_set_beside_each_other():
    one = trained(rising(1), rising(1), [np.nan, 2, 2, 2], LOW, beyond=[0.1, 0.3, 0.9, 0.9])
    found, tested = sides([one])
    assert tested == 8
    step, inside, beyond, its = found["lab/gpt2", "induction"]
    assert (step, inside, beyond) == (10, pytest.approx(0.9), pytest.approx(0.3))
    assert its.its.mean == pytest.approx(0.6)
    assert found["lab/gpt2", "copying"] is None
    said = formation_text.findings([one], formations([one]))
    assert said[2].endswith(
        "and n = 17, 16 or more tokens back, the first steps differ in lab/gpt2, for the induction pattern (10 and 20)."
    )
    assert (
        "differ most in the induction pattern in lab/gpt2 at step 10, 0.90 and 0.30: +0.60 (95 %: +0.60 to +0.60, n = "
        "8 prompts), corrected p = 0.0078. At no step told apart: copying in lab/gpt2 (8 differences" in said[3]
    )


def test_encodings_stand_side_by_side_and_are_not_compared():
    early = trained(rising(0), rising(1), [np.nan, 2, 2, 2], rising(1), name="lab/pythia")
    late = trained(rising(2), rising(3), [*[np.nan] * 3, 2], LOW, name="lab/gpt2")
    said = formation_text.findings([late, early], formations([late, early]))[-1]
    assert said == (
        "First steps at n = 16 and 17, encodings side by side: the previous-token head 0 and 0 in lab/pythia (rotary), "
        "20 and 20 in lab/gpt2 (absolute); the induction pattern 10 and 10 in lab/pythia (rotary), 30 and 30 in "
        "lab/gpt2 (absolute); the cause 10 and 10 in lab/pythia (rotary), 30 and 30 in lab/gpt2 (absolute); copying 10 "
        "and 10 in lab/pythia (rotary), none and none in lab/gpt2 (absolute). One network a model: this is about these "
        "networks, and no test of their encodings."
    )
    assert not any("side by side" in text for text in formation_text.findings([late], formations([late])))


def test_checkpoints_with_the_same_weights_are_warned_about():
    assert formation_text.warnings([trained(LOW, LOW, NONE, LOW)]) == []
    assert formation_text.warnings([trained(LOW, LOW, NONE, LOW, prints="a b a c")]) == [
        "lab/gpt2 has the same weights at steps 0 and 20: not all of these checkpoints are what they say, so the curve "
        "is not to be trusted."
    ]


def test_a_finding_names_the_heads_of_each_seed_and_those_that_are_lost_beyond_the_window():
    scores = {(0, 16, 1, 3): 0.5, (0, 16, 2, 1): 0.9, (0, 17, 2, 1): 0.8, (1, 16, 2, 0): 0.7, (1, 17, 2, 0): 0.7}
    one = made(scores=scores | {(1, 17, 0, 2): 0.6}, seeds=2)
    said = induction_text.findings([one], comparisons([one]))
    assert said[2] == (
        "lab/gpt-neo (absolute positions, layers 1 and 3 local; 2 networks): at n = 16 the induction pattern (score at "
        "least 0.4) is held by 3 heads: in seed 0 2.1 (0.90) and 1.3 (local, 0.50); in seed 1 2.0 (0.70). At n = 17 by "
        "3 heads, no longer by 1.3 of seed 0 (local), now also by 0.2 of seed 1."
    )
    # over two seeds t(0.975, 1) = 12.706: local 0.5 and 0 to 0, a change of -0.25 +- 12.706 * 0.25, not tested because
    # the score beyond the window is fixed; global 0.9 and 0.7 to 0.8 and 0.7, -0.05 +- 12.706 * 0.05, t = 1, p = 0.5;
    # of four p (twice 0.04 for the cause, 0.5, 1 for ablation) it is the third: 0.5 * 4 / 3; copying is at its ceiling
    assert said[3].startswith(
        "lab/gpt-neo from n = 16 to 17: best score in local layers 0.25 to 0.00 (-0.25, 95 %: -3.4 to +2.9, n = 2 "
        "seeds, not tested: at n = 17 the architecture of lab/gpt-neo fixes the value, so no test applies); best score "
        "in global layers 0.80 to 0.75 (-0.05, 95 %: -0.69 to +0.59, n = 2 seeds, corrected p = 0.67); "
    )
    assert "copied 100% to 100% (no change in any); all induction heads ablated 4.20 to 4.20 nats a token" in said[3]
    assert said[3].endswith(
        "Told apart: none. From n = 8 to 17 the best head scores 0.00 to 0.80, and 100% of the second copy is "
        "predicted."
    )
    # 4 and 4.4 less 1: 3.2 +- 12.706 * 0.2
    assert said[4].startswith(
        "Ablating all induction heads of lab/gpt-neo at once: at n = 16 it adds 4.20 nats a token, more than as many "
        "random heads by 3.20 (95 %: 0.66 to 5.74, n = 2 seeds), corrected p = 0.079: not told apart; at n = 17 it "
    )
    assert said[4].endswith(
        "Alone, 3 of 3 heads at n = 16 and 3 of 3 heads at n = 17 cost more than heads of their layer without the "
        "pattern (corrected p below 0.05 within a network)."
    )


def test_a_single_network_speaks_of_its_prompts_and_is_warned_about():
    one = made("lab/gpt2", scores={(0, n, 1, 0): 0.9 for n in (16, 17)})
    said = induction_text.findings([one], comparisons([one]))
    assert "1 network): at n = 16 the induction pattern (score at least 0.4) is held by 1 head: 1.0 (0.90)." in said[1]
    assert "by 3.00 (95 %: 3.00 to 3.00, n = 8 prompts), corrected p = 0.0078; " in said[3]
    assert induction_text.warnings([one]) == [
        "lab/gpt2 is one network: its intervals and p are over prompts, and about no other network."
    ]


def test_what_does_not_copy_holds_nothing_or_leaves_no_others_is_said():
    idle = made("lab/gpt2", accuracy=0.1, seeds=2)
    said = induction_text.findings([idle], comparisons([idle]))
    assert "2 networks): no head holds the induction pattern (score at least 0.4) at n = 16 or 17." in said[1]
    assert (
        said[3]
        == "Ablating all induction heads of lab/gpt2 at once: at n = 16 there are none; at n = 17 there are none."
    )
    assert induction_text.warnings([idle])[0] == (
        "lab/gpt2, seeds 0 and 1, copies 10.0% and 10.0% at n = 16: ablating heads can take little away there."
    )
    full = made("lab/gpt2", scores={(0, 16, 1, 0): 0.9}, others=np.nan)
    assert (
        "at n = 16 it adds 4.00 nats a token; whether that is more than control heads do is not measured: "
        in " ".join(induction_text.findings([full], comparisons([full])))
    )
    assert any("in more than half of its heads at n = 16" in text for text in induction_text.warnings([full]))


def test_what_changes_at_the_window_comes_first():
    scores = {(0, 16, 2, 1): 0.9, (0, 17, 2, 1): 0.8, (0, 16, 1, 3): 0.5}
    one = made(scores=scores)
    said = induction_text.findings([one], comparisons([one]))
    # tested: the cause at 16 and 17, global scores, ablation; the cause at n = 8 has no heads
    assert said[0] == (
        "From n = 16 to n = 17 the answer moves from 15 to 16 tokens back, across the window of 16 tokens. Of 2 "
        "changes (best score in local and in global layers, copying, ablation of all induction heads, in 1 model) "
        "these are told apart: best score in global layers in lab/gpt-neo (-0.1) (corrected p below 0.05, for 4 tests "
        "in all). 2 others end at chance level or at a ceiling, or are fixed by the architecture, and are not tested."
    )


def test_what_changes_where_every_layer_is_global_is_not_put_down_to_the_window():
    one = made("lab/nope", scores={(0, 16, 2, 1): 0.9, (0, 17, 2, 1): 0.8})
    said = induction_text.findings([one], comparisons([one]))
    assert said[0].endswith(" Where every layer is global it changes with n, and not by a window.")
    assert said[1].startswith("lab/nope (no positions, every layer global; 1 network): ")


CHANCE = 0.95 * np.log(202)  # of the vocabulary, where a result does not record its candidates


@pytest.mark.parametrize(("loss", "tested"), [(CHANCE - 0.01, True), (CHANCE + 0.01, False)])
def test_an_ablation_that_ends_at_chance_level_is_not_tested(loss, tested):
    one = made("lab/gpt2", scores={(0, n, 1, 0): 0.9 for n in (16, 17)}, effect=loss - 0.1, accuracy=0.7)
    tests = comparisons([one])
    for key in (("lab/gpt2", "needed", 16), ("lab/gpt2", "needed", 17), ("lab/gpt2", "together", None)):
        assert np.isfinite(tests[key].p_adjusted) == tested == (tests[key].untested is None)
    verdict = induction_text.cause(one, 16, tests)
    assert verdict.status == ("supported" if tested else "not measured")
    assert ("chance level" in verdict.reason) != tested
    said = " ".join(induction_text.findings([one], tests))
    assert ("not tested: ends at chance level in lab/gpt2 without induction heads (" in said) != tested
    assert ("is higher all the same, by at least 3.95" in said) != tested


def test_the_chance_level_is_that_of_the_tokens_that_sequences_are_drawn_from():
    one = made("lab/gpt2", scores={(0, n, 1, 0): 0.9 for n in (16, 17)}, effect=4.0, accuracy=0.7)
    few = dataclasses.replace(one, result=one.result.assign_attrs(candidates=70))  # 0.95 ln 70 = 4.04 < 4.1
    assert comparisons([one])["lab/gpt2", "needed", 16].untested is None
    assert comparisons([few])["lab/gpt2", "needed", 16].untested is not None


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


def test_the_law_is_checked_and_a_broken_one_is_shouted():
    fine = made(scores={(0, 16, 1, 3): 0.5})
    assert fine.out_of_reach == 0
    assert induction_text.law([fine]) == (
        "Where the answer stands a window or more tokens back (n - 1 >= w) the induction score of a local layer has to "
        "be exactly 0. The largest in lab/gpt-neo (1 network) at n = 17 is 0: so it is."
    )
    broken = made(scores={(0, 17, 1, 3): 1e-9})
    assert "is 1e-09: so the law is BROKEN" in induction_text.law([broken])
    assert "cannot be" in induction_text.warnings([broken])[0]
    late = made(training=trained(LOW, LOW, NONE, LOW, beyond=[0, 0, 1e-3, 0], name="lab/gpt-neo").training)
    assert late.out_of_reach == 1e-3  # the training's head 1.0 is in a local layer of lab/gpt-neo
    assert made("lab/gpt2").out_of_reach is None
    nothing = Measured(job.Config(), (), {}, {}, {}, [])
    checks = [
        job.exact_checks(nothing, Summary(content=([one], {}, []))) for one in (fine, broken, late, made("lab/gpt2"))
    ]
    assert [[(check.value, check.passes) for check in each] for each in checks] == [
        [(0, True)],
        [(1e-9, False)],
        [(1e-3, False)],
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
        "at no step",
        "at no step",
        "0 to 10: 1.00, corrected p = 0.0078",
    ]


def test_intervals_of_shares_end_at_0_and_1():
    scores = {(0, 16, 2, 1): 1.0, (1, 16, 2, 1): 0.9}
    its = made(scores=scores, seeds=2).sure("global", 16).its
    assert its.mean == pytest.approx(0.95)
    assert (its.low, its.high) == (pytest.approx(0.95 - 12.706 * 0.05, abs=1e-3), 1.0)


# Figures --------------------------------------------------------------------------------------------------------------


def test_figures_show_scores_causes_and_formation():
    scores = {(0, 16, 1, 3): 0.5, (0, 16, 2, 1): 0.9, (0, 17, 2, 1): 0.8}
    both = [made(scores=scores), trained(rising(0), rising(1), [np.nan, 2, 2, 2], rising(2))]
    held = {one.name: one.joined for one in both}
    by_length = induction_by_length(held)
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
    assert list(curves["copied"].y) == pytest.approx([0.1, 0.1, 0.9, 0.9])
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


def test_it_writes_a_result_a_record_and_a_report(done, result, record):
    assert sorted(file.name for file in done.iterdir()) == ["networks", "record.json", "report.html", "result.nc"]
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


def test_the_finding_of_the_cause_is_a_paired_t_test_of_the_saved_numbers(result, record):
    (said,) = [text for text in record["findings"] if text.startswith("Ablating all induction heads of lab/gpt-neo at")]
    for distance in (15, 16):
        at = result.sel(model="lab/gpt-neo", distance=distance)
        needed = (at["together"] - at["others"]).mean("prompt").values
        low, high = stats.ttest_1samp(needed, 0).confidence_interval()
        assert (
            f"at n = {distance + 1} it adds {float(at['together'].mean()):.2f} nats a token, more than as many random "
            f"heads by {needed.mean():.2f} (95 %: {low:.2f} to {high:.2f}, n = 3 seeds), corrected p = " in said
        )
        holds = at["induction"].mean("prompt") >= 0.4
        compared = holds & at["more"].notnull()
        sure_alone = int(((at["p_adjusted"] < 0.05) & (at["more"] > 0)).sum())
        assert f"{sure_alone} of {int(compared.sum())} heads at n = {distance + 1}" in said
        without = int(holds.sum() - compared.sum())
        assert without > 0
        assert f"{without} of {int(holds.sum())} at n = {distance + 1}" in said


def test_p_are_corrected_for_all_that_is_tested(result, record):
    """Chance level is ln 193 for the words that sequences are drawn from; copying is at its ceiling; the score of local
    layers beyond the window is fixed."""
    chance, p = 0.95 * np.log(193), {}
    for name in ("lab/gpt-neo", "lab/gpt-neo-global"):
        one = result.sel(model=name)
        assert (one["accuracy"].mean("prompt") > 0.99).any("seed").all()
        end, needed = (one["loss"] + one["together"]).mean("prompt"), (one["together"] - one["others"]).mean("prompt")
        at_chance = (end >= chance).any("seed").sel(distance=[15, 16])
        p |= {
            (name, d): stats.ttest_1samp(needed.sel(distance=d), 0).pvalue
            for d in (15, 16)
            if not at_chance.sel(distance=d)
        }
        layers = [0, 2] if name == "lab/gpt-neo" else [0, 1, 2, 3]
        each = {"global": one["induction"].mean("prompt").sel(layer=layers).max(("layer", "head"))}
        each |= {} if at_chance.any() else {"together": one["together"].mean("prompt")}
        for measure, its in each.items():
            change = (its.sel(distance=16) - its.sel(distance=15)).values
            p[name, measure] = 1.0 if (change == 0).all() else stats.ttest_1samp(change, 0).pvalue
    assert f"for {len(p)} tests in all" in record["findings"][0]
    adjusted = dict(zip(p, stats.false_discovery_control(list(p.values())), strict=True))
    (said,) = [text for text in record["findings"] if text.startswith("Ablating all induction heads of lab/gpt-neo at")]
    expected = [adjusted[key] for key in (("lab/gpt-neo", 15), ("lab/gpt-neo", 16)) if key in adjusted]
    assert [f"{value:.2g}" for value in expected] == re.findall(r"corrected p = ([\d.]*\d)", said)


def test_the_order_of_formation_is_that_of_the_saved_curves(result, record):
    neo = result.sel(model="lab/gpt-neo")
    for n in (16, 17):
        (said,) = [text for text in record["findings"] if text.startswith(f"lab/gpt-neo at n = {n},")]
        at = neo.sel(distance=n - 1)
        steps = at["step"].values.tolist()
        curves = {
            "the previous-token head": at["previous_token_by_step"].mean("prompt").max(("layer", "head")) >= 0.4,
            "the induction pattern": at["induction_by_step"].mean("prompt").max(("layer", "head")) >= 0.4,
            "copying": at["accuracy_by_step"].mean("prompt") >= 0.5,
            "the cause": (at["together_by_step"] - at["others_by_step"]).mean("prompt") >= 0.5,
        }
        order = said.partition("): ")[2].partition(". The heads")[0]
        for what, passes in curves.items():
            first = next(step for step, here in zip(steps, passes.values, strict=True) if here)
            (part,) = [part for part in order.split(", then ") if f"{what} (" in part]
            assert f"and {first} " in part


def test_on_the_lab_what_a_local_layer_sees_is_copied_sooner_than_what_it_does_not(result, record):
    neo = result.sel(model="lab/gpt-neo", step=[400, 500])["accuracy_by_step"].mean("prompt")
    inside, beyond = neo.sel(distance=15), neo.sel(distance=16)
    assert (inside > beyond + 0.1).all()
    worst = int((inside - beyond).values.argmax())
    (said,) = [text for text in record["findings"] if text.startswith("Over the training")]
    step = int(neo["step"][worst])
    assert (
        f"copying in lab/gpt-neo at step {step}, {float(inside[worst]):.2f} and {float(beyond[worst]):.2f}: +" in said
    )


def test_the_report_carries_findings_figures_tables_confounds_and_what_to_repeat(done, record):
    parsed = Parsed((done / "report.html").read_text())
    for sentence in record["findings"]:
        assert sentence in parsed.text
    assert len([tag for tag in parsed.tags("div") if tag.get("class") == "plot"]) == 4
    assert len(parsed.tags("table")) == 4
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
    assert (tmp_path / "again" / "report.html").read_bytes() == (done / "report.html").read_bytes()


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
    said = " ".join(record["findings"])
    assert (
        "is held by 2 heads: 1.3 (local, 1.00) and 2.2 (1.00). At n = 13 by 1 head, no longer by 1.3 (local)." in said
    )
    assert (
        "between steps 0 and 100 the previous-token head (score 1.00, 1.00 to 1.00), then between steps 100 and 200"
        in said
    )
    assert results.load(tmp_path / "out" / "result.nc")["n"].values.tolist() == [6, 12, 13]
    with pytest.raises(ValueError, match="has no checkpoint 'step7': there are step0, step100, step200"):
        checkpoints(str(folder), ["step7"])


def test_a_random_network_holds_nothing_and_the_report_says_so(tiny_models, tmp_path):
    folder = in_words(tiny_models["gpt-neo"], tmp_path / "tiny")
    for step in (0, 10):
        tiny_models["gpt-neo"].save_pretrained(folder / f"step{step}")
    assert call("--models", folder, "--prompts", "8", "--lengths", "4,5", "--out", tmp_path / "out") == 0
    record = json.loads((tmp_path / "out" / "record.json").read_text())
    said = " ".join(record["findings"])
    assert "1 network): no head holds the induction pattern (score at least 0.4) at n = 4 or 5." in said
    assert "at n = 4, inside the window (2 checkpoints of one network, steps 0 to 10; " in said
    assert "the induction pattern, the cause and copying at no step" in said
    assert any("has the same weights at steps 0 and 10" in text for text in record["warnings"])
    parsed = Parsed((tmp_path / "out" / "report.html").read_text())
    assert "No head holds the pattern: none was ablated." in parsed.text
    assert len([tag for tag in parsed.tags("div") if tag.get("class") == "plot"]) == 2


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
