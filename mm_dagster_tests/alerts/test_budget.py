"""What is held back, why, and that nothing which still stands is lost by it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mm_dagster.alerts import budget, failures, policy
from mm_dagster.alerts.alert import Alert
from mm_dagster.config.alerts import AlertsConfig, Budget, QuietHours
from mm_dagster.config.grid import GridConfig
from mm_dagster.tables import registry, words
from mm_dagster_tests.alerts.given import BELOW, T0, MemoryLedger, grid, minutes, run, state, states

GRID = grid()
GRIDS = [grid(id=f"g{number}") for number in range(3)]
NIGHT = AlertsConfig(timezone="Europe/Berlin", quiet_hours=QuietHours(start="22:00", end="07:00"))
EVENING = datetime(2026, 1, 10, 21, tzinfo=UTC)
"""22:00 in Berlin: the quiet hours begin."""
MORNING = datetime(2026, 1, 11, 6, tzinfo=UTC)


def follow(
    ledger: MemoryLedger, start: datetime, names: list[str], config: AlertsConfig = NIGHT, **options
) -> list[tuple[str, str, int, str]]:
    """One run a quarter hour; what was sent: hour of sending, kind, state, priority."""
    since = start
    for number, name in enumerate(names):
        as_of = start + minutes(15 * number)
        since = as_of if number and name != names[number - 1] else since
        rows = states(state(GRID, as_of, name, since=since))
        run(ledger, as_of, [GRID], exit_states=rows, config=config, **options)
    sent = sorted((row for row in ledger.rows.values() if row["status"] == "SENT"), key=lambda row: row["sent_at"])
    return [(row["kind"], row["state"], row["priority"], f"{row['sent_at']:%H:%M}") for row in sent]


def limited(**changes: object) -> AlertsConfig:
    return AlertsConfig(budget=Budget(**changes))


def at_once(config: AlertsConfig, names: list[str], clock: datetime = T0) -> MemoryLedger:
    ledger = MemoryLedger()
    rows = states(*(state(one, clock, name) for one, name in zip(GRIDS, names, strict=False)))
    run(ledger, clock, GRIDS[: len(names)], exit_states=rows, config=config, price=BELOW)
    return ledger


# quiet hours ----------------------------------------------------------------------------------------------------------


def test_a_warning_waits_until_the_quiet_hours_are_over_and_is_noted_once():
    ledger = MemoryLedger()
    assert follow(ledger, EVENING, ["WARNING"] * 36) == []
    (row,) = ledger.rows.values()
    assert (row["status"], row["detail"]) == ("SUPPRESSED", "held back until 2026-01-11T06:00:00Z: quiet hours")
    assert ledger.commits == 1
    assert follow(ledger, EVENING, ["WARNING"] * 40) == [("ESCALATION", "WARNING", 0, "06:00")]


def test_what_is_over_when_the_quiet_hours_end_is_not_told():
    ledger = MemoryLedger()
    assert follow(ledger, EVENING, ["WARNING"] * 30 + ["NORMAL"] * 10) == []
    assert ledger.status() == {"SUPPRESSED": 1}


def test_mandatory_exit_its_reminders_and_its_end_are_told_in_quiet_hours():
    ledger = MemoryLedger()
    for number in range(8):
        as_of = EVENING + minutes(15 * number)
        row = state(GRID, as_of, live_state="MANDATORY_EXIT" if number < 4 else None)
        run(ledger, as_of, [GRID], exit_states=states(row), config=NIGHT, price=BELOW)
    assert ledger.told() == [
        ("ESCALATION", "MANDATORY_EXIT", 2),
        ("REMINDER", "MANDATORY_EXIT", 1),
        ("DEESCALATION", "NORMAL", -1),
    ]


def test_latest_acceptable_exit_is_told_without_a_sound_and_rings_after_the_quiet_hours():
    told = follow(MemoryLedger(), EVENING, ["LATEST_ACCEPTABLE_EXIT"] * 38)
    assert told == [
        ("ESCALATION", "LATEST_ACCEPTABLE_EXIT", -1, "21:00"),
        ("REMINDER", "LATEST_ACCEPTABLE_EXIT", 1, "06:00"),
    ]


def test_a_state_that_came_down_unheard_and_is_back_is_told_again():
    ledger = MemoryLedger()
    names = ["LATEST_ACCEPTABLE_EXIT"] * 2 + ["NORMAL"] * 4 + ["LATEST_ACCEPTABLE_EXIT"] * 4
    told = follow(ledger, EVENING, names)
    assert [(kind, name, at) for kind, name, _, at in told] == [
        ("ESCALATION", "LATEST_ACCEPTABLE_EXIT", "21:00"),
        ("ESCALATION", "LATEST_ACCEPTABLE_EXIT", "22:30"),
    ]


def test_a_state_that_only_the_live_run_knows_is_noted_once_while_it_is_held_back():
    ledger = MemoryLedger()
    for number in range(37):
        as_of = EVENING + minutes(15 * number)
        rows = states(state(GRID, as_of, live_state="WARNING"))
        run(ledger, as_of, [GRID], exit_states=rows, config=NIGHT)
    assert ledger.told() == [("ESCALATION", "WARNING", 0)]
    assert len(ledger.rows) == 1


@pytest.mark.parametrize(("name", "told"), [("NORMAL", []), ("MANDATORY_EXIT", [("BLIND", "MANDATORY_EXIT", 1)])])
def test_blindness_waits_unless_mandatory_exit_held_when_it_began(name: str, told: list):
    ledger = MemoryLedger()
    rows = states(state(GRID, EVENING, name))
    for age in (0, 20, 45, 60):
        run(ledger, EVENING + minutes(age), [GRID], exit_states=rows, config=NIGHT, price=BELOW)
    assert [one for one in ledger.told() if one[0] == "BLIND"] == told
    run(ledger, MORNING, [GRID], exit_states=rows, config=NIGHT, price=BELOW)
    assert [one[0] for one in ledger.told()].count("BLIND") == 1


def test_a_row_without_an_answer_from_before_the_quiet_hours_waits_and_one_from_within_does_not():
    for before, status in ((1, "SUPPRESSED"), (-1, "PENDING")):
        ledger = MemoryLedger()
        run(ledger, T0, [GRID], exit_states=states(state(GRID, T0, "WARNING")), config=NIGHT)
        noted = EVENING - minutes(before)
        ledger.update("ESCALATION", status="PENDING", sent_at=None, attempts=1, created_at=noted, as_of=noted)
        clock = EVENING + minutes(10)
        rows = states(state(GRID, clock, "WARNING"))
        found = policy.due(rows, registry.empty("entry_assessment"), ledger.read(), clock, NIGHT, [GRID], {})
        assert [one.status for one in budget.admit(found, ledger.read(), clock, NIGHT)] == [status]


@pytest.mark.parametrize(
    ("start", "end", "day", "begin", "hours"),
    [
        ("22:00", "07:00", datetime(2026, 1, 10, tzinfo=UTC), "2026-01-10T21:00", 9),
        ("22:00", "07:00", datetime(2026, 3, 28, tzinfo=UTC), "2026-03-28T21:00", 8),
        ("22:00", "07:00", datetime(2026, 10, 24, tzinfo=UTC), "2026-10-24T20:00", 10),
        ("22:00", "02:30", datetime(2026, 3, 28, tzinfo=UTC), "2026-03-28T21:00", 4.5),
        ("22:00", "02:30", datetime(2026, 10, 24, tzinfo=UTC), "2026-10-24T20:00", 4.5),
        ("02:15", "02:45", datetime(2026, 3, 29, tzinfo=UTC), "2026-03-29T01:15", 0.5),
        ("12:00", "14:00", datetime(2026, 1, 10, tzinfo=UTC), "2026-01-10T11:00", 2),
    ],
)
def test_quiet_hours_are_one_piece_on_days_on_which_the_clock_changes(start, end, day, begin, hours):
    config = AlertsConfig(timezone="Europe/Berlin", quiet_hours=QuietHours(start=start, end=end))
    first = day.replace(hour=9 if start == "12:00" else 18) - timedelta(days=start == "02:15")
    found = [first + minutes(5 * number) for number in range(12 * 20)]
    quiet = [clock for clock in found if budget.quiet_hours(clock, config)]
    assert quiet[0] == datetime.fromisoformat(begin).replace(tzinfo=UTC)
    assert len(quiet) == hours * 12
    assert quiet[-1] - quiet[0] == minutes(5) * (len(quiet) - 1)


def test_quiet_hours_that_begin_when_they_end_are_none():
    config = AlertsConfig(quiet_hours=QuietHours(start="22:00", end="22:00"))
    assert all(budget.quiet_hours(T0 + timedelta(hours=hour), config) is None for hour in range(24))


# limits ---------------------------------------------------------------------------------------------------------------


def test_a_limit_an_hour_holds_back_and_tells_one_after_the_other_when_there_is_room():
    config = limited(per_hour={"WARNING": 1})
    ledger = MemoryLedger()
    for number in range(13):
        as_of = T0 + minutes(15 * number)
        rows = states(*(state(one, as_of, "WARNING", since=T0) for one in GRIDS))
        run(ledger, as_of, GRIDS, exit_states=rows, config=config)
        if number == 0:
            held = [row["detail"] for row in ledger.rows.values() if row["status"] == "SUPPRESSED"]
            assert held == ["held back: no more than 1 WARNING messages an hour"] * 2
    assert [f"{row['sent_at']:%H:%M}" for row in ledger.rows.values()] == ["12:00", "13:00", "14:00"]
    assert ledger.commits == 1 + 3 + 2


def test_limits_are_by_state_and_mandatory_exit_has_none():
    ledger = at_once(limited(per_hour={"LATEST_ACCEPTABLE_EXIT": 0}), [*words.STATES[1:]])
    assert [name for _, name, _ in ledger.told()] == ["MANDATORY_EXIT", "WARNING"]


def test_a_message_that_waits_for_an_answer_takes_its_place_in_the_hour():
    config = limited(per_hour={"WARNING": 1})
    ledger = at_once(config, ["WARNING"])
    ledger.update("ESCALATION", status="PENDING", sent_at=None, attempts=9)
    clock = T0 + minutes(120)
    rows = states(*(state(one, clock, "WARNING") for one in GRIDS[:2]))
    found = policy.due(rows, registry.empty("entry_assessment"), ledger.read(), clock, config, GRIDS[:2], {})
    assert [(one.grid_id, one.status) for one in budget.admit(found, ledger.read(), clock, config)] == [
        ("g0", "PENDING"),
        ("g1", "SUPPRESSED"),
    ]


def test_the_reserve_of_the_month_is_for_mandatory_exit_which_is_sent_even_when_that_is_spent():
    config = limited(monthly=2, reserve=1)
    assert at_once(config, ["WARNING", "WARNING"]).status() == {"SENT": 1, "SUPPRESSED": 1}
    ledger = at_once(config, ["MANDATORY_EXIT"] * 3)
    assert ledger.status() == {"SENT": 3}
    rows = states(*(state(one, T0, "MANDATORY_EXIT") for one in GRIDS))
    empty = registry.empty("notification")
    found = policy.due(rows, registry.empty("entry_assessment"), empty, T0, config, GRIDS, {})
    assert [one.detail for one in budget.admit(found, empty, T0, config)] == [
        None,
        None,
        "sent although all 2 messages of 2026-01 are used up",
    ]


def test_what_the_month_had_no_room_for_is_told_in_the_next_if_it_still_stands():
    config = limited(monthly=1, reserve=1)
    ledger = at_once(config, ["WARNING"], datetime(2026, 1, 31, 23, tzinfo=UTC))
    assert [row["detail"] for row in ledger.rows.values()] == [
        "held back: the 0 messages of 2026-01 are used up, the rest is for MANDATORY_EXIT"
    ]
    config, ledger = limited(monthly=1, reserve=0), MemoryLedger()
    clock = datetime(2026, 1, 31, 23, tzinfo=UTC)
    for number in range(3):
        as_of = clock + minutes(30 * number)
        rows = states(*(state(one, as_of, "WARNING", since=clock) for one in GRIDS[:2]))
        run(ledger, as_of, GRIDS[:2], exit_states=rows, config=config)
    assert [f"{row['sent_at']:%m-%d %H:%M}" for row in ledger.rows.values()] == ["01-31 23:00", "02-01 00:00"]


def test_a_clock_that_was_set_back_holds_nothing_back():
    config = limited(per_hour={"WARNING": 1})
    ledger = at_once(config, ["WARNING"])
    ledger.update("ESCALATION", sent_at=T0 + timedelta(days=400))
    rows = states(state(GRIDS[1], T0, "WARNING"))
    run(ledger, T0, GRIDS[1:2], exit_states=rows, config=config)
    assert ledger.status() == {"SENT": 2}


# failures -------------------------------------------------------------------------------------------------------------


def test_a_failure_in_quiet_hours_is_told_when_they_end_once_for_each_asset():
    ledger = MemoryLedger()
    for number in range(20):
        at = EVENING + minutes(30 * number)
        for asset, error in (("candles", "TimeoutError"), ("exit_state", f"KeyError {number // 10}")):
            found = failures.failure(f"run {number}", asset, error, at, ledger.read())
            alerts = [*failures.unsent_failures(ledger.read(), at), *([found] if found else [])]
            admitted = budget.admit(alerts, ledger.read(), at, NIGHT)
            send(ledger, admitted, at)
    told = [(row["state"], row["sent_at"]) for row in ledger.rows.values() if row["status"] == "SENT"]
    assert sorted(told) == [("candles: TimeoutError", MORNING), ("exit_state: KeyError 1", MORNING)]


def send(ledger: MemoryLedger, alerts: list[Alert], at: datetime) -> None:
    """Notes what is held back, and all else as sent."""
    for alert in alerts:
        row = {name: getattr(alert, name) for name in vars(alert) if name != "before"} | {"title": "t", "message": "m"}
        row["created_at"] = row["created_at"] or at
        row |= {"status": "SENT", "sent_at": at} if alert.status == "PENDING" else {}
        ledger.rows[alert.alert_id] = row


# always ---------------------------------------------------------------------------------------------------------------

LIMITS = st.fixed_dictionaries(
    {}, optional={name: st.integers(1, 3) for name in (*words.STATES[1:3], "REMINDER", "DEESCALATION")}
)


@pytest.mark.slow
@settings(max_examples=8)
@example(
    # The end of MANDATORY_EXIT is counted alike when it is sent and when it was sent.
    nights=[["NORMAL"] * 3] * 2 + [["NORMAL", "WARNING", "MANDATORY_EXIT"], ["NORMAL"] * 3],
    begin=1,
    quiet=None,
    per_hour={"WARNING": 2, "DEESCALATION": 1},
    room=(6, 3),
    live=False,
)
@example(
    # Half an hour a day is not quiet.
    nights=[["NORMAL"] * 3] * 7 + [["NORMAL", "NORMAL", "WARNING"]],
    begin=0,
    quiet=(1, 0),
    per_hour={},
    room=(1_000, 0),
    live=False,
)
@given(
    nights=st.lists(st.lists(st.sampled_from(words.STATES), min_size=3, max_size=3), min_size=1, max_size=24),
    begin=st.integers(0, 23),
    quiet=st.none() | st.tuples(st.integers(0, 23), st.integers(0, 23)),
    per_hour=LIMITS,
    room=st.sampled_from([(1_000, 0), (6, 3), (2, 2)]),
    live=st.booleans(),
)
def test_whatever_happens_nothing_that_stands_is_lost_or_told_twice(nights, begin, quiet, per_hour, room, live):
    config = AlertsConfig(
        timezone="Europe/Berlin",
        quiet_hours=quiet and QuietHours(start=f"{quiet[0]:02}:00", end=f"{quiet[1]:02}:30"),
        budget=Budget(per_hour=per_hour, monthly=room[0], reserve=room[1]),
    )
    ledger = MemoryLedger()
    start = T0 + timedelta(hours=begin)
    since = dict.fromkeys((one.id for one in GRIDS), start)
    before: list[str] = ["NORMAL"] * 3
    # After the last change everything stands for longer than any quiet hours, limit or repetition.
    for number, names in enumerate([*nights, *[nights[-1]] * 57]):
        clock = start + minutes(30 * number)
        since |= {one.id: clock for one, new, old in zip(GRIDS, names, before, strict=True) if new != old}
        rows = states(*(_seen(one, clock, name, since[one.id], live) for one, name in zip(GRIDS, names, strict=True)))
        heard = _heard(ledger)
        run(ledger, clock, GRIDS, exit_states=rows, config=config, price=BELOW)
        assert run(ledger, clock, GRIDS, exit_states=rows, config=config, price=BELOW) == []
        for one, name, old in zip(GRIDS, names, before, strict=True):
            if name == "MANDATORY_EXIT" and (old != name or heard.get(one.id) != name):
                assert _heard(ledger)[one.id] == name, "an emergency is told at once"
        before = names

    sent = sorted((row for row in ledger.rows.values() if row["status"] == "SENT"), key=lambda row: row["sent_at"])
    assert all(row["detail"] for row in ledger.rows.values() if row["status"] == "SUPPRESSED")
    for row in sent:
        name = row["state"] if row["kind"] == "ESCALATION" else row["kind"]
        same = [one for one in sent if name == (one["state"] if one["kind"] == "ESCALATION" else one["kind"])]
        hour = [one for one in same if timedelta(0) <= row["sent_at"] - one["sent_at"] < timedelta(hours=1)]
        # The end of a MANDATORY_EXIT has no limit either.
        if "MANDATORY_EXIT" not in (row["state"], *(one["state"] for one in hour)) and name != "DEESCALATION":
            assert len(hour) <= per_hour.get(name, len(hour))
    usual = [row for row in sent if row["state"] != "MANDATORY_EXIT" and row["kind"] != "DEESCALATION"]
    assert len(usual) <= room[0] - room[1]
    for one in GRIDS:
        moves = [row for row in sent if row["grid_id"] == one.id and row["kind"] in ("ESCALATION", "DEESCALATION")]
        assert len([row for row in moves if row["sent_at"] >= since[one.id]]) <= 1
    if room[0] == 1_000:
        assert {one.id: _heard(ledger).get(one.id, "NORMAL") for one in GRIDS} == dict(
            zip((one.id for one in GRIDS), nights[-1], strict=True)
        )


def _seen(of: GridConfig, clock: datetime, name: str, since: datetime, live: bool) -> dict:
    changes = {"live_state": name} if live else {"state": name, "since": since}
    return state(of, clock) | changes


def _heard(ledger: MemoryLedger) -> dict[str, str]:
    """What was last told of each grid."""
    moves = [
        row for row in ledger.rows.values() if row["status"] == "SENT" and row["kind"] in ("ESCALATION", "DEESCALATION")
    ]
    return {row["grid_id"]: row["state"] for row in sorted(moves, key=lambda row: row["sent_at"])}
