"""Three claims about features and verdicts, proven on any stored history by computing it again in another way.

- `no_look_ahead`: every bar recomputed on history that ends with it. A whole run that used a later candle, for a
  feature or a verdict, would need a value that the cut run does not have.
- `warm_up_suffices`: recomputed with more history before the span. A value that reached back further than the declared
  warm-up, or that depended on where its data starts, would change.
- `live_equals_backfill`: what is stored, mostly tick by tick, recomputed from the stored candles in one go.

Equal means the same bits: -0.0 is not 0.0, null equals null, NaN equals NaN. A cell counts as compared when at least
one side knows a value, so that a market of which nothing is known proves nothing; what could not be compared is counted
apart, with the reason. Recomputing on truncated and on longer history is what freqtrade does at trades; here it is done
at every bar.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import islice

import numpy as np
import polars as pl

from mm_dagster.arrays import Flags
from mm_dagster.bars import BAR, DAY_BARS, Span, iso
from mm_dagster.config.whole import Config
from mm_dagster.regime import features, verdict
from mm_dagster.tables.regime import HYSTERESIS_BARS, WARMUP_BARS
from mm_dagster.tables.registry import CODE_VERSIONS
from mm_dagster.text import counted, number_text, plain_text

Progress = Callable[[float], None]
"""Told the share of the work that is done, 0 to 1."""

WARMUPS = (1.0, 1.5, 2.0)
"""Lengths of history before the span that must give the same, in multiples of `WARMUP_BARS`."""

FOLDED_BARS = HYSTERESIS_BARS - 1
"""Bars before a verdict whose features it is drawn from, too."""

NO_CANDLE = "have no candle"
UNKNOWN = "know nothing, for want of history or because of MISSING bars"
NOT_STORED = "are not stored"
OTHER_CONFIG = "were written under another configuration"
OTHER_CODE = "were written by another code version"
OTHER_FEATURES = "were drawn from features that are not comparable"

_KEY = ["symbol", "as_of"]
_TABLES = ("regime_features", "regime_verdict")


@dataclass(frozen=True)
class Evidence:
    """What is stored of some markets around a span.

    Attributes:
        span: the bars whose features and verdicts are looked at.
        symbols: the markets.
        config: the configuration in force.
        candles: rows of `candles`, from `max(WARMUPS)` warm-ups before the span on. Later ones than the span,
            where there are any, give a look-ahead something to look at.
        features: rows of `regime_features` as stored, from `FOLDED_BARS` before the span on.
        verdicts: rows of `regime_verdict` as stored.
    """

    span: Span
    symbols: tuple[str, ...]
    config: Config
    candles: pl.DataFrame
    features: pl.DataFrame
    verdicts: pl.DataFrame

    @staticmethod
    def candle_span(span: Span) -> Span:
        """The candles that the proofs of a span want."""
        return Span(span.back(round(max(WARMUPS) * WARMUP_BARS)).start, span.end + DAY_BARS * BAR)


@dataclass(frozen=True)
class Difference:
    """One cell that is not what it should be.

    Attributes:
        as_of: of its row.
        sentence: symbol, as_of, column, and both values, without a full stop.
    """

    as_of: datetime
    sentence: str


@dataclass(frozen=True)
class Proof:
    """What came of one claim.

    Attributes:
        name: of the claim.
        span: the bars that it was tried on.
        how: what was compared, in words.
        cells: how many cells were compared.
        differing: how many of them differ.
        symbols: the markets that have a compared cell.
        first: the first cell that differs; None: none does.
        apart: how many rows could not be compared, by reason and symbol.
    """

    name: str
    span: Span
    how: str
    cells: int = 0
    differing: int = 0
    symbols: frozenset[str] = frozenset()
    first: Difference | None = None
    apart: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    @property
    def result(self) -> str:
        """HOLDS, DIFFERS, or NOTHING COMPARED."""
        return "DIFFERS" if self.differing else "HOLDS" if self.cells else "NOTHING COMPARED"

    @property
    def sentence(self) -> str:
        """The result for people, with its figures, and with what was not compared."""
        if self.cells:
            verb = "differs" if self.differing < 2 else "differ"
            said = f"{counted(self.cells, 'cell')} of {_markets(self.symbols)} {_days(self.span)} {self.how}: "
            said += f"{f'{self.differing:,}' if self.differing else 'none'} {verb}."
        else:
            said = f"Nothing was compared {_days(self.span)}."
        if self.first:
            said += f" {self.first.sentence}."
        if self.apart:
            said += f" Not compared: {self.not_compared}."
        return said

    @property
    def not_compared(self) -> str:
        """How many rows of which markets could not be compared, and why; empty: all could."""
        return "; ".join(
            f"{counted(sum(rows.values()), 'row')} of {', '.join(sorted(rows))} {reason}"
            for reason, rows in self.apart.items()
        )


def pooled(proofs: Sequence[Proof]) -> Proof:
    """Several parts of one proof, tables or neighbouring spans, as one."""
    apart: dict[str, dict[str, int]] = {}
    for proof in proofs:
        for reason, rows in proof.apart.items():
            counts = apart.setdefault(reason, {})
            for symbol, count in rows.items():
                counts[symbol] = counts.get(symbol, 0) + count
    return Proof(
        name=proofs[0].name,
        span=Span(min(proof.span.start for proof in proofs), max(proof.span.end for proof in proofs)),
        how=proofs[0].how,
        cells=sum(proof.cells for proof in proofs),
        differing=sum(proof.differing for proof in proofs),
        symbols=frozenset().union(*(proof.symbols for proof in proofs)),
        first=min((proof.first for proof in proofs if proof.first), key=lambda one: one.as_of, default=None),
        apart=apart,
    )


def prove(evidence: Evidence, progress: Progress | None = None) -> tuple[Proof, Proof, Proof]:
    """All three claims, each on features and verdicts together. Nearly all of the time goes to the first.

    Args:
        evidence: what is stored.
        progress: of `no_look_ahead`.
    """
    found = no_look_ahead(evidence, progress), warm_up_suffices(evidence), live_equals_backfill(evidence)
    ahead, warm, live = (pooled(list(by_table.values())) for by_table in found)
    return ahead, warm, live


def recompute(
    candles: pl.DataFrame, span: Span, config: Config, warmup_bars: int = WARMUP_BARS
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Features and verdicts of a span in one run; the features begin `FOLDED_BARS` before it."""
    measured = features.compute(candles, span.back(FOLDED_BARS), config.risk.vol, warmup_bars=warmup_bars)
    return measured, verdict.compute(measured, span, config.regime)


def no_look_ahead(evidence: Evidence, progress: Progress | None = None) -> dict[str, Proof]:
    """Every bar of the span recomputed on history cut at that bar, against one run over all of it.

    For each `as_of` t the features of t are computed from candles with open_time < t alone, and the verdict of t from
    such features of the bars up to t alone: those of the `FOLDED_BARS` before the span are computed on cuts too. So
    what stands at t in the cut runs is a function of candles that had closed by t, whatever the code does. Where the
    whole run has the same bits in every column, it used nothing else either.

    Args:
        evidence: the candles decide; what is stored of features and verdicts is not looked at.
        progress: called after every cut.

    Returns:
        By table.
    """
    span, config = evidence.span, evidence.config
    candles = evidence.candles.sort("open_time")
    whole = recompute(candles, span, config)
    wide = span.back(FOLDED_BARS)
    cuts = _Steps(wide.bars + span.bars, progress)
    measured = _in_one(
        features.compute(_before(candles, "open_time", bar.end), bar, config.risk.vol) for bar in cuts.over(wide)
    ).sort("as_of")
    seen = HYSTERESIS_BARS * len(evidence.symbols)
    judged = _in_one(
        verdict.compute(_before(measured, "as_of", bar.end + BAR).tail(seen), bar, config.regime)
        for bar in cuts.over(span)
    )
    grid = _grid(evidence)
    return {
        table: _compare(
            Proof("no_look_ahead", span, "recomputed on history cut at each bar"),
            grid,
            one,
            other,
            "is {} in one run over the span, and {} on history cut at that bar",
        )
        for table, one, other in zip(_TABLES, whole, (measured, judged), strict=True)
    }


def warm_up_suffices(evidence: Evidence) -> dict[str, Proof]:
    """The span recomputed with 1, 1.5 and 2 times the declared warm-up, both of candles and of what is looked at.

    A market is compared at a length only when its known candles reach that far back: else the longer run would know
    no more than the shorter.

    Returns:
        By table.
    """
    span, candles = evidence.span, evidence.candles
    begins = candles.filter(pl.col("close").is_not_null()).group_by("symbol").agg(pl.col("open_time").min())
    grid = _grid(evidence).join(begins, on="symbol", how="left", maintain_order="left")

    def run(length: float) -> tuple[Span, tuple[pl.DataFrame, pl.DataFrame]]:
        bars = round(length * WARMUP_BARS)
        reach = span.back(bars)
        return reach, recompute(candles.filter(reach.opens()), span, evidence.config, bars)

    _, declared = run(WARMUPS[0])
    apart = pl.col("apart")
    proofs: dict[str, list[Proof]] = {table: [] for table in _TABLES}
    for length in WARMUPS[1:]:
        reach, longer = run(length)
        short = (pl.col("open_time") > reach.start).fill_null(True)
        reason = f"have less than {number_text(length)} times the warm-up of {WARMUP_BARS:,} bars before them"
        apart = pl.coalesce(apart, pl.when(short).then(pl.lit(reason)))
        for table, one, other in zip(_TABLES, declared, longer, strict=True):
            claim = Proof("warm_up_suffices", span, "recomputed with 1.5 and 2 times the warm-up")
            words = f"is {{}} with the declared warm-up, and {{}} with {number_text(length)} times as much"
            proofs[table].append(_compare(claim, grid.select(*_KEY, apart=apart), one, other, words))
    # A row that is apart at both lengths is one row.
    return {table: replace(pooled(parts), apart=parts[-1].apart) for table, parts in proofs.items()}


def live_equals_backfill(evidence: Evidence) -> dict[str, Proof]:
    """What is stored of the span against what its stored candles give, in every column but the stamps.

    Rows that carry the stamps of another configuration or code version are not comparable, nor are the verdicts that
    were folded over such features: that is no failure, and is counted apart.

    Returns:
        By table.
    """
    span = evidence.span
    found = recompute(evidence.candles.filter(pl.col("open_time") < span.end), span, evidence.config)
    grid = _grid(evidence)
    lead = _grid(evidence, span.back(FOLDED_BARS))
    measured = _apart_by_stamp(lead, evidence.features, "regime_features", evidence)
    spoilt = measured.filter(pl.col("apart").is_not_null()).select("symbol", "as_of", since="as_of").sort("as_of")
    drawn = (
        _apart_by_stamp(grid, evidence.verdicts, "regime_verdict", evidence)
        .sort("as_of")
        .join_asof(spoilt, on="as_of", by="symbol", tolerance=FOLDED_BARS * BAR, check_sortedness=False)
        .with_columns(
            apart=pl.when(pl.col("apart").is_null() & pl.col("since").is_not_null())
            .then(pl.lit(OTHER_FEATURES))
            .otherwise("apart")
        )
    )
    rows = {
        "regime_features": grid.select(_KEY).join(measured, on=_KEY, how="left", maintain_order="left"),
        "regime_verdict": grid.select(_KEY).join(drawn.drop("since"), on=_KEY, how="left", maintain_order="left"),
    }
    return {
        table: _compare(
            Proof("live_equals_backfill", span, "recomputed from the stored candles"),
            rows[table],
            stored,
            again,
            "is stored as {}, and recomputed as {}",
        )
        for table, stored, again in zip(_TABLES, (evidence.features, evidence.verdicts), found, strict=True)
    }


# comparing ------------------------------------------------------------------------------------------------------------


def _grid(evidence: Evidence, span: Span | None = None) -> pl.DataFrame:
    """Every row that there could be, by as_of and symbol; `apart` says why one cannot be compared."""
    close_times = ((span or evidence.span).open_times() + BAR).alias("as_of").to_frame()
    symbols = pl.DataFrame({"symbol": sorted(evidence.symbols)}, schema={"symbol": pl.String})
    candles = evidence.candles.select("symbol", as_of=pl.col("open_time") + BAR, known=True)
    return (
        close_times.join(symbols, how="cross")
        .join(candles, on=_KEY, how="left", maintain_order="left")
        .select(*_KEY, apart=pl.when(pl.col("known").is_null()).then(pl.lit(NO_CANDLE)))
    )


def _apart_by_stamp(grid: pl.DataFrame, stored: pl.DataFrame, table: str, evidence: Evidence) -> pl.DataFrame:
    """The grid with those rows apart that are not stored, or not as configuration and code are now."""
    hashes = {symbol: evidence.config.hash_of(table, symbol) for symbol in evidence.symbols}
    stamped = grid.join(stored.select(*_KEY, "config_hash", "code_version"), on=_KEY, how="left", maintain_order="left")
    in_force = pl.col("symbol").replace_strict(hashes, return_dtype=pl.String)
    return stamped.select(
        *_KEY,
        apart=pl.when(pl.col("config_hash").is_null())
        .then(pl.col("apart").fill_null(NOT_STORED))
        .when(pl.col("config_hash") != in_force)
        .then(pl.lit(OTHER_CONFIG))
        .when(pl.col("code_version") != CODE_VERSIONS[table])
        .then(pl.lit(OTHER_CODE)),
    )


def _compare(claim: Proof, grid: pl.DataFrame, one: pl.DataFrame, other: pl.DataFrame, words: str) -> Proof:
    """The claim with what came of it: the rows of the grid that are not apart, bit by bit. An absent row is null."""
    rows = grid.filter(pl.col("apart").is_null()).select(_KEY)
    columns = [name for name in other.columns if name not in _KEY]
    left, right = (rows.join(frame, on=_KEY, how="left", maintain_order="left") for frame in (one, other))
    known = np.zeros((len(columns), rows.height), dtype=bool)
    differs = np.zeros((len(columns), rows.height), dtype=bool)
    for place, name in enumerate(columns):
        known[place] = (left[name].is_not_null() | right[name].is_not_null()).to_numpy()
        differs[place] = ~_same_bits(left[name], right[name])
    first = None
    if differs.any():
        row = int(differs.any(axis=0).argmax())
        name = columns[int(differs[:, row].argmax())]
        symbol, as_of = rows["symbol"][row], rows["as_of"][row]
        values = (_value(frame[name][row]) for frame in (left, right))
        first = Difference(as_of, f"{symbol} at {iso(as_of)}: {name} {words.format(*values)}")
    comparable = pl.Series(known.any(axis=0))
    unknown = rows.filter(~comparable).with_columns(apart=pl.lit(UNKNOWN))
    apart = pl.concat([grid.filter(pl.col("apart").is_not_null()), unknown])
    counts: dict[str, dict[str, int]] = {}
    for reason, symbol, count in apart.group_by("apart", "symbol").len().sort("apart", "symbol").iter_rows():
        counts.setdefault(reason, {})[symbol] = count
    return replace(
        claim,
        cells=int(known.sum()),
        differing=int(differs.sum()),
        symbols=frozenset(rows.filter(comparable)["symbol"]),
        first=first,
        apart=counts,
    )


def _same_bits(one: pl.Series, other: pl.Series) -> Flags:
    """Whether two columns are the same, value by value: nulls, infinities and the sign of zero included."""
    if not one.dtype.is_float():
        return one.eq_missing(other).to_numpy()
    values = [column.fill_null(0.0).to_numpy() for column in (one, other)]
    # Of the many NaNs one stands for all.
    bits = [np.where(np.isnan(numbers), np.nan, numbers).view(np.int64) for numbers in values]
    return (bits[0] == bits[1]) & (one.is_null() == other.is_null()).to_numpy()


@dataclass
class _Steps:
    """Bars one by one, with the progress told after each."""

    total: int
    progress: Progress | None
    done: int = 0

    def over(self, span: Span) -> Iterator[Span]:
        for open_time in span.open_times():
            yield Span(open_time, open_time + BAR)
            self.done += 1
            if self.progress:
                self.progress(self.done / self.total)


def _in_one(frames: Iterator[pl.DataFrame]) -> pl.DataFrame:
    """All rows, put together day by day: thousands of frames of one row weigh far more than their rows."""
    days = []
    while day := list(islice(frames, DAY_BARS)):
        days.append(pl.concat(day, rechunk=True))
    return pl.concat(days, rechunk=True)


def _before(rows: pl.DataFrame, column: str, time: datetime) -> pl.DataFrame:
    """The rows before a time; they are sorted by it, so that nothing is copied."""
    return rows.head(rows[column].search_sorted(time, side="left"))


# wording --------------------------------------------------------------------------------------------------------------


_LONG = 30
"""Digits and zeros that can be read in one number."""


def _value(value: object) -> str:
    if isinstance(value, float):
        # All of its digits: the last one may be the difference. What a broken bit has made may have hundreds.
        text = plain_text(value)
        return text if len(text) <= _LONG else str(value)
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _markets(symbols: frozenset[str]) -> str:
    return next(iter(symbols)) if len(symbols) == 1 else f"{len(symbols)} markets"


def _days(span: Span) -> str:
    first, last = iso(span.start)[:10], iso(span.end - timedelta(microseconds=1))[:10]
    return f"on {first}" if first == last else f"from {first} to {last}"
