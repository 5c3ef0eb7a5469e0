"""What strategies on candles hold and would have earned, and the ledger of all that was ever tried. Nothing reads them
to decide.
"""

from __future__ import annotations

from mm_dagster.tables.columns import (
    count,
    hash_of_configuration,
    number,
    source_of_candles,
    text,
    time,
    version_of_code,
)
from mm_dagster.tables.dataframely_internals import dy
from mm_dagster.tables.stages import Stage


class StrategySignal(dy.Schema):
    """What each of the four strategies would hold, by bar. No advice: none of them was found to earn anything."""

    symbol = text("Market.", key=True)
    strategy = text("trend_following, mean_reversion, range_trading or funding_carry.", key=True)
    as_of = time("Closing time of the bar at which it is decided; it would be held from the next open on;", key=True)
    position = number(
        "Share of the capital, -1 to 1: below 0 it is sold short, which spot cannot; null: candles of before are "
        "missing, or no funding rate is known.",
        low=-1.0,
        high=1.0,
    )
    config_hash = hash_of_configuration()
    code_version = version_of_code()
    source = source_of_candles()


class StrategyPerformance(dy.Schema):
    """What a strategy would have earned in a study, beside its controls: one figure with its 95 % interval."""

    study = text("Name of the study: watched, or what --name said.", key=True)
    as_of = time("End of its last day;", key=True)
    strategy = text("A strategy, matrix, or PATH:FUNCTION of an own idea.", key=True)
    symbol = text("Market; ALL: equal capital in each.", key=True)
    period = text("whole: all days of the study; out_of_sample, in_training: of the matrix.", key=True)
    metric = text("What is measured: docs/studies.md.", key=True)
    value = number("The figure; null where it cannot be told.")
    low = number("Lower end of its 95 % interval; null where too little is known for one.")
    high = number("Upper end.")
    n = count("Days that it is a figure of.")
    first_day = time("Beginning of the first day;")
    config_hash = hash_of_configuration()
    code_version = version_of_code()


class Trial(dy.Schema):
    """Every idea that a study ever tried. A verdict counts all of the same days, so that luck is told from skill."""

    trial_id = text("The same for the same idea, settings and data: tried again it is no new trial.", key=True)
    study = text("strategies or makers.")
    what = text("Name of the idea.")
    what_hash = text("Hash of its code and settings, comments and layout left out.")
    data_hash = text("Hash of the prices that it was tried on.")
    kind = text("real, or simulated: these do not count against each other.")
    symbols = text("The markets, with commas.")
    first = time("Beginning of the first day;")
    last = time("End of the last day;")
    ran_at = time("When it was tried last;")
    command = text("By which command.")
    ratio = number("Mean over deviation of what it earned above its control, by blocks of 14 days; null: too few days.")
    blocks = count("How many blocks.")
    code_version = version_of_code()


STAGES = (
    Stage(
        "strategy_signal",
        StrategySignal,
        group="studies",
        after=("candles",),
        settings=("strategies.signals",),
        code_version="1",
    ),
    Stage("strategy_performance", StrategyPerformance, group="evaluation", after=("candles",), code_version="1"),
    Stage("trial", Trial, group="evaluation", code_version="1"),
)
