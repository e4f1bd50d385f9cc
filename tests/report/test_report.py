"""A report is one page that holds everything it needs and shows every text as it stands."""

import base64
import gzip
import io
import re

import pandas as pd
import plotly.graph_objects as go
import pytest
import torch

import browser
from browser import Parsed
from neolens import figures, report, views

HOSTILE = "</script><img src=x onerror=alert(1)>"


def bar(title: str = "bars") -> go.Figure:
    return go.Figure(go.Bar(x=[1, 2], y=[3, 4]), layout={"title": {"text": title}, "height": 300})


def view(token: str = "a") -> views.View:
    return views.attention_view([token], torch.ones(1, 1, 1), ["1.0 local 16"])


def test_a_note_stands_under_its_title_or_under_its_kind():
    assert "<strong>Finding</strong><p>text</p>" in report.Note("text", "finding").html("name")
    titled = report.Note("text", "finding", title="a < b?").html("name")
    assert titled == '<aside class="finding"><strong class="title">a &lt; b?</strong><p>text</p></aside>'


def everything() -> list[report.Block]:
    """One block of every kind, with a hostile text in each."""
    escaped = figures.escape(HOSTILE)
    return [
        report.Heading(HOSTILE),
        report.Paragraph(f"first {HOSTILE}\n\nsecond"),
        report.Note(HOSTILE, "finding"),
        report.Heading("Numbers"),
        report.Table(["model", HOSTILE], [[HOSTILE, 0.5], ["b", None]], caption=HOSTILE),
        report.Heading("Pictures"),
        report.Figure(bar(escaped), caption=HOSTILE),
        report.Figure(bar("again")),
        report.Figure(view(HOSTILE)),
        report.Figure(view("b")),
        report.Code(HOSTILE, summary=HOSTILE),
    ]


def cells(table: report.Table) -> list[list[str]]:
    rows = re.findall(r"<tr>(.*?)</tr>", table.html("table"))
    return [re.findall(r">([^<]*)</t[hd]>", row) for row in rows[1:]]


def test_every_text_is_shown_as_it_stands():
    page = Parsed(report.page(HOSTILE, everything()))
    assert page.tags("img") == []
    # title twice, heading and its link, paragraph, note; header, row and caption of the table; caption of the
    # figure, token, code and its summary
    assert page.text.count(HOSTILE) == 13


def test_the_page_loads_nothing_from_anywhere():
    page = Parsed(report.page("t", everything()))
    assert not [tag for tag, attrs in page.elements if "src" in attrs or tag in ("link", "iframe", "object", "base")]
    assert all(attrs["href"].startswith("#") for attrs in page.tags("a"))
    own = [script for script in page.scripts if "drawAll" in script]
    assert len(own) == 1
    assert not re.search(r"\bimport\b|fetch\(|XMLHttpRequest|https?:", own[0].replace("http://www.w3.org", ""))


def test_a_policy_in_the_page_forbids_requests():
    (policy,) = [m["content"] for m in Parsed(report.page("t", [])).tags("meta") if m.get("http-equiv")]
    assert policy.startswith("default-src 'none';")
    assert "http" not in policy


def test_each_library_is_included_once_however_many_figures_there_are():
    packed = [s for s in Parsed(report.page("t", everything())).tags("script") if s.get("type") == "text/plain"]
    assert [script["id"] for script in packed] == ["library-1", "library-2"]


def test_a_page_without_figures_has_no_script():
    page = report.page("t", [report.Paragraph("text")])
    assert "<script" not in page
    assert len(page) < 10_000


def test_a_page_with_both_libraries_stays_under_three_megabytes():
    assert len(report.page("t", everything()).encode()) < 3e6


def test_the_same_blocks_give_the_same_page():
    figure, picture = bar(), view()
    blocks = [report.Figure(figure), report.Figure(picture)]
    assert report.page("t", blocks) == report.page("t", blocks)


def test_headings_are_listed_with_links_that_lead_to_them():
    page = Parsed(report.page("t", everything()))
    targets = [attrs["href"].removeprefix("#") for attrs in page.tags("a")]
    assert targets == [attrs["id"] for attrs in page.tags("h2")]
    assert len(targets) == 3


TABLES = {
    "fractions of a column have as many digits": ([12.3456, 3.2, None], ["12.35", "3.20", ""]),
    "whole numbers keep their digits": ([124439808, 7, 0], ["124,439,808", "7", "0"]),
    "only an exact 0 is 0": ([0.0, 1e-7, 0.25], ["0", "below 0.01", "0.25"]),
    "no value is blank": ([float("nan"), 1.5, None], ["", "1.50", ""]),
    "negative numbers": ([-0.25, -1e-9, 2.0], ["-0.25", "above -0.01", "2.00"]),
    "three digits where two are equal": ([0.2512, 0.2533], ["0.251", "0.253"]),
    "small ones too": ([0.0021, 0.0043], ["0.002", "0.004"]),
    "two digits where they do": ([0.2512, 0.3], ["0.25", "0.30"]),
    "large numbers": ([1234.5, 0.25], ["1,234", "0.25"]),
    "mixed columns": (["global", 16, True], ["global", "16", "True"]),
}


@pytest.mark.parametrize(("column", "written"), TABLES.values(), ids=TABLES)
def test_numbers_in_a_table_are_written_to_be_compared(column, written):
    table = report.Table(["", "value"], [[str(i), cell] for i, cell in enumerate(column)])
    assert [row[1] for row in cells(table)] == written


@pytest.mark.parametrize("header", ["p", "corrected p", "p (Holm)"])
def test_p_values_have_two_significant_digits_or_are_below_0_001(header):
    column = [0.034, 0.0002, 0.5, 1.0, 0.0, float("nan")]
    table = report.Table(["", header], [[str(i), cell] for i, cell in enumerate(column)])
    assert [row[1] for row in cells(table)] == ["0.034", "below 0.001", "0.5", "1", "below 0.001", ""]
    other = report.Table(["", "loss up"], [["a", 0.034], ["b", 0.5]])
    assert [row[1] for row in cells(other)] == ["0.03", "0.50"]


def test_a_row_of_another_length_than_the_header_is_refused():
    with pytest.raises(ValueError, match="row 1 has 3 cells under a header of 2"):
        report.Table(["a", "b"], [[1, 2], [1, 2, 3]])


@pytest.mark.parametrize("stray", ["text", go.Figure()], ids=["text", "figure"])
def test_what_is_no_block_is_refused(stray):
    with pytest.raises(TypeError, match=r"is no block of a report: wrap text in Paragraph"):
        report.page("t", iter([report.Heading("h"), stray]))


def test_writing_replaces_the_old_page_and_leaves_nothing_beside_it(tmp_path):
    path = tmp_path / "report.html"
    path.write_text("old")
    report.write(path, "new é \ud800")
    assert path.read_text(encoding="utf-8") == "new é &#55296;"
    assert list(tmp_path.iterdir()) == [path]


def test_a_page_that_cannot_be_put_in_place_leaves_the_folder_as_it_was(tmp_path):
    path = tmp_path / "report.html"
    path.mkdir()
    with pytest.raises(ValueError, match="is a folder: expected the name of a file"):
        report.write(path, "new")
    assert list(tmp_path.iterdir()) == [path]


@pytest.fixture(scope="module")
def seen(tmp_path_factory) -> browser.Opened:
    return browser.opened(report.page(HOSTILE, everything()), tmp_path_factory.mktemp("report"))


@browser.needed
def test_a_browser_without_a_network_draws_every_figure_and_reports_no_error(seen):
    page = Parsed(seen.document)
    assert seen.console == []
    plots = [attrs for attrs in page.tags("div") if "js-plotly-plot" in (attrs.get("class") or "")]
    assert len(plots) == 2
    assert len(page.tags("canvas")) == 4  # two views of one head: the small one and the one that is looked at


@browser.needed
def test_a_browser_is_not_asked_to_request_anything(seen):
    assert seen.requests == []


@browser.needed
def test_a_browser_shows_hostile_text_in_every_block_and_in_the_title_of_a_figure(seen):
    page = Parsed(seen.document)
    assert page.tags("img") == []
    assert page.text.count(HOSTILE) >= 14  # the 13 of the page, and the title that plotly drew
    assert "gtitle" in seen.document


@browser.needed
def test_no_figure_has_a_button_that_would_send_its_data_away(seen):
    buttons = {attrs["data-title"] for attrs in Parsed(seen.document).tags("button") if "data-title" in attrs}
    assert "Download plot as a PNG" in buttons
    assert not any("Share" in button or "cloud" in button.lower() for button in buttons)


@browser.needed
def test_the_browser_tests_would_notice_an_error_and_a_request(tmp_path):
    page = '<body><img src="http://example.invalid/x.png"><script>console.error("boom")</script></body>'
    seen = browser.opened(page, tmp_path)
    assert any("boom" in message for message in seen.console)
    assert "http://example.invalid/x.png" in seen.requests


# Folded blocks --------------------------------------------------------------------------------------------------------


def folded() -> report.Folded:
    deeper = report.Folded("deeper", [report.Figure(bar("inner"))])
    return report.Folded(f"more {HOSTILE}", [report.Paragraph("inside"), report.Figure(bar("outer")), deeper])


def test_folded_blocks_are_in_the_page_once_under_their_summary_with_names_of_their_own():
    page = Parsed(report.page("t", [report.Figure(bar()), folded(), folded()]))
    plots = [attrs["id"] for attrs in page.tags("div") if attrs.get("class") == "plot"]
    assert len(plots) == len(set(plots)) == 5
    assert len(page.tags("details")) == 4
    assert page.text.count(f"more {HOSTILE}") == 2
    assert page.tags("img") == []
    (own,) = [script for script in page.scripts if "drawAll" in script]
    assert all(f'"{name}"' in own for name in plots)


def test_what_is_no_block_is_refused_where_it_is_folded_away():
    with pytest.raises(TypeError, match=r"'text' is no block of a report: wrap text in Paragraph"):
        report.Folded("more", ["text"])


@browser.needed
def test_a_folded_figure_is_drawn_when_it_is_shown_as_wide_as_the_page(tmp_path):
    def unfold(tab):
        counts = [tab.locator(".js-plotly-plot").count()]
        for number in range(2):
            tab.locator("summary").nth(number).click()
            tab.locator(".js-plotly-plot .main-svg").nth(3 * (number + 2) - 1).wait_for(state="attached")
            counts.append(tab.locator(".js-plotly-plot").count())
        wide = [box.bounding_box()["width"] for box in tab.locator(".main-svg").all()]
        tab.locator("summary").first.click()  # folded, then the window made narrower, then shown again
        tab.set_viewport_size({"width": 900, "height": 900})
        tab.locator("summary").first.click()
        tab.wait_for_timeout(1500)
        return counts, wide, [box.bounding_box()["width"] for box in tab.locator(".main-svg").all()]

    seen = browser.opened(report.page("t", [report.Figure(bar()), folded()]), tmp_path, unfold)
    counts, wide, narrow = seen.answer
    assert seen.console == []
    assert counts == [1, 2, 3]
    assert len(set(wide)) == 1
    assert wide[0] > 1000
    assert len(set(narrow)) == 1
    assert narrow[0] < 900


# Numbers --------------------------------------------------------------------------------------------------------------


def packed(page: str) -> dict[str, pd.DataFrame]:
    """The tables that a page holds, by the name of the file that each is saved as."""
    files = dict(re.findall(r'data-of="([^"]*)" data-file="([^"]*)"', page))
    texts = dict(re.findall(r'<script type="text/csv" id="([^"]*)">([^<]*)</script>', page))
    assert files.keys() == texts.keys()
    return {file: pd.read_csv(io.BytesIO(gzip.decompress(base64.b64decode(texts[of])))) for of, file in files.items()}


def test_every_figure_and_view_comes_with_its_numbers_named_after_its_title_or_its_caption():
    hostile = go.Figure(
        go.Scatter(x=[0, 1], y=[1 / 3, 2], name=figures.escape(HOSTILE)), {"title": {"text": "<b>A, b</b> (c)"}}
    )
    tables = packed(
        report.page("t", [report.Figure(hostile), report.Figure(view(HOSTILE), "What, it sees!"), folded()])
    )
    assert list(tables) == ["a-b-c.csv", "what-it-sees.csv", "outer.csv", "inner.csv"]
    pd.testing.assert_frame_equal(
        tables["a-b-c.csv"], pd.DataFrame({"series": [HOSTILE] * 2, "x": [0, 1], "value": [0.3333333, 2.0]})
    )
    its = view(HOSTILE).table()
    assert tables["what-it-sees.csv"].columns.tolist() == its.columns.tolist()
    assert HOSTILE in tables["what-it-sees.csv"].astype(str).values


def test_a_drawing_without_a_title_is_called_by_its_place_and_a_hostile_one_by_its_words():
    bare = go.Figure(go.Bar(x=[1], y=[2]))
    named = go.Figure(bare).update_layout(title=f"../../{figures.escape(HOSTILE)}")
    tables = packed(report.page("t", [report.Figure(bare), report.Figure(named)]))
    assert list(tables) == ["figure-1.csv", "script-img-src-x-onerror-alert-1.csv"]


def test_a_drawing_of_nothing_or_of_too_much_has_no_numbers():
    many = go.Figure(go.Scatter(x=list(range(20_001)), y=[1.0] * 20_001))
    without = views.View("", "element => {}", "")
    assert packed(report.page("t", [report.Figure(one) for one in (many, go.Figure(), without)])) == {}
    assert len(packed(report.page("t", [report.Figure(many.update_traces(x=[1], y=[1]))]))) == 1


@browser.needed
def test_a_click_saves_the_numbers_of_a_figure(tmp_path):
    def click(tab):
        saved = []
        for button in tab.locator("button.data").all():
            with tab.expect_download() as download:
                button.click()
            saved.append((download.value.suggested_filename, download.value.path().read_text()))
        return saved

    blocks = [report.Figure(bar(figures.escape(HOSTILE))), report.Figure(view(HOSTILE), "sees")]
    seen = browser.opened(report.page("t", blocks), tmp_path, click)
    assert (seen.console, seen.requests) == ([], [])
    (first, numbers), (second, cells) = seen.answer
    assert (first, second) == ("script-img-src-x-onerror-alert-1.csv", "sees.csv")
    assert numbers == "x,value\n1,3\n2,4\n"
    pd.testing.assert_frame_equal(pd.read_csv(io.StringIO(cells)), view(HOSTILE).table(), check_dtype=False)


def test_numbers_and_their_intervals_are_kept_on_one_line():
    table = report.Table(["", "n", "effect", "told"], [["a", 1, "+0.42 (0.30 to 0.55)", "words that may wrap"]])
    classes = dict(zip(["n", "effect", "told"], re.findall(r"<td(.*?)>", table.html("table"))))
    assert classes == {"n": ' class="number"', "effect": ' class="kept"', "told": ""}
