"""How figures look: what is worse is red, axes stay within what is possible, legends in order, no empty map."""

import json
import math

import numpy as np
import plotly.graph_objects as go
import pytest
import xarray as xr

import drawn
from drawn import LOCAL
from neolens import figures
from neolens.figures import legends, points, style
from neolens.figures.window_reach import narrowing_by_distance

RED, BLUE = "rgb(103,0,31)", "rgb(5,48,97)"


def ends(figure):
    """The colours below and above 0 of the map of a figure."""
    trace = next(one for one in figure.data if one.type == "heatmap")
    scale = (figure.layout[trace.coloraxis] if trace.coloraxis else trace).colorscale
    return scale[0][1], scale[-1][1]


@pytest.mark.parametrize(
    ("name", "colours"),
    [
        ("ablation_heads", (BLUE, RED)),
        ("heads_beside", (BLUE, RED)),
        ("by_metric of heads", (BLUE, RED)),
        ("patch_heatmap", (RED, BLUE)),  # of the logit difference, of which more is better
        ("places_by_distance", (RED, BLUE)),
    ],
)
def test_what_makes_predictions_worse_is_red(name, colours):
    assert ends(drawn.figure(name)) == colours


LIMITS = {
    "one value": ([2.0], {}, (1.8, 2.2)),
    "0 alone": ([0.0], {}, (-0.1, 0.1)),
    "no value": ([math.nan], {}, None),
    "0 beside one": ([2.0], {"zero": True}, (-0.1, 2.1)),
    "a share and its interval": ([0.9, 1.0, 1.4], {"bounds": (0, 1)}, (0.875, 1 + 0.03 * 0.55)),
    "a loss of 0": ([0.0, 2.0], {"bounds": (0, math.inf)}, (-0.03 * 2.2, 2.1)),
}


@pytest.mark.parametrize(("values", "asked", "range"), LIMITS.values(), ids=LIMITS)
def test_an_axis_has_room_around_its_values_and_ends_where_nothing_is_possible(values, asked, range):
    assert points.limits(values, **asked) == (None if range is None else pytest.approx(range))


def test_the_names_of_the_largest_points_are_written_where_they_have_room():
    x, y = np.array([0.5, 0.51, 0.9, 0.1]), np.array([3.0, 3.01, -2.0, 0.1])
    assert points.names_of_strongest(x, y, ["a", "b", "c", "d"], 1.0, most=2) == ["", "b", "c", ""]
    assert points.names_of_strongest(x, y, ["a", "b", "c", "d"], 1.0) == ["", "b", "c", "d"]


def shares(layers, seeds=2):
    """A result of `at_distances` in which layer l takes away the share l / 100."""
    result = drawn.FIGURES["narrowing_by_distance"].result[LOCAL]
    one = result.isel(layer=[0] * layers, seed=[0] * seeds).assign_coords(layer=range(layers), seed=range(seeds))
    by_layer = xr.DataArray(np.arange(layers) / 100, dims="layer", coords={"layer": one["layer"]})
    carried = one["clean"] - one["corrupted"]
    return one.assign(localised=(one["clean"] - by_layer * carried).transpose(*one["localised"].dims))


def test_at_most_eight_lines_are_drawn_of_the_layers_that_take_away_most():
    figure = narrowing_by_distance({"deep": shares(12)}, what="recall")
    lines = [trace for trace in figure.data if trace.name]
    assert [line.name for line in lines if line.showlegend] == [*(f"layer {at}" for at in range(5, 12)), "every layer"]
    assert len(lines) == 8
    ranks = {line.name: line.legendrank for line in lines}
    assert sorted(ranks, key=ranks.get) == [*(f"layer {at}" for at in range(5, 12)), "every layer"]
    assert "the 7 of 12 layers that remove most" in figure.layout.title.subtitle.text.replace("<br>", " ")
    assert "recall" in figure.layout.title.text
    assert "layers that" not in narrowing_by_distance({"shallow": shares(4)}).layout.title.subtitle.text


def test_a_legend_is_in_the_order_that_is_asked_for():
    figure = go.Figure([go.Scatter(y=[1], name=name) for name in ("b", "c", "a")])
    ranks = {trace.name: trace.legendrank for trace in legends.once(figure, ["a", "b"]).data}
    assert (ranks["a"], ranks["b"]) == (1, 2)
    assert ranks["c"] is None  # plotly's 1000


def test_an_empty_map_is_a_line_of_the_caption():
    found = drawn.FIGURES["heads"].result
    (name, first), (other, second) = found.items()
    without = second.assign(induction=second["induction"] * np.nan)
    figure = figures.heads({name: first, other: without}, "induction")
    assert len(figure.data) == 1
    assert f"Not drawn: {other}, where no head has a value" in figure.layout.title.subtitle.text.replace("<br>", " ")
    assert "Not drawn" not in drawn.figure("heads").layout.title.subtitle.text
    roles = drawn.figure("roles_by_head")
    assert not any("duplicate" in note.text for note in roles.layout.annotations)
    assert "duplicate-token, where no head scores 0.05" in roles.layout.title.subtitle.text.replace("<br>", " ")
    places = drawn.figure("places_by_distance")
    assert "all between, where no share is above 0.05" in places.layout.title.subtitle.text.replace("<br>", " ")
    assert len(places.data) == 2


def test_a_place_at_which_some_model_moves_something_is_drawn():
    found = drawn.FIGURES["places_by_distance"].result[LOCAL]
    between = xr.where(found["pos"] == "source..query", found["clean"], found["patched"])
    moved = found.assign(patched=between.transpose(*found["patched"].dims))
    figure = figures.places_by_distance({"one": found, "other": moved})
    assert len(figure.data) == 6
    assert "Not drawn" not in figure.layout.title.subtitle.text


@pytest.mark.parametrize("name", ["distance_kernels", "distance_kernels of roles"])
def test_the_heads_of_distance_kernels_are_named_over_their_panels(name):
    figure = drawn.figure(name)
    for trace, note in zip(figure.data, figure.layout.annotations):
        assert f"head {trace.name.split()[1].rstrip(',')}" in note.text
    alone = figures.distance_kernels({LOCAL: drawn.position.toeplitz(drawn.load(LOCAL), drawn.repeats())})
    assert alone.data[0].name.split()[1].rstrip(",") in alone.layout.title.text


def test_a_compact_figure_is_a_copy_without_a_caption_as_high_as_asked():
    figure = drawn.figure("mass_by_distance")
    before = json.loads(figure.to_json())
    small = figures.compact(figure, height=260)
    assert json.loads(figure.to_json()) == before
    assert small.layout.height == 260
    assert not small.layout.title.subtitle.text
    assert small.layout.legend.yanchor == "bottom"
    assert small.layout.title.font.size < 16
    assert len(small.data) == len(figure.data)
    figure = style.style(go.Figure(go.Scatter(y=[1])), "word " * 30, "A caption.", 300)
    assert figures.compact(figure).layout.title.text.count("<br>") == 2
