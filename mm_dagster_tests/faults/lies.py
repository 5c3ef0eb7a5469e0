"""What an exchange may answer instead of the truth."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from mm_dagster_tests.faults import exchange
from mm_dagster_tests.faults.exchange import (
    CANDLES,
    MARKETS,
    MOST_ROWS,
    QUARTER,
    TICKER,
    TIME,
    Exchange,
    Question,
    Reply,
    Rows,
)

Lie = Callable[[random.Random, Question, Reply, Exchange], Reply]


@dataclass(frozen=True)
class Kind:
    """One way to lie.

    Attributes:
        name: as the table shows it.
        endpoint: whose answers; empty: all.
        lie: makes the answer.
    """

    name: str
    endpoint: str
    lie: Lie


class Liar:
    """Lies for a while, as an `exchange.Change`.

    Attributes:
        times: which of the fitting answers, counted from 0, are spoiled; None: all of them.
        told: how many were.
    """

    def __init__(self, kind: Kind, seed: int, times: frozenset[int] | None) -> None:
        self.kind, self.times = kind, times
        self.told = self._fitting = 0
        self._rng = random.Random(seed)

    def __call__(self, question: Question, truth: Reply, world: Exchange) -> Reply:
        if self.kind.endpoint not in ("", question.endpoint):
            return truth
        number, self._fitting = self._fitting, self._fitting + 1
        if self.times is not None and number not in self.times:
            return truth
        self.told += 1
        return self.kind.lie(self._rng, question, truth, world)


# rows -----------------------------------------------------------------------------------------------------------------


def _on_rows(change: Callable[[random.Random, Rows, Question, Exchange], Any]) -> Lie:
    def lie(rng: random.Random, question: Question, truth: Reply, world: Exchange) -> Reply:
        return exchange.of_rows(change(rng, [list(row) for row in truth.rows], question, world))

    return lie


def _scaled(row: list[object], factor: float) -> list[object]:
    return [row[0], *(repr(float(str(value)) * factor) for value in row[1:5]), *row[5:]]


def _times(factor: float, which: Callable[[Rows, Question, Exchange], range]) -> Lie:
    def change(rng: random.Random, rows: Rows, question: Question, world: Exchange) -> Rows:
        chosen = which(rows, question, world)
        return [_scaled(row, factor) if index in chosen else row for index, row in enumerate(rows)]

    return _on_rows(change)


def _all(rows: Rows, question: Question, world: Exchange) -> range:
    return range(len(rows))


def _in_progress(rows: Rows, question: Question, world: Exchange) -> range:
    return range(int(bool(rows) and int(str(rows[0][0])) + QUARTER > world.now.timestamp()))


def _newest_closed(rows: Rows, question: Question, world: Exchange) -> range:
    first = len(_in_progress(rows, question, world))
    return range(first, min(first + 1, len(rows)))


def _some_middle(rows: Rows, question: Question, world: Exchange) -> range:
    return range(len(rows) // 2, len(rows) // 2 + 1)


def _of_another(rng: random.Random, rows: Rows, question: Question, world: Exchange) -> Rows:
    others = sorted(set(world.series) - {question.market})
    other = rng.choice(others)
    arguments = {**question.arguments, "symbol": other}
    return world.truth(replace(question, arguments=arguments)).rows


def _older(rng: random.Random, rows: Rows, question: Question, world: Exchange) -> Rows:
    """The rows of some earlier time: a cache that was not renewed."""
    back = rng.choice([QUARTER, 4 * QUARTER, 96 * QUARTER])
    series = world.series[question.market].until(int(world.now.timestamp()) - back)
    start = int(question.arguments["startAt"])
    inside = (series.opens >= start) & (series.opens <= int(question.arguments["endAt"]))
    return exchange.rows_of(exchange.Series(series.opens[inside], series.values[inside]))[:MOST_ROWS]


def _long_ago(rng: random.Random, rows: Rows, question: Question, world: Exchange) -> Rows:
    """Other rows than were asked for: those of a month before."""
    back = 30 * 96 * QUARTER
    series = world.series[question.market]
    start, end = int(question.arguments["startAt"]) - back, int(question.arguments["endAt"]) - back
    inside = (series.opens >= start) & (series.opens <= end)
    return exchange.rows_of(exchange.Series(series.opens[inside], series.values[inside]))[:MOST_ROWS]


def _relabelled(rng: random.Random, rows: Rows, question: Question, world: Exchange) -> Rows:
    """Yesterday's prices under today's times."""
    values = [row[1:] for row in _long_ago(rng, rows, question, world)]
    return [[row[0], *values[index % len(values)]] if values else row for index, row in enumerate(rows)]


def _newest_only(rng: random.Random, rows: Rows, question: Question, world: Exchange) -> Rows:
    series = world.series[question.market].until(int(world.now.timestamp()))
    return exchange.rows_of(exchange.Series(series.opens[-720:], series.values[-720:]))


def _without_newest(rng: random.Random, rows: Rows, question: Question, world: Exchange) -> Rows:
    first = len(_in_progress(rows, question, world))
    return rows[:first] + rows[first + 1 :]


def _without_both(rng: random.Random, rows: Rows, question: Question, world: Exchange) -> Rows:
    return rows[len(_in_progress(rows, question, world)) + 1 :]


def _with_holes(rng: random.Random, rows: Rows, question: Question, world: Exchange) -> Rows:
    return [row for row in rows if rng.random() > 0.2]


def _value(make: Callable[[random.Random], object], column: Callable[[random.Random], int], share: float) -> Lie:
    def change(rng: random.Random, rows: Rows, question: Question, world: Exchange) -> Rows:
        for index, row in enumerate(rows):
            if index == 0 or rng.random() < share:
                row[column(rng)] = make(rng)
        return rows

    return _on_rows(change)


def _any_price(rng: random.Random) -> int:
    return rng.randrange(1, 5)


def _any_column(rng: random.Random) -> int:
    return rng.randrange(0, 7)


_ODD: tuple[object, ...] = (
    None, "", "NaN", "nan", "Infinity", "-inf", "-1", "0", "1e308", "9" * 400, "abc", "1,234.5", True, False, [], {},
    -5.0, 0, 1e-300, "0x10", " 12 ", "１２", "1e400",
)  # fmt: skip


def _odd(rng: random.Random) -> object:
    return rng.choice(_ODD)


def _moved(shift: int) -> Lie:
    return _on_rows(lambda rng, rows, question, world: [[str(int(str(row[0])) + shift), *row[1:]] for row in rows])


def _in_unit(factor: int) -> Lie:
    return _on_rows(lambda rng, rows, question, world: [[str(int(str(row[0])) * factor), *row[1:]] for row in rows])


def _with_future(rng: random.Random, rows: Rows, question: Question, world: Exchange) -> Rows:
    """Rows of bars that have not begun."""
    if not rows:
        return rows
    newest = int(str(rows[0][0]))
    ahead = [[str(newest + k * QUARTER), *_scaled(rows[0], 0.5)[1:]] for k in range(rng.choice([1, 8, 200]), 0, -1)]
    return ahead + rows


def _frozen(rng: random.Random, rows: Rows, question: Question, world: Exchange) -> Rows:
    """The last price again, volume 0."""
    still = rng.choice([1, 3, 8])
    if len(rows) <= still:
        return rows
    last = rows[still][2]
    return [[row[0], last, last, last, last, "0", "0"] for row in rows[:still]] + rows[still:]


def _contradicting(rng: random.Random, rows: Rows, question: Question, world: Exchange) -> Rows:
    """Each row twice, the second with other prices."""
    return [one for row in rows for one in (row, _scaled(row, 1.01))]


def _high_below_low(rng: random.Random, rows: Rows, question: Question, world: Exchange) -> Rows:
    return [[row[0], row[1], row[2], row[4], row[3], *row[5:]] if rng.random() < 0.3 else row for row in rows]


def _shuffled(rng: random.Random, rows: Rows, question: Question, world: Exchange) -> Rows:
    rng.shuffle(rows)
    return rows


def _columns_swapped(rng: random.Random, rows: Rows, question: Question, world: Exchange) -> Rows:
    """Open, high, low, close, as everybody else writes them."""
    return [[row[0], row[1], row[3], row[4], row[2], *row[5:]] for row in rows]


def _shorter_rows(rng: random.Random, rows: Rows, question: Question, world: Exchange) -> Rows:
    return [row[: rng.randrange(0, 7)] if rng.random() < 0.1 else row for row in rows]


# bodies ---------------------------------------------------------------------------------------------------------------


def _body(body: bytes, status: int = 200, kind: str = "application/json") -> Lie:
    return lambda rng, question, truth, world: Reply(body, status=status, kind=kind)


def _code(code: str, status: int = 200) -> Lie:
    return _body(json.dumps({"code": code, "msg": "no"}).encode(), status)


def _torn(rng: random.Random, question: Question, truth: Reply, world: Exchange) -> Reply:
    return Reply(truth.body[: rng.randrange(len(truth.body))])


def _reset(rng: random.Random, question: Question, truth: Reply, world: Exchange) -> Reply:
    return replace(truth, cut=rng.randrange(len(truth.body)))


def _bit(rng: random.Random, question: Question, truth: Reply, world: Exchange) -> Reply:
    """One byte of the body is another one."""
    body = bytearray(truth.body)
    body[rng.randrange(len(body))] ^= 1 << rng.randrange(8)
    return Reply(bytes(body))


def _drip(rng: random.Random, question: Question, truth: Reply, world: Exchange) -> Reply:
    return replace(truth, drip=0.3)


def _huge(rng: random.Random, question: Question, truth: Reply, world: Exchange) -> Reply:
    return Reply(truth.body[:-1] + b', "padding": "' + b"x" * 40_000_000 + b'"}')


def _redirect(host: str, other: bool, status: int) -> Lie:
    def lie(rng: random.Random, question: Question, truth: Reply, world: Exchange) -> Reply:
        market = rng.choice(sorted(set(world.series) - {question.market})) if other else question.market
        target = question.target.replace(question.market, market)
        if f"://{host}:{world.port}" in target:
            return truth
        return Reply(b"", status=status, headers=(("Location", f"http://{host}:{world.port}{target}"),))

    return lie


def _price(make: Callable[[random.Random, float, Exchange, Question], object]) -> Lie:
    def lie(rng: random.Random, question: Question, truth: Reply, world: Exchange) -> Reply:
        price = float(world.series[question.market].until(int(world.now.timestamp())).values[-1, 3])
        made = make(rng, price, world, question)
        return exchange.said(exchange.ticker(question.market, made, int(world.now.timestamp())))

    return lie


def _anothers_price(rng: random.Random, price: float, world: Exchange, question: Question) -> object:
    other = rng.choice(sorted(set(world.series) - {question.market}))
    return float(world.series[other].until(int(world.now.timestamp())).values[-1, 3])


def _clock(ahead: timedelta) -> Lie:
    return lambda rng, question, truth, world: exchange.said(int((world.now + ahead).timestamp() * 1000))


def _time(value: object) -> Lie:
    return lambda rng, question, truth, world: exchange.said(value)


def _markets(change: Callable[[dict[str, object]], list[object]]) -> Lie:
    return lambda rng, question, truth, world: exchange.said(change(exchange.listed(question.market)))


def kinds() -> list[Kind]:
    """All of them."""
    found = [
        ("candles: empty page", _on_rows(lambda *_: [])),
        ("candles: null", _body(b'{"code":"200000","data":null}')),
        ("candles: prices x1000", _times(1000, _all)),
        ("candles: prices x.001", _times(0.001, _all)),
        ("candles: newest bar x1000", _times(1000, _newest_closed)),
        ("candles: newest bar x.001", _times(0.001, _newest_closed)),
        ("candles: bar in progress x1000", _times(1000, _in_progress)),
        ("candles: bar in progress x.001", _times(0.001, _in_progress)),
        ("candles: one old bar x20", _times(20, _some_middle)),
        ("candles: another market's", _on_rows(_of_another)),
        ("candles: another market's, by redirect", _redirect("127.0.0.1", True, 302)),
        ("candles: another market's, by redirect to another host", _redirect("localhost", True, 307)),
        ("candles: every row twice", _on_rows(lambda rng, rows, *_: [one for row in rows for one in (row, row)])),
        ("candles: every row twice, contradicting", _on_rows(_contradicting)),
        ("candles: shuffled", _on_rows(_shuffled)),
        ("candles: ascending", _on_rows(lambda rng, rows, *_: rows[::-1])),
        ("candles: newest bar missing", _on_rows(_without_newest)),
        ("candles: newest bar and the one in progress missing", _on_rows(_without_both)),
        ("candles: a fifth missing", _on_rows(_with_holes)),
        ("candles: stale page", _on_rows(_older)),
        ("candles: other times than asked for", _on_rows(_long_ago)),
        ("candles: old prices under new times", _on_rows(_relabelled)),
        ("candles: 200 rows a page", _on_rows(lambda rng, rows, *_: rows[:200])),
        ("candles: the oldest 200 rows", _on_rows(lambda rng, rows, *_: rows[-200:])),
        ("candles: the newest 720 only", _on_rows(_newest_only)),
        ("candles: odd prices", _value(_odd, _any_price, 0.02)),
        ("candles: odd values anywhere", _value(_odd, _any_column, 0.02)),
        ("candles: milliseconds", _in_unit(1000)),
        ("candles: nanoseconds", _in_unit(10**9)),
        ("candles: shifted by a minute", _moved(60)),
        ("candles: shifted by a bar", _moved(QUARTER)),
        ("candles: shifted by an hour", _moved(-3600)),
        ("candles: bars of the future", _on_rows(_with_future)),
        ("candles: frozen, volume 0", _on_rows(_frozen)),
        ("candles: high and low exchanged", _on_rows(_high_below_low)),
        ("candles: columns in another order", _on_rows(_columns_swapped)),
        ("candles: short rows", _on_rows(_shorter_rows)),
        ("candles: one byte changed", _bit),
        ("candles: HTML with 200", _body(b"<html>maintenance</html>", kind="text/html")),
        ("candles: an object for a list", _body(b'{"code":"200000","data":{"a":[]}}')),
        ("candles: no body", _body(b"")),
        ("candles: torn JSON", _torn),
        ("candles: connection reset", _reset),
        ("candles: drips", _drip),
        ("candles: 40 MB", _huge),
        ("candles: wrong symbol", _code("900001")),
        ("candles: 400100", _code("400100", 400)),
        ("candles: 200002 in the body", _code("200002")),
        ("candles: 429", _code("429000", 429)),
        ("candles: 403", _body(b"<html>denied</html>", 403, "text/html")),
        ("candles: 500", _body(b"oops", 500, "text/html")),
        ("candles: 503", _body(b"", 503)),
        ("candles: redirect to itself", _redirect("127.0.0.1", False, 301)),
    ]
    made = [Kind(name, CANDLES, lie) for name, lie in found]
    made += [
        Kind("ticker: x1000", TICKER, _price(lambda rng, price, *_: price * 1000)),
        Kind("ticker: x.001", TICKER, _price(lambda rng, price, *_: price * 0.001)),
        Kind("ticker: 0", TICKER, _price(lambda *_: 0)),
        Kind("ticker: null", TICKER, _price(lambda *_: None)),
        Kind("ticker: negative", TICKER, _price(lambda rng, price, *_: -price)),
        Kind("ticker: odd", TICKER, _price(lambda rng, *_: _odd(rng))),
        Kind("ticker: another market's", TICKER, _price(_anothers_price)),
        Kind("ticker: 500", TICKER, _body(b"", 500)),
        Kind("ticker: drips", TICKER, _drip),
        Kind("clock: an hour back", TIME, _clock(timedelta(hours=-1))),
        Kind("clock: an hour ahead", TIME, _clock(timedelta(hours=1))),
        Kind("clock: a day back", TIME, _clock(timedelta(days=-1))),
        Kind("clock: a day ahead", TIME, _clock(timedelta(days=1))),
        Kind("clock: a year back", TIME, _clock(timedelta(days=-365))),
        Kind("clock: a year ahead", TIME, _clock(timedelta(days=365))),
        Kind("clock: 0", TIME, _time(0)),
        Kind("clock: null", TIME, _time(None)),
        Kind("clock: text", TIME, _time("now")),
        Kind("clock: seconds", TIME, lambda rng, question, truth, world: exchange.said(int(world.now.timestamp()))),
        Kind("clock: 10**18", TIME, _time(10**18)),
        Kind("clock: negative", TIME, _time(-1)),
        Kind("clock: 500", TIME, _body(b"", 500)),
        Kind("markets: none", MARKETS, _markets(lambda one: [])),
        Kind("markets: without this one", MARKETS, _markets(lambda one: [exchange.listed("NOPE-USDT")])),
        Kind("markets: not trading", MARKETS, _markets(lambda one: [{**one, "enableTrading": False}])),
        Kind("markets: null", MARKETS, _body(b'{"code":"200000","data":null}')),
        Kind("markets: odd", MARKETS, _markets(lambda one: [None, {}, {**one, "priceIncrement": None}])),
        Kind("markets: 500", MARKETS, _body(b"", 500)),
        Kind("everything: HTML with 200", "", _body(b"<html>maintenance</html>", kind="text/html")),
        Kind("everything: 429", "", _code("429000", 429)),
        Kind("everything: 503", "", _body(b"", 503)),
        Kind("everything: connection reset", "", _reset),
        Kind("everything: torn JSON", "", _torn),
    ]
    return made
