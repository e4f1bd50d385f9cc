"""What figures, views and reports refuse: one line that names the value and what was expected, raised by neolens."""

import functools
import math
import traceback
from pathlib import Path

import numpy as np
import plotly.graph_objects as go
import pytest
import torch
import xarray as xr

import drawn
import neolens
from drawn import ABSOLUTE, LOCAL, ROTARY
from neolens import figures, report, results, views
from neolens.ablation import effect
from neolens.checks import shown
from neolens.stats.contrasts import Measure

pytestmark = pytest.mark.untyped

HOME = str(Path(neolens.__file__).parent)
NAN = float("nan")


def refusal(call):
    """The error of a call: one line of neolens's own; None where it is not refused."""
    error = raised(call)
    if error is None:
        return None
    message, frame = str(error), traceback.extract_tb(error.__traceback__)[-1]
    assert isinstance(error, ValueError | TypeError), repr(error)
    assert frame.filename.startswith(HOME), f"{frame.filename}:{frame.lineno}: {error!r}"
    assert "\n" not in message
    assert len(message) <= 330, message
    return message


def raised(call):
    try:
        call()
    except Exception as error:
        return error
    return None


def check_refused(call, *facts):
    message = refusal(call)
    assert message is not None, "not refused"
    assert any(fact in message for fact in facts), (message, facts)


# Results -------------------------------------------------------------------------------------------------------------

SINGLE = {
    *("patch_heatmap", "by_metric", "ablation_heads", "ablation_groups", "ablation_by_distance"),
    *("score_parts", "learning"),
}
OTHERS = {"token_circuit", "measures_by_variant", "differences_by_measure", "estimates"}
OF_RESULTS = [name for name in drawn.FIGURES if name.split()[0] not in OTHERS]


def datasets():
    """One result of each kind."""
    kinds = {}
    for name in OF_RESULTS:
        result = drawn.FIGURES[name].result
        kinds.setdefault(drawn.FIGURES[name].measure.__name__, result)
    return kinds | {"several metrics": drawn.FIGURES["by_metric of a patch"].result}


@functools.cache
def a_result():
    return drawn.FIGURES["heads"].result[LOCAL]


NO_RESULTS = {
    "None": None,
    "an int": 3,
    "a float": NAN,
    "text": "lab/gpt2",
    "bytes": b"lab/gpt2",
    "a bool": True,
    "an empty list": [],
    "an empty dict": {},
    "None in a list": [None],
    "None in a dict": {"a": None},
    "text in a dict": {"a": "b"},
    "a tensor": torch.zeros(2, 3),
    "a tensor of no axis": torch.tensor(2.5),
    "an array": xr.DataArray(np.zeros((2, 3)), dims=("layer", "head")),
    "an array in a dict": {"a": xr.DataArray(np.zeros(3), dims="layer")},
    "an empty dataset": xr.Dataset(),
    "an empty dataset in a list": [xr.Dataset()],
    "an empty dataset in a dict": {"a": xr.Dataset()},
    "a dict in a dict": {"a": {}},
    "an object": object(),
    "a function": len,
    "a set": {1, 2},
    "coordinates alone": xr.Dataset(coords={"layer": [0, 1]}),
}


@pytest.mark.parametrize("name", OF_RESULTS)
@pytest.mark.parametrize("bad", NO_RESULTS)
def test_what_is_no_result_is_refused(name, bad):
    check_refused(lambda: drawn_from(name, NO_RESULTS[bad]), "expected")


def drawn_from(name, result):
    """A figure of FIGURES drawn from something else, whatever the lambda does with the result."""
    function = drawn.function(name)
    extra = {
        "heads": lambda: function(result, "induction"),
        "score_parts": lambda: function(result, 0),
        "learning": lambda: function(result, distance=32),
    }
    return extra.get(name.split()[0], lambda: function(result))()


@pytest.mark.parametrize("name", OF_RESULTS)
def test_names_that_are_no_strings_are_refused(name):
    result = drawn.FIGURES[name].result
    one = next(iter(result.values())) if isinstance(result, dict) else result
    check_refused(lambda: drawn_from(name, {3: one}), "3", "expected")
    check_refused(lambda: drawn_from(name, {"": one}), "''", "expected")


DRAWN_TOO = {
    "heads": {"bands"},  # which has the same scores
    "heads of a shift": {"attention", "bands"},
    "scores_by_kind": {"bands"},
    "roles_by_head": {"causes"},
    "pattern_and_cause": {"probe"},
    "by_metric of a patch": {"several metrics"},
    "by_metric of heads": {"several metrics"},
    "by_metric of groups": {"several metrics"},
    "ablation_groups": {"ablate", "ablate_positions"},
    "shift_by_distance": {"probe"},
    "toeplitz_shares": {"probe"},
    "distance_kernels": {"probe"},
    "distance_kernels of roles": {"toeplitz"},
    "band_shares": {"probe"},
    "loss_beyond": {"probe"},
}
"""A figure, and the other kinds of results that hold what it draws."""


@pytest.mark.parametrize("name", OF_RESULTS)
def test_a_result_of_another_kind_is_refused_or_drawn_where_it_holds_the_same(name):
    drawn_too = set()
    for kind, result in datasets().items():
        single = name.split()[0] in SINGLE
        given = next(iter(result.values())) if single and isinstance(result, dict) else result
        given = {"a": given} if not single and isinstance(given, xr.Dataset) else given
        if refusal(lambda given=given: drawn_from(name, given)) is None:
            drawn_too.add(kind)
    assert drawn_too - {drawn.FIGURES[name].measure.__name__} == DRAWN_TOO.get(name, set())


def parts_of(name):
    """Changes of the result of a figure that leave something out: every variable, coordinate, axis and attribute."""
    whole = drawn.FIGURES[name].result
    one = next(iter(whole.values())) if isinstance(whole, dict) else whole
    changes = {f"without {variable}": one.drop_vars(variable) for variable in one.variables}
    changes |= {f"no {axis}": one.isel({axis: []}) for axis in one.dims}
    changes |= {f"one {axis} chosen": one.isel({axis: 0}) for axis in one.dims}
    changes |= {f"{axis} twice": one.expand_dims({f"more_{axis}": 2}) for axis in list(one.dims)[:1]}
    changes |= {"all NaN": one.map(lambda values: values.where(False) if values.dtype.kind == "f" else values)}
    changes |= {"all infinite": one.map(lambda values: values * np.inf if values.dtype.kind == "f" else values)}
    changes |= {"words": one.map(lambda values: values.astype(str))}
    changes |= {"no attributes": one.assign_attrs({}).drop_attrs()}
    changes |= {f"strange {attr}": one.assign_attrs({attr: "{"}) for attr in one.attrs}
    if "attention_kind" in one.coords and one["attention_kind"].dims == ("layer",):
        changes |= {"strange kinds": one.assign_coords(attention_kind=("layer", ["?"] * one.sizes["layer"]))}
    return changes


@pytest.mark.parametrize("name", [name for name in OF_RESULTS if name != "heads of a shift"])
@pytest.mark.filterwarnings("error")
def test_a_result_with_something_left_out_is_drawn_or_refused_in_words(name):
    refused = [change for change, result in parts_of(name).items() if refusal(lambda r=result: again(name, r))]
    assert "words" in refused or name == "heads_beside"  # which draws effects, of which nothing is text
    assert len(refused) >= 4


def again(name, result):
    whole = drawn.FIGURES[name].result
    if name.startswith("recall"):
        return figures.recall_by_distance({LOCAL: {"recall": result}})
    return drawn.FIGURES[name].draw({next(iter(whole)): result} if isinstance(whole, dict) else result)


# Arguments -----------------------------------------------------------------------------------------------------------

NO_TEXT = [None, 3, True, b"x", ["x"], NAN, {}]
NO_NAMES = [3, "?", [], [3], [None], {"induction": 1}, {"induction"}, b"induction", ["?"], True]
NO_LIMIT = [0, -1, NAN, math.inf, "x", "1", True, [1.0], 1j, np.array([1.0, 2.0])]
NO_FLAG = [None, 1, 0, "yes", [], "True", np.array([True, False])]
NO_WHOLE = [1.5, "1", True, [1], NAN, b"\x01", {0: 1}, 10**30, -1, math.inf]
NO_HEAD = [(9, 0), (0, 9), (-1, 0), (0,), 3, "3", "9.9", "a.b", (0.5, 0), (True, 0), [], b"0.0"]
NO_METRIC = ["?", 3, ["loss"], True, b"loss", "los"]


def of(name):
    return drawn.FIGURES[name].result


@functools.cache
def effects():
    return effect(of("ablation_heads"))


def square(name):
    return of("token_circuit of qk")[{"circuit": 0, "words": 1, "vectors": 2}[name]]


def token_circuit(**given):
    return figures.token_circuit(**{name: square(name) for name in ("circuit", "words", "vectors")} | given)


def variants_drawn(**given):
    valid = {"variants": of("measures_by_variant"), "measures": drawn.MEASURES, "question": "attention"}
    return figures.measures_by_variant(**valid | given)


NO_MATRIX = [None, 3, "x", [1.0], torch.zeros(3), torch.zeros(2, 3, 4), torch.zeros(64, 64, dtype=torch.bool), {}]
ARGUMENTS = {
    ("heads", "score"): (lambda x: figures.heads(of("heads"), x), [*NO_TEXT, "inductoin", "", "mass_by_distance"]),
    ("scores_by_kind", "scores"): (lambda x: figures.scores_by_kind(of("heads"), x), NO_NAMES),
    ("patch_heatmap", "metric"): (lambda x: figures.patch_heatmap(of("patch_heatmap"), metric=x), NO_METRIC),
    ("patch_heatmap", "recovered"): (lambda x: figures.patch_heatmap(of("patch_heatmap"), recovered=x), NO_FLAG),
    ("patch_heatmap", "limit"): (lambda x: figures.patch_heatmap(of("patch_heatmap"), limit=x), NO_LIMIT),
    ("largest_effect", "result"): (figures.largest_effect, list(NO_RESULTS.values())),
    ("largest_effect", "metric"): (lambda x: figures.largest_effect(of("patch_heatmap"), metric=x), NO_METRIC),
    ("largest_effect", "recovered"): (lambda x: figures.largest_effect(of("patch_heatmap"), recovered=x), NO_FLAG),
    ("ablation_heads", "metric"): (lambda x: figures.ablation_heads(effects(), metric=x), NO_METRIC),
    ("ablation_heads", "limit"): (lambda x: figures.ablation_heads(effects(), limit=x), NO_LIMIT),
    ("ablation_groups", "metric"): (lambda x: figures.ablation_groups(of("ablation_groups"), metric=x), NO_METRIC),
    ("by_metric", "recovered"): (lambda x: figures.by_metric(of("by_metric of a patch"), recovered=x), NO_FLAG),
    ("ablation_by_distance", "groups"): (
        lambda x: figures.ablation_by_distance(of("ablation_by_distance"), groups=x),
        [*NO_NAMES, "loca", ["local", 3]],
    ),
    ("ablation_by_distance", "window"): (
        lambda x: figures.ablation_by_distance(of("ablation_by_distance"), window=x),
        [0, *(bad for bad in NO_WHOLE if bad != 10**30)],
    ),
    ("compact", "figure"): (figures.compact, [None, 3, "x", {}, []]),
    ("compact", "height"): (
        lambda x: figures.compact(go.Figure(), x),
        [0, 159, *(bad for bad in NO_WHOLE if bad != 10**30)],
    ),
    ("heads_beside", "effects"): (figures.heads_beside, [effects, None, 3, [], {}, {"a": None}, {3: None}]),
    ("distance_kernels", "role"): (
        lambda x: figures.distance_kernels(of("distance_kernels of roles"), x),
        [*NO_TEXT, "previous_tokn", ""],
    ),
    ("distance_kernels without roles", "role"): (
        lambda x: figures.distance_kernels(of("distance_kernels"), x),
        [*NO_TEXT, "zz", ""],
    ),
    ("distance_kernels", "head"): (lambda x: figures.distance_kernels(of("distance_kernels"), head=x), NO_HEAD),
    ("pattern_and_cause", "roles"): (
        lambda x: figures.pattern_and_cause(of("pattern_and_cause"), x),
        [None, *NO_NAMES],
    ),
    ("band_shares", "heads"): (
        lambda x: figures.band_shares(of("band_shares"), heads=x),
        [3, "2.1", [], {}, (0, 1), *([bad] for bad in NO_HEAD)],
    ),
    ("score_parts", "head"): (lambda x: figures.score_parts(of("score_parts"), x), [None, 4, *NO_WHOLE]),
    ("learning", "distance"): (lambda x: figures.learning(of("learning"), distance=x), [None, 13, *NO_WHOLE]),
    ("learning", "tasks"): (lambda x: figures.learning(of("learning"), distance=32, tasks=x), [*NO_NAMES, ("recal",)]),
    ("token_circuit", "circuit"): (lambda x: token_circuit(circuit=x), [*NO_MATRIX, torch.zeros(3, 64)]),
    ("token_circuit", "words"): (lambda x: token_circuit(words=x), [None, 3, "abc", [], ["a"], [3] * 8, {}]),
    ("token_circuit", "vectors"): (lambda x: token_circuit(vectors=x), [*NO_MATRIX, torch.zeros(8, 3)]),
    ("token_circuit", "to_words"): (lambda x: token_circuit(to_words=x), [3, "abc", [], ["a"], [3] * 8, {}]),
    ("token_circuit", "to_vectors"): (lambda x: token_circuit(to_vectors=x), [*NO_MATRIX[1:], torch.zeros(8, 3)]),
    ("token_circuit", "called"): (lambda x: token_circuit(called=x), [*NO_TEXT, ""]),
    ("token_circuit", "axes"): (
        lambda x: token_circuit(axes=x),
        [None, 3, "ab", [], ("a",), ("a", 3), ("a", "b", "c")],
    ),
    ("measures_by_variant", "variants"): (
        lambda x: variants_drawn(variants=x),
        [None, 3, "x", [], {}, [None], [3], xr.Dataset()],
    ),
    ("measures_by_variant", "measures"): (
        lambda x: variants_drawn(measures=x),
        [None, 3, "x", [], {}, {"a": None}, [Measure]],
    ),
    ("measures_by_variant", "question"): (lambda x: variants_drawn(question=x), [*NO_TEXT, "atention", ""]),
    ("differences_by_measure", "compared"): (
        figures.differences_by_measure,
        [None, 3, "x", [], {}, [None], [3], xr.Dataset(), ["a"]],
    ),
    ("escape", "text"): (figures.escape, NO_TEXT),
    ("Score", "title"): (lambda x: figures.Score(x, "nats"), [*NO_TEXT, ""]),
    ("Score", "unit"): (lambda x: figures.Score("Loss", x), NO_TEXT),
    ("Score", "share"): (lambda x: figures.Score("Loss", "nats", x), NO_FLAG),
    ("data", "figure"): (figures.data, [None, 3, "x", {}, [], xr.Dataset(), go.Scatter(), drawn.FIGURES]),
    ("save", "figure"): (lambda x: figures.save(x, "/nowhere/a.csv"), [None, 3, "x", {}, [], xr.Dataset()]),
    ("save", "width"): (lambda x: figures.save(go.Figure(), "/nowhere/a.csv", width=x), [*NO_LIMIT, None]),
    ("save", "scale"): (lambda x: figures.save(go.Figure(), "/nowhere/a.csv", scale=x), [*NO_LIMIT, None]),
    ("save", "path"): (
        lambda x: figures.save(go.Figure(), x),
        [None, 3, "", b"a.csv", True, [], ".", "/", "a.jpg", "a", "a\0.csv", "a" * 300 + ".csv", NAN],
    ),
    ("attention", "layers"): (
        lambda x: views.attention(drawn.load(LOCAL), drawn.repeats()[0], layers=x),
        [[1.5], ["1"], [True], "12", b"\x01", {0: 1}, [4], [-1], [], 4, 1.0, "0", [None], {1}, [[0]], [10**30]],
    ),
    ("attention", "heads"): (
        lambda x: views.attention(drawn.load(LOCAL), drawn.repeats()[0], heads=x),
        [[1.5], ["1"], [True], "12", b"\x01", {0: 1}, [4], [-1], [], 4, 1.0, "0", [None], {1}, [[0]], [10**30]],
    ),
    ("attention", "prompt"): (
        lambda x: views.attention(drawn.load(LOCAL), x),
        [None, 3, "", "   ", "xyzzy plugh", b"the", [], [1, 2], torch.zeros(0, dtype=torch.long), torch.zeros(3),
         torch.tensor([10**6]), torch.tensor([-1]), drawn.repeats(), torch.tensor(3), {}, NAN, "the \ud800"],
    ),
    ("attention", "first"): (
        lambda x: views.attention(drawn.load(LOCAL), drawn.repeats()[0], layers=[1], first=x),
        ["4.0", "0.0", 3, "x"],
    ),
    ("attention", "circuitsvis"): (
        lambda x: views.attention(drawn.load(LOCAL), drawn.repeats()[0], circuitsvis=x),
        NO_FLAG[1:],
    ),
    ("attention", "model"): (lambda x: views.attention(x, torch.tensor([1])), [None, 3, "lab/gpt2", {}]),
    ("attention_view", "tokens"): (
        lambda x: views.attention_view(x, torch.ones(1, 1, 1), ["0.0"]),
        [None, 3, "a", [3], [None], [], {}, ["a", "b"], {"a"}],
    ),
    ("attention_view", "pattern"): (
        lambda x: views.attention_view(["a"], x, ["0.0"]),
        [None, 3, "a", [[[1.0]]], {}, torch.ones(1, 1), torch.ones(1, 1, 1, dtype=torch.bool), -torch.ones(1, 1, 1),
         torch.full((1, 1, 1), NAN), torch.ones(1, 1, 1, dtype=torch.complex64), np.array([[["a"]]]),
         torch.ones(1, 1, 1).to_sparse()],
    ),
    ("attention_view", "labels"): (
        lambda x: views.attention_view(["a"], torch.ones(1, 1, 1), x),
        [None, 3, "0", [3], [None], [], {}, ["a", "b"]],
    ),
    ("attention_view", "title"): (lambda x: views.attention_view(["a"], torch.ones(1, 1, 1), ["0.0"], x), NO_TEXT),
    ("attention_view", "first"): (
        lambda x: views.attention_view(["a"], torch.ones(1, 1, 1), ["0.0 global"], first=x),
        [3, "0.1", "global", ["0.0"]],
    ),
    ("attention_view", "circuitsvis"): (
        lambda x: views.attention_view(["a"], torch.ones(1, 1, 1), ["0.0"], circuitsvis=x),
        NO_FLAG[1:],
    ),
    ("tokens", "values"): (
        lambda x: views.tokens(x, ["a", "b"]),
        [None, 3, "ab", ["a", "b"], [[1.0], [1.0, 2.0]], {}, torch.zeros(2, dtype=torch.complex64), [math.inf, 1.0],
         torch.zeros(0), [], xr.DataArray(["a", "b"], dims="pos"), torch.zeros(2, 3, device="meta"), b"ab", object(),
         xr.DataArray(np.zeros((2, 2)), dims=("prompt", "pos")), xr.DataArray(np.zeros(2), dims="layer")],
    ),
    ("tokens", "words"): (
        lambda x: views.tokens([1.0, 2.0], x, model=drawn.load(LOCAL)),
        [3, [1, 2], ["a"], [None, "b"], {}, "", "xyzzy plugh", torch.tensor([1.0, 2.0]), torch.tensor([10**6, 1]),
         b"ab"],
    ),
    ("tokens", "model"): (
        lambda x: views.tokens([1.0], ["a"], model=x), [3, "lab/gpt2", {}, [], neolens.anatomy(LOCAL), type]
    ),
    ("token_strings", "model"): (lambda x: views.token_strings(x, torch.tensor([1])), [3, "lab/gpt2", {}, object()]),
    ("tokens", "limit"): (lambda x: views.tokens([1.0], ["a"], limit=x), NO_LIMIT),
    ("tokens", "title"): (lambda x: views.tokens([1.0], ["a"], title=x), NO_TEXT),
    ("tokens", "unit"): (lambda x: views.tokens([1.0], ["a"], unit=x), NO_TEXT),
    ("token_strings", "tokens"): (
        lambda x: views.token_strings(drawn.load(LOCAL), x),
        [None, 3, "a", [1], torch.tensor([1.0]), torch.tensor([-1]), torch.tensor([10**6]), torch.tensor([[1]])],
    ),
    ("visible", "token"): (views.visible, NO_TEXT),
    ("script_json", "value"): (views.script_json, [NAN, math.inf, {1, 2}, object(), torch.zeros(2), [NAN], b"x"]),
    ("View", "body"): (lambda x: views.View(x, "", ""), NO_TEXT),
    ("View", "table"): (lambda x: views.View("", "", "", table=x), [3, "x", [], dict, lambda x: x]),
    ("View.save", "path"): (views.View("", "", "").save, [None, 3, "", b"a.html", ".", "a\0.html", "a" * 300, []]),
    ("Heading", "text"): (report.Heading, NO_TEXT),
    ("Paragraph", "text"): (report.Paragraph, NO_TEXT),
    ("Code", "text"): (report.Code, NO_TEXT),
    ("Code", "summary"): (lambda x: report.Code("a", x), NO_TEXT),
    ("Note", "text"): (report.Note, NO_TEXT),
    ("Note", "kind"): (lambda x: report.Note("a", x), [*NO_TEXT, "warnin", ""]),
    ("Note", "title"): (lambda x: report.Note("a", title=x), NO_TEXT),
    ("Table", "header"): (lambda x: report.Table(x, [["a"]]), [None, 3, "a", [3], {}, ["a", "b"], []]),
    ("Table", "rows"): (lambda x: report.Table(["a"], x), [None, 3, "a", [3], ["a"], {}, [["a", "b"]], [[[]]], [[1j]]]),
    ("Table", "caption"): (lambda x: report.Table(["a"], [], x), NO_TEXT),
    ("Figure", "drawing"): (report.Figure, [None, 3, "x", {}, xr.Dataset(), go.Scatter()]),
    ("Figure", "caption"): (lambda x: report.Figure(go.Figure(), x), NO_TEXT),
    ("Folded", "summary"): (lambda x: report.Folded(x, []), NO_TEXT),
    ("Folded", "blocks"): (lambda x: report.Folded("a", x), [None, 3, "x", ["x"], {}, [None], report.Code("a")]),
    ("Columns", "blocks"): (report.Columns, [None, 3, "x", ["x"], {}, [None], report.Code("a")]),
    ("Answer", "question"): (lambda x: report.Answer(x, "a"), NO_TEXT),
    ("Answer", "headline"): (lambda x: report.Answer("a", x), NO_TEXT),
    ("page", "title"): (lambda x: report.page(x, []), NO_TEXT),
    ("page", "blocks"): (lambda x: report.page("a", x), [None, 3, "x", ["x"], {}, [None], report.Code("a")]),
    ("write", "path"): (lambda x: report.write(x, "a"), [None, 3, "", b"a", ".", "a\0", "a" * 300]),
    ("write", "page"): (lambda x: report.write("/nowhere/a.html", x), NO_TEXT),
    ("appendix", "anatomies"): (lambda x: report.appendix(x, "a"), [None, 3, "x", [], ["x"], {}, [None]]),
    ("appendix", "command"): (lambda x: report.appendix([neolens.anatomy(ABSOLUTE)], x), NO_TEXT),
    ("appendix", "question"): (
        lambda x: report.appendix([neolens.anatomy(ABSOLUTE)], "a", question=x),
        [*NO_TEXT, "atention"],
    ),
    ("check_result", "value"): (lambda x: results.check_result(x, "value"), list(NO_RESULTS.values())),
}  # fmt: skip
"""Function and argument -> a call with everything else valid, and values that it refuses."""


REMEDIES = (
    "layers are 0 to",
    "do not fit",
    "use words of its vocabulary",
    "no such head in the view",
    "with some words",
    "tokenize with",
)


@pytest.mark.parametrize("where", ARGUMENTS, ids=".".join)
def test_a_wrong_argument_is_refused_in_one_line_that_names_it_or_its_value(where, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    call, values = ARGUMENTS[where]
    for value in values:
        argument = where[1].rstrip("s")
        check_refused(lambda value=value: call(value), argument, shown(value), "expected", *REMEDIES)
    assert list(tmp_path.iterdir()) == []


def test_the_table_has_every_public_function_that_takes_arguments():
    tried = {name.split()[0].partition(".")[0] for name, _ in ARGUMENTS} | {name.split()[0] for name in OF_RESULTS}
    tried |= {"estimates", "publish", "write_record", "as_json", "bundled_script"}  # tested elsewhere, or without any
    for module in (figures, views, report):
        public = {
            name for name in module.__all__ if callable(getattr(module, name)) and name not in ("Results", "Block")
        }
        assert public <= tried, module.__name__


@pytest.mark.parametrize("save", [lambda path: figures.save(go.Figure(), path), lambda path: report.write(path, "a")])
def test_a_link_that_leads_nowhere_a_folder_and_a_path_through_a_file_are_refused(save, tmp_path):
    (tmp_path / "file").write_text("a")
    (tmp_path / "folder.html").mkdir()
    (tmp_path / "dangling.html").symlink_to(tmp_path / "nothing")
    (tmp_path / "loop.html").symlink_to(tmp_path / "loop.html")
    (tmp_path / "nowhere").symlink_to(tmp_path / "nothing")
    before = sorted(path.name for path in tmp_path.iterdir())
    for name in ("folder.html", "dangling.html", "loop.html", "file/a.html", "nowhere/a.html"):
        check_refused(lambda name=name: save(tmp_path / name), name.partition("/")[0])
    assert sorted(path.name for path in tmp_path.iterdir()) == before


WRONG_LABELS = {
    "layers that are text": (lambda one: one.assign_coords(layer=list("abcd")), "layer 'a'"),
    "layers that are NaN": (lambda one: one.assign_coords(layer=[math.nan] * 4), "layer is NaN"),
    "one layer four times": (lambda one: one.assign_coords(layer=[0] * 4), "layer 0 twice"),
    "negative heads": (lambda one: one.assign_coords(head=-1 - one["head"]), "head -"),
    "distances that are NaN": (lambda one: one.assign_coords(distance=one["distance"] * math.nan), "distance is NaN"),
    "another kind": (lambda one: one.assign_coords(attention_kind=("layer", ["wide"] * 4)), "'wide'"),
    "windows that are words": (lambda one: one.assign_coords(window=("layer", ["wide"] * 4)), "window"),
    "a model that is a number": (lambda one: one.assign_attrs(model=3), "attribute model of a result 3"),
}


@pytest.mark.parametrize("wrong", WRONG_LABELS)
def test_labels_that_name_no_place_or_one_twice_are_refused(wrong):
    change, fact = WRONG_LABELS[wrong]
    check_refused(lambda: figures.mass_by_distance(change(a_result())), fact)


def test_a_pattern_of_any_order_and_precision_is_drawn():
    pattern = np.tril(np.ones((1, 2, 2))) / np.array([[1], [2]])
    plain = views.attention_view(["a", "b"], pattern, ["0.0"]).table()
    for same in (
        pattern.astype(">f4"),
        pattern.astype(np.longdouble),
        pattern[:, ::-1].copy()[:, ::-1],
        torch.tensor(pattern).half(),
    ):
        assert views.attention_view(["a", "b"], same, ["0.0"]).table().equals(plain)


# Valid in another form ----------------------------------------------------------------------------------------------


def test_numbers_of_numpy_heads_as_text_and_one_name_in_place_of_a_list_are_accepted():
    assert figures.patch_heatmap(of("patch_heatmap"), limit=np.float32(2)).data[0].zmax == 2
    by_text = figures.distance_kernels(of("distance_kernels"), head="2.1")
    assert by_text == figures.distance_kernels(of("distance_kernels"), head=(np.int64(2), 1))
    assert figures.scores_by_kind(of("heads"), "sink") == figures.scores_by_kind(of("heads"), ("sink",))
    assert figures.score_parts(of("score_parts"), np.int64(1)) == figures.score_parts(of("score_parts"), 1)
    several = [of("heads")[name] for name in (ABSOLUTE, LOCAL)]
    assert figures.mass_by_distance(one for one in several) == figures.mass_by_distance(of("heads"))
    one = views.attention(drawn.load(ROTARY), drawn.repeats()[0], layers=np.array([1]), heads=2)
    assert one == views.attention(drawn.load(ROTARY), drawn.repeats()[0], layers=[1], heads=(2,))
