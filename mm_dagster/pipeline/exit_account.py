"""The account that a plan to leave a grid sells at: at the exchange, or on paper; and whose turn it is there.

The only module that reaches what places orders (market/orders.py) and what stops bots (market/bots.py).
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import platformdirs

from mm_dagster.config.grid import GridConfig
from mm_dagster.config.markets import CcxtVenue
from mm_dagster.config.orders import Mode
from mm_dagster.execution.journal import FOLDER, JournalError, Kept
from mm_dagster.execution.locks import AccountLocked, account_lock
from mm_dagster.market.order_venue import GridStop, OrderVenue
from mm_dagster.pipeline.project import Project

if TYPE_CHECKING:
    from mm_dagster.market.account import Credentials
    from mm_dagster.market.orders import Permissions


class Occupied(JournalError):
    """Another process works on the account."""


def account_of(project: Project, symbol: str) -> str:
    """What tells the account that a market's grids are left at from others, without telling its key."""
    from mm_dagster.market.orders import fingerprint
    from mm_dagster.pipeline.venues import key_of

    market, key = project.config.market(symbol), project.config.orders.trade_key
    assert isinstance(market.settings, CcxtVenue)
    assert key is not None
    return fingerprint(market.settings, key_of(market.venue, key))


def only_checks(venue: OrderVenue) -> bool:
    """Whether an exchange takes no order here and only checks it."""
    return bool(getattr(venue, "only_checks", False))


@contextmanager
def one_at_a_time(project: Project, kept: Kept, mode: Mode) -> Iterator[None]:
    """One process works on an account: of this machine, whatever home it has; on paper of this home.

    Raises:
        Occupied: another one does.
        JournalError: the lock cannot be had.
    """
    folders, name = [project.data / FOLDER], f"{mode}-{kept.venue}"
    if mode != "paper":
        with warnings.catch_warnings():
            # Where nobody has logged in it is a folder below /tmp, which does as well.
            warnings.simplefilter("ignore")
            # A service and a login may have another one each: the home's own is locked as well.
            folders.append(platformdirs.user_runtime_path("mm-dagster", appauthor=False))
        name = account_of(project, kept.plan.terms.symbol)
    try:
        with ExitStack() as stack:
            for folder in folders:
                stack.enter_context(account_lock(folder, name))
            yield
    except AccountLocked as error:
        raise Occupied(str(error)) from None


@contextmanager
def opened(project: Project, grid: GridConfig, mode: Mode, kept: Kept | None) -> Iterator[OrderVenue]:
    """The account that a plan sells at, or the one on paper.

    Args:
        project: configuration and venues.
        grid: which is left.
        mode: paper, test or live.
        kept: the plan; None: there is none yet, and only the market's rules are asked for.

    Raises:
        ForeseenError: it cannot be opened.
    """
    market = project.config.market(grid.symbol)
    if mode == "paper":
        from mm_dagster.pipeline.paper import paper_venue

        yield paper_venue(project, grid, kept)
        return
    from mm_dagster.market.orders import open_orders
    from mm_dagster.pipeline.venues import key_of

    key = project.config.orders.trade_key
    assert key is not None
    assert isinstance(market.settings, CcxtVenue)
    yield open_orders(market.venue, market.settings, key_of(market.venue, key), test=mode == "test")


def grid_stop(project: Project, grid: GridConfig, kept: Kept) -> GridStop | None:
    stopper = kept.plan.terms.stopper
    return bot_of(project, grid, sells=stopper == "bot_sells") if stopper in ("bot", "bot_sells") else None


def bot_of(project: Project, grid: GridConfig, *, sells: bool) -> GridStop | None:
    """The exchange's own bot that a grid is; None: it is none that a program can stop.

    Raises:
        VenueError: it cannot be asked.
    """
    if grid.source is None:
        return None
    from mm_dagster.market.bots import can_stop, open_stop
    from mm_dagster.pipeline.venues import key_of

    name = grid.source.exchange
    key, settings = project.config.orders.trade_key, project.config.markets.venues[name]
    assert key is not None
    if not isinstance(settings, CcxtVenue) or not can_stop(settings.exchange):
        return None
    return open_stop(name, settings, key_of(name, key), grid.source.id, grid.symbol, sells=sells)


def permissions_of(venue: str, settings: CcxtVenue, key: Credentials, mode: Mode) -> Permissions | None:
    """What a key may do; None: the exchange does not tell.

    Raises:
        VenueError: it did not answer.
    """
    from mm_dagster.market.orders import permissions

    # OKX's demo account, where its tests are made, has keys of its own.
    return permissions(venue, settings, key, test=mode == "test")
