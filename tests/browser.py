"""A page as a real headless browser sees it: the document after its scripts ran, console, requests.

The browser has no network (no host name resolves); what a page asks for is read from chromium's own network
log, without the requests that chromium makes for itself.
"""

import json
import re
import shutil
import subprocess
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path

import pytest

_CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
_FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage"),
    *("--host-resolver-rules=MAP * ~NOTFOUND", "--enable-logging=stderr", "--v=0", "--window-size=1200,2000"),
)

needed = pytest.mark.skipif(_CHROMIUM is None, reason="no chromium on this machine (apt-get install chromium)")


@dataclass(frozen=True)
class Opened:
    """What happened: the document as HTML, console messages, and the addresses that the page asked for."""

    document: str
    console: list[str]
    requests: list[str]


def opened(page: str, folder: Path) -> Opened:
    """Open the page from a file, let its scripts run for some (virtual) seconds, and look."""
    file, log = folder / "page.html", folder / "net.json"
    file.write_text(page, encoding="utf-8")
    where = (f"--user-data-dir={folder / 'profile'}", f"--log-net-log={log}")
    command = [_CHROMIUM, *_FLAGS, *where, "--virtual-time-budget=6000", "--dump-dom", file.as_uri()]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    console = re.findall(r"INFO:CONSOLE[^]]*\] (.*)", ran.stderr)
    return Opened(ran.stdout, console, _requests(log.read_text()))


def _requests(log: str) -> list[str]:
    try:
        events = json.loads(log)["events"]
    except json.JSONDecodeError:  # chromium ended before it closed the list
        events = json.loads(log.rstrip().rstrip(",") + "]}")["events"]
    asked = [event["params"] for event in events if "url" in event.get("params", {})]
    of_pages = [params for params in asked if params.get("initiator", "not an origin") != "not an origin"]
    return [params["url"] for params in of_pages if not params["url"].startswith(("data:", "blob:"))]


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
