"""Figures as files and as tables: pictures without a display or a network, pages that load nothing, numbers as text."""

import json
import re
import stat
import struct
import sys
import xml.etree.ElementTree as ET
import zlib

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
from plotly.subplots import make_subplots

import browser
import drawn
from browser import Parsed
from drawn import HOSTILE
from neolens import figures
from neolens.figures import saving, style
from neolens.figures.tidy import plain


def simple(title="<b>A title</b> (tokens)") -> go.Figure:
    figure = go.Figure(go.Bar(x=[1, 2], y=[3, 4], name=figures.escape(HOSTILE)))
    return style.style(figure, title, "A caption.", 200).update_xaxes(title_text="step").update_yaxes(title_text="loss")


# Data -----------------------------------------------------------------------------------------------------------------


def test_a_line_with_its_band_is_one_row_a_point():
    figure = go.Figure([*style.band([1, 2], [0.0, 1.0], [2.0, 3.0], "#000000", "it")])
    figure.add_trace(go.Scatter(x=[1, 2], y=[1.0, np.nan], name="it")).add_trace(
        go.Scatter(x=[3], y=[5.0], name="bare")
    )
    table = figures.data(figure)
    assert table.columns.tolist() == ["series", "x", "value", "low", "high"]
    assert table.iloc[0].tolist() == ["it", 1, 1.0, 0.0, 2.0]
    assert table.iloc[1, :3].tolist() == ["bare", 3, 5.0]  # what has no value is not drawn, and has no row
    assert table.iloc[1, 3:].isna().all()


def test_axes_are_read_as_their_labels_say():
    def x(places, **axis):
        figure = go.Figure(go.Scatter(x=places, y=[0.0] * len(places))).update_xaxes(title_text="at", **axis)
        return figures.data(figure)["at"].tolist()

    assert x([1, 2, 4.5], type="log", tickvals=[1, 2, 5], ticktext=["0", "1", "4"]) == [0, 1, 3.5]  # d at d + 1
    assert x([0, 0.8, 2.1], tickvals=[0, 1, 2], ticktext=["8", "16", "17"]) == [8, 16, 17]  # beside their category
    assert x([0.1, 1], tickvals=[0, 1], ticktext=["<b>a</b>", "&lt;b&gt;"]) == ["a", "<b>"]
    assert x([1e-9, 0.5], type="log", tickvals=[1e-9, 0.1], ticktext=["0", "0.1"]) == [0, 0.5]  # a mark for 0
    assert x([0.1, 0.5]) == [0.1, 0.5]
    assert x([0, 8], tickvals=[0, 4], ticktext=["0", "4"]) == [0, 8]


def test_cells_of_a_map_are_rows_with_what_is_told_of_them_besides_and_blank_ones_are_not():
    figure = go.Figure(
        go.Heatmap(z=[[1.0, np.nan], [3.0, 4.0]], y=["0 global", "1 local 8"], x=[0, 1], colorbar_title_text="nats")
    )
    figure.update_traces(customdata=[[[5.0, "&#36;a"], [6.0, "b"]], [[7.0, "c"], [8.0, "d"]]], meta=["low", "word"])
    figure.update_xaxes(title_text="head").update_yaxes(title_text="layer")
    assert figures.data(figure).values.tolist() == [
        [0, "0 global", 1.0, 5.0, "$a"],
        [0, "1 local 8", 3.0, 7.0, "c"],
        [1, "1 local 8", 4.0, 8.0, "d"],
    ]
    assert figures.data(figure).columns.tolist() == ["head", "layer", "nats", "low", "word"]


def test_panels_and_their_shared_axes_are_named():
    figure = make_subplots(2, 2, subplot_titles=["<b>a</b>", "b&amp;c", "d", "<b>e</b><br>unit"], shared_yaxes="rows")
    for number in range(4):
        at = {"row": number // 2 + 1, "col": number % 2 + 1}
        figure.add_trace(go.Scatter(x=[number], y=[0.0], error_y={"array": [1.0], "arrayminus": [2.0]}), **at)
    figure.update_yaxes(title_text="loss", col=1).update_xaxes(title_text="step", row=2)
    figure.add_hline(0.5, name="a level", row=1, col=1).add_hline(0.7, row=1, col=1)
    table = figures.data(figure)
    assert table["panel"].tolist() == ["a", "b&c", "d", "e, unit", ""]
    assert table["step"].tolist()[:4] == [0, 1, 2, 3]
    assert table["loss"].tolist() == [0, 0, 0, 0, 0.5]
    assert table["low"].tolist()[:4] == [-2] * 4
    assert table["high"].tolist()[:4] == [1] * 4
    assert table["series"].tolist()[4] == "a level"


def test_markup_and_entities_are_plain_text_again():
    assert (
        plain(f"<b>{figures.escape(HOSTILE)}</b><br>so<span style='color:red'> it</span> is") == f"{HOSTILE}, so it is"
    )
    assert figures.data(simple())["series"].unique().tolist() == [HOSTILE]


def test_a_figure_without_a_trace_has_no_rows_and_what_is_no_figure_is_refused():
    assert len(figures.data(go.Figure())) == 0
    with pytest.raises(TypeError, match="{} is no figure: expected what a function of neolens.figures returns"):
        figures.data({})


# Files ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", drawn.FIGURES)
def test_a_csv_file_holds_the_figures_data(name, tmp_path):
    table = figures.data(drawn.figure(name))
    read = pd.read_csv(figures.save(drawn.figure(name), tmp_path / "a.csv"), keep_default_na=True)
    assert read.columns.tolist() == table.columns.tolist()
    for column in table:
        if table[column].dtype.kind in "fi":
            np.testing.assert_allclose(read[column], table[column], rtol=1e-6)
        else:
            assert _words(read[column]) == _words(table[column])


def _words(column: pd.Series) -> list[str]:
    """As text, nothing as nothing, whole numbers alike however they are written."""
    return ["" if pd.isna(one) else f"{one:g}" if isinstance(one, float) else str(one) for one in column]


REFUSED = {
    "another suffix": (
        {"path": "a.jpg"},
        ValueError,
        "'a.jpg' ends in '.jpg': expected one of .html, .png, .svg, .pdf",
    ),
    "no suffix": ({"path": "figure"}, ValueError, "'figure' ends in 'no suffix'"),
    "no figure": ({"figure": "text"}, TypeError, "'text' is no figure: expected what a function of neolens.figures"),
    "width": ({"width": 0}, ValueError, "width 0: expected a number above 0"),
    "scale": ({"scale": -1.0}, ValueError, "scale -1.0: expected a number above 0"),
    "no width": ({"width": float("nan")}, ValueError, "width nan: expected a number above 0"),
    "an endless scale": ({"scale": float("inf")}, ValueError, "scale inf: expected a number above 0"),
    "an endless page": ({"path": "a.html", "width": float("inf")}, ValueError, "width inf: expected a number"),
    "many pixels": (
        {"width": 1e9, "scale": 2},
        ValueError,
        "a picture of 2,000,000,000 x 704 pixels: expected 1 to 16,384 a side; at a scale of 2 a width up to 8,192 wo",
    ),
    "one pixel too wide": (
        {"path": "a.svg", "width": 16385},
        ValueError,
        "a picture of 16,385 x 352 pixels: expected 1 to 16,384 a side; at a scale of 1 a width up to 16,384 would fit",
    ),
    "a large scale": (
        {"scale": 1e9},
        ValueError,
        "expected 1 to 16,384 a side; at a width of 1,000 a scale up to 16.38 would fit",
    ),
    "a high figure": (
        {"path": "a.pdf", "figure": simple().update_layout(height=20_000)},
        ValueError,
        "a picture of 1,000 x 20,000 pixels: .* a figure up to 16,384 high, or a PNG at a smaller scale would fit",
    ),
    "less than a pixel": ({"width": 0.2}, ValueError, "a picture of 0 x 704 pixels: expected 1 to 16,384 a side"),
}


@pytest.mark.parametrize("name", ["a.csv", "deep/a.html", "deep/er/a.png"])
def test_a_path_that_leads_through_a_file_is_refused_before_any_work(name, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("kept")
    monkeypatch.setattr(saving, "pictures", lambda *asked, **shape: pytest.fail("drawn"))
    with pytest.raises(ValueError, match="leads through 'file', which is a file: expected a folder; choose another"):
        figures.save(simple(), tmp_path / "file" / name)
    assert (tmp_path / "file").read_text() == "kept"


def test_a_path_that_is_a_folder_is_refused(tmp_path):
    (tmp_path / "a.csv").mkdir()
    with pytest.raises(ValueError, match="a.csv' is a folder: expected the name of a file; put one behind it"):
        figures.save(simple(), tmp_path / "a.csv")
    assert list((tmp_path / "a.csv").iterdir()) == []


@pytest.mark.parametrize(("asked", "kind", "message"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_saved_is_refused_before_anything_is_written(asked, kind, message, tmp_path):
    path = tmp_path / asked.get("path", "a.png")
    figure = asked.get("figure", simple())
    with pytest.raises(kind, match=message):
        figures.save(figure, path, **{name: value for name, value in asked.items() if name in ("width", "scale")})
    assert list(tmp_path.iterdir()) == []


def test_without_kaleido_the_error_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "kaleido", None)
    with pytest.raises(RuntimeError, match=r'pip install "neolens\[image\]" and apt-get install chromium.* is missing'):
        figures.save(simple(), tmp_path / "new" / "a.png")
    assert list(tmp_path.iterdir()) == []


def test_without_a_browser_the_error_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setenv("BROWSER_PATH", str(tmp_path / "none"))
    with pytest.raises(RuntimeError, match="apt-get install chromium, or name it in BROWSER_PATH; no browser is found"):
        figures.save(simple(), tmp_path / "a.svg")
    assert list(tmp_path.iterdir()) == []


def test_a_browser_that_fails_leaves_nothing_behind(tmp_path, monkeypatch):
    monkeypatch.setenv("BROWSER_PATH", "/bin/false")
    with pytest.raises(RuntimeError, match="the browser that draws pictures failed: .*; .*BROWSER_PATH"):
        figures.save(simple(), tmp_path / "a.pdf")
    assert list(tmp_path.iterdir()) == []


def test_a_saved_page_loads_nothing_and_forbids_requests(tmp_path):
    page = Parsed(figures.save(simple(), tmp_path / "a.HTML").read_text())
    (policy,) = [meta["content"] for meta in page.tags("meta") if meta.get("http-equiv")]
    assert policy.startswith("default-src 'none';")
    assert not [tag for tag, attrs in page.elements if "src" in attrs or "href" in attrs]
    assert "A title (tokens)" in page.text
    assert [path.name for path in tmp_path.iterdir()] == ["a.HTML"]


@browser.needed
def test_a_browser_draws_a_saved_page_without_a_network(tmp_path):
    seen = browser.opened(figures.save(simple(), tmp_path / "a.html"), tmp_path)
    assert (seen.console, seen.requests) == ([], [])
    assert "gtitle" in seen.document
    assert Parsed(seen.document).tags("img") == []


# Pictures -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def every():
    """Every figure as SVG and as PNG, 900 pixels wide."""
    shown = [drawn.figure(name) for name in drawn.FIGURES]
    svg, png = (saving.pictures(shown, suffix, width=900, scale=1) for suffix in (".svg", ".png"))
    return {name: (figure, *both) for name, figure, *both in zip(drawn.FIGURES, shown, svg, png, strict=True)}


def written(svg: bytes) -> str:
    """All text of an SVG, without spaces, which a renderer puts in and leaves out."""
    return re.sub(r"\s", "", "".join(ET.fromstring(svg).itertext()))


@browser.needed
@pytest.mark.parametrize("name", drawn.FIGURES)
def test_every_figure_is_drawn_as_svg_and_png_with_its_title_and_its_axes(name, every):
    figure, svg, png = every[name]
    root = ET.fromstring(svg)
    assert (root.tag, float(root.attrib["width"])) == ("{http://www.w3.org/2000/svg}svg", 900)
    text = written(svg)
    titles = [axis.title.text for axis in [*figure.select_xaxes(), *figure.select_yaxes()] if axis.title.text]
    for label in [figure.layout.title.text, *titles]:
        assert re.sub(r"\s", "", plain(label)) in text
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">II", png[16:24]) == (900, figure.layout.height)
    assert len(png) > 3000


@browser.needed
def test_a_picture_is_as_wide_as_asked_and_has_the_pixels_asked(tmp_path):
    png = figures.save(simple(), tmp_path / "deep" / "a.png", width=640, scale=3).read_bytes()
    assert struct.unpack(">I", png[16:20]) == (1920,)
    assert figures.save(simple(), tmp_path / "a.pdf").read_bytes().startswith(b"%PDF-")
    svg = figures.save(_named(), tmp_path / "a.svg", width=700).read_bytes()
    assert ET.fromstring(svg).attrib["width"] == "700"
    assert HOSTILE.replace(" ", "") in written(svg)


@browser.needed
def test_the_largest_picture_that_is_not_refused_is_drawn_to_its_end(tmp_path):
    wide = saving.MOST_PIXELS
    png = figures.save(simple(), tmp_path / "wide.png", width=wide, scale=1).read_bytes()
    assert struct.unpack(">II", png[16:24]) == (wide, simple().layout.height)
    right_end = np.stack([row[-4 * 3000 :] for row in filtered_rows(png)])
    assert len(np.unique(right_end)) > 8  # a bar, its edge and grid lines; of one colour alone it would be 0 and that


def filtered_rows(png: bytes) -> np.ndarray:
    """The rows of a PNG as they are compressed: each byte less one beside or above it, 0 where nothing changes."""
    height = struct.unpack(">I", png[20:24])[0]
    parts, at = [], 8
    while at < len(png):
        (length,) = struct.unpack(">I", png[at : at + 4])
        parts += [png[at + 8 : at + 8 + length]] * (png[at + 4 : at + 8] == b"IDAT")
        at += 12 + length
    return np.frombuffer(zlib.decompress(b"".join(parts)), np.uint8).reshape(height, -1)


def _named() -> go.Figure:
    return simple(f"<b>{figures.escape(HOSTILE)}</b>")


@browser.needed
def test_a_picture_is_drawn_inside_a_running_loop_as_notebooks_have(tmp_path):
    import asyncio

    async def cell():
        return figures.save(simple(), tmp_path / "a.svg")

    assert "Atitle(tokens)" in written(asyncio.run(cell()).read_bytes())


@browser.needed
def test_neither_the_page_nor_the_browser_asks_the_network_for_a_picture(tmp_path, monkeypatch):
    log, wrapper = tmp_path / "net.json", tmp_path / "chrome"
    wrapper.write_text(f'#!/bin/sh\nexec {browser._CHROMIUM} "$@" --log-net-log={log}\n')
    wrapper.chmod(wrapper.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("BROWSER_PATH", str(wrapper))
    monkeypatch.setenv("CHOREO_PROXY_SERVER", "")
    figure = simple("$x^2$").add_layout_image(source="http://example.invalid/x.png")  # TeX, and a picture from outside
    figures.save(figure, tmp_path / "a.svg")
    events = _events(log.read_text())
    asked = {params["url"] for _, params in events if "url" in params}
    assert "http://example.invalid/x.png" in asked  # the log would show what was sent
    assert not any(re.search("mathjax|plot.ly", url) for url in asked)
    connected = {str(params["address"]) for kind, params in events if "TCP_CONNECT" in kind and "address" in params}
    assert connected <= {saving._NOWHERE}
    assert [kind for kind, _ in events if re.search("DNS_TRANSACTION|HOST_RESOLVER.*(JOB|SYSTEM_TASK)", kind)] == []


def _events(log: str) -> list[tuple[str, dict]]:
    """Name and parameters of all that chromium noted."""
    try:
        noted = json.loads(log)
    except json.JSONDecodeError:  # chromium ended before it closed the list
        noted = json.loads(log.rstrip().rstrip(",") + "]}")
    names = {number: name for name, number in noted["constants"]["logEventTypes"].items()}
    return [(names[event["type"]], event.get("params", {})) for event in noted["events"]]
