"""Ten questions that people ask of the history, in SQL: the document shows, the tests run and the benchmark times them.

They name markets and grids of the demo, and times of its last days.
"""

from __future__ import annotations

from dataclasses import dataclass
from inspect import cleandoc


@dataclass(frozen=True)
class Question:
    """A question, and the query that answers it.

    Attributes:
        asked: in a person's words.
        answer: how to read the answer, in a sentence.
        query: in DuckDB's SQL.
    """

    asked: str
    answer: str
    query: str


def _question(asked: str, answer: str, query: str) -> Question:
    return Question(asked, answer, cleandoc(query))


QUESTIONS = (
    _question(
        "What is true now?",
        "One row for each grid; one that does not run has entry advice in place of a state.",
        """
        SELECT
            grid_id, as_of, price, verdict, coalesce(state, entry_advice) AS state, since, total_pnl AS pnl
        FROM state_now
        ORDER BY grid_id
        """,
    ),
    _question(
        "When did this grid change its state, and which triggers had fired?",
        "From top to bottom the life of the grid; from_hours is how long the state before had lasted.",
        """
        SELECT as_of, from_state, to_state, from_hours, fired
        FROM state_change
        WHERE grid_id = 'sol-range' AND activated_at >= '2026-05-01T00:00:00Z'
        ORDER BY as_of
        """,
    ),
    _question(
        "How much of its life was each grid in which state?",
        "The shares of an episode add up to 1.",
        """
        SELECT grid_id, activated_at, state, hours, round(share, 3) AS share
        FROM time_in_state
        WHERE activated_at >= '2026-06-01T00:00:00Z'
        ORDER BY grid_id, activated_at, hours DESC
        """,
    ),
    _question(
        "Which triggers fired how often?",
        "Fired is not decided: under the default policy most of them count only while BREAK_LIKELY confirms them.",
        """
        SELECT month, trigger, family, bars, unknown, fired, round(fired_share, 3) AS fired_share
        FROM trigger_rate
        WHERE grid_id = 'eth-range' AND month = '2026-06'
        ORDER BY fired DESC, trigger
        """,
    ),
    _question(
        "In which regime was the market, month by month?",
        "Shares of the month's quarter hours, in percent.",
        """
        FROM regime_share
        WHERE symbol = 'ETH-USDT' AND month >= '2026-03'
        ORDER BY month
        """,
    ),
    _question(
        "What did the price do in a day, and what was it called?",
        "Hourly bars of one market, each with the verdict at its close; a MISSING candle would show as fewer known.",
        """
        SELECT
            time_bucket(INTERVAL 1 HOUR, as_of - INTERVAL 15 MINUTE) AS hour,
            first(open ORDER BY as_of) AS open, max(high) AS high, min(low) AS low, last(close ORDER BY as_of) AS close,
            last(verdict ORDER BY as_of) AS verdict, count(*) FILTER (WHERE status <> 'MISSING') AS known
        FROM candle_verdict
        WHERE symbol = 'SOL-USDT' AND as_of > '2026-06-29T06:00:00Z' AND as_of <= '2026-06-29T17:00:00Z'
        GROUP BY hour
        ORDER BY hour
        """,
    ),
    _question(
        "Was it right to warn? What the price did in the 24 hours after each change of state.",
        "Mean and worst change of the close, percent; a change of the last 24 hours counts as a change only.",
        """
        SELECT
            s.to_state, count(*) AS changes, avg(after.close / at_change.close - 1) * 100 AS change_24h_percent,
            min(after.close / at_change.close - 1) * 100 AS worst_24h_percent
        FROM state_change s
        JOIN candles at_change ON at_change.symbol = s.symbol AND at_change.close_time = s.as_of
        LEFT JOIN candles after
            ON after.symbol = s.symbol AND after.close_time = s.as_of + INTERVAL 24 HOURS
            AND after.close_time >= '2026-05-01T00:00:00Z'
        WHERE s.symbol = 'ETH-USDT' AND s.activated_at >= '2026-05-01T00:00:00Z' AND s.as_of >= '2026-05-01T00:00:00Z'
        GROUP BY s.to_state
        ORDER BY s.to_state
        """,
    ),
    _question(
        "What did the grid earn, day by day?",
        "Realised and unrealised profit add up to the total; change is what the day brought.",
        """
        SELECT
            day, price, grid_profit, unrealised_pnl, total_pnl, change, fills, source
        FROM pnl_by_day
        WHERE grid_id = 'eth-range' AND activated_at >= '2026-06-01T00:00:00Z'
        ORDER BY day
        """,
    ),
    _question(
        "Which alerts were sent, and what did the operator do?",
        "One row for each escalation; action is null until `mm respond` notes what was done.",
        """
        SELECT sent_at, grid_id, state, acknowledged_at, action, seconds_from_alert
        FROM alert_responses
        WHERE sent_at >= '2026-06-29T00:00:00Z'
        ORDER BY sent_at, grid_id
        """,
    ),
    _question(
        "How good is the data?",
        "Missing and absent candles are what the decision could not know; in a backfill every candle comes late.",
        """
        FROM data_quality
        WHERE month = '2026-06'
        ORDER BY symbol
        """,
    ),
)
