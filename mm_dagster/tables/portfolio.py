"""All grids at once: what one bad night costs them together, who contributes, and which limits that passes."""

from __future__ import annotations

from mm_dagster.tables.columns import (
    count,
    flag,
    hash_of_configuration,
    number,
    one_of,
    probability,
    source_of_candles,
    text,
    time,
    version_of_code,
)
from mm_dagster.tables.dataframely_internals import dy
from mm_dagster.tables.stages import Stage
from mm_dagster.tables.words import DRAWDOWNS, LIMITS


class PortfolioRisk(dy.Schema):
    """What all running grids in one quote currency may lose together within 24 hours, at every bar.

    The markets follow each day of the past months again, in units of today's volatility. Where a market's past or its
    newest bar is not known, the figures are null and `reason` says which: a loss is never smaller for it.
    """

    quote = text("Quote currency.", key=True)
    as_of = time("Closing time of the newest bar used;", key=True)
    grids = count("Running grids; those that their stop has sold are none.", nullable=False)
    markets = count("Markets that they are on.", nullable=False)
    capital = number("Capital of the running grids, quote currency.", low=0.0)
    session_capital = number("Of those that were activated in the last 24 hours.", low=0.0)
    equity = number("As portfolio.yaml has it, quote currency; null: it has none.", low=0.0)
    live_equity = number(
        "As the account says it, where portfolio.yaml has none; null: no account was read. Live-only.", low=0.0
    )
    liquidation_value = number("Of all running grids, sold now, quote currency.")
    exposure = number("Value of what they hold at the close, quote currency.", low=0.0)
    total_pnl = number("Of the running grids since their activation, quote currency.")
    var_5_24h = number("The loss within 24 hours that one night in 20 exceeds, quote currency; negative: a gain.")
    es_5_24h = number("Mean loss of the worst nights of which there is one in 20.")
    var_1_24h = number("The loss that one night in 100 exceeds.")
    es_1_24h = number("Mean loss of the worst nights of which there is one in 100.")
    sum_of_var_5 = number("var_5_24h of each grid alone, added up.")
    diversification = number("var_5_24h over sum_of_var_5; 1: together they risk as much as one by one.")
    counts_as = number("How many independent grids of the same size would risk as little: 1 / diversification^2.")
    all_stops = number("What is lost if all grids fall to their stops, quote currency.")
    p_any_break_24h = probability("Share of the nights in which a grid breaks: two closes below it, or its stop.")
    p_half_break_24h = probability("Share of the nights in which half of the grids do.")
    expected_breaks_24h = number("Grids that break in a night, mean.", low=0.0)
    drawdown = number(
        "How far the profit of all grids, ended ones included, is below its best of the window, quote currency.",
        low=0.0,
    )
    drawdown_share = number("The same as a share of the equity; null: no equity is known.", low=0.0)
    drawdown_level = one_of(DRAWDOWNS, "Which limit of portfolio.yaml it has passed.", nullable=True)
    ruin = probability(
        "Share of the nights after which the severe drawdown is passed. Of one night only: bad ones follow each other, "
        "and what the past months did not hold is not in it. Null: no equity is known."
    )
    highest_correlation = number("Of 6-hour returns over 60 days, of the two markets that move most alike.")
    most_correlated = text("These two markets.", nullable=True)
    paths = count("How many nights of the past were looked at.")
    reason = text("Why figures are null, in a sentence.", nullable=True)
    config_hash = hash_of_configuration()
    code_version = version_of_code()
    source = source_of_candles()


class PortfolioContribution(dy.Schema):
    """How much each running grid has of the bad night, and what stopping it would take off."""

    quote = text("Quote currency.", key=True)
    as_of = time("Closing time of the newest bar used;", key=True)
    grid_id = text("Grid.", key=True)
    activated_at = time("Episode;")
    symbol = text("Market.")
    capital = number("Of the grid, quote currency.", low=0.0)
    es_5_contribution = number("Its mean loss in the worst nights of all grids together; adds up to es_5_24h.")
    es_5_share = number("The same as a share of es_5_24h.")
    stopping_takes_off = number("es_5_24h less that without this grid, quote currency.")
    var_5_alone = number("The loss of the grid alone that one night in 20 exceeds, quote currency.")
    p_break_24h = probability("Share of the nights in which it breaks.")
    weight = number("Its share of the capital.", low=0.0)
    weight_equal_risk = number(
        "The same capital in each grid, as much as has the volatility that there is now.", low=0.0
    )
    weight_minimum_variance = number(
        "Shares that would have varied least (Ledoit-Wolf 2004); information, not shown to earn more.", low=0.0
    )
    config_hash = hash_of_configuration()
    code_version = version_of_code()
    source = source_of_candles()


class LimitState(dy.Schema):
    """Which limits of portfolio.yaml are breached, since when, and how much room is left. They stop nothing."""

    quote = text("Quote currency.", key=True)
    as_of = time("Evaluation;", key=True)
    limit = one_of(LIMITS, "Which limit of portfolio.yaml.", key=True)
    subject = text("What it is about: `all`, a market, or a grid.", key=True)
    value = number("A share, or a count; null: it cannot be told, as shares of an equity that nobody said.")
    threshold = number("The limit in portfolio.yaml; null: it is not watched.")
    breached = flag(
        "Whether value was above the threshold and has not been 10 % below it since, within 7 days; null: not known."
    )
    since = time("When it was first above it, at most 7 days ago;", nullable=True)
    room = number("threshold less value; negative: above it.")
    config_hash = hash_of_configuration()
    code_version = version_of_code()
    source = source_of_candles()


class PortfolioCoverage(dy.Schema):
    """Whether the loss figure came true: nights whose loss was above it, beside how many there should be, by month."""

    quote = text("Quote currency.", key=True)
    as_of = time("End of the month up to which was looked;", key=True)
    level = number("Share of the nights that should be worse: .05 or .01.", nullable=False, key=True)
    days = count("Nights from midnight to midnight, UTC, with a figure at their beginning.", nullable=False)
    hits = count("Of them with a greater loss than the figure.", nullable=False)
    rate = number("hits / days; null: none was looked at.")
    kupiec_p = probability("Probability of as far a rate if the figure were right (Kupiec 1995).")
    christoffersen_p = probability("The same of bad nights that follow each other as they do (Christoffersen 1998).")
    z2 = number("Acerbi-Szekely 2014; 0 is expected, below it bad nights were worse than said.")
    z2_p = probability("Probability of as low a z2 if the figure were right, from the paths of each night.")
    config_hash = hash_of_configuration()
    code_version = version_of_code()
    source = source_of_candles()


_AFTER = ("account_snapshot", "regime_features", "grid_risk")

STAGES = (
    Stage(
        "portfolio_risk",
        PortfolioRisk,
        group="portfolio",
        after=_AFTER,
        settings=("portfolio",),
        code_version="2",
        every_bar="portfolio",
    ),
    Stage(
        "portfolio_contribution",
        PortfolioContribution,
        group="portfolio",
        after=_AFTER,
        settings=("portfolio",),
        code_version="2",
        every_bar="contributor",
    ),
    Stage(
        "limit_state",
        LimitState,
        group="portfolio",
        after=("portfolio_risk", "portfolio_contribution", "grid_risk"),
        code_version="1",
        every_bar="portfolio",
    ),
    Stage(
        "portfolio_coverage",
        PortfolioCoverage,
        group="evaluation",
        after=("candles", "portfolio_risk", "grid_risk"),
        code_version="1",
    ),
)
