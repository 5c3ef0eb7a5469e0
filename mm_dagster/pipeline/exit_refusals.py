"""What stands against leaving a grid by the program: each in a sentence with what would be needed."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path

import polars as pl

from mm_dagster.bars import iso
from mm_dagster.config.grid import GridConfig
from mm_dagster.config.markets import CcxtVenue
from mm_dagster.config.orders import Mode
from mm_dagster.errors import ForeseenError
from mm_dagster.execution.journal import Journal, Kept
from mm_dagster.execution.plan import LATE
from mm_dagster.pipeline.exit_account import permissions_of
from mm_dagster.pipeline.project import Project
from mm_dagster.text import exact

REHEARSED_WITHIN = timedelta(days=30)
"""A plan on paper, or a test, that is older proves nothing of today's configuration."""


class ExitRefused(ForeseenError):
    """A plan is not made, approved or carried out; one line, with what would be needed."""


def refuse_for_real(project: Project, grid: GridConfig, journal: Journal, mode: Mode) -> None:
    """What stands against asking an exchange, in the order in which a person can mend it.

    Raises:
        ExitRefused: something does.
    """
    orders, market = project.config.orders, project.config.market(grid.symbol)
    settings = market.settings
    refuse_killed(project)
    if not market.is_real or not isinstance(settings, CcxtVenue):
        raise ExitRefused(
            f"grid {grid.id}: {grid.symbol} is {market.kind}: there is no exchange to sell at; --paper works"
        )
    key = orders.trade_key
    if key is None or (key.venue or market.venue) != market.venue:
        raise ExitRefused(f"orders.yaml: trade_key: is of no account at {market.venue}, where {grid.symbol} trades")
    permitted = orders.of(grid.id)
    if mode == "live" and not permitted.allow:
        raise ExitRefused(
            f"orders.yaml: grids.{grid.id}: is not allowed; write `{grid.id}: {{allow: true, max_notional: ...}}`"
        )
    if permitted.max_notional is None:
        raise ExitRefused(
            f"orders.yaml: grids.{grid.id}.max_notional: is missing; say how much a plan may sell at most"
        )
    if mode == "live":
        since = project.now() - REHEARSED_WITHIN
        done = [
            one for one in journal.all("DONE")
            if one.grid_id == grid.id and one.mode in ("paper", "test") and one.created_at > since
        ]  # fmt: skip
        if not done:
            raise ExitRefused(
                f"grid {grid.id}: no plan of it was finished on paper or as a test within "
                f"{REHEARSED_WITHIN.days} days; run `mm exit {grid.id} --paper` first"
            )
    refuse_key(project, market.venue, settings, mode)


def refuse_killed(project: Project) -> None:
    """
    Raises:
        ExitRefused: nothing is to be asked of an exchange.
    """
    if is_killed(project):
        path = project.data / project.config.orders.kill_file
        raise ExitRefused(f"the kill file is there: {path}; take it away when all is clear")


def refuse_key(project: Project, venue: str, settings: CcxtVenue, mode: Mode) -> None:
    """A key that reads is not one that trades, and none that trades may move funds away.

    Raises:
        ExitRefused: it is the same, or may.
    """
    from mm_dagster.pipeline.venues import key_of

    key = project.config.orders.trade_key
    assert key is not None
    trading = key_of(venue, key)
    # One exchange may be several venues: the key is one of the exchange.
    for name, other in project.config.markets.venues.items():
        if not isinstance(other, CcxtVenue) or other.account is None or other.exchange != settings.exchange:
            continue
        reading = key_of(name, other.account)
        if {trading.key, trading.secret} & {reading.key, reading.secret}:
            raise ExitRefused(
                f"orders.yaml: trade_key: {key.key_env} holds the key that reads the account; make another one at "
                f"{venue} that may trade, and not withdraw"
            )
    may = permissions_of(venue, settings, trading, mode)
    if may is not None and may.moves_funds:
        raise ExitRefused(
            f"orders.yaml: trade_key: the key may withdraw or transfer ({', '.join(may.names)}); take that right "
            f"from it at {venue}"
        )
    if may is not None and not may.trades:
        raise ExitRefused(f"orders.yaml: trade_key: the key may not trade ({', '.join(may.names)}); give it that right")


def refuse_unknown(project: Project, grid: GridConfig, journal: Journal) -> None:
    """What a grid holds is sold as it was stored where the exchange told it lately, and no plan sold of it since.

    Raises:
        ExitRefused: a person must say it.
    """
    rows = project.lake.read("grid_risk", grids=[grid.id], columns=["activated_at", "as_of", "source"])
    mine = rows.filter(pl.col("activated_at") == grid.activated_at).sort("as_of").tail(1).to_dicts()
    if not mine or mine[0]["source"] != "ACCOUNT":
        raise ExitRefused(
            f"grid {grid.id}: what it holds is modelled from candles, not told by the exchange: look there, and say it "
            "with --amount"
        )
    as_of: datetime = mine[0]["as_of"]
    if project.now() - as_of > LATE:
        raise ExitRefused(
            f"grid {grid.id}: what it holds was told at {iso(as_of)}, long ago: look at the exchange, and say it with "
            "--amount"
        )
    for kept in journal.all():
        if kept.mode != "live" or (kept.grid_id, kept.activated_at) != (grid.id, grid.activated_at):
            continue
        # A bar is made of what the exchange told after its end: it may be older than a sale soon after that.
        since = [at for at in (*kept.intended_at.values(), *kept.closed_at.values()) if at > as_of - LATE]
        if since and any(order.counted for order in kept.plan.orders):
            raise ExitRefused(
                f"grid {grid.id}: plan {kept.plan_id} sold of it since what it holds was told: look at the exchange, "
                "and say with --amount what is left of it"
            )


def withdrawn_from(project: Project, kept: Kept) -> str | None:
    """Why orders.yaml does not allow a plan any more that it allowed once; None: it does."""
    orders, mode = project.config.orders, kept.mode
    if not orders.allows(mode):
        return f"orders.yaml: mode: {orders.mode} allows no {mode} plan any more"
    if mode == "live" and not orders.of(kept.grid_id).allow:
        return f"orders.yaml: grids.{kept.grid_id}: is not allowed any more"
    most = orders.of(kept.grid_id).max_notional
    if mode == "live" and (most is None or exact(most) < kept.plan.terms.most_quote):
        return f"orders.yaml: grids.{kept.grid_id}.max_notional: is less than when the plan was approved"
    return None


def is_killed(project: Project) -> bool:
    """Whether the kill file is there; a place that cannot be looked at is taken for one where it is."""
    path = project.data / Path(project.config.orders.kill_file)
    try:
        path.lstat()
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return True


def most_of(project: Project, grid: GridConfig, mode: Mode) -> Decimal:
    allowed = project.config.orders.of(grid.id).max_notional
    # On paper nothing is lost by too much.
    return exact(allowed) if allowed is not None else Decimal("1e12") if mode == "paper" else Decimal(0)
