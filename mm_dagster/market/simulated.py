"""A synthetic market, labelled as such: ranges, choppy transitions, trends and crashes, the same for everybody.

Time is cut into blocks of 4 days, and 8 blocks make an era. An era draws one of a few scenarios by a hash of symbol
and era; its moves add up to nothing, so that the price stays in bounds for ever. A block's path is a mean-reverting
bridge (Uhlenbeck, Ornstein 1930; pinned at both ends) around its part of the scenario, in steps of 3 minutes. Any bar
comes from its own block alone. Nothing here is a real price, and nothing that looks good here proves anything.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import numpy.typing as npt
import polars as pl

from mm_dagster.bars import BAR, DAY_BARS, Span, bar_number, floor_bar
from mm_dagster.market.venue import ROWS, Answer, OrderBook
from mm_dagster.tables.market import MarketRules

Array = npt.NDArray[np.float64]

_STEPS = 5
"""Steps of the path in a bar; each is 3 minutes."""
_BLOCK_BARS = 4 * DAY_BARS
_BLOCK_STEPS = _BLOCK_BARS * _STEPS
_HOUR_STEPS = 4 * _STEPS
_ERAS = ("RRRTURRD", "RRRTDRRU", "RRTCRRUR", "RURRRTDR")
"""Scenarios of an era, a letter a block: Range, Transition, Up, Down, Crash. What goes up comes down."""
_BASE_PRICES = {"BTC": 60_000.0, "ETH": 3_000.0, "SOL": 150.0}
_DIGITS = 5
_TURNOVER = 2e6
"""Quote currency traded in a quiet bar."""
_LEVELS = 100
"""Of a side of an order book."""
_LEVEL_VALUE = 1_500.0
"""Quote currency that waits at a level near the mid of a book."""


@dataclass(frozen=True)
class _Era:
    """What the blocks of an era have in common.

    Attributes:
        kinds: one letter a block.
        level: log of the price around which the era begins, above the base price's.
        move: log of the size of its trends or crash.
        width: width of its ranges, fraction.
    """

    kinds: str
    level: float
    move: float
    width: float


class SimulatedMarket:
    """Every symbol has a price here, at any time until now."""

    simulated = True

    def __init__(self, name: str, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        """
        Args:
            name: name in markets.yaml.
            clock: tells the time, UTC.
        """
        self.name = name
        self._clock = clock

    def now(self) -> datetime:
        """The computer's time, or the demo's."""
        return self._clock()

    def fetch(self, symbol: str, span: Span) -> Answer:
        """The closed bars of a span; the bar in progress is not known yet, even here."""
        known = Span(span.start, max(span.start, min(span.end, floor_bar(self.now()))))
        return Answer(simulate(symbol, known), (known,) if known.bars else (), final=True)

    def last_prices(self, symbols: Sequence[str], seconds: float | None = None) -> dict[str, float | None]:
        """The prices at this moment, to 3 minutes, quote currency."""
        block, step, _ = _step_at(self.now())
        return {symbol: float(_path(symbol, block)[step]) for symbol in symbols}

    def order_book(self, symbol: str, seconds: float) -> OrderBook:
        """A made book around the price at this moment, to 3 minutes: the same for everybody, and as little real."""
        now = self.now()
        block, step, since = _step_at(now)
        bids, asks = _book(symbol, block, step)
        number = block * _BLOCK_STEPS + step
        return OrderBook(bids, asks, asked_at=now, observed_at=now - since, age=None, update_id=str(number))

    def rules(self, symbol: str) -> MarketRules | None:
        """None: nobody takes an order here."""
        return None

    def check(self) -> str:
        """That this is no real market."""
        return f"{self.name} is SIMULATED: it needs no network, and no price of it is real"


def _step_at(now: datetime) -> tuple[int, int, timedelta]:
    """The block and the step in it that a moment lies in, and how long ago that began."""
    block, bar = divmod(bar_number(now), _BLOCK_BARS)
    within, since = divmod(now - floor_bar(now), BAR / _STEPS)
    return block, bar * _STEPS + within, since


def _book(symbol: str, block: int, step: int) -> tuple[list[tuple[float, float]], list[tuple[float, float]]]:
    """Bids and asks around the price of a step, the best first: levels some ticks apart, more waiting farther out."""
    price = float(_path(symbol, block)[step])
    decimals = _decimals(_base_price(symbol))
    tick = 10.0**-decimals
    uniform = _uniform(4 * _LEVELS, symbol, "book", block, step).reshape(4, _LEVELS)
    # About a basis point from one level to the next, whatever the tick is.
    many = max(1.0, price * 1e-4 / tick)
    away = np.cumsum(1.0 + np.floor(uniform[:2] * many), axis=1)
    sides = []
    for sign, ticks, luck in ((-1, away[0], uniform[2]), (1, away[1], uniform[3])):
        prices = np.round(price + sign * ticks * tick, decimals)
        amounts = _LEVEL_VALUE * (0.3 + 1.4 * luck) * (1.0 + np.arange(_LEVELS) / 20) / price
        shown = prices > 0
        amounts = np.round(amounts[shown], _decimals(_LEVEL_VALUE / price) + 1)
        sides.append(list(zip(prices[shown].tolist(), amounts.tolist(), strict=True)))
    return sides[0], sides[1]


def simulate(symbol: str, span: Span) -> pl.DataFrame:
    """The bars of a span of the simulated market.

    Args:
        symbol: any; its name decides its prices.
        span: any time, past or future.

    Returns:
        Columns of venue.ROWS, ascending, one row a bar.
    """
    if not span.bars:
        return ROWS.to_frame()
    first = bar_number(span.start)
    blocks = range(first // _BLOCK_BARS, (first + span.bars - 1) // _BLOCK_BARS + 1)
    bars = np.concatenate([_bars(symbol, block) for block in blocks])
    skipped = first - blocks.start * _BLOCK_BARS
    values = bars[skipped : skipped + span.bars]
    return pl.DataFrame(
        [span.open_times(), *(pl.Series(name, values[:, i]) for i, name in enumerate(ROWS.names()[1:]))], schema=ROWS
    )


def _bars(symbol: str, block: int) -> Array:
    """Open, high, low, close and volume of the bars of a block, shape (bars, 5)."""
    path = _path(symbol, block)
    points = np.lib.stride_tricks.sliding_window_view(path, _STEPS + 1)[::_STEPS]
    high, low = points.max(axis=1), points.min(axis=1)
    activity = (high - low) / points[:, 0] / 0.004
    noise = 0.6 + 0.8 * _uniform(_BLOCK_BARS, symbol, "volume", block)
    volume = _TURNOVER * (0.3 + activity**1.3) * noise / points[:, -1]
    return np.column_stack([points[:, 0], high, low, points[:, -1], np.round(volume, _decimals(_TURNOVER / path[0]))])


def _path(symbol: str, block: int) -> Array:
    """Prices of a block at every step, shape (steps + 1,); the last is the first of the next block."""
    era = _era(symbol, block // len(_ERAS[0]))
    kind = era.kinds[block % len(era.kinds)]
    start, end = _level(symbol, block), _level(symbol, block + 1)
    u = np.linspace(0.0, 1.0, _BLOCK_STEPS + 1)
    a, b = _uniform(2, symbol, "shape", block)
    # Standard deviation of a step in a range, from the width of the range: its edges are 2.5 deviations away.
    half_life = (4.0 + 2.0 * a) * _HOUR_STEPS
    step = era.width / 5 * np.sqrt(1 - 4.0 ** (-1 / half_life))
    shape, loudness = u, np.ones_like(u)
    if kind == "T":
        half_life, loudness = 24.0 * _HOUR_STEPS, 1.0 + 0.7 * u
    elif kind in "UD":
        half_life, shape, loudness = 10.0 * _HOUR_STEPS, np.clip((u - 0.04) / (0.7 + 0.25 * b), 0, 1), 0.9 + 0 * u
    elif kind == "C":
        begins, lasts = 0.3 + 0.3 * a, (1.0 + b) * _HOUR_STEPS / _BLOCK_STEPS
        fallen = np.clip((u - begins) / lasts, 0, 1)
        bounced = np.clip((u - begins - lasts) / (1 - begins - lasts), 0, 1)
        shape = 1.15 * fallen - 0.15 * np.sqrt(bounced)
        loudness = 1.0 + 2.5 * np.where(u > begins, np.exp(-8 * (u - begins)), 0)
    # Days have a rhythm: quiet at 03:00, busy at 15:00 UTC.
    hours = (block * _BLOCK_BARS % DAY_BARS) / 4 + u * _BLOCK_BARS / 4
    loudness = loudness * (1.0 - 0.25 * np.cos((hours - 3.0) * np.pi / 12))
    log_price = start + (end - start) * shape + _bridge(symbol, block, half_life, step * loudness)
    log_price[0], log_price[-1] = start, end
    base = _base_price(symbol)
    return np.round(base * np.exp(log_price), _decimals(base))


def _bridge(symbol: str, block: int, half_life: float, deviation: Array) -> Array:
    """A mean-reverting path from 0 to 0; `deviation` is that of its steps, shape (steps + 1,)."""
    uniform = _uniform(_BLOCK_STEPS, symbol, "path", block)
    # Logistic shocks of unit variance: one logarithm each, with tails a little fatter than the normal ones.
    shocks = np.log(uniform / (1 - uniform)) * (np.sqrt(3) / np.pi)
    rate = np.log(2) / half_life
    number = np.arange(_BLOCK_STEPS + 1)
    free = np.concatenate([[0.0], np.cumsum(shocks * deviation[1:] * np.exp(rate * number[1:]))]) * np.exp(
        -rate * number
    )
    return free - free[-1] * np.sinh(rate * number) / np.sinh(rate * _BLOCK_STEPS)


def _era(symbol: str, era: int) -> _Era:
    a, b, c, d = _uniform(4, symbol, "era", era)
    return _Era(kinds=_ERAS[int(a * len(_ERAS))], level=0.1 * (b - 0.5), move=0.10 + 0.10 * c, width=0.045 + 0.025 * d)


def _level(symbol: str, block: int) -> float:
    """Log of the scenario's price at the beginning of a block, relative to the base price."""
    number, position = divmod(block, len(_ERAS[0]))
    era = _era(symbol, number)
    drift = (_era(symbol, number + 1).level - era.level) * position / len(era.kinds)
    before = era.kinds[:position]
    ups, downs = before.count("U"), before.count("D") + before.count("C")
    return era.level + drift + era.move * (ups - downs)


def _base_price(symbol: str) -> float:
    base = symbol.split("-")[0]
    return _BASE_PRICES.get(base) or float(10.0 ** (3.0 * _uniform(1, base, "base", 0)[0] - 0.5))


def _decimals(size: float) -> int:
    """Decimals that leave five digits."""
    return max(0, _DIGITS - 1 - int(np.floor(np.log10(size))))


def _uniform(count: int, *what: str | int) -> Array:
    """Numbers in (0, 1) that depend on nothing but what they are for.

    They come from Philox's raw output, whose stream numpy keeps for ever, not from a Generator's, which it may change.
    """
    key = int.from_bytes(hashlib.sha256("/".join(map(str, what)).encode()).digest()[:16], "little")
    raw = np.random.Philox(key=key).random_raw(count)
    return ((raw >> np.uint64(12)).astype(np.float64) + 0.5) * 2.0**-52
