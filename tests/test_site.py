"""The built documentation, as `make docs` leaves it in site/: whole, offline, with figures, search and reference.

Building takes a minute, so it is done there and not here: without a site these tests are skipped, and so they are where
a source of the documentation is newer than the site.
"""

import json
import re
from html.parser import HTMLParser
from importlib import import_module
from urllib.parse import unquote, urldefrag

import pytest

import browser
import neolens
from test_docs import DOCS, ROOT, hook

SITE = ROOT / "site"
SOURCES = [ROOT / "mkdocs.yml", *(path for path in DOCS.rglob("*") if path.suffix in (".md", ".py", ".css", ".js"))]


def stale():
    index = SITE / "index.html"
    built = index.stat().st_mtime if index.is_file() else 0
    return max(path.stat().st_mtime for path in SOURCES) > built


pytestmark = pytest.mark.skipif(stale(), reason="no site/, or older than docs/: make docs")

PAGES = sorted(SITE.rglob("*.html"))
DRAWN = [path.relative_to(DOCS) for path in sorted(DOCS.rglob("*.md")) if "<!-- figure: " in path.read_text()]


class Links(HTMLParser):
    """What a page points to and loads, and the places in it that can be pointed to."""

    def __init__(self, page):
        super().__init__()
        self.links, self.loads, self.places = [], [], set()
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        named = dict(attrs)
        self.places.add(named.get("id"))
        if tag == "a" and named.get("href"):
            self.links.append(named["href"])
        if tag in ("script", "img", "iframe") and named.get("src"):
            self.loads.append(named["src"])
        if tag == "link" and named.get("rel") != "canonical" and named.get("href"):
            self.loads.append(named["href"])


def test_pages_load_files_of_the_site_and_nothing_else():
    for page in PAGES:
        if page.name == "404.html":  # is served from any address, and so names its files from the root
            continue
        for address in Links(page).loads:
            assert (page.parent / unquote(urldefrag(address).url)).is_file(), f"{page.name} loads {address}"


def test_links_within_the_site_arrive():
    places = {page: Links(page) for page in PAGES}
    for page, its in places.items():
        for link in its.links:
            address, place = urldefrag(link)
            if "://" in address or page.name == "404.html":
                continue
            target = (page.parent / unquote(address)).resolve() if address else page
            assert target.is_file(), f"{page.name} links to {link}"
            if place and target.suffix == ".html":
                assert unquote(place) in places[target].places, f"{page.name} links to {link}"


def look(page, visit=None):
    """The page in a browser without a network: console, what it asked for outside the site, the answer of `visit`."""
    seen = browser.opened(page, page.parent, visit, site=SITE)
    return seen.console, seen.requests, seen.answer


@browser.needed
@pytest.mark.parametrize("page", ["index.html", "api/patching.html", "experiments/ioi.html", "confounds.html"])
def test_a_page_opens_from_a_file_without_a_network_and_without_complaint(page):
    assert look(SITE / page)[:2] == ([], [])


@browser.needed
@pytest.mark.parametrize("page", DRAWN, ids=str)
def test_the_figures_of_a_page_are_drawn_and_say_what_they_show(page):
    asked = re.findall(r"<!-- figure: (\S+) -->", (DOCS / page).read_text())

    def drawn(tab):
        tab.wait_for_function(
            f"document.querySelectorAll('.js-plotly-plot .main-svg .xaxislayer-above').length >= {len(asked)}"
        )
        return tab.evaluate(
            "[...document.querySelectorAll('.js-plotly-plot')].map((plot) => [plot.id, plot.data.length, "
            "plot.layout.title.text, plot.querySelectorAll('.trace, .hm, .points').length])"
        )

    console, outside, found = look(SITE / page.with_suffix(".html"), drawn)

    assert (console, outside) == ([], [])
    assert [name for name, *_ in found] == [f"figure-{name}" for name in asked]
    for name, traces, title, shapes in found:
        assert traces, name
        assert title.startswith("<b>"), name
        assert shapes, name


@browser.needed
def test_search_finds_the_page_that_tells_of_a_word_also_from_a_file():
    def search(tab):
        tab.click("input.md-search__input")
        tab.keyboard.type("hook_rot_q")
        tab.wait_for_selector(".md-search-result__item a")
        return [link.get_attribute("href") for link in tab.locator(".md-search-result__item a").all()]

    console, outside, found = look(SITE / "lab.html", search)

    assert (console, outside) == ([], [])
    assert any("transformerlens.html" in link for link in found)


@pytest.mark.parametrize("page", sorted((DOCS / "api").glob("*.md")), ids=lambda page: page.stem)
def test_the_reference_describes_every_public_name_of_a_module(page):
    if page.stem in ("index", "network"):  # a table of links; a module of which two functions are public
        pytest.skip("not a list of a module's names")
    module = import_module(f"neolens.{page.stem}")
    places = Links(SITE / "api" / f"{page.stem}.html").places
    described = {place.rsplit(".", 1)[-1] for place in places if place and place.startswith("neolens.")}
    own_names = [name for name, value in vars(module).items() if getattr(value, "__module__", "") == module.__name__]
    for name in getattr(module, "__all__", [name for name in own_names if not name.startswith("_")]):
        documented = callable(getattr(module, name)) and getattr(module, name).__doc__
        assert name in described or not documented, f"{page.stem} does not tell of {name}"


def test_the_names_of_the_package_lead_to_their_descriptions():
    page = SITE / "api" / "index.html"
    links = [urldefrag(link) for link in Links(page).links if "#neolens." in link]
    assert {place.rsplit(".", 1)[-1] for _, place in links} == set(neolens.__all__)


def test_a_figure_that_there_is_not_is_refused_with_the_nearest_name():
    figures = hook("figures")
    with pytest.raises(figures.PluginError, match=r"no figure 'lerning': did you mean learning\? there are"):
        figures.element("lerning")


def test_the_search_index_holds_every_page_of_the_documentation():
    index = json.loads((SITE / "search" / "search_index.json").read_text(encoding="utf-8"))
    found = {entry["location"].split("#")[0] for entry in index["docs"]}
    assert {str(path.relative_to(DOCS).with_suffix(".html")) for path in DOCS.rglob("*.md")} <= found
