"""Long patterns as one byte a value: what is kept, how far it is off, how large and how fast it may be."""

import base64
import json
import zlib

import numpy as np
import pytest
import torch
from circuitsvis.attention import attention_heads
from hypothesis import given
from hypothesis import strategies as st

import neolens
from benchmarks.common import alternating, median_ratio
from neolens import views
from neolens.figures import GLOBAL_COLOUR, LOCAL_COLOUR, offline
from neolens.views import packing

HOSTILE = "</script><img src=x onerror=alert(1)>"


def random_pattern(heads: int, length: int, window: int | None = None, spread: float = 2.5) -> torch.Tensor:
    """Softmax of random scores, which no compression finds an order in."""
    back = torch.arange(length)[:, None] - torch.arange(length)
    scores = spread * torch.randn(heads, length, length)
    return scores.masked_fill((back < 0) | (back >= (window or length)), -torch.inf).softmax(-1)


def drawn(view: views.View) -> dict:
    """The data that the view hands to its script."""
    return json.loads(view.draw.partition("neolensAttention(element, ")[2].removesuffix(")"))


def unpacked(head: dict, length: int) -> np.ndarray:
    """The values of a head, as a reader in plain loops would restore them."""
    codes = iter(zlib.decompress(base64.b64decode(head["cells"])))
    values = np.zeros((length, length))
    for query in range(length):
        for key in range(max(0, query - head["width"] + 1), query + 1):
            values[query, key] = (next(codes) / 255) ** 4
    assert list(codes) == []
    return values


def words(length: int) -> list[str]:
    return [f" w{position}" for position in range(length)]


@pytest.mark.parametrize("window", [None, 16], ids=["global", "local"])
def test_a_long_pattern_is_kept_within_the_error_that_the_view_states(window):
    pattern = random_pattern(2, 150, window)
    label = "global" if window is None else f"local {window}"
    data = drawn(views.attention_view(words(150), pattern, [f"1.0 {label}", f"1.1 {label}"]))
    off = 0.0
    for head, truth in zip(data["heads"], pattern.numpy(), strict=True):
        values = unpacked(head, 150)
        np.testing.assert_array_equal(values == 0, truth == 0)
        off = max(off, np.abs(values - truth).max())
    assert off <= 1 - (254.5 / 255) ** 4  # half a step of the fourth root, at its largest
    stated = float(data["precision"].split("more than ")[1].split(",")[0])
    assert stated == pytest.approx(off, rel=0.05)
    below = float(data["precision"].split("more than ")[2].rstrip("."))
    small = (pattern < 0.01) & (pattern > 0)
    worst = max(
        np.abs(unpacked(head, 150) - truth.numpy())[its.numpy()].max()
        for head, truth, its in zip(data["heads"], pattern, small, strict=True)
    )
    assert worst <= below < 3e-4


@given(st.floats(0, 1))
def test_a_value_is_restored_within_the_precision_of_its_code_and_only_0_is_0(value):
    (code,) = packing.quantised(np.array([value]))
    (restored,) = packing.restored(np.array([code]))
    assert abs(restored - value) <= packing.precision(int(code)) * (1 + 1e-12)
    assert packing.precision(int(code)) <= packing.LARGEST_ERROR
    assert (code == 0) == (value == 0)


def test_the_largest_error_of_a_byte_a_value_is_what_is_documented():
    assert pytest.approx(0.0078, abs=5e-5) == packing.LARGEST_ERROR
    values = np.linspace(0, 1, 1_000_001)
    assert np.abs(packing.restored(packing.quantised(values)) - values).max() <= packing.LARGEST_ERROR


def test_a_local_head_is_kept_as_the_band_of_its_window():
    data = drawn(views.attention_view(words(200), random_pattern(1, 200, 32), ["1.0 local 32"]))
    (head,) = data["heads"]
    assert (head["window"], head["width"], head["colour"]) == (32, 32, LOCAL_COLOUR)
    assert len(zlib.decompress(base64.b64decode(head["cells"]))) == 200 * 32 - 32 * 31 // 2


def test_what_lies_beyond_a_named_window_is_kept_all_the_same():
    pattern = random_pattern(1, 200)
    (head,) = drawn(views.attention_view(words(200), pattern, ["1.0 local 32"]))["heads"]
    assert (head["window"], head["width"]) == (32, 200)
    np.testing.assert_allclose(unpacked(head, 200), pattern[0], atol=packing.LARGEST_ERROR)


@pytest.mark.parametrize("window", [1, 3, 7, 8, 20, None])
def test_the_cells_that_are_counted_are_those_that_are_kept(window):
    count = sum(0 <= query - key < (window or 8) for query in range(8) for key in range(8))
    assert packing.cells(8, window) == count
    assert packing.seen(8, window or 8).sum() == count


def test_heads_carry_their_own_colours_and_labels():
    pattern = torch.cat([random_pattern(1, 140), random_pattern(1, 140, 16)])
    heads = drawn(views.attention_view(words(140), pattern, ["0.0 global", "1.0 local 16"]))["heads"]
    assert [(head["label"], head["colour"]) for head in heads] == [
        ("0.0 global", GLOBAL_COLOUR),
        ("1.0 local 16", LOCAL_COLOUR),
    ]


BARS = {"12 x 300": (300, 1e6), "12 x 1,024": (1024, 8e6)}


@pytest.mark.parametrize(("length", "most_bytes"), BARS.values(), ids=BARS)
@pytest.mark.parametrize("spread", [1.0, 4.0])
def test_twelve_heads_of_incompressible_patterns_stay_within_their_bars(length, most_bytes, spread):
    pattern, labels = random_pattern(12, length, spread=spread), [f"0.{head} global" for head in range(12)]
    page = str(views.attention_view(words(length), pattern, labels))
    assert len(page.encode()) <= most_bytes


def test_a_compact_picture_is_built_in_half_of_the_time_of_circuitsviss_at_most():
    pattern, labels = random_pattern(12, 300), [f"0.{head} global" for head in range(12)]
    runs = {
        "ours": lambda: str(views.attention_view(words(300), pattern, labels)),
        "theirs": lambda: str(attention_heads(pattern, words(300), labels)),
    }
    assert median_ratio(alternating(runs, rounds=3), "ours", "theirs") <= 0.5


PICTURES = {
    "short": (39, 20, None, "CircuitsVis"),
    "long": (40, 1, None, "neolensAttention"),
    "short with many heads": (39, 216, None, "neolensAttention"),
    "long, by circuitsvis": (128, 20, True, "CircuitsVis"),
    "short, not by circuitsvis": (3, 1, False, "neolensAttention"),
}


@pytest.mark.parametrize(("length", "heads", "asked", "by"), PICTURES.values(), ids=PICTURES)
def test_circuitsvis_draws_a_few_tokens_or_what_it_can_on_request_and_a_compact_picture_the_rest(
    length, heads, asked, by
):
    labels = [f"0.{head} global" for head in range(heads)]
    view = views.attention_view(words(length), random_pattern(heads, length), labels, circuitsvis=asked)
    assert by in view.draw
    assert by in view.script


@pytest.mark.parametrize(("length", "heads"), [(129, 1), (128, 21)])
def test_what_circuitsvis_does_not_draw_is_refused_with_what_it_would(length, heads):
    labels = [f"0.{head} global" for head in range(heads)]
    with pytest.raises(ValueError, match="at most 128 tokens and 19 heads|at most 128 tokens and 20 heads"):
        views.attention_view(words(length), random_pattern(heads, length), labels, circuitsvis=True)


@pytest.mark.parametrize("first", ["0.1 global", "0.1"])
def test_a_view_opens_with_the_head_that_is_asked_for(first):
    labels, pattern = ["0.0 global", "0.1 global", "0.2 global"], random_pattern(3, 50)
    data = drawn(views.attention_view(words(50), pattern, labels, first=first))
    assert data["first"] == 1
    assert [head["label"] for head in data["heads"]] == labels
    assert drawn(views.attention_view(words(50), pattern, labels))["first"] == 0
    short = views.attention_view(words(5), random_pattern(3, 5), labels, first=first).draw
    assert '"attentionHeadNames":["0.1 global","0.0 global","0.2 global"]' in short


def test_a_view_of_a_model_says_whether_bos_was_added_and_opens_with_a_head():
    model = neolens.load("lab/gpt2")
    text = views.attention(model, "the the the", layers=[1], first="1.2")
    assert "BOS was added before the text, as token 0" in text.body
    assert text.draw.index('"1.2 global"') < text.draw.index('"1.0 global"')
    tokens = views.attention(model, model.to_tokens("the the the", prepend_bos=True), layers=[1], first=(1, 2))
    assert "BOS" not in tokens.body
    assert tokens.draw == text.draw
    with pytest.raises(ValueError, match=r"first '0\.0': no such head in the view, which has 1\.0 global"):
        views.attention(model, "the the the", layers=[1], first="0.0")


@pytest.mark.parametrize("length", [3, 130], ids=["short", "long"])
def test_the_table_of_a_view_has_a_row_for_each_head_query_and_earlier_key(length):
    pattern = random_pattern(2, length)
    table = views.attention_view(words(length), pattern, ["0.0 global", "0.1 global"]).table()
    expected = [
        (f"0.{head} global", query, f" w{query}", key, f" w{key}", pattern[head, query, key].item())
        for head in range(2)
        for query in range(length)
        for key in range(query + 1)
    ]
    assert list(table.columns) == ["head", "query_pos", "query", "key_pos", "key", "attention"]
    assert list(table.itertuples(index=False, name=None)) == expected


def test_patterns_of_low_precision_and_with_gradients_are_drawn():
    pattern = random_pattern(1, 140)
    rounded = pattern.to(torch.bfloat16).requires_grad_()
    (head,) = drawn(views.attention_view(words(140), rounded, ["0.0 global"]))["heads"]
    np.testing.assert_allclose(unpacked(head, 140), pattern[0], atol=packing.LARGEST_ERROR + 2**-9)


def test_a_hostile_token_of_a_long_prompt_cannot_end_the_script_nor_become_an_element():
    view = views.attention_view([HOSTILE] * 130, random_pattern(1, 130), [HOSTILE], title=HOSTILE)
    assert str(view).lower().count("</script>") == 2
    assert "<img" not in str(view)
    assert drawn(view)["tokens"] == [HOSTILE] * 130
    assert set(view.table()["query"]) == {HOSTILE}


def test_a_view_is_saved_whole_with_a_policy_that_forbids_requests(tmp_path):
    view = views.attention_view(["\ud800"] * 130, random_pattern(1, 130), ["0.0 global"], title="\ud800<b>")
    path = view.save(tmp_path / "made" / "a<b.html")
    page = path.read_text(encoding="utf-8")
    assert f'<meta http-equiv="Content-Security-Policy" content="{offline.POLICY}">' in page
    assert offline.POLICY.startswith("default-src 'none';")
    assert "<title>a&lt;b</title>" in page
    assert "&#55296;&lt;b&gt;" in page
    assert list(path.parent.iterdir()) == [path]


def test_a_view_that_cannot_be_put_in_place_leaves_the_folder_as_it_was(tmp_path):
    (tmp_path / "view.html").mkdir()
    with pytest.raises(ValueError, match="is a folder: expected the name of a file"):
        views.attention_view(["a"], torch.ones(1, 1, 1), ["0.0 global"]).save(tmp_path / "view.html")
    assert [path.name for path in tmp_path.iterdir()] == ["view.html"]


def test_equal_views_are_equal_whatever_their_tables():
    one, other = (views.attention_view(["a"], torch.ones(1, 1, 1), ["0.0 global"]) for _ in range(2))
    assert one == other
    assert "table" not in repr(one)
