"""The page in a real browser: it runs without an error or a request, and does what it says."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.audit.conftest import Audited
from tests.audit.test_page import SECTIONS

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="NO BROWSER: chromium is not installed")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


class Seen:
    """A page that is open, and what went wrong on it."""

    def __init__(self, browser: Browser, path: str, width: int, scheme: str = "light") -> None:
        context = browser.new_context(
            viewport={"width": width, "height": 900},
            color_scheme=scheme,  # pyright: ignore[reportArgumentType]
        )
        self.page: Page = context.new_page()
        self.wrong: list[str] = []
        self.page.on("console", lambda m: self.wrong.append(f"{m.type}: {m.text}"))
        self.page.on("pageerror", lambda e: self.wrong.append(str(e)))
        self.page.on("request", lambda r: self._request(r.url))
        self.page.on("dialog", lambda d: self.wrong.append("a dialog: " + d.message))
        self._own = Path(path).as_uri()
        self.page.goto(self._own)
        self.page.wait_for_selector("html[data-ready]")

    def _request(self, url: str) -> None:
        if url != self._own and not url.startswith("data:"):
            self.wrong.append(f"request: {url[:80]}")

    def text(self, selector: str) -> str:
        return self.page.locator(selector).inner_text()


@pytest.fixture(scope="module")
def seen(browser: Browser, audited: Audited) -> Seen:
    return Seen(browser, audited.report.page, 1280)


def test_it_runs_without_an_error_or_a_request(seen: Seen) -> None:
    for section in SECTIONS:
        assert len(seen.text(f"#{section}")) > 20, section
    for chart in ("waterfall", "explore"):
        assert seen.page.locator(f"#{chart} .main-svg").count() > 0
    assert seen.page.locator(".shot img").count() > 0
    assert seen.page.locator("img:not([src])").count() == 0
    broken = "[...document.images].filter(i => i.src && i.complete && !i.naturalWidth).length"
    assert seen.page.evaluate(broken) == 0
    assert seen.wrong == []


def test_the_search_finds_a_clip_and_tells_why(seen: Seen, audited: Audited) -> None:
    clip = audited.clips["duplicate"]
    seen.page.fill("#query", clip[:12])
    assert seen.text("#count") == "1 clip"
    assert "dedup.perceptual.min_similarity=0.97 would keep both; nothing else stands" in seen.text(
        "#answer"
    )
    assert seen.page.locator("#detail .pair img").count() == 2
    assert audited.clips["stays"][:12] in seen.text("#detail")
    seen.page.fill("#query", "bikes")
    assert "bikes.mp4" in seen.text("#hits .hit >> nth=0")
    seen.page.fill("#query", "")
    seen.page.select_option("#of-reason", "over_source_cap")
    assert seen.text("#count") == "1 clip" and "share" in seen.text("#answer")
    seen.page.select_option("#of-reason", "")
    seen.page.fill("#query", "nothing is called this")
    assert seen.text("#count") == "0 clips"
    seen.page.fill("#query", "")
    assert seen.wrong == []


def test_moving_a_threshold_changes_what_is_kept(seen: Seen) -> None:
    page = seen.page
    option = page.locator("#pick option", has_text="sharpness at least").first
    page.select_option("#pick", option.get_attribute("value"))
    before = seen.text("#kept-now")
    assert "as many as now" in seen.text("#change")
    assert not page.locator("#command").is_visible()
    last = page.locator("#slide").get_attribute("max")
    page.locator("#slide").fill(str(last))
    assert seen.text("#kept-now") != before and "clips" in seen.text("#change")
    assert "judge.rules.sharpness.min=" in seen.text("#command")
    page.click("#reset")
    assert seen.text("#kept-now") == before
    page.click("[data-unit=hours]")
    assert "hours in clips" in seen.text("#waterfall")
    page.click("[data-unit=clips]")
    assert seen.wrong == []


def test_a_picture_opens_its_clip(seen: Seen) -> None:
    shot = seen.page.locator("#borderline .shot, #duplicates .shot[data-open]").first
    clip = shot.get_attribute("data-open")
    shot.click()
    assert clip is not None and clip in seen.text("#detail")


def test_it_prints(seen: Seen, tmp_path: Path) -> None:
    seen.page.emulate_media(media="print")
    chart = seen.page.locator("#waterfall .main-svg").first.bounding_box()
    table = seen.page.locator("#funnel table").first.bounding_box()
    assert chart is not None and table is not None
    assert table["y"] >= chart["y"] + chart["height"]
    assert not seen.page.locator("#query").is_visible()
    seen.page.emulate_media(media="screen")
    data = seen.page.pdf(path=tmp_path / "a.pdf", format="A4", print_background=True)
    assert data.startswith(b"%PDF") and len(data) > 50_000
    assert seen.wrong == []


@pytest.mark.parametrize(("width", "scheme"), [(420, "light"), (420, "dark"), (1000, "dark")])
def test_it_fits_narrow_screens_and_follows_the_scheme(
    browser: Browser, audited: Audited, width: int, scheme: str
) -> None:
    seen = Seen(browser, audited.report.page, width, scheme)
    assert seen.page.evaluate("document.documentElement.scrollWidth") <= width
    background = seen.page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (background == "rgb(20, 23, 26)") == (scheme == "dark")
    assert seen.wrong == []
