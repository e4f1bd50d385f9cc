"""Figures of ablation show the numbers of the result, how sure they are, and the kinds in their colours."""

import json

import numpy as np
import plotly.graph_objects as go
import pytest
import xarray as xr

from browser import Parsed
from neolens import figures
from neolens.ablation.effects import effect
from neolens.figures import GLOBAL_COLOUR, LOCAL_COLOUR
from neolens.figures.ablation_labels import KINDS
from neolens.figures.style import INK
from test_ablation_effects import ANATOMY

HOSTILE = "</script><img src=x onerror=alert(1)> <b>$x$ &lt;"
KIND_OF_LAYER = ("global", "local", "global")
CONTROL_COLOUR = KINDS["control"][1]


def swept(metrics=("loss",), prompts=20) -> xr.Dataset:
    """Every head but 0.1 ablated by itself: 1.0 has no effect, 2.1 lowers the loss a little, the others raise it."""
    rng, heads = np.random.default_rng(1), ["0.0", "1.0", "1.1", "2.0", "2.1"]
    effects = np.array([1.0, 0, 0.4, 2, -0.02])[:, None] * rng.uniform(0.5, 1.5, (5, prompts))
    effects[4] += rng.normal(0, 0.5, prompts)
    kinds = [KIND_OF_LAYER[int(head[0])] for head in heads]
    coords = {"group": heads, "heads": ("group", heads), "attention_kind": ("group", kinds)}
    attrs = {"model": HOSTILE, "how": "mean", "metric": json.dumps(list(metrics)), "anatomy": json.dumps(ANATOMY)}
    variables = {"ablated": (("group", "prompt"), 3 + effects), "baseline": ("prompt", np.full(prompts, 3.0))}
    data = xr.Dataset(variables, coords=coords, attrs=attrs)
    return data if len(metrics) == 1 else xr.concat([data, 2 * data], dim=xr.Variable("metric", list(metrics)))


GROUPS = ["local", "global", HOSTILE, "layer 1", "random 4 heads 0", "random 4 heads 1", "random 2 heads 0"]


def binned(distances=(1, 2, 4, 31, 32, 90), prompts=6) -> xr.Dataset:
    rng = np.random.default_rng(2)
    kinds = ["local", "global", "both", "local", "both", "both", "local"]
    coords = {"group": GROUPS, "attention_kind": ("group", kinds), "distance": list(distances)}
    coords["control"] = ("group", [name.rsplit(" ", 1)[0] if name.startswith("random") else "" for name in GROUPS])
    attrs = {"model": "lab/gpt-neo", "how": "mean", "metric": '["loss"]', "anatomy": json.dumps(ANATOMY)}
    shape = (len(GROUPS), prompts, len(distances))
    baseline = rng.uniform(0, 1, shape[1:])
    baseline[1:, 0] = np.nan
    ablated = np.where(np.isnan(baseline), np.nan, rng.uniform(1, 5, shape))
    variables = {"ablated": (("group", "prompt", "distance"), ablated), "baseline": (("prompt", "distance"), baseline)}
    return xr.Dataset(variables, coords=coords, attrs=attrs)


def lines(figure: go.Figure) -> dict[str, go.Scatter]:
    return {trace.name: trace for trace in figure.data if trace.name}


def bands(figure: go.Figure, name: str) -> tuple[np.ndarray, np.ndarray]:
    """The lower and the upper end of the band of a line."""
    low, high = (trace for trace in figure.data if trace.legendgroup == name and trace.name is None)
    assert high.fill == "tonexty"
    return np.array(low.y), np.array(high.y)


def texts(figure: go.Figure) -> list[str]:
    ticks = [str(text) for axis in (figure.layout.xaxis, figure.layout.yaxis) for text in axis.ticktext or ()]
    hovers = [str(trace.hovertemplate) for trace in figure.data]
    rest = [str(row[0]) for trace in figure.data if trace.type == "scatter" for row in trace.customdata or ()]
    head = [figure.layout.title.text, figure.layout.title.subtitle.text]
    return [*head, *ticks, *hovers, *rest, *(trace.name for trace in figure.data if trace.name)]


@pytest.mark.parametrize(("metric", "largest"), [("loss", "rgb(103,0,31)"), ("logit_difference", "rgb(5,48,97)")])
def test_an_increase_of_the_loss_is_red_and_one_of_the_logit_difference_blue(metric, largest):
    (cells,) = figures.ablation_heads(swept((metric,))).data
    assert (cells.colorscale[0][0], cells.colorscale[-1]) == (0, (1, largest))


def test_a_cell_of_the_head_map_is_the_mean_effect_over_prompts_and_a_head_not_ablated_is_blank():
    data = swept()
    (cells,) = figures.ablation_heads(data).data
    assert cells.z[2][0] == pytest.approx(float((data.ablated[3] - data.baseline).mean()))
    assert np.isnan(cells.z[0][1])
    assert cells.z[1][0] == 0
    assert (cells.zmin, cells.zmax) == (-cells.z[2][0], cells.z[2][0])
    assert figures.ablation_heads(data, limit=7.0).data[0].zmin == -7


def test_a_head_is_dotted_where_its_adjusted_p_is_below_5_percent():
    found = effect(swept())
    found["p_adjusted"][:] = [0.049, 0.051, np.nan, 0, 1]  # of heads 0.0, 1.0, 1.1, 2.0, 2.1
    (cells,) = figures.ablation_heads(found).data
    assert cells.text.tolist() == [["●", ""], ["", ""], ["●", ""]]


def test_the_map_of_a_result_is_that_of_its_effects():
    data = swept()
    assert figures.ablation_heads(data) == figures.ablation_heads(effect(data))
    assert figures.ablation_groups(data) == figures.ablation_groups(effect(data))


def test_hovering_over_a_head_tells_its_interval_and_its_adjusted_p():
    found = effect(swept())
    (cells,) = figures.ablation_heads(found).data
    assert cells.customdata[2][0].tolist() == [float(found[one][3]) for one in ("low", "high", "p_adjusted")]
    for part in ("%{z:.3g}", "%{customdata[0]:.3g} to %{customdata[1]:.3g}", "adjusted p: %{customdata[2]:.3g}"):
        assert part in cells.hovertemplate


def test_layers_carry_kind_and_window_and_the_colour_of_the_kind():
    figure = figures.ablation_heads(swept())
    assert list(figure.data[0].y) == ["0 global", "1 local 8", "2 global"]
    marks = {mark.y: mark.font.color for mark in figure.layout.annotations}
    assert marks == {"0 global": GLOBAL_COLOUR, "1 local 8": LOCAL_COLOUR, "2 global": GLOBAL_COLOUR}


def test_title_names_quantity_and_unit_and_caption_model_ablation_prompts_and_correction():
    data = swept().assign_attrs(model="lab/gpt-neo")
    figure = figures.ablation_heads(effect(data, correction="benjamini_hochberg"))
    assert figure.layout.title.text == "<b>Ablating each head</b> (effect on the loss, nats per token)"
    assert figure.layout.title.subtitle.text.replace("<br>", " ") == (
        "lab/gpt-neo, mean ablation: mean over 20 prompts. A dot: p below 0.05 adjusted for 5 groups (Benjamini and "
        "Hochberg)."
    )
    cut = figures.ablation_groups(data.assign_attrs(how="without keys 16 or more tokens back"))
    assert "lab/gpt-neo, without keys 16 or more tokens back: mean" in cut.layout.title.subtitle.text


def test_of_several_metrics_one_is_drawn():
    data = swept(("loss", "rank"))
    (cells,) = figures.ablation_heads(data, metric="rank").data
    assert cells.z[2][0] == pytest.approx(2 * float((swept().ablated[3] - 3).mean()))
    assert "effect on the rank, tokens" in figures.ablation_groups(data, metric="rank").layout.title.text


def test_groups_are_points_with_intervals_from_top_to_bottom_filled_where_they_stand():
    data = swept().assign_coords(group=["global", "layer 1", "local", "random 1 heads 0", HOSTILE])
    data = data.assign_coords(control=("group", ["", "", "", "random 1 heads", ""]))
    found = effect(data)
    figure = figures.ablation_groups(found)
    points = {
        row: (x, x - less, x + more, fill, trace.marker.line.color)
        for trace in figure.data
        for row, x, less, more, fill in zip(
            trace.y, trace.x, trace.error_x.arrayminus, trace.error_x.array, trace.marker.color, strict=True
        )
    }
    for row in range(5):
        expected = [float(found[name][row]) for name in ("effect", "low", "high")]
        assert points[row][:3] == pytest.approx(expected)
    colours = [GLOBAL_COLOUR, LOCAL_COLOUR, LOCAL_COLOUR, CONTROL_COLOUR, GLOBAL_COLOUR]
    assert [points[row][4] for row in range(5)] == colours
    assert [points[row][3] for row in range(5)] == [
        GLOBAL_COLOUR, "white", LOCAL_COLOUR, CONTROL_COLOUR, "white"
    ]  # fmt: skip
    assert figure.layout.yaxis.range == (4.5, -0.5)
    assert figure.layout.yaxis.ticktext[:4] == ("global", "layer 1", "local", "random 1 heads 0")
    assert list(lines(figure)) == ["local layers", "global layers", "random controls"]


def test_a_line_by_distance_is_the_mean_over_the_prompts_that_have_that_distance():
    data = binned()
    figure = figures.ablation_by_distance(data)
    line = lines(figure)["local ablated"]
    # 31 and 32 are one bin: their mean in each prompt first, at the geometric middle on a log(d + 1) axis.
    assert [row[0] for row in line.customdata] == ["1", "2", "4", "31 to 32", "90"]
    assert [row[3] for row in line.customdata] == [1, 6, 6, 6, 6]
    by_prompt = data.ablated.values[0]
    expected = [by_prompt[0, 0], *by_prompt[:, 1:3].mean(0), by_prompt[:, 3:5].mean(), by_prompt[:, 5].mean()]
    assert list(line.y) == pytest.approx(expected)
    assert list(line.x) == pytest.approx([2, 3, 5, (32 * 33) ** 0.5, 91])


def test_the_band_of_a_line_is_its_interval_over_prompts():
    data = binned(prompts=400)
    figure = figures.ablation_by_distance(data, groups=["global"])
    low, high = bands(figure, "global ablated")
    values = data.ablated.values[1, :, 1]
    error = values.std(ddof=1) / 20
    assert (low[1], high[1]) == pytest.approx(
        (values.mean() - 1.96 * error, values.mean() + 1.96 * error), abs=error / 4
    )
    assert low[0] == high[0] == data.ablated.values[1, 0, 0]  # one prompt


def test_random_controls_of_one_size_are_one_line_between_their_lowest_and_highest_draw():
    data = binned()
    figure = figures.ablation_by_distance(data)
    name = "random 4 heads ablated, 2 draws"
    draws = data.ablated.values[4:6, :, 1].mean(1)
    low, high = bands(figure, name)
    assert (low[1], lines(figure)[name].y[1], high[1]) == pytest.approx((draws.min(), draws.mean(), draws.max()))
    assert "random 2 heads ablated, 1 draw" in lines(figure)
    assert "from the lowest draw to the highest" in figure.layout.title.subtitle.text.replace("<br>", " ")
    without = figures.ablation_by_distance(data, groups=["local"])
    assert "draw" not in without.layout.title.subtitle.text


def test_lines_have_the_colour_of_their_kind_and_those_of_one_kind_a_dash_of_their_own():
    drawn = [(trace.line.color, trace.line.dash) for trace in lines(figures.ablation_by_distance(binned())).values()]
    grey = KINDS["both"][1]
    assert drawn == [
        (INK, "solid"), (LOCAL_COLOUR, "solid"), (GLOBAL_COLOUR, "solid"), (grey, "solid"), (LOCAL_COLOUR, "dash"),
        (CONTROL_COLOUR, "solid"), (CONTROL_COLOUR, "dash"),
    ]  # fmt: skip


def test_the_window_is_marked_where_it_ends_and_no_bin_crosses_it():
    figure = figures.ablation_by_distance(binned(), window=32)
    (mark,) = figure.layout.shapes
    assert (mark.x0, mark.x1, mark.line.dash) == (33, 33, "dash")  # distance 32 on an axis of d + 1
    assert [row[0] for row in lines(figure)["nothing ablated"].customdata] == ["1", "2", "4", "31", "32", "90"]
    assert not figures.ablation_by_distance(binned()).layout.shapes


@pytest.mark.parametrize(
    "draw",
    [
        lambda: figures.ablation_heads(swept()),
        lambda: figures.ablation_groups(swept().assign_coords(group=GROUPS[:5])),
        lambda: figures.ablation_by_distance(binned().assign_attrs(model=HOSTILE)),
    ],
)
def test_markup_in_a_name_reaches_plotly_as_text(draw):
    shown = [Parsed(text) for text in texts(draw())]
    assert any(HOSTILE in parsed.text for parsed in shown)
    assert {tag for parsed in shown for tag, _ in parsed.elements} <= {"b", "br", "extra"}
    assert not any("$" in text for text in texts(draw()))


REFUSED = [
    (lambda: figures.ablation_heads(3), "result 3: expected the result of neolens.ablate, or of"),
    (
        lambda: figures.ablation_groups(binned()[["baseline"]]),
        "without effect: expected the result of neolens.ablate",
    ),
    (
        lambda: figures.ablation_heads(effect(swept()), metric="rank"),
        "the result holds loss, got 'rank'",
    ),
    (lambda: figures.ablation_heads(swept(("loss", "rank"))), "choose a metric: the result holds loss, rank"),
    (lambda: figures.ablation_heads(swept(), limit=0.0), "limit 0.0: expected a number above 0; the effect at which"),
    (
        lambda: figures.ablation_by_distance(swept()),
        "without distance: expected the result of neolens.abl",
    ),
    (
        lambda: figures.ablation_by_distance(binned(), groups=["loca"]),
        "no group 'loca': did you mean local or global",
    ),
    (
        lambda: figures.ablation_by_distance(binned(), window=0),
        "window 0: expected a whole number of tokens",
    ),
    (
        lambda: figures.ablation_by_distance(binned().isel(group=[0] * 9).assign_coords(group=list("abcdefghi"))),
        "9 groups are too many to tell apart: name at most 8",
    ),
]


@pytest.mark.parametrize(("call", "message"), REFUSED, ids=[message[:30] for _, message in REFUSED])
def test_a_figure_of_what_is_not_there_is_refused(call, message):
    with pytest.raises(TypeError if "3: " in message else ValueError, match=message):
        call()
