"""Models of the hourly returns of one market: what each is, how it is fitted, and what it says of every hour.

hmmlearn and arch, which fit them, are installed with the extra `research`, and imported where a model is fitted.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import ClassVar

import numpy as np

from mm_dagster.arrays import Floats, kernel

FIT_HOURS = 60 * 24
"""What a model is fitted on, ending with the month before."""
STATES = 3
"""Of the hidden Markov model."""
ITERATIONS = 15
"""Of expectation and maximisation, at most."""
TOLERANCE = 0.1
"""They end when the log likelihood gains less."""
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
        filtered = forward(returns / self.unit, *parts)
        return filtered[:, -1], filtered[:, int(np.argmin(self.mean))]

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
