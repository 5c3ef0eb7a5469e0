"""The worst of some nights: what the grids lose in them, one by one and all together."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from mm_dagster.arrays import Floats, Integers

NIGHT, RARE = 0.05, 0.01
"""Shares of the nights that are worse: one in 20, one in 100."""


class Tail(NamedTuple):
    """How much is lost in the worst nights.

    Attributes:
        var: the loss that a share of the nights exceeds: the ceil(share n)-th worst of n.
        es: mean of those and of itself.
        worst: which paths these are, worst first.
    """

    var: float
    es: float
    worst: Integers


def tail(losses: Floats, share: float) -> Tail:
    """The worst nights of some.

    Args:
        losses: by path, shape (k,).
        share: of the nights.
    """
    many = int(np.ceil(share * losses.size))
    # Of equal losses the earlier night comes first, on every machine.
    worst = np.argsort(-losses, kind="stable")[:many]
    return Tail(float(losses[worst[-1]]), float(np.add.reduce(losses[worst])) / many, worst)


def vars_of(losses: Floats, share: float) -> list[float]:
    """`tail(...).var` of each of some rows of losses, shape (rows, k), without sorting them."""
    found = _most(losses, share)[:, 0].tolist()
    # Of a 0 and what is not known, `tail` says which it is.
    return [var if var and var == var else tail(row, share).var for row, var in zip(losses, found, strict=True)]


def means_of(losses: Floats, share: float) -> list[float]:
    """`tail(...).es` of each of some rows of losses, shape (rows, k)."""
    most = -np.sort(-_most(losses, share), axis=1)
    many = most.shape[1]
    return [
        float(np.add.reduce(of_row)) / many if of_row[-1] and of_row[0] == of_row[0] else tail(row, share).es
        for row, of_row in zip(losses, most, strict=True)
    ]


def _most(losses: Floats, share: float) -> Floats:
    """The largest of each row, so many as the share is, the least of them first and the rest in any order.

    Where something of a row is not known, so is what is found.
    """
    many = int(np.ceil(share * losses.shape[1]))
    found = np.partition(losses, losses.shape[1] - many, axis=1)[:, -many:]
    unknown = np.isnan(losses).any(axis=1, keepdims=True)
    return np.where(unknown, np.nan, found)


def added_up(losses: Floats) -> Floats:
    """Losses of all grids together by path, one grid after another: shape (grids, k) -> (k,)."""
    total = np.zeros(losses.shape[1])
    for of_grid in losses:
        total += of_grid
    return total
