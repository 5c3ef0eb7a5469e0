"""Candidates: models of the hourly returns that might tell of a break, fitted each month on the hours before it.

None decides anything: what they say goes through the promotion gate, and so far nothing has passed. hmmlearn and arch,
which fit them, are installed with the extra `research`, and imported where a model is fitted.
"""

from __future__ import annotations

import hashlib
import itertools
import logging
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from functools import cache
from importlib import metadata
from importlib.util import find_spec
from typing import Any, ClassVar

import numpy as np
import polars as pl

from mm_dagster.arrays import Floats, kernel, natural_log
from mm_dagster.bars import BAR, HOUR_BARS, Span, by_bar, iso, midnight
from mm_dagster.tables.registry import CODE_VERSIONS, conform

EXTRA = "research"
"""The extra that installs the libraries."""
FIT_HOURS = 60 * 24
"""What a model is fitted on, ending with the month before."""
LEAST_HOURS = 30 * 24
"""With fewer known returns it is not fitted."""
STATES = 3
"""Of the hidden Markov model."""
ITERATIONS = 15
"""Of expectation and maximisation, at most."""
TOLERANCE = 0.1
"""They end when the log likelihood gains less."""
COLUMNS = ("symbol", "close_time", "close")
"""Of `candles`, that they need."""
_HOUR = HOUR_BARS * BAR
_NEARLY = 1e-6
"""The fit of a GARCH stops so near to the bound at which a shock would last for ever."""


@dataclass(frozen=True)
class Model(ABC):
    """A model of the hourly returns of one market, fitted once: nothing in it is learned later.

    Attributes:
        name: as in `candidate_parameters`.
        library: that fits it.
        converged: whether the fit ended by itself; not because its iterations were used up.
        unit: standard deviation of the returns on which it was fitted; all other parameters are of returns over it.
    """

    name: ClassVar[str]
    library: ClassVar[str]
    says: ClassVar[tuple[str, ...]]
    """Names of what it says."""

    converged: bool
    unit: float

    @classmethod
    @abstractmethod
    def fit(cls, returns: Floats) -> Model:
        """Fits it: the same returns give the same parameters.

        Args:
            returns: hourly, all known, not all zero, shape (hours,).

        Raises:
            ValueError: the library finds no parameters.
        """

    @classmethod
    @abstractmethod
    def of(cls, parameters: Mapping[str, float], converged: bool) -> Model:
        """The model that has these `parameters`."""

    def parameters(self) -> dict[str, float]:
        """All of them as plain numbers, those of a vector or matrix numbered from 0, like `transition_0_2`."""
        return {
            "_".join([field.name, *map(str, place)]): float(value)
            for field in fields(self)
            if field.name != "converged"
            for place, value in np.ndenumerate(getattr(self, field.name))
        }

    @abstractmethod
    def said(self, returns: Floats) -> tuple[Floats, ...]:
        """What it says with the close of every hour, knowing no later one, in the order of `says`.

        Args:
            returns: from the first hour on which it was fitted on, NaN where unknown, shape (hours,).

        Returns:
            Each of shape (hours,).
        """

    @abstractmethod
    def flaw(self) -> str | None:
        """Why it should not be believed, in words; None: nothing is wrong with it."""


@dataclass(frozen=True)
class Markov(Model):
    """A hidden Markov model, returns Gaussian in each state (Rabiner 1989); states go from the calmest to the roughest.

    Attributes:
        start: probability of each state in the first hour.
        transition: probability of each state (column) in the hour after each state (row).
        mean: of the returns in each state.
        variance: likewise.
    """

    name = "hmm"
    library = "hmmlearn"
    says = ("hmm_rough", "hmm_falling")
    """Probability of the state with the highest variance, and of the one with the lowest mean."""

    start: tuple[float, ...]
    transition: tuple[tuple[float, ...], ...]
    mean: tuple[float, ...]
    variance: tuple[float, ...]

    @classmethod
    def fit(cls, returns: Floats) -> Markov:
        """By expectation and maximisation, from the clusters that a seeded k-means finds."""
        from hmmlearn.hmm import GaussianHMM
        from threadpoolctl import threadpool_limits

        # It tells of iterations that are used up, which `converged` says.
        logging.getLogger("hmmlearn").setLevel(logging.CRITICAL)
        unit = float(returns.std())
        model = GaussianHMM(STATES, covariance_type="diag", n_iter=ITERATIONS, tol=TOLERANCE, random_state=0)
        # How k-means sums up depends on how many threads it has.
        with threadpool_limits(1):
            model.fit(returns[:, None] / unit)
        mean, variance = model.means_[:, 0], model.covars_[:, 0, 0]
        order = np.lexsort((mean, variance))
        transition = model.transmat_[order][:, order]
        # From a state that was never visited nothing was seen to go anywhere.
        transition = np.where(transition.sum(axis=1, keepdims=True) > 0, transition, 1.0 / STATES)
        history = model.monitor_.history
        return cls(
            converged=len(history) > 1 and history[-1] - history[-2] < TOLERANCE,
            unit=unit,
            start=tuple(model.startprob_[order].tolist()),
            transition=tuple(map(tuple, transition.tolist())),
            mean=tuple(mean[order].tolist()),
            variance=tuple(variance[order].tolist()),
        )

    @classmethod
    def of(cls, parameters: Mapping[str, float], converged: bool) -> Markov:
        """See `Model.of`."""
        states = range(STATES)
        start, mean, variance = (
            tuple(parameters[f"{name}_{state}"] for state in states) for name in ("start", "mean", "variance")
        )
        transition = tuple(tuple(parameters[f"transition_{one}_{two}"] for two in states) for one in states)
        return cls(converged, parameters["unit"], start, transition, mean, variance)

    def said(self, returns: Floats) -> tuple[Floats, Floats]:
        """See `Model.said`; probabilities."""
        parts = (np.array(part) for part in (self.start, self.transition, self.mean, self.variance))
        told = forward(returns / self.unit, *parts)
        return told[:, -1], told[:, int(np.argmin(self.mean))]

    def flaw(self) -> str | None:
        """A state that the chain comes to in less than an hour of those that it was fitted on."""
        balance = np.vstack([np.array(self.transition).T - np.eye(STATES), np.ones(STATES)])
        share = np.linalg.lstsq(balance, np.append(np.zeros(STATES), 1.0), rcond=None)[0]
        rare = int(np.argmin(share))
        return f"state {rare} is hardly ever visited" if share[rare] * FIT_HOURS < 1 else None


@dataclass(frozen=True)
class Garch(Model):
    """GARCH(1,1) without a mean (Bollerslev 1986).

    Attributes:
        omega: constant part of the variance of an hour.
        alpha: what a squared return adds to the variance of the next hour.
        beta: what the variance itself adds.
        before: variance of the hour before the first.
    """

    name = "garch"
    library = "arch"
    says = ("garch_forecast",)
    """Standard deviation of an hourly return, as a fraction, over the next 24 hours."""

    omega: float
    alpha: float
    beta: float
    before: float

    @classmethod
    def fit(cls, returns: Floats) -> Garch:
        """By maximum likelihood."""
        from arch import arch_model
        from threadpoolctl import threadpool_limits

        unit = float(returns.std())
        scaled = returns / unit
        with threadpool_limits(1):
            found = arch_model(scaled, mean="Zero", vol="GARCH", p=1, q=1, rescale=False).fit(
                disp="off", show_warning=False
            )
        omega, alpha, beta = found.params.tolist()
        return cls(found.convergence_flag == 0, unit, omega, alpha, beta, float(np.mean(scaled**2)))

    @classmethod
    def of(cls, parameters: Mapping[str, float], converged: bool) -> Garch:
        """See `Model.of`."""
        return cls(converged=converged, **parameters)

    def said(self, returns: Floats) -> tuple[Floats]:
        """See `Model.said`."""
        ahead = mean_ahead(returns / self.unit, self.omega, self.alpha, self.beta, self.before)
        return (self.unit * np.sqrt(ahead),)

    def flaw(self) -> str | None:
        """A shock to the variance that lasts for ever."""
        kept = self.alpha + self.beta
        return f"alpha + beta is {kept:.6f}: a shock lasts for ever" if kept >= 1.0 - _NEARLY else None


MODELS: tuple[type[Model], ...] = (Markov, Garch)


def missing() -> list[str]:
    """The libraries that fit the models and are not installed."""
    return [kind.library for kind in MODELS if find_spec(kind.library) is None]


@kernel
def forward(returns: Floats, start: Floats, transition: Floats, mean: Floats, variance: Floats) -> Floats:
    """The forward filter (Rabiner 1989): probability of each state, knowing nothing that comes later.

    Args:
        returns: NaN where unknown, shape (hours,).
        start: shape (states,).
        transition: shape (states, states).
        mean: shape (states,).
        variance: shape (states,).

    Returns:
        Shape (hours, states).
    """
    said = np.empty((returns.size, start.size))
    state = start.copy()
    for hour in range(returns.size):
        ahead = state @ transition if hour else state
        if not np.isnan(returns[hour]):
            ahead = ahead * np.exp(-0.5 * (returns[hour] - mean) ** 2 / variance) / np.sqrt(variance) + 1e-300
        state = ahead / ahead.sum()
        said[hour] = state
    return said


@kernel
def mean_ahead(returns: Floats, omega: float, alpha: float, beta: float, before: float) -> Floats:
    """Mean variance of an hour over the next 24 by a GARCH(1,1), shape (hours,); an unknown return is as expected."""
    said = np.empty(returns.size)
    variance = before
    kept = alpha + beta
    for hour in range(returns.size):
        square = variance if np.isnan(returns[hour]) else returns[hour] ** 2
        variance = omega + alpha * square + beta * variance
        ahead, total = variance, 0.0
        for _ in range(24):
            total += ahead
            ahead = omega + kept * ahead
        said[hour] = total / 24
    return said


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
            why = f"{few / 24:.0f} of {LEAST_HOURS / 24:.0f} days are known" if few < LEAST_HOURS else "no price moved"
            left_out.append(f"{symbol}, {as_of:%Y-%m}: {why}")
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
