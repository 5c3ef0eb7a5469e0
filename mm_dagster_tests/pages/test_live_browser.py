"""The live page in a real browser, where a test says what the server answers, and when: hostile words everywhere, a
change between two key strokes, a refusal. What the real service shows and does stands in test_live_real.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Request, expect

from mm_dagster_tests.pages.live_pages import HOSTILE, TABS, WORST, shown
from mm_dagster_tests.pages.served import Served, serving
from mm_dagster_tests.pages.test_report import CONTRAST

pytestmark = pytest.mark.long

PHONE, SCREEN = (390, 844), (1280, 900)


class Told:
    """What the pages of a test say; a test changes the words while they are shown."""

    def __init__(self) -> None:
        self.words = "sold a half"

    def __call__(self, path: str, query: dict[str, str], part: bool) -> str:
        return shown(path, query, part, words=self.words)


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def served(told: Told) -> Iterator[Served]:
    with serving(told) as found:
        yield found


@contextmanager
def opened(browser: Browser, size: tuple[int, int] = PHONE, **options: Any) -> Iterator[BrowserContext]:
    context = browser.new_context(viewport={"width": size[0], "height": size[1]}, **options)
    context.set_default_timeout(20_000)
    try:
        yield context
    finally:
        context.close()


@pytest.fixture
def phone(browser: Browser) -> Iterator[BrowserContext]:
    with opened(browser) as context:
        yield context


def watched(page: Page) -> tuple[list[Request], list[str]]:
    """What a page asks for, and what it complains of, from now on."""
    asked: list[Request] = []
    complaints: list[str] = []
    page.on("request", lambda request: asked.append(request))
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("dialog", lambda dialog: complaints.append(dialog.message))
    return asked, complaints


def streaming(served: Served, page: Page, count: int = 1) -> None:
    """Waits until so many streams are open."""
    for _ in range(200):
        if served.streams == count:
            return
        page.wait_for_timeout(50)
    raise AssertionError(f"{served.streams} streams are open, not {count}")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [PHONE, SCREEN])
def test_each_page_fits_a_phone_and_a_screen(
    browser: Browser, served: Served, told: Told, size: Any, scheme: Any
) -> None:
    told.words = HOSTILE
    with opened(browser, size, color_scheme=scheme) as context:
        page = context.new_page()
        asked, complaints = watched(page)
        for path in (*TABS, "/enter"):
            page.goto(served.url + path)
            for summary in page.locator("summary").all():
                summary.click()
            assert page.evaluate("document.documentElement.scrollWidth") == size[0], path
            assert page.evaluate(SMALL_TARGETS) == [], path
            assert page.evaluate(CONTRAST) == [], path
        assert [one.url for one in asked if not one.url.startswith((served.url, "data:"))] == []
        assert complaints == []


SMALL_TARGETS = """[...document.querySelectorAll('main a, nav a, summary, button, input')]
  .filter(e => e.offsetParent && e.getBoundingClientRect().height < 44)
  .map(e => [e.tagName, e.textContent, e.getBoundingClientRect().height])"""
"""What is pressed and is lower than a thumb."""


def test_a_change_is_shown_and_leaves_what_one_reads_as_it_was(
    phone: BrowserContext, served: Served, told: Told
) -> None:
    page = phone.new_page()
    page.goto(f"{served.url}/g/{WORST}")
    streaming(served, page)
    page.get_by_text("10 steps").click()
    page.get_by_text("Add a note").click()
    page.locator("input[name=note]").fill("half sold")
    page.locator("main").focus()
    page.evaluate("scrollTo(0, 900)")
    told.words = "sold it all"
    served.tell("changed")
    expect(page.get_by_text("sold it all").first).to_be_attached()
    assert page.evaluate("scrollY") == 900
    assert page.locator("details[data-key=levels]").get_attribute("open") is not None
    assert page.locator("input[name=note]").input_value() == "half sold"
    assert page.locator("form.answers").is_visible()


def test_nobody_is_interrupted_while_they_type(phone: BrowserContext, served: Served, told: Told) -> None:
    page = phone.new_page()
    page.clock.install()
    page.goto(f"{served.url}/g/{WORST}")
    streaming(served, page)
    page.get_by_text("Add a note").click()
    page.locator("input[name=note]").press_sequentially("hal")
    told.words = "sold it all"
    asked = len(served.gets)
    with page.expect_response(lambda answer: answer.request.headers.get("x-part") == "main"):
        served.tell("changed")
    assert len(served.gets) > asked
    page.locator("input[name=note]").press_sequentially("f sold")
    page.clock.run_for(6_000)
    assert page.get_by_text("sold it all").count() == 0
    page.locator("main").focus()
    page.clock.run_for(6_000)
    expect(page.get_by_text("sold it all").first).to_be_attached()
    assert page.locator("input[name=note]").input_value() == "half sold"


HIDE = """seen => {
  Object.defineProperty(document, 'visibilityState', {configurable: true, get: () => seen ? 'visible' : 'hidden'});
  document.dispatchEvent(new Event('visibilitychange'));
}"""


def test_a_page_that_is_not_seen_asks_for_nothing(phone: BrowserContext, served: Served, told: Told) -> None:
    page = phone.new_page()
    page.clock.install()
    page.goto(f"{served.url}/g/{WORST}")
    streaming(served, page)
    page.evaluate(HIDE, False)
    streaming(served, page, 0)
    asked = len(served.gets)
    page.clock.run_for(300_000)
    assert len(served.gets) == asked
    told.words = "meanwhile"
    page.evaluate(HIDE, True)
    expect(page.get_by_text("meanwhile").first).to_be_attached()
    streaming(served, page)
    assert page.locator("#silent").is_hidden()


def test_what_counts_down_is_renewed_each_minute(phone: BrowserContext, served: Served) -> None:
    page = phone.new_page()
    page.clock.install()
    page.goto(served.url)
    streaming(served, page)
    asked = served.gets.count("/")
    page.clock.run_for(61_000)
    page.wait_for_timeout(300)
    assert served.gets.count("/") == asked + 1


def press(page: Page, name: str, then: Callable[[], None] = lambda: None) -> None:
    page.get_by_role("button", name=name).click()
    then()


@pytest.mark.parametrize(("status", "sentence"), [(409, "sol-range: nothing to respond to"), (422, HOSTILE)])
def test_a_refusal_is_said_where_the_button_is(
    phone: BrowserContext, served: Served, status: int, sentence: str
) -> None:
    served.refuses, served.sentence = status, sentence
    page = phone.new_page()
    _, complaints = watched(page)
    page.goto(f"{served.url}/g/{WORST}")
    press(page, "Snooze 4 h")
    expect(page.locator("output")).to_have_text(sentence.strip())
    assert page.locator("output *").count() == 0
    assert [one for one in complaints if str(status) not in one] == []


def test_a_server_that_is_gone_is_no_answer(browser: Browser, told: Told) -> None:
    with opened(browser) as context:
        page = context.new_page()
        with serving(told) as served:
            page.goto(f"{served.url}/g/{WORST}")
        press(page, "I keep it")
        expect(page.locator("output")).to_have_text("It was not noted: the server does not answer.")


def test_pictures_say_their_figures_and_stay_zoomed(browser: Browser, served: Served, told: Told) -> None:
    with opened(browser, SCREEN) as context:
        page = context.new_page()
        _, complaints = watched(page)
        page.goto(f"{served.url}/g/{WORST}")
        streaming(served, page)
        expect(page.locator("canvas")).to_have_count(2)
        says = page.locator(".chart-says").first
        newest = says.inner_text()
        assert "1 Mar, 12:00 UTC" in newest
        over = page.locator(".u-over").first
        box = over.bounding_box()
        assert box is not None
        over.hover(position={"x": box["width"] / 2, "y": 50})
        expect(says).not_to_have_text(newest)
        # Both pictures point at the same time.
        times = [one.locator(".u-value").first.inner_text() for one in page.locator(".chart-says").all()]
        assert times[0] == times[1]
        assert "Feb" in times[0]
        page.mouse.move(box["x"] + 100, box["y"] + 50)
        page.mouse.down()
        page.mouse.move(box["x"] + 220, box["y"] + 50, steps=4)
        page.mouse.up()
        before = page.evaluate("charts.map(one => [one.scales.x.min, one.scales.x.max])")
        assert before[0] == before[1]
        assert before[0][1] - before[0][0] < 4 * 86_400
        page.mouse.move(0, 0)
        told.words = "another"
        served.tell("changed")
        expect(page.get_by_text("another").first).to_be_attached()
        page.wait_for_function(
            "before => String(charts.map(one => [one.scales.x.min, one.scales.x.max])) === String(before)", arg=before
        )
        assert complaints == []
