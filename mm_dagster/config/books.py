"""books.yaml: whose order books `mm record` records, how long they are kept, and what is made of them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from mm_dagster.config.model import Model, Symbol

Exchange = Literal["kucoin", "binance", "binance_usdm", "kraken"]

EXCHANGES: tuple[Exchange, ...] = ("kucoin", "binance", "binance_usdm", "kraken")
KRAKEN_DEPTHS = (10, 25, 100, 500, 1000)
"""Levels of a side that Kraken may be asked for; the other exchanges are asked for all that they show."""


def _kraken_depth(value: int) -> int:
    if value not in KRAKEN_DEPTHS:
        raise ValueError(f"must be one of {', '.join(map(str, KRAKEN_DEPTHS))}")
    return value


class Feed(Model):
    """Markets of one exchange; they share its connections."""

    exchange: Exchange
    """`kucoin` and `binance` are spot, `binance_usdm` the USDT perpetuals of Binance, `kraken` spot."""
    markets: Annotated[tuple[Symbol, ...], Field(min_length=1)]
    """Like ETH-USDT; they need not be in markets.yaml."""
    kraken_depth: Annotated[int, AfterValidator(_kraken_depth)] = 100
    """Levels of a side that Kraken is asked for: 10, 25, 100, 500 or 1000."""
    api_url: str | None = None
    """Where the exchange's requests are answered; null: its public address."""
    socket_url: str | None = None
    """Where its socket is; null: its public address, or what it says itself."""


class LeadPair(Model):
    """A spot market and the perpetual that may move before it."""

    spot: str
    """Like `binance:ETH-USDT`, one of the feeds."""
    perpetual: str
    """Like `binance_usdm:ETH-USDT`, one of the feeds."""


class BooksConfig(Model):
    """books.yaml: the recorder of order books. Off by default; no decision reads any of it."""

    record: bool = False
    """Whether `mm record` may run, and whether anybody is told when it does not."""
    feeds: tuple[Feed, ...] = ()
    """By exchange: `{exchange: kucoin, markets: [ETH-USDT]}`."""
    lead: tuple[LeadPair, ...] = ()
    """Which perpetual is measured against which spot market: `{spot: "binance:ETH-USDT", perpetual: ...}`."""
    levels: Annotated[int, Field(ge=1, le=50)] = 5
    """Best levels of a side that the imbalance of several levels is over."""
    log_days: Annotated[float, Field(gt=0, le=365)] = 2.0
    """Days that the log is kept once a segment has all of it."""
    segment_days: Annotated[float, Field(gt=0, le=3650)] = 180.0
    """Days that segments are kept."""
    free_gib: Annotated[float, Field(ge=0)] = 5.0
    """What is to stay free on the disk, GiB: below it the oldest sealed logs and segments go first, and then nothing
    more is written."""
    silent_seconds: Annotated[float, Field(ge=5, le=3600)] = 30.0
    """After so long without a word of the recorder, or with a problem that it names, somebody is told. A quiet market
    is no problem."""

    @model_validator(mode="after")
    def _possible(self) -> BooksConfig:
        if self.record and not self.feeds:
            raise ValueError("feeds is missing: with record, say which markets")
        named = [f"{feed.exchange}:{market}" for feed in self.feeds for market in feed.markets]
        twice = sorted({name for name in named if named.count(name) > 1})
        if twice:
            raise ValueError(f"feeds: {twice[0]} is given twice; keep one")
        for pair in self.lead:
            for name in (pair.spot, pair.perpetual):
                if name not in named:
                    raise ValueError(f"lead: {name!r} is none of the feeds: {', '.join(named) or 'there are none'}")
        return self

    @property
    def recorded(self) -> tuple[tuple[Exchange, str], ...]:
        """Exchange and symbol of each market that is recorded."""
        return tuple((feed.exchange, market) for feed in self.feeds for market in feed.markets)

    def records(self, exchange: str, symbol: str) -> bool:
        """Whether a market is recorded at all."""
        return self.record and (exchange, symbol) in self.recorded
