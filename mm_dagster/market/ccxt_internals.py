"""All that is taken of ccxt beyond its documented calls; test_ccxt_internals.py fails when it changes.

ccxt leaves out rows that it cannot read, takes silence for an empty answer, loads markets that nobody asked for, and
throttles each client alone. What is below here looks behind that, or replaces it.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
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
