"""Attention views draw what they are given, need no network, and show any token as text."""

import json
import socket
from types import SimpleNamespace

import pytest
import torch

import browser
import tiny
from browser import Parsed
from neolens import views
from neolens.figures import GLOBAL_COLOUR, LOCAL_COLOUR
from neolens.views.labels import NEITHER

HOSTILE = "</script><img src=x onerror=alert(1)>"


def uniform(heads: int, length: int) -> torch.Tensor:
    """Every query looks equally at all keys up to itself."""
    causal = torch.ones(length, length).tril()
    return (causal / causal.sum(-1, keepdim=True)).expand(heads, -1, -1)


def props(view: views.View) -> dict:
    """The data that the view hands to circuitsvis."""
    return json.loads(view.draw.partition("CircuitsVis.AttentionHeads, ")[2].rpartition(")")[0])


def test_a_view_holds_the_pattern_its_tokens_and_the_names_of_its_heads():
    view = views.attention_view(["a", " b", " c"], uniform(2, 3), ["1.0 local 2", "1.1 local 2"])
    data = props(view)
    assert data["attention"][1] == [[1.0, 0.0, 0.0], [0.5, 0.5, 0.0], [0.3333, 0.3333, 0.3333]]
    assert data["tokens"] == ["a", " b", " c"]
    assert data["attentionHeadNames"] == ["1.0 local 2", "1.1 local 2"]
    assert (data["minValue"], data["maxValue"]) == (0, 1)


COLOURS = {
    "local": (["1.0 local 16", "3.1 local 16"], LOCAL_COLOUR),
    "global": (["0.0 global", "2.1 global"], GLOBAL_COLOUR),
    "mixed": (["0.0 global", "1.0 local 16"], NEITHER),
    "not named": (["first", "second"], NEITHER),
}


@pytest.mark.parametrize(("labels", "colour"), COLOURS.values(), ids=COLOURS)
def test_heads_of_one_kind_have_the_colour_of_the_kind(labels, colour):
    assert props(views.attention_view(["a", "b"], uniform(2, 2), labels))["positiveColor"] == colour


def test_nothing_is_asked_of_the_network_when_a_view_is_made_or_shown(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("a view opened a connection")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    view = views.attention_view(["a"], uniform(1, 1), ["0.0 global"])
    assert str(view).count("CircuitsVis.render(") == 1
    assert view._repr_html_().count("CircuitsVis.render(") == 1


def test_a_page_with_the_view_names_no_address_to_load_from():
    page = Parsed(str(views.attention_view(["a"], uniform(1, 1), ["0.0 global"])))
    assert not [attrs for _, attrs in page.elements if "src" in attrs or "href" in attrs]
    assert not any("unpkg" in script or "sourceMappingURL" in script for script in page.scripts)


def test_two_showings_of_one_view_draw_into_elements_of_their_own():
    view = views.attention_view(["a"], uniform(1, 1), ["0.0 global"])
    names = [attrs["id"] for shown in (str(view), str(view)) for attrs in Parsed(shown).tags("div") if "id" in attrs]
    assert len(set(names)) == 2


def test_a_token_that_would_end_the_script_stays_in_it_and_is_text_outside():
    page = Parsed(str(views.attention_view([HOSTILE], uniform(1, 1), [HOSTILE], title=HOSTILE)))
    assert page.tags("img") == []
    assert len(page.scripts) == 2
    assert page.text.count(HOSTILE) == 2  # title and token
    assert "\\u003c/script\\u003e" in page.scripts[1]


@pytest.mark.parametrize(
    ("token", "shown"),
    [
        (" a\n", " a⏎"),
        ("\t\r", "⇥␍"),
        ("\x00\u202e", "\\u0000\\u202e"),
        (" é猫", " é猫"),
        ("\ud800", "\\ud800"),
    ],
)
def test_invisible_characters_are_written_out(token, shown):
    assert views.visible(token) == shown


REFUSED = {
    # 3,700 * 3,701 / 2 = 6,846,850 causal cells; 3,605 * 3,606 / 2 = 6,499,815 are the last that fit into 6,500,000
    "too long": (
        (["a"] * 3700, uniform(1, 3700), ["0.0"]),
        "a head of 3,700 tokens holds 6,846,850 attention values, too many for one view: pass at most 3,605 tokens",
    ),
    # 1,024 * 1,025 / 2 = 524,800 a head, of which 12 are 6,297,600; 14 heads of 963 tokens are 6,498,324
    "too many heads": (
        (["a"] * 1024, uniform(14, 1024), ["0"] * 14),
        "14 heads of 1,024 tokens hold 7,347,200 .* at most 12 of these heads, or pass at most 963 tokens",
    ),
    "no tokens": (
        ([], uniform(1, 1)[:, :0, :0], ["0.0"]),
        "nothing to draw: 1 labels and 0 tokens, expected at least one of each",
    ),
    "later keys": (
        (["a", "b"], torch.full((1, 2, 2), 0.5), ["1.0 local 2"]),
        "head '1.0 local 2' gives key 1 at query 0 the value 0.5: expected causal attention",
    ),
    "undefined": ((["a"], torch.full((1, 1, 1), torch.nan), ["0.0"]), "key 0 at query 0 the value nan"),
    "above 1": ((["a"], torch.full((1, 1, 1), 1.5), ["0.0"]), "key 0 at query 0 the value 1.5"),
    "below 0": ((["a"], torch.full((1, 1, 1), -0.5), ["0.0"]), "key 0 at query 0 the value -0.5"),
    "labels": ((["a", "b"], uniform(2, 2), ["0.0"]), r"shape \(2, 2, 2\) does not fit 1 labels and 2 tokens"),
    "tokens": (
        (["a", "b", "c"], uniform(1, 2), ["0.0"]),
        r"expected \(head, query_pos, key_pos\) = \(1, 3, 3\)",
    ),
}


@pytest.mark.parametrize(("given", "message"), REFUSED.values(), ids=REFUSED)
def test_a_view_that_does_not_fit_is_refused(given, message):
    with pytest.raises(ValueError, match=message):
        views.attention_view(*given)


class Words:
    """A tokenizer of three words."""

    unk_token_id = None

    def decode(self, tokens: list[int], clean_up_tokenization_spaces: bool) -> str:
        return ["<BOS>", " the", " cat"][tokens[0]]


@pytest.fixture
def model(monkeypatch) -> SimpleNamespace:
    """Two layers (global, local 2) of two heads; head h of layer l gives key 0 the value (l + h / 10) / 2."""
    import neolens.models
    import neolens.network

    monkeypatch.setattr(views, "attention", views.attention.__wrapped__)  # no check that the model is a real one
    spans = (neolens.models.AttentionSpan("global"), neolens.models.AttentionSpan("local", 2))
    facts = SimpleNamespace(name="tiny", layers=2, heads=2, attention=spans)

    def head_patterns(model, tokens, heads):
        whole = {layer: torch.zeros(len(its), len(tokens), len(tokens)) for layer, its in heads.items()}
        for layer, its in heads.items():
            whole[layer][:, :, 0] = (layer + torch.tensor(its)[:, None] / 10) / 2
        return whole

    monkeypatch.setattr(neolens.models, "anatomy", lambda model: facts)
    monkeypatch.setattr(neolens.network, "head_patterns", head_patterns)

    def to_tokens(text, prepend_bos, truncate):
        return torch.tensor([[0, *(1 + (word == "cat") for word in text.split())]])

    return SimpleNamespace(tokenizer=Words(), to_tokens=to_tokens)


def test_a_model_and_a_text_become_a_view_of_every_head_named_with_its_kind(model):
    data = props(views.attention(model, "the cat"))
    assert data["tokens"] == ["<BOS>", " the", " cat"]
    assert data["attentionHeadNames"] == ["0.0 global", "0.1 global", "1.0 local 2", "1.1 local 2"]
    assert [head[2][0] for head in data["attention"]] == [0.0, 0.05, 0.5, 0.55]


@pytest.mark.parametrize("tokens", [torch.tensor([2, 1]), torch.tensor([[2, 1]])], ids=["row", "batch of one"])
def test_chosen_layers_and_heads_alone_are_shown_in_the_order_asked_for(model, tokens):
    data = props(views.attention(model, tokens, layers=[1, 0], heads=[1]))
    assert data["tokens"] == [" cat", " the"]
    assert data["attentionHeadNames"] == ["1.1 local 2", "0.1 global"]
    assert [head[0][0] for head in data["attention"]] == [0.55, 0.05]


def test_a_model_without_a_tokenizer_shows_the_numbers_of_the_tokens(model):
    model.tokenizer = None
    assert props(views.attention(model, torch.tensor([2, 0])))["tokens"] == ["2", "0"]
    with pytest.raises(ValueError, match="no tokenizer, so it takes no text"):
        views.attention(model, "the cat")


def test_a_local_layer_of_a_real_network_shows_exactly_0_beyond_its_window_and_rows_that_sum_to_1(bridges):
    tokens = tiny.tokens(batch=1)[0]
    data = props(views.attention(bridges["gpt-neo"], tokens, layers=[1]))
    assert data["attentionHeadNames"][3] == f"1.3 local {tiny.WINDOW}"
    pattern = torch.tensor(data["attention"])
    query, key = torch.meshgrid(torch.arange(len(tokens)), torch.arange(len(tokens)), indexing="ij")
    assert len(tokens) > tiny.WINDOW
    assert (pattern[:, query - key >= tiny.WINDOW] == 0).all()
    torch.testing.assert_close(pattern.sum(-1), torch.ones(pattern.shape[:2]), atol=1e-3, rtol=0)


BAD_CHOICE = {
    "layer": ({"layers": [2]}, "no layer 2 in tiny: layers are 0 to 1"),
    "head": ({"heads": [0, -1]}, "no head -1 in tiny: heads are 0 to 1"),
    "none": ({"layers": []}, r"layers \[\]: expected at least one of 0 to 1"),
}


@pytest.mark.parametrize(("choice", "message"), BAD_CHOICE.values(), ids=BAD_CHOICE)
def test_a_layer_or_head_that_does_not_exist_is_refused(model, choice, message):
    with pytest.raises(ValueError, match=message):
        views.attention(model, "the cat", **choice)


def test_a_prompt_that_is_too_long_is_refused_before_the_model_runs(model, monkeypatch):
    import neolens.network

    monkeypatch.setattr(neolens.network, "head_patterns", lambda *args: pytest.fail("the model ran"))
    with pytest.raises(ValueError, match=r"4 heads of 3,000 tokens .* at most 1 of these heads, or pass at most"):
        views.attention(model, torch.zeros(3000, dtype=torch.long))


@browser.needed
def test_a_browser_without_a_network_draws_the_view_and_shows_a_hostile_token_as_text(tmp_path):
    tokens = ["<BOS>", " the", HOSTILE, " cat\n"]
    view = views.attention_view(tokens, uniform(2, 4), ["1.0 local 2", "1.1 local 2"], title="lab/neo")
    seen = browser.opened(f"<!DOCTYPE html><meta charset=utf-8><body>{view}</body>", tmp_path)
    page = Parsed(seen.document)
    assert seen.console == []
    assert seen.requests == []
    assert len(page.tags("canvas")) == 3  # a small one for each head, and the one that is looked at
    assert page.tags("img") == []
    assert HOSTILE in page.text
    assert "1.1 local 2" in page.text
