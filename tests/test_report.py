"""A report is one page that holds everything it needs and shows every text as it stands."""

import re

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
    "only an exact 0 is 0": ([0.0, 1e-7, 0.25], ["0", "1.0e-07", "0.250"]),
    "no value is blank": ([float("nan"), 1.5, None], ["", "1.500", ""]),
    "negative numbers": ([-0.25, -1e-9, 2.0], ["-0.250", "-1.0e-09", "2.000"]),
    "mixed columns": (["global", 16, True], ["global", "16", "True"]),
}


@pytest.mark.parametrize(("column", "written"), TABLES.values(), ids=TABLES)
def test_numbers_in_a_table_are_written_to_be_compared(column, written):
    table = report.Table(["", "value"], [[str(i), cell] for i, cell in enumerate(column)])
    assert [row[1] for row in cells(table)] == written


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
    with pytest.raises(OSError):
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
