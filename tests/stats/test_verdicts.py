"""Decisions from constructed numbers: just above, just below and at each threshold, and where there is no number."""

import math

import pytest

from neolens.stats import ALPHA, verdicts
from neolens.stats.verdicts import CEILING, NEAR_CHANCE, Levels

NAN = math.nan
NEAR_ZERO = 1e-9
CHANCE = NEAR_CHANCE * math.log(193)  # the lab's random sequences are drawn from 193 words: 0.95 ln 193 = 5.00
PERFECT = -math.log(CEILING)  # 0.01 nats
GUESS = 1 / 193 + 0.05 * (1 - 1 / 193)  # an accuracy 5 % of the way from a guess to 1

# The limits of a value --------------------------------------------------------------------------------------------

LIMITS = {
    "a loss at the level of a guess": (math.log(193), "loss", 193, "chance level"),
    "a loss beyond that of a guess": (9.0, "loss", 193, "chance level"),
    "a loss just above 95 % of that of a guess": (CHANCE + NEAR_ZERO, "loss", 193, "chance level"),
    "a loss at 95 % of that of a guess": (CHANCE, "loss", 193, "chance level"),
    "a loss just below 95 % of that of a guess": (CHANCE - NEAR_ZERO, "loss", 193, None),
    "a loss whose chance level is not known": (9.0, "loss", None, None),
    "a loss just above 0.01 nats": (PERFECT + NEAR_ZERO, "loss", 193, None),
    "a loss of 0.01 nats": (PERFECT, "loss", 193, "ceiling"),
    "a loss just below 0.01 nats, chance level not known": (PERFECT - NEAR_ZERO, "loss", None, "ceiling"),
    "no loss": (NAN, "loss", 193, None),
    "a loss among two tokens at chance": (0.66, "loss", 2, "chance level"),  # 0.95 ln 2 = 0.658
    "a loss among two tokens below it": (0.65, "loss", 2, None),
    "an accuracy just above 0.99": (0.99 + NEAR_ZERO, "accuracy", 193, "ceiling"),
    "an accuracy of 0.99": (0.99, "accuracy", None, "ceiling"),
    "an accuracy just below 0.99": (0.99 - NEAR_ZERO, "accuracy", 193, None),
    "an accuracy just above chance level": (GUESS + NEAR_ZERO, "accuracy", 193, None),
    "an accuracy at chance level": (GUESS, "accuracy", 193, "chance level"),
    "an accuracy just below it": (GUESS - NEAR_ZERO, "accuracy", 193, "chance level"),
    "an accuracy of 0 whose chance level is not known": (0.0, "accuracy", None, None),
    "no accuracy": (NAN, "accuracy", 193, None),
}


@pytest.mark.parametrize(("value", "scale", "candidates", "expected"), LIMITS.values(), ids=LIMITS)
def test_a_value_is_at_chance_level_or_at_its_ceiling_or_at_neither(value, scale, candidates, expected):
    assert verdicts.limit(value, scale, candidates) == expected


# Effects that end at a limit --------------------------------------------------------------------------------------


def losses(name, *values, scale="loss"):
    return Levels(name, values, scale, 193)


LIMITED = {
    "both at chance level, as lab/gpt-neo and lab/gpt-neo-global without layers 0 and 2": (
        losses("a", 5.20, 5.19, 5.20),
        losses("b", 5.26, 5.26, 5.26),
        (-0.06, -0.07, -0.06),
        ["ends at chance level in a (3 of 3 seeds) and chance level in b (3 of 3 seeds)"],
    ),
    "one just above, the other far below, with a sign that the bound implies": (
        losses("a", CHANCE + NEAR_ZERO, CHANCE + NEAR_ZERO),
        losses("b", 1.0, 2.0),
        (4.0, 3.0),
        ["chance level in a (2 of 2 seeds)", "a is at least this much higher"],
    ),
    "the other at chance level: the difference is at most what is measured": (
        losses("a", 1.0, 2.0),
        losses("b", 5.2, 5.3),
        (-4.2, -3.3),
        ["chance level in b (2 of 2 seeds)", "a is at least this much lower"],
    ),
    "one seed of three is enough": (
        losses("a", 1.0, 5.2, 1.0),
        losses("b", 1.0, 1.0, 1.0),
        (0.0, 4.2, 0.0),
        ["chance level in a (1 of 3 seeds)"],
    ),
    "a smaller effect at chance level has no sign": (
        losses("a", 5.2),
        losses("b", 3.0),
        (-0.5,),
        ["chance level in a"],
    ),
    "losses at their ceiling": (
        losses("a", 0.0),
        losses("b", PERFECT),
        (-0.01,),
        ["ceiling in a and ceiling in b"],
    ),
    "a loss at its ceiling can only be lower": (
        losses("a", 0.0),
        losses("b", 2.0),
        (-2.0,),
        ["ceiling in a", "a is at least this much lower"],
    ),
    "an accuracy at its ceiling can only be higher": (
        losses("a", 0.99, scale="accuracy"),
        losses("b", 0.5, scale="accuracy"),
        (0.49,),
        ["ceiling in a", "a is at least this much higher"],
    ),
    "an accuracy of a guess": (
        losses("a", 0.01, scale="accuracy"),
        losses("b", 0.5, scale="accuracy"),
        (-0.49,),
        ["chance level in a", "a is at least this much lower"],
    ),
    "one at either limit": (
        losses("a", 5.26),
        losses("b", 0.0),
        (5.2,),
        ["chance level in a and ceiling in b", "a is at least this much higher"],
    ),
}


@pytest.mark.parametrize(("one", "other", "differences", "parts"), LIMITED.values(), ids=LIMITED)
def test_an_effect_that_ends_at_a_limit_is_not_measured_and_the_reason_says_where(one, other, differences, parts):
    verdict = verdicts.limited("they differ", one, other, differences)
    assert (verdict.claim, verdict.status) == ("they differ", "not measured")
    assert [part for part in parts if part not in verdict.reason] == []
    assert ("at least this much" in verdict.reason) == any("at least this much" in part for part in parts)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (losses("a", CHANCE - NEAR_ZERO, 1.0), losses("b", PERFECT + NEAR_ZERO, 1.0)),
        (losses("a", 0.98, GUESS + NEAR_ZERO, scale="accuracy"), losses("b", 0.5, 0.5, scale="accuracy")),
        (losses("a", NAN), losses("b", NAN)),
        (losses("a"), losses("b")),
        (Levels("a", [9.0], "loss", None), Levels("b", [9.0], "loss", None)),
    ],
    ids=["just below", "accuracies just within", "no value", "no seed", "chance level not known"],
)
def test_an_effect_that_ends_within_the_limits_can_be_tested(one, other):
    assert verdicts.limited("they differ", one, other, [0.1] * len(one.values)) is None


# Exact by construction --------------------------------------------------------------------------------------------

EXACT = {
    "0 in every seed": ({"a": [0.0, 0.0, 0.0]}, "exact", ["the architecture of a"]),
    "0 in both models": ({"a": [0.0], "b": [0.0]}, "exact", ["the architecture of a and b"]),
    "the least deviation in one seed": ({"a": [0.0, 5e-324]}, "contradicted", ["of a fixes another value"]),
    "a negative deviation": ({"a": [0.0, -0.25, 0.125]}, "contradicted", ["of a fixes another value"]),
    "one model of two": ({"a": [0.0], "b": [1e-6]}, "contradicted", ["of b fixes another value"]),
    "a seed without a value": ({"a": [0.0, NAN]}, "exact", ["fixed by the architecture of a"]),
    "no value": ({"a": [NAN]}, "not measured", ["no value was measured"]),
    "no seed": ({"a": []}, "not measured", ["no value was measured"]),
    "no model": ({}, "not measured", ["no value was measured"]),
}


@pytest.mark.parametrize(("deviations", "status", "parts"), EXACT.values(), ids=EXACT)
def test_a_value_that_an_architecture_fixes_is_exact_or_contradicted(deviations, status, parts):
    verdict = verdicts.exact_by_construction("it is 0", deviations)
    assert (verdict.claim, verdict.status) == ("it is 0", status)
    assert [part for part in parts if part not in verdict.reason] == []


# Significance -----------------------------------------------------------------------------------------------------

P = {
    "just below 0.05": (ALPHA - NEAR_ZERO, "supported"),
    "0.05": (ALPHA, "not significant"),
    "just above 0.05": (ALPHA + NEAR_ZERO, "not significant"),
    "0": (0.0, "supported"),
    "1": (1.0, "not significant"),
    "none": (NAN, "not measured"),
}


@pytest.mark.parametrize(("p", "status"), P.values(), ids=P)
def test_a_claim_is_supported_below_a_corrected_p_of_a_twentieth(p, status):
    verdict = verdicts.significance("they differ", p, "+1.2 nats per token")
    assert verdict.status == status
    expected = "fewer than two seeds" if status == "not measured" else f"+1.2 nats per token, corrected p = {p:.2g}"
    assert verdict.reason == expected


# The strongest head -----------------------------------------------------------------------------------------------

STRONGEST = {
    "the largest is not significant, a smaller one is (a trained GPT-2)": (
        ["0.7", "0.6", "0.5"],
        [0.069, 0.0498, 0.0469],
        [0.086, 0.094, 0.008],
        "0.5",
        "supported",
        "corrected p = 0.008",
    ),
    "the largest of several significant ones": (
        ["0.0", "0.1", "0.2"],
        [0.1, 0.3, 0.5],
        [0.01, 0.02, 0.2],
        "0.1",
        "supported",
        "corrected p = 0.02",
    ),
    "by size": (["0.0", "0.1"], [0.1, -0.3], [0.01, 0.01], "0.1", "supported", "corrected p = 0.01"),
    "just below the threshold": (
        ["0.0"],
        [0.1],
        [ALPHA - NEAR_ZERO],
        "0.0",
        "supported",
        "corrected p = 0.05",
    ),
    "at the threshold": (
        ["0.0"],
        [0.1],
        [ALPHA],
        None,
        "not significant",
        "corrected p = 0.05",
    ),
    "none is significant": (
        ["0.0", "0.1"],
        [0.1, -0.2],
        [0.3, 0.4],
        None,
        "not significant",
        "corrected p = 0.4",
    ),
    "the largest was not tested": (
        ["0.0", "0.1"],
        [9.0, 0.2],
        [NAN, 0.4],
        None,
        "not significant",
        "corrected p = 0.4",
    ),
    "no effect": (["0.0"], [NAN], [0.01], None, "not measured", "none was tested"),
    "none was tested, as with a single prompt": (["0.0"], [0.1], [NAN], None, "not measured", "none was tested"),
    "none was ablated": ([], [], [], None, "not measured", "none was ablated"),
}


@pytest.mark.parametrize(("names", "effects", "p", "best", "status", "reason"), STRONGEST.values(), ids=STRONGEST)
def test_the_strongest_head_is_the_largest_significant_one(names, effects, p, best, status, reason):
    at = verdicts.largest_significant(effects, p)
    assert (None if at is None else names[at]) == best
    verdict = verdicts.strongest("changes the loss", names, effects, p)
    assert (verdict.status, verdict.reason) == (status, reason)
    assert verdict.claim == (
        f"{best} changes the loss, most of the significant ones" if best else "at least one changes the loss"
    )


INCREASES = {
    "a significant increase": (0.1, ALPHA - NEAR_ZERO, "supported"),
    "one at the threshold": (0.1, ALPHA, "not significant"),
    "a significant decrease": (-0.1, ALPHA - NEAR_ZERO, "contradicted"),
    "a decrease at the threshold": (-0.1, ALPHA, "not significant"),
    "no test": (0.1, NAN, "not measured"),
    "a decrease without a test": (-0.1, NAN, "not measured"),
}


@pytest.mark.parametrize(("effect", "p", "status"), INCREASES.values(), ids=INCREASES)
def test_an_increase_is_contradicted_by_a_significant_decrease_alone(effect, p, status):
    verdict = verdicts.increase("it rises", effect, p, untested="one prompt")
    assert (verdict.claim, verdict.status) == ("it rises", status)
    assert verdict.reason == ("one prompt" if status == "not measured" else f"corrected p = {p:.2g}")


def test_the_largest_tested_effect_need_not_be_significant_and_one_without_p_does_not_count():
    assert verdicts.largest_tested([9.0, 0.2, -0.3], [NAN, 0.01, 0.4]) == 2
    assert verdicts.largest_tested([9.0], [NAN]) is None
