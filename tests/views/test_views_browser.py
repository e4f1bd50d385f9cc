"""Every kind of view in a real browser without a network: drawn, read by pointer and by keys, safe, silent."""

import base64
import re
from typing import Any

import numpy as np
import pytest
import torch

import browser
from neolens import report, views
from neolens.figures import LOCAL_COLOUR

pytestmark = browser.needed

HOSTILE = "</script><img src=x onerror=alert(1)>"
LENGTH, WINDOW = 260, 64
LABELS = ["0.0 global", "0.1 global", "1.0 local 64"]
LEFT, TOP, SIDE = 96, 6, 520  # of the large picture in attention.js
ZERO = (222, 227, 232)
LARGE = ".neolens-plot canvas + canvas"


@pytest.fixture(scope="module")
def pattern() -> torch.Tensor:
    """Two global heads, the first of which attends to the token before, and a local one."""
    torch.manual_seed(0)
    back = torch.arange(LENGTH)[:, None] - torch.arange(LENGTH)
    scores = 2.5 * torch.randn(3, LENGTH, LENGTH)
    scores[0, back == 1] += 9
    scores[:, back < 0] = -torch.inf
    scores[2, back >= WINDOW] = -torch.inf
    return scores.softmax(-1)


@pytest.fixture(scope="module")
def view(pattern: torch.Tensor) -> views.View:
    words = [HOSTILE if position == 200 else f" w{position}" for position in range(LENGTH)]
    return views.attention_view(words, pattern, LABELS, title="model <b>")


def alone(view: views.View, folder) -> Any:
    return view.save(folder / "view.html")


def in_report(view: views.View, folder) -> str:
    return report.page("Report", [report.Figure(view, "first"), report.Figure(view, "second")])


def in_notebook(view: views.View, folder) -> str:
    """As notebooks show output: HTML put into a page that is there already, its scripts made anew so that they run."""
    packed = base64.b64encode(view._repr_html_().encode()).decode()
    return f"""<!DOCTYPE html><meta charset="utf-8"><body><div></div><div></div><script>
      const html = new TextDecoder().decode(Uint8Array.from(atob("{packed}"), (char) => char.charCodeAt(0)));
      for (const cell of document.querySelectorAll("div")) {{
        cell.innerHTML = html.replace(/neolens-[0-9a-f-]{{36}}/g, (name) => name + cell.matches(":first-child"));
        for (const old of cell.querySelectorAll("script")) {{
          old.replaceWith(Object.assign(document.createElement("script"), {{ textContent: old.textContent }}));
        }}
      }}
    </script></body>"""


SETTINGS = {"file": alone, "report": in_report, "notebook": in_notebook}


def pixels(tab: Any, canvas: str) -> np.ndarray:
    """The colours of a canvas, [row, column, red green blue], at one pixel of it for one of the page."""
    width, height, packed = tab.locator(canvas).first.evaluate(
        """canvas => {
          const { data, width, height } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
          const part = (at) => String.fromCharCode(...data.subarray(at, at + 8192));
          const parts = Array.from({ length: Math.ceil(data.length / 8192) }, (_, at) => part(8192 * at));
          return [width, height, btoa(parts.join(""))];
        }"""
    )
    return np.frombuffer(base64.b64decode(packed), np.uint8).reshape(height, width, 4)[..., :3].astype(int)


def place(query: float, key: float, region: tuple[int, int, int, int] = (0, LENGTH, 0, LENGTH)) -> dict[str, float]:
    """Where the middle of a cell stands in the large picture, whose queries and keys are those of `region`."""
    q0, q1, k0, k1 = region
    return {"x": LEFT + (key + 0.5 - k0) / (k1 - k0) * SIDE, "y": TOP + (query + 0.5 - q0) / (q1 - q0) * SIDE}


def told(tab: Any, query: int, key: int) -> str:
    tab.locator(LARGE).hover(position=place(query, key))
    return tab.locator("output").inner_text()


def drag(tab: Any, start: dict[str, float], end: dict[str, float]) -> None:
    box = tab.locator(LARGE).bounding_box()
    tab.mouse.move(box["x"] + start["x"], box["y"] + start["y"])
    tab.mouse.down()
    tab.mouse.move(box["x"] + end["x"], box["y"] + end["y"], steps=4)
    tab.mouse.up()


def shown(tab: Any) -> str:
    """The queries and keys that the large picture says it shows."""
    label = tab.locator(LARGE).get_attribute("aria-label")
    return re.search(r"queries .* to \d+", label)[0]


def blended(colour: str, share: float) -> np.ndarray:
    """White with this share of a colour."""
    full = np.array([int(colour[at : at + 2], 16) for at in (1, 3, 5)])
    return 255 + (full - 255) * share


@pytest.mark.parametrize("setting", SETTINGS.values(), ids=SETTINGS)
def test_a_long_pattern_is_drawn_in_every_setting_without_an_error_or_a_request(setting, view, tmp_path):
    def visit(tab):
        return pixels(tab, ".neolens-plot canvas"), pixels(tab, "fieldset canvas"), tab.inner_text("body")

    seen = browser.opened(setting(view, tmp_path), tmp_path, visit)
    large, small, text = seen.answer
    assert seen.console == []
    assert seen.requests == []
    assert len(np.unique(large.reshape(-1, 3), axis=0)) > 50
    assert len(np.unique(small.reshape(-1, 3), axis=0)) > 10
    assert "1.0 local 64" in text
    assert "A byte a value: no value shown is off by more than" in text
    shows = 1 if setting is alone else 2
    assert len(browser.Parsed(seen.document).tags("canvas")) == shows * (len(LABELS) + 2)


@pytest.mark.parametrize("setting", SETTINGS.values(), ids=SETTINGS)
def test_a_coloured_text_is_drawn_in_every_setting_without_an_error_or_a_request(setting, tmp_path):
    view = views.tokens(torch.tensor([[1.0, 2.0, float("nan")], [-1.0, 0.0, 3.0]]), ["a", HOSTILE, "c\n"])
    seen = browser.opened(
        setting(view, tmp_path), tmp_path, lambda tab: tab.locator(".neolens-text").first.inner_text()
    )
    assert seen.console == []
    assert seen.requests == []
    assert seen.answer.replace("\n", "") == f"a{HOSTILE}c⏎"
    assert browser.Parsed(seen.document).tags("img") == []


def test_hover_tells_the_token_and_the_value_within_the_precision_that_it_tells(view, pattern, tmp_path):
    cells = [(150, 149), (150, 20), (200, 3), (259, 0), (1, 1), (0, 0), (120, 7), (77, 40)]
    answers = browser.opened(
        alone(view, tmp_path), tmp_path, lambda tab: [told(tab, query, key) for query, key in cells]
    ).answer
    for (query, key), text in zip(cells, answers, strict=True):
        first, second, third = text.split("\n")
        assert first == f"query {query} “{HOSTILE if query == 200 else f' w{query}'}”"
        assert second == f"key {key} “ w{key}”, {query - key} back"
        value, known = map(float, re.fullmatch(r"attention (\S+) ± (\S+)", third).groups())
        assert abs(value - pattern[0, query, key].item()) <= known
        assert known <= max(0.02, 0.2 * value)


def test_cells_that_are_exactly_0_are_told_from_those_that_are_small(pattern, tmp_path):
    pattern = pattern.clone()
    pattern[2, 100, 90] = 1e-12
    pattern[2, 100, 91] = 0
    view = views.attention_view([f"w{position}" for position in range(LENGTH)], pattern, LABELS)

    def visit(tab):
        tab.get_by_label("1.0 local 64").check()
        return [told(tab, *cell).split("\n")[-1] for cell in ((100, 90), (100, 91), (100, 30), (30, 100))]

    small, zero, beyond, later = browser.opened(alone(view, tmp_path), tmp_path, visit).answer
    assert re.fullmatch(r"attention above 0, below \d\.\de-9", small)
    assert zero == "exactly 0"
    assert beyond == "exactly 0: beyond the window of 64"
    assert later == "exactly 0: the key comes after the query"


def test_a_region_that_is_dragged_over_is_zoomed_to_and_a_double_click_shows_all_again(view, pattern, tmp_path):
    region = (100, 141, 20, 61)

    def visit(tab):
        whole = shown(tab)
        drag(tab, place(100, 20), place(140, 60))
        zoomed = shown(tab)
        browser.picture(tab, "zoomed")
        colours = pixels(tab, ".neolens-plot canvas")
        tab.locator(LARGE).hover(position=place(123, 45, region))
        text = tab.locator("output").inner_text()
        tab.locator(LARGE).dblclick(position=place(123, 45, region))
        return whole, zoomed, colours, text, shown(tab)

    whole, zoomed, colours, text, again = browser.opened(alone(view, tmp_path), tmp_path, visit).answer
    assert whole == again == "queries 0 to 259, keys 0 to 259"
    assert zoomed == "queries 100 to 140, keys 20 to 60"
    assert text.startswith("query 123 “ w123”\nkey 45 “ w45”, 78 back")
    for query, key in ((123, 45), (100, 20), (140, 60), (130, 21)):
        at = place(query, key, region)
        found = colours[int(at["y"]), int(at["x"])]
        # a byte a value moves the share of colour by up to half a step of the fourth root, twice its root
        root = pattern[0, query, key].item() ** 0.25
        expected = blended("#0072B2", root**2)
        np.testing.assert_allclose(found, expected, atol=255 * ((root + 0.5 / 255) ** 2 - root**2) + 1)


def test_buttons_wheel_and_keys_zoom_and_reset(view, tmp_path):
    def visit(tab):
        tab.get_by_role("button", name="zoom in").click()
        by_button = shown(tab)
        tab.get_by_role("button", name="show the whole pattern").click()
        tab.locator(LARGE).hover(position=place(200, 100))
        tab.mouse.wheel(0, -100)
        scrolled = shown(tab)
        tab.keyboard.down("Control")
        tab.mouse.wheel(0, -100)
        tab.keyboard.up("Control")
        by_wheel = shown(tab)
        tab.locator(LARGE).press("Escape")
        reset = shown(tab)
        tab.locator(LARGE).press("+")
        return by_button, scrolled, by_wheel, reset, shown(tab)

    by_button, scrolled, by_wheel, reset, by_key = browser.opened(alone(view, tmp_path), tmp_path, visit).answer
    assert by_button == "queries 65 to 194, keys 65 to 194"  # the middle half of 260
    assert scrolled == reset == "queries 0 to 259, keys 0 to 259"
    low, high = map(int, re.match(r"queries (\d+) to (\d+)", by_wheel).groups())
    assert low < 200 < high
    assert high - low + 1 == pytest.approx(260 / 1.5, abs=1)
    assert by_key != reset


def test_arrow_keys_choose_heads_and_read_cells_one_by_one(view, tmp_path):
    def visit(tab):
        tab.locator("fieldset input").first.focus()
        tab.keyboard.press("ArrowDown")
        tab.keyboard.press("ArrowDown")
        title = tab.locator(".neolens-title").inner_text()
        checked = tab.locator("fieldset input").evaluate_all("inputs => inputs.map((input) => input.checked)")
        tab.locator(LARGE).focus()
        texts = []
        for key in ("ArrowRight", "ArrowUp", "Shift+ArrowRight"):
            tab.keyboard.press(key)
            texts.append(tab.locator("output").inner_text())
        return title, checked, texts

    title, checked, texts = browser.opened(alone(view, tmp_path), tmp_path, visit).answer
    assert title == "1.0 local 64"
    assert checked == [False, False, True]
    where = [re.findall(r"(?:query|key) (\d+)", text) for text in texts]
    assert where == [["259", "0"], ["258", "0"], ["258", "10"]]


def test_arrow_keys_that_leave_the_region_take_it_along(view, tmp_path):
    def visit(tab):
        drag(tab, place(100, 20), place(110, 30))
        tab.locator(LARGE).focus()
        tab.mouse.move(0, 0)
        for _ in range(3):
            tab.keyboard.press("ArrowLeft")
        return shown(tab), tab.locator("output").inner_text()

    region, text = browser.opened(alone(view, tmp_path), tmp_path, visit).answer
    # reading begins at the lower left corner, query 110 and key 20, and goes two more to the left
    assert region == "queries 100 to 110, keys 18 to 28"
    assert "key 18 " in text


def test_the_window_of_a_local_head_is_a_dashed_line_and_what_lies_beyond_is_grey(view, tmp_path):
    def visit(tab):
        before = pixels(tab, ".neolens-plot canvas")
        note = tab.locator("p.neolens-note").inner_text()
        tab.get_by_label("1.0 local 64").check()
        return before, note, pixels(tab, ".neolens-plot canvas"), tab.locator("p.neolens-note").inner_text()

    of_global, note, of_local, local_note = browser.opened(alone(view, tmp_path), tmp_path, visit).answer
    along = [place(query, query - WINDOW) for query in range(WINDOW, LENGTH)]
    dark = [[colours[int(at["y"]), int(at["x"])].max() < 120 for at in along] for colours in (of_global, of_local)]
    assert np.mean(dark[0]) < 0.01
    assert 0.3 < np.mean(dark[1]) < 0.9
    beyond, later = place(200, 20), place(50, 200)
    assert tuple(of_local[int(beyond["y"]), int(beyond["x"])]) == ZERO
    assert tuple(of_local[int(later["y"]), int(later["x"])]) == ZERO
    assert "Dashed: query \u2212 key = 64" in local_note
    assert "Dashed" not in note


def test_the_scale_of_the_colours_is_chosen_and_said(view, pattern, tmp_path):
    cell = (150, 149)
    region = (148, 153, 147, 152)

    def visit(tab):
        drag(tab, place(148, 147), place(152, 151))
        found = {}
        for name in ("linear", "square root", "fourth root"):
            tab.get_by_label("scale of the colours").select_option(name)
            found[name] = pixels(tab, ".neolens-plot canvas"), tab.locator(".neolens-bar").inner_text()
        return shown(tab), found

    zoomed, found = browser.opened(alone(view, tmp_path), tmp_path, visit).answer
    assert zoomed == "queries 148 to 152, keys 147 to 151"
    at, value = place(*cell, region), pattern[0][cell].item()
    for name, exponent, middle in (("linear", 1, "0.5"), ("square root", 0.5, "0.25"), ("fourth root", 0.25, "0.063")):
        colours, bar = found[name]
        expected = blended("#0072B2", value**exponent)
        np.testing.assert_allclose(colours[int(at["y"]), int(at["x"])], expected, atol=255 * 0.008 + 1)
        assert bar.split("middle is ")[1].strip() == middle


def test_thumbnails_of_long_prompts_keep_a_line_that_is_one_cell_wide(view, tmp_path):
    """A pixel shows the largest of its cells: the previous-token head has its diagonal, 260 cells in 88 pixels."""
    small = browser.opened(alone(view, tmp_path), tmp_path, lambda tab: pixels(tab, "fieldset canvas")).answer
    assert small.shape[:2] == (88, 88)
    diagonal = small[np.arange(1, 88), np.arange(87)]
    assert (diagonal[:, 0] < 128).mean() > 0.9


def test_a_single_head_is_drawn_without_a_choice_of_heads(pattern, tmp_path):
    view = views.attention_view([f"w{position}" for position in range(LENGTH)], pattern[2:], LABELS[2:])

    def visit(tab):
        return tab.locator("fieldset").is_visible(), pixels(tab, ".neolens-plot canvas")

    chosen, colours = browser.opened(alone(view, tmp_path), tmp_path, visit).answer
    assert not chosen
    full = np.array([int(LOCAL_COLOUR[at : at + 2], 16) for at in (1, 3, 5)])
    assert (np.abs(colours - full).max(-1) < 20).any()  # query 0 attends to itself alone


def test_values_of_a_text_are_told_on_hover_and_by_arrow_keys_for_every_choice(tmp_path):
    values = torch.tensor([[1.0, 0.123456, float("nan")], [-2.0, 0.0, 1.0]])
    view = views.tokens(values, [HOSTILE, " b", " c"], unit="nats")

    def visit(tab):
        spans = tab.locator(".neolens-text span")
        texts = []
        for at in range(3):
            spans.nth(at).hover()
            texts.append(tab.locator("output").inner_text())
        browser.picture(tab, "hover")
        tab.mouse.move(0, 1000)
        tab.locator(".neolens-text").focus()
        tab.keyboard.press("ArrowRight")
        tab.keyboard.press("ArrowRight")
        return texts, tab.locator("output").inner_text()

    (first, second, third), by_key = browser.opened(alone(view, tmp_path), tmp_path, visit).answer
    assert first == f"0 “{HOSTILE}”\nrow 0: 1 nats\nrow 1: -2 nats"
    assert second == by_key == "1 “ b”\nrow 0: 0.1235 nats\nrow 1: 0 nats"
    assert third == "2 “ c”\nrow 0: not defined\nrow 1: 1 nats"


def test_a_text_is_coloured_by_the_choice_white_at_0_red_below_blue_above_and_not_where_undefined(tmp_path):
    values = torch.tensor([[2.0, 1.0, float("nan")], [-2.0, 0.0, 2.0]])
    view = views.tokens(values, ["a", "b", "c"])
    single = views.tokens(torch.tensor([0.0, 4.0, float("nan")]), ["a", "b", "c"], unit="bits")

    def visit(tab):
        def colours():
            found = tab.locator(".neolens-text span").evaluate_all(
                "spans => spans.map((span) => getComputedStyle(span).backgroundColor)"
            )
            return [tuple(map(int, re.findall(r"\d+", colour))) for colour in found]

        bars = [tab.locator(".neolens-bar").inner_text().split("\n")]
        first = colours()
        select = tab.get_by_label("what the tokens are coloured by")
        if select.is_visible():
            select.select_option("row 1")
            bars.append(tab.locator(".neolens-bar").inner_text().split("\n"))
        return first, colours(), bars

    first, second, bars = browser.opened(alone(view, tmp_path), tmp_path, visit).answer
    red, white, blue = (103, 0, 31), (247, 247, 247), (5, 48, 97)  # the ends and the middle of ColorBrewer's RdBu
    # 1 of 2 is half way between the eighth and the ninth of its eleven colours, (146, 197, 222) and (67, 147, 195)
    assert first == [blue, (107, 172, 209), (0, 0, 0, 0)]
    assert second == [red, white, blue]
    assert bars[0][0].startswith("-2")
    assert "not defined" in "".join(bars[0])
    assert "not defined" not in "".join(bars[1])
    unsigned, _, (bar,) = browser.opened(alone(single, tmp_path), tmp_path, visit).answer
    assert unsigned == [(247, 251, 255), (8, 48, 107), (0, 0, 0, 0)]  # ColorBrewer's Blues
    assert "".join(bar).startswith("04 bits")
