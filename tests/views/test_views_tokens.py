"""A text in the colours of a result: its tokens, choices, limits and units, from results and from plain numbers."""

import csv
import io
import json

import numpy as np
import pytest
import torch
import xarray as xr

import neolens
import tiny
from neolens import views

HOSTILE = "</script><img src=x onerror=alert(1)>"


def drawn(view: views.View) -> dict:
    """The data that the view hands to its script."""
    return json.loads(view.draw.partition("neolensColoured(element, ")[2].removesuffix(")"))


def limits(view: views.View) -> list[tuple[float, float]]:
    return [(choice["low"], choice["high"]) for choice in drawn(view)["choices"]]


def result(**coords) -> xr.DataArray:
    """Two groups at three positions of two prompts; the second prompt has two tokens. The last value is undefined."""
    values = np.array([[[0.5, 2.0, np.nan], [9.0, np.nan, np.nan]], [[0.25, 1.0, np.nan], [8.0, np.nan, np.nan]]])
    token = [["<BOS>", " the", " cat"], ["<BOS>", " dog", ""]]
    named = {"group": ["local", "global"], "prompt": [0, 1], "pos": [0, 1, 2], "length": ("prompt", [3, 2])}
    more = {"token": (("prompt", "pos"), token), **named, **coords}
    return xr.DataArray(values, dims=("group", "prompt", "pos"), coords=more, name="ablated")


def test_a_result_of_one_prompt_is_enough():
    data = drawn(views.tokens(result().sel(group="local").isel(prompt=0)))
    assert data["tokens"] == ["<BOS>", " the", " cat"]
    assert data["positions"] == [0, 1, 2]
    (choice,) = data["choices"]
    assert choice["values"] == [0.5, 2.0, None]
    assert (choice["low"], choice["high"]) == (0.0, 2.0)


def test_what_was_chosen_of_a_result_is_its_title():
    view = views.tokens(result().sel(group="local").isel(prompt=0))
    assert "<strong>ablated, prompt 0, group local</strong>, 3 tokens" in view.body
    assert "<strong>mine</strong>, 3 tokens" in views.tokens(result().isel(prompt=0), title="mine").body


def test_a_shorter_prompt_is_shown_as_far_as_it_goes():
    data = drawn(views.tokens(result().sel(group="local", prompt=1)))
    assert data["tokens"] == ["<BOS>", " dog"]
    assert data["choices"][0]["values"] == [9.0, None]


def test_positions_that_were_chosen_keep_their_numbers():
    view = views.tokens(result().sel(group="local", prompt=0, pos=[1, 2]))
    assert drawn(view)["positions"] == [1, 2]
    assert view.table()["pos"].tolist() == [1, 2]


def test_the_groups_of_a_result_are_choices_on_one_scale():
    view = views.tokens(result().isel(prompt=0))
    assert [choice["name"] for choice in drawn(view)["choices"]] == ["local", "global"]
    assert limits(view) == [(0.0, 2.0), (0.0, 2.0)]


def test_each_metric_has_its_own_scale_and_its_unit():
    values = xr.DataArray(
        [[[1.0, 3.0], [-1.0, 0.5]], [[2.0, 4.0], [-2.0, 0.0]]],
        dims=("group", "metric", "pos"),
        coords={"group": ["a", "b"], "metric": ["loss", "logit_difference"], "token": ("pos", ["x", "y"])},
    )
    view = views.tokens(values)
    assert [choice["name"] for choice in drawn(view)["choices"]] == [
        "a loss",
        "a logit_difference",
        "b loss",
        "b logit_difference",
    ]
    assert limits(view) == [(0.0, 4.0), (-2.0, 2.0)] * 2
    assert [choice["unit"] for choice in drawn(view)["choices"]] == ["nats per token", "logits"] * 2
    assert [choice["unit"] for choice in drawn(views.tokens(values, unit="bits"))["choices"]] == ["bits"] * 4
    assert drawn(views.tokens(values.sel(metric="loss", group="a")))["choices"][0]["unit"] == "nats per token"


def test_heads_are_named_with_their_kind_as_in_attention_views():
    values = xr.DataArray(
        np.zeros((2, 1, 1)),
        dims=("layer", "head", "pos"),
        coords={
            "layer": [0, 1],
            "head": [3],
            "attention_kind": ("layer", ["global", "local"]),
            "window": ("layer", [np.nan, 16.0]),
            "token": ("pos", ["a"]),
        },
    )
    names = [choice["name"] for choice in drawn(views.tokens(values))["choices"]]
    assert names == ["0.3 global", "1.3 local 16"]
    names = [choice["name"] for choice in drawn(views.tokens(values.isel(head=0)))["choices"]]
    assert names == ["layer 0 global", "layer 1 local 16"]


LIMITS = {
    "from 0 where nothing is below": ([1.0, 4.0], None, (0.0, 4.0)),
    "around 0 where something is": ([-1.0, 4.0], None, (-4.0, 4.0)),
    "by size": ([-5.0, 4.0], None, (-5.0, 5.0)),
    "undefined values left out": ([-1.0, float("nan")], None, (-1.0, 0.0)),
    "to 0 where nothing is above": ([-4.0, -1.0], None, (-4.0, 0.0)),
    "given, to 0": ([-4.0, -1.0], 2.0, (-2.0, 0.0)),
    "all 0": ([0.0, 0.0], None, (0.0, 1.0)),
    "nothing defined": ([float("nan")] * 2, None, (0.0, 1.0)),
    "given": ([1.0, 4.0], 2.0, (0.0, 2.0)),
    "given, around 0": ([-1.0, 4.0], 2.0, (-2.0, 2.0)),
}


@pytest.mark.parametrize(("values", "limit", "ends"), LIMITS.values(), ids=LIMITS)
def test_colours_diverge_around_0_only_where_a_value_is_below_it(values, limit, ends):
    assert limits(views.tokens(torch.tensor(values), ["a", "b"], limit=limit)) == [ends]


def test_values_are_told_to_four_digits_and_0_only_where_it_is_exact():
    data = drawn(views.tokens(torch.tensor([1 / 3, 1e-9, 0.0, -12345.6]), list("abcd")))
    assert data["choices"][0]["values"] == [0.3333, 1e-9, 0.0, -12350.0]


def test_a_tensor_with_several_rows_has_a_choice_of_them():
    data = drawn(views.tokens(torch.tensor([[1.0, 2.0], [3.0, 4.0]]), ["a", "b"]))
    assert [(choice["name"], choice["values"]) for choice in data["choices"]] == [
        ("row 0", [1.0, 2.0]),
        ("row 1", [3.0, 4.0]),
    ]


@pytest.fixture(scope="module")
def lab():
    return neolens.load("lab/gpt-neo")


def test_a_model_reads_a_text_with_bos_before_it_and_names_tokens(lab):
    text = "judge buys plates"
    tokens = lab.to_tokens(text, prepend_bos=True)
    expected = ["<bos>", "judge", "buys", "plates"]
    values = torch.arange(4.0)
    assert drawn(views.tokens(values, text, model=lab))["tokens"] == expected
    assert drawn(views.tokens(values, tokens, model=lab))["tokens"] == expected
    assert drawn(views.tokens(values, tokens[0], model=lab))["tokens"] == expected
    assert drawn(views.tokens(values, tokens))["tokens"] == [str(token) for token in tokens[0].tolist()]


def test_the_loss_of_an_ablation_is_shown_at_every_token_but_the_last(bridges):
    model, tokens = bridges["gpt-neo"], tiny.tokens(batch=2)
    lost = neolens.ablate(model, tokens, neolens.by_kind(model), progress=False, how="zero")
    view = views.tokens(lost["baseline"].isel(prompt=0), tokens[0], unit="nats per token")
    logits = model(tokens[:1])[0, :-1].log_softmax(-1)
    truth = -logits.gather(-1, tokens[0, 1:, None])[:, 0]
    *shown, last = drawn(view)["choices"][0]["values"]
    torch.testing.assert_close(torch.tensor(shown), truth, rtol=1e-3, atol=1e-4)
    assert last is None


def test_a_patch_brings_its_tokens_and_its_heads(lab):
    from neolens.prompts import induction

    pairs = induction(lab, prompts=2, distance=8)
    patched = neolens.patch(lab, pairs, "z", layers=[1], progress=False)["patched"].isel(prompt=0)
    data = drawn(views.tokens(patched))
    assert data["tokens"] == list(pairs.words[0])
    assert [choice["name"] for choice in data["choices"]] == [f"1.{head} local 16" for head in range(4)]
    np.testing.assert_allclose(data["choices"][2]["values"], patched.values[0, 2], rtol=1e-3)


def test_the_table_of_a_view_has_positions_tokens_and_a_column_for_each_choice():
    table = views.tokens(result().isel(prompt=0)).table()
    assert list(table.columns) == ["pos", "token", "local", "global"]
    assert table["token"].tolist() == ["<BOS>", " the", " cat"]
    np.testing.assert_array_equal(table["global"], [0.25, 1.0, np.nan])
    single = views.tokens(result().sel(group="local", prompt=0)).table()
    assert list(single.columns) == ["pos", "token", "ablated"]


def test_a_hostile_token_cannot_end_the_script_nor_become_an_element_and_is_a_cell_of_the_table():
    view = views.tokens(torch.tensor([1.0]), [HOSTILE], title=HOSTILE, unit=HOSTILE)
    assert str(view).lower().count("</script>") == 2
    assert "<img" not in str(view)
    assert drawn(view)["tokens"] == [HOSTILE]
    rows = list(csv.reader(io.StringIO(view.table().to_csv(index=False))))
    assert rows == [["pos", "token", "value"], ["0", HOSTILE, "1.0"]]


REFUSED = {
    "prompts": (lambda: views.tokens(result().sel(group="local")), "values of 2 prompts: choose one"),
    "no positions": (lambda: views.tokens(result().isel(pos=0, prompt=0)), "values by group: expected one axis of pos"),
    "no tokens": (
        lambda: views.tokens(torch.tensor([1.0])),
        "do not bring their tokens: give words, or the tokens or the text with model",
    ),
    "too few words": (
        lambda: views.tokens(torch.tensor([1.0, 2.0]), ["a"]),
        "1 tokens do not fit values at 2 positions: give a token for each",
    ),
    "infinite": (
        lambda: views.tokens(torch.tensor([1.0, float("inf")]), ["a", "b"]),
        "the value at position 1 is infinite: expected numbers, or NaN",
    ),
    "text without a model": (lambda: views.tokens(torch.tensor([1.0]), "a"), "a text is read by a model's tokenizer"),
    "limit": (lambda: views.tokens(torch.tensor([1.0]), ["a"], limit=0.0), "limit 0.0: expected a number above 0"),
    "no end": (lambda: views.tokens(torch.tensor([1.0]), ["a"], limit=np.inf), "limit inf: expected a number above 0"),
    "nothing": (lambda: views.tokens(torch.tensor([]), []), r"values of shape \(0,\): expected one number for each"),
    "too many": (
        lambda: views.tokens(torch.zeros(600, 1000), ["a"] * 1000),
        "600 values for each of 1,000 tokens are too many for one view: choose at most 500 of them",
    ),
}


@pytest.mark.parametrize(("call", "message"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_coloured_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: views.tokens(result().to_dataset()), "a whole dataset: choose one of its variables, ablated"),
        (lambda: views.tokens(torch.tensor([1.0]), [3]), r"words\[0\] 3: expected a string"),
    ],
    ids=["dataset", "words"],
)
def test_what_is_of_another_type_is_refused(call, message):
    with pytest.raises(TypeError, match=message):
        call()


def test_choices_of_any_name_keep_their_columns_in_the_table():
    values = xr.DataArray([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], dims=("group", "pos"))
    table = views.tokens(values.assign_coords(group=["pos", "token", "token"]), ["a", "b"]).table()
    assert table.columns.tolist() == ["pos", "token", "pos", "token", "token"]
    assert table.values.tolist() == [[0, "a", 1.0, 3.0, 5.0], [1, "b", 2.0, 4.0, 6.0]]


def test_complex_values_are_refused():
    with pytest.raises(TypeError, match="complex values: expected real numbers"):
        views.tokens(torch.tensor([1.0 + 1j]), ["a"])
