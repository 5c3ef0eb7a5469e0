"""The lines below the markets: what settings and tables have to say of the whole."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import polars as pl
import pytest

from mm_dagster.config.alerts import AlertsConfig, QuietHours
from mm_dagster.config.orders import OrdersConfig
from mm_dagster.pages.lines import lines
from mm_dagster.pages.page import Line, without_money
from mm_dagster.tables.registry import empty
from mm_dagster_tests.pages.rows import page

NIGHT = datetime(2026, 3, 1, 23, 30, tzinfo=UTC)
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
DIGEST = "next 2026-03-02T07:00:00Z"


def project(**alerts: Any) -> Any:
    """One whose history is empty."""
    none = SimpleNamespace(
        read=lambda table, **_: empty(table), sql=lambda _: pl.DataFrame({"newest": [None]}), in_force=lambda _: "true"
    )
    return SimpleNamespace(config=SimpleNamespace(alerts=AlertsConfig(**alerts), orders=OrdersConfig()), lake=none)


@pytest.mark.parametrize(
    ("clock", "said"),
    [
        (
            NIGHT,
            ["quiet hours until 2026-03-02T06:00:00Z: only MANDATORY EXIT makes a sound", "next 2026-03-02T07:00:00Z"],
        ),
        (NOON, [DIGEST]),
    ],
)
def test_quiet_hours_and_the_next_digest_are_said_in_the_operators_time(clock: datetime, said: list[str]) -> None:
    berlin = project(timezone="Europe/Berlin", quiet_hours=QuietHours(start="22:00", end="07:00"), digest_at="08:00")
    assert [line.text for line in lines(berlin, clock)] == said


def test_without_quiet_hours_there_is_the_digest_alone_and_without_that_no_line() -> None:
    assert [line.label for line in lines(project(), NIGHT)] == ["digest"]
    assert lines(project(digest_at=None), NIGHT) == ()


def test_a_line_that_names_money_is_left_out_of_a_page_to_share() -> None:
    calm, dear = Line("quiet", "nothing rings"), Line("cost", "12.50 USDT", amounts=True)
    assert without_money(replace(page(), lines=(calm, dear))).lines == (calm,)
