"""What exchanges answer about an account, read strictly: digit by digit, and what is missing is an error.

Whatever cannot be understood raises `NotAnswered`, or ccxt's NullResponse where it is no answer of the exchange at all.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import ccxt

from mm_dagster.market.connection import NotAnswered

Row = Mapping[str, Any]

_DECIMAL = re.compile(r"-?\d{1,30}(\.\d{1,30})?([eE][-+]?\d{1,2})?", re.ASCII)


def of_kucoin(answer: Any) -> Any:
    """What KuCoin says, once it says that all is well."""
    if not isinstance(answer, dict) or answer.get("code") != "200000" or "data" not in answer:
        raise ccxt.NullResponse("no answer of KuCoin's")
    return answer["data"]


def of_kraken(answer: Any) -> Row:
    """What Kraken says, once it says that nothing is wrong."""
    if not isinstance(answer, dict) or answer.get("error") != [] or not isinstance(answer.get("result"), dict):
        raise ccxt.NullResponse("no answer of Kraken's")
    found: Row = answer["result"]
    return found


def of_okx(answer: Any) -> list[Row]:
    """The rows that OKX sends, once it and each of them says that all is well: ccxt lets errors of rows pass."""
    data = answer.get("data") if isinstance(answer, dict) else None
    if not isinstance(data, list) or not all(isinstance(row, dict) for row in data):
        raise ccxt.NullResponse("no answer of OKX's")
    codes = [str(answer.get("code")), *(str(row.get("sCode") or "0") for row in data)]
    wrong = [code for code in codes if code != "0"]
    if wrong:
        own = next((str(row["sMsg"]) for row in data if row.get("sMsg")), str(answer.get("msg") or ""))
        raise NotAnswered(f"it refuses ({wrong[-1]}{': ' + ' '.join(own.split())[:120] if own else ''})")
    return data


def rows(data: Any) -> list[Row]:
    """A list of rows."""
    if not isinstance(data, list) or not all(isinstance(row, dict) for row in data):
        raise NotAnswered("no list")
    return data


def row(data: Any) -> Row:
    """One row."""
    if not isinstance(data, dict):
        raise NotAnswered("an answer that cannot be read")
    found: Row = data
    return found


def one(found: list[Row]) -> Row:
    """The only row of a list."""
    if len(found) != 1:
        raise NotAnswered(f"{len(found)} rows where one was asked for")
    return found[0]


def names(said: Any) -> list[str] | None:
    """A list of words; None: there is none."""
    if not isinstance(said, list) or not said:
        return None
    return [str(name).strip() for name in said]


def same(row: Row, name: str, asked: str) -> None:
    """That an answer is one to what was asked."""
    if row.get(name) != asked:
        raise NotAnswered(f"its {name} is {row.get(name)!r:.60}, and {asked} was asked for")


def text(row: Row, name: str) -> str:
    """A text that is not empty."""
    value = row.get(name)
    if not isinstance(value, str) or not value:
        raise NotAnswered(f"no {name}")
    return value


def side(row: Row, name: str) -> str:
    """buy or sell."""
    value = row.get(name)
    if value not in ("buy", "sell"):
        raise NotAnswered(f"{name} {value!r:.20} is no side")
    return str(value)


def signed(row: Row, name: str) -> Decimal:
    """A number as it was sent, digit by digit."""
    value = row.get(name)
    text = repr(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else value
    if not isinstance(text, str) or not _DECIMAL.fullmatch(text) or not math.isfinite(float(text)):
        raise NotAnswered(f"{name} {value!r:.40} is no number")
    return Decimal(text)


def number(row: Row, name: str) -> Decimal:
    """A number that is not below zero."""
    value = signed(row, name)
    if value < 0:
        raise NotAnswered(f"{name} {value} is below zero")
    return value


def positive(row: Row, name: str) -> Decimal:
    """A number above zero."""
    value = number(row, name)
    if not value:
        raise NotAnswered(f"{name} is zero")
    return value


def price(row: Row, name: str) -> Decimal | None:
    """A limit price; a market order has none, or zero."""
    return None if row.get(name) in (None, "") else number(row, name) or None
