"""Metrics of single predictions: each worked by hand, and what of the logits it is handed."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from neolens import metrics
from neolens.metrics import METRICS, Asked, Expected, Metric, several_metrics

LOGITS = torch.tensor([[math.log(1.0), math.log(2.0), math.log(5.0)], [0.0, 0.0, 0.0]])
"""Probabilities 1/8, 2/8, 5/8; and a third each."""
ANSWERS = torch.tensor([1, 2])
CLEAN = torch.tensor([[math.log(1.0), math.log(1.0), math.log(2.0)], [0.0, 0.0, 0.0]])
"""Probabilities 1/4, 1/4, 1/2; and a third each."""

BY_HAND = {
    "loss": (math.log(4), math.log(3)),
    "log_probability": (-math.log(4), -math.log(3)),
    "probability": (1 / 4, 1 / 3),
    "rank": (1, 0),  # equal logits rank no token above another
    # 1/4 log(1/4 : 1/8) + 1/4 log(1/4 : 1/4) + 1/2 log(1/2 : 5/8)
    "kl_divergence": (math.log(2) / 4 + math.log(4 / 5) / 2, 0),
    "logit_difference": (math.log(2) - math.log(5), 0),
}


def of_items(metric: Metric, logits, answers, distractors=None, clean=None) -> torch.Tensor:
    expected = Expected(answers, distractors, clean)
    return metric.of_token(logits.gather(1, expected.columns) if metric.columns == "answers" else logits, expected)


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_a_prediction_has_the_metric_worked_out_by_hand(name, dtype):
    its = of_items(METRICS[name], LOGITS.to(dtype), ANSWERS, torch.tensor([2, 0]), CLEAN.to(dtype))
    assert its.tolist() == pytest.approx(BY_HAND[name], abs=2e-2 if dtype == torch.bfloat16 else 1e-6)


def test_every_metric_of_the_package_has_a_value_at_one_position():
    assert set(BY_HAND) == set(METRICS)
    assert all(metric.of_token is not None for metric in METRICS.values())


@pytest.mark.parametrize("name", [name for name in METRICS if name != "loss"])
def test_the_metric_of_a_run_is_that_of_its_last_prediction(name):
    metric, others = METRICS[name], torch.tensor([0, 1])
    logits = torch.randn(2, 5, 7, dtype=torch.float64)
    clean = torch.randn(2, 5, 7, dtype=torch.float64)
    last = of_items(metric, logits[:, -1], ANSWERS, others, clean[:, -1])
    given = logits
    if metric.columns == "answers":
        given = torch.stack([logits[[0, 1], -1, ANSWERS], logits[[0, 1], -1, others]], dim=-1)[:, None]
    run = metric(given, Asked(ANSWERS, others, torch.zeros(2, 5, dtype=torch.long), clean))
    assert run.tolist() == pytest.approx(last.tolist(), abs=1e-6)


@given(st.integers(2, 9), st.integers(1, 4), st.integers(0, 10**6))
def test_the_loss_of_a_run_is_the_mean_of_its_predictions(length, rows, seed):
    draw = torch.Generator().manual_seed(seed)
    logits = torch.randn(rows, length, 11, dtype=torch.float64, generator=draw)
    tokens = torch.randint(0, 11, (rows, length), generator=draw)
    run = metrics.loss(logits, Asked(tokens[:, 0], None, tokens))
    for row in range(rows):
        single = of_items(metrics.loss, logits[row, :-1], tokens[row, 1:])
        assert float(run[row]) == pytest.approx(sum(single.tolist()) / (length - 1), rel=1e-5)


@given(st.integers(0, 10**6), st.floats(-50, 50))
def test_a_number_added_to_all_logits_changes_no_metric(seed, more):
    draw = torch.Generator().manual_seed(seed)
    logits, clean = torch.randn(2, 6, 9, dtype=torch.float64, generator=draw)
    answers, others = torch.randint(0, 9, (2, 6), generator=draw)
    for metric in METRICS.values():
        one, other = (of_items(metric, its, answers, others, clean) for its in (logits, logits + more))
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


@given(st.integers(0, 10**6))
def test_a_divergence_is_positive_unless_nothing_changed(seed):
    logits, clean = torch.randn(2, 6, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    answers = torch.zeros(6, dtype=torch.long)
    assert (of_items(metrics.kl_divergence, logits, answers, clean=clean) > 0).all()
    assert (of_items(metrics.kl_divergence, clean, answers, clean=clean) == 0).all()


def test_the_columns_are_the_answers_and_then_the_distractors():
    assert Expected(ANSWERS).columns.tolist() == [[1], [2]]
    assert Expected(ANSWERS, torch.tensor([5, 6])).columns.tolist() == [[1, 5], [2, 6]]


@pytest.mark.parametrize(("reads", "positions"), [("last", 1), ("every", 4)])
def test_a_metric_is_handed_the_positions_that_it_reads(reads, positions):
    seen = []

    def of(logits, asked):
        seen.append((logits, asked.clean))
        return logits[:, 0, 2]

    logits, clean = torch.randn(3, 4, 5), torch.randn(3, 4, 5)
    asked = Asked(torch.zeros(3, dtype=torch.long), None, torch.zeros(3, 4, dtype=torch.long), clean)
    found = Metric("own", of, reads=reads).of_every(logits, asked)
    assert torch.equal(found, logits[:, -positions, 2])
    assert torch.equal(seen[0][0], logits[:, -positions:])
    assert torch.equal(seen[0][1], clean[:, -positions:])


def test_metrics_are_meant_by_name_by_themselves_or_as_functions():
    def size(logits):
        return logits.square().sum((1, 2))

    one, two, three = several_metrics(["rank", metrics.loss, size])
    assert (one, two, three.name, three.reads) == (metrics.rank, metrics.loss, "size", "every")
    assert several_metrics("rank") == several_metrics((metrics.rank,)) == (metrics.rank,)
    assert three.of_token is None
    logits = torch.randn(2, 3, 4)
    assert torch.equal(three(logits, Asked(ANSWERS, None, torch.zeros(2, 3, dtype=torch.long))), size(logits))


BAD = {
    "near miss": ("kl_divergance", ValueError, "no metric 'kl_divergance': did you mean kl_divergence"),
    "twice": (["loss", "loss"], ValueError, r"metrics \['loss', 'loss'\]: expected one or several, each with a name"),
    "none": ([], ValueError, r"metrics \[\]: expected one or several"),
    "a number": (3, TypeError, "a metric is one of neolens.metrics, its name or a function of logits, got int"),
    "among others": (["loss", 3], TypeError, "a metric is one of neolens.metrics.*got int"),
}


@pytest.mark.parametrize(("metric", "error", "message"), BAD.values(), ids=BAD)
def test_what_is_no_metric_is_refused(metric, error, message):
    with pytest.raises(error, match=message):
        several_metrics(metric)


@pytest.mark.parametrize("wrong", [lambda x: x[:, 0], lambda x: float(x.sum()), lambda x: x.sum()])
def test_a_function_that_gives_no_number_a_run_is_refused(wrong):
    (metric,) = several_metrics(wrong)
    with pytest.raises(
        ValueError, match="metric <lambda> gives .* for 2 runs: expected a tensor with one number a run"
    ):
        metric(torch.randn(2, 3, 4), Asked(ANSWERS, None, torch.zeros(2, 3, dtype=torch.long)))
