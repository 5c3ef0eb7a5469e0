"""What all grids may lose together, as a sentence: in the digest, on the page and in the terminal alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mm_dagster.text import money_text, number_text

ALL = "all"
"""The subject of a limit that is about all grids."""


def percent(share: float) -> str:
    """A share as one says it: 12 %, 2.8 %, 0.35 %."""
    return f"{number_text(100 * share, 2 if abs(share) < 1 else 3)} %"


def of_grids(risk: Mapping[str, Any], *, only: bool) -> str:
    """Whom it is about: `All 6 grids together`, `Both USDT grids together`, `The one BTC grid that runs`.

    Args:
        risk: a row of `portfolio_risk`.
        only: whether there is no other quote currency; else it is named.
    """
    of = "" if only else f"{risk['quote']} "
    if risk["grids"] == 1:
        return f"The one {of}grid that runs"
    return f"{'Both' if risk['grids'] == 2 else 'All ' + str(risk['grids'])} {of}grids together"


def night(risk: Mapping[str, Any]) -> str:
    """What one night in 20 costs, without its end; asked only where that is known.

    Args:
        risk: a row of `portfolio_risk`.
    """
    amount = f"{money_text(abs(risk['var_5_24h']), risk['capital'])} {risk['quote']}"
    if risk["var_5_24h"] <= 0:
        return f"19 nights in 20 gain {amount} or more" if risk["var_5_24h"] else "19 nights in 20 lose nothing"
    whose = "its" if risk["grids"] == 1 else "their"
    return f"one night in 20 costs {amount} or more ({percent(risk['var_5_24h'] / risk['capital'])} of {whose} capital)"


def sentence(risk: Mapping[str, Any], limits: Sequence[Mapping[str, Any]], *, only: bool = True) -> str:
    """All grids in one line: the bad night, how many grids they count as, and what is breached; or why it is not known.

    Args:
        risk: a row of `portfolio_risk`.
        limits: the rows of `limit_state` of the same bar.
        only: see `of_grids`.

    Returns:
        Nothing where no grid holds anything.
    """
    if not risk["grids"]:
        return ""
    who = of_grids(risk, only=only)
    breached = named_limits(limits)
    named = f" Breached: {_listed(breached)}." if breached else ""
    if risk["var_5_24h"] is None:
        return f"{who}: what a bad night costs is not known. {risk['reason'] or ''}".strip() + named
    counts = ""
    if risk["counts_as"] is not None and risk["grids"] > 1:
        counts = f"; they count as {number_text(risk['counts_as'], 2)} independent grids"
    return f"{who}: {night(risk)}{counts}.{named}"


def named_limits(limits: Sequence[Mapping[str, Any]]) -> list[str]:
    """The limits that are breached, by name.

    Args:
        limits: rows of `limit_state`.
    """
    return [
        row["limit"] if row["subject"] == ALL else f"{row['limit']} of {row['subject']}"
        for row in limits
        if row["breached"]
    ]


def addition(quote: str, capital: float, before: float, after: float, equity: float | None) -> str:
    """What a grid that waits would add to the bad night, in a sentence.

    Args:
        quote: quote currency.
        capital: of the grid.
        before: what the worst nights, one in 20, cost on average; 0 where no grid runs.
        after: the same with it.
        equity: what limits are shares of; None: it is not known.
    """
    size = max(capital, before, after)
    added = money_text(abs(after - before), size)
    does = "adds" if after >= before else "takes"
    where = "to" if after >= before else "off"
    now = f", {money_text(before, size)} now" if before else ""
    share = f" ({percent(after / equity)} of your equity then)" if equity else ""
    return (
        f"As proposed, with {money_text(capital, size)} {quote}, it {does} {added} {quote} {where} what the worst "
        f"nights, one in 20, cost all grids on average{now}{share}."
    )


_NAMED = 4
"""Breached limits that one line names."""


def _listed(names: Sequence[str]) -> str:
    """A few names, and how many more there are."""
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")
