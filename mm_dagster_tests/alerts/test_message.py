"""The words of every kind of alert, and that none is ever too long."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mm_dagster.alerts import failures, message
from mm_dagster.alerts.alert import Alert
from mm_dagster.config.exit import ExitConfig
from mm_dagster.config.grid import GridConfig
from mm_dagster.config.risk import TouchConfig
from mm_dagster.exit.measured import worth_of_warning
from mm_dagster.tables import registry
from mm_dagster.tables.words import ALERT_KINDS, MEASURED, STATES
from mm_dagster_tests.alerts.given import ABOVE, BELOW, PRICE, RISK, T0, entry, grid, minutes, state

GRID = grid()
WHY = ["Break below the grid within 24 h: 71 % (limit 60 %)", "True range against its week: 1.31 (limit 1.25)"]
WAITING = (
    "Waiting: chance to break the lower bound within 6/12/24 h 41/57/71 %, to touch the stop within 24 h 18 %, "
    "the stop is 3.5 % below the price."
)
AT_STAKE = (
    "At stake: 21.40 USDT from here to the stop, 6.15 USDT while you respond (74 % of the profit of its steps); "
    "the grid stands at +2.50 USDT."
)


def alert(kind: str, name: str, **changes: Any) -> Alert:
    base: dict[str, Any] = {
        "alert_id": "0123456789abcdef",
        "kind": kind,
        "grid_id": GRID.id,
        "symbol": GRID.symbol,
        "activated_at": GRID.activated_at,
        "as_of": T0,
        "state": name,
        "state_since": T0 - minutes(15),
        "priority": 0,
    }
    return Alert(**(base | changes))


def test_a_warning_says_what_to_do_by_when_why_and_what_waiting_costs():
    assert message.render(alert("ESCALATION", "WARNING"), state(GRID, T0, "WARNING"), RISK, GRID, WHY, False) == (
        "WARNING · eth-v3 ETH-USDT",
        "By 2026-01-10 16:00 UTC: Be ready to stop the grid, and look again within 4 h.\n"
        "Why: Break below the grid within 24 h: 71 % (limit 60 %); True range against its week: 1.31 (limit 1.25)\n"
        f"{WAITING}\n{AT_STAKE}\n"
        "Price 3,100; grid 3,070 to 3,185, stop 2,990. WARNING since 2026-01-10 11:45 UTC; "
        "as of 2026-01-10 12:00 UTC.",
    )


def test_what_would_fire_next_is_told_while_there_is_a_next():
    near = ["Closes below the grid: 1 of 2 (below 3,070)", "Stop 2,990: 3.5 % below"]
    for name, told in (("WARNING", True), ("LATEST_ACCEPTABLE_EXIT", True), ("MANDATORY_EXIT", False)):
        row = state(GRID, T0, name, nearest=near)
        why = message.render(alert("ESCALATION", name), row, RISK, GRID, WHY[:1], False)[1].splitlines()[1]
        assert why == f"Why: {WHY[0]}" + ("; next: Closes below the grid: 1 of 2 (below 3,070)" if told else "")


def test_a_latest_acceptable_exit_names_the_hour_until_which_to_be_out():
    name = "LATEST_ACCEPTABLE_EXIT"
    title, text = message.render(alert("ESCALATION", name), state(GRID, T0, name), RISK, GRID, WHY, False)
    assert title == "LATEST ACCEPTABLE EXIT · eth-v3 ETH-USDT"
    assert text.splitlines()[0] == "By 2026-01-10 13:00 UTC: Stop the grid within 1 h."
    assert text.splitlines()[2] == WAITING


def test_a_reminder_says_that_the_time_has_ended():
    name = "LATEST_ACCEPTABLE_EXIT"
    late = alert("REMINDER", name, first_notified_at=T0 - minutes(60), found_at=T0)
    title, text = message.render(late, state(GRID, T0, name), RISK, GRID, WHY, False)
    assert title == "Still LATEST ACCEPTABLE EXIT · eth-v3 ETH-USDT"
    assert text.splitlines()[0] == ("Overdue since 2026-01-10 12:00 UTC: Stop the grid within 1 h.")


def test_a_mandatory_exit_is_now():
    name = "MANDATORY_EXIT"
    risk = RISK | {"price": BELOW, "distance_stop_percent": 2.288}
    assert message.render(alert("ESCALATION", name), state(GRID, T0, name), risk, GRID, WHY[:1], False) == (
        "MANDATORY EXIT · eth-v3 ETH-USDT",
        "Stop the grid now and sell the inventory.\n"
        "Why: Break below the grid within 24 h: 71 % (limit 60 %)\n"
        f"{WAITING.replace('3.5', '2.3')}\n{AT_STAKE}\n"
        "Price 3,060; grid 3,070 to 3,185, stop 2,990. MANDATORY EXIT since 2026-01-10 11:45 UTC; "
        "as of 2026-01-10 12:00 UTC.",
    )


def test_a_grid_that_is_sold_out_costs_nothing_by_waiting():
    row = state(GRID, T0, "MANDATORY_EXIT", advice="Idle: re-centre; the grid is sold out.")
    text = message.render(alert("ESCALATION", "MANDATORY_EXIT"), row, RISK | {"price": ABOVE}, GRID, [], False)[1]
    assert text.splitlines()[:2] == [
        "Sold out: above the grid nothing is held.",
        "Idle: re-centre; the grid is sold out.",
    ]
    assert "Waiting" not in text


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        (
            {"profit_giveback_share": None, "total_pnl": -0.5},
            "6.15 USDT while you respond; the grid stands at -0.50 USDT.",
        ),
        ({"profit_giveback": None}, "At stake: 21.40 USDT from here to the stop; the grid stands at +2.50 USDT."),
        ({"stopped_at": T0}, "The grid stands at +2.50 USDT."),
        ({"liquidation_value": None}, "Price 3,100; grid 3,070 to 3,185, stop 2,990."),
    ],
)
def test_what_is_at_stake_is_told_as_far_as_it_is_known(changes: dict[str, Any], line: str):
    row = state(GRID, T0, "WARNING")
    text = message.render(alert("ESCALATION", "WARNING"), row, RISK | changes, GRID, WHY, False)[1]
    assert line in text.splitlines()[3]


def test_a_state_that_only_the_live_run_knows_says_how_it_was_seen():
    reason = "last price 2,980 is at or below the stop 2,990"
    row = state(GRID, T0, "WARNING", live_state="MANDATORY_EXIT", live_reason=reason)
    text = message.render(alert("ESCALATION", "MANDATORY_EXIT"), row, None, GRID, [reason], False)[1]
    assert text.splitlines() == [
        "Stop the grid now and sell the inventory.",
        "Why: seen live: last price 2,980 is at or below the stop 2,990",
        "Waiting: the chance of a break is not known.",
        "Price not known; grid 3,070 to 3,185, stop 2,990. MANDATORY EXIT since 2026-01-10 11:45 UTC; "
        "as of 2026-01-10 12:00 UTC.",
    ]


def test_a_de_escalation_says_from_where_to_where():
    down = alert("DEESCALATION", "NORMAL", before="LATEST_ACCEPTABLE_EXIT")
    assert message.render(down, state(GRID, T0), RISK, GRID, [], False) == (
        "Down to NORMAL · eth-v3 ETH-USDT",
        "The state came down from LATEST ACCEPTABLE EXIT to NORMAL; as of 2026-01-10 12:00 UTC.\n"
        "Keep running.\n"
        f"{WAITING}\n{AT_STAKE}\n"
        "Price 3,100; grid 3,070 to 3,185, stop 2,990.",
    )


def test_blindness_says_since_when():
    assert message.render(alert("BLIND", "WARNING"), state(GRID, T0, "WARNING"), RISK, GRID, [], False) == (
        "BLIND · eth-v3 ETH-USDT",
        "Look at the exchange yourself now; `mm doctor` says what is wrong here.\n"
        "Why: this grid has not been evaluated since 2026-01-10 12:00 UTC. Last known state: WARNING.\n"
        "Waiting: whatever happens meanwhile goes unseen.",
    )
    assert "No state was ever known." in message.render(alert("BLIND", "UNKNOWN"), None, None, GRID, [], False)[1]


def test_recovery_says_what_the_state_is():
    assert message.render(alert("RECOVERED", "WARNING"), state(GRID, T0, "WARNING"), RISK, GRID, [], False) == (
        "SEEING AGAIN · eth-v3 ETH-USDT",
        "Evaluations are back; the newest is of 2026-01-10 12:00 UTC.\nState: WARNING.",
    )


def test_an_entry_says_why_and_what_is_proposed():
    assert message.render(alert("ENTRY", "WAIT"), entry(GRID, T0), None, GRID, [], False) == (
        "Entry: WAIT · eth-v3 ETH-USDT",
        "No moment to start this grid.\n"
        "Why: The verdict is TRANSITION; a grid needs RANGE_OK.\n"
        "Proposed: 3,021.5 to 3,208.25, 9 intervals of 0.67 %.\n"
        "Price 3,100; as of 2026-01-10 12:00 UTC.",
    )
    unknown = entry(GRID, T0, price=None, lower=None, upper=None, levels=None, step_percent=None)
    assert message.render(alert("ENTRY", "WAIT"), unknown, None, GRID, [], False)[1].splitlines()[2:] == [
        "No bounds can be proposed.",
        "Price not known; as of 2026-01-10 12:00 UTC.",
    ]


@pytest.mark.parametrize("kind", ALERT_KINDS[:-4])
def test_the_title_of_a_simulated_market_begins_with_simulated(kind: str):
    name = "ENTER" if kind == "ENTRY" else "WARNING"
    titles = [message.render(alert(kind, name), None, None, GRID, [], simulated)[0] for simulated in (True, False)]
    assert titles[0] == f"SIMULATED {titles[1]}"
    assert not titles[1].startswith("SIMULATED")


def test_reasons_give_way_at_a_word_and_the_rest_stays():
    name = "LATEST_ACCEPTABLE_EXIT"
    text = message.render(alert("ESCALATION", name), state(GRID, T0, name), RISK, GRID, WHY * 20, False)[1]
    lines = text.splitlines()
    assert 1000 < len(text) <= 1024
    assert lines[0].startswith("By 2026-01-10 13:00 UTC")
    assert lines[1].endswith("…")
    assert lines[1].rstrip("…").split()[-1] in {word.rstrip(";:") for sentence in WHY for word in sentence.split()}
    assert lines[2:4] == [WAITING, AT_STAKE]
    assert lines[4].endswith("as of 2026-01-10 12:00 UTC.")


# what leaving at a WARNING was measured to be worth -------------------------------------------------------------------

WORTH = worth_of_warning(ExitConfig(), TouchConfig()) or ""
ACT = "Be ready to stop the grid, and look again within 4 h: Break below the grid within 24 h: 38 % (limit 37 %)."


def warned(why: Sequence[str] = WHY, *, of: GridConfig = GRID, act: str = ACT, **risk: Any) -> list[str]:
    """The lines of a WARNING whose advice ends with the figures."""
    row = state(of, T0, "WARNING", advice=f"{act} {WORTH}", nearest=["Closes below the grid: 0 of 2 (below 3,070)"])
    text = message.render(alert("ESCALATION", "WARNING"), row, RISK | risk, of, why, False)[1]
    assert len(text.encode("utf-16-le")) <= 2 * message.MESSAGE_LIMIT
    return text.splitlines()


def test_a_warning_ends_with_what_leaving_then_was_worth():
    assert warned() == [
        f"By 2026-01-10 16:00 UTC: {ACT}",
        f"Why: {'; '.join(WHY)}; next: Closes below the grid: 0 of 2 (below 3,070)",
        WAITING,
        AT_STAKE,
        "Price 3,100; grid 3,070 to 3,185, stop 2,990. WARNING since 2026-01-10 11:45 UTC; as of 2026-01-10 12:00 UTC.",
        WORTH,
    ]


def test_of_many_reasons_the_last_give_way_to_it():
    few, many = warned(), warned(WHY * 6)
    assert many[1].startswith(f"Why: {'; '.join(WHY)}")
    assert many[1].endswith("…")
    assert [*many[:1], *many[2:]] == [*few[:1], *few[2:]]


def test_rather_than_the_price_or_the_stop_it_stays_out_and_never_by_halves():
    widest = grid(symbol="A" * 200 + "-" + "B" * 40)
    answer = {"at": T0, "action": "kept"}
    row = state(widest, T0, "WARNING", advice=f"{ACT[:-1]}; {'reason ' * 30}. {WORTH}")
    text = message.render(alert("ESCALATION", "WARNING"), row, RISK, widest, WHY * 6, False, answer)[1]
    lines = text.splitlines()
    assert MEASURED not in text
    assert lines[0] == "You noted at 2026-01-10 12:00 UTC: kept."
    assert lines[5].startswith("Price 3,100; grid 3,070 to 3,185, stop 2,990.")
    for reason in range(0, 900, 7):
        shown = warned(["x" * reason], act=f"{ACT[:-1]}; {'and ' * 20}.")
        assert shown[4].startswith("Price 3,100; grid 3,070 to 3,185, stop 2,990.")
        assert shown[4].endswith("as of 2026-01-10 12:00 UTC.")
        assert shown[5:] in ([], [WORTH])


def test_what_is_over_or_holds_nothing_has_no_worth_of_leaving():
    row = state(GRID, T0, "WARNING", advice=f"{ACT} {WORTH}")
    down = alert("DEESCALATION", "WARNING", before="LATEST_ACCEPTABLE_EXIT")
    for told, risk in ((down, RISK), (alert("ESCALATION", "WARNING"), RISK | {"price": ABOVE})):
        text = message.render(told, row, risk, GRID, WHY, False)[1]
        assert ACT in text
        assert MEASURED not in text
    live = message.render(alert("ESCALATION", "MANDATORY_EXIT"), row, RISK, GRID, WHY, False)[1]
    assert MEASURED not in live


def test_an_endless_word_is_cut_where_the_room_ends():
    for word in ("x", "🦀"):
        reasons = [word * 2000]
        text = message.render(alert("ESCALATION", "WARNING"), state(GRID, T0, "WARNING"), RISK, GRID, reasons, False)[1]
        assert 1023 <= len(text.encode("utf-16-le")) // 2 <= 1024
        assert f"{word}…" in text


def test_the_link_leads_to_the_table_behind_the_alert():
    assert message.url("ESCALATION", "https://mm.example/", "eth-1") == "https://mm.example/g/eth-1"
    assert message.url("ENTRY", "https://mm.example", "eth-1", "ABCD") == "https://mm.example/g/eth-1#ABCD"
    assert message.url("LIMIT", "https://mm.example") == "https://mm.example/"
    assert message.url("FAILURE", "https://mm.example") == "https://mm.example/state"
    assert message.url("BLIND", None) is None
    assert message.url("BLIND", "http://" + "x" * 512) is None


TEXT = st.text(st.characters(), max_size=300) | st.text("🦀é …\n\0", max_size=1500)
"""All of Unicode, halves of surrogate pairs included."""


@settings(max_examples=150)
@given(
    kind=st.sampled_from(ALERT_KINDS[:-4]),
    name=st.sampled_from(STATES),
    before=st.none() | st.sampled_from(STATES),
    advice=TEXT,
    live_reason=st.none() | TEXT,
    why=st.lists(TEXT, max_size=12),
    price=st.none() | st.floats(min_value=0, max_value=1e300),
    shares=st.lists(st.none() | st.floats(0, 1), min_size=4, max_size=4),
    distance=st.none() | st.floats(allow_nan=False, allow_infinity=False),
    window=st.none() | st.integers(0, 100_000),
    simulated=st.booleans(),
)
def test_no_message_is_ever_too_long_or_empty_or_cannot_be_sent(
    kind, name, before, advice, live_reason, why, price, shares, distance, window, simulated
):
    if kind == "ENTRY":
        name = "WATCH"
        row = entry(GRID, T0, name, reasons=why, price=price, upper=distance)
    else:
        row = state(GRID, T0, advice=advice, live_state=name, live_reason=live_reason)
        row["recommended_window_minutes"] = window
        row["state"] = name if simulated else "NORMAL"
    risk = dict(zip(("p_break_low_6h", "p_break_low_12h", "p_break_low_24h", "p_stop_24h"), shares, strict=True))
    risk |= {"price": price, "distance_stop_percent": distance, "stopped_at": T0 if simulated else None}
    risk |= dict.fromkeys(("liquidation_value", "total_pnl", "capital_at_risk"), distance)
    risk |= {"profit_giveback": price, "profit_giveback_share": price}
    widest = grid(id="x" * 64, symbol="A" * 200 + "-" + "B" * 200)
    title, text = message.render(alert(kind, name, before=before), row, risk, widest, why, simulated)
    for words, limit in ((title, 250), (text, 1024)):
        assert words.strip()
        assert len(words.encode("utf-16-le")) <= 2 * limit
        assert words.encode("utf-8").decode() == words
        assert "\0" not in words
    assert "\n" not in title
    assert len(text.splitlines()) <= 6


# what concerns no single grid -----------------------------------------------------------------------------------------


def line(name: str | None, number: int = 3, price: float | None = PRICE, pnl: float | None = 2.5) -> message.GridLine:
    return message.GridLine(f"eth-v{number}", "ETH-USDT", name, price, pnl, 1000)


def test_a_digest_begins_with_what_is_worst_and_has_a_line_for_each_grid():
    grids = [line("NORMAL", 1), line(None, 2, None, None), line("MANDATORY_EXIT", 3, BELOW, -21.4), line("NORMAL", 4)]
    counts = {"sent": 5, "suppressed": 2, "failed": 1}
    assert message.digest(T0, grids, blind=["BTC-USDT", "ETH-USDT"], simulated=False, **counts) == (
        "Digest: 1 MANDATORY EXIT, 2 NORMAL, 1 NOT JUDGED YET",
        "Grids: 1 MANDATORY EXIT, 2 NORMAL, 1 NOT JUDGED YET.\n"
        "Not seen: BTC-USDT, ETH-USDT; `mm doctor` says why.\n"
        "Alerts in 24 h: 5 sent, 2 held back, 1 refused; as of 2026-01-10 12:00 UTC.\n"
        "MANDATORY EXIT: eth-v3 ETH-USDT, price 3,060, -21.40 USDT\n"
        "NOT JUDGED YET: eth-v2 ETH-USDT, price not known\n"
        "NORMAL: eth-v1 ETH-USDT, price 3,100, +2.50 USDT\n"
        "NORMAL: eth-v4 ETH-USDT, price 3,100, +2.50 USDT",
    )


def test_a_digest_of_no_grid_says_so():
    title, text = message.digest(T0, [], blind=[], sent=0, suppressed=0, failed=0, simulated=True)
    assert title == "SIMULATED Digest: no grid"
    assert text == "No grid is enabled.\nAlerts in 24 h: 0 sent, 0 held back; as of 2026-01-10 12:00 UTC."


def test_a_digest_of_many_grids_names_the_most_urgent_and_counts_the_rest():
    grids = [line("NORMAL", number) for number in range(99)] + [line("WARNING", 99)]
    text = message.digest(T0, grids, blind=[], sent=0, suppressed=0, failed=0, simulated=False)[1]
    lines = text.splitlines()
    assert 900 < len(text) <= 1024
    assert lines[2].startswith("WARNING: eth-v99")
    assert lines[-1] == f"and {100 - (len(lines) - 3)} more"


def test_a_failure_says_what_failed_with_what_and_what_to_do():
    alert = failures.failure("run", "candles", "TimeoutError: no answer\nsecond", T0, registry.empty("notification"))
    assert alert is not None
    assert message.failure(alert, "http://mm.example:3000") == (
        "FAILURE · candles",
        "candles failed at 2026-01-10 12:00 UTC; until it works again its figures are old.\n"
        "TimeoutError: no answer second\n"
        "Run `mm doctor`: it says what is wrong and what to do.\n"
        "Its page: http://mm.example:3000/state",
    )
    assert "The run" not in message.failure(alert, None)[1]


def test_a_test_says_that_it_is_one():
    assert message.trial(failures.trial("pushover", T0, 0)) == (
        "TEST · pushover",
        "`mm alert-test` sent this at 2026-01-10 12:00 UTC. There is nothing to do.\n"
        "It came by pushover; alerts of grids come the same way.",
    )


@settings(max_examples=60)
@given(
    words=TEXT,
    lines=st.lists(st.tuples(st.none() | st.sampled_from(STATES), TEXT, st.floats(allow_nan=False)), max_size=40),
    blind=st.lists(TEXT, max_size=5),
    count=st.integers(0, 10**9),
)
def test_no_digest_failure_or_test_is_ever_too_long_or_empty_or_cannot_be_sent(words, lines, blind, count):
    grids = [message.GridLine(name, f"A-{name}", state, number, number, 1000) for state, name, number in lines]
    failure = failures.failure("run", "asset", words, T0, registry.empty("notification"))
    assert failure is not None
    for title, text in (
        message.digest(T0, grids, blind=blind, sent=count, suppressed=count, failed=count, simulated=True),
        message.failure(failure, f"http://{words}"),
        message.trial(failures.trial(words, T0, 0)),
    ):
        for said, limit in ((title, 250), (text, 1024)):
            assert said.strip()
            assert len(said.encode("utf-16-le")) <= 2 * limit
            assert said.encode("utf-8").decode() == said
