"""Opens a venue as its settings say: an exchange, a recording, or the simulated market."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from mm_dagster.config.markets import CcxtVenue, RecordedVenue, SimulatedVenue
from mm_dagster.market.venue import FIRST_CONTACT_SECONDS, Venue


def open_venue(
    name: str,
    config: CcxtVenue | RecordedVenue | SimulatedVenue,
    folder: Path,
    markets: Sequence[str] = (),
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
    *,
    hurried: bool = False,
) -> Venue:
    """The venue that a configuration describes.

    Args:
        name: its name in markets.yaml.
        config: its settings there.
        folder: the configuration folder, which relative paths start from.
        markets: those that are watched on it.
        now: the time of a simulated market.
        hurried: whether a person waits to hear that it is there at all.

    Raises:
        VenueError: it cannot be used as configured.
    """
    # Imported here because ccxt takes a second to load, and a simulated or recorded market never needs it.
    if isinstance(config, CcxtVenue):
        from mm_dagster.market.connection import FIRST_CONTACT
        from mm_dagster.market.exchange import ExchangeVenue

        if hurried:
            return ExchangeVenue(name, config.within(FIRST_CONTACT_SECONDS), retry=FIRST_CONTACT, markets=markets)
        return ExchangeVenue(name, config, markets=markets)
    if isinstance(config, RecordedVenue):
        from mm_dagster.market.recorded import RecordedMarket

        return RecordedMarket(name, config, folder)
    from mm_dagster.market.simulated import SimulatedMarket

    return SimulatedMarket(name, now)
