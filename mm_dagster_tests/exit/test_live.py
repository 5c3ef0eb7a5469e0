"""What a live run adds to the stored state."""

from __future__ import annotations

from datetime import timedelta

import pytest

from mm_dagster.config.exit import ExitConfig
from mm_dagster.exit.live import live_state
from mm_dagster_tests.exit.synthetic import START, grid


@pytest.mark.parametrize(
    ("minutes", "price", "failure", "state", "reason"),
    [
        (16, 3100.0, None, None, None),
        (16, None, None, None, None),
        (16, 2990.0, None, "MANDATORY_EXIT", "last price 2,990 is at or below the stop 2,990"),
        (16, 2990.1, None, None, None),
        (44, 3100.0, None, None, None),
        (45, 3100.0, None, "WARNING", "BLIND: the newest candle closed at 2026-03-02T00:00:00Z, 45 min ago"),
        (
            75,
            3100.0,
            None,
            "LATEST_ACCEPTABLE_EXIT",
            "BLIND: the newest candle closed at 2026-03-02T00:00:00Z, 1 h 1",
        ),
        (None, None, None, "LATEST_ACCEPTABLE_EXIT", "BLIND: no candle is known"),
        (16, None, "kucoin: timeout", None, "kucoin: timeout"),
        (80, 2900.0, "kucoin: timeout", "MANDATORY_EXIT", "last price 2,900 is at or below the stop 2,990; BLIND"),
    ],
)
def test_last_price_and_blindness_make_the_live_state(
    minutes: int | None, price: float | None, failure: str | None, state: str | None, reason: str | None
) -> None:
    found, said = live_state(
        grid(),
        ExitConfig(),
        judged=True,
        clock=START + timedelta(minutes=minutes or 0),
        newest_known=None if minutes is None else START,
        last_price=price,
        failure=failure,
    )
    assert found == state
    assert said == reason or (said or "").startswith(reason or "-")


def test_what_was_never_judged_is_not_lost_so_nothing_calls_for_a_state() -> None:
    for newest in (None, START):
        found, said = live_state(
            grid(),
            ExitConfig(),
            judged=False,
            clock=START + timedelta(days=3),
            newest_known=newest,
            last_price=2900.0,
            failure="kucoin: no network",
        )
        assert found is None
        assert said == "last price 2,900 is at or below the stop 2,990; kucoin: no network"
