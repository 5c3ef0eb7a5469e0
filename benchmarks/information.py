"""What else could be known of a break: every candidate through the promotion gate, on real candles.

`python -m benchmarks.information [--out FILE]`. It needs the recordings (see `benchmarks.shared`), and hmmlearn and
arch, of the extra `research`. The hidden Markov models and the GARCH are fitted at the first of each month on
the days before it. "gain" is what the log loss is lower with the candidate, in thousandths of a nat a question, out of
sample; the placebo is made with random signs.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import polars as pl
from numpy.lib.stride_tricks import sliding_window_view
from rich.console import Console

from benchmarks.shared import (
    RECORDINGS,
    SHARED,
    Candidates,
    Lot,
    forecast,
    lot,
    put,
    questions,
    report,
    titled,
    with_pool,
)
from mm_dagster.arrays import Floats
from mm_dagster.bars import BAR, DAY_BARS, HOUR_BARS, bar_number
from mm_dagster.research.candidates import monthly, months_of, place_of
from mm_dagster.research.promotion import values_of
from mm_dagster.research.questions import Questions

FUTURES = {
    "binance23": ("binance-perp", "5m_2023", "2023"),
    "kraken": ("binance-perp", "5m_2023", "2023"),
}
"""Where perpetual prices and funding rates are recorded at the same time: venue, candles, year of the rates."""


Said = Mapping[str, Floats]
"""What the monthly models say at every hour of one market, by name, each of shape (hours,)."""


def said_monthly(lots: Sequence[Lot]) -> list[list[Said]]:
    """The monthly models of all markets, two at a time."""
    tasks = []
    for one in lots:
        months = [max(0, place_of(month, one.span)) for month in months_of(one.span)]
        months += [one.span.bars // HOUR_BARS]
        tasks += [(returns, months) for returns in np.diff(_hourly(_logs(one)), axis=1, prepend=np.nan)]
    with ProcessPoolExecutor(2, get_context("spawn")) as pool:
        done = iter(list(pool.map(monthly, *zip(*tasks, strict=True), chunksize=4)))
    return [[next(done) for _ in one.markets] for one in lots]


def _logs(one: Lot) -> Floats:
    """Logarithm of the close by market and bar, NaN where MISSING."""
    return np.log(one.lanes(one.candles, "close", time="close_time")["close"])


def _hourly(lanes: Floats) -> Floats:
    """The bars that close with the hour."""
    return lanes[:, HOUR_BARS - 1 :: HOUR_BARS]


def _filled(lanes: Floats) -> Floats:
    """The last known value."""
    return np.array([pl.Series(lane).fill_nan(None).forward_fill().fill_null(np.nan).to_numpy() for lane in lanes])


def _sum(lanes: Floats, bars: int) -> Floats:
    """Sum over the last bars, NaN before there are so many; unknown ones count nothing."""
    total = np.cumsum(np.nan_to_num(lanes), axis=1)
    summed = np.full(lanes.shape, np.nan)
    summed[:, bars:] = total[:, bars:] - total[:, :-bars]
    return summed


def _extreme(lanes: Floats, bars: int, lowest: bool) -> Floats:
    found = np.full(lanes.shape, np.nan)
    windows = sliding_window_view(np.where(np.isnan(lanes), np.inf if lowest else -np.inf, lanes), bars, axis=1)
    found[:, bars - 1 :] = windows.min(axis=2) if lowest else windows.max(axis=2)
    return found


def candidates(one: Lot, asked: Questions, sigma: Floats, models: Sequence[Said]) -> Candidates:
    """Everything that is tried, at each question."""
    bars = one.lanes(one.candles, "high", "low", "volume", time="close_time")
    log, volume = _filled(_logs(one)), bars["volume"]
    steps = np.diff(log, axis=1, prepend=np.nan)
    day, week = DAY_BARS, 7 * DAY_BARS
    told = {name: _each_bar(one, [said[name] for said in models]) for name in models[0]}
    of_models = values_of(told, sigma)
    with np.errstate(divide="ignore", invalid="ignore"):
        groups = {
            "hidden Markov": {name: of_models[name] for name in ("hmm_rough", "hmm_falling")},
            "GARCH": {"garch_over_forecast": of_models["garch_over_forecast"]},
            "other markets": _of_others(one, log, sigma),
            "volume and range": {
                "volume_down_minus_up_24h": _sum(-np.sign(steps) * volume, day) / _sum(volume, day),
                "volume_down_minus_up_4h": _sum(-np.sign(steps) * volume, 16) / _sum(volume, 16),
                "close_in_range_24h": _position(log, bars, day),
                "close_in_range_4h": _position(log, bars, 16),
                "downside_share_24h": _sum(np.where(steps < 0, steps**2, 0.0), day) / _sum(steps**2, day),
                "downside_share_7d": _sum(np.where(steps < 0, steps**2, 0.0), week) / _sum(steps**2, week),
                "illiquidity_24h": _sum(np.abs(steps), day)
                / _sum(volume, day)
                / _sum(np.abs(steps), week)
                * _sum(volume, week),
            },
            "volatility": _of_volatility(one, steps, sigma),
        }
        number = bar_number(one.span.start) + np.arange(one.span.bars) + 1
        hour, weekday = number // HOUR_BARS % 24, (number // DAY_BARS + 3) % 7
        flat = np.ones((len(one.markets), 1))
        groups["time"] = {
            **{f"hour_{number}": flat * (hour == number) for number in (0, 6, 12, 18)},
            "saturday_or_sunday": flat * (weekday >= 5),
            "friday": flat * (weekday == 4),
            "monday": flat * (weekday == 0),
        }
        groups["control"] = _controls(one, log, steps, sigma)
        if one.name in FUTURES:
            groups["futures"] = _of_futures(one, log)
    read = {group: {name: asked.read(lanes) for name, lanes in members.items()} for group, members in groups.items()}
    read["time"]["hours_since_activation"] = asked.column / HOUR_BARS
    return read


def _each_bar(one: Lot, hourly: Iterable[Floats]) -> Floats:
    """Values by the hour at the bars that close with it, NaN at the others."""
    lanes = np.full((len(one.markets), one.span.bars), np.nan)
    for lane, values in zip(lanes, hourly, strict=True):
        lane[HOUR_BARS - 1 :: HOUR_BARS] = values
    return lanes


def _of_others(one: Lot, log: Floats, sigma: Floats) -> dict[str, Floats]:
    """Moves in units of what each market was expected to move."""
    found = {}
    bitcoin = next(place for place, market in enumerate(one.markets) if market.symbol.startswith("BTC-"))
    for hours in (1, 4, 24):
        moved = np.full(log.shape, np.nan)
        moved[:, hours * HOUR_BARS :] = log[:, hours * HOUR_BARS :] - log[:, : -hours * HOUR_BARS]
        moved /= sigma * np.sqrt(hours)
        known = ~np.isnan(moved)
        others = (np.nansum(moved, axis=0) - np.nan_to_num(moved)) / (known.sum(axis=0) - known)
        found[f"own_return_{hours}h"] = moved
        found[f"bitcoin_return_{hours}h"] = np.broadcast_to(moved[bitcoin], moved.shape)
        found[f"others_return_{hours}h"] = others
        found[f"behind_others_{hours}h"] = others - moved
    return found


def _position(log: Floats, bars: dict[str, Floats], count: int) -> Floats:
    """Where the close lies between the lowest and the highest of some bars."""
    low = np.log(_extreme(bars["low"], count, lowest=True))
    high = np.log(_extreme(bars["high"], count, lowest=False))
    return (log - low) / (high - low)


def _of_volatility(one: Lot, steps: Floats, sigma: Floats) -> dict[str, Floats]:
    hour = np.log(np.maximum(_sum(steps**2, HOUR_BARS), 1e-10))
    hourly = _hourly(hour)
    spread = np.full(hourly.shape, np.nan)
    spread[:, 167:] = sliding_window_view(hourly, 168, axis=1).std(axis=2)
    measured = one.lanes(one.features, "jump_share", "volume_ratio", "volatility_forecast")
    today = np.log(np.sqrt(_sum(steps**2, DAY_BARS) / 24) / sigma)
    others = np.nansum(today, axis=0) / (~np.isnan(today)).sum(axis=0)
    return {
        "volatility_of_volatility_7d": _each_bar(one, spread),
        "realised_4h_over_forecast": np.log(np.sqrt(_sum(steps**2, 16) / 4) / sigma),
        "realised_24h_over_forecast": today,
        "realised_30d_over_forecast": np.log(np.sqrt(_sum(steps**2, 30 * DAY_BARS) / 720) / sigma),
        "all_markets_24h_over_forecast": np.broadcast_to(others, steps.shape),
        "forecast_level": np.log(sigma),
        "jump_share": measured["jump_share"],
        "volume_ratio": measured["volume_ratio"],
    }


def _controls(one: Lot, log: Floats, steps: Floats, sigma: Floats) -> dict[str, Floats]:
    """What must gain, since it peeks, and what must not, since it is chance: they say what the gate can see at all.

    A return that is peeked at is foreseen on the placebo too, so it need not be more than there.
    """
    day = DAY_BARS
    rough, hour = np.full(log.shape, np.nan), np.full(log.shape, np.nan)
    rough[:, :-day] = np.log(np.sqrt(_sum(steps**2, day)[:, day:] / 24) / sigma[:, :-day])
    hour[:, :-HOUR_BARS] = (log[:, HOUR_BARS:] - log[:, :-HOUR_BARS]) / sigma[:, :-HOUR_BARS]
    chance = np.random.default_rng(len(one.markets)).normal(size=log.shape)
    return {
        "peeks: volatility of the next day": rough,
        "peeks: return of the next hour": hour,
        "chance": chance,
        "chance, the same for all markets": np.broadcast_to(chance[0], log.shape),
    }


def _of_futures(one: Lot, log: Floats) -> dict[str, Floats]:
    """Perpetual price over spot, and the last funding rate that was published."""
    venue, file, year = FUTURES[one.name]
    basis, funding = np.full(log.shape, np.nan), np.full(log.shape, np.nan)
    ends = pl.DataFrame({"as_of": one.span.open_times() + BAR})
    for lane, market in enumerate(one.markets):
        perpetual = pl.read_parquet(SHARED / "candles" / venue / market.symbol / f"{file}.parquet").select(
            as_of=pl.col("open_time").cast(pl.Datetime("us", "UTC")) + pl.duration(minutes=5), close="close"
        )
        rates = pl.read_parquet(SHARED / "funding" / venue / f"{market.symbol}_{year}.parquet").select(
            as_of=pl.col("funding_time").cast(pl.Datetime("us", "UTC")), rate="funding_rate"
        )
        at = ends.join(perpetual, on="as_of", how="left", maintain_order="left")["close"].forward_fill()
        basis[lane] = np.log(at.fill_null(np.nan).to_numpy()) - log[lane]
        funding[lane] = ends.join_asof(rates.sort("as_of"), on="as_of")["rate"].fill_null(np.nan).to_numpy()
    smooth = _sum(basis, DAY_BARS) / DAY_BARS
    return {"basis": basis, "basis_minus_its_day": basis - smooth, "funding_rate": funding}


def main() -> None:
    """Prints the tables; with --out, writes them as markdown too."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--out", type=Path, help="file for the tables as markdown")
    arguments.add_argument("--only", help=f"recordings, comma-separated, of {', '.join(RECORDINGS)}")
    given = arguments.parse_args()
    names = given.only.split(",") if given.only else list(RECORDINGS)
    console = Console(width=170)
    started = time.perf_counter()
    with console.status("candles, features, grids"):
        lots = [lot(name, placebo) for name in names for placebo in (False, True)]
    with console.status("hidden Markov models and GARCH, month by month"):
        models = said_monthly(lots)
    tables = []
    for place, name in enumerate(names):
        sides = []
        for one, said in zip(lots[2 * place : 2 * place + 2], models[2 * place : 2 * place + 2], strict=True):
            asked = questions(one)
            sides.append((asked, candidates(one, asked, forecast(one), said)))
        with console.status(RECORDINGS[name].title):
            tables.append((titled(name, sides[0][0]), list(put(*sides))))
    parts = [report(console, *table) for table in with_pool(names, tables)]
    console.print(f"{time.perf_counter() - started:.0f} s")
    if given.out:
        given.out.write_text("\n".join(parts))


if __name__ == "__main__":
    main()
