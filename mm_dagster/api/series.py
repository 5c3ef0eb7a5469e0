"""Every series that Prometheus scrapes: its name, its labels, and what it means. docs/metrics.md shows this table.

Names end in their unit: seconds, bytes, `ratio` (0 to 1), `quote` (money, in the quote currency that the label says).
No label holds what a person or an exchange wrote: grids, markets, venues and limits are names of the configuration, the
rest are words of `tables/words.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["gauge", "counter", "histogram"]

GRID = ("grid_id", "symbol", "quote", "source_kind")
MARKET = ("symbol", "venue", "source_kind")
BOOK = ("exchange", "symbol")
PORTFOLIO = ("quote", "source_kind")
LIMIT = (*PORTFOLIO, "limit", "subject")


@dataclass(frozen=True)
class Series:
    """One series.

    Attributes:
        name: of its family; a counter's samples end in `_total`.
        about: what it means, in a sentence.
        labels: in order.
        kind: as Prometheus has it.
        buckets: of a histogram, upper bounds.
    """

    name: str
    about: str
    labels: tuple[str, ...] = ()
    kind: Kind = "gauge"
    buckets: tuple[float, ...] = ()

    @property
    def exported(self) -> str:
        """The name of its samples; of a histogram without `_bucket`, `_sum` and `_count`."""
        return f"{self.name}_total" if self.kind == "counter" else self.name


UP = Series("mm_up", "1: configuration and lake could be read; 0: not, and all that is read from them is absent.")
BUILD = Series("mm_build_info", "Always 1; the label says which version runs.", ("version",))
API = Series(
    "mm_api_request_duration_seconds",
    "How long the API took to answer, by route, method and status.",
    ("route", "method", "status"),
    "histogram",
    (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)
RESPONSES = Series(
    "mm_response_seconds",
    "From an alert to the operator's answer to it.",
    ("source_kind",),
    "histogram",
    (60.0, 300.0, 900.0, 1_800.0, 3_600.0, 14_400.0, 86_400.0),
)

OF_LAKE = (
    # the program
    Series("mm_collect_seconds", "How long it took to read all this."),
    Series("mm_config_valid", "0: the configuration in the folder is invalid, and the last valid one stays in force."),
    Series("mm_config_vanished", "Files and grids that vanished from the folder and stay in force."),
    # grids that run
    Series("mm_grid_state", "1 for the state that the grid is in, 0 for the others.", (*GRID, "state")),
    Series("mm_grid_stale", "1: its newest decision is so old that nobody watches; its state is a former one.", GRID),
    Series("mm_grid_decision_age_seconds", "Since the bar of its newest decision closed.", GRID),
    Series("mm_grid_state_age_seconds", "Since its state was entered.", GRID),
    Series("mm_grid_unanswered_seconds", "Since its last alert, if nobody answered or acknowledged it; else 0.", GRID),
    Series("mm_grid_p_break_low_24h_ratio", "Probability of two closes below the grid within 24 hours.", GRID),
    Series("mm_grid_capital_quote", "Its capital.", GRID),
    Series("mm_grid_total_pnl_quote", "Profit since its activation: the sum of the next three.", GRID),
    Series("mm_grid_profit_quote", "Of that, realised by the grid's own orders, fees taken off.", GRID),
    Series("mm_grid_exit_pnl_quote", "Of that, realised by selling everything at the stop.", GRID),
    Series("mm_grid_unrealised_pnl_quote", "Of that, not realised: what it holds, sold now, less what it paid.", GRID),
    Series("mm_grid_at_risk_quote", "What is lost from here to the stop.", GRID),
    Series(
        "mm_grid_exit_cost_ratio",
        "What selling all that it holds would cost over so many minutes, of its value; of the order book where one was "
        "read, else modelled.",
        (*GRID, "minutes"),
    ),
    Series("mm_grid_exit_cost_quote", "The same in money.", (*GRID, "minutes")),
    Series("mm_grid_exit_plan_seconds", "Over how long the plan to leave sells: the least cost, risk included.", GRID),
    # markets
    Series("mm_candle_age_seconds", "Since the newest known bar of the market closed.", MARKET),
    # ticks
    Series("mm_tick_age_seconds", "Since a tick last finished."),
    Series("mm_tick_duration_seconds", "How long that tick took."),
    Series(
        "mm_tick_stage_duration_seconds",
        "Of that, by room of the flow: from the commit before to its own. A room that changed nothing is absent.",
        ("stage",),
    ),
    Series("mm_tick_markets", "Markets by whether the newest tick knew their bar.", ("known",)),
    Series("mm_ticks_of_day", "Ticks of the last 24 hours by whether they finished; 96 are due.", ("finished",)),
    # messages
    Series("mm_alerts", "Alerts in the ledger.", ("kind", "status", "source_kind")),
    Series("mm_alert_pending_seconds", "Age of the oldest alert that waits to be sent; 0: none does."),
    Series("mm_alert_events", "What became of alerts, step by step.", ("event", "channel"), "counter"),
    RESPONSES,
    # all grids together
    Series("mm_portfolio_grids", "Running grids in this quote currency.", PORTFOLIO),
    Series("mm_portfolio_capital_quote", "Their capital.", PORTFOLIO),
    Series("mm_portfolio_total_pnl_quote", "Their profit since their activation.", PORTFOLIO),
    Series("mm_portfolio_equity_quote", "The equity, as portfolio.yaml or the account says it.", PORTFOLIO),
    Series(
        "mm_portfolio_var_24h_quote", "The loss within 24 hours that this share of the nights exceeds.",
        (*PORTFOLIO, "tail"),
    ),
    Series("mm_portfolio_es_24h_quote", "Mean loss of the worst nights, this share of all.", (*PORTFOLIO, "tail")),
    Series("mm_portfolio_p_any_break_24h_ratio", "Share of the nights in which a grid breaks.", PORTFOLIO),
    Series("mm_portfolio_drawdown_quote", "How far the profit is below its best of the window.", PORTFOLIO),
    Series("mm_limit_breached", "1: this limit of portfolio.yaml is breached; absent: it cannot be told.", LIMIT),
    Series("mm_limit_value", "What the limit is about, a share or a count.", LIMIT),
    Series("mm_limit_threshold", "The limit.", LIMIT),
    # bots at exchanges
    Series("mm_bots", "Bots that the exchange told of last, by what they do.", ("venue", "state", "source_kind")),
    Series("mm_bots_age_seconds", "Since the exchange told of them.", ("venue", "source_kind")),
    # leaving by the program
    Series("mm_exit_plans", "Plans to leave a grid, by how real they are and where they stand.", ("mode", "state")),
    # order books, while books.yaml says `record: true`
    Series("mm_recorder_age_seconds", "Since the recorder last said how it stands, which it does each second."),
    Series("mm_book_in_sync", "1: the recorder's book is the exchange's.", BOOK),
    Series("mm_book_message_age_seconds", "Since the last message of it was received.", BOOK),
    Series("mm_book_messages", "Messages that were kept since the recorder began.", BOOK, "counter"),
    Series("mm_book_messages_lost", "Messages that were received and could not be kept.", BOOK, "counter"),
    Series("mm_book_gaps", "Spans since then in which the book was not known.", BOOK, "counter"),
    Series("mm_book_reconnects", "Connections since then, without the first.", BOOK, "counter"),
    Series(
        "mm_book_clock_offset_seconds",
        "The exchange's time of an event less that of its receipt, median of the last minute.",
        BOOK,
    ),
    # where it is kept
    Series("mm_lake_bytes", "Bytes of the lake's folder."),
    Series("mm_lake_files", "Files in it."),
    Series("mm_lake_snapshots", "Commits that are still kept, and can be asked about."),
    Series("mm_lake_commits", "Commits since the lake was begun.", kind="counter"),
    Series("mm_data_free_bytes", "Free on the disk of the data folder."),
    Series("mm_mirror_commits_waiting", "Commits of snapshots that wait to be pushed; absent without a remote."),
)  # fmt: skip
"""What is read from the lake and the configuration, in the order in which it is shown."""

ALL = (UP, BUILD, *OF_LAKE, API)
