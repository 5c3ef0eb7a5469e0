"""Candles and accounts from the venues into the lake."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from mm_dagster.bars import BAR, FIRST_DAY, TIME, Span, floor_bar, iso
from mm_dagster.grid.account import summary
from mm_dagster.history.lake import Commit
from mm_dagster.market import progress
from mm_dagster.market.candles import assemble
from mm_dagster.market.collect import Collected
from mm_dagster.market.collect_each import Wanted, collect_each
from mm_dagster.market.contradiction import held_back
from mm_dagster.market.files import CandleFileError, read_candles
from mm_dagster.market.venue import Answer, VenueError
from mm_dagster.pipeline import holes, tick_row
from mm_dagster.pipeline.groups import told_once
from mm_dagster.pipeline.project import Project
from mm_dagster.pipeline.reach import REACH
from mm_dagster.pipeline.work import Work, makes, unsettled
from mm_dagster.tables import registry
from mm_dagster.tables.registry import conform, empty

if TYPE_CHECKING:
    from mm_dagster.market.account import ExchangeAccount

_LISTED_LATE = timedelta(hours=1)
"""How far back fills are asked for again: an exchange may list one a little late."""


def read_account(project: Project, account: "ExchangeAccount", venue: str, as_of: datetime) -> pl.DataFrame:
    """One row: what the account holds, and its fills since the last time that it was wholly read."""
    config, stored = project.config, project.lake.read("account_snapshot")
    mine = stored.filter(pl.col("venue") == venue)
    symbols = [symbol for symbol in config.symbols if config.market(symbol).venue == venue]
    grids = [grid for symbol in symbols for grid in config.grids_on(symbol) if grid.enabled]
    begun = min([grid.activated_at for grid in grids], default=as_of)
    whole = mine.filter(pl.col("complete"))["observed_at"].max()
    since = whole - _LISTED_LATE if isinstance(whole, datetime) else begun
    reached = mine["fills_from"].min()
    if isinstance(reached, datetime) and begun < reached:
        since = begun
    fills = mine.select(pl.col("fills").explode()).drop_nulls().unnest("fills")
    known = set(fills.select("symbol", "fill_id").iter_rows())
    return account.snapshot(symbols, since, as_of, known)


def open_venues(job: Work) -> None:
    """Opens what is about to be asked; what cannot be opened says so when it is."""
    for symbol in job.symbols:
        with suppress(VenueError):
            job.project.venues.of(symbol)


@dataclass
class Gathered:
    """What was got from the venues.

    Attributes:
        months: by month, oldest first, how many rows of candles changed, and how many rows were kept apart.
        problems: what failed, by symbol, in one line each.
        notes: how files were read, by symbol, in one line each.
    """

    months: dict[datetime, tuple[int, int]] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)


@makes("candles")
def collect(job: Work, say: Callable[[datetime, int], None] = lambda month, changed: None) -> Gathered:
    """Asks for what is needed, and writes month by month, oldest first, while the venues go on answering.

    What was answered by then is written, too, when it is interrupted.

    Args:
        job: the run.
        say: is given each month when it is written, and how many rows of it changed.
    """
    with ThreadPoolExecutor(1) as beside:
        # ccxt takes as long to load as DuckDB its extensions, which needs no interpreter.
        beside.submit(open_venues, job)
        tick_row.begin_tick(job)
    gathered = Gathered()
    for month, changed, apart in _fetch(job, gathered):
        gathered.months[month] = (changed, apart)
        say(month, changed)
    tick_row.note_problems(job, gathered.problems)
    return gathered


def collect_accounts(
    project: Project, as_of: datetime | None, run_id: str, *, is_part: bool = False
) -> tuple[pl.DataFrame, list[str]]:
    """Reads and stores what each account holds that there are keys for; nothing in a run over whole days.

    Args:
        project: configuration, lake and venues.
        as_of: the tick; None: a run over whole days.
        run_id: the run.
        is_part: whether it is one of several groups of a tick, of which the first alone asks.

    Returns:
        Rows of `account_snapshot`, and what was not answered.
    """
    with told_once(project, "account_snapshot", as_of, is_part=is_part) as told:
        return (told, told["detail"].drop_nulls().to_list()) if told.height else _ask(project, as_of, run_id)


def _ask(project: Project, as_of: datetime | None, run_id: str) -> tuple[pl.DataFrame, list[str]]:
    problems, rows = [], []
    for venue in project.config.markets.venues if as_of else ():
        try:
            account = project.venues.account(venue)
            if account is not None and as_of:
                row = read_account(project, account, venue, floor_bar(as_of))
                rows.append(_with_reserve(project, row, venue, floor_bar(as_of)))
        except VenueError as error:
            problems.append(str(error))
    read = pl.concat(rows) if rows else empty("account_snapshot")
    problems += read["detail"].drop_nulls().to_list()
    if not read.is_empty():
        with project.turn_lock():
            commit = Commit(run_id=run_id, asset="account_snapshot", span=iso(as_of) if as_of else "")
            project.lake.upsert("account_snapshot", read, commit=commit)
    return read, problems


def _with_reserve(project: Project, row: pl.DataFrame, venue: str, as_of: datetime) -> pl.DataFrame:
    """What an account holds, with what its running grids need of it and what is left.

    By the figures of the bar before, since those of this one follow from the account; null where there are none.
    """
    mine = [
        grid
        for grid in project.config.grids
        if grid.enabled and project.config.market(grid.symbol).venue == venue and grid.first_as_of < as_of
    ]
    quotes = {grid.symbol.partition("-")[2] for grid in mine}
    if len(quotes) != 1:
        return row
    quote = quotes.pop()
    columns = ["grid_id", "activated_at", "symbol", "price", "cash", "required_cash", "liquidation_value"]
    before = Span(as_of - 2 * BAR, as_of - BAR)
    known = project.lake.read("grid_risk", span=before, grids=[grid.id for grid in mine], columns=columns)
    risks = [
        one
        for one in known.iter_rows(named=True)
        if any((grid.id, grid.activated_at) == (one["grid_id"], one["activated_at"]) for grid in mine)
    ]
    if len(risks) < len(mine) or not row["complete"][0]:
        return row.with_columns(quote_currency=pl.lit(quote))
    held = summary(quote, risks, row["balances"][0].to_list())
    return row.with_columns(
        quote_currency=pl.lit(quote),
        required_reserve=pl.lit(held.required_reserve, dtype=pl.Float64),
        deployable_capital=pl.lit(held.deployable_capital, dtype=pl.Float64),
    )


def _fetch(job: Work, gathered: Gathered) -> Iterator[tuple[datetime, int, int]]:
    """Each month, and how many rows of it changed, and went into quarantine; what is said is added to `gathered`."""
    wanted, known = [], _Stored(job)
    for symbol, spans in job.fetch_spans().items():
        try:
            venue = job.project.venues.of(symbol)
        except VenueError as error:
            gathered.problems[symbol] = str(error)
            continue
        wanted += [Wanted(venue, symbol, part, known) for span in spans for part in _parts(job, span)]
    # Markets stay in their order within a month, so that what is written never depends on who answers first.
    wanted.sort(key=lambda one: _month(one.span))
    progress.tell().wanted(sum(one.span.bars for one in wanted))
    with closing(collect_each(wanted, job.config.markets.candles)) as answers:
        for month, of_month in groupby(answers, key=lambda answer: _month(answer[0].span)):
            yield month, *_store_month(job, of_month, gathered)


_IN_ONE_PIECE = timedelta(days=92)
"""A tick asks for so much at once, so that its parts are measured by each other; what is more is cut into months."""


def _parts(job: Work, span: Span) -> list[Span]:
    return [span] if job.tick and span.end - span.start <= _IN_ONE_PIECE else list(span.months())


class _Stored:
    """What is stored, as market.candles.Known. In a tick what was read anyway serves; workers may ask at any time."""

    def __init__(self, job: Work) -> None:
        self._lake = job.project.lake
        self._read = job.stored_candles.partition_by("symbol", as_dict=True) if job.tick else None
        self._unknown = job.stored_candles.clear()
        self._from = min(span.start for span in job.needed_candles.values())

    def bars(self, symbol: str, span: Span) -> pl.DataFrame:
        """Stored candles of a span that are not MISSING, ascending."""
        if self._read is not None and span.start >= self._from:
            rows = self._read[symbol,].filter(span.opens()) if (symbol,) in self._read else self._unknown
        else:
            rows = self._lake.read("candles", span=span, symbols=[symbol])
        return rows.filter(pl.col("status") != "MISSING")

    def doubts(self, symbol: str, span: Span) -> pl.DataFrame:
        """Rows of `quarantine` of a span."""
        return self._lake.read("quarantine", span=span, symbols=[symbol])


def _store_month(
    job: Work, answers: Iterator[tuple[Wanted, Collected | VenueError]], gathered: Gathered
) -> tuple[int, int]:
    """Writes what was answered for a month, all of it or until now; returns how many rows changed and were apart."""
    fetched: dict[Span, list[tuple[str, Collected]]] = {}
    old: dict[Span, list[str]] = {}
    quarantined: list[pl.DataFrame] = []
    try:
        for one, got in answers:
            if isinstance(got, VenueError):
                gathered.problems.setdefault(one.symbol, str(got))
                continue
            if got.error:
                gathered.problems.setdefault(one.symbol, got.error)
            if got.note:
                gathered.notes.setdefault(one.symbol, got.note)
            if got.candles.height:
                times = got.candles["open_time"]
                stored = Span(times.min(), times.max() + BAR)  # type: ignore[arg-type,operator]
                fetched.setdefault(stored, []).append((one.symbol, got))
                if job.tick and one.span.end < job.window.end:
                    old.setdefault(stored, []).append(one.symbol)
            quarantined.append(got.quarantined)
    finally:
        changed = sum(_store(job, span, found, old.get(span, ())) for span, found in fetched.items())
        apart = pl.concat(quarantined) if quarantined else empty("quarantine")
        if not apart.is_empty():
            _set_apart(job, apart)
    return changed, apart.height


_DOUBTS_A_BAR = 4
"""Rows of the quarantine that are kept of one bar: the first that was doubted and the last ones."""


def _set_apart(job: Work, rows: pl.DataFrame) -> None:
    """Writes what cannot be used, so much of each bar that a venue which talks nonsense for a year fills no disk."""
    span = Span(rows["open_time"].min(), rows["open_time"].max() + BAR)  # type: ignore[arg-type,operator]
    symbols = rows["symbol"].unique().to_list()
    key = registry.TABLES["quarantine"].primary_key()
    with job.turn():
        stored = job.project.lake.read("quarantine", span=span, symbols=symbols)
        every = pl.concat([stored, conform(rows, "quarantine").join(stored, on=key, how="anti")])
        place = pl.int_range(pl.len()).over("symbol", "open_time")
        count = pl.len().over("symbol", "open_time")
        kept = every.sort("symbol", "open_time", "observed_at", *key[2:]).filter(
            (place == 0) | (place > count - _DOUBTS_A_BAR)
        )
        job.project.lake.write(
            "quarantine", kept, span=span, symbols=symbols, commit=job.commit("quarantine", job.window)
        )


def _month(span: Span) -> datetime:
    return span.start.replace(day=1, hour=0, minute=0)


def _store(job: Work, span: Span, found: list[tuple[str, Collected]], old: Sequence[str] = ()) -> int:
    """Writes what was fetched of a span; returns how many rows changed.

    No bar is forgotten because its venue did not answer for it this time, or has no row for it this time. That there
    was none is believed when it was said twice. What changes of the past is noted first, so that no crash in between
    can hide it.

    Args:
        job: the run.
        span: the bars.
        found: each market with its answer.
        old: markets that were asked for holes of long ago: what is known around these stays, since nobody would ask for
            it again.
    """
    lake = job.project.lake
    symbols = [symbol for symbol, _ in found]
    key = ["symbol", "open_time"]
    with job.turn():
        stored = lake.read("candles", span=span, symbols=symbols)
        noted, settled = _holes(job, stored, found)
        rows = job.stamp(pl.concat(got.candles for _, got in found), "candles")
        rows = (
            rows.join(settled, on=key, how="left")
            .with_columns(observed_at=pl.coalesce("observed_at", "settled_at"))
            .drop("settled_at")
        )
        unanswered = rows.filter(pl.col("observed_at").is_null())
        hides = (pl.col("observed_at").is_not_null()) | (
            (pl.col("status") != "MISSING") & (pl.col("new_status") == "MISSING")
        )
        kept = stored.join(unanswered.select(*key, new_status="status"), on=key, how="inner").filter(hides)
        known = pl.col("symbol").is_in(list(old)) & (pl.col("status") == "TRADED")
        kept = pl.concat([kept.drop("new_status"), stored.filter(known)]).unique(key, maintain_order=True)
        rows = pl.concat([rows.join(kept, on=key, how="anti"), kept.select(rows.columns)])
        revisions = _revisions(job, stored, rows)
        if not revisions.is_empty():
            lake.upsert("candle_revision", revisions, commit=job.commit("candle_revision", span))
        written = lake.write("candles", rows, span=span, symbols=symbols, commit=job.commit("candles", span))
        if noted is not None:
            # After the candles: after a crash in between the bars are only asked for once more.
            lake.write("candle_hole", noted, span=_ALL_TIME, symbols=symbols, commit=job.commit("candle_hole", span))
    return written.inserted + written.deleted


_ALL_TIME = Span(FIRST_DAY, datetime(2200, 1, 1, tzinfo=UTC))


def _holes(
    job: Work, stored: pl.DataFrame, found: list[tuple[str, Collected]]
) -> tuple[pl.DataFrame | None, pl.DataFrame]:
    """The holes of markets after their answers, and the bars that are believed to have none.

    Args:
        job: the run.
        stored: their candles of the span as they are.
        found: each market with its answer.

    Returns:
        All rows of `candle_hole` of these markets, or None where there were none and are none; and `symbol`,
        `open_time` and `settled_at` of the bars of which their venue said twice that nobody traded.
    """
    none = pl.DataFrame(schema={"symbol": pl.String, "open_time": TIME, "settled_at": TIME})
    had = stored.filter(pl.col("observed_at").is_not_null()).select("symbol", "open_time")
    are_open = any(got.holes.height for _, got in found)
    if not are_open and not stored.height > had.height:
        return None, none
    was = job.project.lake.read("candle_hole", symbols=[symbol for symbol, _ in found])
    if not are_open and was.is_empty():
        return None, none
    after, settled = [], [none]
    for symbol, got in found:
        mine = was.filter(pl.col("symbol") == symbol)
        known = had.filter(pl.col("symbol") == symbol)["open_time"]
        now = got.asked_at
        opened = got.holes.filter(~pl.col("open_time").is_in(known.implode()))
        before = holes.bars_of(mine).filter(pl.col("asked_at") <= now - holes.APART)
        sure = opened.filter("between").join(before, on="open_time", how="semi")["open_time"]
        settled.append(
            pl.DataFrame({"open_time": sure}).select(
                pl.lit(symbol).alias("symbol"), "open_time", pl.lit(now).cast(TIME).alias("settled_at")
            )
        )
        sent = got.candles.filter(pl.col("observed_at").is_not_null())["open_time"]
        kept = pl.lit(True) if got.kept_from is None else pl.col("open_time") >= got.kept_from
        left = opened.filter(~pl.col("open_time").is_in(sure.implode())).select("open_time", kept=kept)
        venue = got.candles["venue"][0]
        after.append(holes.noted(symbol, venue, mine, pl.concat([known, sent, sure]), left, now))
    return pl.concat(after), pl.concat(settled)


class ImportRefusedError(Exception):
    """A file of candles that cannot be taken in. One line: file, what is wrong, what would be right."""


def import_file(job: Work, symbol: str, path: Path) -> tuple[int, int, Span]:
    """Takes candles of a market from a file, where its venue keeps none; what is stored stays as it is.

    The rows keep the identity of the market's venue, so that its decisions go on over them. They are measured by what
    is stored like an answer, and one contradiction refuses the whole file.

    Args:
        job: a run over whole days that names the market.
        symbol: market.
        path: Parquet or CSV, as of a recorded market.

    Returns:
        How many bars it holds, how many rows of the lake changed, and the bars that it spans.

    Raises:
        ImportRefusedError: it cannot be read, holds rows that cannot be true, or contradicts what is stored.
    """
    try:
        file = read_candles(path)
    except CandleFileError as error:
        raise ImportRefusedError(str(error)) from None
    name = job.config.market(symbol).venue
    span = Span(max(file.span.start, FIRST_DAY), max(file.span.end, FIRST_DAY))
    now = datetime.now(UTC)
    answer = Answer(file.bars, (span,), final=True, has_volume=file.has_volume)
    settings = job.config.markets.candles
    made = assemble(symbol, name, answer, span, now, now, settings.max_no_trade)
    if made.quarantined.height:
        row = made.quarantined.row(0, named=True)
        raise ImportRefusedError(
            f"{path}: {made.quarantined.height} rows cannot be true, the first of {iso(row['open_time'])}: "
            f"{row['reason']}; correct the file"
        )
    around = Span(span.start - timedelta(days=1), span.end + timedelta(days=1))
    stored = job.project.lake.read("candles", span=around, symbols=[symbol])
    traded = (pl.col("status") == "TRADED", "open_time", "open", "high", "low", "close", "volume")
    rows = made.candles.filter(traded[0]).select(traded[1:])
    held = held_back(rows, stored.filter(traded[0]).select("open_time", "open", "close"))
    if held.height:
        first = held.row(0, named=True)
        raise ImportRefusedError(
            f"{path}: {held.height} bars contradict what is stored of {symbol} or each other, the first of "
            f"{iso(first['open_time'])}: {first['reason']}; is it another market, or another venue?"
        )
    known = stored.filter(pl.col("observed_at").is_not_null())["open_time"]
    fresh = made.candles.filter(~pl.col("open_time").is_in(known.implode()))
    # What only comes before the first bar that is stored keeps its label, whatever of it is known already.
    changed = 0
    for month in span.months():
        part = fresh.filter(month.opens())
        if part.height:
            rest = stored.filter(month.opens()).select(part.columns)
            rest = rest.join(part, on="open_time", how="anti")
            got = Collected(pl.concat([part, rest]).sort("open_time"), made.quarantined, None, now)
            changed += _store(job, month, [(symbol, got)])
    return rows.height, changed, span


_BAR_VALUES = ("status", "open", "high", "low", "close", "volume")


def _revisions(job: Work, stored: pl.DataFrame, rows: pl.DataFrame) -> pl.DataFrame:
    """The bars that differ from the stored ones, where a venue takes back what it said, or a verdict depends on them.

    Args:
        job: the run.
        stored: candles of a span as they are.
        rows: the same as they will be.

    Returns:
        Rows of `candle_revision`.
    """
    key = ["symbol", "open_time"]
    old = stored.select(
        *key,
        *(pl.col(name).alias(f"old_{name}") for name in (*_BAR_VALUES, "observed_at")),
        its_config_hash="config_hash",
    )
    changed = rows.join(old, on=key, how="left").filter(
        pl.col("observed_at").is_not_null()
        & (
            pl.any_horizontal(pl.col(name).ne_missing(pl.col(f"old_{name}")) for name in _BAR_VALUES[1:])
            | (pl.col("status") != pl.col("old_status"))
        )
        # Another venue or another setting is no revision: whatever depends on it is computed under another hash, too.
        & (pl.col("old_status").is_null() | (pl.col("config_hash") == pl.col("its_config_hash")))
    )
    if changed.is_empty():
        return empty("candle_revision")
    first, last = changed["open_time"].min(), changed["open_time"].max()
    decided = job.project.lake.read(
        "regime_verdict",
        span=Span(first, last + REACH),  # type: ignore[arg-type,operator]
        symbols=changed["symbol"].unique().to_list(),
        columns=["symbol", "as_of"],
    )
    changed = (
        changed.sort("open_time")
        .with_columns(closes=pl.col("open_time") + BAR)
        .join_asof(
            decided.sort("as_of"),
            left_on="closes",
            right_on="as_of",
            by="symbol",
            strategy="forward",
            tolerance=REACH,
            check_sortedness=False,
        )
        .filter(pl.col("old_observed_at").is_not_null() | pl.col("as_of").is_not_null())
    )
    noted = changed.select(
        *key,
        "observed_at",
        "venue",
        "old_observed_at",
        *(f"old_{name}" for name in _BAR_VALUES),
        *(pl.col(name).alias(f"new_{name}") for name in _BAR_VALUES),
        recomputed_at=pl.when(pl.col("as_of").is_null()).then("observed_at"),
    )
    if noted.is_empty():
        return empty("candle_revision")
    # After a crash between this note and the candles, the same change is found again: its note stands, but what was
    # computed since was computed from the old candle.
    change = [*key, *(f"new_{name}" for name in _BAR_VALUES)]
    pending = unsettled(job.project.lake, job.symbols)
    again = pending.join(noted, on=change, how="semi", nulls_equal=True).filter(pl.col("recomputed").list.len() > 0)
    fresh = noted.join(pending, on=change, how="anti", nulls_equal=True)
    return pl.concat(
        [conform(fresh, "candle_revision"), again.with_columns(recomputed=pl.lit([], dtype=pl.List(pl.String)))]
    )
