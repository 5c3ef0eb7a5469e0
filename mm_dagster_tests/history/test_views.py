"""The views of a scripted week of alerts, and of some scripted bars, against numbers computed by hand."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from mm_dagster.bars import BAR, TIME
from mm_dagster.evaluation import leaving
from mm_dagster.history import views as module
from mm_dagster.history.lake import Commit, Lake
from mm_dagster.history.views import VIEWS, View
from mm_dagster.tables import registry
from mm_dagster_tests.history.samples import sample, times

COMMIT = Commit("test", "test", "")
MONDAY = datetime(2026, 6, 29, 8, tzinfo=UTC)
ALERTS = {
    # Number: day, state, seconds to the acknowledgement, whether it expired.
    1: (0, "WARNING", None, False),
    2: (0, "WARNING", 120, False),
    3: (1, "WARNING", None, False),
    4: (2, "MANDATORY_EXIT", 30, False),
    5: (3, "MANDATORY_EXIT", None, True),
    6: (4, "LATEST_ACCEPTABLE_EXIT", None, False),
}
RESPONSES = [
    # Alert, seconds after it, action, in time.
    (1, 600, "kept", True),
    (1, 900, "stopped", True),
    (2, 20_000, "reduced", False),
    (4, 90, "stopped", True),
    (6, 1_800, "stopped", True),
]


def sent_at(number: int) -> datetime:
    return MONDAY + timedelta(days=ALERTS[number][0], hours=number)


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    lake = Lake(tmp_path_factory.mktemp("views") / "history")
    notes: list[dict[str, Any]] = []
    for number, (_, state, acknowledged, expired) in ALERTS.items():
        sent = sent_at(number)
        note: dict[str, Any] = dict.fromkeys(registry.dtypes("notification")) | {
            "alert_id": f"a{number}", "grid_id": "eth", "activated_at": MONDAY, "symbol": "ETH-USDT", "as_of": sent,
            "kind": "ESCALATION", "state": state, "state_since": sent, "priority": 0, "title": "t", "message": "m",
            "status": "SENT", "attempts": 1, "created_at": sent, "sent_at": sent,
        }  # fmt: skip
        if acknowledged is not None:
            note["acknowledged_at"] = sent + timedelta(seconds=acknowledged)
        if expired:
            note["expired_at"] = sent + timedelta(seconds=3_000)
        notes.append(note)
    # Reminders, and what was never sent, are no alerts to answer.
    notes.append(notes[0] | {"alert_id": "r1", "kind": "REMINDER"})
    notes.append(notes[0] | {"alert_id": "s1", "status": "SUPPRESSED", "sent_at": None})
    answers = [
        {
            "response_id": f"{number}-{seconds}",
            "alert_id": f"a{number}",
            "grid_id": "eth",
            "at": sent_at(number) + timedelta(seconds=seconds),
            "action": action,
            "note": None,
            "seconds_from_alert": float(seconds),
            "within_window": in_time,
        }
        for number, seconds, action, in_time in RESPONSES
    ]
    lake.upsert("notification", pl.DataFrame(notes, schema=registry.dtypes("notification")), commit=COMMIT)
    lake.upsert("operator_response", pl.DataFrame(answers, schema=registry.dtypes("operator_response")), commit=COMMIT)
    return lake


def test_the_kpis_of_the_week_are_those_computed_by_hand(lake: Lake) -> None:
    found = {(row["month"], row["state"]): row for row in lake.sql("FROM response_kpis").to_dicts()}
    june = ("2026-06", "WARNING")
    mandatory, latest = ("2026-07", "MANDATORY_EXIT"), ("2026-07", "LATEST_ACCEPTABLE_EXIT")
    assert set(found) == {june, mandatory, latest}
    # The first answer to each counts: 600 and 20,000 s; the third was missed. Half-way 10,300; 95 % of the way 19,030.
    row = found[june]
    assert (row["alerts"], row["responses"], row["missed"], row["within_window"]) == (3, 2, 1, 1)
    assert (row["p50_seconds"], row["p95_seconds"]) == (10_300.0, 19_030.0)
    assert (row["acknowledged"], row["expired"], row["acted_without_acknowledging"]) == (1, 0, 1)
    row = found[mandatory]
    assert (row["alerts"], row["responses"], row["missed"], row["expired"]) == (2, 1, 1, 1)
    assert (row["p50_seconds"], row["acted_without_acknowledging"]) == (90.0, 0)
    row = found[latest]
    assert (row["responses"], row["within_window"], row["acted_without_acknowledging"]) == (1, 1, 1)


def test_each_escalation_stands_beside_its_first_answer(lake: Lake) -> None:
    rows = lake.sql("SELECT alert_id, action, within_window FROM alert_responses ORDER BY alert_id").rows()
    assert rows == [
        ("a1", "kept", True),
        ("a2", "reduced", False),
        ("a3", None, None),
        ("a4", "stopped", True),
        ("a5", None, None),
        ("a6", "stopped", True),
    ]


def test_a_lake_without_the_views_or_with_old_ones_gets_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as before:
        before.setattr(module, "VIEWS", {"response_kpis": View("Old.", {"old": "One."}, "SELECT 1 AS old")})
        assert Lake(tmp_path / "history").sql("FROM response_kpis").rows() == [(1,)]
    assert "p50_seconds" in Lake(tmp_path / "history").sql("FROM response_kpis").columns


START = datetime(2026, 6, 29, 22, 45, tzinfo=UTC)
"""An hour before midnight at the close: pnl_by_day meets it after five bars."""
MIDNIGHT = datetime(2026, 7, 1, tzinfo=UTC)
"""Between two months."""
STATES = ["NORMAL", "NORMAL", "WARNING", "WARNING", "WARNING", "NORMAL"]
"""Of the grid `eth`, bar by bar; `btc` stays NORMAL, and both have an older episode that is closed."""
OLDER = START - 10 * BAR


@pytest.fixture(scope="module")
def decided(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """Two grids over six bars, a day around midnight of two months for two markets."""
    lake = Lake(tmp_path_factory.mktemp("decided") / "history")
    bars = times(START, len(STATES))
    for table in ("exit_state", "grid_risk", "entry_assessment"):
        rows = sample(table, bars, ("eth", "btc", "next") if table != "exit_state" else ("eth", "btc"))
        rows = rows.with_columns(symbol=pl.col("grid_id").str.to_uppercase() + "-USDT")
        if "activated_at" in rows.columns:
            rows = rows.with_columns(activated_at=START)
        if table == "entry_assessment":
            rows = rows.filter(pl.col("grid_id") == "next").with_columns(advice=pl.lit("WATCH"))
        if table == "grid_risk":
            profit = (pl.col("as_of") - START).dt.total_minutes() / 15
            rows = rows.with_columns(price=100.0 + profit, grid_profit=profit, exit_pnl=0.0, unrealised_pnl=-1.0)
            rows = rows.with_columns(total_pnl=pl.col("grid_profit") - 1)
        if table == "exit_state":
            changed = pl.col("grid_id") == "eth"
            names = pl.Series(STATES).gather(list(range(len(STATES))) * 2)
            rows = rows.sort("grid_id", "as_of", descending=[True, False]).with_columns(
                state=pl.when(changed).then(names).otherwise(pl.lit("NORMAL")),
                triggers=pl.Series([_fired(name != "NORMAL") for name in STATES] * 2),
            )
            older = rows.with_columns(activated_at=OLDER, as_of=pl.col("as_of") - 10 * BAR, state=pl.lit("WARNING"))
            rows = pl.concat([rows, older])
        lake.upsert(table, rows, commit=COMMIT)
    episodes = sample("grid_episode", [START], ("eth", "btc", "next")).with_columns(activated_at=START)
    older = episodes.with_columns(activated_at=OLDER, closed_at=START, closed_by=pl.lit("reactivated"))
    open_ones = episodes.with_columns(closed_at=pl.lit(None, TIME), closed_by=pl.lit(None, pl.String))
    lake.upsert("grid_episode", pl.concat([open_ones, older]), commit=COMMIT)
    verdicts = sample("regime_verdict", times(MIDNIGHT - BAR, 4), ("ETH-USDT",)).with_columns(
        verdict=pl.Series(["TREND", "TREND", "RANGE_OK", None])
    )
    lake.upsert("regime_verdict", verdicts, commit=COMMIT)
    candles = sample("candles", times(MIDNIGHT - 2 * BAR, 5), ("ETH-USDT",)).with_columns(
        observed_at=pl.col("close_time") + pl.Series([timedelta(minutes=m) for m in (1, 15, 16, 1, 1)]),
        status=pl.Series(["TRADED", "NO_TRADE", "TRADED", "MISSING", "TRADED"]),
    )
    prices = ("open", "high", "low", "close", "volume")
    known = pl.col("status") != "MISSING"
    candles = candles.with_columns(
        observed_at=pl.when(known).then("observed_at"), **{name: pl.when(known).then(name) for name in prices}
    )
    # One is not there at all.
    lake.upsert("candles", candles.filter(pl.col("open_time") != MIDNIGHT + 2 * BAR), commit=COMMIT)
    wrong = sample("quarantine", [MIDNIGHT], ("ETH-USDT",))
    lake.upsert("quarantine", wrong, commit=COMMIT)
    # A hole that was filled late is no revision.
    changed = sample("candle_revision", times(MIDNIGHT - 2 * BAR, 2), ("ETH-USDT",)).with_columns(
        old_observed_at=pl.Series([MIDNIGHT, None], dtype=TIME)
    )
    lake.upsert("candle_revision", changed, commit=COMMIT)
    return lake


def _fired(fired: bool) -> list[dict[str, Any]]:
    numbers = {"value": 1.0, "threshold": 0.5}
    return [
        {"name": "REGIME_TREND", "family": "regime", "level": "MANDATORY_EXIT", **numbers, "fired": fired},
        {"name": "BREAK_LIKELY", "family": "measured", "level": "WARNING", **numbers, "fired": None},
    ]


@pytest.mark.slow
def test_every_view_has_the_columns_that_it_describes(decided: Lake) -> None:
    for name, view in VIEWS.items():
        assert decided.sql(f"FROM {name}").columns == list(view.columns)
        assert all(meaning.endswith(".") for meaning in (view.about, *view.columns.values()))


def test_state_now_is_the_newest_row_of_each_open_episode(decided: Lake) -> None:
    rows = decided.sql("SELECT grid_id, as_of, state, entry_advice, price FROM state_now ORDER BY grid_id").rows()
    newest = START + 5 * BAR
    assert rows == [
        ("btc", newest, "NORMAL", None, 105.0),
        ("eth", newest, "NORMAL", None, 105.0),
        ("next", newest, None, "WATCH", 105.0),
    ]


def test_a_change_of_state_says_from_what_after_how_long_and_what_had_fired(decided: Lake) -> None:
    columns = "as_of, from_state, to_state, from_hours, fired"
    rows = decided.sql(
        f"SELECT {columns} FROM state_change WHERE grid_id = 'eth' AND as_of >= '{START.isoformat()}' ORDER BY as_of"
    ).rows()
    assert rows == [
        (START, None, "NORMAL", None, []),
        (START + 2 * BAR, "NORMAL", "WARNING", 0.5, ["REGIME_TREND"]),
        (START + 5 * BAR, "WARNING", "NORMAL", 0.75, []),
    ]
    # An episode begins with a change, whatever the one before it ended with.
    assert decided.sql("SELECT count(*) FROM state_change WHERE from_state IS NULL").item() == 4


def test_time_in_state_adds_up_to_the_episode(decided: Lake) -> None:
    rows = decided.sql(
        f"SELECT state, bars, hours, share FROM time_in_state WHERE grid_id = 'eth' AND activated_at = "
        f"'{START.isoformat()}' ORDER BY state"
    ).rows()
    assert rows == [("NORMAL", 3, 0.75, 0.5), ("WARNING", 3, 0.75, 0.5)]
    assert decided.sql("SELECT sum(share) FROM time_in_state GROUP BY grid_id, activated_at").rows() == [(1.0,)] * 4


def test_the_rate_of_a_trigger_counts_the_bars_at_which_it_is_known(decided: Lake) -> None:
    rows = decided.sql(
        "SELECT month, trigger, bars, unknown, fired, fired_share FROM trigger_rate WHERE grid_id = 'eth' ORDER BY 2"
    ).rows()
    # Both episodes: 12 bars, 3 of 6 fire in each; the second trigger is never known.
    assert rows == [("2026-06", "BREAK_LIKELY", 12, 1.0, 0, None), ("2026-06", "REGIME_TREND", 12, 0.0, 6, 0.5)]


def test_regime_shares_belong_to_the_month_of_as_of_in_utc(decided: Lake) -> None:
    assert decided.sql("FROM regime_share ORDER BY month").rows() == [
        ("2026-06", "ETH-USDT", 1, 0.0, 0.0, 0.0, 1.0, 0.0, "ccxt:kucoin"),
        ("2026-07", "ETH-USDT", 3, 1 / 3, 0.0, 0.0, 1 / 3, 1 / 3, "ccxt:kucoin"),
    ]


def test_a_candle_stands_beside_the_verdict_at_its_close_and_a_missing_one_is_called_so(decided: Lake) -> None:
    rows = decided.sql("SELECT as_of, status, verdict, known_after_minutes FROM candle_verdict ORDER BY as_of").rows()
    assert rows == [
        (MIDNIGHT - BAR, "TRADED", "TREND", 1.0),
        (MIDNIGHT, "NO_TRADE", "TREND", 15.0),
        (MIDNIGHT + BAR, "TRADED", "RANGE_OK", 16.0),
        (MIDNIGHT + 2 * BAR, "MISSING", None, None),
    ]


def test_data_quality_counts_what_is_missing_late_absent_and_wrong(decided: Lake) -> None:
    columns = "month, bars, traded, no_trade, missing, absent, late, revised, quarantined"
    assert decided.sql(f"SELECT {columns} FROM data_quality ORDER BY month").rows() == [
        ("2026-06", 2, 1, 1, 0, 0, 0, 1, 0),
        ("2026-07", 2, 1, 0, 1, 0, 1, 0, 1),
    ]


def test_a_day_of_profit_ends_with_the_bar_that_closes_at_midnight(decided: Lake) -> None:
    columns = "day, price, grid_profit, total_pnl, change"
    assert decided.sql(f"SELECT {columns} FROM pnl_by_day WHERE grid_id = 'eth' ORDER BY day").rows() == [
        (date(2026, 6, 29), 105.0, 5.0, 4.0, 4.0),
    ]


def test_what_a_rehearsal_left_is_neither_continued_nor_counted_with_what_is_live(tmp_path: Path) -> None:
    lake, rehearsed = Lake(tmp_path / "history"), "simulated:1"
    bars = times(START, 4)
    grid = {"grid_id": "eth", "activated_at": START, "symbol": "ETH-USDT"}
    of_grid = [pl.lit(value).alias(name) for name, value in grid.items()]
    source = pl.Series([rehearsed] * 2 + ["ccxt:kucoin"] * 2)
    states = sample("exit_state", bars, ("eth",)).with_columns(*of_grid, source=source)
    lake.upsert("exit_state", states.with_columns(state=pl.lit("MANDATORY_EXIT"), triggers=[]), commit=COMMIT)
    candles = sample("candles", bars, ("ETH-USDT",)).with_columns(status=pl.lit("TRADED"), source=pl.lit("ccxt:kucoin"))
    verdicts = sample("regime_verdict", [bar + BAR for bar in bars], ("ETH-USDT",)).with_columns(source=source)
    lake.upsert("candles", candles, commit=COMMIT)
    lake.upsert("regime_verdict", verdicts.with_columns(verdict=pl.lit("TREND")), commit=COMMIT)
    told = sample("notification", bars, ("eth",)).with_columns(
        *of_grid,
        alert_id=pl.Series(["a", "b", "c", "d"]),
        kind=pl.lit("ESCALATION"),
        state=pl.lit("WARNING"),
        status=pl.lit("SENT"),
        sent_at=pl.Series(bars, dtype=TIME),
        source=source,
    )
    lake.upsert("notification", told, commit=COMMIT)

    changes = lake.sql("SELECT from_state, to_state, source FROM state_change ORDER BY as_of").rows()
    assert changes == [(None, "MANDATORY_EXIT", rehearsed), (None, "MANDATORY_EXIT", "ccxt:kucoin")]
    assert lake.sql("SELECT bars, share, source FROM time_in_state ORDER BY source").rows() == [
        (2, 1.0, "ccxt:kucoin"),
        (2, 1.0, rehearsed),
    ]
    assert lake.sql("SELECT verdict FROM candle_verdict ORDER BY as_of")["verdict"].to_list() == [
        None, None, "TREND", "TREND",
    ]  # fmt: skip
    assert lake.sql("SELECT alerts, kind FROM response_kpis").rows() == [(2, "ccxt"), (2, "simulated")]


def test_a_cost_that_was_said_stands_beside_what_came_when_its_time_has_passed(tmp_path: Path) -> None:
    lake, count = Lake(tmp_path / "history"), 12
    bars = times(START, count)
    # Closes of 100; from the second bar on the means of the bars are 99, 98, 97 and so on.
    means = [100.0 - number for number in range(count)]
    prices = {"open": [mean - 1 for mean in means], "high": [mean + 2 for mean in means],
              "low": [mean - 2 for mean in means], "close": [mean + 1 for mean in means]}  # fmt: skip
    candles = sample("candles", bars, ("ETH-USDT",)).with_columns(
        *(pl.Series(name, values) for name, values in prices.items()), status=pl.lit("TRADED"), source=pl.lit("here")
    )
    # The ninth bar is not known, and the tenth is not even stored.
    unknown = pl.col("open_time") == bars[8]
    known = [pl.when(~unknown).then(name).alias(name) for name in (*prices, "volume", "observed_at")]
    candles = candles.with_columns(*known, status=pl.when(unknown).then(pl.lit("MISSING")).otherwise("status"))
    lake.upsert("candles", candles.filter(pl.col("open_time") != bars[9]), commit=COMMIT)
    said = {"expected_bp": 20.0, "low_80_bp": -90.0, "high_80_bp": 130.0, "low_90_bp": -200.0, "high_90_bp": 250.0}
    rows = pl.concat(
        [
            sample("exit_cost", [bar + BAR for bar in bars], ("eth",)).with_columns(
                *(pl.lit(value).alias(name) for name, value in said.items()),
                horizon_minutes=pl.lit(minutes, pl.Int64), activated_at=pl.lit(START, TIME),
                symbol=pl.lit("ETH-USDT"), source=pl.lit("here"),
            )
            for minutes in (0, 5, 15, 60)
        ]
    )  # fmt: skip
    # Of the third bar nothing was said, and a rehearsal said the same of other candles.
    rows = rows.filter(pl.col("as_of") != bars[3])
    elsewhere = rows.with_columns(activated_at=pl.lit(OLDER, TIME), source=pl.lit("elsewhere"))
    unsaid = sample("exit_cost", [bars[3]], ("eth",)).with_columns(expected_bp=pl.lit(None, pl.Float64))
    lake.upsert("exit_cost", pl.concat([rows, elsewhere, unsaid]), commit=COMMIT)

    asked = "SELECT realised_bp, inside_80, inside_90 FROM exit_result WHERE source = '{}' AND horizon_minutes = {}"
    of_15 = lake.sql(asked.format("here", 15) + " ORDER BY as_of").rows()
    of_60 = lake.sql(asked.format("here", 60) + " ORDER BY as_of").rows()
    # The close of the first bar is 101, the mean of the second 99, and of the second to the fifth 97.5.
    assert of_15[0][0] == pytest.approx(20 + 1e4 * (1 - 99 / 101))
    assert of_60[0][0] == pytest.approx(20 + 1e4 * (1 - 97.5 / 101))
    assert of_15[0][1:] == (False, True)
    assert of_60[0][1:] == (False, False)
    # All bars but the third: those before the hole; after it one has a bar ahead, and none has an hour.
    assert [row[0] is not None for row in of_15] == [True] * 6 + [False, False, False, True, False]
    assert [row[0] is not None for row in of_60] == [True] * 3 + [False] * 8
    assert all(row == (None, None, None) for row in [*of_15, *of_60] if row[0] is None)
    for minutes in (0, 5):
        assert set(lake.sql(asked.format("here", minutes)).rows()) == {(None, None, None)}
    assert set(lake.sql(asked.format("elsewhere", 15)).rows()) == {(None, None, None)}
    arrays = {name: candles[name].fill_null(float("nan")).to_numpy() for name in prices}
    same = leaving.drift(arrays, np.array([0, 1, 3, 4]), 4)[:3]
    assert [row[0] - 20 for row in of_60[:3]] == pytest.approx(same.tolist())


def test_all_grids_now_are_the_newest_row_of_each_currency_with_its_breached_limits(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "history")
    bars = [MONDAY, MONDAY + BAR]
    risks = sample("portfolio_risk", bars, ("all",)).with_columns(
        quote=pl.lit("USDT"), capital=1000.0, equity=pl.lit(None, pl.Float64), live_equity=5000.0, es_5_24h=50.0,
        drawdown_level=pl.lit("NONE"), reason=pl.lit(None, pl.String),
    )  # fmt: skip
    risks = pl.concat([risks, risks.head(1).with_columns(quote=pl.lit("BTC"), es_5_24h=pl.lit(None, pl.Float64))])
    lake.upsert("portfolio_risk", risks, commit=COMMIT)
    states = [
        (MONDAY, "es_5_24h", "all", True), (MONDAY + BAR, "es_5_24h", "all", False),
        (MONDAY + BAR, "session", "all", True), (MONDAY + BAR, "position", "eth", True),
        (MONDAY + BAR, "position", "btc", None),
    ]  # fmt: skip
    rows = [
        dict.fromkeys(registry.dtypes("limit_state"))
        | {"quote": "USDT", "as_of": at, "limit": name, "subject": whose, "breached": is_breached}
        | {"config_hash": "", "code_version": ""}
        for at, name, whose, is_breached in states
    ]
    lake.upsert("limit_state", pl.DataFrame(rows, schema=registry.dtypes("limit_state"), orient="row"), commit=COMMIT)
    found = lake.sql("SELECT quote, as_of, equity, es_5_share, breached FROM portfolio_now ORDER BY quote").rows()
    assert found == [
        ("BTC", MONDAY, 5000.0, None, []),
        ("USDT", MONDAY + BAR, 5000.0, 0.05, ["position of eth", "session"]),
    ]


def test_the_dictionary_says_what_every_column_means(decided: Lake) -> None:
    told = {(name, column): meaning for name, column, meaning in decided.sql("FROM data_dictionary").rows()}
    assert told["exit_state", "since"] == "as_of at which the present state was entered; null: not judged yet; UTC."
    assert (
        told["pnl_by_day", None] == "For each day and episode of a grid: where it stood at the day's last stored bar."
    )
    asked = decided.sql("SELECT table_name, column_name FROM duckdb_columns() WHERE database_name = 'history'").rows()
    assert {key for key in asked if key[0] != "lake_schema"} == {key for key in told if key[1]}
