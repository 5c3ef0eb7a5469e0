"""VPIN: how one-sided trading was, by a clock that runs with the volume. Easley, Lopez de Prado and O'Hara (2012).

Buckets of the same volume are laid from midnight UTC, a fiftieth of the volume of the day before each. Who was the
aggressor is known here, and not guessed. A row of a quarter hour goes on with what the rows of its day left.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

BUCKETS = 50
"""In the volume of the day before, and as many are looked at."""


@dataclass(frozen=True)
class Buckets:
    """Where the clock stands.

    Attributes:
        imbalances: |bought - sold| of each bucket that became full, lots, the newest last; of more than 50 the newest.
        buy: bought in the bucket that is not full yet, lots.
        sell: sold in it.
    """

    imbalances: tuple[int, ...] = ()
    buy: int = 0
    sell: int = 0


def bucket_size(volume: int) -> int | None:
    """Lots of a bucket after a day of so many lots; None: on that day nothing was traded, or nobody heard of it."""
    return max(1, volume // BUCKETS) if volume > 0 else None


def buckets(trades: Iterable[tuple[int, bool]], bucket_lots: int, buy: int = 0, sell: int = 0) -> Buckets:
    """Fills buckets with trades.

    Args:
        trades: lots of each, and whether the aggressor sold; in order.
        bucket_lots: of a bucket, above 0.
        buy: what is in the first bucket already, bought.
        sell: likewise, sold. More than a bucket, of a day with larger ones, fills it by itself.

    Returns:
        What became full in here, and what is left. A trade larger than a bucket fills several.
    """
    full: list[int] = []
    for lots, is_sell in trades:
        left = lots
        while left > 0:
            room = bucket_lots - buy - sell
            if room == bucket_lots and left >= bucket_lots * (BUCKETS + 1):
                # Whole buckets of one trade are all alike, and older ones than the last fifty never matter.
                left -= (left // bucket_lots - BUCKETS) * bucket_lots
            part = max(min(left, room), 0)
            left -= part
            buy, sell = (buy, sell + part) if is_sell else (buy + part, sell)
            if buy + sell >= bucket_lots:
                full.append(abs(buy - sell))
                buy = sell = 0
    return Buckets(tuple(full[-BUCKETS:]), buy, sell)


def vpin(imbalances: Sequence[int], bucket_lots: int) -> tuple[float | None, int]:
    """Sum of |bought - sold| over the last buckets of a day, at most 50, by their volume; and how many these are.

    None: no bucket is full yet.
    """
    last = imbalances[-BUCKETS:]
    return (sum(last) / (len(last) * bucket_lots) if last else None), len(last)
