"""Intervals over seeds: against numbers worked by hand and scipy's own tests."""

import math

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from neolens import figures
from neolens.stats import seeds
from neolens.stats.seeds import Estimate

values = st.lists(st.floats(-100, 100), min_size=2, max_size=8).filter(lambda found: np.std(found) > 1e-6)


def test_three_seeds_have_the_interval_that_a_table_gives():
    # 1, 2, 3: mean 2, s = 1, standard error 1 / sqrt(3); t(0.975, 2) = 4.3027 in any table
    half = 4.302653 / math.sqrt(3)
    its = seeds.mean_ci(np.array([1.0, 2.0, 3.0]))
    assert (its.mean, its.low, its.high, its.n) == pytest.approx((2.0, 2 - half, 2 + half, 3), abs=1e-5)


@settings(max_examples=50, deadline=None)
@given(values)
def test_interval_and_p_are_those_of_scipys_t_test(found):
    its, theirs = seeds.mean_ci(np.array(found)), stats.ttest_1samp(found, 0.0)
    interval = theirs.confidence_interval(0.95)
    assert (its.low, its.high) == pytest.approx((interval.low, interval.high), rel=1e-6, abs=1e-6)
    assert its.p == pytest.approx(theirs.pvalue, rel=1e-6, abs=1e-12)


@settings(max_examples=50, deadline=None)
@given(values, st.integers(0, 2**31))
def test_a_comparison_is_scipys_paired_test_of_the_seeds_that_both_have(found, seed):
    other = np.random.default_rng(seed).normal(size=len(found))
    one = xr.DataArray(found, {"seed": range(len(found))}, ("seed",))
    two = xr.DataArray([*other, 7.0], {"seed": range(len(found) + 1)}, ("seed",))  # a seed that one does not have
    its, theirs = seeds.paired_difference(one, two), stats.ttest_rel(found, other)
    assert its.n == len(found)
    assert its.p == pytest.approx(theirs.pvalue, rel=1e-6, abs=1e-12)


@pytest.mark.parametrize(
    ("found", "mean", "p"), [([0.0, 0.0, 0.0], 0.0, 1.0), ([2.0, 2.0], 2.0, 0.0)], ids=["all 0", "all alike"]
)
def test_equal_values_have_an_interval_without_width(found, mean, p):
    assert seeds.mean_ci(np.array(found)) == Estimate(mean, mean, mean, len(found), p)


def test_one_seed_has_a_value_and_no_interval_and_none_has_neither():
    alone, none = seeds.mean_ci(np.array([0.5, np.nan])), seeds.mean_ci(np.array([np.nan]))
    assert (alone.mean, alone.n) == (0.5, 1)
    assert np.isnan([alone.low, alone.high, alone.p, none.mean]).all()
    assert none.n == 0


def test_corrected_p_are_worked_by_hand_and_what_has_no_p_is_not_counted():
    # Benjamini and Hochberg: sorted 0.01, 0.02, 0.5 of m = 3: 3 * 0.01 / 1 = 0.03, 3 * 0.02 / 2 = 0.03, 0.5
    its = {name: Estimate(1.0, 0.0, 2.0, 3, p) for name, p in {"a": 0.02, "b": 0.5, "c": 0.01}.items()}
    adjusted = seeds.adjust_p_values(its | {"none": Estimate(1.0, np.nan, np.nan, 1)})
    assert {name: adjusted[name] for name in "abc"} == pytest.approx({"a": 0.03, "b": 0.5, "c": 0.03})
    assert np.isnan(adjusted["none"])
    assert seeds.adjust_p_values({}) == {}


def test_an_estimate_is_written_with_its_interval_and_number():
    assert seeds.format_estimate(Estimate(0.931, 0.9, 0.96, 3)) == "0.93 (95 %: 0.90 to 0.96, n = 3)"
    assert seeds.format_estimate(Estimate(0.931, np.nan, np.nan, 1), ".1f") == "0.9 (n = 1)"
    assert seeds.format_estimate(Estimate(np.nan, np.nan, np.nan, 0)) == "no value"


def test_more_than_one_value_a_seed_is_refused():
    with pytest.raises(ValueError, match=r"shape \(2, 2\): expected one per seed"):
        seeds.mean_ci(xr.DataArray(np.zeros((2, 2)), dims=("seed", "layer")))


BOUNDED = {
    # mean 0.9, s = 0.1, half = 4.302653 * 0.1 / sqrt(3) = 0.2484
    "a share near 1": ([0.8, 0.9, 1.0], (0.0, 1.0), (0.6516, 1.0)),
    "a loss near 0": ([0.0, 0.1, 0.2], (0.0, math.inf), (0.0, 0.3484)),
    "within its bounds": ([0.4, 0.5, 0.6], (0.0, 1.0), (0.2516, 0.7484)),
    "just beyond a bound": ([0.14, 0.24, 0.34], (0.0, 1.0), (0.0, 0.4884)),
    "no bounds": ([0.8, 0.9, 1.0], seeds.UNBOUNDED, (0.6516, 1.1484)),
    "at a bound": ([1.0, 1.0, 1.0], (0.0, 1.0), (1.0, 1.0)),
}


@pytest.mark.parametrize(("found", "bounds", "interval"), BOUNDED.values(), ids=BOUNDED)
def test_an_interval_of_a_bounded_quantity_is_cut_at_its_bounds_and_p_stays(found, bounds, interval):
    its = seeds.mean_ci(np.array(found), bounds)
    assert (its.low, its.high) == pytest.approx(interval, abs=1e-4)
    assert its.p == seeds.mean_ci(np.array(found)).p


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_no_interval_leaves_its_bounds_or_excludes_its_mean(found):
    its = seeds.mean_ci(np.array(found), (0.0, 1.0))
    if its.n > 1:
        assert min(0.0, its.mean) <= its.low <= its.mean <= its.high <= max(1.0, its.mean)


def test_a_difference_of_two_shares_lies_between_minus_1_and_1():
    one, other = (xr.DataArray(its, {"seed": [0, 1, 2]}, ("seed",)) for its in ([0.5, 1.0, 1.0], [0.0, 0.0, 0.3]))
    free, cut = seeds.paired_difference(one, other), seeds.paired_difference(one, other, (0.0, 1.0))
    assert free.high > 1
    assert (cut.low, cut.high) == (free.low, 1.0)


def test_two_or_three_seeds_are_shown_one_by_one_and_more_are_not():
    def each(*found):
        return seeds.each_seed(seeds.mean_ci(np.array(found)), ".1f")

    assert each(0.91, np.nan, 0.5) == "0.9, 0.5"
    assert each(1.0, 2.0, 3.0) == "1.0, 2.0, 3.0"
    assert each(1.0, 2.0, 3.0, 4.0) == each(1.0) == each() == ""
    assert seeds.each_seed(Estimate(1.0, 0.5, 1.5, 3)) == ""  # without its seeds


def test_a_figure_of_estimates_shows_two_or_three_seeds_and_no_more():
    found = {"three": seeds.mean_ci(np.array([1.0, 2.0, 4.0])), "four": seeds.mean_ci(np.array([1.0, 2.0, 3.0, 4.0]))}
    table = figures.data(figures.estimates(found))
    points = table[table["seed of"] == "three"]
    assert points["estimate"].tolist() == [1.0, 2.0, 4.0]
    assert (table["seed of"] == "four").sum() == 0
    assert table["name"].dropna().tolist() == ["three", "four"]
