"""Candidates: the `models` that might tell of a break, fitted each month on the hours before it, and kept in a table.

None decides anything: what they say goes through the promotion gate, and so far nothing has passed.
"""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from importlib import metadata
from importlib.util import find_spec
from typing import Any

import numpy as np
import polars as pl

from mm_dagster.arrays import Floats, natural_log
from mm_dagster.bars import BAR, HOUR_BARS, Span, by_bar, iso, midnight
from mm_dagster.research.models import FIT_HOURS, MODELS, Model
from mm_dagster.tables.registry import CODE_VERSIONS, conform

EXTRA = "research"
"""The extra that installs the libraries."""
LEAST_HOURS = 30 * 24
"""With fewer known returns it is not fitted."""
COLUMNS = ("symbol", "close_time", "close")
"""Of `candles`, that they need."""
_HOUR = HOUR_BARS * BAR


def missing() -> list[str]:
    """The libraries that fit the models and are not installed."""
    return [kind.library for kind in MODELS if find_spec(kind.library) is None]


# months and hours -----------------------------------------------------------------------------------------------------


def months_of(days: Span) -> list[datetime]:
    """Beginnings of the months that the days touch."""
    first = midnight(days.start.date().replace(day=1))
    return [month.start for month in Span(first, days.end).months()]


def reach(days: Span) -> Span:
    """The days, with all hours in front of them that their months are fitted on, and one for the first return."""
    return Span(months_of(days)[0] - (FIT_HOURS + 1) * _HOUR, days.end)


def hourly_returns(candles: pl.DataFrame, span: Span) -> Floats:
    """Log return of every clock hour, NaN where one of its two closes is not known.

    Args:
        candles: rows of `candles` of one market; COLUMNS are enough.
        span: whole hours; the return of the first is not known.

    Returns:
        Shape (hours,).
    """
    closes = by_bar(candles, span, candles.select("symbol").unique(), "close", time="close_time")["close"]
    hourly = closes[0, HOUR_BARS - 1 :: HOUR_BARS].copy() if closes.size else np.full(span.bars // HOUR_BARS, np.nan)
    return np.diff(natural_log(hourly), prepend=np.nan)


def place_of(time: datetime, span: Span) -> int:
    """Place of the hour that opens at a time."""
    return (time - span.start) // _HOUR


def time_of(place: int, span: Span) -> datetime:
    """When the hour at a place opens."""
    return span.start + place * _HOUR


def window(returns: Floats, month: int) -> slice | None:
    """The hours on which a month is fitted, the first of them known; None: too few are, or the price never moved.

    Args:
        returns: hourly, NaN where unknown, shape (hours,).
        month: place of its first hour.
    """
    first = max(0, month - FIT_HOURS)
    known = np.flatnonzero(~np.isnan(returns[first:month]))
    if known.size < LEAST_HOURS or not returns[first:month][known].any():
        return None
    return slice(first + int(known[0]), month)


Fit = Callable[[type[Model], int, Floats], Model]
"""The model of a kind and month (place of its first hour), from the hours of its window."""


def fit(kind: type[Model], month: int, past: Floats) -> Model:
    """Fitted here and now."""
    return kind.fit(past[~np.isnan(past)])


def monthly(returns: Floats, months: Sequence[int], fitted: Fit = fit) -> dict[str, Floats]:
    """What the models say at every hour of one market, each month's fitted on the past alone.

    Args:
        returns: hourly, NaN where unknown, shape (hours,).
        months: place of the first hour of each month, and the number of hours at the end.
        fitted: finds the models.

    Returns:
        By name, each of shape (hours,); NaN where a model says nothing, since none could be fitted.
    """
    said = {name: np.full(returns.size, np.nan) for kind in MODELS for name in kind.says}
    for start, end in itertools.pairwise(months):
        hours = window(returns, start)
        if hours is None:
            continue
        for kind in MODELS:
            try:
                model = fitted(kind, start, returns[hours])
            except ValueError:
                continue
            for name, values in zip(kind.says, model.said(returns[hours.start : end]), strict=True):
                said[name][start:end] = values[start - hours.start :]
    return said


# the table ------------------------------------------------------------------------------------------------------------


def returns_hash(past: Floats) -> str:
    """SHA-256 of the hours of a window, down to the bit; what is unknown counts by its place."""
    return hashlib.sha256(np.where(np.isnan(past), np.nan, past).astype("<f8").tobytes()).hexdigest()


def parameters_hash(parameters: Mapping[str, float]) -> str:
    """SHA-256 of names and values, down to the bit."""
    return hashlib.sha256("\n".join(f"{name} {value.hex()}" for name, value in parameters.items()).encode()).hexdigest()


@cache
def fitted_with(kind: type[Model]) -> str:
    """Library and version, like `hmmlearn 0.3.3`."""
    return f"{kind.library} {metadata.version(kind.library)}"


class Stored:
    """The parameters in the lake of one market: what was fitted on the same hours, by the same code, is not again."""

    def __init__(self, rows: pl.DataFrame) -> None:
        """
        Args:
            rows: of `candidate_parameters` of one market.
        """
        self._rows = {(row["as_of"], row["model"]): row for row in rows.iter_rows(named=True)}

    def row(self, kind: type[Model], as_of: datetime, past: Floats) -> dict[str, Any] | None:
        """The row of a kind and month; None: there is none, or it was fitted on other hours, or otherwise."""
        row = self._rows.get((as_of, kind.name))
        stamps = (returns_hash(past), fitted_with(kind), CODE_VERSIONS["candidate_parameters"])
        same = row is not None and (row["returns_hash"], row["fitted_with"], row["code_version"]) == stamps
        return row if same else None

    def model(self, kind: type[Model], as_of: datetime, past: Floats) -> Model | None:
        """The model of that row."""
        row = self.row(kind, as_of, past)
        return None if row is None else model_of(row)


def model_of(row: Mapping[str, Any]) -> Model:
    """The model that a row of `candidate_parameters` describes."""
    (kind,) = (kind for kind in MODELS if kind.name == row["model"])
    return kind.of({one["name"]: one["value"] for one in row["parameters"]}, row["converged"])


@dataclass(frozen=True)
class Refit:
    """The models of one market, brought up to date.

    Attributes:
        rows: of `candidate_parameters`, all of them.
        fitted: how many are new.
        left_out: models and months without parameters, each with the reason.
    """

    rows: pl.DataFrame
    fitted: int
    left_out: tuple[str, ...]


def refit(
    symbol: str, candles: pl.DataFrame, stored: pl.DataFrame, days: Span, months: Sequence[datetime], config_hash: str
) -> Refit:
    """Fits the months of one market that are not stored, or whose hours are no longer those that they were fitted on.

    Args:
        symbol: the market.
        candles: its rows of `candles` in the `reach` of the days; COLUMNS are enough.
        stored: its rows of `candidate_parameters`.
        days: until the last month begins, at least.
        months: their beginnings.
        config_hash: of its candles.
    """
    span, known = reach(days), Stored(stored)
    returns = hourly_returns(candles, span)
    rows: list[dict[str, Any]] = []
    left_out = []
    fitted = 0
    for as_of in months:
        place = place_of(as_of, span)
        hours = window(returns, place)
        if hours is None:
            few = int(np.count_nonzero(~np.isnan(returns[max(0, place - FIT_HOURS) : place])))
            reason = (
                f"{few / 24:.0f} of {LEAST_HOURS / 24:.0f} days are known" if few < LEAST_HOURS else "no price moved"
            )
            left_out.append(f"{symbol}, {as_of:%Y-%m}: {reason}")
            continue
        past = returns[hours]
        for kind in MODELS:
            row = known.row(kind, as_of, past)
            if row is None:
                try:
                    model = fit(kind, place, past)
                except ValueError as error:
                    left_out.append(f"{symbol}, {as_of:%Y-%m}, {kind.name}: {error}")
                    continue
                row = _row(model, past, time_of(hours.start, span))
                fitted += 1
            rows.append({**row, "as_of": as_of, "symbol": symbol, "config_hash": config_hash})
    return Refit(conform(pl.DataFrame(rows, infer_schema_length=None), "candidate_parameters"), fitted, tuple(left_out))


def _row(model: Model, past: Floats, fitted_from: datetime) -> dict[str, Any]:
    parameters = model.parameters()
    if not all(map(math.isfinite, parameters.values())):
        raise ValueError("a parameter is no number")
    return {
        "model": model.name,
        "parameters": [{"name": name, "value": value} for name, value in parameters.items()],
        "converged": model.converged,
        "fitted_from": fitted_from,
        "hours": int(np.count_nonzero(~np.isnan(past))),
        "returns_hash": returns_hash(past),
        "parameters_hash": parameters_hash(parameters),
        "fitted_with": fitted_with(type(model)),
        "code_version": CODE_VERSIONS["candidate_parameters"],
    }


def verdict(rows: pl.DataFrame) -> tuple[bool, str]:
    """Whether the newest models may be believed, and in sentences what they are.

    Args:
        rows: of `candidate_parameters`.
    """
    if rows.is_empty():
        return True, f"No model could be fitted yet: it needs {LEAST_HOURS // 24} days of candles before a month."
    newest = rows.filter(pl.col("as_of") == pl.col("as_of").max())
    flaws = []
    for row in newest.iter_rows(named=True):
        flaw = model_of(row).flaw()
        flaws += [f"{row['symbol']}, {row['model']}: {flaw}"] if flaw else []
    ended = newest["converged"].sum()
    said = (
        f"Of the {newest.height} models from {iso(newest['as_of'][0])[:10]} on, {ended} converged, "
        f"and {newest.height - ended} used up their iterations."
    )
    if flaws:
        return False, f"{said} {len(flaws)} should not be believed: {'; '.join(flaws)}."
    return True, f"{said} In every GARCH alpha + beta is below 1, and every hidden state is visited."
