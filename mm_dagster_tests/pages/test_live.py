"""The live page as text: what it says, what it must never hold, what it needs beside itself."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from itertools import pairwise

import pytest

from mm_dagster.pages import live, log
from mm_dagster.pictures.colours import STATE_COLOURS, on_colour
from mm_dagster_tests.pages.live_pages import (
    HOSTILE,
    TABS,
    WORST,
    now,
    outcome_row,
    rate_row,
    shown,
    stay_row,
    tick_row,
)
from mm_dagster_tests.pages.rows import AS_OF, CLOCK, drawings, grid, message_row, on_page, page, told


class Seen(HTMLParser):
    """The tags of a page with their attributes, and the levels of its headings."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    @property
    def headings(self) -> list[int]:
        return [int(tag[1]) for tag, _ in self.tags if re.fullmatch("h[1-6]", tag)]


WHOLE = [*TABS, "/enter"]


def whole(path: str) -> str:
    return live.enter(wrong=True) if path == "/enter" else shown(path)


@pytest.mark.parametrize("path", TABS)
def test_what_people_wrote_stays_text(path: str) -> None:
    tame, wild = Seen(shown(path)), Seen(shown(path, words=HOSTILE))
    assert [tag for tag, _ in wild.tags] == [tag for tag, _ in tame.tags]
    assert not [name for _, found in wild.tags for name in found if name.startswith("on")]
    if path != "/right":
        assert "&lt;script&gt;" in shown(path, words=HOSTILE)


def test_an_id_that_means_harm_stays_text_and_leads_nowhere_else() -> None:
    row = message_row(grid(), grid_id=HOSTILE)
    seen = Seen(live.now(page(alerts=told(row)), {}, ()))
    (address,) = [str(found["href"]) for tag, found in seen.tags if tag == "a" and "%3Cscript" in (found["href"] or "")]
    assert address.startswith("/g/%3Cscript%3E")
    assert "/" not in address.removeprefix("/g/")
    assert [tag for tag, _ in seen.tags].count("script") == 1


@pytest.mark.parametrize("path", WHOLE)
def test_no_page_holds_a_script_or_a_style_or_leads_elsewhere(path: str) -> None:
    text = whole(path)
    seen = Seen(text)
    assert [found for tag, found in seen.tags if tag == "script" and not found.get("src")] == []
    assert "style" not in [tag for tag, _ in seen.tags]
    assert [name for _, found in seen.tags for name in found if name.startswith("on")] == []
    assert re.findall("https?:|//[a-z]", text) == []
    for _, found in seen.tags:
        for name in ("href", "src", "action"):
            address = found.get(name) or ""
            assert re.match(r"(/(?!/)|#|\?|$)", address), address
            if address.startswith("/static/"):
                file, _, version = address.removeprefix("/static/").partition("?v=")
                assert (live.STATIC / file).is_file()
                assert len(version) == 10


@pytest.mark.parametrize("path", WHOLE)
def test_headings_are_in_order_and_the_language_is_said(path: str) -> None:
    text = whole(path)
    headings = Seen(text).headings
    assert headings[0] == 1
    assert headings.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(headings))
    assert '<html lang="en"' in text


@pytest.mark.parametrize("path", TABS)
def test_a_part_is_what_stands_inside_of_main(path: str) -> None:
    part, text = shown(path, part=True), shown(path)
    assert "<html" not in part
    assert "<main" not in part
    inside = text.split('<main id="main" tabindex="-1">')[1].split("</main>")[0]
    assert part.strip() == inside.strip()
    title = re.search(r'data-title="([^"]*)"', part)
    assert title is not None
    assert f"<title>{title[1]}</title>" in text


@pytest.mark.parametrize("path", TABS)
def test_nothing_that_is_asked_for_changes_anything(path: str) -> None:
    forms = [found for tag, found in Seen(shown(path)).tags if tag == "form"]
    assert [form.get("method") for form in forms if "data-grid" not in form] in ([], ["get"])
    # The buttons of an answer send nothing by themselves: the script posts it.
    buttons = [found for tag, found in Seen(shown(path)).tags if tag == "button" and "value" in found]
    assert all(found["type"] == "button" for found in buttons)


def test_who_must_act_is_said_first_with_what_and_by_when() -> None:
    text = shown("/")
    top = text.partition("<article")[0]
    places = [top.index(words) for words in (f"{WORST}: LATEST", "Stop the grid.", "By 2026-03-01 12:31 UTC", "tiles")]
    assert places == sorted(places)
    assert f'href="/g/{WORST}"' in top


def test_the_buttons_are_those_of_a_grid_that_runs() -> None:
    def values(text: str) -> list[str]:
        return re.findall(r'<button type="button" value="(\w+)"', text)

    assert values(shown(f"/g/{WORST}")) == ["stopped", "reduced", "kept", "snoozed"]
    assert values(shown("/history")) == []
    answer = {"action": "stopped", "at": AS_OF, "told_by": None, "note": None}
    halted = replace(on_page(grid()), state="STOPPED", answer=answer)
    assert values(live.grid(page(halted), halted, {}, (), ())) == ["reopened"]


def test_a_grid_s_history_has_states_answers_and_messages_the_newest_first() -> None:
    text = shown(f"/g/{WORST}").partition("Its history")[2]
    said = [
        "Anna noted it, by page, 29 min after the alert.", "So far for 2 min. It began at 97.5, when the grid stood",
        "Alert: sent 2026-03-01 11:31 UTC", "Held for more than 1 day 6 h.",
    ]  # fmt: skip
    places = [text.index(words) for words in said]
    assert places[2:] == sorted(places[2:])
    assert max(places[:2]) < places[2]
    assert "“sold a half”" in text


def test_were_we_right_says_rate_and_interval_and_what_came() -> None:
    text = shown("/right")
    for words in (
        "7 of 9 right, 78&nbsp;%", "95&nbsp;% interval 45 to 94&nbsp;%; on the grids of the rule 61&nbsp;%",
        "Right: it closed twice below the grid 5 h 15 min later.",
        "Leaving then and not holding for 14 days or to the stop was worth +31.50 USDT, +3.15&nbsp;% of the capital.",
        "Answer: reduced after 29 min.", "Wrong: neither", "No answer.",
    ):  # fmt: skip
        assert words in text, words
    assert "Nobody was told of an escalation yet." in live.right(now(), (), ())


@pytest.mark.parametrize("outcome", ["OPEN", "HELD", "LATE", "UNKNOWN"])
def test_what_is_not_known_to_be_right_is_not_called_right(outcome: str) -> None:
    row = outcome_row(outcome, gain_vs_hold=None, gain_vs_hold_percent=None)
    said = log.of_outcome(row, {}).text
    assert not said.startswith("Right")
    assert "later" not in said
    assert "worth" not in said


def test_health_counts_ticks_that_ran_and_names_those_that_failed() -> None:
    text = shown("/state")
    assert "90 of 96 ticks in 24 h" in text
    assert text.count('class="t-none"') == 6 + 1
    assert text.count('class="t-failed"') == 1 + 1
    assert "Failed: SOL-USDT. sold a half" in text
    bare = live.health(page(on_page(grid())), [tick_row(number) for number in range(96)], ())
    assert ">All is well</h1>" in bare
    assert ">It works now</h1>" in live.health(page(on_page(grid())), [tick_row(0)], ())
    young = live.health(page(on_page(grid())), [tick_row(number) for number in range(4)], (), due=4)
    assert "4 of 4 ticks in 24 h" in young
    assert ">All is well</h1>" in young


def test_health_leads_to_dagster_where_it_is_known_to_run() -> None:
    seen = page(on_page(grid()))
    assert 'href="http://127.0.0.1:3000/assets/exit_state"' in live.health(seen, [], (), "http://127.0.0.1:3000")
    assert "Dagster" not in live.health(seen, [], ())


def test_times_are_those_of_the_operator() -> None:
    text = live.now(now(timezone="Europe/Berlin"), {}, ())
    assert "By 2026-03-01 13:31 CET (12:31 UTC), 29 min left" in text
    assert not re.search(r"\d\d:\d\d:\d\dZ", text)


def test_a_time_that_is_asked_for_is_of_the_operator_s_zone() -> None:
    assert live.asked("2026-06-29T18:45", "Europe/Berlin") == datetime(2026, 6, 29, 16, 45, tzinfo=UTC)
    assert live.asked("2026-06-29T16:45Z", "Europe/Berlin") == datetime(2026, 6, 29, 16, 45, tzinfo=UTC)
    for wrong in ("yesterday", "0001-01-01T00:00", ""):
        with pytest.raises(ValueError, match="is no time: write it like"):
            live.asked(wrong, "Europe/Berlin")
    for unknown in ("1969-01-01T00:00Z", "9999-12-31T23:59Z"):
        with pytest.raises(ValueError, match="nothing is known of that year"):
            live.asked(unknown, "UTC")


def test_the_steps_of_the_history_lead_to_the_bars_beside_it() -> None:
    text = live.history(replace(now(), looked_up=True), {}, (), refused="'x' is no time.")
    assert re.findall(r'href="/history\?as_of=([^"]*)"', text)[2:4] == ["2026-03-01T11:45Z", "2026-03-01T12:15Z"]
    assert 'value="2026-03-01T12:00"' in text
    assert "is no time." in text


@pytest.mark.parametrize("path", ["/", "/history", "/right", "/state"])
def test_pages_of_nothing_are_pages(path: str) -> None:
    bare = page(markets=(), tick=None)
    text = {
        "/": lambda: live.now(bare, {}, ()),
        "/history": lambda: live.history(bare, {}, ()),
        "/right": lambda: live.right(bare, (), ()),
        "/state": lambda: live.health(bare, (), ()),
    }[path]()
    assert "A grid</a>" not in text
    assert "<h1" in text


def test_a_stay_that_began_before_the_picture_is_not_said_to_be_shorter() -> None:
    one = on_page(grid())
    assert log.of_stay(stay_row("NORMAL", 10, 4), one, CLOCK).text.startswith("Held for 4 h. It began at")
    cut = log.of_stay(stay_row("NORMAL", 10, 10.25, is_cut=True), one, CLOCK)
    assert cut.text == "So far for more than 10 h 2 min."
    assert cut.at == AS_OF - timedelta(hours=10)


def test_the_colours_of_the_ranks_are_those_of_the_pictures() -> None:
    look = (live.STATIC / "look.css").read_text(encoding="utf-8")
    for rank, colour in enumerate(STATE_COLOURS.values()):
        assert f".s{rank} {{ background: {colour}; color: {on_colour(colour)}; }}" in look
        assert f".f{rank} {{ fill: {colour}; }} .b{rank} {{ background: {colour}; }}" in look


def test_every_file_beside_the_page_has_a_type_and_an_app_can_be_made_of_it() -> None:
    files = [path.name for path in live.STATIC.iterdir()]
    assert {f".{name.rpartition('.')[2]}" for name in files} == set(live.TYPES)
    manifest = json.loads((live.STATIC / "manifest.webmanifest").read_text(encoding="utf-8"))
    assert {"name", "start_url", "display", "icons"} <= set(manifest)
    sizes = {icon["sizes"]: (live.STATIC / icon["src"].removeprefix("/static/")) for icon in manifest["icons"]}
    for size, path in sizes.items():
        width, height = (int.from_bytes(path.read_bytes()[place : place + 4], "big") for place in (16, 20))
        assert f"{width}x{height}" == size
    assert set(sizes) == {"192x192", "512x512"}
    assert "Leon Sorokin" in (live.STATIC / "uPlot.LICENSE.txt").read_text(encoding="utf-8")


def test_what_is_drawn_anew_is_what_the_picture_shows() -> None:
    one = on_page(grid())
    decision, equity = drawings(one.grid, 30)
    assert decision is not None
    text = live.grid(page(one, days=30), one, {one.grid.id: (decision, equity)}, (), ())
    (data,) = [found["data-series"] for _, found in Seen(text).tags if "data-series" in found]
    series = json.loads(data or "")
    assert series["start"] == int((AS_OF - timedelta(days=30)).timestamp())
    assert (series["bars"], series["piece"]) == (30 * 96, 6)
    closes, totals = (series[name]["steps"][of] for name, of in (("price", "close"), ("money", "total")))
    assert len(closes) == len(totals) == 480
    # Of the hole of 20 bars three pieces of six are wholly unknown.
    assert closes.count(None) == 3
    known = [value for value in decision.values["close"] if value is not None]
    assert sum(step or 0 for step in closes) / 10 ** series["price"]["decimals"] == pytest.approx(known[-1], abs=1e-4)
    assert (series["lower"], series["upper"], series["stop"]) == (90, 110, 85)


def test_a_rate_of_nothing_known_is_not_a_rate() -> None:
    text = live.right(
        now(), (), [rate_row(known=0, hit_rate=None, low=None, high=None, mean_gain_vs_hold_percent=None)]
    )
    assert "Not known yet" in text
    assert "right, " not in text
