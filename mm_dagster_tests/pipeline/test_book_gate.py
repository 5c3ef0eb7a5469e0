"""Which markets have enough recorded days for the gate, and what is said of those that have not."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import yaml

from mm_dagster.bars import BAR, Span
from mm_dagster.pipeline.book_features import write
from mm_dagster.pipeline.book_gate import judge_recorded
from mm_dagster.pipeline.project import Project

START = datetime(2026, 1, 1, tzinfo=UTC)
DAYS = Span(START, START + timedelta(days=160))


def project_with(folder: Path, *, record: bool, days: int) -> Project:
    (folder / "configuration").mkdir()
    markets = {
        "venues": {"main": {"kind": "ccxt", "exchange": "kucoin"}},
        "markets": [{"symbol": symbol, "venue": "main"} for symbol in ("ETH-USDT", "SOL-USDT", "ADA-USDT")],
    }
    feeds = [{"exchange": "kucoin", "markets": ["ETH-USDT", "SOL-USDT"]}]
    (folder / "configuration" / "markets.yaml").write_text(yaml.safe_dump(markets))
    (folder / "configuration" / "books.yaml").write_text(yaml.safe_dump({"record": record, "feeds": feeds}))
    made = Project(str(folder / "configuration"), str(folder / "data"))
    rows = [
        {
            "exchange": exchange, "symbol": "ETH-USDT", "as_of": START + (number + 1) * BAR, "spread_bp": 1.0,
            "config_hash": "a", "code_version": "1",
        }
        for exchange, count in (("kucoin", days), ("binance", 3))
        for number in range(96 * count)
    ]  # fmt: skip
    write(made, "given", rows)
    return made


def test_each_recorded_market_is_told_how_many_days_are_missing(tmp_path: Path) -> None:
    project = project_with(tmp_path, record=True, days=12)
    found, said = judge_recorded(project, DAYS, project.config.symbols)
    assert found is None
    assert said == [
        "ETH-USDT: recorded books are not asked: 128 days of 140 are missing",
        "SOL-USDT: recorded books are not asked: 140 days of 140 are missing",
    ]


def test_where_nothing_is_recorded_nothing_is_said(tmp_path: Path) -> None:
    project = project_with(tmp_path, record=False, days=0)
    assert judge_recorded(project, DAYS, ["SOL-USDT", "ADA-USDT"]) == (None, [])
