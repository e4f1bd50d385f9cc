"""A report fits its page: no table is cut off, no title overlaps another, at the usual width, at 700 pixels, and where
a figure has half of the page."""

import pytest

import browser
import drawn
from neolens import figures, report
from neolens.figures import offline

WIDTHS = (1280, 700)

CUT = """() => [...document.querySelectorAll("div.table, .paper, main")].filter((box) =>
  box.checkVisibility() && box.scrollWidth > box.clientWidth + 2).map((box) => `${box.className} ${box.scrollWidth}`)"""
"""What is wider than its place."""

OVERLAPPING = """() => [...document.querySelectorAll(".js-plotly-plot")].flatMap((plot) => {
  const texts = [...plot.querySelectorAll(
    ".annotation-text-g text, .xtitle, .ytitle, .gtitle, .gtitle-subtitle, .legend .bg, .xtick text")]
    .filter((one) => !one.closest(".layer-below"))
    .map((one) => [one, one.getBoundingClientRect()]).filter(([, box]) => box.width);
  const tick = (one) => Boolean(one.closest(".xtick"));
  const hits = [];
  texts.forEach(([one, a], at) => texts.slice(at + 1).forEach(([other, b]) => {
    const x = Math.min(a.right, b.right) - Math.max(a.left, b.left);
    const y = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
    if (x > 3 && y > 3 && !(tick(one) && tick(other))) hits.push(
      `${plot.id}: ${(one.textContent || "legend").slice(0, 50)} / ${(other.textContent || "legend").slice(0, 50)}`);
  }));
  return hits;
})"""
"""Titles of figures, panels and axes, captions, legends and numbers on axes that overlap each other."""

OUTSIDE = """() => [...document.querySelectorAll(".js-plotly-plot")].flatMap((plot) => {
  const frame = plot.getBoundingClientRect();
  return [...plot.querySelectorAll(".annotation-text-g text, .xtitle, .ytitle, .gtitle, .gtitle-subtitle, .legend .bg")]
    .map((one) => [one, one.getBoundingClientRect()])
    .filter(([, box]) => box.width && (box.left < frame.left - 2 || box.right > frame.right + 2
      || box.top < frame.top - 2 || box.bottom > frame.bottom + 2))
    .map(([one]) => `${plot.id}: ${one.textContent.slice(0, 60)}`);
})"""
"""Texts that are not whole within their figure."""

PANELS = """() => [...document.querySelectorAll(".js-plotly-plot")].map(({ layout }) => new Set(
  Object.keys(layout).filter((name) => /^xaxis/.test(name)).map((name) => layout[name].domain[0].toFixed(2))).size)"""
"""How many panels stand side by side in each figure."""


def seen(page, folder, width):
    """What is cut off, what overlaps, what is outside, at one width."""

    def visit(tab):
        tab.set_viewport_size({"width": width, "height": 1000})
        tab.wait_for_timeout(1500)
        tab.evaluate(browser._QUIET)
        browser.picture(tab, str(width))
        tab.evaluate("() => document.querySelectorAll('details').forEach((one) => { one.open = true; })")
        tab.wait_for_timeout(300)
        return [tab.evaluate(script) for script in (CUT, OVERLAPPING, OUTSIDE)]

    opened = browser.opened(page, folder, visit)
    assert (opened.console, opened.requests) == ([], [])
    return opened.answer


def wide_tables():
    header = ["model", *(f"a long name of quantity {at}" for at in range(14))]
    rows = [["lab/gpt-neo-global", *(f"0.5{at} (0.40 to 0.62)" for at in range(14))]] * 3
    return [report.Table(header, rows, "Wide."), report.Folded("more", [report.Table(header, rows)])]


@pytest.fixture(scope="module")
def every():
    names = [report.Heading(f"A heading that is somewhat longer, number {number}") for number in range(9)]
    return report.page("t", [*names, *wide_tables(), *(report.Figure(drawn.figure(one)) for one in drawn.FIGURES)])


@browser.needed
@pytest.mark.parametrize("width", WIDTHS)
def test_every_figure_and_table_fits_the_page(every, width, tmp_path):
    assert seen(every, tmp_path, width) == [[], [], []]


COMPACT = ["heads", "mass_by_distance", "ablation_groups", "ablation_by_distance", "heads_beside", "shift_by_distance",
           "toeplitz_shares", "recall_by_distance", "places_by_distance", "narrowing_by_distance",
           "induction_by_length", "copying_without", "loss_beyond", "estimates", "measures_by_variant"]  # fmt: skip
"""Figures that a report may show beside its findings."""


@browser.needed
def test_a_compact_figure_is_legible_in_half_of_the_page(tmp_path):
    pairs = [report.Columns([report.Figure(figures.compact(drawn.figure(name))), report.Paragraph("x")])
             for name in COMPACT]  # fmt: skip
    assert seen(report.page("t", pairs), tmp_path, 1280) == [[], [], []]


@browser.needed
def test_panels_stand_one_below_the_other_where_the_page_is_narrow_and_side_by_side_again_where_it_is_not(tmp_path):
    def visit(tab):
        columns = []
        for width in (1280, 700, 1280):
            tab.set_viewport_size({"width": width, "height": 1000})
            tab.wait_for_timeout(800)
            columns.append((tab.evaluate(PANELS), tab.locator(".plot").first.bounding_box()["height"]))
        return columns

    names = ("mass_by_distance", "places_by_distance", "formation_by_step")
    page = report.page("t", [report.Figure(drawn.figure(name)) for name in names])
    (wide, low), (narrow, high), again = browser.opened(page, tmp_path, visit).answer
    assert min(wide) >= 2
    assert narrow == [1, 1, 1]
    assert high > 1.5 * low
    assert again == (wide, low)


@browser.needed
def test_a_link_of_the_contents_leads_to_a_heading_that_is_not_under_them_and_they_are_one_line(tmp_path):
    def visit(tab):
        tab.set_viewport_size({"width": 700, "height": 600})
        places = []
        for link in tab.locator("nav a").all():
            link.evaluate("(element) => element.click()")
            tab.wait_for_timeout(100)
            heading = tab.locator(link.get_attribute("href")).bounding_box()
            places.append((heading["y"], tab.locator("nav").bounding_box()))
        scrolls = tab.evaluate("() => { const list = document.querySelector('nav ol'); "
                               "return list.scrollWidth > list.clientWidth; }")  # fmt: skip
        return places, scrolls

    text = report.Paragraph("x\n\n" * 40)
    blocks = [block for number in range(9) for block in (report.Heading(f"A long heading, number {number}"), text)]
    places, scrolls = browser.opened(report.page("t", blocks), tmp_path, visit).answer
    assert scrolls
    for top, nav in places:
        assert top >= nav["y"] + nav["height"] - 1
        assert nav["height"] < 50


def test_a_table_has_the_script_that_fits_it_also_in_a_page_without_figures():
    assert "div.table" in report.page("t", [report.Table(["a"], [["b"]])])
    assert "drawAll" not in report.page("t", [report.Table(["a"], [["b"]])])


def test_a_figure_that_is_not_of_this_package_is_drawn_as_it_is(tmp_path):
    import plotly.graph_objects as go

    bare = go.Figure(go.Scatter(x=[1, 2], y=[3, 4]))
    draw, _ = offline.drawing(bare)
    assert draw.startswith("element => drawFigure(element, {")
