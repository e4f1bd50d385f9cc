"""Figures of position probes: what is drawn is what was measured, in the house's colours, names as they are."""

import dataclasses
import json

import numpy as np
import pytest
import xarray as xr

import neolens
from neolens import figures, position
from neolens.models import load
from neolens.prompts import random_repeats, random_tokens
from neolens.studies.rotary_vs_absolute.measure import over_seeds, probe, texts

NAMES = ("lab/gpt2", "lab/pythia-sequential", "lab/nope")


@pytest.fixture(scope="module")
def variants():
    """Every probe of one network of each kind of positions, as a variant of one seed."""
    found = {}
    for name in NAMES:
        model = load(name)
        network = probe(model, texts(model, prompts=8))
        found[name] = over_seeds([network], [0])
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


def test_a_rotary_line_stands_on_the_level_of_rounding(variants):
    figure = figures.shift_by_distance(variants)
    rotary = named(figure)["lab/pythia-sequential"]
    assert rotary.line.color == figures.POSITION_COLOURS["rotary"]
    level = figure.layout.shapes[0].y0
    assert level == pytest.approx(float(variants["lab/pythia-sequential"]["rounding"].mean()))
    assert max(rotary.y) < 10 * level
    assert min(named(figure)["lab/gpt2"].y) > 1000 * level
    assert "lab/nope" not in named(figure)


def test_every_head_has_its_toeplitz_share_and_its_name(variants):
    trace = named(figures.toeplitz_shares(variants))["lab/gpt2"]
    share = variants["lab/gpt2"]["toeplitz_share"].isel(seed=0)
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


def test_the_kernel_is_that_of_the_best_head_of_a_role(variants):
    figure = figures.distance_kernels(variants)
    result = variants["lab/pythia-sequential"].isel(seed=0)
    score = result["score"].sel(role="previous_token").values
    layer, head = np.argwhere(score == score.max())[0]
    kernel = result["kernel"].isel(layer=layer, head=head).values
    np.testing.assert_allclose(figure.data[1].y, kernel - np.nanmax(kernel))
    assert f"head {layer}.{head}" in figure.data[1].hovertemplate
    with pytest.raises(ValueError, match="no role 'previous'"):
        figures.distance_kernels(variants, "previous")


def test_what_single_functions_give_is_drawn_too_or_refused_with_what_would_be():
    model = load("lab/gpt2")
    tokens = random_repeats(model, 16, prompts=8)
    found = neolens.roles(model, tokens, causes=True, progress=False)
    trace = [trace for trace in figures.pattern_and_cause(found).data if trace.name == "lab/gpt2"][1]
    assert len(trace.x) == int(found["holds"].sel(role="previous_token").sum())
    with pytest.raises(ValueError, match="expected the result of neolens.roles with causes=True"):
        figures.pattern_and_cause(neolens.roles(model, tokens))
    kernel = position.toeplitz(model, tokens)["kernel"].sel(layer=1, head=2).values
    (line,) = figures.distance_kernels(position.toeplitz(model, tokens), head=(1, 2)).data
    np.testing.assert_allclose(line.y, kernel - np.nanmax(kernel))
    with pytest.raises(ValueError, match="no result holds kernel: expected the result of neolens.position.toeplitz or"):
        figures.distance_kernels(found)
    with pytest.raises(ValueError, match="no shift is above 0"):
        figures.shift_by_distance(neolens.shift(load("lab/pythia"), tokens, [-8, 0], progress=False))
    ablated = position.ablate_positions(model, tokens, progress=False)
    assert "embedding zero" in str(figures.ablation_groups(ablated).to_json())


def test_points_of_cause_are_filled_where_they_are_told_apart(variants):
    figure = figures.pattern_and_cause(variants)
    trace = [trace for trace in figure.data if trace.name == "lab/gpt2"][1]  # after the legend's, the first panel's
    result = variants["lab/gpt2"].isel(seed=0)
    holds = result["holds"].sel(role="previous_token") == 1
    assert len(trace.x) == int(holds.sum())
    for name, more, symbol in zip(trace.customdata, trace.y, trace.marker.symbol, strict=True):
        layer, head = map(int, name.split(",")[0].split("."))
        at = result.sel(layer=layer, head=head)
        assert more == float(at["more"])
        assert symbol.endswith("-open") is not (float(at["more_p_adjusted"]) < 0.05)


def test_bands_are_those_of_previous_token_heads(variants):
    trace = named(figures.band_shares(variants))["lab/pythia-sequential"]
    result = variants["lab/pythia-sequential"].isel(seed=0)
    held = result["holds"].sel(role="previous_token") == 1
    expected = result["taken_away"].where(held).values
    np.testing.assert_allclose(np.sort(trace.y), np.sort(expected[np.isfinite(expected)]))


def test_the_loss_beyond_is_drawn_smoothed_with_the_end_of_the_context(variants):
    figure = figures.loss_beyond(variants)
    loss = variants["lab/nope"]["loss_beyond"].isel(seed=0).values
    line = [trace for trace in figure.data if trace.name == "as trained"][-1]
    assert line.y[200] == pytest.approx(np.nanmean(loss[200 - 15 : 201]))
    assert {shape.x0 for shape in figure.layout.shapes} == {127.5}


def beyond(scales=(1.0, 0.5), context=16, past=16, name="lab/nope"):
    """A result of `beyond_context` whose loss is 1 at every position of the context, and 1, 2, 3, ... past it."""
    loss = np.concatenate([np.ones(context), 1 + np.arange(past, dtype=float)])
    loss[-1] = np.nan  # of what follows the last token
    coords = {
        "group": ["as trained" if scale == 1 else f"interpolated by {scale:g}" for scale in scales],
        "scale": ("group", list(scales)),
        "pos": np.arange(context + past),
        "inside": ("pos", np.arange(context + past) < context),
        "prompt": [0],
    }
    values = np.tile(loss, (len(scales), 1, 1))
    return xr.Dataset({"loss": (("group", "prompt", "pos"), values)}, coords=coords, attrs=told(name))


def told(name):
    """What a result tells of its network."""
    return {"model": name, "anatomy": json.dumps(dataclasses.asdict(load(name).anatomy))}


def test_the_running_mean_starts_anew_past_the_context_and_mixes_no_position_inside_it():
    figure = figures.loss_beyond(beyond())
    (line,) = [trace for trace in figure.data if trace.name == "as trained" and trace.hovertemplate]
    # an eighth of 16: the mean of 2 positions; 1 inside, then 1, (1 + 2) / 2, (2 + 3) / 2, ...
    assert list(line.y[14:20]) == [1, 1, 1, 1.5, 2.5, 3.5]
    assert np.isnan(line.y[31])
    caption = figure.layout.title.subtitle.text.replace("<br>", " ")
    assert (
        "Each point: the mean of the 2 positions up to it, of fewer at the start and just past the context." in caption
    )


def test_contexts_of_different_lengths_have_their_own_mean_and_the_caption_counts_each():
    figure = figures.loss_beyond({"a": beyond(), "b": beyond(context=32)})
    caption = figure.layout.title.subtitle.text.replace("<br>", " ")
    assert "the mean of the positions up to it, 2 in a, 4 in b, of fewer" in caption
    line = [trace for trace in figure.data if trace.name == "as trained" and trace.hovertemplate][1]
    assert list(line.y[31:36]) == [
        1,
        1,
        1.5,
        2,
        2.5,
    ]  # past 32 the mean of 1; 1, 2; 1, 2, 3; 1, 2, 3, 4 is 1, 1.5, 2, 2.5


def test_a_short_context_is_drawn_position_by_position_and_no_mean_is_told():
    figure = figures.loss_beyond(beyond(context=8))
    assert "Each point" not in figure.layout.title.subtitle.text
    line = next(trace for trace in figure.data if trace.name == "as trained" and trace.hovertemplate)
    assert list(line.y[6:12]) == [1, 1, 1, 2, 3, 4]


def test_every_scale_is_named_in_the_legend_by_its_dash_and_more_than_can_be_told_apart_are_refused():
    figure = figures.loss_beyond({"a": beyond((1.0, 0.5)), "b": beyond((1.0, 0.75, 0.5, 0.25))})
    legend = {trace.name: trace.line.dash for trace in figure.data if trace.showlegend}
    assert legend == {
        "as trained": "solid",
        "interpolated by 0.5": "dot",
        "interpolated by 0.75": "dash",
        "interpolated by 0.25": "dashdot",
    }
    drawn = {(trace.name, trace.line.dash) for trace in figure.data if trace.hovertemplate}
    assert drawn == set(legend.items())
    with pytest.raises(ValueError, match="5 scales are too many to tell apart: choose at most 4"):
        figures.loss_beyond(beyond((1.0, 0.9, 0.8, 0.7, 0.6, 0.5)))


def test_long_prompts_without_positions_are_averaged_and_the_caption_says_over_how_many():
    loss = np.concatenate([np.arange(191, dtype=float), [np.nan]])
    one = xr.Dataset(
        {"baseline": (("prompt", "pos"), loss[None]), "ablated": (("group", "prompt", "pos"), loss[None, None] + 1)},
        coords={"group": ["zero"], "pos": np.arange(192)},
        attrs=told("lab/gpt2"),
    )
    figure = figures.loss_without_positions(one)
    whole, without = figure.data
    assert list(whole.y[:5]) == [0, 0.5, 1, 2, 3]  # a 64th of 192: the mean of 3 positions
    assert list(without.y[3:5]) == [3, 4]
    assert np.isnan(whole.y[191])
    caption = figure.layout.title.subtitle.text.replace("<br>", " ")
    assert caption.endswith("Each point: the mean of the 3 positions up to it, of fewer at the start.")
    short = figures.loss_without_positions(one.isel(pos=slice(127)))
    assert list(short.data[0].y[:3]) == [0, 1, 2]
    assert "Each point" not in short.layout.title.subtitle.text


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
def test_a_name_with_markup_is_shown_as_text_and_nothing_to_draw_is_refused(draw, variants):
    html = draw({f"<b>{name}</b>": variant for name, variant in variants.items()}).to_json()
    assert "<b>lab" not in html.replace("\\u003c", "<")
    with pytest.raises(ValueError, match="no result holds"):
        draw({"nothing": variants["lab/nope"][["copied_loss"]]})
