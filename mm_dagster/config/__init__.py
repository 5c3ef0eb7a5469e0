"""The configuration: configs/*.yaml as validated models, cross-checked before anything runs.

Every number of the method is the default of a key here. Unknown keys are refused, and every error names the file, the
key, the value and what would be right. Secrets are never in these files: the environment has them.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin
from zoneinfo import available_timezones

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from mm_dagster import sources
from mm_dagster.bars import DAY_BARS, FIRST_DAY, ceil_bar, iso
from mm_dagster.config.errors import ConfigError as ConfigError
from mm_dagster.config.errors import foreseen
from mm_dagster.config.yaml_files import parse, read_folder
from mm_dagster.grid.levels import (
    FeeCurrency,
    LevelConvention,
    Spacing,
    break_even_ratio,
    prices,
    worst_step_ratio,
)

LAST_DAY = datetime(2200, 1, 1, tzinfo=UTC)
"""No grid begins later: what follows from a time must be a time, too."""


class Model(BaseModel):
    """Unknown keys are refused; nothing changes after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True)

    @model_validator(mode="before")
    @classmethod
    def _keep_other_defaults(cls, given: Any) -> Any:
        """A nested key that is set leaves its neighbours at their defaults, also where these differ by place."""
        if not isinstance(given, dict):
            return given
        merged = dict(given)
        for name, field in cls.model_fields.items():
            if isinstance(field.default, Model) and isinstance(given.get(name), dict):
                merged[name] = {**field.default.model_dump(), **given[name]}
        return merged


def _utc(time: datetime) -> datetime:
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)


_CREDENTIALS = re.compile(r"(?<=://)[^/\s]*@")


def _without_credentials(address: str) -> str:
    """An address that may be kept, logged and shown. The user of ssh is no secret."""
    found = _CREDENTIALS.search(address)
    if found and (address.startswith("http") or ":" in found[0]):
        raise ValueError("an address with a login in it would be kept and shown; leave the login to the environment")
    return address


def _variable(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        raise ValueError("must be the name of a variable of the environment, like MM_SECRET, and not what it holds")
    return name


VariableName = Annotated[str, AfterValidator(_variable)]
Address = Annotated[str, AfterValidator(_without_credentials)]
UtcTime = Annotated[datetime, AfterValidator(_utc)]
Symbol = Annotated[str, Field(pattern=r"^[A-Z0-9]+-[A-Z0-9]+$", description="Base and quote, like ETH-USDT.")]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")]
Probability = Annotated[float, Field(ge=0, le=1)]
LocalTime = Annotated[str, Field(pattern=r"^([01]\d|2[0-3]):[0-5]\d$")]
Positive = Annotated[float, Field(gt=0)]


# markets.yaml ---------------------------------------------------------------------------------------------------------


class AccountKeys(Model):
    """Names of the environment variables that hold a read-only API key. The program places no order."""

    key_env: VariableName
    """Variable with the key."""
    secret_env: VariableName
    """Variable with the secret."""
    passphrase_env: VariableName | None = None
    """Variable with the passphrase, where the exchange wants one; KuCoin does."""


class CcxtVenue(Model):
    """A live exchange, through ccxt. Public candles need no key."""

    kind: Literal["ccxt"]
    exchange: Annotated[str, Field(description="ccxt's name of the exchange, like kucoin.")]
    api_url: Annotated[Address | None, Field(description="Another address for all of its REST calls.")] = None
    timeout_seconds: Positive = 10.0
    requests_per_second: Positive | None = None
    """How often it is asked at most; null: as often as ccxt says that the exchange allows."""
    account: AccountKeys | None = None
    """Variables of a read-only key: `{key_env: A, secret_env: B, passphrase_env: C}`; null: positions are modelled."""


class RecordedVenue(Model):
    """Candle files: `<path>/<SYMBOL>/<file>`, Parquet or CSV. Finer intervals are aggregated to 15 minutes."""

    kind: Literal["recorded"]
    path: Annotated[str, Field(description="Folder, relative to the configuration's folder.")]
    file: str = "15m.parquet"


class SimulatedVenue(Model):
    """A synthetic market, labelled as such: ranges, trends, transitions and crashes, the same for everybody."""

    kind: Literal["simulated"]


VenueConfig = Annotated[CcxtVenue | RecordedVenue | SimulatedVenue, Field(discriminator="kind")]


class MarketConfig(Model):
    """One market that is watched."""

    symbol: Symbol
    venue: Name


class CandlesConfig(Model):
    """How the answers of a venue become bars."""

    max_no_trade: Annotated[int, Field(ge=0, le=DAY_BARS, description="Bars of a hole that count as NO_TRADE.")] = 4
    overlap_bars: Annotated[
        int, Field(ge=0, le=DAY_BARS, description="Closed bars that every tick asks for again, for late ones.")
    ] = 8
    late_bar_attempts: Annotated[int, Field(ge=1, le=10, description="Times the newest bar is asked for.")] = 3
    late_bar_wait_seconds: Annotated[float, Field(ge=0, le=60, description="Pause between these.")] = 5.0
    at_once: Annotated[int, Field(ge=1, le=32, description="Requests that are under way at the same time.")] = 8


class MarketsConfig(Model):
    """markets.yaml: venues, the markets on them, and how candles are read."""

    venues: Annotated[dict[Name, VenueConfig], Field(min_length=1, description="By a name of your own; see below.")]
    markets: Annotated[list[MarketConfig], Field(min_length=1, description="Each with `symbol` and `venue`.")]
    candles: CandlesConfig = CandlesConfig()


# regime.yaml ----------------------------------------------------------------------------------------------------------


class Logistic(Model):
    """u(x) = 1 / (1 + exp(-(x - midpoint) / scale)), times `weight` in its score."""

    weight: Probability = Field(description="Its share of the score.")
    midpoint: float = Field(description="The x that counts half.")
    scale: Positive = Field(description="How far from the midpoint x counts 73 %.")


class TrendScore(Model):
    """Parts of the trend score T; the weights sum to 1. The same for hourly (T) and 4-hour bars (T4h)."""

    efficiency_ratio: Logistic = Logistic(weight=0.25, midpoint=0.35, scale=0.08)
    """Of the efficiency ratio."""
    adx: Logistic = Logistic(weight=0.20, midpoint=25.0, scale=5.0)
    """Of the ADX."""
    ema_distance: Logistic = Logistic(weight=0.20, midpoint=1.5, scale=0.5)
    """Of abs(EMA 12 - EMA 50) / ATR."""
    variance_ratio_z: Logistic = Logistic(weight=0.15, midpoint=1.0, scale=0.7)
    """Of the z of the variance ratio over 4 bars."""
    swings_weight: Probability = 0.20
    """Share of the score when swing highs and lows both go the way of the EMAs; half of it for one."""


class ReversionScore(Model):
    """Parts of the mean reversion score M: .6 u(-ln half_life) u(-tau) + .4 u(-VR4 z)."""

    half_life_weight: Probability = 0.6
    """Share of the score for a short half-life that is sure."""
    half_life_midpoint_hours: Positive = 16.0
    """The half-life that counts half, hours."""
    half_life_scale: Positive = 0.4
    """How far ln(half-life) is from its midpoint where it counts 73 %."""
    tau_midpoint: float = 2.57
    """The -tau that counts half: the Dickey-Fuller statistic from which reversion is evidence."""
    tau_scale: Positive = 0.3
    """How far -tau is from its midpoint where it counts 73 %."""
    variance_ratio_z: Logistic = Logistic(weight=0.4, midpoint=0.0, scale=0.7)
    """Of -z of the variance ratio over 4 bars."""


class RangeScore(Model):
    """Parts of the range score I: .40 [inside] + .35 u(-expansion) + .25 u(-width percentile)."""

    inside_weight: Probability = 0.40
    """Share of the score while the close is inside the range."""
    expansion: Logistic = Logistic(weight=0.35, midpoint=-1.25, scale=0.1)
    """Of -(ATR expansion)."""
    width_percentile: Logistic = Logistic(weight=0.25, midpoint=-0.8, scale=0.1)
    """Of -(Bollinger width percentile)."""


class Logits(Model):
    """The four logits of the verdict; s = (M + I) / 2.

    RANGE_OK `range_slope` (s - `range_midpoint`) - `range_trend_slope` max(0, T - `range_trend_from`); RANGE_WEAK 0;
    TRANSITION `transition_slope` (T - `transition_midpoint`) + `transition_range_slope`
    (`transition_range_midpoint` - I);
    TREND `trend_slope` (T - `trend_midpoint`) + `trend_4h_slope` (T4h - `trend_4h_midpoint`).
    """

    range_slope: float = 6.0
    """RANGE_OK: how fast it rises with s."""
    range_midpoint: float = 0.55
    """RANGE_OK: the s at which it is as likely as RANGE_WEAK."""
    range_trend_slope: float = 6.0
    """RANGE_OK: how fast it falls with T."""
    range_trend_from: float = 0.35
    """RANGE_OK: the T from which it falls."""
    transition_slope: float = 6.0
    """TRANSITION: how fast it rises with T."""
    transition_midpoint: float = 0.42
    """TRANSITION: the T at which it is 0."""
    transition_range_slope: float = 4.0
    """TRANSITION: how fast it falls with I."""
    transition_range_midpoint: float = 0.6
    """TRANSITION: the I at which it is 0."""
    trend_slope: float = 9.0
    """TREND: how fast it rises with T."""
    trend_midpoint: float = 0.55
    """TREND: the T at which it is 0."""
    trend_4h_slope: float = 3.0
    """TREND: how fast it rises with T4h."""
    trend_4h_midpoint: float = 0.5
    """TREND: the T4h at which it is 0."""
    trend_4h_floor: Annotated[float, Field(description="Below this T4h a TREND is called TRANSITION.")] = 0.45


class Hysteresis(Model):
    """How fast the verdict moves: up on `up` raw verdicts above it in a row, down on `down` below it."""

    up: Annotated[int, Field(ge=1, le=96)] = 2
    """Raw verdicts in a row above the verdict, before it rises to the least dangerous of them."""
    down: Annotated[int, Field(ge=1, le=96)] = 4
    """Raw verdicts in a row below the verdict, before it falls to the most dangerous of them."""


class RegimeConfig(Model):
    """regime.yaml: every threshold of the verdict."""

    trend: TrendScore = TrendScore()
    reversion: ReversionScore = ReversionScore()
    range: RangeScore = RangeScore()
    logits: Logits = Logits()
    hysteresis: Hysteresis = Hysteresis()


# risk.yaml ------------------------------------------------------------------------------------------------------------


class VolatilityConfig(Model):
    """The volatility forecast: `weight_fast` of a fast and the rest of a slow EWMA of powers of 15-minute returns."""

    half_life_fast_hours: Annotated[int, Field(ge=1, le=168)] = 12
    """Half-life of the fast one, hours."""
    half_life_slow_hours: Annotated[int, Field(ge=1, le=168)] = 168
    """Half-life of the slow one, hours."""
    weight_fast: Probability = 0.5
    """Weight of the fast one."""
    power: Annotated[float, Field(ge=1, le=2)] = 1.75
    """The power of a return's size that is averaged: 2 is the variance, where a single jump weighs most; 1 the size."""
    weekend: Positive = 0.7
    """Standard deviation of a return on Saturdays and Sundays, UTC, as a share of other days'; 1 knows no weekend."""


class BreakScale(Model):
    """The factor k of the touch probability for two closes beyond a bound, by horizon."""

    h6: Positive = 0.66
    """Within 6 hours."""
    h12: Positive = 0.70
    """Within 12 hours."""
    h24: Positive = 0.74
    """Within 24 hours and longer."""


class StopScale(Model):
    """The factor k of the touch probability for the stop, by horizon."""

    h6: Positive = 0.83
    """Within 6 hours."""
    h12: Positive = 0.83
    """Within 12 hours."""
    h24: Positive = 0.84
    """Within 24 hours and longer."""


class TouchConfig(Model):
    """Calibration of the touch probabilities."""

    k_break: BreakScale = BreakScale()
    k_stop: StopScale = StopScale()


class StopLossRisk(Model):
    """From which probability of touching the stop within 24 h it is NEAR or CRITICAL."""

    near: Probability = 0.10
    """NEAR from here on."""
    critical: Probability = 0.30
    """CRITICAL from here on."""


class Giveback(Model):
    """What waiting may cost: the fall that is exceeded in 1 of 20 cases while the operator has not acted yet."""

    response_minutes: Annotated[int, Field(ge=1, le=1440)] = 60
    """How long the operator takes to act, minutes."""
    sigmas: Positive = 1.645
    """The fall, in standard deviations of the log price over that time."""


class CalibrationConfig(Model):
    """The check whether the touch probabilities came true."""

    days: Annotated[int, Field(ge=7, le=3650)] = 90
    """How far it looks back, days."""


class RiskConfig(Model):
    """risk.yaml: volatility, touch probabilities, and what waiting may cost."""

    vol: VolatilityConfig = VolatilityConfig()
    touch: TouchConfig = TouchConfig()
    stop_loss: StopLossRisk = StopLossRisk()
    giveback: Giveback = Giveback()
    calibration: CalibrationConfig = CalibrationConfig()


# exit.yaml ------------------------------------------------------------------------------------------------------------


class Confirm(Model):
    """The p_break_low_24h from which a soft trigger counts at a level (policy `confirmed`)."""

    mandatory: Probability = 0.70
    latest_acceptable_exit: Probability = 0.55
    warning: Probability = 0.36


class BreakLikely(Model):
    """p_break_low_24h at which BREAK_LIKELY goes on and off, by level."""

    warning_on: Probability = 0.38
    warning_off: Probability = 0.15
    latest_acceptable_exit_on: Probability = 0.75
    latest_acceptable_exit_off: Probability = 0.25

    @model_validator(mode="after")
    def _off_below_on(self) -> BreakLikely:
        for level in ("warning", "latest_acceptable_exit"):
            on, off = getattr(self, f"{level}_on"), getattr(self, f"{level}_off")
            if off > on:
                raise ValueError(
                    f"{level}_off: {off:g} is above {level}_on ({on:g}); a state must not end above its start"
                )
        return self


class Thresholds(Model):
    """When each trigger of the ladder fires."""

    closes_outside: Annotated[int, Field(ge=1, description="Consecutive 15m closes beyond a bound.")] = 2
    range_atr: Annotated[float, Field(ge=0, description="ATRs beyond the frozen range.")] = 0.5
    reversion_lost_factor: Positive = 2.0
    reversion_lost_floor_hours: Positive = 4.0
    volatility_expansion: Positive = 1.25
    transition_likely: Probability = 0.40
    confidence_fall: Probability = 0.10
    efficiency_rise: Probability = 0.05
    reversion_slowing_factor: Positive = 1.2
    reversion_slowing_floor_hours: Positive = 4.0
    soft_for_warning: Annotated[int, Field(ge=1, description="How many of the 'one of two' triggers.")] = 2
    break_likely: BreakLikely = BreakLikely()


class Persist(Model):
    """How long before the ladder moves: evaluations in a row."""

    on: Annotated[int, Field(ge=1, le=96)] = 1
    off_warning: Annotated[int, Field(ge=1, le=960)] = 8
    off_latest_acceptable_exit: Annotated[int, Field(ge=1, le=960)] = 16


class Literal_(Model):
    """Policy `literal`: the requirements' table as it stands."""

    min_families: Annotated[int, Field(ge=1, le=4, description="Families for a soft MANDATORY.")] = 1


class Blindness(Model):
    """Age of the newest known bar, in minutes, from which not seeing is a risk of its own."""

    hold_minutes: Annotated[int, Field(ge=15)] = 30
    warning_minutes: Annotated[int, Field(ge=15)] = 45
    latest_acceptable_exit_minutes: Annotated[int, Field(ge=15)] = 75

    @model_validator(mode="after")
    def _in_order(self) -> Blindness:
        if not self.hold_minutes <= self.warning_minutes <= self.latest_acceptable_exit_minutes:
            raise ValueError("hold_minutes, warning_minutes and latest_acceptable_exit_minutes must rise in this order")
        return self


class WindowMinutes(Model):
    """Minutes that the operator has to act, by state; MANDATORY_EXIT is now."""

    warning: Annotated[int, Field(ge=0)] = 240
    latest_acceptable_exit: Annotated[int, Field(ge=0)] = 60
    mandatory: Annotated[int, Field(ge=0)] = 0


class ExitConfig(Model):
    """exit.yaml: which policy decides, and every threshold of the ladder."""

    policy: Literal["confirmed", "literal"] = "confirmed"
    confirm: Confirm = Confirm()
    literal: Literal_ = Literal_()
    thresholds: Thresholds = Thresholds()
    persist: Persist = Persist()
    blindness: Blindness = Blindness()
    window_minutes: WindowMinutes = WindowMinutes()


# alerts.yaml ----------------------------------------------------------------------------------------------------------


class PushoverConfig(Model):
    """Pushover. Token and user key come from the environment: `PUSHOVER_TOKEN`, `PUSHOVER_USER`."""

    api_url: Address = "https://api.pushover.net/1/"
    timeout_seconds: Positive = 15.0
    emergency_retry_seconds: Annotated[int, Field(ge=30)] = 60
    emergency_expire_seconds: Annotated[int, Field(ge=30, le=10_800)] = 3_000


class SecretUrl(Model):
    """An address that may hold a password: only the name of the environment variable with it stands here."""

    url_env: VariableName
    """Variable with the address."""


class QuietHours(Model):
    """Local hours in which nothing but MANDATORY_EXIT makes a sound; most of the rest waits until they are over."""

    start: LocalTime
    """Beginning, like 22:00."""
    end: LocalTime
    """End, like 07:00; before the beginning it is on the next day."""


LIMITED = (
    "WARNING", "LATEST_ACCEPTABLE_EXIT", "REMINDER", "DEESCALATION", "ENTRY", "BLIND", "RECOVERED", "DIGEST", "FAILURE"
)  # fmt: skip
"""What may have a limit an hour: states of an escalation, and kinds of all else."""


class Budget(Model):
    """How many messages there may be: an operator who gets too many mutes them all."""

    monthly: Annotated[int, Field(ge=1)] = 1_000
    """Messages in a calendar month, UTC; Pushover sends 10,000 for nothing."""
    reserve: Annotated[int, Field(ge=0)] = 200
    """How many of them only MANDATORY_EXIT may use."""
    per_hour: dict[str, Annotated[int, Field(ge=0)]] = {
        "WARNING": 10,
        "LATEST_ACCEPTABLE_EXIT": 20,
        "REMINDER": 10,
        "DEESCALATION": 10,
        "ENTRY": 6,
        "BLIND": 10,
        "RECOVERED": 10,
        "FAILURE": 4,
    }
    """At most so many in an hour, by state of an escalation, by kind of all else; MANDATORY_EXIT has no limit."""

    @model_validator(mode="after")
    def _can_work(self) -> Budget:
        if self.reserve > self.monthly:
            raise ValueError(f"reserve: {self.reserve} is more than the {self.monthly} messages of a month")
        for name in self.per_hour:
            if name not in LIMITED:
                raise ValueError(f"per_hour: {name!r} has no limit{_did_you_mean(name, set(LIMITED))}")
        return self


class AlertsConfig(Model):
    """alerts.yaml: what is news, how often it is said again, and where."""

    max_age_minutes: Annotated[int, Field(ge=15, description="An older bar is no news.")] = 45
    blind_after_minutes: Annotated[int, Field(ge=15, description="Without a fresh state for so long: BLIND.")] = 45
    reminder_minutes: Annotated[
        tuple[Annotated[int, Field(ge=1)], ...],
        Field(min_length=1, description="After the alert; then again every last of them."),
    ] = (30, 60, 120, 240)
    warning_repeat_minutes: Annotated[int, Field(ge=15, description="At most one WARNING a grid in this time.")] = 240
    entry_repeat_minutes: Annotated[int, Field(ge=15, description="At most one entry message a grid.")] = 240
    link: Annotated[str | None, Field(description="Address of the Dagster UI, as the operator's phone reaches it.")] = (
        None
    )
    timezone: str = "UTC"
    """The operator's time zone, like Europe/Berlin, for the quiet hours and the digest."""
    quiet_hours: QuietHours | None = None
    """`{start: "22:00", end: "07:00"}`: local hours in which only MANDATORY_EXIT makes a sound; null: none."""
    digest_at: LocalTime | None = None
    """Local time of a daily summary, like 08:00; null: none."""
    budget: Budget = Budget()
    pushover: PushoverConfig = PushoverConfig()
    apprise: tuple[SecretUrl, ...] = ()
    """Second channels, `[{url_env: NAME}]`, each an address as apprise writes it."""
    heartbeat: SecretUrl | None = None
    """`{url_env: NAME}`: an address that is called at the end of each tick, for a watcher outside; null: none."""

    @field_validator("timezone")
    @classmethod
    def _is_known(cls, name: str) -> str:
        if name not in available_timezones():
            raise ValueError(f"{name!r} is no time zone; write it like Europe/Berlin")
        return name


# history.yaml ---------------------------------------------------------------------------------------------------------


class MirrorConfig(Model):
    """The git repository of snapshots. Credentials of the remote belong to git's own configuration."""

    remote: Annotated[Address | None, Field(description="Where snapshots are pushed; none: they stay here.")] = None
    branch: str = "main"
    balances: bool = False
    """Whether what an account holds is written into the snapshots; without it they tell what is modelled."""


class HistoryConfig(Model):
    """history.yaml: how much is kept and fetched."""

    keep_snapshots_days: Annotated[int, Field(ge=1, description="How far back time travel reaches.")] = 30
    keep_runs_days: Annotated[
        int,
        Field(
            ge=1,
            description="How long Dagster keeps every run; the newest successful one of each job, partition and check "
            "is always kept. A day of ticks takes about 90 MB.",
        ),
    ] = 1
    keep_failed_runs_days: Annotated[
        int, Field(ge=1, description="How long Dagster keeps failed runs, of each job the newest fifty at most.")
    ] = 14
    catch_up_days: Annotated[
        int,
        Field(
            ge=1,
            le=60,
            description="How far back a tick puts right what is missing or stale; between ticks, older days.",
        ),
    ] = 3
    mirror: MirrorConfig = MirrorConfig()
    catalog: SecretUrl | None = None
    """`{url_env: NAME}`: address of a PostgreSQL database as the lake's catalogue; null: SQLite beside the data."""


# grids/*.yaml ---------------------------------------------------------------------------------------------------------


class Fees(Model):
    """Fees as fractions; 0.001 is 0.1 %."""

    maker: Annotated[float, Field(ge=0, lt=0.1)] = 0.001
    taker: Annotated[float, Field(ge=0, lt=0.1)] = 0.001
    paid_in: FeeCurrency = "quote"
    slippage: Annotated[
        float, Field(ge=0, lt=0.1, description="What a market order loses against the price, fraction.")
    ] = 0.0005


class GridConfig(Model):
    """One grid. Changing a bound, level or stop makes it a new episode: give it a new `activated_at`."""

    id: Name
    symbol: Symbol
    enabled: Annotated[bool, Field(description="A disabled grid gets an entry assessment, never an exit alert.")] = True
    activated_at: Annotated[
        UtcTime, Field(description="When it began to trade; for a disabled grid, since when it is watched.")
    ]
    lower: Annotated[float, Field(gt=0, description="Lower bound, quote currency.")]
    upper: Annotated[float, Field(gt=0, description="Upper bound, quote currency.")]
    levels: Annotated[
        int, Field(ge=2, le=1000, description="As the exchange shows it; level_convention says what it counts.")
    ]
    level_convention: LevelConvention = "intervals"
    spacing: Spacing = "arithmetic"
    stop: Annotated[float, Field(gt=0, description="Stop price, below the lower bound.")]
    capital: Annotated[float, Field(gt=0, description="Quote currency.")]
    fees: Fees = Fees()

    @property
    def first_as_of(self) -> datetime:
        """The first evaluation of the episode: the first bar that closes at or after the activation."""
        return ceil_bar(self.activated_at)

    @model_validator(mode="after")
    def _can_work(self) -> GridConfig:
        if self.id == "all":
            raise ValueError("id: 'all' names every grid together; choose another")
        if self.upper <= self.lower:
            raise ValueError(f"upper: {self.upper:g} is not above lower ({self.lower:g})")
        if self.stop >= self.lower:
            raise ValueError(f"stop: {self.stop:g} is not below lower ({self.lower:g}); a stop lies under the grid")
        worst = worst_step_ratio(prices(self.lower, self.upper, self.levels, self.level_convention, self.spacing))
        needed = break_even_ratio(self.fees.maker, self.fees.paid_in)
        if worst <= needed:
            raise ValueError(
                f"levels: {self.levels} make the smallest step {100 * (worst - 1):.3f} %, and the fees need more than "
                f"{100 * (needed - 1):.3f} %; use fewer levels or wider bounds"
            )
        return self


# the whole ------------------------------------------------------------------------------------------------------------


class EvaluationConfig(Model):
    """The grids that signals are judged on: one is opened every day on every market, whatever the signals say."""

    life_days: Annotated[int, Field(ge=1, le=60, description="How long a grid is held when nothing ends it.")] = 14
    stop: Annotated[
        float, Field(gt=0, lt=1, description="How far below the lower bound the stop lies, fraction of the bound.")
    ] = 0.03
    fees: Fees = Fees()
    """What it pays."""
    window_days: Annotated[
        int, Field(ge=28, le=3650, description="How far back the monthly judgement reaches, days.")
    ] = 365


class Config(Model):
    """All of it, cross-checked."""

    markets: MarketsConfig
    regime: RegimeConfig = RegimeConfig()
    risk: RiskConfig = RiskConfig()
    exit: ExitConfig = ExitConfig()
    alerts: AlertsConfig = AlertsConfig()
    history: HistoryConfig = HistoryConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    grids: tuple[GridConfig, ...] = ()

    @property
    def symbols(self) -> list[str]:
        """Every watched symbol, in the order of the file."""
        return [market.symbol for market in self.markets.markets]

    def venue_of(self, symbol: str) -> tuple[str, CcxtVenue | RecordedVenue | SimulatedVenue]:
        """Name and configuration of the venue that a symbol trades on."""
        name = next(market.venue for market in self.markets.markets if market.symbol == symbol)
        return name, self.markets.venues[name]

    def grids_on(self, symbol: str) -> list[GridConfig]:
        """The grids on one symbol."""
        return [grid for grid in self.grids if grid.symbol == symbol]

    def source_of(self, symbol: str) -> str:
        """Where a market's candles come from; see sources.py."""
        return sources.source_of(*self.venue_of(symbol))

    def hash_of(self, table: str, symbol: str, grid: GridConfig | None = None) -> str:
        """12 hex digits over the keys that change the values of a table's rows: no address, no path, no order.

        A table's hash covers what the tables before it in the chain depend on.
        """
        venue = self.venue_of(symbol)[1]
        parts: dict[str, Any] = {
            "venue": sources.hashed(venue),
            "max_no_trade": self.markets.candles.max_no_trade,
        }
        if table != "candles":
            parts["vol"] = _plain(self.risk.vol)
        if table not in ("candles", "regime_features"):
            parts["regime"] = _plain(self.regime)
        if grid is not None:
            parts["grid"] = _plain(grid)
            parts["risk"] = self._risk()
        if table == "exit_state":
            parts["exit"] = _plain(self.exit)
        return sources.digest(parts)

    def hash_of_quality(self) -> str:
        """Likewise over the keys that change the rows of `signal_quality`, which are of all markets together."""
        markets = {symbol: self.hash_of("regime_verdict", symbol) for symbol in self.symbols}
        parts = {"markets": markets, "exit": _plain(self.exit), "evaluation": _plain(self.evaluation)}
        return sources.digest({**parts, "risk": self._risk()})

    def _risk(self) -> dict[str, Any]:
        # How far a check looks back changes no row.
        return {key: value for key, value in _plain(self.risk).items() if key != "calibration"}


def _plain(model: Model) -> dict[str, Any]:
    return model.model_dump(mode="json")


FILES: dict[str, type[Model]] = {
    "markets": MarketsConfig,
    "regime": RegimeConfig,
    "risk": RiskConfig,
    "exit": ExitConfig,
    "alerts": AlertsConfig,
    "history": HistoryConfig,
    "evaluation": EvaluationConfig,
}

M = TypeVar("M", bound=Model)


@dataclass(frozen=True)
class Reading:
    """What a configuration folder says at one moment.

    Attributes:
        config: all of it, cross-checked.
        files: names of the files that are there, without `.yaml`; the grids are not among them.
    """

    config: Config
    files: frozenset[str]


def load(folder: Path) -> Config:
    """Reads and cross-checks one configuration folder.

    Raises:
        ConfigError: with one line that names file, key, value and remedy.
    """
    return read(folder).config


def read(folder: Path) -> Reading:
    """Reads and cross-checks one configuration folder, and says which files there were.

    Raises:
        ConfigError: whatever is wrong with it, in one line that names file, key, value and remedy.
    """
    with foreseen(folder):
        names = {f"{name}.yaml": name for name in FILES}
        contents = read_folder(folder, names)
        tops = {path: content for path, content in contents.items() if path.parent == folder}
        for path in tops:
            if path.name not in names:
                raise ConfigError(f"{path}: no such configuration file{_did_you_mean(path.name, {*names, 'grids'})}")
        if folder / "markets.yaml" not in tops:
            raise ConfigError(f"{folder / 'markets.yaml'}: is missing; it names the venues and the markets to watch")
        parts: dict[str, Any] = {
            names[path.name]: _model(path, content, FILES[names[path.name]]) for path, content in tops.items()
        }
        grids = {path: _model(path, content, GridConfig) for path, content in contents.items() if path not in tops}
        config = Config(**parts, grids=tuple(sorted(grids.values(), key=lambda grid: grid.id)))
        _cross_check(config, folder, grids)
        return Reading(config, frozenset(parts))


def _model(path: Path, content: bytes, model: type[M]) -> M:
    """A file as a model of ours.

    Raises:
        ConfigError: it does not fit, or is empty: nobody wishes for defaults by saying nothing.
    """
    values = parse(path, content)
    if values is None:
        required = any(field.is_required() for field in model.model_fields.values())
        raise ConfigError(f"{path}: is empty; {'write its keys into it' if required else _FOR_DEFAULTS}")
    with foreseen(path):
        try:
            return model.model_validate(values)
        except ValidationError as error:
            raise ConfigError(f"{path}: {_first_error(error, model)}") from None


_FOR_DEFAULTS = "write `{}` into it to have the defaults"


def _first_error(error: ValidationError, model: type[Model]) -> str:
    """The first of pydantic's errors as `key: value: what would be right`; how many follow."""
    # A misspelt key also makes the right one missing: the misspelling is the better news.
    errors = sorted(error.errors(), key=lambda one: one["type"] != "extra_forbidden")
    first = errors[0]
    key = ".".join(str(part) for part in first["loc"])
    message = first["msg"].removeprefix("Value error, ")
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    if first["type"] == "extra_forbidden":
        hint = _did_you_mean(str(first["loc"][-1]), _keys_at(model, first["loc"][:-1]))
        return f"{key}: unknown key{hint}{more}"
    if first["type"] == "missing":
        return f"{key}: is missing{more}"
    if not key:
        return f"{message}{more}"
    # Who writes a secret where its variable's name belongs must not find it in a log.
    hidden = key.endswith("_env")
    shown = "***" if hidden else _CREDENTIALS.sub("***@", repr(first["input"]))
    return f"{key}: {shown:.80} is wrong: {message}{more}"


def _keys_at(model: type[Model], where: tuple[int | str, ...]) -> set[str]:
    """The keys that are known at a place: exact for nested models, empty where a union or a list is in between."""
    for part in where:
        field = model.model_fields.get(str(part))
        if field is None or not (isinstance(field.annotation, type) and issubclass(field.annotation, Model)):
            return set()
        model = field.annotation
    return set(model.model_fields)


def _did_you_mean(word: str, known: set[str] | list[str]) -> str:
    close = difflib.get_close_matches(word, sorted(known), n=1, cutoff=0.5)
    if close:
        return f"; did you mean {close[0]}?"
    return f"; known here: {', '.join(sorted(known))}" if known else ""


def _cross_check(config: Config, folder: Path, grids: Mapping[Path, GridConfig]) -> None:
    for index, market in enumerate(config.markets.markets):
        if market.venue not in config.markets.venues:
            raise ConfigError(
                f"{folder / 'markets.yaml'}: markets.{index}.venue: {market.venue!r} is no venue of this file"
                f"{_did_you_mean(market.venue, set(config.markets.venues))}"
            )
    for symbol in _repeated(config.symbols):
        raise ConfigError(f"{folder / 'markets.yaml'}: markets: {symbol} is given twice; keep one")
    by_id: dict[str, Path] = {}
    for path, grid in grids.items():
        if grid.symbol not in config.symbols:
            raise ConfigError(
                f"{path}: symbol: {grid.symbol!r} is not in markets.yaml{_did_you_mean(grid.symbol, config.symbols)}"
            )
        if grid.id in by_id:
            raise ConfigError(f"{path}: id: {grid.id!r} is already the id of {by_id[grid.id].name}; choose another")
        if grid.activated_at > LAST_DAY:
            raise ConfigError(f"{path}: activated_at: {iso(grid.activated_at)} is after {iso(LAST_DAY)}; mend the year")
        if grid.activated_at < FIRST_DAY:
            raise ConfigError(
                f"{path}: activated_at: {iso(grid.activated_at)} is before {iso(FIRST_DAY)}, where history begins"
            )
        by_id[grid.id] = path


def _repeated(values: list[str]) -> Iterator[str]:
    seen: set[str] = set()
    for value in values:
        if value in seen:
            yield value
        seen.add(value)


# the reference --------------------------------------------------------------------------------------------------------


def reference() -> str:
    """Every key of every file with its default and meaning, as Markdown: docs/configuration.md."""
    lines = [
        "# Configuration",
        "",
        "Written by `make docs` from the models in `mm_dagster/config/`. A folder of these files is chosen by",
        "`MM_CONFIG_DIR` (default `configs/demo`); all but `markets.yaml` may be left out. Unknown keys are refused.",
        "Dots are nesting: `confirm.warning` is `confirm: {warning: ...}`.",
        "",
        "The folder is read at every run. Hidden files, and what is no regular file, are none of ours; a link to a",
        "file is read. Whatever is wrong with a file is said in one line, and the last valid configuration stays in",
        "force. An empty file is refused, and a file that vanished keeps what it said: `{}` in it is the wish for",
        "the defaults. An enabled grid whose file (or market) vanished stays watched as it was until a file with its",
        "`id` is back, that file says `enabled: false`, or `mm respond ID stopped` answers. A file is YAML 1.2 in its",
        "plain words (22:00 is a time, `on` a word), UTF-8, up to 128 KiB.",
    ]
    venues: dict[str, type[Model]] = {
        f"A venue of markets.yaml, kind {kind}": model
        for kind, model in (("ccxt", CcxtVenue), ("recorded", RecordedVenue), ("simulated", SimulatedVenue))
    }
    files: dict[str, type[Model]] = {f"{name}.yaml": model for name, model in FILES.items()}
    sections: dict[str, type[Model]] = {**files, "grids/*.yaml": GridConfig, **venues}
    for title, model in sections.items():
        lines += ["", f"## {title}", "", _text(model), "", "| key | default | meaning |", "| --- | --- | --- |"]
        lines += [f"| `{key}` | {default} | {meaning} |" for key, default, meaning in _keys(model, "")]
    return "\n".join(lines) + "\n"


def _keys(model: type[Model], prefix: str, defaults: Model | None = None) -> Iterator[tuple[str, str, str]]:
    """Key, default and meaning of every key below a model; a nested model's own words stand at its first key."""
    for name, field in model.model_fields.items():
        annotation = field.annotation
        if isinstance(annotation, type) and issubclass(annotation, Model):
            nested = getattr(defaults, name) if defaults is not None else field.default
            for place, (key, default, meaning) in enumerate(_keys(annotation, f"{prefix}{name}.", nested)):
                first = f"{field.description or ''} {meaning} {_text(annotation)}".strip()
                yield key, default, meaning if place else first
            continue
        value = getattr(defaults, name) if defaults is not None else field.default
        default = f"`{json.dumps(value)}`" if defaults is not None or not field.is_required() else "required"
        choices = [str(choice) for choice in get_args(annotation)] if get_origin(annotation) is Literal else []
        meaning = (field.description or "") + (f" One of {', '.join(choices)}." if choices else "")
        yield f"{prefix}{name}", default, meaning.strip()


def _text(model: type[Model]) -> str:
    return " ".join((model.__doc__ or "").split())
