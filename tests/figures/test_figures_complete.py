"""Every kind of result has its figure: what is drawn is what was measured, in one set of colours, names as text."""

import html
import inspect
import re

import numpy as np
import plotly.graph_objects as go
import pytest
import xarray as xr

import browser
import drawn
from browser import Parsed
from drawn import ABSOLUTE, HOSTILE, LOCAL, NONE, ROTARY
from neolens import figures, report
from neolens.ablation.effects import effect
from neolens.figures import KIND_COLOURS, POSITION_COLOURS
from neolens.stats.seeds import Estimate, adjust_p_values

KIND_OF = {ABSOLUTE: "absolute", LOCAL: "absolute", ROTARY: "rotary", NONE: "none"} | {
    name: str(kind) for name, kind in zip(["lab/gpt-neo-global", "lab/pythia-sequential"], ["absolute", "rotary"])
}


def test_every_function_that_draws_is_drawn_here():
    public = {
        name
        for home in drawn.HOMES
        for name, function in vars(home).items()
        if inspect.isfunction(function)
        and not name.startswith("_")
        and str(inspect.signature(function).return_annotation).endswith("go.Figure")
    }
    assert public - {"compact"} == {name.split()[0] for name in drawn.FIGURES}  # of which compact makes small ones


# What is drawn is what was measured -----------------------------------------------------------------------------------

HEAD = {"layer": 2, "head": 1}


def cells(name, /, **where):
    """The rows of a figure's data that have these values in these columns; a column may be named by how it begins."""
    table = figures.data(drawn.figure(name))
    for begins, value in where.items():
        column = next(one for one in table if one.replace(" ", "_").startswith(begins))
        table = table[table[column] == value]
    return table


def one(table, column):
    """The one value of a column that begins so."""
    (value,) = table[next(name for name in table if name.startswith(column))]
    return float(value)


def near(value):
    return pytest.approx(float(value), rel=1e-6, abs=1e-12)


def measured(name):
    return drawn.FIGURES[name].result


def test_scores_of_heads():
    found = measured("heads")[LOCAL]["induction"].mean("prompt").sel(HEAD)
    assert one(cells("heads", panel=LOCAL, layer="2 global", head=1), "Induction") == near(found)
    moved = measured("shift_by_distance")[ABSOLUTE]["pattern"].sel(shift=8).mean("prompt").sel(HEAD)
    assert one(cells("heads of a shift", panel=ABSOLUTE, layer="2 global", head=1), "Change") == near(moved)
    rows = cells(
        "scores_by_kind", panel="Sink score, mean attention probability of key 0", model=LOCAL, layer=2, head=1
    )
    assert one(rows, "value") == near(measured("heads")[LOCAL]["sink"].mean("prompt").sel(HEAD))


def test_mass_by_distance():
    found = measured("heads")[LOCAL]
    rows = cells("mass_by_distance", panel=LOCAL, series="layer 1, local", distances="3")
    assert one(rows, "mean attention") == near(found["mass_by_distance"].sel(layer=1, distance=3).mean())
    assert one(rows, "distance from") == near(3)
    beyond = cells("mass_by_distance", panel=LOCAL, series="layer 1, local")
    far = beyond[beyond["distance from query to key (tokens)"] >= 16]
    assert len(far)
    assert (far["mean attention probability"] == 0).all()  # and not where a log axis draws 0


def test_roles_without_and_with_causes():
    for name in (ABSOLUTE, LOCAL):
        found = measured("roles_by_head")[name]
        for role in found["role"].values:
            if role == "duplicate_token":  # no head of the two networks scores 0.05
                continue
            rows = cells("roles_by_head", panel=f"{name} {role.replace('_', '-')}")
            table = {
                f"{row['layer'][0]}.{row['head']}": (row["score"], row["holds the role"]) for _, row in rows.iterrows()
            }
            for layer in range(4):
                for head in range(4):
                    its = found.sel(role=role, layer=layer, head=head)
                    if np.isnan(float(its["score"])):
                        assert f"{layer}.{head}" not in table
                    else:
                        assert table[f"{layer}.{head}"] == (near(its["score"]), "yes" if its["holds"] else "no")
    assert figures.roles_by_head(measured("pattern_and_cause")).data[0].z[0][0] == near(
        measured("pattern_and_cause")[LOCAL]["score"][0, 0, 0]
    )
    (row,) = cells("pattern_and_cause", panel="induction heads", series=LOCAL, head="2.1, seed 0").to_dict("records")
    its = measured("pattern_and_cause")[LOCAL].sel(HEAD)
    assert row["score"] == near(its["score"].sel(role="induction"))
    assert row["nats per token more than random heads"] == near(its["more"])


def test_patching_with_one_metric_and_with_several():
    found = measured("patch_heatmap")
    by_hand = (found["patched"] - found["corrupted"]).mean("prompt").sel(HEAD)
    assert one(cells("patch_heatmap", layer="2 global", head=1), "logits") == near(by_hand)
    several = measured("by_metric of a patch")
    for metric, unit in (("logit_difference", "logits"), ("probability", "probability")):
        by_hand = (several["patched"] - several["corrupted"]).sel(metric=metric).mean("prompt").sel(HEAD)
        panel = f"effect on the {metric.replace('_', ' ')}, {unit}"
        rows = cells("by_metric of a patch", panel=panel, layer="2 global", head=1)
        assert one(rows, unit) == near(by_hand)
        limit = next(t.zmax for t in drawn.figure("by_metric of a patch").data if t.colorbar.title.text == unit)
        assert limit == near(abs((several["patched"] - several["corrupted"]).sel(metric=metric).mean("prompt")).max())


def test_ablation_of_heads_and_of_groups():
    found = effect(measured("ablation_heads"))
    its = found.isel(group=list(found["heads"].values).index("2.1"))
    (row,) = cells("ablation_heads", layer="2 global", head=1).to_dict("records")
    drawn_as = {"nats per token": "effect", "low": "low", "high": "high", "adjusted p": "p_adjusted"}
    assert {name: row[name] for name in drawn_as} == {name: near(its[of]) for name, of in drawn_as.items()}
    beside = cells("heads_beside", panel="once", head=1, layer="2 global")
    assert one(beside, "nats") == near(its["effect"])
    assert one(beside, "low") == near(its["low"])
    groups = effect(measured("ablation_groups"))
    (row,) = cells("ablation_groups", group="global").to_dict("records")
    its = groups.sel(group="global")
    assert (row["effect on the loss, nats per token"], row["low"]) == (near(its["effect"]), near(its["low"]))
    assert row["series"] == "global layers"
    ranks = effect(measured("by_metric of groups"), metric="rank").sel(group="global")
    rows = cells("by_metric of groups", panel="effect on the rank, tokens", group="global")
    assert one(rows, "effect on the rank") == near(ranks["effect"])
    ranks = effect(measured("by_metric of heads"), metric="rank")
    rows = cells("by_metric of heads", panel="effect on the rank, tokens", layer="2 global", head=1)
    assert one(rows, "tokens") == near(ranks["effect"][list(ranks["heads"].values).index("2.1")])


def test_ablation_by_distance():
    found = measured("ablation_by_distance")
    rows = cells("ablation_by_distance", series="global ablated", distances="15")
    assert one(rows, "loss") == near(found["ablated"].sel(group="global", distance=15).mean())
    assert one(rows, "distance back") == near(15)


def test_the_shift_test_and_toeplitz_shares():
    found = measured("shift_by_distance")[ABSOLUTE]
    share = (found["logits"] / found["spread"]).sel(shift=8)
    (row,) = cells("shift_by_distance", series=ABSOLUTE, every_position=8).to_dict("records")
    drawn_as = [row[name] for name in ("largest change of a logit (share of their range)", "low", "high")]
    assert drawn_as == [near(share.mean()), near(share.min()), near(share.max())]
    level = measured("shift_by_distance")[ROTARY]
    assert one(cells("shift_by_distance", series=f"rounding of {ROTARY}"), "largest") == near(
        (level["rounding"] / level["spread"]).mean()
    )
    found = measured("toeplitz_shares")[ROTARY]["toeplitz_share_corrected"].sel(HEAD)
    assert one(cells("toeplitz_shares", series=ROTARY, head="2.1, seed 0"), "share") == near(found)
    assert one(cells("toeplitz_shares", series=ROTARY, head="2.1, seed 0"), "layer") == 2


def test_distance_kernels_of_the_instrument_are_of_the_head_that_stands_out_or_of_one_that_is_named():
    found = measured("distance_kernels")[ROTARY]["kernel"]
    apart = (found.max("distance") - found.mean("distance")).values
    layer, head = np.argwhere(apart == apart.max())[0]
    kernel = found.sel(layer=layer, head=head)
    rows = cells(
        "distance_kernels",
        panel=f"{ROTARY}, head {layer}.{head}",
        series=f"{ROTARY} {layer}.{head}, seed 0",
        distance=2,
    )
    assert one(rows, "mean score") == near(kernel.sel(distance=2) - kernel.max())
    table = figures.data(figures.distance_kernels(measured("distance_kernels"), head=(2, 1)))
    row = table[(table["panel"] == f"{ROTARY}, head 2.1") & (table["distance (tokens)"] == 5)]
    assert one(row, "mean score") == near(found.sel(HEAD).sel(distance=5) - found.sel(HEAD).max())


def test_parts_of_scores():
    found = measured("part_shares")
    share = found[ABSOLUTE]["share"].mean("prompt").sel(layer=0, head=3, part="position-position")
    assert one(cells("part_shares", panel=ABSOLUTE, layer=0, head=3, part="position-position"), "share") == near(share)
    share = found[ROTARY]["share"].mean("prompt").sel(part="rotated", **HEAD)
    assert one(cells("part_shares", panel=ROTARY, layer=2, head=1, part="rotated"), "share") == near(share)
    score = measured("score_parts")["score"].sel(head=0, query_pos=9, key_pos=4)
    assert one(cells("score_parts", panel="content-position", query=9, key=4), "score") == near(
        score.sel(part="content-position")
    )
    assert one(cells("score_parts", panel="sum", query=9, key=4), "score") == near(score.sum())
    assert len(cells("score_parts", panel="sum", query=4, key=9)) == 0  # a key that the query does not see


def test_bands_of_the_instrument_are_of_previous_token_heads_or_of_those_that_are_named():
    found = measured("band_shares")[ROTARY]
    score = found["previous_token"].mean("prompt")
    held = {f"{layer}.{head}, seed 0" for layer, head in np.argwhere(score.values >= 0.4)}
    assert set(cells("band_shares")["head"]) == held
    taken = (score - found["previous_token_held"].mean("prompt")) / score
    table = figures.data(figures.band_shares(measured("band_shares"), heads=[(2, 1)]))
    assert sorted(table["share of the score"]) == pytest.approx(sorted(taken.sel(HEAD).values))
    assert set(table["head"]) == {"2.1, seed 0"}
    with pytest.raises(ValueError, match="no layer 4 in lab/pythia: layers are 0 to 3"):
        figures.band_shares(measured("band_shares"), heads=[(4, 0)])


def test_the_shape_of_embeddings():
    found = measured("embedding_geometry")[LOCAL]
    rows = cells("embedding_geometry", panel=f"{LOCAL}: coordinates", series="coordinate 1", position=7)
    assert one(rows, "coordinate") == near(found["coordinate"].sel(pos=7, component=1))
    rows = cells("embedding_geometry", panel=f"{LOCAL}: components", components=3)
    assert one(rows, "share") == near(found["variance_share"][:3].sum())
    rows = cells("embedding_geometry", panel=f"{LOCAL}: similarity", distance=4)
    assert one(rows, "mean cosine") == near(found["similarity"].sel(distance=4))
    caption = drawn.figure("embedding_geometry").layout.title.subtitle.text.replace("<br>", " ")
    assert f"{LOCAL}: 128 positions in {float(found['dimensions']):.1f} dimensions" in caption


def test_losses_without_positions_and_beyond_the_context():
    found = measured("loss_without_positions")[ABSOLUTE]
    for series, values in (
        ("as it is (absolute)", found["baseline"]),
        ("embedding zero", found["ablated"].sel(group="embedding zero")),
    ):
        rows = cells("loss_without_positions", panel=ABSOLUTE, series=series, position=30)
        assert one(rows, "loss") == near(values.sel(pos=30).mean())
    found = measured("loss_beyond")[ROTARY]["loss"]
    for series in ("as trained", "interpolated by 0.5"):
        values = found.sel(group=series, pos=slice(200 - 15, 200)).mean("pos")
        (row,) = cells("loss_beyond", panel=ROTARY, series=series, position=200).to_dict("records")
        assert [row[name] for name in ("loss (nats)", "low", "high")] == [
            near(values.mean()), near(values.min()), near(values.max())
        ]  # fmt: skip


def test_circuits_of_words():
    circuit, words, vectors = measured("token_circuit of qk")
    product = (vectors[2].double() @ circuit.AB.double() @ vectors[5].double()).item()
    assert one(cells("token_circuit of qk", query=words[2].strip(), key=words[5].strip()), "product") == pytest.approx(
        product, rel=1e-4
    )
    circuit, words, vectors, across, columns = measured("token_circuit of ov")
    product = (vectors[2].double() @ circuit.AB.double() @ columns[3].double()).item()
    assert one(
        cells("token_circuit of ov", source=words[2].strip(), logit=across[3].strip()), "product"
    ) == pytest.approx(product, rel=1e-4)


def test_what_crosses_a_window():
    found = measured("recall_by_distance")[LOCAL]
    (row,) = cells("recall_by_distance", series="recall", distance=15).to_dict("records")
    right = (found["rank"].sel(distance=15) == 0).mean()
    assert row["share of prompts"] == near(right)
    assert (row["low"], row["high"]) == pytest.approx(figures.window_reach.share_interval(float(right), 4))
    carried = (found["clean"] - found["corrupted"]).mean("prompt")
    moved = (found["patched"] - found["corrupted"]).sel(pos="query", layer=3).mean("prompt")
    rows = cells("places_by_distance", panel=f"{LOCAL}: at the query", before_layer="3 local 16", distance=40)
    assert one(rows, "share") == near((moved / carried).sel(distance=40).mean())
    taken = 1 - found["all_local"].mean("prompt") / carried
    rows = cells("narrowing_by_distance", series="every layer", distance=16)
    assert one(rows, "share") == near(taken.sel(distance=16).mean())


def test_induction_by_length_its_causes_and_its_formation():
    found = measured("induction_by_length")[LOCAL]
    head = found["induction"].sel(distance=15, **HEAD).mean("prompt")
    rows = cells("induction_by_length", panel=LOCAL, head="2.1, seed 0", repeat_length=16)
    assert one(rows, "score") == near(head.item())
    (row,) = cells("scores_and_copying", series=LOCAL, panel="copy accuracy", repeat_length=16).to_dict("records")
    assert row["value"] == near(found["accuracy"].sel(distance=15).mean())
    its = found.sel(distance=15, **HEAD)
    rows = cells("induction_causes", panel=LOCAL, head="2.1, seed 0", series="global layer, inside the window")
    assert one(rows, "nats") == near(its["more"].item())
    rows = cells("copying_without", panel=LOCAL, series="all induction heads at once", repeat_length=16)
    assert one(rows, "nats") == near(found["together"].sel(distance=15).mean())
    step = int(found["step"][-1])
    copied = found["accuracy_by_step"].sel(step=step, distance=15).mean()
    rows = cells("formation_by_step", panel=LOCAL, series="copy accuracy", training_step=step, n=16)
    assert one(rows, "score") == near(copied)
    more = (found["together_by_step"] - found["others_by_step"]).sel(step=step, distance=15).mean()
    rows = cells(
        "formation_by_step", panel=LOCAL, series="heads with the pattern at that step", training_step=step, n=16
    )
    assert one(rows, "nats") == near(more)


def test_learning_and_estimates():
    found = measured("learning")
    recall = found["recall"].sel(model=ROTARY, distance=32, step=1000)
    (row,) = cells("learning", panel="Recall (accuracy)", series=ROTARY, training_step=1000).to_dict("records")
    assert [row[name] for name in ("low", "value", "high")] == [
        near(recall.min()), near(recall.median()), near(recall.max())
    ]  # fmt: skip
    its = measured("estimates")[ABSOLUTE]
    (row,) = cells("estimates", name=ABSOLUTE).to_dict("records")
    values = (row["loss at the end (nats per token)"], row["low"], row["high"], row["seeds"], row["corrected p"])
    assert values == pytest.approx(
        (its.mean, its.low, its.high, its.n, adjust_p_values(measured("estimates"))[ABSOLUTE])
    )


def student(values):
    """The ends of Student's 95 % interval of three values; 4.302653 is the 0.975 quantile with 2 degrees of freedom."""
    half = 4.302653 * np.std(values, ddof=1) / np.sqrt(3)
    return np.mean(values) - half, np.mean(values) + half


def test_measures_of_arms_and_what_tells_them_apart():
    rows = cells("measures_by_variant", panel="copies 32 back", model=LOCAL)
    assert list(rows) == ["panel", "model", "seed", "value", "unit", "low", "high"]
    assert set(rows["unit"]) == {"share"}
    networks, mean = rows[rows["seed"].notna()], rows[rows["seed"].isna()]
    found = next(one for one in measured("measures_by_variant") if one.name == LOCAL).result["induction"]
    found = found.sel(distance=32).isel(step=-1)
    assert networks.set_index("seed")["value"].to_dict() == pytest.approx(found.to_series().to_dict())
    assert (one(mean, "value"), networks[["low", "high"]].notna().any(axis=None)) == (near(found.mean()), False)
    rows = cells("measures_by_variant of positions", panel="loss at the end of training", model=ROTARY)
    its = next(one for one in measured("measures_by_variant") if one.name == ROTARY).result["loss"].isel(step=-1)
    assert rows[rows["seed"].isna()][["value", "low", "high"]].values.tolist()[0] == pytest.approx(
        [float(its.mean()), *student(its.values)]
    )
    for contrast in measured("differences_by_measure"):
        pair = f"{contrast.first.name} less {contrast.second.name}"
        (row,) = cells("differences_by_measure", series=pair, measure=contrast.what.title).to_dict("records")
        values = (contrast.difference.mean, contrast.difference.n, contrast.p_adjusted)
        assert (row["difference"], row["seeds"], row["corrected p"]) == pytest.approx(values)
        rows = cells("differences_by_measure", series=f"{pair}, seeds", measure=contrast.what.title)
        assert rows["difference"].tolist() == pytest.approx(list(contrast.difference.values))


def test_a_share_far_below_0_does_not_flatten_the_other_lines():
    found = measured("narrowing_by_distance")[LOCAL]
    assert drawn.figure("narrowing_by_distance").layout.yaxis.range is None
    six = found["all_local"] + 7 * (found["clean"] - found["corrupted"])
    figure = figures.narrowing_by_distance({LOCAL: found.assign(all_local=six)})
    assert figure.layout.yaxis.range == (-1.6, 1.3)
    lowest = min(float(np.nanmin(np.asarray(trace.y, float))) for trace in figure.data)
    assert f"Cut off at -1.5; the lowest is {lowest:.1f}." in figure.layout.title.subtitle.text.replace("<br>", " ")


# Colours --------------------------------------------------------------------------------------------------------------

RESERVED = {colour.lower() for colour in [*KIND_COLOURS.values(), *POSITION_COLOURS.values()]}


def colours(trace):
    """The colours of lines, marks, bars and bands, as #rrggbb; gradients of maps are none of these."""
    shown = [trace.line.color, trace.error_x.color, trace.error_y.color, trace.fillcolor]
    marks = trace.marker.color
    shown += [marks] if isinstance(marks, str) or marks is None else list(marks)
    plain = [one for one in shown if isinstance(one, str) and one != "white"]
    return {
        "#" + "".join(f"{int(part):02x}" for part in re.findall(r"\d+", one)[:3])
        if one.startswith("rgba")
        else one.lower()
        for one in plain
    }


def kinds_told(figure, trace):
    """The kinds that the words of a trace tell of: of layers by name, of positions by the network's."""
    own = " ".join(str(one) for one in (trace.name, trace.legendgroup, trace.hovertemplate) if one)
    told = {kind for kind in KIND_COLOURS if re.search(rf"\b{kind}\b", own)}
    heads = re.findall(r"\b(\d+)\.\d+ ablated", own) if "random like" not in own else []  # controls
    told |= {drawn.load(LOCAL).anatomy.attention[int(layer)].kind for layer in heads}
    return told | {kind for name, kind in KIND_OF.items() if re.search(rf"{name}(?![\w-])", own)}


def all_colours():
    return KIND_COLOURS | POSITION_COLOURS


@pytest.mark.parametrize("name", drawn.FIGURES)
def test_a_trace_in_the_colour_of_a_kind_belongs_to_that_kind(name):
    figure = drawn.figure(name)
    of = {colour.lower(): kind for kind, colour in all_colours().items()}
    bands = {(one.legendgroup, one.xaxis): kinds_told(figure, one) for one in figure.data if one.name}
    for trace in figure.data:
        if trace.type == "heatmap":
            continue
        told = kinds_told(figure, trace) | bands.get((trace.legendgroup, trace.xaxis), set())
        told |= {"absolute"} if name == "embedding_geometry" else set()  # only absolute networks have a table
        for colour in colours(trace) & RESERVED:
            assert of[colour] in told, (trace.name, colour)
    for mark in [*figure.layout.annotations, *figure.layout.shapes]:
        colour = str((mark.font if hasattr(mark, "font") else mark.line).color or "").lower()
        text = f"{mark.name} {mark.text} {mark.y}" if hasattr(mark, "font") else str(mark.name)
        if colour in RESERVED and of[colour] != "local":  # a dashed line in the colour of local layers is their window
            told = {kind for kind in KIND_COLOURS if kind in text} | {
                its for one, its in KIND_OF.items() if one in text
            }
            assert of[colour] in told


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        ("mass_by_distance", KIND_COLOURS),
        ("scores_by_kind", KIND_COLOURS),
        ("ablation_groups", KIND_COLOURS),
        ("ablation_by_distance", KIND_COLOURS),
        ("induction_by_length", KIND_COLOURS),
        ("shift_by_distance", POSITION_COLOURS),
        ("toeplitz_shares", POSITION_COLOURS),
        ("distance_kernels", POSITION_COLOURS),
        ("loss_without_positions", POSITION_COLOURS),
        ("loss_beyond", POSITION_COLOURS),
        ("learning", POSITION_COLOURS),
        ("pattern_and_cause", POSITION_COLOURS),
    ],
)
def test_what_belongs_to_a_kind_has_its_colour(name, kinds):
    figure = drawn.figure(name)
    found = set()
    for trace in figure.data:
        told = (kinds_told(figure, trace) & set(kinds)) if trace.name and len(np.atleast_1d(trace.y)) else set()
        treated = name == "loss_without_positions" and not str(trace.name).startswith("as it is")
        if len(told) == 1 and not treated and (trace.y is None or any(value is not None for value in trace.y)):
            assert kinds[next(iter(told))].lower() in colours(trace), trace.name
            found |= told
    assert len(found) >= (1 if name == "loss_beyond" else 2) or name == "loss_beyond"


def test_the_colours_are_told_apart_with_any_colour_vision():
    # vision without red, green or blue cones: Machado et al. 2009, matrices of severity 1 on linear RGB
    matrices = {
        "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
        "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
        "tritan": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
    }
    for pair in (list(KIND_COLOURS.values()), *[(a, b) for a, b in zip(["#009E73"], ["#CC79A7"])]):
        linear = [np.array([int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]) ** 2.2 for colour in pair]
        for matrix in matrices.values():
            one, other = (np.clip(np.array(matrix) @ colour, 0, 1) ** (1 / 2.2) for colour in linear)
            assert np.abs(one - other).max() > 0.15


# Names are text -------------------------------------------------------------------------------------------------------


def labels(figure: go.Figure) -> list[str]:
    """Every text that plotly reads markup in."""
    layout = figure.layout
    caption = (layout.title.subtitle.text or "").replace("<br>", " ")  # which may break a line inside a name
    found = [layout.title.text, caption, *(note.text for note in layout.annotations)]
    for axis in [*figure.select_xaxes(), *figure.select_yaxes()]:
        found += [axis.title.text, *(axis.ticktext or ())]
    for trace in figure.data:
        found += [
            trace.name,
            trace.hovertemplate,
            *np.ravel(np.asarray(trace.customdata if trace.customdata is not None else [], dtype=object)),
        ]
        found += [value for value in np.ravel(trace.y if trace.y is not None else []) if isinstance(value, str)]
    return [str(text) for text in found if isinstance(text, str)]


@pytest.fixture(scope="module")
def hostile():
    """Every figure of results whose names are hostile."""
    return {name: its.draw(drawn.renamed(its.result)) for name, its in drawn.FIGURES.items()}


@pytest.mark.parametrize("name", drawn.FIGURES)
def test_markup_in_a_name_reaches_plotly_as_text(name, hostile):
    shown = labels(hostile[name])
    assert {tag for text in shown for tag, _ in Parsed(text).elements} <= {"b", "br", "span", "sup", "extra"}
    assert any(HOSTILE in Parsed(text).text for text in shown)
    assert not any("$" in text for text in shown)


@browser.needed
def test_a_browser_shows_hostile_names_of_every_figure_as_text(hostile, tmp_path):
    page = report.page("t", [report.Figure(figure, HOSTILE) for figure in hostile.values()])
    seen = browser.opened(page, tmp_path)
    assert (seen.console, seen.requests) == ([], [])
    document = Parsed(seen.document)
    assert [attrs for attrs in document.tags("img") if attrs.get("src") == "x"] == []
    assert len([one for one in document.tags("div") if "js-plotly-plot" in (one.get("class") or "")]) == len(hostile)
    assert seen.document.count(html.escape(HOSTILE, quote=False)) >= 2 * len(hostile)  # each caption, and in the figure


# What cannot be drawn -------------------------------------------------------------------------------------------------

REFUSED = {
    "roles of another result": (
        lambda: figures.roles_by_head(measured("heads")),
        "without score: expected the result of neolens.roles, a dataset with score, holds",
    ),
    "no parts": (
        lambda: figures.part_shares({"a": xr.Dataset()}),
        "without share: expected the result of neolens.position.part_shares",
    ),
    "no score parts": (
        lambda: figures.score_parts(xr.Dataset(), 0),
        "without score: expected the result of neolens.position.score_parts",
    ),
    "no such head": (lambda: figures.score_parts(measured("score_parts"), 4), "no head 4: heads are 0, 1, 2, 3"),
    "a long prompt": (
        lambda: figures.score_parts(
            measured("score_parts").isel(key_pos=[0] * 129).assign_coords(key_pos=range(129)), 0
        ),
        "a prompt of 129 tokens is too long to draw every cell: take at most 128",
    ),
    "no geometry": (
        lambda: figures.embedding_geometry({"a": xr.Dataset()}),
        "without variance_share: expected the result of neolens.position.embedding_geometry",
    ),
    "no treatment": (
        lambda: figures.loss_without_positions(measured("heads")),
        "no result holds ablated and baseline: expected the result of neolens.position.ablate_positions",
    ),
    "many treatments": (
        lambda: figures.loss_without_positions(
            measured("loss_without_positions")[ABSOLUTE].isel(group=[0] * 7).assign_coords(group=list("abcdefg"))
        ),
        "7 treatments are too many to tell apart: choose at most 6",
    ),
    "one metric": (
        lambda: figures.by_metric(measured("patch_heatmap")),
        "without metric: expected the result of neolens.patch",
    ),
    "names that do not fit": (
        lambda: figures.token_circuit(measured("token_circuit of qk")[0], ["a"], measured("token_circuit of qk")[2]),
        "1 names of 8 rows: expected one for each, 1 to 64",
    ),
    "another size": (
        lambda: figures.token_circuit(
            measured("token_circuit of qk")[0], ["a"], measured("token_circuit of qk")[2][:1, :5]
        ),
        "rows of 5 dimensions do not fit a circuit of 64",
    ),
    "no estimates": (lambda: figures.estimates({}), "expected a name -> Estimate of neolens.stats.seeds.mean_ci"),
    "numbers": (lambda: figures.estimates({"a": 1.0}), "expected a name -> Estimate of neolens.stats.seeds.mean_ci"),
    "no head of kernels": (
        lambda: figures.distance_kernels(measured("distance_kernels"), head=(9, 0)),
        "no layer 9 in lab/gpt2: layers are 0 to 3",
    ),
}


@pytest.mark.parametrize(("draw", "message"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_drawn_is_refused(draw, message):
    with pytest.raises(ValueError, match=message):
        draw()


def test_an_estimate_of_one_seed_has_no_interval_and_one_of_none_no_point():
    found = {"one": Estimate(2.0, np.nan, np.nan, 1), "none": Estimate(np.nan, np.nan, np.nan, 0)}
    table = figures.data(figures.estimates(found))
    assert table["name"].tolist() == ["one"]
    assert np.isnan(table["low"].item())


def captioned(figure: go.Figure) -> str:
    return figure.layout.title.subtitle.text.replace("<br>", " ")


def test_the_caption_of_estimates_counts_those_that_were_tested():
    tested = {"a": Estimate(1.0, 0.5, 1.5, 3, 0.001), "b": Estimate(0.2, -0.5, 0.9, 2, 0.4)}
    others = {"one": Estimate(2.0, np.nan, np.nan, 1), "none": Estimate(np.nan, np.nan, np.nan, 0)}
    assert "up to 3, with Student's" in captioned(figures.estimates(tested))
    assert captioned(figures.estimates(tested)).endswith("corrected for 2 (Benjamini and Hochberg); hollow: not.")
    both = figures.estimates(tested | others)
    assert "corrected for 2 (Benjamini and Hochberg); hollow: not, or of too few seeds for a test." in captioned(both)
    assert list(both.data[0].marker.color) == [figures.style.INK, "white", "white", "white"]
    assert captioned(figures.estimates(others)) == (
        "Means over seeds, up to 1; none is of two seeds or more, which an interval and a test need."
    )


def test_thresholds_of_roles_are_told_once_where_models_agree_and_else_model_by_model():
    models = measured("roles_by_head")
    agreed = captioned(figures.roles_by_head(models))
    assert agreed.count("previous-token 0.4") == 1
    other = models[LOCAL].assign_coords(threshold=models[LOCAL]["threshold"] / 2)
    told = captioned(figures.roles_by_head(models | {LOCAL: other}))
    first, second = told.split("its score is at least, in ")[1].split("; ")
    assert first.startswith(f"{ABSOLUTE}: previous-token 0.4, ")
    assert second.startswith(f"{LOCAL}: previous-token 0.2, ")
    silent = captioned(figures.roles_by_head(models | {LOCAL: other.drop_vars("threshold")}))
    assert f"; {LOCAL}: not told. Not drawn: " in silent
