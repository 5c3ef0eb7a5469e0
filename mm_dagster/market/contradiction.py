"""What in an answer contradicts what is stored, or itself: pure rules, which hold back contradiction and no move.

How far a price moved says nothing: of 1.3 million real bars a limit of 20 % would hold 23 back, the crash of 2025-10-10
among them. What cannot be true at the same time says much: two closes of one bar, an open far from the close before
it. The limits lie above everything that was ever seen (the largest real seam is .154), and no real bar is held.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import numpy.typing as npt
import polars as pl

from mm_dagster.bars import TIME, bar_numbers, iso
from mm_dagster.text import number_text, price_text

UNSURE = "unsure: "
"""What the reason of every row begins with that was held back by these rules."""
APART = timedelta(minutes=14)
"""Two answers are apart from here on: a quarter hour, but for what two ticks may differ in their seconds."""

_SAME_CLOSE = 0.01
"""Two closes of one bar that differ by no more are the same one: the last trades of a bar may be listed late."""
_ENOUGH = 4
"""Stored bars that must be asked again before a page is judged by them."""
_CHUNK = 96
"""A long answer came in pages: it is judged by so many stored bars at a time."""
_SEAMS = ((1, 0.25), (8, math.log(3)), (96, math.log(5)))
"""How far, in logarithms, an open may lie from the close before it, by how many bars without a trade lie between."""
_LONGEST_SEAM = math.log(10)
_FACTOR = math.log(10)
_WIDER = 0.25

Floats = npt.NDArray[np.float64]
_HELD = pl.Schema({"open_time": TIME, "reason": pl.String()})


@dataclass(frozen=True)
class _Bar:
    """What a seam needs of a bar: its number, and the prices at which one enters and leaves it."""

    number: int
    enter: float
    leave: float


def held_back(rows: pl.DataFrame, stored: pl.DataFrame, in_progress: pl.DataFrame | None = None) -> pl.DataFrame:
    """The rows that contradict what is stored, or each other.

    A row that says what is stored is held by nothing else: what was once believed against these rules stays believed.

    Args:
        rows: columns of venue.ROWS: closed bars with a trade, each sound in itself, ascending, one a bar.
        stored: `open_time`, `open` and `close` of TRADED bars, ascending: those that rows are there for again, and the
            nearest before and after them.
        in_progress: the row of the bar in progress, if one was sent; it makes the newest bar doubtful, and is noted.

    Returns:
        `open_time` and `reason` of each row that is held back, ascending; the reason in words, without UNSURE.
    """
    if rows.is_empty():
        return _HELD.to_frame()
    refused = _refused_pages(rows, stored)
    left = rows.join(refused, on="open_time", how="anti", maintain_order="left")
    seams = _seams(left, stored, in_progress if in_progress is not None else rows.clear())
    return pl.concat([refused, seams]).sort("open_time")


def silenced(quiet: pl.Series, stored: pl.DataFrame) -> str | None:
    """Why an answer is refused by which nobody traded in bars that are known to have been traded; None: it is not.

    A market that stands still is true of bars that are new. Of those that are known it is a venue that repeats itself.

    Args:
        quiet: opening times of the rows without a trade.
        stored: TRADED bars that rows are there for again.
    """
    both = stored.filter(pl.col("open_time").is_in(quiet.implode())).height
    if not both:
        return None
    return f"of {both} of {stored.height} bars that are known to have been traded it says that nobody traded"


def _refused_pages(rows: pl.DataFrame, stored: pl.DataFrame) -> pl.DataFrame:
    """The rows of the pages of which half or more of the stored bars, if there are enough, have another close."""
    both = rows.select("open_time", "close").join(
        stored.select("open_time", was="close"), on="open_time", how="inner", maintain_order="left"
    )
    if both.height < _ENOUGH:
        return _HELD.to_frame()
    differs = ((both["close"] / both["was"] - 1).abs() > _SAME_CLOSE).to_numpy()
    begins = list(range(0, both.height, _CHUNK))
    if both.height - begins[-1] < _ENOUGH:
        begins.pop()
    held = [_HELD.to_frame()]
    for number, begin in enumerate(begins):
        end = begins[number + 1] if number + 1 < len(begins) else both.height
        wrong = int(differs[begin:end].sum())
        if 2 * wrong < end - begin:
            continue
        inside = pl.lit(True)
        if begin:
            inside &= pl.col("open_time") >= both["open_time"][begin]
        if end < both.height:
            inside &= pl.col("open_time") < both["open_time"][end]
        reason = f"{wrong} of {end - begin} bars that are known have another close, by more than 1 %"
        held.append(rows.filter(inside).select("open_time", reason=pl.lit(reason)))
    return pl.concat(held)


def _seams(rows: pl.DataFrame, stored: pl.DataFrame, in_progress: pl.DataFrame) -> pl.DataFrame:
    """The rows that do not join on to what is before them, or have a price beyond factor 10 of the close before."""
    if rows.is_empty():
        return _HELD.to_frame()
    first, last = rows["open_time"][0], rows["open_time"][-1]
    before = stored.filter(pl.col("open_time") < first).tail(1)
    after = stored.filter(pl.col("open_time") > last).head(1)
    was = rows.select("open_time").join(stored, on="open_time", how="left", maintain_order="left")["close"]
    vouched = ((rows["close"] / was - 1).abs() <= _SAME_CLOSE).fill_null(False).to_numpy()
    given = pl.concat([rows, in_progress.filter(pl.col("open_time") > last).head(1)])
    logs = {name: np.log(given[name].to_numpy()) for name in ("open", "high", "low", "close")}
    numbers = bar_numbers(given["open_time"])
    # Where there is nothing before but something after, it is read from behind: what was entered is left.
    backwards = before.is_empty() and not after.is_empty()
    if backwards:
        logs = {name: values[: rows.height][::-1] for name, values in logs.items()}
        logs["open"], logs["close"] = logs["close"], logs["open"]
        numbers, vouched = -numbers[: rows.height][::-1], vouched[::-1]
    anchor = _anchor(after if backwards else before, backwards)
    vouched = np.append(vouched, np.zeros(numbers.size - vouched.size, np.bool_))
    if _is_quiet(numbers, logs, vouched, anchor):
        return _HELD.to_frame()
    reasons = _scan(numbers, logs, vouched, anchor)
    if anchor is None and not vouched.any():
        # Nobody vouches for the first row: then most of them do.
        for _ in range(3):
            if 2 * len(reasons) <= numbers.size:
                break
            start = min(reasons)
            again = _scan(numbers[start:], {k: v[start:] for k, v in logs.items()}, vouched[start:], None)
            anew = {place + start: why for place, why in again.items()}
            reasons = anew | dict.fromkeys(range(start), "it does not join on to the bars after it")
    if backwards:
        reasons = {rows.height - 1 - place: why for place, why in reasons.items()}
    elif in_progress.height and rows.height in reasons:
        # The bar in progress is not stored. That it does not join on makes the newest one doubtful.
        reasons.setdefault(rows.height - 1, "the bar in progress does not open near its close")
    places = sorted(reasons)
    return pl.DataFrame(
        {"open_time": given["open_time"].gather(places), "reason": [reasons[place] for place in places]}, schema=_HELD
    )


def _anchor(row: pl.DataFrame, backwards: bool) -> _Bar | None:
    if row.is_empty():
        return None
    number = int(bar_numbers(row["open_time"])[0])
    enter, leave = (math.log(row[name][0]) for name in (("close", "open") if backwards else ("open", "close")))
    return _Bar(-number if backwards else number, enter, leave)


def _limit(hole: int) -> float:
    return next((limit for bars, limit in _SEAMS if hole <= bars), _LONGEST_SEAM)


def _is_quiet(
    numbers: npt.NDArray[np.int64], logs: dict[str, Floats], vouched: npt.NDArray[np.bool_], anchor: _Bar | None
) -> bool:
    """Whether nothing at all is to be looked at, which is so of all real answers."""
    leave = np.concatenate([[anchor.leave if anchor else np.nan], logs["close"][:-1]])
    holes = numbers - np.concatenate([[anchor.number if anchor else numbers[0] - 1], numbers[:-1]]) - 1
    limits = np.full(numbers.size, _LONGEST_SEAM)
    for bars, limit in reversed(_SEAMS):
        limits[holes <= bars] = limit
    farthest = np.max([np.abs(logs[name] - leave) for name in logs], axis=0)
    wrong = (np.abs(logs["open"] - leave) > limits) | (farthest > _FACTOR)
    return not bool((wrong & ~vouched).any())


def _scan(
    numbers: npt.NDArray[np.int64], logs: dict[str, Floats], vouched: npt.NDArray[np.bool_], anchor: _Bar | None
) -> dict[int, str]:
    """Why each row is held that does not follow from the last one that is not, by its place."""
    reasons: dict[int, str] = {}
    trusted, earlier, place_of_trusted = anchor, None, -1
    doubted: _Bar | None = None
    for place in range(numbers.size):
        bar = _Bar(int(numbers[place]), float(logs["open"][place]), float(logs["close"][place]))
        prices = [float(values[place]) for values in logs.values()]
        if vouched[place] or trusted is None:
            trusted, earlier, place_of_trusted, doubted = bar, None if vouched[place] else trusted, place, None
            continue
        why = _contradiction(trusted, bar, prices)
        is_given = place_of_trusted >= 0 and not vouched[place_of_trusted] and earlier is not None
        # Where the row joins on to the one before the last, the last is the odd one.
        if why and is_given and _contradiction(earlier, bar, prices) is None:  # type: ignore[arg-type]
            reasons[place_of_trusted] = "the bar after it does not open near its close"
            trusted, place_of_trusted, doubted = bar, place, None
            continue
        nearer = doubted is not None and abs(bar.enter - doubted.leave) < abs(bar.enter - trusted.leave)
        if why or nearer:
            reasons[place] = why or "it goes on from a bar that is doubtful"
            doubted = bar
            continue
        earlier, trusted, place_of_trusted, doubted = trusted, bar, place, None
    return reasons


def _contradiction(before: _Bar, bar: _Bar, prices: Sequence[float]) -> str | None:
    """Why a bar cannot follow another one; None: it can."""
    hole = bar.number - before.number - 1
    jump = bar.enter - before.leave
    if abs(jump) > _limit(hole):
        after = f" {hole} bars before" if hole else " before"
        return f"it opens at {number_text(math.exp(jump), 4)} times the close{after}"
    farthest = max((price - before.leave for price in prices), key=abs)
    if abs(farthest) > _FACTOR:
        return f"a price of it is {number_text(math.exp(farthest), 4)} times the close before"
    return None


def agrees(held: pl.DataFrame, noted: pl.DataFrame, since: datetime | None, now: datetime) -> bool:
    """Whether an answer that is held back was given before, by enough time, and nothing healthy came in between.

    Args:
        held: columns of venue.ROWS of what is held back now.
        noted: rows of `quarantine` of these bars.
        since: when the newest stored bar was answered: older notes are refuted by it. None: nothing is stored.
        now: when this answer was given.
    """
    early = noted.filter(
        pl.col("reason").str.starts_with(UNSURE)
        & (pl.col("observed_at") <= now - APART)
        & (pl.lit(True) if since is None else pl.col("observed_at") >= since)
    )
    said: dict[datetime, list[dict[str, float]]] = {}
    for time, payload in early.select("open_time", "payload").iter_rows():
        said.setdefault(time, []).append(_prices_of(payload))
    both = [row for row in held.iter_rows(named=True) if row["open_time"] in said]
    same = sum(any(_is_same(row, prices) for prices in said[row["open_time"]]) for row in both)
    return 2 * same > len(both)


def _prices_of(payload: str) -> dict[str, float]:
    """The prices of a row as they were noted; of a bar in progress that is the open alone."""
    try:
        values = json.loads(payload)
    except ValueError:
        return {}
    prices = ("open", "high", "low", "close")
    return {name: values[name] for name in prices if isinstance(values, dict) and isinstance(values.get(name), float)}


def _is_same(row: dict[str, float], prices: dict[str, float]) -> bool:
    return bool(prices) and all(abs(row[name] / price - 1) <= _SAME_CLOSE for name, price in prices.items() if price)


def ticker_doubt(price: float | None, low: float | None, high: float | None, bar: str) -> str | None:
    """Why a last price is not believed; None: it is.

    Args:
        price: as the venue said it.
        low: of the bar that it is measured by; None: there is none, and any price will do.
        high: likewise.
        bar: which bar that is, in words.
    """
    if price is None or not math.isfinite(price) or price <= 0:
        return "the venue gives no last price that can be true"
    if low is None or high is None or low * (1 - _WIDER) <= price <= high * (1 + _WIDER):
        return None
    return f"the last price {price_text(price)} is far from {bar} ({price_text(low)} to {price_text(high)})"


def in_words(held: pl.DataFrame, venue: str, symbol: str) -> str:
    """One line for the operator about what is held back."""
    first = held.row(0, named=True)
    what = (
        f"the bar of {iso(first['open_time'])}"
        if held.height == 1
        else f"{held.height} bars from {iso(first['open_time'])}"
    )
    return (
        f"{UNSURE}{venue}: {symbol}: what it says of {what} contradicts what is known: {first['reason']}. It was asked "
        "twice, and nothing of that is used; it is believed if it says the same in a quarter hour and its last price "
        "agrees"
    )


def walks_back(rows: pl.DataFrame, stored: pl.DataFrame, start: datetime) -> bool:
    """Whether the oldest bars of an answer are other ones than stored, so that what lies before may be wrong as well.

    Args:
        rows: accepted rows, ascending.
        stored: known bars, among them all that are stored of these rows.
        start: the first bar that is written; what is there before it is looked at as a whole.
    """
    both = rows.join(stored, on="open_time", how="inner", suffix="_was", maintain_order="left")
    both = both.filter((pl.col("open_time") < start) | (pl.int_range(pl.len()) < _ENOUGH))
    differs = [pl.col(name) != pl.col(f"{name}_was") for name in ("open", "high", "low", "close")]
    return both.filter(pl.any_horizontal(differs)).height > 0
