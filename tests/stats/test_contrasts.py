"""Variants compared: which pairs, how sure, what is claimed; every number worked by hand or by another library."""

import dataclasses

import numpy as np
import pytest
import xarray as xr
from scipy import stats

from neolens.figures.measures_by_variant import differences_by_measure, measures_by_variant
from neolens.figures.style import GLOBAL_COLOUR, LOCAL_COLOUR
from neolens.models import anatomy
from neolens.stats import contrasts
from neolens.stats.contrasts import Measure, Variant
from neolens.stats.seeds import Estimate
from neolens.studies.contrast_findings import above_zero, of_contrasts

MEASURES = {
    "far": Measure("attention from afar", "share", lambda result: result.get("far")),
    "loss": Measure("loss", "nats a token", lambda result: result.get("loss")),
}
NEO, PLAIN, ROTARY = "lab/gpt-neo", "lab/gpt-neo-global", "lab/pythia"


def variant(name, **values):
    """A variant of made-up numbers, one per seed."""
    seeds = range(len(next(iter(values.values()))))
    return Variant(
        anatomy(name), xr.Dataset({key: ("seed", its) for key, its in values.items()}, {"seed": list(seeds)})
    )


@pytest.fixture
def three():
    return [
        variant(PLAIN, far=[0.4, 0.5, 0.6], loss=[1.0, 2.0, 3.0]),
        variant(NEO, far=[0.1, 0.3, 0.3], loss=[1.0, 2.5, 2.5]),
        variant(ROTARY, far=[0.9, 0.9, 0.9]),
    ]


def test_the_pair_that_differs_in_attention_alone_is_compared_seed_by_seed_local_first(three):
    far, loss = contrasts.contrasts(three, MEASURES, "attention")
    assert {(one.first.name, one.second.name) for one in (far, loss)} == {(NEO, PLAIN)}
    assert far.difference.mean == pytest.approx(-0.8 / 3)
    t = stats.ttest_rel([0.1, 0.3, 0.3], [0.4, 0.5, 0.6])
    assert far.difference.p == pytest.approx(t.pvalue)
    assert far.p_adjusted == pytest.approx(stats.false_discovery_control([t.pvalue, 1.0])[0])
    assert (far.difference.low, far.difference.high) == pytest.approx(tuple(t.confidence_interval(0.95)))
    assert far.differ_in == []


def test_where_no_pair_differs_in_one_thing_alone_all_that_differ_are_compared_with_their_confounds(three):
    found = contrasts.contrasts([three[0], three[2]], MEASURES, "position")
    assert [(one.measure, one.first.name, one.second.name) for one in found] == [("far", ROTARY, PLAIN)]
    assert any(line.startswith("attention and MLP") for line in found[0].differ_in)
    assert contrasts.contrasts([three[0], three[2]], MEASURES, "attention") == []


def test_an_unknown_question_is_refused(three):
    with pytest.raises(ValueError, match="no question 'size': expected attention or position"):
        contrasts.contrasts(three, MEASURES, "size")


def test_the_table_of_measures_has_every_arm_and_blanks_where_one_has_none(three):
    header, rows = contrasts.measure_table(three, MEASURES, "attention")
    assert header == ["measure", f"{PLAIN} (global)", f"{NEO} (global and local)", f"{ROTARY} (global)"]
    assert rows[1][0] == "loss (nats a token)"
    assert rows[1][1].startswith("2.00 (")
    assert rows[1][3] == ""


def test_a_contrast_is_recorded_as_plain_values(three):
    noted = contrasts.recorded(contrasts.contrasts(three, MEASURES, "attention")[0])
    assert (noted["measure"], noted["first"], noted["second"], noted["n"]) == ("far", NEO, PLAIN, 3)
    assert noted["differ_in"] == []


# What is not tested -------------------------------------------------------------------------------------------

LIMITED = {
    "far": MEASURES["far"],
    "loss": Measure("added loss", "nats a token", lambda its: its.get("loss"), end=lambda its: its.get("loss")),
}
FIXED = {"far": Measure("score beyond", "score", lambda its: its.get("far"), (0, 1), deviation=lambda one: fixed(one))}
CHANCE = 0.95 * np.log(193)  # 5.00 nats: the lab's random sequences are drawn from 193 words


def fixed(one):
    """The score beyond the window, which only local heads must have 0."""
    return one.result["far"] if one.name == NEO else None


def known(name, **values):
    """A variant that says how many tokens its random sequences are drawn from."""
    made = variant(name, **values)
    return dataclasses.replace(made, result=made.result.assign_attrs(candidates=193))


def of_measure(found, name):
    return next(one for one in found if one.measure == name)


def test_losses_at_chance_level_are_not_told_apart_and_do_not_count_for_the_correction():
    found = contrasts.contrasts(
        [
            known(NEO, far=[0.1, 0.11, 0.12], loss=[5.20, 5.19, 5.20]),
            known(PLAIN, far=[0.5, 0.52, 0.51], loss=[5.26] * 3),
        ],
        LIMITED,
        "attention",
    )
    loss, far = of_measure(found, "loss"), of_measure(found, "far")
    assert stats.ttest_1samp([-0.06, -0.07, -0.06], 0).pvalue < 0.01
    assert (loss.tested, loss.significant, loss.verdict.status) == (False, False, "not measured")
    assert np.isnan([loss.p_adjusted, loss.difference.p]).all()
    assert far.p_adjusted == pytest.approx(far.difference.p)  # one comparison
    cell = contrasts.contrast_table(found)[1][1][8]
    assert cell.startswith("not measured: ends at chance level")
    assert NEO in cell
    assert PLAIN in cell
    noted = contrasts.recorded(loss)
    assert (noted["status"], noted["values"]) == ("not measured", pytest.approx((-0.06, -0.07, -0.06)))


@pytest.mark.parametrize(("loss", "tested"), [(CHANCE - 1e-6, True), (CHANCE, False), (CHANCE + 1e-6, False)])
def test_a_loss_just_below_chance_level_in_every_seed_is_tested(loss, tested):
    variants = [known(NEO, loss=[loss, 1.0, 2.0]), known(PLAIN, loss=[1.0, 1.5, 0.5])]
    (found,) = contrasts.contrasts(variants, {"loss": LIMITED["loss"]}, "attention")
    assert found.tested == tested


def test_chance_level_in_one_arm_alone_is_not_tested_but_its_sign_is_told_where_it_is_certain():
    variants = [known(NEO, loss=[5.2, 5.3, 5.2]), known(PLAIN, loss=[1.0, 1.5, 0.5])]
    (found,) = contrasts.contrasts(variants, {"loss": LIMITED["loss"]}, "attention")
    assert not found.tested
    assert found.verdict.reason.startswith("ends at chance level")
    assert "higher" in found.verdict.reason  # beyond chance level a loss could only be higher
    row = contrasts.measure_table(variants, {"loss": LIMITED["loss"]}, "attention")[1][0]
    assert [cell.endswith("at chance level") for cell in row[1:]] == [True, False]


def test_results_that_do_not_say_how_many_tokens_a_guess_is_among_are_taken_to_draw_from_their_vocabulary():
    old, new = variant(NEO, loss=[5.2]), known(NEO, loss=[5.2])
    assert (old.candidates, new.candidates) == (204, 193)


def test_a_value_that_an_architecture_fixes_is_exact_and_not_tested():
    variants = [known(NEO, far=[0.0, 0.0, 0.0]), known(PLAIN, far=[0.9, 0.91, 0.92])]
    (found,) = contrasts.contrasts(variants, FIXED, "attention")
    assert (found.verdict.status, found.tested, found.significant) == ("exact", False, False)
    assert f"exactly 0 in {NEO}" in found.verdict.claim
    (one,) = of_contrasts([found])
    assert (one.claim, one.verdict, one.comparisons) == (f"score beyond: exactly 0 in {NEO}", "exact", 0)
    assert one.estimate == pytest.approx(-0.91)
    assert contrasts.measure_table(variants, FIXED, "attention")[1][0][1] == "exactly 0"


def test_a_fixed_value_that_is_not_there_is_contradicted():
    variants = [known(NEO, far=[0.0, 1e-9, 0.0]), known(PLAIN, far=[0.9, 0.91, 0.92])]
    (found,) = contrasts.contrasts(variants, FIXED, "attention")
    assert (found.verdict.status, found.tested) == ("contradicted", False)
    assert NEO in found.verdict.reason
    (one,) = of_contrasts([found])
    assert (one.claim, one.verdict) == (f"score beyond: exactly 0 in {NEO}", "contradicted")


def test_two_variants_with_the_same_fixed_value_are_not_claimed_to_differ():
    other = dataclasses.replace(known(NEO, far=[0.0, 0.0]), anatomy=dataclasses.replace(anatomy(NEO), name="m"))
    plain = known(PLAIN, far=[0.0, 0.0])
    both = {"far": dataclasses.replace(FIXED["far"], deviation=lambda one: one.result["far"])}
    (one,) = of_contrasts(contrasts.contrasts([other, plain], both, "attention"))
    assert (one.verdict, one.claim) == ("exact", f"score beyond: exactly 0 in m and {PLAIN}")


def test_arms_without_a_fixed_value_are_tested():
    variants = [known("lab/gpt2", far=[0.0, 0.0, 0.0]), known("lab/pythia-sequential", far=[0.9, 0.91, 0.92])]
    (found,) = contrasts.contrasts(variants, FIXED, "position")
    assert found.significant


def test_intervals_stay_within_bounds_and_three_seeds_are_shown():
    variants = [known(NEO, far=[0.0, 0.1, 0.2]), known(PLAIN, far=[0.8, 0.9, 1.0])]
    measures = {"far": Measure("share", "share", lambda its: its["far"], (0.0, 1.0))}
    (row,) = contrasts.measure_table(variants, measures, "attention")[1]
    assert row[1:] == ["0.10 (0.00 to 0.35), seeds 0.00, 0.10, 0.20", "0.90 (0.65 to 1.00), seeds 0.80, 0.90, 1.00"]
    (found,) = contrasts.contrasts(variants, measures, "attention")
    assert contrasts.contrast_table([found])[1][0][6] == "-0.80, -0.80, -0.80"


def test_findings_have_the_significant_ones_first_and_a_measure_before_all_on_request():
    values = {"near": [0.1, 0.2, 0.1], "far": [0.10, 0.11, 0.12], "loss": [1.0, 2.0, 3.0]}
    against = {"near": [0.1, 0.1, 0.2], "far": [0.5, 0.52, 0.51], "loss": [3.0, 1.0, 2.0]}
    measures = {name: Measure(name, "share", lambda its, name=name: its[name]) for name in values}
    found = contrasts.contrasts([variant(NEO, **values), variant(PLAIN, **against)], measures, "attention")
    listed = of_contrasts(found)
    assert [(one.claim, one.verdict) for one in listed[:1]] == [("far differs", "supported")]
    assert [one.p for one in listed] == sorted(one.p for one in listed)
    assert [one.comparisons for one in listed] == [3, 3, 3]
    assert of_contrasts(found, first=("loss",))[0].claim == "loss differs"


def test_a_pair_without_two_seeds_is_a_finding_that_was_not_measured():
    (one,) = of_contrasts(
        contrasts.contrasts([variant(NEO, far=[0.1]), variant(PLAIN, far=[0.4])], MEASURES, "attention")
    )
    assert (one.verdict, one.reason, one.n) == ("not measured", "fewer than two seeds", 1)
    assert one.estimate == pytest.approx(-0.3)
    assert np.isnan([one.low, one.high, one.p]).all()


def test_a_limit_is_the_reason_of_a_finding_without_a_test():
    pair = [known(NEO, loss=[5.20, 5.19, 5.20]), known(PLAIN, loss=[5.26] * 3)]
    (one,) = of_contrasts(contrasts.contrasts(pair, {"loss": LIMITED["loss"]}, "attention"))
    assert (one.verdict, one.comparisons) == ("not measured", 0)
    assert one.reason.startswith("ends at chance level")


def test_what_a_pair_differs_in_besides_is_in_the_claim(three):
    (one,) = of_contrasts(contrasts.contrasts([three[0], three[2]], MEASURES, "position"))
    assert (
        one.claim
        == "attention from afar differs (they differ besides in score scale, attention and MLP, biases in q, k, v)"
    )


def estimate(*values):
    return Estimate(float(np.mean(values)), 0.0, 1.0, 3, float(stats.ttest_1samp(values, 0).pvalue))


CLAIMS = {
    "above 0": (estimate(0.5, 0.51, 0.52), "supported"),
    "below 0": (Estimate(-0.51, -0.6, -0.4, 3, 0.001), "contradicted"),
    "neither": (estimate(0.5, -0.51, 0.52), "not significant"),
    "one seed": (Estimate(0.5, np.nan, np.nan, 1), "not measured"),
}


@pytest.mark.parametrize(("one", "verdict"), CLAIMS.values(), ids=CLAIMS)
def test_a_mean_is_claimed_to_be_above_0_where_it_is_significantly(one, verdict):
    (finding,) = above_zero([("it rises", "lab/gpt2", one)], unit="share")
    assert (finding.verdict, finding.claim, finding.unit) == (verdict, "it rises", "share")
    assert finding.comparisons == (verdict != "not measured")


def test_claims_are_corrected_together_and_those_without_a_p_do_not_count():
    listed = [Estimate(0.5, 0.1, 0.9, 3, p) for p in (0.03, 0.04, np.nan, 0.2)]
    found = above_zero([("it rises", f"m{at}", one) for at, one in enumerate(listed)])
    adjusted = stats.false_discovery_control([0.03, 0.04, 0.2])
    assert [one.p for one in found if one.comparisons] == pytest.approx(adjusted)
    assert [one.comparisons for one in found] == [3, 3, 0, 3]
    assert {one.verdict for one in found[:2]} == {"not significant"}


# Figures ------------------------------------------------------------------------------------------------------


def test_every_network_is_a_point_and_every_mean_has_its_interval_in_the_colour_of_the_arm(three):
    figure = measures_by_variant(three, MEASURES, "attention")
    points = {(trace.name, trace.xaxis): trace for trace in figure.data if trace.name}
    np.testing.assert_allclose(points[f"{NEO} (global and local), networks", "x"].x, [0.1, 0.3, 0.3])
    mean = points[f"{NEO} (global and local)", "x"]
    assert mean.x[0] == pytest.approx(0.7 / 3)
    half = stats.t.ppf(0.975, 2) * np.std([0.1, 0.3, 0.3], ddof=1) / np.sqrt(3)
    assert mean.error_x.array[0] == pytest.approx(half)
    assert mean.marker.color == LOCAL_COLOUR
    assert points[f"{PLAIN} (global)", "x"].marker.color == GLOBAL_COLOUR
    assert (f"{ROTARY} (global)", "x2") not in points  # it has no loss


def test_differences_are_drawn_as_shares_of_the_largest_value_filled_where_told_apart(three):
    compared = contrasts.contrasts(three, MEASURES, "attention")
    trace, seeds = differences_by_measure(compared).data
    assert trace.x[0] == pytest.approx(-0.8 / 3 / 0.6)
    assert trace.customdata[0][1] == pytest.approx(-0.8 / 3)
    assert [colour == "white" for colour in trace.marker.color] == [not one.significant for one in compared]
    width = compared[0].difference.high - compared[0].difference.mean
    assert trace.error_x.array[0] == pytest.approx(width / 0.6)
    assert list(seeds.x)[:3] == pytest.approx([value / 0.6 for value in compared[0].difference.values])


def test_the_rows_of_many_pairs_stay_beside_their_measure():
    local = [variant(NEO, far=[0.1, 0.2])]
    plain = [dataclasses.replace(one, anatomy=dataclasses.replace(one.anatomy, name=f"m{n}", activation="relu"))
             for n, one in enumerate([variant(PLAIN, far=[0.3, 0.5])] * 9)]  # fmt: skip
    rows = [y for trace in differences_by_measure(contrasts.contrasts(local + plain, MEASURES, "attention")).data
            for y in trace.y]  # fmt: skip
    assert len(set(rows)) == 9
    assert max(np.abs(rows)) < 0.5


def pairs_drawn(pairs):
    """Differences of one variant from so many others."""
    local, plain = variant(NEO, far=[0.1, 0.2]), variant(PLAIN, far=[0.3, 0.5])
    facts = [dataclasses.replace(plain.anatomy, name=f"m{n}", activation="relu") for n in range(pairs)]
    others = [dataclasses.replace(plain, anatomy=one) for one in facts]
    return differences_by_measure(contrasts.contrasts([local, *others], MEASURES, "attention"))


def test_pairs_are_told_apart_by_colour_and_from_the_fifth_on_by_their_mark_too():
    drawn = [
        (trace.marker.line.color, trace.marker.symbol)
        for trace in pairs_drawn(24).data
        if trace.error_x.array is not None
    ]
    assert len(set(drawn)) == 24
    assert {symbol for _, symbol in drawn[:4]} == {"circle"}
    assert [colour for colour, _ in drawn[4:8]] == [colour for colour, _ in drawn[:4]]
    assert {symbol for _, symbol in drawn[4:8]} == {"square"}


def test_more_pairs_than_can_be_told_apart_are_drawn_and_the_caption_says_so():
    said = "Colours and marks come again after 24 of the 25 pairs: each is named on hover."
    captions = {n: pairs_drawn(n).layout.title.subtitle.text.replace("<br>", " ") for n in (24, 25)}
    assert captions[25].endswith(said)
    assert "come again" not in captions[24]


def test_nothing_to_draw_is_refused(three):
    with pytest.raises(ValueError, match="no variant has any of the measures"):
        measures_by_variant(three[2:], {"loss": MEASURES["loss"]}, "attention")
    with pytest.raises(ValueError, match="nothing was compared"):
        differences_by_measure([])


def test_a_hostile_name_is_text_in_both_figures(three):
    hostile = "</script><img src=x onerror=alert(1)>"
    variants = [
        Variant(dataclasses.replace(one.anatomy, name=f"{hostile}{n}"), one.result) for n, one in enumerate(three)
    ]
    for figure in (
        measures_by_variant(variants, MEASURES, "attention"),
        differences_by_measure(contrasts.contrasts(variants, MEASURES, "attention")),
    ):
        assert "<img" not in figure.to_json()
        assert "&lt;img" in figure.to_json()
