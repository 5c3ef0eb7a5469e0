"""What is due: the table of METHOD, told once, over days of quarter hours."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mm_dagster.alerts import failures, policy
from mm_dagster.alerts.channel import Unavailable
from mm_dagster.config.alerts import AlertsConfig
from mm_dagster.tables import registry, words
from mm_dagster_tests.alerts.given import (
    ABOVE,
    BELOW,
    CONFIG,
    PRICE,
    T0,
    Listener,
    MemoryLedger,
    entries,
    entry,
    grid,
    minutes,
    run,
    state,
    states,
)

GRID = grid()
STATES = words.STATES


def alerted(exit_states: pl.DataFrame, clock=T0, price: float | None = PRICE) -> list[tuple[str, str, int]]:
    found = policy.due(exit_states, entries(), registry.empty("notification"), clock, CONFIG, [GRID], {GRID.id: price})
    return [(alert.kind, alert.state, alert.priority) for alert in found]


def follow(ledger: MemoryLedger, names: list[str], start: int = 0, price: float | None = PRICE, **options) -> None:
    """One run a quarter hour, a minute after each close, with these states."""
    since = T0
    for number, name in enumerate(names, start):
        as_of = T0 + minutes(15 * number)
        if number == start or name != names[number - start - 1]:
            since = as_of
        run(
            ledger,
            as_of + minutes(1),
            [GRID],
            exit_states=states(state(GRID, as_of, name, since=since)),
            price=price,
            **options,
        )


@pytest.mark.parametrize(
    ("name", "price", "priority"),
    [
        ("WARNING", PRICE, 0),
        ("LATEST_ACCEPTABLE_EXIT", PRICE, 1),
        ("MANDATORY_EXIT", BELOW, 2),
        ("MANDATORY_EXIT", PRICE, 2),
        ("MANDATORY_EXIT", None, 2),
        ("MANDATORY_EXIT", ABOVE, 1),
    ],
)
def test_an_escalation_has_the_priority_of_its_state(name: str, price: float | None, priority: int):
    assert alerted(states(state(GRID, T0, name)), price=price) == [("ESCALATION", name, priority)]


def test_normal_is_no_news():
    assert alerted(states(state(GRID, T0))) == []


@pytest.mark.parametrize(("age", "news"), [(0, True), (45, True), (45.1, False), (600, False)])
def test_only_a_fresh_evaluation_is_news(age: float, news: bool):
    found = alerted(states(state(GRID, T0, "LATEST_ACCEPTABLE_EXIT")), clock=T0 + minutes(age))
    assert (("ESCALATION", "LATEST_ACCEPTABLE_EXIT", 1) in found) is news


def test_only_the_newest_evaluation_of_the_present_episode_counts():
    former = GRID.activated_at - timedelta(days=1)
    rows = [
        state(GRID, T0 - minutes(15), "MANDATORY_EXIT"),
        state(GRID, T0, "WARNING"),
        state(GRID, T0 + minutes(15), "MANDATORY_EXIT", activated_at=former),
    ]
    assert alerted(states(*rows)) == [("ESCALATION", "WARNING", 0)]
    assert alerted(states(*reversed(rows))) == [("ESCALATION", "WARNING", 0)]


def test_the_higher_of_stored_and_live_state_is_told():
    assert alerted(states(state(GRID, T0, "WARNING", live_state="MANDATORY_EXIT"))) == [
        ("ESCALATION", "MANDATORY_EXIT", 2)
    ]
    assert alerted(states(state(GRID, T0, "LATEST_ACCEPTABLE_EXIT", live_state="WARNING"))) == [
        ("ESCALATION", "LATEST_ACCEPTABLE_EXIT", 1)
    ]


def test_the_most_urgent_comes_first_whatever_the_order_of_the_grids():
    grids = [grid(id=f"g{number}") for number in range(4)]
    rows = states(*(state(one, T0, name) for one, name in zip(grids, STATES, strict=True)))
    found = [
        policy.due(rows, entries(), registry.empty("notification"), T0, CONFIG, order, {})
        for order in (grids, grids[::-1])
    ]
    assert found[0] == found[1]
    assert [alert.state for alert in found[0]] == ["MANDATORY_EXIT", "LATEST_ACCEPTABLE_EXIT", "WARNING"]


def test_each_step_up_is_told_once_and_each_step_down_quietly():
    ledger = MemoryLedger()
    steps = ["NORMAL", "WARNING", "WARNING", "LATEST_ACCEPTABLE_EXIT", "WARNING", "WARNING", "NORMAL", "NORMAL"]
    follow(ledger, steps)
    assert ledger.told() == [
        ("ESCALATION", "WARNING", 0),
        ("ESCALATION", "LATEST_ACCEPTABLE_EXIT", 1),
        ("DEESCALATION", "WARNING", -1),
        ("DEESCALATION", "NORMAL", -1),
    ]


def test_running_again_and_again_tells_nothing_twice():
    ledger = MemoryLedger()
    rows = states(state(GRID, T0, "MANDATORY_EXIT"))
    channel = Listener()
    for second in range(20):
        run(ledger, T0 + timedelta(seconds=15 * second), [GRID], exit_states=rows, channel=channel, price=BELOW)
    assert [priority for *_, priority in channel.sent] == [2]
    assert ledger.commits == 2


def test_there_is_one_emergency_when_a_recomputed_history_moves_the_start_of_the_state():
    ledger = MemoryLedger()
    for number, since in enumerate((T0, T0 - minutes(60), T0 - minutes(15))):
        clock = T0 + minutes(number)
        rows = states(state(GRID, T0, "MANDATORY_EXIT", since=since))
        run(ledger, clock, [GRID], exit_states=rows, price=BELOW)
    assert ledger.told() == [("ESCALATION", "MANDATORY_EXIT", 2)]
    first, second = (
        policy.due(rows, entries(), registry.empty("notification"), T0, CONFIG, [GRID], {})[0].alert_id
        for rows in (states(state(GRID, T0, "MANDATORY_EXIT", since=since)) for since in (T0, T0 - minutes(15)))
    )
    assert first == second


def test_reminders_of_mandatory_exit_over_a_day():
    ledger = MemoryLedger()
    follow(ledger, ["MANDATORY_EXIT"] * 97, price=BELOW)
    begin = T0 + minutes(1)
    sent = sorted((row["sent_at"] - begin, row["priority"], row["kind"]) for row in ledger.rows.values())
    assert [(at // minutes(1), priority) for at, priority, _ in sent] == [
        (0, 2),
        (30, 1),  # the emergency rings for 50 minutes
        (60, 2),
        (120, 2),
        (240, 2),
        (480, 2),
        (720, 2),
        (960, 2),
        (1200, 2),
        (1440, 2),
    ]
    assert [kind for *_, kind in sent] == ["ESCALATION"] + ["REMINDER"] * 9


def test_reminders_of_latest_acceptable_exit_over_a_day():
    ledger = MemoryLedger()
    follow(ledger, ["LATEST_ACCEPTABLE_EXIT"] * 97)
    times = sorted((row["sent_at"] - T0 - minutes(1)) // minutes(1) for row in ledger.rows.values())
    assert times == [0, 30, 60, 120, 240, 480, 720, 960, 1200, 1440]
    assert {priority for *_, priority in ledger.told()} == {1}


def test_reminders_follow_the_configured_minutes():
    ledger = MemoryLedger()
    follow(ledger, ["LATEST_ACCEPTABLE_EXIT"] * 13, config=AlertsConfig(reminder_minutes=(45,)))
    times = sorted((row["sent_at"] - T0 - minutes(1)) // minutes(1) for row in ledger.rows.values())
    assert times == [0, 45, 90, 135, 180]


def test_reminders_end_with_the_acknowledgement_and_with_the_state():
    acknowledged, over = MemoryLedger(), MemoryLedger()
    follow(acknowledged, ["MANDATORY_EXIT"] * 3, price=BELOW)
    acknowledged.update("ESCALATION", acknowledged_at=T0 + minutes(40))
    follow(acknowledged, ["MANDATORY_EXIT"] * 40, start=3, price=BELOW)
    assert len(acknowledged.told()) == 2

    follow(over, ["LATEST_ACCEPTABLE_EXIT"] * 3 + ["NORMAL"] * 40)
    assert [kind for kind, *_ in over.told()] == ["ESCALATION", "REMINDER", "DEESCALATION"]


def test_reminders_that_came_due_while_nothing_ran_are_not_made_up_for():
    ledger = MemoryLedger()
    follow(ledger, ["LATEST_ACCEPTABLE_EXIT"])
    follow(ledger, ["LATEST_ACCEPTABLE_EXIT"] * 2, start=20)
    assert [kind for kind, *_ in ledger.told()] == ["ESCALATION", "REMINDER"]


def test_a_warning_that_stands_is_told_once():
    ledger = MemoryLedger()
    follow(ledger, ["WARNING"] * 97)
    assert ledger.told() == [("ESCALATION", "WARNING", 0)]


def test_a_warning_that_comes_again_within_four_hours_is_noted_once_and_not_told():
    ledger = MemoryLedger()
    follow(ledger, ["WARNING", "NORMAL", "WARNING", "WARNING", "NORMAL"])
    assert [kind for kind, *_ in ledger.told()] == ["ESCALATION", "DEESCALATION"]
    held = [row for row in ledger.rows.values() if row["status"] == "SUPPRESSED"]
    assert [row["detail"] for row in held] == [
        "held back until 2026-01-10T16:01:00Z: a WARNING of this grid was sent at 2026-01-10T12:01:00Z"
    ]
    assert ledger.commits == 2 * len(ledger.told()) + len(held)


def test_a_warning_that_was_held_back_and_still_stands_is_told_when_its_time_has_come():
    ledger = MemoryLedger()
    follow(ledger, ["WARNING", "NORMAL", *["WARNING"] * 20])
    sent = [row["sent_at"] for row in ledger.rows.values() if row["state"] == "WARNING"]
    assert sent == [T0 + minutes(1), T0 + minutes(241)]
    assert ledger.status() == {"SENT": 3}


def test_a_warning_held_back_does_not_hold_back_what_is_worse():
    ledger = MemoryLedger()
    follow(ledger, ["WARNING", "NORMAL", "WARNING", "LATEST_ACCEPTABLE_EXIT"])
    assert ledger.told()[-1] == ("ESCALATION", "LATEST_ACCEPTABLE_EXIT", 1)


def test_a_new_episode_is_told_anew():
    ledger = MemoryLedger()
    again = grid(activated_at=T0 - minutes(15))
    run(ledger, T0, [GRID], exit_states=states(state(GRID, T0, "MANDATORY_EXIT")))
    run(ledger, T0 + minutes(1), [again], exit_states=states(state(again, T0, "MANDATORY_EXIT")))
    assert ledger.told() == [("ESCALATION", "MANDATORY_EXIT", 2)] * 2


def test_a_grid_that_was_sold_out_above_and_then_falls_below_rings_once():
    ledger = MemoryLedger()
    follow(ledger, ["MANDATORY_EXIT"], price=ABOVE)
    follow(ledger, ["MANDATORY_EXIT"], start=1, price=PRICE)
    follow(ledger, ["MANDATORY_EXIT"], start=2, price=BELOW)
    follow(ledger, ["MANDATORY_EXIT"], start=3, price=BELOW)
    assert ledger.told() == [("ESCALATION", "MANDATORY_EXIT", 1), ("ESCALATION", "MANDATORY_EXIT", 2)]


def test_reminders_of_a_grid_that_is_sold_out_are_no_emergencies():
    ledger = MemoryLedger()
    follow(ledger, ["MANDATORY_EXIT"] * 20, price=ABOVE)
    assert {priority for *_, priority in ledger.told()} == {1}


def test_a_reminder_after_an_emergency_is_none_while_the_price_is_above():
    ledger = MemoryLedger()
    follow(ledger, ["MANDATORY_EXIT"], price=BELOW)
    follow(ledger, ["MANDATORY_EXIT"], start=4, price=ABOVE)
    follow(ledger, ["MANDATORY_EXIT"], start=8, price=BELOW)
    assert [(kind, priority) for kind, _, priority in ledger.told()] == [
        ("ESCALATION", 2),
        ("REMINDER", 1),
        ("REMINDER", 2),
    ]


def test_an_emergency_after_an_all_clear_rings_again():
    ledger = MemoryLedger()
    for number, live in enumerate(["MANDATORY_EXIT", None, "MANDATORY_EXIT", "MANDATORY_EXIT"]):
        as_of = T0 + minutes(15 * number)
        run(ledger, as_of, [GRID], exit_states=states(state(GRID, as_of, live_state=live)), price=BELOW)
    assert ledger.told() == [
        ("ESCALATION", "MANDATORY_EXIT", 2),
        ("DEESCALATION", "NORMAL", -1),
        ("ESCALATION", "MANDATORY_EXIT", 2),
    ]


# disabled grids -------------------------------------------------------------------------------------------------------


def test_a_disabled_grid_that_should_wait_gets_one_message_and_then_silence():
    disabled = grid(enabled=False)
    ledger, channel = MemoryLedger(), Listener()
    for number in range(96):
        as_of = T0 + minutes(15 * number)
        rows = entries(entry(disabled, as_of))
        run(ledger, as_of + minutes(1), [disabled], assessments=rows, channel=channel)
    assert ledger.told() == [("ENTRY", "WAIT", -1)]
    assert len(channel.sent) == 1


def test_a_disabled_grid_has_no_exit_alert_and_is_never_blind():
    disabled = grid(enabled=False)
    rows = states(state(disabled, T0, "MANDATORY_EXIT"))
    for clock in (T0, T0 + timedelta(days=3)):
        assert policy.due(rows, entries(), registry.empty("notification"), clock, CONFIG, [disabled], {}) == []


def test_entry_advice_is_told_on_a_change_and_at_most_every_four_hours():
    disabled = grid(enabled=False)
    ledger = MemoryLedger()
    advice = ["WAIT"] * 4 + ["ENTER"] * 2 + ["WATCH"] * 20 + ["ENTER"] * 20
    for number, name in enumerate(advice):
        as_of = T0 + minutes(15 * number)
        run(ledger, as_of, [disabled], assessments=entries(entry(disabled, as_of, name)))
    rows = sorted(ledger.rows.values(), key=lambda row: row["sent_at"])
    told = [((row["sent_at"] - T0) // minutes(1), row["state"], row["priority"]) for row in rows]
    assert told == [(0, "WAIT", -1), (240, "WATCH", -1), (480, "ENTER", 0)]


def test_an_old_entry_assessment_is_no_news():
    disabled = grid(enabled=False)
    rows = entries(entry(disabled, T0, "ENTER"))
    found = policy.due(states(), rows, registry.empty("notification"), T0 + minutes(46), CONFIG, [disabled], {})
    assert found == []


# blindness ------------------------------------------------------------------------------------------------------------


def test_blindness_is_told_once_and_so_is_its_end_and_a_second_one_again():
    ledger = MemoryLedger()
    rows = states(state(GRID, T0))
    for age in range(0, 200, 5):
        run(ledger, T0 + minutes(age), [GRID], exit_states=rows)
    assert ledger.told() == [("BLIND", "NORMAL", 1)]
    assert min(row["sent_at"] for row in ledger.rows.values()) == T0 + minutes(45)

    rows = states(state(GRID, T0), state(GRID, T0 + minutes(195)))
    for age in range(0, 200, 5):
        run(ledger, T0 + minutes(200 + age), [GRID], exit_states=rows)
    assert ledger.told() == [("BLIND", "NORMAL", 1), ("RECOVERED", "NORMAL", -1), ("BLIND", "NORMAL", 1)]


def test_a_grid_that_was_never_judged_is_never_blind_and_its_set_up_is_told_once():
    ledger = MemoryLedger()
    unjudged = states(state(GRID, T0, state=None, literal_state=None, raw_state=None, since=None))
    for number, rows in enumerate((states(), unjudged) * 3):
        run(ledger, T0 + minutes(60 * number), [GRID], exit_states=rows)
        assert ledger.told() == []
    for number in range(3):
        run(ledger, T0 + minutes(600 + number), [GRID], exit_states=unjudged, unfinished={GRID.id: "no network"})
    assert ledger.told() == [("SETUP", "NOT_JUDGED_YET", 0)]
    (row,) = ledger.rows.values()
    assert row["title"] == "Set-up is not finished · eth-v3 ETH-USDT"
    assert "no network" in row["message"]


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("NORMAL", ("SETUP", "JUDGED", -1)),
        ("WARNING", ("ESCALATION", "WARNING", 0)),
        ("MANDATORY_EXIT", ("ESCALATION", "MANDATORY_EXIT", 2)),
    ],
)
def test_the_first_judgement_is_one_quiet_line_or_a_true_escalation_that_is_not_overdue(
    name: str, told: tuple[str, str, int]
):
    ledger = MemoryLedger()
    run(ledger, T0, [GRID], unfinished={GRID.id: "no network"})
    first = T0 + minutes(300)
    for minute in (0, 15):
        rows = states(state(GRID, first + minutes(minute), name, since=T0 - minutes(9000)))
        run(ledger, first + minutes(minute + 1), [GRID], exit_states=rows)
    assert ledger.told() == [("SETUP", "NOT_JUDGED_YET", 0), told]
    assert not any("Overdue" in row["message"] or "AGAIN" in row["title"] for row in ledger.rows.values())


def test_a_blind_alert_of_a_grid_never_judged_is_not_followed_by_seeing_again():
    ledger = MemoryLedger()
    run(ledger, T0 + minutes(60), [GRID], exit_states=states(state(GRID, T0)))
    ledger.update("BLIND", state="UNKNOWN")
    run(ledger, T0 + minutes(61), [GRID], exit_states=states(state(GRID, T0 + minutes(60))))
    assert ledger.told() == [("BLIND", "UNKNOWN", 1)]


def test_an_old_row_is_a_grid_that_was_judged_however_old():
    ledger = MemoryLedger()
    run(ledger, T0 + minutes(60 * 24 * 9), [GRID], exit_states=states(state(GRID, T0)))
    assert ledger.told() == [("BLIND", "NORMAL", 1)]


# answers --------------------------------------------------------------------------------------------------------------


def answered(action: str, at: datetime, alert_id: str | None = None) -> pl.DataFrame:
    row = {"response_id": action, "alert_id": alert_id, "grid_id": GRID.id, "activated_at": GRID.activated_at}
    whole = row | {"at": at, "action": action}
    return pl.DataFrame([whole], schema=registry.dtypes("operator_response"), orient="row")


@pytest.mark.parametrize("action", ["kept", "reduced", "stopped"])
def test_an_answer_stops_the_ringing_and_the_reminders(action: str):
    ledger, phone = MemoryLedger(), Listener()
    said = answered(action, T0 + minutes(5))
    for minute in range(0, 600, 5):
        clock = T0 + minutes(minute)
        rows = states(state(GRID, clock, "MANDATORY_EXIT", since=T0))
        run(ledger, clock, [GRID], exit_states=rows, price=BELOW, channel=phone, responses=said if minute > 5 else None)
    assert ledger.told() == [("ESCALATION", "MANDATORY_EXIT", 2)]
    assert phone.cancelled == ["receipt-1"]


def test_an_answer_holds_back_no_higher_state_unless_the_grid_was_stopped():
    for action, told in (("kept", 2), ("reduced", 2), ("stopped", 1)):
        ledger = MemoryLedger()
        run(ledger, T0, [GRID], exit_states=states(state(GRID, T0, "LATEST_ACCEPTABLE_EXIT")))
        said = answered(action, T0 + minutes(5))
        clock = T0 + minutes(15)
        run(ledger, clock, [GRID], exit_states=states(state(GRID, clock, "MANDATORY_EXIT")), responses=said)
        assert len(ledger.told()) == told
        # And the higher one is reminded of, since nobody has answered that.
        rows = states(state(GRID, T0 + minutes(60), "MANDATORY_EXIT", since=clock))
        run(ledger, T0 + minutes(61), [GRID], exit_states=rows, responses=said)
        assert len(ledger.told()) == (3 if told == 2 else 1)


def test_a_snooze_puts_reminders_off_for_four_hours_and_holds_back_nothing_higher():
    ledger = MemoryLedger()
    said = answered("snoozed", T0 + minutes(35))
    reminded = []
    for minute in range(0, 300, 5):
        clock = T0 + minutes(minute)
        rows = states(state(GRID, clock, "LATEST_ACCEPTABLE_EXIT", since=T0))
        before = len(ledger.told())
        run(ledger, clock, [GRID], exit_states=rows, responses=said if minute >= 35 else None)
        reminded += [minute] * (len(ledger.told()) - before)
    assert reminded == [0, 30, 275], "35 min and four hours later they go on"
    higher = MemoryLedger()
    run(higher, T0, [GRID], exit_states=states(state(GRID, T0, "LATEST_ACCEPTABLE_EXIT")))
    for minute in (40, 75, 110):
        clock = T0 + minutes(minute)
        rows = states(state(GRID, clock, "MANDATORY_EXIT", since=T0 + minutes(40)))
        run(higher, clock, [GRID], exit_states=rows, responses=said)
    assert [kind for kind, *_ in higher.told()] == ["ESCALATION", "ESCALATION", "REMINDER", "REMINDER"]


def test_a_snooze_is_no_answer_to_mandatory_exit_whenever_it_was_said():
    ledger, phone = MemoryLedger(), Listener()
    said = answered("snoozed", T0 + minutes(5))
    for minute in (0, 10, 31, 61):
        clock = T0 + minutes(minute)
        rows = states(state(GRID, clock, "MANDATORY_EXIT", since=T0))
        run(ledger, clock, [GRID], exit_states=rows, price=BELOW, channel=phone, responses=said if minute else None)
    assert phone.cancelled == []
    assert [kind for kind, *_ in ledger.told()] == ["ESCALATION", "REMINDER", "REMINDER"]


def test_a_reopened_grid_is_reminded_of_as_if_nobody_had_answered():
    ledger = MemoryLedger()
    run(ledger, T0, [GRID], exit_states=states(state(GRID, T0, "MANDATORY_EXIT")))
    said = pl.concat([answered("stopped", T0 + minutes(5)), answered("reopened", T0 + minutes(40))])
    rows = states(state(GRID, T0 + minutes(45), "MANDATORY_EXIT", since=T0))
    run(ledger, T0 + minutes(45), [GRID], exit_states=rows, responses=said)
    assert [kind for kind, *_ in ledger.told()] == ["ESCALATION", "REMINDER"]


def test_what_is_pending_of_a_stopped_grid_is_not_sent_any_more():
    ledger, mute = MemoryLedger(), Listener(before=refuse_to_answer)
    run(ledger, T0, [GRID], exit_states=states(state(GRID, T0, "MANDATORY_EXIT")), channel=mute)
    assert ledger.status() == {"PENDING": 1}
    rows = states(state(GRID, T0, "MANDATORY_EXIT"))
    run(ledger, T0 + minutes(2), [GRID], exit_states=rows, responses=answered("stopped", T0 + minutes(1)))
    assert ledger.status() == {"SUPPRESSED": 1}


def refuse_to_answer() -> None:
    raise Unavailable("no answer")


def test_a_state_that_is_no_news_any_more_is_not_reminded_of():
    ledger = MemoryLedger()
    rows = states(state(GRID, T0, "MANDATORY_EXIT"))
    for age in range(0, 600, 5):
        run(ledger, T0 + minutes(age), [GRID], exit_states=rows, price=BELOW)
    assert [kind for kind, *_ in ledger.told()] == ["ESCALATION", "REMINDER", "BLIND"]


# rows that were not noted as sent -------------------------------------------------------------------------------------


def pending(name: str, **changes) -> MemoryLedger:
    """A ledger in which the escalation to a state was noted at T0 and nothing more."""
    ledger = MemoryLedger()
    run(ledger, T0, [GRID], exit_states=states(state(GRID, T0, name)))
    ledger.update("ESCALATION", status="PENDING", sent_at=None, attempts=0, title="title", message="words", **changes)
    return ledger


def found(ledger: MemoryLedger, clock, name: str, of=GRID) -> list[tuple[str, str, str]]:
    rows = states(state(of, clock, name))
    alerts = policy.due(rows, entries(), ledger.read(), clock, CONFIG, [of], {})
    return [(alert.kind, alert.state, alert.status) for alert in alerts]


def test_a_pending_row_is_due_again_word_for_word():
    ledger = pending("LATEST_ACCEPTABLE_EXIT")
    clock = T0 + minutes(90)
    rows = states(state(GRID, clock, "LATEST_ACCEPTABLE_EXIT"))
    (alert,) = policy.due(rows, entries(), ledger.read(), clock, CONFIG, [GRID], {})
    assert ledger.rows[alert.alert_id]["status"] == "PENDING"
    assert (alert.title, alert.message, alert.created_at, alert.as_of) == ("title", "words", T0, T0)


@pytest.mark.parametrize(
    ("age", "now", "expected"),
    [
        (15, "WARNING", [("ESCALATION", "LATEST_ACCEPTABLE_EXIT", "PENDING")]),
        (60, "WARNING", [("ESCALATION", "WARNING", "PENDING"), ("ESCALATION", "LATEST_ACCEPTABLE_EXIT", "SUPPRESSED")]),
        (60, "NORMAL", [("ESCALATION", "LATEST_ACCEPTABLE_EXIT", "SUPPRESSED")]),
        (
            15,
            "MANDATORY_EXIT",
            [("ESCALATION", "MANDATORY_EXIT", "PENDING"), ("ESCALATION", "LATEST_ACCEPTABLE_EXIT", "SUPPRESSED")],
        ),
    ],
)
def test_a_pending_row_gives_way_to_a_higher_state_and_when_it_is_old_to_another(age: int, now: str, expected: list):
    assert found(pending("LATEST_ACCEPTABLE_EXIT"), T0 + minutes(age), now) == expected


def test_a_pending_row_of_an_episode_that_has_ended_is_suppressed():
    ledger = pending("MANDATORY_EXIT")
    clock = T0 + minutes(1)
    again = grid(activated_at=T0)
    assert found(ledger, clock, "NORMAL", again) == [("ESCALATION", "MANDATORY_EXIT", "SUPPRESSED")]
    disabled = grid(enabled=False)
    alerts = policy.due(states(), entries(), ledger.read(), clock, CONFIG, [disabled], {})
    assert [alert.detail for alert in alerts] == ["not sent: its episode has ended"]


def test_a_channel_without_an_answer_is_tried_again_with_growing_pauses():
    times = {}
    for attempts in range(8):
        ledger = pending("MANDATORY_EXIT")
        ledger.update("ESCALATION", attempts=attempts)
        times[attempts] = next(minute for minute in range(100) if found(ledger, T0 + minutes(minute), "MANDATORY_EXIT"))
    assert times == {0: 0, 1: 1, 2: 2, 3: 5, 4: 10, 5: 20, 6: 30, 7: 40}


def test_a_refused_row_is_never_sent_again_but_reminders_go_on():
    ledger = pending("MANDATORY_EXIT")
    ledger.update("ESCALATION", status="FAILED")
    assert found(ledger, T0 + minutes(15), "MANDATORY_EXIT") == []
    assert found(ledger, T0 + minutes(30), "MANDATORY_EXIT") == [("REMINDER", "MANDATORY_EXIT", "PENDING")]


def test_what_was_never_sent_is_not_reminded_of_and_its_end_is_not_told():
    ledger = pending("LATEST_ACCEPTABLE_EXIT")
    ledger.update("ESCALATION", attempts=5)
    assert found(ledger, T0 + minutes(15), "LATEST_ACCEPTABLE_EXIT") == []
    assert found(ledger, T0 + minutes(30), "LATEST_ACCEPTABLE_EXIT") == [
        ("ESCALATION", "LATEST_ACCEPTABLE_EXIT", "PENDING")
    ]
    assert found(ledger, T0 + minutes(15), "NORMAL") == []


def test_reminders_do_not_pile_up_behind_one_that_gets_no_answer():
    ledger = MemoryLedger()
    follow(ledger, ["LATEST_ACCEPTABLE_EXIT"] * 3)
    ledger.update("REMINDER", status="PENDING", sent_at=None, attempts=1)
    assert found(ledger, T0 + minutes(61), "LATEST_ACCEPTABLE_EXIT") == [
        ("REMINDER", "LATEST_ACCEPTABLE_EXIT", "PENDING")
    ]


# emergencies that are over --------------------------------------------------------------------------------------------


def ringing() -> MemoryLedger:
    ledger = MemoryLedger()
    rows = states(state(GRID, T0, live_state="MANDATORY_EXIT"))
    run(ledger, T0, [GRID], exit_states=rows, channel=Listener(), price=BELOW)
    return ledger


@pytest.mark.parametrize(
    ("grids", "name", "age", "cancelled"),
    [
        ([GRID], "MANDATORY_EXIT", 15, False),
        ([GRID], "NORMAL", 15, True),
        ([GRID], "NORMAL", 50, False),
        ([grid(activated_at=T0)], "MANDATORY_EXIT", 15, True),
        ([grid(enabled=False)], "MANDATORY_EXIT", 15, True),
        ([], "MANDATORY_EXIT", 15, True),
    ],
)
def test_an_emergency_is_cancelled_when_its_state_or_its_episode_is_over(grids, name, age, cancelled):
    clock = T0 + minutes(age)
    over = policy.cancellations(states(state(GRID, clock, name)), ringing().read(), clock, CONFIG, grids)
    assert [one.receipt for one in over] == (["receipt-1"] if cancelled else [])


def test_an_emergency_whose_end_is_not_known_goes_on_ringing():
    clock = T0 + minutes(49)
    assert policy.cancellations(states(state(GRID, T0)), ringing().read(), clock, CONFIG, [GRID]) == []


def test_an_emergency_that_was_acknowledged_or_has_expired_is_left_alone():
    for change in ({"acknowledged_at": T0 + minutes(1)}, {"expired_at": T0 + minutes(1)}):
        ledger = ringing()
        ledger.update("ESCALATION", **change)
        clock = T0 + minutes(15)
        assert policy.cancellations(states(state(GRID, clock)), ledger.read(), clock, CONFIG, [GRID]) == []


# failures -------------------------------------------------------------------------------------------------------------


def test_a_failure_is_told_once_until_its_error_changes_or_four_hours_have_passed():
    ledger = pl.DataFrame(schema=registry.dtypes("notification"))
    told = []
    for number in range(33):
        at = T0 + minutes(15 * number)
        error = "TimeoutError: no answer" if number != 8 else "KeyError: 'close'"
        alert = failures.failure(f"run {number}", "candles", error, at, ledger)
        if alert is not None:
            told.append((number, alert.state, alert.priority))
            row = {name: value for name, value in vars(alert).items() if name in ledger.columns}
            row |= {"status": "SENT", "created_at": at, "sent_at": at}
            ledger = pl.concat([ledger, pl.DataFrame([row], schema=ledger.schema)])
            assert failures.failure(f"run {number}", "candles", error, at + timedelta(days=1), ledger) is None
            assert failures.failure(f"run {number}", "exit_state", error, at, ledger) is not None
    assert told == [
        (0, "candles: TimeoutError: no answer", 1),
        (8, "candles: KeyError: 'close'", 1),
        (9, "candles: TimeoutError: no answer", 1),
        (25, "candles: TimeoutError: no answer", 1),
    ]
    assert failures.unsent_failures(ledger, T0) == []


def test_a_failure_without_an_answer_is_tried_again_and_given_up_after_a_day():
    alert = failures.failure("run", "candles", "TimeoutError", T0, registry.empty("notification"))
    row = {name: value for name, value in vars(alert).items() if name != "before"}
    row |= {"attempts": 1, "created_at": T0, "title": "title", "message": "words"}
    ledger = pl.DataFrame([row], schema=registry.dtypes("notification"), orient="row")

    def found(hours: float) -> list[tuple[str, str | None, str | None]]:
        alerts = failures.unsent_failures(ledger, T0 + timedelta(hours=hours))
        return [(one.status, one.message, one.detail) for one in alerts]

    assert found(0) == []
    assert found(1) == [("PENDING", "words", None)]
    assert found(25) == [("SUPPRESSED", "words", "not sent: it is older than a day")]


# always ---------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@settings(max_examples=25)
@given(st.lists(st.sampled_from([*STATES, None]), min_size=1, max_size=30), st.booleans())
def test_whatever_the_states_each_message_is_news_and_a_second_look_finds_none(names: list, live: bool):
    """None is a tick that did not run."""
    ledger = MemoryLedger()
    rows = states(state(GRID, T0))
    for number, name in enumerate(names, 1):
        as_of = T0 + minutes(15 * number)
        if name is not None:
            changed = {"live_state": name} if live else {"state": name}
            rows = states(state(GRID, as_of) | changed)
        first = run(ledger, as_of + minutes(1), [GRID], exit_states=rows)
        assert run(ledger, as_of + minutes(1), [GRID], exit_states=rows) == []
        assert len([alert for alert in first if alert.kind in ("ESCALATION", "REMINDER", "DEESCALATION")]) <= 1
    told = 0
    watching = True
    for row in sorted(ledger.rows.values(), key=lambda row: row["created_at"]):
        match row["kind"], row["status"]:
            case "ESCALATION", "SENT":
                assert STATES.index(row["state"]) > told
                told = STATES.index(row["state"])
            case "DEESCALATION", "SENT":
                assert STATES.index(row["state"]) < told
                told = STATES.index(row["state"])
            case "REMINDER", "SENT":
                assert STATES.index(row["state"]) == told
            case "BLIND", "SENT":
                assert watching
                watching = False
            case "RECOVERED", "SENT":
                assert not watching
                watching = True


def test_two_test_messages_of_one_moment_are_two() -> None:
    first, second = (failures.trial("pushover", datetime(2026, 1, 10, tzinfo=UTC), number) for number in (0, 1))
    assert first.alert_id != second.alert_id
