"""markets.yaml: venues, the markets on them, and how candles are read."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from mm_dagster.bars import DAY_BARS
from mm_dagster.config.model import Address, Model, Name, Positive, Symbol, VariableName

BOT_EXCHANGES = ("okx", "myokx", "okxus", "bitget", "bybit")
"""ccxt's names of the exchanges whose grid bots a key can read; a key of one site of OKX is unknown at the others."""


class AccountKeys(Model):
    """Names of the environment variables that hold a read-only API key."""

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
    proxy: Address | None = None
    """Address of a proxy for its requests; `none`: none; null: that of the environment (HTTPS_PROXY, NO_PROXY)."""
    account: AccountKeys | None = None
    """Variables of a read-only key: `{key_env: A, secret_env: B, passphrase_env: C}`; null: positions are modelled."""

    def within(self, seconds: float) -> CcxtVenue:
        """The same venue for somebody who does not wait longer for an answer."""
        return self.model_copy(update={"timeout_seconds": min(self.timeout_seconds, seconds)})


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
    deadline_seconds: Annotated[
        float, Field(ge=1, le=3600, description="How long all that is asked of one market may take.")
    ] = 300.0


class TickConfig(Model):
    """How a tick of many markets becomes several runs."""

    markets_a_run: Annotated[
        int, Field(ge=1, le=10_000, description="More markets are worked on in groups, each a run of its own.")
    ] = 100
    wait_seconds: Annotated[
        int,
        Field(ge=30, le=840, description="How long what needs all markets waits for the slowest group of a tick."),
    ] = 300


class MarketsConfig(Model):
    """markets.yaml: venues, the markets on them, and how candles are read."""

    venues: Annotated[dict[Name, VenueConfig], Field(min_length=1, description="By a name of your own; see below.")]
    markets: Annotated[list[MarketConfig], Field(min_length=1, description="Each with `symbol` and `venue`.")]
    candles: CandlesConfig = CandlesConfig()
    tick: TickConfig = TickConfig()
