"""Studies of strategies: what they read, what goes into the ledger before anybody sees a figure, what is kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import polars as pl

from mm_dagster.bars import BAR, DAY_BARS, TIME, Span, midnight
from mm_dagster.config import sources
from mm_dagster.config.markets import RecordedVenue
from mm_dagster.config.whole import Config
from mm_dagster.errors import ForeseenError
from mm_dagster.evaluation.evaluate import HISTORY_BARS
from mm_dagster.history.lake import Commit
from mm_dagster.market.collect import collect
from mm_dagster.market.files import CandleFileError, read_candles
from mm_dagster.market.recorded import RecordedMarket
from mm_dagster.market.venue import VenueError
from mm_dagster.pipeline import trials
from mm_dagster.pipeline.evaluate import judged_markets, newest_close
from mm_dagster.pipeline.findings import Finding
from mm_dagster.pipeline.foreign import Named
from mm_dagster.pipeline.ideas import Idea
from mm_dagster.pipeline.measure import Computed
from mm_dagster.pipeline.project import Project
from mm_dagster.pipeline.work import Work
from mm_dagster.research import study as research
from mm_dagster.research.promotion import Promotion, PromotionError, judge_idea
from mm_dagster.research.study import Study, StudyError
from mm_dagster.research.study_rows import Row, rows_of
from mm_dagster.strategies.signals import Strategy, lead_bars, strategies_of
from mm_dagster.tables import registry
from mm_dagster.tables.registry import CODE_VERSIONS, TABLES
from mm_dagster.text import counted, did_you_mean

WATCHED = "watched"
"""The study of the stored candles."""
NO_FUNDING = pl.DataFrame(schema={"symbol": pl.String, "open_time": TIME, "funding_rate": pl.Float64})

Say = Callable[[str], None]


class SourceError(ForeseenError):
    """What a study is to read cannot be read. One line."""


@dataclass(frozen=True)
class Source:
    """What a study reads.

    Attributes:
        name: of the study.
        candles: rows of `candles`.
        funding: symbol, open_time of the bar as which closes a payment falls due, funding_rate.
        is_simulated: whether the candles are made up.
    """

    name: str
    candles: pl.DataFrame
    funding: pl.DataFrame
    is_simulated: bool


@dataclass(frozen=True)
class Done:
    """A study with its verdicts.

    Attributes:
        study: what was found.
        judged: by strategy.
        rows: of `strategy_performance`, as they were stored.
    """

    study: Study
    judged: Mapping[str, Promotion]
    rows: list[Row]


# what is read ---------------------------------------------------------------------------------------------------------


def stored(project: Project, symbols: Sequence[str], days: Span | None, name: str = WATCHED) -> Source:
    """The candles of the lake; of all days that there are, or what some days need."""
    span = days.back(HISTORY_BARS) if days else None
    candles = project.lake.read("candles", span=span, symbols=list(symbols))
    if candles.is_empty():
        raise SourceError(f"no candle of {', '.join(symbols)} is stored; `mm backfill --from DAY` reads them")
    simulated = any(project.config.market(symbol).is_simulated for symbol in symbols)
    return Source(name, candles, NO_FUNDING, simulated)


def recorded(
    folder: Path, file: str, symbols: Sequence[str], funding: Path | None, config: Config, name: str | None, say: Say
) -> Source:
    """Candles of a folder as a recorded venue has it, `<folder>/<SYMBOL>/<file>`.

    Raises:
        SourceError: a market is not there, or a file cannot be read.
    """
    try:
        venue = RecordedMarket(
            str(folder), RecordedVenue(kind="recorded", path=str(folder.resolve()), file=file), folder
        )
        there = sorted(path.parent.name for path in folder.glob(f"*/{file}"))
        if not there:
            raise SourceError(f"--candles {folder}: it holds no <SYMBOL>/{file}; --file names another file")
        for symbol in symbols:
            if symbol not in there:
                raise SourceError(f"--markets: {symbol!r} is not in {folder}{did_you_mean(symbol, there)}")
        parts = []
        for symbol in symbols or there:
            span = read_candles(folder / symbol / file).span
            parts.append(collect(venue, symbol, span, config.markets.candles, lambda seconds: None).candles)
            say(f"{symbol} is read")
    except (VenueError, CandleFileError) as error:
        raise SourceError(str(error)) from None
    rates = [funding_of(funding, symbol) for symbol in symbols or there] if funding else []
    return Source(name or folder.resolve().name, pl.concat(parts), pl.concat([NO_FUNDING, *rates]), False)


def funding_of(folder: Path, symbol: str) -> pl.DataFrame:
    """The funding rates of a market: `<folder>/<SYMBOL>*.parquet` with `funding_time` and `funding_rate`.

    Raises:
        SourceError: a file cannot be read, or holds something else.
    """
    parts = []
    for path in sorted(folder.glob(f"{symbol}*.parquet")):
        try:
            rows = pl.read_parquet(path).select(
                pl.lit(symbol).alias("symbol"),
                # What falls due a moment after a bar has closed is of that bar.
                (pl.col("funding_time").cast(TIME).dt.truncate("15m") - BAR).alias("open_time"),
                pl.col("funding_rate").cast(pl.Float64),
            )
        except (KeyboardInterrupt, SystemExit, MemoryError):
            raise
        except BaseException as error:  # a panic of polars is no Exception
            reason = " ".join(str(error).split())[:160]
            raise SourceError(f"--funding {path}: {reason}; it needs funding_time and funding_rate") from None
        bad = rows.filter(~pl.col("funding_rate").is_finite() | (pl.col("funding_rate").abs() > 0.1))
        if bad.height:
            raise SourceError(
                f"--funding {path}: a rate of {bad['funding_rate'][0]}; a payment is a fraction, like 0.0001"
            )
        parts.append(rows)
    return pl.concat([NO_FUNDING, *parts]).unique(["symbol", "open_time"], keep="first", maintain_order=True)


def all_days(candles: pl.DataFrame) -> Span:
    """The days that a study of these candles can judge.

    Raises:
        SourceError: there is none.
    """
    newest = candles["close_time"].max()
    assert isinstance(newest, datetime)
    first, end = research.first_whole_day(candles), midnight(newest.date())
    if first >= end:
        raise SourceError(
            f"the candles end before anything can be judged: {HISTORY_BARS // DAY_BARS + 1} days come first"
        )
    return Span(first, end)


# a study --------------------------------------------------------------------------------------------------------------


def run_study(
    project: Project, source: Source, days: Span | None, own: Named | None, command: str, say: Say = lambda said: None
) -> Done:
    """A study: computed, written into the ledger of trials, judged by what that says, and kept.

    Args:
        project: configuration, and the lake that keeps the ledger.
        source: what is read.
        days: whole days; None: all that can be judged.
        own: an idea to try in place of the four strategies.
        command: how it was asked for.
        say: told after each step.

    Raises:
        StudyError: too few days.
        IdeaError: what the idea did or gave cannot be used.
        LakeError: the ledger cannot be written; then nothing is said.
    """
    config = project.config
    days = days or all_days(source.candles)
    real = research.setting(source.candles, source.funding, days, config)
    say("features and verdicts")
    placebos = research.placebos_of(source.candles, source.funding, days, config, say)
    if own is None:
        chosen: Mapping[str, Strategy] = strategies_of(config.strategies.signals)
        found = research.study(real, placebos, chosen, config, say)
    else:
        with Idea(own) as idea:
            idea.examine([lane.frame for lane in real.lanes], say)
            found = research.study(real, placebos, {str(own): idea}, config, say)
    judged = _judged(project, source, found, own, command)
    rows = rows_of(found, judged)
    _keep(project, source.name, found, rows)
    return Done(found, judged, rows)


def _judged(project: Project, source: Source, found: Study, own: Named | None, command: str) -> dict[str, Promotion]:
    """What the gate says, once all that was tried stands in the ledger."""
    settings = project.config.strategies.model_dump_json(exclude={"monthly"})
    code = trials.code_hash(own.source, own.function) if own else CODE_VERSIONS["strategy_performance"]
    attempts = [
        trials.Attempt(one.strategy, registry.identity(code, one.strategy, settings), one.idea.blocks, one.days)
        for one in found.results
    ]
    data = trials.data_of(source.candles, found.days, source.is_simulated)
    tried = trials.note(project, "strategies", attempts, data, command)
    try:
        return {one.strategy: judge_idea(one.idea, tried[one.strategy]) for one in found.results}
    except PromotionError as error:
        raise StudyError(str(error)) from None


def _keep(project: Project, name: str, found: Study, rows: Sequence[Row]) -> None:
    config = project.config
    digest = sources.digest([config.strategies.model_dump(mode="json"), config.regime.model_dump(mode="json")])
    frame = pl.DataFrame([one._asdict() for one in rows], infer_schema_length=None).with_columns(
        study=pl.lit(name),
        as_of=pl.lit(found.days.end),
        first_day=pl.lit(found.days.start),
        config_hash=pl.lit(digest),
        code_version=pl.lit(CODE_VERSIONS["strategy_performance"]),
    )
    table = "strategy_performance"
    with project.turn_lock():
        project.lake.upsert(table, registry.conform(frame, table), commit=Commit("study", table, str(found.days)))


def newest_study(project: Project, name: str | None) -> pl.DataFrame:
    """The rows of the newest days of a study, or of each; see `strategy_performance`."""
    rows = project.lake.read("strategy_performance")
    if name is not None:
        rows = rows.filter(pl.col("study") == name)
    return rows.filter(pl.col("as_of") == pl.col("as_of").max().over("study")).sort(
        TABLES["strategy_performance"].primary_key()
    )


def study_of_the_month(project: Project, say: Say) -> Done | None:
    """The four strategies on the watched markets, up to the last whole month; None: no candle is stored yet."""
    newest = newest_close(project)
    if newest is None:
        return None
    symbols = judged_markets(project.config)
    source = stored(project, symbols, None)
    days = all_days(source.candles)
    end = midnight(newest.date().replace(day=1))
    most = project.config.evaluation.window_days * DAY_BARS * BAR
    if end <= days.start:
        raise StudyError(f"{days}: no whole month can be judged yet")
    return run_study(project, source, Span(max(days.start, end - most), end), None, "evaluation", say)


# signals --------------------------------------------------------------------------------------------------------------


def hold(job: Work) -> Computed:
    """Computes and stores `strategy_signal` of the days of a run."""
    changed, newest = 0, []
    for span in job.window.months():
        rows = job.stamp(_signals(job, span), "strategy_signal")
        changed += job.write("strategy_signal", rows, span, symbols=job.symbols)
        newest.append(rows.filter(pl.col("as_of") == span.end))
    return Computed(changed, newest)


def _signals(job: Work, span: Span) -> pl.DataFrame:
    """What the strategies hold on the bars of a span, up to the newest candle; null where their past is not stored."""
    settings = job.config.strategies.signals
    lead = lead_bars(settings)
    candles = job.project.lake.read("candles", span=span.back(lead), symbols=job.symbols)
    parts = [registry.empty("strategy_signal").drop("config_hash", "code_version", "source")]
    for symbol in candles["symbol"].unique().sort():
        frame = research.frame_of(candles, NO_FUNDING, symbol, span.back(lead))
        opened = candles.filter(pl.col("symbol") == symbol)["open_time"]
        for name, strategy in strategies_of(settings).items():
            rows = pl.DataFrame({"open_time": span.open_times(), "position": strategy(frame)[-span.bars :]}).filter(
                pl.col("open_time") <= opened.max()
            )
            is_known = (pl.col("open_time") - lead * BAR >= opened.min()) & pl.lit(name != "funding_carry")
            parts.append(
                rows.select(
                    symbol=pl.lit(symbol),
                    strategy=pl.lit(name),
                    as_of=pl.col("open_time") + BAR,
                    position=pl.when(is_known).then("position"),
                )
            )
    return pl.concat(parts)


# what is shown --------------------------------------------------------------------------------------------------------


def verdicts(done: Done) -> pl.DataFrame:
    """One line a strategy: what it earned beside its controls, and why it does not pass."""
    return pl.DataFrame(
        [
            {
                "strategy": name,
                "net_bp_a_day": round(1e4 * said.net.value, 1),
                "over_holding": round(1e4 * said.over_holding.value, 1),
                "low": round(1e4 * said.over_holding.low, 1),
                "high": round(1e4 * said.over_holding.high, 1),
                "p_shifted": round(said.p_shifted, 2),
                "deflated": round(said.deflated, 2),
                "trials": said.trials,
                "verdict": "passes" if said.passes else said.refused[0],
            }
            for name, said in done.judged.items()
        ]
    )


def finding(check: str, done: Done) -> Finding:
    """What passes, in a sentence."""
    passing = [name for name, said in done.judged.items() if said.passes]
    trials_ = max(said.trials for said in done.judged.values())
    who = f"{', '.join(passing)} passed the gate" if passing else "None passed the gate"
    return Finding(check, True, f"{who}; {counted(trials_, 'trial')} on these days. Nothing is switched on.")


def ledger(project: Project) -> pl.DataFrame:
    """Every trial, the newest first."""
    return project.lake.read("trial").sort("ran_at", "trial_id", descending=True)
