"""Where candles come from, as one word that each row carries: no path, no address. Data in, data out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Protocol

GENERATOR = "1"
"""Version of the simulated market: raise it whenever market/simulated.py gives other prices."""

_MOST_NO_TRADE = 96


class Settings(Protocol):
    """What of a venue's settings in markets.yaml makes its identity."""

    @property
    def kind(self) -> str:
        """ccxt, recorded or simulated."""


def source_of(venue: str, settings: Settings) -> str:
    """The identity of a venue: `ccxt:kucoin`, `recorded:NAME` or `simulated:VERSION`.

    Args:
        venue: its name in markets.yaml; of an exchange it does not count.
        settings: its settings there.
    """
    if settings.kind == "ccxt":
        return f"ccxt:{getattr(settings, 'exchange', None)}"
    return f"recorded:{venue}" if settings.kind == "recorded" else f"simulated:{GENERATOR}"


def kind_of(source: str) -> str:
    """ccxt, recorded or simulated."""
    return source.partition(":")[0]


def is_real(source: str) -> bool:
    """Whether what is said of such a market may reach a person's phone: only an exchange's may."""
    return kind_of(source) == "ccxt"


def digest(parts: object) -> str:
    """12 hex digits over what makes a row stale."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:12]


def hashed(settings: Settings) -> dict[str, str | None]:
    """What of a venue goes into the hashes.

    The same as before rows carried their source, so that a history of exchanges stays in force. The name of a
    recording is not in it: rows of another source are never read in the first place.
    """
    parts: dict[str, str | None] = {"kind": settings.kind, "exchange": getattr(settings, "exchange", None)}
    if settings.kind == "simulated" and GENERATOR != "1":
        parts["generator"] = GENERATOR
    return parts


def proven(config_hash: str, exchanges: Iterable[str]) -> str | None:
    """What a candle's hash says of a row that carries no source: `ccxt:kucoin`, `recorded` or `simulated`.

    A candle was hashed over its venue's kind and exchange and over `max_no_trade`, which are few enough to try.

    Args:
        config_hash: of the candle.
        exchanges: the names that an exchange may have.

    Returns:
        None where no venue gives that hash.
    """
    kinds: list[tuple[str, str | None]] = [("simulated", None), ("recorded", None), *(("ccxt", e) for e in exchanges)]
    for kind, exchange in kinds:
        for bars in range(_MOST_NO_TRADE + 1):
            if digest({"venue": {"kind": kind, "exchange": exchange}, "max_no_trade": bars}) == config_hash:
                return f"{kind}:{exchange}" if exchange else kind
    return None
