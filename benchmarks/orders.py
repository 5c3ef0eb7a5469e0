"""A paper year: what leaving cost by plan, now and over 15 minutes. `python -m benchmarks.orders --out FILE`.

Every bar at which the ladder first asked to leave a daily grid of the six recorded sets, carried out by the order
machine itself: its waits, slices, limits and minimums, on books that are modelled from the candles. What those can tell
and what not stands in the document.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.sets import SETS, Set, grids_on
from benchmarks.shared import CONFIG, markdown
from mm_dagster.arrays import Flags, Floats, Integers
from mm_dagster.bars import BAR
from mm_dagster.books.book import BP
from mm_dagster.evaluation import leaving, resample
from mm_dagster.evaluation.leaving import LATEST, NOTIONALS, Leavings
from mm_dagster.evaluation.market import Market
from mm_dagster.evaluation.signals import signals_of
from mm_dagster.execution.costs import HORIZONS, SPREAD_80, Costs
from mm_dagster.execution.drive import Driver, World
from mm_dagster.execution.journal import Event, Kept
from mm_dagster.execution.machine import POLL_SECONDS, Order, Plan, PlanState, Terms
from mm_dagster.execution.modelled_book import Candles, Past
from mm_dagster.execution.paper import taken
from mm_dagster.execution.plan import HARD_LIMIT_BP
from mm_dagster.grid.slippage import traded
from mm_dagster.market.order_venue import Holding, MarketRules, OpenOrder, OrderRecord
from mm_dagster.market.venue import VenueError

FEE = CONFIG.evaluation.fees.taker
WAYS = {"now": 0, "15 min": 15, "plan": None}
"""Minutes of each way to leave; None: those that the plan chose."""
COARSE = 5.0
TOGETHER = "all six sets"
FEW = 30
"""Of fewer moments no interval is given."""


# one plan, carried out ------------------------------------------------------------------------------------------------


@dataclass
class _InMemory:
    """Journal and account of one plan that nobody will ever resume; as execution/journal.py and paper.py, unkept."""

    kept_: Kept
    past: Past
    now: Callable[[], datetime]
    label: str = "on paper"
    request_window: float = 10.0
    records: dict[str, OrderRecord] = field(default_factory=dict)
    before: dict[str, dict[Decimal, int]] = field(default_factory=dict)

    # the journal

    def kept(self, plan_id: str) -> Kept:
        return self.kept_

    def _change(self, **changed: Any) -> None:
        self.kept_ = replace(self.kept_, plan=replace(self.kept_.plan, **changed))

    def enter(self, plan_id: str, before: Sequence[PlanState], state: PlanState, why: str, at: datetime) -> None:
        self._change(state=state)

    def intend(self, plan_id: str, order: Order, mid: Decimal, at: datetime) -> None:
        self._change(orders=(*self.kept_.plan.orders, order))
        self.kept_ = replace(self.kept_, intended_at={**self.kept_.intended_at, order.number: at})

    def settle(self, plan_id: str, order: Order, at: datetime) -> None:
        self._change(orders=tuple(order if one.number == order.number else one for one in self.kept_.plan.orders))

    def note(self, plan_id: str, kind: str, said: str, at: datetime, *, rounds: int = 0, stops: int = 0) -> None:
        return

    def events(self, plan_id: str) -> Sequence[Event]:
        return ()

    # the account

    def rules(self, symbol: str) -> MarketRules:
        return self.kept_.plan.terms.rules

    def holding(self, symbol: str) -> Holding:
        terms = self.kept_.plan.terms
        sold = sum((one.filled for one in self.records.values()), Decimal(0))
        left = terms.rules.amount(terms.inventory) - sold
        return Holding(left, left)

    def open_orders(self, symbol: str) -> Sequence[OpenOrder]:
        return ()

    def record(self, symbol: str, client_id: str) -> OrderRecord | None:
        return self.records.get(client_id)

    def sell(self, symbol: str, client_id: str, amount: Decimal, limit: Decimal) -> None:
        rules, at = self.kept_.plan.terms.rules, self.past.update(self.now())
        before = self.before.setdefault(at.name, {})
        fills = taken(at.book, rules, rules.lots(amount), limit, before)
        for one in fills:
            before[one.price] = before.get(one.price, 0) + one.lots
        filled = rules.amount(sum(one.lots for one in fills))
        proceeds = sum((one.price * rules.amount(one.lots) for one in fills), Decimal(0))
        self.records[client_id] = OrderRecord(client_id, False, filled, proceeds, proceeds * Decimal(repr(FEE)))

    def cancel(self, symbol: str, order_id: str) -> None:
        raise VenueError("nothing rests")


def _rules(price: float) -> MarketRules:
    """Steps that are fine enough to matter to nobody, and a smallest order of 1 quote."""
    lot, tick = math.floor(math.log10(0.01 / price)), math.floor(math.log10(price)) - 5
    return MarketRules(Decimal(1).scaleb(lot), Decimal(1).scaleb(tick), least_funds=Decimal(1))


def leave(candles: Candles, as_of: datetime, notional: float, minutes: int, impact: float, at_once: float) -> Came:
    """Leaves by the order machine.

    Args:
        candles: of the market.
        as_of: the close at which it was asked to.
        notional: what is sold, quote currency at that close.
        minutes: over which.
        impact: of the slices, as forecast, fraction.
        at_once: what selling at once was said to cost, fraction: what is not sold is valued so at the end.
    """
    close = float(candles.close[candles.place(as_of)])
    rules = _rules(close)
    inventory = rules.lots(Decimal(repr(notional / close)))
    terms = Terms(
        "paper", candles.symbol, rules, inventory, Decimal(0), frozenset(), frozenset(), (), "operator",
        max(1, minutes), 60.0, Decimal(repr(HARD_LIMIT_BP)) / 10_000, Decimal("1e12"), 15.0,
    )  # fmt: skip
    gone = [0.0]

    def now() -> datetime:
        return as_of + timedelta(seconds=gone[0])

    def sleep(seconds: float) -> None:
        # A wait of a second takes some: the machine looks less often, and an order comes a few seconds later.
        gone[0] += COARSE if seconds == POLL_SECONDS else max(0.0, seconds)

    kept = Kept(
        Plan(terms, "APPROVED"), "grid", as_of, "paper", "paper", "", as_of, as_of, as_of, "paper", None, {}
    )  # fmt: skip
    memory = _InMemory(kept, Past(candles, as_of, impact, rules.lot), now)
    world = World(
        memory, lambda: memory.past.update(now()).book, None, lambda: gone[0], sleep, now, lambda: False
    )  # fmt: skip
    after = Driver(memory, "paper", world).run().plan  # type: ignore[arg-type]
    filled = sum(order.filled for order in after.orders)
    fetched = sum(float(order.proceeds - (order.fee or 0)) for order in after.orders)
    rest = float(rules.amount(inventory - filled))
    if rest:
        try:
            fetched += rest * memory.past.update(now()).book.mid * (1.0 - at_once)
        except VenueError:
            fetched = math.nan
    whole = float(rules.amount(inventory)) * close
    return Came(
        (1.0 - fetched / whole) / BP, filled / inventory if inventory else math.nan, after.state == "DONE",
        gone[0] / 60.0,
    )  # fmt: skip


@dataclass(frozen=True)
class Came:
    """What came of one plan.

    Attributes:
        cost: against the close at which it was asked to leave, fees and what was not sold included, basis points.
        sold: share.
        done: whether it came to its end; else it halted.
        minutes: that it took.
    """

    cost: float
    sold: float
    done: bool
    minutes: float


# all of a market ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Found:
    """n moments of one market.

    Attributes:
        day: number of the day, shape (n,).
        symbol: number of the market, shape (n,).
        said: by notional: expected cost and half of the 80 % interval by horizon, shape (n, horizons) each, the
            horizon that was chosen, and whether more is sold than the model was fitted to, shape (n,).
        came: by notional and way: cost, share sold, whether it was done, minutes, shape (n, 4).
    """

    day: Integers
    symbol: Integers
    said: Mapping[float, tuple[Floats, Floats, Integers, Flags]]
    came: Mapping[tuple[float, str], Floats]


def found_on(one: Set, number: int, symbol: str) -> Found | None:
    """One market of a set; None where no grid could be opened."""
    for market, cohort in grids_on(one, symbol):
        left = leaving.after(market, cohort, signals_of(cohort, market, CONFIG), CONFIG)[LATEST]
        return _found(market, left, number)
    return None


def _found(market: Market, left: Leavings, number: int) -> Found:
    prices = market.prices
    candles = Candles(
        market.symbol, market.span.start, prices["close"], leaving.mean_prices(prices),
        traded(prices["close"], prices["volume"]), CONFIG.risk.half_spread(market.symbol),
    )  # fmt: skip
    said, came = {}, {}
    for notional in NOTIONALS:
        costs = left.costs[notional]
        chosen = np.where(costs.chosen.any(axis=1), costs.chosen.argmax(axis=1), -1)
        half = costs.deviation * np.array([SPREAD_80.get(minutes, 0.0) for minutes in HORIZONS])
        said[notional] = costs.expected, half, chosen, costs.beyond[:, 0]
        rows: dict[str, list[tuple[float, float, float, float]]] = {way: [] for way in WAYS}
        for place, bar in enumerate(left.place.tolist()):
            as_of = market.span.start + (bar + 1) * BAR
            for way, one in zip(WAYS, _ways(candles, as_of, notional, costs, place, int(chosen[place])), strict=True):
                rows[way].append((one.cost, one.sold, float(one.done), one.minutes))
        for way, values in rows.items():
            came[notional, way] = np.array(values, dtype=np.float64).reshape(-1, 4)
    return Found(left.day, np.full(left.place.size, number, np.int64), said, came)


def _ways(
    candles: Candles, as_of: datetime, notional: float, costs: Costs, place: int, chosen: int
) -> list[Came]:  # fmt: skip
    unknown = Came(math.nan, math.nan, False, math.nan)
    if chosen < 0:
        return [unknown] * len(WAYS)
    known: dict[int, Came] = {}
    found = []
    for minutes in WAYS.values():
        minutes = HORIZONS[chosen] if minutes is None else minutes
        if minutes not in known:
            impact = float(costs.impact[place, HORIZONS.index(minutes)]) * BP
            at_once = float(costs.expected[place, 0]) * BP
            known[minutes] = leave(candles, as_of, notional, minutes, impact, at_once)
        found.append(known[minutes])
    return found


# the figures ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Pool:
    """All moments of a set of which everything is known."""

    day: Integers
    symbol: Integers
    expected: Floats
    half: Floats
    chosen: Integers
    beyond: Flags
    came: Mapping[str, Floats]

    def only(self, used: Flags) -> Pool:
        """Some of them."""
        came = {way: values[used] for way, values in self.came.items()}
        return Pool(
            self.day[used], self.symbol[used], self.expected[used], self.half[used], self.chosen[used],
            self.beyond[used], came,
        )  # fmt: skip


def pool_of(parts: Sequence[Found], notional: float) -> Pool:
    """Of the markets of one set, or of several: no two of the same number."""
    expected, half, chosen, beyond = (
        np.concatenate([part.said[notional][place] for part in parts]) for place in range(4)
    )
    came = {way: np.concatenate([part.came[notional, way] for part in parts]) for way in WAYS}
    whole = Pool(
        np.concatenate([part.day for part in parts]), np.concatenate([part.symbol for part in parts]),
        expected, half, chosen, beyond, came,
    )  # fmt: skip
    known = np.isfinite(np.column_stack([values[:, 0] for values in came.values()])).all(axis=1)
    return whole.only(known & (chosen >= 0))


class Drawn:
    """The moments drawn anew in blocks of days."""

    def __init__(self, pool: Pool) -> None:
        self._weights = resample.draws(pool.day - pool.day.min(), pool.symbol)
        self._sure = resample.enough(pool.day)

    def mean(self, values: Floats, used: Flags | None = None, digits: int = 1) -> str:
        """Of some of them."""
        weights = self._weights if used is None else self._weights[:, used]
        picked = values if used is None else values[used]
        if not picked.size:
            return "–"
        return self._told(resample.mean(weights, picked), digits, few=picked.size < FEW)

    def dearest(self, values: Floats, digits: int = 1) -> str:
        """Mean of the dearest 5 %."""
        return self._told(-resample.shortfall(self._weights, -values), digits)

    def gain(self, over: Floats, by: Floats) -> tuple[str, str]:
        """What one way costs less than another: mean, and of the dearest 5 %."""
        tail = -resample.shortfall(self._weights, -over) + resample.shortfall(self._weights, -by)
        return self._told(resample.mean(self._weights, over - by), 1, "+"), self._told(tail, 1, "+")

    def _told(self, drawn: Floats, digits: int, sign: str = "", *, few: bool = False) -> str:
        form = f"{sign}.{digits}f"
        low, high = resample.interval(drawn[1:])
        is_sure = self._sure and not few and np.isfinite(low)
        return f"{drawn[0]:{form}} ({low:{form}} … {high:{form}})" if is_sure else f"{drawn[0]:{form}}"


def found_in(workers: ProcessPoolExecutor, sets: Sequence[Set]) -> dict[str, list[Found]]:
    """The markets of each set, and of all of them together."""
    parts: dict[str, list[Found]] = {}
    number = 0
    for one in sets:
        symbols = one.markets()
        numbers = range(number, number + len(symbols))
        number += len(symbols)
        found = workers.map(found_on, [one] * len(symbols), numbers, symbols)
        parts[one.name] = [market for market in found if market is not None and market.day.size]
    parts[TOGETHER] = [market for markets in list(parts.values()) for market in markets]
    return parts


def pools_of(parts: Mapping[str, Sequence[Found]]) -> Pools:
    """By set and notional, where anything is known."""
    pools = {(name, notional): pool_of(found, notional) for name, found in parts.items() for notional in NOTIONALS}
    return {key: pool for key, pool in pools.items() if pool.day.size}


Pools = Mapping[tuple[str, float], Pool]


def _short(pools: Pools) -> list[str]:
    """What the tables say, in sentences."""
    small, large = (pools[TOGETHER, notional] for notional in NOTIONALS)
    lines = []
    for pool, sold in ((small, "1,000"), (large, "10,000")):
        drawn = Drawn(pool)
        plan, now, quarter = (pool.came[way][:, 0] for way in ("plan", "now", "15 min"))
        mean, tail = drawn.gain(now, plan)
        later, dear = drawn.gain(quarter, plan)
        lines.append(
            f"- {sold} sold: the plan costs {drawn.mean(plan)} bp, {mean} less than at once and {tail} less in the "
            f"worst 5 %; {later} and {dear} less than over 15 minutes. "
            f"{100 * np.mean(pool.chosen == 0):.1f} % of the plans sell at once."
        )
    came = large.came["plan"]
    rows = np.arange(large.day.size)
    over, ended = large.chosen > 0, came[:, 2] > 0
    within = np.abs(came[:, 0] - large.expected[rows, large.chosen]) <= large.half[rows, large.chosen]
    drawn = Drawn(large)
    lines.append(
        f"- Of the plans over minutes for 10,000 the 80 % interval holds {drawn.mean(within.astype(float), over, 3)} "
        f"of all, and {drawn.mean(within.astype(float), over & ended, 3)} of those that sold all: it says what the "
        "price does, and nothing of what the hard limit cuts short."
    )
    cut = 1.0 - came[:, 2]
    lines.append(
        f"- The hard limit cuts {drawn.mean(cut, None, 3)} of the plans for 10,000 short: "
        f"{drawn.mean(cut, ~large.beyond, 3)} where no more is sold than is traded in a minute, "
        f"{drawn.mean(cut, large.beyond, 3)} where more is. There a person has to decide."
    )
    return lines


def _costs(pools: Pools) -> str:
    lines = []
    for (name, notional), pool in pools.items():
        drawn = Drawn(pool)
        plan, now, quarter = (pool.came[way][:, 0] for way in ("plan", "now", "15 min"))
        cells = [drawn.mean(plan), drawn.dearest(plan)]
        cells += [*drawn.gain(now, plan), *drawn.gain(quarter, plan)]
        lines.append([name, f"{notional:,.0f}", f"{pool.day.size:,}", *cells])
    head = ["set", "sold", "moments", "plan", "worst 5 %", "less than now", "worst 5 %", "less than 15 min"]
    return markdown([*head, "worst 5 %"], lines)


def _coverage(pools: Pools) -> str:
    lines = []
    column = HORIZONS.index(15)
    for (name, notional), pool in pools.items():
        drawn, cost = Drawn(pool), pool.came["15 min"][:, 0]
        said, half = pool.expected[:, column], pool.half[:, column]
        within = (np.abs(cost - said) <= half).astype(np.float64)
        fitted = ~pool.beyond
        cells = [drawn.mean(said), drawn.mean(cost - said), drawn.mean(within, None, 3), drawn.mean(within, fitted, 3)]
        lines.append([name, f"{notional:,.0f}", *cells, f"{np.count_nonzero(fitted):,}"])
    return markdown(
        ["set", "sold", "said", "came, less what was said", "within 80 %", "where Q <= V1m", "moments"], lines
    )


def _kinds(pools: Pools) -> str:
    lines = []
    for notional in NOTIONALS:
        pool = pools[TOGETHER, notional]
        drawn, rows = Drawn(pool), np.arange(pool.day.size)
        came = pool.came["plan"]
        cost, ended = came[:, 0], came[:, 2] > 0
        said, half = (values[rows, pool.chosen] for values in (pool.expected, pool.half))
        within = (np.abs(cost - said) <= half).astype(np.float64)
        minutes = np.array(HORIZONS)[pool.chosen]
        for kind, of in {
            "at once": minutes == 0,
            "over 5 min": minutes == 5,
            "over 15 or 60 min": minutes >= 15,
        }.items():
            for end, used in {"sold all": of & ended, "cut short by the limit": of & ~ended}.items():
                if not used.any():
                    continue
                covered = "–" if kind != "over 15 or 60 min" else drawn.mean(within, used, 3)
                lines.append(
                    [f"{notional:,.0f}", kind, end, f"{np.count_nonzero(used):,}", drawn.mean(said, used),
                     drawn.mean(cost - said, used), covered]
                )  # fmt: skip
    return markdown(["sold", "plan", "and it", "plans", "said", "came, less what was said", "within 80 %"], lines)


def _halted(pools: Pools) -> str:
    lines = []
    for (name, notional), pool in pools.items():
        drawn = Drawn(pool)
        cells = []
        for way in WAYS:
            values = pool.came[way]
            cells += [drawn.mean(1.0 - values[:, 2], None, 3), drawn.mean(1.0 - values[:, 1], None, 3)]
        minutes = pool.came["plan"][:, 3]
        fitted = ~pool.beyond
        cells.append(drawn.mean(1.0 - pool.came["plan"][:, 2], fitted, 3))
        cells.append(f"{np.median(minutes):.1f}")
        lines.append([name, f"{notional:,.0f}", *cells])
    head = ["set", "sold"]
    for way in WAYS:
        head += [f"{way}: halted", "not sold"]
    return markdown([*head, "plan: halted where Q <= V1m", "minutes, median"], lines)


def document(pools: Pools) -> str:
    """docs/evidence/orders.md."""
    return "\n".join(
        [
            "# A paper year",
            "",
            "Each bar at which the ladder first asked to leave a daily grid of the six recorded sets, each once a "
            "market, and 1,000 and 10,000 quote currency sold there by the order machine: at once, over 15 minutes, "
            "and by the plan. Basis points of the close at which it was asked to leave, fees included; what the limit "
            "left unsold is valued at the price at which the machine halted, less what selling at once was said to "
            "cost. In brackets the 95 % interval, drawn in blocks of days over all markets.",
            "",
            "The books are modelled from the candles: the half spread, the walk and the impact cost what the model "
            "says, and the price is the close within the first minute and the mean of the quarter hour after it. So "
            "this tells what slices, waits, limits and the drift of the price do to a plan, and how far its interval "
            "holds. It does not tell whether the walk is modelled well, and nothing of books that were empty: of that "
            "only real books tell, and none of a crash is here. The impact lies between the price and the levels, so "
            "that the limit counts it; at an exchange it moves the price itself, and less is cut short.",
            "",
            "In short, of all six sets:",
            "",
            *_short(pools),
            "",
            "## What the plan cost, and what it saved",
            "",
            _costs(pools),
            "",
            "## What was said, and what came",
            "",
            "Every moment sold over 15 minutes, whatever its plan, beside the 80 % interval that was said:",
            "",
            _coverage(pools),
            "",
            "And the plans themselves, of all six sets. Of a plan at once no interval is said, and of 5 minutes these "
            "candles tell nothing. Of fewer than 30 plans no interval of a figure is given.",
            "",
            _kinds(pools),
            "",
            f"## What the hard limit of {HARD_LIMIT_BP:.0f} bp left unsold",
            "",
            "A sale that the limit cuts short halts the plan; it is told and not chased. `not sold` is the share of "
            "the amount, over all moments.",
            "",
            _halted(pools),
            "",
            "All of it by `python -m benchmarks.orders --out docs/evidence/orders.md`.",
            "",
        ]
    )


def main() -> None:
    """Writes the document."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("docs/evidence/orders.md"))
    parser.add_argument("--set", type=int, action="append", choices=range(len(SETS)), help="only these; default: all")
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    begun = time.monotonic()
    sets = SETS if arguments.set is None else [SETS[place] for place in arguments.set]
    with ProcessPoolExecutor(arguments.workers, mp_context=get_context("spawn")) as workers:
        parts = found_in(workers, sets)
    arguments.out.write_text(document(pools_of(parts)))
    print(f"{arguments.out}: written in {time.monotonic() - begun:.0f} s")


if __name__ == "__main__":
    main()
