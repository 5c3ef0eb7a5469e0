"""All that is taken of ccxt beyond its documented calls; test_ccxt_internals.py fails when it changes.

ccxt leaves out rows that it cannot read, takes silence for an empty answer, loads markets that nobody asked for, and
throttles each client alone. What is below here looks behind that, or replaces it.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import ccxt

_SILENCE = logging.Logger("ccxt")
_SILENCE.disabled = True


def only_spot(client: Any) -> None:
    """Keeps ccxt from loading what nobody here needs: derivatives, currencies, fees of every market."""
    client.has["fetchCurrencies"] = False
    client.options["defaultType"] = "spot"
    markets = client.options.get("fetchMarkets")
    if isinstance(markets, dict):
        if "types" in markets:
            markets["types"] = ["spot"]
        if "fetchTickersFees" in markets:
            markets["fetchTickersFees"] = False


def throttle(client: Any, turn: Callable[[float | None], None]) -> None:
    """Makes a client wait for its turn by another rule than its own.

    Args:
        client: of ccxt.
        turn: is called before each request, with its weight by ccxt's table.
    """

    def wait(weight: float | None = None) -> None:
        turn(weight)

    client.throttle = wait


def set_clock(client: Any, milliseconds: Callable[[], int]) -> None:
    """Makes a client sign its requests with another clock than the computer's.

    Args:
        client: of ccxt.
        milliseconds: tells the time, since the Unix epoch.
    """
    client.nonce = milliseconds


def add_headers(client: Any, headers: dict[str, str]) -> None:
    """Sends headers with each request from here on."""
    client.headers = {**client.headers, **headers}


@contextmanager
def with_headers(client: Any, headers: dict[str, str]) -> Iterator[None]:
    """Sends headers with the requests of a `with` block."""
    before = client.headers
    client.headers = {**before, **headers}
    try:
        yield
    finally:
        client.headers = before


def silence(client: Any) -> None:
    """Keeps a client from its own log: keys and signatures are in its headers, and in some exchanges' addresses."""
    client.logger = _SILENCE


def redirect(client: Any, url: str) -> None:
    """Sends every REST call to another address; paths stay as they are."""

    def moved(known: Any) -> Any:
        if isinstance(known, dict):
            return {key: moved(value) for key, value in known.items()}
        if isinstance(known, str) and known.startswith("http"):
            return url.rstrip("/") + urlsplit(known).path
        return known

    client.urls["api"] = moved(client.urls["api"])


def address(client: Any) -> str:
    """The address that public calls go to, without path or credentials."""
    urls = client.urls["api"]
    while isinstance(urls, dict):
        urls = urls.get("public") or next(iter(urls.values()))
    parts = urlsplit(client.implode_hostname(str(urls)))
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


def forget_answer(client: Any) -> None:
    """Nothing is known of the last answer from here on."""
    client.last_json_response = None


def last_answer(client: Any) -> Any:
    """The JSON body of the last answer; None: there is none. It alone tells "nothing" from an empty page."""
    return client.last_json_response


def last_headers(client: Any) -> dict[str, Any]:
    """The headers of the last request: what proves who asked is among them."""
    return client.last_request_headers or {}


def keep_every_row(client: Any, is_row: Callable[[Any], bool]) -> None:
    """Makes a client parse rows of candles and leave none out: ccxt drops what it cannot read or was not asked for.

    Both must be seen: the one is no answer for its bar, the other tells what an exchange took the question for.

    Args:
        client: of ccxt.
        is_row: whether a parsed row can be read; one that cannot stays as it was sent, behind no time.
    """

    def parsed(row: Any, market: Any) -> list[Any]:
        try:
            values = client.parse_ohlcv(row, market)
        except Exception:
            return [None, row]
        return list(values) if is_row(values) else [None, row]

    def parse(
        sent: Any, market: Any = None, timeframe: str = "", since: Any = None, limit: Any = None, tail: bool = False
    ) -> list[list[Any]]:
        return [parsed(row, market) for row in client.to_array(sent)]

    client.parse_ohlcvs = parse


def keep_levels_as_sent(client: Any, most: int) -> list[list[list[Any]]]:
    """Makes a client keep the levels of the next order book as they were sent: ccxt sorts them, and skips what is odd.

    Args:
        client: of ccxt.
        most: levels of a side; more are no answer to what was asked.

    Returns:
        A list to which each side is added when it is parsed, bids first: levels as `parse_order_book_bid_ask` gives
        them, with None where no number was sent.
    """
    sides: list[list[list[Any]]] = []

    def parse(sent: Any, price: Any = 0, amount: Any = 1, number: Any = 2) -> list[list[Any]]:
        if not isinstance(sent, list):
            raise UnreadableLevels(f"a side of it is no list of levels but {type(sent).__name__}")
        if len(sent) > most:
            raise UnreadableLevels(f"it has {len(sent):,} levels on a side")
        levels = []
        for level in sent:
            if not isinstance(level, (list, dict)):
                raise UnreadableLevels(f"one of its levels is no price and amount: {level!r:.60}")
            found = client.parse_order_book_bid_ask(level, price, amount, number)
            values = zip(found[:2], (price, amount), strict=True)
            levels.append([value if _is_number(_part(level, key)) else None for value, key in values])
        sides.append(levels)
        return [level for level in levels if None not in level]

    client.parse_order_book_bids_asks = parse
    return sides


class UnreadableLevels(Exception):
    """What was sent as levels is none. The message says why."""


def _part(level: Any, key: Any) -> Any:
    """The price or the amount of a level as it was sent."""
    if isinstance(level, dict):
        return level.get(key)
    return level[key] if isinstance(key, int) and key < len(level) else None


def _is_number(value: Any) -> bool:
    """Whether a value is written as a number: true, 1_000 and [1] are numbers for Python alone."""
    if isinstance(value, str):
        return value.isascii() and "_" not in value and value == value.strip()
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def ask_kind_of_account(client: Any) -> None:
    """Lets ccxt find out which of KuCoin's kinds of account it is; it would take silence for an answer.

    Raises:
        ccxt.BaseError: there was no answer that says it.
    """
    client.options["uta"] = None
    is_one = client.is_uta_enabled()
    data = (last_answer(client) or {}).get("data")
    if not isinstance(data, dict) or not data.get("selfAccountMode"):
        raise ccxt.NullResponse("no kind of account")
    if not is_one:
        client.load_migration_status(True)
        if not isinstance(client.options["hf"], bool):
            raise ccxt.NullResponse("no kind of account")


def is_unified(client: Any) -> bool:
    """Whether an account of KuCoin is a unified one; see `ask_kind_of_account`."""
    return bool(client.options["uta"])


def is_high_frequency(client: Any) -> bool:
    """Whether an account of KuCoin is a classic one of the newer kind; see `ask_kind_of_account`."""
    return bool(client.options["hf"])


def kucoin_code(error: Exception) -> str | None:
    """KuCoin's own code of an error; ccxt quotes the body. None: the error has none."""
    found = re.match(r'kucoin .*"code"\s*:\s*"?(\d+)', str(error), re.DOTALL)
    return found[1] if found else None


def http_status(error: Exception) -> int | None:
    """The HTTP status behind one of ccxt's errors, which it raises while it handles that of requests; None: none."""
    response = getattr(error.__cause__ or error.__context__, "response", None)
    return getattr(response, "status_code", None)
