"""Where everything stands: the worst first, and what is old is never shown as if it were of now."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from mm_dagster.pages.grid import grid_on_page
from mm_dagster.pages.page import is_held_back, without_money
from mm_dagster.pages.sentences import answered, became_of, deadline, money
from mm_dagster.tables.registry import dtypes, empty
from mm_dagster.tables.words import NOT_JUDGED_YET
from mm_dagster.text import spoken
from mm_dagster_tests.pages.rows import (
    ALERTS,
    AS_OF,
    CLOCK,
    exit_row,
    frame,
    grid,
    message_row,
    on_page,
    page,
    risk_row,
    told,
    verdict_row,
)

LATER = AS_OF + timedelta(hours=3)


def test_an_old_normal_is_not_shown_as_if_it_were_of_now() -> None:
    fresh, old = on_page(grid()), on_page(grid(), clock=LATER)
    assert (fresh.stale, fresh.urgency, fresh.advice, fresh.headline) == (False, 0, "The grid may go on.", "NORMAL")
    assert (old.stale, old.urgency, old.headline) == (True, 2, "was NORMAL")
    assert old.advice is not None
    assert "nobody has judged this grid since 2026-03-01T12:00:00Z" in old.advice
    assert "may go on" not in old.advice
    whole = page(old, clock=LATER)
    assert whole.stale is not None
    assert whole.stale.startswith("no grid was judged since 2026-03-01T12:00:00Z, 3 h ago")
    assert page(fresh).stale is None
    assert page(fresh).problems == []


def test_what_an_old_row_asked_for_may_still_be_to_do() -> None:
    old = on_page(grid(), "MANDATORY_EXIT", clock=LATER)
    assert old.urgency == 4
    assert old.advice is not None
    assert old.advice.endswith("What was advised last: Stop the grid.")


def test_a_grid_that_was_never_judged_is_urgent() -> None:
    one = grid()
    never = grid_on_page(
        one, False, empty("exit_state"), empty("grid_risk"), empty("regime_verdict"), (), one.activated_at, ALERTS
    )
    assert (never.state, never.as_of, never.urgency, never.price) == (NOT_JUDGED_YET, None, 2, None)
    assert never.advice is not None
    assert never.advice.startswith("Set-up is not finished: ")
    assert (never.stale, page(never).stale) == (False, None)
    old = replace(never, stale=True)
    assert page(old).stale == "no grid was ever judged; `mm doctor` says what is missing."
    assert "ago (1 never)." in str(page(old, on_page(grid("b"), clock=LATER), clock=LATER).stale)


def test_a_row_of_an_earlier_episode_says_nothing_of_this_one() -> None:
    before = grid(activated_at=AS_OF - timedelta(days=9))
    rows = frame("exit_state", exit_row(before, "MANDATORY_EXIT")), frame("grid_risk", risk_row(before))
    now = grid_on_page(grid(), False, *rows, frame("regime_verdict", verdict_row()), (), CLOCK, ALERTS)
    assert (now.state, now.risk, now.as_of) == (NOT_JUDGED_YET, None, None)


def test_what_only_the_live_run_knew_counts_when_it_is_worse() -> None:
    seen = on_page(grid(), "NORMAL", live_state="MANDATORY_EXIT", live_reason="last price 84 is at the stop 85")
    assert (seen.state, seen.since, seen.seen_live, seen.urgency) == ("MANDATORY_EXIT", AS_OF, True, 4)
    assert seen.advice == "Look at the exchange yourself now. Stop the grid now and sell the inventory."
    milder = on_page(grid(), "LATEST_ACCEPTABLE_EXIT", live_state="WARNING", live_reason="late")
    assert (milder.state, milder.seen_live) == ("LATEST_ACCEPTABLE_EXIT", False)


def test_the_worst_comes_first_and_what_does_not_run_last() -> None:
    resting = grid("a-resting", enabled=False)
    entry = dict.fromkeys(dtypes("entry_assessment")) | {
        "grid_id": resting.id, "as_of": AS_OF, "symbol": resting.symbol, "advice": "ENTER", "reasons": ["Calm."],
    }  # fmt: skip
    rested = grid_on_page(
        resting, False, frame("entry_assessment", entry), empty("grid_risk"), empty("regime_verdict"), (), CLOCK, ALERTS
    )
    states = {"b": "NORMAL", "c": "WARNING", "d": "MANDATORY_EXIT", "e": "LATEST_ACCEPTABLE_EXIT"}
    old = replace(on_page(grid("f")), stale=True)
    found = page(rested, old, *(on_page(grid(name), state) for name, state in states.items()))
    assert [one.grid.id for one in found.grids] == ["d", "e", "f", "c", "b", "a-resting"]
    assert found.worst is not None
    assert found.worst.grid.id == "d"
    assert found.stale is not None
    assert found.stale.startswith("1 of 6 grids not judged since")


def test_the_time_that_is_left_is_counted_from_the_state_s_beginning() -> None:
    one = on_page(grid(), "LATEST_ACCEPTABLE_EXIT")
    assert deadline(one, CLOCK) == "by 2026-03-01T12:30:00Z, 28 min left"
    assert deadline(one, LATER) == "overdue since 2026-03-01T12:30:00Z, 2 h 30 min"
    # Nobody could know of what a history says is old.
    old = on_page(grid(), "LATEST_ACCEPTABLE_EXIT", since=AS_OF - timedelta(days=300))
    assert deadline(old, CLOCK) == "by 2026-03-01T13:00:00Z, 58 min left"
    assert deadline(on_page(grid()), CLOCK) is None


def test_what_became_known_later_is_left_out_of_a_page_of_the_past() -> None:
    one = grid()
    rung = message_row(one, receipt="r", acknowledged_at=LATER, acknowledged_by_device="phone", priority=2)
    answer = {
        "response_id": "1", "alert_id": rung["alert_id"], "grid_id": one.id, "at": LATER, "action": "stopped",
        "note": "by hand", "seconds_from_alert": 12_540.0, "within_window": False,
    }  # fmt: skip
    (then,) = told(rung, responses=(answer,))
    assert (then["acknowledged_at"], then["responded_at"]) == (None, None)
    assert became_of(then, CLOCK).endswith("by pushover; not acknowledged")
    assert answered(then) == "no response"
    (now,) = told(rung, responses=(answer,), clock=LATER)
    assert became_of(now, LATER).endswith("acknowledged 2026-03-01T15:00:00Z on phone")
    assert answered(now) == "stopped at 2026-03-01T15:00:00Z, 3 h 29 min after the alert, after the recommended time"
    assert told(message_row(one, created_at=LATER)) == ()
    known = on_page(one, "LATEST_ACCEPTABLE_EXIT", alerts=(now,))
    assert known.alert is not None
    assert known.response is not None
    assert known.response["note"] == "by hand"


def test_what_is_not_as_it_should_be_is_said() -> None:
    one = grid()
    held = message_row(one, alert_id="h", status="SUPPRESSED", detail="held back: quiet hours", sent_at=None)
    refused = message_row(one, alert_id="f", status="FAILED", detail="user is invalid", sent_at=None)
    waits = message_row(one, alert_id="p", status="PENDING", sent_at=None)
    ill = page(
        on_page(one), alerts=told(held, refused, waits, message_row(one)), config_error="grids/x.yaml: stop",
        waiting=3,
    )  # fmt: skip
    assert ill.problems == [
        "The last valid configuration stays in force: grids/x.yaml: stop",
        "1 message refused in 24 h: `mm alert-test` tries each channel.",
        "1 message not taken by any channel yet.",
        "3 commits not pushed to the git remote yet.",
    ]
    assert ill.alerts_24h == {"SENT": 1, "PENDING": 1, "FAILED": 1, "held_back": 1}
    assert is_held_back(next(row for row in ill.alerts if row["alert_id"] == "h"))
    assert ill.tick is not None
    failed = page(on_page(one), tick={**ill.tick, "finished_at": None, "reason": "ETH-USDT: no answer"}, clock=LATER)
    assert failed.problems == [
        "The schedule does not run: the last tick was of 2026-03-01T12:00:00Z, 3 h ago.",
        "The tick of 2026-03-01T12:00:00Z has not finished.",
        "The last tick failed: ETH-USDT: no answer",
        "The bars of ETH-USDT are old: the newest closed 2026-03-01T12:00:00Z, 3 h ago.",
    ]
    early = AS_OF - timedelta(hours=1)
    assert page(on_page(one), clock=early).problems == [
        "This computer's clock is behind: a bar is known that closes at 2026-03-01T12:00:00Z."
    ]


def test_a_page_without_money_has_no_amount_left() -> None:
    one = grid()
    noted = told(
        message_row(one, status="FAILED", detail="secret words", kind="FAILURE", state="exit_state: 748.24 is too much")
    )
    whole = page(on_page(one, alerts=noted), alerts=noted, config_error="capital: 12345", waiting="12345")
    bare = without_money(whole)
    for secret in ("748.24", "711.29", "716.53", "731.87", "12345", "secret words"):
        assert secret in repr(whole)
        assert secret not in repr(bare).replace(repr(one), "")
    assert money(bare.grids[0]) is None
    assert bare.grids[0].price == 95.0
    assert bare.alerts[0]["title"] == "FAILURE exit state"


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (-5, "0 s"), (40, "40 s"), (900, "15 min"), (3600, "1 h"), (12_000, "3 h 20 min"), (86_400, "1 day"),
        (187_200, "2 days 4 h"), (864_000, "10 days"),
    ],
)  # fmt: skip
def test_a_duration_is_said_in_two_words(seconds: int, said: str) -> None:
    assert spoken(timedelta(seconds=seconds)) == said
