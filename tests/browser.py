"""A page as a real headless browser sees it: the document after its scripts ran, console, requests.

Playwright drives the machine's own chromium, offline. Every request but that for the page itself is noted and
refused; what the console says is noted, with errors that no script caught and what the page's policy forbade. One
browser serves all tests, in a thread of its own, because Playwright leaves an event loop in the thread that it is in.
With NEOLENS_SCREENSHOTS set to a folder, every page leaves a picture there.
"""

import atexit
import os
import re
import shutil
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import Any

import pytest

_CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
_FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--host-resolver-rules=MAP * ~NOTFOUND")
# That a policy forbids WebAssembly, which TensorFlow inside circuitsvis only asks about, is no fault of a page.
_FORBIDDEN = """document.addEventListener("securitypolicyviolation", ({ violatedDirective, blockedURI }) =>
  blockedURI === "wasm-eval" || console.error(`forbidden by the policy: ${violatedDirective} ${blockedURI}`));"""
_QUIET = """() => new Promise((done) => {
  let timer;
  const wait = () => { clearTimeout(timer); timer = setTimeout(() => requestAnimationFrame(done), 600); };
  new MutationObserver(wait).observe(document, { subtree: true, childList: true, attributes: true });
  setTimeout(done, 20000);
  wait();
})"""
# Drawings without a trace, a cell or a painted pixel, by the name of their element.
_BLANK = """() => {
  const DRAWN = ".scatterlayer .trace path, .heatmaplayer image, .barlayer path";
  const painted = (canvas) => canvas.width && canvas.height
    && canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data.some((value) => value);
  const plots = [...document.querySelectorAll(".plot")].filter((plot) => !plot.querySelector(DRAWN));
  const views = [...document.querySelectorAll(".neolens-view")].filter(
    (view) => ![...view.querySelectorAll("canvas")].some(painted) && !view.querySelector(".neolens-tokens span"));
  return [...plots, ...views].map((element) => element.id || element.className);
}"""
_SECONDS = 60


def needed_where(chromium: str | None, *, ci: bool) -> pytest.MarkDecorator:
    """Skips a test on a user's machine without a browser; in CI it runs, and fails for want of one."""
    return pytest.mark.skipif(
        chromium is None and not ci, reason="no chromium on this machine (apt-get install chromium)"
    )


needed = needed_where(_CHROMIUM, ci=bool(os.environ.get("CI")))


@dataclass(frozen=True)
class Opened:
    """What happened: the document as HTML, console messages, the addresses asked for, and what the visit returned."""

    document: str
    console: list[str]
    requests: list[str]
    answer: Any = field(default=None, repr=False)


def opened(
    page: str | Path, folder: Path, visit: Callable[[Any], Any] | None = None, *, site: Path | None = None
) -> Opened:
    """Open the page, HTML or a file, wait until it no longer changes, and look.

    Args:
        site: a folder whose files are the page's own.
        visit: called with Playwright's page, to hover, click, press keys, and read; what it returns is the `answer`.
    """
    if _CHROMIUM is None:
        pytest.fail("CI without chromium: .ci/run installs it, or apt-get install chromium")
    file = page if isinstance(page, Path) else folder / "page.html"
    if isinstance(page, str):
        file.write_text(page, encoding="utf-8")
    return _in_thread(lambda: _look(file, visit, site))


def whole(file: Path, folder: Path, visit: Callable[[Any], Any] | None = None) -> Opened:
    """Open a report, unfold all of it, and assert that every figure and every view in it is drawn, that the console is
    quiet and that nothing was asked for."""

    def unfolded(tab: Any) -> Any:
        tab.evaluate("() => document.querySelectorAll('details').forEach((one) => { one.open = true; })")
        tab.wait_for_function(
            "() => [...document.querySelectorAll('.plot')].every((e) => e.querySelector('.main-svg'))"
        )
        tab.evaluate(_QUIET)
        blank = tab.evaluate(_BLANK)
        return blank, tab.locator(".plot, .neolens-view").count(), visit(tab) if visit else None

    seen = opened(file, folder, unfolded)
    blank, drawings, answer = seen.answer
    assert (seen.console, seen.requests, blank) == ([], [], [])
    assert drawings
    return replace(seen, answer=answer)


def _look(file: Path, visit: Callable[[Any], Any] | None, site: Path | None) -> Opened:
    console: list[str] = []
    requests: list[str] = []
    context = _browser().new_context(offline=True, service_workers="block", viewport={"width": 1200, "height": 1400})
    try:
        context.set_default_timeout(1000 * _SECONDS)
        context.add_init_script(_FORBIDDEN)
        context.route("**/*", lambda route, asked: route.continue_() if _own(asked, file, site) else route.abort())
        context.on("request", lambda asked: None if _own(asked, file, site) else requests.append(asked.url))
        context.on("console", lambda message: console.append(message.text))
        context.on("weberror", lambda error: console.append(f"not caught: {error.error}"))
        tab = context.new_page()
        tab.on("websocket", lambda socket: requests.append(socket.url))
        tab.goto(file.as_uri())
        tab.evaluate(_QUIET)
        answer = visit(tab) if visit else None
        picture(tab)
        return Opened(tab.content(), console, requests, answer)
    finally:
        context.close()


def picture(tab: Any, name: str = "") -> None:
    """A screenshot of the whole page, in the folder that NEOLENS_SCREENSHOTS names, under the test's name."""
    folder, test = os.environ.get("NEOLENS_SCREENSHOTS"), os.environ.get("PYTEST_CURRENT_TEST", "page")
    if folder:
        label = re.sub(r"\W+", "_", test.split("::")[-1].removesuffix(" (call)").removesuffix(" (setup)"))
        tab.screenshot(path=Path(folder) / f"{label}{name and '-' + name}.png", full_page=True)


def _own(asked: Any, file: Path, site: Path | None) -> bool:
    """Whether this is the page itself, data that is in it, or a file of its site."""
    if site is not None and asked.url.startswith(f"{site.as_uri()}/"):
        return True
    return asked.url.startswith(("data:", "blob:")) or (asked.is_navigation_request() and asked.url == file.as_uri())


def _in_thread(do: Callable[[], Any]) -> Any:
    """What `do` returns or raises in the browser's thread."""
    done: Future[Any] = Future()
    _tasks().put((do, done))
    return done.result(timeout=5 * _SECONDS)


@cache
def _tasks() -> SimpleQueue[tuple[Callable[[], Any], Future[Any]]]:
    """The tasks of the browser's thread; a daemon, which still works when the process ends and the browser closes."""
    tasks: SimpleQueue[tuple[Callable[[], Any], Future[Any]]] = SimpleQueue()

    def work() -> None:
        while True:
            do, done = tasks.get()
            try:
                done.set_result(do())
            except BaseException as error:
                done.set_exception(error)

    Thread(target=work, name="browser", daemon=True).start()
    return tasks


@cache
def _browser() -> Any:
    from playwright.sync_api import sync_playwright

    playwright = sync_playwright().start()
    browser = playwright.chromium.launch(executable_path=_CHROMIUM, args=list(_FLAGS))

    def close() -> None:
        browser.close()
        playwright.stop()

    atexit.register(_in_thread, close)
    return browser


class Parsed(HTMLParser):
    """The elements of a page and its text, as a browser would parse them, and what its scripts hold."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.scripts: list[str] = []
        self._inside = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._inside = tag
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside == "script":
            self.scripts[-1] += data
        elif self._inside != "style":
            self.text += data

    def tags(self, name: str) -> list[dict[str, str | None]]:
        return [attrs for tag, attrs in self.elements if tag == name]
