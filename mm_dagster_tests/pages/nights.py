"""All grids at a bar, made by hand: no lake, no clock."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from mm_dagster.pipeline.together import Together
from mm_dagster.tables.registry import dtypes
from mm_dagster_tests.pages.rows import AS_OF


def risk_row(**changes: Any) -> dict[str, Any]:
    """A row of `portfolio_risk` of six grids on five markets whose figures can be told from each other."""
    return dict.fromkeys(dtypes("portfolio_risk")) | {
        "quote": "USDT", "as_of": AS_OF, "grids": 6, "markets": 5, "capital": 10_000.0, "session_capital": 0.0,
        "equity": 20_000.0, "liquidation_value": 9876.54, "exposure": 5432.1, "total_pnl": -123.46,
        "var_5_24h": 1240.0, "es_5_24h": 1610.25, "var_1_24h": 1890.75, "es_1_24h": 2001.5, "sum_of_var_5": 1300.0,
        "diversification": 0.9538, "counts_as": 1.0992, "all_stops": 2345.67, "p_any_break_24h": 0.34,
        "p_half_break_24h": 0.12, "expected_breaks_24h": 0.8, "drawdown": 321.5, "drawdown_share": 0.016075,
        "drawdown_level": "NONE", "ruin": 0.0084, "highest_correlation": 0.874, "most_correlated": "ETH-USDT/SOL-USDT",
        "paths": 356, **changes,
    }  # fmt: skip


def share_row(name: str, contribution: float = 805.125, **changes: Any) -> dict[str, Any]:
    """A row of `portfolio_contribution`."""
    return dict.fromkeys(dtypes("portfolio_contribution")) | {
        "quote": "USDT", "as_of": AS_OF, "grid_id": name, "activated_at": AS_OF - timedelta(days=3),
        "symbol": "ETH-USDT", "capital": 2000.0, "es_5_contribution": contribution,
        "es_5_share": contribution / 1610.25, "stopping_takes_off": 0.9 * contribution,
        "var_5_alone": 1.1 * contribution, "p_break_24h": 0.2, "weight": 0.2, "weight_equal_risk": 0.19,
        "weight_minimum_variance": 0.11, **changes,
    }  # fmt: skip


def limit_row(limit: str, value: float | None, threshold: float | None, subject: str = "all", **changes: Any) -> Any:
    """A row of `limit_state`, breached since three hours where the value is above the threshold."""
    known = value is not None and threshold is not None
    breached = value > threshold if value is not None and threshold is not None else None
    return dict.fromkeys(dtypes("limit_state")) | {
        "quote": "USDT", "as_of": AS_OF, "limit": limit, "subject": subject, "value": value, "threshold": threshold,
        "breached": breached, "since": AS_OF - timedelta(hours=3) if breached else None,
        "room": threshold - value if known else None, **changes,
    }  # fmt: skip


def six(*limits: Any, **changes: Any) -> Together:
    """Six grids, of which the first has half of the bad night."""
    parts = [805.125, 402.5625, 201.28125, 100.640625, 60.384375, 40.25625]
    shares = [share_row(f"grid-{number}", part) for number, part in enumerate(parts, start=1)]
    return Together(risk_row(**changes), tuple(shares), tuple(limits))


def unknown(**changes: Any) -> Together:
    """Six grids of which one market's past is not known."""
    figures = [name for name, value in risk_row().items() if isinstance(value, float) and "capital" not in name]
    lacking = dict.fromkeys([*figures, "most_correlated", "drawdown_level", "paths"]) | {"equity": 20_000.0}
    reason = "ETH-USDT: its last 90 days are not known without a hole of a day."
    return Together(risk_row(**(lacking | {"reason": reason} | changes)), (), ())
