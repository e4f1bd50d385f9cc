"""Figures of position probes: what is drawn is what was measured, in the house's colours, names as they are."""

import numpy as np
import pytest

import neolens
from neolens import encodings, figures, position
from neolens.models import load
from neolens.prompts import random_repeats, random_tokens

NAMES = ("lab/gpt2", "lab/pythia-sequential", "lab/nope")


@pytest.fixture(scope="module")
def arms():
    """Every probe of one network of each kind of positions, as an arm of one seed."""
    found = {}
    for name in NAMES:
        model = load(name)
        network = encodings.probe(model, encodings.texts(model, prompts=8))
        found[name] = encodings.over_seeds([network], [0])
    return found


def named(figure):
    """The traces by name."""
    return {trace.name: trace for trace in figure.data if trace.name}


def test_the_shift_of_instruments_and_of_arms_are_both_drawn():
    model = load("lab/gpt2")
    tokens = random_repeats(model, 16, prompts=3)
    found = neolens.shift(model, tokens, [0, 1, 8], exact=False, progress=False)
    (line,) = named(figures.shift_by_distance(found)).values()
    np.testing.assert_array_equal(line.x, [1, 8])  # no shift has no place on a log axis
    np.testing.assert_allclose(line.y, (found["logits"] / found["spread"]).mean("prompt")[1:])


def test_a_rotary_line_stands_on_the_level_of_rounding(arms):
    figure = figures.shift_by_distance(arms)
    rotary = named(figure)["lab/pythia-sequential"]
    assert rotary.line.color == figures.POSITION_COLOURS["rotary"]
    level = figure.layout.shapes[0].y0
    assert level == pytest.approx(float(arms["lab/pythia-sequential"]["rounding"].mean()))
    assert max(rotary.y) < 10 * level
    assert min(named(figure)["lab/gpt2"].y) > 1000 * level
    assert "lab/nope" not in named(figure)


def test_every_head_has_its_toeplitz_share_and_its_name(arms):
    trace = named(figures.toeplitz_shares(arms))["lab/gpt2"]
    share = arms["lab/gpt2"]["toeplitz_share"].isel(seed=0)
    drawn = dict(zip(trace.customdata, trace.y, strict=True))
    assert len(drawn) == 16
    for layer in range(4):
        for head in range(4):
            expected = float(share.sel(layer=layer, head=head))
            np.testing.assert_equal(drawn[f"{layer}.{head}, seed 0"], expected)


def test_toeplitz_shares_of_the_instrument_are_the_corrected_ones():
    model = load("lab/pythia")
    found = position.toeplitz(model, random_tokens(model, 24, prompts=16))
    (trace,) = named(figures.toeplitz_shares(found)).values()
    np.testing.assert_array_equal(np.sort(trace.y), np.sort(found["toeplitz_share_corrected"].values.ravel()))


def test_the_kernel_is_that_of_the_best_head_of_a_role(arms):
    figure = figures.distance_kernels(arms)
    result = arms["lab/pythia-sequential"].isel(seed=0)
    score = result["score"].sel(role="previous_token").values
    layer, head = np.argwhere(score == score.max())[0]
    kernel = result["kernel"].isel(layer=layer, head=head).values
    np.testing.assert_allclose(figure.data[1].y, kernel - np.nanmax(kernel))
    assert f"head {layer}.{head}" in figure.data[1].hovertemplate
    with pytest.raises(ValueError, match="no role 'previous'"):
        figures.distance_kernels(arms, "previous")


def test_what_single_functions_give_is_drawn_too_or_refused_with_what_would_be():
    model = load("lab/gpt2")
    tokens = random_repeats(model, 16, prompts=8)
    found = neolens.roles(model, tokens, causes=True, progress=False)
    trace = [trace for trace in figures.pattern_and_cause(found).data if trace.name == "lab/gpt2"][1]
    assert len(trace.x) == int(found["holds"].sel(role="previous_token").sum())
    with pytest.raises(ValueError, match="expected what neolens.roles with causes=True"):
        figures.pattern_and_cause(neolens.roles(model, tokens))
    kernel = position.toeplitz(model, tokens)["kernel"].sel(layer=1, head=2).values
    (line,) = figures.distance_kernels(position.toeplitz(model, tokens), head=(1, 2)).data
    np.testing.assert_allclose(line.y, kernel - np.nanmax(kernel))
    with pytest.raises(ValueError, match="no result holds kernel .* what neolens.position.toeplitz or neolens.enc"):
        figures.distance_kernels(found)
    with pytest.raises(ValueError, match="no shift is above 0"):
        figures.shift_by_distance(neolens.shift(load("lab/pythia"), tokens, [-8, 0], progress=False))
    ablated = position.ablate_positions(model, tokens, progress=False)
    assert "embedding zero" in str(figures.ablation_groups(ablated).to_json())


def test_points_of_cause_are_filled_where_they_are_told_apart(arms):
    figure = figures.pattern_and_cause(arms)
    trace = [trace for trace in figure.data if trace.name == "lab/gpt2"][1]  # after the legend's, the first panel's
    result = arms["lab/gpt2"].isel(seed=0)
    holds = result["holds"].sel(role="previous_token") == 1
    assert len(trace.x) == int(holds.sum())
    for name, more, symbol in zip(trace.customdata, trace.y, trace.marker.symbol, strict=True):
        layer, head = map(int, name.split(",")[0].split("."))
        at = result.sel(layer=layer, head=head)
        assert more == float(at["more"])
        assert symbol.endswith("-open") is not (float(at["more_p_adjusted"]) < 0.05)


def test_bands_are_those_of_previous_token_heads(arms):
    trace = named(figures.band_shares(arms))["lab/pythia-sequential"]
    result = arms["lab/pythia-sequential"].isel(seed=0)
    held = result["holds"].sel(role="previous_token") == 1
    expected = result["taken_away"].where(held).values
    np.testing.assert_allclose(np.sort(trace.y), np.sort(expected[np.isfinite(expected)]))


def test_the_loss_beyond_is_drawn_smoothed_with_the_end_of_the_context(arms):
    figure = figures.loss_beyond(arms)
    loss = arms["lab/nope"]["loss_beyond"].isel(seed=0).values
    line = [trace for trace in figure.data if trace.name == "as trained"][-1]
    assert line.y[200] == pytest.approx(np.nanmean(loss[200 - 15 : 201]))
    assert {shape.x0 for shape in figure.layout.shapes} == {127.5}


@pytest.mark.parametrize(
    "draw",
    [
        figures.shift_by_distance,
        figures.toeplitz_shares,
        figures.distance_kernels,
        figures.pattern_and_cause,
        figures.band_shares,
        figures.loss_beyond,
    ],
    ids=lambda draw: draw.__name__,
)
def test_a_name_with_markup_is_shown_as_text_and_nothing_to_draw_is_refused(draw, arms):
    html = draw({f"<b>{name}</b>": arm for name, arm in arms.items()}).to_json()
    assert "<b>lab" not in html.replace("\\u003c", "<")
    with pytest.raises(ValueError, match="no result holds"):
        draw({"nothing": arms["lab/nope"][["copied_loss"]]})
