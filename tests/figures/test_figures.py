"""Figures show the numbers of the result, in the colours of the kinds, with all text as it stands."""

import numpy as np
import plotly.graph_objects as go
import pytest
import xarray as xr

from browser import Parsed
from neolens import figures
from neolens.figures import GLOBAL_COLOUR, LOCAL_COLOUR, distances, legends, style

HOSTILE = "</script><img src=x onerror=alert(1)> <b>$x$ &lt;"
KINDS = ("global", "local", "global", "local")


def result(name="lab/neo", kinds=KINDS, heads=3, length=64, window=8, prompts=2, seed=0) -> xr.Dataset:
    """A result of `neolens.attention`'s shape, all numbers different, mass exactly 0 beyond the window."""
    rng = np.random.default_rng(seed)
    shape = (prompts, len(kinds), heads)
    distance = np.arange(length)
    mass = rng.uniform(0.1, 1, (*shape, length)) / (distance + 1.0)
    mass[:, [kind == "local" for kind in kinds]] *= distance < window
    per_head = ("prompt", "layer", "head")
    return xr.Dataset(
        {
            "induction": (per_head, rng.uniform(0, 1, shape)),
            "mean_distance": (per_head, rng.uniform(0, 30, shape)),
            "mass_by_distance": ((*per_head, "distance"), mass),
        },
        coords={
            "layer": np.arange(len(kinds)),
            "head": np.arange(heads),
            "distance": distance,
            "attention_kind": ("layer", list(kinds)),
            "window": ("layer", [float(window) if kind == "local" else np.nan for kind in kinds]),
            "length": ("prompt", [length] * prompts),
        },
        attrs={"model": name},
    )


def kind_lines(figure: go.Figure) -> dict[str, go.Scatter]:
    """The thick line of each kind of layer."""
    return {trace.legendgroup: trace for trace in figure.data if trace.line.width == 3}


def texts(figure: go.Figure) -> list[str]:
    layout = figure.layout
    ticks = [text for axis in figure.select_xaxes() for text in axis.ticktext or ()]
    return [layout.title.text, layout.title.subtitle.text, *(a.text for a in layout.annotations), *ticks]


def test_a_cell_of_the_head_map_is_the_mean_over_prompts():
    data = result()
    (cells,) = figures.heads(data, "induction").data
    by_hand = (float(data.induction[0, 3, 1]) + float(data.induction[1, 3, 1])) / 2
    assert cells.z[3][1] == pytest.approx(by_hand)
    assert cells.customdata[3][1] == "3.1"
    assert cells.text[3][1] == f"{by_hand:.2f}"


def test_a_head_without_a_value_is_blank_an_exact_0_is_0_and_a_prompt_without_a_value_is_left_out():
    data = result()
    data.induction[:, 0, 0] = np.nan
    data.induction[0, 1, 1] = np.nan
    data.induction[:, 2, 2] = 0
    (cells,) = figures.heads(data, "induction").data
    assert np.isnan(cells.z[0][0])
    assert cells.text[0][0] == ""
    assert cells.text[2][2] == "0"
    assert cells.z[1][1] == pytest.approx(float(data.induction[1, 1, 1]))


@pytest.mark.parametrize(("score", "top"), [("induction", 1.0), ("mean_distance", None)])
def test_probabilities_have_one_scale_from_0_to_1_and_other_scores_one_from_0_to_their_largest(score, top):
    models = [result("a", seed=1), result("b", seed=2)]
    figure = figures.heads(models, score)
    assert figure.layout.coloraxis.cmin == 0
    expected = top or max(float(data[score].mean("prompt").max()) for data in models)
    assert figure.layout.coloraxis.cmax == pytest.approx(expected)
    assert all(trace.coloraxis == "coloraxis" for trace in figure.data)


def test_layers_are_labelled_with_kind_and_window_in_the_colour_of_the_kind():
    labels = figures.heads(result(), "induction").layout.yaxis.ticktext
    assert labels[0] == f'0 <span style="color:{GLOBAL_COLOUR}">global</span>'
    assert labels[1] == f'1 <span style="color:{LOCAL_COLOUR}">local 8</span>'


def test_title_names_quantity_and_unit_and_caption_model_prompts_and_tokens():
    figure = figures.heads(result(), "mean_distance")
    assert figure.layout.title.text == "<b>Mean distance</b> (tokens from query to key)"
    assert figure.layout.title.subtitle.text == "lab/neo: 2 prompts of 64 tokens"


def test_models_with_different_prompts_are_captioned_apart():
    figure = figures.heads([result("a"), result("b"), result("c", prompts=1, length=32)], "induction")
    assert figure.layout.title.subtitle.text == "a, b: 2 prompts of 64 tokens; c: 1 prompt of 32 tokens"


def test_a_line_of_mass_is_the_mean_over_prompts_heads_and_layers_of_its_kind():
    data = result()
    lines = kind_lines(figures.mass_by_distance(data))
    for kind, layers in (("global", [0, 2]), ("local", [1, 3])):
        by_hand = np.mean([data.mass_by_distance.values[:, layer, :, 1] for layer in layers])
        assert list(lines[kind].x)[:2] == pytest.approx([1, 2])  # distances 0 and 1 on an axis of d + 1
        assert lines[kind].y[1] == pytest.approx(by_hand)


@pytest.mark.parametrize(("window", "length"), [(8, 64), (16, 128), (256, 2048)])
def test_local_mass_ends_at_the_dashed_line_which_stands_at_the_window(window, length):
    figure = figures.mass_by_distance(result(window=window, length=length))
    (line,) = figure.layout.shapes
    assert line.x0 == line.x1 == window + 1
    assert line.line.color == LOCAL_COLOUR
    local = kind_lines(figure)["local"]
    x, y = np.array(local.x), np.array(local.y)
    floor = figure.layout.yaxis.tickvals[0]
    assert figure.layout.yaxis.ticktext[0] == "0"
    assert (y[x < window + 1] > floor).all()
    assert (y[x >= window + 1] == floor).all()
    assert (x >= window + 1).any()


def test_bins_cover_every_distance_once_and_do_not_cross_a_window():
    edges = distances.distance_edges(2048, [256])
    assert edges[0] == 0
    assert edges[-1] == 2048
    assert (np.diff(edges) > 0).all()
    assert 256 in edges
    assert list(edges[:12]) == list(range(12))


def test_a_bin_of_far_distances_holds_their_mean():
    data = result(kinds=("global",), length=512)
    (line,) = figures.mass_by_distance(data).data
    first, last = map(int, line.customdata[-1][0].split(" to "))
    assert last == 511
    by_hand = data.mass_by_distance.values[..., first:].mean()
    assert line.y[-1] == pytest.approx(by_hand)


def test_a_choice_of_distances_stands_where_these_distances_are():
    data = result(kinds=("global",)).sel(distance=[32, 1, 4])
    (line,) = figures.mass_by_distance(data).data
    assert list(line.x) == pytest.approx([2, 5, 33])
    assert line.y[2] == pytest.approx(data.mass_by_distance.sel(distance=32).values.mean())


def test_distance_ticks_say_the_distance_itself():
    axis = figures.mass_by_distance(result()).layout.xaxis
    assert list(axis.ticktext) == ["0", "1", "2", "4", "8", "16", "32"]
    assert list(axis.tickvals) == [1, 2, 3, 5, 9, 17, 33]


@pytest.mark.parametrize(
    ("mass", "labels"),
    [((0.03, 0.2), ["0.05", "0.1", "0.2"]), ((1e-5, 0.2), ["1e-5", "1e-4", "0.001", "0.01", "0.1"])],
)
def test_the_mass_axis_has_a_few_round_marks_between_0_and_the_largest(mass, labels):
    data = result(kinds=("global",), length=2)
    data.mass_by_distance[:] = np.array(mass)[::-1]
    axis = figures.mass_by_distance(data).layout.yaxis
    assert list(axis.ticktext) == ["0", *labels]
    assert list(axis.tickvals[1:]) == pytest.approx([float(label) for label in labels])


def test_mass_too_small_for_the_axis_is_not_called_0():
    data = result()
    data.mass_by_distance[:, :, :, 40:] = 1e-12
    axis = figures.mass_by_distance(data).layout.yaxis
    assert axis.ticktext[0].startswith("under ")


@pytest.mark.parametrize("draw", [figures.mass_by_distance, figures.scores_by_kind])
def test_local_and_global_have_their_colours_and_one_legend_entry_each(draw):
    figure = draw([result("a"), result("b")])
    for trace in figure.data:
        colour = trace.marker.color if trace.mode == "markers" else trace.line.color
        assert colour == {"local": LOCAL_COLOUR, "global": GLOBAL_COLOUR}[trace.legendgroup]
    named = [trace.legendgroup for trace in figure.data if trace.showlegend]
    assert sorted(named) == ["global", "local"]


def test_every_head_is_a_point_beside_the_mean_of_its_kind():
    data = result()
    figure = figures.scores_by_kind(data, ["induction"])
    points = {trace.legendgroup: trace for trace in figure.data if trace.mode == "markers"}
    means = {trace.legendgroup: trace for trace in figure.data if trace.mode == "lines"}
    local = data.induction.values.mean(axis=0)[[1, 3]]
    assert sorted(points["local"].y) == pytest.approx(sorted(local.ravel()))
    assert points["local"].customdata[-1][1] == "3.2"
    assert means["local"].y[0] == pytest.approx(local.mean())


def test_there_is_a_panel_for_every_score_that_any_model_has():
    without = result("b").drop_vars("induction")
    figure = figures.scores_by_kind([result("a"), without])
    assert [a.text.split("<br>")[0] for a in figure.layout.annotations] == [
        "<b>Induction score</b>",
        "<b>Mean distance</b>",
    ]
    in_first_panel = {trace.customdata[0][0] for trace in figure.data if trace.mode == "markers" and trace.yaxis == "y"}
    assert in_first_panel == {"a"}


def test_several_models_come_as_a_list_or_under_names_of_ones_own():
    listed = figures.mass_by_distance([result("a"), result("b")])
    named = figures.mass_by_distance({"first": result("a"), "second": result("a")})
    assert [a.text for a in listed.layout.annotations if a.text.startswith("<b>")] == ["<b>a</b>", "<b>b</b>"]
    assert [a.text for a in named.layout.annotations if a.text.startswith("<b>")] == [
        "<b>first</b>",
        "<b>second</b>",
    ]


REFUSED = {
    "near miss": (lambda: figures.heads(result(), "inductoin"), "did you mean induction"),
    "no such score": (
        lambda: figures.scores_by_kind(result(), ["sink"]),
        "no score 'sink': .*expected induction or",
    ),
    "no results": (lambda: figures.mass_by_distance([]), "no results to draw"),
    "one name twice": (lambda: figures.heads([result("a"), result("a")], "induction"), "pass a dict"),
}


@pytest.mark.parametrize(("draw", "message"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_drawn_is_refused(draw, message):
    with pytest.raises(ValueError, match=message):
        draw()


@pytest.mark.parametrize(
    "draw",
    [lambda data: figures.heads(data, "induction"), figures.mass_by_distance, figures.scores_by_kind],
)
def test_markup_in_a_model_name_reaches_plotly_as_text(draw):
    figure = draw([result(HOSTILE), result("other")])
    ours = {"b", "br", "span", "sup"}
    shown = [Parsed(text) for text in texts(figure)]
    assert any(HOSTILE in parsed.text for parsed in shown)
    assert {tag for parsed in shown for tag, _ in parsed.elements} <= ours
    assert not any("$" in text for text in texts(figure))


def test_no_figure_offers_to_send_its_data_to_a_server():
    for figure in (figures.heads(result(), "induction"), figures.scores_by_kind(result())):
        assert "sendChartToCloud" in figure.layout.modebar.remove


# Captions and legends -------------------------------------------------------------------------------------------------


def styled(caption, names=(), groups=False):
    """A figure with a line for each name."""
    lines = [go.Scatter(x=[0], y=[0], name=name, legendgroup=name if groups else None) for name in names]
    return style.style(go.Figure(lines), "A title", caption, 200)


def lines_of(figure):
    return figure.layout.title.subtitle.text.split("<br>")


def test_a_caption_of_several_lines_ends_in_no_short_one():
    words = " ".join(["word"] * 25)  # 124 letters, four more than a line has
    one, other = lines_of(styled(words))
    assert (one.count("word"), other.count("word")) == (13, 12)
    assert lines_of(styled(words[:119])) == [words[:119]]


def test_no_line_of_a_caption_begins_with_a_number_or_a_percent_sign():
    begun = "a " * 56  # up to a break before the number, or after it
    for ends in ("p below 0.05", "p of about 95 %", "mean over 8 prompts"):
        for more in range(8):
            caption = f"{begun}{'a' * more} {ends}, and so on to the end of a second line of some length that is filled"
            assert not [line for line in lines_of(styled(caption)) if line[0].isdigit() or line[0] == "%"]
            assert " ".join(lines_of(styled(caption))).split() == caption.split()


def test_a_caption_leaves_room_for_a_legend_beside_it_and_has_the_whole_width_over_one_below():
    caption = " ".join(["word"] * 22)  # 109 letters
    beside = styled(caption, ["a", "b"])
    assert max(map(len, lines_of(beside))) <= 84
    assert len(lines_of(beside)) == 2
    top = beside.layout.margin.t
    below = legends.below(beside)
    assert lines_of(below) == [caption]
    assert top - below.layout.margin.t == 17  # the height of a line


@pytest.mark.parametrize(
    ("names", "rows"), [(["a", "b"], 1), (["name of twenty chars"] * 5, 2), (["name of twenty chars"] * 9, 3)]
)
def test_there_is_as_much_room_below_as_the_names_in_the_legend_take(names, rows):
    plain = styled("A caption.", names)
    height, margin = plain.layout.height, plain.layout.margin.b
    below = legends.below(plain)
    added = below.layout.margin.b - margin
    assert added == 19 * rows + 10  # a row as plotly draws it, and a gap
    assert below.layout.height - height == added


def test_a_single_name_has_no_legend_and_no_room_unless_it_is_asked_for():
    figure = styled("A caption.", ["alone"])
    height = figure.layout.height
    assert legends.below(figure).layout.height == height
    asked = styled("A caption.", ["alone"]).update_layout(showlegend=True)
    assert legends.below(asked).layout.height > height


def learned(seeds=3, steps=5):
    rng = np.random.default_rng(3)
    names = ["lab/one", HOSTILE, "lab/three"]
    return xr.Dataset(
        {
            "loss": (("model", "seed", "step"), rng.uniform(1, 5, (3, seeds, steps))),
            "recall": (("model", "seed", "step", "distance"), rng.uniform(0, 1, (3, seeds, steps, 2))),
        },
        coords={
            "model": names,
            "seed": range(seeds),
            "step": 50 * np.arange(1, steps + 1),
            "distance": [12, 32],
            "position": ("model", ["absolute", "absolute", "rotary"]),
        },
    )


def test_a_learning_curve_is_the_median_of_the_seeds_between_the_lowest_and_the_highest():
    data = learned()
    figure = figures.learning(data, distance=32)
    low, high, middle = (trace for trace in figure.data if trace.xaxis == "x2" and trace.legendgroup == "lab/one")
    by_seed = np.sort(data.recall.values[0, :, :, 1], axis=0)
    assert np.allclose([low.y, middle.y, high.y], by_seed)
    assert high.fill == "tonexty"
    assert list(middle.x) == [50, 100, 150, 200, 250]


def test_networks_have_the_colour_of_their_position_and_a_dash_of_their_own():
    lines = [trace for trace in figures.learning(learned(), distance=12).data if trace.showlegend]
    colours, dashes = zip(*((line.line.color, line.line.dash) for line in lines), strict=True)
    absolute, rotary = (figures.POSITION_COLOURS[kind] for kind in ("absolute", "rotary"))
    assert colours == (absolute, absolute, rotary)
    assert dashes == ("solid", "dash", "solid")
    assert "<img" not in lines[1].name


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"distance": 13}, "the curves hold no distance 13: they hold 12, 32"),
        ({"distance": 12, "tasks": ("recal",)}, "the curves hold no task 'recal': did you mean recall"),
    ],
)
def test_learning_of_what_the_curves_do_not_hold_is_refused(asked, message):
    with pytest.raises(ValueError, match=message):
        figures.learning(learned(), **asked)


def swept(heads=2, named=False, several=False):
    """A result of `neolens.patch`'s shape: 2 prompts, 4 layers, 3 positions."""
    rng = np.random.default_rng(5)
    dims, shape = ["prompt", "layer", *["head"] * bool(heads), "pos"], [2, 4, *[heads] * bool(heads), 3]
    base = ["prompt"]
    coords = {
        "layer": range(4),
        "attention_kind": ("layer", list(KINDS)),
        "window": ("layer", [np.nan, 8.0, np.nan, 8.0]),
        "pos": ["end", HOSTILE, "s1"] if named else range(3),
    }
    if not named:
        coords["token"] = (("prompt", "pos"), [["a", HOSTILE, "x"], ["a", HOSTILE, "y"]])
    if several:
        dims, shape, base = [*dims, "metric"], [*shape, 2], ["prompt", "metric"]
        coords["metric"] = ["loss", "rank"]
    runs = {run: (base, rng.normal(size=[2, 2][: len(base)])) for run in ("clean", "corrupted")}
    attrs = {"model": HOSTILE, "site": "z", "direction": "denoise", "metric": '["logit_difference"]'}
    return xr.Dataset({"patched": (dims, rng.normal(size=shape))} | runs, coords=coords, attrs=attrs)


def test_a_cell_of_the_patching_map_is_the_mean_effect_over_prompts():
    data = swept(heads=0)
    (cells,) = figures.patch_heatmap(data).data
    by_hand = (data.patched[0, 2, 1] - data.corrupted[0] + data.patched[1, 2, 1] - data.corrupted[1]) / 2
    assert cells.z[2][1] == pytest.approx(float(by_hand))
    assert (cells.zmin, cells.zmax) == (-np.abs(cells.z).max(), np.abs(cells.z).max())
    assert list(cells.y) == ["0 global", "1 local 8", "2 global", "3 local 8"]
    noised = figures.patch_heatmap(data.assign_attrs(direction="noise")).data[0]
    by_hand = (data.patched[0, 2, 1] - data.clean[0] + data.patched[1, 2, 1] - data.clean[1]) / 2
    assert noised.z[2][1] == pytest.approx(float(by_hand))


def test_a_head_has_its_largest_effect_over_positions_or_its_mean_over_named_ones():
    data = swept()
    effect = (data.patched - data.corrupted).mean("prompt")
    values = effect.values[3, 1]
    (cells,) = figures.patch_heatmap(data).data
    assert cells.z[3][1] == pytest.approx(float(values[np.abs(values).argmax()]))
    named = swept(named=True)
    (cells,) = figures.patch_heatmap(named).data
    assert cells.z[3][1] == pytest.approx(float((named.patched - named.corrupted).mean(["prompt", "pos"])[3, 1]))


def test_the_share_recovered_is_drawn_on_request():
    data = swept(heads=0)
    share = [(data.patched[p, 0, 0] - data.corrupted[p]) / (data.clean[p] - data.corrupted[p]) for p in (0, 1)]
    assert figures.patch_heatmap(data, recovered=True).data[0].z[0][0] == pytest.approx(float(sum(share)) / 2)


def test_in_noising_the_share_that_is_lost_is_drawn():
    data = swept(heads=0).assign_attrs(direction="noise")
    share = [(data.clean[p] - data.patched[p, 0, 0]) / (data.clean[p] - data.corrupted[p]) for p in (0, 1)]
    figure = figures.patch_heatmap(data, recovered=True)
    assert figure.data[0].z[0][0] == pytest.approx(float(sum(share)) / 2)
    assert "share lost" in figure.layout.title.text


def test_maps_with_one_limit_have_one_scale():
    one, other = swept(heads=0), swept()
    largest = max(figures.largest_effect(one), figures.largest_effect(other))
    drawn = [figures.patch_heatmap(data, limit=largest).data[0] for data in (one, other)]
    assert [(cells.zmin, cells.zmax) for cells in drawn] == [(-largest, largest)] * 2
    assert max(np.abs(cells.z).max() for cells in drawn) == largest


def test_positions_are_labelled_with_their_token_where_all_prompts_share_it():
    figure = figures.patch_heatmap(swept(heads=0))
    assert [text.split(" ", 1)[0] for text in figure.layout.xaxis.ticktext] == ["0", "1", "2"]
    assert figure.layout.xaxis.ticktext[0] == "0 a"
    assert figure.layout.xaxis.ticktext[2] == "2"
    assert not any("<img" in text for text in texts(figure))


@pytest.mark.parametrize(
    ("data", "asked", "message"),
    [
        (result(), {}, "without patched: expected the result of neolens.patch"),
        (swept(several=True), {}, "choose a metric: the result holds loss, rank, got None"),
        (swept(), {"limit": 0.0}, "limit 0.0: expected a number above 0; the effect at which"),
        (swept(several=True), {"metric": "los"}, "choose a metric: the result holds loss, rank, got 'los'"),
    ],
)
def test_a_map_of_what_is_not_there_is_refused(data, asked, message):
    with pytest.raises(ValueError, match=message):
        figures.patch_heatmap(data, **asked)
