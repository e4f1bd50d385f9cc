"""Instruments in float16 and bfloat16: close to the half-precision model, or a refusal where it overflows.

The models, the instruments and the values from the hooked model are those of `benchmarks.half_precision`, which
measures every family with every dtype and product; here each instrument meets every family, and both dtypes.
"""

import functools
import json

import numpy as np
import pytest
import torch

import neolens
from benchmarks.half_precision.hooked import activations
from benchmarks.half_precision.instruments import instruments
from benchmarks.half_precision.models import OVERFLOW, Case, loaded, models, pairs, prompts, random_network
from benchmarks.half_precision.rounding import MOST, compare, refusal, rounding

DETAILS = ("", "summed", "z", "mlp_out", "mean", "Within(2)")
INSTRUMENTS = [each for each in instruments() if each.detail in DETAILS]
WITH_ATTRS = [each for each in INSTRUMENTS if each.name not in ("head_patterns", "views.attention")]
WITH_ATTRS.remove(next(each for each in INSTRUMENTS if each.detail == "summed"))

CASES = [
    (Case("gpt2", "float16", 50_000), Case("gpt2", "bfloat16")),
    (Case("gpt2-stanford", "float16", OVERFLOW), Case("gpt2-stanford", "bfloat16")),
    (Case("gpt-neo", "float16", 50_000), Case("gpt-neo", "bfloat16", 3_000, cast=True)),
    (Case("pythia", "float16"), Case("pythia", "bfloat16", OVERFLOW, cast=True)),
    (Case("neox-sequential", "float16", 50_000), Case("neox-sequential", "bfloat16", cast=True)),
]
"""Every family in both dtypes. An instrument is compared in one of the two, and in the other for the next family."""
OVERFLOWING = [
    Case("gpt2", "float16", OVERFLOW, cast=True),
    Case("pythia", "float16", OVERFLOW),
    Case("neox-sequential", "float16", OVERFLOW),
]
RECORDED = [Case("gpt2", "float16", 50_000), Case("gpt-neo", "bfloat16"), Case("pythia", "float16")]

load = functools.cache(models)
"""A case's model in half precision and in float32, once per session. Not to be modified."""


def combinations(chosen, cases):
    """Every instrument with every case of a family that it applies to."""
    return [
        pytest.param(instrument, case, id=f"{instrument}-{case}".replace(" ", "_"))
        for case in cases
        for instrument in chosen
        if case.family in instrument.families
    ]


ALTERNATING = [
    combination
    for number, instrument in enumerate(INSTRUMENTS)
    for place, both in enumerate(CASES)
    for combination in combinations([instrument], [both[(number + place) % 2]])
]


# The bar -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("instrument", "case"), ALTERNATING)
def test_an_instrument_differs_from_the_half_precision_model_by_at_most_twice_its_rounding_error(instrument, case):
    half, single = load(case)
    missed = {name: value for name, value in compare(instrument, half, single, prompts()).items() if value.ratio > MOST}
    assert missed == {}


@pytest.mark.parametrize(("instrument", "case"), combinations(INSTRUMENTS, RECORDED[1:]))
def test_in_float32_an_instrument_has_the_values_of_the_hooked_model(instrument, case):
    """The comparison itself: both sides compute the same variables, with the same axes."""
    _, single = load(case)
    for name, value in compare(instrument, single, single, prompts()).items():
        assert value.difference <= 100 * value.floor + 1e-5, name


def test_errors_are_the_largest_over_cells_and_a_nan_on_one_side_is_infinite():
    hooked, exact = np.array([1.0, 2.0, np.nan, 5.0]), np.array([1.5, 2.25, np.nan, np.nan])
    value = rounding(np.array([1.0, 3.0, np.nan, 7.0]), hooked, exact)  # the last cell is NaN in float32 only
    assert (value.own, value.difference) == (0.5, 1.0)
    assert value.ratio == pytest.approx(2.0, rel=1e-5)
    assert rounding(np.array([1.0, np.nan, np.nan, 5.0]), hooked, exact).difference == np.inf
    assert rounding(np.array([1.0, 2.0, 0.0, 5.0]), hooked, exact).difference == np.inf


@pytest.mark.parametrize("cast", [False, True], ids=["loaded", "cast"])
@pytest.mark.parametrize(
    ("family", "dtype", "product"),
    [("gpt2", "float16", 50_000), ("gpt-neo", "bfloat16", 0), ("pythia", "float16", 0), ("pythia", "bfloat16", 50_000)],
)
def test_verify_accepts_a_half_precision_model(family, dtype, product, cast):
    half, _ = load(Case(family, dtype, product, cast))
    neolens.patch(half, pairs(prompts()), "z", heads=[0], verify=True, progress=False)


# What a result records -----------------------------------------------------------------------------


@pytest.mark.parametrize(("instrument", "case"), combinations(WITH_ATTRS, RECORDED))
def test_the_attribute_error_is_the_largest_difference_from_float32(instrument, case):
    """By variable, or by metric where there are several. An instrument that runs a sample of its cells again, and says
    how many (`error_cells`), may find less."""
    half, single = load(case)
    result, exact = instrument.run(half, prompts()), instrument.run(single, prompts())
    errors = json.loads(result.attrs["error"])
    largest = {name: difference(result, exact, name) for name in errors}
    variables = {name for name, value in result.data_vars.items() if value.dtype.kind == "f"}
    metrics = {str(name) for name in result["metric"].values} if "metric" in result.coords else variables
    assert set(errors) in (variables, metrics)
    for name, error in errors.items():
        assert 0 <= error <= 1.01 * largest[name] + 1e-5, name
        if "error_cells" not in result.attrs:
            assert error >= 0.99 * largest[name] - 1e-5, name
    assert max(errors.values()) > 0


def difference(result, exact, name):
    """The largest difference of a variable, or of a metric over all variables."""
    if name in result.data_vars:
        return float(np.abs(result[name] - exact[name]).max())
    return float(np.abs((result - exact).sel(metric=name).to_array()).max())


@pytest.mark.parametrize(("instrument", "case"), combinations(WITH_ATTRS, [RECORDED[0], RECORDED[2]]))
def test_in_float32_no_error_is_recorded(instrument, case):
    _, single = load(case)
    assert "error" not in instrument.run(single, prompts()).attrs


@pytest.mark.parametrize("cast", ["half", "bfloat16", "double"])
@pytest.mark.parametrize("family", ["gpt2", "pythia"])
def test_a_result_records_the_dtype_of_a_model_that_was_cast_after_loading(family, cast):
    _, single = models(Case(family, "bfloat16"))
    model = getattr(single, cast)()
    dtype = {"half": "float16", "double": "float64"}.get(cast, cast)
    for instrument in WITH_ATTRS:
        if family in instrument.families:
            attrs = instrument.run(model, prompts()).attrs
            assert attrs["dtype"] == dtype, str(instrument)
            assert ("error" in attrs) == (cast != "double"), str(instrument)


def test_a_result_records_the_dtype_of_a_model_that_was_cast_back():
    half, _ = models(Case("pythia", "float16"))
    attrs = neolens.attention(half.float(), prompts()).attrs
    assert attrs["dtype"] == "float32"
    assert "error" not in attrs


# Overflow ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("instrument", "case"), combinations(INSTRUMENTS, OVERFLOWING))
def test_an_instrument_refuses_a_model_whose_scores_overflow(instrument, case):
    half, _ = load(case)
    assert half(prompts()).isnan().all()
    assert refusal(instrument, half, prompts()) == "refused"


LAST = prompts().shape[1] - 1
"""The last position."""


@functools.cache
def with_a_large_last_key(query_bias, last_query=1.0):
    """GPT-2 in float16 and float32. One key, the last, has q k^T of about 190 `query_bias` in head 0 of layer 0.

    The position embedding of `LAST` fills dimension 0 of the normed stream with about 7.9, which the key reads with
    weight 24; elsewhere the dimension is about 0. The query is the bias, times `last_query` at the last position.
    """
    network = random_network("gpt2")
    with torch.no_grad():
        network.transformer.wte.weight[:, 0] = network.transformer.wpe.weight[:, 0] = 0
        network.transformer.wpe.weight[LAST] *= 0
        network.transformer.wpe.weight[LAST, 0] = 1000
        block = network.transformer.h[0]
        block.ln_1.weight[0], block.ln_1.bias[0] = 1, 0
        weight, bias = block.attn.c_attn.weight, block.attn.c_attn.bias.view(3, -1)
        d_model = weight.shape[0]
        weight[:, [0, d_model]] = 0
        weight[0, 0], weight[0, d_model] = query_bias * (last_query - 1) / 7.9, 24
        bias[0, 0], bias[1, 0] = query_bias, 0
    return loaded(network, "float16")


def test_a_key_that_overflows_only_for_queries_that_do_not_see_it_is_refused():
    """q k^T of the last key is inf for all queries before it: masked, inf - 65,504 is inf still, and the row is NaN."""
    model, single = with_a_large_last_key(600, last_query=-1.0)
    q, k = (activations(single, prompts(), site)[0, :, :, 0] for site in ("q", "k"))
    products = q @ k.transpose(1, 2)
    assert products.tril().max() < torch.finfo(torch.float16).max < products.max()
    assert model(prompts()).isnan().any()
    assert model(prompts()[:, :LAST]).isfinite().all()
    for instrument in INSTRUMENTS:
        if "gpt2" in instrument.families:
            assert refusal(instrument, model, prompts()) == "refused", str(instrument)


def test_one_prompt_that_overflows_among_others_is_refused():
    model, _ = with_a_large_last_key(600, last_query=-1.0)
    short, long = prompts()[:, :LAST], prompts()
    neolens.attention(model, short)
    for call in (
        lambda tokens: neolens.attention(model, tokens),
        lambda tokens: neolens.ablate(model, tokens, neolens.each_layer(model), how="zero", progress=False),
        lambda tokens: neolens.position.shift(model, tokens, 1, progress=False),
    ):
        with pytest.raises(ValueError, match="not finite"):
            call([*short, *long])


@pytest.mark.parametrize("name", ["attention", "patch z", "ablate Within(2)", "head_patterns", "shift"])
def test_a_visible_key_below_the_smallest_float16_has_weight_0_and_is_no_reason_to_refuse(name):
    """q k^T of the last key is -inf, also for the last query, which sees other keys: the logits are finite."""
    instrument = next(each for each in INSTRUMENTS if str(each) == name)
    half, single = with_a_large_last_key(-600)
    assert half(prompts()).isfinite().all()
    assert neolens.network.head_patterns(half, prompts()[0], {0: [0]})[0][0, LAST, LAST] == 0
    missed = {name: value for name, value in compare(instrument, half, single, prompts()).items() if value.ratio > MOST}
    assert missed == {}


def test_scores_beyond_float16_that_the_model_computes_in_float32_are_measured():
    """GPT-Neo's; and the refusal is not of half precision as such."""
    half, _ = load(Case("gpt-neo", "float16", OVERFLOW))
    assert half(prompts()).isfinite().all()
    assert np.isfinite(neolens.attention(half, prompts())["entropy"]).all()
