"""The whole configuration, cross-checked, and the hashes of what changes a table's rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from mm_dagster.config import sources
from mm_dagster.config.alerts import AlertsConfig
from mm_dagster.config.books import BooksConfig
from mm_dagster.config.evaluation import EvaluationConfig
from mm_dagster.config.exit import ExitConfig
from mm_dagster.config.grid import GridConfig
from mm_dagster.config.history import HistoryConfig
from mm_dagster.config.makers import MakersConfig
from mm_dagster.config.markets import CcxtVenue, MarketsConfig, RecordedVenue, SimulatedVenue
from mm_dagster.config.model import Model
from mm_dagster.config.orders import OrdersConfig
from mm_dagster.config.portfolio import PortfolioConfig
from mm_dagster.config.regime import RegimeConfig
from mm_dagster.config.risk import RiskConfig
from mm_dagster.config.strategies import StrategiesConfig
from mm_dagster.tables.registry import STAGES, settings


@dataclass(frozen=True)
class Market:
    """A watched market and the venue that it trades on.

    Attributes:
        symbol: like ETH-USDT.
        venue: the name of the venue in markets.yaml.
        settings: the venue's settings there.
    """

    symbol: str
    venue: str
    settings: CcxtVenue | RecordedVenue | SimulatedVenue

    @property
    def source(self) -> str:
        """Where its candles come from, as each row says it; see sources.py."""
        return sources.source_of(self.venue, self.settings)

    @property
    def kind(self) -> str:
        """ccxt, recorded or simulated."""
        return self.settings.kind

    @property
    def is_real(self) -> bool:
        """Whether it is an exchange's: only what is said of such a one may reach a channel."""
        return self.kind == "ccxt"

    @property
    def is_simulated(self) -> bool:
        """Whether it is synthetic."""
        return self.kind == "simulated"

    @property
    def label(self) -> str:
        """What stands before every title about it: of a synthetic market all that is said must say so."""
        return SIMULATED if self.is_simulated else ""


SIMULATED = "SIMULATED · "
"""What stands before a title about a synthetic market."""


class Config(Model):
    """All of it, cross-checked."""

    markets: MarketsConfig
    regime: RegimeConfig = RegimeConfig()
    risk: RiskConfig = RiskConfig()
    exit: ExitConfig = ExitConfig()
    alerts: AlertsConfig = AlertsConfig()
    history: HistoryConfig = HistoryConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    portfolio: PortfolioConfig = PortfolioConfig()
    orders: OrdersConfig = OrdersConfig()
    books: BooksConfig = BooksConfig()
    strategies: StrategiesConfig = StrategiesConfig()
    makers: MakersConfig = MakersConfig()
    grids: tuple[GridConfig, ...] = ()

    @property
    def symbols(self) -> list[str]:
        """Every watched symbol, in the order of the file."""
        return [market.symbol for market in self.markets.markets]

    def market(self, symbol: str) -> Market:
        """A watched market, and the venue that it trades on.

        Raises:
            KeyError: it is not watched.
        """
        return _by_symbol(_This(self.markets))[symbol]

    @property
    def watched(self) -> list[Market]:
        """Every watched market, in the order of the file."""
        return list(_by_symbol(_This(self.markets)).values())

    @property
    def kind(self) -> str:
        """The kind of what concerns no single market: one real market makes it real."""
        kinds = {market.kind for market in self.watched}
        return next(kind for kind in ("ccxt", "recorded", "simulated") if kind in kinds)

    @property
    def is_simulated(self) -> bool:
        """Whether there is no other market than synthetic ones."""
        return self.kind == "simulated"

    @property
    def is_real(self) -> bool:
        """Whether there is a market of an exchange."""
        return self.kind == "ccxt"

    def in_portfolio(self, symbol: str) -> bool:
        """Whether what happens on a market is added up with the others': of the kind of most consequence alone.

        Simulated money is never added to real.
        """
        return self.market(symbol).kind == self.kind

    def grids_on(self, symbol: str) -> list[GridConfig]:
        """The grids on one symbol."""
        return list(_grids_by_symbol(_This(self.grids)).get(symbol, ()))

    def hash_of(self, table: str, symbol: str, grid: GridConfig | None = None) -> str:
        """12 hex digits over the keys that change the values of a table's rows: no address, no path, no order.

        A table's hash covers what the tables before it depend on; see `tables/stages.py`.
        """
        return sources.digest(
            {path.rpartition(".")[2]: self._value(path, symbol, grid, table) for path in settings(table)}
        )

    def hash_of_quality(self) -> str:
        """Likewise over the keys that change the rows of `signal_quality`, which are of all markets together."""
        markets = {symbol: self.hash_of("regime_verdict", symbol) for symbol in self.symbols}
        own = {path: _plain(getattr(self, path), "signal_quality") for path in STAGES["signal_quality"].settings}
        return sources.digest({"markets": markets, **own})

    def hash_of_portfolio(self, members: Sequence[Sequence[str]]) -> str:
        """Likewise of the rows about all grids together: how they are added up, and the hashes of what is.

        Args:
            members: what tells each row of `grid_risk` from one that another configuration or code made.
        """
        return sources.digest({"portfolio": self.portfolio.model_dump(mode="json"), "members": members})

    def _value(self, path: str, symbol: str, grid: GridConfig | None, table: str) -> Any:
        if path == "venue":
            return sources.hashed(self.market(symbol).settings)
        value: Any = grid if path == "grid" else self
        for name in path.split(".") if path != "grid" else ():
            value = getattr(value, name)
        return _plain(value, table) if isinstance(value, Model) else value


def _plain(model: Model, table: str) -> dict[str, Any]:
    """What of a model changes rows of a table."""
    left_out = {name for name, value in model if isinstance(value, Model) and not _changes(value, table)}
    left_out |= {name for name in model.hashed_when_given if getattr(model, name) is None}
    return model.model_dump(mode="json", exclude=left_out)


def _changes(model: Model, table: str) -> bool:
    return not model.only_for_checks and (model.only_for_tables is None or table in model.only_for_tables)


class _This:
    """One object and no other that is equal to it: what was looked up of it is kept without comparing it."""

    def __init__(self, of: Any) -> None:
        self.of = of

    def __hash__(self) -> int:
        return id(self.of)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _This) and self.of is other.of


@lru_cache(maxsize=8)
def _by_symbol(markets: _This) -> dict[str, Market]:
    """Each watched market, in the order of the file; stages ask for each of 500 in turn."""
    venues = markets.of.venues
    return {one.symbol: Market(one.symbol, one.venue, venues[one.venue]) for one in markets.of.markets}


@lru_cache(maxsize=8)
def _grids_by_symbol(grids: _This) -> dict[str, list[GridConfig]]:
    """The grids on each market."""
    found: dict[str, list[GridConfig]] = {}
    for grid in grids.of:
        found.setdefault(grid.symbol, []).append(grid)
    return found
