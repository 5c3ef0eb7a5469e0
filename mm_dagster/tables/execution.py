"""What leaving a grid costs, over which time."""

from __future__ import annotations

from mm_dagster.tables.columns import (
    count,
    flag,
    hash_of_configuration,
    number,
    one_of,
    source_of_candles,
    text,
    time,
    version_of_code,
)
from mm_dagster.tables.dataframely_internals import dy
from mm_dagster.tables.stages import Stage
from mm_dagster.tables.words import (
    BOOK_ORIGINS,
    ORDER_MODES,
    ORDER_STATES,
    PAPER_PRICES,
    PLAN_STATES,
    SESSION_STATES,
    STATES,
    STOPPERS,
)


class ExitCost(dy.Schema):
    """What selling all that a grid holds would cost, over each of four horizons, at every bar.

    Basis points of the mid price. Model columns come from candles alone and are the same in a backfill; the live ones
    come from the order book of that tick and are null elsewhere.
    """

    grid_id = text("Grid.", key=True)
    activated_at = time("Episode;", key=True)
    as_of = time("Evaluation;", key=True)
    horizon_minutes = count("Minutes over which is sold in equal slices; 0 is at once.", nullable=False, key=True)
    symbol = text("Market.")
    amount = number("What the grid holds, base currency; null: not known.", low=0.0)
    notional = number("The same at the close, quote currency.", low=0.0)
    half_spread_bp = number("Half of the spread that is reckoned with.", low=0.0)
    walk_bp = number("What the levels cost a slice beyond the half spread.", low=0.0)
    impact_bp = number("What the slices do to each other.", low=0.0)
    fee_bp = number("Taker fee.", low=0.0)
    expected_bp = number("Sum of the four; null where nothing is held, or volume or volatility is not known.", low=0.0)
    low_80_bp = number("Lower end of the 80 % interval: the price may move for the better meanwhile.")
    high_80_bp = number("Upper end of it.")
    low_90_bp = number("Lower end of the 90 % interval.")
    high_90_bp = number("Upper end of it.")
    chosen = flag("Whether this horizon has the least cost, risk included; the plan proposes it.", nullable=False)
    beyond_model = flag(
        "Whether more than the volume of a minute is sold: the horizons are ranked, and no figure is promised."
    )
    live_half_spread_bp = number("Of the order book of this tick. Live-only.", low=0.0)
    live_walk_bp = number("Likewise what its levels cost a slice; null where they end. Live-only.", low=0.0)
    live_expected_bp = number("Expected with these two in the place of the model's. Live-only.", low=0.0)
    shown_share = number(
        "How much of the amount the levels of the book take at once, 0 to 1. Live-only.", low=0.0, high=1.0
    )
    live_origin = one_of(BOOK_ORIGINS, "Who had that book; null: there was none. Live-only.", nullable=True)
    config_hash = hash_of_configuration()
    code_version = version_of_code()
    source = source_of_candles()


class ExitPlan(dy.Schema):
    """Each plan to leave a grid by the program, as the journal has it, and what came of it beside what was forecast."""

    plan_id = text("Plan.", key=True)
    grid_id = text("Grid.")
    activated_at = time("Episode;")
    symbol = text("Market.")
    venue = text("Name in markets.yaml.")
    mode = one_of(ORDER_MODES, "Whether it was for real.")
    state = one_of(PLAN_STATES, "Where it stands.")
    reason = text("Of the state, in a sentence.")
    created_at = time("When it was proposed;")
    approved_at = time("When a person approved it;", nullable=True)
    approved_by = text("Who.", nullable=True)
    ended_at = time("When it was over, or halted;", nullable=True)
    stopper = one_of(STOPPERS, "Who stopped the grid.")
    slices = count("Equal sales, one a minute.", nullable=False)
    amount = number("What was to be sold, base currency.", low=0.0)
    filled = number("What was sold.", low=0.0)
    dust = number("What is left of the amount.", low=0.0)
    proceeds = number("Quote currency, before fees.", low=0.0)
    fee = number("Quote currency; null: not told.")
    arrival_mid = number("Mid price at the first order, quote currency.", low=0.0)
    shortfall_bp = number("What was lost against that, fees included, basis points; null: nothing was sold.")
    expected_bp = number("What was forecast.")
    low_80_bp = number("Lower end of the 80 % interval of the forecast.")
    high_80_bp = number("Upper end of it.")
    session_id = text("The paper operator's session that made it; null: a person did.", nullable=True)


class ExitOrder(dy.Schema):
    """Each order of a plan: its intent, which stood on disk before the request, and what the exchange has on record."""

    plan_id = text("Plan.", key=True)
    sequence = count("From 1, in the order of the intents.", nullable=False, key=True)
    client_id = text("What the exchange knows it by.")
    state = one_of(ORDER_STATES, "INTENDED counts as sold until the exchange says otherwise.")
    amount = number("To be sold, base currency.", low=0.0)
    limit_price = number("Lowest price, quote currency.", low=0.0)
    mid = number("Mid price that it was made of.", low=0.0)
    filled = number("What was sold.", low=0.0)
    proceeds = number("Quote currency, before fees.", low=0.0)
    fee = number("Quote currency; null: not told.")
    intended_at = time("When the intent was written;")
    closed_at = time("When it was known what became of it;", nullable=True)


class ExitEvent(dy.Schema):
    """Each step of each plan, in order; none is ever changed."""

    sequence = count("In the order of all events of this home.", nullable=False, key=True)
    plan_id = text("Plan.")
    at = time("When;")
    kind = text("A state that was entered, or INTENDED, CLOSED, ABSENT, CANCEL, STOP, SILENT, CHECKED.")
    said = text("In words.")


class Session(dy.Schema):
    """Each session of the paper operator, which leaves grids on paper as soon as they reach a level."""

    session_id = text("Session.", key=True)
    started_at = time("When a person started it;")
    started_by = text("Who.")
    level = one_of(STATES[1:], "A grid in this state or a higher one is left.")
    grids = dy.List(dy.String(), nullable=True, description="The grids that it looks at; null: all that run.")
    over_minutes = count("Minutes over which each is sold; null: as its plan proposes.")
    prices = one_of(PAPER_PRICES, "What is sold into.")
    since = time("States from this bar on count;")
    state = one_of(SESSION_STATES, "Where it stands.")
    stopped_at = time("When a person stopped it;", nullable=True)
    stopped_by = text("Who.", nullable=True)
    ended_at = time("When its last plan had come to an end after that;", nullable=True)


STAGES = (
    Stage("exit_plan", ExitPlan, group="execution"),
    Stage("exit_order", ExitOrder, group="execution"),
    Stage("exit_event", ExitEvent, group="execution"),
    Stage("session", Session, group="execution"),
    Stage(
        "exit_cost",
        ExitCost,
        group="execution",
        after=("grid_risk",),
        code_version="1",
        every_bar="running_grid",
    ),
)
