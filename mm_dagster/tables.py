"""The contract of every table: columns, types, units, rules, keys. Stages meet here and nowhere else.

A schema's docstring is the table's description, a column's `description` says what it means and in which unit. All
times are UTC; `as_of` is the closing time of the newest bar that a row knows. Prices and money are in quote currency,
percentages are in percent, probabilities and shares are fractions. Null means "not known", never "zero".
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import dataframely as dy
import polars as pl

SCHEMA_VERSION = 1
"""Counts changes to the tables that need more than a new nullable column."""

CODE_VERSIONS = {
    "candles": "1",
    "regime_features": "5",
    "regime_verdict": "3",
    "grid_risk": "3",
    "exit_state": "3",
    "entry_assessment": "2",
}
"""Raise a table's number when the same input would give other values; rows and Dagster assets carry it."""
EVALUATION_VERSION = "1"
"""Likewise of `signal_quality`, whose rows are not made bar by bar."""
CANDIDATES_VERSION = "1"
"""Likewise of `candidate_parameters`."""

VERDICTS = ("RANGE_OK", "RANGE_WEAK", "TRANSITION", "TREND")
"""From the least to the most dangerous."""
STATES = ("NORMAL", "WARNING", "LATEST_ACCEPTABLE_EXIT", "MANDATORY_EXIT")
"""From the least to the most urgent."""
NOT_JUDGED_YET = "NOT_JUDGED_YET"
"""What is said of a running grid of which no bar since its activation was known yet. No state: there it is null."""
CANDLE_STATUS = ("TRADED", "NO_TRADE", "MISSING")
POSITION_HEALTH = ("BELOW_GRID", "IN_GRID", "ABOVE_GRID")
STOP_LOSS_RISK = ("SAFE", "NEAR", "CRITICAL", "BREACHED")
RISK_LEVEL = ("LOW", "MEDIUM", "HIGH", "CRITICAL")
ALERT_KINDS = (
    "ESCALATION", "REMINDER", "DEESCALATION", "ENTRY", "BLIND", "RECOVERED", "SETUP", "DIGEST", "FAILURE", "TEST",
    "DRILL",
)  # fmt: skip
ALERT_EVENTS = (
    "NOTED", "TRYING", "SENT", "UNANSWERED", "REFUSED", "SUPPRESSED", "CANCELLED", "ACKNOWLEDGED", "EXPIRED"
)  # fmt: skip
ALERT_STATUS = ("PENDING", "SENT", "FAILED", "SUPPRESSED")
SIDES = ("buy", "sell")
RESPONSES = ("stopped", "reduced", "kept", "reopened")
ENTRY_ADVICE = ("WAIT", "WATCH", "ENTER")

METRICS: dict[str, tuple[str, str]] = {
    "base_rate": ("share", "how often two closes below the grid followed within 24 hours"),
    "auc": ("share", "how often a moment with a break was given a higher probability than one without; .5 is chance"),
    "brier_skill": ("fraction", "1 - Brier score over that of the base rate; 0 is what the base rate alone says"),
    "ece": ("probability", "mean distance between predicted and observed, over ten bins; 0 is honest"),
    "log_loss_gain": ("nats", "what the log loss is less than that of the position between the bounds alone"),
    "precision": ("share", "alarms that a break below, or the stop, followed within 24 hours"),
    "recall": ("share", "breaks at which an alarm stood that had been raised before"),
    "misses": ("count", "breaks at which none did"),
    "false_alarms_per_grid_week": ("alarms", "raised in a week of a grid's life with no break after them"),
    "lead_p25_hours": ("hours", "from the alarm to the break: a quarter of those that were warned of had less"),
    "lead_p50_hours": ("hours", "from the alarm to the break: half of those that were warned of had less"),
    "lead_1h_share": ("share", "breaks of which the alarm warned at least an hour before"),
    "mean_equity": ("percent of the capital", "what was left when each grid was left at the first alarm"),
    "shortfall_5pct": ("percent of the capital", "mean of the worst 5 % of that"),
    "hours_held": ("hours", "mean time until a grid was left"),
    "gain_vs_hold": ("percent of the capital", "mean_equity less what holding to the stop or the end left"),
    "gain_vs_null": ("percent of the capital", "mean_equity less what the same exits left at other dates"),
    "p_null": ("probability", "of doing as well with the same exits at other dates"),
    "p_random": ("probability", "of doing as well with the same exits dealt at random among a market's grids"),
    "alerts": ("count", "escalations that were told"),
    "acknowledged_share": ("share", "emergencies that were acknowledged; nothing else asks for it"),
    "acknowledge_p50_seconds": ("seconds", "half of them within"),
    "answered_share": ("share", "alerts that `mm respond` noted an action for"),
    "response_p50_seconds": ("seconds", "half of them within"),
    "within_window_share": ("share", "alerts answered within the recommended window; one without an answer is not"),
}
"""Every metric of `signal_quality`: its unit, and what it means."""


def _time(description: str, *, key: bool = False, nullable: bool = False) -> dy.Datetime:
    return dy.Datetime(
        primary_key=key, nullable=nullable, time_unit="us", time_zone="UTC", description=f"{description} UTC."
    )


def _text(description: str, *, key: bool = False, nullable: bool = False) -> dy.String:
    return dy.String(primary_key=key, nullable=nullable, description=description)


def _one_of(values: Sequence[str], description: str, *, nullable: bool = False) -> dy.String:
    return dy.String(
        nullable=nullable, description=f"{description} One of {', '.join(values)}.", check=lambda c: c.is_in(values)
    )


def _number(
    description: str, *, low: float | None = None, high: float | None = None, inf: bool = False, nullable: bool = True
) -> dy.Float64:
    return dy.Float64(nullable=nullable, min=low, max=high, allow_inf=inf, description=description)


def _probability(description: str) -> dy.Float64:
    return dy.Float64(nullable=True, min=0.0, max=1.0, description=description)


def _flag(description: str, *, nullable: bool = True) -> dy.Bool:
    return dy.Bool(nullable=nullable, description=description)


def _count(description: str, *, nullable: bool = True) -> dy.Int64:
    return dy.Int64(nullable=nullable, description=description)


def _structs(description: str, **fields: dy.Column) -> dy.List:
    return dy.List(dy.Struct(fields), description=description)


def _config_hash() -> dy.String:
    return _text("Hash of the configuration keys that change this table's values.")


def _code_version() -> dy.String:
    return _text("Version of the code that computed the row.")


def _source() -> dy.String:
    return _text(
        "Where its candles come from: ccxt:EXCHANGE, recorded:VENUE or simulated:VERSION; null: not known yet.",
        nullable=True,
    )


class Candles(dy.Schema):
    """Closed 15-minute bars, one for every interval that was asked for, whether the venue had one or not."""

    symbol = _text("Market, like ETH-USDT.", key=True)
    open_time = _time("When the bar opened;", key=True)
    close_time = _time("When it closed;")
    open = _number("First price, quote currency; null when MISSING.", low=0.0)
    high = _number("Highest price, quote currency; null when MISSING.", low=0.0)
    low = _number("Lowest price, quote currency; null when MISSING.", low=0.0)
    close = _number("Last price, quote currency; null when MISSING.", low=0.0)
    volume = _number("Traded volume, base currency; null when MISSING.", low=0.0)
    status = _one_of(
        CANDLE_STATUS,
        "TRADED: the venue sent it. NO_TRADE: the venue answered and had none. MISSING: not known.",
    )
    venue = _text("Name of the venue in markets.yaml.")
    observed_at = _time("When the venue answered for this interval; null: it did not. Live-only.", nullable=True)
    config_hash = _config_hash()
    code_version = _code_version()
    source = _source()

    @dy.rule()
    def prices_when_known(cls) -> pl.Expr:
        prices = [pl.col(name).is_null() for name in ("open", "high", "low", "close", "volume")]
        return (
            pl.when(pl.col("status") == "MISSING").then(pl.all_horizontal(prices)).otherwise(~pl.any_horizontal(prices))
        )

    @dy.rule()
    def high_and_low_enclose(cls) -> pl.Expr:
        return (pl.col("low") <= pl.min_horizontal("open", "close")) & (
            pl.col("high") >= pl.max_horizontal("open", "close")
        )

    @dy.rule()
    def a_quarter_hour_long(cls) -> pl.Expr:
        return (pl.col("close_time") - pl.col("open_time") == pl.duration(minutes=15)) & (
            pl.col("open_time").dt.truncate("15m") == pl.col("open_time")
        )


class CandleRevision(dy.Schema):
    """Bars of the past whose candle changed: the venue revised it, or a hole was filled late.

    The candle holds the new values. What was computed from the old ones is computed again; then the row says so.
    """

    symbol = _text("Market.", key=True)
    open_time = _time("When the bar opened;", key=True)
    observed_at = _time("When the venue sent the new values;", key=True)
    venue = _text("Name of the venue in markets.yaml.")
    old_observed_at = _time("When it had sent the old values; null: it had not, a hole was filled.", nullable=True)
    old_status = _one_of(CANDLE_STATUS, "What the bar was; null: there was no row.", nullable=True)
    old_open = _number("First price before, quote currency.", low=0.0)
    old_high = _number("Highest price before, quote currency.", low=0.0)
    old_low = _number("Lowest price before, quote currency.", low=0.0)
    old_close = _number("Last price before, quote currency.", low=0.0)
    old_volume = _number("Traded volume before, base currency.", low=0.0)
    new_status = _one_of(CANDLE_STATUS, "What the bar is now.")
    new_open = _number("First price now, quote currency.", low=0.0)
    new_high = _number("Highest price now, quote currency.", low=0.0)
    new_low = _number("Lowest price now, quote currency.", low=0.0)
    new_close = _number("Last price now, quote currency.", low=0.0)
    new_volume = _number("Traded volume now, base currency.", low=0.0)
    recomputed_at = _time(
        "Wall clock when all that depends on the bar was computed again; null: not yet.", nullable=True
    )
    recomputed = dy.List(
        dy.String(), nullable=True, description="Tables in which all that depends on the bar is computed again."
    )
    source = _source()


class Quarantine(dy.Schema):
    """Rows that a venue sent and that cannot be true, kept with the reason; their intervals are MISSING candles."""

    symbol = _text("Market.", key=True)
    open_time = _time("Opening time as sent, cut to its quarter hour;", key=True)
    reason = _text("What is wrong with it.", key=True)
    payload = _text("The row as sent, JSON.", key=True)
    venue = _text("Name of the venue in markets.yaml.")
    observed_at = _time("When it was sent;")
    source = _source()


class RegimeFeatures(dy.Schema):
    """What the candles measure. Hourly bars are the 4 base bars that close at as_of, the 4 before them, and so on."""

    symbol = _text("Market.", key=True)
    as_of = _time("Closing time of the newest bar used;", key=True)
    close = _number("Closing price at as_of, quote currency.", low=0.0)
    bollinger_width = _number("Bollinger band width 4s/m over 20 hourly closes.", low=0.0)
    bollinger_percent_b = _number("Position in the Bollinger band; 0 lower, 1 upper.")
    bollinger_width_percentile = _probability("Share of the last 168 hourly widths that are <= the present one.")
    range_high = _number("Highest high of the 96 hourly bars before this one, quote currency.", low=0.0)
    range_low = _number("Lowest low of the 96 hourly bars before this one, quote currency.", low=0.0)
    inside_range = _flag("Whether the close lies between range_low and range_high.")
    atr = _number("Mean true range of 14 hourly bars, quote currency.", low=0.0)
    atr_expansion = _number("Mean true range of 14 hourly bars over that of 168.", low=0.0)
    ou_phi = _number("AR(1) coefficient of the log close over 192 hourly pairs.")
    ou_mu = _number("Mean that the fit reverts to, log price.")
    ou_sigma = _number("Residual standard deviation of the fit, per hour.", low=0.0)
    ou_tau = _number("Dickey-Fuller statistic (phi - 1) / se(phi); evidence below about -2.57.")
    half_life = _number(
        "Bias-corrected half-life of the reversion, hours; infinite when there is none.", low=0.0, inf=True
    )
    ou_z = _number("Distance of the close from the mean, in stationary standard deviations.")
    half_life_baseline = _number(
        "Median half-life over 720 hours ending 192 before as_of, hours; may be infinite.", low=0.0, inf=True
    )
    efficiency_ratio = _probability("Kaufman's efficiency ratio over 40 hourly returns.")
    swing_high = _number("Sign of the last pivot high minus the one before, within 192 hourly bars; 0: fewer than two.")
    swing_low = _number("Sign of the last pivot low minus the one before, within 192 hourly bars; 0: fewer than two.")
    ema_12 = _number("Windowed EMA of 12 hourly closes, quote currency.", low=0.0)
    ema_26 = _number("Windowed EMA of 26 hourly closes, quote currency.", low=0.0)
    ema_50 = _number("Windowed EMA of 50 hourly closes, quote currency.", low=0.0)
    adx = _number("Average directional index, 14 hourly bars, 0 to 100.", low=0.0)
    variance_ratio_4 = _number("Variance ratio of 4-hour over 1-hour returns, 385 hourly closes.", low=0.0)
    variance_ratio_4_z = _number("Its heteroscedasticity-robust z.")
    variance_ratio_16 = _number("Variance ratio of 16-hour over 1-hour returns, 385 hourly closes.", low=0.0)
    variance_ratio_16_z = _number("Its heteroscedasticity-robust z.")
    parkinson = _number("Parkinson volatility over 96 hourly bars, per square root of an hour.", low=0.0)
    garman_klass = _number("Garman-Klass volatility over 96 hourly bars, per square root of an hour.", low=0.0)
    rogers_satchell = _number("Rogers-Satchell volatility over 96 hourly bars, per square root of an hour.", low=0.0)
    jump_share = _probability("Share of jumps in the realised variance of 96 hourly bars.")
    volatility_forecast = _number("Forecast standard deviation of one hourly log return on a weekday.", low=0.0)
    volume_ratio = _number("Mean volume of 4 hourly bars over that of 168.", low=0.0)
    change_24h = _number("Change of the close over 96 base bars, percent.")
    volume_24h = _number("Volume of the last 96 base bars, base currency.", low=0.0)
    efficiency_ratio_4h = _probability("Kaufman's efficiency ratio over 40 4-hour returns.")
    adx_4h = _number("Average directional index, 14 4-hour bars, 0 to 100.", low=0.0)
    ema_12_4h = _number("Windowed EMA of 12 4-hour closes, quote currency.", low=0.0)
    ema_26_4h = _number("Windowed EMA of 26 4-hour closes, quote currency.", low=0.0)
    ema_50_4h = _number("Windowed EMA of 50 4-hour closes, quote currency.", low=0.0)
    atr_4h = _number("Mean true range of 14 4-hour bars, quote currency.", low=0.0)
    swing_high_4h = _number("Like swing_high, on 4-hour bars.")
    swing_low_4h = _number("Like swing_low, on 4-hour bars.")
    variance_ratio_4_4h = _number("Variance ratio of 16-hour over 4-hour returns, 145 4-hour closes.", low=0.0)
    variance_ratio_4_z_4h = _number("Its heteroscedasticity-robust z.")
    closes_outside_15m = _flag("Whether the close lies outside the high and low of the 96 base bars before.")
    atr_expansion_15m = _number("Mean true range of 14 base bars over that of 168.", low=0.0)
    volatility_4_15m = _number("Realised volatility of the last 4 base returns, per square root of an hour.", low=0.0)
    volatility_96_15m = _number("Realised volatility of the last 96 base returns, per square root of an hour.", low=0.0)
    config_hash = _config_hash()
    code_version = _code_version()
    source = _source()


class RegimeVerdict(dy.Schema):
    """What the market is doing, in one word, with the scores and probabilities behind it. No forecast."""

    symbol = _text("Market.", key=True)
    as_of = _time("Closing time of the newest bar used;", key=True)
    verdict = _one_of(VERDICTS, "After hysteresis; null when any input is.", nullable=True)
    confidence = _number("Probability of the named verdict minus the best other; negative while hysteresis holds it.")
    transition_probability = _probability("p_transition + p_trend.")
    p_range_ok = _probability("Probability of RANGE_OK.")
    p_range_weak = _probability("Probability of RANGE_WEAK.")
    p_transition = _probability("Probability of TRANSITION.")
    p_trend = _probability("Probability of TREND.")
    raw_verdict = _one_of(VERDICTS, "Before hysteresis.", nullable=True)
    trend_score = _probability("T, on hourly bars.")
    mean_reversion_score = _probability("M.")
    range_score = _probability("I.")
    trend_score_4h = _probability("T, on 4-hour bars.")
    config_hash = _config_hash()
    code_version = _code_version()
    source = _source()


class GridEpisode(dy.Schema):
    """A grid from one activation to the next, with the configuration it was first seen with."""

    grid_id = _text("Grid.", key=True)
    activated_at = _time("When it began to trade;", key=True)
    symbol = _text("Market.")
    enabled = _flag("Whether it traded when first seen.", nullable=False)
    lower = _number("Lower bound, quote currency.", low=0.0, nullable=False)
    upper = _number("Upper bound, quote currency.", low=0.0, nullable=False)
    levels = _count("Number of levels, counted as level_convention says.", nullable=False)
    level_convention = _text("intervals or levels.")
    spacing = _text("arithmetic or geometric.")
    stop = _number("Stop price, quote currency.", low=0.0, nullable=False)
    capital = _number("Capital, quote currency.", low=0.0, nullable=False)
    fee_maker = _number("Maker fee, fraction.", low=0.0, nullable=False)
    fee_taker = _number("Taker fee, fraction.", low=0.0, nullable=False)
    fee_paid_in = _text("quote or base.")
    slippage = _number("What a market order loses against the price, fraction; null: not asked for yet.", low=0.0)
    price_tick = _number("Prices were multiples of it, quote currency; null: the venue asks nothing.", low=0.0)
    amount_lot = _number("Amounts were multiples of it, base currency; null: likewise.", low=0.0)
    amount_min = _number("Smallest order, base currency; null: likewise.", low=0.0)
    cost_min = _number("Smallest order, quote currency; null: likewise.", low=0.0)
    first_seen = _time("as_of of its first evaluation;")
    closed_at = _time("When it ended;", nullable=True)
    closed_by = _text("What ended it: reactivated, disabled, removed or stopped.", nullable=True)
    source = _source()


class GridRisk(dy.Schema):
    """Where the price stands in each grid, and how likely it is to leave."""

    grid_id = _text("Grid.", key=True)
    activated_at = _time("Episode;", key=True)
    as_of = _time("Closing time of the newest bar used;", key=True)
    symbol = _text("Market.")
    price = _number("Close at as_of, quote currency; null when the bar is MISSING.", low=0.0)
    change_24h = _number("Change over 24 hours, percent.")
    volume_24h = _number("Volume over 24 hours, base currency.", low=0.0)
    capital_utilisation = _number(
        "Share of the capital that is inventory, at cost; above 1 where a grid has put its profit into it, too. If the "
        "grid does not run, as if it were filled.",
        low=0.0,
    )
    recommendations = dy.List(dy.String(), nullable=True, description="What to look at, in sentences.")
    position_health = _one_of(POSITION_HEALTH, "Where the price is.", nullable=True)
    stop_loss_risk = _one_of(STOP_LOSS_RISK, "How near the stop is.", nullable=True)
    risk_level = _one_of(RISK_LEVEL, "The worst of position and stop.", nullable=True)
    distance_lower_percent = _number("(price - lower) / price, percent; negative below the grid.")
    distance_upper_percent = _number("(upper - price) / price, percent; negative above the grid.")
    distance_stop_percent = _number("(price - stop) / price, percent; negative below the stop.")
    distance_lower_atr = _number("(price - lower) in hourly ATRs.")
    distance_upper_atr = _number("(upper - price) in hourly ATRs.")
    distance_stop_atr = _number("(price - stop) in hourly ATRs.")
    p_break_low_6h = _probability("Probability of two closes below the grid within 6 hours.")
    p_break_low_12h = _probability("Probability of two closes below the grid within 12 hours.")
    p_break_low_24h = _probability("Probability of two closes below the grid within 24 hours.")
    p_break_high_6h = _probability("Probability of two closes above the grid within 6 hours.")
    p_break_high_12h = _probability("Probability of two closes above the grid within 12 hours.")
    p_break_high_24h = _probability("Probability of two closes above the grid within 24 hours.")
    p_stop_6h = _probability("Probability of touching the stop within 6 hours.")
    p_stop_12h = _probability("Probability of touching the stop within 12 hours.")
    p_stop_24h = _probability("Probability of touching the stop within 24 hours.")
    inventory = _number("Base currency held.", low=0.0)
    average_cost = _number("Quote currency paid for a unit of it, fees included; null when nothing is held.", low=0.0)
    cash = _number("Quote currency held, of the grid's capital and what it earned.")
    grid_profit = _number("Realised profit of the sells of the grid's own orders, after fees, quote currency.")
    exit_pnl = _number("Realised by selling everything at the stop, quote currency; 0 before.")
    unrealised_pnl = _number("Value of the inventory after taker fee and slippage, less its cost, quote currency.")
    total_pnl = _number("grid_profit + exit_pnl + unrealised_pnl = liquidation_value - capital, quote currency.")
    fees_paid = _number("All fees since activation, quote currency; contained in the figures above.", low=0.0)
    liquidation_value = _number("Cash and inventory, sold now with taker fee and slippage, quote currency.")
    capital_at_risk = _number("What is lost from here to the stop, its fills on the way included, quote currency.")
    capital_at_risk_weighted = _number("capital_at_risk times p_stop_24h, quote currency.")
    profit_giveback = _number("What waiting for the operator's response may cost, quote currency.")
    profit_giveback_share = _number("profit_giveback over grid_profit; null when nothing was earned yet.")
    required_cash = _number("What the waiting buys need when they all fill, quote currency.", low=0.0)
    fills = _count("Filled orders since activation, the purchase at activation not counted.")
    stopped_at = _time("Closing time of the bar in which the stop sold everything;", nullable=True)
    grid_profit_optimistic = _number("grid_profit if prices took the longer way within each bar.")
    liquidation_value_optimistic = _number("liquidation_value if prices took the longer way within each bar.")
    fills_optimistic = _count("fills if prices took the longer way within each bar.")
    source = _one_of(("MODELLED", "ACCOUNT"), "Where positions come from.")
    config_hash = _config_hash()
    code_version = _code_version()
    candle_source = _source()


TRIGGER = pl.Struct(
    {
        "name": pl.String,
        "family": pl.String,
        "level": pl.String,
        "value": pl.Float64,
        "threshold": pl.Float64,
        "fired": pl.Boolean,
    }
)
"""One trigger of the ladder at one as_of. `fired` is null when it cannot be known; `level` is what it counts for."""


class ExitState(dy.Schema):
    """May the grid go on? One row for every active grid and bar, with every trigger and its value."""

    grid_id = _text("Grid.", key=True)
    activated_at = _time("Episode;", key=True)
    as_of = _time("Closing time of the newest bar used;", key=True)
    symbol = _text("Market.")
    complete = _flag("Whether all that the episode needs to be judged has been known.", nullable=False)
    never_known = dy.List(
        dy.String(),
        nullable=True,
        description="What was never known yet since the activation; until it is empty only hard triggers count.",
    )
    literal_state = _one_of(STATES, "What the literal policy says; null: not judged yet.", nullable=True)
    live_state = _one_of(STATES, "What only the live run knew; alerts use the higher one. Live-only.", nullable=True)
    live_reason = _text("Why live_state is what it is. Live-only.", nullable=True)
    state = _one_of(
        STATES,
        "The decision: a function of stored rows alone; null: not judged yet, no bar since the activation is known.",
        nullable=True,
    )
    raw_state = _one_of(
        STATES, "The highest level that holds at this bar alone, before persistence and dwell.", nullable=True
    )
    since = _time("as_of at which the present state was entered; null: not judged yet;", nullable=True)
    triggers = _structs(
        "Every trigger: name, family, level, value, threshold, fired (null: cannot be known).",
        name=dy.String(),
        family=dy.String(),
        level=dy.String(),
        value=dy.Float64(nullable=True, allow_inf=True),
        threshold=dy.Float64(nullable=True, allow_inf=True),
        fired=dy.Bool(nullable=True),
    )
    nearest = dy.List(
        dy.String(), nullable=True, description="What is not fired and nearest to it, and what would fire it."
    )
    recommended_window_minutes = _count("Minutes to act; null in NORMAL, 0: now.")
    advice = _text("What to do, in one sentence.")
    config_hash = _config_hash()
    code_version = _code_version()
    source = _source()


class EntryAssessment(dy.Schema):
    """For grids that are not running: is this a moment to start? It lengthens a grid's life; not shown to earn more."""

    grid_id = _text("Grid.", key=True)
    as_of = _time("Closing time of the newest bar used;", key=True)
    symbol = _text("Market.")
    advice = _one_of(ENTRY_ADVICE, "What to do.")
    reasons = dy.List(dy.String(), description="Why, in sentences.")
    price = _number("Close at as_of, quote currency.", low=0.0)
    lower = _number("Proposed lower bound, quote currency.", low=0.0)
    upper = _number("Proposed upper bound, quote currency.", low=0.0)
    levels = _count("Proposed number of intervals, geometric.")
    step_percent = _number("Proposed step between neighbouring prices, percent.", low=0.0)
    p_leave_72h = _number("p_low + p_high of the proposed bounds within 72 hours; may exceed 1.", low=0.0)
    config_hash = _config_hash()
    code_version = _code_version()
    source = _source()


class Notification(dy.Schema):
    """The ledger of alerts: a row before anything is sent, updated with what became of it."""

    alert_id = _text("The same for the same news, so that it is told once.", key=True)
    grid_id = _text("Grid; `all` for a digest, a failure, a test.")
    activated_at = _time("Episode;")
    symbol = _text("Market; `all` likewise.")
    as_of = _time("The evaluation that it tells of;")
    kind = _one_of(ALERT_KINDS, "What kind of news.")
    state = _text("Exit state, or the entry advice; of a failure the asset and the error.")
    state_since = _time("When the state was entered;")
    priority = dy.Int64(min=-2, max=2, description="Pushover priority; 2 is an emergency.")
    title = _text("Title as sent.")
    message = _text("Text as sent.")
    status = _one_of(ALERT_STATUS, "What became of it.")
    detail = _text("Why it was suppressed, or what the last attempt met.", nullable=True)
    channel = _text("Where it went: pushover, apprise or log.", nullable=True)
    attempts = _count("How often sending was tried.", nullable=False)
    created_at = _time("When it was noted;")
    sent_at = _time("When the channel took it;", nullable=True)
    receipt = _text("Pushover's receipt of an emergency.", nullable=True)
    acknowledged_at = _time("When the operator acknowledged it;", nullable=True)
    acknowledged_by_device = _text("On which device.", nullable=True)
    expired_at = _time("When the emergency stopped ringing unacknowledged;", nullable=True)
    source = _source()


class AlertEvent(dy.Schema):
    """What became of each alert, step by step; rows are only ever added."""

    event_id = _text("One event.", key=True)
    alert_id = _text("The alert.")
    at = _time("When it happened;")
    event = _one_of(ALERT_EVENTS, "What happened.")
    channel = _text("On which channel.", nullable=True)
    detail = _text("In a sentence.", nullable=True)


class OperatorResponse(dy.Schema):
    """What the operator did, and how long after the alert."""

    response_id = _text("One response.", key=True)
    alert_id = _text("The alert that it answers.", nullable=True)
    grid_id = _text("Grid.")
    activated_at = _time("Episode; null in rows of before this was noted;", nullable=True)
    at = _time("When it was done;")
    action = _one_of(RESPONSES, "What was done.")
    note = _text("In the operator's words.", nullable=True)
    seconds_from_alert = _number("Seconds.")
    within_window = _flag("Whether it was within the recommended window.")


class AccountSnapshot(dy.Schema):
    """What the exchange says the account holds; empty without account keys."""

    venue = _text("Name of the venue in markets.yaml.", key=True)
    as_of = _time("The tick that asked;", key=True)
    observed_at = _time("When the exchange answered;")
    fills_from = _time("Fills were asked for from then on, until observed_at;")
    balances = _structs(
        "Each asset that is held.", asset=_text("Name."), free=_number("Available."), used=_number("In open orders.")
    )
    open_orders = _structs(
        "Orders that wait, on the watched markets.",
        order_id=_text("The exchange's number."),
        symbol=_text("Market."),
        side=_one_of(SIDES, "Side."),
        price=_number("Limit, quote currency."),
        amount=_number("Base currency."),
        filled=_number("Base currency filled so far."),
        placed_at=_time("When it was placed;", nullable=True),
    )
    fills = _structs(
        "Fills since the last snapshot, on the watched markets, each once.",
        fill_id=_text("The exchange's number."),
        order_id=_text("The order's number.", nullable=True),
        symbol=_text("Market."),
        at=_time("When it traded;"),
        side=_one_of(SIDES, "Side."),
        price=_number("Quote currency."),
        amount=_number("Base currency."),
        fee=_number("In fee_currency."),
        fee_currency=_text("Currency of the fee.", nullable=True),
        maker=_flag("Whether it added liquidity."),
    )
    complete = _flag("Whether all of it was answered.", nullable=False)
    detail = _text("What was not answered, in one line.", nullable=True)
    source = _source()


class Tick(dy.Schema):
    """One row for every run of the pipeline at a tick, so that a missing one shows."""

    as_of = _time("The tick;", key=True)
    started_at = _time("Wall clock;")
    finished_at = _time("Wall clock; null: it did not finish.", nullable=True)
    symbols_ok = dy.List(dy.String(), description="Markets whose newest bar is known.")
    symbols_failed = dy.List(dy.String(), description="Markets whose newest bar is not.")
    reason = _text("What failed, in one line.", nullable=True)
    problems = dy.List(
        dy.Struct({"symbol": _text("Market."), "reason": _text("What its venue said.")}),
        nullable=True,
        description="What failed at which market, known when its candles were asked for. Live-only.",
    )


class SignalQuality(dy.Schema):
    """What the signals were worth until as_of: one figure of one signal or control, with its 95 % interval."""

    as_of = _time("End of the last whole month that was looked at; a year before it by default;", key=True)
    grids = _text(
        "Whose grids: rule, opened every day by a rule that knows no signal, or real, the operator's.", key=True
    )
    policy = _text(
        "confirmed or literal; trigger: it decides by itself; control: a rule that anybody could follow; real: what "
        "the operator was told, and did.",
        key=True,
    )
    signal = _text("Exit state, trigger or control that is judged, or p_break_low_24h.", key=True)
    metric = _text(
        "What is measured. " + " ".join(f"{name}, {unit}: {meaning}." for name, (unit, meaning) in METRICS.items()),
        key=True,
    )
    value = _number("The figure, in the metric's unit; null where there was nothing to judge.")
    low = _number("Lower end of its 95 % interval; null where too little is known for one.")
    high = _number("Upper end.")
    n = _count(
        "What it is a figure of: hours for the probability, alarms for the precision, breaks for the recall, breaks "
        "warned of for the leads, alerts for what was told, else grids."
    )
    config_hash = _config_hash()
    code_version = _code_version()


class CandidateParameters(dy.Schema):
    """Models that might tell of a break, fitted each month on the hours before it. Nothing that decides reads them."""

    as_of = _time("Beginning of the month from which they apply; nothing later was looked at;", key=True)
    symbol = _text("Market.", key=True)
    model = _text("hmm: Gaussian hidden Markov model; garch: GARCH(1,1).", key=True)
    parameters = _structs(
        "Every parameter: name, value. `unit` is the standard deviation of the returns; the others are of returns over "
        "it. States of hmm go from the calmest to the roughest.",
        name=dy.String(),
        value=dy.Float64(),
    )
    converged = _flag("Whether the fit ended by itself; false: its iterations were used up.", nullable=False)
    fitted_from = _time("When the first hour opened that it was fitted on;")
    hours = _count("Known hourly returns from then until as_of.", nullable=False)
    returns_hash = _text("SHA-256 of these returns, log, as 64-bit numbers, NaN where one is not known.")
    parameters_hash = _text("SHA-256 of the parameters.")
    fitted_with = _text("Library and version.")
    config_hash = _config_hash()
    code_version = _code_version()
    source = _source()


@dataclass(frozen=True)
class MarketRules:
    """What a venue asks of an order on one market. None: it asks nothing, or does not say.

    Attributes:
        price_tick: prices are multiples of it, quote currency.
        amount_lot: amounts are multiples of it, base currency.
        amount_min: smallest amount of an order, base currency.
        cost_min: smallest price times amount of an order, quote currency.
    """

    price_tick: float | None = None
    amount_lot: float | None = None
    amount_min: float | None = None
    cost_min: float | None = None


NO_RULES = MarketRules()
"""The rules of a venue that asks nothing."""


TABLES: dict[str, type[dy.Schema]] = {
    "candles": Candles,
    "candle_revision": CandleRevision,
    "quarantine": Quarantine,
    "regime_features": RegimeFeatures,
    "regime_verdict": RegimeVerdict,
    "grid_episode": GridEpisode,
    "grid_risk": GridRisk,
    "exit_state": ExitState,
    "entry_assessment": EntryAssessment,
    "notification": Notification,
    "alert_event": AlertEvent,
    "operator_response": OperatorResponse,
    "account_snapshot": AccountSnapshot,
    "tick": Tick,
    "signal_quality": SignalQuality,
    "candidate_parameters": CandidateParameters,
}
"""Every table of the lake by name, in the order of the flow."""

LIVE_ONLY = frozenset({"observed_at", "live_state", "live_reason", "problems"})
"""Columns in which a backfilled row may differ from the one that the live tick wrote."""


@cache
def time_column(table: str) -> str | None:
    """The column that a table is partitioned by month of and whose span a write replaces; None: it has none."""
    names = TABLES[table].column_names()
    return next(
        (name for name in ("open_time", "as_of") if name in TABLES[table].primary_key() and name in names), None
    )


def source_column(table: str) -> str | None:
    """The column that says where a row's candles come from; None: it has none."""
    name = "candle_source" if table == "grid_risk" else "source"
    return name if name in dtypes(table) else None


def dtypes(table: str) -> dict[str, pl.DataType]:
    """Polars types of a table's columns, in order."""
    return dict(_dtypes(table))


@cache
def _dtypes(table: str) -> tuple[tuple[str, pl.DataType], ...]:
    # dataframely makes the columns anew whenever it is asked, and a tick asks some hundred times.
    return tuple((name, column.dtype) for name, column in TABLES[table].columns().items())


def conform(frame: pl.DataFrame, table: str) -> pl.DataFrame:
    """The frame with exactly the table's columns, in order and type; columns that it lacks become null.

    Raises:
        ValueError: it has a column that the table does not know.
    """
    if frame.width == 0:
        return empty(table)
    types = dtypes(table)
    unknown = set(frame.columns) - set(types)
    if unknown:
        raise ValueError(f"{table} has no column {', '.join(sorted(unknown))}")
    return frame.select(
        (pl.col(name) if name in frame.columns else pl.lit(None)).cast(dtype).alias(name)
        for name, dtype in types.items()
    )


def broken_rules(frame: pl.DataFrame, table: str) -> dict[str, int]:
    """How many rows break each rule of the table's contract; empty when all are kept."""
    return TABLES[table].filter(frame, cast=True).failure.counts()


def empty(table: str) -> pl.DataFrame:
    """No rows, all columns."""
    return pl.DataFrame(schema=dtypes(table))


def describe(table: str) -> list[dict[str, Any]]:
    """Name, type, key and description of each column, for people and catalogues."""
    schema = TABLES[table]
    return [
        {"column": name, "type": str(column.dtype), "key": column.primary_key, "description": column.description}
        for name, column in schema.columns().items()
    ]


def identity(*parts: object) -> str:
    """16 hex digits that are the same for the same parts: names a row by what it is about."""
    return hashlib.sha256("\x1f".join(str(part) for part in parts).encode()).hexdigest()[:16]
