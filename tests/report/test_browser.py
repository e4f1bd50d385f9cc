"""The browser of the tests notices what a page must not do: requests, errors, and what its policy forbids."""

from pathlib import Path

import pytest

import browser
from neolens.figures.offline import POLICY

ASKS = {
    "an image": ('<img src="http://example.invalid/x.png">', "http://example.invalid/x.png"),
    "a script": ('<script src="https://example.invalid/x.js"></script>', "https://example.invalid/x.js"),
    "a style": ('<link rel="stylesheet" href="http://example.invalid/x.css">', "http://example.invalid/x.css"),
    "a fetch": ('<script>fetch("http://example.invalid/data").catch(() => 0)</script>', "http://example.invalid/data"),
    "a beacon": ('<script>navigator.sendBeacon("http://example.invalid/b", "x")</script>', "http://example.invalid/b"),
    "a socket": ('<script>new WebSocket("ws://example.invalid/s")</script>', "ws://example.invalid/s"),
    "a frame": ('<iframe src="http://example.invalid/f"></iframe>', "http://example.invalid/f"),
    "another file": ('<img src="other.png">', "other.png"),
}


@browser.needed
@pytest.mark.parametrize(("asking", "address"), ASKS.values(), ids=ASKS)
def test_whatever_a_page_asks_for_is_noted(asking, address, tmp_path):
    seen = browser.opened(f"<!DOCTYPE html><body>{asking}</body>", tmp_path)
    assert [asked for asked in seen.requests if asked.endswith(address)]


@browser.needed
def test_data_in_the_page_is_no_request(tmp_path):
    pixel = "data:image/gif;base64,R0lGODlhAQABAAAAACH5BAEKAAEALAAAAAABAAEAAAICTAEAOw=="
    seen = browser.opened(f'<!DOCTYPE html><body><img src="{pixel}"></body>', tmp_path)
    assert seen.requests == []
    assert seen.console == []


WRONG = {
    "logged": ('console.error("boom")', "boom"),
    "thrown": ('throw new Error("boom")', "not caught: .*boom"),
    "rejected": ('Promise.reject(new Error("boom"))', "not caught: .*boom"),
    "thrown later": ('setTimeout(() => { throw new Error("boom") }, 100)', "not caught: .*boom"),
}


@browser.needed
@pytest.mark.parametrize(("script", "message"), WRONG.values(), ids=WRONG)
def test_every_error_of_a_page_is_noted(script, message, tmp_path):
    seen = browser.opened(f"<!DOCTYPE html><body><script>{script}</script></body>", tmp_path)
    assert len(seen.console) == 1
    with pytest.raises(AssertionError, match=message):
        raise AssertionError(seen.console[0])


@browser.needed
@pytest.mark.parametrize(
    ("asking", "forbidden"),
    [
        ('<img src="http://example.invalid/x.png">', "img-src http://example.invalid/x.png"),
        ("<script>eval('1')</script>", "script-src eval"),
        ('<script>new Worker("data:text/javascript,0")</script>', "worker-src data"),
    ],
    ids=["an image", "code from text", "a worker"],
)
def test_what_the_policy_of_a_view_forbids_is_noted(asking, forbidden, tmp_path):
    policy = f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
    seen = browser.opened(f"<!DOCTYPE html><head>{policy}</head><body>{asking}</body>", tmp_path)
    assert f"forbidden by the policy: {forbidden}" in seen.console


@browser.needed
def test_a_visit_sees_the_page_that_its_scripts_made_and_brings_back_what_it_found(tmp_path):
    script = 'document.body.append(Object.assign(document.createElement("p"), { textContent: 2 * 21 }))'
    page = f"<!DOCTYPE html><body><script>setTimeout(() => {{ {script} }}, 200)</script></body>"
    seen = browser.opened(page, tmp_path, lambda tab: tab.locator("p").inner_text())
    assert seen.answer == "42"
    assert "<p>42</p>" in seen.document


@browser.needed
def test_a_failure_in_a_visit_is_the_failure_of_the_test(tmp_path):
    def fail(tab):
        raise AssertionError("as it should")

    with pytest.raises(AssertionError, match="as it should"):
        browser.opened("<!DOCTYPE html><body></body>", tmp_path, fail)


@browser.needed
def test_a_screenshot_is_left_where_one_is_wanted(tmp_path, monkeypatch):
    monkeypatch.setenv("NEOLENS_SCREENSHOTS", str(tmp_path))
    browser.opened("<!DOCTYPE html><body>seen</body>", tmp_path)
    (picture,) = tmp_path.glob("*.png")
    assert picture.name == "test_a_screenshot_is_left_where_one_is_wanted.png"
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_in_ci_a_missing_browser_fails_and_elsewhere_it_is_a_skip_with_its_reason(monkeypatch, tmp_path):
    monkeypatch.setattr(browser, "_CHROMIUM", None)
    with pytest.raises(pytest.fail.Exception, match="CI without chromium"):
        browser.opened("<!DOCTYPE html>", Path(tmp_path))
    skipped = browser.needed_where(None, ci=False)
    assert skipped.args == (True,)
    assert "no chromium on this machine" in skipped.kwargs["reason"]
    assert browser.needed_where(None, ci=True).args == (False,)
    assert browser.needed_where("/usr/bin/chromium", ci=False).args == (False,)
