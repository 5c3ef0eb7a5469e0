"""The words of every kind of alert, and that each fits, whole, with what must be said."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mm_dagster.alerts import drill, failures, message, newcomers
from mm_dagster.alerts.alert import JUDGED, PARTLY_JUDGED
from mm_dagster.alerts.digest_words import Change, Day, GridLine, digest
from mm_dagster.alerts.parts import MESSAGE_LIMIT, TITLE_LIMIT, Part, cut, length, text_of
from mm_dagster.config.exit import ExitConfig
from mm_dagster.config.risk import TouchConfig
from mm_dagster.exit.measured import worth_of_warning
from mm_dagster.tables import registry
from mm_dagster.tables.words import ALERT_KINDS, ENTRY_ADVICE, MEASURED, STATES
from mm_dagster.text import brief_time
from mm_dagster_tests.alerts.given import ABOVE, RISK, T0, alert, bot_rows, entry, grid, minutes, state
from mm_dagster_tests.examples import examples

GRID = grid()
OF_GRIDS = tuple(kind for kind in ALERT_KINDS if kind not in ("LIMIT", "DIGEST", "FAILURE", "EXIT", "TEST", "DRILL"))
WHY = ["Break below the grid within 24 h: 71 % (limit 60 %)", "True range against its week: 1.31 (limit 1.25)"]
MONEY = "The grid stands at +2.50 USDT; 21.40 more at risk to the stop."
SPLIT = "The grid stands at +2.50 USDT (realised +8.31, unrealised -5.81); 21.40 more at risk to the stop."
TIMES = "Since 10 Jan 11:45, as of 12:00 UTC."


def test_a_warning_says_what_to_do_by_when_the_first_reason_and_the_money():
    assert message.render(alert("ESCALATION", "WARNING"), state(GRID, T0, "WARNING"), RISK, GRID, WHY, False) == (
        "WARNING · eth-v3 ETH-USDT",
        "By 10 Jan 16:00 UTC: Be ready to stop the grid, and look again.\n"
        "Why: Break below the grid within 24 h: 71 % (limit 60 %).\n"
        f"{SPLIT}\n"
        "Price 3,100; stop 2,990.\n"
        f"{TIMES}",
    )


def test_the_reason_is_the_one_that_decided():
    advice = "Stop the grid within 1 h: Verdict: TREND; Efficiency ratio rose within 4 h by 0.30 (limit 0.25)."
    row = state(GRID, T0, "LATEST_ACCEPTABLE_EXIT", advice=advice)
    text = message.render(alert("ESCALATION", "LATEST_ACCEPTABLE_EXIT"), row, RISK, GRID, WHY, False)[1]
    assert text.splitlines()[:2] == ["By 10 Jan 13:00 UTC: Stop the grid.", "Why: Verdict: TREND."]
    kept = "Low 2,980 at or below the stop 2,990 (at 2026-01-10T11:45:00Z; only a new activation ends this)"
    row = state(GRID, T0, "MANDATORY_EXIT", advice=f"Stop the grid now and sell the inventory: {kept}.")
    text = message.render(alert("ESCALATION", "MANDATORY_EXIT"), row, RISK, GRID, WHY, False)[1]
    assert text.splitlines()[1] == f"Why: {kept.replace('2026-01-10T11:45:00Z', '10 Jan 11:45 UTC')}."


def test_what_would_fire_next_is_said_while_there_is_a_next():
    near = ["Closes below the grid: 1 of 2 (below 3,070)", "Stop 2,990: 3.5 % below"]
    for name, told in (("WARNING", True), ("LATEST_ACCEPTABLE_EXIT", True), ("MANDATORY_EXIT", False)):
        row = state(GRID, T0, name, nearest=near)
        text = message.render(alert("ESCALATION", name), row, RISK, GRID, WHY, False)[1]
        assert (" Next: Closes below the grid: 1 of 2 (below 3,070)." in text) == told
        assert "Stop 2,990" not in text


def test_a_reminder_says_that_the_time_has_ended():
    name = "LATEST_ACCEPTABLE_EXIT"
    late = alert("REMINDER", name, first_notified_at=T0 - minutes(60), found_at=T0)
    title, text = message.render(late, state(GRID, T0, name), RISK, GRID, WHY, False)
    assert title == "Still LATEST ACCEPTABLE EXIT · eth-v3 ETH-USDT"
    assert text.splitlines()[0] == "Overdue since 10 Jan 12:00 UTC: Stop the grid."


def test_a_time_has_utc_beside_it_where_there_is_room():
    late = alert("ESCALATION", "WARNING", found_at=T0 + timedelta(hours=8))
    row = state(GRID, T0, "WARNING")
    first = message.render(late, row, None, GRID, [], False, timezone="Asia/Tokyo")[1].splitlines()[0]
    assert first == "By 11 Jan 09:00 JST (00:00 UTC): Be ready to stop the grid, and look again."
    other = message.render(late, row, None, GRID, [], False, timezone="Pacific/Auckland")[1].splitlines()[0]
    assert other.startswith("By 11 Jan 13:00 NZDT (00:00 UTC): ")
    west = message.render(late, row, None, GRID, [], False, timezone="America/New_York")[1].splitlines()[0]
    assert west.startswith("By 10 Jan 19:00 EST (11 Jan 00:00 UTC): ")


def test_since_and_as_of_name_their_day_once_unless_it_is_another():
    row = state(GRID, T0, "WARNING")
    before = alert("ESCALATION", "WARNING", state_since=T0 - timedelta(days=1))
    text = message.render(before, row, None, GRID, [], False)[1]
    assert text.splitlines()[-1] == "Since 9 Jan 12:00 UTC, as of 10 Jan 12:00 UTC."
    summer = T0.replace(month=10, day=25, hour=0, minute=30)
    told = alert("ESCALATION", "WARNING", as_of=summer + timedelta(hours=2), state_since=summer)
    text = message.render(told, row, None, GRID, [], False, timezone="Europe/Berlin")[1]
    assert text.splitlines()[-1] == "Since 25 Oct 02:30 CEST, as of 25 Oct 03:30 CET."


def test_a_grid_that_is_sold_out_has_nothing_at_risk():
    row = state(GRID, T0, "MANDATORY_EXIT", advice="Idle: re-centre; the grid is sold out.")
    text = message.render(alert("ESCALATION", "MANDATORY_EXIT"), row, RISK | {"price": ABOVE}, GRID, [], False)[1]
    assert text.splitlines()[:2] == [
        "Sold out: above the grid nothing is held.",
        "Idle: re-centre; the grid is sold out.",
    ]
    assert "at risk" not in text
    assert "Waiting" not in text


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"total_pnl": -0.5, "grid_profit": None}, "The grid stands at -0.50 USDT"),
        ({"capital_at_risk": 0.0}, "The grid stands at +2.50 USDT (realised +8.31, unrealised -5.81)."),
        ({"stopped_at": T0}, "The grid stands at +2.50 USDT (realised +8.31, unrealised -5.81)."),
        ({"liquidation_value": None}, "Price 3,100; grid 3,070 to 3,185, stop 2,990."),
        ({"exit_pnl": -1.0, "unrealised_pnl": -4.81}, "(realised +8.31, unrealised -4.81, sold at the stop -1.00);"),
    ],
)
def test_the_money_is_said_as_far_as_it_is_known(changes: dict[str, Any], line: str):
    row = state(GRID, T0, "WARNING")
    text = message.render(alert("ESCALATION", "WARNING"), row, RISK | changes, GRID, [], False)[1]
    assert line in text


def test_a_state_that_only_the_live_run_knows_says_how_it_was_seen():
    reason = "last price 2,980 is at or below the stop 2,990"
    row = state(GRID, T0, "WARNING", live_state="MANDATORY_EXIT", live_reason=reason)
    text = message.render(alert("ESCALATION", "MANDATORY_EXIT"), row, None, GRID, WHY, False)[1]
    assert text.splitlines() == [
        "Stop the grid now and sell the inventory.",
        f"Why: seen live: {reason}.",
        "Price not known; grid 3,070 to 3,185, stop 2,990.",
        TIMES,
    ]


def test_a_de_escalation_says_what_to_do_then_from_where_to_where():
    down = alert("DEESCALATION", "NORMAL", before="LATEST_ACCEPTABLE_EXIT")
    assert message.render(down, state(GRID, T0), RISK, GRID, [], False) == (
        "Down to NORMAL · eth-v3 ETH-USDT",
        "Keep running.\n"
        "It came down from LATEST ACCEPTABLE EXIT to NORMAL.\n"
        f"{SPLIT}\n"
        "Price 3,100; grid 3,070 to 3,185, stop 2,990.\n"
        f"{TIMES}",
    )
    without = message.render(down, None, None, GRID, [], False)[1]
    assert without.splitlines()[0] == "It came down from LATEST ACCEPTABLE EXIT to NORMAL."


def test_blindness_says_since_when():
    told = alert("BLIND", "WARNING")
    title, text = message.render(told, state(GRID, T0, "WARNING"), RISK | {"as_of": T0}, GRID, [], False)
    assert title == "BLIND · eth-v3 ETH-USDT"
    assert text.splitlines() == [
        "Look at the exchange yourself now; `mm doctor` says what is wrong here.",
        "Not evaluated since 10 Jan 12:00 UTC; last known state: WARNING.",
        "It stood at +2.50 USDT then (realised +8.31, unrealised -5.81); 21.40 more at risk to the stop.",
        "Whatever happens meanwhile goes unseen.",
    ]
    older = message.render(told, None, RISK | {"as_of": T0 - minutes(15)}, GRID, [], False)[1]
    assert "stood at" not in older
    assert "no state was ever known." in message.render(alert("BLIND", "UNKNOWN"), None, None, GRID, [], False)[1]


def test_recovery_says_what_the_state_is_and_gives_no_new_deadline():
    row = state(GRID, T0, "LATEST_ACCEPTABLE_EXIT")
    title, text = message.render(alert("RECOVERED", "LATEST_ACCEPTABLE_EXIT"), row, RISK, GRID, [], False)
    assert title == "SEEING AGAIN · eth-v3 ETH-USDT"
    assert text.splitlines()[:2] == [
        "Stop the grid.",
        "State: LATEST ACCEPTABLE EXIT; it is evaluated again, as of 10 Jan 12:00 UTC.",
    ]
    assert "By 1" not in text


def test_an_entry_says_why_and_what_is_proposed():
    assert message.render(alert("ENTRY", "WAIT"), entry(GRID, T0), None, grid(enabled=False), [], False) == (
        "Entry: WAIT · eth-v3 ETH-USDT",
        "No moment to start this grid.\n"
        "Why: The verdict is TRANSITION; a grid needs RANGE_OK.\n"
        "Proposed: 3,021.5 to 3,208.25, 9 intervals of 0.67 %.\n"
        "Price 3,100; as of 10 Jan 12:00 UTC.",
    )
    unknown = entry(GRID, T0, price=None, lower=None, upper=None, levels=None, step_percent=None)
    assert message.render(alert("ENTRY", "WAIT"), unknown, None, GRID, [], False)[1].splitlines()[2:] == [
        "No bounds can be proposed.",
        "Price not known; as of 10 Jan 12:00 UTC.",
    ]


@pytest.mark.parametrize("kind", OF_GRIDS)
def test_the_title_of_a_simulated_market_begins_with_simulated(kind: str):
    name = "ENTER" if kind == "ENTRY" else "WARNING"
    titles = [message.render(alert(kind, name), None, None, GRID, [], simulated)[0] for simulated in (True, False)]
    assert titles[0] == f"SIMULATED {titles[1]}"
    assert not titles[1].startswith("SIMULATED")


@pytest.mark.parametrize("kind", OF_GRIDS)
def test_without_a_link_it_is_said_where_the_rest_is(kind: str):
    name = "ENTER" if kind == "ENTRY" else "WARNING"
    alone, linked = (
        message.render(alert(kind, name), None, None, GRID, [], False, linked=linked)[1] for linked in (False, True)
    )
    assert alone == f"{linked}\nMore: `mm status`."


# what leaving at a WARNING was measured to be worth -------------------------------------------------------------------

WORTH = worth_of_warning(ExitConfig(), TouchConfig()) or ""
SHORT = f"{MEASURED}66 grids: leaving was worth 0.4 %."
ACT = "Be ready to stop the grid, and look again within 4 h: Break below the grid within 24 h: 38 % (limit 37 %)."


def warned(worth: str, risk: Any = RISK, why: Sequence[str] = (), **changes: Any) -> str:
    """The text of a WARNING whose advice ends with the figures."""
    row = state(GRID, T0, "WARNING", advice=f"{ACT} {worth}", **changes)
    return message.render(alert("ESCALATION", "WARNING"), row, risk, GRID, why, False)[1]


def test_what_leaving_was_worth_comes_last_where_there_is_room_and_never_by_halves():
    assert warned(SHORT, None).splitlines()[-1] == SHORT
    assert WORTH.startswith(MEASURED)
    for room in range(MESSAGE_LIMIT):
        text = warned(f"{MEASURED}{'x' * room}.")
        assert (MEASURED in text) == text.endswith(f"{'x' * room}.")
        assert MONEY in text or SPLIT in text
    down = alert("DEESCALATION", "WARNING", before="LATEST_ACCEPTABLE_EXIT")
    row = state(GRID, T0, "WARNING", advice=f"{ACT} {SHORT}")
    for told, risk in ((down, RISK), (alert("ESCALATION", "WARNING"), RISK | {"price": ABOVE})):
        assert MEASURED not in message.render(told, row, risk, GRID, WHY, False)[1]
    assert MEASURED not in message.render(alert("ESCALATION", "MANDATORY_EXIT"), row, RISK, GRID, WHY, False)[1]


def test_the_link_leads_to_the_page_behind_the_alert():
    assert message.url("ESCALATION", "https://mm.example/", "eth-1") == "https://mm.example/g/eth-1"
    assert message.url("ENTRY", "https://mm.example", "eth-1", "ABCD") == "https://mm.example/g/eth-1#ABCD"
    assert message.url("LIMIT", "https://mm.example") == "https://mm.example/"
    assert message.url("FAILURE", "https://mm.example") == "https://mm.example/state"
    assert message.url("BLIND", None) is None
    assert message.url("BLIND", "http://" + "x" * 512) is None


# how parts give way ---------------------------------------------------------------------------------------------------


def test_the_most_important_takes_its_room_first_and_the_longest_form_that_fits():
    parts = [
        Part(0, ("Do this.",), must=True),
        Part(2, ("b" * 250 + ".", "b" * 100 + ".", "b."), longer=3),
        Part(1, ("a" * 200 + ".", "a.")),
        Part(4, ("c" * 90 + ".",)),
    ]
    assert text_of(parts) == f"Do this.\nb.\n{'a' * 200}."
    assert text_of([parts[0], parts[1]]) == f"Do this.\n{'b' * 250}."
    assert text_of([parts[0], parts[3]._replace(begins_line=False)]) == f"Do this. {'c' * 90}."


def test_what_must_be_said_is_there_whatever_stands_beside_it():
    parts = [Part(0, (f"{letter} {'word ' * 200}",), must=True) for letter in "abcd"]
    text = text_of(parts)
    assert length(text) <= MESSAGE_LIMIT
    assert [line[0] for line in text.splitlines()] == ["a", "b", "c", "d"]
    assert all(line.endswith("…") for line in text.splitlines())


def test_what_is_cut_ends_before_a_figure():
    assert cut("it costs 1,234.50 USDT in all", 20) == "it costs…"
    assert cut("it costs 1,234.50 USDT in all", 22) == "it costs…"
    assert cut("it costs 1,234.50 USDT in all", 26) == "it costs 1,234.50 USDT in…"
    assert cut("x" * 50, 10) == "x" * 9 + "…"
    assert cut("🦀" * 50, 10) == "🦀" * 4 + "…"
    assert cut("7" * 50, 10) == "…"


TEXT = (st.text(st.characters(), max_size=300) | st.text("🦀é 7,.%;:()\n\0", max_size=1500)).map(
    lambda text: text.replace("…", "")
)
"""All of Unicode, halves of surrogate pairs included; but for the ellipsis, which says here that something was cut."""
AMOUNT = st.none() | st.floats(allow_nan=False, allow_infinity=False)
ZONES = st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu", "Antarctica/Troll"])


@settings(max_examples=examples(200))
@given(
    kind=st.sampled_from(OF_GRIDS),
    name=st.sampled_from(STATES),
    before=st.none() | st.sampled_from(STATES),
    act=TEXT,
    live_reason=st.none() | TEXT,
    why=st.lists(TEXT, max_size=3),
    price=st.none() | st.floats(min_value=0, max_value=1e300),
    amounts=st.lists(AMOUNT, min_size=7, max_size=7),
    window=st.none() | st.integers(0, 100_000),
    simulated=st.booleans(),
    zone=ZONES,
    answer=st.none() | st.fixed_dictionaries({"action": st.just("kept"), "told_by": st.none() | TEXT, "note": TEXT}),
)
def test_no_message_is_ever_too_long_or_empty_or_without_its_deadline(
    kind, name, before, act, live_reason, why, price, amounts, window, simulated, zone, answer
):
    widest = grid(id="x" * 64, symbol="A" * 60 + "-" + "B" * 60, enabled=kind != "ENTRY")
    if kind == "ENTRY":
        name = ENTRY_ADVICE[STATES.index(name) % 3]
        row = entry(widest, T0, name, reasons=why, price=price, upper=amounts[0])
    else:
        row = state(widest, T0, advice=f"{act}: {act}", live_state=name, live_reason=live_reason, nearest=why)
        row["recommended_window_minutes"] = window
        row["state"] = name if simulated else "NORMAL"
    risk = {**RISK, "price": price, "stopped_at": T0 if simulated else None, "as_of": T0}
    names = ("liquidation_value", "total_pnl", "capital_at_risk", "profit_giveback", "grid_profit", "unrealised_pnl")
    risk |= dict(zip(names, amounts, strict=False)) | {"exit_pnl": amounts[6]}
    told = alert(kind, name, before=before, reason=act, state_since=T0 - timedelta(days=400))
    if answer is not None:
        answer = answer | {"at": T0}
    title, text = message.render(
        told, row, risk, widest, why, simulated, answer, zone, added=act, linked=False
    )  # fmt: skip
    _can_be_sent(title, text)
    assert brief_time(T0, zone).rpartition(" ")[0] in text or kind == "SETUP" or "…" in text or "as of" in text
    advised = kind in ("ESCALATION", "REMINDER", "DEESCALATION") and row["state"] == name and window
    if advised and "nothing is left to sell" not in text:
        end = brief_time(T0 + timedelta(minutes=window), zone)
        assert f"By {end}" in text


def _can_be_sent(title: str, text: str) -> None:
    for words, limit in ((title, TITLE_LIMIT), (text, MESSAGE_LIMIT)):
        assert words.strip()
        assert length(words) <= limit
        assert words.encode("utf-8").decode() == words
        assert "\0" not in words
        assert not re.search(r"\d…", words)
    assert "\n" not in title


MOST = ["Break below the grid within 24 h: 71 % (limit 60 %)", "Verdict: TREND", "12 of 12 triggers cannot be known"]


@settings(max_examples=examples(200))
@given(
    kind=st.sampled_from(OF_GRIDS),
    name=st.sampled_from(STATES),
    size=st.floats(1e-9, 1e12),
    shares=st.lists(st.floats(-1, 1), min_size=4, max_size=4),
    quote=st.sampled_from(["USDT", "BTC", "LONGESTQUOTE1234"]),
    grid_id=st.sampled_from(["e", "x" * 64]),
    reason=st.sampled_from(MOST),
    zone=ZONES,
    linked=st.booleans(),
)
def test_of_what_can_happen_every_sentence_is_whole_and_every_figure_is_there_or_not(
    kind, name, size, shares, quote, grid_id, reason, zone, linked
):
    one = grid(
        id=grid_id,
        symbol=f"ETH-{quote}",
        lower=size,
        upper=2 * size,
        stop=size / 2,
        capital=size,
        enabled=kind != "ENTRY",
    )
    realised, unrealised, risked, given_back = (size * share for share in shares)
    risk = {**RISK, "price": 1.5 * size, "grid_profit": realised, "unrealised_pnl": unrealised, "as_of": T0}
    risk |= {"total_pnl": realised + unrealised, "capital_at_risk": abs(risked), "profit_giveback": abs(given_back)}
    if kind == "ENTRY":
        name = ENTRY_ADVICE[STATES.index(name) % 3]
        row = entry(one, T0, name)
    else:
        row = state(one, T0, name, nearest=[reason])
        row["advice"] = f"{row['advice'].removesuffix('.')}: {reason}."
    told = alert(kind, name, before="MANDATORY_EXIT", grid_id=one.id, symbol=one.symbol)
    title, text = message.render(told, row, risk, one, MOST, False, None, zone, linked=linked)
    _can_be_sent(title, text)
    assert "…" not in text
    assert all(line.endswith((".", "`")) for line in text.splitlines())
    first = {"BLIND": "Look at", "SETUP": "Look at", "ENTRY": ("A moment", "Not yet", "No moment")}.get(
        kind, ("By ", "Stop the grid", "Keep running", "Be ready", "Look at")
    )
    assert text.startswith(first)
    if kind in ("ESCALATION", "REMINDER") and name != "NORMAL":
        assert f"Why: {reason}." in text
        assert f" {quote}" in text
        split = re.search(r"stands at (\S+) .*\(realised (\S+), unrealised (\S+?)\)", text)
        if split and "about" not in split[0]:
            total, *parts = (round(float(figure.replace(",", "")) * 1e12) for figure in split.groups())
            assert abs(total - sum(parts)) <= max(1, abs(total) * 1e-9)


# what concerns no single grid -----------------------------------------------------------------------------------------


def test_a_failure_says_what_to_do_what_failed_and_with_what():
    alert = failures.failure("run", "candles", "TimeoutError: no answer\nsecond", T0, registry.empty("notification"))
    assert alert is not None
    assert message.failure(alert) == (
        "FAILURE · candles",
        "Run `mm doctor`: it says what is wrong and what to do.\n"
        "candles failed at 10 Jan 12:00 UTC; until it works again its figures are old.\n"
        "TimeoutError: no answer second",
    )
    kept = failures.failure("run", "alerts.yaml", "link: none", T0, registry.empty("notification"))
    assert kept is not None
    assert "alerts.yaml needs you, since 10 Jan 12:00 UTC; all goes on as before" in message.failure(kept)[1]


def test_a_test_says_that_it_is_one():
    assert message.trial(failures.trial("pushover", T0, 0)) == (
        "TEST · pushover",
        "There is nothing to do. `mm alert-test` sent this at 10 Jan 12:00 UTC.\n"
        "It came by pushover; alerts of grids come the same way.",
    )


@settings(max_examples=examples(60))
@given(words=TEXT, name=st.sampled_from([JUDGED, PARTLY_JUDGED, "UNKNOWN"]), reminds=st.booleans(), zone=ZONES)
def test_no_failure_test_drill_or_newcomer_is_ever_too_long_or_empty_or_cannot_be_sent(words, name, reminds, zone):
    nothing = registry.empty("notification")
    failure = failures.failure("run", words.replace(":", " ") or "asset", words, T0, nothing)
    assert failure is not None
    _can_be_sent(*message.failure(failure, zone))
    _can_be_sent(*message.trial(failures.trial(words, T0, 0), zone))
    _can_be_sent(*message.render(alert("SETUP", name, reason=words), None, None, GRID, [], False))
    _can_be_sent(*drill.words("x" * 64, T0, reminds=reminds, simulated=True, timezone=zone))
    (bot,) = newcomers.due(bot_rows(T0, venue="v" * 40, bot_id="9" * 40, capital=1e300), [], nothing, T0, zone)
    _can_be_sent(bot.title or "", bot.message or "")
    assert f"`mm grid add --from {'v' * 40} {'9' * 40}` watches it." in (bot.message or "")


# the digest -----------------------------------------------------------------------------------------------------------

QUIET = {"simulated": False}


def fine(count: int) -> list[GridLine]:
    return [GridLine(f"eth-v{number}", "NORMAL") for number in range(count)]


def test_a_digest_of_a_good_day_says_so_in_few_words():
    day = Day((96, 96), [Change("USDT", 4.2, 3_000, 3, 3)], (7, 9, 0))
    assert digest(T0, fine(3), day, {}, **QUIET) == (
        "Digest: 3 grids fine",
        "3 grids fine.\nIn 24 h: 96 of 96 ticks, +4.20 USDT.\nOwn alerts so far: 7 of 9 right.\n"
        "As of 10 Jan 12:00 UTC.",
    )


def test_a_digest_in_which_something_is_wrong_begins_with_the_worst_by_name():
    grids = [
        GridLine("c", "WARNING"), GridLine("b", None), GridLine("a", "NORMAL", blind=True), *fine(2),
        GridLine("d", "MANDATORY_EXIT", blind=True), GridLine("e", "LATEST_ACCEPTABLE_EXIT"),
        GridLine("f", "MANDATORY_EXIT", stopped=True),
    ]  # fmt: skip
    title, text = digest(T0, grids, Day((3, 4), breached=["es_5_24h"]), {"FAILED": 2, "SENT": 1}, **QUIET)
    assert text.splitlines()[:2] == [
        "MANDATORY EXIT: d (not seen). LATEST ACCEPTABLE EXIT: e. Not seen (see `mm doctor`): a. WARNING: c. "
        "Not judged yet: b. Over its limit: es_5_24h. 3 of 4 ticks ran in 24 h. 2 messages refused in 24 h.",
        "2 of 7 grids fine, 1 stopped by you.",
    ]
    assert title.startswith("Digest: 1 MANDATORY EXIT, 1 LATEST ACCEPTABLE EXIT, 1 not seen, 1 WARNING, 1 not judged")


def test_a_digest_of_a_machine_that_is_new_counts_what_was_due():
    assert "In 24 h: 4 of 4 ticks." in digest(T0, fine(1), Day((4, 4)), {}, **QUIET)[1]
    assert "ticks" not in digest(T0, fine(1), Day((0, 0)), {}, **QUIET)[1]


def test_a_digest_of_no_grid_says_so():
    title, text = digest(T0, [], Day(), {}, simulated=True, linked=False)
    assert title == "SIMULATED Digest: no grid is enabled"
    assert text == "No grid is enabled.\nAs of 10 Jan 12:00 UTC. More: `mm status`."


@settings(max_examples=examples(100))
@given(
    lines=st.lists(st.tuples(st.none() | st.sampled_from(STATES), st.booleans(), st.booleans()), max_size=300),
    stem=st.sampled_from(["g", "x" * 58]),
    ticks=st.none() | st.tuples(st.integers(0, 96), st.integers(0, 96)),
    amounts=st.lists(st.floats(-1e12, 1e12), max_size=4),
    right=st.none() | st.tuples(st.integers(0, 999), st.integers(0, 999), st.integers(0, 999)),
    count=st.integers(0, 10**6),
    together=st.lists(st.text("abc ", max_size=400), max_size=3),
    linked=st.booleans(),
)
def test_no_digest_is_ever_too_long_or_cuts_a_sentence(lines, stem, ticks, amounts, right, count, together, linked):
    grids = [GridLine(f"{stem}-{place}", *line) for place, line in enumerate(lines)]
    changes = [Change("LONGESTQUOTE1234", amount, abs(amount) + 1, 1, 2) for amount in amounts]
    day = Day(ticks, changes, right, together, [stem] * (count % 50))
    counts = {"SENT": count, "SUPPRESSED": count, "FAILED": count % 3}
    title, text = digest(T0, grids, day, counts, simulated=True, linked=linked)
    _can_be_sent(title, text)
    assert "…" not in text
    assert "As of 10 Jan 12:00 UTC." in text
    wrong = [line for line in grids if line.wrong]
    if wrong:
        assert not text.startswith(("0", f"{len(grids)} grids fine"))
        assert f" of {sum(not line.stopped for line in grids)} grid" in text
