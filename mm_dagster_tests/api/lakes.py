"""A lake with a row of everything that is measured: a grid of an exchange that must be left, and a simulated one."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl
import yaml

from mm_dagster.bars import BAR, iso
from mm_dagster.history.lake import Commit
from mm_dagster.pipeline.project import Project
from mm_dagster.tables.dataframely_internals import dy
from mm_dagster.tables.registry import TABLES, dtypes
from mm_dagster_tests.history.samples import sample
from mm_dagster_tests.pages.nights import limit_row, risk_row
from mm_dagster_tests.pages.rows import AS_OF, exit_row, grid, message_row
from mm_dagster_tests.pages.rows import risk_row as grid_risk_row

REAL, SIMULATED = grid("btc-real", symbol="BTC-USDT"), grid("eth-range")
HOSTILE = 'stop "now"\n\\ {secret="hunter2"} https://user:hunter2@example.org'
"""What a person or an exchange may have written; none of it may stand in an exposition."""


def project_at(folder: Path) -> Project:
    """A project with an empty lake."""
    (folder / "configs" / "grids").mkdir(parents=True)
    venues = {"kucoin": {"kind": "ccxt", "exchange": "kucoin"}, "main": {"kind": "simulated"}}
    markets = [{"symbol": "BTC-USDT", "venue": "kucoin"}, {"symbol": "ETH-USDT", "venue": "main"}]
    write(folder, "markets", {"venues": venues, "markets": markets})
    for one in (REAL, SIMULATED, grid("waiting", enabled=False)):
        write(folder, f"grids/{one.id}", one.model_dump(mode="json", exclude_none=True))
    return anew(folder)


def write(folder: Path, name: str, values: dict[str, Any]) -> None:
    (folder / "configs" / f"{name}.yaml").write_text(yaml.safe_dump(values))


def anew(folder: Path) -> Project:
    """The project as the next scrape sees it."""
    return Project(str(folder / "configs"), str(folder / "data"), says_troubles=False)


def put(project: Project, table: str, *rows: dict[str, Any], run_id: str = "") -> None:
    """Stores rows; what they do not say is null, or where it must not be, empty."""
    needed = {name: _EMPTY[type(one)] for name, one in TABLES[table].columns().items() if not one.nullable}
    whole = [dict.fromkeys(dtypes(table)) | {**needed, **_said(row)} for row in rows]
    frame = pl.DataFrame(whole, schema=dtypes(table), orient="row")
    project.lake.upsert(table, frame, commit=Commit(run_id, table, f"{iso(AS_OF - BAR)} to {iso(AS_OF)}"))


_EMPTY = {dy.String: "", dy.Float64: 0.0, dy.Int64: 0, dy.Bool: False, dy.List: [], dy.Datetime: AS_OF}


def _said(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if value is not None}


def full(project: Project) -> None:
    """Puts something into every table that is read."""
    put(
        project, "exit_state", exit_row(REAL, "MANDATORY_EXIT"), exit_row(SIMULATED, "WARNING"),
        exit_row(SIMULATED, "NORMAL", as_of=AS_OF - BAR), run_id="r1",
    )  # fmt: skip
    put(project, "grid_risk", grid_risk_row(REAL), grid_risk_row(SIMULATED, p_break_low_24h=None), run_id="r1")
    put(
        project, "exit_cost", cost(REAL, 0, 20.0, chosen=True, live_expected_bp=32.0),
        cost(REAL, 60, 18.0, beyond_model=True), cost(SIMULATED, 0, 11.0), run_id="r1",
    )  # fmt: skip
    for symbol in ("BTC-USDT", "ETH-USDT"):
        project.lake.upsert("candles", candle(symbol), commit=Commit("r1", "candles", ""))
    put(
        project, "tick", tick(AS_OF, seconds=6.5), tick(AS_OF - BAR, seconds=None),
        tick(AS_OF - timedelta(days=2), seconds=5), run_id="r1",
    )  # fmt: skip
    put(
        project, "notification", message_row(REAL, detail=HOSTILE, message=HOSTILE),
        message_row(SIMULATED, alert_id="waits", status="PENDING", sent_at=None),
        message_row(SIMULATED, alert_id="was answered", created_at=AS_OF - timedelta(hours=9)),
    )  # fmt: skip
    put(
        project, "operator_response", answer(REAL, 540.0, alert_id="older"), answer(SIMULATED, 60.0),
        answer(SIMULATED, None, response_id="by itself"),
    )  # fmt: skip
    put(project, "alert_event", *(event(number, "SENT") for number in range(3)), event(3, "REFUSED"))
    put(project, "portfolio_risk", risk_row(), risk_row(as_of=AS_OF - BAR, var_5_24h=1.0))
    put(
        project, "limit_state", limit_row("position", 0.2, 0.15, "btc-real"), limit_row("correlation", None, 0.9),
        limit_row("portfolio", 0.3, None), limit_row("session", 9.0, 1.0, as_of=AS_OF - BAR),
    )  # fmt: skip
    put(project, "grid_bot", bot("1"), bot("2", ended_by=HOSTILE), bot("2", as_of=AS_OF - BAR, state="stopped"))


def candle(symbol: str) -> pl.DataFrame:
    known = sample("candles", [AS_OF - BAR], (symbol,)).with_columns(status=pl.lit("TRADED"), source=None)
    prices = dict.fromkeys(("open", "high", "low", "close", "volume"), pl.lit(None))
    times = {"open_time": pl.lit(AS_OF), "close_time": pl.lit(AS_OF + BAR)}
    last = known.with_columns(status=pl.lit("MISSING"), **times, **prices)
    return pl.concat([known.cast(dtypes("candles")), last.cast(dtypes("candles"))])  # type: ignore[arg-type]


def cost(one: Any, minutes: int, bp: float, **changes: Any) -> dict[str, Any]:
    return {
        "grid_id": one.id, "activated_at": one.activated_at, "as_of": AS_OF, "horizon_minutes": minutes,
        "symbol": one.symbol, "amount": 5.0, "notional": 500.0, "expected_bp": bp, "chosen": False,
        "beyond_model": False, **changes,
    }  # fmt: skip


def tick(as_of: Any, seconds: float | None) -> dict[str, Any]:
    started = as_of + timedelta(minutes=1)
    finished = None if seconds is None else started + timedelta(seconds=seconds)
    return {
        "as_of": as_of, "started_at": started, "finished_at": finished, "symbols_ok": ["BTC-USDT", "ETH-USDT"],
        "symbols_failed": [], "reason": HOSTILE,
    }  # fmt: skip


def answer(one: Any, seconds: float | None, **changes: Any) -> dict[str, Any]:
    return {
        "response_id": f"of {one.id}", "alert_id": "was answered" if seconds else None, "grid_id": one.id,
        "activated_at": one.activated_at, "at": AS_OF - timedelta(hours=8), "action": "kept", "note": HOSTILE,
        "seconds_from_alert": seconds, **changes,
    }  # fmt: skip


def event(number: int, what: str) -> dict[str, Any]:
    return {
        "event_id": f"{what} {number}", "alert_id": "a", "at": AS_OF, "event": what, "channel": "pushover",
        "detail": HOSTILE,
    }  # fmt: skip


def bot(number: str, **changes: Any) -> dict[str, Any]:
    return {
        "venue": "kucoin", "bot_id": number, "as_of": AS_OF, "observed_at": AS_OF + timedelta(minutes=1),
        "symbol": "BTC-USDT", "state": "running", "lower": 90.0, "upper": 110.0, "levels": 10, "capital": 1000.0,
        "created_at": AS_OF, "fresh_fills": [], "fills_whole": True, **changes,
    }  # fmt: skip
