"""Alerts against what the price did, grids cut where they were ended, and the sentences of the check, by hand."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from mm_dagster.bars import BAR, HOUR_BARS, Span
from mm_dagster.config.grid import GridConfig
from mm_dagster.evaluation import alarms, monthly, probability, responses
from mm_dagster.evaluation.cohort import Cohort, cohort_of
from mm_dagster.evaluation.market import Market
from mm_dagster.tables import evaluation, registry, words

START = datetime(2026, 3, 2, tzinfo=UTC)
OPENED = START + timedelta(days=1)
HOURS = 24 * 5


def market(breaks_after: int | None = None, hours: int = HOURS) -> Market:
    """A flat price of 100, and of 90 from so many hours after the activation on."""
    closes = np.full(hours * HOUR_BARS, 100.0)
    if breaks_after is not None:
        closes[(24 + breaks_after) * HOUR_BARS :] = 90.0
    prices = dict.fromkeys(("open", "high", "low", "close"), closes)
    return Market("ETH-USDT", Span(START, START + timedelta(hours=hours)), prices, {})


def grid(**changes: Any) -> GridConfig:
    values: dict[str, Any] = {
        "id": "eth", "symbol": "ETH-USDT", "activated_at": OPENED, "lower": 95, "upper": 105, "levels": 4, "stop": 80,
        "capital": 1000,
    }  # fmt: skip
    return GridConfig.model_validate(values | changes)


def cohort(of: Market, ended: datetime | None = None) -> Cohort:
    return cohort_of(of, [grid()], 4 * 24 * HOUR_BARS, [ended])


def alerts(hours: Sequence[float], **columns: Sequence[Any]) -> pl.DataFrame:
    """Alerts so many hours after the activation."""
    count = len(hours)
    rows: dict[str, Any] = {
        "alert_id": [f"a{place}" for place in range(count)], "grid_id": ["eth"] * count,
        "activated_at": [OPENED] * count, "symbol": ["ETH-USDT"] * count,
        "state": ["WARNING"] * count, "priority": [0] * count,
        "sent_at": [OPENED + timedelta(hours=one) for one in hours], "acknowledged_at": [None] * count,
        "responded_at": [None] * count, "seconds_from_alert": [None] * count, "within_window": [None] * count,
    }  # fmt: skip
    types = {
        "acknowledged_at": pl.Datetime("us", "UTC"), "responded_at": pl.Datetime("us", "UTC"),
        "seconds_from_alert": pl.Float64(), "within_window": pl.Boolean(),
    }  # fmt: skip
    return pl.DataFrame(rows | columns, schema_overrides=types)


def followed(hours: Sequence[float], of: Market, ended: datetime | None = None) -> list[tuple[Any, ...]]:
    return responses.outcomes(alerts(hours), cohort(of, ended), of).select("warned", "right", "lead").rows()


def test_an_alert_is_right_when_the_break_comes_within_a_day_of_it() -> None:
    # The second close below stands half an hour after the fall, 48.5 hours after the activation.
    assert followed([20, 24.25, 26, 48.25], market(48)) == [
        (True, False, None), (True, False, None), (True, True, 22.5), (True, True, 0.25),
    ]  # fmt: skip


def test_an_alert_told_after_the_break_warned_of_nothing() -> None:
    assert followed([48.5, 60], market(48)) == [(False, None, None), (False, None, None)]


def test_near_the_end_an_alert_is_left_out_whether_or_not_the_break_came() -> None:
    # The candles end 96 hours after the activation.
    assert followed([72, 72.25], market()) == [(True, False, None), (True, None, None)]
    assert followed([72, 72.25], market(90)) == [(True, True, 18.5), (True, None, None)]


def test_an_alert_is_judged_by_the_price_even_when_the_grid_was_stopped_upon_it() -> None:
    stopped = OPENED + timedelta(hours=40)
    of = market(48)
    assert followed([39], of, stopped) == [(True, True, 9.5)]
    assert not cohort(of, stopped).whole[0]
    assert cohort(of, stopped).last[0] == 40 * HOUR_BARS


def test_near_the_end_an_alarm_and_a_prediction_are_left_out_whether_or_not_the_break_came() -> None:
    for breaks_after in (48, None):
        # The operator ended it 60 hours after the activation: known is what was said in the first 36.
        life = cohort(market(breaks_after), OPENED + timedelta(hours=60))
        column = np.arange(life.close.shape[1])
        alarm = ((column == 30 * HOUR_BARS) | (column == 40 * HOUR_BARS))[None, :]
        found = alarms.judge(alarm, life)
        right = breaks_after is not None
        assert (found.true.item(), found.false.item(), found.open.item()) == (int(right), int(not right), 1)
        samples = probability.sample(np.full(life.close.shape, 0.5), life, np.zeros(1, np.int64))
        assert samples.predicted.size == 37
        assert samples.happened.sum() == (12 if right else 0)
        happened, known = probability.outcome(life, 6 * HOUR_BARS)
        assert np.flatnonzero(known[0]).tolist() == [hour * HOUR_BARS for hour in range(0, 37, 6)]
        assert happened[known].sum() == (2 if right else 0)


def test_the_figures_of_the_alerts_are_those_computed_by_hand() -> None:
    of, sent = market(48), [20.0, 26.0, 30.0, 48.5]
    answered = [None, OPENED + timedelta(hours=27), OPENED + timedelta(hours=31), None]
    given = alerts(
        sent,
        state=["WARNING", "WARNING", "WARNING", "MANDATORY_EXIT"],
        priority=[0, 0, 0, 2],
        acknowledged_at=[None, None, None, OPENED + timedelta(hours=48.5, seconds=40)],
        responded_at=answered,
        seconds_from_alert=[None, 3600.0, 4000.0, None],
        within_window=[None, True, False, None],
    )
    rows = responses.measure(given, responses.outcomes(given, cohort(of), of))
    found = {(row["signal"], row["metric"]): (row["value"], row["n"]) for row in rows.iter_rows(named=True)}
    assert set(rows["policy"]) == {responses.POLICY}
    assert found["WARNING", "alerts"] == (3.0, 3)
    assert found["WARNING", "answered_share"] == (pytest.approx(2 / 3), 3)
    assert found["WARNING", "response_p50_seconds"] == (3800.0, 2)
    assert found["WARNING", "within_window_share"] == (pytest.approx(1 / 3), 3)
    assert found["WARNING", "precision"] == (pytest.approx(2 / 3), 3)
    assert found["WARNING", "lead_p50_hours"] == (20.5, 2)
    assert found["WARNING", "acknowledged_share"] == (None, 0)
    assert found["MANDATORY_EXIT", "acknowledged_share"] == (1.0, 1)
    assert found["MANDATORY_EXIT", "acknowledge_p50_seconds"] == (40.0, 1)
    # It came with the break: it warned of nothing, and nothing is known of its precision.
    assert found["MANDATORY_EXIT", "precision"] == (None, 0)
    assert {metric for _, metric in found} <= set(words.METRICS)
    assert rows["low"].null_count() == rows.height


def test_an_interval_comes_with_blocks_enough() -> None:
    given = alerts([24.0 * 14 * block for block in range(5)], within_window=[True, False, True, False, False])
    for blocks in (4, 5):
        rows = responses.measure(given.head(blocks), responses.NOTHING).filter(
            pl.col("metric") == "within_window_share"
        )
        value, low, high = rows.select("value", "low", "high").row(0)
        assert value == 2 / blocks
        assert (low, high) == (None, None) if blocks == 4 else low < value < high


def test_alerts_of_nobody_have_no_figures() -> None:
    assert responses.measure(alerts([20.0]).clear(), responses.NOTHING).is_empty()


@pytest.mark.parametrize(
    ("newest", "end"),
    [("2026-03-01T00:00", "2026-03-01"), ("2026-02-28T23:45", "2026-02-01"), ("2026-03-31T10:00", "2026-03-01")],
)
def test_the_last_whole_month_is_looked_at(newest: str, end: str) -> None:
    days = monthly.window(datetime.fromisoformat(newest).replace(tzinfo=UTC), 30)
    assert days.end == datetime.fromisoformat(end).replace(tzinfo=UTC)
    assert days.bars * BAR == timedelta(days=30)


def test_a_grid_of_the_past_that_could_not_be_configured_now_is_named() -> None:
    row = dict.fromkeys(registry.dtypes("grid_episode")) | {
        "grid_id": "tight", "activated_at": OPENED, "symbol": "ETH-USDT", "enabled": True, "lower": 95.0,
        "upper": 105.0, "levels": 400, "level_convention": "intervals", "spacing": "geometric", "stop": 80.0,
        "capital": 1000.0, "fee_maker": 0.001, "fee_taker": 0.001, "fee_paid_in": "quote",
    }  # fmt: skip
    rows = pl.DataFrame([row, row | {"grid_id": "wide", "levels": 4}], schema=registry.dtypes("grid_episode"))
    grids, refused = monthly.real_grids(rows, Span(START, START + timedelta(days=30)))
    assert [(one.id, ended) for one, ended in grids] == [("wide", None)]
    assert refused[0].startswith("tight of 2026-03-03T00:00:00Z: ")


def rows_of(**figures: tuple[float | None, float | None, float | None]) -> pl.DataFrame:
    rows = []
    for name, (value, low, high) in figures.items():
        signal, metric = ("p_break_low_24h", name) if name in ("auc", "ece") else ("LATEST_ACCEPTABLE_EXIT", name)
        rows.append({
            "grids": "rule", "policy": "confirmed", "signal": signal, "metric": metric, "value": value, "low": low,
            "high": high, "n": 120,
        })  # fmt: skip
    return pl.DataFrame(rows, schema_overrides=dict.fromkeys(("value", "low", "high"), pl.Float64()))


def test_the_check_says_how_often_a_signal_was_right() -> None:
    good = rows_of(
        auc=(0.87, 0.83, 0.9), ece=(0.02, 0.01, 0.04), precision=(0.66, 0.58, 0.74), recall=(0.9, 0.8, 0.96),
        lead_p50_hours=(3.5, 2.0, 5.0),
    )  # fmt: skip
    passed, sentence = monthly.verdict(good, "confirmed")
    assert passed
    assert (
        "LATEST_ACCEPTABLE_EXIT was right in 66 % (58 to 74) of its 120 alarms, stood at 90 % (80 to 96) of the 120 "
        "breaks, with a median lead of 3.5 h. The break probability ranks with an AUC of 0.870 (0.830 to 0.900)"
    ) in sentence
    assert "WARNING was never raised" in sentence


@pytest.mark.parametrize(
    ("auc", "ece", "says"),
    [
        ((0.6, 0.49, 0.7), (0.02, 0.01, 0.04), "the AUC may be as low as 0.49, no better than chance"),
        ((0.45, None, None), (0.02, None, None), "the AUC may be as low as 0.45, no better than chance"),
        ((0.87, 0.83, 0.9), (0.11, 0.05, 0.2), "the calibration error is 0.11"),
    ],
)
def test_the_check_warns_of_chance_and_of_dishonesty(auc: Any, ece: Any, says: str) -> None:
    passed, sentence = monthly.verdict(rows_of(auc=auc, ece=ece), "confirmed")
    assert not passed
    assert f"not to be relied on: {says}." in sentence


def test_without_a_grid_there_is_nothing_to_warn_of() -> None:
    passed, sentence = monthly.verdict(registry.empty("signal_quality"), "confirmed")
    assert (passed, sentence.startswith("No grid could be judged yet")) == (True, True)


def test_every_metric_has_a_unit_and_a_meaning_in_the_tables_comment_and_in_the_document() -> None:
    comment = evaluation.SignalQuality.columns()["metric"].description or ""
    document = (Path(__file__).resolve().parents[2] / "docs" / "evaluation.md").read_text()
    for name, (unit, meaning) in words.METRICS.items():
        assert f" {name}, {unit}: {meaning}." in comment
        assert f"| `{name}` | {unit} | {meaning} |" in document
