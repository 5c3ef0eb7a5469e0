"""A lake from before rows carried their source: they get the one that is proven, or the run is refused."""

from mm_dagster.config.errors import ConfigError
from mm_dagster.config.sources import hashed, proven
from mm_dagster.config.whole import Config
from mm_dagster.history.lake import Lake
from mm_dagster.history.sources import Sources
from mm_dagster.market.names import exchange_names


def adopt_rows(lake: Lake, config: Config) -> None:
    """Gives the rows of the markets in force that lack a source the one in force, where their candles prove it.

    Args:
        lake: the whole lake.
        config: the configuration in force.

    Raises:
        ConfigError: the candles of a market came from another venue, or it cannot be told from where.
    """
    old = lake.sql(
        "SELECT symbol, venue, config_hash, count(*) AS bars FROM candles WHERE source IS NULL "
        "GROUP BY ALL ORDER BY ALL"
    )
    rows = [row for row in old.iter_rows(named=True) if row["symbol"] in config.symbols]
    for row in rows:
        _refuse_another(row["symbol"], row["venue"], row["config_hash"], row["bars"], config)
    symbols = {row["symbol"] for row in rows}
    if symbols:
        venues = {config.market(symbol).venue: config.market(symbol).source for symbol in symbols}
        lake.adopt(Sources({symbol: config.market(symbol).source for symbol in symbols}, venues))


def _refuse_another(symbol: str, venue: str, config_hash: str, bars: int, config: Config) -> None:
    market = config.market(symbol)
    own = hashed(market.settings)
    # The one in force is tried first, since the names of all exchanges take a second to load.
    said = proven(config_hash, [own["exchange"]] if own["exchange"] else [])
    if said is None:
        said = proven(config_hash, exchange_names())
    in_force = f"ccxt:{own['exchange']}" if own["exchange"] else market.kind
    if said == in_force == "simulated":
        return
    if venue == market.venue and in_force != "simulated" and said in (in_force, None):
        return
    was = f"venue {venue!r}" if said is None else f"{said} (venue {venue!r})"
    raise ConfigError(
        f"{symbol}: {bars} stored candles are from {was}, and markets.yaml now says {market.source} "
        f"(venue {market.venue!r}); name another folder in MM_DATA_DIR for it, or put back the venue that wrote them"
    )
