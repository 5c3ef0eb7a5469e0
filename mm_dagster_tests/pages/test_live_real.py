"""`mm serve` in a real browser: a process of its own over the demo, and over the flash crash of 2025-10-10.

The clock of the demo runs; that of the crash stands two minutes after a bar, on an exchange that replays it.
"""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import requests
from playwright.sync_api import Browser, BrowserContext, Page, expect

from mm_dagster_tests.cli.on_loopback import surroundings
from mm_dagster_tests.cli.test_home import answers, free_port
from mm_dagster_tests.cli.test_up import wait_until
from mm_dagster_tests.conftest import PROJECT
from mm_dagster_tests.defs.live import CRASH_GRIDS, Live, flash_crash, grid_file, quarter_hours
from mm_dagster_tests.pages.demo_page import DAGSTER, PICTURES, picture_of_dagster, pictures
from mm_dagster_tests.pages.live_pages import HOSTILE
from mm_dagster_tests.pages.real import MM, Real, end, make_demo, served
from mm_dagster_tests.pages.test_live_browser import PHONE, SCREEN, SMALL_TARGETS, watched
from mm_dagster_tests.pages.test_report import CONTRAST

pytestmark = pytest.mark.long

MONTH = 150_000
"""Bytes that the page with a month of one grid weighs at most, all that it loads and nothing compressed."""
LAST, CLOCK = datetime(2025, 10, 10, 21, 30, tzinfo=UTC), datetime(2025, 10, 10, 21, 47, tzinfo=UTC)
SPOKEN = f"{HOSTILE.strip()[:300]}"
"""What a person may type: markup, a text direction, a word without an end; within the length of a note."""


@dataclass
class Served:
    """A service and what is looked at.

    Attributes:
        real: the service.
        paths: its pages.
        grid: the grid that is to be left.
        live: what drives the exchange's half of it; None: nothing does.
    """

    real: Real
    paths: tuple[str, ...]
    grid: str
    live: Live | None = None


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The demo, made and served."""
    folder = tmp_path_factory.mktemp("demo")
    config, data = make_demo(folder)
    with served(config, data, folder / "user") as real:
        paths = ("/", "/g/sol-range?days=30", "/g/btc-next", "/right", "/history?as_of=2026-06-27T12:00Z", "/state")
        yield Served(real, paths, "sol-range")


@pytest.fixture(scope="module")
def crash(tmp_path_factory: pytest.TempPathFactory, shared_data: Path) -> Iterator[Served]:
    """Ticks through the crash, alerts included, and the service over what they stored."""
    folder = tmp_path_factory.mktemp("crash")
    symbols = tuple(str(one["symbol"]) for one in CRASH_GRIDS.values())
    with flash_crash(folder, shared_data, symbols) as live:
        live.configure([grid_file(name) for name in CRASH_GRIDS])
        for as_of in quarter_hours(datetime(2025, 10, 10, 20, 45, tzinfo=UTC), LAST):
            live.tick(as_of)
        with served(live.config_dir, folder / "data", folder / "user", now=CLOCK) as real:
            yield Served(real, ("/", "/g/eth", "/g/ada?days=1", "/right", "/history", "/state"), "eth", live)


@pytest.fixture(params=["demo", "crash"])
def shown(request: pytest.FixtureRequest) -> Served:
    """One and the other."""
    found: Served = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def phone(crash: Served, browser: Browser) -> Iterator[BrowserContext]:
    """Of Anna, who entered."""
    with crash.real.entered(browser) as context:
        yield context


def streams(context: BrowserContext) -> list[str]:
    """The streams that are asked for in a browser from now on."""
    found: list[str] = []
    context.on("request", lambda request: found.append(request.url) if request.url.endswith("/stream") else None)
    return found


def heard(page: Page, path: str) -> None:
    """Opens a page and waits until its stream is open: the page says so to itself."""
    with page.expect_response(lambda answer: answer.url.endswith("/stream") and answer.status == 200):
        page.goto(path)


# how it looks ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [PHONE, SCREEN], ids=["phone", "screen"])
def test_every_page_reads_and_asks_nobody_else(shown: Served, browser: Browser, size: Any, scheme: Any) -> None:
    with shown.real.entered(browser, size, color_scheme=scheme) as context:
        page = context.new_page()
        asked, complaints = watched(page)
        for path in shown.paths:
            answer = page.goto(shown.real.url + path, wait_until="load")
            assert answer is not None
            assert "default-src 'none'" in answer.headers["content-security-policy"]
            expect(page.locator("h1")).to_be_visible()
            for summary in page.locator("summary").all():
                summary.click()
            assert page.evaluate("document.documentElement.scrollWidth") == size[0], path
            assert page.evaluate(SMALL_TARGETS) == [], path
            assert page.evaluate(CONTRAST) == [], path
        assert [one.url for one in asked if not one.url.startswith((shown.real.url, "data:"))] == []
        assert complaints == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [PHONE, SCREEN], ids=["phone", "screen"])
def test_axe_finds_no_serious_fault(shown: Served, browser: Browser, size: Any, scheme: Any) -> None:
    script = axe()
    with shown.real.entered(browser, size, color_scheme=scheme) as context:
        page = context.new_page()
        for path in (*shown.paths, "/enter"):
            page.goto(shown.real.url + path)
            # Its stream goes on, so that a page is never idle; axe is not a script of the page's own.
            page.evaluate(script)
            found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
            assert found["testEngine"]["name"] == "axe-core"
            assert len(found["passes"]) > 10
            serious = [one for one in found["violations"] if one["impact"] in ("serious", "critical")]
            assert [(one["id"], [node["html"] for node in one["nodes"]][:3]) for one in serious] == [], path


def axe() -> str:
    """The script of axe-core, where npm has put it."""
    places = [PROJECT / "node_modules"]
    npm = shutil.which("npm")
    if npm:
        root = subprocess.run([npm, "root", "--global"], capture_output=True, text=True, check=False).stdout.strip()
        places += [Path(root)] if root else []
    for place in places:
        script = place / "axe-core" / "axe.min.js"
        if script.is_file():
            return script.read_text(encoding="utf-8")
    pytest.skip("axe-core is not here: `npm install --no-save axe-core` fetches it")


def test_what_is_simulated_says_so_and_what_is_not_does_not(demo: Served, crash: Served, browser: Browser) -> None:
    for shown, said in ((demo, True), (crash, False)):
        with shown.real.entered(browser) as context:
            page = context.new_page()
            for path in shown.paths:
                page.goto(shown.real.url + path)
                assert (page.get_by_text("SIMULATED").count() > 0) == said, path


def test_the_first_screen_of_a_phone_says_what_by_when_and_how_much(demo: Served, browser: Browser) -> None:
    with demo.real.entered(browser) as context:
        page = context.new_page()
        page.goto(demo.real.url)
        tabs = page.locator("nav.tabs").bounding_box()
        assert tabs is not None
        for said in (
            page.locator("h1"), page.locator("main > .do"), page.locator("main > .by"),
            page.locator("main > .money"), page.locator("main nav.tiles"),
        ):  # fmt: skip
            box = said.bounding_box()
            assert box is not None
            assert box["y"] + box["height"] <= tabs["y"], said.inner_text()
        assert page.locator("h1").inner_text() == "sol-range: LATEST ACCEPTABLE EXIT"
        assert page.locator("main > .do").inner_text().startswith("Stop the grid within 1 h")
        assert "-19.23 USDT" in page.locator("main > .money").inner_text()


def test_a_month_of_one_grid_weighs_little(demo: Served, browser: Browser) -> None:
    with demo.real.entered(browser) as context:
        page = context.new_page()
        sizes: dict[str, int] = {}
        page.on(
            "response",
            lambda answer: None if "/stream" in answer.url else sizes.update({answer.url: len(answer.body())}),
        )
        page.goto(f"{demo.real.url}/g/eth-range?days=30", wait_until="load")
        expect(page.locator("canvas")).to_have_count(2)
        assert len(sizes) >= 6
        assert sum(sizes.values()) <= MONTH, sizes


def test_without_scripts_it_reads_and_its_links_work(demo: Served, browser: Browser) -> None:
    with demo.real.entered(browser) as entered:
        session: Any = entered.storage_state()
    context = browser.new_context(java_script_enabled=False, storage_state=session)
    try:
        page = context.new_page()
        page.goto(demo.real.url)
        assert page.locator("h1").inner_text() == "sol-range: LATEST ACCEPTABLE EXIT"
        assert page.locator("form.answers").first.is_hidden()
        assert page.get_by_text("Without JavaScript").is_visible()
        page.get_by_role("link", name="Were we right?").click()
        assert page.locator("h1").inner_text() == "Were we right?"
        page.get_by_role("link", name="History").click()
        page.get_by_role("button", name="Look").click()
        assert "/history?as_of=2026-06-29T" in page.url
        page.get_by_role("link", name="A grid").click()
        assert page.locator(".plot svg").count() > 2
        page.get_by_role("link", name="30 days").click()
        assert page.get_by_text("30 days: price").is_visible()
    finally:
        context.close()


def test_a_grid_s_page_has_the_plan_and_the_states_of_the_lake(crash: Served, phone: BrowserContext) -> None:
    page = phone.new_page()
    page.goto(f"{crash.real.url}/g/eth")
    text = page.locator("main").inner_text().replace("\xa0", " ")
    assert page.locator("h1").inner_text() == "eth: MANDATORY EXIT"
    assert "The plan to leave eth" in text
    assert "sold everything by 2025-10-10 21:15 UTC" in text
    # Since the crash it lies below all its bounds: the figure that says so is one that a person can check.
    assert "Stop 3.0 % above the price, lower bound 8.6 % above, upper 33.7 % above." in text
    assert "Chance to break" not in text


# who comes in ---------------------------------------------------------------------------------------------------------


def test_a_code_in_the_address_is_spent_by_a_press_only_and_does_not_stay(crash: Served, browser: Browser) -> None:
    (link,) = json.loads(crash.real.mm("link", "--json"))
    address = f"{crash.real.url}/enter#{link['code']}"
    context = browser.new_context()
    try:
        page = context.new_page()
        for _ in range(2):
            # Opened twice, as a messenger does before the person: it is still good.
            page.goto("about:blank")
            page.goto(address)
            expect(page.get_by_label("One-time code")).to_have_value(link["code"])
            assert page.url == f"{crash.real.url}/enter"
        page.get_by_role("button", name="Come in").click()
        expect(page.locator("nav.tabs")).to_be_visible()
        assert page.url == f"{crash.real.url}/"
        assert link["code"] not in page.content()
        page.goto("about:blank")
        page.goto(address)
        page.get_by_role("button", name="Come in").click()
        expect(page.get_by_role("alert")).to_contain_text("this code is none, or was spent, or is over")
    finally:
        context.close()


def test_who_is_signed_out_is_told_and_led_back_to_where_they_were(demo: Served, browser: Browser) -> None:
    with demo.real.entered(browser) as context:
        page = context.new_page()
        heard(page, f"{demo.real.url}/g/eth-range")
        demo.real.mm("link", "--end")
        # What it stored is told to the page, which asks and is refused; a minute later it asks in any case.
        page.evaluate("renew()")
        expect(page.locator("#silent")).to_contain_text("You are not signed in any more")
        page.get_by_role("link", name="Sign in again").click()
        (link,) = json.loads(demo.real.mm("link", "--json"))
        page.get_by_label("One-time code").fill(link["code"])
        page.get_by_role("button", name="Come in").click()
        expect(page.locator("h1")).to_contain_text("eth-range: WARNING")
        assert page.url == f"{demo.real.url}/g/eth-range"


# that it stays true ---------------------------------------------------------------------------------------------------


def test_a_tick_renews_the_page_without_loading_it_anew(crash: Served, phone: BrowserContext) -> None:
    assert crash.live is not None
    page = phone.new_page()
    heard(page, crash.real.url)
    expect(page.locator("main")).to_contain_text("As of 2025-10-10 21:30 UTC")
    page.evaluate("window.isTheSame = true")
    crash.live.tick(datetime(2025, 10, 10, 21, 45, tzinfo=UTC))
    expect(page.locator("main")).to_contain_text("As of 2025-10-10 21:45 UTC")
    assert page.evaluate("window.isTheSame")


def test_two_tabs_share_one_stream_and_the_other_takes_it_over(crash: Served, phone: BrowserContext) -> None:
    asked = streams(phone)
    first, second = phone.new_page(), phone.new_page()
    heard(first, f"{crash.real.url}/g/sol")
    second.goto(f"{crash.real.url}/g/sol")
    for number, reader in enumerate((first, second)):
        crash.real.mm("respond", "sol", "kept", "--note", f"change {number}")
        expect(reader.get_by_text(f"change {number}").first).to_be_attached()
    assert len(asked) == 1
    with second.expect_response(lambda answer: answer.url.endswith("/stream")):
        first.close()
    crash.real.mm("respond", "sol", "kept", "--note", "after the first")
    expect(second.get_by_text("after the first").first).to_be_attached()
    assert len(asked) == 2


def test_silence_of_a_minute_is_said_and_ends_with_the_next_word(demo: Served, browser: Browser) -> None:
    with demo.real.entered(browser) as context:
        page = context.new_page()
        page.clock.install()
        heard(page, demo.real.url)
        demo.real.process.send_signal(signal.SIGSTOP)
        try:
            page.clock.run_for(55_000)
            assert page.locator("#silent").is_hidden()
            page.clock.run_for(15_000)
            expect(page.locator("#silent")).to_contain_text("Nothing was heard from the server for a minute")
        finally:
            demo.real.process.send_signal(signal.SIGCONT)
        # It says that it lives every quarter of a minute.
        expect(page.locator("#silent")).to_be_hidden()


def test_after_the_server_was_away_the_page_finds_it_again(crash: Served, browser: Browser, tmp_path: Path) -> None:
    config, data = Path(crash.real.own["MM_CONFIG_DIR"]), crash.real.data
    with served(config, data, tmp_path / "one", now=CLOCK) as one, one.entered(browser) as context:
        page = context.new_page()
        heard(page, one.url)
        one.process.send_signal(signal.SIGINT)
        one.process.wait(30)
        port = int(one.url.rpartition(":")[2])
        with (
            page.expect_response(lambda answer: answer.url.endswith("/stream"), timeout=60_000),
            served(config, data, tmp_path / "two", port=port, now=CLOCK) as two,
        ):
            two.mm("respond", "ada", "kept", "--note", "said while it came back")
        expect(page.get_by_text("said while it came back").first).to_be_attached()


# what is answered -----------------------------------------------------------------------------------------------------


@contextmanager
def answered(crash: Served) -> Iterator[list[dict[str, Any]]]:
    """The rows of `operator_response` that come while it lasts."""
    before = stored(crash)
    found: list[dict[str, Any]] = []
    yield found
    found += [row for number, row in stored(crash).items() if number not in before]


def stored(crash: Served) -> dict[str, dict[str, Any]]:
    """All of them by their number."""
    return {row["response_id"]: row for row in crash.real.lake().read("operator_response").to_dicts()}


@pytest.mark.parametrize(
    ("grid", "button", "action", "note"),
    [
        ("sol", "I reduced it", "reduced", "sold a half"),
        ("eth", "I keep it", "kept", SPOKEN),
        ("ada", "I stopped it", "stopped", ""),
        ("ada", "It runs again", "reopened", ""),
    ],
)
def test_a_button_writes_the_row_of_mm_respond_and_the_page_shows_it(
    crash: Served, phone: BrowserContext, grid: str, button: str, action: str, note: str
) -> None:
    page = phone.new_page()
    asked, complaints = watched(page)
    heard(page, f"{crash.real.url}/g/{grid}")
    with answered(crash) as rows:
        if note:
            page.get_by_text("Add a note").click()
            page.locator("input[name=note]").fill(note)
            # The Enter key ends a note and answers nothing.
            page.locator("input[name=note]").press("Enter")
        page.get_by_role("button", name=button).click()
        if action == "stopped":
            page.get_by_role("button", name="press again").click()
        expect(page.locator("output")).to_contain_text(f"Noted: {action}.")
    (row,) = rows
    assert (row["action"], row["note"], row["person"], row["through"]) == (action, note or None, "anna", "page")
    # What it says stands there as text, by the name of who said it, and what came of it stays when the page is renewed.
    entry = page.locator(".log li", has_text="anna noted it, by page").filter(has_text=action).first
    expect(entry).to_be_attached()
    if note:
        expect(entry).to_contain_text(note[:80])
    expect(page.locator("output")).to_contain_text(f"Noted: {action}.")
    if action in ("stopped", "reopened"):
        expect(page.locator("h1")).to_have_text(f"ada: {'STOPPED' if action == 'stopped' else 'MANDATORY EXIT'}")
    assert page.locator("main script, main img").count() == 0
    assert [one.url for one in asked if not one.url.startswith(crash.real.url)] == []
    assert complaints == []
    # The clock stands, and the terminal says the same at the same time: it is the same row, by nobody's name.
    if action not in ("stopped", "reopened"):
        crash.real.mm("respond", grid, action, *(["--note", note] if note else []))
        assert stored(crash)[row["response_id"]] == {**row, "person": None, "through": "mm"}


def test_only_what_is_taken_is_offered(crash: Served, demo: Served, phone: BrowserContext, browser: Browser) -> None:
    page = phone.new_page()
    page.goto(f"{crash.real.url}/g/eth")
    # A MANDATORY_EXIT takes a decision.
    assert page.locator("form.answers button").all_inner_texts() == ["I stopped it", "I reduced it", "I keep it"]
    with demo.real.entered(browser) as context:
        page = context.new_page()
        for grid, can_wait in (("sol-range", True), ("eth-range", False)):
            heard(page, f"{demo.real.url}/g/{grid}")
            assert (page.get_by_role("button", name="Snooze 4 h").count() == 1) == can_wait
        heard(page, f"{demo.real.url}/g/sol-range")
        page.get_by_role("button", name="Snooze 4 h").click()
        expect(page.locator("output")).to_contain_text("Noted: snoozed.")


def test_a_press_that_was_not_meant_is_forgotten(crash: Served, phone: BrowserContext) -> None:
    page = phone.new_page()
    page.clock.install()
    heard(page, f"{crash.real.url}/g/eth")
    with answered(crash) as rows:
        page.get_by_role("button", name="I stopped it").click()
        page.clock.run_for(9_000)
        page.get_by_role("button", name="I stopped it").click()
        expect(page.get_by_role("button", name="press again")).to_be_visible()
    assert rows == []


def test_it_is_used_by_keys_alone(crash: Served, browser: Browser) -> None:
    with crash.real.entered(browser, SCREEN) as context:
        page = context.new_page()
        heard(page, crash.real.url)
        here = "document.activeElement.textContent"
        page.keyboard.press("Tab")
        assert page.evaluate(here) == "To the content"
        page.keyboard.press("Enter")
        assert page.evaluate("document.activeElement.id") == "main"
        seen = []
        while "I reduced it" not in seen:
            page.keyboard.press("Tab")
            seen.append(page.evaluate(here))
            assert page.evaluate("parseFloat(getComputedStyle(document.activeElement).outlineWidth)") >= 2, seen
            assert len(seen) < 30
        # The tiles lead to the grids; then each grid's own link and its buttons.
        assert any("MANDATORY EXIT" in one for one in seen)
        with answered(crash) as rows:
            page.keyboard.press("Space")
            expect(page.locator("output", has_text="Noted: reduced.")).to_be_visible()
        assert [row["action"] for row in rows] == ["reduced"]


def test_markup_in_an_id_stays_text(crash: Served, phone: BrowserContext) -> None:
    page = phone.new_page()
    asked, complaints = watched(page)
    page.goto(f"{crash.real.url}/g/%3Cimg%20src=x%20onerror=alert(1)%3E")
    expect(page.locator("h1")).to_contain_text("MANDATORY EXIT")
    page.goto(f"{crash.real.url}/history?as_of=%3Cimg%20src=x%20onerror=alert(1)%3E")
    expect(page.get_by_role("alert").first).to_contain_text("<img src=x onerror=alert(1)>")
    assert page.locator("img").count() == 0
    assert [one.url for one in asked if not one.url.startswith((crash.real.url, "data:"))] == []
    assert [one for one in complaints if "400" not in one] == []
    with answered(crash) as rows:
        session = requests.Session()
        session.cookies.update({one["name"]: one["value"] for one in phone.cookies()})  # type: ignore[typeddict-item]
        refused = session.post(
            f"{crash.real.url}/grids/%3Cscript%3E/respond",
            json={"action": "kept"},
            headers={"Origin": crash.real.url},
            timeout=30,
        )
    assert refused.status_code == 404
    assert refused.headers["content-type"] == "application/json"
    assert rows == []


# beside Dagster -------------------------------------------------------------------------------------------------------


def test_what_mm_up_starts_leads_from_one_page_to_the_other(browser: Browser, tmp_path: Path) -> None:
    own, (page_port, port) = surroundings(tmp_path / "user", {}, None), (free_port(), free_port())
    made = subprocess.run(
        [*MM, "init", str(tmp_path / "home"), "--yes", "--exchange", "simulated"], env=own, capture_output=True,
        check=False, timeout=300,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    command = [*MM, "up", "--no-tick", "--port", f"{port}", "--serve-port", f"{page_port}"]
    with (tmp_path / "said").open("w") as said:
        up = subprocess.Popen(command, env=own, stdout=said, stderr=said, text=True)
        context = browser.new_context()
        try:
            wait_until(lambda: up.poll() is not None or answers(port))
            link = re.search(r"live page (http\S+)", (tmp_path / "said").read_text())
            assert link, (tmp_path / "said").read_text()
            page = context.new_page()
            page.goto(link[1])
            page.get_by_role("button", name="Come in").click()
            page.get_by_role("link", name="Health").click()
            page.get_by_role("link", name="exit_state in Dagster").click()
            page.wait_for_url(f"http://127.0.0.1:{port}/assets/exit_state")
            expect(page.get_by_text("May the grid go on?").first).to_be_visible(timeout=60_000)
        finally:
            context.close()
            end(up)


# the pictures of the documents ----------------------------------------------------------------------------------------


def test_the_pictures_of_the_docs_can_be_made(demo: Served, browser: Browser, tmp_path: Path) -> None:
    pictures(tmp_path, browser, demo.real)
    picture_of_dagster(tmp_path, browser, demo.real.data)
    assert {path.stem for path in tmp_path.iterdir()} == {*PICTURES, DAGSTER}
    assert all(path.stat().st_size < 200_000 for path in tmp_path.iterdir())


def test_readme_shows_both_pages() -> None:
    text = (PROJECT / "README.md").read_text(encoding="utf-8")
    for name in ("page", DAGSTER):
        assert f"docs/{name}.png" in text
        assert 10_000 < (PROJECT / "docs" / f"{name}.png").stat().st_size < 200_000
