"""Questions that people ask of the history, as views of the lake: any DuckDB client sees them beside the tables.

A view's text says what one row is, and what each column means, since DuckLake keeps comments on the columns of tables
only. Months are those of UTC, and are found by arithmetic: a function of time zones costs more than the rest of a
query.
"""

from __future__ import annotations

from dataclasses import dataclass

from mm_dagster.tables import registry, words


@dataclass(frozen=True)
class View:
    """A question with a name.

    Attributes:
        about: what one row is.
        columns: what each column means, with its unit, in order.
        query: the SELECT.
    """

    about: str
    columns: dict[str, str]
    query: str

    @property
    def comment(self) -> str:
        """What stands in the catalogue: what a row is, then the columns, one a line."""
        return "\n".join([self.about, *(f"{name}: {meaning}" for name, meaning in self.columns.items())])


def _month(column: str) -> str:
    """The first day of the month, UTC, of a time with a zone."""
    return f"date_trunc('month', make_timestamp(epoch_us({column})))"


_WORTH = (
    *("precision", "recall", "false_alarms_per_grid_week", "lead_p50_hours", "mean_equity", "shortfall_5pct"),
    *("gain_vs_hold", "hours_held"),
)
"""Metrics that stand side by side in `signal_worth`."""


def _worth() -> dict[str, str]:
    meanings = {name: f"{words.METRICS[name][0]}: {words.METRICS[name][1]}." for name in _WORTH}
    known = {"precision_low": "Lower end of its 95 % interval.", "precision_high": "Upper end."}
    return {"precision": meanings.pop("precision"), **known, **meanings}


_GRID = {"grid_id": "Grid.", "activated_at": "Episode; UTC.", "symbol": "Market."}
_MONTH = {"month": "Month of UTC, like 2026-06."}
_SOURCE = {"source": "Where the candles come from; what is known of one source is never counted with another's."}

VIEWS = {
    "state_now": View(
        "What is true now: the newest row of each grid whose episode is open.",
        {
            **_GRID,
            "as_of": "Closing time of the newest bar used; UTC.",
            "state": "Exit state; null for a grid that does not run.",
            "since": "as_of at which the state was entered; UTC.",
            "entry_advice": "WAIT, WATCH or ENTER; null for a grid that runs.",
            "verdict": "What the market is doing.",
            "confidence": "Probability of the verdict minus the best other.",
            "price": "Close, quote currency.",
            "position_health": "Where the price is: below, in or above the grid.",
            "stop_loss_risk": "How near the stop is.",
            "risk_level": "The worst of position and stop.",
            "distance_stop_percent": "(price - stop) / price, percent.",
            "p_break_low_24h": "Probability of two closes below the grid within 24 hours.",
            "total_pnl": "Realised and unrealised since activation, quote currency.",
            "capital_at_risk": "What is lost from here to the stop, quote currency.",
            "recommended_window_minutes": "Minutes to act; null in NORMAL, 0: now.",
            "advice": "What to do, in one sentence.",
        },
        # Found first and joined to each table, so that of each only the newest rows are read.
        """
        WITH in_force AS MATERIALIZED (
            SELECT symbol, max_by(source, open_time) AS candle_source FROM candles GROUP BY symbol
        ),
        newest AS MATERIALIZED (
            SELECT r.grid_id, r.activated_at, r.symbol, max(r.as_of) AS as_of
            FROM grid_risk r
            JOIN (
                SELECT grid_id, activated_at, source FROM grid_episode WHERE closed_at IS NULL
            ) p USING (grid_id, activated_at)
            LEFT JOIN in_force f ON f.symbol = r.symbol
            WHERE p.source IS NOT DISTINCT FROM r.candle_source
              AND coalesce(r.candle_source, '') = coalesce(f.candle_source, r.candle_source, '')
            GROUP BY ALL
        ),
        states AS (SELECT e.* FROM newest JOIN exit_state e USING (grid_id, activated_at, as_of)),
        entries AS (SELECT a.* FROM newest JOIN entry_assessment a USING (grid_id, as_of)),
        verdicts AS (SELECT DISTINCT v.* FROM newest JOIN regime_verdict v USING (symbol, as_of))
        SELECT
            r.grid_id, r.activated_at, r.symbol, r.as_of, e.state, e.since, a.advice AS entry_advice,
            v.verdict, v.confidence, r.price, r.position_health, r.stop_loss_risk, r.risk_level,
            r.distance_stop_percent, r.p_break_low_24h, r.total_pnl, r.capital_at_risk,
            e.recommended_window_minutes, e.advice
        FROM newest
        JOIN grid_risk r USING (grid_id, activated_at, as_of)
        LEFT JOIN states e USING (grid_id, activated_at, as_of)
        LEFT JOIN entries a ON a.grid_id = r.grid_id AND e.grid_id IS NULL
        LEFT JOIN verdicts v ON v.symbol = r.symbol AND v.as_of = r.as_of
        """,
    ),
    "state_change": View(
        "One row for each change of a grid's exit state; the first row of an episode has no state before it.",
        {
            **_GRID,
            "as_of": "The bar at whose close the state changed; UTC.",
            "from_state": "State before; null at the start of an episode.",
            "to_state": "State from here on.",
            "from_hours": "How long the state before had lasted, hours.",
            "fired": "Names of the triggers that fired at as_of, whether they decide or not.",
            "recommended_window_minutes": "Minutes to act; null in NORMAL, 0: now.",
            "advice": "What to do, in one sentence.",
            **_SOURCE,
        },
        """
        SELECT
            c.grid_id, c.activated_at, c.symbol, e.as_of, c.from_state, c.to_state, c.from_hours,
            [t.name FOR t IN e.triggers IF t.fired] AS fired, e.recommended_window_minutes, e.advice, c.source
        FROM (
            SELECT
                *, (epoch(as_of) - lag(epoch(as_of)) OVER one) / 3600 AS from_hours
            FROM (
                SELECT
                    grid_id, activated_at, symbol, source, as_of, state AS to_state, lag(state) OVER one AS from_state
                FROM exit_state
                WINDOW one AS (PARTITION BY grid_id, activated_at, symbol, source ORDER BY as_of)
                QUALIFY from_state IS DISTINCT FROM to_state
            )
            WINDOW one AS (PARTITION BY grid_id, activated_at, symbol, source ORDER BY as_of)
        ) c
        JOIN exit_state e ON e.grid_id = c.grid_id AND e.activated_at = c.activated_at AND e.as_of = c.as_of
        """,
    ),
    "time_in_state": View(
        "For each episode of a grid and each exit state: how long it was in it.",
        {
            **_GRID,
            "state": "Exit state; null: not judged yet.",
            "bars": "Quarter hours in it.",
            "hours": "The same in hours.",
            "share": "Share of the episode's stored quarter hours.",
            **_SOURCE,
        },
        """
        SELECT
            grid_id, activated_at, symbol, state, bars, bars / 4 AS hours,
            bars / sum(bars) OVER (PARTITION BY grid_id, activated_at, symbol, source) AS share, source
        FROM (SELECT grid_id, activated_at, symbol, source, state, count(*) AS bars FROM exit_state GROUP BY ALL)
        """,
    ),
    "trigger_rate": View(
        "By month, grid and trigger: how often it fired, whether it decided or not.",
        {
            **_MONTH,
            "grid_id": "Grid.",
            "symbol": "Market.",
            "trigger": "Name of the trigger.",
            "family": "What it looks at.",
            "bars": "Quarter hours at which it was evaluated.",
            "unknown": "Of these, share at which it could not be known.",
            "fired": "Quarter hours at which it fired.",
            "fired_share": "fired over the quarter hours at which it was known.",
            **_SOURCE,
        },
        f"""
        SELECT
            strftime(month, '%Y-%m') AS month, grid_id, symbol, t.name AS trigger, t.family AS family,
            sum(n)::BIGINT AS bars,
            coalesce(sum(n) FILTER (WHERE t.fired IS NULL), 0) / sum(n) AS unknown,
            coalesce(sum(n) FILTER (WHERE t.fired), 0)::BIGINT AS fired,
            coalesce(sum(n) FILTER (WHERE t.fired), 0) / sum(n) FILTER (WHERE t.fired IS NOT NULL) AS fired_share,
            source
        FROM (
            SELECT month, grid_id, symbol, source, unnest(shown) AS t, n
            FROM (
                SELECT
                    {_month("as_of")} AS month, grid_id, symbol, source,
                    [{{name: t.name, family: t.family, fired: t.fired}} FOR t IN triggers] AS shown, count(*) AS n
                FROM exit_state
                GROUP BY ALL
            )
        )
        GROUP BY ALL
        """,
    ),
    "regime_share": View(
        "By month and market: which share of the quarter hours each verdict had. The shares add up to 1.",
        {
            **_MONTH,
            "symbol": "Market.",
            "bars": "Quarter hours with a row.",
            "range_ok": "Share of RANGE_OK.",
            "range_weak": "Share of RANGE_WEAK.",
            "transition": "Share of TRANSITION.",
            "trend": "Share of TREND.",
            "unknown": "Share without a verdict.",
            **_SOURCE,
        },
        f"""
        SELECT
            strftime(month, '%Y-%m') AS month, symbol, bars,
            range_ok / bars AS range_ok, range_weak / bars AS range_weak, transition / bars AS transition,
            trend / bars AS trend, unknown / bars AS unknown, source
        FROM (
            SELECT
                {_month("as_of")} AS month, symbol, source, count(*) AS bars,
                count(*) FILTER (WHERE verdict = 'RANGE_OK') AS range_ok,
                count(*) FILTER (WHERE verdict = 'RANGE_WEAK') AS range_weak,
                count(*) FILTER (WHERE verdict = 'TRANSITION') AS transition,
                count(*) FILTER (WHERE verdict = 'TREND') AS trend,
                count(*) FILTER (WHERE verdict IS NULL) AS unknown
            FROM regime_verdict
            GROUP BY ALL
        )
        """,
    ),
    "candle_verdict": View(
        "Each candle with the verdict that was reached at its close; where nothing is known, status says MISSING.",
        {
            "symbol": "Market.",
            "as_of": "When the bar closed; UTC.",
            "open": "First price, quote currency.",
            "high": "Highest price, quote currency.",
            "low": "Lowest price, quote currency.",
            "close": "Last price, quote currency.",
            "volume": "Traded volume, base currency.",
            "status": "TRADED, NO_TRADE, or MISSING: then the prices are null.",
            "verdict": "What the market is doing; null when any input is.",
            "confidence": "Probability of the verdict minus the best other.",
            "transition_probability": "Probability of TRANSITION or TREND.",
            "known_after_minutes": "From the close to the venue's answer, minutes; null: it did not answer.",
        },
        """
        SELECT
            c.symbol, c.close_time AS as_of, c.open, c.high, c.low, c.close, c.volume, c.status,
            v.verdict, v.confidence, v.transition_probability,
            (epoch_us(c.observed_at) - epoch_us(c.close_time)) / 6e7 AS known_after_minutes
        FROM candles c
        LEFT JOIN regime_verdict v
            ON v.symbol = c.symbol AND v.as_of = c.close_time AND v.source IS NOT DISTINCT FROM c.source
        """,
    ),
    "data_quality": View(
        "By month and market: what is known of the candles, and what is not.",
        {
            **_MONTH,
            "symbol": "Market.",
            "bars": "Candles that are stored.",
            "traded": "The venue sent them.",
            "no_trade": "The venue answered and had none.",
            "missing": "Not known.",
            "absent": "Not even stored, between the month's first and last.",
            "late": "Known more than 15 minutes after they closed; what a backfill fetched is late, too.",
            "revised": "Changed by the venue after it had sent them; see candle_revision.",
            "quarantined": "Rows that the venue sent and that cannot be true.",
        },
        f"""
        SELECT
            strftime(month, '%Y-%m') AS month, symbol, bars, traded, no_trade, missing,
            (epoch(newest) - epoch(oldest))::BIGINT // 900 + 1 - bars AS absent, late,
            coalesce(revised, 0) AS revised, coalesce(quarantined, 0) AS quarantined
        FROM (
            SELECT
                {_month("open_time")} AS month, symbol, count(*) AS bars,
                min(open_time) AS oldest, max(open_time) AS newest,
                count(*) FILTER (WHERE status = 'TRADED') AS traded,
                count(*) FILTER (WHERE status = 'NO_TRADE') AS no_trade,
                count(*) FILTER (WHERE status = 'MISSING') AS missing,
                count(*) FILTER (WHERE epoch_us(observed_at) - epoch_us(close_time) > 900_000_000) AS late
            FROM candles
            GROUP BY ALL
        )
        LEFT JOIN (
            SELECT {_month("open_time")} AS month, symbol, count(*) AS revised
            FROM candle_revision
            WHERE old_observed_at IS NOT NULL
            GROUP BY ALL
        ) USING (month, symbol)
        LEFT JOIN (
            SELECT {_month("open_time")} AS month, symbol, count(*) AS quarantined FROM quarantine GROUP BY ALL
        ) USING (month, symbol)
        """,
    ),
    "pnl_by_day": View(
        "For each day and episode of a grid: where it stood at the day's last stored bar.",
        {
            "day": "Day of UTC on which the bar closed; midnight belongs to the day before it.",
            **_GRID,
            "price": "Close, quote currency.",
            "grid_profit": "Realised by the grid's own orders since activation, quote currency.",
            "exit_pnl": "Realised by selling everything at the stop, quote currency.",
            "unrealised_pnl": "Of the inventory, quote currency.",
            "total_pnl": "The three added up, quote currency.",
            "change": "Of total_pnl against the day before; on the first day total_pnl itself, quote currency.",
            "fills": "Filled orders since activation.",
            "source": "MODELLED from candles, or read from the ACCOUNT.",
            "candle_source": _SOURCE["source"],
        },
        """
        SELECT
            day, grid_id, activated_at, symbol, at_close.price, at_close.grid_profit, at_close.exit_pnl,
            at_close.unrealised_pnl, at_close.total_pnl, at_close.total_pnl - lag(at_close.total_pnl, 1, 0)
                OVER (PARTITION BY grid_id, activated_at, symbol, candle_source ORDER BY day) AS change,
            at_close.fills, at_close.source, candle_source
        FROM (
            SELECT
                make_timestamp(epoch_us(as_of) - 1)::DATE AS day, grid_id, activated_at, symbol, candle_source,
                max_by(struct_pack(
                    price := price, grid_profit := grid_profit, exit_pnl := exit_pnl, unrealised_pnl := unrealised_pnl,
                    total_pnl := total_pnl, fills := fills, source := source
                ), as_of) AS at_close
            FROM grid_risk
            WHERE total_pnl IS NOT NULL
            GROUP BY ALL
        )
        """,
    ),
    "alert_responses": View(
        "One row for each escalation that the operator was notified of, with the first thing that they did about it.",
        {
            "alert_id": "Alert.",
            **_GRID,
            "state": "Exit state that it is about.",
            "priority": "Pushover priority; 2 is an emergency.",
            "sent_at": "When the channel took it; UTC.",
            "acknowledged_at": "When the operator acknowledged it; UTC.",
            "acknowledged_by_device": "On which device.",
            "expired_at": "When it stopped ringing unacknowledged; UTC.",
            "responded_at": "When the operator acted; UTC. Null: never.",
            "action": "What was done.",
            "seconds_from_alert": "From the alert to the response, seconds.",
            "within_window": "Whether it was within the recommended window.",
            **_SOURCE,
        },
        """
        SELECT
            n.alert_id, n.grid_id, n.activated_at, n.symbol, n.state, n.priority, n.sent_at,
            n.acknowledged_at, n.acknowledged_by_device, n.expired_at,
            r.at AS responded_at, r.action, r.seconds_from_alert, r.within_window, n.source
        FROM notification n
        LEFT JOIN (
            SELECT * FROM operator_response
            QUALIFY row_number() OVER (PARTITION BY alert_id ORDER BY "at", response_id) = 1
        ) r ON r.alert_id = n.alert_id
        WHERE n.kind = 'ESCALATION' AND n.status = 'SENT'
        """,
    ),
    "response_kpis": View(
        "By month and state: how soon the operator acted, and how often not at all.",
        {
            **_MONTH,
            "state": "Exit state that the alerts are about.",
            "alerts": "Escalations that the operator was notified of.",
            "responses": "Of these, answered.",
            "p50_seconds": "Median time to the response, seconds.",
            "p95_seconds": "95 % of the responses came sooner, seconds.",
            "within_window": "Answered within the recommended window.",
            "missed": "Not answered.",
            "acknowledged": "Acknowledged on a device.",
            "expired": "Rang until they expired.",
            "acted_without_acknowledging": "Answered, and never acknowledged.",
            "kind": "Of candles that the alerts rest on: ccxt is a live exchange; recorded, simulated: a rehearsal.",
        },
        """
        SELECT
            strftime(sent_at AT TIME ZONE 'UTC', '%Y-%m') AS month,
            state,
            count(*) AS alerts,
            count(responded_at) AS responses,
            quantile_cont(seconds_from_alert, 0.5) AS p50_seconds,
            quantile_cont(seconds_from_alert, 0.95) AS p95_seconds,
            count(*) FILTER (WHERE within_window) AS within_window,
            count(*) FILTER (WHERE responded_at IS NULL) AS missed,
            count(acknowledged_at) AS acknowledged,
            count(expired_at) AS expired,
            count(*) FILTER (WHERE responded_at IS NOT NULL AND acknowledged_at IS NULL) AS acted_without_acknowledging,
            split_part(source, ':', 1) AS kind
        FROM alert_responses
        GROUP BY ALL
        ORDER BY ALL
        """,
    ),
    "alert_hit_rate": View(
        "Were the alerts right? By month of UTC and state, what was told and what would have been told apart.",
        {
            **_MONTH,
            "state": "State that was entered.",
            "told": "Whether the operator was notified.",
            "alerts": "How many there were.",
            "known": "Of so many it is known: BROKE, STOPPED or HELD.",
            "right": "Of these a break or the stop came within 24 hours.",
            "hit_rate": "right over known; null where nothing is known.",
            "median_hours": "From the alert to the break or the stop.",
            "mean_gain_vs_hold_percent": "Leaving then against holding for 14 days, percent of the capital.",
            **_SOURCE,
        },
        f"""
        SELECT
            strftime({_month("as_of")}, '%Y-%m') AS month, state, told, count(*) AS alerts,
            count(*) FILTER (WHERE outcome IN ('BROKE', 'STOPPED', 'HELD')) AS known,
            count(*) FILTER (WHERE outcome IN ('BROKE', 'STOPPED')) AS "right",
            count(*) FILTER (WHERE outcome IN ('BROKE', 'STOPPED'))
                / nullif(count(*) FILTER (WHERE outcome IN ('BROKE', 'STOPPED', 'HELD')), 0) AS hit_rate,
            median(hours) AS median_hours, avg(gain_vs_hold_percent) AS mean_gain_vs_hold_percent, source
        FROM alert_outcome
        GROUP BY ALL
        ORDER BY ALL
        """,
    ),
    "exit_cost_by_hour": View(
        "When is a market dear to leave? What selling at once costs, by market, day of the week and hour of UTC.",
        {
            "symbol": "Market.",
            "weekday": "1 is Monday, 7 Sunday; UTC.",
            "hour": "Hour of the bar's close, 0 to 23; UTC.",
            "bars": "Bars at which a grid held something, of all grids together.",
            "median_notional": "Quote currency that was to be sold.",
            "median_expected_bp": "By the model, basis points of the mid price, fee included.",
            "p95_expected_bp": "Of 19 in 20 bars no more.",
            "median_live_expected_bp": "By the order books of the ticks; null where none was read.",
            "median_live_half_spread_bp": "Likewise half of the spread.",
            "beyond_model": "Share of bars at which more was held than the market trades in a minute.",
            **_SOURCE,
        },
        """
        SELECT
            symbol, isodow(as_of AT TIME ZONE 'UTC') AS weekday, hour(as_of AT TIME ZONE 'UTC') AS hour,
            count(*) AS bars, median(notional) AS median_notional, median(expected_bp) AS median_expected_bp,
            quantile_cont(expected_bp, .95) AS p95_expected_bp, median(live_expected_bp) AS median_live_expected_bp,
            median(live_half_spread_bp) AS median_live_half_spread_bp,
            avg(CASE WHEN beyond_model THEN 1.0 ELSE 0.0 END) AS beyond_model, source
        FROM exit_cost
        WHERE horizon_minutes = 0 AND notional > 0
        GROUP BY ALL
        ORDER BY ALL
        """,
    ),
    "exit_result": View(
        "Did leaving cost what was said? Each forecast of exit_cost beside what the candles say came.",
        {
            **_GRID,
            "as_of": "The bar at whose close it was said; UTC.",
            "horizon_minutes": "Minutes over which is sold in equal slices; 0 is at once.",
            "chosen": "Whether the plan proposes this horizon.",
            "expected_bp": "Cost that was said, basis points of the mid price.",
            "low_80_bp": "Lower end of its 80 % interval.",
            "high_80_bp": "Upper end.",
            "low_90_bp": "Lower end of its 90 % interval.",
            "high_90_bp": "Upper end.",
            "realised_bp": "What came: what the mean price of the horizon lost against the close, and the modelled "
            "parts as they were said. Null until its time has passed, where a bar is not known, and for 0 and 5 "
            "minutes, of which candles tell nothing.",
            "inside_80": "Whether it lies within the 80 % interval; null where realised_bp is.",
            "inside_90": "Whether it lies within the 90 % interval; likewise.",
            **_SOURCE,
        },
        # The mean price of a bar is taken as that of its open, high, low and close, as evaluation/leaving.py has it.
        # A window over the candles once is three times as fast as a join for each bar.
        """
        SELECT
            grid_id, activated_at, symbol, as_of, horizon_minutes, chosen, expected_bp,
            low_80_bp, high_80_bp, low_90_bp, high_90_bp, realised_bp,
            realised_bp BETWEEN low_80_bp AND high_80_bp AS inside_80,
            realised_bp BETWEEN low_90_bp AND high_90_bp AS inside_90, source
        FROM (
            SELECT
                c.*, c.expected_bp
                    + CASE c.horizon_minutes WHEN 15 THEN d.over_15 WHEN 60 THEN d.over_60 END AS realised_bp
            FROM exit_cost c
            LEFT JOIN (
                SELECT
                    symbol, source, close_time,
                    CASE WHEN epoch_us(lead(close_time, 1) OVER one) - epoch_us(close_time) = 900_000_000
                        THEN 10_000 * (1 - lead(mean, 1) OVER one / close) END AS over_15,
                    CASE WHEN epoch_us(lead(close_time, 4) OVER one) - epoch_us(close_time) = 3_600_000_000
                        THEN 10_000 * (1 - (lead(mean, 1) OVER one + lead(mean, 2) OVER one + lead(mean, 3) OVER one
                            + lead(mean, 4) OVER one) / 4 / close) END AS over_60
                FROM (
                    SELECT symbol, source, close_time, close, (open + high + low + close) / 4 AS mean FROM candles
                )
                WINDOW one AS (PARTITION BY symbol, source ORDER BY close_time)
            ) d ON d.symbol = c.symbol AND d.close_time = c.as_of AND d.source IS NOT DISTINCT FROM c.source
            WHERE c.expected_bp IS NOT NULL
        )
        """,
    ),
    "portfolio_now": View(
        "All grids together now: the newest row of each quote currency, with the limits that are breached.",
        {
            "quote": "Quote currency.",
            "as_of": "Closing time of the newest bar used; UTC.",
            "grids": "Running grids.",
            "capital": "Their capital, quote currency.",
            "equity": "As portfolio.yaml or the account has it, quote currency; null: not known.",
            "var_5_24h": "The loss within 24 hours that one night in 20 exceeds, quote currency.",
            "es_5_24h": "Mean loss of the worst nights, one in 20, quote currency.",
            "es_5_share": "The same as a share of their capital.",
            "var_1_24h": "The loss that one night in 100 exceeds, quote currency.",
            "counts_as": "How many independent grids of their size would risk as little.",
            "p_any_break_24h": "Share of the nights in which a grid breaks.",
            "all_stops": "What is lost if all fall to their stops, quote currency.",
            "drawdown": "How far the profit is below its best of the window, quote currency.",
            "ruin": "Share of the nights after which the severe drawdown is passed; of one night only.",
            "breached": "Limits that are breached, each with what it is about; empty: none, or none is known.",
            "paths": "How many nights of the past were looked at.",
            "reason": "Why figures are null, in a sentence.",
            **_SOURCE,
        },
        """
        WITH newest AS MATERIALIZED (
            SELECT quote, max(as_of) AS as_of FROM portfolio_risk GROUP BY quote
        ),
        passed AS (
            SELECT quote, list(l."limit" || CASE subject WHEN 'all' THEN '' ELSE ' of ' || subject END
                ORDER BY l."limit", subject) AS breached
            FROM newest JOIN limit_state l USING (quote, as_of)
            WHERE l.breached
            GROUP BY quote
        )
        SELECT
            r.quote, r.as_of, r.grids, r.capital, coalesce(r.equity, r.live_equity) AS equity, r.var_5_24h, r.es_5_24h,
            r.es_5_24h / nullif(r.capital, 0) AS es_5_share, r.var_1_24h, r.counts_as, r.p_any_break_24h, r.all_stops,
            r.drawdown, r.ruin, coalesce(p.breached, []) AS breached, r.paths, r.reason, r.source
        FROM newest
        JOIN portfolio_risk r USING (quote, as_of)
        LEFT JOIN passed p ON p.quote = r.quote
        ORDER BY r.quote
        """,
    ),
    "signal_worth": View(
        "What each signal and control was worth in the newest judgement: the main figures of signal_quality in a row.",
        {
            "as_of": "End of the days that were looked at; UTC.",
            "grids": "rule: opened every day by a rule; real: the operator's.",
            "policy": "confirmed or literal, trigger, control, or real: what the operator was notified of.",
            "signal": "Exit state, trigger or control.",
            **_worth(),
        },
        f"""
        SELECT
            as_of, grids, policy, signal,
            max(value) FILTER (WHERE metric = 'precision') AS precision,
            max(low) FILTER (WHERE metric = 'precision') AS precision_low,
            max(high) FILTER (WHERE metric = 'precision') AS precision_high,
            {", ".join(f"max(value) FILTER (WHERE metric = '{name}') AS {name}" for name in _WORTH[1:])}
        FROM signal_quality
        WHERE as_of = (SELECT max(as_of) FROM signal_quality) AND signal <> 'p_break_low_24h'
        GROUP BY ALL
        """,
    ),
}
"""By name, in an order in which each knows those before it."""


_DICTIONARY = {
    "name": "Table or view.",
    "column_name": "Its column; null: the table or view as a whole.",
    "meaning": "What it means, with its unit; of a whole, what one row is.",
}


def _dictionary() -> View:
    """Every column of every table and view in one place, for clients that do not show comments."""
    about = "What each table, view and column means."
    rows = [
        (name, column["column"], column["description"] or "")
        for name in registry.TABLES
        for column in registry.describe(name)
    ]
    rows += [(name, column, meaning) for name, view in VIEWS.items() for column, meaning in view.columns.items()]
    rows += [("data_dictionary", column, meaning) for column, meaning in _DICTIONARY.items()]
    wholes = {name: " ".join((schema.__doc__ or "").split()) for name, schema in registry.TABLES.items()}
    wholes |= {name: view.about for name, view in VIEWS.items()} | {"data_dictionary": about}
    values = [(name, None, whole) for name, whole in wholes.items()]
    rows_of_it = ", ".join(f"({', '.join(map(_literal, row))})" for row in [*values, *rows])
    return View(about, _DICTIONARY, f"FROM (VALUES {rows_of_it}) AS t({', '.join(_DICTIONARY)})")


def _literal(text: str | None) -> str:
    return "NULL" if text is None else "'" + text.replace("'", "''") + "'"


VIEWS["data_dictionary"] = _dictionary()
