"""Limits of all grids: each breached and over is told once, nothing else is, and no word contradicts the rows."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mm_dagster.alerts import budget, dispatch, limits, message
from mm_dagster.alerts.alert import EMERGENCY, HIGH, PLAIN, QUIET
from mm_dagster.alerts.channel import Channel, Message, Refused, Sent, Unavailable
from mm_dagster.alerts.limit_words import BREACHED, DRAWDOWN, OVER, Known, OfLimit
from mm_dagster.alerts.parts import MESSAGE_LIMIT
from mm_dagster.bars import BAR, Span, floor_bar
from mm_dagster.config.alerts import AlertsConfig, Budget, QuietHours
from mm_dagster.config.portfolio import PortfolioConfig
from mm_dagster.history.lake import Commit
from mm_dagster.market.simulated import simulate
from mm_dagster.pipeline.notify import count_due, send_due
from mm_dagster.pipeline.project import Project
from mm_dagster.portfolio.limits import breaches, thresholds
from mm_dagster.tables import registry
from mm_dagster.tables.words import LIMITS
from mm_dagster_tests.alerts.given import T0, MemoryLedger, minutes
from mm_dagster_tests.kucoin import KucoinServer
from mm_dagster_tests.pipeline.recordings import configure, grid
from mm_dagster_tests.pushover import PushoverServer

CONFIG = AlertsConfig()
EQUITY = 10_000.0
CAPITALS = {"eth-v3": 1_500.0, "eth-w": 900.0, "sol-2": 1_200.0}
MARKETS = {"eth-v3": "ETH-USDT", "eth-w": "ETH-USDT", "sol-2": "SOL-USDT"}
THRESHOLDS: dict[str, float] = {
    name: limit if limit is not None else 0.9 for name, limit in thresholds(PortfolioConfig()).items()
}
SUBJECTS = {"pair": "ETH-USDT", "position": "eth-v3", "fills_per_day": "eth-v3", "fee_share": "eth-v3"}
FORTNIGHT = 14 * 96


# rows -----------------------------------------------------------------------------------------------------------------


@dataclass
class Bar:
    """What is stored of one bar."""

    limits: pl.DataFrame
    risks: pl.DataFrame
    shares: pl.DataFrame


def limit_row(
    name: str, as_of: datetime, value: float | None, is_breached: bool | None, subject: str = "", **changes: Any
) -> dict[str, Any]:
    threshold = THRESHOLDS[name]
    return {
        "quote": "USDT", "as_of": as_of, "limit": name, "subject": subject or SUBJECTS.get(name, "all"),
        "value": value, "threshold": threshold, "breached": is_breached, "since": as_of if is_breached else None,
        "room": None if value is None else threshold - value, "config_hash": "h", "code_version": "1",
    } | changes  # fmt: skip


def risk_row(as_of: datetime, **changes: Any) -> dict[str, Any]:
    return {
        "quote": "USDT", "as_of": as_of, "grids": len(CAPITALS), "markets": 2, "capital": sum(CAPITALS.values()),
        "session_capital": 900.0, "equity": EQUITY, "var_5_24h": 520.0, "es_5_24h": 640.0, "counts_as": 1.13,
        "drawdown": 2_300.0, "drawdown_share": 0.23, "highest_correlation": 0.93,
        "most_correlated": "ETH-USDT/SOL-USDT", "config_hash": "h", "code_version": "1",
    } | changes  # fmt: skip


def share_rows(as_of: datetime, gone: Sequence[str] = (), **changes: Any) -> list[dict[str, Any]]:
    parts = {"eth-v3": (0.5, 310.0), "eth-w": (0.3, 190.0), "sol-2": (0.2, 120.0)}
    return [
        {
            "quote": "USDT", "as_of": as_of, "grid_id": name, "symbol": MARKETS[name], "capital": CAPITALS[name],
            "activated_at": as_of - timedelta(hours=3 if name == "eth-w" else 300), "es_5_share": share,
            "es_5_contribution": 640 * share, "stopping_takes_off": off, "config_hash": "h", "code_version": "1",
        } | changes
        for name, (share, off) in parts.items() if name not in gone
    ]  # fmt: skip


def bar(as_of: datetime, rows: Sequence[dict[str, Any]], gone: Sequence[str] = (), **risk: Any) -> Bar:
    """A whole evaluation: what is not named is calm."""
    named = {(row["limit"], row["subject"]) for row in rows}
    calm = [limit_row(name, as_of, 0.0, False) for name in LIMITS if (name, SUBJECTS.get(name, "all")) not in named]
    calm += [
        limit_row("position", as_of, 0.0, False, name) for name in CAPITALS if name != SUBJECTS["position"]
    ]  # fmt: skip
    kept = [row for row in (*rows, *calm) if row["subject"] not in gone]
    if "grids" not in risk:
        risk["grids"] = len(CAPITALS) - len(gone)
    return Bar(
        registry.conform(pl.DataFrame(kept, infer_schema_length=None), "limit_state"),
        registry.conform(pl.DataFrame([risk_row(as_of, **risk)], infer_schema_length=None), "portfolio_risk"),
        registry.conform(pl.DataFrame(share_rows(as_of, gone), infer_schema_length=None), "portfolio_contribution"),
    )


# the turn of a run ----------------------------------------------------------------------------------------------------


class Killed(BaseException):
    """kill -9."""


@dataclass
class Line(Channel):
    """A channel that takes everything, but what `fault` raises for."""

    fault: Callable[[], None] = lambda: None
    sent: list[tuple[str, str, int]] = field(default_factory=list)
    name: str = "pushover"

    def send(self, message: Message) -> Sent:
        self.fault()
        self.sent.append((message.title, message.text, message.priority))
        return Sent()

    def cancel(self, receipt: str) -> None:
        raise AssertionError("no limit rings")


def look(
    ledger: MemoryLedger, clock: datetime, rows: Bar, *, config: AlertsConfig = CONFIG, source: str = "ccxt",
    running: Sequence[str] = ("USDT",),
) -> list[Any]:  # fmt: skip
    found = limits.due(rows.limits, rows.risks, rows.shares, ledger.read(), clock, config, running, source)
    return budget.admit(found, ledger.read(), clock, config)


def run(ledger: MemoryLedger, clock: datetime, rows: Bar, channel: Channel | None = None, **options: Any) -> None:
    """One run of the sender, as the pipeline does it; a second look finds nothing."""
    outgoing = []
    for one in look(ledger, clock, rows, **options):
        assert one.title is not None
        assert one.message is not None
        outgoing.append(dispatch.Outgoing(one, one.title, one.message, options.get("source", "ccxt")))
    dispatch.dispatch(outgoing, ledger=ledger, channel=channel, clock=lambda: clock)
    assert not [one for one in look(ledger, clock, rows, **options) if one.status == "SUPPRESSED"]


def told(ledger: MemoryLedger) -> list[tuple[str, int]]:
    """State and priority of what was sent, oldest first."""
    return [(state, priority) for _, state, priority in ledger.told()]


# a fortnight ----------------------------------------------------------------------------------------------------------


def paths() -> dict[str, np.ndarray]:
    """The value of each limit at each bar of a fortnight: one breach each, with flicker and gaps.

    Every limit climbs over its threshold in an hour of its own, flickers between there and 10 % below, is unknown for a
    while, and falls well below.
    """
    random = np.random.default_rng(7)
    found = {}
    for place, name in enumerate(LIMITS):
        threshold = THRESHOLDS[name]
        value = np.full(FORTNIGHT, 0.4 * threshold)
        begin = 20 + 110 * place
        value[begin : begin + 90] = threshold * random.uniform(0.91, 1.08, 90)
        value[begin] = 1.05 * threshold
        value[begin + 30 : begin + 40] = np.nan
        value[begin + 90 : begin + 95] = 0.89 * threshold
        found[name] = value
    # One step of the drawdown has the value of all.
    fallen = np.maximum.reduce([np.nan_to_num(found[name], nan=-1.0) for name in DRAWDOWN])
    fallen[np.any([np.isnan(found[name]) for name in DRAWDOWN], axis=0)] = np.nan
    return found | dict.fromkeys(DRAWDOWN, _stepped(fallen))


def _stepped(fallen: np.ndarray) -> np.ndarray:
    """Between the falls it is all over: calm is the calm of the mildest step."""
    calm = 0.4 * THRESHOLDS["drawdown_mild"]
    begins = [20 + 110 * LIMITS.index(name) for name in DRAWDOWN]
    inside = np.zeros(FORTNIGHT, bool)
    for begin in begins:
        inside[begin : begin + 90] = True
    return np.where(inside, fallen, calm)


def states_of(values: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: breaches(value, THRESHOLDS[name])[0] for name, value in values.items()}


def fortnight(number: int, values: Mapping[str, np.ndarray], states: Mapping[str, np.ndarray]) -> Bar:
    as_of = T0 + number * BAR
    rows = []
    for name in LIMITS:
        value, state = float(values[name][number]), int(states[name][number])
        known = None if np.isnan(value) else value
        rows.append(limit_row(name, as_of, known, {1: True, 0: False, -1: None}[state]))
    return bar(as_of, rows)


def expected() -> list[tuple[str, int]]:
    found = []
    for name in LIMITS:
        subject = SUBJECTS.get(name, "all")
        priority = {"drawdown_mild": QUIET, "drawdown_severe": HIGH}.get(name, PLAIN)
        found += [(f"BREACHED USDT {name} {subject}", priority), (f"OVER USDT {name} {subject}", QUIET)]
    return sorted(found)


@pytest.mark.long
@pytest.mark.parametrize("trouble", ["none", "kills", "silence"])
def test_in_a_fortnight_each_limit_breached_and_over_is_one_message_each(trouble: str) -> None:
    values = paths()
    states = states_of(values)
    ledger, turn = MemoryLedger(), [0]

    def fault() -> None:
        turn[0] += 1
        if trouble == "kills" and turn[0] % 2:
            raise Killed
        if trouble == "silence" and turn[0] % 2:
            raise Unavailable("no answer")

    line = Line(fault)
    for number in range(FORTNIGHT):
        rows = fortnight(number, values, states)
        for minute in (1,) if trouble == "none" else (1, 6):
            try:
                run(ledger, T0 + number * BAR + minutes(minute), rows, line)
            except Killed:
                continue
    assert sorted(told(ledger)) == expected()
    assert sorted(priority for _, _, priority in line.sent) == sorted(priority for _, priority in expected())
    order = [state.split()[0] for state, _ in told(ledger)]
    assert order == [BREACHED, OVER] * len(LIMITS)
    assert all(len(text) <= MESSAGE_LIMIT for _, text, _ in line.sent)


@pytest.mark.long
def test_a_newcomer_with_one_grid_and_no_equity_hears_nothing_in_a_fortnight() -> None:
    ledger = MemoryLedger()
    random = np.random.default_rng(3)
    for number in range(FORTNIGHT):
        as_of = T0 + number * BAR
        rows = [limit_row(name, as_of, None, None) for name in LIMITS if name not in ("fills_per_day", "fee_share")]
        rows += [
            limit_row("fills_per_day", as_of, float(random.integers(0, 30)), False),
            limit_row("fee_share", as_of, 0.2 if number > 300 else None, False if number > 300 else None),
        ]
        run(ledger, as_of + minutes(1), bar(as_of, rows, gone=["eth-w", "sol-2"], equity=None), Line())
    assert ledger.rows == {}


# one limit ------------------------------------------------------------------------------------------------------------


def follow(
    ledger: MemoryLedger, steps: Sequence[bool | None], name: str = "position", start: datetime = T0, **options: Any
) -> Line:
    """One run a quarter hour."""
    line = options.pop("line", None) or Line()
    for number, is_breached in enumerate(steps):
        as_of = start + number * BAR
        value = None if is_breached is None else THRESHOLDS[name] * (1.1 if is_breached else 0.5)
        run(ledger, as_of + minutes(1), bar(as_of, [limit_row(name, as_of, value, is_breached)]), line, **options)
    return line


POSITION = "USDT position eth-v3"


def test_breached_over_and_breached_again_are_three_messages() -> None:
    ledger = MemoryLedger()
    follow(ledger, [False, True, None, True, False, None, False, True, True])
    assert [state for state, _ in told(ledger)] == [f"BREACHED {POSITION}", f"OVER {POSITION}", f"BREACHED {POSITION}"]
    assert ledger.status() == {"SENT": 3}


@pytest.mark.parametrize("age", [46, 600])
def test_a_stale_row_says_nothing_and_an_absent_one_neither(age: int) -> None:
    ledger = MemoryLedger()
    calm = bar(T0, [limit_row("position", T0, 0.2, True)])
    run(ledger, T0 + minutes(age), calm)
    assert ledger.rows == {}
    run(ledger, T0 + minutes(1), calm)
    over = bar(T0 + BAR, [limit_row("position", T0 + BAR, 0.1, False)])
    run(ledger, T0 + BAR + minutes(age), over)
    nothing = Bar(*(registry.empty(name) for name in ("limit_state", "portfolio_risk", "portfolio_contribution")))
    run(ledger, T0 + BAR + minutes(age), nothing)
    assert ledger.status() == {"SENT": 1}


def test_a_grid_that_is_gone_is_over_once_and_says_why() -> None:
    ledger, line = MemoryLedger(), Line()
    run(ledger, T0, bar(T0, [limit_row("position", T0, 0.2, True)]), line)
    for number in (1, 2, 3):
        at = T0 + number * BAR
        run(ledger, at, bar(at, [], gone=["eth-v3"]), line)
    assert [state for state, _ in told(ledger)] == [f"BREACHED {POSITION}", f"OVER {POSITION}"]
    assert "eth-v3 no longer runs" in line.sent[1][1]


def test_a_grid_that_an_evaluation_does_not_know_is_not_taken_for_gone() -> None:
    ledger = MemoryLedger()
    run(ledger, T0, bar(T0, [limit_row("position", T0, 0.2, True)]))
    at = T0 + BAR
    # The past of a market is unknown: no grid contributes, though three run.
    run(ledger, at, bar(at, [], gone=list(CAPITALS), grids=3))
    # Or the risk was stored anew, and the limits were not yet.
    run(ledger, at, bar(at, [], gone=["eth-v3"], config_hash="other"))
    assert ledger.status() == {"SENT": 1}


def test_where_nothing_runs_any_more_the_bad_night_is_over_and_the_drawdown_is_not() -> None:
    ledger = MemoryLedger()
    rows = [limit_row("es_5_24h", T0, 0.07, True), *(limit_row(name, T0, 0.3, True) for name in DRAWDOWN)]
    run(ledger, T0, bar(T0, rows))
    at = T0 + BAR
    unknown = [limit_row(name, at, None, None) for name in ("es_5_24h", *DRAWDOWN)]
    run(ledger, at, bar(at, unknown, gone=list(CAPITALS), es_5_24h=None, grids=0))
    assert sorted(state for state, _ in told(ledger)) == [
        "BREACHED USDT drawdown_severe all", "BREACHED USDT es_5_24h all", "OVER USDT es_5_24h all",
    ]  # fmt: skip
    # No grid is to run in that currency, so nothing is evaluated.
    other = MemoryLedger()
    run(other, T0, bar(T0, [limit_row("portfolio", T0, 0.9, True), *rows]))
    nothing = Bar(*(registry.empty(name) for name in ("limit_state", "portfolio_risk", "portfolio_contribution")))
    run(other, T0 + timedelta(days=2), nothing, running=["USDC"])
    assert sorted(state for state, _ in told(other)) == [
        "BREACHED USDT drawdown_severe all", "BREACHED USDT es_5_24h all", "BREACHED USDT portfolio all",
        "OVER USDT es_5_24h all", "OVER USDT portfolio all",
    ]  # fmt: skip


def test_a_limit_that_is_not_watched_any_more_ends_without_a_word_and_may_come_again() -> None:
    ledger = MemoryLedger()
    follow(ledger, [True])
    at = T0 + BAR
    run(ledger, at, bar(at, [limit_row("position", at, 0.2, None, threshold=None, room=None)]))
    assert told(ledger) == [(f"BREACHED {POSITION}", PLAIN)]
    follow(ledger, [True, False], start=T0 + 2 * BAR)
    assert [state for state, _ in told(ledger)] == [f"BREACHED {POSITION}"] * 2 + [f"OVER {POSITION}"]


def test_a_breach_that_came_and_went_unsent_leaves_no_message() -> None:
    def silent() -> None:
        raise Unavailable("no answer")

    ledger = MemoryLedger()
    follow(ledger, [True], line=Line(silent))
    assert ledger.status() == {"PENDING": 1}
    line = follow(ledger, [False, False, True], start=T0 + BAR)
    assert ledger.status() == {"SENT": 1, "SUPPRESSED": 1}
    assert len(line.sent) == 1
    assert {row["detail"] for row in ledger.rows.values() if row["status"] == "SUPPRESSED"} == {
        "not sent: it is over by now"
    }


def test_an_end_that_did_not_get_through_is_not_sent_when_it_is_breached_again() -> None:
    ledger, calls = MemoryLedger(), [0]

    def second() -> None:
        calls[0] += 1
        if calls[0] == 2:
            raise Unavailable("no answer")

    line = Line(second)
    follow(ledger, [True, False, True, True, False], line=line)
    assert [state for state, _ in told(ledger)] == [f"BREACHED {POSITION}", f"OVER {POSITION}"]
    assert ledger.status() == {"SENT": 2, "SUPPRESSED": 1}


def test_a_refused_breach_is_offered_once_and_ends_without_a_word() -> None:
    ledger = MemoryLedger()

    def refuse() -> None:
        raise Refused("no such user")

    follow(ledger, [True, True, True], line=Line(refuse))
    assert ledger.status() == {"FAILED": 1}
    line = follow(ledger, [False, False, True], start=T0 + 3 * BAR)
    assert ledger.status() == {"FAILED": 1, "SUPPRESSED": 1, "SENT": 1}
    assert len(line.sent) == 1


def test_what_the_budget_held_back_is_sent_once_if_it_still_stands() -> None:
    config = AlertsConfig(budget=Budget(per_hour={"LIMIT": 1}))
    ledger, line = MemoryLedger(), Line()
    for number in range(12):
        at = T0 + number * BAR
        rows = [limit_row("position", at, 0.2, True), limit_row("pair", at, 0.3, number < 2)]
        run(ledger, at, bar(at, rows), line, config=config)
    assert len(line.sent) == 1 + (ledger.status().get("SENT", 0) - 1)
    states = [state for state, _ in told(ledger)]
    assert states.count(f"BREACHED {POSITION}") == 1
    # One of the two went first; the other waited an hour, and the pair was over by then.
    assert ("BREACHED USDT pair ETH-USDT" in states) == ("OVER USDT pair ETH-USDT" in states)


def test_the_reserve_is_not_for_limits() -> None:
    config = AlertsConfig(budget=Budget(monthly=10, reserve=10))
    ledger = MemoryLedger()
    follow(ledger, [True, True], config=config)
    assert ledger.status() == {"SUPPRESSED": 1}


@pytest.mark.parametrize("name", ["position", "drawdown_severe"])
def test_a_limit_waits_for_the_end_of_the_quiet_hours(name: str) -> None:
    night = AlertsConfig(quiet_hours=QuietHours(start="22:00", end="07:00"))
    ledger = MemoryLedger()
    evening = datetime(2026, 1, 10, 22, 30, tzinfo=UTC)
    follow(ledger, [True] * 20, name, start=evening, config=night)
    assert ledger.status() == {"SUPPRESSED": 1}
    follow(ledger, [True] * 20, name, start=evening + 20 * BAR, config=night)
    assert ledger.status() == {"SENT": 1}
    sent = next(iter(ledger.rows.values()))["sent_at"]
    assert (sent.hour, sent.minute) == (7, 1)


def test_a_clock_that_is_set_back_mutes_nothing() -> None:
    ledger = MemoryLedger()
    follow(ledger, [True, False], start=T0)
    follow(ledger, [True, False], start=T0 - timedelta(hours=5))
    assert [state.split()[0] for state, _ in told(ledger)].count(BREACHED) == 2
    assert ledger.status() == {"SENT": 4}


# the drawdown ---------------------------------------------------------------------------------------------------------


def fallen(ledger: MemoryLedger, levels: Sequence[int | None], line: Line | None = None, start: datetime = T0) -> None:
    """One run a quarter hour, with so many steps of the drawdown breached."""
    for number, level in enumerate(levels):
        as_of = start + number * BAR
        value = None if level is None else (0.01, 0.07, 0.14, 0.25)[level]
        rows = [
            limit_row(name, as_of, value, None if level is None else place < level)
            for place, name in enumerate(DRAWDOWN)
        ]
        run(ledger, as_of + minutes(1), bar(as_of, rows), line)


@pytest.mark.parametrize(
    ("levels", "heard"),
    [
        ([0, 3, 3, 0], [("BREACHED drawdown_severe", HIGH), ("OVER drawdown_severe", QUIET)]),
        (
            [1, 2, 3],
            [
                ("BREACHED drawdown_mild", QUIET), ("BREACHED drawdown_moderate", PLAIN),
                ("BREACHED drawdown_severe", HIGH),
            ],
        ),
        (
            [3, None, 2, 2, 1, 0],
            [
                ("BREACHED drawdown_severe", HIGH), ("OVER drawdown_severe drawdown_moderate", QUIET),
                ("OVER drawdown_moderate drawdown_mild", QUIET), ("OVER drawdown_mild", QUIET),
            ],
        ),
        (
            [3, 2, 3, 0],
            [
                ("BREACHED drawdown_severe", HIGH), ("OVER drawdown_severe drawdown_moderate", QUIET),
                ("BREACHED drawdown_severe", HIGH), ("OVER drawdown_severe", QUIET),
            ],
        ),
    ],
)  # fmt: skip
def test_a_drawdown_is_one_story(levels: list[int | None], heard: list[tuple[str, int]]) -> None:
    ledger = MemoryLedger()
    fallen(ledger, levels)
    said = [(state.replace("USDT ", "").replace(" all", ""), priority) for state, priority in told(ledger)]
    assert said == heard


def test_a_drawdown_that_came_down_says_where_it_stands() -> None:
    line = Line()
    fallen(MemoryLedger(), [3, 2], line)
    title, text, _ = line.sent[-1]
    assert title == "LIMIT over · drawdown, severe: 14 % of your equity, limit 20 %"
    assert text.startswith("SEVERE is over; MODERATE, from 10 % on, still stands.")


# whatever happens -----------------------------------------------------------------------------------------------------

LEVELS = st.lists(st.sampled_from([0, 1, 2, 3, None]), min_size=1, max_size=14)
FAULTS = st.lists(st.sampled_from(["", "", "kill before", "kill after", "silent", "refused"]), max_size=10)


@pytest.mark.long
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(levels=LEVELS, flags=st.lists(st.sampled_from([True, False, None]), min_size=14, max_size=14), faults=FAULTS,
       room=st.sampled_from([1, 2, 6]), quiet=st.booleans())  # fmt: skip
def test_whatever_happens_what_was_sent_stands_and_the_last_word_is_the_table_s(
    levels: list[int | None], flags: list[bool | None], faults: list[str], room: int, quiet: bool
) -> None:
    config = AlertsConfig(
        budget=Budget(per_hour={"LIMIT": room}),
        quiet_hours=QuietHours(start="13:00", end="14:30") if quiet else None,
    )
    ledger, left = MemoryLedger(), list(faults)
    now: dict[str, int | None] = {}

    class Phone(Line):
        def send(self, message: Message) -> Sent:
            assert message.priority < EMERGENCY
            fault = left.pop() if left else ""
            if fault == "kill before":
                raise Killed
            if fault == "silent":
                raise Unavailable("no answer")
            if fault == "refused":
                raise Refused("no")
            row = next(
                row for row in ledger.rows.values()
                if (row["title"], row["message"], row["status"]) == (message.title, message.text, "PENDING")
            )  # fmt: skip
            key = "drawdown" if "drawdown" in row["state"] else "position"
            assert now[key] in (None, limits._level(row)), "a message contradicts the table"
            answer = super().send(message)
            if fault == "kill after":
                raise Killed
            return answer

    phone = Phone()
    # A healthy end, in which both are known.
    whole = [*zip(levels, flags, strict=False), *[(levels[-1] or 0, bool(flags[0]))] * 30]
    for number, (level, flag) in enumerate(whole):
        as_of = T0 + number * BAR
        value = None if level is None else (0.01, 0.07, 0.14, 0.25)[level]
        rows = [
            limit_row(name, as_of, value, None if level is None else place < level)
            for place, name in enumerate(DRAWDOWN)
        ]
        rows.append(limit_row("position", as_of, None if flag is None else 0.2 if flag else 0.1, flag))
        now |= {"drawdown": level, "position": None if flag is None else int(flag)}
        try:
            run(ledger, as_of + minutes(1), bar(as_of, rows), phone, config=config)
        except Killed:
            continue
    told_of: dict[str, list[dict[str, Any]]] = {"drawdown": [], "position": []}
    for row in sorted(ledger.rows.values(), key=lambda row: row["sent_at"] or row["created_at"]):
        if row["status"] == "SENT":
            told_of["drawdown" if "drawdown" in row["state"] else "position"].append(row)
    if "refused" not in faults:
        for key, rows in told_of.items():
            assert (limits._level(rows[-1]) if rows else 0) == now[key]
            news = [limits._level(row) for row in rows]
            assert all(one != two for one, two in zip([0, *news], news, strict=False)), "the same was told twice"
    assert all(row["status"] != "PENDING" for row in ledger.rows.values())


# words ----------------------------------------------------------------------------------------------------------------


def words(name: str, *, value: float, news: str = BREACHED, is_breached: bool | None = None, **risk: Any) -> str:
    as_of = T0
    row = limit_row(name, as_of, value, news == BREACHED if is_breached is None else is_breached)
    title, text = message.limit(
        OfLimit(news, "USDT", name, row["subject"]),
        Known(row, None, risk_row(as_of, **risk), share_rows(as_of)),
        False,
        "Europe/Berlin",
    )
    return f"{title}\n{text}"


def test_the_bad_night_in_words() -> None:
    assert words("es_5_24h", value=0.064, grids=3) == (
        "LIMIT · bad night: 6.4 % of your equity, limit 5 %\n"
        "One night in 20 costs 520.00 USDT or more, 640.00 USDT on average: 6.4 % of your equity; the limit is 5 %. "
        "3 grids count as 1.1. Most of it: eth-v3 50 %, eth-w 30 %. Stopping eth-v3 brings it to 3.3 %. "
        "Bad nights follow each other. As of 10 Jan 13:00 CET."
    )


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("portfolio", 0.823, "All grids together have 3,600.00 USDT: 82.3 % of your equity; the limit is 80 %."),
        ("position", 0.2, "Taking out more than 487.50 USDT brings it below 13.5 %, where it is over."),
        ("pair", 0.24, "The grids on ETH-USDT have 2,400.00 USDT: 24 % of your equity; the limit is 20 %."),
        ("session", 0.25, "Waiting a day, or taking out more than 252.00 USDT brings it below 18 %"),
        ("correlation", 0.93, "ETH-USDT and SOL-USDT move alike: their correlation is 0.93; the limit is 0.9."),
        (
            "fills_per_day",
            1240,
            "eth-v3 filled 1,240 orders in 24 hours; the limit is 200. Fewer levels or wider steps",
        ),
        ("fee_share", 0.61, "Fees take 61 % of what the sells of eth-v3 earn before them; the limit is 50 %."),
        ("drawdown_severe", 0.23, "2,300.00 USDT below their best: 23 % of your equity; SEVERE begins at 20 %."),
        ("es_5_24h", 0.05000001, "5.000001 % of your equity; the limit is 5 %."),
        ("es_5_24h", 0.048, "4.8 % of your equity; it was above 5 % and is over below 4.5 %."),
    ],
)
def test_each_limit_in_words(name: str, value: float, says: str) -> None:
    assert says in words(name, value=value)


FIGURE = st.none() | st.floats(-1e9, 1e9) | st.floats(1e-9, 1e-3)


@settings(max_examples=150, deadline=None)
@given(
    name=st.sampled_from(LIMITS), scale=st.floats(0.5, 20), news=st.sampled_from([BREACHED, OVER]), figures=st.tuples(
        FIGURE, FIGURE, FIGURE, FIGURE), known=st.booleans(), long=st.booleans(), capital=st.floats(1e-6, 1e12),
    simulated=st.booleans(),
)  # fmt: skip
def test_no_words_are_longer_than_a_glance_or_contradict_the_rows(
    name: str, scale: float, news: str, figures: tuple[float | None, ...], known: bool, long: bool, capital: float,
    simulated: bool,
) -> None:  # fmt: skip
    stem = "x" * 60 if long else "g"
    ids = [f"{stem}-{number}" for number in range(4)]
    value = THRESHOLDS[name] * scale
    subject = ids[0] if SUBJECTS.get(name) == "eth-v3" else SUBJECTS.get(name, "all")
    row = limit_row(name, T0, value, news == BREACHED, subject)
    risk = risk_row(T0, var_5_24h=figures[0], es_5_24h=figures[1], drawdown=figures[2], counts_as=figures[3],
                    capital=capital, session_capital=capital)  # fmt: skip
    shares = [
        share_rows(T0)[0] | {"grid_id": one, "capital": capital / 4, "stopping_takes_off": figures[place]}
        for place, one in enumerate(ids)
    ]
    title, text = message.limit(
        OfLimit(news, "USDT", name, subject), Known(row, None, risk if known else None, shares if known else ()),
        simulated, "Europe/Berlin",
    )  # fmt: skip
    assert 0 < len(text.encode("utf-16-le")) // 2 <= MESSAGE_LIMIT
    assert title.startswith("SIMULATED ") == simulated
    assert "None" not in title + text
    assert "nan" not in title + text
    assert ("LIMIT over" in title) == (news == OVER)
    assert ("It is over." in text) == (news == OVER)
    written = {
        float(one.replace(",", "")) / 100 for one in re.findall(r"(?<![\w.])([\d,]*\.?\d+) %", f"{title} {text}")
    }
    shown = {value, THRESHOLDS[name], 0.9 * THRESHOLDS[name], 0.5, 0.25}
    if known and figures[1]:
        shown |= {max(0.0, figures[1] - off) * value / figures[1] for off in figures if off is not None and off > 0}
    for one in written:
        assert any(abs(one - other) <= 0.01 * max(abs(other), 1e-12) for other in shown), (one, text)
    amounts = {float(one.replace(",", "")) for one in re.findall(r"([\d,]*\.?\d+) USDT\b(?!-)", text)}
    parts = {capital, capital / 2, capital / 4, *(one for one in figures if one is not None)}
    parts |= {part * (1 - 0.9 * THRESHOLDS[name] / value) for part in (capital, capital / 4)}
    # From 100,000 on amounts are whole.
    step = 0.501 if max(capital, *amounts, 0.0) >= 99_999 else 0.006
    for one in amounts:
        assert any(abs(one - abs(other)) <= max(0.01 * abs(other), step) for other in parts), (one, text)


def test_a_state_reads_back() -> None:
    for state in ("BREACHED USDT portfolio all", "OVER USDT drawdown_severe all drawdown_mild"):
        assert OfLimit.of(state).state == state


# through the pipeline -------------------------------------------------------------------------------------------------

ETH = "ETH-USDT"


def stored(project: Project, as_of: datetime, is_breached: bool) -> None:
    """One evaluation in the lake, as the tick writes it."""
    rows = bar(as_of, [limit_row("es_5_24h", as_of, 0.064 if is_breached else 0.03, is_breached)])
    commit = Commit("test", "limit_state", "")
    span = Span(as_of - BAR, as_of)
    for table, frame in (("portfolio_risk", rows.risks), ("portfolio_contribution", rows.shares),
                         ("limit_state", rows.limits)):  # fmt: skip
        project.lake.write(table, frame, span=span, commit=commit)


def of_limits(project: Project) -> list[dict[str, Any]]:
    return project.lake.read("notification").filter(pl.col("kind") == "LIMIT").sort("created_at", "state").to_dicts()


@pytest.mark.long
def test_a_stored_breach_is_one_row_and_only_an_exchange_s_reaches_a_phone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_of = floor_bar(datetime.now(UTC))
    rows = simulate(ETH, Span(as_of - timedelta(days=2), as_of + BAR))
    one = grid("g", ETH, float(rows["close"][-1]), activated_at=(as_of - 4 * BAR).isoformat())
    folder = tmp_path / "configuration"
    with KucoinServer({ETH: rows}, as_of + timedelta(minutes=1)) as exchange, PushoverServer() as pushover:
        monkeypatch.setenv("PUSHOVER_TOKEN", pushover.token)
        monkeypatch.setenv("PUSHOVER_USER", pushover.user)

        def project() -> Project:
            return Project(str(folder), str(tmp_path / "data"))

        configure(folder, [one], {"main": {"kind": "simulated"}}, {ETH: "main"})
        (folder / "alerts.yaml").write_text(yaml.safe_dump({"pushover": {"api_url": pushover.api_url}}))
        stored(project(), as_of, True)
        assert count_due(project(), as_of) >= 1
        send_due(project(), "simulated", as_of)
        send_due(project(), "simulated again", as_of)
        (made_up,) = of_limits(project())
        assert made_up["title"].startswith("SIMULATED LIMIT · bad night")
        assert (made_up["status"], made_up["channel"], made_up["grid_id"]) == ("SENT", "log", "all")
        assert pushover.requests == []

        kucoin = {"kind": "ccxt", "exchange": "kucoin", "api_url": exchange.url}
        configure(folder, [one], {"main": kucoin}, {ETH: "main"})
        assert project().lake.read("limit_state").is_empty()
        send_due(project(), "switched", None)
        assert of_limits(project()) == []
        stored(project(), as_of, True)
        send_due(project(), "real", None)
        send_due(project(), "real again", None)
        (row,) = of_limits(project())
        heard = [one for one in pushover.messages if "LIMIT" in one["title"]]
        assert [one["title"] for one in heard] == [row["title"]]
        assert (row["status"], row["channel"], row["priority"]) == ("SENT", "pushover", PLAIN)
        assert row["alert_id"] != made_up["alert_id"]
        assert "SIMULATED" not in row["title"]

        stored(project(), as_of, False)
        send_due(project(), "over", None)
        # The exchange's clock stands still here, so that both were noted at the same time.
        assert sorted(one["state"].split()[0] for one in of_limits(project())) == [BREACHED, OVER]
        assert count_due(project()) == 0
        assert [one["priority"] for one in pushover.messages if "LIMIT over" in one["title"]] == ["-1"]


def test_limits_of_recorded_markets_are_no_news(tmp_path: Path) -> None:
    as_of = floor_bar(datetime.now(UTC))
    folder = tmp_path / "configuration"
    recorded = {"files": {"kind": "recorded", "path": "../recordings"}}
    configure(folder, [grid("g", ETH, 3_000.0)], recorded, {ETH: "files"})
    project = Project(str(folder), str(tmp_path / "data"))
    stored(project, as_of, True)
    send_due(project, "recorded", as_of)
    assert of_limits(project) == []


def test_limits_that_cannot_be_read_keep_nothing_else_from_being_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_of = floor_bar(datetime.now(UTC))
    folder = tmp_path / "configuration"
    configure(folder, [grid("g", ETH, 3_000.0)], {"main": {"kind": "simulated"}}, {ETH: "main"})
    project = Project(str(folder), str(tmp_path / "data"))
    monkeypatch.setattr(limits, "due", lambda *given: 1 / 0)
    count_due(project, as_of)
    send_due(project, "broken", as_of)
