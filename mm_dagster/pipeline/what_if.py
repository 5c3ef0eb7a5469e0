"""All grids at once with other capital in some of them: computed like the stored rows, and not stored.

A running grid holds in proportion from here on. What it made so far stays as it is, since that has happened: so the
drawdown is the same, and ruin is told from the loss that there is. A grid without capital is as one that is sold now. A
configured grid that holds nothing is opened at the bar's close, as its file says.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np
import polars as pl

from mm_dagster.bars import BAR, Span
from mm_dagster.config.grid import GridConfig
from mm_dagster.config.whole import Config
from mm_dagster.grid import position
from mm_dagster.grid.episode import rules_of
from mm_dagster.pipeline.portfolio import inputs_of, members_of, quote_of
from mm_dagster.pipeline.project import Project
from mm_dagster.pipeline.together import NoPortfolio, Row, Together
from mm_dagster.portfolio import limits, risk
from mm_dagster.portfolio.risk import Inputs, Member
from mm_dagster.tables import registry
from mm_dagster.tables.market import NO_RULES, MarketRules
from mm_dagster.text import did_you_mean, plain_text, price_text

_SCALED = ("inventory", "liquidation_value", "capital_at_risk")
"""Columns of `grid_risk` that a grid has in proportion to its capital."""
_OF_CAPITAL = ("portfolio", "pair", "position", "session", "es_5_24h", "correlation")
"""The limits that other capital may pass; fills, fees and the drawdown are what has happened."""


@dataclass(frozen=True)
class Changed:
    """A grid whose capital somebody asks about.

    Attributes:
        grid_id: the grid.
        before: its capital now, quote currency; None: it holds nothing now, and is opened.
        after: what is asked, quote currency; 0: without it.
    """

    grid_id: str
    before: float | None
    after: float


@dataclass(frozen=True)
class WhatIf:
    """The same bar with the capital as it is and as it might be, both computed now; only limits of the capital."""

    changes: tuple[Changed, ...]
    before: Together
    after: Together


@dataclass(frozen=True)
class Addition:
    """What a waiting grid would add to the bad night.

    Attributes:
        grid_id: the grid.
        quote: quote currency of the money.
        capital: of the grid.
        before: what the worst nights of all running grids, one in 20, cost on average; 0 where none runs.
        after: the same with it.
        equity: what limits are shares of; None: it is not known.
    """

    grid_id: str
    quote: str
    capital: float
    before: float
    after: float
    equity: float | None


def what_if(project: Project, moment: datetime, asked: Mapping[str, float]) -> tuple[WhatIf, ...]:
    """The portfolio at a bar with other capital in some grids, by quote currency; those without one are left out.

    Args:
        project: configuration and lake.
        moment: `as_of` of a bar.
        asked: capital by grid_id, quote currency, at least 0.

    Raises:
        NoPortfolio: there is no such grid, its money is not added up with the others', or it cannot be opened.
    """
    members = members_of(project.lake, project.config)
    _refuse_unknown(project.config, members, asked)
    span = Span(moment - BAR, moment)
    stored = project.lake.read("grid_risk", span=span, columns=["grid_id", "activated_at", "stopped_at"])
    sold = set(stored.filter(pl.col("stopped_at").is_not_null()).select("grid_id", "activated_at").iter_rows())
    holding = {one.grid.id: one for one in members if one.runs_at(moment) and one.key not in sold}
    opened = list(_opened(project, moment, {name: asked[name] for name in asked if name not in holding}))
    wanted = [_with_capital(one, asked) if holding.get(one.grid.id) is one else one for one in members]
    wanted = sorted([*wanted, *(member for member, _ in opened)], key=lambda one: one.key)
    changes = [Changed(name, holding[name].grid.capital if name in holding else None, asked[name]) for name in asked]
    quotes = {one.grid.id: quote_of(one) for one in wanted}
    concerned = sorted({quotes[name] for name in asked})
    stored_of, wanted_of = (
        dict(inputs_of(project, [one for one in some if quote_of(one) in concerned], [moment]))
        for some in (members, wanted)
    )
    found = []
    for quote in concerned:
        known, mine = stored_of.get(quote), wanted_of.get(quote)
        before = _nothing(quote, moment)
        if known is not None:
            before = _computed(quote, known, moment, project.config)
        after = _nothing(quote, moment)
        if mine is not None:
            rows = _standing(mine.risk_rows, moment, holding, opened, asked)
            # An account holds no more because more of it is in a grid.
            equities = known.equities if known is not None else {}
            changed = mine._replace(risk_rows=rows, equities=equities)
            after = _computed(quote, changed, moment, project.config)
        found.append(WhatIf(tuple(one for one in changes if quotes[one.grid_id] == quote), before, after))
    return tuple(found)


def _refuse_unknown(config: Config, members: Sequence[Member], asked: Mapping[str, float]) -> None:
    """Says what is wrong with the names."""
    configured = {grid.id: grid for grid in config.grids}
    known = {*configured, *(member.grid.id for member in members)}
    for name in asked:
        if name not in known:
            raise NoPortfolio(f"--what-if {name}: there is no such grid{did_you_mean(name, known)}")
        if name in configured and not config.in_portfolio(configured[name].symbol):
            raise NoPortfolio(
                f"--what-if {name}: {configured[name].symbol} is {config.market(configured[name].symbol).kind}, and "
                f"only the {config.kind} grids are added up; name one of those"
            )


def _with_capital(member: Member, asked: Mapping[str, float]) -> Member:
    """A running grid with what is asked. One without capital keeps what it has: its row says that it is sold."""
    capital = asked.get(member.grid.id)
    if not capital:
        return member
    return replace(member, grid=member.grid.model_copy(update={"capital": capital}))


def _opened(
    project: Project, moment: datetime, asked: Mapping[str, float]
) -> Iterator[tuple[Member, dict[str, object]]]:
    """Each grid that holds nothing, opened at the close of a bar, with its row of `grid_risk`."""
    config, lake = project.config, project.lake
    span = Span(moment - BAR, moment)
    episodes = lake.read("grid_episode").sort("activated_at")
    for name, capital in asked.items():
        configured = next((grid for grid in config.grids if grid.id == name), None)
        if configured is None or not capital:
            why = "it is not configured any more" if configured is None else "there is nothing to take out of it"
            raise NoPortfolio(f"--what-if {name}={plain_text(capital)}: it holds nothing then, and {why}")
        rows = episodes.filter(pl.col("grid_id") == name, pl.col("symbol") == configured.symbol)
        rules = rules_of(rows.row(-1, named=True)) if rows.height else NO_RULES
        update = {"enabled": True, "activated_at": moment, "capital": capital}
        grid: GridConfig = configured.model_copy(update=update)
        bar = lake.read("candles", span=span, symbols=[grid.symbol])
        yield _at_the_close(config, grid, rules, bar, moment)


def _at_the_close(
    config: Config, grid: GridConfig, rules: MarketRules, bar: pl.DataFrame, moment: datetime
) -> tuple[Member, dict[str, object]]:
    """A grid opened at the close of a bar, with its row of `grid_risk`.

    Raises:
        NoPortfolio: it cannot be, and why.
    """
    close = bar["close"][0] if bar.height else None
    if close is None:
        raise NoPortfolio(f"{grid.id}: the bar of {grid.symbol} is not known, so it cannot be opened there")
    if close <= grid.stop:
        raise NoPortfolio(
            f"{grid.id}: {grid.symbol} is at {price_text(close)}, not above its stop {price_text(grid.stop)}; it "
            "cannot be opened there"
        )
    prices = bar.select(position.PRICES).to_numpy().T.astype(np.float64)
    lived = position.compute(grid, prices, np.full(1, np.nan), config.risk, rules)
    if lived.remark:
        raise NoPortfolio(f"{grid.id} with {plain_text(grid.capital)}: {lived.remark}")
    figures = {column: float(lived.numbers[column][0]) for column in (*_SCALED, "total_pnl")}
    row = {"symbol": grid.symbol, "price": close, "stopped_at": None, "source": "MODELLED", **figures}
    return Member(grid, rules, None), {"grid_id": grid.id, "activated_at": moment, "as_of": moment, **row}


def additions(project: Project, moment: datetime, names: Collection[str] | None = None) -> list[Addition]:
    """What each waiting grid would add to the bad night if it were opened as it is proposed, with its own capital.

    Its stop lies as far below the proposed bound as that of its file does below its own. A grid for which nothing is
    proposed, or that cannot be opened, is left out.

    Args:
        project: configuration and lake.
        moment: `as_of` of a bar.
        names: only these grids; None: all that wait.
    """
    config, lake = project.config, project.lake
    span = Span(moment - BAR, moment)
    proposals = {
        row["grid_id"]: row
        for row in lake.read("entry_assessment", span=span).iter_rows(named=True)
        if None not in (row["lower"], row["upper"], row["levels"]) and (names is None or row["grid_id"] in names)
    }
    waiting = [grid for grid in config.grids if grid.id in proposals and config.in_portfolio(grid.symbol)]
    if not waiting:
        return []
    episodes = lake.read("grid_episode").sort("activated_at")
    members, found = members_of(lake, config), []
    for grid in waiting:
        row, quote = proposals[grid.id], grid.symbol.partition("-")[2]
        seen = episodes.filter(pl.col("grid_id") == grid.id, pl.col("symbol") == grid.symbol)
        proposed = grid.model_copy(
            update={
                "enabled": True,
                "activated_at": moment,
                "lower": row["lower"],
                "upper": row["upper"],
                "levels": row["levels"],
                "level_convention": "intervals",
                "spacing": "geometric",
                "stop": row["lower"] * grid.stop / grid.lower,
            }
        )
        bar = lake.read("candles", span=span, symbols=[grid.symbol])
        rules = rules_of(seen.row(-1, named=True)) if seen.height else NO_RULES
        try:
            opened, its = _at_the_close(config, proposed, rules, bar, moment)
        except NoPortfolio:
            continue
        # Grids of an earlier activation of the same id that still run stay what they are.
        wanted = sorted([*(one for one in members if quote_of(one) == quote), opened], key=lambda one: one.key)
        for _, known in inputs_of(project, wanted, [moment]):
            rows = pl.concat([known.risk_rows, pl.DataFrame([its], schema=known.risk_rows.schema, orient="row")])
            before, after = (
                risk.compute(
                    quote, known._replace(members=some, risk_rows=rows), [moment], config.portfolio, config.risk
                )
                for some in ([one for one in known.members if one is not opened], known.members)
            )
            its_before, its_after = (part[0].row(0, named=True) for part in (before, after))
            spent = its_before["es_5_24h"] if its_before["grids"] else 0.0
            if None not in (spent, its_after["es_5_24h"]):
                equity = its_after["equity"] or its_before["live_equity"]
                found.append(Addition(grid.id, quote, grid.capital, spent, its_after["es_5_24h"], equity))
    return found


def _standing(
    rows: pl.DataFrame,
    moment: datetime,
    holding: Mapping[str, Member],
    opened: Sequence[tuple[Member, Mapping[str, object]]],
    asked: Mapping[str, float],
) -> pl.DataFrame:
    """The rows of `grid_risk` as they would be at the bar; those before it are what has happened."""
    for name, capital in asked.items():
        if name not in holding:
            continue
        member = holding[name]
        its = (
            (pl.col("grid_id") == name)
            & (pl.col("activated_at") == member.grid.activated_at)
            & (pl.col("as_of") == moment)
        )
        if capital:
            changed = [pl.col(column) * (capital / member.grid.capital) for column in _SCALED]
        else:
            changed = [pl.lit(moment, dtype=rows.schema["stopped_at"]).alias("stopped_at")]
        rows = rows.with_columns(pl.when(its).then(one).otherwise(pl.col(one.meta.output_name())) for one in changed)
    fresh = pl.DataFrame([row for _, row in opened], schema=rows.schema, orient="row")
    return pl.concat([rows, fresh])


def _computed(quote: str, found: Inputs, moment: datetime, config: Config) -> Together:
    """The portfolio of some inputs, with the limits that its capital may pass."""
    risks, shares = risk.compute(quote, found, [moment], config.portfolio, config.risk)
    makers = {member.grid.id: member.grid.fees.maker for member in found.members}
    none = registry.empty("grid_risk")
    rows = limits.compute(quote, risks, shares, none, makers, Span(moment - BAR, moment), config.portfolio)
    kept = rows.filter(pl.col("limit").is_in(_OF_CAPITAL))
    return Together(risks.row(0, named=True), tuple(shares.to_dicts()), tuple(kept.to_dicts()))


def _nothing(quote: str, moment: datetime) -> Together:
    """A quote currency in which no grid ever ran."""
    row: Row = dict.fromkeys(registry.dtypes("portfolio_risk")) | {
        "quote": quote, "as_of": moment, "grids": 0, "markets": 0, "capital": 0.0, "session_capital": 0.0,
        "reason": "No grid holds anything: there is nothing to lose.",
    }  # fmt: skip
    return Together(row, (), ())
