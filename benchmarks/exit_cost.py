"""Does leaving cost what was said, and what else was tried? `python -m benchmarks.exit_cost --out FILE`.

On the product's own daily grids and ladder, on real candles. What the model of the cost has beside the books' own
figures was fitted on KuCoin, January to August 2025, alone; the other sets saw no fit. Three other ways to sell were
tried and left out: by the volume of the hour (VWAP), front-loaded (Almgren, Chriss 2000), and passively.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, fields
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from benchmarks.sets import PARTS, SETS, Set, grids_on
from benchmarks.shared import CONFIG, markdown
from mm_dagster.arrays import Flags, Floats, Integers
from mm_dagster.bars import DAY_BARS, HOUR_BARS, bar_number
from mm_dagster.books.book import BP
from mm_dagster.evaluation import leaving, resample
from mm_dagster.evaluation.leaving import BARS, BROKEN, MOMENTS, NOTIONALS, Leavings, Left, find
from mm_dagster.evaluation.market import Market
from mm_dagster.evaluation.signals import signals_of
from mm_dagster.execution import costs
from mm_dagster.execution.costs import HORIZONS, SPREAD_80, SPREAD_90
from mm_dagster.grid.slippage import Traded, traded, walked

BINANCE = next(one for one in SETS if one.recording == "binance22")
JUDGED = (*PARTS, Set("Binance 2022, January to June", BINANCE.recording))
AVERSIONS = (0.3, 0.5, 0.75, 1.0, 1.25, 1.5)
URGENCIES = (1.0, 2.0, 4.0)
"""kappa T of Almgren and Chriss: how fast the trajectory falls; 0 is TWAP."""
FEE, MAKER = CONFIG.evaluation.fees.taker, CONFIG.evaluation.fees.maker
SPREAD = CONFIG.risk.half_spread("any")


@dataclass(frozen=True)
class Ways:
    """Other ways to sell at the breaks of one market, n in all; shape (n,) but where said.

    Attributes:
        day: number of the day.
        symbol: number of the market.
        quarters: what the mean price of each of the next four quarter hours lost, basis points, shape (n, 4).
        sigma: of a minute.
        volume: of a minute, quote currency.
        forecast: of an hourly return.
        filled: whether the next quarter hour went above the ask.
        next_lost: what the close after it lost, basis points.
        next_sigma: as sigma, a quarter hour later.
        next_volume: likewise.
    """

    day: Integers
    symbol: Integers
    quarters: Floats
    sigma: Floats
    volume: Floats
    forecast: Floats
    filled: Floats
    next_lost: Floats
    next_sigma: Floats
    next_volume: Floats

    @property
    def market(self) -> Traded:
        """At the moments."""
        return Traded(self.sigma, self.volume)

    def only(self, used: Flags) -> Ways:
        """Some of the moments, shape (n,)."""
        return Ways(**{field.name: getattr(self, field.name)[used] for field in fields(Ways)})

    def said(self, notional: float) -> costs.Costs:
        """What the model says of each."""
        return costs.model(np.full(self.day.size, notional), SPREAD, self.forecast, self.market, FEE)


@dataclass(frozen=True)
class Hours:
    """The volume of each whole hour of one market: log, quote currency; NaN where unknown; and its hour of the week."""

    volume: Floats
    of_week: Integers


@dataclass(frozen=True)
class Found:
    """One market of a set."""

    left: Mapping[str, Leavings]
    ways: Ways
    hours: Hours


def found_on(one: Set, number: int, symbol: str) -> Found | None:
    """One market of a set; None where no grid could be opened."""
    for market, cohort in grids_on(one, symbol):
        left = leaving.after(market, cohort, signals_of(cohort, market, CONFIG), CONFIG)
        return Found(left, _ways(market, left[BROKEN], number), _hours(market))
    return None


def _ways(market: Market, left: Leavings, number: int) -> Ways:
    prices = market.prices
    close = prices["close"]
    # Of the last hour nothing is told: its time has not passed.
    used = left.place + HOUR_BARS < close.size
    place = left.place[used]
    after = traded(close, prices["volume"])
    means = leaving.mean_prices(prices)
    ask = close[place] * (1.0 + SPREAD)
    high = prices["high"][place + 1]
    return Ways(
        day=left.day[used],
        symbol=np.full(place.size, number, np.int64),
        quarters=np.stack([(1.0 - means[place + 1 + bar] / close[place]) / BP for bar in range(HOUR_BARS)], axis=1),
        sigma=left.market.sigma[used],
        volume=left.market.volume[used],
        forecast=left.forecast[used],
        filled=np.where(np.isnan(high), np.nan, high > ask),
        next_lost=(1.0 - close[place + 1] / close[place]) / BP,
        next_sigma=after.sigma[place + 1],
        next_volume=after.volume[place + 1],
    )


def _hours(market: Market) -> Hours:
    first = bar_number(market.span.start)
    skip = -first % HOUR_BARS
    many = (market.span.bars - skip) // HOUR_BARS
    worth = (market.prices["close"] * market.prices["volume"])[skip : skip + many * HOUR_BARS]
    sums = worth.reshape(many, HOUR_BARS).sum(axis=1)
    number = (first + skip) // HOUR_BARS + np.arange(many)
    with np.errstate(divide="ignore", invalid="ignore"):
        return Hours(np.where(sums > 0, np.log(sums), np.nan), number % (7 * DAY_BARS // HOUR_BARS))


@dataclass(frozen=True)
class Cost:
    """What was found.

    Attributes:
        text: the document.
        rows: what `leaving.measure` says of each set, of all moments.
    """

    text: str
    rows: Mapping[str, Sequence[Left]]

    def figure(self, one: Set, metric: str, minutes: int | None = None, notional: float | None = None) -> Left:
        """Of the breaks of a set."""
        found = find(self.rows[one.name], BROKEN, metric, minutes, notional)
        assert found is not None, (one.name, metric)
        return found


def measure(pool: ProcessPoolExecutor) -> Cost:
    """All of it."""
    parts: dict[str, list[Found]] = {}
    for one in JUDGED:
        symbols = one.markets()
        found = pool.map(found_on, [one] * len(symbols), range(len(symbols)), symbols)
        parts[one.name] = [market for market in found if market is not None]
    rows = {
        name: [
            one for moment in MOMENTS for one in leaving.measure(moment, [market.left[moment] for market in markets])
        ]
        for name, markets in parts.items()
    }
    return Cost(document(parts, rows), rows)


def _joined(parts: Sequence[Ways]) -> Ways:
    whole = Ways(
        **{field.name: np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(Ways)}
    )
    said = [whole.said(notional).score for notional in NOTIONALS]
    rest = [whole.filled, whole.next_lost, whole.next_sigma, whole.next_volume]
    return whole.only(np.isfinite(np.column_stack([whole.quarters, *said, *rest])).all(axis=1))


class _Drawn:
    """Means and dearest 5 % of costs on the same moments, each with its interval."""

    def __init__(self, ways: Ways) -> None:
        self.weights = resample.draws(ways.day - ways.day.min(), ways.symbol)

    def told(self, values: Floats, against: Floats | None = None) -> list[str]:
        """Mean and dearest 5 % of a way to sell; or what they are less than those of another."""
        mean, dearest = resample.mean(self.weights, values), self._dearest(values)
        if against is not None:
            mean = resample.mean(self.weights, against) - mean
            dearest = self._dearest(against) - dearest
        return [_told(one, 1, sign=against is not None) for one in (mean, dearest)]

    def _dearest(self, values: Floats) -> Floats:
        return -resample.shortfall(self.weights, -values)


def _told(drawn: Floats, digits: int, sign: bool = False) -> str:
    low, high = resample.interval(drawn[1:])
    form = f"{'+' if sign else ''}.{digits}f"
    return f"{drawn[0]:{form}} ({low:{form}} … {high:{form}})"


# what was said, and what came


def _figure(one: Left | None, digits: int, sign: bool = False) -> str:
    if one is None:
        return "–"
    form = f"{'+' if sign else ''}.{digits}f"
    text = f"{one.value:{form}}"
    return text if one.low is None else f"{text} ({one.low:{form}} … {one.high:{form}})"


def _coverage(rows: Mapping[str, Sequence[Left]]) -> str:
    lines = []
    for name, found in rows.items():
        for moment in MOMENTS:
            for minutes in BARS:
                both = [find(found, moment, f"coverage_{width}", minutes) for width in (80, 90)]
                n = "–" if both[0] is None else f"{both[0].n:,}"
                words = [name, moment, f"{minutes}", *(_figure(one, 3) for one in both), n]
                lines.append(words)
    return markdown(["set", "moment", "minutes", "within 80 %", "within 90 %", "moments"], lines)


def _horizons(rows: Mapping[str, Sequence[Left]]) -> str:
    lines = []
    for name, found in rows.items():
        for notional in NOTIONALS:
            for minutes in HORIZONS:
                metrics = ("expected_bp", "realised_bp", "worst_5_bp")
                cells = [_figure(find(found, BROKEN, metric, minutes, notional), 1) for metric in metrics]
                lines.append([name, f"{notional:,.0f}", f"{minutes}", *cells])
    return markdown(["set", "sold", "minutes", "said", "came", "worst 5 %"], lines)


def _plan(rows: Mapping[str, Sequence[Left]]) -> str:
    lines = []
    for name, found in rows.items():
        for moment in MOMENTS:
            for notional in NOTIONALS:
                costly = [f"{way}_{figure}_bp" for way in ("now", "plan") for figure in ("mean", "worst_5")]
                cells = [_figure(find(found, moment, metric, None, notional), 1) for metric in costly]
                for metric in ("gain_mean_bp", "gain_worst_5_bp"):
                    cells.append(_figure(find(found, moment, metric, None, notional), 1, sign=True))
                cells.append(_figure(find(found, moment, "plan_now_share", None, notional), 2))
                now = find(found, moment, "now_share", None, notional)
                cells.append("–" if now is None else f"{now.value:.3f} of {now.n:,}")
                lines.append([name, moment, f"{notional:,.0f}", *cells])
    head = ["set", "moment", "sold", "now", "worst 5 %", "plan", "worst 5 %", "gain", "gain of the worst 5 %"]
    return markdown([*head, "plan is now", "now where Q <= V1m"], lines)


def _aversions(ways: Mapping[str, Ways]) -> str:
    lines = []
    for name, one in ways.items():
        drawn = _Drawn(one)
        for notional in NOTIONALS:
            said = one.said(notional)
            drift = np.column_stack(
                [np.zeros(one.day.size), one.quarters[:, 0], one.quarters[:, 0], one.quarters.mean(axis=1)]
            )
            came = said.expected + drift
            for aversion in AVERSIONS:
                best = np.argmin(said.expected + aversion * said.deviation, axis=1)
                plan = came[np.arange(best.size), best]
                gains = drawn.told(plan, against=came[:, 0])
                lines.append([name, f"{notional:,.0f}", f"{aversion:.2f}", *gains, f"{np.count_nonzero(best):,}"])
    return markdown(["set", "sold", "lambda", "gain on now", "gain of the worst 5 %", "not at once"], lines)


def _spreads(ways: Mapping[str, Ways]) -> str:
    """The quantiles of what came, in standard deviations: what a fit on each set alone would say."""
    lines = []
    for name, one in ways.items():
        said = one.said(NOTIONALS[0])
        for minutes, lost in ((15, one.quarters[:, 0]), (60, one.quarters.mean(axis=1))):
            z = np.abs(lost) / said.deviation[:, HORIZONS.index(minutes)]
            forecast = np.abs(lost) * BP / (one.forecast * np.sqrt(minutes / 60.0 / 3.0))
            quantiles = [f"{np.quantile(z, share):.2f}" for share in (0.8, 0.9)]
            alone = [f"{np.mean(forecast <= limit):.3f}" for limit in (1.2816, 1.6449)]
            lines.append([name, f"{minutes}", *quantiles, *alone, f"{lost.mean():+.1f}"])
    head = ["set", "minutes", "80 % lie within", "90 %", "forecast alone: within 80 %", "within 90 %", "mean drift, bp"]
    return markdown(head, lines)


# what was left out


def _explained(parts: Sequence[Hours], tested: Sequence[Hours]) -> Iterator[tuple[float, float, float, float]]:
    """By market: R^2 of the log volume of the next hour on another part, by the last hour's; with its time of the day;
    with its time of the week; and by the last hour's and the day before's volume."""
    for fitted_on, judged_on in zip(parts, tested, strict=True):
        yield tuple(_r2(fitted_on, judged_on, kind) for kind in ("last", "day", "week", "lags"))  # type: ignore[misc]


def _r2(fitted_on: Hours, judged_on: Hours, kind: str) -> float:
    (x, y), (other, truth) = (_regressors(one, kind) for one in (fitted_on, judged_on))
    weights = np.linalg.lstsq(x, y, rcond=None)[0]
    return float(1.0 - np.mean((truth - other @ weights) ** 2) / np.var(truth))


def _regressors(hours: Hours, kind: str) -> tuple[Floats, Floats]:
    day = 24
    last, before, target = hours.volume[day - 1 : -1], hours.volume[:-day], hours.volume[day:]
    # An hour's own number, of the day or of the week, is known before it begins.
    of = hours.of_week[day:]
    columns = [np.ones((last.size, 1)), last[:, None]]
    if kind == "day":
        columns = [last[:, None], np.eye(24)[of % 24]]
    if kind == "week":
        columns = [last[:, None], np.eye(168)[of]]
    if kind == "lags":
        columns = [*columns, before[:, None]]
    x = np.hstack(columns)
    known = np.isfinite(x).all(axis=1) & np.isfinite(target)
    return x[known], target[known]


def _by_volume(found: Mapping[str, Sequence[Found]]) -> str:
    lines = []
    parts = {name: [market.hours for market in markets] for name, markets in found.items()}
    first, second, third = parts
    for name, fitted_on, tested in (
        (f"{second}, fitted on January to August", parts[first], parts[second]),
        (f"{third}, first half fits, second is tested", *zip(*map(_halves, parts[third]), strict=True)),
    ):
        values = np.array(list(_explained(fitted_on, tested)))
        gain = values[:, 1] - values[:, 0]
        lines.append(
            [
                name,
                f"{len(values)}",
                *(f"{value:.3f}" for value in values.mean(axis=0)),
                f"{gain.mean():+.3f} ({gain.min():+.3f} … {gain.max():+.3f})",
            ]
        )
    head = ["tested on", "markets", "R^2 of the last hour", "and of the time of day", "or of the week"]
    return markdown([*head, "of the last hour and a day ago", "time of day adds"], lines)


def _halves(hours: Hours) -> tuple[Hours, Hours]:
    half = hours.volume.size // 2
    return Hours(hours.volume[:half], hours.of_week[:half]), Hours(hours.volume[half:], hours.of_week[half:])


def shares_of(urgency: float) -> Floats:
    """What Almgren and Chriss (2000) sell in each quarter of the horizon, adding up to 1, shape (4,).

    The holdings fall as sinh(kappa (T - t)) / sinh(kappa T), where kappa^2 is what risk is worth times the variance
    over the temporary impact; with kappa T near 0 as a straight line, which is TWAP.
    """
    times = np.linspace(0.0, 1.0, HOUR_BARS + 1)
    held = 1.0 - times if urgency == 0 else np.sinh(urgency * (1.0 - times)) / np.sinh(urgency)
    return np.asarray(held[:-1] - held[1:])


def trajectory(ways: Ways, notional: float, shares: Floats) -> Floats:
    """What selling such shares in the quarters of an hour cost, basis points, shape (n,).

    Each quarter is sold in equal slices, one a minute, and each slice walks its own levels. The impact of a quarter is
    that of the hour times the square root of how much faster it sells.
    """
    said = ways.said(notional)
    hour = HORIZONS.index(60)
    levels = np.zeros(ways.day.size)
    impact = np.zeros(ways.day.size)
    for share in shares.tolist():
        levels += share * walked(np.full(ways.day.size, notional * share / 15.0), ways.market) / BP
        impact += share * np.sqrt(HOUR_BARS * share) * said.impact[:, hour]
    return np.asarray((SPREAD + FEE) / BP + levels + impact + ways.quarters @ shares)


def _front_loaded(ways: Mapping[str, Ways]) -> str:
    lines = []
    for name, one in ways.items():
        drawn = _Drawn(one)
        for notional in NOTIONALS:
            said = one.said(notional)
            twap = trajectory(one, notional, shares_of(0.0))
            assert np.allclose(twap, said.expected[:, -1] + one.quarters.mean(axis=1)), "TWAP is the model's own"
            row = [name, f"{notional:,.0f}"]
            lines.append([*row, "TWAP of 60 min", *drawn.told(twap), "–", "–"])
            for urgency in URGENCIES:
                came = trajectory(one, notional, shares_of(urgency))
                words = f"kappa T {urgency:g}: {', '.join(f'{100 * share:.0f}' for share in shares_of(urgency))} %"
                lines.append([*row, words, *drawn.told(came), *drawn.told(came, against=twap)])
            quarter = said.expected[:, HORIZONS.index(15)] + one.quarters[:, 0]
            lines.append([*row, "TWAP of 15 min", *drawn.told(quarter), *drawn.told(quarter, against=twap)])
            lines.append([*row, "now", *drawn.told(said.expected[:, 0]), *drawn.told(said.expected[:, 0], twap)])
    return markdown(["set", "sold", "how", "mean", "worst 5 %", "less than TWAP of 60 min", "its worst 5 %"], lines)


def passive(ways: Ways, notional: float) -> Floats:
    """What an order at the ask costs that is sold at the market where it is not filled in 15 minutes, basis points.

    All of it counts as filled once the price has been above it, which flatters it: others stood in the queue before.
    """
    later = Traded(ways.next_sigma, ways.next_volume)
    at_market = SPREAD + FEE + walked(np.full(ways.day.size, notional), later)
    missed = (1.0 - (1.0 - ways.next_lost * BP) * (1.0 - at_market)) / BP
    return np.where(ways.filled > 0, (MAKER - SPREAD) / BP, missed)


def _passive(ways: Mapping[str, Ways]) -> str:
    lines = []
    for name, every in ways.items():
        for notional in NOTIONALS:
            fitted = ~every.said(notional).beyond[:, 0]
            for which, used in (("all", np.ones(fitted.size, np.bool_)), ("Q <= V1m", fitted)):
                one = every.only(used)
                drawn = _Drawn(one)
                now, came = one.said(notional).expected[:, 0], passive(one, notional)
                words = [name, f"{notional:,.0f}", f"{which}: {used.sum():,}"]
                words += [_told(resample.mean(drawn.weights, one.filled), 2), *drawn.told(came)]
                words += [_told(resample.mean(drawn.weights * (one.filled == 0), came), 1)]
                lines.append([*words, *drawn.told(came, against=now)])
    head = ["set", "sold", "moments", "filled", "mean", "worst 5 %", "mean where it was not filled", "less than now"]
    return markdown([*head, "its worst 5 %"], lines)


def document(found: Mapping[str, Sequence[Found]], rows: Mapping[str, Sequence[Left]]) -> str:
    """Markdown, whole."""
    ways = {name: _joined([market.ways for market in markets]) for name, markets in found.items()}
    kucoin = {name: one for name, one in ways.items() if name != JUDGED[-1].name}
    moments = "; ".join(f"`{moment}`: {meaning}" for moment, meaning in MOMENTS.items())
    spreads = ", ".join(f"{SPREAD_80[minutes]:.2f} and {SPREAD_90[minutes]:.2f} over {minutes} min" for minutes in BARS)
    sections = {
        "Does leaving cost what was said?": (
            "Daily grids of the rule, and the ladder in force, on real candles. Moments, each bar of a market once: "
            f"{moments}. Costs are in basis points of the price, fee ({FEE / BP:.0f}) and half spread "
            f"({SPREAD / BP:.1f}) included; the mean price of a quarter hour is that of its open, high, low and close. "
            "Candles know no order book: the modelled parts stay as they were said, so what is judged is where the "
            "price went meanwhile. Brackets are 95 % intervals: two-week blocks and markets drawn anew.\n\n"
            f"{_coverage(rows)}"
        ),
        "What was said, and what came, when broken below": (
            "At once nothing drifts, and of 5 minutes candles of 15 tell nothing. Each horizon at all moments, "
            f"whatever the plan says.\n\n{_horizons(rows)}"
        ),
        "The plan against selling at once": (
            "The plan takes at each moment the horizon of the least expected cost and risk. Beyond the volume of a "
            "minute (Q > V1m) what selling at once costs is a ranking and no figure, and all of the gain is from "
            f"there.\n\n{_plan(rows)}"
        ),
        "What a standard deviation is worth": (
            "lambda of the score, when broken below, chosen on KuCoin, January to August. With .3, the first one, most "
            "of the plans that are not at once take an hour, and their dearest 5 % are dearer than selling at once at "
            f"1,000. From .75 to 1.5 it hardly matters; {costs.AVERSION:g} is in force.\n\n{_aversions(kucoin)}"
        ),
        "How wide the intervals are": (
            f"In standard deviations of the mean price: {spreads}. What each set alone would ask for, and how much the "
            f"forecast of volatility would cover without the last hour.\n\n{_spreads(ways)}"
        ),
        "Left out: by the volume of the hour (VWAP)": (
            "Does the time of day tell more of the next hour's volume than the last hour's does? R^2 of its logarithm, "
            "out of sample, mean over the markets. It adds next to nothing, the volume of a day ago a little more: "
            f"slices by a profile of the day would be equal ones, but for noise.\n\n{_by_volume(found)}"
        ),
        "Left out: front-loaded (Almgren, Chriss 2000)": (
            "An hour sold by their trajectory, in percent of it a quarter hour, on the same breaks. The more urgent it "
            "is, the nearer it comes to the sale of a quarter hour, in mean and worst 5 %: a choice of the horizon by "
            f"another name, which the plan makes already.\n\n{_front_loaded(ways)}"
        ),
        "Left out: passively, at the ask": (
            "A limit order at the ask for 15 minutes, then sold at the market. What is filled saves the spread; what "
            "is not was left behind by a falling price, and there the money goes: a little cheaper on average, and "
            "much dearer in the worst 5 %, on account of which one leaves. All counts as filled once the price has "
            "been above the ask. That flatters it, most where more is sold than is traded in a minute; there nothing "
            f"is promised, neither of it nor of now.\n\n{_passive(ways)}"
        ),
    }
    text = "\n\n".join(
        f"{'##' if number else '#'} {title}\n\n{body}" for number, (title, body) in enumerate(sections.items())
    )
    command = "python -m benchmarks.exit_cost --out docs/evidence/exit-cost.md"
    return f"{text}\n\nAll of it by `{command}`, or `make evidence`.\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="where to write the text; default: stdout")
    arguments = parser.parse_args()
    begun = time.monotonic()
    with ProcessPoolExecutor(max_workers=2, mp_context=get_context("spawn")) as pool:
        text = measure(pool).text
    if arguments.out:
        arguments.out.write_text(text)
        print(f"written in {time.monotonic() - begun:,.0f} s")
    else:
        print(text)


if __name__ == "__main__":
    main()
