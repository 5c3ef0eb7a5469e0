"""What the live page reads beyond the report: states, answers, channels, from rows made by hand."""

from __future__ import annotations

from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import polars as pl

from mm_dagster.bars import BAR, Span
from mm_dagster.pages import gather
from mm_dagster_tests.pages.live_pages import answer_row
from mm_dagster_tests.pages.rows import AS_OF, CLOCK, exit_row, frame, grid, message_row, on_page, page, risk_row


class Rows:
    """A lake of few rows."""

    def __init__(self, **tables: pl.DataFrame) -> None:
        self._tables = tables

    def read(
        self, table: str, *, span: Span | None = None, grids: Any = None, columns: Any = None, **_: Any
    ) -> pl.DataFrame:
        rows = self._tables[table]
        if span is not None:
            rows = rows.filter(span.closes())
        if grids is not None:
            rows = rows.filter(pl.col("grid_id").is_in(grids))
        return rows if columns is None else rows.select(columns)


def project(**tables: pl.DataFrame) -> Any:
    return SimpleNamespace(lake=Rows(**tables))


def test_stays_are_the_states_of_this_episode_and_say_what_began_before() -> None:
    one = grid()
    states = ["WARNING"] * 40 + ["NORMAL"] * 60 + ["MANDATORY_EXIT"] * 10
    times = [AS_OF - number * BAR for number in reversed(range(len(states)))]
    rows = [exit_row(one, state, as_of=time) for state, time in zip(states, times, strict=True)]
    former = exit_row(one, "WARNING", as_of=AS_OF - BAR, activated_at=one.activated_at - timedelta(days=9))
    risks = [risk_row(one, as_of=time, total_pnl=float(number)) for number, time in enumerate(times)]
    found = gather.stays(
        project(exit_state=frame("exit_state", *rows, former), grid_risk=frame("grid_risk", *risks)),
        on_page(one), page(on_page(one), days=1),
    )  # fmt: skip
    assert [(row["state"], row["is_cut"]) for row in found] == [
        ("MANDATORY_EXIT", False), ("NORMAL", False), ("WARNING", True)
    ]  # fmt: skip
    assert [row["total_pnl"] for row in found] == [100.0, 40.0, 14.0]
    assert found[0]["since"] == AS_OF - 9 * BAR
    assert [row["until"] for row in found] == [AS_OF, AS_OF - 10 * BAR, AS_OF - 70 * BAR]


def test_answers_are_those_of_the_grid_by_then_the_newest_first() -> None:
    rows = [
        answer_row(response_id="1", grid_id="eth-range", at=AS_OF - timedelta(hours=2)),
        answer_row(response_id="2", grid_id="eth-range", at=AS_OF - timedelta(hours=1)),
        answer_row(response_id="3", grid_id="eth-range", at=CLOCK + timedelta(hours=1)),
        answer_row(response_id="4", grid_id="another"),
    ]
    found = gather.responses(project(operator_response=frame("operator_response", *rows)), on_page(grid()), CLOCK)
    assert [row["response_id"] for row in found] == ["2", "1"]


def test_channels_are_counted_by_what_became_of_their_messages() -> None:
    one = grid()
    rows = [
        message_row(one, alert_id="1", acknowledged_at=AS_OF),
        message_row(one, alert_id="2", status="FAILED", detail="invalid token"),
        message_row(one, alert_id="3", status="PENDING", channel=None, sent_at=None),
        message_row(one, alert_id="4", status="SUPPRESSED"),
        message_row(one, alert_id="5", created_at=AS_OF - timedelta(days=8)),
    ]
    found = gather.channels(project(notification=frame("notification", *rows)), CLOCK)
    told = {row["channel"]: (row["sent"], row["refused"], row["waiting"], row["acknowledged"]) for row in found}
    assert told == {"pushover": (1, 1, 0, 1), None: (0, 0, 1, 0)}
    assert found[0]["said"] == "invalid token"
    assert found[0]["sent_at"] == AS_OF - timedelta(minutes=29)
